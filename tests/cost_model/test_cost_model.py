"""The cost of a batch size: closed forms, fits that recover what made the data, and how measurements are taken."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize_scalar

from skminibatch import MiniBatchSGDClassifier
from skminibatch.cost_model import BatchCostModel, training_objective
from skminibatch.plotting import BatchCostDisplay

SIZES = 2 ** np.arange(15)
# steps without noise, rows with the smallest batches, fixed seconds, seconds a row
CONSTANTS = [(100.0, 6400.0, 4e-6, 1e-6), (35.0, 9e4, 2e-7, 4e-8), (2000.0, 300.0, 5e-5, 1e-8)]
every_constants = pytest.mark.parametrize("constants", CONSTANTS)


def exact(constants, sizes=SIZES):
    """A model of measurements without noise."""
    n, c, fixed, row = constants
    return BatchCostModel().fit(sizes, fixed + row * sizes, n + c / sizes)


def noisy(constants, rng, seed_noise=0.1, time_noise=0.03, outliers=0.15):
    """A model of 15 repeats, some of them five times too slow, and of 5 seeds."""
    n, c, fixed, row = constants
    times = (fixed + row * SIZES)[:, None] * np.exp(time_noise * rng.standard_normal((SIZES.size, 15)))
    times[rng.random(times.shape) < outliers] *= 5.0
    steps = (n + c / SIZES)[:, None] * np.exp(seed_noise * rng.standard_normal((SIZES.size, 5)))
    return BatchCostModel().fit(SIZES, times, steps)


# -- closed forms


@every_constants
def test_closed_form_is_where_the_least_time_is(constants):
    model = exact(constants)
    found = minimize_scalar(
        lambda log_b: float(model.predict_seconds(np.exp(log_b), step_times="affine")),
        bounds=(-5, 15),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert model.closed_form_batch_size_ == pytest.approx(np.exp(found.x), rel=1e-5)
    assert model.closed_form_seconds_ == pytest.approx(found.fun, rel=1e-9)


@every_constants
def test_closed_form_is_the_geometric_mean_of_two_sizes(constants):
    n, c, fixed, row = constants
    model = exact(constants)
    assert model.critical_batch_size_ == pytest.approx(c / n, rel=1e-9)
    assert model.hardware_batch_size_ == pytest.approx(fixed / row, rel=1e-9)
    expected = np.sqrt(model.critical_batch_size_ * model.hardware_batch_size_)
    assert model.closed_form_batch_size_ == pytest.approx(expected, rel=1e-12)


@every_constants
def test_time_is_symmetric_around_the_closed_form(constants):
    model = exact(constants)
    factors = np.array([1.5, 4.0, 100.0])
    above = model.predict_seconds(model.closed_form_batch_size_ * factors, step_times="affine")
    below = model.predict_seconds(model.closed_form_batch_size_ / factors, step_times="affine")
    np.testing.assert_allclose(above, below, rtol=1e-9)


@every_constants
def test_measurements_without_noise_are_recovered(constants):
    model = exact(constants)
    found = (model.min_steps_, model.min_examples_, model.fixed_seconds_, model.row_seconds_)
    np.testing.assert_allclose(found, constants, rtol=1e-9)
    assert max(model.steps_misfit_, model.time_misfit_) < 1e-9
    for name, (low, high) in model.confidence_intervals_.items():
        assert low <= getattr(model, f"{name}_") <= high


# -- noise


def test_closed_form_is_recovered_from_noise_and_outliers(rng):
    n, c, fixed, row = CONSTANTS[0]
    logs = np.log([noisy(CONSTANTS[0], rng).closed_form_batch_size_ for _ in range(300)])
    errors = logs - 0.5 * np.log(c * fixed / (n * row))
    assert np.sqrt(np.mean(errors**2)) < 0.1
    assert abs(errors.mean()) < 4.5 * errors.std() / np.sqrt(errors.size) + 0.005


@pytest.mark.slow
def test_intervals_cover(rng):
    n, c, fixed, row = CONSTANTS[0]
    truth = {
        "min_steps": n,
        "min_examples": c,
        "critical_batch_size": c / n,
        "closed_form_batch_size": np.sqrt(c * fixed / (n * row)),
    }
    models = [noisy(CONSTANTS[0], rng, outliers=0.0) for _ in range(1000)]
    for name, value in truth.items():
        intervals = np.array([model.confidence_intervals_[name] for model in models])
        coverage = np.mean((intervals[:, 0] <= value) & (value <= intervals[:, 1]))
        assert coverage == pytest.approx(0.95, abs=0.02), name  # 2.9 standard errors


def test_interval_of_the_closed_form_covers_despite_outliers(rng):
    n, c, fixed, row = CONSTANTS[0]
    intervals = [noisy(CONSTANTS[0], rng).confidence_intervals_["closed_form_batch_size"] for _ in range(800)]
    low, high = np.transpose(intervals)
    value = np.sqrt(c * fixed / (n * row))
    assert np.mean((low <= value) & (value <= high)) == pytest.approx(0.95, abs=0.02)  # 2.6 standard errors


def test_a_wider_level_gives_a_wider_interval(rng):
    steps = (100 + 6400 / SIZES) * np.exp(0.1 * rng.standard_normal(SIZES.size))
    some = [BatchCostModel(confidence_level=level).fit(SIZES, 1e-6 * SIZES + 4e-6, steps) for level in (0.5, 0.95)]
    (low, high), (lower, higher) = (model.confidence_intervals_["min_steps"] for model in some)
    assert lower < low < high < higher


def steps_of_noisy_quadratic(batch_sizes, target, n_features=500):
    """Steps to a share of the first loss at the best constant rate, in expectation.

    Curvatures and noise are both 1, 1/2, 1/3, ... (Zhang et al. 2019, arXiv:1907.04164).
    """
    h = 1.0 / np.arange(1, n_features + 1)
    start = 0.5 * n_features  # half of h / h in every direction: each has the same share of the loss
    steps = []
    for b in batch_sizes:
        best = np.inf
        for rate in np.geomspace(1e-3, 1.9, 80):
            shrink = (1 - rate * h) ** 2
            rest = rate**2 * h / b / (1 - shrink)

            def loss(k, shrink=shrink, rest=rest):
                return 0.5 * np.sum(h * (rest + (1 / h - rest) * shrink**k)) / start

            low, high = 0.0, min(best, 1e6)
            if loss(high) > target:
                continue
            while high - low > 1e-3 * high:
                middle = (low + high) / 2
                low, high = (middle, high) if loss(middle) > target else (low, middle)
            best = high
        steps.append(best)
    return np.array(steps)


@pytest.mark.parametrize("target", [0.3, 0.1, 0.03])
def test_steps_of_the_noisy_quadratic(target):
    steps = steps_of_noisy_quadratic(SIZES, target)
    model = BatchCostModel().fit(SIZES, 1.0 + SIZES, steps)
    np.testing.assert_array_less(np.abs(model.predict_steps(SIZES) / steps - 1), 0.2)


# -- what is decided, and from what


def test_the_decision_follows_the_measured_times():
    # caches: 8 rows take less than the line says, 16 more
    b = np.array([1, 2, 4, 8, 16, 32])
    times = 1e-6 * (4 + b) * np.array([1, 1, 1, 0.7, 1.3, 1])
    model = BatchCostModel().fit(b, times, 100 + 6400 / b)
    assert model.optimal_batch_size() == 8
    assert model.time_misfit_ > 0.2
    assert model.optimal_batch_size([2, 4, 16]) == 16
    np.testing.assert_allclose(model.predict_step_seconds(b), times)
    middle = float(model.predict_step_seconds(np.sqrt(8 * 16)))
    assert middle == pytest.approx(np.sqrt(times[3] * times[4]))


def test_a_larger_batch_takes_no_less_time():
    """A step time below that of a smaller size is noise: both count as their mean, and the curve has no dent."""
    times = 4e-6 + 1e-6 * SIZES
    dented = times.copy()
    dented[5] = times[3]
    model = BatchCostModel().fit(SIZES, dented, 100 + 6400 / SIZES)
    seconds = model.predict_step_seconds(SIZES)
    assert (np.diff(seconds) >= 0).all()
    np.testing.assert_allclose(seconds[[4, 5]], np.sqrt(times[3] * times[4]))
    np.testing.assert_allclose(np.delete(seconds, [4, 5]), np.delete(times, [4, 5]))


def test_sizes_are_one_where_noise_hides_the_difference():
    """Flat around the optimum of 16: the noisier the measurements, the more sizes belong to it; without noise, one."""
    assert exact(CONSTANTS[0]).optimal_range() == (16, 16)
    found = []
    for noise in (0.01, 0.1, 0.4):
        rng = np.random.default_rng(0)
        model = noisy(CONSTANTS[0], rng, time_noise=noise, seed_noise=noise, outliers=0.0)
        low, high = model.optimal_range()
        assert low <= model.optimal_batch_size() <= high
        found.append(np.log2(high / low))
    assert found[0] < found[1] < found[2]
    assert model.optimal_range([1, 16, 2048])[0] == 16
    assert f"{low} to {high} rows cannot be told from it" in model.summary()


@pytest.mark.parametrize(("time_noise", "seed_noise"), [(0.02, 0.2), (0.4, 0.02)])
def test_the_best_size_is_in_the_range_as_often_as_the_level_says(time_noise, seed_noise):
    inside = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        model = noisy(CONSTANTS[0], rng, time_noise=time_noise, seed_noise=seed_noise, outliers=0.0)
        low, high = model.optimal_range()
        inside.append(low <= 16 <= high)
    assert np.mean(inside) > 0.93


def test_a_size_that_missed_the_target_is_left_out():
    n, c, fixed, row = CONSTANTS[0]
    b = 2 ** np.arange(8)
    steps = np.column_stack([n + c / b, n + c / b])
    steps[4, 1] = np.nan  # the closed form is 16
    model = BatchCostModel().fit(b, fixed + row * b, steps)
    assert 16 not in model.batch_sizes_
    assert model.optimal_batch_size() in (8, 32)
    assert model.min_steps_ == pytest.approx(n)
    assert np.isnan(model.measurements_.n_steps[4, 1])


def test_a_size_that_was_not_timed_is_not_chosen():
    b = 2 ** np.arange(8)
    times = np.where(b == 16, np.nan, 4e-6 + 1e-6 * b)
    model = BatchCostModel().fit(b, times, 100 + 6400 / b)
    assert model.optimal_batch_size() in (8, 32)
    assert model.min_steps_ == pytest.approx(100)


def test_order_of_the_sizes_does_not_matter(rng):
    b = 2 ** np.arange(8)
    order = rng.permutation(8)
    times, steps = 4e-6 + 1e-6 * b, (100 + 6400 / b) * (1 + 0.1 * rng.random(8))
    one = BatchCostModel().fit(b, times, steps)
    other = BatchCostModel().fit(b[order], times[order], steps[order])
    assert repr(one) == repr(other)
    assert one.summary() == other.summary()


@pytest.mark.parametrize(
    ("time", "steps", "closed_form"),
    [((0, 1), (1, 1), 0.0), ((1, 0), (1, 1), np.inf), ((1, 1), (0, 1), np.inf), ((1, 1), (1, 0), 0.0)],
)
def test_limits_of_constants_that_are_zero(time, steps, closed_form):
    b = 2 ** np.arange(6)
    model = BatchCostModel().fit(b, time[0] + time[1] * b, steps[0] + steps[1] / b)
    assert model.closed_form_batch_size_ == closed_form
    assert model.confidence_intervals_["closed_form_batch_size"] == (0, np.inf)
    assert not np.isnan(list(model.confidence_intervals_.values())).any()
    assert "nan" not in repr(model) + model.summary()


def test_the_other_constant_keeps_its_interval_where_one_is_zero():
    times = SIZES * np.where(np.arange(SIZES.size) % 2, 1.0, 1.1)
    times[0] = 0.9  # below any line through the others and above zero
    model = BatchCostModel().fit(SIZES, times, 1 + 1 / SIZES)
    assert model.fixed_seconds_ == 0
    assert model.confidence_intervals_["fixed_seconds"] == (0, np.inf)
    low, high = model.confidence_intervals_["row_seconds"]
    assert 1.0 < low < 1.05 < high < 1.1


def test_sizes_that_all_cost_the_same():
    b = np.array([1, 2, 4])
    model = BatchCostModel().fit(b, [1.0, 1.0, 1.0], [5.0, 5.0, 5.0])
    np.testing.assert_allclose(model.predict_seconds(b), 5.0)
    assert model.critical_batch_size_ == 0
    assert model.hardware_batch_size_ == np.inf
    assert model.closed_form_batch_size_ == 1  # 0 / 0: any size is as good


# -- words and errors


def test_it_says_what_it_found():
    model = exact(CONSTANTS[0])
    assert "critical_batch_size_=64 (" in repr(model)
    assert "16 reaches the target first" in model.summary()
    assert repr(BatchCostModel(confidence_level=0.9)) == "BatchCostModel(confidence_level=0.9)"
    assert repr(pickle.loads(pickle.dumps(model))) == repr(model)


B = [1, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((B, [1, 2], [3, 2, 1]), "step_seconds must have a row for each of the 3 batch sizes"),
        ((B, [1, 2, 3], [[[3]], [[2]], [[1]]]), "n_steps must have a row for each"),
        ((B, [1, 0, 3], [3, 2, 1]), "step_seconds must be positive and finite, or NaN. Row 1 is"),
        ((B, [1, 2, 3], [3, 2, np.inf]), "n_steps must be positive and finite, or NaN. Row 2 is"),
        ((B, [1, 2, 3], [3, np.nan, 1]), "At least 3 batch sizes must reach the target in every run. Got 2 of 3"),
        ((B, [1, 2, np.nan], [3, 2, 1]), "At least 3 batch sizes must have step_seconds. Got 2 of 3"),
        (([1, 2, 2], [1, 2, 3], [3, 2, 1]), "batch_sizes must differ"),
        (([0, 1, 2], [1, 2, 3], [3, 2, 1]), "batch_sizes must be a list of integers from 1"),
        (([1.0, 2.0, 4.0], [1, 2, 3], [3, 2, 1]), "batch_sizes must be a list of integers from 1"),
    ],
)
def test_bad_measurements(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchCostModel().fit(*arguments)


def test_bad_parameters():
    with pytest.raises(ValueError, match="'confidence_level' parameter must be a float in the range"):
        BatchCostModel(confidence_level=1).fit(B, [1, 2, 3], [3, 2, 1])
    with pytest.raises(ValueError, match="not fitted yet"):
        BatchCostModel().optimal_batch_size()
    model = BatchCostModel().fit(B, [1, 2, 3], [3, 2, 1])
    with pytest.raises(ValueError, match="between the timed sizes, 1 and 4"):
        model.predict_seconds(5)
    with pytest.raises(ValueError, match="batch_size must be positive"):
        model.predict_steps([1, 0])
    with pytest.raises(ValueError, match="step_times must be 'measured' or 'affine'"):
        model.predict_seconds(2, step_times="line")
    with pytest.raises(ValueError, match=r"At least 3 batch sizes must reach the target.* 0\.5 is out of reach"):
        BatchCostModel().fit(B, [1, 2, 3], [np.nan] * 3, target=0.5)


# -- measurements


class Counted:
    """An estimator whose step takes as long, and whose target needs as many steps, as was said; it learns nothing."""

    constants = CONSTANTS[0]
    n_rows = 1000
    seen: list = []
    passes: dict = {}

    def __init__(self, batch_size=1, random_state=None, max_time=3.0, verbose=1):
        self.__dict__.update(locals())
        del self.__dict__["self"]
        self.n_updates_ = self.n_calls = 0

    def get_params(self, deep=True):
        return {name: self.__dict__[name] for name in "batch_size random_state max_time verbose".split()}

    def set_params(self, **parameters):
        self.__dict__.update(parameters)
        return self

    def partial_fit(self, X, y):
        assert (self.max_time, self.verbose) == (None, 0)
        *_, fixed, row = self.constants
        self.n_updates_ += -(-len(X) // self.batch_size)
        self.n_calls += 1
        self.passes[self.batch_size] = self.n_calls
        self.history_ = {"seconds": [self.n_updates_ * (fixed + row * self.batch_size)], "updates": [self.n_updates_]}
        self.seen.append((self.random_state, X[:, 0]))


def left(one, X, y):
    """Steps to the target that are left."""
    n, c, *_ = one.constants
    return n + c / one.batch_size - one.n_updates_


def measured(batch_sizes, **settings):
    X = np.arange(Counted.n_rows, dtype=float)[:, None]
    settings = {"target": 0.0, "objective": left, "random_state": 0, "max_iter": 200} | settings
    return BatchCostModel.measure(Counted(), X, X[:, 0], batch_sizes, **settings)


def test_measured_constants_are_those_of_the_estimator():
    model = measured([1, 3, 7, 50, 300, 1000])
    found = (model.min_steps_, model.min_examples_, model.fixed_seconds_, model.row_seconds_)
    np.testing.assert_allclose(found, CONSTANTS[0], rtol=1e-6)
    # 6500 steps of 1 row are 7 passes over 1000 of them, 106.4 of all rows 107
    assert (Counted.passes[1], Counted.passes[1000]) == (7, 107)
    assert model.measurements_.target == 0.0
    assert model.measurements_.step_seconds.shape == (6, 15)
    assert model.measurements_.n_steps.shape == (6, 5)


def test_a_pass_sees_every_row_once_in_batches_of_fit():
    Counted.seen = []
    measured([90, 450, 1000], n_seeds=2, n_repeats=1)
    runs = {}
    for seed, rows in Counted.seen:
        runs.setdefault(seed, []).append(rows)
    whole = np.arange(Counted.n_rows)
    timed = [seed for seed, calls in runs.items() if all(np.array_equal(rows, whole) for rows in calls)]
    assert (len(runs), len(timed)) == (12, 6)  # a seed of its own for each: two runs, one time and what compiles
    runs = {seed: calls for seed, calls in runs.items() if seed not in timed}
    for calls in runs.values():
        rows = np.concatenate(calls)
        for start in range(0, len(rows) - Counted.n_rows, Counted.n_rows):
            some = rows[start : start + Counted.n_rows]
            np.testing.assert_array_equal(np.sort(some), whole)
            assert not np.array_equal(some, whole)
    # ceil(1000 / 90) = 12 batches of 83 or 84 rows: every call has whole ones
    ends = np.cumsum([len(rows) for rows in next(iter(runs.values()))]) % Counted.n_rows
    assert set(ends) <= set(np.arange(12) * Counted.n_rows // 12)


def test_runs_that_are_given_up_are_no_measurement():
    model = measured([1, 50, 300, 1000], max_iter=50)  # N steps of 1000 rows are 100 passes
    assert np.isnan(model.measurements_.n_steps[-1]).all()
    assert 1000 not in model.batch_sizes_
    with pytest.raises(ValueError, match=r"Got 2 of 3\. The target 0 is out of reach"):
        measured([1, 50, 1000], max_iter=50)


@pytest.fixture
def problem(binary):
    return binary


def found_by(problem, estimator=None, X=None, **settings):
    estimator = MiniBatchSGDClassifier() if estimator is None else estimator
    settings = {"target": 0.5, "n_seeds": 2, "n_repeats": 2, "random_state": 0} | settings
    return BatchCostModel.measure(estimator, problem.X if X is None else X, problem.y, [4, 16, 64, 240], **settings)


def test_steps_are_those_of_partial_fit(problem):
    steps = found_by(problem).measurements_.n_steps[-1]
    for k in steps:  # of all rows: nothing is drawn
        one, count = MiniBatchSGDClassifier(solver="schedule_free", batch_size=240, random_state=0), 0
        while count == 0 or training_objective(one, *problem) > 0.5:
            one.partial_fit(*problem, classes=[0, 1])
            count += 1
        assert count - 1 < k <= count


def test_steps_depend_on_random_state_alone(problem):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 the global generator is what this is about
    fitted = MiniBatchSGDClassifier(max_iter=2, tol=None, random_state=5).fit(*problem)
    kept = pickle.dumps(fitted)
    one, other = found_by(problem, fitted), found_by(problem, MiniBatchSGDClassifier())
    np.testing.assert_array_equal(one.measurements_.n_steps, other.measurements_.n_steps)
    assert (found_by(problem, random_state=1).measurements_.n_steps != one.measurements_.n_steps).any()
    assert pickle.dumps(fitted) == kept
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_sparse_rows_and_an_objective_of_ones_own(problem):
    X = sparse.csr_array(problem.X)

    def error(one, X, y):
        return 1.0 - one.score(X, y)

    model = found_by(problem, X=X, objective=error, target=0.2)
    assert (model.measurements_.n_steps > 0).all()
    with pytest.raises(ValueError, match="objective must return a number"):
        found_by(problem, objective=lambda one, X, y: np.nan)


def test_steps_are_those_of_weighted_rows(problem, rng):
    """Rows of weight zero are left out, and only the ratios of the others matter."""
    weights = rng.integers(0, 3, 240) * np.where(problem.y == 1, 4.0, 1.0)
    kept = weights > 0
    some, n = (problem.X[kept], problem.y[kept], weights[kept]), int(kept.sum())
    settings = {"target": 0.4, "n_seeds": 2, "n_repeats": 1, "random_state": 0}

    def steps(X, y, weights, sizes=(4, 16, n)):
        model = BatchCostModel.measure(MiniBatchSGDClassifier(), X, y, sizes, sample_weight=weights, **settings)
        return model.measurements_.n_steps

    found = steps(*problem, weights)
    np.testing.assert_array_equal(steps(*some), found)
    np.testing.assert_array_equal(steps(*problem, 64 * weights), found)
    assert (steps(*some[:2], None) != found).any()
    one, count = MiniBatchSGDClassifier(solver="schedule_free", batch_size=n, random_state=0), 0
    while count == 0 or training_objective(one, *problem, weights) > 0.4:  # of all rows: nothing is drawn
        one.partial_fit(*some[:2], classes=[0, 1], sample_weight=some[2] / some[2].mean())
        count += 1
    assert np.all(abs(found[-1] - count) < 1)  # the order of the rows within a step may count
    with pytest.raises(ValueError, match=f"from 1 to the number of rows, {n}"):
        steps(*problem, weights, (4, 16, n + 1))


@pytest.mark.parametrize(
    "weights", [np.ones(3), np.zeros(240), -np.ones(240), np.full(240, np.nan)], ids=["few", "zero", "negative", "nan"]
)
def test_wrong_weights(weights, problem):
    with pytest.raises(ValueError, match="sample_weight must have a finite number for each of the 240 rows"):
        found_by(problem, sample_weight=weights)


def test_an_objective_of_ones_own_has_all_rows(problem, rng):
    """Those of weight zero, too, so that it can have weights of its own."""
    seen = []

    def loss(one, X, y):
        seen.append(len(X))
        return training_objective(one, X, y)

    sizes = {"target": 0.5, "n_seeds": 1, "n_repeats": 1, "random_state": 0}
    weights = rng.integers(0, 2, 240)
    BatchCostModel.measure(
        MiniBatchSGDClassifier(), *problem, [4, 8, 16], sample_weight=weights, objective=loss, **sizes
    )
    assert set(seen) == {240}


def test_training_objective(problem):
    weights = np.arange(240.0)
    fitted = MiniBatchSGDClassifier(max_iter=3, tol=None, random_state=0).fit(*problem, sample_weight=weights)
    assert training_objective(fitted, *problem, weights) == pytest.approx(fitted.loss_curve_[-1], rel=1e-12)
    fitted = MiniBatchSGDClassifier(max_iter=3, tol=None, random_state=0).fit(*problem)
    assert training_objective(fitted, *problem) == pytest.approx(fitted.loss_curve_[-1], rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": np.nan}, "target=nan"),
        ({"n_seeds": 0}, "n_seeds=0"),
        ({"n_repeats": 1.5}, "n_repeats=1.5"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"confidence_level": 0}, "confidence_level"),
    ],
)
def test_bad_settings_of_measure(problem, settings, message):
    with pytest.raises(ValueError, match=message):
        found_by(problem, **settings)


def test_sizes_beyond_the_rows(problem):
    with pytest.raises(ValueError, match="from 1 to the number of rows, 240"):
        BatchCostModel.measure(MiniBatchSGDClassifier(), *problem, [4, 16, 241], target=0.5)


# -- the display


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_display_shows_measurements_curves_and_the_choice(pyplot, rng):
    model = noisy(CONSTANTS[0], rng)
    display = BatchCostDisplay.from_cost_model(model)
    b, seconds = display.measured_.get_data()
    np.testing.assert_array_equal(b, model.batch_sizes_)
    np.testing.assert_allclose(seconds, model.n_steps_ * model.step_seconds_)
    for line, step_times in [(display.predicted_, "measured"), (display.affine_, "affine")]:
        np.testing.assert_allclose(line.get_ydata(), model.predict_seconds(line.get_xdata(), step_times=step_times))
    assert set(display.optimum_.get_xdata()) == {model.optimal_batch_size()}
    low, high = model.optimal_range()
    assert (display.range_.get_x(), display.range_.get_x() + display.range_.get_width()) == (low, high)
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")
    assert display.figure_ is display.ax_.figure


def test_display_of_an_estimator_draws_into_given_axes(pyplot, problem):
    _, ax = pyplot.subplots()
    settings = {"target": 0.5, "n_seeds": 2, "n_repeats": 2, "random_state": 0}
    display = BatchCostDisplay.from_estimator(
        MiniBatchSGDClassifier(), *problem, batch_sizes=[4, 16, 64, 240], ax=ax, **settings
    )
    assert display.ax_ is ax
    expected = found_by(problem, **settings)
    np.testing.assert_array_equal(display.cost_model.measurements_.n_steps, expected.measurements_.n_steps)
    again = display.plot()
    assert again is display
    assert display.ax_ is not ax
