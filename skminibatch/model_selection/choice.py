"""Which batch size: the choice of `batch_size='auto'` for any estimator and for three goals, with its reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.metrics import get_scorer_names
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import HasMethods, StrOptions, validate_params

from skminibatch.contract.typing import RandomState, RowsLike
from skminibatch.estimators.shared import size_choice
from skminibatch.model_selection.curve import BatchSizeCurve, at_last_step, batch_size_curve, batch_size_parameter
from skminibatch.schedules import AutoSize
from skminibatch.schedules.choice import SizeChoice

COSTS = {
    "time": "estimated time to a target over the least",
    "rows": "estimated rows to a target over the fewest",
    "score": "mean test score",
}


class BatchSizeChoice(SizeChoice):
    """A batch size, the range in which it hardly matters, and what both follow from; see `choose_batch_size`.

    ``str(choice)`` is one sentence, which `sentence` holds too.

    Attributes
    ----------
    batch_size : int
        The size that was chosen, in rows.
    low, high : int
        The range in which the size hardly matters, in rows: the estimated cost is at most 1.25 times the least, or the score
        cannot be told from the best one.
    reason : str
        What the choice follows from.
    goal : {'time', 'rows', 'score'}
        As given.
    noise_scale : float
        ``tr(Sigma) / |G|^2`` after a pilot of one pass over a sample, in rows.
    noise_scale_interval : tuple of (float, float)
        Its 95 % interval; the upper end is infinite where the gradient cannot be told from zero.
    critical_batch_size : float
        Of the whole training, in rows: batches of this size take twice the fewest steps and twice the fewest rows.
    critical_batch_size_interval : tuple of (float, float)
        The interval of the noise scale, widened by what is not known of the relation between the two.
    batch_sizes : tuple of int
        Sizes whose cost was estimated or whose score was measured, ascending.
    costs : tuple of float
        Of each, the cost over the least one, or the mean test score.
    """

    def plot(self, ax: Any = None) -> Any:
        """Draw the cost, or the score, of each size, the choice, and the range in which it hardly matters.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ValueError
            Where every size costs the same, so that there is nothing to draw.
        """
        check_matplotlib_support("BatchSizeChoice.plot")
        import matplotlib.pyplot as plt

        if not self.batch_sizes:
            raise ValueError(f"There is no cost to draw: {self.sentence}.")
        ax = plt.subplots()[1] if ax is None else ax
        ax.plot(self.batch_sizes, self.costs, color="C0", marker="o" if self.goal == "score" else None)
        ax.axvspan(self.low, self.high, color="C0", alpha=0.15, linewidth=0, label=f"{self.low} to {self.high} rows")
        ax.axvline(self.batch_size, color="C0", linestyle=":", label=f"chosen: {self.batch_size} rows")
        if self.batch_sizes[0] <= self.critical_batch_size <= self.batch_sizes[-1]:
            label = f"critical batch size: {self.critical_batch_size:.3g} rows"
            ax.axvline(self.critical_batch_size, color="0.3", linestyle="--", label=label)
        ax.set(xscale="log", xlabel="batch size (rows)", ylabel=COSTS[self.goal])
        ax.legend()
        return ax


@validate_params(
    {
        "estimator": [HasMethods(["fit", "get_params"])],
        "goal": [StrOptions(set(COSTS))],
        "batch_sizes": ["array-like", None],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def choose_batch_size(
    estimator: Any,
    X: RowsLike,
    y: ArrayLike,
    *,
    goal: str = "time",
    sample_weight: ArrayLike | None = None,
    batch_sizes: ArrayLike | None = None,
    cv: Any = None,
    scoring: str | Callable[..., float] | None = None,
    n_jobs: int | None = None,
    random_state: RandomState = None,
) -> BatchSizeChoice:
    """Choose a batch size for some rows, with the range in which it hardly matters and the reason.

    With ``goal='time'`` it is the choice of ``batch_size='auto'``, without the training: a pilot of one pass over a sample of
    the rows measures the noise scale; the critical batch size B of the whole training follows from it; and the size is the
    least of ``(1 + b / B) t(b) / b``, with the time t(b) of a step.

    Parameters
    ----------
    estimator : object
        An estimator of this package, or a pipeline that ends in one, fitted or not. It is left as it is, and the choice is for
        a `fit` with its parameters: where it was fitted before makes no difference. Transformers of a pipeline that are not
        fitted are fitted to the rows first.
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    goal : {'time', 'rows', 'score'}, default='time'
        'time': the least time to a target. 'rows': the largest batch that reads at most 10 % more rows on the way to a target
        than the smallest batches do, by ``1 + b / B``; it has the fewest steps among those. 'score': of the batch sizes whose
        cross-validated score cannot be told from the best one, that nearest to the choice by time.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows. With 'score' they weigh training alone.
    batch_sizes : array-like of int, default=None
        Sizes to cross-validate for 'score'; None takes powers of 4 from 4 to a sixteenth of the rows, at least two of them.
    cv : int, splitter or iterable, default=None
        How the rows are split for 'score', as in `batch_size_curve`.
    scoring : str or callable, default=None
        The score for 'score'; None takes that of the estimator.
    n_jobs : int, default=None
        Splits that are fitted at the same time for 'score'.
    random_state : int, RandomState instance or None, default=None
        Draws the rows of the pilot; None takes that of the estimator.

    Returns
    -------
    choice : BatchSizeChoice
        `batch_size`, `low`, `high`, `sentence`, the noise scale and the critical batch size with intervals, and ``plot()``.

    Raises
    ------
    ValueError
        For an estimator of another package, for `batch_sizes` that are not whole numbers, and for what `fit` rejects.

    See Also
    --------
    batch_size_curve : The scores that ``goal='score'`` compares.
    skminibatch.cost_model.BatchCostModel : The time to a target, measured at each size.
    skminibatch.diagnostics.gradient_noise_scale : The noise scale at the present parameters.

    Notes
    -----
    The critical batch size is taken as an eleventh of the noise scale after the pilot, which was right within a factor of 2.3 on
    six data sets; its interval has this factor. Its theory is that of SGD. Where `fit` ends by another method, the reason says
    what the size follows from: the theory of SAGA, or that it makes no difference.

    References
    ----------
    McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018, arXiv:1812.06162.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.model_selection import choose_batch_size
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(solver="schedule_free"))
    >>> choice = choose_batch_size(model, X, y, random_state=0)
    >>> choice.low <= choice.batch_size <= choice.high
    True
    """
    last, rows = at_last_step(estimator, X, y)
    automatic = last.batch_size if isinstance(last.batch_size, AutoSize) else "auto"
    last = clone(last).set_params(batch_size=automatic, warm_start=False)
    if random_state is not None:
        last.set_params(random_state=random_state)
    found = size_choice(last, rows, y, sample_weight, "rows" if goal == "rows" else "time")
    if np.isnan(found.noise_scale):
        found = _with_noise(found, last, rows, y, sample_weight)
    choice = BatchSizeChoice(**{field.name: getattr(found, field.name) for field in fields(SizeChoice)})
    if goal != "score":
        return choice
    sizes = _sizes(np.shape(rows)[0]) if batch_sizes is None else np.unique(np.asarray(batch_sizes))
    if sizes.dtype.kind not in "iu" or sizes.size < 2:
        raise ValueError(f"batch_sizes must be at least two different integers. Got {batch_sizes!r}.")
    of_last_step = f"{batch_size_parameter(estimator).removesuffix('batch_size')}sample_weight"
    params = None if sample_weight is None else {of_last_step: sample_weight}
    curve = batch_size_curve(estimator, X, y, batch_sizes=sizes, cv=cv, scoring=scoring, n_jobs=n_jobs, params=params)
    return _by_score(choice, curve)


def _with_noise(choice: SizeChoice, last: Any, X: Any, y: Any, sample_weight: Any) -> SizeChoice:
    """With the noise scale of schedule-free SGD, where the method of `fit` has no noise of batches to measure."""
    if "eta0" not in last.get_params():  # a network, of too few rows for a pilot
        return choice
    noisy = size_choice(clone(last).set_params(solver="schedule_free"), X, y, sample_weight, choice.goal)
    return noisy.but_with(choice)


def _sizes(n_rows: int) -> np.ndarray:
    """Powers of 4 from 4 to a sixteenth of the rows, at least two."""
    return 4 ** np.arange(1, max(3, int(np.log(max(n_rows / 16, 1)) / np.log(4)) + 1))


def _by_score(by_time: BatchSizeChoice, curve: BatchSizeCurve) -> BatchSizeChoice:
    """Of the sizes whose score cannot be told from the best one, that nearest to the choice by time."""
    sizes, as_good, scores = curve.batch_sizes, curve.as_good_as_best(), curve.test_scores.mean(axis=1)
    far = np.where(as_good, np.abs(np.log(sizes / by_time.batch_size)), np.inf)
    at = int(np.argmin(far))
    worse = np.flatnonzero(~as_good)
    first = int(worse[worse < at].max(initial=-1)) + 1
    last = int(worse[worse > at].min(initial=len(sizes))) - 1
    return replace(
        by_time,
        batch_size=int(sizes[at]),
        low=int(sizes[first]),
        high=int(sizes[last]),
        reason=f"its score of {scores[at]:.4g} cannot be told from the best one, {scores.max():.4g}, and it is near the choice "
        f"by time, {by_time.batch_size} rows",
        goal="score",
        batch_sizes=tuple(sizes.tolist()),
        costs=tuple(scores.tolist()),
    )
