"""Ghost batch normalization."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import SEVERAL
from skminibatch.contract.kinds import declares
from skminibatch.layers.batch import BatchNorm
from skminibatch.layers.blocks import RUNNING
from skminibatch.layers.pooling import ROWS, Pooling


@declares(couples_rows=True, absorbs_intercept=True, domains={**RUNNING, "size": SEVERAL})
class GhostNorm(NamedTuple):
    """Batch normalization of virtual batches of about `size` rows (Hoffer, Hubara and Soudry 2017, arXiv:1705.08741).

    A batch of b rows has ``max(1, b // size)`` virtual ones, of consecutive rows, whose sizes differ by at most one: the
    noise of the statistics is that of small batches, whatever the batch size. Running statistics take in one after the other;
    ``exact`` as for `BatchNorm`.
    """

    size: float = 32.0
    epsilon: float = 1e-5
    momentum: float = 0.1
    exact: bool = False

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units."""
        return BatchNorm.start(self, n)

    def sizes(self, n: int) -> dict[str, int]:
        """How many numbers each of them is, by name."""
        return BatchNorm.sizes(self, n)

    def pooling(self, n: int) -> Pooling:
        """About `size` consecutive rows together."""
        return Pooling(ROWS, self.epsilon, size=int(self.size), momentum=self.momentum)

    def affine(self, numbers):
        """(scale, shift) of each unit in predictions."""
        return BatchNorm.affine(self, numbers)

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward); `running` is updated in place while training, unless it is None."""
        return BatchNorm.forward(self, X, parameters, running, weights, train)
