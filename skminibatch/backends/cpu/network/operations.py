"""The formulas of a network's parts as compiled functions: activations, the loss, the step of the optimizer."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED
from skminibatch.backends.cpu.formulas import coefficients_at, declaration_of, formula, slots_at, store_slots
from skminibatch.backends.cpu.intrinsics import cube_at, matrix_at, vector_at
from skminibatch.backends.cpu.operations import (
    ADDRESS,
    COUNT,
    MOST_NUMBERS,
    NUMBER,
    Operation,
    built,
    classes_of,
    compiled,
    numbers_of,
)
from skminibatch.contract import verbs
from skminibatch.contract.kinds import LOSS, declared
from skminibatch.contract.steps import stepped
from skminibatch.contract.verbs import activate, follow, gradient, point, slope, update, value, value_gradient

ACTIVATE = types.void(ADDRESS, ADDRESS, ADDRESS, COUNT)
SLOPE = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT)
RESIDUALS = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT, COUNT, COUNT)
POINT = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT, COUNT, COUNT, COUNT)
UPDATE = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT, COUNT, COUNT, COUNT, COUNT, NUMBER, NUMBER, COUNT)


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


def activation(part, dtype) -> tuple[Operation, Operation]:
    """The activation and what multiplies derivatives by its slope."""
    numbers, number = numbers_of(part, dtype), np.dtype(dtype).type
    activate_all = compiled(_activation_of, (type(part), number), ACTIVATE, part)
    return Operation.of(activate_all, numbers), Operation.of(
        compiled(_slope_of, (type(part), number), SLOPE, part), numbers
    )


def residuals(loss, dtype) -> Operation:
    """The loss of a batch; raw outputs become weighted residuals."""
    build = _pointwise_of if declared(loss).kind is LOSS else _rowwise_of
    classes = (*classes_of(loss), np.dtype(dtype).type)
    return Operation.of(compiled(build, classes, RESIDUALS, loss), numbers_of(loss, dtype))


def optimizer(part, penalty, dtype) -> tuple[Operation, Operation | None]:
    """The update of some parameters, and where the gradient is taken (None: where the parameters are)."""
    number = np.dtype(dtype).type
    numbers = np.concatenate([numbers_of(part, dtype), numbers_of(penalty, dtype)])
    classes = (*classes_of(part), type(penalty), number)
    done = Operation.of(compiled(_update_of, classes, UPDATE, part, penalty), numbers)
    if not declared(part).brings("point"):
        return done, None
    return done, Operation.of(compiled(_point_of, (*classes_of(part), number), POINT, part), numbers)


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
