"""The verbs of a backend in plain array code: the specification, the fallback and the oracle of the tests.

Verbs
-----
run_dense(task, plan) -> StepStats
run_csr(task, plan) -> StepStats
run_dual(task, plan) -> StepStats
run_lockstep(tasks, plan) -> list of StepStats
run_mlp(task, plan) -> StepStats
gradient_dense(task) -> (sums, square_lengths, loss)
gradients_dense(tasks) -> list of (sums, square_lengths, loss)
loss_dense(loss, X, y, weights, rows, coef, intercept) -> float
loss_csr(loss, X, y, weights, rows, coef, intercept) -> float
residuals(loss, raw, y, weights) -> (n, K)
sum_of_losses(loss, raw, y, weights) -> float
follow_csr(loss, X, y, weights, rows, state, terms) -> (weight, losses)
coefficients_followed(state, terms, features, coef) -> float

`task` is a `LinearTask` or, for a network, a `NetworkTask`, see `contract.task`: the rows, the parts, and the params, which
the steps of the plan update in place; with several tasks, the plan is a `LockstepPlan`. The other arguments are the fields of
a task of the same name; `rows` are numbers of rows, int64, empty for all of them, and `raw` are raw outputs (n, K).

The verbs of this module take any arrays that follow NumPy's dispatch: `X`, `y`, `weights`, `params`, `table` and the
coordinates of one library and device, the rest on the host.

With a table, a step follows the changes of the weighted residuals of its rows since these were stored, times the shares, and
the stored ones change by as much; of a row that comes twice in a batch, the second time finds what the first has stored. The
norm of the gradient is not measured then, and there are no weights of a sampler.

Of a dual optimizer, the rows of a step come one after another, each at the parameters that the one before has left. A row of
the table are how far a change of a dual variable moves its own raw output (the intercept apart), what the conjugate of its
weighted loss is at its dual variables (with a minus: ``-z . a - s l(z)``), and these variables. At the start of an epoch the
parameters are drawn to a new center. Where the coefficients have none, the slots hold that of the intercept alone.

Semantics on CSR
----------------
Optimizers that are linear, without an l1 penalty or with ``lazy_l1``, give what they give on the same rows stored densely.
The others are *lazy*: in a step, only the coordinates that its batch touches (and the intercept) are updated, decayed and
thresholded; an average of the iterates follows in every coordinate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.kinds import LOSS, LOSS_OF_ROWS, declared
from skminibatch.contract.orders import rows_of
from skminibatch.contract.plan import LockstepPlan, Plan, StepStats, empty_stats
from skminibatch.contract.proximal import proximal_point
from skminibatch.contract.steps import stepped
from skminibatch.contract.task import LinearTask, NetworkTask
from skminibatch.contract.verbs import (
    follow,
    gradient,
    point,
    proximal,
    update,
    value,
    value_gradient,
)


class Acting(NamedTuple):
    """How a step acts on each parameter: at `rates` times the rate, the penalty, where `decayed`, of it times `stretch`."""

    stretch: np.ndarray | float
    decayed: np.ndarray
    rates: np.ndarray | float = 1.0


MEASURED_STEPS = 16  # at least, of a chunk, where what they measure serves the statistics alone
MEASURED_EVERY = 2  # steps on dense rows: the lengths of all take a tenth of an epoch of short numbers, and more


def run_dense(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan on dense rows."""
    X, coordinates = task.X, task.coordinates

    def batch(rows):
        Xb = X[rows]
        return Xb if coordinates is None else (Xb - coordinates.center) * coordinates.scale

    return measured_in_part(_run(task, plan, batch, lazy=False), plan, task.table)


def run_csr(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan on sparse rows, whose coordinates are scaled but not centered."""
    X, coordinates, lazy = task.X, task.coordinates, is_lazy(task.optimizer, task.penalty)

    def batch(rows):
        Xb = X[rows].toarray()
        return Xb if coordinates is None else Xb * coordinates.scale

    stats = _run(task, plan, batch, lazy=lazy)
    return stats if lazy else measured_at_end(stats, plan, task.table)


def run_dual(task: LinearTask, plan: Plan) -> StepStats:
    """Carry out a plan of a dual optimizer, on sparse or dense rows in the coordinates that they are given in."""
    loss, optimizer = task.loss, cast(Any, task.optimizer)
    X, y, table, params, stats = task.X, task.y, task.table, task.params, empty_stats(plan.n_steps)
    assert table is not None
    stats.square_norms[:], stats.row_squares[:] = np.nan, np.nan
    unit, shift, u = optimizer.unit(), optimizer.shift() * task.fit_intercept, params[0]
    coef, duals = u[:, :-1], table[:, 2:]
    out, work = np.empty(len(u)), np.empty((2, len(u)))
    for s, (start, stop) in enumerate(zip(plan.offsets[:-1], plan.offsets[1:], strict=True)):
        c = plan.coefficients[s]
        if c[1] >= 0:
            _move_centers(optimizer, params, c[1])
        for row in rows_of(plan.rows, start, stop):
            x = X[[row]].toarray()[0] if is_sparse(X) else X[row]
            weight = task.weights[row] if task.weights.size else 1.0
            raw, q = optimizer.shrunk(coef) @ x + u[:, -1], table[row, 0] + shift
            if declared(loss).kind is LOSS:
                loss_before, out[0] = (
                    value(loss, raw[0], y[row]),
                    proximal_point(loss, raw[0], y[row], weight, q, duals[row, 0]),
                )
                loss_after = value(loss, out[0], y[row])
            else:
                loss_before = value_gradient(loss, raw, y[row], work[0])
                proximal(loss, raw, y[row], weight, q, duals[row], out, work)
                loss_after = value_gradient(loss, out, y[row], work[0])
            stats.losses[s] += weight * loss_before
            changes = (out - raw) / q
            duals[row] += changes
            table[row, 1] = -out @ duals[row] - weight * loss_after
            g = -np.outer(changes, np.append(unit * x, shift))
            u[...], _, _ = update(optimizer, u, g, (), c)
        if not np.isfinite(stats.losses[s]):
            return stats._replace(failed=s)
    return stats


def _move_centers(optimizer, params, momentum):
    """Draw the coefficients to where they are now, and beyond, unless they have come back from there."""
    every, intercept = params[0, :, :-1].shape, np.ones((params.shape[1], 1))
    share = np.hstack([np.broadcast_to(optimizer.share(), every), intercept])
    pull = np.hstack([np.broadcast_to(optimizer.pull, every), intercept / optimizer.spread])
    w = np.hstack([optimizer.shrunk(params[0, :, :-1]), params[0, :, -1:]])
    drawn = slice(None) if optimizer.has_pull() else slice(-1, None)
    (u, center, before), w = params[:, :, drawn], w[:, drawn]
    momentum = 0.0 if np.sum(pull[:, drawn] * (center - w) * (w - before)) > 0 else momentum
    new = w + momentum * (w - before)
    u += share[:, drawn] * (new - center)
    center[...], before[...] = new, w


def measured_from(plan: Plan, table=None) -> int:
    """The first step of a linear optimizer on sparse rows whose gradient has its norm measured; others need it anyway.

    With a table there is none: the changes of stored residuals are not the noise of the gradient.
    """
    n_steps = plan.n_steps
    if table is not None:
        return n_steps
    return 0 if plan.clip_norm < np.inf else max(0, n_steps - MEASURED_STEPS)


def measured_at_end(stats: StepStats, plan: Plan, table=None) -> StepStats:
    """The statistics of a linear optimizer on sparse rows, which measures the norms of some gradients only."""
    first = measured_from(plan, table)
    stats.square_norms[:first] = np.nan
    stats.row_squares[:first] = np.nan
    return stats


def measured_in_part(stats: StepStats, plan: Plan, table=None) -> StepStats:
    """The statistics of dense rows, of which some steps measure the gradients, see `measures_rows`."""
    stats.row_squares[~measures_rows(plan, table)] = np.nan
    return stats


def measures_rows(plan: Plan, table=None) -> np.ndarray:
    """The steps on dense rows that measure the gradients of these, a mask.

    A part of them, and batches of one row, whose gradient is the row's; with a table none, see `measured_from`.
    """
    sizes = plan.sizes
    if table is not None:
        return np.zeros(len(sizes), bool)
    every = min(MEASURED_EVERY, max(1, len(sizes) // MEASURED_STEPS))
    return (np.arange(len(sizes)) % every == 0) | (sizes == 1)


def is_lazy(optimizer, penalty) -> bool:
    """Whether sparse rows update the touched coordinates only.

    What the others come to in the meantime is known where their updates are linear, and where a threshold is taken from
    them, of an optimizer whose only slot is an average.
    """
    optimizer, penalty = declared(optimizer), declared(penalty)
    if not (optimizer.linear and penalty.quadratic):
        return True
    known = optimizer.lazy_l1 and len(optimizer.slot_exponents) <= 1 and penalty.threshold is not None
    return bool(penalty.nonsmooth and not known)


def exact_threshold(penalty) -> float:
    """What the proximal map takes from a coordinate for each unit of the step."""
    penalty = declared(penalty)
    return float(penalty.threshold) if penalty.nonsmooth else 0.0


def loss_dense(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some rows."""
    return _loss(loss, X, y, weights, rows, coef, intercept)


def loss_csr(loss, X, y, weights, rows, coef, intercept):
    """Weighted sum of the losses of some sparse rows."""
    return _loss(loss, X, y, weights, rows, coef, intercept)


def residuals(loss, raw, y, weights):
    """Weighted derivatives of the losses of some rows by their raw outputs (n, K)."""
    _, derivatives = values_residuals(loss, raw, y)
    return derivatives if not weights.size else weights[:, None] * derivatives


def sum_of_losses(loss, raw, y, weights):
    """Weighted sum of the losses of some rows, by their raw outputs (n, K)."""
    values, _ = values_residuals(loss, raw, y)
    return float(np.sum(values if not weights.size else weights * values, dtype=np.float64))


def follow_csr(loss, X, y, weights, rows, state, terms):
    """Diagonal Newton steps on sparse rows, see `training.online_diagonal`: the weight of all rows, and the losses (n,) before.

    `state` are the arrays of `Sums`, which are updated in place, and `terms` the `Terms`.
    """
    (sums, curvatures, largest), weight, losses = state, terms.weight, np.empty(len(rows))
    out, work, none = np.empty(sums.shape[1]), np.empty((2, sums.shape[1])), np.zeros(sums.shape[1])
    for t, row in enumerate(rows):
        s = float(weights[row]) if weights.size else 1.0
        weight += s
        x = X[[row]].toarray()[0].astype(np.float64)
        (j,) = np.nonzero(x * x)
        x, before = x[j], coefficients_at(state, terms, weight, j)
        grown = np.maximum(largest[j], x * x)
        sums[j] += (terms.prior * (grown - largest[j]))[:, None] * before
        largest[j] = grown
        precisions, at = _precisions(state, terms, weight, j), coefficients_at(state, terms, weight, j)
        of_intercept = terms.share * curvatures[-1] + terms.prior
        q = float(np.sum(x * x / precisions)) + terms.fit_intercept / of_intercept
        raw = terms.offset + x @ at + sums[-1] / of_intercept
        value_before, slopes = values_residuals(loss, raw[None], y[[row]])
        losses[t] = s * value_before[0]
        if not q > 0.0:
            continue
        if declared(loss).kind is LOSS:
            out[0] = proximal_point(loss, raw[0], y[row], s, q, 0.0)
        else:
            proximal(loss, raw, y[row], s, q, none, out, work)
        moves = raw - out
        g, moved = moves / q, float(np.sum(moves**2))
        bent = float(np.sum(moves * (s * slopes[0] - g)))
        curvature = min(max(bent / moved, terms.least * s), terms.most * s) if moved > 0.0 else terms.least * s
        sums[j] -= np.outer(x, g)
        sums[j] += (
            (terms.share * curvature * x * x)[:, None] * _shrunk(sums[j], weight * terms.l1) / precisions[:, None]
        )
        curvatures[j] += curvature * x * x
        if terms.fit_intercept:
            sums[-1] -= g
            sums[-1] += terms.share * curvature * sums[-1] / of_intercept
            curvatures[-1] += curvature
    return weight, losses


def coefficients_followed(state, terms, features, coef):
    """Write the coefficients (K, d) that belong to the state of `follow_csr`, of some features; the penalty of these."""
    w = coefficients_at(state, terms, terms.weight, features)
    coef[:, features] = w.T
    return float(np.sum(0.5 * terms.ridge * w * w + terms.l1 * np.abs(w)))


def coefficients_at(state, terms, weight, features):
    """The coefficients (m, K) of some features at a weight of the rows."""
    precisions, shrunk = (
        _precisions(state, terms, weight, features)[:, None],
        _shrunk(state[0][features], weight * terms.l1),
    )
    return np.divide(shrunk, precisions, out=np.zeros_like(shrunk), where=precisions > 0)


def _precisions(state, terms, weight, features):
    _, curvatures, largest = state
    return terms.share * curvatures[features] + terms.prior * largest[features] + weight * terms.ridge


def _shrunk(sums, threshold):
    return sums - np.clip(sums, -threshold, threshold)


def gradient_dense(task: LinearTask):
    """The sums of the gradients of the losses of all rows (K, d + 1), their squared lengths (n,), and the sum of the losses.

    At the parameters of the task and in its coordinates; the residuals are written to the table.
    """
    X, w, coordinates = task.X, task.params[0], task.coordinates
    Z = X if coordinates is None else (X - coordinates.center) * coordinates.scale
    values, of_rows = values_residuals(task.loss, Z @ w[:, :-1].T + w[:, -1], task.y)
    if task.weights.size:
        values, of_rows = task.weights * values, task.weights[:, None] * of_rows
    if task.table is not None:
        task.table[:, 1:] = of_rows
    sums = np.column_stack([of_rows.T.astype(np.float64) @ Z, of_rows.sum(axis=0, dtype=np.float64)])
    return sums, np.sum(Z * Z, axis=1, dtype=np.float64), float(np.sum(values, dtype=np.float64))


def gradients_dense(tasks: Sequence[LinearTask]) -> list[tuple]:
    """What `gradient_dense` gives for each of several models of the same rows."""
    return [gradient_dense(task) for task in tasks]


def _loss(loss, X, y, weights, rows, coef, intercept):
    if rows.size:
        X, y, weights = X[rows], y[rows], weights[rows] if weights.size else weights
    with np.errstate(
        invalid="ignore"
    ):  # which BLAS reports now and then of finite float32; what is not finite shows in the sum
        raw = X @ coef.T + intercept
    return sum_of_losses(loss, raw, y, weights)


def values_residuals(loss, raw, y):
    """Losses (b,) and residuals (b, K) of raw outputs (b, K); by the loss itself, where it takes several rows at once."""
    kind = declared(loss).kind
    if kind is LOSS_OF_ROWS:
        return loss.values_residuals(raw, y)
    if kind is LOSS:
        return value(loss, raw[:, 0], y), gradient(loss, raw[:, 0], y)[:, None]
    residuals = np.empty_like(raw)
    values = np.array([value_gradient(loss, *row) for row in zip(raw, y, residuals, strict=True)], like=raw)
    return values, residuals


def _run(task: LinearTask, plan: Plan, batch, *, lazy: bool) -> StepStats:
    """Carry out a plan; ``batch(rows)`` are some rows in the coordinates of the optimizer, dense."""
    (loss, penalty, optimizer), y, params, table = task.parts, task.y, task.params, task.table
    stats, acting = empty_stats(plan.n_steps), _acting(task)
    touched = np.ones_like(params, bool, shape=params.shape[2])
    for s, (start, stop) in enumerate(zip(plan.offsets[:-1], plan.offsets[1:], strict=True)):
        chosen = rows_of(plan.rows, start, stop)
        rows, size = np.asarray(chosen, like=y), len(chosen)
        row_weights = _weights_at(task.weights, plan, rows, start, stop)
        Xb = batch(rows)
        ones = np.ones_like(Xb, shape=(size, 1))
        c = plan.coefficients[s]
        w, slots = params[0], tuple(params[1:])
        v = point(optimizer, w, slots, c)
        with np.errstate(over="ignore", invalid="ignore"):
            raw = Xb @ v[:, :-1].T + v[:, -1]
            values, residuals = values_residuals(loss, raw, y[rows])
            square_lengths = np.sum(Xb**2, axis=1, dtype=np.float64) + task.fit_intercept
            residuals = residuals * row_weights[:, None]
            stats.losses[s] = float(np.sum(row_weights * values, dtype=np.float64))
            stats.row_squares[s] = float(np.sum(np.sum(residuals**2, axis=1, dtype=np.float64) * square_lengths))
            if table is not None:
                residuals = _changes(table, chosen, residuals)
            g = (residuals.T @ np.hstack([Xb, ones]) / size).astype(params.dtype)
            if not task.fit_intercept:
                g[:, -1] = 0
            touched = np.append((Xb != 0).any(axis=0), True) if lazy else touched
            square_norm = float(np.sum(g.astype(np.float64) ** 2))
            stats.square_norms[s] = square_norm if table is None else np.nan
            if not np.isfinite(stats.losses[s] + square_norm):
                return stats._replace(failed=s)
            if square_norm > plan.clip_norm**2:
                g = g * (plan.clip_norm / np.sqrt(square_norm))
            _step(penalty, optimizer, params, g, c, acting, touched)
    return stats


def run_lockstep(tasks: Sequence[LinearTask], plan: LockstepPlan) -> list[StepStats]:
    """Carry out the plans of several linear models on the same rows: what each of them comes to by itself."""
    run = run_csr if is_sparse(tasks[0].X) else run_dense
    return [run(task, own) for task, own in zip(tasks, plan.plans, strict=True)]


def run_mlp(task: NetworkTask, plan: Plan) -> StepStats:
    """Carry out a plan on a network."""
    stack, (loss, penalty, optimizer), X, y, params = task.stack, task.parts, task.X, task.y, task.params
    stats, learnt = empty_stats(plan.n_steps), params[:, : stack.n_parameters]
    acting = Acting(1.0, np.asarray(stack.decayed, like=params), np.asarray(stack.rates, like=params))
    lazy, touched = (
        is_sparse(X) and not declared(optimizer).linear,
        np.ones_like(params, bool, shape=stack.n_parameters),
    )
    for s, (start, stop) in enumerate(zip(plan.offsets[:-1], plan.offsets[1:], strict=True)):
        rows = np.asarray(rows_of(plan.rows, start, stop), like=y)
        size, Xb = len(rows), X[rows]
        row_weights = _weights_at(task.weights, plan, rows, start, stop)
        c = plan.coefficients[s]
        v = point(optimizer, learnt[0], tuple(learnt[1:]), c)
        with np.errstate(over="ignore", invalid="ignore"):
            key = plan.key[0], plan.key[1] + s
            raw, backward = stack.forward(v, Xb, row_weights, params[0], train=True, key=key)
            values, residuals = values_residuals(loss, raw, y[rows])
            g, squares = backward((row_weights[:, None] * residuals).astype(params.dtype) / size)
            stats.losses[s] = float(np.sum(row_weights * values, dtype=np.float64))
            stats.row_squares[s] = np.nan if stack.couples_rows else size**2 * float(np.sum(squares))
            stats.square_norms[s] = float(np.sum(g.astype(np.float64) ** 2))
            if not np.isfinite(stats.losses[s] + stats.square_norms[s]):
                return stats._replace(failed=s)
            if stats.square_norms[s] > plan.clip_norm**2:
                g = g * (plan.clip_norm / np.sqrt(stats.square_norms[s]))
            if lazy:
                stack.weights(touched, 0)[:] = np.diff(Xb.tocsc().indptr)[:, None] > 0
            _step(penalty, optimizer, learnt, g, c, acting, touched)
    return stats


def _weights_at(weights, plan, rows, start, stop):
    """Sample weights times sampler weights of the rows of a step."""
    row_weights = np.ones_like(weights, shape=len(rows)) if not weights.size else weights[rows]
    return row_weights if plan.weights is None else row_weights * np.asarray(plan.weights[start:stop], like=weights)


def _changes(table, rows, residuals):
    """The shares of what the residuals of some rows changed by since they were stored, which are added to these."""
    changes = np.empty_like(residuals)
    order = np.argsort(rows, kind="stable")
    firsts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    visits = np.arange(len(rows)) - np.repeat(firsts, np.diff(np.append(firsts, len(rows))))
    for visit in range(visits.max() + 1):  # once, unless a row comes twice
        places = order[visits == visit]
        positions, numbers = (np.asarray(index, like=table) for index in (places, rows[places]))
        changes[positions] = table[numbers, :1] * (residuals[positions] - table[numbers, 1:])
        table[numbers, 1:] += changes[positions]
    return changes


def _acting(task: LinearTask) -> Acting:
    """The penalty acts on every parameter of a linear model except its intercepts."""
    params, n_features = task.params, task.params.shape[2] - 1
    stretches = np.ones_like(params, shape=n_features + 1)
    if task.coordinates is not None:
        stretches[:n_features] = task.coordinates.stretch
    return Acting(stretches, np.arange(n_features + 1, like=params) < n_features)


def _step(penalty, optimizer, params, g, c, acting, touched):
    """Update `params` in place for the touched coordinates."""
    w, slots, c = params[0].copy(), tuple(params[1:]), (c[0] * acting.rates, *c[1:])
    w, slots = stepped(penalty, optimizer, w, g, slots, acting.stretch, acting.decayed, c)
    for old, new in zip(params, (w, *slots), strict=True):
        old[...] = np.where(touched, new, old)
    for old, new in zip(params[1:], follow(optimizer, params[0], tuple(params[1:]), c), strict=True):
        old[:] = new
