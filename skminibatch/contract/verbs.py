"""The verbs of the parts as functions.

A part (loss, penalty, optimizer) is a ``NamedTuple`` of hyper-parameters whose methods are scalar formulas. Loops
call the formulas through these functions, never as methods, because a compiled loop has to find the formula by the
*type* of the part. Here, in plain Python, each function calls the method; a compiling backend gives each of them
a second meaning. A verb that a part does not have falls back to the neutral element that stands below.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from scipy.special import ndtr


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


def second_derivative(self, raw, y):
    """Second derivative of the loss with respect to the raw output, zero at kinks; of arrays, in plain Python only."""
    return self.second_derivative(raw, y)


def hessian_product(self, raw, y, direction):
    """Second derivative of the losses of some rows by their raw outputs (n, K), times a direction of the same shape."""
    if hasattr(self, "hessian_product"):
        return self.hessian_product(raw, y, direction)
    return self.second_derivative(raw, y.reshape(raw.shape)) * direction


def stiffness(self, raw, y):
    """Bound of the second derivative at a raw output; what limits the step of a batch."""
    if hasattr(self, "stiffness"):
        return self.stiffness(raw, y)
    curvature = curvature_of(self)
    # with kinks: one step moves a raw output by at most the slope of the loss
    return 1.0 if curvature is None else float(curvature)


def curvature_of(part) -> float | None:
    """Upper bound of the second derivative of a loss, or None; a loss of several outputs asks the loss inside."""
    return curvature_of(part.loss) if hasattr(part, "loss") else type(part).curvature


def smooth_gradient(self, w):
    """Gradient of the smooth part of a penalty."""
    return self.gradient(w)


def prox(self, w, step):
    """Proximal map of the rest of a penalty."""
    return self.prox(w, step)


def update(self, w, g, slots, c):
    """One step of an optimizer for one coordinate: the new (w, slots, effective step)."""
    return self.update(w, g, slots, c)


def follow(self, w, slots, c):
    """The slots after the proximal step (averages follow the iterate here)."""
    return self.follow(w, slots, c) if hasattr(self, "follow") else slots


def point(self, w, slots, c):
    """Where the gradient is taken."""
    return self.point(w, slots, c) if hasattr(self, "point") else w


def result(self, w, slots):
    """The predictor."""
    return self.result(w, slots) if hasattr(self, "result") else w


def n_slots(optimizer) -> int:
    """Number of arrays that an optimizer keeps beside the parameters."""
    return type(optimizer).n_slots + (n_slots(optimizer.inner) if hasattr(optimizer, "inner") else 0)


def n_coefficients(optimizer) -> int:
    """Number of coefficients that an optimizer reads in each step; the first is the rate."""
    return type(optimizer).n_coefficients + (n_coefficients(optimizer.inner) if hasattr(optimizer, "inner") else 0)


def identity(part: tuple) -> tuple:
    """A part with its type and the types of those inside: as tuples alone, different parts may be equal."""
    return type(part), *(identity(field) if isinstance(field, tuple) else field for field in part)
