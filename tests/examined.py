"""Models for the tests of gradients and curvatures: at given parameters, and of every kind."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor

FIXED = {"learning_rate": "constant", "eta0": 1e-3, "max_iter": 1, "tol": None, "random_state": 0}


def at(u, c, alpha=0.1, **settings):
    """A regressor with the coefficients u and the intercept c, in the features as they are."""
    regressor = MiniBatchSGDRegressor(alpha=alpha, **{**FIXED, **settings}).fit(np.eye(len(u)), np.zeros(len(u)))
    regressor.coef_[:], regressor.intercept_[:] = u, c
    return regressor


def examined(estimator, k, storage, weighted, rng, dtype=np.float64):
    """The gradients of an estimator after two epochs on features of uneven scale, some of them zero; k targets or classes."""
    X = (rng.standard_normal((40, 3)) * [1.0, 30.0, 0.1] * (rng.random((40, 3)) < 0.7)).astype(dtype)
    y = np.abs(rng.standard_normal((40, k) if k > 1 else 40))  # counts are not negative
    y = np.arange(40) % k if isinstance(estimator, MiniBatchSGDClassifier) else y
    weights = rng.integers(0, 3, 40).astype(float) if weighted else None
    X = sparse.csr_array(X) if storage == "csr" else X
    estimator = estimator.set_params(max_iter=2, tol=None).fit(X, y, sample_weight=weights)
    return estimator._examined(X, y, weights)
