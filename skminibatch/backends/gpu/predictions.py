"""Raw outputs of rows that are on the GPU, brought to the host."""

from __future__ import annotations

import numpy as np

from skminibatch.backends import is_sparse, on_host
from skminibatch.backends.gpu.device import cupy
from skminibatch.backends.gpu.losses import raw_of_sparse_rows
from skminibatch.backends.gpu.placement import working


def raw_outputs(X, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """``X coef' + intercept`` (n, K) of a linear model."""
    with working():
        there = [cupy().asarray(array) for array in (coef, intercept)]
        if is_sparse(X):
            raw = raw_of_sparse_rows(X, np.empty(0), *there).astype(np.result_type(X.dtype, coef.dtype))
        else:
            raw = X @ there[0].T + there[1]
        return on_host(raw)


def network_outputs(stack, theta: np.ndarray, X) -> np.ndarray:
    """Raw outputs (n, K) of a network, a few rows at a time."""
    with working():
        return on_host(stack.raw(cupy().asarray(theta), X))
