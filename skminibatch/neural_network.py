"""Multilayer perceptrons trained by mini-batch stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.callback import with_callbacks
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skminibatch.contract.kinds import declaration
from skminibatch.contract.typing import Part, RandomState, RowsLike
from skminibatch.estimators import network_interchange, texts
from skminibatch.estimators.classification import Classification
from skminibatch.estimators.docstrings import documented
from skminibatch.estimators.network import MLPEstimator
from skminibatch.estimators.regression import Regression
from skminibatch.losses import LOSSES


@documented(texts.NETWORK_REGRESSOR, texts.NETWORK_NOTES)
class MiniBatchMLPRegressor(Regression, MLPEstimator):
    """Regression by a multilayer perceptron.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MiniBatchMLPRegressor(learning_rate_init=0.01, max_iter=100, tol=None, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """

    _parameter_constraints: dict = {
        **MLPEstimator._parameter_constraints,
        "loss": [
            StrOptions({name for name, loss in LOSSES.items() if declaration(loss)["task"] == "regression"}),
            tuple,
        ],
    }

    def __init__(
        self,
        *,
        loss: str | Part = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Part | list[Any] = "relu",
        solver: str | Part = "adam",
        alpha: float = 1e-4,
        batch_size: float | str | Part = 200,
        lr_scaling: str | None = None,
        base_batch_size: int = 200,
        learning_rate: str | Part = "constant",
        learning_rate_init: float = 1e-3,
        power_t: float = 0.5,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        normalization: str | Part | None = None,
        normalize_input: bool = False,
        dropout: float | list[float] = 0.0,
        sampler: str | Part = "shuffle",
        shuffle: bool = True,
        max_iter: int = 200,
        tol: float | None = 1e-4,
        n_iter_no_change: float = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: str | Callable[..., float] | None = None,
        max_time: float | None = None,
        average: bool | int = False,
        clip_norm: float | None = None,
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
        X_val: RowsLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Fit the network."""
        return self._fit(X, y, sample_weight, (None,), (X_val, y_val, sample_weight_val), strata)

    def as_sklearn(self) -> MLPRegressor:
        """A fitted network of scikit-learn that predicts the same.

        Batch and ghost normalization become part of weights and intercepts, and dropout vanishes.
        Targets of shape (n_samples, 1) are predicted in the shape (n_samples,).

        Returns
        -------
        estimator : MLPRegressor
            With copies of the fitted attributes.

        Raises
        ------
        ValueError
            Where scikit-learn has no equivalent; it names the layer.
        """
        check_is_fitted(self)
        return network_interchange.regressor_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: MLPRegressor, **parameters: Any) -> Self:
        """An estimator with the layers of a fitted network of scikit-learn.

        Parameters
        ----------
        estimator : MLPRegressor
            Fitted; its layers and their activation are taken over.
        **parameters
            Parameters of the new estimator; `partial_fit` and `warm_start` go on from the layers.

        Returns
        -------
        estimator : MiniBatchMLPRegressor
        """
        return network_interchange.from_sklearn(cls(**parameters), estimator)


@documented(texts.NETWORK_CLASSIFIER, texts.NETWORK_NOTES)
class MiniBatchMLPClassifier(Classification, MLPEstimator):
    """Classification by a multilayer perceptron.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skminibatch import MiniBatchMLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MiniBatchMLPClassifier(normalization="batch", max_iter=20, tol=None, random_state=0).fit(X / 16, y)
    >>> bool(model.score(X / 16, y) > 0.95)
    True
    """

    _parameter_constraints: dict = {
        **MLPEstimator._parameter_constraints,
        # y is -1 and +1: any loss but those of counts
        "loss": [StrOptions({name for name, loss in LOSSES.items() if declaration(loss)["link"] != "log"}), tuple],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        *,
        loss: str | Part = "log_loss",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Part | list[Any] = "relu",
        solver: str | Part = "adam",
        alpha: float = 1e-4,
        batch_size: float | str | Part = 200,
        lr_scaling: str | None = None,
        base_batch_size: int = 200,
        learning_rate: str | Part = "constant",
        learning_rate_init: float = 1e-3,
        power_t: float = 0.5,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        normalization: str | Part | None = None,
        normalize_input: bool = False,
        dropout: float | list[float] = 0.0,
        sampler: str | Part = "shuffle",
        shuffle: bool = True,
        max_iter: int = 200,
        tol: float | None = 1e-4,
        n_iter_no_change: float = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: str | Callable[..., float] | None = None,
        max_time: float | None = None,
        average: bool | int = False,
        clip_norm: float | None = None,
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
        X_val: RowsLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        strata: ArrayLike | None = None,
    ) -> Self:
        """Fit the network."""
        return self._fit(X, y, sample_weight, (None,), (X_val, y_val, sample_weight_val), strata)

    def as_sklearn(self) -> MLPClassifier:
        """A fitted network of scikit-learn that predicts the same.

        Batch and ghost normalization become part of weights and intercepts, and dropout vanishes.
        The loss has to be 'log_loss'.

        Returns
        -------
        estimator : MLPClassifier
            With copies of the fitted attributes.

        Raises
        ------
        ValueError
            Where scikit-learn has no equivalent; it names the layer.
        """
        check_is_fitted(self)
        return network_interchange.classifier_to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator: MLPClassifier, **parameters: Any) -> Self:
        """An estimator with the layers of a fitted network of scikit-learn.

        Parameters
        ----------
        estimator : MLPClassifier
            Fitted; its layers and their activation are taken over.
        **parameters
            Parameters of the new estimator; `partial_fit` and `warm_start` go on from the layers.

        Returns
        -------
        estimator : MiniBatchMLPClassifier
        """
        return network_interchange.from_sklearn(cls(**parameters), estimator)
