"""The rows that a model learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.extmath import safe_sparse_dot

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse, on_gpu, stays_on_gpu, take_on_device
from skminibatch.statistics.random import EXAMINED

NUMBERS_AT_ONCE = 1 << 22  # of rows that are looked at on a GPU


class Data(NamedTuple):
    """Rows to learn from: `X` dense or CSR, `y` as encoded, `weights` float64 or empty, `rows` in use (None: all).

    Some of the rows, as `X` gives them for an index, are on the host, wherever all of them are; `y` and `weights` always are.
    A row may be in use several times. `table` is what a ``per_row`` optimizer stores of the rows, see `backends.base`.
    """

    X: Any
    y: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None
    table: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows in use."""
        return self.X.shape[0] if self.rows is None else self.rows.size

    @property
    def rows_in_use(self) -> np.ndarray:
        """The numbers of the rows in use."""
        return np.arange(self.X.shape[0]) if self.rows is None else self.rows

    @property
    def row_length(self) -> float:
        """Numbers that a row stores, in the mean."""
        return self.X.nnz / self.X.shape[0] if is_sparse(self.X) else self.X.shape[1]

    @property
    def targets(self) -> tuple[np.ndarray, np.ndarray | None]:
        """`y` and the weights (None: equal) of the rows in use."""
        weights = self.weights if self.weights.size else None
        if self.rows is None:
            return self.y, weights
        return self.y[self.rows], None if weights is None else weights[self.rows]

    def weights_of(self, rows) -> np.ndarray:
        """Weights of some rows; empty if every row counts the same."""
        return self.weights[rows] if self.weights.size else self.weights

    def portions_on_host(self, rows: np.ndarray):
        """Some rows on the host, a few at a time, as (which, X)."""
        return ((some, self.X[some]) for some in _in_portions(rows, EXAMINED))

    def portions_on_device(self, rows: np.ndarray):
        """Some rows where all of them are, a few at a time, as (which, X)."""
        size = max(EXAMINED, NUMBERS_AT_ONCE // self.X.shape[1]) if stays_on_gpu(self.X) else EXAMINED
        return ((some, take_on_device(self.X, some)) for some in _in_portions(rows, size))

    def portions_to_compute(self, rows: np.ndarray):
        """Some rows for operations that CuPy has for dense arrays alone: sparse ones on the host."""
        return self.portions_on_host(rows) if is_sparse(self.X) else self.portions_on_device(rows)


def _in_portions(rows: np.ndarray, size: int):
    """Rows a few at a time; neighbours as a slice, which copies nothing."""
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        yield slice(int(some[0]), int(some[-1]) + 1) if np.all(np.diff(some) == 1) else some


def _raw_portions(data: Data, portions, coef: np.ndarray, intercept: np.ndarray):
    """Portions of rows as given, their raw outputs (n, K), targets and weights."""
    for some, X in portions:
        yield X, np.asarray(raw_outputs(X, coef, intercept), X.dtype), data.y[some], data.weights_of(some)


def raw_outputs(X, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """``X coef' + intercept``, (n, K), on the host, computed where the rows are."""
    if on_gpu(X):
        return backends.choose("cuda").raw_outputs(X, coef, intercept)
    return np.asarray(safe_sparse_dot(X, coef.T, dense_output=True)) + intercept
