"""Heavy tails: the index of a power law, and means of numbers of which the largest were not drawn."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch.statistics.tails import MOST, Tail, predicted_means


@pytest.mark.parametrize("index", [0.3, 0.7, 1.5])
def test_the_index_of_a_power_law(index):
    """Hill's estimate is unbiased for one, with the standard error ``index / sqrt(size)``."""
    rng = np.random.default_rng(0)
    tails = [Tail.of(5.0 * rng.random(2000) ** -index) for _ in range(100)]
    assert {tail.size for tail in tails} == {100}
    found = np.array([tail.heaviness for tail in tails])
    assert abs(found.mean() - index) < 4.5 * index / np.sqrt(100 * 100)
    assert np.std(found) == pytest.approx(index / 10, rel=0.3)
    assert np.mean([tail.is_heavy for tail in tails]) == pytest.approx(float(index > 0.5), abs=0.1)


def test_numbers_without_a_tail():
    for numbers in (np.zeros(100), np.ones(100), np.arange(3.0), np.append(np.zeros(99), 1.0)):
        assert Tail.of(numbers).heaviness == 0
        assert not Tail.of(numbers).is_heavy
    assert Tail.of(np.random.default_rng(0).random(100_000) ** -2.0).size == MOST


@pytest.mark.parametrize("index", [0.7, 1.0, 1.6])
def test_predictions_cover_the_mean_of_a_finite_population(index):
    """From a twentieth of the numbers, where an interval by the standard error mostly misses."""
    rng, inside, missed = np.random.default_rng(1), [], []
    for seed in range(60):
        population = rng.random(10_000) ** -index
        drawn, mean = population[:500], population.mean()
        low, high = np.quantile(predicted_means(drawn, 10_000, np.random.RandomState(seed)), [0.025, 0.975])
        inside.append(low <= mean <= high)
        missed.append(abs(drawn.mean() - mean) > 1.96 * drawn.std() / np.sqrt(500))
    assert np.mean(inside) > 0.95 - 4.5 * np.sqrt(0.05 * 0.95 / 60)
    assert np.mean(missed) > 0.2


def test_predictions_are_exact_where_all_were_drawn():
    numbers, factors = np.random.default_rng(2).random((2, 200))
    sums, products = predicted_means(numbers, 200, np.random.RandomState(0), factors)
    np.testing.assert_allclose(sums, numbers.mean(), rtol=1e-12)
    np.testing.assert_allclose(products, np.mean(numbers * factors), rtol=1e-12)


def test_predictions_of_an_infinite_population():
    """The mean ``1 / (1 - index)`` of a power law from 1 on; without a limit where it may not exist."""
    rng = np.random.default_rng(3)
    for index, finite in ((0.4, True), (1.5, False)):
        found = predicted_means(rng.random(5000) ** -index, np.inf, np.random.RandomState(0))
        low, high = np.quantile(found, [0.025, 0.975], method="nearest")
        assert np.isinf(high) != finite
        if finite:
            assert low < 1 / (1 - index) < high < 1.3 / (1 - index)
