"""The noise of the gradient while networks train: in the history, and what samplers, schedules and rules make of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, calibrate
from skminibatch.samplers import Importance
from skminibatch.schedules import AutoSize, NormTest, step_costs

SETTINGS = {"hidden_layer_sizes": (8,), "batch_size": 20, "tol": None, "random_state": 0}


def classifier(**settings):
    return MiniBatchMLPClassifier(**{**SETTINGS, **settings})


@pytest.fixture
def blobs(rng):
    """Four classes that overlap."""
    y = np.arange(2000) % 4
    return rng.standard_normal((2000, 4)) + np.eye(4)[y], y


# -- in the history


def test_rows_that_are_not_coupled_tell_the_noise_in_every_epoch(blobs):
    model = classifier(max_iter=4).fit(*blobs)
    assert model.noise_estimator_ == "rows"
    history = model.history_
    for name in ("noise_scale", "update_variance", "temperature"):
        assert np.all(history[name] > 0)


@pytest.mark.parametrize("normalization", ["batch", "ghost", "hybrid"])
def test_micro_batches_tell_the_noise_now_and_then(normalization, blobs):
    """After the first epoch, and then once in so many rows."""
    model = classifier(normalization=normalization, batch_size=5, max_iter=17).fit(*blobs)
    assert model.noise_estimator_ == "micro-batches"
    history = model.history_
    looked = np.isfinite(history["temperature"])
    assert list(history["samples"][looked]) == [2_000, 16_000, 30_000]
    for name in ("noise_scale", "update_variance", "temperature"):
        assert np.all(history[name][looked] > 0)
    ratios = history["update_variance"][looked] / history["temperature"][looked]
    np.testing.assert_allclose(ratios, 2 * history["rate"][looked], rtol=0.2)  # the rate hardly changes in an epoch


def test_a_look_is_seldom_where_batches_are_large(blobs):
    """Four of 256 rows are charged to 20,480."""
    history = classifier(normalization="batch", batch_size=500, max_iter=41).fit(*blobs).history_
    assert list(history["samples"][np.isfinite(history["temperature"])]) == [2_000, 22_000, 42_000, 62_000, 82_000]


@pytest.mark.parametrize("normalization", ["batch", "ghost", "hybrid"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_look_sees_what_the_gradients_are(normalization, dropout, blobs):
    """The kernel that trains, without dropout, against the gradients of the diagnostics; it moves nothing."""
    X, y = blobs
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    fitted = classifier(normalization=normalization, dropout=dropout, max_iter=2, alpha=0.1).fit(
        X, y, sample_weight=weights
    )
    rows = np.random.default_rng(1).permutation(len(y))[:90]
    gradients = fitted._examined(X, y, weights).in_micro_batches_of(20).on(rows)
    theta, before = gradients.theta, gradients.theta.copy()
    found, expected = gradients.quick_statistics(), gradients.statistics([rows])
    for name, ours, theirs in zip(found._fields, found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, err_msg=name)
    np.testing.assert_array_equal(theta, before)


def test_a_look_changes_nothing_but_the_history(blobs, monkeypatch):
    from skminibatch.training import loop

    first = classifier(max_iter=3, normalization="batch").fit(*blobs)
    monkeypatch.setattr(loop, "noise_of_micro_batches", lambda *args: None)
    second = classifier(max_iter=3, normalization="batch").fit(*blobs)
    assert np.isnan(second.history_["noise_scale"]).all()
    np.testing.assert_array_equal(first._theta(), second._theta())
    np.testing.assert_array_equal(first.history_["gradient_norm"], second.history_["gradient_norm"])


def test_the_noise_of_the_history_is_that_of_the_diagnostic(blobs):
    """Estimated from 80 rows of 2,000 now and then, averaged over epochs in which nothing moves."""
    from skminibatch.diagnostics import gradient_noise_scale

    still = {"learning_rate": "constant", "learning_rate_init": 1e-12, "solver": "sgd", "momentum": 0.0, "alpha": 0.0}
    model = classifier(normalization="batch", max_iter=120, **still).fit(*blobs)
    variances = model.history_["temperature"] * 2 / model.history_["rate"] / (1 / 20 - 1 / 2000)
    variances = variances[~np.isnan(variances)]
    assert len(variances) == 17
    fitted = classifier(normalization="batch", max_iter=1, **still).fit(*blobs)
    expected = gradient_noise_scale(fitted, *blobs, random_state=0).trace_covariance
    error = np.std(variances) / np.sqrt(len(variances))
    assert abs(variances.mean() - expected) < 4.5 * error + 0.2 * expected  # micro-batches of 20 rows, there of 32


# -- samplers


@pytest.mark.parametrize("sampler", ["neyman", "importance", "stratified"])
def test_samplers_that_look_at_gradients(sampler, blobs):
    model = classifier(sampler=sampler, max_iter=3).fit(*blobs)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("normalization", ["batch", "ghost", "hybrid"])
@pytest.mark.parametrize("sampler", ["neyman", "importance", "stratified"])
def test_unequal_chances_and_batch_statistics_are_refused(sampler, normalization, blobs):
    with pytest.raises(
        ValueError, match=r"The sampler \w+ gives rows unequal weights, which is not supported together with"
    ):
        classifier(sampler=sampler, normalization=normalization).fit(*blobs)
    with pytest.raises(ValueError, match="gives rows unequal weights"):
        classifier(sampler=sampler, normalization=normalization).partial_fit(*blobs, classes=np.arange(4))


def test_importance_by_smoothness_needs_a_linear_model(blobs):
    with pytest.raises(ValueError, match=r"by='smoothness'\) needs a linear model"):
        classifier(sampler=Importance("smoothness")).fit(*blobs)


def test_importance_follows_the_gradients_of_rows(rng):
    """Rows whose gradients are large come more often, and the weighted gradient stays unbiased."""
    X, y = rng.standard_normal((300, 3)), rng.standard_normal(300)
    y[:10] += 50.0
    regressor = MiniBatchMLPRegressor(hidden_layer_sizes=(5,), random_state=0)
    gradients, sampler = regressor._examined(X, y, None), Importance()
    memory = sampler.observe(sampler.start(300, None, 0), gradients)
    shares = memory.shares
    norms = np.sqrt(np.sum(np.concatenate(list(gradients.each())) ** 2, axis=1))
    np.testing.assert_allclose(shares, 0.5 / 300 + 0.5 * norms / norms.sum(), rtol=1e-9)
    assert shares[:10].sum() > 0.2


# -- batch sizes


@pytest.mark.parametrize("schedule", ["norm_test", "inner_product_test", "cabs", "noise_scale"])
def test_schedules_that_follow_the_variance(schedule, blobs):
    sizes = classifier(batch_size=schedule, max_iter=5).fit(*blobs).history_["batch_size"]
    assert np.isfinite(sizes).all()
    with pytest.raises(
        ValueError, match=f"batch_size='{schedule}' follows the variance of the rows of a batch, and a norm"
    ):
        classifier(batch_size=schedule, normalization="batch").fit(*blobs)


def test_a_schedule_follows_the_noise(rng):
    """Labels at random make the noise scale infinite, and the batches grow."""
    X, y = rng.standard_normal((2000, 4)), rng.integers(2, size=2000)
    model = classifier(batch_size=NormTest(start=20, every=20, debias=True), max_iter=10).fit(X, y)
    assert model.history_["batch_size"][-1] > 2 * model.history_["batch_size"][0]


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix])
def test_the_automatic_size(normalization, storage, blobs):
    settings = {"batch_size": "auto", "normalization": normalization, "max_iter": 2}
    first, second = (classifier(**settings).fit(storage(blobs[0]), blobs[1]) for _ in range(2))
    assert f"batch_size='auto' took {first.batch_size_} rows: with a noise scale of" in first.stop_reason_
    np.testing.assert_array_equal(first._theta(), second._theta())
    stream = classifier(**settings).partial_fit(storage(blobs[0]), blobs[1], classes=np.arange(4))
    assert stream.batch_size_ >= 2


def test_what_a_row_costs(blobs):
    gradients = classifier()._examined(*blobs, None)
    assert gradients.model.cost_of_rows(gradients.data) == (4 * 8 + 8 + 8 * 4 + 4, "mlp")
    X = sparse.random_array((100, 50), density=0.1, format="csr", rng=np.random.default_rng(0))
    gradients = classifier()._examined(X, np.arange(100) % 4, None)
    assert gradients.model.cost_of_rows(gradients.data) == (5 * 8 + 8 + 8 * 4 + 4, "mlp")


def test_networks_have_a_table(tmp_path, monkeypatch, blobs):
    costs = step_costs.load(None, "mlp")
    assert np.all(np.diff(costs.seconds, axis=0) > 0)  # more parameters take longer
    monkeypatch.setattr(calibrate, "BATCH_SIZES", (64, 128))
    monkeypatch.setattr(calibrate, "ROW_LENGTHS", {"dense": (2, 3), "mlp": (9, 16)})
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"csr": "stays"}))
    calibrate.main([str(path), "--repeats", "1", "--kinds", "mlp"])
    assert set(json.loads(path.read_text())) == {"csr", "mlp"}
    assert step_costs.load(str(path), "mlp").row_lengths.tolist() == [9, 16]
    assert [calibrate.width(size) for size in (9, 16)] == [2, 3]
    assert classifier(batch_size=AutoSize(costs=str(path)), max_iter=1).fit(*blobs).batch_size_ <= 128


# -- scaling rules


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize("rule", ["linear", "sqrt", "adascale", "adam", "adam_update", "adam_sde", "surge"])
def test_scaling_rules(rule, normalization, blobs):
    settings = {"learning_rate": "constant", "solver": "adam" if rule != "adascale" else "sgd", "lr_scaling": rule}
    model = classifier(base_batch_size=10, normalization=normalization, max_iter=2, **settings).fit(*blobs)
    factor = model.history_["rate"][0] / model.learning_rate_init
    assert 0.5 < factor <= 2.0 + 1e-12
    if rule == "surge":
        assert model._fitted.state.peak_batch_size > 0
