"""Losses: a dict from the name of the parameter `loss` to the part.

A pointwise loss has ``value(raw, y)``, ``gradient(raw, y)`` and, for diagnostics, ``second_derivative(raw, y)``; a row-wise
one ``value_gradient(raw, y, out)`` of a row and ``hessian_product(raw, y, direction)`` of several.
Class data: ``curvature``, an upper bound of the second derivative, or None where there is none; ``task``;
``link`` ("log" where predictions are ``exp(raw)``). On a GPU, the formulas of one row are translated
to CUDA C++; one that has no translation runs in array operations (see ``backends/gpu/source.py``).
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
