"""Derivatives of a loss in the mean over raw outputs that are known up to a normal error.

The mean over an error of deviation v is the loss, smoothed: what has a kink gets a curvature, ``E l'' = E[l'(raw + v z) z] / v``
by Stein's lemma, and where a loss is saturated its mean is not. Means are taken by the quadrature of Gauss and Hermite.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from skminibatch import backends
from skminibatch.contract.kinds import LOSS, ROWWISE_LOSS, declared
from skminibatch.contract.typing import AnyPart
from skminibatch.contract.verbs import gradient, second_derivative, value
from skminibatch.models.curvature import has_kink, has_second_derivative, is_steep, second_derivatives

BY_SLOPE, SMOOTH = 9, 3  # nodes of the quadrature


class RowLosses(NamedTuple):
    """The losses of some rows, as functions of raw outputs (n, K)."""

    loss: AnyPart
    y: np.ndarray
    one: AnyPart | None  # the loss of one output, of which the loss is the sum, and the targets of each output
    targets: np.ndarray

    @classmethod
    def of(cls, loss: AnyPart, y: np.ndarray, n_outputs: int) -> RowLosses:
        """Those of a loss, by the targets as encoded."""
        if declared(loss).kind is LOSS:
            return cls(loss, y, loss, y[:, None])
        if not is_separable(loss):
            return cls(loss, y, None, y)
        return cls(loss, y, *declared(loss).separated(y, n_outputs))

    def sum(self, raw: np.ndarray, weights: np.ndarray) -> float:
        """Weighted sum."""
        if self.one is not None:
            return float(weights @ value(self.one, raw, self.targets).sum(axis=1))
        n_outputs = raw.shape[1]
        evaluate = backends.choose("cpu").loss_dense  # of rows that are their own raw outputs
        return evaluate(self.loss, raw, self.y, weights, np.empty(0, np.int64), np.eye(n_outputs), np.zeros(n_outputs))

    def derivatives(self, raw: np.ndarray) -> np.ndarray:
        """First derivatives by the raw outputs (n, K)."""
        if self.one is not None:
            return gradient(self.one, raw, self.targets)
        return backends.choose("cpu").residuals(self.loss, raw, self.y, np.empty(0))

    def expected_derivatives(
        self, raw: np.ndarray, deviations: np.ndarray, by_slope: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivatives (n, K), in the mean over normal errors of given deviations (n, K).

        `by_slope`: the second ones by the first ones over the deviations. Of outputs that depend on each other, as those of
        softmax, errors are left out.
        """
        if self.one is None:
            own = [second_derivatives(self.loss, raw, self.y, k)[:, k] for k in range(raw.shape[1])]
            return self.derivatives(raw), np.stack(own, axis=1)
        nodes, shares = _quadrature(BY_SLOPE if by_slope else SMOOTH)
        around = raw + nodes * deviations
        firsts = gradient(self.one, around, self.targets)
        if by_slope:
            second = np.tensordot(shares, nodes * firsts, 1) / deviations
        else:
            second = np.tensordot(shares, second_derivative(self.one, around, self.targets), 1)
        return np.tensordot(shares, firsts, 1), np.maximum(second, 0.0)

    def are_exponential(self) -> bool:
        """Whether second derivatives are exponentials of the raw output, times what may depend on the row."""
        if self.one is None or not is_steep(self.loss):
            return False
        raw = np.zeros_like(self.targets, np.float64)
        at_zero, at_one = (second_derivative(self.one, each, self.targets) for each in (raw, raw + 1.0))
        return np.allclose(at_one, np.e * at_zero)

    def best_shift(self, raw: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What raw outputs (n, K) have to be moved by for the least sum, where losses are exponentials: to the mean of y."""
        means = weights @ second_derivative(self.one, raw, self.targets)
        events = means - weights @ gradient(self.one, raw, self.targets)
        return np.log(np.where(events > 0, events, means) / means)


@cache
def _quadrature(n_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n, 1, 1) and their shares (n,) in the mean over a standard normal variable."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return nodes[:, None, None], weights / weights.sum()


def is_separable(loss: AnyPart) -> bool:
    """Whether the loss is a sum over the outputs of a loss of one."""
    kind = declared(loss).kind
    return kind is LOSS or (kind is ROWWISE_LOSS and declared(loss).brings("separated"))


def has_expected_curvature(loss: AnyPart, y: np.ndarray, raw: np.ndarray) -> bool:
    """Whether second derivatives are known, if only in the mean."""
    return is_separable(loss) if has_kink(loss) else has_second_derivative(loss, y, raw)
