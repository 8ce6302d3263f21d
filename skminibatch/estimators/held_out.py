"""Validation rows, held out of the training rows or given by the user, and their score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.validation import _check_sample_weight

from skminibatch.backends.arrays import on_host, take_on_device


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


def scorer_of(estimator: Any, validation: ValidationRows, with_predictor: Callable[..., Any]) -> Callable[..., float]:
    """What the scoring of an estimator says of a predictor; `with_predictor` makes an estimator that predicts by it."""
    scorer = check_scoring(estimator, estimator.scoring)

    def score(*predictor) -> float:
        number = validation.score(scorer, with_predictor(*predictor))
        if not np.isfinite(number):
            raise ValueError(f"scoring={estimator.scoring!r} gave {number} on the validation set.")
        return number

    return score
