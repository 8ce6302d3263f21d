"""Figures of training, of the noise of its gradients and of the cost of a batch size, in scikit-learn's Display convention.

A display holds what was computed; `from_estimator` computes and draws, `plot` draws again. matplotlib is imported when
something is drawn.
"""

from skminibatch.plotting.batch_cost import BatchCostDisplay
from skminibatch.plotting.noise_scale import NoiseScaleDisplay
from skminibatch.plotting.training import TrainingHistoryDisplay

__all__ = ["BatchCostDisplay", "NoiseScaleDisplay", "TrainingHistoryDisplay"]
