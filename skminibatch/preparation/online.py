"""The next rows of a stream: by Newton's method where it suits, else by steps along gradients."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from sklearn.utils import gen_batches

from skminibatch.backends.arrays import is_sparse
from skminibatch.backends.threads import one_of_blas
from skminibatch.contract.kinds import SIZE_CHOICE, declared
from skminibatch.contract.orders import rows_of
from skminibatch.contract.plan import StepStats
from skminibatch.contract.verbs import identity, second_derivative
from skminibatch.models.curvature import slope_curvature, typical_deviations
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.models.smoothed import RowLosses
from skminibatch.preparation.batch_size import any_size
from skminibatch.preparation.begin import STREAM_ROWS, Fitted, Settings, begin
from skminibatch.statistics.batches import BatchStatistics
from skminibatch.statistics.features import Moments
from skminibatch.training.loop import Clock, record, training
from skminibatch.training.online_diagonal import OnlineDiagonal, Sparse, Task, losses_and_targets
from skminibatch.training.online_newton import Objective, OnlineNewton, Rows
from skminibatch.training.state import Diverged, History, Progress, TrainState
from skminibatch.training.work import carried_out

BITS = 8
NUMBERS_AT_ONCE = 1 << 18  # in the rows that are learnt from together


def goes_on(settings: Settings, previous: Fitted | None) -> bool:
    """Whether Newton's method follows a stream: from its first rows on, as long as the objective is the same one.

    Not from coefficients that a user has assigned: how far these are to be trusted is not known.
    """
    if settings.follows_newton is None or settings.assigned is not None:
        return False
    if previous is None:
        return True
    old, new = previous.model, settings.model
    is_same = identity(old.loss) == identity(new.loss) and identity(old.penalty) == identity(new.penalty)
    return isinstance(previous.newton, settings.follows_newton) and is_same


def next_rows(settings: Settings, data: Data, previous: Fitted | None) -> tuple[Fitted, Progress]:
    """What outlives the call as it was before the next rows of a stream, and the progress after them."""
    if goes_on(settings, previous):
        return _by_newton(settings, data, previous)
    fitted, data, recipe = begin(settings, data, previous)
    return fitted, carried_out(training(fitted.model, data, fitted.params, recipe, fitted.state, fitted.history))


class Learnt(NamedTuple):
    """What a method has come to with the next rows: its state, the predictor, its penalty, the sum of the losses, statistics."""

    newton: OnlineNewton | OnlineDiagonal
    predictor: tuple
    penalty: float
    loss: float
    statistics: BatchStatistics


def _by_newton(settings: Settings, data: Data, previous: Fitted | None) -> tuple[Fitted, Progress]:
    model, chosen = settings.model, None
    assert isinstance(model, LinearModel)
    state, n_rows = TrainState(population=STREAM_ROWS), data.n_rows
    if previous is not None:
        chosen, state = previous.chosen, previous.state
    history = History.of_stream(previous.history if previous else None)
    clock = Clock(history)
    memory = settings.sampler.start(data.X.shape[0], data.rows, settings.seed, state.epoch, settings.strata)
    order, _, _ = settings.sampler.draw(memory, np.array([n_rows]))
    data = data._replace(rows=rows_of(order, 0, n_rows))
    if declared(settings.sizes).kind is SIZE_CHOICE:
        chosen = chosen or any_size(n_rows, "Newton's method takes all that come")
    size = min(int(np.ceil(chosen.batch_size if chosen else settings.sizes.start)), n_rows)
    newton = previous.newton if previous else None
    if settings.follows_newton is OnlineNewton:
        learnt = _all_directions(settings, data, state.epoch, cast(OnlineNewton | None, newton))
    else:
        learnt = _each_feature(settings, data, state.epoch, cast(OnlineDiagonal | None, newton))
    fitted = Fitted(
        target=settings.target, model=model, params=None, state=state, seed=settings.seed,
        moments=Moments.none(model.n_features), sketch=None, smoothness=None, history=history, predictor=learnt.predictor,
        class_counts=settings.class_counts, chosen=chosen, newton=learnt.newton,
    )  # fmt: skip
    state = state._replace(step=state.step - (-n_rows // size), samples=state.samples + n_rows, batch_size=size)
    weights = data.weights_of(data.rows)
    loss = learnt.loss / (weights.sum() if weights.size else n_rows)
    progress = Progress(model, None, state, history, learnt.predictor, loss, learnt.penalty)
    record(progress, learnt.statistics, float(size), clock)
    return fitted, progress


@one_of_blas()
def _all_directions(settings: Settings, data: Data, epoch: int, newton: OnlineNewton | None) -> Learnt:
    """Of few features: by `OnlineNewton`."""
    model, n_rows = settings.model, data.n_rows
    assert isinstance(model, LinearModel)
    X, y, weights = data.X[data.rows], *data.targets
    X = X.toarray() if is_sparse(X) else X
    losses = RowLosses.of(model.loss, y, model.n_outputs)
    newton = newton or _started(settings, data, X, losses)
    ridge = np.append(np.full(model.n_features, model.ridge()), np.zeros(int(model.fit_intercept)))
    objective = Objective(model.loss, ridge, newton.unit, newton.scale)
    rows = newton.rows(X, y, np.ones(n_rows) if weights is None else weights)
    statistics = _statistics(losses, rows, newton.all.best)
    for piece in gen_batches(n_rows, max(1, NUMBERS_AT_ONCE // rows.Z.shape[1])):
        newton = newton.with_rows(rows.of(piece), objective)
    predictor = tuple(each.astype(model.coef_dtype) for each in newton.predictor)
    total = losses.sum(rows.Z @ newton.all.best.T, rows.weights)
    if not np.isfinite(total + sum(np.sum(np.abs(each)) for each in predictor)):
        raise Diverged(epoch, np.nan)
    return Learnt(newton, predictor, model.penalty_value(predictor), total, statistics)


def _each_feature(settings: Settings, data: Data, epoch: int, newton: OnlineDiagonal | None) -> Learnt:
    """Of many features in sparse rows: by `OnlineDiagonal`."""
    model = settings.model
    assert isinstance(model, LinearModel)
    losses = RowLosses.of(model.loss, data.y, model.n_outputs)
    each, targets = losses_and_targets(losses)
    if newton is None:
        _, intercept = settings.start(model, data, None)
        in_use = RowLosses.of(model.loss, data.targets[0], model.n_outputs)
        units, _ = _units(model, in_use, intercept)
        newton = OnlineDiagonal.start(intercept, units, model.n_features, len(each))
    task = Task(model.device, each, model.penalty_curvature() or 0.0, model.l1(), model.fit_intercept)
    rows = Sparse(data.X, data.rows_in_use, targets, data.weights)
    with newton.unchanged_by_failure(data.X.indices):
        newton, loss = newton.with_rows(rows, task)
        predictor, penalty = newton.predictor(task, model.coef_dtype)
        if not np.isfinite(loss + penalty + np.sum(np.abs(predictor[1]))):
            raise Diverged(epoch, np.nan)
    stats = StepStats(np.array([loss]), np.full(1, np.nan), np.full(1, np.nan), -1)
    return Learnt(
        newton, predictor, penalty, loss, BatchStatistics.of(np.array([data.n_rows]), np.array([np.nan]), stats)
    )


def _started(settings: Settings, data: Data, X: np.ndarray, losses: RowLosses) -> OnlineNewton:
    """Before the first rows of a stream."""
    model = settings.model
    assert isinstance(model, LinearModel)
    coef, intercept = settings.start(model, data, None)
    center = _rounded(X.mean(axis=0, dtype=np.float64)) if model.fit_intercept else np.empty(0)
    return OnlineNewton.start((coef, intercept), center, _units(model, losses, intercept), losses.are_exponential())


def _rounded(numbers: np.ndarray) -> np.ndarray:
    """To a few bits: enough for a center, and no row of the data where there was one alone."""
    mantissa, exponent = np.frexp(numbers)
    return np.ldexp(np.round(mantissa * (1 << BITS)) / (1 << BITS), exponent)


def _units(model: LinearModel, losses: RowLosses, baseline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How curved the losses of a row are at most, by each output, or what stands for it, and the scale of raw outputs.

    Of a loss without a bound, the curvature at the best constant. For regressions, the slope of the derivative over the typical
    deviation of y: a loss may be flat where y is far off.
    """
    loss, one, ones = declared(model.loss), losses.one, np.ones(model.n_outputs)
    if loss.task == "classification" or one is None:
        return ones if loss.curvature is None else loss.curvature * ones, ones
    if loss.link != "identity":
        return second_derivative(one, baseline.astype(np.float64), 0.0 * ones), ones
    scale = typical_deviations(losses.y)
    return slope_curvature(one, scale), scale


def _statistics(losses: RowLosses, rows: Rows, w: np.ndarray) -> BatchStatistics:
    """Those of the rows as one batch, before its step."""
    Z, y, weights = rows
    raw = Z @ w.T
    residuals = weights[:, None] * losses.derivatives(raw)
    gradient = residuals.T @ Z / len(y)
    squares = np.sum(residuals**2, axis=1) @ np.sum(Z**2, axis=1)
    total, norm = losses.sum(raw, weights), float(np.sum(gradient**2))
    stats = StepStats(np.array([total]), np.array([norm]), np.array([squares]), -1)
    return BatchStatistics.of(np.array([len(y)]), np.array([np.nan]), stats)
