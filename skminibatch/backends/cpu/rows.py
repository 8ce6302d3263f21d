"""Which row comes next: evaluating an order, and looking ahead of the row in work so that it is in the cache by then.

Kernels ask for rows by the address of `find` or `learn`, which are compiled once for all of them.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, inlined
from skminibatch.backends.cpu.intrinsics import address_of, matrix_at, prefetch, vector_at
from skminibatch.backends.cpu.operations import ADDRESS, COUNT, compiled
from skminibatch.contract import orders
from skminibatch.contract.orders import ROUNDS, scramble, turn

RING = 64  # rows that are known ahead, a power of two above GROUP + AHEAD + BURST - 1
BURST = 32  # positions of a keyed order that are evaluated at once, in vectors
AHEAD = 16  # rows between the request of a row and its use, no fewer than a group
TILE = 4  # rows that share a pass over the parameters
HALF = 2  # of a tile, looked ahead for while outputs are computed; the rest while gradients are added
GROUP = 16  # rows whose residuals are computed together
ROWS_A_SLICE = 64  # a batch is cut into slices of about this many rows, whatever the number of threads
MOST_SLICES = 8

# the fields of a cursor
STEP, SLICE, POSITION, END, KNOWN, ASKED, USED, THREAD = 0, 1, 2, 3, 4, 5, 6, 7

# what a kernel writes down of an order, and of its way through it
EXPLICIT, N_EXPLICIT, SUBSET, N_SUBSET, KEYS, LAYOUT, SCRATCH = 0, 1, 2, 3, 4, 5, 11
CURSOR, KNOWN_ROWS, OFFSETS, N_STEPS, N_THREADS, N_WAY = 12, 13, 14, 15, 16, 17
MANY = 1 << 40  # the length of an array that is read by known numbers alone
FIND = types.void(ADDRESS, COUNT, COUNT, ADDRESS, COUNT, COUNT)
LEARN = types.void(ADDRESS, COUNT)


@overload(orders.turn, jit_options=INLINED)
def _turn(half, other, key, w):
    return orders.turn


@overload(orders.scramble, jit_options=INLINED)
def _scramble(x, width, keys):
    return orders.scramble


@inlined
def n_slices(size):
    """Number of slices of a batch of `size` rows."""
    return max(1, min(MOST_SLICES, size // ROWS_A_SLICE))


@inlined
def share_of(size, part, count):
    """Where part number `part` of `count` begins; a small batch is one part and pays for no division."""
    return part * size if count == 1 else size * part // count


@inlined
def place_of(layout, i):
    """Position `i` of an order of blocks as (place of its block, position in the block)."""
    n_places, block, short, _, start, _ = layout
    i += start
    n_blocks = (n_places + block - 1) // block
    gap = n_blocks * block - n_places if short < n_blocks else 0
    if i >= (short + 1) * block - gap:
        i += gap
    return i // block, i % block


@inlined
def walk(x, n, width, keys):
    """The first number below `n` on the way of `x` through the permutation."""
    while x >= np.uint64(n):
        x = scramble(x, width, keys)
    return np.int64(x)


@inlined
def scramble_burst(i, width, keys, halves):
    """``halves[0, t] = scramble(i + t)`` for a width of at least `BURST`.

    Round after round for all positions: the numbers of one round do not wait for each other.
    """
    w = np.uint64(width)
    left, right = halves[0], halves[1]
    quotient = i // w
    remainder = i - quotient * w
    for t in range(BURST):
        r = remainder + np.uint64(t)
        left[t] = quotient + np.uint64(r >= w)
        right[t] = np.minimum(r, r - w)
    for k in range(0, ROUNDS, 2):
        key, next_key = keys[k], keys[k + 1]
        for t in range(BURST):
            left[t] = turn(left[t], right[t], key, w)
        for t in range(BURST):
            right[t] = turn(right[t], left[t], next_key, w)
    for t in range(BURST):
        left[t] = left[t] * w + right[t]


@inlined
def row_at(place, copies, subset):
    """The row that stands at a place of a permutation."""
    row = place // copies if copies > 1 else place
    return subset[row] if subset.size else row


@inlined
def find_rows(order, start, stop, out, first, mask, burst):
    """``out[first & mask], ...``: the rows at the positions ``start`` to ``stop - 1``; `burst` is written to."""
    explicit, subset, keys, layout = order
    n_places, block, _, width, shift, copies = layout
    if explicit.size:
        for t in range(stop - start):
            out[(first + t) & mask] = explicit[start + t]
    elif block > 1 or width < BURST:
        known, x = -1, 0
        n_blocks = (n_places + block - 1) // block
        for t in range(stop - start):
            place, inside = place_of(layout, start + t)
            if place != known:
                known, x = place, walk(scramble(np.uint64(place), width, keys), n_blocks, width, keys) * block
            out[(first + t) & mask] = row_at(x + inside, copies, subset)
    else:
        for base in range(0, stop - start, BURST):
            scramble_burst(np.uint64(start + base + shift), width, keys, burst)
            for t in range(min(BURST, stop - start - base)):
                place = walk(burst[0, t], n_places, width, keys)
                out[(first + base + t) & mask] = row_at(place, copies, subset)


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
def learn_more(cursor, ring, burst, order, offsets, n_threads):
    """Find out up to `BURST` more rows of this thread's sequence."""
    position, end = cursor[POSITION], cursor[END]
    stop = min(position + BURST, end)
    find_rows(order, position, stop, ring, cursor[KNOWN], RING - 1, burst)
    cursor[KNOWN] += stop - position
    cursor[POSITION] = stop
    if stop == end:
        cursor[SLICE] += n_threads
        enter_slice(cursor, offsets, n_threads)


@inlined
def look_ahead(count, cursor, ring, flat, row_length):
    """Ask for the memory of the next `count` rows that are known and were not asked for yet."""
    line = 64 // flat.itemsize
    asked = cursor[ASKED]
    stop_at = min(asked + count, cursor[KNOWN])
    while asked < stop_at:
        place = ring[asked & (RING - 1)] * row_length
        asked += 1
        stop = place + row_length
        while place < stop:
            prefetch(flat, place)
            place += line
    cursor[ASKED] = asked


@inlined
def start_cursor(cursor, thread, offsets, n_threads):
    """Put the cursor before the first row of this thread's sequence."""
    cursor[:] = 0
    cursor[THREAD] = thread
    if n_threads == 1:  # all slices, one behind the other
        cursor[STEP] = offsets.shape[0] - 1
        cursor[END] = offsets[cursor[STEP]]
    else:
        cursor[SLICE] = thread
        enter_slice(cursor, offsets, n_threads)


@inlined
def next_rows(cursor, ring, n, rows):
    """The next `n` rows of this thread's sequence."""
    used = cursor[USED]
    for t in range(n):
        rows[t] = ring[(used + t) & (RING - 1)]
    cursor[USED] = used + n


@inlined
def write_order(way, order, burst):
    """Write down what `find` needs; `burst` is what it writes to."""
    way[EXPLICIT], way[N_EXPLICIT] = address_of(order.explicit), order.explicit.size
    way[SUBSET], way[N_SUBSET] = address_of(order.subset), order.subset.size
    way[KEYS], way[SCRATCH] = address_of(order.keys), address_of(burst)
    layout = (order.n_rows * order.copies, order.block, order.short, order.width, order.start, order.copies)
    for i in range(6):
        way[LAYOUT + i] = layout[i]


@inlined
def write_way(way, cursor, ring, offsets, thread, n_threads):
    """Write down what `learn` needs in addition, before the first row."""
    way[CURSOR], way[KNOWN_ROWS] = address_of(cursor), address_of(ring)
    way[OFFSETS], way[N_STEPS], way[N_THREADS] = address_of(offsets), offsets.shape[0] - 1, n_threads
    cursor[:] = 0
    cursor[THREAD] = thread


@inlined
def order_at(places):
    """What was written down, as `find_rows` takes it, and the array that it writes to."""
    way = vector_at(places, np.int64, N_WAY)
    layout = (way[LAYOUT], way[LAYOUT + 1], way[LAYOUT + 2], way[LAYOUT + 3], way[LAYOUT + 4], way[LAYOUT + 5])
    explicit = vector_at(way[EXPLICIT], np.int64, way[N_EXPLICIT])
    subset = vector_at(way[SUBSET], np.int64, way[N_SUBSET])
    keys = vector_at(way[KEYS], np.uint64, ROUNDS)
    return (explicit, subset, keys, layout), matrix_at(way[SCRATCH], np.uint64, 2, BURST)


def find() -> int:
    """The address of the function that finds the rows at some positions, see `find_rows`."""
    return compiled(_find, (), FIND).address


def learn() -> int:
    """The address of the function that finds the rows that a thread visits next, up to a number of them."""
    return compiled(_learn, (), LEARN).address


def _find():
    def run(places, start, stop, out, first, mask):
        order, burst = order_at(places)
        find_rows(order, start, stop, vector_at(out, np.int64, MANY), first, mask, burst)

    return run


def _learn():
    def run(places, wanted):
        way = vector_at(places, np.int64, N_WAY)
        order, burst = order_at(places)
        cursor, ring = vector_at(way[CURSOR], np.int64, 8), vector_at(way[KNOWN_ROWS], np.int64, RING)
        offsets, n_threads = vector_at(way[OFFSETS], np.int64, way[N_STEPS] + 1), way[N_THREADS]
        if cursor[KNOWN] == 0:
            start_cursor(cursor, cursor[THREAD], offsets, n_threads)
        while cursor[KNOWN] < wanted:
            known = cursor[KNOWN]
            learn_more(cursor, ring, burst, order, offsets, n_threads)
            if cursor[KNOWN] == known:
                break

    return run
