"""Features that no row has: where they are most of all, `fit` is about the others alone, and costs what these cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import sparse

from skminibatch.contract.coordinates import Coordinates
from skminibatch.models.data import without_absent_features
from skminibatch.models.linear import LinearModel
from skminibatch.statistics.features import Moments

C = TypeVar("C")
FEW = 0.5  # of the features, that may have values for the others to be left out


class Present(NamedTuple):
    """The features that sparse rows have a value of, by their numbers in ascending order, of `n_features`."""

    features: np.ndarray
    n_features: int

    @classmethod
    def of(cls, X: sparse.csr_matrix) -> tuple[Any, Present | None]:
        """The rows without the features that none of them has, and which those are that are left; None where that is most.

        >>> from scipy import sparse
        >>> X, present = Present.of(sparse.csr_matrix(([1.0, 2.0], [3, 9], [0, 1, 2]), shape=(2, 12)))
        >>> X.toarray(), present.features
        (array([[1., 0.],
               [0., 2.]]), array([3, 9]))
        """
        if X.nnz == 0:
            return X, None
        rows, features = without_absent_features(X, FEW)
        return rows, None if features is None else cls(features, X.shape[1])

    def spread(self, array: np.ndarray) -> np.ndarray:
        """Numbers of these features, in the last axis, among zeros for the others; what comes behind them stays there."""
        behind = array.shape[-1] - len(self.features)
        out = np.zeros((*array.shape[:-1], self.n_features + behind), array.dtype)
        out[..., self.features] = array[..., : len(self.features)]
        out[..., self.n_features :] = array[..., len(self.features) :]
        return out

    def scorer(self, score: Callable[..., C]) -> Callable[..., C]:
        """What says something of predictors of all features, for those of these."""
        return lambda coef, intercept: score(self.spread(coef), intercept)

    def model(self, model: LinearModel) -> LinearModel:
        """The model of all features."""
        coordinates = model.coordinates
        if isinstance(coordinates, Coordinates):
            center, scale, stretch = coordinates
            ones = np.ones(1, scale.dtype)  # for features that are not scaled
            scale, stretch = (ones + self.spread(axis - ones) for axis in (scale, stretch))
            coordinates = Coordinates(self.spread(center), scale, stretch)
        return replace(model, n_features=self.n_features, coordinates=coordinates)

    def moments(self, moments: Moments) -> Moments:
        """The statistics of all features."""
        mean, squares = self.spread(moments.mean), self.spread(moments.squares)
        stored = self.spread(moments.stored) if moments.stored.size == len(self.features) else moments.stored
        return Moments(moments.count, mean, squares, stored)
