"""Branches with larger batches from one checkpoint."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.cost_model import training_objective
from skminibatch.model_selection import branched_batch_size

PLAIN = {
    "solver": "sgd",
    "learning_rate": "constant",
    "eta0": 0.01,
    "batch_size": 2,
    "device": "base",
    "random_state": 0,
}


def noisy(noise, n_rows=1600):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 4))
    return X, X @ [1.0, 2.0, -1.0, 0.5] + noise * rng.standard_normal(n_rows)


def test_a_branch_is_what_partial_fit_does():
    X, y = noisy(1.0)
    checkpoint = MiniBatchSGDRegressor(**PLAIN).partial_fit(X[:200], y[:200])
    before = pickle.dumps(checkpoint)
    runs = branched_batch_size(checkpoint, X, y, factors=[4, 1], n_passes=2, n_seeds=2, random_state=0)
    assert pickle.dumps(checkpoint) == before
    assert runs.start == pytest.approx(training_objective(checkpoint, X, y))
    np.testing.assert_array_equal(runs.batch_sizes, [2, 8])
    np.testing.assert_allclose(runs.rates, [0.01, 0.04])
    rng = np.random.RandomState(0)
    rng.permutation(1600)
    for seed in range(2):
        orders = [rng.permutation(1600) for _ in range(2)]
        for size, rate, losses in zip(runs.batch_sizes, runs.rates, runs.losses, strict=True):
            one = copy.deepcopy(checkpoint).set_params(batch_size=size, eta0=rate)
            for order in orders:
                one.partial_fit(X[order], y[order])
            assert training_objective(one, X, y) == pytest.approx(losses[seed])


def test_the_largest_loses_no_more_than_the_tolerance():
    """Where the rate grows with the batch, the largest useful size is that beyond which steps are too few or too long."""
    X, y = noisy(1.0)
    runs = branched_batch_size(MiniBatchSGDRegressor(**PLAIN), X, y, factors=2 ** np.arange(10), random_state=0)
    assert runs.shares[0] == 1.0
    inside = runs.batch_sizes <= runs.largest_batch_size
    assert (runs.shares[inside] >= 1 - runs.tolerance).all()
    assert 2 < runs.largest_batch_size < 1024
    assert runs.shares[~inside][0] < 1 - runs.tolerance
    exact = branched_batch_size(
        MiniBatchSGDRegressor(**PLAIN), X, y, factors=[1, 256], tolerance=0.0, n_seeds=1, random_state=0
    )
    assert exact.largest_batch_size == 2


@pytest.mark.parametrize(("solver", "power"), [("sgd", 1.0), ("momentum", 1.0), ("adam", 0.5), ("rmsprop", 0.5)])
def test_rates_go_with_the_batch(solver, power):
    X, y = noisy(1.0)
    settings = {**PLAIN, "solver": solver, "eta0": 0.001}
    runs = branched_batch_size(MiniBatchSGDRegressor(**settings), X, y, factors=[1, 16], n_seeds=1, random_state=0)
    np.testing.assert_allclose(runs.rates, 0.001 * np.array([1.0, 16.0]) ** power)


def test_rates_that_follow_by_themselves(binary):
    estimator = MiniBatchSGDClassifier(batch_size=2, random_state=0, device="base")
    runs = branched_batch_size(make_pipeline(StandardScaler(), estimator), *binary, random_state=0)
    assert np.isnan(runs.rates).all()
    np.testing.assert_array_equal(runs.batch_sizes, [2, 4, 8, 16, 32])  # a pass of 240 rows has four steps and more
    assert np.isfinite(runs.losses).all()


def test_a_branch_that_diverges_ends_the_range(regression):
    runs = branched_batch_size(
        MiniBatchSGDRegressor(**{**PLAIN, "eta0": 0.02}), *regression, factors=[1, 4, 2000], n_passes=40, n_seeds=1,
        random_state=0,
    )  # fmt: skip
    assert runs.largest_batch_size in (2, 8)
    assert not np.isfinite(runs.losses[-1]).all() or runs.shares[-1] < 0.95


def test_networks(regression):
    network = MiniBatchMLPRegressor(hidden_layer_sizes=(4,), batch_size=8, device="base", random_state=0)
    runs = branched_batch_size(network, *regression, factors=[1, 4], random_state=0)
    np.testing.assert_allclose(runs.rates, [0.001, 0.002])
    assert runs.losses.shape == (2, 3)


def test_what_is_refused(regression, binary):
    with pytest.raises(ValueError, match="Expected 'estimator' to be an estimator of skminibatch"):
        branched_batch_size(SGDClassifier(), *binary)
    for wrong in ({"batch_size": "geometric"}, {"learning_rate": "optimal", "eta0": None}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            branched_batch_size(MiniBatchSGDRegressor(**{**PLAIN, **wrong}), *regression)
    with pytest.raises(ValueError, match="learning_rate must be"):
        branched_batch_size(MiniBatchSGDRegressor(solver="adam"), *regression)
    for factors in ([1], [0, 1], [0.5, 1.0]):
        with pytest.raises(ValueError, match="factors must be at least two"):
            branched_batch_size(MiniBatchSGDRegressor(**PLAIN), *regression, factors=factors)
    optimum = MiniBatchSGDRegressor(batch_size=1, random_state=0).fit(*regression)
    optimum.set_params(solver="sgd", learning_rate="constant", eta0=0.05)
    with pytest.raises(ValueError, match="gain nothing"):
        branched_batch_size(optimum, *regression)
