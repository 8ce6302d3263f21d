"""Chunks of linear models on dense rows: the same results as ``base``, the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch.backends import base
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.orders import explicit_order
from skminibatch.contract.plan import Plan
from skminibatch.contract.task import LinearTask
from skminibatch.losses import EachOutput, Logistic, Softmax, SquaredError
from skminibatch.optimizers import SGD, ScheduleFree
from skminibatch.penalties import ElasticNet
from tests.backends.linear_chunks import (
    EMPTY,
    LOSS_CASES,
    NET,
    NOTHING,
    OPTIMIZER_CASES,
    SOME,
    D,
    N,
    assert_agree,
    each_of,
    plan_of,
    rows_of_data,
    run,
    start_of,
    targets_of,
)


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
        task = LinearTask(loss, NET, SGD(), X, y, weights, w[None], axes)
        ours, theirs = (
            verbs.gradient_dense(task._replace(table=table))
            for verbs, table in zip((backend, base), tables, strict=True)
        )
        np.testing.assert_allclose(tables[0], tables[1], rtol=1e-11, atol=1e-14)
        assert np.all(tables[..., 0] == 0.5)
        for mine, expected in zip(ours, theirs, strict=True):
            assert np.asarray(mine).dtype == np.asarray(expected).dtype == np.float64
            np.testing.assert_allclose(mine, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZER_CASES, ids=repr)
@pytest.mark.parametrize("penalty", [ElasticNet(), ElasticNet(0.3, 0.0), NET], ids=repr)
def test_optimizers_agree_on_dense_rows(backend, optimizer, penalty):
    assert_agree(backend, rows_of_data(), Logistic(), optimizer, penalty=penalty)


@each_of({"limits": {"clip_norm": 0.45}})
def test_settings_agree_on_dense_rows(backend, settings):
    settings = dict(settings)
    limits = settings.pop("limits", {})
    plan = plan_of(ScheduleFree(), **limits)
    assert_agree(backend, rows_of_data(), *SOME, plan=plan, **settings)
    if "clip_norm" in limits:
        _, stats = run(base, rows_of_data(), *SOME, plan=plan)
        assert 0 < np.sum(stats.square_norms > plan.clip_norm**2) < stats.losses.size


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


def test_steps_that_measure(backend):
    """Dense: the norm of each gradient, the rows of each 2nd batch; sparse: those of the last 16."""
    plan = plan_of(SGD(), n_epochs=6)
    steps = np.arange(plan.n_steps)
    assert len(steps) > 2 * base.MEASURED_STEPS
    for verbs in (base, backend):
        _, dense = run(verbs, rows_of_data(), Logistic(), SGD(), plan=plan)
        np.testing.assert_array_equal(np.isnan(dense.square_norms), False)
        np.testing.assert_array_equal(np.isnan(dense.row_squares), steps % 2 != 0)
        _, thin = run(verbs, rows_of_data(density=0.3), Logistic(), SGD(), plan=plan)
        np.testing.assert_array_equal(np.isnan(thin.square_norms), steps < len(steps) - 16)
        np.testing.assert_array_equal(np.isnan(thin.row_squares), steps < len(steps) - 16)


def test_a_few_steps_are_all_measured():
    few, single = (plan_of(SGD(), n_epochs=1, batch_size=size) for size in (20, 1))
    assert base.measures_rows(few).all()
    assert base.measures_rows(single).all()


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
    plan = plan_of(ScheduleFree(), 3000, batch_size, n_epochs=1)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 3000)
    assert_agree(backend, X, *SOME, plan=plan, weights=weights)
