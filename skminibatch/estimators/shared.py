"""Rows that several estimators are fitted to: checked and encoded once, and read by all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length

from skminibatch.backends.arrays import on_host
from skminibatch.estimators.base import BaseMiniBatchEstimator
from skminibatch.estimators.checks import FitRows, active_rows
from skminibatch.training.work import Training

PLAIN_SAMPLERS = {"shuffle", "replacement", "sequential", "blocks"}


def may_share(estimator: Any) -> bool:
    """Whether an estimator can be fitted to shared rows: it asks for nothing that depends on what else is done with them."""
    if not isinstance(estimator, BaseMiniBatchEstimator) or estimator.device not in ("auto", "cpu", "base"):
        return False
    plain = isinstance(estimator.sampler, str) and estimator.sampler in PLAIN_SAMPLERS
    return plain and not estimator.warm_start and not getattr(estimator, "_skl_callbacks", None)


class SharedRows:
    """Rows for the fits of several estimators of one class.

    Parameters
    ----------
    estimator : BaseMiniBatchEstimator
        One of them; it is left as it is.
    X, y, sample_weight
        All rows as a user gives them to `fit`.
    rows : ndarray of int or None
        Numbers of those to learn from (None: all). They are copied, once for all estimators: so a fit comes to what it comes to
        with these rows alone, which the others would change a little.
    """

    def __init__(self, estimator: Any, X, y, sample_weight=None, rows: np.ndarray | None = None) -> None:
        if rows is not None:
            check_consistent_length(X, y, sample_weight)
            X, y = _safe_indexing(X, rows), _safe_indexing(y, rows)
            sample_weight = None if sample_weight is None else _safe_indexing(sample_weight, rows)
        checked = clone(estimator)
        self._given = X, y, sample_weight
        self.X, self.y = checked._check_X_y(X, y, reset=True)
        names = "n_features_in_", "feature_names_in_"
        self._known = {name: vars(checked)[name] for name in names if name in vars(checked)}
        self._weights = None if sample_weight is None else on_host(sample_weight)
        self.target = checked._target_of(self.y)
        self._encoded = self.target.encode(self.y, np.dtype(self.X.dtype))
        self._memory: dict = {}

    def training(self, estimator: Any) -> Training[None]:
        """The fit of an estimator, as a coroutine."""
        with estimator._all_or_nothing():
            estimator._validate_params()
            for name, known in self._known.items():
                setattr(estimator, name, known)
            counts = estimator._counts(self.target, self.y)
            weights = estimator._weights(self.target, self.y, self._weights, counts)
            rows = active_rows(weights, "fit")
            if rows is not None:  # one array for all: orders of the same rows are told by where it is
                rows = self._memory.setdefault(("rows", rows.tobytes()), rows)
            known = self.target, self._encoded, counts, weights, rows, self._memory
            yield from estimator._fitting(
                FitRows(self.X, self.y, self._weights, *known), self._given, None, (), (None, None, None), None
            )
