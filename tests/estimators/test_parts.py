"""Parts of a user: what they may leave out, and the sentence where they may not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract import kinds
from skminibatch.contract.domains import POSITIVE, SHARE
from skminibatch.contract.kinds import declares
from skminibatch.diagnostics import hessian_eigenvalues
from skminibatch.estimators import parts
from skminibatch.losses import LOSSES
from skminibatch.optimizers import OPTIMIZERS, Adam
from skminibatch.penalties import ElasticNet
from skminibatch.samplers import SAMPLERS
from skminibatch.schedules import SCHEDULES

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")

# the kinds that a user passes, by parameter and by an estimator that has it
PASSED = {
    "loss": (kinds.LOSS, MiniBatchSGDRegressor),
    "penalty": (kinds.PENALTY, MiniBatchSGDRegressor),
    "solver": (kinds.OPTIMIZER, MiniBatchSGDRegressor),
    "learning_rate": (kinds.RATE_SCHEDULE, MiniBatchSGDRegressor),
    "batch_size": (kinds.SIZE_SCHEDULE, MiniBatchSGDRegressor),
    "sampler": (kinds.SAMPLER, MiniBatchSGDRegressor),
    "activation": (kinds.ACTIVATION, MiniBatchMLPRegressor),
    "normalization": (kinds.NORMALIZATION, MiniBatchMLPRegressor),
}
STEADY = {"learning_rate": "constant", "eta0": 0.02, "solver": "sgd", "max_iter": 4, "tol": None, "random_state": 0}


def coefficients(problem, device: str, storage: str = "dense", **parameters) -> np.ndarray:
    X, y = problem
    X = sparse.csr_matrix(X * (np.abs(X) > 0.5)) if storage == "csr" else X
    return MiniBatchSGDRegressor(device=device, **STEADY | parameters).fit(X, y).coef_


def agree(problem, **parameters) -> np.ndarray:
    """The compiled kernels and the plain formulas give the same."""
    compiled, plain = (coefficients(problem, device, **parameters) for device in ("cpu", "base"))
    np.testing.assert_allclose(compiled, plain, rtol=1e-9, atol=1e-12)
    return compiled


# -- what is refused


@pytest.mark.parametrize(
    ("parameter", "missing"), [(name, member) for name, (kind, _) in PASSED.items() for member in kind.required]
)
def test_a_missing_member_is_named(parameter, missing, regression):
    kind, estimator = PASSED[parameter]
    members = {name: lambda self: None for name in kind.required if name != missing}
    part = type("Half", (NamedTuple("Half", []),), members)()
    with pytest.raises(
        ValueError, match=f"Half in the '{parameter}' parameter has no '{missing}': an? {kind.name} has"
    ):
        estimator(**{parameter: part}).fit(*regression)


@pytest.mark.parametrize("parameter", PASSED)
def test_a_tuple_is_no_part(parameter, regression):
    kind, estimator = PASSED[parameter]
    with pytest.raises(
        ValueError, match=f"The '{parameter}' parameter must be a name or an? {kind.name}, a named tuple"
    ):
        estimator(**{parameter: (1, 2)}).fit(*regression)


def test_a_part_of_another_kind_is_named(regression):
    with pytest.raises(ValueError, match="ElasticNet in the 'loss' parameter is a penalty, not a loss"):
        MiniBatchSGDRegressor(loss=ElasticNet()).fit(*regression)


@pytest.mark.parametrize("estimator", [MiniBatchSGDRegressor, MiniBatchMLPRegressor])
def test_an_optimizer_outside_its_domain_is_refused(estimator, regression):
    with pytest.raises(
        ValueError, match=r"The 'beta_1' of Adam in the 'solver' parameter must be a float in the range \[0"
    ):
        estimator(solver=Adam(beta_1=7)).fit(*regression)


def test_a_custom_domain_is_checked(regression):
    @declares(domains={"memory": SHARE})
    class Heavy(NamedTuple):
        memory: float = 0.9

        def coefficients(self, rates, sizes, memory):
            return rates[:, None], memory

        def update(self, w, g, slots, c):
            return w - c[0] * g, slots, c[0]

    with pytest.raises(ValueError, match=r"The 'memory' of Heavy in the 'solver' parameter must be .* Got 7 instead"):
        MiniBatchSGDRegressor(solver=Heavy(7), learning_rate="constant").fit(*regression)


def test_class_data_for_kernels_is_no_property(regression):
    class Curved(NamedTuple):
        scale: float = 1.0

        @property
        def curvature(self):
            return self.scale

        def value(self, raw, y):
            return 0.5 * self.scale * (raw - y) ** 2

        def gradient(self, raw, y):
            return self.scale * (raw - y)

    with pytest.raises(ValueError, match="'curvature' of Curved in the 'loss' parameter must be class data"):
        MiniBatchSGDRegressor(loss=Curved()).fit(*regression)


@pytest.mark.parametrize(
    ("registry", "name"),
    [(LOSSES, "loss"), (OPTIMIZERS, "solver"), (SAMPLERS, "sampler"), (SCHEDULES, "learning_rate")],
)
def test_an_unknown_name_lists_the_valid_ones(registry, name):
    with pytest.raises(
        ValueError, match=f"The '{name}' parameter must be a str among {{'{min(registry)}', .*}}. Got 'x'"
    ):
        parts.named(registry, "x", name)


# -- rate schedules


class Stairs(NamedTuple):
    """A rate that halves every 1,000 samples, but is never below the smallest one."""

    eta0: float = 0.05
    smallest: float = 0.01
    factor: float = 2.0

    def rates(self, samples, state):
        return np.maximum(self.eta0 / self.factor ** (samples // 1000), self.smallest)


def test_a_rate_schedule_with_a_field_named_smallest(regression):
    regressor = MiniBatchSGDRegressor(learning_rate=Stairs(), solver="sgd", random_state=0, max_iter=200, device="base")
    regressor.fit(*regression)
    assert "adaptive" not in regressor.stop_reason_
    assert regressor.history_["rate"][0] > regressor.history_["rate"][-1] == 0.01
    assert regressor.score(*regression) > 0.9


# -- losses


class Fair(NamedTuple):
    """``c^2 (|r| / c - log(1 + |r| / c))`` of the residual r (Fair 1974); c is called `loss`, and nothing is declared."""

    loss: float = 1.0

    def value(self, prediction: float, target: float) -> float:  # with names and types of its own
        r = np.abs(prediction - target) / self.loss
        return self.loss**2 * (r - np.log1p(r))

    def gradient(self, prediction: float, target: float) -> float:
        return (prediction - target) / (1.0 + np.abs(prediction - target) / self.loss)


@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_a_loss_with_a_field_named_loss_and_without_curvature(storage, regression):
    coef = agree(regression, loss=Fair(), storage=storage)
    assert np.any(coef != agree(regression, loss=Fair(0.5), storage=storage))


def test_it_may_have_several_outputs_and_train_networks(regression):
    X, y = regression
    several = X, np.column_stack([y, -y])
    agree(several, loss=Fair())
    networks = [
        MiniBatchMLPRegressor(loss=Fair(), hidden_layer_sizes=(4,), max_iter=3, tol=None, random_state=0, device=device)
        for device in ("cpu", "base")
    ]
    compiled, plain = (network.fit(*several).coefs_ for network in networks)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-7)


def test_it_is_refused_by_name_where_a_bound_is_needed(regression):
    fitted = MiniBatchSGDRegressor(loss=Fair(), random_state=0, device="base").fit(*regression)
    with pytest.raises(ValueError, match="Fair has no second_derivative"):
        hessian_eigenvalues(fitted, *regression)


def test_a_link_belongs_to_the_loss_that_declares_it(counts):
    """Predictions, valid targets and the exported estimator follow what is declared, whoever wrote it."""
    Poisson = LOSSES["poisson"]
    custom = type("Counts", (Poisson,), {})
    X, y = counts
    ours, listed = (
        MiniBatchSGDRegressor(loss=loss(), random_state=0, device="base").fit(X, y) for loss in (custom, Poisson)
    )
    np.testing.assert_array_equal(ours.predict(X), listed.predict(X))
    np.testing.assert_allclose(ours.as_sklearn().predict(X), ours.predict(X))
    assert MiniBatchMLPRegressor(loss=custom(), max_iter=2, tol=None, device="base").fit(X, y).out_activation_ == "exp"
    with pytest.raises(ValueError, match=r"out of the valid range of the loss Counts\(\): row 3 of y is -1"):
        MiniBatchSGDRegressor(loss=custom()).fit(X, np.where(np.arange(len(y)) == 3, -1.0, y))


@pytest.mark.parametrize("problem", ["binary", "several"])
def test_probabilities_belong_to_the_loss_that_declares_them(problem, request):
    X, y = request.getfixturevalue(problem)
    for name in ("log_loss", "modified_huber"):
        custom = type("Own", (LOSSES[name],), {})()
        ours, listed = (
            MiniBatchSGDClassifier(loss=loss, random_state=0, device="base").fit(X, y) for loss in (custom, name)
        )
        np.testing.assert_array_equal(ours.predict_proba(X), listed.predict_proba(X))
        np.testing.assert_array_equal(ours.predict_log_proba(X), listed.predict_log_proba(X))
        network = MiniBatchMLPClassifier(loss=custom, max_iter=1, tol=None, hidden_layer_sizes=(2,), device="base").fit(
            X, y
        )
        assert network.predict_proba(X).shape == (len(y), len(network.classes_))
    assert not hasattr(MiniBatchSGDClassifier(loss=LOSSES["hinge"]()), "predict_proba")


# -- optimizers


class Signs(NamedTuple):
    """A step along the signs of the gradient, with nothing declared."""

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, parameter: float, derivative: float, state: tuple, rate: tuple) -> tuple:
        return parameter - rate[0] * np.sign(derivative), state, rate[0]


@pytest.mark.parametrize(("storage", "penalty", "average"), [("dense", "l2", True), ("csr", "l1", False)])
def test_an_optimizer_with_nothing_declared(storage, penalty, average, regression):
    agree(regression, solver=Signs(), penalty=penalty, average=average, storage=storage)


def test_it_trains_networks(binary):
    settings = {"hidden_layer_sizes": (3,), "max_iter": 20, "tol": None, "random_state": 0, "learning_rate_init": 0.02}
    network = MiniBatchMLPClassifier(solver=Signs(), **settings)
    assert network.fit(*binary).score(*binary) > 0.7


def test_it_has_no_automatic_rate(regression):
    with pytest.raises(ValueError, match=r"needs a solver with auto_multiple.* which Signs does not have: set a rate"):
        MiniBatchSGDRegressor(solver=Signs()).fit(*regression)


# -- penalties


class Ridge(NamedTuple):
    """The square, as another class than the elastic net, with nothing declared."""

    strength: float = 0.1

    def value(self, w):
        return 0.5 * self.strength * w * w

    def gradient(self, w):
        return self.strength * w

    def prox(self, w, step):
        return w


@declares(quadratic=True, nonsmooth=False)
class DeclaredRidge(Ridge):
    """The same, declared."""


@declares(nonsmooth=False, curvature=0.2, domains={"strength": POSITIVE})
class Saturating(NamedTuple):
    """``strength log(1 + w^2)``, smooth but not quadratic: its second derivative is 2 strength at most."""

    strength: float = 0.1

    def value(self, w):
        return self.strength * np.log1p(w * w)

    def gradient(self, w):
        return 2.0 * self.strength * w / (1.0 + w * w)

    def prox(self, w, step):
        return w

    def second_derivative(self, w):
        return 2.0 * self.strength * (1.0 - w * w) / (1.0 + w * w) ** 2


class Shrunk(NamedTuple):
    """The absolute value, by a proximal map of which nothing is declared."""

    strength: float = 0.3

    def value(self, theta: float) -> float:
        return self.strength * np.abs(theta)

    def gradient(self, theta: float) -> float:
        return 0.0 * theta

    def prox(self, theta: float, length: float) -> float:
        return np.sign(theta) * np.maximum(np.abs(theta) - length * self.strength, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("penalty", "storage"), [(Saturating(), "dense"), (Ridge(), "csr"), (DeclaredRidge(), "csr"), (Shrunk(), "csr")]
)
def test_a_penalty_of_a_user(penalty, storage, regression):
    coef = agree(regression, penalty=penalty, storage=storage)
    assert np.any(np.abs(coef - coefficients(regression, "base", penalty=None, storage=storage)) > 1e-4)


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("penalty", [Ridge(), DeclaredRidge(), Saturating(), Shrunk()], ids=repr)
@pytest.mark.parametrize("solver", ["momentum", "schedule_free", "adam"])
def test_every_solver_takes_a_penalty_of_a_user(solver, penalty, storage, regression):
    coef = coefficients(regression, "base", storage, solver=solver, penalty=penalty)
    assert np.any(np.abs(coef - coefficients(regression, "base", storage, solver=solver, penalty=None)) > 1e-4)


@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_a_penalty_that_says_what_the_elastic_net_says_is_the_elastic_net(storage, regression):
    ours = coefficients(regression, "base", storage, penalty=DeclaredRidge(0.1))
    np.testing.assert_array_equal(ours, coefficients(regression, "base", storage, penalty=ElasticNet(0.1)))


def test_dense_rows_need_no_declaration(regression):
    """What is declared decides how sparse rows are trained and which rates are automatic, not what a penalty is."""
    undeclared = coefficients(regression, "base", penalty=Ridge())
    np.testing.assert_allclose(undeclared, coefficients(regression, "base", penalty=ElasticNet(0.1)), rtol=1e-12)
    shrunk = coefficients(regression, "base", penalty=Shrunk(1.0))
    np.testing.assert_allclose(shrunk, coefficients(regression, "base", penalty=ElasticNet(0.0, 1.0)), atol=1e-12)
    assert np.any(shrunk == 0)


def test_an_automatic_rate_needs_a_bound_of_the_curvature(regression):
    with pytest.raises(ValueError, match="Ridge does not declare its own: it needs the class data 'curvature'"):
        MiniBatchSGDRegressor(penalty=Ridge()).fit(*regression)
    for penalty in (DeclaredRidge(), Saturating()):
        assert (
            MiniBatchSGDRegressor(penalty=penalty, random_state=0, device="base").fit(*regression).score(*regression)
            > 0.9
        )


def test_saga_on_sparse_rows_needs_a_quadratic_penalty(regression):
    X, y = sparse.csr_matrix(regression[0]), regression[1]
    for penalty in (Saturating(), Shrunk()):
        with pytest.raises(
            ValueError, match="solver='saga' does not support an l1 penalty on sparse data, or another one that is not"
        ):
            MiniBatchSGDRegressor(penalty=penalty, solver="saga").fit(X, y)
    MiniBatchSGDRegressor(penalty=DeclaredRidge(), solver="saga", max_iter=2, tol=None, device="base").fit(X, y)


def test_the_curvature_of_a_penalty_is_part_of_the_hessian(regression):
    """That of the gradient along each coordinate; a penalty without a second derivative is named."""
    X, y = regression
    fitted = MiniBatchSGDRegressor(penalty=Saturating(), random_state=0, max_iter=3, tol=None, device="base").fit(X, y)
    examined, h = fitted._examined(X, y, None), 1e-6
    H = examined.hessian_matrix()
    for j, direction in enumerate(np.eye(len(H))):
        up, down = (examined.at(examined.point + sign * h * direction) for sign in (1, -1))
        gradients = [found.loss_gradient() + found.penalty_gradient() for found in (up, down)]
        np.testing.assert_allclose(H[j], (gradients[0] - gradients[1]) / (2 * h), atol=1e-6)
    undeclared = MiniBatchSGDRegressor(penalty=Ridge(), learning_rate="constant", device="base").fit(X, y)
    with pytest.raises(ValueError, match="Ridge has no second_derivative"):
        hessian_eigenvalues(undeclared, X, y)


def test_an_average_of_another_optimizer_starts_anew(binary):
    """On a stream, slots are kept for an optimizer of the same class, and of the same one inside an average."""
    settings = {"learning_rate": "constant", "eta0": 0.01, "average": True, "random_state": 0, "device": "base"}
    classifier = MiniBatchSGDClassifier(solver="sgd", **settings).partial_fit(*binary, classes=[0, 1])
    classifier.set_params(solver="adam").partial_fit(*binary)
    assert classifier._fitted.params.shape[0] == 4
    assert classifier.score(*binary) > 0.7


class OfTwoMethods(NamedTuple):
    """A custom loss with what is required and a bound of its curvature."""

    curvature = 1.0
    task = "regression"

    def value(self, raw, y):
        return np.sqrt(1.0 + (raw - y) ** 2) - 1.0

    def gradient(self, raw, y):
        return (raw - y) / np.sqrt(1.0 + (raw - y) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_a_loss_without_a_second_derivative_is_fitted(n_targets, storage, regression):
    X, y = regression
    Y = np.column_stack([y, -y])[:, :n_targets].squeeze()
    ours = MiniBatchSGDRegressor(loss=OfTwoMethods(), device="base", random_state=0).fit(storage(X), Y)
    best = MiniBatchSGDRegressor(loss=OfTwoMethods(), device="base", random_state=0, tol=1e-8).fit(storage(X), Y)
    assert ours.best_loss_ - best.best_loss_ < 1e-3 * np.abs(y - np.median(y)).mean()
