"""The second stage of training, in which an optimizer that stores a residual for each row takes over from another one.

The gradient noise of such an optimizer vanishes at the optimum, so that passes go on making the model better. Near the optimum
its rate follows the curvature that the losses have there, in coordinates in which the objective is round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
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
from skminibatch.models.protocol import Distance, Model, Predictor
from skminibatch.optimizers import ScheduleFree
from skminibatch.optimizers.saga import saga_smoothness
from skminibatch.preparation.full_steps import minimised, takes_full_steps
from skminibatch.preparation.newton import newton_step
from skminibatch.preparation.rounding import gradient_in, in_round_coordinates, suits_rounding, written_out
from skminibatch.statistics.random import EXAMINED, OF_SCALE, sample_rows, stream
from skminibatch.statistics.smoothness import QUANTILE, SmoothnessConstants, smoothness
from skminibatch.statistics.visits import repeated, visits_of_rows
from skminibatch.training.state import Progress, Recipe, StageStart
from skminibatch.training.stopping import ROUNDING
from skminibatch.training.work import GradientOfAll, Training, carried_out

# of what a step along the gradient should gain by the curvature: twice as much is right where all of it was a floor
LEAST_GAIN, MOST_GAIN = 0.7, 2.2
SAMPLED, SAMPLED_PER_FEATURE = 16_384, 128  # rows of which the curvature is measured for a step
FEWEST_SAMPLED = 4  # times as many rows, from which on not all are read for that
LONG = 4.0  # times the mean
SAME, NEAR = (
    0.1,
    1e-4,
)  # the curvature is not measured anew: a gain is about what it says, or a small share of the objective
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

    def of_sample(self, rows: np.ndarray, lengths: np.ndarray, n_features: int) -> tuple[np.ndarray, RowCurvatures]:
        """Numbers of rows that stand for all of `rows`, and the curvatures with which they do.

        Rows that add much to the curvature along a direction are all among them: those whose curvature times squared length
        is far above the mean.
        """
        size = max(SAMPLED, SAMPLED_PER_FEATURE * n_features)
        if len(rows) < FEWEST_SAMPLED * size:
            return rows, self
        each = (self.near * lengths)[rows]
        is_long = each > LONG * each.mean()
        usual = rows[~is_long]
        sampled = sample_rows(len(usual), size, stream(0, OF_SCALE), usual)
        shares = np.zeros(len(self.near))
        shares[rows[is_long]], shares[sampled] = 1.0, len(usual) / size
        chosen = self._replace(near=shares * self.near, bounds=shares * self.bounds, lifts=shares * self.lifts)
        return np.flatnonzero(shares), chosen


def with_second_stage(
    recipe: Recipe, first: Model, solver: AnyPart, schedule: AnyPart, data: Data, seed: int, by_full_steps: bool
) -> Recipe:
    """The recipe in which `solver` takes over; without a smoothness the rate is explicit, and it does so at once."""
    if not isinstance(first, LinearModel):
        raise TypeError(f"{type(solver).__name__} stores a residual for each row: it needs a linear model.")
    recipe = replace(recipe, first_epochs=0 if recipe.smoothness is None else FIRST_EPOCHS)
    return replace(recipe, then=SecondStage(recipe, first, solver, schedule, data, seed, by_full_steps).start)


class SecondStage(NamedTuple):
    """The second stage of a recipe after the `first` model.

    Whatever training has come to, it starts from the coordinates of the first model: an epoch that went wrong starts it again.
    Near the optimum, the objective of a sample of the rows is too inaccurate: all rows are evaluated, once per epoch.
    ``by_full_steps``: as long as full steps gain what the curvature says, they are its epochs.
    """

    recipe: Recipe
    first: LinearModel
    solver: AnyPart
    schedule: AnyPart
    data: Data
    seed: int
    by_full_steps: bool

    def start(self, progress: Progress, least: float = LEAST) -> Training[StageStart]:
        """Where it starts; at the minimum, where that is sooner found than epochs are prepared."""
        tol, is_automatic = self.recipe.tol_of_objective, self.recipe.smoothness is not None
        if tol is not None and is_automatic and self._is_small():
            return self._at_minimum(progress, tol, least)
        return (yield from self._after_a_step(progress, least))

    def _is_small(self) -> bool:
        return suits_rounding(self.first, self.data) and takes_full_steps(self.first, self.data)

    def _at_minimum(self, progress: Progress, tol: float, least: float) -> StageStart:
        with one_of_blas():
            found = minimised(self.first, self.data, progress.predictor, tol)
        state = progress.state._replace(coefficients=None, optimizer_memory=None)
        entered = replace(progress, params=self.first.start(found.predictor), state=state, predictor=found.predictor)
        entered.loss, entered.penalty, entered.distance = found.loss, found.penalty, Distance(estimate=found.above)
        return StageStart(entered, lambda: carried_out(self._after_a_step(entered, least)).finish())

    def _after_a_step(self, progress: Progress, least: float, before: Begun | None = None) -> Training[StageStart]:
        """After a full step from the progress; `before` is what is known where it begins."""
        recipe, data = self.recipe, self.data
        given = self.first.with_optimizer(declared(self.solver).for_rows(data.n_rows))
        second = replace(recipe, schedule=self.schedule, smoothness=None, most_rows=np.inf, then=None)
        if not recipe.keep_best:
            second = replace(second, evaluation_rows=data.evaluated_rows, checks=1)
        if recipe.smoothness is None:
            begun = yield from Begun.at(given, data, progress.predictor)
            prepare = partial(_at_given_rate, begun, data, second)
        else:
            curved = cache(partial(RowCurvatures.of, given, data, progress.predictor, least))
            begun = before or (yield from Begun.at(given, data, progress.predictor))
            with one_of_blas():  # the bits of a product depend on its threads
                begun = _in_suitable_coordinates(begun, data, curved)
            begun = yield from _after_a_full_step(begun, data)
            prepare = partial(_at_automatic_rate, begun, data, second, curved, min(recipe.sizes.start, data.n_rows))
        entered = begun.entered(progress)
        entered.distance = begun.model.distance(entered.params, data, np.nan)
        if second.evaluation_rows is data.evaluated_rows and np.isfinite(begun.loss):
            entered.loss, entered.penalty = begun.loss, begun.objective - begun.loss
        elif second.evaluation_rows is not None:
            entered.loss, entered.penalty = begun.model.objective(data, second.evaluation_rows, begun.predictor)

        def finish() -> tuple[Progress, Data, Recipe]:
            begun, rows, recipe = prepare()
            memory = recipe.sampler.start(len(data.y), rows.rows, self.seed, entered.state.epoch)
            progress = begun.entered(entered)
            return replace(progress, state=progress.state._replace(sampler_memory=memory)), rows, recipe

        if not (self.by_full_steps and begun.gained.as_expected):
            return StageStart(entered, finish)
        return StageStart(entered, finish, lambda: self._after_a_step(entered, least, begun))


class Gained(NamedTuple):
    """What the full step that led to a start gained, over what the curvature says, and this over the objective."""

    ratio: float
    share: float

    @property
    def as_expected(self) -> bool:
        """Whether another one is worth as much, or next to nothing was left to gain."""
        return bool(self.share <= NOTHING or LEAST_GAIN < self.ratio < MOST_GAIN)

    @property
    def as_measured(self) -> bool:
        """Whether the curvature is still what it was measured to be."""
        return bool(self.as_expected and (abs(self.ratio - 1.0) < SAME or self.share <= NEAR))


NO_STEP = Gained(0.0, 1.0)


class Begun(NamedTuple):
    """Where the stage starts: a predictor, what is stored of the rows there, and the model that goes on.

    ``stored`` is in the coordinates of ``given``, the model of the first stage; loss and objective are those of all rows in use
    (NaN of sparse ones). ``by_sample``: the coordinates of ``model`` are those that suit a sample of the rows.
    """

    model: LinearModel
    given: LinearModel
    predictor: Predictor
    stored: Stored
    loss: float
    objective: float
    by_sample: bool = False
    gained: Gained = NO_STEP

    @classmethod
    def at(cls, given: LinearModel, data: Data, predictor: Predictor) -> Training[Begun]:
        """At a predictor, in the coordinates of the first stage."""
        stored = yield GradientOfAll(given, data, predictor)
        weight = data.weights_in_use.sum() if data.weights.size else data.n_rows
        loss = float(stored.loss / weight)
        return cls(given, given, predictor, stored, loss, loss + given.penalty_value(predictor))

    @property
    def params(self) -> np.ndarray:
        """The parameters and the mean gradient in the coordinates of the model."""
        params, mean = self.model.start(self.predictor), self.stored.mean
        if isinstance(self.model.axes, RoundCoordinates):
            mean = gradient_in(self.model.axes, self.given.plain_axes, mean)
        params[1] = mean
        return params

    def entered(self, progress: Progress) -> Progress:
        """The progress at this start."""
        state = progress.state._replace(optimizer_memory=None, reductions=0)
        return replace(progress, model=self.model, params=self.params, predictor=self.predictor, state=state)


def _in_suitable_coordinates(begun: Begun, data: Data, curved: Callable[[], RowCurvatures]) -> Begun:
    """In coordinates that suit the rows; after a full step as the curvature says, those of this one."""
    given = begun.given
    if not suits_rounding(given, data) or begun.gained.as_measured:
        return begun
    curvatures = curved()
    rows, of_rows = curvatures.of_sample(data.rows_in_use, begun.stored.lengths, given.n_features)
    model = in_round_coordinates(given, data, rows, of_rows.near, of_rows.lifts, of_rows.flatness)
    return begun._replace(model=model, by_sample=of_rows is not curvatures)


def _after_a_full_step(begun: Begun, data: Data) -> Training[Begun]:
    """After a full step, if the objective falls.

    The table needs the mean gradient, and in round coordinates a step along it is Newton's. Where the objective falls by much
    less or more than the curvature says, this tells no distance from the optimum.
    """
    model, axes = begun.model, begun.model.axes
    if not isinstance(axes, RoundCoordinates) or has_kink(model.loss):
        return begun
    w, mean = begun.params[:2]
    gradient = model.gradient_with_penalty(w, mean)
    with one_of_blas():
        step, expected = newton_step(model, data, begun.predictor, gradient)
    params = model.start(begun.predictor)
    params[0] -= step
    stepped = yield from Begun.at(begun.given, data, model.predictor(params, None))
    gain = begun.objective - stepped.objective
    gained = Gained(
        gain / max(expected, np.finfo(float).tiny), expected / max(abs(begun.objective), np.finfo(float).tiny)
    )
    if gained.share > NOTHING:
        flatness = max(axes.flatness, expected / (np.sum(gradient**2) / (2.0 * axes.curvature)))
        model = replace(model, coordinates=axes._replace(flatness=flatness if gained.as_expected else np.nan))
    # near the optimum, the objective is too coarse to tell a step that the gradient still can
    best = stepped if gain > 0 or (gained.share <= NOTHING and gain >= -ROUNDING * abs(begun.objective)) else begun
    return best._replace(model=model, by_sample=begun.by_sample, gained=gained)


def _at_given_rate(begun: Begun, data: Data, recipe: Recipe) -> tuple[Begun, Data, Recipe]:
    """The start, the rows with the table of an explicit rate, and the recipe."""
    return begun, data._replace(table=begun.stored.table), recipe


def _at_automatic_rate(
    begun: Begun, data: Data, recipe: Recipe, curved: Callable[[], RowCurvatures], batch_size: float
) -> tuple[Begun, Data, Recipe]:
    """The start, the rows as the stage visits them, with a table, and the recipe at their rate.

    Epochs need coordinates that suit each row, not those of a sample alone.
    """
    (table, _, lengths, _), model, axes, curvatures = begun.stored, begun.model, begun.model.axes, curved()
    if isinstance(axes, RoundCoordinates):
        with one_of_blas():
            if begun.by_sample:
                all_rows, (near, _, lifts, _) = data.rows_in_use, curvatures
                model = in_round_coordinates(begun.given, data, all_rows, near, lifts, axes.flatness)
            data, lengths = written_out(model, data)
    constants = _constants(model, data, curvatures.near, lengths)
    followed = TableSmoothness(constants, model.strong_convexity())
    limit = batch_size * followed.of_batch(batch_size, data.n_rows)
    each = np.sqrt(curvatures.near * curvatures.bounds) * lengths
    visits, factor = np.ones(len(each), np.int64), 1.0
    if batch_size < data.n_rows:
        factor, visits = visits_of_rows(each, limit)
    table[:, 0] = 1.0 / visits
    if visits.max() > 1:
        data = data._replace(rows=repeated(visits, data.rows_in_use))
    smoothness = followed._replace(factor=factor)
    recipe = replace(recipe, smoothness=smoothness, follows_curvature=not has_kink(model.loss))
    return begun._replace(model=model), data._replace(table=table), recipe


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
