"""Group normalization."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ONE, POSITIVE
from skminibatch.contract.kinds import declares
from skminibatch.layers.layer import LayerNorm
from skminibatch.layers.pooling import UNITS, Pooling

GROUPS = 8  # where the number is left open


@declares(couples_rows=False, domains={"epsilon": POSITIVE, "n_groups": AT_LEAST_ONE})
class GroupNorm(NamedTuple):
    """Groups of consecutive units of a row have mean zero and variance one (Wu and He 2018, arXiv:1803.08494).

    ``n_groups`` of None: 8, or the largest divisor of the number of units below that.
    """

    n_groups: float | None = None
    epsilon: float = 1e-5

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units; an error where n has no such groups."""
        groups = self.pooling(n).n_blocks
        if n % groups:
            raise ValueError(f"GroupNorm(n_groups={groups}) needs a multiple of n_groups units in each layer, got {n}.")
        if n == groups and n > 1:
            raise ValueError(
                f"GroupNorm(n_groups={groups}) of a layer of {n} units leaves one unit in a group, whose mean is the "
                "unit itself: nothing would be left of it. Use fewer groups."
            )
        return LayerNorm.start(self, n)

    def sizes(self, n: int) -> dict[str, int]:
        """How many numbers each of them is, by name."""
        return LayerNorm.sizes(self, n)

    def pooling(self, n: int) -> Pooling:
        """The units of a group together."""
        divisors = [k for k in range(1, min(GROUPS, n) + 1) if n % k == 0 and n > k]
        n_groups = max(divisors, default=1) if self.n_groups is None else int(self.n_groups)
        return Pooling(UNITS, self.epsilon, n_blocks=n_groups)

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward)."""
        return LayerNorm.forward(self, X, parameters, running, weights, train)
