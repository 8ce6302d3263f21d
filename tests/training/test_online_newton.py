"""When a stream that is followed by Newton's method forgets."""

import numpy as np

from skminibatch.training.online_newton import Change


def after(blocks, change=None):
    change = change or Change()
    for block in blocks:
        change = change.with_block(*block)
    return change


def test_a_gain_that_matters_and_goes_on_calls_for_forgetting():
    change = after([(30.0, 20.0, 25.0)] * 12)
    assert change.gain == 120.0
    assert change.calls_for_forgetting(unit=1.0, n_rows=1e4)


def test_one_block_alone_does_not():
    """However large its gain: an outlier is no change."""
    assert not Change().with_block(1e6, 0.0, 1e6).calls_for_forgetting(unit=1.0, n_rows=1e4)


def test_a_gain_by_chance_does_not():
    """The logarithm of a ratio of likelihoods, of deviation 1, has the mean -1/2."""
    rng = np.random.default_rng(0)
    change, n_calls = Change(), 0
    for gain in rng.normal(-0.5, 1.0, 20_000):
        change = change.with_block(10.0 + gain, 10.0, 10.0)
        n_calls += change.calls_for_forgetting(unit=1.0, n_rows=1e4)
    assert n_calls == 0


def test_losses_reset_the_sum_but_the_largest_one_is_remembered():
    change = after([(10.0, 9.0, 12.0)] * 5 + [(5.0, 45.0, 50.0)])
    assert (change.gain, change.squares, change.worst) == (0.0, 0.0, 40.0)
    change = after([(10.0, 8.0, 9.0)] * 30, change)
    assert not change.calls_for_forgetting(unit=1.0, n_rows=100)  # a gain of 60: the next rare row may cost 40
    assert after([(10.0, 8.0, 9.0)] * 15, change).calls_for_forgetting(unit=1.0, n_rows=100)


def test_a_small_part_of_what_is_to_gain_does_not():
    """As between seasons: rows of all of them serve the whole."""
    assert not after([(30.0, 29.0, 60.0)] * 100).calls_for_forgetting(unit=1.0, n_rows=1e4)


def test_the_unit_of_the_losses_counts():
    change = after([(3000.0, 2000.0, 2500.0)] * 12)
    assert change.calls_for_forgetting(unit=100.0, n_rows=1e4)
    assert not change.calls_for_forgetting(unit=1e4, n_rows=1e4)
