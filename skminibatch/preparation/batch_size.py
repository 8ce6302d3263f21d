"""The batch size of 'auto', measured by a pilot before training or, for SAGA, derived from its theory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skminibatch.contract.typing import AnyPart
from skminibatch.models.data import Data
from skminibatch.models.view import gradients_of
from skminibatch.optimizers.saga import saga_costs
from skminibatch.preparation.start import Start
from skminibatch.samplers import Shuffle
from skminibatch.schedules import ConstantSize
from skminibatch.schedules.auto import FEW_ROWS, PILOT, STEPS
from skminibatch.schedules.choice import PilotNoise, SizeChoice, around
from skminibatch.statistics.random import EXAMINED, OF_PILOT, sample_rows, stream
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.loop import run_part
from skminibatch.training.noise import noise_scale_of
from skminibatch.training.state import Diverged, Recipe, TrainState
from skminibatch.training.work import carried_out

ROWS_PER_PILOT, MOST_PILOTS = 50_000, 3  # where there are many rows, their pilots cost little: the median counts
PILOTS_OF_INTERVAL = 8  # where an interval is asked for; to a fit, they would cost more than a better choice saves
AS_FAST = 1.05  # times the time of the fastest epoch
# Where `fit` chooses the solver, the size hardly matters in this range: measured by `benchmarks/auto_batch_size.py`
OPEN_RANGE = 64, 512


def chosen_size(
    part: AnyPart,
    start: Start,
    schedule: AnyPart,
    smoothness: SmoothnessConstants | None,
    population: float,
    fewest: int,
    goal: str | None = None,
) -> SizeChoice:
    """The size that ``batch_size='auto'`` takes for rows like those in the sample, and why; parameters stay as they are.

    It is at least `fewest`, one row of each stratum where the sampler draws from strata. With a `goal`, nothing but the
    choice is asked for, and its noise scale has an interval.
    """
    if start.sampled.size < PILOT:
        size = int(min(max(PILOT, fewest), population))
        return SizeChoice(size, 1, size, "there were too few to measure the noise", goal or "time")
    noise = noise_after_pilots(start, schedule, smoothness, goal is not None)
    choice = part.chosen(noise, population, *start.model.cost_of_rows(start.data), goal or "time")
    if choice.batch_size < fewest:
        high = max(choice.high, fewest)
        choice = replace(choice, batch_size=fewest, low=fewest, high=high, reason="one of each stratum")
    return choice


def noise_after_pilots(
    start: Start, schedule: AnyPart, smoothness: SmoothnessConstants | None, with_interval: bool
) -> PilotNoise:
    """The noise scale after a pilot: the median of three where there are many rows, with an interval from further ones."""
    n_first = max(1, min(start.data.n_rows // ROWS_PER_PILOT, MOST_PILOTS))
    pilots = _pilots(start, PILOTS_OF_INTERVAL if with_interval else n_first)
    return PilotNoise.of([noise_scale_after_a_pass(pilot, schedule, smoothness) for pilot in pilots], n_first)


def _pilots(start: Start, count: int) -> list[Start]:
    """The start with its sample, and with others of the same size: other rows, or the same ones in another order."""
    data, seed = start.data, start.seed
    samples = [sample_rows(data.X.shape[0], EXAMINED, stream(seed, OF_PILOT, k), data.rows) for k in range(1, count)]
    return [start, *(start._replace(sampled=rows, seed=seed + k) for k, rows in enumerate(samples, start=1))]


def derived_size(part: AnyPart, start: Start, smoothness: SmoothnessConstants, goal: str = "time") -> SizeChoice:
    """The size that ``batch_size='auto'`` takes for an optimizer with a table, and why."""
    row_length, kind = start.model.cost_of_rows(start.data)
    costs = part.step_costs(kind)
    each = costs.of(row_length) if goal == "time" else np.minimum(costs.batch_sizes, start.data.n_rows)
    times = (costs.batch_sizes, each)
    sizes, totals = saga_costs(smoothness, start.model.strong_convexity(), start.data.n_rows, times)
    size = int(sizes[np.argmin(totals)])
    why = "by the smoothness of batches (Gazagnadou et al. 2019) and the time of a step"
    if goal == "rows":
        size = int(sizes[totals <= FEW_ROWS * totals.min()].max())
        why = (
            f"by the smoothness of batches (Gazagnadou et al. 2019), larger ones read over {FEW_ROWS - 1:.0%} more rows"
        )
    return SizeChoice(size, reason=why, goal=goal, **around(size, sizes, totals))


def open_size(part: AnyPart, start: Start, population: float, goal: str = "time") -> SizeChoice:
    """The size that ``batch_size='auto'`` takes where `fit` chooses the solver, and why.

    After an epoch of SGD, full steps or SAGA go on. The smallest batches that make this epoch about as fast as any leave the
    most steps in it.
    """
    row_length, kind = start.model.cost_of_rows(start.data)
    costs = part.step_costs(kind)
    of_epoch = costs.of(row_length) / costs.batch_sizes
    most = max(1, int(population / STEPS))
    size = min(int(costs.batch_sizes[np.argmax(of_epoch <= AS_FAST * of_epoch.min())]), most)
    low, high = min(OPEN_RANGE[0], size), max(min(OPEN_RANGE[1], most), size)
    return SizeChoice(
        size, low, high, "one epoch of SGD is followed by full steps or SAGA, to which it hardly matters", goal
    )


def any_size(n_rows: int, why: str, goal: str = "time") -> SizeChoice:
    """The size that ``batch_size='auto'`` takes for a method to which it makes no difference, and why."""
    return SizeChoice(min(EXAMINED, n_rows), 1, n_rows, why, goal)


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
