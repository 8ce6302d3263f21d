"""The noise scale of steps by signs: exact values, the bound that it stands for, and its interval."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchMLPRegressor
from skminibatch.diagnostics import gradient_noise_scale, sign_noise_scale
from tests.examined import at

U, C, ALPHA = np.array([1.0, 0.2, 0.0, -0.4, 0.1]), 2.0, 0.1


def written_out(X, y, u=U, c=C, alpha=ALPHA):
    """The gradients of the rows, and that of the objective."""
    gradients = (X @ u + c - y)[:, None] * np.column_stack([X, np.ones(len(X))])
    return gradients, gradients.mean(axis=0) + alpha * np.append(u, 0)


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_array])
def test_of_all_rows_it_is_exact(storage, regression):
    X, y = regression
    found = sign_noise_scale(at(U, C, ALPHA), storage(X), y)
    gradients, G = written_out(X, y)
    deviation, gradient = gradients.std(axis=0).sum(), np.abs(G).sum()
    np.testing.assert_allclose(found.deviation_norm, deviation, rtol=1e-9)
    np.testing.assert_allclose(found.gradient_norm, gradient, rtol=1e-9)
    np.testing.assert_allclose(found.noise_scale, (deviation / gradient) ** 2, rtol=1e-9)
    np.testing.assert_allclose(found.noise_to_signal(found.noise_scale), 1.0)


def test_the_interval_is_that_without_each_group(regression):
    """Four rows are their own groups of two: the jackknife written out."""
    X, y = (part[:40] for part in regression)
    found = sign_noise_scale(at(U, C, ALPHA), X, y, random_state=3)
    order = np.random.RandomState(3).permutation(np.arange(40))
    ratios = []
    for group in np.array_split(order, 20):
        gradients, G = written_out(*(np.delete(part, group, axis=0) for part in (X, y)))
        ratios.append(np.abs(G).sum() / (gradients.std(axis=0, ddof=1).sum() * np.sqrt(39 / 40)))
    error = np.sqrt(19 * np.var(ratios))
    half = 2.0930240544082634 * error  # of Student's t with 19 degrees of freedom
    low, high = found.noise_scale**-0.5 + half, found.noise_scale**-0.5 - half
    np.testing.assert_allclose(found.confidence_interval, (low**-2, high**-2), rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_it_bounds_the_noise_of_a_batch_in_the_dual_norm(batch_size, rng):
    """``E |g_B - G|_1 <= sqrt(S / b) |G|_1``, over all batches with replacement."""
    for _ in range(10):
        X, y = rng.standard_normal((5, 5)), rng.standard_normal(5)
        found = sign_noise_scale(at(U, C, ALPHA), X, y)
        gradients, G = written_out(X, y)
        pull = G - gradients.mean(axis=0)
        batches = [gradients[list(B)].mean(axis=0) + pull for B in product(range(5), repeat=batch_size)]
        mean = np.mean([np.abs(g - G).sum() for g in batches])
        bound = found.noise_to_signal(batch_size) * np.abs(G).sum()
        assert 0.5 * bound < mean <= bound


def test_it_differs_from_the_other_noise_scale_where_coordinates_do(rng):
    """Both are the same for coordinates alike; for a gradient in one of p noisy coordinates, it is p times as large."""
    X = np.vstack([np.eye(8), -np.eye(8)]) * 8**0.5
    for slopes, ratio in ((np.ones(8), 1.0), (np.eye(8)[0], 8.0)):
        y = -(X @ slopes) + 1e3 * (np.arange(16) % 2 * 2 - 1)  # the noise is the same in all coordinates
        estimator = at(np.zeros(8), 0.0, alpha=0.0, fit_intercept=False)
        signs, other = (measure(estimator, X, y).noise_scale for measure in (sign_noise_scale, gradient_noise_scale))
        assert signs / other == pytest.approx(ratio, rel=0.01)


def test_without_noise_and_without_a_gradient():
    X, y = np.ones((6, 1)), np.ones(6)
    assert sign_noise_scale(at(np.zeros(1), 0.0), X, y).noise_scale == 0.0
    found = sign_noise_scale(at(np.zeros(1), 0.0), X, np.array([1.0, -1.0] * 3))
    assert found.noise_scale == np.inf
    assert found.confidence_interval[1] == np.inf


def test_of_a_network_whose_rows_are_coupled_it_is_that_of_micro_batches(regression):
    """The deviation of a row from that of micro-batches of independent rows: about the same as of uncoupled rows."""
    X, y = (np.tile(part, (8,) + (1,) * (part.ndim - 1)) for part in regression)
    settings = {"hidden_layer_sizes": (3,), "random_state": 0, "max_iter": 2, "tol": None}
    coupled = sign_noise_scale(MiniBatchMLPRegressor(normalization="batch", **settings).fit(X, y), X, y, random_state=0)
    assert coupled.estimator == "micro-batches"
    low, high = coupled.confidence_interval
    assert low < coupled.noise_scale < high


@pytest.mark.slow
def test_the_interval_covers_the_population():
    """95 % intervals from 300 samples of 400 rows cover the noise scale of a large one in 92 to 98 %."""
    rng = np.random.default_rng(7)
    regressor = at(U, C, ALPHA)

    def drawn(n):
        X = rng.standard_normal((n, 5))
        return X, X @ [0.0, 1.0, 1.0, 0.5, -1.0] + 2 * rng.standard_normal(n)

    gradients, G = written_out(*drawn(1_000_000))
    scale = (gradients.std(axis=0).sum() / np.abs(G).sum()) ** 2
    inside = []
    for seed in range(300):
        low, high = sign_noise_scale(regressor, *drawn(400), random_state=seed).confidence_interval
        inside.append(low <= scale <= high)
    assert 0.92 <= np.mean(inside) <= 0.98
