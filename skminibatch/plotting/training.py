"""The history of a training, drawn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import StrOptions, validate_parameter_constraints
from sklearn.utils._plotting import _validate_style_kwargs
from sklearn.utils.validation import check_is_fitted

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
BESIDE_VALIDATION = {"objective", "loss"}
IN_RATIOS = {"rate", "batch_size", "gradient_norm", "noise_scale", "update_variance", "temperature"}


def _axes(display, ax):
    """The axes to draw on: those given, or those of a new figure."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax


def _style(given, **defaults) -> dict[str, Any]:
    """The style of a part of a figure: what is given, and the defaults otherwise."""
    return _validate_style_kwargs(defaults, given or {})


def _history(estimator) -> dict[str, np.ndarray]:
    """The history of a fitted estimator, its objective included."""
    check_is_fitted(estimator)
    if "history_" not in vars(estimator):
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
    validation_line_ : matplotlib Line2D or None
        The loss of the validation rows, dashed, beside the objective or the loss.
    best_epoch_line_ : matplotlib Line2D or None
        Where the validation score was highest, beside the loss of the validation rows.
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

    def __init__(self, *, history: dict[str, np.ndarray], name: str | None = None) -> None:
        self.history = history
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        quantity: str = "objective",
        against: str = "epoch",
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw a quantity of the history of a fitted estimator, and the loss of validation rows beside that of training.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package.
        quantity : str, default='objective'
            What to draw: ``'objective'``, or a key of ``history_`` (``'loss'``, ``'penalty'``, ``'validation_score'``,
            ``'validation_loss'``, ``'rate'``, ``'batch_size'``, ``'gradient_norm'``, ``'noise_scale'``, ...).
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

    def plot(
        self,
        ax: Any = None,
        *,
        quantity: str = "objective",
        against: str = "epoch",
        name: str | None = None,
        curve_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw a quantity.

        The loss of validation rows, where there were any, is drawn beside the objective and the loss of the training rows, and
        the epoch with the best validation score is marked. Entries that are not finite, such as the noise scale of batches of
        one row, leave a gap. Quantities that are compared by their ratio (rate, batch size, norms and noise) have a
        logarithmic axis.

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
        self.validation_line_ = self.best_epoch_line_ = None
        if quantity in BESIDE_VALIDATION and np.isfinite(self.history.get("validation_loss", np.nan)).any():
            self._plot_validation(ax, against)
        ax.set(xlabel=AGAINST[against], ylabel=QUANTITIES.get(quantity, quantity.replace("_", " ")))
        if quantity in IN_RATIOS:
            ax.set_yscale("log")
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_validation(self, ax: Any, against: str) -> None:
        """Draw the loss of the validation rows in the color of the curve, and mark the epoch of the best score."""
        color, places, label = self.line_.get_color(), self.history[against], str(self.line_.get_label())
        before = "" if label.startswith("_") else f"{label}, "  # else it is none, to matplotlib
        self.line_.set_label(f"{before}training")
        (self.validation_line_,) = ax.plot(
            places,
            self.history["validation_loss"],
            label=f"{before}validation loss",
            marker="x",
            markersize=4,
            linestyle="--",
            color=color,
        )
        best = places[int(np.nanargmax(self.history["validation_score"]))]
        self.best_epoch_line_ = ax.axvline(best, label="best validation score", linestyle=":", color=color)
