"""Statistics of the gradients of the batches of some steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NEGLIGIBLE_PULL = 0.01  # of the square of the gradient: what a penalty adds to it that is left out


class BatchStatistics(NamedTuple):
    """The loss and the noise of the gradient in the batches of some steps (McCandlish et al. 2018, arXiv:1812.06162, appendix A).

    ``tr(Sigma)`` and ``|G|^2`` are estimated without bias in each batch whose rows were measured, ``s^2`` and
    ``|g|^2 - (1 / b - 1 / n) s^2`` for batches drawn without replacement from n rows, and averaged before their ratio is
    taken. All are of the loss without its penalty, in the coordinates of the optimizer.

    Attributes
    ----------
    loss : float
        Mean loss of a row.
    square_norm : float
        Mean of ``|g|^2`` over the batches whose rows were measured, those of `variance` and `signal`; where none were, over
        all batches with a norm. NaN where no norm was measured.
    variance : float
        ``tr(Sigma)``, the variance of the gradient of a row; NaN for batches of one row.
    signal : float
        ``|G|^2``, less than zero where the noise hides it.
    update_variance : float
        Mean of ``rate^2 V`` with the variance ``V = (1 / b - 1 / n) tr(Sigma)`` of the gradient of a batch, zero for all rows
        (of rows drawn with replacement, ``tr(Sigma) / b``).
    temperature : float
        Mean of ``rate V / 2``.
    rate : float
        The last rate.
    error : float
        Standard error of `signal`, from the spread of the batches; of one batch V, which its error hardly exceeds.
    """

    loss: float
    square_norm: float
    variance: float
    signal: float
    update_variance: float
    temperature: float
    rate: float
    error: float = 0.0

    @classmethod
    def of(cls, sizes: np.ndarray, rates: np.ndarray, stats, population: float = np.inf) -> BatchStatistics:
        """From the sizes and rates of some batches and the `StepStats` of their steps.

        `population` is the number of rows from which a batch is drawn without replacement; NaN where its rows are not
        drawn from one population, so that they do not show the variance.
        """
        loss, rate = float(stats.losses.sum() / sizes.sum()), float(rates[-1])
        normed = ~np.isnan(stats.square_norms)
        measured = normed & ~np.isnan(stats.row_squares) & (sizes > 1)
        if not measured.any() or np.isnan(population):
            return cls(loss, _mean(stats.square_norms[normed]), np.nan, np.nan, np.nan, np.nan, rate)
        b, norms, squares, rates = (a[measured] for a in (sizes, stats.square_norms, stats.row_squares, rates))
        variance = np.maximum(squares - b * norms, 0.0) / (b - 1)
        # of the same batches: the products of a row's gradient with itself are in both, and leave no trace of long rows
        of_batches = (1.0 / b - 1.0 / population) * variance
        signals, updates = norms - of_batches, rates * np.maximum(of_batches, 0.0)
        signal, m = _mean(signals), len(b)
        error = max(float(of_batches[0]), 0.0)
        if m > 1:
            with np.errstate(over="ignore", invalid="ignore"):  # of a training that diverges
                error = float(np.sqrt(np.sum((signals - signal) ** 2) / (m * (m - 1))))
        update_variance, temperature = _mean(rates * updates), _mean(updates) / 2.0
        return cls(loss, _mean(norms), _mean(variance), signal, update_variance, temperature, rate, error)

    def with_noise(
        self, signal: float, variance: float, sizes: np.ndarray, rates: np.ndarray, population: float
    ) -> BatchStatistics:
        """With ``|G|^2`` of the objective and ``tr(Sigma)`` from elsewhere, for the sizes and rates of these batches."""
        updates = rates * np.maximum(1.0 / sizes - 1.0 / population, 0.0) * variance
        update_variance, temperature = float(np.mean(rates * updates)), float(np.mean(updates)) / 2.0
        return self._replace(
            variance=variance, signal=signal, update_variance=update_variance, temperature=temperature, error=0.0
        )

    def of_objective(self, square_pull: float) -> BatchStatistics:
        """For an objective whose penalty has a gradient p with this ``|p|^2``, which the batches do not show.

        ``|G|^2`` of the objective and of the loss differ by ``2 G' p - |p|^2``. The signal becomes NaN where ``|p|`` is above
        a tenth of ``|G|``, unless it is lost in the error of the signal.
        """
        hidden = square_pull > NEGLIGIBLE_PULL * max(self.signal, self.error)
        return self._replace(signal=np.nan) if hidden else self

    @property
    def is_measured(self) -> bool:
        """Whether the batches showed the variance of the rows."""
        return not np.isnan(self.variance)

    @property
    def noise_scale(self) -> float:
        """``tr(Sigma) / |G|^2``: infinite where the noise hides the gradient, NaN where either was not measured."""
        if np.isnan(self.variance) or np.isnan(self.signal):
            return np.nan
        return self.variance / self.signal if self.signal > 0 else np.inf


def _mean(numbers: np.ndarray) -> float:
    """The mean, NaN for no numbers; of a few ones in a third of the time of NumPy's, which each epoch asks for ten times."""
    return float(numbers.sum()) / numbers.size if numbers.size else np.nan
