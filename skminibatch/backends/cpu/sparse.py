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

from skminibatch._parts import follow, point, prox, smooth_gradient, update
from skminibatch.backends.cpu.compile import allocating, allocating_kernel, finite, inlined
from skminibatch.backends.cpu.dense import decoupled, residuals_of
from skminibatch.backends.cpu.formulas import bounded_rate, coefficients_at, slots_at, store_slots
from skminibatch.backends.cpu.rows import keyed_row

CONDITION = 1e6  # of P, above which a sweep is due


@inlined
def batch_rows(order, keys, layout, start, stop, rows):
    """The rows at the positions ``start`` to ``stop - 1``."""
    explicit, subset = order.explicit, order.subset
    for i in range(start, stop):
        if explicit.size:
            row = explicit[i]
        else:
            row = keyed_row(layout, keys, i)
            if subset.size:
                row = subset[row]
        rows[i - start] = row


@allocating
def transition(penalty, optimizer, coefficients, s, rate, A, G, e):
    """Fill in the map of an untouched coordinate, the response to a unit gradient, and the point of the gradient."""
    m = A.shape[0]
    unit = np.zeros((m, 1, 1))
    c = coefficients_at(optimizer, coefficients, s, rate)
    for i in range(m + 1):
        unit[:] = 0
        if i < m:
            unit[i] = 1
        w = unit[0, 0, 0]
        pull = smooth_gradient(penalty, w) if i < m else 1.0
        if i < m and decoupled(optimizer):
            w -= rate * pull
            pull = 0.0
        if i < m:
            e[i] = point(optimizer, unit[0, 0, 0], slots_at(optimizer, unit, 0, 0), c)
        w, slots, _ = update(optimizer, w, pull, slots_at(optimizer, unit, 0, 0), c)
        store_slots(optimizer, unit, 0, 0, follow(optimizer, w, slots, c))
        unit[0, 0, 0] = w
        for row in range(m):
            if i < m:
                A[row, i] = unit[row, 0, 0]
            else:
                G[row] = unit[row, 0, 0]


@inlined
def multiply(A, B, out):
    """``out = A B`` for small square matrices."""
    m = A.shape[0]
    for i in range(m):
        for j in range(m):
            total = 0.0
            for k in range(m):
                total += A[i, k] * B[k, j]
            out[i, j] = total


@allocating
def solve(P, b, x):
    """``x = P^-1 b`` and an estimate of the condition of P in the maximum norm, for up to four rows; inf: singular."""
    m = P.shape[0]
    M = np.empty((m, m + 1 + m))
    for i in range(m):
        for j in range(m):
            M[i, j] = P[i, j]
            M[i, m + 1 + j] = 1.0 if i == j else 0.0
        M[i, m] = b[i]
    for i in range(m):
        best = i
        for k in range(i + 1, m):
            if abs(M[k, i]) > abs(M[best, i]):
                best = k
        if abs(M[best, i]) < 1e-150:
            return np.inf
        for j in range(M.shape[1]):
            M[i, j], M[best, j] = M[best, j], M[i, j]
        for k in range(m):
            if k != i:
                f = M[k, i] / M[i, i]
                for j in range(M.shape[1]):
                    M[k, j] -= f * M[i, j]
    size, inverse = 0.0, 0.0
    for i in range(m):
        x[i] = M[i, m] / M[i, i]
        for j in range(m):
            size = max(size, abs(P[i, j]))
            inverse = max(inverse, abs(M[i, m + 1 + j] / M[i, i]))
    return size * inverse


@inlined
def catch_up(U, j, K, m, since, now, Q, C, R):
    """Apply to coordinate `j` the thresholds of the steps since its last touch."""
    then = since[j]
    if then == now:
        return
    since[j] = now
    total = Q[now] - Q[then]
    for k in range(K):
        u = U[j, k * m]
        size = abs(u)
        if size == 0.0:
            continue
        sign = 1.0 if u > 0 else -1.0
        if total < size:
            U[j, k * m] = sign * (size - total)
            if m > 1:
                U[j, k * m + 1] += sign * (C[now] - C[then])
            continue
        U[j, k * m] = 0.0
        if m > 1:  # find the step in which it reached zero
            low, high = then, now - 1
            while low < high:
                middle = (low + high) // 2
                if Q[middle + 1] - Q[then] >= size:
                    high = middle
                else:
                    low = middle + 1
            U[j, k * m + 1] += sign * (C[low] - C[then] + (size - (Q[low] - Q[then])) * R[low])


@allocating
def make_explicit(U, K, m, A, P, thresholded, since, now, Q, C, R):
    """``u <- A P u`` for all coordinates, which are then up to date."""
    s = np.empty(m)
    AP = np.empty((m, m))
    multiply(A, P, AP)
    for j in range(U.shape[0]):
        if thresholded:
            catch_up(U, j, K, m, since, now, Q, C, R)
            since[j] = 0
        for k in range(K):
            for i in range(m):
                s[i] = 0.0
                for q in range(m):
                    s[i] += AP[i, q] * U[j, k * m + q]
            for i in range(m):
                U[j, k * m + i] = s[i]


@inlined
def outputs(data, indices, indptr, row, U, K, m, e, raw, t, thresholded, since, now, Q, C, R):
    """Raw outputs of a row without the intercept; the squared length of the row."""
    square = 0.0
    for k in range(K):
        raw[t, k] = 0.0
    for q in range(indptr[row], indptr[row + 1]):
        j, x = indices[q], np.float64(data[q])
        square += x * x
        if thresholded:
            catch_up(U, j, K, m, since, now, Q, C, R)
        for k in range(K):
            total = 0.0
            for i in range(m):
                total += e[i] * U[j, k * m + i]
            raw[t, k] += x * total
    return square


@inlined
def add_to_state(data, indices, indptr, row, U, K, m, h, raw, t, share):
    """``u += h g`` for the gradient of one row."""
    for q in range(indptr[row], indptr[row + 1]):
        j, x = indices[q], np.float64(data[q]) * share
        for k in range(K):
            g = raw[t, k] * x
            for i in range(m):
                U[j, k * m + i] += h[i] * g


@inlined
def touch(X, rows, size, raw, share, g, touched):
    """Add up the gradient of a batch in `g` and list the coordinates that it touches; their number."""
    data, indices, indptr = X
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
def record(stats, s, sums, size, square_norm, rate, safety):
    """Write the statistics of a step; the rate within the bound."""
    losses, square_norms, row_squares, rates = stats
    rate = bounded_rate(rate, safety, sums[2] / size)
    losses[s], square_norms[s], row_squares[s], rates[s] = sums[0], square_norm, sums[1], rate
    return rate


@inlined
def batch_residuals(
    loss, X, y, weights, plan_weights, start, rows, size, U, K, m, e, params, point_intercept, raw, squares, row_weights,
    fit_intercept, out, sums, thresholded, since, now, Q, C, R,
):  # fmt: skip
    """Weighted residuals of a batch in `raw`, sums for its statistics in `sums`."""
    data, indices, indptr = X
    for t in range(size):
        row = rows[t]
        squares[t] = outputs(data, indices, indptr, row, U, K, m, e, raw, t, thresholded, since, now, Q, C, R)
        squares[t] += fit_intercept
        for k in range(K):
            raw[t, k] += point_intercept[k]
        w = weights[row] if weights.size else 1.0
        row_weights[t] = w * plan_weights[start + t] if plan_weights.size else w
    sums[:] = 0
    residuals_of(loss, raw, y, rows, row_weights, size, squares, out, sums)


@allocating_kernel
def run_linear(parts, X, y, weights, order, offsets, coefficients, plan_weights, limits, params, U, stats):
    """Carry out a plan for a linear optimizer; `U` is the state by coordinate, (d, K * m). The failed step, or -1."""
    loss, penalty, optimizer = parts
    data, indices, indptr = X
    fit_intercept, safety, clip_norm, measured_from, l1 = limits
    m, K, d = params.shape[0], params.shape[1], U.shape[0]
    n_steps = offsets.shape[0] - 1
    largest = 0
    for s in range(n_steps):
        largest = max(largest, offsets[s + 1] - offsets[s])
    rows, raw = np.empty(largest, np.int64), np.empty((largest, K))
    squares, row_weights, sums, out = np.empty(largest), np.empty(largest), np.empty(3), np.empty(max(K, largest))
    A, P, AP, G, h, e, eP = (
        np.eye(m), np.eye(m), np.eye(m), np.empty(m), np.empty(m), np.empty(m), np.empty(m),
    )  # fmt: skip
    thresholded = l1 > 0.0
    Q, C, R = np.zeros(n_steps + 1), np.zeros(n_steps + 1), np.zeros(n_steps + 1)
    since = np.zeros(d if thresholded else 0, np.int64)
    g, touched = np.zeros((d if measured_from < n_steps else 0, K + 1)), np.empty(
        d if measured_from < n_steps else 0, np.int64
    )
    layout, keys = (order.n_rows, order.block, order.short, order.width, order.start), order.keys
    keys = (keys[0], keys[1], keys[2], keys[3], keys[4], keys[5])
    intercept = np.empty(K)
    now = 0
    for s in range(n_steps):
        start = offsets[s]
        size = offsets[s + 1] - start
        share = 1.0 / size
        batch_rows(order, keys, layout, start, offsets[s + 1], rows)
        transition(penalty, optimizer, coefficients, s, coefficients[s, 0], A, G, e)
        c = coefficients_at(optimizer, coefficients, s, coefficients[s, 0])
        for k in range(K):
            intercept[k] = point(optimizer, params[0, k, d], slots_at(optimizer, params, k, d), c)
        for i in range(m):
            eP[i] = 0.0
            for q in range(m):
                eP[i] += e[q] * P[q, i]
        batch_residuals(
            loss, X, y, weights, plan_weights, start, rows, size, U, K, m, eP, params, intercept, raw, squares,
            row_weights, fit_intercept, out, sums, thresholded, since, now, Q, C, R,
        )  # fmt: skip
        square_norm = np.nan
        if s >= measured_from:
            n_touched = touch(X, rows, size, raw, share, g, touched)
            square_norm = square_norm_of(g, touched, n_touched, raw, size, share, fit_intercept)
            clear(g, touched, n_touched)
        rate = record(stats, s, sums, size, square_norm, coefficients[s, 0], safety)
        if not finite(sums[0] + sums[1]):
            make_explicit(U, K, m, np.eye(m), P, thresholded, since, now, Q, C, R)
            return s
        ratio = clip_norm / np.sqrt(square_norm) if square_norm > clip_norm * clip_norm else 1.0
        if rate < coefficients[s, 0]:
            transition(penalty, optimizer, coefficients, s, rate, A, G, e)
        multiply(A, P, AP)
        if solve(AP, G, h) > CONDITION:
            make_explicit(U, K, m, A, P, thresholded, since, now, Q, C, R)
            now = 0
            for i in range(m):
                h[i] = G[i]
                for q in range(m):
                    P[i, q] = 1.0 if i == q else 0.0
        else:
            for i in range(m):
                for q in range(m):
                    P[i, q] = AP[i, q]
        if thresholded:  # what this step takes from |u|, and what an average misses for each unit of it
            taken = rate * l1 / P[0, 0]
            R[now] = (P[1, 0] - A[1, 0] / A[0, 0] * P[0, 0]) / P[1, 1] if m > 1 else 0.0
            Q[now + 1] = Q[now] + taken
            C[now + 1] = C[now] + taken * R[now]
            now += 1
        for t in range(size):
            add_to_state(data, indices, indptr, rows[t], U, K, m, h, raw, t, share * ratio)
        if fit_intercept:
            step_intercept(optimizer, params, raw, size, share, coefficients_at(optimizer, coefficients, s, rate), ratio)
    make_explicit(U, K, m, np.eye(m), P, thresholded, since, now, Q, C, R)
    return -1


@allocating_kernel
def run_lazy(parts, X, y, weights, order, offsets, coefficients, plan_weights, limits, params, averaged, stats):
    """Carry out a plan for any optimizer, updating the coordinates that a batch touches. The failed step, or -1."""
    loss, penalty, optimizer = parts
    data, indices, indptr = X
    fit_intercept, safety, clip_norm, _, _ = limits
    m, K, d = params.shape[0], params.shape[1], params.shape[2] - 1
    n_steps = offsets.shape[0] - 1
    largest = 0
    for s in range(n_steps):
        largest = max(largest, offsets[s + 1] - offsets[s])
    rows, raw = np.empty(largest, np.int64), np.empty((largest, K))
    squares, row_weights, sums, out = np.empty(largest), np.empty(largest), np.empty(3), np.empty(max(K, largest))
    layout, keys = (order.n_rows, order.block, order.short, order.width, order.start), order.keys
    keys = (keys[0], keys[1], keys[2], keys[3], keys[4], keys[5])
    g, touched = np.zeros((d, K + 1)), np.empty(d, np.int64)
    for s in range(n_steps):
        start = offsets[s]
        size = offsets[s + 1] - start
        share = 1.0 / size
        batch_rows(order, keys, layout, start, offsets[s + 1], rows)
        c = coefficients_at(optimizer, coefficients, s, coefficients[s, 0])
        for t in range(size):
            row = rows[t]
            squares[t] = fit_intercept
            for k in range(K):
                raw[t, k] = point(optimizer, params[0, k, d], slots_at(optimizer, params, k, d), c)
            for q in range(indptr[row], indptr[row + 1]):
                j, x = indices[q], np.float64(data[q])
                squares[t] += x * x
                for k in range(K):
                    raw[t, k] += x * point(optimizer, params[0, k, j], slots_at(optimizer, params, k, j), c)
            w = weights[row] if weights.size else 1.0
            row_weights[t] = w * plan_weights[start + t] if plan_weights.size else w
        sums[:] = 0
        residuals_of(loss, raw, y, rows, row_weights, size, squares, out, sums)
        n_touched = touch(X, rows, size, raw, share, g, touched)
        square_norm = square_norm_of(g, touched, n_touched, raw, size, share, fit_intercept)
        rate = record(stats, s, sums, size, square_norm, coefficients[s, 0], safety)
        if not (finite(sums[0]) and finite(square_norm)):
            return s
        ratio = clip_norm / np.sqrt(square_norm) if square_norm > clip_norm * clip_norm else 1.0
        c = coefficients_at(optimizer, coefficients, s, rate)
        for i in range(n_touched):
            j = touched[i]
            for k in range(K):
                w, f = params[0, k, j], g[j, k] * ratio
                pull = smooth_gradient(penalty, w)
                if decoupled(optimizer):
                    w -= rate * pull
                else:
                    f += pull
                w, slots, step = update(optimizer, w, f, slots_at(optimizer, params, k, j), c)
                w = prox(penalty, w, step)
                params[0, k, j] = w
                store_slots(optimizer, params, k, j, slots if averaged else follow(optimizer, w, slots, c))
        clear(g, touched, n_touched)
        if fit_intercept:
            step_intercept(optimizer, params, raw, size, share, c, ratio)
        if averaged:  # an average follows in every coordinate, touched or not
            for k in range(K):
                for j in range(d):
                    slots = slots_at(optimizer, params, k, j)
                    store_slots(optimizer, params, k, j, follow(optimizer, params[0, k, j], slots, c))
    return -1
