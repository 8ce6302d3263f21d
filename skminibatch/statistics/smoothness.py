"""The smoothness of the objective, from a sample of the rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

QUANTILE = 0.999  # of the squared lengths of the rows, for the worst row
SAFETY = 1.1  # of the largest eigenvalue of a sample
SMALL_GRAM = 256  # rows or features up to which eigenvalues are computed from a full matrix


class SmoothnessConstants(NamedTuple):
    """Smoothness constants of the objective: of the mean and of the worst row, each with the penalty's share.

    ``typical`` is the mean of the rows' constants, the stiffness of a batch without unusual rows. ``unit`` is the curvature
    that one unit of `stiffness` of a loss stands for: 1, except for losses with a kink (see `LinearModel.smoothness`).
    """

    mean: float
    worst: float
    typical: float
    unit: float = 1.0
    unevenness: float = 1.0

    def scaled(self, ratio: float) -> SmoothnessConstants:
        """Those of losses, or of squared lengths of rows, that are that many times as large."""
        return self._replace(mean=self.mean * ratio, worst=self.worst * ratio, typical=self.typical * ratio)

    def of_uneven(self, unevenness: float) -> SmoothnessConstants:
        """Those of rows of uneven curvature, see `unevenness`: rare rows that count much have to be averaged over, too."""
        return self._replace(worst=max(self.worst, self.typical * unevenness), unevenness=unevenness)

    def of_batch(self, batch_size: float, n_rows: float) -> float:
        """Expected smoothness of a batch drawn without replacement (Gower et al. 2019, proposition 3.8)."""
        n, b = max(n_rows, 2.0), np.minimum(batch_size, n_rows)
        share = n * (b - 1) / (b * (n - 1))
        return share * self.mean + (n - b) / (b * (n - 1)) * self.worst


def unevenness(curvatures: np.ndarray) -> float:
    """``mean(c^2) / mean(c)^2`` of the weighted curvatures of the losses of rows: 1 where all count the same.

    It is the number of rows that count as one: where one row in a thousand has as much weight as all others, a sequence of
    steps has to remember a few thousands of them.
    """
    mean = float(curvatures.mean())
    return float(np.mean(curvatures * curvatures)) / mean**2 if mean > 0 else 1.0


def square_lengths(Z) -> np.ndarray:
    """Squared Euclidean lengths of rows."""
    if sparse.issparse(Z):
        return np.asarray(Z.multiply(Z).sum(axis=1), np.float64).ravel()
    return np.einsum("ij,ij->i", Z, Z, dtype=np.float64)


def smoothness(Z, curvatures: np.ndarray, ridge: float, fit_intercept: bool) -> SmoothnessConstants:
    """Smoothness from a sample of rows `Z`, as the optimizer sees them, and the curvature of the loss of each.

    The mean's constant is the largest eigenvalue of ``Z' diag(curvatures) Z / m``, enlarged by `SAFETY`; the worst row's
    a high quantile of ``curvature_i (|z_i|^2 + 1)``: a few rows of huge length do not slow down all others, since they
    are visited several times, each time with a share of their weight.
    """
    each = curvatures * (square_lengths(Z) + fit_intercept)
    return constants_of(each, float(each.mean()), largest_eigenvalue(Z, curvatures, fit_intercept), ridge)


def constants_of(each: np.ndarray, typical: float, largest: float, ridge: float) -> SmoothnessConstants:
    """The constants from bounds of some rows, the mean of the bounds, the largest eigenvalue, and the penalty's curvature."""
    worst = max(float(np.quantile(each, QUANTILE)), typical)  # a sequence of steps sees every row
    largest = min(SAFETY * largest, typical)
    tiny = np.finfo(np.float64).tiny
    return SmoothnessConstants(max(largest + ridge, tiny), max(worst + ridge, tiny), typical)


def largest_eigenvalue(Z, curvatures: np.ndarray, fit_intercept: bool) -> float:
    """That of the mean of ``curvature_i (z_i, 1)(z_i, 1)'``; without an intercept, of ``curvature_i z_i z_i'``."""
    m, d = Z.shape
    if min(m, d) <= SMALL_GRAM:
        full = (
            Z.multiply(np.sqrt(curvatures)[:, None]).tocsr() if sparse.issparse(Z) else Z * np.sqrt(curvatures)[:, None]
        )
        ones = np.sqrt(curvatures) * fit_intercept
        if m <= d:
            gram = full @ full.T
            gram = (gram.toarray() if sparse.issparse(gram) else gram) + np.outer(ones, ones)
        else:
            gram = full.T @ full
            border = np.asarray(full.T @ ones).ravel()[:, None]
            gram = gram.toarray() if sparse.issparse(gram) else gram
            gram = np.block([[gram, border], [border.T, ones @ ones]])
        return float(np.linalg.eigvalsh(gram)[-1]) / m

    roots = np.sqrt(curvatures / m)

    def by_feature(v):
        raw = roots**2 * (Z @ v[:d] + fit_intercept * v[d])
        return np.append(Z.T @ raw, fit_intercept * raw.sum())

    def by_row(v):  # has the same eigenvalues, beside zero
        v = roots * v
        return roots * (Z @ (Z.T @ v) + fit_intercept * v.sum())

    size, product = (m, by_row) if m <= d else (d + 1, by_feature)
    operator = LinearOperator((size, size), matvec=lambda v: product(v.ravel()), dtype=np.float64)
    start = np.random.Generator(np.random.Philox(key=0)).standard_normal(size)
    return float(eigsh(operator, k=1, which="LA", tol=0.05, ncv=8, v0=start, return_eigenvectors=False)[0])
