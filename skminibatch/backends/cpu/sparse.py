"""The kernels of sparse rows: the cost of a step grows with the non-zeros of its batch, not with the features.

An optimizer that is linear in (parameters, slots, gradient) maps the state ``s`` of a coordinate that no row of a batch
touches to ``A s``, with one small matrix ``A`` for all coordinates. So the kernel keeps ``u`` with ``s = P u``, where ``P``
is the product of the matrices so far: an untouched coordinate costs nothing, a touched one gets ``u += h g`` with ``h =
P^-1 (response to a unit gradient)``, and the raw output of a row is the dot product of its values with ``e . u``, where
``e`` is what the optimizer makes of ``P`` at the point of the gradient. Before ``P`` becomes ill-conditioned, ``u`` is made
explicit and ``P`` starts again from the identity (a sweep).

An l1 penalty subtracts a threshold from |w| in every step. Where w does not depend on the slots, thresholds in the
coordinates of ``u`` simply add up, so that a coordinate catches up at its next touch; an average of w misses what the
thresholds took since then, which prefix sums over the steps give exactly.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from skminibatch._parts import follow, point, prox, smooth_gradient, update
from skminibatch.backends.cpu.compile import INLINED, Kernel, finite, inlined
from skminibatch.backends.cpu.dense import decoupled, residuals_of
from skminibatch.backends.cpu.formulas import bounded_rate, coefficients_at, slot_count, slots_at, store_slots
from skminibatch.backends.cpu.intrinsics import prefetch
from skminibatch.backends.cpu.lazy import catch_up, make_explicit, multiply, solve, transition
from skminibatch.backends.cpu.rows import BURST, find_rows, unpacked

CONDITION = 1e6  # of P, above which a sweep is due
FAR, NEAR = 16, 8  # rows ahead
EVERY = -1  # a mask that keeps all bits


def scalars(optimizer, numbers):
    """The entries of a short array, one for the parameter and each slot, as a tuple."""


@overload(scalars, jit_options=INLINED)
def _scalars(optimizer, numbers):
    return (
        lambda optimizer, numbers: (numbers[0],),
        lambda optimizer, numbers: (numbers[0], numbers[1]),
        lambda optimizer, numbers: (numbers[0], numbers[1], numbers[2]),
    )[slot_count(optimizer)]


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
def outputs(data, indices, indptr, y, rows, size, flat, K, e, raw, squares):
    """Raw outputs of the rows of a batch without the intercept, and their squared lengths."""
    for t in range(size):
        ask_for(data, indices, indptr, y, rows, t, size)
        # unsigned numbers: a signed index costs a look at its sign, as it might count from the end
        start, stop = np.uint64(indptr[rows[t]]), np.uint64(indptr[rows[t] + 1])
        square = 0.0
        if K == 1:
            total = 0.0
            for q in range(start, stop):
                x = np.float64(data[q])
                square += x * x
                total += x * state_dot(e, flat, np.uint64(indices[q]))
            raw[t, 0] = total
        else:
            for k in range(K):
                raw[t, k] = 0.0
            for q in range(start, stop):
                x, first = np.float64(data[q]), np.uint64(indices[q]) * np.uint64(K)
                square += x * x
                for k in range(K):
                    raw[t, k] += x * state_dot(e, flat, first + np.uint64(k))
        squares[t] = square


@inlined
def add_to_state(data, indices, indptr, rows, size, flat, K, h, raw, share):
    """``u += h g`` for the gradients of the rows of a batch."""
    for t in range(size):
        start, stop = np.uint64(indptr[rows[t]]), np.uint64(indptr[rows[t] + 1])
        if K == 1:
            r = raw[t, 0] * share
            for q in range(start, stop):
                state_add(h, flat, np.uint64(indices[q]), r * np.float64(data[q]))
        else:
            for q in range(start, stop):
                x, first = np.float64(data[q]) * share, np.uint64(indices[q]) * np.uint64(K)
                for k in range(K):
                    state_add(h, flat, first + np.uint64(k), raw[t, k] * x)


@inlined
def touch(data, indices, indptr, rows, size, raw, share, g, touched):
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
                g[j, k] += raw[t, k] * np.float64(data[q]) * share
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
def step_intercept(optimizer, params, raw, size, share, c, ratio):
    """Update the intercepts, which have no penalty."""
    d = params.shape[2] - 1
    for k in range(params.shape[1]):
        g = 0.0
        for t in range(size):
            g += raw[t, k]
        w, slots, _ = update(optimizer, params[0, k, d], g * share * ratio, slots_at(optimizer, params, k, d), c)
        params[0, k, d] = w
        store_slots(optimizer, params, k, d, follow(optimizer, w, slots, c))


@inlined
def row_weights_of(weights, plan_weights, rows, size, start, row_weights):
    """Sample weights times sampler weights of a batch."""
    for t in range(size):
        w = weights[rows[t]] if weights.size else 1.0
        row_weights[t] = w * plan_weights[start + t] if plan_weights.size else w


@inlined
def next_points(optimizer, params, coefficients, s, e, P, eP, intercept):
    """Where step `s` takes the gradient: ``e P`` for the states, and the intercepts."""
    m, K, d = params.shape[0], params.shape[1], params.shape[2] - 1
    c = coefficients_at(optimizer, coefficients, s, coefficients[s, 0])
    for k in range(K):
        intercept[k] = point(optimizer, params[0, k, d], slots_at(optimizer, params, k, d), c)
    for i in range(m):
        eP[i] = 0.0
        for q in range(m):
            eP[i] += e[q] * P[q, i]


def work_space(params, longest, n_steps, l1, measured):
    """What the kernels need to write to: (for a batch, small matrices, for thresholds, for a gradient)."""
    m, K, d = params.shape[0], params.shape[1], params.shape[2] - 1
    batch = (
        np.empty(longest, np.int64),
        np.empty((2, BURST), np.uint64),
        np.empty((longest, K)),
        np.empty(longest),
        np.empty(longest),
        np.empty(max(longest, K)),
        np.empty(3),
        np.empty(K),
    )
    square, row = np.zeros((3, m, m)), np.zeros((5, m))
    square[1] = np.eye(m)
    matrices = (square, row, np.zeros((m, 2 * m + 1)), np.zeros((m, 1, 1)))
    n_thresholds = n_steps + 1 if l1 > 0 else 1
    thresholds = (np.zeros(d if l1 > 0 else 0, np.int64), *np.zeros((3, n_thresholds)))
    gradient = (np.zeros((d if measured else 0, K + 1)), np.empty(d if measured else 0, np.int64))
    return batch, matrices, thresholds, gradient


@inlined
def advance(U, K, matrices, l1, rate, thresholds, now):
    """Take the map of a step into the product, or sweep where it would become ill-conditioned; the step's number."""
    square, row, M, _ = matrices
    A, P, AP = square[0], square[1], square[2]
    G, h, scratch = row[0], row[1], row[4]
    since, Q, C, R = thresholds
    m = A.shape[0]
    multiply(A, P, AP)
    if solve(AP, G, h, M) > CONDITION:
        make_explicit(U, K, m, AP, scratch, l1 > 0.0, since, now, Q, C, R)
        now = 0
        for i in range(m):
            h[i] = G[i]
            for q in range(m):
                P[i, q] = 1.0 if i == q else 0.0
    else:
        for i in range(m):
            for q in range(m):
                P[i, q] = AP[i, q]
    if l1 > 0.0:  # what this step takes from |u|, and what an average misses for each unit of it
        taken = rate * l1 / P[0, 0]
        R[now] = (P[1, 0] - A[1, 0] / A[0, 0] * P[0, 0]) / P[1, 1] if m > 1 else 0.0
        Q[now + 1] = Q[now] + taken
        C[now + 1] = C[now] + taken * R[now]
        now += 1
    return now


@Kernel
def run_linear(parts, X, y, weights, order, offsets, coefficients, plan_weights, limits, params, U, space, stats):
    """Carry out a plan for a linear optimizer; `U` is the state by coordinate, (d, K * m). The failed step, or -1."""
    loss, penalty, optimizer = parts
    data, indices, indptr = X
    fit_intercept, safety, clip_norm, measured_from, l1 = limits
    (rows, burst, raw, squares, row_weights, out, sums, intercept), matrices, thresholds, (g, touched) = space
    square, row, _, unit = matrices
    A, P = square[0], square[1]
    G, h, e, eP, scratch = row[0], row[1], row[2], row[3], row[4]
    since, Q, C, R = thresholds
    losses, square_norms, row_squares, rates = stats
    m, K, flat = params.shape[0], params.shape[1], U.reshape(U.size)
    y_flat = y.reshape(y.size)
    thresholded = l1 > 0.0
    places = unpacked(order)
    now = 0
    for s in range(offsets.shape[0] - 1):
        start = offsets[s]
        size = offsets[s + 1] - start
        share = 1.0 / size
        find_rows(places, start, offsets[s + 1], rows, 0, EVERY, burst)
        row_weights_of(weights, plan_weights, rows, size, start, row_weights)
        if thresholded:
            for t in range(size):
                for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
                    catch_up(U, indices[q], K, m, since, now, Q, C, R)
        transition(penalty, optimizer, coefficients, s, coefficients[s, 0], A, G, e, unit)
        next_points(optimizer, params, coefficients, s, e, P, eP, intercept)
        outputs(data, indices, indptr, y_flat, rows, size, flat, K, scalars(optimizer, eP), raw, squares)
        for t in range(size):
            squares[t] += fit_intercept
            for k in range(K):
                raw[t, k] += intercept[k]
        sums[:] = 0
        residuals_of(loss, raw, y, rows, row_weights, size, squares, out, sums)
        square_norm = np.nan
        if s >= measured_from:
            n_touched = touch(data, indices, indptr, rows, size, raw, share, g, touched)
            square_norm = square_norm_of(g, touched, n_touched, raw, size, share, fit_intercept)
            clear(g, touched, n_touched)
        rate = bounded_rate(coefficients[s, 0], safety, sums[2] * share)
        losses[s], square_norms[s], row_squares[s], rates[s] = sums[0], square_norm, sums[1], rate
        if not finite(sums[0]) or (s >= measured_from and not finite(square_norm)):
            make_explicit(U, K, m, P, scratch, thresholded, since, now, Q, C, R)
            return s
        ratio = clip_norm / np.sqrt(square_norm) if square_norm > clip_norm * clip_norm else 1.0
        if rate < coefficients[s, 0]:
            transition(penalty, optimizer, coefficients, s, rate, A, G, e, unit)
        now = advance(U, K, matrices, l1, rate, thresholds, now)
        add_to_state(data, indices, indptr, rows, size, flat, K, scalars(optimizer, h), raw, share * ratio)
        if fit_intercept:
            step_intercept(
                optimizer, params, raw, size, share, coefficients_at(optimizer, coefficients, s, rate), ratio
            )
    make_explicit(U, K, m, P, scratch, thresholded, since, now, Q, C, R)
    return -1


@Kernel
def run_lazy(parts, X, y, weights, order, offsets, coefficients, plan_weights, limits, params, averaged, space, stats):
    """Carry out a plan for any optimizer, updating the coordinates that a batch touches. The failed step, or -1."""
    loss, penalty, optimizer = parts
    data, indices, indptr = X
    fit_intercept, safety, clip_norm, _, _ = limits
    (rows, burst, raw, squares, row_weights, out, sums, _), _, _, (g, touched) = space
    losses, square_norms, row_squares, rates = stats
    K, d = params.shape[1], params.shape[2] - 1
    places = unpacked(order)
    for s in range(offsets.shape[0] - 1):
        start = offsets[s]
        size = offsets[s + 1] - start
        share = 1.0 / size
        find_rows(places, start, offsets[s + 1], rows, 0, EVERY, burst)
        row_weights_of(weights, plan_weights, rows, size, start, row_weights)
        c = coefficients_at(optimizer, coefficients, s, coefficients[s, 0])
        for t in range(size):
            squares[t] = fit_intercept
            for k in range(K):
                raw[t, k] = point(optimizer, params[0, k, d], slots_at(optimizer, params, k, d), c)
            for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
                j, x = indices[q], np.float64(data[q])
                squares[t] += x * x
                for k in range(K):
                    raw[t, k] += x * point(optimizer, params[0, k, j], slots_at(optimizer, params, k, j), c)
        sums[:] = 0
        residuals_of(loss, raw, y, rows, row_weights, size, squares, out, sums)
        n_touched = touch(data, indices, indptr, rows, size, raw, share, g, touched)
        square_norm = square_norm_of(g, touched, n_touched, raw, size, share, fit_intercept)
        rate = bounded_rate(coefficients[s, 0], safety, sums[2] * share)
        losses[s], square_norms[s], row_squares[s], rates[s] = sums[0], square_norm, sums[1], rate
        if not (finite(sums[0]) and finite(square_norm)):
            return s
        ratio = clip_norm / np.sqrt(square_norm) if square_norm > clip_norm * clip_norm else 1.0
        c = coefficients_at(optimizer, coefficients, s, rate)
        for i in range(n_touched):
            step_coordinate(penalty, optimizer, params, touched[i], g, ratio, c, averaged)
        clear(g, touched, n_touched)
        if fit_intercept:
            step_intercept(optimizer, params, raw, size, share, c, ratio)
        if averaged:  # an average follows in every coordinate, touched or not
            for k in range(K):
                for j in range(d):
                    slots = slots_at(optimizer, params, k, j)
                    store_slots(optimizer, params, k, j, follow(optimizer, params[0, k, j], slots, c))
    return -1


@inlined
def step_coordinate(penalty, optimizer, params, j, g, ratio, c, averaged):
    """Update one touched coordinate of all outputs."""
    for k in range(params.shape[1]):
        w, f = params[0, k, j], g[j, k] * ratio
        pull = smooth_gradient(penalty, w)
        if decoupled(optimizer):
            w -= c[0] * pull
        else:
            f += pull
        w, slots, step = update(optimizer, w, f, slots_at(optimizer, params, k, j), c)
        w = prox(penalty, w, step)
        params[0, k, j] = w
        store_slots(optimizer, params, k, j, slots if averaged else follow(optimizer, w, slots, c))
