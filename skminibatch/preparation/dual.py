"""What a dual optimizer starts from: the table of dual variables, and the coefficients that follow from these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.kinds import declared
from skminibatch.models.curvature import curvature_bounds, has_kink, typical_curvature
from skminibatch.models.data import Data, raw_outputs, square_lengths_inside
from skminibatch.models.linear import LinearModel
from skminibatch.preparation.start import Start
from skminibatch.training.state import Recipe

# With the pull to where the coefficients were and the ridge, a row is about as stiff as n rows may be. Without an l1 penalty
# there is no pull where features are so many that they seldom meet, unless the loss has a kink.
FEATURES_PER_ROW = 0.25
# The spread of the intercept. A smaller one makes an epoch better, a larger one needs fewer epochs to settle the intercept.
SHARE_OF_LENGTH = 0.1  # of the mean squared length of a row, at least
OVER_RIDGE = 100.0  # times the ridge over the curvature of the loss, at least
LEAST_LENGTH = 1e-3  # of the mean squared length, what a row counts as: one without entries has a dual variable too


def with_dual(recipe: Recipe, start: Start) -> tuple[Start, Data, Recipe]:
    """The start, the rows with their table, and the recipe of a dual optimizer.

    The duality gap is of all rows, so that these are evaluated, once per epoch.
    """
    model, data, params = start.model, start.data, start.params
    assert isinstance(model, LinearModel)
    lengths, in_use = square_lengths_inside(data.X, model.axes), data.rows_in_use
    mean = float(lengths[in_use].mean()) or 1.0
    ridge, l1, curvature = model.strong_convexity(), model.l1(), typical_curvature(model.loss, data.y[in_use])
    stiffness = curvature * float(curvature_bounds(model.loss, data.y[in_use][:1], params[0, :1, -1:])[0]) * mean
    is_wide = not l1 and not has_kink(model.loss) and model.n_features >= FEATURES_PER_ROW * data.n_rows
    pull = 0.0 if is_wide else max(stiffness / data.n_rows - ridge, 0.0)
    spread = max(SHARE_OF_LENGTH * mean, OVER_RIDGE * (ridge + pull) / curvature)
    model = model.with_optimizer(declared(model.optimizer).of_objective(data.n_rows, ridge, spread, pull, l1))
    table = np.zeros((len(lengths), 2 + model.n_outputs))
    table[:, 0] = np.maximum(lengths, LEAST_LENGTH * mean)
    table[in_use, 1] = np.nan  # until the row is visited
    rows = data._replace(table=table)
    if not is_sparse(data.X) and model.device == "cpu":
        rows = rows._replace(written=sparse.csr_matrix(data.X))
    if params[0, :, :-1].any():
        params = _from_residuals(model, rows, params)
    recipe = replace(recipe, evaluation_rows=data.evaluated_rows, checks=1, is_bound=True)
    return start._replace(model=model, params=params), rows, recipe


def _from_residuals(model: LinearModel, data: Data, params: np.ndarray) -> np.ndarray:
    """Params whose coefficients follow from the dual variables in the table, which are written there.

    Coefficients that are given belong to dual variables only if they are optimal. So these are taken from the residuals at the
    coefficients, and give others, the closer the nearer the optimum is. Where they are worse than none, all start at zero.
    """
    coef, intercept = params[0, :, :-1], params[0, :, -1]
    assert data.table is not None
    in_use, evaluated, optimizer = data.rows_in_use, data.evaluated_rows, model.optimizer
    backend, X = backends.choose(model.device), data.X[in_use]
    raw = np.asarray(raw_outputs(X, coef, intercept), np.float64)
    duals = -backend.residuals(model.loss, raw, data.y[in_use], data.weights_of(in_use))
    implied = optimizer.unit() * np.asarray(X.T @ duals).T + optimizer.share() * coef
    none = np.zeros_like(coef)
    objectives = [sum(model.objective(data, evaluated, (w, intercept))) for w in (optimizer.shrunk(implied), none)]
    params = params.copy()
    if objectives[0] < objectives[1]:
        params[0, :, :-1], data.table[in_use, 2:] = implied, duals
    else:
        params[:, :, :-1] = none
    return params
