"""The curvature of the objective, and what it makes of the noise: safe steps, best steps, stationary errors."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar
from sklearn.utils._param_validation import Interval

from skminibatch.diagnostics._hessian import largest_eigenvalues
from skminibatch.diagnostics._sample import Record, Sample, batch_sizes_up_to, diagnostic
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.statistics import smoothness as constants_of_rows
from skminibatch.statistics.smoothness import square_lengths

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
    >>> curvature = hessian_eigenvalues(MiniBatchSGDRegressor(learning_rate="constant"), X, y, k=1)
    >>> curvature.eigenvalues.round(3)  # of the intercept: the features are small
    array([1.])
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    values, _, interval = largest_eigenvalues(sample, k, confidence_level)
    trace, p = sample.gradients.hessian_trace(), sample.model.n_parameters
    return HessianEigenvalues(*sample.facts(interval, confidence_level), values, trace, p)


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

    With the constant ``L_i = c (|x_i|^2 + 1)`` of a row, c a bound of the second derivative of the loss (of 'poisson' and losses
    with a kink a stand-in, see Notes), and L that of the objective, a batch of b rows has the expected smoothness

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
        Bounds at any parameters where the second derivative of the loss has a bound, each with the curvature of the penalty.

    Raises
    ------
    ValueError
        For a network, whose rows have no such constants, fewer than 4 rows, a batch size beyond the rows, and invalid input.

    Notes
    -----
    Two kinds of loss have no such constants, and what takes their place is no bound. The second derivative ``exp(f)`` of
    'poisson' grows with the raw output f; c is ``exp(a) + |exp(a) - y|`` at the intercept a of the estimator alone, with which no
    row moves its raw output by more than one there: rows with larger expected counts are curvier, and steps of
    ``largest_step`` may overshoot. For losses with a kink, c is the curvature of the expected loss, as for
    ``learning_rate='auto'``. That rate itself works from a sample and a high quantile instead of L_max.

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
    >>> constants = smoothness(MiniBatchSGDClassifier(), scale(X), y, batch_sizes=[1, 569])
    >>> bool(constants.expected[0] == constants.worst > constants.mean == constants.expected[1])
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    gradients = sample.of_linear_model(
        "smoothness", "the curvature of the loss of a row has no bound in a network, where weights multiply weights."
    )
    n = sample.n_rows
    b = batch_sizes_up_to(batch_sizes, n)
    Z, curvatures, _ = gradients.bounded_rows()
    each = np.sort(curvatures * (square_lengths(Z) + gradients.model.fit_intercept))[::-1] + gradients.model.ridge()
    values, _, interval = largest_eigenvalues(sample, 1, confidence_level, LinearGradients.bounded_hessian)
    mean = min(float(values[0]), float(each.mean()))
    constants = constants_of_rows.SmoothnessConstants(mean, float(each[0]), float(each.mean()))
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
