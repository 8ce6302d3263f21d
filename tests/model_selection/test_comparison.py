"""Differences of cross-validated scores: the corrected formula, folds without a score, and how often intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import ShuffleSplit

from skminibatch.model_selection.comparison import differences_from

SCORES = np.array([[0.81, 0.79, 0.80, 0.82, 0.80], [0.71, 0.70, 0.69, 0.72, 0.70], [0.80, 0.80, 0.79, 0.82, 0.81]])


@pytest.mark.parametrize("reference", [0, 1, 2])
@pytest.mark.parametrize(("test_share", "level"), [(0.25, 0.95), (1.0, 0.5), (1e-9, 0.99)])
def test_the_formula(reference, test_share, level):
    """Nadeau and Bengio: s^2 (1 / J + n_test / n_train), and Student's t with J - 1 degrees of freedom."""
    found = differences_from(SCORES, reference, test_share, level)
    J = SCORES.shape[1]
    for number, scores in enumerate(SCORES):
        differences = [float(a - b) for a, b in zip(scores, SCORES[reference], strict=True)]
        mean = sum(differences) / J
        variance = sum((each - mean) ** 2 for each in differences) / (J - 1)
        error = (variance * (1 / J + test_share)) ** 0.5
        margin = stats.t(J - 1).ppf(1 - (1 - level) / 2) * error
        np.testing.assert_allclose(found.mean[number], mean, atol=1e-15)
        np.testing.assert_allclose(found.standard_error[number], error, atol=1e-15)
        np.testing.assert_allclose([found.low[number], found.high[number]], [mean - margin, mean + margin], atol=1e-14)
        assert found.indistinguishable[number] == (mean - margin <= 0 <= mean + margin)


def test_without_a_share_the_test_is_the_paired_one():
    found = differences_from(SCORES, 0, 0.0)
    theirs = stats.ttest_rel(SCORES[2], SCORES[0])
    interval = theirs.confidence_interval(0.95)
    np.testing.assert_allclose([found.low[2], found.high[2]], interval, rtol=1e-12)


def test_the_reference_and_scores_that_are_the_same_have_no_difference():
    found = differences_from(SCORES[[0, 0, 1]], 0, 0.25)
    np.testing.assert_array_equal(found.mean[:2], 0.0)
    np.testing.assert_array_equal(found.standard_error[:2], 0.0)
    np.testing.assert_array_equal(found.indistinguishable, [True, True, False])


def test_folds_without_a_score_are_left_out():
    scores = np.vstack([SCORES, SCORES[2], SCORES[2]])
    scores[2, 1], scores[3, 1:], scores[4] = np.nan, np.nan, np.nan
    found = differences_from(scores, 0, 0.25)
    others = differences_from(np.delete(SCORES, 1, axis=1), 0, 0.25)
    for name in found._fields:
        np.testing.assert_allclose(getattr(found, name)[2], getattr(others, name)[2], rtol=1e-12)
        np.testing.assert_allclose(
            getattr(found, name)[1], getattr(differences_from(SCORES, 0, 0.25), name)[1], rtol=1e-12
        )
    np.testing.assert_allclose(found.mean[3], SCORES[2, 0] - SCORES[0, 0])
    assert np.isnan(found.standard_error[3:]).all()
    assert np.isnan(found.low[3:]).all()
    assert np.isnan(found.mean[4])
    assert found.indistinguishable[3:].all()  # nothing is known against them
    of_reference = differences_from(scores, 2, 0.25)  # its missing fold is missing for all
    np.testing.assert_allclose(of_reference.mean[0], -others.mean[2], rtol=1e-12)


def test_one_fold_says_nothing():
    found = differences_from(SCORES[:, :1], 0, 0.25)
    np.testing.assert_allclose(found.mean, SCORES[:, 0] - SCORES[0, 0])
    assert np.isnan(found.standard_error).all()
    assert found.indistinguishable.all()


def test_intervals_cover_a_known_difference():
    """Of two constant predictions of a mean: their risks differ by a known amount, and the training sets of a split overlap.

    Each rule predicts the mean of its training rows, one of them off by a bias. Without the correction, the intervals of 95 per
    cent cover in fewer cases.
    """
    n, n_test, bias, splits = 60, 12, 0.3, 10
    rng, share = np.random.default_rng(0), n_test / (n - n_test)
    covered, uncorrected, repetitions = 0, 0, 300
    for repetition in range(repetitions):
        y, scores = rng.standard_normal(n), np.empty((2, splits))
        splitter = ShuffleSplit(splits, test_size=n_test, random_state=repetition)
        for fold, (train, test) in enumerate(splitter.split(y)):
            mean = y[train].mean()
            scores[:, fold] = -np.mean((y[test] - mean) ** 2), -np.mean((y[test] - mean - bias) ** 2)
        for name, found in (("corrected", differences_from(scores, 0, share)), ("", differences_from(scores, 0, 0.0))):
            inside = found.low[1] <= -(bias**2) <= found.high[1]  # E (y - m - b)^2 - E (y - m)^2 = b^2
            covered += inside and bool(name)
            uncorrected += inside and not name
    assert covered / repetitions > 0.9
    assert uncorrected < covered
