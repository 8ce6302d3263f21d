"""Margin losses: `y` is -1 or +1 and the loss depends on ``y * raw``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.kinds import declares
from skminibatch.contract.verbs import where


@declares(curvature=None, task="classification")
class Hinge(NamedTuple):
    """``max(0, 1 - y raw)``, the loss of the support vector machine (Cortes and Vapnik 1995)."""

    def value(self, raw, y):
        return np.maximum(0.0, 1.0 - y * raw)

    def gradient(self, raw, y):
        return where(y * raw <= 1.0, -y, 0.0)

    def second_derivative(self, raw, y):
        return np.zeros_like(raw)


@declares(curvature=2.0, task="classification")
class SquaredHinge(NamedTuple):
    """``max(0, 1 - y raw)^2``."""

    def value(self, raw, y):
        margin = np.maximum(0.0, 1.0 - y * raw)
        return margin * margin

    def gradient(self, raw, y):
        return -2.0 * y * np.maximum(0.0, 1.0 - y * raw)

    def second_derivative(self, raw, y):
        return where(y * raw < 1.0, 2.0, 0.0)


@declares(curvature=None, task="classification")
class Perceptron(NamedTuple):
    """``max(0, -y raw)`` (Rosenblatt 1958); a raw output of zero counts as an error, so that learning can start."""

    def value(self, raw, y):
        return np.maximum(0.0, -y * raw)

    def gradient(self, raw, y):
        return where(y * raw <= 0.0, -y, 0.0)

    def second_derivative(self, raw, y):
        return np.zeros_like(raw)


@declares(curvature=2.0, task="classification")
class ModifiedHuber(NamedTuple):
    """``max(0, 1 - y raw)^2`` above ``y raw = -1``, its tangent below (Zhang 2004); gives probabilities."""

    def value(self, raw, y):
        z = y * raw
        margin = np.maximum(0.0, 1.0 - z)
        return where(z >= -1.0, margin * margin, -4.0 * z)

    def gradient(self, raw, y):
        z = y * raw
        return where(z >= -1.0, -2.0 * y * np.maximum(0.0, 1.0 - z), -4.0 * y)

    def second_derivative(self, raw, y):
        return where(np.abs(y * raw) < 1.0, 2.0, 0.0)

    def probability(self, raw):
        return (np.clip(raw, -1, 1) + 1) / 2
