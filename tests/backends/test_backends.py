"""The verbs of the backends: the same names and arguments, the same results as ``base``, the oracle."""

from __future__ import annotations

import inspect
import re
import types
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends import base, choose, cpu, gpu
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.orders import explicit_order, keyed_order
from skminibatch.contract.plan import NO_BOUND, Plan
from skminibatch.contract.verbs import n_coefficients, n_slots, update
from skminibatch.losses import EachOutput, Logistic, Softmax, SquaredError
from skminibatch.optimizers import SGD, Adam, Averaging, Momentum, ScheduleFree
from skminibatch.penalties import ElasticNet
from tests.backends.linear_chunks import (
    EMPTY,
    KEYS,
    LINEAR,
    LOSS_CASES,
    NET,
    NOTHING,
    OPTIMIZER_CASES,
    SOME,
    D,
    N,
    assert_agree,
    assert_same,
    each_of,
    kinds_of_coordinates,
    plan_of,
    rows_of_data,
    run,
    start_of,
    targets_of,
)

# -- names and arguments


def public_functions(module: types.ModuleType) -> dict:
    functions = inspect.getmembers(module, inspect.isfunction)
    return {name: f for name, f in functions if f.__module__ == module.__name__ and not name.startswith("_")}


def documented_verbs() -> dict[str, list[str]]:
    text = base.__doc__.split("Verbs\n-----\n")[1].split("\n\n")[0]
    return {name: arguments.split(", ") for name, arguments in re.findall(r"(\w+)\((.*)\) -> ", text)}


def test_the_head_of_base_lists_its_verbs():
    verbs = documented_verbs()
    assert len(verbs) >= 4
    for name, arguments in verbs.items():
        assert list(inspect.signature(getattr(base, name)).parameters) == arguments


@pytest.mark.parametrize("backend", [cpu, gpu], ids=lambda module: module.__name__)
def test_backends_have_the_same_verbs(backend):
    """The same names, arguments and defaults."""
    for name in documented_verbs():
        assert inspect.signature(getattr(backend, name)) == inspect.signature(getattr(base, name))
    assert set(documented_verbs()) <= set(public_functions(backend))


def test_choose_is_the_only_place_that_knows_devices():
    assert choose("base") is base
    assert choose("cpu") is choose("auto") is cpu


# -- dense rows


@pytest.mark.parametrize("loss", LOSS_CASES, ids=repr)
def test_losses_agree_on_dense_rows(backend, loss):
    X = rows_of_data()
    assert_agree(backend, X, loss, SGD())
    coef, intercept = start_of(loss, SGD())[0, :, :-1], start_of(loss, SGD())[0, :, -1]
    weights = np.random.default_rng(4).uniform(0, 2, N)
    for w in (NOTHING, weights):
        for rows in (EMPTY, np.array([3, 1, 80])):
            arguments = (loss, X, targets_of(loss), w, rows, coef, intercept)
            np.testing.assert_allclose(backend.loss_dense(*arguments), base.loss_dense(*arguments), rtol=1e-12)


@pytest.mark.parametrize("loss", [Logistic(), SquaredError(), Softmax(), EachOutput(SquaredError())], ids=repr)
@pytest.mark.parametrize("center", [None, 0.0, 0.3])
@pytest.mark.parametrize("n", [1, 15, N, 2_500])
def test_gradients_of_all_rows_agree(backend, loss, center, n):
    """More rows than are added up at once, and fewer than a group; with and without weights, moved and scaled or not."""
    X, y = np.resize(rows_of_data(), (n, D)), np.resize(targets_of(loss), (n, *targets_of(loss).shape[1:]))
    axes, w = None, start_of(loss, SGD())[0]
    if center is not None:
        scale = 2.0 ** np.arange(-3, 4)
        axes = Coordinates(np.full(D, center), scale, scale)
    for weights in (NOTHING, np.random.default_rng(4).integers(3, size=n).astype(float)):
        tables = np.full((2, n, 1 + len(w)), 0.5)
        arguments = (loss, X, y, weights, axes, w)
        ours, theirs = (b.gradient_dense(*arguments, table) for b, table in zip((backend, base), tables, strict=True))
        np.testing.assert_allclose(tables[0], tables[1], rtol=1e-11, atol=1e-14)
        assert np.all(tables[..., 0] == 0.5)
        for mine, expected in zip(ours, theirs, strict=True):
            assert mine.dtype == expected.dtype == np.float64
            np.testing.assert_allclose(mine, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZER_CASES, ids=repr)
@pytest.mark.parametrize("penalty", [ElasticNet(), ElasticNet(0.3, 0.0), NET], ids=repr)
def test_optimizers_agree_on_dense_rows(backend, optimizer, penalty):
    assert_agree(backend, rows_of_data(), Logistic(), optimizer, penalty=penalty)


@each_of(
    {"limits": {"safety": (0.02, 0.1, 1.0)}},
    {"limits": {"safety": (0.05, 0.5, 0.0)}},
    {"limits": {"clip_norm": 0.45}},
    {"limits": {"clip_norm": 0.45, "safety": (0.02, 0.1, 1.0)}},
)
def test_settings_agree_on_dense_rows(backend, settings):
    settings = dict(settings)
    limits = settings.pop("limits", {})
    plan = plan_of(ScheduleFree(), **limits)
    assert_agree(backend, rows_of_data(), *SOME, plan=plan, **settings)
    if "safety" in limits:  # it bounds some steps
        _, stats = run(base, rows_of_data(), *SOME, plan=plan)
        assert 0 < np.sum(stats.rates < plan.coefficients[:, 0])
    if "clip_norm" in limits:
        _, stats = run(base, rows_of_data(), *SOME, plan=plan)
        assert 0 < np.sum(stats.square_norms > plan.clip_norm**2) < stats.losses.size


def test_the_bound_of_a_batch_is_that_of_the_plan(backend):
    """``share / (smoothness + max(0, mean_i(s_i stiffness_i (|x_i|^2 + 1)) - typical))``."""
    X, weights = rows_of_data(), np.random.default_rng(5).uniform(0.1, 3.0, N)
    share, smoothness, typical = safety = (0.05, 0.5, 1.0)
    plan = plan_of(ScheduleFree(), safety=safety)
    _, stats = run(backend, X, *SOME, plan=plan, weights=weights)
    each = weights * Logistic.curvature * (np.sum(X**2, axis=1) + 1)
    stiffness = [each[plan.rows.explicit[a:b]].mean() for a, b in zip(plan.offsets, plan.offsets[1:], strict=False)]
    bound = share / (smoothness + np.maximum(0, np.array(stiffness) - typical))
    np.testing.assert_allclose(stats.rates, np.minimum(plan.coefficients[:, 0], bound))
    assert np.all(
        run(backend, X, *SOME, plan=plan_of(ScheduleFree(), safety=NO_BOUND))[1].rates == plan.coefficients[:, 0]
    )


def test_clipping_keeps_the_direction(backend):
    """One step of SGD moves by rate times clip_norm; the penalty is not clipped."""
    X = rows_of_data()
    plan = plan_of(SGD(), batch_size=N, n_epochs=1, clip_norm=1e-3)
    moved = run(backend, X, Logistic(), SGD(), ElasticNet(), plan)[0] - start_of(Logistic(), SGD())
    np.testing.assert_allclose(np.linalg.norm(moved), 0.1 * 1e-3, rtol=1e-9)
    free = run(backend, X, Logistic(), SGD(), ElasticNet(), plan._replace(clip_norm=np.inf))[0] - start_of(
        Logistic(), SGD()
    )
    np.testing.assert_allclose(moved / np.linalg.norm(moved), free / np.linalg.norm(free), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [Logistic(), SquaredError()], ids=repr)
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("stretched", [True, False])
def test_coordinates_agree(backend, loss, stretched, centered):
    rng = np.random.default_rng(7)
    X, scale = rows_of_data(), rng.uniform(0.5, 2.0, D)
    coordinates = Coordinates(rng.standard_normal(D) * centered, scale, scale if stretched else np.ones(D))
    assert_agree(backend, X, loss, ScheduleFree(), coordinates=coordinates)


@pytest.mark.parametrize("loss", [Logistic(), Softmax()], ids=repr)
def test_float32_agrees(backend, loss):
    """And stays float32."""
    X = rows_of_data(dtype=np.float32)
    assert_agree(backend, X, loss, ScheduleFree(), rtol=2e-5)
    params, stats = run(backend, X, loss, ScheduleFree())
    assert params.dtype == np.float32
    assert stats.losses.dtype == np.float64


def test_losses_of_float32_accumulate_in_float64(backend):
    n = 1 << 18
    X, y = np.full((n, 1), 0.1, np.float32), np.zeros(n, np.float32)
    total = backend.loss_dense(SquaredError(), X, y, NOTHING, EMPTY, np.ones((1, 1)), np.zeros(1))
    np.testing.assert_allclose(total, n * 0.005, rtol=1e-6)


# -- sparse rows


@pytest.mark.parametrize("optimizer", [*OPTIMIZER_CASES, Averaging(Momentum())], ids=repr)
@pytest.mark.parametrize("penalty", [ElasticNet(0.3, 0.0), ElasticNet(0.1, 0.02)], ids=repr)
@pytest.mark.parametrize("stretched", [True, False])
def test_coordinates_agree_on_sparse_rows(backend, optimizer, penalty, stretched):
    settings = {"penalty": penalty, "coordinates": kinds_of_coordinates(stretched)}
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, **settings)
    if type(optimizer) in (SGD, ScheduleFree):
        assert_agree(backend, rows_of_data(density=0.3), Softmax(), optimizer, **settings)


@pytest.mark.parametrize("optimizer", [part for part in OPTIMIZER_CASES if part.linear], ids=repr)
def test_scaled_sparse_rows_give_what_dense_ones_give(backend, optimizer):
    X = rows_of_data(density=0.3)
    settings = {"penalty": ElasticNet(0.3, 0.0), "coordinates": kinds_of_coordinates(True)}
    sparse_params, _ = run(backend, X, Logistic(), optimizer, **settings)
    dense_params, _ = run(backend, X.toarray(), Logistic(), optimizer, **settings)
    np.testing.assert_allclose(sparse_params, dense_params, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("optimizer", [*OPTIMIZER_CASES, Averaging(Momentum())], ids=repr)
def test_optimizers_agree_on_sparse_rows(backend, optimizer):
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, penalty=ElasticNet(0.3, 0.0))


@pytest.mark.parametrize("optimizer", [part for part in LINEAR if not part.lazy_l1][:1], ids=repr)
def test_l1_agrees_on_sparse_rows_where_it_is_lazy(backend, optimizer):
    assert base.is_lazy(optimizer, NET)
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, penalty=NET)


@pytest.mark.parametrize("loss", [SquaredError(), Softmax()], ids=repr)
def test_losses_agree_on_sparse_rows(backend, loss):
    X = rows_of_data(density=0.3)
    assert_agree(backend, X, loss, ScheduleFree())
    params = start_of(loss, SGD())
    for weights in (NOTHING, np.random.default_rng(4).uniform(0, 2, N)):
        for rows in (EMPTY, np.array([3, 1, 80])):
            arguments = (loss, X, targets_of(loss), weights, rows, params[0, :, :-1], params[0, :, -1])
            np.testing.assert_allclose(backend.loss_csr(*arguments), base.loss_csr(*arguments), rtol=1e-12)


@pytest.mark.parametrize(("index", "dtype"), [(np.int32, np.float32), (np.int64, np.float64)])
def test_types_of_sparse_rows_agree(backend, index, dtype):
    """Indices of 32 and 64 bits; parameters of sparse rows are float64 for float32 data too."""
    X = rows_of_data(density=0.3, dtype=dtype)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    assert_agree(backend, X, *SOME, rtol=1e-9 if dtype == np.float64 else 1e-5)
    assert run(backend, X, *SOME)[0].dtype == np.float64


@each_of({"limits": {"safety": (0.02, 0.1, 0.5)}}, {"limits": {"clip_norm": 0.2}})
@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam()], ids=repr)
def test_settings_agree_on_sparse_rows(backend, settings, optimizer):
    settings = dict(settings)
    plan = plan_of(optimizer, **settings.pop("limits", {}))
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, plan=plan, **settings)


EXACT = [(part, penalty) for part in LINEAR for penalty in (ElasticNet(), ElasticNet(1.0, 0.0))] + [
    (part, penalty)
    for part in LINEAR
    if part.lazy_l1
    for penalty in (ElasticNet(0.0, 0.05), ElasticNet(1.0, 0.02), ElasticNet(0.0, 5.0))
]


@pytest.mark.parametrize(("optimizer", "penalty"), EXACT, ids=repr)
def test_sparse_rows_give_what_dense_rows_give(backend, optimizer, penalty):
    """The exact lazy updates, over so many steps that the scaled state is made explicit several times."""
    X = rows_of_data(density=0.15, d=40)
    _, _, response = update(optimizer, 0.0, 0.0, (0.0,) * n_slots(optimizer), (1.0,) * n_coefficients(optimizer))
    plan = plan_of(optimizer, n_epochs=30, rate=0.5 / response, batch_size=3)
    for ours, n_epochs in ((backend, 30), (base, 2)):
        some = plan if n_epochs == 30 else plan_of(optimizer, n_epochs=n_epochs, batch_size=3)
        expected = run(base, X.toarray(), Logistic(), optimizer, penalty, some)
        assert_same(run(ours, X, Logistic(), optimizer, penalty, some), expected, rtol=1e-8)
    if 0 < penalty.l1 < 1:
        zeros = expected[0][0, :, :-1] == 0
        assert 0 < zeros[:, :-1].sum() < zeros.size - 1


def test_untouched_coordinates_of_adaptive_solvers_stay(backend):
    """Their lazy semantics: moments, decay and prox act on the coordinates that a batch touches."""
    X = rows_of_data(density=0.3)
    for verbs in (base, backend):
        params, _ = run(verbs, X, Logistic(), Adam())
        np.testing.assert_array_equal(params[:, :, D - 1], start_of(Logistic(), Adam())[:, :, D - 1])
        moved, _ = run(verbs, X.toarray(), Logistic(), Adam())
        assert np.all(moved[0, :, D - 1] != params[0, :, D - 1])


def test_the_cost_of_sparse_rows_does_not_grow_with_the_features(backend):
    """A million features of which few occur: no array of the size of the data is filled in every step."""
    X = rows_of_data(density=0.3)
    wide = sparse.csr_matrix((X.data, X.indices, X.indptr), shape=(N, 1_000_000))
    params, _ = run(backend, wide, *SOME, penalty=ElasticNet(0.1, 0.0))
    narrow, _ = run(backend, X, *SOME, penalty=ElasticNet(0.1, 0.0))
    assert params.shape[2] == 1_000_001
    assert np.isfinite(params).all()
    assert narrow.shape[2] == D + 1


def test_steps_that_measure(backend):
    """Dense: the norm of each gradient, the rows of each 2nd batch; sparse: those of the last 16. A bound: all rows."""
    free, bound = (plan_of(SGD(), n_epochs=6, safety=safety) for safety in (NO_BOUND, (0.5, 0.1, 1.0)))
    steps = np.arange(len(free.offsets) - 1)
    assert len(steps) > 2 * base.MEASURED_STEPS
    for verbs in (base, backend):
        _, dense = run(verbs, rows_of_data(), Logistic(), SGD(), plan=free)
        np.testing.assert_array_equal(np.isnan(dense.square_norms), False)
        np.testing.assert_array_equal(np.isnan(dense.row_squares), steps % 2 != 0)
        _, dense = run(verbs, rows_of_data(), Logistic(), SGD(), plan=bound)
        np.testing.assert_array_equal(np.isnan(dense.row_squares), False)
        _, thin = run(verbs, rows_of_data(density=0.3), Logistic(), SGD(), plan=free)
        np.testing.assert_array_equal(np.isnan(thin.square_norms), steps < len(steps) - 16)
        np.testing.assert_array_equal(np.isnan(thin.row_squares), steps < len(steps) - 16)
        _, thin = run(verbs, rows_of_data(density=0.3), Logistic(), SGD(), plan=bound)
        np.testing.assert_array_equal(np.isnan(thin.row_squares), False)


def test_a_few_steps_are_all_measured():
    few, single = (plan_of(SGD(), n_epochs=1, batch_size=size) for size in (20, 1))
    assert base.measures_rows(few).all()
    assert base.measures_rows(single).all()


# -- threads


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("batch_size", [100, 130, 517, 3000])
def test_the_number_of_threads_changes_no_bit(dtype, batch_size):
    X = rows_of_data(3000, dtype=dtype)
    order = keyed_order(3000, KEYS)
    plan = plan_of(ScheduleFree(), 3000, batch_size, n_epochs=1, order=order, safety=(0.08, 0.5, 1.0), clip_norm=0.5)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 3000)
    expected, expected_stats = run(cpu, X, *SOME, plan=plan, weights=weights)
    for n_threads in (2, 3, 16):
        params, stats = run(cpu, X, *SOME, plan=plan, weights=weights, n_threads=n_threads)
        np.testing.assert_array_equal(params, expected)
        for ours, theirs in zip(stats, expected_stats, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_threads_and_batches_of_one_row_and_of_many(backend):
    """A row alone is not added up: threads must not look for it where they add."""
    X, sizes = rows_of_data(400), np.array([1, 180, 1, 2, 216])
    coefficients, _ = ScheduleFree().coefficients(np.full(5, 0.1), sizes, None)
    plan = Plan(explicit_order(np.random.default_rng(9).permutation(400)), np.append(0, np.cumsum(sizes)), coefficients)
    assert_agree(backend, X, *SOME, plan=plan)
    expected, _ = run(backend, X, *SOME, plan=plan)
    np.testing.assert_array_equal(run(backend, X, *SOME, plan=plan, n_threads=2)[0], expected)


@pytest.mark.parametrize("batch_size", [127, 128, 600, 3000])
def test_large_batches_agree(backend, batch_size):
    """They are cut into slices, whose gradients are added up."""
    X = rows_of_data(3000)
    plan = plan_of(ScheduleFree(), 3000, batch_size, n_epochs=1, safety=(0.08, 0.5, 1.0))
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 3000)
    assert_agree(backend, X, *SOME, plan=plan, weights=weights)


def test_n_jobs_changes_no_bit():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 4))
    y = rng.integers(2, size=5000)
    settings = {"batch_size": 600, "max_iter": 3, "tol": None, "random_state": 0}
    fits = [MiniBatchSGDClassifier(n_jobs=n_jobs, **settings).fit(X, y).coef_ for n_jobs in (None, 1, 2, 3, -1)]
    for coef in fits[1:]:
        np.testing.assert_array_equal(coef, fits[0])


# -- what is not finite (N5: fastmath must not delete the checks)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("density", [1.0, 0.3], ids=["dense", "sparse"])
@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam()], ids=repr)
def test_n5_the_step_that_is_not_finite_is_named(backend, number, density, optimizer):
    X = rows_of_data(density=density)
    plan = plan_of(optimizer, batch_size=8, n_epochs=1)
    position = 50
    row = plan.rows.explicit[position]
    if density < 1:
        X.data[X.indptr[row]] = number
    else:
        X[row, 2] = number
    step = int(np.searchsorted(plan.offsets, position, side="right")) - 1
    for verbs in (base, backend):
        with np.errstate(all="ignore"):
            _, stats = run(verbs, X, Logistic(), optimizer, plan=plan)
        assert stats.failed == step


@pytest.mark.parametrize("density", [1.0, 0.3], ids=["dense", "sparse"])
def test_n5_a_divergence_is_seen(backend, density):
    X = rows_of_data(density=density)
    plan = plan_of(ScheduleFree(), rate=1e5, n_epochs=60)
    for verbs in (base, backend):
        with np.errstate(all="ignore"):
            _, stats = run(verbs, X, SquaredError(), ScheduleFree(), plan=plan)
        assert 0 < stats.failed < plan.offsets.size - 1


def test_n5_nan_in_data_that_skipped_validation_is_an_error():
    from sklearn import config_context

    X, y = rows_of_data().copy(), targets_of(Logistic())
    X[7, 1] = np.nan
    with config_context(assume_finite=True), pytest.raises(ValueError, match=r"[Ff]loating-point|NaN"):
        MiniBatchSGDClassifier(learning_rate="constant", eta0=0.1).fit(X, y)


# -- specialisations


def kernels() -> dict:
    from skminibatch.backends.cpu.linear import dense, losses
    from skminibatch.backends.cpu.linear import sparse as csr

    return {
        "run": dense.run,
        "run_linear": csr.run_linear,
        "run_lazy": csr.run_lazy,
        "dense": losses.dense,
        "csr": losses.csr,
    }


def compiled() -> dict[str, set]:
    return {name: set(kernel.cached.signatures) | set(kernel.uncached.signatures) for name, kernel in kernels().items()}


def layouts(X, tmp_path):
    """The same numbers in other memory."""
    read_only = X.copy()
    read_only.flags.writeable = False
    strided = np.zeros((2 * X.shape[0], 3 * X.shape[1]))
    strided[::2, ::3] = X
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "F.npy", np.asfortranarray(X))
    return {
        "read-only": read_only,
        "Fortran": np.asfortranarray(X),
        "strided": strided[::2, ::3],
        "reversed": X[::-1].copy()[::-1],
        "mapped": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "mapped, Fortran": np.load(tmp_path / "F.npy", mmap_mode="r"),
        "big-endian": X.astype(">f8"),
        "list": X.tolist(),
    }


def test_layouts_share_one_specialisation(tmp_path, binary):
    classifier = MiniBatchSGDClassifier(max_iter=2, tol=None, random_state=0)
    expected, before = classifier.fit(*binary).coef_, compiled()
    for name, X in layouts(np.array(binary.X), tmp_path).items():
        for y in (binary.y, binary.y.astype(np.int8), np.repeat(binary.y, 2)[::2]):
            np.testing.assert_array_equal(classifier.fit(X, y).coef_, expected, err_msg=name)
    classifier.fit(binary.X, binary.y, sample_weight=np.ones(240))
    classifier.fit(binary.X, binary.y, sample_weight=np.arange(240) % 2)
    classifier.partial_fit(binary.X[:17], binary.y[:17])
    assert compiled() == before


def test_sparse_layouts_share_one_specialisation(binary):
    """CSR, CSC and COO, matrices and arrays, unsorted and duplicate entries, read-only."""
    classifier = MiniBatchSGDClassifier(max_iter=2, tol=None, random_state=0)
    X = sparse.csr_matrix(np.where(np.abs(binary.X) < 0.7, 0, binary.X))
    expected, before = classifier.fit(X, binary.y).coef_, compiled()
    unsorted = X.copy()
    for i in range(X.shape[0]):
        row = slice(X.indptr[i], X.indptr[i + 1])
        unsorted.indices[row], unsorted.data[row] = X.indices[row][::-1], X.data[row][::-1]
    unsorted.has_sorted_indices = False
    doubled = sparse.csr_matrix((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape)
    frozen = X.copy()
    for array in (frozen.data, frozen.indices, frozen.indptr):
        array.flags.writeable = False
    for given in (unsorted, doubled, frozen, X.tocsc(), X.tocoo(), sparse.csr_array(X)):
        np.testing.assert_allclose(classifier.fit(given, binary.y).coef_, expected, rtol=1e-12)
    assert compiled() == before


def test_new_values_and_second_calls_compile_nothing(binary, regression):
    settings = {"max_iter": 2, "tol": None, "random_state": 0}
    for stretched in (1, 100):  # rows that are read as they are, and rows that are scaled on the way
        MiniBatchSGDClassifier(**settings).fit(stretched * binary.X, binary.y)
        MiniBatchSGDRegressor(**settings).fit(stretched * regression.X, regression.y)
    before = compiled()
    for changed in (
        {},
        {"alpha": 3},
        {"alpha": 0.5, "penalty": "l1"},
        {"penalty": "elasticnet", "l1_ratio": 0.7},
        {"penalty": None},
        {"batch_size": 7},
        {"batch_size": "full"},
        {"batch_size": 0.5},
        {"solver": ScheduleFree(0.5)},
        {"solver": ScheduleFree(interpolation=0)},
        {"learning_rate": "constant", "eta0": 1},
        {"learning_rate": "cosine"},
        {"clip_norm": 1},
        {"sampler": "blocks"},
        {"sampler": "replacement"},
        {"sampler": "sequential"},
        {"fit_intercept": False},
        {"n_jobs": 2},
        {"early_stopping": True},
        {"max_iter": 5, "tol": 0.1},
    ):
        MiniBatchSGDClassifier(**{**settings, **changed}).fit(*binary)
        MiniBatchSGDRegressor(**{**settings, **changed}).fit(*regression)
    assert compiled() == before


class Cubic(NamedTuple):
    """A loss of the user's own: a third of the absolute residual to the power of three."""

    scale: float = 1.0
    curvature = None
    task = "regression"

    def value(self, raw, y):
        return self.scale * np.abs(raw - y) ** 3 / 3

    def gradient(self, raw, y):
        return self.scale * np.abs(raw - y) * (raw - y)


def test_a_part_from_elsewhere_is_compiled_but_not_kept(regression):
    """The cache on disk would not see an edit of its formula."""
    settings = {
        "solver": "sgd",
        "learning_rate": "constant",
        "eta0": 0.01,
        "max_iter": 3,
        "tol": None,
        "random_state": 0,
    }
    before = {name: set(kernel.cached.signatures) for name, kernel in kernels().items()}
    ours = MiniBatchSGDRegressor(loss=Cubic(), **settings).fit(*regression)
    base_fit = MiniBatchSGDRegressor(loss=Cubic(), device="base", **settings).fit(*regression)
    np.testing.assert_allclose(ours.coef_, base_fit.coef_, rtol=1e-9)
    assert {name: set(kernel.cached.signatures) for name, kernel in kernels().items()} == before


PINNED = """
import json
import numpy as np
from scipy import sparse
from skminibatch import MiniBatchSGDClassifier
from skminibatch.backends.cpu import dense, losses
from skminibatch.backends.cpu import sparse as csr

rng = np.random.default_rng(0)
X, y = rng.standard_normal((50, 3)), np.arange(50) % 2
for given in (X, X.astype(np.float32), sparse.csr_matrix(X)):
    for sample_weight in (None, np.ones(50)):
        model = MiniBatchSGDClassifier(max_iter=2, tol=None).fit(given, y, sample_weight=sample_weight)
        model.partial_fit(given, y)
        model.score(given, y)
kernels = {"run": dense.run, "run_linear": csr.run_linear, "dense": losses.dense, "csr": losses.csr}
print(json.dumps({name: len(kernel.cached.signatures) for name, kernel in kernels.items()}))
"""


def test_the_number_of_specialisations_is_pinned(run_python):
    """One per type of the data (dense float64, dense float32, CSR); weights are not another one."""
    import json

    assert json.loads(run_python(PINNED)) == {"run": 2, "run_linear": 1, "dense": 2, "csr": 1}
