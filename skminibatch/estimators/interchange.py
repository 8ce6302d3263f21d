"""From and to fitted estimators of scikit-learn."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, SGDClassifier, SGDRegressor
from sklearn.utils.validation import check_is_fitted

from skminibatch.backends import device_of
from skminibatch.contract.kinds import declared
from skminibatch.estimators.targets import ClassificationTarget, RegressionTarget
from skminibatch.preparation.begin import Fitted
from skminibatch.statistics.features import Moments
from skminibatch.training.state import History, TrainState


def _dense(coef):
    return np.array(coef.toarray() if sparse.issparse(coef) else coef)


def with_attributes(estimator, ours, **attributes):
    """Their estimator with fitted attributes of ours."""
    for name in ("n_features_in_", "feature_names_in_", "n_iter_"):
        if name in vars(ours):
            setattr(estimator, name, getattr(ours, name))
    for name, value in attributes.items():
        setattr(estimator, name, value)
    return estimator


def regressor_to_sklearn(ours):
    """A regressor of scikit-learn with the same coefficients and the same link."""
    coef, intercept = _dense(ours.coef_), np.array(ours.intercept_)
    multi_output = ours._target.multi_output
    if declared(ours._pointwise_loss()).link == "log":
        if multi_output:
            raise ValueError("scikit-learn has no Poisson regression of several outputs.")
        estimator = PoissonRegressor()
        attributes = {"coef_": coef.ravel(), "intercept_": float(intercept[0]), "_base_loss": estimator._get_loss()}
        return with_attributes(estimator, ours, **attributes)
    if multi_output:
        return with_attributes(LinearRegression(), ours, coef_=coef, intercept_=intercept)
    return with_attributes(
        SGDRegressor(penalty=None), ours, coef_=coef.ravel(), intercept_=intercept, t_=float(ours.t_)
    )


def classifier_to_sklearn(ours):
    """A classifier of scikit-learn with the same coefficients and the same probabilities."""
    if ours._target.multilabel:
        raise ValueError("scikit-learn has no linear model of several independent labels; fit one estimator a label.")
    attributes = {
        "coef_": _dense(ours.coef_),
        "intercept_": np.array(ours.intercept_),
        "classes_": np.array(ours.classes_),
    }
    if declared(ours._pointwise_loss()).link == "logit":
        estimator = with_attributes(LogisticRegression(), ours, **attributes)
        estimator.n_iter_ = np.array([ours.n_iter_], np.int32)
        return estimator
    loss = ours.loss if isinstance(ours.loss, str) else "hinge"
    return with_attributes(SGDClassifier(loss=loss), ours, t_=float(ours.t_), **attributes)


def from_sklearn(ours, theirs):
    """Give `ours` the coefficients of a fitted estimator of scikit-learn."""
    check_is_fitted(theirs, ["coef_", "intercept_"])
    ours._validate_params()
    coef = _dense(theirs.coef_)
    multi_output = coef.ndim == 2
    coef = np.atleast_2d(coef)
    target: ClassificationTarget | RegressionTarget
    if is_classifier(theirs):
        target = ClassificationTarget(np.array(theirs.classes_), False)
    else:
        target = RegressionTarget(coef.shape[0], multi_output)
    if coef.shape[0] != target.n_outputs:
        raise ValueError(f"coef_ has {coef.shape[0]} rows, but {target.n_outputs} were expected.")
    model = ours._model(target, coef, device_of(ours.device))
    intercept = np.broadcast_to(np.asarray(theirs.intercept_, model.dtype), (target.n_outputs,))
    return fitted_by(ours, theirs, target, model, coef.shape[1], coef, intercept)


def fitted_by(ours, theirs, target, model, n_features: int, *predictor):
    """Our estimator as if it had been fitted to the predictor in theirs, without a step."""
    seed = 0 if ours.random_state is None else int(np.random.SeedSequence(ours.random_state).generate_state(1)[0] >> 1)
    params, moments = model.start(predictor), Moments.none(n_features)
    ours._fitted = Fitted(target, model, params, TrainState(), seed, moments, None, None, History(), predictor)
    ours.n_features_in_ = n_features
    if "feature_names_in_" in vars(theirs):
        ours.feature_names_in_ = np.array(theirs.feature_names_in_)
    for name, value in ours._attributes(*predictor, target).items():
        setattr(ours, name, value)
    ours.t_, ours.n_iter_, ours.n_updates_ = 0, 0, 0
    return ours
