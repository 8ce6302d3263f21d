"""The search for a batch size by cross-validation."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _insert_error_scores, _warn_or_raise_about_fit_failures
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from skminibatch.contract.typing import RowsLike
from skminibatch.model_selection.candidates import Budget, Location, grid_of
from skminibatch.model_selection.comparison import differences_from
from skminibatch.model_selection.evaluation import Fold, Job, Outcome, outcomes_of
from skminibatch.model_selection.racing import raced
from skminibatch.model_selection.results import add_differences, add_race, add_trainings, scores_of

MOST_SEED = np.iinfo(np.int32).max


class BatchSizeSearchCV(BaseSearchCV):
    """Search over batch sizes, and other parameters, by cross-validation, in which the candidates of a fold are trained together.

    The interface is that of scikit-learn's `GridSearchCV`. Candidates of a fold share its rows: these are checked, encoded and
    transformed once, and linear models are trained in *lockstep*. They see the rows in the same order; each row is read once,
    for all of them, and each model makes its step when its own batch is full. What a candidate comes to is what it comes to
    by itself with the same `random_state`.

    Parameters
    ----------
    estimator : estimator
        A mini-batch estimator of this package, a `Pipeline` that ends in one, or any other estimator with one parameter
        ``batch_size`` inside. It is left as it is.
    batch_sizes : iterable
        Values of `batch_size`, as the estimator takes them.
    param_grid : dict or list of dict, default=None
        Values of other parameters, as in `GridSearchCV`; each is combined with each batch size.
    cv : int, cross-validation generator or iterable, default=None
        The folds, as in `GridSearchCV`. None is five.
    scoring : str, callable, list, tuple or dict, default=None
        The score, as in `GridSearchCV`. None is that of the estimator.
    budget : {'epochs', 'updates', 'seconds'}, default='epochs'
        What all candidates spend alike: passes over the rows, steps (in whole passes, at least one), or the time of a fit.
    budget_value : int or float, default=None
        How much of it. None, with 'epochs': each candidate is trained until it stops by itself, by its own `max_iter` and `tol`.
    refit : bool, str or callable, default=True
        Whether, and by what, the best candidate is chosen and fitted to all rows, as in `GridSearchCV`. A callable gets
        `cv_results_` and returns the number of a candidate, for instance of the largest batch whose
        ``high_difference_from_best`` is not below zero. The budget holds for that fit, too.
    n_jobs : int, default=None
        Folds that are evaluated at the same time, on threads: kernels leave the interpreter to others.
    racing : bool, default=False
        Whether candidates leave that are worse than the best so far beyond doubt: from the second fold on, where the interval
        of the difference (see Notes) is below zero. Folds are then evaluated one after another.
    error_score : 'raise' or float, default=nan
        The score of a candidate whose fit fails.
    return_train_score : bool, default=False
        Whether scores of the training rows are in `cv_results_` too.
    return_score_curves : bool, default=False
        Whether the test rows are scored after each epoch, by the one score that there is.
    random_state : int, RandomState instance or None, default=None
        Gives each fold a seed, for candidates whose `random_state` is None. All candidates of a fold have the same one, so
        that differences between them are not those of the order of rows. Unless it is None, the last fit has a seed, too.
    verbose : int, default=0
        With 1, a line says how many fits there are.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        The columns of `GridSearchCV`. In addition, means over folds: ``mean_n_epochs``, ``mean_n_updates``,
        ``mean_n_rows_read`` and ``mean_noise_scale`` (in rows, at the end of training); ``splitK_loss_curve``, the
        objective after each epoch, and, with `return_score_curves`, ``splitK_score_curve``; and, against the candidate with
        the best score, ``mean_difference_from_best``, ``standard_error_of_difference``, ``low_difference_from_best`` and
        ``high_difference_from_best`` (95 %), see Notes. Where candidates were trained in lockstep, ``mean_fit_time`` is a share
        of the time of all, by rows and updates. With `racing`, ``n_splits_evaluated`` says after how many folds a candidate has
        left; its other scores are NaN, and its means are over those that it has.
    best_estimator_ : estimator
        The best candidate, fitted to all rows; only with `refit`.
    best_params_ : dict
        Its parameters.
    best_score_ : float
        Its mean score over the folds.
    best_index_ : int
        Its number in `cv_results_`.
    indistinguishable_ : list of dict
        The parameters of all candidates that cannot be told from the one with the best score, itself included; not there
        where there are several scores and `refit` names none.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds of the last fit.
    scorer_ : callable or dict of callables
        The score, or the scores.
    feature_names_in_ : ndarray of shape (n_features,)
        Those of the best estimator, where X has names.
    multimetric_ : bool
        Whether there are several scores.

    Raises
    ------
    ValueError
        For invalid parameters; and what `fit` of the estimator raises, with ``error_score='raise'``.

    See Also
    --------
    choose_batch_size : A batch size by the noise of gradients and the time of steps, without a search.

    Notes
    -----
    Scores of two candidates are compared fold by fold, since these are the same for both. Their training sets overlap, so the
    variance of the mean difference is corrected: ``(1 / J + n_test / n_train) s^2`` with J folds and s the standard deviation of
    the differences (Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003).

    That all candidates of a fold read the same rows in the same order is the blocked cross-validation of arXiv:2306.06591.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.model_selection import BatchSizeSearchCV
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> pipeline = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(solver="sgd", learning_rate="constant", eta0=0.05))
    >>> search = BatchSizeSearchCV(pipeline, [8, 32, 128], budget="epochs", budget_value=3, random_state=0).fit(X, y)
    >>> search.cv_results_["mean_n_updates"].round()
    array([171.,  45.,  12.])
    >>> search.best_params_
    {'minibatchsgdclassifier__batch_size': 8}
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"])],
        "batch_sizes": ["array-like", HasMethods(["__iter__"])],
        "param_grid": [dict, list, None],
        "cv": ["cv_object"],
        "scoring": [str, callable, list, tuple, dict, None],
        "budget": [StrOptions({"epochs", "updates", "seconds"})],
        "budget_value": [Interval(Real, 0, None, closed="neither"), None],
        "refit": ["boolean", str, callable],
        "n_jobs": [Integral, None],
        "racing": ["boolean"],
        "error_score": [StrOptions({"raise"}), Real],
        "return_train_score": ["boolean"],
        "return_score_curves": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        batch_sizes: Iterable,
        *,
        param_grid: Mapping | Sequence[Mapping] | None = None,
        cv: Any = None,
        scoring: Any = None,
        budget: str = "epochs",
        budget_value: float | None = None,
        refit: bool | str | Callable = True,
        n_jobs: int | None = None,
        racing: bool = False,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        return_score_curves: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator=estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose,
            error_score=error_score, return_train_score=return_train_score,
        )  # fmt: skip
        self.batch_sizes = batch_sizes
        self.param_grid = param_grid
        self.budget = budget
        self.budget_value = budget_value
        self.racing = racing
        self.return_score_curves = return_score_curves
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)  # the estimator is validated when it is fitted
    def fit(self, X: RowsLike, y: ArrayLike | None = None, **params: Any) -> Self:
        """Train and score each candidate on each fold, and fit the best one to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.
        **params : dict
            What `fit` of the estimator, the score and the splitter are told, such as `sample_weight` and `groups`, as in
            `GridSearchCV`.

        Returns
        -------
        self : object
        """
        scorer, metric = self._get_scorers()
        if self.return_score_curves and isinstance(scorer, _MultimetricScorer):
            raise ValueError("return_score_curves=True needs one score, and scoring has several.")
        place, budget = Location.of(self.estimator), Budget(self.budget, self.budget_value).checked()
        candidates = grid_of(place, self.batch_sizes, self.param_grid)
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        seen: dict[str, Any] = {"estimator": self, "X": X, "y": y}
        if params.get("sample_weight") is not None:
            seen["metadata"] = {"sample_weight": params["sample_weight"]}
        root = self._init_callback_context(max_subtasks=1 + (self.refit is not False)).call_on_fit_task_begin(**seen)
        folds = self._folds(X, y, routed.splitter.split)
        job = Job(
            self.estimator, place, budget, X, y, routed.estimator.fit, routed.scorer.score, scorer, self.error_score,
            self.return_train_score, self.return_score_curves, self,
        )  # fmt: skip
        outcomes = self._evaluated(job, folds, candidates, root)
        metric = self._store(job, folds, candidates, outcomes, metric)
        if isinstance(metric, str):
            self._compare(folds, candidates, metric)
        if self.refit or not self.multimetric_:
            self._choose(metric)
        if self.refit:
            self._refit(job, root, seen)
        self.scorer_ = scorer._scorers if isinstance(scorer, _MultimetricScorer) else scorer
        root.call_on_fit_task_end(**seen)
        return self

    def _folds(self, X, y, split_params: Mapping[str, Any]) -> list[Fold]:
        """The folds, each with a seed."""
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self._checked_cv_orig = splitter
        splits = list(splitter.split(X, y, **split_params))
        if not splits:
            raise ValueError("No fits were performed. Was the CV iterator empty?")
        rng = check_random_state(self.random_state)
        seeds = [int(rng.randint(MOST_SEED)) for _ in splits]
        return [
            Fold(number, np.asarray(train), np.asarray(test), seed)
            for number, ((train, test), seed) in enumerate(zip(splits, seeds, strict=True))
        ]

    def _evaluated(self, job: Job, folds: list[Fold], candidates: list[dict], root: Any) -> list[list[Outcome]]:
        """The outcomes of each fold."""
        n = len(candidates)
        if self.verbose > 0:
            print(f"Fitting {len(folds)} folds for each of {n} candidates, totalling {n * len(folds)} fits")
        task = root.subcontext(task_name="search", max_subtasks=n * len(folds), sequential_subtasks=False)
        task.call_on_fit_task_begin(estimator=self, X=job.X, y=job.y)
        contexts = [
            [
                task.subcontext(task_name="candidate-split-evaluation", task_id=c * len(folds) + fold.number)
                for c in range(n)
            ]
            for fold in folds
        ]
        if self.racing:
            found = raced(job, folds, candidates, contexts, self._refit_metric(job.scorer))
        else:
            found = Parallel(n_jobs=self.n_jobs, prefer="threads")(
                delayed(outcomes_of)(job, fold, candidates, own) for fold, own in zip(folds, contexts, strict=True)
            )
        task.call_on_fit_task_end(estimator=self, X=job.X, y=job.y)
        return found

    def _refit_metric(self, scorer: Any) -> str | None:
        """The score that decides, where there are several."""
        if not isinstance(scorer, _MultimetricScorer):
            return None
        if not isinstance(self.refit, str):
            raise ValueError("racing=True needs the name of a score in refit where there are several.")
        return self.refit

    def _store(
        self, job: Job, folds: list[Fold], candidates: list[dict], found: list[list[Outcome]], metric: str
    ) -> str:
        """Write `cv_results_`; the name of the score that decides."""
        rows = [[of_fold[number] for of_fold in found] for number in range(len(candidates))]
        records = [outcome.record() for row in rows for outcome in row]
        _warn_or_raise_about_fit_failures(records, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(records, self.error_score)
        self.multimetric_ = isinstance(records[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(records[0]["test_scores"])
            metric = self.refit
        with warnings.catch_warnings():
            if self.racing:  # scores are missing on purpose
                warnings.filterwarnings("ignore", "One or more of the", UserWarning)
            self.cv_results_ = self._format_results(candidates, len(folds), records)
        self.n_splits_ = len(folds)
        add_trainings(self.cv_results_, rows)
        if self.racing:
            add_race(self.cv_results_, rows)
        return metric

    def _compare(self, folds: list[Fold], candidates: list[dict], metric: str) -> None:
        """Add the differences from the best score to `cv_results_`."""
        best = int(self.cv_results_[f"rank_test_{metric}"].argmin())
        scores = scores_of(self.cv_results_, metric, self.n_splits_)
        differences = differences_from(scores, best, len(folds[0].test) / len(folds[0].train))
        add_differences(self.cv_results_, differences)
        self.indistinguishable_ = [candidates[number] for number in np.flatnonzero(differences.indistinguishable)]

    def _choose(self, metric: str) -> None:
        """The best candidate."""
        self.best_index_ = self._select_best_index(self.refit, metric, self.cv_results_)
        if not callable(self.refit):
            self.best_score_ = self.cv_results_[f"mean_test_{metric}"][self.best_index_]
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _refit(self, job: Job, root: Any, seen: dict[str, Any]) -> None:
        """Fit the best candidate to all rows, within the budget."""
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        n_rows, batch_size = len(job.y) if job.y is not None else job.X.shape[0], job.place.inner(best).batch_size
        limits = job.budget.parameters(batch_size, n_rows)
        if self.random_state is not None and job.place.inner(best).random_state is None:
            limits["random_state"] = int(check_random_state(self.random_state).randint(MOST_SEED))
        self.best_estimator_ = best.set_params(**{job.place.name(name): value for name, value in limits.items()})
        task = root.subcontext(task_name="refit-with-best-params")
        with task.propagate_callback_context(best):
            task.call_on_fit_task_begin(**seen)
            began = time.time()
            best.fit(job.X, *(() if job.y is None else (job.y,)), **job.fit_params)
            self.refit_time_ = time.time() - began
        if (names := getattr(best, "feature_names_in_", None)) is not None:
            self.feature_names_in_ = names
        task.call_on_fit_task_end(**seen)
