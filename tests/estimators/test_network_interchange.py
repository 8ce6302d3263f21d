"""Networks that become scikit-learn's, and back: equal predictions, or an error that names what has no equivalent."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor
from skminibatch.layers import BatchNorm, GhostNorm, GroupNorm, HybridNorm, InstanceNorm, LeakyReLU
from skminibatch.losses import LOSSES, Huber
from tests.families import learnt

QUICK = {"device": "base", "random_state": 0, "max_iter": 3, "tol": None, "batch_size": 16, "learning_rate_init": 0.01}
REGRESSION = [name for name, loss in LOSSES.items() if loss.task == "regression"]
FOLDED = [
    {},
    {"hidden_layer_sizes": []},
    {"hidden_layer_sizes": (6, 4), "activation": "tanh"},
    {"normalization": "batch", "hidden_layer_sizes": (6, 4)},
    {"normalization": BatchNorm(epsilon=0.1), "normalize_input": True, "activation": "logistic"},
    {"normalization": "batch", "normalize_input": True, "hidden_layer_sizes": []},
    {"normalization": GhostNorm(4), "normalize_input": True, "dropout": 0.3, "hidden_layer_sizes": (6, 4)},
    {"dropout": [0.2, 0.5], "activation": ["identity", "identity"], "hidden_layer_sizes": (6, 4)},
]


def shifted(X):
    """Features that a normalization of the input changes."""
    return X * [1.0, 10.0, 0.1, 1.0, 3.0] + [0.0, 5.0, 0.0, -1.0, 2.0]


@pytest.mark.parametrize("parameters", FOLDED, ids=str)
@pytest.mark.parametrize("labels", ["two", "three", "several at once"])
def test_classifiers_predict_the_same(parameters, labels, several):
    X, y = shifted(several.X), np.array(["a", "b", "c"])[several.y]
    y = {"two": y != "a", "three": y, "several at once": (y[:, None] != ["a", "b", "c"]).astype(int)}[labels]
    ours = MiniBatchMLPClassifier(**QUICK, **parameters).fit(X, y)
    theirs = ours.as_sklearn()
    assert type(theirs) is MLPClassifier
    np.testing.assert_array_equal(theirs.predict(X), ours.predict(X))
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(theirs.classes_, ours.classes_)
    assert theirs.score(X, y) == ours.score(X, y)


@pytest.mark.parametrize("loss", REGRESSION)
@pytest.mark.parametrize("parameters", FOLDED, ids=str)
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regressors_predict_the_same(parameters, loss, n_outputs, counts):
    X, y = shifted(counts.X), counts.y if n_outputs == 1 else np.column_stack([counts.y, counts.y[::-1]])
    ours = MiniBatchMLPRegressor(loss=loss, **QUICK, **parameters).fit(X, y)
    theirs = ours.as_sklearn()
    assert type(theirs) is MLPRegressor
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", [MiniBatchMLPClassifier, MiniBatchMLPRegressor])
def test_a_copy_keeps_its_type_and_can_be_trained(cls, dtype, binary):
    X, y = binary.X.astype(dtype), binary.y
    ours = cls(normalization="batch", alpha=0.01, **QUICK).fit(X, y)
    before, theirs = learnt(ours), ours.as_sklearn()
    assert all(array.dtype == dtype for array in theirs.coefs_ + theirs.intercepts_)
    assert theirs.alpha == 0.01 * 16
    assert (theirs.n_features_in_, theirs.n_layers_, theirs.n_iter_, theirs.t_) == (5, 3, 3, 720)
    np.testing.assert_allclose(
        theirs.predict(sparse.csr_matrix(X)), ours.predict(X), rtol=1e-4 if dtype is np.float32 else 1e-9, atol=1e-6
    )
    theirs.partial_fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.set_params(warm_start=True, max_iter=2).fit(X, y)
    for layer in theirs.coefs_ + theirs.intercepts_:
        layer += 1.0
    np.testing.assert_array_equal(learnt(ours), before)


NO_EQUIVALENT = [
    (
        {"normalization": "layer"},
        r"no equivalent of LayerNorm\(.*\) in hidden layer 1: its statistics are those of each row",
    ),
    ({"normalization": GroupNorm(2)}, r"no equivalent of GroupNorm\(.*\) in hidden layer 1"),
    ({"normalization": InstanceNorm(2)}, r"no equivalent of InstanceNorm\(.*\) in hidden layer 1"),
    ({"normalization": "hybrid"}, r"no equivalent of HybridNorm\(.*\) with alpha=0\.\d+ in hidden layer 1"),
    (
        {"normalization": GroupNorm(1), "normalize_input": True},
        r"no equivalent of GroupNorm\(.*\) before the first layer",
    ),
    ({"activation": "gelu"}, r"no equivalent of GELU\(\) in hidden layer 1"),
    ({"activation": ["relu", LeakyReLU(0.1)]}, r"no equivalent of LeakyReLU\(leak=0.1\) in hidden layer 2"),
    ({"activation": ["relu", "tanh"]}, r"no equivalent of Tanh\(\) in hidden layer 2 after ReLU\(\) in the first"),
]


@pytest.mark.parametrize(("parameters", "match"), NO_EQUIVALENT, ids=str)
def test_what_has_no_equivalent_is_named(parameters, match, regression):
    ours = MiniBatchMLPRegressor(hidden_layer_sizes=(6, 4), **QUICK, **parameters).fit(*regression)
    with pytest.raises(ValueError, match="scikit-learn has " + ("one" if "after" in match else "no")) as error:
        ours.as_sklearn()
    assert error.match(match)


def test_hybrid_normalization_that_became_that_of_the_batch(regression):
    settings = {"hidden_layer_sizes": 6, "normalization": HybridNorm(alpha=1 - 1e-16), **QUICK}
    ours = MiniBatchMLPRegressor(**settings).fit(*regression)
    for found in ours.normalizations_[1:-1]:
        found["q"][:], found["alpha"][:] = 50.0, 1.0
    np.testing.assert_allclose(ours.as_sklearn().predict(regression.X), ours.predict(regression.X), rtol=1e-9)


@pytest.mark.parametrize("loss", ["hinge", "modified_huber", Huber()])
def test_a_classifier_without_their_probabilities(loss, binary):
    ours = MiniBatchMLPClassifier(loss=loss, **QUICK).fit(*binary)
    with pytest.raises(ValueError, match="by 'log_loss': there is no equivalent of loss="):
        ours.as_sklearn()


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("labels", ["two", "three", "several at once"])
def test_from_classifiers(labels, activation, several):
    X, y = several
    y = {"two": np.array(["no", "yes"])[y // 2], "three": y, "several at once": np.eye(3, dtype=int)[y]}[labels]
    theirs = MLPClassifier((6, 4), activation=activation, max_iter=500, tol=0.1, random_state=0).fit(X, y)
    ours = MiniBatchMLPClassifier.from_sklearn(theirs, **QUICK)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(ours.as_sklearn().predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
    before = learnt(ours)
    ours.partial_fit(X, y)
    assert (ours.t_, ours.n_updates_) == (240, 15)
    assert 0 < np.max(abs(learnt(ours) - before)) < 0.5


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_from_regressors(loss, n_outputs, counts):
    X, y = counts
    y = y if n_outputs == 1 else np.column_stack([y, y[::-1]])
    theirs = MLPRegressor(loss, 6, max_iter=500, tol=0.1, random_state=0).fit(X, y)
    ours = MiniBatchMLPRegressor.from_sklearn(theirs, warm_start=True, **QUICK)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-12)
    before = learnt(ours)
    ours.set_params(learning_rate_init=1e-12).fit(X, y)
    np.testing.assert_allclose(learnt(ours), before, atol=1e-9)


def test_what_cannot_be_taken_over(several):
    X, y = several
    theirs = MLPClassifier(4, max_iter=500, tol=0.1)
    with pytest.raises(NotFittedError):
        MiniBatchMLPClassifier.from_sklearn(theirs)
    with pytest.raises(ValueError, match="scikit-learn's networks have no normalization: normalization='batch'"):
        MiniBatchMLPClassifier.from_sklearn(theirs.fit(X, y), normalization="batch")
    with pytest.raises(ValueError, match=r"The outputs of MLPRegressor.* are not those of loss='poisson'"):
        MiniBatchMLPRegressor.from_sklearn(MLPRegressor(max_iter=500, tol=0.1).fit(X, y), loss="poisson")
