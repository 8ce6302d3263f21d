"""The inverse of the Hessian of a batch, which is not that of the objective in the mean."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from sklearn.utils._param_validation import Interval
from sklearn.utils.random import sample_without_replacement

from skminibatch.diagnostics._hessian import written_out
from skminibatch.diagnostics._sample import Record, Sample, diagnostic
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.statistics.gradients import jackknife

ROUNDING = 1e-12  # of the largest eigenvalue: what is smaller is zero
SAME = 1e-6  # relative sum of a row of second derivatives that is zero but for rounding


@dataclass(frozen=True, repr=False)
class InverseHessianBias(Record):
    """How much too large the inverse of the Hessian of a batch is; see `inverse_hessian_bias`.

    The interval is that of `bias`. Biases are relative, means over all directions with curvature.

    Attributes
    ----------
    bias : float
        ``tr(H E[H_b^-1]) / r - 1``, measured.
    predicted : float
        The same to the first order in 1 / b.
    factor : float
        f, from the leverages of the rows: ``f (A_b + f P)^-1`` has less bias.
    corrected : float
        The bias that this leaves, measured on the same batches.
    gaussian_factor : float
        The factor for Gaussian features, ``1 - (d + 1) / b``.
    gaussian_corrected : float
        The bias that it leaves, measured on the same batches.
    effective_dimension : float
        ``d = tr(A H^-1)`` over the number of free outputs: without a penalty, the parameters of an output. Softmax over K
        classes has K - 1 free outputs, since adding the same to all raw outputs changes no prediction. Outputs without any
        curvature do not count.
    batch_size : int
        b; never more than there are rows.
    """

    bias: float
    predicted: float
    factor: float
    corrected: float
    gaussian_factor: float
    gaussian_corrected: float
    effective_dimension: float
    batch_size: int


@diagnostic(
    batch_size=[Interval(Integral, 1, None, closed="left")], n_batches=[Interval(Integral, 2, None, closed="left")]
)
def inverse_hessian_bias(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int = 64,
    n_batches: int = 400,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> InverseHessianBias:
    """By how much a Newton step with the Hessian of a batch is too long in the mean, and how to correct it.

    With the Hessians ``H = A + P`` of the objective and ``H_b = A_b + P`` of a batch, P that of the penalty, ``E[H_b] = H``
    but ``E[H_b^-1] - H^-1`` is positive semi-definite: averages of the steps of many batches do not tend to the step of all
    rows. To the first order in 1 / b, with the Hessian A_i of the loss of a row, it is

    ``H^-1 (E[A_i H^-1 A_i] - A H^-1 A) H^-1 (n - b) / (b (n - 1))``.

    Scaled by a factor f < 1, with the penalty scaled as well, ``f (A_b + f P)^-1`` has less bias.

    Parameters
    ----------
    {rows}
    batch_size : int, default=64
        b, rows in a batch, drawn without replacement as by ``sampler='shuffle'``.
    n_batches : int, default=400
        Batches from which the biases are measured.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows; those of weight zero are left out.
    max_samples : int or float, default=None
        Rows to draw (a float: a share of them), which then stand for all; None takes all.
    confidence_level : float, default=0.95
        Level of the interval, which is one for the mean over all batches of these rows.
    random_state : int, RandomState instance or None, default=None
        Draws the rows and the batches.

    Returns
    -------
    record : InverseHessianBias
        All biases are zero and both factors one for batches of all rows. Directions without curvature are left out.

    Raises
    ------
    ValueError
        For a network, whose Hessian need not be positive; for batches of at most ``d + 1`` rows, d the effective dimension,
        whose inverses have no mean or no correction; for batches that have no inverse; for an objective without curvature,
        more than 2,048 parameters, fewer than 4 rows, and invalid input.

    Notes
    -----
    For Gaussian features without a penalty, H_b is a Wishart matrix, its bias is ``(d + 1) / (b - d - 1)``, and the factor
    ``1 - (d + 1) / b`` removes it. With a penalty this is scaled regularisation, with d + 1 in the place of d. Rows of
    uneven length have a larger bias: the other factor solves ``f = E[tr L_i (1 + L_i / (f b))^-1] / E[tr L_i]`` with
    the leverages ``L_i = H^(-1/2) A_i H^(-1/2)`` of the rows as they are. In both, 1 / b is ``(n - b) / (b (n - 1))``.

    References
    ----------
    Derezinski, Bartan, Pilanci and Mahoney, Debiasing distributed second order optimization with surrogate sketching and
    scaled regularization, NeurIPS 2020, arXiv:2007.01327. Mardia, Kent and Bibby, Multivariate analysis, 1979 (the mean of an
    inverse Wishart matrix). The term d + 1 and the factor from the leverages are ours.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchSGDRegressor
    >>> from skminibatch.diagnostics import inverse_hessian_bias
    >>> X, y = load_diabetes(return_X_y=True, scaled=False)
    >>> estimate = inverse_hessian_bias(MiniBatchSGDRegressor(standardize=True), X, y, batch_size=40, random_state=0)
    >>> 0 < abs(estimate.corrected) < estimate.bias / 4
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    gradients = sample.of_linear_model(
        "inverse_hessian_bias",
        "the Hessian of a batch of a network has negative eigenvalues, and no inverse in the mean.",
    )
    n = sample.rows.size
    b = min(batch_size, n)
    whiten = _whitening(sample)
    r = whiten.shape[1]
    curvatures = gradients.model.penalty_curvatures(gradients.coef)
    penalty = np.pad(curvatures, ((0, 0), (0, int(gradients.model.fit_intercept)))).ravel()
    penalty = whiten.T @ (penalty[:, None] * whiten)
    leverages, n_outputs = _leverages(gradients, whiten)
    dimension = float((r - np.trace(penalty)) / n_outputs)
    if b <= dimension + 1.0 and b < n:
        raise ValueError(
            f"batch_size={b} is too small: the Hessian of a batch has an inverse that can be corrected for more than "
            f"{dimension + 1.0:.4g} rows, one more than the effective dimension. Take larger batches or a larger penalty."
        )
    share = (n - b) / (b * (n - 1.0))
    first_order = share * float(np.mean(np.sum(leverages**2, axis=1)) - np.sum((np.eye(r) - penalty) ** 2)) / r
    factors = (1.0, _factor(leverages, share), 1.0 - share * (dimension + 1.0))
    biases = _measured(sample, whiten, penalty, factors, b, n_batches)
    bias, corrected, gaussian_corrected = (float(number) for number in biases.mean(axis=0))
    without_each = (biases[:, 0].sum() - biases[:, 0]) / (n_batches - 1)
    low, high = jackknife(without_each, bias, confidence_level)
    return InverseHessianBias(
        *sample.facts((max(low, 0.0), high), confidence_level),
        bias,
        first_order,
        factors[1],
        corrected,
        factors[2],
        gaussian_corrected,
        dimension,
        b,
    )


def _whitening(sample: Sample) -> np.ndarray:
    """T (p, r) with ``T' H T = I``, for the r directions with curvature."""
    values, vectors = np.linalg.eigh(written_out(sample))
    curved = values > ROUNDING * max(values[-1], 0.0)
    if not curved.any():
        raise ValueError("The objective has no curvature: its Hessian has no inverse.")
    return vectors[:, curved] / np.sqrt(values[curved])


def _leverages(gradients: LinearGradients, whiten: np.ndarray) -> tuple[np.ndarray, int]:
    """Eigenvalues of ``T' A_i T`` for each row (n, K), and the number of outputs that are free."""
    K = gradients.model.n_outputs
    whiten = whiten.reshape(K, -1, whiten.shape[1])
    leverages, mean = [], np.zeros((K, K))
    for Z, second in gradients.row_curvatures():
        values, vectors = np.linalg.eigh(second)
        roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        outputs = np.einsum("nj,kjr->nkr", Z, whiten, optimize=True)
        white = np.matmul(roots.transpose(0, 2, 1), outputs)
        leverages.append(np.linalg.eigvalsh(np.matmul(white, white.transpose(0, 2, 1))))
        mean += second.sum(axis=0)
    return np.maximum(np.concatenate(leverages), 0.0), _free_outputs(mean)


def _free_outputs(second: np.ndarray) -> int:
    """Outputs with curvature, one less where a shift of all raw outputs changes no loss; `second` (K, K) is their mean curvature.

    Not its rank: that of rare classes, whose curvature is small, would be a matter of rounding.
    """
    own = np.diag(second)
    shifts = len(own) > 1 and np.all(np.abs(second.sum(axis=1)) <= SAME * own)
    return int(np.count_nonzero(own > 0)) - int(shifts)


def _factor(leverages: np.ndarray, share: float) -> float:
    """The factor that the leverages of the rows ask for."""
    total = leverages.sum()

    def excess(f):
        return float(np.sum(leverages / (1.0 + share * leverages / f)) / total - f)

    if share == 0:
        return 1.0
    if excess(ROUNDING) <= 0:
        raise ValueError(
            "batch_size is too small: too few rows of a batch have any curvature. Take larger batches or a larger penalty."
        )
    return float(brentq(excess, ROUNDING, 1.0))


def _measured(sample: Sample, whiten, penalty, factors, batch_size: int, n_batches: int) -> np.ndarray:
    """The relative biases of ``f (A_b + f P)^-1`` for some factors f, for each of some batches (n_batches, n_factors)."""
    biases = np.empty((n_batches, len(factors)))
    for j in range(n_batches):
        drawn = sample_without_replacement(sample.rows.size, batch_size, random_state=sample.rng)
        hessian = whiten.T @ sample.gradients.on(sample.rows[np.sort(drawn)]).hessian_matrix() @ whiten
        for i, f in enumerate(factors):
            values = np.linalg.eigvalsh(hessian - (1.0 - f) * penalty)
            if values[0] <= ROUNDING:
                raise ValueError(
                    f"The Hessian of a batch of {batch_size} rows has no inverse in all directions. Take larger batches or "
                    "a larger penalty."
                )
            biases[j, i] = f * np.mean(1.0 / values) - 1.0
    return biases
