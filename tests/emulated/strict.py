"""A CuPy that is as strict as CuPy: its arrays are none of NumPy's, and nothing becomes one of NumPy's by itself.

For the tests of the way from the user to the kernels; the kernels themselves run by the stand-in of this folder.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import numpy as np
from scipy import sparse, special

from tests.emulated import cupy as emulated

REFUSED = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
METHODS = set(
    "sum max min any all mean astype copy reshape ravel argmax fill transpose nonzero cumsum view item".split()
)
VALUES = {"shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"}
MAKERS = {"asarray", "array", "ascontiguousarray"}  # which take arrays of NumPy
# of the memory that is played; bytes that came from the host, and that went there
used = SimpleNamespace(bytes=0, most=0, copied=0, brought=0)


class OutOfMemoryError(MemoryError):
    """There is not enough memory on the device that is played."""


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801
    """An array of the device that is played."""

    __hash__ = None

    def __init__(self, host: np.ndarray):
        self.host = host

    def __array__(self, *args, **kwargs):
        raise TypeError(REFUSED)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if getattr(np, ufunc.__name__, None) is not ufunc:  # CuPy knows no functions of SciPy
            return NotImplemented
        return wrapped(getattr(ufunc, method)(*map(bare, inputs), **{name: bare(one) for name, one in kwargs.items()}))

    def __array_function__(self, function, types, args, kwargs):
        if (
            "device" in kwargs
        ):  # which `numpy.ones` and `numpy.full` hand on to what is like an array, and CuPy does not know
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument 'device'")
        if function is np.where and not isinstance(args[0], ndarray):
            raise AttributeError(f"{type(args[0]).__name__!r} object has no attribute 'astype'")
        if function.__name__ in MAKERS:
            return getattr(sys.modules[__name__], function.__name__)(*args, **kwargs)
        return wrapped(function(*map(bare, args), **{name: bare(one) for name, one in kwargs.items()}))

    def __getattr__(self, name):
        if name in VALUES:
            return getattr(self.host, name)
        if name in METHODS:
            method = getattr(self.host, name)
            return lambda *args, **kwargs: wrapped(
                method(*map(bare, args), **{name: bare(one) for name, one in kwargs.items()})
            )
        raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")

    T = property(lambda self: ndarray(self.host.T))
    real = property(lambda self: ndarray(self.host.real))
    device = property(lambda self: emulated.cuda.Device())
    data = property(lambda self: SimpleNamespace(ptr=self.host.ctypes.data))

    def __getitem__(self, index):
        return wrapped(self.host[indexed(index)])

    def __setitem__(self, index, value):
        self.host[indexed(index)] = bare(value)

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return (wrapped(one) for one in self.host)

    def __bool__(self):
        return bool(self.host)

    def __float__(self):
        return float(self.host)

    def __int__(self):
        return int(self.host)

    __index__ = __int__

    def get(self, stream=None, order="C", out=None, blocking=True):
        used.brought += self.host.nbytes
        return self.host.copy()

    def set(self, array, stream=None):
        assert type(array) is np.ndarray
        assert (array.dtype, array.shape) == (self.dtype, self.shape)
        assert self.host.flags.c_contiguous
        used.copied += array.nbytes
        self.host[...] = array

    def __del__(self):
        used.bytes -= self.__dict__.get("taken", 0)


def bare(one):
    """What an array holds; an array of NumPy in its place is an error."""
    if isinstance(one, ndarray):
        return one.host
    if isinstance(one, (list, tuple)):
        return type(one)(map(bare, one))
    if isinstance(one, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return one


def indexed(index):
    """An index, of which CuPy takes arrays of NumPy too."""
    if isinstance(index, tuple):
        return tuple(map(indexed, index))
    return index.host if isinstance(index, ndarray) else index


def wrapped(found):
    """As arrays of the device: numbers too, as CuPy has it."""
    if isinstance(found, (list, tuple)):
        return type(found)(map(wrapped, found))
    return ndarray(np.asarray(found)) if isinstance(found, (np.ndarray, np.generic)) else found


def taken(host: np.ndarray) -> ndarray:
    """A new array, if there is memory for it."""
    if used.bytes + host.nbytes > device_bytes():
        raise OutOfMemoryError(f"Out of memory allocating {host.nbytes:,} bytes")
    array = ndarray(host)
    array.taken = host.nbytes
    used.bytes += host.nbytes
    used.most = max(used.most, used.bytes)
    return array


def device_bytes() -> int:
    """Memory of the device that is played."""
    return settings.bytes


settings = SimpleNamespace(bytes=1 << 33)


def array(a, dtype=None, copy=True, order="K", *, blocking=False):
    if isinstance(a, (list, tuple)):
        a = bare(a)
    if isinstance(a, ndarray):
        return taken(np.array(a.host, dtype, order=order))
    used.copied += np.asarray(a).nbytes
    return taken(np.array(a, dtype, order=order))


def asarray(a, dtype=None, order=None, *, blocking=False):
    if isinstance(a, ndarray) and (dtype is None or a.dtype == dtype) and (order is None or a.host.flags.c_contiguous):
        return a
    return array(a, dtype, order=order or "K")


def ascontiguousarray(a, dtype=None):
    return asarray(a if isinstance(a, ndarray) and a.host.flags.c_contiguous else array(a, order="C"), dtype)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def empty(shape, dtype=float, order="C"):
    host = np.empty(shape, dtype, order)
    host.reshape(-1).view(np.uint8)[:] = 0xFF  # what stands in new memory is not known
    return taken(host)


def zeros(shape, dtype=float, order="C"):
    return taken(np.zeros(shape, dtype, order))


def __getattr__(name):
    """What CuPy has of NumPy by the same name."""
    function = getattr(np, name)
    if not callable(function) or isinstance(function, type):
        return function
    return lambda *args, **kwargs: wrapped(
        function(*map(bare, args), **{name: bare(one) for name, one in kwargs.items()})
    )


class RawModule(emulated.RawModule):
    """Kernels from source, for the arrays of this module."""

    def get_function(self, name):
        return RawKernel(self.library, name)


class RawKernel(emulated.RawKernel):
    def __call__(self, grid, block, args, **kwargs):
        args = [one.host.view(emulated.ndarray) if isinstance(one, ndarray) else one for one in args]
        super().__call__(grid, block, args, **kwargs)


class MemoryPool:
    """Counts how often it was emptied, and knows what was in use then."""

    def __init__(self):
        self.emptied, self.left = 0, None

    def malloc(self, size):
        raise NotImplementedError

    def free_bytes(self):
        return 0

    def free_all_blocks(self):
        self.emptied += 1
        self.left = used.bytes


_pool, _allocator = MemoryPool(), threading.local()


def get_default_memory_pool():
    return _pool


@contextlib.contextmanager
def using_allocator(allocator=None):
    before = get_allocator()
    _allocator.now = allocator
    try:
        yield
    finally:
        _allocator.now = before


def get_allocator():
    return getattr(_allocator, "now", _pool.malloc)


class Event:
    seconds = 0.0

    def record(self, stream=None):
        self.seconds = time.perf_counter()

    def synchronize(self):
        pass


cuda = SimpleNamespace(**vars(emulated.cuda))
cuda.runtime = SimpleNamespace(
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
    memGetInfo=lambda: (device_bytes() - used.bytes, device_bytes()),
    getDeviceProperties=lambda number: {"name": b"stand-in"},
    driverGetVersion=lambda: 0,
    runtimeGetVersion=lambda: 0,
)
cuda.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
cuda.MemoryPool, cuda.Event, cuda.using_allocator, cuda.get_allocator = (
    MemoryPool,
    Event,
    using_allocator,
    get_allocator,
)
cuda.alloc_pinned_memory = bytearray
cuda.get_elapsed_time = lambda first, last: 1e3 * (last.seconds - first.seconds)


class _Sparse:
    """Sparse rows or columns of CuPy, by a matrix of SciPy on the same memory."""

    __array_ufunc__ = None

    def __init__(self, arrays, shape=None, dtype=None, copy=False):
        if sparse.issparse(arrays):
            made = arrays
        else:
            made = self.kind(tuple(one.host for one in arrays), shape=shape)
        self.made, self.shape, self.dtype, self.nnz, self.format = made, made.shape, made.dtype, made.nnz, made.format
        self.data, self.indices, self.indptr = (ndarray(one) for one in (made.data, made.indices, made.indptr))
        assert self.indices.dtype == self.indptr.dtype

    ndim = 2
    kind = sparse.csr_matrix
    has_canonical_format = property(lambda self: self.made.has_canonical_format)
    T = property(lambda self: type(self)(self.made.T))

    def __getitem__(self, index):
        return type(self)(self.made[indexed(index)])

    def __matmul__(self, other):
        return wrapped(self.made @ bare(other))

    def __array__(self, *args, **kwargs):
        raise TypeError(REFUSED)

    def get(self, stream=None):
        return self.made.copy()

    def copy(self):
        return type(self)(self.made.copy())

    def astype(self, dtype):
        return type(self)(self.made.astype(dtype))

    def tocsr(self, copy=False):
        return self if self.format == "csr" else type(self)(self.made.tocsr())

    def tocsc(self, copy=False):
        return type(self)(self.made.tocsc())

    def toarray(self, order=None, out=None):
        return wrapped(self.made.toarray())

    def multiply(self, other):
        return type(self)(self.made.multiply(other.made).tocsr())

    def sum_duplicates(self):
        self.made.sum_duplicates()
        self.__init__(self.made)


class spmatrix(_Sparse):  # noqa: N801
    """What CuPy calls matrices."""


class csr_matrix(spmatrix):  # noqa: N801
    """What rows are stored in."""


class sparray(_Sparse):  # noqa: N801
    """What CuPy calls arrays, which are no matrices."""


class csr_array(sparray):  # noqa: N801
    """Rows that are stored as such."""

    kind = sparse.csr_array


def modules() -> dict[str, ModuleType]:
    """What stands in for CuPy, by the names under which it is imported."""
    made = {name: ModuleType(name) for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.sparse", "cupyx.scipy.special")}
    for kind in (spmatrix, csr_matrix, sparray, csr_array):
        setattr(made["cupyx.scipy.sparse"], kind.__name__, kind)
    made["cupyx.scipy.special"].ndtr = lambda x: wrapped(special.ndtr(bare(x)))
    return {"cupy": importlib.import_module(__name__), **made}
