"""What an estimator prepares before its first step, and the optimum of a smooth objective."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from skminibatch.estimators.base import BaseMiniBatchEstimator
from skminibatch.models.data import Data
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.models.view import gradients_of
from skminibatch.preparation.begin import Fitted
from skminibatch.training.loop import training
from skminibatch.training.state import Progress, Recipe, StageStart
from skminibatch.training.work import Training, carried_out

STEPS, HALVINGS = 60, 40


class Begun(NamedTuple):
    """What training begins with."""

    fitted: Fitted
    data: Data
    recipe: Recipe

    @property
    def model(self):
        return self.fitted.model

    def gradients(self, predictor=None) -> LinearGradients:
        """Those of all rows, each once, at a predictor (None: where training starts)."""
        predictor = self.model.predictor(self.fitted.params, None) if predictor is None else predictor
        used = self.data.rows_in_use
        data = self.data._replace(rows=np.unique(used), step_weights=None)
        return gradients_of(self.model, data, predictor)

    def then(self, progress: Progress) -> StageStart:
        """Where the second stage starts."""
        return carried_out(self.recipe.then(progress))

    def progress(self, predictor) -> Progress:
        """As if an epoch had ended at a predictor."""
        return Progress(
            self.model, self.model.start(predictor), self.fitted.state, self.fitted.history.copied(), predictor
        )


def begun(estimator, X, y, sample_weight=None) -> Begun:
    """What `fit` has prepared when its first step is due."""
    kept = []

    def keep(self, *prepared):
        kept.extend(prepared)
        return iter(())

    with patch.object(BaseMiniBatchEstimator, "_training", keep):
        estimator.fit(X, y, sample_weight=sample_weight)
    return Begun(*kept[:3])


def trained(start: Begun, *on_epoch, **recipe) -> Progress:
    """Progress after the recipe with something changed."""
    fitted = start.fitted
    changed = replace(start.recipe, **recipe)
    begun = fitted.params.copy(), changed, fitted.state, fitted.history.copied()
    return carried_out(training(start.model, start.data, *begun, *on_epoch))


def with_recipe(stage: Training[StageStart], **changes) -> Training[StageStart]:
    """A second stage whose recipe has something changed."""
    started = yield from stage

    def finish():
        progress, data, recipe = started.finish()
        return progress, data, replace(recipe, **changes)

    return started._replace(finish=finish)


def gradient_of(at: LinearGradients) -> np.ndarray:
    """Of the smooth objective (p,)."""
    return at.loss_gradient() + at.penalty_gradient()


def optimum_of(at: LinearGradients) -> LinearGradients:
    """The same at the optimum of its smooth objective, by Newton's method."""
    point, enough = at.point, 1e-15 * np.abs(gradient_of(at)).max()
    for _ in range(STEPS):
        if np.abs(gradient_of(at)).max() <= enough:
            break
        hessian = at.hessian_matrix()
        hessian[np.diag_indices(len(hessian))] += 1e-14 * np.trace(hessian)
        step, value = np.linalg.solve(hessian, gradient_of(at)), at.smooth_objective()
        for halving in range(HALVINGS):
            there = at.at(point - step * 0.5**halving)
            if there.smooth_objective() <= value + 1e-15 * abs(value):
                break
        point, at = there.point, there
    return at
