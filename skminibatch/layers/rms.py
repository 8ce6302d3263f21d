"""Root mean square normalization."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import POSITIVE
from skminibatch.contract.kinds import declares
from skminibatch.layers.blocks import normalized_units
from skminibatch.layers.pooling import UNITS, Pooling


@declares(couples_rows=False, domains={"epsilon": POSITIVE})
class RMSNorm(NamedTuple):
    """The units of a row have mean square one, and no mean is taken away (Zhang and Sennrich 2019, arXiv:1910.07467).

    Scaled by gamma, without a shift: the intercept before it has that part. No backend has a kernel for it so far, so that a
    network trains slower than with `LayerNorm`.
    """

    epsilon: float = 1e-5

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units."""
        return np.ones(n), np.empty(0)

    def sizes(self, n: int) -> dict[str, int]:
        """How many numbers each of them is, by name."""
        return {"gamma": n}

    def pooling(self, n: int) -> Pooling:
        """All units of a row together."""
        return Pooling(UNITS, self.epsilon, centred=False)

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward)."""
        return normalized_units(X, parameters, self.pooling(X.shape[1]))
