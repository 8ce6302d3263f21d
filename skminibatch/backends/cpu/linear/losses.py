"""The kernels of the loss and of its derivatives over all rows or some: rows are read once.

The `loss` that they are given is the address of its residuals and that of its numbers, see `operations`.
"""

from __future__ import annotations

import numpy as np

from skminibatch.backends.cpu.compile import Kernel, inlined
from skminibatch.backends.cpu.intrinsics import address_of, call
from skminibatch.backends.cpu.linear.dense import add_rows, bring, products, scaled
from skminibatch.backends.cpu.linear.operations import (
    BLOCK,
    CAPACITY,
    N_OUTPUTS,
    N_PLACES,
    N_TARGETS,
    ROWS,
    TARGETS,
)
from skminibatch.backends.cpu.rows import GROUP, TILE
from skminibatch.contract.arrays import readonly

LONGEST_SUM = 64  # groups of rows whose gradients are added in the type of the rows, before float64 takes over


def scratch(K: int, dtype) -> tuple:
    """What the kernels write to: raw outputs, row numbers, weights, squared lengths, sums, and places."""
    block = np.ones(2 * GROUP + max(GROUP, K))
    arrays = block[:GROUP], block[GROUP : 2 * GROUP], np.zeros(2), np.empty(N_PLACES, np.int64)
    return np.empty((GROUP, K), dtype), np.empty(GROUP, np.int64), *arrays


def dense_scratch(w: np.ndarray, X: np.ndarray, centered: bool) -> tuple:
    """The same for dense rows, which are read in X or in a tile, and for a point and its gradient."""
    K, width = w.shape
    tile = np.empty((GROUP if centered else 0, width), w.dtype)
    read = readonly(tile) if centered else X
    return scratch(K, w.dtype), np.empty(GROUP, np.int64), tile, read, np.empty_like(w), np.zeros_like(w)


@inlined
def write_places(places, y, n_targets, group, weights, K):
    """Write down where the function of the loss finds what it needs."""
    places[TARGETS], places[N_TARGETS], places[N_OUTPUTS] = address_of(y), n_targets, K
    places[ROWS], places[BLOCK], places[CAPACITY] = address_of(group), address_of(weights), GROUP


@Kernel
def dense(loss, X, y, weights, rows, axes, w, table, sums, lengths, space):
    """Weighted sum of the losses of the rows (all of them if `rows` is empty); `w` is (K, d + 1).

    Where `sums` (K, d + 1) is not empty, the gradients of all rows are added to it, in the coordinates of `w` but still to be
    multiplied with the scale; the residuals go to the table and the squared lengths of the rows to `lengths`.
    """
    center, scale = axes
    (raw, group, row_weights, square_lengths, totals, places), numbers, tile, A, v, g = space
    n, d, K, derived = rows.size if rows.size else X.shape[0], X.shape[1], w.shape[0], sums.size > 0
    write_places(places, y, y.size // X.shape[0], group, row_weights, K)
    for k in range(K):
        for j in range(d):
            v[k, j] = scaled(w[k, j], scale, j)
        v[k, d] = w[k, d]
    for start in range(0, n, GROUP):
        size = min(GROUP, n - start)
        for t in range(size):
            group[t] = rows[start + t] if rows.size else start + t
            numbers[t] = group[t]
            if weights.size:
                row_weights[t] = weights[group[t]]
        bring(X, numbers, size, center, tile)
        for t in range(0, size, TILE):
            products(A, numbers, t, min(t + TILE, size), d, v, raw, scale, square_lengths, derived)
        call(loss[0], (loss[1], address_of(places), address_of(raw), address_of(totals), size))
        if not derived:
            continue
        for t in range(0, size, TILE):
            add_rows(A, numbers, t, min(t + TILE, size), d, raw, g)
        for t in range(size):
            lengths[start + t] = square_lengths[t]
            for k in range(K):
                table[start + t, 1 + k] = raw[t, k]
        if (start // GROUP) % LONGEST_SUM == LONGEST_SUM - 1 or start + GROUP >= n:
            for k in range(K):
                for j in range(d + 1):
                    sums[k, j] += g[k, j]
                    g[k, j] = 0
    return totals[0]


@Kernel
def csr(loss, X, y, weights, rows, v, space):
    """As `dense`, for sparse rows; `v` is (d + 1, K), so that a feature's weights stand together."""
    data, indices, indptr = X
    n = rows.size if rows.size else indptr.size - 1
    K = v.shape[1]
    raw, group, row_weights, _, sums, places = space
    write_places(places, y, y.size // (indptr.size - 1), group, row_weights, K)
    for first in range(0, n, GROUP):
        size = min(GROUP, n - first)
        for t in range(size):
            row = rows[first + t] if rows.size else first + t
            group[t] = row
            if weights.size:
                row_weights[t] = weights[row]
            for k in range(K):
                raw[t, k] = v[v.shape[0] - 1, k]
            for q in range(indptr[row], indptr[row + 1]):
                for k in range(K):
                    raw[t, k] += data[q] * v[indices[q], k]
        call(loss[0], (loss[1], address_of(places), address_of(raw), address_of(sums), size))
    return sums[0]


@Kernel
def residuals(loss, raw, y, weights, space):
    """Turn raw outputs (n, K) into weighted residuals, in place; the weighted sum of the losses."""
    group, row_weights, _, sums, places = space
    n, K = raw.shape
    write_places(places, y, y.size // n, group, row_weights, K)
    for start in range(0, n, GROUP):
        size = min(GROUP, n - start)
        for t in range(size):
            group[t] = start + t
            if weights.size:
                row_weights[t] = weights[start + t]
        here = address_of(raw) + start * K * raw.itemsize
        call(loss[0], (loss[1], address_of(places), here, address_of(sums), size))
    return sums[0]
