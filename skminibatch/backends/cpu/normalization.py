"""The compiled loops of the normalizations: the rows of a batch pooled, the units of a row pooled, and both.

``Z`` (b, n) is normalised into ``standard`` (b, n), and scaled into ``out``; what the way back needs stands in ``inverse``:
one number for each group of rows and unit, for each row and block of units, or for each row and unit. On the way back,
``D`` (b, n) holds the derivatives by the output and becomes those by the input.
"""

from __future__ import annotations

import math

from skminibatch.backends.cpu.compile import called

# what is pooled
NONE, ROWS, UNITS, BOTH = 0, 1, 2, 3


@called
def sum_of(weights, first, last):
    """The weights of some rows."""
    total = 0.0
    for i in range(first, last):
        total += weights[i]
    return total


@called
def moments_of_rows(Z, weights, first, last, mean, variance):
    """Weighted mean and variance of each unit over the rows ``first`` to ``last - 1``; the sum of the squared shares."""
    total, squares = sum_of(weights, first, last), 0.0
    mean[:] = 0
    variance[:] = 0
    for i in range(first, last):
        share = Z.dtype.type(weights[i] / total)
        squares += share * share
        for j in range(Z.shape[1]):
            mean[j] += share * Z[i, j]
    for i in range(first, last):
        share = Z.dtype.type(weights[i] / total)
        for j in range(Z.shape[1]):
            away = Z[i, j] - mean[j]
            variance[j] += share * away * away
    return squares


@called
def update_running(running, mean, variance, squares, momentum):
    """See `layers.blocks.Running.update`."""
    n = mean.size
    running[0] += running.dtype.type(1)
    share = running.dtype.type(max(momentum, 1.0 / running[0]))
    correction = running.dtype.type(1.0 / (1.0 - squares))
    for j in range(n):
        running[1 + j] += share * (mean[j] - running[1 + j])
        running[1 + n + j] += share * (variance[j] * correction - running[1 + n + j])


@called
def rows_forward(Z, weights, n_groups, parameters, running, epsilon, momentum, standard, inverse, scratch, out):
    """Batch and ghost normalization of a batch in training."""
    b, n = Z.shape
    mean, variance = scratch[0], scratch[1]
    for group in range(n_groups):
        first, last = group * b // n_groups, (group + 1) * b // n_groups
        squares = moments_of_rows(Z, weights, first, last, mean, variance)
        update_running(running, mean, variance, squares, momentum)
        for j in range(n):
            inverse[group * n + j] = Z.dtype.type(1.0 / math.sqrt(variance[j] + epsilon))
        for i in range(first, last):
            for j in range(n):
                standard[i, j] = (Z[i, j] - mean[j]) * inverse[group * n + j]
                out[i, j] = parameters[j] * standard[i, j] + parameters[n + j]


@called
def rows_backward(D, weights, n_groups, parameters, standard, inverse, scratch, g):
    """The way back; `g` becomes the gradient of the parameters."""
    b, n = D.shape
    shifts, scales = scratch[0], scratch[1]
    g[:] = 0
    for group in range(n_groups):
        first, last = group * b // n_groups, (group + 1) * b // n_groups
        shifts[:] = 0
        scales[:] = 0
        for i in range(first, last):
            for j in range(n):
                shifts[j] += D[i, j]
                scales[j] += D[i, j] * standard[i, j]
        for j in range(n):
            g[j] += scales[j]
            g[n + j] += shifts[j]
        total = sum_of(weights, first, last)
        for i in range(first, last):
            share = D.dtype.type(weights[i] / total)
            for j in range(n):
                common = shifts[j] + standard[i, j] * scales[j]
                D[i, j] = parameters[j] * inverse[group * n + j] * (D[i, j] - share * common)


@called
def units_forward(Z, n_blocks, parameters, epsilon, standard, inverse, out):
    """Layer, group and instance normalization; scale and shift are those of a unit or of equal blocks of units."""
    b, n = Z.shape
    width, n_scales = n // n_blocks, parameters.size // 2
    per = n // n_scales
    for i in range(b):
        for block in range(n_blocks):
            mean = Z.dtype.type(0)
            for j in range(block * width, (block + 1) * width):
                mean += Z[i, j]
            mean /= width
            variance = Z.dtype.type(0)
            for j in range(block * width, (block + 1) * width):
                variance += (Z[i, j] - mean) * (Z[i, j] - mean)
            factor = Z.dtype.type(1.0 / math.sqrt(variance / width + epsilon))
            inverse[i * n_blocks + block] = factor
            for j in range(block * width, (block + 1) * width):
                standard[i, j] = (Z[i, j] - mean) * factor
        if per == 1:
            for j in range(n):
                out[i, j] = parameters[j] * standard[i, j] + parameters[n + j]
        else:
            for j in range(n):
                out[i, j] = parameters[j // per] * standard[i, j] + parameters[n_scales + j // per]


@called
def units_backward(D, n_blocks, parameters, standard, inverse, own, g):
    """The way back; `g` becomes the gradient of the parameters. Returns the squared norms of what each row adds to it."""
    b, n = D.shape
    width, n_scales = n // n_blocks, parameters.size // 2
    per = n // n_scales
    squares = 0.0
    g[:] = 0
    for i in range(b):
        if per == 1:
            mine = D.dtype.type(0)
            for j in range(n):
                scale = D[i, j] * standard[i, j]
                g[j] += scale
                g[n + j] += D[i, j]
                mine += scale * scale + D[i, j] * D[i, j]
                D[i, j] *= parameters[j]
            squares += mine
        else:
            own[: 2 * n_scales] = 0
            for j in range(n):
                own[j // per] += D[i, j] * standard[i, j]
                own[n_scales + j // per] += D[i, j]
                D[i, j] *= parameters[j // per]
            for k in range(2 * n_scales):
                g[k] += own[k]
                squares += own[k] * own[k]
        for block in range(n_blocks):
            shift, scale = D.dtype.type(0), D.dtype.type(0)
            for j in range(block * width, (block + 1) * width):
                shift += D[i, j]
                scale += D[i, j] * standard[i, j]
            shift /= width
            scale /= width
            for j in range(block * width, (block + 1) * width):
                D[i, j] = inverse[i * n_blocks + block] * (D[i, j] - shift - standard[i, j] * scale)
    return squares


@called
def both_forward(Z, weights, parameters, running, epsilon, momentum, standard, inverse, scratch, by_row, out):
    """Hybrid normalization in training; `by_row` (b, 2) becomes mean and variance of each row, `scratch` those of the batch."""
    b, n = Z.shape
    mean, variance = scratch[0], scratch[1]
    alpha = Z.dtype.type(1.0 / (1.0 + math.exp(-parameters[2 * n])))
    rest = Z.dtype.type(1) - alpha
    update_running(running, mean, variance, moments_of_rows(Z, weights, 0, b, mean, variance), momentum)
    for i in range(b):
        own = Z.dtype.type(0)
        for j in range(n):
            own += Z[i, j]
        own /= n
        spread = Z.dtype.type(0)
        for j in range(n):
            spread += (Z[i, j] - own) * (Z[i, j] - own)
        spread /= n
        by_row[i, 0], by_row[i, 1] = own, spread
        for j in range(n):
            factor = Z.dtype.type(1.0 / math.sqrt(alpha * variance[j] + rest * spread + epsilon))
            inverse[i * n + j] = factor
            standard[i, j] = (Z[i, j] - alpha * mean[j] - rest * own) * factor
            out[i, j] = parameters[j] * standard[i, j] + parameters[n + j]


@called
def both_backward(D, Z, weights, parameters, standard, inverse, scratch, by_row, g):
    """The way back; `scratch` starts with mean and variance of the batch. `g` becomes the gradient of the parameters."""
    b, n = D.shape
    zero, half = D.dtype.type(0), D.dtype.type(-0.5)
    mean, variance, of_mean, of_variance = scratch[0], scratch[1], scratch[2], scratch[3]
    alpha = D.dtype.type(1.0 / (1.0 + math.exp(-parameters[2 * n])))
    rest, total, of_alpha = D.dtype.type(1) - alpha, sum_of(weights, 0, b), 0.0
    g[:] = 0
    of_mean[:] = 0
    of_variance[:] = 0
    for i in range(b):
        own, spread = by_row[i, 0], by_row[i, 1]
        sum_mean, sum_variance, mine = zero, zero, zero
        for j in range(n):
            g[j] += D[i, j] * standard[i, j]
            g[n + j] += D[i, j]
            D[i, j] *= parameters[j] * inverse[i * n + j]
            by_mean, by_variance = -D[i, j], half * D[i, j] * standard[i, j] * inverse[i * n + j]
            of_mean[j] += by_mean
            of_variance[j] += by_variance
            sum_mean += by_mean
            sum_variance += by_variance
            mine += by_mean * (mean[j] - own) + by_variance * (variance[j] - spread)
        of_alpha += mine
        factor = rest / n
        for j in range(n):
            D[i, j] += factor * (sum_mean + (sum_variance + sum_variance) * (Z[i, j] - own))
    for i in range(b):
        share = alpha * D.dtype.type(weights[i] / total)
        for j in range(n):
            D[i, j] += share * (of_mean[j] + (of_variance[j] + of_variance[j]) * (Z[i, j] - mean[j]))
    g[2 * n] = of_alpha * alpha * rest
