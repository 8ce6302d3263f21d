"""The loop over epochs and chunks of steps: the only one, for every estimator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from skminibatch.contract.orders import rows_of
from skminibatch.contract.plan import StepStats
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.models.view import Gradients
from skminibatch.statistics.batches import Seen
from skminibatch.training.chunks import next_chunk
from skminibatch.training.noise import noise_of_micro_batches
from skminibatch.training.state import CHECKED_OFTEN, Diverged, History, Progress, Recipe, TrainState
from skminibatch.training.stopping import _Watch


def run_part(
    model: LinearModel, data: Data, params: np.ndarray, recipe: Recipe, state: TrainState, n_left: int, n_part: int
) -> tuple[TrainState, int, list[tuple[np.ndarray, StepStats]]]:
    """The steps of `n_part` rows or a few more of the `n_left` rows of an epoch; `params` is updated in place.

    Returns the state after them, the number of rows and, for each chunk, sizes and statistics.
    """
    chunks, n_done = [], 0
    if hasattr(recipe.sampler, "observe"):
        gradients = Gradients(model, data, model.predictor(params, state.coefficients))
        state = state._replace(sampler_memory=recipe.sampler.observe(state.sampler_memory, gradients))
    while n_done < n_part:
        plan, after = next_chunk(model, recipe, state, n_left - n_done, n_part - n_done)
        stats = model.run(plan, params, data)
        if stats.failed >= 0 or not np.isfinite(params).all():
            raise Diverged(state.epoch, stats.rates[max(stats.failed, 0)])
        sizes = plan.sizes
        n_done += int(plan.offsets[-1])
        state = after
        if hasattr(recipe.sizes, "every"):
            state = state._replace(seen=Seen.of(sizes, stats, _drawn_from(recipe, state)))
        if hasattr(recipe.sizes, "examines") and sizes[-1] > 1:
            gradients = Gradients(model, data, model.predictor(params, state.coefficients))
            state = state._replace(examined=gradients.products(rows_of(plan.rows, *plan.offsets[-2:])))
        chunks.append((sizes, stats))
    return state, n_done, chunks


def _drawn_from(recipe: Recipe, state: TrainState) -> float:
    """The rows from which a batch is drawn without replacement, see `Seen.of`."""
    if not recipe.sampler.one_population:
        return np.nan
    return state.population if recipe.sampler.without_replacement else np.inf


def train(
    model: LinearModel,
    data: Data,
    params: np.ndarray,
    recipe: Recipe,
    state: TrainState,
    history: History,
    on_epoch: Callable[[Progress], bool] = lambda progress: False,
) -> Progress:
    """Train until a reason to stop; `params` is updated in place.

    Parameters
    ----------
    on_epoch : callable
        Called after each epoch; training stops when it returns True.
    """
    began = time.perf_counter()
    before = history["seconds"][-1] if history else 0.0  # of earlier parts of a stream
    progress = Progress(model, params, state, history, model.predictor(params, None))
    evaluated = recipe.evaluation_rows is not None
    watch = _Watch(
        recipe, sum(model.objective(data, recipe.evaluation_rows, *progress.predictor)) if evaluated else np.nan
    )
    n_updates = data.n_rows / min(recipe.sizes.start, data.n_rows)
    checks = 1 if recipe.tol is None or recipe.keep_best or n_updates < CHECKED_OFTEN else recipe.checks
    best = None
    for number in range(recipe.max_epochs):
        if recipe.then is not None and number == recipe.first_epochs:
            progress, data, recipe = recipe.then(progress)
        chunks, n_done = [], 0
        for check in range(1, checks + 1):
            model, params = progress.model, progress.params
            n_part = data.n_rows * check // checks - n_done
            state, n_rows, some = run_part(model, data, params, recipe, progress.state, data.n_rows - n_done, n_part)
            n_done += n_rows
            chunks += some
            progress, losses = _measured(model, data, recipe, progress, state, chunks)
            progress.reason, progress.converged, stalled = watch.reason(
                progress, time.perf_counter() - began, 1.0 / checks
            )
            if stalled:
                progress.state = progress.state._replace(reductions=progress.state.reductions + 1)
            if progress.reason:
                break
        sizes, stats = _joined(chunks)
        seen = Seen.of(sizes, stats, _drawn_from(recipe, state))
        if model.couples_rows:
            found = noise_of_micro_batches(model, data, progress.predictor, sizes.mean(), state.samples, recipe.seed)
            seen = seen if found is None else seen.with_noise(*found, sizes, stats.rates)
        seconds = before + time.perf_counter() - began
        history.append(**_entry(progress, *losses, float(sizes.mean()), seen, seconds))
        noise = progress.state.noise_scale if np.isnan(seen.noise_scale) else seen.noise_scale
        progress.state = progress.state._replace(epoch=progress.state.epoch + 1, noise_scale=noise)
        if recipe.keep_best and (best is None or progress.score > best.score):
            best = replace(progress)
        if on_epoch(progress):
            progress.reason, progress.converged = "a callback asked to stop", True
        if progress.reason:
            break
    if not progress.reason:
        progress.reason = f"max_iter={recipe.max_epochs} epochs were done"
    if recipe.keep_best:
        progress = replace(progress, predictor=best.predictor, params=None)
    return progress


def _joined(chunks) -> tuple[np.ndarray, StepStats]:
    """Sizes and statistics of the steps of some chunks."""
    sizes, stats = zip(*chunks, strict=True)
    return np.concatenate(sizes), StepStats(*map(np.concatenate, list(zip(*stats, strict=True))[:4]), -1)


def _measured(
    model, data, recipe, progress: Progress, state: TrainState, chunks
) -> tuple[Progress, tuple[float, float]]:
    """The progress with the predictor now, its objective and its score; and (loss, penalty).

    `chunks` are those of the epoch so far.
    """
    predictor = model.predictor(progress.params, state.coefficients)
    if recipe.evaluation_rows is None:
        sizes, stats = _joined(chunks)
        weight = np.average(data.targets[1]) if data.weights.size else 1.0
        loss, penalty = float(stats.losses.sum() / (sizes.sum() * weight)), model.penalty_value(*predictor)
    else:
        loss, penalty = model.objective(data, recipe.evaluation_rows, *predictor)
    if not np.isfinite(loss + penalty):
        raise Diverged(state.epoch, state.coefficients[0])
    score = np.nan if recipe.validation is None else float(recipe.validation(*predictor))
    progress = replace(progress, state=state, predictor=predictor, objective=loss + penalty, score=score)
    return progress, (loss, penalty)


def _entry(progress: Progress, loss: float, penalty: float, batch_size: float, seen: Seen, seconds: float) -> dict:
    """One entry of the history."""
    return {
        "epoch": progress.state.epoch + 1,
        "samples": progress.state.samples,
        "updates": progress.state.step,
        "rate": seen.rate,
        "batch_size": batch_size,
        "loss": loss,
        "penalty": penalty,
        "validation_score": progress.score,
        "gradient_norm": float(np.sqrt(seen.square_norm)),
        "noise_scale": seen.noise_scale,
        "update_variance": seen.update_variance,
        "temperature": seen.temperature,
        "seconds": seconds,
    }
