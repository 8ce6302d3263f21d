"""CUDA C++ that is compiled once for each source and kept in memory, and how its kernels are launched."""

from __future__ import annotations

import functools

import numpy as np

from skminibatch.backends.gpu import device
from skminibatch.backends.gpu.source import text

OPTIONS = ("--std=c++17",)
NOTHING = np.uint64(0)  # the address of an array that is not there
STATIC_LIMIT = 48 * 1024  # bytes of shared memory that a block has without asking

# What the kernels use besides CUDA itself. A stand-in for the compiler, in tests, has its own.
PRELUDE = """
#ifndef EMULATED
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define SPIN_WAIT()
__device__ __forceinline__ unsigned load_acquire(const unsigned* place) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(place) : "memory");
    return value;
}
__device__ __forceinline__ void add_release(unsigned* place, unsigned value) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" : : "l"(place), "r"(value) : "memory");
}
#define LOAD_ACQUIRE(place) load_acquire(place)
#define ADD_RELEASE(place, value) add_release(place, value)
#define PREFETCH(place) asm volatile("prefetch.global.L2 [%0];" : : "l"(place))
#else
#define PREFETCH(place) ((void)(place))
#endif
"""


def source_of(constants: dict[str, int], structs: str, *names: str) -> str:
    """A whole source: constants of the preprocessor, the structs of parts, and files that stand beside this module."""
    defined = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    return "\n".join([defined, PRELUDE, structs, *map(text, names)])


@functools.cache
def module_of(source: str, number: int):
    """The compiled source on one device; CuPy keeps the machine code on the disk as well."""
    return device.cupy().RawModule(code=source, options=OPTIONS)


def kernel_of(source: str, name: str):
    """A kernel of a source, for the current device."""
    return _kernel(source, name, device.cupy().cuda.Device().id)


@functools.cache
def _kernel(source: str, name: str, number: int):
    return module_of(source, number).get_function(name)


def or_nothing(array):
    """An array as a kernel takes it that may do without."""
    return NOTHING if array is None or not array.size else array


def record_of(dtype, arrays: dict, **numbers) -> np.ndarray:
    """A structure for kernels: the places of arrays, and numbers."""
    record = np.zeros(1, dtype)
    for name, array in arrays.items():
        record[name] = address_of(array)
    for name, number in numbers.items():
        record[name] = number
    return record


def address_of(array) -> int:
    """Where an array starts; zero for none, or one without numbers."""
    return 0 if array is None or not array.size else array.data.ptr


def launch(
    kernel, n_blocks: int, n_threads: int, arguments: tuple, shared_bytes: int = 0, together: bool = False
) -> None:
    """Start a kernel; `together`: all blocks at the same time, since they wait for each other.

    CuPy would compile sources of such kernels as separate objects, which takes a library of the CUDA toolkit to link; what it
    calls `kernel.kernel` can be launched so without.
    """
    if shared_bytes > STATIC_LIMIT:
        kernel.max_dynamic_shared_size_bytes = shared_bytes
    options = {"enable_cooperative_groups": True} if together else {}
    kernel.kernel((n_blocks,), (n_threads,), arguments, shared_mem=shared_bytes, **options)
