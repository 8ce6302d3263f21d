"""The gradients of a model where training stands, as samplers and schedules see them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.models.data import Data
from skminibatch.statistics.gradients import GradientStatistics


class Gradients(NamedTuple):
    """The gradients of the rows where training stands, for samplers and schedules that look at them."""

    model: object
    data: Data
    predictor: tuple

    def statistics(self, groups: list[np.ndarray]) -> GradientStatistics:
        """Sums over some groups of rows."""
        return self.model.gradient_statistics(self.data, groups, *self.predictor, self.data.n_rows)

    def products(self, rows: np.ndarray) -> tuple[float, float, float]:
        """``(tr Sigma, Var(g_i . G), |G|^2)`` of some rows."""
        return self.model.gradient_products(self.data, rows, *self.predictor)

    def row_factors(self, rows: np.ndarray) -> np.ndarray:
        """What `row_squares` needs to know of some rows, the same throughout training."""
        return self.model.row_factors(self.data, rows)

    def row_squares(self, rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """Squared norms of the gradients of some rows."""
        return self.model.row_squares(self.data, rows, *self.predictor, factors)

    def row_bounds(self, rows: np.ndarray) -> np.ndarray:
        """Bounds of the smoothness of the losses of some rows."""
        return self.model.row_bounds(self.data, rows, *self.predictor)
