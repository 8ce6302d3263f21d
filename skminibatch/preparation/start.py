"""Where training starts: what the steps before it examine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.models.data import Data
from skminibatch.models.gradients import Gradients
from skminibatch.models.protocol import Model, Predictor
from skminibatch.models.view import gradients_of


class Start(NamedTuple):
    """A model, its parameters before the first step, the rows to train on, and a sample of these to examine."""

    model: Model
    params: np.ndarray
    data: Data
    sampled: np.ndarray
    seed: int

    @property
    def predictor(self) -> Predictor:
        """The parameters used for prediction."""
        return self.model.predictor(self.params, None)

    @property
    def gradients(self) -> Gradients:
        """Those of the sample."""
        return gradients_of(self.model, self.data, self.predictor, self.sampled)
