"""The cost model: measurements in, the fastest batch size and its explanation out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import isotonic_regression, nnls

from skminibatch.contract.typing import RowsLike, SparseMatrix
from skminibatch.cost_model.measurements import (
    TrainingObjective,
    WeightedRows,
    new_estimator,
    seconds_of_steps,
    steps_to_target,
)

MOST_ITERATIONS = 50
NEGLIGIBLE = 1e-9  # a part of a curve that is smaller than this at every size is none


class CostMeasurements(NamedTuple):
    """What a `BatchCostModel` was fitted to.

    Attributes
    ----------
    batch_sizes : ndarray of shape (n_sizes,)
        In rows, ascending.
    step_seconds : ndarray of shape (n_sizes, n_repeats)
        Seconds of a step; NaN where there is no measurement.
    n_steps : ndarray of shape (n_sizes, n_seeds)
        Steps to the target; NaN where a run did not reach it.
    target : float or None
        Value of the objective that the runs had to reach.
    """

    batch_sizes: np.ndarray
    step_seconds: np.ndarray
    n_steps: np.ndarray
    target: float | None


class BatchCostModel:
    """The time to a target as a function of the batch size, fitted to measured step times and numbers of steps.

    ``T(b) = K(b) t(b)``. The steps to the target are ``K(b) = N + C / b``, with N steps when batches have no noise and C rows
    when they are small; ``C / N`` is the critical batch size. Step times are interpolated between the measured ones; the
    line ``t(b) = tau_f + tau_d b`` explains them, with ``tau_f / tau_d`` the batch size of the hardware. If the line were
    exact, the best batch size would be the geometric mean of the two,
    ``sqrt(C tau_f / (N tau_d)) = sqrt(critical * hardware)``, and the least time ``(sqrt(N tau_f) + sqrt(C tau_d))^2``.

    Parameters
    ----------
    confidence_level : float, default=0.95
        Level of the intervals.

    Attributes
    ----------
    min_steps_ : float
        N, steps to the target without noise.
    min_examples_ : float
        C, rows to the target with the smallest batches.
    fixed_seconds_ : float
        tau_f, seconds of a step whatever its batch.
    row_seconds_ : float
        tau_d, seconds of a step for each row of its batch.
    critical_batch_size_ : float
        ``C / N``: at this batch size, a target takes twice the fewest steps and twice the fewest rows.
    hardware_batch_size_ : float
        ``tau_f / tau_d``: at this batch size, half of the time of a step is spent on rows.
    closed_form_batch_size_ : float
        ``sqrt(critical_batch_size_ * hardware_batch_size_)``; infinite or zero where a constant of the fit is zero, and 1
        where every batch size takes the same time.
    closed_form_seconds_ : float
        ``(sqrt(N tau_f) + sqrt(C tau_d))^2``, the time to the target there.
    steps_misfit_, time_misfit_ : float
        Largest relative error of the two curves at a measured size; 0.2 is 20 %.
    confidence_intervals_ : dict of str to (float, float)
        Interval of each quantity above but the last three, under its name without the underscore; (0, inf) where a constant
        that it is made of is zero.
    batch_sizes_ : ndarray of shape (n_kept,)
        Sizes that were timed and at which every run reached the target: among these `optimal_batch_size` decides.
    step_seconds_, n_steps_ : ndarray of shape (n_kept,)
        Medians of their step times, geometric means of their steps.
    measurements_ : CostMeasurements
        All that was measured.

    Notes
    -----
    Step times are medians over repeats, steps geometric means over seeds. Both curves start from nonnegative least squares
    of relative errors and are refined by Gauss-Newton on logarithms. Intervals come from the residuals of the curves, by the
    delta method with the degrees of freedom of Welch and Satterthwaite, so that a curve that misses its points widens them.

    A run that does not reach the target says nothing of how many steps it would take: a size with such a run is left out of
    the curve of steps, and is not chosen.

    The steps of real hardware are not exactly affine in b; `time_misfit_` says by how much the line misses.

    References
    ----------
    McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018, arXiv:1812.06162 (steps, critical
    batch size). Shallue et al., Measuring the effects of data parallelism on neural network training, JMLR 20, 2019. The
    closed form is elementary.

    Examples
    --------
    >>> import numpy as np
    >>> from skminibatch.cost_model import BatchCostModel
    >>> b = 2 ** np.arange(9)
    >>> model = BatchCostModel().fit(b, step_seconds=4e-6 + 1e-6 * b, n_steps=100 + 6400 / b)
    >>> round(model.critical_batch_size_), round(model.hardware_batch_size_), round(model.closed_form_batch_size_)
    (64, 4, 16)
    >>> model.optimal_batch_size()
    16
    """

    def __init__(self, *, confidence_level: float = 0.95) -> None:
        self.confidence_level = confidence_level

    @classmethod
    def measure(
        cls,
        estimator,
        X: RowsLike,
        y: ArrayLike,
        batch_sizes: ArrayLike,
        *,
        target: float,
        sample_weight: ArrayLike | None = None,
        objective: Callable | None = None,
        n_seeds: int = 5,
        n_repeats: int = 15,
        max_iter: int = 100,
        confidence_level: float = 0.95,
        random_state: int | np.random.Generator | None = None,
    ) -> Self:
        """Measure steps and step times of an estimator, and fit the model to them.

        Parameters
        ----------
        estimator : object
            A mini-batch estimator of this package, fitted or not. It is left as it is: each run has a new one, with its
            parameters, a batch size and a `random_state` of its own.
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        batch_sizes : array-like of int
            At least 3 sizes, from 1 to the number of rows whose weight is not zero.
        target : float
            Value to be reached, or fallen below: of the training objective on all rows (`training_objective` gives it for a
            fitted estimator), or of `objective`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, in training and in the training objective. As in `fit`, rows of weight zero are left out,
            and only the ratios of the others matter.
        objective : callable, default=None
            ``objective(estimator, X=X, y=y) -> float`` to take instead of the training objective; smaller is better. It gets
            `X` and `y` as they are given here, and no weights.
        n_seeds : int, default=5
            Runs to the target at each batch size.
        n_repeats : int, default=15
            Measurements of the step time at each batch size, in random order over all of them.
        max_iter : int, default=100
            Passes over the rows after which a run is given up.
        confidence_level : float, default=0.95
            Level of the intervals.
        random_state : int, Generator or None, default=None
            Gives the runs their seeds and their rows an order.

        Returns
        -------
        model : BatchCostModel
            Fitted.

        Raises
        ------
        ValueError
            For invalid parameters, and if fewer than 3 sizes reach the target with every seed. Errors of the estimator, such
            as that of a diverging rate, are passed on.

        Notes
        -----
        Steps and their times are those of `partial_fit`. Steps are counted on rows in random order, pass by pass. The
        objective is evaluated after 256 rows or one batch, and again whenever the rows have grown by a twelfth; the step of
        the crossing is interpolated.

        The time of a step is that of as many passes as a run takes at that size, each one call with all rows, over their
        steps, by the clock of ``history_``: without what comes before training, such as checking X, and with what is done
        once a pass, such as looking at the objective. The first pass, of rows that are in no cache yet, counts.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.preprocessing import scale
        >>> from skminibatch import MiniBatchSGDClassifier
        >>> from skminibatch.cost_model import BatchCostModel
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> model = BatchCostModel.measure(
        ...     MiniBatchSGDClassifier(), scale(X), y, [4, 16, 64], target=0.15, n_seeds=2, n_repeats=3, random_state=0
        ... )
        >>> model.optimal_batch_size() in (4, 16, 64)
        True
        """
        X = X.tocsr() if isinstance(X, SparseMatrix) else np.asarray(X)
        y = np.asarray(y)
        rows = WeightedRows.of(X, y, sample_weight)
        b = _sizes(batch_sizes, rows.n)
        for name, number in {"n_seeds": n_seeds, "n_repeats": n_repeats, "max_iter": max_iter}.items():
            _check_number(name, number, Integral, 1, np.inf)
        _check_number("target", target, Real, -np.inf, np.inf)
        model = cls(confidence_level=confidence_level)
        _check_level(confidence_level)
        rng = np.random.default_rng(random_state)
        value: Callable
        if objective is None:
            value = TrainingObjective(new_estimator(estimator, b[0], 0), *rows)
        else:
            value = partial(objective, X=X, y=y)
        n_steps = steps_to_target(estimator, rows, b, n_seeds, target, value, max_iter, rng)
        step_seconds = seconds_of_steps(estimator, rows, b, n_steps, n_repeats, rng)
        return model.fit(b, step_seconds, n_steps, target=float(target))

    def fit(
        self, batch_sizes: ArrayLike, step_seconds: ArrayLike, n_steps: ArrayLike, *, target: float | None = None
    ) -> Self:
        """Fit the model to measurements.

        Parameters
        ----------
        batch_sizes : array-like of int, shape (n_sizes,)
            Different sizes, in rows.
        step_seconds : array-like of shape (n_sizes,) or (n_sizes, n_repeats)
            Seconds of a step, measured once or several times. NaN is no measurement.
        n_steps : array-like of shape (n_sizes,) or (n_sizes, n_seeds)
            Steps to the target. NaN is a run that did not reach it; its size is then left out.
        target : float, default=None
            The value that was reached, for the record.

        Returns
        -------
        self : BatchCostModel

        Raises
        ------
        ValueError
            For measurements that are not positive, of wrong shape, or of fewer than 3 sizes.
        """
        _check_level(self.confidence_level)
        b = _sizes(batch_sizes, np.inf)
        order = np.argsort(b)
        seconds = _measured("step_seconds", step_seconds, b.size)[order]
        steps = _measured("n_steps", n_steps, b.size)[order]
        b = b[order]
        self.measurements_ = CostMeasurements(b, seconds, steps, target)
        for array in self.measurements_[:3]:
            array.flags.writeable = False
        timed = ~np.isnan(seconds).all(axis=1)
        reached = ~np.isnan(steps).any(axis=1)
        if reached.sum() < 3:
            missed = f" The target {target:g} is out of reach at the others." if target is not None else ""
            raise ValueError(
                f"At least 3 batch sizes must reach the target in every run. Got {reached.sum()} of {b.size}.{missed}"
            )
        if timed.sum() < 3:
            raise ValueError(f"At least 3 batch sizes must have step_seconds. Got {timed.sum()} of {b.size}.")
        medians = np.array([np.median(row[~np.isnan(row)]) for row in seconds[timed]])
        means = np.exp(np.log(steps[reached]).mean(axis=1))
        self._times = _Times.of(b[timed], seconds[timed], medians)
        kept = timed & reached
        self.batch_sizes_ = b[kept]
        self.step_seconds_, self.n_steps_ = medians[reached[timed]], means[timed[reached]]
        ones = np.ones(b.size)
        self._set_constants(
            _fitted_curve(np.column_stack([ones, b])[timed], medians),
            _fitted_curve(np.column_stack([ones, 1.0 / b])[reached], means),
        )
        return self

    def _set_constants(self, time: _Curve, steps: _Curve) -> None:
        """Everything that follows from the two curves."""
        self._steps = steps
        self.fixed_seconds_, self.row_seconds_ = map(float, time.coefficients)
        self.min_steps_, self.min_examples_ = map(float, steps.coefficients)
        self.time_misfit_, self.steps_misfit_ = time.misfit, steps.misfit
        self.hardware_batch_size_ = _ratio(self.fixed_seconds_, self.row_seconds_)
        self.critical_batch_size_ = _ratio(self.min_examples_, self.min_steps_)
        gain = np.sqrt(self.min_examples_) * np.sqrt(self.fixed_seconds_)
        loss = np.sqrt(self.min_steps_) * np.sqrt(self.row_seconds_)
        self.closed_form_batch_size_ = _ratio(gain, loss)
        least = np.sqrt(self.min_steps_ * self.fixed_seconds_) + np.sqrt(self.min_examples_ * self.row_seconds_)
        self.closed_form_seconds_ = float(least**2)
        # each quantity is a product of powers of the constants, of those of the time and of those of the steps
        powers = {
            "fixed_seconds": ([1, 0], [0, 0]),
            "row_seconds": ([0, 1], [0, 0]),
            "min_steps": ([0, 0], [1, 0]),
            "min_examples": ([0, 0], [0, 1]),
            "hardware_batch_size": ([1, -1], [0, 0]),
            "critical_batch_size": ([0, 0], [-1, 1]),
            "closed_form_batch_size": ([0.5, -0.5], [-0.5, 0.5]),
        }
        self.confidence_intervals_ = {
            name: _interval(getattr(self, f"{name}_"), ((time, of_time), (steps, of_steps)), self.confidence_level)
            for name, (of_time, of_steps) in powers.items()
        }

    def predict_steps(self, batch_size: ArrayLike) -> np.ndarray:
        """Steps to the target, ``N + C / b``.

        Parameters
        ----------
        batch_size : array-like of float
            Positive sizes, in rows.

        Returns
        -------
        n_steps : ndarray of float64, of the same shape
        """
        self._check_is_fitted()
        return self.min_steps_ + self.min_examples_ / _positive("batch_size", batch_size)

    def predict_step_seconds(self, batch_size: ArrayLike, *, step_times: str = "measured") -> np.ndarray:
        """Seconds of a step.

        Parameters
        ----------
        batch_size : array-like of float
            Sizes in rows; with 'measured', between the smallest and the largest that was timed.
        step_times : {'measured', 'affine'}, default='measured'
            'measured' interpolates the medians, log-linearly, after those that fall with the size were pooled with their
            neighbours (isotonic regression of the logarithms): a larger batch takes no less time, and what looks like it is
            noise. 'affine' is the line ``tau_f + tau_d b``.

        Returns
        -------
        seconds : ndarray of float64, of the same shape
        """
        self._check_is_fitted()
        b = _positive("batch_size", batch_size)
        if step_times == "affine":
            return self.fixed_seconds_ + self.row_seconds_ * b
        if step_times != "measured":
            raise ValueError(f"step_times must be 'measured' or 'affine'. Got {step_times!r}.")
        timed = self._times.batch_sizes
        if b.size and (b.min() < timed[0] or b.max() > timed[-1]):
            raise ValueError(
                f"batch_size must lie between the timed sizes, {timed[0]} and {timed[-1]}. Got {batch_size!r}."
            )
        return np.exp(np.interp(np.log(b), np.log(timed), self._times.logs))

    def predict_seconds(self, batch_size: ArrayLike, *, step_times: str = "measured") -> np.ndarray:
        """Seconds to the target, the steps times the seconds of a step.

        Parameters
        ----------
        batch_size : array-like of float
            Sizes in rows; with 'measured', between the smallest and the largest that was timed.
        step_times : {'measured', 'affine'}, default='measured'
            As in `predict_step_seconds`.

        Returns
        -------
        seconds : ndarray of float64, of the same shape
        """
        return self.predict_steps(batch_size) * self.predict_step_seconds(batch_size, step_times=step_times)

    def optimal_batch_size(self, batch_sizes: ArrayLike | None = None) -> int:
        """The batch size with the least time to the target, by the steps of the curve and the measured step times.

        Parameters
        ----------
        batch_sizes : array-like of int, default=None
            Sizes to choose from, between the smallest and the largest that was timed; None takes the sizes that ran,
            ``batch_sizes_``.

        Returns
        -------
        batch_size : int
        """
        b = self._candidates(batch_sizes)
        return int(b[np.argmin(self.predict_seconds(b))])

    def optimal_range(self, batch_sizes: ArrayLike | None = None) -> tuple[int, int]:
        """The sizes around the optimal one whose time to the target cannot be told from the least.

        Parameters
        ----------
        batch_sizes : array-like of int, default=None
            As in `optimal_batch_size`.

        Returns
        -------
        low, high : int
            The smallest and the largest of them: all sizes between are such, too.

        Notes
        -----
        The logarithm of the ratio of two times has the error of the curve of steps (delta method) and of the medians of the
        step times, ``1.25 s / sqrt(n)`` each, with the deviation s of the logarithms of n repeats by their median absolute
        deviation. Sizes belong together where the ratio is within Student's t times this error, at the level of the model.
        Measured once, step times count as exact.
        """
        b = np.sort(self._candidates(batch_sizes))
        logs = np.log(self.predict_seconds(b))
        best = int(np.argmin(logs))
        terms = np.column_stack([np.ones(b.size), 1.0 / b]) * self._steps.coefficients
        shares = terms / terms.sum(axis=1, keepdims=True)
        change = shares - shares[best]
        variance = np.einsum("ij,jk,ik->i", change, self._steps.log_covariance, change)
        of_times = np.interp(np.log(b), np.log(self._times.batch_sizes), self._times.variances)
        variance += np.where(np.arange(b.size) == best, 0.0, of_times + of_times[best])
        factor = stats.t.ppf(0.5 + self.confidence_level / 2.0, self._steps.freedom)
        slower = np.flatnonzero(logs - logs[best] > factor * np.sqrt(variance))
        first = int(slower[slower < best].max(initial=-1)) + 1
        last = int(slower[slower > best].min(initial=b.size)) - 1
        return int(b[first]), int(b[last])

    def _candidates(self, batch_sizes: ArrayLike | None) -> np.ndarray:
        """Sizes to choose from."""
        self._check_is_fitted()
        b = self.batch_sizes_ if batch_sizes is None else _sizes(batch_sizes, np.inf)
        if not b.size:
            raise ValueError(
                "No batch size was timed and reached the target: batch_sizes must say what to choose from."
            )
        return b

    def summary(self) -> str:
        """What was found, in sentences."""
        self._check_is_fitted()
        best = self.optimal_batch_size()
        low, high = self.confidence_intervals_["closed_form_batch_size"]
        first, last = self.optimal_range()
        others = "" if first == last else f" The times of {first} to {last} rows cannot be told from it."
        return (
            f"Of the batch sizes that ran, {best} reaches the target first, in {float(self.predict_seconds(best)):.3g} s: "
            f"{float(self.predict_steps(best)):.3g} steps of {float(self.predict_step_seconds(best)):.3g} s.{others} Batches "
            f"below {self.critical_batch_size_:.3g} rows (the critical batch size) are mostly noise, and in batches below "
            f"{self.hardware_batch_size_:.3g} rows (that of the hardware) most time is spent beside them; their geometric mean "
            f"is {self.closed_form_batch_size_:.3g} ({low:.3g} to {high:.3g}). The line of step times misses a measured one by "
            f"up to {self.time_misfit_:.0%}, the curve of steps by up to {self.steps_misfit_:.0%}."
        )

    def _check_is_fitted(self) -> None:
        if not {"measurements_", "confidence_intervals_"} <= vars(self).keys():
            raise ValueError(
                "This BatchCostModel instance is not fitted yet. Call 'fit' or 'measure' before using this model."
            )

    def __repr__(self):
        head = f"BatchCostModel(confidence_level={self.confidence_level!r})"
        if "confidence_intervals_" not in vars(self):
            return head
        lines = [
            f"  {name}_={getattr(self, f'{name}_'):.4g} ({low:.4g} to {high:.4g})"
            for name, (low, high) in self.confidence_intervals_.items()
        ]
        misfits = [f"  {name}={getattr(self, name):.4g}" for name in ("steps_misfit_", "time_misfit_")]
        return "\n".join([f"{head}:", *lines, *misfits])


# -- step times --------------------------------------------------------------------------------------------------------


class _Times(NamedTuple):
    """Logarithms of the step times at the sizes that were timed, rising with the size, and the variances of the medians'."""

    batch_sizes: np.ndarray
    logs: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, batch_sizes: np.ndarray, seconds: np.ndarray, medians: np.ndarray) -> Self:
        """From repeats (n_sizes, n_repeats), NaN where there is none."""
        counts = np.sum(~np.isnan(seconds), axis=1)
        deviations = stats.median_abs_deviation(np.log(seconds), axis=1, scale="normal", nan_policy="omit")
        logs = isotonic_regression(np.log(medians), weights=counts).x
        return cls(batch_sizes, logs, np.pi / 2.0 * deviations**2 / counts)


# -- curves ------------------------------------------------------------------------------------------------------------


class _Curve(NamedTuple):
    """Nonnegative coefficients, the covariance of the logarithms of the positive ones, its degrees of freedom, the misfit."""

    coefficients: np.ndarray
    log_covariance: np.ndarray
    freedom: int
    misfit: float


def _fitted_curve(design: np.ndarray, observed: np.ndarray) -> _Curve:
    """The curve ``design @ coefficients`` through positive observations, by relative errors."""
    coefficients, _ = nnls(design / observed[:, None], np.ones(observed.size))
    positive = (design * coefficients / observed[:, None]).max(axis=0) > NEGLIGIBLE
    coefficients[~positive] = 0.0
    coefficients[positive] = np.exp(_gauss_newton(design[:, positive], observed, np.log(coefficients[positive])))
    fitted = design @ coefficients
    jacobian = (design * coefficients / fitted[:, None])[:, positive]
    freedom = observed.size - jacobian.shape[1]
    variance = np.sum(np.log(observed / fitted) ** 2) / freedom
    covariance = np.zeros((2, 2))
    covariance[np.ix_(positive, positive)] = variance * np.linalg.inv(jacobian.T @ jacobian)
    misfit = float(np.abs(fitted / observed - 1.0).max())
    return _Curve(coefficients, covariance, freedom, misfit)


def _gauss_newton(design: np.ndarray, observed: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Logarithms of the coefficients with the least squared errors of logarithms, or the start if there is no end."""
    logs = start
    for _ in range(MOST_ITERATIONS):
        terms = design * np.exp(logs)
        fitted = terms.sum(axis=1)
        step = np.linalg.lstsq(terms / fitted[:, None], np.log(observed / fitted), rcond=None)[0]
        logs = logs + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-10:
            return logs
    return start


def _interval(center: float, curves, level: float) -> tuple[float, float]:
    """Interval of a product of powers of the coefficients of two curves (Welch 1947, Satterthwaite 1946)."""
    parts = [(curve, np.asarray(powers, float)) for curve, powers in curves if np.any(powers)]
    if any((curve.coefficients[powers != 0] == 0).any() for curve, powers in parts):
        return 0.0, np.inf
    variances = np.array([powers @ curve.log_covariance @ powers for curve, powers in parts])
    total = variances.sum()
    if total == 0:
        return center, center
    freedom = total**2 / sum(v**2 / curve.freedom for v, (curve, _) in zip(variances, parts, strict=True))
    half = stats.t.ppf((1.0 + level) / 2.0, freedom) * np.sqrt(total)
    return center * float(np.exp(-half)), center * float(np.exp(min(half, 700.0)))


def _ratio(numerator: float, denominator: float) -> float:
    """The quotient of two numbers that are not negative; infinite over zero, and 1 for zero over zero."""
    if denominator == 0:
        return 1.0 if numerator == 0 else np.inf
    return float(numerator / denominator)


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_number(name: str, number: Any, kind: Any, low: float, high: float) -> None:
    if not isinstance(number, kind) or isinstance(number, bool) or not low <= float(number) <= high:
        noun = "an int" if kind is Integral else "a float"
        bounds = f" in the range [{low:g}, {high:g}]" if np.isfinite(low) else ""
        raise ValueError(f"The parameter must be {noun}{bounds}: {name}={number!r}.")


def _check_level(level: Any) -> None:
    if not isinstance(level, Real) or not 0 < float(level) < 1:
        raise ValueError(
            f"The 'confidence_level' parameter must be a float in the range (0.0, 1.0). Got {level!r} instead."
        )


def _positive(name: str, numbers: ArrayLike) -> np.ndarray:
    array = np.asarray(numbers, dtype=np.float64)
    if not np.isfinite(array).all() or (array <= 0).any():
        raise ValueError(f"{name} must be positive and finite. Got {numbers!r}.")
    return array


def _sizes(batch_sizes: ArrayLike, largest: float) -> np.ndarray:
    """Batch sizes, checked; none of them twice."""
    b = np.asarray(batch_sizes)
    if b.ndim != 1 or b.dtype.kind not in "iu" or (b < 1).any() or (b > largest).any():
        most = f" to the number of rows, {largest}" if np.isfinite(largest) else " on"
        raise ValueError(f"batch_sizes must be a list of integers from 1{most}. Got {batch_sizes!r}.")
    if np.unique(b).size != b.size:
        raise ValueError(f"batch_sizes must differ from each other. Got {batch_sizes!r}.")
    return b.astype(np.int64)


def _measured(name: str, measured: ArrayLike, n_sizes: int) -> np.ndarray:
    """Measurements (n_sizes, n), positive or NaN."""
    array = np.array(measured, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] != n_sizes or array.shape[1] == 0:
        raise ValueError(
            f"{name} must have a row for each of the {n_sizes} batch sizes. Got the shape {np.shape(measured)}."
        )
    if (array <= 0).any() or np.isinf(array).any():
        i = int(np.flatnonzero(((array <= 0) | np.isinf(array)).any(axis=1))[0])
        raise ValueError(f"{name} must be positive and finite, or NaN. Row {i} is {array[i]}.")
    return array
