"""The gradients of a model at given parameters on given rows: what samplers, schedules and diagnostics read; see `view`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from scipy.sparse.linalg import LinearOperator

from skminibatch.models.data import ALL_ROWS, Data
from skminibatch.models.protocol import Model, Predictor
from skminibatch.statistics.gradients import GradientStatistics
from skminibatch.statistics.smoothness import SmoothnessConstants


@dataclass(frozen=True, eq=False)
class Gradients(ABC):
    """The gradients, the curvature and the smoothness of the objective of a model, at a predictor and over some rows.

    Everything is in the coordinates and the layout of the optimizer: a *point* has as many numbers p as the model has
    parameters. The gradients are those of *observations*, each a row or, where a normalization couples the rows of a batch, a
    micro-batch of consecutive ones of the rows; rows that do not fill the last micro-batch are left out.

    Attributes
    ----------
    model : Model
    data : Data
    predictor : tuple of ndarray
        The parameters, as `Model.predictor` returns them.
    subset : ndarray of int or None
        Numbers of the rows; None: all rows in use. See `rows`.
    """

    model: Model
    data: Data
    predictor: Predictor
    subset: np.ndarray | None = None

    hessian_by_products: ClassVar[bool]  # whether a column of the Hessian costs as much as a product with it

    # -- where it is

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the rows."""
        return self.data.rows_in_use if self.subset is None else self.subset

    def on(self, rows: np.ndarray) -> Self:
        """The same on other rows."""
        return replace(self, subset=rows)

    def on_data(self, data: Data) -> Self:
        """The same on all rows in use of other data."""
        return replace(self, data=data, subset=None)

    @property
    @abstractmethod
    def point(self) -> np.ndarray:
        """The predictor as a point (p,), float64."""

    @abstractmethod
    def at(self, point: np.ndarray) -> Self:
        """The same at another point (p,)."""

    def by_coordinate(self, point: np.ndarray) -> np.ndarray:
        """A point as a person reads it: of a linear model as (K, d + 1), zero for an intercept that there is not."""
        return point

    def in_micro_batches(self, n_rows: int) -> Self:
        """The same with observations as large as suits `n_rows` rows."""
        return replace(self, model=self.model.in_micro_batches(n_rows))

    def in_micro_batches_of(self, size: int) -> Self:
        """The same with observations of `size` rows, where rows are coupled."""
        return replace(self, model=self.model.in_micro_batches_of(size))

    def in_observations(self) -> Self:
        """The same with observations that suit the number of rows; where these are coupled, in random order."""
        rows = self.rows
        if self.model.couples_rows:
            rows = np.random.Generator(np.random.Philox(key=0)).permutation(rows)
        return self.in_micro_batches(len(rows)).on(rows)

    # -- gradients

    @abstractmethod
    def statistics(self, groups: list[np.ndarray], population: float | None = None) -> GradientStatistics:
        """Sums over groups of rows, which stand for `population` rows (None: for those in use)."""

    def quick_statistics(self) -> GradientStatistics:
        """`statistics` of the rows as one group, from the kernel that trains where that is faster."""
        return self.statistics([self.rows])

    @abstractmethod
    def products(self) -> tuple[float, float, float]:
        """``(tr Sigma, Var(g_i . G), |G|^2)``, G the mean gradient and that of the penalty."""

    @abstractmethod
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each coordinate of the gradients of the losses, (p,) each."""

    @abstractmethod
    def loss_gradient(self) -> np.ndarray:
        """The mean gradient of the losses (p,)."""

    @abstractmethod
    def penalty_gradient(self) -> np.ndarray:
        """The gradient of the smooth part of the penalty (p,)."""

    @abstractmethod
    def each(self) -> Iterator[np.ndarray]:
        """The gradients of the losses of the observations, written out (n, p), a few at a time."""

    @abstractmethod
    def row_factors(self) -> np.ndarray:
        """What `row_squares` needs to know of the rows, the same for all parameters."""

    @abstractmethod
    def row_squares(self, factors: np.ndarray) -> np.ndarray:
        """Squared norms of the gradients of the losses of the observations, from the `row_factors` of these rows."""

    # -- the objective and its curvature

    def objective(self) -> tuple[float, float]:
        """Mean loss of the rows, and the penalty."""
        rows = self.data.rows if self.subset is None else self.subset
        return self.model.objective(self.data, ALL_ROWS if rows is None else rows, self.predictor)

    @abstractmethod
    def smooth_objective(self) -> float:
        """The function whose gradient is that of the losses and of the smooth part of the penalty."""

    @abstractmethod
    def hessian(self) -> LinearOperator:
        """The Hessian of the objective (p, p), by its products.

        A loss and an activation add nothing at their kinks, and an l1 penalty nothing at all.
        """

    @abstractmethod
    def hessian_matrix(self) -> np.ndarray:
        """The same as a matrix (p, p)."""

    @abstractmethod
    def hessian_diagonal(self) -> np.ndarray:
        """The diagonal of the Hessian (p,)."""

    def hessian_trace(self) -> float:
        """The trace of the Hessian."""
        return float(self.hessian_diagonal().sum())

    # -- smoothness, where the model has one

    def smoothness(self) -> SmoothnessConstants | None:
        """Smoothness constants, the rows being a sample of all; None where the model has none."""
        return None

    def loss_bounds(self) -> np.ndarray | None:
        """Bounds of the second derivatives of the weighted losses of the rows; None where the model has no smoothness."""
        return None

    def largest_eigenvalue(self) -> float:
        """The largest curvature of the mean loss of the rows along any direction, by bounds; 0 where the model has none."""
        return 0.0

    def row_bounds(self) -> np.ndarray | None:
        """Bounds of the smoothness of the losses of the rows; None where the model has none."""
        return None
