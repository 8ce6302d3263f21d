"""Rows as the kernels want them, seeds, and advice where training diverges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, validate_data

from skminibatch.backends.arrays import check_device, is_sparse, on_gpu, on_host
from skminibatch.preparation.present import Present
from skminibatch.training.state import Diverged

COPIED = 1024  # rows at once, where columns become rows
FINITE = 1 << 16  # rows at once, in the search for a number that is not finite
ROWS = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}  # what the kernels read


class FitRows(NamedTuple):
    """The rows of a fit, checked: those of `rows` (None: all) are learnt from, with what is known of their targets.

    Attributes
    ----------
    X, y, sample_weight
        As the kernels want them, and as the user gave them, on the host.
    target, encoded, counts
        How y is encoded, y so encoded, and how often each class occurs where class weights need it.
    weights : ndarray of shape (n,) or (0,)
        Sample weights times class weights.
    memory : dict or None
        See `Data.memory`.
    """

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None
    target: Any
    encoded: np.ndarray
    counts: np.ndarray | None
    weights: np.ndarray
    rows: np.ndarray | None
    memory: dict | None = None


def one_of_all(X, memory: dict | None) -> Any:
    """Rows that were written out, or not: of all who share them by a memory, those of the first, since they are the same."""
    return X if memory is None else memory.setdefault(("X", is_sparse(X)), X)


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
    """Float rows on a GPU; scikit-learn checks only the first of them, and those with a number that is not finite."""
    check_device(X)
    X = X.tocsr() if hasattr(X, "tocsr") else X
    first = validate_data(estimator, on_host(X[:1]), reset=reset, **ROWS)
    X = X if X.dtype == first.dtype else X.astype(first.dtype)
    stored = X.data if is_sparse(X) else X
    if np.isfinite(float(stored.sum(dtype=np.float64))):
        return X
    for start in range(0, X.shape[0], FINITE):
        validate_data(estimator, on_host(X[start : start + FINITE]), reset=False, **ROWS)
    return X


def _by_rows(X: np.ndarray) -> np.ndarray:
    """A C-contiguous copy, by blocks of rows that stay in the cache: faster than all columns at once."""
    rows = np.empty(X.shape, X.dtype)
    for start in range(0, len(X), COPIED):
        rows[start : start + COPIED] = X[start : start + COPIED]
    return rows


def seed_of(random_state) -> int:
    """The seed of all random numbers of a training, drawn from `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextmanager
def advice_on_divergence(estimator, X, remedy: str, present: Present | None = None) -> Iterator[None]:
    """A divergence inside raises an error that says what to do, and names the features whose scale is the likely cause.

    `present`: which features X has, where it has not all.
    """
    try:
        yield
    except Diverged as failure:
        X, names = X[:1000], getattr(estimator, "feature_names_in_", None)
        sizes = np.asarray(abs(X).max(axis=0).todense() if sparse.issparse(X) else np.abs(X).max(axis=0)).ravel()
        sizes = sizes if present is None else present.spread(sizes)
        largest = np.argsort(sizes)[::-1][:3]
        listed = ", ".join(f"{j if names is None else names[j]} (up to {sizes[j]:.3g})" for j in largest)
        smaller = "" if np.isnan(failure.rate) else f", or a smaller rate than {failure.rate:.3g}, or {remedy}"
        raise ValueError(
            f"{failure} Scaling input data with StandardScaler or MinMaxScaler might help{smaller}. "
            f"Largest features: {listed}."
        ) from None


def active_rows(weights: np.ndarray, method: str) -> np.ndarray | None:
    """Rows of positive weight, None for all."""
    if not weights.size or np.all(weights > 0):
        return None
    rows = np.flatnonzero(weights)
    if method == "fit" and not rows.size:
        raise ValueError("Sample weights must contain at least one non-zero number: all rows have weight zero.")
    return rows
