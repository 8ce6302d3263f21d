"""Linear models: their parameters, and how to run a plan on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils.extmath import safe_sparse_dot

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.coordinates import AsGiven, Coordinates, converted
from skminibatch.contract.kinds import declared
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.verbs import n_slots, prox, result, update
from skminibatch.models.data import Data, raw_outputs
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.statistics.random import EXAMINED


@dataclass(frozen=True)
class LinearModel(LinearGradients):
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
    bounds_rows = True  # `row_bounds`
    together = 1  # rows of an observation, what has a gradient of its own

    @property
    def axes(self) -> Coordinates | AsGiven:
        """The coordinates in which the optimizer works."""
        return self.coordinates or AsGiven(self.n_features, self.dtype)

    @property
    def change_of_coordinates(self) -> Coordinates | None:
        """The coordinates, None where they are those of the features as given: so backends ask for them."""
        return None if self.axes.trivial else self.coordinates

    @property
    def unset(self) -> tuple:
        """The predictor, where nothing is given to start from."""
        return None, None

    def start(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Parameters at given coefficients (K, d) and intercepts (K,), the optimizer fresh."""
        params = np.zeros((1 + n_slots(self.optimizer), self.n_outputs, self.n_features + 1), self.dtype)
        params[0] = self.axes.inside(coef, intercept)
        for slot, exponent in zip(params[1:], declared(self.optimizer).slot_exponents, strict=True):
            if exponent == -1:  # an average starts where the parameters start
                slot[:] = params[0]
        return params

    def cost_of_rows(self, data: Data) -> tuple[float, str]:
        """What a row costs in a step, and of what kind it is: see `StepCosts`."""
        return data.row_length * self.n_outputs, "csr" if is_sparse(data.X) else "dense"

    def in_micro_batches(self, n_rows: int) -> LinearModel:
        """The model as it looks at so many rows: each row has a gradient of its own."""
        return self

    def in_coordinates_of(self, new: LinearModel, params: np.ndarray) -> np.ndarray:
        """The same parameters in the coordinates of another model of the same optimizer."""
        exponents = (-1, *declared(self.optimizer).slot_exponents)
        return converted(params.astype(new.dtype), exponents, self.axes, new.axes)

    def of_features(self, features: np.ndarray, params: np.ndarray) -> tuple[LinearModel, np.ndarray]:
        """The model of some features alone, and a copy of the parameters of these."""
        coordinates = self.coordinates and self.coordinates.of_features(features)
        model = replace(self, n_features=len(features), coordinates=coordinates)
        return model, params[:, :, np.append(features, self.n_features)]

    def at_home(self, other: LinearModel) -> bool:
        """Whether both have the same loss and the same coordinates."""
        ours, theirs = self.axes, other.axes
        same_axes = np.array_equal(ours.scale, theirs.scale) and np.array_equal(ours.center, theirs.center)
        return same_axes and (type(self.loss), self.loss, self.penalty) == (type(other.loss), other.loss, other.penalty)

    def run(self, plan: Plan, params: np.ndarray, data: Data) -> StepStats:
        """Carry out a plan; `params` is updated in place."""
        backend = backends.choose(self.device)
        if data.table is not None and plan.weights is not None:
            raise ValueError("solver='saga' needs a sampler that gives every row the same chance.")
        parts = (self.loss, self.penalty, self.optimizer)
        arrays = (data.X, data.y, data.weights, plan, self.change_of_coordinates, params, self.fit_intercept)
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
            backend = backends.choose(self.device)
            arrays = (data.X, data.y, weights, self.change_of_coordinates)
            w = self.axes.inside(coef, intercept).astype(self.dtype)
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
        sums[:, :-1] *= self.axes.scale
        return sums, lengths

    def predictor(self, params: np.ndarray, coefficients: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (K, d) and intercepts (K,) of the features as given; `coefficients`: of the last step."""
        w = result(self.optimizer, params[0], tuple(params[1:]))
        coef, intercept = w[:, :-1], w[:, -1]
        averaged = declared(self.optimizer).brings("result")
        if coefficients is not None and averaged and declared(self.penalty).nonsmooth:
            axes = self.axes
            zero = np.zeros_like(params[0])
            _, _, step = update(self.optimizer, params[0], zero, tuple(params[1:]), coefficients)
            step = np.broadcast_to(step, zero.shape)[:, :-1]
            small = prox(self.penalty, coef * axes.stretch, step * axes.stretch**2) == 0
            # a small coefficient is noise, unless the last iterate agrees with the average
            settled = np.abs(params[0][:, :-1] - coef) <= 0.25 * np.abs(coef)
            coef = np.where(small & ~settled, 0, coef)
        coef, intercept = self.axes.outside(coef, intercept)
        return coef.astype(self.coef_dtype), intercept.astype(self.coef_dtype)

    def objective(self, data: Data, rows: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> tuple[float, float]:
        """Mean loss of some rows (empty: all) and the penalty."""
        backend = backends.choose(self.device)
        evaluate = backend.loss_csr if is_sparse(data.X) else backend.loss_dense
        total = evaluate(self.loss, data.X, data.y, data.weights, rows, coef, intercept)
        rows_weights = data.weights[rows] if data.weights.size and rows.size else data.weights
        weight = rows_weights.sum() if data.weights.size else (rows.size or data.X.shape[0])
        penalty = float(np.sum(self.penalty.value(coef.astype(np.float64) * self.axes.penalised)))
        return total / max(weight, np.finfo(float).tiny), penalty
