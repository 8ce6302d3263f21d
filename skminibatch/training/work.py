"""What a training asks for, and who carries it out: it is a coroutine that yields work and goes on from what came of it.

So the loop does not know whether its steps are made alone or together with those of other trainings.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from skminibatch.contract.plan import Plan, StepStats
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel, Stored
from skminibatch.models.protocol import Model, Predictor


class Steps(NamedTuple):
    """A plan to be carried out on a model; `params` is updated in place."""

    model: Model
    plan: Plan
    params: np.ndarray
    data: Data

    def carried_out(self) -> StepStats:
        """By itself."""
        return self.model.run(self.plan, self.params, self.data)


class GradientOfAll(NamedTuple):
    """What a ``per_row`` optimizer starts from at a predictor, by one pass over the rows: the answer is a `Stored`."""

    model: LinearModel
    data: Data
    predictor: Predictor

    def carried_out(self) -> Stored:
        """By itself."""
        return self.model.stored(self.data, self.predictor)


class ObjectiveOfRows(NamedTuple):
    """The mean loss of some rows (empty: all) and the penalty, at a predictor."""

    model: Model
    data: Data
    rows: np.ndarray
    predictor: Predictor

    def carried_out(self) -> tuple[float, float]:
        """By itself."""
        return self.model.objective(self.data, self.rows, self.predictor)


Work: TypeAlias = Steps | GradientOfAll | ObjectiveOfRows
T = TypeVar("T")
Training: TypeAlias = Generator[Work, Any, T]


def carried_out(training: Training[T]) -> T:
    """What a training comes to, by itself; what interrupts a plan is raised inside the training."""
    try:
        work = next(training)
        while True:
            try:
                answer = work.carried_out()
            except BaseException as error:
                work = training.throw(error)
            else:
                work = training.send(answer)
    except StopIteration as end:
        return end.value
