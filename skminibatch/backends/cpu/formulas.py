"""The second meaning of the verbs of `contract.verbs`: inside a kernel, the formula is found by the type of the part."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, inlined
from skminibatch.backends.cpu.intrinsics import power_of_two, select
from skminibatch.contract import kinds, proximal, steps, verbs

# the Taylor coefficients of exp and of artanh, in two chains: one waits half as long for its own last result
_EVEN = tuple(1.0 / math.factorial(n) for n in range(10, -1, -2))
_UNEVEN = tuple(1.0 / math.factorial(n) for n in range(9, 0, -2))
_ODD = tuple(1.0 / n for n in range(19, 0, -2))


@inlined
def clipping(square_norm, clip_norm):
    """What a gradient of this squared norm is multiplied with, so that its norm is at most `clip_norm`."""
    return clip_norm / np.sqrt(square_norm) if square_norm > clip_norm * clip_norm else 1.0


@inlined
def row_weight(weights, plan_weights, row, position):
    """Sample weight times sampler weight of a row at a position of the order."""
    weight = weights[row] if weights.size else 1.0
    return weight * plan_weights[position] if plan_weights.size else weight


@overload(steps.regularised, jit_options=INLINED)
def _regularised(penalty, optimizer, w, g, stretch, decayed, c):
    return steps.regularised


@overload(steps.stepped, jit_options=INLINED)
def _stepped(penalty, optimizer, w, g, slots, stretch, decayed, c):
    return steps.stepped


@overload(proximal.proximal_point, jit_options=INLINED)
def _proximal_point(loss, raw, y, weight, q, dual):
    return proximal.proximal_point


@overload(verbs.decoupled, jit_options=INLINED)
def _decoupled(self):
    flag = bool(declaration_of(self)["decoupled"])
    return lambda self: flag


def declaration_of(part) -> kinds.Declaration:
    """What a part declares, from its numba type."""
    cls = part.instance_class
    name = kinds.field_inside(cls)
    within = None if name is None else declaration_of(part.types[part.fields.index(name)])
    return kinds.declaration(cls, within)


def formula(verb):
    """Decorator: what a verb calls is a method of the class of a part, whose author may name and annotate its arguments."""
    return overload(verb, jit_options=INLINED, strict=False)


@overload(verbs.exp_of_negative, jit_options=INLINED)
def _exp_of_negative(x):
    def polynomial(x):
        x = select(x < -700.0, -700.0, x)  # NaN stays NaN
        k = np.floor(x * 1.4426950408889634 + 0.5)
        # ln 2 in two parts, so that k times the first is exact; the Taylor series of exp up to |r| = ln(2) / 2
        r = (x - k * 6.93145751953125e-1) - k * 1.42860682030941723212e-6
        square = r * r
        p, q = 1.0 / 479001600.0, 1.0 / 39916800.0
        for factorial in _EVEN:
            p = p * square + factorial
        for factorial in _UNEVEN:
            q = q * square + factorial
        return (p + q * r) * power_of_two(np.int64(k))

    return polynomial


@overload(verbs.log_of_one_plus, jit_options=INLINED)
def _log_of_one_plus(x):
    def series(x):
        upper = x > 0.41421356237309515  # log(1 + x) = log(2) + log((1 + x) / 2) there, so that the series is short
        f = select(upper, 0.5 * (x - 1.0), x)
        s = f / (2.0 + f)  # log(1 + f) = 2 artanh(s), |s| <= 0.172
        t = s * s
        p = 1.0 / 21.0
        for odd in _ODD:
            p = p * t + odd
        return select(upper, 0.6931471805599453, 0.0) + 2.0 * s * p

    return series


@formula(verbs.value)
def _value(self, raw, y):
    return declaration_of(self)["value"]


@formula(verbs.gradient)
def _gradient(self, raw, y):
    return declaration_of(self)["gradient"]


@formula(verbs.value_gradient)
def _value_gradient(self, raw, y, out):
    return declaration_of(self)["value_gradient"]


@formula(verbs.proximal)
def _proximal(self, raw, y, weight, q, dual, out, work):
    return declaration_of(self)["proximal"]


@formula(verbs.smooth_gradient)
def _smooth_gradient(self, w):
    return declaration_of(self)["gradient"]


@formula(verbs.prox)
def _prox(self, w, step):
    return declaration_of(self)["prox"]


@formula(verbs.update)
def _update(self, w, g, slots, c):
    return declaration_of(self)["update"]


@formula(verbs.follow)
def _follow(self, w, slots, c):
    return declaration_of(self)["follow"]


@formula(verbs.point)
def _point(self, w, slots, c):
    return declaration_of(self)["point"]


@overload(verbs.where, jit_options=INLINED)
def _where(condition, a, b):
    if types.float32 in (a, b):  # the other one is a constant of the formula, or as exact as this one

        def narrow(condition, a, b):
            return select(condition, np.float32(a), np.float32(b))

        return narrow
    return lambda condition, a, b: select(condition, a, b)


def slot_count(optimizer) -> int:
    """Number of slots of an optimizer, from its numba type."""
    return len(declaration_of(optimizer)["slot_exponents"])


def coefficient_count(optimizer) -> int:
    """Number of coefficients of an optimizer, from its numba type."""
    return declaration_of(optimizer)["n_coefficients"]


def slots_at(optimizer, params, k, j):
    """The slots of one coordinate, a tuple."""


def store_slots(optimizer, params, k, j, slots):
    """Store the slots of one coordinate."""


def coefficients_at(optimizer, coefficients, s, rate):
    """The coefficients of step `s` with another rate, a tuple."""


@overload(slots_at, jit_options=INLINED)
def _slots_at(optimizer, params, k, j):
    return {
        0: lambda optimizer, params, k, j: (),
        1: lambda optimizer, params, k, j: (params[1, k, j],),
        2: lambda optimizer, params, k, j: (params[1, k, j], params[2, k, j]),
        3: lambda optimizer, params, k, j: (params[1, k, j], params[2, k, j], params[3, k, j]),
    }[slot_count(optimizer)]


@overload(store_slots, jit_options=INLINED)
def _store_slots(optimizer, params, k, j, slots):
    def none(optimizer, params, k, j, slots):
        pass

    def one(optimizer, params, k, j, slots):
        params[1, k, j] = slots[0]

    def two(optimizer, params, k, j, slots):
        params[1, k, j] = slots[0]
        params[2, k, j] = slots[1]

    def three(optimizer, params, k, j, slots):
        params[1, k, j] = slots[0]
        params[2, k, j] = slots[1]
        params[3, k, j] = slots[2]

    return (none, one, two, three)[slot_count(optimizer)]


@overload(coefficients_at, jit_options=INLINED)
def _coefficients_at(optimizer, coefficients, s, rate):
    return {
        1: lambda optimizer, coefficients, s, rate: (rate,),
        2: lambda optimizer, coefficients, s, rate: (rate, coefficients[s, 1]),
        3: lambda optimizer, coefficients, s, rate: (rate, coefficients[s, 1], coefficients[s, 2]),
        4: lambda optimizer, coefficients, s, rate: (
            rate,
            coefficients[s, 1],
            coefficients[s, 2],
            coefficients[s, 3],
        ),
        5: lambda optimizer, coefficients, s, rate: (
            rate,
            coefficients[s, 1],
            coefficients[s, 2],
            coefficients[s, 3],
            coefficients[s, 4],
        ),
    }[coefficient_count(optimizer)]
