"""When the second stage begins anew, and what happens if its rate was too large."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.models.curvature import CAUTIOUS, LEAST
from skminibatch.training.loop import Renewals
from tests.begun import begun, trained, with_recipe


def epochs(gains_by_steps: list[float], gains_by_epochs: list[float]) -> list[float]:
    """The epochs after which a stage begins, by what full steps gain and what the epochs before them do."""
    start = begun(MiniBatchSGDRegressor(device="base"), *rows())
    renewals, objective, found = Renewals(start.recipe), 1.0, []
    for by_step, by_epochs in zip(gains_by_steps, gains_by_epochs, strict=True):
        found.append(renewals.next)
        renewals.happened(objective - by_epochs, objective - by_epochs - by_step)
        objective -= by_epochs + by_step
    return found


def rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 4))
    return X, X @ [1.0, -1.0, 0.5, 0.0] + 0.3 * rng.standard_normal(300)


def test_parts_become_longer_where_their_epochs_gain_most():
    assert epochs([0.0] * 5, [0.1, 0.02, 0.01, 0.005, 0.002]) == [1, 2, 4, 8, 16]


def test_parts_have_one_epoch_where_the_full_step_gains_most():
    assert epochs([0.1] * 5, [0.1, 0.02, 0.01, 0.01, 0.01]) == [1, 2, 3, 4, 5]
    assert epochs([0.1, 0.0, 0.0, 0.1, 0.0], [0.1, 0.02, 0.01, 0.01, 0.01]) == [1, 2, 4, 8, 9]


def test_rounding_is_no_gain():
    assert epochs([1e-17] * 4, [0.1, 0.0, 0.0, 0.0]) == [1, 2, 4, 8]


def test_a_rate_of_ones_own_is_not_renewed():
    start = begun(MiniBatchSGDRegressor(solver="saga", learning_rate="constant", eta0=0.01, device="base"), *rows())
    assert Renewals(start.recipe).next == np.inf


def test_curvatures_count_for_more_where_the_objective_rises():
    """The loss of Huber has curvature 0 or 1: where all rows are far from the kink, what it is there says nothing."""
    X, y = rows()
    settings = {"loss": "huber", "epsilon": 0.05, "device": "base", "random_state": 0, "tol": None, "max_iter": 6}
    start, seen = begun(MiniBatchSGDRegressor(**settings), X[:60], y[:60]), []
    honest = start.recipe.then

    def then(progress, least):
        seen.append(least)
        return honest(progress, least)

    progress = trained(start, then=then)
    assert seen[0] == LEAST
    assert seen[-1] == CAUTIOUS
    assert np.all(np.diff(progress.history.arrays()["loss"][1:]) < 1e-3)
    bold = trained(start, then=lambda progress, _: with_recipe(honest(progress, LEAST), follows_curvature=False))
    assert bold.objective > progress.objective


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 64, 1000])
def test_classes_that_are_nearly_separable_end_at_the_optimum(n_classes, batch_size):
    """There the curvature is far below its bound, and falls on the way."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((900, 6))
    raw = X @ rng.standard_normal(6)
    y = np.digitize(raw, np.quantile(raw, np.arange(1, n_classes) / n_classes))
    settings = {"device": "base", "random_state": 0, "batch_size": batch_size}
    ours = MiniBatchSGDClassifier(**settings).fit(X, y)
    assert ours.n_iter_ < 30
    best = MiniBatchSGDClassifier(**settings, tol=1e-7).fit(X, y)
    penalised = [5e-5 * np.sum(one.coef_**2) + one.loss_curve_[-1] for one in (ours, best)]
    assert penalised[0] - penalised[1] < 1e-3 * np.log(n_classes)


def test_full_steps_are_epochs_while_they_gain_what_the_curvature_says():
    """One update of all rows each, and a small share of what was left to gain is left."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 8)) * np.exp(rng.standard_normal(8))
    y = (X[:, 0] + rng.logistic(size=2000) > 0).astype(int)
    settings = {"max_iter": 6, "tol": None, "random_state": 0, "batch_size": 100}
    history = MiniBatchSGDClassifier(**settings).fit(X, y).history_
    np.testing.assert_array_equal(history["batch_size"], [100] + [2000] * 5)
    np.testing.assert_array_equal(np.diff(history["updates"]), 1)
    np.testing.assert_array_equal(np.diff(history["samples"]), 2000)
    objective = history["loss"] + history["penalty"]
    excess = objective - MiniBatchSGDClassifier(random_state=0, tol=1e-12).fit(X, y).loss_curve_.min()
    assert np.all(excess[1:4] < np.maximum(0.2 * excess[:3], 1e-12))


@pytest.mark.parametrize("settings", [{"loss": "hinge"}, {"penalty": "l1", "alpha": 1e-3}, {"solver": "saga"}], ids=str)
def test_other_problems_have_epochs_of_batches(settings):
    """Where a loss has a kink or a penalty is not smooth, or the solver was asked for."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 4))
    y = (X[:, 0] + rng.logistic(size=3000) > 0).astype(int)
    model = MiniBatchSGDClassifier(max_iter=4, tol=None, random_state=0, batch_size=100, **settings).fit(X, y)
    assert model.n_updates_ >= 4 * 30
