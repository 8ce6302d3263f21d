"""Linear models: their parameters, and how to run a plan on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.extmath import safe_sparse_dot

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.affine import AffineRows
from skminibatch.contract.coordinates import AnyCoordinates, AsGiven, Coordinates, RoundCoordinates, converted
from skminibatch.contract.kinds import InvalidPart, declared
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.task import LinearTask
from skminibatch.contract.typing import AnyPart
from skminibatch.contract.verbs import n_slots, prox, result, update
from skminibatch.models.curvature import has_kink
from skminibatch.models.data import Data, raw_outputs, square_lengths_inside, without_absent_features
from skminibatch.models.duality import duality_gap
from skminibatch.models.protocol import Distance, Predictor
from skminibatch.statistics.random import EXAMINED


class Stored(NamedTuple):
    """What a ``per_row`` optimizer starts from.

    Attributes
    ----------
    table : ndarray of shape (n, 1 + K)
        Shares of one, and the residuals of the rows (zero of those not in use).
    mean : ndarray of shape (K, d + 1)
        The mean of the gradients in the coordinates of the optimizer.
    lengths : ndarray of shape (n,)
        ``|z_i|^2 + 1`` of the rows in these coordinates (without the one where there is no intercept).
    loss : float
        The weighted sum of the losses; NaN of sparse rows.
    """

    table: np.ndarray
    mean: np.ndarray
    lengths: np.ndarray
    loss: float


@dataclass(frozen=True)
class LinearModel:
    """``raw = coef . x + intercept``, a `Model`, by the parts that training is made of.

    Params are (1 + n_slots, K, d + 1), the intercept last, in `coordinates`; float64 on sparse rows, whatever the
    `coef_dtype` of the predictor, (coefficients, intercepts).
    """

    loss: AnyPart
    penalty: AnyPart
    optimizer: AnyPart
    device: str
    n_features: int
    n_outputs: int
    fit_intercept: bool
    dtype: np.dtype
    coef_dtype: np.dtype
    coordinates: Coordinates | RoundCoordinates | None = None
    n_threads: int = 1

    smallest_batch = 1
    couples_rows = False
    observation_size = 1
    has_smoothness = True

    @property
    def width(self) -> int:
        """Parameters of an output that are learnt."""
        return self.n_features + self.fit_intercept

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that are learnt."""
        return self.n_outputs * self.width

    @property
    def axes(self) -> AnyCoordinates:
        """The coordinates in which the optimizer works."""
        return self.coordinates or AsGiven(self.n_features, self.dtype)

    @property
    def plain_axes(self) -> Coordinates | AsGiven:
        """The same, before they are made round."""
        axes = self.axes
        assert not isinstance(axes, RoundCoordinates)
        return axes

    @property
    def unset(self) -> tuple[None, None]:
        """A predictor of which nothing is given."""
        return None, None

    # -- the same model with something changed

    def with_optimizer(self, optimizer: AnyPart) -> LinearModel:
        """The model with another optimizer."""
        return replace(self, optimizer=optimizer)

    def with_device(self, device: str) -> LinearModel:
        """The model on another device."""
        return replace(self, device=device)

    def in_micro_batches(self, n_rows: int) -> LinearModel:
        """The model itself: each row has a gradient of its own."""
        return self

    def in_micro_batches_of(self, size: int) -> LinearModel:
        """The model itself: each row has a gradient of its own."""
        return self

    def in_coordinates_of(self, new: LinearModel, params: np.ndarray) -> np.ndarray:
        """The same params in the coordinates of another model of the same optimizer."""
        exponents = (-1, *declared(self.optimizer).slot_exponents)
        return converted(params.astype(new.dtype), exponents, self.plain_axes, new.plain_axes)

    def without_absent_features(self, X, params: np.ndarray) -> tuple[LinearModel, Any, np.ndarray]:
        """The model, sparse rows and a copy of the params without the features that no row has; dense rows as they are."""
        if not is_sparse(X):
            return self, X, params.copy()
        X, features = without_absent_features(X)
        assert features is not None
        coordinates = self.coordinates
        if isinstance(coordinates, Coordinates):
            coordinates = coordinates.of_features(features)
        model = replace(self, n_features=len(features), coordinates=coordinates)
        return model, X, np.ascontiguousarray(params[:, :, np.append(features, self.n_features)])

    # -- training

    def start(self, predictor: Predictor) -> np.ndarray:
        """Params at given coefficients (K, d) and intercepts (K,), the optimizer fresh."""
        params = np.zeros((1 + n_slots(self.optimizer), self.n_outputs, self.n_features + 1), self.dtype)
        params[0] = self.axes.inside(*predictor)
        for slot, exponent in zip(params[1:], declared(self.optimizer).slot_exponents, strict=True):
            if exponent == -1:  # an average starts where the parameters start
                slot[:] = params[0]
        return params

    def run(self, plan: Plan, params: np.ndarray, data: Data) -> StepStats:
        """Carry out a plan; `params` is updated in place."""
        if data.table is not None and plan.weights is not None:
            raise ValueError("solver='saga' needs a sampler that gives every row the same chance.")
        backend, task = backends.choose(self.device), self.task(data, params)
        if declared(self.optimizer).dual:
            return backend.run_dual(task, plan)
        return backend.run_csr(task, plan) if is_sparse(data.X) else backend.run_dense(task, plan)

    def task(self, data: Data, params: np.ndarray) -> LinearTask:
        """What a backend is handed."""
        X: Any = data.X if data.written is None else data.written
        axes = self.axes.in_kernels
        if isinstance(X, AffineRows):
            X, axes = X.X, X.coordinates(axes)
        return LinearTask(
            self.loss, self.penalty, self.optimizer, X, data.y,
            data.weights if data.step_weights is None else data.step_weights, params,
            coordinates=axes, fit_intercept=self.fit_intercept,
            table=data.table, n_threads=self.n_threads,
        )  # fmt: skip

    def predictor(self, params: np.ndarray, coefficients: np.ndarray | None) -> Predictor:
        """Coefficients (K, d) and intercepts (K,) of the features as given; `coefficients`: of the last step."""
        w = result(self.optimizer, params[0], tuple(params[1:]))
        coef, intercept = w[:, :-1], w[:, -1]
        if declared(self.optimizer).dual:
            coef = self.optimizer.shrunk(coef)
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
        return self._as_given(coef, intercept)

    def last_iterate(self, params: np.ndarray) -> Predictor:
        """The predictor that the parameters themselves are, where another one is used for prediction."""
        return self._as_given(params[0][:, :-1], params[0][:, -1])

    def _as_given(self, coef: np.ndarray, intercept: np.ndarray) -> Predictor:
        """The predictor of coefficients and intercepts in the coordinates of the optimizer."""
        coef, intercept = self.axes.outside(coef, intercept)
        return coef.astype(self.coef_dtype), intercept.astype(self.coef_dtype)

    def sum_of_losses(self, data: Data, rows: np.ndarray, predictor: Predictor) -> float:
        """Weighted sum of the losses of some rows (empty: all)."""
        backend = backends.choose(self.device)
        X: Any = data.X
        evaluate = backend.loss_csr if is_sparse(X) else backend.loss_dense
        if isinstance(X, AffineRows):
            X, predictor = X.X, X.outside(*predictor)
        return evaluate(self.loss, X, data.y, data.weights, rows, *predictor)

    def objective(self, data: Data, rows: np.ndarray, predictor: Predictor) -> tuple[float, float]:
        """Mean loss of some rows (empty: all) and the penalty."""
        return self.objective_of(self.sum_of_losses(data, rows, predictor), data, rows, predictor)

    def objective_of(self, total: float, data: Data, rows: np.ndarray, predictor: Predictor) -> tuple[float, float]:
        """The same, from the weighted sum of the losses."""
        rows_weights = data.weights[rows] if data.weights.size and rows.size else data.weights
        weight = rows_weights.sum() if data.weights.size else (rows.size or data.X.shape[0])
        return total / max(weight, np.finfo(float).tiny), self.penalty_value(predictor)

    def penalty_value(self, predictor: Predictor) -> float:
        """The penalty of the coefficients."""
        coef, _ = predictor
        return float(np.sum(self.penalty.value(coef.astype(np.float64) * self.axes.penalised)))

    def cost_of_rows(self, data: Data) -> tuple[float, str]:
        """What a row costs in a step, and of what kind it is: see `StepCosts`."""
        return data.row_length * self.n_outputs, "csr" if is_sparse(data.X) else "dense"

    def stored(self, data: Data, predictor: Predictor) -> Stored:
        """What a ``per_row`` optimizer starts from, by one pass over the rows."""
        task = self.gradient_task(data, predictor)
        if not is_sparse(data.X):
            return self.stored_of(task, data, backends.choose(self.device).gradient_dense(task))
        assert task.table is not None
        return self.stored_of(task, data, (*self._gradient_csr(data, task.weights, predictor, task.table), np.nan))

    def gradient_task(self, data: Data, predictor: Predictor) -> LinearTask:
        """What the verb of a backend is handed that computes the gradients of all rows at a predictor."""
        table = np.ones((data.X.shape[0], 1 + self.n_outputs), self.dtype)
        data = data._replace(weights=data.weights_in_use, table=table)
        return self.task(data, self.start(predictor))

    def stored_of(self, task: LinearTask, data: Data, found: tuple) -> Stored:
        """The same, from what the verb returns."""
        (sums, lengths, loss), table = found, task.table
        assert table is not None
        sums[:, -1] *= self.fit_intercept
        return Stored(table, sums / data.n_rows, lengths + self.fit_intercept, loss)

    def _gradient_csr(self, data: Data, weights: np.ndarray, predictor: Predictor, table: np.ndarray):
        """What `gradient_dense` of a backend returns but the loss, of sparse rows, a few at a time."""
        backend = backends.choose(self.device)
        sums, lengths = np.zeros((self.n_outputs, self.n_features + 1)), np.empty(len(table))
        for start in range(0, len(table), EXAMINED):
            rows = slice(start, start + EXAMINED)
            X = data.X[rows]
            raw = np.asarray(raw_outputs(X, *predictor), self.dtype)
            table[rows, 1:] = residuals = backend.residuals(self.loss, raw, data.y[rows], weights[rows])
            sums += np.column_stack([safe_sparse_dot(X.T, residuals).T, residuals.sum(axis=0)])
            lengths[rows] = square_lengths_inside(X, self.axes)
        if isinstance(self.coordinates, Coordinates):
            sums[:, :-1] *= self.coordinates.scale
        return sums, lengths

    # -- curvature

    def penalty_curvatures(self, coef: np.ndarray) -> np.ndarray:
        """Second derivatives of the smooth part of the penalty by the coefficients (K, d)."""
        second = declared(self.penalty).second_derivative(coef.astype(np.float64) * self.axes.penalised)
        return np.broadcast_to(second * self.axes.stretch.astype(np.float64) ** 2, coef.shape)

    def distance(self, params: np.ndarray, data: Data, loss: float) -> Distance:
        """How far the objective is above its least value, by the gradient and the curvature where they are known.

        ``|G|^2 / (2 curvature)`` in round coordinates, G from the stored residuals of the rows. Of a dual optimizer, the
        duality gap, for which `loss` is the mean over all rows.
        """
        if declared(self.optimizer).dual:
            assert data.table is not None
            return duality_gap(self.optimizer, self.penalty, params, data.table, loss, self.fit_intercept)
        axes = self.axes
        if not (isinstance(axes, RoundCoordinates) and declared(self.optimizer).per_row) or has_kink(self.loss):
            return Distance()
        gradient = self.gradient_with_penalty(params[0], params[1])
        return Distance(estimate=axes.flatness * float(np.sum(gradient**2)) / (2.0 * axes.curvature))

    def gradient_with_penalty(self, w: np.ndarray, of_losses: np.ndarray) -> np.ndarray:
        """The gradient of the objective (K, d + 1) from that of the mean loss, for a square penalty; float64."""
        gradient = of_losses.astype(np.float64)
        gradient[:, :-1] += self.ridge_of_coordinates() * w[:, :-1]
        return gradient

    def l1(self) -> float:
        """What the absolute value of a coefficient counts in the penalty, where that is all that is not smooth."""
        penalty = declared(self.penalty)
        return float(penalty.threshold or 0.0) if penalty.nonsmooth else 0.0

    def ridge_of_coordinates(self) -> np.ndarray:
        """The curvature of the penalty along each coordinate (d,), float64."""
        return (self.penalty_curvature() or 0.0) * self.axes.stretch.astype(np.float64) ** 2

    def ridge(self) -> float:
        """The largest curvature of the penalty."""
        if self.penalty_curvature() is None:
            raise InvalidPart(
                f"learning_rate='auto' follows the curvature of the objective, and {type(self.penalty).__name__} does not "
                "declare its own: it needs the class data 'curvature', or a learning rate has to be set."
            )
        return float(np.max(self.ridge_of_coordinates(), initial=0.0))

    def strong_convexity(self) -> float:
        """The smallest curvature of the penalty, and a lower bound of that of the objective along the coefficients."""
        penalty = declared(self.penalty)
        convexity = self.penalty.gradient(1.0) if penalty.quadratic else penalty.convexity
        return float(np.min(convexity * self.axes.stretch**2))

    def largest_stretch(self) -> float:
        """The stretch of a feature from which on the penalty is stiffer in its coordinate than the loss."""
        ridge = float(self.penalty_curvature() or 0.0)
        curvature = declared(self.loss).curvature or 1.0
        return float(np.sqrt(curvature / ridge)) if ridge > 0 else float(np.finfo(np.float32).max)

    def penalty_curvature(self) -> float | None:
        """Upper bound of the second derivative of the smooth part of the penalty."""
        penalty = declared(self.penalty)
        return self.penalty.gradient(1.0) if penalty.quadratic else penalty.curvature
