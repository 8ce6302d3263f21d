"""The GPU backend: the verbs of ``base`` on the device, each one launch where there is a kernel. CuPy is imported when needed.

The rows of a fit, see `placement`, are used on the device. Rows on the host are copied there to carry out a plan, while the
losses of a few of them are computed on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, partial
from importlib.util import find_spec

import numpy as np

from skminibatch.backends import base, cpu
from skminibatch.backends.arrays import is_sparse, on_host
from skminibatch.backends.gpu.device import cupy
from skminibatch.backends.gpu.linear import run as linear
from skminibatch.backends.gpu.linear import streamed
from skminibatch.backends.gpu.losses import LossOfRows
from skminibatch.backends.gpu.network import run as network
from skminibatch.backends.gpu.placement import Rows, rows_on_device, working
from skminibatch.backends.gpu.predictions import network_outputs, raw_outputs
from skminibatch.backends.gpu.source import has_cuda
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.plan import LockstepPlan, Plan, StepStats
from skminibatch.contract.task import LinearTask, NetworkTask

__all__ = ["network_outputs", "raw_outputs"]

AT_ONCE = 1 << 16  # rows, where what is computed of them takes as much memory as they do


def run_dense(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan on dense rows."""
    return _run_linear(linear.run_dense if _compiled(task.parts) else _by_formulas(base.run_dense), task, plan)


def run_csr(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan on sparse rows."""
    return _run_linear(linear.run_csr if _compiled(task.parts) else _by_formulas(base.run_csr), task, plan)


def _run_linear(run: Callable[..., StepStats], task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan by ``run(task, plan, subset)``."""
    with _on_device(task.X) as rows, working():
        table = task.table
        if table is not None:
            if rows.array is None:
                raise MemoryError("solver='saga' reads rows over and over: they have to fit on the GPU.")
            table = rows.to_device_and_back(table)
        return _carried_out(run, rows, task._replace(coordinates=_moved(task.coordinates), table=table), plan)


def run_dual(task: LinearTask, plan: Plan) -> StepStats:
    """Refused: one row after another is no work for a GPU."""
    raise ValueError(
        "solver='sdca' takes one row after another, which is for a CPU: use device='cpu', or solver='saga'."
    )


def run_lockstep(tasks: Sequence[LinearTask], plan: LockstepPlan) -> list[StepStats]:
    """Carry out the plans of several linear models on the same rows, one model after another."""
    run = run_csr if is_sparse(tasks[0].X) else run_dense
    return [run(task, own) for task, own in zip(tasks, plan.plans, strict=True)]


def run_mlp(task: NetworkTask, plan: Plan) -> StepStats:
    """Carry out a plan on a network."""
    stack = task.stack

    def run(task, plan, subset):
        if not network.has_kernels(stack, *task.parts, task.X):
            return _by_formulas(base.run_mlp)(task, plan, subset)
        stats = network.run_mlp(task, plan, subset)
        rows.at_end[id(stack)] = partial(network.forget, stack)
        return stats

    with _on_device(task.X) as rows, working():
        return _carried_out(run, rows, task, plan)


def loss_dense(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some rows."""
    if not _is_on_device(X):
        return _host().loss_dense(loss, _on_host(X), y, weights, rows, coef, intercept)
    with working():
        arrays = X.array, *map(X.to_device, (y, weights, rows)), *map(cupy().asarray, (coef, intercept))
        if _compiled([loss]):
            return linear.loss_dense(loss, *arrays)
        return base.loss_dense(LossOfRows(loss), *arrays)


def loss_csr(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some sparse rows."""
    if not _is_on_device(X):
        return _host().loss_csr(loss, _on_host(X), y, weights, rows, coef, intercept)
    with working():
        arrays = X.array, *map(X.to_device, (y, weights, rows)), *map(cupy().asarray, (coef, intercept))
        if _compiled([loss]):
            return linear.loss_csr(loss, *arrays)
        return base.loss_csr(LossOfRows(loss), *arrays)


def residuals(loss, raw, y, weights):
    """Weighted derivatives of the losses of some rows by their raw outputs (n, K)."""
    return _host().residuals(loss, raw, y, weights)


def sum_of_losses(loss, raw, y, weights):
    """Weighted sum of the losses of some rows, by their raw outputs (n, K)."""
    return _host().sum_of_losses(loss, raw, y, weights)


def follow_csr(loss, X, y, weights, rows, state, terms):
    """Diagonal Newton steps take one row after another, which is for a CPU."""
    return _host().follow_csr(loss, _on_host(X), y, weights, rows, state, terms)


def coefficients_followed(state, terms, features, coef):
    """Write the coefficients (K, d) that belong to the state of `follow_csr`, of some features; the penalty of these."""
    return _host().coefficients_followed(state, terms, features, coef)


def gradient_dense(task: LinearTask):
    """The sums of the gradients of all rows, their squared lengths, and the sum of the losses; residuals to the table."""
    X, table = task.X, task.table
    if not _is_on_device(X):
        return _host().gradient_dense(task._replace(X=_on_host(X)))
    sums, lengths, loss = np.zeros(task.params[0].shape), np.empty(len(table)), 0.0
    X.forget(table)
    with working():
        y, weights = X.to_device(task.y), cupy().asarray(task.weights)
        task = task._replace(
            loss=LossOfRows(task.loss),
            coordinates=_moved(task.coordinates),
            params=cupy().asarray(task.params[:1]),
        )
        for start in range(0, len(table), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            arrays = {"X": X.array[rows], "y": y[rows], "weights": weights[rows] if weights.size else weights}
            part = task._replace(**arrays, table=cupy().empty((len(y[rows]), table.shape[1]), table.dtype))
            sums_of_part, lengths_of_part, loss_of_part = base.gradient_dense(part)
            table[rows, 1:] = part.table[:, 1:].get()
            sums += sums_of_part.get()
            lengths[rows] = lengths_of_part.get()
            loss += loss_of_part
    return sums, lengths, loss


def gradients_dense(tasks: Sequence[LinearTask]) -> list[tuple]:
    """What `gradient_dense` gives for each of several models of the same rows, one model after another."""
    return [gradient_dense(task) for task in tasks]


def _carried_out(run: Callable[..., StepStats], rows: Rows, task: LinearTask | NetworkTask, plan: Plan) -> StepStats:
    """Carry out a plan by ``run(task, plan, subset)`` on the device; the params come back in place.

    The subset of an order stays as it is for a fit, and is as long as the data may be: it is on the device as y is.
    """
    params = cupy().asarray(task.params)

    def step(X, y, weights, plan, subset=None):
        stats = run(task._replace(X=X, y=y, weights=weights, params=params), plan, subset)
        return StepStats(*map(on_host, stats[:3]), int(stats.failed))

    if rows.array is not None:
        subset = rows.to_device(plan.rows.subset) if plan.rows.subset.size else None
        stats = step(rows.array, rows.to_device(task.y), rows.to_device(task.weights), plan, subset)
    else:
        stats = streamed.run(step, rows, task.y, task.weights, plan)
    task.params[...] = params.get()
    return stats


def _by_formulas(verb: Callable[..., StepStats]) -> Callable[..., StepStats]:
    """``run(task, plan, subset)`` by a verb of ``base`` on the device."""
    return lambda task, plan, subset: verb(task._replace(loss=LossOfRows(task.loss)), plan)


def _compiled(parts) -> bool:
    """Whether all parts have CUDA bodies, so that a kernel runs them."""
    return all(map(has_cuda, parts))


def _on_device(X):
    """A context with rows on the device, which those of a fit are already."""
    return nullcontext(X) if isinstance(X, Rows) else rows_on_device(X)


def _is_on_device(X) -> bool:
    """Whether rows are those of a fit, and fit on the GPU."""
    return isinstance(X, Rows) and X.array is not None


def _on_host(X):
    """Rows that do not fit on the GPU, or were never there."""
    return X.host if isinstance(X, Rows) else X


def _moved(coordinates: Coordinates | None) -> Coordinates | None:
    return None if coordinates is None else Coordinates(*map(cupy().asarray, coordinates))


@cache
def _host():
    """The backend for a few rows on the host: a machine for GPUs may have no numba."""
    return cpu if find_spec("numba") else base
