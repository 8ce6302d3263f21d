"""The noise of gradients: its scale, its variance, its correlation within batches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.utils._param_validation import Interval

from skminibatch.contract.kinds import declared
from skminibatch.diagnostics._sample import Record, Sample, batch_sizes_up_to, diagnostic, ratio, widened
from skminibatch.statistics.gradients import correlation, correlation_interval, inverted, jackknife


@dataclass(frozen=True, repr=False)
class NoiseScale(Record):
    """The noise scale of gradients; see `gradient_noise_scale`.

    Attributes
    ----------
    noise_scale : float
        ``tr(Sigma) / |G|^2``, in rows.
    trace_covariance : float
        ``tr(Sigma)``, the variance of the gradient of one row.
    objective_gradient_norm : float
        ``|G|``, the norm of the gradient of the objective.
    tail_index : float
        Of the squared norms of the gradients of rows, from the largest of them (Hill 1975): well above 1/2, few rows carry the
        variance, so that those which were not examined may change it much, and the interval is widened for them. 0 where it
        was not measured, for very few rows and for micro-batches.
    """

    noise_scale: float
    trace_covariance: float
    objective_gradient_norm: float
    tail_index: float = 0.0

    @property
    def gradient_norm(self) -> float:
        """``|G|``.

        .. deprecated:: 0.2
            Use `objective_gradient_norm`; ``history_["gradient_norm"]`` is the norm of the gradients of batches. It will be
            removed in 0.4.
        """
        warnings.warn(
            "NoiseScale.gradient_norm was renamed to objective_gradient_norm and will be removed in 0.4.",
            FutureWarning,
            stacklevel=2,
        )
        return self.objective_gradient_norm

    @property
    def critical_batch_size(self) -> float:
        """The former name of `noise_scale`.

        .. deprecated:: 0.2
            The critical batch size is that of a whole training; this is the noise scale at one point. To be removed in 0.4.
        """
        warnings.warn(
            "NoiseScale.critical_batch_size is called noise_scale since version 0.2; the former name will be removed in 0.4. "
            "choose_batch_size estimates the critical batch size of a training.",
            FutureWarning,
            stacklevel=2,
        )
        return self.noise_scale

    def steps(self, batch_size: ArrayLike) -> np.ndarray:
        """Steps to a target over the fewest that any batch size needs, ``1 + noise_scale / b``, were it the same all the way."""
        return 1.0 + self.noise_scale / np.asarray(batch_size, float)

    def examples(self, batch_size: ArrayLike) -> np.ndarray:
        """Rows to a target over the fewest that any batch size needs, ``1 + b / noise_scale``, were it the same all the way."""
        with np.errstate(divide="ignore"):  # without noise, one row is as good as all
            return 1.0 + np.asarray(batch_size, float) / np.float64(self.noise_scale)


@diagnostic()
def gradient_noise_scale(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> NoiseScale:
    """The batch size at which the noise of a gradient is as large as the gradient.

    The noise scale is ``S = tr(Sigma) / |G|^2`` with the covariance Sigma of the gradients of single rows and the gradient
    G of the objective. Batches much smaller than S make steps that are mostly noise, so that twice the rows make nearly
    twice the progress; batches much larger repeat the same step.

    Parameters
    ----------
    {rows}
    {sampling}

    Returns
    -------
    record : NoiseScale
        With all rows, ``noise_scale`` is that of these rows, exactly, and the interval is one for the population from
        which they come. With some of them, both stand for all rows of `X`. The interval has no upper end where the
        gradient may be zero, and is (inf, inf) where these rows show none beyond their noise, as at the optimum of these
        rows; the noise scale is infinite where the gradient is zero.

    Raises
    ------
    ValueError
        For fewer than 4 rows, and for invalid input.

    Notes
    -----
    The noise scale belongs to the present parameters. It grows on the way to the optimum, where the gradient vanishes and its
    noise does not. The critical batch size of a whole training is a mean over the way: `choose_batch_size` of
    `skminibatch.model_selection` estimates it, and `BatchCostModel` of `skminibatch.cost_model` measures it.

    The estimates of ``|G|^2`` and ``tr(Sigma)`` are unbiased; the plug-in estimate from a batch of b rows saturates at
    about b. The interval is a jackknife over micro-batches of the root of ``1 / S``, with the noise that is still in it, which
    stays finite where ``|G|^2`` is close to zero.

    An interval by a standard error fails where a few rows carry the variance. Where the largest squared norms of the gradients
    point to a power law without a variance (`tail_index` above 1/2 by its standard error), the interval includes what rows that
    were not examined may add, by that law. It cannot know of rows of another kind, none of which is in the sample: where
    outliers are rare, examine all rows.

    References
    ----------
    McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018, arXiv:1812.06162. Hill, A simple
    general approach to inference about the tail of a distribution, Annals of Statistics 3, 1975.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import gradient_noise_scale
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> noise = gradient_noise_scale(MiniBatchSGDClassifier(), scale(X), y, random_state=0)
    >>> noise.noise_scale < 10 < noise.n_samples
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    statistics = sample.statistics(sample.micro_batches())
    square_norm, trace = statistics.moments()
    interval = (0.0, 0.0)
    if trace > 0:
        traces = sample.traces(statistics)
        interval = inverted(*sample.interval_of_ratio(statistics, confidence_level, traces=traces))
    return NoiseScale(
        *sample.facts(interval, confidence_level),
        float(1.0 / ratio(square_norm, trace)) if square_norm > 0 else (np.inf if trace > 0 else 0.0),
        trace,
        float(np.sqrt(max(square_norm, 0.0))),
        sample.tail.heaviness,
    )


@dataclass(frozen=True, repr=False)
class GradientVariance(Record):
    """The variance of the gradient of a batch; see `gradient_variance`. The interval is that of `trace_covariance`.

    Attributes
    ----------
    batch_sizes : ndarray of shape (n_sizes,)
    with_replacement : ndarray of shape (n_sizes,)
        ``sigma^2 / b``.
    without_replacement : ndarray of shape (n_sizes,)
        ``sigma^2 / b (n - b) / (n - 1)``: zero for all n rows.
    by_importance : ndarray of shape (n_sizes,)
        ``(sigma^2 - Var |g_i|) / b``, for rows drawn independently with probabilities proportional to the norms of their
        gradients, and weighted so that the mean stays right. No other probabilities leave less variance.
    trace_covariance : float
        ``sigma^2 = tr(Sigma)``, the variance of the gradient of one row.
    tau : float
        Root mean square of the norms of the gradients of the rows over their mean, at least one: importance sampling divides
        the second moment of a gradient by ``tau^2``, and its variance by at least as much.
    tail_index : float
        Of the squared norms of the gradients of rows, from the largest of them (Hill 1975): well above 1/2, few rows carry the
        variance, so that those which were not examined may change it much, and the interval is widened for them. 0 where it
        was not measured, for very few rows and for micro-batches.
    """

    UNKNOWN_OF_MICRO_BATCHES = ("by_importance", "tau")

    batch_sizes: np.ndarray
    with_replacement: np.ndarray
    without_replacement: np.ndarray
    by_importance: np.ndarray
    trace_covariance: float
    tau: float
    tail_index: float = 0.0

    def importance_pays(self, batch_size: int, n_measured: int | None = None) -> bool:
        """Whether importance sampling saves more than it costs, ``tau > (B + 3 b) / (3 b)`` (Katharopoulos and Fleuret 2018).

        Parameters
        ----------
        batch_size : int
            b, rows of a step.
        n_measured : int, default=None
            B, rows whose gradients are measured for each step; one of them costs a third of a row of a step. None takes b, as
            ``sampler='importance'`` measures every row once an epoch: then it pays for tau above 4 / 3.

        Returns
        -------
        pays : bool
        """
        n_measured = batch_size if n_measured is None else n_measured
        return bool(self.tau > (n_measured + 3.0 * batch_size) / (3.0 * batch_size))


def _spread_of_norms(sample: Sample) -> tuple[float, float]:
    """(the variance of the norms of the gradients of rows, tau), as of all rows; NaN where rows have none of their own."""
    if sample.model.couples_rows:
        return np.nan, np.nan
    norms = np.sqrt(sample.row_squares)
    spread = float(np.var(norms, ddof=1) * (1.0 - 1.0 / sample.n_rows))
    return spread, float(np.sqrt(1.0 + spread / norms.mean() ** 2)) if norms.any() else 1.0


@diagnostic(batch_sizes=["array-like", None])
def gradient_variance(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch_sizes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> GradientVariance:
    """The variance of the gradient of a batch of independent rows, as a function of its size.

    ``E |g_B - G|^2`` is ``sigma^2 / b`` for rows drawn with replacement and ``sigma^2 / b (n - b) / (n - 1)`` without. Rows
    drawn the more often, the larger their gradients are, leave less of it.

    Parameters
    ----------
    {rows}
    batch_sizes : array-like of int, default=None
        Sizes of batches, from 1 to `n_samples`; None takes the powers of two among these.
    {sampling}

    Returns
    -------
    record : GradientVariance
        With all rows, the variances are those of these rows, exactly, and the interval of ``trace_covariance`` is one for
        the population from which they come. With some of them, both stand for all rows of `X`.

    Raises
    ------
    ValueError
        For fewer than 4 rows, a batch size beyond the rows, and invalid input.

    Notes
    -----
    `by_importance` and `tau` are NaN where a normalization couples the rows, which then have no gradients of their own.
    `by_importance` is a bound for ``sampler='importance'``, which draws one half of its rows uniformly, so that no weight
    exceeds 2: its second moment is at most twice that of the best probabilities.

    Where a few rows carry the variance, the interval is widened for those that were not examined: see `tail_index`, and the
    notes of `gradient_noise_scale`.

    References
    ----------
    Cochran, Sampling Techniques, 3rd edition, 1977, chapter 2. Katharopoulos and Fleuret, Not all samples are created equal:
    deep learning with importance sampling, ICML 2018, arXiv:1803.00942.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchSGDRegressor
    >>> from skminibatch.diagnostics import gradient_variance
    >>> X, y = load_diabetes(return_X_y=True)
    >>> variance = gradient_variance(MiniBatchSGDRegressor(), X, y, batch_sizes=[1, 442])
    >>> variance.without_replacement[1] / variance.with_replacement[0]
    np.float64(0.0)
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    n = sample.n_rows
    b = batch_sizes_up_to(batch_sizes, n)
    statistics = sample.statistics(sample.micro_batches())
    _, trace = statistics.moments()
    spread, tau = _spread_of_norms(sample)
    whole = sample.of_interval(statistics)
    low, high = jackknife(whole.moments_without_each()[1], whole.moments()[1], confidence_level, sample.left)
    if (traces := sample.traces(statistics)) is not None:
        low, high = widened((low, high), traces, confidence_level)
    return GradientVariance(
        *sample.facts((max(low, 0.0), high), confidence_level),
        b,
        trace / b,
        trace / b * (n - b) / (n - 1),
        max(trace - spread, 0.0) / b,
        trace,
        float(tau),
        sample.tail.heaviness,
    )


@dataclass(frozen=True, repr=False)
class IntraBatchCorrelation(Record):
    """The correlation of gradients within batches; see `intra_batch_correlation`. The interval is that of `rho`.

    Attributes
    ----------
    rho : float
        Correlation of the gradients of two rows of the same batch.
    design_effect : float
        ``1 + (b - 1) rho``: how many times the variance of a batch is that of b independent rows.
    variance : float
        ``sigma^2 (1 + (b - 1) rho) / b``, the variance of the gradient of such a batch.
    effective_batch_size : float
        ``b / (1 + (b - 1) rho)``, the number of independent rows with the same variance.
    batch_size : float
        b; of unequal batches, the size that stands for them (Searle 1971).
    n_batches : int
    """

    rho: float
    design_effect: float
    variance: float
    effective_batch_size: float
    batch_size: float
    n_batches: int


@diagnostic(groups=["array-like", None], batch_size=[Interval(Integral, 2, None, closed="left")])
def intra_batch_correlation(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    batch_size: int = 64,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> IntraBatchCorrelation:
    """How much the gradients of the rows of one batch are alike, where batches are not drawn at random.

    A batch of b rows whose gradients have the correlation rho has the variance ``sigma^2 (1 + (b - 1) rho) / b``: beyond
    ``1 / rho`` rows it does not fall any more. Rows without replacement have ``rho = -1 / (n - 1)``.

    Parameters
    ----------
    {rows}
    groups : array-like of shape (n_samples,), default=None
        The rows of one group are a batch. None takes batches of consecutive rows, such as a stream gives them.
    batch_size : int, default=64
        Consecutive rows in a batch; the rows that are left over are not used. Without effect with `groups`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows; those of weight zero are left out first.
    max_samples : int or float, default=None
        Rows up to which whole batches are drawn (a float: a share of them); None takes all.
    confidence_level : float, default=0.95
        Level of the interval, for a population of batches.
    random_state : int, RandomState instance or None, default=None
        Draws the batches.

    Returns
    -------
    record : IntraBatchCorrelation

    Raises
    ------
    ValueError
        For fewer than 3 batches, for batches of one row only, and for invalid input.

    Notes
    -----
    With the mean squares within and between batches, ``rho = (MSB - MSW) / (MSB + (b - 1) MSW)``; it is not cut off at
    zero. The interval is a jackknife over batches, of the logarithm of ``MSB / MSW``.

    References
    ----------
    Donner, A review of inference procedures for the intraclass correlation coefficient, International Statistical Review
    54, 1986. Kish, Survey Sampling, 1965 (design effect).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import intra_batch_correlation
    >>> X, y = load_digits(return_X_y=True)
    >>> intra_batch_correlation(MiniBatchSGDClassifier(), X, y, groups=y).rho > 0.1  # a class in a batch
    True
    """
    sample = Sample(estimator, X, y, sample_weight, None, random_state)
    batches = sample.batches(groups, batch_size, max_samples)
    size_each = sample.model.observation_size
    if all(len(batch) < 2 * size_each for batch in batches):
        least = "one row" if size_each == 1 else f"{2 * size_each - 1} rows, and two micro-batches have {2 * size_each}"
        raise ValueError(f"No batch has more than {least}: there is no correlation within batches.")
    statistics = sample.statistics(batches)
    within, between, size = statistics.within_and_between()
    total = (between - within) / size + within
    if total <= 0:
        raise ValueError("The gradients of all rows are equal: their correlation is not defined.")
    rho = float(correlation(within, between, size))
    low, high = correlation_interval(statistics, confidence_level)
    effect = 1.0 + (size - 1.0) * rho
    return IntraBatchCorrelation(
        *sample.facts(
            (max(low, -1.0 / (size - 1.0)), min(high, 1.0)), confidence_level, int(statistics.sizes.sum() * size_each)
        ),
        rho,
        float(effect),
        float(total * effect / size),
        float(size / effect) if effect > 0 else np.inf,
        float(size),
        len(batches),
    )


@dataclass(frozen=True, repr=False)
class AdamSignalToNoise(Record):
    """How much of a step of Adam is signal; see `adam_signal_to_noise`. The interval is that of `signal_to_noise`.

    Attributes
    ----------
    signal_to_noise : float
        ``r = |G| / sqrt(tr(Sigma))`` of one row, all coordinates together: one over the root of the noise scale.
    per_coordinate : ndarray of shape (n_outputs, n_features + 1), of a network (n_parameters,)
        ``|mu| / sigma`` of one row for each coordinate, the intercept last; infinite without noise, zero without both. From
        some of the rows, zero where mu does not differ from zero at `confidence_level`: of m rows, a ratio far below
        ``1 / sqrt(m)`` cannot be told from none.
    """

    signal_to_noise: float
    per_coordinate: np.ndarray

    def mean_step(self, batch_size: ArrayLike) -> np.ndarray:
        """The mean step of Adam over its rate, ``1 / sqrt(1 + 1 / (b r^2))``: 1 where the gradient has no noise."""
        square = np.asarray(batch_size, float) * self.signal_to_noise**2
        return np.sqrt(square / (1.0 + square)) if np.isfinite(self.signal_to_noise) else np.ones_like(square)


def _signal_of_coordinates(sample: Sample, mean: np.ndarray, variance: np.ndarray, level: float) -> np.ndarray:
    """``|mu| / sigma`` of each coordinate, of all rows: the share of their noise is taken off the squares of the means of some.

    Zero where a mean of some rows does not differ from zero at this level.
    """
    n, m = sample.n_rows, sample.rows.size
    variance = variance if sample.model.couples_rows else variance * (1.0 - 1.0 / n) * m / (m - 1.0)
    of_mean = sample.share_of_noise * variance
    stands_out = mean**2 > stats.norm.ppf(0.5 + level / 2.0) ** 2 * of_mean
    square = np.where(stands_out, np.maximum(mean**2 - of_mean, 0.0), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(square == 0, 0.0, np.sqrt(square / variance))


@diagnostic()
def adam_signal_to_noise(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> AdamSignalToNoise:
    """The signal-to-noise ratio of the gradient, on which the steps of Adam depend.

    Adam divides the gradient by the root of its mean square, noise included: with the mean mu and the deviation sigma of the
    gradient of one row, a step with batches of b rows has the mean ``rate mu / sqrt(mu^2 + sigma^2 / b)``. A larger batch
    makes it longer, where SGD would move as far as before. The gradient is that of the objective; with ``solver='adamw'``, whose
    penalty shrinks the parameters directly (decoupled weight decay), that of the loss.

    Parameters
    ----------
    {rows}
    {sampling}

    Returns
    -------
    record : AdamSignalToNoise

    Raises
    ------
    ValueError
        For fewer than 4 rows, and for invalid input.

    References
    ----------
    Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015, arXiv:1412.6980. Malladi, Lyu, Panigrahi and Arora,
    On the SDEs and scaling rules for adaptive gradient algorithms, NeurIPS 2022, arXiv:2205.10287. Loshchilov and Hutter,
    Decoupled weight decay regularization, ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import adam_signal_to_noise
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> signal = adam_signal_to_noise(MiniBatchSGDClassifier(solver="adam"), scale(X), y)
    >>> bool(signal.mean_step(1) < signal.mean_step(100) < 1)
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    mean, variance = sample.gradients.moments()
    statistics = sample.statistics(sample.micro_batches())
    if declared(sample.model.optimizer).decoupled:
        statistics = statistics.of_losses()
    else:
        mean = mean + sample.gradients.penalty_gradient()
    square_norm, trace = statistics.moments()
    square, interval = np.inf, (np.inf, np.inf)
    if trace > 0:
        square, interval = float(ratio(square_norm, trace)), sample.interval_of_ratio(statistics, confidence_level)

    def root(number: float) -> float:
        return float(np.sqrt(max(number, 0.0)))

    per_coordinate = _signal_of_coordinates(sample, mean, variance, confidence_level)
    return AdamSignalToNoise(
        *sample.facts((root(interval[0]), root(interval[1])), confidence_level),
        root(square),
        sample.gradients.by_coordinate(per_coordinate),
    )
