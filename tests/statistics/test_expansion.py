"""The sum of the expansions of losses, and factors of its matrices."""

import numpy as np
import pytest

from skminibatch.statistics.expansion import Expansion, Factors, grams


def problem(n=200, p=5, K=2):
    rng = np.random.default_rng(0)
    Z = np.column_stack([rng.standard_normal((n, p - 1)) * np.exp(rng.uniform(-4, 4, p - 1)), np.ones(n)])
    return rng, Z, rng.standard_normal((n, K)), rng.uniform(0.1, 3.0, n)


@pytest.mark.parametrize("size", [1, 7, 200])
def test_squares_are_exact_wherever_they_are_expanded(size):
    rng, Z, y, weights = problem()
    expansion = Expansion.none(2, 5, is_exponential=False)
    for start in range(0, 200, size):
        rows = slice(start, start + size)
        w = rng.standard_normal((2, 5))
        first = Z[rows] @ w.T - y[rows]
        expansion = expansion.counting(weights[rows])
        expansion = expansion.with_rows(Z[rows], w, first, np.ones_like(first), weights[rows])
    w = rng.standard_normal((2, 5))
    exact = (weights[:, None] * (Z @ w.T - y)).T @ Z
    np.testing.assert_allclose(expansion.gradient(w), exact, rtol=1e-9, atol=1e-8 * np.abs(exact).max())
    assert (expansion.n_rows, expansion.weight) == (200, pytest.approx(weights.sum()))


def test_exponentials_follow_a_shift_of_the_intercept_exactly():
    _, Z, _, weights = problem(K=1)
    Z[:, :-1] /= np.abs(Z[:, :-1]).max(axis=0)
    y, w = np.full((200, 1), 0.3), np.full((1, 5), 0.1)
    means = np.exp(Z @ w.T)
    expansion = Expansion.none(1, 5, is_exponential=True).counting(weights)
    expansion = expansion.with_rows(Z, w, means - y, means, weights)
    for shift in (-9.0, 0.0, 4.0):
        moved = w + np.array([0.0, 0.0, 0.0, 0.0, shift])
        exact = (weights[:, None] * (np.exp(Z @ moved.T) - y)).T @ Z
        np.testing.assert_allclose(expansion.gradient(moved), exact, rtol=1e-9)
        again = expansion.at(moved)
        np.testing.assert_allclose(again.gradient(moved), exact, rtol=1e-9)
        np.testing.assert_allclose(again.curvature, np.exp(shift) * expansion.curvature)


def test_exponentials_are_expanded_to_the_second_order():
    _, Z, _, weights = problem(K=1)
    Z[:, :-1] /= np.abs(Z[:, :-1]).max(axis=0)
    w, y = np.full((1, 5), 0.1), np.zeros((200, 1))
    means = np.exp(Z @ w.T)
    expansion = Expansion.none(1, 5, is_exponential=True).counting(weights)
    expansion = expansion.with_rows(Z, w, means, means, weights)
    errors = []
    for size in (1e-2, 1e-3):
        moved = w + size * np.array([1.0, -1.0, 0.5, 2.0, 1.0])
        exact = (weights[:, None] * (np.exp(Z @ moved.T) - y)).T @ Z
        errors.append(np.abs(expansion.gradient(moved) - exact).max())
    assert errors[1] < 0.02 * errors[0]


def test_exponentials_of_normal_features_are_followed_far():
    rng = np.random.default_rng(0)
    Z = np.column_stack([rng.standard_normal((200_000, 2)), np.ones(200_000)])
    zero, weights = np.zeros((1, 3)), np.ones(200_000)
    ones, y = np.ones((200_000, 1)), np.zeros((200_000, 1))
    expansion = Expansion.none(1, 3, is_exponential=True).counting(weights)
    expansion = expansion.with_rows(Z, zero, ones - y, ones, weights)
    w = np.array([[1.0, -0.8, -2.0]])
    means = np.exp(Z @ w.T)
    np.testing.assert_allclose(expansion.gradient(w), means.T @ Z, rtol=0.02)
    np.testing.assert_allclose(expansion.at(w).curvature[0], (Z * means).T @ Z, rtol=0.05)


def test_decay_scales_all_that_is_kept():
    _, Z, y, weights = problem()
    expansion = Expansion.none(2, 5, is_exponential=False).counting(weights)
    expansion = expansion.with_rows(Z, np.zeros((2, 5)), -y, np.ones_like(y), weights)
    half = expansion.decayed(0.5)
    np.testing.assert_allclose(half.gradient(np.ones((2, 5))), 0.5 * expansion.gradient(np.ones((2, 5))))
    assert half.effective_rows == pytest.approx(0.5 * expansion.effective_rows)
    assert half.unevenness == pytest.approx(expansion.unevenness)


def test_factors_solve_in_any_unit():
    _, Z, _, weights = problem()
    matrices = grams(Z * [1e6, 1.0, 1e-6, 1.0, 1.0], np.column_stack([weights, weights**2]))
    right = np.array([[1e5, 1.0, 1e-7, 2.0, 1.0], [0.0, 1.0, 0.0, 0.0, 3.0]])
    ridge = np.array([0.0, 0.0, 0.0, 0.0, 2.0])
    found = Factors(matrices, ridge).solve(right)
    for matrix, solution, vector in zip(matrices, found, right, strict=True):
        unit = np.sqrt(np.diag(matrix) + ridge)
        back = (matrix @ solution + ridge * solution) / unit
        np.testing.assert_allclose(back, vector / unit, atol=1e-6 * np.abs(vector / unit).max())
    lengths = Factors(matrices, ridge).square_lengths(Z)
    exact = np.einsum("ij,jk,ik->i", Z, np.linalg.inv(matrices[0] + np.diag(ridge)), Z)
    np.testing.assert_allclose(lengths[:, 0], exact, rtol=1e-6)


def test_what_is_singular_has_a_factor_too():
    Z = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    found = Factors(grams(Z, np.ones((2, 1))), np.zeros(3)).solve(np.array([[5.0, 5.0, 0.0]]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(Z @ found[0], [1.0, 2.0], rtol=1e-6)
