"""Networks: their parameters, and how to run a plan on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skminibatch import backends
from skminibatch.backends import map_on_device
from skminibatch.contract.kinds import declared
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.verbs import n_slots, result
from skminibatch.layers import Stack
from skminibatch.layers.blocks import Running
from skminibatch.models.data import Data
from skminibatch.models.network_gradients import FEWEST, NetworkGradients
from skminibatch.statistics.features import Moments


@dataclass(frozen=True)
class MLPModel(NetworkGradients):
    """A stack of dense layers, by the parts that training is made of; the parameters themselves are passed to the methods.

    Parameters are (1 + n_slots, n_numbers), see `Stack`; the predictor is one such row, running statistics included.
    """

    stack: Stack
    loss: tuple
    penalty: tuple
    optimizer: tuple
    device: str
    dtype: np.dtype
    n_threads: int = 1
    micro_batch: int = 0  # rows that are looked at together where a normalization couples them; 0: as many as suit it

    @property
    def unset(self) -> tuple:
        """The predictor, where nothing is given to start from."""
        return (None,)

    @property
    def n_outputs(self) -> int:
        """Number of raw outputs."""
        return self.stack.layers[-1].n_out

    @property
    def smallest_batch(self) -> int:
        """Rows that a batch needs at least."""
        return 2 if self.stack.couples_rows else 1

    def start(self, theta: np.ndarray) -> np.ndarray:
        """Parameters where `theta` predicts, the optimizer fresh."""
        params = np.zeros((1 + n_slots(self.optimizer), self.stack.n_numbers), self.dtype)
        params[0] = theta
        for slot, exponent in zip(params[1:], declared(self.optimizer).slot_exponents, strict=True):
            if exponent == -1:  # an average starts where the parameters start
                slot[:] = params[0]
        return params

    def in_coordinates_of(self, new: MLPModel, params: np.ndarray) -> np.ndarray:
        """The same parameters in another model of the same optimizer and layers."""
        return params.astype(new.dtype)

    def cost_of_rows(self, data: Data) -> tuple[float, str]:
        """What a row costs in a step, and of what kind it is: see `StepCosts`."""
        first = self.stack.layers[0]
        return self.n_parameters - (first.n_in - data.row_length) * first.n_out, "mlp"

    def in_micro_batches(self, n_rows: int) -> MLPModel:
        """The model as it looks at so many rows: in `FEWEST` micro-batches at least, where a normalization couples them."""
        if not self.couples_rows:
            return self
        return replace(self, micro_batch=max(2, min(n_rows // FEWEST, self.together)))

    def run(self, plan: Plan, params: np.ndarray, data: Data) -> StepStats:
        """Carry out a plan; `params` is updated in place."""
        if plan.weights is not None and self.stack.couples_rows:
            raise ValueError(
                "A normalization over the rows of a batch needs rows of equal chance: use the sampler 'shuffle', "
                "'replacement', 'sequential', 'blocks' or 'groups', or normalization='layer'."
            )
        backend = backends.choose(self.device)
        parts = (self.stack, self.loss, self.penalty, self.optimizer)
        return backend.run_mlp(*parts, data.X, data.y, data.weights, plan, params, self.n_threads)

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
            if not getattr(part, "exact", False):
                continue
            mean, variance = Running.moments(theta[place.running])
            moments = Moments.none(mean.size)

            def entering(X, theta, number=number):
                return self.stack.forward(theta, X, until=number)[0]

            for some, X in data.portions_on_device(data.rows_in_use):
                found = map_on_device(entering, X, theta)
                moments = moments.updated(found, data.weights[some] if data.weights.size else None)
            mean[:], variance[:] = moments.mean, moments.squares / moments.count
        return theta

    def objective(self, data: Data, rows: np.ndarray, theta: np.ndarray) -> tuple[float, float]:
        """Mean loss of some rows (empty: all) and the penalty."""
        rows = np.arange(data.X.shape[0]) if not rows.size else rows
        weights, total = data.weights_of(rows), 0.0
        for some, X in data.portions_on_host(rows):
            raw, _ = self.stack.forward(theta, X)
            total += self.loss_sum(raw, data.y[some], data.weights_of(some))
        weight = weights.sum() if weights.size else len(rows)
        return total / max(weight, np.finfo(float).tiny), self.penalty_value(theta)
