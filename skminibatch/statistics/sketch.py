"""What is kept of the rows of a stream: enough for the smoothness of the objective, and no row."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from skminibatch.contract.coordinates import AsGiven, Coordinates
from skminibatch.statistics.features import Moments
from skminibatch.statistics.random import stream
from skminibatch.statistics.smoothness import (
    SMALL_GRAM,
    SmoothnessConstants,
    constants_of,
    largest_eigenvalue,
    square_lengths,
)

SAMPLE = 512  # rows that a sketch stands for
FEW = 64  # features up to which all eigenvalues are computed
GROWTH = 1.25  # of the rows seen, between two estimates on a stream
SHIFT = 2.0  # by which the mean curvature of the rows, or of its square, calls for a new estimate
ROUNDS = 8.0  # of the power method on rows that are all that is known; fewer where they are a share of it
WEIGHT_OF_NEW = 2.0  # what a new row counts in the leading direction: the first estimates of it are poor
FARTHEST = 3.0  # mean absolute deviations from the centre that a target counts at most

Axes = Coordinates | AsGiven


class SecondMoments(NamedTuple):
    """The mean of ``w (x, 1)(x, 1)'`` over rows x as given, w being their curvatures: for few features.

    It is kept as the mean of w, the mean of x weighted by w, and the mean of ``w (x - mean)(x - mean)'``, so that a large mean
    does not take the digits of the deviations, and any coordinates follow from it.
    """

    weight: float
    mean: np.ndarray
    products: np.ndarray

    @classmethod
    def none(cls, n_features: int) -> Self:
        """Of no rows."""
        return cls(0.0, np.zeros(n_features), np.zeros((n_features, n_features)))

    def with_rows(self, X, Z, curvatures: np.ndarray, share: float, fit_intercept: bool) -> Self:
        """With new rows, which have that share in the means."""
        X = (X.toarray() if sparse.issparse(X) else X).astype(np.float64, copy=False)
        new, old = share * curvatures.mean(), (1.0 - share) * self.weight
        if not new:
            return self._replace(weight=old, products=(1.0 - share) * self.products)
        mean = (curvatures / curvatures.sum()) @ X
        shift = mean - self.mean
        products = (1.0 - share) * self.products
        products += np.multiply.outer((old * new / (old + new)) * shift, shift)
        if len(X) > 1:
            X = X - mean
            products += X.T @ ((share / len(X)) * curvatures[:, None] * X)
        return type(self)(old + new, self.mean + new / (old + new) * shift, products)

    def inside(self, old: Axes, new: Axes) -> Self:
        """The same in other coordinates: those of the features as given are kept."""
        return self

    def largest(self, axes: Axes, fit_intercept: bool, moments: Moments) -> float:
        """The largest eigenvalue in some coordinates."""
        scale = axes.scale.astype(np.float64)
        shift = (self.mean - axes.center) * scale
        matrix = self.products * np.outer(scale, scale) + self.weight * np.outer(shift, shift)
        if fit_intercept:
            border = self.weight * shift[:, None]
            matrix = np.block([[matrix, border], [border.T, np.array([[self.weight]])]])
        if len(matrix) <= FEW:
            return float(np.linalg.eigvalsh(matrix)[-1])
        start = stream(0, 0).standard_normal(len(matrix))
        return float(eigsh(matrix, k=1, which="LA", tol=0.01, ncv=8, v0=start, return_eigenvectors=False)[0])


class LeadingDirection(NamedTuple):
    """The largest eigenvalue of the mean of ``w (z, 1)(z, 1)'`` times its eigenvector: for many features.

    Each new row adds ``w (z, 1)`` times its product with the eigenvector so far (Weng, Zhang and Hwang 2003,
    doi:10.1109/TPAMI.2003.1217609), at the cost of its non-zeros. It starts at the eigenvector of the first rows. Where there are
    fewer rows than features, their own largest eigenvalue is far above that of the distribution, and this lies between the two.
    """

    weight: float
    vector: np.ndarray

    @classmethod
    def none(cls, n_features: int) -> Self:
        """Of no rows."""
        return cls(0.0, np.zeros(n_features + 1))

    def with_rows(self, X, Z, curvatures: np.ndarray, share: float, fit_intercept: bool) -> Self:
        """With new rows, which have that share in the means."""
        weight = (1.0 - share) * self.weight + share * float(curvatures.mean())

        def product(direction: np.ndarray) -> np.ndarray:
            raw = curvatures * (Z @ direction[:-1] + fit_intercept * direction[-1]) / len(curvatures)
            return np.append(np.asarray(Z.T @ raw).ravel(), fit_intercept * raw.sum())

        length, new = np.linalg.norm(self.vector), min(WEIGHT_OF_NEW * share, 0.5 + 0.5 * share)
        known, rounds = 1.0 - new, int(np.ceil(ROUNDS * new))
        if length == 0 or known == 0:
            known, rounds, axis = 0.0, int(ROUNDS), stream(0, 0).standard_normal(self.vector.size)
        else:
            axis = self.vector / length
        direction, vector = axis, self.vector
        for _ in range(rounds):  # of the power method on what is known and the new rows
            vector = (known * float(axis @ direction)) * self.vector + new * product(direction)
            size = np.linalg.norm(vector)
            if size == 0:
                break
            direction = vector / size
        if known == 0 and size > 0:
            vector = direction * (new * largest_eigenvalue(Z, curvatures, fit_intercept))
        return type(self)(weight, vector)

    def inside(self, old: Axes, new: Axes) -> Self:
        """The same in other coordinates, exact where all rows are along it."""
        length = np.linalg.norm(self.vector)
        if length == 0:
            return self
        scale = new.scale.astype(np.float64)
        moved = (
            self.vector[:-1] / old.scale * scale
            + self.vector[-1] * (old.center.astype(np.float64) - new.center) * scale
        )
        moved = np.append(moved, self.vector[-1])
        return self._replace(vector=moved * (np.linalg.norm(moved) / length))

    def largest(self, axes: Axes, fit_intercept: bool, moments: Moments) -> float:
        """The largest eigenvalue; no less than the largest entry of the diagonal, which a new direction shows at once."""
        diagonal = self.weight * float(_mean_squares(moments, axes).max(initial=fit_intercept))
        return max(float(np.linalg.norm(self.vector)), diagonal)


class Spread(NamedTuple):
    """The centre of the targets of each output and their mean absolute deviation from it, as they come by the chunk.

    What a target can move them by is bounded by the deviation so far (Huber 1964), so that gross errors do not. The first
    targets give the median, and the median of the deviations that are not zero: many targets may be alike.
    """

    center: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray) -> Self:
        """That of some targets (n, K); the deviation of an output is zero where all are the same."""
        center = np.median(y, axis=0)
        positive = [column[column > 0] for column in np.abs(y - center).T]
        return cls(center, np.array([np.median(column) if column.size else 0.0 for column in positive]))

    def with_targets(self, y: np.ndarray, share: float) -> Self:
        """With new targets (n, K), which have that share of all."""
        step, apart, known = np.sqrt(share), y - self.center, self.size > 0
        limit = np.where(known, FARTHEST * self.size, np.inf)
        apart = np.clip(apart, -limit, limit)
        sizes = np.abs(apart).mean(axis=0)
        return type(self)(
            self.center + step * apart.mean(axis=0), np.where(known, self.size + step * (sizes - self.size), sizes)
        )

    @property
    def unit(self) -> float:
        """One over the smallest deviation that there is, 1 without any."""
        sizes = self.size[self.size > 0]
        return float(1.0 / sizes.min()) if sizes.size else 1.0


class Sketch(NamedTuple):
    """What is kept of the rows of a stream, as seen in some coordinates.

    A row counts if its random key is among the `SAMPLE` smallest so far: then its bound ``w (|z|^2 + 1)`` takes the place of
    that of another row, and the means move towards it by one over the number of bounds. So all of it is as of a uniform sample
    of the rows, and of a long stream next to nothing has to be computed. With ``w = s_i curvature_i``.

    Attributes
    ----------
    axes : Coordinates or AsGiven
        The coordinates of all but `SecondMoments`.
    spectrum : SecondMoments or LeadingDirection
        Where the largest eigenvalue comes from.
    bounds, keys : ndarray
        The bounds of the rows in the sample, and the keys that these drew.
    typical : float
        The mean of the bounds.
    seen, estimated_at : int
        Rows that came, and those that had come, or that a `fit` had, when constants were last derived.
    estimated_with : tuple of float
        The means of w and of its square at that time.
    spread : Spread or None
        That of the targets, where the curvature of the loss follows from it.
    sums : tuple of float
        The sums of w and of its square over all rows, and how many rows these are: a sample has none of those that are rare.
    cubes : float
        The sum of the cubes of w, of a loss whose curvature follows the raw outputs: its worst row is one that events come with.
    """

    axes: Axes
    spectrum: SecondMoments | LeadingDirection
    bounds: np.ndarray
    keys: np.ndarray
    typical: float = 0.0
    seen: int = 0
    estimated_at: int = 0
    estimated_with: tuple[float, float] = (0.0, 0.0)
    spread: Spread | None = None
    sums: tuple[float, float, int] = (0.0, 0.0, 0)
    cubes: float = 0.0

    @classmethod
    def none(cls, axes: Axes, n_features: int, is_sparse: bool, estimated_at: float = 0) -> Self:
        """Of no rows, before rows of that kind."""
        kind = LeadingDirection if is_sparse or n_features > SMALL_GRAM else SecondMoments
        return cls(axes, kind.none(n_features), np.empty(0), np.empty(0), estimated_at=int(min(estimated_at, SAMPLE)))

    @property
    def unit(self) -> float:
        """The curvature that one unit of a loss with a kink stands for."""
        return self.spread.unit if self.spread else 1.0

    @property
    def due(self) -> bool:
        """Whether enough rows came since the last estimate for a better one, or others: with a curvature that differs."""
        if self.seen >= GROWTH * self.estimated_at:
            return True
        pairs = zip(self._mean_curvatures(), self.estimated_with, strict=True)
        return any(before > 0 and max(now, before) > SHIFT * min(now, before) for now, before in pairs)

    def estimated(self, seen: int) -> Self:
        """The same after an estimate, from that many rows."""
        return self._replace(estimated_at=seen, estimated_with=self._mean_curvatures())

    def _mean_curvatures(self) -> tuple[float, float]:
        total, squares, n = self.sums
        return total / max(n, 1), squares / max(n, 1)

    def drawn(self, n_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, Self]:
        """The numbers of those rows of a chunk that count, and the sketch without the rows that they take the place of."""
        keys, sketch = rng.random(n_rows), self._replace(seen=self.seen + n_rows)
        limit = self.keys.max() if self.keys.size >= SAMPLE else np.inf
        new = np.flatnonzero(keys < limit)
        if not new.size:
            return new, sketch
        keys = np.concatenate([self.keys, keys[new]])
        kept = np.sort(np.argsort(keys, kind="stable")[:SAMPLE])
        n_old = self.keys.size
        return new[kept[kept >= n_old] - n_old], sketch._replace(
            bounds=self.bounds[kept[kept < n_old]], keys=keys[kept]
        )

    def with_curvatures(self, curvatures: np.ndarray, follows: bool) -> Self:
        """With those of all rows of a chunk; `follows`: they follow the raw outputs."""
        total, squares, n = self.sums
        cubes = self.cubes + float(np.sum(curvatures**3)) if follows else 0.0
        sums = total + float(curvatures.sum()), squares + float(curvatures @ curvatures), n + len(curvatures)
        return self._replace(sums=sums, cubes=cubes)

    def with_rows(self, X, Z, curvatures: np.ndarray, targets: np.ndarray | None, fit_intercept: bool) -> Self:
        """With the rows that `drawn` has named, as given and in the coordinates, and their targets where these matter."""
        share = len(curvatures) / self.keys.size
        bounds = curvatures * (square_lengths(Z) + fit_intercept)
        spread = self.spread
        if targets is not None:
            targets = targets.reshape(len(targets), -1).astype(np.float64)
            spread = Spread.of(targets) if spread is None else spread.with_targets(targets, share)
        return self._replace(
            spectrum=self.spectrum.with_rows(X, Z, curvatures, share, fit_intercept),
            bounds=np.concatenate([self.bounds, bounds]),
            typical=(1.0 - share) * self.typical + share * float(bounds.mean()),
            spread=spread,
        )

    def inside(self, axes: Axes, ratio: float) -> Self:
        """The sketch in other coordinates; `ratio` is that of the mean squared lengths of rows."""
        spectrum = self.spectrum.inside(self.axes, axes)
        return self._replace(axes=axes, spectrum=spectrum, bounds=self.bounds * ratio, typical=self.typical * ratio)

    def smoothness(self, ridge: float, fit_intercept: bool, moments: Moments) -> SmoothnessConstants:
        """The smoothness constants of the rows; `moments` are those of the features before them or with them."""
        unit, largest = self.unit, self.spectrum.largest(self.axes, fit_intercept, moments)
        total, squares, n = self.sums
        known = self.spectrum.weight
        if total > 0 and known > 0:  # the sample may lack what is rare and counts much
            unit *= total / n / known
        constants = constants_of(unit * self.bounds, unit * self.typical, unit * largest, ridge)
        constants = constants.of_uneven(n * squares / total**2 if total > 0 else 1.0)._replace(unit=self.unit)
        if not self.cubes > 0:
            return constants
        return constants._replace(worst=max(constants.worst, constants.typical * n / total * self.cubes / squares))


def mean_square_length(moments: Moments, axes: Axes, fit_intercept: bool) -> float:
    """The mean of ``|z|^2 + 1`` in some coordinates."""
    return float(_mean_squares(moments, axes).sum()) + fit_intercept


def _mean_squares(moments: Moments, axes: Axes) -> np.ndarray:
    variances = moments.squares / max(moments.count, 1.0)
    return (variances + (moments.mean - axes.center) ** 2) * axes.scale.astype(np.float64) ** 2
