"""The plan of the next chunk of steps: batch sizes, rates, coefficients and rows."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from skminibatch.contract.plan import Plan
from skminibatch.models.protocol import Model
from skminibatch.training.state import Recipe, TrainState

LONGEST_CHUNK = 1 << 15  # steps; what a plan and its statistics take stays small beside the data
FEW_STEPS = 1 << 10  # of a constant size, whose sizes are kept
SPREAD = 1.25  # of the batch sizes in one chunk, where the rate depends on them


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


class Sizes(NamedTuple):
    """Of the next steps (S,): rows, nominal rows, rows of the batches that these are parts of, and shares of the rate."""

    rows: np.ndarray
    nominal: np.ndarray
    uncut: np.ndarray
    shares: np.ndarray


class Limits(NamedTuple):
    """What sizes of steps are cut to."""

    n_left: int
    n_part: int
    smallest: int
    fewest: int
    largest: float
    repeats: float
    most_rows: float
    are_alike: bool


def next_sizes(recipe: Recipe, state: TrainState, n_left: int, n_part: int, smallest: int = 1) -> tuple[Sizes, object]:
    """The sizes of the next steps of an epoch that has `n_left` rows left, to the step that ends the `n_part` rows to come.

    Returns (sizes, memory). A step has a share of the rate where it is a part of a batch, or stands for a larger one. Where
    rates depend on the nominal sizes, these stay within `SPREAD` in one chunk.
    """
    schedule = recipe.declared.sizes
    if schedule.follows_rate:
        state = state._replace(rates=partial(recipe.schedule.rates, state=state))
    wanted, memory = recipe.sizes.sizes(state.sizes_memory, state, n_left, LONGEST_CHUNK)
    limits = Limits(
        n_left, n_part, smallest, recipe.declared.sampler.smallest_batch(state.sampler_memory),
        float(min(schedule.largest, state.population)), recipe.repeats, recipe.most_rows, recipe.smoothness is not None,
    )  # fmt: skip
    if schedule.constant and not schedule.anneals and len(wanted) <= FEW_STEPS:
        return _steady(float(wanted[0]), len(wanted), limits), memory
    sizes = _cut(wanted, limits)
    if schedule.anneals:
        n_steps = len(sizes.rows)
        sizes = sizes._replace(shares=np.minimum(schedule.largest / _padded(wanted, n_steps)[:n_steps], 1.0))
    return sizes, memory


@lru_cache(maxsize=64)
def _steady(size: float, n_steps: int, limits: Limits) -> Sizes:
    """Those of a constant size, which are the same in each epoch: the steps of a short one take less time than this."""
    sizes = _cut(np.full(n_steps, size), limits)
    for array in sizes:
        array.flags.writeable = False
    return sizes


def _cut(wanted: np.ndarray, limits: Limits) -> Sizes:
    n_left = limits.n_left
    nominal = np.minimum(wanted, limits.largest)
    nominal = np.maximum(np.ceil(nominal * (1.0 - 1e-12)), 1.0).astype(np.int64)
    smallest = max(limits.smallest, min(limits.fewest, int(nominal.min())))
    with_visits = np.round(nominal * limits.repeats).astype(np.int64)
    sizes = uncut = epoch_sizes(n_left, with_visits, smallest)
    if limits.most_rows < sizes.max():
        sizes = epoch_sizes(n_left, np.minimum(with_visits, int(limits.most_rows)), smallest)
        uncut = np.full(len(sizes), uncut[0])
        nominal = _padded(nominal, len(sizes))
    n_steps = min(len(sizes), int(np.searchsorted(np.cumsum(sizes), limits.n_part)) + 1)
    if limits.are_alike:
        n_steps = min(n_steps, int(np.argmax(np.append(nominal > SPREAD * nominal[0], True))))
    return Sizes(sizes[:n_steps], nominal[:n_steps], uncut[:n_steps], np.ones(n_steps))


def _padded(numbers: np.ndarray, length: int) -> np.ndarray:
    """At least that many numbers, the last one again and again."""
    return np.append(numbers, np.full(max(0, length - len(numbers)), numbers[-1]))


def next_chunk(model: Model, recipe: Recipe, state: TrainState, n_left: int, n_part: int) -> tuple[Plan, TrainState]:
    """The plan of the next steps of an epoch, and the state after it."""
    (sizes, nominal, uncut, shares), memory = next_sizes(recipe, state, n_left, n_part, model.smallest_batch)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    samples = state.samples + offsets[:-1]
    if recipe.smoothness is not None:
        usual = float(uncut.mean()) / recipe.repeats
        state = state._replace(smoothness=recipe.smoothness.of_batch(max(usual, 1.0), state.population))
    if recipe.most_rows < np.inf:
        shares = shares * sizes / uncut
    rates = shares * np.asarray(recipe.schedule.rates(samples.astype(float), state), float)
    scaling = recipe.declared.scaling
    if scaling is not None:
        rates = rates * scaling.factor(nominal, recipe.base_batch_size, state.statistic(scaling.reads))
    coefficients, optimizer_memory = model.optimizer.coefficients(rates, sizes, state.optimizer_memory)
    coefficients = np.ascontiguousarray(coefficients, np.float64)
    order, weights, sampler_memory = recipe.sampler.draw(state.sampler_memory, sizes)
    plan = Plan(order, offsets, coefficients, weights, recipe.clip_norm, (recipe.seed, state.step))
    state = state._replace(
        step=state.step + len(sizes),
        samples=state.samples + int(offsets[-1]),
        batch_size=int(nominal[-1]),
        batches=None,
        row_products=None,
        coefficients=coefficients[-1],
        optimizer_memory=optimizer_memory,
        sampler_memory=sampler_memory,
        sizes_memory=memory,
    )
    return plan, state
