"""The kernel of diagonal Newton steps on sparse rows: a row costs two passes over its non-zeros, whatever the features are.

See `training.online_diagonal` for the method, and ``base.follow_csr`` for the same in plain array code.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from skminibatch.backends.cpu.compile import INLINED, Kernel
from skminibatch.backends.cpu.linear.dual import balance, shrunk
from skminibatch.backends.cpu.linear.sparse import ask_for
from skminibatch.contract.verbs import gradient, value, value_gradient


def slopes_of(loss, raw, y, row, out):
    """Loss of a row at some raw outputs; its derivatives are written to `out`."""


@overload(slopes_of, jit_options=INLINED)
def _slopes_of(loss, raw, y, row, out):
    def one_output(loss, raw, y, row, out):
        target = np.float64(y[row])
        out[0] = gradient(loss, raw[0], target)
        return value(loss, raw[0], target)

    return one_output if y.ndim == 1 else (lambda loss, raw, y, row, out: value_gradient(loss, raw, y[row], out))


@Kernel
def run(parts, X, y, weights, rows, state, terms, space, losses):
    """Learn from rows, one after another; the weight of all rows so far. Losses are those before a row is learnt from."""
    (loss,) = parts
    data, indices, indptr = X
    sums, curvatures, largest = state
    offset, fit_intercept, ridge, l1, prior, share, least, most, weight = terms
    raw, out, slopes, none, work = space
    K, last, y_flat = raw.size, curvatures.size - 1, y.reshape(y.size)
    for t in range(rows.size):
        ask_for(data, indices, indptr, y_flat, rows, t, rows.size)
        row = rows[t]
        s = weights[row] if weights.size else 1.0
        weight += s
        decay, threshold = weight * ridge, weight * l1
        of_intercept = share * curvatures[last] + prior
        q = 1.0 / of_intercept if fit_intercept else 0.0
        for k in range(K):
            raw[k] = offset[k] + sums[last, k] / of_intercept
        for p in range(indptr[row], indptr[row + 1]):
            j, x = indices[p], np.float64(data[p])
            square = x * x
            precision = share * curvatures[j] + prior * largest[j] + decay
            if square > largest[j]:
                more = prior * (square - largest[j])
                if largest[j] > 0.0:
                    for k in range(K):
                        sums[j, k] += more / precision * shrunk(sums[j, k], threshold)
                precision += more
                largest[j] = square
            if square > 0.0:
                q += square / precision
                per_sum = x / precision
                for k in range(K):
                    raw[k] += per_sum * shrunk(sums[j, k], threshold)
        losses[t] = s * slopes_of(loss, raw, y, row, slopes)
        if not q > 0.0:
            continue
        balance(loss, raw, y, row, s, q, none, out, work)
        bent, moved = 0.0, 0.0
        for k in range(K):
            move = raw[k] - out[k]
            moved += move * move
            bent += move * (s * slopes[k] - move / q)
            out[k] = move / q  # the derivative of the weighted loss there
        curvature = min(max(bent / moved, least * s), most * s) if moved > 0.0 else least * s
        for p in range(indptr[row], indptr[row + 1]):
            j, x = indices[p], np.float64(data[p])
            square = x * x
            if square > 0.0:
                again = share * curvature * square / (share * curvatures[j] + prior * largest[j] + decay)
                for k in range(K):
                    total = sums[j, k] - out[k] * x
                    sums[j, k] = total + again * shrunk(total, threshold)
                curvatures[j] += curvature * square
        if fit_intercept:
            for k in range(K):
                total = sums[last, k] - out[k]
                sums[last, k] = total + share * curvature * total / of_intercept
            curvatures[last] += curvature
    return weight


@Kernel
def coefficients(parts, state, terms, coef, inverses):
    """Write the coefficients (K, d) that belong to the sums; the penalty of them. `inverses` is work space."""
    sums, curvatures, largest = state
    ridge, l1, prior, share, weight = terms
    decay, threshold, penalty = weight * ridge, weight * l1, 0.0
    for start in range(0, coef.shape[1], inverses.size):  # a block of features stays in the cache while it is turned
        size = min(inverses.size, coef.shape[1] - start)
        for t in range(size):
            precision = share * curvatures[start + t] + prior * largest[start + t] + decay
            inverses[t] = 1.0 / precision if precision > 0.0 else 0.0
        for k in range(coef.shape[0]):
            for t in range(size):
                w = inverses[t] * shrunk(sums[start + t, k], threshold)
                coef[k, start + t] = w
                penalty += 0.5 * ridge * w * w + l1 * abs(w)
    return penalty
