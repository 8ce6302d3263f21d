"""Keyed permutations: the row at a position of a shuffled order, computed instead of stored.

A Feistel network over pairs (left, right) of numbers below about sqrt(n), a bijection of a range hardly larger than n,
is walked until it falls below n (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). The same key gives
the same order on every device, no order is stored, and a position can be asked for in any sequence. ``scramble`` is the
formula of one pass; NumPy evaluates it for arrays and a compiled kernel for scalars.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

ROUNDS = 6  # of a Feistel network; four show in how often neighbours stay neighbours
FIRST, SECOND = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77)  # odd, their bits evenly mixed
LOW = np.uint64(0xFFFFFFFF)
HALF_WORD = np.uint64(32)
SMALLEST_KEYED = 1 << 12  # below, an exactly uniform order is stored; above, a keyed one has bits enough to mix
MOST_PLACES = 1 << 62  # of a permutation, whose width then has 32 bits at most


class RowOrder(NamedTuple):
    """Rows in the order of their visit: stored (`explicit`), or a keyed permutation of blocks of consecutive rows.

    Position i stands for ``explicit[i]`` if that is not empty. Otherwise it is position ``start + i`` of a permutation
    of ``n_rows`` rows in blocks of ``block``, of which the short one stands at place ``short`` of the order; where
    ``subset`` is not empty, it maps the outcome to the rows of the data. Each of the rows is there ``copies`` times, one
    copy behind the other: a part of an order of many copies is a draw with replacement.
    """

    explicit: np.ndarray
    subset: np.ndarray
    keys: np.ndarray
    n_rows: int
    block: int
    short: int
    width: int
    start: int
    copies: int = 1

    @property
    def may_repeat(self) -> bool:
        """Whether it may name a row twice."""
        return bool(self.explicit.size or self.subset.size or self.copies > 1)


def explicit_order(rows) -> RowOrder:
    """An order that is stored."""
    empty = np.empty(0, np.int64)
    return RowOrder(np.ascontiguousarray(rows, np.int64), empty, np.zeros(ROUNDS, np.uint64), 0, 1, 0, 1, 0)


def keyed_order(
    n_rows: int, keys: np.ndarray, *, block: int = 1, subset: np.ndarray | None = None, copies: int = 1
) -> RowOrder:
    """A permutation of `copies` of `n_rows` rows, or of blocks of `block` consecutive ones; `keys`: `ROUNDS` uint64."""
    n_places = n_rows * copies
    n_blocks = -(-n_places // block)
    width = max(2, math.isqrt(n_blocks - 1) + 1)
    subset = np.empty(0, np.int64) if subset is None else np.ascontiguousarray(subset, np.int64)
    order = RowOrder(np.empty(0, np.int64), subset, keys, int(n_rows), int(block), n_blocks, width, 0, int(copies))
    if n_places % block == 0:
        return order
    places = permute(np.arange(n_blocks), n_blocks, width, keys)
    return order._replace(short=int(np.flatnonzero(places == n_blocks - 1)[0]))


def scramble(x, width, keys):
    """One pass of the bijection of the integers below ``width ** 2`` (uint64 in, uint64 out)."""
    w = np.uint64(width)
    left = x // w
    right = x - left * w
    left = turn(left, right, keys[0], w)  # ROUNDS lines: a kernel holds the keys in registers only if it knows which
    right = turn(right, left, keys[1], w)
    left = turn(left, right, keys[2], w)
    right = turn(right, left, keys[3], w)
    left = turn(left, right, keys[4], w)
    right = turn(right, left, keys[5], w)
    return left * w + right


def turn(half, other, key, w):
    """``half`` plus a hash of the other half, below w.

    The hash multiplies 32 bits by 32 bits and folds the product, twice, with a half of the key each time: vector units
    have this product, but not one of 64 bits.
    """
    h = ((other ^ key) & LOW) * FIRST
    h = ((h ^ (h >> HALF_WORD) ^ (key >> HALF_WORD)) & LOW) * SECOND
    half = half + (((h ^ (h >> HALF_WORD)) & LOW) * (w & LOW) >> HALF_WORD)
    return np.minimum(half, half - w)  # below w: the difference wraps around and is the larger one


def permute(i, n: int, width: int, keys: np.ndarray) -> np.ndarray:
    """The images of the integers `i` under the keyed permutation of ``range(n)``."""
    x = scramble(np.asarray(i).astype(np.uint64), width, keys)
    while (outside := x >= n).any():
        x[outside] = scramble(x[outside], width, keys)
    return x.astype(np.int64)


def rows_of(order: RowOrder, start: int, stop: int) -> np.ndarray:
    """The rows at the positions ``start`` to ``stop - 1`` of an order, int64."""
    if order.explicit.size:
        return order.explicit[start:stop]
    i, n_places = np.arange(start, stop) + order.start, order.n_rows * order.copies
    if order.block == 1:
        row = permute(i, n_places, order.width, order.keys)
    else:
        n_blocks = -(-n_places // order.block)
        gap = n_blocks * order.block - n_places if order.short < n_blocks else 0
        # positions behind the short block are shifted, as if that block were full
        i = np.where(i >= (order.short + 1) * order.block - gap, i + gap, i)
        row = permute(i // order.block, n_blocks, order.width, order.keys) * order.block + i % order.block
    row = row // order.copies if order.copies > 1 else row
    return order.subset[row] if order.subset.size else row
