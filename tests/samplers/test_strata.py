"""Samplers that draw rows unevenly: what they draw, that the gradient stays unbiased, and how far its variance falls."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.model_selection import KFold, cross_validate

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.kinds import declared
from skminibatch.contract.orders import rows_of
from skminibatch.estimators import parts as resolved
from skminibatch.samplers import SAMPLERS, Groups, Importance, Neyman, Shuffle, Stratified
from skminibatch.samplers.strata import MEASURED, allocation
from skminibatch.statistics.gradients import GradientStatistics
from skminibatch.statistics.smoothness import SmoothnessConstants

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")


class GradientsOf:
    """Given gradients (n, d) of the rows, as training shows them to a sampler."""

    def __init__(self, gradients):
        self.gradients = gradients

    def statistics(self, groups):
        parts = [self.gradients[rows] for rows in groups]
        squares = np.array([np.sum(part**2) for part in parts])
        square_sums = np.array([np.sum(part.sum(axis=0) ** 2) for part in parts])
        nothing = np.zeros(len(parts))
        return GradientStatistics(np.array([len(p) for p in parts], float), squares, square_sums, nothing, nothing)

    def on(self, rows):
        """The same of some rows."""
        part = copy.copy(self)
        part.rows = rows
        return part

    def row_factors(self):
        return np.ones(len(self.rows))

    def row_squares(self, factors):
        return np.sum(self.gradients[self.rows] ** 2, axis=1)

    def row_bounds(self):
        return np.sum(self.gradients[self.rows] ** 2, axis=1)


def uneven(rng, n_rows=2000):
    """Gradients (n, d) of three strata of different sizes, means and deviations, and the strata."""
    strata = rng.choice(3, n_rows, p=[0.7, 0.25, 0.05])
    means, deviations = np.array([[1.0, 0.0], [-1.0, 2.0], [0.0, 5.0]]), np.array([0.2, 1.0, 8.0])
    return means[strata] + deviations[strata][:, None] * rng.standard_normal((n_rows, 2)), strata


def prepared(sampler, gradients, strata, seed=0):
    memory = sampler.start(len(gradients), None, seed, 0, strata)
    return declared(sampler).observe(memory, GradientsOf(gradients))


def batch_means(sampler, gradients, strata, size, count, seed=0):
    """The weighted mean gradients of `count` batches."""
    memory = prepared(sampler, gradients, strata, seed)
    order, weights, _ = sampler.draw(memory, np.full(count, size))
    drawn = gradients[rows_of(order, 0, size * count)]
    if weights is not None:
        drawn = drawn * weights[:, None]
    return drawn.reshape(count, size, -1).mean(axis=1)


def by_stratum(gradients, strata):
    """(N_k, s_k) with s_k^2 the trace of the covariance in a stratum, n - 1 in the denominator."""
    parts = [gradients[strata == k] for k in np.unique(strata)]
    return np.array([len(p) for p in parts]), np.array([np.sqrt(np.sum(p.var(axis=0, ddof=1))) for p in parts])


def variance_of(counts, N, s):
    return np.sum((N / N.sum()) ** 2 * s**2 / counts * (1 - counts / N))


@pytest.mark.parametrize("seed", range(40))
def test_allocation_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    N = rng.integers(1, 8, size=rng.integers(2, 5))
    s = rng.uniform(0, 3, N.size) * (rng.random(N.size) < 0.8)
    size = int(rng.integers(N.size, N.sum() + 1))
    found = allocation(size, N, s)
    assert found.sum() == size
    assert np.all((found >= 1) & (found <= N))
    s = s if s.any() else np.ones(N.size)
    candidates = itertools.product(*(range(1, n + 1) for n in N))
    best = min(variance_of(np.array(c), N, s) for c in candidates if sum(c) == size)
    assert variance_of(found, N, s) == pytest.approx(best, abs=1e-12)


def test_a_batch_smaller_than_the_number_of_strata_is_an_error(several):
    X, y = several
    with pytest.raises(
        ValueError, match=r"A batch of 2 rows cannot have a row of each of 3 strata: batch_size must be"
    ):
        MiniBatchSGDClassifier(sampler="stratified", batch_size=2, device="base").fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Stratified(), Neyman(), Importance(), Importance("smoothness")], ids=repr)
@pytest.mark.parametrize("size", [5, 48])
def test_every_batch_is_unbiased(sampler, size, rng):
    """Monte Carlo over fresh starts, the first batch and a later one."""
    gradients, strata = uneven(rng, 300)
    means = np.array([batch_means(sampler, gradients, strata, size, 8, seed)[[0, 7]] for seed in range(1500)])
    errors = (means.mean(axis=0) - gradients.mean(axis=0)) / (means.std(axis=0, ddof=1) / np.sqrt(len(means)))
    assert np.abs(errors).max() < 4.5


@pytest.mark.parametrize("sampler", [Stratified(), Neyman()], ids=repr)
def test_a_whole_stratum_in_a_batch_has_no_variance(sampler, rng):
    """With n_k = N_k in every batch, the mean is exact; so it is of all rows in one batch."""
    gradients, strata = uneven(rng, 40)
    means = batch_means(sampler, gradients, strata, 40, 5)
    np.testing.assert_allclose(means, np.broadcast_to(gradients.mean(axis=0), means.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sampler", [Stratified(), Neyman()], ids=repr)
def test_no_row_is_twice_in_a_batch(sampler, rng):
    gradients, strata = uneven(rng, 100)
    memory = prepared(sampler, gradients, strata)
    for sizes in ([7] * 40, [7, 8] * 20, [60] * 5, [99]):
        order, _, memory = sampler.draw(memory, np.array(sizes))
        rows = rows_of(order, 0, sum(sizes))
        for batch in np.split(rows, np.cumsum(sizes)[:-1]):
            assert np.unique(batch).size == batch.size
            assert np.unique(strata[batch]).size == 3


def test_proportional_batches_visit_each_row_once_an_epoch(rng):
    """Where the shares are whole numbers, whatever the chunks."""
    strata = np.repeat([0, 1, 2], [60, 30, 10])
    memory, seen = Stratified().start(100, None, 0, 0, strata), []
    for steps in (3, 1, 6):
        order, weights, memory = Stratified().draw(memory, np.full(steps, 10))
        seen.append(rows_of(order, 0, 10 * steps))
        np.testing.assert_array_equal(weights, 1.0)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(100))


def test_identities_of_the_variances():
    """Strata whose best numbers of rows are whole: Neyman's, proportional and uniform batches of many more rows."""
    W, s, means = np.array([0.4, 0.3, 0.3]), np.array([1.0, 2.0, 6.0]), np.array([0.5, -1.0, 2.0])
    N = (W * 10**6).astype(int)
    best, even = allocation(280, N, s), allocation(280, N, np.ones(3))
    np.testing.assert_array_equal(best, [40, 60, 180])
    np.testing.assert_array_equal(even, [112, 84, 84])
    of_best, of_even = (np.sum(W**2 * s**2 / counts) for counts in (best, even))
    of_uniform = (W @ s**2 + W @ (means - W @ means) ** 2) / 280
    np.testing.assert_allclose(of_best, (W @ s) ** 2 / 280, rtol=1e-9)
    np.testing.assert_allclose(of_even, W @ s**2 / 280, rtol=1e-9)
    np.testing.assert_allclose(of_even - of_best, W @ (s - W @ s) ** 2 / 280, rtol=1e-9)
    np.testing.assert_allclose(of_uniform - of_even, W @ (means - W @ means) ** 2 / 280, rtol=1e-9)


@pytest.mark.parametrize("size", [16, 64])
def test_variances_are_those_of_the_formulas(size, rng):
    """Proportional, Neyman and uniform batches, the variance of the gradient within 5 % (Neyman 10 %) of its formula."""
    gradients, strata = uneven(rng)
    N, s = by_stratum(gradients, strata)
    variance = gradients.var(axis=0, ddof=1).sum()
    expected = {
        Shuffle: variance / size * (1 - size / len(gradients)),
        Stratified: variance_of(allocation(size, N, np.ones(3)), N, s),
        Neyman: variance_of(allocation(size, N, s), N, s),
    }
    found = {}
    for cls in expected:
        means = np.concatenate([batch_means(cls(), gradients, strata, size, 2000 // size, seed) for seed in range(300)])
        found[cls] = np.sum((means - gradients.mean(axis=0)) ** 2) / len(means)
        assert found[cls] == pytest.approx(expected[cls], rel=0.1 if cls is Neyman else 0.05)
    assert 2 * found[Neyman] < found[Stratified] < found[Shuffle]


def test_the_variance_of_importance_sampling_is_that_of_its_probabilities(rng):
    """``(mean of |g_i|^2 / (n p_i) - |G|^2) / b``, and no weight above two."""
    gradients, strata = uneven(rng)
    sampler, size = Importance(), 32
    memory = prepared(sampler, gradients, strata)
    p = memory.shares
    np.testing.assert_allclose(p, 0.5 / len(p) + 0.5 * (norms := np.linalg.norm(gradients, axis=1)) / norms.sum())
    _, weights, _ = sampler.draw(memory, np.full(100, size))
    assert weights.max() <= 2.0 + 1e-12
    assert np.sum(norms**2 / p) / len(p) ** 2 <= 2 * norms.mean() ** 2  # the second moment of the best probabilities
    G = gradients.mean(axis=0)
    expected = (np.sum(norms**2 / p) / len(p) ** 2 - G @ G) / size
    means = np.concatenate([batch_means(sampler, gradients, strata, size, 50, seed) for seed in range(200)])
    assert np.sum((means - G) ** 2) / len(means) == pytest.approx(expected, rel=0.05)
    assert expected < 0.7 * (np.sum(norms**2) / len(p) - G @ G) / size


def test_deviations_are_estimated_and_averaged(rng):
    gradients, strata = uneven(rng, 4000)
    _, s = by_stratum(gradients, strata)
    sampler = Neyman()
    memory = prepared(sampler, gradients, strata)
    np.testing.assert_allclose(memory.variances, s**2, rtol=0.6)  # 64 rows each
    again = sampler.observe(memory, GradientsOf(gradients))
    assert again is memory  # not before more rows have been drawn
    for _ in range(60):
        memory = sampler.observe(memory._replace(drawn=np.inf), GradientsOf(gradients))
    later = sampler.observe(memory._replace(drawn=np.inf), GradientsOf(3.0 * gradients))
    assert np.all(later.variances > 2.5 * memory.variances)
    assert MEASURED == 64


@pytest.mark.parametrize("sampler", [Neyman(), Importance(), Importance("smoothness")], ids=repr)
def test_gradients_of_zero_leave_uniform_draws(sampler, rng):
    strata = np.repeat([0, 1], [30, 10])
    memory = prepared(sampler, np.zeros((40, 2)), strata)
    _, weights, _ = sampler.draw(memory, np.full(10, 8))
    np.testing.assert_allclose(weights, 1.0, rtol=1e-12)


def test_strata_of_one_row_have_no_deviation(rng):
    gradients = rng.standard_normal((20, 2))
    strata = np.repeat([0, 1], [19, 1])
    means = batch_means(Neyman(), gradients, strata, 6, 4000)
    assert np.isfinite(means).all()
    np.testing.assert_allclose(means.mean(axis=0), gradients.mean(axis=0), atol=4.5 * means.std() / 60)


def test_smoothness_sampling_tames_an_outlier():
    """FORMULAS: one row with L_i = 100 among 1000 with 1: the worst weighted row is at most twice the mean."""
    smooth = SmoothnessConstants(mean=1.099, worst=100.0, typical=1.099)
    assert Importance("smoothness").tempered(smooth).worst == pytest.approx(2 * 1.099)
    assert Importance().tempered(smooth) == smooth


def test_smoothness_bounds_are_those_of_the_rows(rng):
    """Through `fit`: a row a hundred times as long is drawn more often, and weighs less."""
    X = rng.standard_normal((300, 3))
    X[7] *= 100
    seen = {}

    class Spy(Importance):
        def draw(self, memory, sizes):
            seen["p"] = memory.shares
            return super().draw(memory, sizes)

    for storage in (np.asarray, sparse.csr_matrix):
        MiniBatchSGDRegressor(
            sampler=Spy("smoothness"), learning_rate="constant", eta0=1e-7, max_iter=1, tol=None, device="base"
        ).fit(storage(X), X[:, 0])
        bounds = np.sum(X**2, axis=1) + 1
        np.testing.assert_allclose(seen["p"], 0.5 / 300 + 0.5 * bounds / bounds.sum(), rtol=1e-10)


def test_groups_stay_together(rng):
    groups = rng.integers(5, size=60)
    memory = Groups().start(60, None, 0, 0, groups)
    for _ in range(3):
        order, weights, memory = Groups().draw(memory, np.full(6, 10))
        rows = rows_of(order, 0, 60)
        assert weights is None
        assert np.count_nonzero(np.diff(groups[rows])) <= 5  # one group may be cut by the ends of the epoch


def test_every_row_has_the_same_chance_in_every_batch_of_groups():
    groups, cells = np.repeat([0, 1, 2], [1, 4, 7]), np.zeros((12, 12))
    for seed in range(6000):
        order, _, _ = Groups().draw(Groups().start(12, None, seed, 0, groups), np.full(3, 4))
        cells[np.arange(12), rows_of(order, 0, 12)] += 1
    assert np.abs((cells - 500) / np.sqrt(500)).max() < 5


def fitted(sampler, X, y, **given):
    return MiniBatchSGDClassifier(
        sampler=sampler, device="base", batch_size=32, max_iter=3, tol=None, random_state=0
    ).fit(X, y, **given)


def test_strata_from_classes_an_array_and_a_function(several):
    """The same strata give the same model, wherever they come from; strings are labels as good as numbers."""
    X, y = several
    expected = fitted("stratified", X, y).coef_
    np.testing.assert_array_equal(fitted("stratified", X, y, strata=np.array(list("abc"))[y]).coef_, expected)
    np.testing.assert_array_equal(fitted(Stratified(strata=lambda X: y), X, y).coef_, expected)
    assert not np.array_equal(fitted("stratified", X, y, strata=X[:, 0] > 0).coef_, expected)


def test_strata_are_sliced_by_cross_validation(several):
    """Where metadata routing is on; a fold that got the strata of other rows would have another model."""
    X, y = several
    strata = np.arange(len(y)) % 4
    settings = {"sampler": "stratified", "device": "base", "max_iter": 3, "tol": None, "random_state": 0}
    with config_context(enable_metadata_routing=True):
        model = MiniBatchSGDClassifier(**settings).set_fit_request(strata=True)
        found = cross_validate(model, X, y, cv=KFold(3), params={"strata": strata}, return_estimator=True)
    for fold, (train, _) in zip(found["estimator"], KFold(3).split(X), strict=True):
        expected = MiniBatchSGDClassifier(**settings).fit(X[train], y[train], strata=strata[train])
        np.testing.assert_array_equal(fold.coef_, expected.coef_)


def test_strata_of_a_regression_are_ranges_of_its_target(regression):
    X, y = regression
    ranges = np.searchsorted(np.quantile(y, np.arange(1, 10) / 10), y, side="right")
    first, second = (
        MiniBatchSGDRegressor(sampler="neyman", device="base", max_iter=2, tol=None, random_state=0).fit(X, y, **given)
        for given in ({}, {"strata": ranges})
    )
    np.testing.assert_array_equal(first.coef_, second.coef_)


@pytest.mark.parametrize(
    ("sampler", "given", "message"),
    [
        (
            "shuffle",
            {"strata": "y"},
            r"strata has no effect with the sampler Shuffle: use 'stratified', 'neyman' or 'groups'",
        ),
        ("groups", {}, r"The sampler Groups needs strata: give fit strata="),
        ("neyman", {"strata": "short"}, r"Found input variables with inconsistent numbers of samples"),
        (Importance("norm"), {}, r"The 'by' of Importance in the 'sampler' parameter must be"),
    ],
)
def test_wrong_strata_are_an_error(sampler, given, message, binary):
    X, y = binary
    given = {name: y if value == "y" else y[:-1] for name, value in given.items()}
    for method in ("fit", "partial_fit"):
        model = MiniBatchSGDClassifier(sampler=sampler, device="base")
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(X, y, **({"classes": np.unique(y)} if method == "partial_fit" else {}), **given)
        assert not hasattr(model, "coef_")


def test_several_columns_of_targets_need_strata(rng):
    X = rng.standard_normal((60, 3))
    with pytest.raises(ValueError, match="The sampler Stratified needs strata"):
        MiniBatchSGDRegressor(sampler="stratified", device="base").fit(X, X[:, :2])


@pytest.mark.parametrize("name", ["stratified", "neyman", "importance"])
def test_streams_and_weights(name, several):
    """Chunks with strata of their own, rows of weight zero, sparse rows: as good as shuffled."""
    X, y = several
    weights = np.where(np.arange(len(y)) % 5 == 0, 0.0, 1.0)
    for storage in (np.asarray, sparse.csr_matrix):
        model = MiniBatchSGDClassifier(sampler=name, batch_size=16, random_state=0)
        for _ in range(3):
            for rows in np.array_split(np.arange(len(y)), 4):
                model.partial_fit(storage(X[rows]), y[rows], np.unique(y), sample_weight=weights[rows])
        assert model.score(X, y) > 0.7


def test_every_sampler_says_how_it_draws():
    for sampler in map(declared, (cls() for cls in SAMPLERS.values())):
        assert {type(sampler.one_population), type(sampler.without_replacement)} == {bool}
    assert np.isnan(
        MiniBatchSGDRegressor(sampler="neyman", device="base", max_iter=1, tol=None)
        .fit(np.arange(40.0)[:, None], np.arange(40.0))
        .history_["noise_scale"]
    ).all()
    assert resolved.sampler("neyman", shuffle=True) == Neyman()


def test_batches_that_are_cut_evenly_have_a_row_of_each_stratum(rng):
    """Batches of 4 rows: 90 rows are cut into two of 3 rows and 21 of 4; the small ones join the next."""
    X, strata = rng.standard_normal((90, 2)), np.arange(90) % 4
    model = MiniBatchSGDRegressor(batch_size=4, sampler="stratified", device="base", max_iter=2, tol=None)
    assert model.fit(X, X[:, 0], strata=strata).n_updates_ == 2 * 21
    with pytest.raises(ValueError, match="A batch of 3 rows cannot have a row of each of 4 strata"):
        model.set_params(batch_size=3).fit(X, X[:, 0], strata=strata)
