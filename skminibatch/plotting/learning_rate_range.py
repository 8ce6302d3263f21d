"""The range of usable learning rates, drawn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skminibatch.contract.typing import RowsLike
from skminibatch.model_selection import LearningRateRange, learning_rate_range_test
from skminibatch.plotting.training import _axes, _style


class LearningRateRangeDisplay:
    """The objective against a growing learning rate, the runs at constant rates, and the best of these.

    It is recommended to create it with `from_estimator` or `from_record`. All parameters are stored as attributes.

    Parameters
    ----------
    found : LearningRateRange
        What `skminibatch.model_selection.learning_rate_range_test` found.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The objective after each update of the test.
    trials_ : matplotlib Line2D
        The objective at the end of each run at a constant rate that did not diverge.
    suggestion_line_ : matplotlib Line2D
        The vertical line at the suggested rate.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skminibatch.model_selection.learning_rate_range_test : What is drawn.

    References
    ----------
    Smith, Cyclical learning rates for training neural networks, WACV 2017, arXiv:1506.01186.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.plotting import LearningRateRangeDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> classifier = MiniBatchSGDClassifier(solver="momentum")
    >>> display = LearningRateRangeDisplay.from_estimator(classifier, scale(X), y, random_state=0)
    >>> display.figure_.savefig("rates.png")  # doctest: +SKIP
    """

    def __init__(self, *, found: LearningRateRange) -> None:
        self.found = found

    @classmethod
    def from_estimator(cls, estimator: Any, X: RowsLike, y: ArrayLike, *, ax: Any = None, **settings: Any) -> Self:
        """Run the test, and draw what was found.

        Parameters
        ----------
        estimator : object
            An estimator of this package, or a pipeline that ends in one; it is left as it is.
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **settings : dict
            Other arguments of `learning_rate_range_test`.

        Returns
        -------
        display : LearningRateRangeDisplay
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        return cls.from_record(learning_rate_range_test(estimator, X, y, **settings), ax=ax)

    @classmethod
    def from_record(cls, found: LearningRateRange, *, ax: Any = None) -> Self:
        """Draw what was found before.

        Parameters
        ----------
        found : LearningRateRange
            What `learning_rate_range_test` found.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : LearningRateRangeDisplay
        """
        return cls(found=found).plot(ax)

    def plot(
        self,
        ax: Any = None,
        *,
        line_kwargs: dict[str, Any] | None = None,
        trial_kwargs: dict[str, Any] | None = None,
        suggestion_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the objective against the rate.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        line_kwargs, trial_kwargs : dict, default=None
            Passed to the ``plot`` of matplotlib, for the test and for the runs at constant rates.
        suggestion_kwargs : dict, default=None
            Passed to the ``axvline`` of matplotlib, for the suggestion.

        Returns
        -------
        display : LearningRateRangeDisplay
        """
        ax = _axes(self, ax)
        found = self.found
        ended = np.isfinite(found.trial_losses)

        (self.line_,) = ax.plot(found.rates, found.losses, **_style(line_kwargs, label="growing rate"))
        runs = {"label": "end of a run at a constant rate", "linestyle": "", "marker": "o"}
        (self.trials_,) = ax.plot(found.trial_rates[ended], found.trial_losses[ended], **_style(trial_kwargs, **runs))
        line = {"label": f"suggestion: {found.suggestion:.3g}", "color": "0.3", "linestyle": "--"}
        self.suggestion_line_ = ax.axvline(found.suggestion, **_style(suggestion_kwargs, **line))
        ax.set(xscale="log", xlabel=f"learning rate ({found.param_name})", ylabel="objective (loss + penalty)")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
