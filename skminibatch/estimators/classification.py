"""What classifiers share: the target, class weights, and what is predicted."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if

from skminibatch.backends.arrays import on_host, to_device_of
from skminibatch.contract.kinds import declared
from skminibatch.contract.typing import RowsLike
from skminibatch.estimators import texts
from skminibatch.estimators.checks import validated
from skminibatch.estimators.docstrings import documented
from skminibatch.estimators.targets import ClassificationTarget


def _has_probabilities(estimator) -> bool:
    """Raise, in words, where the loss has no probabilities."""
    if declared(estimator._pointwise_loss()).brings("probability"):
        return True
    raise AttributeError(f"probability estimates are not available for loss={estimator.loss!r}")


class Classification(ClassifierMixin):
    """An estimator of labels, whatever its model."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _target_of(self, y, classes=None):
        return ClassificationTarget.of(y, classes)

    def _check_X_y(self, X, y, reset):
        X, y = validated(self, X, y, reset, multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = ClassificationTarget.column(y)
        return X, y

    def _counts(self, target, y):
        if self.class_weight != "balanced" or target.multilabel:
            return None
        return np.bincount(target.indices(y), minlength=len(target.classes)).astype(float)

    def _class_weights(self, target, y, counts):
        if self.class_weight is None:
            return None
        if target.multilabel:
            raise ValueError("class_weight is not supported for multilabel y; use sample_weight.")
        if self.class_weight == "balanced":
            weights = counts.sum() / (len(counts) * np.maximum(counts, 1.0))
        else:
            weights = compute_class_weight(self.class_weight, classes=target.classes, y=y)
        return weights[target.indices(y)]

    def _checked_classes(self, target, classes):
        known = vars(self).get("classes_") if target is None else target.classes
        if known is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if target is None and known is not None and not np.array_equal(known, np.unique(known)):
            raise ValueError(f"classes_ has to be sorted, since the outputs follow it; got {known!r}.")
        if known is not None and classes is not None and not np.array_equal(known, np.unique(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}")
        return known if classes is None else classes

    @documented(texts.PARTIAL_FIT_CLASSIFIER, texts.FITTED)
    def partial_fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Make one pass over the given rows, continuing from where the last call ended."""
        return self._partial_fit(X, y, classes, sample_weight, strata)

    def decision_function(self, X: RowsLike) -> np.ndarray:
        """Raw outputs.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        raw : ndarray of shape (n_samples,) for two classes, (n_samples, n_classes) otherwise
            For two classes, positive for ``classes_[1]``.
        """
        raw = self._raw(X)
        return to_device_of(raw[:, 0] if raw.shape[1] == 1 and not self._target.multilabel else raw, like=X)

    def predict(self, X: RowsLike) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        """
        raw = self._raw(X)
        return to_device_of(self._target.decode(raw), like=X)

    def score(self, X: RowsLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The share of rows whose labels are right, all of them at once; each array may be on the host or on a GPU.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
        """
        arrays = map(on_host, (y, self.predict(X)))
        return float(accuracy_score(*arrays, sample_weight=on_host(sample_weight)))

    @available_if(_has_probabilities)
    def predict_proba(self, X: RowsLike) -> np.ndarray:
        """Probabilities of the classes; only for `loss="log_loss"` and `"modified_huber"`.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`; rows sum to one, except for multilabel y, where each column stands alone.
        """
        raw = self._raw(X)
        return to_device_of(self._target.probabilities(raw, self._pointwise_loss()), like=X)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: RowsLike) -> np.ndarray:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
        """
        raw = self._raw(X)
        return to_device_of(self._target.log_probabilities(raw, self._pointwise_loss()), like=X)
