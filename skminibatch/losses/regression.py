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

    cuda = {
        "value": "return T(0.5) * (raw - y) * (raw - y);",
        "gradient": "return raw - y;",
    }

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
    cuda = {
        "value": """
            T r = abs(raw - y);
            return r <= epsilon ? T(0.5) * r * r : epsilon * (r - T(0.5) * epsilon);
        """,
        "gradient": """
            T r = raw - y;
            return r > epsilon ? epsilon : r < -epsilon ? -epsilon : r;
        """,
    }

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
    cuda = {
        "value": """
            T excess = abs(raw - y) - epsilon;
            return excess < T(0) ? T(0) : excess;
        """,
        "gradient": """
            T r = raw - y;
            return abs(r) > epsilon ? (r > T(0) ? T(1) : T(-1)) : T(0);
        """,
    }

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
    cuda = {
        "value": """
            T excess = abs(raw - y) - epsilon;
            return excess < T(0) ? T(0) : excess * excess;
        """,
        "gradient": """
            T r = raw - y, excess = abs(r) - epsilon;
            return excess < T(0) ? T(0) : (r > T(0) ? T(2) : T(-2)) * excess;
        """,
    }

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
    cuda = {
        "value": """
            T r = y - raw;
            return r > T(0) ? quantile * r : (quantile - T(1)) * r;
        """,
        "gradient": """
            T r = y - raw;
            return r > T(0) ? -quantile : r < T(0) ? T(1) - quantile : T(0);
        """,
    }

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

    cuda = {
        "value": """
            T log_y = log(y > T(0) ? y : T(1));
            return exp(raw) - y * raw + y * log_y - y;
        """,
        "gradient": "return exp(raw) - y;",
        "stiffness": """
            T mean = exp(raw);
            return mean + abs(mean - y);
        """,
    }

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
        return np.log(mean) if mean > 0 else 0.0
