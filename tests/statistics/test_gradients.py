"""The statistics of gradients: against sums over explicit gradients, enumerations and simulations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.statistics.gradients import GradientStatistics, correlation, correlation_interval, inverted, jackknife
from tests.examined import examined

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")


def statistics_of(gradients, groups, pull=0.0, population=np.inf):
    """The sums over groups of explicit gradients (n, p)."""
    sums = np.array([gradients[rows].sum(axis=0) for rows in groups])
    pull = np.broadcast_to(pull, gradients.shape[1])
    return GradientStatistics(
        np.array([len(rows) for rows in groups], float),
        np.array([np.sum(gradients[rows] ** 2) for rows in groups]),
        np.sum(sums**2, axis=1),
        sums @ sums.sum(axis=0),
        sums @ pull,
        float(pull @ pull),
        population,
    )


def exact_moments(gradients, pull=0.0):
    """(|G|^2, tr Sigma) of a data set."""
    mean = gradients.mean(axis=0)
    return np.sum((mean + pull) ** 2), np.sum((gradients - mean) ** 2) / len(gradients)


@pytest.mark.parametrize("pull", [0.0, 0.7])
def test_moments_of_a_part_are_unbiased_for_the_whole(pull, rng):
    """The mean over all subsets of 3 of 7 rows is the value of the 7, to rounding."""
    gradients = rng.standard_normal((7, 2)) ** 3 + 0.5
    found = [
        statistics_of(gradients, [np.array(some)], pull, population=7).moments() for some in combinations(range(7), 3)
    ]
    np.testing.assert_allclose(np.mean(found, axis=0), exact_moments(gradients, pull), rtol=1e-12)
    everything = statistics_of(gradients, [np.arange(7)], pull, population=7)
    np.testing.assert_allclose(everything.moments(), exact_moments(gradients, pull), rtol=1e-12)


def test_one_batch_tells_the_variance_of_its_mean(rng):
    """``(1 - b / n) s^2 / b`` of a batch, over all batches of 3 of 7 rows: the variance of their means, to rounding."""
    gradients = rng.standard_normal((7, 2)) ** 3 + 0.5
    some = [np.array(rows) for rows in combinations(range(7), 3)]
    traces = [statistics_of(gradients, [rows], population=7).moments()[1] for rows in some]
    means = np.array([gradients[rows].mean(axis=0) for rows in some])
    expected = np.sum((means - gradients.mean(axis=0)) ** 2) / len(some)
    np.testing.assert_allclose(np.mean(traces) / 3 * (7 - 3) / (7 - 1), expected, rtol=1e-12)


def test_two_batches_of_an_epoch_pull_apart(rng):
    """``E <g_1 - G, g_2 - G> = -tr(Sigma) / (n - 1)`` for disjoint batches, over all pairs of 3 of 7 rows."""
    gradients = rng.standard_normal((7, 2)) ** 3 + 0.5
    pairs = [
        (np.array(one), np.array(other))
        for one in combinations(range(7), 3)
        for other in combinations(np.setdiff1d(range(7), one), 3)
    ]
    found = [statistics_of(gradients, pair) for pair in pairs]
    products = [(each.products - each.square_sums)[0] / 9 for each in found]  # the sum of both, less its own
    square_norm, trace = statistics_of(gradients, [np.arange(7)], population=7).moments()
    np.testing.assert_allclose(np.mean(products) - square_norm, -trace / 6, rtol=1e-12)


@pytest.mark.parametrize("b", [2, 8])
def test_the_square_norm_of_skewed_gradients(b):
    """Unbiased, with the variance ``4 G' Sigma G / b + 2 tr(Sigma^2) / (b (b - 1))``, whatever the distribution."""
    rng, n = np.random.default_rng(5), 200_000
    shape = np.array([[1.0, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.3, 0.2, 0.4]])
    G, sigma = np.array([0.6, -0.4, 0.3]), shape @ shape.T
    gradients = G + (rng.gamma(4.0, size=(n, b, 3)) / 2 - 2) @ shape.T
    of_one = statistics_of(gradients[0], [np.arange(b)])
    square_sums = np.sum(gradients.sum(axis=1) ** 2, axis=1)
    found, _ = of_one._moments(b, np.sum(gradients**2, axis=(1, 2)), square_sums, 0.0)  # of each batch at once
    assert found[0] == pytest.approx(of_one.moments()[0], rel=1e-9)
    variance = 4 * G @ sigma @ G / b + 2 * np.sum(sigma**2) / (b * (b - 1))
    assert abs(found.mean() - G @ G) < 4.5 * np.sqrt(variance / n)
    assert found.var() == pytest.approx(variance, rel=0.025)


def test_moments_are_those_of_two_batches(rng):
    """With batches of 1 and b rows, the estimators of McCandlish et al. (2018, appendix A.1)."""
    gradients = rng.standard_normal((16, 3)) + 0.3
    small, big = np.mean(np.sum(gradients**2, axis=1)), np.sum(gradients.mean(axis=0) ** 2)
    expected = (16 * big - small) / 15, (small - big) / (1 - 1 / 16)
    np.testing.assert_allclose(statistics_of(gradients, [np.arange(16)]).moments(), expected, rtol=1e-12)


def test_moments_without_each_group(rng):
    gradients = rng.standard_normal((20, 3))
    groups = np.array_split(np.arange(20), 6)
    found = statistics_of(gradients, groups, 0.2).moments_without_each()
    for k in range(6):
        rest = [rows for j, rows in enumerate(groups) if j != k]
        expected = statistics_of(gradients, rest, 0.2).moments()
        np.testing.assert_allclose([found[0][k], found[1][k]], expected, rtol=1e-9)


def test_the_plug_in_noise_scale_saturates_and_ours_does_not():
    """A true noise scale of 177, batches of 32 rows: the plug-in value is below 40 on the average."""
    rng = np.random.default_rng(0)
    mean = np.full(20, np.sqrt(20 / 177 / 20))
    squares, traces, plug_in = [], [], []
    for _ in range(3000):
        statistics = statistics_of(rng.standard_normal((32, 20)) + mean, [np.arange(32)])
        square_norm, trace = statistics.moments()
        squares.append(square_norm), traces.append(trace)
        plug_in.append(trace / (square_norm + trace / 32))
    assert np.mean(plug_in) < 1.2 * 32
    assert abs(np.mean(traces) / np.mean(squares) / 177 - 1) < 0.15


def test_coverage_of_the_jackknife():
    """1 / S from 64 micro-batches of 8 rows, S = 177."""
    rng = np.random.default_rng(1)
    mean = np.full(20, np.sqrt(1 / 177))
    groups = np.array_split(np.arange(512), 64)
    inside = []
    for _ in range(600):
        statistics = statistics_of(rng.standard_normal((512, 20)) + mean, groups)
        square_norm, trace = statistics.moments_without_each()
        low, high = jackknife(square_norm / trace, np.divide(*statistics.moments()), 0.95)
        inside.append(low <= 1 / 177 <= high)
    assert 0.92 <= np.mean(inside) <= 0.97


def test_inverted_interval():
    assert inverted(0.1, 0.5) == (2.0, 10.0)
    assert inverted(-0.1, 0.5) == (2.0, np.inf)
    assert inverted(-0.5, -0.1) == (np.inf, np.inf)


def correlated(rng, k, b, rho, d=1):
    """Gradients of k batches of b rows with a correlation."""
    shared = np.repeat(rng.standard_normal((k, d)), b, axis=0)
    return np.sqrt(rho) * shared + np.sqrt(1 - rho) * rng.standard_normal((k * b, d))


def batches(k, b):
    return list(np.arange(k * b).reshape(k, b))


def test_correlation_is_unbiased_and_its_interval_covers():
    rng, rho, estimates, inside = np.random.default_rng(2), 0.2, [], []
    for _ in range(4000):
        statistics = statistics_of(correlated(rng, 30, 8, rho), batches(30, 8))
        within, between, size = statistics.within_and_between()
        estimates.append(((between - within) / size, (between - within) / size + within))
        low, high = correlation_interval(statistics, 0.95)
        inside.append(low <= rho <= high)
    error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert np.all(np.abs(np.mean(estimates, axis=0) - [rho, 1.0]) < 4.5 * error)
    assert abs(np.mean(inside) - 0.95) < 0.015


def test_correlation_of_vectors():
    rng = np.random.default_rng(3)
    statistics = statistics_of(correlated(rng, 3000, 8, 0.3, d=50), batches(3000, 8))
    assert abs(correlation(*statistics.within_and_between()) - 0.3) < 0.01


def test_correlation_without_replacement():
    """All subsets of b of n rows, each as often, are batches with the correlation -1 / (n - 1)."""
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((7, 2))
    subsets = [list(some) for some in combinations(range(7), 3)]
    gradients = np.concatenate([rows[some] for some in subsets])
    within, between, size = statistics_of(gradients, batches(len(subsets), 3)).within_and_between()
    between *= (len(subsets) - 1) / len(subsets)  # these are all batches, not a sample of them
    assert size == pytest.approx(3)
    assert correlation(within, between, 3.0) == pytest.approx(-1 / 6, abs=1e-12)


def test_limits_of_the_interval_of_a_correlation(rng):
    """Batches of equal rows, batches of equal means, and one batch alone with all of the noise."""
    offsets = rng.standard_normal((6, 1))
    rows = np.tile([[1.0], [-1.0]], (3, 1))
    alone = np.concatenate([offsets[:5].repeat(2, axis=0), offsets[5] + rows[:2]])
    for gradients, rho in ((offsets.repeat(2, axis=0), 1.0), (np.concatenate([rows, rows]), -1.0), (alone, None)):
        found = correlation_interval(statistics_of(gradients, batches(6, 2)), 0.95)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, found if rho is None else rho, atol=1e-12)
    far = offsets.repeat(2, axis=0) + 1e-140 * np.concatenate([rows, rows])
    assert correlation_interval(statistics_of(1e-3 * far, batches(6, 2)), 0.95)[1] <= 1.0


def test_mean_squares_without_each_group(rng):
    gradients = rng.standard_normal((20, 3))
    groups = np.split(np.arange(20), [3, 5, 11, 14])
    found = np.array(statistics_of(gradients, groups).within_and_between_without_each()).T
    for k in range(5):
        rest = [rows for j, rows in enumerate(groups) if j != k]
        np.testing.assert_allclose(found[k], statistics_of(gradients, rest).within_and_between(), rtol=1e-9)


CASES = {
    "regression": (MiniBatchSGDRegressor(alpha=0.3), 1),
    "several outputs": (MiniBatchSGDRegressor(alpha=0.3), 3),
    "two classes": (MiniBatchSGDClassifier(alpha=0.3), 2),
    "softmax": (MiniBatchSGDClassifier(alpha=0.3), 4),
    "one-vs-rest": (MiniBatchSGDClassifier(alpha=0.3, loss="squared_hinge"), 4),
    "no intercept": (MiniBatchSGDRegressor(fit_intercept=False), 1),
    "standardised": (MiniBatchSGDRegressor(standardize=True, alpha=0.3), 1),
    "constant rate": (MiniBatchSGDRegressor(learning_rate="constant", eta0=1e-3, alpha=0.3), 1),
    "float32": (MiniBatchSGDClassifier(alpha=0.3), 2),
    "base": (MiniBatchSGDClassifier(alpha=0.3, device="base"), 4),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("case", CASES)
def test_statistics_are_those_of_the_gradients_of_the_objective(case, storage, weighted, rng):
    """Against differences of the objective of each row, in the coordinates of the optimizer."""
    estimator, k = CASES[case]
    dtype = np.float32 if case == "float32" else np.float64
    gradients = examined(estimator, k, storage, weighted, rng, dtype)
    model, data, rows = gradients.model, gradients.data, gradients.rows
    groups = np.array_split(rng.permutation(rows), 5)
    found = gradients.statistics(groups)

    axes, (coef, intercept) = model.axes, gradients.predictor
    w = np.column_stack([coef / axes.scale, intercept + coef @ axes.center]).astype(np.float64)

    def objective(w, rows, penalised):
        coef = w[:, :-1] * axes.scale
        loss, penalty = model.objective(data, rows, (coef, w[:, -1] - coef @ axes.center))
        weight = data.weights[rows].sum() if data.weights.size else len(rows)
        return penalty if penalised else loss * weight

    def difference(rows, penalised=False):
        gradient = np.zeros_like(w)
        for place in np.ndindex(*w.shape):
            step = np.zeros_like(w)
            step[place] = 1e-5
            gradient[place] = objective(w + step, rows, penalised) - objective(w - step, rows, penalised)
        gradient[:, -1] *= model.fit_intercept
        return gradient.ravel() / 2e-5

    expected = np.zeros((40, w.size))
    for row in rows:
        expected[row] = difference(np.array([row]))
    pull = difference(rows, penalised=True)
    expected = statistics_of(expected, groups, pull, len(rows))
    rtol = 2e-2 if dtype == np.float32 else 1e-4
    for name, numbers in found._asdict().items():
        scale = np.abs(getattr(expected, name)).max()
        np.testing.assert_allclose(numbers, getattr(expected, name), rtol=rtol, atol=rtol * scale, err_msg=name)
