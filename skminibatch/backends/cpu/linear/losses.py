"""The kernels of the loss and of its derivatives over all rows or some: rows are read once."""

from __future__ import annotations

import numpy as np

from skminibatch.backends.cpu.compile import Kernel
from skminibatch.backends.cpu.linear.dense import add_rows, bring, products, residuals_of, scaled
from skminibatch.backends.cpu.rows import GROUP, TILE

LONGEST_SUM = 64  # groups of rows whose gradients are added in the type of the rows, before float64 takes over


def scratch(K: int, dtype) -> tuple:
    """What the kernels write to: raw outputs, row numbers, a row's gradient, squared lengths, weights and sums."""
    raw, group = np.empty((GROUP, K), dtype), np.empty(GROUP, np.int64)
    return raw, group, np.empty(max(GROUP, K)), np.ones(GROUP), np.ones(GROUP), np.zeros(2)


@Kernel
def dense(parts, X, y, weights, rows, v, space):
    """Weighted sum of the losses of the rows (all of them if `rows` is empty); `v` is (K, d + 1)."""
    (loss,) = parts
    n = rows.size if rows.size else X.shape[0]
    raw, group, out, lengths, row_weights, sums = space
    for start in range(0, n, GROUP):
        size = min(GROUP, n - start)
        for t in range(size):
            group[t] = rows[start + t] if rows.size else start + t
            if weights.size:
                row_weights[t] = weights[group[t]]
        for t in range(0, size, TILE):
            products(X, group, t, min(t + TILE, size), X.shape[1], v, raw, lengths, lengths, False)
        residuals_of(loss, raw, y, group, row_weights, size, lengths, out, sums)
    return sums[0]


@Kernel
def csr(parts, X, y, weights, rows, v, space):
    """As `dense`, for sparse rows; `v` is (d + 1, K), so that a feature's weights stand together."""
    (loss,) = parts
    data, indices, indptr = X
    n = rows.size if rows.size else indptr.size - 1
    K = v.shape[1]
    raw, group, out, lengths, row_weights, sums = space
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
        residuals_of(loss, raw, y, group, row_weights, size, lengths, out, sums)
    return sums[0]


@Kernel
def residuals(parts, raw, y, weights, space):
    """Turn raw outputs (n, K) into weighted residuals, in place."""
    (loss,) = parts
    group, out, lengths, row_weights, sums = space
    n = raw.shape[0]
    for start in range(0, n, GROUP):
        size = min(GROUP, n - start)
        for t in range(size):
            group[t] = start + t
            if weights.size:
                row_weights[t] = weights[start + t]
        residuals_of(loss, raw[start : start + size], y, group, row_weights, size, lengths, out, sums)


@Kernel
def gradient(parts, X, y, weights, axes, w, table, sums, lengths, space):
    """Add the gradients of all rows to `sums` (K, d + 1), the residuals to the table and squared lengths to `lengths`.

    In the coordinates of `w`, but `sums` are still to be multiplied with the scale.
    """
    (loss,) = parts
    center, scale = axes
    (raw, rows, out, square_lengths, row_weights, totals), group, tile, v, g = space
    n, d = X.shape
    for k in range(w.shape[0]):
        for j in range(d):
            v[k, j] = scaled(w[k, j], scale, j)
        v[k, d] = w[k, d]
    for start in range(0, n, GROUP):
        size = min(GROUP, n - start)
        for t in range(size):
            rows[t], group[t] = start + t, start + t
            if weights.size:
                row_weights[t] = weights[start + t]
        A = bring(X, rows, size, center, tile)
        for t in range(0, size, TILE):
            products(A, rows, t, min(t + TILE, size), d, v, raw, scale, square_lengths, True)
        residuals_of(loss, raw, y, group, row_weights, size, square_lengths, out, totals)
        for t in range(0, size, TILE):
            add_rows(A, rows, t, min(t + TILE, size), d, raw, g)
        for t in range(size):
            lengths[start + t] = square_lengths[t]
            for k in range(w.shape[0]):
                table[start + t, 1 + k] = raw[t, k]
        if (start // GROUP) % LONGEST_SUM == LONGEST_SUM - 1 or start + GROUP >= n:
            for k in range(w.shape[0]):
                for j in range(d + 1):
                    sums[k, j] += g[k, j]
                    g[k, j] = 0
