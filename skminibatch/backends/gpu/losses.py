"""Losses of many rows at once: one kernel for all of them, of a listed loss or a user's own with CUDA bodies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.backends import base
from skminibatch.backends.arrays import on_host
from skminibatch.backends.gpu.compile import kernel_of, or_nothing, source_of
from skminibatch.backends.gpu.device import cupy
from skminibatch.backends.gpu.source import has_cuda, numbers, sparse_types, structs
from skminibatch.contract.kinds import LOSS, declared, declares
from skminibatch.losses import SquaredError

THREADS, MOST_BLOCKS = 256, 1 << 16


@declares(wraps="loss")
class LossOfRows(NamedTuple):
    """A loss that the verbs of ``base`` ask for several rows on the GPU at once.

    A pointwise loss without CUDA bodies is a formula of array operations, and a row-wise one is evaluated on the host.
    """

    loss: tuple

    def values_residuals(self, raw, y):
        """Losses (b,) and their derivatives (b, K)."""
        if has_cuda(self.loss):
            return self._evaluated(raw, y)
        if declared(self.loss).kind is LOSS:
            return base.values_residuals(self.loss, raw, y)
        return tuple(map(cupy().asarray, base.values_residuals(self.loss, on_host(raw), on_host(y))))

    def _evaluated(self, raw, y):
        cp, (n, K) = cupy(), raw.shape
        raw, y = cp.ascontiguousarray(raw), cp.ascontiguousarray(y.astype(raw.dtype, copy=False))
        values, residuals = cp.empty(n, raw.dtype), cp.empty((n, K), raw.dtype)
        width = 1 if y.ndim == 1 else y.shape[1]
        shape = np.int64(n), np.int32(K), np.int32(width)
        arrays = raw, y, values, residuals, cp.asarray(numbers(self.loss))
        _kernel("losses_of_rows", self.loss, raw.dtype, raw.dtype)((_blocks(n),), (THREADS,), (*arrays, *shape))
        return values, residuals


def raw_of_sparse_rows(X, rows, coef, intercept):
    """Raw outputs (m, K) of some rows (without any: all) in CSR, float64."""
    cp, n, (K, d) = cupy(), rows.size or X.shape[0], coef.shape
    raw = cp.empty((n, K))
    arrays = X.data, X.indices, X.indptr, or_nothing(rows)
    numbers = [cp.ascontiguousarray(array.astype(np.float64)) for array in (coef, intercept)]
    kernel = _kernel("raw_of_sparse_rows", SquaredError(), np.float64, X.dtype, X.indices.dtype)  # any loss will do
    kernel((_blocks(n * K),), (THREADS,), (*arrays, *numbers, raw, np.int64(n), np.int32(K), np.int32(d)))
    return raw


def _blocks(n: int) -> int:
    return min(-(-max(n, 1) // THREADS), MOST_BLOCKS)


def _kernel(name: str, loss, dtype, stored, column="int32"):
    text = structs({"Loss": loss}, dtype) + sparse_types(stored, column)
    return kernel_of(source_of({}, text, "losses.cu"), name)
