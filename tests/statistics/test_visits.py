"""Visits of stiff rows: how many, where, and that the sum of their gradients stays what it is."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch.statistics.smoothness import SmoothnessConstants, unevenness
from skminibatch.statistics.visits import LONGER, repeated, visits_of_rows


def test_usual_rows_come_once():
    factor, visits = visits_of_rows(np.linspace(0.0, 8.0, 50), 8.0)
    assert factor == 1.0
    assert np.all(visits == 1)


@pytest.mark.parametrize("seed", range(5))
def test_each_visit_is_one_that_a_step_can_take(seed):
    """Whatever the rows: a visit is at most as stiff as the limit, times the factor that keeps an epoch short."""
    rng = np.random.default_rng(seed)
    each, limit = rng.pareto(0.7, 400), 2.0
    factor, visits = visits_of_rows(each, limit)
    assert visits.min() == 1
    assert np.all(each / visits <= factor * limit * (1 + 1e-12))
    assert np.sum(visits - 1) <= LONGER * 400
    assert factor == 1.0 or np.sum(np.maximum(np.ceil(each / (factor * limit / 2)), 1) - 1) > LONGER * 400


def test_an_epoch_may_be_longer_where_that_is_asked_for():
    each = np.array([1.0, 300.0])
    assert visits_of_rows(each, 1.0)[0] > 1
    factor, visits = visits_of_rows(each, 1.0, 300.0)
    assert factor == 1.0
    np.testing.assert_array_equal(visits, [1, 300])


@pytest.mark.parametrize("in_use", [np.arange(100), np.arange(1, 100, 3)], ids=["all", "some"])
def test_shares_add_up(in_use):
    """The sum of the shares over the positions of an epoch is that of the rows in use."""
    rng = np.random.default_rng(0)
    gradients, visits = rng.standard_normal((100, 3)), rng.integers(1, 6, 100)
    positions = repeated(visits, in_use)
    found = (gradients[positions] / visits[positions, None]).sum(axis=0)
    np.testing.assert_allclose(found, gradients[in_use].sum(axis=0), rtol=1e-12)
    assert len(positions) == visits[in_use].sum()


def test_unevenness_is_the_number_of_rows_that_count_as_one():
    assert unevenness(np.full(100, 3.0)) == pytest.approx(1.0)
    heavy = np.ones(1000)
    heavy[3] = 999.0  # as much as all others
    assert unevenness(heavy) == pytest.approx(1000 / 4, rel=0.01)
    assert unevenness(np.where(np.arange(1000) == 3, 1.0, 0.0)) == pytest.approx(1000)
    assert unevenness(np.zeros(5)) == 1.0
    assert unevenness(7.0 * heavy) == pytest.approx(unevenness(heavy))


def test_uneven_rows_set_the_worst_one():
    """A step has to average over them; batches of all rows do not mind."""
    even = SmoothnessConstants(2.0, 50.0, 10.0, 0.5)
    assert even.of_uneven(1.0) == even
    uneven = even.of_uneven(300.0)
    assert uneven == SmoothnessConstants(2.0, 3000.0, 10.0, 0.5, 300.0)
    assert uneven.of_batch(1000, 1000) == even.of_batch(1000, 1000)
    assert uneven.of_batch(1, 1000) == pytest.approx(3000.0)
