"""Formulas of parts as functions that are called by their address, so that one compiled loop serves every network.

A loop that is compiled for the types of its parts is compiled anew for each combination of activations, loss and optimizer,
each for several seconds. Here each part is compiled once for each type of number, in a tenth of a second, to a function of
addresses and counts; the loop over the steps calls it by its own address. The hyper-parameters of a part are numbers in an
array that the function reads, so that new ones compile nothing.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numba import types
from numba.core.ccallback import CFunc
from numba.extending import overload

from skminibatch.backends.cpu.compile import CALLED, INLINED, is_ours, with_cache
from skminibatch.backends.cpu.formulas import coefficients_at, declaration_of, formula, slots_at, store_slots
from skminibatch.backends.cpu.intrinsics import cube_at, matrix_at, vector_at
from skminibatch.contract import verbs
from skminibatch.contract.kinds import LOSS, declared, inside
from skminibatch.contract.steps import stepped
from skminibatch.contract.verbs import activate, follow, gradient, point, slope, update, value, value_gradient

_ADDRESS, _COUNT, _NUMBER = types.int64, types.int64, types.float64
ACTIVATE = types.void(_ADDRESS, _ADDRESS, _ADDRESS, _COUNT)
SLOPE = types.void(_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT)
RESIDUALS = types.void(_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT)
POINT = types.void(_ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT, _COUNT)
UPDATE = types.void(
    _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _COUNT, _COUNT, _COUNT, _COUNT, _NUMBER, _NUMBER, _COUNT
)


@overload(verbs.positive, jit_options=INLINED)
def _positive(x):
    return lambda x: x > 0


@overload(verbs.normal_share, jit_options=INLINED)
def _normal_share(x):
    return lambda x: 0.5 * math.erfc(-0.7071067811865476 * x)


@formula(verbs.activate)
def _activate(self, z):
    return declaration_of(self)["activate"]


@formula(verbs.slope)
def _slope(self, z, a):
    return declaration_of(self)["slope"]


def built(kind, inner, numbers):
    """A part from its class, that of the part inside (None: there is none), and the numbers in both."""


@overload(built, jit_options=INLINED)
def _built(kind, inner, numbers):
    if not isinstance(inner, types.NoneType):
        rest = len(kind.instance_class._fields) - 1
        n_inside = len(inner.instance_class._fields)
        if rest:
            return lambda kind, inner, numbers: kind(built(inner, None, numbers), numbers[n_inside])
        return lambda kind, inner, numbers: kind(built(inner, None, numbers))
    return {
        0: lambda kind, inner, numbers: kind(),
        1: lambda kind, inner, numbers: kind(numbers[0]),
        2: lambda kind, inner, numbers: kind(numbers[0], numbers[1]),
        3: lambda kind, inner, numbers: kind(numbers[0], numbers[1], numbers[2]),
        4: lambda kind, inner, numbers: kind(numbers[0], numbers[1], numbers[2], numbers[3]),
        5: lambda kind, inner, numbers: kind(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]),
        6: lambda kind, inner, numbers: kind(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]),
    }[len(kind.instance_class._fields)]


MOST_NUMBERS = 8  # of hyper-parameters in a part


class Operation(NamedTuple):
    """A compiled function and the numbers that it reads; both have to be kept while their addresses are in use."""

    function: CFunc
    numbers: np.ndarray

    @property
    def addresses(self) -> tuple[int, int]:
        """Those of the function and of the numbers."""
        return self.function.address, self.numbers.ctypes.data


def numbers_of(part, dtype) -> np.ndarray:
    """The hyper-parameters of a part, those of the part inside first."""
    within = inside(part)
    numbers = [*(within or ()), *(field for field in part if field is not within)]
    return np.array([*numbers, *[0.0] * (MOST_NUMBERS - len(numbers))], dtype)


def classes_of(part) -> tuple:
    """The class of a part and that of the part inside, or None."""
    within = inside(part)
    return type(part), None if within is None else type(within)


def activation(part, dtype) -> tuple[Operation, Operation]:
    """The activation and what multiplies derivatives by its slope."""
    numbers, number = numbers_of(part, dtype), np.dtype(dtype).type
    compiled = _compiled(_activation_of, (type(part), number), ACTIVATE, part)
    return Operation(compiled, numbers), Operation(_compiled(_slope_of, (type(part), number), SLOPE, part), numbers)


def residuals(loss, dtype) -> Operation:
    """The loss of a batch; raw outputs become weighted residuals."""
    build = _pointwise_of if declared(loss).kind is LOSS else _rowwise_of
    classes = (*classes_of(loss), np.dtype(dtype).type)
    return Operation(_compiled(build, classes, RESIDUALS, loss), numbers_of(loss, dtype))


def optimizer(part, penalty, dtype) -> tuple[Operation, Operation | None]:
    """The update of some parameters, and where the gradient is taken (None: where the parameters are)."""
    number = np.dtype(dtype).type
    numbers = np.concatenate([numbers_of(part, dtype), numbers_of(penalty, dtype)])
    classes = (*classes_of(part), type(penalty), number)
    done = Operation(_compiled(_update_of, classes, UPDATE, part, penalty), numbers)
    if not declared(part).brings("point"):
        return done, None
    return done, Operation(_compiled(_point_of, (*classes_of(part), number), POINT, part), numbers)


def _activation_of(kind, number):
    def run(numbers, z, a, n):
        part = built(kind, None, vector_at(numbers, number, MOST_NUMBERS))
        Z, A = vector_at(z, number, n), vector_at(a, number, n)
        for i in range(n):
            A[i] = activate(part, Z[i])

    return run


def _slope_of(kind, number):
    def run(numbers, z, a, derivatives, n):
        part = built(kind, None, vector_at(numbers, number, MOST_NUMBERS))
        Z, A, D = vector_at(z, number, n), vector_at(a, number, n), vector_at(derivatives, number, n)
        for i in range(n):
            D[i] *= slope(part, Z[i], A[i])

    return run


def _pointwise_of(kind, inner, number):
    def run(numbers, raw, y, weights, out, total, n, n_outputs, n_columns):
        loss = built(kind, inner, vector_at(numbers, number, MOST_NUMBERS))
        Z, Y, W = vector_at(raw, number, n), vector_at(y, number, n), vector_at(weights, np.float64, n)
        losses = 0.0
        for i in range(n):
            losses += W[i] * value(loss, Z[i], Y[i])
            Z[i] = W[i] * gradient(loss, Z[i], Y[i])
        vector_at(total, np.float64, 1)[0] = losses

    return run


def _rowwise_of(kind, inner, number):
    def run(numbers, raw, y, weights, out, total, n, n_outputs, n_columns):
        loss = built(kind, inner, vector_at(numbers, number, MOST_NUMBERS))
        Z, Y = matrix_at(raw, number, n, n_outputs), matrix_at(y, number, n, n_columns)
        W, row = vector_at(weights, np.float64, n), vector_at(out, np.float64, n_outputs)
        losses = 0.0
        for i in range(n):
            losses += W[i] * value_gradient(loss, Z[i], Y[i], row)
            for k in range(n_outputs):
                Z[i, k] = W[i] * row[k]
        vector_at(total, np.float64, 1)[0] = losses

    return run


def _update_of(kind, inner, penalty_kind, number):
    def run(numbers, params, g, coefficients, n_slots, n_numbers, n_coefficients, start, stop, factor, rate, decayed):
        both = vector_at(numbers, number, 2 * MOST_NUMBERS)
        part, penalty = built(kind, inner, both), built(penalty_kind, None, both[MOST_NUMBERS:])
        # indices that start at zero are known not to be negative, without which a loop is not vectorised
        G, n = vector_at(g, number, stop)[start:], stop - start
        P = cube_at(params + start * G.itemsize, number, 1 + n_slots, 1, n_numbers)
        cs = matrix_at(coefficients, number, 1, n_coefficients)
        c = coefficients_at(part, cs, 0, number(rate))
        share, one = number(factor), number(1.0)
        if decayed:
            for j in range(n):
                w, slots = stepped(penalty, part, P[0, 0, j], G[j] * share, slots_at(part, P, 0, j), one, True, c)
                slots = follow(part, w, slots, c)
                P[0, 0, j] = w
                store_slots(part, P, 0, j, slots)
        else:
            for j in range(n):
                w, slots, _ = update(part, P[0, 0, j], G[j] * share, slots_at(part, P, 0, j), c)
                slots = follow(part, w, slots, c)
                P[0, 0, j] = w
                store_slots(part, P, 0, j, slots)

    return run


def _point_of(kind, inner, number):
    def run(numbers, params, coefficients, out, n_slots, n_numbers, n_coefficients, n):
        part = built(kind, inner, vector_at(numbers, number, MOST_NUMBERS))
        P, v = cube_at(params, number, 1 + n_slots, 1, n_numbers), vector_at(out, number, n)
        cs = matrix_at(coefficients, number, 1, n_coefficients)
        c = coefficients_at(part, cs, 0, cs[0, 0])
        for j in range(n):
            v[j] = point(part, P[0, 0, j], slots_at(part, P, 0, j), c)

    return run


def _compiled(build, classes, signature, *parts) -> CFunc:
    """The function of some classes; those of the package are kept on disk."""
    return _once(build, classes, signature, all(is_ours(part) for part in parts))


@functools.cache
def _once(build, classes, signature, ours: bool) -> CFunc:
    function = CFunc(build(*classes), (tuple(signature.args), signature.return_type), {}, CALLED)
    return with_cache(function) if ours else _without_cache(function)


def _without_cache(function: CFunc) -> CFunc:
    function.compile()
    return function
