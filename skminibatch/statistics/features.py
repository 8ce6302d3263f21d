"""The moments of the features, and the coordinates that follow from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from skminibatch.contract.coordinates import Coordinates
from skminibatch.statistics.random import EXAMINED

MOST_KINDS = 8  # of stretches of sparse features
NEGLIGIBLE_SHIFT = 0.25  # of a standard deviation: a mean that is no better moved to zero
NEGLIGIBLE_STRETCH = 2.0  # features that are stretched by no more are left as they are


class Moments(NamedTuple):
    """Running count, mean and sum of squared deviations of the features, float64 (Chan, Golub and LeVeque 1983).

    ``stored`` counts, for each feature, the rows that store a value of it; of dense rows all, one number for all features.
    """

    count: float  # type: ignore[assignment]  # tuple.count is not used
    mean: np.ndarray
    squares: np.ndarray
    stored: np.ndarray

    @classmethod
    def none(cls, n_features: int) -> Moments:
        return cls(0.0, np.zeros(n_features), np.zeros(n_features), np.zeros(1))

    def updated(self, X, weights: np.ndarray | None = None) -> Moments:
        """With more rows, weighted or not; in portions, so that nothing as large as X is made."""
        moments = self
        for start in range(0, X.shape[0], EXAMINED):
            rows = slice(start, start + EXAMINED)
            moments = moments._with(X[rows], np.ones(X[rows].shape[0]) if weights is None else weights[rows])
        return moments

    def _with(self, X, weights: np.ndarray) -> Moments:
        total = float(weights.sum())
        if total == 0:
            return self
        if not sparse.issparse(X):
            return self.merged(total, *mean_and_squares(X, weights))
        mean = np.asarray(weights @ X, np.float64).ravel() / total
        squares = np.asarray(weights @ X.multiply(X)).ravel() - total * mean**2
        return self.merged(total, mean, squares, weights @ X.astype(bool))

    def merged(self, total: float, mean: np.ndarray, squares: np.ndarray, stored=None) -> Moments:
        """With the weight, the means and the sums of squared deviations of more rows (`stored`: None for dense ones)."""
        stored, count = total if stored is None else stored, self.count + total
        shift = mean - self.mean
        squares = self.squares + np.maximum(squares, 0) + shift**2 * self.count * total / count
        return Moments(count, self.mean + shift * total / count, squares, self.stored + stored)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation; of a feature that was constant so far, what a new value may be: 1, or its size if larger."""
        variance = self.squares / max(self.count, 1.0)
        constant = variance <= 1e-12 * self.mean**2  # rounding
        size = np.maximum(1.0, np.abs(self.mean))
        return np.where(constant, size, np.sqrt(np.where(constant, 1.0, variance)))

    @property
    def size_of_stored(self) -> np.ndarray:
        """Root mean square of the stored values of each feature; of one without, that of the feature in the middle."""
        seen = (self.stored > 0) & (self.squares + self.mean**2 > 0)
        if not seen.any():
            return np.ones_like(self.mean)
        stored = np.broadcast_to(self.stored, self.mean.shape)[seen]
        squares = self.squares[seen] + self.count * self.mean[seen] ** 2
        size = np.empty_like(self.mean)
        size[seen] = np.sqrt(squares / stored)
        size[~seen] = np.median(size[seen])
        return size


def mean_and_squares(X, weights):
    """Weighted mean and sum of squared deviations of the columns of dense rows, in the arrays of any library, float64."""
    mean = weights @ X / weights.sum()
    return mean, weights @ (X - mean) ** 2


def gentle_coordinates(moments: Moments, dtype, centered: bool, old: Coordinates | None = None) -> Coordinates:
    """Features moved and stretched so far that none dominates, at an unchanged objective.

    Stretches are powers of two, and small ones and small shifts are left out, so that standardised data stay as they are,
    whatever the rows from which they are judged, and a stream does not change its coordinates with every chunk: `old` ones
    are kept within a factor of two.
    """
    deviation = moments.deviation
    exponents = np.log2(deviation)
    near = np.abs(exponents).max(initial=0.0) <= np.log2(NEGLIGIBLE_STRETCH)
    scale = np.ones_like(deviation) if near else np.exp2(-np.round(exponents))
    center = np.where(np.abs(moments.mean) > NEGLIGIBLE_SHIFT * deviation, moments.mean, 0.0)
    if old is not None:
        near = (scale <= 2 * old.scale) & (scale >= 0.5 * old.scale)
        scale = np.where(near, old.scale, scale)
        center = np.where(np.abs(old.center - moments.mean) <= 2 * NEGLIGIBLE_SHIFT * deviation, old.center, center)
    if not centered:
        center = np.zeros_like(center)
    scale = scale.astype(dtype)
    return Coordinates(center.astype(dtype), scale, scale)


def sparse_coordinates(moments: Moments, dtype, old: Coordinates | None = None) -> Coordinates:
    """Features stretched by powers of two, so that their stored values are about as large, at an unchanged objective.

    Not by the deviation, which would make a value the larger the rarer it is; a one-hot encoding stays as it is. No more
    than `MOST_KINDS` different stretches, since each has a cost in every step; `old` ones are kept within a factor of two.
    """
    exponents = -np.round(np.log2(moments.size_of_stored))
    if old is not None:
        before = np.log2(old.scale.astype(np.float64))
        exponents = np.where(np.abs(exponents - before) <= 1, before, exponents)
    grain = 1
    while np.unique(np.round(exponents / grain).astype(np.int16)).size > MOST_KINDS:
        grain *= 2
    scale = np.exp2(grain * np.round(exponents / grain)).astype(dtype)
    return Coordinates(np.zeros_like(scale), scale, scale)


def within(axes: Coordinates, largest: float) -> Coordinates:
    """The coordinates with no stretch above the largest one, rounded down to a power of two."""
    scale = np.minimum(axes.scale, np.exp2(np.floor(np.log2(largest)))).astype(axes.scale.dtype)
    return Coordinates(axes.center, scale, scale)


def standard_coordinates(moments: Moments, dtype, centered: bool) -> Coordinates:
    """Standardised features, the penalty on the coefficients of these."""
    center = moments.mean if centered else np.zeros_like(moments.mean)
    scale = (1.0 / moments.deviation).astype(dtype)
    return Coordinates(center.astype(dtype), scale, np.ones_like(scale))
