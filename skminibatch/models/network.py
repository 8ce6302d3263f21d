"""Networks: their parameters, and how to run a plan on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skminibatch import backends
from skminibatch.backends import map_on_device
from skminibatch.contract.kinds import declared
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.task import NetworkTask
from skminibatch.contract.typing import AnyPart
from skminibatch.contract.verbs import n_slots, result
from skminibatch.layers import Stack
from skminibatch.layers.blocks import Running
from skminibatch.models.data import ALL_ROWS, Data
from skminibatch.models.protocol import Distance, Predictor
from skminibatch.statistics.features import Moments

MICRO_BATCH = 32  # rows that are normalised together, where the normalization has no size
FEWEST = 8  # micro-batches, where there are rows for them


@dataclass(frozen=True)
class MLPModel:
    """A stack of dense layers, a `Model`, by the parts that training is made of.

    Params are (1 + n_slots, n_numbers), see `Stack`; the predictor is (theta,), one such row, running statistics included.
    `micro_batch` is the number of rows that are normalised together where gradients are examined; 0: as suits the
    normalization.
    """

    stack: Stack
    loss: AnyPart
    penalty: AnyPart
    optimizer: AnyPart
    device: str
    dtype: np.dtype
    n_threads: int = 1
    micro_batch: int = 0

    has_smoothness = False
    coordinates = None

    @property
    def unset(self) -> tuple[None]:
        """A predictor of which nothing is given."""
        return (None,)

    @property
    def n_outputs(self) -> int:
        """Number K of raw outputs."""
        return self.stack.layers[-1].n_out

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that are learnt."""
        return self.stack.n_parameters

    @property
    def smallest_batch(self) -> int:
        """Rows that a batch needs at least."""
        return 2 if self.couples_rows else 1

    @property
    def couples_rows(self) -> bool:
        """Whether in training an output depends on the other rows of its batch, so that a row has no gradient of its own."""
        return self.stack.couples_rows

    @property
    def observation_size(self) -> int:
        """Rows of an observation: 1, or a micro-batch where rows are coupled."""
        if not self.couples_rows:
            return 1
        each = zip(self.stack.normalizations, self.stack.poolings, strict=True)
        coupling = [pooling for part, pooling in each if part is not None and part.couples_rows]
        return self.micro_batch or max((pooling and pooling.size) or MICRO_BATCH for pooling in coupling)

    # -- the same model with something changed

    def with_optimizer(self, optimizer: AnyPart) -> MLPModel:
        """The model with another optimizer."""
        return replace(self, optimizer=optimizer)

    def with_device(self, device: str) -> MLPModel:
        """The model on another device."""
        return replace(self, device=device)

    def in_micro_batches(self, n_rows: int) -> MLPModel:
        """The model whose observations suit `n_rows` rows: `FEWEST` micro-batches at least, where rows are coupled."""
        return self.in_micro_batches_of(max(2, min(n_rows // FEWEST, self.observation_size)))

    def in_micro_batches_of(self, size: int) -> MLPModel:
        """The model whose observations have `size` rows, where rows are coupled."""
        return replace(self, micro_batch=size) if self.couples_rows else self

    def in_coordinates_of(self, new: MLPModel, params: np.ndarray) -> np.ndarray:
        """The same params for another model of the same optimizer and layers."""
        return params.astype(new.dtype)

    def without_absent_features(self, X, params: np.ndarray) -> tuple[MLPModel, Any, np.ndarray]:
        """The model with all features, and a copy of the params."""
        return self, X, params.copy()

    # -- training

    def start(self, predictor: Predictor) -> np.ndarray:
        """Params at a given predictor, the optimizer fresh."""
        params = np.zeros((1 + n_slots(self.optimizer), self.stack.n_numbers), self.dtype)
        params[0] = predictor[0]
        for slot, exponent in zip(params[1:], declared(self.optimizer).slot_exponents, strict=True):
            if exponent == -1:  # an average starts where the parameters start
                slot[:] = params[0]
        return params

    def run(self, plan: Plan, params: np.ndarray, data: Data) -> StepStats:
        """Carry out a plan; `params` is updated in place."""
        if plan.weights is not None and self.stack.couples_rows:
            raise ValueError(
                "A normalization over the rows of a batch needs rows of equal chance: use the sampler 'shuffle', "
                "'replacement', 'sequential', 'blocks' or 'groups', or normalization='layer'."
            )
        backend = backends.choose(self.device)
        parts = self.stack, self.loss, self.penalty, self.optimizer
        return backend.run_mlp(NetworkTask(*parts, data.X, data.y, data.weights, params, self.n_threads), plan)

    def predictor(self, params: np.ndarray, coefficients: np.ndarray | None) -> tuple[np.ndarray]:
        """The parameters and running statistics (n_numbers,) that predict; `coefficients`: of the last step."""
        theta, learnt = params[0].copy(), params[:, : self.stack.n_parameters]
        theta[: self.stack.n_parameters] = result(self.optimizer, learnt[0], tuple(learnt[1:]))
        return (theta,)

    def with_exact_statistics(self, theta: np.ndarray, data: Data) -> np.ndarray:
        """`theta` with the weighted mean and variance of all rows in use in the normalizations that ask for them.

        Layer by layer, since the statistics of one change what enters the next: one pass over the rows for each.
        """
        theta = theta.copy()
        for number, (part, place) in enumerate(zip(self.stack.normalizations, self.stack.places, strict=True)):
            if part is None or not declared(part).exact:
                continue
            mean, variance = Running.moments(theta[place.running])
            moments = Moments.none(mean.size)

            def entering(X, theta, number=number):
                return self.stack.forward(theta, X, until=number)[0]

            for portion, X in data.portions_on_device(data.rows_in_use):
                inputs = map_on_device(entering, X, theta)
                moments = moments.updated(inputs, data.weights[portion] if data.weights.size else None)
            mean[:], variance[:] = moments.mean, moments.squares / moments.count
        return theta

    def objective(self, data: Data, rows: np.ndarray, predictor: Predictor) -> tuple[float, float]:
        """Mean loss of some rows (empty: all) and the penalty."""
        (theta,) = predictor
        rows = np.arange(data.X.shape[0]) if not rows.size else rows
        weights, total = data.weights_of(rows), 0.0
        for portion, X in data.portions_on_device(rows):
            raw = map_on_device(self._raw, X, theta)
            total += self.loss_sum(raw, data.y[portion], data.weights_of(portion))
        weight = weights.sum() if weights.size else len(rows)
        return total / max(weight, np.finfo(float).tiny), self.penalty_value(predictor)

    def _raw(self, X, theta):
        """Raw outputs (n, K), in the arrays of any library."""
        return self.stack.forward(theta, X)[0]

    def penalty_value(self, predictor: Predictor) -> float:
        """The penalty of the weights."""
        (theta,) = predictor
        return float(np.sum(self.penalty.value(theta[: self.n_parameters].astype(np.float64)[self.stack.decayed])))

    def loss_sum(self, raw: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        """Weighted sum of the losses of some rows by their raw outputs (n, K)."""
        K = self.n_outputs
        outputs = np.eye(K, dtype=raw.dtype), np.zeros(K, raw.dtype)
        return backends.choose(self.device).loss_dense(self.loss, raw, y, weights, ALL_ROWS, *outputs)

    def cost_of_rows(self, data: Data) -> tuple[float, str]:
        """What a row costs in a step, and of what kind it is: see `StepCosts`."""
        first = self.stack.layers[0]
        return self.n_parameters - (first.n_in - data.row_length) * first.n_out, "mlp"

    # -- curvature

    def distance(self, params: np.ndarray, data: Data, loss: float) -> Distance:
        """Not known: neither is the least value of the objective."""
        return Distance()

    def strong_convexity(self) -> float:
        """Zero: the curvature has no lower bound."""
        return 0.0
