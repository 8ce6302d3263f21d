"""A stack of layers and the parts that train it, as the kernel of networks takes them: arrays of counts and addresses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.backends.cpu.crew import JOB, PLACES, n_pieces
from skminibatch.backends.cpu.network import operations
from skminibatch.backends.cpu.network.normalization import BOTH, ROWS, UNITS
from skminibatch.backends.cpu.rows import BURST, N_WAY
from skminibatch.contract.verbs import identity
from skminibatch.layers import pooling
from skminibatch.layers.dropout import threshold

# the columns that say what a layer is like; the first one is the normalization of the input, which has no weights
N_IN, N_OUT, WEIGHTS, INTERCEPT, SCALE, N_SCALE, RUNNING, POOLED, GROUPS, DROPPED, BEHIND = range(11)
EPSILON, MOMENTUM, KEPT = range(3)
ACTIVATE, SLOPE = 0, 2  # the columns of addresses, each before that of its numbers
OVER = {pooling.ROWS: ROWS, pooling.UNITS: UNITS, pooling.BOTH: BOTH}


class Network(NamedTuple):
    """A stack and the parts that train it, as the kernel takes them; `operations` keeps what the addresses belong to."""

    counts: np.ndarray
    numbers: np.ndarray
    addresses: np.ndarray
    common: np.ndarray
    segments: np.ndarray
    rates: np.ndarray
    operations: tuple

    @classmethod
    def of(cls, stack, loss, penalty, optimizer, dtype) -> Network:
        """From the parts, once for each stack."""
        key = dtype, *(identity(part) for part in (loss, penalty, optimizer))
        if key not in stack.prepared:
            stack.prepared[key] = cls._made(stack, loss, penalty, optimizer, dtype)
        return stack.prepared[key]

    @classmethod
    def _made(cls, stack, loss, penalty, optimizer, dtype) -> Network:
        n_layers = 1 + len(stack.layers)
        counts, numbers = np.zeros((n_layers, 11), np.int64), np.zeros((n_layers, 3))
        counts[:, INTERCEPT], counts[0, WEIGHTS] = -1, -1
        counts[0, N_IN] = counts[0, N_OUT] = stack.layers[0].n_in
        addresses, kept, behind = np.zeros((n_layers, 4), np.int64), [], 0
        for level, (pooled, place) in enumerate(zip(stack.poolings, stack.places, strict=True)):
            if level:
                layer = stack.layers[level - 1]
                counts[level, :3] = layer.n_in, layer.n_out, place.weights.start
                counts[level, INTERCEPT] = place.intercept.start if layer.has_intercept else -1
                counts[level, DROPPED] = threshold(layer.dropout)
                numbers[level, KEPT] = 1.0 / (1.0 - layer.dropout)
                functions = operations.activation(layer.activation, dtype)
                addresses[level] = functions[0].addresses + functions[1].addresses
                kept += functions
            if pooled is not None:
                scales, over = place.normalization, OVER[pooled.over]
                counts[level, SCALE : RUNNING + 1] = scales.start, scales.stop - scales.start, place.running.start
                counts[level, POOLED : GROUPS + 1] = over, pooled.n_blocks if over == UNITS else pooled.size
                numbers[level, :KEPT] = pooled.epsilon, pooled.momentum
            counts[level, BEHIND] = behind
            behind += counts[level, N_OUT] * (level > 0 or pooled is not None)
        update, point = operations.optimizer(optimizer, penalty, dtype)
        residuals = operations.residuals(loss, dtype)
        common = np.array([*update.addresses, *residuals.addresses, *(point.addresses if point else (0, 0))])
        return cls(counts, numbers, addresses, common, *stack.segments, (*kept, update, point, residuals))


def most_pieces(stack, b: int) -> int:
    """The largest number of pieces of a product of a batch of this size."""
    return max(n_pieces(max(b, layer.n_in), b * layer.n_in * layer.n_out) for layer in stack.layers)


class WorkSpace(NamedTuple):
    """What the kernel writes to. Those of layers have as many numbers as a batch has in each, one layer behind the other.

    ``before``, ``standard``, ``scaled``, ``after`` and ``dropped`` are what comes out of the products, of a normalization
    before and after it is scaled, of the activation and of dropout; ``kept`` is the mask and ``inverse`` one over deviations.
    """

    inputs: np.ndarray
    before: np.ndarray
    standard: np.ndarray
    inverse: np.ndarray
    scaled: np.ndarray
    after: np.ndarray
    kept: np.ndarray
    dropped: np.ndarray
    later: np.ndarray
    earlier: np.ndarray
    moments: np.ndarray
    by_row: np.ndarray
    point: np.ndarray
    gradient: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray
    burst: np.ndarray
    way: np.ndarray
    out: np.ndarray
    own: np.ndarray
    marks: np.ndarray
    crew: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, stack, longest: int, y, dtype, n_threads: int, *, is_sparse: bool, lazy: bool) -> WorkSpace:
        """For batches of at most `longest` rows; what a stack does not need is small."""
        n_features, widths = stack.layers[0].n_in, [layer.n_out for layer in stack.layers]
        total = longest * (n_features * (stack.entry is not None) + sum(widths))
        widest = max([n_features * (stack.entry is not None), *widths])
        normalized = total * any(part is not None for part in stack.normalizations)
        dropped = total * any(layer.dropout for layer in stack.layers)

        def numbers(size: int) -> np.ndarray:
            return np.empty(max(size, 1), dtype)

        return cls(
            numbers(longest * n_features * (not is_sparse)),
            numbers(total),
            *(numbers(normalized) for _ in range(3)),
            numbers(total),
            *(numbers(dropped) for _ in range(2)),
            *(numbers(longest * widest) for _ in range(2)),
            numbers(4 * normalized // longest),
            np.empty((1 + len(widths), longest if normalized else 1, 2), dtype),
            numbers(stack.n_parameters),
            np.zeros(stack.n_parameters, dtype),
            np.empty((longest, 1 if y.ndim == 1 else y.shape[1]), dtype),
            np.empty(longest),
            np.empty(longest),
            np.empty(longest + BURST, np.int64),
            np.empty((2, BURST), np.uint64),
            np.empty(N_WAY, np.int64),
            np.empty(widths[-1] + 1),
            numbers(2 * widest * (normalized > 0)),
            np.zeros(2 * n_features if lazy else 0, np.int64),
            (np.zeros(PLACES, np.int64), np.append(np.zeros(JOB - 1, np.int64), n_threads)),
        )
