"""How a kernel is compiled: options, the disk cache, and what it does where no cache can be kept."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from numba import njit
from numba.core.caching import NullCache

from skminibatch.backends.cpu.cache import TimedCache
from skminibatch.backends.cpu.pipeline import Inside
from skminibatch.contract.kinds import inside

OPTIONS = {
    # every flag that keeps NaN and infinity visible: with fastmath=True, isfinite() is always true
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
    "nogil": True,
    # Kernels allocate nothing: without numba's run time, arrays are not counted each time one is passed on or unpacked,
    # which costs a batch of one row more than its arithmetic.
    "_nrt": False,
    "no_cfunc_wrapper": True,
}
CALLED = {name: OPTIONS[name] for name in ("fastmath", "error_model", "nogil")}  # by an address
# Entries for callers in Python and C, of which there are none, would take an eighth of the time of compiling a kernel.
_INSIDE = {"pipeline_class": Inside, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_PART = {**_INSIDE, "forceinline": True}  # a call would pass each array as eight arguments
INLINED = {**{name: OPTIONS[name] for name in ("fastmath", "error_model", "_nrt")}, **_PART}
inlined = njit(**{**OPTIONS, **_PART})
called = njit(**{**OPTIONS, **_INSIDE})  # by kernels, and too long to be a part of them


@inlined
def finite(x):
    """Whether a number is finite. `isfinite` asks whether x - x is NaN, which 'reassoc' may turn into 0 - 0."""
    return abs(x) < math.inf


@functools.cache
def _source_stamp() -> tuple[float, int]:
    """Newest change and total size of the sources: numba's cache sees edits of the kernel's own file only."""
    root = Path(__file__).parents[2]
    files = list(root.rglob("*.py")) or [path for path in root.parents if path.is_file()]  # in an archive: itself
    stats = [path.stat() for path in files]
    return max(s.st_mtime for s in stats), sum(s.st_size for s in stats)


class Kernel:
    """A compiled function that is kept on disk where that is possible and works without where it is not."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.uncached = njit(**OPTIONS)(function)
        self.uncached._cache = TimedCache(self.uncached._cache, None)
        self.cached = self._with_cache(function)

    def _with_cache(self, function):
        try:
            dispatcher = njit(cache=True, **OPTIONS)(function)
            dispatcher._cache = TimedCache(dispatcher._cache, _source_stamp())
        except (RuntimeError, AttributeError, OSError):  # no writable place for a cache; sources in an archive
            return self.uncached
        return dispatcher

    def __call__(self, *args):
        try:
            return self.cached(*args)
        except OSError:  # the cache cannot be read or written after all (a full disk, no home): go on without
            self.cached._cache.end()
            self.cached = self.uncached
            return self.cached(*args)
        except BaseException:
            self.cached._cache.end()
            raise


def is_ours(part) -> bool:
    """Whether a part and those inside it are of the package: the cache on disk would not see edits of others."""
    within = inside(part)
    return type(part).__module__.startswith("skminibatch.") and (within is None or is_ours(within))


def with_cache(function):
    """Compile a C function, or load it from the disk where it is kept."""
    try:
        function.enable_caching()
        function._cache = TimedCache(function._cache, _source_stamp())
        return _compiled(function)
    except (RuntimeError, AttributeError, OSError):  # as for kernels
        function._cache = NullCache()
        return without_cache(function)


def without_cache(function):
    """Compile a C function."""
    function._cache = TimedCache(function._cache, None)
    return _compiled(function)


def _compiled(function):
    try:
        function.compile()
    finally:
        function._cache.end()
    return function
