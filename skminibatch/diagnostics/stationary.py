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
from skminibatch.diagnostics._sample import Record, Sample, diagnostic, widened
from skminibatch.diagnostics._settled import MOST_WRITTEN, Draws, noise_of_motion, response, settled
from skminibatch.diagnostics.curvature import _COUNT, _RATE, ROUNDING
from skminibatch.diagnostics.improvement import curvatures_of_groups
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.statistics.gradients import jackknife, mean_without_each, sizes_of, standard_error
from skminibatch.statistics.tails import Tail, predicted_means


@dataclass(frozen=True, repr=False)
class StationaryCovariance(Record):
    """The error around the optimum that a constant step leaves; see `stationary_covariance`.

    The interval is that of `excess_loss`.

    Attributes
    ----------
    excess_loss : float
        ``tr(H S) / 2``, by how much the objective exceeds its minimum in the mean; in epochs, at the end of one.
    eigenvalues : ndarray of shape (p,)
        Of the Hessian, in falling order.
    noise : ndarray of shape (p,)
        Variance of the gradient of a row along each eigenvector.
    variances : ndarray of shape (p,)
        Stationary variance of the parameters along each eigenvector.
    covariance : ndarray of shape (p, p)
        S, for the coefficients and the intercept of each output, in the coordinates of the solver.
    temperature : float
        ``eta V / 2`` with the variance V of the gradient of a batch, ``tr(C) / b`` for independent rows, and in epochs
        ``tr(C) (n - b) / (b (n - 1))``.
    batches : {'independent', 'epochs'}
        Whether rows are taken as drawn independently, or as shared out among the batches of an epoch.
    """

    excess_loss: float
    eigenvalues: np.ndarray
    noise: np.ndarray
    variances: np.ndarray
    covariance: np.ndarray
    temperature: float
    batches: str


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

    With the Hessian H, the step eta, and batches of b independent rows, the stationary covariance S solves

    ``H S + S H - eta H S H = eta (C + M(S)) / b``

    with the covariance C of the gradients of rows at the optimum, and ``M(S) = E[A_i S A_i] - A S A`` what the motion of the
    parameters adds to it by the Hessians A_i of the losses of rows (multiplicative noise). Without M, the variance along an
    eigenvector of both is ``eta c / (b lambda (2 - eta lambda))``. A smaller step and a larger batch shrink it alike.

    With ``sampler='shuffle'``, the batches of an epoch have each row once, so that their noise has no sum. Then S is that at
    the end of an epoch: for small steps far below the other, and proportional to the third power of eta at last.

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
        For a step that does not converge, by itself or for the noise of batches of this size, more than 2,048 parameters,
        fewer than 4 rows, and invalid input.

    Notes
    -----
    H, C and A_i are taken where the estimator stands, which should be close to the optimum. For a quadratic loss and
    independent rows, S is then exact. M is left out for networks and for more than 256 parameters: there the true covariance
    is larger for steps near the largest and few rows in a batch.

    In epochs, with the T batches of each, S is exact to the first order of the noise,
    ``S_ij = eta^2 V_ij T cov_ij / (1 - (a_i a_j)^T)`` with ``V = C (n - b) / (b (n - 1))``, ``a_i = 1 - eta lambda_i`` and the
    sample covariance ``cov_ij`` of ``a_i^t`` and ``a_j^t`` over the steps t of an epoch; M(S), with S in the mean of the
    epoch, counts as independent from step to step. The mean of the parameters is then a little off the optimum, by the order
    of eta, which S leaves out. Samplers other than 'shuffle' count as independent rows.

    The interval is that of the noise C; it takes the Hessians as known.

    References
    ----------
    Mandt, Hoffman and Blei, Stochastic gradient descent as approximate Bayesian inference, JMLR 18, 2017. Liu, Ziyin and
    Ueda, Noise and fluctuation of finite learning rate stochastic gradient descent, ICML 2021, arXiv:2012.03636. Ziyin, Liu,
    Mori and Ueda, Strength of minibatch noise in SGD, ICLR 2022, arXiv:2102.05375 (multiplicative noise). The form for epochs
    follows from the first equation for exchangeable noise without a sum.

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
    >>> small.excess_loss > 10 * large.excess_loss
    True
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
    draws = Draws.of(estimator, batch_size, sample.n_rows)
    noise, by_group = noise_in(sample, vectors, groups)
    answer, of_motion = response(values, learning_rate, draws), None
    if isinstance(sample.gradients, LinearGradients) and len(values) <= MOST_WRITTEN:
        of_motion = noise_of_motion(sample.gradients, vectors)
    at_rest = settled(noise, answer, of_motion)
    if not np.isfinite(at_rest).all():
        raise ValueError(
            f"learning_rate={learning_rate:g} is not stable with batches of {batch_size} rows: their curvatures differ so much "
            "that the mean square of the parameters grows. Take a smaller step or larger batches."
        )
    covariance = vectors @ at_rest @ vectors.T
    drifting = (values == 0) & (np.diag(noise) > ROUNDING * np.trace(noise))  # nothing holds the parameters there
    reach = vectors[:, drifting] @ vectors[:, drifting].T
    covariance[np.abs(reach) > ROUNDING] = np.inf * np.sign(reach[np.abs(reach) > ROUNDING])
    excess, share = float(values @ np.diag(at_rest)) / 2.0, values * np.diag(answer.last) / 2.0
    of_noise = float(np.diag(noise) @ share)
    share = share * (excess / of_noise if of_noise > 0 else 1.0)
    return StationaryCovariance(
        *sample.facts(sample.interval_of_mean(by_group @ share, groups, confidence_level), confidence_level),
        excess,
        eigenvalues,
        np.diag(noise).copy(),
        np.where(drifting, np.inf, np.diag(at_rest)),
        covariance,
        float(learning_rate * draws.share * np.trace(noise) / 2.0),
        "epochs" if draws.per_epoch else "independent",
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
    tail_index : float
        Of the squared norms of the gradients, from the largest of them (Hill 1975): well above 1/2, few rows carry the noise, so
        that those which were not examined may change its direction, and the interval is widened for them. 0 for very few rows.
    """

    alignment: float
    cosine: float
    n_parameters: int
    tail_index: float = 0.0


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
    of_rows = [curvatures_along(sample, hessian, rows, mean) for rows in rows_of_groups]
    parts = sample.per_row * np.array([np.mean(each, axis=1) for each in of_rows])
    along, total = np.average(parts, axis=0, weights=sizes_of(groups))
    curvature = sample.gradients.hessian_trace()
    if total <= 0 or curvature <= 0:
        raise ValueError(
            "The objective has no curvature or its gradients have no noise: they have no common direction."
        )
    alignment = float(p * along / (curvature * total))
    along_without, total_without = mean_without_each(parts, groups).T
    noise = Covariance(sample, groups)
    of_groups = curvatures_of_groups(sample, groups, mean, noise)
    _, change_along, change_of_curvature = of_groups.changes_without_each(groups)
    without_each = p * (along_without + change_along) / ((curvature + change_of_curvature) * total_without)
    left = share_left(sample, groups)
    low, high = jackknife(without_each, alignment, confidence_level, left)
    products, squares = np.concatenate(of_rows, axis=1)
    tail = Tail.of(squares)
    if tail.is_heavy:
        predicted = _alignments(sample, products, squares, p / curvature, standard_error(without_each, left))
        low, high = widened((low, high), predicted, confidence_level)
    norms = frobenius_norm(hessian, sample.rng) * noise.frobenius_norm()
    return NoiseAnisotropy(
        *sample.facts((max(low, min(alignment, 0.0)), min(high, float(max(p, alignment)))), confidence_level),
        alignment,
        float(along / norms),
        p,
        tail.heaviness,
    )


def _alignments(sample: Sample, products: np.ndarray, squares: np.ndarray, unit: float, error: float) -> np.ndarray:
    """What the alignment may be where few rows carry the noise, from ``g' H g`` and ``g' g`` of those that were examined.

    Its standard error, in which the Hessian has a share, grows as the root of the noise that may be.
    """
    factors = np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0)
    rows = np.inf if sample.complete else sample.n_rows // sample.model.observation_size
    sums, along = predicted_means(squares / squares.max(), rows, sample.rng, factors)
    errors = error * sample.rng.standard_normal(len(sums)) * np.sqrt(sums * squares.max() / squares.mean())
    finite = np.isfinite(sums)  # where no mean exists, a row of the tail is all that counts
    aligned = np.where(finite, along, sample.rng.choice(factors, len(sums))) / np.where(finite, sums, 1.0)
    return unit * aligned + errors
