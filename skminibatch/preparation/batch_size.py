"""The batch size of 'auto', measured by a pilot before training or, for SAGA, derived from its theory."""

from __future__ import annotations

import numpy as np

from skminibatch.contract.typing import AnyPart
from skminibatch.models.data import Data
from skminibatch.models.view import gradients_of
from skminibatch.optimizers.saga import saga_batch_size
from skminibatch.preparation.start import Start
from skminibatch.samplers import Shuffle
from skminibatch.schedules import ConstantSize
from skminibatch.schedules.auto import PILOT
from skminibatch.statistics.random import EXAMINED, OF_PILOT, sample_rows, stream
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.loop import run_part
from skminibatch.training.noise import noise_scale_of
from skminibatch.training.state import Diverged, Recipe, TrainState
from skminibatch.training.work import carried_out

ROWS_PER_PILOT, MOST_PILOTS = 50_000, 3  # where there are many rows, their pilots cost little: the median counts


def chosen_size(
    part: AnyPart,
    start: Start,
    schedule: AnyPart,
    smoothness: SmoothnessConstants | None,
    population: float,
    fewest: int,
) -> tuple[ConstantSize, str]:
    """The size that ``batch_size='auto'`` takes for rows like those in the sample, and why; parameters stay as they are.

    It is at least `fewest`, one row of each stratum where the sampler draws from strata.
    """
    if start.sampled.size < PILOT:
        size = min(max(PILOT, fewest), population)
        return ConstantSize(
            float(size)
        ), f"batch_size='auto' took {size:g} rows: there were too few to measure the noise"
    noise = float(np.median([noise_scale_after_a_pass(pilot, schedule, smoothness) for pilot in _pilots(start)]))
    size, why = part.chosen(noise, population, *start.model.cost_of_rows(start.data))
    if size < fewest:
        size, why = fewest, f"batch_size='auto' took {fewest} rows: one of each stratum"
    return ConstantSize(float(size)), why


def _pilots(start: Start) -> list[Start]:
    """The start with its sample, and with others of the same size where there are many rows."""
    data, seed = start.data, start.seed
    count = max(1, min(data.n_rows // ROWS_PER_PILOT, MOST_PILOTS))
    samples = [sample_rows(data.X.shape[0], EXAMINED, stream(seed, OF_PILOT, k), data.rows) for k in range(1, count)]
    return [start, *(start._replace(sampled=rows, seed=seed + k) for k, rows in enumerate(samples, start=1))]


def derived_size(part: AnyPart, start: Start, smoothness: SmoothnessConstants) -> tuple[ConstantSize, str]:
    """The size that ``batch_size='auto'`` takes for an optimizer with a table, and why."""
    row_length, kind = start.model.cost_of_rows(start.data)
    costs = part.step_costs(kind)
    times = (costs.batch_sizes, costs.of(row_length))
    size = saga_batch_size(smoothness, start.model.strong_convexity(), start.data.n_rows, times)
    return ConstantSize(float(size)), (
        f"batch_size='auto' took {size} rows: by the smoothness of batches (Gazagnadou et al. 2019) and the time of a step"
    )


def any_size(n_rows: int, why: str) -> tuple[ConstantSize, str]:
    """The size that ``batch_size='auto'`` takes for a method to which it makes no difference, and why."""
    size = min(EXAMINED, n_rows)
    return ConstantSize(float(size)), f"batch_size='auto' took {size} rows: {why}"


def noise_scale_after_a_pass(start: Start, schedule: AnyPart, smoothness: SmoothnessConstants | None) -> float:
    """The noise scale after a pass over the sample; infinite where the gradient is zero, or training fails."""
    model, X, params = start.model.without_absent_features(start.data.X[start.sampled], start.params)
    data = Data(X, start.data.y[start.sampled], start.data.weights_of(start.sampled))
    n = start.sampled.size
    recipe = Recipe(Shuffle(), schedule, ConstantSize(float(PILOT)), smoothness=smoothness)
    memory = recipe.sampler.start(n, None, start.seed)
    state = TrainState(population=float(n), sampler_memory=memory)
    try:
        state, _, _ = carried_out(run_part(model, data, params, recipe, state, n, n))
    except Diverged:
        return np.inf
    return noise_scale_of(gradients_of(model, data, model.predictor(params, state.coefficients)), n)
