"""The coordinates and the smoothness of an estimator's rows, in one go and on a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from skminibatch._models import Data, LinearModel
from skminibatch._plan import Coordinates
from skminibatch._statistics import (
    OF_RESERVOIR,
    RESERVOIR,
    Moments,
    Reservoir,
    Smoothness,
    gentle_coordinates,
    sparse_coordinates,
    standard_coordinates,
    stream,
    within,
)

ROUNDING = 1e-12  # of what the coordinates have by themselves: less in common is nothing


def placed(
    model: LinearModel,
    data: Data,
    sampled: np.ndarray,
    moments: Moments,
    old: Coordinates | None,
    standardize: bool,
    automatic: bool,
) -> tuple[LinearModel, Moments]:
    """The model in coordinates that suit the features, and the statistics of these.

    Standardising looks at every row; the coordinates of an automatic rate need those in `sampled` only.
    """
    dense = not sparse.issparse(data.X)
    if standardize:
        X, _, weights = used(data)
        moments = moments.updated(X, weights)
        axes = standard_coordinates(moments, model.dtype, dense and model.fit_intercept)
    elif automatic:
        moments = moments.updated(data.X[sampled], data.weights[sampled] if data.weights.size else None)
        if dense:
            axes = gentle_coordinates(moments, model.dtype, model.fit_intercept, old)
        else:
            axes = sparse_coordinates(moments, model.dtype, old)
        axes = within(axes, model.largest_stretch())
    else:
        return model, moments
    return replace(model, coordinates=axes), moments


def used(data: Data) -> tuple:
    """X, y and weights (None: equal) of the rows in use."""
    return data.X if data.rows is None else data.X[data.rows], *data.targets


def first_smoothness(model: LinearModel, data: Data, sampled: np.ndarray, params: np.ndarray, seed: int):
    """The smoothness of the rows of `fit`, and a sample of them, should a stream follow."""
    smooth = model.smoothness(data, sampled, model.what_predicts(params, None)[1])
    few = sampled[:: -(-len(sampled) // RESERVOIR)]
    weights = data.weights[few] if data.weights.size else None
    return smooth, Reservoir.of(data.X[few], data.y[few], weights, data.n_rows, np.random.default_rng(seed))


def first_statistic(
    model: LinearModel, data: Data, sampled: np.ndarray, params: np.ndarray, rule: tuple | None
) -> dict[str, float]:
    """What a scaling rule reads, at the start, from a sample of the rows: the name in the state, and its value.

    Infinite where nothing is known.
    """
    if rule is None or rule.reads is None:
        return {}
    return {rule.reads: FIRST[rule.reads](model, data, sampled, model.what_predicts(params, None))}


def noise_at(model: LinearModel, data: Data, sampled: np.ndarray, predicts: tuple, population: float = np.inf) -> float:
    """The noise scale of `population` rows from a sample of them, given what predicts; infinite where G may be zero."""
    if len(sampled) < 2:
        return np.inf
    statistics = model.gradient_statistics(data, [sampled], *predicts, population)
    square_norm, trace = statistics.moments()
    return float(trace / square_norm) if square_norm > 0 else np.inf


def _peak_batch_size(model: LinearModel, data: Data, sampled: np.ndarray, predicts: tuple) -> float:
    """``(pi / 2) tr(H) / sum_(i != j) H_ij z_i z_j`` with ``z = mu / sigma`` of each coordinate (Li et al. 2024).

    Infinite where the sum is not positive: then no batch is too large. Coordinates without noise are left out.
    """
    at = (data, sampled, *predicts)
    mean, variance = model.gradient_moments(*at)
    if not model.optimizer.decoupled:
        mean[:, :-1] += model.penalty_gradient(at[2])
    z = np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0)
    z = (z if model.fit_intercept else z[:, :-1]).ravel()
    curvatures = model.hessian_diagonal(*at)
    own = float(curvatures @ z**2)
    mass = float(z @ (model.hessian(*at) @ z)) - own
    return float(np.pi / 2.0 * curvatures.sum() / mass) if mass > ROUNDING * own else np.inf


FIRST = {"noise_scale": noise_at, "peak_batch_size": _peak_batch_size}


def stream_smoothness(model: LinearModel, data: Data, params, old, seed: int, epoch: int):
    """The sample of a stream with some new rows, and the smoothness that it shows: (Reservoir, Smoothness).

    `old` is what was fitted before, or None.
    """
    rng = stream(seed, OF_RESERVOIR, epoch)
    arrays = used(data)
    same_kind = old is not None and old.reservoir is not None
    same_kind = same_kind and sparse.issparse(old.reservoir.X) == sparse.issparse(data.X)
    if not same_kind:
        reservoir = Reservoir.of(*arrays, data.n_rows, rng)
    else:
        reservoir = old.reservoir.updated(*arrays, rng)
        if not reservoir.due and model.at_home(old.model):
            return reservoir, old.smoothness
    sample = Data(reservoir.X, reservoir.y, reservoir.weights)
    rows = np.arange(reservoir.keys.size)
    smooth = model.smoothness(sample, rows, model.what_predicts(params, None)[1])
    return reservoir._replace(estimated_at=reservoir.seen), smooth


def stiffness_of(smooth: Smoothness | None) -> dict[str, float]:
    """What the state of training knows of the smoothness, whatever the batch size."""
    return {} if smooth is None else {"typical": smooth.typical, "unit": smooth.unit}
