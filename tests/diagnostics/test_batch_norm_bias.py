"""The bias of the gradient of the scale of a batch normalization: closed forms, and simulations."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch.diagnostics import batch_norm_gradient_bias
from skminibatch.diagnostics.batch_norm import gradients_of_scales
from skminibatch.layers import BatchNorm, GhostNorm


def z_of(record, found, expected):
    """Standard errors between what was measured and what is expected."""
    low, high = record.confidence_interval
    return abs(found - expected) / ((high - low) / 2 / 1.96)


@pytest.mark.parametrize("gamma", [1.0, -1.7])
@pytest.mark.parametrize("b", [4, 8, 32])
def test_the_closed_form(b, gamma):
    found = batch_norm_gradient_bias(gamma=gamma, batch_size=b, n_batches=100_000, random_state=b)
    assert found.predicted == pytest.approx(-6 * gamma**3 / (b + 1), rel=1e-12)
    assert found.factor == pytest.approx((b + 1) / (b - 1), rel=1e-12)
    assert found.gradient == pytest.approx(3 * gamma**3)
    assert z_of(found, found.bias, found.predicted) < 4.5
    assert z_of(found, found.corrected / found.factor, 0.0) < 4.5
    assert z_of(found, found.bias, 0.0) > 20  # it could have failed


@pytest.mark.parametrize(("b", "fourth"), [(2, 1.0), (3, 1.5)])
def test_two_and_three_values_are_no_chance(b, fourth, rng):
    """``z^4`` is 1 for two values, and its mean 3/2 for three, in every batch."""
    values = 5.0 + 3.0 * rng.standard_normal((b, 1000))
    np.testing.assert_allclose(gradients_of_scales(BatchNorm(epsilon=0.0), values, 2.0), 8.0 * fourth, rtol=1e-9)
    found = batch_norm_gradient_bias(batch_size=b, n_batches=500, random_state=0)
    assert found.bias == pytest.approx(found.predicted, abs=1e-9)
    assert found.corrected == pytest.approx(0.0, abs=1e-9)


def test_backpropagation_is_exact(rng):
    """The gradient is that of the loss of the batch, whose statistics do not depend on gamma; a quadratic loss has no bias."""
    values, gamma, step = rng.standard_normal((6, 50)), 1.3, 1e-4

    def loss(gamma):
        z = (values - values.mean(axis=0)) / values.std(axis=0)
        np.testing.assert_allclose(np.mean(z**2, axis=0), 1.0, rtol=1e-12)
        return np.mean((gamma * z) ** 4, axis=0) / 4

    difference = (8 * (loss(gamma + step) - loss(gamma - step)) - loss(gamma + 2 * step) + loss(gamma - 2 * step)) / 12
    np.testing.assert_allclose(gradients_of_scales(BatchNorm(epsilon=0.0), values, gamma), difference / step, rtol=1e-9)


def test_mean_and_scale_of_the_values_do_not_matter(rng):
    values = rng.standard_normal((8, 100))
    moved = gradients_of_scales(BatchNorm(epsilon=0.0), -3.0 + 7.0 * values, 1.0)
    np.testing.assert_allclose(moved, gradients_of_scales(BatchNorm(epsilon=0.0), values, 1.0), rtol=1e-9)


def test_groups_of_ghosts_stand_for_the_batch():
    found = batch_norm_gradient_bias(batch_size=32, ghost_size=8, n_batches=50_000, random_state=1)
    assert found.predicted == pytest.approx(-6 / 9, rel=1e-12)
    assert found.ghost_size == 8
    assert z_of(found, found.bias, found.predicted) < 4.5
    assert z_of(found, found.corrected / found.factor, 0.0) < 4.5
    uneven = batch_norm_gradient_bias(batch_size=11, ghost_size=5, n_batches=100_000, random_state=1)  # 5 and 6
    assert uneven.predicted == pytest.approx(-6 * (5 / 6 + 6 / 7) / 11, rel=1e-12)
    assert z_of(uneven, uneven.bias, uneven.predicted) < 4.5
    values = np.random.default_rng(0).standard_normal((8, 5))
    halves = [gradients_of_scales(BatchNorm(epsilon=0.0), part, 1.0) for part in (values[:4], values[4:])]
    together = gradients_of_scales(GhostNorm(size=4.0, epsilon=0.0), values, 1.0)
    np.testing.assert_allclose(together, np.mean(halves, axis=0), rtol=1e-12)


def test_values_of_a_unit(rng):
    """Normal values as drawn ones; a batch of all of them has no bias, whatever they are."""
    x = rng.standard_normal(5000)
    found = batch_norm_gradient_bias(x, batch_size=8, n_batches=10_000, random_state=0)
    assert found.bias == pytest.approx(-6 / 9, abs=0.05)
    skewed = rng.exponential(size=40)
    found = batch_norm_gradient_bias(skewed, batch_size=40, n_batches=2)
    assert found.bias == pytest.approx(0.0, abs=1e-9)
    assert found.gradient == pytest.approx(np.mean(((skewed - skewed.mean()) / skewed.std()) ** 4))


def test_records_and_wrong_arguments(rng):
    first, second = (batch_norm_gradient_bias(batch_size=4, n_batches=100, random_state=3) for _ in range(2))
    assert first == second
    assert "batch_size=4" in repr(first)
    for arguments, message in (
        ({"batch_size": 1}, "The 'batch_size' parameter of batch_norm_gradient_bias must be an int in the range"),
        ({"ghost_size": 1}, "ghost_size"),
        ({"gamma": np.inf}, "gamma"),
        ({"x": np.arange(5.0)}, "x has 5 values, fewer than batch_size=32"),
        ({"x": np.ones(50)}, "x is constant"),
        ({"x": [1.0, np.nan] * 20}, "Input x contains NaN"),
        ({"x": np.repeat([0.0, 1.0], 50), "batch_size": 2}, "The values of a batch are all the same"),
    ):
        with pytest.raises(ValueError, match=message):
            batch_norm_gradient_bias(**arguments)
