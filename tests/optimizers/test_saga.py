"""SAGA: the table of residuals, its step and its batch size, and that it converges linearly to the optimum."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import ElasticNet as ExactNet
from sklearn.linear_model import LogisticRegression, Ridge

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends import base, cpu
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.orders import ROUNDS, explicit_order, keyed_order
from skminibatch.contract.plan import Plan
from skminibatch.contract.task import LinearTask
from skminibatch.losses import EachOutput, Logistic, Softmax, SquaredError
from skminibatch.models.curvature import LEAST
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.optimizers import SAGA
from skminibatch.optimizers.saga import saga_batch_size, saga_smoothness
from skminibatch.penalties import ElasticNet
from skminibatch.preparation import second_stage
from skminibatch.preparation.second_stage import RowCurvatures
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.statistics.visits import LONGER, repeated, visits_of_rows
from tests.backends.linear_chunks import carried_out
from tests.families import linear_models

N, D, OUTPUTS, ALPHA = 90, 5, 3, 0.1
QUICK = {"alpha": ALPHA, "solver": "saga", "tol": None, "random_state": 0}
NOTHING = np.empty(0)


# -- the table


def case(loss, density=1.0, dtype=np.float64, seed=0, center=False):
    """(model, data with a table, parameters) at random coefficients, the mean of the stored gradients in place."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((N, D)) < density, rng.standard_normal((N, D)), 0).astype(dtype)
    X = sparse.csr_matrix(X) if density < 1 else X
    K = 1 if isinstance(loss, (Logistic, SquaredError)) else OUTPUTS
    y = rng.choice([-1.0, 1.0], N) if isinstance(loss, Logistic) else rng.standard_normal((N, K))
    y = {"Softmax": rng.integers(OUTPUTS, size=(N, 1)), "SquaredError": y[..., 0] if y.ndim > 1 else y}.get(
        type(loss).__name__, y
    )
    parameters = np.dtype(np.float64 if density < 1 else dtype)
    scale = np.full(D, 2.0, parameters)
    axes = Coordinates(rng.standard_normal(D).astype(parameters) * center, scale, scale)
    model = LinearModel(
        loss, ElasticNet(0.3, 0.0), SAGA(float(N)), "base", D, K, True, parameters, np.dtype(dtype), axes
    )
    coef, intercept = rng.standard_normal((K, D)), rng.standard_normal(K)
    weights = rng.uniform(0.5, 1.5, N)
    table, mean, _, _ = model.stored(Data(X, y.astype(dtype), weights), (coef, intercept))
    params = model.start((coef, intercept))
    params[1] = mean
    return model, Data(X, y.astype(dtype), weights, None, table), params


def plan_of(sizes, order, rate=0.05):
    coefficients, _ = SAGA(float(N)).coefficients(np.full(len(sizes), rate), np.asarray(sizes), None)
    return Plan(order, np.concatenate([[0], np.cumsum(sizes)]), np.ascontiguousarray(coefficients))


def steps_of(batch_size):
    """Sizes of the batches of an epoch, the last one smaller."""
    return [min(batch_size, N - start) for start in range(0, N, batch_size)]


def orders():
    rng = np.random.default_rng(1)
    keys = np.random.Philox(key=[1, 0]).random_raw(ROUNDS)
    yield "shuffled", explicit_order(rng.permutation(N))
    yield "with replacement", explicit_order(rng.integers(N, size=N))
    yield "keyed", keyed_order(N, keys)
    yield "keyed, copies", keyed_order(N, keys, copies=3)
    yield "keyed, some rows again", keyed_order(N, keys, subset=np.append(np.arange(N - 9), [3] * 9))


def run(backend, model, data, params, plan, n_threads=1):
    params, table = params.copy(), data.table.copy()
    arrays = data.X, data.y, data.weights, params, model.coordinates
    task = LinearTask(model.loss, model.penalty, model.optimizer, *arrays, table=table, n_threads=n_threads)
    return params, table, carried_out(backend, task, plan)


@pytest.mark.parametrize("order", [order for _, order in orders()], ids=[name for name, _ in orders()])
@pytest.mark.parametrize("density", [1.0, 0.4], ids=["dense", "sparse"])
@pytest.mark.parametrize("loss", [Logistic(), Softmax(), EachOutput(SquaredError())], ids=repr)
def test_backends_agree(loss, density, order):
    model, data, params = case(loss, density)
    data.table[:, 0] = np.random.default_rng(2).choice([1.0, 0.5], N)
    for size in (1, 7, N):
        plan = plan_of(steps_of(size), order)
        ours, expected = run(cpu, model, data, params, plan), run(base, model, data, params, plan)
        for mine, theirs in zip(ours[:2], expected[:2], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
        for mine, theirs in zip(ours[2], expected[2], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9)
        assert np.isnan(ours[2].square_norms).all()


@pytest.mark.parametrize("order", [order for _, order in orders()], ids=[name for name, _ in orders()])
@pytest.mark.parametrize("density", [1.0, 0.4], ids=["dense", "sparse"])
def test_the_slot_is_the_mean_of_the_stored_gradients(density, order):
    """Whatever the order, and with shares of changes that are below one."""
    model, data, params = case(Softmax(), density, center=density == 1)
    data.table[:, 0] = np.random.default_rng(2).choice([1.0, 0.5], N)
    params, table, _ = run(cpu, model, data, params, plan_of(steps_of(7), order))
    X = data.X.toarray() if density < 1 else data.X
    Z = np.hstack([(X - model.coordinates.center) * model.coordinates.scale, np.ones((N, 1))])
    np.testing.assert_allclose(params[1], table[:, 1:].T @ Z / N, rtol=1e-9, atol=1e-12)
    assert not np.allclose(table, data.table)


def test_float32_agrees():
    model, data, params = case(Logistic(), dtype=np.float32)
    assert data.table.dtype == np.float32
    plan = plan_of(steps_of(7), explicit_order(np.arange(N)))
    for mine, theirs in zip(
        run(cpu, model, data, params, plan)[:2], run(base, model, data, params, plan)[:2], strict=True
    ):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_start_is_the_gradient_of_all_rows():
    """Residuals, mean gradient and lengths of rows, with rows that are not in use, and weights."""
    model, data, _ = case(Logistic(), center=True)
    rng = np.random.default_rng(3)
    coef, intercept, rows = rng.standard_normal((1, D)), rng.standard_normal(1), np.flatnonzero(rng.random(N) < 0.7)
    table, mean, lengths, loss = model.stored(data._replace(rows=rows), (coef, intercept))
    residuals = -data.y * expit(-data.y * (data.X @ coef[0] + intercept)) * data.weights
    Z = np.hstack([(data.X - model.coordinates.center) * model.coordinates.scale, np.ones((N, 1))])
    unused = np.setdiff1d(np.arange(N), rows)
    np.testing.assert_allclose(table[rows, 1], residuals[rows], rtol=1e-10)
    np.testing.assert_allclose(mean[0], residuals[rows] @ Z[rows] / rows.size, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(lengths, np.sum(Z**2, axis=1), rtol=1e-10)
    assert loss == pytest.approx(model.sum_of_losses(data, rows, (coef, intercept)))
    assert np.all(table[unused, 1] == 0)
    assert np.all(table[:, 0] == 1)


def per_sample(X, y, weights, coef, rate, batch_size, n_epochs):
    """Defazio et al. 2014, algorithm 1, for least squares with a penalty and an intercept, with all gradients stored."""
    w, b = coef.copy(), 0.0
    X1 = np.hstack([X, np.ones((len(X), 1))])
    stored = [s * (x @ np.append(w, b) - t) * x for x, t, s in zip(X1, y, weights, strict=True)]
    for _ in range(n_epochs):
        for rows in np.split(np.arange(len(X)), range(batch_size, len(X), batch_size)):
            new = [weights[i] * (X1[i] @ np.append(w, b) - y[i]) * X1[i] for i in rows]
            change = np.mean([g - stored[i] for i, g in zip(rows, new, strict=True)], axis=0)
            step = change + np.mean(stored, axis=0)
            w, b = w - rate * (step[:-1] + ALPHA * w), b - rate * step[-1]
            for i, g in zip(rows, new, strict=True):
                stored[i] = g
    return w, b


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_explicit_rate_gives_saga_from_the_first_step(batch_size, storage, regression):
    X, y = regression.X[:40], regression.y[:40]
    weights = np.random.default_rng(4).uniform(0.5, 1.5, 40)
    weights /= weights.mean()
    coef = np.arange(5.0)
    settings = {**QUICK, "learning_rate": "constant", "eta0": 0.02, "shuffle": False, "max_iter": 3}
    ours = MiniBatchSGDRegressor(**settings, batch_size=batch_size)
    ours.fit(storage(X), y, sample_weight=weights, coef_init=coef, intercept_init=0.0)
    w, b = per_sample(X, y, weights, coef, 0.02, batch_size, 3)
    np.testing.assert_allclose(ours.coef_, w, rtol=1e-9)
    np.testing.assert_allclose(ours.intercept_, b, rtol=1e-9)


# -- convergence


def logistic_optimum(X, y, alpha):
    """The least objective of a logistic regression by Newton's method."""
    X1, signs = np.hstack([X, np.ones((len(X), 1))]), np.where(y == 1, 1.0, -1.0)
    ridge = alpha * np.append(np.ones(X.shape[1]), 0)

    def value(w):
        return np.mean(np.logaddexp(0, -signs * (X1 @ w))) + 0.5 * w @ (ridge * w)

    def slope(w):
        return -(signs * expit(-signs * (X1 @ w))) @ X1 / len(X) + ridge * w

    def curvature(w):
        p = expit(X1 @ w)
        return (X1 * (p * (1 - p))[:, None]).T @ X1 / len(X) + np.diag(ridge)

    return minimize(value, np.zeros(X1.shape[1]), jac=slope, hess=curvature, method="trust-exact", tol=1e-13).fun


@pytest.mark.parametrize("device", ["cpu", "base"])
def test_it_converges_linearly(binary, device):
    """The excess falls by a constant factor an epoch down to 1e-10, on dense rows and on sparse ones."""
    best = logistic_optimum(binary.X, binary.y, 0.01)
    settings = {**QUICK, "alpha": 0.01, "batch_size": 8, "max_iter": 60, "device": device}
    curves = [
        MiniBatchSGDClassifier(**settings).fit(given, binary.y).loss_curve_
        for given in (binary.X, sparse.csr_matrix(binary.X))
    ]
    for curve in curves:  # dense rows are trained on in coordinates of their own, after a step of Newton's
        excess = curve - best
        above = excess[excess > 1e-10]
        assert 1 < above.size < 50
        assert above.size == np.flatnonzero(excess <= 1e-10)[0]
        assert np.all(above[3:] < 0.5 * above[:-3])
        assert np.all(np.abs(excess[-5:]) < 1e-12)


WEIGHTS = np.random.default_rng(5).uniform(0.2, 2.0, 240)


def assert_at_the_optimum(ours, coef, intercept, atol=1e-6):
    np.testing.assert_allclose(np.ravel(ours.coef_), np.ravel(coef), atol=atol)
    np.testing.assert_allclose(np.ravel(ours.intercept_), np.ravel(intercept), atol=atol)


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
class TestOptimum:
    """What other solvers find."""

    def fitted(self, cls, X, y, storage, sample_weight=None, **settings):
        settings = {**QUICK, "max_iter": 150, "batch_size": 8, **settings}
        return cls(**settings).fit(storage(X), y, sample_weight=sample_weight)

    @pytest.mark.parametrize("fit_intercept", [True, False])
    def test_ridge_with_weights(self, regression, storage, fit_intercept):
        exact = Ridge(ALPHA * WEIGHTS.sum(), fit_intercept=fit_intercept, tol=1e-12)
        exact.fit(*regression, sample_weight=WEIGHTS)
        ours = self.fitted(
            MiniBatchSGDRegressor, *regression, storage, sample_weight=WEIGHTS, fit_intercept=fit_intercept
        )
        assert_at_the_optimum(ours, exact.coef_, exact.intercept_)

    def test_rows_of_weight_zero_do_not_count(self, regression, storage):
        weights = np.where(np.arange(240) % 4 == 0, 0.0, WEIGHTS)
        exact = Ridge(ALPHA * weights.sum(), tol=1e-12).fit(*regression, sample_weight=weights)
        ours = self.fitted(MiniBatchSGDRegressor, *regression, storage, sample_weight=weights)
        assert_at_the_optimum(ours, exact.coef_, exact.intercept_)

    def test_several_outputs(self, regression, storage):
        Y = np.column_stack([regression.y, -2 * regression.y + regression.X[:, 3]])
        exact = Ridge(ALPHA * 240, tol=1e-12).fit(regression.X, Y)
        ours = self.fitted(MiniBatchSGDRegressor, regression.X, Y, storage)
        assert_at_the_optimum(ours, exact.coef_, exact.intercept_)

    def test_softmax(self, several, storage):
        """The coefficients up to a constant a feature, which an l2 penalty makes zero."""
        exact = LogisticRegression(C=1 / (240 * ALPHA), tol=1e-10, max_iter=1000).fit(*several)
        ours = self.fitted(MiniBatchSGDClassifier, *several, storage)
        np.testing.assert_allclose(ours.coef_, exact.coef_, atol=1e-5)
        np.testing.assert_allclose(ours.predict_proba(several.X), exact.predict_proba(several.X), atol=1e-5)

    def test_class_weight(self, binary, storage):
        counts = np.bincount(binary.y)
        weights = (240 / (2 * counts))[binary.y]
        exact = LogisticRegression(C=1 / (weights.sum() * ALPHA), solver="newton-cholesky", tol=1e-10)
        exact.fit(*binary, sample_weight=weights)
        ours = self.fitted(MiniBatchSGDClassifier, *binary, storage, class_weight="balanced")
        assert_at_the_optimum(ours, exact.coef_, exact.intercept_)

    def test_raw_features(self, regression, storage):
        X = regression.X * [1.0, 50.0, 0.02, 1.0, 4.0] + ([0.0, 100.0, 0.1, 0.0, 0.0] if storage is np.asarray else 0.0)
        exact = Ridge(ALPHA * 240, tol=1e-12, solver="cholesky").fit(X, regression.y)
        ours = self.fitted(MiniBatchSGDRegressor, X, regression.y, storage, max_iter=400)
        np.testing.assert_allclose(ours.predict(storage(X)), exact.predict(X), atol=1e-5)

    def test_standardize(self, regression, storage):
        shifted = regression.X * [1.0, 50.0, 0.02, 1.0, 4.0]
        ours = self.fitted(MiniBatchSGDRegressor, shifted, regression.y, storage, standardize=True)
        exact = Ridge(ALPHA * 240, tol=1e-12).fit(shifted / shifted.std(axis=0), regression.y)
        np.testing.assert_allclose(ours.predict(shifted), exact.predict(shifted / shifted.std(axis=0)), atol=1e-5)

    def test_float32(self, regression, storage):
        """As far as single precision goes."""
        exact = Ridge(ALPHA * 240, tol=1e-12).fit(*regression)
        ours = self.fitted(MiniBatchSGDRegressor, regression.X.astype(np.float32), regression.y, storage)
        assert ours.coef_.dtype == np.float32
        assert_at_the_optimum(ours, exact.coef_, exact.intercept_, atol=1e-5)


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_l1_on_dense_rows(regression, l1_ratio):
    exact = ExactNet(alpha=0.5, l1_ratio=l1_ratio, tol=1e-12, max_iter=100_000).fit(*regression)
    settings = {**QUICK, "alpha": 0.5, "penalty": "elasticnet", "l1_ratio": l1_ratio, "max_iter": 150, "batch_size": 8}
    ours = MiniBatchSGDRegressor(**settings).fit(*regression)
    assert_at_the_optimum(ours, exact.coef_, exact.intercept_)
    assert np.array_equal(ours.coef_ == 0, exact.coef_ == 0)
    assert np.any(exact.coef_ == 0)


def test_losses_without_a_constant_curvature(counts):
    """Poisson: at the end, the gradient of the objective vanishes."""
    ours = MiniBatchSGDRegressor(loss="poisson", **{**QUICK, "max_iter": 300}).fit(*counts)
    residuals = np.exp(counts.X @ ours.coef_ + ours.intercept_) - counts.y
    np.testing.assert_allclose(residuals @ counts.X / 240 + ALPHA * ours.coef_, 0, atol=1e-8)
    np.testing.assert_allclose(residuals.mean(), 0, atol=1e-8)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_rows_of_huge_length_neither_diverge_nor_slow_down(batch_size):
    """Stale residuals of such rows would blow the model up, and a step that suits them would take thousands of epochs."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((2000, 5))
    X[[10, 500, 900]] *= [[30.0], [60.0], [100.0]]
    y = X @ rng.standard_normal(5) + rng.standard_normal(2000)
    exact = Ridge(1e-3 * 2000, tol=1e-12).fit(X, y)
    for given in (X, sparse.csr_matrix(X)):
        settings = {**QUICK, "alpha": 1e-3, "batch_size": batch_size, "max_iter": 80}
        ours = MiniBatchSGDRegressor(**settings).fit(given, y)
        assert_at_the_optimum(ours, exact.coef_, exact.intercept_, atol=1e-5)
        assert ours.t_ == 2000 * 80
        assert ours.n_updates_ <= 2000 * 80 / batch_size * (1 + LONGER)


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(7)
    X = rng.standard_normal((6000, 4))
    y = (rng.random(6000) < expit(X @ [1.0, -1.0, 0.5, 0.0])).astype(int)
    X[5] *= 100
    for rows in (slice(None), slice(6, None)):  # with rows that come several times, and without
        fits = [
            MiniBatchSGDClassifier(**{**QUICK, "n_jobs": n_jobs}, batch_size=256, max_iter=4)
            .fit(X[rows], y[rows])
            .coef_
            for n_jobs in (None, 2)
        ]
        np.testing.assert_array_equal(*fits)


# -- the step and the batch size

CONSTANTS = [
    (SmoothnessConstants(1.0, 10.0, 5.0), 1e-3, 10_000),
    (SmoothnessConstants(1.0, 1.0, 1.0), 1e-2, 1_000),
    (SmoothnessConstants(2.0, 900.0, 30.0), 1e-5, 50_000),
    (SmoothnessConstants(0.5, 3.0, 1.0), 0.3, 300),
    (SmoothnessConstants(1.0, 8.0, 2.0), 0.0, 300),
]


@pytest.mark.parametrize(("smoothness", "mu", "n_rows"), CONSTANTS)
def test_the_batch_size_reads_the_fewest_rows(smoothness, mu, n_rows):
    """By brute force, within one; without strong convexity, where the number of rows has no bound, it is one."""
    derived = saga_batch_size(smoothness, mu, n_rows)
    assert isinstance(derived, int)
    if mu == 0:
        assert derived == 1
        return
    b = np.arange(1, n_rows + 1)
    steps = np.array([4 * saga_smoothness(smoothness, mu, size, n_rows) / mu for size in b])
    assert abs(derived - b[np.argmin(b * steps)]) <= 1
    assert abs(saga_batch_size(smoothness, mu, n_rows, (b, 0.3 * b)) - derived) <= 1
    dear = saga_batch_size(smoothness, mu, n_rows, (b, 1000.0 + b))
    assert dear == b[np.argmin((1000.0 + b) * steps)] >= derived
    assert saga_batch_size(smoothness, mu, 3, (np.array([8.0, 16.0]), np.array([1.0, 2.0]))) == 3


@pytest.mark.parametrize(("smoothness", "mu", "n_rows"), CONSTANTS)
def test_the_step_at_the_ends(smoothness, mu, n_rows):
    """One row: the worst and what it takes to visit all; all rows: that of gradient descent, and no table to wait for."""
    assert saga_smoothness(smoothness, mu, 1, n_rows) == pytest.approx(smoothness.worst + mu * n_rows / 4)
    assert saga_smoothness(smoothness, mu, n_rows, n_rows) == pytest.approx(max(smoothness.mean, mu / 4))
    assert saga_smoothness(smoothness, mu, 2 * n_rows, n_rows) == saga_smoothness(smoothness, mu, n_rows, n_rows)
    sizes = [saga_smoothness(smoothness, mu, b, n_rows) for b in range(1, n_rows, 7)]
    assert np.all(np.diff(sizes) <= 1e-12)
    assert saga_batch_size(smoothness, mu, 1) == 1
    assert np.isfinite(saga_smoothness(smoothness, mu, 1, 1))


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_the_automatic_rate_is_that_of_the_paper(storage, binary, monkeypatch):
    """By the curvature of the objective where the table is made: after a pass, in round coordinates on dense rows."""
    found, starts, honest, of = [], [], second_stage._at_automatic_rate, RowCurvatures.of

    def kept(*given):
        found.append(honest(*given))
        return found[-1]

    monkeypatch.setattr(second_stage, "_at_automatic_rate", kept)
    monkeypatch.setattr(RowCurvatures, "of", lambda *given: starts.append(given[2]) or of(*given))
    X, y = binary
    ours = MiniBatchSGDClassifier(**QUICK, max_iter=2).fit(storage(X), y)
    (((model, *_), _, recipe),), ((coef, intercept),) = found, starts
    followed = recipe.smoothness
    expected = 0.25 / saga_smoothness(followed.smoothness, model.strong_convexity(), 60, 240)  # four of 64, cut to fit
    assert followed.factor == 1.0
    assert ours.history_["rate"][-1] == pytest.approx(expected)
    p = expit(X @ coef[0] + intercept)
    curvatures = np.maximum(p * (1 - p), LEAST * 0.25)
    A = np.hstack([X, np.ones((240, 1))])
    largest = np.linalg.eigvalsh((A.T * curvatures) @ A / 240)[-1] + ALPHA
    if storage is np.asarray:
        assert followed.smoothness.mean == pytest.approx(curvatures.mean())
    else:
        assert largest <= followed.smoothness.mean <= 1.2 * largest
        assert model.strong_convexity() == pytest.approx(ALPHA)


def test_visits_of_long_rows():
    each = np.array([0.0, 1.0, 8.0, 9.0, 80.0] + [1.0] * 95)
    factor, visits = visits_of_rows(each, 8.0)
    assert factor == 1.0
    np.testing.assert_array_equal(visits[:5], [1, 1, 1, 2, 10])
    factor, visits = visits_of_rows(np.append(each, 1e12), 8.0)
    assert np.sum(visits - 1) <= LONGER * 101
    assert np.log2(factor) % 1 == 0
    assert np.all(np.append(each, 1e12) / visits <= 4 * factor * 2.0)


@pytest.mark.parametrize("in_use", [np.arange(60), np.arange(3, 60, 2)], ids=["all", "some"])
def test_repeated_rows_are_spread_evenly(in_use):
    visits = np.ones(60, np.int64)
    assert repeated(visits, in_use) is in_use
    visits[[5, 11]] = [3, 4]
    order = repeated(visits, in_use)
    np.testing.assert_array_equal(np.bincount(order, minlength=60)[in_use], visits[in_use])
    for row in (5, 11):
        places = np.flatnonzero(order == row)
        gaps = np.diff(np.append(places, places[0] + order.size))
        assert np.ptp(gaps) <= 5
    first = np.array([np.flatnonzero(order == row)[0] for row in in_use if visits[row] == 1])
    assert np.all(np.diff(first) > 0)


# -- the estimator


def test_history_and_stop(binary):
    """One entry an epoch; the noise of the gradient is seen in the first epoch only, by another optimizer."""
    ours = MiniBatchSGDClassifier(solver="saga", random_state=0, batch_size=8).fit(*binary)
    history = ours.history_
    assert ours.n_iter_ == len(history["loss"]) == len(ours.loss_curve_)
    np.testing.assert_array_equal(history["samples"], 240 * np.arange(1, ours.n_iter_ + 1))
    assert np.isfinite(history["noise_scale"][0])
    assert np.isnan(history["noise_scale"][1:]).all()
    assert np.isnan(history["gradient_norm"][1:]).all()
    assert "tol=0.001" in ours.stop_reason_
    closer = MiniBatchSGDClassifier(solver="saga", random_state=0, batch_size=8, tol=1e-8).fit(*binary)
    best = logistic_optimum(binary.X, binary.y, 1e-4)
    assert closer.loss_curve_[-1] - best < 1e-6 * (ours.loss_curve_[0] - best + 0.1)


def test_early_stopping_keeps_the_best_epoch(binary):
    ours = MiniBatchSGDClassifier(**{**QUICK, "tol": 1e-4}, early_stopping=True, max_iter=100).fit(*binary)
    assert ours.best_validation_score_ == ours.validation_scores_.max()


def test_a_warm_start_goes_on_from_the_optimum(binary):
    """The first epoch is that of another solver and leaves it a little, but not as far as a cold start."""
    ours = MiniBatchSGDClassifier(**QUICK, max_iter=50, warm_start=True).fit(*binary)
    cold, best = ours.loss_curve_[:3], ours.loss_curve_[-1]
    assert np.all(ours.set_params(max_iter=3).fit(*binary).loss_curve_ - best < 0.5 * (cold - best))


def test_what_is_fitted_goes_on_with_another_solver_and_keeps_no_table(binary):
    ours = MiniBatchSGDClassifier(**QUICK, max_iter=30).fit(*binary)
    other = MiniBatchSGDClassifier(**{**QUICK, "solver": "schedule_free"}, max_iter=30, device="base").fit(*binary)
    assert len(pickle.dumps(ours)) < len(pickle.dumps(other)) + 500
    before = ours.coef_.copy()
    ours.set_params(solver="sgd", learning_rate="constant", eta0=1e-9, device="base").partial_fit(*binary)
    np.testing.assert_allclose(ours.coef_, before, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "storage", "message"),
    [
        ({"average": True}, np.asarray, "average=True cannot be combined with solver='saga'"),
        ({"clip_norm": 1.0}, np.asarray, "clip_norm=1.0 cannot be combined with solver='saga'"),
        ({"penalty": "l1"}, sparse.csr_matrix, "solver='saga' does not support an l1 penalty on sparse data"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_refused(settings, storage, message, binary):
    with pytest.raises(ValueError, match=message):
        MiniBatchSGDClassifier(**{**QUICK, **settings}).fit(storage(binary.X), binary.y)


@linear_models
def test_partial_fit_is_refused(estimator_class, problem):
    for solver in ("saga", SAGA()):
        estimator = estimator_class(solver=solver)
        with pytest.raises(ValueError, match=r"solver='saga' .* it is not supported by partial_fit"):
            estimator.partial_fit(
                *problem, **({"classes": [0, 1]} if estimator_class is MiniBatchSGDClassifier else {})
            )
        assert not hasattr(estimator, "coef_")


def test_weights_of_a_sampler_are_refused():
    model, data, params = case(Logistic())
    plan = plan_of(steps_of(7), explicit_order(np.arange(N)))._replace(weights=np.ones(N))
    with pytest.raises(ValueError, match="solver='saga' needs a sampler that gives every row the same chance"):
        model.run(plan, params, data)
