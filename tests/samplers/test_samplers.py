"""Every sampler in the registry, on rows that are stored and on keyed permutations."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from scipy.stats import chi2, chisquare

from skminibatch import MiniBatchSGDRegressor, samplers
from skminibatch.contract.orders import SMALLEST_KEYED, rows_of
from skminibatch.estimators import parts as resolved
from skminibatch.samplers import SAMPLERS, Blocks, Sequential, Shuffle
from skminibatch.training.chunks import epoch_sizes

STORED, KEYED = 50, SMALLEST_KEYED + 904  # rows: below and above the size from which an order is not stored
PASSES = ["shuffle", "sequential", "blocks", "groups"]  # visit each row once an epoch

each = pytest.mark.parametrize("sampler", [cls() for cls in SAMPLERS.values()], ids=repr)


def start(sampler, n_rows, rows=None, seed=0, epoch=0):
    return sampler.start(n_rows, rows, seed, epoch, np.arange(n_rows) * 7 % 3)


def epochs(sampler, n_rows, count, rows=None, seed=0, sizes=None):
    """The rows of some epochs, one array each."""
    memory = start(sampler, n_rows, rows, seed)
    wanted = n_rows if rows is None else rows.size
    for _ in range(count):
        order, weights, memory = sampler.draw(memory, np.array([wanted]) if sizes is None else sizes)
        assert weights is None or not hasattr(sampler, "block")
        yield rows_of(order, 0, wanted)


def score(count: float, expected: float) -> float:
    """Standard score of a Poisson count."""
    return (count - expected) / np.sqrt(expected)


def test_registry():
    assert {"shuffle", "sequential", "blocks", "replacement"} <= set(SAMPLERS)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("n_rows", [1, 2, STORED, 64, 65, KEYED, SMALLEST_KEYED * 64 + 5])
def test_an_epoch_visits_each_row_once(name, n_rows):
    for rows in epochs(SAMPLERS[name](), n_rows, 2):
        np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("n_rows", [STORED, 2 * KEYED])
def test_only_rows_in_use_are_visited(name, n_rows):
    used = np.flatnonzero(np.arange(n_rows) % 3 != 1)
    for rows in epochs(SAMPLERS[name](), n_rows, 2, rows=used):
        np.testing.assert_array_equal(np.sort(rows), used)


@each
def test_replacement_keeps_to_the_rows_in_use(sampler):
    used = np.array([3, 5, 8])
    for rows in epochs(sampler, 10, 3, rows=used):
        assert rows.size == 3
        assert np.isin(rows, used).all()


@each
@pytest.mark.parametrize("n_rows", [4 * STORED, KEYED])
def test_draws_are_reproducible_and_epochs_differ(sampler, n_rows):
    first, again = list(epochs(sampler, n_rows, 3)), list(epochs(sampler, n_rows, 3))
    np.testing.assert_array_equal(first, again)
    if isinstance(sampler, Sequential):
        np.testing.assert_array_equal(first[0], np.arange(n_rows))
        return
    assert not np.array_equal(first[0], first[1])
    other_seed = next(epochs(sampler, n_rows, 1, seed=1))
    assert not np.array_equal(first[0], other_seed)


@pytest.mark.parametrize("sampler", [SAMPLERS[name]() for name in (*PASSES, "replacement")], ids=repr)
@pytest.mark.parametrize("n_rows", [STORED, KEYED])
def test_an_epoch_can_be_started_from_its_number(sampler, n_rows):
    """Counter-based generators: the third epoch needs no first and second."""
    third = list(epochs(sampler, n_rows, 3))[2]
    order, _, _ = sampler.draw(start(sampler, n_rows, epoch=2), np.array([n_rows]))
    np.testing.assert_array_equal(rows_of(order, 0, n_rows), third)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("n_rows", [STORED, KEYED])
def test_chunks_of_an_epoch_are_the_epoch(name, n_rows):
    sampler = SAMPLERS[name]()
    sizes = epoch_sizes(n_rows, np.full(n_rows, 7))
    whole = next(epochs(sampler, n_rows, 1))
    memory, parts = start(sampler, n_rows), []
    for some in np.array_split(sizes, 4):
        order, _, memory = sampler.draw(memory, some)
        parts.append(rows_of(order, 0, some.sum()))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("n_rows", [STORED, 200, KEYED])
def test_blocks_stay_together(n_rows):
    """Consecutive rows from a multiple of the size of a block; only the last block of the data is shorter."""
    block = 64 if n_rows < KEYED else 4
    sampler = Blocks(block)
    rows = next(epochs(sampler, n_rows, 1))
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    for run in np.split(rows, cuts):
        assert run[0] % min(block, n_rows) == 0
        assert run.size % block == 0 or run[-1] == n_rows - 1


@pytest.mark.parametrize(
    ("n_rows", "block", "count"),
    [(STORED, 1, 3000), (KEYED, 1, 400), (4 * STORED, 4, 3000), (4 * KEYED, 4, 150)],
)
def test_adjacent_rows_meet_as_often_as_in_a_uniform_permutation(n_rows, block, count):
    """In a uniform order of n things, (n - 1) / n neighbours go up by one on average, and as many go down."""
    n = n_rows // block
    up = down = 0
    for rows in epochs(Shuffle(block), n_rows, count):
        places = rows[::block] // block
        up += np.sum(np.diff(places) == 1)
        down += np.sum(np.diff(places) == -1)
    expected = count * (n - 1) / n
    assert abs(score(up, expected)) < 4.5
    assert abs(score(down, expected)) < 4.5


@pytest.mark.parametrize("sampler", [Shuffle(), SAMPLERS["replacement"]()], ids=repr)
def test_positions_are_uniform_in_a_stored_order(sampler):
    """Row by position, all 2,500 cells."""
    cells = np.zeros((STORED, STORED))
    for rows in epochs(sampler, STORED, 5000):
        cells[np.arange(STORED), rows] += 1
    statistic = np.sum((cells - 100) ** 2 / 100)
    assert 1e-5 < chi2.sf(statistic, (STORED - 1) ** 2) < 1 - 1e-5


def test_epochs_are_independent():
    """A row does not remember its place: its positions in two epochs, in 8 x 8 parts."""
    orders = [np.argsort(rows) for rows in epochs(Shuffle(), KEYED, 20)]
    for first, second in itertools.pairwise(orders):
        pairs = (first * 8 // KEYED) * 8 + second * 8 // KEYED
        expected = np.outer(np.bincount(first * 8 // KEYED), np.bincount(second * 8 // KEYED)).ravel() / KEYED
        statistic = np.sum((np.bincount(pairs, minlength=64) - expected) ** 2 / expected)
        assert chi2.sf(statistic, 49) > 1e-5


@pytest.mark.parametrize(("n_rows", "count"), [(STORED, 2000), (KEYED, 200)])
def test_draws_with_replacement_are_independent(n_rows, count):
    """Rows are drawn equally often; pairs of draws, neighbours or not, meet as often as independent ones do."""
    draws = np.array(list(epochs(SAMPLERS["replacement"](), n_rows, count)))
    often = np.array([np.bincount(rows, minlength=n_rows) for rows in draws])
    assert 1e-5 < chisquare(often.sum(axis=0)).pvalue < 1 - 1e-5
    pairs = np.sum(often * (often - 1) // 2)
    assert abs(score(pairs, count * (n_rows - 1) / 2)) < 4.5
    for lag in (1, 2, 17):
        assert abs(score(np.sum(draws[:, lag:] == draws[:, :-lag]), count * (n_rows - lag) / n_rows)) < 4.5
    cells = (draws[:, :-1] * 8 // n_rows) * 8 + draws[:, 1:] * 8 // n_rows  # a row and the next
    sizes = np.bincount(np.arange(n_rows) * 8 // n_rows)
    expected = cells.size * np.outer(sizes, sizes).ravel() / n_rows**2
    statistic = np.sum((np.bincount(cells.ravel(), minlength=64) - expected) ** 2 / expected)
    assert 1e-5 < chi2.sf(statistic, 63) < 1 - 1e-5


@each
@pytest.mark.parametrize("n_rows", [60, KEYED])
def test_the_weighted_gradient_is_unbiased(sampler, n_rows, rng):
    """Batches, weighted as the plan says, have the mean gradient of all rows on average."""
    gradients = rng.standard_normal(n_rows) + np.arange(n_rows) / n_rows
    sizes = epoch_sizes(n_rows, np.full(n_rows, 10))
    ends = np.concatenate([[0], np.cumsum(sizes)])
    memory, means = start(sampler, n_rows), []
    for _ in range(200 if n_rows < 100 else 8):
        order, weights, memory = sampler.draw(memory, sizes)
        weighted = gradients[rows_of(order, 0, n_rows)] * (1.0 if weights is None else weights)
        means.append(np.add.reduceat(weighted, ends[:-1]) / sizes)
    means = np.array(means)
    standard_error = gradients.std() / np.sqrt(len(means) * n_rows)
    assert abs(np.average(means, weights=sizes, axis=1).mean() - gradients.mean()) < 4.5 * standard_error
    if isinstance(sampler, Shuffle):  # each batch is a simple random sample, not only their mean
        error = gradients.std() / np.sqrt(10 * len(means))
        assert np.abs(means.mean(axis=0) - gradients.mean()).max() < 5.5 * error


def test_batches_of_an_epoch_differ_by_at_most_one():
    for n_rows in (1, 2, 3, 10, 63, 64, 65, 1000):
        for batch_size in (1, 2, 3, 10, 64, 2000):
            sizes = epoch_sizes(n_rows, np.full(n_rows, batch_size))
            assert sizes.sum() == n_rows
            assert sizes.size == -(-n_rows // min(batch_size, n_rows))
            assert sizes.max() - sizes.min() <= 1
            assert sizes.max() <= batch_size


@each
def test_pickle_and_repr(sampler):
    copy = pickle.loads(pickle.dumps(sampler))
    assert type(copy) is type(sampler)
    assert eval(repr(sampler), vars(samplers)) == sampler
    _, _, memory = sampler.draw(start(sampler, STORED), np.array([20]))
    order, _, _ = sampler.draw(pickle.loads(pickle.dumps(memory)), np.array([20]))
    expected, _, _ = sampler.draw(memory, np.array([20]))
    np.testing.assert_array_equal(rows_of(order, 0, 20), rows_of(expected, 0, 20))


def test_shuffle_false_is_sequential():
    assert isinstance(resolved.sampler("shuffle", shuffle=False), Sequential)
    assert isinstance(resolved.sampler("sequential", shuffle=True), Sequential)
    with pytest.raises(ValueError, match="shuffle=False contradicts sampler='blocks'"):
        resolved.sampler("blocks", shuffle=False)
    with pytest.raises(ValueError, match="The 'block' of Blocks in the 'sampler' parameter must be"):
        resolved.sampler(Blocks(0), shuffle=True)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_fits(name, regression):
    regressor = MiniBatchSGDRegressor(sampler=name, batch_size=16, device="base", random_state=0)
    given = {"strata": np.arange(len(regression[1])) // 7} if name == "groups" else {}
    assert regressor.fit(*regression, **given).score(*regression) > 0.95
