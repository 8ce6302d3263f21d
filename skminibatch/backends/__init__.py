"""Backends: where a plan is carried out.

``base`` is plain array code, the specification of the verbs; ``cpu`` is numba; ``gpu`` is CuPy. A device is a name, 'cpu',
'base' or 'cuda', and 'auto' goes by the rows: what was moved to a GPU stays there, everything else is for the CPU, unless
measurements say otherwise (see `crossover`).
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from numbers import Real
from types import ModuleType

import numpy as np

from skminibatch.backends.crossover import stored


def device_of(device: str, X=None, batch_size=None) -> str:
    """The device that runs what was asked for, given rows and the parameter `batch_size`: 'cpu', 'base' or 'cuda'.

    Raises
    ------
    RuntimeError
        For a GPU where there is none, in one sentence that says why.
    """
    if device == "auto":  # what `placed` has made of rows says where it is
        there = on_gpu(X) or getattr(X, "device", None) == "cuda"
        device = "cuda" if there or _is_sooner_there(X, batch_size) else "cpu"
    if device == "cuda":
        from skminibatch.backends.gpu.device import problem

        if (reason := problem()) is not None:
            raise RuntimeError(f"device='cuda' is not available. {reason}")
    return device


def _is_sooner_there(X, batch_size) -> bool:
    """Whether dense rows of the host are trained sooner on a GPU, and there is one; batch sizes are numbers or shares."""
    if (table := stored()) is None or not isinstance(batch_size, Real) or is_sparse(X):
        return False
    n, d = X.shape
    if not table.pays(d, min(batch_size if batch_size >= 1 else batch_size * n, n)):
        return False
    from skminibatch.backends.gpu.device import problem

    return problem() is None


def choose(device: str, X=None) -> ModuleType:
    """The backend of a device, see `device_of`."""
    device = device_of(device, X)
    if device == "cuda":
        from skminibatch.backends import gpu

        return gpu
    if device == "base":
        from skminibatch.backends import base

        return base
    from skminibatch.backends import cpu

    return cpu


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


def there(X, rows):
    """Some rows where they are: those that a fit has placed on a GPU stay there, unlike ``X[rows]``."""
    return X.there(rows) if hasattr(X, "there") else X[rows]


def computed(function, X, *arrays):
    """``function(X, *arrays)`` where the rows `X` are, by operations that CuPy knows too; what it gives is on the host."""
    if not on_gpu(X):
        return function(X, *arrays)
    from skminibatch.backends.gpu.predictions import computed

    return computed(function, X, *arrays)


def beside(X, array):
    """An array where `X` is: of CuPy for rows on a GPU. What CuPy has no type for, such as text, stays."""
    if not on_gpu(X) or np.asarray(array).dtype.kind not in "biuf":
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


def placed(device: str, X) -> AbstractContextManager:
    """A context with rows for a device, which `device_of` has named: on a GPU for so long, without a copy if they are there."""
    if device != "cuda":
        return nullcontext(on_host(X))
    from skminibatch.backends.gpu.placement import placed as on_device

    return on_device(X)
