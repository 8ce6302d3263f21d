"""The verbs of the parts as functions.

A part (loss, penalty, optimizer) is a ``NamedTuple`` of hyper-parameters whose methods are scalar formulas. Loops
call the formulas through these functions, never as methods, because a compiled loop has to find the formula by the
*type* of the part. Here, in plain Python, each function calls the method; a compiling backend gives each of them
a second meaning. For a verb that a part does not bring, the default of its kind is called, see `skminibatch.contract.kinds`.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from scipy.special import ndtr

from skminibatch.contract.kinds import declared


def where(condition, a, b):
    """``numpy.where``; a compiled loop takes the branch."""
    return np.where(condition, a, b)


def exp_of_negative(x):
    """``exp(x)`` for x <= 0; a compiled loop evaluates a polynomial, several rows at a time."""
    return np.exp(x)


def log_of_one_plus(x):
    """``log(1 + x)`` for 0 <= x <= 1, likewise."""
    return np.log1p(x)


def positive(x):
    """``x > 0``, of the real part where derivatives are taken along the imaginary axis."""
    return np.real(x) > 0


@singledispatch
def normal_share(x):
    """The distribution function of the standard normal distribution; a library that NumPy knows nothing of adds its own."""
    return ndtr(x)


def activate(self, z):
    """Output of an activation."""
    return self.activate(z)


def slope(self, z, a):
    """Derivative of an activation at z, where its output is a."""
    return self.slope(z, a)


def value(self, raw, y):
    """Loss of one raw output."""
    return self.value(raw, y)


def gradient(self, raw, y):
    """Derivative of the loss with respect to the raw output."""
    return self.gradient(raw, y)


def value_gradient(self, raw, y, out):
    """Loss of one row of raw outputs; its gradient is written into `out`."""
    return self.value_gradient(raw, y, out)


def proximal(self, raw, y, weight, q, dual, out, work):
    """Where the loss of one row of raw outputs and the distance from these balance, written into `out`."""
    declared(self).proximal(raw, y, weight, q, dual, out, work)


def second_derivative(self, raw, y):
    """Second derivative of the loss with respect to the raw output, zero at kinks; of arrays, in plain Python only."""
    return declared(self).second_derivative(raw, y)


def hessian_product(self, raw, y, direction):
    """Second derivative of the losses of some rows by their raw outputs (n, K), times a direction of the same shape."""
    return declared(self).hessian_product(raw, y, direction)


def stiffness(self, raw, y):
    """Bound of the second derivative at a raw output, in plain Python only."""
    return declared(self).stiffness(raw, y)


def smooth_gradient(self, w):
    """Gradient of the smooth part of a penalty."""
    return self.gradient(w)


def prox(self, w, step):
    """Proximal map of the rest of a penalty."""
    return self.prox(w, step)


def update(self, w, g, slots, c):
    """One step of an optimizer for one coordinate: the new (w, slots, effective step)."""
    return self.update(w, g, slots, c)


def decoupled(self):
    """Whether the smooth part of the penalty shrinks the parameters instead of entering the gradient of an optimizer."""
    return declared(self).decoupled


def follow(self, w, slots, c):
    """The slots after the proximal step (averages follow the iterate here)."""
    return declared(self).follow(w, slots, c)


def point(self, w, slots, c):
    """Where the gradient is taken."""
    return declared(self).point(w, slots, c)


def result(self, w, slots):
    """The parameters used for prediction."""
    return declared(self).result(w, slots)


def n_slots(optimizer) -> int:
    """Number of arrays that an optimizer keeps in addition to the parameters."""
    return len(declared(optimizer).slot_exponents)


def identity(part: tuple) -> tuple:
    """A part with its type and the types of those inside: as tuples alone, different parts may be equal."""
    return type(part), *(identity(field) if isinstance(field, tuple) else field for field in part)
