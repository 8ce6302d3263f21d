"""The curvature of the objective, and what it makes of the noise: safe steps, best steps, stationary errors."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar
from sklearn.utils._param_validation import Interval

from skminibatch import _statistics
from skminibatch._gradients import GradientStatistics, inverted, jackknife, mean_without_each, sizes_of
from skminibatch._statistics import square_lengths
from skminibatch.diagnostics._hessian import (
    Covariance,
    curvatures_along,
    frobenius_norm,
    largest_eigenvalues,
    n_parameters,
    noise_in,
    products,
    share_left,
    written_out,
    written_rows,
)
from skminibatch.diagnostics._sample import Record, Sample, batch_sizes_up_to, diagnostic

ROUNDING = 1e-12  # of the largest: what is smaller is zero

_RATE = Interval(Real, 0, None, closed="neither")
_COUNT = Interval(Integral, 1, None, closed="left")


@dataclass(frozen=True, repr=False)
class HessianEigenvalues(Record):
    """The curvature of the objective; see `hessian_eigenvalues`. The interval is that of the largest eigenvalue.

    Attributes
    ----------
    eigenvalues : ndarray of shape (k,)
        The largest eigenvalues, in falling order.
    trace : float
        The sum of all eigenvalues.
    n_parameters : int
    """

    eigenvalues: np.ndarray
    trace: float
    n_parameters: int


@diagnostic(k=[_COUNT])
def hessian_eigenvalues(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 5,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> HessianEigenvalues:
    """The largest eigenvalues of the Hessian of the objective, by the Lanczos method on exact products.

    Gradient descent with a constant step is stable up to ``2 / lambda_max``. A loss adds no curvature at its kinks (hinge,
    quantile), and an l1 penalty none at all.

    Parameters
    ----------
    {rows}
    k : int, default=5
        Number of eigenvalues; at most that of the parameters.
    {sampling}

    Returns
    -------
    record : HessianEigenvalues

    Raises
    ------
    ValueError
        For fewer than 4 rows, and for invalid input.

    Notes
    -----
    Of networks of more than 256 parameters, the trace is a mean of ``v' H v`` over 128 random vectors v of signs.

    The interval moves the Hessian and keeps its eigenvector. The largest eigenvalue of few rows is above that of many:
    with `max_samples`, take many more rows than there are features.

    References
    ----------
    Lanczos, An iteration method for the solution of the eigenvalue problem, 1950.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchSGDRegressor
    >>> from skminibatch.diagnostics import hessian_eigenvalues
    >>> X, y = load_diabetes(return_X_y=True)
    >>> found = hessian_eigenvalues(MiniBatchSGDRegressor(learning_rate="constant"), X, y, k=1)
    >>> found.eigenvalues.round(3)  # of the intercept: the features are small
    array([1.])
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    values, _, interval = largest_eigenvalues(sample, k, confidence_level)
    trace = sample.model.hessian_trace(*sample.at())
    return HessianEigenvalues(*sample.facts(interval, confidence_level), values, trace, n_parameters(sample))


@dataclass(frozen=True, repr=False)
class Smoothness(Record):
    """How fast gradients change; see `smoothness`. The interval is that of `mean`.

    Attributes
    ----------
    mean : float
        L, the smoothness constant of the objective.
    worst : float
        L_max, the largest constant of a row.
    average : float
        The mean constant of a row.
    batch_sizes : ndarray of shape (n_sizes,)
    expected : ndarray of shape (n_sizes,)
        L(b), the expected smoothness of a batch.
    largest_step : ndarray of shape (n_sizes,)
        One over the mean constant of the b worst rows: no batch of b rows makes such a step overshoot.
    """

    mean: float
    worst: float
    average: float
    batch_sizes: np.ndarray
    expected: np.ndarray
    largest_step: np.ndarray

    def optimal_batch_size(self, strong_convexity: float, mean_square: float, excess: float) -> float:
        """The batch size with which SGD at its best constant step reads the fewest rows until ``E |w - w*|^2 <= excess``.

        ``n (c + L - L_max) / (c + n L - L_max)`` with ``c = 2 h / (excess mu)`` (Gower et al. 2019, section 4), no less than
        one row. A step is at most ``1 / (2 L(b))`` for the sake of L(b), which large batches lower, and at most
        ``excess mu / (4 h (n - b) / (b (n - 1)))`` for that of the noise: at this size both are the same.

        Parameters
        ----------
        strong_convexity : float
            mu, the least eigenvalue of the Hessian, such as `alpha` of an l2 penalty.
        mean_square : float
            h, the mean squared norm of the gradients of rows at the optimum.
        excess : float
            The squared distance to the optimum, in the units of squared parameters.

        Returns
        -------
        batch_size : float
            Rows, from 1 to `n_samples`.

        Raises
        ------
        ValueError
            For a `strong_convexity` or an `excess` that is not positive, and a negative `mean_square`.
        """
        check_scalar(strong_convexity, "strong_convexity", Real, min_val=0, include_boundaries="neither")
        check_scalar(mean_square, "mean_square", Real, min_val=0)
        check_scalar(excess, "excess", Real, min_val=0, include_boundaries="neither")
        n, c = self.n_samples, 2.0 * mean_square / (excess * strong_convexity)
        if c + self.mean <= self.worst:  # the worst row, not the noise, limits the step of small batches
            return 1.0
        return max(1.0, n * (c + self.mean - self.worst) / (c + n * self.mean - self.worst))


@diagnostic(batch_sizes=["array-like", None])
def smoothness(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch_sizes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> Smoothness:
    """The smoothness constants of the objective, of its rows and of its batches, and the steps that they allow.

    With the constant ``L_i = c (|x_i|^2 + 1)`` of a row, c a bound of the second derivative of the loss, and L that of the
    objective, a batch of b rows has the expected smoothness

    ``L(b) = n (b - 1) / (b (n - 1)) L + (n - b) / (b (n - 1)) L_max``.

    Parameters
    ----------
    {rows}
    batch_sizes : array-like of int, default=None
        Sizes of batches, from 1 to `n_samples`; None takes the powers of two among these.
    {sampling}

    Returns
    -------
    record : Smoothness
        Bounds, at the worst raw outputs, each with the curvature of the penalty.

    Raises
    ------
    ValueError
        For a network, whose rows have no such constants, fewer than 4 rows, a batch size beyond the rows, and invalid input.

    Notes
    -----
    Losses with a kink have no such constants; in their place stands the curvature of the expected loss, as for
    ``learning_rate='auto'``. ``learning_rate='auto'`` itself works from a sample and a high quantile instead of L_max.

    References
    ----------
    Gower, Loizou, Qian, Sailanbayev, Shulgin and Richtarik, SGD: general analysis and improved rates, ICML 2019,
    arXiv:1901.09401.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import smoothness
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> found = smoothness(MiniBatchSGDClassifier(), scale(X), y, batch_sizes=[1, 569])
    >>> bool(found.expected[0] == found.worst > found.mean == found.expected[1])
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    sample.check_linear(
        "smoothness", "the curvature of the loss of a row has no bound in a network, where weights multiply weights."
    )
    n = sample.data.n_rows
    b = batch_sizes_up_to(batch_sizes, n)
    Z, curvatures, _ = sample.model.bounds(sample.data, sample.rows, sample.predicts[1])
    each = np.sort(curvatures * (square_lengths(Z) + sample.model.fit_intercept))[::-1] + sample.model.ridge()
    values, _, interval = largest_eigenvalues(sample, 1, confidence_level, bounded=True)
    mean = min(float(values[0]), float(each.mean()))
    constants = _statistics.Smoothness(mean, float(each[0]), float(each.mean()))
    worst_rows = np.clip(np.round(b * each.size / n).astype(int), 1, each.size)  # of those drawn
    return Smoothness(
        *sample.facts(interval, confidence_level),
        constants.mean,
        constants.worst,
        constants.typical,
        b,
        np.array([constants.of_batch(size, n) for size in b]),
        1.0 / (np.cumsum(each)[worst_rows - 1] / worst_rows),
    )


@dataclass(frozen=True, repr=False)
class ExpectedImprovement(Record):
    """The best step of a batch and what it is worth; see `expected_improvement`. The interval is that of `noise_scale`.

    Attributes
    ----------
    noise_scale : float
        ``B = tr(H Sigma) / (G' H G)``, in rows.
    largest_step : float
        ``|G|^2 / (G' H G)``, the best step along the exact gradient.
    largest_improvement : float
        ``|G|^4 / (2 G' H G)``, by how much that step lowers the objective.
    batch_sizes : ndarray of shape (n_sizes,)
    step : ndarray of shape (n_sizes,)
        ``largest_step / (1 + B / b)``, the best step of a batch.
    improvement : ndarray of shape (n_sizes,)
        ``largest_improvement / (1 + B / b)``, by how much it lowers the objective in the mean.
    """

    noise_scale: float
    largest_step: float
    largest_improvement: float
    batch_sizes: np.ndarray
    step: np.ndarray
    improvement: np.ndarray


@diagnostic(batch_sizes=["array-like", None])
def expected_improvement(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch_sizes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> ExpectedImprovement:
    """By how much one step with a batch of b rows lowers the objective in the mean, and the step that does.

    To second order, a step ``-eta g`` with a batch of independent rows changes the objective by
    ``-eta |G|^2 + eta^2 / 2 (G' H G + tr(H Sigma) / b)``, with the Hessian H and the covariance Sigma of the gradients of
    single rows. Its minimum is at ``eta = eta_max / (1 + B / b)``; beyond twice that the objective rises.

    Parameters
    ----------
    {rows}
    batch_sizes : array-like of int, default=None
        Sizes of batches, from 1 to `n_samples`; None takes the powers of two among these.
    {sampling}

    Returns
    -------
    record : ExpectedImprovement

    Raises
    ------
    ValueError
        For an objective without curvature along its gradient, or with negative curvature along the noise (of networks),
        fewer than 4 rows, and invalid input.

    Notes
    -----
    The common form ``|G|^2 / (2 (1 + S / b))`` is this one with a Hessian that is the identity.

    With `max_samples`, the share of their noise is taken off ``|G|^2`` and ``G' H G``. Where nothing is left, as close to the
    optimum, the noise scale is infinite, steps and improvements are zero, and `largest_step` is that along the gradient of
    the rows that were drawn.

    For more than 2,048 parameters (256 of a network) the Hessian is not written out: ``G' H G`` is as exact as before, and
    ``g' H g`` is that of at most 1,024 of the rows (128 for a network), from which the interval follows.

    References
    ----------
    McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018, arXiv:1812.06162, equations 2.4 to
    2.9.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import expected_improvement
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> found = expected_improvement(MiniBatchSGDClassifier(), scale(X), y, batch_sizes=[4, 64])
    >>> bool(found.step[0] < found.step[1] < found.largest_step)
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    b = batch_sizes_up_to(batch_sizes, sample.data.n_rows)
    hessian, share = products(sample), sample.share_of_noise
    pull, groups = sample.model.penalty_gradient(*sample.predicts), sample.micro_batches()
    gradient = sample.model.loss_gradient(*sample.at()) + pull
    statistics = _in_metric(sample, groups, hessian, pull)
    _, trace = statistics.moments()
    square, along = float(gradient @ gradient), float(gradient @ (hessian @ gradient))
    if along <= 0:
        raise ValueError("The objective has no curvature along its gradient: no step is the best one.")
    if trace < 0:
        raise ValueError(
            "The noise of the gradients lies where the curvature is negative: to second order, no step is too long."
        )
    largest_step, scale = square / along, np.inf
    square, along = square - share * sample.statistics(groups).moments()[1], along - share * trace
    if square > 0 and along > 0:
        largest_step, scale = square / along, float(trace / along)
    interval = (0.0, 0.0)
    if trace > 0:
        moved = _moved_by_the_hessian(sample, groups, gradient, Covariance(sample, groups))[:2]
        left = share_left(sample, groups)
        interval = inverted(*sample.interval_of_ratio(statistics, confidence_level, moved, left))
    largest = square * largest_step / 2.0 if np.isfinite(scale) else 0.0
    return ExpectedImprovement(
        *sample.facts(interval, confidence_level),
        scale,
        float(largest_step),
        float(largest),
        b,
        largest_step / (1.0 + scale / b),
        largest / (1.0 + scale / b),
    )


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
    hessian, groups, p = products(sample), sample.micro_batches(), n_parameters(sample)
    looked_at, mean = written_rows(sample, groups), sample.model.loss_gradient(*sample.at())
    parts = [np.mean(curvatures_along(sample, hessian, rows, mean), axis=1) for rows in looked_at]
    parts = sample.per_row * np.array(parts)
    along, total = np.average(parts, axis=0, weights=sizes_of(groups))
    curvature = sample.model.hessian_trace(*sample.at())
    if total <= 0 or curvature <= 0:
        raise ValueError(
            "The objective has no curvature or its gradients have no noise: they have no common direction."
        )
    alignment = float(p * along / (curvature * total))
    along_without, total_without = mean_without_each(parts, groups).T
    noise = Covariance(sample, groups)
    _, moved_along, moved_curvature = _moved_by_the_hessian(sample, groups, mean, noise)
    without_each = p * (along_without + moved_along) / ((curvature + moved_curvature) * total_without)
    low, high = jackknife(without_each, alignment, confidence_level, share_left(sample, groups))
    norms = frobenius_norm(hessian, sample.rng) * noise.frobenius_norm()
    return NoiseAnisotropy(
        *sample.facts((max(low, min(alignment, 0.0)), min(high, float(max(p, alignment)))), confidence_level),
        alignment,
        float(along / norms),
        p,
    )


def _in_metric(sample: Sample, groups, hessian, pull: np.ndarray) -> GradientStatistics:
    """The statistics of gradients with ``g' H g`` in the place of ``|g|^2``."""
    means = [sample.model.loss_gradient(*sample.at(rows)) for rows in groups]
    sizes = sizes_of(groups) / sample.model.together
    sums = sizes[:, None] * means
    looked_at = written_rows(sample, groups)
    squares = [np.mean(curvatures_along(sample, hessian, rows)[0]) for rows in looked_at]
    return GradientStatistics(
        sizes,
        sizes * squares,
        np.sum((hessian @ sums.T).T * sums, axis=1),
        sums @ (hessian @ sums.sum(axis=0)),
        sums @ (hessian @ pull),
        float(pull @ (hessian @ pull)),
        sample.data.n_rows,
        float(sample.model.together),
    )


def _moved_by_the_hessian(sample: Sample, groups, gradient: np.ndarray, noise: Covariance) -> np.ndarray:
    """How (G' H G, tr(H Sigma), tr(H)) change with the Hessian of all groups but one, for each group, (3, k)."""
    curvatures = []
    for rows in groups:
        hessian = products(sample, rows)
        trace = sample.model.hessian_trace(*sample.at(rows))
        curvatures.append((gradient @ (hessian @ gradient), noise.along(hessian), trace))
    curvatures = np.array(curvatures)
    return (mean_without_each(curvatures, groups) - np.average(curvatures, axis=0, weights=sizes_of(groups))).T
