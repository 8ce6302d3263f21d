"""The bias of a gradient that comes from the statistics of a batch, in the one setting where it is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval
from sklearn.utils.random import sample_without_replacement

from skminibatch.diagnostics._sample import Record, diagnostic
from skminibatch.layers import BatchNorm, GhostNorm
from skminibatch.statistics.gradients import jackknife

AT_ONCE = 1 << 20  # values

_SEVERAL = Interval(Integral, 2, None, closed="left")


@dataclass(frozen=True, repr=False)
class BatchNormGradientBias(Record):
    """How much too small a gradient through batch normalization is; see `batch_norm_gradient_bias`.

    The interval is that of `bias`.

    Attributes
    ----------
    bias : float
        Mean of the gradients of batches less `gradient`, measured.
    predicted : float
        ``-6 gamma^3 / (b + 1)``, the same for normal values.
    factor : float
        ``(b + 1) / (b - 1)``, with which the gradient of a batch has no bias for normal values.
    corrected : float
        The bias that this leaves, measured on the same batches.
    gradient : float
        ``gamma^3 E[z^4]`` with z normalised by the mean and the variance of the population; ``3 gamma^3`` for normal values.
    batch_size : int
    ghost_size : int
        b in these formulas: rows that are normalised together.
    """

    bias: float
    predicted: float
    factor: float
    corrected: float
    gradient: float
    batch_size: int
    ghost_size: int


@diagnostic(
    x=["array-like", None],
    gamma=[Interval(Real, None, None, closed="neither")],
    batch_size=[_SEVERAL],
    ghost_size=[_SEVERAL, None],
    n_batches=[_SEVERAL],
)
def batch_norm_gradient_bias(
    x: ArrayLike | None = None,
    *,
    gamma: float = 1.0,
    batch_size: int = 32,
    ghost_size: int | None = None,
    n_batches: int = 10_000,
    confidence_level: float = 0.95,
    random_state=None,
) -> BatchNormGradientBias:
    """By how much the statistics of a batch bias the gradient of a scale, and how to correct it.

    The values ``x_1, ..., x_b`` of a unit are normalised by their own mean and variance, ``y = gamma z``, and the loss is
    ``mean(y^4) / 4``. Its gradient ``gamma^3 mean(z^4)`` is in the mean ``3 gamma^3 (b - 1) / (b + 1)`` for independent
    normal values, whatever their mean and variance, where normalization by these would give ``3 gamma^3``:

    ``bias = -6 gamma^3 / (b + 1)``.

    Parameters
    ----------
    x : array-like of shape (n_samples,), default=None
        Values of a unit before its normalization, from which batches are drawn without replacement; many more than
        `batch_size`. None draws from the standard normal distribution.
    gamma : float, default=1.0
        The scale.
    batch_size : int, default=32
        Values in a batch.
    ghost_size : int, default=None
        Values in each virtual batch of ghost normalization, which then stand for b; None normalises the whole batch.
    n_batches : int, default=10_000
        Batches from which the bias is measured.
    confidence_level : float, default=0.95
        Level of the interval, which is one for the mean over all batches.
    random_state : int, RandomState instance or None, default=None
        Draws the batches.

    Returns
    -------
    record : BatchNormGradientBias

    Raises
    ------
    ValueError
        For fewer values than `batch_size`, for constant values, and for invalid input.

    Notes
    -----
    The gradient is that of `skminibatch.layers.BatchNorm` with an epsilon of zero. The statistics do not depend on gamma, so that
    backpropagation is exact for the loss of the batch: the bias is that of the loss itself, a function of fourth order of
    values of unit variance. A quadratic loss has none, as ``mean(z^2) = 1`` in every batch.

    The formula follows from the law of studentised residuals (Thompson 1935): ``z_i^2 / (b - 1)`` has the distribution
    ``Beta(1/2, (b - 2) / 2)``, and thus ``E[z^4] = 3 (b - 1) / (b + 1)``. With groups whose sizes m differ by one, the
    factor is one over the mean of ``(m - 1) / (m + 1)`` over the values.

    References
    ----------
    Ioffe and Szegedy, Batch normalization, ICML 2015, arXiv:1502.03167. Hoffer, Hubara and Soudry, Train longer, generalize
    better, NIPS 2017, arXiv:1705.08741 (ghost batches). Thompson, On a criterion for the rejection of observations, Annals
    of Mathematical Statistics 6, 1935. The bias and its correction are ours.

    Examples
    --------
    >>> from skminibatch.diagnostics import batch_norm_gradient_bias
    >>> estimate = batch_norm_gradient_bias(batch_size=8, random_state=0)
    >>> round(estimate.predicted, 4), round(estimate.factor, 4)
    (-0.6667, 1.2857)
    >>> bool(abs(estimate.bias - estimate.predicted) < 0.05 > abs(estimate.corrected))
    True
    """
    unit: np.ndarray | None = None
    if x is not None:
        unit = column_or_1d(check_array(x, ensure_2d=False, dtype=np.float64, input_name="x"))
        if unit.size < batch_size:
            raise ValueError(f"x has {unit.size} values, fewer than batch_size={batch_size}.")
        if np.all(unit == unit[0]):
            raise ValueError("x is constant: it cannot be normalised.")
    rng = check_random_state(random_state)
    layer = BatchNorm(epsilon=0.0) if ghost_size is None else GhostNorm(size=float(ghost_size), epsilon=0.0)
    counts = np.diff(layer.pooling(1).bounds(batch_size))
    factor = float(1.0 / np.average((counts - 1.0) / (counts + 1.0), weights=counts))
    exact = gamma**3 * (3.0 if unit is None else float(np.mean(((unit - unit.mean()) / unit.std()) ** 4)))
    portions, at_once = [], max(1, AT_ONCE // batch_size)
    for start in range(0, n_batches, at_once):
        values = _drawn(unit, batch_size, min(at_once, n_batches - start), rng)
        portions.append(gradients_of_scales(layer, values, gamma))
    gradients = np.concatenate(portions)
    mean = gradients.mean()
    without_each = (gradients.sum() - gradients) / (n_batches - 1) - exact
    return BatchNormGradientBias(
        jackknife(without_each, mean - exact, confidence_level),
        confidence_level,
        batch_size * n_batches,
        "micro-batches",
        float(mean - exact),
        float(3.0 * gamma**3 * (1.0 / factor - 1.0)),
        factor,
        float(factor * mean - exact),
        float(exact),
        batch_size,
        int(counts.max()),
    )


def gradients_of_scales(layer, values: np.ndarray, gamma: float) -> np.ndarray:
    """The gradient of ``mean(y^4) / 4`` by gamma for each of some batches, the columns of values (b, k)."""
    b, k = values.shape
    parameters = np.concatenate([np.full(k, gamma), np.zeros(k)])
    with np.errstate(divide="ignore", invalid="ignore"):
        y, backward = layer.forward(values, parameters, None, None, True)
    if not np.isfinite(y).all():
        raise ValueError("The values of a batch are all the same: they cannot be normalised. Take larger batches.")
    _, by_row = backward(y**3 / b)
    return by_row[:, :k].sum(axis=0)


def _drawn(x: np.ndarray | None, batch_size: int, count: int, rng) -> np.ndarray:
    """Batches of values, (batch_size, count)."""
    if x is None:
        return rng.standard_normal((batch_size, count))
    return np.column_stack([x[sample_without_replacement(x.size, batch_size, random_state=rng)] for _ in range(count)])
