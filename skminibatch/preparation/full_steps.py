"""Few rows, features and outputs: Newton's method by the whole matrix of second derivatives, to the minimum.

An epoch of such data costs more than all of these steps. Where a step goes too far, the curvatures of the rows count for at least
a share of their bound, with which the objective falls: a loss like that of Huber is flat far from its targets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.backends.arrays import stays_on_gpu
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import hessian_product, second_derivative
from skminibatch.models.curvature import has_kink, has_second_derivative
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.models.protocol import Predictor
from skminibatch.models.smoothed import RowLosses
from skminibatch.statistics.expansion import Factors, grams
from skminibatch.training.stopping import ROUNDING

MOST_OPERATIONS, MOST_DERIVATIVES = 20_000_000, 15_000  # in a step, and numbers of second derivatives
MOST_STEPS = 100
HALVINGS, FEW_HALVINGS = 10, 3  # of a step; few, where curvatures have a bound that can count instead
SHARES = (0.0, 0.05, 1.0)  # of their bound, that curvatures count as at least
SUFFICIENT = 0.1  # of what the slope says, that the objective has to fall by
LAST = 1e-3  # times `tol`: the gain of the last step, relative to the objective, after which next to nothing is left
NOTHING = 1e-12  # the same, relative to the objective where the steps began
NEGLIGIBLE = 1e-12  # curvature


class Minimum(NamedTuple):
    """Where the steps have led: a predictor, its mean loss and its penalty.

    ``above``: by how much the objective is above its minimum (NaN: not known).
    """

    predictor: Predictor
    loss: float
    penalty: float
    above: float


def takes_full_steps(model: LinearModel, data: Data) -> bool:
    """Whether the steps end sooner than a few epochs: with few rows, features and outputs, on the host."""
    width, outputs = model.width, model.n_outputs
    cost = data.n_rows * width**2 * outputs * (outputs + 1) // 2 + (width * outputs) ** 3
    if cost > MOST_OPERATIONS or data.n_rows * outputs**2 > MOST_DERIVATIVES:
        return False
    if has_kink(model.loss) or stays_on_gpu(data.X):
        return False
    return has_second_derivative(model.loss, data.y, np.zeros((1, outputs)))


def minimised(model: LinearModel, data: Data, predictor: Predictor, tol: float) -> Minimum:
    """The minimum, from a predictor, much nearer than `tol` asks for."""
    problem, axes, above, floor = Problem.of(model, data), model.plain_axes, np.nan, 0
    at = problem.at(axes.inside(*predictor).astype(np.float64)[:, : model.width])
    began, shares = abs(at.objective), SHARES if problem.bound else SHARES[:1]
    for _ in range(MOST_STEPS):
        gradient = problem.gradient(at)
        after, gain = problem.stepped(at, gradient, shares[floor])
        while after is None and floor + 1 < len(shares):
            floor += 1
            after, gain = problem.stepped(at, gradient, shares[floor])
        if after is None:
            break
        at = after
        if floor == 0 and gain <= LAST * tol * abs(at.objective) + NOTHING * began:
            above = gain
            break
        floor = max(floor - 1, 0)
    intercept = at.w[:, -1] if model.fit_intercept else np.zeros(len(at.w))
    predictor = tuple(each.astype(model.coef_dtype) for each in axes.outside(at.w[:, : model.n_features], intercept))
    loss, penalty = model.objective(data, data.evaluated_rows, predictor)
    lost = max(loss + penalty - at.objective, 0.0)  # by rounding to the type of the coefficients
    return Minimum(predictor, loss, penalty, above + lost)


class Point(NamedTuple):
    """Parameters (K, p), the raw outputs of the rows (n, K), and the objective."""

    w: np.ndarray
    raw: np.ndarray
    objective: float


class Problem(NamedTuple):
    """The objective of the rows in use (n, p) by parameters (K, p) in the coordinates of the model, float64.

    ``shares`` are the weights of the rows over their sum. ``bound`` is that of the curvature of a loss that is a sum over the
    outputs (0: of another one, or there is none). ``same_for_all``: what is added to all outputs alike changes no loss.
    """

    Z: np.ndarray
    losses: RowLosses
    shares: np.ndarray
    ridge: np.ndarray
    bound: float
    same_for_all: bool

    @classmethod
    def of(cls, model: LinearModel, data: Data) -> Problem:
        """With the one of the intercept."""
        (y, weights), K = data.targets, model.n_outputs
        Z = model.plain_axes.transform(data.X[slice(None) if data.rows is None else data.rows])
        Z = np.column_stack([Z, np.ones(len(Z))]) if model.fit_intercept else Z
        losses = RowLosses.of(model.loss, y.astype(np.float64, copy=False), K)
        ridge = np.append(model.ridge_of_coordinates(), np.zeros(int(model.fit_intercept)))
        bound = 0.0 if losses.one is None else float(declared(losses.one).curvature or 0.0)
        alike = losses.one is None and not np.any(
            np.abs(hessian_product(model.loss, np.zeros((1, K)), losses.y[:1], np.ones((1, K)))) > NEGLIGIBLE
        )
        weights = np.ones(len(y)) if weights is None else weights
        return cls(Z, losses, weights / weights.sum(), ridge, bound, alike)

    def mean_loss(self, raw: np.ndarray) -> float:
        """The weighted mean of the losses."""
        return self.losses.sum(raw, self.shares)

    def at(self, w: np.ndarray, raw: np.ndarray | None = None) -> Point:
        """The point of some parameters."""
        raw = self.Z @ w.T if raw is None else raw
        return Point(w, raw, self.mean_loss(raw) + 0.5 * float(np.sum(self.ridge * w**2)))

    def gradient(self, at: Point) -> np.ndarray:
        """The gradient of the objective (K, p)."""
        return (self.shares[:, None] * self.losses.derivatives(at.raw)).T @ self.Z + self.ridge * at.w

    def stepped(self, at: Point, gradient: np.ndarray, share: float) -> tuple[Point | None, float]:
        """The point after a step in which curvatures count for that share of their bound at least, and what it should gain.

        The step is halved until the objective falls by a part of that; None where it does not.
        """
        move = self._solved(at.raw, gradient, share)
        slope, moved = float(np.sum(gradient * move)), self.Z @ move.T
        tiny = ROUNDING * abs(at.objective)
        for halving in range(FEW_HALVINGS if self.bound else HALVINGS):
            part = 0.5**halving
            after = self.at(at.w - part * move, at.raw - part * moved)
            if slope >= 0 and after.objective <= at.objective - SUFFICIENT * part * slope + tiny:
                return after, 0.5 * slope
        return None, np.nan

    def _solved(self, raw: np.ndarray, gradient: np.ndarray, share: float) -> np.ndarray:
        """The inverse of the Hessian times a gradient."""
        losses, (K, p) = self.losses, gradient.shape
        if losses.one is not None:  # each output has a Hessian of its own
            second = second_derivative(losses.one, raw, losses.targets)
            second = np.maximum(second, share * self.bound)
            hessian = grams(self.Z, self.shares[:, None] * second)
        else:
            each = np.repeat(raw, K, axis=0), np.repeat(losses.y, K, axis=0), np.tile(np.eye(K), (len(raw), 1))
            second = hessian_product(losses.loss, *each).reshape(-1, K * K) * self.shares[:, None]
            products = self.Z.T @ (second[:, :, None] * self.Z[:, None, :]).reshape(len(raw), -1)
            hessian = products.reshape(p, K, K, p).transpose(1, 0, 2, 3).reshape(1, K * p, K * p)
        ridge = np.tile(self.ridge, hessian.shape[1] // p)
        move = Factors(hessian, ridge).solve(gradient.reshape(len(hessian), -1)).reshape(K, p)
        if self.same_for_all:  # where nothing decides on the mean of all outputs, rounding would
            free = self.ridge == 0
            move[:, free] -= move[:, free].mean(axis=0)
        return move
