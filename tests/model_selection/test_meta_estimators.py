"""The estimators inside scikit-learn's searches, ensembles and curves that `tests/common/test_ecosystem.py` has not."""

from __future__ import annotations

import numpy as np
import pytest
from joblib import parallel_config
from scipy.stats import loguniform
from sklearn.base import is_classifier
from sklearn.ensemble import AdaBoostClassifier, StackingClassifier, StackingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multioutput import ClassifierChain, MultiOutputRegressor

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.model_selection import BatchSizeSearchCV
from tests.families import classifiers, family_of, learnt, regressors

QUICK = {"device": "base", "random_state": 0, "max_iter": 10, "tol": None, "batch_size": 16}


def quick(estimator_class, **changes):
    return estimator_class(**{**QUICK, **family_of(estimator_class).soon, **changes})


def test_randomized_search(estimator_class, problem):
    chances = {"alpha": loguniform(1e-6, 1e-2), "batch_size": [8, 32, "full"]}
    search = RandomizedSearchCV(quick(estimator_class), chances, n_iter=3, cv=2, random_state=0, error_score="raise")
    assert search.fit(*problem).best_score_ > 0.6
    assert len(search.cv_results_["params"]) == 3


def test_cross_validate(estimator_class, problem):
    found = cross_validate(
        quick(estimator_class), *problem, cv=3, return_train_score=True, return_estimator=True, error_score="raise"
    )
    assert found["test_score"].min() > 0.6
    for estimator in found["estimator"]:
        assert estimator.t_ == 10 * 160


def test_curves(estimator_class, problem):
    sizes, train, test = learning_curve(
        quick(estimator_class), *problem, train_sizes=[40, 120], cv=2, shuffle=True, random_state=0, error_score="raise"
    )
    np.testing.assert_array_equal(sizes, [40, 120])
    assert train.shape == test.shape == (2, 2)
    assert test.min() > 0.4
    of_size, _ = validation_curve(
        quick(estimator_class), *problem, param_name="batch_size", param_range=[8, "full"], cv=2, error_score="raise"
    )
    assert of_size.shape == (2, 2)


@classifiers
def test_boosting(estimator_class, several):
    """By sample weights; networks are told these as well."""
    boosted = AdaBoostClassifier(quick(estimator_class), n_estimators=3, random_state=0).fit(*several)
    assert boosted.score(*several) > 0.7
    assert len(boosted.estimators_) > 1
    assert not np.allclose(learnt(boosted.estimators_[0]), learnt(boosted.estimators_[1]))


@classifiers
def test_stacked_classifiers(estimator_class, several):
    members = [("few", quick(estimator_class)), ("many", quick(estimator_class, batch_size=64))]
    stacked = StackingClassifier(members, quick(MiniBatchSGDClassifier), cv=2, passthrough=True)
    assert stacked.fit(*several).score(*several) > 0.7
    theirs = StackingClassifier([*members, ("theirs", LogisticRegression())], cv=2).fit(*several)
    assert theirs.score(*several) > 0.7


@regressors
def test_stacked_regressors(estimator_class, regression):
    members = [("few", quick(estimator_class)), ("many", quick(estimator_class, batch_size=64))]
    stacked = StackingRegressor(members, quick(MiniBatchSGDRegressor), cv=2).fit(*regression)
    assert stacked.score(*regression) > 0.7


@classifiers
def test_tuned_threshold(estimator_class, binary):
    X, y = binary
    rare = np.flatnonzero((y == 0) | (np.arange(240) % 4 == 0))
    tuned = TunedThresholdClassifierCV(quick(estimator_class), scoring="f1", cv=3, random_state=0)
    tuned.fit(X[rare], y[rare])
    plain = quick(estimator_class).fit(X[rare], y[rare])
    assert tuned.predict(X[rare]).sum() > plain.predict(X[rare]).sum()


@regressors
def test_an_estimator_for_each_output(estimator_class, regression):
    X, y = regression
    Y = np.column_stack([y, 2 * y + X[:, 0]])
    each = MultiOutputRegressor(quick(estimator_class)).fit(X, Y)
    assert each.score(X, Y) > 0.7
    np.testing.assert_array_equal(learnt(each.estimators_[0]), learnt(quick(estimator_class).fit(X, y)))


@classifiers
def test_a_chain_of_labels(estimator_class, binary):
    X, y = binary
    chain = ClassifierChain(quick(estimator_class), random_state=0).fit(X, np.column_stack([y, X[:, 0] > 0]))
    assert chain.predict(X).shape == (240, 2)


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_searches_on_two_jobs(backend, binary):
    """Each result is that of one job."""
    grid = {"alpha": [1e-4, 1e-1]}
    estimator = MiniBatchSGDClassifier(**{**QUICK, "device": "cpu" if backend == "threading" else "base"})
    one = GridSearchCV(estimator, grid, cv=2, scoring="neg_log_loss").fit(*binary)
    with parallel_config(backend, n_jobs=2):
        two = GridSearchCV(estimator, grid, cv=2, scoring="neg_log_loss", error_score="raise").fit(*binary)
        search = BatchSizeSearchCV(estimator, [16], param_grid=grid, cv=2, scoring="neg_log_loss", error_score="raise")
        search.fit(*binary)
    np.testing.assert_array_equal(two.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"])
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-10)
    assert is_classifier(search)
