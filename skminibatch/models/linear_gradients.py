"""The gradients, the curvature and the smoothness of linear models.

The gradient of a row is ``r_i (z_i, 1)`` with the residuals r_i, one for each output, and the row z_i as the optimizer sees it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from skminibatch import backends
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import hessian_product, identity
from skminibatch.models.curvature import (
    curvature_bounds,
    has_kink,
    kink_curvature,
    second_derivatives,
    typical_curvature,
)
from skminibatch.models.data import outputs_of_portions, square_lengths_inside
from skminibatch.models.gradients import Gradients
from skminibatch.models.linear import LinearModel
from skminibatch.statistics.gradients import GradientStatistics, sizes_of
from skminibatch.statistics.smoothness import SmoothnessConstants, largest_eigenvalue, smoothness, square_lengths


@dataclass(frozen=True, eq=False)
class LinearGradients(Gradients):
    """The gradients of a linear model; see `Gradients`."""

    model: LinearModel

    hessian_by_products: ClassVar[bool] = False

    @property
    def coef(self) -> np.ndarray:
        """Coefficients (K, d) of the features as given."""
        return self.predictor[0]

    @property
    def intercept(self) -> np.ndarray:
        """Intercepts (K,) of the features as given."""
        return self.predictor[1]

    # -- points

    @property
    def point(self) -> np.ndarray:
        """The predictor as a point (p,), float64."""
        axes = self.model.axes
        return self._flat(axes.inside(self.coef.astype(np.float64), self.intercept.astype(np.float64)))

    def at(self, point: np.ndarray) -> Self:
        """The same at another point (p,)."""
        w, dtype = self.by_coordinate(point), self.model.coef_dtype
        coef, intercept = self.model.axes.outside(w[:, :-1], w[:, -1])
        return replace(self, predictor=(coef.astype(dtype), intercept.astype(dtype)))

    def by_coordinate(self, point: np.ndarray) -> np.ndarray:
        """A point as (K, d + 1), the intercept last: zero where there are none."""
        w = np.zeros((self.model.n_outputs, self.model.n_features + 1))
        w[:, : self.model.width] = point.reshape(len(w), -1)
        return w

    def _flat(self, w: np.ndarray) -> np.ndarray:
        return (w if self.model.fit_intercept else w[:, :-1]).ravel()

    # -- gradients

    def statistics(self, groups: list[np.ndarray], population: float | None = None) -> GradientStatistics:
        """Sums over groups of rows, which stand for `population` rows (None: for those in use).

        The squared norm ``r_i^2 (|z_i|^2 + 1)`` of a gradient and its product with any other cost one pass over the row.
        """
        penalty, fit_intercept = np.zeros((self.model.n_outputs, self.model.n_features + 1)), self.model.fit_intercept
        penalty[:, :-1] = self._penalty_of_coefficients()
        total = np.zeros_like(penalty)
        squares, square_sums, products, pulls = np.zeros((4, len(groups)))
        for j, rows in enumerate(groups):
            g = np.zeros_like(penalty)
            for Z, residuals in self._residuals(rows):
                lengths = square_lengths(Z)
                squares[j] += np.sum(np.sum(residuals**2, axis=1) * (lengths + fit_intercept))
                g[:, :-1] += np.asarray(Z.T @ residuals).T
                g[:, -1] += residuals.sum(axis=0) * fit_intercept
            square_sums[j], pulls[j] = np.sum(g**2), np.sum(g * penalty)
            total += g
        if len(groups) == 1:  # its sum is that of all rows
            products = square_sums
        for j, rows in enumerate(groups if len(groups) > 1 else []):
            for Z, residuals in self._residuals(rows):
                outputs = np.asarray(Z @ total[:, :-1].T) + total[:, -1] * fit_intercept
                products[j] += np.sum(residuals * outputs)
        population = self.data.n_rows if population is None else population
        square_pull = float(np.sum(penalty**2))
        return GradientStatistics(sizes_of(groups), squares, square_sums, products, pulls, square_pull, population)

    def products(self) -> tuple[float, float, float]:
        """``(tr Sigma, Var(g_i . G), |G|^2)``, G the mean gradient and that of the penalty."""
        mean, variances = self.moments()
        G, products = self.by_coordinate(mean + self.penalty_gradient()), []
        for Z, residuals in self._residuals(self.rows):
            outputs = np.asarray(Z @ G[:, :-1].T) + G[:, -1] * self.model.fit_intercept
            products.append(np.sum(residuals * outputs, axis=1))
        n = len(self.rows)
        trace = float(np.sum(variances)) * n / (n - 1)
        return trace, float(np.var(np.concatenate(products), ddof=1)), float(np.sum(G**2))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each coordinate of the gradients of the losses, (p,) each."""
        fit_intercept, n = self.model.fit_intercept, len(self.rows)
        sums, squares = np.zeros((2, self.model.n_outputs, self.model.n_features + 1))
        for Z, residuals in self._residuals(self.rows):
            squared = Z.multiply(Z).tocsr() if sparse.issparse(Z) else Z * Z
            sums[:, :-1] += np.asarray(Z.T @ residuals).T
            squares[:, :-1] += np.asarray(squared.T @ residuals**2).T
            sums[:, -1] += residuals.sum(axis=0) * fit_intercept
            squares[:, -1] += np.sum(residuals**2, axis=0) * fit_intercept
        mean = sums / n
        return self._flat(mean), self._flat(np.maximum(squares / n - mean**2, 0.0))

    def loss_gradient(self) -> np.ndarray:
        """The mean gradient of the losses (p,)."""
        return self.moments()[0]

    def penalty_gradient(self) -> np.ndarray:
        """The gradient of the smooth part of the penalty (p,)."""
        of_coefficients = self._penalty_of_coefficients()
        return self._flat(np.column_stack([of_coefficients, np.zeros(self.model.n_outputs)]).astype(np.float64))

    def _penalty_of_coefficients(self) -> np.ndarray:
        """The same for the coefficients (K, d)."""
        axes = self.model.axes
        return axes.pulled(self.model.penalty.gradient(self.coef * axes.penalised) * axes.penalised)

    def each(self) -> Iterator[np.ndarray]:
        """The gradients of the losses of the rows, written out (n, p), a few at a time."""
        for Z, residuals in self._residuals(self.rows):
            Z = self._written_out(Z)
            yield (residuals[:, :, None] * Z[:, None, :]).reshape(len(Z), -1)

    def row_factors(self) -> np.ndarray:
        """What `row_squares` needs to know of the rows, the same for all parameters.

        ``|z_i|^2 + 1`` for a row as the optimizer sees it (without the one where there is no intercept).
        """
        lengths = [square_lengths_inside(X, self.model.axes) for _, X in self.data.portions_to_compute(self.rows)]
        return np.concatenate(lengths) + self.model.fit_intercept

    def row_squares(self, factors: np.ndarray) -> np.ndarray:
        """Squared norms of the gradients of the losses of the rows, from the `row_factors` of these."""
        backend, squares, data = backends.choose(self.model.device), [], self.data
        portions = data.portions_on_device(self.rows)
        for _, raw, y, weights in outputs_of_portions(data, portions, self.coef, self.intercept):
            residuals = backend.residuals(self.model.loss, raw, y, weights).astype(np.float64)
            squares.append(np.sum(residuals**2, axis=1))
        return np.concatenate(squares) * factors

    # -- the objective and its curvature

    def smooth_objective(self) -> float:
        """The function whose gradient is that of the losses and of the smooth part of the penalty."""
        loss, _ = self.model.objective(self.data, self.rows, self.predictor)
        penalised = self.coef.astype(np.float64) * self.model.axes.penalised
        penalty = float(np.sum(declared(self.model.penalty).smooth_value(penalised)))
        # the mean over the rows, as for gradients, not over their weights
        weights = self.data.weights
        return float((weights[self.rows].mean() if weights.size else 1.0) * loss + penalty)

    def hessian(self) -> LinearOperator:
        """The Hessian of the objective (p, p), by its products.

        The intercept of an output is behind its coefficients. A loss adds nothing at its kinks, and an l1 penalty nothing at
        all.
        """

        def second(raw, y, changes):
            raw = raw.astype(np.float64)
            columns = [hessian_product(self.model.loss, raw, y, changes[:, :, j]) for j in range(changes.shape[2])]
            return np.stack(columns, axis=2)

        return self._operator(second)

    def bounded_hessian(self) -> LinearOperator:
        """`hessian` with the bounds of the second derivatives of the losses in their place, as for the smoothness."""
        loss, intercept = self.model.loss, self.intercept
        unit = self._unit()

        def second(raw, y, changes):
            return unit * curvature_bounds(loss, y, intercept)[:, None, None] * changes

        return self._operator(second)

    def _operator(self, second) -> LinearOperator:
        """The Hessian of the objective; ``second(raw, y, changes)`` is that of the losses by raw outputs times (n, K, m)."""
        K, d, width = self.model.n_outputs, self.model.n_features, self.model.width

        def product(directions):
            v = np.asarray(directions, np.float64).reshape(K, width, -1)
            out, m = np.zeros_like(v), v.shape[2]
            for Z, raw, y, weights in self._portions(self.rows):
                changes = np.asarray(Z @ v[:, :d].transpose(1, 0, 2).reshape(d, -1)).reshape(-1, K, m)
                changes = changes + v[:, d] if self.model.fit_intercept else changes
                slopes = second(raw, y, changes)
                slopes = slopes if not weights.size else weights[:, None, None] * slopes
                out[:, :d] += np.asarray(Z.T @ slopes.reshape(len(raw), -1)).reshape(d, K, m).transpose(1, 0, 2)
                out[:, d:] += slopes.sum(axis=0)[:, None]
            out /= len(self.rows)
            out[:, :d] += self.model.penalty_curvatures(self.coef)[:, :, None] * v[:, :d]
            return out.reshape(directions.shape)

        verbs = dict.fromkeys(("matvec", "rmatvec", "matmat", "rmatmat"), product)
        return LinearOperator((K * width, K * width), dtype=np.float64, **verbs)

    def hessian_matrix(self) -> np.ndarray:
        """The same as a matrix (p, p)."""
        K, width = self.model.n_outputs, self.model.width
        H = np.zeros((K, width, K, width))
        for Z, raw, y, weights in self._portions(self.rows):
            Z = self._written_out(Z)
            for k in range(K):
                second = self._second_derivatives(raw, y, weights, k)
                for other in range(K):
                    if np.any(second[:, other]):
                        H[other, :, k, :] += Z.T @ (second[:, other, None] * Z)
        H /= len(self.rows)
        j, curvatures = np.arange(self.model.n_features), self.model.penalty_curvatures(self.coef)
        for k in range(K):
            H[k, j, k, j] += curvatures[k]
        return H.reshape(K * width, K * width)

    def hessian_diagonal(self) -> np.ndarray:
        """The diagonal of the Hessian (p,)."""
        K, d = self.model.n_outputs, self.model.n_features
        diagonal = np.zeros((K, self.model.width))
        for Z, raw, y, weights in self._portions(self.rows):
            squared = Z.multiply(Z).tocsr() if sparse.issparse(Z) else Z * Z
            for k in range(K):
                second = self._second_derivatives(raw, y, weights, k)[:, k]
                diagonal[k, :d] += np.asarray(squared.T @ second).ravel()
                diagonal[k, d:] += second.sum()
        diagonal /= len(self.rows)
        diagonal[:, :d] += self.model.penalty_curvatures(self.coef)
        return diagonal.ravel()

    def row_curvatures(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The rows z (n, width) and the second derivatives of their weighted losses by the raw outputs (n, K, K), in parts.

        The Hessian of the loss of a row is the Kronecker product of its second derivatives and ``z z'``.
        """
        for Z, raw, y, weights in self._portions(self.rows):
            columns = [self._second_derivatives(raw, y, weights, k) for k in range(self.model.n_outputs)]
            yield self._written_out(Z), np.stack(columns, axis=2)

    def _written_out(self, Z) -> np.ndarray:
        """Rows as a dense array, with the one that the intercept is multiplied with."""
        Z = Z.toarray() if sparse.issparse(Z) else Z
        return np.hstack([Z, np.ones((len(Z), 1))]) if self.model.fit_intercept else Z

    def _second_derivatives(self, raw, y, weights, k: int) -> np.ndarray:
        return second_derivatives(self.model.loss, raw, y, k, weights if weights.size else 1.0)

    # -- smoothness

    def smoothness(self) -> SmoothnessConstants:
        """Smoothness constants, the rows being a sample of all.

        A loss with a kink has no curvature, but its expectation has: for residuals with the density f, that of the absolute
        and the pinball loss is of the order of ``f(0)``, and of one over the mean absolute deviation. That is what the rate
        follows, so that the unit in which y is measured does not matter.
        """

        def found() -> SmoothnessConstants:
            Z, curvatures, unit = self.bounded_rows()
            return smoothness(Z, curvatures, self.model.ridge(), self.model.fit_intercept)._replace(unit=unit)

        model = self.model

        def parts() -> tuple[Hashable, ...]:
            known = identity(model.loss), identity(model.penalty), model.fit_intercept, self.intercept.tobytes()
            return "smoothness", *known, self.data.weights_of(self.rows).tobytes(), *self._rows_inside()

        return self.data.remembered(parts, found)

    def bounded_rows(self) -> tuple:
        """The rows as the optimizer sees them, the bounds of the curvature of their losses, and the unit of these."""
        data, rows, loss = self.data, self.rows, self.model.loss
        y, weights = data.y[rows], data.weights[rows] if data.weights.size else 1.0
        unit = self._unit()
        bounds = weights * curvature_bounds(loss, y, self.intercept)
        return self.model.axes.transform(data.X[rows]), unit * bounds, unit

    def _unit(self) -> float:
        """The curvature that a loss with a kink has in the mean of the rows, at constant raw outputs; 1 for other losses."""
        loss, rows = self.model.loss, self.rows
        if not has_kink(loss) or declared(loss).task != "regression":
            return 1.0
        y, weights = self.data.y[rows], self.data.weights_of(rows)
        raw = np.broadcast_to(self.intercept, (len(y), self.model.n_outputs))
        return kink_curvature(loss, y, raw, weights, typical_curvature(loss, y))

    def loss_bounds(self) -> np.ndarray:
        """Bounds ``s_i curvature_i`` of the second derivatives of the weighted losses of the rows by their raw outputs."""
        weights = self.data.weights_of(self.rows)
        return curvature_bounds(self.model.loss, self.data.y[self.rows], self.intercept) * (
            weights if weights.size else 1.0
        )

    def largest_eigenvalue(self) -> float:
        """The largest curvature of the mean loss of the rows along any direction, by the bounds of their curvatures."""
        Z = self.model.axes.transform(self.data.X[self.rows])
        return largest_eigenvalue(Z, self.loss_bounds(), self.model.fit_intercept)

    def row_bounds(self) -> np.ndarray:
        """Bounds ``s_i curvature_i (|z_i|^2 + 1)`` of the smoothness of the losses of the rows, without the penalty."""

        def found() -> np.ndarray:
            portions = self.data.portions_to_compute(self.rows)
            return np.concatenate([square_lengths_inside(X, self.model.axes) for _, X in portions])

        lengths = self.data.remembered(lambda: ("lengths", *self._rows_inside()), found)
        return self.loss_bounds() * (lengths + self.model.fit_intercept)

    def _rows_inside(self) -> tuple[Hashable, ...]:
        """What rows and coordinates there are, as a key."""
        axes = self.model.plain_axes
        return self.rows.tobytes(), axes.center.tobytes(), axes.scale.tobytes(), axes.stretch.tobytes()

    # -- rows, a few at a time

    def _residuals(self, rows: np.ndarray) -> Iterator[tuple]:
        """Some rows as the optimizer sees them and their weighted residuals (n, K)."""
        backend = backends.choose(self.model.device)
        for Z, raw, y, weights in self._portions(rows):
            yield Z, backend.residuals(self.model.loss, raw, y, weights).astype(np.float64)

    def _portions(self, rows: np.ndarray) -> Iterator[tuple]:
        """Some rows as the optimizer sees them, their raw outputs (n, K), targets and weights."""
        portions = self.data.portions_on_host(rows)
        for X, raw, y, weights in outputs_of_portions(self.data, portions, self.coef, self.intercept):
            yield self.model.axes.transform(X), raw, y, weights
