"""The sum of the second-order expansions of the losses of rows: what is kept of a stream in place of its rows."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs

FARTHEST = 30.0  # that raw outputs may move by at once
LEAST = 1e-10  # of each diagonal entry, that is added to it: a singular matrix would have no factor


class Expansion(NamedTuple):
    """The sum of the losses of rows as expanded where they were met, at parameters w of each output, up to a constant.

    ``l_i(z . w) ~ l_i + l_i' z . (w - w_i) + l_i'' (z . (w - w_i))^2 / 2``, so that the gradient is ``A w - b``. Rows z have a
    one at their end where there is an intercept, p numbers in all; float64.

    Where the curvature of a loss is the exponential of its raw output, a shift of the intercept multiplies it. The gradient is
    then kept as ``m - b`` with the mean ``m = sum s_i exp(z_i . w) z_i`` at an anchor. Where w moves from there, the sum of the
    exponentials grows by the mean of what raw outputs move by and half of its variance, as it does for normal features.

    Attributes
    ----------
    curvature : ndarray of shape (K, p, p)
        ``A_k = sum_i s_i l_i'' z_i z_i'``.
    slope : ndarray of shape (K, p)
        ``b_k = sum_i s_i (l_i'' z_i . w_i - l_i') z_i``, or ``sum_i s_i y_i z_i``.
    n_rows, weight, squares : float
        Numbers of rows, and the sums of their weights and of these squared.
    noise, curved : ndarray of shape (K,)
        The sums of ``(s_i l_i')^2`` and of ``s_i l_i''``, whose ratio tells how far a minimum of the expansion is from that of
        the distribution.
    mean, anchor : ndarray of shape (K, p) or None
        Of losses with exponentials.
    """

    curvature: np.ndarray
    slope: np.ndarray
    n_rows: float
    weight: float
    squares: float
    noise: np.ndarray
    curved: np.ndarray
    mean: np.ndarray | None = None
    anchor: np.ndarray | None = None

    @classmethod
    def none(cls, n_outputs: int, width: int, is_exponential: bool) -> Self:
        """Of no rows."""
        each, zeros = np.zeros(n_outputs), np.zeros((n_outputs, width))
        mean = zeros if is_exponential else None
        return cls(np.zeros((n_outputs, width, width)), zeros, 0.0, 0.0, 0.0, each, each, mean, mean)

    def counting(self, weights: np.ndarray) -> Self:
        """With new rows in the counts alone."""
        return self._replace(
            n_rows=self.n_rows + len(weights),
            weight=self.weight + float(weights.sum()),
            squares=self.squares + float(weights @ weights),
        )

    def with_rows(
        self, Z: np.ndarray, w: np.ndarray, first: np.ndarray, second: np.ndarray, weights: np.ndarray
    ) -> Self:
        """With rows (n, p) that were counted, by the derivatives (n, K) of their losses at parameters (K, p)."""
        first, second = weights[:, None] * first, weights[:, None] * second
        expansion = self.at(w)
        slope, mean = (second * (Z @ w.T) - first).T @ Z, None
        if expansion.mean is not None:
            slope, mean = (second - first).T @ Z, expansion.mean + second.T @ Z
        return expansion._replace(
            curvature=expansion.curvature + grams(Z, second),
            slope=expansion.slope + slope,
            noise=self.noise + np.sum(first**2, axis=0),
            curved=expansion.curved + second.sum(axis=0),
            mean=mean,
        )

    def at(self, w: np.ndarray) -> Self:
        """Anchored at parameters: the same one, where there are no exponentials."""
        if self.mean is None:
            return self
        growth, mean = self._moved(w)
        # the rows spread as before around a mean that has moved
        apart = self.curvature - _outer(self.mean) / _mass(self.mean)
        curvature = growth[:, None, None] * apart + _outer(mean) / _mass(mean)
        return self._replace(curvature=curvature, curved=self.curved * growth, mean=mean, anchor=w)

    def _moved(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By what exponentials grow from the anchor to w (K,), and their mean there (K, p)."""
        assert self.mean is not None
        move, mass = w - self.anchor, _mass(self.mean)[:, 0, 0]
        curved = np.einsum("kij,kj->ki", self.curvature, move)
        shift = np.sum(self.mean * move, axis=1) / mass
        variance = np.maximum(np.sum(move * curved, axis=1) / mass - shift**2, 0.0)
        growth = np.exp(np.clip(shift + variance / 2.0, -FARTHEST, FARTHEST))
        return growth, growth[:, None] * (self.mean + curved - shift[:, None] * self.mean)

    def decayed(self, share: float) -> Self:
        """With that share of all that is kept."""
        scaled = {
            name: share * field for name, field in self._asdict().items() if field is not None and name != "anchor"
        }
        return self._replace(**scaled)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """The gradient (K, p)."""
        if self.mean is not None:
            return self._moved(w)[1] - self.slope
        return np.einsum("kij,kj->ki", self.curvature, w) - self.slope

    @property
    def unevenness(self) -> float:
        """The mean of the squared weights over their mean."""
        return self.squares / self.weight

    @property
    def effective_rows(self) -> float:
        """``sum(weights)^2 / sum(weights^2)``."""
        return self.weight**2 / self.squares if self.squares else 0.0


def _outer(vectors: np.ndarray) -> np.ndarray:
    return vectors[:, :, None] * vectors[:, None, :]


def _mass(means: np.ndarray) -> np.ndarray:
    """The sums of the exponentials (K, 1, 1), which the ones of the intercept count; 1 of none."""
    mass = means[:, -1:, None]
    return np.where(mass > 0, mass, 1.0)


class Factors:
    """Cholesky factors of symmetric matrices (K, p, p) with a diagonal added, scaled so that units do not matter."""

    def __init__(self, matrices: np.ndarray, diagonal: np.ndarray) -> None:
        added = np.broadcast_to(diagonal, matrices.shape[:2])
        self._factors = [self._factor(*each) for each in zip(matrices, added, strict=True)]

    @staticmethod
    def _factor(matrix: np.ndarray, added: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sizes = matrix.diagonal() + added
        scale = np.where(sizes > 0, 1.0 / np.sqrt(np.where(sizes > 0, sizes, 1.0)), 0.0)
        scaled = matrix * scale * scale[:, None]
        least, failed = LEAST, True
        while failed:  # by rounding, of a matrix that is singular
            np.fill_diagonal(scaled, 1.0 + least)
            factor, failed = dpotrf(scaled, lower=1)
            least *= 100.0
        return factor, scale

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """The solution (K, p) for right-hand sides (K, p)."""
        pairs = zip(self._factors, vectors, strict=True)
        return np.array([scale * dpotrs(factor, scale * v, lower=1)[0] for (factor, scale), v in pairs])

    def square_lengths(self, Z: np.ndarray) -> np.ndarray:
        """``z' H_k^-1 z`` of rows z (n, p) for each matrix: (n, K)."""
        lengths = []
        for factor, scale in self._factors:
            inside, _ = dtrtrs(factor, (Z * scale).T, lower=1)
            lengths.append(np.einsum("ij,ij->j", inside, inside))
        return np.array(lengths).T


def grams(Z: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """``Z' diag(c_k) Z`` for curvatures (n, K) that are not negative: (K, p, p)."""
    roots = np.sqrt(curvatures)
    return np.array([each.T @ each for each in (Z * root[:, None] for root in roots.T)])
