"""Batch normalization."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from skminibatch.contract.kinds import declares
from skminibatch.layers.blocks import RUNNING, Running, scale_sizes, scaled, shares_of, standardized, unit_scale
from skminibatch.layers.pooling import ROWS, Pooling


@declares(couples_rows=True, absorbs_intercept=True, domains=RUNNING)
class BatchNorm(NamedTuple):
    """Each unit has mean zero and variance one over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Predictions use running statistics with the share `momentum` of the last batch; with ``exact``, the weighted mean and
    variance of all training rows, which `fit` computes when training has ended, in one pass over the rows per normalization
    (`partial_fit` continues with running ones). Needs batches of two rows at least.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1
    exact: bool = False

    def start(self: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units."""
        return unit_scale(n), Running.start(n)

    def sizes(self: Any, n: int) -> dict[str, int]:
        """How many numbers each of them is, by name."""
        return scale_sizes(n) | Running.sizes(n)

    def pooling(self, n: int) -> Pooling:
        """All rows of a batch together."""
        return Pooling(ROWS, self.epsilon, momentum=self.momentum)

    def affine(self: Any, numbers):
        """(scale, shift) of each unit in predictions."""
        return Running.affine(numbers, self.epsilon)

    def forward(self: Any, X, parameters, running, weights, train: bool):
        """(y, backward); `running` is updated in place while training, unless it is None."""
        if not train:
            return from_running(X, parameters, running, self.epsilon)
        bounds = self.pooling(X.shape[1]).bounds(len(X))
        z, maps = np.empty_like(X), []
        for start, stop in pairwise(bounds):
            shares = shares_of(None if weights is None else weights[start:stop], X[start:stop])
            z[start:stop], mean, variance, back = standardized(X[start:stop], shares, 0, self.epsilon)
            maps.append(back)
            if running is not None:
                Running.update(running, mean, variance, shares, self.momentum)

        def standardization(dz):
            return np.vstack([back(part) for back, part in zip(maps, np.split(dz, bounds[1:-1].tolist()), strict=True)])

        return scaled(z, parameters, standardization)


def from_running(X, parameters, running, epsilon: float):
    """Normalise by running statistics, so that a row's output does not depend on the others: (y, backward)."""
    mean, variance = Running.moments(running)
    inverse = 1.0 / np.sqrt(variance + epsilon)
    return scaled((X - mean) * inverse, parameters, lambda dz: dz * inverse)
