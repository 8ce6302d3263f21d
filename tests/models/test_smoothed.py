"""Derivatives in the mean over normal errors of the raw outputs."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from skminibatch.losses import LOSSES, EachOutput, Hinge, Logistic, OneVsRest, Poisson, Quantile, Softmax, SquaredError
from skminibatch.models.smoothed import RowLosses, has_expected_curvature

RAW = np.array([[-2.0], [-0.3], [0.0], [0.9], [1.1], [3.0]])
SIGNS = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0])


def in_the_mean(function, raw, deviation):
    return quad(lambda z: function(raw + deviation * z) * norm.pdf(z), -9, 9, limit=500)[0]


@pytest.mark.parametrize("deviation", [1e-3, 0.3, 1.0])
def test_smooth_losses_have_the_derivatives_of_their_mean(deviation):
    losses = RowLosses.of(Logistic(), SIGNS, 1)
    first, second = losses.expected_derivatives(RAW, np.full_like(RAW, deviation), by_slope=False)
    for i, sign in enumerate(SIGNS):
        gradient = in_the_mean(lambda raw, sign=sign: -sign * expit(-sign * raw), RAW[i, 0], deviation)
        curvature = in_the_mean(lambda raw: expit(raw) * expit(-raw), RAW[i, 0], deviation)
        assert first[i, 0] == pytest.approx(gradient, rel=2e-2)
        assert second[i, 0] == pytest.approx(curvature, rel=5e-2)


def test_a_kink_has_the_density_of_the_error_as_its_curvature():
    deviation, raw = 0.5, np.linspace(-3, 3, 601)[:, None]
    losses = RowLosses.of(Hinge(), np.ones(len(raw)), 1)
    first, second = losses.expected_derivatives(raw, np.full_like(raw, deviation), by_slope=True)
    exact = norm.pdf((1.0 - raw) / deviation) / deviation
    # nine nodes see a kink where it lies between two of them: right in the mean over rows
    assert np.mean(second) == pytest.approx(np.mean(exact), rel=1e-2)
    assert np.mean(first) == pytest.approx(np.mean(-norm.cdf((1.0 - raw) / deviation)), rel=1e-2)
    assert np.all(second[np.abs(raw - 1.0) > 5 * deviation] == pytest.approx(0.0, abs=1e-9))


@pytest.mark.parametrize("by_slope", [False, True])
def test_a_square_is_what_it_is(by_slope):
    y = np.array([5.0, -1.0, 2.0])
    raw = np.zeros((3, 1))
    first, second = RowLosses.of(SquaredError(), y, 1).expected_derivatives(raw, np.full((3, 1), 0.3), by_slope)
    np.testing.assert_allclose(first[:, 0], -y, rtol=1e-12)
    np.testing.assert_allclose(second, 1.0, rtol=1e-9)


@pytest.mark.parametrize("wrapped", [OneVsRest, EachOutput])
def test_outputs_of_a_sum_are_smoothed_each_on_its_own(wrapped):
    rng = np.random.default_rng(0)
    raw, deviations = rng.standard_normal((4, 3)), rng.uniform(0.1, 1.0, (4, 3))
    labels = np.array([[0.0], [2.0], [1.0], [2.0]])
    signs = np.where(labels == np.arange(3), 1.0, -1.0)
    y = labels if wrapped is OneVsRest else signs
    losses = RowLosses.of(wrapped(Logistic()), y, 3)
    together = losses.expected_derivatives(raw, deviations, by_slope=False)
    total = 0.0
    for k in range(3):
        one = RowLosses.of(Logistic(), signs[:, k], 1)
        alone = one.expected_derivatives(raw[:, [k]], deviations[:, [k]], by_slope=False)
        for both, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(both[:, [k]], single)
        total += one.sum(raw[:, [k]], np.ones(4))
    assert losses.sum(raw, np.ones(4)) == pytest.approx(total)


def test_softmax_has_its_own_curvatures():
    rng = np.random.default_rng(0)
    raw, y = rng.standard_normal((5, 3)), np.array([[0.0], [1.0], [2.0], [1.0], [0.0]])
    losses = RowLosses.of(Softmax(), y, 3)
    first, second = losses.expected_derivatives(raw, np.ones((5, 3)), by_slope=False)
    p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(second, p * (1 - p), rtol=1e-9)
    np.testing.assert_allclose(first, p - (y == np.arange(3)), rtol=1e-9)
    expected = -np.log(p[np.arange(5), y[:, 0].astype(int)]) @ np.arange(5.0)
    assert losses.sum(raw, np.arange(5.0)) == pytest.approx(expected)


def test_exponentials_are_told_from_other_curvatures():
    y = np.array([0.0, 3.0])
    assert RowLosses.of(Poisson(), y, 1).are_exponential()
    assert not any(RowLosses.of(loss, y, 1).are_exponential() for loss in (SquaredError(), Quantile(), Logistic()))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_an_expected_curvature(name):
    assert has_expected_curvature(LOSSES[name](), np.ones(1), np.zeros((1, 1)))
