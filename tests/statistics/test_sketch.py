"""The sketch of the rows of a stream, against constants computed from the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import kstest

from skminibatch.contract.coordinates import AsGiven, Coordinates
from skminibatch.statistics.features import Moments
from skminibatch.statistics.sketch import SAMPLE, LeadingDirection, SecondMoments, Sketch, Spread
from skminibatch.statistics.smoothness import largest_eigenvalue, smoothness


def sketched(X, chunk: int, axes=None, weights=None, fit_intercept=True, seed=0) -> Sketch:
    """The sketch of rows that come by the chunk."""
    axes = AsGiven(X.shape[1], np.dtype(float)) if axes is None else axes
    weights = np.ones(X.shape[0]) if weights is None else weights
    sketch, rng = Sketch.none(axes, X.shape[1], sparse.issparse(X)), np.random.default_rng(seed)
    for first in range(0, X.shape[0], chunk):
        part, curvatures = X[first : first + chunk], weights[first : first + chunk]
        rows, sketch = sketch.drawn(part.shape[0], rng)
        if rows.size:
            sketch = sketch.with_rows(part[rows], axes.transform(part[rows]), curvatures[rows], None, fit_intercept)
    return sketch


def test_bounds_are_a_uniform_sample_of_the_stream():
    """Row number among all that came, against the uniform distribution."""
    n, numbers = 3000, []
    for seed in range(5):
        sketch = sketched(np.sqrt(np.arange(n, dtype=float))[:, None], 150, fit_intercept=False, seed=seed)
        assert sketch.seen == n
        assert len(sketch.bounds) == len(sketch.keys) == SAMPLE
        assert np.unique(np.round(sketch.bounds)).size == SAMPLE
        assert sketch.typical == pytest.approx(n / 2, rel=0.1)
        numbers.append(sketch.bounds)
    assert kstest(np.concatenate(numbers) / n, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("chunk", [1, 30, 500])
@pytest.mark.parametrize("d", [1, 5, 100, 256])
def test_few_features_are_exact(d, chunk, fit_intercept, rng):
    """In any coordinates, also where means are far from zero, as long as all rows count."""
    X = rng.standard_normal((500, 1)) @ rng.standard_normal((1, d)) + rng.standard_normal((500, d)) + 1e6
    weights, scale = rng.random(500), rng.uniform(0.5, 2.0, d)
    axes = Coordinates(X.mean(axis=0) + 0.1, scale, scale)
    sketch = sketched(X, chunk, axes, weights, fit_intercept)
    assert isinstance(sketch.spectrum, SecondMoments)
    expected = smoothness(axes.transform(X), weights, 0.5, fit_intercept)
    np.testing.assert_allclose(sketch.smoothness(0.5, fit_intercept, Moments.none(d)), expected, rtol=1e-3)
    given = AsGiven(d, np.dtype(float))
    largest = sketch.inside(given, 1.0).spectrum.largest(given, fit_intercept, Moments.none(d))
    assert largest == pytest.approx(largest_eigenvalue(X, weights, fit_intercept), rel=1e-3)


def wide_rows(kind: str, rng):
    n, d = 1500, 400
    if kind == "one factor":
        return rng.standard_normal((n, 1)) @ rng.standard_normal((1, d)) + 0.5 * rng.standard_normal((n, d))
    if kind == "power law":
        return rng.standard_normal((n, d)) / np.sqrt(np.arange(1, d + 1))
    if kind == "a common mean":
        return rng.standard_normal((n, d)) + 3.0
    if kind == "sparse":
        return sparse.random(n, 20_000, 0.002, format="csr", random_state=0)
    shares = 1.0 / np.arange(1, 5001)
    words = rng.choice(5000, 20 * n, p=shares / shares.sum())
    return sparse.csr_matrix((np.ones(20 * n), words, np.arange(0, 20 * n + 1, 20)), (n, 5000))


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize("kind", ["one factor", "power law", "a common mean", "sparse", "words"])
def test_many_features_are_close(kind, chunk, rng):
    X = wide_rows(kind, rng)
    sketch, moments = sketched(X, chunk), Moments.none(X.shape[1]).updated(X)
    assert isinstance(sketch.spectrum, LeadingDirection)
    found, expected = sketch.smoothness(0.0, True, moments), smoothness(X, np.ones(X.shape[0]), 0.0, True)
    assert 0.9 < found.mean / expected.mean < 1.25
    assert 0.8 < found.worst / expected.worst < 1.25
    assert found.typical == pytest.approx(expected.typical, rel=0.05)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_rows_of_no_direction_are_between_the_distribution_and_the_sample(chunk, rng):
    """The largest eigenvalue of independent numbers of variance one is 1, that of a sample of few rows far more."""
    X = rng.standard_normal((1500, 1000))
    found = sketched(X, chunk, fit_intercept=False).spectrum.largest(
        AsGiven(1000, np.dtype(float)), False, Moments.none(1000)
    )
    assert 1.0 < found < 1.2 * largest_eigenvalue(X[:SAMPLE], np.ones(SAMPLE), False)


def test_a_new_direction_shows_at_once():
    """Rows of one feature after those of another have no product with the direction so far."""
    X = sparse.csr_matrix((np.full(1200, 3.0), np.repeat([0, 1], 600), np.arange(1201)), (1200, 2))
    sketch = sketched(X, 10, fit_intercept=False)
    moments = Moments.none(2).updated(X)
    assert sketch.spectrum.largest(sketch.axes, False, moments) == pytest.approx(4.5, rel=0.1)


def test_a_leading_direction_moves_with_the_coordinates(rng):
    X = 5.0 + rng.standard_normal((300, 1)) * rng.standard_normal(400)
    old = Coordinates(np.full(400, 4.0), *np.full((2, 400), 2.0))
    new = Coordinates(rng.uniform(3, 5, 400), *np.full((2, 400), 0.5))
    sketch = sketched(X[:1], 1, old)
    moved = sketch.spectrum.inside(old, new).largest(new, True, Moments.none(400)._replace(mean=new.center))
    assert moved == pytest.approx(largest_eigenvalue(new.transform(X[:1]), np.ones(1), True))


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("chunk", [1, 10, 500])
def test_spread_is_a_scale_of_the_targets(chunk, unit, rng):
    """In any unit; gross errors do not move it, and neither does a heap of equal targets."""
    y = unit * (rng.standard_normal((3000, 1)) + 10.0)
    errors, heap = y.copy(), y.copy()
    errors[5::100] *= 1e5
    heap[::2] = 10.0 * unit
    for targets in (y, errors, heap):
        spread = None
        for first in range(0, 3000, chunk):
            part, share = targets[first : first + chunk], chunk / min(first + chunk, SAMPLE)
            spread = Spread.of(part) if spread is None else spread.with_targets(part, min(share, 1.0))
        assert 0.3 < 1.0 / spread.unit / unit < 1.1
