"""An epoch whose automatic rate was far too large is done once more at a quarter of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skminibatch import MiniBatchSGDRegressor
from skminibatch.schedules import Auto, Constant
from skminibatch.training.loop import ATTEMPTS, FALL, training
from skminibatch.training.state import Diverged
from skminibatch.training.work import carried_out
from tests.begun import begun, trained, with_recipe

SETTINGS = {"device": "base", "random_state": 0, "batch_size": 10, "alpha": 1e-3, "tol": None, "max_iter": 3}


def problem(solver="sgd", **settings):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    y = X @ [1.0, -1.0, 0.5] + 2.0 + 0.3 * rng.standard_normal(200)
    return begun(MiniBatchSGDRegressor(solver=solver, **{**SETTINGS, **settings}), X, y)


def constant_objective(start) -> float:
    return sum(start.model.objective(start.data, np.empty(0, np.int64), start.recipe.constant))


@pytest.mark.parametrize("solver", ["sgd", "momentum", "schedule_free"])
@pytest.mark.parametrize("excess", [100.0, 1e3, 1e4])
def test_a_rate_that_is_far_too_large_ends_below_the_constant(solver, excess):
    """With its rate it diverges, or ends above a constant prediction."""
    start = problem(solver)
    usual = start.recipe.schedule.multiple
    schedule = Auto(excess * usual, power=0.5)
    progress = trained(start, schedule=schedule)
    assert progress.objective < 0.5 * constant_objective(start)
    assert progress.state.reductions >= FALL
    with np.errstate(all="ignore"):
        try:
            alone = trained(start, schedule=schedule, constant=None, max_epochs=1).objective
        except Diverged:
            alone = np.inf
    assert alone > 1.1 * constant_objective(start)


def test_an_epoch_that_is_done_again_counts_once():
    start = problem()
    seen = []
    progress = trained(
        start, lambda one: bool(seen.append((one.state.epoch, one.state.samples))), schedule=Auto(100.0, power=0.5)
    )
    assert seen == [(1, 200), (2, 400), (3, 600)]
    assert [*progress.history.arrays()["samples"]] == [200, 400, 600]
    assert len(progress.history) == 3
    assert progress.state.step == 60


def test_it_begins_where_the_epoch_began():
    """With as many reductions from the beginning, the same bits."""
    start = problem()
    progress = trained(start, schedule=Auto(100.0), max_epochs=1)
    n = progress.state.reductions
    assert n % FALL == 0
    state = start.fitted.state._replace(reductions=n)
    recipe = replace(start.recipe, schedule=Auto(100.0), max_epochs=1)
    begun = start.fitted.params.copy(), recipe, state, start.fitted.history.copied()
    again = carried_out(training(start.model, start.data, *begun))
    assert again.state.reductions == n
    np.testing.assert_array_equal(again.params, progress.params)


def test_the_second_stage_is_done_again_too():
    """With its table as it was at the start of the stage."""
    start = problem("saga", max_iter=8)
    honest = start.recipe.then

    def then(progress, least):
        return with_recipe(honest(progress, least), schedule=Auto(60.0))

    progress = trained(start, then=then)
    assert progress.state.reductions >= FALL
    usual = trained(start)
    assert progress.objective < usual.objective + 0.01 * (constant_objective(start) - usual.objective)


def test_a_rate_of_ones_own_is_left_alone():
    """It is not the business of training to change it."""
    start = problem(learning_rate="constant", eta0=1e6)
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        trained(start, max_epochs=3)
    start = problem(learning_rate="constant", eta0=0.9)
    progress = trained(start, schedule=Constant(0.9), max_epochs=1)
    assert progress.state.reductions == 0


def test_attempts_end():
    """No rate helps where the loss is not finite."""
    start = problem()
    y = start.data.y.copy()
    y[3] = 1e200
    calls = []
    model = type(start.model)
    honest = model.run

    class Counted(model):
        def run(self, plan, params, data):
            calls.append(plan.rates[-1])
            return honest(self, plan, params, data)

    counted = Counted(**vars(start.model))
    start = start._replace(fitted=replace(start.fitted, model=counted), data=start.data._replace(y=y))
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        trained(start, schedule=Auto(1e300))
    assert len(calls) == ATTEMPTS
    np.testing.assert_allclose(np.divide(calls[1:], calls[:-1]), 2.0 ** -(FALL * np.ones(ATTEMPTS - 1)), rtol=1e-9)


def test_a_fit_of_counts_that_the_start_does_not_foresee():
    """Rare counts of a few features: the curvature on the way is far above that of the start."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 3)) * [1.0, 3.0, 1.0]
    y = rng.poisson(np.exp(X @ [0.5, 0.8, 0.0] - 3.0)).astype(float)
    ours = MiniBatchSGDRegressor(loss="poisson", random_state=0, alpha=1e-3, tol=None, max_iter=20, device="base")
    ours.fit(X, y)
    constant = y.mean() - y.mean() * np.log(y.mean())
    assert ours.loss_curve_[-1] < constant
    assert np.all(np.isfinite(ours.loss_curve_))
