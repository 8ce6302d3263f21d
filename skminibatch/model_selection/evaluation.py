"""The candidates of a search on one fold: trained on shared rows, in lockstep where they can be, and scored."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from traceback import format_exception
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._validation import _score
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from skminibatch.estimators.base import BaseMiniBatchEstimator
from skminibatch.estimators.linear import LinearEstimator
from skminibatch.estimators.shared import SharedRows, may_share
from skminibatch.model_selection.candidates import Budget, Location
from skminibatch.model_selection.rows import Prepared
from skminibatch.training.lockstep import together
from skminibatch.training.work import carried_out


class Job(NamedTuple):
    """What all folds of a search share."""

    estimator: Any
    place: Location
    budget: Budget
    X: Any
    y: Any
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    scorer: Any
    error_score: Any
    return_train_score: bool
    return_score_curves: bool
    search: Any


class Fold(NamedTuple):
    """Numbers of rows, and the seed of candidates that have none of their own."""

    number: int
    train: np.ndarray
    test: np.ndarray
    seed: int


class Outcome(NamedTuple):
    """What came of a candidate on a fold; what only a fit that succeeds can tell is NaN or empty otherwise."""

    test_scores: Any
    train_scores: Any
    fit_time: float
    score_time: float
    fit_error: str | None
    n_epochs: float = np.nan
    n_updates: float = np.nan
    n_rows_read: float = np.nan
    noise_scale: float = np.nan
    loss_curve: np.ndarray = np.empty(0)
    score_curve: np.ndarray = np.empty(0)
    was_evaluated: bool = True

    @classmethod
    def missing(cls, like: Outcome) -> Outcome:
        """Of a candidate that was not evaluated, with the scores of another one, all NaN."""
        scores = dict.fromkeys(like.test_scores, np.nan) if isinstance(like.test_scores, dict) else np.nan
        return cls(scores, scores, np.nan, np.nan, None, was_evaluated=False)

    def record(self) -> dict[str, Any]:
        """In the words of scikit-learn."""
        names = "test_scores", "train_scores", "fit_time", "score_time", "fit_error"
        return {name: getattr(self, name) for name in names}


def outcomes_of(job: Job, fold: Fold, candidates: Sequence[dict], contexts: Sequence[Any]) -> list[Outcome]:
    """The outcome of each candidate on a fold; transformers are fitted once for all candidates that have them in common."""
    groups: dict[Hashable, list[int]] = {}
    for number, params in enumerate(candidates):
        before = [(name, _identity(value)) for name, value in params.items() if not _is_inner(job.place, name)]
        groups.setdefault(tuple(sorted(before)), []).append(number)
    outcomes: dict[int, Outcome] = {}
    for numbers in groups.values():
        chosen, own = [candidates[n] for n in numbers], [contexts[n] for n in numbers]
        outcomes |= zip(numbers, _of_group(job, fold, chosen, own), strict=True)
    return [outcomes[number] for number in range(len(candidates))]


def _identity(value: Any) -> str:
    """What tells a value from others: of a grid, the candidates have the same objects; two that look alike may differ inside."""
    return repr(value) if value is None or isinstance(value, (bool, int, float, str)) else f"{id(value)}"


def _is_inner(place: Location, name: str) -> bool:
    """Whether a parameter is one of the mini-batch estimator at the end, which transformers do not see."""
    return place.ends_pipeline and (not place.path or name.startswith(f"{place.path}__"))


class Trained(NamedTuple):
    """A candidate after its fit, or the error that has ended this, and the seconds that it took."""

    estimator: Any
    error: Exception | None
    seconds: float


def _of_group(job: Job, fold: Fold, candidates: Sequence[dict], contexts: Sequence[Any]) -> list[Outcome]:
    """The outcomes of candidates whose transformers are the same."""
    whole = [clone(job.estimator).set_params(**clone(params, safe=False)) for params in candidates]
    inner = [job.place.inner(each) for each in whole]
    for each in inner:
        each.set_params(**job.budget.parameters(each.batch_size, len(fold.train)))
        if each.random_state is None:
            each.set_params(random_state=fold.seed)
    trained = inner if job.place.ends_pipeline else whole
    began = time.perf_counter()
    try:
        rows, shared = _rows_of(job, fold, whole[0], trained)
    except Exception as error:
        seconds = time.perf_counter() - began
        return [_failed(job, Trained(None, error, seconds / len(candidates))) for _ in candidates]
    in_common = (time.perf_counter() - began) / len(candidates)
    with _seen_by_callbacks(job, trained, contexts):
        fitted = _fitted(trained, rows, shared, _scored_rows(job, fold, trained, rows))
    fitted = [each._replace(seconds=each.seconds + in_common) for each in fitted]
    return list(_scored(job, fold, fitted, rows))


def _rows_of(job: Job, fold: Fold, whole: Any, trained: list) -> tuple[Prepared, SharedRows | None]:
    """The rows that candidates are trained on, and, where they can share these, what is known of them."""
    shares = job.place.ends_pipeline and all(map(may_share, trained))
    one = next((each for each in trained if shares and each.early_stopping), trained[0])
    if shares and not job.place.path and set(job.fit_params) <= {"sample_weight"}:
        weights = job.fit_params.get("sample_weight")
        return Prepared(None, None, {}), SharedRows(one, job.X, job.y, weights, fold.train)
    X, y = _safe_split(job.estimator, job.X, job.y, fold.train)
    fit_params = _check_method_params(job.X, params=job.fit_params, indices=fold.train)
    rows = Prepared.of(whole, job.place, X, y, fit_params) if job.place.ends_pipeline else Prepared(X, y, fit_params)
    if not (shares and set(rows.fit_params) <= {"sample_weight"}):
        return rows, None
    if isinstance(trained[0], LinearEstimator) and not fit_params and (affine := rows.affine(X)) is not None:
        return rows._replace(X=None, y=None), SharedRows(one, job.X, job.y, None, fold.train, affine)
    return rows, SharedRows(one, rows.X, rows.y, rows.fit_params.get("sample_weight"))


@contextmanager
def _seen_by_callbacks(job: Job, estimators: Sequence[Any], contexts: Sequence[Any]) -> Iterator[None]:
    """Callbacks of the search see the fits of its candidates as tasks of their own."""
    with ExitStack() as stack:
        for estimator, context in zip(estimators, contexts, strict=True):
            stack.enter_context(context.propagate_callback_context(estimator))
            context.call_on_fit_task_begin(estimator=job.search, X=job.X, y=job.y)
        yield
    for context in contexts:
        context.call_on_fit_task_end(estimator=job.search, X=job.X, y=job.y)


def _scored_rows(job: Job, fold: Fold, estimators: Sequence[Any], rows: Prepared) -> tuple:
    """The test rows, for scores after each epoch, where these are asked for."""
    if not (job.return_score_curves and job.place.ends_pipeline):
        return None, None, None
    for estimator in estimators:
        estimator.set_params(scoring=job.scorer)
    X, y = _safe_split(job.estimator, job.X, job.y, fold.test, fold.train)
    return rows.reaching(X), y, None


def _fitted(estimators: Sequence[Any], rows: Prepared, shared: SharedRows | None, validation: tuple) -> list[Trained]:
    """The candidates, linear models in lockstep; others in turn, and those that have so many seconds."""
    untimed = all(getattr(each, "max_time", None) is None for each in estimators)
    if shared is not None and untimed and isinstance(estimators[0], LinearEstimator):
        began = time.perf_counter()
        errors = together([shared.training(each, validation) for each in estimators])
        seconds = time.perf_counter() - began
        work = np.array([0.0 if error else _work_of(each) for each, error in zip(estimators, errors, strict=True)])
        shares = work / max(work.sum(), 1.0)
        each = zip(estimators, errors, shares, strict=True)
        return [Trained(estimator, error, seconds * float(share)) for estimator, error, share in each]
    return [_fitted_alone(estimator, rows, shared, validation) for estimator in estimators]


def _fitted_alone(estimator: Any, rows: Prepared, shared: SharedRows | None, validation: tuple) -> Trained:
    began, found = time.perf_counter(), None
    try:
        if shared is None:
            estimator.fit(rows.X, *(() if rows.y is None else (rows.y,)), **rows.fit_params)
        else:
            carried_out(shared.training(estimator, validation))
    except Exception as error:
        found = error
    return Trained(estimator, found, time.perf_counter() - began)


def _work_of(estimator: Any) -> float:
    """The rows and updates of a fit, by which candidates in lockstep share its seconds."""
    return float(estimator.t_ + estimator.n_updates_)


def _failed(job: Job, fitted: Trained) -> Outcome:
    """The outcome of a candidate whose fit has failed."""
    assert fitted.error is not None
    if job.error_score == "raise":
        raise fitted.error
    score = job.error_score
    if isinstance(job.scorer, _MultimetricScorer):
        score = dict.fromkeys(job.scorer._scorers, job.error_score)
    return Outcome(score, score, fitted.seconds, 0.0, "".join(format_exception(fitted.error)))


def _scored(job: Job, fold: Fold, fitted: Sequence[Trained], rows: Prepared) -> Iterator[Outcome]:
    """The outcome of each candidate."""
    parts = [(fold.test, _safe_split(job.estimator, job.X, job.y, fold.test, fold.train))]
    if job.return_train_score:
        parts.append((fold.train, _safe_split(job.estimator, job.X, job.y, fold.train)))
    # a scorer of scikit-learn reads predictions alone; a user's own function is given the whole pipeline
    scorers = job.scorer._scorers.values() if isinstance(job.scorer, _MultimetricScorer) else [job.scorer]
    reads_whole = not all(isinstance(each, (_BaseScorer, _PassthroughScorer)) for each in scorers)
    reached = [X if reads_whole else rows.reaching(X) for _, (X, _) in parts]
    for each in fitted:
        if each.error is not None:
            yield _failed(job, each)
            continue
        estimator = rows.whole(job.place, each.estimator) if reads_whole else each.estimator
        scores, seconds = [], []
        for X, (numbers, (_, y)) in zip(reached, parts, strict=True):
            began, params = time.perf_counter(), _check_method_params(job.X, params=job.score_params, indices=numbers)
            scores.append(_score(estimator, X, y, job.scorer, params, job.error_score))
            seconds.append(time.perf_counter() - began)
        yield _outcome(each, scores, seconds[0])


def _outcome(fitted: Trained, scores: list, seconds: float) -> Outcome:
    """With what the mini-batch estimator tells of its training, where that was fitted by itself."""
    outcome, estimator = Outcome(scores[0], scores[-1], fitted.seconds, seconds, None), fitted.estimator
    if not isinstance(estimator, BaseMiniBatchEstimator):
        return outcome
    noise = estimator.history_["noise_scale"]
    noise = noise[np.isfinite(noise)]
    return outcome._replace(
        n_epochs=float(estimator.n_iter_),
        n_updates=float(estimator.n_updates_),
        n_rows_read=float(estimator.t_),
        noise_scale=float(noise[-1]) if noise.size else np.nan,
        loss_curve=estimator.loss_curve_,
        score_curve=np.empty(0) if estimator.validation_scores_ is None else estimator.validation_scores_,
    )
