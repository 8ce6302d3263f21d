"""Rows as the kernels want them; validation rows, held out or given, and scored after each epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, validate_data

from skminibatch.backends import check_device, is_sparse, on_gpu, on_host, there

COPIED = 1024  # rows at once, where columns become rows
FINITE = 1 << 16  # rows that are looked at together, once a sum says that a number of them is not finite
ROWS = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}  # what the kernels read


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
        if not (estimator.scoring is None and hasattr(X, "there")):
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

    def score(*predicts):
        fitted = copy.copy(estimator)
        fitted.__dict__.pop("feature_names_in_", None)  # the rows are arrays by now
        for name, attribute in estimator._attributes(*predicts, target).items():
            setattr(fitted, name, attribute)
        number = scorer(fitted, X_val if held_out is None else there(X, held_out), y_val, **keywords)
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


def validated(estimator, X, y, reset, **checks):
    """X and y as the kernels want them: C-contiguous float rows, or CSR with sorted indices and no duplicates.

    Rows on a GPU stay there; y is on the host.
    """
    y = on_host(y)
    if on_gpu(X):
        X = _validated_on_gpu(estimator, X, reset)
        X = X if is_sparse(X) else np.ascontiguousarray(X, like=X)
        y = validate_data(estimator, y=y, reset=reset, **checks)
        check_consistent_length(X, y)
    else:
        X, y = validate_data(estimator, X, y, reset=reset, **ROWS, **checks)
    if not is_sparse(X):
        X = X if X.flags.c_contiguous else _by_rows(X)
    elif not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X, y


def rows_to_predict(estimator, X):
    """X as in `validated`, with the features that the estimator was fitted with."""
    return _validated_on_gpu(estimator, X, False) if on_gpu(X) else validate_data(estimator, X, reset=False, **ROWS)


def _validated_on_gpu(estimator, X, reset):
    """Float rows on a GPU, checked in scikit-learn's words by those rows that it has to see: the first one, and a bad one."""
    check_device(X)
    X = X.tocsr() if hasattr(X, "tocsr") else X
    first = validate_data(estimator, on_host(X[:1]), reset=reset, **ROWS)
    X = X if X.dtype == first.dtype else X.astype(first.dtype)
    stored = X.data if is_sparse(X) else X
    if np.isfinite(float(stored.sum(dtype=np.float64))):
        return X
    for start in range(0, X.shape[0], FINITE):
        some = on_host(X[start : start + FINITE])
        validate_data(estimator, some, reset=False, **ROWS)
    return X


def _by_rows(X: np.ndarray) -> np.ndarray:
    """A C-contiguous copy, by blocks of rows that stay in the cache: sooner than all columns at once."""
    rows = np.empty(X.shape, X.dtype)
    for start in range(0, len(X), COPIED):
        rows[start : start + COPIED] = X[start : start + COPIED]
    return rows
