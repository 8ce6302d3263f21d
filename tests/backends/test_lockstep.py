"""Several linear models on the same rows at once: each comes to what it comes to by itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from skminibatch.backends import base
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.kinds import declared
from skminibatch.contract.orders import explicit_order
from skminibatch.contract.plan import LockstepPlan, Plan, StepStats
from skminibatch.contract.task import LinearTask
from skminibatch.losses import EachOutput, Hinge, Logistic, OneVsRest, Softmax, SquaredError
from skminibatch.optimizers import SAGA, SGD, Adam, Averaging, Momentum, ScheduleFree
from skminibatch.penalties import ElasticNet
from tests.backends.linear_chunks import (
    KEYED,
    KEYED_COPIES,
    KEYED_SUBSET,
    LOSS_CASES,
    NET,
    NOTHING,
    OPTIMIZER_CASES,
    D,
    N,
    carried_out,
    kinds_of_coordinates,
    plan_of,
    rows_of_data,
    start_of,
    targets_of,
)

NOT_DUAL = [part for part in OPTIMIZER_CASES if not declared(part).dual]
SIZES = 8, 17, 1, N, 30
RNG = np.random.default_rng(11)
ROW_WEIGHTS, PLAN_WEIGHTS = RNG.uniform(0.1, 3.0, N), RNG.uniform(0.1, 3.0, 2 * N)


class Members(NamedTuple):
    """Models and a plan for each."""

    tasks: list[LinearTask]
    plans: list[Plan]

    def copied(self) -> Members:
        """With parameters and tables of their own."""
        tables = [None if task.table is None else task.table.copy() for task in self.tasks]
        tasks = [t._replace(params=t.params.copy(), table=table) for t, table in zip(self.tasks, tables, strict=True)]
        return Members(tasks, self.plans)

    def at_once(self, backend) -> tuple[Members, list[StepStats]]:
        """What they come to together."""
        after = self.copied()
        return after, backend.run_lockstep(after.tasks, LockstepPlan(tuple(self.plans)))

    def in_turn(self, backend) -> tuple[Members, list[StepStats]]:
        """What each comes to by itself."""
        after = self.copied()
        return after, [carried_out(backend, *each) for each in zip(*after, strict=True)]


def member(X, loss, optimizer, penalty=NET, weights=NOTHING, **settings) -> LinearTask:
    """A model where a chunk begins."""
    n, d = X.shape
    dtype = np.float64 if is_sparse(X) else X.dtype
    params = start_of(loss, optimizer, d, dtype)
    table = None
    if declared(optimizer).per_row:
        table = 0.1 * np.random.default_rng(4).standard_normal((n, 1 + params.shape[1])).astype(dtype)
        table[:, 0] = np.random.default_rng(5).choice([1.0, 0.5], n)
    return LinearTask(
        loss, penalty, optimizer, X, targets_of(loss, n, X.dtype), weights, params, table=table, **settings
    )


def assert_same(backend, members: Members, rtol=1e-10):
    """The same numbers together as alone, also what was not measured."""
    (ours, found), (expected, alone) = members.at_once(backend), members.in_turn(backend)
    for task, other, stats, own in zip(ours.tasks, expected.tasks, found, alone, strict=True):
        assert stats.failed == own.failed == -1
        assert np.isfinite(other.params).all()
        assert task.params.dtype == other.params.dtype
        np.testing.assert_allclose(task.params, other.params, rtol=rtol, atol=rtol)
        if other.table is not None:
            np.testing.assert_allclose(task.table, other.table, rtol=rtol, atol=rtol)
        for name in ("losses", "square_norms", "row_squares"):
            np.testing.assert_allclose(
                getattr(stats, name), getattr(own, name), rtol=10 * rtol, atol=rtol, err_msg=name
            )


def of_sizes(X, loss, optimizer, sizes=SIZES, **settings) -> Members:
    """Models that differ in their batch size and rate."""
    plans = [plan_of(optimizer, X.shape[0], size, rate=0.02 * (1 + m)) for m, size in enumerate(sizes)]
    return Members([member(X, loss, optimizer, **settings) for _ in sizes], plans)


@pytest.mark.parametrize("loss", LOSS_CASES, ids=repr)
def test_losses(backend, loss):
    """One output and several, with and without weights of rows and of positions."""
    X, optimizer = rows_of_data(), ScheduleFree()
    members = of_sizes(X, loss, optimizer)
    members.tasks[0] = members.tasks[0]._replace(weights=ROW_WEIGHTS)
    members.plans[1] = members.plans[1]._replace(weights=PLAN_WEIGHTS)
    members.tasks[4] = members.tasks[4]._replace(weights=ROW_WEIGHTS[::-1].copy())
    members.plans[4] = members.plans[4]._replace(weights=PLAN_WEIGHTS[::-1].copy())
    assert_same(backend, members)


@pytest.mark.parametrize("optimizer", NOT_DUAL, ids=repr)
@pytest.mark.parametrize("loss", [Logistic(), Softmax()], ids=repr)
def test_optimizers(backend, loss, optimizer):
    assert_same(backend, of_sizes(rows_of_data(), loss, optimizer))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_models_of_all_kinds(backend, dtype):
    """One of each optimizer, with losses, penalties, batch sizes and weights of their own."""
    X, tasks, plans = rows_of_data(dtype=dtype), [], []
    losses = Logistic(), Hinge(), SquaredError()
    penalties = ElasticNet(), ElasticNet(0.3, 0.0), NET
    for m, optimizer in enumerate(NOT_DUAL):
        task = member(X, losses[m % 3], optimizer, penalties[m % 2], ROW_WEIGHTS if m % 2 else NOTHING)
        tasks.append(task._replace(y=targets_of(Logistic(), N, dtype)))
        plans.append(plan_of(optimizer, N, SIZES[m % len(SIZES)], rate=0.05))
    assert_same(backend, Members(tasks, plans), 1e-10 if dtype is np.float64 else 1e-4)


# each pair of types and centers is a kernel: the fourth is made of what is in these
@pytest.mark.parametrize(("dtype", "center"), [(np.float64, 0.0), (np.float64, 0.3), (np.float32, 0.0)])
@pytest.mark.parametrize("optimizer", [ScheduleFree(), SAGA(), Adam()], ids=repr)
def test_coordinates(backend, optimizer, center, dtype):
    """Moved and scaled features; what the penalty acts on may differ between the models."""
    rng = np.random.default_rng(7)
    scale, centers = rng.uniform(0.5, 2.0, D), center * rng.standard_normal(D)
    members = of_sizes(rows_of_data(dtype=dtype), Logistic(), optimizer)
    for m, task in enumerate(members.tasks):
        stretch = scale if m % 2 else np.ones(D)
        members.tasks[m] = task._replace(coordinates=Coordinates(centers, scale, stretch))
    assert_same(backend, members, 1e-10 if dtype is np.float64 else 1e-4)


@pytest.mark.parametrize("loss", [Logistic(), Softmax()], ids=repr)
@pytest.mark.parametrize("optimizer", [SGD(), SAGA()], ids=repr)
def test_without_an_intercept(backend, loss, optimizer):
    members = of_sizes(rows_of_data(), loss, optimizer, fit_intercept=False)
    assert_same(backend, members)
    for after, before in zip(members.at_once(backend)[0].tasks, members.tasks, strict=True):
        np.testing.assert_array_equal(after.params[0, :, -1], before.params[0, :, -1])


def test_clipping_is_that_of_each_model(backend):
    members = of_sizes(rows_of_data(), Logistic(), ScheduleFree())
    limits = np.inf, 0.45, 1.0, 0.1, np.inf
    members = members._replace(
        plans=[plan._replace(clip_norm=limit) for plan, limit in zip(members.plans, limits, strict=True)]
    )
    assert_same(backend, members)
    _, found = members.at_once(backend)
    for stats, limit in zip(found, limits, strict=True):
        assert np.any(stats.square_norms > limit**2) == (limit < np.inf)


@pytest.mark.parametrize(
    "order",
    [KEYED, KEYED_COPIES, KEYED_SUBSET, explicit_order(np.random.default_rng(3).integers(N, size=N))],
    ids=["keyed", "copies", "subset", "explicit with repetitions"],
)
@pytest.mark.parametrize("optimizer", [ScheduleFree(), SAGA()], ids=repr)
def test_orders(backend, order, optimizer):
    X = rows_of_data()
    plans = [plan_of(optimizer, N, size, n_epochs=1, order=order) for size in SIZES]
    assert_same(backend, Members([member(X, Logistic(), optimizer) for _ in SIZES], plans))


def test_batches_that_grow_and_end_apart(backend):
    """The steps of a plan need not be of one size, and a chunk may begin within an order and end before it does."""
    X, plans = rows_of_data(400), []
    order = KEYED._replace(n_rows=400, block=1, short=400, width=20, start=57)
    for sizes in ([1, 180, 1, 2, 116], [100, 100, 100], [3] * 100, [299, 1]):
        coefficients, _ = ScheduleFree().coefficients(np.full(len(sizes), 0.1), np.array(sizes), None)
        plans.append(Plan(order, np.append(0, np.cumsum(sizes)), coefficients))
    assert_same(backend, Members([member(X, Logistic(), ScheduleFree()) for _ in plans], plans))


@pytest.mark.parametrize("n", [1, 129, 3_000])
@pytest.mark.parametrize("d", [1, 9, 64])
def test_shapes(backend, n, d):
    """Rows and features that fill groups and cache lines, and that do not."""
    X = np.random.default_rng(0).standard_normal((n, d))
    optimizer = ScheduleFree()
    plans = [plan_of(optimizer, n, size, n_epochs=1) for size in (min(n, size) for size in (32, 127, 128, 3_000))]
    assert_same(backend, Members([member(X, Logistic(), optimizer) for _ in plans], plans))


# -- sparse rows


@pytest.mark.parametrize("optimizer", [p for p in NOT_DUAL if declared(p).linear], ids=repr)
@pytest.mark.parametrize("loss", [Logistic(), OneVsRest(Hinge()), EachOutput(SquaredError())], ids=repr)
def test_sparse_rows(backend, optimizer, loss):
    """Of optimizers whose updates are not lazy."""
    penalty = ElasticNet(0.3, 0.0)
    assert not base.is_lazy(optimizer, penalty)
    X = rows_of_data(density=0.3)
    sizes = SIZES[:1] + SIZES[3:] if declared(optimizer).per_row else SIZES
    assert_same(backend, of_sizes(X, loss, optimizer, sizes, penalty=penalty), 1e-9)


@pytest.mark.parametrize("stretched", [True, False])
@pytest.mark.parametrize("optimizer", [SGD(), ScheduleFree(), Averaging(SGD(), 20.0)], ids=repr)
def test_sparse_rows_with_a_threshold_scales_weights_and_clipping(backend, optimizer, stretched):
    assert not base.is_lazy(optimizer, NET)
    X = rows_of_data(density=0.3)
    members = of_sizes(X, Logistic(), optimizer, coordinates=kinds_of_coordinates(stretched))
    members.tasks[0] = members.tasks[0]._replace(weights=ROW_WEIGHTS)
    members.plans[1] = members.plans[1]._replace(clip_norm=0.3)
    assert_same(backend, members, 1e-9)


def test_a_sparse_row_may_end_at_the_last_feature(backend):
    """And a feature may be that of one row alone; batches of one row of so few lose digits of a momentum by themselves."""
    X = sparse.csr_matrix(np.eye(N, 13, k=-3) + np.eye(N, 13, k=12))
    assert_same(backend, of_sizes(X, Logistic(), Momentum(), (8, 17, N, 30), penalty=ElasticNet(0.1, 0.0)), 1e-9)


# -- failures


@pytest.mark.parametrize("sparse_rows", [False, True])
def test_a_model_that_diverges_leaves_the_others(backend, sparse_rows):
    """It ends at the step at which it ends by itself, in the first, the middle or the last place."""
    X = rows_of_data(density=0.5) if sparse_rows else rows_of_data()
    optimizer, sizes = SGD(), (8, 10, 16, 8, 32)
    rates = np.array([1e150, 0.1, 1e200, 0.05, 1e150])
    plans = [plan_of(optimizer, N, size, rate=rate, n_epochs=4) for size, rate in zip(sizes, rates, strict=True)]
    members = Members([member(X, SquaredError(), optimizer, ElasticNet()) for _ in plans], plans)
    (ours, found), (_, alone) = members.at_once(backend), members.in_turn(backend)
    assert [stats.failed >= 0 for stats in found] == [True, False, True, False, True]
    for stats, own in zip(found, alone, strict=True):
        assert stats.failed == own.failed
        assert len(stats.losses) == len(own.losses)
    healthy = Members([members.tasks[m] for m in (1, 3)], [plans[m] for m in (1, 3)])
    expected, undisturbed = healthy.in_turn(backend)
    for m, task, own in zip((1, 3), expected.tasks, undisturbed, strict=True):
        np.testing.assert_allclose(ours.tasks[m].params, task.params, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found[m].losses, own.losses, rtol=1e-9)


def test_all_models_may_fail(backend):
    X, plan = rows_of_data(), plan_of(SGD(), rate=1e200)
    members = Members([member(X, SquaredError(), SGD(), ElasticNet())] * 2, [plan] * 2)
    _, found = members.at_once(backend)
    assert [stats.failed for stats in found] == [stats.failed for stats in members.in_turn(backend)[1]]
    assert found[0].failed >= 0


# -- gradients of all rows


@pytest.mark.parametrize("loss", LOSS_CASES, ids=repr)
@pytest.mark.parametrize("center", [None, 0.0, 0.3])
def test_gradients_of_all_rows(backend, loss, center):
    assert_same_gradients(backend, rows_of_data(), loss, center, 1e-10)


@pytest.mark.parametrize("n", [1, 15, 2_500])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients_of_few_rows_and_of_many(backend, n, dtype):
    X = np.resize(rows_of_data(dtype=dtype), (n, D))
    assert_same_gradients(backend, X, Logistic(), 0.3, 1e-10 if dtype is np.float64 else 1e-4)


def assert_same_gradients(backend, X, loss, center, rtol):
    """With models at different parameters, some with weights, some of them zero."""
    n, scale, tasks = len(X), 2.0 ** np.arange(-3, 4), []
    axes = None if center is None else Coordinates(np.full(D, center), scale, scale)
    for m in range(4):
        task = member(X, loss, SAGA(), coordinates=axes)
        weights = np.random.default_rng(m).integers(3, size=n).astype(float) if m % 2 else NOTHING
        tasks.append(task._replace(params=task.params * (1 + m), weights=weights))
    ours, own = ([task._replace(table=task.table.copy()) for task in tasks] for _ in range(2))
    for found, mine, task in zip(backend.gradients_dense(ours), ours, own, strict=True):
        expected = backend.gradient_dense(task)
        np.testing.assert_allclose(mine.table, task.table, rtol=rtol, atol=rtol)
        for number, other in zip(found, expected, strict=True):
            assert np.asarray(number).dtype == np.asarray(other).dtype == np.float64
            np.testing.assert_allclose(number, other, rtol=rtol, atol=rtol * n)
