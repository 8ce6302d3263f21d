"""Diagnostics: exact values, intervals that cover, and what every one of them must do."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, astuple
from functools import wraps
from inspect import signature
from itertools import combinations, product

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import scale

from skminibatch import MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor, diagnostics
from skminibatch.diagnostics import (
    adam_signal_to_noise,
    expected_improvement,
    gradient_noise_scale,
    gradient_variance,
    intra_batch_correlation,
    noise_anisotropy,
)
from skminibatch.diagnostics._sample import Sample
from tests.examined import at
from tests.families import ESTIMATORS

NEEDED = {"stationary_covariance": {"learning_rate": 1e-3}}  # arguments without a default


def complete(function):
    """The diagnostic with the arguments that it needs."""
    return wraps(function)(lambda *args, **kwargs: function(*args, **{**NEEDED.get(function.__name__, {}), **kwargs}))


FUNCTIONS = [getattr(diagnostics, name) for name in diagnostics.__all__ if name.islower()]
ALL = [complete(function) for function in FUNCTIONS if "estimator" in signature(function).parameters]
FEW = 60  # rows, for what is asked of every diagnostic of every estimator
OF_FEW = {"intra_batch_correlation": {"batch_size": 8}}  # else they are no batch
NEEDS_A_LINEAR_MODEL = {"smoothness", "inverse_hessian_bias"}
every_diagnostic = pytest.mark.parametrize("diagnostic", ALL, ids=lambda function: function.__name__)
each_estimator = pytest.mark.parametrize(
    ("diagnostic", "estimator_class"),
    [
        (diagnostic, estimator_class)
        for diagnostic in ALL
        for estimator_class in ESTIMATORS
        if "coef_init" in signature(estimator_class.fit).parameters or diagnostic.__name__ not in NEEDS_A_LINEAR_MODEL
    ],
    ids=lambda value: value.__name__,
)


def small(estimator_class, **settings):
    """An estimator with few parameters, by those of the settings that it knows."""
    known = estimator_class().get_params()
    settings = {"hidden_layer_sizes": (4,), "random_state": 0, **settings}
    return estimator_class(**{name: setting for name, setting in settings.items() if name in known})


def numbers(record):
    return [number for number in astuple(record) if not isinstance(number, (tuple, str))] + list(
        record.confidence_interval
    )


# -- what every diagnostic does


@pytest.mark.slow
@each_estimator
def test_dense_and_sparse_rows_agree(diagnostic, estimator_class, problem):
    X, y = problem.X[:FEW], problem.y[:FEW]
    estimator = small(estimator_class, learning_rate="constant", eta0=0.01)  # sparse features are not centered
    settings = {"random_state": 0, **OF_FEW.get(diagnostic.__name__, {})}
    dense = diagnostic(estimator, X, y, **settings)
    again = diagnostic(estimator, sparse.csr_matrix(X), y, **settings)
    for found, expected in zip(numbers(again), numbers(dense), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
@each_estimator
def test_the_estimator_is_left_alone(diagnostic, estimator_class, problem):
    X, y = problem.X[:FEW], problem.y[:FEW]
    new, fitted = (small(estimator_class, max_iter=2, tol=None) for _ in range(2))
    for estimator in (new, fitted.fit(X, y)):
        before = pickle.dumps(estimator)
        diagnostic(estimator, X, y, **OF_FEW.get(diagnostic.__name__, {}))
        assert pickle.dumps(estimator) == before


def test_a_new_estimator_is_where_fit_would_start(estimator_class, problem):
    """`fit` with a rate that moves nothing stays at its start."""
    rate = {"eta0": 1e-300, "learning_rate_init": 1e-300}
    settings = {"solver": "sgd", "learning_rate": "constant", "max_iter": 1, "tol": None, "random_state": 7, **rate}
    new, fitted = (small(estimator_class, **settings) for _ in range(2))
    found, expected = (gradient_noise_scale(one, *problem, random_state=0) for one in (new, fitted.fit(*problem)))
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=1e-9)


@every_diagnostic
def test_the_same_random_state_gives_the_same_record(diagnostic, binary):
    estimator = MiniBatchSGDClassifier()
    first, second = (diagnostic(estimator, *binary, max_samples=0.8, random_state=3) for _ in range(2))
    np.testing.assert_equal(astuple(first), astuple(second))


@every_diagnostic
def test_records_are_read_by_people_and_written_by_nobody(diagnostic, binary):
    record = diagnostic(MiniBatchSGDClassifier(), *binary)
    assert repr(record).startswith(f"{type(record).__name__}(\n  ")
    assert all(f"  {name}=" in repr(record) for name in record.__dataclass_fields__)
    with pytest.raises(FrozenInstanceError):
        record.n_samples = 3


@every_diagnostic
def test_weights_count(diagnostic, regression):
    """A row of weight two is two rows, in the sums; one of weight zero is none."""
    X, y = regression
    weights = np.ones(240)
    weights[200:] = 0
    estimator = at(np.full(5, 0.3), 1.0)
    half = diagnostic(estimator, X, y, sample_weight=weights, random_state=0)
    assert half.n_samples <= 200
    np.testing.assert_equal(
        [*numbers(half)[:4]], [*numbers(diagnostic(estimator, X[:200], y[:200], random_state=0))[:4]]
    )


@every_diagnostic
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_samples": 1.5}, "max_samples"),
        ({"max_samples": 2}, "max_samples"),
        ({"confidence_level": 1.0}, "confidence_level"),
        ({"random_state": "zero"}, "random_state"),
        ({"sample_weight": -np.ones(240)}, "Negative values in data passed to `sample_weight`"),
        ({"sample_weight": np.ones(3)}, "sample_weight.shape"),
    ],
    ids=str,
)
def test_wrong_arguments(diagnostic, arguments, message, binary):
    with pytest.raises(ValueError, match=message):
        diagnostic(MiniBatchSGDClassifier(), *binary, **arguments)


@every_diagnostic
def test_estimators_of_others_are_named(diagnostic, binary):
    with pytest.raises(ValueError, match=r"to be an estimator of skminibatch\. Got Pipeline instead"):
        diagnostic(make_pipeline(MiniBatchSGDClassifier()), *binary)


@every_diagnostic
def test_wrong_rows(diagnostic, binary):
    with pytest.raises(ValueError, match="at least 4 rows"):
        diagnostic(MiniBatchSGDClassifier(), binary.X[:3], [0, 1, 1])
    X = binary.X.copy()
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        diagnostic(MiniBatchSGDClassifier(), X, binary.y)
    fitted = MiniBatchSGDClassifier(max_iter=2, tol=None).fit(*binary)
    with pytest.raises(ValueError, match="features"):
        diagnostic(fitted, binary.X[:, :2], binary.y)


def test_gradients_beyond_all_numbers_are_an_error(regression):
    X, y = regression
    network = MiniBatchMLPRegressor(hidden_layer_sizes=(4,), random_state=0)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="is not a number: the gradients of these rows are"):
        gradient_noise_scale(network, X * 1e150, y)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_unit_of_the_target_cancels(scale, regression):
    """Squared gradients come close to the limits of floating-point numbers."""
    X, y = regression
    looks = {expected_improvement: "noise_scale", noise_anisotropy: "cosine", gradient_variance: "tau"}
    for diagnostic, name in looks.items():
        found, expected = (
            diagnostic(MiniBatchSGDRegressor(alpha=0.0), X, factor * y, random_state=0) for factor in (scale, 1.0)
        )
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)


def test_five_rows_give_an_interval(rng):
    """Without some of them, there is no noise along the curvature."""
    for _ in range(20):
        X, y = rng.standard_normal((5, 3)), 10 * np.arange(5.0)
        low, high = expected_improvement(MiniBatchSGDRegressor(), X, y, random_state=0).confidence_interval
        assert 0 <= low <= high


def test_lengths_of_rows_in_float32():
    """Their squares are beyond float32 long before the rows are."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)).astype(np.float32), np.arange(40) % 2
    settings = {"alpha": 0.0, "learning_rate": "constant", "fit_intercept": False}
    small, large = (
        gradient_variance(MiniBatchSGDClassifier(**settings), np.float32(factor) * X, y) for factor in (1.0, 1e20)
    )
    assert large.tau == pytest.approx(small.tau, rel=1e-6)


@every_diagnostic
def test_separable_data_give_finite_records(diagnostic):
    X = np.linspace(-1, 1, 300)[:, None]
    X[:, 0] += 0.2 * np.sign(X[:, 0])
    classifier = MiniBatchSGDClassifier(alpha=0, max_iter=50, tol=None).fit(X, X[:, 0] > 0)
    assert not np.isnan(
        np.concatenate([np.ravel(part) for part in numbers(diagnostic(classifier, X, X[:, 0] > 0))])
    ).any()


# -- the noise scale


def population(u, c, sigma, alpha):
    """(|G|^2, tr Sigma) of ``x ~ N(0, I), y = e``, at the coefficients u and the intercept c."""
    d, square = len(u), u @ u
    residual = square + c**2 + sigma**2  # E r^2
    gradient = np.append(u * (1 + alpha), c)
    mean = np.append(u, c)
    squares = square * (d + 2) + d * (c**2 + sigma**2) + residual  # E r^2 (|x|^2 + 1)
    return gradient @ gradient, squares - mean @ mean


def test_noise_scale_of_all_rows_is_exact(regression):
    X, y = regression
    u, c, alpha = np.array([1.0, 0.2, 0.0, -0.4, 0.1]), 2.0, 0.1
    found = gradient_noise_scale(at(u, c, alpha), X, y)
    gradients = (X @ u + c - y)[:, None] * np.column_stack([X, np.ones(240)])
    mean = gradients.mean(axis=0)
    trace = np.sum((gradients - mean) ** 2) / 240
    gradient = mean + alpha * np.append(u, 0)
    np.testing.assert_allclose(found.trace_covariance, trace, rtol=1e-10)
    np.testing.assert_allclose(found.objective_gradient_norm, np.linalg.norm(gradient), rtol=1e-10)
    np.testing.assert_allclose(found.noise_scale, trace / (gradient @ gradient), rtol=1e-10)
    with pytest.warns(FutureWarning, match="is called noise_scale since version 0.2"):
        assert found.critical_batch_size == found.noise_scale
    b = np.geomspace(1, 1e4, 9)  # the trade-off curve is a hyperbola
    np.testing.assert_allclose((found.steps(b) - 1) * (found.examples(b) - 1), 1.0, rtol=1e-12)


@pytest.mark.slow
def test_the_interval_covers_the_population():
    """95 % intervals from 200 samples of 400 rows cover the noise scale of their distribution in 91 to 99 %."""
    rng = np.random.default_rng(5)
    u, c, sigma, alpha = np.array([0.3, -0.2, 0.1, 0.0]), 0.2, 1.0, 0.1
    square_norm, trace = population(u, c, sigma, alpha)
    regressor, inside = at(u, c, alpha), []
    for seed in range(200):
        X, y = rng.standard_normal((400, 4)), sigma * rng.standard_normal(400)
        low, high = gradient_noise_scale(regressor, X, y, random_state=seed).confidence_interval
        inside.append(low <= trace / square_norm <= high)
    assert abs(np.mean(inside) - 0.95) < 0.04  # 2.6 standard errors


@pytest.mark.slow
def test_a_twentieth_of_the_rows_is_enough():
    """The median error is below 10 %, and 91 to 99 % of the intervals cover the value of all rows."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((20_000, 6))
    y = X @ [1.0, 0.5, 0.0, 0.0, -0.5, 0.2] + rng.logistic(size=20_000) > 0.5
    start = MiniBatchSGDClassifier()
    exact = gradient_noise_scale(start, X, y).noise_scale
    records = [gradient_noise_scale(start, X, y, max_samples=0.05, random_state=seed) for seed in range(200)]
    assert all(record.n_samples == 1000 for record in records)
    assert np.median([abs(record.noise_scale / exact - 1) for record in records]) < 0.1
    covered = [record.confidence_interval[0] <= exact <= record.confidence_interval[1] for record in records]
    assert abs(np.mean(covered) - 0.95) < 0.04  # 2.6 standard errors


def test_noise_scale_along_a_training():
    """Of batches of 64 of 1,797 digits, at five points: both moments without bias, and so is their ratio."""
    X, y = load_digits(return_X_y=True)
    X, y = scale(X), y % 2
    classifier = MiniBatchSGDClassifier(solver="schedule_free", random_state=0)
    for point in range(5):
        exact = gradient_noise_scale(classifier, X, y)
        samples = [Sample(classifier, X, y, None, 64, seed) for seed in range(60)]
        # from a part of the rows, the square of the norm may come out below zero, and the norm of a record as zero
        moments = [sample.statistics(sample.micro_batches()).moments() for sample in samples]
        squares, traces = np.array(moments).T
        for found, expected in ((traces, exact.trace_covariance), (squares, exact.objective_gradient_norm**2)):
            assert abs(found.mean() - expected) < 4.5 * found.std(ddof=1) / np.sqrt(60)
        deviations = squares * exact.noise_scale - traces  # of the ratio of means, by the delta method
        error = deviations.std(ddof=1) / np.sqrt(60) / squares.mean()
        assert abs(traces.mean() / squares.mean() - exact.noise_scale) < 4.5 * error
        rows = np.random.default_rng(point).permutation(len(X))[: 32 * 4**point]
        classifier.partial_fit(X[rows], y[rows], classes=[0, 1])


def test_a_gradient_that_may_be_zero_has_no_upper_limit(rng):
    X = rng.standard_normal((300, 3))
    found = gradient_noise_scale(at(np.zeros(3), 0.0), X, rng.standard_normal(300))
    assert found.confidence_interval[1] == np.inf
    assert 0 < found.confidence_interval[0] < found.noise_scale < np.inf  # of these rows, it is finite
    none = gradient_noise_scale(at(np.zeros(3), 0.0), X, np.zeros(300))  # neither gradient nor noise
    assert (none.noise_scale, none.objective_gradient_norm, none.trace_covariance) == (0.0, 0.0, 0.0)
    assert none.confidence_interval == (0.0, 0.0)
    assert (none.steps(1), none.examples(1)) == (1.0, np.inf)
    X = np.concatenate([X, -X])
    flat = gradient_noise_scale(at(np.zeros(3), 0.0), X, np.repeat([1.0, -1.0], 300))  # noise, and no gradient of c
    assert flat.noise_scale > 0


def test_the_former_name_of_the_norm_warns(regression):
    found = gradient_noise_scale(at(np.zeros(5), 0.0), *regression)
    with pytest.warns(FutureWarning, match="renamed to objective_gradient_norm and will be removed in 0.4"):
        assert found.gradient_norm == found.objective_gradient_norm


# -- the variance of a batch


def test_variance_without_replacement_by_drawing(regression, rng):
    X, y = regression
    X, y = X[:30], y[:30]
    u, c = np.array([1.0, 0.2, 0.0, -0.4, 0.1]), 2.0
    found = gradient_variance(at(u, c), X, y, batch_sizes=[1, 5, 30])
    gradients = (X @ u + c - y)[:, None] * np.column_stack([X, np.ones(30)])
    mean = gradients.mean(axis=0)
    np.testing.assert_allclose(found.with_replacement[0], np.mean(np.sum((gradients - mean) ** 2, axis=1)), rtol=1e-10)
    drawn = np.array([np.sum((gradients[rng.permutation(30)[:5]].mean(axis=0) - mean) ** 2) for _ in range(8000)])
    assert abs(drawn.mean() - found.without_replacement[1]) < 4.5 * drawn.std() / np.sqrt(8000)
    assert found.without_replacement[2] == 0
    assert found.confidence_interval[0] < found.trace_covariance < found.confidence_interval[1]


def test_variances_of_batches_by_enumeration(regression):
    """All batches of 3 of 7 rows, with and without replacement."""
    X, y = regression.X[:7], regression.y[:7]
    u, c = np.array([1.0, 0.2, 0.0, -0.4, 0.1]), 2.0
    found = gradient_variance(at(u, c), X, y, batch_sizes=[3])
    gradients = (X @ u + c - y)[:, None] * np.column_stack([X, np.ones(7)])
    gradients = gradients - gradients.mean(axis=0)
    for batches, variance in (
        (product(range(7), repeat=3), found.with_replacement),
        (combinations(range(7), 3), found.without_replacement),
    ):
        squares = [np.sum(gradients[list(rows)].mean(axis=0) ** 2) for rows in batches]
        np.testing.assert_allclose(variance, np.mean(squares), rtol=1e-12)


def test_tau_is_what_importance_sampling_gains(regression):
    """Katharopoulos and Fleuret (2018): the distance of the probabilities from equal ones, and the second moments."""
    X, y = regression
    u, c = np.array([1.0, 0.2, 0.0, -0.4, 0.1]), 2.0
    weights = np.where(np.arange(240) % 3, 1.0, 3.0)
    found = gradient_variance(at(u, c), X, y, batch_sizes=[1, 8], sample_weight=weights)
    gradients = (weights / weights.mean() * (X @ u + c - y))[:, None] * np.column_stack([X, np.ones(240)])
    norms = np.linalg.norm(gradients, axis=1)
    p, square_norm = norms / norms.sum(), np.sum(gradients.mean(axis=0) ** 2)
    assert found.tau == pytest.approx(1 / np.sqrt(1 - np.sum((p - 1 / 240) ** 2) / np.sum(p**2)), rel=1e-9)
    assert found.tau == pytest.approx(np.sqrt(np.mean(norms**2)) / norms.mean(), rel=1e-9)
    second, best = found.with_replacement[0] + square_norm, found.by_importance[0] + square_norm
    assert second / best == pytest.approx(found.tau**2, rel=1e-9)
    assert np.all(found.with_replacement / found.by_importance >= found.tau**2)
    expected = np.sum((norms / 240) ** 2 / p) - square_norm
    np.testing.assert_allclose(found.by_importance, expected / [1, 8], rtol=1e-9)
    some = [
        gradient_variance(at(u, c), X, y, batch_sizes=[1], sample_weight=weights, max_samples=120, random_state=seed)
        for seed in range(80)
    ]
    left = np.array([record.by_importance[0] for record in some])
    assert abs(left.mean() - found.by_importance[0]) < 4.5 * left.std(ddof=1) / np.sqrt(80)
    assert np.median([record.tau for record in some]) == pytest.approx(found.tau, rel=0.02)


def test_importance_sampling_pays_above_a_tau():
    def record(tau):
        return diagnostics.GradientVariance((0.0, 1.0), 0.95, 10, "rows", *(np.ones(1) for _ in range(4)), 1.0, tau)

    assert [record(tau).importance_pays(64) for tau in (1.33, 1.34)] == [False, True]
    assert [record(tau).importance_pays(64, 192) for tau in (1.99, 2.01)] == [False, True]


def test_gradients_of_equal_norms_leave_nothing_to_gain():
    y = np.tile([1.0, -1.0], 20)
    found = gradient_variance(at(np.zeros(1), 0.0), np.zeros((40, 1)), y, batch_sizes=[2])
    assert (found.tau, found.by_importance[0]) == (pytest.approx(1.0), pytest.approx(found.with_replacement[0]))
    none = gradient_variance(at(np.zeros(1), 0.0), np.zeros((40, 1)), np.zeros(40), batch_sizes=[2])
    assert (none.tau, none.by_importance[0], none.importance_pays(2)) == (1.0, 0.0, False)


@pytest.mark.parametrize("batch_sizes", [[0], [241], [2.5], "four"], ids=str)
def test_wrong_batch_sizes(batch_sizes, regression):
    with pytest.raises(ValueError, match="batch_sizes"):
        gradient_variance(MiniBatchSGDRegressor(), *regression, batch_sizes=batch_sizes)


@pytest.mark.slow
@pytest.mark.parametrize("diagnostic", [gradient_noise_scale, gradient_variance, noise_anisotropy])
def test_intervals_hold_where_few_rows_carry_the_variance(diagnostic, rng):
    """A twentieth of rows whose squared gradients have a power law: the record says so, and its interval includes the truth."""
    X = rng.standard_t(2.5, (10_000, 3))
    y, model = X @ [1.0, -1.0, 0.5] + rng.standard_normal(10_000), at(np.zeros(3), 0.0, alpha=0.0)
    quantity = {gradient_noise_scale: "noise_scale", gradient_variance: "trace_covariance"}.get(diagnostic, "alignment")
    exact = getattr(diagnostic(model, X, y), quantity)
    some = [diagnostic(model, X, y, max_samples=0.05, random_state=seed) for seed in range(25)]
    covered = [record.confidence_interval[0] <= exact <= record.confidence_interval[1] for record in some]
    assert np.mean(covered) > 0.95 - 4.5 * np.sqrt(0.05 * 0.95 / 25)
    assert np.mean([record.tail_index > 0.7 for record in some]) > 0.9
    usual = diagnostic(model, np.sign(X) + rng.standard_normal(X.shape), np.sign(y), max_samples=0.05, random_state=0)
    assert usual.tail_index < 0.6


# -- correlation within batches


def test_correlation_of_groups_of_an_offset(rng):
    """y has an offset for each group: the gradient of the intercept is that offset and noise."""
    groups = np.repeat(np.arange(400), 10)
    y = np.sqrt(0.3) * rng.standard_normal(400)[groups] + np.sqrt(0.7) * rng.standard_normal(4000)
    shuffled = rng.permutation(4000)
    found = intra_batch_correlation(
        at(np.zeros(1), 0.0), np.zeros((4000, 1)), y[shuffled], groups=groups[shuffled].astype(str)
    )
    assert found.confidence_interval[0] < 0.3 < found.confidence_interval[1]
    assert found.confidence_interval[1] - found.confidence_interval[0] < 0.15
    assert (found.n_batches, found.batch_size, found.n_samples) == (400, pytest.approx(10), 4000)
    means = y.reshape(400, 10).mean(axis=1)
    np.testing.assert_allclose(found.variance, np.var(means, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(found.effective_batch_size * found.design_effect, 10, rtol=1e-9)


@pytest.mark.parametrize("rho", [-0.1, 0.0, 0.3, 1.0])
def test_the_variance_of_correlated_rows_is_that_of_their_matrix(rho, rng):
    """``1' C 1 / b^2`` for rows with the covariance ``C = (1 - rho) I + rho 1 1'``, whose mean squares are exactly these."""
    k, b = 12, 6
    between, within = rng.standard_normal(k), rng.standard_normal((k, b))
    between -= between.mean()
    within -= within.mean(axis=1, keepdims=True)
    between *= np.sqrt((1 + (b - 1) * rho) / b * (k - 1) / np.sum(between**2))
    within *= np.sqrt((1 - rho) * k * (b - 1) / np.sum(within**2))
    y = (between[:, None] + within).ravel()
    found = intra_batch_correlation(at(np.zeros(1), 0.0), np.zeros((k * b, 1)), y, batch_size=b)
    C = (1 - rho) * np.eye(b) + rho
    np.testing.assert_allclose(found.rho, rho, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.variance, C.sum() / b**2, rtol=1e-12)
    np.testing.assert_allclose(found.design_effect, C.sum() / b, rtol=1e-12)


def test_consecutive_rows_of_a_random_order_are_independent(regression):
    found = intra_batch_correlation(at(np.zeros(5), 0.0), *regression, batch_size=8)
    assert found.n_batches == 30
    assert found.confidence_interval[0] < 0 < found.confidence_interval[1]
    some = intra_batch_correlation(at(np.zeros(5), 0.0), *regression, batch_size=8, max_samples=100)
    assert (some.n_batches, some.n_samples) == (12, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": np.arange(240)}, "No batch has more than one row"),
        ({"groups": np.arange(240) % 2}, "at least 3"),
        ({"groups": np.arange(7)}, "inconsistent numbers of samples"),
        ({"batch_size": 100}, "at least 3"),
        ({"batch_size": 1}, "batch_size"),
    ],
    ids=str,
)
def test_wrong_batches(arguments, message, regression):
    with pytest.raises(ValueError, match=message):
        intra_batch_correlation(MiniBatchSGDRegressor(), *regression, **arguments)


def test_fewer_rows_than_a_batch(regression):
    X, y = regression
    with pytest.raises(ValueError, match=r"needs at least 3 of them. Got 0."):
        intra_batch_correlation(MiniBatchSGDRegressor(), X[:40], y[:40])


def test_gradients_in_one_group_alone_tell_no_interval():
    """Of a hinge loss, whose other rows are beyond the margin: without that group there is no variance at all."""
    X, y = np.where(np.arange(40) % 2, 3.0, -3.0)[:, None], np.arange(40) % 2
    X[10:15] *= -0.1
    model = MiniBatchSGDClassifier(
        loss="hinge", solver="sgd", learning_rate="constant", eta0=1e-12, max_iter=1, tol=None
    )
    found = intra_batch_correlation(model.fit(X, y, coef_init=[[1.0]]), X, y, groups=np.arange(40) // 5)
    assert found.confidence_interval == (-0.25, 1.0)


def test_equal_gradients_have_no_correlation():
    with pytest.raises(ValueError, match="gradients of all rows are equal"):
        intra_batch_correlation(at(np.zeros(1), 0.0), np.zeros((40, 1)), np.zeros(40), batch_size=4)


# -- the signal of Adam


def test_signal_to_noise_of_each_coordinate(regression):
    X, y = regression
    u, c = np.array([1.0, 0.2, 0.0, -0.4, 0.1]), 2.0
    found = adam_signal_to_noise(at(u, c), X, y)
    gradients = (X @ u + c - y)[:, None] * np.column_stack([X, np.ones(240)])
    mean = gradients.mean(axis=0) + 0.1 * np.append(u, 0)
    np.testing.assert_allclose(found.per_coordinate[0], np.abs(mean) / gradients.std(axis=0), rtol=1e-9)
    noise = gradient_noise_scale(at(u, c), X, y)
    np.testing.assert_allclose(found.signal_to_noise, noise.noise_scale**-0.5, rtol=1e-12)
    no_noise = adam_signal_to_noise(at(np.zeros(1), 1.0), np.zeros((40, 1)), np.zeros(40))
    assert (no_noise.signal_to_noise, no_noise.mean_step(3)) == (np.inf, 1.0)
    np.testing.assert_array_equal(no_noise.per_coordinate, [[0.0, np.inf]])


def test_decoupled_decay_is_no_part_of_the_gradient(regression):
    """AdamW shrinks the parameters beside the gradient (Loshchilov and Hutter 2019); Adam has the penalty in it."""
    X, y = regression
    u, c = np.array([1.0, 0.2, 0.0, -0.4, 0.1]), 2.0
    found, without = (
        adam_signal_to_noise(at(u, c, alpha=alpha, solver=solver), X, y)
        for solver, alpha in (("adamw", 5.0), ("adam", 0.0))
    )
    np.testing.assert_allclose(found.per_coordinate, without.per_coordinate, rtol=1e-9)
    np.testing.assert_allclose(found.signal_to_noise, without.signal_to_noise, rtol=1e-9)
    coupled = adam_signal_to_noise(at(u, c, alpha=5.0, solver="adam"), X, y)
    assert coupled.signal_to_noise > 1.2 * without.signal_to_noise


def test_signal_of_coordinates_from_some_rows(rng):
    """Near the optimum the mean of some rows is nearly all noise: its share is taken off, and what is no signal is zero."""
    X = rng.standard_normal((6000, 20))
    w = np.linspace(1, -1, 20)
    y = X @ w + rng.standard_normal(6000)
    for shift, tolerance in ((0.0, None), (0.5, 0.21)):
        model = at(w + shift, 0.0, alpha=0.0)
        exact = adam_signal_to_noise(model, X, y).per_coordinate[0, :-1]
        found = np.array(
            [adam_signal_to_noise(model, X, y, max_samples=300, random_state=seed).per_coordinate for seed in range(40)]
        )[:, 0, :-1]
        if tolerance is None:
            assert 0.9 < np.mean(found == 0) < 0.99  # at a level of 95 %
            assert exact.max() < 0.05
        else:
            np.testing.assert_allclose(np.sqrt(np.mean(found**2, axis=0)), exact, rtol=tolerance)  # 4.5 errors


@pytest.mark.parametrize("batch_size", [1, 16, 256])
def test_mean_step_of_adam(batch_size):
    """Against 500 chains of Adam, whose gradient has a third of the signal of its noise."""
    rng = np.random.default_rng(7)
    w, m, s = np.zeros((3, 500))
    for t in range(1, 2001):
        g = 0.3 + rng.standard_normal(500) / np.sqrt(batch_size)
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        w += (m / (1 - 0.9**t)) / np.sqrt(s / (1 - 0.999**t))
    record = diagnostics.AdamSignalToNoise((0.3, 0.3), 0.95, 500, "rows", 0.3, np.array([[0.3]]))
    assert record.mean_step(batch_size) == pytest.approx(np.mean(w / 2000), rel=0.012)
