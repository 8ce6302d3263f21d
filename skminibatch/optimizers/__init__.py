"""Optimizers: a dict from the name of the parameter `solver` to the part.

``coefficients(rates, sizes, memory)`` runs on the host once a chunk; ``update(w, g, slots, c)`` is the formula of one
coordinate and returns ``(w, slots, step)``, ``step`` being the effective step that the proximal map of the penalty gets.
Optional: ``follow(w, slots, c)``, the slots after the proximal map; ``point``, where the gradient is taken; ``result``,
the predictor. Class data: ``n_slots``; ``n_coefficients``; ``slot_exponents``, how a slot scales when a coordinate is
stretched (-1 like a parameter, 1 like a gradient, 2 like its square); ``linear``: the update is linear in
``(w, slots, g)``; ``lazy_l1``: in addition w does not depend on the slots; ``decoupled``: the square of the penalty
shrinks w instead of entering the gradient; ``per_row``: the loop stores the last residual of each row, and g is what the
gradients of a batch changed by since; ``auto_rate``: the constant rate of ``learning_rate='auto'``, None where it is
``auto_multiple()`` over the smoothness of a batch.
"""

from skminibatch.optimizers.adaptive import AdaGrad, Adam, AdamW, RMSProp
from skminibatch.optimizers.averaging import Averaging
from skminibatch.optimizers.descent import SGD, Momentum, Nesterov, ScheduleFree
from skminibatch.optimizers.saga import SAGA

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
}

__all__ = [
    "OPTIMIZERS",
    "SAGA",
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
