"""Optimizers: a dict from the name of the parameter `solver` to the part.

``coefficients(rates, sizes, memory)`` runs on the host once per chunk of steps; ``update(w, g, slots, c)`` is the formula of
one coordinate and returns ``(w, slots, step)``, ``step`` being the effective step that the proximal map of the penalty gets.
What else an optimizer may bring, and what holds otherwise, is listed in `skminibatch.contract.kinds` (``OPTIMIZER``): its
slots and their units, where the gradient is taken, the parameters used for prediction, its automatic rate, ...
"""

from skminibatch.optimizers.adaptive import AdaGrad, Adam, AdamW, RMSProp
from skminibatch.optimizers.averaging import Averaging
from skminibatch.optimizers.descent import SGD, Momentum, Nesterov, ScheduleFree
from skminibatch.optimizers.saga import SAGA
from skminibatch.optimizers.sdca import SDCA

OPTIMIZERS = {
    "schedule_free": ScheduleFree,
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "saga": SAGA,
    "sdca": SDCA,
}

__all__ = [
    "OPTIMIZERS",
    "SAGA",
    "SDCA",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Averaging",
    "Momentum",
    "Nesterov",
    "RMSProp",
    "ScheduleFree",
]
