"""Samplers that give every row the same chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import WHOLE
from skminibatch.contract.kinds import declares
from skminibatch.contract.orders import MOST_PLACES, ROUNDS, SMALLEST_KEYED, RowOrder, explicit_order, keyed_order

COPIES = 1 << 20  # of each row, from which those of a draw with replacement are taken


class SamplerMemory(NamedTuple):
    """What a sampler remembers: its rows (empty: all of `n_rows`), its seed, the epoch and the place in it.

    ``ends``, of rows that stand group by group: where each group ends.
    """

    rows: np.ndarray
    n_rows: int
    seed: int
    epoch: int = 0
    order: RowOrder | None = None
    position: int = 0
    ends: np.ndarray | None = None

    def generator(self) -> np.random.Philox:
        """The counter-based generator of this epoch."""
        return np.random.Philox(key=[self.seed, self.epoch])


def start(n_rows: int, rows: np.ndarray | None, seed: int, epoch: int = 0, strata=None) -> SamplerMemory:
    """The memory of any uniform sampler before its first draw."""
    rows = np.empty(0, np.int64) if rows is None else rows
    return SamplerMemory(rows, int(rows.size or n_rows), int(seed), int(epoch))


def draw_in_order(memory: SamplerMemory, sizes, new_order):
    """The next ``sum(sizes)`` rows of the order of the epoch; a new order when the last one is used up."""
    wanted, order = int(np.sum(sizes)), memory.order
    if order is None or memory.position + wanted > memory.n_rows:
        order = new_order(memory)
        memory = memory._replace(order=order, epoch=memory.epoch + 1, position=0)
    position = memory.position
    if order.explicit.size:
        order = order._replace(explicit=order.explicit[position : position + wanted])
    else:
        order = order._replace(start=position)
    return order, None, memory._replace(position=position + wanted)


def _mapped(memory: SamplerMemory, positions: np.ndarray) -> np.ndarray:
    return memory.rows[positions] if memory.rows.size else positions


@declares(start=staticmethod(start), domains={"block": WHOLE}, without_replacement=True)
class Shuffle(NamedTuple):
    """A new uniform permutation of the rows in each epoch."""

    block: int = 1

    @property
    def one_population(self):
        return self.block == 1  # neighbours in the data may be alike, so that a batch of them hides how rows differ

    def draw(self, memory, sizes):
        """(order, weights or None, memory) for the next steps."""

        def new_order(memory):
            n_rows, block = memory.n_rows, min(self.block, memory.n_rows)
            if n_rows >= SMALLEST_KEYED * block:
                keys = memory.generator().random_raw(ROUNDS)
                return keyed_order(n_rows, keys, block=block, subset=memory.rows)
            rng = np.random.Generator(memory.generator())
            if block == 1:
                return explicit_order(_mapped(memory, rng.permutation(n_rows)))
            blocks = rng.permutation(-(-n_rows // block))
            positions = (blocks[:, None] * block + np.arange(block)).ravel()
            return explicit_order(_mapped(memory, positions[positions < n_rows]))

        return draw_in_order(memory, sizes, new_order)


@declares(start=staticmethod(start), domains={"block": WHOLE}, without_replacement=True)
class Blocks(NamedTuple):
    """A new uniform permutation of blocks of consecutive rows in each epoch: memory is read in order, which is faster.

    The rows of a block stay together; where the data have an order (time, classes), shuffle them once beforehand. Batches of
    neighbours do not show how rows differ, so that ``history_`` has no noise.
    """

    block: int = 64

    @property
    def one_population(self):
        return self.block == 1

    def draw(self, memory, sizes):
        """(order, weights or None, memory) for the next steps."""
        return Shuffle(self.block).draw(memory, sizes)


@declares(start=staticmethod(start), one_population=True)
class Replacement(NamedTuple):
    """Rows drawn independently, with replacement.

    Of many rows they are drawn without replacement from a million copies of each, which is the same up to a share of one in a
    million, and needs no list of what was drawn.
    """

    def draw(self, memory, sizes):
        """(order, weights or None, memory) for the next steps."""
        n_rows, generator = memory.n_rows, memory.generator()
        memory = memory._replace(epoch=memory.epoch + 1)
        if n_rows >= SMALLEST_KEYED:
            copies, keys = max(1, min(COPIES, MOST_PLACES // n_rows)), generator.random_raw(ROUNDS)
            return keyed_order(n_rows, keys, subset=memory.rows, copies=copies), None, memory
        drawn = np.random.Generator(generator).integers(n_rows, size=int(np.sum(sizes)))
        return explicit_order(_mapped(memory, drawn)), None, memory


@declares(start=staticmethod(start), without_replacement=True)
class Sequential(NamedTuple):
    """The rows in the order in which they are stored; batches of neighbours do not show the noise of the gradient."""

    def draw(self, memory, sizes):
        """(order, weights or None, memory) for the next steps."""
        return draw_in_order(memory, sizes, lambda memory: explicit_order(_mapped(memory, np.arange(memory.n_rows))))
