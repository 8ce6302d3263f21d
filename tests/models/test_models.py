"""Linear models: parameters in coordinates, and the objective."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.orders import explicit_order
from skminibatch.contract.plan import Plan
from skminibatch.losses import Logistic, Softmax, SquaredError
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.models.view import gradients_of
from skminibatch.optimizers import OPTIMIZERS, SGD, AdaGrad, Averaging, Momentum, ScheduleFree
from skminibatch.penalties import ElasticNet

D = 4
HERE = Coordinates(np.array([1.0, -2.0, 0.0, 0.5]), *[np.array([2.0, 0.5, 1.0, 4.0])] * 2)
THERE = Coordinates(np.array([0.0, -1.0, 3.0, 0.5]), *[np.array([1.0, 1.0, 8.0, 2.0])] * 2)
STRETCHED = Coordinates(HERE.center, THERE.scale, THERE.scale)


def model(optimizer, coordinates, penalty=ElasticNet(), loss=SquaredError(), n_outputs=1):  # noqa: B008
    float64 = np.dtype(np.float64)
    return LinearModel(loss, penalty, optimizer, "base", D, n_outputs, True, float64, float64, coordinates=coordinates)


@pytest.fixture
def data(rng):
    X = rng.standard_normal((20, D))
    return Data(X, X[:, 0] + rng.standard_normal(20), np.empty(0))


def one_step(model, params, data, rate=0.0):
    """All rows in one batch."""
    coefficients, _ = model.optimizer.coefficients(np.array([rate]), np.array([20]), None)
    plan = Plan(explicit_order(np.arange(20)), np.array([0, 20]), coefficients)
    model.run(plan, params, data)
    return coefficients[0]


@pytest.mark.parametrize("optimizer", [*(cls() for cls in OPTIMIZERS.values()), Averaging(SGD())], ids=repr)
@pytest.mark.parametrize("coordinates", [None, HERE])
def test_what_predicts_is_in_the_features_as_given(optimizer, coordinates, rng):
    coef, intercept = rng.standard_normal((1, D)), rng.standard_normal(1)
    here = model(optimizer, coordinates)
    params = here.start((coef, intercept))
    for found, expected in zip(here.predictor(params, None), (coef, intercept), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    for other in (THERE, None):  # and stays what it is in other coordinates
        there = model(optimizer, other)
        for found, expected in zip(
            there.predictor(here.in_coordinates_of(there, params), None), (coef, intercept), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "to"), [(Momentum(), THERE), (Momentum(), None), (AdaGrad(), STRETCHED)], ids=repr
)
def test_slots_move_as_gradients_do(optimizer, to, data, rng):
    """The slots after one step from zero are the gradient, or its square, in the coordinates of the step."""
    coef, intercept = rng.standard_normal((1, D)), rng.standard_normal(1)
    here, there = model(optimizer, HERE), model(optimizer, to)
    params = here.start((coef, intercept))
    one_step(here, params, data)
    expected = there.start((coef, intercept))
    one_step(there, expected, data)
    np.testing.assert_allclose(here.in_coordinates_of(there, params), expected, rtol=1e-9, atol=1e-12)


def test_the_penalty_follows_the_coefficients_in_any_coordinates(data, rng):
    """The change of coordinates leaves the objective as it is: l2 and l1 act on the coefficients as given."""
    coef, intercept = rng.standard_normal((1, D)), rng.standard_normal(1)
    penalty = ElasticNet(0.3, 0.2)
    expected = 0.15 * np.sum(coef**2) + 0.2 * np.sum(np.abs(coef))
    residuals = data.X @ coef[0] + intercept[0] - data.y
    for coordinates in (None, HERE, THERE):
        loss, value = model(SGD(), coordinates, penalty).objective(data, np.empty(0, np.int64), (coef, intercept))
        np.testing.assert_allclose(value, expected)
        np.testing.assert_allclose(loss, 0.5 * np.mean(residuals**2))
    # standardised instead: the penalty acts on the coefficients of the scaled features
    standard = Coordinates(HERE.center, HERE.scale, np.ones(D))
    _, value = model(SGD(), standard, penalty).objective(data, np.empty(0, np.int64), (coef, intercept))
    scaled = coef / HERE.scale
    np.testing.assert_allclose(value, 0.15 * np.sum(scaled**2) + 0.2 * np.sum(np.abs(scaled)))


def test_one_step_descends_the_objective_in_any_coordinates(data, rng):
    """The step is the gradient of the objective by the coordinates: a difference of the objective says so."""
    penalty, rate, h = ElasticNet(0.3, 0.0), 1e-3, 1e-5
    coef, intercept = rng.standard_normal((1, D)), rng.standard_normal(1)
    here = model(SGD(), HERE, penalty)
    params = here.start((coef, intercept))
    moved = params.copy()
    one_step(here, moved, data, rate)

    def objective(params):
        return sum(here.objective(data, np.empty(0, np.int64), here.predictor(params, None)))

    for j in range(D + 1):
        up, down = params.copy(), params.copy()
        up[0, 0, j] += h
        down[0, 0, j] -= h
        gradient = (objective(up) - objective(down)) / (2 * h)
        np.testing.assert_allclose((params - moved)[0, 0, j] / rate, gradient, rtol=1e-6, atol=1e-8)


def test_weights_and_rows_of_the_objective(data, rng):
    weights = rng.uniform(0, 2, 20)
    weighted, rows = data._replace(weights=weights), np.array([1, 5, 6])
    coef, intercept = rng.standard_normal((1, D)), rng.standard_normal(1)
    losses = 0.5 * (data.X @ coef[0] + intercept[0] - data.y) ** 2
    for given in (weighted, weighted._replace(X=sparse.csr_matrix(data.X))):
        loss, _ = model(SGD(), None).objective(given, rows, (coef, intercept))
        np.testing.assert_allclose(loss, np.average(losses[rows], weights=weights[rows]))
        loss, _ = model(SGD(), None).objective(given, np.empty(0, np.int64), (coef, intercept))
        np.testing.assert_allclose(loss, np.average(losses, weights=weights))


@pytest.mark.parametrize("loss", [SquaredError(), Logistic(), Softmax()], ids=repr)
def test_smoothness_is_that_of_the_objective(loss, data, rng):
    """The largest second derivative of the mean loss along any direction is at most the constant, and near it."""
    n_outputs = 3 if isinstance(loss, Softmax) else 1
    y = rng.integers(3, size=(20, 1)).astype(float) if n_outputs == 3 else np.sign(data.y)
    ours = model(ScheduleFree(), None, ElasticNet(0.1, 0.0), loss, n_outputs)
    start = np.zeros((n_outputs, D)), np.zeros(n_outputs)
    smooth = gradients_of(ours, data._replace(y=y), start).smoothness()
    A = np.column_stack([data.X, np.ones(20)])
    largest = np.linalg.eigvalsh(A.T @ A / 20)[-1] * type(loss).curvature + 0.1
    assert largest <= smooth.mean <= 1.2 * largest
    assert smooth.mean <= smooth.worst
