"""Where a constant step comes to rest: against chains of SGD on least squares."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch import MiniBatchSGDRegressor
from skminibatch.diagnostics import stationary_covariance
from skminibatch.diagnostics._settled import Draws, noise_of_motion, response, settled
from tests.examined import at


def least_squares(rng, n=200, heavy=False):
    """Rows with an intercept, targets, and the optimum; ``heavy``: rows of very different lengths."""
    X = rng.standard_normal((n, 2)) * [1.0, 0.5]
    X = X * rng.gamma(1.0, 1.0, (n, 1)) if heavy else X
    y = X @ [1.0, -1.0] + rng.standard_normal(n)
    Z = np.column_stack([X, np.ones(n)])
    best = np.linalg.lstsq(Z, y)[0]
    return X, y, Z, best


def record(X, y, best, sampler, **settings):
    return stationary_covariance(at(best[:2], best[2], alpha=0.0, sampler=sampler), X, y, **settings)


def moved(w, Z, y, rows, rate):
    """Many chains, one step of each on rows of its own (chains, b)."""
    residuals = np.einsum("kbd,kd->kb", Z[rows], w) - y[rows]
    return w - rate * np.einsum("kb,kbd->kd", residuals, Z[rows]) / rows.shape[1]


def test_it_solves_its_equation(rng):
    X = rng.standard_normal((500, 3)) * [1.0, 0.4, 2.0]
    y = X @ [1.0, -1.0, 0.3] + rng.standard_normal(500) * (1 + np.abs(X[:, 0]))
    Z = np.column_stack([X, np.ones(500)])
    A = Z.T @ Z / 500
    H = A + np.diag([0.1, 0.1, 0.1, 0.0])
    best = np.linalg.solve(H, Z.T @ y / 500)
    C = np.cov(((Z @ best - y)[:, None] * Z).T, bias=True)
    for step in (0.01, 0.1):
        found = stationary_covariance(
            at(best[:3], best[3], sampler="replacement"), X, y, learning_rate=step, batch_size=5
        )
        S = found.covariance
        M = (Z * np.einsum("ni,ij,nj->n", Z, S, Z)[:, None]).T @ Z / 500 - A @ S @ A
        np.testing.assert_allclose(H @ S + S @ H - step * H @ S @ H, step * (C + M) / 5, atol=1e-9)
        np.testing.assert_allclose(found.excess_loss, np.trace(H @ S) / 2, rtol=1e-9)
        np.testing.assert_allclose(found.temperature, step * np.trace(C) / 10, rtol=1e-9)
        assert found.confidence_interval[0] < found.excess_loss < found.confidence_interval[1]
        # fluctuation and dissipation balance, E (w - w*)' grad F = eta / 2 E |g|^2, for any stable step (Yaida 2019)
        fluctuation = step / 2 * (np.trace(H @ S @ H) + np.trace(M) / 5) + found.temperature
        np.testing.assert_allclose(2 * found.excess_loss, fluctuation, rtol=1e-9)


def test_additive_noise_alone(rng):
    """4,000 chains with the gradient ``H (w - w*)`` and normal noise, after 400 steps: each element."""
    values, rate = np.array([1.0, 0.5, 0.2]), 0.8
    root = rng.standard_normal((3, 3))
    w = np.zeros((4000, 3))
    for _ in range(400):
        w = w - rate * (w * values + rng.standard_normal(w.shape) @ root.T / 2)
    products = w[:, :, None] * w[:, None, :]
    error = products.std(axis=0) / np.sqrt(4000)
    found = settled(root @ root.T, response(values, rate, Draws(4, 300, 0)), None)
    assert np.all(np.abs(products.mean(axis=0) - found) < 4.5 * error)


def test_a_simulation_with_replacement():
    """1,500 steps of 200 chains of constant SGD, of which the first 500 are left out."""
    rng = np.random.default_rng(2)
    X, y, Z, best = least_squares(rng, n=400)
    found = record(X, y, best, "replacement", learning_rate=0.05, batch_size=16)
    w, errors = np.tile(best, (200, 1)), []
    for _ in range(1500):
        w = moved(w, Z, y, rng.integers(400, size=(200, 16)), 0.05)
        errors.append(np.cov(w.T))
    measured = np.mean(errors[500:], axis=0)
    np.testing.assert_allclose(np.trace(measured), np.trace(found.covariance), rtol=0.05)
    np.testing.assert_allclose(np.diag(measured), np.diag(found.covariance), rtol=0.1)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_independent_rows_of_least_squares_by_the_kronecker_form(share, rng):
    """``vec S = (1 - K)^-1 vec(eta^2 C / b)`` with the mean ``K`` of the products of steps; without M it is far too small."""
    X, y, Z, best = least_squares(rng, heavy=True)
    H, b = Z.T @ Z / 200, 2
    rows = [np.kron(np.outer(z, z), np.outer(z, z)) for z in Z]
    C = np.cov(((Z @ best - y)[:, None] * Z).T, bias=True)
    eye, HH = np.eye(3), np.kron(H, H)

    def growth(rate):
        linear = np.kron(eye, H) + np.kron(H, eye)
        return np.eye(9) - rate * linear + rate**2 * (HH + (np.mean(rows, axis=0) - HH) / b)

    rates = np.geomspace(1e-3, 2.0 / np.linalg.eigvalsh(H)[-1], 2000)
    largest = max(rate for rate in rates if np.abs(np.linalg.eigvals(growth(rate))).max() < 1.0)
    rate = share * largest
    expected = np.linalg.solve(np.eye(9) - growth(rate), rate**2 * C.ravel() / b).reshape(3, 3)
    found = record(X, y, best, "replacement", learning_rate=rate, batch_size=b)
    assert found.batches == "independent"
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-7, atol=1e-9 * np.trace(expected))
    np.testing.assert_allclose(found.excess_loss, np.trace(H @ expected) / 2, rtol=1e-7)
    values, vectors = np.linalg.eigh(H)
    np.testing.assert_allclose(found.variances[::-1], np.diag(vectors.T @ expected @ vectors), rtol=1e-6)
    additive = np.sum(rate * np.diag(vectors.T @ C @ vectors) / (b * (2.0 - rate * values)))
    assert np.trace(H @ expected) > (1.5 if share == 0.5 else 1.0) * additive
    with pytest.raises(ValueError, match=r"is not stable with batches of 2 rows"):
        record(X, y, best, "replacement", learning_rate=1.02 * largest, batch_size=b)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.8])
def test_the_end_of_an_epoch_that_has_each_row_once(rate, rng):
    """600 chains of such batches: far below what independent rows would leave, unless the step is large."""
    X, y, Z, best = least_squares(rng)
    n, b, chains = 200, 10, 600
    w = np.tile(best, (chains, 1))
    for _ in range(int(2.0 / (rate * 0.2 * n / b)) + 2):
        order = rng.permuted(np.tile(np.arange(n), (chains, 1)), axis=1)
        for t in range(n // b):
            w = moved(w, Z, y, order[:, t * b : (t + 1) * b], rate)
    measured = np.cov(w.T)
    found = record(X, y, best, "shuffle", learning_rate=rate, batch_size=b)
    independent = record(X, y, best, "replacement", learning_rate=rate, batch_size=b)
    assert found.batches == "epochs"
    assert np.trace(measured) == pytest.approx(
        np.trace(found.covariance), rel=0.15
    )  # 4.5 errors of 4 %, less what is left out
    assert np.trace(independent.covariance) > {0.02: 30.0, 0.1: 3.0, 0.8: 0.9}[rate] * np.trace(measured)


def test_epochs_in_the_limits(rng):
    """One batch of all rows has no noise; one of few in a long epoch is nearly independent; small steps by the third power."""
    X, y, _, best = least_squares(rng, n=400)
    full = record(X, y, best, "shuffle", learning_rate=0.1, batch_size=400)
    assert (full.excess_loss, full.temperature) == (0.0, 0.0)
    np.testing.assert_array_equal(full.covariance, 0.0)
    long, independent = (
        record(X, y, best, sampler, learning_rate=0.5, batch_size=1) for sampler in ("shuffle", "replacement")
    )
    np.testing.assert_allclose(np.diag(long.covariance), np.diag(independent.covariance), rtol=0.05)
    tiny = [record(X, y, best, "shuffle", learning_rate=rate, batch_size=20) for rate in (1e-8, 2e-8, 1e-5, 2e-5, 2e-3)]
    excess = [each.excess_loss for each in tiny]
    assert excess[1] / excess[0] == pytest.approx(8.0, rel=1e-4)
    assert excess[3] / excess[2] == pytest.approx(8.0, rel=1e-2)
    assert excess[2] / excess[0] == pytest.approx(1e9, rel=1e-2)


def test_motion_of_several_outputs(rng):
    """Against the Hessians of single rows, written out: softmax, with a penalty."""
    from skminibatch import MiniBatchSGDClassifier

    X = rng.standard_normal((60, 3))
    model = MiniBatchSGDClassifier(alpha=0.2, random_state=0).fit(X, np.arange(60) % 3)
    gradients = model._examined(X, np.arange(60) % 3, None)
    P = np.diag(np.tile([0.2, 0.2, 0.2, 0.0], 3))
    rows = [gradients.on(np.array([i])).hessian_matrix() - P for i in range(60)]
    root = rng.standard_normal((12, 12))
    S, vectors = root @ root.T, np.linalg.qr(rng.standard_normal((12, 12)))[0]
    A = np.mean(rows, axis=0)
    expected = vectors.T @ (np.mean([R @ S @ R for R in rows], axis=0) - A @ S @ A) @ vectors
    found = noise_of_motion(gradients, vectors)(vectors.T @ S @ vectors)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_the_samplers_of_an_estimator(rng):
    X, y, _, best = least_squares(rng)
    for sampler, batches in (("shuffle", "epochs"), ("replacement", "independent"), ("sequential", "independent")):
        assert record(X, y, best, sampler, learning_rate=0.1).batches == batches
    ordered = MiniBatchSGDRegressor(shuffle=False, random_state=0).fit(X, y)
    assert stationary_covariance(ordered, X, y, learning_rate=0.01).batches == "independent"
