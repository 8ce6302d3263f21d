"""What is estimated from the data: moments, samples, coordinates, the noise scale."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse

from skminibatch.contract.plan import StepStats, empty_stats
from skminibatch.statistics.batches import BatchStatistics
from skminibatch.statistics.features import (
    MOST_KINDS,
    Moments,
    gentle_coordinates,
    sparse_coordinates,
    standard_coordinates,
    within,
)
from skminibatch.statistics.random import sample_rows
from skminibatch.statistics.smoothness import SmoothnessConstants, smoothness


@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_of_chunks_are_those_of_all_rows(storage, weighted, rng):
    X = rng.standard_normal((5000, 3)) * [1.0, 100.0, 0.0] + [0.0, 1e4, 7.0]
    weights = rng.uniform(0, 2, 5000) if weighted else None
    given = sparse.csr_matrix(X) if storage == "sparse" else X
    moments = Moments.none(3)
    for rows in np.array_split(np.arange(5000), [1, 2, 700, 701]):
        moments = moments.updated(given[rows], None if weights is None else weights[rows])
    mean = np.average(X, axis=0, weights=weights)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-10)
    variance = np.average((X - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(moments.deviation[:2], np.sqrt(variance)[:2], rtol=1e-6)
    assert moments.deviation[2] == pytest.approx(7.0)  # constant so far: its size


def test_moments_ignore_rows_of_no_weight(rng):
    X = rng.standard_normal((10, 2))
    moments = Moments.none(2).updated(X, np.zeros(10))
    assert moments.count == 0
    np.testing.assert_array_equal(moments.deviation, 1)


@pytest.mark.parametrize("rows", [None, np.arange(5, 500, 2)])
def test_sample_rows_is_sorted_and_uniform(rows):
    n = 300 if rows is None else rows.size
    counts = np.zeros(500)
    for seed in range(400):
        sample = sample_rows(n, 50, np.random.default_rng(seed), rows)
        assert sample.size == np.unique(sample).size == 50
        assert np.all(np.diff(sample) > 0)
        counts[sample] += 1
    possible = np.arange(300) if rows is None else rows
    assert counts.sum() == counts[possible].sum()
    expected = 400 * 50 / n
    assert np.abs(counts[possible] - expected).max() < 5 * np.sqrt(expected)
    np.testing.assert_array_equal(sample_rows(n, 1000, np.random.default_rng(0), rows), possible)


def test_gentle_coordinates_leave_standardised_features_alone(rng):
    X = rng.standard_normal((1000, 4)) * [1.0, 1.1, 300.0, 0.001] + [0.0, 0.1, 1000.0, 0.0]
    axes = gentle_coordinates(Moments.none(4).updated(X), np.float64, True)
    assert np.all(np.log2(axes.scale) % 1 == 0)  # powers of two: nothing is rounded
    scaled = (X - axes.center) * axes.scale
    assert np.all((scaled.std(axis=0) > 0.7) & (scaled.std(axis=0) < 1.5))
    np.testing.assert_array_equal(axes.scale[:2], 1)
    np.testing.assert_array_equal(axes.center[[0, 1, 3]], 0)
    np.testing.assert_array_equal(axes.stretch, axes.scale)
    again = gentle_coordinates(Moments.none(4).updated(X * 1.4 + 0.05), np.float64, True, axes)
    np.testing.assert_array_equal(again.scale, axes.scale)  # a stream does not move with every chunk
    uncentered = gentle_coordinates(Moments.none(4).updated(X), np.float32, False)
    np.testing.assert_array_equal(uncentered.center, 0)
    assert uncentered.scale.dtype == np.float32


def test_gentle_coordinates_judge_standardised_features_alike_by_any_rows(rng):
    """A rare feature of unit deviation may look like 0.6 or 1.7 in a sample: no reason for another kernel."""
    X = rng.standard_normal((1000, 3)) * [1.0, 0.6, 1.8]
    np.testing.assert_array_equal(gentle_coordinates(Moments.none(3).updated(X), np.float64, True).scale, 1)
    X *= [1.0, 0.7, 1.0]  # one is small: now all are scaled
    np.testing.assert_array_equal(gentle_coordinates(Moments.none(3).updated(X), np.float64, True).scale, [1, 2, 0.5])


def test_sparse_coordinates_follow_stored_values(rng):
    X = sparse.random(2000, 6, density=0.1, random_state=0, format="csr")
    X.data = rng.uniform(0.9, 1.1, X.nnz)
    X = (X @ sparse.diags([1.0, 1.0, 250.0, 0.001, 1.0, 0.0])).tocsr()
    X.eliminate_zeros()
    axes = sparse_coordinates(Moments.none(6).updated(X), np.float64)
    # rare values stay as they are, and so does a feature of which nothing is known
    np.testing.assert_array_equal(axes.scale, [1, 1, 2.0**-8, 2.0**10, 1, 1])
    np.testing.assert_array_equal(axes.center, 0)
    np.testing.assert_array_equal(axes.stretch, axes.scale)
    again = sparse_coordinates(Moments.none(6).updated(X * 1.4), np.float64, axes)
    np.testing.assert_array_equal(again.scale, axes.scale)  # a stream does not move with every chunk
    many = sparse.csr_matrix(np.diag(2.0 ** np.arange(40)))
    assert np.unique(sparse_coordinates(Moments.none(40).updated(many), np.float64).scale).size <= MOST_KINDS


def test_no_stretch_makes_the_penalty_stiffer_than_the_loss(rng):
    axes = gentle_coordinates(Moments.none(2).updated(rng.standard_normal((500, 2)) * [1e-4, 1e4]), np.float64, True)
    limited = within(axes, 50.0)
    np.testing.assert_array_equal(limited.scale, [32, axes.scale[1]])
    np.testing.assert_array_equal(limited.stretch, limited.scale)


def test_a_feature_without_variance_is_not_blown_up():
    moments = Moments.none(3).updated(np.tile([0.0, -0.02, 500.0], (10, 1)))
    np.testing.assert_array_equal(moments.deviation, [1, 1, 500])


def test_standard_coordinates_standardise(rng):
    X = rng.standard_normal((100, 3)) * [2.0, 0.1, 50.0] + [3.0, 0.0, -1.0]
    axes = standard_coordinates(Moments.none(3).updated(X), np.float64, True)
    scaled = (X - axes.center) * axes.scale
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1)
    np.testing.assert_array_equal(axes.stretch, 1)


@pytest.mark.parametrize(
    "shape", [(400, 5), (50, 300), (400, 300), (300, 400)], ids=["long", "wide", "large", "larger"]
)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_smoothness_of_all_shapes_and_storages(shape, storage, rng):
    """The largest eigenvalue from a full matrix or by products, enlarged a little; at most the mean row."""
    Z = rng.standard_normal(shape) * rng.uniform(0.5, 2.0, shape[1])
    curvatures = rng.uniform(0.1, 1.0, shape[0])
    A = np.column_stack([Z, np.ones(shape[0])])
    largest = np.linalg.eigvalsh(A.T @ (curvatures[:, None] * A) / shape[0])[-1]
    each = curvatures * np.sum(A**2, axis=1)
    found = smoothness(sparse.csr_matrix(Z) if storage == "sparse" else Z, curvatures, 0.5, True)
    assert largest + 0.5 <= found.mean <= min(1.16 * largest, each.mean()) + 0.5
    assert found.typical == pytest.approx(each.mean())
    assert each.mean() + 0.5 <= found.worst <= each.max() + 0.5


def test_smoothness_of_a_batch_goes_from_the_worst_row_to_the_mean():
    smooth = SmoothnessConstants(2.0, 50.0, 10.0)
    assert smooth.of_batch(1, 1000) == pytest.approx(50.0)
    assert smooth.of_batch(1000, 1000) == pytest.approx(2.0)
    sizes = [smooth.of_batch(b, 1000) for b in (1, 2, 8, 64, 512, 1000, 5000)]
    assert np.all(np.diff(sizes[:-1]) < 0)
    assert sizes[-1] == sizes[-2]


def test_noise_scale_is_the_ratio_of_unbiased_estimates(rng):
    """``tr(Sigma) / |G|^2`` of gradients with known moments, from batches of two sizes."""
    G, deviation, d = np.full(10, 0.3), 2.0, 10
    sizes = np.tile([8, 9], 10_000)
    norms, squares = np.empty(sizes.size), np.empty(sizes.size)
    for i, b in enumerate(sizes):
        gradients = G + deviation * rng.standard_normal((b, d))
        norms[i], squares[i] = np.sum(gradients.mean(axis=0) ** 2), np.sum(gradients**2)

    def seen(sizes, norms, squares, population=np.inf):
        stats = StepStats(sizes * 2.0, norms, squares, -1)
        return BatchStatistics.of(sizes, np.full(len(sizes), 0.1), stats, population)

    some = np.where(rng.random(len(sizes)) < 0.75, np.nan, squares)  # the rows of most batches are not measured
    for found in (seen(sizes, norms, squares), seen(sizes, norms, some)):
        assert found.noise_scale == pytest.approx(d * deviation**2 / np.sum(G**2), rel=0.1)
        assert found.variance == pytest.approx(d * deviation**2, rel=0.02)
        assert found.temperature == pytest.approx(0.1 * d * deviation**2 * np.mean(1 / sizes) / 2, rel=0.02)
        assert found.update_variance == pytest.approx(0.2 * found.temperature)
        assert abs(found.signal - np.sum(G**2)) < 4.5 * found.error
        assert found.loss == pytest.approx(2.0)
    assert np.isnan(seen(np.ones(5, int), norms[:5], squares[:5]).noise_scale)
    assert np.isnan(seen(sizes, norms, squares, population=np.nan).noise_scale)
    assert seen(np.full(3, 4), np.zeros(3), np.ones(3)).noise_scale == np.inf


def test_noise_scale_of_batches_without_replacement_by_enumeration(rng):
    """The means over all batches of 3 of 6 rows are those of the data: ``tr(Sigma)`` with n - 1, ``|G|^2`` exactly."""
    gradients = rng.standard_normal((6, 4)) + 0.5
    batches = [gradients[list(rows)] for rows in itertools.combinations(range(6), 3)]
    stats = empty_stats(len(batches))._replace(
        square_norms=np.array([np.sum(batch.mean(axis=0) ** 2) for batch in batches]),
        row_squares=np.array([np.sum(batch**2) for batch in batches]),
    )
    found = BatchStatistics.of(np.full(len(batches), 3), np.zeros(len(batches)), stats, population=6)
    assert found.variance == pytest.approx(np.sum(gradients.var(axis=0, ddof=1)), rel=1e-12)
    assert found.signal == pytest.approx(np.sum(gradients.mean(axis=0) ** 2), rel=1e-12)


def test_norm_and_variance_are_those_of_the_same_batches():
    """Where the rows of every other batch are measured, the norms of the others do not count."""
    sizes, norms, squares = np.full(4, 5), np.array([1.0, 100.0, 3.0, 100.0]), np.array([25.0, np.nan, 35.0, np.nan])
    found = BatchStatistics.of(sizes, np.full(4, 0.1), StepStats(sizes * 1.0, norms, squares, -1))
    assert found.square_norm == 2.0
    assert found.square_norm == pytest.approx(found.signal + found.variance / 5)
    unmeasured = BatchStatistics.of(sizes, np.full(4, 0.1), StepStats(sizes * 1.0, norms, np.full(4, np.nan), -1))
    assert unmeasured.square_norm == 51.0


def test_a_batch_of_all_rows_moves_nothing_by_chance(rng):
    gradients = rng.standard_normal((20, 3)) + 0.3
    mean, rates = gradients.mean(axis=0), np.full(2, 0.1)
    stats = StepStats(np.full(2, 20.0), np.full(2, mean @ mean), np.full(2, np.sum(gradients**2)), -1)
    found = BatchStatistics.of(np.full(2, 20), rates, stats, population=20)
    assert (found.update_variance, found.temperature) == (0.0, 0.0)
    assert found.signal == pytest.approx(mean @ mean, rel=1e-12)
    assert found.with_noise(1.0, 4.0, np.full(2, 20), rates, 20.0).temperature == 0.0
    assert found.with_noise(1.0, 4.0, np.full(2, 10), rates, 20.0).temperature == pytest.approx(0.1 * 4.0 * 0.05 / 2)


def test_the_noise_scale_of_an_objective_with_a_penalty():
    """|G| of loss and objective may differ by |p|: below a tenth of it, or of what is seen of it, that is nothing."""
    sizes, norms = np.full(4, 8), np.array([4.0, 4.2, 3.8, 4.0])
    found = BatchStatistics.of(sizes, np.full(4, 0.1), StepStats(sizes * 1.0, norms, 8 * norms + 7.0, -1))
    assert found.signal == pytest.approx(4.0 - 1 / 8)
    assert found.of_objective(0.0) == found.of_objective(0.038) == found
    assert np.isnan(found.of_objective(0.04).noise_scale)
    one = BatchStatistics.of(sizes[:1], np.full(1, 0.1), StepStats(sizes[:1] * 1.0, norms[:1], 8 * norms[:1] + 7.0, -1))
    assert one.error == pytest.approx(1 / 8)
    huge = BatchStatistics.of(sizes, np.full(4, 0.1), StepStats(sizes * 1.0, 1e200 * norms, 1e202 * norms, -1))
    assert huge.error == huge.of_objective(1.0).error == np.inf
    hidden = found._replace(signal=-1e-3, error=0.5)
    assert hidden.of_objective(0.0049).noise_scale == np.inf
    assert np.isnan(hidden.of_objective(0.0051).noise_scale)
