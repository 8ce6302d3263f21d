"""Runs that measure what a batch size costs: steps to a target, and the time of a step."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

FIRST_ROWS = 256  # of a run before the first look at the objective: enough to judge the scale of the features
CHECKS_GROW = 12  # the next look comes when the rows have grown by a twelfth


def training_objective(estimator, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The training objective of an estimator: the mean loss of some rows, and the penalty.

    It is what `fit` minimises. ``best_loss_`` is its least value on a sample of 10,000 rows, where there are more.

    Parameters
    ----------
    estimator : object
        An estimator of this package. One that is not fitted stands where `fit` would start.
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    objective : float

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchSGDRegressor
    >>> from skminibatch.cost_model import training_objective
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MiniBatchSGDRegressor(random_state=0)
    >>> start = training_objective(regressor, X, y)
    >>> training_objective(regressor.fit(X, y), X, y) < 0.6 * start
    True
    """
    return float(sum(estimator._examined(X, y, sample_weight).objective()))


class TrainingObjective:
    """The training objective of fitted estimators on the same rows, which are checked and encoded once."""

    def __init__(self, estimator, X, y, sample_weight):
        self._data = estimator._examined(X, y, sample_weight).data
        self._one = (X[:1], y[:1])  # the fitted parameters do not depend on the rows

    def __call__(self, estimator) -> float:
        return float(sum(estimator._examined(*self._one, None).on_data(self._data).objective()))


class WeightedRows(NamedTuple):
    """Rows to learn from, those of weight zero left out; the weights of the others have the mean one (None: equal)."""

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None

    @classmethod
    def of(cls, X, y: np.ndarray, sample_weight: ArrayLike | None) -> Self:
        """Rows with given weights."""
        if sample_weight is None:
            return cls(X, y, None)
        weights = np.asarray(sample_weight, dtype=np.float64)
        if weights.shape != X.shape[:1] or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise ValueError(
                f"sample_weight must have a finite number for each of the {X.shape[0]} rows, none of them negative and "
                f"not all of them zero. Got {sample_weight!r}."
            )
        kept = weights > 0
        return cls(X[kept], y[kept], weights[kept] / weights[kept].mean())

    @property
    def n(self) -> int:
        return self.X.shape[0]

    def learned_by(self, estimator, rows=slice(None)) -> None:
        """One pass over some of the rows."""
        labels = {}
        if "n_updates_" not in vars(estimator) and "classes" in inspect.signature(estimator.partial_fit).parameters:
            several = self.y.ndim == 2 and self.y.shape[1] > 1
            labels = {"classes": np.arange(self.y.shape[1]) if several else np.unique(self.y)}
        weights = {} if self.sample_weight is None else {"sample_weight": self.sample_weight[rows]}
        estimator.partial_fit(self.X[rows], self.y[rows], **labels, **weights)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(np.iinfo(np.int32).max))


def new_estimator(estimator, batch_size, seed: int):
    """A new estimator with the parameters of another one, but for these; nothing that was learned comes along."""
    own = copy.deepcopy(estimator.get_params(deep=False))
    if (
        own.get("solver") == "auto" and "eta0" in own
    ):  # of a linear model: may follow a stream by Newton's method, whose steps have no batch size
        own["solver"] = "schedule_free"
    never_stops = {"max_time": None, "verbose": 0}
    return type(estimator)(**own).set_params(batch_size=int(batch_size), random_state=seed, **never_stops)


def steps_to_target(
    estimator, rows: WeightedRows, batch_sizes, n_seeds: int, target: float, objective: Callable, max_iter: int, rng
) -> np.ndarray:
    """Steps of `partial_fit` until the objective is at the target, (n_sizes, n_seeds).

    NaN if it is not after `max_iter` passes.
    """
    n_steps = np.full((len(batch_sizes), n_seeds), np.nan)
    for i, size in enumerate(batch_sizes):
        for j in range(n_seeds):
            one = new_estimator(estimator, size, _seed(rng))
            n_steps[i, j] = _steps_of_run(one, rows, target, objective, max_iter, rng)
    return n_steps


def _steps_of_run(estimator, all_rows: WeightedRows, target: float, objective: Callable, max_iter: int, rng) -> float:
    n = all_rows.n
    bounds = _batch_bounds(n, estimator.batch_size)
    seen, steps, value = 0, 0, np.inf
    for _ in range(max_iter):
        order, position = rng.permutation(n), 0
        while position < n:
            wanted = position + max(estimator.batch_size, FIRST_ROWS, seen // CHECKS_GROW)
            # whole batches of the pass, at least one
            end = int(bounds[max(np.searchsorted(bounds, wanted, side="right") - 1, 1)])
            end = end if end > position else int(bounds[np.searchsorted(bounds, position, side="right")])
            rows = order[position:end]
            all_rows.learned_by(estimator, rows)
            before, value_before = steps, value
            seen, position, steps = seen + len(rows), end, int(estimator.n_updates_)
            value = float(objective(estimator))
            if np.isnan(value):
                raise ValueError(f"objective must return a number. Got {value} after {steps} steps.")
            if value <= target:
                share = (value_before - target) / (value_before - value) if np.isfinite(value_before) else 1.0
                return before + share * (steps - before)
    return np.nan


def _batch_bounds(n: int, batch_size: int) -> np.ndarray:
    """Where the batches of a pass begin and end: ``ceil(n / b)`` of them, whose sizes differ by at most one."""
    n_batches = -(-n // batch_size)
    return np.arange(n_batches + 1) * n // n_batches


def _passes(n_steps: np.ndarray, steps_a_pass: np.ndarray) -> np.ndarray:
    """Passes of a usual run to the target; 1 at a size where none reached it."""
    reached = ~np.isnan(n_steps)
    logs = np.log(np.where(reached, n_steps, 1.0)).sum(axis=1) / np.maximum(reached.sum(axis=1), 1)
    return np.ceil(np.exp(logs) / steps_a_pass).astype(np.int64)


def seconds_of_steps(estimator, rows: WeightedRows, batch_sizes, n_steps, n_repeats: int, rng) -> np.ndarray:
    """Seconds of a step of `partial_fit` (n_sizes, n_repeats) in as many passes as a run takes.

    Each repeat takes all sizes, in a new random order: what else the machine does meets all of them alike.
    """
    passes = _passes(n_steps, -(-rows.n // batch_sizes))

    def seconds(i):
        one = new_estimator(estimator, batch_sizes[i], _seed(rng))
        for _ in range(passes[i]):
            rows.learned_by(one)
        return one.history_["seconds"][-1] / one.history_["updates"][-1]

    times = np.empty((len(batch_sizes), n_repeats))
    for i in range(len(batch_sizes)):
        seconds(i)  # compiles
    for j in range(n_repeats):
        for i in rng.permutation(len(batch_sizes)):
            times[i, j] = seconds(i)
    return times
