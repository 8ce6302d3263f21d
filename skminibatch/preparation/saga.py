"""The second stage of training, in which an optimizer that stores a residual for each row takes over from another one."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from skminibatch.contract.kinds import declared
from skminibatch.contract.typing import AnyPart
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.models.protocol import Model
from skminibatch.optimizers import ScheduleFree
from skminibatch.optimizers.saga import repeated, saga_smoothness, saga_visits
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.state import Progress, Recipe

FIRST_EPOCHS = 1  # before the table is made, where the rate is automatic


def staged(model: Model) -> tuple[Model, AnyPart | None]:
    """The model of the first epochs, and the optimizer that takes over (None: the model's own optimizer stays).

    The residuals at a point that another optimizer has reached are a better start than those at zero: the first pass of
    SAGA alone gains a tenth of what a pass of schedule-free SGD gains.
    """
    if not declared(model.optimizer).per_row:
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


def with_table(recipe: Recipe, solver: AnyPart, schedule: AnyPart, data: Data, seed: int) -> Recipe:
    """The recipe in which `solver` takes over; without a smoothness the rate is explicit, and it does so at once.

    Near the optimum, the objective of a sample of the rows is too inaccurate: where it decides when to stop, all rows are
    evaluated, once per epoch.
    """
    recipe = replace(recipe, first_epochs=0 if recipe.smoothness is None else FIRST_EPOCHS)
    if recipe.tol is not None and not recipe.keep_best:
        all_rows = np.empty(0, np.int64) if data.rows is None else data.rows
        recipe = replace(recipe, evaluation_rows=all_rows, checks=1)

    def then(progress: Progress) -> tuple[Progress, Data, Recipe]:
        if not isinstance(progress.model, LinearModel):
            raise TypeError(f"{type(solver).__name__} stores a residual for each row: it needs a linear model.")
        model = progress.model.with_optimizer(declared(solver).for_rows(data.n_rows))
        table, mean_gradient, row_smoothness = model.stored(data, progress.predictor)
        params = model.start(progress.predictor)
        params[1] = mean_gradient
        state, rows, smoothness = progress.state._replace(optimizer_memory=None), data.rows, None
        if recipe.smoothness is not None:
            smoothness = TableSmoothness(recipe.smoothness, model.strong_convexity())
            size = min(recipe.sizes.start, data.n_rows)
            factor, visits = saga_visits(row_smoothness, smoothness.of_batch(size, data.n_rows), size)
            table[:, 0], smoothness = 1.0 / visits, smoothness._replace(factor=factor)
            rows = repeated(visits, data.rows)
        if rows is not data.rows:
            state = state._replace(sampler_memory=recipe.sampler.start(len(table), rows, seed, state.epoch))
        progress = replace(progress, model=model, params=params, state=state)
        second = replace(recipe, schedule=schedule, smoothness=smoothness)
        return progress, data._replace(table=table, rows=rows), second

    return replace(recipe, then=then)
