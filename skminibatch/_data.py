"""The rows that a model learns from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch import backends
from skminibatch._statistics import EXAMINED

NUMBERS_AT_ONCE = 1 << 22  # of rows that are looked at on a GPU, or of which only outputs are wanted


def in_portions(rows: np.ndarray, size: int = EXAMINED):
    """Rows a few at a time; neighbours as a slice, which copies nothing."""
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        yield slice(int(some[0]), int(some[-1]) + 1) if np.all(np.diff(some) == 1) else some


class Data(NamedTuple):
    """Rows to learn from: `X` dense or CSR, `y` as encoded, `weights` float64 or empty, `rows` in use (None: all).

    Some of the rows, as `X` gives them for an index, are on the host, wherever all of them are; `y` and `weights` always are.
    A row may be in use several times. `table` is what a ``per_row`` optimizer stores of the rows, see `backends.base`.
    """

    X: object
    y: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None
    table: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows in use."""
        return self.X.shape[0] if self.rows is None else self.rows.size

    @property
    def row_length(self) -> float:
        """Numbers that a row stores, in the mean."""
        return self.X.nnz / self.X.shape[0] if backends.is_sparse(self.X) else self.X.shape[1]

    @property
    def targets(self) -> tuple[np.ndarray, np.ndarray | None]:
        """`y` and the weights (None: equal) of the rows in use."""
        weights = self.weights if self.weights.size else None
        if self.rows is None:
            return self.y, weights
        return self.y[self.rows], None if weights is None else weights[self.rows]

    def portions(self, rows: np.ndarray):
        """Some rows for array operations, a few at a time, as (which, X): dense ones are where all of them are."""
        X = self.X
        if backends.is_sparse(X):
            yield from ((some, X[some]) for some in in_portions(rows))
            return
        size = max(EXAMINED, NUMBERS_AT_ONCE // X.shape[1]) if hasattr(X, "there") else EXAMINED
        yield from ((some, backends.there(X, some)) for some in in_portions(rows, size))
