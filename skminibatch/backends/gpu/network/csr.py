"""Sparse rows of networks: what the rows of a plan hold, listed once in the order of its steps and of features.

A batch then adds up the gradient by each of its features in an order that is fixed, and writes no other feature.
"""

from __future__ import annotations

import numpy as np

from skminibatch.backends.gpu import device
from skminibatch.backends.gpu.compile import kernel_of

BLOCK = 128
GRADIENT_BLOCKS = 1024
LISTED = "values", "owners", "features", "firsts", "of_steps"  # in the order of ``Chunk``


def arrays_of(X, plan, dtype) -> dict:
    """The arrays of CSR rows on the device, and memory for what a plan makes of them."""
    xp = device.cupy()
    n_positions = int(plan.offsets[-1])
    return {
        "data": xp.ascontiguousarray(xp.asarray(X.data, dtype)),
        "indices": xp.ascontiguousarray(xp.asarray(X.indices, np.int32)),
        "indptr": xp.ascontiguousarray(xp.asarray(X.indptr, np.int64)),
        "rows": xp.empty(n_positions, np.int64),
        "marks": xp.zeros(X.shape[1] + 1, np.int64),
    }


def listed(chunk, arrays: dict, plan, source: str, *, has_one: bool) -> dict:
    """The numbers of the rows of a plan by step and feature; the intercept, where there `has_one`, is the last feature."""
    xp, rows, n_steps = device.cupy(), arrays["rows"], plan.n_steps
    n, width = rows.size, arrays["marks"].size
    counted = np.int64(n)
    kernel_of(source, "list_rows")((-(-n // BLOCK),), (BLOCK,), (chunk.words, rows, counted))
    counts = arrays["indptr"][rows + 1] - arrays["indptr"][rows] + int(has_one)
    stops = xp.cumsum(counts, dtype=np.int64)
    size = int(stops[-1])
    keys, owners, values = xp.empty(size, np.int64), xp.empty(size, np.int32), xp.empty(size, arrays["data"].dtype)
    steps = xp.asarray(np.repeat(np.arange(n_steps, dtype=np.int32), plan.sizes))
    arguments = (
        chunk.words,
        steps,
        stops - counts,
        keys,
        owners,
        values,
        counted,
        np.int32(width - 1),
        np.int32(has_one),
    )
    kernel_of(source, "list_numbers")((-(-n * 32 // BLOCK),), (BLOCK,), arguments)
    order = xp.argsort(keys)  # which is stable on a GPU
    keys = keys[order]
    is_first = xp.ones(size, bool)
    is_first[1:] = keys[1:] != keys[:-1]
    firsts = xp.flatnonzero(is_first).astype(np.int64)
    distinct = keys[firsts]
    return {
        "values": values[order],
        "owners": owners[order],
        "features": (distinct % width).astype(np.int32),
        "firsts": xp.concatenate([firsts, xp.full(1, size, np.int64)]),
        "of_steps": xp.searchsorted(distinct, xp.arange(n_steps + 1, dtype=np.int64) * width).astype(np.int64),
    }
