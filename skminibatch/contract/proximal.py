"""The step of a dual coordinate: where the loss of a row and the distance from a raw output balance.

One formula for plain Python and for compiled loops; it asks a loss for its derivative alone.
"""

from __future__ import annotations

from skminibatch.contract.verbs import gradient

PRECISION = 1e-8  # of a step, relative to the longest that it may be
LEAST_STEP = 1e-15  # relative to the raw output
EVALUATIONS, BISECTED = 60, 4  # at most; every so many, the bracket is halved


def proximal_point(loss, raw, y, weight, q, dual):
    """The z at which ``z + q weight l'(z, y) = raw - q dual``: the minimum of ``(z - raw + q dual)^2 / (2 q) + weight l(z, y)``.

    The left side rises by at least the change of z, so that z is between `raw` and `raw` less its residual. There it is
    found by the method of false position (the Illinois variant, Dowell and Jarratt 1971, BIT 11), which halves the bracket
    now and then: at a kink of the loss, where the derivative jumps, nothing else is faster.
    """
    residual = q * (dual + weight * gradient(loss, raw, y))
    longest = abs(residual)
    if not longest > LEAST_STEP * abs(raw):
        return raw
    a, of_a = raw, residual
    b = raw - residual
    of_b = b - raw + q * (dual + weight * gradient(loss, b, y))
    if (of_b > 0.0) == (of_a > 0.0):  # between them is nothing but rounding
        return b
    side = 0
    for evaluation in range(EVALUATIONS):
        if abs(of_b) <= PRECISION * longest:
            return b
        if abs(b - a) <= PRECISION * longest:
            break
        z = 0.5 * (a + b)
        if evaluation % BISECTED != BISECTED - 1:
            z = a - of_a * (b - a) / (of_b - of_a)
        of_z = z - raw + q * (dual + weight * gradient(loss, z, y))
        if abs(of_z) <= PRECISION * longest:
            return z
        if (of_z > 0.0) == (of_a > 0.0):
            a, of_a = z, of_z
            if side == 1:
                of_b *= 0.5
            side = 1
        else:
            b, of_b = z, of_z
            if side == -1:
                of_a *= 0.5
            side = -1
    return 0.5 * (a + b)
