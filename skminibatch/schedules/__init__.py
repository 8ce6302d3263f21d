"""Schedules of the learning rate and of the batch size: dicts from the names of the parameters to the parts.

``rates(samples, state)`` takes the samples seen before each of S steps, float64, and the state of training (``step``,
``reductions``, ``smoothness``), and returns the S rates. For the sizes of batches see `skminibatch.schedules.sizes`, for rates
that follow these `skminibatch.schedules.scaling`. What else each kind may bring, and what holds otherwise, is listed in
`skminibatch.contract.kinds` (``RATE_SCHEDULE``, ``SIZE_SCHEDULE``, ``SIZE_CHOICE``, ``SCALING_RULE``).
"""

from skminibatch.contract.deprecation import renamed
from skminibatch.schedules.auto import AutoSize
from skminibatch.schedules.rates import Adaptive, Auto, Constant, Cosine, InverseScaling, Optimal
from skminibatch.schedules.scaling import SCALING_RULES
from skminibatch.schedules.sizes import (
    CABS,
    SIZE_SCHEDULES,
    AdaDamp,
    ConstantSize,
    CriticalSize,
    Geometric,
    InnerProductTest,
    LinearSize,
    Logarithmic,
    NoiseScaleSize,
    NormTest,
    Seesaw,
)

SCHEDULES = {
    "auto": Auto,
    "constant": Constant,
    "invscaling": InverseScaling,
    "optimal": Optimal,
    "adaptive": Adaptive,
    "cosine": Cosine,
}

__all__ = [
    "CABS",
    "SCALING_RULES",
    "SCHEDULES",
    "SIZE_SCHEDULES",
    "AdaDamp",
    "Adaptive",
    "Auto",
    "AutoSize",
    "Constant",
    "ConstantSize",
    "Cosine",
    "CriticalSize",
    "Geometric",
    "InnerProductTest",
    "InverseScaling",
    "LinearSize",
    "Logarithmic",
    "NoiseScaleSize",
    "NormTest",
    "Optimal",
    "Seesaw",
]

__getattr__ = renamed(__name__, {"NoiseScale": "NoiseScaleSize"}, since="0.2", until="0.4")
