"""Averages of a stream that forget: an average begins anew where the last iterate predicts newer rows better.

Before a chunk of rows is used, their losses by the average and by the iterate are compared. Both predict rows that they have
not seen. While a stream stays the same, the average is the better one; after a change it is worse, until the average has
forgotten the time before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skminibatch.contract.kinds import declared
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.models.protocol import Model
from skminibatch.training.state import Drift, TrainState

BLOCKS, BLOCK = 4, 16  # in which the rows of a call are compared at most, and the rows of each at least


def forgetful(model: Model, data: Data, params: np.ndarray, state: TrainState) -> TrainState:
    """The state before the next rows of a stream; where the average has to forget, it begins anew in `params`, in place."""
    optimizer = declared(model.optimizer)
    if not (isinstance(model, LinearModel) and optimizer.brings("forget")) or state.coefficients is None:
        return state
    average, iterate = model.predictor(params, state.coefficients), model.last_iterate(params)
    drift = state.drift
    for rows in blocks(data.rows_in_use):
        losses = [model.sum_of_losses(data, rows, predictor) for predictor in (average, iterate)]
        drift = drift.with_block(losses[0] - losses[1])
    if not drift.significant:
        return state._replace(drift=drift)
    memory: Any = model.optimizer.forget(state.optimizer_memory)
    for slot, exponent in zip(params[1:], optimizer.slot_exponents, strict=True):
        if exponent == -1:  # an average
            slot[...] = params[0]
    return state._replace(drift=Drift(), optimizer_memory=memory, began=state.samples)


def blocks(rows: np.ndarray) -> list[np.ndarray]:
    """The rows of a call in the blocks that are compared."""
    return np.array_split(rows, max(1, min(BLOCKS, len(rows) // BLOCK)))
