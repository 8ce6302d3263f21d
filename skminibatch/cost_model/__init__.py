"""What a batch size costs: the time to a target is the number of steps times the time of a step, ``T(b) = K(b) t(b)``.

The steps follow ``K(b) = N + C / b``: N without noise, C rows with the smallest batches. An affine step time,
``t(b) = tau_f + tau_d b``, explains where the minimum comes from; the decision takes the times as they were measured.
"""

from skminibatch.cost_model.measurements import training_objective
from skminibatch.cost_model.model import BatchCostModel, CostMeasurements

__all__ = ["BatchCostModel", "CostMeasurements", "training_objective"]
