"""The gradients, the curvature and the smoothness of linear models: what samplers, schedules and diagnostics ask of a model.

All in the coordinates of the optimizer. The gradient of a row is ``r_i (z_i, 1)`` with the residual r_i and the row z_i as the
optimizer sees it.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from skminibatch import backends
from skminibatch.backends import map_on_device
from skminibatch.contract.kinds import InvalidPart, declared
from skminibatch.contract.verbs import hessian_product, stiffness
from skminibatch.models.data import Data, _raw_portions
from skminibatch.statistics.gradients import GradientStatistics, sizes_of
from skminibatch.statistics.smoothness import SmoothnessConstants, smoothness, square_lengths


class LinearGradients:
    """The gradients and the Hessian of a model with `coordinates`; (`coef`, `intercept`) is the predictor."""

    hessian_by_products = False

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that are learnt."""
        return self.n_outputs * (self.n_features + self.fit_intercept)

    def flat(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The predictor as a point (p,), float64, in the coordinates and the layout of gradients and the Hessian."""
        return self._flat(self.axes.inside(coef.astype(np.float64), intercept.astype(np.float64)))

    def unflat(self, point: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The predictor at a point (p,), the other way round."""
        w = self.by_coordinate(point)
        coef, intercept = self.axes.outside(w[:, :-1], w[:, -1])
        return coef.astype(self.coef_dtype), intercept.astype(self.coef_dtype)

    def by_coordinate(self, point: np.ndarray) -> np.ndarray:
        """A point as (K, d + 1), the intercept last: zero where there are none."""
        w = np.zeros((self.n_outputs, self.n_features + 1))
        w[:, : self.n_features + self.fit_intercept] = point.reshape(len(w), -1)
        return w

    def _flat(self, w: np.ndarray) -> np.ndarray:
        return (w if self.fit_intercept else w[:, :-1]).ravel()

    def _row_bounds(self, X, y: np.ndarray, weights: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Bounds ``s_i curvature_i (|z_i|^2 + 1)`` of the smoothness of the losses of rows, without the penalty."""
        curvatures = self._curvatures(y, intercept) * (weights if weights.size else 1.0)
        return curvatures * (self._square_lengths(X) + self.fit_intercept)

    def _square_lengths(self, X) -> np.ndarray:
        """Squared lengths of rows as the optimizer sees them, without writing these out."""
        axes = self.axes
        squares = axes.scale.astype(np.float64) ** 2
        if sparse.issparse(X):
            X = X.astype(np.float64, copy=False)
            return np.asarray(X.multiply(X) @ squares).ravel()

        def lengths(X, center, squares):
            X = X.astype(np.float64, copy=False)
            moved = X - center if center.size else X
            return (moved * moved) @ squares

        return map_on_device(lengths, X, axes.center if np.any(axes.center) else np.empty(0), squares)

    def smoothness(self, data: Data, rows: np.ndarray, intercept: np.ndarray) -> SmoothnessConstants:
        """Smoothness constants from a sample of the rows.

        A loss with a kink has no curvature, but its expectation has: for residuals with the density f, that of the absolute
        and the pinball loss is of the order of ``f(0)``, and of one over the mean absolute deviation. That is what the rate
        follows, so that the unit in which y is measured does not matter.
        """
        Z, curvatures, unit = self.bounds(data, rows, intercept)
        return smoothness(Z, curvatures, self.ridge(), self.fit_intercept)._replace(unit=unit)

    def gradient_statistics(
        self, data: Data, groups: list[np.ndarray], coef: np.ndarray, intercept: np.ndarray, population: float
    ) -> GradientStatistics:
        """The gradients of groups of rows of `data`, in the coordinates of the optimizer.

        The gradient of a row is ``r_i (z_i, 1)`` with the residual r_i and the row z_i as the optimizer sees it, so that its
        squared norm ``r_i^2 (|z_i|^2 + 1)`` and its product with any other gradient cost one pass over the row.
        """
        pull = np.zeros((self.n_outputs, self.n_features + 1))
        pull[:, :-1] = self._pull(coef)
        sums = np.zeros_like(pull)
        squares, square_sums, products, pulls = np.zeros((4, len(groups)))
        for j, rows in enumerate(groups):
            mine = np.zeros_like(pull)
            for Z, residuals in self._residuals(data, rows, coef, intercept):
                lengths = square_lengths(Z)
                squares[j] += np.sum(np.sum(residuals**2, axis=1) * (lengths + self.fit_intercept))
                mine[:, :-1] += np.asarray(Z.T @ residuals).T
                mine[:, -1] += residuals.sum(axis=0) * self.fit_intercept
            square_sums[j], pulls[j] = np.sum(mine**2), np.sum(mine * pull)
            sums += mine
        if len(groups) == 1:  # its sum is that of all rows
            products = square_sums
        for j, rows in enumerate(groups if len(groups) > 1 else []):
            for Z, residuals in self._residuals(data, rows, coef, intercept):
                outputs = np.asarray(Z @ sums[:, :-1].T) + sums[:, -1] * self.fit_intercept
                products[j] += np.sum(residuals * outputs)
        square_pull = float(np.sum(pull**2))
        return GradientStatistics(sizes_of(groups), squares, square_sums, products, pulls, square_pull, population)

    def row_squares(
        self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray, factors: np.ndarray
    ) -> np.ndarray:
        """Squared norms of the gradients of the losses of some rows, from the `row_factors` of these rows."""
        backend, squares = backends.choose(self.device), []
        for _, raw, y, weights in _raw_portions(data, data.portions_on_device(rows), coef, intercept):
            residuals = backend.residuals(self.loss, raw, y, weights).astype(np.float64)
            squares.append(np.sum(residuals**2, axis=1))
        return np.concatenate(squares) * factors

    def row_factors(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """What `row_squares` needs to know of some rows, the same for all parameters.

        ``|z_i|^2 + 1`` for a row as the optimizer sees it (without the one where there is no intercept).
        """
        lengths = [self._square_lengths(X) for _, X in data.portions_to_compute(rows)]
        return np.concatenate(lengths) + self.fit_intercept

    def row_bounds(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Bounds ``s_i curvature_i (|z_i|^2 + 1)`` of the smoothness of the losses of some rows."""
        bounds = []
        for some, X in data.portions_to_compute(rows):
            bounds.append(self._row_bounds(X, data.y[some], data.weights_of(some), intercept))
        return np.concatenate(bounds)

    def gradient_products(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """``(tr Sigma, Var(g_i . G), |G|^2)`` of some rows, G their mean gradient and that of the penalty."""
        mean, variances = self.gradient_moments(data, rows, coef, intercept)
        G, products = self.by_coordinate(mean + self.penalty_gradient(coef, intercept)), []
        for Z, residuals in self._residuals(data, rows, coef, intercept):
            outputs = np.asarray(Z @ G[:, :-1].T) + G[:, -1] * self.fit_intercept
            products.append(np.sum(residuals * outputs, axis=1))
        n = len(rows)
        trace = float(np.sum(variances)) * n / (n - 1)
        return trace, float(np.var(np.concatenate(products), ddof=1)), float(np.sum(G**2))

    def loss_gradient(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The mean gradient of the losses of some rows (p,)."""
        return self.gradient_moments(data, rows, coef, intercept)[0]

    def gradient_moments(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """Mean and variance of each coordinate of the gradients of the losses of some rows, (p,) each."""
        sums, squares = np.zeros((2, self.n_outputs, self.n_features + 1))
        for Z, residuals in self._residuals(data, rows, coef, intercept):
            squared = Z.multiply(Z).tocsr() if sparse.issparse(Z) else Z * Z
            sums[:, :-1] += np.asarray(Z.T @ residuals).T
            squares[:, :-1] += np.asarray(squared.T @ residuals**2).T
            sums[:, -1] += residuals.sum(axis=0) * self.fit_intercept
            squares[:, -1] += np.sum(residuals**2, axis=0) * self.fit_intercept
        mean = sums / len(rows)
        return self._flat(mean), self._flat(np.maximum(squares / len(rows) - mean**2, 0.0))

    def row_gradients(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """The gradients of the losses of some rows (n, p), a few rows at a time, in the layout of `hessian`."""
        for Z, residuals in self._residuals(data, rows, coef, intercept):
            Z = self._written_out(Z)
            yield (residuals[:, :, None] * Z[:, None, :]).reshape(len(Z), -1)

    def landscape(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
        """The function whose gradient is that of the losses of some rows and of the smooth part of the penalty."""
        loss, _ = self.objective(data, rows, coef, intercept)
        penalty = float(np.sum(declared(self.penalty).smooth_value(coef.astype(np.float64) * self.axes.penalised)))
        # the mean over the rows, as for gradients, not over their weights
        return float((data.weights[rows].mean() if data.weights.size else 1.0) * loss + penalty)

    def penalty_gradient(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The gradient of the smooth part of the penalty (p,)."""
        return self._flat(np.column_stack([self._pull(coef), np.zeros(self.n_outputs)]).astype(np.float64))

    def _pull(self, coef: np.ndarray) -> np.ndarray:
        """The same for the coefficients (K, d)."""
        return self.penalty.gradient(coef * self.axes.penalised) * self.axes.stretch

    def hessian(
        self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray, bounded: bool = False
    ) -> LinearOperator:
        """The Hessian of the objective over some rows, by its products, in the coordinates of the optimizer.

        Its size is p = K (d + 1), the intercept of an output behind its coefficients, or K d without intercepts. A loss adds
        nothing at its kinks, and an l1 penalty nothing at all. `bounded`: with the bounds of the second derivatives of the
        losses in their place, as for the smoothness.
        """
        K, d = self.n_outputs, self.n_features
        unit, width = self._unit(data.y[rows], intercept), d + self.fit_intercept

        def product(directions):
            v = np.asarray(directions, np.float64).reshape(K, width, -1)
            out, m = np.zeros_like(v), v.shape[2]
            for Z, raw, y, weights in self._portions(data, rows, coef, intercept):
                moves = np.asarray(Z @ v[:, :d].transpose(1, 0, 2).reshape(d, -1)).reshape(-1, K, m)
                moves = moves + v[:, d] if self.fit_intercept else moves
                if bounded:
                    moved = unit * self._curvatures(y, intercept)[:, None, None] * moves
                else:
                    raw = raw.astype(np.float64)
                    moved = np.stack([hessian_product(self.loss, raw, y, moves[:, :, j]) for j in range(m)], axis=2)
                moved = moved if not weights.size else weights[:, None, None] * moved
                out[:, :d] += np.asarray(Z.T @ moved.reshape(len(raw), -1)).reshape(d, K, m).transpose(1, 0, 2)
                out[:, d:] += moved.sum(axis=0)[:, None]
            out /= len(rows)
            out[:, :d] += self.penalty_curvatures(coef)[:, :, None] * v[:, :d]
            return out.reshape(directions.shape)

        verbs = dict.fromkeys(("matvec", "rmatvec", "matmat", "rmatmat"), product)
        return LinearOperator((K * width, K * width), dtype=np.float64, **verbs)

    def hessian_matrix(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The same as a matrix (p, p)."""
        K, width = self.n_outputs, self.n_features + self.fit_intercept
        H = np.zeros((K, width, K, width))
        for Z, raw, y, weights in self._portions(data, rows, coef, intercept):
            Z = self._written_out(Z)
            for k in range(K):
                moved = self._by_output(raw, y, weights, k)
                for other in range(K):
                    if np.any(moved[:, other]):
                        H[other, :, k, :] += Z.T @ (moved[:, other, None] * Z)
        H /= len(rows)
        j, curvatures = np.arange(self.n_features), self.penalty_curvatures(coef)
        for k in range(K):
            H[k, j, k, j] += curvatures[k]
        return H.reshape(K * width, K * width)

    def hessian_trace(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
        """The trace of the Hessian of the objective over some rows."""
        return float(self.hessian_diagonal(data, rows, coef, intercept).sum())

    def hessian_diagonal(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The diagonal of the Hessian of the objective over some rows, (p,)."""
        diagonal = np.zeros((self.n_outputs, self.n_features + self.fit_intercept))
        for Z, raw, y, weights in self._portions(data, rows, coef, intercept):
            squared = Z.multiply(Z).tocsr() if sparse.issparse(Z) else Z * Z
            for k in range(self.n_outputs):
                second = self._by_output(raw, y, weights, k)[:, k]
                diagonal[k, : self.n_features] += np.asarray(squared.T @ second).ravel()
                diagonal[k, self.n_features :] += second.sum()
        diagonal /= len(rows)
        diagonal[:, : self.n_features] += self.penalty_curvatures(coef)
        return diagonal.ravel()

    def row_curvatures(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """Some rows z (n, width) and the second derivatives of their weighted losses by the raw outputs (n, K, K), in parts.

        The Hessian of the loss of a row is the Kronecker product of its second derivatives and ``z z'``.
        """
        for Z, raw, y, weights in self._portions(data, rows, coef, intercept):
            columns = [self._by_output(raw, y, weights, k) for k in range(self.n_outputs)]
            yield self._written_out(Z), np.stack(columns, axis=2)

    def penalty_curvatures(self, coef: np.ndarray) -> np.ndarray:
        """Second derivatives of the smooth part of the penalty by the coefficients (K, d)."""
        second = declared(self.penalty).second_derivative(coef.astype(np.float64) * self.axes.penalised)
        return np.broadcast_to(second * self.axes.stretch.astype(np.float64) ** 2, coef.shape)

    def _written_out(self, Z) -> np.ndarray:
        """Rows as a dense array, with the one that the intercept is multiplied with."""
        Z = Z.toarray() if sparse.issparse(Z) else Z
        return np.hstack([Z, np.ones((len(Z), 1))]) if self.fit_intercept else Z

    def _by_output(self, raw, y, weights, k: int) -> np.ndarray:
        """Second derivatives of the weighted losses of some rows by raw output `k` and each other, (n, K)."""
        direction = np.zeros(raw.shape)
        direction[:, k] = weights if weights.size else 1.0
        return hessian_product(self.loss, raw.astype(np.float64), y, direction)

    def bounds(self, data: Data, rows: np.ndarray, intercept: np.ndarray):
        """Some rows as the optimizer sees them, the bounds of their curvature, and the unit of these."""
        y, weights = data.y[rows], data.weights[rows] if data.weights.size else 1.0
        unit = self._unit(y, intercept)
        return self.axes.transform(data.X[rows]), unit * (weights * self._curvatures(y, intercept)), unit

    def ridge(self) -> float:
        """The largest curvature of the penalty."""
        curvature = self._penalty_curvature()
        if curvature is None:
            raise InvalidPart(
                f"learning_rate='auto' follows the curvature of the objective, and {type(self.penalty).__name__} does not "
                "declare its own: it needs the class data 'curvature', or a learning rate has to be set."
            )
        return float(np.max(curvature * self.axes.stretch.astype(np.float64) ** 2, initial=0.0))

    def strong_convexity(self) -> float:
        """The smallest curvature of the penalty, and a lower bound of that of the objective along the coefficients."""
        penalty = declared(self.penalty)
        convexity = self.penalty.gradient(1.0) if penalty.quadratic else penalty.convexity
        return float(np.min(convexity * self.axes.stretch**2))

    def _penalty_curvature(self) -> float | None:
        """Upper bound of the second derivative of the smooth part of the penalty."""
        penalty = declared(self.penalty)
        return self.penalty.gradient(1.0) if penalty.quadratic else penalty.curvature

    def _residuals(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """Some rows as the optimizer sees them and their weighted residuals (n, K), a few at a time."""
        backend = backends.choose(self.device)
        for Z, raw, y, weights in self._portions(data, rows, coef, intercept):
            yield Z, backend.residuals(self.loss, raw, y, weights).astype(np.float64)

    def _portions(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """Some rows as the optimizer sees them, their raw outputs (n, K), targets and weights, a few at a time."""
        for X, raw, y, weights in _raw_portions(data, data.portions_on_host(rows), coef, intercept):
            yield self.axes.transform(X), raw, y, weights

    def largest_stretch(self) -> float:
        """The stretch of a feature from which on the penalty is stiffer in its coordinate than the loss."""
        ridge = float(self._penalty_curvature() or 0.0)
        curvature = declared(self.loss).curvature or 1.0
        return float(np.sqrt(curvature / ridge)) if ridge > 0 else float(np.finfo(np.float32).max)

    def _unit(self, y: np.ndarray, intercept: np.ndarray) -> float:
        """The curvature of the expected loss that stands for that of a loss of residuals with a kink."""
        loss = declared(self.loss)
        if loss.curvature is not None or loss.task != "regression" or loss.brings("stiffness"):
            return 1.0
        deviation = np.abs(y.reshape(len(y), -1) - intercept).mean(axis=0)
        deviation = deviation[deviation > 0]
        return float(1.0 / deviation.min()) if deviation.size else 1.0

    def _curvatures(self, y: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Bounds of the second derivative of the loss for some rows, at constant raw outputs."""
        if declared(self.loss).curvature is not None or not declared(self.loss).brings("stiffness"):
            return np.full(len(y), stiffness(self.loss, intercept, y[0]))
        if y.ndim == 1:
            return stiffness(self.loss, np.full(len(y), intercept[0]), y)
        return np.array([stiffness(self.loss, intercept, row) for row in y])
