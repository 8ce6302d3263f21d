"""Fits by others than `fit`: of several estimators to the same rows, and as far as the choice of a batch size."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length

from skminibatch.backends.arrays import on_host
from skminibatch.contract.affine import AffineRows
from skminibatch.estimators.base import BaseMiniBatchEstimator
from skminibatch.estimators.checks import FitRows, active_rows
from skminibatch.schedules.choice import SizeChoice
from skminibatch.training.work import Training

PLAIN_SAMPLERS = {"shuffle", "replacement", "sequential", "blocks"}


def may_share(estimator: Any) -> bool:
    """Whether an estimator can be fitted to shared rows: it asks for nothing that depends on what else is done with them."""
    if not isinstance(estimator, BaseMiniBatchEstimator) or estimator.device not in ("auto", "cpu", "base"):
        return False
    plain = isinstance(estimator.sampler, str) and estimator.sampler in PLAIN_SAMPLERS
    return plain and not estimator.warm_start and not getattr(estimator, "_skl_callbacks", None)


def size_choice(estimator: Any, X, y, sample_weight, goal: str) -> SizeChoice:
    """The batch size that 'auto' would choose for these rows; see `skminibatch.model_selection.choose_batch_size`."""
    estimator._validate_params()
    with estimator._begun(estimator._checked(X, y, on_host(sample_weight)), X, goal=goal) as (fitted, _, _):
        assert fitted.chosen is not None  # batch_size is 'auto'
        return fitted.chosen


class SharedRows:
    """Rows for the fits of several estimators of one class.

    Parameters
    ----------
    estimator : BaseMiniBatchEstimator
        One of them; it is left as it is.
    X, y, sample_weight
        All rows as a user gives them to `fit`.
    rows : ndarray of int or None
        Numbers of those to learn from (None: all). Dense rows are read where they are. Sparse ones are copied, and those of an
        estimator that holds some of them out: what is looked up or split would depend on the others too.
    affine : tuple of ndarray of shape (n_features,), or None
        A center and a scale: estimators see ``(X - center) * scale``, of which no copy is made.
    """

    def __init__(
        self, estimator: Any, X, y, sample_weight=None, rows: np.ndarray | None = None, affine: tuple | None = None
    ) -> None:
        check_consistent_length(X, y, sample_weight)
        if rows is not None and (issparse(X) or estimator.early_stopping):
            X, y = _safe_indexing(X, rows), _safe_indexing(y, rows)
            sample_weight, rows = None if sample_weight is None else _safe_indexing(sample_weight, rows), None
        checked = clone(estimator)
        self.X, self.y = checked._check_X_y(X, y, reset=True)
        names = "n_features_in_", "feature_names_in_"
        self._known = {name: vars(checked)[name] for name in names if name in vars(checked)}
        if affine is not None:
            self.X = AffineRows(self.X, *(each.astype(self.X.dtype) for each in affine))
            self._known.pop("feature_names_in_", None)
        self._given, self._rows = (X, y), rows
        self._weights = None if sample_weight is None else np.asarray(on_host(sample_weight), np.float64)
        self._own_y = self.y if rows is None else self.y[rows]
        self.target = checked._target_of(self._own_y)
        self._memory: dict = {}
        self._encoded = self._of_all(self.target.encode(self._own_y, np.dtype(self.X.dtype)))

    def training(self, estimator: Any, validation: tuple = (None, None, None)) -> Training[None]:
        """The fit of an estimator, as a coroutine; `validation`: rows that are scored after each epoch, as `fit` takes them."""
        with estimator._all_or_nothing():
            estimator._validate_params()
            for name, known in self._known.items():
                setattr(estimator, name, known)
            counts = estimator._counts(self.target, self._own_y)
            weights = self._weights
            own = weights if weights is None or self._rows is None else weights[self._rows]
            own = estimator._weights(self.target, self._own_y, own, counts)
            active, found = active_rows(own, "fit"), self._of_all(own)
            rows = active if self._rows is None else self._rows if active is None else self._rows[active]
            if rows is not None:  # one array for all: orders of the same rows are told by where it is
                rows = self._memory.setdefault(("rows", rows.tobytes()), rows)
            checked = FitRows(self.X, self.y, weights, self.target, self._encoded, counts, found, rows, self._memory)
            yield from estimator._fitting(checked, self._seen(), None, (), validation)

    def _of_all(self, of_own: np.ndarray) -> np.ndarray:
        """An array of the rows to learn from as one of all rows, zero elsewhere."""
        if self._rows is None or not of_own.size:
            return of_own
        spread = np.zeros((len(self.y), *of_own.shape[1:]), of_own.dtype)
        spread[self._rows] = of_own
        return spread

    def _seen(self) -> tuple:
        """X, y and the sample weights for those who look on: functions of rows that are copied when somebody does."""
        X, y = self._given
        if self._rows is None:
            return X, y, self._weights
        weights = None if self._weights is None else self._weights[self._rows]
        return partial(_safe_indexing, X, self._rows), partial(_safe_indexing, y, self._rows), weights
