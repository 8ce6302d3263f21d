"""Linear chunks on the GPU, compared with ``base``: on a GPU where one answers, else with each CUDA thread as a fiber."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import sparse

from skminibatch.backends import base
from skminibatch.backends.gpu import compile as compiled
from skminibatch.backends.gpu import device, linear
from skminibatch.backends.gpu.source import structs
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.orders import explicit_order, keyed_order
from skminibatch.losses import LOSSES, EachOutput, Hinge, Logistic, Poisson, Softmax, SquaredError
from skminibatch.optimizers import SAGA, SGD, Adam, AdamW, Averaging, Momentum, ScheduleFree
from skminibatch.penalties import ElasticNet
from tests.backends import linear_chunks as shared
from tests.backends.gpu.custom_parts import Halved, Lion, Looking, PseudoHuber, Smoothed
from tests.emulated import cupy as emulated
from tests.emulated import nvrtc

KINDS = ("narrow", "wide", "sparse")
OPTIMIZERS = [*shared.OPTIMIZER_CASES, Averaging(Momentum())]
ON_GPU = device.problem() is None
pytestmark = pytest.mark.skipif(not ON_GPU and emulated.COMPILER is None, reason="neither a GPU nor a C++ compiler")


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """CuPy, or its stand-in, with small blocks."""
    if not ON_GPU:
        monkeypatch.setattr(device, "cupy", lambda: emulated)
        monkeypatch.setattr(linear, "THREADS", 128)
    for kept in (compiled.module_of, compiled._kernel):
        kept.cache_clear()
    yield device.cupy()
    for kept in (compiled.module_of, compiled._kernel):
        kept.cache_clear()


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    """Which kernel carries out a plan."""
    use(request.param, monkeypatch)
    return request.param


@pytest.fixture(params=["narrow", "wide"])
def dense_kind(request, monkeypatch):
    use(request.param, monkeypatch)
    return request.param


def use(kind, monkeypatch):
    monkeypatch.setattr(linear, "is_narrow", lambda *shape: kind == "narrow")


def use_blocks(count, monkeypatch):
    for name in ("n_narrow_blocks", "n_wide_blocks", "n_sparse_blocks"):
        monkeypatch.setattr(linear, name, lambda *shape: count)


def rows_for(kind, **settings):
    return shared.rows_of_data(density=0.3 if kind == "sparse" else 1.0, **settings)


def assert_agree(X, loss, optimizer, rtol=1e-9, **settings):
    ours = shared.run(linear, X, loss, optimizer, **settings)
    shared.assert_same(ours, shared.run(base, X, loss, optimizer, **settings), rtol)
    return ours


def bits(found):
    params, stats = found
    return [params.tobytes(), *(np.asarray(numbers).tobytes() for numbers in stats)]


# -- parts


@pytest.mark.parametrize("loss", shared.LOSS_CASES, ids=repr)
def test_losses_agree(loss, kind):
    plan = shared.plan_of(SGD(), n_epochs=1)
    assert_agree(rows_for(kind), loss, SGD(), plan=plan)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_optimizers_agree(optimizer, kind):
    for penalty in (ElasticNet(), ElasticNet(0.3, 0.0), shared.NET):
        assert_agree(rows_for(kind), Logistic(), optimizer, penalty=penalty)


def test_custom_parts_agree(kind):
    assert_agree(rows_for(kind), PseudoHuber(0.5), Looking())
    assert_agree(rows_for(kind), EachOutput(PseudoHuber(3.0)), Lion(), penalty=Smoothed())
    assert_agree(rows_for(kind), PseudoHuber(), Halved(Momentum()))


@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam(), AdamW()], ids=repr)
def test_float32_agrees(optimizer, dense_kind):
    params, stats = assert_agree(rows_for(dense_kind, dtype=np.float32), Softmax(), optimizer, rtol=1e-4)
    assert params.dtype == np.float32
    assert all(numbers.dtype == np.float64 for numbers in stats[:3])


def test_sparse_float32_agrees():
    """The parameters are float64; `base` squares the rows as they are."""
    assert_agree(rows_for("sparse", dtype=np.float32), Logistic(), ScheduleFree(), rtol=1e-8)


def test_wide_indices_agree():
    X = rows_for("sparse")
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    assert_agree(X, Logistic(), ScheduleFree())


def test_other_values_compile_nothing(kind):
    X = rows_for(kind)
    shared.run(linear, X, LOSSES["huber"](0.5), Momentum(0.8), ElasticNet(0.1, 0.1))
    before = compiled.module_of.cache_info().misses
    assert_agree(X, LOSSES["huber"](0.2), Momentum(0.7), penalty=ElasticNet(0.2, 0.3))
    assert compiled.module_of.cache_info().misses == before


# -- settings


@shared.each_of(
    {"limits": {"batch_size": 7}},
    {"limits": {"batch_size": 64}},
    {"limits": {"batch_size": 30, "n_epochs": 1}},  # an odd number of steps: the last state stands in the second place
    {"limits": {"clip_norm": 0.45}},
)
@pytest.mark.parametrize("blocks", [1, 3])
def test_settings_agree(settings, kind, blocks, monkeypatch):
    use_blocks(blocks, monkeypatch)
    settings = dict(settings)
    plan = shared.plan_of(ScheduleFree(), **settings.pop("limits", {}))
    assert_agree(rows_for(kind), *shared.SOME, plan=plan, **settings)


@pytest.mark.parametrize("stretched", [True, False])
@pytest.mark.parametrize("centered", [True, False])
def test_coordinates_agree(dense_kind, stretched, centered):
    rng = np.random.default_rng(7)
    scale = rng.uniform(0.5, 2.0, shared.D)
    center = rng.standard_normal(shared.D) * centered
    coordinates = Coordinates(center, scale, scale if stretched else np.ones(shared.D))
    assert_agree(rows_for(dense_kind), Logistic(), ScheduleFree(), coordinates=coordinates)
    assert_agree(rows_for(dense_kind), Logistic(), Adam(), coordinates=coordinates)


@pytest.mark.parametrize("stretched", [True, False])
@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam(), Averaging(Momentum())], ids=repr)
def test_coordinates_agree_on_sparse_rows(optimizer, stretched):
    coordinates = shared.kinds_of_coordinates(stretched)
    assert_agree(rows_for("sparse"), Logistic(), optimizer, coordinates=coordinates, penalty=ElasticNet(0.1, 0.02))


@pytest.mark.parametrize("shape", [(90, 70), (300, 33), (40, 1), (200, 100)])
@pytest.mark.parametrize("loss", [SquaredError(), EachOutput(SquaredError())], ids=repr)
def test_shapes_agree(shape, loss, kind, monkeypatch):
    """Several registers a row, several tiles a warp, sums of a few outputs at a time, more than one unit of coordinates."""
    use_blocks(3, monkeypatch)
    monkeypatch.setattr(linear, "SUMS_BYTES", 2 * 8 * 4 * (shape[1] + 1))
    n, d = shape
    X = rows_for(kind, n=n, d=d) / np.sqrt(d)
    plan = shared.plan_of(SGD(), n=n, batch_size=n // 2 + 1, n_epochs=1)
    assert_agree(X, loss, SGD(), plan=plan)


def test_sparse_columns_of_all_magnitudes_agree():
    """The unit of the sums follows the numbers of a column and the residuals of a batch."""
    X = rows_for("sparse", n=60) @ sparse.diags(10.0 ** np.array([-9, -5, -2, 0, 3, 6, 1]))
    X = sparse.csr_matrix(X)
    plan = shared.plan_of(Adam(), n=60, rate=1e-4)
    assert_agree(X, SquaredError(), Adam(), plan=plan)


def test_sparse_rows_of_all_weights_agree():
    """The residuals of a batch differ by many orders of magnitude; an update by Adam does not depend on their unit."""
    n, d = shared.N, 18
    weights = 10.0 ** -(np.arange(n) % d)
    X = sparse.csr_matrix(np.tile(np.eye(d), (n // d, 1)) * np.random.default_rng(3).uniform(1, 2, (n, 1)))
    optimizer = Adam(epsilon=1e-200)
    plan = shared.plan_of(optimizer, batch_size=d, order=explicit_order(np.tile(np.arange(n), 2)))
    assert_agree(X, Logistic(), optimizer, weights=weights, penalty=ElasticNet(), plan=plan)


# -- blocks and threads


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_the_same_bits_whatever_thread_comes_first(kind, blocks, monkeypatch):
    use_blocks(blocks, monkeypatch)
    X, plan = rows_for(kind), shared.plan_of(Adam(), batch_size=20, clip_norm=0.5)
    found = assert_agree(X, Softmax(), Adam(), plan=plan)
    monkeypatch.setattr(emulated.settings, "order", 1)
    assert bits(shared.run(linear, X, Softmax(), Adam(), plan=plan)) == bits(found)


@pytest.mark.parametrize("kind", ["wide"])
def test_gradients_do_not_depend_on_the_number_of_blocks(kind, monkeypatch):
    use(kind, monkeypatch)
    X, found = rows_for(kind), []
    for blocks in (1, 3):
        use_blocks(blocks, monkeypatch)
        found.append(shared.run(linear, X, *shared.SOME)[0].tobytes())
    assert found[0] == found[1]


def test_a_chunk_is_one_launch(dense_kind):
    before = emulated.settings.launches
    shared.run(linear, rows_for(dense_kind), *shared.SOME)
    assert ON_GPU or emulated.settings.launches == before + 1


def test_numbers_of_blocks():
    most = linear._multiprocessors()
    for size in (1, 100, 10_000, 10_000_000):
        for d in (1, 100, 10_000):
            for K in (1, 10):
                counts = linear.n_narrow_blocks(size, K, d), linear.n_wide_blocks(size, 4, K, d)
                assert all(1 <= count <= most for count in (*counts, linear.n_sparse_blocks(size, d)))
    assert linear.n_narrow_blocks(256, 1, 100) == 1
    assert linear.n_narrow_blocks(65_536, 1, 100) == most


def test_shapes_of_the_kernels(monkeypatch):
    shapes = [(np.float32, 1, 512), (np.float64, 1, 256), (np.float32, 10, 100), (np.float64, 5, 100)]
    assert all(linear.is_narrow(*shape) for shape in shapes)
    shapes = [(np.float32, 1, 513), (np.float64, 1, 257), (np.float32, 10, 784), (np.float32, 1000, 2)]
    assert not any(linear.is_narrow(*shape) for shape in shapes)


# -- what is not finite


@pytest.mark.parametrize("loss", [SquaredError(), Hinge()], ids=repr)
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("clip_norm", [np.inf, 0.3])
@pytest.mark.parametrize("number", [np.inf, -np.inf])
def test_a_step_that_fails_is_not_made(loss, kind, blocks, clip_norm, number, monkeypatch):
    """With one sign or the other the hinge loss of the row is zero; its gradient is zero times infinity all the same."""
    use_blocks(blocks, monkeypatch)
    X = rows_for(kind).copy()
    if sparse.issparse(X):
        X.data[X.indptr[50]] = number
    else:
        X[50, 2] = number
    plan = shared.plan_of(ScheduleFree(), clip_norm=clip_norm)
    with np.errstate(invalid="ignore"):
        (params, stats), (expected, expected_stats) = (
            shared.run(backend, X, loss, ScheduleFree(), plan=plan) for backend in (linear, base)
        )
    assert stats.failed == expected_stats.failed > 0
    np.testing.assert_allclose(params, expected, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(stats[:3], expected_stats[:3], strict=True):
        for steps in (slice(None, stats.failed), slice(stats.failed + 1, None)):
            np.testing.assert_allclose(ours[steps], theirs[steps], rtol=1e-9)


def test_a_loss_that_overflows_fails(kind):
    X = rows_for(kind)
    plan = shared.plan_of(SGD(), rate=1e200)
    stats = [shared.run(backend, X, Poisson(), SGD(), plan=plan)[1] for backend in (linear, base)]
    assert stats[0].failed == stats[1].failed > 0


# -- losses


@pytest.mark.parametrize("loss", [Logistic(), Softmax(), EachOutput(Poisson())], ids=repr)
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_losses_of_rows_agree(loss, density):
    X = shared.rows_of_data(density=density)
    verb = "loss_csr" if sparse.issparse(X) else "loss_dense"
    w = shared.start_of(loss, SGD())[0]
    for weights in (shared.NOTHING, np.random.default_rng(4).uniform(0, 2, shared.N)):
        for rows in (shared.EMPTY, np.array([3, 1, 80])):
            arguments = loss, X, shared.targets_of(loss), weights, rows, w[:, :-1], w[:, -1]
            np.testing.assert_allclose(getattr(linear, verb)(*arguments), getattr(base, verb)(*arguments), rtol=1e-12)


def test_rows_may_come_twice_in_a_batch(kind):
    rows = np.random.default_rng(9).integers(shared.N, size=2 * shared.N)
    assert_agree(rows_for(kind), *shared.SOME, plan=shared.plan_of(ScheduleFree(), order=explicit_order(rows)))


# -- tables of residuals


WEIGHTS = np.random.default_rng(5).uniform(0.1, 3.0, shared.N)
REPEATED = {
    "with replacement": explicit_order(np.random.default_rng(9).integers(shared.N, size=2 * shared.N)),
    "one row": explicit_order(np.full(2 * shared.N, 7)),
    "keyed": shared.KEYED_SUBSET,
    "copies": shared.KEYED_COPIES,
}


def run_with_table(backend, X, loss, dtype=np.float64, **settings):
    """The parameters after a plan, its statistics, and the table."""
    rng, optimizer = np.random.default_rng(11), SAGA(float(X.shape[0]))
    settings = {"plan": shared.plan_of(optimizer, X.shape[0]), **settings}
    table = rng.standard_normal((X.shape[0], 1 + shared.start_of(loss, optimizer).shape[1])).astype(dtype)
    table[:, 0] = rng.choice([1.0, 0.5, 0.2], X.shape[0])
    stored = table if backend is base else device.cupy().asarray(table)
    found = shared.run(backend, X, loss, optimizer, table=stored, **settings)
    return *found, device.cupy().asnumpy(stored)


def assert_tables_agree(X, loss, rtol=1e-9, **settings):
    ours, theirs = (run_with_table(backend, X, loss, **settings) for backend in (linear, base))
    assert np.isfinite(theirs[0]).all()
    assert np.isnan(ours[1].square_norms).all()
    for mine, expected in zip((ours[0], ours[2], *ours[1]), (theirs[0], theirs[2], *theirs[1]), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=10 * rtol, atol=rtol)
    return ours


@pytest.mark.parametrize("loss", [Logistic(), Softmax(), EachOutput(SquaredError())], ids=repr)
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"weights": WEIGHTS, "penalty": ElasticNet(0.3, 0.0)},
        {"limits": {"batch_size": 30}, "fit_intercept": False},
    ],
    ids=list,
)
def test_tables_agree(settings, loss, blocks, kind, monkeypatch):
    use_blocks(blocks, monkeypatch)
    settings = dict(settings)
    plan = shared.plan_of(SAGA(float(shared.N)), **settings.pop("limits", {}))
    assert_tables_agree(rows_for(kind), loss, plan=plan, **settings)


@pytest.mark.parametrize("order", REPEATED.values(), ids=REPEATED)
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_row_that_comes_again_finds_what_was_stored(order, blocks, kind, monkeypatch):
    """In one batch, wherever its visits are carried out, and whatever thread comes first."""
    use_blocks(blocks, monkeypatch)
    X, optimizer = rows_for(kind), SAGA(float(shared.N))
    plan = shared.plan_of(optimizer, batch_size=40, n_epochs=1 if order.subset.size else 2, order=order)
    found = assert_tables_agree(X, Softmax(), plan=plan)
    monkeypatch.setattr(emulated.settings, "order", 1)
    again = run_with_table(linear, X, Softmax(), plan=plan)
    assert bits(again[:2]) == bits(found[:2])
    assert again[2].tobytes() == found[2].tobytes()


def test_visits_are_counted_in_each_batch():
    order = explicit_order([4, 4, 1, 4, 1, 4, 2, 1])
    plan = shared.plan_of(SGD(), n=8, n_epochs=1, order=order)._replace(offsets=np.array([0, 4, 5, 8]))
    np.testing.assert_array_equal(linear._visits(plan), [3, 0, 1, 0, 1, 1, 1, 1])
    assert not linear._visits(plan._replace(rows=explicit_order(np.arange(8)))).size
    assert not linear._visits(plan._replace(rows=keyed_order(8, shared.KEYS))).size
    assert not linear._visits(plan._replace(rows=keyed_order(8, shared.KEYS, subset=np.arange(9, 1, -1)))).size
    same = linear._visits(plan._replace(rows=keyed_order(8, shared.KEYS, subset=np.zeros(8, np.int64))))
    np.testing.assert_array_equal(same, [4, 0, 0, 0, 1, 3, 0, 0])
    copies = linear._visits(plan._replace(rows=keyed_order(1, shared.KEYS, copies=8)))
    np.testing.assert_array_equal(copies, [4, 0, 0, 0, 1, 3, 0, 0])


def test_tables_agree_in_coordinates(dense_kind):
    scale = np.random.default_rng(7).uniform(0.5, 2.0, shared.D)
    assert_tables_agree(rows_for(dense_kind), Logistic(), coordinates=Coordinates(scale - 1.0, scale, scale))


def test_tables_of_float32_agree(dense_kind):
    X = rows_for(dense_kind, dtype=np.float32)
    params, _, table = assert_tables_agree(X, Softmax(), rtol=1e-5, dtype=np.float32)
    assert params.dtype == table.dtype == np.float32


def test_a_table_of_large_residuals_bounds_the_sums():
    """What a residual changed by may be far larger than the residual itself."""
    X, optimizer = rows_for("sparse"), SAGA(float(shared.N))
    start, ends = 1e9 * np.random.default_rng(12).standard_normal((shared.N, 2)), []
    start[:, 0] = 1.0
    plan = shared.plan_of(optimizer, batch_size=60, rate=1e-9, n_epochs=1)
    for backend, place in ((linear, device.cupy().asarray), (base, np.array)):
        ends.append(shared.run(backend, X, Logistic(), optimizer, plan=plan, table=place(start))[0])
    np.testing.assert_allclose(*ends, rtol=1e-9)


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_step_with_a_table_that_fails_is_not_made(blocks, kind, monkeypatch):
    use_blocks(blocks, monkeypatch)
    X = rows_for(kind).copy()
    if sparse.issparse(X):
        X.data[X.indptr[50]] = np.inf
    else:
        X[50, 2] = np.inf
    with np.errstate(invalid="ignore"):
        ours, theirs = (run_with_table(backend, X, SquaredError()) for backend in (linear, base))
    assert ours[1].failed == theirs[1].failed > 0
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-9, atol=1e-12)


# -- the compiler of NVIDIA


CASES = {
    "linear/narrow.cu": {"OUTPUTS": 1, "TARGETS": 1, "COLUMNS": 4, "ROWS": 8},
    "linear/wide.cu": {"OUTPUTS": 4},
    "linear/sparse.cu": {"OUTPUTS": 4, "LAZY": 1},
    "linear/sum_of_losses.cu": {"OUTPUTS": 1},
}


TAKEN = [
    (name, table, *each)
    for name in CASES
    for table in (0, 1)
    for each in nvrtc.TYPES
    if not (name == "linear/sum_of_losses.cu" and table)
    and not (name == "linear/sparse.cu" and each[1] == "float32")  # whose parameters are float64
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "table", "architecture", "dtype"), TAKEN)
def test_a_gpu_takes_the_kernels(name, table, architecture, dtype):
    constants = {"THREADS": 512, "TABLE": table, **CASES[name]}
    if name == "linear/narrow.cu" and dtype == "float64":
        constants["ROWS"] = 4
    parts = {"Loss": Logistic(), "Penalty": ElasticNet(), "Optimizer": SAGA() if table else Averaging(Adam())}
    types = "typedef float Value;\ntypedef int Column;\n"
    files = ["rows.cu", "sums.cu", *(["linear/chunk.cu"] if name != "linear/sum_of_losses.cu" else []), name]
    source = compiled.source_of(constants, types + structs(parts, dtype), *files)
    _, log = nvrtc.compile(source, architecture, "--ptxas-options=-v")
    assert "warning" not in log
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill stores", log)]
    assert spilled
    assert max(spilled) <= 64
