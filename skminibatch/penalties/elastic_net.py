"""The elastic net (Zou and Hastie 2005)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ElasticNet(NamedTuple):
    """``l2 w^2 / 2 + l1 |w|``: the square by its gradient, the absolute value by its proximal map."""

    l2: float = 0.0
    l1: float = 0.0

    def value(self, w):
        return 0.5 * self.l2 * w * w + self.l1 * np.abs(w)

    def gradient(self, w):
        return self.l2 * w

    def prox(self, w, step):
        return np.sign(w) * np.maximum(np.abs(w) - step * self.l1, 0.0)
