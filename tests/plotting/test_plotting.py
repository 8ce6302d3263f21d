"""Displays: what they show, where they draw, what they refuse."""

from __future__ import annotations

from copy import deepcopy

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.plotting import NoiseScaleDisplay, TrainingHistoryDisplay


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.figure().subplots()


@pytest.fixture(scope="module")
def fitted(binary):
    settings = {"solver": "schedule_free", "max_iter": 6, "tol": None, "batch_size": 16, "random_state": 0}
    return MiniBatchSGDClassifier(**settings).fit(binary.X[:200], binary.y[:200], X_val=binary.X, y_val=binary.y)


# -- the history


@pytest.mark.parametrize("against", ["epoch", "samples", "updates", "seconds"])
@pytest.mark.parametrize(
    "quantity", ["validation_loss", "penalty", "validation_score", "rate", "batch_size", "gradient_norm"]
)
def test_a_quantity_of_the_history(quantity, against, fitted):
    display = TrainingHistoryDisplay.from_estimator(fitted, quantity=quantity, against=against)
    np.testing.assert_array_equal(display.line_.get_xdata(), fitted.history_[against])
    np.testing.assert_array_equal(display.line_.get_ydata(), fitted.history_[quantity])
    assert display.line_.axes is display.ax_
    assert display.ax_.figure is display.figure_
    assert display.ax_.get_legend().get_texts()[0].get_text() == "MiniBatchSGDClassifier"
    assert display.ax_.get_xlabel()
    assert quantity.split("_")[0] in display.ax_.get_ylabel()


def test_the_objective_is_the_default(fitted):
    display = TrainingHistoryDisplay.from_estimator(fitted)
    np.testing.assert_array_equal(display.line_.get_ydata(), fitted.loss_curve_)
    assert display.ax_.get_xlabel() == "epochs"
    assert display.ax_.get_ylabel() == "objective (loss + penalty)"
    assert display.ax_.get_yscale() == "linear"


@pytest.mark.parametrize("quantity", ["objective", "loss"])
def test_validation_is_drawn_beside_training(quantity, fitted):
    display = TrainingHistoryDisplay.from_estimator(fitted, quantity=quantity, against="updates", name="16 rows")
    updates = fitted.history_["updates"]
    np.testing.assert_array_equal(display.validation_line_.get_xdata(), updates)
    np.testing.assert_array_equal(display.validation_line_.get_ydata(), fitted.history_["validation_loss"])
    np.testing.assert_array_equal(display.best_epoch_line_.get_xdata(), updates[fitted.best_epoch_ - 1])
    assert display.validation_line_.get_color() == display.line_.get_color()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["16 rows, training", "16 rows, validation loss", "best validation score"]
    unnamed = TrainingHistoryDisplay(history=display.history).plot(quantity=quantity)
    assert [text.get_text() for text in unnamed.ax_.get_legend().get_texts()][:2] == ["training", "validation loss"]
    other = display.plot(quantity="rate")
    assert other.validation_line_ is None
    assert other.best_epoch_line_ is None


def test_what_is_not_finite_is_a_gap():
    history = {"epoch": np.arange(3), "noise_scale": np.array([10.0, np.inf, 40.0])}
    display = TrainingHistoryDisplay(history=history).plot(quantity="noise_scale")
    np.testing.assert_array_equal(display.line_.get_ydata(), [10.0, np.nan, 40.0])
    assert display.ax_.get_yscale() == "log"
    assert display.ax_.get_legend() is None
    display.figure_.canvas.draw()


def test_curves_share_axes(ax, binary):
    fitted = MiniBatchSGDClassifier(max_iter=6, tol=None, random_state=0).fit(*binary)
    first = TrainingHistoryDisplay.from_estimator(fitted, ax=ax, name="first")
    second = TrainingHistoryDisplay.from_estimator(fitted, ax=first.ax_, name="second", curve_kwargs={"c": "k"})
    assert first.ax_ is second.ax_ is ax
    assert ax.lines[:] == [first.line_, second.line_]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["first", "second"]
    assert second.line_.get_color() == "k"
    again = first.plot(name="again")
    assert again is first
    assert first.ax_ is not ax
    assert first.line_.get_label() == "again"


def test_without_a_history(fitted, binary):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        TrainingHistoryDisplay.from_estimator(MiniBatchSGDClassifier())
    for other in (LinearRegression(), make_pipeline(StandardScaler(), fitted)):
        with pytest.raises(ValueError, match=f"Got {type(other).__name__} instead"):
            TrainingHistoryDisplay.from_estimator(other.fit(*binary))


def test_quantities_that_are_not_there(fitted, binary):
    for wrong in ({"quantity": "losses"}, {"quantity": "epoch"}, {"against": "loss"}, {"against": 1}):
        (name,) = wrong
        with pytest.raises(
            ValueError, match=f"The '{name}' parameter of TrainingHistoryDisplay.plot must be a str among"
        ):
            TrainingHistoryDisplay.from_estimator(fitted, **wrong)
    unvalidated = MiniBatchSGDClassifier(max_iter=2, tol=None).fit(*binary)
    with pytest.raises(ValueError, match="no finite validation_score: it was not measured"):
        TrainingHistoryDisplay.from_estimator(unvalidated, quantity="validation_score")


# -- the noise scale


def test_curves_of_a_noise_scale(binary):
    found = gradient_noise_scale(MiniBatchSGDClassifier(), *binary, random_state=0)
    display = NoiseScaleDisplay.from_estimator(MiniBatchSGDClassifier(), *binary, random_state=0)
    assert display.noise_scale == found.noise_scale
    assert display.confidence_interval == found.confidence_interval
    sizes = display.steps_line_.get_xdata()
    assert sizes[0] >= 1
    np.testing.assert_allclose(display.steps_line_.get_ydata(), found.steps(sizes))
    np.testing.assert_allclose(display.examples_line_.get_ydata(), found.examples(display.examples_line_.get_xdata()))
    np.testing.assert_allclose(display.critical_line_.get_xdata(), found.noise_scale)
    np.testing.assert_allclose(display.interval_.get_x(), found.confidence_interval[0])
    np.testing.assert_allclose(display.interval_.get_x() + display.interval_.get_width(), found.confidence_interval[1])
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")
    assert display.ax_.get_xlabel() == "batch size (rows)"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels[:2] == ["steps", "rows"]
    assert labels[2] == f"noise scale, {found.noise_scale:.3g} rows"
    assert "95 %" in labels[3]


def test_arguments_go_where_they_belong(ax, binary):
    arguments = {"max_samples": 0.5, "confidence_level": 0.8, "random_state": 1, "sample_weight": np.ones(240)}
    found = gradient_noise_scale(MiniBatchSGDClassifier(), *binary, **arguments)
    display = NoiseScaleDisplay.from_estimator(
        MiniBatchSGDClassifier(),
        *binary,
        **arguments,
        name="half",
        ax=ax,
        steps_kwargs={"ls": ":"},
        examples_kwargs={"color": "k"},
        critical_kwargs={"c": "r"},
        interval_kwargs={"alpha": 0.5},
    )
    assert display.ax_ is ax
    assert (display.noise_scale, display.confidence_level) == (found.noise_scale, 0.8)
    assert display.steps_line_.get_label() == "half: steps"
    assert display.steps_line_.get_linestyle() == ":"
    assert display.examples_line_.get_color() == "k"
    assert display.critical_line_.get_color() == "r"
    assert display.interval_.get_alpha() == 0.5
    again = NoiseScaleDisplay.from_record(found, ax=ax)
    np.testing.assert_array_equal(again.steps_line_.get_ydata(), display.steps_line_.get_ydata())


def test_an_interval_without_end():
    display = NoiseScaleDisplay(noise_scale=30.0, confidence_interval=(10.0, np.inf)).plot()
    assert "10 to no upper limit" in display.interval_.get_label()
    assert display.interval_.get_x() + display.interval_.get_width() == display.steps_line_.get_xdata()[-1]
    assert NoiseScaleDisplay(noise_scale=0.5).plot().interval_ is None
    display.figure_.canvas.draw()


@pytest.mark.parametrize(("interval", "end"), [((np.inf, np.inf), -1), ((1e-9, 1e-8), 0)])
def test_an_interval_beyond_the_curves_is_at_their_end(interval, end):
    """Of a model that was fitted to the same rows, the gradient may be smaller than the noise of rows at random makes it."""
    display = NoiseScaleDisplay(noise_scale=30.0, confidence_interval=interval).plot()
    assert display.interval_.get_x() == display.steps_line_.get_xdata()[end]
    assert display.interval_.get_width() == 0


@pytest.mark.parametrize(("scale", "why"), [(0.0, "no noise"), (np.inf, "hidden by its noise"), (np.nan, "")])
def test_noise_scales_without_a_choice(scale, why):
    with pytest.raises(ValueError, match=f"A noise scale of {scale:g} leaves nothing to choose.*{why}"):
        NoiseScaleDisplay(noise_scale=scale).plot()


def test_the_noise_scale_of_a_training(fitted):
    """Steps and rows add up over the epochs, and obey the curve of one noise scale."""
    fitted = deepcopy(fitted)
    history = fitted.history_
    history["noise_scale"] = np.geomspace(5.0, 200.0, 6)
    display = NoiseScaleDisplay.from_history(fitted)
    at_16 = np.diff(history["updates"], prepend=0)
    fewest_steps = np.sum(at_16 / (1 + history["noise_scale"] / history["batch_size"]))
    fewest_rows = np.sum(at_16 / (1 + history["noise_scale"] / history["batch_size"]) * history["noise_scale"])
    np.testing.assert_allclose(display.noise_scale, fewest_rows / fewest_steps)
    steps, rows = at_16.sum(), np.sum(at_16 * history["batch_size"])
    np.testing.assert_allclose((steps / fewest_steps - 1) * (rows / fewest_rows - 1), 1.0)
    assert display.interval_ is None
    assert display.critical_line_.get_label() == f"critical batch size, {display.noise_scale:.3g} rows"


def test_unmeasured_and_infinite_noise_of_a_training(binary):
    settings = {"solver": "schedule_free", "max_iter": 2, "tol": None, "batch_size": 16, "random_state": 0}
    classifier = MiniBatchSGDClassifier(**settings).fit(*binary)
    history = classifier.history_
    for scales, expected in (([np.nan, 8.0], 8.0), ([8.0, np.inf], 32.0), ([0.0, 16.0], 16 / 3)):
        history["noise_scale"] = np.array(scales)
        np.testing.assert_allclose(NoiseScaleDisplay.from_history(classifier).noise_scale, expected)
    history["noise_scale"] = np.full(2, np.inf)
    with pytest.raises(ValueError, match="hidden by its noise"):
        NoiseScaleDisplay.from_history(classifier)
    single = MiniBatchSGDRegressor(max_iter=1, tol=None, batch_size=1).fit(*binary)
    with pytest.raises(ValueError, match="no noise_scale: it was not measured"):
        NoiseScaleDisplay.from_history(single)
    with pytest.raises(NotFittedError):
        NoiseScaleDisplay.from_history(MiniBatchSGDClassifier())


def test_matplotlib_is_named_where_it_is_missing(fitted, binary, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    for display, method, arguments in (
        (TrainingHistoryDisplay, "from_estimator", (fitted,)),
        (NoiseScaleDisplay, "from_estimator", (fitted, *binary)),
        (NoiseScaleDisplay, "from_history", (fitted,)),
        (NoiseScaleDisplay(noise_scale=1.0), "plot", ()),
    ):
        with pytest.raises(ImportError, match=f"{method} requires matplotlib"):
            getattr(display, method)(*arguments)
