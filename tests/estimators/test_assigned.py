"""Fitted attributes that a user assigns are what training goes on from."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from tests.families import LINEAR, NETWORKS, constant, every_solver, family_of, learnt, linear_models

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")

LAYERS = {"hidden_layer_sizes": (4, 3)}


class Kind(NamedTuple):
    """An estimator and its number of outputs."""

    estimator: type
    n_outputs: int
    parameters: dict = {}

    def target(self, X):
        """A target that suits it."""
        raw = X @ np.linspace(-1.0, 2.0, 5 * self.n_outputs).reshape(5, -1)
        if is_classifier(self.estimator()):
            return raw.argmax(axis=1) if self.n_outputs > 1 else (raw[:, 0] > 0).astype(int)
        return raw if self.n_outputs > 1 else raw[:, 0]


KINDS = {
    "regressor": Kind(MiniBatchSGDRegressor, 1),
    "regressor of several outputs": Kind(MiniBatchSGDRegressor, 3),
    "classifier of two": Kind(MiniBatchSGDClassifier, 1),
    "classifier of several": Kind(MiniBatchSGDClassifier, 3),
    "network of numbers": Kind(MiniBatchMLPRegressor, 1, LAYERS),
    "network of several numbers": Kind(MiniBatchMLPRegressor, 2, LAYERS),
    "network of two classes": Kind(MiniBatchMLPClassifier, 1, LAYERS),
    "network of several classes": Kind(MiniBatchMLPClassifier, 3, LAYERS),
    "normalised network": Kind(MiniBatchMLPClassifier, 3, {**LAYERS, "normalization": "layer"}),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
STORAGES = {
    "dense": np.asarray,
    "float32": lambda X: X.astype(np.float32),
    "csr": sparse.csr_matrix,
    "csr of float32": lambda X: sparse.csr_matrix(X.astype(np.float32)),
}


def begun(kind: Kind, X, y, **parameters):
    """An estimator after a chunk of a stream, for a rate that leaves what it starts from from now on."""
    estimator = kind.estimator(device="base", random_state=0, **kind.parameters, **parameters)
    estimator.partial_fit(X, y, **({"classes": np.unique(y)} if is_classifier(estimator) else {}))
    return estimator.set_params(**constant(estimator, 1e-12))


def arrays_of(estimator) -> list[np.ndarray]:
    """All arrays that a user may assign."""
    if isinstance(estimator, LINEAR.estimators):
        return [estimator.coef_, estimator.intercept_]
    by_name = [found for found in estimator.normalizations_ if found is not None]
    normalizations = [found[name] for found in by_name for name in found]
    intercepts = [array for array in estimator.intercepts_ if np.any(array)]
    return [*estimator.coefs_, *intercepts, *normalizations]


def change(estimator, how: str) -> None:
    """Other numbers in each array, of which no two are alike."""
    if how == "in place":
        for number, array in enumerate(arrays_of(estimator)):
            array[...] = 0.5 * array + 0.25 + number + np.arange(array.size).reshape(array.shape) % 7
        return
    copy = pickle.loads(pickle.dumps(estimator))
    change(copy, "in place")
    names = ("coef_", "intercept_") if isinstance(estimator, LINEAR.estimators) else ("coefs_", "intercepts_")
    for name in (*names, *(["normalizations_"] if "normalizations_" in vars(estimator) else [])):
        setattr(estimator, name, getattr(copy, name))
    if how == "sparse":
        estimator.sparsify()


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param(kind, how, id=f"{name} {how}")
        for name, kind in KINDS.items()
        for how in ("in place", "rebound", *(() if kind.parameters else ("sparse",)))
    ],
)
def test_training_goes_on_from_what_was_assigned(kind, how, storage, rng):
    """By `partial_fit` and by a warm `fit`; the counters go on."""
    X = rng.standard_normal((60, 5))
    y, X = kind.target(X), storage(X)
    for warm in (False, True):
        estimator = begun(kind, X, y)
        before = learnt(estimator)
        change(estimator, how)
        assigned = learnt(estimator.densify() if how == "sparse" else estimator)
        if how == "sparse":
            estimator.sparsify()
        assert not np.allclose(assigned, before)
        if warm:
            estimator.set_params(warm_start=True, max_iter=1, tol=None).fit(X, y)
        else:
            estimator.partial_fit(X, y)
            assert estimator.t_ == 120
        np.testing.assert_allclose(learnt(estimator), assigned, rtol=1e-6, atol=1e-6)
        assert isinstance(getattr(estimator, family_of(estimator).weights), (np.ndarray, list))


@every_solver
def test_the_optimizer_is_fresh_after_an_assignment(solver, estimator_class, problem):
    """A step is that of an unfitted estimator with the same attributes, however large the state before."""
    if solver in ("saga", "sdca"):
        return  # no partial_fit
    X, y = problem
    parameters = {"solver": solver, "device": "base", "batch_size": 100, "random_state": 0}
    estimator = estimator_class(**parameters, **constant(estimator_class, 0.03))
    labels = {"classes": [0, 1]} if is_classifier(estimator) else {}
    fresh = clone(estimator)
    for first in (0, 50, 100):
        estimator.partial_fit(X[first : first + 100], 1 - y[first : first + 100], **labels)
    change(estimator, "rebound")
    for name in ("coef_", "intercept_", "coefs_", "intercepts_", "classes_"):
        if name in vars(estimator):
            setattr(fresh, name, getattr(estimator, name))
    before = learnt(estimator)
    chunk = X[:100], y[:100]
    np.testing.assert_allclose(
        learnt(estimator.partial_fit(*chunk)), learnt(fresh.partial_fit(*chunk)), rtol=1e-9, atol=1e-12
    )
    assert not np.allclose(before, learnt(fresh))
    assert (estimator.t_, estimator.n_updates_) == (400, 4)
    assert (fresh.t_, fresh.n_updates_) == (100, 1)


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
@every_kind
def test_the_same_numbers_are_no_assignment(kind, storage, rng):
    """Copies, sparse or not, leave the momentum as it is, other numbers do not (BLAS rounds by where arrays lie in memory)."""
    X = rng.standard_normal((90, 5))
    y, X = kind.target(X), storage(X)
    parameters = {"solver": "momentum"} if not kind.parameters else {}
    estimator = begun(kind, X[:30], y[:30], **parameters)
    estimator.set_params(**constant(estimator, 0.01)).partial_fit(X[30:60], y[30:60])
    other, slightly = (pickle.loads(pickle.dumps(estimator)) for _ in range(2))
    for array in arrays_of(slightly):
        array *= 1.0 + 1e-6
    if kind.parameters:
        other.coefs_, other.intercepts_ = [array.copy() for array in other.coefs_], list(other.intercepts_)
    else:
        other.coef_ = other.coef_.copy()
        other.sparsify()
    for changed in (estimator, other, slightly):
        changed.partial_fit(X[60:], y[60:])
    np.testing.assert_allclose(learnt(other), learnt(estimator), rtol=1e-5, atol=1e-6)
    assert not np.allclose(learnt(slightly), learnt(estimator), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
@every_kind
def test_a_start_that_was_assigned_before_any_fit(kind, storage, rng):
    X = rng.standard_normal((60, 5))
    y, X = kind.target(X), storage(X)
    fitted = begun(kind, X, y)
    change(fitted, "in place")
    attributes = {
        name: value
        for name, value in vars(fitted).items()
        if name in ("coef_", "intercept_", "coefs_", "intercepts_", "normalizations_", "classes_")
    }
    for warm in (False, True):
        estimator = clone(fitted)
        for name, value in attributes.items():
            setattr(estimator, name, value)
        with pytest.raises(NotFittedError):
            estimator.predict(X)
        if warm:
            estimator.set_params(warm_start=True, max_iter=1, tol=None).fit(X, y)
        else:
            estimator.partial_fit(X, y)
        np.testing.assert_allclose(learnt(estimator), learnt(fitted), rtol=1e-6, atol=1e-6)
        assert estimator.t_ == 60


def test_a_part_of_the_start_may_be_assigned(regression):
    X, y = regression
    estimator = MiniBatchSGDRegressor(device="base", learning_rate="constant", eta0=1e-12)
    estimator.coef_ = np.arange(5.0)
    estimator.partial_fit(X, y)
    np.testing.assert_allclose(estimator.coef_, np.arange(5.0), atol=1e-6)
    network = MiniBatchMLPRegressor(hidden_layer_sizes=4, device="base", learning_rate_init=1e-12, random_state=0)
    started = clone(network).partial_fit(X, y)
    network.coefs_ = [np.ones((5, 4)), np.full((4, 1), 2.0)]
    network.partial_fit(X, y)
    np.testing.assert_allclose(network.coefs_[0], 1.0)
    np.testing.assert_allclose(np.hstack(network.intercepts_), np.hstack(started.intercepts_), atol=1e-9)


def test_classes_that_were_assigned_before_any_fit(binary):
    X, y = binary
    estimator = MiniBatchSGDClassifier(device="base")
    estimator.classes_ = np.array([0, 1])
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        estimator.partial_fit(X, y, classes=[0, 1, 2])
    assert estimator.partial_fit(X[:2], np.zeros(2, int)).t_ == 2
    backwards = MiniBatchSGDClassifier(device="base")
    backwards.classes_ = np.array([1, 0])
    with pytest.raises(ValueError, match="classes_ has to be sorted"):
        backwards.partial_fit(X, y)


def test_a_fit_that_is_not_warm_forgets_what_was_assigned(estimator_class, problem):
    estimator = estimator_class(device="base", max_iter=2, tol=None, random_state=0).fit(*problem)
    first = learnt(estimator)
    change(estimator, "rebound")
    np.testing.assert_array_equal(learnt(estimator.fit(*problem)), first)


@pytest.mark.slow
@linear_models
@pytest.mark.parametrize("storage", ["dense", "csr", "float32"])
def test_federated_averaging(storage, estimator_class, rng):
    """Each of two models sees one half of the features; replaced by their mean after each round, they learn both halves.

    Of two models that did not go on from the mean, it would shrink every coefficient to a half.
    """
    X = rng.standard_normal((600, 6))
    X[::2, :3], X[1::2, 3:] = 0.0, 0.0
    y, has_classes = X @ [2.0, -2.0, 2.0, 2.0, -2.0, 2.0] + rng.logistic(size=600), is_classifier(estimator_class())
    y = (y > 0).astype(int) if has_classes else y
    models = [estimator_class(device="base", batch_size=20, random_state=0) for _ in range(2)]
    given, losses = STORAGES[storage](X), []

    def loss_of(model) -> float:
        return log_loss(y, model.predict_proba(given)) if has_classes else 1.0 - model.score(given, y)

    for _ in range(25):
        for first, model in enumerate(models):
            model.partial_fit(given[first::2], y[first::2], **({"classes": [0, 1]} if has_classes else {}))
        for name in ("coef_", "intercept_"):
            mean = sum(getattr(model, name) for model in models) / 2
            for model in models:
                setattr(model, name, mean)
        losses.append(loss_of(models[0]))
    best = estimator_class(device="base", batch_size=20, random_state=0, max_iter=25, tol=None).fit(given, y)
    assert losses[-1] < min(losses[0], 1.1 * loss_of(best))


# -- what is no model


def bad_values(estimator) -> dict:
    """Attributes by what is wrong with them, each (name, value, the error)."""
    if isinstance(estimator, NETWORKS.estimators):
        coefs, intercepts = estimator.coefs_, estimator.intercepts_
        return {
            "a layer too few": ("coefs_", coefs[1:], r"Provided coefs_ does not match dataset: expected 3 arrays"),
            "a unit too few": ("coefs_", [coefs[0][:, 1:], *coefs[1:]], r"Provided coefs_\[0\] does not match dataset"),
            "no number": ("intercepts_", [*intercepts[:-1], intercepts[-1] * np.nan], r"intercepts_\[2\] contains NaN"),
            "words": ("coefs_", ["a", *coefs[1:]], r"Provided coefs_\[0\] is no array of numbers"),
        }
    coef, intercept = np.atleast_2d(estimator.coef_), estimator.intercept_
    return {
        "a feature too few": ("coef_", coef[:, 1:], r"Provided coef_ does not match dataset"),
        "an output too many": ("coef_", np.vstack([coef, coef]), r"Provided coef_ does not match dataset"),
        "sparse": ("coef_", sparse.csr_matrix(coef[:, 1:]), r"Provided coef_ does not match dataset"),
        "an intercept too many": (
            "intercept_",
            np.append(intercept, 1.0),
            r"Provided intercept_ does not match dataset",
        ),
        "no number": ("coef_", coef * np.nan, r"Input coef_ contains NaN"),
        "infinite": ("intercept_", intercept + np.inf, r"Input intercept_ contains infinity"),
        "words": ("coef_", "many", r"Provided coef_ is no array of numbers"),
        "lengths that differ": ("coef_", [[1.0], [1.0, 2.0]], r"Provided coef_ is no array of numbers"),
    }


@every_kind
def test_an_error_names_the_attribute(kind, rng):
    """And leaves the estimator as it was."""
    X = rng.standard_normal((60, 5))
    y = kind.target(X)
    for fitted in (True, False):
        for name, value, error in bad_values(begun(kind, X, y)).values():
            estimator = begun(kind, X, y)
            estimator = estimator if fitted else clone(estimator)
            if not fitted and is_classifier(estimator):
                estimator.classes_ = np.unique(y)
            setattr(estimator, name, value)
            for method in ("partial_fit", "fit"):
                estimator.set_params(warm_start=method == "fit", max_iter=1, tol=None)
                before = pickle.dumps(vars(estimator))
                with pytest.raises(ValueError, match=error):
                    getattr(estimator, method)(X, y)
                assert pickle.dumps(vars(estimator)) == before


def test_no_intercept_beside_the_shift_of_a_normalization(binary):
    X, y = binary
    network = MiniBatchMLPClassifier(hidden_layer_sizes=3, normalization="batch", device="base", batch_size=60)
    network.partial_fit(X, y, classes=[0, 1])
    network.intercepts_[0] += 1.0
    with pytest.raises(ValueError, match=r"intercepts_\[0\] has to be zero: beta of normalizations_\[1\] is in its"):
        network.partial_fit(X, y)
