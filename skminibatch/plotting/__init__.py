"""Figures of training, of the noise of its gradients, of batch sizes and of rates, in scikit-learn's Display convention.

A display holds what was computed; `from_estimator` computes and draws, `plot` draws again. matplotlib is imported when
something is drawn.
"""

from skminibatch.plotting.batch_cost import BatchCostDisplay
from skminibatch.plotting.batch_size_curve import BatchSizeCurveDisplay
from skminibatch.plotting.learning_rate_range import LearningRateRangeDisplay
from skminibatch.plotting.noise_scale import NoiseScaleDisplay
from skminibatch.plotting.training import TrainingHistoryDisplay

__all__ = [
    "BatchCostDisplay",
    "BatchSizeCurveDisplay",
    "LearningRateRangeDisplay",
    "NoiseScaleDisplay",
    "TrainingHistoryDisplay",
]
