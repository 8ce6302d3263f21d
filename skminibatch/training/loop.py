"""The loop over epochs and chunks of steps: the only one, for every estimator.

It is a coroutine: it yields the plans of its chunks, and whoever runs it sends back what came of them, see `training.work`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from skminibatch.backends import compilation
from skminibatch.contract.orders import rows_of
from skminibatch.contract.plan import StepStats
from skminibatch.models.curvature import CAUTIOUS, LEAST
from skminibatch.models.data import Data
from skminibatch.models.protocol import Model
from skminibatch.models.view import gradients_of
from skminibatch.statistics.batches import BatchStatistics
from skminibatch.training.chunks import next_chunk
from skminibatch.training.noise import noise_of_micro_batches
from skminibatch.training.state import (
    CHECKED_OFTEN,
    UNSCORED,
    Diverged,
    History,
    Progress,
    Recipe,
    StageStart,
    TrainState,
    Verdict,
)
from skminibatch.training.stopping import ROUNDING, Watch
from skminibatch.training.work import ObjectiveOfRows, Steps, Training

ATTEMPTS, FALL = 8, 2  # at an epoch, and the powers of two by which the rate falls after each


class Batches(NamedTuple):
    """Sizes, rates and statistics of some steps."""

    sizes: np.ndarray
    rates: np.ndarray
    stats: StepStats

    @classmethod
    def joined(cls, chunks: list[Batches]) -> Batches:
        """Those of several chunks."""
        if len(chunks) == 1:
            return chunks[0]
        sizes, rates, stats = zip(*chunks, strict=True)
        losses, square_norms, row_squares, _ = zip(*stats, strict=True)
        join = np.concatenate
        return cls(join(sizes), join(rates), StepStats(join(losses), join(square_norms), join(row_squares), -1))


class Clock:
    """Seconds of this training without those of compiling, and those of earlier parts of a stream too."""

    def __init__(self, history: History) -> None:
        self._began, self._before = _now(), history.last("seconds") if history else 0.0

    def seconds(self) -> float:
        """Seconds since this training began."""
        return _now() - self._began

    def total(self) -> float:
        """Seconds with those of earlier parts."""
        return self._before + _now() - self._began


def _now() -> float:
    return time.perf_counter() - compilation.spent()


def run_part(
    model: Model, data: Data, params: np.ndarray, recipe: Recipe, state: TrainState, n_left: int, n_part: int
) -> Training[tuple[TrainState, int, list[Batches]]]:
    """The steps of `n_part` rows or a few more of the `n_left` rows of an epoch; `params` is updated in place.

    Returns the state after them, the number of rows and the batches of each chunk.
    """
    chunks, n_done, reads = [], 0, recipe.declared.sizes.reads
    if recipe.declared.sampler.brings("observe"):
        gradients = gradients_of(model, data, model.predictor(params, state.coefficients))
        state = state._replace(sampler_memory=recipe.sampler.observe(state.sampler_memory, gradients))
    while n_done < n_part:
        plan, after = next_chunk(model, recipe, state, n_left - n_done, n_part - n_done)
        stats = yield Steps(model, plan, params, data)
        if stats.failed >= 0 or not np.isfinite(params).all():
            raise Diverged(state.epoch, plan.rates[max(stats.failed, 0)])
        sizes, rates = plan.sizes, plan.rates.copy()
        n_done += int(plan.offsets[-1])
        state = after
        if "loss" in reads or "variance" in reads:
            state = state._replace(batches=BatchStatistics.of(sizes, rates, stats, _drawn_from(recipe, state)))
        if "rows" in reads and sizes[-1] > 1:
            gradients = gradients_of(model, data, model.predictor(params, state.coefficients))
            state = state._replace(row_products=gradients.on(rows_of(plan.rows, *plan.offsets[-2:])).products())
        chunks.append(Batches(sizes, rates, stats))
    return state, n_done, chunks


def _drawn_from(recipe: Recipe, state: TrainState) -> float:
    """The rows from which a batch is drawn without replacement, see `BatchStatistics.of`."""
    sampler = recipe.declared.sampler
    if not sampler.one_population:
        return np.nan
    return state.population if sampler.without_replacement else np.inf


def training(
    model: Model,
    data: Data,
    params: np.ndarray,
    recipe: Recipe,
    state: TrainState,
    history: History,
    on_epoch: Callable[[Progress], bool] = lambda progress: False,
) -> Training[Progress]:
    """Train until there is a reason to stop; `params` is updated in place.

    Parameters
    ----------
    on_epoch : callable
        Called after each epoch; training stops when it returns True.
    """
    clock = Clock(history)
    progress = Progress(model, params, state, history, model.predictor(params, None))
    stage = Stage(data, recipe, Watch(_objective_of_constant(progress, data, recipe)), _checks_per_epoch(data, recipe))
    renewals, best, entered = Renewals(recipe), None, None
    if recipe.then is not None and recipe.first_epochs == 0:
        progress, stage = _entered((yield from recipe.then(progress, LEAST)), stage, recipe.then)
        stage.watch.measure_anew(_objective_of_constant(progress, stage.data, stage.recipe))
    for number in range(1, recipe.max_epochs + 1):
        if entered is not None and entered.full_step is not None:
            entered = _stepped_fully((yield from entered.full_step()), stage, clock)
            progress, renewals.next = entered.progress, number + 1
        else:
            is_first = entered is not None and stage.then is None
            if entered is not None:
                (progress, stage), entered = _entered(entered, stage, recipe.then), None
            if is_first:
                stage.watch.measure_anew(_objective_of_constant(progress, stage.data, stage.recipe))
            progress, stage, batches = yield from _secured_epoch(progress, stage, clock)
            _record(progress, stage.data, stage.recipe, batches, clock)
        if recipe.keep_best and (best is None or progress.validated.score > best.validated.score):
            best = replace(progress)
        if recipe.then and renewals.next == number < recipe.max_epochs and not progress.verdict.reason:
            entered = yield from recipe.then(progress, stage.least)
            renewals.happened(progress.objective, entered.progress.objective)
            if _is_at_optimum(entered.progress, stage):
                progress = entered.progress
        if on_epoch(progress):
            progress.verdict = Verdict("a callback asked to stop", converged=True)
        if progress.verdict.reason:
            break
    else:
        progress.verdict = Verdict(f"reached max_iter={recipe.max_epochs} epochs")
    if best is not None:
        progress = replace(progress, predictor=best.predictor, params=None)
    return progress


class Renewals:
    """When the second stage begins, and begins anew: its coordinates and rates are those of the curvature where it began.

    ``next`` is the epoch after which that happens. If the full step at the start of a part gains more than the epochs of the part
    before it, the next part has one epoch; else twice as many as the last one. Epochs that are full steps put it off.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.next = np.inf if recipe.smoothness is None else recipe.first_epochs
        self._epochs, self._objective = 0.5, np.nan

    def happened(self, before: float, after: float) -> None:
        """Note the objectives before and after the full step."""
        gains_most = before - after > self._objective - before + ROUNDING * abs(before)
        self._epochs = 1.0 if gains_most else 2.0 * self._epochs
        self.next += int(self._epochs)
        self._objective = after


class Stage(NamedTuple):
    """What the epochs of a stage share; ``then`` starts it again, where it is the second one, with `least`: see `LEAST`."""

    data: Data
    recipe: Recipe
    watch: Watch
    n_checks: int
    then: Callable[..., Training[StageStart]] | None = None
    least: float = LEAST

    def has_risen(self, before: Progress, after: Progress) -> bool:
        """Whether curvatures have to count for more: they followed the losses, and the objective is higher than it was."""
        tiny = ROUNDING * abs(before.objective)
        return self.recipe.follows_curvature and self.least < CAUTIOUS and after.objective > before.objective + tiny


def _entered(
    entry: StageStart, stage: Stage, then: Callable[..., Training[StageStart]] | None
) -> tuple[Progress, Stage]:
    """The second stage, or its next part, as it starts."""
    progress, data, recipe = entry.finish()
    return progress, Stage(data, recipe, stage.watch, 1, then, stage.least)


def _is_at_optimum(progress: Progress, stage: Stage) -> bool:
    """Whether the second stage ends where it starts: then this is what the last epoch has come to, in the history too."""
    history = progress.history
    progress.verdict = stage.watch.at_optimum(progress, stage.recipe)
    if not progress.verdict.reason:
        return False
    history.correct(loss=progress.loss, penalty=progress.penalty)
    if stage.recipe.validation is not None:
        progress.validated = stage.recipe.validation(*progress.predictor)
        history.correct(validation_score=progress.validated.score, validation_loss=progress.validated.loss)
    return True


def _stepped_fully(entered: StageStart, stage: Stage, clock: Clock) -> StageStart:
    """An epoch that is one full step, which has been taken: what it has come to, recorded."""
    progress, recipe, n = entered.progress, stage.recipe, stage.recipe.n_rows
    progress.state = progress.state._replace(step=progress.state.step + 1, samples=progress.state.samples + n)
    if recipe.validation is not None:
        progress.validated = recipe.validation(*progress.predictor)
    progress.verdict = stage.watch.at_optimum(progress, recipe)
    if not progress.verdict.reason:
        progress.verdict = stage.watch.verdict(progress, recipe, clock.seconds())
    unknown = np.full(1, np.nan)
    statistics = BatchStatistics.of(np.array([n]), unknown, StepStats(unknown, unknown, unknown, -1))
    record(progress, statistics, float(n), clock)
    return entered


def _secured_epoch(progress: Progress, stage: Stage, clock: Clock) -> Training[tuple[Progress, Stage, Batches]]:
    """An epoch. Where an automatic rate was too large, it is done once more from where it began, at a quarter of the rate.

    Too large is a rate with which training diverges, or ends the epoch clearly worse than a constant prediction: a loss like
    that of Poisson counts has no bound of its curvature, and what it is where training starts may be too little on the way. In
    the second stage no epoch may end worse than it began, unless curvatures count for what is cautious.
    """
    recipe = stage.recipe
    automatic = recipe.declared.schedule.falls_after_a_rise
    before, params = progress, progress.params.copy() if automatic and stage.then is None else progress.params
    reductions = before.state.reductions
    for attempt in range(ATTEMPTS):
        is_last = not automatic or attempt == ATTEMPTS - 1
        try:
            epoch = _epoch(progress, stage.data, stage.recipe, stage.watch, stage.n_checks, clock)
            after, batches = yield from epoch
            has_risen = stage.has_risen(progress, after)
            is_worse = recipe.constant is not None and stage.watch.is_worse_than_constant(after)
            if is_last or not (has_risen or is_worse):
                break
        except Diverged:
            if is_last:
                raise
            has_risen = False
        if has_risen:
            stage = stage._replace(least=CAUTIOUS)
        else:
            reductions += FALL
        if stage.then is not None:
            progress, stage = _entered((yield from stage.then(before, stage.least)), stage, stage.then)
        else:
            before.params[...] = params
        stage.watch.forget_last()
        progress = replace(progress, state=progress.state._replace(reductions=reductions), verdict=before.verdict)
    return after, stage, batches


def _objective_of_constant(progress: Progress, data: Data, recipe: Recipe) -> float:
    """The objective of a constant prediction, or before the first step; NaN where it is measured with the batches alone."""
    if recipe.evaluation_rows is None:
        return np.nan
    predictor = progress.predictor if recipe.constant is None else recipe.constant
    return sum(progress.model.objective(data, recipe.evaluation_rows, predictor))


def _checks_per_epoch(data: Data, recipe: Recipe) -> int:
    n_updates = data.n_rows / min(recipe.sizes.start, data.n_rows)
    once = recipe.tol is None or recipe.keep_best or recipe.then is not None
    return 1 if once or n_updates < CHECKED_OFTEN else recipe.checks


def _epoch(
    progress: Progress, data: Data, recipe: Recipe, watch: Watch, n_checks: int, clock: Clock
) -> Training[tuple[Progress, Batches]]:
    """One epoch, or its part up to the check that finds a reason to stop, and its batches."""
    chunks, n_done, samples = [], 0, progress.state.samples
    for check in range(1, n_checks + 1):
        n_left, n_part = data.n_rows - n_done, data.n_rows * check // n_checks - n_done
        part = run_part(progress.model, data, progress.params, recipe, progress.state, n_left, n_part)
        state, n_rows, new = yield from part
        n_done += n_rows
        if recipe.n_rows:  # a row that came several times was seen once
            state = state._replace(samples=samples + round(recipe.n_rows * n_done / data.n_rows))
        chunks += new
        progress = yield from _evaluated(progress, data, recipe, state, chunks)
        progress.verdict = watch.verdict(progress, recipe, clock.seconds())
        if progress.verdict.stalled:
            progress.state = state._replace(reductions=state.reductions + 1)
        if progress.verdict.reason:
            break
    return progress, Batches.joined(chunks)


def _evaluated(
    progress: Progress, data: Data, recipe: Recipe, state: TrainState, chunks: list[Batches]
) -> Training[Progress]:
    """The progress with the predictor of a new state, its objective and its score; `chunks` are those of the epoch so far."""
    model = progress.model
    predictor = model.predictor(progress.params, state.coefficients)
    if recipe.evaluation_rows is None:
        sizes, _, stats = Batches.joined(chunks)
        weights = data.weights_of(slice(None) if data.rows is None else data.rows)
        weight = np.average(weights) if weights.size else 1.0
        loss, penalty = float(stats.losses.sum() / (sizes.sum() * weight)), model.penalty_value(predictor)
    else:
        loss, penalty = yield ObjectiveOfRows(model, data, recipe.evaluation_rows, predictor)
    if not np.isfinite(loss + penalty):
        raise Diverged(state.epoch, np.nan if state.coefficients is None else state.coefficients[0])
    validated = UNSCORED if recipe.validation is None else recipe.validation(*predictor)
    distance = model.distance(progress.params, data, loss)
    return replace(
        progress,
        state=state,
        predictor=predictor,
        loss=loss,
        penalty=penalty,
        validated=validated,
        distance=distance,
    )


def _record(progress: Progress, data: Data, recipe: Recipe, batches: Batches, clock: Clock) -> None:
    """Add an epoch to the history and count it."""
    (sizes, rates, stats), state = batches, progress.state
    statistics, model = BatchStatistics.of(sizes, rates, stats, _drawn_from(recipe, state)), progress.model
    if model.couples_rows:
        gradients = gradients_of(model, data, progress.predictor)
        noise = noise_of_micro_batches(gradients, sizes.mean(), state.samples, recipe.seed)
        population = state.population if recipe.declared.sampler.without_replacement else np.inf
        statistics = statistics if noise is None else statistics.with_noise(*noise, sizes, rates, population)
    elif progress.penalty and statistics.is_measured:
        pull = gradients_of(model, data, progress.predictor).penalty_gradient()
        statistics = statistics.of_objective(float(pull @ pull))
    record(progress, statistics, float(sizes.mean()), clock)


def record(progress: Progress, statistics: BatchStatistics, batch_size: float, clock: Clock) -> None:
    """Add an epoch to the history by the statistics of its batches, and count it."""
    state = progress.state
    progress.history.append(
        epoch=state.epoch + 1,
        samples=state.samples,
        updates=state.step,
        rate=statistics.rate,
        batch_size=batch_size,
        loss=progress.loss,
        penalty=progress.penalty,
        validation_score=progress.validated.score,
        validation_loss=progress.validated.loss,
        gradient_norm=float(np.sqrt(statistics.square_norm)),
        noise_scale=statistics.noise_scale,
        update_variance=statistics.update_variance,
        temperature=statistics.temperature,
        seconds=clock.total(),
    )
    noise_scale = state.noise_scale if np.isnan(statistics.noise_scale) else statistics.noise_scale
    progress.state = state._replace(epoch=state.epoch + 1, noise_scale=noise_scale)
