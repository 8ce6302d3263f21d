"""The gradients of all dense rows for several models: each row is read once, for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skminibatch.backends.cpu.compile import Kernel
from skminibatch.backends.cpu.intrinsics import matrix_at, vector_at
from skminibatch.backends.cpu.linear.dense import add_rows, bring, products
from skminibatch.backends.cpu.linear.dense_arguments import side_by_side
from skminibatch.backends.cpu.linear.lockstep import residuals_of, write_outputs
from skminibatch.backends.cpu.linear.lockstep_arguments import full_width
from skminibatch.backends.cpu.linear.losses import LONGEST_SUM
from skminibatch.backends.cpu.linear.operations import (
    BLOCK,
    CAPACITY,
    N_OUTPUTS,
    N_PLACES,
    N_TARGETS,
    ROWS,
    TARGETS,
    residuals,
)
from skminibatch.backends.cpu.rows import GROUP, MANY, TILE
from skminibatch.contract.arrays import readonly
from skminibatch.contract.task import LinearTask


def of_tasks(tasks: Sequence[LinearTask], center: np.ndarray, scale: np.ndarray) -> list[tuple]:
    """The sums of the gradients (K, d + 1) of each task, the squared lengths of the rows, and the sum of the losses."""
    X, dtype, M, (K, width) = tasks[0].X, tasks[0].params.dtype, len(tasks), tasks[0].params.shape[1:]
    full, d, n = full_width(width, dtype), width - 1, len(tasks[0].X)
    point, gradient, raw, own, totals, block, rows, tile = side_by_side(
        (dtype, (M * K, full)),
        (dtype, (M * K, full)),
        (dtype, (M * K, GROUP)),
        (dtype, (GROUP, K)),
        (np.float64, (M, 2)),
        (np.float64, (2 * GROUP + max(K, GROUP),)),
        (np.int64, (2, GROUP)),
        (dtype, (GROUP if center.size else 0, full)),
    )
    places, losses, kept = np.zeros((M, N_PLACES), np.int64), np.zeros((M, 2), np.int64), []
    addresses = np.zeros((2, M), np.int64)
    for m, task in enumerate(tasks):
        point[m * K : (m + 1) * K, :width] = task.params[0]
        if scale.size:
            point[m * K : (m + 1) * K, :d] *= scale
        y = np.ascontiguousarray(task.y).reshape(-1)
        loss = residuals(task.loss, task.params, y)
        losses[m], row = loss.addresses, places[m]
        row[[TARGETS, N_TARGETS, N_OUTPUTS]] = y.ctypes.data, y.size // n, K
        row[[ROWS, BLOCK, CAPACITY]] = rows[1].ctypes.data, block.ctypes.data, GROUP
        assert task.table is not None
        addresses[:, m] = task.weights.ctypes.data if task.weights.size else 0, task.table.ctypes.data
        kept += [y, loss]
    sums, lengths = np.zeros((M * K, width)), np.empty(n)
    read = readonly(tile[:, :d]) if center.size else readonly(X)
    space = point, gradient, raw, own, totals, block[:GROUP], block[GROUP : 2 * GROUP], rows, tile, read
    run(readonly(X), (places, losses, *addresses), (center, scale), sums, lengths, space)
    del kept  # until here, the kernel reads it by its addresses
    sums[:, :d] *= scale if scale.size else 1.0
    return [(sums[m * K : (m + 1) * K], lengths, float(totals[m, 0])) for m in range(M)]


@Kernel
def run(X, members, axes, sums, lengths, space):
    """Add the gradients to `sums`; the residuals go to the tables and the squared lengths of the rows to `lengths`."""
    places, losses, weights, tables = members
    center, scale = axes
    V, g, raw, own, totals, row_weights, square_lengths, rows, tile, A = space
    M, n, d = losses.shape[0], X.shape[0], X.shape[1]
    K, dtype, by_rows = V.shape[0] // M, V.dtype.type, raw.T
    for start in range(0, n, GROUP):
        size = min(GROUP, n - start)
        for t in range(size):
            rows[0, t] = start + t
            rows[1, t] = start + t
        bring(X, rows[0], size, center, tile)
        for t in range(0, size, TILE):
            products(A, rows[0], t, min(t + TILE, size), d, V, by_rows, scale, square_lengths, True)
        for m in range(M):
            for t in range(size):
                row_weights[t] = vector_at(weights[m], np.float64, MANY)[start + t] if weights[m] else 1.0
            residuals_of(raw, own, m, size, K, losses, places, totals)
            write_outputs(raw, own, m, size, K)
            table = matrix_at(tables[m], dtype, MANY, 1 + K)
            for t in range(size):
                for k in range(K):
                    table[start + t, 1 + k] = raw[m * K + k, t]
        for t in range(0, size, TILE):
            add_rows(A, rows[0], t, min(t + TILE, size), d, by_rows, g)
        for t in range(size):
            lengths[start + t] = square_lengths[t]
        if (start // GROUP) % LONGEST_SUM == LONGEST_SUM - 1 or start + GROUP >= n:
            for k in range(M * K):
                for j in range(d + 1):
                    sums[k, j] += g[k, j]
                    g[k, j] = 0
