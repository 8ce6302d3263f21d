"""The bias of the inverse of the Hessian of a batch: enumeration, Wishart matrices, and the corrections of it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.diagnostics import inverse_hessian, inverse_hessian_bias
from tests.examined import FIXED, at, examined

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")

D, N = 5, 20_000  # so many rows that batches of them are as good as batches of the distribution
MIXING = np.random.default_rng(0).standard_normal((D, D))


def least_squares(alpha=0.0, d=D):
    return at(np.zeros(d), 0.0, alpha=alpha, fit_intercept=False)


def gaussian(rng, n=N):
    return rng.standard_normal((n, D)) @ MIXING


@pytest.mark.parametrize("batch_size", range(5, 14))
def test_all_batches_of_14_rows(batch_size):
    """Measured within the interval of the mean over all subsets; the first order is most of it, on this design."""
    X = np.random.default_rng(5).standard_normal((14, 2))
    H = X.T @ X / 14
    each = [
        np.trace(H @ np.linalg.inv(X[list(some)].T @ X[list(some)])) * batch_size / 2 - 1
        for some in combinations(range(14), batch_size)
    ]
    settings = {"batch_size": batch_size, "random_state": 0, "confidence_level": 0.99999}
    found = inverse_hessian_bias(least_squares(d=2), X, np.zeros(14), **settings)
    assert found.confidence_interval[0] < np.mean(each) < found.confidence_interval[1]
    assert found.bias > 0
    if batch_size >= 7:
        assert abs(np.mean(each) - found.predicted) < 0.4 * np.mean(each)


def test_first_order_of_weighted_rows_and_several_outputs(rng):
    """Against matrices written out: of the losses of single rows, with a penalty."""
    cases = (
        (MiniBatchSGDRegressor(alpha=0.3), 3),
        (MiniBatchSGDClassifier(alpha=0.3), 4),
        (
            MiniBatchSGDClassifier(alpha=0.3, loss="squared_hinge"),
            3,
        ),
    )
    for estimator, k in cases:
        X = rng.standard_normal((40, 3))
        y = rng.standard_normal((40, k)) if isinstance(estimator, MiniBatchSGDRegressor) else np.arange(40) % k
        weights = rng.integers(0, 3, 40).astype(float)
        estimator.set_params(**{**FIXED, "eta0": 0.05}).fit(X, y, sample_weight=weights)
        gradients = estimator._examined(X, y, weights)
        H, n_outputs = gradients.hessian_matrix(), gradients.model.n_outputs
        P = np.diag(np.tile([0.3, 0.3, 0.3, 0.0], n_outputs))
        inverse, n = np.linalg.pinv(H, rcond=1e-10, hermitian=True), len(gradients.rows)
        rows = [gradients.on(gradients.rows[[i]]).hessian_matrix() - P for i in range(n)]
        spread = np.mean([A @ inverse @ A for A in rows], axis=0) - (H - P) @ inverse @ (H - P)
        r = np.linalg.matrix_rank(H, tol=1e-10)
        expected = np.trace(inverse @ spread) / r * (n - 15) / (15 * (n - 1))
        found = inverse_hessian_bias(estimator, X, y, batch_size=15, sample_weight=weights, n_batches=2)
        assert found.predicted == pytest.approx(expected, rel=1e-8)
        outputs = n_outputs - (k == 4)  # softmax: one output is free to move
        assert found.effective_dimension == pytest.approx(np.trace((H - P) @ inverse) / outputs, rel=1e-8)


@pytest.mark.parametrize("batch_size", [12, 20, 60])
def test_wishart(batch_size):
    """``(d + 1) / (b - d - 1)`` for Gaussian features; both corrections leave next to nothing of it."""
    X = gaussian(np.random.default_rng(2))
    found = inverse_hessian_bias(least_squares(), X, np.zeros(N), batch_size=batch_size, n_batches=1500, random_state=0)
    bias, factor = (D + 1) / (batch_size - D - 1), 1 - (D + 1) / batch_size
    half = (found.confidence_interval[1] - found.confidence_interval[0]) / 2 / 1.96
    assert abs(found.bias - bias) < 4.5 * half
    assert found.gaussian_factor == pytest.approx(factor, rel=1e-3)
    assert abs(found.gaussian_corrected) < 4.5 * half * factor
    assert found.effective_dimension == pytest.approx(D, rel=1e-12)
    assert abs(found.corrected) < 0.1 * found.bias + 4.5 * half


@pytest.mark.parametrize("batch_size", [12, 20, 60])
def test_the_corrected_inverse_is_right_in_each_element(batch_size):
    """Jensen's inequality for matrices, and the factor of the record on other batches."""
    rng = np.random.default_rng(3)
    settings = {"batch_size": batch_size, "n_batches": 2}
    factor = inverse_hessian_bias(least_squares(), gaussian(rng), np.zeros(N), **settings).gaussian_factor
    X = gaussian(rng, 4000 * batch_size).reshape(4000, batch_size, D)
    inverses = np.linalg.inv(X.transpose(0, 2, 1) @ X / batch_size)
    exact = np.linalg.inv(MIXING.T @ MIXING)
    error = inverses.std(axis=0) / np.sqrt(4000)
    assert np.linalg.eigvalsh(inverses.mean(axis=0) - exact)[0] > 0
    assert np.all(np.abs(factor * inverses.mean(axis=0) - exact) < 4.5 * factor * error + 1e-3 * np.abs(exact))


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_scaled_regularisation(alpha):
    """Less than a quarter of the bias is left, in the whole and in the matrix."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((N, D))
    found = inverse_hessian_bias(least_squares(alpha), X, np.zeros(N), batch_size=30, n_batches=2000, random_state=0)
    assert found.effective_dimension == pytest.approx(D / (1 + alpha), rel=0.01)
    half = (found.confidence_interval[1] - found.confidence_interval[0]) / 2 / 1.96
    for left in (found.corrected, found.gaussian_corrected):
        assert abs(left) < found.bias / 4 + 3 * half
    H = X.T @ X / N
    batches = rng.standard_normal((4000, 30, D))
    A = batches.transpose(0, 2, 1) @ batches / 30
    exact = np.linalg.inv(H + alpha * np.eye(D))
    naive = np.linalg.norm(np.linalg.inv(A + alpha * np.eye(D)).mean(axis=0) - exact)
    for f in (found.factor, found.gaussian_factor):
        assert np.linalg.norm(f * np.linalg.inv(A + f * alpha * np.eye(D)).mean(axis=0) - exact) < naive / 4


def test_averages_of_newton_steps_have_a_floor_without_the_correction():
    """``(d + 1) / (b - d - 1)`` of the step, however many batches; corrected steps keep falling."""
    rng = np.random.default_rng(5)
    factor = inverse_hessian_bias(
        least_squares(), rng.standard_normal((N, D)), np.zeros(N), batch_size=20, n_batches=2
    ).gaussian_factor
    batches = rng.standard_normal((20_000, 20, D))
    steps = np.linalg.inv(batches.transpose(0, 2, 1) @ batches / 20)[:, :, 0]
    exact = np.eye(D)[0]
    assert np.linalg.norm(steps.mean(axis=0) - exact) == pytest.approx(6 / 14, rel=0.05)
    errors = [
        np.sqrt(np.mean(np.sum((factor * steps.reshape(-1, q, D).mean(axis=1) - exact) ** 2, axis=1)))
        for q in (10, 1000)
    ]
    assert errors[1] < 0.15 * errors[0]


def test_rows_of_uneven_length_need_the_factor_of_their_leverages():
    X = np.random.default_rng(6).standard_t(5, (N, D))
    found = inverse_hessian_bias(least_squares(), X, np.zeros(N), batch_size=30, n_batches=1000, random_state=0)
    assert found.bias > 1.3 * 6 / 24
    assert abs(found.corrected) < abs(found.gaussian_corrected) / 2
    assert found.factor < found.gaussian_factor


def test_batches_of_all_rows_have_no_bias(regression):
    for batch_size in (240, 1000):
        found = inverse_hessian_bias(MiniBatchSGDRegressor(), *regression, batch_size=batch_size, n_batches=2)
        assert found.batch_size == 240
        assert (found.predicted, found.factor, found.gaussian_factor) == (0.0, 1.0, 1.0)
        np.testing.assert_allclose([found.bias, found.corrected, *found.confidence_interval], 0.0, atol=1e-12)


def test_batches_that_are_too_small(rng):
    X, y = rng.standard_normal((200, 4)), rng.standard_normal(200)
    for batch_size in (1, 5, 6):  # 5 parameters
        with pytest.raises(ValueError, match=rf"batch_size={batch_size} is too small: .* more than 6 rows"):
            inverse_hessian_bias(at(np.zeros(4), 0.0, alpha=0), X, y, batch_size=batch_size)
    assert inverse_hessian_bias(at(np.zeros(4), 0.0, alpha=0), X, y, batch_size=8).corrected > -1
    assert inverse_hessian_bias(at(np.zeros(4), 0.0, alpha=10.0), X, y, batch_size=4).bias > 0


def test_hessians_without_an_inverse(rng):
    rare = np.zeros((200, 2))
    rare[:, 0], rare[:5, 1] = rng.standard_normal(200), 1.0
    with pytest.raises(ValueError, match="The Hessian of a batch of 20 rows has no inverse in all directions"):
        inverse_hessian_bias(at(np.zeros(2), 0.0, alpha=0), rare, np.zeros(200), batch_size=20)
    hinge = MiniBatchSGDClassifier(loss="hinge", alpha=0, **FIXED)
    with pytest.raises(ValueError, match="no curvature"):
        inverse_hessian_bias(hinge, rare, rare[:, 0] > 0)
    far = MiniBatchSGDClassifier(loss="squared_hinge", alpha=0, **FIXED).fit(rare, rare[:, 0] > 0)
    far.coef_[:], far.intercept_[:] = [[3.0, 0.0]], 0.0  # few rows within the margin
    with pytest.raises(ValueError, match=r"batch_size is too small|no inverse"):
        inverse_hessian_bias(far, rare, rare[:, 0] > 0, batch_size=5)
    constant = np.column_stack([rng.standard_normal(200), np.zeros(200)])  # a direction that no row has
    found = inverse_hessian_bias(at(np.zeros(2), 0.0, alpha=0), constant, np.zeros(200))
    assert found.effective_dimension == pytest.approx(2.0)
    assert np.isfinite(found.bias)


def test_too_many_parameters(rng):
    X = sparse.random_array((20, 3000), density=0.01, rng=rng, format="csr")
    with pytest.raises(ValueError, match=r"3,001 parameters; their Hessian is written out for up to 2,048"):
        inverse_hessian_bias(MiniBatchSGDRegressor(), X, np.arange(20.0))


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("k", [2, 4])
def test_row_curvatures_make_the_hessian(storage, k, rng):
    gradients = examined(MiniBatchSGDClassifier(alpha=0.3), k, storage, True, rng)
    total = sum(np.einsum("nkl,ni,nj->kilj", second, Z, Z) for Z, second in gradients.row_curvatures())
    model = gradients.model
    p = model.n_outputs * 4
    penalty = np.diag(np.pad(model.penalty_curvatures(gradients.coef), ((0, 0), (0, 1))).ravel())
    expected = gradients.hessian_matrix() - penalty
    np.testing.assert_allclose(total.reshape(p, p) / len(gradients.rows), expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("rare", [1e-3, 1e-9, 1e-17])
def test_free_outputs_of_softmax_are_no_matter_of_rounding(rare):
    """However rare classes are, all outputs but one are free; of separate losses, all that have curvature."""
    p = np.array([1.0 - 2 * rare, rare, rare])
    assert inverse_hessian._free_outputs(np.diag(p) - np.outer(p, p)) == 2
    assert inverse_hessian._free_outputs(np.diag([1.0, rare, rare])) == 3
    assert inverse_hessian._free_outputs(np.diag([1.0, rare, 0.0])) == 2
    assert inverse_hessian._free_outputs(np.array([[rare]])) == 1
