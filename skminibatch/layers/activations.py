"""Activations: the formula of one unit and its derivative.

``activate(z)`` is the formula and ``slope(z, a)`` its derivative at z, given ``a = activate(z)``. Initial weights have the
variance ``spread / fan_in`` or, where ``balanced``, ``2 spread / (fan_in + fan_out)``, which treats forward and backward signals
alike: ``spread`` is about one over the mean square of the slope, so that signals neither fade nor grow from layer to layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import FINITE, POSITIVE
from skminibatch.contract.kinds import declares
from skminibatch.contract.verbs import exp_of_negative, log_of_one_plus, normal_share, positive, where


@declares(spread=1.0, balanced=True)
class Identity(NamedTuple):
    """``z``."""

    def activate(self, z):
        return z

    def slope(self, z, a):
        return 1.0


@declares(spread=16.0, balanced=True)
class Sigmoid(NamedTuple):
    """``1 / (1 + exp(-z))``; the slope at zero is a quarter, so that initial weights are four times as large."""

    def activate(self, z):
        e = exp_of_negative(where(positive(z), -z, z))
        return where(positive(z), 1.0, e) / (1.0 + e)

    def slope(self, z, a):
        return a * (1.0 - a)


# in single precision, the formula loses the digits of a small z
@declares(spread=1.0, balanced=True, cuda={"activate": "return tanh(z);"})
class Tanh(NamedTuple):
    """``tanh(z)``."""

    def activate(self, z):
        e = exp_of_negative(where(positive(z), -2.0 * z, 2.0 * z))
        return where(positive(z), 1.0 - e, e - 1.0) / (1.0 + e)

    def slope(self, z, a):
        return 1.0 - a * a


@declares(spread=1.0, balanced=True)
class ReLU(NamedTuple):
    """``max(z, 0)`` (Nair and Hinton 2010); the slope at zero is zero, and NaN stays NaN.

    Initial weights are scikit-learn's: a signal is halved in each layer, which a deep network needs a normalization for, but
    networks of one to three layers end better than with those that keep it.
    """

    def activate(self, z):
        return where(positive(-z), 0.0, z)

    def slope(self, z, a):
        return where(positive(z), 1.0, 0.0)


@declares(domains={"leak": FINITE}, balanced=False)
class LeakyReLU(NamedTuple):
    """``z`` above zero, ``leak z`` below (Maas, Hannun and Ng 2013)."""

    leak: float = 0.01

    @property
    def spread(self) -> float:
        """One over the mean square of the slope (He, Zhang, Ren and Sun 2015)."""
        return 2.0 / (1.0 + self.leak**2)

    def activate(self, z):
        return where(positive(z), z, self.leak * z)

    def slope(self, z, a):
        return where(positive(z), 1.0, self.leak)


# in single precision, the formula loses the digits of a small z
@declares(
    domains={"alpha": POSITIVE},
    spread=1.5,
    balanced=False,
    cuda={"activate": "return z > T(0) ? z : alpha * expm1(z);"},
)
class ELU(NamedTuple):
    """``z`` above zero, ``alpha (exp(z) - 1)`` below (Clevert, Unterthiner and Hochreiter 2016)."""

    alpha: float = 1.0

    def activate(self, z):
        return where(positive(z), z, self.alpha * (exp_of_negative(where(positive(z), 0.0 * z, z)) - 1.0))

    def slope(self, z, a):
        return where(positive(z), 1.0, a + self.alpha)


@declares(spread=2.0, balanced=False)
class GELU(NamedTuple):
    """``z Phi(z)`` with the normal distribution function (Hendrycks and Gimpel 2016); no approximation by tanh."""

    def activate(self, z):
        return z * normal_share(z)

    def slope(self, z, a):
        return normal_share(z) + z * np.exp(-0.5 * z * z) * 0.3989422804014327


@declares(spread=2.0, balanced=False)
class SiLU(NamedTuple):
    """``z / (1 + exp(-z))`` (Elfwing, Uchibe and Doya 2018; also called swish)."""

    def activate(self, z):
        e = exp_of_negative(where(positive(z), -z, z))
        return z * where(positive(z), 1.0, e) / (1.0 + e)

    def slope(self, z, a):
        e = exp_of_negative(where(positive(z), -z, z))
        share = where(positive(z), 1.0, e) / (1.0 + e)
        return share + a * (1.0 - share)


@declares(spread=2.0, balanced=False)
class Softplus(NamedTuple):
    """``log(1 + exp(z))`` (Dugas et al. 2001)."""

    def activate(self, z):
        return where(positive(z), z, 0.0) + log_of_one_plus(exp_of_negative(where(positive(z), -z, z)))

    def slope(self, z, a):
        e = exp_of_negative(where(positive(z), -z, z))
        return where(positive(z), 1.0, e) / (1.0 + e)
