"""What training a network means: one objective whatever the batch, and predictions that no batch and no score changes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor
from skminibatch.contract.kinds import declaration, declared
from skminibatch.layers import ACTIVATIONS, NORMALIZATIONS, BatchNorm, GroupNorm, InstanceNorm
from skminibatch.losses import LOSSES
from skminibatch.optimizers import OPTIMIZERS, SGD
from skminibatch.schedules import SCALING_RULES
from skminibatch.training import loop
from tests.families import NETWORKS, constant, learnt, networks

QUICK = {"device": "base", "random_state": 0, "hidden_layer_sizes": (8,), "max_iter": 3, "tol": None, "batch_size": 16}
KINDS = {**{name: name for name in NORMALIZATIONS}, "instance": InstanceNorm(2), "group": GroupNorm(2), "none": None}
BY_ROW = [name for name, kind in KINDS.items() if kind is None or not NORMALIZATIONS[name].couples_rows]
every_kind = pytest.mark.parametrize("kind", KINDS)


def classes_of(estimator, y):
    return {"classes": np.unique(y)} if is_classifier(estimator) else {}


def number_of(estimator, X, y) -> np.ndarray:
    """Raw outputs of a classifier, predictions of a regressor."""
    return (estimator.decision_function if is_classifier(estimator) else estimator.predict)(X)


# -- T2: the objective


@pytest.mark.parametrize("kind", BY_ROW)
@pytest.mark.parametrize("size", [1, 7, 60])
@networks
def test_t2_batches_of_any_size_estimate_the_same_gradient(kind, size, estimator_class, problem, rng):
    """T2: by enumeration, penalty and weights included: the mean step of all batches is that of all rows."""
    X, y = problem.X[:60], problem.y[:60]
    weights = rng.uniform(0.2, 3.0, 60)
    settings = {**QUICK, "solver": SGD(), **constant(estimator_class, 1e-3), "alpha": 0.7, "shuffle": False}
    start = estimator_class(normalization=KINDS[kind], **{**settings, "batch_size": 60})
    start.partial_fit(X, y, sample_weight=weights, **classes_of(start, y))

    def step(rows):
        copy = pickle.loads(pickle.dumps(start)).set_params(batch_size=len(rows))
        return learnt(copy.partial_fit(X[rows], y[rows], sample_weight=weights[rows])) - learnt(start)

    whole = step(np.arange(60))
    batches = np.array_split(np.arange(60), -(-60 // size))
    mean = sum(len(rows) * step(rows) for rows in batches) / 60
    np.testing.assert_allclose(mean, whole, rtol=1e-9, atol=1e-14)
    assert np.max(abs(whole)) > 1e-4


@pytest.mark.parametrize("batch_size", [1, 8, 60])
@pytest.mark.parametrize("solver", ["sgd", "adamw"])
@networks
def test_t2_a_step_decays_by_the_rate_times_alpha(batch_size, solver, estimator_class, problem):
    """T2: whatever the batch: what alpha adds to one step is ``-rate alpha w``."""
    rows = slice(0, batch_size)
    steps = {}
    for alpha in (0.0, 0.5):
        settings = {**QUICK, "momentum": 0.0, **constant(estimator_class, 0.01), "batch_size": batch_size}
        estimator = estimator_class(solver=solver, **settings).partial_fit(
            *problem, **classes_of(estimator_class(), problem.y)
        )
        before = [coef.copy() for coef in estimator.coefs_]
        estimator.set_params(alpha=alpha).partial_fit(problem.X[rows], problem.y[rows])
        steps[alpha] = estimator.coefs_
    for with_penalty, without, coef in zip(steps[0.5], steps[0.0], before, strict=True):
        np.testing.assert_allclose(with_penalty - without, -0.01 * 0.5 * coef, rtol=1e-7, atol=1e-12)


@every_kind
@networks
def test_weights_count_by_their_proportions(kind, estimator_class, problem, rng):
    """Rows of weight zero are as if they were not there, and the scale of the weights does not matter."""
    X, y = problem
    weights = np.where(np.arange(240) < 100, rng.uniform(0.5, 2.0, 240), 0.0)
    estimator = estimator_class(normalization=KINDS[kind], **QUICK)
    expected = learnt(estimator.fit(X[:100], y[:100], sample_weight=weights[:100]))
    np.testing.assert_allclose(learnt(estimator.fit(X, y, sample_weight=weights)), expected, rtol=1e-9)
    np.testing.assert_allclose(learnt(estimator.fit(X, y, sample_weight=1e6 * weights)), expected, rtol=1e-9)
    assert not np.allclose(learnt(estimator.fit(X[:100], y[:100])), expected, rtol=1e-3)


def test_the_objective_of_several_outputs_is_the_sum(regression):
    """And the curve shows it, before each step of a batch."""
    X, y = regression
    Y = np.column_stack([y, -2 * y, y**2])
    settings = {**QUICK, "max_iter": 2, "alpha": 0.1, "warm_start": True}
    model = MiniBatchMLPRegressor(**settings).fit(X, Y)
    expected = 0.5 * np.mean(np.sum((model.predict(X) - Y) ** 2, axis=1))
    expected += 0.05 * sum(np.sum(coef**2) for coef in model.coefs_)
    model.set_params(max_iter=1, **constant(model, 1e-14)).fit(X, Y)
    np.testing.assert_allclose(model.loss_curve_, [expected], rtol=1e-9)
    assert model.loss_ == model.best_loss_ == model.loss_curve_[0]


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.task == "regression"])
def test_every_loss_of_regression_learns(loss, rng):
    X = rng.uniform(-2, 2, (400, 2))
    y = np.round(3 * X[:, 0] ** 2 + np.abs(X[:, 1]))
    settings = {**QUICK, "hidden_layer_sizes": (20,), "learning_rate_init": 0.02, "max_iter": 40, "device": "auto"}
    assert MiniBatchMLPRegressor(loss=loss, **settings).fit(X, y).score(X, y) > 0.8


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if getattr(loss, "link", None) != "log"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_loss_of_classification_learns(loss, n_classes, rng):
    X = rng.uniform(-2, 2, (400, 2))
    radius = np.hypot(*X.T)
    y = np.digitize(radius, [0.9, 1.5] if n_classes == 3 else [1.2])
    settings = {**QUICK, "hidden_layer_sizes": (20,), "learning_rate_init": 0.02, "max_iter": 40, "device": "auto"}
    assert MiniBatchMLPClassifier(loss=loss, **settings).fit(X, y).score(X, y) > 0.7


# -- T8: batches of several rows


@pytest.mark.parametrize("kind", ["batch", "ghost", "hybrid"])
@pytest.mark.parametrize("n_rows", [2, 3, 5, 30, 31, 32])
@pytest.mark.parametrize("batch_size", [2, 3, 10, 15, 100])
@networks
def test_t8_no_batch_of_one_row_is_normalized(kind, n_rows, batch_size, estimator_class, rng, monkeypatch):
    """T8: n % batch_size in {0, 1, 2} and n < batch_size; every row is used."""
    part, sizes = NORMALIZATIONS[kind], []
    forward = part.forward

    def recorded(self, X, parameters, running, weights, train):
        sizes.extend([len(X)] * train)
        return forward(self, X, parameters, running, weights, train)

    monkeypatch.setattr(part, "forward", recorded)
    monkeypatch.setattr(loop, "noise_of_micro_batches", lambda *args: None)  # which sees some rows again
    estimator = estimator_class(normalization=kind, **{**QUICK, "batch_size": batch_size})
    X, y = rng.standard_normal((n_rows, 2)), np.arange(n_rows) % 2
    estimator.fit(X, y).partial_fit(X, y)
    assert sum(sizes) == estimator.t_ == 4 * n_rows
    assert min(sizes) >= 2
    assert max(sizes) <= max(3, min(batch_size, n_rows))
    assert np.isfinite(learnt(estimator)).all()


# -- T10: predictions


@every_kind
@pytest.mark.parametrize("device", ["base", "cpu"])
@networks
def test_t10_predictions_are_those_of_each_row(kind, device, estimator_class, problem):
    """T10: the same bits twice, whatever rows stand beside it; dropout and statistics of a batch belong to training."""
    X, y = problem
    settings = {**QUICK, "normalization": KINDS[kind], "normalize_input": kind in ("batch", "ghost", "hybrid")}
    estimator = estimator_class(dropout=0.5, **{**settings, "device": device}).fit(X, y)
    before, expected = learnt(estimator), number_of(estimator, X, y)
    np.testing.assert_array_equal(number_of(estimator, X, y), expected)
    for rows in (slice(0, 1), slice(3, 7), slice(None, None, -1)):
        np.testing.assert_allclose(number_of(estimator, X[rows], y), expected[rows], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(learnt(estimator), before)


@every_kind
@networks
def test_t10_a_validation_pass_touches_nothing(kind, estimator_class, problem):
    """T10: neither statistics nor the masks of dropout nor the order of rows, in `fit` and afterwards in `partial_fit`."""
    X, y = problem
    plain, scored = (estimator_class(normalization=KINDS[kind], dropout=0.3, **QUICK) for _ in range(2))
    plain.fit(X, y)
    scored.fit(X, y, X_val=3 * X[:50], y_val=y[:50])
    np.testing.assert_array_equal(learnt(scored), learnt(plain))
    scored.score(5 * X, y)
    np.testing.assert_array_equal(learnt(scored.partial_fit(X, y)), learnt(plain.partial_fit(X, y)))


@every_kind
@networks
def test_t12_the_best_weights_come_with_their_statistics(kind, estimator_class, problem, rng):
    """T12: what early stopping restores is the best epoch as a whole, and `partial_fit` goes on from there."""
    X, y = problem
    X_val, y_val = X[:60] + 0.5 * rng.standard_normal((60, 5)), y[:60]
    settings = {**QUICK, **NETWORKS.restless, "normalization": KINDS[kind], "dropout": 0.1, "max_iter": 12}
    stopped = estimator_class(early_stopping=True, **settings).fit(X, y, X_val=X_val, y_val=y_val)
    best = int(np.argmax(stopped.validation_scores_))
    shorter = estimator_class(**{**settings, "max_iter": best + 1}).fit(X, y)
    np.testing.assert_array_equal(learnt(stopped), learnt(shorter))
    np.testing.assert_allclose(stopped.score(X_val, y_val), stopped.best_validation_score_)
    before = learnt(stopped)
    stopped.set_params(early_stopping=False, **constant(stopped, 1e-13)).partial_fit(X, y)
    size = sum(coef.size + intercept.size for coef, intercept in zip(stopped.coefs_, stopped.intercepts_, strict=True))
    np.testing.assert_allclose(learnt(stopped)[:size], before[:size], atol=1e-9)


# -- parameters of the layers


@pytest.mark.parametrize("activation", [*ACTIVATIONS, ["tanh", "relu"], ["gelu", ACTIVATIONS["leaky_relu"](0.3)]])
@pytest.mark.parametrize("device", ["base", "cpu"])
def test_predictions_are_those_of_the_fitted_attributes(activation, device, regression):
    """By the formulas, from `coefs_`, `intercepts_` and `normalizations_`."""
    X, y = regression
    settings = {**QUICK, "device": device, "hidden_layer_sizes": (6, 4), "normalization": BatchNorm(epsilon=0.1)}
    model = MiniBatchMLPRegressor(activation=activation, normalize_input=True, dropout=[0.2, 0.0], **settings).fit(X, y)
    names = activation if isinstance(activation, list) else [activation] * 2
    parts = [ACTIVATIONS[name]() if isinstance(name, str) else name for name in names]

    def normalized(A, found):
        return found["gamma"] * (A - found["mean"]) / np.sqrt(found["variance"] + 0.1) + found["beta"]

    A = normalized(X, model.normalizations_[0])
    for part, coef, found in zip(parts, model.coefs_, model.normalizations_[1:], strict=False):
        A = part.activate(normalized(A @ coef, found))
    np.testing.assert_allclose(A @ model.coefs_[-1][:, 0] + model.intercepts_[-1], model.predict(X), rtol=1e-9)
    assert [intercept.any() for intercept in model.intercepts_] == [False, False, True]
    assert (model.n_layers_, model.n_outputs_, model.out_activation_) == (4, 1, "identity")
    assert model.normalizations_[-1] is None


@pytest.mark.parametrize(
    ("loss", "y_of", "expected"),
    [
        ("log_loss", lambda y: y, "softmax"),
        ("log_loss", lambda y: y > 0, "logistic"),
        ("log_loss", lambda y: np.eye(3, dtype=int)[y], "logistic"),
        ("hinge", lambda y: y, "identity"),
    ],
    ids=["several", "two", "several at once", "hinge"],
)
def test_what_turns_raw_outputs_into_predictions(loss, y_of, expected, several):
    X, y = several.X, y_of(several.y)
    classifier = MiniBatchMLPClassifier(loss=loss, **QUICK).fit(X, y)
    assert classifier.out_activation_ == expected
    assert (
        classifier.n_outputs_ == classifier.coefs_[-1].shape[1] == (1 if y.ndim == 1 and len(np.unique(y)) == 2 else 3)
    )
    assert MiniBatchMLPRegressor(loss="poisson", **QUICK).fit(X, several.y).out_activation_ == "exp"


@every_kind
@pytest.mark.parametrize("device", ["base", "cpu"])
@networks
def test_float32_stays_float32(kind, device, estimator_class, problem):
    X, y = problem.X.astype(np.float32), problem.y
    for container in (np.asarray, sparse.csr_matrix):
        estimator = estimator_class(normalization=KINDS[kind], **{**QUICK, "device": device}).fit(container(X), y)
        estimator.partial_fit(container(X), y)
        arrays = [array for found in estimator.normalizations_ if found is not None for array in found.values()]
        arrays += [*estimator.coefs_, *estimator.intercepts_, estimator._fitted.params]
        assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
        assert number_of(estimator, container(X), y).dtype == np.float32


@every_kind
@pytest.mark.parametrize("device", ["base", "cpu"])
@networks
def test_sparse_rows_are_as_dense_ones(kind, device, estimator_class, problem, monkeypatch):
    """To rounding, for the solvers whose update of a weight without a gradient is that of any other; never densified."""
    X = np.where(np.abs(problem.X) > 0.7, problem.X, 0.0)
    settings = {
        **QUICK,
        "device": device,
        "solver": "sgd",
        "normalization": KINDS[kind],
        **constant(estimator_class, 0.01),
    }
    dense = estimator_class(**settings).fit(X, problem.y)
    rows = sparse.csr_matrix(X)

    def refuse(*arguments, **keywords):
        raise AssertionError("sparse rows were made dense")

    for name in ("toarray", "todense"):
        monkeypatch.setattr(sparse.csr_matrix, name, refuse)
    again = estimator_class(**settings).fit(rows, problem.y)
    np.testing.assert_allclose(learnt(again), learnt(dense), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(number_of(again, rows, None), number_of(dense, X, None), rtol=1e-7, atol=1e-10)


# -- where training starts, and its rates


def test_the_outputs_start_at_the_best_constant(regression, several):
    X, y = regression
    settings = {**QUICK, "max_iter": 1, "learning_rate_init": 1e-13}
    np.testing.assert_allclose(MiniBatchMLPRegressor(**settings).fit(X, y).intercepts_[-1], [y.mean()])
    median = MiniBatchMLPRegressor(loss="quantile", **settings).fit(X, y).intercepts_[-1]
    np.testing.assert_allclose(median, [np.median(y)], atol=0.05)
    rare = MiniBatchMLPClassifier(**settings).fit(X, np.arange(240) % 8 == 0).intercepts_[-1]
    np.testing.assert_allclose(rare, np.log(1 / 7), rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "cosine", "adaptive"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_schedules_serve_every_solver(schedule, solver, regression):
    settings = {**QUICK, "solver": solver, "learning_rate": schedule, "learning_rate_init": 0.003, "max_iter": 4}
    rates = MiniBatchMLPRegressor(**settings).fit(*regression).history_["rate"]
    expected = {
        "constant": lambda t: 0.003,
        "adaptive": lambda t: 0.003,
        "invscaling": lambda t: 0.003 / (t + 1) ** 0.5,
        "cosine": lambda t: 0.0015 * (1 + np.cos(np.pi * t / 960)),
    }[schedule]
    np.testing.assert_allclose(rates, [expected(240 * epoch - 16) for epoch in range(1, 5)], rtol=1e-9)  # last steps


@pytest.mark.parametrize("rule", [name for name, rule in SCALING_RULES.items() if declaration(rule)["reads"] is None])
def test_the_rate_follows_the_batch_size(rule, regression):
    settings = {**QUICK, "learning_rate_init": 0.001, "lr_scaling": rule, "base_batch_size": 4}
    rates = MiniBatchMLPRegressor(**settings).fit(*regression).history_["rate"]
    np.testing.assert_allclose(rates, {"linear": 0.004, "adam_half_life": 0.001}.get(rule, 0.002), rtol=1e-9)


@pytest.mark.parametrize("solver", ["adam", "adamw", "rmsprop", "adagrad"])
def test_the_automatic_rate_of_adaptive_solvers(solver, problem_of_networks):
    model = MiniBatchMLPRegressor(**{**QUICK, "solver": solver, "learning_rate": "auto", "max_iter": 30})
    assert model.fit(*problem_of_networks).score(*problem_of_networks) > 0.7
    rates = model.history_["rate"][1:]  # halved after a rise, and else what the solver states
    assert rates[0] == declared(OPTIMIZERS[solver]()).auto_rate
    assert set(rates[:-1] / rates[1:]) <= {1.0, 2.0}


@pytest.fixture
def problem_of_networks(regression):
    """A target that is no linear function."""
    return regression.X, np.abs(regression.X[:, 0]) + regression.X[:, 1]


def test_sgd_has_scikit_learns_momentum(regression):
    """`momentum` and `nesterovs_momentum` configure 'sgd'; 'momentum' and 'nesterov' name what they are."""
    common = {**QUICK, **constant(MiniBatchMLPRegressor, 1e-3), "momentum": 0.8}
    fits = {
        name: learnt(MiniBatchMLPRegressor(**common, **settings).fit(*regression))
        for name, settings in {
            "sgd": {"solver": "sgd"},
            "nesterov": {"solver": "nesterov"},
            "sgd without Nesterov": {"solver": "sgd", "nesterovs_momentum": False},
            "momentum": {"solver": "momentum"},
        }.items()
    }
    np.testing.assert_array_equal(fits["sgd"], fits["nesterov"])
    np.testing.assert_array_equal(fits["sgd without Nesterov"], fits["momentum"])
    assert not np.allclose(fits["sgd"], fits["momentum"], rtol=1e-6)
    plain = MiniBatchMLPRegressor(**{**common, "momentum": 0.0}, solver="sgd").fit(*regression)
    part = MiniBatchMLPRegressor(**{**common, "momentum": 0.9}, solver=SGD()).fit(*regression)
    np.testing.assert_array_equal(learnt(plain), learnt(part))


@networks
def test_clone_keeps_lists(estimator_class, problem):
    estimator = estimator_class(
        **{**QUICK, "hidden_layer_sizes": [4, 3]}, activation=["tanh", "relu"], dropout=[0.1, 0.2]
    )
    copy = clone(estimator.fit(*problem))
    assert (copy.activation, copy.dropout) == (["tanh", "relu"], [0.1, 0.2])
    np.testing.assert_array_equal(learnt(copy.fit(*problem)), learnt(estimator))
