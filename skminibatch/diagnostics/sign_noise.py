"""The noise of gradients in the norm of steps by signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from skminibatch.diagnostics._sample import Record, Sample, diagnostic
from skminibatch.models.gradients import Gradients
from skminibatch.statistics.gradients import inverted, jackknife


@dataclass(frozen=True, repr=False)
class SignNoiseScale(Record):
    """The noise scale of gradients for steps by signs; see `sign_noise_scale`. The interval is that of `noise_scale`.

    Attributes
    ----------
    noise_scale : float
        ``(|sigma|_1 / |G|_1)^2``, in rows.
    deviation_norm : float
        ``|sigma|_1``, the sum over the coordinates of the standard deviation of the gradient of one row.
    gradient_norm : float
        ``|G|_1``, the sum of the absolute coordinates of the gradient of the objective.
    """

    noise_scale: float
    deviation_norm: float
    gradient_norm: float

    def noise_to_signal(self, batch_size: ArrayLike) -> np.ndarray:
        """Bound of ``E |g_B - G|_1 / |G|_1`` for batches of b independent rows, ``sqrt(noise_scale / b)``."""
        return np.sqrt(self.noise_scale / np.asarray(batch_size, float))


class _Moments(NamedTuple):
    """Observations, their mean gradient (p,), and the sums (p,) of the squared distances from it."""

    n_observations: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, gradients: Gradients) -> Self:
        """Those of the rows."""
        size = gradients.model.observation_size
        count = len(gradients.rows) // size
        if count == 1:
            mean = gradients.loss_gradient()
            return cls(count, mean, np.zeros_like(mean))
        mean, variance = gradients.moments()
        return cls(count, mean, variance * (count if size == 1 else (count - 1) / size))

    def without(self, some: Self) -> Self:
        """Those of the others."""
        left = self.n_observations - some.n_observations
        shift = (some.mean - self.mean) * some.n_observations / left
        squares = self.squares - some.squares - shift**2 * left * self.n_observations / some.n_observations
        return type(self)(left, self.mean - shift, np.maximum(squares, 0.0))

    def norms(self, sample: Sample, penalty: np.ndarray) -> tuple[float, float]:
        """``(|G|_1, |sigma|_1)``."""
        per_row = sample.model.observation_size * (1.0 - 1.0 / sample.n_rows) / (self.n_observations - 1.0)
        return float(np.abs(self.mean + penalty).sum()), float(np.sqrt(per_row * self.squares).sum())


@diagnostic()
def sign_noise_scale(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> SignNoiseScale:
    """The noise scale for steps by the signs of the gradient, as Adam's nearly are.

    `gradient_noise_scale` compares the noise of a batch with its gradient in the norm of SGD. A step by signs is the steepest
    descent in the largest coordinate, whose dual norm is the sum of the absolute coordinates. In that norm, the noise scale is
    ``(|sigma|_1 / |G|_1)^2`` with the standard deviation sigma of each coordinate of the gradient of a row and the gradient G
    of the objective: a batch of that many rows has ``E |g_B - G|_1 <= |G|_1``.

    Parameters
    ----------
    {rows}
    {sampling}

    Returns
    -------
    record : SignNoiseScale
        With all rows, ``noise_scale`` is that of these rows, exactly, and the interval is one for the population from which
        they come. The interval has no upper end where the gradient may be zero; the noise scale is infinite where it is zero.

    Raises
    ------
    ValueError
        For fewer than 4 rows, and for invalid input.

    Notes
    -----
    With some of the rows, ``|G|_1`` is that of their mean gradient: noise makes it longer, so that the noise scale is too
    small, by less the more rows there are. The square norm of `gradient_noise_scale` has an unbiased estimate, this norm has
    none. The interval is a jackknife over micro-batches of ``|G|_1 / |sigma|_1``.

    References
    ----------
    Naganuma, Gupta, Briki, Mitliagkas, Rish, Raman and Shi, Adaptive batch sizes using non-Euclidean gradient noise scales for
    stochastic sign and spectral descent, ICML 2026, arXiv:2602.03001.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import sign_noise_scale
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> noise = sign_noise_scale(MiniBatchSGDClassifier(solver="adam"), scale(X), y, random_state=0)
    >>> noise.confidence_interval[0] < noise.noise_scale < noise.confidence_interval[1]
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    penalty, whole = sample.gradients.penalty_gradient(), _Moments.of(sample.gradients)
    gradient, deviation = whole.norms(sample, penalty)
    interval, scale = (0.0, 0.0), 0.0
    if deviation > 0:
        groups = (_Moments.of(sample.gradients.on(rows)) for rows in sample.micro_batches())
        norms = np.array([whole.without(group).norms(sample, penalty) for group in groups])
        low, high = inverted(*jackknife(norms[:, 0] / norms[:, 1], gradient / deviation, confidence_level, sample.left))
        interval = low**2, high**2
        scale = (deviation / gradient) ** 2 if gradient > 0 else np.inf
    return SignNoiseScale(*sample.facts(interval, confidence_level), scale, deviation, gradient)
