"""Data and helpers of several test files. The arrays are read-only: no estimator may write its input."""

from __future__ import annotations

import importlib
import os
import sys

# Processes that share the processors get their share of threads, before NumPy starts those of BLAS: as many of each as
# there are processors would wait for each other.
if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(processes))))

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.base import is_classifier
from sklearn.preprocessing import scale

import skminibatch
from skminibatch.backends.gpu import device, placement
from skminibatch.backends.gpu.compile import _kernel, module_of
from skminibatch.backends.gpu.network import products
from skminibatch.estimators import linear
from tests.emulated import cupy as emulated
from tests.emulated import strict
from tests.families import ESTIMATORS
from tests.processes import python

# Files of few tests that take long: no process is to end minutes after the others.
LONG = ("test_new_parts", "test_benchmarks", "test_examples", "test_numba_environment", "test_generalization_gap")


class Problem(NamedTuple):
    """Rows and targets."""

    X: np.ndarray
    y: np.ndarray


def read_only(X, y) -> Problem:
    for array in (X, y):
        array.flags.writeable = False
    return Problem(X, y)


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)


@pytest.fixture
def sparse_rows_stay_sparse(monkeypatch):
    """For tests that give the same full rows in both storages: else 'auto' would read those in CSR as dense ones."""
    monkeypatch.setattr(linear, "FULL", np.inf)


@pytest.fixture(scope="session")
def binary() -> Problem:
    """Two classes, 0 and 1, that overlap."""
    rng = np.random.default_rng(1)
    X = scale(rng.standard_normal((240, 5)))
    return read_only(X, (X @ [2.0, -1.0, 0.5, 0.0, 0.0] + rng.logistic(size=240) > 0.3).astype(int))


@pytest.fixture(scope="session")
def several() -> Problem:
    """Three classes, 0 to 2."""
    rng = np.random.default_rng(2)
    y = np.arange(240) % 3
    return read_only(scale(rng.standard_normal((240, 5)) + 1.5 * np.eye(3, 5)[y]), y)


@pytest.fixture(scope="session")
def regression() -> Problem:
    """A linear target with noise and an offset."""
    rng = np.random.default_rng(3)
    X = scale(rng.standard_normal((240, 5)))
    return read_only(X, X @ [3.0, -2.0, 1.0, 0.0, 0.0] + 4.0 + 0.5 * rng.standard_normal(240))


@pytest.fixture(scope="session")
def counts() -> Problem:
    """Poisson counts."""
    rng = np.random.default_rng(4)
    X = scale(rng.standard_normal((240, 5)))
    return read_only(X, rng.poisson(np.exp(X @ [0.5, -0.3, 0.0, 0.2, 0.0] + 0.5)).astype(float))


@pytest.fixture(params=ESTIMATORS, ids=lambda cls: cls.__name__)
def estimator_class(request):
    """Every public estimator."""
    return request.param


@pytest.fixture
def problem(estimator_class, binary, regression) -> Problem:
    """Data that suit `estimator_class`."""
    return binary if is_classifier(estimator_class()) else regression


@pytest.fixture
def run_python():
    """Run code in a new process, with warnings as errors; its standard output.

    ``env`` changes variables of the environment; None removes one.
    """

    def run(code: str, *arguments: str, env: dict | None = None) -> str:
        folder = os.path.dirname(os.path.dirname(skminibatch.__file__))
        done = python("-W", "error", "-c", code, *arguments, env=env, cwd=folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def stand_in(monkeypatch):
    """A strict CuPy whose kernels run on the CPU, as if there were a GPU."""
    if emulated.COMPILER is None:
        pytest.skip(emulated.NO_COMPILER)
    for name, module in strict.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(products, "WORK_SPACE", 1 << 12)  # the stand-in fills new memory
    forget_devices(monkeypatch)
    yield strict
    forget_devices(monkeypatch)


@pytest.fixture
def gpu(request):
    """CuPy where a GPU answers, else its stand-in."""
    return device.cupy() if device.problem() is None else request.getfixturevalue("stand_in")


def forget_devices(monkeypatch):
    """As in a new process: nothing is known of a GPU."""
    monkeypatch.setattr(device, "_answers", {})
    for kept in (device._cupy, placement.pool, module_of, _kernel):
        kept.cache_clear()


@pytest.fixture(params=["base", "cpu", "cuda"])
def device_name(request):
    """Every device; tests on a GPU are skipped where there is none."""
    if request.param == "cuda" and (reason := device.problem()) is not None:
        pytest.skip(f"needs a GPU: {reason}")
    return request.param


@pytest.fixture(params=["cpu", "gpu"])
def backend(request):
    """Every backend that is compared with ``base``; those of a GPU are skipped where there is none."""
    if request.param == "gpu" and (reason := device.problem()) is not None:
        pytest.skip(f"needs a GPU: {reason}")
    return importlib.import_module(f"skminibatch.backends.{request.param}")


def pytest_terminal_summary(terminalreporter):
    """How many tests a machine without a GPU leaves out, and why."""
    skipped = [
        report.longrepr[2] for report in terminalreporter.getreports("skipped") if "needs a GPU" in str(report.longrepr)
    ]
    for reason, number in Counter(skipped).items():
        terminalreporter.write_line(f"{number} tests were skipped: {reason.removeprefix('Skipped: ')}")


def pytest_collection_modifyitems(items):
    """The tests of backends come first, which compile the kernels, then files that take long."""

    def turn(item):
        return 1 if item.path.stem in LONG else 0 if "backends" in item.path.parts else 2

    items.sort(key=turn)  # stable: others stay in their order
