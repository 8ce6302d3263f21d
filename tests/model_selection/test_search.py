"""A search over batch sizes: what `GridSearchCV` comes to, sooner, and what a budget and comparisons add."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier, is_regressor
from sklearn.callback import ProgressBar
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, LeaveOneGroupOut, ShuffleSplit, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends import cpu
from skminibatch.model_selection import BatchSizeSearchCV
from skminibatch.model_selection.comparison import differences_from
from skminibatch.training import lockstep

SGD = {"solver": "sgd", "learning_rate": "constant", "eta0": 0.02, "random_state": 0, "max_iter": 3, "tol": None}
SIZES = [10, 32, 100]
OURS = {
    "mean_n_epochs", "mean_n_updates", "mean_n_rows_read", "mean_noise_scale", "mean_difference_from_best",
    "standard_error_of_difference", "low_difference_from_best", "high_difference_from_best",
}  # fmt: skip


def classifier(**changes):
    return MiniBatchSGDClassifier(**{**SGD, **changes})


def regressor(**changes):
    return MiniBatchSGDRegressor(**{**SGD, **changes})


def network(cls=MiniBatchMLPClassifier, **changes):
    return cls(**{"hidden_layer_sizes": (4,), "random_state": 0, "max_iter": 2, "tol": None, **changes})


class Counted(TransformerMixin, BaseEstimator):
    """Standardises, and counts its fits."""

    fits: Counter = Counter()

    def __init__(self, name="", with_mean=True):
        self.name, self.with_mean = name, with_mean

    def fit(self, X, y=None):
        Counted.fits[self.name] += 1
        self.mean_, self.scale_ = np.mean(X, axis=0) * self.with_mean, np.std(X, axis=0)
        return self

    def transform(self, X):
        return (np.asarray(X) - self.mean_) / self.scale_


@pytest.fixture(autouse=True)
def no_fits():
    Counted.fits.clear()


@pytest.fixture
def at_once(monkeypatch):
    """Few rows count as many; how many models have been carried out at once, call by call."""
    sizes, verb = [], cpu.run_lockstep

    def counted(tasks, plan):
        sizes.append(len(tasks))
        return verb(tasks, plan)

    monkeypatch.setattr(lockstep, "FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(cpu, "run_lockstep", counted)
    return sizes


def assert_same_scores(estimator, problem, path="", grid=None, fit_params=None, rtol=1e-10, **settings):
    """Of all candidates, in the order of `GridSearchCV`; the search."""
    X, y = problem
    settings = {"cv": 3, "error_score": "raise", **settings}
    whole = {**(grid or {}), f"{path}batch_size": SIZES}
    theirs = GridSearchCV(estimator, whole, **settings).fit(X, y, **(fit_params or {}))
    ours = BatchSizeSearchCV(estimator, SIZES, param_grid=grid, **settings).fit(X, y, **(fit_params or {}))
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    assert set(theirs.cv_results_) < set(ours.cv_results_)
    for name, numbers in theirs.cv_results_.items():
        if "_test_" in name or "_train_" in name:
            np.testing.assert_allclose(ours.cv_results_[name], numbers, rtol=rtol, atol=rtol, err_msg=name)
    assert (ours.best_index_, ours.best_params_) == (theirs.best_index_, theirs.best_params_)
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=rtol)
    same = np.testing.assert_array_equal if is_classifier(ours) else np.testing.assert_allclose
    same(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.score(X, y), theirs.score(X, y), rtol=rtol)
    return ours


# -- the scores of GridSearchCV


@pytest.mark.parametrize("cv", [KFold(3), ShuffleSplit(2, random_state=0)], ids=["folds", "shuffled"])
@pytest.mark.parametrize("estimator", [classifier(), MiniBatchSGDClassifier(random_state=0)], ids=["sgd", "auto"])
def test_a_classifier(estimator, cv, binary, at_once):
    grid = {"alpha": [1e-4, 1e-1], "class_weight": [None, "balanced"]}
    search = assert_same_scores(estimator, binary, grid=grid, cv=cv, scoring="neg_log_loss", return_train_score=True)
    assert max(at_once) > 3
    np.testing.assert_array_equal(search.classes_, [0, 1])
    assert search.n_features_in_ == 5


def test_a_regressor(regression, at_once):
    grid = {"penalty": ["l2", "l1"], "loss": ["squared_error", "huber"]}
    search = assert_same_scores(regressor(), regression, grid=grid)
    assert max(at_once) == 12
    assert is_regressor(search)
    assert not is_classifier(search)


@pytest.mark.parametrize("estimator", [network(), network(MiniBatchMLPRegressor)], ids=["classifier", "regressor"])
def test_networks(estimator, binary, regression):
    problem = binary if is_classifier(estimator) else regression
    assert_same_scores(estimator, problem, grid={"alpha": [1e-4, 1.0]}, cv=2)


def test_several_classes_and_outputs(several, regression, at_once):
    assert_same_scores(classifier(), several, scoring="neg_log_loss")
    X, y = regression
    assert_same_scores(regressor(), (X, np.column_stack([y, -y])))
    assert max(at_once) == len(SIZES)


@pytest.mark.parametrize("solver", ["sgd", "saga", "adam"])
def test_sparse_rows(solver, binary, at_once):
    X = sparse.csr_matrix(binary.X * (np.random.default_rng(0).random(binary.X.shape) < 0.5))
    assert_same_scores(classifier(solver=solver), (X, binary.y), scoring="neg_log_loss")
    assert bool(at_once) == (solver != "adam")  # whose updates of sparse rows are lazy


def test_a_pipeline_whose_transformers_are_fitted_once_per_fold(binary, at_once):
    X, y = np.array(binary.X) * 100 + 7, binary.y
    pipeline = Pipeline([("scale", Counted()), ("sgd", classifier())])
    grid = {"scale__with_mean": [True, False], "sgd__alpha": [1e-4, 1e-1]}
    search = BatchSizeSearchCV(pipeline, SIZES, param_grid=grid, cv=3, refit=False).fit(X, y)
    assert Counted.fits[""] == 3 * 2  # folds, and settings of the transformer
    assert set(at_once) == {2 * len(SIZES)}
    assert search.cv_results_["params"][0].keys() == {"scale__with_mean", "sgd__alpha", "sgd__batch_size"}
    assert_same_scores(pipeline, (X, y), "sgd__", grid, scoring="neg_log_loss", return_train_score=True)


def test_nested_pipelines(binary, at_once):
    inner = Pipeline([("second", Counted("second")), ("sgd", classifier())])
    whole = Pipeline([("first", MinMaxScaler()), ("none", "passthrough"), ("inner", inner)])
    assert_same_scores(whole, binary, "inner__sgd__", {"inner__second__with_mean": [True]}, scoring="neg_log_loss")
    assert Counted.fits["second"] == (len(SIZES) * 3 + 1) + (3 + 1)
    assert max(at_once) == len(SIZES)


def test_transformers_that_look_alike_are_told_apart(binary):
    """What is printed of them is cut."""

    class Shifted(TransformerMixin, BaseEstimator):
        def __init__(self, by=None):
            self.by = by

        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return X * self.by[-500]

    scales = [np.ones(2_000), np.ones(2_000)]
    scales[1][-500] = 0.01
    assert repr(scales[0]) == repr(scales[1])
    pipeline = Pipeline([("by", Shifted()), ("sgd", classifier())])
    search = BatchSizeSearchCV(pipeline, [32], param_grid={"by__by": scales}, cv=2, scoring="neg_log_loss")
    first, second = search.fit(*binary).cv_results_["mean_test_score"]
    assert first > second + 0.01


def test_other_estimators_inside_which_is_a_batch_size(several):
    """Fitted one by one, as they are."""
    one_by_one = OneVsRestClassifier(classifier())
    search = assert_same_scores(one_by_one, several, "estimator__")
    assert np.isnan(search.cv_results_["mean_n_epochs"]).all()
    theirs = MLPClassifier((3,), max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        search = BatchSizeSearchCV(theirs, [8, 32], cv=2).fit(*several)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("kind", ["estimator", "pipeline", "network"])
def test_sample_weights(kind, binary):
    weights = np.random.default_rng(0).integers(0, 3, 240).astype(float)
    estimators = {
        "estimator": classifier(),
        "pipeline": make_pipeline(MinMaxScaler(), classifier()),
        "network": network(),
    }
    path = "minibatchsgdclassifier__" if kind == "pipeline" else ""
    name = f"{path}sample_weight"
    assert_same_scores(estimators[kind], binary, path, fit_params={name: weights}, scoring="neg_log_loss")
    assert_same_scores(estimators[kind], binary, path, fit_params={name: list(weights)}, scoring="neg_log_loss")
    with pytest.raises(ValueError, match=r"inconsistent|sample_weight"):
        BatchSizeSearchCV(estimators[kind], SIZES, cv=2, error_score="raise").fit(*binary, **{name: np.ones(250)})


def test_data_frames_and_lists(binary):
    pd = pytest.importorskip("pandas")
    index = np.arange(240)[::-1] + 1_000
    X, y = pd.DataFrame(binary.X, columns=list("abcde"), index=index), pd.Series(binary.y, index=index)
    for estimator in (classifier(), make_pipeline(StandardScaler().set_output(transform="pandas"), classifier())):
        path = "" if estimator.__class__ is MiniBatchSGDClassifier else "minibatchsgdclassifier__"
        search = assert_same_scores(estimator, (X, y), path)
        np.testing.assert_array_equal(search.feature_names_in_, list("abcde"))
    assert_same_scores(classifier(), (binary.X.tolist(), binary.y.tolist()))
    assert_same_scores(classifier(), (binary.X, np.array(["no", "yes"])[binary.y]))


def test_metadata_is_routed(binary):
    weights = np.random.default_rng(0).uniform(0.0, 2.0, 240)
    groups = np.arange(240) % 4
    with config_context(enable_metadata_routing=True):
        asked = classifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asked)
        for estimator, path in ((asked, ""), (pipeline, "minibatchsgdclassifier__")):
            assert_same_scores(estimator, binary, path, fit_params={"sample_weight": weights})
        with pytest.raises(ValueError, match="sample_weight"):
            BatchSizeSearchCV(classifier(), SIZES, cv=2).fit(*binary, sample_weight=weights)
        with pytest.raises(TypeError, match="unknown"):
            BatchSizeSearchCV(classifier(), SIZES, cv=2).fit(*binary, unknown=weights)
        search = BatchSizeSearchCV(classifier(), SIZES, cv=GroupKFold(4)).fit(*binary, groups=groups)
        assert search.n_splits_ == 4


def test_groups_are_those_of_the_splitter(binary):
    search = BatchSizeSearchCV(classifier(), SIZES, cv=LeaveOneGroupOut(), refit=False)
    assert search.fit(*binary, groups=np.arange(240) % 3).n_splits_ == 3


# -- scores of all kinds, and failures


def whole_pipeline_score(estimator, X, y):
    """Rows as they came, and the transformers."""
    assert isinstance(estimator, Pipeline)
    assert np.abs(X).max() > 100
    return estimator.score(X, y)


@pytest.mark.parametrize("several_scores", [False, True])
def test_a_function_is_given_the_whole_pipeline(several_scores, binary):
    X, y = np.array(binary.X) * 100 + 7, binary.y
    pipeline = Pipeline([("scale", StandardScaler()), ("sgd", classifier())])
    scoring, refit = whole_pipeline_score, True
    if several_scores:
        scoring, refit = {"own": whole_pipeline_score, "accuracy": "accuracy"}, "own"
    search = assert_same_scores(pipeline, (X, y), "sgd__", scoring=scoring, refit=refit)
    if several_scores:
        np.testing.assert_array_equal(search.cv_results_["mean_test_own"], search.cv_results_["mean_test_accuracy"])


def both_scores(estimator, X, y):
    return {"accuracy": accuracy_score(y, estimator.predict(X)), "constant": 0.5}


@pytest.mark.parametrize(
    "scoring", [["accuracy", "neg_log_loss"], {"accuracy": make_scorer(accuracy_score), "b": "roc_auc"}, both_scores]
)
def test_several_scores(scoring, binary):
    search = assert_same_scores(classifier(), binary, scoring=scoring, refit="accuracy", return_train_score=True)
    assert search.multimetric_
    assert set(search.cv_results_) >= OURS
    without = BatchSizeSearchCV(classifier(), SIZES, scoring=scoring, refit=False, cv=2).fit(*binary)
    assert not hasattr(without, "best_index_")
    assert not hasattr(without, "indistinguishable_")
    assert "mean_difference_from_best" not in without.cv_results_
    assert "mean_n_updates" in without.cv_results_
    last = BatchSizeSearchCV(classifier(), SIZES, scoring=scoring, refit=lambda results: 2, cv=2).fit(*binary)
    assert last.best_params_ == {"batch_size": 100}
    assert last.predict(binary.X).shape == (240,)
    with pytest.raises(ValueError, match="multi-metric scoring"):
        BatchSizeSearchCV(classifier(), SIZES, scoring=scoring, cv=2).fit(*binary)


def test_a_callable_chooses(binary):
    """Such as the largest batch that cannot be told from the best."""

    def largest(results):
        return int(np.argmax(results["param_batch_size"]))

    search = BatchSizeSearchCV(classifier(), SIZES, refit=largest, cv=3).fit(*binary)
    assert search.best_params_ == {"batch_size": 100}
    assert search.best_estimator_.batch_size == 100
    assert not hasattr(search, "best_score_")
    for refit, error in ((lambda results: 0.5, TypeError), (lambda results: 7, IndexError)):
        with pytest.raises(error):
            BatchSizeSearchCV(classifier(), SIZES, refit=refit, cv=2).fit(*binary)


def test_without_the_last_fit(binary):
    search = BatchSizeSearchCV(classifier(), SIZES, refit=False, cv=3).fit(*binary)
    assert search.best_params_ in search.cv_results_["params"]
    assert not hasattr(search, "best_estimator_")
    assert not hasattr(search, "predict")


def test_the_columns(binary):
    search = BatchSizeSearchCV(classifier(), SIZES, cv=3, return_train_score=True).fit(*binary)
    grid = GridSearchCV(classifier(), {"batch_size": SIZES}, cv=3, return_train_score=True).fit(*binary)
    curves = {f"split{fold}_loss_curve" for fold in range(3)}
    assert set(search.cv_results_) == set(grid.cv_results_) | OURS | curves
    results = search.cv_results_
    np.testing.assert_array_equal(results["mean_n_epochs"], 3)
    np.testing.assert_array_equal(results["mean_n_rows_read"], 480)
    np.testing.assert_array_equal(results["mean_n_updates"], 3 * np.ceil(160 / np.array(SIZES)))
    assert np.all(results["mean_noise_scale"] > 0)
    assert np.all(results["mean_fit_time"] > 0)
    train, _ = next(iter(search._checked_cv_orig.split(*binary)))
    for number, size in enumerate(SIZES):
        alone = classifier(batch_size=size).fit(binary.X[train], binary.y[train])
        np.testing.assert_allclose(results["split0_loss_curve"][number], alone.loss_curve_, rtol=1e-10)
    scores = np.column_stack([results[f"split{fold}_test_score"] for fold in range(3)])
    differences = differences_from(scores, search.best_index_, 80 / 160)
    np.testing.assert_array_equal(results["mean_difference_from_best"], differences.mean)
    np.testing.assert_array_equal(results["high_difference_from_best"], differences.high)
    same = np.flatnonzero(differences.indistinguishable)
    assert search.indistinguishable_ == [results["params"][number] for number in same]
    assert search.best_params_ in search.indistinguishable_


@pytest.mark.parametrize("path", ["", "sgd__"])
def test_a_candidate_that_fails(path, binary):
    """The others have their scores."""
    estimator = Pipeline([("scale", StandardScaler()), ("sgd", classifier())]) if path else classifier()
    grid = {f"{path}eta0": [0.02, -1.0]}
    settings = {"param_grid": grid, "cv": 2, "return_train_score": True}
    healthy = BatchSizeSearchCV(estimator, SIZES, cv=2).fit(*binary)
    with pytest.warns(FitFailedWarning, match="6 fits failed out of a total of 12"):
        search = BatchSizeSearchCV(estimator, SIZES, error_score=-5.0, **settings).fit(*binary)
    scores, fails = search.cv_results_["mean_test_score"], search.cv_results_[f"param_{path}eta0"] < 0
    np.testing.assert_array_equal(scores[~fails], healthy.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(scores[fails], -5.0)
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_n_epochs"]), fails)
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
        search = BatchSizeSearchCV(estimator, SIZES, **settings).fit(*binary)
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), fails)
    assert np.isfinite(search.best_score_)
    with pytest.warns(FitFailedWarning):
        BatchSizeSearchCV(
            estimator, SIZES, error_score=0.0, scoring=["accuracy", "neg_log_loss"], refit="accuracy", **settings
        ).fit(*binary)
    with pytest.raises(ValueError, match="eta0"):
        BatchSizeSearchCV(estimator, SIZES, error_score="raise", **settings).fit(*binary)
    with pytest.raises(ValueError, match="All the 6 fits failed"):
        BatchSizeSearchCV(clone(estimator).set_params(**{f"{path}eta0": -1.0}), SIZES, cv=2).fit(*binary)


def test_a_transformer_that_fails(binary):
    class Fails(Counted):
        def fit(self, X, y=None):
            if self.name == "fails":
                raise RuntimeError("a transformer fails")
            return super().fit(X, y)

    pipeline = Pipeline([("scale", Fails()), ("sgd", classifier())])
    search = BatchSizeSearchCV(pipeline, SIZES, param_grid={"scale__name": ["", "fails"]}, error_score=-1.0, cv=2)
    with pytest.warns(FitFailedWarning, match="a transformer fails"):
        search.fit(*binary)
    results = search.cv_results_
    np.testing.assert_array_equal(results["mean_test_score"] == -1, results["param_scale__name"] == "fails")


# -- budgets


@pytest.mark.parametrize("path", ["", "sgd__"])
@pytest.mark.parametrize(
    ("budget", "value", "expected"), [("epochs", 2, [2, 2, 2]), ("updates", 30, [2, 6, 15]), ("updates", 1, [1, 1, 1])]
)
def test_budgets(budget, value, expected, path, binary):
    """Folds have 160 rows, and so 16, 5 and 2 batches; the last fit has 240 rows, and 24, 8 and 3."""
    estimator = Pipeline([("scale", StandardScaler()), ("sgd", classifier())]) if path else classifier()
    search = BatchSizeSearchCV(estimator, SIZES, budget=budget, budget_value=value, cv=3).fit(*binary)
    np.testing.assert_array_equal(search.cv_results_["mean_n_epochs"], expected)
    best = search.best_estimator_[-1] if path else search.best_estimator_
    per_epoch = np.ceil(240 / best.batch_size)
    assert best.n_iter_ == (value if budget == "epochs" else max(1, round(value / per_epoch)))
    assert best.max_iter == best.n_iter_
    assert best.tol is None
    again = best.score(search.best_estimator_[:-1].transform(binary.X) if path else binary.X, binary.y)
    assert again == search.score(*binary)


def test_updates_of_shares_and_of_full_batches(binary):
    search = BatchSizeSearchCV(classifier(), [0.25, "full"], budget="updates", budget_value=8, cv=3).fit(*binary)
    np.testing.assert_array_equal(search.cv_results_["mean_n_epochs"], [2, 8])


def test_without_a_value_each_stops_by_itself(binary):
    search = BatchSizeSearchCV(MiniBatchSGDClassifier(random_state=0, max_iter=50), SIZES, cv=2).fit(*binary)
    assert np.all(search.cv_results_["mean_n_epochs"] < 50)
    assert (search.best_estimator_.max_iter, search.best_estimator_.tol) == (50, 1e-3)


def test_seconds_are_those_of_each_candidate(binary, at_once):
    """Not those of all: they are trained one after another."""
    search = BatchSizeSearchCV(classifier(), [16, 32], budget="seconds", budget_value=0.03, cv=2).fit(*binary)
    assert at_once == []
    assert np.all(search.cv_results_["mean_n_epochs"] > 3)
    assert search.best_estimator_.max_time == 0.03
    assert "max_time" in search.best_estimator_.stop_reason_


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": "updates"}, "budget='updates' needs a budget_value"),
        ({"budget": "seconds"}, "budget='seconds' needs a budget_value"),
        ({"budget_value": 2.5}, "budget_value must be a whole number of epochs, got 2.5"),
        ({"budget_value": 0}, "'budget_value' parameter"),
        ({"budget": "rows"}, "'budget' parameter"),
        ({"batch_sizes": []}, "batch_sizes must have at least one entry"),
        ({"param_grid": {"batch_size": [1]}}, "param_grid must not have 'batch_size'"),
        ({"param_grid": [{"alpha": [1.0]}, {"batch_size": [1]}]}, "param_grid must not have 'batch_size'"),
        ({"estimator": LogisticRegression()}, "LogisticRegression has none"),
        (
            {"estimator": Pipeline([("a", classifier()), ("b", classifier())])},
            "has 'a__batch_size' and 'b__batch_size'",
        ),
        ({"scoring": "unknown"}, "scoring"),
        ({"cv": 1}, "'cv' parameter"),
    ],
)
def test_errors(settings, message, binary):
    with pytest.raises(ValueError, match=message):
        BatchSizeSearchCV(**{"estimator": classifier(), "batch_sizes": SIZES, **settings}).fit(*binary)


def test_updates_need_sizes_that_are_numbers(binary):
    search = BatchSizeSearchCV(classifier(), ["auto"], budget="updates", budget_value=3, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="batch sizes that are numbers or 'full', got 'auto'"):
        search.fit(*binary)


# -- seeds


def test_candidates_of_a_fold_have_a_seed_in_common(binary):
    """So that two that are the same have the same score, and the search can be repeated."""
    grid = {"alpha": [1e-4, 1e-4]}
    search = BatchSizeSearchCV(
        classifier(random_state=None), SIZES, param_grid=grid, cv=3, random_state=0, scoring="neg_log_loss"
    ).fit(*binary)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores[:3], scores[3:])
    again = clone(search).fit(*binary)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], scores)
    np.testing.assert_array_equal(again.best_estimator_.coef_, search.best_estimator_.coef_)
    other = clone(search).set_params(random_state=1).fit(*binary)
    assert not np.array_equal(other.cv_results_["mean_test_score"], scores)
    assert clone(search).set_params(random_state=None).fit(*binary).best_estimator_.random_state is None
    # a seed of the estimator's own is left to it
    for random_state in (0, np.random.RandomState(0)):
        estimator = classifier(random_state=random_state)
        own = BatchSizeSearchCV(estimator, SIZES, cv=2, random_state=3, scoring="neg_log_loss").fit(*binary)
        expected = [
            cross_val_score(clone(estimator).set_params(batch_size=s), *binary, cv=2, scoring="neg_log_loss")
            for s in SIZES
        ]
        if random_state == 0:
            np.testing.assert_allclose(own.cv_results_["mean_test_score"], np.mean(expected, axis=1), rtol=1e-10)


# -- as an estimator


def test_the_search_is_an_estimator(binary):
    search = BatchSizeSearchCV(classifier(), SIZES, budget_value=2, cv=2)
    assert "BatchSizeSearchCV(" in repr(search)
    assert search.get_params()["estimator__eta0"] == 0.02
    with pytest.raises(NotFittedError):
        search.predict(binary.X)
    before = pickle.dumps(search.estimator)
    search.fit(*binary)
    assert pickle.dumps(search.estimator) == before
    copied = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(copied.predict_proba(binary.X), search.predict_proba(binary.X))
    np.testing.assert_array_equal(copied.decision_function(binary.X), search.decision_function(binary.X))
    assert not hasattr(clone(search), "cv_results_")
    assert "BatchSizeSearchCV" in search._repr_html_()


def test_it_nests(binary):
    search = BatchSizeSearchCV(classifier(), SIZES, cv=2)
    pipeline = make_pipeline(StandardScaler(), search).fit(*binary)
    assert pipeline.score(*binary) > 0.7
    scores = cross_val_score(search, *binary, cv=2)
    assert scores.mean() > 0.7


def test_threads(binary):
    estimator = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(random_state=0, max_iter=3, tol=None))
    one, two = (
        BatchSizeSearchCV(estimator, SIZES, n_jobs=n_jobs, cv=4, scoring="neg_log_loss").fit(*binary)
        for n_jobs in (None, 2)
    )
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])


def test_verbose(binary, capsys):
    BatchSizeSearchCV(classifier(), SIZES, cv=2, verbose=1, refit=False).fit(*binary)
    assert capsys.readouterr().out == "Fitting 2 folds for each of 3 candidates, totalling 6 fits\n"


# -- callbacks


class Recorder:
    """Writes down the tasks that it sees, with those that are around them; seen by the estimators inside too."""

    max_propagation_depth = None

    def __init__(self, at_end=None):
        self.begun, self.ended, self.at_end, self.setups, self.teardowns = [], [], at_end, 0, 0

    def setup(self, estimator, context):
        self.setups += 1

    def teardown(self, estimator, context):
        self.teardowns += 1

    @staticmethod
    def path(context):
        names = []
        while context is not None:
            name = context.task_name if context.source_task_name is None else context.source_task_name
            names.append((name, context.task_id))
            context = context.parent
        return tuple(reversed(names))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.begun.append((self.path(context), context.estimator_name, len(y)))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None):
        assert X.shape[0] == len(y)
        self.ended.append((self.path(context), context.estimator_name, len(y)))
        if self.at_end:
            self.at_end(self.path(context))


@pytest.mark.parametrize(
    "estimator", [classifier(), make_pipeline(StandardScaler(), classifier()), network(max_iter=3)]
)
def test_callbacks_see_a_task_for_each_candidate_and_fold_and_the_epochs_inside(estimator, binary):
    recorder = Recorder()
    BatchSizeSearchCV(estimator, SIZES, cv=2).set_callbacks(recorder).fit(*binary)
    assert (recorder.setups, recorder.teardowns) == (1, 1)
    assert Counter(recorder.begun) == Counter(recorder.ended)
    paths = [path for path, _, _ in recorder.begun]
    assert len(paths) == len(set(paths))
    evaluations = [path for path in paths if path[-1][0] == "candidate-split-evaluation"]
    assert sorted(path[-1][1] for path in evaluations) == list(range(6))
    assert {path[:-1] for path in evaluations} == {(("fit", 0), ("search", 0))}
    epochs = Counter(path[:-1] for path, _, _ in recorder.begun if path[-1][0] == "epoch")
    inside = {path[:3] for path in epochs}
    assert {path for path in inside if path[1][0] == "search"} == set(evaluations)
    assert set(epochs.values()) == {3}
    of_folds = {n for path, name, n in recorder.begun if path[-1][0] == "epoch" and path[1][0] == "search"}
    assert of_folds == {120}


def test_one_progress_bar_for_the_whole_search(binary, capsys):
    pytest.importorskip("rich")
    BatchSizeSearchCV(classifier(), SIZES, cv=2).set_callbacks(ProgressBar()).fit(*binary)
    assert "BatchSizeSearchCV - fit" in capsys.readouterr().out


@pytest.mark.parametrize("fitted", [False, True])
def test_an_interrupt_in_a_fold_leaves_the_search(fitted, binary):
    def interrupt(path):
        if path[-1] == ("epoch", 1):
            raise KeyboardInterrupt

    search = BatchSizeSearchCV(classifier(), SIZES, cv=2)
    if fitted:
        search.fit(*binary)
        before = search.cv_results_
    recorder = Recorder(interrupt)
    with pytest.raises(KeyboardInterrupt):
        search.set_callbacks(recorder).fit(*binary)
    assert recorder.teardowns == 1
    assert not [name for name in vars(search) if "ctx" in name]
    if fitted:
        assert search.cv_results_ is before
        assert search.predict(binary.X).shape == (240,)
    else:
        with pytest.raises(NotFittedError):
            check_is_fitted(search)


# -- scikit-learn's checks

CHECKED = [
    BatchSizeSearchCV(MiniBatchSGDClassifier(**{**SGD, "max_iter": 8}), [4, 16], cv=2, error_score="raise"),
    BatchSizeSearchCV(MiniBatchSGDRegressor(random_state=0, max_iter=8, tol=None), [4, 16], cv=2, error_score="raise"),
]


def not_of_grids(estimator):
    """What `GridSearchCV` with the same estimator does not pass either."""
    several = "its tags do not say that the estimator inside takes several outputs, so that no warning is due"
    return {"check_supervised_y_2d": several} if is_regressor(estimator) else {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # by the splitter, of a y that is infinite
@parametrize_with_checks(CHECKED, expected_failed_checks=not_of_grids)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)
