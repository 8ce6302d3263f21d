"""The two families of estimators, linear models and networks: what a test has to say of each in other words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.base import is_classifier

import skminibatch
from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.estimators.parts import NETWORK_SOLVERS
from skminibatch.models.linear import LinearModel
from skminibatch.models.network import MLPModel
from skminibatch.optimizers import OPTIMIZERS

ESTIMATORS = [getattr(skminibatch, name) for name in skminibatch.__all__]


class Family(NamedTuple):
    """Estimators that differ by their target only.

    ``model`` is what runs a plan, ``rate`` the parameter with an explicit rate, ``weights`` and ``intercepts`` the fitted
    attributes, ``solvers`` the names of all solvers, ``soon`` parameters that learn the problems of these tests in few epochs,
    ``restless`` parameters whose best epoch is seldom the last, and ``stateful`` ones under which there is more to remember
    than coefficients and slots.
    """

    estimators: tuple
    model: type
    rate: str
    weights: str
    intercepts: str
    solvers: tuple
    soon: dict
    restless: dict
    stateful: dict


LINEAR = Family(
    estimators=(MiniBatchSGDClassifier, MiniBatchSGDRegressor),
    model=LinearModel,
    rate="eta0",
    weights="coef_",
    intercepts="intercept_",
    solvers=tuple(OPTIMIZERS),
    soon={},
    restless={"solver": "sgd", "learning_rate": "constant", "eta0": 0.5},
    stateful={"penalty": "elasticnet"},
)
NETWORKS = Family(
    estimators=(MiniBatchMLPClassifier, MiniBatchMLPRegressor),
    model=MLPModel,
    rate="learning_rate_init",
    weights="coefs_",
    intercepts="intercepts_",
    solvers=tuple(NETWORK_SOLVERS),
    soon={"learning_rate_init": 0.02},
    restless={"learning_rate_init": 0.1},
    stateful={"normalization": "batch", "dropout": 0.2},
)
FAMILIES = LINEAR, NETWORKS


def of_estimators(estimators):
    """Parametrise the fixture `estimator_class` by these estimators only."""
    return pytest.mark.parametrize("estimator_class", estimators, indirect=True, ids=lambda cls: cls.__name__)


linear_models = of_estimators(LINEAR.estimators)
networks = of_estimators(NETWORKS.estimators)
classifiers = of_estimators([cls for family in FAMILIES for cls in family.estimators if is_classifier(cls())])
regressors = of_estimators([cls for family in FAMILIES for cls in family.estimators if not is_classifier(cls())])
every_solver = pytest.mark.parametrize(
    ("estimator_class", "solver"),
    [(cls, solver) for family in FAMILIES for cls in family.estimators for solver in family.solvers],
    indirect=["estimator_class"],
    ids=lambda case: getattr(case, "__name__", case),
)


def family_of(estimator) -> Family:
    """The family of an estimator or of its class."""
    cls = estimator if isinstance(estimator, type) else type(estimator)
    return next(family for family in FAMILIES if issubclass(cls, family.estimators))


def constant(estimator, rate: float) -> dict:
    """Parameters for a constant rate."""
    return {"learning_rate": "constant", family_of(estimator).rate: rate}


def weights_of(estimator) -> np.ndarray:
    """All weights of a fitted estimator, what the penalty acts on, in one row."""
    weights = getattr(estimator, family_of(estimator).weights)
    return np.concatenate([np.ravel(layer) for layer in (weights if isinstance(weights, list) else [weights])])


def intercepts_of(estimator) -> np.ndarray:
    """All intercepts of a fitted estimator, in one row."""
    return np.hstack(getattr(estimator, family_of(estimator).intercepts))


def learnt(estimator) -> np.ndarray:
    """Everything that a fitted estimator predicts with, in one row."""
    normalizations = [found for found in getattr(estimator, "normalizations_", []) if found is not None]
    numbers = [array.ravel() for found in normalizations for array in found.values()]
    return np.concatenate([weights_of(estimator), intercepts_of(estimator), *numbers])
