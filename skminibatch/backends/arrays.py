"""Where an array is, and functions that work wherever it is."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from skminibatch.contract.arrays import is_sparse

__all__ = [
    "check_device", "is_sparse", "on_gpu", "on_host", "take_on_device", "to_device_of",
]  # fmt: skip


class RowsOfFit(ABC):
    """Rows that are on a GPU for as long as a fit lasts, see `gpu.placement`; ``X[rows]`` are on the host."""

    shape: tuple[int, int]
    dtype: np.dtype

    @property
    @abstractmethod
    def fits(self) -> bool:
        """Whether the GPU can hold them."""

    @abstractmethod
    def __getitem__(self, rows) -> Any:
        """Some rows, on the host."""

    @abstractmethod
    def take_on_device(self, rows) -> Any:
        """Some rows, on the GPU."""

    @abstractmethod
    def written(self, function: Callable, dtype: np.dtype, *arrays: np.ndarray) -> RowsOfFit:
        """The dense rows ``function(X, *arrays)`` of as many features, computed on the GPU and left there."""


def on_gpu(array) -> bool:
    """Whether an array or a sparse matrix is CuPy's; CuPy is not imported for it."""
    dense, sparse = sys.modules.get("cupy"), sys.modules.get("cupyx.scipy.sparse")
    kinds = (dense, "ndarray"), (sparse, "spmatrix"), (sparse, "sparray")
    return isinstance(array, tuple(getattr(module, kind) for module, kind in kinds if hasattr(module, kind)))


def on_host(array):
    """An array of any device as NumPy's or, if it is sparse, SciPy's; everything else as it is."""
    return array.get() if on_gpu(array) else array


def stays_on_gpu(X) -> bool:
    """Whether these rows are on a GPU for a fit, from where ``X[rows]`` copies and `take_on_device` does not."""
    return isinstance(X, RowsOfFit)


def take_on_device(X, rows):
    """Some rows where they are: those of a fit stay on its GPU, unlike ``X[rows]``."""
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

    own, current = (array.data if is_sparse(array) else array).device.id, cupy().cuda.runtime.getDevice()
    if own != current:
        raise ValueError(
            f"X is on GPU {own}, but the current one is GPU {current}: use `with cupy.cuda.Device({own})`."
        )
