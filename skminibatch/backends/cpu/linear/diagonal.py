"""The kernel of diagonal Newton steps on sparse rows: a row costs two passes over its non-zeros, whatever the features are.

See `training.online_diagonal` for the method, and ``base.follow_csr`` for the same in plain array code.
"""

from __future__ import annotations

import numpy as np

from skminibatch.backends.cpu.compile import Kernel
from skminibatch.backends.cpu.intrinsics import address_of, call
from skminibatch.backends.cpu.linear.dual import shrunk, write_places
from skminibatch.backends.cpu.linear.sparse import ask_for


@Kernel
def run(loss, X, y, weights, rows, state, terms, space, losses):
    """Learn from rows, one after another; the weight of all rows so far. Losses are those before a row is learnt from.

    `loss`: the addresses of its slopes and its numbers.
    """
    data, indices, indptr = X
    sums, curvatures, largest = state
    offset, fit_intercept, ridge, l1, prior, share, least, most, weight = terms
    raw, out, none, work, totals, places = space
    K, last, slopes, here = raw.size, curvatures.size - 1, work[0], address_of(places)
    write_places(places, y, indptr.size - 1, raw, out, work, totals)
    for t in range(rows.size):
        ask_for(data, indices, indptr, y, rows, t, rows.size)
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
        call(loss[0], (loss[1], here, row, address_of(none), s, q))
        losses[t] = totals[0]
        if not q > 0.0:
            continue
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
def coefficients(state, terms, features, coef, inverses):
    """Write the coefficients (K, d) of some features that belong to the sums; the penalty of them. `inverses` is work space."""
    sums, curvatures, largest = state
    ridge, l1, prior, share, weight = terms
    decay, threshold, penalty = weight * ridge, weight * l1, 0.0
    for start in range(0, features.size, inverses.size):  # a block of features stays in the cache while it is turned
        block = features[start : min(start + inverses.size, features.size)]
        for t in range(block.size):
            precision = share * curvatures[block[t]] + prior * largest[block[t]] + decay
            inverses[t] = 1.0 / precision if precision > 0.0 else 0.0
        for k in range(coef.shape[0]):
            for t in range(block.size):
                w = inverses[t] * shrunk(sums[block[t], k], threshold)
                coef[k, block[t]] = w
                penalty += 0.5 * ridge * w * w + l1 * abs(w)
    return penalty
