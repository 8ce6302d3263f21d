"""numba's cache on disk with a clock, and with a lock: processes that start together compile a kernel once."""

from __future__ import annotations

import os
import time
from pathlib import Path

from skminibatch.backends import compilation

try:
    import fcntl
except ImportError:  # Windows: each process compiles for itself
    fcntl = None  # type: ignore[assignment]

LONGEST_WAIT = 120.0  # seconds for another process that compiles: more than a kernel takes on a busy machine
PAUSE = 0.02


class TimedCache:
    """In the place of the cache of a numba function; what is looked for and not found is compiled until it is saved.

    Parameters
    ----------
    cache : numba.core.caching.Cache
    stamp : tuple or None
        What tells versions of the sources from each other, in addition to what numba looks at; None: nothing is kept on disk.
    """

    def __init__(self, cache, stamp: tuple | None) -> None:
        self._cache, self._path = cache, None
        self._began, self._lock = 0.0, None
        if stamp is not None:
            cache._cache_file._source_stamp = stamp
            self._path = Path(cache._cache_file._index_path + ".lock")

    def __getattr__(self, name):
        return getattr(self._cache, name)

    def load_overload(self, sig, target_context):
        """What was compiled before, or None."""
        self._began = time.perf_counter()
        found = self._cache.load_overload(sig, target_context)
        if found is None and self._locked():
            found = self._cache.load_overload(sig, target_context)  # another process may have saved it since
        if found is not None:
            self.end()
        return found

    def save_overload(self, sig, data) -> None:
        """Keep what was compiled."""
        try:
            self._cache.save_overload(sig, data)
        finally:
            self.end()

    def end(self) -> None:
        """Stop the clock and let others in; where compiling has failed, too."""
        if self._began:
            compilation.add(time.perf_counter() - self._began)
            self._began = 0.0
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _locked(self) -> bool:
        """Take the lock, after another process that has it; whether to look again, for what that has saved.

        Without a lock, as where none can be had, compiling only costs time.
        """
        if fcntl is None or self._path is None:
            return False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return False
        until = time.monotonic() + LONGEST_WAIT
        while self._lock is None and time.monotonic() < until:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._lock = lock
            except BlockingIOError:
                time.sleep(PAUSE)
            except OSError:
                break
        if self._lock is None:
            os.close(lock)
        return True
