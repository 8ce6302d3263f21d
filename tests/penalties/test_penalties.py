"""Properties of every penalty in the registry."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numba import njit

from skminibatch.backends.cpu import formulas  # noqa: F401 (gives the verbs their compiled meaning)
from skminibatch.contract.verbs import prox, smooth_gradient
from skminibatch.estimators import parts as resolved
from skminibatch.penalties import PENALTIES, ElasticNet

ALPHA, L1_RATIO = 0.7, 0.3
every_penalty = pytest.mark.parametrize(
    "penalty", [resolved.penalty(name, ALPHA, L1_RATIO) for name in PENALTIES], ids=repr
)
GRID = np.linspace(-4.0, 4.0, 8001)


def rest(penalty, w):
    """The penalty without its smooth part, whose gradient is linear between grid points."""
    return penalty.value(w) - 0.5 * w * penalty.gradient(w)


@pytest.mark.parametrize(
    ("name", "l2", "l1"), [("l2", 0.7, 0), ("l1", 0, 0.7), ("elasticnet", 0.49, 0.21), (None, 0, 0)]
)
def test_names_are_values_of_the_elastic_net(name, l2, l1):
    assert name in PENALTIES
    np.testing.assert_allclose(resolved.penalty(name, ALPHA, L1_RATIO), (l2, l1), rtol=1e-15)


@every_penalty
def test_value_is_the_elastic_net(penalty):
    """``alpha ((1 - l1_ratio) w^2 / 2 + l1_ratio |w|)``."""
    np.testing.assert_allclose(penalty.value(GRID), penalty.l2 * GRID**2 / 2 + penalty.l1 * np.abs(GRID), rtol=1e-14)


@every_penalty
def test_gradient_is_the_difference_of_the_smooth_part(penalty):
    """What remains of the value has a constant slope on each side of zero."""
    h = 1e-4
    for w in (-2.0, -0.3, 0.4, 3.0):
        difference = (penalty.value(w + h) - penalty.value(w - h)) / (2 * h)
        np.testing.assert_allclose(difference - penalty.gradient(w), np.sign(w) * rest(penalty, 1.0), atol=1e-8)
    assert penalty.gradient(0.0) == 0
    assert np.all(rest(penalty, GRID) >= -1e-15)


@every_penalty
@pytest.mark.parametrize("step", [0.01, 1.0, 3.0])
def test_prox_beats_a_grid(penalty, step):
    """``prox(v) = argmin_u (u - v)^2 / (2 step) + rest(u)``."""

    def objective(u, v):
        return (u - v) ** 2 / (2 * step) + rest(penalty, u)

    for v in (-3.5, -1.0, -0.2, 0.0, 0.1, 0.9, 2.7):
        assert objective(prox(penalty, v, step), v) <= objective(GRID, v).min() + 1e-12


@every_penalty
def test_prox_gives_exact_zeros_and_keeps_signs(penalty, rng):
    v, step = rng.standard_normal(1000), rng.uniform(0.0, 2.0, 1000)
    u = prox(penalty, v, step)
    small = np.abs(v) <= step * penalty.l1
    assert np.all(u[small] == 0)
    assert np.all(np.sign(u[~small]) == np.sign(v[~small]))
    if penalty.l1 > 0:
        assert 0 < small.sum() < 1000
    else:
        np.testing.assert_array_equal(u, v)


@every_penalty
def test_compiled_formulas_are_the_array_formulas(penalty, rng):
    @njit
    def evaluate(penalty, w, step):
        out = np.empty((2, w.size))
        for i in range(w.size):
            out[0, i] = smooth_gradient(penalty, w[i])
            out[1, i] = prox(penalty, w[i], step[i])
        return out

    w, step = rng.standard_normal(200), rng.uniform(0.0, 2.0, 200)
    base = [smooth_gradient(penalty, w), prox(penalty, w, step)]
    np.testing.assert_allclose(evaluate(penalty, w, step), base, rtol=1e-12, atol=1e-14)


@every_penalty
def test_pickle_and_repr(penalty):
    copy = pickle.loads(pickle.dumps(penalty))
    assert type(copy) is type(penalty)
    assert copy == penalty
    assert eval(repr(penalty), {"ElasticNet": ElasticNet}) == penalty


def test_elasticnet_needs_l1_ratio():
    with pytest.raises(ValueError, match="l1_ratio must be set when penalty is 'elasticnet'"):
        resolved.penalty("elasticnet", ALPHA, None)
    assert resolved.penalty("l1", ALPHA, None) == ElasticNet(0.0, ALPHA)
