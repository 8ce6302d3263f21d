"""Scores and effort by batch size, and the range of rates."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GroupKFold, KFold, cross_validate, validation_curve
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.cost_model import training_objective
from skminibatch.model_selection import BatchSizeCurve, batch_size_curve, learning_rate_range_test
from skminibatch.model_selection.curve import batch_size_parameter
from tests.families import constant, family_of

SETTINGS = {"max_iter": 2, "tol": None, "random_state": 0, "device": "base"}


# -- scores by batch size


def test_the_scores_are_those_of_scikit_learn(estimator_class, problem):
    estimator = estimator_class(solver="sgd", **SETTINGS)
    sizes, cv = [8, 32], KFold(3)
    curve = batch_size_curve(estimator, *problem, batch_sizes=sizes, cv=cv)
    train, test = validation_curve(estimator, *problem, param_name="batch_size", param_range=sizes, cv=cv)
    np.testing.assert_array_equal(curve.train_scores, train)
    np.testing.assert_array_equal(curve.test_scores, test)
    np.testing.assert_array_equal(curve.n_updates, [[2 * 160 / b] * 3 for b in sizes])
    np.testing.assert_array_equal(curve.epochs, 2)
    assert curve.fit_seconds.shape == (2, 3)
    assert (curve.fit_seconds > 0).all()
    assert curve.test_share == pytest.approx(0.5)


def test_a_pipeline_finds_its_parameter_and_its_effort(binary):
    pipeline = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(solver="sgd", **SETTINGS))
    before = pickle.dumps(pipeline)
    curve = batch_size_curve(pipeline, *binary, batch_sizes=[0.5, 0.25], cv=KFold(3), scoring="roc_auc")
    assert pickle.dumps(pipeline) == before
    assert curve.param_name == "minibatchsgdclassifier__batch_size"
    np.testing.assert_array_equal(curve.n_updates[:, 0], [4, 8])


def test_groups_and_parameters_of_fit(binary):
    estimator = MiniBatchSGDClassifier(**SETTINGS)
    groups, weights = np.arange(240) % 4, np.arange(240.0)
    found = batch_size_curve(
        estimator, *binary, batch_sizes=[8], groups=groups, cv=GroupKFold(4), params={"sample_weight": weights}
    )
    splits = list(GroupKFold(4).split(*binary, groups))
    alone = cross_validate(
        clone(estimator).set_params(batch_size=8), *binary, cv=splits, params={"sample_weight": weights}
    )
    np.testing.assert_array_equal(found.test_scores[0], alone["test_score"])


def test_the_parameter_is_found_or_named():
    assert batch_size_parameter(MLPClassifier()) == "batch_size"
    assert batch_size_parameter(TransformedTargetRegressor(MiniBatchSGDRegressor())) == "regressor__batch_size"
    with pytest.raises(ValueError, match=r"one parameter batch_size. Got SGDClassifier with none"):
        batch_size_parameter(SGDClassifier())
    with pytest.raises(ValueError, match=r"one parameter batch_size. Got Pipeline with none"):
        batch_size_parameter(make_pipeline(StandardScaler(), SGDClassifier()))


@pytest.mark.parametrize("sizes", [[], [[1, 2]], ["auto"], 3])
def test_sizes_that_are_none(sizes, binary):
    with pytest.raises(ValueError, match="batch_sizes"):
        batch_size_curve(MiniBatchSGDClassifier(), *binary, batch_sizes=sizes)


def test_effort_that_is_not_counted_is_not_a_number(binary):
    curve = batch_size_curve(MLPClassifier((2,), max_iter=200, tol=0.1), *binary, batch_sizes=[100], cv=2)
    assert np.isnan(curve.n_updates).all()
    assert (curve.epochs >= 1).all()


def curve_of(scores, share=0.25):
    scores = np.asarray(scores, float)
    none = np.full(scores.shape, np.nan)
    return BatchSizeCurve(2 ** np.arange(len(scores)), none, scores, none, none, none, "batch_size", share)


def test_what_cannot_be_told_from_the_best():
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal((4, 10))
    curve = curve_of(np.array([0.9, 0.9, 0.5, 0.9])[:, None] + noise)
    assert curve.as_good_as_best().tolist() == [True, True, False, True]
    assert curve.as_good_as_best()[curve._best]
    assert curve.best_batch_size == curve.batch_sizes[curve._best]
    apart = curve_of([[0.9, 0.8, 0.7], [0.899, 0.799, 0.699]])  # by the same in every split: no noise in the difference
    assert apart.as_good_as_best().tolist() == [True, False]
    assert curve_of([[0.9], [0.8]]).as_good_as_best().tolist() == [True, True]  # one split tells nothing
    with pytest.raises(ValueError, match="No batch size has a test score in every split"):
        _ = curve_of([[np.nan, 1.0]]).best_batch_size


def test_equal_sizes_are_told_apart_as_often_as_the_level_says():
    """Of scores without correlation between the splits, the correction of the variance is none: n_test is few rows."""
    rng = np.random.default_rng(0)
    told = [not curve_of(rng.standard_normal((2, 20)), 0.0).as_good_as_best(0.9).all() for _ in range(2000)]
    assert np.mean(told) == pytest.approx(0.1, abs=0.02)


# -- the range of rates


def range_test(estimator, problem, **settings):
    return learning_rate_range_test(estimator, *problem, random_state=0, **settings)


@pytest.fixture
def plain(estimator_class):
    return estimator_class(solver="sgd", batch_size=16, **{**SETTINGS, "random_state": 3})


def test_rates_grow_and_the_state_is_restored(plain, problem):
    plain.fit(*problem)
    before = pickle.dumps(plain)
    found = range_test(plain, problem, min_rate=1e-4, max_rate=100.0, n_updates=50)
    assert pickle.dumps(plain) == before
    assert len(found.rates) == len(found.losses) <= 50
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 100.0, 50)[: len(found.rates)])
    assert found.param_name == family_of(plain).rate
    assert found.batch_size == 16


def test_the_suggestion_was_run_and_is_the_best_of_the_runs(plain, problem):
    found = range_test(plain, problem, n_updates=40)
    assert found.suggestion in found.trial_rates
    assert set(found.trial_rates) <= set(np.geomspace(1e-5, 10.0, 40))
    best = np.argmin(found.trial_losses)
    assert found.suggestion == found.trial_rates[best]
    start = training_objective(clone(plain).set_params(**constant(plain, 1.0)), *problem)
    assert found.trial_losses[best] < start


def test_it_is_what_partial_fit_does(plain, problem):
    """The test by hand: the same batches, one call each, the rate set before each."""
    found = range_test(plain, problem, n_updates=12, max_rate=0.1)
    again = range_test(plain, problem, n_updates=12, max_rate=0.1)
    np.testing.assert_array_equal(found.losses, again.losses)
    rows = np.random.RandomState(0)
    rows.randint(np.iinfo(np.int32).max)
    order = rows.permutation(240)[: 12 * 16].reshape(12, 16)
    one = clone(plain).set_params(learning_rate="constant")
    one.set_params(random_state=np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    labels = {"classes": np.unique(problem.y)} if hasattr(plain, "predict_proba") else {}
    for rate, batch, loss in zip(found.rates, order, found.losses, strict=True):
        one.set_params(**{found.param_name: rate})
        one.partial_fit(problem.X[batch], problem.y[batch], **labels)
        assert training_objective(one, *problem) == pytest.approx(loss, rel=1e-12)


def test_the_test_ends_where_training_diverges(regression):
    found = range_test(MiniBatchSGDRegressor(solver="sgd", device="base"), regression, max_rate=1e6, n_updates=60)
    assert len(found.rates) < 60
    assert found.suggestion < 1.0
    model = MiniBatchSGDRegressor(solver="sgd", learning_rate="constant", eta0=found.suggestion, random_state=0)
    assert model.fit(*regression).score(*regression) > 0.9


@pytest.mark.parametrize("solver", ["auto", "momentum", "adam", "adagrad", "schedule_free"])
def test_solvers_with_a_rate(solver, binary):
    found = range_test(MiniBatchSGDClassifier(solver=solver, device="base"), binary, n_updates=40)
    assert found.trial_losses.min() < np.log(2)


def test_networks_pipelines_sparse_rows_and_weights(binary):
    network = make_pipeline(
        StandardScaler(), MiniBatchMLPClassifier(hidden_layer_sizes=(4,), device="base", random_state=0)
    )
    assert range_test(network, binary, n_updates=30).param_name == "learning_rate_init"
    rows = sparse.csr_matrix(binary.X), binary.y
    weights = np.repeat([0.0, 2.0], 120)
    estimator = MiniBatchSGDClassifier(solver="sgd", device="base", batch_size=32)
    weighted = range_test(estimator, rows, sample_weight=weights, n_updates=20)
    half = range_test(estimator, (rows[0][120:], rows[1][120:]), n_updates=20)
    np.testing.assert_allclose(weighted.losses, half.losses)


@pytest.mark.parametrize(("batch_size", "expected"), [(0.25, 60), ("full", 240), ("geometric", 64), (1000, 240)])
def test_batch_sizes_of_every_kind(batch_size, expected, binary):
    estimator = MiniBatchSGDClassifier(solver="sgd", batch_size=batch_size, device="base")
    assert range_test(estimator, binary, n_updates=5, min_rate=0.01).batch_size == expected
    automatic = range_test(clone(estimator).set_params(batch_size="auto"), binary, n_updates=5, min_rate=0.01)
    assert 1 <= automatic.batch_size <= 240


def test_what_is_refused(binary):
    estimator = MiniBatchSGDClassifier(device="base")
    with pytest.raises(ValueError, match=r"max_rate must be larger than min_rate=1.0. Got 0.1"):
        range_test(estimator, binary, min_rate=1.0, max_rate=0.1)
    with pytest.raises(ValueError, match="No rate from min_rate"):
        range_test(estimator.set_params(solver="sgd"), binary, min_rate=1e7, max_rate=1e8)
    with pytest.raises(ValueError, match="The 'n_updates' parameter of learning_rate_range_test must be an int"):
        range_test(estimator, binary, n_updates=1)
    with pytest.raises(ValueError, match="sdca"):
        range_test(MiniBatchSGDClassifier(solver="sdca"), binary)
