"""Losses of a residual ``raw - y``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ZERO, INSIDE
from skminibatch.contract.kinds import declares
from skminibatch.contract.verbs import where


@declares(curvature=1.0, task="regression")
class SquaredError(NamedTuple):
    """``(raw - y)^2 / 2``."""

    def value(self, raw, y):
        return 0.5 * (raw - y) * (raw - y)

    def gradient(self, raw, y):
        return raw - y

    def second_derivative(self, raw, y):
        return np.ones_like(raw)

    def baseline(self, y, weights):
        return np.average(y, weights=weights)


@declares(domains={"epsilon": AT_LEAST_ZERO}, curvature=1.0, task="regression")
class Huber(NamedTuple):
    """``r^2 / 2`` for ``|r| <= epsilon``, else ``epsilon |r| - epsilon^2 / 2`` (Huber 1964)."""

    epsilon: float = 0.1

    def value(self, raw, y):
        r = np.abs(raw - y)
        return where(r <= self.epsilon, 0.5 * r * r, self.epsilon * (r - 0.5 * self.epsilon))

    def gradient(self, raw, y):
        return np.minimum(self.epsilon, np.maximum(-self.epsilon, raw - y))

    def second_derivative(self, raw, y):
        return where(np.abs(raw - y) <= self.epsilon, 1.0, 0.0)

    def baseline(self, y, weights):
        return np.quantile(y, 0.5, weights=weights, method="inverted_cdf")


@declares(domains={"epsilon": AT_LEAST_ZERO}, curvature=None, task="regression")
class EpsilonInsensitive(NamedTuple):
    """``max(0, |r| - epsilon)``, the loss of support vector regression (Vapnik 1995)."""

    epsilon: float = 0.1

    def value(self, raw, y):
        return np.maximum(0.0, np.abs(raw - y) - self.epsilon)

    def gradient(self, raw, y):
        r = raw - y
        return where(np.abs(r) > self.epsilon, np.sign(r), 0.0)

    def second_derivative(self, raw, y):
        return np.zeros_like(raw)

    def baseline(self, y, weights):
        return np.quantile(y, 0.5, weights=weights, method="inverted_cdf")


@declares(domains={"epsilon": AT_LEAST_ZERO}, curvature=2.0, task="regression")
class SquaredEpsilonInsensitive(NamedTuple):
    """``max(0, |r| - epsilon)^2``."""

    epsilon: float = 0.1

    def value(self, raw, y):
        excess = np.maximum(0.0, np.abs(raw - y) - self.epsilon)
        return excess * excess

    def gradient(self, raw, y):
        r = raw - y
        return 2.0 * np.sign(r) * np.maximum(0.0, np.abs(r) - self.epsilon)

    def second_derivative(self, raw, y):
        return where(np.abs(raw - y) > self.epsilon, 2.0, 0.0)

    def baseline(self, y, weights):
        return np.average(y, weights=weights)


@declares(domains={"quantile": INSIDE}, curvature=None, task="regression")
class Quantile(NamedTuple):
    """``max(quantile (y - raw), (quantile - 1) (y - raw))``, the pinball loss (Koenker and Bassett 1978)."""

    quantile: float = 0.5

    def value(self, raw, y):
        r = y - raw
        return np.maximum(self.quantile * r, (self.quantile - 1.0) * r)

    def gradient(self, raw, y):
        r = y - raw
        return where(r > 0.0, -self.quantile, where(r < 0.0, 1.0 - self.quantile, 0.0))

    def second_derivative(self, raw, y):
        return np.zeros_like(raw)

    def baseline(self, y, weights):
        return np.quantile(y, self.quantile, weights=weights, method="inverted_cdf")


@declares(curvature=None, task="regression", link="log", targets=AT_LEAST_ZERO)
class Poisson(NamedTuple):
    """``exp(raw) - y raw + (y log y - y)``, half the deviance of Poisson counts with mean ``exp(raw)``; `y` >= 0.

    The second derivative ``exp(raw)`` has no bound. What limits a step is ``exp(raw) + |exp(raw) - y|``, so that no
    single row moves its own raw output by more than one.
    """

    def value(self, raw, y):
        log_y = np.log(where(y > 0.0, y, 1.0))
        return np.exp(raw) - y * raw + y * log_y - y

    def gradient(self, raw, y):
        return np.exp(raw) - y

    def second_derivative(self, raw, y):
        return np.exp(raw)

    def stiffness(self, raw, y):
        mean = np.exp(raw)
        return mean + np.abs(mean - y)

    def baseline(self, y, weights):
        mean = np.average(y, weights=weights)
        return np.log(mean) if mean > 0 else -np.log(len(y))  # of zeros alone: one event would have been seen
