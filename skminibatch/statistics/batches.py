"""Statistics of the gradients of the batches of some steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class BatchStatistics(NamedTuple):
    """The loss and the noise of the gradient in the batches of some steps (McCandlish et al. 2018, arXiv:1812.06162, appendix A).

    ``tr(Sigma)`` and ``|G|^2`` are estimated without bias in each batch whose rows were measured, ``s^2`` and
    ``|g|^2 - (1 / b - 1 / n) s^2`` for n rows, and averaged before their ratio is taken. All are of the loss without its
    penalty, in the coordinates of the optimizer.

    Attributes
    ----------
    loss : float
        Mean loss of a row.
    square_norm : float
        Mean of ``|g|^2`` over the batches; NaN where no norm was measured.
    variance : float
        ``tr(Sigma)``, the variance of the gradient of a row; NaN for batches of one row.
    signal : float
        ``|G|^2``, less than zero where the noise hides it.
    update_variance : float
        Mean of ``rate^2 tr(Sigma) / b``.
    temperature : float
        Mean of ``rate tr(Sigma) / b``.
    rate : float
        The last rate.
    """

    loss: float
    square_norm: float
    variance: float
    signal: float
    update_variance: float
    temperature: float
    rate: float

    @classmethod
    def of(cls, sizes: np.ndarray, rates: np.ndarray, stats, population: float = np.inf) -> BatchStatistics:
        """From the sizes and rates of some batches and the `StepStats` of their steps.

        `population` is the number of rows from which a batch is drawn without replacement; NaN where its rows are not
        drawn from one population, so that they do not show the variance.
        """
        loss, rate = float(stats.losses.sum() / sizes.sum()), float(rates[-1])
        normed = ~np.isnan(stats.square_norms)
        square_norm = _mean(stats.square_norms[normed])
        measured = normed & ~np.isnan(stats.row_squares) & (sizes > 1)
        if not measured.any() or np.isnan(population):
            return cls(loss, square_norm, np.nan, np.nan, np.nan, np.nan, rate)
        b, norms, squares, rates = (a[measured] for a in (sizes, stats.square_norms, stats.row_squares, rates))
        variance = np.maximum(squares - b * norms, 0.0) / (b - 1)
        # of the same batches: the products of a row's gradient with itself are in both, and leave no trace of long rows
        signal, temperatures = _mean(norms - (1.0 / b - 1.0 / population) * variance), rates * variance / b
        return cls(loss, square_norm, _mean(variance), signal, _mean(rates * temperatures), _mean(temperatures), rate)

    def with_noise(self, signal: float, variance: float, sizes: np.ndarray, rates: np.ndarray) -> BatchStatistics:
        """With estimates of ``|G|^2`` and ``tr(Sigma)`` from elsewhere, for the sizes and rates of these batches."""
        temperature = float(np.mean(rates * variance / sizes))
        update_variance = float(np.mean(rates**2 * variance / sizes))
        return self._replace(variance=variance, signal=signal, update_variance=update_variance, temperature=temperature)

    @property
    def noise_scale(self) -> float:
        """``tr(Sigma) / |G|^2``: infinite where the noise hides the gradient, NaN where no variance was measured."""
        if np.isnan(self.variance):
            return np.nan
        return self.variance / self.signal if self.signal > 0 else np.inf


def _mean(numbers: np.ndarray) -> float:
    """The mean, NaN for no numbers; of a few ones in a third of the time of NumPy's, which each epoch asks for ten times."""
    return float(numbers.sum()) / numbers.size if numbers.size else np.nan
