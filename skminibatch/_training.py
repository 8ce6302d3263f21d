"""The loop over epochs and chunks of steps: the only one, for every estimator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from skminibatch._data import Data
from skminibatch._models import Gradients, LinearModel
from skminibatch._permutation import rows_of
from skminibatch._plan import NO_BOUND, Plan, StepStats
from skminibatch._scale import noise_of_micro_batches
from skminibatch._statistics import Seen, Smoothness

LONGEST_CHUNK = 1 << 15  # steps; what a plan and its statistics take stays small beside the data
SPREAD = 1.25  # of the batch sizes in one chunk, where the rate depends on them
LONGEST_HISTORY = 500  # entries
CHECKED_OFTEN, CHECKS = 2048, 6  # epochs of so many updates are checked so often, where that is cheap


class TrainState(NamedTuple):
    """Where training stands; a new one after each chunk.

    ``samples``, ``step`` and ``epoch`` count over all calls of `partial_fit`; ``reductions`` counts how often an adaptive
    rate was lowered; ``smoothness`` is that of the batches to come and ``typical`` their usual stiffness, in units of
    ``unit``; ``batch_size`` is that of the last step and ``coefficients`` are its; ``noise_scale`` is that of the last epoch
    in which it was seen, ``peak_batch_size`` that of the start. For the schedule of batch sizes, ``population`` is the number
    of rows, ``seen`` what the last chunk showed, where the schedule looks at that, and ``examined``
    ``(tr Sigma, Var(g_i . g), |g|^2)`` in its last batch, each given once.
    """

    step: int = 0
    epoch: int = 0
    samples: int = 0
    reductions: int = 0
    smoothness: float | np.ndarray = 1.0
    typical: float = 0.0
    unit: float = 1.0
    batch_size: int = 0
    noise_scale: float = np.inf
    peak_batch_size: float = np.inf
    population: float = np.inf
    seen: Seen | None = None
    examined: tuple[float, float, float] | None = None
    coefficients: np.ndarray | None = None
    optimizer_memory: object = None
    sampler_memory: object = None
    sizes_memory: object = None

    def statistic(self, name: str | None) -> float:
        """What a scaling rule reads."""
        return np.inf if name is None else getattr(self, name)


@dataclass(frozen=True)
class Recipe:
    """How to train: the parts beside the model, and when to stop.

    ``smoothness`` is what a rate follows that depends on the batch size. ``evaluation_rows`` are those on which the objective
    is measured (empty: all); None: that of an epoch is the mean of its batches, each before its step.
    ``tol`` and ``patience``: stop after `patience` checks that find the objective falling by less than ``tol`` times its
    decrease so far an epoch; with ``keep_best``, the score rising by less than `tol`. ``then``, called once when
    ``first_epochs`` are done, says how to go on: ``then(progress) -> (progress, data, recipe)``.
    """

    sampler: tuple
    schedule: tuple
    sizes: tuple
    smoothness: Smoothness | None = None
    clip_norm: float = np.inf
    scaling: tuple | None = None
    base_batch_size: int = 64
    max_epochs: int = 1
    tol: float | None = None
    patience: int = 3
    max_seconds: float | None = None
    evaluation_rows: np.ndarray | None = field(default_factory=lambda: np.empty(0, np.int64))
    validation: Callable | None = None
    keep_best: bool = False
    checks: int = CHECKS
    first_epochs: int = 0
    then: Callable | None = None
    seed: int = 0


class History(dict):
    """One list a quantity, one entry an epoch; every second entry but the best is dropped when it grows long."""

    def append(self, **entry):
        for name, number in entry.items():
            self.setdefault(name, []).append(number)
        if len(self["epoch"]) >= LONGEST_HISTORY:
            kept = sorted({*range(1, len(self["epoch"]), 2), *self._best()})
            self.update({name: [numbers[i] for i in kept] for name, numbers in self.items()})

    def _best(self) -> set[int]:
        """The entries with the smallest objective and the largest score."""
        best, scores = {int(np.argmin(np.add(self["loss"], self["penalty"])))}, np.array(self["validation_score"])
        return best | ({int(np.nanargmax(scores))} if np.isfinite(scores).any() else set())

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.array(numbers) for name, numbers in self.items()}


@dataclass
class Progress:
    """What training has come to after an epoch: the parameters, what predicts, the state, and what was said of it."""

    model: LinearModel
    params: np.ndarray
    state: TrainState
    history: History
    predicts: tuple
    objective: float = np.inf
    score: float = np.nan
    reason: str = ""
    converged: bool = False


class Diverged(ValueError):
    """A loss or a gradient was not finite."""

    def __init__(self, epoch, rate):
        super().__init__(f"Floating-point under-/overflow occurred at epoch #{epoch + 1}.")
        self.epoch, self.rate = epoch, rate


def epoch_sizes(n_rows: int, wanted: np.ndarray, smallest: int = 1) -> np.ndarray:
    """Sizes of the next batches of an epoch that has `n_rows` rows left; the last size that is wanted goes on to its end.

    They are a little below those that are wanted, so that no short batch is left over: with b rows wanted in every batch, an
    epoch has ``ceil(n / b)`` batches whose sizes differ by at most one. A batch below the smallest one joins a neighbour.
    """
    ends = np.cumsum(np.minimum(wanted, n_rows))
    ends = ends[: np.searchsorted(ends, n_rows) + 1]
    total, last = int(ends[-1]), int(min(wanted[-1], n_rows))
    total += max(0, -((total - n_rows) // last)) * last
    sizes = np.diff(ends * n_rows // total, prepend=0)
    sizes = sizes[sizes > 0]
    return sizes if sizes.min() >= smallest else _joined_sizes(n_rows, sizes, smallest)


def _joined_sizes(n_rows: int, sizes: np.ndarray, smallest: int) -> np.ndarray:
    """The sizes with those below the smallest one joined to a neighbour, and no such rest left over."""
    kept, last = [], 0
    for end in np.cumsum(sizes):
        if end == n_rows or (end - last >= smallest and n_rows - end >= smallest):
            kept.append(last := int(end))
    return np.diff(kept, prepend=0)


def smallest_batch_of(sampler_memory) -> int:
    """Rows of the smallest batch that a sampler draws, given what it remembers."""
    return getattr(sampler_memory, "smallest_batch", 1)


def next_sizes(recipe: Recipe, state: TrainState, n_left: int, n_part: int, smallest: int = 1):
    """The sizes of the next steps of an epoch that has `n_left` rows left, to the step that ends the `n_part` rows to come.

    Returns ((sizes, nominal sizes, what the rates are multiplied with where they stand for larger batches), memory). Rates
    follow the nominal sizes; where they depend on these, they stay within `SPREAD` in one chunk.
    """
    wanted, memory = recipe.sizes.sizes(state.sizes_memory, state, n_left, LONGEST_CHUNK)
    nominal = np.minimum(wanted, min(recipe.sizes.largest, state.population))
    nominal = np.maximum(np.ceil(nominal * (1.0 - 1e-12)), 1.0).astype(np.int64)
    smallest = max(smallest, min(smallest_batch_of(state.sampler_memory), int(nominal.min())))
    sizes = epoch_sizes(n_left, nominal, smallest)
    n_steps = min(len(sizes), int(np.searchsorted(np.cumsum(sizes), n_part)) + 1)
    if recipe.smoothness is not None:
        n_steps = min(n_steps, int(np.argmax(np.append(nominal > SPREAD * nominal[0], True))))
    shares = np.minimum(recipe.sizes.largest / wanted, 1.0) if recipe.sizes.anneals else np.ones(len(wanted))
    return (sizes[:n_steps], nominal[:n_steps], shares[:n_steps]), memory


def next_chunk(
    model: LinearModel, recipe: Recipe, state: TrainState, n_left: int, n_part: int
) -> tuple[Plan, TrainState]:
    """The plan of the next steps of an epoch, and the state after it."""
    (sizes, nominal, shares), sizes_memory = next_sizes(recipe, state, n_left, n_part, model.smallest_batch)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    samples = state.samples + offsets[:-1]
    if recipe.smoothness is not None:
        state = state._replace(smoothness=recipe.smoothness.of_batch(float(nominal.mean()), state.population))
    rates = shares * np.asarray(recipe.schedule.rates(samples.astype(float), state), float)
    if recipe.scaling is not None:
        rates = rates * recipe.scaling.factor(nominal, recipe.base_batch_size, state.statistic(recipe.scaling.reads))
    coefficients, optimizer_memory = model.optimizer.coefficients(rates, sizes, state.optimizer_memory)
    coefficients = np.ascontiguousarray(coefficients, np.float64)
    order, weights, sampler_memory = recipe.sampler.draw(state.sampler_memory, sizes)
    safety = recipe.schedule.safety(state) if hasattr(recipe.schedule, "safety") else NO_BOUND
    plan = Plan(order, offsets, coefficients, weights, safety, recipe.clip_norm, (recipe.seed, state.step))
    state = state._replace(
        step=state.step + len(sizes),
        samples=state.samples + int(offsets[-1]),
        batch_size=int(nominal[-1]),
        seen=None,
        examined=None,
        coefficients=coefficients[-1],
        optimizer_memory=optimizer_memory,
        sampler_memory=sampler_memory,
        sizes_memory=sizes_memory,
    )
    return plan, state


def run_part(
    model: LinearModel, data: Data, params: np.ndarray, recipe: Recipe, state: TrainState, n_left: int, n_part: int
) -> tuple[TrainState, int, list[tuple[np.ndarray, StepStats]]]:
    """The steps of `n_part` rows or a few more of the `n_left` rows of an epoch; `params` is updated in place.

    Returns the state after them, the number of rows and, for each chunk, sizes and statistics.
    """
    chunks, n_done = [], 0
    if hasattr(recipe.sampler, "observe"):
        gradients = Gradients(model, data, model.what_predicts(params, state.coefficients))
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
            gradients = Gradients(model, data, model.what_predicts(params, state.coefficients))
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
    progress = Progress(model, params, state, history, model.what_predicts(params, None))
    evaluated = recipe.evaluation_rows is not None
    watch = _Watch(
        recipe, sum(model.objective(data, recipe.evaluation_rows, *progress.predicts)) if evaluated else np.nan
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
            found = noise_of_micro_batches(model, data, progress.predicts, sizes.mean(), state.samples, recipe.seed)
            seen = seen if found is None else seen.told(*found, sizes, stats.rates)
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
        progress = replace(progress, predicts=best.predicts, params=None)
    return progress


def _joined(chunks) -> tuple[np.ndarray, StepStats]:
    """Sizes and statistics of the steps of some chunks."""
    sizes, stats = zip(*chunks, strict=True)
    return np.concatenate(sizes), StepStats(*map(np.concatenate, list(zip(*stats, strict=True))[:4]), -1)


def _measured(
    model, data, recipe, progress: Progress, state: TrainState, chunks
) -> tuple[Progress, tuple[float, float]]:
    """The progress with what predicts now, its objective and its score; and (loss, penalty).

    `chunks` are those of the epoch so far.
    """
    predicts = model.what_predicts(progress.params, state.coefficients)
    if recipe.evaluation_rows is None:
        sizes, stats = _joined(chunks)
        weight = np.average(data.targets[1]) if data.weights.size else 1.0
        loss, penalty = float(stats.losses.sum() / (sizes.sum() * weight)), model.penalty_value(*predicts)
    else:
        loss, penalty = model.objective(data, recipe.evaluation_rows, *predicts)
    if not np.isfinite(loss + penalty):
        raise Diverged(state.epoch, state.coefficients[0])
    score = np.nan if recipe.validation is None else float(recipe.validation(*predicts))
    progress = replace(progress, state=state, predicts=predicts, objective=loss + penalty, score=score)
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
        if np.isnan(self.start):
            self.start = progress.objective
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
