"""Which row comes next: evaluating an order, and looking ahead of the row in work so that it is in the cache by then."""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from skminibatch import _permutation
from skminibatch._permutation import scramble
from skminibatch.backends.cpu.compile import INLINED, inlined
from skminibatch.backends.cpu.intrinsics import prefetch

RING = 32  # rows that are known ahead, a power of two
AHEAD = 16  # rows between the request of a row and its use, no fewer than a group
TILE = 4  # rows that share a pass over the parameters
HALF = 2  # of a tile, looked ahead for while outputs are computed; the rest while gradients are added
GROUP = 16  # rows whose residuals are computed together
ROWS_A_SLICE = 64  # a batch is cut into slices of about this many rows, whatever the number of threads
MOST_SLICES = 8

# the fields of a cursor
STEP, SLICE, POSITION, END, KNOWN, USED, THREAD = 0, 1, 2, 3, 4, 5, 6


@overload(_permutation.turn, jit_options=INLINED)
def _turn(half, other, key, w):
    return _permutation.turn


@overload(_permutation.scramble, jit_options=INLINED)
def _scramble(x, width, keys):
    return _permutation.scramble


@inlined
def n_slices(size):
    """Number of slices of a batch of `size` rows."""
    return max(1, min(MOST_SLICES, size // ROWS_A_SLICE))


@inlined
def share_of(size, part, count):
    """Where part number `part` of `count` begins; a small batch is one part and pays for no division."""
    return part * size if count == 1 else size * part // count


@inlined
def keyed_row(layout, keys, i):
    """Position `i` of a keyed order, before the subset; scalars and tuples only, so that nothing is counted."""
    n_places, block, short, width, start = layout
    i += start
    inside = 0
    if block > 1:
        n_rows = n_places
        n_places = (n_rows + block - 1) // block
        gap = n_places * block - n_rows if short < n_places else 0
        if i >= (short + 1) * block - gap:
            i += gap
        inside = i % block
        i //= block
    x = scramble(np.uint64(i), width, keys)
    while x >= np.uint64(n_places):
        x = scramble(x, width, keys)
    return np.int64(x) * block + inside


@inlined
def enter_slice(cursor, offsets, n_threads):
    """Put the cursor on the first position of the next slice of its thread; past the last step there is none."""
    n_steps = offsets.shape[0] - 1
    while cursor[STEP] < n_steps:
        start = offsets[cursor[STEP]]
        size = offsets[cursor[STEP] + 1] - start
        count = n_slices(size)
        if cursor[SLICE] < count:
            cursor[POSITION] = start + share_of(size, cursor[SLICE], count)
            cursor[END] = start + share_of(size, cursor[SLICE] + 1, count)
            if cursor[POSITION] < cursor[END]:
                return
            cursor[SLICE] += n_threads
        else:
            cursor[STEP] += 1
            cursor[SLICE] = cursor[THREAD]


@inlined
def look_ahead(count, cursor, ring, explicit, subset, keys, layout, offsets, n_threads, flat, row_length):
    """Learn `count` more rows of this thread's sequence and ask for their memory."""
    last = offsets.shape[0] - 1
    line = 64 // flat.itemsize
    known, position, end = cursor[KNOWN], cursor[POSITION], cursor[END]
    for _ in range(count):
        if cursor[STEP] >= last:
            break
        if explicit.size:
            row = explicit[position]
        else:
            row = keyed_row(layout, keys, position)
            if subset.size:
                row = subset[row]
        ring[known & (RING - 1)] = row
        known += 1
        place = row * row_length
        stop = place + row_length
        while place < stop:
            prefetch(flat, place)
            place += line
        position += 1
        if position == end:
            cursor[SLICE] += n_threads
            enter_slice(cursor, offsets, n_threads)
            position, end = cursor[POSITION], cursor[END]
    cursor[KNOWN], cursor[POSITION] = known, position


@inlined
def start_cursor(cursor, thread, offsets, n_threads):
    """Put the cursor before the first row of this thread's sequence."""
    cursor[:] = 0
    cursor[SLICE] = thread
    cursor[THREAD] = thread
    enter_slice(cursor, offsets, n_threads)


@inlined
def next_row(cursor, ring):
    """The next row of this thread's sequence."""
    row = ring[cursor[USED] & (RING - 1)]
    cursor[USED] += 1
    return row
