"""Properties of every loss in the registry."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import numpy as np
import pytest
from numba import njit

from skminibatch.backends.cpu import formulas  # noqa: F401 (gives the verbs their compiled meaning)
from skminibatch.contract.kinds import declaration, declared
from skminibatch.contract.verbs import (
    gradient,
    hessian_product,
    second_derivative,
    stiffness,
    value,
    value_gradient,
)
from skminibatch.estimators.targets import RegressionTarget
from skminibatch.losses import (
    LOSSES,
    ROWWISE_LOSSES,
    EachOutput,
    Huber,
    Logistic,
    OneVsRest,
    Quantile,
    SquaredError,
)

# Other values of the hyper-parameters than the defaults; every loss of the registry comes with its defaults.
VARIANTS = [Huber(1.5), Quantile(0.9)]
POINTWISE = [cls() for cls in LOSSES.values()] + VARIANTS
ROWWISE = (
    [cls() for cls in ROWWISE_LOSSES.values()]
    + [OneVsRest(cls()) for cls in LOSSES.values() if cls.task == "classification"]
    + [EachOutput(cls()) for cls in LOSSES.values()]
)
N_OUTPUTS = 3


def each(losses, having=lambda loss: True):
    """Run a test for each loss that has something."""
    return pytest.mark.parametrize("loss", [loss for loss in losses if having(loss)], ids=repr)


def bounded(loss) -> bool:
    return declared(loss).curvature is not None


pointwise, rowwise = each(POINTWISE), each(ROWWISE)


def targets(task: str) -> np.ndarray:
    return np.array([-1.0, 1.0]) if task == "classification" else np.array([0.0, 0.7, 3.0])


def grid(loss) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs and targets, (n,) each; the outputs are 0.01 apart and avoid round numbers."""
    raw = np.arange(-400, 500) * 0.01 + 0.0031
    y = targets(type(loss).task)
    return np.tile(raw, y.size), np.repeat(y, raw.size)


def row_targets(loss, rng, n: int) -> np.ndarray:
    if not isinstance(loss, EachOutput):
        return rng.integers(N_OUTPUTS, size=(n, 1)).astype(float)
    return rng.choice(targets(type(loss.loss).task), size=(n, N_OUTPUTS))


def row_value(loss, raw, y) -> float:
    return value_gradient(loss, raw, y, np.empty(raw.size))


def row_gradient(loss, raw, y) -> np.ndarray:
    out = np.full(raw.size, np.nan)
    value_gradient(loss, raw, y, out)
    return out


@pointwise
def test_gradient_is_the_difference_of_the_value(loss):
    raw, y = grid(loss)
    h = 1e-5
    numerical = (value(loss, raw + h, y) - value(loss, raw - h, y)) / (2 * h)
    smooth = np.abs(gradient(loss, raw + h, y) - gradient(loss, raw - h, y)) < 1e-2  # no kink in between
    assert smooth.mean() > 0.99
    np.testing.assert_allclose(gradient(loss, raw, y)[smooth], numerical[smooth], rtol=1e-6, atol=1e-6)


@pointwise
def test_gradient_is_a_subgradient_everywhere(loss):
    """The loss is convex and its gradient a supporting line, at its kinks too."""
    raw, y = grid(loss)
    for kink in (-1.0, 0.0, 1.0):
        at = np.full(raw.size, kink)
        line = value(loss, at, y) + gradient(loss, at, y) * (raw - at)
        assert np.all(value(loss, raw, y) >= line - 1e-12)


@pointwise
def test_value_is_not_negative_and_convex(loss):
    raw, y = grid(loss)
    h = 0.3
    middle = value(loss, raw, y)
    assert np.all(middle >= -1e-12)
    assert np.all(value(loss, raw + h, y) + value(loss, raw - h, y) >= 2 * middle - 1e-12)


@pointwise
def test_second_derivative_is_the_difference_of_the_gradient(loss):
    raw, y = grid(loss)
    h = 1e-5
    numerical = (gradient(loss, raw + h, y) - gradient(loss, raw - h, y)) / (2 * h)
    second = second_derivative(loss, raw, y)
    assert second.shape == raw.shape
    smooth = np.abs(second_derivative(loss, raw + h, y) - second_derivative(loss, raw - h, y)) < 1e-2
    smooth &= numerical < 1e3  # kinks
    assert smooth.mean() > 0.99
    np.testing.assert_allclose(second[smooth], numerical[smooth], rtol=1e-6, atol=1e-6)


@rowwise
def test_hessian_product_is_the_difference_of_gradients(loss, rng):
    raw, y = rng.uniform(-2, 2, (50, N_OUTPUTS)), row_targets(loss, rng, 50)
    direction, h = rng.standard_normal((50, N_OUTPUTS)), 1e-6
    up, down = (
        np.array([row_gradient(loss, *row) for row in zip(raw + sign * h * direction, y, strict=True)])
        for sign in (1, -1)
    )
    numerical = (up - down) / (2 * h)
    kinks = np.abs(numerical) > 1e3
    assert kinks.mean() < 0.05
    np.testing.assert_allclose(
        hessian_product(loss, raw, y, direction)[~kinks], numerical[~kinks], rtol=1e-5, atol=1e-6
    )


@each(POINTWISE, bounded)
def test_curvature_bounds_the_second_derivative_and_is_reached(loss):
    raw, y = grid(loss)
    h = 1e-3
    second = (gradient(loss, raw + h, y) - gradient(loss, raw - h, y)) / (2 * h)
    assert second.max() <= type(loss).curvature * (1 + 1e-6)
    assert second.max() >= 0.99 * type(loss).curvature


@each(POINTWISE, lambda loss: not bounded(loss))
def test_a_loss_without_curvature_has_kinks_or_grows_without_bound(loss):
    raw, y = grid(loss)
    raw = np.concatenate([raw, y, y + 0.1, 1 / np.where(y == 0, 1, y), 0 * y, raw + 20])
    y = np.tile(y, 6)
    h = 1e-6
    assert np.max(gradient(loss, raw + h, y) - gradient(loss, raw - h, y)) / (2 * h) > 1e4


@pointwise
def test_stiffness_bounds_the_second_derivative_and_the_move_of_a_row(loss):
    raw, y = grid(loss)
    stiff = np.broadcast_to(stiffness(loss, raw, y), raw.shape)
    assert np.all(stiff > 0)
    if type(loss).curvature is not None:
        assert np.all(stiff == type(loss).curvature)
        return
    h = 1e-6
    g = gradient(loss, raw, y)
    second = (gradient(loss, raw + h, y) - gradient(loss, raw - h, y)) / (2 * h)
    smooth = np.abs(second) < 1e4  # away from the kinks
    assert np.all(second[smooth] <= stiff[smooth] * (1 + 1e-6) + 1e-6)
    assert np.all(np.abs(g) <= np.maximum(stiff, 1.0) + 1e-12)


@each(POINTWISE, lambda loss: declared(loss).task == "regression" and declared(loss).brings("baseline"))
def test_baseline_is_a_good_constant(loss, rng):
    """Where a loss names its best constant output, no other is better by more than a few per cent."""
    y, weights = rng.poisson(3.0, 300).astype(float), rng.uniform(0.1, 2.0, 300)

    def mean_loss(constant):
        return np.average(value(loss, np.full(y.size, constant), y), weights=weights)

    best = min(mean_loss(constant) for constant in np.linspace(-2.0, 8.0, 2001))
    assert mean_loss(loss.baseline(y, weights)) <= 1.05 * best


class FourthPower(NamedTuple):
    """A custom loss that does not name its best constant."""

    task = "regression"

    def value(self, raw, y):
        return (raw - y) ** 4 / 4.0

    def gradient(self, raw, y):
        return (raw - y) ** 3


def test_a_loss_that_names_no_constant_has_one_found(rng):
    y, weights = 1e4 + rng.exponential(3.0, (5_000, 2)), rng.uniform(0.1, 2.0, 5_000)
    found = RegressionTarget(2, True).baseline(y, weights, FourthPower())
    for constant, column in zip(found, y.T, strict=True):
        slopes = np.average((constant - column) ** 3, weights=weights), np.average(np.abs(constant - column) ** 3)
        assert abs(slopes[0]) < 0.2 * slopes[1]
    assert RegressionTarget(1, False).baseline(np.full(3, 7.0), None, FourthPower()) == [7.0]


@rowwise
def test_rowwise_gradient_is_the_difference_of_the_value(loss, rng):
    h = 1e-5
    for raw, y in zip(2 * rng.standard_normal((60, N_OUTPUTS)), row_targets(loss, rng, 60), strict=True):
        g = row_gradient(loss, raw, y)
        for k in range(N_OUTPUTS):
            e = h * np.eye(N_OUTPUTS)[k]
            if abs(row_gradient(loss, raw + e, y)[k] - row_gradient(loss, raw - e, y)[k]) > 1e-2:
                continue  # a kink
            numerical = (row_value(loss, raw + e, y) - row_value(loss, raw - e, y)) / (2 * h)
            np.testing.assert_allclose(g[k], numerical, rtol=1e-6, atol=1e-6)


@each(ROWWISE, bounded)
def test_rowwise_curvature_bounds_the_largest_eigenvalue(loss, rng):
    bound = declared(loss).curvature
    h, largest = 1e-4, 0.0
    for raw, y in zip(rng.standard_normal((200, N_OUTPUTS)), row_targets(loss, rng, 200), strict=True):
        raw[: N_OUTPUTS - 1] *= 0.1
        raw[-1] -= 6.0  # two outputs of the same size, where softmax is most curved
        rows = [
            (row_gradient(loss, raw + e, y) - row_gradient(loss, raw - e, y)) / (2 * h) for e in h * np.eye(N_OUTPUTS)
        ]
        hessian = np.array(rows)
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-6)
        largest = max(largest, np.linalg.eigvalsh(hessian)[-1])
        assert stiffness(loss, raw, y) == bound
    assert 0.95 * bound <= largest <= bound * (1 + 1e-6)


@each(ROWWISE, lambda loss: isinstance(loss, EachOutput))
def test_rowwise_stiffness_is_that_of_the_stiffest_output(loss, rng):
    for raw, y in zip(rng.standard_normal((20, N_OUTPUTS)), row_targets(loss, rng, 20), strict=True):
        assert stiffness(loss, raw, y) == max(stiffness(loss.loss, raw[k], y[k]) for k in range(N_OUTPUTS))


def test_softmax_of_two_classes_is_the_logistic_loss(rng):
    softmax = ROWWISE_LOSSES["log_loss"]()
    for z in rng.standard_normal(20) * 5:
        raw = np.array([0.3, 0.3 + z])
        np.testing.assert_allclose(row_value(softmax, raw, np.array([1.0])), value(Logistic(), z, 1.0), rtol=1e-12)
        np.testing.assert_allclose(row_gradient(softmax, raw, np.array([1.0]))[1], gradient(Logistic(), z, 1.0))


@pointwise
def test_compiled_formulas_are_the_array_formulas(loss):
    @njit
    def evaluate(loss, raw, y):
        out = np.empty((2, raw.size))
        for i in range(raw.size):
            out[0, i] = value(loss, raw[i], y[i])
            out[1, i] = gradient(loss, raw[i], y[i])
        return out

    raw, y = grid(loss)
    raw, y = (
        np.concatenate([raw[::7], y, 1 / np.where(y == 0, 1, y), 0 * y, y + 0.1]),
        np.concatenate([y[::7], *[y] * 4]),
    )
    base = [value(loss, raw, y), gradient(loss, raw, y)]
    np.testing.assert_allclose(evaluate(loss, raw, y), base, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "loss",
    [
        *(cls() for cls in ROWWISE_LOSSES.values()),
        OneVsRest(LOSSES["hinge"]()),
        EachOutput(LOSSES["poisson"]()),
        EachOutput(LOSSES["huber"]()),
    ],
    ids=repr,
)
def test_compiled_rowwise_formulas_are_the_array_formulas(loss, rng):
    @njit
    def evaluate(loss, raw, y, out):
        return value_gradient(loss, raw, y, out)

    for raw, y in zip(rng.standard_normal((50, N_OUTPUTS)), row_targets(loss, rng, 50), strict=True):
        out = np.empty(N_OUTPUTS)
        np.testing.assert_allclose(evaluate(loss, raw, y, out), row_value(loss, raw, y), rtol=1e-12)
        np.testing.assert_allclose(out, row_gradient(loss, raw, y), rtol=1e-12)


def test_losses_of_equal_fields_are_not_confused():
    """As tuples they are equal; a compiled formula is found by the type."""
    assert SquaredError() == Logistic()

    @njit
    def evaluate(loss):
        return value(loss, 2.0, 1.0)

    assert evaluate(SquaredError()) == 0.5
    np.testing.assert_allclose(evaluate(Logistic()), np.log1p(np.exp(-2.0)))


@pytest.mark.parametrize("loss", [*POINTWISE, *ROWWISE], ids=repr)
def test_pickle_and_repr(loss):
    copy = pickle.loads(pickle.dumps(loss))
    assert type(copy) is type(loss)
    assert copy == loss
    names = {type(part).__name__: type(part) for part in [*POINTWISE, *ROWWISE]}
    assert repr(eval(repr(loss), names)) == repr(loss)


@pytest.mark.parametrize("name", LOSSES)
def test_class_data(name):
    loss = LOSSES[name]
    assert loss.task in ("classification", "regression")
    assert loss.curvature is None or loss.curvature > 0
    assert declaration(loss)["link"] in ("identity", "log", "logit")
