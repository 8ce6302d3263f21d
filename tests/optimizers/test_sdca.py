"""Dual coordinate ascent: its kernel, its optimum against exact solvers, and its duality gap."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.linear_model import ElasticNet as ElasticNetCD
from sklearn.linear_model import LogisticRegression, QuantileRegressor, Ridge
from sklearn.svm import SVC

from skminibatch import MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends import base, cpu, gpu
from skminibatch.contract.orders import explicit_order
from skminibatch.contract.plan import Plan
from skminibatch.contract.proximal import proximal_point
from skminibatch.contract.task import LinearTask
from skminibatch.contract.verbs import gradient, proximal, value, value_gradient
from skminibatch.losses import LOSSES, EachOutput, Hinge, Logistic, OneVsRest, Softmax, SquaredError
from skminibatch.optimizers import SDCA
from skminibatch.penalties import ElasticNet

N, D, OUTPUTS, ALPHA = 90, 12, 3, 0.05
PULLS = np.geomspace(0.01, 1.0, D)  # of the coefficients
EXACT = {"solver": "sdca", "alpha": ALPHA, "tol": 1e-10, "max_iter": 3000, "random_state": 0}


def rows(seed=0, n=N, density=0.4):
    rng = np.random.default_rng(seed)
    return sparse.csr_matrix(np.where(rng.random((n, D)) < density, rng.standard_normal((n, D)), 0.0))


def labels(X, n_classes=2, seed=1):
    rng = np.random.default_rng(seed)
    return np.argmax(X @ rng.standard_normal((D, n_classes)) + rng.gumbel(size=(X.shape[0], n_classes)), axis=1)


def objective(loss, model, X, y, weights=None):
    """The weighted mean loss and the penalty, by the formulas."""
    raw = X @ np.atleast_2d(model.coef_).T + model.intercept_
    if y.ndim == 1:
        values = value(loss, raw[:, 0], y)
    else:
        values = np.array([value_gradient(loss, *row, np.empty(raw.shape[1])) for row in zip(raw, y, strict=True)])
    return np.average(values, weights=weights) + ALPHA / 2 * np.sum(model.coef_**2)


# -- the balance of one row


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("q", [1e-3, 0.7, 40.0])
def test_the_proximal_point_is_the_minimum(name, q):
    loss, rng = LOSSES[name](), np.random.default_rng(0)
    for weight in (1.0, 0.3):
        for raw in (-1.5, 0.2, 2.0):
            y = 1.0 if name == "poisson" else rng.choice([-1.0, 1.0])
            dual = -weight * gradient(loss, raw + 0.7, y)
            z = proximal_point(loss, raw, y, weight, q, dual)

            def excess(z):
                return (z - raw + q * dual) ** 2 / (2 * q) + weight * value(loss, z, y)  # noqa: B023

            width = abs(q * (dual + weight * gradient(loss, raw, y))) + 1e-6
            best = minimize_scalar(
                excess, bounds=(raw - width, raw + width), method="bounded", options={"xatol": 1e-12}
            )
            assert excess(z) <= best.fun + 1e-7 * (1 + abs(best.fun))  # at a kink, what is missing is linear


@pytest.mark.parametrize("loss", [Softmax(), OneVsRest(Logistic()), OneVsRest(Hinge())], ids=repr)
@pytest.mark.parametrize("q", [1e-3, 0.7, 1e3])
def test_the_proximal_point_of_several_outputs_is_stationary(loss, q):
    rng = np.random.default_rng(0)
    raw, y, out, work, g = rng.standard_normal(4) * 5, np.array([2.0]), np.empty(4), np.empty((2, 4)), np.empty(4)
    before = np.empty(4)
    value_gradient(loss, raw + 1.0, y, before)
    proximal(loss, raw, y, 0.8, q, -0.8 * before, out, work)
    dual = -0.8 * before + (out - raw) / q
    low, high = np.empty(4), np.empty(4)
    for g, shift in ((low, -1e-5), (high, 1e-5)):  # on both sides of what may be a kink
        value_gradient(loss, out + shift if isinstance(loss, OneVsRest) else out, y, g)
    assert np.all(-dual >= 0.8 * np.minimum(low, high) - 1e-5)
    assert np.all(-dual <= 0.8 * np.maximum(low, high) + 1e-5)


# -- the kernel


def task_of(loss, weighted=True, pull=0.0, l1=0.0, accelerated=False):
    rng, X = np.random.default_rng(0), rows()
    K = OUTPUTS if isinstance(loss, (Softmax, OneVsRest, EachOutput)) else 1
    y = rng.integers(OUTPUTS, size=(N, 1)).astype(float) if K > 1 else rng.choice([-1.0, 1.0], N)
    y = rng.standard_normal((N, K)) if isinstance(loss, EachOutput) else y
    optimizer, params = SDCA().of_objective(N, N, ALPHA, 5.0, pull, l1, accelerated), np.zeros((3, K, D + 1))
    table = np.zeros((N, 2 + K))
    table[:, 0] = X.toarray() ** 2 @ np.broadcast_to(optimizer.unit(), D) + 1e-6
    weights = rng.uniform(0.5, 1.5, N) if weighted else np.empty(0)
    return LinearTask(loss, ElasticNet(ALPHA, l1), optimizer, X, y, weights, params, table=table)


@pytest.mark.parametrize(
    "loss", [Logistic(), Hinge(), SquaredError(), Softmax(), OneVsRest(Hinge()), EachOutput(SquaredError())], ids=repr
)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("pull", "l1"), [(0.0, 0.0), (PULLS, 0.0), (PULLS, 0.02)], ids=["none", "pull", "l1"])
@pytest.mark.parametrize("accelerated", [False, True])
def test_backends_agree(loss, fit_intercept, pull, l1, accelerated):
    found = []
    for backend in (base, cpu):
        task = task_of(loss, pull=pull, l1=l1, accelerated=accelerated)._replace(fit_intercept=fit_intercept)
        memory = None
        for epoch in range(3):
            sizes = np.array([30, 30, 20, 10])
            coefficients, memory = task.optimizer.coefficients(np.ones(4), sizes, memory)
            order = explicit_order(np.random.default_rng(epoch).permutation(N))
            stats = backend.run_dual(
                task, Plan(order, np.append(0, np.cumsum(sizes)), np.ascontiguousarray(coefficients))
            )
            assert stats.failed == -1
        found.append((task.params, task.table, stats.losses))
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-8)
    params, table, _ = found[1]
    of_rows = (table[:, 2:].T @ task_of(loss).X) / ((ALPHA + pull) * N)
    center = params[1, :, :-1] * pull / (ALPHA + pull)
    np.testing.assert_allclose(params[0, :, :-1], of_rows + center, rtol=1e-9, atol=1e-12)
    assert fit_intercept or not params[0, :, -1].any()


def test_an_epoch_begins_once():
    part = SDCA(n_rows=8.0, n_visits=10.0, accelerated=True)
    coefficients, memory = part.coefficients(np.ones(4), np.array([4, 4, 2, 5]), None)
    assert coefficients[:, 1].tolist() == [0.0, -1.0, -1.0, 0.25]
    coefficients, _ = part.coefficients(np.ones(2), np.array([5, 5]), memory)
    assert coefficients[:, 1].tolist() == [-1.0, 0.4]


def test_a_gpu_refuses():
    with pytest.raises(ValueError, match="solver='sdca' takes one row after another"):
        gpu.run_dual(task_of(Logistic()), None)


# -- the optimum


@pytest.mark.parametrize("storage", [sparse.csr_matrix, sparse.csr_matrix.toarray], ids=["sparse", "dense"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_optimum_of_two_classes(storage, fit_intercept):
    X = rows()
    y, weights = labels(X), np.random.default_rng(2).integers(0, 3, N).astype(float)
    C = 1 / (ALPHA * weights.sum())
    exact = LogisticRegression(C=C, tol=1e-10, max_iter=10000, fit_intercept=fit_intercept).fit(X, y, weights)
    ours = MiniBatchSGDClassifier(fit_intercept=fit_intercept, **EXACT).fit(storage(X), y, sample_weight=weights)
    np.testing.assert_allclose(ours.coef_, exact.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.intercept_, exact.intercept_, atol=1e-4)
    assert "by the duality gap" in ours.stop_reason_


def test_optimum_of_several_classes():
    X = rows()
    y = labels(X, 4)
    exact = LogisticRegression(C=1 / (ALPHA * N), tol=1e-10, max_iter=10000).fit(X, y)
    ours = MiniBatchSGDClassifier(**EXACT).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), exact.predict_proba(X), atol=1e-4)
    balanced = LogisticRegression(C=1 / (ALPHA * N), tol=1e-10, max_iter=10000, class_weight="balanced").fit(X, y)
    ours = MiniBatchSGDClassifier(class_weight="balanced", **EXACT).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), balanced.predict_proba(X), atol=1e-4)


def test_optimum_of_a_support_vector_machine():
    X = rows()
    y = labels(X)
    exact = SVC(kernel="linear", C=1 / (ALPHA * N), tol=1e-10).fit(X, y)
    ours = MiniBatchSGDClassifier(loss="hinge", **{**EXACT, "tol": 1e-7}).fit(X, y)
    signs = 2.0 * y - 1
    hinges = np.maximum(0, 1 - signs * exact.decision_function(X))
    best = np.mean(hinges) + ALPHA / 2 * np.sum((exact.dual_coef_ @ exact.support_vectors_).power(2))
    assert objective(Hinge(), ours, X, signs) <= best + 1e-6


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
@pytest.mark.parametrize("n_targets", [1, 3])
def test_optimum_with_zeros(l1_ratio, n_targets):
    """Of the lasso and the elastic net, and zeros are where the optimum has them."""
    X, rng = rows(), np.random.default_rng(3)
    y = (
        X @ (rng.standard_normal((D, n_targets)) * (np.arange(D) < 4)[:, None])
        + 5
        + rng.standard_normal((N, n_targets))
    )
    exact = [ElasticNetCD(alpha=ALPHA, l1_ratio=l1_ratio, tol=1e-12, max_iter=10000).fit(X, column) for column in y.T]
    coef, intercept = np.array([one.coef_ for one in exact]), [one.intercept_ for one in exact]
    for storage in (sparse.csr_matrix, sparse.csr_matrix.toarray):
        ours = MiniBatchSGDRegressor(penalty="elasticnet", l1_ratio=l1_ratio, **EXACT).fit(storage(X), y.squeeze())
        np.testing.assert_allclose(np.atleast_2d(ours.coef_), coef, atol=1e-4)
        np.testing.assert_allclose(ours.intercept_, intercept, atol=1e-4)
        np.testing.assert_array_equal(np.atleast_2d(ours.coef_) == 0, coef == 0)
        assert "by the duality gap" in ours.stop_reason_


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("alpha", [1e-6, 1e-3])
def test_a_weak_penalty_takes_few_epochs(penalty, alpha):
    X = rows(n=2000)
    y = labels(X)
    ours = MiniBatchSGDClassifier(solver="sdca", penalty=penalty, alpha=alpha, random_state=0).fit(X, y)
    assert ours.n_iter_ < 60
    best = MiniBatchSGDClassifier(solver="sdca", penalty=penalty, alpha=alpha, tol=1e-8, max_iter=3000).fit(X, y)
    assert ours.best_loss_ - best.best_loss_ < 1e-3 * np.log(2)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_optimum_of_least_squares(n_targets):
    X, rng = rows(), np.random.default_rng(3)
    y = X @ rng.standard_normal((D, n_targets)) + 5 + rng.standard_normal((N, n_targets))
    y = y[:, 0] if n_targets == 1 else y
    exact = Ridge(alpha=ALPHA * N, tol=1e-12).fit(X.toarray(), y)
    ours = MiniBatchSGDRegressor(**EXACT).fit(X, y)
    np.testing.assert_allclose(ours.coef_, exact.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.intercept_, exact.intercept_, atol=1e-4)


@pytest.mark.parametrize("loss", ["quantile", "epsilon_insensitive", "huber"])
def test_losses_with_kinks_reach_the_optimum(loss):
    """The gap, which is a bound, says so."""
    X, rng = rows(), np.random.default_rng(3)
    y = X @ rng.standard_normal(D) + rng.standard_normal(N)
    ours = MiniBatchSGDRegressor(loss=loss, **{**EXACT, "tol": 1e-6}).fit(X, y)
    assert "by the duality gap" in ours.stop_reason_
    other = MiniBatchSGDRegressor(loss=loss, alpha=ALPHA, tol=1e-7, max_iter=3000, random_state=0).fit(X.toarray(), y)
    assert ours.loss_curve_[-1] <= objective(LOSSES[loss](), other, X, y) + 1e-6


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
def test_the_gap_bounds_the_distance(penalty):
    """As the bound, and as the estimate near the coefficients."""
    X = rows()
    y = labels(X)
    best = MiniBatchSGDClassifier(penalty=penalty, **EXACT).fit(X, y).best_loss_
    for tol in (0.3, 0.1, 1e-2, 1e-3, 1e-5):
        ours = MiniBatchSGDClassifier(penalty=penalty, **{**EXACT, "tol": tol}).fit(X, y)
        gap = float(ours.stop_reason_.split("prediction: ")[1].split()[0])
        assert ours.loss_curve_[-1] - best <= 1.06 * gap + 1e-12  # the reason has two digits


def test_rows_without_entries_and_rows_held_out():
    X = sparse.vstack([rows(), sparse.csr_matrix((5, D))]).tocsr()
    y = np.append(labels(rows()), [0, 1, 1, 1, 1])
    for fit_intercept in (True, False):
        exact = LogisticRegression(C=1 / (ALPHA * len(y)), tol=1e-10, max_iter=10000, fit_intercept=fit_intercept)
        ours = MiniBatchSGDClassifier(fit_intercept=fit_intercept, **EXACT).fit(X, y)
        np.testing.assert_allclose(ours.coef_, exact.fit(X, y).coef_, atol=1e-4)
    stopped = MiniBatchSGDClassifier(early_stopping=True, **EXACT).fit(X, y)
    assert np.isfinite(stopped.coef_).all()
    assert stopped.validation_scores_ is not None


# -- in an estimator


def test_auto_takes_it_for_sparse_rows():
    X = rows(density=0.2)
    y = labels(X)
    for penalty in ("l1", "elasticnet", "l2"):
        ours = MiniBatchSGDClassifier(penalty=penalty, alpha=ALPHA, random_state=0).fit(X, y)
        assert "by the duality gap" in ours.stop_reason_
    for changed in (
        {"average": True},
        {"clip_norm": 1.0},
        {"sampler": "importance"},
    ):
        other = MiniBatchSGDClassifier(**{"alpha": ALPHA, "random_state": 0, "max_iter": 3, "tol": None, **changed})
        other.fit(X, y)
        assert "SDCA" not in repr(other._fitted.model.optimizer)
    ours.partial_fit(X, y)
    assert np.isfinite(pickle.loads(pickle.dumps(ours)).coef_).all()


def test_rows_with_few_zeros_are_trained_on_as_dense_ones():
    X, y = rows(), labels(rows())
    packed, full = (MiniBatchSGDClassifier(alpha=ALPHA, random_state=0).fit(given, y) for given in (X, X.toarray()))
    np.testing.assert_array_equal(packed.coef_, full.coef_)
    assert "SDCA" not in repr(packed._fitted.model.optimizer)


def test_the_units_of_features_change_nothing():
    """Each coefficient has a pull of its own: without a penalty to speak of, passes and predictions stay as they are."""
    X, scale = rows(n=500, density=0.2), 10.0 ** np.linspace(-4, 4, D)
    y, scaled = labels(X, 3), sparse.csr_matrix(X @ sparse.diags(scale))
    for settings in ({}, {"loss": "hinge"}, {"loss": "modified_huber"}):
        one, other = (MiniBatchSGDClassifier(alpha=1e-15, random_state=0, **settings) for _ in range(2))
        one.fit(X, y)
        other.fit(scaled, y)
        assert "SDCA" in repr(other._fitted.model.optimizer)
        assert one.n_iter_ == other.n_iter_
        np.testing.assert_allclose(other.coef_ * scale, one.coef_, atol=1e-6)


def test_stiff_rows_are_visited_often():
    """Ten rows a hundred times as long as the others, or with as much weight as these together, cost no passes."""
    X = rows(n=2000, density=0.2)
    y = labels(X)
    long, weights = X.copy(), np.ones(2000)
    long[:10] *= 100.0
    weights[:10] = 200.0
    for given, weighted in ((long.tocsr(), None), (X, weights)):
        ours = MiniBatchSGDClassifier(random_state=0).fit(given, y, sample_weight=weighted)
        assert "SDCA" in repr(ours._fitted.model.optimizer)
        best = MiniBatchSGDClassifier(solver="sdca", tol=1e-9, max_iter=3000).fit(given, y, sample_weight=weighted)
        assert ours.n_iter_ < 30
        assert ours.best_loss_ - best.best_loss_ < 1e-3 * np.log(2)
        assert ours.t_ == 2000 * ours.n_iter_


@pytest.mark.slow
def test_auto_takes_it_for_a_kink_and_few_rows_on_a_side():
    X, rng = np.random.default_rng(4).standard_normal((4000, D)), np.random.default_rng(3)
    y = X @ rng.standard_normal(D) + rng.standard_normal(4000)
    settings = {"alpha": ALPHA, "max_iter": 1, "tol": None, "device": "base"}

    def takes(estimator, X, y, **parameters):
        return "SDCA" in repr(estimator(**settings, **parameters).fit(X, y)._fitted.model.optimizer)

    for dtype in (np.float64, np.float32):
        ours = MiniBatchSGDRegressor(loss="quantile", **settings).fit(X[:300].astype(dtype), y[:300])
        assert "SDCA" in repr(ours._fitted.model.optimizer)
        assert ours.coef_.dtype == dtype
    assert not takes(MiniBatchSGDRegressor, X, y, loss="quantile")
    assert takes(MiniBatchSGDRegressor, X, y, loss="quantile", quantile=0.9)
    assert takes(MiniBatchSGDRegressor, X, y, loss="quantile", penalty="l1")
    assert takes(MiniBatchSGDRegressor, X, y, loss="huber", penalty="l1")
    assert not takes(MiniBatchSGDRegressor, X[:300], y[:300], loss="huber")
    assert takes(MiniBatchSGDClassifier, X, y > np.quantile(y, 0.9), loss="hinge")
    assert not takes(MiniBatchSGDClassifier, X, y > np.median(y), loss="hinge")


def test_auto_takes_it_for_many_features():
    """Also where these depend on each other: without a pull, dense rows would take a thousand passes."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((400, 20)) @ rng.standard_normal((20, 1100)) + rng.standard_normal((400, 1100))
    y = X[:, 0] + rng.standard_normal(400)
    ours = MiniBatchSGDRegressor(random_state=0).fit(X, y)
    assert "SDCA" in repr(ours._fitted.model.optimizer)
    exact = Ridge(alpha=1e-4 * 400).fit(X, y)
    best = (np.mean((y - exact.predict(X)) ** 2) + 1e-4 * np.sum(exact.coef_**2)) / 2
    assert ours.n_iter_ < 100
    assert ours.best_loss_ - best < 1e-3 * np.var(y) / 2
    for estimator, n_features, takes in (
        (MiniBatchSGDRegressor, 1024, False),
        (MiniBatchSGDClassifier, 512, False),
        (MiniBatchSGDClassifier, 513, True),
    ):
        model = estimator(max_iter=1, tol=None, device="base").fit(X[:50, :n_features], y[:50] > 0)
        assert ("SDCA" in repr(model._fitted.model.optimizer)) == takes


@pytest.mark.parametrize("loss", ["quantile", "huber"])
def test_dense_rows_are_centered(loss):
    """Features far from zero take no more passes, and the objective is the same."""
    X, rng = np.random.default_rng(4).standard_normal((400, D)), np.random.default_rng(3)
    y = X @ rng.standard_normal(D) + rng.standard_normal(400)
    near = MiniBatchSGDRegressor(loss=loss, solver="sdca", alpha=1e-3, tol=1e-5, random_state=0).fit(X, y)
    far = MiniBatchSGDRegressor(loss=loss, solver="sdca", alpha=1e-3, tol=1e-5, random_state=0).fit(X + 1e3, y)
    assert far.n_iter_ <= 2 * near.n_iter_
    np.testing.assert_allclose(far.coef_, near.coef_, atol=2e-2)
    np.testing.assert_allclose(far.best_loss_, near.best_loss_, rtol=1e-4)


def test_any_batch_size_gives_the_same():
    X = rows()
    y = labels(X)
    fits = [MiniBatchSGDClassifier(**EXACT, batch_size=size).fit(X, y) for size in (1, 7, "auto")]
    for other in fits[1:]:
        np.testing.assert_allclose(other.coef_, fits[0].coef_, rtol=1e-9)
    assert fits[0].history_["rate"].tolist() == [1.0] * fits[0].n_iter_


def test_a_warm_start_goes_on_near_the_optimum():
    X = rows()
    y = labels(X)
    first = MiniBatchSGDClassifier(warm_start=True, **{**EXACT, "tol": 1e-9}).fit(X, y)
    n_iter, coef = first.n_iter_, first.coef_.copy()
    again = first.set_params(tol=1e-6).fit(X, y)
    assert again.n_iter_ < n_iter
    np.testing.assert_allclose(again.coef_, coef, atol=1e-3)
    far = MiniBatchSGDClassifier(**EXACT).fit(X, y, coef_init=np.full((1, D), 100.0))
    np.testing.assert_allclose(far.coef_, coef, atol=1e-3)


def test_what_is_kept_is_the_predictor_alone():
    """Neither the pulls nor the penalty, which would make the coefficients smaller once more."""
    X = rows(n=500, density=0.2)
    ours = MiniBatchSGDClassifier(penalty="l1", alpha=1e-3, random_state=0).fit(X, labels(X))
    fitted = ours._fitted
    assert fitted.model.optimizer == SDCA()
    np.testing.assert_array_equal(fitted.model.predictor(fitted.params, None)[0], ours.coef_)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"penalty": None}, {"alpha": 0.0}], ids=str)
@pytest.mark.parametrize("loss", ["squared_error", "quantile", "log_loss"])
def test_without_a_penalty(loss, settings):
    """There is no dual objective, but each epoch has one: it draws the coefficients to where they were."""
    X, rng = rows(n=300, density=0.2), np.random.default_rng(0)
    y = X @ rng.standard_normal(D) + rng.standard_normal(300)
    estimator, best = MiniBatchSGDRegressor(loss=loss) if loss != "log_loss" else MiniBatchSGDClassifier(), None
    if loss == "log_loss":
        y = (y > 0).astype(int)
        best = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X, y)
        best = best.coef_[0], best.intercept_[0]
    elif loss == "quantile":
        best = QuantileRegressor(alpha=0.0, solver="highs").fit(X, y)
        best = best.coef_, best.intercept_
    else:
        best = np.linalg.lstsq(np.hstack([X.toarray(), np.ones((300, 1))]), y)[0]
        best = best[:-1], best[-1]
    ours = estimator.set_params(solver="sdca", tol=1e-7, max_iter=3000, random_state=0, **settings).fit(X, y)
    np.testing.assert_allclose(ours.coef_.ravel(), best[0], atol=5e-3)
    assert ours.intercept_[0] == pytest.approx(best[1], abs=5e-3)
    left_open = clone(ours).set_params(solver="auto").fit(X, y)
    np.testing.assert_array_equal(left_open.coef_, ours.coef_)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_targets_may_be_far_beyond_the_width_of_a_loss(storage):
    """Huber's loss is flat for all rows but those near it: whatever the unit of y, a fit takes as many epochs."""
    X, rng = rows(n=1000, density=0.2), np.random.default_rng(0)
    X = X.toarray() + rng.standard_normal((1000, D)) if storage == "dense" else X
    raw = X @ rng.standard_normal(D) + 0.5 * rng.standard_t(3, 1000)
    n_iters, predictions = [], []
    for unit in (1e3, 1e5, 1e8):
        ours = MiniBatchSGDRegressor(loss="huber", penalty=None, random_state=0).fit(X, unit * raw)
        assert type(ours._fitted.model.optimizer).__name__ == "SDCA"
        n_iters.append(ours.n_iter_)
        predictions.append(ours.predict(X) / unit)
    assert max(n_iters) < 100
    exact = QuantileRegressor(alpha=0.0, solver="highs").fit(X, raw).predict(X)
    best = np.mean(np.abs(raw - exact))
    for found in predictions:
        assert np.mean(np.abs(raw - found)) < best + 2e-3 * (np.mean(np.abs(raw - np.median(raw))) - best)


def test_float32_stays():
    X = rows().astype(np.float32)
    ours = MiniBatchSGDClassifier(**{**EXACT, "tol": 1e-4}).fit(X, labels(X))
    assert ours.coef_.dtype == np.float32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": "constant"}, "learning_rate='constant' has no effect with solver='sdca'"),
        ({"average": True}, "average=True cannot be combined with solver='sdca'"),
        ({"clip_norm": 1.0}, "clip_norm=1.0 cannot be combined with solver='sdca'"),
        ({"sampler": "importance"}, "solver='sdca' needs rows of equal chance"),
        ({"standardize": True}, "standardize=True has no effect with solver='sdca'"),
        ({"eta0": 0.1}, "eta0=0.1 has no effect"),
    ],
    ids=str,
)
def test_what_has_no_effect_is_refused(changed, message):
    X = rows()
    with pytest.raises(ValueError, match=message):
        MiniBatchSGDClassifier(**{**EXACT, **changed}).fit(X, labels(X))


def test_an_l1_penalty_needs_a_loss_that_is_nowhere_negative():
    X = rows()
    with pytest.raises(ValueError, match="solver='sdca' does not support an l1 penalty with Poisson"):
        MiniBatchSGDRegressor(loss="poisson", penalty="l1", **EXACT).fit(X, labels(X))


def test_streams_and_networks_are_refused():
    X = rows()
    with pytest.raises(ValueError, match=r"solver='sdca' .* it is not supported by partial_fit"):
        MiniBatchSGDClassifier(solver="sdca").partial_fit(X, labels(X), classes=[0, 1])
    with pytest.raises(ValueError, match="needs a linear model"):
        MiniBatchMLPRegressor(solver=SDCA()).fit(X.toarray(), labels(X).astype(float))
