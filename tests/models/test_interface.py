"""Linear models and networks have the members that are written down for every model, with the same parameters."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.models.gradients import Gradients
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.models.network_gradients import NetworkGradients
from skminibatch.models.protocol import Model

MEMBERS = [name for name in vars(Model) if not name.startswith("_")]
ESTIMATORS = [
    MiniBatchSGDRegressor(),
    MiniBatchSGDClassifier(learning_rate="constant", eta0=0.1),
    MiniBatchMLPRegressor(hidden_layer_sizes=(3,)),
    MiniBatchMLPClassifier(hidden_layer_sizes=(3,), normalization="batch"),
]
every_model = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)


@pytest.fixture
def gradients(estimator, rng):
    """Those of an estimator that is not fitted."""
    X = rng.standard_normal((40, 3))
    return estimator._examined(X, (X[:, 0] > 0).astype(float), None)


def parameters(function) -> list[tuple]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", MEMBERS)
@every_model
def test_a_model_has_every_member(name, gradients):
    declared, member = inspect.getattr_static(Model, name), getattr(gradients.model, name)
    if isinstance(declared, property):
        assert not callable(member)
    else:
        assert parameters(member) == parameters(declared)[1:]


@pytest.mark.parametrize("kind", [LinearGradients, NetworkGradients])
def test_gradients_have_every_member(kind):
    assert not kind.__abstractmethods__
    for name, declared in vars(Gradients).items():
        if inspect.isfunction(declared) and not name.startswith("_"):
            assert parameters(getattr(kind, name)) == parameters(declared), name


@every_model
def test_what_only_some_models_have_is_declared(gradients):
    """None and zero are told from what a model has by `has_smoothness`."""
    model = gradients.model
    assert (gradients.smoothness() is not None) == model.has_smoothness
    assert (gradients.row_bounds() is not None) == model.has_smoothness
    assert (model.strong_convexity() > 0) == model.has_smoothness


@every_model
def test_the_view_moves_without_changing(gradients):
    """Other rows, other data, another point: each is a new value, and the point of a predictor leads back to it."""
    few = gradients.on(np.arange(5))
    assert list(few.rows) == list(range(5))
    assert gradients.rows.size == 40
    assert few.on_data(gradients.data).rows.size == 40
    back = gradients.at(gradients.point)
    for found, expected in zip(back.predictor, gradients.predictor, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gradients.at(gradients.point + 1.0).point, gradients.point + 1.0, rtol=1e-12)
    params = gradients.model.start(gradients.predictor)
    for found, expected in zip(gradients.model.predictor(params, None), gradients.predictor, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
