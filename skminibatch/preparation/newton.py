"""The step along which the objective falls most, by its curvature at the present parameters: Newton's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from skminibatch.backends import map_on_device
from skminibatch.backends.arrays import stays_on_gpu
from skminibatch.contract.coordinates import RoundCoordinates
from skminibatch.contract.verbs import hessian_product, second_derivative
from skminibatch.models.curvature import has_kink, has_second_derivative
from skminibatch.models.data import Data, outputs_of_all
from skminibatch.models.linear import LinearModel
from skminibatch.models.protocol import Predictor
from skminibatch.models.smoothed import RowLosses
from skminibatch.statistics.expansion import grams
from skminibatch.training.stopping import ROUNDING

MOST_PRODUCTS = 20  # of the Hessian with a vector, each of which costs about as much as a pass of large batches
RESIDUAL = 0.1  # of the gradient, that may be left
# for a step by all second derivatives: operations, and numbers of these derivatives
MOST_OPERATIONS, MOST_DERIVATIVES = 20_000_000, 15_000
MOST_STEPS, SMALLEST_STEP = 25, 1e-3
LAST = 1e-3  # times `tol`: the gain of the last step, relative to the objective, after which next to nothing is left
NEGLIGIBLE = 1e-12  # of the mean curvature: directions without any are left alone


def newton_step(model: LinearModel, data: Data, predictor: Predictor, gradient: np.ndarray) -> tuple[np.ndarray, float]:
    """The step (K, d + 1) in round coordinates, and what the objective should fall by.

    One output is about as curved in every direction: a step along the gradient is Newton's. The curvatures of several outputs
    differ, and they depend on each other, so that their step is found by conjugate gradients, as Newton's in the truncated method
    (Dembo and Steihaug 1983, Mathematical Programming 26).
    """
    axes = model.axes
    assert isinstance(axes, RoundCoordinates)
    if model.n_outputs == 1 or not has_second_derivative(model.loss, data.y, np.zeros((1, model.n_outputs))):
        return gradient / axes.curvature, float(np.sum(gradient**2)) / (2.0 * axes.curvature)
    raw = outputs_of_all(data, *predictor).astype(np.float64)
    weights, ridge = data.weights_in_use, model.ridge_of_coordinates()

    def product(vector: np.ndarray) -> np.ndarray:
        direction = vector.reshape(gradient.shape)
        curved, along = np.zeros_like(gradient), (direction[:, :-1] @ axes.mix.T).astype(model.dtype)
        for rows, X in data.portions_on_device(np.arange(len(raw))):
            moved = map_on_device(_outputs, X, axes.center, along) + direction[:, -1]
            second = hessian_product(model.loss, raw[rows], data.y[rows], moved.astype(np.float64))
            if weights.size:
                second *= weights[rows, None]
            curved[:, :-1] += map_on_device(_sums, X, axes.center, second.astype(model.dtype))
            curved[:, -1] += second.sum(axis=0)
        curved[:, :-1] = curved[:, :-1] @ axes.mix
        curved /= data.n_rows
        curved[:, :-1] += ridge * direction[:, :-1]
        curved[:, -1] *= model.fit_intercept
        return curved.ravel()

    operator = LinearOperator((gradient.size,) * 2, matvec=product, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        step, _ = cg(operator, gradient.ravel(), rtol=RESIDUAL, maxiter=MOST_PRODUCTS)
    step = step.reshape(gradient.shape)
    if not np.isfinite(step).all():  # a loss that is flat there has no curvature
        step = gradient / axes.curvature
    return step, float(np.sum(gradient * step)) / 2.0


def _outputs(X, center, coef):
    return (X - center) @ coef.T


def _sums(X, center, second):
    return second.T @ (X - center)


class Minimum(NamedTuple):
    """Where full steps have led: a predictor, its mean loss and its penalty.

    ``above``: by how much the objective is above its minimum (NaN: not known).
    """

    predictor: Predictor
    loss: float
    penalty: float
    above: float


def takes_full_steps(model: LinearModel, data: Data) -> bool:
    """Whether all second derivatives cost less than a few epochs do: of few rows, features and outputs, on the host."""
    width, outputs = model.width, model.n_outputs
    cost = data.n_rows * width**2 * outputs * (outputs + 1) // 2 + (width * outputs) ** 3
    if cost > MOST_OPERATIONS or data.n_rows * outputs**2 > MOST_DERIVATIVES:
        return False
    if has_kink(model.loss) or stays_on_gpu(data.X):
        return False
    return has_second_derivative(model.loss, data.y, np.zeros((1, outputs)))


def minimised(model: LinearModel, data: Data, predictor: Predictor, tol: float) -> Minimum:
    """Newton's method from a predictor to the minimum, much nearer than `tol` asks for."""
    problem, axes, above = _Problem.of(model, data), model.plain_axes, np.nan
    w = axes.inside(*predictor).astype(np.float64)[:, : model.width]
    raw = problem.Z @ w.T
    objective = problem.objective(w, raw)
    for _ in range(MOST_STEPS):
        gradient = problem.gradient(w, raw)
        move = problem.solved(raw, gradient)
        gain = 0.5 * float(np.sum(gradient * move))
        share, moved = 1.0, problem.Z @ move.T
        after = problem.objective(w - move, raw - moved)
        while not after <= objective + ROUNDING * abs(objective) and share > SMALLEST_STEP:
            share *= 0.5
            after = problem.objective(w - share * move, raw - share * moved)
        if not (after <= objective + ROUNDING * abs(objective) and gain >= 0):
            break
        w, raw, objective = w - share * move, raw - share * moved, after
        if gain <= LAST * tol * abs(objective):
            above = gain
            break
    intercept = w[:, -1] if model.fit_intercept else np.zeros(len(w))
    predictor = tuple(each.astype(model.coef_dtype) for each in axes.outside(w[:, : model.n_features], intercept))
    penalty = model.penalty_value(predictor)
    return Minimum(predictor, problem.mean_loss(raw), penalty, above)


class _Problem(NamedTuple):
    """The objective of the rows in use (n, p), its gradient and its Hessian by parameters (K, p), float64."""

    model: LinearModel
    Z: np.ndarray
    losses: RowLosses
    weights: np.ndarray
    ridge: np.ndarray

    @classmethod
    def of(cls, model: LinearModel, data: Data) -> _Problem:
        """In the coordinates of the model, with the one of the intercept."""
        y, weights = data.targets
        Z = model.plain_axes.transform(data.X if data.rows is None else data.X[data.rows])
        Z = np.column_stack([Z, np.ones(len(Z))]) if model.fit_intercept else Z
        losses = RowLosses.of(model.loss, y.astype(np.float64, copy=False), model.n_outputs)
        ridge = np.append(model.ridge_of_coordinates(), np.zeros(int(model.fit_intercept)))
        return cls(model, Z, losses, np.ones(len(y)) if weights is None else weights, ridge)

    def mean_loss(self, raw: np.ndarray) -> float:
        return self.losses.sum(raw, self.weights) / float(self.weights.sum())

    def objective(self, w: np.ndarray, raw: np.ndarray) -> float:
        return self.mean_loss(raw) + 0.5 * float(np.sum(self.ridge * w**2))

    def gradient(self, w: np.ndarray, raw: np.ndarray) -> np.ndarray:
        residuals = self.weights[:, None] * self.losses.derivatives(raw)
        return residuals.T @ self.Z / self.weights.sum() + self.ridge * w

    def solved(self, raw: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """The inverse of the Hessian times a gradient."""
        losses, weights = self.losses, self.weights / self.weights.sum()
        K, p = gradient.shape
        if losses.one is not None:  # each output has a Hessian of its own
            hessian = grams(self.Z, weights[:, None] * second_derivative(losses.one, raw, losses.targets))
        else:
            each = np.repeat(raw, K, axis=0), np.repeat(losses.y, K, axis=0), np.tile(np.eye(K), (len(raw), 1))
            second = hessian_product(losses.loss, *each).reshape(-1, K * K) * weights[:, None]
            products = self.Z.T @ (second[:, :, None] * self.Z[:, None, :]).reshape(len(raw), -1)
            hessian = products.reshape(p, K, K, p).transpose(1, 0, 2, 3).reshape(1, K * p, K * p)
        curvatures = np.einsum("kii->ki", hessian)  # a view
        curvatures += np.tile(self.ridge, hessian.shape[1] // p)
        curvatures += NEGLIGIBLE * curvatures.mean(axis=1, keepdims=True)
        try:
            move = np.linalg.solve(hessian, gradient.reshape(len(hessian), -1, 1)).reshape(K, p)
        except np.linalg.LinAlgError:  # no curvature at all
            return np.full_like(gradient, np.nan)
        if losses.one is None and not np.any(
            hessian_product(losses.loss, raw[:1], losses.y[:1], np.ones((1, K))) > NEGLIGIBLE
        ):
            free = self.ridge == 0  # what adds the same to all outputs changes nothing: rounding would decide on it
            move[:, free] -= move[:, free].mean(axis=0)
        return move
