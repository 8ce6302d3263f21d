"""The coordinates and the smoothness of an estimator's rows, in one go and on a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skminibatch._data import Data
from skminibatch._models import LinearModel
from skminibatch._plan import Coordinates
from skminibatch._statistics import (
    OF_NOISE,
    OF_RESERVOIR,
    RESERVOIR,
    Moments,
    Reservoir,
    Smoothness,
    gentle_coordinates,
    mean_and_squares,
    sample_rows,
    sparse_coordinates,
    standard_coordinates,
    stream,
    within,
)
from skminibatch.backends import computed, is_sparse

FEWEST_LOOKS, MOST_LOOKS = 4, 32  # micro-batches that are looked at in training
MOST_TOGETHER = 256  # rows in these
LOOK_COST = 20  # rows of training that the look at a row is charged to
FEWEST_BETWEEN = 15_000  # rows between two looks, each of which takes a fraction of a millisecond by itself
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
    for some, X in data.to_compute(data.rows_in_use):
        weights = data.weights[some] if data.weights.size else np.ones(X.shape[0])
        if is_sparse(X):
            moments = moments.updated(X, weights)
        else:
            moments = moments.merged(float(weights.sum()), *computed(mean_and_squares, X, weights))
    return moments


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
    model, rows = _looked_at(model, sampled)
    statistics = model.gradient_statistics(data, [rows], *predicts, population)
    if statistics.sizes.sum() < 2:
        return np.inf
    square_norm, trace = statistics.moments()
    return float(trace / square_norm) if square_norm > 0 else np.inf


def noise_of_micro_batches(
    model, data: Data, predicts: tuple, batch_size: float, samples: int, seed: int
) -> tuple[float, float] | None:
    """``(|G|^2, tr Sigma)`` where training stands, of a model that couples the rows of a batch; None: not now.

    From a few micro-batches as large as the batches, where these are not too large, after the first epoch and then so seldom
    that looking costs less than a tenth of training. `samples` were seen so far, those of the epoch that is over included.
    """
    together = int(min(batch_size, MOST_TOGETHER, data.n_rows // FEWEST_LOOKS))
    due = max(LOOK_COST * FEWEST_LOOKS * together, FEWEST_BETWEEN)
    before = samples - data.n_rows
    if together < 2 or (before > 0 and samples // due == before // due):
        return None
    count = min(max(data.n_rows // (LOOK_COST * together), FEWEST_LOOKS), MOST_LOOKS)
    rng = stream(seed, OF_NOISE, samples)
    rows = rng.permutation(sample_rows(data.X.shape[0], count * together, rng, data.rows))
    model = replace(model, micro_batch=together)
    signal, variance = model.seen_in_training(data, rows, *predicts, data.n_rows).moments()
    return float(signal), float(variance)


def _looked_at(model, rows: np.ndarray) -> tuple:
    """The model that looks at some rows, and these, in random order where a normalization couples them."""
    if model.couples_rows:
        rows = np.random.Generator(np.random.Philox(key=0)).permutation(rows)
    return model.in_micro_batches(len(rows)), rows


def _peak_batch_size(model: LinearModel, data: Data, sampled: np.ndarray, predicts: tuple) -> float:
    """``(pi / 2) tr(H) / sum_(i != j) H_ij z_i z_j`` with ``z = mu / sigma`` of each coordinate (Li et al. 2024).

    Infinite where the sum is not positive: then no batch is too large. Coordinates without noise are left out.
    """
    model, rows = _looked_at(model, sampled)
    at = (data, rows, *predicts)
    mean, variance = model.gradient_moments(*at)
    if not model.optimizer.decoupled:
        mean = mean + model.penalty_gradient(*predicts)
    z = np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0)
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
    same_kind = same_kind and is_sparse(old.reservoir.X) == is_sparse(data.X)
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
