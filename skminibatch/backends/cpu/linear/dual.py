"""The kernel of a dual optimizer on sparse rows: a row costs two passes over its non-zeros, whatever the features are.

The rows of a batch come one after another: on one core nothing is gained by taking them at once, and each one would have to
be moved less far.
"""

from __future__ import annotations

import numpy as np

from skminibatch.backends.cpu.compile import Kernel, finite, inlined
from skminibatch.backends.cpu.intrinsics import address_of, call, prefetch
from skminibatch.backends.cpu.linear.operations import N_OUTPUTS, N_TARGETS, OUT, RAW, TARGETS, TOTALS, WORK
from skminibatch.backends.cpu.linear.sparse import EVERY, FAR, ask_for
from skminibatch.backends.cpu.rows import write_order


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


@inlined
def write_places(places, y, n_rows, raw, out, work, totals):
    """Write down where the function of the loss finds what it needs."""
    places[TARGETS], places[N_TARGETS], places[N_OUTPUTS] = address_of(y), y.size // n_rows, raw.size
    places[RAW], places[OUT] = address_of(raw), address_of(out)
    places[WORK], places[TOTALS] = address_of(work), address_of(totals)


@Kernel
def run(addresses, X, y, weights, order, offsets, coefficients, objective, states, table, space, losses):
    """Carry out a plan; the failed step, or -1.

    `addresses`: that of `find`, and those of the ascent of the loss and of its numbers. `objective`: what a change of a dual
    variable counts in each feature (or in all) and in the intercept, the ridge, and the l1 penalty of all rows together.
    """
    units, shift, _, l1 = objective
    state, center, before = states
    find, loss = addresses
    rows, burst, way, work, totals, places = space
    raw, out, changes = work[0], work[1], work[2]
    K, flat, here = raw.size, table.reshape(table.size), address_of(places)
    write_places(places, y, X[2].size - 1, raw, out, work[3:], totals)
    write_order(way, order, burst)
    for s in range(offsets.shape[0] - 1):
        size = offsets[s + 1] - offsets[s]
        call(find, (address_of(way), offsets[s], offsets[s + 1], address_of(rows), 0, EVERY))
        rate = coefficients[s, 0]
        if coefficients[s, 1] >= 0.0:
            move_centers(state, center, before, K, objective, coefficients[s, 1])
        total = 0.0
        for t in range(size):
            ask_for(X[0], X[1], X[2], y, rows, t, size)
            if t + FAR < size:
                prefetch(flat, rows[t + FAR] * table.shape[1])
            row = rows[t]
            weight = weights[row] if weights.size else 1.0
            dual = table[row, 2:]
            outputs(X, row, state, units, l1, raw)
            q = table[row, 0] + shift
            call(loss[0], (loss[1], here, row, address_of(dual), weight, q))
            total += totals[0]
            conjugate = totals[1]
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
