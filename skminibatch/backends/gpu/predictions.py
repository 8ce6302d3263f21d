"""What is computed of rows that are on the GPU, raw outputs above all, and brought to the host."""

from __future__ import annotations

import numpy as np

from skminibatch.backends.arrays import is_sparse, on_host
from skminibatch.backends.gpu.device import cupy
from skminibatch.backends.gpu.losses import raw_of_sparse_rows
from skminibatch.backends.gpu.placement import working


def map_on_device(function, X, *arrays):
    """``function(X, *arrays)``, of arrays that are moved to the GPU; an array or a tuple of them, on the host."""
    with working():
        result = function(X, *map(cupy().asarray, arrays))
        return tuple(map(on_host, result)) if isinstance(result, tuple) else on_host(result)


def raw_outputs(X, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """``X coef' + intercept`` (n, K) of a linear model."""

    def raw(X, coef, intercept):
        if is_sparse(X):
            dtype = np.result_type(X.dtype, coef.dtype)
            return raw_of_sparse_rows(X, np.empty(0), coef, intercept).astype(dtype)
        return X @ coef.T + intercept

    return map_on_device(raw, X, coef, intercept)


def network_outputs(stack, theta: np.ndarray, X) -> np.ndarray:
    """Raw outputs (n, K) of a network, a few rows at a time."""
    return map_on_device(lambda X, theta: stack.raw(theta, X), X, theta)
