"""Ghost batch normalization."""

from __future__ import annotations

from typing import NamedTuple

from skminibatch.contract.domains import SEVERAL
from skminibatch.layers.batch import BatchNorm
from skminibatch.layers.blocks import RUNNING


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
    domains = {**RUNNING, "size": SEVERAL}
    couples_rows = True
    absorbs_intercept = True

    def start(self, n: int):
        """(parameters, running statistics) of n units."""
        return BatchNorm.start(self, n)

    def groups(self, n_rows: int) -> int:
        """Groups of consecutive rows of a batch that are normalised apart."""
        return max(1, n_rows // int(self.size))

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward); `running` is updated in place while training, unless it is None."""
        return BatchNorm.forward(self, X, parameters, running, weights, train)
