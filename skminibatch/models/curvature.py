"""How curved the losses of rows are: bounds, curvatures at given raw outputs, and the curvature of a loss with a kink.

A loss with a kink has no curvature, but its expectation has: for residuals with the density f, that of the absolute loss is
``2 f(0)``. It is measured as the slope of the mean derivative over a width around the raw outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch import backends
from skminibatch.backends import base
from skminibatch.contract.kinds import LOSS, InvalidPart, declared
from skminibatch.contract.typing import AnyPart
from skminibatch.contract.verbs import gradient, hessian_product, stiffness

# Of its bound, what the curvature of a row counts as at least when a rate follows it. Where curvatures change little on the way,
# next to nothing will do; where they do not, as those of Huber's loss, the objective rises, and they count for more.
LEAST, CAUTIOUS = 1e-3, 0.05
MOST_OUTPUTS = 16  # whose second derivatives are computed one by one; bounds serve for more of them
WIDTH = 1.0  # over the fifth root of the number of rows: around a kink, of the typical residual
WIDENINGS = 20  # of the width by two, where no residual is near a kink


def has_kink(loss: AnyPart) -> bool:
    """Whether the derivative of a loss jumps, so that its second derivative has no bound."""
    return declared(loss).curvature is None and not declared(loss).brings("stiffness")


def is_steep(loss: AnyPart) -> bool:
    """Whether there is a second derivative that has no bound."""
    return declared(loss).curvature is None and not has_kink(loss)


def has_second_derivative(loss: AnyPart, y: np.ndarray, raw: np.ndarray) -> bool:
    """Whether a loss brings its second derivative, which a custom one need not."""
    try:
        hessian_product(loss, raw[:1], y[:1], np.zeros_like(raw[:1]))
    except InvalidPart:
        return False
    return True


def curvature_bounds(loss: AnyPart, y: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Bounds of the second derivatives of the losses of some rows (n,), at raw outputs (n, K) or at constant ones (K,)."""
    if declared(loss).curvature is not None or not declared(loss).brings("stiffness"):
        return np.full(len(y), stiffness(loss, raw[0], y[0]))
    raw = np.broadcast_to(raw, (len(y), raw.shape[-1]))
    if y.ndim == 1:
        return stiffness(loss, raw[:, 0], y)
    return np.array([stiffness(loss, *row) for row in zip(raw, y, strict=True)])


class Curvatures(NamedTuple):
    """Of the losses of some rows at their raw outputs.

    ``largest`` (n,) bounds the eigenvalues of the second derivatives of each row; ``flattest`` is the least mean of them over
    the rows, of one output alone (NaN: not measured).
    """

    largest: np.ndarray
    flattest: float


def curvatures(loss: AnyPart, y: np.ndarray, raw: np.ndarray, weights: np.ndarray, bounds: np.ndarray) -> Curvatures:
    """Those at raw outputs (n, K), where their bounds (n,) are known; the mean is that of weighted losses."""
    raw, n_outputs = raw.astype(np.float64), raw.shape[1]
    if has_kink(loss) or n_outputs > MOST_OUTPUTS or not has_second_derivative(loss, y, raw):
        return Curvatures(bounds, np.nan)
    largest, means = np.zeros(len(raw)), []
    for k in range(n_outputs):
        second = second_derivatives(loss, raw, y, k)
        means.append(float(np.abs(second[:, k]) @ weights) / len(raw))
        # no eigenvalue exceeds the largest sum of a row of the matrix
        largest = np.maximum(largest, np.abs(second).sum(axis=1))
    return Curvatures(np.minimum(largest, bounds), min(means))


def second_derivatives(loss: AnyPart, raw: np.ndarray, y: np.ndarray, k: int, weights=1.0) -> np.ndarray:
    """Second derivatives of the weighted losses of some rows by raw output `k` and each output, (n, K)."""
    direction = np.zeros(raw.shape)
    direction[:, k] = weights
    return hessian_product(loss, raw.astype(np.float64, copy=False), y, direction)


def typical_curvature(loss: AnyPart, y: np.ndarray) -> float:
    """One over the typical deviation of y from its constant prediction, for a regression by a loss with a kink; else 1."""
    if not has_kink(loss) or declared(loss).task != "regression":
        return 1.0
    return float(1.0 / typical_deviations(y).min())


def slope_curvature(loss: AnyPart, scale: np.ndarray) -> np.ndarray:
    """The slope of the derivative of a pointwise regression loss over typical deviations (K,): what stands for its curvature.

    A loss may be flat where y is far off, as Huber's is. Where it is insensitive to such deviations, that over larger ones.
    """
    nothing, unit = np.zeros(len(scale)), np.zeros(len(scale))
    for far in scale * 2.0 ** np.arange(WIDENINGS)[:, None]:
        unit = (gradient(loss, far, nothing) - gradient(loss, -far, nothing)) / (2.0 * far)
        if np.all(unit > 0):
            break
    return np.where(unit > 0, unit, 1.0)


def typical_deviations(y: np.ndarray) -> np.ndarray:
    """The median deviation of each column of y from its median: a few gross errors do not matter.

    Where half of the deviations are zero, that of the others; 1 where all are.
    """
    y = y.reshape(len(y), -1)
    deviations = np.abs(y - np.median(y, axis=0))
    return np.array([_median_of_positive(column) for column in deviations.T])


def _median_of_positive(deviations: np.ndarray) -> float:
    middle = np.median(deviations)
    if middle > 0:
        return float(middle)
    positive = deviations[deviations > 0]
    return float(np.median(positive)) if positive.size else 1.0


def kink_curvature(loss: AnyPart, y: np.ndarray, raw: np.ndarray, weights: np.ndarray, typical: float) -> float:
    """The curvature of the expected loss at raw outputs (n, K) for a loss with a kink.

    The geometric mean of what is measured and of the typical one: the first knows how many rows are near the kink, which may
    be few at an extreme quantile, the second how far raw outputs may be moved.
    """
    raw = raw.astype(np.float64)
    width = WIDTH / typical / len(raw) ** 0.2
    for _ in range(WIDENINGS):
        slopes = (_derivatives(loss, raw + width, y) - _derivatives(loss, raw - width, y)) / (2.0 * width)
        measured = float(np.average(slopes, axis=0, weights=weights if weights.size else None).max())
        if measured > 0:
            return float(np.sqrt(measured * typical))
        width *= 2.0
    return typical


def _derivatives(loss: AnyPart, raw: np.ndarray, y: np.ndarray) -> np.ndarray:
    verbs = base if declared(loss).kind is LOSS else backends.choose("cpu")  # of one output, by array operations
    return verbs.residuals(loss, raw, y, np.empty(0))
