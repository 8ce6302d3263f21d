"""A model at given parameters on given rows: the one view through which samplers, schedules and diagnostics read it."""

from __future__ import annotations

import numpy as np

from skminibatch.models.data import Data
from skminibatch.models.gradients import Gradients
from skminibatch.models.linear import LinearModel
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.models.network import MLPModel
from skminibatch.models.network_gradients import NetworkGradients
from skminibatch.models.protocol import Model, Predictor

GRADIENTS = {LinearModel: LinearGradients, MLPModel: NetworkGradients}


def gradients_of(model: Model, data: Data, predictor: Predictor, rows: np.ndarray | None = None) -> Gradients:
    """The gradients and the curvature of a model at a predictor over some rows (None: all that are in use)."""
    return GRADIENTS[type(model)](model, data, predictor, rows)
