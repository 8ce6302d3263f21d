"""Which batch size and which rate: choices by the noise of gradients, by cross-validation, and by trial runs."""

from skminibatch.model_selection.branched import BranchedRuns, branched_batch_size
from skminibatch.model_selection.choice import BatchSizeChoice, choose_batch_size
from skminibatch.model_selection.curve import (
    BatchSizeCurve,
    LearningRateRange,
    batch_size_curve,
    learning_rate_range_test,
)
from skminibatch.model_selection.search import BatchSizeSearchCV

__all__ = [
    "BatchSizeChoice",
    "BatchSizeCurve",
    "BatchSizeSearchCV",
    "BranchedRuns",
    "LearningRateRange",
    "batch_size_curve",
    "branched_batch_size",
    "choose_batch_size",
    "learning_rate_range_test",
]
