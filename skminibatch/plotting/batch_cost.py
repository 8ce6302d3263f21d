"""The cost of a batch size, drawn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skminibatch.contract.typing import RowsLike
from skminibatch.cost_model.model import BatchCostModel
from skminibatch.plotting.noise_scale import POINTS
from skminibatch.plotting.training import _axes


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
    range_ : matplotlib Patch
        Band of the sizes whose time cannot be told from the least, see `BatchCostModel.optimal_range`.

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

    def __init__(self, *, cost_model: BatchCostModel) -> None:
        self.cost_model = cost_model

    @classmethod
    def from_cost_model(cls, cost_model: BatchCostModel, *, ax: Any = None) -> Self:
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
        cls,
        estimator: Any,
        X: RowsLike,
        y: ArrayLike,
        *,
        batch_sizes: ArrayLike,
        target: float,
        ax: Any = None,
        **measurement: Any,
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

    def plot(self, ax: Any = None) -> Self:
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
        low, high = model.optimal_range()
        self.range_ = ax.axvspan(
            low, high, color="0.6", alpha=0.2, linewidth=0, zorder=0, label=f"as good: {low} to {high}"
        )
        ax.set(xscale="log", yscale="log", xlabel="batch size b", ylabel="seconds to the target")
        ax.set_xticks(sizes, [str(b) for b in sizes])
        ax.minorticks_off()
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
