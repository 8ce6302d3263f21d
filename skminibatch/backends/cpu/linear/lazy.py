"""The algebra of coordinates that no row touches: their map, its product over the steps, and thresholds that add up.

``sparse`` has the whole picture.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, inlined
from skminibatch.backends.cpu.formulas import slots_at, store_slots
from skminibatch.contract.steps import regularised
from skminibatch.contract.verbs import follow, point, update


@inlined
def transition(penalty, optimizer, c, A, G, e, unit, stretch):
    """Fill in the map of an untouched coordinate, the response to a unit gradient, and the point of the gradient."""
    m = A.shape[0]
    for i in range(m + 1):
        unit[:] = 0
        if i < m:
            unit[i] = 1
        w, g = unit[0, 0, 0], 1.0
        if i < m:
            e[i] = point(optimizer, w, slots_at(optimizer, unit, 0, 0), c)
            w, g = regularised(penalty, optimizer, w, 0.0, stretch, True, c)
        w, slots, _ = update(optimizer, w, g, slots_at(optimizer, unit, 0, 0), c)
        store_slots(optimizer, unit, 0, 0, follow(optimizer, w, slots, c))
        unit[0, 0, 0] = w
        for row in range(m):
            if i < m:
                A[row, i] = unit[row, 0, 0]
            else:
                G[row] = unit[row, 0, 0]


@inlined
def multiply(A, B, out):
    """``out = A B`` for small square matrices."""
    m = A.shape[0]
    for i in range(m):
        for j in range(m):
            total = 0.0
            for k in range(m):
                total += A[i, k] * B[k, j]
            out[i, j] = total


@inlined
def solve(P, b, x, M):
    """``x = P^-1 b`` and an estimate of the condition of P in the maximum norm, for up to four rows; inf: singular."""
    m = P.shape[0]
    for i in range(m):
        for j in range(m):
            M[i, j] = P[i, j]
            M[i, m + 1 + j] = 1.0 if i == j else 0.0
        M[i, m] = b[i]
    for i in range(m):
        best = i
        for k in range(i + 1, m):
            if abs(M[k, i]) > abs(M[best, i]):
                best = k
        if abs(M[best, i]) < 1e-150:
            return np.inf
        for j in range(M.shape[1]):
            M[i, j], M[best, j] = M[best, j], M[i, j]
        for k in range(m):
            if k != i:
                f = M[k, i] / M[i, i]
                for j in range(M.shape[1]):
                    M[k, j] -= f * M[i, j]
    size, inverse = 0.0, 0.0
    for i in range(m):
        x[i] = M[i, m] / M[i, i]
        for j in range(m):
            size = max(size, abs(P[i, j]))
            inverse = max(inverse, abs(M[i, m + 1 + j] / M[i, i]))
    return size * inverse


@inlined
def catch_up(U, j, K, m, since, now, Q, C, R):
    """Apply to coordinate `j` the thresholds of the steps since its last touch."""
    then = since[j]
    if then == now:
        return
    since[j] = now
    total = Q[now] - Q[then]
    for k in range(K):
        u = U[j, k * m]
        size = abs(u)
        if size == 0.0:
            continue
        sign = 1.0 if u > 0 else -1.0
        if total < size:
            U[j, k * m] = sign * (size - total)
            if m > 1:
                U[j, k * m + 1] += sign * (C[now] - C[then])
            continue
        U[j, k * m] = 0.0
        if m > 1:  # find the step in which it reached zero
            low, high = then, now - 1
            while low < high:
                middle = (low + high) // 2
                if Q[middle + 1] - Q[then] >= size:
                    high = middle
                else:
                    low = middle + 1
            U[j, k * m + 1] += sign * (C[low] - C[then] + (size - (Q[low] - Q[then])) * R[low])


@inlined
def make_explicit(U, K, product, s, kinds, thresholded, thresholds, now):
    """``u <- A P u`` for all coordinates, which are then up to date; `product` has a matrix for each kind of them."""
    since, Q, C, R = thresholds
    m = s.size
    for j in range(U.shape[0]):
        kind = kind_of(kinds, j)
        if thresholded:
            catch_up(U, j, K, m, since, now, Q[kind], C[kind], R[kind])
            since[j] = 0
        for k in range(K):
            for i in range(m):
                s[i] = 0.0
                for q in range(m):
                    s[i] += product[kind, i, q] * U[j, k * m + q]
            for i in range(m):
                U[j, k * m + i] = s[i]


def kind_of(kinds, j):
    """The kind of coordinate `j`; 0 where all are of one kind, and `kinds` has no dimension."""


@overload(kind_of, jit_options=INLINED)
def _kind_of(kinds, j):
    return (lambda kinds, j: 0) if kinds.ndim == 0 else (lambda kinds, j: kinds[j])
