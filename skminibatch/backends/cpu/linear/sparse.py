"""The kernels of sparse rows: the cost of a step grows with the non-zeros of its batch, not with the features.

An optimizer that is linear in (parameters, slots, gradient) maps the state ``s`` of a coordinate that no row of a batch
touches to ``A s``, with one small matrix ``A`` for all coordinates. So the kernel keeps ``u`` with ``s = P u``, where ``P``
is the product of the matrices so far: an untouched coordinate costs nothing, a touched one gets ``u += h g`` with ``h =
P^-1 (response to a unit gradient)``, and the raw output of a row is the dot product of its values with ``e . u``, where
``e`` is what the optimizer makes of ``P`` at the point of the gradient. Before ``P`` becomes ill-conditioned, ``u`` is made
explicit and ``P`` starts again from the identity (a sweep).

Features in coordinates of their own (see `Coordinates`) are multiplied by their scale where a value is read, and the
penalty acts on them by their stretch: a power of two, so that there are few kinds of coordinates, each with its own ``A``,
``P``, ``h`` and ``e``. Where nothing is scaled, there is one kind, and the arrays that would tell have no dimension.

An l1 penalty subtracts a threshold from |w| in every step. Where w does not depend on the slots, thresholds in the
coordinates of ``u`` simply add up, so that a coordinate catches up at its next touch; an average of w misses what the
thresholds took since then, which prefix sums over the steps give exactly.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, Kernel, finite, inlined
from skminibatch.backends.cpu.formulas import clipping, row_weight
from skminibatch.backends.cpu.intrinsics import address_of, call, prefetch
from skminibatch.backends.cpu.linear.dense import take_changes
from skminibatch.backends.cpu.linear.lazy import catch_up, kind_of, make_explicit, multiply, solve
from skminibatch.backends.cpu.linear.operations import (
    BLOCK,
    CAPACITY,
    COEFFICIENTS,
    DATA,
    GRADIENT,
    HAS_INTERCEPT,
    INDICES,
    INDPTR,
    KINDS,
    MAPS,
    N_COEFFICIENTS,
    N_FEATURES,
    N_KINDS,
    N_OUTPUTS,
    N_TARGETS,
    N_TOUCHED,
    PARAMS,
    POINT,
    RAW,
    READ,
    RESPONSES,
    ROWS,
    SCALE,
    STRETCH,
    TARGETS,
    TOUCHED,
    UNIT,
)
from skminibatch.backends.cpu.linear.sparse_arguments import Axes, Batch, Limits, Maps, Thresholds
from skminibatch.backends.cpu.rows import write_order

CONDITION = 1e6  # of P, above which a sweep is due
FAR, NEAR = 16, 8  # rows ahead
EVERY = -1  # a mask that keeps all bits


def scalars(like, numbers):
    """The entries of a short array as a tuple that is as long as another one."""


@overload(scalars, jit_options=INLINED)
def _scalars(like, numbers):
    return (
        lambda like, numbers: (numbers[0],),
        lambda like, numbers: (numbers[0], numbers[1]),
        lambda like, numbers: (numbers[0], numbers[1], numbers[2]),
    )[len(like) - 1]


def scaled(x, scale, j):
    """``x * scale[j]``, or x where nothing is scaled, and `scale` has no dimension."""


@overload(scaled, jit_options=INLINED)
def _scaled(x, scale, j):
    return (lambda x, scale, j: x) if scale.ndim == 0 else (lambda x, scale, j: x * scale[j])


def state_dot(e, U, j):
    """``e . u`` for the state number `j`."""


@overload(state_dot, jit_options=INLINED)
def _state_dot(e, U, j):
    two, three = np.uint64(2), np.uint64(3)
    return (
        lambda e, U, j: e[0] * U[j],
        lambda e, U, j: e[0] * U[two * j] + e[1] * U[two * j + np.uint64(1)],
        lambda e, U, j: e[0] * U[three * j] + e[1] * U[three * j + np.uint64(1)] + e[2] * U[three * j + two],
    )[len(e) - 1]


def state_add(h, U, j, g):
    """``u += h g`` for the state number `j`."""


@overload(state_add, jit_options=INLINED)
def _state_add(h, U, j, g):
    two, three = np.uint64(2), np.uint64(3)

    def one_slot(h, U, j, g):
        U[j] += h[0] * g

    def two_slots(h, U, j, g):
        U[two * j] += h[0] * g
        U[two * j + np.uint64(1)] += h[1] * g

    def three_slots(h, U, j, g):
        U[three * j] += h[0] * g
        U[three * j + np.uint64(1)] += h[1] * g
        U[three * j + two] += h[2] * g

    return (one_slot, two_slots, three_slots)[len(h) - 1]


def pick(common, numbers, kinds, j):
    """The row of `numbers` for the kind of coordinate `j`, a tuple: `common` where there is one kind."""


@overload(pick, jit_options=INLINED)
def _pick(common, numbers, kinds, j):
    if kinds.ndim == 0:
        return lambda common, numbers, kinds, j: common
    return (
        lambda common, numbers, kinds, j: (numbers[kinds[j], 0],),
        lambda common, numbers, kinds, j: (numbers[kinds[j], 0], numbers[kinds[j], 1]),
        lambda common, numbers, kinds, j: (numbers[kinds[j], 0], numbers[kinds[j], 1], numbers[kinds[j], 2]),
    )[len(common) - 1]


@inlined
def ask_for(data, indices, indptr, y, rows, t, size):
    """Ask for the memory of the rows that come next: their bounds and targets far ahead, their entries nearer."""
    if t + FAR < size:
        prefetch(indptr, rows[t + FAR])
        prefetch(y, rows[t + FAR])
    if t + NEAR < size:
        start, stop = indptr[rows[t + NEAR]], indptr[rows[t + NEAR] + 1]
        if start < stop:
            prefetch(data, start)
            prefetch(indices, start)
            prefetch(data, stop - 1)
            prefetch(indices, stop - 1)


@inlined
def outputs(data, indices, indptr, y, rows, size, flat, K, e, axes, raw, squares, measure):
    """Raw outputs of the rows of a batch without the intercept, and their squared lengths (zero where they are not asked for)."""
    scale, kinds, common = axes.scale, axes.kinds, e[0]
    for t in range(size):
        ask_for(data, indices, indptr, y, rows, t, size)
        # unsigned numbers: a signed index costs a look at its sign, as it might count from the end
        start, stop = np.uint64(indptr[rows[t]]), np.uint64(indptr[rows[t] + 1])
        square = 0.0
        if K == 1:
            total = 0.0
            for q in range(start, stop):
                j = np.uint64(indices[q])
                x = scaled(np.float64(data[q]), scale, j)
                if measure:
                    square += x * x
                total += x * state_dot(pick(common, e[1], kinds, j), flat, j)
            raw[t, 0] = total
        else:
            for k in range(K):
                raw[t, k] = 0.0
            for q in range(start, stop):
                j = np.uint64(indices[q])
                x, first = scaled(np.float64(data[q]), scale, j), j * np.uint64(K)
                if measure:
                    square += x * x
                of_kind = pick(common, e[1], kinds, j)
                for k in range(K):
                    raw[t, k] += x * state_dot(of_kind, flat, first + np.uint64(k))
        squares[t] = square


@inlined
def add_to_state(data, indices, indptr, rows, size, flat, K, h, axes, raw, share):
    """``u += h g`` for the gradients of the rows of a batch."""
    scale, kinds, common = axes.scale, axes.kinds, h[0]
    for t in range(size):
        start, stop = np.uint64(indptr[rows[t]]), np.uint64(indptr[rows[t] + 1])
        if K == 1:
            r = raw[t, 0] * share
            for q in range(start, stop):
                j = np.uint64(indices[q])
                state_add(pick(common, h[1], kinds, j), flat, j, r * scaled(np.float64(data[q]), scale, j))
        else:
            for q in range(start, stop):
                j = np.uint64(indices[q])
                x, first = scaled(np.float64(data[q]), scale, j) * share, j * np.uint64(K)
                of_kind = pick(common, h[1], kinds, j)
                for k in range(K):
                    state_add(of_kind, flat, first + np.uint64(k), raw[t, k] * x)


@inlined
def touch(data, indices, indptr, rows, size, scale, raw, share, g, touched):
    """Add up the gradient of a batch in `g` and list the coordinates that it touches; their number."""
    K = raw.shape[1]
    n_touched = 0
    for t in range(size):
        for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
            j = indices[q]
            if data[q] == 0:
                continue
            if g[j, K] == 0.0:  # the last column marks the coordinates of this batch
                g[j, K] = 1.0
                touched[n_touched] = j
                n_touched += 1
            for k in range(K):
                g[j, k] += raw[t, k] * scaled(np.float64(data[q]), scale, j) * share
    return n_touched


@inlined
def square_norm_of(g, touched, n_touched, raw, size, share, fit_intercept):
    """Squared norm of the gradient of a batch."""
    total = 0.0
    for k in range(raw.shape[1]):
        for i in range(n_touched):
            total += g[touched[i], k] * g[touched[i], k]
        f = 0.0
        for t in range(size):
            f += raw[t, k] * share
        total += f * f * fit_intercept
    return total


@inlined
def clear(g, touched, n_touched):
    """Forget a gradient."""
    for i in range(n_touched):
        g[touched[i]] = 0.0


@inlined
def row_weights_of(weights, plan_weights, rows, size, start, row_weights):
    """Sample weights times sampler weights of a batch."""
    for t in range(size):
        row_weights[t] = row_weight(weights, plan_weights, rows[t], start + t)


@inlined
def turn(maps, n_kinds):
    """``e P`` for each kind of coordinate."""
    m = maps.scratch.size
    for kind in range(n_kinds):
        for i in range(m):
            maps.ep[kind, i] = 0.0
            for q in range(m):
                maps.ep[kind, i] += maps.e[kind, q] * maps.P[kind, q, i]


@inlined
def advance(U, K, maps, axes, l1, rate, thresholds, now):
    """Take the maps of a step into their products, or sweep where one would become ill-conditioned; the step's number."""
    A, P, AP, G, h = maps.A, maps.P, maps.AP, maps.G, maps.h
    stretches, m = axes.stretches, maps.scratch.size
    condition = 0.0
    for kind in range(stretches.size):
        multiply(A[kind], P[kind], AP[kind])
        condition = max(condition, solve(AP[kind], G[kind], h[kind], maps.M))
    sweep = condition > CONDITION
    if sweep:
        make_explicit(U, K, AP, maps.scratch, axes.kinds, l1 > 0.0, thresholds, now)
        now = 0
    for kind in range(stretches.size):
        for i in range(m):
            if sweep:
                h[kind, i] = G[kind, i]
            for q in range(m):
                P[kind, i, q] = (1.0 if i == q else 0.0) if sweep else AP[kind, i, q]
        if l1 > 0.0:  # what this step takes from |u|, and what an average misses for each unit of it
            a, p = A[kind], P[kind]
            Q, C, R = thresholds.Q, thresholds.C, thresholds.R
            taken = rate * l1 * stretches[kind] / p[0, 0]
            R[kind, now] = (p[1, 0] - a[1, 0] / a[0, 0] * p[0, 0]) / p[1, 1] if m > 1 else 0.0
            Q[kind, now + 1] = Q[kind, now] + taken
            C[kind, now + 1] = C[kind, now] + taken * R[kind, now]
    return now + 1 if l1 > 0.0 else now


@inlined
def write_places(places, y, n_rows, coefficients, axes, params, fit_intercept):
    """Write down where the functions of the parts find what they need; `Batch.write_places` has the rest."""
    places[TARGETS], places[N_TARGETS] = address_of(y), y.size // n_rows
    places[N_OUTPUTS], places[N_FEATURES] = params.shape[1], params.shape[2] - 1
    places[PARAMS], places[HAS_INTERCEPT] = address_of(params), fit_intercept
    places[COEFFICIENTS], places[N_COEFFICIENTS] = address_of(coefficients), coefficients.shape[1]
    places[SCALE], places[KINDS], places[STRETCH] = (
        address_of(axes.scale),
        address_of(axes.kinds),
        address_of(axes.stretches),
    )
    places[N_KINDS] = axes.stretches.size


@inlined
def write_batch(places, batch):
    """The same for what is written of a batch."""
    places[ROWS], places[BLOCK], places[CAPACITY] = (
        address_of(batch.rows),
        address_of(batch.weights),
        batch.weights.size,
    )
    places[RAW], places[POINT] = address_of(batch.raw), address_of(batch.intercept)


# The arguments of a kernel are plain tuples: a named one costs each call 3 us. So they get their names inside.
@Kernel
def run_linear(
    addresses, like, X, y, weights, order, offsets, coefficients, plan_weights, limits, axes, params, U, space, stats
):
    """Carry out a plan for a linear optimizer; `U` is the state by coordinate, (d, K * m). The failed step, or -1.

    `addresses`: that of `find`, and those of the residuals, the step and the look, each with that of its numbers. `like`: a
    tuple as long as the state of a coordinate. The others are the fields of `Limits` and `Axes`, what `work_space` returns and
    the table, and the arrays of `StepStats` as tuples.
    """
    find, loss, step, look = addresses
    data, indices, indptr = X
    limits, axes = Limits(*limits), Axes(*axes)
    batch, maps, thresholds, (g, touched), places, table = space
    batch, maps, thresholds = Batch(*batch), Maps(*maps), Thresholds(*thresholds)
    rows, raw, squares, sums = batch.rows, batch.raw, batch.square_lengths, batch.sums
    since, Q, C, R = thresholds
    losses, square_norms, row_squares = stats
    K, flat, scratch, fit_intercept = params.shape[1], U.reshape(U.size), maps.scratch, limits.fit_intercept
    m, thresholded, n_kinds = params.shape[0], limits.l1 > 0.0, axes.stretches.size
    write_order(batch.way, order, batch.burst)
    here, now = address_of(places), 0
    write_places(places, y, indptr.size - 1, coefficients, axes, params, fit_intercept)
    write_batch(places, batch)
    places[MAPS], places[RESPONSES], places[READ] = address_of(maps.A), address_of(maps.G), address_of(maps.e)
    places[UNIT] = address_of(maps.unit)
    for s in range(offsets.shape[0] - 1):
        start = offsets[s]
        size = offsets[s + 1] - start
        share = 1.0 / size
        call(find, (address_of(batch.way), start, offsets[s + 1], address_of(rows), 0, EVERY))
        row_weights_of(weights, plan_weights, rows, size, start, batch.weights)
        if thresholded:
            for t in range(size):
                for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
                    kind = kind_of(axes.kinds, indices[q])
                    catch_up(U, indices[q], K, m, since, now, Q[kind], C[kind], R[kind])
        call(look[0], (look[1], here, s))
        turn(maps, n_kinds)
        points = (scalars(like, maps.ep[0]), maps.ep)
        measured = s >= limits.measured_from
        outputs(data, indices, indptr, y, rows, size, flat, K, points, axes, raw, squares, measured)
        for t in range(size):
            squares[t] += fit_intercept
            for k in range(K):
                raw[t, k] += batch.intercept[k]
        sums[:] = 0
        call(loss[0], (loss[1], here, address_of(raw), address_of(sums), size))
        take_changes(table, rows, size, raw)
        square_norm = np.nan
        if measured:
            n_touched = touch(data, indices, indptr, rows, size, axes.scale, raw, share, g, touched)
            square_norm = square_norm_of(g, touched, n_touched, raw, size, share, fit_intercept)
            clear(g, touched, n_touched)
        losses[s], square_norms[s] = sums[0], square_norm
        row_squares[s] = sums[1] if measured else np.nan
        if not finite(sums[0]) or (measured and not finite(square_norm)):
            make_explicit(U, K, maps.P, scratch, axes.kinds, thresholded, thresholds, now)
            return s
        ratio = clipping(square_norm, limits.clip_norm)
        now = advance(U, K, maps, axes, limits.l1, coefficients[s, 0], thresholds, now)
        responses = (scalars(like, maps.h[0]), maps.h)
        add_to_state(data, indices, indptr, rows, size, flat, K, responses, axes, raw, share * ratio)
        if fit_intercept:
            call(step[0], (step[1], here, size, s, share, ratio))
    make_explicit(U, K, maps.P, scratch, axes.kinds, thresholded, thresholds, now)
    return -1


@Kernel
def run_lazy(addresses, X, y, weights, order, offsets, coefficients, plan_weights, limits, axes, params, space, stats):
    """Carry out a plan for any optimizer, updating the coordinates that a batch touches. The failed step, or -1."""
    find, loss, step, look = addresses
    data, indices, indptr = X
    limits, axes = Limits(*limits), Axes(*axes)
    batch, _, _, (g, touched), places, table = space
    batch = Batch(*batch)
    rows, raw, squares, sums = batch.rows, batch.raw, batch.square_lengths, batch.sums
    losses, square_norms, row_squares = stats
    fit_intercept, here = limits.fit_intercept, address_of(places)
    write_order(batch.way, order, batch.burst)
    write_places(places, y, indptr.size - 1, coefficients, axes, params, fit_intercept)
    write_batch(places, batch)
    places[DATA], places[INDICES], places[INDPTR] = address_of(data), address_of(indices), address_of(indptr)
    places[GRADIENT], places[TOUCHED] = address_of(g), address_of(touched)
    for s in range(offsets.shape[0] - 1):
        start = offsets[s]
        size = offsets[s + 1] - start
        share = 1.0 / size
        call(find, (address_of(batch.way), start, offsets[s + 1], address_of(rows), 0, EVERY))
        row_weights_of(weights, plan_weights, rows, size, start, batch.weights)
        call(look[0], (look[1], here, size, s, share, 1.0))
        for t in range(size):
            squares[t] += fit_intercept
        sums[:] = 0
        call(loss[0], (loss[1], here, address_of(raw), address_of(sums), size))
        take_changes(table, rows, size, raw)
        n_touched = touch(data, indices, indptr, rows, size, axes.scale, raw, share, g, touched)
        square_norm = square_norm_of(g, touched, n_touched, raw, size, share, fit_intercept)
        losses[s], square_norms[s], row_squares[s] = sums[0], square_norm, sums[1]
        if not (finite(sums[0]) and finite(square_norm)):
            return s
        places[N_TOUCHED] = n_touched
        call(step[0], (step[1], here, size, s, share, clipping(square_norm, limits.clip_norm)))
        clear(g, touched, n_touched)
    return -1
