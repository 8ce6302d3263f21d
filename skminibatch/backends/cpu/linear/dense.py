"""The kernel of dense rows: a whole plan in one call, on one thread or several.

A batch is cut into slices, whose gradients are added in a fixed order: the number of threads changes no bit. Each
thread keeps its own copy of the parameters and makes every update itself, so that a step needs one meeting of the
threads, and the gradients of even and odd steps stand in different places, so that it needs no second one.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, Kernel, finite, inlined
from skminibatch.backends.cpu.crew import PER_LINE, wait_for
from skminibatch.backends.cpu.formulas import (
    clipping,
    coefficients_at,
    row_weight,
    slots_at,
    store_slots,
)
from skminibatch.backends.cpu.intrinsics import store_release
from skminibatch.backends.cpu.linear.dense_arguments import Ahead, Axes, Group, Limits, Rows, WorkSpace
from skminibatch.backends.cpu.rows import (
    GROUP,
    HALF,
    TILE,
    learn_for,
    look_ahead,
    n_slices,
    next_rows,
    share_of,
    start_cursor,
    unpacked,
)
from skminibatch.contract.steps import stepped
from skminibatch.contract.verbs import follow, gradient, point, update, value, value_gradient


def bring(X, rows, n, center, tile):
    """The rows minus the center: (array, row numbers in it)."""


def where_read(X, center, tile):
    """The array in which `bring` leaves rows."""


@overload(where_read, jit_options=INLINED)
def _where_read(X, center, tile):
    return (lambda X, center, tile: X) if center.ndim == 0 else (lambda X, center, tile: tile)


@overload(bring, jit_options=INLINED)
def _bring(X, rows, n, center, tile):
    if center.ndim == 0:  # no center: read the rows where they are
        return lambda X, rows, n, center, tile: X

    def centered(X, rows, n, center, tile):
        for t in range(n):
            row = rows[t]
            for j in range(X.shape[1]):
                tile[t, j] = X[row, j] - center[j]
            rows[t] = t
        return tile

    return centered


def scaled(x, scale, j):
    """``x * scale[j]``, or x where nothing is scaled."""


@overload(scaled, jit_options=INLINED)
def _scaled(x, scale, j):
    return (lambda x, scale, j: x) if scale.ndim == 0 else (lambda x, scale, j: x * scale[j])


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


def residuals_of(loss, raw, y, rows, weights, n, square_lengths, out, sums):
    """Turn raw outputs into weighted residuals, in place; add (loss, squares of gradients) to `sums`."""


@overload(residuals_of, jit_options=INLINED)
def _residuals_of(loss, raw, y, rows, weights, n, square_lengths, out, sums):
    def pointwise(loss, raw, y, rows, weights, n, square_lengths, out, sums):
        total, squares = 0.0, 0.0
        for t in range(n):
            out[t] = y[rows[t]]
        for t in range(n):
            z, target, s = raw[t, 0], out[t], weights[t]
            total += s * value(loss, z, target)
            r = s * gradient(loss, z, target)
            squares += r * r * square_lengths[t]
            raw[t, 0] = r
        sums[0] += total
        sums[1] += squares

    def rowwise(loss, raw, y, rows, weights, n, square_lengths, out, sums):
        K = raw.shape[1]
        for t in range(n):
            s = weights[t]
            sums[0] += s * value_gradient(loss, raw[t], y[rows[t]], out)
            for k in range(K):
                raw[t, k] = s * out[k]
                sums[1] += s * out[k] * s * out[k] * square_lengths[t]

    return pointwise if y.ndim == 1 else rowwise


def take_changes(table, rows, n, residuals):
    """Turn the residuals of `n` rows into the shares of what they changed by since they were stored; add those to these."""


@overload(take_changes, jit_options=INLINED)
def _take_changes(table, rows, n, residuals):
    def changes(table, rows, n, residuals):
        for t in range(n):
            row = rows[t]
            for k in range(1, table.shape[1]):
                change = table[row, 0] * (residuals[t, k - 1] - table[row, k])
                table[row, k] += change
                residuals[t, k - 1] = change

    return (lambda table, rows, n, residuals: None) if table.ndim == 0 else changes


@inlined
def slice_gradient(loss, data, axes, start, stop, ahead, v, table, fit_intercept, measure, group, g, sums):
    """Add the gradients of the rows at the positions ``start`` to ``stop - 1`` to `g`; that of one alone stays in `group`.

    The sum of squares means something where the rows are measured.
    """
    cursor, ring, burst, order, offsets, n_threads, flat = ahead
    rows, raw, square_lengths = group.rows, group.raw, group.square_lengths
    d = data.X.shape[1]
    position = start
    while position < stop:
        n = min(GROUP, stop - position)
        learn_for(n, cursor, ring, burst, order, offsets, n_threads, flat, d)
        next_rows(cursor, ring, n, rows[0])
        for t in range(n):
            rows[1, t] = rows[0, t]
            group.weights[t] = row_weight(data.weights, data.plan_weights, rows[0, t], position + t)
        A = bring(data.X, rows[0], n, axes.center, group.tile)
        # the memory of later rows is asked for in small portions, between which there is work to do
        for t in range(0, n, TILE):
            look_ahead(min(HALF, n - t), cursor, ring, flat, d)
            products(A, rows[0], t, min(t + TILE, n), d, v, raw, axes.scale, square_lengths, measure)
        if measure:
            for t in range(n):
                square_lengths[t] += fit_intercept
        residuals_of(loss, raw, data.y, rows[1], group.weights, n, square_lengths, group.out, sums)
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
def points(optimizer, params, coefficients, s, scale, d, v):
    """Where step `s` takes the gradient, to be multiplied with rows that are not scaled."""
    c = coefficients_at(optimizer, coefficients, s, coefficients[s, 0])
    for k in range(v.shape[0]):
        for j in range(d):
            v[k, j] = scaled(point(optimizer, params[0, k, j], slots_at(optimizer, params, k, j), c), scale, j)
        v[k, d] = point(optimizer, params[0, k, d], slots_at(optimizer, params, k, d), c)


@inlined
def take_step(penalty, optimizer, params, k, A, row, factor, last, c, following, stretches, scale, d, v):
    """Update output `k` with the gradient ``factor * A[row]``, `last` of the intercept, and where the next step looks.

    The intercept has no penalty; `following` are the coefficients of the next step.
    """
    for j in range(d):
        stretch = scaled(params.dtype.type(1), stretches, j)
        g = scaled(A[row, j] * factor, scale, j)
        w, slots = stepped(penalty, optimizer, params[0, k, j], g, slots_at(optimizer, params, k, j), stretch, True, c)
        slots = follow(optimizer, w, slots, c)
        params[0, k, j] = w
        store_slots(optimizer, params, k, j, slots)
        v[k, j] = scaled(point(optimizer, w, slots, following), scale, j)
    w, slots, _ = update(optimizer, params[0, k, d], last, slots_at(optimizer, params, k, d), c)
    slots = follow(optimizer, w, slots, c)
    params[0, k, d] = w
    store_slots(optimizer, params, k, d, slots)
    v[k, d] = point(optimizer, w, slots, following)


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


# The arguments of a kernel are plain tuples: a named one costs each call 3 us. So they get their names inside.
@Kernel
def run(parts, data, order, offsets, coefficients, axes, flat, limits, table, space, stats):
    """Carry out a plan as thread `thread` of `n_threads`; the failed step, or -1.

    The fields of `Rows`, `Axes`, `Limits`, `WorkSpace` and the arrays of `StepStats` as tuples.
    """
    loss, penalty, optimizer = parts
    data, axes, limits, space = Rows(*data), Axes(*axes), Limits(*limits), WorkSpace(*space)
    group = Group(*space.group)
    thread, n_threads, measured, v = limits.thread, limits.n_threads, limits.measured, space.point
    params, G, sums, scale = space.params, space.partial, space.sums, axes.scale
    A = where_read(data.X, axes.center, group.tile)
    losses, square_norms, row_squares = stats
    d, free = data.X.shape[1], params.dtype.type(limits.fit_intercept)
    ahead = Ahead(space.cursor, space.ring, space.burst, unpacked(order), offsets, n_threads, flat)
    start_cursor(space.cursor, thread, offsets, n_threads)
    points(optimizer, params, coefficients, 0, scale, d, v)
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
            square_norm = square_norm_of(g, params.dtype.type(share), d, free, scale)
        losses[s], square_norms[s] = total, square_norm
        row_squares[s] = squares if measured[s] else np.nan
        if not (finite(total) and finite(square_norm)):
            return s
        factor = params.dtype.type(clipping(square_norm, limits.clip_norm) * share)
        c = coefficients_at(optimizer, coefficients, s, coefficients[s, 0])
        after = min(s + 1, n_steps - 1)
        following = coefficients_at(optimizer, coefficients, after, coefficients[after, 0])
        for k in range(v.shape[0]):
            if size == 1:  # the gradient of one row is the row times its residual: it was not written to g
                row, f = group.rows[0, 0], group.raw[0, k] * factor
                take_step(penalty, optimizer, params, k, A, row, f, f * free, c, following, axes.stretch, scale, d, v)
            else:
                f = factor * g[k, d] * free
                take_step(penalty, optimizer, params, k, g, k, factor, f, c, following, axes.stretch, scale, d, v)
    return -1
