"""Where an array is, and functions that work wherever it is."""

from __future__ import annotations

import sys

import numpy as np


def on_gpu(array) -> bool:
    """Whether an array or a sparse matrix is CuPy's; CuPy is not imported for it."""
    dense, sparse = sys.modules.get("cupy"), sys.modules.get("cupyx.scipy.sparse")
    kinds = (dense, "ndarray"), (sparse, "spmatrix"), (sparse, "sparray")
    return isinstance(array, tuple(getattr(module, kind) for module, kind in kinds if hasattr(module, kind)))


def is_sparse(X) -> bool:
    """Whether rows are CSR, wherever they are."""
    return getattr(X, "format", None) == "csr"


def on_host(array):
    """An array of any device as NumPy's or, if it is sparse, SciPy's; everything else as it is."""
    return array.get() if on_gpu(array) else array


def stays_on_gpu(X) -> bool:
    """Whether a fit has placed these rows on a GPU, from where ``X[rows]`` fetches and `take_on_device` does not."""
    return hasattr(X, "take_on_device")


def take_on_device(X, rows):
    """Some rows where they are: those that a fit has placed on a GPU stay there, unlike ``X[rows]``."""
    return X.take_on_device(rows) if stays_on_gpu(X) else X[rows]


def to_device_of(array, *, like):
    """An array where `like` is: of CuPy for rows on a GPU. What CuPy has no type for, such as text, stays."""
    if not on_gpu(like) or np.asarray(array).dtype.kind not in "biuf":
        return array
    from skminibatch.backends.gpu.device import cupy

    return cupy().asarray(array)


def check_device(array) -> None:
    """Raise a ValueError for an array on another GPU than the current one, which no kernel could read."""
    from skminibatch.backends.gpu.device import cupy

    there, here = (array.data if is_sparse(array) else array).device.id, cupy().cuda.runtime.getDevice()
    if there != here:
        raise ValueError(
            f"X is on GPU {there}, but the current one is GPU {here}: use `with cupy.cuda.Device({there})`."
        )
