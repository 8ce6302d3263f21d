"""The gradients and the curvature of networks.

A network is examined as it trains, without dropout, in float64. An observation is what has a gradient of its own: a row or,
where a normalization couples the rows of a batch, a micro-batch of consecutive ones of those that are given, which is
normalised by its own statistics; rows that do not fill the last micro-batch are left out.

Derivatives along a direction v come from a complex step: the imaginary part of what a network makes of ``theta + i h v`` is
h times the derivative, exact to rounding, as h is so small that its square vanishes (Squire and Trapp 1998,
https://doi.org/10.1137/S003614459631241X). No gradient of a single row is written out for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
from scipy.sparse.linalg import LinearOperator

from skminibatch import backends
from skminibatch.contract.kinds import declared, declares
from skminibatch.contract.orders import explicit_order
from skminibatch.contract.plan import Plan
from skminibatch.contract.verbs import hessian_product
from skminibatch.models.gradients import Gradients
from skminibatch.models.network import MLPModel
from skminibatch.penalties import ElasticNet
from skminibatch.statistics.gradients import GradientStatistics
from skminibatch.statistics.random import EXAMINED

STEP = 1e-20  # along the imaginary axis
SUMMED = 256  # parameters up to which a diagonal is read off the matrix, by as many products
DIRECTIONS = 128  # at random, for the diagonals of larger ones
AT_ONCE = 1 << 22  # numbers in the gradients that are written out at once


@declares(
    slot_exponents=(1,),
    cuda={
        "update": """
            slots[0] += g;
            return T(0);
        """,
    },
)
class Sum(NamedTuple):
    """An optimizer that goes nowhere: its slot is the sum of the gradients."""

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, w, g, slots, c):
        return w, (slots[0] + g,), 0.0 * c[0]


@dataclass(frozen=True, eq=False)
class NetworkGradients(Gradients):
    """The gradients of a network; see `Gradients`."""

    model: MLPModel

    hessian_by_products: ClassVar[bool] = True

    @property
    def theta(self) -> np.ndarray:
        """Parameters and running statistics (n_numbers,)."""
        return self.predictor[0]

    @property
    def point(self) -> np.ndarray:
        """The parameters as a point (p,), float64."""
        return self.theta[: self.model.n_parameters].astype(np.float64)

    def at(self, point: np.ndarray) -> Self:
        """The same at another point (p,), with these running statistics."""
        return replace(self, predictor=(np.concatenate([point, self.theta[self.model.n_parameters :]]),))

    # -- gradients

    def statistics(self, groups: list[np.ndarray], population: float | None = None) -> GradientStatistics:
        """Sums over groups of rows, which stand for `population` rows (None: for those in use)."""
        penalty, total = self.penalty_gradient(), np.zeros(self.model.n_parameters)
        sizes, squares, square_sums, products, pulls = np.zeros((5, len(groups)))
        for j, rows in enumerate(groups):
            g = np.zeros(self.model.n_parameters)
            for gradient, square_norms in self._gradients(rows):
                sizes[j] += len(square_norms)
                squares[j] += square_norms.sum()
                g += gradient
            square_sums[j], pulls[j] = g @ g, g @ penalty
            total += g
        if len(groups) == 1:  # its sum is that of all observations
            products = square_sums
        else:
            products[:] = [np.sum(self._along(rows, total)) for rows in groups]
        return GradientStatistics(sizes, squares, square_sums, products, pulls, *self._facts(penalty, population))

    def quick_statistics(self) -> GradientStatistics:
        """`statistics` of the rows as one group, from the kernel that trains and in its type of number: much faster."""
        model, size = self.model, self.model.observation_size
        model = replace(model, stack=model.stack.without_dropout, penalty=ElasticNet(), optimizer=Sum())
        count, params = len(self.rows) // size, model.start(self.predictor)
        plan = Plan(explicit_order(self.rows), size * np.arange(count + 1), np.zeros((count, 1)))
        squares = model.run(plan, params, self.data).square_norms.sum()
        penalty, total = self.penalty_gradient(), params[1, : model.n_parameters].astype(np.float64)
        numbers = np.array([count, squares, total @ total, total @ total, total @ penalty])
        sizes, squares, square_sums, products, pulls = numbers[:, None]
        return GradientStatistics(sizes, squares, square_sums, products, pulls, *self._facts(penalty, None))

    def _facts(self, penalty: np.ndarray, population: float | None) -> tuple[float, float, float]:
        """The last three fields of `GradientStatistics`."""
        population = self.data.n_rows if population is None else population
        return float(penalty @ penalty), population, float(self.model.observation_size)

    def products(self) -> tuple[float, float, float]:
        """``(tr Sigma, Var(g_i . G), |G|^2)``, G the mean gradient and that of the penalty."""
        sums = self.statistics([self.rows], np.inf)
        _, trace = sums.moments()
        G = self.loss_gradient() + self.penalty_gradient()
        along = self._along(self.rows, G)
        return float(trace), float(self.model.observation_size * np.var(along, ddof=1)), float(G @ G)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each coordinate of the gradients of the losses, (p,) each.

        From micro-batches, the variance is estimated for rows: that of micro-batches times their size.
        """
        n, mean, squares = 0, *np.zeros((2, self.model.n_parameters))
        for block in self.each():
            n += len(block)
            shift = block.mean(axis=0) - mean
            mean = mean + shift * len(block) / n
            squares += np.sum((block - block.mean(axis=0)) ** 2, axis=0) + shift**2 * len(block) * (n - len(block)) / n
        size = self.model.observation_size
        return mean, size * squares / (n if size == 1 else n - 1)

    def loss_gradient(self) -> np.ndarray:
        """The mean gradient of the losses (p,)."""
        return self._loss_gradient(self.rows)

    def _loss_gradient(self, rows: np.ndarray) -> np.ndarray:
        total, count = np.zeros(self.model.n_parameters), 0
        for gradient, square_norms in self._gradients(rows):
            total += gradient
            count += len(square_norms)
        return total / count

    def penalty_gradient(self) -> np.ndarray:
        """The gradient of the smooth part of the penalty (p,)."""
        return np.where(self.model.stack.decayed, self.model.penalty.gradient(self.point), 0.0)

    def each(self) -> Iterator[np.ndarray]:
        """The gradients of the losses of the observations, written out (n, p), a few at a time."""
        size, rows = self.model.observation_size, self.rows
        observations = rows[: len(rows) // size * size].reshape(-1, size)
        count = max(1, AT_ONCE // self.model.n_parameters)
        for start in range(0, len(observations), count):
            yield np.array([self._loss_gradient(one) for one in observations[start : start + count]])

    def row_factors(self) -> np.ndarray:
        """Ones: `row_squares` needs to know nothing of the rows."""
        return np.ones(len(self.rows))

    def row_squares(self, factors: np.ndarray) -> np.ndarray:
        """Squared norms of the gradients of the losses of the observations."""
        return np.concatenate([square_norms for _, square_norms in self._gradients(self.rows)])

    def _gradients(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The sum of the gradients of some observations (p,) and the squared norm of each, a few at a time."""
        backend, theta = backends.choose(self.model.device), self.point
        for X, y, weights in self._portions(rows):
            raw, backward = self._forward(theta, X, weights)
            residuals = backend.residuals(self.model.loss, raw, y, weights) / self.model.observation_size
            g, squares = backward(residuals)
            yield g, np.array([g @ g]) if self.model.couples_rows else squares

    def _along(self, rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The products of the gradients of the losses of some observations with a direction (p,)."""
        backend, products, theta = backends.choose(self.model.device), [], self.point + 1j * STEP * direction
        for X, y, weights in self._portions(rows):
            raw, _ = self._forward(theta, X, weights)
            residuals = backend.residuals(self.model.loss, np.ascontiguousarray(raw.real), y, weights)
            by_row = np.sum(residuals * raw.imag, axis=1) / STEP
            products.append(np.array([by_row.mean()]) if self.model.couples_rows else by_row)
        return np.concatenate(products)

    def _portions(self, rows: np.ndarray) -> Iterator[tuple]:
        """(X, y, weights) of rows that go through the network together, an observation or several."""
        data, observation = self.data, self.model.observation_size
        size = observation if self.model.couples_rows else EXAMINED
        stop = len(rows) // observation * observation
        for start in range(0, stop, size):
            portion = rows[start : min(start + size, stop)]
            yield data.X[portion], data.y[portion], data.weights_of(portion)

    def _forward(self, theta: np.ndarray, X, weights: np.ndarray):
        """Raw outputs and the backward map of rows, as in training but without dropout."""
        return self.model.stack.forward(theta, X, weights if weights.size else None, train=True)

    # -- the objective and its curvature

    def smooth_objective(self) -> float:
        """The function whose gradient is that of the losses and of the smooth part of the penalty."""
        total, count, model = 0.0, 0, self.model
        for X, y, weights in self._portions(self.rows):
            raw, _ = self._forward(self.point, X, weights)
            total += model.loss_sum(raw, y, weights)
            count += len(y)
        penalty = declared(model.penalty).smooth_value(self.point[model.stack.decayed])
        return total / count + float(np.sum(penalty))

    def hessian(self) -> LinearOperator:
        """The Hessian of the objective (p, p), by its products.

        A loss and an activation add nothing at their kinks, and an l1 penalty nothing at all.
        """
        p = self.model.n_parameters

        def product(directions):
            directions = np.asarray(directions, np.float64)
            columns = [self._hessian_product(v) for v in directions.reshape(p, -1).T]
            return np.column_stack(columns).reshape(directions.shape)

        verbs = dict.fromkeys(("matvec", "rmatvec", "matmat", "rmatmat"), product)
        return LinearOperator((p, p), dtype=np.float64, **verbs)

    def _hessian_product(self, direction: np.ndarray) -> np.ndarray:
        """The Hessian of the objective times a direction (p,)."""
        backend, out, count = backends.choose(self.model.device), np.zeros(self.model.n_parameters), 0
        loss, theta = self.model.loss, self.point + 1j * STEP * direction
        for X, y, weights in self._portions(self.rows):
            outputs, backward = self._forward(theta, X, weights)
            raw = np.ascontiguousarray(outputs.real)
            slopes = hessian_product(loss, raw, y, outputs.imag)
            slopes = slopes * weights[:, None] if weights.size else slopes
            g, _ = backward(backend.residuals(loss, raw, y, weights) + 1j * slopes)
            out += g.imag / STEP
            count += len(y)
        curvatures = declared(self.model.penalty).second_derivative(self.point)
        return out / count + curvatures * np.where(self.model.stack.decayed, direction, 0.0)

    def hessian_matrix(self) -> np.ndarray:
        """The same as a matrix (p, p), by p products."""
        H = self.hessian() @ np.eye(self.model.n_parameters)
        return 0.5 * (H + H.T)

    def hessian_diagonal(self) -> np.ndarray:
        """The diagonal of the Hessian (p,).

        Exact for few parameters; otherwise the mean of ``v * (H v)`` over random signs v, always the same ones (Bekas,
        Kokiopoulou and Saad 2007). The variance of its sum is ``2 sum_(i != j) H_ij^2 / DIRECTIONS`` (Hutchinson 1990).
        """
        hessian, p = self.hessian(), self.model.n_parameters
        if p <= SUMMED:
            return np.diag(hessian @ np.eye(p)).copy()
        rng, total = np.random.Generator(np.random.Philox(key=0)), np.zeros(p)
        for _ in range(DIRECTIONS):
            signs = 2.0 * rng.integers(2, size=p) - 1.0
            total += signs * (hessian @ signs)
        return total / DIRECTIONS
