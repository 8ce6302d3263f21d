"""Group normalization."""

from __future__ import annotations

from typing import NamedTuple

from skminibatch.contract.domains import AT_LEAST_ONE, POSITIVE
from skminibatch.layers.layer import LayerNorm

GROUPS = 8  # where the number is left open


class GroupNorm(NamedTuple):
    """Groups of consecutive units of a row have mean zero and variance one (Wu and He 2018, arXiv:1803.08494).

    ``n_groups`` of None: 8, or the largest divisor of the number of units below that.
    """

    n_groups: float | None = None
    epsilon: float = 1e-5
    domains = {"epsilon": POSITIVE, "n_groups": AT_LEAST_ONE}
    couples_rows = False
    absorbs_intercept = False

    def start(self, n: int):
        """(parameters, running statistics) of n units; an error where n has no such groups."""
        if n % self.blocks(n):
            raise ValueError(
                f"GroupNorm(n_groups={self.n_groups:g}) needs a multiple of n_groups units in each layer, got {n}."
            )
        if n == self.blocks(n) and n > 1:
            raise ValueError(
                f"GroupNorm(n_groups={self.blocks(n)}) of a layer of {n} units leaves one unit in a group, whose mean is the "
                "unit itself: nothing would be left of it. Use fewer groups."
            )
        return LayerNorm.start(self, n)

    def blocks(self, n: int) -> int:
        """Blocks of consecutive units that are normalised apart."""
        if self.n_groups is not None:
            return int(self.n_groups)
        divisors = [k for k in range(1, min(GROUPS, n) + 1) if n % k == 0 and n > k]
        return max(divisors, default=1)

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward)."""
        return LayerNorm.forward(self, X, parameters, running, weights, train)
