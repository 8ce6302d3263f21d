"""The smoothness that a stream follows, and what the estimators keep of its rows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import is_classifier

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.statistics.sketch import LeadingDirection, SecondMoments
from skminibatch.statistics.smoothness import smoothness

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")

STORAGES = {"dense": np.asarray, "csr": sparse.csr_matrix}


def stream(**parameters) -> MiniBatchSGDRegressor:
    return MiniBatchSGDRegressor(**{"solver": "schedule_free", "device": "base", "random_state": 0} | parameters)


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_a_rate_does_not_depend_on_the_rows_of_its_steps(storage, rng):
    """Rows in a chunk count from the next call on."""
    X = rng.standard_normal((300, 4))
    y = X[:, 0]
    model = stream().partial_fit(storage(X[:100]), y[:100])
    longer = pickle.loads(pickle.dumps(model))
    model.partial_fit(storage(X[100:200]), y[100:200])
    longer.partial_fit(storage(1.3 * X[100:200]), y[100:200])
    assert longer._fitted.smoothness == model._fitted.smoothness
    for each in (model, longer):
        each.partial_fit(storage(X[200:]), y[200:])
    assert longer._fitted.smoothness.mean > 1.05 * model._fitted.smoothness.mean


@pytest.mark.parametrize("parameters", [{}, {"standardize": True}], ids=["gentle", "standard"])
@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_a_stream_after_a_fit_begins_with_its_smoothness(storage, parameters, rng):
    X = rng.standard_normal((1000, 30)) * np.linspace(0.5, 1.5, 30)
    model = stream(solver="schedule_free", max_iter=2, tol=None, **parameters).fit(storage(X), X[:, 0])
    of_fit = model._fitted.smoothness
    assert model._fitted.sketch is None
    for row in range(5):
        model.partial_fit(storage(X[row : row + 1]), X[row : row + 1, 0])
        np.testing.assert_allclose(model._fitted.smoothness, of_fit, rtol=0.03)
    for rows in np.array_split(np.arange(1000), 10):  # a sketch of so many rows is as good, and knows of the change
        model.partial_fit(storage(3.0 * X[rows]), X[rows, 0])
    if not parameters:
        assert model._fitted.smoothness.typical > 1.5 * of_fit.typical


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
@pytest.mark.parametrize("loss", ["squared_error", "quantile"])
def test_the_smoothness_of_a_stream_is_that_of_its_rows(loss, storage, rng):
    """In the coordinates that it ends with, also where these change on the way."""
    X = (rng.standard_normal((1500, 6)) + 1.0) * [1.0, 8.0, 0.1, 1.0, 1.0, 1.0]
    X *= rng.random(X.shape) < 0.2
    y = X[:, 0] + rng.standard_normal(1500)
    model = stream(loss=loss)
    for first in range(0, 1500, 10):
        model.partial_fit(storage(X[first : first + 10]), y[first : first + 10])
    fitted = model._fitted
    found, curvatures = fitted.smoothness, np.full(1500, fitted.smoothness.unit)
    exact = smoothness(fitted.model.axes.transform(storage(X)), curvatures, fitted.model.ridge(), True)
    np.testing.assert_allclose([found.mean, found.typical], [exact.mean, exact.typical], rtol=0.2)
    assert 0.6 < found.worst / exact.worst < 1.5
    assert isinstance(fitted.sketch.spectrum, LeadingDirection if sparse.issparse(storage(X)) else SecondMoments)
    unit = np.abs(y - np.median(y)).mean() if loss == "quantile" else 1.0
    assert 1.0 / found.unit == pytest.approx(unit, rel=0.2)


def test_curvatures_of_rows_count(counts):
    """Of Poisson regression, where they follow the targets."""
    X, y = counts
    few, many = (stream(loss="poisson").partial_fit(X, factor * y)._fitted.sketch for factor in (1.0, 3.0))
    np.testing.assert_array_equal(few.keys, many.keys)
    assert many.typical > 1.5 * few.typical


def test_rows_of_either_kind_may_come_in_turn(rng):
    X = rng.standard_normal((400, 5))
    model = stream()
    for number, rows in enumerate(np.array_split(np.arange(400), 8)):
        model.partial_fit(sparse.csr_matrix(X[rows]) if number % 2 else X[rows], X[rows, 0])
    assert model._fitted.sketch.seen == 400
    assert model.score(X, X[:, 0]) > 0.95


def test_another_loss_or_penalty_on_the_way(rng):
    """A sketch is of a loss; of another penalty only the curvature is new."""
    X = rng.standard_normal((300, 5))
    model = stream().partial_fit(X[:100], X[:100, 0])
    first = model._fitted.smoothness
    model.set_params(alpha=0.5).partial_fit(X[100:101], X[100:101, 0])
    assert model._fitted.smoothness.typical == pytest.approx(first.typical)
    assert model._fitted.smoothness.mean == pytest.approx(first.mean + 0.5, rel=0.01)
    model.set_params(loss="huber").partial_fit(X[200:], X[200:, 0])
    assert model._fitted.sketch.seen == 100


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
@pytest.mark.parametrize("estimator", [MiniBatchSGDRegressor, MiniBatchSGDClassifier])
def test_a_stream_learns_whatever_its_chunks(estimator, storage, chunk, rng):
    X = (rng.standard_normal((700, 5)) + 3.0) * [1.0, 100.0, 0.01, 1.0, 1.0]
    y = (X - X.mean(axis=0)) / X.std(axis=0) @ [1.0, -1.0, 1.0, 0.0, 0.0] + 0.1 * rng.standard_normal(700)
    labels = {}
    if is_classifier(estimator()):
        y, labels = (y > 0).astype(int), {"classes": [0, 1]}
    model = estimator(device="base", random_state=0)
    for first in range(0, 700, chunk):
        model.partial_fit(storage(X[first : first + chunk]), y[first : first + chunk], **labels)
    assert model.score(storage(X), y) > 0.75
