"""Validation rows, held out of the training rows or given by the user, and their score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.validation import _check_sample_weight

from skminibatch.backends.arrays import on_host, stays_on_gpu, take_on_device
from skminibatch.models.data import ALL_ROWS, Data
from skminibatch.preparation.begin import Settings
from skminibatch.preparation.present import Present
from skminibatch.training.state import Validated


class ValidationRows(NamedTuple):
    """Rows to score: `X`, or the `rows` of it, with their targets and weights (None: equal)."""

    X: Any
    y: np.ndarray
    weights: np.ndarray | None
    rows: np.ndarray | None = None

    @classmethod
    def given(cls, X, y, weights, check: Callable[..., tuple]) -> ValidationRows:
        """The user's validation rows; ``check(X, y)`` validates them as rows of the estimator."""
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together, and sample_weight_val only with them.")
        X, y = map(on_host, check(X, y))
        if weights is not None:
            weights = _check_sample_weight(on_host(weights), X, ensure_non_negative=True)
        return cls(X, y, weights)

    @classmethod
    def held_out(cls, X, y: np.ndarray, sample_weight, rows: np.ndarray, on_device: bool) -> ValidationRows:
        """Some of the training rows; `on_device`: they are fetched where all rows are, each time that they are scored."""
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, y)[rows]
        return cls(X, y[rows], weights, rows) if on_device else cls(X[rows], y[rows], weights)

    def data(self, y: np.ndarray, weights: np.ndarray) -> tuple[Data, np.ndarray]:
        """The rows as a model reads them, and which of `Data` they are (empty: all), from their targets and weights."""
        if self.rows is None:
            return Data(self.X, y, weights), ALL_ROWS
        n_rows = self.X.shape[0]
        targets, all_weights = np.zeros((n_rows, *y.shape[1:]), y.dtype), np.ones(n_rows if weights.size else 0)
        targets[self.rows] = y
        if weights.size:
            all_weights[self.rows] = weights
        return Data(self.X, targets, all_weights), self.rows

    def score(self, scorer: Callable[..., float], estimator) -> float:
        """The score of a fitted estimator."""
        X = self.X if self.rows is None else take_on_device(self.X, self.rows)
        keywords = {} if self.weights is None else {"sample_weight": self.weights}
        return scorer(estimator, X, self.y, **keywords)


def split(
    y: np.ndarray, rows: np.ndarray, fraction: float, stratified: bool, random_state
) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows held out), a random fraction of those in `rows`."""
    splitter = (StratifiedShuffleSplit if stratified else ShuffleSplit)(
        n_splits=1, test_size=fraction, random_state=random_state
    )
    n = rows.size
    n_held_out = int(np.ceil(fraction * n))
    if n_held_out == 0 or n_held_out >= n:
        raise ValueError(
            f"Splitting {n} samples into a train set and a validation set with validation_fraction="
            f"{fraction} led to an empty set ({n - n_held_out} and {n_held_out} samples). Please either "
            "change validation_fraction, increase number of samples, or disable early_stopping."
        )
    kept, held_out = next(splitter.split(rows[:, None], y[rows] if stratified else None))
    return np.sort(rows[kept]), np.sort(rows[held_out])


def validation_rows(
    estimator: Any, target: Any, given: tuple, rows: np.ndarray | None, rng, separate: tuple
) -> tuple[ValidationRows | None, np.ndarray | None]:
    """The validation rows of a fit (None: there are none), and the rows left to train on.

    `given` are the training rows (X, y, sample_weight), validated, and `separate` the user's own validation rows as they came,
    all None where there are none.
    """

    def check(X_val, y_val):
        X_val, y_val = estimator._check_X_y(X_val, y_val, reset=False)
        target.encode(y_val, np.dtype(X.dtype))
        return X_val, y_val

    X, y, sample_weight = given
    X_val, y_val, sample_weight_val = separate
    if any(array is not None for array in separate):
        return ValidationRows.given(X_val, y_val, sample_weight_val, check), rows
    if not estimator.early_stopping:
        return None, rows
    candidates = np.arange(X.shape[0]) if rows is None else rows
    rows, held_out = split(y, candidates, estimator.validation_fraction, target.has_classes, rng)
    # the score of an estimator takes CuPy arrays, which the scorers of scikit-learn do not
    on_device = estimator.scoring is None and stays_on_gpu(X)
    return ValidationRows.held_out(X, y, sample_weight, held_out, on_device), rows


def validator(
    estimator: Any, validation: ValidationRows, settings: Settings, present: Present | None
) -> Callable[..., Validated]:
    """What validation rows say of a predictor: the score, and the mean of the losses of training, weighted as these."""
    target, model, scorer = settings.target, settings.model, check_scoring(estimator, estimator.scoring)
    weights = estimator._weights(target, validation.y, validation.weights, settings.class_counts)
    data, rows = validation.data(target.encode(validation.y, np.dtype(validation.X.dtype)), weights)

    def validated(*predictor) -> Validated:
        score = validation.score(scorer, estimator._with_predictor(*predictor, target))
        if not np.isfinite(score):
            raise ValueError(f"scoring={estimator.scoring!r} gave {score} on the validation set.")
        return Validated(float(score), model.objective(data, rows, predictor)[0])

    return validated if present is None else present.scorer(validated)
