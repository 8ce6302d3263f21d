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
    AutoSize,
    ConstantSize,
    Geometric,
    InnerProductTest,
    LinearSize,
    Logarithmic,
    NoiseScaleSize,
    NormTest,
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
each = pytest.mark.parametrize("name", SIZE_SCHEDULES)


def state(step=0, epoch=0, batches=None, row_products=None, population=np.inf):
    return SimpleNamespace(step=step, epoch=epoch, batches=batches, row_products=row_products, population=population)


def batches(loss=1.0, square_norm=1.0, variance=1.0, signal=1.0, rate=0.1):
    return BatchStatistics(loss, square_norm, variance, signal, np.nan, np.nan, rate)


def last_size(part, *looks):
    """The size after some blocks, each given as the keywords of its state."""
    memory = None
    for look in looks:
        sizes, memory = part.sizes(memory, state(**look), 10**6, 10**4)
    return sizes[-1]


def test_every_schedule_is_tested():
    assert {type(part) for part in (*REFERENCES, *ADAPTIVE)} == set(SIZE_SCHEDULES.values())


@pytest.mark.parametrize("part", REFERENCES, ids=repr)
def test_sizes_are_those_of_the_formula(part):
    for step, epoch in ((0, 0), (100, 2), (1000, 7)):
        sizes, _ = part.sizes(None, state(step, epoch), 5000, 10**4)
        expected = [REFERENCES[part](k, epoch) for k in range(step, step + len(sizes))]
        np.testing.assert_allclose(sizes, expected, rtol=1e-12)
        assert sizes.sum() >= 5000


@pytest.mark.parametrize("part", [*REFERENCES, *ADAPTIVE], ids=repr)
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
    model = fitted(name, X, y)
    np.testing.assert_array_equal(np.diff(model.history_["samples"], prepend=0), len(y))
    np.testing.assert_array_equal(fitted(SIZE_SCHEDULES[name](), X, y).coef_, model.coef_)
    assert 1 <= model.batch_size_ <= len(y)
    assert model.score(X, y) > 0.9
    compiled = fitted(name, X, y, device="cpu")
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
    model = MiniBatchSGDRegressor(batch_size=name, device="base", random_state=0)
    for _ in range(10):
        for rows in np.array_split(np.arange(len(y)), 3):
            model.partial_fit(X[rows], y[rows])
    assert model.t_ == 10 * len(y)
    assert model.score(X, y) > 0.9


@each
def test_chunks_of_one_row_are_steps_of_one_row(name, regression):
    """They say nothing of the noise, and break nothing. A row that is stiff beside those before comes several times."""
    X, y = regression
    model = MiniBatchSGDRegressor(batch_size=name, device="base", random_state=0)
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
