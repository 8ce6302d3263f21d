"""Linear models trained by mini-batch stochastic gradient descent."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.callback import with_callbacks
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skminibatch import _interchange
from skminibatch._docs import CLASSIFIER, REGRESSOR
from skminibatch._linear import LinearEstimator, validated
from skminibatch._targets import ClassificationTarget, RegressionTarget
from skminibatch.losses import LOSSES, Logistic, ModifiedHuber, Poisson


class MiniBatchSGDRegressor(RegressorMixin, LinearEstimator):
    __doc__ = REGRESSOR

    _parameter_constraints: dict = {
        **LinearEstimator._parameter_constraints,
        "loss": [StrOptions({name for name, loss in LOSSES.items() if loss.task == "regression"}), tuple],
    }

    def __init__(
        self,
        *,
        loss="squared_error",
        penalty="l2",
        alpha=1e-4,
        l1_ratio=0.15,
        epsilon=0.1,
        quantile=0.5,
        fit_intercept=True,
        solver="auto",
        learning_rate="auto",
        eta0=None,
        power_t=0.5,
        batch_size=64,
        lr_scaling=None,
        base_batch_size=64,
        sampler="shuffle",
        shuffle=True,
        max_iter=1000,
        tol=1e-3,
        n_iter_no_change=3,
        early_stopping=False,
        validation_fraction=0.1,
        scoring=None,
        max_time=None,
        average=False,
        clip_norm=None,
        standardize=False,
        warm_start=False,
        n_jobs=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self._store(locals())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags

    def _target_of(self, y, classes=None):
        return RegressionTarget.of(y)

    def _check_X_y(self, X, y, reset):
        X, y = validated(self, X, y, reset, multi_output=True, y_numeric=True)
        if isinstance(self._pointwise_loss(), Poisson) and np.any(y < 0):
            row = int(np.argmax(np.asarray(y < 0).reshape(len(y), -1).any(axis=1)))
            raise ValueError(
                f"Some value(s) of y are out of the valid range of the loss 'poisson': row {row} of y is {y[row]}, "
                "but counts are at least 0."
            )
        return X, y

    @with_callbacks
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Training rows. float32 and float64 are used as they are, other types become float64.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets, one column or several.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, at least 0; only their proportions matter. Rows of weight zero are left out.
        coef_init, intercept_init : array-like, default=None
            Coefficients and intercepts to start from, in the shape of `coef_` and `intercept_`.
        X_val, y_val : array-like, default=None
            Rows to score after each epoch instead of a part of the training rows.
        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Weights of the validation rows in the score.
        strata : array-like of shape (n_samples,), default=None
            The stratum or group of each row, for `sampler` 'stratified', 'neyman' and 'groups'.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For invalid input, and when the loss or a gradient overflows; the estimator is left as it was.
        """
        return self._fit(X, y, sample_weight, coef_init, intercept_init, X_val, y_val, sample_weight_val, strata)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, strata: ArrayLike | None = None
    ) -> Self:
        """Do one pass over some rows, going on from where the last call ended.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, taken as they are, so that the chunks of a stream keep their relative weight.
        strata : array-like of shape (n_samples,), default=None
            The stratum or group of each row, as in `fit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._partial_fit(X, y, None, sample_weight, strata)

    def predict(self, X: ArrayLike) -> np.ndarray:
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
        return np.exp(raw) if isinstance(self._pointwise_loss(), Poisson) else raw

    def as_sklearn(self) -> LinearRegression | SGDRegressor:
        """A fitted scikit-learn estimator that predicts the same.

        Returns
        -------
        estimator : SGDRegressor, LinearRegression (several outputs) or PoissonRegressor
            With copies of the fitted attributes.
        """
        check_is_fitted(self)
        return _interchange.regressor_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator, **parameters) -> Self:
        """An estimator with the coefficients of a fitted linear regressor of scikit-learn.

        Parameters
        ----------
        estimator : object
            With `coef_` and `intercept_`, such as `SGDRegressor`, `Ridge` or `LinearRegression`.
        **parameters
            Parameters of the new estimator; `partial_fit` and `warm_start` go on from the coefficients.

        Returns
        -------
        estimator : MiniBatchSGDRegressor
        """
        return _interchange.from_sklearn(cls(**parameters), estimator)


def _has_probabilities(estimator) -> bool:
    """Raise, in words, where the loss has no probabilities."""
    if isinstance(estimator._pointwise_loss(), (Logistic, ModifiedHuber)):
        return True
    raise AttributeError(f"probability estimates are not available for loss={estimator.loss!r}")


class MiniBatchSGDClassifier(ClassifierMixin, LinearEstimator):
    __doc__ = CLASSIFIER

    _parameter_constraints: dict = {
        **LinearEstimator._parameter_constraints,
        # y is -1 and +1: any loss but those of counts
        "loss": [StrOptions({name for name, loss in LOSSES.items() if getattr(loss, "link", None) != "log"}), tuple],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        *,
        loss="log_loss",
        penalty="l2",
        alpha=1e-4,
        l1_ratio=0.15,
        epsilon=0.1,
        quantile=0.5,
        fit_intercept=True,
        solver="auto",
        learning_rate="auto",
        eta0=None,
        power_t=0.5,
        batch_size=64,
        lr_scaling=None,
        base_batch_size=64,
        sampler="shuffle",
        shuffle=True,
        max_iter=1000,
        tol=1e-3,
        n_iter_no_change=3,
        early_stopping=False,
        validation_fraction=0.1,
        scoring=None,
        max_time=None,
        average=False,
        clip_norm=None,
        standardize=False,
        warm_start=False,
        class_weight=None,
        n_jobs=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self._store(locals())

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

    def _check_classes(self, target, classes):
        if target is None and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if target is not None and classes is not None and not np.array_equal(target.classes, np.unique(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {target.classes!r}"
            )

    @with_callbacks
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Training rows. float32 and float64 are used as they are, other types become float64.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels of any type, or a matrix of 0 and 1 with a column for each of several independent labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, at least 0; only their proportions matter. Rows of weight zero are left out.
        coef_init, intercept_init : array-like, default=None
            Coefficients and intercepts to start from, in the shape of `coef_` and `intercept_`.
        X_val, y_val : array-like, default=None
            Rows to score after each epoch instead of a part of the training rows.
        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Weights of the validation rows in the score.
        strata : array-like of shape (n_samples,), default=None
            The stratum or group of each row, for `sampler` 'stratified', 'neyman' and 'groups'.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For invalid input, and when the loss or a gradient overflows; the estimator is left as it was.
        """
        return self._fit(X, y, sample_weight, coef_init, intercept_init, X_val, y_val, sample_weight_val, strata)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Do one pass over some rows, going on from where the last call ended.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels; not every class needs to be among them.
        classes : array-like of shape (n_classes,), default=None
            All classes that will ever come; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, taken as they are, so that the chunks of a stream keep their relative weight.
        strata : array-like of shape (n_samples,), default=None
            The stratum or group of each row, as in `fit`.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._partial_fit(X, y, classes, sample_weight, strata)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
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
        return raw[:, 0] if raw.shape[1] == 1 and not self._target.multilabel else raw

    def predict(self, X: ArrayLike) -> np.ndarray:
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
        return self._target.decode(raw)

    @available_if(_has_probabilities)
    def predict_proba(self, X: ArrayLike) -> np.ndarray:
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
        return self._target.probabilities(raw, self._pointwise_loss())

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
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
        return self._target.log_probabilities(raw, self._pointwise_loss())

    def as_sklearn(self) -> LogisticRegression | SGDClassifier:
        """A fitted scikit-learn estimator that predicts the same.

        Returns
        -------
        estimator : LogisticRegression (`loss="log_loss"`) or SGDClassifier
            With copies of the fitted attributes.

        Raises
        ------
        ValueError
            For multilabel y, for which scikit-learn has no linear model.
        """
        check_is_fitted(self)
        return _interchange.classifier_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator, **parameters) -> Self:
        """An estimator with the coefficients of a fitted linear classifier of scikit-learn.

        Parameters
        ----------
        estimator : object
            With `coef_`, `intercept_` and `classes_`, such as `SGDClassifier` or `LogisticRegression`.
        **parameters
            Parameters of the new estimator; `partial_fit` and `warm_start` go on from the coefficients.

        Returns
        -------
        estimator : MiniBatchSGDClassifier
        """
        return _interchange.from_sklearn(cls(**parameters), estimator)
