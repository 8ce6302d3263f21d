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
    """What an l1 penalty leaves of a number of the state."""
    return u - min(max(u, -threshold), threshold)


@inlined
def unit_of(units, j):
    """The unit of a feature, of `units` of each, or of one for all."""
    return units[j] if units.size > 1 else units[0]


@inlined
def outputs(X, row, state, units, l1, raw):
    """Raw outputs of a row; `state` holds the outputs of each feature side by side, the intercepts last."""
    data, indices, indptr = X
    K = raw.size
    start, stop = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
    last = state.size - K
    if K == 1 and l1 > 0.0:
        total = state[last]
        for p in range(start, stop):
            j = np.uint64(indices[p])
            total += np.float64(data[p]) * shrunk(state[j], l1 * unit_of(units, j))
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
        j = np.uint64(indices[p])
        x, first = np.float64(data[p]), j * np.uint64(K)
        if l1 > 0.0:
            threshold = l1 * unit_of(units, j)
            for k in range(K):
                raw[k] += x * shrunk(state[first + np.uint64(k)], threshold)
        else:
            for k in range(K):
                raw[k] += x * state[first + np.uint64(k)]


@inlined
def add_row(X, row, state, changes, units, shift):
    """Add to the coefficients a row times its units and the changes, and to the intercepts the changes times the shift."""
    data, indices, indptr = X
    K = changes.size
    start, stop = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
    last = state.size - K
    for k in range(K):
        state[last + k] += shift * changes[k]
    if K == 1:
        change = changes[0]
        for p in range(start, stop):
            j = np.uint64(indices[p])
            state[j] += change * unit_of(units, j) * np.float64(data[p])
        return
    for p in range(start, stop):
        j = np.uint64(indices[p])
        x, first = unit_of(units, j) * np.float64(data[p]), j * np.uint64(K)
        for k in range(K):
            state[first + np.uint64(k)] += x * changes[k]


@inlined
def coordinate(i, state, K, objective):
    """Of a number of the state: its coefficient, the share of its center, and the weight of the pull to it."""
    units, shift, ridge, l1 = objective
    if i >= state.size - K:
        return state[i], 1.0, 1.0 / shift if shift > 0.0 else 0.0
    unit = unit_of(units, i // K)
    return shrunk(state[i], l1 * unit), 1.0 - ridge * unit, 1.0 / unit - ridge


@inlined
def move_centers(state, center, before, K, objective, momentum):
    """Draw the coefficients to where they are now, and beyond, unless they have come back from there.

    `center` and `before` are of the last numbers of the state, of the intercepts at least.
    """
    first, back = state.size - center.size, 0.0
    for i in range(center.size):
        w, _, pull = coordinate(first + i, state, K, objective)
        back += pull * (center[i] - w) * (w - before[i])
    momentum = 0.0 if back > 0.0 else momentum
    for i in range(center.size):
        w, share, _ = coordinate(first + i, state, K, objective)
        new = w + momentum * (w - before[i])
        state[first + i] += share * (new - center[i])
        center[i], before[i] = new, w


@Kernel
def run(parts, X, y, weights, order, offsets, coefficients, objective, states, table, space, losses):
    """Carry out a plan; the failed step, or -1.

    `objective`: what a change of a dual variable counts in each feature (or in all) and in the intercept, the ridge, and the l1
    penalty of all rows together.
    """
    loss = parts[0]
    units, shift, _, l1 = objective
    state, center, before = states
    rows, burst, work = space
    raw, out, changes = work[0], work[1], work[2]
    K, flat, y_flat = raw.size, table.reshape(table.size), y.reshape(y.size)
    places = unpacked(order)
    for s in range(offsets.shape[0] - 1):
        size = offsets[s + 1] - offsets[s]
        find_rows(places, offsets[s], offsets[s + 1], rows, 0, EVERY, burst)
        rate = coefficients[s, 0]
        if coefficients[s, 1] >= 0.0:
            move_centers(state, center, before, K, objective, coefficients[s, 1])
        total = 0.0
        for t in range(size):
            ask_for(X[0], X[1], X[2], y_flat, rows, t, size)
            if t + FAR < size:
                prefetch(flat, rows[t + FAR] * table.shape[1])
            row = rows[t]
            weight = weights[row] if weights.size else 1.0
            dual = table[row, 2:]
            outputs(X, row, state, units, l1, raw)
            total += weight * value_of(loss, raw, y, row, changes)
            q = table[row, 0] + shift
            balance(loss, raw, y, row, weight, q, dual, out, work[3:])
            conjugate = -weight * value_of(loss, out, y, row, changes)
            for k in range(K):
                change = (out[k] - raw[k]) / q
                dual[k] += change
                conjugate -= out[k] * dual[k]
                changes[k] = rate * change
            table[row, 1] = conjugate
            add_row(X, row, state, changes, units, shift)
        losses[s] = total
        if not finite(total):
            return s
    return -1
