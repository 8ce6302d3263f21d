"""A stand-in for CuPy on machines without a GPU: arrays are NumPy's, kernels run as C++ on the CPU.

Only what the backend uses, with CuPy's names, arguments and strictness: a NumPy array where CuPy wants one of its own is an
error, and memory that was not written holds NaN.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.hpp")
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
NO_COMPILER = "no C++ compiler to run kernels on the CPU"
# kernels of tests run shortly: what is not optimised, and not linked to a library of C++, is compiled in a third of the time
FLAGS = "-std=c++17 -fPIC -shared -fvisibility=hidden -ffp-contract=off -fno-exceptions -nodefaultlibs -w".split()
LIBRARIES = ["-lm", "-lc"]
MULTIPROCESSORS = 4  # of the device that is played
GUARD = 64  # bytes before and behind an array
SHARED_BYTES = 232_448  # most dynamic shared memory of a block, as on compute capability 9.0
KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(')

__version__ = "13.6.0"
# the order in which threads take their turns; launches so far; what a capture has written down; graphs launched; whether
# streams of a graph are late; the streams that are current, and all of them
settings = SimpleNamespace(order=0, launches=0, captured=None, graphs=0, late=False, streams=[], by_ptr={})


class ndarray(np.ndarray):  # noqa: N801
    """An array of the device that is played."""

    def get(self, *args, **kwargs) -> np.ndarray:
        if settings.captured is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        return np.array(self, subok=False)

    def set(self, array, stream=None) -> None:
        if settings.captured is not None:
            raise RuntimeError("the current stream is capturing, so H2D transfers are disallowed")
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError("an array of another shape or type")
        self[...] = np.asarray(array).view(ndarray)

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self):
        return cuda.Device()

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        for one in (*inputs, *kwargs.get("out", ())):
            if isinstance(one, np.ndarray) and not isinstance(one, ndarray) and one.ndim:
                raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        inputs = [one.view(np.ndarray) if isinstance(one, ndarray) else one for one in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(one.view(np.ndarray) for one in kwargs["out"])
        found = getattr(ufunc, method)(*inputs, **kwargs)
        return tuple(map(_placed, found)) if isinstance(found, tuple) else _placed(found)


def _placed(found):
    """A copy in memory of the device that is played, between guards that show writes beside it."""
    found = np.asarray(found)
    place = empty(found.shape, found.dtype, "F" if found.flags.f_contiguous and not found.flags.c_contiguous else "C")
    place.view(np.ndarray)[...] = found
    return place


def asarray(a, dtype=None, order=None, *, blocking=False):
    laid_out = order is None or np.asarray(a).flags["F_CONTIGUOUS" if order == "F" else "C_CONTIGUOUS"]
    if isinstance(a, ndarray) and (dtype is None or a.dtype == dtype) and laid_out:
        return a
    return _placed(np.array(a, dtype, order=order or "K"))


def array(a, dtype=None, copy=True, order="K", *, blocking=False):
    return _placed(np.array(a, dtype, order=order))


def ascontiguousarray(a, dtype=None):
    return a if isinstance(a, ndarray) and a.flags.c_contiguous else _placed(np.array(a, dtype, order="C"))


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return np.array(a, order=order, subok=False)


def empty(shape, dtype=float, order="C"):
    """What stands in new memory is not known; here all bits are set.

    CuPy gives memory to a graph that is captured, and to others when it is free again; the graph writes it all the same.
    """
    if settings.captured is not None:
        raise RuntimeError("memory of a graph that is captured is not its own")
    shape, dtype = (tuple(shape) if np.ndim(shape) else (shape,)), np.dtype(dtype)
    memory = np.full(int(np.prod(shape)) * dtype.itemsize + 2 * GUARD, 0xFF, np.uint8)
    return memory[GUARD:-GUARD].view(dtype).reshape(shape, order=order).view(ndarray)


def check_guards(array):
    memory = array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    if memory.dtype == np.uint8 and memory.ndim == 1 and memory.size >= 2 * GUARD:
        assert (memory[:GUARD] == 0xFF).all(), "a kernel wrote before an array"
        assert (memory[-GUARD:] == 0xFF).all(), "a kernel wrote behind an array"


def empty_like(a, dtype=None, order="K", shape=None):
    return empty(a.shape if shape is None else shape, dtype or a.dtype)


def _made(function):
    return functools.wraps(function)(lambda *args, **kwargs: _placed(function(*args, **kwargs)))


zeros, ones, full, arange, zeros_like = map(_made, (np.zeros, np.ones, np.full, np.arange, np.zeros_like))
get_array_module = lambda *args: _THIS if any(isinstance(a, ndarray) for a in args) else np  # noqa: E731


def __getattr__(name):  # what CuPy has of NumPy by the same name
    if name.startswith("_"):
        raise AttributeError(name)
    found = getattr(np, name)
    return _of_numpy(found) if callable(found) and not isinstance(found, type) else found


def _of_numpy(function):
    @functools.wraps(function)
    def placing(*args, **kwargs):
        made = function(*args, **kwargs)
        return _placed(made) if type(made) is np.ndarray else made

    return placing


class RawModule:
    """Kernels from source, compiled by the C++ compiler; each source once on a machine."""

    def __init__(self, *, code, options=(), backend="nvrtc", enable_cooperative_groups=False):
        self.library = _library(code, tuple(options))

    def get_function(self, name):
        return RawKernel(self.library, name)


class RawKernel:
    """A kernel; `kernel` is what CuPy calls a Function, which takes `enable_cooperative_groups` in each call."""

    max_dynamic_shared_size_bytes = 49_152

    def __init__(self, library, name):
        self.launch = getattr(library, f"emulated_launch_{name}")
        sizes = (ctypes.c_int * 64)()
        self.sizes = sizes[: getattr(library, f"emulated_arguments_{name}")(sizes)]
        self.name = name

    @property
    def kernel(self):
        return self

    def __call__(self, grid, block, args, shared_mem=0, stream=None, enable_cooperative_groups=False):
        if not (type(grid) is type(block) is tuple):
            raise TypeError("grid and block have to be tuples")
        grid, block = ((*grid, 1, 1)[:3], (*block, 1, 1)[:3])
        shared_mem = int(shared_mem)
        if not 0 <= shared_mem <= min(self.max_dynamic_shared_size_bytes, SHARED_BYTES):
            raise RuntimeError(f"{self.name}: {shared_mem} bytes of shared memory, more than it was allowed")
        if int(np.prod(block)) > 1024:
            raise RuntimeError(f"{self.name}: {block} threads")
        if enable_cooperative_groups and int(np.prod(grid)) > MULTIPROCESSORS:
            raise RuntimeError(f"{self.name}: {grid} blocks, more than can run at once")
        kept = [_argument(one) for one in args]
        if [len(one) for one in kept] != self.sizes:
            raise TypeError(f"{self.name} takes arguments of {self.sizes} bytes, not {[len(one) for one in kept]}")
        pointers = (ctypes.c_void_p * len(kept))(*[ctypes.addressof(one) for one in kept])
        triple = ctypes.c_uint * 3
        room = int(np.prod(grid)) if enable_cooperative_groups else MULTIPROCESSORS
        sizes = triple(*map(int, grid)), triple(*map(int, block)), ctypes.c_size_t(shared_mem), ctypes.c_int(room)

        def launch(arguments=(kept, args)):  # which stay where they are as long as this may be called
            settings.launches += 1
            self.launch(pointers, *sizes, ctypes.c_int(settings.order))
            for one in args:
                if isinstance(one, ndarray):
                    check_guards(one)

        work(launch)


def _argument(one):
    """The bytes of an argument, as CuPy hands it on: arrays as pointers, Python's numbers with 64 bits."""
    if isinstance(one, ndarray):
        return (ctypes.c_char * 8).from_buffer_copy(np.uint64(one.ctypes.data).tobytes())
    if one is None:
        return (ctypes.c_char * 8)()
    if isinstance(one, np.ndarray):  # of one element: by value
        if one.size != 1:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return (ctypes.c_char * one.itemsize).from_buffer_copy(one.tobytes())
    if not isinstance(one, np.generic):
        one = {bool: np.bool_, int: np.int64, float: np.float64}[type(one)](one)
    return (ctypes.c_char * one.itemsize).from_buffer_copy(one.tobytes())


@functools.cache
def _library(code: str, options: tuple[str, ...]):
    _scheduler()
    names = dict.fromkeys(KERNEL.findall(code))
    text = f'#include "{HEADER}"\n{code}\n' + "\n".join(f"EMULATED_KERNEL({name})" for name in names) + "\n"
    path = _compiled(text, "-O0", *[option for option in options if option.startswith("-D")])
    return ctypes.PyDLL(path)  # holds the lock of the interpreter: one launch at a time


@functools.cache
def _scheduler():
    """What lets the threads of all kernels take turns."""
    return ctypes.CDLL(_compiled(f'#define EMULATED_SCHEDULER\n#include "{HEADER}"\n', "-O2"), ctypes.RTLD_GLOBAL)


def _compiled(text: str, *options: str) -> str:
    """Where the library of a source is."""
    command = [COMPILER, *FLAGS, *options]
    stamp = hashlib.sha256("\0".join([text, HEADER.read_text(encoding="utf-8"), *map(str, command)]).encode())
    folder = Path(tempfile.gettempdir()) / f"skminibatch_emulated_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{stamp.hexdigest()[:32]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory() as build:
            source, made = Path(build, "kernel.cpp"), Path(build, "kernel.so")
            source.write_text(text, encoding="utf-8")
            done = subprocess.run([*command, source, *LIBRARIES, "-o", made], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{COMPILER} does not compile the kernels:\n{done.stderr}")
            ready = folder / f"{path.stem}.{os.getpid()}"
            shutil.copyfile(made, ready)
            os.replace(ready, path)
    return str(path)


class _Device:
    def __init__(self, device=0):
        self.id = device or 0

    attributes = property(
        lambda self: {"MultiProcessorCount": MULTIPROCESSORS, "MaxSharedMemoryPerBlockOptin": SHARED_BYTES}
    )
    compute_capability = "90"

    def synchronize(self):
        pass

    def use(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


# -- streams: what is launched is done at once, or written down while a graph is captured


def work(call, stream=None) -> None:
    """Do what is launched on a stream (None: the current one), or have the graph that is being captured do it."""
    if settings.captured is None:
        call()
    else:
        settings.captured.append((stream or settings.streams[-1], call))


def matmul(a, b, out=None):
    if settings.captured is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    return np.matmul(a, b, out=out)


class Graph:
    """What was captured: calls of streams, and events (stream, how many of its calls come before) that they wait for.

    If `settings.late`, a stream other than the first one does nothing before somebody waits for it.
    """

    def __init__(self, calls):
        self.calls = calls

    def launch(self, stream=None):
        settings.graphs += 1
        if not settings.late:
            for _, call in self.calls:
                if callable(call):
                    call()
            return
        queues = {}
        for one, call in self.calls:
            queues.setdefault(one, []).append(call)
        done = dict.fromkeys(queues, 0)

        def reach(one, count):
            while done[one] < count:
                done[one] += 1
                call = queues[one][done[one] - 1]
                call() if callable(call) else reach(*call)

        first = self.calls[0][0]
        reach(first, len(queues[first]))


class Event:
    """Where a stream was when it was recorded: the stream, and how many calls of it had been captured."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.place = None

    def synchronize(self):
        pass


class _Stream:
    count = 0

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.non_blocking = non_blocking
        self.ptr = 0 if null else _Stream.count
        _Stream.count += 1
        settings.by_ptr[self.ptr] = self

    def synchronize(self):
        if settings.captured is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    def use(self):
        return self

    def record(self, event=None):
        event, captured = event or Event(), settings.captured
        event.place = None if captured is None else (self, sum(stream is self for stream, _ in captured))
        return event

    def wait_event(self, event):
        if settings.captured is None:
            return
        if event.place is None or all(stream is not event.place[0] for stream, _ in settings.captured):
            raise RuntimeError("dependency created on uncaptured work in another stream")
        settings.captured.append((self, event.place))

    def begin_capture(self, mode=None):
        if not self.non_blocking:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        settings.captured = []

    def end_capture(self):
        calls, settings.captured = settings.captured, None
        return Graph(calls)

    def __enter__(self):
        settings.streams.append(self)
        return self

    def __exit__(self, *_):
        settings.streams.pop()


_null = _Stream(null=True)
settings.streams.append(_null)
cuda = SimpleNamespace(
    Device=_Device,
    Stream=type("Stream", (_Stream,), {"null": _null}),
    Event=Event,
    get_current_stream=lambda: settings.streams[-1],
    runtime=SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0),
    using_allocator=lambda allocator=None: nullcontext(),
)
_THIS = __import__("sys").modules[__name__]
