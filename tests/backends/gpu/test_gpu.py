"""The way from the user to the GPU and back: what is there, where arrays stand, and what comes out.

Without a GPU these tests run on a stand-in for CuPy whose arrays are as strict as CuPy's.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends import base, choose, cpu, crossover, device_of
from skminibatch.backends import gpu as gpu_backend
from skminibatch.backends.arrays import on_gpu
from skminibatch.backends.gpu import device, placement
from skminibatch.backends.gpu.linear import run as linear
from skminibatch.backends.gpu.linear import streamed
from skminibatch.backends.gpu.source import has_cuda
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.kinds import declared
from skminibatch.contract.task import LinearTask
from skminibatch.contract.verbs import n_slots
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.layers import GELU, BatchNorm, HybridNorm, LayerNorm
from skminibatch.losses import EachOutput, Logistic, OneVsRest, Softmax, SquaredError
from skminibatch.optimizers import SAGA, SGD, Adam, ScheduleFree
from skminibatch.samplers import Importance
from tests.backends.linear_chunks import NET, OUTPUTS, N, carried_out, plan_of, rows_of_data, targets_of
from tests.backends.network_chunks import UNFIT, Swish, agree, stack_of
from tests.backends.network_chunks import rows as network_rows
from tests.families import constant, learnt
from tests.processes import OF_ROOT, ROOT, python

in_a_checkout = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="not in a checkout")
QUICK = {"random_state": 0, "max_iter": 2, "tol": None, "batch_size": 16}
PLAIN = {**QUICK, "solver": "schedule_free"}  # 'auto' is another solver on sparse rows of the host


def on_device(gpu, X):
    """Rows as a user of CuPy has them."""
    if not sparse.issparse(X):
        return gpu.asarray(X)
    arrays = [gpu.asarray(array) for array in (X.data, X.indices.astype(np.int32), X.indptr.astype(np.int32))]
    return importlib.import_module("cupyx.scipy.sparse").csr_matrix(tuple(arrays), shape=X.shape)


def stored(X, storage):
    return sparse.csr_matrix(X) if storage == "csr" else X


# -- C1: no GPU, no driver, CuPy missing or broken


def fake(monkeypatch, **contents):
    """A module that stands in for CuPy, or what imports it does."""
    monkeypatch.setattr(device, "_answers", {})
    device._cupy.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", contents.get("module"))


def with_devices(count):
    module = types.ModuleType("cupy")
    module.ndarray = type("ndarray", (), {})
    module.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=count))
    return module


def no_driver():
    raise OSError("cudaErrorInsufficientDriver: CUDA driver version is insufficient\nfor CUDA runtime version")


def test_c1_without_cupy(monkeypatch):
    fake(monkeypatch)
    reason = device.problem()
    assert "not installed" in reason
    assert "skminibatch[cuda12]" in reason
    assert "skminibatch[cuda13]" in reason


def test_c1_with_a_broken_cupy(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libcublas.so.12: cannot open shared object file\\nmore')")
    fake(monkeypatch)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    reason = device.problem()
    assert "libcublas.so.12: cannot open shared object file" in reason
    assert "skminibatch[cuda12]" in reason


def test_c1_with_a_cupy_that_lacks_something(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("import fastrlock_that_is_not_there")
    fake(monkeypatch)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    assert "No module named 'fastrlock_that_is_not_there'" in device.problem()


@pytest.mark.parametrize(("count", "words"), [(no_driver, "cudaErrorInsufficientDriver"), (lambda: 0, "no GPU")])
def test_c1_without_a_driver_or_a_device(count, words, monkeypatch):
    fake(monkeypatch, module=with_devices(count))
    assert words in device.problem()


@pytest.mark.parametrize("module", [None, with_devices(no_driver), with_devices(lambda: 0)])
def test_c1_cuda_says_why_in_a_sentence_and_auto_runs_on_the_cpu(module, estimator_class, problem, monkeypatch):
    fake(monkeypatch, module=module)
    with pytest.raises(RuntimeError, match="device='cuda' is not available") as raised:
        estimator_class(device="cuda").fit(*problem)
    words = str(raised.value)
    assert words.count("\n") == 0
    assert words.endswith(".")
    assert device.problem() in words
    assert estimator_class(**QUICK).fit(*problem).device_ == "cpu"


def test_c1_the_cause_is_named_and_not_the_advice(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text(
        "try:\n    raise OSError('libnvrtc.so.13: cannot open shared object file')\n"
        "except OSError as error:\n    raise ImportError('\\n=====\\nFailed to import CuPy.\\n') from error\n"
    )
    fake(monkeypatch)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    assert "(OSError: libnvrtc.so.13: cannot open shared object file)" in device.problem()


def test_c1_is_asked_once(monkeypatch):
    asked = []
    fake(monkeypatch, module=with_devices(lambda: asked.append(1) or 1))
    for _ in range(3):
        assert device.problem() is None
    assert len(asked) == 1


def test_c1_numpy_input_asks_for_no_gpu(run_python):
    """A process that never meets a device starts no CUDA, so that it can be forked."""
    run_python(
        "import sys, numpy as np; from skminibatch import MiniBatchSGDRegressor\n"
        "X = np.random.default_rng(0).standard_normal((50, 2))\n"
        "MiniBatchSGDRegressor().fit(X, X[:, 0]).predict(X)\n"
        "assert not [name for name in sys.modules if name.startswith(('cupy', 'skminibatch.backends.gpu'))]"
    )


# -- C6: forks and threads

FORK = """
import os, sys, types
cupy = types.ModuleType("cupy")
cupy.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=lambda: 1))
sys.modules["cupy"] = cupy
from skminibatch.backends import device_of
from skminibatch.backends.gpu.device import problem
if sys.argv[1] == "parent first":
    assert problem() is None
child = os.fork()
if not child:
    try:
        device_of("cuda")
        print("fine")
    except RuntimeError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.parametrize(("order", "words"), [("parent first", "forked"), ("child only", "fine")])
def test_c6_a_fork_after_cuda_start_is_a_clear_error(order, words, run_python):
    assert words in run_python(FORK, order)


def test_c6_two_threads_fit_as_one(gpu, binary):
    """Each thread gets what it gets alone."""
    X = on_device(gpu, binary.X)
    estimators = [MiniBatchSGDClassifier(**{**QUICK, "random_state": seed}) for seed in range(4)]
    alone = [clone(estimator).fit(X, binary.y).coef_ for estimator in estimators]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda estimator: estimator.fit(X, binary.y).coef_, estimators))
    np.testing.assert_array_equal(together, alone)


def test_c6_a_fork_from_other_code_that_used_cuda(monkeypatch):
    def forked():
        raise RuntimeError("cudaErrorInitializationError: initialization error")

    fake(monkeypatch, module=with_devices(forked))
    assert "forked" in device.problem()


# -- devices and verbs


def test_the_device_of_an_input(gpu, binary):
    X = gpu.asarray(binary.X)
    assert device_of("auto") == device_of("auto", binary.X) == "cpu"
    assert device_of("auto", X) == device_of("cuda", binary.X) == "cuda"
    assert device_of("cpu", X) == "cpu"
    assert choose("cuda") is gpu_backend
    assert choose("cpu") is cpu
    assert choose("base") is base


@pytest.fixture
def table(monkeypatch, tmp_path):
    """A table of crossovers, as if one had been measured."""
    path = tmp_path / "crossover.json"
    path.write_text(json.dumps({"row_lengths": [1, 4, 64, 256], "batch_sizes": [None, 64, 16, 16]}))
    monkeypatch.setattr(crossover, "STORED", path)
    crossover.stored.cache_clear()
    yield crossover.stored()
    crossover.stored.cache_clear()


def test_auto_goes_by_what_was_measured(table, gpu):
    X = np.zeros((1000, 16))  # half way between 4 and 64: 32 rows
    assert [device_of("auto", X, size) for size in (31, 32, None, 5000)] == ["cpu", "cuda", "cpu", "cuda"]
    assert [device_of("auto", X[:20], 5000), device_of("auto", X[:, :2], 1e9)] == ["cpu", "cpu"]
    assert [device_of("auto", np.zeros((50, d)), 17) for d in (64, 128, 1000)] == ["cuda"] * 3
    assert device_of("auto", sparse.csr_matrix(X), 5000) == device_of("cpu", X, 5000) == "cpu"
    for batch_size, expected in ((8, "cpu"), (500, "cuda"), (0.5, "cuda"), (0.01, "cpu"), ("auto", "cpu")):
        model = MiniBatchSGDRegressor(batch_size=batch_size, max_iter=1, tol=None).fit(X, np.arange(1000.0))
        assert model.device_ == expected


def test_auto_stays_on_the_cpu_where_nothing_was_measured_or_nothing_answers(table, monkeypatch):
    fake(monkeypatch)
    X = np.zeros((1000, 16))
    assert device_of("auto", X, 5000) == "cpu"
    monkeypatch.setattr(crossover, "STORED", crossover.STORED.with_name("other.json"))
    crossover.stored.cache_clear()
    assert crossover.stored() is None
    assert device_of("auto", X, 5000) == "cpu"


@in_a_checkout
def test_the_table_is_made_of_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    seconds = {
        (10, 16): (1, 2),
        (10, 64): (2, 1),
        (10, 256): (3, 1),
        (100, 16): (2, 1),
        (100, 64): (1, 1),
        (100, 256): (1, 2),
    }
    records = [
        {"shape": [1, d], "batch_size": size, "who": who, "wall_seconds": {"median": time}}
        for (d, size), times in seconds.items()
        for who, time in zip(("cpu", "cuda"), times, strict=True)
    ]
    found = importlib.import_module("gpu").crossover_of(records)
    assert found == {"row_lengths": [10, 100], "batch_sizes": [64, None]}


def test_another_gpu_than_the_current_one_is_an_error(stand_in, binary, monkeypatch):
    monkeypatch.setattr(stand_in.cuda.runtime, "getDevice", lambda: 1)
    with pytest.raises(ValueError, match=r"X is on GPU 0, but the current one is GPU 1"):
        MiniBatchSGDClassifier(**QUICK).fit(stand_in.asarray(binary.X), binary.y)


# -- C2: rows on the GPU, everything else there or on the host


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_on_the_gpu_fit_as_those_on_the_host(storage, dtype, gpu, estimator_class, problem):
    X, settings = stored(problem.X.astype(dtype), storage), QUICK if storage == "dense" else PLAIN
    host = estimator_class(**settings, device="base").fit(X, problem.y)
    there = estimator_class(**settings).fit(on_device(gpu, X), problem.y)
    assert there.device_ == "cuda"
    np.testing.assert_allclose(learnt(there), learnt(host), rtol=0, atol=1e-9 if dtype is np.float64 else 1e-3)
    assert learnt(there).dtype == learnt(host).dtype
    for name, array in vars(there).items():
        assert not on_gpu(array), name


def test_numpy_rows_are_moved(gpu, estimator_class, problem):
    host = estimator_class(**QUICK, device="base").fit(*problem)
    there = estimator_class(**QUICK, device="cuda").fit(*problem)
    assert there.device_ == "cuda"
    np.testing.assert_allclose(learnt(there), learnt(host), rtol=0, atol=1e-9)
    assert isinstance(there.predict(problem.X), np.ndarray)


@pytest.mark.parametrize("on_gpu", ["y", "sample_weight", "both"])
def test_c2_targets_and_weights_are_here_or_there(on_gpu, gpu, estimator_class, problem):
    weights = np.random.default_rng(0).integers(0, 3, len(problem.y)).astype(float)
    given = {"y": problem.y, "sample_weight": weights}
    there = {name: gpu.asarray(one) if on_gpu in (name, "both") else one for name, one in given.items()}
    X = gpu.asarray(problem.X)
    expected = estimator_class(**QUICK).fit(X, **given)
    np.testing.assert_array_equal(learnt(estimator_class(**QUICK).fit(X, **there)), learnt(expected))
    partial = {"classes": [0, 1]} if is_classifier(expected) else {}
    ours, theirs = (estimator_class(**QUICK).partial_fit(X, **one, **partial) for one in (there, given))
    np.testing.assert_array_equal(learnt(ours), learnt(theirs))


def test_c2_validation_rows_are_here_or_there(gpu, estimator_class, problem):
    X, X_val, y, y_val = problem.X[:200], problem.X[200:], problem.y[:200], problem.y[200:]
    fits = []
    for place in (np.asarray, gpu.asarray):
        estimator = estimator_class(**QUICK, device="cuda")
        fits.append(estimator.fit(place(X), place(y), X_val=place(X_val), y_val=place(y_val)))
    np.testing.assert_array_equal(fits[0].validation_scores_, fits[1].validation_scores_)
    stopped = estimator_class(**QUICK, early_stopping=True).fit(gpu.asarray(problem.X), gpu.asarray(problem.y))
    assert np.isfinite(stopped.best_validation_score_)


@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_results_come_in_the_array_type_that_went_in(storage, gpu, estimator_class, problem):
    X = stored(problem.X, storage)
    there = on_device(gpu, X)
    estimator = estimator_class(**QUICK).fit(X, problem.y)
    methods = ["predict"]
    if is_classifier(estimator):
        methods += ["decision_function", "predict_proba", "predict_log_proba"]
    for method in methods:
        ours, theirs = getattr(estimator, method)(there), getattr(estimator, method)(X)
        assert on_gpu(ours)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours.get(), theirs, rtol=1e-12, atol=1e-14)
        assert isinstance(theirs, np.ndarray)


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array"])
def test_sparse_rows_of_every_kind(kind, gpu, estimator_class, problem):
    """Matrices and arrays of CuPy, whose indices have 64 bits where those of SciPy have them."""
    X = stored(problem.X, "csr")
    wide = getattr(sparse, kind)(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    there = getattr(importlib.import_module("cupyx.scipy.sparse"), kind)(wide)
    found = estimator_class(**PLAIN).fit(there, problem.y)
    assert found.device_ == "cuda"
    expected = estimator_class(**PLAIN, device="base").fit(X, problem.y)
    np.testing.assert_allclose(learnt(found), learnt(expected), atol=1e-9)
    output = "decision_function" if is_classifier(found) else "predict"
    np.testing.assert_allclose(getattr(found, output)(there).get(), getattr(found, output)(X), rtol=1e-12, atol=1e-14)


def test_string_labels_are_numpys(gpu, binary):
    labels = np.array(["no", "yes"])[binary.y]
    classifier = MiniBatchSGDClassifier(**QUICK).fit(gpu.asarray(binary.X), labels)
    predicted = classifier.predict(gpu.asarray(binary.X))
    assert isinstance(predicted, np.ndarray)
    assert set(predicted) <= {"no", "yes"}
    assert isinstance(classifier.classes_, np.ndarray)


@pytest.mark.slow
def test_c2_score_and_searches(gpu, estimator_class, problem):
    """Splits, scorers and weights stay on the host."""
    X, weights = gpu.asarray(problem.X), np.random.default_rng(0).uniform(0.5, 2, 240)
    estimator = estimator_class(**QUICK).fit(*problem)
    expected = estimator.score(*problem, sample_weight=weights)
    assert estimator.score(X, gpu.asarray(problem.y), sample_weight=gpu.asarray(weights)) == pytest.approx(expected)
    estimator = estimator_class(**QUICK, device="cuda")
    expected = cross_val_score(estimator, *problem, cv=3)
    np.testing.assert_allclose(cross_val_score(estimator, X, problem.y, cv=3), expected, rtol=1e-6)
    piped = Pipeline([("nothing", "passthrough"), ("model", estimator)])
    search = GridSearchCV(piped, {"model__batch_size": [8, 32]}, cv=2).fit(X, problem.y)
    assert search.best_estimator_[-1].device_ == "cuda"
    assert on_gpu(search.predict(X))


def wrong(case, X):
    """Input that is refused."""
    X = X.copy()
    if case == "nan":
        X[17, 2] = np.nan
    if case == "infinity":
        X[200, 0] = -np.inf
    return {"one axis": X[:, 0], "three axes": X[:, :, None], "no rows": X[:0], "few features": X[:, :3]}.get(case, X)


@pytest.mark.parametrize("case", ["nan", "infinity", "one axis", "three axes", "no rows"])
def test_bad_rows_are_refused_in_scikit_learns_words(case, gpu, estimator_class, problem):
    X = wrong(case, problem.X)
    messages = []
    for place in (np.asarray, gpu.asarray):
        with pytest.raises(ValueError) as raised:  # noqa: PT011
            estimator_class(**QUICK).fit(place(X), problem.y[: len(X)])
        messages.append(str(raised.value).split("\narray=")[0])
    assert messages[0] == messages[1]


def test_bad_rows_are_refused_in_predictions(gpu, estimator_class, problem):
    estimator = estimator_class(**QUICK).fit(*problem)
    for case in ("nan", "few features"):
        messages = []
        for place in (np.asarray, gpu.asarray):
            with pytest.raises(ValueError) as raised:  # noqa: PT011
                estimator.predict(place(wrong(case, problem.X)))
            messages.append(str(raised.value))
        assert messages[0] == messages[1]


def test_lengths_have_to_agree(gpu, estimator_class, problem):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[240, 239\]"):
        estimator_class(**QUICK).fit(gpu.asarray(problem.X), problem.y[1:])


def test_layout_and_type_are_as_on_the_host(gpu, regression):
    """Integers become float64, columns become rows, and duplicates in CSR are summed up without writing the input."""
    X = np.rint(4 * regression.X)
    expected = MiniBatchSGDRegressor(**QUICK, device="base").fit(X, regression.y).coef_
    for there in (gpu.asarray(X.astype(np.int32)), gpu.asarray(np.ascontiguousarray(X.T)).T):
        found = MiniBatchSGDRegressor(**QUICK).fit(there, regression.y).coef_
        np.testing.assert_allclose(found, expected, rtol=1e-7)
    twice = sparse.csr_matrix(
        (np.repeat(X.ravel() / 2, 2), np.repeat(np.tile(np.arange(5), 240), 2), 10 * np.arange(241)), X.shape
    )
    there = on_device(gpu, twice)
    found = MiniBatchSGDRegressor(**PLAIN).fit(there, regression.y).coef_
    expected = MiniBatchSGDRegressor(**PLAIN, device="base").fit(sparse.csr_matrix(X), regression.y).coef_
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert there.nnz == twice.nnz


@pytest.mark.parametrize("sampler", ["importance", "stratified", "blocks", "replacement"])
def test_samplers_look_at_rows_on_the_gpu(sampler, gpu, binary):
    settings = {**QUICK, "sampler": sampler}
    found = MiniBatchSGDClassifier(**settings).fit(gpu.asarray(binary.X), binary.y).coef_
    np.testing.assert_allclose(found, MiniBatchSGDClassifier(**settings, device="base").fit(*binary).coef_, atol=1e-9)


@pytest.mark.parametrize("settings", [{"standardize": True}, {"solver": "saga"}, {"batch_size": "auto"}], ids=str)
def test_all_of_a_fit_runs_there(settings, gpu, binary):
    settings = {**QUICK, **settings}
    found = MiniBatchSGDClassifier(**settings).fit(gpu.asarray(binary.X), binary.y)
    np.testing.assert_allclose(
        found.coef_, MiniBatchSGDClassifier(**settings, device="base").fit(*binary).coef_, atol=1e-8
    )


def test_streams_and_warm_starts_go_on(gpu, estimator_class, problem):
    """From one device to the other and back."""
    partial = {"classes": [0, 1]} if is_classifier(estimator_class()) else {}
    fits = []
    for places in ((np.asarray,) * 3, (gpu.asarray, np.asarray, gpu.asarray)):
        estimator = estimator_class(**QUICK, warm_start=True)
        for place in places:
            estimator.partial_fit(place(problem.X), problem.y, **partial)
        estimator.fit(places[0](problem.X), problem.y)
        fits.append(learnt(estimator))
    np.testing.assert_allclose(*fits, atol=1e-8)


@pytest.mark.parametrize("normalization", ["batch", "layer", "hybrid"])
def test_networks_of_every_kind(normalization, gpu, binary):
    settings = {
        **QUICK,
        "hidden_layer_sizes": (8,),
        "normalization": normalization,
        "activation": "gelu",
        "dropout": 0.2,
    }
    found = MiniBatchMLPClassifier(**settings).fit(gpu.asarray(binary.X), binary.y)
    expected = MiniBatchMLPClassifier(**settings, device="base").fit(*binary)
    np.testing.assert_allclose(learnt(found), learnt(expected), atol=1e-8)
    np.testing.assert_allclose(
        found.predict_proba(gpu.asarray(binary.X)).get(), found.predict_proba(binary.X), rtol=1e-12, atol=1e-14
    )


def test_the_same_seed_gives_the_same_bits(gpu, estimator_class, problem):
    fits = [learnt(estimator_class(**QUICK).fit(gpu.asarray(problem.X), problem.y)) for _ in range(2)]
    np.testing.assert_array_equal(*fits)


def test_a_divergence_is_as_loud_as_on_the_host(gpu, regression):
    X = 1e6 * regression.X
    settings = {**QUICK, "solver": "sgd", **constant(MiniBatchSGDRegressor, 1.0)}
    for place in (np.asarray, gpu.asarray):
        with pytest.raises(ValueError, match=r"Floating-point under-/overflow occurred at epoch #1.*Largest features"):
            MiniBatchSGDRegressor(**settings).fit(place(X), regression.y)


# -- where things stand


def test_rows_on_the_gpu_are_not_copied(stand_in, estimator_class, problem):
    X, y = stand_in.asarray(np.tile(problem.X, (5, 20))), np.tile(problem.y, 5)
    assert placement.Rows(X).array is X
    before = stand_in.used.copied
    estimator_class(**{**QUICK, "batch_size": 200}).fit(X, y)
    stand_in.used.most = stand_in.used.bytes
    assert on_gpu(X)
    if "MLP" not in estimator_class.__name__:  # whose parameters take more than these rows
        assert stand_in.used.copied - before < X.nbytes / 2


def test_rows_are_moved_once(stand_in, regression):
    X = np.tile(regression.X, (5, 10))
    before = stand_in.used.copied
    MiniBatchSGDRegressor(**{**QUICK, "max_iter": 4}, device="cuda").fit(X, np.tile(regression.y, 5))
    assert X.nbytes <= stand_in.used.copied - before < 1.5 * X.nbytes


@pytest.mark.slow
@pytest.mark.parametrize("model", [MiniBatchSGDClassifier, MiniBatchMLPClassifier])
def test_the_rows_in_use_are_moved_once(stand_in, model):
    """Those of positive weight, which an order maps its keyed permutation to: an epoch brings keys, rates and parameters."""
    X, y = np.random.default_rng(0).standard_normal((2, 6000, 1))
    weights, copied, settings = np.arange(6000) % 6 > 0, [], {**PLAIN, "batch_size": 1000, "device": "cuda"}
    if model is MiniBatchMLPClassifier:
        settings["hidden_layer_sizes"] = (8,)
    for max_iter in (1, 2):
        before = stand_in.used.copied
        model(**{**settings, "max_iter": max_iter}).fit(X, y.ravel() > 0, sample_weight=weights.astype(float))
        copied.append(stand_in.used.copied - before)
    assert copied[0] > 5000 * 8 > 4 * (copied[1] - copied[0]) > 0


@pytest.mark.parametrize("sampler", ["shuffle", "stratified", "importance", "replacement"])
def test_nothing_piles_up_beside_the_rows(sampler, stand_in, binary, monkeypatch):
    """What stays on the GPU for the time of a fit is the same after two epochs and after six."""
    kept, free = [], placement.Rows.free
    monkeypatch.setattr(placement.Rows, "free", lambda rows: kept.append(len(rows._copies)) or free(rows))
    for max_iter in (2, 6):
        MiniBatchSGDClassifier(**{**QUICK, "max_iter": max_iter}, sampler=sampler, device="cuda").fit(*binary)
    assert kept[0] == kept[1] > 0


LOOKS = [
    (MiniBatchSGDClassifier, {"sampler": "importance"}),
    (MiniBatchSGDClassifier, {"sampler": Importance("smoothness")}),
    (MiniBatchSGDClassifier, {"standardize": True}),
    (MiniBatchSGDClassifier, {"standardize": True, "early_stopping": True}),
    (
        MiniBatchMLPClassifier,
        {"normalization": BatchNorm(exact=True), "hidden_layer_sizes": (3,), "early_stopping": True},
    ),
]


@pytest.mark.parametrize(
    ("model", "settings"), LOOKS, ids=lambda value: str(value) if isinstance(value, dict) else None
)
def test_all_rows_are_looked_at_where_they_are(model, settings, stand_in):
    """For probabilities, coordinates, statistics and scores: what comes to the host is far less than the rows."""
    X, y = np.random.default_rng(0).standard_normal((500, 200)), np.arange(500) % 2
    rate = {"learning_rate_init" if model is MiniBatchMLPClassifier else "eta0": 0.01, "learning_rate": "constant"}
    settings = {**QUICK, **rate, **settings}
    there, before = stand_in.asarray(X), stand_in.used.brought
    found = model(**settings).fit(there, y)
    assert 0 < stand_in.used.brought - before < X.nbytes / 5
    expected = model(**settings, device="base").fit(X, y)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(found.predict_proba(there).get(), expected.predict_proba(X), rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(found.validation_scores_, expected.validation_scores_)


def test_c4_memory_is_given_back(stand_in, estimator_class, problem):
    """After `fit`, and after a fit that fails; what others keep in their own pool is not touched."""
    for y in (problem.y, None):
        before = stand_in.used.bytes
        if y is None:
            with pytest.raises(ZeroDivisionError):
                estimator_class(**QUICK, early_stopping=True, scoring=lambda *_: 1 / 0, device="cuda").fit(*problem)
        else:
            estimator_class(**QUICK, device="cuda").fit(problem.X, y)
        assert stand_in.used.bytes == placement.pool().left == before
    assert stand_in.get_default_memory_pool().emptied == 0


def test_c4_an_allocator_of_the_user_is_used(stand_in, binary):
    own = stand_in.MemoryPool()
    with stand_in.using_allocator(own.malloc):
        MiniBatchSGDClassifier(**QUICK, device="cuda").fit(*binary)
        assert placement.pool() is None
    assert own.emptied == 0


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_rows_that_do_not_fit_are_streamed(storage, stand_in, estimator_class, problem, monkeypatch):
    monkeypatch.setattr(streamed, "PORTION_BYTES", 4_000)
    X = stored(problem.X, storage)
    weights = np.random.default_rng(0).uniform(0.5, 2, 240)
    estimator = estimator_class(**PLAIN, device="cuda")  # 'auto' stores residuals beside rows that fit
    if hasattr(estimator, "dropout"):
        estimator.set_params(dropout=0.3)
    expected = clone(estimator).fit(X, problem.y, sample_weight=weights)
    monkeypatch.setattr(placement, "SHARE", 0.0)
    before = stand_in.used.copied
    found = clone(estimator).fit(X, problem.y, sample_weight=weights)
    np.testing.assert_allclose(learnt(found), learnt(expected), rtol=1e-10, atol=1e-12)
    assert stand_in.used.copied - before > 2 * placement.n_bytes(X)


def test_pieces_of_a_plan_are_full_and_whole(monkeypatch, stand_in):
    monkeypatch.setattr(streamed, "PORTION_BYTES", 100)
    offsets = np.array([0, 4, 8, 12, 40, 41, 42])
    assert streamed._pieces(offsets, 10.0) == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert streamed._pieces(offsets, 1e9) == [(step, step + 1) for step in range(6)]


def test_too_little_memory_is_a_clear_error(stand_in, binary, monkeypatch):
    monkeypatch.setattr(stand_in.settings, "bytes", stand_in.used.bytes + binary.X.nbytes + 3_000)
    monkeypatch.setattr(placement, "SHARE", 1.0)
    with pytest.raises(MemoryError, match=r"The GPU has too little memory for a step .*: use smaller batches"):
        MiniBatchMLPClassifier(**QUICK, device="cuda").fit(*binary)


@pytest.mark.parametrize("nbytes", [8, 1_000, 100_000])
def test_arrays_are_moved_in_chunks(nbytes, stand_in, monkeypatch):
    monkeypatch.setattr(placement, "CHUNK_BYTES", 1_000)
    array = np.random.default_rng(0).standard_normal((nbytes // 8, 1 if nbytes == 8 else 5))
    np.testing.assert_array_equal(placement.to_gpu(array).get(), array)
    np.testing.assert_array_equal(placement.to_gpu(array.ravel()).get(), array.ravel())


# -- verbs


class LogCosh(NamedTuple):
    """A custom loss without a translation."""

    curvature = 1.0
    task = "regression"

    def value(self, raw, y):
        return np.logaddexp(raw - y, y - raw) - np.log(2.0)

    def gradient(self, raw, y):
        return np.tanh(raw - y)


class Angle(NamedTuple):
    """The same for a row as a whole, in operations on rows."""

    curvature = 4.0
    task = "regression"

    def value_gradient(self, raw, y, out):
        out[:] = np.sin(raw)
        return float(np.sum(1.0 - np.cos(raw)))


LOSSES_THERE = [Logistic(), Softmax(), OneVsRest(LogCosh()), EachOutput(SquaredError()), LogCosh(), Angle()]


def several_outputs(loss):
    return not hasattr(loss, "value")


@pytest.mark.parametrize("loss", LOSSES_THERE, ids=repr)
@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_losses_of_rows_that_are_there(loss, storage, gpu):
    X, rng = rows_of_data(density=0.3 if storage == "csr" else 1.0), np.random.default_rng(0)
    K = OUTPUTS if several_outputs(loss) else 1
    coef, intercept = rng.standard_normal((K, X.shape[1])), rng.standard_normal(K)
    y = targets_of(EachOutput(SquaredError()) if isinstance(loss, Angle) else loss)
    verb = f"loss_{storage}"
    with placement.rows_on_device(X) as there:
        for weights in (np.empty(0), rng.uniform(0, 2, len(y))):
            for rows in (np.empty(0, np.int64), np.array([3, 1, 80])):
                ours = getattr(gpu_backend, verb)(loss, there, y, weights, rows, coef, intercept)
                theirs = getattr(base, verb)(loss, X, y, weights, rows, coef, intercept)
                np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES_THERE, ids=repr)
@pytest.mark.parametrize("at_once", [7, 1 << 16])
def test_gradients_of_rows_that_are_there(loss, at_once, gpu, monkeypatch):
    monkeypatch.setattr(gpu_backend, "AT_ONCE", at_once)
    X, rng = rows_of_data(), np.random.default_rng(0)
    K = OUTPUTS if several_outputs(loss) else 1
    y = targets_of(EachOutput(SquaredError()) if isinstance(loss, Angle) else loss)
    w, tables = rng.standard_normal((K, X.shape[1] + 1)), np.full((2, len(X), 1 + K), 0.5)
    axes = Coordinates(*rng.uniform(0.5, 2.0, (3, X.shape[1])))
    for weights in (np.empty(0), rng.uniform(0, 2, len(y))):
        with placement.rows_on_device(X) as there:
            task = LinearTask(loss, NET, SGD(), there, y, weights, w[None], axes, table=tables[0])
            ours = gpu_backend.gradient_dense(task)
        theirs = base.gradient_dense(task._replace(X=X, table=tables[1]))
        np.testing.assert_allclose(tables[0], tables[1], rtol=1e-11, atol=1e-14)
        for mine, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-10)


@pytest.mark.parametrize("loss", [LogCosh(), Angle(), OneVsRest(LogCosh())], ids=repr)
@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam(), SAGA(N)], ids=repr)
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_parts_without_a_translation_run_by_their_formulas(loss, optimizer, density, gpu):
    assert not has_cuda(loss)
    X, rng = rows_of_data(density=density), np.random.default_rng(0)
    y = targets_of(EachOutput(SquaredError()) if isinstance(loss, Angle) else loss)
    K = OUTPUTS if several_outputs(loss) else 1
    start = 0.1 * rng.standard_normal((1 + n_slots(optimizer), K, X.shape[1] + 1))
    start[1:] = np.abs(start[1:])
    plan = plan_of(optimizer, clip_norm=np.inf if declared(optimizer).per_row else 0.5)
    ends, found = [], []
    for backend in (base, gpu_backend):
        params, table = start.copy(), np.full((N, 1 + K), 0.5) if declared(optimizer).per_row else None
        task = LinearTask(loss, NET, optimizer, X, y, np.full(N, 0.5), params, table=table)
        found.append(carried_out(backend, task, plan))
        ends.append((params, table))
    for mine, expected in zip(ends[1], ends[0], strict=True):
        if expected is not None:
            np.testing.assert_allclose(mine, expected, rtol=1e-10, atol=1e-12)
    for mine, expected in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9)


def test_rows_that_are_written_out_stay_there(gpu):
    """Those of the latest coordinates alone; they go with the rows that they were made of."""
    X, shift = rows_of_data(), np.arange(7.0)
    with placement.rows_on_device(X) as rows:
        for factor in (2.0, 3.0):
            written = rows.written(lambda X, shift, factor=factor: (X - shift) * factor, np.dtype(np.float32), shift)
            assert on_gpu(written.array)
            np.testing.assert_allclose(written[3:9], ((X - shift) * factor)[3:9], rtol=1e-6)
        assert list(rows.at_end) == ["written"]
    assert written.array is None


@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_a_table_stays_beside_the_rows(storage, gpu):
    """It is copied once, and comes back when the rows are freed; what is written on the host in between is seen."""
    X, loss, optimizer = rows_of_data(density=0.3 if storage == "csr" else 1.0), Softmax(), SAGA(float(N))
    start = np.random.default_rng(0).uniform(0.1, 1.0, (N, 1 + OUTPUTS))
    w, axes, ends = np.zeros((1 + n_slots(optimizer), OUTPUTS, X.shape[1] + 1)), Coordinates(*np.ones((3, 7))), []

    def carry_out(backend, X, params, table, n_times):
        for _ in range(n_times):
            task = LinearTask(loss, NET, optimizer, X, targets_of(loss), np.empty(0), params, table=table)
            carried_out(backend, task, plan_of(optimizer))
        return params, table

    for backend, place in ((base, nullcontext), (gpu_backend, placement.rows_on_device)):
        params, table = w.copy(), start.copy()
        with place(X) as rows:
            carry_out(backend, rows, params, table, 2)
            if backend is gpu_backend:
                np.testing.assert_array_equal(table, start)
            if storage == "dense":
                arrays = rows, targets_of(loss), np.empty(0), params, axes
                backend.gradient_dense(LinearTask(loss, NET, optimizer, *arrays, table=table))
                carry_out(backend, rows, params, table, 1)
        ends.append((params, table, *carry_out(backend, X, params.copy(), table.copy(), 1)))
    for mine, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("sampler", ["shuffle", "replacement"])
def test_saga_is_fitted_by_the_kernels(storage, sampler, gpu, several, monkeypatch):
    """With a row of unusual length, which comes twice in an epoch, or with rows that come twice in a batch."""
    X, visits, count = several.X.copy(), [], linear._visits
    X[3] *= 30.0
    X, settings = stored(X, storage), {**QUICK, "solver": "saga", "max_iter": 5, "sampler": sampler}
    expected = MiniBatchSGDClassifier(**settings, device="base").fit(X, several.y)
    for verb in ("run_dense", "run_csr"):
        monkeypatch.delattr(base, verb)
    monkeypatch.setattr(linear, "_visits", lambda plan: visits.append(count(plan)) or visits[-1])
    found = MiniBatchSGDClassifier(**settings, device="cuda").fit(X, several.y)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-9)
    assert len(visits) == 4
    assert sampler == "shuffle" or all(one.max() > 1 for one in visits)


@pytest.mark.slow
def test_saga_moves_its_table_once(stand_in, regression):
    """And gives its memory back; an epoch copies its order, the rates and the parameters."""
    Y, copied, taken = np.tile(regression.y[:, None], 20), [], stand_in.used.bytes
    for max_iter in (5, 8):  # a new table is made after epochs 1, 2, 4 and 8
        before = stand_in.used.copied
        MiniBatchSGDRegressor(**{**QUICK, "max_iter": max_iter}, solver="saga", device="cuda").fit(regression.X, Y)
        copied.append(stand_in.used.copied - before)
        assert stand_in.used.bytes == placement.pool().left == taken
    assert copied[1] - copied[0] < 240 * (1 + 20) * 8


def test_saga_needs_rows_that_fit(stand_in, binary, monkeypatch):
    monkeypatch.setattr(placement, "SHARE", 0.0)
    with pytest.raises(MemoryError, match="they have to fit on the GPU"):
        MiniBatchSGDClassifier(**QUICK, solver="saga", device="cuda").fit(*binary)


def test_a_network_without_kernels_runs_by_its_formulas(gpu):
    """Normalizations that no kernel fits, a custom activation, GELU, dropout, sparse rows."""
    for normalization in UNFIT:
        for activation in (Swish(1.5), GELU()):
            stack = stack_of(Softmax(), normalization, activation=activation, dropout=0.2)
            agree(gpu_backend, stack, Softmax(), Adam(), tolerance=1e-8)
    for normalization in (BatchNorm(), HybridNorm(), LayerNorm(), None):
        agree(gpu_backend, stack_of(Softmax(), normalization), Softmax(), Adam(), network_rows(0.4), tolerance=1e-8)


# -- pickles


def test_pickles_know_nothing_of_the_gpu(gpu, estimator_class, problem, monkeypatch):
    """They load and predict without one, learn on with another device, and diagnostics look at them."""
    X = gpu.asarray(problem.X)
    for settings in ({}, {"device": "cuda"}):
        estimator = estimator_class(**QUICK, **settings).fit(X, problem.y)
        text = pickle.dumps(estimator)
        assert b"cupy" not in text
        assert b"emulated" not in text
        expected = estimator.predict(problem.X)
        with monkeypatch.context() as patch:
            fake(patch)
            loaded = pickle.loads(text)
            np.testing.assert_array_equal(loaded.predict(problem.X), expected)
            assert gradient_noise_scale(loaded, *problem).n_samples == 240
            assert loaded.set_params(device="auto").partial_fit(*problem).device_ == "cpu"
        device._cupy.cache_clear()


def test_clones_and_parameters_know_nothing_of_rows(gpu, estimator_class, problem):
    estimator = estimator_class(**QUICK).fit(gpu.asarray(problem.X), problem.y)
    assert clone(estimator).get_params() == estimator.get_params()


def test_diagnostics_take_rows_on_the_gpu(gpu, estimator_class, problem):
    estimator = estimator_class(**QUICK).fit(*problem)
    found = gradient_noise_scale(estimator, gpu.asarray(problem.X), problem.y, random_state=0)
    assert found.confidence_interval == gradient_noise_scale(estimator, *problem, random_state=0).confidence_interval


# -- the benchmark


@in_a_checkout
def test_the_page_of_measurements_is_that_of_the_numbers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    page, folder = importlib.import_module("gpu_page").page, ROOT / "docs" / "benchmarks"
    path = folder / "gpu.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    assert (folder / "gpu.md").read_text(encoding="utf-8") == page(stored)
    assert "not measured" in page(None)


@in_a_checkout
def test_a_benchmark_that_is_cut_off_has_written_what_it_found(stand_in, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    gpu = importlib.import_module("gpu")
    seen = []

    def section(sizes):
        yield {"name": "device", "copy_bytes_per_second": 1e12}
        stored = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
        seen.append((stored["records"], (tmp_path / "gpu.md").read_text(encoding="utf-8") == gpu.page(stored)))
        raise ValueError("it ends here")

    monkeypatch.setattr(gpu, "SECTIONS", {"device": section, "linear": section})
    monkeypatch.setattr(gpu, "of_tests", lambda seconds: {"name": "tests", "passed": 3})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path)])
    gpu.main()
    assert seen[0] == ([{"name": "device", "copy_bytes_per_second": 1e12}], True)
    records = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["records"]
    assert [one.get("failed") for one in records] == [None, "ValueError: it ends here"] * 2 + [None]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path), "--seconds", "-1", "--no-tests"])
    gpu.main()
    records = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["records"]
    assert [one["failed"] for one in records] == ["TimeoutError: no time was left"] * 2


@in_a_checkout
def test_without_a_gpu_the_benchmark_says_why():
    if device.problem() is None:
        pytest.skip("a GPU answers, so that the benchmark runs")
    done = python(ROOT / "benchmarks" / "gpu.py", env=OF_ROOT)
    assert done.returncode != 0
    assert device.problem() in done.stderr


# -- every device

REGRESSION_SCORE, CLASSIFICATION_SCORE = 0.9, 0.6


def test_every_device_learns(device_name, estimator_class, problem):
    estimator = estimator_class(random_state=0, max_iter=60, tol=None, batch_size=16, device=device_name)
    if "MLP" in estimator_class.__name__:
        estimator.set_params(learning_rate_init=0.02)
    goal = CLASSIFICATION_SCORE if is_classifier(estimator) else REGRESSION_SCORE
    assert cross_val_score(estimator, *problem, cv=3).min() > goal
