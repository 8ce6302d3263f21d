"""A uniform sample of the rows of a stream."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

RESERVOIR = 512  # rows of a stream that are kept
GROWTH = 1.25  # of the rows seen, between two estimates on a stream


class Reservoir(NamedTuple):
    """A uniform sample of the rows of a stream, from which its smoothness is estimated now and then.

    Every row draws a random key, and the rows of the smallest keys are kept. ``estimated_at`` is the number of rows that
    had been seen at the last estimate.
    """

    X: Any
    y: np.ndarray
    weights: np.ndarray
    keys: np.ndarray
    seen: int = 0
    estimated_at: int = 0

    @classmethod
    def of(cls, X, y, weights: np.ndarray | None, seen: int, rng: np.random.Generator) -> Reservoir:
        """A sample of some rows, themselves a sample of `seen` ones."""
        empty = cls(X[:0], y[:0], np.empty(0), np.empty(0))
        return empty.updated(X, y, weights, rng)._replace(seen=seen, estimated_at=seen)

    def updated(self, X, y, weights: np.ndarray | None, rng: np.random.Generator) -> Reservoir:
        """With the rows of one more chunk, weighted or not."""
        keys = rng.random(X.shape[0])
        limit = self.keys.max() if self.keys.size >= RESERVOIR else np.inf
        new = np.flatnonzero(keys < limit)
        seen = self.seen + X.shape[0]
        if not new.size:
            return self._replace(seen=seen)
        weights = np.ones(new.size) if weights is None else weights[new]
        keys = np.concatenate([self.keys, keys[new]])
        kept = np.sort(np.argsort(keys, kind="stable")[:RESERVOIR])
        rows = sparse.vstack([self.X, X[new]]).tocsr() if sparse.issparse(self.X) else np.vstack([self.X, X[new]])
        y = np.concatenate([self.y, y[new]])
        weights = np.concatenate([self.weights, weights])
        return Reservoir(rows[kept], y[kept], weights[kept], keys[kept], seen, self.estimated_at)

    @property
    def due(self) -> bool:
        """Whether enough rows came since the last estimate for a better one."""
        return self.seen >= GROWTH * self.estimated_at
