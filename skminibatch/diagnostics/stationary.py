"""The noise of a constant step at a minimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from skminibatch.diagnostics._hessian import (
    Covariance,
    curvatures_along,
    frobenius_norm,
    hessian_for_products,
    noise_in,
    share_left,
    written_out,
    written_rows,
)
from skminibatch.diagnostics._sample import Record, Sample, diagnostic
from skminibatch.diagnostics.curvature import _COUNT, _RATE, ROUNDING
from skminibatch.diagnostics.improvement import changes_without_each
from skminibatch.statistics.gradients import jackknife, mean_without_each, sizes_of


@dataclass(frozen=True, repr=False)
class StationaryCovariance(Record):
    """The error around the optimum that a constant step leaves; see `stationary_covariance`.

    The interval is that of `excess_loss`.

    Attributes
    ----------
    excess_loss : float
        ``tr(H S) / 2``, by how much the objective exceeds its minimum in the mean.
    eigenvalues : ndarray of shape (p,)
        Of the Hessian, in falling order.
    noise : ndarray of shape (p,)
        Variance of the gradient of a row along each eigenvector.
    variances : ndarray of shape (p,)
        Stationary variance of the parameters along each eigenvector.
    covariance : ndarray of shape (p, p)
        S, for the coefficients and the intercept of each output, in the coordinates of the solver.
    temperature : float
        ``eta tr(C) / (2 b)``.
    """

    excess_loss: float
    eigenvalues: np.ndarray
    noise: np.ndarray
    variances: np.ndarray
    covariance: np.ndarray
    temperature: float


@diagnostic(learning_rate=[_RATE], batch_size=[_COUNT])
def stationary_covariance(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    learning_rate: float,
    batch_size: int = 64,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> StationaryCovariance:
    """Where SGD with a constant step comes to rest: the covariance of its parameters around the optimum.

    With the Hessian H, the covariance C of the gradients of rows, the step eta and batches of b independent rows, the
    stationary covariance S solves ``H S + S H - eta H S H = eta C / b``; along an eigenvector of both, its variance is
    ``eta c / (b lambda (2 - eta lambda))``. A smaller step and a larger batch shrink it alike.

    Parameters
    ----------
    {rows}
    learning_rate : float
        eta; below ``2 / lambda_max``.
    batch_size : int, default=64
        b.
    {sampling}

    Returns
    -------
    record : StationaryCovariance
        Infinite variances stand for flat directions with noise, and for those of negative curvature (of networks).

    Raises
    ------
    ValueError
        For a step that does not converge, more than 2,048 parameters, fewer than 4 rows, and invalid input.

    Notes
    -----
    H and C are taken where the estimator stands, which should be close to the optimum, and C as independent of the
    parameters: where the residuals themselves change much around the optimum (steps near the largest, few rows in a
    batch), the true covariance is larger.

    References
    ----------
    Mandt, Hoffman and Blei, Stochastic gradient descent as approximate Bayesian inference, JMLR 18, 2017. Liu, Ziyin and
    Ueda, Noise and fluctuation of finite learning rate stochastic gradient descent, ICML 2021, arXiv:2012.03636.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDRegressor
    >>> from skminibatch.diagnostics import stationary_covariance
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MiniBatchSGDRegressor(max_iter=50, random_state=0).fit(scale(X), y)
    >>> small, large = (
    ...     stationary_covariance(model, scale(X), y, learning_rate=0.01, batch_size=b) for b in (10, 100)
    ... )
    >>> round(small.excess_loss / large.excess_loss, 6)
    10.0
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    values, vectors = np.linalg.eigh(written_out(sample))
    values, vectors = values[::-1], vectors[:, ::-1]
    eigenvalues = np.where(np.abs(values) > ROUNDING * max(values[0], 0.0), values, 0.0)
    if learning_rate * values[0] >= 2.0:
        raise ValueError(
            f"learning_rate={learning_rate:g} is not stable: it must be below 2 / lambda_max = {2.0 / values[0]:.4g}."
        )
    values, groups = np.maximum(eigenvalues, 0.0), sample.micro_batches()
    noise, by_group = noise_in(sample, vectors, groups)
    sums = values[:, None] + values[None, :] - learning_rate * np.outer(values, values)
    settled = np.divide(learning_rate * noise / batch_size, sums, out=np.zeros_like(noise), where=sums > 0)
    share = np.where(values > 0, learning_rate / (2.0 * batch_size * (2.0 - learning_rate * values)), 0.0)
    covariance = vectors @ settled @ vectors.T
    drifting = (values == 0) & (np.diag(noise) > ROUNDING * np.trace(noise))  # nothing holds the parameters there
    reach = vectors[:, drifting] @ vectors[:, drifting].T
    covariance[np.abs(reach) > ROUNDING] = np.inf * np.sign(reach[np.abs(reach) > ROUNDING])
    return StationaryCovariance(
        *sample.facts(sample.interval_of_mean(by_group @ share, groups, confidence_level), confidence_level),
        float(np.diag(noise) @ share),
        eigenvalues,
        np.diag(noise).copy(),
        np.where(drifting, np.inf, np.diag(settled)),
        covariance,
        float(learning_rate * np.trace(noise) / (2.0 * batch_size)),
    )


@dataclass(frozen=True, repr=False)
class NoiseAnisotropy(Record):
    """How the noise of gradients lies to the curvature; see `noise_anisotropy`. The interval is that of `alignment`.

    Attributes
    ----------
    alignment : float
        ``p tr(H C) / (tr(H) tr(C))``: 1 for noise that is alike in all directions, more where it is larger along large
        curvature, p where both lie in one direction.
    cosine : float
        ``tr(H C) / (|H| |C|)``, 1 where the covariance is proportional to the Hessian.
    n_parameters : int
    """

    alignment: float
    cosine: float
    n_parameters: int


@diagnostic()
def noise_anisotropy(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> NoiseAnisotropy:
    """Whether the noise of gradients is larger where the objective is more curved.

    Noise that is aligned with the curvature leaves sharp minima sooner than noise of the same size in all directions.

    Parameters
    ----------
    {rows}
    {sampling}

    Returns
    -------
    record : NoiseAnisotropy

    Raises
    ------
    ValueError
        For an objective without curvature or without noise, fewer than 4 rows, and invalid input.

    Notes
    -----
    For more than 2,048 parameters (256 of a network) the Hessian is not written out: ``tr(H C) / tr(C)`` comes from the
    gradients of at most 1,024 of the rows (128 for a network), from which the interval follows, and the norms in the cosine
    from these rows and from products of the Hessian with 256 random vectors of signs (a standard error of at most one in 22
    of ``|H|``).

    References
    ----------
    Zhu, Wu, Yu, Wu and Ma, The anisotropic noise in stochastic gradient descent, ICML 2019, arXiv:1803.00195.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import noise_anisotropy
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> noise_anisotropy(MiniBatchSGDClassifier(), scale(X), y).alignment > 1
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    hessian, groups, p = hessian_for_products(sample.gradients), sample.micro_batches(), sample.model.n_parameters
    mean, rows_of_groups = sample.gradients.loss_gradient(), written_rows(sample, groups)
    of_groups = [np.mean(curvatures_along(sample, hessian, rows, mean), axis=1) for rows in rows_of_groups]
    parts = sample.per_row * np.array(of_groups)
    along, total = np.average(parts, axis=0, weights=sizes_of(groups))
    curvature = sample.gradients.hessian_trace()
    if total <= 0 or curvature <= 0:
        raise ValueError(
            "The objective has no curvature or its gradients have no noise: they have no common direction."
        )
    alignment = float(p * along / (curvature * total))
    along_without, total_without = mean_without_each(parts, groups).T
    noise = Covariance(sample, groups)
    _, change_along, change_of_curvature = changes_without_each(sample, groups, mean, noise)
    without_each = p * (along_without + change_along) / ((curvature + change_of_curvature) * total_without)
    low, high = jackknife(without_each, alignment, confidence_level, share_left(sample, groups))
    norms = frobenius_norm(hessian, sample.rng) * noise.frobenius_norm()
    return NoiseAnisotropy(
        *sample.facts((max(low, min(alignment, 0.0)), min(high, float(max(p, alignment)))), confidence_level),
        alignment,
        float(along / norms),
        p,
    )
