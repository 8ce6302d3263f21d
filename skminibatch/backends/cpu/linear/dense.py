"""The kernel of dense rows: a whole plan in one call, on one thread or several.

A batch is cut into slices, whose gradients are added in a fixed order: the number of threads changes no bit. Each
thread keeps its own copy of the parameters and makes every update itself, so that a step needs one meeting of the
threads, and the gradients of even and odd steps stand in different places, so that it needs no second one.
"""

from __future__ import annotations

import numpy as np

from skminibatch.backends.cpu.compile import Kernel, finite, inlined
from skminibatch.backends.cpu.crew import PER_LINE, wait_for
from skminibatch.backends.cpu.formulas import clipping, row_weight
from skminibatch.backends.cpu.intrinsics import address_of, call, store_release
from skminibatch.backends.cpu.linear.dense_arguments import Ahead, Axes, Group, Limits, Rows, WorkSpace
from skminibatch.backends.cpu.linear.operations import (
    BLOCK,
    CAPACITY,
    COEFFICIENTS,
    N_COEFFICIENTS,
    N_FEATURES,
    N_OUTPUTS,
    N_STEPS,
    N_TARGETS,
    PARAMS,
    POINT,
    ROWS,
    SCALE,
    STRETCH,
    TARGETS,
    WIDTH,
)
from skminibatch.backends.cpu.rows import (
    AHEAD,
    ASKED,
    GROUP,
    HALF,
    KNOWN,
    TILE,
    USED,
    look_ahead,
    n_slices,
    next_rows,
    share_of,
    write_order,
    write_way,
)


@inlined
def bring(X, rows, n, center, tile):
    """The rows minus the center go to the tile, and `rows` become their numbers there; without a center nothing moves."""
    if center.size == 0:
        return
    for t in range(n):
        row = rows[t]
        for j in range(X.shape[1]):
            tile[t, j] = X[row, j] - center[j]
        rows[t] = t


@inlined
def scaled(x, scale, j):
    """``x * scale[j]``, or x where nothing is scaled."""
    return x * scale[j] if scale.size else x


@inlined
def products(A, rows, first, last, d, v, raw, scale, square_lengths, measure):
    """``raw[t, k] = A[rows[t]] . v[k] + intercept`` and ``|scale A[rows[t]]|^2`` for the rows ``first`` to ``last - 1``."""
    # Four rows share each pass over the features, with eight sums in registers: of two outputs or, in the first pass of a
    # step that is measured, of one output and the squared lengths. An odd output that is left has a pass of its own.
    #
    #                 measure            otherwise
    #   pass 1    raw[:, 0], lengths   raw[:, 0], raw[:, 1]
    #   pass 2    raw[:, 1], raw[:, 2] raw[:, 2], raw[:, 3]
    #   ...
    #
    # Rows that fill no tile of four are computed one by one.
    zero = A.dtype.type(0)
    if last - first == TILE:
        t = first
        r0, r1, r2, r3 = rows[t], rows[t + 1], rows[t + 2], rows[t + 3]
        a0, a1, a2, a3, s0, s1, s2, s3 = zero, zero, zero, zero, zero, zero, zero, zero
        if measure:
            for j in range(d):
                a0 += A[r0, j] * v[0, j]
                a1 += A[r1, j] * v[0, j]
                a2 += A[r2, j] * v[0, j]
                a3 += A[r3, j] * v[0, j]
                s0 += scaled(A[r0, j], scale, j) * scaled(A[r0, j], scale, j)
                s1 += scaled(A[r1, j], scale, j) * scaled(A[r1, j], scale, j)
                s2 += scaled(A[r2, j], scale, j) * scaled(A[r2, j], scale, j)
                s3 += scaled(A[r3, j], scale, j) * scaled(A[r3, j], scale, j)
            square_lengths[t], square_lengths[t + 1], square_lengths[t + 2], square_lengths[t + 3] = s0, s1, s2, s3
            b = v[0, d]
            raw[t, 0], raw[t + 1, 0], raw[t + 2, 0], raw[t + 3, 0] = a0 + b, a1 + b, a2 + b, a3 + b
        k = 1 if measure else 0
        while k + 2 <= v.shape[0]:
            a0, a1, a2, a3, s0, s1, s2, s3 = zero, zero, zero, zero, zero, zero, zero, zero
            for j in range(d):
                a0 += A[r0, j] * v[k, j]
                a1 += A[r1, j] * v[k, j]
                a2 += A[r2, j] * v[k, j]
                a3 += A[r3, j] * v[k, j]
                s0 += A[r0, j] * v[k + 1, j]
                s1 += A[r1, j] * v[k + 1, j]
                s2 += A[r2, j] * v[k + 1, j]
                s3 += A[r3, j] * v[k + 1, j]
            b, c = v[k, d], v[k + 1, d]
            raw[t, k], raw[t + 1, k], raw[t + 2, k], raw[t + 3, k] = a0 + b, a1 + b, a2 + b, a3 + b
            raw[t, k + 1], raw[t + 1, k + 1], raw[t + 2, k + 1], raw[t + 3, k + 1] = s0 + c, s1 + c, s2 + c, s3 + c
            k += 2
        if k < v.shape[0]:
            a0, a1, a2, a3 = zero, zero, zero, zero
            for j in range(d):
                a0 += A[r0, j] * v[k, j]
                a1 += A[r1, j] * v[k, j]
                a2 += A[r2, j] * v[k, j]
                a3 += A[r3, j] * v[k, j]
            b = v[k, d]
            raw[t, k], raw[t + 1, k], raw[t + 2, k], raw[t + 3, k] = a0 + b, a1 + b, a2 + b, a3 + b
        return
    for t in range(first, last):
        r0 = rows[t]
        if measure:
            a0, s0 = zero, zero
            for j in range(d):
                a0 += A[r0, j] * v[0, j]
                s0 += scaled(A[r0, j], scale, j) * scaled(A[r0, j], scale, j)
            square_lengths[t] = s0
            raw[t, 0] = a0 + v[0, d]
        for k in range(1 if measure else 0, v.shape[0]):
            a0 = zero
            for j in range(d):
                a0 += A[r0, j] * v[k, j]
            raw[t, k] = a0 + v[k, d]


@inlined
def add_rows(A, rows, first, last, d, residuals, g):
    """``g[k] += sum_t residuals[t, k] (A[rows[t]], 1)`` for the rows ``first`` to ``last - 1``."""
    if last - first == TILE:
        t = first
        r0, r1, r2, r3 = rows[t], rows[t + 1], rows[t + 2], rows[t + 3]
        k = 0
        while k + 2 <= g.shape[0]:
            f0, f1, f2, f3 = residuals[t, k], residuals[t + 1, k], residuals[t + 2, k], residuals[t + 3, k]
            h0, h1, h2, h3 = (
                residuals[t, k + 1],
                residuals[t + 1, k + 1],
                residuals[t + 2, k + 1],
                residuals[t + 3, k + 1],
            )
            for j in range(d):
                x0, x1, x2, x3 = A[r0, j], A[r1, j], A[r2, j], A[r3, j]
                g[k, j] += f0 * x0 + f1 * x1 + f2 * x2 + f3 * x3
                g[k + 1, j] += h0 * x0 + h1 * x1 + h2 * x2 + h3 * x3
            g[k, d] += f0 + f1 + f2 + f3
            g[k + 1, d] += h0 + h1 + h2 + h3
            k += 2
        if k < g.shape[0]:
            f0, f1, f2, f3 = residuals[t, k], residuals[t + 1, k], residuals[t + 2, k], residuals[t + 3, k]
            for j in range(d):
                g[k, j] += f0 * A[r0, j] + f1 * A[r1, j] + f2 * A[r2, j] + f3 * A[r3, j]
            g[k, d] += f0 + f1 + f2 + f3
        return
    for t in range(first, last):
        r0 = rows[t]
        for k in range(g.shape[0]):
            f0 = residuals[t, k]
            for j in range(d):
                g[k, j] += f0 * A[r0, j]
            g[k, d] += f0


@inlined
def take_changes(table, rows, n, residuals):
    """Turn the residuals of `n` rows into the shares of what they changed by since they were stored; add those to these."""
    if table.size == 0:
        return
    for t in range(n):
        row = rows[t]
        for k in range(1, table.shape[1]):
            change = table[row, 0] * (residuals[t, k - 1] - table[row, k])
            table[row, k] += change
            residuals[t, k - 1] = change


@inlined
def slice_gradient(loss, data, axes, start, stop, ahead, v, table, fit_intercept, measure, group, g, sums):
    """Add the gradients of the rows at the positions ``start`` to ``stop - 1`` to `g`; that of one alone stays in `group`.

    The sum of squares means something where the rows are measured.
    """
    learn, way, cursor, ring, flat = ahead
    rows, raw, square_lengths = group.rows, group.raw, group.square_lengths
    d, A = data.X.shape[1], group.read
    position = start
    while position < stop:
        n = min(GROUP, stop - position)
        wanted = cursor[USED] + n + AHEAD
        if cursor[KNOWN] < wanted:
            call(learn, (way, wanted))
        # the first rows of a plan are asked for here, later ones below, while there is work to do
        look_ahead(cursor[USED] + AHEAD - cursor[ASKED], cursor, ring, flat, d)
        next_rows(cursor, ring, n, rows[0])
        for t in range(n):
            rows[1, t] = rows[0, t]
            group.weights[t] = row_weight(data.weights, data.plan_weights, rows[0, t], position + t)
        bring(data.X, rows[0], n, axes.center, group.tile)
        # the memory of later rows is asked for in small portions, between which there is work to do
        for t in range(0, n, TILE):
            look_ahead(min(HALF, n - t), cursor, ring, flat, d)
            products(A, rows[0], t, min(t + TILE, n), d, v, raw, axes.scale, square_lengths, measure)
        if measure:
            for t in range(n):
                square_lengths[t] += fit_intercept
        call(loss[0], (loss[1], address_of(group.places), address_of(raw), address_of(sums), n))
        take_changes(table, rows[1], n, raw)
        for t in range(0, n, TILE):
            count = max(0, min(TILE, n - t) - HALF)
            look_ahead(count, cursor, ring, flat, d)
            if stop - start > 1:
                add_rows(A, rows[0], t, min(t + TILE, n), d, raw, g)
        position += n


@inlined
def meet(progress, thread, n_threads, s):
    """Wait until every thread has finished its part of step `s`."""
    if n_threads == 1:
        return
    store_release(progress, thread * PER_LINE, s + 1)
    for other in range(n_threads):
        wait_for(progress, other, s + 1)


@inlined
def add_slices(G, n_parts, g):
    """The sum of the gradients of two slices or more of a batch."""
    for k in range(g.shape[0]):
        for j in range(g.shape[1]):
            g[k, j] = G[0, k, j] + G[1, k, j]
        for part in range(2, n_parts):
            for j in range(g.shape[1]):
                g[k, j] += G[part, k, j]


@inlined
def square_norm_of(g, share, d, free, scale):
    """Squared norm of the gradient ``share * g``; `free`: 1 with an intercept, else 0."""
    square_norm = 0.0
    for k in range(g.shape[0]):
        total = g.dtype.type(0)
        for j in range(d):
            x = scaled(g[k, j] * share, scale, j)
            total += x * x
        last = g[k, d] * share * free
        square_norm += total + last * last
    return square_norm


@inlined
def write_places(places, data, group, space, coefficients, axes):
    """Write down where the functions of the parts find what they need."""
    places[TARGETS], places[N_TARGETS] = address_of(data.y), data.y.size // data.X.shape[0]
    places[ROWS] = address_of(group.rows) + GROUP * group.rows.itemsize
    places[BLOCK], places[CAPACITY] = address_of(group.weights), GROUP
    places[N_OUTPUTS], places[N_FEATURES], places[WIDTH] = space.params.shape[1], data.X.shape[1], space.params.shape[2]
    places[PARAMS], places[POINT] = address_of(space.params), address_of(space.point)
    places[COEFFICIENTS], places[N_COEFFICIENTS] = address_of(coefficients), coefficients.shape[1]
    places[N_STEPS] = coefficients.shape[0]
    places[SCALE], places[STRETCH] = address_of(axes.scale), address_of(axes.stretch)


# The arguments of a kernel are plain tuples: a named one costs each call 3 us. So they get their names inside.
@Kernel
def run(addresses, data, order, offsets, coefficients, axes, flat, limits, table, space, stats):
    """Carry out a plan as thread `thread` of `n_threads`; the failed step, or -1.

    `addresses`: that of `learn`, and those of the residuals, the step and the look, each with that of its numbers. The others
    are the fields of `Rows`, `Axes`, `Limits`, `WorkSpace` and the arrays of `StepStats` as tuples.
    """
    learn, loss, step, look = addresses
    data, axes, limits, space = Rows(*data), Axes(*axes), Limits(*limits), WorkSpace(*space)
    group = Group(*space.group)
    thread, n_threads, measured, v = limits.thread, limits.n_threads, limits.measured, space.point
    params, G, sums, scale = space.params, space.partial, space.sums, axes.scale
    A = group.read
    losses, square_norms, row_squares = stats
    d, free = data.X.shape[1], np.float64(limits.fit_intercept)
    write_order(space.way, order, space.burst)
    write_way(space.way, space.cursor, space.ring, offsets, thread, n_threads)
    ahead = Ahead(learn, address_of(space.way), space.cursor, space.ring, flat)
    places = address_of(group.places)
    write_places(group.places, data, group, space, coefficients, axes)
    call(look[0], (look[1], places, 0))
    n_steps = offsets.shape[0] - 1
    for s in range(n_steps):
        start = offsets[s]
        size = offsets[s + 1] - start
        n_parts = n_slices(size)
        parity = s % 2
        for part in range(thread, n_parts, n_threads):
            first, last = start + share_of(size, part, n_parts), start + share_of(size, part + 1, n_parts)
            if last - first > 1:
                G[parity, part] = 0
            sums[parity, part] = 0
            slice_gradient(
                loss, data, axes, first, last, ahead, v, table, limits.fit_intercept, measured[s], group,
                G[parity, part], sums[parity, part],
            )  # fmt: skip
        meet(space.progress, thread, n_threads, s)
        total, squares = 0.0, 0.0
        for part in range(n_parts):
            total += sums[parity, part, 0]
            squares += sums[parity, part, 1]
        share = 1.0 / size
        g = space.gradient if n_parts > 1 else G[parity, 0]
        if n_parts > 1:
            add_slices(G[parity], n_parts, space.gradient)
        square_norm = squares
        if size > 1:
            square_norm = square_norm_of(g, params.dtype.type(share), d, params.dtype.type(free), scale)
        losses[s], square_norms[s] = total, square_norm
        row_squares[s] = squares if measured[s] else np.nan
        if not (finite(total) and finite(square_norm)):
            return s
        factor = clipping(square_norm, limits.clip_norm) * share
        if size == 1:  # the gradient of one row is the row times its residual: it was not written to g
            source = address_of(A) + group.rows[0, 0] * A.shape[1] * A.itemsize
            call(step[0], (step[1], places, source, address_of(group.raw), 0, s, factor, free))
        else:
            call(step[0], (step[1], places, address_of(g), 0, g.shape[1] * g.itemsize, s, factor, free))
    return -1
