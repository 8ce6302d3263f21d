"""The functions of cuBLAS that the backend calls, on the CPU: matrices are addresses, and counted by columns."""

from __future__ import annotations

import ctypes

import numpy as np

from tests.emulated import cupy

_NUMBERS = {"S": ctypes.c_float, "D": ctypes.c_double}


class _Product:
    """``C = alpha op(A) op(B) + beta C``; a graph that is captured does it later."""

    argtypes = None

    def __init__(self, letter: str, streams: dict):
        self.number, self.streams = _NUMBERS[letter], streams

    def __call__(self, handle, a_turned, b_turned, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc) -> int:
        assert self.argtypes is not None
        alpha, beta = (self.number.from_address(address).value for address in (alpha, beta))

        def product():
            a, b = (
                self.matrix(A, lda, *((k, m) if a_turned else (m, k))),
                self.matrix(B, ldb, *((n, k) if b_turned else (k, n))),
            )
            out = self.matrix(C, ldc, m, n)
            found = alpha * ((a.T if a_turned else a) @ (b.T if b_turned else b))
            out[...] = found + beta * out if beta else found

        cupy.work(product, self.streams[handle.value])
        return 0

    def matrix(self, address: int, apart: int, n_rows: int, n_columns: int) -> np.ndarray:
        assert apart >= n_rows
        size = apart * (n_columns - 1) + n_rows
        numbers = np.ctypeslib.as_array((self.number * size).from_address(address))
        strides = numbers.itemsize, apart * numbers.itemsize
        return np.lib.stride_tricks.as_strided(numbers, (n_rows, n_columns), strides)


class Library:
    """What `ctypes.CDLL` gives for the library."""

    handles = 0

    def __getitem__(self, name):
        return getattr(self, name)

    def __init__(self):
        self.streams: dict[int, object] = {}
        self.cublasSgemm_v2, self.cublasDgemm_v2 = (_Product(letter, self.streams) for letter in "SD")

    def cublasCreate_v2(self, handle) -> int:  # noqa: N802
        handle._obj.value = Library.handles = Library.handles + 1
        return 0

    def cublasSetStream_v2(self, handle, stream) -> int:  # noqa: N802
        self.streams[handle.value] = cupy.settings.by_ptr[stream.value]
        return 0

    def cublasSetWorkspace_v2(self, handle, address, size) -> int:  # noqa: N802
        return 0
