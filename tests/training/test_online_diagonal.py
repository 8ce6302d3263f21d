"""Diagonal Newton steps on streams of sparse rows: the kernel and its oracle, where streams end, and what a failure leaves."""

from __future__ import annotations

import copy
import pickle
from itertools import cycle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends import base, choose
from skminibatch.contract.kinds import declared
from skminibatch.losses import LOSSES, EachOutput, Logistic, OneVsRest, Softmax, SquaredError
from skminibatch.training.online_diagonal import MATERIAL, RECENT, OnlineDiagonal, Terms
from skminibatch.training.online_newton import Change

REGRESSION = sorted(name for name in LOSSES if declared(LOSSES[name]()).task == "regression")
CLASSIFICATION = sorted(set(LOSSES) - set(REGRESSION) - {"perceptron"})
N, D = 3_000, 400


def text(n=N, d=D, n_classes=2, seed=0):
    """Bags of words whose frequencies follow Zipf's law, and labels of a linear model."""
    rng = np.random.default_rng(seed)
    frequency = 1.0 / np.arange(1, d + 1)
    words = rng.choice(d, (n, 12), p=frequency / frequency.sum())
    X = sparse.csr_matrix((rng.uniform(0.5, 1.5, words.size), (np.repeat(np.arange(n), 12), words.ravel())), (n, d))
    raw = X @ rng.standard_normal((d, n_classes))
    return X, (raw + rng.gumbel(size=raw.shape)).argmax(axis=1)


def problem(loss, n_classes=2, **settings):
    X, y = text(n_classes=n_classes)
    if loss in CLASSIFICATION:
        return MiniBatchSGDClassifier(loss=loss, random_state=0, **settings), X, y
    rng = np.random.default_rng(1)
    raw = X @ rng.standard_normal(D) / 3
    y = (
        rng.poisson(np.exp(np.clip(raw, -3, 2))).astype(float)
        if loss == "poisson"
        else 100 + 5 * raw + rng.standard_t(3, N)
    )
    return MiniBatchSGDRegressor(loss=loss, random_state=0, **settings), X, y


def streamed(model, X, y, chunk=100, passes=1, weights=None):
    first = {"classes": np.unique(y)} if isinstance(model, MiniBatchSGDClassifier) else {}
    for _ in range(passes):
        for start in range(0, len(y), chunk):
            rows = slice(start, start + chunk)
            given = {} if weights is None else {"sample_weight": weights[rows]}
            model.partial_fit(X[rows], y[rows], **given, **first)
    return model


def objective(model, X, y):
    return model._examined(X, y, None).smooth_objective() + nonsmooth(model)


def nonsmooth(model):
    penalty = model._fitted.model.penalty
    return float(np.sum(penalty.value(model._predictor()[0]) - penalty.smooth_value(model._predictor()[0])))


# -- the kernel


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("l1", [0.0, 0.002])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "loss", [Logistic(), SquaredError(), Softmax(), OneVsRest(Logistic()), EachOutput(SquaredError())], ids=repr
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_kernel_does_what_the_formulas_say(device, loss, fit_intercept, l1, weighted, request):
    if device == "cuda":
        request.getfixturevalue("stand_in")
    rng = np.random.default_rng(0)
    X = sparse.random(60, 9, 0.4, "csr", random_state=0)
    X.data[:5] = [0.0, 1e-200, -3.0, 30.0, 0.0]
    several = not isinstance(loss, Logistic | SquaredError)
    K = 3 if several else 1
    y = np.where(rng.random(60) < 0.5, 1.0, -1.0)
    if several:
        y = (
            rng.standard_normal((60, 3))
            if isinstance(loss, EachOutput)
            else rng.integers(3, size=(60, 1)).astype(float)
        )
    weights = rng.uniform(0.1, 3.0, 60) if weighted else np.empty(0)
    rows = rng.permutation(60)[:50]
    terms = Terms(rng.standard_normal(K), fit_intercept, 0.01, l1, 0.7, 0.5, 0.05, 0.25, 3.0)
    ends = []
    for backend in (base, choose(device)):
        state = np.zeros((10, K)), np.zeros(10), np.zeros(9)
        coef = np.empty((K, 9))
        first = backend.follow_csr(loss, X, y, weights, rows, state, terms)
        later = terms._replace(weight=first[0])
        second = backend.follow_csr(loss, X, y, weights, rows[::-1].copy(), state, later)
        penalty = backend.coefficients_followed(state, later._replace(weight=second[0]), np.arange(coef.shape[1]), coef)
        ends.append((*state, *first, *second, coef, penalty))
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
    assert np.abs(ends[0][-2]).max() > 0.01
    assert np.any(ends[0][0][-1]) == fit_intercept


def test_a_row_goes_as_far_as_its_loss_wants():
    """To where the derivative of its loss, times its squared length over the precisions, is the move."""
    x, prior = np.array([[100.0, 0.0, -300.0]]), 1e-3
    state, terms = (
        (np.zeros((4, 1)), np.zeros(4), np.zeros(3)),
        Terms(np.zeros(1), True, 0.0, 0.0, prior, 0.5, 0.05, 0.25, 0.0),
    )
    base.follow_csr(Logistic(), sparse.csr_matrix(x), np.ones(1), np.empty(0), np.arange(1), state, terms)
    before = np.zeros(1)
    q = np.sum(x[x != 0] ** 2 / (prior * x[x != 0] ** 2)) + 1.0 / prior
    coef = base.coefficients_at(state, terms, 1.0, np.arange(3))[:, 0]
    after = x @ coef + state[0][-1] / (0.5 * state[1][-1] + prior)
    assert after > 5.0
    np.testing.assert_allclose(after - before, q / (1.0 + np.exp(after)), rtol=1e-6)


# -- streams


@pytest.mark.slow
@pytest.mark.parametrize(  # a step looks at the loss, and what is read of the sums at the penalty: one after another
    ("loss", "penalty"), list(zip([*CLASSIFICATION, *REGRESSION], cycle(["l2", "l1", "elasticnet"])))
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_passes_come_nearer_to_the_optimum(loss, penalty):
    model, X, y = problem(loss, penalty=penalty, alpha=1e-3)
    best = clone(model).set_params(tol=1e-5, max_iter=300).fit(X, y)
    constant = clone(model).fit(sparse.csr_matrix(X.shape), y)
    best, constant = objective(best, X, y), objective(constant, X, y)
    one = objective(streamed(model, X, y), X, y)
    assert isinstance(model._fitted.newton, OnlineDiagonal)
    ten = objective(streamed(model, X, y, passes=9), X, y)
    assert (one - best) / (constant - best) < (0.35 if "hinge" in loss else 0.2)
    assert ten - best < (one - best) / 3


@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_several_classes(loss):
    """A pass of the stream is as good as four of steps along gradients."""
    settings = {"loss": loss, "alpha": 1e-3, "random_state": 0}
    X, y = text(n_classes=4)
    by_gradients = streamed(MiniBatchSGDClassifier(**settings, solver="schedule_free"), X, y, passes=4)
    assert streamed(MiniBatchSGDClassifier(**settings), X, y).score(X, y) > by_gradients.score(X, y)


def test_the_batch_size_and_the_chunks_make_no_difference():
    """Once the intercept has a start; in the order of the rows: `shuffle` orders each chunk by itself."""
    coefs = []
    for chunk, batch_size in ((100, 64), (1000, 64), (100, 1)):
        model, X, y = problem("log_loss", shuffle=False, batch_size=batch_size)
        coefs.append(streamed(model.partial_fit(X[:50], y[:50], classes=[0, 1]), X, y, chunk).coef_)
    np.testing.assert_allclose(coefs[1:], coefs[:1] * np.ones((2, 1, 1)), rtol=1e-9, atol=1e-12)


def test_the_units_of_features_make_no_difference():
    units = 2.0 ** np.random.default_rng(0).integers(-12, 13, D)
    model, X, y = problem("log_loss", alpha=0.0, penalty=None)
    other, _, _ = problem("log_loss", alpha=0.0, penalty=None)
    coef = streamed(model, X, y).coef_
    np.testing.assert_allclose(streamed(other, X.multiply(units).tocsr(), y).coef_ * units, coef, rtol=1e-6, atol=1e-9)


def test_rows_of_weight_zero_do_not_count():
    model, X, y = problem("log_loss", shuffle=False)
    weights = (np.arange(N) % 3 > 0).astype(float)
    other, _, _ = problem("log_loss", shuffle=False)
    streamed(model, X, y, weights=weights)
    streamed(other, X[weights > 0], y[weights > 0], chunk=67)
    assert np.corrcoef(model.coef_[0], other.coef_[0])[0, 1] > 0.98


def test_zeros_of_an_l1_penalty_are_exact():
    model, X, y = problem("log_loss", penalty="l1", alpha=3e-3)
    best = MiniBatchSGDClassifier(**{**model.get_params(), "tol": 1e-6, "max_iter": 300}).fit(X, y)
    streamed(model, X, y, passes=10)
    differ = (model.coef_[0] != 0) != (best.coef_[0] != 0)
    assert 0 < np.count_nonzero(best.coef_) < D / 3
    assert differ.sum() < 0.1 * D


def test_a_change_is_followed():
    """The labels turn round in the middle; without a change nothing is forgotten."""
    X, y = text(12_000)
    same = streamed(MiniBatchSGDClassifier(random_state=0), X[:9000], y[:9000])
    assert same._fitted.newton.weight == 9000
    model = streamed(MiniBatchSGDClassifier(random_state=0), X[:6000], y[:6000])
    streamed(model, X[6000:9000], 1 - y[6000:9000])
    assert model._fitted.newton.weight < 3000 + RECENT
    assert model.score(X[9000:], 1 - y[9000:]) > 0.9 * same.score(X[9000:], y[9000:])


def test_recent_rows_have_to_be_worth_more_than_all_of_the_gain():
    """Few of them know few of the features: only where all rows predict worse than a constant are these forgotten."""
    change = Change(gain=5.0, squares=0.1, worth=20.0)
    assert change.calls_for_forgetting(0.1, 100.0)
    assert not change.calls_for_forgetting(0.1, 100.0, MATERIAL)
    assert change._replace(worth=4.0).calls_for_forgetting(0.1, 100.0, MATERIAL)


def test_what_is_kept_of_recent_rows_does_not_overflow(monkeypatch):
    """Weights of new rows grow; now and then, all are brought back to the unit."""
    import skminibatch.training.online_diagonal as module

    (_, X, y), coefs = problem("log_loss"), []
    for largest in (1e30, 3.0):
        monkeypatch.setattr(module, "LARGEST_GROWTH", largest)
        streamed(other := MiniBatchSGDClassifier(random_state=0), X, y)
        (recent,) = other._fitted.newton.recent
        assert recent.growth < 1.2 * largest
        coefs.append(recent.copied().sums)
    np.testing.assert_allclose(*coefs, rtol=1e-9, atol=1e-12)


# -- what outlives a call


def test_a_stream_that_came_back_from_a_pickle_goes_on_with_the_same_bits():
    model, X, y = problem("log_loss")
    streamed(model, X[:1500], y[:1500])
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(streamed(model, X, y).coef_, streamed(other, X, y).coef_)


def test_copies_go_on_by_themselves():
    model, X, y = problem("log_loss")
    streamed(model, X[:1500], y[:1500])
    shallow, deep = copy.copy(model), copy.deepcopy(model)
    streamed(model, X[1500:], 1 - y[1500:])
    streamed(shallow, X[1500:], y[1500:]), streamed(deep, X[1500:], y[1500:])
    np.testing.assert_array_equal(shallow.coef_, deep.coef_)
    assert not np.array_equal(shallow.coef_, model.coef_)


@pytest.mark.parametrize("n_rows", [50, 2500])
def test_a_failed_call_changes_nothing(n_rows):
    model, X, y = problem("log_loss")
    streamed(model, X[:2000], y[:2000])
    before = pickle.dumps(model.__dict__["_fitted"].newton)
    wrong = X[:n_rows].copy()
    wrong.data[-1] = 1e300
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="Floating-point under-/overflow"):
        model.partial_fit(wrong, y[:n_rows])
    assert pickle.dumps(model._fitted.newton) == before


def test_what_goes_by_steps_along_gradients():
    """A solver or a rate that is asked for, features in dense rows, a stream after `fit`, and coefficients that were assigned."""
    _, X, y = problem("log_loss")

    def newton_of(model, X=X):
        return model.partial_fit(X[:500], y[:500], classes=[0, 1])._fitted.newton

    assert isinstance(newton_of(MiniBatchSGDClassifier()), OnlineDiagonal)
    for settings in (
        {"solver": "sgd"},
        {"learning_rate": "constant", "eta0": 0.1},
        {"clip_norm": 1.0},
        {"sampler": "stratified"},
    ):
        assert newton_of(MiniBatchSGDClassifier(**settings)) is None
    assert newton_of(MiniBatchSGDClassifier(), X.toarray()) is None
    assert newton_of(MiniBatchSGDClassifier().fit(X, y)) is None
    model = MiniBatchSGDClassifier().partial_fit(X[:500], y[:500], classes=[0, 1])
    model.coef_ = model.coef_ * 0.5
    assert newton_of(model) is None
    assert np.abs(model.coef_).max() > 0.1


def test_rows_that_are_full_do_not_end_it():
    model, X, y = problem("log_loss")
    streamed(model, X, y)
    full = sparse.csr_matrix(np.random.default_rng(0).standard_normal((10, D)))
    model.partial_fit(full, y[:10])
    assert isinstance(model._fitted.newton, OnlineDiagonal)


def test_single_precision_stays():
    model, X, y = problem("log_loss")
    coef = streamed(model, X.astype(np.float32), y).coef_
    double, _, _ = problem("log_loss")
    assert coef.dtype == np.float32
    np.testing.assert_allclose(
        coef, streamed(double, X.astype(np.float32).astype(float), y).coef_, rtol=1e-4, atol=1e-5
    )
