"""What a training asks for, and who carries it out: it is a coroutine that yields plans and goes on from their statistics.

So the loop does not know whether its steps are made alone or together with those of other trainings.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from skminibatch.contract.plan import Plan, StepStats
from skminibatch.models.data import Data
from skminibatch.models.protocol import Model


class Work(NamedTuple):
    """A plan to be carried out on a model; `params` is updated in place."""

    model: Model
    plan: Plan
    params: np.ndarray
    data: Data

    def carried_out(self) -> StepStats:
        """By itself."""
        return self.model.run(self.plan, self.params, self.data)


T = TypeVar("T")
Training: TypeAlias = Generator[Work, StepStats, T]


def carried_out(training: Training[T]) -> T:
    """What a training comes to, by itself; what interrupts a plan is raised inside the training."""
    try:
        work = next(training)
        while True:
            try:
                stats = work.carried_out()
            except BaseException as error:
                work = training.throw(error)
            else:
                work = training.send(stats)
    except StopIteration as end:
        return end.value
