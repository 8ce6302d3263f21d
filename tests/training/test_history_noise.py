"""What the history says of the noise: against the exact gradients of all rows."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch import MiniBatchSGDRegressor
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.samplers import Blocks, Shuffle

STILL = {"solver": "sgd", "learning_rate": "constant", "eta0": 1e-12, "max_iter": 3, "tol": None, "random_state": 0}


@pytest.fixture(scope="module")
def ordered():
    """Rows in the order of a coordinate, so that neighbours are alike."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 4))
    X = X[np.argsort(X[:, 0])]
    return X, X @ [2.0, -1.0, 0.5, 0.0] + rng.standard_normal(3000)


def still(X, y, alpha, coef, **settings):
    """The history and the estimator of a training that does not move."""
    model = MiniBatchSGDRegressor(alpha=alpha, batch_size=30, **{**STILL, **settings})
    model.fit(X, y, coef_init=coef, intercept_init=0.0)
    return model


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.3])
def test_the_noise_scale_is_that_of_the_objective_or_unknown(alpha, ordered):
    """At zero, half-way and at the optimum, where a strong penalty is all that the gradient of the loss is against."""
    X, y = ordered
    optimum = np.linalg.solve(X.T @ X + 3000 * alpha * np.eye(4), X.T @ y)
    for share in (0.0, 0.5, 1.0):
        model = still(X, y, alpha, share * optimum)
        exact, found = gradient_noise_scale(model, X, y).noise_scale, model.history_["noise_scale"]
        known = ~np.isnan(found)
        assert known.all() if share == 0 or alpha == 0 else not (alpha == 0.3 and known.any())
        if share < 1:  # at the optimum, 3,000 rows do not show the gradient
            np.testing.assert_allclose(found[known], exact, rtol=0.3)
        else:
            assert np.all(found[known] > 300)
            assert exact > 3_000


@pytest.mark.parametrize("sampler", ["sequential", "blocks", Blocks(8), Shuffle(8)], ids=str)
def test_neighbours_do_not_show_the_noise(sampler, ordered):
    history = still(*ordered, 0.0, np.zeros(4), sampler=sampler).history_
    for name in ("noise_scale", "update_variance", "temperature"):
        assert np.isnan(history[name]).all()
    assert np.isfinite(history["gradient_norm"]).all()
    with pytest.raises(ValueError, match="follows the variance of the rows of a batch, which sampler="):
        MiniBatchSGDRegressor(sampler=sampler, batch_size="norm_test").fit(*ordered)


@pytest.mark.parametrize("sampler", ["shuffle", "replacement", Shuffle(1)], ids=str)
def test_random_rows_do(sampler, ordered):
    model = still(*ordered, 0.0, np.zeros(4), sampler=sampler)
    exact, history = gradient_noise_scale(model, *ordered), model.history_
    np.testing.assert_allclose(history["noise_scale"], exact.noise_scale, rtol=0.25)
    share = 1 / 30 - (0 if sampler == "replacement" else 1 / 3000)
    np.testing.assert_allclose(history["temperature"], 1e-12 * share * exact.trace_covariance / 2, rtol=0.15)
    np.testing.assert_allclose(history["update_variance"], 2e-12 * history["temperature"])


def test_a_full_batch_has_no_noise(ordered):
    history = still(*ordered, 0.0, np.zeros(4)).set_params(batch_size=3000).fit(*ordered).history_
    np.testing.assert_array_equal(history["temperature"], 0.0)
    np.testing.assert_array_equal(history["update_variance"], 0.0)
