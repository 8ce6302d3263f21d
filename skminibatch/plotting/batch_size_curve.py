"""Scores and effort by batch size, drawn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import StrOptions, validate_parameter_constraints
from sklearn.utils._plotting import _validate_style_kwargs

from skminibatch.contract.typing import RowsLike
from skminibatch.model_selection import BatchSizeCurve, batch_size_curve
from skminibatch.plotting.training import _axes

QUANTITIES = {
    "score": ("train_scores", "test_scores"),
    "fit_seconds": ("fit_seconds",),
    "n_updates": ("n_updates",),
    "epochs": ("epochs",),
}
LABELS = {"fit_seconds": "seconds of a fit", "n_updates": "updates of a fit", "epochs": "epochs of a fit"}


class BatchSizeCurveDisplay:
    """Cross-validated scores, seconds, updates or epochs against the batch size.

    It is recommended to create it with `from_estimator` or `from_record`. All parameters are stored as attributes.

    Parameters
    ----------
    curve : BatchSizeCurve
        What `skminibatch.model_selection.batch_size_curve` found.
    score_name : str, default='score'
        Label of the axis of scores.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The mean over the splits: of scores, that of training and that of the rows left out.
    fill_between_ : list of matplotlib PolyCollection
        The standard deviation over the splits around each line.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skminibatch.model_selection.batch_size_curve : What is drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.plotting import BatchSizeCurveDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> classifier = MiniBatchSGDClassifier(random_state=0)
    >>> display = BatchSizeCurveDisplay.from_estimator(classifier, scale(X), y, batch_sizes=[8, 64], cv=3)
    >>> display.figure_.savefig("batch_sizes.png")  # doctest: +SKIP
    """

    def __init__(self, *, curve: BatchSizeCurve, score_name: str = "score") -> None:
        self.curve = curve
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: RowsLike,
        y: ArrayLike,
        *,
        batch_sizes: ArrayLike,
        quantity: str = "score",
        ax: Any = None,
        **settings: Any,
    ) -> Self:
        """Cross-validate batch sizes, and draw what was found.

        Parameters
        ----------
        estimator : object
            An estimator with the parameter `batch_size`, or a pipeline whose last step has it.
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        batch_sizes : array-like of int or float
            Numbers of rows, or fractions of the rows of training.
        quantity : {'score', 'fit_seconds', 'n_updates', 'epochs'}, default='score'
            What to draw.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **settings : dict
            Other arguments of `batch_size_curve`.

        Returns
        -------
        display : BatchSizeCurveDisplay
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        scoring = settings.get("scoring")
        curve = batch_size_curve(estimator, X, y, batch_sizes=batch_sizes, **settings)
        display = cls(curve=curve, score_name=scoring.replace("_", " ") if isinstance(scoring, str) else "score")
        return display.plot(ax, quantity=quantity)

    @classmethod
    def from_record(cls, curve: BatchSizeCurve, *, quantity: str = "score", ax: Any = None) -> Self:
        """Draw what was found before.

        Parameters
        ----------
        curve : BatchSizeCurve
            What `batch_size_curve` found.
        quantity : {'score', 'fit_seconds', 'n_updates', 'epochs'}, default='score'
            What to draw.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : BatchSizeCurveDisplay
        """
        return cls(curve=curve).plot(ax, quantity=quantity)

    def plot(
        self,
        ax: Any = None,
        *,
        quantity: str = "score",
        line_kwargs: dict[str, Any] | None = None,
        fill_between_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the mean over the splits with its standard deviation.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        quantity : {'score', 'fit_seconds', 'n_updates', 'epochs'}, default='score'
            What to draw.
        line_kwargs : dict, default=None
            Passed to the ``plot`` of matplotlib.
        fill_between_kwargs : dict, default=None
            Passed to the ``fill_between`` of matplotlib.

        Returns
        -------
        display : BatchSizeCurveDisplay
        """
        validate_parameter_constraints(
            {"quantity": [StrOptions(set(QUANTITIES))]},
            {"quantity": quantity},
            caller_name=f"{type(self).__name__}.plot",
        )
        ax = _axes(self, ax)
        sizes, order = self.curve.batch_sizes, np.argsort(self.curve.batch_sizes)
        self.lines_, self.fill_between_ = [], []
        for name in QUANTITIES[quantity]:
            found = getattr(self.curve, name)[order]
            mean, deviation = found.mean(axis=1), found.std(axis=1)
            label = {"train_scores": "train", "test_scores": "test"}.get(name)
            style = _validate_style_kwargs({"marker": ".", "label": label}, line_kwargs or {})
            (line,) = ax.plot(sizes[order], mean, **style)
            band = {"alpha": 0.2, "linewidth": 0, "color": line.get_color()}
            band = _validate_style_kwargs(band, fill_between_kwargs or {})
            self.fill_between_.append(ax.fill_between(sizes[order], mean - deviation, mean + deviation, **band))
            self.lines_.append(line)
        ax.set(xscale="log", xlabel="batch size (rows)", ylabel=LABELS.get(quantity, self.score_name))
        if quantity == "score":
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
