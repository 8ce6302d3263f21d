"""Learning-rate schedules: a dict from the name of the parameter `learning_rate` to the part.

``rates(samples, state)`` takes the samples seen before each of S steps, float64, and the state of training (``step``,
``reductions``, ``smoothness``), and returns the S rates.
"""

from skminibatch.schedules.rates import Adaptive, Auto, Constant, Cosine, InverseScaling, Optimal
from skminibatch.schedules.scaling import SCALING_RULES

SCHEDULES = {
    "auto": Auto,
    "constant": Constant,
    "invscaling": InverseScaling,
    "optimal": Optimal,
    "adaptive": Adaptive,
    "cosine": Cosine,
}

__all__ = [
    "SCALING_RULES",
    "SCHEDULES",
    "Adaptive",
    "Auto",
    "Constant",
    "Cosine",
    "InverseScaling",
    "Optimal",
]
