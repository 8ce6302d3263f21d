"""The cache of compiled functions on disk: its clock, and the lock that makes processes compile one after another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skminibatch.backends import compilation
from skminibatch.backends.cpu import cache
from skminibatch.backends.cpu.compile import Kernel

fcntl = pytest.importorskip("fcntl", reason="Windows has no such locks: each process compiles for itself")

PROGRAM = """
import pathlib, sys, time
from kernel_of_test import kernel
folder, number = pathlib.Path(sys.argv[1]), sys.argv[2]
(folder / f"ready{number}").touch()
while not all((folder / f"ready{each}").exists() for each in "01"):
    time.sleep(0.001)
kernel(1.0)
print(sum(kernel.cached.stats.cache_hits.values()))
"""


@pytest.fixture
def module(tmp_path):
    """The source of a kernel, on disk, as the cache of numba needs it."""
    lines = [f"    x = x * x + {number}.0" for number in range(200)]  # long enough for both to compile it
    source = ["from skminibatch.backends.cpu.compile import Kernel", "def function(x):", *lines, "    return x"]
    path = tmp_path / "kernel_of_test.py"
    path.write_text("\n".join([*source, "kernel = Kernel(function)", ""]))
    return path


@pytest.fixture
def kernel(module, monkeypatch):
    monkeypatch.syspath_prepend(module.parent)
    monkeypatch.delitem(sys.modules, module.stem, raising=False)
    return __import__(module.stem).kernel


@pytest.mark.slow
def test_processes_compile_a_kernel_once(module, tmp_path):
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, str(module.parent)])}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    runs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), each], stdout=subprocess.PIPE, env=environment)
        for each in "01"
    ]
    assert sorted(int(run.communicate()[0]) for run in runs) == [0, 1]


def test_compiling_and_loading_are_timed(kernel):
    before = compilation.spent()
    kernel(0.5)
    compiled = compilation.spent()
    assert compiled > before
    kernel(0.25)
    assert compilation.spent() == compiled


def test_a_lock_that_is_never_released_costs_time_only(kernel, monkeypatch):
    monkeypatch.setattr(cache, "LONGEST_WAIT", 0.05)
    path = kernel.cached._cache._path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert kernel(0.0) > 0


def test_without_a_place_for_a_lock(kernel, monkeypatch):
    def fail(*arguments):
        raise OSError("read-only file system")

    monkeypatch.setattr(cache.os, "open", fail)
    assert kernel(0.0) > 0


def test_failing_to_compile_releases_the_lock():
    def function(x):
        return x.nothing

    kernel = Kernel(function)
    with pytest.raises(Exception, match="nothing"):
        kernel(1.0)
    assert kernel.cached._cache._lock is None
    assert kernel.cached._cache._began == 0.0
