"""Few rows, features and outputs: after the first epoch, full steps of Newton's method lead to the minimum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_linnerud, load_wine
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.preparation import full_steps
from skminibatch.preparation.full_steps import minimised, takes_full_steps
from tests.begun import begun, optimum_of
from tests.preparation.problems import LogCosh, predictor_of, problem

SMOOTH = ["squared_error", "no penalty", "no intercept", "standardize", "log_loss", "poisson", "softmax"]
QUICK = {"device": "base", "random_state": 0}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_it_is_the_minimum(name, weighted):
    start = problem(name, weighted)
    data = start.data._replace(rows=np.unique(start.data.rows_in_use), step_weights=None)
    found = minimised(start.model, data, predictor_of(start), tol=1e-3)
    best = optimum_of(start.gradients())
    least = sum(start.model.objective(data, data.evaluated_rows, best.predictor))
    objective = sum(start.model.objective(data, data.evaluated_rows, found.predictor))
    assert found.loss + found.penalty == pytest.approx(objective, rel=1e-9)
    assert objective <= least + 1e-9 * abs(least)
    assert 0 <= found.above <= 1e-6 * abs(objective)


def test_the_intercepts_of_softmax_keep_their_mean():
    """The objective does not depend on it, and rounding must not."""
    start = problem("softmax")
    predictor = predictor_of(start)
    found = minimised(start.model, start.data, predictor, tol=1e-3)
    axes = start.model.plain_axes
    np.testing.assert_allclose(
        axes.inside(*found.predictor)[:, -1].mean(), axes.inside(*predictor)[:, -1].mean(), rtol=1e-12
    )


def test_what_takes_full_steps(monkeypatch):
    start = problem("softmax")
    assert takes_full_steps(start.model, start.data)
    assert not takes_full_steps(problem("hinge").model, start.data)
    for name, enough in (("MOST_OPERATIONS", 90 * 25 * 6 + 15**3), ("MOST_DERIVATIVES", 90 * 9)):
        with monkeypatch.context() as patch:
            patch.setattr(full_steps, name, enough - 1)
            assert not takes_full_steps(start.model, start.data)
            patch.setattr(full_steps, name, enough)
            assert takes_full_steps(start.model, start.data)


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
@pytest.mark.parametrize("weights", [None, "balanced"])
def test_a_default_fit_of_few_rows_is_at_the_minimum(load, weights):
    X, y = load(return_X_y=True)
    X, settings = scale(X), {"class_weight": weights, **QUICK}
    few = MiniBatchSGDClassifier(**settings).fit(X, y)
    assert few.n_iter_ == 1
    assert "within tol=0.001 of the optimum" in few.stop_reason_
    exact = MiniBatchSGDClassifier(tol=1e-12, **settings).fit(X, y)
    np.testing.assert_allclose(few.loss_curve_[-1], exact.loss_curve_[-1], rtol=1e-6)
    start = begun(MiniBatchSGDClassifier(**settings), X, y)
    best = optimum_of(start.gradients()).predictor
    least = sum(start.model.objective(start.data, start.data.evaluated_rows, best))
    np.testing.assert_allclose(few.loss_curve_[-1], least, rtol=1e-6)


def small_sets() -> dict:
    """Rows and targets: of scikit-learn, and some that are hard."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((300, 50))
    heavy, equal = rng.standard_t(1.5, (400, 6)), rng.standard_normal((400, 5))
    equal[:, 1] = equal[:, 0] * (1.0 + 1e-7)
    return {
        **{load.__name__: load(return_X_y=True) for load in (load_iris, load_wine, load_breast_cancer)},
        **{load.__name__: load(return_X_y=True) for load in (load_diabetes, load_linnerud)},
        "heavy tails": (heavy, (heavy[:, 0] + rng.standard_normal(400) > 0).astype(int)),
        "no signal": (normal, rng.integers(0, 2, 300)),
        "a rare class": (normal[:, :4], (rng.random(300) < 0.02).astype(int)),
        "wide": (normal[:40], normal[:40, 0] + 0.1 * rng.standard_normal(40)),
        "collinear": (equal, equal[:, 0] + rng.standard_normal(400)),
        "counts": (normal[:, :4], rng.poisson(np.exp(1.5 * normal[:, 0])).astype(float)),
    }


SETTINGS_OF_SMALL = [
    {"alpha": 1e-4},
    {"alpha": 1.0, "fit_intercept": False, "weighted": True},
    {"alpha": 1e-4, "weighted": True, "dtype": np.float32},
]


@pytest.mark.slow
@pytest.mark.parametrize("name", small_sets())
@pytest.mark.parametrize("scaled", [False, True], ids=["raw", "scaled"])
def test_small_problems_end_at_the_minimum(name, scaled):
    """Within 1e-3 of the gain over a constant prediction, whatever the loss, the weights, the units and the type."""
    X, y = small_sets()[name]
    X = scale(X) if scaled else X
    make, losses = MiniBatchSGDClassifier, ["log_loss", "squared_hinge", "modified_huber", "squared_error"]
    if name == "counts":
        make, losses = MiniBatchSGDRegressor, ["poisson", "squared_error"]
    elif y.dtype == float:
        make, losses, y = MiniBatchSGDRegressor, ["squared_error", "huber"], scale(y)
    for changes in SETTINGS_OF_SMALL:
        settings = {**changes}
        weights = np.random.default_rng(1).pareto(1.5, len(y)) + 0.1 if settings.pop("weighted", False) else None
        rows = X.astype(settings.pop("dtype", np.float64))
        for loss in losses:
            model = make(loss=loss, **settings, random_state=0).fit(rows, y, sample_weight=weights)
            start = begun(
                make(loss=loss, **settings, random_state=0), rows.astype(np.float64), y, sample_weight=weights
            )
            data = start.data._replace(rows=np.unique(start.data.rows_in_use), step_weights=None)
            predictors = optimum_of(start.gradients()).predictor, start.recipe.constant, model._predictor()
            least, constant, found = (
                sum(start.model.objective(data, data.evaluated_rows, predictor)) for predictor in predictors
            )
            assert found - least <= 1e-3 * (constant - least) + 1e-12, (loss, changes)


@pytest.mark.parametrize("settings", [{"tol": None, "max_iter": 4}, {"early_stopping": True, "max_iter": 4}])
def test_epochs_that_are_asked_for_are_done(settings, binary, monkeypatch):
    def refused(*given):
        raise AssertionError("full steps")

    monkeypatch.setattr("skminibatch.preparation.second_stage.minimised", refused)
    model = MiniBatchSGDClassifier(**settings, **QUICK).fit(*binary)
    assert model.n_iter_ == 4


def test_epochs_follow_where_steps_do_not_arrive(binary, monkeypatch):
    monkeypatch.setattr(full_steps, "MOST_STEPS", 1)
    model = MiniBatchSGDClassifier(**QUICK).fit(*binary)
    assert model.n_iter_ > 1
    monkeypatch.undo()
    assert model.loss_curve_[-1] <= MiniBatchSGDClassifier(**QUICK).fit(*binary).loss_curve_[-1] * 1.001


@pytest.mark.parametrize("y", ["heavy", "perfect", "constant"])
def test_targets_that_are_hard_for_newton(y, rng):
    """A loss that is linear far off, a sum that falls to zero, and one that cannot fall."""
    X = rng.standard_normal((300, 4))
    targets = {
        "heavy": 50.0 * rng.standard_t(2, 300) - 300.0,
        "perfect": X @ [1.0, -2.0, 0.0, 3.0],
        "constant": X[:, 0] * 0.0,
    }
    for loss in (LogCosh(), "squared_error", "huber"):
        model = MiniBatchSGDRegressor(loss=loss, alpha=0.0, **QUICK).fit(X, targets[y])
        best = MiniBatchSGDRegressor(loss=loss, alpha=0.0, tol=1e-9, max_iter=3000, **QUICK).fit(X, targets[y])
        start = begun(MiniBatchSGDRegressor(loss=loss, alpha=0.0, **QUICK), X, targets[y])
        constant = sum(start.model.objective(start.data, start.data.evaluated_rows, start.recipe.constant))
        least = best.best_loss_
        assert model.loss_curve_[-1] - least <= 2e-3 * (constant - least) + 1e-12


@pytest.mark.parametrize("intercept", [False, True])
def test_hubers_loss_on_more_features_than_rows(intercept, rng):
    """All rows begin where the loss is linear, and end where it is zero."""
    X = rng.standard_normal((40, 60))
    y = X[:, 0] + 0.1 * rng.standard_normal(40)
    model = MiniBatchSGDRegressor(loss="huber", alpha=1e-4, fit_intercept=intercept, **QUICK).fit(X, y)
    start = begun(MiniBatchSGDRegressor(loss="huber", alpha=1e-4, fit_intercept=intercept, **QUICK), X, y)
    best = optimum_of(start.gradients()).predictor
    least = sum(start.model.objective(start.data, start.data.evaluated_rows, best))
    constant = sum(start.model.objective(start.data, start.data.evaluated_rows, start.recipe.constant))
    assert model.loss_curve_[-1] - least <= 1e-6 * (constant - least)


def test_rounding_counts(rng):
    """In single precision, the difference of two features that are all but equal cannot be told."""
    X = rng.standard_normal((500, 2))
    X[:, 1] = X[:, 0] + 3e-7 * X[:, 1]
    y = X[:, 0] + rng.standard_normal(500)
    start = begun(MiniBatchSGDRegressor(alpha=0.0, **QUICK), X.astype(np.float32), y)
    found = minimised(start.model, start.data, start.recipe.constant, tol=1e-3)
    objective = sum(start.model.objective(start.data, start.data.evaluated_rows, found.predictor))
    assert found.loss + found.penalty == objective
    double = begun(MiniBatchSGDRegressor(alpha=0.0, **QUICK), X.astype(np.float32).astype(float), y)
    least = minimised(double.model, double.data, double.recipe.constant, tol=1e-3)
    assert found.above >= 0.9 * (objective - least.loss - least.penalty)


def test_separable_classes_without_a_penalty(rng):
    """There is no minimum: the losses fall as long as there are steps."""
    X = rng.standard_normal((60, 3))
    model = MiniBatchSGDClassifier(alpha=0.0, max_iter=30, **QUICK).fit(X, (X[:, 0] > 0).astype(int))
    assert np.isfinite(model.coef_).all()
    assert model.loss_curve_[-1] < 0.01


def test_a_stream_and_a_warm_start_go_on_from_the_minimum(binary):
    X, y = binary
    model = MiniBatchSGDClassifier(warm_start=True, **QUICK).fit(X, y)
    before = model.coef_.copy()
    again = model.fit(X, y)
    np.testing.assert_allclose(again.coef_, before, rtol=1e-4)
    model.partial_fit(X[:5], y[:5])
    assert np.abs(model.coef_ - before).max() < 0.2 * np.abs(before).max()


def test_dense_and_sparse_rows_that_are_full_agree(binary):
    X, y = binary
    dense, full = (MiniBatchSGDClassifier(**QUICK).fit(rows, y).coef_ for rows in (X, sparse.csr_matrix(X)))
    np.testing.assert_allclose(dense, full, rtol=1e-9)
