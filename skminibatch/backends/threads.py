"""Threads: those of a computation that is cut into pieces, and those that BLAS takes by itself."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import threadpoolctl


def together(calls: Sequence[Callable]):
    """Run the calls at the same time, the first one in this thread; the result of the first."""
    if len(calls) == 1:
        return calls[0]()
    with ThreadPoolExecutor(len(calls) - 1) as pool:
        others = [pool.submit(call) for call in calls[1:]]
        first = calls[0]()
        for other in others:
            other.result()
    return first


def mapped(function: Callable, pieces: Sequence, n_threads: int) -> list:
    """The function of each piece, in order; products inside take one thread, so that the bits are always the same."""
    with one_of_blas():
        if min(n_threads, len(pieces)) == 1:
            return [function(piece) for piece in pieces]
        with ThreadPoolExecutor(min(n_threads, len(pieces))) as pool:
            return list(pool.map(function, pieces))


class _Limit:
    """One thread of BLAS while anybody wants that; the limit is one of the process, and the last to leave lifts it."""

    def __init__(self):
        self.lock, self.inside, self.limiter, self.before = threading.Lock(), 0, None, 1

    def enter(self):
        with self.lock:
            if self.inside == 0:
                self.before = _n_threads()
                _take_control()
                self.limiter = _blas().limit(limits=1, user_api="blas")
            self.inside += 1

    def leave(self):
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                _take_control()
                if self.limiter is not None:
                    self.limiter.restore_original_limits()
                _take_control()

    def lifted(self) -> int:
        """Threads that BLAS takes where nothing limits it."""
        with self.lock:
            return self.before if self.inside else _n_threads()


_limit = _Limit()


@contextmanager
def one_of_blas():
    """Inside, a product of matrices takes one thread: with more, its last bits depend on their number."""
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


def of_blas() -> int:
    """Threads that a product of matrices takes by itself."""
    return _limit.lifted()


def _take_control():
    """Let this thread set the limit, and after it any other one: since 3.8, threadpoolctl ignores all but the first."""
    controller = threadpoolctl.OpenBLASController
    if hasattr(controller, "clear_controlling_thread"):
        controller.clear_controlling_thread(force=True)


def _n_threads() -> int:
    return max((library["num_threads"] for library in _blas().info()), default=1)


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    """The libraries that do products of matrices."""
    import scipy.linalg.cython_blas  # noqa: F401  # that of the kernels, so that it is among them

    return threadpoolctl.ThreadpoolController().select(user_api="blas")
