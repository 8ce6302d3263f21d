"""Orders of rows: keyed permutations and what is evaluated of them, as arrays and compiled."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy.stats import chisquare

from skminibatch.backends.cpu.compile import OPTIONS
from skminibatch.backends.cpu.intrinsics import address_of, call
from skminibatch.backends.cpu.linear.sparse import EVERY
from skminibatch.backends.cpu.rows import BURST, N_WAY, find, write_order
from skminibatch.contract.orders import ROUNDS, SMALLEST_KEYED, explicit_order, keyed_order, rows_of

STORED, KEYED = 50, SMALLEST_KEYED + 904  # rows: below and above the size from which an order is not stored


def test_no_distance_is_favoured_in_a_keyed_order():
    """Positions at some distances, and rows at some distances: those that two halves of a number would favour."""
    count, width = 400, keyed(KEYED).width
    orders = [rows_of(keyed(KEYED, seed=i), 0, KEYED) for i in range(count)]
    for lag in (1, 2, width, width + 1):
        differences = np.array([rows[lag:] - rows[:-lag] for rows in orders])
        for distance in (1, -1, 2, width, -width, width + 1):
            expected = count * (KEYED - lag) * (KEYED - abs(distance)) / (KEYED * (KEYED - 1))
            assert abs(score(np.sum(differences == distance), expected)) < 4.5, (lag, distance)


def test_positions_are_uniform_in_a_keyed_order():
    """Of one row in 16 parts, and of two consecutive or distant rows in 8 x 8 parts."""
    count = 3000
    chosen = np.array([0, 1, 2, KEYED // 2, KEYED - 1])
    positions = np.empty((count, chosen.size), np.int64)
    for i in range(count):
        rows = rows_of(keyed(KEYED, seed=i), 0, KEYED)
        positions[i] = np.flatnonzero(np.isin(rows, chosen))[np.argsort(rows[np.isin(rows, chosen)])]
    for column in range(chosen.size):
        observed = np.bincount(positions[:, column] * 16 // KEYED, minlength=16)
        assert chisquare(observed).pvalue > 1e-5
    for a, b in [(0, 1), (1, 2), (0, 3), (3, 4)]:
        pairs = (positions[:, a] * 8 // KEYED) * 8 + positions[:, b] * 8 // KEYED
        assert chisquare(np.bincount(pairs, minlength=64)).pvalue > 1e-5


def keyed(n_rows, seed=0, **options):
    return keyed_order(n_rows, np.random.Philox(key=[seed, 0]).random_raw(ROUNDS), **options)


def score(count: float, expected: float) -> float:
    """Standard score of a Poisson count."""
    return (count - expected) / np.sqrt(expected)


ORDERS = {
    "rows": keyed(KEYED),
    "a square number of rows": keyed(71**2),
    "one more": keyed(71**2 + 1),
    "subset": keyed(KEYED // 2, subset=np.arange(0, KEYED, 2)),
    "blocks": keyed(KEYED * 4, block=4),
    "blocks, a short one": keyed(KEYED * 4 + 3, block=4, seed=1),
    "blocks, a short one first or last": keyed(4 * 4 + 1, block=4, seed=2),
    "blocks of a subset": keyed(1001, block=64, subset=np.arange(1001) * 3, seed=3),
    "few rows": keyed(3),
    "one row": keyed(1),
    "copies": keyed(KEYED, copies=2),
    "copies of a few rows": keyed(7, copies=3),
    "blocks of copies": keyed(101, block=4, copies=5),
    "copies of a subset": keyed(70, subset=np.arange(70) * 2, copies=9),
    "stored": explicit_order(np.random.default_rng(0).permutation(STORED)),
}
each_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


def length(order) -> int:
    return order.explicit.size or order.n_rows * order.copies


@each_order
def test_an_order_can_be_asked_in_any_sequence(order, rng):
    whole = rows_of(order, 0, length(order))
    assert set(np.unique(whole, return_counts=True)[1]) == {order.copies}
    for i in rng.integers(length(order), size=50):
        np.testing.assert_array_equal(rows_of(order, i, i + 1), whole[i : i + 1])
    cut = length(order) // 3
    np.testing.assert_array_equal(rows_of(order, cut, length(order)), whole[cut:])
    if not order.explicit.size:
        np.testing.assert_array_equal(rows_of(order._replace(start=cut), 0, length(order) - cut), whole[cut:])


@njit(**OPTIONS)
def compiled_rows(find, order, start, stop, rows, burst, way):
    write_order(way, order, burst)
    call(find, (address_of(way), start, stop, address_of(rows), 0, EVERY))


def compiled(order, start, stop):
    rows = np.empty(stop - start, np.int64)
    compiled_rows(find(), order, start, stop, rows, np.empty((2, BURST), np.uint64), np.empty(N_WAY, np.int64))
    return rows


@pytest.mark.parametrize("name", [name for name in ORDERS if name != "stored"])
def test_compiled_and_array_evaluation_agree(name):
    order = ORDERS[name]
    whole = rows_of(order, 0, length(order))
    np.testing.assert_array_equal(compiled(order, 0, length(order)), whole)
    for cut in (0, length(order) // 3):
        np.testing.assert_array_equal(compiled(order._replace(start=cut), 0, length(order) - cut), whole[cut:])
