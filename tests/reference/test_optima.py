"""The optimum that training reaches, against exact solvers, on features with a mean and on rare classes.

The intercept must be trained and must not be penalised: on these data either mistake changes every coefficient.
"""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
)
from sklearn.svm import SVC, SVR

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor

pytestmark = pytest.mark.slow

N = 120
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 5)) * [1, 2, 0.5, 1, 1] + [2, -1, 0, 3, 0.5]
RAW = X @ [1, -0.5, 0, 0.3, 0] + 0.7 * RNG.logistic(size=N)
RARE = (np.quantile(RAW, 0.9) < RAW).astype(int)  # one row in ten
KINDS = np.digitize(RAW, np.quantile(RAW, [0.1, 0.7]))  # 10, 60 and 30 % of the rows
COUNTS = RNG.poisson(np.exp(0.5 * RAW)).astype(float)
WEIGHTS = RNG.integers(1, 5, N).astype(float)


# -- the objective, written once more -------------------------------------------------------------------------


def of_margin(formula):
    return lambda raw, y: formula((2 * y - 1) * raw[:, 0])


def of_residual(formula):
    return lambda raw, y: formula(raw[:, 0] - y)


def modified_huber(z):
    return np.where(z < -1, -4 * z, np.maximum(0, 1 - z) ** 2)


def huber(r, epsilon=0.5):
    return np.where(abs(r) <= epsilon, r * r / 2, epsilon * abs(r) - epsilon**2 / 2)


FORMULAS = {
    "log_loss": of_margin(lambda z: np.logaddexp(0, -z)),
    "softmax": lambda raw, y: logsumexp(raw, axis=1) - raw[np.arange(len(raw)), y],
    "hinge": of_margin(lambda z: np.maximum(0, 1 - z)),
    "squared_hinge": of_margin(lambda z: np.maximum(0, 1 - z) ** 2),
    "modified_huber": of_margin(modified_huber),
    "squared_error": of_residual(lambda r: r * r / 2),
    "huber": of_residual(huber),
    "epsilon_insensitive": of_residual(lambda r: np.maximum(0, abs(r) - 0.5)),
    "squared_epsilon_insensitive": of_residual(lambda r: np.maximum(0, abs(r) - 0.5) ** 2),
    "quantile": of_residual(lambda r: np.maximum(-0.8 * r, 0.2 * r)),
    "poisson": lambda raw, y: np.exp(raw[:, 0]) - y * raw[:, 0],
}


def objective(formula, y, coef, intercept, weights, l1_ratio, alpha):
    coef = np.atleast_2d(coef)
    losses = FORMULAS[formula](X @ coef.T + intercept, y)
    ridge, lasso = np.sum(coef**2) / 2, np.sum(abs(coef))
    return np.average(losses, weights=weights) + alpha * ((1 - l1_ratio) * ridge + l1_ratio * lasso)


# -- exact solvers: (coef, intercept) -------------------------------------------------------------------------


def fitted(estimator, repeats=False):
    """What a solver of scikit-learn finds; `repeats`: with rows repeated instead of weighted (SAGA)."""

    def solve(y, weights, alpha):
        total = N if weights is None else weights.sum()
        if hasattr(estimator, "C"):
            estimator.set_params(C=1 / (alpha * total))
        elif isinstance(estimator, Ridge):
            estimator.set_params(alpha=alpha * total)
        else:
            estimator.set_params(alpha=alpha)
        if repeats and weights is not None:
            times = weights.astype(int)
            estimator.fit(np.repeat(X, times, axis=0), np.repeat(y, times))
        else:
            estimator.fit(X, y, sample_weight=weights)
        return estimator.coef_, estimator.intercept_

    return solve


def minimized(formula):
    """BFGS on the objective of a smooth loss, with l2."""

    def solve(y, weights, alpha):
        def total(w):
            return objective(formula, y, w[:-1], w[-1], weights, 0.0, alpha)

        found = minimize(total, np.zeros(X.shape[1] + 1), jac="3-point", method="BFGS", options={"gtol": 1e-7})
        return found.x[:-1], found.x[-1]

    return solve


OPTIMA = {}  # those that were computed


class Case(NamedTuple):
    """A problem; `smooth`: full gradient steps reach its optimum to rounding."""

    formula: str
    y: np.ndarray
    solve: object
    settings: dict = {}
    smooth: bool = True
    alpha: float = 0.02
    l1_ratio: float = 0.0

    def fit(self, weights, **settings):
        kind = MiniBatchSGDClassifier if self.y.dtype.kind == "i" else MiniBatchSGDRegressor
        loss = "log_loss" if self.formula == "softmax" else self.formula
        return kind(loss=loss, alpha=self.alpha, **self.settings, **settings).fit(X, self.y, sample_weight=weights)

    def optimum(self, weights):
        key = self.formula, self.l1_ratio, weights is None
        if key not in OPTIMA:
            OPTIMA[key] = self.solve(self.y, weights, self.alpha)
        return OPTIMA[key]

    def excess(self, estimator, weights):
        """Above the minimum of the objective, in units of what can be gained from zero coefficients."""
        best, ours, start = (
            objective(self.formula, self.y, coef, intercept, weights, self.l1_ratio, self.alpha)
            for coef, intercept in (
                self.optimum(weights),
                (estimator.coef_, estimator.intercept_),
                (0 * estimator.coef_, 0 * estimator.intercept_),
            )
        )
        return (ours - best) / (start - best)


TIGHT = {"tol": 1e-10, "max_iter": 100_000}
SAGA = fitted(LogisticRegression(solver="saga", l1_ratio=1, random_state=0, **TIGHT), repeats=True)
NET = {"penalty": "elasticnet", "l1_ratio": 0.6}
SPARSE = {"settings": {"penalty": "l1"}, "alpha": 0.1, "l1_ratio": 1}
WIDE = {"settings": {"epsilon": 0.5}}
CASES = {
    "log_loss": Case("log_loss", RARE, fitted(LogisticRegression(**TIGHT))),
    "softmax": Case("softmax", KINDS, fitted(LogisticRegression(**TIGHT))),
    "log_loss, l1": Case("log_loss", RARE, SAGA, **SPARSE),
    "softmax, l1": Case("softmax", KINDS, SAGA, **SPARSE),
    "hinge": Case("hinge", RARE, fitted(SVC(kernel="linear", tol=1e-8)), smooth=False),
    "squared_hinge": Case("squared_hinge", RARE, minimized("squared_hinge")),
    "modified_huber": Case("modified_huber", RARE, minimized("modified_huber")),
    "squared_error": Case("squared_error", RAW, fitted(Ridge())),
    "squared_error, l1": Case("squared_error", RAW, fitted(Lasso(**TIGHT)), **SPARSE),
    "squared_error, elasticnet": Case(
        "squared_error", RAW, fitted(ElasticNet(l1_ratio=0.6, **TIGHT)), settings=NET, alpha=0.2, l1_ratio=0.6
    ),
    "huber": Case("huber", RAW, minimized("huber"), **WIDE),
    "epsilon_insensitive": Case(
        "epsilon_insensitive", RAW, fitted(SVR(kernel="linear", epsilon=0.5, tol=1e-8)), smooth=False, **WIDE
    ),
    "squared_epsilon_insensitive": Case(
        "squared_epsilon_insensitive", RAW, minimized("squared_epsilon_insensitive"), **WIDE
    ),
    "quantile": Case(
        "quantile",
        RAW,
        fitted(QuantileRegressor(quantile=0.8)),
        settings={"penalty": "l1", "quantile": 0.8},
        smooth=False,
        alpha=0.1,
        l1_ratio=1,
    ),
    "poisson": Case("poisson", COUNTS, fitted(PoissonRegressor(**TIGHT))),
}
ALL = pytest.mark.parametrize("name", CASES)
WEIGHTED = pytest.mark.parametrize(
    "weights", [pytest.param(None, marks=pytest.mark.slow), WEIGHTS], ids=["equal weights", "weighted"]
)


@ALL
def test_full_gradient_steps_reach_the_optimum(name):
    case = CASES[name]
    ours = case.fit(WEIGHTS, batch_size="full", solver="momentum", tol=None, max_iter=1000)
    assert case.excess(ours, WEIGHTS) < (1e-9 if case.smooth else 2e-4)
    coef, intercept = case.optimum(WEIGHTS)
    near = {"rtol": 1e-4, "atol": 1e-5} if case.smooth else {"rtol": 0.05, "atol": 0.02}
    coef = np.reshape(coef, ours.coef_.shape)
    np.testing.assert_allclose(ours.coef_, coef, **near)
    if name.startswith("softmax"):  # the intercepts are the optimum's up to a common shift
        np.testing.assert_allclose(np.diff(ours.intercept_), np.diff(intercept), **near)
    else:
        np.testing.assert_allclose(ours.intercept_, np.reshape(intercept, 1), **near)
    if case.l1_ratio > 0:
        assert 0 < np.sum(coef == 0) < coef.size or not case.smooth
        np.testing.assert_array_equal(ours.coef_ == 0, abs(coef) < 1e-9)


@ALL
@WEIGHTED
def test_mini_batches_come_close(name, weights):
    ours = CASES[name].fit(weights, batch_size=8, tol=None, max_iter=300, random_state=0)
    assert CASES[name].excess(ours, weights) < 2e-2


@ALL
@WEIGHTED
@pytest.mark.filterwarnings(
    "ignore:Maximum number of iteration reached"
)  # of the hinge loss, on few rows of a rare class
def test_defaults_come_close(name, weights):
    ours = CASES[name].fit(weights, random_state=0)
    assert CASES[name].excess(ours, weights) < 5e-2


def test_data_are_telling():
    """A penalty on the intercept would move the optimum far beyond the tolerances above."""
    case = CASES["log_loss"]
    coef, intercept = case.optimum(None)

    def penalised(w):
        free = objective("log_loss", RARE, w[:-1], w[-1], None, 0.0, case.alpha)
        return free + case.alpha * w[-1] ** 2 / 2

    found = minimize(penalised, np.zeros(X.shape[1] + 1), method="BFGS").x
    assert abs(found[-1] - intercept[0]) > 0.5 * abs(intercept[0])
    assert np.max(abs(found[:-1] - coef)) > 0.2
    assert RARE.mean() == pytest.approx(0.1)
