"""Losses: a dict from the name of the parameter `loss` to the part.

A pointwise loss is the formula of one raw output: ``value(raw, y)`` and ``gradient(raw, y)``. A row-wise one takes the raw
outputs of a row together: ``value_gradient(raw, y, out)``; the losses of several outputs are made of pointwise ones.
What else a loss may bring, and what holds otherwise, is listed in `skminibatch.contract.kinds` (``LOSS``, ``ROWWISE_LOSS``):
``curvature``, ``task``, ``link``, ``second_derivative`` for diagnostics, ``probability`` where it gives one, ...
"""

from skminibatch.losses.logistic import Logistic, Softmax
from skminibatch.losses.margin import Hinge, ModifiedHuber, Perceptron, SquaredHinge
from skminibatch.losses.multiple import EachOutput, OneVsRest
from skminibatch.losses.regression import (
    EpsilonInsensitive,
    Huber,
    Poisson,
    Quantile,
    SquaredEpsilonInsensitive,
    SquaredError,
)

LOSSES = {
    "hinge": Hinge,
    "squared_hinge": SquaredHinge,
    "log_loss": Logistic,
    "modified_huber": ModifiedHuber,
    "perceptron": Perceptron,
    "squared_error": SquaredError,
    "huber": Huber,
    "epsilon_insensitive": EpsilonInsensitive,
    "squared_epsilon_insensitive": SquaredEpsilonInsensitive,
    "poisson": Poisson,
    "quantile": Quantile,
}
ROWWISE_LOSSES = {"log_loss": Softmax}

__all__ = [
    "LOSSES",
    "ROWWISE_LOSSES",
    "EachOutput",
    "EpsilonInsensitive",
    "Hinge",
    "Huber",
    "Logistic",
    "ModifiedHuber",
    "OneVsRest",
    "Perceptron",
    "Poisson",
    "Quantile",
    "Softmax",
    "SquaredEpsilonInsensitive",
    "SquaredError",
    "SquaredHinge",
]
