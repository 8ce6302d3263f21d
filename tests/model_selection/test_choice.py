"""The choice of a batch size: the same as that of 'auto', with a range, intervals and a reason."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

from skminibatch import MiniBatchSGDRegressor
from skminibatch.model_selection import BatchSizeChoice, BatchSizeCurve, choose_batch_size
from skminibatch.model_selection.choice import _by_score
from skminibatch.schedules.auto import FEW_ROWS
from skminibatch.schedules.choice import MATTERS, SizeChoice, around
from tests.families import LINEAR, of_estimators

SETTINGS = {"max_iter": 1, "tol": None, "random_state": 0, "device": "base"}


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 4))
    return X, X @ [1.0, 2.0, 3.0, 4.0] + 3.0 * rng.standard_normal(3000)


def of_noise(choice):
    return choice.noise_scale, choice.critical_batch_size


# -- the same as 'auto'


@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_it_is_the_choice_of_auto(storage, estimator_class, problem):
    X = sparse.csr_matrix(problem.X) if storage == "csr" else problem.X
    estimator = estimator_class(**SETTINGS)
    choice = choose_batch_size(estimator, X, problem.y)
    fitted = clone(estimator).set_params(batch_size="auto").fit(X, problem.y)
    assert choice.batch_size == fitted.batch_size_ == fitted.batch_size_choice_.batch_size
    assert (choice.low, choice.high) == (fitted.batch_size_choice_.low, fitted.batch_size_choice_.high)
    assert fitted.batch_size_choice_.noise_scale in (
        pytest.approx(choice.noise_scale),
        pytest.approx(np.nan, nan_ok=True),
    )
    assert f"batch_size='auto' took {choice.sentence}" in fitted.stop_reason_


@of_estimators(LINEAR.estimators)
@pytest.mark.parametrize("solver", ["auto", "schedule_free", "saga", "sdca"])
def test_every_choice_reports_the_noise_with_intervals(solver, estimator_class, problem):
    choice = choose_batch_size(estimator_class(solver=solver, **SETTINGS), *problem)
    for value, interval in [
        (choice.noise_scale, choice.noise_scale_interval),
        (choice.critical_batch_size, choice.critical_batch_size_interval),
    ]:
        assert interval[0] <= value <= interval[1]
    assert choice.low <= choice.batch_size <= choice.high


def test_a_fitted_estimator_stays_as_it_is_and_changes_nothing(estimator_class, problem):
    estimator = estimator_class(**SETTINGS).fit(*problem)
    before = pickle.dumps(estimator)
    choice = choose_batch_size(estimator, *problem)
    assert pickle.dumps(estimator) == before
    assert choice == choose_batch_size(clone(estimator), *problem)


def test_without_auto_there_is_no_record(estimator_class, problem):
    assert estimator_class(**SETTINGS).fit(*problem).batch_size_choice_ is None


def test_the_record_of_a_fit_is_plain_and_frozen(noisy):
    model = MiniBatchSGDRegressor(batch_size="auto", solver="schedule_free", **SETTINGS).fit(*noisy)
    record = model.batch_size_choice_
    assert type(record) is SizeChoice
    assert repr(pickle.loads(pickle.dumps(record))) == repr(record)
    with pytest.raises(FrozenInstanceError):
        record.batch_size = 3


@pytest.mark.parametrize("is_fitted", [False, True])
def test_a_pipeline_is_its_last_step_on_its_own_rows(is_fitted, noisy):
    X, y = noisy
    last = MiniBatchSGDRegressor(solver="schedule_free", **SETTINGS)
    pipeline = make_pipeline(SelectKBest(f_regression, k=1), "passthrough", last)
    if is_fitted:
        pipeline.fit(X[:, ::-1], y)
    before = pickle.dumps(pipeline)
    choice = choose_batch_size(pipeline, X[:, ::-1], y)  # the best feature was the last one
    assert choice == choose_batch_size(last, X[:, [-1]], y)
    assert choice != choose_batch_size(last, X, y)
    assert pickle.dumps(pipeline) == before


def test_weights_and_seeds_are_those_of_a_fit(noisy):
    X, y = noisy
    weights = np.repeat([0.0, 1.0], [1000, 2000])
    estimator = MiniBatchSGDRegressor(solver="schedule_free", **SETTINGS)
    assert choose_batch_size(estimator, X, y, sample_weight=weights) == choose_batch_size(
        estimator, X, y, sample_weight=3 * weights
    )
    assert choose_batch_size(estimator, X, y, random_state=1) == choose_batch_size(
        clone(estimator).set_params(random_state=1), X, y
    )


# -- what it means


def test_the_range_is_where_the_cost_is_near_the_least(noisy):
    choice = choose_batch_size(MiniBatchSGDRegressor(solver="schedule_free", **SETTINGS), *noisy)
    sizes, costs = np.array(choice.batch_sizes), np.array(choice.costs)
    assert costs.min() == 1.0
    assert costs[sizes == choice.batch_size] == 1.0
    inside = (sizes >= choice.low) & (sizes <= choice.high)
    assert costs[inside].max() <= MATTERS
    for end in (np.flatnonzero(inside)[0] - 1, np.flatnonzero(inside)[-1] + 1):
        assert end in (-1, len(sizes)) or costs[end] > MATTERS


def test_the_range_is_around_the_chosen_size():
    found = around(16, [1, 4, 16, 64, 256], [2.0, 3.0, 2.2, 2.4, 2.6])
    assert found["costs"] == (1.0, 1.5, 1.1, 1.2, 1.3)
    assert (found["low"], found["high"]) == (16, 64)  # 1 row is as good, but not what is between
    assert around(100, [1, 10], [1.0, 1.0])["high"] == 100


def test_few_rows_are_wasted(noisy):
    X, y = (np.tile(part, (20, 1) if part.ndim == 2 else 20) for part in noisy)  # so that no limit is in the way
    estimator = MiniBatchSGDRegressor(solver="schedule_free", **SETTINGS)
    rows, time = (choose_batch_size(estimator, X, y, goal=goal) for goal in ("rows", "time"))
    assert of_noise(rows) == of_noise(time)
    wasted = (1 + rows.batch_size / rows.critical_batch_size) / (1 + 1 / rows.critical_batch_size)
    assert wasted <= FEW_ROWS < wasted * (1 + 2 / rows.critical_batch_size) * 1.05
    assert rows.low == 1
    table = choose_batch_size(MiniBatchSGDRegressor(solver="saga", **SETTINGS), X, y, goal="rows")
    assert dict(zip(table.batch_sizes, table.costs, strict=True))[table.batch_size] <= FEW_ROWS


def test_noisier_rows_have_larger_critical_batches(noisy):
    X, y = noisy
    estimator = MiniBatchSGDRegressor(solver="schedule_free", **SETTINGS)
    clean = choose_batch_size(estimator, X, X @ [1.0, 2.0, 3.0, 4.0])
    loud = choose_batch_size(estimator, X, y)
    assert clean.noise_scale_interval[1] < loud.noise_scale_interval[0]
    assert clean.critical_batch_size < loud.critical_batch_size
    assert clean.batch_size < loud.batch_size


def test_too_few_rows_to_measure_the_noise(estimator_class, problem):
    choice = choose_batch_size(estimator_class(**SETTINGS), problem.X[:20], problem.y[:20])
    assert 1 <= choice.low <= choice.batch_size <= choice.high <= 20
    assert np.isnan(choice.noise_scale)
    assert str(choice).startswith(f"{choice.batch_size} rows: ")


# -- by scores


def test_the_score_decides_where_it_differs(binary):
    settings = {"solver": "sgd", "learning_rate": "constant", "eta0": 1e-3, "shuffle": False}
    estimator = LINEAR.estimators[0](**{**SETTINGS, **settings})
    choice = choose_batch_size(estimator, *binary, goal="score", batch_sizes=[100, 1], cv=3, scoring="neg_log_loss")
    assert choice.goal == "score"
    assert choice.batch_sizes == (1, 100)
    assert choice.batch_size == choice.low == choice.high == 1  # two steps at a small rate have learnt nothing
    assert choice.costs[0] > choice.costs[1]


@pytest.mark.parametrize(("behind", "expected"), [([0, 0, 0, 0], (64, 4, 256)), ([9, 0, 9, 0], (16, 16, 16))])
def test_of_equal_scores_the_choice_by_time_decides(behind, expected):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((4, 5)) * 1e-3 - np.array(behind)[:, None]
    none = np.full((4, 5), np.nan)
    curve = BatchSizeCurve(np.array([4, 16, 64, 256]), none, scores, none, none, none, "batch_size", 0.25)
    found = _by_score(BatchSizeChoice(60, 1, 100, "a reason"), curve)
    if expected[0] == 16:
        assert found.batch_size in (16, 256)
    else:
        assert (found.batch_size, found.low, found.high) == expected


# -- drawing, errors


@pytest.mark.parametrize("goal", ["time", "rows"])
def test_the_plot_shows_the_choice(goal, noisy):
    choice = choose_batch_size(MiniBatchSGDRegressor(solver="schedule_free", **SETTINGS), *noisy, goal=goal)
    ax = choice.plot()
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), choice.batch_sizes)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), choice.costs)
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), choice.batch_size)
    other = plt.figure().subplots()
    assert choice.plot(other) is other
    plt.close("all")


def test_dual_coordinate_ascent_takes_any_size(noisy):
    choice = choose_batch_size(MiniBatchSGDRegressor(solver="sdca", **SETTINGS), *noisy)
    assert (choice.low, choice.high) == (1, 3000)
    assert "dual coordinate ascent takes one after another" in choice.sentence


def test_without_a_cost_there_is_nothing_to_draw(noisy):
    choice = choose_batch_size(MiniBatchSGDRegressor(**SETTINGS), *(part[:30] for part in noisy))
    with pytest.raises(ValueError, match="no cost to draw"):
        choice.plot()


def test_what_is_refused(noisy, binary):
    with pytest.raises(ValueError, match="Expected 'estimator' to be an estimator of skminibatch"):
        choose_batch_size(SGDClassifier(), *binary)
    with pytest.raises(ValueError, match="The 'goal' parameter of choose_batch_size must be a str among"):
        choose_batch_size(MiniBatchSGDRegressor(), *noisy, goal="speed")
    for sizes in ([0.1, 0.2], [8]):
        with pytest.raises(ValueError, match="batch_sizes must be at least two different integers"):
            choose_batch_size(MiniBatchSGDRegressor(**SETTINGS), *noisy, goal="score", batch_sizes=sizes)
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
        choose_batch_size(MiniBatchSGDRegressor(), *noisy, sample_weight=np.zeros(3000))
