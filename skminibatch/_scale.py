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


def first_noise(model: LinearModel, data: Data, sampled: np.ndarray, params: np.ndarray, rule: tuple | None) -> float:
    """The noise scale at the start for a rule that uses it, infinite where nothing is known."""
    return (
        noise_at(model, data, sampled, model.what_predicts(params, None))
        if rule is not None and rule.uses_noise
        else np.inf
    )


def noise_at(model: LinearModel, data: Data, sampled: np.ndarray, predicts: tuple, population: float = np.inf) -> float:
    """The noise scale of `population` rows from a sample of them, given what predicts; infinite where G may be zero."""
    if len(sampled) < 2:
        return np.inf
    statistics = model.gradient_statistics(data, [sampled], *predicts, population)
    square_norm, trace = statistics.moments()
    return float(trace / square_norm) if square_norm > 0 else np.inf


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
