"""Models: parameters, and how to run a plan on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator
from sklearn.utils.extmath import safe_sparse_dot

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse, map_on_device
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.verbs import curvature_of, hessian_product, n_slots, prox, result, stiffness, update
from skminibatch.models.data import Data, _raw_portions, raw_outputs
from skminibatch.statistics.gradients import GradientStatistics, sizes_of
from skminibatch.statistics.random import EXAMINED
from skminibatch.statistics.smoothness import Smoothness, smoothness, square_lengths


@dataclass(frozen=True)
class LinearModel:
    """``raw = coef . x + intercept``, by the parts it is made of; the parameters themselves are passed to the methods.

    Parameters are (1 + n_slots, K, d + 1), the intercept last, in `coordinates`; float64 on sparse rows, whatever
    the `coef_dtype` of the predictor.
    """

    loss: tuple
    penalty: tuple
    optimizer: tuple
    device: str
    n_features: int
    n_outputs: int
    fit_intercept: bool
    dtype: np.dtype
    coef_dtype: np.dtype
    coordinates: Coordinates | None = None
    n_threads: int = 1

    smallest_batch = 1
    couples_rows = False
    together = 1  # rows of an observation, what has a gradient of its own
    hessian_by_products = False

    @property
    def unset(self) -> tuple:
        """The predictor, where nothing is given to start from."""
        return None, None

    def start(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Parameters at given coefficients (K, d) and intercepts (K,), the optimizer fresh."""
        params = np.zeros((1 + n_slots(self.optimizer), self.n_outputs, self.n_features + 1), self.dtype)
        params[0] = self.inside(coef, intercept)
        for slot, exponent in zip(params[1:], self.optimizer.slot_exponents, strict=True):
            if exponent == -1:  # an average starts where the parameters start
                slot[:] = params[0]
        return params

    def inside(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Coefficients and intercepts as parameters (K, d + 1), in the coordinates of the optimizer."""
        axes = self._axes()
        return np.column_stack([coef / axes.scale, intercept + coef @ axes.center])

    def outside(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters as coefficients (K, d) and intercepts (K,) of the features as given."""
        return self._outside(w[:, :-1], w[:, -1])

    def _outside(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.coordinates is None:
            return coef, intercept
        coef = coef * self.coordinates.scale
        return coef, intercept - coef @ self.coordinates.center

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that are learnt."""
        return self.n_outputs * (self.n_features + self.fit_intercept)

    def flat(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The predictor as a point (p,), float64, in the coordinates and the layout of gradients and the Hessian."""
        return self._flat(self.inside(coef.astype(np.float64), intercept.astype(np.float64)))

    def unflat(self, point: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The predictor at a point (p,), the other way round."""
        coef, intercept = self.outside(self.by_coordinate(point))
        return coef.astype(self.coef_dtype), intercept.astype(self.coef_dtype)

    def by_coordinate(self, point: np.ndarray) -> np.ndarray:
        """A point as (K, d + 1), the intercept last: zero where there are none."""
        w = np.zeros((self.n_outputs, self.n_features + 1))
        w[:, : self.n_features + self.fit_intercept] = point.reshape(len(w), -1)
        return w

    def _flat(self, w: np.ndarray) -> np.ndarray:
        return (w if self.fit_intercept else w[:, :-1]).ravel()

    def cost_of_rows(self, data: Data) -> tuple[float, str]:
        """What a row costs in a step, and of what kind it is: see `StepCosts`."""
        return data.row_length * self.n_outputs, "csr" if is_sparse(data.X) else "dense"

    def in_micro_batches(self, n_rows: int) -> LinearModel:
        """The model as it looks at so many rows: each row has a gradient of its own."""
        return self

    def in_coordinates_of(self, new: LinearModel, params: np.ndarray) -> np.ndarray:
        """The same parameters in the coordinates of another model of the same optimizer."""
        old, params = self._axes(), params.astype(new.dtype)
        new_axes = new._axes()
        ratio, shift = new_axes.scale / old.scale, new_axes.center - old.center
        if np.all(ratio == 1) and not np.any(shift):
            return params
        for array, exponent in zip(params, (-1, *self.optimizer.slot_exponents), strict=True):
            if exponent == -1:
                array[:, -1] += (array[:, :-1] * old.scale) @ shift
            array[:, :-1] *= ratio**exponent
            if exponent == 1:
                array[:, :-1] -= new_axes.scale * shift * array[:, -1:]
        return params

    def of_features(self, features: np.ndarray, params: np.ndarray) -> tuple[LinearModel, np.ndarray]:
        """The model of some features alone, and a copy of the parameters of these."""
        axes = self.coordinates and Coordinates(*(axis[features] for axis in self.coordinates))
        model = replace(self, n_features=len(features), coordinates=axes)
        return model, params[:, :, np.append(features, self.n_features)]

    def at_home(self, other: LinearModel) -> bool:
        """Whether both have the same loss and the same coordinates."""
        ours, theirs = self._axes(), other._axes()
        same_axes = np.array_equal(ours.scale, theirs.scale) and np.array_equal(ours.center, theirs.center)
        return same_axes and (type(self.loss), self.loss, self.penalty) == (type(other.loss), other.loss, other.penalty)

    def _penalised(self) -> np.ndarray | float:
        """What the penalty acts on, over the coefficients of the features as given."""
        return 1.0 if self.coordinates is None else self.coordinates.stretch / self.coordinates.scale

    def _axes(self) -> Coordinates:
        ones = np.ones(self.n_features, self.dtype)
        return self.coordinates or Coordinates(np.zeros_like(ones), ones, ones)

    def run(self, plan: Plan, params: np.ndarray, data: Data) -> StepStats:
        """Carry out a plan; `params` is updated in place."""
        backend = backends.choose(self.device)
        if data.table is not None and plan.weights is not None:
            raise ValueError("solver='saga' needs a sampler that gives every row the same chance.")
        parts = (self.loss, self.penalty, self.optimizer)
        coordinates = None if self.coordinates is None or self.coordinates.trivial else self.coordinates
        arrays = (data.X, data.y, data.weights, plan, coordinates, params, self.fit_intercept)
        if is_sparse(data.X):
            return backend.run_csr(*parts, *arrays, table=data.table)
        return backend.run_dense(*parts, *arrays, self.n_threads, data.table)

    def stored(self, data: Data, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a ``per_row`` optimizer starts from, by one pass over the rows.

        The table (n, 1 + K) with the residuals of the rows (zero of those not in use) and shares of one; the mean of the
        gradients (K, d + 1) in the coordinates of the optimizer; and the smoothness of each row (n,), without the penalty.
        """
        table, weights = np.ones((data.X.shape[0], 1 + self.n_outputs), self.dtype), data.weights
        if data.rows is not None:
            used = np.zeros(len(table))
            used[data.rows] = 1.0
            weights = used * weights if weights.size else used
        if is_sparse(data.X):
            sums, lengths = self._gradient_csr(data, weights, coef, intercept, table)
        else:
            axes, backend = self.coordinates, backends.choose(self.device)
            arrays = (data.X, data.y, weights, None if axes is None or axes.trivial else axes)
            w = self.inside(coef, intercept).astype(self.dtype)
            sums, lengths = backend.gradient_dense(self.loss, *arrays, w, table)
        sums[:, -1] *= self.fit_intercept
        each = np.add(lengths, self.fit_intercept, out=lengths)
        for factor in (self._curvatures(data.y, intercept), *([weights] if weights.size else [])):
            each *= factor
        return table, sums / data.n_rows, each

    def _gradient_csr(self, data: Data, weights: np.ndarray, coef, intercept, table: np.ndarray):
        """What `gradient_dense` of a backend gives, of sparse rows, a few at a time."""
        backend = backends.choose(self.device)
        sums, lengths = np.zeros((self.n_outputs, self.n_features + 1)), np.empty(len(table))
        for start in range(0, len(table), EXAMINED):
            some = slice(start, start + EXAMINED)
            X = data.X[some]
            raw = np.asarray(raw_outputs(X, coef, intercept), self.dtype)
            table[some, 1:] = residuals = backend.residuals(self.loss, raw, data.y[some], weights[some])
            sums += np.column_stack([safe_sparse_dot(X.T, residuals).T, residuals.sum(axis=0)])
            lengths[some] = self._square_lengths(X)
        sums[:, :-1] *= self._axes().scale
        return sums, lengths

    def _row_bounds(self, X, y: np.ndarray, weights: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Bounds ``s_i curvature_i (|z_i|^2 + 1)`` of the smoothness of the losses of rows, without the penalty."""
        curvatures = self._curvatures(y, intercept) * (weights if weights.size else 1.0)
        return curvatures * (self._square_lengths(X) + self.fit_intercept)

    def _square_lengths(self, X) -> np.ndarray:
        """Squared lengths of rows as the optimizer sees them, without writing these out."""
        axes = self._axes()
        squares = axes.scale.astype(np.float64) ** 2
        if sparse.issparse(X):
            X = X.astype(np.float64, copy=False)
            return np.asarray(X.multiply(X) @ squares).ravel()

        def lengths(X, center, squares):
            X = X.astype(np.float64, copy=False)
            moved = X - center if center.size else X
            return (moved * moved) @ squares

        return map_on_device(lengths, X, axes.center if np.any(axes.center) else np.empty(0), squares)

    def predictor(self, params: np.ndarray, coefficients: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (K, d) and intercepts (K,) of the features as given; `coefficients`: of the last step."""
        w = result(self.optimizer, params[0], tuple(params[1:]))
        coef, intercept = w[:, :-1], w[:, -1]
        if coefficients is not None and self.penalty.l1 > 0 and hasattr(self.optimizer, "result"):
            axes = self._axes()
            zero = np.zeros_like(params[0])
            _, _, step = update(self.optimizer, params[0], zero, tuple(params[1:]), coefficients)
            step = np.broadcast_to(step, zero.shape)[:, :-1]
            small = prox(self.penalty, coef * axes.stretch, step * axes.stretch**2) == 0
            # a small coefficient is noise, unless the last iterate agrees with the average
            settled = np.abs(params[0][:, :-1] - coef) <= 0.25 * np.abs(coef)
            coef = np.where(small & ~settled, 0, coef)
        coef, intercept = self._outside(coef, intercept)
        return coef.astype(self.coef_dtype), intercept.astype(self.coef_dtype)

    def objective(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> tuple[float, float]:
        """Mean loss of some rows (empty: all) and the penalty."""
        backend = backends.choose(self.device)
        evaluate = backend.loss_csr if is_sparse(data.X) else backend.loss_dense
        total = evaluate(self.loss, data.X, data.y, data.weights, rows, coef, intercept)
        rows_weights = data.weights[rows] if data.weights.size and rows.size else data.weights
        weight = rows_weights.sum() if data.weights.size else (rows.size or data.X.shape[0])
        penalty = float(np.sum(self.penalty.value(coef.astype(np.float64) * self._penalised())))
        return total / max(weight, np.finfo(float).tiny), penalty

    def smoothness(self, data: Data, rows: np.ndarray, intercept: np.ndarray) -> Smoothness:
        """Smoothness constants from a sample of the rows.

        A loss with a kink has no curvature, but its expectation has: for residuals with the density f, that of the absolute
        and the pinball loss is of the order of ``f(0)``, and of one over the mean absolute deviation. That is what the rate
        follows, so that the unit in which y is measured does not matter.
        """
        Z, curvatures, unit = self.bounds(data, rows, intercept)
        return smoothness(Z, curvatures, self.ridge(), self.fit_intercept)._replace(unit=unit)

    def _seen(self, X):
        """Rows as the optimizer sees them, float64."""
        X = X.astype(np.float64, copy=False)
        if self.coordinates is None or self.coordinates.trivial:
            return X
        axes = self.coordinates
        return X.multiply(axes.scale).tocsr() if sparse.issparse(X) else (X - axes.center) * axes.scale

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
        smooth = replace(self, penalty=self.penalty._replace(l1=0.0))
        loss, penalty = smooth.objective(data, rows, coef, intercept)
        # the mean over the rows, as for gradients, not over their weights
        return float((data.weights[rows].mean() if data.weights.size else 1.0) * loss + penalty)

    def penalty_gradient(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The gradient of the smooth part of the penalty (p,)."""
        return self._flat(np.column_stack([self._pull(coef), np.zeros(self.n_outputs)]).astype(np.float64))

    def _pull(self, coef: np.ndarray) -> np.ndarray:
        """The same for the coefficients (K, d)."""
        return self.penalty.gradient(coef * self._penalised()) * self._axes().stretch

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
            out[:, :d] += self.penalty_curvatures()[:, None] * v[:, :d]
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
        j = np.arange(self.n_features)
        for k in range(K):
            H[k, j, k, j] += self.penalty_curvatures()
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
        diagonal[:, : self.n_features] += self.penalty_curvatures()
        return diagonal.ravel()

    def row_curvatures(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """Some rows z (n, width) and the second derivatives of their weighted losses by the raw outputs (n, K, K), in parts.

        The Hessian of the loss of a row is the Kronecker product of its second derivatives and ``z z'``.
        """
        for Z, raw, y, weights in self._portions(data, rows, coef, intercept):
            columns = [self._by_output(raw, y, weights, k) for k in range(self.n_outputs)]
            yield self._written_out(Z), np.stack(columns, axis=2)

    def penalty_curvatures(self) -> np.ndarray:
        """Second derivatives of the smooth part of the penalty by the coefficients of an output (d,)."""
        return self.penalty.gradient(self._axes().stretch.astype(np.float64) ** 2)

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
        return self._seen(data.X[rows]), unit * (weights * self._curvatures(y, intercept)), unit

    def ridge(self) -> float:
        """The largest curvature of the penalty."""
        return float(np.max(self.penalty_curvatures(), initial=0.0))

    def strong_convexity(self) -> float:
        """The smallest curvature of the penalty, and a lower bound of that of the objective along the coefficients."""
        return float(np.min(self.penalty.gradient(self._axes().stretch ** 2)))

    def _residuals(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """Some rows as the optimizer sees them and their weighted residuals (n, K), a few at a time."""
        backend = backends.choose(self.device)
        for Z, raw, y, weights in self._portions(data, rows, coef, intercept):
            yield Z, backend.residuals(self.loss, raw, y, weights).astype(np.float64)

    def _portions(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray):
        """Some rows as the optimizer sees them, their raw outputs (n, K), targets and weights, a few at a time."""
        for X, raw, y, weights in _raw_portions(data, data.portions_on_host(rows), coef, intercept):
            yield self._seen(X), raw, y, weights

    def largest_stretch(self) -> float:
        """The stretch of a feature from which on the penalty is stiffer in its coordinate than the loss."""
        ridge = float(self.penalty.gradient(1.0))
        return (
            float(np.sqrt((curvature_of(self.loss) or 1.0) / ridge)) if ridge > 0 else float(np.finfo(np.float32).max)
        )

    def _unit(self, y: np.ndarray, intercept: np.ndarray) -> float:
        """The curvature of the expected loss that stands for that of a loss of residuals with a kink."""
        pointwise = getattr(self.loss, "loss", self.loss)
        if curvature_of(self.loss) is not None or pointwise.task != "regression" or hasattr(pointwise, "stiffness"):
            return 1.0
        deviation = np.abs(y.reshape(len(y), -1) - intercept).mean(axis=0)
        deviation = deviation[deviation > 0]
        return float(1.0 / deviation.min()) if deviation.size else 1.0

    def _curvatures(self, y: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Bounds of the second derivative of the loss for some rows, at constant raw outputs."""
        if curvature_of(self.loss) is not None or not hasattr(self.loss, "stiffness"):
            return np.full(len(y), stiffness(self.loss, intercept, y[0]))
        if y.ndim == 1:
            return stiffness(self.loss, np.full(len(y), intercept[0]), y)
        return np.array([stiffness(self.loss, intercept, row) for row in y])
