"""With one row a batch, the same order of rows and the same rates, ours and scikit-learn's coefficients are the same."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import StratifiedShuffleSplit

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor

EXACT = {"rtol": 1e-9, "atol": 1e-12}
REGRESSION = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
CLASSIFICATION = ["hinge", "squared_hinge", "log_loss", "modified_huber", "perceptron", *REGRESSION]
SCHEDULES = [
    {"learning_rate": "constant", "eta0": 0.03},
    {"learning_rate": "invscaling", "eta0": 0.1, "power_t": 0.3},
    {"learning_rate": "optimal"},
]


def ours(theirs):
    """Our estimator with the settings of scikit-learn's."""
    settings = {
        name: setting
        for name, setting in theirs.get_params().items()
        if name not in ("eta0", "n_iter_no_change", "n_jobs") or (name == "eta0" and theirs.learning_rate != "optimal")
    }
    kind = MiniBatchSGDClassifier if isinstance(theirs, SGDClassifier) else MiniBatchSGDRegressor
    return kind(**settings, solver="sgd", batch_size=1)


@pytest.fixture(scope="module")
def data():
    """Rows whose features have different scales and means, and weights of mean one."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6)) * [1, 0.5, 0.3, 0.1, 0.5, 0.2] + [0, 0.2, -0.5, 0, 0, 0.3]
    y = X @ rng.standard_normal(6) + 0.3 * rng.standard_normal(40) + 0.5
    weights = rng.uniform(0.1, 2, 40)
    return X, y, weights / weights.mean()


def assert_same(estimator, theirs):
    np.testing.assert_allclose(estimator.coef_, theirs.coef_, **EXACT)
    np.testing.assert_allclose(estimator.intercept_, theirs.intercept_, **EXACT)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["learning_rate"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal weights", "weighted"])
@pytest.mark.parametrize("penalty", ["l2", None])
class TestSameSteps:
    def settings(self, loss, penalty, schedule):
        return dict(loss=loss, penalty=penalty, alpha=0.3, shuffle=False, max_iter=5, tol=None, **schedule)

    @pytest.mark.parametrize("loss", CLASSIFICATION)
    def test_classifier(self, data, loss, penalty, weighted, schedule):
        X, y, weights = data
        theirs = SGDClassifier(**self.settings(loss, penalty, schedule))
        weights = weights if weighted else None
        labels = np.where(y > 0.8, "yes", "no")
        assert_same(ours(theirs).fit(X, labels, sample_weight=weights), theirs.fit(X, labels, sample_weight=weights))

    @pytest.mark.parametrize("loss", REGRESSION)
    def test_regressor(self, data, loss, penalty, weighted, schedule):
        X, y, weights = data
        theirs = SGDRegressor(**self.settings(loss, penalty, schedule))
        weights = weights if weighted else None
        assert_same(ours(theirs).fit(X, y, sample_weight=weights), theirs.fit(X, y, sample_weight=weights))

    @pytest.mark.parametrize("loss", ["hinge", "modified_huber"])
    def test_one_vs_rest(self, data, loss, penalty, weighted, schedule):
        X, y, weights = data
        theirs = SGDClassifier(**self.settings(loss, penalty, schedule))
        weights = weights if weighted else None
        labels = np.digitize(y, [0, 1])
        assert_same(ours(theirs).fit(X, labels, sample_weight=weights), theirs.fit(X, labels, sample_weight=weights))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["learning_rate"])
def test_partial_fit_in_chunks_with_weights_as_they_are(data, schedule):
    X, y, weights = data
    theirs = SGDClassifier(loss="log_loss", alpha=0.3, shuffle=False, **schedule)
    estimator = ours(theirs)
    for rows in np.split(np.arange(40), [7, 20]):
        chunk = {"classes": [False, True], "sample_weight": 3 * weights[rows]}
        estimator.partial_fit(X[rows], y[rows] > 0.8, **chunk)
        theirs.partial_fit(X[rows], y[rows] > 0.8, **chunk)
        assert_same(estimator, theirs)
    assert estimator.t_ == theirs.t_ - 1 == 40


@pytest.mark.parametrize("average", [True, 25])
def test_average(data, average):
    X, y, _ = data
    theirs = SGDRegressor(alpha=0.3, average=average, shuffle=False, max_iter=3, tol=None)
    assert_same(ours(theirs).fit(X, y), theirs.fit(X, y))


@pytest.mark.parametrize("class_weight", ["balanced", {False: 0.4, True: 2.5}])
def test_class_weight_of_two_classes(data, class_weight):
    X, y, _ = data
    labels = y > 1.2
    settings = dict(loss="squared_hinge", alpha=0.3, shuffle=False, max_iter=3, tol=None)
    theirs = SGDClassifier(class_weight=class_weight, **settings, **SCHEDULES[0])
    estimator = ours(theirs).fit(X, labels)
    if class_weight != "balanced":  # their mean is 1 in our fit
        mean = np.where(labels, class_weight[True], class_weight[False]).mean()
        theirs.set_params(class_weight={label: weight / mean for label, weight in class_weight.items()})
    assert_same(estimator, theirs.fit(X, labels))


def test_coef_init_and_warm_start(data):
    X, y, _ = data
    theirs = SGDRegressor(alpha=0.3, shuffle=False, max_iter=2, tol=None, warm_start=True)
    estimator = ours(theirs)
    start = {"coef_init": np.arange(6.0), "intercept_init": 2.0}
    assert_same(estimator.fit(X, y, **start), theirs.fit(X, y, **start))
    assert_same(estimator.fit(X, y), theirs.fit(X, y))


@pytest.mark.parametrize("average", [False, 25])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "hinge"])
def test_sparse_rows_give_what_dense_rows_give(data, loss, fit_intercept, average):
    """scikit-learn's intercept takes smaller steps on sparse data; ours does not (docs/differences.md)."""
    X, y, _ = data
    X = np.where(abs(X) > 0.3, X, 0)
    theirs = SGDRegressor if loss == "squared_error" else SGDClassifier
    y = y if loss == "squared_error" else y > 0.8
    settings = dict(loss=loss, alpha=0.3, average=average, fit_intercept=fit_intercept, max_iter=3, tol=None)
    theirs = theirs(**settings, shuffle=False).fit(X, y)
    assert_same(ours(theirs).fit(sparse.csr_array(X), y), theirs)


def test_rows_held_out_by_early_stopping_are_not_trained_on(data):
    """The split is scikit-learn's of the same `random_state`; the best epoch is kept, here of three."""
    X, y, _ = data
    labels = y > 0.8
    estimator = ours(SGDClassifier(alpha=0.3, shuffle=False, max_iter=3, tol=None, **SCHEDULES[0]))
    estimator.set_params(early_stopping=True, validation_fraction=0.3, random_state=7).fit(X, labels)
    kept, held = next(StratifiedShuffleSplit(1, test_size=0.3, random_state=7).split(X, labels))
    best = 1 + int(np.argmax(estimator.validation_scores_))
    theirs = SGDClassifier(alpha=0.3, shuffle=False, max_iter=best, tol=None, **SCHEDULES[0])
    kept = np.sort(kept)
    assert_same(estimator, theirs.fit(X[kept], labels[kept]))
    assert estimator.best_validation_score_ == estimator.score(X[held], labels[held])
