"""Scaling rules: how an explicit rate, meant for `base_batch_size` rows, follows the batch size.

``factor(batch_size, base_batch_size, statistic)`` is what the rate is multiplied with; the statistic of the gradients is the
one that the rule ``reads``, by its name in the state of training: the ``noise_scale`` ``tr(Sigma) / |G|^2`` of the last
epoch in which it was measured, or of the start, both for the rows of `fit` (on a stream, for the population that its rows come
from), the ``peak_batch_size`` of the start, or None. Rules that are ``for_adam`` hold for its normalised
steps; `AdamSDE` also moves the other hyper-parameters, by the optimizer's ``for_batches(k)``, and `AdamHalfLife` has the
optimizer move beta_2 with the size of each batch, by its ``in_rows(base)``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.kinds import declares


def _noise_ratio(batch_size, base_batch_size, noise_scale):
    """``(1 + S / b) / (1 + S / base)``: how much smaller the mean square of a larger batch's gradient is."""
    if np.isinf(noise_scale):
        return base_batch_size / batch_size
    return (1.0 + noise_scale / batch_size) / (1.0 + noise_scale / base_batch_size)


class LinearScaling(NamedTuple):
    """``k = b / base``: the same progress and the same noise a row (Goyal et al. 2017, arXiv:1706.02677)."""

    def factor(self, batch_size, base_batch_size, noise_scale):
        return batch_size / base_batch_size


class SquareRootScaling(NamedTuple):
    """``sqrt(k)``: the same variance of an update, rate^2 sigma^2 / b (Krizhevsky 2014, arXiv:1404.5997)."""

    def factor(self, batch_size, base_batch_size, noise_scale):
        return (batch_size / base_batch_size) ** 0.5


@declares(reads="noise_scale")
class AdaScale(NamedTuple):
    """``(1 + S / base) / (1 + S / b)``, from 1 (no noise) to k (nothing but noise) (Johnson et al. 2020).

    The best rates of two batch sizes stand in the same ratio (McCandlish et al. 2018, arXiv:1812.06162).
    """

    def factor(self, batch_size, base_batch_size, noise_scale):
        return 1.0 / _noise_ratio(batch_size, base_batch_size, noise_scale)


@declares(for_adam=True, reads="noise_scale")
class AdamUpdate(NamedTuple):
    """``sqrt((1 + S / b) / (1 + S / base))``: the same mean step of Adam, from ``1 / sqrt(k)`` to 1."""

    def factor(self, batch_size, base_batch_size, noise_scale):
        return _noise_ratio(batch_size, base_batch_size, noise_scale) ** 0.5


@declares(for_adam=True, reads="noise_scale")
class AdamExample(NamedTuple):
    """k times the rule of `AdamUpdate`: the same mean progress of Adam a row, from ``sqrt(k)`` to k."""

    def factor(self, batch_size, base_batch_size, noise_scale):
        return batch_size / base_batch_size * AdamUpdate().factor(batch_size, base_batch_size, noise_scale)


@declares(for_adam=True, moves_optimizer="for_batches")
class AdamSDE(NamedTuple):
    """``sqrt(k)``, with ``1 - beta`` k times as large (Malladi, Lyu, Panigrahi and Arora 2022, arXiv:2205.10287).

    Adam then follows the same stochastic differential equation for every batch size.
    """

    def factor(self, batch_size, base_batch_size, noise_scale):
        return (batch_size / base_batch_size) ** 0.5


@declares(for_adam=True, moves_optimizer="in_rows")
class AdamHalfLife(NamedTuple):
    """1, with ``beta_2^k``: the second moment has the same half-life in rows (Marek et al. 2025, arXiv:2507.07101).

    beta_2 is set for each step, so that the rule also serves schedules of the batch size. Unlike `AdamSDE`, it has a beta_2
    for every k; for small ``k (1 - beta_2)``, both are the same. beta_1 and the rate are not changed. In the paper the best
    rate grows far less than ``sqrt(k)``, by a factor of about 3 for k = 1024, and there is no formula for it. To combine the
    half-life with another rule, give the base to the solver: ``Adam(rows=64)``.
    """

    def factor(self, batch_size, base_batch_size, noise_scale):
        return 1.0


@declares(for_adam=True, reads="peak_batch_size")
class Surge(NamedTuple):
    """``(sqrt(P / base) + sqrt(base / P)) / (sqrt(P / b) + sqrt(b / P))``, the best rate of steps by signs (Li et al. 2024).

    It rises with the square root of b, has its peak at the peak batch size P, and falls beyond (arXiv:2405.14578); without a
    peak it is the square root of k.
    """

    def factor(self, batch_size, base_batch_size, peak_batch_size):
        return (base_batch_size / batch_size) ** 0.5 / _noise_ratio(batch_size, base_batch_size, peak_batch_size)


SCALING_RULES = {
    "linear": LinearScaling,
    "sqrt": SquareRootScaling,
    "adascale": AdaScale,
    "adam": AdamExample,
    "adam_update": AdamUpdate,
    "adam_sde": AdamSDE,
    "adam_half_life": AdamHalfLife,
    "surge": Surge,
}
