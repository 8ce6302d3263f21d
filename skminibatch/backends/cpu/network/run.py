"""The kernel of networks: a whole plan in one call, with products by BLAS and the formulas of the parts by their address."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, Kernel, called, finite, inlined
from skminibatch.backends.cpu.crew import dismiss, product
from skminibatch.backends.cpu.formulas import clipping, row_weight
from skminibatch.backends.cpu.intrinsics import address_of, call, matrix_in
from skminibatch.backends.cpu.network.normalization import (
    NONE,
    ROWS,
    UNITS,
    both_backward,
    both_forward,
    rows_backward,
    rows_forward,
    units_backward,
    units_forward,
)
from skminibatch.backends.cpu.network.stacks import (
    ACTIVATE,
    BEHIND,
    DROPPED,
    EPSILON,
    GROUPS,
    INTERCEPT,
    KEPT,
    MOMENTUM,
    N_IN,
    N_OUT,
    N_SCALE,
    POOLED,
    RUNNING,
    SCALE,
    SLOPE,
    WEIGHTS,
)
from skminibatch.backends.cpu.rows import write_order
from skminibatch.layers import dropout
from skminibatch.layers.dropout import drawn

PORTION = 4096  # numbers whose squares are summed in their own type


@overload(dropout.mixed, jit_options=INLINED)
def _mixed(x):
    return dropout.mixed


@overload(dropout.drawn, jit_options=INLINED)
def _drawn(seed, step, number, count):
    return dropout.drawn


def bring(X, rows, A, lengths):
    """Copy some rows, and the squared lengths of them; of sparse rows the lengths alone."""


def first_products(X, rows, A, W, Z, crew):
    """``Z = X[rows] W``."""


def first_gradient(X, rows, A, D, g, marks, crew):
    """``g = X[rows]' D``; returns how many features were touched, which are in `marks`, or -1: all."""


@overload(bring, jit_options=INLINED)
def _bring(X, rows, A, lengths):
    def dense(X, rows, A, lengths):
        for t in range(A.shape[0]):
            total, row = A.dtype.type(0), rows[t]
            for j in range(A.shape[1]):
                x = X[row, j]
                A[t, j] = x
                total += x * x
            lengths[t] = total

    def csr(X, rows, A, lengths):
        data, _, indptr = X
        for t in range(A.shape[0]):
            lengths[t] = 0.0
            for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
                lengths[t] += data[q] * data[q]

    return csr if isinstance(X, types.BaseTuple) else dense


@overload(first_products, jit_options=INLINED)
def _first_products(X, rows, A, W, Z, crew):
    def dense(X, rows, A, W, Z, crew):
        product(A, W, Z, 0, crew)

    def csr(X, rows, A, W, Z, crew):
        data, indices, indptr = X
        for t in range(Z.shape[0]):
            Z[t] = 0
            for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
                x, j = data[q], indices[q]
                for k in range(Z.shape[1]):
                    Z[t, k] += x * W[j, k]

    return csr if isinstance(X, types.BaseTuple) else dense


@overload(first_gradient, jit_options=INLINED)
def _first_gradient(X, rows, A, D, g, marks, crew):
    def dense(X, rows, A, D, g, marks, crew):
        product(A, D, g, 1, crew)
        return -1

    def csr(X, rows, A, D, g, marks, crew):
        data, indices, indptr = X
        d, n_touched = g.shape[0], 0
        if marks.size == 0:
            g[:] = 0
        for t in range(D.shape[0]):
            for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
                x, j = data[q], indices[q]
                if marks.size and marks[j] == 0:
                    marks[j] = 1
                    marks[d + n_touched] = j
                    n_touched += 1
                    g[j] = 0
                for k in range(D.shape[1]):
                    g[j, k] += x * D[t, k]
        for i in range(n_touched):
            marks[marks[d + i]] = 0
        return n_touched if marks.size else -1

    return csr if isinstance(X, types.BaseTuple) else dense


@inlined
def square_sum(g, start, stop):
    """The sum of the squares of some numbers."""
    total = 0.0
    for first in range(start, stop, PORTION):
        part, portion = g.dtype.type(0), g[first : min(first + PORTION, stop)]
        for j in range(portion.size):
            part += portion[j] * portion[j]
        total += part
    return total


@inlined
def row_products(A, D, lengths, has_intercept):
    """``sum_i |D_i|^2 (|A_i|^2 + 1)``; `lengths` are the squared lengths of the inputs where these are known."""
    total = 0.0
    for i in range(D.shape[0]):
        square = D.dtype.type(0)
        for k in range(D.shape[1]):
            square += D[i, k] * D[i, k]
        if lengths.size:
            own = lengths[i]
        else:
            length = A.dtype.type(0)
            for k in range(A.shape[1]):
                length += A[i, k] * A[i, k]
            own = np.float64(length)
        total += square * (own + has_intercept)
    return total


@called
def drop(A, kept, out, seed, step, number, least, factor):
    """``out = kept A`` with the mask of dropout, see `layers.dropout.kept`."""
    value = A.dtype.type(factor)
    for i in range(A.size):
        random = drawn(seed, step, np.uint64(number), np.uint64(i + 1))
        kept[i] = value if random >= np.uint64(least) else A.dtype.type(0)
        out[i] = A[i] * kept[i]


@inlined
def place(counts, level, longest, size):
    """Where the numbers of a layer start and stop in an array of layers."""
    start = counts[level, BEHIND] * longest
    return start, start + size * counts[level, N_OUT]


@called
def scale_forward(network, level, Z, w, params, space):
    """The normalization of a layer."""
    counts, numbers, _, _ = network
    b, n = Z.shape
    start, stop = place(counts, level, space.weights.size, b)
    standard, out = matrix_in(space.standard, start, b, n), matrix_in(space.scaled, start, b, n)
    inverse, weights = space.inverse[start:stop], space.weights[:b]
    scales = w[counts[level, SCALE] : counts[level, SCALE] + counts[level, N_SCALE]]
    moments, by_row = matrix_in(space.moments, counts[level, BEHIND] * 4, 4, n), space.by_row[level]
    epsilon, momentum, groups = numbers[level, EPSILON], numbers[level, MOMENTUM], counts[level, GROUPS]
    if counts[level, POOLED] == UNITS:
        units_forward(Z, groups, scales, epsilon, standard, inverse, out)
        return
    running = params[0, counts[level, RUNNING] : counts[level, RUNNING] + 1 + 2 * n]
    if counts[level, POOLED] == ROWS:
        n_groups = 1 if groups == 0 else max(1, b // groups)
        rows_forward(Z, weights, n_groups, scales, running, epsilon, momentum, standard, inverse, moments, out)
    else:
        both_forward(Z, weights, scales, running, epsilon, momentum, standard, inverse, moments, by_row, out)


@called
def scale_backward(network, level, D, Z, w, space):
    """The way back through the normalization of a layer; squared norms of what rows add to its gradient."""
    counts, _, _, _ = network
    b, n = D.shape
    start, stop = place(counts, level, space.weights.size, b)
    standard, inverse, weights = matrix_in(space.standard, start, b, n), space.inverse[start:stop], space.weights[:b]
    first, last = counts[level, SCALE], counts[level, SCALE] + counts[level, N_SCALE]
    scales, g, groups = w[first:last], space.gradient[first:last], counts[level, GROUPS]
    moments, by_row = matrix_in(space.moments, counts[level, BEHIND] * 4, 4, n), space.by_row[level]
    if counts[level, POOLED] == UNITS:
        return units_backward(D, groups, scales, standard, inverse, space.own, g)
    if counts[level, POOLED] == ROWS:
        n_groups = 1 if groups == 0 else max(1, b // groups)
        rows_backward(D, weights, n_groups, scales, standard, inverse, moments, g)
    else:
        both_backward(D, Z, weights, scales, standard, inverse, moments, by_row, g)
    return 0.0


@called
def forward(X, network, params, w, b, key, space):
    """The raw outputs of a batch, in `space.before` of the last layer."""
    counts, numbers, addresses, _ = network
    longest, last = space.weights.size, counts.shape[0] - 1
    A = matrix_in(space.inputs, 0, b, counts[0, N_IN])
    if counts[0, POOLED] != NONE:
        scale_forward(network, 0, A, w, params, space)
        A = matrix_in(space.scaled, 0, b, counts[0, N_IN])
    for level in range(1, last + 1):
        n_in, n = counts[level, N_IN], counts[level, N_OUT]
        start, stop = place(counts, level, longest, b)
        Z, W = matrix_in(space.before, start, b, n), matrix_in(w, counts[level, WEIGHTS], n_in, n)
        if level == 1 and counts[0, POOLED] == NONE:
            first_products(X, space.rows, A, W, Z, space.crew)
        else:
            product(A, W, Z, 0, space.crew)
        if counts[level, INTERCEPT] >= 0:
            intercept = w[counts[level, INTERCEPT] : counts[level, INTERCEPT] + n]
            for i in range(b):
                row = Z[i]
                for k in range(n):
                    row[k] += intercept[k]
        if level == last:
            return
        if counts[level, POOLED] != NONE:
            scale_forward(network, level, Z, w, params, space)
            Z = matrix_in(space.scaled, start, b, n)
        A = matrix_in(space.after, start, b, n)
        call(addresses[level, ACTIVATE], (addresses[level, ACTIVATE + 1], address_of(Z), address_of(A), b * n))
        if counts[level, DROPPED]:
            kept, dropped = space.kept[start:stop], space.dropped[start:stop]
            after = space.after[start:stop]
            drop(after, kept, dropped, key[0], key[1], level - 1, counts[level, DROPPED], numbers[level, KEPT])
            A = matrix_in(space.dropped, start, b, n)


@called
def input_of(counts, level, b, space):
    """What a layer got from the one before it."""
    if level == 1:
        inputs = space.inputs if counts[0, POOLED] == NONE else space.scaled
        return 0, inputs
    outputs = space.dropped if counts[level - 1, DROPPED] else space.after
    return counts[level - 1, BEHIND] * space.weights.size, outputs


@called
def backward(X, network, w, b, measured, space):
    """The gradient of a batch from the residuals in `space.before` of the last layer.

    Returns the squared norms of what the rows add to it (where `measured`), and the touched features, see `first_gradient`.
    """
    counts, _, addresses, _ = network
    longest, last, squares, touched = space.weights.size, counts.shape[0] - 1, 0.0, -1
    n = counts[last, N_OUT]
    D = matrix_in(space.later, 0, b, n)
    raw = matrix_in(space.before, counts[last, BEHIND] * longest, b, n)
    for i in range(b):
        for k in range(n):
            D[i, k] = raw[i, k]
    in_later = True
    for level in range(last, 0, -1):
        n_in, n = counts[level, N_IN], counts[level, N_OUT]
        start, _ = place(counts, level, longest, b)
        D = matrix_in(space.later if in_later else space.earlier, 0, b, n)
        if level < last:
            if counts[level, DROPPED]:
                kept = matrix_in(space.kept, start, b, n)
                for i in range(b):
                    for k in range(n):
                        D[i, k] *= kept[i, k]
            Z = matrix_in(space.before if counts[level, POOLED] == NONE else space.scaled, start, b, n)
            A = matrix_in(space.after, start, b, n)
            call(
                addresses[level, SLOPE],
                (addresses[level, SLOPE + 1], address_of(Z), address_of(A), address_of(D), b * n),
            )
            if counts[level, POOLED] != NONE:
                squares += scale_backward(network, level, D, matrix_in(space.before, start, b, n), w, space)
        at, inputs = input_of(counts, level, b, space)
        A, g = matrix_in(inputs, at, b, n_in), matrix_in(space.gradient, counts[level, WEIGHTS], n_in, n)
        plain = level == 1 and counts[0, POOLED] == NONE
        if measured:
            squares += row_products(A, D, space.lengths[: b if plain else 0], counts[level, INTERCEPT] >= 0)
        if counts[level, INTERCEPT] >= 0:
            intercept = space.gradient[counts[level, INTERCEPT] : counts[level, INTERCEPT] + n]
            intercept[:] = 0
            for i in range(b):
                row = D[i]
                for k in range(n):
                    intercept[k] += row[k]
        if plain:
            touched = first_gradient(X, space.rows, A, D, g, space.marks, space.crew)
        else:
            product(A, D, g, 1, space.crew)
            before = matrix_in(space.earlier if in_later else space.later, 0, b, n_in)
            product(D, matrix_in(w, counts[level, WEIGHTS], n_in, n), before, 2, space.crew)
            in_later = not in_later
    if counts[0, POOLED] != NONE:
        n = counts[0, N_OUT]
        D = matrix_in(space.later if in_later else space.earlier, 0, b, n)
        squares += scale_backward(network, 0, D, matrix_in(space.inputs, 0, b, n), w, space)
    return squares, touched


@inlined
def update(common, params, g, c, start, stop, factor, rate, decayed):
    """One step of the optimizer for the parameters from `start` to `stop`."""
    addresses = (common[1], address_of(params), address_of(g), address_of(c))
    sizes = (params.shape[0] - 1, params.shape[1], c.size)
    call(common[0], addresses + sizes + (start, stop, factor, rate, decayed))


@called
def take_step(network, segments, rates, params, c, factor, touched, space):
    """Update the parameters; of the weights of sparse rows, those of `touched` features only."""
    counts, _, _, common = network
    g, first, n = space.gradient, counts[1, WEIGHTS], counts[1, N_OUT]
    for segment in range(rates.size):
        start, stop, decayed = segments[segment, 0], segments[segment, 1], segments[segment, 2]
        rate = np.float64(c[0] * rates[segment])
        if touched >= 0 and start == first:
            for i in range(touched):
                row = first + space.marks[counts[1, N_IN] + i] * n
                update(common, params, g, c, row, row + n, factor, rate, decayed)
            start += counts[1, N_IN] * n
        if start < stop:
            update(common, params, g, c, start, stop, factor, rate, decayed)


@inlined
def find_point(common, params, c, out):
    """Where the gradient is taken, for an optimizer that takes it elsewhere than at its parameters."""
    addresses = (common[5], address_of(params), address_of(c), address_of(out))
    call(common[4], addresses + (params.shape[0] - 1, params.shape[1], c.size, out.size))  # noqa: RUF005


@inlined
def turn_into_residuals(common, raw, space):
    """Raw outputs become the weighted residuals of the mean loss, whose sum over the rows is returned."""
    b, K, targets, out = raw.shape[0], raw.shape[1], space.targets, space.out
    results = (address_of(out), address_of(out) + K * out.itemsize, b, K, targets.shape[1])
    addresses = (common[3], address_of(raw), address_of(targets), address_of(space.weights))
    call(common[2], addresses + results)
    share = raw.dtype.type(1.0 / b)
    for i in range(b):
        for k in range(K):
            raw[i, k] *= share
    return out[K]


@called
def gradient_norm(network, touched, space):
    """The squared norm of the gradient; of sparse rows without what was not touched."""
    counts, g = network[0], space.gradient
    if touched < 0:
        return square_sum(g, 0, g.size)
    first, n = counts[1, WEIGHTS], counts[1, N_OUT]
    total = square_sum(g, first + counts[1, N_IN] * n, g.size)
    for i in range(touched):
        row = first + space.marks[counts[1, N_IN] + i] * n
        total += square_sum(g, row, row + n)
    return total


@Kernel
def run(
    find, X, y, weights, order, offsets, coefficients, plan_weights, network, segments, limits, params, space, stats
):
    """Carry out a plan; the failed step, or -1."""
    segments, rates = segments
    counts, _, _, common = network
    clip_norm, measured, seed, step = limits
    losses, square_norms, row_squares = stats
    last, failed = counts.shape[0] - 1, -1
    write_order(space.way, order, space.burst)
    w = space.point if common[4] else params[0]
    for s in range(offsets.size - 1):
        start = offsets[s]
        b = offsets[s + 1] - start
        call(find, (address_of(space.way), start, offsets[s + 1], address_of(space.rows), 0, -1))
        for t in range(b):
            space.weights[t] = row_weight(weights, plan_weights, space.rows[t], start + t)
        take_targets(y, space.rows, b, space.targets)
        bring(X, space.rows, matrix_in(space.inputs, 0, b, counts[0, N_IN]), space.lengths)
        c = coefficients[s]
        if common[4]:
            find_point(common, params, c, space.point)
        forward(X, network, params, w, b, (np.uint64(seed), np.uint64(step + s)), space)
        raw = matrix_in(space.before, counts[last, BEHIND] * space.weights.size, b, counts[last, N_OUT])
        losses[s] = turn_into_residuals(common, raw, space)
        squares, touched = backward(X, network, w, b, measured, space)
        square_norm = gradient_norm(network, touched, space)
        square_norms[s] = square_norm
        row_squares[s] = squares * b * b if measured else np.nan
        if not (finite(losses[s]) and finite(square_norm)):
            failed = s
            break
        take_step(network, segments, rates, params, c, clipping(square_norm, clip_norm), touched, space)
    dismiss(space.crew)
    return failed


def take_targets(y, rows, b, targets):
    """``targets = y[rows]``, by rows."""


@overload(take_targets, jit_options=INLINED)
def _take_targets(y, rows, b, targets):
    def one(y, rows, b, targets):
        for t in range(b):
            targets[t, 0] = y[rows[t]]

    def several(y, rows, b, targets):
        for t in range(b):
            for k in range(targets.shape[1]):
                targets[t, k] = y[rows[t], k]

    return one if y.ndim == 1 else several
