"""Figures of training, of the noise of its gradients and of the cost of a batch size, in scikit-learn's Display convention.

A display holds what was computed; `from_estimator` computes and draws, `plot` draws again. matplotlib is imported when
something is drawn.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import StrOptions, validate_parameter_constraints
from sklearn.utils._plotting import _validate_style_kwargs
from sklearn.utils.validation import check_is_fitted

from skminibatch.cost_model import BatchCostModel
from skminibatch.diagnostics import gradient_noise_scale

AGAINST = {
    "epoch": "epochs",
    "samples": "rows seen",
    "updates": "updates",
    "seconds": "seconds",
}
QUANTITIES = {
    "objective": "objective (loss + penalty)",
    "rate": "learning rate",
    "batch_size": "batch size (rows)",
    "noise_scale": "noise scale (rows)",
}  # those whose label is more than their name
IN_RATIOS = {"rate", "batch_size", "gradient_norm", "noise_scale", "update_variance", "temperature"}
POINTS = 200  # of a curve
AROUND = 64.0  # times below and above the critical batch size that a curve shows


def _axes(display, ax):
    """The axes to draw on: those given, or those of a new figure."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax


def _history(estimator) -> dict[str, np.ndarray]:
    """The history of a fitted estimator, its objective included."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "history_"):
        raise ValueError(
            f"Expected 'estimator' to be an estimator of skminibatch, which has the attribute history_. Got "
            f"{type(estimator).__name__} instead; of a pipeline, pass the last step."
        )
    return {"objective": estimator.loss_curve_, **estimator.history_}


class TrainingHistoryDisplay:
    """How a quantity went during training.

    It is recommended to create it with `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    history : dict of ndarray of shape (n_epochs,)
        Quantities after each epoch, as in the attribute ``history_`` of an estimator.
    name : str, default=None
        Label of the curve; None draws no legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.plotting import TrainingHistoryDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> small, large = (MiniBatchSGDClassifier(batch_size=b, random_state=0).fit(scale(X), y) for b in (8, 256))
    >>> display = TrainingHistoryDisplay.from_estimator(small, against="updates", name="8 rows")
    >>> display = TrainingHistoryDisplay.from_estimator(large, against="updates", name="256 rows", ax=display.ax_)
    >>> display.figure_.savefig("objective.png")  # doctest: +SKIP
    """

    def __init__(self, *, history, name=None):
        self.history = history
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, *, quantity="objective", against="epoch", name=None, ax=None, curve_kwargs=None):
        """Draw a quantity of the history of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package.
        quantity : str, default='objective'
            What to draw: ``'objective'``, or a key of ``history_`` (``'loss'``, ``'penalty'``, ``'validation_score'``,
            ``'rate'``, ``'batch_size'``, ``'gradient_norm'``, ``'noise_scale'``, ...).
        against : {'epoch', 'samples', 'updates', 'seconds'}, default='epoch'
            What it is drawn against.
        name : str, default=None
            Label of the curve; None takes the name of the class of the estimator.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure. Several quantities or estimators share a figure this way.
        curve_kwargs : dict, default=None
            Passed to the ``plot`` of matplotlib.

        Returns
        -------
        display : TrainingHistoryDisplay

        Raises
        ------
        NotFittedError
            For an estimator that is not fitted.
        ValueError
            For an estimator without history, an unknown quantity, and a quantity that was never measured.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        display = cls(history=_history(estimator), name=type(estimator).__name__ if name is None else name)
        return display.plot(ax, quantity=quantity, against=against, curve_kwargs=curve_kwargs)

    def plot(self, ax=None, *, quantity="objective", against="epoch", name=None, curve_kwargs=None):
        """Draw a quantity.

        Entries that are not finite, such as the noise scale of batches of one row, leave a gap. Quantities that are
        compared by their ratio (rate, batch size, norms and noise) have a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        quantity : str, default='objective'
            A key of `history`.
        against : {'epoch', 'samples', 'updates', 'seconds'}, default='epoch'
            What it is drawn against.
        name : str, default=None
            Label of the curve; None takes that of the display.
        curve_kwargs : dict, default=None
            Passed to the ``plot`` of matplotlib.

        Returns
        -------
        display : TrainingHistoryDisplay
        """
        ax = _axes(self, ax)
        validate_parameter_constraints(
            {
                "quantity": [StrOptions(set(self.history) - set(AGAINST))],
                "against": [StrOptions(set(AGAINST) & set(self.history))],
            },
            {"quantity": quantity, "against": against},
            caller_name=f"{type(self).__name__}.plot",
        )
        numbers = np.asarray(self.history[quantity], float)
        if not np.isfinite(numbers).any():
            raise ValueError(f"The history has no finite {quantity}: it was not measured in this training.")
        label = self.name if name is None else name
        (self.line_,) = ax.plot(
            self.history[against],
            np.where(np.isfinite(numbers), numbers, np.nan),
            **_validate_style_kwargs({"label": label, "marker": "."}, curve_kwargs or {}),
        )
        ax.set(xlabel=AGAINST[against], ylabel=QUANTITIES.get(quantity, quantity.replace("_", " ")))
        if quantity in IN_RATIOS:
            ax.set_yscale("log")
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


class NoiseScaleDisplay:
    """What a batch size costs in steps and in rows, and the critical batch size, where both cost twice the fewest.

    With the noise scale S, training with batches of b rows takes ``1 + S / b`` times the fewest steps and ``1 + b / S``
    times the fewest rows. It is recommended to create a display with `from_estimator`, `from_record` or `from_history`.
    All parameters are stored as attributes.

    Parameters
    ----------
    noise_scale : float
        In rows.
    confidence_interval : tuple of (float, float), default=None
        Limits of the noise scale; the upper one may be infinite. None: not known.
    confidence_level : float, default=None
        Level of the interval.
    name : str, default=None
        Goes before the labels of the curves.

    Attributes
    ----------
    steps_line_, examples_line_ : matplotlib Line2D
        The curves of steps and of rows.
    critical_line_ : matplotlib Line2D
        The vertical line at the critical batch size.
    interval_ : matplotlib Patch or None
        The confidence interval; None if it is not known.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skminibatch.diagnostics.gradient_noise_scale : What is drawn.

    References
    ----------
    McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018, arXiv:1812.06162.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.plotting import NoiseScaleDisplay
    >>> display = NoiseScaleDisplay.from_estimator(MiniBatchSGDClassifier(), *load_digits(return_X_y=True), random_state=0)
    >>> display.figure_.savefig("noise_scale.png")  # doctest: +SKIP
    """

    def __init__(self, *, noise_scale, confidence_interval=None, confidence_level=None, name=None):
        self.noise_scale = noise_scale
        self.confidence_interval = confidence_interval
        self.confidence_level = confidence_level
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        sample_weight=None,
        max_samples=None,
        confidence_level=0.95,
        random_state=None,
        name=None,
        ax=None,
        **kwargs,
    ):
        """Measure the noise scale where an estimator stands, and draw what follows.

        Parameters
        ----------
        estimator : object
            An estimator of this package, fitted or not: one that is not is looked at where `fit` would start.
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows to look at.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        max_samples : int or float, default=None
            Rows to draw (a float: a share of them); None takes all.
        confidence_level : float, default=0.95
            Level of the interval.
        random_state : int, RandomState instance or None, default=None
            Draws the rows and the micro-batches of the interval.
        name : str, default=None
            Goes before the labels of the curves.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Other arguments of `plot`.

        Returns
        -------
        display : NoiseScaleDisplay

        Raises
        ------
        ValueError
            For a noise scale that is zero or infinite, and for what `gradient_noise_scale` rejects.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        record = gradient_noise_scale(
            estimator,
            X,
            y,
            sample_weight=sample_weight,
            max_samples=max_samples,
            confidence_level=confidence_level,
            random_state=random_state,
        )
        return cls.from_record(record, name=name, ax=ax, **kwargs)

    @classmethod
    def from_record(cls, record, *, name=None, ax=None, **kwargs):
        """Draw what follows from a noise scale that was measured before.

        Parameters
        ----------
        record : skminibatch.diagnostics.NoiseScale
            What `gradient_noise_scale` found.
        name : str, default=None
            Goes before the labels of the curves.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Other arguments of `plot`.

        Returns
        -------
        display : NoiseScaleDisplay
        """
        display = cls(
            noise_scale=record.noise_scale,
            confidence_interval=record.confidence_interval,
            confidence_level=record.confidence_level,
            name=name,
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_history(cls, estimator, *, name=None, ax=None, **kwargs):
        """Draw what follows from the noise scales that an estimator met while it was fitted.

        A step with batches of b rows makes ``1 / (1 + S / b)`` of the progress of a step without noise. The critical batch
        size of the whole training is the mean noise scale over this progress (McCandlish et al. 2018, appendix D.1).
        Epochs whose noise scale was not measured are left out.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package.
        name : str, default=None
            Goes before the labels of the curves.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Other arguments of `plot`.

        Returns
        -------
        display : NoiseScaleDisplay

        Raises
        ------
        NotFittedError
            For an estimator that is not fitted.
        ValueError
            For an estimator without history, and for batches of one row, whose noise is not measured.
        """
        check_matplotlib_support(f"{cls.__name__}.from_history")
        history = _history(estimator)
        scales = history["noise_scale"]
        steps = np.diff(history["updates"], prepend=0)
        measured = ~np.isnan(scales)
        if not measured.any():
            raise ValueError("The history has no noise_scale: it was not measured in this training.")
        scales, steps, sizes = scales[measured], steps[measured], history["batch_size"][measured]
        progress = steps / (1.0 + scales / sizes)
        with np.errstate(divide="ignore"):  # a noise scale of zero, and only infinite ones
            weighted = steps / (1.0 / scales + 1.0 / sizes)  # progress times noise scale, where that is infinite too
            mean = float(weighted.sum() / progress.sum())
        return cls(noise_scale=mean, name=name).plot(ax, **kwargs)

    def plot(
        self, ax=None, *, name=None, steps_kwargs=None, examples_kwargs=None, critical_kwargs=None, interval_kwargs=None
    ):
        """Draw steps and rows against the batch size.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        name : str, default=None
            Goes before the labels of the curves; None takes that of the display.
        steps_kwargs, examples_kwargs : dict, default=None
            Passed to the ``plot`` of matplotlib, for the two curves.
        critical_kwargs : dict, default=None
            Passed to the ``axvline`` of matplotlib, for the critical batch size.
        interval_kwargs : dict, default=None
            Passed to the ``axvspan`` of matplotlib, for the interval.

        Returns
        -------
        display : NoiseScaleDisplay
        """
        ax = _axes(self, ax)
        scale, name = self.noise_scale, self.name if name is None else name
        if not 0 < scale < np.inf:
            raise ValueError(
                f"A noise scale of {scale:g} leaves nothing to choose: "
                + ("the gradient is hidden by its noise." if scale > 0 else "the gradients have no noise.")
            )
        sizes = np.geomspace(max(scale / AROUND, 1.0), max(scale, 1.0) * AROUND, POINTS)
        prefix = "" if name is None else f"{name}: "

        def style(given, **defaults):
            return _validate_style_kwargs(defaults, given or {})

        (self.steps_line_,) = ax.plot(sizes, 1.0 + scale / sizes, **style(steps_kwargs, label=f"{prefix}steps"))
        (self.examples_line_,) = ax.plot(sizes, 1.0 + sizes / scale, **style(examples_kwargs, label=f"{prefix}rows"))
        critical = {"label": f"{prefix}critical batch size, {scale:.3g} rows", "color": "0.3", "linestyle": "--"}
        self.critical_line_ = ax.axvline(scale, **style(critical_kwargs, **critical))
        self.interval_ = None
        if self.confidence_interval is not None:
            low, high = self.confidence_interval
            limit = f"{high:.3g}" if np.isfinite(high) else "no upper limit"
            level = "" if self.confidence_level is None else f"{100 * self.confidence_level:g} % "
            band = {"label": f"{prefix}{level}interval, {low:.3g} to {limit}", "color": "0.3", "alpha": 0.15}
            band = style(interval_kwargs, **band, linewidth=0)
            self.interval_ = ax.axvspan(*np.clip((low, high), sizes[0], sizes[-1]), **band)
        ax.set_xscale("log")
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set(xlabel="batch size (rows)", ylabel="times the fewest possible")
        ax.legend(loc="upper center", framealpha=1.0)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class BatchCostDisplay:
    """The time to a target against the batch size: measured, predicted, and as the closed form has it.

    It is recommended to use `from_estimator` or `from_cost_model` to create a display.

    Parameters
    ----------
    cost_model : BatchCostModel
        Fitted.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Both axes are logarithmic.
    figure_ : matplotlib Figure
        Figure of the axes.
    measured_ : matplotlib Line2D
        Geometric means of the steps times medians of the step times, a point for each batch size that ran.
    predicted_ : matplotlib Line2D
        The curve of steps times the measured step times, interpolated.
    affine_ : matplotlib Line2D
        The curve of steps times the line of step times.
    optimum_ : matplotlib Line2D
        Vertical line at the batch size that `BatchCostModel.optimal_batch_size` chooses.

    Examples
    --------
    >>> import numpy as np
    >>> from skminibatch.cost_model import BatchCostModel
    >>> from skminibatch.plotting import BatchCostDisplay
    >>> b = 2 ** np.arange(9)
    >>> model = BatchCostModel().fit(b, step_seconds=4e-6 + 1e-6 * b, n_steps=100 + 6400 / b)
    >>> display = BatchCostDisplay.from_cost_model(model)
    >>> display.ax_.get_xlabel()
    'batch size b'
    """

    def __init__(self, *, cost_model: BatchCostModel):
        self.cost_model = cost_model

    @classmethod
    def from_cost_model(cls, cost_model: BatchCostModel, *, ax=None) -> Self:
        """Draw a fitted `BatchCostModel`.

        Parameters
        ----------
        cost_model : BatchCostModel
            Fitted.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a new figure.

        Returns
        -------
        display : BatchCostDisplay
        """
        return cls(cost_model=cost_model).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls, estimator, X: ArrayLike, y: ArrayLike, *, batch_sizes: ArrayLike, target: float, ax=None, **measurement
    ) -> Self:
        """Measure an estimator, and draw what was found.

        Parameters
        ----------
        estimator : object
            A mini-batch estimator of this package, fitted or not; it is left as it is.
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        batch_sizes : array-like of int
            At least 3 sizes.
        target : float
            Value of the objective to be reached.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a new figure.
        **measurement : dict
            Further parameters of `BatchCostModel.measure`.

        Returns
        -------
        display : BatchCostDisplay
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        model = BatchCostModel.measure(estimator, X, y, batch_sizes, target=target, **measurement)
        return cls.from_cost_model(model, ax=ax)

    def plot(self, ax=None) -> Self:
        """Draw the time to the target.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a new figure.

        Returns
        -------
        display : BatchCostDisplay
        """
        ax = _axes(self, ax)
        model = self.cost_model
        best = model.optimal_batch_size()
        sizes = model.batch_sizes_
        curve = np.geomspace(sizes[0], sizes[-1], POINTS)
        (self.predicted_,) = ax.plot(curve, model.predict_seconds(curve), color="C0", label="predicted")
        affine = model.predict_seconds(curve, step_times="affine")
        (self.affine_,) = ax.plot(curve, affine, color="C1", linestyle="--", label="with affine step times")
        (self.measured_,) = ax.plot(sizes, model.n_steps_ * model.step_seconds_, "o", color="C0", label="measured")
        self.optimum_ = ax.axvline(best, color="0.6", linestyle=":", zorder=0, label=f"chosen: {best}")
        ax.set(xscale="log", yscale="log", xlabel="batch size b", ylabel="seconds to the target")
        ax.set_xticks(sizes, [str(b) for b in sizes])
        ax.minorticks_off()
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
