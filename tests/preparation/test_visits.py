"""Visits of stiff rows in a fit and on a stream: the mean gradient of an epoch is that of the objective."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.models.data import Data
from skminibatch.models.view import gradients_of
from skminibatch.preparation.start import Start
from skminibatch.preparation.visits import APART, MORE_OF_A_STREAM, MORE_ROWS_OF_A_STREAM, visits_of
from skminibatch.statistics.smoothness import SmoothnessConstants
from tests.begun import begun

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")

N = 60
SETTINGS = {"device": "base", "random_state": 0, "max_iter": 1, "tol": None, "alpha": 0.1}
SMOOTHNESS = SmoothnessConstants(1.0, 4.0, 2.0)  # so low that many rows are stiff
ESTIMATORS = {
    "squared_error": MiniBatchSGDRegressor(**SETTINGS),
    "huber": MiniBatchSGDRegressor(loss="huber", **SETTINGS),
    "quantile": MiniBatchSGDRegressor(loss="quantile", **SETTINGS),
    "log_loss": MiniBatchSGDClassifier(**SETTINGS),
    "hinge": MiniBatchSGDClassifier(loss="hinge", **SETTINGS),
}


def start_of(estimator, storage, weighted, rows=None) -> Start:
    """Random rows of different lengths at random parameters."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 3)) * rng.pareto(1.5, N)[:, None]
    y = rng.standard_normal(N)
    y = (y > 0).astype(int) if isinstance(estimator, MiniBatchSGDClassifier) else y
    weights = rng.uniform(0.1, 5.0, N) if weighted else None
    model, data, _ = begun(estimator, storage(X), y, weights)
    data = Data(data.X, data.y, data.weights, rows)
    model = model.model
    params = model.start((rng.standard_normal((1, 3)), rng.standard_normal(1)))
    return Start(model, params, data, data.rows_in_use, 0)


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("rows", [None, np.arange(1, N, 2)], ids=["all", "some"])
@pytest.mark.parametrize("population", ["fit", "stream"])
@pytest.mark.parametrize("loss", ESTIMATORS)
def test_the_mean_gradient_of_an_epoch_is_that_of_the_objective(loss, population, rows, weighted, storage):
    """``sum of step_weight * gradient over positions = repeats * n * mean gradient``."""
    start = start_of(ESTIMATORS[loss], storage, weighted, rows)
    data = start.data
    visits = visits_of(start, SMOOTHNESS, 4, data.n_rows if population == "fit" else 1e12)
    assert visits.data.n_rows > data.n_rows
    assert visits.repeats == visits.data.n_rows / data.n_rows
    mean = gradients_of(start.model, data, start.predictor).loss_gradient()
    stepped = visits.data._replace(weights=visits.data.step_weights)
    total = gradients_of(start.model, stepped, start.predictor).loss_gradient() * visits.data.n_rows
    np.testing.assert_allclose(total, visits.repeats * data.n_rows * mean, rtol=1e-10, atol=1e-12)
    # the objective is that of each row once
    assert visits.data.weights is data.weights
    times = np.bincount(visits.data.rows, minlength=N)
    assert visits.most_rows == max(1.0, visits.data.n_rows // (APART * times.max()))


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_no_visit_is_stiffer_than_a_batch_of_usual_rows(weighted):
    start = start_of(ESTIMATORS["squared_error"], np.asarray, weighted)
    visits = visits_of(start, SMOOTHNESS, 4, N)
    each = gradients_of(start.model, start.data, start.predictor).row_bounds()
    times = np.bincount(visits.data.rows, minlength=N)
    assert np.all(each / times <= visits.factor * 4 * SMOOTHNESS.of_batch(4, N) * (1 + 1e-12))


def test_a_stream_may_come_back_to_a_row_more_often():
    """The rows of a chunk may be stiffer than those before, by which the rate was set."""
    start = start_of(ESTIMATORS["squared_error"], np.asarray, False)
    little = SmoothnessConstants(1e-3, 1e-3, 1e-3)
    fit, stream = visits_of(start, little, 1, N), visits_of(start, little, 1, 1e12)
    assert fit.factor > stream.factor
    assert N < fit.data.n_rows < stream.data.n_rows <= N + MORE_OF_A_STREAM * N + MORE_ROWS_OF_A_STREAM


def test_usual_rows_are_left_as_they_are():
    start = start_of(ESTIMATORS["squared_error"], np.asarray, True)
    visits = visits_of(start, SmoothnessConstants(1e6, 1e6, 1e6), 4, N)
    assert visits.data is start.data
    assert (visits.factor, visits.repeats, visits.most_rows) == (1.0, 1.0, np.inf)
    assert visits_of(start, None, 4, N).data is start.data


def test_a_row_of_no_weight_is_never_visited():
    weights = np.ones(N)
    weights[::3] = 0.0
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 3))
    X[0] *= 1e6
    start = begun(MiniBatchSGDRegressor(**SETTINGS, batch_size=4), X, X[:, 0], weights)
    assert np.all(start.data.rows_in_use % 3 != 0)


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_rare_rows_that_count_much_lower_the_rate(storage):
    """The rate of uneven rows is that of an averaging over them: a sample of the usual rows alone does not tell."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3))
    y = (rng.random(2000) < 0.5).astype(int)
    weights = np.where(np.arange(2000) == 7, 2000.0, 1.0)
    even, uneven = (
        begun(MiniBatchSGDClassifier(**{**SETTINGS, "solver": "saga"}, batch_size=8), storage(X), y, each)
        for each in (None, weights)
    )
    assert uneven.fitted.smoothness.worst > 100 * even.fitted.smoothness.worst
    assert uneven.fitted.smoothness.worst >= 0.9 * uneven.fitted.smoothness.typical * 2000 / 4
