"""The noise scale and what it says about batch sizes, drawn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skminibatch.contract.typing import RowsLike
from skminibatch.diagnostics import NoiseScale, gradient_noise_scale
from skminibatch.plotting.training import _axes, _history, _style

POINTS = 200  # of a curve
AROUND = 64.0  # times below and above the noise scale that a curve shows


class NoiseScaleDisplay:
    """What a batch size costs in steps and in rows, and the size at which both cost twice the fewest.

    Where the noise scale is S, batches of b rows take ``1 + S / b`` times the fewest steps and ``1 + b / S`` times the fewest
    rows. The mean of S over a training is the critical batch size of the training. It is recommended to create a display with
    `from_estimator`, `from_record` or `from_history`.
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
    of_training : bool, default=False
        Whether it is the mean over a training, which is the critical batch size, and not the noise scale at one point.

    Attributes
    ----------
    steps_line_, examples_line_ : matplotlib Line2D
        The curves of steps and of rows.
    critical_line_ : matplotlib Line2D
        The vertical line at the noise scale, or at the critical batch size of a training.
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

    def __init__(
        self,
        *,
        noise_scale: np.ndarray | float,
        confidence_interval: tuple[float, float] | None = None,
        confidence_level: float | None = None,
        name: str | None = None,
        of_training: bool = False,
    ) -> None:
        self.noise_scale = noise_scale
        self.confidence_interval = confidence_interval
        self.confidence_level = confidence_level
        self.name = name
        self.of_training = of_training

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: RowsLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        max_samples: float | None = None,
        confidence_level: float = 0.95,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Measure the noise scale where an estimator stands, and draw what follows.

        Parameters
        ----------
        estimator : object
            An estimator of this package, fitted or not; for an unfitted one, the initial parameters are used.
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
    def from_record(cls, record: NoiseScale, *, name: str | None = None, ax: Any = None, **kwargs: Any) -> Self:
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
    def from_history(cls, estimator: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any) -> Self:
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
        return cls(noise_scale=mean, name=name, of_training=True).plot(ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        steps_kwargs: dict[str, Any] | None = None,
        examples_kwargs: dict[str, Any] | None = None,
        critical_kwargs: dict[str, Any] | None = None,
        interval_kwargs: dict[str, Any] | None = None,
    ) -> Self:
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
            Passed to the ``axvline`` of matplotlib, for the vertical line.
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

        (self.steps_line_,) = ax.plot(sizes, 1.0 + scale / sizes, **_style(steps_kwargs, label=f"{prefix}steps"))
        (self.examples_line_,) = ax.plot(sizes, 1.0 + sizes / scale, **_style(examples_kwargs, label=f"{prefix}rows"))
        term = "critical batch size" if self.of_training else "noise scale"
        critical = {"label": f"{prefix}{term}, {scale:.3g} rows", "color": "0.3", "linestyle": "--"}
        self.critical_line_ = ax.axvline(scale, **_style(critical_kwargs, **critical))
        self.interval_ = None
        if self.confidence_interval is not None:
            low, high = self.confidence_interval
            limit = f"{high:.3g}" if np.isfinite(high) else "no upper limit"
            level = "" if self.confidence_level is None else f"{100 * self.confidence_level:g} % "
            band = {"label": f"{prefix}{level}interval, {low:.3g} to {limit}", "color": "0.3", "alpha": 0.15}
            band = _style(interval_kwargs, **band, linewidth=0)
            self.interval_ = ax.axvspan(*np.clip((low, high), sizes[0], sizes[-1]), **band)
        ax.set_xscale("log")
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set(xlabel="batch size (rows)", ylabel="times the fewest possible")
        ax.legend(loc="upper center", framealpha=1.0)
        self.ax_, self.figure_ = ax, ax.figure
        return self
