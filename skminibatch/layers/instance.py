"""Instance normalization."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ONE, POSITIVE
from skminibatch.contract.kinds import declares
from skminibatch.layers.blocks import scale_sizes, unit_scale
from skminibatch.layers.layer import LayerNorm
from skminibatch.layers.pooling import UNITS, Pooling


@declares(couples_rows=False, domains={"epsilon": POSITIVE, "n_channels": AT_LEAST_ONE})
class InstanceNorm(NamedTuple):
    """Each channel of a row has mean zero and variance one over its positions (Ulyanov et al. 2016, arXiv:1607.08022).

    A vector of units is seen as ``n_channels`` channels, one after the other, of equally many positions; scale and shift are
    those of a channel.
    """

    n_channels: float
    epsilon: float = 1e-5

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units; an error where there are no channels of several positions."""
        channels = int(self.n_channels)
        if n % channels:
            raise ValueError(
                f"InstanceNorm(n_channels={channels}) needs a multiple of n_channels units in each layer, got {n}."
            )
        if n == channels:
            raise ValueError(
                f"InstanceNorm(n_channels={channels}) of a layer of {n} units leaves one position in a channel, whose mean is "
                "the unit itself: nothing would be left of it. Use fewer channels, or normalization='layer'."
            )
        return unit_scale(channels), np.empty(0)

    def sizes(self, n: int) -> dict[str, int]:
        """How many numbers each of them is, by name."""
        return scale_sizes(int(self.n_channels))

    def pooling(self, n: int) -> Pooling:
        """The positions of a channel together."""
        return Pooling(UNITS, self.epsilon, n_blocks=int(self.n_channels))

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward)."""
        return LayerNorm.forward(self, X, parameters, running, weights, train)
