"""Linear models trained by mini-batch stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.callback import with_callbacks
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skminibatch.contract.kinds import declaration
from skminibatch.contract.typing import Part, RandomState, RowsLike
from skminibatch.estimators import interchange, texts
from skminibatch.estimators.classification import Classification
from skminibatch.estimators.docstrings import documented
from skminibatch.estimators.linear import LinearEstimator
from skminibatch.estimators.regression import Regression
from skminibatch.losses import LOSSES


@documented(texts.LINEAR_REGRESSOR, texts.LINEAR_NOTES)
class MiniBatchSGDRegressor(Regression, LinearEstimator):
    """Linear regression by mini-batch stochastic gradient descent.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchSGDRegressor
    >>> X, y = load_diabetes(return_X_y=True, scaled=False)
    >>> model = MiniBatchSGDRegressor(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """

    _parameter_constraints: dict = {
        **LinearEstimator._parameter_constraints,
        "loss": [
            StrOptions({name for name, loss in LOSSES.items() if declaration(loss)["task"] == "regression"}),
            tuple,
        ],
    }

    def __init__(
        self,
        *,
        loss: str | Part = "squared_error",
        penalty: str | Part | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float | None = 0.15,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        fit_intercept: bool = True,
        solver: str | Part = "auto",
        learning_rate: str | Part = "auto",
        eta0: float | None = None,
        power_t: float = 0.5,
        batch_size: float | str | Part = 64,
        lr_scaling: str | None = None,
        base_batch_size: int = 64,
        sampler: str | Part = "shuffle",
        shuffle: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: str | Callable[..., float] | None = None,
        max_time: float | None = None,
        average: bool | int = False,
        clip_norm: float | None = None,
        standardize: bool = False,
        warm_start: bool = False,
        n_jobs: int | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self._store(locals())

    @with_callbacks
    @documented(texts.FIT_REGRESSOR, texts.FITTED)
    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        X_val: RowsLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Fit the model."""
        return self._fit(X, y, sample_weight, (coef_init, intercept_init), (X_val, y_val, sample_weight_val), strata)

    def as_sklearn(self) -> LinearRegression | SGDRegressor:
        """A fitted scikit-learn estimator that predicts the same.

        Returns
        -------
        estimator : SGDRegressor, LinearRegression (several outputs) or PoissonRegressor
            With copies of the fitted attributes.
        """
        check_is_fitted(self)
        return interchange.regressor_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: Any, **parameters: Any) -> Self:
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
        return interchange.from_sklearn(cls(**parameters), estimator)


@documented(texts.LINEAR_CLASSIFIER, texts.LINEAR_NOTES)
class MiniBatchSGDClassifier(Classification, LinearEstimator):
    """Linear classification by mini-batch stochastic gradient descent.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = MiniBatchSGDClassifier(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    _parameter_constraints: dict = {
        **LinearEstimator._parameter_constraints,
        # y is -1 and +1: any loss but those of counts
        "loss": [StrOptions({name for name, loss in LOSSES.items() if declaration(loss)["link"] != "log"}), tuple],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        *,
        loss: str | Part = "log_loss",
        penalty: str | Part | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float | None = 0.15,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        fit_intercept: bool = True,
        solver: str | Part = "auto",
        learning_rate: str | Part = "auto",
        eta0: float | None = None,
        power_t: float = 0.5,
        batch_size: float | str | Part = 64,
        lr_scaling: str | None = None,
        base_batch_size: int = 64,
        sampler: str | Part = "shuffle",
        shuffle: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: str | Callable[..., float] | None = None,
        max_time: float | None = None,
        average: bool | int = False,
        clip_norm: float | None = None,
        standardize: bool = False,
        warm_start: bool = False,
        class_weight: Mapping[Any, float] | str | None = None,
        n_jobs: int | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self._store(locals())

    @with_callbacks
    @documented(texts.FIT_CLASSIFIER, texts.FITTED)
    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        X_val: RowsLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Fit the model."""
        return self._fit(X, y, sample_weight, (coef_init, intercept_init), (X_val, y_val, sample_weight_val), strata)

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
        return interchange.classifier_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: Any, **parameters: Any) -> Self:
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
        return interchange.from_sklearn(cls(**parameters), estimator)
