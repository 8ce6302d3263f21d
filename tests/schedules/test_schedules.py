"""Every learning-rate schedule and scaling rule in the registries."""

from __future__ import annotations

import pickle
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import eigvalsh
from scipy.special import erf, expit

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor, diagnostics, schedules
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import update
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.estimators import parts as resolved
from skminibatch.estimators.parts import FALL_OF_AN_AVERAGE, FALL_OF_AN_ITERATE
from skminibatch.losses import Hinge, Logistic
from skminibatch.optimizers import OPTIMIZERS, SGD, Adam, AdamW
from skminibatch.schedules import (
    SCALING_RULES,
    SCHEDULES,
    Adaptive,
    Auto,
    Constant,
    Cosine,
    Geometric,
    InverseScaling,
    Optimal,
)
from skminibatch.statistics.smoothness import smoothness
from tests.examined import at

STATE = SimpleNamespace(step=0, reductions=0, smoothness=4.0, population=200.0, period=200.0, began=0)
SAMPLES = np.arange(0, 1000, 10).astype(float)

# schedule -> its rates, from the formula in the literature
REFERENCES = {
    Constant(0.3): lambda t: 0.3,
    InverseScaling(0.5, 0.25): lambda t: 0.5 / (t + 1) ** 0.25,
    Optimal(0.01, 20.0): lambda t: 1 / (0.01 * (20.0 + t)),
    Adaptive(0.2, 5.0): lambda t: 0.2,
    Cosine(0.4, 500.0): lambda t: 0.2 * (1 + np.cos(np.pi * t / 500)) if t < 500 else 0.0,
    Auto(1.5): lambda t: 1.5 / 4.0,
    Auto(1.5, 0.03): lambda t: 0.03,
    Auto(1.5, power=0.75): lambda t: 1.5 / 4.0 / (1 + t / 200) ** 0.75,
    Auto(1.5, 0.03, power=0.5): lambda t: 0.03 / np.sqrt(1 + t / 200),
}
every_schedule = pytest.mark.parametrize("schedule", REFERENCES, ids=repr)


def history(**parameters):
    """The history of a regressor on 60 rows, without stopping."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    settings = {
        "max_iter": 4,
        "tol": None,
        "batch_size": 10,
        "device": "base",
        "random_state": 0,
        **parameters,
    }
    return MiniBatchSGDRegressor(**settings).fit(X, X @ [1.0, 2.0, 0.0] + rng.standard_normal(60)).history_


def test_every_schedule_has_a_reference():
    assert {type(schedule) for schedule in REFERENCES} == set(SCHEDULES.values())


@every_schedule
def test_rates_are_those_of_the_formula(schedule):
    rates = schedule.rates(SAMPLES, STATE)
    assert rates.dtype == np.float64
    np.testing.assert_allclose(rates, [REFERENCES[schedule](t) for t in SAMPLES], rtol=1e-12, atol=1e-15)


@every_schedule
def test_rates_depend_on_the_samples_and_not_on_the_chunks(schedule):
    """So that batch sizes can be compared: the rate after so many rows is the same."""
    whole = schedule.rates(SAMPLES, STATE)
    later = SimpleNamespace(**{**vars(STATE), "step": 40})
    np.testing.assert_array_equal(
        np.concatenate([schedule.rates(SAMPLES[:40], STATE), schedule.rates(SAMPLES[40:], later)]), whole
    )
    np.testing.assert_array_equal(schedule.rates(SAMPLES[::5], STATE), whole[::5])


@every_schedule
def test_pickle_and_repr(schedule):
    copy = pickle.loads(pickle.dumps(schedule))
    assert type(copy) is type(schedule)
    assert copy == schedule
    assert eval(repr(schedule), vars(schedules)) == schedule


def test_adaptive_follows_the_reductions():
    state = SimpleNamespace(reductions=3)
    np.testing.assert_allclose(Adaptive(0.5, 10.0).rates(SAMPLES[:2], state), 5e-4)


def test_adaptive_reduces_the_rate_until_it_is_small():
    """Whenever `n_iter_no_change` epochs in a row bring nothing; training stops at the smallest rate."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    regressor = MiniBatchSGDRegressor(
        learning_rate="adaptive",
        eta0=0.1,
        n_iter_no_change=2,
        solver="sgd",
        device="base",
        random_state=0,
        batch_size=10,
    ).fit(X, rng.standard_normal(60))
    rates = np.unique(regressor.history_["rate"])[::-1]
    np.testing.assert_allclose(rates, 0.1 / 5.0 ** np.arange(rates.size))
    assert 1e-6 < rates[-1] <= 5e-6
    assert "adaptive rate fell below" in regressor.stop_reason_


def test_optimal_starts_as_in_bottou_2012():
    """``typical = sqrt(1 / sqrt(alpha))``, the first rate is ``typical / max(1, loss'(-typical, 1))``."""
    alpha = 0.01
    typical = np.sqrt(1 / np.sqrt(alpha))
    schedule = resolved.schedule(
        "optimal",
        optimizer=SGD(),
        loss=Logistic(),
        alpha=alpha,
        eta0=None,
        power_t=0.5,
        horizon=None,
        warmup=0,
    )
    np.testing.assert_allclose(schedule.rates(np.zeros(1), STATE), typical / max(1.0, -expit(typical)))


def test_auto_warms_up_over_updates():
    rates = Auto(1.0, warmup=10.0).rates(SAMPLES[:20], STATE)
    np.testing.assert_allclose(rates, 0.25 * np.minimum(np.arange(1, 21) / 10, 1.0))
    later = SimpleNamespace(**{**vars(STATE), "step": 5})
    np.testing.assert_array_equal(Auto(1.0, warmup=10.0).rates(SAMPLES[:15], later), rates[5:])


def test_auto_falls_after_a_rise_and_not_on_a_stream():
    """By a half each time; a stream has no passes."""
    fallen = SimpleNamespace(**{**vars(STATE), "reductions": 3})
    schedule = Auto(1.0, power=0.75)
    np.testing.assert_allclose(schedule.rates(SAMPLES, fallen), schedule.rates(SAMPLES, STATE) / 8)
    endless = SimpleNamespace(**{**vars(STATE), "period": float(1 << 40)})
    np.testing.assert_allclose(schedule.rates(SAMPLES, endless), 0.25, rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "power"),
    [("schedule_free", FALL_OF_AN_AVERAGE), ("sgd", FALL_OF_AN_ITERATE), ("saga", 0.0), ("adam", 0.0)],
)
@pytest.mark.parametrize("loss", [Logistic(), Hinge()], ids=repr)
def test_auto_falls_where_noise_stays(name, power, loss):
    """Not with a table of residuals, except for a loss with a kink, whose residuals jump."""
    settings = {"alpha": 1e-4, "eta0": None, "power_t": 0.5, "horizon": None, "warmup": 1}
    schedule = resolved.schedule("auto", optimizer=OPTIMIZERS[name](), loss=loss, **settings)
    if name == "saga" and isinstance(loss, Hinge):
        power = FALL_OF_AN_ITERATE
    assert schedule.power == power


@pytest.mark.parametrize("name", [name for name, cls in OPTIMIZERS.items() if not declared(cls()).dual])
def test_auto_is_defined_for_every_solver(name):
    """A constant where the solver states one, else a share of what the smoothness allows."""
    part = OPTIMIZERS[name]()
    schedule = resolved.schedule(
        "auto", optimizer=part, loss=Logistic(), alpha=1e-4, eta0=None, power_t=0.5, horizon=None, warmup=1
    )
    rate = schedule.rates(np.zeros(1), STATE)[0]
    if declared(part).auto_rate is None:
        np.testing.assert_allclose(rate, part.auto_multiple() / STATE.smoothness)
    else:
        assert rate == part.auto_rate


@pytest.mark.parametrize("solver", [name for name, part in OPTIMIZERS.items() if declared(part()).auto_rate is None])
def test_auto_does_not_diverge_on_rows_of_huge_norm(solver):
    """scikit-learn's SGDRegressor reaches 1e40 here."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    X[[7, 200]] *= [[100.0], [1000.0]]
    y = X @ [1.0, 2.0, 0.0] + rng.standard_normal(400)
    for order in (slice(None), slice(None, None, -1)):
        regressor = MiniBatchSGDRegressor(
            batch_size=4, solver=solver, device="base", max_iter=3, tol=None, shuffle=False
        )
        regressor.fit(X[order], y[order])
        assert regressor.loss_curve_[-1] < 0.5 * np.mean((y - y.mean()) ** 2)


@pytest.mark.parametrize("batch_size", range(1, 9))
def test_smoothness_of_a_batch_bounds_the_expected_smoothness(batch_size):
    """``E |g_B(w) - g_B(w*)|^2 <= 2 L(b) (F(w) - F*)`` over all batches (Gower et al. 2019), at the worst w."""
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((8, 2)) * [[1.0], [1.0], [0.3], [2.0], [1.0], [1.0], [0.1], [1.0]]
    A = np.column_stack([Z, np.ones(8)])
    # of squared errors, g_B(w) - g_B(w*) = H_B (w - w*) and F(w) - F* = (w - w*)' H (w - w*) / 2
    each = [A[list(B)].T @ A[list(B)] / batch_size for B in combinations(range(8), batch_size)]
    exact = eigvalsh(np.mean([H @ H for H in each], axis=0), A.T @ A / 8)[-1]
    assert exact <= smoothness(Z, np.ones(8), 0.0, True).of_batch(batch_size, 8)
    record = diagnostics.smoothness(at(np.zeros(2), 0.0, alpha=0), Z, np.zeros(8), batch_sizes=[batch_size])
    assert exact <= record.expected[0] * (1 + 1e-12)


@pytest.mark.parametrize(("rule", "factor"), [("linear", 0.25), ("sqrt", 0.5), (None, 1.0)])
def test_fixed_scaling_rules(rule, factor):
    """16 rows instead of 64: linear as in Goyal et al. (2017), the square root as in Krizhevsky (2014)."""
    rates = history(learning_rate="constant", eta0=0.02, batch_size=16, base_batch_size=64, lr_scaling=rule)["rate"]
    np.testing.assert_allclose(rates, 0.02 * factor)


@pytest.mark.parametrize("name", SCALING_RULES)
def test_scaling_rules_between_their_limits(name):
    """Nothing changes at the base; without noise and with nothing else, each rule is a power of k."""
    rule = SCALING_RULES[name]()
    powers = {"linear": (1, 1), "sqrt": (0.5, 0.5), "adascale": (0, 1), "adam": (1, 0.5), "adam_update": (0, -0.5)}
    powers |= {"surge": (-0.5, 0.5), "adam_half_life": (0, 0)}
    clean, noisy = powers.get(name, (0.5, 0.5))
    for k in (0.25, 8.0):
        np.testing.assert_allclose(rule.factor(64 * k, 64, 1e-9), k**clean, rtol=1e-6)
        np.testing.assert_allclose(rule.factor(64 * k, 64, 1e12), k**noisy, rtol=1e-6)
        assert rule.factor(64 * k, 64, np.inf) == pytest.approx(k**noisy)
        factors = [rule.factor(64 * k, 64, noise) for noise in np.geomspace(1e-3, 1e6, 50)]
        assert np.all(np.diff(factors) >= -1e-12) or np.all(np.diff(factors) <= 1e-12)
    assert rule.factor(64, 64, 100.0) == pytest.approx(1.0)
    assert (declared(rule).reads is not None) == (clean != noisy)


def test_adascale_is_the_ratio_of_best_rates():
    """``eta_max / (1 + S / b)`` of McCandlish et al. (2018)."""
    best = [1 / (1 + 37.0 / b) for b in (48, 6)]
    assert SCALING_RULES["adascale"]().factor(48, 6, 37.0) == pytest.approx(best[0] / best[1], rel=1e-12)


def adam(rng, mean, noise, batch_size, rate=1.0, k=1.0, steps=3000, pull=0.0, chains=2000):
    """Mean steps and final positions of chains of Adam with epsilon 0 on ``mean + pull w`` with noise."""
    beta_1, beta_2 = 1 - 0.1 * k, 1 - 0.001 * k
    w, m, s = np.zeros((3, chains))
    places = []
    for t in range(1, steps + 1):
        g = mean + pull * w + noise / np.sqrt(batch_size) * rng.standard_normal(chains)
        m, s = beta_1 * m + (1 - beta_1) * g, beta_2 * s + (1 - beta_2) * g * g
        step = rate * (m / (1 - beta_1**t)) / np.sqrt(s / (1 - beta_2**t))
        w = w - step
        if t > steps // 2:
            places.append(w.copy())
    return -np.mean(w / steps), np.var(places)


@pytest.mark.parametrize("r", [0.1, 0.5])
def test_the_rule_of_updates_keeps_the_mean_step_of_adam(r):
    """8 to 64 rows: within 2 per cent, where the linear and the square-root rule miss by more than 10."""
    rng = np.random.default_rng(0)
    base, _ = adam(rng, r, 1.0, 8)
    for name, exact in (("adam_update", True), ("linear", False), ("sqrt", False)):
        factor = SCALING_RULES[name]().factor(64, 8, 1 / r**2)
        moved, _ = adam(rng, r, 1.0, 64, rate=factor)
        error = abs(moved / base - 1)
        assert error < 0.02 if exact else error > 0.1
    example = SCALING_RULES["adam"]().factor(64, 8, 1 / r**2)
    assert 8**0.5 < example < 8
    moved, _ = adam(rng, r, 1.0, 64, rate=example)
    assert abs(moved / (8 * base) - 1) < 0.02  # 8 times the progress in a step with 8 times the rows


def test_the_rule_of_the_differential_equation_keeps_the_stationary_variance():
    """Adam on a parabola, batches 4 times as large; the linear rule doubles the variance."""
    rng = np.random.default_rng(1)
    settings = {"noise": 1.0, "mean": 0.0, "pull": 1.0}
    _, base = adam(rng, batch_size=8, rate=0.003, steps=6000, chains=500, **settings)
    _, moved = adam(rng, batch_size=32, rate=0.003 * 4**0.5, k=4.0, steps=1500, chains=2000, **settings)
    _, linear = adam(rng, batch_size=32, rate=0.003 * 4, k=4.0, steps=1500, chains=2000, **settings)
    assert abs(moved / base - 1) < 0.08
    assert linear / base > 1.6


def test_noisy_scaling_rules_follow_the_noise_of_each_epoch(binary):
    """The first epoch has the rate of the noise at the start, each later one that of the epoch before."""
    settings = {"solver": "adam", "learning_rate": "constant", "eta0": 0.01, "max_iter": 4, "tol": None}
    classifier = MiniBatchSGDClassifier(lr_scaling="adam", batch_size=20, base_batch_size=5, random_state=0, **settings)
    classifier.fit(*binary)
    rates, noise = classifier.history_["rate"], classifier.history_["noise_scale"]
    rule = SCALING_RULES["adam"]()
    start = gradient_noise_scale(MiniBatchSGDClassifier(**settings), *binary)  # all 240 rows are examined
    np.testing.assert_allclose(rates[0], 0.01 * rule.factor(20, 5, start.noise_scale), rtol=1e-9)
    np.testing.assert_allclose(rates[1:], [0.01 * rule.factor(20, 5, scale) for scale in noise[:-1]], rtol=1e-12)
    stream = MiniBatchSGDClassifier(lr_scaling="adam", batch_size=20, base_batch_size=5, random_state=0, **settings)
    stream.partial_fit(*binary, classes=[0, 1])
    of_stream = start.trace_covariance * 240 / 239  # of the population that the rows come from
    of_stream = of_stream / (start.objective_gradient_norm**2 - of_stream / 240)
    np.testing.assert_allclose(stream.history_["rate"][0], 0.01 * rule.factor(20, 5, of_stream), rtol=1e-9)


def test_adam_sde_moves_the_betas(binary):
    settings = {"solver": Adam(0.9, 0.99), "learning_rate": "constant", "batch_size": 20, "base_batch_size": 10}
    classifier = MiniBatchSGDClassifier(lr_scaling="adam_sde", max_iter=2, tol=None, **settings).fit(*binary)
    moved = classifier._fitted.model.optimizer
    np.testing.assert_allclose(moved, (0.8, 0.98, 1e-8 / 2**0.5, 0), rtol=1e-12)
    average = MiniBatchSGDClassifier(lr_scaling="adam_sde", max_iter=2, tol=None, average=True, **settings).fit(*binary)
    assert average._fitted.model.optimizer.inner == moved
    classifier.set_params(batch_size=100)
    with pytest.raises(ValueError, match=r"lr_scaling='adam_sde' needs a batch_size below 10 times base_batch_size"):
        classifier.fit(*binary)


def decays(part, sizes):
    """What is left of the second moment after each step without gradient; the coefficients come in two chunks."""
    first, memory = part.coefficients(np.ones(3), sizes[:3], None)
    second, _ = part.coefficients(np.ones(len(sizes) - 3), sizes[3:], memory)
    slots, left = (0.0, 1.0), []
    for c in np.concatenate([first, second]):
        _, slots, _ = update(part, 0.0, 0.0, slots, c)
        left.append(slots[1])
    return np.array(left)


@pytest.mark.parametrize("cls", [Adam, AdamW])
def test_the_second_moment_has_one_half_life_in_rows(cls):
    """Marek et al. 2025: ``base ln(1/2) / ln(beta_2)`` rows at each batch size, and while it grows."""
    part = cls(0.9, 0.95).in_rows(64)
    half_life = 64 * np.log(0.5) / np.log(0.95)
    for sizes in (np.full(4000, 1), np.full(60, 64), np.full(12, 512), np.array([1, 8, 8, 64, 100, 640, 1000, 1280])):
        np.testing.assert_allclose(decays(part, sizes), 0.5 ** (np.cumsum(sizes) / half_life), rtol=1e-9)
    # as it comes, the half-life is one in steps
    assert decays(cls(0.9, 0.95), np.full(60, 512))[12] == pytest.approx(0.95**13)


def test_the_first_steps_are_no_longer_where_the_half_life_is_one_in_rows():
    """Both moments are corrected for their start at zero: of a constant gradient, each step is the rate."""
    part, slots, w = Adam(0.9, 0.999, 1e-300, 64.0), (0.0, 0.0), 0.0
    coefficients, _ = part.coefficients(np.ones(6), np.array([1, 64, 2, 1000, 64, 5]), None)
    for k, c in enumerate(coefficients):
        w, slots, _ = update(part, w, 0.3, slots, c)
        assert w == pytest.approx(-k - 1, rel=1e-9)


def test_adam_half_life_at_one_size_is_another_beta(binary):
    """``beta_2^k`` and the same rate, beta_1 and epsilon; at the base, nothing changes."""
    settings = {"learning_rate": "constant", "batch_size": 20, "max_iter": 3, "tol": None, "random_state": 0}
    for base, beta_2 in ((10, 0.99**2), (20, 0.99), (80, 0.99**0.25)):
        rule = {"lr_scaling": "adam_half_life", "base_batch_size": base}
        moved = MiniBatchSGDClassifier(solver=Adam(0.9, 0.99), **rule, **settings).fit(*binary)
        plain = MiniBatchSGDClassifier(solver=Adam(0.9, beta_2), **settings).fit(*binary)
        np.testing.assert_allclose(moved.coef_, plain.coef_, rtol=1e-9)
        np.testing.assert_array_equal(moved.history_["rate"], plain.history_["rate"])


@pytest.mark.parametrize("average", [False, True])
def test_adam_half_life_follows_a_schedule(average, binary):
    """Of the batch size, in `fit` and on a stream; and with another rule for the rate, where the solver has the base."""
    sizes = Geometric(start=10, factor=2, epochs=1)
    settings = {"learning_rate": "constant", "eta0": 0.01, "batch_size": sizes, "average": average, "random_state": 0}
    rule = {"lr_scaling": "adam_half_life", "base_batch_size": 40}
    model = MiniBatchSGDClassifier(solver=Adam(beta_2=0.99), max_iter=4, tol=None, **settings, **rule).fit(*binary)
    assert model._fitted.state.coefficients[3] == pytest.approx(0.99 ** (80 / 40))
    np.testing.assert_array_equal(model.history_["rate"], 0.01)
    stream = MiniBatchSGDClassifier(solver=Adam(beta_2=0.99), **settings, **rule)
    for k in (1, 2, 4):
        stream.partial_fit(*binary, classes=[0, 1])
        assert stream._fitted.state.coefficients[3] == pytest.approx(0.99 ** (k * 10 / 40))
    both = MiniBatchSGDClassifier(solver=Adam(beta_2=0.99, rows=40), max_iter=4, tol=None, **settings)
    both.set_params(lr_scaling="sqrt", base_batch_size=40).fit(*binary)
    assert both._fitted.state.coefficients[3] == model._fitted.state.coefficients[3]
    np.testing.assert_allclose(both.history_["rate"], 0.01 * np.sqrt(np.array([10, 20, 40, 80]) / 40))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "adam_half_life",
            r"lr_scaling='adam_half_life' has beta_2 for base_batch_size=64 rows: the solver has it for rows=32",
        ),
        ("adam_sde", r"lr_scaling='adam_sde' moves beta_2 itself: leave the hyper-parameter rows"),
    ],
)
def test_rules_that_contradict_the_solver(rule, message, binary):
    settings = {"learning_rate": "constant", "lr_scaling": rule, "batch_size": 20}
    with pytest.raises(ValueError, match=message):
        MiniBatchSGDClassifier(solver=AdamW(rows=32), **settings).fit(*binary)


@pytest.mark.parametrize("rule", ["adam", "adam_update", "adam_sde", "adam_half_life", "surge"])
@pytest.mark.parametrize("solver", ["auto", "sgd", "rmsprop"])
def test_rules_of_adam_are_for_adam(rule, solver, binary):
    with pytest.raises(ValueError, match=f"lr_scaling='{rule}' is a rule for the steps of Adam"):
        MiniBatchSGDClassifier(solver=solver, learning_rate="constant", lr_scaling=rule).fit(*binary)


def best_rate_of_signs(H, mu, sigma, batch_size):
    """``sum E_i mu_i / (tr H + sum_(i != j) E_i E_j H_ij)`` with the mean signs E of the coordinates (Li et al. 2024)."""
    signs = erf(np.sqrt(batch_size / 2) * mu / sigma)
    own = np.diag(H)
    return signs @ mu / (own.sum() + signs @ H @ signs - own @ signs**2)


def test_the_mean_sign_of_a_gradient():
    rng = np.random.default_rng(0)
    for batch_size, z in ((1, 0.1), (16, 0.1), (64, 0.3)):
        signs = np.sign(z + rng.standard_normal(200_000) / np.sqrt(batch_size))
        expected = erf(np.sqrt(batch_size / 2) * z)
        assert abs(signs.mean() - expected) < 4.5 * np.sqrt((1 - expected**2) / 200_000)


def test_surge_is_the_best_rate_of_steps_by_signs():
    """A square root for small batches, and a peak where the formula has it; none for a diagonal Hessian."""
    rule = SCALING_RULES["surge"]()
    rng = np.random.default_rng(1)
    mu, sigma = 0.02 * rng.uniform(0.5, 1.5, 20), np.ones(20)
    H = 0.7 * np.eye(20) + 0.3
    z = mu / sigma
    peak = np.pi / 2 * np.trace(H) / (z @ H @ z - np.diag(H) @ z**2)
    sizes = np.geomspace(1, 1e5, 400)
    best = np.array([best_rate_of_signs(H, mu, sigma, b) for b in sizes])
    assert sizes[best.argmax()] == pytest.approx(peak, rel=0.15)
    small = sizes < peak
    np.testing.assert_allclose(rule.factor(sizes, 1, peak)[small], (best / best[0])[small], rtol=0.06)
    slope = np.polyfit(np.log(sizes[sizes < peak / 200]), np.log(best[sizes < peak / 200]), 1)[0]
    rules = np.log(rule.factor(np.array([1.0, peak / 200]), 1, peak))
    assert abs(slope - 0.5) < 0.02
    assert abs((rules[1] - rules[0]) / np.log(peak / 200) - 0.5) < 0.02
    factors = rule.factor(sizes, 1, peak)
    assert sizes[factors.argmax()] == pytest.approx(peak, rel=0.03)
    diagonal = [best_rate_of_signs(np.eye(20), mu, sigma, b) for b in sizes]
    assert np.all(np.diff(diagonal) >= 0)
    assert np.all(np.diff(rule.factor(sizes, 1, np.inf)) > 0)


@pytest.mark.parametrize("solver", ["adam", "adamw"])
@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_array])
def test_the_peak_of_surge_is_measured_at_the_start(storage, solver, rng):
    """Against the formula with matrices written out; the rate is the same in every epoch."""
    X = 0.5 + rng.random((300, 4)) * [1, 2, 1, 0.5]
    y = X.sum(axis=1) + rng.standard_normal(300)
    settings = {"solver": solver, "learning_rate": "constant", "eta0": 0.01, "tol": None, "base_batch_size": 5}
    regressor = MiniBatchSGDRegressor(lr_scaling="surge", batch_size=20, max_iter=3, alpha=0.2, **settings)
    w = np.full(4, 0.3)
    regressor.fit(storage(X), y, coef_init=w, intercept_init=0.1)
    Z = np.column_stack([X, np.ones(300)])
    gradients = (X @ w + 0.1 - y)[:, None] * Z
    H = Z.T @ Z / 300 + 0.2 * np.diag([1, 1, 1, 1, 0])
    pull = 0.2 * np.append(w, 0) * (solver == "adam")  # AdamW shrinks the coefficients apart from the gradient
    z = (gradients.mean(axis=0) + pull) / gradients.std(axis=0)
    peak = np.pi / 2 * np.trace(H) / (z @ H @ z - np.diag(H) @ z**2)
    assert regressor._fitted.state.peak_batch_size == pytest.approx(peak, rel=1e-9)
    expected = 0.01 * 2 * (peak + 5) / (peak + 20)
    np.testing.assert_allclose(regressor.history_["rate"], expected, rtol=1e-9)
    stream = MiniBatchSGDRegressor(lr_scaling="surge", batch_size=20, alpha=0.2, **settings)
    stream.partial_fit(storage(X), y)
    first = stream._fitted.state.peak_batch_size
    assert 0 < first < np.inf
    assert stream.partial_fit(storage(X), -y)._fitted.state.peak_batch_size == first


def test_surge_without_a_peak_is_the_square_root(rng):
    """Uncorrelated coordinates, coordinates that pull against each other, no noise, and one row."""
    X = np.concatenate([np.eye(3), -np.eye(3)])[np.arange(60) % 6]
    settings = {"solver": "adam", "learning_rate": "constant", "eta0": 0.01, "max_iter": 2, "tol": None}
    settings = {"lr_scaling": "surge", "batch_size": 20, "base_batch_size": 5, **settings}
    cases = [
        (X, X @ [1.0, 2.0, 0.5] + 0.1 * rng.standard_normal(60), {"fit_intercept": False}),
        (np.abs(X), np.where(np.arange(60) % 2, 1.0, -1.0) + rng.standard_normal(60), {"fit_intercept": False}),
        (np.zeros((60, 3)), np.zeros(60), {}),
        (np.ones((1, 3)), np.ones(1), {}),
    ]
    for rows, y, more in cases:
        regressor = MiniBatchSGDRegressor(**settings, **more).fit(rows, y)
        assert regressor._fitted.state.peak_batch_size == np.inf
        np.testing.assert_allclose(regressor.history_["rate"], 0.02 if len(y) > 1 else 0.01 / 5**0.5)


def test_history_has_the_rate_of_the_last_step():
    rates = history(learning_rate="invscaling", eta0=0.1, power_t=0.5, solver="sgd")["rate"]
    np.testing.assert_allclose(rates, 0.1 / np.sqrt(60 * np.arange(1, 5) - 10 + 1))
    rates = history(learning_rate="cosine", eta0=0.1, solver="sgd")["rate"]
    np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(np.pi * (60 * np.arange(1, 5) - 10) / 240)))


def test_an_instance_is_a_schedule():
    by_name = history(learning_rate="invscaling", eta0=0.05, power_t=0.3)
    by_instance = history(learning_rate=InverseScaling(0.05, 0.3))
    np.testing.assert_array_equal(by_name["loss"], by_instance["loss"])


@pytest.mark.parametrize("learning_rate", ["cosine", Cosine(0.1, 1000.0)])
def test_a_schedule_with_a_horizon_is_refused_by_partial_fit(learning_rate, binary):
    classifier = MiniBatchSGDClassifier(learning_rate=learning_rate, device="base")
    with pytest.raises(ValueError, match=r"learning_rate=.* needs to know the number of epochs"):
        classifier.partial_fit(*binary, classes=[0, 1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"learning_rate": "auto", "eta0": 0.1}, "eta0=0.1 has no effect with learning_rate='auto'"),
        ({"learning_rate": "optimal", "eta0": 0.1}, "eta0=0.1 has no effect with learning_rate='optimal'"),
        ({"learning_rate": "optimal", "alpha": 0.0}, "alpha must be > 0 since learning_rate is 'optimal'"),
        ({"lr_scaling": "linear"}, "lr_scaling='linear' needs an explicit learning rate"),
        (
            {"learning_rate": Constant(-1.0)},
            "The 'eta0' of Constant in the 'learning_rate' parameter must be",
        ),
        (
            {"learning_rate": Adaptive(0.1, 0.5)},
            "The 'factor' of Adaptive in the 'learning_rate' parameter must be",
        ),
    ],
    ids=str,
)
def test_contradictions_are_errors(parameters, message):
    with pytest.raises(ValueError, match=message):
        history(**parameters)
