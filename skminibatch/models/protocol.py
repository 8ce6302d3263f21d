"""What training, preparation and the diagnostics need of a model: the members that linear models and networks share.

A model is a frozen value: the parts that it is made of, and methods that are given arrays. Two kinds of arrays hold what it has
learnt:

- *params*, (1 + n_slots, ...), are the parameters in the coordinates of the optimizer and the arrays that this keeps in
  addition; the kernels update them in place;
- a *predictor* is what a user sees of them: a tuple of arrays from which raw outputs follow, (coefficients, intercepts) of a
  linear model and (theta,) of a network.

What depends on a predictor and on rows (gradients, curvature, smoothness) is in `gradients` and made by `view.gradients_of`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self, TypeAlias

import numpy as np

from skminibatch.contract.coordinates import Coordinates, RoundCoordinates
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.typing import AnyPart
from skminibatch.models.data import Data

Predictor: TypeAlias = tuple[np.ndarray, ...]


class Distance(NamedTuple):
    """How far the objective is above its least value; NaN where that cannot be told."""

    bound: float = np.nan
    estimate: float = np.nan


class Model(Protocol):
    """What a linear model and a network have in common."""

    # -- the parts

    @property
    def loss(self) -> AnyPart:
        """The loss of a row by its raw outputs."""

    @property
    def penalty(self) -> AnyPart:
        """The penalty of the weights."""

    @property
    def optimizer(self) -> AnyPart:
        """The optimizer, whose slots are in the params."""

    @property
    def device(self) -> str:
        """The device on which plans are carried out: 'cpu', 'base' or 'cuda'."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the params."""

    # -- facts

    @property
    def n_outputs(self) -> int:
        """Number K of raw outputs."""

    @property
    def n_parameters(self) -> int:
        """Number p of parameters that are learnt."""

    @property
    def smallest_batch(self) -> int:
        """Rows that a batch needs at least."""

    @property
    def couples_rows(self) -> bool:
        """Whether in training an output depends on the other rows of its batch, so that a row has no gradient of its own."""

    @property
    def observation_size(self) -> int:
        """Rows of an observation, which is what has a gradient of its own: 1, or a micro-batch where rows are coupled."""

    @property
    def has_smoothness(self) -> bool:
        """Whether the smoothness of the objective has a bound: of linear models. Otherwise `Gradients` returns None for it."""

    @property
    def coordinates(self) -> Coordinates | RoundCoordinates | None:
        """The coordinates in which a linear model is trained; None: the features as given."""

    @property
    def unset(self) -> tuple[None, ...]:
        """A predictor of which nothing is given."""

    # -- training

    def start(self, predictor: Predictor) -> np.ndarray:
        """Params at a given predictor, the optimizer fresh."""

    def run(self, plan: Plan, params: np.ndarray, data: Data) -> StepStats:
        """Carry out a plan; `params` is updated in place."""

    def predictor(self, params: np.ndarray, coefficients: np.ndarray | None) -> Predictor:
        """The predictor of some params; `coefficients`: of the last step, where there was one."""

    def objective(self, data: Data, rows: np.ndarray, predictor: Predictor) -> tuple[float, float]:
        """Mean loss of some rows (empty: all), and the penalty."""

    def penalty_value(self, predictor: Predictor) -> float:
        """The penalty."""

    def cost_of_rows(self, data: Data) -> tuple[float, str]:
        """What a row costs in a step, and of what kind it is: see `StepCosts`."""

    # -- the same model with something changed

    def with_optimizer(self, optimizer: AnyPart) -> Self:
        """The model with another optimizer."""

    def with_device(self, device: str) -> Self:
        """The model on another device."""

    def in_micro_batches(self, n_rows: int) -> Self:
        """The model whose observations are as large as suits `n_rows` rows."""

    def in_micro_batches_of(self, size: int) -> Self:
        """The model whose observations have `size` rows, where rows are coupled."""

    def in_coordinates_of(self, new: Any, params: np.ndarray) -> np.ndarray:
        """The same params in the coordinates of another model of the same kind and the same optimizer."""

    def without_absent_features(self, X: Any, params: np.ndarray) -> tuple[Self, Any, np.ndarray]:
        """The model, some rows and a copy of the params without features that no row has, where these can be left out."""

    # -- curvature

    def distance(self, params: np.ndarray, data: Data, loss: float) -> Distance:
        """How far the objective is above its least value; `loss` is the mean loss over the rows."""

    def strong_convexity(self) -> float:
        """A lower bound of the curvature of the objective along the weights, where it has one; otherwise zero."""
