"""When training stops: what is left to gain, of sequences of objectives and in fits."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch import MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.models.protocol import Distance
from skminibatch.samplers import Shuffle
from skminibatch.schedules import Adaptive, Auto, Constant, ConstantSize
from skminibatch.training.state import History, Progress, Recipe, TrainState, Validated
from skminibatch.training.stopping import CAUTION, STALE, Watch, _left

T = np.arange(40.0)
CONSTANT = 10.0


@pytest.mark.parametrize("patience", [1, 3, 5])
@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.95])
def test_a_geometric_fall(ratio, patience):
    """What is left is estimated with the caution: at least what is left indeed, and at most a few times that."""
    objectives = list(1.0 + ratio**T)
    for n in range(2 * patience + 1, 40):
        left, true = _left(objectives[:n], patience), objectives[n - 1] - 1.0
        assert CAUTION * true * (1 - 1e-6) <= left or left >= (n - 1) / patience * (1 - ratio**patience) * true
        assert left <= max(CAUTION, n / patience * (ratio**-patience - 1)) * true * (1 + 1e-6)


@pytest.mark.parametrize("patience", [1, 3, 5])
def test_a_fall_as_one_over_the_checks(patience):
    """A hundred times as far as an estimate by the last decrease alone would have it after as many checks."""
    objectives = list(1.0 + 1.0 / (1.0 + np.arange(200.0)))
    for n in range(4 * patience + 1, 200, 7):
        assert _left(objectives[:n], patience) >= 0.9 * (objectives[n - 1] - 1.0)


def test_what_cannot_be_told():
    assert _left([3.0, 2.0, 1.0], 3) == np.inf  # too few checks
    assert _left([np.nan, 3.0, 2.0], 1) == np.inf  # before the first one nothing was measured
    assert _left([3.0, 2.0, 0.5], 1) == np.inf  # it falls faster and faster
    assert _left([1.0, 2.0, 1.5], 1) == np.inf  # it rose before
    assert _left([3.0, 2.0, 2.0], 1) == 0.0  # it stands still
    assert _left([3.0, 2.0, 2.5], 1) == 0.0  # or rises


def recipe(schedule=Auto(), **settings) -> Recipe:  # noqa: B008
    return Recipe(Shuffle(), schedule, ConstantSize(), **{"max_epochs": 100, "tol": 1e-3, **settings})


def checked(watch, recipe, objective, distance=(), score=np.nan, seconds=0.0, state=TrainState()):  # noqa: B008
    """The verdict at an objective."""
    progress = Progress(
        None, None, state, History(), None, loss=objective, validated=Validated(score), distance=Distance(*distance)
    )
    return watch.verdict(progress, recipe, seconds)


def stops_after(objectives, recipe, constant=CONSTANT) -> int | None:
    """The number of checks to the first reason to stop."""
    watch = Watch(constant)
    for number, objective in enumerate(objectives, start=1):
        if checked(watch, recipe, objective).reason:
            return number
    return None


@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.95])
def test_training_stops_where_the_rest_is_within_tol_of_the_gain(tol, ratio):
    """Relative to the gain over a constant prediction, and not to where training began."""
    objectives = 1.0 + ratio ** np.arange(1, 1000)
    number = stops_after(objectives, recipe(tol=tol))
    assert objectives[number - 1] - 1.0 <= tol * (CONSTANT - 1.0)
    before = number - 10
    assert before < 7 or 10 * number / 3 * (objectives[before] - 1.0) > tol * (CONSTANT - 1.0)
    scaled = stops_after(1e6 * objectives, recipe(tol=tol), 1e6 * CONSTANT)
    assert scaled == number


def test_a_slow_fall_is_not_taken_for_the_end():
    """The objective falls by less than tol of its decrease in each check from the 32nd on, and has much to gain still."""
    objectives = 1.0 + 9.0 / np.sqrt(1.0 + np.arange(1, 400))
    number = stops_after(objectives, recipe(tol=1e-2))
    assert number is None or objectives[number - 1] - 1.0 < 0.2
    assert (number or 400) > 100


def test_what_stands_still_stops():
    assert stops_after([5.0] * 20, recipe()) == 6  # twice the patience


def test_nothing_stops_without_tol():
    assert stops_after([5.0] * 50, recipe(tol=None)) is None


@pytest.mark.parametrize(("objective", "distance"), [(1.0, 0.9e-3 * 9.0 / STALE), (-5.0, 0.9e-3 * 15.0 / STALE)])
def test_a_distance_that_is_known_decides(objective, distance):
    """By residuals of earlier parameters it counts `STALE` times; it needs no sequence, and none can do without."""
    verdict = checked(Watch(CONSTANT), recipe(), objective, (np.nan, distance))
    assert verdict.converged
    assert f"{distance:.1e} above it, by its gradient and curvature" in verdict.reason
    assert "within tol=0.001 of the optimum, relative to the gain over a constant prediction" in verdict.reason
    watch = Watch(CONSTANT)
    for _ in range(50):
        assert not checked(watch, recipe(), objective, (np.nan, 1.3 * distance)).reason


def test_a_bound_decides_alone_and_an_estimate_with_the_sequence():
    bound = checked(Watch(CONSTANT), recipe(), 1.0, (0.9e-3 * 9.0, np.nan))
    assert bound.converged
    assert bound.reason.endswith("8.1e-03 above it, by the duality gap")
    falling, still = Watch(CONSTANT), Watch(CONSTANT)
    for objective in 2.0 - 0.05 * np.arange(20):
        assert not checked(falling, recipe(), objective, (1.0, 1e-6)).reason
    verdicts = [checked(still, recipe(), 2.0, (1.0, 1e-6)) for _ in range(7)]
    assert verdicts[-1].converged
    assert verdicts[-1].reason.endswith("1.0e-06 above it, by the duality gap near its coefficients")
    assert not checked(still, recipe(), 2.0, (1.0, 0.5)).reason


def test_at_the_start_of_a_stage_the_distance_is_fresh():
    progress = Progress(None, None, TrainState(), History(), None, loss=1.0)
    progress.distance = Distance(estimate=0.9e-3 * 9.0 / CAUTION)
    watch = Watch(CONSTANT)
    assert watch.at_optimum(progress, recipe()).reason
    assert not watch.at_optimum(progress, recipe(tol=None)).reason
    assert not watch.at_optimum(progress, recipe(keep_best=True)).reason


def test_rises_lower_an_automatic_rate():
    watch = Watch(CONSTANT)
    assert not checked(watch, recipe(), 5.0).stalled
    assert not checked(watch, recipe(), 5.001).stalled  # noise
    assert checked(watch, recipe(), 8.0).stalled
    assert not checked(watch, recipe(), 5.0).stalled
    watch = Watch(CONSTANT)
    assert not any(checked(watch, recipe(Constant()), objective).stalled for objective in (5.0, 6.0, 7.0))
    full = TrainState(batch_size=200, population=200.0)  # its momentum alone makes it rise
    watch = Watch(CONSTANT)
    assert not any(checked(watch, recipe(), objective, state=full).stalled for objective in (5.0, 6.0, 7.0))
    watch = Watch(CONSTANT)  # the chunks of a stream are different rows
    assert not any(checked(watch, recipe(max_epochs=1), objective).stalled for objective in (5.0, 6.0, 7.0))


def test_an_adaptive_rate_is_lowered_where_little_is_left():
    watch, falling = Watch(CONSTANT), recipe(Adaptive())
    verdicts = [checked(watch, falling, 5.0) for _ in range(14)]
    assert [v.stalled for v in verdicts].count(True) == 2
    assert not any(v.reason for v in verdicts)


def test_other_rows_begin_a_new_sequence():
    """What was measured of a sample says nothing of all rows."""
    watch = Watch(CONSTANT)
    for _ in range(5):
        checked(watch, recipe(), 5.0)
    watch.measure_anew(11.0)
    assert watch.constant == 11.0
    assert not any(checked(watch, recipe(), 5.0).reason for _ in range(6))
    assert checked(watch, recipe(), 5.0).reason


def test_scores_stop_by_patience():
    watch, early = Watch(CONSTANT), recipe(keep_best=True, tol=0.01)
    scores = [0.5, 0.6, 0.605, 0.604, 0.609]
    assert [bool(checked(watch, early, 5.0, score=score).reason) for score in scores] == [False] * 4 + [True]


def test_time_is_up():
    verdict = checked(Watch(CONSTANT), recipe(max_seconds=2.0), 5.0, seconds=2.5)
    assert verdict.reason == "stopped after max_time=2 s"


def test_worse_than_a_constant():
    def is_worse(objective, constant):
        progress = Progress(None, None, TrainState(), History(), None, loss=objective)
        return Watch(constant).is_worse_than_constant(progress)

    assert is_worse(11.5, 10.0)
    assert not is_worse(10.5, 10.0)
    assert is_worse(-8.0, -10.0)
    assert not is_worse(-9.5, -10.0)
    assert not is_worse(1e9, np.nan)


# -- fits


@pytest.mark.parametrize("estimator", [MiniBatchSGDRegressor, MiniBatchSGDClassifier])
@pytest.mark.parametrize("tol", [1e-2, 1e-5])
def test_a_fit_says_how_far_it_is_from_the_optimum(estimator, tol, regression):
    X, y = regression
    y = y if estimator is MiniBatchSGDRegressor else (y > 4).astype(int)
    ours = estimator(tol=tol, random_state=0, alpha=0.01).fit(X, y)
    best = estimator(tol=None, max_iter=60, random_state=0, alpha=0.01).fit(X, y)
    assert "above it, by its gradient and curvature" in ours.stop_reason_
    excess = ours.loss_curve_[-1] - best.loss_curve_[-1]
    p = y.mean()
    constant = np.var(y) / 2 if estimator is MiniBatchSGDRegressor else -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert excess <= tol * (constant - best.loss_curve_[-1])
    said = float(ours.stop_reason_.split(": ")[1].split()[0])
    assert excess <= STALE * said + 1e-12


def test_a_fit_with_a_kink_estimates_what_is_left(binary):
    settings = {"solver": "schedule_free", "random_state": 0, "alpha": 0.01, "max_iter": 300, "tol": 1e-2}
    ours = MiniBatchSGDClassifier(loss="hinge", **settings).fit(*binary)
    assert "the objective is estimated to fall by less than tol=0.01 of the gain over a constant" in ours.stop_reason_


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_a_warm_start_at_the_optimum_stops_soon(loss, counts):
    """The first epoch is that of another solver and leaves it a little."""
    ours = MiniBatchSGDRegressor(loss=loss, warm_start=True, random_state=0, alpha=0.01, tol=None, max_iter=40)
    coef = ours.fit(*counts).coef_.copy()
    ours.set_params(tol=1e-3, max_iter=100).fit(*counts)
    assert ours.n_iter_ <= 6
    assert "by its gradient and curvature" in ours.stop_reason_
    np.testing.assert_allclose(ours.coef_, coef, atol=0.05)


def test_networks_stop_by_patience(regression):
    """Nobody knows their optimum."""
    ours = MiniBatchMLPRegressor(hidden_layer_sizes=(3,), max_iter=500, tol=0.05, random_state=0).fit(*regression)
    assert "times its total decrease so far" in ours.stop_reason_
