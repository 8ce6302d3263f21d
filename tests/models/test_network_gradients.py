"""Gradients and curvature of networks: against gradients written out, differences of gradients, and enumerations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor
from skminibatch.diagnostics import (
    adam_signal_to_noise,
    expected_improvement,
    gradient_noise_scale,
    hessian_eigenvalues,
    intra_batch_correlation,
    inverse_hessian_bias,
    noise_anisotropy,
    sharpness,
    smoothness,
    stationary_covariance,
)
from skminibatch.diagnostics._sample import Sample
from skminibatch.layers import ACTIVATIONS, NORMALIZATIONS, GroupNorm, InstanceNorm

PARTS = {**{name: name for name in NORMALIZATIONS}, "instance": InstanceNorm(2), "group": GroupNorm(2), "none": None}
COUPLED = [name for name, part in NORMALIZATIONS.items() if part.couples_rows]
ROWS = sorted(set(PARTS) - set(COUPLED))

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_normalization = pytest.mark.parametrize("normalization", PARTS)


def gradients_of(rng, normalization="none", n_rows=48, k=3, storage=np.asarray, weighted=False, **settings):
    """The gradients of a classifier after two epochs, its parameters moved away from zero, over all rows in random order."""
    X, y = rng.standard_normal((n_rows, 4)), np.arange(n_rows) % k
    weights = rng.uniform(0.5, 2.0, n_rows) if weighted else None
    settings = {"hidden_layer_sizes": (6, 4), "alpha": 0.1, "max_iter": 2, "tol": None, "random_state": 0, **settings}
    estimator = MiniBatchMLPClassifier(normalization=PARTS[normalization], batch_size=16, **settings)
    estimator.fit(storage(X), y, sample_weight=weights)
    gradients = estimator._examined(storage(X), y, weights).in_micro_batches(n_rows)
    changes = 0.1 * rng.standard_normal(gradients.theta.size)[: gradients.model.n_parameters]
    return gradients.at(gradients.point + changes).on(rng.permutation(n_rows))


def written(gradients):
    return np.concatenate(list(gradients.each()))


@every_normalization
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix])
def test_statistics_are_those_of_gradients_written_out(normalization, weighted, storage, rng):
    examined = gradients_of(rng, normalization, storage=storage, weighted=weighted)
    m = examined.model.observation_size
    assert (m > 1) == (normalization in COUPLED)
    gradients = written(examined)
    assert gradients.shape == (48 // m, examined.model.n_parameters)
    groups = np.array_split(np.arange(48 // m), 4)
    found = examined.statistics([examined.rows.reshape(-1, m)[some].ravel() for some in groups])
    pull = examined.penalty_gradient()
    sums = np.array([gradients[some].sum(axis=0) for some in groups])
    expected = {
        "sizes": [len(some) for some in groups],
        "squares": [np.sum(gradients[some] ** 2) for some in groups],
        "square_sums": np.sum(sums**2, axis=1),
        "products": sums @ sums.sum(axis=0),
        "pulls": sums @ pull,
        "square_pull": pull @ pull,
        "population": 48,
        "rows_each": m,
    }
    for name, numbers in found._asdict().items():
        np.testing.assert_allclose(numbers, expected[name], rtol=1e-10, err_msg=name)
    G = gradients.mean(axis=0) + pull
    covariance = m * np.cov(gradients.T)
    products = examined.products()
    np.testing.assert_allclose(products, [np.trace(covariance), G @ covariance @ G, G @ G], rtol=1e-10)
    mean, variance = examined.moments()
    np.testing.assert_allclose(mean, gradients.mean(axis=0), atol=1e-12)
    exact = m * np.var(gradients, axis=0, ddof=int(m > 1))
    np.testing.assert_allclose(variance, exact, rtol=1e-9, atol=1e-12 * exact.max())
    squares = examined.row_squares(examined.row_factors())
    np.testing.assert_allclose(squares, np.sum(gradients**2, axis=1), rtol=1e-10)


@every_normalization
@pytest.mark.parametrize("k", [2, 3])
def test_gradients_are_differences_of_the_landscape(normalization, k, rng):
    examined = gradients_of(rng, normalization, k=k, weighted=True, activation="tanh")
    gradient = examined.loss_gradient() + examined.penalty_gradient()
    point, p = examined.point, examined.model.n_parameters
    differences = np.empty(p)
    for j, step in enumerate(1e-6 * np.eye(p)):
        above, below = (examined.at(point + s).smooth_objective() for s in (step, -step))
        differences[j] = (above - below) / 2e-6
    np.testing.assert_allclose(gradient, differences, atol=1e-6 * np.abs(gradient).max())


@every_activation
@every_normalization
def test_products_of_the_hessian_are_differences_of_gradients(activation, normalization, rng):
    """Within 1e-6, relative to the product; a step of 1e-6 meets no kink of a piecewise linear activation here."""
    examined = gradients_of(rng, normalization, activation=activation, weighted=True)
    direction = rng.standard_normal(examined.model.n_parameters)

    def difference(step):
        above, below = (examined.at(examined.point + s * direction) for s in (step, -step))
        of_losses = above.loss_gradient() - below.loss_gradient()
        return (of_losses + above.penalty_gradient() - below.penalty_gradient()) / (2 * step)

    product = examined.hessian() @ direction
    expected = (4 * difference(5e-6) - difference(1e-5)) / 3  # Richardson's: of fourth order
    assert np.linalg.norm(product - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber", "quantile"])
def test_products_of_the_hessian_for_losses_of_regression(loss, rng):
    X, y = rng.standard_normal((40, 3)), rng.poisson(2.0, (40, 2)).astype(float)
    y = y[:, 0] if loss == "poisson" else y
    regressor = MiniBatchMLPRegressor(hidden_layer_sizes=(5,), loss=loss, activation="tanh", alpha=0.1)
    examined = regressor._examined(X, y, None)
    examined = examined.at(examined.point + 0.1 * rng.standard_normal(examined.point.size))
    H = examined.hessian_matrix()
    columns = []
    for step in 1e-6 * np.eye(len(H)):
        above, below = (examined.at(examined.point + s) for s in (step, -step))
        of_losses = above.loss_gradient() - below.loss_gradient()
        columns.append((of_losses + above.penalty_gradient() - below.penalty_gradient()) / 2e-6)
    np.testing.assert_allclose(H, np.array(columns).T, atol=1e-7 * max(1.0, np.abs(H).max()))


def test_the_diagonal_from_random_signs(rng):
    """Unbiased, with the variance that is stated; exact for few parameters."""
    small = gradients_of(rng, activation="tanh")
    np.testing.assert_allclose(small.hessian_diagonal(), np.diag(small.hessian_matrix()), atol=1e-12)
    large = gradients_of(rng, activation="tanh", hidden_layer_sizes=(30, 6))
    assert large.model.n_parameters > 256
    H = large.hessian_matrix()
    deviation = np.sqrt(2 * (np.sum(H**2) - np.sum(np.diag(H) ** 2)) / 128)
    assert 0 < abs(large.hessian_trace() - np.trace(H)) < 4.5 * deviation


# -- diagnostics


def classifier(normalization="none", **settings):
    settings = {"hidden_layer_sizes": (4,), "activation": "tanh", "alpha": 0.01, "random_state": 0, **settings}
    return MiniBatchMLPClassifier(normalization=PARTS[normalization], **settings)


@pytest.mark.parametrize("normalization", ROWS)
def test_the_noise_scale_of_rows_by_enumeration(normalization, several):
    """Of all rows; and the mean over all samples of 4 of 6 rows is that of the 6."""
    X, y = several
    found = gradient_noise_scale(classifier(normalization), X, y, random_state=0)
    sample = Sample(classifier(normalization), X, y, None, None, 0)
    gradients = written(sample.gradients)
    mean, pull = gradients.mean(axis=0), sample.gradients.penalty_gradient()
    trace = np.sum((gradients - mean) ** 2) / len(X)
    np.testing.assert_allclose(found.trace_covariance, trace, rtol=1e-9)
    np.testing.assert_allclose(found.objective_gradient_norm, np.linalg.norm(mean + pull), rtol=1e-9)
    np.testing.assert_allclose(found.noise_scale, trace / np.sum((mean + pull) ** 2), rtol=1e-9)
    assert found.estimator == "rows"
    assert found.confidence_interval[0] < found.noise_scale < found.confidence_interval[1]
    parts = [sample.gradients.statistics([np.array(some)], 6).moments() for some in combinations(range(6), 4)]
    whole = sample.gradients.statistics([np.arange(6)], 6).moments()
    np.testing.assert_allclose(np.mean(parts, axis=0), whole, rtol=1e-9)


@pytest.mark.parametrize("normalization", COUPLED)
def test_the_noise_scale_of_micro_batches(normalization, several):
    """From micro-batches of 30 of the 240 rows, each by its own statistics; a row has no gradient of its own."""
    X, y = several
    found = gradient_noise_scale(classifier(normalization), X, y, random_state=0)
    assert found.estimator == "micro-batches"
    sample = Sample(classifier(normalization), X, y, None, None, 0)
    assert sample.model.observation_size == 30
    gradients = written(sample.gradients)
    assert len(gradients) == 8
    mean, pull = gradients.mean(axis=0), sample.gradients.penalty_gradient()
    trace = 30 * np.sum((gradients - mean) ** 2) / 7 * (1 - 1 / 240)
    np.testing.assert_allclose(found.trace_covariance, trace, rtol=1e-9)
    np.testing.assert_allclose(found.objective_gradient_norm, np.linalg.norm(mean + pull), rtol=1e-9)
    assert found.confidence_interval[0] < found.noise_scale < found.confidence_interval[1]


def test_micro_batches_estimate_the_variance_of_rows(rng, monkeypatch):
    """Where rows are not coupled after all, the mean over partitions is the variance of rows, and |G|^2 that of all rows."""
    X, y = rng.standard_normal((64, 4)), np.arange(64) % 3
    examined = classifier()._examined(X, y, None)
    exact = examined.statistics([np.arange(64)]).moments()
    monkeypatch.setattr(type(examined.model), "couples_rows", True)
    examined = examined.in_micro_batches_of(4)
    found = [examined.statistics([rng.permutation(64)[:40]]).moments() for _ in range(1500)]
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - exact) < 4.5 * error)


@every_normalization
def test_sharpness_is_that_of_the_matrix(normalization, several):
    X, y = several
    found = sharpness(classifier(normalization), X, y, rho=1e-5, random_state=0)
    sample = Sample(classifier(normalization), X, y, None, None, 0)
    H = sample.gradients.hessian_matrix()
    values = np.linalg.eigvalsh(H)[::-1]
    np.testing.assert_allclose(found.largest_eigenvalue, values[0], rtol=1e-8)
    np.testing.assert_allclose(found.trace, values.sum(), rtol=1e-8)
    np.testing.assert_allclose(found.ascent, found.predicted_ascent, rtol=0.05)
    assert found.box_sharpness > 0
    assert found.confidence_interval[0] < values[0] < found.confidence_interval[1]
    eigenvalues = hessian_eigenvalues(classifier(normalization), X, y, k=3, random_state=0).eigenvalues
    np.testing.assert_allclose(eigenvalues, values[:3], rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
def test_the_best_step_and_the_anisotropy(normalization, several):
    """Against the Hessian and the covariance written out."""
    X, y = several.X[:80], several.y[:80]
    sample = Sample(classifier(normalization), X, y, None, None, 0)
    gradients = written(sample.gradients)
    H, G = sample.gradients.hessian_matrix(), gradients.mean(axis=0)
    C = np.cov(gradients.T, bias=True) * sample.per_row
    G = G + sample.gradients.penalty_gradient()
    along = G @ H @ G
    found = expected_improvement(classifier(normalization), X, y, random_state=0)
    np.testing.assert_allclose(found.noise_scale, np.sum(H * C) / along, rtol=1e-6)
    np.testing.assert_allclose(found.largest_step, G @ G / along, rtol=1e-6)
    found = noise_anisotropy(classifier(normalization), X, y, random_state=0)
    alignment = len(H) * np.sum(H * C) / np.trace(H) / np.trace(C)
    np.testing.assert_allclose(found.alignment, alignment, rtol=1e-6)
    np.testing.assert_allclose(found.cosine, np.sum(H * C) / np.linalg.norm(H) / np.linalg.norm(C), rtol=1e-6)


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_signal_to_noise_of_each_parameter(normalization, several):
    X, y = several
    found = adam_signal_to_noise(classifier(normalization), X, y, random_state=0)
    sample = Sample(classifier(normalization), X, y, None, None, 0)
    mean, variance = sample.gradients.moments()
    mean += sample.gradients.penalty_gradient()
    np.testing.assert_allclose(found.per_coordinate, np.abs(mean) / np.sqrt(variance), rtol=1e-9)


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_rows_of_one_class_are_alike(normalization, several):
    found = intra_batch_correlation(classifier(normalization), *several, groups=several.y, random_state=0)
    mixed = intra_batch_correlation(classifier(normalization), *several, batch_size=40, random_state=0)
    assert found.rho > 0.1 > mixed.rho
    assert found.estimator == ("rows" if normalization == "none" else "micro-batches")
    with pytest.raises(ValueError, match="No batch has more than"):
        intra_batch_correlation(
            classifier(normalization), *several, groups=np.arange(240) // (1 if normalization == "none" else 3)
        )


def test_what_needs_a_linear_model_says_why(several):
    with pytest.raises(
        ValueError, match="smoothness needs a linear model: the curvature of the loss of a row has no bound"
    ):
        smoothness(classifier(), *several)
    with pytest.raises(
        ValueError, match="inverse_hessian_bias needs a linear model: the Hessian of a batch of a network"
    ):
        inverse_hessian_bias(classifier(), *several)
    found = stationary_covariance(classifier(), *several, learning_rate=0.01)
    assert not np.isnan(found.variances).any()
    assert np.isinf(found.variances[found.eigenvalues < 0]).all()
    assert found.eigenvalues.sum() == pytest.approx(hessian_eigenvalues(classifier(), *several).trace, rel=1e-9)
