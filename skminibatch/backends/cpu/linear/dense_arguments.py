"""What the kernel of dense rows is given and what it writes to, by name."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from skminibatch.backends.cpu.crew import PER_LINE
from skminibatch.backends.cpu.linear.operations import N_PLACES
from skminibatch.backends.cpu.rows import BURST, GROUP, N_WAY, RING
from skminibatch.contract.arrays import readonly

LINE = 64  # bytes of a cache line


class Rows(NamedTuple):
    """The rows of the data, their targets, and weights by row and by position of the plan."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    plan_weights: np.ndarray


class Axes(NamedTuple):
    """The coordinates of dense rows; one that changes nothing is empty."""

    center: np.ndarray
    scale: np.ndarray
    stretch: np.ndarray


class Ahead(NamedTuple):
    """The rows that a thread reads next: what is known of their sequence, and the memory that is asked for."""

    learn: int  # the addresses of the function and of what it reads
    way: int
    cursor: np.ndarray
    ring: np.ndarray
    flat: np.ndarray  # the rows of X one behind the other


class Group(NamedTuple):
    """What is written of a group of rows: their numbers (in `A` and in `X`), raw outputs, ..., and what `operations` find.

    ``read`` is where rows are read: X, or the tile where they have a center.
    """

    rows: np.ndarray
    raw: np.ndarray
    weights: np.ndarray
    square_lengths: np.ndarray
    tile: np.ndarray
    places: np.ndarray
    read: np.ndarray


class Limits(NamedTuple):
    """What bounds a step, which steps are `measured`, and which of the threads this one is."""

    fit_intercept: bool
    clip_norm: float
    measured: np.ndarray
    thread: int
    n_threads: int


def side_by_side(*kinds):
    """Arrays of zeros, one for each (dtype, shape), in one piece of memory, each from a cache line of its own.

    A load waits for any earlier store at the same distance from a page's start, and a vector across two lines costs
    twice: with arrays wherever the allocator puts them, an epoch of single rows takes up to twice as long.
    """
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in kinds]
    memory = np.zeros(sum(-(-size // LINE) * LINE for size in sizes) + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    arrays = []
    for (dtype, shape), size in zip(kinds, sizes, strict=True):
        arrays.append(memory[start : start + size].view(dtype).reshape(shape))
        start += -(-size // LINE) * LINE
    return arrays


class WorkSpace(NamedTuple):
    """What the kernel writes to, for one thread; parameters, gradients and points have rows of full cache lines.

    ``partial`` are the gradients of slices, for even and odd steps, ``sums`` (loss, squares) of slices and ``progress``
    the finished steps of each thread: these three are shared by the threads.
    """

    params: np.ndarray
    gradient: np.ndarray
    point: np.ndarray
    cursor: np.ndarray
    ring: np.ndarray
    burst: np.ndarray
    way: np.ndarray
    group: tuple
    partial: np.ndarray
    sums: np.ndarray
    progress: np.ndarray

    @classmethod
    def of(cls, params, X, centered, n_slices, n_threads) -> list[WorkSpace]:
        """One for each thread, with a copy of the parameters; rows are read in X, or `centered` in a tile."""
        dtype, (m, K, width) = params.dtype, params.shape
        line = LINE // dtype.itemsize
        full = -(-width // line) * line
        shared = (
            (dtype, (2, n_slices, K, full)),
            (np.float64, (2, n_slices, 2)),
            (np.int64, (n_threads * PER_LINE,)),
        )
        own = (
            (dtype, (m, K, full)),
            (dtype, (K, full)),
            (dtype, (K, full)),
            (np.int64, (8,)),
            (np.int64, (RING,)),
            (np.uint64, (2, BURST)),
            (np.int64, (N_WAY,)),
            (np.int64, (2, GROUP)),
            (dtype, (GROUP, K)),
            (np.float64, (2 * GROUP + max(K, GROUP),)),
            (dtype, (GROUP if centered else 0, full)),
            (np.int64, (N_PLACES,)),
        )
        arrays = side_by_side(*shared, *own * n_threads)
        spaces = []
        for start in range(len(shared), len(arrays), len(own)):
            of_thread = arrays[start : start + len(own)]
            of_thread[0][..., :width] = params
            rows, raw, block, tile, places = of_thread[7:]
            read = readonly(tile) if centered else X
            group = rows, raw, block[:GROUP], block[GROUP : 2 * GROUP], tile, places, read
            spaces.append(cls(*of_thread[:7], group, *arrays[: len(shared)]))
        return spaces
