"""Linear chunks on the GPU: one launch carries out all steps of a plan."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from skminibatch.backends import base
from skminibatch.backends.arrays import is_sparse
from skminibatch.backends.gpu import device
from skminibatch.backends.gpu.compile import NOTHING, kernel_of, launch, or_nothing, source_of
from skminibatch.backends.gpu.source import _layout, numbers, order_numbers, sparse_types, structs
from skminibatch.contract.orders import rows_of
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.task import LinearTask

THREADS, WARP = 512, 32
# What a thread of a narrow model holds, in words of 4 bytes, of its 128 registers in a block of THREADS.
REGISTERS, MOST_OF_OUTPUTS, MOST_COLUMNS, OF_ROWS = 88, 72, 16, 32
MOST_ROWS = 8  # at once
N_SUMS = 2  # see chunk.cu
SUMS_BYTES = 32 * 1024  # of shared memory, in which the sums of the warps meet
# Several blocks have to wait for each other in every step, so that one alone is faster while the work on a batch is at most
# ALONE: the work on a row is ROW_WORK and, for each feature, half the number of outputs plus one.
ALONE, ROW_WORK = 60_000, 64
BLOCK_BYTES = 32 * 1024  # of a batch for each block, where they work on different coordinates
MOST_OUTPUTS = 4  # that a warp computes at once
FEATURES = 8  # sparse ones that a thread updates in a step
NO_EXPONENT = -2000
LOSS_ROWS, BLOCKS_OF_LOSSES = 4, 2  # rows of a warp at once; blocks of a multiprocessor


class Chunk(NamedTuple):
    """A plan and the `LinearTask` that it is for, on the device, of the types that the kernels read."""

    parts: tuple
    X: object
    y: object
    weights: object
    plan: object
    axes: tuple
    fit_intercept: bool
    params: object
    table: object
    subset: object

    @classmethod
    def of(cls, task: LinearTask, plan: Plan, subset=None) -> Chunk:
        """From a task; what is on the device already stays where it is, such as the subset of the order where it is given."""
        asarray, dtype = device.cupy().asarray, task.params.dtype
        axes = (NOTHING,) * 3
        if task.coordinates is not None:
            axes = tuple(asarray(axis, dtype) for axis in task.coordinates)
        X = tuple(map(asarray, _csr(task.X))) if is_sparse(task.X) else asarray(task.X, dtype, order="C")
        y, weights, params = asarray(task.y, dtype, order="C"), asarray(task.weights), asarray(task.params)
        subset = asarray(plan.rows.subset if subset is None else subset)
        return cls(task.parts, X, y, weights, plan, axes, bool(task.fit_intercept), params, task.table, subset)

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and features."""
        return self.params.shape[1], self.params.shape[2] - 1

    @property
    def n_targets(self) -> int:
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    @property
    def largest(self) -> int:
        """Rows of the largest batch."""
        return int(self.plan.sizes.max())


def run_dense(task: LinearTask, plan: Plan, subset=None) -> StepStats:
    """Carry out a plan on dense rows; a table is on the device, and so is the subset of the order that is given."""
    chunk = Chunk.of(task, plan, subset)
    results = _narrow(chunk) if is_narrow(chunk.params.dtype, *chunk.shape) else _wide(chunk)
    return base.measured_in_part(_finished(results, chunk, task.params), plan, task.table)


def run_csr(task: LinearTask, plan: Plan, subset=None) -> StepStats:
    """Carry out a plan on sparse rows; a table is on the device, and so is the subset of the order that is given."""
    lazy = base.is_lazy(task.optimizer, task.penalty)
    chunk = Chunk.of(task, plan, subset)
    stats = _finished(_sparse(chunk, lazy), chunk, task.params)
    return stats if lazy else base.measured_at_end(stats, plan, task.table)


def loss_dense(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some rows."""
    return _sum_of_losses(loss, (X,), X.dtype, {}, "", y, weights, rows, coef, intercept)


def loss_csr(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some sparse rows."""
    values, columns, starts = _csr(X)
    types, arrays = sparse_types(values.dtype, columns.dtype), (values, columns, starts)
    return _sum_of_losses(loss, arrays, np.dtype(np.float64), {"SPARSE": 1}, types, y, weights, rows, coef, intercept)


def _sum_of_losses(loss, X, dtype, constants, types, y, weights, rows, coef, intercept) -> float:
    """One launch, and the sums of the blocks on the host; the parameters as numbers of the type of dense rows."""
    cupy, (n_outputs, d) = device.cupy(), coef.shape
    n = len(rows) if rows.size else len(y)
    n_blocks = min(BLOCKS_OF_LOSSES * _multiprocessors(), -(-n // (LOSS_ROWS * _warps())))
    constants = {"OUTPUTS": _at_once(n_outputs), **constants}
    source = _written({"Loss": loss}, dtype, constants, types, ("rows.cu", "sums.cu", "linear/sum_of_losses.cu"))
    y, coef, intercept = (cupy.asarray(array, dtype, order="C") for array in (y, coef, intercept))
    sums = cupy.empty(n_blocks)
    arguments = (
        *map(cupy.asarray, X), y, or_nothing(cupy.asarray(weights)), or_nothing(cupy.asarray(rows)), np.int64(n),
        cupy.asarray(numbers(loss)), coef, intercept, cupy.empty(n_blocks * _warps() * 2 * LOSS_ROWS * n_outputs, dtype),
        sums, *map(np.int32, (d, n_outputs, 1 if y.ndim == 1 else y.shape[1])),
    )  # fmt: skip
    launch(kernel_of(source, "sum_losses"), n_blocks, THREADS, arguments, 8 * _warps())
    return float(cupy.asnumpy(sums).sum())


def is_narrow(dtype, n_outputs: int, n_features: int) -> bool:
    """Whether the threads of a warp hold a few rows and the sums of their gradients in registers."""
    columns = -(-n_features // WARP)
    return _words(dtype) * columns <= MOST_COLUMNS and _of_outputs(dtype, n_outputs, columns) <= MOST_OF_OUTPUTS


def n_narrow_blocks(size: int, n_outputs: int, n_features: int) -> int:
    """As many blocks as pay for it: each reads its part of the batch, and what every block has to tell of the gradient."""
    row_work = ROW_WORK + -(-n_features // WARP) * WARP * (1 + n_outputs) // 2
    if size * row_work <= ALONE:
        return 1
    return min(_multiprocessors(), max(1, math.isqrt(size * n_features // (n_outputs * (n_features + 1)))))


def n_wide_blocks(size: int, itemsize: int, n_outputs: int, n_features: int) -> int:
    """The number of blocks that each have enough of a batch to read; a batch is read once for a group of outputs."""
    n_bytes = size * n_features * itemsize * -(-n_outputs // MOST_OUTPUTS)
    return min(_multiprocessors(), -(-n_bytes // BLOCK_BYTES))


def n_sparse_blocks(size: int, n_features: int) -> int:
    """As many blocks as give each row a warp, and as keep the features of a thread few."""
    return min(_multiprocessors(), max(-(-size // _warps()), -(-n_features // (FEATURES * THREADS))))


def _narrow(chunk: Chunk):
    """Start the kernel; the parameters and statistics on the device."""
    cupy, dtype, (n_outputs, d) = device.cupy(), chunk.params.dtype, chunk.shape
    n_blocks = n_narrow_blocks(chunk.largest, n_outputs, d)
    columns, width = -(-d // WARP), n_outputs * (d + 1)
    left = min(OF_ROWS, REGISTERS - _of_outputs(dtype, n_outputs, columns)) // (columns * _words(dtype))
    rows = min(MOST_ROWS, 1 << left.bit_length() - 1)
    at_once = min(n_outputs, max(1, SUMS_BYTES // (_warps() * (d + 1) * dtype.itemsize)))
    doubles = N_SUMS * _warps() + 2 * N_SUMS + THREADS
    own = (len(chunk.params) + 2) * width + _warps() * at_once * (d + 1) + (n_outputs + 2) * columns * WARP + n_outputs
    constants = {"OUTPUTS": n_outputs, "TARGETS": chunk.n_targets, "COLUMNS": columns, "ROWS": rows}
    params, stats = chunk.params.copy(), _empty_stats(chunk.plan)
    arguments = (
        params, stats, cupy.empty(2 * n_blocks * width, dtype), cupy.empty(2 * n_blocks * N_SUMS),
        cupy.zeros(1, np.uint32), *map(np.int32, (d, chunk.fit_intercept, at_once)),
    )  # fmt: skip
    kernel = kernel_of(_source(chunk, constants, "linear/narrow.cu"), "run_narrow")
    _start(kernel, chunk, n_blocks, arguments, 8 * doubles + dtype.itemsize * own)
    return params, stats


def _wide(chunk: Chunk):
    """Start the kernel; the parameters and statistics on the device."""
    cupy, dtype, (n_outputs, d) = device.cupy(), chunk.params.dtype, chunk.shape
    n_blocks = n_wide_blocks(chunk.largest, dtype.itemsize, n_outputs, d)
    width, size = n_outputs * (d + 1), chunk.largest
    states, stats = cupy.empty((2, *chunk.params.shape), dtype), _empty_stats(chunk.plan)
    states[0] = chunk.params
    arguments = (
        states, stats, cupy.empty(width, dtype), cupy.empty(width, dtype), cupy.empty(size, np.int64),
        cupy.empty(size * n_outputs, dtype), cupy.empty(size * n_outputs, dtype), cupy.empty(n_blocks * (N_SUMS + 1)),
        cupy.zeros(1, np.uint32), *map(np.int32, (d, n_outputs, chunk.n_targets, chunk.fit_intercept)),
    )  # fmt: skip
    kernel = kernel_of(_source(chunk, {"OUTPUTS": _at_once(n_outputs)}, "linear/wide.cu"), "run_wide")
    _start(kernel, chunk, n_blocks, arguments, 8 * (N_SUMS * _warps() + N_SUMS + MOST_OUTPUTS * THREADS))
    return states[0], stats


def _sparse(chunk: Chunk, lazy: bool):
    """Start the kernels; the parameters and statistics on the device."""
    cupy, dtype, (n_outputs, d), (values, columns, starts) = device.cupy(), chunk.params.dtype, chunk.shape, chunk.X
    n_blocks, width, size = n_sparse_blocks(chunk.largest, d), n_outputs * (d + 1), chunk.largest
    source = _source(
        chunk,
        {"LAZY": int(lazy), "OUTPUTS": _at_once(n_outputs)},
        "linear/sparse.cu",
        types=sparse_types(values.dtype, columns.dtype),
    )
    _, scale, stretch = chunk.axes
    exponents = cupy.full(d, NO_EXPONENT, np.int32)
    spread = min(4 * _multiprocessors(), -(-max(1, values.size) // THREADS))
    arguments = values, columns, np.int64(values.size), scale, exponents
    launch(kernel_of(source, "find_exponents"), spread, THREADS, arguments)
    states, stats = cupy.empty((2, *chunk.params.shape), dtype), _empty_stats(chunk.plan)
    states[0] = chunk.params
    arguments = (
        values, columns, starts, chunk.y, *map(or_nothing, (chunk.weights, chunk.table)), scale, stretch, *_packed(chunk),
        exponents, states, stats, cupy.empty(width, dtype), cupy.empty(width, dtype),
        cupy.empty(size * n_outputs, dtype), cupy.empty(size * n_outputs, dtype), cupy.zeros(2 * width, np.uint64),
        cupy.zeros(d, np.int32), cupy.empty(n_blocks * (N_SUMS + 2)), cupy.zeros(1, np.uint32),
        *map(np.int32, (d, n_outputs, chunk.n_targets, chunk.fit_intercept)),
    )  # fmt: skip
    shared_bytes = 8 * (N_SUMS + 1) * (_warps() + 1)
    launch(kernel_of(source, "run_sparse"), n_blocks, THREADS, arguments, shared_bytes, together=n_blocks > 1)
    return states[0], stats


def _start(kernel, chunk: Chunk, n_blocks: int, arguments: tuple, shared_bytes: int) -> None:
    arguments = (
        chunk.X, chunk.y, *map(or_nothing, (chunk.weights, chunk.table)), *chunk.axes, *_packed(chunk), *arguments
    )  # fmt: skip
    launch(kernel, n_blocks, THREADS, arguments, shared_bytes, together=n_blocks > 1)


def _source(chunk: Chunk, constants: dict[str, int], name: str, types: str = "") -> str:
    parts = dict(zip(("Loss", "Penalty", "Optimizer"), chunk.parts, strict=True))
    constants = {"TABLE": int(chunk.table is not None), **constants}
    return _written(parts, chunk.params.dtype, constants, types, ("rows.cu", "sums.cu", "linear/chunk.cu", name))


def _written(parts: dict, dtype, constants: dict[str, int], types: str, files: tuple[str, ...]) -> str:
    """A source, kept for the types of the parts: to write it takes longer than to carry out some chunks."""
    constants = {"THREADS": THREADS, **constants}
    layouts = [(name, _layout(part)) for name, part in parts.items()]
    key = (*layouts, np.dtype(dtype), *constants.items(), types, files)
    if key not in _sources:
        _sources[key] = source_of(constants, types + structs(parts, dtype), *files)
    return _sources[key]


_sources: dict[tuple, str] = {}


def _csr(X) -> tuple:
    return X.data, X.indices, X.indptr


def _packed(chunk: Chunk) -> tuple:
    """A plan and the numbers of the parts in one array of words of 8 bytes: `Layout` of chunk.cu, then the arrays.

    The subset of its order is an array of its own.
    """
    plan, order, weights = chunk.plan, chunk.plan.rows, chunk.plan.weights
    arrays = [plan.offsets, plan.coefficients, np.empty(0) if weights is None else weights]
    arrays += [_visits(plan) if chunk.table is not None else np.empty(0), order.explicit, numbers(*chunk.parts)]
    words = [np.ascontiguousarray(one).reshape(-1).view(np.int64) for one in arrays]
    limits = np.array([plan.clip_norm], np.float64).view(np.int64)
    layout = order_numbers(order)
    head, lengths = 1 + len(words) + len(limits) + len(layout), np.array([len(one) for one in words])
    places = np.where(lengths > 0, head + np.cumsum(lengths) - lengths, 0)  # zero: it is empty
    packed = np.concatenate([[plan.n_steps], places, limits, layout, *words])
    return device.cupy().asarray(packed), or_nothing(chunk.subset)


def _visits(plan) -> np.ndarray:
    """How often the row at each position comes in its batch, at the first of its positions there; zero at the others.

    Empty where the order names no row twice.
    """
    named = plan.rows.explicit if plan.rows.explicit.size else plan.rows.subset
    if not plan.rows.may_repeat or (plan.rows.copies == 1 and np.bincount(named).max() == 1):
        return np.empty(0, np.int64)
    rows = rows_of(plan.rows, 0, plan.offsets[-1])
    batches = np.repeat(np.arange(plan.n_steps), plan.sizes)
    _, firsts, counts = np.unique(batches * (rows.max() + 1) + rows, return_index=True, return_counts=True)
    visits = np.zeros(len(rows), np.int64)
    visits[firsts] = counts
    return visits


def _empty_stats(plan):
    return device.cupy().empty(3 * plan.n_steps + 1)


def _finished(results, chunk: Chunk, params) -> StepStats:
    """Wait for a chunk: its parameters into `params`, and its statistics."""
    cupy, (updated, stats) = device.cupy(), results
    params[...] = updated if isinstance(params, cupy.ndarray) else cupy.asnumpy(updated)
    stats = cupy.asnumpy(stats)
    failed = int(stats[-1])
    losses, square_norms, row_squares = stats[:-1].reshape(3, -1)
    if chunk.table is not None:
        square_norms[:] = np.nan
    if failed >= 0:  # the steps behind were not carried out
        for numbers_of_steps, nothing in ((losses, 0), (square_norms, np.nan), (row_squares, 0)):
            numbers_of_steps[failed + 1 :] = nothing
    return StepStats(losses, square_norms, row_squares, failed)


def _multiprocessors() -> int:
    cupy = device.cupy()
    return _count(cupy, cupy.cuda.Device().id)


@cache
def _count(cupy, number: int) -> int:
    """Multiprocessors of a device, which it takes long to be asked for."""
    return cupy.cuda.Device(number).attributes["MultiProcessorCount"]


def _at_once(n_outputs: int) -> int:
    """One, two or four."""
    return min(MOST_OUTPUTS, 1 << (n_outputs - 1).bit_length())


def _of_outputs(dtype, n_outputs: int, columns: int) -> int:
    """Words for sums, raw outputs, residuals and targets."""
    return _words(dtype) * n_outputs * (columns + 3)


def _words(dtype) -> int:
    return np.dtype(dtype).itemsize // 4


def _warps() -> int:
    return THREADS // WARP
