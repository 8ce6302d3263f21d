"""The rows that a model learns from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import safe_sparse_dot

from skminibatch import backends
from skminibatch.backends import map_on_device
from skminibatch.backends.arrays import is_sparse, on_gpu, stays_on_gpu, take_on_device
from skminibatch.contract.affine import AffineRows
from skminibatch.contract.coordinates import AnyCoordinates, RoundCoordinates
from skminibatch.statistics.random import EXAMINED

T = TypeVar("T")
ALL_ROWS = np.empty(0, np.int64)  # for the verbs of a backend
NUMBERS_AT_ONCE = 1 << 22  # in the rows that are read at once on a GPU


class Data(NamedTuple):
    """Rows to learn from.

    Attributes
    ----------
    X : ndarray, CSR matrix, `AffineRows`, or rows that a fit has copied to a GPU
        Whatever it is, ``X[rows]`` is on the host; `take_on_device` leaves rows where they are.
    y : ndarray of shape (n,) or (n, q)
        Targets as encoded, on the host.
    weights : ndarray of shape (n,) or (0,)
        Weights of the rows, float64, on the host; empty if every row counts the same.
    rows : ndarray of int or None
        Numbers of the rows in use, None for all; a row may be in use several times.
    table : ndarray or None
        What a ``per_row`` optimizer stores of the rows, see `backends.base`.
    step_weights : ndarray of shape (n,) or None
        Weights of the rows in a step, where they are not `weights`: a row that is in use several times has a share of its
        weight each time.
    written : ndarray or None
        The rows in the coordinates of the optimizer, where they are written out.
    memory : dict or None
        What several trainings on the same rows have found out, see `remembered`; None: this one is alone.
    """

    X: Any
    y: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None
    table: np.ndarray | None = None
    step_weights: np.ndarray | None = None
    written: np.ndarray | None = None
    memory: dict[Hashable, Any] | None = None

    def remembered(self, key_of: Callable[[], Hashable], found: Callable[[], T]) -> T:
        """What `found` returns, which another training on these rows may know by the same key."""
        if self.memory is None:
            return found()
        return self.found(self.memory, key_of(), found)

    @staticmethod
    def found(memory: dict[Hashable, Any], key: Hashable, found: Callable[[], T]) -> T:
        """What is in a memory, where it is written first if it is not there."""
        if key not in memory:
            memory[key] = found()
        return memory[key]

    @property
    def n_rows(self) -> int:
        """Number of rows in use."""
        return self.X.shape[0] if self.rows is None else self.rows.size

    @property
    def rows_in_use(self) -> np.ndarray:
        """Numbers of the rows in use."""
        return np.arange(self.X.shape[0]) if self.rows is None else self.rows

    @property
    def evaluated_rows(self) -> np.ndarray:
        """The rows in use, for the verbs that evaluate: empty for all."""
        return ALL_ROWS if self.rows is None else self.rows

    def in_use_alone(self) -> Data:
        """The rows in use, without the others, which a method may read that looks at all."""
        assert self.rows is not None
        X, y, weights = self.X[self.rows], self.y[self.rows], self.weights_of(self.rows)
        return self._replace(X=X, y=y, weights=weights, rows=None, memory=None)

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

    @property
    def weights_in_use(self) -> np.ndarray:
        """Weights of all rows, zero of those not in use; empty if every row counts the same."""
        if self.rows is None:
            return self.weights
        used = np.zeros(self.X.shape[0])
        used[self.rows] = self.weights[self.rows] if self.weights.size else 1.0
        return used

    def weights_of(self, rows) -> np.ndarray:
        """Weights of some rows; empty if every row counts the same."""
        return self.weights[rows] if self.weights.size else self.weights

    def portions_on_host(self, rows: np.ndarray) -> Iterator[tuple]:
        """Pairs of a few of the rows (their numbers, or a slice of them) and these rows of `X` on the host."""
        return ((portion, self.X[portion]) for portion in _in_portions(rows, EXAMINED))

    def portions_on_device(self, rows: np.ndarray) -> Iterator[tuple]:
        """The same with the rows of `X` on the device where all of them are."""
        size = max(EXAMINED, NUMBERS_AT_ONCE // self.X.shape[1]) if stays_on_gpu(self.X) else EXAMINED
        return ((portion, take_on_device(self.X, portion)) for portion in _in_portions(rows, size))

    def portions_to_compute(self, rows: np.ndarray) -> Iterator[tuple]:
        """The same for operations that CuPy has for dense arrays alone: sparse rows on the host."""
        return self.portions_on_host(rows) if is_sparse(self.X) else self.portions_on_device(rows)


def _in_portions(rows: np.ndarray, size: int) -> Iterator[np.ndarray | slice]:
    """Rows a few at a time; neighbours as a slice, which copies nothing."""
    in_a_row = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1)
    for start in range(0, len(rows), size):
        portion = rows[start : start + size]
        together = in_a_row or np.all(np.diff(portion) == 1)
        yield slice(int(portion[0]), int(portion[-1]) + 1) if together else portion


def outputs_of_portions(data: Data, portions: Iterator[tuple], coef: np.ndarray, intercept: np.ndarray):
    """For portions of rows: the rows as given, their raw outputs (n, K) of a linear model, targets and weights."""
    for portion, X in portions:
        raw = np.asarray(raw_outputs(X, coef, intercept), X.dtype)
        yield X, raw, data.y[portion], data.weights_of(portion)


def outputs_of_all(data: Data, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Raw outputs (n, K) of a linear model of all rows, computed where they are."""
    if not stays_on_gpu(data.X):
        return raw_outputs(data.X, coef, intercept)
    portions = data.portions_on_device(np.arange(len(data.y)))
    return np.concatenate([raw for _, raw, _, _ in outputs_of_portions(data, portions, coef, intercept)])


def raw_outputs(X, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """``X coef' + intercept``, (n, K), on the host, computed where the rows are."""
    if on_gpu(X):
        return backends.choose("cuda").raw_outputs(X, coef, intercept)
    if isinstance(X, AffineRows):
        X, (coef, intercept) = X.X, X.outside(coef, intercept)
    return np.asarray(safe_sparse_dot(X, coef.T, dense_output=True)) + intercept


def squared(X) -> sparse.csr_matrix:
    """Sparse rows with the squares of their entries, float64."""
    return sparse.csr_matrix((X.data.astype(np.float64) ** 2, X.indices, X.indptr), X.shape)


def square_lengths_inside(X, axes: AnyCoordinates) -> np.ndarray:
    """Squared lengths of rows in other coordinates, float64, without writing these rows out; computed where they are."""
    if isinstance(axes, RoundCoordinates):
        return np.sum(axes.transform(X) ** 2, axis=1)
    squares = axes.scale.astype(np.float64) ** 2
    if sparse.issparse(X):
        return squared(X) @ squares

    def lengths(X, center, squares):
        X = X.astype(np.float64, copy=False)
        centered = X - center if center.size else X
        return (centered * centered) @ squares

    return map_on_device(lengths, X, axes.center if np.any(axes.center) else np.empty(0), squares)


SORTED = 16  # times as many features as values, from which on these are sorted: a table of all features is slower


def without_absent_features(X, most: float = 1.0) -> tuple[Any, np.ndarray | None]:
    """Sparse rows without the features that none of them has, and the numbers of the others.

    The rows themselves, and None, where more than `most` of the features occur.
    """
    n_rows, n_features = X.shape
    if n_features > SORTED * X.nnz:
        features, indices = np.unique(X.indices, return_inverse=True)
    else:
        occurs = np.zeros(n_features, bool)
        occurs[X.indices] = True
        features = np.flatnonzero(occurs)
        if len(features) > most * n_features:
            return X, None
        indices = (np.cumsum(occurs, dtype=X.indices.dtype) - 1)[X.indices]
    parts = X.data, indices.astype(X.indices.dtype, copy=False), X.indptr
    return type(X)(parts, shape=(n_rows, len(features))), features
