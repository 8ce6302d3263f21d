"""Dropout: which units of a batch are kept, by a counter, so that every device draws the same."""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
SIGNIFICANT = 24  # bits of a number that decides


def mixed(x):
    """A bijection of 64 bits that looks random: the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(SECOND)
    return x ^ (x >> np.uint64(31))


def drawn(seed, step, number, count):
    """The random number of a unit: of the count-th of a layer, from one on, in a step (all uint64)."""
    golden = np.uint64(GOLDEN)
    start = mixed(mixed(seed + golden) + step * golden + number)
    return mixed(start + count * golden) >> np.uint64(64 - SIGNIFICANT)


def threshold(dropout: float) -> int:
    """Units whose random number is at least this are kept."""
    return round(dropout * (1 << SIGNIFICANT))


def kept(key: tuple[int, int], number: int, shape: tuple[int, int], dropout: float, like=None) -> np.ndarray:
    """``1 / (1 - dropout)`` for units that are kept, zero for those that are dropped (Srivastava et al. 2014).

    In an array of the library of `like`, of NumPy by default.
    """
    count = np.arange(1, shape[0] * shape[1] + 1, dtype=np.uint64, like=like).reshape(shape)
    seed, step, layer = (np.asarray(k).astype(np.uint64) for k in (*key, number))
    with np.errstate(over="ignore"):
        numbers = drawn(seed, step, layer, count)
    return (numbers >= np.uint64(threshold(dropout))) / (1.0 - dropout)
