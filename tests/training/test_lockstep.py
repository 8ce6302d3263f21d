"""Trainings side by side: each estimator comes to what it comes to when it is fitted alone to the same rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends import cpu
from skminibatch.estimators.shared import SharedRows
from skminibatch.preparation import full_steps
from skminibatch.training import lockstep
from skminibatch.training.lockstep import together
from skminibatch.training.work import carried_out

N, D = 700, 12
SEEDED = {"random_state": 0, "device": "cpu"}
EXPLICIT = {"learning_rate": "constant", "eta0": 0.02, "tol": None, "max_iter": 3}
WIDTHS = [{"batch_size": size} for size in (10, 30, 64, 200)]
PENALTIES = [{"alpha": 1e-2}, {"penalty": "l1", "alpha": 1e-3}, {"penalty": "elasticnet", "l1_ratio": 0.5}]
CLASSES = [{"class_weight": "balanced"}, {"class_weight": {0: 1.0, 1: 3.0}}]
ROWS = np.random.default_rng(5).permutation(N)[:500]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, D)) * np.geomspace(0.5, 2.0, D) + 0.2


@pytest.fixture(scope="module")
def score(rows):
    rng = np.random.default_rng(1)
    return rows @ rng.standard_normal(D) + rng.logistic(size=N)


@pytest.fixture
def at_once(monkeypatch):
    """Few rows count as many; the most models that a call of each verb has carried out at once."""
    counts = Counter()
    monkeypatch.setattr(lockstep, "FEWEST_PRODUCTS", 0)

    def counted(name, verb):
        def count(tasks, *others):
            assert len(tasks) > 1
            counts[name] = max(counts[name], len(tasks))
            return verb(tasks, *others)

        return count

    for name in ("run_lockstep", "gradients_dense"):
        monkeypatch.setattr(cpu, name, counted(name, getattr(cpu, name)))
    return counts


def trained_together(estimators, X, y, weights=None, rows=None):
    """The estimators after training, or their errors."""
    shared = SharedRows(estimators[0], X, y, weights, rows)
    errors = together([shared.training(estimator) for estimator in estimators])
    return [error or estimator for estimator, error in zip(estimators, errors, strict=True)]


def assert_as_alone(estimators, X, y, weights=None, rows=None, rtol=1e-10):
    """Each comes to what it comes to alone, on copies of the rows that are learnt from."""
    alone = [clone(estimator) for estimator in estimators]
    own = slice(None) if rows is None else rows
    for mine, other in zip(trained_together(estimators, X, y, weights, rows), alone, strict=True):
        other.fit(X[own], y[own], sample_weight=None if weights is None else weights[own])
        assert (mine.n_iter_, mine.t_, mine.n_updates_) == (other.n_iter_, other.t_, other.n_updates_)
        assert mine.stop_reason_.split()[:2] == other.stop_reason_.split()[:2]
        assert mine.n_features_in_ == other.n_features_in_
        np.testing.assert_allclose(mine.coef_, other.coef_, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(mine.intercept_, other.intercept_, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(mine.predict(X[:50]), other.predict(X[:50]), rtol=rtol, atol=rtol)
        for name, numbers in other.history_.items():
            if name not in ("seconds", "noise_scale", "update_variance", "temperature"):
                np.testing.assert_allclose(mine.history_[name], numbers, rtol=10 * rtol, atol=10 * rtol, err_msg=name)


def of(cls, changes, **settings):
    """Estimators that differ in some parameters."""
    return [cls(**SEEDED, **{**settings, **change}) for change in changes]


weighted = pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])


@weighted
@pytest.mark.parametrize("subset", [None, ROWS], ids=["all", "some"])
@pytest.mark.parametrize("ends", ["tol=None", "tol", "at the minimum"])
def test_the_default_solver(ends, subset, weighted, rows, score, at_once, monkeypatch):
    """Several epochs of two stages, of all penalties and class weights; few rows end at the minimum after one."""
    settings = {"tol": None, "max_iter": 5} if ends == "tol=None" else {}
    if ends == "tol":
        monkeypatch.setattr(full_steps, "MOST_OPERATIONS", 0)
    weights = np.random.default_rng(2).integers(0, 4, N).astype(float) if weighted else None
    changes = [{}, {}, *WIDTHS[:3], *PENALTIES, *CLASSES]
    estimators = of(MiniBatchSGDClassifier, changes, **settings)
    assert_as_alone(estimators, rows, (score > 0).astype(int), weights, subset, rtol=1e-9)
    assert at_once["run_lockstep"] > 2
    assert (at_once["gradients_dense"] > 1) == (ends != "at the minimum")


@pytest.mark.parametrize("loss", ["squared_error", "huber", "quantile", "poisson"])
def test_the_default_solver_of_a_regressor(loss, rows, score, at_once):
    y = np.round(np.exp(np.clip(0.3 * score, -3, 3))) if loss == "poisson" else score
    estimators = of(MiniBatchSGDRegressor, [{}, *WIDTHS[:3], *PENALTIES], loss=loss)
    assert_as_alone(estimators, rows, y, None, ROWS, rtol=1e-9)
    assert (at_once["run_lockstep"] > 1) == (loss != "quantile")  # which so few rows learn by dual coordinate ascent


@pytest.mark.parametrize("solver", ["sgd", "momentum", "saga", "adam", "schedule_free"])
@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_solvers(solver, storage, rows, score, at_once):
    """At rates of their own, with weights and a limit of the gradient's norm."""
    X = rows if storage == "dense" else sparse.csr_matrix(rows * (np.random.default_rng(3).random(rows.shape) < 0.3))
    changes = [*WIDTHS, *PENALTIES[:1], {"eta0": 0.005}, {"fit_intercept": False}, {"standardize": True}]
    changes += [{"clip_norm": 0.3}] if solver != "saga" else []
    if storage == "dense":
        changes += PENALTIES[1:]
    y = (score > 0).astype(int)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, N)
    assert_as_alone(of(MiniBatchSGDClassifier, changes, solver=solver, **EXPLICIT), X, y, weights, ROWS)
    together_here = storage == "dense" or solver != "adam"
    assert (at_once["run_lockstep"] > 3) == together_here


def test_solvers_side_by_side(rows, score, at_once):
    changes = [
        {"solver": solver} for solver in ("sgd", "momentum", "nesterov", "saga", "adam", "adamw", "rmsprop", "adagrad")
    ]
    assert_as_alone(of(MiniBatchSGDClassifier, changes, **EXPLICIT), rows, (score > 0).astype(int), None, ROWS)
    assert at_once["run_lockstep"] >= len(changes) - 1  # SAGA first makes its table


@pytest.mark.parametrize("settings", [EXPLICIT, {"tol": None, "max_iter": 3}], ids=["explicit", "auto"])
def test_several_outputs(settings, rows, score, at_once):
    labels = np.digitize(score, [-2.0, 2.0])
    assert_as_alone(of(MiniBatchSGDClassifier, WIDTHS, **settings), rows, labels, None, ROWS)
    Y = np.column_stack([score, -score, rows[:, 0]])
    assert_as_alone(of(MiniBatchSGDRegressor, WIDTHS, **settings), rows, Y, None, ROWS)
    assert at_once["run_lockstep"] == len(WIDTHS)


@pytest.mark.parametrize("sampler", ["shuffle", "replacement", "sequential", "blocks"])
@pytest.mark.parametrize("solver", ["sgd", "auto"])
def test_samplers(sampler, solver, rows, score, at_once):
    settings = EXPLICIT if solver == "sgd" else {"tol": None, "max_iter": 3}
    estimators = of(MiniBatchSGDClassifier, WIDTHS, solver=solver, sampler=sampler, **settings)
    assert_as_alone(estimators, rows, (score > 0).astype(int), None, ROWS)


@pytest.mark.parametrize("settings", [EXPLICIT, {"tol": None, "max_iter": 3}], ids=["explicit", "auto"])
def test_more_rows_than_are_examined(settings, at_once):
    """Samples of rows, and orders that are computed: with a subset of the rows they are those of its positions."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((9_000, 3))
    y = (X[:, 0] + rng.logistic(size=9_000) > 0).astype(int)
    chosen = np.sort(rng.permutation(9_000)[:7_000])
    assert_as_alone(of(MiniBatchSGDClassifier, WIDTHS[1:], **settings), X, y, None, chosen)
    assert at_once["run_lockstep"] == 3


@pytest.mark.filterwarnings("ignore:Maximum number of iteration reached")
def test_early_stopping_and_schedules(rows, score, at_once):
    changes = [
        {"early_stopping": True},
        {"early_stopping": True, "batch_size": 20},
        {"lr_scaling": "sqrt", "batch_size": 16, "learning_rate": "constant", "eta0": 0.01},
        {"learning_rate": "invscaling", "eta0": 0.05},
        {"average": True, "learning_rate": "constant", "eta0": 0.02},
        {"shuffle": False},
        {"loss": "hinge"},
        {"loss": "modified_huber"},
    ]
    assert_as_alone(
        of(MiniBatchSGDClassifier, changes, max_iter=8, solver="sgd"), rows, (score > 0).astype(int), None, ROWS
    )
    assert at_once["run_lockstep"] > 1


def test_float32(rows, score, at_once):
    X = rows.astype(np.float32)
    assert_as_alone(of(MiniBatchSGDClassifier, WIDTHS, **EXPLICIT), X, (score > 0).astype(int), None, ROWS, rtol=1e-4)
    assert at_once["run_lockstep"] == len(WIDTHS)


@pytest.mark.parametrize("settings", [{}, {"solver": "sgd", **EXPLICIT}], ids=["auto", "sgd"])
@pytest.mark.parametrize("density", [0.05, 0.6])
def test_sparse_rows_of_which_some_are_learnt_from(density, settings, rows, score, at_once):
    """What storage suits the rows, and which features they have, is said by those alone."""
    rng = np.random.default_rng(6)
    X = np.zeros((N, 40))
    X[:, :D] = rows * (rng.random(rows.shape) < density / D * 40)
    X[np.setdiff1d(np.arange(N), ROWS), D:] = 1.0  # of the other rows only
    X = sparse.csr_matrix(X)
    assert_as_alone(of(MiniBatchSGDClassifier, WIDTHS, **settings), X, (score > 0).astype(int), None, ROWS)


def test_sparse_rows_that_are_written_out_are_shared(rows, score, at_once):
    """Rows without zeros are read as dense ones: by all models the same copy."""
    estimators = of(MiniBatchSGDClassifier, WIDTHS, tol=None, max_iter=3)
    assert_as_alone(estimators, sparse.csr_matrix(rows), (score > 0).astype(int), None, ROWS)
    assert at_once["run_lockstep"] == len(WIDTHS)


# -- those that end before the others


def test_a_training_that_fails_leaves_the_others(rows, score, at_once):
    settings = {**EXPLICIT, "solver": "sgd", "loss": "squared_error"}
    changes = [{"batch_size": 10}, {"eta0": 1e200}, {"batch_size": 64}, {"eta0": -1.0}, {"batch_size": 16}]
    estimators = of(MiniBatchSGDRegressor, changes, **settings)
    healthy = [clone(estimators[m]) for m in (0, 2, 4)]
    found = trained_together(estimators, rows, score, None, ROWS)
    assert isinstance(found[1], ValueError)
    assert "StandardScaler" in str(found[1])
    assert isinstance(found[3], ValueError)
    assert "eta0" in str(found[3])
    assert not hasattr(estimators[1], "coef_")
    for mine, other in zip((found[0], found[2], found[4]), healthy, strict=True):
        other.fit(rows[ROWS], score[ROWS])
        np.testing.assert_allclose(mine.coef_, other.coef_, rtol=1e-10, atol=1e-10)
    assert at_once["run_lockstep"] == 4


def test_one_that_stops_by_itself_leaves_the_others_going_on(rows, score, at_once):
    changes = [{"tol": 10.0, "max_iter": 50}, {"max_iter": 10}, {"max_iter": 12}]
    settings = {**EXPLICIT, "solver": "sgd", "batch_size": 20, "n_iter_no_change": 1}
    estimators = of(MiniBatchSGDClassifier, changes, **settings)
    assert_as_alone(estimators, rows, (score > 0).astype(int), None, ROWS)
    n_epochs = [estimator.n_iter_ for estimator in estimators]
    assert n_epochs[1:] == [10, 12]
    assert n_epochs[0] < 10


def test_what_is_alone_is_by_itself(rows, score, monkeypatch):
    """One training, batches of few rows, small rows and networks call no verb of several models."""
    y = (score > 0).astype(int)

    def refuse(*arguments):
        raise AssertionError("carried out at once")

    for name in ("run_lockstep", "gradients_dense"):
        monkeypatch.setattr(cpu, name, refuse)
    trained_together(of(MiniBatchSGDClassifier, WIDTHS, **EXPLICIT), rows, y)  # few numbers to multiply
    monkeypatch.setattr(lockstep, "FEWEST_PRODUCTS", 0)
    assert_as_alone(of(MiniBatchSGDClassifier, [{}], **EXPLICIT), rows, y)
    assert_as_alone(of(MiniBatchSGDClassifier, [{"batch_size": 1}, {"batch_size": 2}], **EXPLICIT), rows, y)
    network = MiniBatchMLPClassifier(hidden_layer_sizes=(4,), max_iter=2, tol=None, **SEEDED)
    networks = [clone(network), clone(network).set_params(batch_size=16)]
    assert all(hasattr(each, "coefs_") for each in trained_together(networks, rows, y))


def test_an_error_of_a_plan_is_raised_in_its_training(rows, score, monkeypatch):
    """As if it had been raised where the steps are asked for; and an interrupt ends all."""
    estimator = MiniBatchSGDClassifier(**SEEDED, **EXPLICIT)
    y = (score > 0).astype(int)
    for error in (RuntimeError, KeyboardInterrupt):

        def fail(*arguments, error=error):
            raise error

        monkeypatch.setattr(cpu, "run_dense", fail)
        shared = SharedRows(estimator, rows, y)
        with pytest.raises(error):
            carried_out(shared.training(estimator))
        assert not hasattr(estimator, "coef_")
        trainings = [shared.training(clone(estimator)) for _ in range(2)]
        if error is RuntimeError:
            assert [type(found) for found in together(trainings)] == [RuntimeError, RuntimeError]
        else:
            with pytest.raises(KeyboardInterrupt):
                together(trainings)
