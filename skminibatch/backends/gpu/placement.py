"""The rows of a fit on the GPU: moved there once, read there by the kernels, and gone when the fit is over.

Who looks at a few rows, such as those from which the smoothness is estimated, reads them by an index and gets them on the
host. Rows that do not fit stay on the host, and the verbs stream those that each step needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache

import numpy as np

from skminibatch.backends.arrays import RowsOfFit, is_sparse, on_gpu, on_host
from skminibatch.backends.gpu.device import cupy

SHARE = 0.8  # of the free memory, for rows: y, the parameters and what a step needs take more
CHUNK_BYTES = 1 << 24  # that are copied at once, via memory that the device reads by itself


class Rows(RowsOfFit):
    """Dense rows of a fit.

    Attributes
    ----------
    host : ndarray, CSR matrix or None
        The rows on the host; None where they came on the GPU.
    array : cupy.ndarray, CSR matrix of CuPy or None
        The rows on the GPU; None where they do not fit.
    at_end : dict
        What to call when these rows are not needed any more, by what it is for.
    """

    def __init__(self, X):
        came = on_gpu(X)
        self.host, self.shape, self.dtype = None if came else X, X.shape, X.dtype
        self.array = X if came else self.on_gpu(X) if n_bytes(X) <= SHARE * free_bytes() else None
        self.at_end: dict[object, Callable] = {}
        self._copies: dict[int, tuple] = {}
        self._changing: list[np.ndarray] = []

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """Some rows, on the host."""
        if self.host is not None:
            return self.host[rows]
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            # CuPy has no sparse matrices without rows
            return on_host(self.array[rows]) if start < stop else on_host(self.array[:1])[:0]
        return on_host(self.take_on_device(rows))

    def take_on_device(self, rows):
        """Some rows, one at least, on the GPU; those that do not fit there, on the host."""
        if self.array is None:
            return self.host[rows]
        with working():
            return self.array[rows if isinstance(rows, slice) else cupy().asarray(rows)]

    @property
    def fits(self) -> bool:
        """Whether the GPU can hold them."""
        return self.array is not None

    def written(self, function: Callable, dtype: np.dtype, *arrays: np.ndarray) -> Rows:
        """The rows ``function(X, *arrays)`` in the place of those written before, with the copies that these have."""
        with working():
            self.at_end.pop("written", None)
            moved, array = [cupy().asarray(one) for one in arrays], cupy().empty(self.shape, dtype)
            size = max(1, CHUNK_BYTES // (self.shape[1] * self.dtype.itemsize))
            for start in range(0, len(self), size):
                array[start : start + size] = function(self.array[start : start + size], *moved)
            rows = Rows(array)
        rows.at_end, rows._copies, rows._changing = self.at_end, self._copies, self._changing
        self.at_end["written"] = rows._drop
        return rows

    def _drop(self) -> None:
        self.array = None

    def to_device(self, array):
        """A copy on the GPU of an array that stays as it is for as long as these rows are in use; made once."""
        if id(array) not in self._copies:
            self._copies[id(array)] = array, cupy().asarray(array)  # what has an id has to stay
        return self._copies[id(array)][1]

    def to_device_and_back(self, array):
        """A copy on the GPU of an array that verbs change on the GPU; the array itself changes when these rows are freed.

        There is one such array at a time: of the one before, no more is needed.
        """
        copy = self.to_device(array)
        if not any(one is array for one in self._changing):
            for before in self._changing:
                self.forget(before)
            self._changing[:] = [array]
        self.at_end[id(array)] = lambda: np.copyto(array, copy.get())
        return copy

    def forget(self, array) -> None:
        """Make a new copy of an array when it is asked for: this one is about to be written on the host."""
        self._copies.pop(id(array), None)
        self.at_end.pop(id(array), None)

    def free(self) -> None:
        """Forget everything on the GPU."""
        for call in self.at_end.values():
            call()
        self.at_end.clear()
        self._copies.clear()
        self._changing.clear()
        self._drop()

    @staticmethod
    def on_gpu(X):
        """A copy of rows on the GPU; None where it cannot hold them."""
        return to_gpu(X)


class SparseRows(Rows):
    """CSR rows of a fit."""

    format = "csr"

    @property
    def nnz(self) -> int:
        """Stored values."""
        return int((self.array if self.host is None else self.host).nnz)

    @staticmethod
    def on_gpu(X):
        """A copy of rows on the GPU; None where it cannot hold them."""
        if X.nnz > np.iinfo(np.int32).max:  # indices of CuPy have 32 bits
            return None
        arrays = to_gpu(X.data), to_gpu(X.indices.astype(np.int32)), to_gpu(X.indptr.astype(np.int32))
        return importlib.import_module("cupyx.scipy.sparse").csr_matrix(arrays, shape=X.shape)


@contextmanager
def rows_on_device(X):
    """Rows on the GPU for the time of a context; afterwards, their memory goes back to the driver."""
    with working():
        rows = (SparseRows if is_sparse(X) else Rows)(X)
    try:
        yield rows
    finally:
        rows.free()
        release()


def n_bytes(X) -> int:
    """Bytes of dense or sparse rows."""
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes if is_sparse(X) else X.nbytes


def free_bytes() -> int:
    """Memory of the device that is not in use."""
    free, _ = cupy().cuda.runtime.memGetInfo()
    return free + (pool().free_bytes() if pool() is not None else 0)


def to_gpu(array: np.ndarray):
    """A copy of an array on the GPU.

    A single copy would pin as much memory as the array takes, which costs more than the copy.
    """
    cp = cupy()
    array, copy = np.ascontiguousarray(array), cp.empty(array.shape, array.dtype)
    if array.nbytes <= CHUNK_BYTES:
        copy.set(array)
        return copy
    cp.cuda.get_current_stream().synchronize()  # what had this memory before may still be at work
    fill(copy, lambda start, stop, out: np.copyto(out, array[start:stop]))
    return copy


def fill(target, read) -> None:
    """Fill an array on the GPU chunk by chunk via two pinned buffers, one of which is read while the other is copied.

    ``read(start, stop, out)`` writes some of the rows into an array on the host.
    """
    cuda, width = cupy().cuda, max(1, target[:1].size)
    size = max(1, CHUNK_BYTES // (width * target.dtype.itemsize))
    stream, buffers = cuda.Stream(non_blocking=True), []
    for _ in range(min(2, -(-len(target) // size))):
        buffers.append((pinned((size, *target.shape[1:]), target.dtype), cuda.Event()))
    for number, start in enumerate(range(0, len(target), size)):
        buffer, copied = buffers[number % 2]
        copied.synchronize()
        stop = min(start + size, len(target))
        read(start, stop, buffer[: stop - start])
        target[start:stop].set(buffer[: stop - start], stream=stream)
        copied.record(stream)
    stream.synchronize()


def pinned(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array on the host from which the device copies by itself."""
    size = int(np.prod(shape))
    memory = cupy().cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, size).reshape(shape)


@cache
def pool():
    """Memory of this backend alone, so that what a fit took can go back without touching that of others.

    None where the user has an allocator of his own (of RMM, or managed memory), which serves this backend too.
    """
    cp = cupy()
    default = cp.get_default_memory_pool()
    return cp.cuda.MemoryPool() if cp.cuda.get_allocator() == default.malloc else None


@contextmanager
def working():
    """A context for work on the GPU: its memory is that of this backend, and where there is too little, an error says so."""
    cp, own = cupy(), pool()
    try:
        with cp.cuda.using_allocator(cp.cuda.get_allocator() if own is None else own.malloc):
            yield
    except cp.cuda.memory.OutOfMemoryError as error:
        raise MemoryError(
            f"The GPU has too little memory for a step ({error}): use smaller batches, float32, or device='cpu'."
        ) from None


def release() -> None:
    """Give back to the driver what is not in use any more."""
    if pool() is not None:
        pool().free_all_blocks()
