"""Round coordinates of a model: the objective is unchanged, the penalty diagonal, the curvature the same everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.coordinates import AsGiven, RoundCoordinates
from skminibatch.estimators import pairs
from skminibatch.models.curvature import LEAST
from skminibatch.models.data import Data
from skminibatch.models.view import gradients_of
from skminibatch.penalties import ElasticNet
from skminibatch.preparation import rounding, second_stage
from skminibatch.preparation.rounding import gradient_in, in_round_coordinates, suits_rounding, written_out
from skminibatch.preparation.second_stage import RowCurvatures
from tests.begun import begun, optimum_of
from tests.preparation.problems import CASES, SETTINGS, D, N, predictor_of, problem

every_case = pytest.mark.parametrize("name", CASES)
with_and_without_weights = pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])


def rounded(start, predictor):
    """(model, data, curvatures) in round coordinates at a predictor; the rows in use, each once."""
    data = Data(start.data.X, start.data.y, start.data.weights, start.data.rows)
    curvatures = RowCurvatures.of(start.model, data, predictor)
    model = in_round_coordinates(start.model, data, data.rows_in_use, *curvatures[:1], *curvatures[2:])
    return model, written_out(model, data)[0], curvatures


@every_case
@with_and_without_weights
def test_the_objective_is_unchanged(name, weighted):
    """Any parameters inside are a predictor outside, and the penalty of the coordinates is that of its coefficients."""
    start = problem(name, weighted)
    predictor = predictor_of(start)
    model, data, _ = rounded(start, predictor)
    params = model.start(predictor)
    for found, expected in zip(model.predictor(params, None), predictor, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    rng = np.random.default_rng(2)
    w, b = rng.standard_normal(params[0][:, :-1].shape), rng.standard_normal(len(params[0]))
    coef, intercept = model.axes.outside(w, b)
    raw = data.written @ w.T + b
    np.testing.assert_allclose(raw, data.X @ coef.T + intercept, rtol=1e-7, atol=1e-7)
    inside = np.sum(model.penalty.value(w * model.axes.stretch))
    np.testing.assert_allclose(inside, start.model.penalty_value((coef, intercept)), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(model.penalty_value((coef, intercept)), start.model.penalty_value((coef, intercept)))


@every_case
@with_and_without_weights
def test_the_curvature_is_the_same_in_every_direction(name, weighted):
    """``Z' diag(curvatures) Z / n`` and the penalty are a multiple of the identity; so is the part of the intercept."""
    start = problem(name, weighted)
    model, data, curvatures = rounded(start, predictor_of(start))
    Z = np.hstack([data.written, np.ones((N, 1))]) if model.fit_intercept else data.written
    H = (Z.T * curvatures.near) @ Z / data.n_rows
    H[np.arange(D), np.arange(D)] += model.ridge_of_coordinates()
    np.testing.assert_allclose(H, model.axes.curvature * np.eye(len(H)), atol=1e-4 * model.axes.curvature)
    assert model.axes.curvature == pytest.approx(curvatures.near.sum() / data.n_rows)


def test_the_penalty_is_diagonal():
    """As a quadratic form of the parameters inside."""
    start = problem("squared_error")
    model, _, _ = rounded(start, predictor_of(start))
    form = np.array([model.axes.outside(row[None], np.zeros(1))[0][0] for row in np.eye(D)])
    np.testing.assert_allclose(
        form @ form.T, np.diag(model.axes.stretch**2), atol=1e-9 * np.max(model.axes.stretch) ** 2
    )
    assert np.ptp(model.axes.stretch) > 0.01 * model.axes.stretch.max()


@every_case
def test_the_gradient_inside_is_that_of_the_objective(name):
    """By the parameters: the stored mean and the ridge, against the chain rule."""
    start = problem(name, True)
    predictor = predictor_of(start)
    model, data, _ = rounded(start, predictor)
    stored = model.stored(data, predictor)
    params = model.start(predictor)
    inside = stored.mean.copy()
    inside[:, :-1] += model.ridge_of_coordinates() * params[0][:, :-1]
    at = gradients_of(model, data._replace(table=stored.table), predictor)
    expected = at.by_coordinate(at.loss_gradient() + at.penalty_gradient())
    np.testing.assert_allclose(inside, expected, rtol=1e-6, atol=1e-8)
    lengths = np.sum(data.written**2, axis=1) + model.fit_intercept
    np.testing.assert_allclose(stored.lengths[data.rows_in_use], lengths[data.rows_in_use], rtol=1e-6)
    np.testing.assert_allclose(written_out(model, data)[1], lengths, rtol=1e-12)
    # and by the coordinates before, without the rows being written out
    given = start.model.stored(start.data._replace(rows=data.rows), predictor)
    np.testing.assert_allclose(gradient_in(model.axes, start.model.axes, given.mean), stored.mean, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["squared_error", "no intercept", "standardize", "log_loss", "poisson", "softmax"])
def test_the_distance_is_what_the_objective_can_fall_by(name, monkeypatch):
    """By the gradient where the table was made: near the optimum within the flatness, and exact for squared errors."""
    monkeypatch.setattr(second_stage, "newton_step", lambda model, data, predictor, gradient: (0.0 * gradient, 0.0))
    start = problem(name)
    best = optimum_of(start.gradients())
    rng = np.random.default_rng(3)
    near = best.at(best.point + 1e-3 * rng.standard_normal(best.point.shape) * np.abs(best.point))
    progress, _, _ = start.then(start.progress(near.predictor)).finish()
    distance, excess = (
        progress.model.distance(progress.params, start.data, np.nan).estimate,
        near.smooth_objective() - best.smooth_objective(),
    )
    if name in ("squared_error", "no intercept", "standardize"):
        assert distance == pytest.approx(excess, rel=1e-4)
    else:
        assert (
            0.5 * excess < distance < 60 * excess
        )  # curvatures are those of the stiffest output, and at least a share
    at_best, _, _ = start.then(start.progress(best.predictor)).finish()
    assert at_best.model.distance(at_best.params, start.data, np.nan).estimate < 1e-6 * distance


def test_the_distance_is_known_with_a_table_in_round_coordinates_alone():
    start = problem("squared_error")
    assert np.all(np.isnan(start.model.distance(start.fitted.params, start.data, np.nan)))
    kink = problem("hinge")
    progress, _, _ = kink.then(kink.progress(predictor_of(kink))).finish()
    assert isinstance(progress.model.axes, RoundCoordinates)
    assert np.all(np.isnan(progress.model.distance(progress.params, start.data, np.nan)))


def test_curvatures_of_rows_are_between_a_share_of_the_bound_and_the_bound():
    start = problem("log_loss")
    coef, intercept = predictor_of(start)
    p = 1 / (1 + np.exp(-(start.data.X @ coef[0] + intercept)))
    found = RowCurvatures.of(start.model, start.data, (coef, intercept))
    np.testing.assert_allclose(found.bounds, 0.25)
    np.testing.assert_allclose(found.near, np.maximum(p * (1 - p), LEAST * 0.25), rtol=1e-9)
    assert found.flatness == pytest.approx(1.0)
    np.testing.assert_allclose(found.near - found.lifts, p * (1 - p), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "suits"),
    [
        ({}, True),
        ({"storage": sparse.csr_matrix}, False),
        ({"penalty": ElasticNet(0.1, 0.1)}, False),
        ({"penalty": ElasticNet(0.0, 0.1)}, False),
        ({"features": D - 1}, False),
        ({"bytes": N * D * 8 - 1}, False),
        ({"features": D, "bytes": N * D * 8}, True),
    ],
    ids=str,
)
def test_what_suits(change, suits, monkeypatch):
    """Dense rows on the host, not too many, and a penalty that is a square."""
    start = problem("squared_error")
    monkeypatch.setattr(rounding, "MOST_FEATURES", change.get("features", 512))
    monkeypatch.setattr(rounding, "MOST_BYTES", change.get("bytes", 1 << 30))
    model = replace(start.model, penalty=change.get("penalty", start.model.penalty))
    data = start.data._replace(X=change.get("storage", np.asarray)(start.data.X))
    assert suits_rounding(model, data) == suits
    # and in a fit
    start = start._replace(fitted=replace(start.fitted, model=model), data=data)
    if "penalty" not in change and "storage" not in change:
        progress, rows, _ = start.then(start.progress(predictor_of(start))).finish()
        assert isinstance(progress.model.axes, RoundCoordinates) == suits
        assert (rows.written is not None) == suits


@pytest.mark.parametrize("settings", [{"penalty": "l1"}, {"penalty": "elasticnet"}, {"penalty": "l2"}], ids=str)
def test_a_fit_with_other_penalties_keeps_its_coordinates(settings, monkeypatch):
    monkeypatch.setattr(pairs, "FEWEST_WITH_ZEROS", 0)  # else dual ascent takes so few rows
    start = problem("squared_error")
    estimator = MiniBatchSGDRegressor(**{**SETTINGS, **settings})
    start = begun(estimator, start.data.X, start.data.y)
    progress, _, _ = start.then(start.progress(predictor_of(start))).finish()
    assert isinstance(progress.model.axes, RoundCoordinates) == (settings["penalty"] == "l2")


def test_single_precision_stays():
    start = problem("log_loss", dtype=np.float32)
    progress, data, _ = start.then(start.progress(predictor_of(start))).finish()
    assert data.written.dtype == data.table.dtype == progress.params.dtype == np.float32
    coef, intercept = progress.model.predictor(progress.params, None)
    assert coef.dtype == intercept.dtype == np.float32
    assert progress.model.axes.stretch.dtype == np.float32


def test_directions_without_rows_are_left_alone():
    """Two equal features and a constant one, without a penalty."""
    start = problem("no penalty")
    X = start.data.X.copy()
    X[:, 1], X[:, 3] = X[:, 0], 7.0
    y = X[:, 0] + 0.1 * np.random.default_rng(0).standard_normal(N)
    ours = MiniBatchSGDRegressor(**{**SETTINGS, "max_iter": 60, "batch_size": 8}, penalty=None).fit(X, y)
    assert np.isfinite(ours.coef_).all()
    A = np.column_stack([X[:, 0], X[:, 2], np.ones(N)])
    best = A @ np.linalg.lstsq(A, y, rcond=None)[0]
    np.testing.assert_allclose(ours.predict(X), best, atol=1e-6)


def test_what_is_fitted_is_in_the_features_as_given():
    """The coordinates of a fit are not kept where a stream goes on."""
    start = problem("squared_error")
    ours = MiniBatchSGDRegressor(**{**SETTINGS, "max_iter": 60, "batch_size": 8}, alpha=0.3).fit(
        start.data.X, start.data.y
    )
    best = optimum_of(start.gradients())
    np.testing.assert_allclose(ours.coef_, best.predictor[0][0], rtol=1e-6)
    before = ours.coef_.copy()
    ours.set_params(learning_rate="constant", eta0=1e-12).partial_fit(start.data.X, start.data.y)
    assert isinstance(ours._fitted.model.axes, AsGiven)
    np.testing.assert_allclose(ours.coef_, before, rtol=1e-6)


def rows_with_rare_features(n=4_000):
    """Rows of which few have some features, a few are long, and targets of two classes."""
    rng = np.random.default_rng(5)
    X = np.hstack([rng.standard_normal((n, 4)), rng.random((n, 3)) < [0.001, 0.003, 0.1]])
    X[:5] *= 30.0
    return X, (X @ [1.0, -1.0, 0.5, 0.0, 3.0, -3.0, 1.0] + rng.logistic(size=n) > 0).astype(int)


def test_a_step_by_a_sample_of_the_rows_is_nearly_that_of_all(monkeypatch):
    """Long rows are in the sample, and epochs go on in coordinates that suit all rows."""
    X, y = rows_with_rare_features()
    start = begun(MiniBatchSGDClassifier(device="base", random_state=0, tol=None), X, y)
    predictor = predictor_of(start)
    exact = start.then(start.progress(predictor))
    of_all, rows_of_all, _ = exact.finish()
    monkeypatch.setattr(second_stage, "SAMPLED", 500)
    monkeypatch.setattr(second_stage, "SAMPLED_PER_FEATURE", 1)
    sampled = start.then(start.progress(predictor))
    before = sum(start.model.objective(start.data, rows_of_all.evaluated_rows, predictor))
    gains = [before - entry.progress.objective for entry in (exact, sampled)]
    assert 0.9 * gains[0] < gains[1] != gains[0]
    by_sample, rows, _ = sampled.finish()
    np.testing.assert_allclose(by_sample.model.axes.mix, of_all.model.axes.mix)
    np.testing.assert_allclose(rows.written, rows_of_all.written)


def test_rows_that_stand_for_all_have_their_curvature():
    X, y = rows_with_rare_features()
    start = begun(MiniBatchSGDClassifier(device="base", random_state=0), X, y)
    curvatures = RowCurvatures.of(start.model, start.data, (np.zeros((1, X.shape[1])), np.zeros(1)))
    lengths = np.sum(X**2, axis=1) + 1.0
    rows, of_rows = curvatures.of_sample(np.arange(len(y)), lengths, X.shape[1])
    assert of_rows is curvatures
    assert len(rows) == len(y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second_stage, "SAMPLED", 900)
        rows, of_rows = curvatures.of_sample(np.arange(len(y)), lengths, X.shape[1])
    assert 900 < len(rows) < 1_000
    assert np.isin(np.arange(5), rows).all()
    np.testing.assert_allclose(of_rows.near[:5], curvatures.near[:5])
    assert not of_rows.near[np.setdiff1d(np.arange(len(y)), rows)].any()
    assert of_rows.near.sum() == pytest.approx(curvatures.near.sum(), rel=0.1)
