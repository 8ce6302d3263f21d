"""How `fit` and `partial_fit` begin, stop, are interrupted and go on; callbacks, validation, history."""

from __future__ import annotations

import io
import pickle
import re
from contextlib import redirect_stdout

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.kinds import declaration
from skminibatch.optimizers import OPTIMIZERS
from skminibatch.training.online_newton import OnlineNewton
from tests.families import (
    LINEAR,
    classifiers,
    constant,
    every_solver,
    family_of,
    learnt,
    linear_models,
    of_estimators,
    regressors,
    weights_of,
)

QUICK = {"device": "base", "random_state": 0, "batch_size": 16}


def classes_of(estimator, y):
    return {"classes": np.unique(y)} if is_classifier(estimator) else {}


class Recorder:
    """A callback that writes down what it sees, and does something at the end or the beginning of an epoch."""

    def __init__(self, at_begin=None, at_end=None):
        self.at_begin, self.at_end, self.begun, self.ended, self.setups, self.teardowns = at_begin, at_end, [], [], 0, 0

    def setup(self, estimator, context):
        self.setups += 1

    def teardown(self, estimator, context):
        self.teardowns += 1

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        if context.task_name == "epoch":
            self.begun.append(context.task_id)
            return self.at_begin(context.task_id) if self.at_begin else None

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        if context.task_name == "epoch":
            self.ended.append((context.task_id, X, metadata, fitted_estimator))
            return self.at_end(context.task_id) if self.at_end else None


def interrupt_at(number):
    def act(task_id):
        if task_id == number:
            raise KeyboardInterrupt

    return act


# -- interrupted


@pytest.fixture(params=["callback before", "callback after", "kernel"])
def interrupted(request, estimator_class, problem, monkeypatch):
    """An estimator whose fit was interrupted in or before the third epoch."""
    solver = {"solver": "sgd"} if family_of(estimator_class) is LINEAR else {}  # a plan in each epoch
    estimator = estimator_class(max_iter=10, tol=None, **solver, **QUICK)
    if request.param == "callback before":
        estimator.set_callbacks(Recorder(at_begin=interrupt_at(2)))
    elif request.param == "callback after":
        estimator.set_callbacks(Recorder(at_end=interrupt_at(1)))
    else:
        model, calls = family_of(estimator).model, []
        run = model.run

        def interrupting(self, plan, params, data):
            calls.append(1)
            if len(calls) == 3:
                run(self, plan, params, data)  # half done: the parameters have moved
                raise KeyboardInterrupt
            return run(self, plan, params, data)

        monkeypatch.setattr(model, "run", interrupting)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(*problem)
    monkeypatch.undo()
    estimator.set_callbacks()
    return estimator


def test_an_interrupt_keeps_the_epochs_that_were_done(interrupted, problem):
    assert (interrupted.n_iter_, interrupted.t_) == (2, 480)
    assert "interrupted" in interrupted.stop_reason_
    assert len(interrupted.loss_curve_) == len(interrupted.history_["samples"]) == 2
    whole = clone(interrupted).set_params(max_iter=2).fit(*problem)
    np.testing.assert_array_equal(learnt(interrupted), learnt(whole))
    np.testing.assert_array_equal(interrupted.predict(problem.X), whole.predict(problem.X))
    # and one can go on
    interrupted.partial_fit(*problem)
    np.testing.assert_array_equal(learnt(interrupted), learnt(whole.partial_fit(*problem)))
    pickle.loads(pickle.dumps(interrupted)).partial_fit(*problem)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("fitted", [False, True])
def test_a_failure_in_the_first_epoch_leaves_the_estimator(error, fitted, estimator_class, problem, monkeypatch):
    estimator = estimator_class(max_iter=3, tol=None, **QUICK)
    if fitted:
        estimator.fit(*problem)
    before = {name: id(value) for name, value in vars(estimator).items()}, pickle.dumps(vars(estimator))

    def fail(*arguments):
        raise error

    for method in ("fit", "partial_fit"):
        with monkeypatch.context() as patch:
            patch.setattr(family_of(estimator).model, "run", fail)
            patch.setattr(OnlineNewton, "with_rows", fail)
            arguments = classes_of(estimator, problem.y) if method == "partial_fit" else {}
            with pytest.raises(error):
                getattr(estimator, method)(*problem, **arguments)
        assert ({name: id(value) for name, value in vars(estimator).items()}, pickle.dumps(vars(estimator))) == before


def test_an_error_in_a_callback_leaves_the_estimator(estimator_class, problem):
    def fail(task_id):
        raise RuntimeError("from a callback")

    estimator = estimator_class(max_iter=3, tol=None, **QUICK).fit(*problem)
    before = pickle.dumps({name: value for name, value in vars(estimator).items() if not name.startswith("_skl")})
    recorder = Recorder(at_end=fail)
    with pytest.raises(RuntimeError, match="from a callback"):
        estimator.set_callbacks(recorder).fit(*problem)
    after = {name: value for name, value in vars(estimator).items() if not name.startswith("_skl")}
    assert pickle.dumps(after) == before
    assert (recorder.setups, recorder.teardowns) == (1, 1)


# -- callbacks


def test_callbacks_see_each_epoch(estimator_class, problem):
    X, y = problem
    recorder = Recorder()
    estimator = estimator_class(max_iter=3, tol=None, **QUICK).set_callbacks(recorder)
    estimator.fit(X, y, sample_weight=np.ones(240))
    assert recorder.begun == [task_id for task_id, *_ in recorder.ended] == [0, 1, 2]
    assert (recorder.setups, recorder.teardowns) == (1, 1)
    scores = [fitted.score(X, y) for _, _, _, fitted in recorder.ended]
    assert scores[-1] == estimator.score(X, y)
    assert len(set(scores)) > 1  # a model of its own for each epoch
    for _, given, metadata, _ in recorder.ended:
        assert given is X
        np.testing.assert_array_equal(metadata["sample_weight"], np.ones(240))
    assert not [name for name in vars(estimator) if "ctx" in name or "teardown" in name]


def test_a_callback_can_stop(estimator_class, problem):
    recorder = Recorder(at_end=lambda task_id: task_id == 1)
    estimator = estimator_class(max_iter=50, tol=None, **QUICK).set_callbacks(recorder).fit(*problem)
    assert estimator.n_iter_ == len(recorder.begun) == 2
    assert estimator.stop_reason_ == "a callback asked to stop"


def test_tasks_that_are_begun_are_ended(estimator_class, problem):
    """Also when training stops by itself."""
    recorder = Recorder()
    estimator_class(max_iter=200, tol=0.01, **QUICK).set_callbacks(recorder).fit(*problem)
    assert recorder.begun == [task_id for task_id, *_ in recorder.ended]


@pytest.mark.parametrize("where", ["estimator", "pipeline", "search"])
@classifiers
def test_scoring_monitor(where, estimator_class, binary):
    """A score an epoch: of the estimator, in a pipeline and of each candidate and fold of a search."""
    monitor = ScoringMonitor(scoring="accuracy")
    classifier = estimator_class(max_iter=4, tol=None, **QUICK, **family_of(estimator_class).soon)
    classifier.set_callbacks(monitor)
    if where == "estimator":
        classifier.fit(*binary)
    elif where == "pipeline":
        make_pipeline(StandardScaler(), classifier).fit(*binary)
    else:
        model = make_pipeline(StandardScaler(), classifier)
        name = model.steps[-1][0]
        search = GridSearchCV(model, {f"{name}__batch_size": [16, 64]}, cv=2, error_score="raise")
        search.fit(*binary)
        assert search.best_score_ > 0.7
    (log,) = monitor.get_logs(select="all")
    epochs = [row for row in log.data if row["task_name"] == "epoch"]
    assert len(epochs) == 4 * (5 if where == "search" else 1)  # of two candidates, two folds and the refit
    assert len({row["parent_task_id_path"] for row in epochs}) == len(epochs) / 4
    assert all(0.4 < row["accuracy"] <= 1 for row in epochs)


@of_estimators([MiniBatchSGDClassifier])  # the others measure no objective after the epoch
def test_scoring_monitor_scores_what_the_epoch_predicts(estimator_class, binary):
    monitor = ScoringMonitor(scoring="neg_log_loss")
    classifier = estimator_class(max_iter=3, tol=None, alpha=0.0, **QUICK).set_callbacks(monitor)
    classifier.fit(*binary)
    scores = [row["neg_log_loss"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    np.testing.assert_allclose(scores, -classifier.loss_curve_, rtol=1e-9)


def test_progress_bar(estimator_class, problem):
    pytest.importorskip("rich")
    with redirect_stdout(io.StringIO()):
        estimator = estimator_class(max_iter=3, tol=None, **QUICK).set_callbacks(ProgressBar())
        estimator.fit(*problem)
        pipeline = make_pipeline(StandardScaler(), clone(estimator).set_callbacks())
        pipeline.set_callbacks(ProgressBar()).fit(*problem)
    assert estimator.n_iter_ == pipeline[-1].n_iter_ == 3


# -- validation and early stopping


def test_early_stopping_restores_the_best_weights(estimator_class, problem):
    """With a validation set of the user's own; `best_validation_score_` is the score of what is kept."""
    X, y = problem
    rng = np.random.default_rng(0)
    X_val, y_val = X[:60] + 0.5 * rng.standard_normal((60, 5)), y[:60]
    worst = {"alpha": 0.0, "tol": 0.0, "n_iter_no_change": 5, **family_of(estimator_class).restless}
    estimator = estimator_class(early_stopping=True, max_iter=60, **worst, **QUICK)
    estimator.fit(X, y, X_val=X_val, y_val=y_val)
    scores = estimator.validation_scores_
    assert scores.size == estimator.n_iter_
    best = int(np.argmax(scores))
    assert best < scores.size - 1  # the best epoch is not the last
    assert estimator.best_validation_score_ == scores[best]
    np.testing.assert_allclose(estimator.score(X_val, y_val), scores[best])
    again = clone(estimator).set_params(early_stopping=False, max_iter=best + 1, tol=None).fit(X, y)
    np.testing.assert_array_equal(learnt(estimator), learnt(again))
    assert "validation score" in estimator.stop_reason_


def test_a_validation_set_without_early_stopping_gives_the_curve(estimator_class, problem):
    X, y = problem
    estimator = estimator_class(max_iter=6, tol=None, **QUICK).fit(X, y, X_val=X[:50], y_val=y[:50])
    np.testing.assert_array_equal(estimator.validation_scores_, estimator.history_["validation_score"])
    np.testing.assert_allclose(estimator.validation_scores_[-1], estimator.score(X[:50], y[:50]))
    assert estimator.best_validation_score_ == estimator.validation_scores_.max()
    plain = estimator_class(max_iter=6, tol=None, **QUICK).fit(X, y)
    assert plain.validation_scores_ is None
    assert plain.best_validation_score_ is None


@classifiers
def test_validation_weights_count(estimator_class, binary):
    X, y = binary
    X_val, y_val = X[:47], y[:47]
    weights = (np.arange(47) < 20).astype(float)
    fits = [
        estimator_class(max_iter=3, tol=None, **QUICK).fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=w)
        for w in (weights, None)
    ]
    few = estimator_class(max_iter=3, tol=None, **QUICK).fit(X, y, X_val=X[:20], y_val=y[:20])
    np.testing.assert_allclose(fits[0].validation_scores_, few.validation_scores_)
    assert not np.array_equal(fits[0].validation_scores_, fits[1].validation_scores_)


@classifiers
def test_validation_rows_are_not_trained_on(estimator_class, binary):
    """A part of the rows, of each class its share, is held out."""
    X, y = binary
    classifier = estimator_class(early_stopping=True, validation_fraction=0.25, max_iter=2, tol=None, **QUICK)
    assert classifier.fit(X, y).t_ == 2 * 180
    seen = []

    def scoring(estimator, X, y):
        seen.append((X.shape, np.mean(y)))
        return 0.5

    classifier.set_params(scoring=scoring).fit(X, y)
    assert seen[0][0] == (60, 5)
    np.testing.assert_allclose(seen[0][1], y.mean(), atol=0.02)


@classifiers
def test_scoring_is_scikit_learns(estimator_class, binary):
    X, y = binary
    classifier = estimator_class(scoring="neg_log_loss", max_iter=3, tol=None, **QUICK)
    classifier.fit(X, y, X_val=X[:50], y_val=y[:50])
    np.testing.assert_allclose(
        classifier.validation_scores_[-1], -log_loss(y[:50], classifier.predict_proba(X[:50])), rtol=1e-6
    )


# -- going on


def test_warm_start_goes_on(estimator_class, problem):
    """With a rate of almost nothing, `fit` leaves what the last one found."""
    estimator = estimator_class(max_iter=3, tol=None, warm_start=True, **QUICK).fit(*problem)
    before = learnt(estimator)
    estimator.set_params(max_iter=1, **constant(estimator, 1e-12)).fit(*problem)
    np.testing.assert_allclose(learnt(estimator), before, atol=1e-9)
    assert estimator.n_iter_ == 1
    with pytest.raises(ValueError, match="X has 4 features, but"):
        estimator.fit(problem.X[:, :4], problem.y)


def test_warm_start_false_forgets(estimator_class, problem):
    estimator = estimator_class(max_iter=3, tol=None, **QUICK)
    first = learnt(estimator.fit(*problem))
    np.testing.assert_array_equal(learnt(estimator.fit(*problem)), first)
    estimator.fit(problem.X[:, :3], problem.y)
    assert estimator.n_features_in_ == 3


@pytest.mark.parametrize("solver", OPTIMIZERS)
@linear_models
def test_coef_init_is_the_start(solver, estimator_class, problem):
    """A rate of almost nothing leaves what it starts from; dual coordinate ascent starts from residuals, see test_sdca.py."""
    if declaration(OPTIMIZERS[solver])["dual"]:
        return
    X, y = problem
    coef, intercept = np.array([1.0, -2.0, 0.5, 0.0, 3.0]), [0.7]
    for given in (X, sparse.csr_matrix(X)):
        estimator = estimator_class(
            solver=solver, learning_rate="constant", eta0=1e-12, max_iter=1, tol=None, alpha=0.0, **QUICK
        )
        estimator.fit(given, y, coef_init=coef, intercept_init=intercept)
        np.testing.assert_allclose(np.ravel(estimator.coef_), coef, atol=1e-9)
        np.testing.assert_allclose(estimator.intercept_, intercept, atol=1e-9)
    raw = X * [1.0, 10.0, 0.1, 1.0, 1.0] + [
        0.0,
        5.0,
        0.0,
        -3.0,
        0.0,
    ]  # unscaled: the start is that of the features as given
    estimator = estimator_class(max_iter=1, tol=None, alpha=0.0, standardize=True, solver=solver, **QUICK)
    estimator.set_params(learning_rate="constant", eta0=1e-12).fit(raw, y, coef_init=coef, intercept_init=intercept)
    np.testing.assert_allclose(np.ravel(estimator.coef_), coef, atol=1e-8)
    np.testing.assert_allclose(estimator.intercept_, intercept, atol=1e-8)


def test_coef_init_of_another_model(regression):
    """scikit-learn's coefficients as they are."""
    theirs = SGDRegressor(random_state=0).fit(*regression)
    ours = MiniBatchSGDRegressor(max_iter=1, tol=None, **QUICK)
    ours.fit(*regression, coef_init=theirs.coef_, intercept_init=theirs.intercept_)
    assert ours.score(*regression) > 0.95


@pytest.mark.parametrize("storage", ["dense", "sparse", "float32"])
@every_solver
@pytest.mark.parametrize("average", [False, True])
def test_pickle_then_partial_fit_goes_on_bit_for_bit(solver, average, storage, estimator_class, problem):
    if declaration(OPTIMIZERS[solver])["per_row"] or (average and solver != "sgd"):
        return  # no partial_fit, or averaged as any other
    X, y = problem
    X = {"dense": X, "sparse": sparse.csr_matrix(X), "float32": X.astype(np.float32)}[storage]
    estimator = estimator_class(solver=solver, average=average, **family_of(estimator_class).stateful, **QUICK)
    for begin in ("partial_fit", "fit"):
        if begin == "fit":
            estimator.set_params(max_iter=2, tol=None).fit(X, y)
        else:
            estimator.partial_fit(X[:100], y[:100], **classes_of(estimator, y))
        copy = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(copy.predict(X), estimator.predict(X))
        for rows in (slice(100, 170), slice(170, 240)):
            copy.partial_fit(X[rows], y[rows])
            estimator.partial_fit(X[rows], y[rows])
        np.testing.assert_array_equal(learnt(copy), learnt(estimator))
        assert copy.t_ == estimator.t_


def test_a_pickle_holds_no_data(estimator_class):
    """It grows with the features, not with the rows."""
    rng = np.random.default_rng(0)
    sizes = []
    for n_rows in (2_000, 20_000):
        X = rng.standard_normal((n_rows, 4))
        estimator = estimator_class(max_iter=2, tol=None, device="base", batch_size=500, random_state=0)
        sizes.append(len(pickle.dumps(estimator.fit(X, (X[:, 0] > 0).astype(int)))))
    assert sizes[1] < sizes[0] + 1000


def test_clone_is_unfitted_and_equal(estimator_class, problem):
    estimator = estimator_class(max_iter=3, tol=None, **QUICK).fit(*problem)
    copy = clone(estimator)
    assert not hasattr(copy, "n_iter_")
    assert copy.get_params() == estimator.get_params()
    np.testing.assert_array_equal(learnt(copy.fit(*problem)), learnt(estimator))


def test_the_same_seed_gives_the_same_bits(estimator_class, problem):
    settings = {"max_iter": 3, "tol": None, "device": "base", "batch_size": 16, "solver": "sgd"}  # not to the optimum
    fits = [learnt(estimator_class(random_state=seed, **settings).fit(*problem)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])
    state = np.random.RandomState(0)
    instances = [learnt(estimator_class(random_state=state, **settings).fit(*problem)) for _ in range(2)]
    assert not np.array_equal(instances[0], instances[1])


# -- stopping and history


def test_max_time_stops(estimator_class, problem):
    estimator = estimator_class(max_iter=100_000, tol=None, max_time=0.05, **QUICK).fit(*problem)
    assert estimator.n_iter_ < 100_000
    assert estimator.stop_reason_ == "stopped after max_time=0.05 s"


def test_max_iter_without_convergence_warns(estimator_class, problem):
    settings = {"solver": "sgd"} if family_of(estimator_class) is LINEAR else {}  # a Newton step may be enough
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration reached before convergence"):
        estimator = estimator_class(max_iter=2, tol=1e-9, **settings, **QUICK).fit(*problem)
    assert estimator.stop_reason_ == "reached max_iter=2 epochs"
    assert estimator.n_iter_ == 2


def test_tol_stops_and_says_so(estimator_class, problem):
    estimator = estimator_class(tol=0.01, n_iter_no_change=2, **QUICK).fit(*problem)
    assert estimator.n_iter_ < 200
    if family_of(estimator_class) is LINEAR:
        assert "the objective is within tol=0.01 of the optimum" in estimator.stop_reason_
        return
    assert "objective decreased per epoch by less than tol=0.01" in estimator.stop_reason_
    assert " 2 " in estimator.stop_reason_  # in so many checks in a row


HISTORY = {
    "epoch", "samples", "updates", "rate", "batch_size", "loss", "penalty", "validation_score", "validation_loss",
    "gradient_norm", "noise_scale", "update_variance", "temperature", "seconds",
}  # fmt: skip


OF_NOISE = {"gradient_norm", "noise_scale", "update_variance", "temperature"}


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_history(storage, estimator_class, problem):
    X = sparse.csr_matrix(problem.X) if storage == "sparse" else problem.X
    # a penalty that is too weak to hide the noise scale
    settings = {"solver": "saga"} if family_of(estimator_class) is LINEAR else {}
    settings |= {"max_iter": 5, "tol": None, "alpha": 1e-3, "random_state": 0, "batch_size": 16}
    estimator = estimator_class(**settings).fit(X, problem.y)
    history = estimator.history_
    assert set(history) == HISTORY
    for name, numbers in history.items():
        assert numbers.shape == (5,), name
        measured = np.isfinite(numbers)
        if name in OF_NOISE and family_of(estimator_class) is LINEAR:  # not with a table: not after the first epoch
            assert not measured[1:].any(), name
        else:
            assert name.startswith("validation") or measured.all(), name
    np.testing.assert_array_equal(history["epoch"], np.arange(1, 6))
    np.testing.assert_array_equal(history["samples"], 240 * np.arange(1, 6))
    np.testing.assert_array_equal(history["updates"], 15 * np.arange(1, 6))
    np.testing.assert_array_equal(history["batch_size"], 16)
    assert np.all(np.diff(history["seconds"]) >= 0)
    np.testing.assert_allclose(estimator.loss_curve_, history["loss"] + history["penalty"])
    assert estimator.best_loss_ == estimator.loss_curve_.min()
    np.testing.assert_allclose(history["penalty"][-1], 5e-4 * np.sum(weights_of(estimator) ** 2), rtol=1e-9)


def test_the_history_of_a_stream_is_thinned(estimator_class, problem, monkeypatch):
    X, y = problem
    monkeypatch.setattr("skminibatch.training.state.LONGEST_HISTORY", 16)
    estimator = estimator_class(**QUICK)
    for _ in range(100):
        estimator.partial_fit(X[:20], y[:20], **classes_of(estimator, y))
    assert 4 <= len(estimator.loss_curve_) <= 16
    assert estimator.history_["samples"][-1] == estimator.t_ == 2000
    assert estimator.history_["epoch"][-1] == 100
    for name in ("epoch", "samples", "seconds"):
        assert np.all(np.diff(estimator.history_[name]) > 0), name


def test_the_history_of_a_fit_has_every_epoch(estimator_class, problem, monkeypatch):
    monkeypatch.setattr("skminibatch.training.state.LONGEST_HISTORY", 16)
    settings = {"max_iter": 40, "tol": None, **family_of(estimator_class).restless, **QUICK}
    estimator = estimator_class(**settings).fit(problem.X[:60], problem.y[:60])
    np.testing.assert_array_equal(estimator.history_["epoch"], np.arange(1, 41))
    estimator.partial_fit(problem.X[:20], problem.y[:20])  # a stream from here on
    assert len(estimator.loss_curve_) < 40
    assert estimator.history_["epoch"][-1] == 41
    assert estimator.best_loss_ <= estimator.loss_curve_.min()


def test_validation_loss_is_the_loss_of_training_on_the_validation_rows(estimator_class, problem):
    """Without the penalty; beside it the score, whose best epoch is told."""
    X, y = problem
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    settings = {"max_iter": 6, "tol": None, "alpha": 0.1, **QUICK}
    rows = {"X_val": X[:50], "y_val": y[:50], "sample_weight_val": weights[:50]}
    estimator = estimator_class(**settings).fit(X[50:], y[50:], **rows)
    history = estimator.history_
    assert estimator.best_epoch_ == history["epoch"][np.argmax(history["validation_score"])]
    if hasattr(estimator, "predict_proba"):
        raw = estimator.predict_proba(X[:50])
        expected = log_loss(y[:50], raw, sample_weight=weights[:50])
    else:
        expected = 0.5 * np.average((estimator.predict(X[:50]) - y[:50]) ** 2, weights=weights[:50])
    np.testing.assert_allclose(history["validation_loss"][-1], expected, rtol=1e-6)
    assert estimator_class(**settings).fit(X, y).best_epoch_ is None


def test_loss_curve_is_the_objective_of_what_predicts(regression):
    X, y = regression
    regressor = MiniBatchSGDRegressor(alpha=0.5, max_iter=4, tol=None, **QUICK).fit(X, y)
    residuals = regressor.predict(X) - y
    expected = 0.5 * np.mean(residuals**2) + 0.5 * 0.5 * np.sum(regressor.coef_**2)
    np.testing.assert_allclose(regressor.loss_curve_[-1], expected, rtol=1e-9)


def test_verbose_prints_each_epoch(estimator_class, problem, capsys):
    settings = {"max_iter": 3, "tol": None, **QUICK}
    estimator_class(verbose=1, **settings).fit(*problem)
    *epochs, end = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Compiling")]
    assert [line.split(":")[0] for line in epochs] == [f"Epoch {number} of 3" for number in (1, 2, 3)]
    assert all(re.fullmatch(r"Epoch . of 3: objective \S+, (rate \S+, )?\S+ s", line) for line in epochs)
    assert end == "Training ended: reached max_iter=3 epochs."
    estimator_class(**settings).fit(*problem)
    assert capsys.readouterr().out == ""


def test_verbose_marks_the_best_epoch(estimator_class, problem, capsys):
    X, y = problem
    settings = {"max_iter": 8, "tol": None, "verbose": 1, **QUICK}
    estimator = estimator_class(**settings).fit(X[60:], y[60:], X_val=X[:60], y_val=y[:60])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")]
    scores = estimator.validation_scores_
    for number, line in enumerate(lines):
        assert f"validation score {scores[number]:.4g}" in line
        assert "validation loss" in line
        assert ("(best so far)" in line) == (number == 0 or scores[number] > scores[:number].max())


def test_verbose_of_a_stream(estimator_class, problem, capsys):
    X, y = problem
    quiet, loud = (estimator_class(verbose=verbose, **QUICK) for verbose in (1, 2))
    for rows in (slice(0, 20), slice(20, 40)):
        quiet.partial_fit(X[rows], y[rows], **classes_of(quiet, y))
    assert capsys.readouterr().out == ""
    for rows in (slice(0, 20), slice(20, 40)):
        loud.partial_fit(X[rows], y[rows], **classes_of(loud, y))
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Compiling")]
    assert [line.split(":")[0] for line in lines] == ["Call 1", "Call 2"]
    assert "40 rows so far" in lines[1]


@pytest.mark.parametrize(("device", "expected"), [("auto", "cpu"), ("cpu", "cpu"), ("base", "base")])
def test_device_says_where_it_ran(device, expected, estimator_class, problem):
    estimator = estimator_class(device=device, random_state=0, max_iter=1, tol=None).fit(*problem)
    assert estimator.device_ == expected


@pytest.mark.parametrize(("given", "used"), [(1, 1), (64, 64), (0.1, 24), ("full", 240), (1000, 240), (np.int64(7), 7)])
@regressors
def test_batch_size_says_what_was_used(given, used, estimator_class, regression):
    settings = {**QUICK, "batch_size": given, "max_iter": 1, "tol": None}
    regressor = estimator_class(**settings).fit(*regression)
    assert regressor.batch_size_ == used
    assert regressor.n_updates_ - -(-240 // used) in ([0, 1] if used == 1 else [0])  # a single row may come twice
