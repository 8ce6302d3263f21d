"""The compiled loops of the normalizations: the rows of a batch pooled, the units of a row pooled, and both.

``Z`` (b, n) is normalised into ``standard`` (b, n), and scaled into ``out``; what the way back needs is in ``inverse``:
one number for each group of rows and unit, for each row and block of units, or for each row and unit. On the way back,
``D`` (b, n) holds the derivatives by the output and becomes those by the input.
"""

from __future__ import annotations

import math

from skminibatch.backends.cpu.compile import called

# Inner loops run from zero over views: an index that may be negative would wrap around, and such a loop is not vectorised.

# what is pooled
NONE, ROWS, UNITS, BOTH = 0, 1, 2, 3


@called
def sum_of(weights, first, last):
    """The sum of the weights of the rows ``first`` to ``last - 1``."""
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
        share, row = Z.dtype.type(weights[i] / total), Z[i]
        squares += share * share
        for j in range(row.size):
            mean[j] += share * row[j]
    for i in range(first, last):
        share, row = Z.dtype.type(weights[i] / total), Z[i]
        for j in range(row.size):
            away = row[j] - mean[j]
            variance[j] += share * away * away
    return squares


@called
def update_running(running, mean, variance, squares, momentum):
    """See `layers.blocks.Running.update`."""
    n = mean.size
    running[0] += running.dtype.type(1)
    share = running.dtype.type(max(momentum, 1.0 / running[0]))
    correction = running.dtype.type(1.0 / (1.0 - squares))
    means, variances = running[1 : 1 + n], running[1 + n :]
    for j in range(n):
        means[j] += share * (mean[j] - means[j])
        variances[j] += share * (variance[j] * correction - variances[j])


@called
def rows_forward(Z, weights, n_groups, parameters, running, epsilon, momentum, standard, inverse, scratch, out):
    """Batch and ghost normalization of a batch in training."""
    b, n = Z.shape
    mean, variance = scratch[0], scratch[1]
    gamma, beta = parameters[:n], parameters[n:]
    for group in range(n_groups):
        first, last = group * b // n_groups, (group + 1) * b // n_groups
        squares = moments_of_rows(Z, weights, first, last, mean, variance)
        update_running(running, mean, variance, squares, momentum)
        factors = inverse[group * n : group * n + n]
        for j in range(n):
            factors[j] = Z.dtype.type(1.0 / math.sqrt(variance[j] + epsilon))
        for i in range(first, last):
            row, z, y = Z[i], standard[i], out[i]
            for j in range(n):
                z[j] = (row[j] - mean[j]) * factors[j]
                y[j] = gamma[j] * z[j] + beta[j]


@called
def rows_backward(D, weights, n_groups, parameters, standard, inverse, scratch, g):
    """The way back; `g` becomes the gradient of the parameters."""
    b, n = D.shape
    shifts, scales = scratch[0], scratch[1]
    of_gamma, of_beta = g[:n], g[n:]
    g[:] = 0
    for group in range(n_groups):
        first, last = group * b // n_groups, (group + 1) * b // n_groups
        shifts[:] = 0
        scales[:] = 0
        for i in range(first, last):
            d, z = D[i], standard[i]
            for j in range(n):
                shifts[j] += d[j]
                scales[j] += d[j] * z[j]
        for j in range(n):
            of_gamma[j] += scales[j]
            of_beta[j] += shifts[j]
        total, factors = sum_of(weights, first, last), inverse[group * n : group * n + n]
        for i in range(first, last):
            share, d, z = D.dtype.type(weights[i] / total), D[i], standard[i]
            for j in range(n):
                d[j] = parameters[j] * factors[j] * (d[j] - share * (shifts[j] + z[j] * scales[j]))


@called
def units_forward(Z, n_blocks, parameters, epsilon, standard, inverse, out):
    """Layer, group and instance normalization; scale and shift are those of a unit or of equal blocks of units."""
    b, n = Z.shape
    width, n_scales = n // n_blocks, parameters.size // 2
    per = n // n_scales
    for i in range(b):
        for block in range(n_blocks):
            start = block * width
            row, z = Z[i, start : start + width], standard[i, start : start + width]
            total = Z.dtype.type(0)
            for j in range(width):
                total += row[j]
            mean = Z.dtype.type(total / width)
            squares = Z.dtype.type(0)
            for j in range(width):
                squares += (row[j] - mean) * (row[j] - mean)
            factor = Z.dtype.type(1.0 / math.sqrt(squares / width + epsilon))
            inverse[i * n_blocks + block] = factor
            for j in range(width):
                z[j] = (row[j] - mean) * factor
        z, y = standard[i], out[i]
        if per == 1:
            gamma, beta = parameters[:n], parameters[n:]
            for j in range(n):
                y[j] = gamma[j] * z[j] + beta[j]
        else:
            for j in range(n):
                y[j] = parameters[j // per] * z[j] + parameters[n_scales + j // per]


@called
def units_backward(D, n_blocks, parameters, standard, inverse, own, g):
    """The way back; `g` becomes the gradient of the parameters. Returns the squared norms of what each row adds to it."""
    b, n = D.shape
    width, n_scales = n // n_blocks, parameters.size // 2
    per = n // n_scales
    squares = 0.0
    g[:] = 0
    for i in range(b):
        d, z = D[i], standard[i]
        if per == 1:
            of_row, of_gamma, of_beta = D.dtype.type(0), g[:n], g[n:]
            for j in range(n):
                scale = d[j] * z[j]
                of_gamma[j] += scale
                of_beta[j] += d[j]
                of_row += scale * scale + d[j] * d[j]
                d[j] *= parameters[j]
            squares += of_row
        else:
            own[: 2 * n_scales] = 0
            for j in range(n):
                own[j // per] += d[j] * z[j]
                own[n_scales + j // per] += d[j]
                d[j] *= parameters[j // per]
            for k in range(2 * n_scales):
                g[k] += own[k]
                squares += own[k] * own[k]
        for block in range(n_blocks):
            start, factor = block * width, inverse[i * n_blocks + block]
            d, z = D[i, start : start + width], standard[i, start : start + width]
            shift, scale = D.dtype.type(0), D.dtype.type(0)
            for j in range(width):
                shift += d[j]
                scale += d[j] * z[j]
            shift, scale = D.dtype.type(shift / width), D.dtype.type(scale / width)
            for j in range(width):
                d[j] = factor * (d[j] - shift - z[j] * scale)
    return squares


@called
def both_forward(Z, weights, parameters, running, epsilon, momentum, standard, inverse, scratch, by_row, out):
    """Hybrid normalization in training; `by_row` (b, 2) becomes mean and variance of each row, `scratch` those of the batch."""
    b, n = Z.shape
    mean, variance = scratch[0], scratch[1]
    alpha = Z.dtype.type(1.0 / (1.0 + math.exp(-parameters[2 * n])))
    rest = Z.dtype.type(1) - alpha
    update_running(running, mean, variance, moments_of_rows(Z, weights, 0, b, mean, variance), momentum)
    one, least, gamma, beta = Z.dtype.type(1), Z.dtype.type(epsilon), parameters[:n], parameters[n : 2 * n]
    for i in range(b):
        row, z, y, factors = Z[i], standard[i], out[i], inverse[i * n : i * n + n]
        total = Z.dtype.type(0)
        for j in range(n):
            total += row[j]
        own, squares = Z.dtype.type(total / n), Z.dtype.type(0)
        for j in range(n):
            squares += (row[j] - own) * (row[j] - own)
        spread = Z.dtype.type(squares / n)
        by_row[i, 0], by_row[i, 1] = own, spread
        for j in range(n):
            factors[j] = one / math.sqrt(alpha * variance[j] + rest * spread + least)
            z[j] = (row[j] - alpha * mean[j] - rest * own) * factors[j]
            y[j] = gamma[j] * z[j] + beta[j]


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
    of_gamma, of_beta, factor = g[:n], g[n : 2 * n], D.dtype.type(rest / n)
    for i in range(b):
        row, d, z, factors = Z[i], D[i], standard[i], inverse[i * n : i * n + n]
        own, spread = by_row[i, 0], by_row[i, 1]
        sum_mean, sum_variance, of_row = zero, zero, zero
        for j in range(n):
            of_gamma[j] += d[j] * z[j]
            of_beta[j] += d[j]
            d[j] *= parameters[j] * factors[j]
            by_mean, by_variance = -d[j], half * d[j] * z[j] * factors[j]
            of_mean[j] += by_mean
            of_variance[j] += by_variance
            sum_mean += by_mean
            sum_variance += by_variance
            of_row += by_mean * (mean[j] - own) + by_variance * (variance[j] - spread)
        of_alpha += of_row
        for j in range(n):
            d[j] += factor * (sum_mean + (sum_variance + sum_variance) * (row[j] - own))
    for i in range(b):
        share, row, d = alpha * D.dtype.type(weights[i] / total), Z[i], D[i]
        for j in range(n):
            d[j] += share * (of_mean[j] + (of_variance[j] + of_variance[j]) * (row[j] - mean[j]))
    g[2 * n] = of_alpha * alpha * rest
