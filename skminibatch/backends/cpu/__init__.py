"""The CPU backend: the verbs of ``base``, each one call of a compiled kernel. numba is imported at the first call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import issparse

from skminibatch.backends import base
from skminibatch.backends.threads import one_of_blas, together
from skminibatch.contract.arrays import readonly
from skminibatch.contract.kinds import declared
from skminibatch.contract.plan import LockstepPlan, Plan, StepStats, empty_stats
from skminibatch.contract.task import LinearTask, NetworkTask

FEATURES_AT_ONCE = 32  # that are turned from one after another into one output after another
_NONE = np.empty(0)


def run_dense(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan on dense rows."""
    from skminibatch.backends.cpu.linear.dense import run
    from skminibatch.backends.cpu.linear.dense_arguments import Axes, Limits, Rows, WorkSpace
    from skminibatch.backends.cpu.linear.operations import dense_steps, residuals
    from skminibatch.backends.cpu.rows import learn, n_slices

    stats, X, params, table, sizes = empty_stats(plan.n_steps), task.X, task.params, task.table, plan.sizes
    slices = n_slices.py_func(int(sizes.max()))
    # a batch of one row is known to the thread that reads it only, and two threads may meet at a row that comes twice
    alone = sizes.min() == 1 or (table is not None and plan.rows.may_repeat)
    n_threads = 1 if alone else max(1, min(task.n_threads, slices))
    axes = Axes(*_axes(task.coordinates, params.dtype))
    data = Rows(readonly(X), _flat(task.y), readonly(task.weights), _weights_of(plan))
    loss = residuals(task.loss, params, task.y)
    step, look = dense_steps(task.optimizer, task.penalty, params.dtype, axes.scale.size > 0)
    addresses = learn(), loss.addresses, step.addresses, look.addresses
    spaces = WorkSpace.of(params, data.X, axes.center.size > 0, slices, n_threads)
    measured, flat = base.measures_rows(plan, table), readonly(X.reshape(-1))
    coefficients = np.ascontiguousarray(plan.coefficients, np.float64)

    def work(thread):
        limits = Limits(task.fit_intercept, plan.clip_norm, measured, thread, n_threads)
        results = stats[:3] if thread == 0 else tuple(np.empty_like(a) for a in stats[:3])
        return lambda: run(
            addresses, tuple(data), plan.rows, plan.offsets, coefficients, tuple(axes), flat, tuple(limits),
            _stored(table, params.dtype), tuple(spaces[thread]), results,
        )  # fmt: skip

    failed = together([work(thread) for thread in range(n_threads)])
    params[...] = spaces[0].params[..., : params.shape[2]]
    if table is not None:
        stats.square_norms[:] = np.nan
    return stats._replace(failed=failed)


def run_csr(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan on sparse rows, on one thread."""
    from skminibatch.backends.cpu.linear.operations import lazy_steps, residuals, sparse_steps
    from skminibatch.backends.cpu.linear.sparse import run_lazy, run_linear
    from skminibatch.backends.cpu.linear.sparse_arguments import Axes, Limits, work_space
    from skminibatch.backends.cpu.rows import find

    stats, (_, penalty, optimizer), table = empty_stats(plan.n_steps), task.parts, task.table
    params = np.ascontiguousarray(task.params, np.float64)  # as the functions of the parts find them by their address
    lazy, n_steps, measured_from = base.is_lazy(optimizer, penalty), plan.n_steps, base.measured_from(plan, table)
    threshold = 0.0 if lazy else base.exact_threshold(penalty)
    limits = Limits(task.fit_intercept, plan.clip_norm, measured_from, threshold)
    axes = Axes(np.array(1.0), np.array(0), np.ones(1))
    if task.coordinates is not None:
        scale = np.ascontiguousarray(task.coordinates.scale, np.float64)
        # stretches are powers of two; their exponents, as short integers, are sorted in linear time
        _, exponents = np.frexp(task.coordinates.stretch)
        exponents, kinds = np.unique(exponents.astype(np.int16), return_inverse=True)
        axes = Axes(scale, kinds, np.exp2(exponents - 1.0))
    loss, scaled = residuals(task.loss, params, task.y), axes.scale.ndim > 0
    step, look = lazy_steps(optimizer, penalty, task.X, scaled) if lazy else sparse_steps(optimizer, penalty)
    addresses = find(), loss.addresses, step.addresses, look.addresses
    common = (
        _csr(task.X), _flat(task.y), readonly(task.weights), plan.rows, plan.offsets,
        np.ascontiguousarray(plan.coefficients, np.float64), _weights_of(plan), tuple(limits), tuple(axes), params,
    )  # fmt: skip
    measured = lazy or measured_from < n_steps
    space = work_space(params, int(plan.sizes.max()), n_steps, len(axes.stretches), threshold, measured)
    space = (*space, _stored(table, params.dtype))
    if lazy:
        failed = run_lazy(addresses, *common, space, stats[:3])
        _write_back(params, task.params)
        if table is not None:
            stats.square_norms[:] = np.nan
        return stats._replace(failed=failed)
    # the numbers of a coordinate are neighbours: one cache line instead of one for each slot
    m, K, d = params.shape[0], params.shape[1], params.shape[2] - 1
    state = np.ascontiguousarray(params[:, :, :d].transpose(2, 1, 0)).reshape(d, K * m)
    failed = run_linear(addresses, (0.0,) * m, *common, state, space, stats[:3])
    params[:, :, :d] = state.reshape(d, K, m).transpose(2, 1, 0)
    _write_back(params, task.params)
    return stats._replace(failed=failed)


def run_dual(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan of a dual optimizer, on sparse rows and on one thread; dense rows are to be given as sparse ones."""
    from skminibatch.backends.cpu.linear.dual import run
    from skminibatch.backends.cpu.linear.operations import N_PLACES, ascent
    from skminibatch.backends.cpu.rows import BURST, N_WAY, find

    stats, params, table, optimizer = empty_stats(plan.n_steps), task.params, task.table, task.optimizer
    stats.square_norms[:], stats.row_squares[:] = np.nan, np.nan
    K, units = params.shape[1], np.atleast_1d(np.asarray(optimizer.unit(), np.float64))
    first = 0 if optimizer.has_pull() else params.shape[2] - 1  # without a pull, the intercepts alone have a center
    # the numbers of a coordinate are neighbours; of one output they are so as they are
    states = tuple(
        np.ascontiguousarray(one.T).ravel() for one in (params[0], params[1, :, first:], params[2, :, first:])
    )
    n, shift = optimizer.n_rows, float(optimizer.shift() * task.fit_intercept)
    objective = units, shift, optimizer.ridge * n, optimizer.l1 * n
    rows, work, places = np.empty(int(plan.sizes.max()), np.int64), np.empty((6, K)), np.empty(N_PLACES, np.int64)
    way = np.empty((2, BURST), np.uint64), np.empty(N_WAY, np.int64)
    space, function = (rows, *way, work, np.empty(2), places), ascent(task.loss, task.y)
    failed = run(
        (find(), function.addresses), _csr(task.X), _flat(task.y), readonly(task.weights), plan.rows, plan.offsets,
        plan.coefficients, objective, states, table, space, stats.losses,
    )  # fmt: skip
    params[0] = states[0].reshape(-1, K).T
    for slot, numbers in zip(params[1:], states[1:], strict=True):
        slot[:, first:] = numbers.reshape(-1, K).T
    return stats._replace(failed=failed)


def run_lockstep(tasks: Sequence[LinearTask], plan: LockstepPlan) -> list[StepStats]:
    """Carry out the plans of several linear models on the same rows, dense or sparse, which are read once for all.

    The tasks have the same rows X, coordinates (but for what the penalty acts on), shape and type of the params; the updates of
    sparse rows are not lazy.
    """
    from skminibatch.backends.cpu.linear.lockstep import run
    from skminibatch.backends.cpu.linear.lockstep_arguments import Ensemble
    from skminibatch.backends.cpu.rows import learn

    first, sparse = tasks[0], issparse(tasks[0].X)
    (center, scale, _), X = _axes(first.coordinates, first.params.dtype), first.X
    members, space, params, kept = Ensemble.of(tasks, plan.plans, scale, sparse or center.size > 0)
    flat = np.empty(0, first.params.dtype) if sparse else X.reshape(-1)
    failed = np.full(len(tasks), -1)
    run(
        learn(), _csr(X) if sparse else readonly(X), plan.rows, tuple(members), (center, scale), readonly(flat),
        first.params.shape[2] - 1, first.fit_intercept, tuple(space), failed,
    )  # fmt: skip
    results = []
    for m, (task, own) in enumerate(zip(tasks, plan.plans, strict=True)):
        task.params[...] = params[m][..., : task.params.shape[2]]
        steps = slice(members.first[m], members.first[m + 1])
        stats = StepStats(space.losses[steps], space.square_norms[steps], space.row_squares[steps], int(failed[m]))
        measured = base.measured_at_end if sparse else base.measured_in_part
        stats = measured(stats, own, task.table)
        if task.table is not None:
            stats.square_norms[:] = np.nan
        results.append(stats)
    del kept  # until here, the kernel reads it by its addresses
    return results


def loss_dense(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some rows."""
    w = np.ascontiguousarray(np.column_stack([coef, intercept]), X.dtype)
    nothing = np.empty((0, 0), X.dtype), np.empty((0, 0)), _NONE
    return _sums_dense(loss, (X, y, weights, rows), _axes(None, X.dtype)[:2], w, nothing)


def gradient_dense(task: LinearTask):
    """The sums of the gradients of all rows, their squared lengths, and the sum of the losses; residuals to the table."""
    w, (center, scale, _) = task.params[0].copy(), _axes(task.coordinates, task.params.dtype)
    sums, lengths = np.zeros(w.shape), np.empty(len(task.X))
    rows = task.X, task.y, task.weights, np.empty(0, np.int64)
    loss = _sums_dense(task.loss, rows, (center, scale), w, (task.table, sums, lengths))
    sums[:, :-1] *= scale if scale.size else 1.0
    return sums, lengths, loss


def gradients_dense(tasks: Sequence[LinearTask]) -> list[tuple]:
    """What `gradient_dense` gives for each of several models of the same rows, coordinates and shape."""
    from skminibatch.backends.cpu.linear.lockstep_gradients import of_tasks

    return of_tasks(tasks, *_axes(tasks[0].coordinates, tasks[0].params.dtype)[:2])


def _sums_dense(loss, data, axes, w, results) -> float:
    """The sum of the losses; the sums of the gradients, and what belongs to them, where `results` have room for them."""
    from skminibatch.backends.cpu.linear.losses import dense, dense_scratch
    from skminibatch.backends.cpu.linear.operations import residuals

    X, y, weights, rows = data
    X, function = readonly(X), residuals(loss, w, y)
    space = dense_scratch(w, X, axes[0].size > 0)
    return float(dense(function.addresses, X, _flat(y), readonly(weights), rows, axes, w, *results, space))


def loss_csr(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some sparse rows."""
    from skminibatch.backends.cpu.linear.losses import csr, scratch
    from skminibatch.backends.cpu.linear.operations import residuals

    v = np.ascontiguousarray(np.vstack([coef.T, intercept]), np.float64)
    function = residuals(loss, v, y)
    return csr(function.addresses, _csr(X), _flat(y), readonly(weights), rows, v, scratch(*intercept.shape, np.float64))


def residuals(loss, raw, y, weights):
    """Weighted derivatives of the losses of some rows by their raw outputs (n, K)."""
    return _residuals(loss, raw, y, weights)[0]


def sum_of_losses(loss, raw, y, weights):
    """Weighted sum of the losses of some rows, by their raw outputs (n, K)."""
    return _residuals(loss, raw, y, weights)[1]


def _residuals(loss, raw, y, weights) -> tuple[np.ndarray, float]:
    from skminibatch.backends.cpu.linear.losses import residuals as kernel
    from skminibatch.backends.cpu.linear.losses import scratch
    from skminibatch.backends.cpu.linear.operations import residuals as operation

    raw = np.array(raw, order="C")
    function, (_, *space) = operation(loss, raw, y), scratch(raw.shape[1], raw.dtype)
    total = kernel(function.addresses, raw, _flat(y), readonly(weights), tuple(space))
    return raw, float(total)


def follow_csr(loss, X, y, weights, rows, state, terms):
    """Diagonal Newton steps on sparse rows: the weight of all rows, and the losses before; the state is updated in place."""
    from skminibatch.backends.cpu.linear.diagonal import run
    from skminibatch.backends.cpu.linear.operations import N_PLACES, slopes

    K, losses, function = state[0].shape[1], np.empty(len(rows)), slopes(loss, y)
    space = np.empty(K), np.empty(K), np.zeros(K), np.empty((3, K)), np.empty(2), np.empty(N_PLACES, np.int64)
    weight = run(function.addresses, _csr(X), _flat(y), readonly(weights), rows, state, tuple(terms), space, losses)
    return weight, losses


def coefficients_followed(state, terms, features, coef):
    """Write the coefficients (K, d) that belong to the state of `follow_csr`, of some features; the penalty of these."""
    from skminibatch.backends.cpu.linear.diagonal import coefficients

    numbers = terms.ridge, terms.l1, terms.prior, terms.share, terms.weight
    return coefficients(state, numbers, features, coef, np.empty(FEATURES_AT_ONCE))


def run_mlp(task: NetworkTask, plan: Plan) -> StepStats:
    """Carry out a plan on a network; where the kernel does not fit its layers, by the verb of ``base``.

    Large products are cut into pieces, always the same ones, which that many threads share.
    """
    from skminibatch.backends.cpu.crew import help_with, release_helpers
    from skminibatch.backends.cpu.network.run import run
    from skminibatch.backends.cpu.network.stacks import Network, WorkSpace, most_pieces
    from skminibatch.backends.cpu.rows import find

    stack, X, params = task.stack, task.X, task.params
    if not stack.fits_kernels:
        return base.run_mlp(task, plan)
    stats = empty_stats(plan.n_steps)
    is_sparse, longest = issparse(X), int(plan.sizes.max())
    network = Network.of(stack, *task.parts, params.dtype)
    lazy = is_sparse and not declared(task.optimizer).linear
    n_threads = min(task.n_threads, most_pieces(stack, longest))
    space = WorkSpace.of(stack, longest, task.y, params.dtype, n_threads, is_sparse=is_sparse, lazy=lazy)
    arrays = _csr(X) if is_sparse else readonly(X), readonly(task.y), readonly(task.weights)
    steps = plan.rows, plan.offsets, plan.coefficients.astype(params.dtype), _weights_of(plan)
    limits = float(plan.clip_norm), not stack.couples_rows, *plan.key

    def lead():
        try:
            return run(find(), *arrays, *steps, network[:4], network[4:6], limits, params, space, stats[:3])
        except BaseException:
            release_helpers(space.crew)
            raise

    def help_on():
        help_with(space.crew, space.point)

    with one_of_blas():
        failed = together([lead, *[help_on] * (n_threads - 1)])
    return stats._replace(failed=failed)


def _weights_of(plan: Plan) -> np.ndarray:
    """Weights of the sampler by position; empty if there are none."""
    return _NONE if plan.weights is None else plan.weights


def _write_back(params: np.ndarray, given: np.ndarray) -> None:
    """Give an array that was copied the numbers of its copy."""
    if params is not given:
        given[...] = params


def _stored(table: np.ndarray | None, dtype) -> np.ndarray:
    return np.empty((0, 0), dtype) if table is None else table


def _axes(coordinates, dtype):
    """(center, scale, stretch); what changes nothing is empty: then rows are read in place, and nothing is scaled."""
    nothing = np.empty(0, dtype)
    if coordinates is None:
        return nothing, nothing, nothing
    center, scale, stretch = (np.ascontiguousarray(axis, dtype) for axis in coordinates)
    return center if center.any() else nothing, scale, stretch


def _flat(y):
    """Targets one behind the other: how many a row has, kernels hand on to the functions of the loss."""
    return readonly(np.ascontiguousarray(y).reshape(-1))


def _csr(X):
    return readonly(X.data), readonly(X.indices), readonly(X.indptr)
