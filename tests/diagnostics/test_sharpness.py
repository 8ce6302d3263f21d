"""Sharpness: against Hessians written out, quadratics, and every corner of a box."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.diagnostics import sharpness
from tests.examined import FIXED, at


def problem(rng, n=200):
    """Rows with a constant, targets, and the Hessian of the objective for alpha = 0.1."""
    X = rng.standard_normal((n, 3)) * [1.0, 0.3, 2.0]
    Z = np.column_stack([X, np.ones(n)])
    return X, X @ [1.0, -1.0, 0.5] + rng.standard_normal(n), Z, Z.T @ Z / n + 0.1 * np.diag([1.0, 1.0, 1.0, 0.0])


def test_eigenvalue_and_trace(rng):
    X, y, _, H = problem(rng)
    found = sharpness(at(np.zeros(3), 0.0), X, y)
    values = np.linalg.eigvalsh(H)
    np.testing.assert_allclose([found.largest_eigenvalue, found.trace], [values[-1], values.sum()], rtol=1e-10)
    assert found.confidence_interval[0] < values[-1] < found.confidence_interval[1]


def test_the_rise_of_a_quadratic_is_its_prediction(rng):
    X, y, Z, H = problem(rng)
    w = np.array([0.4, 0.2, -0.3, 0.5])
    found = sharpness(at(w[:3], w[3]), X, y, rho=0.7)
    g = Z.T @ (Z @ w - y) / 200 + 0.1 * np.append(w[:3], 0.0)
    expected = 0.7 * np.linalg.norm(g) + 0.7**2 * (g @ H @ g) / (2 * g @ g)
    np.testing.assert_allclose([found.ascent, found.predicted_ascent], expected, rtol=1e-9)


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_the_prediction_is_of_second_order(loss, rng):
    """Half the distance, less than a seventh of the error."""
    X, y, *_ = problem(rng)
    model, y = (MiniBatchSGDClassifier(), y > 0) if loss == "log_loss" else (MiniBatchSGDRegressor(), np.abs(y).round())
    model.set_params(loss=loss, alpha=0.1, **{**FIXED, "eta0": 0.05}).fit(X, y)
    errors = []
    for rho in (0.02, 0.01):
        found = sharpness(model, X, y, rho=rho)
        assert found.ascent == pytest.approx(found.predicted_ascent, rel=0.01)
        errors.append(abs(found.ascent - found.predicted_ascent))
    assert errors[1] < errors[0] / 7


def test_at_a_minimum_nothing_rises_more_than_the_first_eigenvector(rng):
    """The maximum over a sphere is ``rho^2 lambda_max / 2``; a gradient of nothing but rounding gives way to it."""
    X, y, Z, H = problem(rng)
    best = np.linalg.solve(H, Z.T @ y / 200)
    found = sharpness(at(best[:3], best[3]), X, y, rho=0.3)

    def objective(w):
        return 0.5 * np.mean((Z @ w - y) ** 2) + 0.05 * w[:3] @ w[:3]

    directions = rng.standard_normal((20_000, 4))
    directions *= 0.3 / np.linalg.norm(directions, axis=1, keepdims=True)
    rises = np.array([objective(best + step) for step in directions]) - objective(best)
    np.testing.assert_allclose([found.ascent, found.predicted_ascent], found.ascent_at_minimum, rtol=1e-8)
    assert 0.97 * found.ascent_at_minimum < rises.max() <= found.ascent_at_minimum * (1 + 1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
def test_the_largest_rise_in_a_box_is_at_one_of_its_corners(loss):
    """All 16 of them, for 20 problems."""
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y, *_ = problem(rng, 40)
        family = MiniBatchSGDClassifier if loss == "log_loss" else MiniBatchSGDRegressor
        y = {"log_loss": y > 0, "poisson": np.abs(y).round(), "squared_error": y}[loss]
        model = family(loss=loss, alpha=0.1, **FIXED).fit(X, y)
        w = 0.3 * rng.standard_normal(4)
        sides = 0.2 * (np.abs(w) + 1.0)

        def objective(w, model=model, X=X, y=y):
            raw = X @ w[:3] + w[3]
            losses = {
                "squared_error": lambda: 0.5 * (raw - y) ** 2,
                "log_loss": lambda: np.log1p(np.exp(-np.where(y, 1, -1) * raw)),
                "poisson": lambda: np.exp(raw) - y * raw + y * np.log(np.maximum(y, 1)) - y,
            }[loss]()
            return losses.mean() + 0.05 * w[:3] @ w[:3]

        model.coef_[:], model.intercept_[:] = w[:3], w[3]
        rises = [objective(w + sides * signs) - objective(w) for signs in product([-1.0, 1.0], repeat=4)]
        found = sharpness(model, X, y, epsilon=0.2)
        shares.append(found.box_sharpness / (100 * max(rises) / (1 + objective(w))))
    assert max(shares) <= 1 + 1e-9
    assert min(shares) > 0.8
    assert np.sum(np.array(shares) > 1 - 1e-9) >= 18  # a few end at a lower corner


def test_corners_are_climbed_to():
    """Near minima of correlated features, 512 corners each: a first corner is the highest less often than one climbed to."""
    corners, shares = np.array(list(product([-1.0, 1.0], repeat=9))), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((60, 9)) @ rng.standard_normal((9, 9)), rng.standard_normal(60)
        H = X.T @ X / 60 + 0.1 * np.eye(9)
        best = np.linalg.solve(H, X.T @ y / 60)
        w = best + 0.2 * rng.standard_normal(9)  # at a minimum, a start of the climb would be rounding
        steps = 0.1 * corners * (np.abs(w) + 1.0)
        rise = (0.5 * np.einsum("ij,jk,ik->i", steps, H, steps) + steps @ H @ (w - best)).max()
        value = 0.5 * np.mean((X @ w - y) ** 2) + 0.05 * w @ w
        found = sharpness(at(w, 0.0, fit_intercept=False), X, y, epsilon=0.1)
        shares.append(found.box_sharpness / (100 * rise / (1 + value)))
    assert max(shares) <= 1 + 1e-9
    assert min(shares) > 0.95
    assert np.sum(np.array(shares) > 1 - 1e-9) >= 35


def test_the_unit_of_a_feature_changes_the_sharpness_and_not_the_predictions(rng):
    """No measure is invariant under a reparametrisation (Dinh et al. 2017)."""
    X, y, *_ = problem(rng)
    u = np.array([0.4, 0.2, -0.3])
    before, after = sharpness(at(u, 0.5, alpha=0), X, y), sharpness(at(10 * u, 0.5, alpha=0), X / 10, y)
    assert after.trace < 0.5 * before.trace
    assert after.largest_eigenvalue < 0.5 * before.largest_eigenvalue
    assert after.ascent < before.ascent


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_what_is_measured_is_the_objective_of_the_weighted_rows(scale, rng):
    """In the coordinates of the solver, with weights and a part of the rows; an l1 penalty is left out."""
    X, y, *_ = problem(rng)
    weights = rng.integers(0, 3, 200).astype(float)
    settings = {"penalty": "elasticnet", "l1_ratio": 0.5, "max_iter": 3, "tol": None, "random_state": 0}
    model = MiniBatchSGDRegressor(**settings).fit(X * [scale, 1, 1], y, sample_weight=weights)
    found = sharpness(model, X * [scale, 1, 1], y, sample_weight=weights, max_samples=90, random_state=0)
    assert found.n_samples == 90
    assert found.ascent == pytest.approx(found.predicted_ascent, rel=1e-9)


def test_many_parameters_and_no_curvature(rng):
    X = sparse.random_array((60, 3000), density=0.01, rng=rng, format="csr")
    found = sharpness(MiniBatchSGDRegressor(learning_rate="constant"), X, rng.standard_normal(60))
    H = sparse.hstack([X, np.ones((60, 1))]).toarray()
    values = np.linalg.eigvalsh(H @ H.T / 60)
    assert found.largest_eigenvalue == pytest.approx(values[-1], rel=1e-3)
    assert found.trace == pytest.approx(values.sum() + 0.3, rel=1e-9)
    flat = sharpness(MiniBatchSGDClassifier(loss="hinge", alpha=0), X, rng.random(60) > 0.5)
    assert (flat.largest_eigenvalue, flat.trace, flat.ascent_at_minimum) == (0.0, 0.0, 0.0)
    assert flat.ascent == pytest.approx(flat.predicted_ascent, rel=1e-6)  # linear, as far as no kink


def test_no_gradient_and_no_curvature_is_flat():
    found = sharpness(at(np.zeros(1), 0.0, alpha=0, fit_intercept=False), np.zeros((40, 1)), np.zeros(40))
    numbers = (found.largest_eigenvalue, found.trace, found.ascent, found.predicted_ascent, found.box_sharpness)
    assert numbers == (0.0,) * 5


@pytest.mark.parametrize("argument", ["rho", "epsilon"])
def test_distances_are_positive(argument, binary):
    with pytest.raises(ValueError, match=f"The '{argument}' parameter of sharpness must be a float"):
        sharpness(MiniBatchSGDClassifier(), *binary, **{argument: 0.0})
