"""The defaults reach the optimum, by Newton's method, on data whose rows do not all count the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import expit
from sklearn.svm import SVC, SVR

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor

ALPHA, N = 1e-4, 3000
RNG = np.random.default_rng(0)


class Formula(NamedTuple):
    """Values, first and second derivatives of a loss by the raw output; y is a sign where there are classes."""

    value: object
    slope: object
    curvature: object


EPSILON = 0.5
FORMULAS = {
    "squared_error": Formula(lambda r, y: (r - y) ** 2 / 2, lambda r, y: r - y, lambda r, y: np.ones_like(r)),
    "log_loss": Formula(
        lambda r, y: np.logaddexp(0, -y * r), lambda r, y: -y * expit(-y * r), lambda r, y: expit(r) * expit(-r)
    ),
    "poisson": Formula(lambda r, y: np.exp(r) - y * r, lambda r, y: np.exp(r) - y, lambda r, y: np.exp(r)),
    "squared_hinge": Formula(
        lambda r, y: np.maximum(1 - y * r, 0) ** 2,
        lambda r, y: -2 * y * np.maximum(1 - y * r, 0),
        lambda r, y: 2.0 * (y * r < 1),
    ),
    "huber": Formula(
        lambda r, y: np.where(abs(r - y) <= EPSILON, (r - y) ** 2 / 2, EPSILON * abs(r - y) - EPSILON**2 / 2),
        lambda r, y: np.clip(r - y, -EPSILON, EPSILON),
        lambda r, y: 1.0 * (abs(r - y) <= EPSILON),
    ),
}


class Problem(NamedTuple):
    """One output: rows, targets, weights of mean one and a loss."""

    loss: str
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    alpha: float = ALPHA

    def objective(self, w) -> float:
        losses = FORMULAS[self.loss].value(self.X @ w[:-1] + w[-1], self.y)
        return np.average(losses, weights=self.weights) + self.alpha * w[:-1] @ w[:-1] / 2

    def optimum(self) -> np.ndarray:
        """By Newton's method with halved steps."""
        formula, A = FORMULAS[self.loss], np.column_stack([self.X, np.ones(len(self.X))])
        w, ridge = self.constant(), self.alpha * np.append(np.ones(A.shape[1] - 1), 0.0)
        shares = self.weights / self.weights.sum()
        for _ in range(200):
            raw = A @ w
            g = A.T @ (shares * formula.slope(raw, self.y)) + ridge * w
            H = (A.T * (shares * formula.curvature(raw, self.y))) @ A + np.diag(ridge + 1e-13)
            step, before, size = np.linalg.solve(H, g), self.objective(w), 1.0
            while self.objective(w - size * step) > before and size > 1e-12:
                size /= 2
            w = w - size * step
            if size <= 1e-12 or g @ step < 1e-15 * abs(before):
                break
        return w

    def constant(self) -> np.ndarray:
        """The best constant prediction, by bisection of its slope."""
        low, high, formula = -50.0, 50.0, FORMULAS[self.loss]
        if self.loss in ("squared_error", "huber"):
            low, high = self.y.min(), self.y.max()
        for _ in range(200):
            middle = (low + high) / 2
            slope = self.weights @ formula.slope(np.full(len(self.y), middle), self.y)
            low, high = (low, middle) if slope > 0 else (middle, high)
        return np.append(np.zeros(self.X.shape[1]), (low + high) / 2)


def excess(problems, coef, intercept) -> float:
    """Above the optimum of the sum over the outputs, in units of what a constant prediction has to gain."""
    total, gain = 0.0, 0.0
    for problem, w, b in zip(problems, np.atleast_2d(coef), np.atleast_1d(intercept), strict=True):
        best = problem.objective(problem.optimum())
        total += problem.objective(np.append(w, b).astype(float)) - best
        gain += problem.objective(problem.constant()) - best
    return total / gain


def rows(n=N, d=5, kind="usual"):
    """Features by kind, and raw outputs of a linear model of them, about one in size."""
    rng = np.random.default_rng(n + d)
    X = rng.standard_normal((n, d))
    if kind == "leverage":
        X[:: n // 4] *= np.array([10.0, 30.0, 100.0, 300.0])[: len(X[:: n // 4]), None]
    if kind == "heavy tails":
        X = rng.standard_t(1.5, (n, d))
    if kind == "dummies":
        X = np.hstack([X, np.zeros((n, 6))])
        for j in range(6):  # three to eight rows each
            X[rng.choice(n, 3 + j, replace=False), d + j] = 1.0
    scale = np.median(np.abs(X), axis=0)
    raw = (X / np.where(scale > 0, scale, 1.0)) @ np.resize([0.5, -0.4, 0.3, 0.0, 0.6, 1.5], X.shape[1])
    return X, np.clip(raw, -4.0, 4.0)


SMOOTH = {"random_state": 0, "max_iter": 40, "tol": None}
KINDS = ["usual", "leverage", "heavy tails", "dummies"]


@pytest.mark.parametrize("kind", KINDS)
def test_squared_error(kind):
    X, raw = rows(kind=kind)
    y = raw + 0.5 * RNG.standard_normal(len(X))
    ours = MiniBatchSGDRegressor(**SMOOTH).fit(X, y)
    assert excess([Problem("squared_error", X, y, np.ones(len(X)))], ours.coef_, ours.intercept_) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_log_loss(kind):
    X, raw = rows(kind=kind)
    y = (raw + np.random.default_rng(1).logistic(size=len(X)) > 0).astype(int)
    ours = MiniBatchSGDClassifier(**SMOOTH).fit(X, y)
    # of heavy tails, the longest rows are certain after the first pass, and weigh too much in the round coordinates
    enough = 1e-6 if kind != "heavy tails" else 1e-5
    assert excess([Problem("log_loss", X, 2.0 * y - 1, np.ones(len(X)))], ours.coef_, ours.intercept_) < enough


def test_one_row_in_a_thousand_balanced():
    """A few rows have half of the weight."""
    X, raw = rows()
    y = (np.random.default_rng(3).random(N) < 1e-3 * np.exp(raw)).astype(int)
    assert 2 < y.sum() < 10
    ours = MiniBatchSGDClassifier(class_weight="balanced", **SMOOTH).fit(X, y)
    weights = np.where(y == 1, N / (2 * y.sum()), N / (2 * (N - y.sum())))
    assert excess([Problem("log_loss", X, 2.0 * y - 1, weights)], ours.coef_, ours.intercept_) < 1e-6


@pytest.mark.parametrize("power", [1.1, 1.5])
def test_weights_of_a_pareto_law(power):
    X, raw = rows()
    rng = np.random.default_rng(2)
    y, weights = raw + 0.5 * rng.standard_normal(N), rng.pareto(power, N)
    ours = MiniBatchSGDRegressor(**SMOOTH).fit(X, y, sample_weight=weights)
    assert excess([Problem("squared_error", X, y, weights)], ours.coef_, ours.intercept_) < 1e-6


@pytest.mark.parametrize("level", [0.0, -3.0])
def test_poisson(level):
    """With rare counts, too: one row in twenty has one."""
    X, raw = rows()
    y = np.random.default_rng(3).poisson(np.exp(0.5 * raw + level)).astype(float)
    ours = MiniBatchSGDRegressor(loss="poisson", **SMOOTH).fit(X, y)
    assert excess([Problem("poisson", X, y, np.ones(N))], ours.coef_, ours.intercept_) < 1e-6


def test_squared_hinge_of_several_classes():
    X, raw = rows()
    y = np.digitize(raw + 0.5 * np.random.default_rng(4).standard_normal(N), [-1.0, 1.0])
    ours = MiniBatchSGDClassifier(loss="squared_hinge", **SMOOTH).fit(X, y)
    problems = [Problem("squared_hinge", X, 2.0 * (y == k) - 1, np.ones(N)) for k in range(3)]
    assert excess(problems, ours.coef_, ours.intercept_) < 1e-6


def test_huber():
    X, raw = rows()
    y = raw + np.random.default_rng(5).standard_t(1.5, N)
    ours = MiniBatchSGDRegressor(loss="huber", epsilon=EPSILON, **SMOOTH).fit(X, y)
    assert excess([Problem("huber", X, y, np.ones(N))], ours.coef_, ours.intercept_) < 1e-6


@pytest.mark.parametrize("kind", ["usual", "leverage"])
def test_single_precision(kind):
    X, raw = rows(kind=kind)
    X = X.astype(np.float32)
    y = (raw + np.random.default_rng(1).logistic(size=len(X)) > 0).astype(int)
    ours = MiniBatchSGDClassifier(**SMOOTH).fit(X, y)
    assert ours.coef_.dtype == np.float32
    problem = Problem("log_loss", X.astype(float), 2.0 * y - 1, np.ones(len(X)))
    assert excess([problem], ours.coef_, ours.intercept_) < 1e-4


def objective_of(loss, X, y, w, b, alpha):
    return np.mean(FORMULAS_OF_KINKS[loss](X @ w + b, y)) + alpha * w @ w / 2


FORMULAS_OF_KINKS = {
    "hinge": lambda r, y: np.maximum(0.0, 1.0 - y * r),
    "epsilon_insensitive": lambda r, y: np.maximum(0.0, abs(r - y) - 0.1),
}


@pytest.mark.parametrize("loss", FORMULAS_OF_KINKS)
def test_losses_with_a_kink(loss):
    """Where noise stays, the rate falls."""
    X, raw = rows(1500)
    alpha, settings = 1e-2, {"loss": loss, "alpha": 1e-2, "max_iter": 20, "tol": None, "random_state": 0}
    noisy = raw + np.random.default_rng(6).logistic(size=1500)
    if loss == "hinge":
        y = np.where(noisy > 0, 1.0, -1.0)
        ours = MiniBatchSGDClassifier(**settings).fit(X, y)
        exact = SVC(kernel="linear", C=1 / (alpha * 1500), tol=1e-6).fit(X, y)
        constant = 2 * min(np.mean(y > 0), np.mean(y < 0))
    else:
        y = noisy
        ours = MiniBatchSGDRegressor(epsilon=0.1, **settings).fit(X, y)
        exact = SVR(kernel="linear", C=1 / (alpha * 1500), epsilon=0.1, tol=1e-6).fit(X, y)
        constant = objective_of(loss, X, y, np.zeros(5), np.median(y), alpha)
    found, best = (objective_of(loss, X, y, np.ravel(m.coef_), m.intercept_[0], alpha) for m in (ours, exact))
    assert found - best < 2e-3 * (constant - best)


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_training_stops_within_tol_of_the_optimum(tol):
    """Whatever the rows, the default stops when it is there and says so."""
    for kind in KINDS:
        X, raw = rows(kind=kind)
        y = (raw + np.random.default_rng(1).logistic(size=len(X)) > 0).astype(int)
        ours = MiniBatchSGDClassifier(random_state=0, tol=tol).fit(X, y)
        assert "of the optimum" in ours.stop_reason_
        assert excess([Problem("log_loss", X, 2.0 * y - 1, np.ones(len(X)))], ours.coef_, ours.intercept_) < tol


def test_the_optimum_is_one():
    """What Newton's method finds here has no slope in any direction."""
    X, raw = rows(kind="dummies")
    signs = np.where(raw > 0.3, 1.0, -1.0)
    for loss in FORMULAS:
        problem = Problem(loss, X, np.exp(signs) if loss == "poisson" else signs, np.linspace(0.5, 1.5, N), 0.01)
        w, h = problem.optimum(), 1e-5
        slopes = [(problem.objective(w + h * e) - problem.objective(w - h * e)) / (2 * h) for e in np.eye(len(w))]
        np.testing.assert_allclose(slopes, 0, atol=1e-8)
