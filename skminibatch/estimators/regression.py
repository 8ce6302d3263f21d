"""What regressors share: the target, and what is predicted."""

from __future__ import annotations

from contextlib import suppress
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from skminibatch.backends.arrays import on_host, to_device_of
from skminibatch.contract.kinds import declared
from skminibatch.contract.typing import RowsLike
from skminibatch.estimators import texts
from skminibatch.estimators.checks import validated
from skminibatch.estimators.docstrings import documented
from skminibatch.estimators.targets import RegressionTarget


class Regression(RegressorMixin):
    """An estimator of numbers, whatever its model."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        with suppress(ValueError):  # tags of an estimator with an invalid loss
            targets = declared(self._pointwise_loss()).targets
            tags.target_tags.positive_only = targets is not None and targets.low >= 0
        return tags

    def _target_of(self, y, classes=None):
        return RegressionTarget.of(y)

    def _check_X_y(self, X, y, reset):
        X, y = validated(self, X, y, reset, multi_output=True, y_numeric=True)
        targets = declared(self._pointwise_loss()).targets
        invalid = None if targets is None else ~targets.holds(y)
        if invalid is not None and invalid.any():
            row = int(np.argmax(invalid.reshape(len(y), -1).any(axis=1)))
            raise ValueError(
                f"Some value(s) of y are out of the valid range of the loss {self.loss!r}: row {row} of y is {y[row]}, which "
                f"must be {targets}."
            )
        return X, y

    @documented(texts.PARTIAL_FIT_REGRESSOR, texts.FITTED)
    def partial_fit(
        self, X: RowsLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, strata: ArrayLike | None = None
    ) -> Self:
        """Make one pass over the given rows, continuing from where the last call ended."""
        return self._partial_fit(X, y, None, sample_weight, strata)

    def predict(self, X: RowsLike) -> np.ndarray:
        """Predict targets.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions; for `loss="poisson"` the expected counts, ``exp(X coef + intercept)``.
        """
        raw = self._raw(X)
        raw = raw if self._target.multi_output else raw[:, 0]
        return to_device_of(np.exp(raw) if declared(self._pointwise_loss()).link == "log" else raw, like=X)

    def score(self, X: RowsLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The share of the variance of y that is explained, R^2; each array may be on the host or on a GPU.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
        """
        return r2_score(*map(on_host, (y, self.predict(X))), sample_weight=on_host(sample_weight))
