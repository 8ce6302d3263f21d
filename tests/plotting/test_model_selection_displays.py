"""Displays of batch sizes and rates: what they show, where they draw, what they refuse."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchSGDClassifier
from skminibatch.model_selection import BatchSizeCurve, LearningRateRange, learning_rate_range_test
from skminibatch.plotting import BatchSizeCurveDisplay, LearningRateRangeDisplay

SETTINGS = {"max_iter": 2, "tol": None, "random_state": 0, "device": "base"}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def curve():
    rng = np.random.default_rng(0)
    quantities = rng.random((5, 3, 4))
    return BatchSizeCurve(np.array([64, 4, 16]), *quantities, "batch_size", 0.25)


@pytest.mark.parametrize(
    ("quantity", "names"), [("score", ["train_scores", "test_scores"]), ("fit_seconds", ["fit_seconds"])]
)
def test_means_and_deviations_by_size(quantity, names, curve):
    display = BatchSizeCurveDisplay.from_record(curve, quantity=quantity)
    for line, band, name in zip(display.lines_, display.fill_between_, names, strict=True):
        found = getattr(curve, name)[[1, 2, 0]]  # by size
        np.testing.assert_array_equal(line.get_xdata(), [4, 16, 64])
        np.testing.assert_array_equal(line.get_ydata(), found.mean(axis=1))
        edges = band.get_paths()[0].vertices[:, 1]
        assert edges.min() == pytest.approx((found.mean(axis=1) - found.std(axis=1)).min())
        assert edges.max() == pytest.approx((found.mean(axis=1) + found.std(axis=1)).max())
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.figure is display.figure_


def test_a_curve_from_an_estimator(binary):
    pipeline = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(**SETTINGS))
    ax = plt.figure().subplots()
    settings = {"batch_sizes": [8, 32], "cv": 2, "scoring": "neg_log_loss"}
    display = BatchSizeCurveDisplay.from_estimator(pipeline, *binary, ax=ax, **settings)
    assert display.ax_ is ax
    assert ax.get_ylabel() == "neg log loss"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train", "test"]
    assert display.plot(quantity="epochs", line_kwargs={"c": "k"}) is display
    assert display.lines_[0].get_color() == "k"
    assert display.ax_.get_ylabel() == "epochs of a fit"


def test_a_quantity_that_is_not_there(curve):
    with pytest.raises(ValueError, match=r"The 'quantity' parameter of BatchSizeCurveDisplay.plot must be a str among"):
        BatchSizeCurveDisplay.from_record(curve, quantity="memory")


def test_the_range_of_rates(binary):
    settings = {"n_updates": 20, "random_state": 0}
    estimator = MiniBatchSGDClassifier(solver="sgd", **SETTINGS)
    found = learning_rate_range_test(estimator, *binary, **settings)
    display = LearningRateRangeDisplay.from_estimator(estimator, *binary, **settings)
    np.testing.assert_array_equal(display.line_.get_xdata(), found.rates)
    np.testing.assert_array_equal(display.line_.get_ydata(), found.losses)
    np.testing.assert_array_equal(display.trials_.get_ydata(), found.trial_losses)
    np.testing.assert_array_equal(display.suggestion_line_.get_xdata(), found.suggestion)
    assert "eta0" in display.ax_.get_xlabel()
    ax = plt.figure().subplots()
    assert display.plot(ax, suggestion_kwargs={"color": "r"}).ax_ is ax
    assert display.suggestion_line_.get_color() == "r"


def test_runs_that_diverged_are_left_out():
    numbers = np.array([1.0, 0.5])
    found = LearningRateRange(numbers[::-1], numbers, 0.5, numbers, np.array([np.inf, 0.3]), "eta0", 64)
    display = LearningRateRangeDisplay.from_record(found)
    np.testing.assert_array_equal(display.trials_.get_xdata(), [0.5])
    display.figure_.canvas.draw()
