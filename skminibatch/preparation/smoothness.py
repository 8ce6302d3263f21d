"""The coordinates and the smoothness of an estimator's rows, in one go and on a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skminibatch.backends import map_on_device
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.coordinates import Coordinates
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.statistics.features import (
    Moments,
    gentle_coordinates,
    mean_and_squares,
    sparse_coordinates,
    standard_coordinates,
    within,
)
from skminibatch.statistics.random import OF_RESERVOIR, stream
from skminibatch.statistics.reservoir import RESERVOIR, Reservoir
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.noise import _looked_at, noise_at

ROUNDING = 1e-12  # of what the coordinates have by themselves: less in common is nothing


def choose_coordinates(
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
    dense = not is_sparse(data.X)
    if standardize:
        moments = _with_all_rows(moments, data)
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


def _with_all_rows(moments: Moments, data: Data) -> Moments:
    """The moments with those of all rows in use; dense ones are looked at where they are."""
    for some, X in data.portions_to_compute(data.rows_in_use):
        weights = data.weights[some] if data.weights.size else np.ones(X.shape[0])
        if is_sparse(X):
            moments = moments.updated(X, weights)
        else:
            moments = moments.merged(float(weights.sum()), *map_on_device(mean_and_squares, X, weights))
    return moments


def used(data: Data) -> tuple:
    """X, y and weights (None: equal) of the rows in use."""
    return data.X if data.rows is None else data.X[data.rows], *data.targets


def first_smoothness(model: LinearModel, data: Data, sampled: np.ndarray, params: np.ndarray, seed: int):
    """The smoothness of the rows of `fit`, and a sample of them, should a stream follow."""
    smooth = model.smoothness(data, sampled, model.predictor(params, None)[1])
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
    return {rule.reads: FIRST[rule.reads](model, data, sampled, model.predictor(params, None))}


def _peak_batch_size(model: LinearModel, data: Data, sampled: np.ndarray, predictor: tuple) -> float:
    """``(pi / 2) tr(H) / sum_(i != j) H_ij z_i z_j`` with ``z = mu / sigma`` of each coordinate (Li et al. 2024).

    Infinite where the sum is not positive: then no batch is too large. Coordinates without noise are left out.
    """
    model, rows = _looked_at(model, sampled)
    at = (data, rows, *predictor)
    mean, variance = model.gradient_moments(*at)
    if not model.optimizer.decoupled:
        mean = mean + model.penalty_gradient(*predictor)
    z = np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0)
    curvatures = model.hessian_diagonal(*at)
    own = float(curvatures @ z**2)
    mass = float(z @ (model.hessian(*at) @ z)) - own
    return float(np.pi / 2.0 * curvatures.sum() / mass) if mass > ROUNDING * own else np.inf


FIRST = {"noise_scale": noise_at, "peak_batch_size": _peak_batch_size}


def stream_smoothness(model: LinearModel, data: Data, params, old, seed: int, epoch: int):
    """The sample of a stream with some new rows, and the smoothness that it shows: (Reservoir, SmoothnessConstants).

    `old` is what was fitted before, or None.
    """
    rng = stream(seed, OF_RESERVOIR, epoch)
    arrays = used(data)
    same_kind = old is not None and old.reservoir is not None
    same_kind = same_kind and is_sparse(old.reservoir.X) == is_sparse(data.X)
    if not same_kind:
        reservoir = Reservoir.of(*arrays, data.n_rows, rng)
    else:
        reservoir = old.reservoir.updated(*arrays, rng)
        if not reservoir.due and model.at_home(old.model):
            return reservoir, old.smoothness
    sample = Data(reservoir.X, reservoir.y, reservoir.weights)
    rows = np.arange(reservoir.keys.size)
    smooth = model.smoothness(sample, rows, model.predictor(params, None)[1])
    return reservoir._replace(estimated_at=reservoir.seen), smooth


def stiffness_of(smooth: SmoothnessConstants | None) -> dict[str, float]:
    """What the state of training knows of the smoothness, whatever the batch size."""
    return {} if smooth is None else {"typical": smooth.typical, "unit": smooth.unit}
