"""The GPU backend: the verbs of ``base`` on the device, each one launch where there is a kernel. CuPy is imported when needed.

Rows that a fit has placed on the device are used there. What else comes is on the host: a plan is carried out on the device
all the same, while the losses of a few rows are a matter for the CPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache, partial
from importlib.util import find_spec

import numpy as np

from skminibatch.backends import base, cpu
from skminibatch.backends.arrays import on_host
from skminibatch.backends.gpu.device import cupy
from skminibatch.backends.gpu.linear import run as linear
from skminibatch.backends.gpu.linear import streamed
from skminibatch.backends.gpu.losses import LossOfRows
from skminibatch.backends.gpu.network import run as network
from skminibatch.backends.gpu.placement import Rows, rows_on_device, working
from skminibatch.backends.gpu.predictions import network_outputs, raw_outputs
from skminibatch.backends.gpu.source import has_cuda
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.plan import StepStats

__all__ = ["network_outputs", "raw_outputs"]

AT_ONCE = 1 << 16  # rows, where what is computed of them takes as much memory as they do


def run_dense(
    loss, penalty, optimizer, X, y, weights, plan, coordinates, params, fit_intercept, n_threads=1, table=None
):
    """Carry out a plan on dense rows."""
    arrays = X, y, weights, plan, coordinates, params, fit_intercept
    return _run_linear("run_dense", (loss, penalty, optimizer), *arrays, table)


def run_csr(loss, penalty, optimizer, X, y, weights, plan, coordinates, params, fit_intercept, table=None):
    """Carry out a plan on sparse rows."""
    arrays = X, y, weights, plan, coordinates, params, fit_intercept
    return _run_linear("run_csr", (loss, penalty, optimizer), *arrays, table)


def _run_linear(verb, parts, X, y, weights, plan, coordinates, params, fit_intercept, table) -> StepStats:
    """A verb of linear models, by a kernel where there is one."""

    def run(X, y, weights, plan, subset, coordinates, params, table):
        arrays = X, y, weights, plan, coordinates, params, fit_intercept
        if _compiled(parts):
            return getattr(linear, verb)(*parts, *arrays, table, subset)
        return getattr(base, verb)(*_by_formula(parts), *arrays, table=table)

    return _carried_out(run, X, y, weights, plan, params, coordinates, table)


def run_mlp(stack, loss, penalty, optimizer, X, y, weights, plan, params, n_threads=1):
    """Carry out a plan on a network."""
    parts = loss, penalty, optimizer

    def run(X, y, weights, plan, subset, _, params, __):
        arrays = X, y, weights, plan, params
        if not network.has_kernels(stack, *parts, X):
            return base.run_mlp(stack, *_by_formula(parts), *arrays)
        stats = network.run_mlp(stack, *parts, *arrays, subset=subset)
        rows.at_end[id(stack)] = partial(network.forget, stack)
        return stats

    with _on_device(X) as rows:
        return _carried_out(run, rows, y, weights, plan, params)


def loss_dense(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some rows."""
    if not _is_there(X):
        return _host().loss_dense(loss, getattr(X, "host", X), y, weights, rows, coef, intercept)
    with working():
        arrays = X.array, *map(X.to_device, (y, weights, rows)), *map(cupy().asarray, (coef, intercept))
        return linear.loss_dense(loss, *arrays) if _compiled([loss]) else base.loss_dense(*_by_formula([loss]), *arrays)


def loss_csr(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some sparse rows."""
    if not _is_there(X):
        return _host().loss_csr(loss, getattr(X, "host", X), y, weights, rows, coef, intercept)
    with working():
        arrays = X.array, *map(X.to_device, (y, weights, rows)), *map(cupy().asarray, (coef, intercept))
        return linear.loss_csr(loss, *arrays) if _compiled([loss]) else base.loss_csr(*_by_formula([loss]), *arrays)


def residuals(loss, raw, y, weights):
    """Weighted derivatives of the losses of some rows by their raw outputs (n, K)."""
    return _host().residuals(loss, raw, y, weights)


def gradient_dense(loss, X, y, weights, coordinates, w, table):
    """The sum of the gradients of the losses of all rows, and the squared lengths of the rows; residuals to the table."""
    if not _is_there(X):
        return _host().gradient_dense(loss, getattr(X, "host", X), y, weights, coordinates, w, table)
    sums, lengths = np.zeros(w.shape), np.empty(len(table))
    X.forget(table)
    with working():
        there = [X.to_device(y), X.to_device(weights), _there(X, coordinates), cupy().asarray(w)]
        for start in range(0, len(table), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            stored = cupy().asarray(table[some])
            y_some, weights_some = (array[some] if array.size else array for array in there[:2])
            found = base.gradient_dense(LossOfRows(loss), X.array[some], y_some, weights_some, *there[2:], stored)
            table[some] = stored.get()
            sums += found[0].get()
            lengths[some] = found[1].get()
    return sums, lengths


def _carried_out(run, X, y, weights, plan, params, coordinates=None, table=None) -> StepStats:
    """``run(X, y, weights, plan, subset, coordinates, params, table)`` on the device; what it changed comes back in place.

    The subset of an order stays as it is for a fit, and is as long as the data may be: it is on the device as y is.
    """
    with _on_device(X) as rows, working():
        if table is not None and rows.array is None:
            raise MemoryError("solver='saga' reads rows over and over: they have to fit on the GPU.")
        learnt, axes = cupy().asarray(params), _there(rows, coordinates)
        stored = None if table is None else rows.kept(table)

        def step(X, y, weights, plan, subset=None):
            return _fetched(run(X, y, weights, plan, subset, axes, learnt, stored))

        if rows.array is not None:
            subset = rows.to_device(plan.rows.subset) if plan.rows.subset.size else None
            stats = step(rows.array, rows.to_device(y), rows.to_device(weights), plan, subset)
        else:
            stats = streamed.run(step, rows, y, weights, plan)
        params[...] = learnt.get()
    return stats


def _on_device(X):
    """A context with rows on the device: those of a fit are there already."""
    return nullcontext(X) if isinstance(X, Rows) else rows_on_device(X)


def _fetched(stats: StepStats) -> StepStats:
    """Statistics on the host, wherever a verb has left them."""
    return StepStats(*map(on_host, stats[:4]), int(stats.failed))


@cache
def _host():
    """The backend for a few rows on the host: a machine for GPUs may have no numba."""
    return cpu if find_spec("numba") else base


def _is_there(X) -> bool:
    """Whether rows are on the GPU."""
    return isinstance(X, Rows) and X.array is not None


def _there(rows: Rows, coordinates: Coordinates | None) -> Coordinates | None:
    return None if coordinates is None else Coordinates(*map(rows.to_device, coordinates))


def _compiled(parts) -> bool:
    """Whether all parts have CUDA bodies, so that a kernel runs them."""
    return all(map(has_cuda, parts))


def _by_formula(parts) -> tuple:
    """(loss, penalty, optimizer) for the verbs of ``base`` on the device."""
    return LossOfRows(parts[0]), *parts[1:]
