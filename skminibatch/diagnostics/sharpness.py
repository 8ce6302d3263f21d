"""Flat and sharp minima: how fast the objective rises around the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from skminibatch.diagnostics._hessian import largest_eigenvalues
from skminibatch.diagnostics._sample import Record, Sample, diagnostic

ROUNDING = 1e-12  # of the size of the gradients of rows: what is smaller is zero
MOST_CLIMBS = 100  # from corner to corner; a few are enough

_POSITIVE = Interval(Real, 0, None, closed="neither")


@dataclass(frozen=True, repr=False)
class Sharpness(Record):
    """How fast the objective rises around the parameters; see `sharpness`.

    The interval is that of `largest_eigenvalue`.

    Attributes
    ----------
    largest_eigenvalue : float
        ``lambda_max`` of the Hessian H.
    trace : float
        ``tr(H)``.
    ascent : float
        ``F(w + rho g / |g|) - F(w)``, the rise at the distance rho along the gradient g, measured.
    predicted_ascent : float
        ``rho |g| + rho^2 g' H g / (2 |g|^2)``, the same to second order.
    ascent_at_minimum : float
        ``rho^2 lambda_max / 2``, to second order the largest rise within rho of a minimum.
    box_sharpness : float
        ``100 (max F(w + z) - F(w)) / (1 + F(w))`` over the box ``|z_i| <= epsilon (|w_i| + 1)``, per cent.
    """

    largest_eigenvalue: float
    trace: float
    ascent: float
    predicted_ascent: float
    ascent_at_minimum: float
    box_sharpness: float


@diagnostic(rho=[_POSITIVE], epsilon=[_POSITIVE])
def sharpness(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    rho: float = 0.05,
    epsilon: float = 1e-3,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> Sharpness:
    """Whether the parameters lie in a flat or in a sharp region: the rise of the objective around them.

    Three measures: the eigenvalues of the Hessian, by the Lanczos method on exact products; the rise along the gradient, as
    in sharpness-aware minimisation; and the largest rise in a small box, as in Keskar et al. (2017).

    Parameters
    ----------
    {rows}
    rho : float, default=0.05
        Euclidean distance of the rise along the gradient.
    epsilon : float, default=1e-3
        Half a side of the box, relative to ``|w_i| + 1``.
    {sampling}

    Returns
    -------
    record : Sharpness
        Where the gradient vanishes, up to rounding, the first eigenvector of the Hessian takes its place, upward.

    Raises
    ------
    ValueError
        For fewer than 4 rows, and for invalid input.

    Notes
    -----
    No reparametrisation leaves these numbers as they are: features in another unit make the same predictions with another
    sharpness (Dinh et al. 2017), so compare models on the same features only. Small batches tend to end in flatter regions;
    that these *therefore* predict better does not follow, and a sharpness says nothing of the error on new rows.

    The largest rise in the box is sought among its corners, where a convex objective has it, from corner to corner along the
    gradient, from several starts: it may be larger, above all of a network. An l1 penalty is left out throughout. The trace is
    exact but for networks of more than 256 parameters: there it is the mean of ``v' H v`` over 128 random vectors v of signs.

    References
    ----------
    Keskar, Mudigere, Nocedal, Smelyanskiy and Tang, On large-batch training for deep learning, ICLR 2017,
    arXiv:1609.04836, metric 2.1. Foret, Kleiner, Mobahi and Neyshabur, Sharpness-aware minimization, ICLR 2021,
    arXiv:2010.01412. Dinh, Pascanu, Bengio and Bengio, Sharp minima can generalize for deep nets, ICML 2017,
    arXiv:1703.04933.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import sharpness
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> start = sharpness(MiniBatchSGDClassifier(), scale(X), y)
    >>> fitted = sharpness(MiniBatchSGDClassifier(random_state=0).fit(scale(X), y), scale(X), y)
    >>> fitted.largest_eigenvalue < start.largest_eigenvalue  # most rows are far from the boundary by now
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    values, top, interval = largest_eigenvalues(sample, 1, confidence_level)
    landscape = _Landscape(sample)
    value, gradient = landscape.value(landscape.center), landscape.gradient(landscape.center)
    size = float(np.linalg.norm(gradient))
    if size <= ROUNDING * landscape.size_of_row_gradients:
        size, directions = 0.0, [top, -top]
    else:
        directions = [gradient / size]
    curvature = float(sample.gradients.hessian() @ directions[0] @ directions[0])
    sides = epsilon * (np.abs(landscape.center) + 1.0)
    highest = max(landscape.climbed(sides, start) for start in (gradient, -gradient, top, -top))
    return Sharpness(
        *sample.facts(interval, confidence_level),
        float(values[0]),
        sample.gradients.hessian_trace(),
        max(landscape.value(landscape.center + rho * direction) for direction in directions) - value,
        float(rho * size + rho**2 * curvature / 2.0),
        float(rho**2 * values[0] / 2.0),
        100.0 * (highest - value) / (1.0 + value),
    )


class _Landscape:
    """The smooth part of the objective of a sample, as a function of the parameters in the coordinates of the solver."""

    def __init__(self, sample: Sample):
        self.gradients, self.center = sample.gradients, sample.gradients.point

    @property
    def size_of_row_gradients(self) -> float:
        """Root mean square of the norms of the gradients of observations."""
        sums = self.gradients.statistics([self.gradients.rows])
        return float(np.sqrt(sums.squares.sum() / sums.sizes.sum()))

    def value(self, point: np.ndarray) -> float:
        return self.gradients.at(point).smooth_objective()

    def gradient(self, point: np.ndarray) -> np.ndarray:
        gradients = self.gradients.at(point)
        return gradients.loss_gradient() + gradients.penalty_gradient()

    def climbed(self, sides: np.ndarray, direction: np.ndarray) -> float:
        """The value at a corner of the box around the parameters from which no step along the gradient leads higher.

        A convex function is at least as large at the next corner, to which its gradient points, as at this one.
        """
        corner, best = np.where(direction < 0, -sides, sides), -np.inf
        for _ in range(MOST_CLIMBS):
            value = self.value(self.center + corner)
            if not value > best:
                break
            best = value
            corner = np.where(self.gradient(self.center + corner) < 0, -sides, sides)
        return max(best, self.value(self.center))
