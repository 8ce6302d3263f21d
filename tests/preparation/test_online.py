"""Streams that are followed by Newton's method: how far one pass comes, and when it is taken."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.kinds import declared
from skminibatch.losses import LOSSES

REGRESSION = sorted(name for name in LOSSES if declared(LOSSES[name]()).task == "regression")
CLASSIFICATION = sorted(set(LOSSES) - set(REGRESSION) - {"perceptron"})  # whose optimum is zero


def rows(task, n_outputs=1, n=2000, d=6, seed=0):
    """Correlated features in different units, far from zero, and targets with heavy tails or labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * np.exp(rng.uniform(-3, 3, d))
    raw = (X / X.std(axis=0)) @ rng.standard_normal((d, n_outputs)) / np.sqrt(d)
    X = X + 100 * X.std(axis=0)
    if task == "counts":
        return X, rng.poisson(np.exp(np.clip(raw[:, 0], -3, 3))).astype(float)
    if task == "regression":
        y = 50 * (raw + 0.5 * rng.standard_t(3, raw.shape)) - 300
        return X, y[:, 0] if n_outputs == 1 else y
    if n_outputs == 1:
        return X, (rng.random(n) < 1 / (1 + np.exp(-2 * raw[:, 0]))).astype(int)
    return X, (2 * raw + rng.gumbel(size=raw.shape)).argmax(axis=1)


def problem(loss, n_outputs=1):
    if loss in CLASSIFICATION:
        return MiniBatchSGDClassifier(loss=loss, random_state=0), *rows("classification", n_outputs)
    task = "counts" if loss == "poisson" else "regression"
    return MiniBatchSGDRegressor(loss=loss, random_state=0), *rows(task, n_outputs)


def streamed(estimator, X, y, chunk, weights=None):
    estimator = clone(estimator)
    first = {"classes": np.unique(y)} if isinstance(estimator, MiniBatchSGDClassifier) else {}
    for start in range(0, len(y), chunk):
        part = slice(start, start + chunk)
        given = {} if weights is None else {"sample_weight": weights[part]}
        estimator.partial_fit(X[part], y[part], **first, **given)
    return estimator


def excess(model, X, y, weights=None):
    """Of the objective over its least value, relative to that of the best constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = clone(model).set_params(tol=1e-5, max_iter=100).fit(X, y, sample_weight=weights)
    constant = clone(model).fit(np.zeros_like(X), y, sample_weight=weights)
    values = [each._examined(X, y, weights).smooth_objective() for each in (model, best, constant)]
    return (values[0] - values[1]) / (values[2] - values[1])


@pytest.mark.parametrize("chunk", [20, 500])
@pytest.mark.parametrize("loss", [*CLASSIFICATION, *REGRESSION])
def test_one_pass_comes_to_the_optimum(loss, chunk):
    estimator, X, y = problem(loss)
    model = streamed(estimator, X, y, chunk)
    assert model._fitted.newton is not None
    assert excess(model, X, y) < 2e-3


@pytest.mark.parametrize("loss", [*CLASSIFICATION, *sorted(set(REGRESSION) - {"poisson"})])
def test_several_outputs_too(loss):
    estimator, X, y = problem(loss, n_outputs=3)
    assert excess(streamed(estimator, X, y, 100), X, y) < 2e-3


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_squares_are_exact(fit_intercept, n_outputs):
    X, y = rows("regression", n_outputs)
    weights = np.random.default_rng(1).pareto(1.5, len(y)) + 0.1
    estimator = MiniBatchSGDRegressor(fit_intercept=fit_intercept, alpha=0.3, random_state=0)
    model = streamed(estimator, X, y, 64, weights)
    center = np.average(X, axis=0, weights=weights) if fit_intercept else 0.0
    Z, shift = X - center, np.average(y, axis=0, weights=weights) if fit_intercept else 0.0
    matrix = (Z.T * weights) @ Z + 0.3 * len(y) * np.eye(X.shape[1])
    exact = np.linalg.solve(matrix, (Z.T * weights) @ (y - shift)).T
    np.testing.assert_allclose(model.coef_, exact, rtol=1e-6)
    np.testing.assert_allclose(model.predict(X), Z @ exact.T + shift, rtol=1e-6)


def test_rare_positives_of_large_weight_are_not_forgotten():
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 1 / 500).astype(int)
    X = rng.standard_normal((20_000, 8)) + 1.2 * y[:, None] * (np.arange(8) < 3)
    weights = np.where(y == 1, len(y) / (2 * y.sum()), len(y) / (2 * (len(y) - y.sum())))
    estimator = MiniBatchSGDClassifier(random_state=0)
    model, best = streamed(estimator, X, y, 100, weights), clone(estimator).fit(X, y, sample_weight=weights)
    recalls = [each.predict(X[y == 1]).mean() for each in (model, best)]
    assert abs(recalls[0] - recalls[1]) < 0.05
    assert excess(model, X, y, weights) < 1e-2


def test_the_first_event_may_come_late():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20_000, 4)), np.zeros(20_000)
    y[rng.choice(np.arange(8_000, 20_000), 30, replace=False)] = 1.0
    model = streamed(MiniBatchSGDRegressor(loss="poisson", random_state=0), X, y, 100)
    assert 0.97 < model.predict(X).mean() / y.mean() < 1.03


@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_a_flip_of_the_labels_is_followed(loss):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8_000, 10))
    y = (X @ rng.standard_normal(10) + rng.logistic(size=8_000) > 0).astype(int)
    y[4_000:] = 1 - y[4_000:]
    model = streamed(MiniBatchSGDClassifier(loss=loss, random_state=0), X[:6_000], y[:6_000], 100)
    assert model.score(X[6_000:], y[6_000:]) > 0.75
    assert model._fitted.newton.all.expansion.n_rows < 3_000


def test_a_stream_that_stays_the_same_forgets_nothing():
    for seed in range(3):
        X, y = rows("classification", n=6_000, seed=seed)
        model = streamed(MiniBatchSGDClassifier(random_state=0), X, y, 50)
        assert model._fitted.newton.all.expansion.n_rows == len(y)


@pytest.mark.parametrize("first", [1, 2])
def test_it_may_begin_with_a_few_rows_of_one_kind(first):
    for loss in [*CLASSIFICATION, *REGRESSION]:
        estimator, X, y = problem(loss)
        labels = {"classes": [0, 1]} if loss in CLASSIFICATION else {}
        same = np.argsort(y, kind="stable")[:50]
        model = clone(estimator).partial_fit(X[same[:first]], y[same[:first]], **labels)
        for row in same[first:]:
            model.partial_fit(X[[row]], y[[row]])
        assert np.isfinite(model.predict(X)).all(), loss


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_storage_and_precision_do_not_matter(loss):
    estimator, X, y = problem(loss)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    dense = streamed(estimator, X, y, 100)
    csr = streamed(estimator, sparse.csr_matrix(X), y, 100)
    single = streamed(estimator, X.astype(np.float32), y, 100)
    np.testing.assert_allclose(csr.coef_, dense.coef_, rtol=1e-9)
    np.testing.assert_allclose(single.coef_, dense.coef_, rtol=1e-2, atol=1e-2)
    assert single.coef_.dtype == np.float32


def test_assigned_coefficients_are_gone_on_from_by_gradient_steps():
    """What was learnt before says nothing of how far they are to be trusted."""
    X, y = rows("classification")
    model = streamed(MiniBatchSGDClassifier(random_state=0), X, y, 100)
    model.coef_ = np.zeros_like(model.coef_)
    model.partial_fit(X[:100], y[:100])
    assert model._fitted.newton is None
    assert np.abs(model.coef_).max() > 0


def test_small_batches_count_and_rows_are_shuffled():
    X, y = rows("classification")
    models = [
        MiniBatchSGDClassifier(batch_size=16, shuffle=shuffle, random_state=seed).partial_fit(X, y, classes=[0, 1])
        for seed, shuffle in [(0, True), (1, True), (0, False)]
    ]
    assert [model.n_updates_ for model in models] == [len(y) // 16] * 3
    for other in models[1:]:
        assert not np.array_equal(models[0].coef_, other.coef_)
        np.testing.assert_allclose(models[0].coef_, other.coef_, rtol=1e-6)


def test_a_pickle_goes_on_as_the_stream_does():
    X, y = rows("classification")
    model = streamed(MiniBatchSGDClassifier(random_state=0), X[:1500], y[:1500], 100)
    copy = pickle.loads(pickle.dumps(model))
    for each in (model, copy):
        each.partial_fit(X[1500:], y[1500:])
    np.testing.assert_array_equal(model.coef_, copy.coef_)
    assert model._fitted.newton.recent is not None


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "schedule_free"},
        {"learning_rate": "constant", "eta0": 0.01},
        {"penalty": "l1"},
        {"standardize": True},
        {"clip_norm": 1.0},
        {"sampler": "importance"},
        {"batch_size": "geometric"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_what_asks_for_gradient_steps_gets_them(parameters):
    X, y = rows("classification")
    model = MiniBatchSGDClassifier(**parameters, random_state=0).partial_fit(X[:200], y[:200], classes=[0, 1])
    assert model._fitted.newton is None


def test_the_first_row_is_not_kept():
    X, y = rows("classification")
    model = MiniBatchSGDClassifier(random_state=0)
    for row in range(30):
        model.partial_fit(X[[row]], y[[row]], classes=[0, 1])
    kept = pickle.dumps(model)
    assert not any(number.tobytes() in kept for number in X[:30].ravel())


@pytest.mark.parametrize("loss", ["epsilon_insensitive", "squared_epsilon_insensitive"])
def test_targets_may_begin_within_what_a_loss_is_insensitive_to(loss):
    X, y = rows("regression")
    y = np.where(np.arange(len(y)) < 100, -300.0 + 1e-3 * y, y)
    model = streamed(MiniBatchSGDRegressor(loss=loss, epsilon=5.0, random_state=0), X, y, 100)
    assert excess(model, X, y) < 1e-2


def test_wide_rows_get_gradient_steps():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 400)), rng.integers(0, 2, 50)
    assert MiniBatchSGDClassifier(random_state=0).partial_fit(X, y, classes=[0, 1])._fitted.newton is None


def test_another_loss_on_the_way_begins_with_gradient_steps():
    X, y = rows("classification")
    model = streamed(MiniBatchSGDClassifier(random_state=0), X[:500], y[:500], 100)
    model.set_params(loss="hinge").partial_fit(X[500:600], y[500:600])
    assert model._fitted.newton is None
    assert model.t_ == 600


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("d", "storage", "settings"),
    [(d, storage, {}) for d in (8, 300) for storage in (np.asarray, sparse.csr_matrix)]
    + [
        (d, storage, settings)
        for d, storage in ((8, np.asarray), (300, sparse.csr_matrix))
        for settings in ({"penalty": "l1", "alpha": 1e-3}, {"loss": "hinge"})
    ],
    ids=str,
)
def test_a_stream_after_fit_goes_on_from_there(d, storage, settings):
    """The rows of `fit` count: neither the first chunk of new rows nor all of them make the model clearly worse."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4_000, d)) * (rng.random((4_000, d)) < min(1.0, 16 / d))
    y = (X @ rng.standard_normal(d) + rng.logistic(size=4_000) > 0).astype(int)
    model = MiniBatchSGDClassifier(random_state=0, **settings).fit(storage(X[:2_000]), y[:2_000])
    X, objectives = storage(X), []
    best, constant = clone(model).fit(X, y), clone(model).fit(0 * X, y)
    for first, last in ((2_000, 2_100), (2_100, 4_000)):
        objectives.append(model._examined(X, y, None).smooth_objective())
        for start in range(first, last, 100):
            model.partial_fit(X[start : start + 100], y[start : start + 100])
    objectives.append(model._examined(X, y, None).smooth_objective())
    gain = constant._examined(X, y, None).smooth_objective() - best._examined(X, y, None).smooth_objective()
    assert objectives[1] < objectives[0] + 5e-3 * gain
    assert objectives[2] < objectives[0] + 1e-3 * gain
