"""Tests of the traps that users of the peers fell into (T1 to T18), on every estimator or where they were found.

What T2, T8, T10 and T12 mean for a network alone stands in test_networks.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import datasets
from sklearn.base import is_classifier
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.kinds import declaration
from skminibatch.optimizers import OPTIMIZERS
from skminibatch.statistics.visits import LONGER
from skminibatch.training.chunks import epoch_sizes
from tests.families import LINEAR, classifiers, constant, family_of, learnt, linear_models, regressors

QUICK = {"device": "base", "random_state": 0}


def classes_of(estimator, y):
    """What the first call of `partial_fit` needs beside X and y."""
    return {"classes": np.unique(y)} if is_classifier(estimator) else {}


# -- objective and penalty


@pytest.mark.parametrize("alpha", [0.02, 0.1])
def test_t1_stopping_looks_at_the_full_objective(alpha):
    """T1: the data loss stands still from the start, the objective falls: training goes on."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal(200), np.zeros(200)])
    y = X[:, 0] + 0.01 * rng.standard_normal(200)
    regressor = MiniBatchSGDRegressor(
        alpha=alpha, solver="sgd", learning_rate="constant", eta0=0.05, tol=1e-4, batch_size=20, **QUICK
    )
    regressor.fit(X, y, coef_init=[1.0, 50.0])
    assert regressor.n_iter_ > 50
    assert abs(regressor.coef_[1]) < 5
    assert abs(regressor.history_["loss"][-1] - regressor.history_["loss"][10]) < 0.01 * regressor.loss_curve_[0]


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
def test_t2_the_penalty_does_not_depend_on_the_batch_size(penalty, regression):
    """T2: at alpha=1, batches of 1, 8, 64 rows and of all rows find the same coefficients."""
    norms = []
    for batch_size in (1, 8, 64, "full"):
        regressor = MiniBatchSGDRegressor(
            alpha=1.0,
            penalty=penalty,
            l1_ratio=0.5,
            batch_size=batch_size,
            max_iter=400 if batch_size == 64 else 40,  # fewer steps in an epoch
            tol=None,
            random_state=0,
        )
        if batch_size == "full":
            regressor.set_params(max_iter=1000)
        norms.append(np.linalg.norm(regressor.fit(*regression).coef_))
    np.testing.assert_allclose(norms, norms[-1], rtol=0.03)
    unpenalised = np.linalg.norm(LinearRegression().fit(*regression).coef_)
    assert norms[-1] < 0.75 * unpenalised


@pytest.mark.parametrize("n_rows", [63, 64, 65, 10_000])
@pytest.mark.parametrize("batch_size", [64, 1000])
def test_t3_partial_fit_takes_one_step_a_batch(n_rows, batch_size, estimator_class):
    """T3: n rows are ceil(n / batch_size) updates, not one."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 3))
    y = np.arange(n_rows) % 2
    estimator = estimator_class(batch_size=batch_size)
    estimator.partial_fit(X, y, **({"classes": [0, 1]} if is_classifier(estimator) else {}))
    assert estimator.n_updates_ == -(-n_rows // batch_size)
    assert estimator.t_ == n_rows
    estimator.partial_fit(X[:1], y[:1])
    assert estimator.n_updates_ == -(-n_rows // batch_size) + 1


@pytest.mark.slow
@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@linear_models
def test_t4_no_path_ignores_a_penalty(solver, storage, method, estimator_class, problem):
    """T4: l2 and l1, for each solver, dense and sparse, `fit` and `partial_fit`."""
    X, y = problem
    X = sparse.csr_matrix(X) if storage == "sparse" else X
    declares = declaration(OPTIMIZERS[solver])
    if declares["per_row"] and (method == "partial_fit" or (storage == "sparse" and not declares["dual"])):
        messages = "not supported by partial_fit|does not support an l1 penalty on sparse data"
        with pytest.raises(ValueError, match=messages):
            getattr(estimator_class(penalty="l1", solver=solver, **QUICK), method)(
                X, y, **(classes_of(estimator_class(), y) if method == "partial_fit" else {})
            )
        return
    coefs, n_epochs = {}, 8 if declares["dual"] else 30  # those of dual coordinate ascent bring more, and take longer
    for penalty in ("l2", "l1", None):
        estimator = estimator_class(penalty=penalty, alpha=0.3, solver=solver, max_iter=n_epochs, tol=None, **QUICK)
        if declares["dual"] and penalty is None:  # without a penalty it has no objective
            estimator.set_params(penalty="l2", alpha=1e-6)
        if declares["auto_rate"] is not None:
            estimator.set_params(learning_rate="constant", eta0=0.05)
        for _ in range(1 if method == "fit" else 30):
            getattr(estimator, method)(X, y, **(classes_of(estimator, y) if method == "partial_fit" else {}))
        coefs[penalty] = np.ravel(estimator.coef_)
    assert np.linalg.norm(coefs["l2"]) < 0.95 * np.linalg.norm(coefs[None])
    assert np.sum(np.abs(coefs["l1"])) < 0.9 * np.sum(np.abs(coefs[None]))
    assert np.sum(coefs["l1"] == 0) > 0
    assert np.sum(coefs[None] == 0) == np.sum(coefs["l2"] == 0) == 0


@pytest.mark.usefixtures("sparse_rows_stay_sparse")
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_t4_no_kernel_ignores_a_penalty(storage, regression):
    """T4: the compiled path of the default solver; the one of array code is among those above."""
    X, y = regression
    X = sparse.csr_matrix(X) if storage == "sparse" else X
    # the last coefficient is zero when the falling rate is low enough to tell it from noise
    settings = {"max_iter": 20 if storage == "dense" else 100, "tol": None, "device": "cpu", "random_state": 0}
    free = MiniBatchSGDRegressor(penalty=None, **settings).fit(X, y).coef_
    shrunk = MiniBatchSGDRegressor(penalty="l2", alpha=1.0, **settings).fit(X, y).coef_
    selected = MiniBatchSGDRegressor(penalty="l1", alpha=0.2, **settings).fit(X, y).coef_
    assert np.linalg.norm(shrunk) < 0.7 * np.linalg.norm(free)
    np.testing.assert_array_equal(np.flatnonzero(selected), [0, 1, 2])


# -- weights


def test_t5_rows_of_weight_zero_are_left_out(estimator_class, problem):
    """T5: as if they were not there, however many there are in a batch."""
    X, y = problem
    weights = np.zeros(240)
    weights[:100] = 1.0
    estimator = estimator_class(batch_size=4, max_iter=5, tol=None, **QUICK)
    before = learnt(estimator.fit(X, y, sample_weight=weights))
    assert estimator.t_ == 500
    np.testing.assert_allclose(before, learnt(estimator.fit(X[:100], y[:100])), rtol=1e-12)


def test_t5_weights_are_relative_to_all_rows(regression):
    """T5: not to their batch: in sequential batches of one weight each, the heavy ones decide."""
    X, y = np.zeros((64, 1)), np.repeat([0.0, 1.0], 32)
    weights = np.repeat([1.0, 9.0], 32)
    regressor = MiniBatchSGDRegressor(batch_size=32, shuffle=False, max_iter=400, tol=None, **QUICK)
    regressor.set_params(solver="sgd", learning_rate="invscaling", eta0=1.0, power_t=0.5)
    np.testing.assert_allclose(regressor.fit(X, y, sample_weight=weights).intercept_, 0.9, atol=0.02)
    # only their proportions matter in fit
    again = regressor.intercept_.copy()
    np.testing.assert_allclose(regressor.fit(X, y, sample_weight=1000 * weights).intercept_, again)
    # partial_fit takes weights as they are: twice the weight, twice the step
    steps = []
    for factor in (1.0, 2.0):
        regressor = MiniBatchSGDRegressor(solver="sgd", learning_rate="constant", eta0=0.01, penalty=None, **QUICK)
        steps.append(regressor.partial_fit(X, y, sample_weight=np.full(64, factor)).intercept_)
    np.testing.assert_allclose(steps[1], 2 * steps[0])


def test_t6_a_chunk_of_weight_zero_changes_nothing(estimator_class, problem):
    """T6: `partial_fit` ignores it, `fit` refuses it."""
    X, y = problem
    estimator = estimator_class(**QUICK).partial_fit(X, y, **classes_of(estimator_class(), y))
    before = [learnt(estimator), estimator.t_, estimator.n_updates_]
    estimator.partial_fit(X, y, sample_weight=np.zeros(240))
    for now, was in zip([learnt(estimator), estimator.t_, estimator.n_updates_], before, strict=True):
        np.testing.assert_array_equal(now, was)
    again = estimator_class(**QUICK).partial_fit(X, y, **classes_of(estimator_class(), y)).partial_fit(X, y)
    np.testing.assert_array_equal(learnt(estimator.partial_fit(X, y)), learnt(again))
    with pytest.raises(ValueError, match="all rows have weight zero"):
        estimator.fit(X, y, sample_weight=np.zeros(240))


# -- the intercept


@pytest.mark.parametrize("solver", ["schedule_free", "sgd", "adam"])
def test_t7_the_intercept_is_trained_and_not_penalised(solver):
    """T7: shifted, imbalanced classes, as LogisticRegression has them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3)) + np.array([3.0, -2.0, 0.0])
    y = rng.random(2000) < 1 / (1 + np.exp(-(X @ [1.0, 0.5, -0.5] - 5.0)))
    assert 0.03 < y.mean() < 0.2
    alpha = 0.01
    expected = LogisticRegression(C=1 / (alpha * 2000), tol=1e-8).fit(X, y)
    classifier = MiniBatchSGDClassifier(alpha=alpha, solver=solver, max_iter=60, tol=None, random_state=0).fit(X, y)
    np.testing.assert_allclose(classifier.coef_, expected.coef_, atol=0.06)
    np.testing.assert_allclose(classifier.intercept_, expected.intercept_, atol=0.2)
    np.testing.assert_allclose(classifier.predict_proba(X).mean(axis=0)[1], y.mean(), atol=0.01)


def test_t7_a_large_offset_is_found(regression):
    """T7: a strong penalty leaves the mean of the predictions where the mean of y is."""
    X, y = regression
    regressor = MiniBatchSGDRegressor(alpha=10.0, max_iter=50, tol=None, **QUICK).fit(X, y + 1000.0)
    np.testing.assert_allclose(regressor.predict(X).mean(), np.mean(y) + 1000.0, atol=0.3)
    assert MiniBatchSGDRegressor(fit_intercept=False, **QUICK).fit(X, y).intercept_ == 0


# -- batches


@pytest.mark.parametrize("n_rows", [2, 3, 30, 31, 32])
@pytest.mark.parametrize("batch_size", [1, 2, 10, 16, 100])
def test_t8_there_is_no_tail_batch(n_rows, batch_size, estimator_class):
    """T8: n % batch_size in {0, 1, 2} and n < batch_size: every row is used, sizes differ by at most one.

    Single rows may come several times, where they are much longer than the others.
    """
    rng = np.random.default_rng(0)
    solver = {"solver": "schedule_free"} if family_of(estimator_class) is LINEAR else {}  # each epoch has its batches
    estimator = estimator_class(batch_size=batch_size, max_iter=3, tol=None, **solver, **QUICK)
    estimator.fit(rng.standard_normal((n_rows, 2)), np.arange(n_rows) % 2)
    sizes = epoch_sizes(n_rows, np.full(n_rows, batch_size))
    assert sizes.max() - sizes.min() <= 1
    if batch_size == 1:
        assert estimator.t_ == 3 * n_rows <= estimator.n_updates_ <= 3 * n_rows * (1 + LONGER)
        return
    assert estimator.t_ == 3 * sizes.sum() == 3 * n_rows
    assert estimator.n_updates_ == 3 * sizes.size == 3 * -(-n_rows // batch_size)
    assert estimator.history_["batch_size"][0] == sizes.mean()
    assert np.isfinite(learnt(estimator)).all()


def test_t8_one_row():
    """T8: n = 1."""
    regressor = MiniBatchSGDRegressor(**QUICK).fit([[1.0, 2.0]], [3.0])
    np.testing.assert_allclose(regressor.predict([[1.0, 2.0]]), 3.0, atol=0.1)
    classifier = MiniBatchSGDClassifier(**QUICK).partial_fit([[1.0, 2.0]], [1], classes=[0, 1])
    assert classifier.predict([[1.0, 2.0]]) == 1


def test_t9_batches_larger_than_a_fold_are_silent(estimator_class, problem):
    """T9: all of the data then; `batch_size_` says how much that is."""
    soon = {**family_of(estimator_class).soon, "tol": 1e-3}
    estimator = estimator_class(batch_size=10_000, max_iter=1000, **soon, **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_val_score(estimator, *problem, cv=4, error_score="raise")
    assert estimator.fit(*problem).batch_size_ == 240


def test_t10_validation_changes_nothing_of_training(estimator_class, problem):
    """T10: scores of a validation set touch neither parameters nor random numbers."""
    X, y = problem
    settings = {"max_iter": 5, "tol": None, "batch_size": 16, **QUICK}
    plain = estimator_class(**settings).fit(X, y)
    scored = estimator_class(**settings).fit(X, y, X_val=X[:50], y_val=y[:50])
    np.testing.assert_array_equal(learnt(scored), learnt(plain))
    assert scored.validation_scores_.shape == (5,)
    np.testing.assert_allclose(scored.validation_scores_[-1], scored.score(X[:50], y[:50]))


def test_t11_counters(estimator_class, problem):
    """T11: `t_` counts samples, `n_updates_` steps, `n_iter_` epochs of the last call."""
    X, y = problem
    solver = {"solver": "schedule_free"} if family_of(estimator_class) is LINEAR else {}
    settings = {"batch_size": 100, "max_iter": 4, "tol": None, "warm_start": True, **solver, **QUICK}
    estimator = estimator_class(**settings).fit(X, y)
    assert (estimator.n_iter_, estimator.t_, estimator.n_updates_) == (4, 4 * 240, 4 * 3)
    estimator.set_params(max_iter=3).fit(X, y)
    assert (estimator.n_iter_, estimator.t_, estimator.n_updates_) == (3, 3 * 240, 3 * 3)
    assert len(estimator.loss_curve_) == 3
    estimator.partial_fit(X[:50], y[:50])
    assert (estimator.n_iter_, estimator.t_, estimator.n_updates_) == (1, 3 * 240 + 50, 3 * 3 + 1)


def test_t11_patience_starts_anew(estimator_class, problem):
    """T11: epochs without improvement of the last fit do not count in the next one."""
    X, y = problem
    # a solver that does not know its distance from the optimum
    settings = {"solver": "sgd"} if family_of(estimator_class) is LINEAR else {}
    estimator = estimator_class(max_iter=200, tol=0.5, n_iter_no_change=3, warm_start=True, **settings, **QUICK).fit(
        X, y
    )
    assert estimator.n_iter_ < 200
    estimator.fit(X, y)
    assert estimator.n_iter_ >= 3


# -- early stopping


def stopping(estimator_class, **parameters):
    soon = family_of(estimator_class).soon
    return estimator_class(early_stopping=True, max_iter=200, **{**QUICK, **soon, **parameters})


@classifiers
def test_t12_a_score_that_is_nan_is_an_error_that_names_it(estimator_class, binary):
    """T12: not "Input contains NaN" from somewhere."""
    with pytest.raises(ValueError, match=r"scoring=.* gave nan on the validation set"):
        stopping(estimator_class, scoring=lambda estimator, X, y: np.nan).fit(*binary)


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [3, 7], [-1.0, 2.0]], ids=str)
@classifiers
def test_t12_labels_of_any_type_stop_early(estimator_class, labels, binary):
    """T12: string labels."""
    X, y = binary
    classifier = stopping(estimator_class).fit(X, np.array(labels)[y])
    assert classifier.score(X, np.array(labels)[y]) > 0.7
    assert "validation score" in classifier.stop_reason_


@regressors
def test_t12_one_row_of_validation(estimator_class):
    """T12: of five."""
    rng = np.random.default_rng(0)
    regressor = estimator_class(early_stopping=True, scoring="neg_mean_squared_error", tol=0.1, **QUICK)
    regressor.fit(rng.standard_normal((5, 2)), rng.standard_normal(5))
    assert regressor.validation_scores_.size == regressor.n_iter_


@classifiers
def test_t12_a_split_that_lacks_a_class_is_an_error_in_words(estimator_class, binary):
    """T12: too few rows of a class to hold some out."""
    with pytest.raises(ValueError, match="The least populated classes in y have only 1 member"):
        stopping(estimator_class).fit(binary.X[:20], np.arange(20) == 3)


@regressors
def test_t12_too_few_rows_to_hold_some_out(estimator_class):
    """T12: likewise."""
    regressor = estimator_class(early_stopping=True, validation_fraction=0.9, **QUICK)
    with pytest.raises(ValueError, match=r"led to an empty set \(0 and 1 samples\).*disable early_stopping"):
        regressor.fit([[1.0]], [1.0])


@classifiers
def test_t12_zero_weights_of_bagging(estimator_class, binary):
    """T12: rows that were not drawn have weight zero."""
    X, y = binary
    bagging = BaggingClassifier(stopping(estimator_class), n_estimators=3, random_state=0).fit(X, y)
    assert bagging.score(X, y) > 0.7


# -- partial_fit


@classifiers
def test_t13_a_chunk_may_lack_classes(estimator_class, several):
    """T13: all classes are named in the first call."""
    X, y = several
    classifier = estimator_class(batch_size=8, **QUICK, **family_of(estimator_class).soon)
    for _ in range(5):
        for label in (2, 0, 1):
            classifier.partial_fit(X[y == label], y[y == label], classes=[0, 1, 2])
    assert classifier.decision_function(X).shape == (240, 3)
    assert classifier.score(X, y) > 0.5


def test_t13_partial_fit_shuffles(estimator_class, problem):
    """T13: `shuffle` is not ignored."""
    X, y = problem
    arguments = classes_of(estimator_class(), y)
    settings = {"batch_size": 8, "device": "base"}
    coefs = [
        learnt(estimator_class(shuffle=shuffle, random_state=seed, **settings).partial_fit(X, y, **arguments))
        for shuffle, seed in [(True, 0), (True, 1), (False, 0)]
    ]
    assert not np.array_equal(coefs[0], coefs[1])
    assert not np.array_equal(coefs[0], coefs[2])
    # another order in each call
    first = estimator_class(random_state=0, **settings).partial_fit(X, y, **arguments)
    assert first._fitted.state.epoch == 1


def test_t13_a_changed_number_of_features_is_an_error(estimator_class, problem):
    """T13: in the words of scikit-learn."""
    X, y = problem
    estimator = estimator_class(**QUICK).partial_fit(X, y, **classes_of(estimator_class(), y))
    with pytest.raises(ValueError, match=r"X has 4 features, but .* is expecting 5 features as input"):
        estimator.partial_fit(X[:, :4], y)


@classifiers
def test_t13_an_unseen_label_is_named(estimator_class, binary):
    """T13: with its row."""
    X, y = binary
    classifier = estimator_class(**QUICK).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"label.*7.*row 2"):
        classifier.partial_fit(X[:3], [0, 1, 7])
    with pytest.raises(ValueError, match="not the same as on last call to partial_fit"):
        classifier.partial_fit(X, y, classes=[0, 1, 2])


@pytest.mark.parametrize("labels", [["a", "b", "c"], [10, 20, 30], [0.0, 1.0, 5.0]], ids=str)
@classifiers
def test_t13_labels_of_any_type(estimator_class, labels, several):
    """T13: strings and numbers, given in any order; booleans below."""
    X, y = several
    labels = np.array(labels)
    classifier = estimator_class(**QUICK, **family_of(estimator_class).soon)
    for _ in range(10):
        classifier.partial_fit(X, labels[y], classes=labels[::-1])
    np.testing.assert_array_equal(classifier.classes_, labels)
    assert classifier.score(X, labels[y]) > 0.6


@classifiers
def test_t13_boolean_labels_and_multilabel(estimator_class, binary, several):
    """T13: two labels as booleans, several at once as a matrix."""
    X, y = binary
    classifier = estimator_class(**QUICK, **family_of(estimator_class).soon).partial_fit(
        X, y == 1, classes=[False, True]
    )
    assert classifier.predict(X).dtype == bool
    X, y = several
    Y = np.eye(3, dtype=int)[y]
    classifier = estimator_class(**QUICK, **family_of(estimator_class).soon)
    for _ in range(10):
        classifier.partial_fit(X, Y, classes=[0, 1, 2])
    assert classifier.predict(X).shape == (240, 3)
    assert np.mean(classifier.predict(X) == Y) > 0.7


def test_t14_what_scikit_learn_orders_differently_is_keyword_only(estimator_class, problem):
    """T14: a weight in the place of `classes` or of `coef_init` cannot happen."""
    X, y = problem
    estimator = estimator_class(**QUICK)
    with pytest.raises(TypeError, match="positional"):
        estimator.fit(X, y, np.ones(240))
    with pytest.raises(TypeError, match="positional"):
        estimator.partial_fit(X, y, *([np.unique(y)] if is_classifier(estimator) else []), np.ones(240))
    with pytest.raises(TypeError, match="positional"):
        estimator_class("hinge")


# -- probabilities


def test_t15_no_positive_score_gives_uniform_probabilities(several):
    """T15: not NaN, where every one-vs-rest score is clipped to zero."""
    X, y = several
    classifier = MiniBatchSGDClassifier(loss="modified_huber", **QUICK).fit(X, y)
    classifier.intercept_ = np.full(3, -100.0)
    np.testing.assert_allclose(classifier.predict_proba(X[:4]), 1 / 3)
    np.testing.assert_allclose(classifier.predict_log_proba(X[:4]), np.log(1 / 3))


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "perceptron"])
@classifiers
def test_t15_losses_without_probabilities_have_no_method(estimator_class, loss, binary):
    """T15: `available_if`, before and after `fit`."""
    classifier = estimator_class(loss=loss, max_iter=5, tol=None, **QUICK)
    for candidate in (classifier, classifier.fit(*binary)):
        assert not hasattr(candidate, "predict_proba")
        assert not hasattr(candidate, "predict_log_proba")
    with pytest.raises(AttributeError, match="has no attribute 'predict_proba'"):
        classifier.predict_proba(binary.X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3])
@classifiers
def test_t15_probabilities_of_huge_scores(estimator_class, dtype, n_classes, several):
    """T15: nothing overflows, in float32 either; rows sum to one and logarithms stay finite."""
    X, y = several
    classifier = estimator_class(max_iter=10, tol=None, **QUICK, **family_of(estimator_class).soon).fit(
        X.astype(dtype), y % n_classes
    )
    with np.errstate(over="raise", invalid="raise"):
        huge = (X[:20] * 1e4).astype(dtype)
        probabilities, logarithms = classifier.predict_proba(huge), classifier.predict_log_proba(huge)
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(logarithms).all()
    assert logarithms.min() < -500


# -- input


def test_t16_input_is_never_written(estimator_class, problem):
    """T16: neither data nor targets nor weights nor starting values, in any layout."""
    X, y = problem
    settings = {"standardize": True} if family_of(estimator_class) is LINEAR else {"normalization": "layer"}
    estimator = estimator_class(max_iter=3, tol=None, batch_size=16, **settings, **QUICK)
    shape = (1, 5) if is_classifier(estimator) else (5,)
    start = {"coef_init": np.ones(shape), "intercept_init": np.ones(1)} if "standardize" in settings else {}
    for given in (
        np.array(X),
        np.asfortranarray(X),
        X.astype(np.float32),
        sparse.csr_matrix(X),
        sparse.csc_matrix(X),
    ):
        arrays = {
            "sample_weight": np.random.default_rng(0).uniform(0, 2, 240),
            **{name: np.array(array) for name, array in start.items()},
            "X_val": np.array(X[:30]),
            "y_val": np.array(y[:30]),
        }
        target, before = np.array(y), {name: array.copy() for name, array in arrays.items()}
        copy = given.copy()
        estimator.fit(given, target, **arrays)
        estimator.partial_fit(given, target, sample_weight=arrays["sample_weight"])
        estimator.predict(given)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, before[name])
        np.testing.assert_array_equal(target, y)
        if sparse.issparse(given):
            for name in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(given, name), getattr(copy, name))
        else:
            np.testing.assert_array_equal(given, copy)


@pytest.mark.usefixtures("sparse_rows_stay_sparse")
def test_t16_sparse_input_keeps_its_unsorted_and_duplicate_entries(estimator_class):
    """T16: entries are put in order in a copy."""
    X = sparse.csr_matrix(
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 0, 0, 1, 1, 2], [0, 2, 2, 5, 6]), shape=(4, 3)
    )  # row 0 is unsorted, row 1 is empty, row 2 has a feature twice
    arrays = [array.copy() for array in (X.data, X.indices, X.indptr)]
    estimator = estimator_class(max_iter=2, tol=None, **QUICK).fit(X, [0, 1, 0, 1])
    for array, before in zip((X.data, X.indices, X.indptr), arrays, strict=True):
        np.testing.assert_array_equal(array, before)
    settings = {"solver": "sgd", **constant(estimator_class, 0.01)}
    dense = estimator_class(max_iter=2, tol=None, **settings, **QUICK).fit(X.toarray(), [0, 1, 0, 1])
    again = estimator.set_params(**settings).fit(X, [0, 1, 0, 1])
    np.testing.assert_allclose(learnt(again), learnt(dense), rtol=1e-12, atol=1e-14)


@regressors
def test_t17_a_column_of_targets(estimator_class, regression):
    """T17: (n, 1) keeps its shape in regression."""
    X, y = regression
    column, row = (estimator_class(**QUICK, tol=0.1).fit(X, target) for target in (y[:, None], y))
    assert column.predict(X).shape == (240, 1)
    np.testing.assert_array_equal(column.predict(X)[:, 0], row.predict(X))


@classifiers
def test_t17_a_column_of_labels(estimator_class, binary):
    """T17: (n, 1) is taken for (n,), with a warning."""
    X, y = binary
    with pytest.warns(UserWarning, match="A column-vector y was passed when a 1d array was expected"):
        column = estimator_class(**QUICK, tol=0.1).fit(X, y[:, None])
    np.testing.assert_array_equal(learnt(column), learnt(estimator_class(**QUICK, tol=0.1).fit(X, y)))


@pytest.mark.parametrize(
    ("load", "least"),
    [
        (datasets.load_iris, 0.94),
        (datasets.load_wine, 0.95),
        (datasets.load_breast_cancer, 0.95),
        (datasets.load_digits, 0.95),
        (lambda **_: datasets.make_blobs(300, 4, centers=5, random_state=0), 0.8),
    ],
    ids=["iris", "wine", "breast cancer", "digits", "blobs"],
)
def test_t18_default_parameters_classify(load, least):
    """T18: no arguments, unscaled features. The digits can all be told apart: their loss goes on falling for long."""
    X, y = load(return_X_y=True)
    with warnings.catch_warnings():
        if load is datasets.load_digits:
            warnings.simplefilter("ignore", ConvergenceWarning)
        assert MiniBatchSGDClassifier().fit(X, y).score(X, y) > least


@pytest.mark.parametrize(
    "load",
    [
        datasets.load_diabetes,
        lambda **_: datasets.load_linnerud(return_X_y=True),
        lambda **_: datasets.make_regression(300, 20, noise=5.0, random_state=0),
        lambda **_: datasets.make_friedman1(300, random_state=0),
    ],
    ids=["diabetes", "linnerud", "regression", "friedman"],
)
def test_t18_default_parameters_regress(load):
    """T18: no arguments, unscaled features: close to least squares."""
    X, y = load(return_X_y=True)
    best = LinearRegression().fit(X, y).score(X, y)
    assert MiniBatchSGDRegressor().fit(X, y).score(X, y) > best - 0.05


def test_t18_sparse_features_in_any_units():
    """T18: counts and shares in one sparse matrix reach what the same features in equal units reach, fit and stream."""
    rng = np.random.default_rng(0)
    X = sparse.random(4000, 30, density=0.2, random_state=0, format="csr")
    X.data = rng.standard_normal(X.nnz) + 0.5
    y = (X @ rng.standard_normal(30) + 0.5 * rng.logistic(size=4000) > 0).astype(int)
    units = (X @ sparse.diags(10.0 ** rng.uniform(-1, 3, 30))).tocsr()
    equal = MiniBatchSGDClassifier(alpha=0.0, random_state=0).fit(X, y).score(X, y)
    assert MiniBatchSGDClassifier(alpha=0.0, random_state=0).fit(units, y).score(units, y) > equal - 0.01
    streamed = MiniBatchSGDClassifier(alpha=0.0, random_state=0)
    for rows in np.array_split(np.arange(4000), 8):
        streamed.partial_fit(units[rows], y[rows], classes=[0, 1])
    assert streamed.score(units, y) > equal - 0.06  # without scales: equal - 0.18


@pytest.mark.slow
@pytest.mark.parametrize(("chunk", "per_day"), [(1, 20), (7, 70)])
def test_t18_a_stream_in_order(chunk, per_day):
    """T18: rows that resemble their neighbours, as a file of flights by day: no blow-up."""
    rng = np.random.default_rng(0)
    centers = np.repeat(3 * rng.standard_normal((60, 20)), per_day, axis=0)
    X = centers + 0.3 * rng.standard_normal(centers.shape)
    drift = np.repeat(rng.standard_normal(60), per_day)
    y = X @ rng.standard_normal(20) + 20 * drift + rng.standard_normal(len(X))
    streamed = MiniBatchSGDRegressor(random_state=0)
    for start in range(0, len(X), chunk):
        streamed.partial_fit(X[start : start + chunk], y[start : start + chunk])
    # 24 times and more with gradients at nine tenths of the way
    assert np.mean((y - streamed.predict(X)) ** 2) < 5 * np.var(y)
