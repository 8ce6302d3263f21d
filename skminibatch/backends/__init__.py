"""Backends: where a plan is carried out.

``base`` is plain array code, the specification of the verbs; ``cpu`` is numba; ``gpu`` is CuPy. A device is a name, 'cpu',
'base' or 'cuda', and 'auto' depends on the rows: those on a GPU are trained there, all others on the CPU, unless measurements
show that the GPU is faster (see `crossover`). `device_of` decides that once, at the beginning of a training; whatever follows
is given its answer.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from numbers import Real
from types import ModuleType
from typing import Any

from skminibatch.backends.arrays import RowsOfFit, is_sparse, on_gpu, on_host
from skminibatch.backends.crossover import stored


def device_of(device: str, X=None, batch_size=None) -> str:
    """The device for the parameters `device` and `batch_size`, given the rows: 'cpu', 'base' or 'cuda'.

    Raises
    ------
    RuntimeError
        For a GPU where there is none, in one sentence that says why.
    """
    if device == "auto":
        is_on_gpu = on_gpu(X) or isinstance(X, RowsOfFit)
        device = "cuda" if is_on_gpu or _is_faster_on_gpu(X, batch_size) else "cpu"
    if device == "cuda":
        _require_gpu()
    return device


def _is_faster_on_gpu(X, batch_size: Any) -> bool:
    """Whether dense rows of the host are trained faster on a GPU, and there is one; batch sizes are numbers or shares."""
    if (table := stored()) is None or not isinstance(batch_size, Real) or is_sparse(X):
        return False
    (n, d), size = X.shape, float(batch_size)
    if not table.pays(d, min(size if size >= 1 else size * n, n)):
        return False
    from skminibatch.backends.gpu.device import problem

    return problem() is None


def _require_gpu() -> None:
    from skminibatch.backends.gpu.device import problem

    if (reason := problem()) is not None:
        raise RuntimeError(f"device='cuda' is not available. {reason}")


def choose(device: str) -> ModuleType:
    """The backend of a device as `device_of` returns it."""
    if device == "cuda":
        _require_gpu()
        from skminibatch.backends import gpu

        return gpu
    if device == "base":
        from skminibatch.backends import base

        return base
    from skminibatch.backends import cpu

    return cpu


def rows_on_device(device: str, X) -> AbstractContextManager:
    """A context with the rows for a device as `device_of` returns it; those on a GPU already are not copied."""
    if device != "cuda":
        return nullcontext(on_host(X))
    from skminibatch.backends.gpu.placement import rows_on_device as on_gpu_rows

    return on_gpu_rows(X)


def map_on_device(function, X, *arrays):
    """``function(X, *arrays)`` where the rows `X` are, by operations that CuPy has too; the result is on the host."""
    if not on_gpu(X):
        return function(X, *arrays)
    from skminibatch.backends.gpu.predictions import map_on_device as map_on_gpu

    return map_on_gpu(function, X, *arrays)
