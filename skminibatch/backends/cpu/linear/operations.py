"""The formulas of a linear model's parts as compiled functions: what a loss makes of raw outputs, and the step of an optimizer.

A kernel calls them by their address, once for a group of rows or for a step. What stays the same from call to call, the
addresses and sizes of arrays, it writes down once, in an array of `N_PLACES` integers.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED
from skminibatch.backends.cpu.formulas import coefficients_at, slot_count, slots_at, store_slots
from skminibatch.backends.cpu.intrinsics import cube_at, matrix_at, vector_at
from skminibatch.backends.cpu.linear.lazy import transition
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
    part_of,
)
from skminibatch.backends.cpu.rows import GROUP, MANY
from skminibatch.contract.kinds import LOSS, declared
from skminibatch.contract.proximal import proximal_point
from skminibatch.contract.steps import stepped
from skminibatch.contract.verbs import follow, gradient, identity, point, proximal, update, value, value_gradient

# What a kernel writes down: of rows,
TARGETS, N_TARGETS, ROWS, BLOCK, CAPACITY, OUT, RAW, WORK, TOTALS, N_OUTPUTS = range(10)
# of steps,
PARAMS, WIDTH, N_FEATURES, COEFFICIENTS, N_COEFFICIENTS, N_STEPS, POINT, SCALE, STRETCH = range(10, 19)
# and of steps on sparse rows
MAPS, RESPONSES, READ, UNIT, N_KINDS, KINDS, DATA, INDICES, INDPTR, GRADIENT, TOUCHED, N_TOUCHED, HAS_INTERCEPT = range(
    19, 32
)
N_PLACES = 32

RESIDUALS = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT)
ONE_ROW = types.void(ADDRESS, ADDRESS, COUNT, ADDRESS, NUMBER, NUMBER)
LOOK = types.void(ADDRESS, ADDRESS, COUNT)
STEP = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT, COUNT, NUMBER, NUMBER)
SPARSE_STEP = types.void(ADDRESS, ADDRESS, COUNT, COUNT, NUMBER, NUMBER)
KEPT = 256  # operations that are kept with their numbers


class Pair(NamedTuple):
    """Two functions of an optimizer and a penalty that read the same numbers."""

    step: Operation
    look: Operation


def residuals(loss, raw, targets) -> Operation:
    """Raw outputs of rows become weighted residuals; the losses and the squares of gradients are added up."""
    build = _pointwise_of if _is_pointwise(loss) else _rowwise_of
    return _of_loss(build, RESIDUALS, identity(loss), raw.dtype.type, targets.dtype.type)


def ascent(loss, targets) -> Operation:
    """What dual ascent needs of a row: its loss, the raw outputs where loss and distance balance, and the conjugate there."""
    return _of_loss(_ascent_of, ONE_ROW, identity(loss), _is_pointwise(loss), targets.dtype.type)


def slopes(loss, targets) -> Operation:
    """What a diagonal Newton step needs of a row: its loss with the derivatives, and the raw outputs of `ascent`."""
    return _of_loss(_slopes_of, ONE_ROW, identity(loss), _is_pointwise(loss), targets.dtype.type)


def dense_steps(optimizer, penalty, dtype, scaled: bool) -> Pair:
    """The step on dense rows, and where the first one takes its gradient."""
    return _of_steps(
        (_dense_step_of, STEP), (_dense_look_of, LOOK), identity(optimizer), identity(penalty), dtype.type, scaled
    )


def sparse_steps(optimizer, penalty) -> Pair:
    """The step of the intercepts on sparse rows, and the maps of a step with where it takes the gradient."""
    return _of_steps((_intercept_step_of, SPARSE_STEP), (_maps_of, LOOK), identity(optimizer), identity(penalty))


def lazy_steps(optimizer, penalty, X, scaled: bool) -> Pair:
    """The step of all that sparse rows touch, and their raw outputs where it takes the gradient."""
    kinds = X.data.dtype.type, X.indices.dtype.type, scaled, declared(optimizer).brings("follow")
    parts = identity(optimizer), identity(penalty)
    return _of_steps((_touched_step_of, SPARSE_STEP), (_outputs_of, SPARSE_STEP), *parts, *kinds)


@functools.lru_cache(KEPT)
def _of_loss(build, signature, key, *kinds) -> Operation:
    loss = part_of(key)
    return Operation.of(compiled(build, (*classes_of(loss), *kinds), signature, loss), numbers_of(loss, np.float64))


@functools.lru_cache(KEPT)
def _of_steps(step, look, optimizer_key, penalty_key, *kinds) -> Pair:
    optimizer, penalty = part_of(optimizer_key), part_of(penalty_key)
    numbers = np.concatenate([numbers_of(optimizer, np.float64), numbers_of(penalty, np.float64)])
    classes = *classes_of(optimizer), type(penalty), *kinds
    return Pair(
        *(
            Operation.of(compiled(build, classes, signature, optimizer, penalty), numbers)
            for build, signature in (step, look)
        )
    )


def _is_pointwise(loss) -> bool:
    return declared(loss).kind is LOSS


def parts_of(kind, inner, penalty_kind, numbers):
    """The optimizer and the penalty."""


@overload(parts_of, jit_options=INLINED)
def _parts_of(kind, inner, penalty_kind, numbers):
    def both(kind, inner, penalty_kind, numbers):
        read = vector_at(numbers, np.float64, 2 * MOST_NUMBERS)
        return built(kind, inner, read), built(penalty_kind, None, read[MOST_NUMBERS:])

    return both


def columns_of(block, capacity, n):
    """Weights, squared lengths and scratch of `n` rows, the columns of a block of a capacity of rows."""


@overload(columns_of, jit_options=INLINED)
def _columns_of(block, capacity, n):
    def columns(block, capacity, n):
        weights = vector_at(block, np.float64, n)
        size = capacity * weights.itemsize
        return weights, vector_at(block + size, np.float64, n), vector_at(block + 2 * size, np.float64, n)

    return columns


def _pointwise_of(kind, inner, number, target):
    def run(numbers, places, raw, sums, n):
        loss = built(kind, inner, vector_at(numbers, np.float64, MOST_NUMBERS))
        at = vector_at(places, np.int64, N_PLACES)
        Z, y, rows = vector_at(raw, number, n), vector_at(at[TARGETS], target, MANY), vector_at(at[ROWS], np.int64, n)
        added, total, squares = vector_at(sums, np.float64, 2), 0.0, 0.0
        if n == GROUP and at[CAPACITY] == GROUP:
            # Of known lengths, the loop needs no checks whether arrays overlap, and is unrolled.
            block = vector_at(at[BLOCK], np.float64, 3 * GROUP)
            for t in range(GROUP):
                block[2 * GROUP + t] = y[rows[t]]
            for t in range(GROUP):
                z, s, target_of_row = Z[t], block[t], block[2 * GROUP + t]
                total += s * value(loss, z, target_of_row)
                r = s * gradient(loss, z, target_of_row)
                squares += r * r * block[GROUP + t]
                Z[t] = r
        else:
            weights, lengths, out = columns_of(at[BLOCK], at[CAPACITY], n)
            for t in range(n):
                out[t] = y[rows[t]]
            for t in range(n):
                z, s = Z[t], weights[t]
                total += s * value(loss, z, out[t])
                r = s * gradient(loss, z, out[t])
                squares += r * r * lengths[t]
                Z[t] = r
        added[0] += total
        added[1] += squares

    return run


def _rowwise_of(kind, inner, number, target):
    def run(numbers, places, raw, sums, n):
        loss = built(kind, inner, vector_at(numbers, np.float64, MOST_NUMBERS))
        at = vector_at(places, np.int64, N_PLACES)
        K = at[N_OUTPUTS]
        Z, rows = matrix_at(raw, number, n, K), vector_at(at[ROWS], np.int64, n)
        y, added = matrix_at(at[TARGETS], target, MANY, at[N_TARGETS]), vector_at(sums, np.float64, 2)
        weights, lengths, _ = columns_of(at[BLOCK], at[CAPACITY], n)
        out = vector_at(at[BLOCK] + 2 * at[CAPACITY] * added.itemsize, np.float64, K)
        for t in range(n):
            s = weights[t]
            added[0] += s * value_gradient(loss, Z[t], y[rows[t]], out)
            for k in range(K):
                Z[t, k] = s * out[k]
                added[1] += s * out[k] * s * out[k] * lengths[t]

    return run


def row_at(places, target, row):
    """Of one row: its raw outputs and targets, and what is written of it: raw outputs, work space (3, K) and totals."""


@overload(row_at, jit_options=INLINED)
def _row_at(places, target, row):
    def arrays(places, target, row):
        at = vector_at(places, np.int64, N_PLACES)
        K = at[N_OUTPUTS]
        y = matrix_at(at[TARGETS], target, MANY, at[N_TARGETS])[row]
        z, out = vector_at(at[RAW], np.float64, K), vector_at(at[OUT], np.float64, K)
        return z, y, out, matrix_at(at[WORK], np.float64, 3, K), vector_at(at[TOTALS], np.float64, 2)

    return arrays


def _ascent_of(kind, inner, pointwise, target):
    def one_output(numbers, places, row, dual, weight, q):
        loss = built(kind, inner, vector_at(numbers, np.float64, MOST_NUMBERS))
        z, targets, out, _, totals = row_at(places, target, row)
        y = np.float64(targets[0])
        totals[0] = weight * value(loss, z[0], y)
        out[0] = proximal_point(loss, z[0], y, weight, q, vector_at(dual, np.float64, 1)[0])
        totals[1] = -weight * value(loss, out[0], y)

    def several(numbers, places, row, dual, weight, q):
        loss = built(kind, inner, vector_at(numbers, np.float64, MOST_NUMBERS))
        z, y, out, work, totals = row_at(places, target, row)
        totals[0] = weight * value_gradient(loss, z, y, work[0])
        proximal(loss, z, y, weight, q, vector_at(dual, np.float64, z.size), out, work[1:])
        totals[1] = -weight * value_gradient(loss, out, y, work[0])

    return one_output if pointwise else several


def _slopes_of(kind, inner, pointwise, target):
    def one_output(numbers, places, row, dual, weight, q):
        loss = built(kind, inner, vector_at(numbers, np.float64, MOST_NUMBERS))
        z, targets, out, work, totals = row_at(places, target, row)
        y = np.float64(targets[0])
        totals[0] = weight * value(loss, z[0], y)
        work[0, 0] = gradient(loss, z[0], y)
        if q > 0.0:
            out[0] = proximal_point(loss, z[0], y, weight, q, 0.0)

    def several(numbers, places, row, dual, weight, q):
        loss = built(kind, inner, vector_at(numbers, np.float64, MOST_NUMBERS))
        z, y, out, work, totals = row_at(places, target, row)
        totals[0] = weight * value_gradient(loss, z, y, work[0])
        if q > 0.0:
            proximal(loss, z, y, weight, q, vector_at(dual, np.float64, z.size), out, work[1:])

    return one_output if pointwise else several


def _dense_look_of(kind, inner, penalty_kind, number, scaled):
    def run(numbers, places, s):
        part, _ = parts_of(kind, inner, penalty_kind, numbers)
        at = vector_at(places, np.int64, N_PLACES)
        K, d, width = at[N_OUTPUTS], at[N_FEATURES], at[WIDTH]
        P, v = cube_at(at[PARAMS], number, 1, K, width), matrix_at(at[POINT], number, K, width)
        scale = vector_at(at[SCALE], number, d)
        C = matrix_at(at[COEFFICIENTS], np.float64, MANY, at[N_COEFFICIENTS])
        c = coefficients_at(part, C, s, C[s, 0])
        for k in range(K):
            for j in range(d):
                w = point(part, P[0, k, j], slots_at(part, P, k, j), c)
                v[k, j] = w * scale[j] if scaled else w
            v[k, d] = point(part, P[0, k, d], slots_at(part, P, k, d), c)

    return run


def _dense_step_of(kind, inner, penalty_kind, number, scaled):
    def run(numbers, places, source, residuals, stride, s, factor, free):
        # `source` is the gradient of the first output, or, with `residuals` of the outputs, the row that they are to be
        # multiplied with; the intercept has no penalty, and `following` are the coefficients of the next step
        part, penalty = parts_of(kind, inner, penalty_kind, numbers)
        at = vector_at(places, np.int64, N_PLACES)
        K, d, width = at[N_OUTPUTS], at[N_FEATURES], at[WIDTH]
        P, v = cube_at(at[PARAMS], number, 1, K, width), matrix_at(at[POINT], number, K, width)
        scale, stretches = vector_at(at[SCALE], number, d), vector_at(at[STRETCH], number, d)
        C = matrix_at(at[COEFFICIENTS], np.float64, MANY, at[N_COEFFICIENTS])
        after, one = min(s + 1, at[N_STEPS] - 1), number(1)
        c, following = coefficients_at(part, C, s, C[s, 0]), coefficients_at(part, C, after, C[after, 0])
        for k in range(K):
            G = vector_at(source + k * stride, number, d + 1)
            if residuals:
                share = vector_at(residuals, number, K)[k] * number(factor)
                last = share * number(free)
            else:
                share = number(factor)
                last = share * G[d] * number(free)
            for j in range(d):
                g, stretch = G[j] * share, stretches[j] if scaled else one
                g = g * scale[j] if scaled else g
                w, slots = stepped(penalty, part, P[0, k, j], g, slots_at(part, P, k, j), stretch, True, c)
                slots = follow(part, w, slots, c)
                P[0, k, j] = w
                store_slots(part, P, k, j, slots)
                w = point(part, w, slots, following)
                v[k, j] = w * scale[j] if scaled else w
            w, slots, _ = update(part, P[0, k, d], last, slots_at(part, P, k, d), c)
            slots = follow(part, w, slots, c)
            P[0, k, d] = w
            store_slots(part, P, k, d, slots)
            v[k, d] = point(part, w, slots, following)

    return run


def _maps_of(kind, inner, penalty_kind):
    def run(numbers, places, s):
        part, penalty = parts_of(kind, inner, penalty_kind, numbers)
        at = vector_at(places, np.int64, N_PLACES)
        K, d, n_kinds, m = at[N_OUTPUTS], at[N_FEATURES], at[N_KINDS], 1 + slots_of(part)
        A, unit = cube_at(at[MAPS], np.float64, n_kinds, m, m), cube_at(at[UNIT], np.float64, m, 1, 1)
        G, e = matrix_at(at[RESPONSES], np.float64, n_kinds, m), matrix_at(at[READ], np.float64, n_kinds, m)
        stretches, v = vector_at(at[STRETCH], np.float64, n_kinds), vector_at(at[POINT], np.float64, K)
        P = cube_at(at[PARAMS], np.float64, m, K, d + 1)
        C = matrix_at(at[COEFFICIENTS], np.float64, MANY, at[N_COEFFICIENTS])
        c = coefficients_at(part, C, s, C[s, 0])
        for k in range(K):
            v[k] = point(part, P[0, k, d], slots_at(part, P, k, d), c)
        for number in range(n_kinds):
            transition(penalty, part, c, A[number], G[number], e[number], unit, stretches[number])

    return run


def slots_of(optimizer):
    """The number of slots."""


@overload(slots_of, jit_options=INLINED)
def _slots_of(optimizer):
    count = slot_count(optimizer)
    return lambda optimizer: count


def step_intercept(optimizer, P, K, d, raw, n, share, ratio, c):
    """Update the intercepts, which have no penalty, from the residuals of `n` rows."""


@overload(step_intercept, jit_options=INLINED)
def _step_intercept(optimizer, P, K, d, raw, n, share, ratio, c):
    def step(optimizer, P, K, d, raw, n, share, ratio, c):
        for k in range(K):
            g = 0.0
            for t in range(n):
                g += raw[t, k]
            w, slots, _ = update(optimizer, P[0, k, d], g * share * ratio, slots_at(optimizer, P, k, d), c)
            P[0, k, d] = w
            store_slots(optimizer, P, k, d, follow(optimizer, w, slots, c))

    return step


def _intercept_step_of(kind, inner, penalty_kind):
    def run(numbers, places, n, s, share, ratio):
        part, _ = parts_of(kind, inner, penalty_kind, numbers)
        at = vector_at(places, np.int64, N_PLACES)
        K, d = at[N_OUTPUTS], at[N_FEATURES]
        P, raw = cube_at(at[PARAMS], np.float64, 1, K, d + 1), matrix_at(at[RAW], np.float64, n, K)
        C = matrix_at(at[COEFFICIENTS], np.float64, MANY, at[N_COEFFICIENTS])
        step_intercept(part, P, K, d, raw, n, share, ratio, coefficients_at(part, C, s, C[s, 0]))

    return run


def _outputs_of(kind, inner, penalty_kind, number, index, scaled, averaged):
    def run(numbers, places, n, s, share, ratio):
        part, _ = parts_of(kind, inner, penalty_kind, numbers)
        at = vector_at(places, np.int64, N_PLACES)
        K, d = at[N_OUTPUTS], at[N_FEATURES]
        data, indices = vector_at(at[DATA], number, MANY), vector_at(at[INDICES], index, MANY)
        indptr, rows = vector_at(at[INDPTR], index, MANY), vector_at(at[ROWS], np.int64, n)
        P, scale = cube_at(at[PARAMS], np.float64, 1, K, d + 1), vector_at(at[SCALE], np.float64, d)
        raw, (_, squares, _) = matrix_at(at[RAW], np.float64, n, K), columns_of(at[BLOCK], at[CAPACITY], n)
        C = matrix_at(at[COEFFICIENTS], np.float64, MANY, at[N_COEFFICIENTS])
        c = coefficients_at(part, C, s, C[s, 0])
        for t in range(n):
            squares[t] = 0.0
            for k in range(K):
                raw[t, k] = point(part, P[0, k, d], slots_at(part, P, k, d), c)
            for q in range(indptr[rows[t]], indptr[rows[t] + 1]):
                j, x = indices[q], np.float64(data[q])
                if scaled:
                    x = x * scale[j]
                squares[t] += x * x
                for k in range(K):
                    raw[t, k] += x * point(part, P[0, k, j], slots_at(part, P, k, j), c)

    return run


def _touched_step_of(kind, inner, penalty_kind, number, index, scaled, averaged):
    def run(numbers, places, n, s, share, ratio):
        part, penalty = parts_of(kind, inner, penalty_kind, numbers)
        at = vector_at(places, np.int64, N_PLACES)
        K, d = at[N_OUTPUTS], at[N_FEATURES]
        P, raw = cube_at(at[PARAMS], np.float64, 1, K, d + 1), matrix_at(at[RAW], np.float64, n, K)
        g, touched = matrix_at(at[GRADIENT], np.float64, d, K + 1), vector_at(at[TOUCHED], np.int64, d)
        kinds, stretches = vector_at(at[KINDS], np.int64, d), vector_at(at[STRETCH], np.float64, at[N_KINDS])
        C = matrix_at(at[COEFFICIENTS], np.float64, MANY, at[N_COEFFICIENTS])
        c = coefficients_at(part, C, s, C[s, 0])
        for i in range(at[N_TOUCHED]):
            j = touched[i]
            stretch = stretches[kinds[j]] if scaled else 1.0
            for k in range(K):
                w, slots = stepped(
                    penalty, part, P[0, k, j], g[j, k] * ratio, slots_at(part, P, k, j), stretch, True, c
                )
                P[0, k, j] = w
                store_slots(part, P, k, j, slots if averaged else follow(part, w, slots, c))
        if at[HAS_INTERCEPT]:
            step_intercept(part, P, K, d, raw, n, share, ratio, c)
        if averaged:  # an average follows in every coordinate, touched or not
            for k in range(K):
                for j in range(d):
                    store_slots(part, P, k, j, follow(part, P[0, k, j], slots_at(part, P, k, j), c))

    return run
