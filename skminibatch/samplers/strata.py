"""Samplers that know strata: groups of rows that are alike, each drawn from in every batch, or kept together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import CALLABLE
from skminibatch.contract.kinds import declares
from skminibatch.contract.orders import explicit_order
from skminibatch.samplers.uniform import draw_in_order, start

MEASURED = 64  # rows of a stratum from which the deviation of its gradients is estimated
FLOOR = 0.1  # of the deviation of all strata together: the smallest of one, so that none is forgotten
RENEWED = 16  # times as many rows are drawn as were measured, before they are measured again


def allocation(size: int, rows: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """How many of `size` rows come from each stratum, exactly: the smallest ``sum_k (N_k s_k)^2 / n_k``, ``1 <= n_k <= N_k``.

    One row each; then, one by one, to the stratum with the largest ``N_k s_k / sqrt(n_k (n_k + 1))`` (Wright 2017).

    Parameters
    ----------
    size : int
        Rows of a batch.
    rows : ndarray of shape (n_strata,)
        Rows of each stratum, N_k.
    deviations : ndarray of shape (n_strata,)
        Standard deviation of what is drawn in each stratum, s_k; all zero: as if all were equal.

    Returns
    -------
    counts : ndarray of shape (n_strata,), int64
    """
    if size < len(rows):
        raise ValueError(
            f"A batch of {size} rows cannot have a row of each of {len(rows)} strata: batch_size must be larger, or the "
            "strata fewer."
        )
    deviations = deviations if deviations.any() else np.ones(len(rows))
    n = np.arange(1, size)
    priorities = (rows * deviations)[:, None] / np.sqrt(n * (n + 1.0))
    # a row that is not there comes last, and one of a stratum without deviation before it
    priorities = np.where(n < rows[:, None], priorities, -1.0).ravel()
    left = size - len(rows)
    chosen = np.argpartition(-priorities, left - 1)[:left] if left else np.empty(0, np.int64)
    return 1 + np.bincount(chosen // max(size - 1, 1), minlength=len(rows))


def numbers(seed: int, epoch: int, turn: int = 0) -> np.random.Generator:
    """Random numbers of one turn of the sampler that was started in an epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, turn]))


class StrataMemory(NamedTuple):
    """What a stratified sampler remembers.

    ``order`` holds the rows stratum by stratum, shuffled in each; stratum k ends at ``ends[k]``, its next row stands at
    ``positions[k]``; ``variances`` of its gradients, NaN before the first look; ``drawn`` since the last look.
    """

    order: np.ndarray
    ends: np.ndarray
    positions: np.ndarray
    variances: np.ndarray
    drawn: float
    seed: int
    epoch: int
    turn: int = 0

    @property
    def rows(self) -> np.ndarray:
        """Rows of each stratum."""
        return np.diff(self.ends, prepend=0)

    def generator(self) -> np.random.Generator:
        """Random numbers of this turn."""
        return numbers(self.seed, self.epoch, self.turn)


def _numbered(n_rows: int, rows: np.ndarray | None, strata) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the rows in use, the number of the stratum of each, where each stratum ends when they stand one behind another)."""
    rows = np.arange(n_rows) if rows is None else rows
    _, codes = np.unique(strata[rows], return_inverse=True)
    return rows, codes, np.cumsum(np.bincount(codes))


def _strata_start(n_rows: int, rows: np.ndarray | None, seed: int, epoch: int = 0, strata=None) -> StrataMemory:
    """The memory before the first draw; `strata` has the label of the stratum of each of the `n_rows` rows."""
    rows, codes, ends = _numbered(n_rows, rows, strata)
    unknown = np.full(len(ends), np.nan)
    memory = StrataMemory(rows, ends, ends - np.diff(ends, prepend=0), unknown, np.inf, int(seed), int(epoch))
    shuffled = memory.generator().permutation(rows.size)
    return memory._replace(order=rows[shuffled[np.argsort(codes[shuffled], kind="stable")]], turn=memory.turn + 1)


def _drawn_in_turn(order: np.ndarray, position: int, counts: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray, int]:
    """The next rows of a stratum for steps that take `counts` of them: (rows, its order, the position in it).

    A new order begins where the present one has too few rows left for a step, so that no row is twice in a batch.
    """
    ends = np.cumsum(counts)
    fits = int(np.searchsorted(ends, order.size - position, side="right"))
    drawn = [order[position : position + (ends[fits - 1] if fits else 0)]]
    position += drawn[0].size
    if fits < len(counts):
        left, largest = counts[fits:], int(counts[fits:].max())
        a_turn = order.size // largest  # steps that one order serves
        turns = -(-len(left) // a_turn)
        orders = rng.permuted(np.broadcast_to(order, (turns, order.size)), axis=1)
        step = np.arange(len(left))
        starts = step // a_turn * order.size + step % a_turn * largest
        drawn.append(orders.ravel()[_ranges(starts, left)])
        order, position = orders[-1], ((len(left) - 1) % a_turn + 1) * largest
    return np.concatenate(drawn), order, position


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The ranges ``start, start + 1, ...`` of the given lengths, one behind the other."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1])


def _stratified_draw(memory: StrataMemory, sizes, deviations: np.ndarray):
    """(order, weights, memory): the mean over a batch of weight times gradient is ``sum_k (N_k / n) mean_k``."""
    rows, rng = memory.rows, memory.generator()
    different, which = np.unique(sizes, return_inverse=True)
    counts = np.array([allocation(int(size), rows, deviations) for size in different])[which]
    within = np.cumsum(counts, axis=1) - counts  # where a stratum begins in its batch
    begins = np.cumsum(sizes) - sizes
    order, positions = memory.order.copy(), memory.positions.copy()
    drawn, weights = np.empty(int(np.sum(sizes)), np.int64), np.empty(int(np.sum(sizes)))
    for k, (first, end) in enumerate(zip(memory.ends - rows, memory.ends, strict=True)):
        drawn_rows, order[first:end], position = _drawn_in_turn(
            order[first:end], positions[k] - first, counts[:, k], rng
        )
        places = _ranges(begins + within[:, k], counts[:, k])
        drawn[places], positions[k] = drawn_rows, first + position
        weights[places] = np.repeat(rows[k] / memory.ends[-1] * np.asarray(sizes) / counts[:, k], counts[:, k])
    memory = memory._replace(order=order, positions=positions, drawn=memory.drawn + drawn.size, turn=memory.turn + 1)
    return explicit_order(drawn), weights, memory


@declares(
    start=staticmethod(_strata_start),
    domains={"strata": CALLABLE},
    without_replacement=True,
    weighs_rows=True,
    needs_strata=True,
    strata_from_targets=True,
)
class Stratified(NamedTuple):
    """Rows of each stratum in every batch, as many as its share: no noise from how often a stratum is met.

    Strata are the classes, ten ranges of a regression's target with as many rows each, what `strata` makes of X (a number or
    a label for each row), or what `fit` is given as ``strata=``. The variance of a batch's gradient is ``sum_k W_k s_k^2 / b``
    (Zhao and Zhang 2014, arXiv:1405.3080). A batch needs a row of each stratum.
    """

    strata: Callable | None = None

    def smallest_batch(self, memory):
        """Rows of the smallest batch, one of each stratum."""
        return len(memory.ends)

    def draw(self, memory, sizes):
        """(order, weights, memory) for the next steps."""
        return _stratified_draw(memory, sizes, np.zeros(len(memory.ends)))


@declares(
    start=staticmethod(_strata_start),
    domains={"strata": CALLABLE},
    without_replacement=True,
    weighs_rows=True,
    needs_strata=True,
    strata_from_targets=True,
)
class Neyman(NamedTuple):
    """Rows of each stratum as many as ``W_k s_k`` asks, s_k the deviation of its gradients (Neyman 1934).

    The variance of a batch's gradient is ``(sum_k W_k s_k)^2 / b``, the least for given strata; weights ``W_k b / n_k`` keep
    the gradient unbiased. The deviations are estimated during training, from 64 rows of each stratum at a time, and
    averaged. For the strata see `Stratified`.
    """

    strata: Callable | None = None

    def smallest_batch(self, memory):
        """Rows of the smallest batch, one of each stratum."""
        return len(memory.ends)

    def observe(self, memory, gradients):
        """The memory with the deviations of the gradients as they are now."""
        rows, rng, groups = memory.rows, memory.generator(), []
        if memory.drawn < RENEWED * np.minimum(rows, MEASURED).sum():
            return memory
        for first, count in zip(memory.ends - rows, rows, strict=True):
            chosen = rng.choice(count, MEASURED, replace=False) if count > MEASURED else np.arange(count)
            groups.append(memory.order[first + chosen])
        sums = gradients.statistics(groups)
        variances = sums.squares - sums.square_sums / sums.sizes
        variances = np.maximum(variances, 0.0) / np.maximum(sums.sizes - 1.0, 1.0)
        old = np.where(np.isnan(memory.variances), variances, memory.variances)
        return memory._replace(variances=0.5 * (old + variances), drawn=0.0, turn=memory.turn + 1)

    def draw(self, memory, sizes):
        """(order, weights, memory) for the next steps."""
        variances, shares = np.nan_to_num(memory.variances), memory.rows / memory.ends[-1]
        floor = FLOOR**2 * np.sum(shares * variances)
        return _stratified_draw(memory, sizes, np.sqrt(np.maximum(variances, floor)))


@declares(domains={"strata": CALLABLE}, without_replacement=True, needs_strata=True)
class Groups(NamedTuple):
    """A new permutation of groups of rows in each epoch; the rows of a group stay together, in the order of the data.

    For rows that belong together (patients, shops, days), whose correlation a batch then shows: its gradient has the
    variance ``sigma^2 (1 + (b - 1) rho) / b``. Groups are what `fit` is given as ``strata=``, or what `strata` makes of X. The
    order begins at a random place, so that every row has the same chance in every batch.
    """

    strata: Callable | None = None

    @staticmethod
    def start(n_rows, rows, seed, epoch=0, strata=None):
        rows, codes, ends = _numbered(n_rows, rows, strata)
        return start(n_rows, rows[np.argsort(codes, kind="stable")], seed, epoch)._replace(ends=ends)

    def draw(self, memory, sizes):
        """(order, None, memory) for the next steps."""

        def new_order(memory):
            rng, counts = np.random.Generator(memory.generator()), np.diff(memory.ends, prepend=0)
            groups = rng.permutation(counts.size)
            order = memory.rows[_ranges((memory.ends - counts)[groups], counts[groups])]
            return explicit_order(np.roll(order, rng.integers(order.size)))

        return draw_in_order(memory, sizes, new_order)
