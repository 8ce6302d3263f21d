"""What a dual optimizer starts from: the table of dual variables, and the coefficients that follow from these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.kinds import declared
from skminibatch.models.curvature import (
    curvature_bounds,
    has_kink,
    slope_curvature,
    typical_curvature,
    typical_deviations,
)
from skminibatch.models.data import Data, raw_outputs, squared
from skminibatch.models.linear import LinearModel
from skminibatch.models.smoothed import RowLosses
from skminibatch.preparation.start import Start
from skminibatch.statistics.random import EXAMINED
from skminibatch.statistics.visits import repeated, visits_of_rows
from skminibatch.training.state import Recipe

# The pull to where the coefficients were, over that which makes a row about as stiff as n rows may be. Without an l1 penalty
# there is no pull where features are so many that they seldom meet, unless the loss has a kink or there is no penalty.
PULL = 2.0
FEATURES_PER_ROW, SELDOM = 0.25, 0.05  # the share of the entries that are stored, at most
# The spread of the intercept. A smaller one makes an epoch better, a larger one needs fewer epochs to settle the intercept.
SHARE_OF_MOVES = 0.1  # of how far the coefficients move the raw output of a row in the mean, at least
OVER_CURVATURE = 100.0  # over the curvature of the loss, at least
LEAST_MOVE = 1e-3  # of the mean, of any row: one without entries has a dual variable too
KINKED = 0.5  # of its bound: a loss with less curvature is much like one with a kink
APART = 2.0  # times as stiff as rows in the mean is a row that comes twice


def with_dual(recipe: Recipe, start: Start) -> tuple[Start, Data, Recipe]:
    """The start, the rows with their table, and the recipe of a dual optimizer.

    The duality gap is of all rows, so that these are evaluated, once per epoch.
    """
    model, data, params = start.model, start.data, start.params
    assert isinstance(model, LinearModel)
    in_use, n = data.rows_in_use, data.n_rows
    y = data.y[in_use]
    rows = data.X if is_sparse(data.X) else sparse.csr_matrix(model.axes.transform(data.X[:]))
    ridge, l1 = model.strong_convexity(), model.l1()
    bound = float(curvature_bounds(model.loss, y[:1], params[0, :1, -1:])[0])
    unit = typical_share(model, y, bound)
    curvature, is_kinked = unit * bound, has_kink(model.loss) or unit < KINKED
    squares = squared(rows)
    is_wide = model.n_features >= FEATURES_PER_ROW * n and rows.nnz <= SELDOM * len(data.y) * model.n_features
    pull: float | np.ndarray = 0.0
    if l1 or ridge == 0 or has_kink(model.loss) or not is_wide:
        pull = np.maximum(PULL * curvature * max(rows.nnz, 1) / len(data.y) / n * _mean_stored(squares) - ridge, 0.0)
    moves = squares @ np.broadcast_to(1.0 / (ridge + pull), rows.shape[1]) / n
    mean = float(moves[in_use].mean()) or 1.0
    moves = np.maximum(moves, LEAST_MOVE * mean)
    spread = max(SHARE_OF_MOVES * n * mean, OVER_CURVATURE / unit)
    visits = _visits(1.0 + n * curvature * moves * (data.weights if data.weights.size else 1.0), in_use)
    n_visits = int(visits[in_use].sum())
    part = declared(model.optimizer).of_objective(n, n_visits, ridge, spread, pull, l1, not is_kinked)
    model = model.with_optimizer(part)
    table = np.zeros((len(moves), 2 + model.n_outputs))
    table[:, 0] = moves
    table[in_use, 1] = np.nan  # until the row is visited
    data = data._replace(table=table, written=rows)
    if params[0, :, :-1].any():
        params = _from_residuals(model, data, params)
    recipe = replace(recipe, evaluation_rows=data.evaluated_rows, checks=1, repeats=n_visits / n)
    if n_visits > n:
        data = data._replace(rows=repeated(visits, in_use))
    return start._replace(model=model, params=params), data, recipe


def typical_share(model: LinearModel, y: np.ndarray, bound: float) -> float:
    """The share of the bound of the curvature that a loss has over typical deviations of y, at most one.

    Where a loss has a kink, one over these deviations stands for both. Huber's loss is flat where y is far off: by its bound,
    rows would count as far stiffer than they are.
    """
    if has_kink(model.loss):
        return typical_curvature(model.loss, y)
    if declared(model.loss).task != "regression" or declared(model.loss).link != "identity":
        return 1.0
    losses = RowLosses.of(model.loss, y[:: -(-len(y) // EXAMINED)], model.n_outputs)
    if losses.one is None:
        return 1.0
    return min(1.0, float(slope_curvature(losses.one, typical_deviations(losses.y)).max()) / bound)


def _visits(stiffness: np.ndarray, in_use: np.ndarray) -> np.ndarray:
    """How often an epoch comes to each row: in proportion to one plus its stiffness (Qu, Richtarik and Zhang 2015)."""
    each = np.zeros_like(stiffness)
    each[in_use] = stiffness[in_use]
    return visits_of_rows(each, APART * float(each[in_use].mean()))[1]


def _mean_stored(squares: sparse.csr_matrix) -> np.ndarray:
    """The mean of the stored squares of each feature; of one without any, that of all."""
    counts = np.bincount(squares.indices, minlength=squares.shape[1])
    sums = np.bincount(squares.indices, squares.data, squares.shape[1])
    usual = float(squares.data.mean()) if squares.nnz else 0.0
    return np.divide(sums, counts, where=sums > 0, out=np.full(len(sums), usual or 1.0))


def _from_residuals(model: LinearModel, data: Data, params: np.ndarray) -> np.ndarray:
    """Params whose coefficients follow from the dual variables in the table, which are written there.

    Coefficients that are given belong to dual variables only if they are optimal. So these are taken from the residuals at the
    coefficients, and give others, the closer the nearer the optimum is. Where they are worse than none, all start at zero.
    """
    coef, intercept = params[0, :, :-1], params[0, :, -1]
    assert data.table is not None
    assert data.written is not None
    in_use, evaluated, optimizer = data.rows_in_use, data.evaluated_rows, model.optimizer
    backend, X = backends.choose(model.device), data.written[in_use]
    raw = np.asarray(raw_outputs(X, coef, intercept), np.float64)
    duals = -backend.residuals(model.loss, raw, data.y[in_use], data.weights_of(in_use))
    implied = optimizer.unit() * np.asarray(X.T @ duals).T + optimizer.share() * coef
    none = np.zeros_like(coef)
    starts = [model.axes.outside(w, intercept) for w in (optimizer.shrunk(implied), none)]
    objectives = [sum(model.objective(data, evaluated, predictor)) for predictor in starts]
    params = params.copy()
    if objectives[0] < objectives[1]:
        params[0, :, :-1], data.table[in_use, 2:] = implied, duals
    else:
        params[:, :, :-1] = none
    return params
