"""Layer normalization."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import POSITIVE
from skminibatch.layers.blocks import normalized_units, unit_scale


class LayerNorm(NamedTuple):
    """The units of a row have mean zero and variance one (Ba, Kiros and Hinton 2016, arXiv:1607.06450).

    A row's output does not depend on the batch, so that any batch size will do, and predictions are computed as in training.
    """

    epsilon: float = 1e-5
    domains = {"epsilon": POSITIVE}
    couples_rows = False
    absorbs_intercept = False

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units."""
        return unit_scale(n), np.empty(0)

    def blocks(self, n: int) -> int:
        """Blocks of consecutive units that are normalised apart."""
        return 1

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward)."""
        return normalized_units(X, parameters, self.blocks(X.shape[1]), self.epsilon)
