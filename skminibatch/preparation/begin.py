"""What training begins with, and what outlives a call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skminibatch.statistics.features import Moments
from skminibatch.statistics.reservoir import Reservoir
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.state import History, TrainState


@dataclass
class Fitted:
    """What outlives a call: enough to go on learning, nothing of it a device handle."""

    target: tuple
    model: object
    params: np.ndarray
    state: TrainState
    seed: int
    moments: Moments
    reservoir: Reservoir | None
    smoothness: SmoothnessConstants | None
    history: History
    class_counts: np.ndarray | None = None
    chosen: tuple | None = None  # the batch size of 'auto' and why, kept on a stream
