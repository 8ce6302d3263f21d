"""Validation rows, held out or given, and scored after each epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.validation import _check_sample_weight

from skminibatch.backends.arrays import on_host, take_on_device


def validation_score(
    estimator, target, given: tuple, rows: np.ndarray | None, rng, separate: tuple
) -> tuple[Callable | None, np.ndarray | None]:
    """How to score coefficients on validation rows (None: there are none), and the rows left to train on.

    Parameters
    ----------
    given, separate : tuple of (X, y, sample_weight)
        The training rows, validated, and the user's own validation rows, as they came (all None: none).
    """
    X, y, sample_weight = given
    (X_val, y_val, weights), held_out = separate, None
    if X_val is None and y_val is None and weights is None:
        if not estimator.early_stopping:
            return None, rows
        rows, held_out = split(estimator, target, X, y, rows, rng)
        y_val = y[held_out]
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, y)[held_out]
        # the score of an estimator takes rows of CuPy, which the scorers of scikit-learn do not
        if not (estimator.scoring is None and hasattr(X, "take_on_device")):
            X_val, held_out = X[held_out], None
    else:
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val must be given together, and sample_weight_val only with them.")
        X_val, y_val = map(on_host, estimator._check_X_y(X_val, y_val, reset=False))
        target.encode(y_val, np.dtype(X.dtype))
        if weights is not None:
            weights = _check_sample_weight(on_host(weights), X_val, ensure_non_negative=True)
    scorer = check_scoring(estimator, estimator.scoring)
    keywords = {} if weights is None else {"sample_weight": weights}

    def score(*predictor):
        fitted = copy.copy(estimator)
        fitted.__dict__.pop("feature_names_in_", None)  # the rows are arrays by now
        for name, attribute in estimator._attributes(*predictor, target).items():
            setattr(fitted, name, attribute)
        number = scorer(fitted, X_val if held_out is None else take_on_device(X, held_out), y_val, **keywords)
        if not np.isfinite(number):
            raise ValueError(f"scoring={estimator.scoring!r} gave {number} on the validation set.")
        return number

    return score, rows


def split(estimator, target, X, y, rows: np.ndarray | None, rng) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows held out), stratified for labels."""
    candidates = np.arange(X.shape[0]) if rows is None else rows
    stratified = hasattr(target, "classes") and not target.multilabel
    splitter = (StratifiedShuffleSplit if stratified else ShuffleSplit)(
        n_splits=1, test_size=estimator.validation_fraction, random_state=rng
    )
    n = candidates.size
    held_out = int(np.ceil(estimator.validation_fraction * n))
    if held_out == 0 or held_out >= n:
        raise ValueError(
            f"Splitting {n} samples into a train set and a validation set with validation_fraction="
            f"{estimator.validation_fraction} led to an empty set ({n - held_out} and {held_out} samples). Please either "
            "change validation_fraction, increase number of samples, or disable early_stopping."
        )
    kept, held = next(splitter.split(candidates[:, None], y[candidates] if stratified else None))
    return np.sort(candidates[kept]), np.sort(candidates[held])
