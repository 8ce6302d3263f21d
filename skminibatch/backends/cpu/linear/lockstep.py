"""The kernel of several models that read the same rows in the same order: each row is read once, for all of them.

The models are outputs side by side. A block of rows ends wherever a batch of one of them ends; products and gradients of the
block are those of all outputs at once, and a model makes its step when its own batch is full.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, Kernel, finite, inlined
from skminibatch.backends.cpu.formulas import clipping
from skminibatch.backends.cpu.intrinsics import address_of, call, matrix_at, vector_at
from skminibatch.backends.cpu.linear.dense import add_rows, bring, products, square_norm_of, take_changes
from skminibatch.backends.cpu.linear.lockstep_arguments import Members, WorkSpace
from skminibatch.backends.cpu.linear.operations import N_PLACES
from skminibatch.backends.cpu.rows import (
    AHEAD,
    ASKED,
    GROUP,
    HALF,
    KNOWN,
    MANY,
    TILE,
    USED,
    look_ahead,
    next_rows,
    write_order,
    write_way,
)


def read_rows(X, rows, n, center, tile):
    """The rows go to the tile where they have a center or are sparse; `rows` become their numbers there."""


@overload(read_rows, jit_options=INLINED)
def _read_rows(X, rows, n, center, tile):
    def sparse(X, rows, n, center, tile):
        data, indices, indptr = X
        for t in range(n):
            row = rows[t]
            tile[t] = 0
            for q in range(indptr[row], indptr[row + 1]):
                tile[t, indices[q]] = data[q]
            rows[t] = t

    def dense(X, rows, n, center, tile):
        bring(X, rows, n, center, tile)

    return dense if isinstance(X, types.Array) else sparse


@inlined
def first_end(members, steps, stop):
    """The first position, at most `stop`, at which a batch ends."""
    for m in range(steps.size):
        place = members.first[m] + steps[m]
        if place < members.first[m + 1]:
            stop = min(stop, members.ends[place])
    return stop


@inlined
def write_weights(members, m, position, n, space, are_ones):
    """The weights of a block of rows for a model; whether they are all ones now, as they were before if `are_ones`."""
    weights, plan_weights = members.weights[m], members.plan_weights[m]
    if not (weights or plan_weights):
        if not are_ones:
            for t in range(GROUP):
                space.weights[t] = 1.0
        return True
    for t in range(n):
        weight = vector_at(weights, np.float64, MANY)[space.rows[1, t]] if weights else 1.0
        if plan_weights:
            weight *= vector_at(plan_weights, np.float64, MANY)[position + t]
        space.weights[t] = weight
    return False


@inlined
def residuals_of(raw, own, m, n, K, loss, places, sums):
    """Where the residuals (n, K) of a model are, once they take the place of its raw outputs; losses and squares are added up.

    `raw` has an output in each row. Those of one output stand together; several are copied to `own` and from there.
    """
    outputs, place = raw[m * K : (m + 1) * K], address_of(own)
    if K == 1:
        place = address_of(outputs)
    else:
        for t in range(n):
            for k in range(K):
                own[t, k] = outputs[k, t]
    here = address_of(places) + m * N_PLACES * places.itemsize
    call(loss[m, 0], (loss[m, 1], here, place, address_of(sums) + 2 * m * sums.itemsize, n))
    return place


@inlined
def write_outputs(raw, own, m, n, K):
    """What a model has in `own` instead of its raw outputs, back to these."""
    if K > 1:
        for t in range(n):
            for k in range(K):
                raw[m * K + k, t] = own[t, k]


@inlined
def take_residuals(members, m, n, K, space, dtype):
    """The raw outputs of a model become its residuals, or what these changed by since they were stored."""
    place = residuals_of(space.raw, space.own, m, n, K, members.loss, members.places, space.sums)
    if members.tables[m]:
        take_changes(matrix_at(members.tables[m], dtype, MANY, 1 + K), space.rows[1], n, matrix_at(place, dtype, n, K))
    write_outputs(space.raw, space.own, m, n, K)


@inlined
def step_of(members, m, s, stop, d, K, space, free, scale, dtype):
    """The step of a model whose batch ends at `stop`; whether it could be made."""
    place = members.first[m] + s
    size = stop - (members.ends[place - 1] if s > 0 else 0)
    total, squares, share = space.sums[m, 0], space.sums[m, 1], 1.0 / size
    g = space.gradient[m * K : (m + 1) * K]
    square_norm = square_norm_of(g, dtype(share), d, dtype(free), scale)
    space.losses[place], space.square_norms[place], space.row_squares[place] = total, square_norm, squares
    if not (finite(total) and finite(square_norm)):
        return False
    factor = clipping(square_norm, members.clip_norms[m]) * share
    places = address_of(members.places) + m * N_PLACES * members.places.itemsize
    source, stride = address_of(g), g.shape[1] * g.itemsize
    call(members.step[m, 0], (members.step[m, 1], places, source, 0, stride, s, factor, free))
    for k in range(K):
        for j in range(g.shape[1]):
            g[k, j] = 0
    space.sums[m] = 0
    return True


# The arguments of a kernel are plain tuples, see `dense.run`.
@Kernel
def run(learn, X, order, members, axes, flat, n_features, fit_intercept, space, failed):
    """Carry out the plans of all models; `failed` (M,): the failed step of each, or -1."""
    members, space = Members(*members), WorkSpace(*space)
    center, scale = axes
    M, d, V, A = failed.size, n_features, space.point, space.read
    K, free = V.shape[0] // M, np.float64(fit_intercept)
    dtype, n_rows = V.dtype.type, space.whole[1]
    cursor, ring, steps = space.cursor, space.ring, space.steps
    write_order(space.way, order, space.burst)
    write_way(space.way, cursor, ring, space.whole, 0, 1)
    for m in range(M):
        places = address_of(members.places) + m * N_PLACES * members.places.itemsize
        call(members.look[m, 0], (members.look[m, 1], places, 0))
    by_rows, position, are_ones = space.raw.T, 0, False
    while position < n_rows:
        stop = first_end(members, steps, min(position + GROUP, n_rows))
        n = stop - position
        wanted = cursor[USED] + n + AHEAD
        if cursor[KNOWN] < wanted:
            call(learn, (address_of(space.way), wanted))
        look_ahead(cursor[USED] + AHEAD - cursor[ASKED], cursor, ring, flat, d)
        next_rows(cursor, ring, n, space.rows[0])
        for t in range(n):
            space.rows[1, t] = space.rows[0, t]
        read_rows(X, space.rows[0], n, center, space.tile)
        for t in range(0, n, TILE):
            look_ahead(min(HALF, n - t), cursor, ring, flat, d)
            products(A, space.rows[0], t, min(t + TILE, n), d, V, by_rows, scale, space.square_lengths, True)
        for t in range(n):
            space.square_lengths[t] += free
        for m in range(M):
            if failed[m] < 0:
                are_ones = write_weights(members, m, position, n, space, are_ones)
                take_residuals(members, m, n, K, space, dtype)
        for t in range(0, n, TILE):
            look_ahead(max(0, min(TILE, n - t) - HALF), cursor, ring, flat, d)
            add_rows(A, space.rows[0], t, min(t + TILE, n), d, by_rows, space.gradient)
        for m in range(M):
            if failed[m] < 0 and members.ends[members.first[m] + steps[m]] == stop:
                if step_of(members, m, steps[m], stop, d, K, space, free, scale, dtype):
                    steps[m] += 1
                else:
                    failed[m] = steps[m]
                    steps[m] = members.first[m + 1] - members.first[m]
        position = stop
