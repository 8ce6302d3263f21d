"""Data and helpers of several test files. The arrays are read-only: no estimator may write its input."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from families import ESTIMATORS
from sklearn.base import is_classifier
from sklearn.preprocessing import scale

import skminibatch


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
        variables = {**os.environ, **(env or {})}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            env={name: value for name, value in variables.items() if value is not None},
            cwd=os.path.dirname(os.path.dirname(skminibatch.__file__)),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
