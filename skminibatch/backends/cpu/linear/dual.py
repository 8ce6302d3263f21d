"""The kernel of a dual optimizer on sparse rows: a row costs two passes over its non-zeros, whatever the features are.

The rows of a batch come one after another: on one core nothing is gained by taking them at once, and each one would have to
be moved less far.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, Kernel, finite, inlined
from skminibatch.backends.cpu.intrinsics import prefetch
from skminibatch.backends.cpu.linear.sparse import EVERY, FAR, ask_for
from skminibatch.backends.cpu.rows import find_rows, unpacked
from skminibatch.contract.proximal import proximal_point
from skminibatch.contract.verbs import proximal, value, value_gradient


def value_of(loss, raw, y, row, out):
    """Loss of a row at some raw outputs; `out` is written to."""


@overload(value_of, jit_options=INLINED)
def _value_of(loss, raw, y, row, out):
    if y.ndim == 1:
        return lambda loss, raw, y, row, out: value(loss, raw[0], np.float64(y[row]))
    return lambda loss, raw, y, row, out: value_gradient(loss, raw, y[row], out)


def balance(loss, raw, y, row, weight, q, dual, out, work):
    """Write to `out` where the loss of a row and the distance from its raw outputs balance."""


@overload(balance, jit_options=INLINED)
def _balance(loss, raw, y, row, weight, q, dual, out, work):
    def one_output(loss, raw, y, row, weight, q, dual, out, work):
        out[0] = proximal_point(loss, raw[0], np.float64(y[row]), weight, q, dual[0])

    def several(loss, raw, y, row, weight, q, dual, out, work):
        proximal(loss, raw, y[row], weight, q, dual, out, work)

    return one_output if y.ndim == 1 else several


@inlined
def shrunk(u, threshold):
    """The coefficient of an l1 penalty that belongs to a number of the state."""
    return u - min(max(u, -threshold), threshold)


@inlined
def outputs(X, row, state, threshold, raw):
    """Raw outputs of a row; `state` holds the outputs of each feature side by side, the intercepts last."""
    data, indices, indptr = X
    K = raw.size
    start, stop = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
    last = state.size - K
    if K == 1 and threshold > 0.0:
        total = state[last]
        for p in range(start, stop):
            total += np.float64(data[p]) * shrunk(state[np.uint64(indices[p])], threshold)
        raw[0] = total
        return
    if K == 1:
        total = state[last]
        for p in range(start, stop):
            total += np.float64(data[p]) * state[np.uint64(indices[p])]
        raw[0] = total
        return
    for k in range(K):
        raw[k] = state[last + k]
    for p in range(start, stop):
        x, first = np.float64(data[p]), np.uint64(indices[p]) * np.uint64(K)
        for k in range(K):
            raw[k] += x * shrunk(state[first + np.uint64(k)], threshold)


@inlined
def add_row(X, row, state, changes, spread):
    """Add a row times the changes, and to the intercepts the changes times the spread."""
    data, indices, indptr = X
    K = changes.size
    start, stop = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
    last = state.size - K
    for k in range(K):
        state[last + k] += spread * changes[k]
    if K == 1:
        change = changes[0]
        for p in range(start, stop):
            state[np.uint64(indices[p])] += change * np.float64(data[p])
        return
    for p in range(start, stop):
        x, first = np.float64(data[p]), np.uint64(indices[p]) * np.uint64(K)
        for k in range(K):
            state[first + np.uint64(k)] += x * changes[k]


@inlined
def move_intercepts(table, state, K, share):
    """Add to the intercepts a share of the sums of the dual variables."""
    last = state.size - K
    for row in range(table.shape[0]):
        for k in range(K):
            state[last + k] += share * table[row, 2 + k]


@inlined
def move_center(state, center, K, share, threshold):
    """Draw the coefficients to where they are now, and no more to where they were."""
    if share > 0.0:
        for j in range(state.size - K):
            w = shrunk(state[j], threshold)
            state[j] += share * (w - center[j])
            center[j] = w


@Kernel
def run(parts, X, y, weights, order, offsets, coefficients, objective, state, center, table, space, losses):
    """Carry out a plan; the failed step, or -1.

    `objective`: what a change of a dual variable counts, the spread, the share of the center, and the threshold of l1.
    """
    loss = parts[0]
    unit, spread, share, threshold = objective
    rows, burst, work = space
    raw, out, changes = work[0], work[1], work[2]
    K, flat, y_flat = raw.size, table.reshape(table.size), y.reshape(y.size)
    places = unpacked(order)
    for s in range(offsets.shape[0] - 1):
        size = offsets[s + 1] - offsets[s]
        find_rows(places, offsets[s], offsets[s + 1], rows, 0, EVERY, burst)
        rate = coefficients[s, 0]
        if coefficients[s, 1] > 0.0:
            move_center(state, center, K, share, threshold)
            move_intercepts(table, state, K, spread * unit)
        total = 0.0
        for t in range(size):
            ask_for(X[0], X[1], X[2], y_flat, rows, t, size)
            if t + FAR < size:
                prefetch(flat, rows[t + FAR] * table.shape[1])
            row = rows[t]
            weight = weights[row] if weights.size else 1.0
            dual = table[row, 2:]
            outputs(X, row, state, threshold, raw)
            total += weight * value_of(loss, raw, y, row, changes)
            q = (table[row, 0] + spread) * unit
            balance(loss, raw, y, row, weight, q, dual, out, work[3:])
            conjugate = -weight * value_of(loss, out, y, row, changes)
            for k in range(K):
                change = (out[k] - raw[k]) / q
                dual[k] += change
                conjugate -= out[k] * dual[k]
                changes[k] = rate * unit * change
            table[row, 1] = conjugate
            add_row(X, row, state, changes, spread)
        losses[s] = total
        if not finite(total):
            return s
    return -1
