"""The improvement that a step is expected to bring, by batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from skminibatch.diagnostics._hessian import (
    Covariance,
    curvatures_along,
    hessian_for_products,
    share_left,
    written_rows,
)
from skminibatch.diagnostics._sample import Record, Sample, batch_sizes_up_to, diagnostic, ratio
from skminibatch.statistics.gradients import GradientStatistics, inverted, mean_without_each, sizes_of


@dataclass(frozen=True, repr=False)
class ExpectedImprovement(Record):
    """The best step of a batch and what it is worth; see `expected_improvement`. The interval is that of `noise_scale`.

    Attributes
    ----------
    noise_scale : float
        ``B = tr(H Sigma) / (G' H G)``, in rows.
    largest_step : float
        ``|G|^2 / (G' H G)``, the best step along the exact gradient.
    largest_improvement : float
        ``|G|^4 / (2 G' H G)``, by how much that step lowers the objective.
    batch_sizes : ndarray of shape (n_sizes,)
    step : ndarray of shape (n_sizes,)
        ``largest_step / (1 + B / b)``, the best step of a batch.
    improvement : ndarray of shape (n_sizes,)
        ``largest_improvement / (1 + B / b)``, by how much it lowers the objective in the mean.
    """

    noise_scale: float
    largest_step: float
    largest_improvement: float
    batch_sizes: np.ndarray
    step: np.ndarray
    improvement: np.ndarray


@diagnostic(batch_sizes=["array-like", None])
def expected_improvement(
    estimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch_sizes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    confidence_level: float = 0.95,
    random_state=None,
) -> ExpectedImprovement:
    """By how much one step with a batch of b rows lowers the objective in the mean, and the step that does.

    To second order, a step ``-eta g`` with a batch of independent rows changes the objective by
    ``-eta |G|^2 + eta^2 / 2 (G' H G + tr(H Sigma) / b)``, with the Hessian H and the covariance Sigma of the gradients of
    single rows. Its minimum is at ``eta = eta_max / (1 + B / b)``; beyond twice that the objective rises.

    Parameters
    ----------
    {rows}
    batch_sizes : array-like of int, default=None
        Sizes of batches, from 1 to `n_samples`; None takes the powers of two among these.
    {sampling}

    Returns
    -------
    record : ExpectedImprovement

    Raises
    ------
    ValueError
        For an objective without curvature along its gradient, or with negative curvature along the noise (of networks),
        fewer than 4 rows, and invalid input.

    Notes
    -----
    The common form ``|G|^2 / (2 (1 + S / b))`` is this one with a Hessian that is the identity.

    With `max_samples`, the share of their noise is taken off ``|G|^2`` and ``G' H G``, and each gradient meets the Hessians of
    other rows only, so that ``G' H G`` and ``tr(H Sigma)`` are those of all rows in the mean. Where nothing is left, as close
    to the optimum, the noise scale is infinite, steps and improvements are zero, and `largest_step` is that along the
    gradient of the rows that were drawn.

    For more than 2,048 parameters (256 of a network) the Hessian is not written out: ``G' H G`` is as exact as before, and
    ``g' H g`` is that of at most 1,024 of the rows (128 for a network), from which the interval follows.

    References
    ----------
    McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018, arXiv:1812.06162, equations 2.4 to
    2.9.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.diagnostics import expected_improvement
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> improvement = expected_improvement(MiniBatchSGDClassifier(), scale(X), y, batch_sizes=[4, 64])
    >>> bool(improvement.step[0] < improvement.step[1] < improvement.largest_step)
    True
    """
    sample = Sample(estimator, X, y, sample_weight, max_samples, random_state)
    b = batch_sizes_up_to(batch_sizes, sample.n_rows)
    hessian, groups = hessian_for_products(sample.gradients), sample.micro_batches()
    of_penalty = sample.gradients.penalty_gradient()
    gradient = sample.gradients.loss_gradient() + of_penalty
    statistics = _in_metric(sample, groups, hessian, of_penalty)
    _, trace = statistics.moments()
    square, along = float(gradient @ gradient), float(gradient @ (hessian @ gradient))
    if along <= 0:
        raise ValueError("The objective has no curvature along its gradient: no step is the best one.")
    if trace < 0:
        raise ValueError(
            "The noise of the gradients lies where the curvature is negative: to second order, no step is too long."
        )
    of_groups = curvatures_of_groups(sample, groups, gradient, Covariance(sample, groups)) if trace > 0 else None
    largest_step, scale, inverse = square / along, np.inf, None
    if not sample.complete:
        square -= sample.share_of_noise * sample.statistics(groups).moments()[1]
        if of_groups is not None:
            along, trace = of_groups.of_other_rows(sample, groups, gradient)
            inverse = float(ratio(along, trace))
    if square > 0 and along > 0:
        largest_step, scale = square / along, float(trace / along)
    interval = (0.0, 0.0)
    if of_groups is not None:
        shifts = of_groups.changes_without_each(groups)[:2]
        left = share_left(sample, groups)
        interval = inverted(*sample.interval_of_ratio(statistics, confidence_level, shifts, left, inverse))
    largest = square * largest_step / 2.0 if np.isfinite(scale) else 0.0
    return ExpectedImprovement(
        *sample.facts(interval, confidence_level),
        scale,
        float(largest_step),
        float(largest),
        b,
        largest_step / (1.0 + scale / b),
        largest / (1.0 + scale / b),
    )


def _in_metric(sample: Sample, groups, hessian, of_penalty: np.ndarray) -> GradientStatistics:
    """The statistics of gradients with ``g' H g`` in the place of ``|g|^2``."""
    means = [sample.gradients.on(rows).loss_gradient() for rows in groups]
    sizes = sizes_of(groups) / sample.model.observation_size
    sums = sizes[:, None] * means
    squares = [np.mean(curvatures_along(sample, hessian, rows)[0]) for rows in written_rows(sample, groups)]
    return GradientStatistics(
        sizes,
        sizes * squares,
        np.sum((hessian @ sums.T).T * sums, axis=1),
        sums @ (hessian @ sums.sum(axis=0)),
        sums @ (hessian @ of_penalty),
        float(of_penalty @ (hessian @ of_penalty)),
        sample.n_rows,
        float(sample.model.observation_size),
    )


class CurvaturesOfGroups(NamedTuple):
    """What the Hessians H_j of k groups of rows make of the gradients of the sample.

    Attributes
    ----------
    of_gradient, of_noise, traces : ndarray of shape (k,)
        ``G' H_j G``, ``tr(H_j Sigma)`` and ``tr(H_j)``.
    of_others, noise_of_others : ndarray of shape (k,)
        The first two with G and Sigma of the rows of all other groups.
    """

    of_gradient: np.ndarray
    of_noise: np.ndarray
    traces: np.ndarray
    of_others: np.ndarray
    noise_of_others: np.ndarray

    def changes_without_each(self, groups) -> np.ndarray:
        """How (G' H G, tr(H Sigma), tr(H)) change with the Hessian of all groups but one, for each group, (3, k)."""
        curvatures = np.array([self.of_gradient, self.of_noise, self.traces]).T
        return (mean_without_each(curvatures, groups) - np.average(curvatures, axis=0, weights=sizes_of(groups))).T

    def of_other_rows(self, sample: Sample, groups, gradient: np.ndarray) -> tuple[float, float]:
        """(G' H G, tr(H Sigma)) of all rows, where no gradient of a row meets the Hessian of the same row.

        ``g_i' H_i g_i`` is of the order of the squared length of a row times that of its gradient. In the products of a mean
        gradient, a covariance and a mean Hessian of the same m rows it counts for a share of 1 / m, which of d features is one
        of d / m too much.
        """
        sizes, n = sizes_of(groups), sample.rows.size
        unbiased = 1.0 if sample.model.couples_rows else n / (n - 1.0) * (1.0 - 1.0 / sample.n_rows)
        trace = unbiased * float(np.average(self.noise_of_others, weights=sizes))
        shares = 1.0 / (n - sizes) - 1.0 / sample.n_rows
        along = float(np.average(self.of_others - shares * trace, weights=sizes))
        return along, trace


def curvatures_of_groups(sample: Sample, groups, gradient: np.ndarray, noise: Covariance) -> CurvaturesOfGroups:
    """Those of groups of rows, with the gradient of the objective and the noise of the whole sample."""
    parts, mean, n = [], sample.gradients.loss_gradient(), sample.rows.size
    few = written_rows(sample, groups)
    m = sum(map(len, few))
    for rows, written in zip(groups, few, strict=True):
        of_group = sample.gradients.on(rows)
        hessian, trace = hessian_for_products(of_group), of_group.hessian_trace()
        others = gradient + len(rows) / (n - len(rows)) * (mean - of_group.loss_gradient())
        of_noise = noise.along(hessian)
        own = sample.per_row * float(np.mean(curvatures_along(sample, hessian, written, mean)[0]))
        of_others = (m * of_noise - len(written) * own) / (m - len(written))
        parts.append((gradient @ (hessian @ gradient), of_noise, trace, others @ (hessian @ others), of_others))
    return CurvaturesOfGroups(*np.array(parts).T)
