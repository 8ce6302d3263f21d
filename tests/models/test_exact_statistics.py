"""Exact statistics of normalizations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchMLPClassifier
from skminibatch.layers import NORMALIZATIONS
from skminibatch.models.data import Data
from skminibatch.statistics.random import EXAMINED

WITH_STATISTICS = [cls for cls in NORMALIZATIONS.values() if "exact" in cls._fields]
TRAINED = {
    "device": "base",
    "hidden_layer_sizes": (6, 5),
    "max_iter": 2,
    "tol": None,
    "learning_rate_init": 0.01,
    "random_state": 0,
}


def assert_statistics_of_all_rows(mlp, X, weights=None):
    """Each normalization predicts by the weighted moments of what enters it."""
    stack, theta = mlp._layers, mlp._theta()
    for number, found in enumerate(mlp.normalizations_):
        if found is None:
            continue
        entering, _ = stack.forward(theta, X, until=number)
        np.testing.assert_allclose(found["mean"], np.average(entering, axis=0, weights=weights), rtol=1e-9, atol=1e-12)
        variance = np.average((entering - found["mean"]) ** 2, axis=0, weights=weights)
        np.testing.assert_allclose(found["variance"], variance, rtol=1e-9)
    assert sum(found is not None for found in mlp.normalizations_) >= 2


@pytest.mark.parametrize("part", WITH_STATISTICS)
def test_exact_statistics_are_those_of_all_rows(part, rng):
    """Of more rows than are looked at at once, with weights, some of them zero: predictions as if all were one batch."""
    n = EXAMINED + 500
    X, y, weights = rng.standard_normal((n, 3)), np.arange(n) % 3, rng.integers(0, 3, n).astype(float)
    exact, running = (
        MiniBatchMLPClassifier(normalization=part(exact=exact), normalize_input=True, **TRAINED).fit(
            X, y, sample_weight=weights
        )
        for exact in (True, False)
    )
    assert_statistics_of_all_rows(exact, X, weights)
    for one, other in zip(exact.coefs_, running.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.all(exact.normalizations_[0]["mean"] != running.normalizations_[0]["mean"])
    whole = part()._replace(**{"size": float(n)} if "size" in part._fields else {})
    stack = exact.set_params(normalization=whole)._stack(exact._target, 3)
    raw, _ = stack.forward(exact._theta(), X, weights, train=True)
    np.testing.assert_allclose(raw, exact._raw(X), rtol=1e-9, atol=1e-12)


def test_exact_statistics_of_sparse_rows_and_of_the_best_epoch(several):
    """With early stopping: of the weights that are restored, without the validation rows."""
    X, y = several
    settings = {**TRAINED, "max_iter": 30, "early_stopping": True, "batch_size": 20}
    mlp = MiniBatchMLPClassifier(normalization=NORMALIZATIONS["batch"](exact=True), **settings)
    mlp.fit(sparse.csr_array(X[:180]), y[:180], X_val=X[180:], y_val=y[180:])
    assert np.argmax(mlp.validation_scores_) < mlp.n_iter_ - 1
    assert_statistics_of_all_rows(mlp, X[:180])


def test_exact_statistics_of_averaged_weights(several):
    """No batch has met the average, so that running statistics are those of other weights."""
    averaged, last = (
        MiniBatchMLPClassifier(normalization=NORMALIZATIONS["batch"](exact=True), average=average, **TRAINED).fit(
            *several
        )
        for average in (True, False)
    )
    assert_statistics_of_all_rows(averaged, several.X)
    assert np.all(averaged.coefs_[0] != last.coefs_[0])


@pytest.mark.parametrize("part", WITH_STATISTICS)
def test_exact_statistics_do_not_depend_on_the_order_of_rows(part, rng):
    n = EXAMINED + 77
    X, weights, order = rng.standard_normal((n, 3)) + 100.0, rng.uniform(0.1, 2.0, n), rng.permutation(n)
    mlp = MiniBatchMLPClassifier(normalization=part(exact=True), **TRAINED).fit(X[:200], np.arange(200) % 2)
    theta, some = mlp._theta(), order[:500]
    before = theta.copy()

    def statistics(*rows_of_data):
        return mlp._fitted.model.with_exact_statistics(theta, Data(*rows_of_data))

    expected = statistics(X, None, weights)
    np.testing.assert_allclose(statistics(X, None, weights, order), expected, rtol=1e-10)
    np.testing.assert_allclose(statistics(X, None, weights, np.repeat(order, 2)), expected, rtol=1e-10)
    of_some = statistics(X[some], None, weights[some])
    np.testing.assert_allclose(statistics(X, None, weights, some), of_some, rtol=1e-10)
    assert not np.allclose(of_some, expected)
    np.testing.assert_array_equal(theta, before)


def test_training_goes_on_from_exact_statistics(several):
    """What `warm_start` and `partial_fit` go on from is what predicts."""
    mlp = MiniBatchMLPClassifier(normalization=NORMALIZATIONS["batch"](exact=True), **TRAINED).fit(*several)
    np.testing.assert_array_equal(mlp._fitted.params[0], mlp._theta())
