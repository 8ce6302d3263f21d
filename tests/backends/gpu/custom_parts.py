"""Parts as a user may write them: each is a kernel on a GPU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.verbs import update, where
from skminibatch.losses import Huber
from skminibatch.optimizers import Momentum


class PseudoHuber(Huber):
    """Formulas of its own in place of those of the class before."""

    def value(self, raw, y):
        r = raw - y
        return self.epsilon * (np.sqrt(1.0 + (r / self.epsilon) ** 2) - 1.0)

    def gradient(self, raw, y):
        r = (raw - y) / self.epsilon
        return where(np.isfinite(r), r / np.sqrt(1.0 + r * r), np.sign(r))


class Focal(NamedTuple):
    """A loss of rows with branches, of a power of the probability that is missing."""

    power: float = 2.0
    curvature = 1.0
    task = "classification"

    def value_gradient(self, raw, y, out):
        label, last = int(y[0]), raw.shape[0] - 1
        highest, total = raw[last], 0.0
        for k in range(last):
            highest = max(highest, raw[k])
        for k in range(last + 1):
            out[k] = np.exp(raw[k] - highest)
            total += out[k]
        missing = 1.0 - out[label] / total
        for k in range(len(raw)):
            if k == label:
                out[k] = -missing
            else:
                out[k] /= total
        return missing**self.power


class Smoothed(NamedTuple):
    """A penalty with the roots of an elastic net in place of its absolute values."""

    strength: float = 0.5
    width: float = 0.1

    def value(self, w):
        return self.strength * np.sqrt(w * w + self.width)

    def gradient(self, w):
        return self.strength * (w / np.sqrt(w * w + self.width))

    def prox(self, w, step):
        return where(step < 0.5, w, w / (1.0 + self.strength * step))


class Looking(Momentum):
    """A point that the class before does not have."""

    def point(self, w, slots, c):
        return w - c[0] * slots[0]


class Lion(NamedTuple):
    """A step by the sign; one number of two slots is written by a variable of its own name."""

    beta: float = 0.9
    slot_exponents = (1, -1)
    n_coefficients = 2
    decoupled = True
    auto_rate = 0.1

    def coefficients(self, rates, sizes, memory):
        return np.column_stack([rates, np.full_like(rates, 0.01)]), memory

    def update(self, w, g, slots, c):
        m, average = slots
        slots = m + c[1] * (g - m), average
        step = where(np.abs(g) < 1e10, c[0], 0.5 * c[0])
        w = w - step * np.sign(self.beta * m + (1.0 - self.beta) * g)
        return w, slots, step

    def follow(self, w, slots, c):
        return slots[0], 0.5 * (slots[1] + w)


class Halved(NamedTuple):
    """Half the way of another optimizer."""

    inner: tuple
    share: float = 0.5
    wraps = "inner"
    slot_exponents = (1,)
    n_coefficients = 0
    linear = False

    def coefficients(self, rates, sizes, memory):
        return self.inner.coefficients(rates, sizes, memory)

    def update(self, w, g, slots, c):
        before = w
        w, inner, step = update(self.inner, w, g, slots[:-1], c)
        return before + self.share * (w - before), (*inner, g), self.share * step
