"""Fits of counts end at the best intercept, so that the mean of what is predicted is that of y."""

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDRegressor


def counts(rng, n_outputs=1):
    X = rng.standard_normal((3000, 5))
    y = rng.poisson(np.exp(X @ rng.standard_normal((5, n_outputs)) - 4.0)).astype(float)
    return X, y[:, 0] if n_outputs == 1 else y


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix, lambda X: X.astype(np.float32)])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_means_are_met(storage, n_outputs, rng):
    X, y = counts(rng, n_outputs)
    weights = rng.uniform(0.0, 2.0, 3000) * (rng.random(3000) < 0.9)
    for sample_weight in (None, weights):
        model = MiniBatchSGDRegressor(loss="poisson", random_state=0).fit(storage(X), y, sample_weight=sample_weight)
        means = [np.average(each, axis=0, weights=sample_weight) for each in (model.predict(storage(X)), y)]
        np.testing.assert_allclose(means[0], means[1], rtol=1e-5)


def test_a_stream_goes_on_from_there(rng):
    X, y = counts(rng)
    model = MiniBatchSGDRegressor(loss="poisson", random_state=0).fit(X, y)
    before = model.coef_.copy()
    model.partial_fit(X[:10], y[:10])
    assert 0 < np.abs(model.coef_ - before).max() < 0.1


def test_zeros_alone_and_an_explicit_solver_are_left_alone(rng):
    X, y = counts(rng)
    assert np.isfinite(MiniBatchSGDRegressor(loss="poisson", random_state=0).fit(X, 0.0 * y).intercept_).all()
    model = MiniBatchSGDRegressor(loss="poisson", solver="sgd", max_iter=1, tol=None, random_state=0).fit(X, y)
    assert abs(model.predict(X).mean() / y.mean() - 1.0) > 1e-5
