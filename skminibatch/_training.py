"""The loop over epochs and chunks of steps: the only one, for every estimator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from skminibatch._models import Data, LinearModel
from skminibatch._plan import NO_BOUND, Plan, StepStats
from skminibatch._statistics import noise_scale

LONGEST_CHUNK = 1 << 15  # steps; what a plan and its statistics take stays small beside the data
LONGEST_HISTORY = 500  # entries
CHECKED_OFTEN, CHECKS = 2048, 6  # epochs of so many updates are checked so often


@dataclass(frozen=True)
class TrainState:
    """Where training stands; a new one after each chunk.

    ``samples``, ``step`` and ``epoch`` count over all calls of `partial_fit`; ``reductions`` counts how often an adaptive
    rate was lowered; ``smoothness`` is that of a batch and ``typical`` its usual stiffness, in units of ``unit``;
    ``coefficients`` are those of the last step; ``noise_scale`` is that of the last epoch in which it was seen.
    """

    step: int = 0
    epoch: int = 0
    samples: int = 0
    reductions: int = 0
    smoothness: float = 1.0
    typical: float = 0.0
    unit: float = 1.0
    noise_scale: float = np.inf
    coefficients: np.ndarray | None = None
    optimizer_memory: object = None
    sampler_memory: object = None


@dataclass(frozen=True)
class Recipe:
    """How to train: the parts beside the model, and when to stop.

    ``tol`` and ``patience``: stop after `patience` checks that find the objective falling by less than ``tol`` times its
    decrease so far an epoch; with ``keep_best``, the score rising by less than `tol`.
    """

    sampler: tuple
    schedule: tuple
    batch_size: int
    clip_norm: float = np.inf
    scaling: tuple | None = None
    base_batch_size: int = 64
    max_epochs: int = 1
    tol: float | None = None
    patience: int = 3
    max_seconds: float | None = None
    evaluation_rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    validation: Callable | None = None
    keep_best: bool = False


class History(dict):
    """One list a quantity, one entry an epoch; every second entry is dropped when it grows long."""

    def append(self, **entry):
        for name, number in entry.items():
            self.setdefault(name, []).append(number)
        if len(next(iter(self.values()))) >= LONGEST_HISTORY:
            for numbers in self.values():
                del numbers[::2]

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.array(numbers) for name, numbers in self.items()}


@dataclass
class Progress:
    """What training has come to after an epoch: what predicts, the parameters, the state, and what was said of it."""

    params: np.ndarray
    state: TrainState
    history: History
    coef: np.ndarray
    intercept: np.ndarray
    objective: float = np.inf
    score: float = np.nan
    reason: str = ""
    converged: bool = False


class Diverged(ValueError):
    """A loss or a gradient was not finite."""

    def __init__(self, epoch, rate):
        super().__init__(f"Floating-point under-/overflow occurred at epoch #{epoch + 1}.")
        self.epoch, self.rate = epoch, rate


def epoch_sizes(n_rows: int, batch_size: int) -> np.ndarray:
    """Sizes of the ``ceil(n / b)`` batches of an epoch; they differ by at most one."""
    n_batches = -(-n_rows // min(batch_size, n_rows))
    return np.diff(np.arange(n_batches + 1) * n_rows // n_batches)


def next_chunk(model: LinearModel, recipe: Recipe, state: TrainState, sizes: np.ndarray) -> tuple[Plan, TrainState]:
    """The plan of the next ``len(sizes)`` steps, and the state after it."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    samples = state.samples + offsets[:-1]
    rates = np.asarray(recipe.schedule.rates(samples.astype(float), state), float)
    if recipe.scaling is not None:
        rates = rates * recipe.scaling.factor(recipe.batch_size, recipe.base_batch_size, state.noise_scale)
    coefficients, optimizer_memory = model.optimizer.coefficients(rates, sizes, state.optimizer_memory)
    coefficients = np.ascontiguousarray(coefficients, np.float64)
    order, weights, sampler_memory = recipe.sampler.draw(state.sampler_memory, sizes)
    safety = recipe.schedule.safety(state) if hasattr(recipe.schedule, "safety") else NO_BOUND
    plan = Plan(order, offsets, coefficients, weights, safety, recipe.clip_norm)
    state = replace(
        state,
        step=state.step + len(sizes),
        samples=state.samples + int(offsets[-1]),
        coefficients=coefficients[-1],
        optimizer_memory=optimizer_memory,
        sampler_memory=sampler_memory,
    )
    return plan, state


def run_steps(
    model: LinearModel, data: Data, params: np.ndarray, recipe: Recipe, state: TrainState, sizes: np.ndarray
) -> tuple[TrainState, list[tuple[np.ndarray, StepStats]]]:
    """Some steps; `params` is updated in place. The state after them and, for each chunk, sizes and statistics."""
    chunks = []
    for start in range(0, len(sizes), LONGEST_CHUNK):
        some = sizes[start : start + LONGEST_CHUNK]
        plan, after = next_chunk(model, recipe, state, some)
        stats = model.run(plan, params, data)
        if stats.failed >= 0 or not np.isfinite(params).all():
            raise Diverged(state.epoch, stats.rates[max(stats.failed, 0)])
        state = after
        chunks.append((some, stats))
    return state, chunks


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
    progress = Progress(params, state, history, *model.what_predicts(params, None))
    watch = _Watch(recipe, sum(model.objective(data, recipe.evaluation_rows, progress.coef, progress.intercept)))
    sizes = epoch_sizes(data.n_rows, recipe.batch_size)
    checks = 1 if recipe.tol is None or recipe.keep_best or len(sizes) < CHECKED_OFTEN else CHECKS
    best = None
    for _ in range(recipe.max_epochs):
        chunks = []
        for part in np.array_split(sizes, checks):
            state, some = run_steps(model, data, params, recipe, progress.state, part)
            chunks += some
            progress, losses = _measured(model, data, recipe, progress, state)
            progress.reason, progress.converged, stalled = watch.reason(
                progress, time.perf_counter() - began, 1.0 / checks
            )
            if stalled:
                progress.state = replace(progress.state, reductions=progress.state.reductions + 1)
            if progress.reason:
                break
        entry = _entry(progress, *losses, chunks, time.perf_counter() - began)
        history.append(**entry)
        noise = progress.state.noise_scale if np.isnan(entry["noise_scale"]) else entry["noise_scale"]
        progress.state = replace(progress.state, epoch=progress.state.epoch + 1, noise_scale=noise)
        if best is None or not recipe.keep_best or progress.score > best.score:
            best = replace(progress)
        if on_epoch(progress):
            progress.reason, progress.converged = "a callback asked to stop", True
        if progress.reason:
            break
    if not progress.reason:
        progress.reason = f"max_iter={recipe.max_epochs} epochs were done"
    if recipe.keep_best:
        progress = replace(progress, coef=best.coef, intercept=best.intercept, params=None)
    return progress


def _measured(model, data, recipe, progress: Progress, state: TrainState) -> tuple[Progress, tuple[float, float]]:
    """The progress with what predicts now, its objective and its score; and (loss, penalty)."""
    coef, intercept = model.what_predicts(progress.params, state.coefficients)
    loss, penalty = model.objective(data, recipe.evaluation_rows, coef, intercept)
    if not np.isfinite(loss + penalty):
        raise Diverged(state.epoch, state.coefficients[0])
    score = np.nan if recipe.validation is None else float(recipe.validation(coef, intercept))
    progress = replace(progress, state=state, coef=coef, intercept=intercept, objective=loss + penalty, score=score)
    return progress, (loss, penalty)


class _Watch:
    """Looks for a reason to stop after each epoch."""

    def __init__(self, recipe: Recipe, start: float):
        self.recipe, self.start, self.best, self.best_score, self.stalled = recipe, start, np.inf, -np.inf, 0

    def reason(self, progress: Progress, seconds: float, share: float) -> tuple[str, bool, bool]:
        """(the reason or an empty string, whether it is convergence, whether to reduce an adaptive rate).

        `share` is that of an epoch since the last check.
        """
        recipe = self.recipe
        if recipe.tol is not None:
            self.stalled = 0 if self._improved(progress, share) else self.stalled + 1
            if self.stalled >= recipe.patience:
                self.stalled = 0
                what = self._standstill()
                smallest = getattr(recipe.schedule, "smallest", None)
                if smallest is None:
                    return what, True, False
                rate = recipe.schedule.rates(np.zeros(1), progress.state)[0]
                if rate / recipe.schedule.factor <= smallest:
                    return f"the adaptive rate fell below {smallest:g}; {what}", True, False
                return "", False, True
        if recipe.max_seconds is not None and seconds >= recipe.max_seconds:
            return f"max_time={recipe.max_seconds:g} seconds were over", True, False
        return "", False, False

    def _improved(self, progress: Progress, share: float) -> bool:
        if self.recipe.keep_best:
            improved = progress.score > self.best_score + self.recipe.tol
            self.best_score = max(self.best_score, progress.score)
            return improved
        # the first rates may be too large: then the first epochs end above the start, and falling is progress
        needed = self.recipe.tol * share * abs(self.start - self.best) if np.isfinite(self.best) else 0.0
        improved = progress.objective < self.best - needed
        self.best = min(self.best, progress.objective)
        return improved

    def _standstill(self) -> str:
        recipe = self.recipe
        if recipe.keep_best:
            return f"the validation score rose by less than tol={recipe.tol:g} in {recipe.patience} epochs in a row"
        return (
            f"the objective fell by less than tol={recipe.tol:g} of its decrease so far an epoch in {recipe.patience} checks "
            "in a row"
        )


def _entry(progress: Progress, loss: float, penalty: float, chunks, seconds: float) -> dict[str, float]:
    """One entry of the history."""
    sizes = np.concatenate([sizes for sizes, _ in chunks])
    square_norms = np.concatenate([stats.square_norms for _, stats in chunks])
    row_squares = np.concatenate([stats.row_squares for _, stats in chunks])
    measured = ~np.isnan(square_norms)
    return {
        "samples": progress.state.samples,
        "updates": progress.state.step,
        "rate": chunks[-1][1].rates[-1],
        "batch_size": float(sizes.mean()),
        "loss": loss,
        "penalty": penalty,
        "validation_score": progress.score,
        "gradient_norm": float(np.sqrt(square_norms[measured].mean())) if measured.any() else np.nan,
        "noise_scale": noise_scale(sizes[measured], square_norms[measured], row_squares[measured]),
        "seconds": seconds,
    }
