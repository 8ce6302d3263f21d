"""What batch sizes and rates do in real runs: cross-validated scores by batch size, and the range of usable rates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import check_cv, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from skminibatch.contract.kinds import SIZE_CHOICE, declared
from skminibatch.contract.typing import Examinable, RandomState, RowsLike, SparseMatrix
from skminibatch.cost_model.measurements import TrainingObjective, WeightedRows, new_estimator
from skminibatch.estimators import parts
from skminibatch.estimators.shared import size_choice
from skminibatch.model_selection.comparison import differences_from
from skminibatch.training.state import Diverged

EVALUATED = 10_000  # rows on which a range test measures the objective
TRIALS = (1.0, 0.5, 0.25, 0.125, 0.0625)  # times the rate with the least objective of a range test: each is run

# -- pipelines


def batch_size_parameter(estimator: Any) -> str:
    """The parameter that sets the batch size of an estimator, of a pipeline that of its last step.

    Raises
    ------
    ValueError
        Where there is none, or more than one.
    """
    names = [name for name in estimator.get_params() if name.split("__")[-1] == "batch_size"]
    if isinstance(estimator, Pipeline):
        names = [name for name in names if name.startswith(f"{estimator.steps[-1][0]}__")]
    if len(names) != 1:
        raise ValueError(
            f"Expected 'estimator' to have one parameter batch_size. Got {type(estimator).__name__} with "
            f"{', '.join(names) or 'none'}."
        )
    return names[0]


def at_last_step(estimator: Any, X: RowsLike, y: ArrayLike) -> tuple[Any, Any]:
    """The last step of a pipeline, and the rows as it sees them; any other estimator and the rows themselves.

    Transformers that are not fitted are fitted to the rows, as copies.
    """
    while isinstance(estimator, Pipeline):
        before, estimator = estimator[:-1], estimator[-1]
        if not before.steps:
            continue
        try:
            check_is_fitted(before)
            X = before.transform(X)
        except NotFittedError:
            X = clone(before).fit_transform(X, y)
    if not isinstance(estimator, Examinable):
        raise ValueError(
            f"Expected 'estimator' to be an estimator of skminibatch, or a pipeline that ends in one. Got "
            f"{type(estimator).__name__} instead."
        )
    return estimator, X


def examined(estimator: Any, X: RowsLike, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Any, WeightedRows]:
    """The last step of a pipeline and the rows as it sees them, with their weights, to be taken by their numbers."""
    last, X = at_last_step(estimator, X, y)
    X = X.tocsr() if isinstance(X, SparseMatrix) else np.asarray(X)
    return last, WeightedRows.of(X, np.asarray(y), sample_weight)


def rate_name(estimator: Any) -> str:
    """The parameter of an estimator of this package that is its rate."""
    return "eta0" if "eta0" in estimator.get_params(deep=False) else "learning_rate_init"


# -- cross-validated scores


@dataclass(frozen=True, eq=False)
class BatchSizeCurve:
    """Cross-validated scores and effort by batch size; see `batch_size_curve`.

    Attributes
    ----------
    batch_sizes : ndarray of shape (n_sizes,)
        As given, or fractions, in the order given.
    train_scores, test_scores : ndarray of shape (n_sizes, n_splits)
        Scores on the rows of training and on those left out; NaN where a fit failed.
    fit_seconds : ndarray of shape (n_sizes, n_splits)
        Wall time of each fit, transformers of a pipeline included.
    n_updates : ndarray of shape (n_sizes, n_splits)
        Steps of each fit; NaN of estimators that do not count them.
    epochs : ndarray of shape (n_sizes, n_splits)
        Passes of each fit over its rows; NaN of estimators that do not count them.
    param_name : str
        The parameter that was varied.
    test_share : float
        Mean ratio of the rows left out to those of training.
    """

    batch_sizes: np.ndarray
    train_scores: np.ndarray
    test_scores: np.ndarray
    fit_seconds: np.ndarray
    n_updates: np.ndarray
    epochs: np.ndarray
    param_name: str
    test_share: float

    @property
    def best_batch_size(self) -> int | float:
        """The batch size with the highest mean test score; of equal ones the first."""
        return self.batch_sizes[self._best].item()

    @property
    def _best(self) -> int:
        means = self.test_scores.mean(axis=1)
        if np.isnan(means).all():
            raise ValueError("No batch size has a test score in every split.")
        return int(np.nanargmax(means))

    def as_good_as_best(self, confidence_level: float = 0.95) -> np.ndarray:
        """Whether the mean test score of each size cannot be told from the best one.

        By intervals of the differences in the same splits. These share rows, which the variance of the mean difference takes
        into account, see `BatchSizeSearchCV`. With one split, no size can be told from another.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level of the intervals.

        Returns
        -------
        as_good : ndarray of bool of shape (n_sizes,)
        """
        return differences_from(self.test_scores, self._best, self.test_share, confidence_level).indistinguishable


@validate_params(
    {
        "estimator": [HasMethods(["fit", "get_params"])],
        "batch_sizes": ["array-like"],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "n_jobs": [Integral, None],
        "params": [dict, None],
    },
    prefer_skip_nested_validation=True,
)
def batch_size_curve(
    estimator: Any,
    X: RowsLike,
    y: ArrayLike,
    *,
    batch_sizes: ArrayLike,
    groups: ArrayLike | None = None,
    cv: Any = None,
    scoring: str | Callable[..., float] | None = None,
    n_jobs: int | None = None,
    error_score: float | str = np.nan,
    params: dict[str, Any] | None = None,
) -> BatchSizeCurve:
    """Cross-validate batch sizes: scores, seconds, updates and epochs of each fit.

    It is `sklearn.model_selection.validation_curve` for the batch size, which also reports the effort. All sizes are fitted
    to the same splits. Before the first split one fit compiles the kernels, so that no fit that is timed has to.

    Parameters
    ----------
    estimator : object
        An estimator with the parameter `batch_size`, or a pipeline whose last step has it. It is left as it is.
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    batch_sizes : array-like of int or float
        Numbers of rows, or fractions of the rows of training.
    groups : array-like of shape (n_samples,), default=None
        Labels of groups, for splitters that keep groups together.
    cv : int, splitter or iterable, default=None
        How the rows are split, as in scikit-learn; None is 5-fold, stratified for a classifier.
    scoring : str or callable, default=None
        The score; None takes that of the estimator.
    n_jobs : int, default=None
        Splits that are fitted at the same time. Fits that share the cores take longer: leave it at None to compare seconds.
    error_score : 'raise' or float, default=nan
        The score of a fit that fails; 'raise' passes its error on.
    params : dict, default=None
        Parameters for `fit`, the scorer and the splitter, as `sklearn.model_selection.cross_validate` takes them, such as
        ``{"sample_weight": weights}``.

    Returns
    -------
    curve : BatchSizeCurve
        Scores, seconds, updates and epochs of shape (n_sizes, n_splits).

    Raises
    ------
    ValueError
        For an estimator without one parameter `batch_size`, and for what `cross_validate` rejects.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.model_selection import batch_size_curve
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(random_state=0))
    >>> curve = batch_size_curve(model, X, y, batch_sizes=[8, 64], cv=3)
    >>> curve.param_name, curve.test_scores.shape
    ('minibatchsgdclassifier__batch_size', (2, 3))
    """
    name = batch_size_parameter(estimator)
    sizes = np.asarray(batch_sizes)
    if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iuf":
        raise ValueError(f"batch_sizes must be a list of numbers. Got {batch_sizes!r}.")
    splits = list(check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y, groups))
    settings = {"scoring": scoring, "n_jobs": n_jobs, "error_score": error_score, "params": params}
    settings |= {"return_train_score": True, "return_estimator": True}

    def run(size: Any, some: list) -> dict[str, Any]:
        return cross_validate(clone(estimator).set_params(**{name: size.item()}), X, y, cv=some, **settings)

    with suppress(ValueError):  # a fit that fails is reported below
        run(sizes[0], splits[:1])
    found = [run(size, splits) for size in sizes]
    effort = {
        attribute: np.array([[_effort(fitted, attribute) for fitted in each["estimator"]] for each in found])
        for attribute in ("n_updates_", "n_iter_")
    }
    return BatchSizeCurve(
        batch_sizes=sizes,
        train_scores=np.array([each["train_score"] for each in found]),
        test_scores=np.array([each["test_score"] for each in found]),
        fit_seconds=np.array([each["fit_time"] for each in found]),
        n_updates=effort["n_updates_"],
        epochs=effort["n_iter_"],
        param_name=name,
        test_share=float(np.mean([len(test) / len(train) for train, test in splits])),
    )


def _effort(fitted: Any, attribute: str) -> float:
    """A counter of a fitted estimator, of a pipeline that of its last step; NaN where it has none."""
    while isinstance(fitted, Pipeline):
        fitted = fitted[-1]
    return float(getattr(fitted, attribute, np.nan))


# -- the range of rates


@dataclass(frozen=True, eq=False)
class LearningRateRange:
    """What a range test found; see `learning_rate_range_test`.

    Attributes
    ----------
    rates : ndarray of shape (n_run,)
        The rate of each update, ascending; the last ones are missing where training diverged before.
    losses : ndarray of shape (n_run,)
        The training objective after each update.
    suggestion : float
        The rate whose constant run ended at the least objective; one of `trial_rates`.
    trial_rates, trial_losses : ndarray of shape (n_trials,)
        Rates that were run from the start, constant over as many updates, descending, and the objective at their end;
        infinite where a run diverged.
    param_name : str
        The parameter of the estimator that the rate is for.
    batch_size : int
        Rows of an update.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float
    trial_rates: np.ndarray
    trial_losses: np.ndarray
    param_name: str
    batch_size: int


@validate_params(
    {
        "min_rate": [Interval(Real, 0, None, closed="neither")],
        "max_rate": [Interval(Real, 0, None, closed="neither")],
        "n_updates": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def learning_rate_range_test(
    estimator: Any,
    X: RowsLike,
    y: ArrayLike,
    *,
    min_rate: float = 1e-5,
    max_rate: float = 10.0,
    n_updates: int = 100,
    sample_weight: ArrayLike | None = None,
    random_state: RandomState = None,
) -> LearningRateRange:
    """Train while the rate grows, to see where it is too small, right and too large.

    A copy of the estimator makes `n_updates` updates with ``learning_rate='constant'``, whose rate grows geometrically from
    `min_rate` to `max_rate`, ``rate_k = min_rate (max_rate / min_rate)^(k / (n_updates - 1))``. The rate at which the
    objective was least, and 1/2, 1/4, 1/8 and 1/16 of it, are then run from the start, each constant over as many updates: the
    growing rate has the gains of all smaller rates, so that its own curve favours rates that are too large. The suggestion is
    the best of these runs.

    Parameters
    ----------
    estimator : object
        An estimator of this package, or a pipeline that ends in one, fitted or not. It is left as it is; training starts where
        `fit` would. With ``solver='auto'``, a linear model is trained by schedule-free SGD.
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    min_rate, max_rate : float, default=1e-5 and 10
        The first and the last rate.
    n_updates : int, default=100
        Updates of the test, and of each run that follows.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    random_state : int, RandomState instance or None, default=None
        Gives the rows their order and the estimator its seed.

    Returns
    -------
    found : LearningRateRange
        Rates, objective after each update, and the suggestion.

    Raises
    ------
    ValueError
        For an estimator of another package or whose solver has no rate, for rates in the wrong order, and if no rate lowers
        the objective.

    Notes
    -----
    An update takes as many rows as `batch_size` of the estimator, without replacement until all were seen. The objective is
    that of up to 10,000 rows, the same after every update. The test ends where it has risen above the start by as much as it
    had fallen, or by as much as it was at the start.

    References
    ----------
    Smith, Cyclical learning rates for training neural networks, WACV 2017, arXiv:1506.01186.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.model_selection import learning_rate_range_test
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> found = learning_rate_range_test(MiniBatchSGDClassifier(solver="sgd"), scale(X), y, random_state=0)
    >>> model = MiniBatchSGDClassifier(solver="sgd", learning_rate="constant", eta0=found.suggestion, random_state=0)
    >>> bool(model.fit(scale(X), y).score(scale(X), y) > 0.95)
    True
    """
    if min_rate >= max_rate:
        raise ValueError(f"max_rate must be larger than min_rate={min_rate!r}. Got {max_rate!r}.")
    run = _Runs(*examined(estimator, X, y, sample_weight), n_updates, check_random_state(random_state))
    rates = np.geomspace(min_rate, max_rate, n_updates)
    losses = run.losses(rates)
    best = rates[int(np.argmin(losses))]
    trials = np.unique([rates[np.argmin(np.abs(np.log(rates / (best * share))))] for share in TRIALS])[::-1]
    ends = np.array([run.end(np.full(n_updates, rate)) for rate in trials])
    if not (ends < run.start).any():
        raise ValueError(
            f"No rate from min_rate={min_rate!r} to max_rate={max_rate!r} lowers the objective: min_rate may be too large, or "
            "max_rate or n_updates too small."
        )
    return LearningRateRange(
        rates=rates[: len(losses)],
        losses=losses,
        suggestion=float(trials[np.argmin(ends)]),
        trial_rates=trials,
        trial_losses=ends,
        param_name=run.name,
        batch_size=run.batch_size,
    )


def batch_size_of(estimator: Any, rows: WeightedRows) -> int:
    """The rows of a step of an estimator: of a schedule, of the first one."""
    sizes: Any = parts.batch_sizes(estimator.batch_size, rows.n)
    if declared(sizes).kind is SIZE_CHOICE:
        return size_choice(clone(estimator), rows.X, rows.y, rows.sample_weight, "time").batch_size
    return int(min(np.ceil(sizes.start), rows.n))


class _Runs:
    """Runs of a range test, all from the same start on the same batches."""

    def __init__(self, estimator: Any, rows: WeightedRows, n_updates: int, rng: np.random.RandomState) -> None:
        self.name = rate_name(estimator)
        self.batch_size = batch_size_of(estimator, rows)
        self._rows, self._seed = rows, int(rng.randint(np.iinfo(np.int32).max))
        n_passes = -(-n_updates * self.batch_size // rows.n)
        order = np.concatenate([rng.permutation(rows.n) for _ in range(n_passes)])
        self._batches = np.split(order[: n_updates * self.batch_size], n_updates)
        self._model = new_estimator(estimator, self.batch_size, self._seed).set_params(learning_rate="constant")
        evaluated = rng.permutation(rows.n)[:EVALUATED] if rows.n > EVALUATED else np.arange(rows.n)
        weights = None if rows.sample_weight is None else rows.sample_weight[evaluated]
        self._evaluated = (rows.X[evaluated], rows.y[evaluated], weights)
        self.start = float(sum(clone(self._model)._examined(*rows).on(evaluated).objective()))

    def losses(self, rates: np.ndarray) -> np.ndarray:
        """The objective after each update, until it has clearly risen."""
        model, objective = clone(self._model), None
        found: list[float] = []
        for rate, batch in zip(rates, self._batches, strict=True):
            model.set_params(**{self.name: float(rate)})
            try:
                self._rows.learned_by(model, batch)
            except ValueError as error:
                if not isinstance(error.__context__, Diverged):
                    raise
                return np.array(found or [np.inf])
            objective = objective or TrainingObjective(model, *self._evaluated)
            found.append(objective(model))
            gained = self.start - min(found)
            if not found[-1] <= self.start + max(gained, abs(self.start)):
                break
        return np.array(found)

    def end(self, rates: np.ndarray) -> float:
        """The objective at the end; infinite where the run did not get there."""
        losses = self.losses(rates)
        return float(losses[-1]) if len(losses) == len(rates) and np.isfinite(losses[-1]) else np.inf
