"""Gradient descent and its two momenta."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import FINITE, SHARE
from skminibatch.contract.kinds import declares


@declares(linear=True, lazy_l1=True)
class SGD(NamedTuple):
    """``w <- w - rate g`` (Robbins and Monro 1951)."""

    def auto_multiple(self):
        return 0.5

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, w, g, slots, c):
        return w - c[0] * g, slots, c[0]


@declares(domains={"momentum": SHARE}, slot_exponents=(1,), linear=True)
class Momentum(NamedTuple):
    """``v <- momentum v + g; w <- w - rate v`` (Polyak 1964); the effective step is ``rate / (1 - momentum)``."""

    momentum: float = 0.9

    def auto_multiple(self):
        return 0.5 * (1.0 - self.momentum)

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, w, g, slots, c):
        v = self.momentum * slots[0] + g
        return w - c[0] * v, (v,), c[0] / (1.0 - self.momentum)


@declares(domains={"momentum": SHARE}, slot_exponents=(1,), linear=True)
class Nesterov(NamedTuple):
    """``v <- momentum v + g; w <- w - rate (g + momentum v)`` (Nesterov 1983, in the variables of Sutskever 2013)."""

    momentum: float = 0.9

    def auto_multiple(self):
        return 0.5 * (1.0 - self.momentum)

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, w, g, slots, c):
        v = self.momentum * slots[0] + g
        return w - c[0] * (g + self.momentum * v), (v,), c[0] / (1.0 - self.momentum)


@declares(
    domains={"interpolation": SHARE, "power": FINITE}, slot_exponents=(-1,), n_coefficients=2, linear=True, lazy_l1=True
)
class ScheduleFree(NamedTuple):
    """Schedule-free SGD (Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky 2024, arXiv:2405.15682).

    ``z <- z - rate (g(y) + p(z)); x <- x + c (z - x)`` with ``y = (1 - interpolation) z + interpolation x``: the gradient g
    of the loss is taken at y, that of the penalty p at z, which moves, and the average x predicts. The weight of step t is
    ``t^power`` times the square of the largest rate so far, and ``c`` its share in the sum of the weights so far, so that no
    horizon is needed.

    The paper has an interpolation of 0.9. With it z goes nine times as far as the error that it meets at a slow x, which
    a stream in another order than a random one does not forgive: neighbours that are alike blow up the model.
    """

    interpolation: float = 0.5
    power: float = 0.0

    def auto_multiple(self):
        return 2.0

    def coefficients(self, rates, sizes, memory):
        steps, largest, total = memory or (0, 0.0, 0.0)
        t = steps + np.arange(1, len(rates) + 1)
        largest = np.maximum(np.maximum.accumulate(rates), largest)
        weights = t**self.power * largest**2
        total = np.cumsum(weights) + total
        shares = weights / np.maximum(total, np.finfo(float).tiny)
        return np.column_stack([rates, shares]), (int(t[-1]), float(largest[-1]), float(total[-1]))

    def forget(self, memory):
        return None

    def update(self, w, g, slots, c):
        return w - c[0] * g, slots, c[0]

    def follow(self, w, slots, c):
        return (slots[0] + c[1] * (w - slots[0]),)

    def point(self, w, slots, c):
        return (1.0 - self.interpolation) * w + self.interpolation * slots[0]

    def result(self, w, slots):
        return slots[0]
