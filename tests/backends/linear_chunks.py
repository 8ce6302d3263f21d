"""Plans, rows and parts for chunks of steps of linear models, and the comparison of a backend with ``base``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skminibatch.backends import base
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.kinds import declared
from skminibatch.contract.orders import ROUNDS, explicit_order, keyed_order
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.task import LinearTask
from skminibatch.contract.verbs import n_slots
from skminibatch.losses import LOSSES, EachOutput, Logistic, OneVsRest, Softmax, SquaredError
from skminibatch.optimizers import OPTIMIZERS, SGD, Adam, Averaging, Momentum, ScheduleFree
from skminibatch.penalties import ElasticNet
from skminibatch.training.chunks import epoch_sizes

NET = ElasticNet(0.1, 0.02)
N, D, OUTPUTS = 90, 7, 3
NOTHING = np.empty(0)
EMPTY = np.empty(0, np.int64)


def rows_of_data(n=N, d=D, density=1.0, dtype=np.float64, seed=0):
    """Rows with a bit of everything: an empty one, a column of zeros; CSR if the density is below one."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[rng.random((n, d)) > density] = 0
    X[5] = 0
    X[:, d - 1] = 0
    return sparse.csr_matrix(X, dtype=dtype) if density < 1 else X.astype(dtype)


def targets_of(loss, n=N, dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    if isinstance(loss, (OneVsRest, Softmax)):
        return rng.integers(OUTPUTS, size=(n, 1)).astype(dtype)
    shape = (n, OUTPUTS) if isinstance(loss, EachOutput) else n
    pointwise = loss.loss if isinstance(loss, EachOutput) else loss
    if type(pointwise).task == "classification":
        return rng.choice([-1.0, 1.0], size=shape).astype(dtype)
    return rng.poisson(1.5, size=shape).astype(dtype)


def plan_of(optimizer, n=N, batch_size=8, n_epochs=2, rate=0.1, order=None, **limits) -> Plan:
    sizes = np.tile(epoch_sizes(n, np.full(n, batch_size)), n_epochs)
    rates = rate / (1 + 0.05 * np.arange(sizes.size))
    coefficients, _ = optimizer.coefficients(rates, sizes, None)
    if order is None:
        rng = np.random.default_rng(2)
        order = explicit_order(np.concatenate([rng.permutation(n) for _ in range(n_epochs)]))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Plan(order, offsets, np.ascontiguousarray(coefficients, np.float64), **limits)


def start_of(loss, optimizer, d=D, dtype=np.float64):
    n_outputs = OUTPUTS if isinstance(loss, (OneVsRest, Softmax, EachOutput)) else 1
    rng = np.random.default_rng(3)
    params = np.zeros((1 + n_slots(optimizer), n_outputs, d + 1), dtype)
    params[0] = 0.1 * rng.standard_normal(params[0].shape)
    for slot, exponent in zip(params[1:], declared(optimizer).slot_exponents, strict=True):
        slot[:] = params[0] if exponent == -1 else 0
    return params


def run(backend, X, loss, optimizer, penalty=NET, plan=None, weights=NOTHING, coordinates=None, **options):
    """The parameters after a plan, and its statistics."""
    dtype = np.float64 if sparse.issparse(X) else X.dtype
    y = targets_of(loss, X.shape[0], X.dtype)
    plan = plan or plan_of(optimizer, X.shape[0])
    params = start_of(loss, optimizer, X.shape[1], dtype)
    task = LinearTask(loss, penalty, optimizer, X, y, weights, params, coordinates, **options)
    return params, carried_out(backend, task, plan)


def carried_out(backend, task: LinearTask, plan: Plan) -> StepStats:
    """The statistics of a plan on dense or sparse rows."""
    return (backend.run_csr if is_sparse(task.X) else backend.run_dense)(task, plan)


def assert_same(ours, expected, rtol=1e-9):
    (params, stats), (expected_params, expected_stats) = ours, expected
    assert expected_stats.failed == -1
    assert np.isfinite(expected_params).all()
    np.testing.assert_allclose(params, expected_params, rtol=rtol, atol=rtol)
    for name, numbers in stats._asdict().items():
        other = getattr(expected_stats, name)
        if name in ("square_norms", "row_squares"):  # dense and sparse rows measure steps of their own
            measured = np.isfinite(numbers) & np.isfinite(other)
            assert measured.any()
            numbers, other = numbers[measured], other[measured]
        np.testing.assert_allclose(numbers, other, rtol=rtol * 10, atol=rtol, err_msg=name)


def assert_agree(backend, X, loss, optimizer, rtol=1e-9, **settings):
    assert_same(run(backend, X, loss, optimizer, **settings), run(base, X, loss, optimizer, **settings), rtol)


LOSS_CASES = [cls() for cls in LOSSES.values()] + [
    Softmax(),
    OneVsRest(LOSSES["hinge"]()),
    EachOutput(SquaredError()),
    EachOutput(LOSSES["poisson"]()),
]
OPTIMIZER_CASES = [cls() for cls in OPTIMIZERS.values()] + [Averaging(SGD(), 20.0), Averaging(Adam())]
SOME = (Logistic(), ScheduleFree())  # the default of the classifier
KEYS = np.random.Philox(key=[1, 0]).random_raw(ROUNDS)
KEYED = keyed_order(N, KEYS, block=4)
KEYED_COPIES = keyed_order(N, KEYS, copies=1 << 20)
KEYED_SUBSET = keyed_order(N, KEYS, subset=np.random.default_rng(8).integers(N, size=N))
SETTINGS = [
    {"weights": np.random.default_rng(5).uniform(0.1, 3.0, N)},
    {"limits": {"weights": np.random.default_rng(6).uniform(0.1, 3.0, 2 * N)}},
    {"fit_intercept": False},
    {"limits": {"batch_size": 1}},
    {"limits": {"batch_size": 1, "clip_norm": 1.5}},
    {"limits": {"batch_size": 17}},
    {"limits": {"batch_size": N}},
    {"limits": {"order": KEYED, "n_epochs": 1}},
    {"limits": {"order": KEYED_SUBSET, "n_epochs": 1}},
    {"limits": {"order": KEYED_COPIES}},
    {"limits": {"rate": 0.0}},
]


def each_of(*settings):
    """Run a test with the usual settings and with some more."""
    return pytest.mark.parametrize(
        "settings", [*SETTINGS, *settings], ids=lambda one: ", ".join([*one, *one.get("limits", {})])
    )


LINEAR = [part for part in OPTIMIZER_CASES if declared(part).linear] + [Averaging(Momentum())]


def kinds_of_coordinates(stretched):
    """Features of four scales; the penalty follows them or does not."""
    scale = 2.0 ** np.random.default_rng(8).integers(-2, 2, D)
    return Coordinates(np.zeros(D), scale, scale if stretched else np.ones(D))
