"""The gradients and the curvature of networks: what diagnostics, samplers and schedules ask of a model.

A network is looked at as it trains, without dropout, in float64. An observation is what has a gradient of its own: a row
or, where a normalization couples the rows of a batch, a micro-batch of consecutive ones of those that are asked for, which
is normalised by its own statistics; rows that do not fill the last micro-batch are left out.

Derivatives along a direction v come from a complex step: the imaginary part of what a network makes of ``theta + i h v`` is
h times the derivative, exact to rounding, as h is so small that its square vanishes (Squire and Trapp 1998,
https://doi.org/10.1137/S003614459631241X). No gradient of a single row is written out for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from skminibatch import backends
from skminibatch.contract.kinds import declared, declares
from skminibatch.contract.orders import explicit_order
from skminibatch.contract.plan import Plan
from skminibatch.contract.verbs import hessian_product
from skminibatch.models.data import Data
from skminibatch.penalties import ElasticNet
from skminibatch.statistics.gradients import GradientStatistics
from skminibatch.statistics.random import EXAMINED

STEP = 1e-20  # along the imaginary axis
MICRO_BATCH = 32.0  # rows that are normalised together, where the normalization does not say
FEWEST = 8  # micro-batches, where there are rows for them
SUMMED = 256  # parameters up to which a diagonal is read off the matrix, by as many products
DIRECTIONS = 128  # at random, for the diagonals of larger ones
AT_ONCE = 1 << 22  # numbers in the gradients that are written out at once
ALL_ROWS = np.empty(0, np.int64)  # as the verbs of a backend say it


@declares(slot_exponents=(1,))
class Sum(NamedTuple):
    """An optimizer that goes nowhere: its slot is the sum of the gradients."""

    cuda = {
        "update": """
            slots[0] += g;
            return T(0);
        """,
    }

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, w, g, slots, c):
        return w, (slots[0] + g,), 0.0 * c[0]


class NetworkGradients:
    """The gradients and the Hessian of a model with a `stack`; `theta` is the predictor."""

    hessian_by_products = True
    bounds_rows = False

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that are learnt."""
        return self.stack.n_parameters

    @property
    def couples_rows(self) -> bool:
        """Whether in training an output depends on the other rows of its batch, so that a row has no gradient of its own."""
        return self.stack.couples_rows

    @property
    def together(self) -> int:
        """Rows of an observation."""
        if not self.couples_rows:
            return 1
        coupling = (part for part in self.stack.normalizations if part is not None and part.couples_rows)
        return self.micro_batch or int(max(getattr(part, "size", MICRO_BATCH) for part in coupling))

    def flat(self, theta: np.ndarray) -> np.ndarray:
        """The predictor as a point (p,), float64."""
        return theta[: self.n_parameters].astype(np.float64)

    def unflat(self, point: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray]:
        """The predictor at a point (p,), with the running statistics of `theta`."""
        return (np.concatenate([point, theta[self.n_parameters :]]),)

    def by_coordinate(self, point: np.ndarray) -> np.ndarray:
        """A point as a person reads it: as it is."""
        return point

    # -- gradients -------------------------------------------------------------------------------------------------

    def gradient_statistics(
        self, data: Data, groups: list[np.ndarray], theta: np.ndarray, population: float
    ) -> GradientStatistics:
        """The gradients of groups of rows of `data`; no gradient of a row is written out."""
        pull, total = self.penalty_gradient(theta), np.zeros(self.n_parameters)
        sizes, squares, square_sums, products, pulls = np.zeros((5, len(groups)))
        for j, rows in enumerate(groups):
            mine = np.zeros(self.n_parameters)
            for g, each in self._gradients(data, rows, theta):
                sizes[j] += len(each)
                squares[j] += each.sum()
                mine += g
            square_sums[j], pulls[j] = mine @ mine, mine @ pull
            total += mine
        if len(groups) == 1:  # its sum is that of all observations
            products = square_sums
        else:
            products[:] = [np.sum(self._along(data, rows, total, theta)) for rows in groups]
        facts = float(pull @ pull), population, float(self.together)
        return GradientStatistics(sizes, squares, square_sums, products, pulls, *facts)

    def seen_in_training(
        self, data: Data, rows: np.ndarray, theta: np.ndarray, population: float
    ) -> GradientStatistics:
        """`gradient_statistics` of one group of rows, from the kernel that trains and in its type of number: much sooner."""
        model = replace(self, stack=self.stack.without_dropout, penalty=ElasticNet(), optimizer=Sum())
        count, params = len(rows) // self.together, model.start(theta)
        plan = Plan(explicit_order(rows), self.together * np.arange(count + 1), np.zeros((count, 1)))
        squares = model.run(plan, params, data).square_norms.sum()
        pull, total = self.penalty_gradient(theta), params[1, : self.n_parameters].astype(np.float64)
        alone = [np.array([number]) for number in (count, squares, total @ total, total @ total, total @ pull)]
        return GradientStatistics(*alone, float(pull @ pull), population, float(self.together))

    def loss_gradient(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The mean gradient of the losses of some rows (p,)."""
        total, count = np.zeros(self.n_parameters), 0
        for g, each in self._gradients(data, rows, theta):
            total += g
            count += len(each)
        return total / count

    def penalty_gradient(self, theta: np.ndarray) -> np.ndarray:
        """The gradient of the smooth part of the penalty (p,)."""
        return np.where(self.stack.decayed, self.penalty.gradient(self.flat(theta)), 0.0)

    def gradient_products(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> tuple[float, float, float]:
        """``(tr Sigma, Var(g_i . G), |G|^2)`` of some rows, G their mean gradient and that of the penalty."""
        sums = self.gradient_statistics(data, [rows], theta, np.inf)
        _, trace = sums.moments()
        G = self.loss_gradient(data, rows, theta) + self.penalty_gradient(theta)
        along = self._along(data, rows, G, theta)
        return float(trace), float(self.together * np.var(along, ddof=1)), float(G @ G)

    def gradient_moments(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each coordinate of the gradients of the losses of some rows, (p,) each.

        From micro-batches, the variance is estimated for rows: that of micro-batches times their size.
        """
        n, mean, squares = 0, *np.zeros((2, self.n_parameters))
        for block in self.row_gradients(data, rows, theta):
            n += len(block)
            shift = block.mean(axis=0) - mean
            mean = mean + shift * len(block) / n
            squares += np.sum((block - block.mean(axis=0)) ** 2, axis=0) + shift**2 * len(block) * (n - len(block)) / n
        return mean, self.together * squares / (n if self.together == 1 else n - 1)

    def row_gradients(self, data: Data, rows: np.ndarray, theta: np.ndarray):
        """The gradients of observations written out (n, p), a few at a time."""
        each = rows[: len(rows) // self.together * self.together].reshape(-1, self.together)
        count = max(1, AT_ONCE // self.n_parameters)
        for start in range(0, len(each), count):
            yield np.array([self.loss_gradient(data, some, theta) for some in each[start : start + count]])

    def row_factors(self, data: Data, rows: np.ndarray) -> np.ndarray:
        """What `row_squares` needs to know of some rows, the same for all parameters: nothing but how many there are."""
        return np.ones(len(rows))

    def row_squares(self, data: Data, rows: np.ndarray, theta: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """Squared norms of the gradients of the losses of some observations."""
        return np.concatenate([each for _, each in self._gradients(data, rows, theta)])

    def landscape(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> float:
        """The function whose gradient is that of the losses of some rows and of the smooth part of the penalty."""
        total, count = 0.0, 0
        for X, y, weights in self._portions(data, rows):
            raw, _ = self._forward(self.flat(theta), X, weights)
            total += self.loss_sum(raw, y, weights)
            count += len(y)
        return total / count + self.penalty_value(theta, smooth=True)

    def loss_sum(self, raw: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        """Weighted sum of the losses of some rows by their raw outputs (n, K)."""
        K = self.n_outputs
        outputs = np.eye(K, dtype=raw.dtype), np.zeros(K, raw.dtype)
        return backends.choose(self.device).loss_dense(self.loss, raw, y, weights, ALL_ROWS, *outputs)

    def penalty_value(self, theta: np.ndarray, smooth: bool = False) -> float:
        """The penalty of the weights, or its smooth part."""
        value = declared(self.penalty).smooth_value if smooth else self.penalty.value
        return float(np.sum(value(self.flat(theta)[self.stack.decayed])))

    def _gradients(self, data: Data, rows: np.ndarray, theta: np.ndarray):
        """The sum of the gradients of some observations (p,) and the squared norm of each, a few at a time."""
        backend, theta = backends.choose(self.device), self.flat(theta)
        for X, y, weights in self._portions(data, rows):
            raw, backward = self._forward(theta, X, weights)
            residuals = backend.residuals(self.loss, raw, y, weights) / self.together
            g, squares = backward(residuals)
            yield g, np.array([g @ g]) if self.couples_rows else squares

    def _along(self, data: Data, rows: np.ndarray, direction: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The products of the gradients of the losses of some observations with a direction (p,)."""
        backend, products, theta = backends.choose(self.device), [], self.flat(theta) + 1j * STEP * direction
        for X, y, weights in self._portions(data, rows):
            raw, _ = self._forward(theta, X, weights)
            residuals = backend.residuals(self.loss, np.ascontiguousarray(raw.real), y, weights)
            each = np.sum(residuals * raw.imag, axis=1) / STEP
            products.append(np.array([each.mean()]) if self.couples_rows else each)
        return np.concatenate(products)

    def _portions(self, data: Data, rows: np.ndarray):
        """(X, y, weights) of rows that go through the network together, an observation or several."""
        size = self.together if self.couples_rows else EXAMINED
        stop = len(rows) // self.together * self.together
        for start in range(0, stop, size):
            some = rows[start : min(start + size, stop)]
            yield data.X[some], data.y[some], data.weights_of(some)

    def _forward(self, theta: np.ndarray, X, weights: np.ndarray):
        """Raw outputs and the backward map of rows, as in training but without dropout."""
        return self.stack.forward(theta, X, weights if weights.size else None, train=True)

    # -- curvature -------------------------------------------------------------------------------------------------

    def hessian(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> LinearOperator:
        """The Hessian of the objective over some rows (p, p), by its products.

        A loss and an activation add nothing at their kinks, and an l1 penalty nothing at all.
        """
        p = self.n_parameters

        def product(directions):
            directions = np.asarray(directions, np.float64)
            columns = [self._curved(data, rows, v, theta) for v in directions.reshape(p, -1).T]
            return np.column_stack(columns).reshape(directions.shape)

        verbs = dict.fromkeys(("matvec", "rmatvec", "matmat", "rmatmat"), product)
        return LinearOperator((p, p), dtype=np.float64, **verbs)

    def _curved(self, data: Data, rows: np.ndarray, direction: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The Hessian of the objective over some rows times a direction (p,)."""
        backend, out, count = backends.choose(self.device), np.zeros(self.n_parameters), 0
        theta = self.flat(theta) + 1j * STEP * direction
        for X, y, weights in self._portions(data, rows):
            raw, backward = self._forward(theta, X, weights)
            here = np.ascontiguousarray(raw.real)
            moved = hessian_product(self.loss, here, y, raw.imag)
            moved = moved * weights[:, None] if weights.size else moved
            g, _ = backward(backend.residuals(self.loss, here, y, weights) + 1j * moved)
            out += g.imag / STEP
            count += len(y)
        curvatures = declared(self.penalty).second_derivative(theta.real)
        return out / count + curvatures * np.where(self.stack.decayed, direction, 0.0)

    def hessian_matrix(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The same as a matrix (p, p), by p products."""
        H = self.hessian(data, rows, theta) @ np.eye(self.n_parameters)
        return 0.5 * (H + H.T)

    def hessian_trace(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> float:
        """The trace of the Hessian of the objective over some rows; see `hessian_diagonal`."""
        return float(self.hessian_diagonal(data, rows, theta).sum())

    def hessian_diagonal(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The diagonal of the Hessian of the objective over some rows, (p,).

        Exact for few parameters; otherwise the mean of ``v * (H v)`` over random signs v, always the same ones (Bekas,
        Kokiopoulou and Saad 2007). The variance of its sum is ``2 sum_(i != j) H_ij^2 / DIRECTIONS`` (Hutchinson 1990).
        """
        hessian, p = self.hessian(data, rows, theta), self.n_parameters
        if p <= SUMMED:
            return np.diag(hessian @ np.eye(p)).copy()
        rng, total = np.random.Generator(np.random.Philox(key=0)), np.zeros(p)
        for _ in range(DIRECTIONS):
            signs = 2.0 * rng.integers(2, size=p) - 1.0
            total += signs * (hessian @ signs)
        return total / DIRECTIONS
