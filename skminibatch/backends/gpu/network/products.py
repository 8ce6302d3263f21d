"""Products of matrices by cuBLAS."""

from __future__ import annotations

import ctypes
import os
import threading

import numpy as np

from skminibatch.backends.gpu import device

WORK_SPACE = 32 << 20  # bytes, what cuBLAS takes by itself on compute capability 9.0
_ADDRESS, _COUNT = ctypes.c_void_p, ctypes.c_int
_PRODUCT = [_ADDRESS, *[_COUNT] * 5, _ADDRESS, _ADDRESS, _COUNT, _ADDRESS, _COUNT, _ADDRESS, _ADDRESS, _COUNT]
_of_thread = threading.local()  # handles, since one that is new takes longer than many steps


class Products:
    """``out = a b`` on one stream, for matrices by rows whose rows may be apart.

    The library is called by itself, since CuPy refuses to do so while a graph is captured. It has a handle and a work space
    of its own for each stream (`which`, of a thread) here, so that the same product is done in the same way each time. Where
    the library is not found, CuPy multiplies, and nothing can be captured.
    """

    def __init__(self, dtype, stream, which: int = 0):
        self.number = {"float32": ctypes.c_float, "float64": ctypes.c_double}[np.dtype(dtype).name]
        self.one, self.zero, self.stream = self.number(1.0), self.number(0.0), stream
        self.library = _library()
        self.may_be_captured = self.library is not None
        if self.may_be_captured:
            self.handle, self.space = _handle(self.library, which), device.cupy().empty(WORK_SPACE, np.uint8)
            self.multiply = self.library["cublasSgemm_v2" if self.number is ctypes.c_float else "cublasDgemm_v2"]
            self.multiply.argtypes = _PRODUCT

    def begin(self) -> None:
        """Take the library, which others of this thread may have used on their streams."""
        if self.may_be_captured:
            place, size = _ADDRESS(self.space.data.ptr), ctypes.c_size_t(WORK_SPACE)
            _check(self.library.cublasSetStream_v2(self.handle, _ADDRESS(self.stream.ptr)))  # without the work space
            _check(self.library.cublasSetWorkspace_v2(self.handle, place, size))

    def __call__(self, a, b, out, transposed: str = "") -> None:
        """The product, of "a" or "b" transposed where said so."""
        if not self.may_be_captured:
            with self.stream:
                device.cupy().matmul(a.T if transposed == "a" else a, b.T if transposed == "b" else b, out=out)
            return
        # cuBLAS counts by columns: to it, each matrix is its transpose, and the product is that of b and a
        inner = a.shape[0] if transposed == "a" else a.shape[1]
        _check(
            self.multiply(
                self.handle, transposed == "b", transposed == "a", out.shape[1], out.shape[0], inner,
                ctypes.addressof(self.one), b.data.ptr, _apart(b), a.data.ptr, _apart(a),
                ctypes.addressof(self.zero), out.data.ptr, _apart(out),
            )
        )  # fmt: skip


def _library() -> ctypes.CDLL | None:
    """cuBLAS, which CuPy has loaded."""
    cuda = device.cupy().cuda
    try:
        version = cuda.cublas.getVersion(cuda.device.get_cublas_handle()) // 10_000
        return ctypes.CDLL(f"cublas64_{version}.dll" if os.name == "nt" else f"libcublas.so.{version}")
    except (AttributeError, OSError):
        return None


def _handle(library, which: int) -> ctypes.c_void_p:
    """A handle of this thread for the current device."""
    key = device.cupy().cuda.runtime.getDevice(), which
    handles = _of_thread.__dict__.setdefault("handles", {})
    if key not in handles:
        handle = ctypes.c_void_p()
        _check(library.cublasCreate_v2(ctypes.byref(handle)))
        handles[key] = handle
    return handles[key]


def _apart(matrix) -> int:
    """How many numbers the rows of a matrix are apart."""
    return max(matrix.strides[0] // matrix.itemsize, matrix.shape[1])


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLAS answers with status {status}.")
