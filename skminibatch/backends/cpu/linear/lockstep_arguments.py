"""What the kernel of several models is given and what it writes to, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skminibatch.backends.cpu.linear.dense_arguments import LINE, side_by_side
from skminibatch.backends.cpu.linear.operations import (
    BLOCK,
    CAPACITY,
    COEFFICIENTS,
    N_COEFFICIENTS,
    N_FEATURES,
    N_OUTPUTS,
    N_PLACES,
    N_STEPS,
    N_TARGETS,
    PARAMS,
    POINT,
    ROWS,
    SCALE,
    STRETCH,
    TARGETS,
    WIDTH,
    dense_steps,
    residuals,
)
from skminibatch.backends.cpu.rows import BURST, GROUP, N_WAY, RING
from skminibatch.contract.arrays import readonly
from skminibatch.contract.plan import Plan
from skminibatch.contract.task import LinearTask


class Members(NamedTuple):
    """The M models, by addresses: 0 where there is nothing.

    ``first[m]`` is where the steps of a model begin in the arrays of all steps; ``ends`` are the positions at which they end.
    """

    places: np.ndarray
    loss: np.ndarray
    step: np.ndarray
    look: np.ndarray
    first: np.ndarray
    ends: np.ndarray
    weights: np.ndarray
    plan_weights: np.ndarray
    tables: np.ndarray
    clip_norms: np.ndarray


class WorkSpace(NamedTuple):
    """What the kernel writes to; `point` and `gradient` have K rows for each model, of full cache lines, and so has `raw`.

    ``read`` is where rows are read: X, or the tile. ``whole`` are the first and the last position.
    """

    point: np.ndarray
    gradient: np.ndarray
    raw: np.ndarray
    own: np.ndarray
    sums: np.ndarray
    weights: np.ndarray
    square_lengths: np.ndarray
    rows: np.ndarray
    tile: np.ndarray
    cursor: np.ndarray
    ring: np.ndarray
    burst: np.ndarray
    way: np.ndarray
    steps: np.ndarray
    read: np.ndarray
    whole: np.ndarray
    losses: np.ndarray
    square_norms: np.ndarray
    row_squares: np.ndarray

    @classmethod
    def of(cls, tasks: Sequence[LinearTask], n_steps: int, n_rows: int, in_tile: bool) -> WorkSpace:
        """For models of one shape, with that many steps in all."""
        (_, K, width), dtype, M = tasks[0].params.shape, tasks[0].params.dtype, len(tasks)
        full, d = full_width(width, dtype), width - 1
        *arrays, block, rows, tile, cursor, ring, burst, way, steps = side_by_side(
            (dtype, (M * K, full)),
            (dtype, (M * K, full)),
            (dtype, (M * K, GROUP)),
            (dtype, (GROUP, K)),
            (np.float64, (M, 2)),
            (np.float64, (2 * GROUP + max(K, GROUP),)),
            (np.int64, (2, GROUP)),
            (dtype, (GROUP if in_tile else 0, full)),
            (np.int64, (8,)),
            (np.int64, (RING,)),
            (np.uint64, (2, BURST)),
            (np.int64, (N_WAY,)),
            (np.int64, (M,)),
        )
        read = readonly(tile[:, :d]) if in_tile else tasks[0].X
        stats = np.zeros(n_steps), np.full(n_steps, np.nan), np.zeros(n_steps)
        whole = np.array([0, n_rows])
        columns = block[:GROUP], block[GROUP : 2 * GROUP]
        return cls(*arrays, *columns, rows, tile, cursor, ring, burst, way, steps, readonly(read), whole, *stats)


class Ensemble(NamedTuple):
    """The members, what they write to, and all arrays whose addresses they hold."""

    members: Members
    space: WorkSpace
    params: list[np.ndarray]
    kept: list[Any]

    @classmethod
    def of(cls, tasks: Sequence[LinearTask], plans: Sequence[Plan], scale: np.ndarray, in_tile: bool) -> Ensemble:
        """Of tasks on the same rows and plans with the same order of them."""
        M, ends = len(tasks), [plan.offsets[1:] for plan in plans]
        first = np.concatenate([[0], np.cumsum([len(each) for each in ends])])
        space = WorkSpace.of(tasks, int(first[-1]), int(ends[0][-1]), in_tile)
        full, dtype = space.point.shape[1], space.point.dtype
        params, kept = [], []
        addresses = {name: np.zeros((M, 2), np.int64) for name in ("loss", "step", "look")}
        places, of_rows = np.zeros((M, N_PLACES), np.int64), np.zeros((3, M), np.int64)
        for m, (task, plan) in enumerate(zip(tasks, plans, strict=True)):
            slots, K, width = task.params.shape
            own = np.zeros((slots, K, full), dtype)
            own[..., :width] = task.params
            coefficients = np.ascontiguousarray(plan.coefficients, np.float64)
            y = np.ascontiguousarray(task.y).reshape(-1)
            stretch = np.empty(0, dtype)
            if scale.size:
                stretch = np.ascontiguousarray(task.coordinates.stretch, dtype)
            loss = residuals(task.loss, own, y)
            step, look = dense_steps(task.optimizer, task.penalty, dtype, scale.size > 0)
            addresses["loss"][m], addresses["step"][m] = loss.addresses, step.addresses
            addresses["look"][m] = look.addresses
            row = places[m]
            row[[TARGETS, N_TARGETS]] = y.ctypes.data, y.size // len(task.y)
            row[[ROWS, BLOCK, CAPACITY]] = space.rows[1].ctypes.data, space.weights.ctypes.data, GROUP
            row[[N_OUTPUTS, N_FEATURES, WIDTH]] = K, width - 1, full
            row[[PARAMS, POINT]] = own.ctypes.data, space.point[m * K].ctypes.data
            row[[COEFFICIENTS, N_COEFFICIENTS]] = coefficients.ctypes.data, coefficients.shape[1]
            row[[N_STEPS, SCALE, STRETCH]] = plan.n_steps, scale.ctypes.data, stretch.ctypes.data
            of_row = [task.weights, plan.weights, task.table]
            of_rows[:, m] = [0 if each is None or not each.size else each.ctypes.data for each in of_row]
            params.append(own)
            kept += [coefficients, y, stretch, loss, step, look, of_row]
        clip_norms = np.array([float(plan.clip_norm) for plan in plans])
        members = Members(places, *addresses.values(), first, np.concatenate(ends), *of_rows, clip_norms)
        return cls(members, space, params, kept)


def full_width(width: int, dtype: np.dtype) -> int:
    """Numbers of a row of full cache lines that has `width` of them."""
    line = LINE // dtype.itemsize
    return -(-width // line) * line
