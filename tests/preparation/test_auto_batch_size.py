"""``batch_size='auto'``: what it chooses and why, that it is deterministic, and the table of step costs behind it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor, calibrate
from skminibatch.optimizers.saga import saga_batch_size
from skminibatch.preparation import begin
from skminibatch.preparation.batch_size import chosen_size, noise_scale_after_a_pass
from skminibatch.schedules import AutoSize, step_costs
from skminibatch.schedules.auto import OVERALL, PILOT, SHARE
from skminibatch.schedules.choice import PilotNoise


def flat(seconds_a_step=0.0, seconds_a_row=1e-6):
    """A table of steps of this cost, whatever the length of the rows."""
    sizes = 2 ** np.arange(14)
    seconds = [[seconds_a_step + seconds_a_row * int(b) for b in sizes]] * 2
    table = {"batch_sizes": sizes.tolist(), "row_lengths": [1, 1000], "seconds": seconds}
    return {"dense": table, "csr": table}


@pytest.fixture
def table(tmp_path):
    def write(**costs):
        path = tmp_path / "costs.json"
        path.write_text(json.dumps(flat(**costs)))
        return str(path)

    return write


def exactly(noise_scale):
    """As if pilots had found the same noise scale."""
    return PilotNoise(noise_scale, (noise_scale, noise_scale))


def noisy(rng, n_rows=4000, noise=3.0):
    X = rng.standard_normal((n_rows, 4))
    return X, X @ [1.0, 2.0, 3.0, 4.0] + noise * rng.standard_normal(n_rows)


def test_the_choice_is_the_least_of_its_formula(table):
    """With a fixed cost f and a cost d a row, ``(1 + b / B) (f / b + d)`` is least at ``sqrt(B f / d)``."""
    part = AutoSize(table(seconds_a_step=2e-4))
    critical = 440.0
    found = part.chosen(exactly(critical / OVERALL), 1e9, 30, "dense")
    assert found.batch_size == pytest.approx(np.sqrt(critical * 200), rel=0.2)  # of a table of powers of two
    assert found.critical_batch_size == pytest.approx(critical)
    assert "440 rows" in found.sentence
    cheap = AutoSize(table()).chosen(exactly(critical / OVERALL), 1e9, 30, "csr")
    assert cheap.batch_size == pytest.approx(SHARE * critical, abs=1)  # nothing to gain from larger batches
    sizes = [part.chosen(exactly(noise), 1e9, 30, "dense").batch_size for noise in (1e2, 1e3, 1e4, 1e5)]
    assert sizes == sorted(set(sizes))


def test_limits_of_the_choice(table):
    part = AutoSize(table())
    for noise, n_rows, expected in [(1e9, 1600, 100), (1e-9, 1600, 1), (1e9, 5, 1)]:  # sixteen steps an epoch
        assert part.chosen(exactly(noise), n_rows, 30, "dense").batch_size == expected
    found = part.chosen(exactly(np.inf), 1600, 30, "dense")
    assert found.batch_size == PILOT
    assert "no gradient stood out of its noise" in found.reason


def test_pilots_give_an_interval(rng):
    """It holds the noise scale after many pilots around what the first ones found, as often as its level says."""
    held = []
    for _ in range(2000):
        scales = np.exp(5.0 + 0.5 * rng.standard_normal(8))
        found = PilotNoise.of(scales, 1)
        assert found.scale == scales[0]
        assert found.interval[0] <= found.scale <= found.interval[1]
        held.append(found.interval[0] <= np.exp(5.0 + 0.5 * rng.standard_normal()) <= found.interval[1])
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)  # that of another pilot
    assert PilotNoise.of([3.0, 9.0, 4.0, 9.0], 3).scale == 4.0
    assert np.isnan(PilotNoise.of([10.0], 1).interval).all()
    assert PilotNoise.of([10.0, 20.0, np.inf], 1) == (10.0, (10.0, np.inf))
    assert PilotNoise.of([0.0, 0.0], 1) == (0.0, (0.0, 0.0))


def test_the_stored_table_is_one(rng):
    for storage in ("dense", "csr"):
        costs = step_costs.load(None, storage)
        assert np.all(np.diff(costs.seconds, axis=1) >= 0)
        for length, seconds in zip(costs.row_lengths, costs.seconds, strict=True):
            np.testing.assert_allclose(costs.of(length), seconds)
        between = costs.of(np.sqrt(costs.row_lengths[0] * costs.row_lengths[1]))
        np.testing.assert_allclose(between, np.sqrt(costs.seconds[0] * costs.seconds[1]))
        np.testing.assert_allclose(costs.of(1e9), costs.seconds[-1])


@pytest.mark.parametrize(
    "content", ["", "{}", '{"dense": {}}', json.dumps({"dense": {**flat()["dense"], "seconds": [[1.0]]}}), None]
)
def test_a_wrong_table_is_an_error(content, tmp_path, regression):
    path = tmp_path / "costs.json"
    if content is not None:
        path.write_text(content)
    model = MiniBatchSGDRegressor(batch_size=AutoSize(costs=str(path)), device="base")
    with pytest.raises(ValueError, match=r"costs.json' is no table of step costs"):
        model.fit(*regression)
    assert not hasattr(model, "coef_")


def test_calibration_writes_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibrate, "BATCH_SIZES", (64, 128))
    monkeypatch.setattr(calibrate, "ROW_LENGTHS", {"dense": (2, 3), "csr": (2, 4)})
    monkeypatch.setattr(calibrate, "MOST_ROWS", 128)
    path = tmp_path / "mine.json"
    calibrate.main([str(path), "--repeats", "1"])
    assert "dense, 3 numbers a row" in capsys.readouterr().out
    assert step_costs.load(str(path), "dense").seconds.shape == (2, 2)
    assert step_costs.load(str(path), "csr").row_lengths.tolist() == [2, 4]


def with_zeros(X):
    """Rows in CSR, most of them zeros beside the numbers given."""
    return sparse.hstack([X, sparse.csr_matrix((len(X), 40 - X.shape[1]))]).tocsr()


@pytest.mark.parametrize("storage", [np.asarray, with_zeros])
@pytest.mark.parametrize("solver", ["auto", "schedule_free"])
def test_fit_says_what_it_chose_and_why(solver, storage, rng):
    """By a pilot, a usual one where the solver is open, or as many as cost least where rows come one by one."""
    X, y = noisy(rng)
    settings = {"solver": solver, "random_state": 3, "max_iter": 3, "tol": None}
    first, second = (MiniBatchSGDRegressor(batch_size="auto", **settings).fit(storage(X), y) for _ in range(2))
    why = "one epoch of SGD is followed" if storage is np.asarray else "dual coordinate ascent takes one after another"
    why = "with a noise scale of" if solver == "schedule_free" else why
    assert f"; batch_size='auto' took {first.batch_size_} rows: {why}" in first.stop_reason_
    assert first.stop_reason_.startswith("reached max_iter=3 epochs")
    np.testing.assert_array_equal(first.coef_, second.coef_)
    sizes = first.history_["batch_size"]  # later epochs of the default may be full steps
    np.testing.assert_allclose(sizes[sizes < len(y)], first.batch_size_, rtol=0.1)
    explicit = MiniBatchSGDRegressor(batch_size=first.batch_size_, **settings)
    np.testing.assert_array_equal(explicit.fit(storage(X), y).coef_, first.coef_)


@pytest.mark.parametrize("learning_rate", ["auto", "constant"])
def test_features_that_the_pilot_does_not_meet_change_nothing(learning_rate, rng, monkeypatch):
    """A pilot on sparse rows is made with the features that occur in its sample alone."""
    X, y = noisy(rng)
    X[rng.random(X.shape) < 0.5] = 0
    wide = sparse.csr_matrix((len(X), 40), dtype=float).tolil()
    wide[:, [3, 7, 30, 39]] = X
    noises = []
    for rows in (X, sparse.csr_matrix(X), wide.tocsr()):
        monkeypatch.setattr(begin, "chosen_size", lambda *given: noises.append(noise_of(*given)) or chosen_size(*given))
        settings = {"learning_rate": learning_rate, "eta0": None if learning_rate == "auto" else 0.01}
        settings |= {"solver": "schedule_free", "random_state": 0, "max_iter": 1, "tol": None}
        MiniBatchSGDRegressor(batch_size="auto", **settings).fit(rows, y)
    assert np.isfinite(noises).all()
    np.testing.assert_allclose(noises[1:], noises[2], rtol=1e-9)
    np.testing.assert_allclose(noises[0], noises[2], rtol=0.5 if learning_rate == "auto" else 1e-9)  # other coordinates


def noise_of(part, start, schedule, smoothness, *_):
    """The noise scale after a pilot; the parameters stay as they are."""
    before = start.params.copy()
    noise = noise_scale_after_a_pass(start, schedule, smoothness)
    np.testing.assert_array_equal(start.params, before)
    return noise


def test_a_stream_keeps_the_choice_of_its_first_chunk(rng):
    X, y = noisy(rng, 3000)
    settings = {"batch_size": "auto", "solver": "schedule_free", "random_state": 0}
    model = MiniBatchSGDRegressor(**settings)
    chosen = set()
    for rows in np.array_split(np.arange(3000), 3):
        model.partial_fit(X[rows], y[rows])
        chosen.add((model.batch_size_, model.stop_reason_))
    assert len(chosen) == 1
    tiny = MiniBatchSGDRegressor(**settings).partial_fit(X[:20], y[:20]).partial_fit(X, y)
    assert tiny.batch_size_ == PILOT
    assert "too few" in tiny.stop_reason_


def test_where_the_solver_is_open_an_epoch_is_fast_and_has_many_steps(rng, table):
    """The smallest batches with a row at 1.05 times the least cost; a sixteenth of the rows where these are few."""
    X, y = noisy(rng, 8000)
    for seconds_a_step, expected in [(0.0, 1), (1e-6, 32), (1e-5, 256), (1.0, 500)]:
        part = AutoSize(table(seconds_a_step=seconds_a_step))
        model = MiniBatchSGDRegressor(batch_size=part, device="base", max_iter=2, random_state=0).fit(X, y)
        assert model.batch_size_choice_.batch_size == expected
        assert model.batch_size_choice_.low <= expected <= model.batch_size_choice_.high


def test_saga_takes_the_size_of_its_theory(rng, table):
    """With a cost of a step alone, the larger the better; with one of rows alone, that of the fewest rows."""
    X, y = noisy(rng, 20_000)
    settings = {"solver": "saga", "random_state": 0, "max_iter": 2, "tol": None, "alpha": 0.01}
    sizes = []
    for costs in ({"seconds_a_row": 1e-12, "seconds_a_step": 1e-6}, {}):
        model = MiniBatchSGDRegressor(batch_size=AutoSize(costs=table(**costs)), **settings).fit(X, y)
        assert f"took {model.batch_size_} rows: by the smoothness of batches" in model.stop_reason_
        sizes.append(model.batch_size_)
    smooth, model = model._fitted.smoothness, model._fitted.model
    fewest = saga_batch_size(smooth, model.strong_convexity(), 20_000)
    assert fewest / 2 <= sizes[1] <= 2 * fewest  # of a table of powers of two
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize("case", ["separable", "constant", "no signal", "few rows", "kink", "explicit rate", "adam"])
def test_there_is_always_a_choice(case, rng):
    """Perfectly separable data, a gradient of zero, pure noise, three rows, losses with a kink, rates of one's own."""
    X = rng.standard_normal((300, 3))
    y = np.where(X[:, 0] > 0, 1, 0)
    settings = {"batch_size": "auto", "random_state": 0, "max_iter": 2, "tol": None}
    if case == "separable":
        model = MiniBatchSGDClassifier(**settings).fit(X, y)
    elif case == "constant":
        model = MiniBatchSGDRegressor(**settings).fit(X, np.full(300, 7.0))
    elif case == "no signal":
        model = MiniBatchSGDRegressor(**settings).fit(X, rng.standard_normal(300))
    elif case == "few rows":
        model = MiniBatchSGDClassifier(**settings).fit(X[:3], [0, 1, 1])
    elif case == "kink":
        model = MiniBatchSGDClassifier(loss="hinge", **settings).fit(X, y)
    elif case == "explicit rate":
        model = MiniBatchSGDClassifier(learning_rate="constant", eta0=1e3, **settings).fit(X, y)
    else:
        model = MiniBatchSGDClassifier(solver="adam", **settings).fit(X, y)
    assert 1 <= model.batch_size_ <= len(X)
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("sampler", ["stratified", "neyman"])
def test_a_batch_has_a_row_of_each_stratum(sampler, rng):
    """The least noisy of all gradients ask for batches of a few rows, which ten strata do not fit into."""
    X, y = noisy(rng, n_rows=95, noise=0.01)
    model = MiniBatchSGDRegressor(
        batch_size="auto", sampler=sampler, device="base", max_iter=3, tol=None, random_state=0
    )
    assert model.fit(X, y).batch_size_ == 10
    assert model.stop_reason_.endswith("batch_size='auto' took 10 rows: one of each stratum")
    stream = clone(model)
    for rows in np.array_split(np.arange(95), 3):
        stream.partial_fit(X[rows], y[rows])
    assert stream.t_ == 95
