"""The second stage of training, in which an optimizer that stores a residual for each row takes over from another one.

The gradient noise of such an optimizer vanishes at the optimum, so that passes go on making the model better. Near the optimum
its rate follows the curvature that the losses have there, in coordinates in which the objective is round.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from skminibatch.backends.threads import one_of_blas
from skminibatch.contract.coordinates import RoundCoordinates
from skminibatch.contract.kinds import declared
from skminibatch.contract.typing import AnyPart
from skminibatch.models.curvature import (
    LEAST,
    curvature_bounds,
    curvatures,
    has_kink,
    kink_curvature,
    typical_curvature,
)
from skminibatch.models.data import Data, outputs_of_all
from skminibatch.models.linear import LinearModel, Stored
from skminibatch.models.protocol import Model, Predictor
from skminibatch.optimizers import ScheduleFree
from skminibatch.optimizers.saga import saga_smoothness
from skminibatch.preparation.newton import newton_step
from skminibatch.preparation.rounding import in_round_coordinates, suits_rounding
from skminibatch.statistics.random import EXAMINED, OF_SCALE, sample_rows, stream
from skminibatch.statistics.smoothness import QUANTILE, SmoothnessConstants, smoothness
from skminibatch.statistics.visits import repeated, visits_of_rows
from skminibatch.training.state import Progress, Recipe

# of what a step along the gradient should gain by the curvature: twice as much is right where all of it was a floor
LEAST_GAIN, MOST_GAIN = 0.7, 2.2
NOTHING = 1e-10  # relative size of a gain in which rounding counts
FIRST_EPOCHS = 1  # before the table is made, where the rate is automatic


def staged(model: Model) -> tuple[Model, AnyPart | None]:
    """The model of the first epochs, and the optimizer that takes over (None: the model's own optimizer stays).

    The residuals at a point that another optimizer has reached are a better start than those at zero: the first pass of
    SAGA alone gains a tenth of what a pass of schedule-free SGD gains.
    """
    if not declared(model.optimizer).per_row or declared(model.optimizer).dual:
        return model, None
    return model.with_optimizer(ScheduleFree()), model.optimizer


class TableSmoothness(NamedTuple):
    """The smoothness that the rate of SAGA follows, see `saga_smoothness`, times a factor that very long rows need."""

    smoothness: SmoothnessConstants
    strong_convexity: float
    factor: float = 1.0

    def of_batch(self, batch_size: float, n_rows: float) -> float:
        """The smoothness that the rate is inversely proportional to."""
        return self.factor * saga_smoothness(self.smoothness, self.strong_convexity, batch_size, n_rows)


class RowCurvatures(NamedTuple):
    """Of the weighted loss of each row by its raw outputs, float64 (n,): zero of rows that are not in use.

    ``near`` is what it is at the present parameters, and at least a share of ``bounds``; ``lifts`` are what it was raised by
    for that. ``flatness``: of the stiffest output of each row in the mean, over that of the flattest output; NaN: not known.
    """

    near: np.ndarray
    bounds: np.ndarray
    lifts: np.ndarray
    flatness: float

    @classmethod
    def of(cls, model: LinearModel, data: Data, predictor: tuple, least: float = LEAST) -> RowCurvatures:
        """Those at a predictor; `least` is the share of their bounds that they count as at least: they change on the way."""
        raw, used, unit = outputs_of_all(data, *predictor), data.weights_in_use, 1.0
        used = used if used.size else np.ones(len(data.y))
        if has_kink(model.loss):
            in_use = data.rows_in_use
            typical = typical_curvature(model.loss, data.y[in_use])
            unit = kink_curvature(model.loss, data.y[in_use], raw[in_use], used[in_use], typical)
        bounds = curvature_bounds(model.loss, data.y, raw)
        found = curvatures(model.loss, data.y, raw, used, bounds)
        near = np.maximum(found.largest, least * bounds)
        mean, flattest = float(found.largest @ used) / len(used), found.flattest
        flatness = mean / flattest if flattest > 0 else np.nan
        return cls(unit * used * near, unit * used * bounds, unit * used * (near - found.largest), flatness)


def with_second_stage(
    recipe: Recipe, first: Model, solver: AnyPart, schedule: AnyPart, data: Data, seed: int
) -> Recipe:
    """The recipe in which `solver` takes over; without a smoothness the rate is explicit, and it does so at once.

    Whatever training has come to, the stage starts from the coordinates of the first model: an epoch that went wrong starts it
    again. Near the optimum, the objective of a sample of the rows is too inaccurate: all rows are evaluated, once per epoch.
    """
    recipe = replace(recipe, first_epochs=0 if recipe.smoothness is None else FIRST_EPOCHS)

    def then(progress: Progress, least: float = LEAST) -> tuple[Progress, Data, Recipe]:
        if not isinstance(first, LinearModel):
            raise TypeError(f"{type(solver).__name__} stores a residual for each row: it needs a linear model.")
        model = first.with_optimizer(declared(solver).for_rows(data.n_rows))
        second = replace(recipe, schedule=schedule, smoothness=None, most_rows=np.inf, then=None)
        if not recipe.keep_best:
            second = replace(second, evaluation_rows=data.evaluated_rows, checks=1)
        if recipe.smoothness is None:
            predictor, stored = progress.predictor, model.stored(data, progress.predictor)
            rows = data._replace(table=stored.table)
        else:
            size = min(recipe.sizes.start, data.n_rows)
            with one_of_blas():  # the bits of a product depend on its threads
                model, rows, predictor, stored, second = _at_automatic_rate(
                    model, data, progress.predictor, second, size, least
                )
        params = model.start(predictor)
        params[1] = stored.mean
        state = progress.state._replace(optimizer_memory=None, reductions=0)
        memory = recipe.sampler.start(len(data.y), rows.rows, seed, state.epoch)
        state = state._replace(sampler_memory=memory)
        return replace(progress, model=model, params=params, predictor=predictor, state=state), rows, second

    return replace(recipe, then=then)


def _at_automatic_rate(
    model: LinearModel, data: Data, predictor: tuple, recipe: Recipe, batch_size: float, least: float
) -> tuple[LinearModel, Data, Predictor, Stored, Recipe]:
    """The model in coordinates that suit it, its rows with a table, what these start from, and the recipe at their rate."""
    curvatures = RowCurvatures.of(model, data, predictor, least)
    if suits_rounding(model, data):
        model, data = in_round_coordinates(model, data, curvatures.near, curvatures.lifts, curvatures.flatness)
    model, predictor, stored = _after_a_full_step(model, data, predictor)
    constants = _constants(model, data, curvatures.near, stored.lengths)
    followed = TableSmoothness(constants, model.strong_convexity())
    limit = batch_size * followed.of_batch(batch_size, data.n_rows)
    each = np.sqrt(curvatures.near * curvatures.bounds) * stored.lengths
    visits, factor = np.ones(len(each), np.int64), 1.0
    if batch_size < data.n_rows:
        factor, visits = visits_of_rows(each, limit)
    stored.table[:, 0] = 1.0 / visits
    if visits.max() > 1:
        data = data._replace(rows=repeated(visits, data.rows_in_use))
    data = data._replace(table=stored.table)
    recipe = replace(recipe, smoothness=followed._replace(factor=factor), follows_curvature=not has_kink(model.loss))
    return model, data, predictor, stored, recipe


def _after_a_full_step(model: LinearModel, data: Data, predictor: Predictor) -> tuple[LinearModel, Predictor, Stored]:
    """Where the stage starts: the table needs the mean gradient, and in round coordinates a step along it is Newton's.

    It is taken if the objective falls; then the table is made where it leads to. Where the objective falls by much less or more
    than the curvature says, this tells no distance from the optimum.
    """
    stored, axes = model.stored(data, predictor), model.axes
    if not isinstance(axes, RoundCoordinates) or has_kink(model.loss):
        return model, predictor, stored
    params = model.start(predictor)
    gradient = model.gradient_with_penalty(params[0], stored.mean)
    step, expected = newton_step(model, data, predictor, gradient)
    params[0] -= step
    stepped, rows = model.predictor(params, None), data.evaluated_rows
    before = sum(model.objective(data, rows, predictor))
    gain = before - sum(model.objective(data, rows, stepped))
    if expected > NOTHING * abs(before):
        flatness = max(axes.flatness, expected / (np.sum(gradient**2) / (2.0 * axes.curvature)))
        flatness = flatness if LEAST_GAIN < gain / expected < MOST_GAIN else np.nan
        model = replace(model, coordinates=axes._replace(flatness=flatness))
    if not gain > 0:
        return model, predictor, stored
    return model, stepped, model.stored(data, stepped)


def _constants(model: LinearModel, data: Data, near: np.ndarray, lengths: np.ndarray) -> SmoothnessConstants:
    """The smoothness of the objective as it is near the present parameters."""
    in_use, ridge = data.rows_in_use, model.ridge()
    each = (near * lengths)[in_use]
    worst = max(float(np.quantile(each, QUANTILE)), float(each.mean())) + ridge
    if isinstance(model.axes, RoundCoordinates):
        return SmoothnessConstants(model.axes.curvature, max(worst, model.axes.curvature), float(each.mean()))
    sampled = sample_rows(len(data.y), EXAMINED, stream(0, OF_SCALE), data.rows)
    Z = model.axes.transform(data.X[sampled])
    return smoothness(Z, near[sampled], ridge, model.fit_intercept)._replace(worst=worst)
