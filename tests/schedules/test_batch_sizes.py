"""Every batch-size schedule in the registry: its formula, what it does in training, and the phenomena it stands for."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor, schedules
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.estimators.parts import FALL_OF_AN_ITERATE
from skminibatch.schedules import (
    CABS,
    SCALING_RULES,
    SIZE_SCHEDULES,
    AdaDamp,
    Adaptive,
    AutoSize,
    ConstantSize,
    Cosine,
    CriticalSize,
    Geometric,
    InnerProductTest,
    LinearSize,
    Logarithmic,
    NoiseScaleSize,
    NormTest,
    Seesaw,
)
from skminibatch.schedules.sizes import needed_by_inner_product_test, needed_by_norm_test
from skminibatch.statistics.batches import BatchStatistics
from skminibatch.statistics.gradients import GradientStatistics
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.chunks import epoch_sizes

# schedule -> its size in step k of epoch e, from the formula in the literature
REFERENCES = {
    ConstantSize(48.0): lambda k, e: 48.0,
    LinearSize(16.0, 0.25): lambda k, e: 16.0 + 0.25 * k,
    Geometric(16.0, 5.0, 3.0): lambda k, e: 16.0 * 5.0 ** (e // 3),
    Logarithmic(16.0): lambda k, e: 16.0 * np.log(k + 2) / np.log(2),
}
ADAPTIVE = [AutoSize(), AdaDamp(), NormTest(), NormTest(debias=True), InnerProductTest(), CABS(), NoiseScaleSize()]
MEASURED = ((0, 10), (96, 40), (704, 64), (1500, 50), (3000, 128))
# schedule -> its size after so many rows, from the formula in the literature; the rate is that of RATE
RATE = Cosine(0.4, 6000.0)
BY_ROWS = {
    CriticalSize(MEASURED, 16.0): lambda s: 16.0 * 2 ** (int(s >= 96) + int(s >= 704) + int(s >= 3000)),
    CriticalSize(MEASURED, 16.0, largest=40.0): lambda s: [16.0, 32.0, 40.0][int(s >= 96) + int(s >= 704)],
    Seesaw(16.0): lambda s: 16.0 * 2 ** np.floor(np.log2(2 / (1 + np.cos(np.pi * s / 6000))) + 1e-9),
    Seesaw(16.0, 4.0): lambda s: 16.0 * 4 ** np.floor(np.log2(2 / (1 + np.cos(np.pi * s / 6000))) / 2 + 1e-9),
}
# what a schedule needs that has no default, by its name, and the settings that go with it
GIVEN = {"critical": CriticalSize(MEASURED)}
SETTINGS = {"seesaw": {"solver": "sgd", "learning_rate": "invscaling", "eta0": 0.3, "power_t": 0.3}}
SETTINGS["seesaw"]["lr_scaling"] = "linear"
each = pytest.mark.parametrize("name", SIZE_SCHEDULES)


def part_of(name):
    return GIVEN[name] if name in GIVEN else SIZE_SCHEDULES[name]()


def state(step=0, epoch=0, batches=None, row_products=None, population=np.inf, samples=0, rates=None):
    look = {"step": step, "epoch": epoch, "samples": samples, "batches": batches, "row_products": row_products}
    return SimpleNamespace(**look, population=population, rates=rates or (lambda samples: RATE.rates(samples, None)))


def batches(loss=1.0, square_norm=1.0, variance=1.0, signal=1.0, rate=0.1):
    return BatchStatistics(loss, square_norm, variance, signal, np.nan, np.nan, rate)


def last_size(part, *looks):
    """The size after some blocks, each given as the keywords of its state."""
    memory = None
    for look in looks:
        sizes, memory = part.sizes(memory, state(**look), 10**6, 10**4)
    return sizes[-1]


def test_every_schedule_is_tested():
    assert {type(part) for part in (*REFERENCES, *BY_ROWS, *ADAPTIVE)} == set(SIZE_SCHEDULES.values())


@pytest.mark.parametrize("part", REFERENCES, ids=repr)
def test_sizes_are_those_of_the_formula(part):
    for step, epoch in ((0, 0), (100, 2), (1000, 7)):
        sizes, _ = part.sizes(None, state(step, epoch), 5000, 10**4)
        expected = [REFERENCES[part](k, epoch) for k in range(step, step + len(sizes))]
        np.testing.assert_allclose(sizes, expected, rtol=1e-12)
        assert sizes.sum() >= 5000


def begins(sizes, samples=0):
    """The rows before each step."""
    return samples + np.append(0, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("part", BY_ROWS, ids=repr)
def test_sizes_are_those_of_the_formula_after_so_many_rows(part):
    for samples, n_rows in ((0, 5000), (688, 3000), (3200, 100), (4000, 5)):
        sizes, _ = part.sizes(None, state(samples=samples, rates=None), n_rows, 10**4)
        if isinstance(part, Seesaw) and samples:
            sizes, _ = part.sizes((RATE.eta0, samples), state(samples=samples), n_rows, 10**4)
        seen = begins(sizes, samples)
        np.testing.assert_allclose(sizes, [BY_ROWS[part](s) for s in seen], rtol=1e-12)
        assert sizes[:-1].sum() < n_rows <= sizes.sum()


@pytest.mark.parametrize("part", BY_ROWS, ids=repr)
def test_sizes_after_so_many_rows_depend_on_no_chunks(part):
    whole, _ = part.sizes(None, state(), 5000, 10**4)
    memory, samples, sizes = None, 0, []
    while samples < 5000:
        some, memory = part.sizes(memory, state(samples=samples), 5000 - samples, 23)
        sizes += some[:11].tolist()
        samples += int(some[:11].sum())
    np.testing.assert_array_equal(sizes, whole)


def test_a_peak_of_the_rate_is_where_seesaw_begins():
    """A rate that rises first: no cut before its peak, which may be among the steps of an earlier chunk."""
    rates = lambda samples: np.minimum(samples / 1000, np.exp2(1 - samples / 1000))  # noqa: E731
    part, memory, samples, sizes = Seesaw(10.0), None, 0, []
    while samples < 4000:
        some, memory = part.sizes(memory, state(samples=samples, rates=rates), 4000 - samples, 30)
        sizes += some.tolist()
        samples += int(some.sum())
    seen = begins(sizes)
    np.testing.assert_array_equal(sizes, 10.0 * 2 ** np.maximum(0, seen // 1000 - 1))
    whole, _ = part.sizes(None, state(rates=rates), 4000, 10**4)
    np.testing.assert_array_equal(whole, sizes)


def test_the_last_batch_does_not_shrink_the_others():
    """A rate that ends at zero asks for any number of rows in its last steps."""
    sizes, _ = Seesaw(8.0).sizes(None, state(rates=lambda s: 0.5 * (1 + np.cos(np.pi * s / 4000))), 4000, 10**4)
    assert sizes.sum() < 1.1 * 4000
    assert np.all(np.isfinite(sizes))


@pytest.mark.parametrize("part", [*REFERENCES, *BY_ROWS, *ADAPTIVE], ids=repr)
def test_pickle_and_repr(part):
    copy = pickle.loads(pickle.dumps(part))
    assert type(copy) is type(part)
    assert eval(repr(part), {**vars(schedules), "inf": np.inf}) == part


# -- formulas ------------------------------------------------------------------------------------------------------


def test_tests_at_one_ask_for_the_noise_scale(rng):
    """``norm(1) = inner(1) + orthogonality(1) = tr(Sigma) / |G|^2``."""
    for _ in range(20):
        variance, square_norm = rng.uniform(0.1, 10, 2)
        inner = rng.uniform(0, 1) * variance * square_norm
        along = needed_by_inner_product_test(variance, inner, square_norm, 1.0, np.inf)
        across = needed_by_inner_product_test(variance, inner, square_norm, np.inf, 1.0)
        assert along + across == pytest.approx(variance / square_norm, rel=1e-12)
        assert needed_by_norm_test(variance, square_norm, 1.0) == pytest.approx(variance / square_norm, rel=1e-12)


def test_the_norm_test_knows_that_rows_are_finite():
    """At the size that is needed, ``s^2 / b (1 - b / n) = theta^2 |G|^2 (1 - 1 / n)``."""
    n, variance, square_norm, theta = 1000, 50.0, 0.3, 0.7
    b = needed_by_norm_test(variance, square_norm, theta, n)
    assert b < n
    assert variance / b * (1 - b / n) == pytest.approx(theta**2 * square_norm * (1 - 1 / n))
    assert needed_by_norm_test(variance, 0.0, theta, n) == pytest.approx(n)
    assert needed_by_norm_test(variance, 0.0, theta) == np.inf
    assert needed_by_norm_test(0.0, 0.0, theta, n) == 1.0
    assert needed_by_inner_product_test(0.0, 0.0, 0.0, theta, 1.0) == 1.0
    assert needed_by_inner_product_test(1.0, 0.0, 0.0, theta, 1.0) == np.inf


def test_cabs_on_an_isotropic_quadratic_asks_for_twice_rate_curvature_noise_scale():
    """F = h |w|^2 / 2 with the gradient h w: ``rate tr(Sigma) / F = 2 rate h S`` (Balles et al. 2017)."""
    h, square, trace, rate = 3.0, 2.0, 40.0, 0.05
    look = {"batches": batches(loss=h * square / 2 + 7.0, variance=trace, signal=h**2 * square, rate=rate)}
    part = CABS(start=2.0, optimum=7.0, growth=100.0)
    expected = 2 * rate * h * trace / (h**2 * square)
    assert last_size(part, look, look) == pytest.approx(max(expected, 2.0), rel=1e-12)
    assert last_size(part._replace(growth=1.1), look) == pytest.approx(2.0)


def test_adadamp_is_damped_by_the_loss():
    """16 rows at a loss of 2.2, 704 at 0.05, and not 705 for rounding."""
    part = AdaDamp(start=16.0)
    memory = (2.2, 0.05)
    sizes, _ = part.sizes(memory, state(batches=batches(loss=0.05)), 10**6, 10**4)
    assert int(np.ceil(sizes[0] * (1 - 1e-12))) == 704
    assert last_size(part, {}, {"batches": batches(loss=2.0)}, {"batches": batches(loss=3.0)}) == 16.0
    assert (
        last_size(part, {}, {"batches": batches(loss=0.0)}, {"batches": batches(loss=0.0), "population": 500.0})
        == 500.0
    )


def test_the_noise_scale_is_a_ratio_of_averages():
    part = NoiseScaleSize(multiple=2.0, growth=1000.0)
    looks = [{"batches": batches(variance=v, signal=s), "population": 1e6} for v, s in ((10.0, 1.0), (30.0, 0.2))]
    assert last_size(part, *looks) == pytest.approx(2 * 20.0 / 0.6)
    hidden = {"batches": batches(variance=10.0, signal=-1.0), "population": 300.0}
    assert last_size(part, hidden) == 300.0
    assert last_size(part._replace(growth=2.0), hidden) == 128.0


@pytest.mark.parametrize("part", [part for part in ADAPTIVE if "growth" in part._fields], ids=repr)
@pytest.mark.parametrize("single", [batches(square_norm=np.nan, variance=np.nan, signal=np.nan), None])
def test_without_a_variance_the_size_stays(part, single):
    assert last_size(part, {}, {"batches": single}) == part.start


def test_tests_never_shrink_and_grow_gently():
    for part, quiet, noisy in (
        (NormTest(), {"batches": batches(variance=1e-9)}, {"batches": batches(variance=1e9)}),
        (InnerProductTest(), {"row_products": (1e-9, 1e-10, 1.0)}, {"row_products": (1e9, 1e8, 1.0)}),
    ):
        assert last_size(part, {}, quiet) == 64.0
        assert last_size(part, {}, noisy, noisy, quiet) == 256.0
        assert last_size(part._replace(largest=100.0), {}, noisy, noisy) == 100.0


def test_what_one_block_asks_for_by_chance_is_not_kept():
    """A size that never falls would keep the largest of all noisy measurements."""
    part = NormTest(theta=1.0, debias=True, growth=100.0)
    usual = {"batches": batches(variance=100.0, signal=1.0)}
    assert last_size(part, usual, {"batches": batches(variance=900.0, signal=1.0)}, usual) == 100.0
    assert last_size(part, usual, *[{"batches": batches(variance=900.0, signal=1.0)}] * 2) == 900.0


def test_the_unbiased_norm_test_goes_on_where_the_other_is_satisfied():
    """The square of the norm of a batch has the noise of the batch in it."""
    look = {"batches": batches(variance=640.0, square_norm=10.0 + 0.1, signal=0.1)}
    assert last_size(NormTest(theta=1.0), {}, look) == pytest.approx(64.0)
    assert last_size(NormTest(theta=1.0, debias=True), {}, look) == 128.0


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix])
def test_products_of_gradients_are_those_of_the_rows(storage, several):
    """``Var(g_i . G) = G' C G``, the trace and ``|G|^2``, with the penalty, from the gradients written out."""
    X, y = several
    model = MiniBatchSGDClassifier(alpha=0.1, batch_size=16, max_iter=2, tol=None, random_state=0).fit(storage(X), y)
    rows = np.arange(5, 60)
    gradients = model._examined(storage(X), y, None).on(rows)
    G = np.vstack(list(gradients.each()))
    mean, C = G.mean(axis=0) + gradients.penalty_gradient(), np.cov(G.T)
    np.testing.assert_allclose(gradients.products(), [np.trace(C), mean @ C @ mean, mean @ mean], rtol=1e-9)
    squares = gradients.row_squares(gradients.row_factors())
    np.testing.assert_allclose(squares, np.sum(G**2, axis=1), rtol=1e-9)
    assert isinstance(gradients.statistics([rows]), GradientStatistics)


# -- sizes of an epoch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 7, 100, 1001])
def test_an_epoch_of_growing_batches_has_no_short_one(n_rows, rng):
    for wanted in (np.arange(1, 400), 2 ** np.arange(8), np.sort(rng.integers(1, 60, 300)), np.array([3])):
        sizes, left = [], n_rows
        while left:
            some = epoch_sizes(left, wanted[len(sizes) :] if len(sizes) < len(wanted) else wanted[-1:])
            left -= int(some.sum())
            sizes += some.tolist()
        assert sum(sizes) == n_rows
        assert max(sizes) <= max(wanted)
        assert len(sizes) == 1 or 2 * sizes[-1] + 1 >= sizes[-2]
        if wanted[-1] == wanted[0]:
            assert max(sizes) - min(sizes) <= 1


# -- in training ---------------------------------------------------------------------------------------------------


def fitted(batch_size, X, y, **parameters):
    settings = {"device": "base", "max_iter": 8, "tol": None, "random_state": 0, **parameters}
    return MiniBatchSGDRegressor(batch_size=batch_size, **settings).fit(X, y)


@each
@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix])
def test_every_schedule_trains(name, storage, regression):
    """By its name and as an instance, every epoch being all rows; the same on both backends."""
    X, y = storage(regression.X), regression.y
    given, settings = GIVEN.get(name, name), SETTINGS.get(name, {})
    model = fitted(given, X, y, **settings)
    np.testing.assert_array_equal(np.diff(model.history_["samples"], prepend=0), len(y))
    np.testing.assert_array_equal(fitted(part_of(name), X, y, **settings).coef_, model.coef_)
    assert 1 <= model.batch_size_ <= len(y)
    assert model.score(X, y) > 0.9
    compiled = fitted(given, X, y, device="cpu", **settings)
    assert compiled.n_updates_ == model.n_updates_
    np.testing.assert_allclose(compiled.coef_, model.coef_, rtol=1e-7)


def test_schedules_in_a_grid_search(regression):
    """By name and as instances, which stand in a list; clones and pickles keep them."""
    grid = {"batch_size": [16, "auto", "noise_scale", Geometric(start=16, factor=2)]}
    model = MiniBatchSGDRegressor(device="base", max_iter=4, tol=None, random_state=0)
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(*regression)
    assert search.cv_results_["mean_test_score"].min() > 0.8
    instance = clone(pickle.loads(pickle.dumps(model.set_params(batch_size=Geometric(start=16, factor=2)))))
    assert instance.get_params()["batch_size"] == Geometric(16, 2)


@each
def test_every_schedule_goes_on_in_partial_fit(name, regression):
    X, y = regression
    model = MiniBatchSGDRegressor(batch_size=part_of(name), **SETTINGS.get(name, {}), device="base", random_state=0)
    for _ in range(10):
        for rows in np.array_split(np.arange(len(y)), 3):
            model.partial_fit(X[rows], y[rows])
    assert model.t_ == 10 * len(y)
    assert model.score(X, y) > 0.9


@each
def test_chunks_of_one_row_are_steps_of_one_row(name, regression):
    """They say nothing of the noise, and break nothing. A row that is stiff beside those before comes several times."""
    X, y = regression
    model = MiniBatchSGDRegressor(batch_size=part_of(name), **SETTINGS.get(name, {}), device="base", random_state=0)
    for i in range(5):
        model.partial_fit(X[i : i + 1], y[i : i + 1])
    assert model.t_ == 5 <= model.n_updates_ < 50
    assert np.isfinite(model.coef_).all()


def test_a_stream_that_never_ends_is_no_error(regression):
    """After so many chunks, `factor` to the power of their number is no floating-point number any more."""
    X, y = regression
    model = MiniBatchSGDRegressor(batch_size=Geometric(epochs=1), device="base", random_state=0).fit(X, y)
    model._fitted.state = model._fitted.state._replace(epoch=2000)
    assert model.partial_fit(X, y).batch_size_ > 1e9
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("name", ["norm_test", "inner_product_test", "cabs", "noise_scale"])
def test_measurements_that_overflow_say_nothing(name):
    part = SIZE_SCHEDULES[name]()
    batches = BatchStatistics(1.0, np.inf, np.inf, np.nan, np.inf, np.inf, 0.1)
    state = SimpleNamespace(batches=batches, row_products=(np.inf, np.nan, np.inf), population=1000.0)
    sizes, _ = part.sizes(None, state, 1000, 100)
    np.testing.assert_array_equal(sizes, 64.0)


def test_sizes_in_training_are_those_of_the_schedule(regression):
    model = fitted(Geometric(start=10, factor=3, epochs=2), *regression)
    np.testing.assert_allclose(model.history_["batch_size"], [10, 10, 30, 30, 80, 80, 240, 240])
    assert model.batch_size_ == 240
    linear = MiniBatchSGDRegressor(batch_size=LinearSize(start=5, increase=1), device="base", random_state=0)
    X, y = regression
    for rows in np.array_split(np.arange(len(y)), 4):
        linear.partial_fit(X[rows], y[rows])
    assert 20 <= linear.batch_size_ <= 5 + linear.n_updates_


def test_the_rate_falls_where_the_batch_can_grow_no_more(regression):
    """Beyond `largest`, rate / size goes on as before (adadamp's rule)."""
    settings = {"learning_rate": "constant", "eta0": 0.01, "solver": "sgd"}
    free = fitted(Geometric(start=10, factor=2, epochs=2), *regression, **settings).history_
    held = fitted(Geometric(start=10, factor=2, epochs=2, largest=20), *regression, **settings).history_
    np.testing.assert_allclose(held["batch_size"], [10, 10] + [20] * 6)
    np.testing.assert_allclose(held["rate"] / held["batch_size"], 0.01 / (10 * 2.0 ** (np.arange(8) // 2)))
    np.testing.assert_allclose(free["rate"], 0.01)
    np.testing.assert_allclose(fitted(NormTest(largest=70), *regression, **settings).history_["rate"], 0.01)


def test_rates_follow_the_batch_size(regression, rng):
    """'auto' by the expected smoothness of each size (of rows of one length), a scaling rule by its factor."""
    growing = Geometric(start=8, factor=4, epochs=2)
    automatic = fitted(growing, np.sign(regression.X), regression.y, solver="sgd")
    smooth = automatic._fitted.smoothness
    assert isinstance(smooth, SmoothnessConstants)
    sizes = np.repeat([8, 32, 128, 240], 2)
    rows = 240 / np.ceil(240 / sizes)
    fall = (2 + np.arange(8) - rows / 240) ** -FALL_OF_AN_ITERATE  # of the last step of an epoch
    expected = 0.5 / np.array([smooth.of_batch(b, 240) for b in rows]) * fall
    halvings = -np.log2(automatic.history_["rate"][1:] / expected[1:])  # after a rise, by noise, of the objective
    np.testing.assert_allclose(halvings, np.round(halvings), atol=1e-6)
    assert np.all(np.diff(np.round(halvings), prepend=0) >= 0)
    assert np.round(halvings)[-1] <= 3
    settings = {"learning_rate": "constant", "eta0": 0.001, "solver": "sgd", "base_batch_size": 8}
    scaled = fitted(growing, *regression, lr_scaling="linear", **settings).history_
    np.testing.assert_allclose(scaled["rate"], 0.001 * sizes / 8)


@pytest.mark.parametrize(("rule", "power", "solver"), [("sqrt", 0.5, "adam"), ("linear", 1.0, "sgd")])
def test_seesaw_trades_the_rate_for_the_batch(rule, power, solver, regression):
    """With the batch b after some rows, the rate is that of the cosine times ``(b / start)^power``; fewer steps."""
    settings = {"solver": solver, "learning_rate": "cosine", "eta0": 0.01, "max_iter": 10}
    growing = {"lr_scaling": rule, "base_batch_size": 4}
    plain = fitted(4, *regression, **settings)
    model = fitted(Seesaw(start=4), *regression, **settings, **growing)
    last = model.history_["samples"] - model.history_["batch_size"]  # about what is before the last step of an epoch
    shares = 0.5 * (1 + np.cos(np.pi * last / 2400))
    batches = 4 * 2 ** np.floor(-np.log2(shares))
    expected = 0.01 * shares * (batches / 4) ** power
    np.testing.assert_allclose(model.history_["rate"][:8], expected[:8], rtol=0.06)
    assert model.n_updates_ < 0.7 * plain.n_updates_
    stream = MiniBatchSGDRegressor(batch_size=Seesaw(start=4), learning_rate="invscaling", eta0=0.1, solver=solver)
    stream.set_params(device="base", random_state=0, **growing)
    for _ in range(3):
        stream.partial_fit(*regression)
    assert stream.batch_size_ == 4 * 2 ** np.floor(np.log2((stream.t_ - 50) ** 0.5))


def test_seesaw_follows_a_rate_that_is_divided_by_five(rng):
    """Training that improves no more: the batch is 4 times as large, and the rate four fifths of what it was."""
    X = rng.standard_normal((60, 3))
    settings = {"learning_rate": Adaptive(0.1, smallest=1e-3), "solver": "sgd", "n_iter_no_change": 2, "tol": 1e-3}
    settings |= {"lr_scaling": "linear", "base_batch_size": 2, "max_iter": 200}
    history = fitted(Seesaw(start=2, largest=30), X, rng.standard_normal(60), **settings).history_
    np.testing.assert_array_equal(np.unique(history["batch_size"].round()), [2, 8, 30])
    falls = 0.1 / 5.0 ** np.arange(10)
    nominal = {2: 1, 8: 4, 30: 15}
    for rate, size in zip(history["rate"], history["batch_size"].round(), strict=True):
        assert np.isclose(falls * nominal[int(size)], rate).any()


def test_the_size_follows_the_noise_scale(rng):
    """At constant parameters (a rate of nearly zero), the size becomes the noise scale of the data."""
    X = rng.standard_normal((20_000, 5))
    y = X @ np.arange(5.0) + 3 * rng.standard_normal(20_000)
    settings = {"learning_rate": "constant", "eta0": 1e-12, "solver": "sgd", "max_iter": 1}
    model = fitted(NoiseScaleSize(start=8, every=16), X, y, **settings)
    expected = gradient_noise_scale(model, X, y).noise_scale
    assert model.batch_size_ == pytest.approx(expected, rel=0.25)
    model = fitted(NoiseScaleSize(start=1000, multiple=3, every=16), X, y, **{**settings, "max_iter": 8})
    assert model.batch_size_ == pytest.approx(3 * expected, rel=0.25)


@pytest.mark.parametrize("name", ["norm_test", "inner_product_test", "noise_scale", "adadamp"])
def test_batches_grow_as_the_gradient_vanishes(name, rng):
    X = rng.standard_normal((3000, 4))
    y = X @ np.arange(4.0) + rng.standard_normal(3000)
    part = SIZE_SCHEDULES[name](start=8, every=16)
    # at a constant rate: the automatic one falls by itself
    settings = {"solver": "sgd", "max_iter": 12, "penalty": None, "learning_rate": "constant", "eta0": 0.05}
    model = fitted(part, X, y, fit_intercept=False, **settings)
    sizes = model.history_["batch_size"]
    assert sizes[-1] > 2 * sizes[0]
    assert fitted(8, X, y, **settings).loss_curve_[-1] > model.loss_curve_[-1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_size": Geometric(factor=1)}, r"The 'factor' of Geometric in the 'batch_size' parameter must be"),
        ({"batch_size": NormTest(start=1)}, r"The 'start' of NormTest in the 'batch_size' parameter must be"),
        (
            {"batch_size": (3, 4)},
            r"The 'batch_size' parameter must be a name or a batch-size schedule, a named tuple with sizes",
        ),
        (
            {"batch_size": "norm_test", "sampler": "neyman"},
            r"follows the variance of the rows of a batch, which sampler=Neyman",
        ),
        (
            {"batch_size": "critical"},
            r"batch_size='critical' leaves 'measured' open.*use batch_size=CriticalSize\(measured=",
        ),
        ({"batch_size": CriticalSize(())}, r"The 'measured' of CriticalSize in the 'batch_size' parameter must be"),
        *(
            (
                {"batch_size": "seesaw", "solver": "adam", "learning_rate": "cosine", "lr_scaling": rule},
                r"batch_size='seesaw' grows as the rate falls, and needs an lr_scaling",
            )
            for rule in (None, "adam_update", "adam_half_life")
        ),
        (
            {"batch_size": "linear", "lr_scaling": "adam_sde", "solver": "adam", "learning_rate": "constant"},
            r"lr_scaling='adam_sde' needs one batch_size",
        ),
    ],
)
def test_wrong_schedules_are_an_error(parameters, message, regression):
    model = MiniBatchSGDRegressor(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(*regression)
    assert not hasattr(model, "coef_")


# -- phenomena -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_geometric_sizes_grow_stay_or_fall(factor):
    part = Geometric(start=64, factor=factor, epochs=1)
    for epoch in (0, 1, 3, 2000):
        sizes, _ = part.sizes(None, state(epoch=epoch), 1000, 4)
        assert np.all((sizes > 0) & np.isfinite(sizes))
        assert epoch > 3 or np.all(sizes == 64.0 * factor**epoch)


def noisy_quadratic(part, rows, rate=0.1, rows_an_epoch=1000):
    """(E w^2 of f = w^2 / 2 with unit noise after so many rows, steps): the exact recursion of the second moment."""
    second, steps, used, memory = 1.0, 0, 0, None
    while used < rows:
        sizes, memory = part.sizes(memory, state(steps, used // rows_an_epoch), 1, 1)
        second = (1 - rate) ** 2 * second + rate**2 / sizes[0]
        steps, used = steps + 1, used + sizes[0]
    return second, steps


def test_growing_batches_beat_constant_ones_in_error_and_steps():
    """FORMULAS 5: after 20,000 rows a fifth of the error in a fifth of the steps."""
    error, steps = noisy_quadratic(ConstantSize(8.0), 20_000)
    assert error == pytest.approx(0.1 / (8 * 1.9), rel=1e-6)
    assert steps == 2500
    for part in (LinearSize(8.0, 0.2), Geometric(8.0, 2.0, 1.0)):
        grown, fewer = noisy_quadratic(part, 20_000)
        assert grown < error / 5
        assert fewer < steps / 5


def noisy_quadratics(rate, batch_size, n_rows=160_000):
    """The mean objective after each step, from the exact second moments; curvatures and noise are both 1, 1/2, 1/3, ..."""
    h = 1.0 / np.arange(1, 501)
    second, objective = np.ones(500), []
    for _ in range(n_rows // batch_size):
        second = (1 - rate * h) ** 2 * second + rate**2 * h / batch_size
        objective.append(0.5 * h @ second)
    return np.array(objective)


HARMONIC = 1.0 / np.arange(1, 201)


def walk(rates, part, rule, n_rows, *, normalised, curvatures=HARMONIC, second=0.02):
    """The objective after each step, the rows seen until then, from the exact second moments of a noisy linear regression.

    The noise of a row has the covariance H, as in linear regression with unit noise. `normalised` steps are those of the paper,
    over the root of the mean square of the gradient of a batch, as Adam's are.
    """
    sizes, _ = part.sizes(None, state(rates=rates), n_rows, 10**6)
    rates = rates(begins(sizes))
    if rule is not None:
        rates = rates * SCALING_RULES[rule]().factor(sizes, part.start, np.inf)
    second, objective = np.full(len(curvatures), second), []
    for rate, size in zip(rates, sizes, strict=True):
        noise = curvatures / size
        rate = rate / np.sqrt(np.sum(curvatures**2 * second + noise)) if normalised else rate
        second = (1 - rate * curvatures) ** 2 * second + rate**2 * noise
        objective.append(0.5 * curvatures @ second)
    return np.array(objective), np.cumsum(sizes)


SCHEDULES = {
    "halved": lambda samples: 0.02 * 0.5 ** (samples // 16_000),
    "cosine": lambda samples: 0.01 * (1 + np.cos(np.pi * samples / 64_000)),
}


@pytest.mark.parametrize("factor", [2.0, 1.1])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("normalised", "rule", "wrong"), [(False, "linear", "sqrt"), (True, "sqrt", "linear")])
def test_seesaw_keeps_the_loss_after_each_row(schedule, factor, normalised, rule, wrong):
    """Meterez et al. 2025: theorem 1 for SGD, corollary 1 for normalised steps; within 0.3 % in two thirds of the steps."""
    rates, n_rows = SCHEDULES[schedule], 64_000
    base, rows = walk(rates, ConstantSize(8.0), None, n_rows, normalised=normalised)
    moved, at = walk(rates, Seesaw(8.0, factor), rule, n_rows, normalised=normalised)
    np.testing.assert_allclose(moved, np.interp(at, rows, base), rtol=0.003)
    assert len(moved) < 0.65 * len(base)
    missed, at = walk(rates, Seesaw(8.0, factor), wrong, n_rows, normalised=normalised)
    assert np.abs(missed / np.interp(at, rows, base) - 1).max() > 0.08


def test_seesaw_ends_where_batches_have_no_noise():
    """The example of the paper: normalised steps without noise end as far from the minimum as the rate is long."""
    steep = {"normalised": True, "curvatures": np.array([1e6]), "second": 1.0}  # a gradient far larger than its noise
    base, _ = walk(SCHEDULES["halved"], ConstantSize(8.0), None, 64_000, **steep)
    moved, _ = walk(SCHEDULES["halved"], Seesaw(8.0), "sqrt", 64_000, **steep)
    assert moved[-1] > 3 * base[-1]


@pytest.mark.parametrize(("quarter", "share"), [(True, 2 / np.pi), (False, 0.5)])
def test_seesaw_saves_the_steps_of_the_integral_of_the_rate(quarter, share):
    """``1 - 2 / pi``, a third and more, for a quarter of a cosine (lemma 1); one half for half a cosine."""
    n_rows = 50_000
    rates = (lambda s: np.cos(np.pi * s / 2 / n_rows)) if quarter else (lambda s: 1 + np.cos(np.pi * s / n_rows))
    sizes, _ = Seesaw(1.0, 1.01).sizes(None, state(rates=rates), n_rows, 10**6)
    assert len(sizes) / n_rows == pytest.approx(share, rel=0.01)


def test_doublings_of_the_paper_save_what_it_says():
    """Merrill et al. 2025, table 1: 43 % of the steps of batches of 1,024, at 168 and 503 of 658 billion tokens."""
    tokens = 4096e-9  # billions in a document
    part = CriticalSize(((0, 1024), (168 / tokens, 2048), (503 / tokens, 4096)), start=1024)
    n_rows = 658 / tokens
    sizes, _ = part.sizes(None, state(), n_rows, 10**6)
    assert 1 - len(sizes) / (n_rows / 1024) == pytest.approx(0.43, abs=0.005)


def normalised_steps(second, rate, size, n_rows, curvatures):
    """The second moments after some rows, see `walk`."""
    for _ in range(round(n_rows / size)):
        noise = curvatures / size
        length = rate / np.sqrt(np.sum(curvatures**2 * second + noise))
        second = (1 - length * curvatures) ** 2 * second + length**2 * noise
    return second


def test_batches_as_large_as_branches_allow_lose_nothing():
    """Merrill et al. 2025: the critical size is small at first and grows; with it, the same loss in half of the steps.

    Batches as large as the last ones from the start on are far behind after the same rows.
    """
    h, base, rate, tolerance = 1.0 / np.arange(1, 51), 4, 0.01, 0.01
    first = second = np.full(50, 30.0)
    measured, seen = [], 0
    for rows in (0, 2000, 4000, 8000, 16_000, 32_000):
        second, seen = normalised_steps(second, rate, base, rows, h), seen + rows
        losses = []
        for k in (1, 2, 4, 8, 16, 32):
            losses.append(h @ normalised_steps(second, rate * k**0.5, base * k, 4096, h))
            if losses[-1] > (1 + tolerance) * min(losses):
                break
            critical = base * k
        measured.append((seen, critical))
    assert measured[0][1] == base
    assert np.all(np.diff([size for _, size in measured]) >= 0)
    assert measured[-1][1] >= 4 * base
    n_rows, rule = 3 * seen // 2, SCALING_RULES["sqrt"]()
    sizes, _ = CriticalSize(tuple(measured), start=base).sizes(None, state(), n_rows, 10**6)
    grown = first
    for size in sizes:
        grown = normalised_steps(grown, rate * rule.factor(size, base, np.inf), size, size, h)
    small = normalised_steps(first, rate, base, n_rows, h)
    large = normalised_steps(first, rate * rule.factor(sizes[-1], base, np.inf), sizes[-1], n_rows, h)
    assert len(sizes) < 0.55 * n_rows / base
    assert h @ grown < 1.05 * (h @ small)
    assert h @ large > 3 * (h @ small)


@pytest.mark.parametrize(("k", "rtol"), [(4, 0.01), (16, 0.013)])
def test_linear_scaling_keeps_the_trajectory_a_row(k, rtol):
    """Zhang et al. 2019: at each number of rows the same objective; with the square root another, and a limit of stability."""
    base = noisy_quadratics(0.005, 8)[k - 1 :: k]
    linear, root = (
        noisy_quadratics(0.005 * SCALING_RULES[rule]().factor(8 * k, 8, np.inf), 8 * k) for rule in ("linear", "sqrt")
    )
    np.testing.assert_allclose(linear, base, rtol=rtol)
    assert np.abs(root / base - 1).max() > 0.2
    beyond = noisy_quadratics(0.005 * SCALING_RULES["linear"]().factor(8 * 401, 8, np.inf), 8 * 401, 8 * 401 * 5000)
    assert beyond[-1] > 1e3 * beyond[0]  # rate times curvature above 2


def test_a_larger_batch_is_a_smaller_rate():
    """Smith et al. 2018: the stationary variances of rate / 5 and of 5 b agree to 5 % at rate x curvature = 0.1."""

    def variance(rate, b):
        return noisy_quadratic(ConstantSize(float(b)), 100_000, rate)[0]

    assert variance(0.1 / 5, 10) / variance(0.1, 50) == pytest.approx(0.96, abs=0.01)


def test_the_logarithmic_law_keeps_temperature_times_logarithm():
    k = np.arange(0, 10_000, 37)
    sizes = np.array([Logarithmic(16.0).sizes(None, state(step), 1, 1)[0][0] for step in k])
    temperature = 0.1 / (2 * sizes)
    np.testing.assert_allclose(temperature * np.log(k + 2), 0.1 * np.log(2) / 32, rtol=1e-12)
