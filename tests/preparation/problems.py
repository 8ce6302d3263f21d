"""Small problems of several losses, whose features have different scales and depend on each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from tests.begun import begun

N, D = 90, 4
SETTINGS = {"device": "base", "random_state": 0, "max_iter": 2, "tol": None}
CASES = {
    "squared_error": MiniBatchSGDRegressor(**SETTINGS, alpha=0.3),
    "no penalty": MiniBatchSGDRegressor(**SETTINGS, penalty=None),
    "no intercept": MiniBatchSGDRegressor(**SETTINGS, alpha=0.3, fit_intercept=False),
    "standardize": MiniBatchSGDRegressor(**SETTINGS, alpha=0.3, standardize=True),
    "log_loss": MiniBatchSGDClassifier(**SETTINGS, alpha=0.01),
    "poisson": MiniBatchSGDRegressor(**SETTINGS, loss="poisson", alpha=0.01),
    "softmax": MiniBatchSGDClassifier(**SETTINGS, alpha=0.01),
    "hinge": MiniBatchSGDClassifier(**SETTINGS, solver="saga", loss="hinge", alpha=0.01),
}


def problem(name, weighted=False, dtype=np.float64):
    """Features of different scales that depend on each other; with weights, some rows are not in use."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) * [1.0, 30.0, 0.05, 1.0] + [0.0, 100.0, 0.0, 2.0]
    raw = 0.5 * rng.standard_normal(N) + (X - X.mean(axis=0)) @ [0.3, 0.01, 1.0, -0.2]
    y = raw
    if isinstance(CASES[name], MiniBatchSGDClassifier):
        y = np.digitize(raw, [-0.5, 0.5] if name == "softmax" else [0.0])
    if name == "poisson":
        y = rng.poisson(np.exp(0.3 * raw)).astype(float)
    weights = np.where(np.arange(N) % 7 == 0, 0.0, rng.uniform(0.2, 3.0, N)) if weighted else None
    return begun(CASES[name], X.astype(dtype), y, weights)


def predictor_of(start):
    rng = np.random.default_rng(1)
    coef, intercept = start.model.predictor(start.fitted.params, None)
    at = start.gradients((coef, intercept))
    return at.at(at.point + 0.1 * rng.standard_normal(at.point.shape)).predictor


class LogCosh(NamedTuple):
    """A custom loss: squared near zero, linear far from it."""

    curvature = 1.0

    def value(self, raw, y):
        r = np.abs(raw - y)
        return r + np.log1p(np.exp(-2.0 * r)) - np.log(2.0)

    def gradient(self, raw, y):
        return np.tanh(raw - y)

    def second_derivative(self, raw, y):
        return 1.0 - np.tanh(raw - y) ** 2
