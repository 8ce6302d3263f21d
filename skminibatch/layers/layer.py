"""Layer normalization."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skminibatch.contract.domains import POSITIVE
from skminibatch.contract.kinds import declares
from skminibatch.layers.blocks import normalized_units, scale_sizes, unit_scale
from skminibatch.layers.pooling import UNITS, Pooling


@declares(couples_rows=False, domains={"epsilon": POSITIVE})
class LayerNorm(NamedTuple):
    """The units of a row have mean zero and variance one (Ba, Kiros and Hinton 2016, arXiv:1607.06450).

    A row's output does not depend on the batch, so that any batch size will do, and predictions are computed as in training.
    """

    epsilon: float = 1e-5

    def start(self: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units."""
        return unit_scale(n), np.empty(0)

    def sizes(self: Any, n: int) -> dict[str, int]:
        """How many numbers each of them is, by name."""
        return scale_sizes(n)

    def pooling(self, n: int) -> Pooling:
        """All units of a row together."""
        return Pooling(UNITS, self.epsilon)

    def forward(self: Any, X, parameters, running, weights, train: bool):
        """(y, backward)."""
        return normalized_units(X, parameters, self.pooling(X.shape[1]))
