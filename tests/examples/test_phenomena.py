"""What the theory predicts of training, on the problems of the examples."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest

from skminibatch import MiniBatchSGDRegressor
from skminibatch.backends import base
from skminibatch.contract.orders import explicit_order
from skminibatch.contract.plan import Plan
from skminibatch.contract.task import LinearTask
from skminibatch.losses import SquaredError
from skminibatch.optimizers import SGD
from skminibatch.penalties import ElasticNet
from skminibatch.schedules import Geometric, InverseScaling
from skminibatch.statistics.smoothness import SmoothnessConstants
from tests.examples.loading import example

pytestmark = pytest.mark.slow


def assert_about(measured, expected, sharpest):
    """The mean over runs is as expected, within 4.5 standard errors that are small enough to tell."""
    error = measured.std(ddof=1) / np.sqrt(len(measured))
    assert error < sharpest * expected
    assert abs(measured.mean() - expected) < 4.5 * error


@pytest.fixture(scope="module")
def saddle():
    module = example("plot_saddle_escape")
    return module.Saddle(module.load_digits().data)


def test_the_time_at_a_saddle_grows_with_the_logarithm_of_the_batch_size(saddle, rng):
    sizes = 4 ** np.arange(5)
    medians = np.array([np.median(saddle.steps_to_escape(b, rng)) for b in sizes])
    assert np.all(np.diff(medians) > 0)
    slope = np.polyfit(np.log(sizes), medians, 1)[0]
    np.testing.assert_allclose(slope, 1 / np.log(saddle.growth), rtol=0.35)
    np.testing.assert_allclose(medians[1:], saddle.predicted_steps(sizes[1:]), rtol=0.25)


def test_all_rows_at_once_stay_at_a_saddle(saddle, rng):
    assert saddle.steps_of_all_rows(500) == np.inf
    rows = np.tile(np.arange(len(saddle.rows)), (1, 1))
    np.testing.assert_allclose(saddle.gradients(saddle.start[None], rows), 0.0, atol=1e-12)
    # Above the saddle the first component grows as it should, and batches do not change the mean.
    above = saddle.start + 1e-3 * saddle.direction
    slope = saddle.gradients(above[None], rows)[0] @ saddle.direction
    np.testing.assert_allclose(slope, -1e-3 * (saddle.first - saddle.second), rtol=1e-3)


def test_the_noise_of_a_row_pushes_from_a_saddle(saddle):
    """One step from the start: along the first component, zero in the mean and of the variance of the formula."""
    rows = np.arange(len(saddle.rows))[:, None]
    pushes = saddle.gradients(np.tile(saddle.start, (len(rows), 1)), rows) @ saddle.direction
    np.testing.assert_allclose(pushes.mean(), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.mean(pushes**2), saddle.noise)


@pytest.fixture(scope="module")
def noise_ball():
    return example("plot_noise_ball")


@pytest.fixture(scope="module")
def least_squares(noise_ball):
    return noise_ball.diabetes()


def test_a_small_ball_is_proportional_to_the_step(least_squares):
    for step, tolerance in ((1e-4, 1e-3), (1e-6, 1e-5)):
        np.testing.assert_allclose(least_squares.ball(step), least_squares.small_ball(step), rtol=tolerance)


def test_the_noise_ball_of_a_constant_step(noise_ball, least_squares):
    """The measured excess is that of the exact equation; twice the step, about twice the ball."""
    excess = {}
    for step in (0.004, 0.008, 0.016):
        runs = least_squares.excess(learning_rate="constant", eta0=step)[:, noise_ball.SETTLED].mean(axis=1)
        assert_about(runs, least_squares.ball(step), 0.03)
        excess[step] = runs.mean()
    for step in (0.004, 0.008):
        np.testing.assert_allclose(excess[2 * step] / excess[step], 2.0, rtol=0.15)


def test_the_ball_of_a_falling_step(noise_ball, least_squares):
    step = noise_ball.DECAYING / np.sqrt(len(least_squares.X) * np.arange(1, noise_ball.N_EPOCHS + 1))
    excess = least_squares.excess(learning_rate="invscaling", eta0=noise_ball.DECAYING, power_t=0.5)
    ratios = (excess / least_squares.small_ball(step))[:, noise_ball.SETTLED].mean(axis=1)
    assert_about(ratios, 1.0, 0.06)


def test_the_ball_of_a_falling_step_in_one_dimension():
    """E w^2 over that of the step of the moment tends to one (lambda = sigma = b = 1)."""
    rates = InverseScaling(0.5, 0.5).rates(np.arange(200_000.0), None)
    second_moment, ratios = 1.0, []
    for rate in rates.tolist():
        second_moment = (1 - rate) ** 2 * second_moment + rate**2
        ratios.append(second_moment / (rate / 2))
    np.testing.assert_allclose(ratios[-1], 1.0, rtol=0.01)
    assert abs(ratios[-1] - 1) < abs(ratios[2_000] - 1)


def test_the_mean_of_the_iterates_leaves_the_ball(noise_ball, least_squares):
    excess = least_squares.excess(learning_rate="constant", eta0=0.016, average=True).mean(axis=0)
    k = len(least_squares.X) * np.arange(1, noise_ball.N_EPOCHS + 1)
    bound = np.trace(np.linalg.solve(least_squares.hessian, least_squares.noise)) / (2 * k)
    np.testing.assert_allclose((excess / bound)[noise_ball.SETTLED].mean(), 1.0, rtol=0.3)
    assert excess[-1] < least_squares.small_ball(0.016) / 100


def test_a_growing_batch_beats_a_constant_one(least_squares):
    """About 20,000 rows of batches from 8 on: less than a fifth of the excess, in less than a fifth of the steps."""
    excess, steps = {}, {}
    for batch_size in (8, Geometric(8, 2, 4)):
        fits = [
            MiniBatchSGDRegressor(
                penalty=None, solver="sgd", sampler="replacement", learning_rate="constant", eta0=0.1,
                batch_size=batch_size, max_iter=45, tol=None, random_state=seed,
            ).fit(least_squares.X, least_squares.y)
            for seed in range(5)
        ]  # fmt: skip
        excess[batch_size] = np.mean([fit.loss_curve_[-5:] for fit in fits]) - least_squares.minimum
        steps[batch_size] = fits[0].n_updates_
    constant, growing = excess
    assert excess[growing] < excess[constant] / 5
    assert steps[growing] < steps[constant] / 5


def test_a_growing_batch_is_a_falling_rate():
    annealing = example("plot_annealing")
    X, y = annealing.load_digits(return_X_y=True)
    X = annealing.scale(X)
    constant, _, falling, growing = (annealing.mean_history(X, y, 0.0, way) for way in annealing.WAYS.values())
    np.testing.assert_allclose(growing["objective"], falling["objective"], rtol=0.01)
    assert growing["objective"][-1] < constant["objective"][-1] - 0.003
    assert growing["updates"][-1] < falling["updates"][-1] / 3


@pytest.fixture(scope="module")
def scaling():
    return example("plot_lr_scaling")


@pytest.fixture(scope="module")
def digits(scaling):
    X, y = scaling.load_digits(return_X_y=True)
    return scaling.scale(X[:1536]), y[:1536]


def test_linear_scaling_keeps_progress_a_row(scaling, digits):
    def after_one_pass(rule, batch_size):
        fits = [scaling.classifier(rule, batch_size, seed).set_params(max_iter=1) for seed in range(5)]
        return np.mean([fit.fit(*digits).loss_curve_ for fit in fits])

    base = after_one_pass("linear", 8)
    np.testing.assert_allclose(after_one_pass("linear", 32), base, rtol=0.01)
    assert after_one_pass("sqrt", 32) > 1.1 * base


def test_square_root_scaling_keeps_the_variance_of_an_update(scaling, digits, rng):
    base = scaling.variance_of_an_update("sqrt", 8, *digits, rng)
    for rule, expected in (("sqrt", 1.0), ("linear", 16.0)):
        np.testing.assert_allclose(scaling.variance_of_an_update(rule, 128, *digits, rng) / base, expected, rtol=0.15)


@pytest.mark.parametrize("batch_size", [1, 5, 30])
def test_steps_by_the_expected_smoothness_stay_below_their_bound(batch_size, rng):
    """Gower et al. 2019, theorem 3.1: with a step of ``1 / (2 L(b))``, at each of 400 steps, rows of uneven length."""
    n, d, runs = 60, 4, 400
    X = rng.standard_normal((n, d)) * rng.exponential(size=(n, 1))
    y = X @ np.arange(d) + rng.standard_normal(n)
    best, curvatures = np.linalg.lstsq(X, y)[0], np.linalg.eigvalsh(X.T @ X / n)
    rows = np.sum(X**2, axis=1)
    rate = 0.5 / SmoothnessConstants(curvatures[-1], rows.max(), rows.mean()).of_batch(batch_size, n)
    noise = (n - batch_size) / (batch_size * (n - 1)) * np.mean((X @ best - y) ** 2 * rows)
    w, start = np.zeros((runs, d)), np.sum(best**2)
    for k in range(1, 401):
        batch = np.argpartition(rng.random((runs, n)), batch_size - 1, axis=1)[:, :batch_size]
        residuals = np.einsum("rbd,rd->rb", X[batch], w) - y[batch]
        w -= rate * np.einsum("rb,rbd->rd", residuals, X[batch]) / batch_size
        distances = np.sum((w - best) ** 2, axis=1)
        bound = (1 - rate * curvatures[0]) ** k * start + 2 * rate * noise / curvatures[0]
        assert distances.mean() <= bound


# -- the stationary distribution, and which minimum is left


NOTHING, NO_PENALTY = np.empty(0), ElasticNet(0.0, 0.0)


def stepped(loss, X, y, params, batches, rate):
    """Steps of SGD over given batches (n_steps, b) with the loop of the package, `params` in place: their statistics."""
    n_steps, size = batches.shape
    sizes = np.full(n_steps, size)
    coefficients, _ = SGD().coefficients(np.full(n_steps, rate), sizes, None)
    offsets = np.arange(n_steps + 1) * size
    plan = Plan(explicit_order(batches.ravel()), offsets, np.ascontiguousarray(coefficients, np.float64))
    return base.run_dense(LinearTask(loss, NO_PENALTY, SGD(), X, y, NOTHING, params, fit_intercept=False), plan)


@pytest.mark.parametrize("rate", [0.05, 0.9])
def test_what_a_step_loses_and_what_its_noise_adds(rate, rng):
    """``E |w' - w*|^2 = |w - w*|^2 - 2 eta (w - w*)' grad F + eta^2 E |g|^2`` over all batches of 3 of 7 rows.

    At rest the left side does not change, so that ``E (w - w*)' grad F = eta / 2 E |g|^2`` (Yaida 2019), with the noise of
    real batches and any step.
    """
    X, y = rng.standard_normal((7, 2)), rng.standard_normal(7)
    best, start = np.linalg.lstsq(X, y)[0], np.array([0.7, -0.2])
    after, squares = [], []
    for batch in combinations(range(7), 3):
        params = np.append(start, 0.0)[None, None]
        stats = stepped(SquaredError(), X, y, params, np.array([batch]), rate)
        after.append(np.sum((params[0, 0, :2] - best) ** 2))
        squares.append(stats.square_norms[0])
    descent = (start - best) @ X.T @ (X @ start - y) / 7
    change = np.mean(after) - np.sum((start - best) ** 2)
    np.testing.assert_allclose(change, rate**2 * np.mean(squares) - 2 * rate * descent, rtol=1e-9)


def test_fluctuation_and_dissipation_balance_in_a_training(least_squares):
    """Of squared errors, ``(w - w*)' grad F = 2 (F - F*)``; `history_` has both sides."""
    settings = {"penalty": None, "solver": "sgd", "sampler": "replacement", "learning_rate": "constant", "tol": None}
    for step, batch_size in ((0.02, 1), (0.2, 8)):
        dissipation, fluctuation = [], []
        for seed in range(8):
            fit = MiniBatchSGDRegressor(
                eta0=step, batch_size=batch_size, max_iter=240, random_state=seed, **settings
            ).fit(least_squares.X, least_squares.y)
            dissipation.append(2 * (fit.loss_curve_[20:] - least_squares.minimum))
            fluctuation.append(step / 2 * fit.history_["gradient_norm"][20:] ** 2)
        np.testing.assert_allclose(np.mean(dissipation), np.mean(fluctuation), rtol=0.05)


def test_the_mean_of_the_iterates_has_the_least_variance(rng):
    """``T Cov(mean) -> H^-1 C H^-1 / b`` (Polyak and Juditsky 1992): 1,000 outputs, each a chain with a target of its own."""
    n, chains, n_epochs, rate = 4000, 1000, 2, 0.2
    X = np.where(rng.permutation(n) % 2, 2.0, -2.0)[:, None]  # H = 4, with no noise of its own
    y = rng.standard_normal((n, chains))
    y = (y - y.mean(axis=0) - X * (X * y).mean(axis=0) / 4) / y.std(axis=0)
    fit = MiniBatchSGDRegressor(
        penalty=None, solver="sgd", sampler="replacement", learning_rate="constant", eta0=rate / 4, average=True,
        batch_size=2, fit_intercept=False, max_iter=n_epochs, tol=None, random_state=0,
    ).fit(X, y)  # fmt: skip
    C = 4 * np.mean((y**2).mean(axis=0))
    ratio = fit.n_updates_ * fit.coef_**2 / (C / 4**2 / 2)
    error = np.sqrt(2 / chains + 2 / n)  # of the targets, and of how often each row was drawn, for all alike
    assert abs(ratio.mean() - 1) < 0.03 + 4.5 * error


@pytest.mark.parametrize("size", range(1, 9))
def test_uneven_curvature_limits_the_step_of_small_batches(size):
    """``E (1 - eta a_B)^2 = (1 - eta a)^2 + eta^2 (n - b) / (b (n - 1)) s^2`` over all batches of 8 rows (Wu et al. 2018)."""
    X = np.array([0.1, 0.4, 0.7, 1.0, 1.2, 1.5, 1.9, 2.6])[:, None]
    a, s = np.mean(X**2), np.std(X**2)
    left = (8 - size) / (size * 7)
    limit = 2 * a / (a**2 + left * s**2)
    for rate in (0.3, limit):
        growth = []
        for batch in combinations(range(8), size):
            params = np.array([[[1.0, 0.0]]])
            stepped(SquaredError(), X, np.zeros(8), params, np.array([batch]), rate)
            growth.append(params[0, 0, 0] ** 2)
        np.testing.assert_allclose(np.mean(growth), (1 - rate * a) ** 2 + left * (rate * s) ** 2, rtol=1e-12)
    np.testing.assert_allclose(np.mean(growth), 1.0, rtol=1e-12)


class TwoMinima(NamedTuple):
    """``min(w^2, y (w - 1)^2)``: with y = 0.1 and 1.9 alike, two minima of curvature 2, at 1 with one of each row."""

    curvature = 3.8
    task = "regression"

    def value_gradient(self, raw, y, out):
        at_zero, at_one = raw**2, y * (raw - 1) ** 2
        out[:] = np.where(at_zero < at_one, 2 * raw, 2 * y * (raw - 1))
        return np.minimum(at_zero, at_one).sum()

    def stiffness(self, raw, y):
        return self.curvature


@pytest.mark.parametrize(("size", "stays"), [(1, False), (2, True), (8, True), (64, True)])
def test_small_batches_leave_a_minimum_of_uneven_curvature(size, stays, rng):
    """500 chains with the rate 0.7: all or none leave, as ``E (1 - eta a_B)^2`` is above one or below; none the even minimum."""
    n, chains, steps = 64, 500, 300
    y = rng.permuted(np.tile(np.repeat([0.1, 1.9], n // 2)[:, None], (1, chains)), axis=0)
    batches = np.array([rng.permutation(n)[:size] for _ in range(steps)])
    expected = (1 - 0.7 * 2) ** 2 + (n - size) / (size * (n - 1)) * (0.7 * 1.8) ** 2
    assert (expected < 1) == stays
    for minimum in (0.0, 1.0):
        params = np.zeros((1, chains, 2))
        params[0, :, 0] = minimum + 1e-3 * rng.standard_normal(chains)
        stepped(TwoMinima(), np.ones((n, 1)), y, params, batches, 0.7)
        where = minimum if stays else 0.0
        assert np.abs(params[0, :, 0] - where).max() < 0.1


class DoubleWell(NamedTuple):
    """``(w^2 - 1)^2 / 4 - y w``: two minima behind a barrier of 1 / 4, and targets of mean zero, the noise of gradients."""

    curvature = 2.0
    task = "regression"

    def value_gradient(self, raw, y, out):
        out[:] = raw**3 - raw - y
        return np.sum((raw**2 - 1) ** 2 / 4 - y * raw)

    def stiffness(self, raw, y):
        return self.curvature


def test_the_time_behind_a_barrier_grows_exponentially_with_the_batch_size(rng):
    """Kramers (1940): the logarithm of the mean time is linear in b, with the slope ``2 Delta F / (eta sigma^2)``."""
    n, chains, rate, square = 2000, 200, 0.1, 5.0
    y = rng.standard_normal((n, chains))
    y = np.sqrt(square) * (y - y.mean(axis=0)) / y.std(axis=0)
    sizes, times = np.array([2, 3, 4]), []
    for size in sizes:
        params, step = np.zeros((1, chains, 2)), 0
        params[0, :, 0] = 1.0
        left = np.full(chains, np.inf)
        while np.isinf(left).any():
            stepped(DoubleWell(), np.ones((n, 1)), y, params, rng.integers(n, size=(10, size)), rate)
            step += 10
            left = np.where(np.isinf(left) & (params[0, :, 0] < -0.5), step, left)
        times.append(left.mean())
    slope = np.polyfit(sizes, np.log(times), 1)[0]
    assert slope == pytest.approx(2 * 0.25 / (rate * square), rel=0.25)


def test_batch_normalization_of_two_rows_falls_apart():
    """And what does not pool rows does not, nor the hybrid: of hidden units, and of the input."""
    problem = example("plot_normalization")
    rows, kinds = problem.digits(0), ("batch", "layer", "group", "hybrid")
    batch, *others = (problem.fitted(kind, 2, rows, 0, hidden=(32,))[0] for kind in kinds)
    assert batch > max(others) + 0.05
    rows, kinds = problem.distorted_digits(0), ("batch", "layer", "hybrid")
    (batch, _), (layer, _), (hybrid, learnt) = (problem.fitted(kind, 2, rows, 0) for kind in kinds)
    assert batch > max(layer, hybrid) + 0.015
    assert hybrid <= layer + 0.015
    assert learnt["alpha"][0] < 0.3


def test_the_hybrid_turns_to_the_batch_where_it_is_large():
    problem = example("plot_normalization")
    rows = problem.distorted_digits(0)
    (batch, _), (hybrid, learnt) = (problem.fitted(kind, 112, rows, 0) for kind in ("batch", "hybrid"))
    assert learnt["alpha"][0] > 0.8
    assert hybrid <= batch + 0.015


def test_a_test_error_falls_rises_and_falls_again():
    """Gradient descent on features of different speeds, whatever the seed."""
    module = example("plot_double_descent")
    times = np.geomspace(0.1, 1e4, 40)
    for seed in range(5):
        first, _, top, last = module.peak(times, module.path_of_gradient_descent(*module.two_speeds(seed), times))
        assert top - first > 0.02
        assert last < first


def test_the_peak_of_the_test_error_moves_with_the_number_of_steps():
    """Four times the batch, four times the epochs; with four times the rate as many. The peak is broad."""
    module = example("plot_double_descent")
    rows = module.two_speeds(0)
    base, larger, scaled = (module.peak(*module.descent(*rows, size, rate, 45.0))[1] for size, rate in module.RUNS)
    assert 2 < larger / base < 8
    assert 0.5 < scaled / base < 2


def test_dropout_shortens_the_largest_stable_step(rng):
    """2 / lambda_max(H + (1 - q) / q D), for masks drawn anew in every step."""
    module = example("plot_dropout")
    X, y = (module.scale(part) for part in module.load_diabetes(return_X_y=True))
    for kept, expected in ((1.0, 0.497), (0.7, 0.449), (0.3, 0.315)):
        limit = 2.0 / np.linalg.eigvalsh(module.ridge(X, y, kept)[1])[-1]
        assert limit == pytest.approx(expected, abs=6e-4)
        assert module.excess_of_descent(X, y, kept, 0.8 * limit, rng) < 0.1
        assert module.excess_of_descent(X, y, kept, 1.1 * limit, rng) > 1e3
