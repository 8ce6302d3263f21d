"""Every optimizer in the registry against a few lines written from the formula of its paper."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit
from sklearn.base import clone

from skminibatch import MiniBatchSGDRegressor
from skminibatch import optimizers as parts
from skminibatch.backends.cpu import formulas  # noqa: F401 (gives the verbs their compiled meaning)
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import follow, n_slots, point, result, update
from skminibatch.estimators import parts as resolved
from skminibatch.optimizers import OPTIMIZERS, SAGA, SGD, Adam, AdamW, Averaging, Momentum, Nesterov, ScheduleFree

N_STEPS = 40
RATES = 0.05 + 0.04 * np.sin(np.arange(N_STEPS))
SIZES = np.tile([3, 4], N_STEPS // 2)
START = np.array([1.0, -2.0, 0.5])
HESSIAN = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 0.5]])

# Other values of the hyper-parameters; every optimizer of the registry comes with its defaults too.
VARIANTS = [
    Momentum(0.5),
    Nesterov(0.5),
    ScheduleFree(0.7, 1.0),
    OPTIMIZERS["rmsprop"](0.8, 1e-3),
    Adam(0.8, 0.95, 1e-3),
    AdamW(0.8, 0.95, 1e-3),
    Adam(0.8, 0.95, 1e-3, 24.0),
    SAGA(200.0),
]
PLAIN = [cls() for cls in OPTIMIZERS.values()] + VARIANTS
AVERAGED = [Averaging(part, start) for part in PLAIN if not declared(part).brings("result") for start in (0.0, 49.0)]
each_plain = pytest.mark.parametrize("part", PLAIN, ids=repr)
each = pytest.mark.parametrize("part", PLAIN + AVERAGED, ids=repr)


def gradient(w: np.ndarray, t: int) -> np.ndarray:
    """Of a quadratic function, with noise that depends on the step only."""
    return HESSIAN @ w - [0.3, 0.1, -0.4] + np.sin([t, 2 * t, 3 * t])


# -- the references: (what predicts, the effective step) after each step


def sgd(part, w):
    for t, rate in enumerate(RATES):
        w = w - rate * gradient(w, t)
        yield w, rate


def momentum(part, w):
    v = 0
    for t, rate in enumerate(RATES):
        v = part.momentum * v + gradient(w, t)
        w = w - rate * v
        yield w, rate / (1 - part.momentum)


def nesterov(part, w):
    v = 0
    for t, rate in enumerate(RATES):
        g = gradient(w, t)
        v = part.momentum * v + g
        w = w - rate * (g + part.momentum * v)
        yield w, rate / (1 - part.momentum)


def schedule_free(part, x):
    """Defazio et al. 2024, algorithm 1, with the weights of the authors' code, t^power (largest rate)^2."""
    z, total, largest = x, 0.0, 0.0
    for t, rate in enumerate(RATES):
        y = (1 - part.interpolation) * z + part.interpolation * x
        z = z - rate * gradient(y, t)
        largest = max(largest, rate)
        weight = (t + 1) ** part.power * largest**2
        total += weight
        c = weight / total
        x = (1 - c) * x + c * z
        yield x, rate


def saga(part, w):
    """Defazio et al. 2014, the gradient being what it changed by since it was stored."""
    mean = 0
    for t, rate in enumerate(RATES):
        g = gradient(w, t)
        w = w - rate * (g + mean)
        mean = mean + SIZES[t] / part.n_rows * g
        yield w, rate


def sdca(part, w):
    """What a change of the dual variables moves w by is the whole of its formula of one coordinate."""
    for t, rate in enumerate(RATES):
        w = w - rate * gradient(w, t)
        yield w, rate


def adagrad(part, w):
    s = 0
    for t, rate in enumerate(RATES):
        g = gradient(w, t)
        s = s + g**2
        w = w - rate * g / (np.sqrt(s) + part.epsilon)
        yield w, rate / (np.sqrt(s) + part.epsilon)


def rmsprop(part, w):
    s = 0
    for t, rate in enumerate(RATES):
        g = gradient(w, t)
        s = part.decay * s + (1 - part.decay) * g**2
        corrected = s / (1 - part.decay ** (t + 1))
        w = w - rate * g / (np.sqrt(corrected) + part.epsilon)
        yield w, rate / (np.sqrt(corrected) + part.epsilon)


def adam(part, w):
    """Kingma and Ba 2015, algorithm 1; Marek et al. 2025: with a decay of the second moment by the rows of each step."""
    m = v = 0
    left = 1.0  # of the start of the second moment, which is zero
    for t, rate in enumerate(RATES):
        g, beta_2 = gradient(w, t), part.beta_2 ** (SIZES[t] / part.rows if part.rows else 1)
        m = part.beta_1 * m + (1 - part.beta_1) * g
        v, left = beta_2 * v + (1 - beta_2) * g**2, beta_2 * left
        m_hat, v_hat = m / (1 - part.beta_1 ** (t + 1)), v / (1 - left)
        w = w - rate * m_hat / (np.sqrt(v_hat) + part.epsilon)
        yield w, rate / (np.sqrt(v_hat) + part.epsilon)


REFERENCES = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "schedule_free": schedule_free,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "saga": saga,
    "sdca": sdca,
    "adamw": adam,  # the decay of the weights is the loop's, see `decoupled`
}


def reference(part):
    name = next(name for name, cls in OPTIMIZERS.items() if cls is type(part))
    return list(REFERENCES[name](part, START))


def run(part, cut: int = 17) -> list:
    """(what predicts, the effective step, w) after each step; the coefficients come in two chunks."""
    first, memory = part.coefficients(RATES[:cut], SIZES[:cut], None)
    second, _ = part.coefficients(RATES[cut:], SIZES[cut:], memory)
    coefficients = np.concatenate([first, second])
    assert coefficients.shape == (N_STEPS, declared(part).n_coefficients)
    np.testing.assert_array_equal(coefficients[:, 0], RATES)
    w, slots, steps = START, tuple(START if e == -1 else np.zeros(3) for e in declared(part).slot_exponents), []
    for t, c in enumerate(coefficients):
        w, slots, step = update(part, w, gradient(point(part, w, slots, c), t), slots, c)
        slots = follow(part, w, slots, c)
        steps.append((result(part, w, slots), step, w))
    return steps


def test_every_optimizer_has_a_reference():
    assert set(REFERENCES) == set(OPTIMIZERS)


@pytest.mark.parametrize("part", [part for part in PLAIN if type(part) in map(OPTIMIZERS.get, REFERENCES)], ids=repr)
def test_update_is_that_of_the_paper(part):
    for (ours, our_step, _), (theirs, their_step) in zip(run(part), reference(part), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(our_step, their_step, rtol=1e-10)


@each
def test_coefficients_do_not_depend_on_the_chunks(part):
    for ours, other in zip(run(part, 17), run(part, 3), strict=True):
        np.testing.assert_allclose(ours[0], other[0], rtol=1e-12)


@pytest.mark.parametrize("part", AVERAGED, ids=repr)
def test_averaging_predicts_the_mean_of_the_iterates(part):
    """The iterates after `start` samples; before, the last one."""
    iterates = [w for _, _, w in run(part.inner)]
    averaged = []
    for t, (ours, _, _) in enumerate(run(part)):
        if SIZES[: t + 1].sum() >= part.start:
            averaged.append(iterates[t])
        np.testing.assert_allclose(ours, np.mean(averaged, axis=0) if averaged else iterates[t], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "part", [part for part in PLAIN if declared(part).linear and not declared(part).per_row], ids=repr
)
def test_effective_step_is_the_whole_response_to_a_gradient(part):
    """What a unit gradient moves w by, in all steps that follow."""
    w, slots = np.zeros(1), (np.zeros(1),) * n_slots(part)
    coefficients, _ = part.coefficients(np.full(400, 0.2), np.full(400, 4), None)
    for t, c in enumerate(coefficients):
        w, slots, step = update(part, w, np.ones(1) if t == 0 else np.zeros(1), slots, c)
    np.testing.assert_allclose(w, -step)


def one_step(part, w, slots, g):
    """The state after one step from (w, slots) with the gradient g, as one vector."""
    coefficients, _ = part.coefficients(RATES[:5], SIZES[:5], None)
    w, slots, _ = update(part, w, g, tuple(slots), coefficients[4])
    return np.array([w, *follow(part, w, slots, coefficients[4])])


@each
def test_linear_says_whether_the_update_is_linear(part, rng):
    """Sparse rows rely on it: ``linear``, and ``lazy_l1`` (in addition, w does not depend on the slots)."""
    a, b = np.abs(rng.standard_normal((2, 2 + n_slots(part))))
    total = one_step(part, *_split(a + b))
    sum_of_both = one_step(part, *_split(a)) + one_step(part, *_split(b))
    assert np.allclose(total, sum_of_both, rtol=1e-10) == declared(part).linear
    if declared(part).lazy_l1:
        other = a.copy()
        other[1:-1] += 1.0
        assert one_step(part, *_split(a))[0] == one_step(part, *_split(other))[0]


def _split(state):
    return state[0], state[1:-1], state[-1]


@each
def test_slot_exponents_say_how_slots_stretch(part, rng):
    """A parameter over a, its gradient times a, and a slot times a^exponent: the same in other units."""
    assert len(declared(part).slot_exponents) == n_slots(part)
    a, exponents = 3.0, np.array(declared(part).slot_exponents, float)
    coefficients, _ = part.coefficients(RATES[:5], SIZES[:5], None)
    w, g, slots = rng.standard_normal(), rng.standard_normal(), np.abs(rng.standard_normal(n_slots(part)))
    new_w, changed, _ = update(part, w, g, tuple(slots), coefficients[4])
    changed = follow(part, new_w, changed, coefficients[4])
    _, stretched, _ = update(part, w / a, g * a, tuple(slots * a**exponents), coefficients[4])
    stretched = follow(part, new_w / a, stretched, coefficients[4])
    np.testing.assert_allclose(stretched, np.array(changed) * a**exponents, rtol=1e-12)


@each
def test_the_automatic_rate_is_defined(part):
    """Either a constant, or a multiple of what the smoothness allows; dual coordinate ascent has none."""
    if declared(part).dual:
        return
    if declared(part).auto_rate is None:
        assert 0 < declared(part).auto_multiple() <= 2
    else:
        assert 0 < declared(part).auto_rate < 1


@each_plain
def test_the_automatic_rate_converges_on_a_quadratic(part):
    """With the rate ``auto_multiple / L``, or the constant of the solver; a table knows all of four rows."""
    if declared(part).dual:
        pytest.skip("what it follows are dual variables, see test_sdca.py")
    part = declared(part).for_rows(4)
    stored = 0.0
    rate = declared(part).auto_rate or declared(part).auto_multiple() / 2.0
    coefficients, _ = part.coefficients(np.full(3000, rate), np.full(3000, 4), None)
    w, slots = 1.0, tuple(1.0 if e == -1 else 0.0 for e in declared(part).slot_exponents)
    for c in coefficients:
        g = 2.0 * point(part, w, slots, c) - stored
        stored += g if declared(part).per_row else 0.0
        w, slots, _ = update(part, w, g, slots, c)
        slots = follow(part, w, slots, c)
        assert abs(w) < 10
    assert abs(result(part, w, slots)) < 0.05


def test_optimizers_of_equal_fields_are_not_confused():
    """As tuples they are equal; a compiled formula is found by the type."""
    assert Momentum(0.9) == Nesterov(0.9)
    assert Adam() == AdamW()

    @njit
    def evaluate(part):
        return update(part, 1.0, 1.0, (1.0,), (0.1,))

    assert evaluate(Momentum(0.9)) != evaluate(Nesterov(0.9))
    # where the types are as numba sees them in an estimator: the same fields, another result
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 2)), rng.standard_normal(60)
    settings = {"max_iter": 2, "tol": None, "device": "base", "learning_rate": "constant", "random_state": 0}
    fits = [
        MiniBatchSGDRegressor(solver=solver, alpha=1.0, **settings).fit(X, y).coef_
        for solver in (Adam(), AdamW(), "adam", "adamw")
    ]
    np.testing.assert_array_equal(fits[0], fits[2])
    np.testing.assert_array_equal(fits[1], fits[3])
    assert not np.array_equal(fits[0], fits[1])


@each
def test_pickle_and_repr(part):
    copy = pickle.loads(pickle.dumps(part))
    assert type(copy) is type(part)
    assert copy == part
    assert repr(eval(repr(part), vars(parts))) == repr(part)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_instance_is_the_name_and_is_cloned(name):
    """`solver=Adam()` stands for `solver='adam'`; an instance survives `clone` and `get_params`."""
    part = OPTIMIZERS[name]()
    part_of_name = resolved.optimizer(name, False, default="sgd")
    assert type(part_of_name) is type(part)
    assert part_of_name == part
    estimator = clone(MiniBatchSGDRegressor(solver=part))
    assert type(estimator.get_params()["solver"]) is type(part)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Momentum(1.0), "The 'momentum' of Momentum in the 'solver' parameter must be"),
        (Nesterov(-0.1), "The 'momentum' of Nesterov in the 'solver' parameter must be"),
        (ScheduleFree(1.5), "The 'interpolation' of ScheduleFree in the 'solver' parameter must be"),
        (Adam(beta_2=1.0), "The 'beta_2' of Adam in the 'solver' parameter must be"),
        (AdamW(epsilon=0.0), "The 'epsilon' of AdamW in the 'solver' parameter must be"),
        (Momentum("0.9"), "The 'momentum' of Momentum in the 'solver' parameter must be"),
        (SimpleNamespace(), "The 'solver' parameter must be a name or an optimizer"),
    ],
    ids=repr,
)
def test_a_wrong_field_is_named(part, message):
    with pytest.raises(ValueError, match=message):
        resolved.optimizer(part, False, default="sgd")


def test_fields_become_floats():
    """An integer would be another type, and another kernel."""
    assert type(resolved.optimizer(Momentum(0), False, default="sgd").momentum) is float


def test_averaging_an_average_is_refused():
    with pytest.raises(ValueError, match="average=True cannot be combined with solver='saga'"):
        resolved.optimizer("saga", True, default="sgd")
    with pytest.raises(ValueError, match="average=True cannot be combined with solver='schedule_free'"):
        resolved.optimizer("schedule_free", True, default="sgd")
    assert resolved.optimizer("auto", 10, default="schedule_free") == Averaging(SGD(), 10.0)
