"""The estimators among scikit-learn's: pipelines, routing, searches, ensembles, data frames, and models of theirs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.losses import LOSSES
from skminibatch.optimizers import Momentum, ScheduleFree
from tests.families import classifiers, family_of, learnt, linear_models

pytestmark = pytest.mark.slow

QUICK = {"device": "base", "random_state": 0, "max_iter": 20, "tol": None, "batch_size": 16}
FEW_EPOCHS = {**QUICK, "max_iter": 3}
REGRESSION = [name for name, loss in LOSSES.items() if loss.task == "regression"]
CLASSIFICATION = [name for name, loss in LOSSES.items() if getattr(loss, "link", None) != "log"]


# -- pipelines and routing


def test_sample_weight_is_routed_through_a_pipeline(estimator_class, problem):
    X, y = problem
    weights = np.random.default_rng(0).uniform(0.0, 2.0, 240)
    expected = estimator_class(**QUICK).fit(StandardScaler().fit_transform(X), y, sample_weight=weights)
    with config_context(enable_metadata_routing=True):
        estimator = estimator_class(**QUICK).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), estimator)
        pipeline.fit(X, y, sample_weight=weights)
        refused = make_pipeline(StandardScaler(), estimator_class(**QUICK))
        with pytest.raises(ValueError, match="sample_weight"):
            refused.fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(learnt(pipeline[-1]), learnt(expected))


def test_a_validation_set_is_transformed_by_the_pipeline(estimator_class, problem):
    """With `transform_input`; without routing, scikit-learn passes it on as it is."""
    X, y = problem
    X, X_val, y_val = np.array(X) * 100 + 7, np.array(X[:60]) * 100 + 7, y[:60]
    with config_context(enable_metadata_routing=True):
        estimator = estimator_class(**QUICK).set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), estimator, transform_input=["X_val"])
        pipeline.fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_allclose(pipeline[-1].validation_scores_[-1], pipeline.score(X_val, y_val))
    name = estimator_class.__name__.lower()
    plain = make_pipeline(StandardScaler(), estimator_class(**QUICK))
    plain.fit(X, y, **{f"{name}__X_val": X_val, f"{name}__y_val": y_val})
    assert plain[-1].validation_scores_[-1] != pipeline[-1].validation_scores_[-1]


@classifiers
def test_weights_are_routed_to_a_search(estimator_class, binary):
    X, y = binary
    weights = np.random.default_rng(0).uniform(0.0, 2.0, 240)
    with config_context(enable_metadata_routing=True):
        classifier = (
            estimator_class(**QUICK, **family_of(estimator_class).soon)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        search = GridSearchCV(classifier, {"alpha": [1e-4, 1.0]}, cv=2, error_score="raise")
        search.fit(X, y, sample_weight=weights)
    assert search.best_params_ == {"alpha": 1e-4}
    assert search.best_score_ > 0.7


@classifiers
def test_a_search_over_parts(estimator_class, binary):
    """Instances stand in a list."""
    grid = {"solver": [Momentum(0.5), ScheduleFree(0.8), "adam"], "batch_size": [8, 0.5, "full"]}
    search = GridSearchCV(
        estimator_class(**QUICK, **family_of(estimator_class).soon), grid, cv=2, error_score="raise"
    ).fit(*binary)
    assert search.best_score_ > 0.7
    assert {type(solver) for solver in search.cv_results_["param_solver"]} == {Momentum, ScheduleFree, str}


def test_set_output_in_a_pipeline(estimator_class, problem):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(problem.X, columns=list("abcde"))
    pipeline = (
        make_pipeline(StandardScaler(), estimator_class(**QUICK)).set_output(transform="pandas").fit(X, problem.y)
    )
    np.testing.assert_array_equal(pipeline[-1].feature_names_in_, list("abcde"))
    assert isinstance(pipeline.predict(X), np.ndarray)
    plain = make_pipeline(StandardScaler(), estimator_class(**QUICK)).fit(problem.X, problem.y)
    np.testing.assert_allclose(pipeline.predict(X), plain.predict(problem.X), rtol=1e-10)


def test_feature_names(estimator_class, problem):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(problem.X, columns=list("abcde"))
    estimator = estimator_class(**QUICK).fit(X, problem.y, X_val=X[:30], y_val=problem.y[:30])
    np.testing.assert_array_equal(estimator.feature_names_in_, list("abcde"))
    with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
        estimator.predict(X[list("abced")])
    with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
        estimator.partial_fit(X.rename(columns={"a": "z"}), problem.y)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        estimator.predict(problem.X)


@classifiers
def test_sparse_columns_of_a_transformer(estimator_class, binary):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"number": binary.X[:, 0], "letter": np.array(list("abcdef"))[np.arange(240) % 6]})
    transformer = make_column_transformer(
        (OneHotEncoder(), ["letter"]), (StandardScaler(), ["number"]), sparse_threshold=1
    )
    pipeline = make_pipeline(transformer, estimator_class(**QUICK)).fit(X, binary.y)
    assert sparse.issparse(pipeline[:-1].transform(X))
    assert pipeline.score(X, binary.y) > 0.7


def test_html_and_repr(estimator_class, problem):
    estimator = estimator_class(alpha=0.5, solver=Momentum(0.5))
    for shown in (estimator, estimator.set_params(**QUICK).fit(*problem)):
        html = shown._repr_html_()
        assert estimator_class.__name__ in html
        assert "alpha" in html
    assert repr(estimator_class(alpha=0.5)) == f"{estimator_class.__name__}(alpha=0.5)"
    assert "solver=Momentum(momentum=0.5)" in repr(estimator)
    with config_context(print_changed_only=False):
        assert "batch_size=" in repr(estimator_class())


def test_the_global_generator_is_left_alone(estimator_class, problem):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    estimator_class(**QUICK).fit(*problem)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# -- meta-estimators


def test_bagging(estimator_class, problem):
    bagging = (BaggingClassifier if is_classifier(estimator_class()) else BaggingRegressor)(
        estimator_class(**QUICK), n_estimators=4, random_state=0
    )
    assert bagging.fit(*problem).score(*problem) > 0.7


@pytest.mark.parametrize(("loss", "ensemble"), [("log_loss", True), ("hinge", False)])
@classifiers
def test_calibration(estimator_class, loss, ensemble, several):
    calibrated = CalibratedClassifierCV(
        estimator_class(loss=loss, **{**QUICK, "max_iter": 8}, **family_of(estimator_class).soon),
        cv=3,
        ensemble=ensemble,
    )
    probabilities = calibrated.fit(*several).predict_proba(several.X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert calibrated.score(*several) > 0.7


@classifiers
def test_halving_search(estimator_class, binary):
    search = HalvingGridSearchCV(
        estimator_class(**QUICK), {"batch_size": [4, 32, "full"]}, cv=2, random_state=0, error_score="raise"
    )
    assert search.fit(*binary).best_score_ > 0.6
    search = HalvingGridSearchCV(
        estimator_class(device="base", random_state=0, tol=None),
        {"batch_size": [4, 32, 100]},
        resource="max_iter",
        max_resources=9,
        min_resources=1,
        cv=2,
        random_state=0,
        error_score="raise",
    )
    assert search.fit(*binary).best_score_ > 0.6


def test_other_meta_estimators(binary, several, regression):
    assert OneVsRestClassifier(MiniBatchSGDClassifier(**QUICK)).fit(*several).score(*several) > 0.7
    voting = VotingClassifier([("a", MiniBatchSGDClassifier(**QUICK)), ("b", LogisticRegression())], voting="soft")
    assert voting.fit(*binary).score(*binary) > 0.7
    selected = SelectFromModel(MiniBatchSGDRegressor(penalty="l1", alpha=0.1, **QUICK)).fit_transform(*regression)
    assert selected.shape == (240, 3)
    target = TransformedTargetRegressor(MiniBatchSGDRegressor(**QUICK), transformer=StandardScaler())
    assert target.fit(*regression).score(*regression) > 0.9
    assert cross_val_predict(MiniBatchSGDClassifier(**QUICK), *several, method="predict_proba").shape == (240, 3)
    assert cross_val_score(MiniBatchSGDRegressor(**QUICK), *regression).min() > 0.9


# -- several outputs


@pytest.mark.parametrize("n_classes", [2, 3])
def test_coefficients_of_a_classifier(n_classes, several):
    classifier = MiniBatchSGDClassifier(**QUICK).fit(several.X, several.y % n_classes)
    n_outputs = 1 if n_classes == 2 else 3
    assert classifier.coef_.shape == (n_outputs, 5)
    assert classifier.intercept_.shape == (n_outputs,)


@pytest.mark.parametrize("loss", REGRESSION)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_several_outputs_are_fitted_as_each_of_them(loss, storage, counts):
    """One pass over the rows for all; with the same rates, the same numbers as one estimator an output."""
    X, y = counts
    X = sparse.csr_matrix(X) if storage == "sparse" else X
    Y = np.column_stack([y, y[::-1], np.arange(240) % 3])
    settings = {**FEW_EPOCHS, "loss": loss, "solver": "sgd", "learning_rate": "constant", "eta0": 0.01}
    together = MiniBatchSGDRegressor(**settings).fit(X, Y)
    assert together.coef_.shape == (3, 5)
    assert together.intercept_.shape == (3,)
    assert together.predict(X).shape == (240, 3)
    for k in range(3):
        alone = MiniBatchSGDRegressor(**settings).fit(X, Y[:, k])
        np.testing.assert_allclose(alone.coef_, together.coef_[k], rtol=1e-9)
        np.testing.assert_allclose(alone.predict(X), together.predict(X)[:, k], rtol=1e-9)
    assert np.isfinite(MiniBatchSGDRegressor(loss=loss, **FEW_EPOCHS).fit(X, Y).score(X, Y))


@classifiers
def test_multilabel(estimator_class, several):
    """Independent labels: probabilities of each; a label that never occurs is no error."""
    X, y = several
    Y = np.column_stack([y == 0, y > 0, X[:, 0] > 0, np.zeros(240)]).astype(int)
    classifier = estimator_class(**QUICK, **family_of(estimator_class).soon).fit(X, Y)
    np.testing.assert_array_equal(classifier.classes_, [0, 1, 2, 3])
    assert set(np.unique(classifier.predict(X))) <= {0, 1}
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (240, 4)
    np.testing.assert_array_equal(classifier.predict(X), probabilities > 0.5)
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), probabilities)
    assert accuracy_score(Y, classifier.predict(X)) > 0.6
    for k in range(3):
        alone = LogisticRegression(C=1 / (240 * 1e-4)).fit(X, Y[:, k])
        assert np.mean(alone.predict(X) == classifier.predict(X)[:, k]) > 0.8 + 0.15 * hasattr(classifier, "coef_")
    from_sparse = clone(classifier).fit(X, sparse.csr_matrix(Y))
    np.testing.assert_array_equal(learnt(from_sparse), learnt(classifier))


@classifiers
def test_multilabel_of_one_label(estimator_class, binary):
    X, y = binary
    Y = y[:, None]
    with pytest.warns(UserWarning, match="column-vector y"):
        classifier = estimator_class(**QUICK).fit(X, Y)
    assert classifier.predict(X).shape == (240,)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loss", CLASSIFICATION)
@classifiers
def test_shapes_of_a_classifier(loss, n_classes, estimator_class, several):
    X, y = several
    y = y % n_classes
    settings = {**QUICK, "max_iter": 8, **family_of(estimator_class).soon}
    classifier = estimator_class(loss=loss, **settings).fit(X, y)
    decision = classifier.decision_function(X)
    assert decision.shape == ((240,) if n_classes == 2 else (240, 3))
    chosen = (decision > 0).astype(int) if n_classes == 2 else decision.argmax(axis=1)
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[chosen])
    if hasattr(classifier, "predict_proba"):
        probabilities = classifier.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert np.mean(probabilities.argmax(axis=1) == classifier.predict(X)) > 0.99
    # where classes overlap, the perceptron loss is least at zero
    assert classifier.score(X, y) > (0.45 if loss == "perceptron" else 0.6)


# -- sparsify, and models of scikit-learn


@pytest.mark.parametrize("storage", ["dense", "sparse"])
@linear_models
def test_sparsify_and_densify(storage, estimator_class, problem):
    X, y = problem
    X = sparse.csr_matrix(X) if storage == "sparse" else X
    settings = {**QUICK, "device": "cpu", "penalty": "l1", "alpha": 0.1, "tol": None, "max_iter": 100}
    estimator = estimator_class(**settings).fit(X, y)
    coef, expected = estimator.coef_.copy(), estimator.predict(X)
    assert estimator.sparsify() is estimator
    assert sparse.issparse(estimator.coef_)
    assert estimator.coef_.nnz == np.count_nonzero(coef) < 5
    np.testing.assert_allclose(estimator.predict(X), expected)
    assert estimator.as_sklearn().predict(X).shape == (240,)
    estimator.partial_fit(X, y)
    assert isinstance(estimator.coef_, np.ndarray)
    np.testing.assert_array_equal(estimator_class(**settings).fit(X, y).sparsify().densify().coef_, coef)


@pytest.mark.parametrize("loss", REGRESSION)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_regressors_of_scikit_learn(loss, storage, counts):
    X, y = counts
    X = sparse.csr_matrix(X) if storage == "sparse" else X
    ours = MiniBatchSGDRegressor(loss=loss, **QUICK).fit(X, y)
    theirs = ours.as_sklearn()
    assert type(theirs).__module__.startswith("sklearn.")
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-12)
    back = MiniBatchSGDRegressor.from_sklearn(theirs, loss=loss, **QUICK)
    np.testing.assert_allclose(back.predict(X), ours.predict(X), rtol=1e-12)
    back.partial_fit(X, y)
    assert back.t_ == 240
    assert back.score(X, y) > ours.score(X, y) - 0.2


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_classifiers_of_scikit_learn(loss, n_classes, several):
    X, y = several
    labels = np.array(["one", "three", "two"])[y % n_classes]
    ours = MiniBatchSGDClassifier(loss=loss, **FEW_EPOCHS).fit(X, labels)
    theirs = ours.as_sklearn()
    assert type(theirs).__module__.startswith("sklearn.")
    np.testing.assert_array_equal(theirs.predict(X), ours.predict(X))
    np.testing.assert_allclose(theirs.decision_function(X), ours.decision_function(X), rtol=1e-12)
    assert hasattr(theirs, "predict_proba") == hasattr(ours, "predict_proba")
    if hasattr(ours, "predict_proba"):
        np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), rtol=1e-9, atol=1e-15)
    back = MiniBatchSGDClassifier.from_sklearn(theirs, loss=loss, **FEW_EPOCHS)
    np.testing.assert_array_equal(back.predict(X), ours.predict(X))
    np.testing.assert_allclose(back.decision_function(X), ours.decision_function(X), rtol=1e-12)
    back.partial_fit(X, labels)
    assert back.t_ == 240
    assert back.score(X, labels) > ours.score(X, labels) - 0.2


def test_several_outputs_as_scikit_learn(regression, several):
    X, y = regression
    ours = MiniBatchSGDRegressor(**QUICK).fit(X, np.column_stack([y, -y]))
    theirs = ours.as_sklearn()
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-12)
    np.testing.assert_allclose(MiniBatchSGDRegressor.from_sklearn(theirs).predict(X), ours.predict(X), rtol=1e-12)
    X, y = several
    labels = MiniBatchSGDClassifier(**QUICK).fit(X, np.eye(3, dtype=int)[y])
    with pytest.raises(ValueError, match="several independent labels"):
        labels.as_sklearn()
    counts = MiniBatchSGDRegressor(loss="poisson", **QUICK).fit(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="no Poisson regression of several outputs"):
        counts.as_sklearn()


@pytest.mark.parametrize(
    "theirs",
    [SGDRegressor(random_state=0), Ridge(), LinearRegression(), LinearRegression(fit_intercept=False)],
    ids=repr,
)
def test_from_regressors(theirs, regression):
    theirs.fit(*regression)
    ours = MiniBatchSGDRegressor.from_sklearn(theirs, device="base")
    np.testing.assert_allclose(ours.predict(regression.X), theirs.predict(regression.X), rtol=1e-12)
    warm = MiniBatchSGDRegressor.from_sklearn(theirs, warm_start=True, learning_rate="constant", eta0=1e-12, **QUICK)
    np.testing.assert_allclose(warm.fit(*regression).coef_, np.ravel(theirs.coef_), atol=1e-6)


@pytest.mark.parametrize("theirs", [SGDClassifier(random_state=0), LogisticRegression()], ids=repr)
def test_from_classifiers(theirs, several):
    theirs.fit(*several)
    loss = "hinge" if isinstance(theirs, SGDClassifier) else "log_loss"
    ours = MiniBatchSGDClassifier.from_sklearn(theirs, loss=loss, device="base")
    np.testing.assert_array_equal(ours.predict(several.X), theirs.predict(several.X))
    with pytest.raises(NotFittedError):
        MiniBatchSGDClassifier.from_sklearn(LogisticRegression())


def test_a_copy_for_scikit_learn_is_a_copy(estimator_class, problem):
    ours = estimator_class(**QUICK).fit(*problem)
    theirs = ours.as_sklearn()
    before = learnt(ours)
    weights = getattr(theirs, family_of(ours).weights)
    for layer in weights if isinstance(weights, list) else [weights]:
        layer += 1.0
    np.testing.assert_array_equal(learnt(ours), before)
    assert theirs.n_features_in_ == 5


# -- weights of classes


@classifiers
def test_class_weight_is_a_weight_of_rows(estimator_class, several):
    X, y = several
    weights = {0: 1.0, 1: 3.0, 2: 0.5}
    by_class = estimator_class(class_weight=weights, **QUICK).fit(X, y)
    by_row = estimator_class(**QUICK).fit(X, y, sample_weight=np.array([1.0, 3.0, 0.5])[y])
    np.testing.assert_allclose(learnt(by_class), learnt(by_row), rtol=1e-9)


@classifiers
def test_balanced_classes_also_on_a_stream(estimator_class, binary):
    """By running counts: a rare class is found in chunks as in one go."""
    X, y = binary
    rare = np.flatnonzero((y == 0) | (np.arange(240) % 8 == 0))
    X, y = X[rare], y[rare]
    assert y.mean() < 0.2
    soon = family_of(estimator_class).soon
    balanced = estimator_class(class_weight="balanced", **QUICK, **soon).fit(X, y)
    stream = estimator_class(class_weight="balanced", device="base", random_state=0, batch_size=16, **soon)
    for _ in range(10):
        for rows in np.array_split(np.arange(y.size), 3):
            stream.partial_fit(X[rows], y[rows], classes=[0, 1])
    plain = estimator_class(**QUICK, **soon).fit(X, y)
    assert plain.predict(X).mean() < 0.8 * balanced.predict(X).mean()
    assert abs(stream.predict(X).mean() - balanced.predict(X).mean()) < 0.1
