"""Round coordinates: a change of coordinates like any other, by a full matrix."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch.contract.coordinates import RoundCoordinates

D, K = 5, 3


@pytest.fixture
def axes(rng):
    mix = rng.standard_normal((D, D)) + 3.0 * np.eye(D)
    center, stretch = rng.standard_normal(D), rng.uniform(0.5, 2.0, D)
    return RoundCoordinates(center, mix, np.linalg.inv(mix), stretch, np.ones(D), 0.3, 1.5)


def test_inside_and_outside_are_inverse(axes, rng):
    coef, intercept = rng.standard_normal((K, D)), rng.standard_normal(K)
    w = axes.inside(coef, intercept)
    assert w.shape == (K, D + 1)
    for found, expected in zip(axes.outside(w[:, :-1], w[:, -1]), (coef, intercept), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_raw_outputs_are_the_same(axes, rng):
    """Of parameters inside on rows as they are inside."""
    X, coef, intercept = rng.standard_normal((20, D)), rng.standard_normal((K, D)), rng.standard_normal(K)
    w = axes.inside(coef, intercept)
    np.testing.assert_allclose(
        axes.transform(X) @ w[:, :-1].T + w[:, -1], X @ coef.T + intercept, rtol=1e-9, atol=1e-10
    )


def test_gradients_are_pulled_back(axes, rng):
    """The change of a function of the coefficients along a change inside."""
    gradient, change = rng.standard_normal((K, D)), rng.standard_normal((K, D))
    moved, _ = axes.outside(change, np.zeros(K))
    np.testing.assert_allclose(np.sum(axes.pulled(gradient) * change), np.sum(gradient * moved), rtol=1e-10)


def test_kernels_see_rows_as_they_are_written_out(axes):
    inside = axes.in_kernels
    assert inside.trivial
    np.testing.assert_array_equal(inside.stretch, axes.stretch)
    assert not axes.trivial
