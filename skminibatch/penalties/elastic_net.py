"""The elastic net (Zou and Hastie 2005)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ZERO
from skminibatch.contract.kinds import declares
from skminibatch.contract.verbs import where


@declares(domains={"l2": AT_LEAST_ZERO, "l1": AT_LEAST_ZERO}, quadratic=True)
class ElasticNet(NamedTuple):
    """``l2 w^2 / 2 + l1 |w|``: the square by its gradient, the absolute value by its proximal map."""

    l2: float = 0.0
    l1: float = 0.0

    @property
    def nonsmooth(self):
        return self.l1 > 0

    @property
    def threshold(self):
        return self.l1

    def value(self, w):
        return 0.5 * self.l2 * w * w + self.l1 * np.abs(w)

    def smooth_value(self, w):
        return 0.5 * self.l2 * w * w

    def gradient(self, w):
        return self.l2 * w

    def prox(self, w, step):
        threshold = step * self.l1
        return w - where(w > threshold, threshold, where(w < -threshold, -threshold, w))
