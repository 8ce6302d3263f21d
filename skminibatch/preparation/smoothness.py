"""The coordinates of training and the smoothness of the loss in them, for the rows of a fit and on a stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skminibatch.backends import map_on_device
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.kinds import declared
from skminibatch.contract.typing import AnyPart
from skminibatch.models.data import Data
from skminibatch.models.gradients import Gradients
from skminibatch.models.linear import LinearModel
from skminibatch.preparation.start import Start
from skminibatch.statistics.features import (
    Moments,
    gentle_coordinates,
    mean_and_squares,
    sparse_coordinates,
    standard_coordinates,
    within,
)
from skminibatch.statistics.reservoir import RESERVOIR, Reservoir
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.noise import noise_scale_of

ROUNDING = 1e-12  # relative size below which the sum of the off-diagonal terms is taken as zero


def choose_coordinates(
    kind: str, model: LinearModel, data: Data, sampled: np.ndarray, moments: Moments, old: Coordinates | None
) -> tuple[LinearModel, Moments]:
    """The model in coordinates that suit the features, and the statistics of these.

    Parameters
    ----------
    kind : {'gentle', 'standard'}
        'standard' standardises every feature, which takes the statistics of all rows. 'gentle' only evens out the features,
        so that an automatic rate suits all of them; it needs the rows in `sampled` only.
    old : Coordinates or None
        Those of the calls before, on a stream.
    """
    dense = not is_sparse(data.X)
    if kind == "standard":
        moments = _with_all_rows(moments, data)
        return replace(
            model, coordinates=standard_coordinates(moments, model.dtype, dense and model.fit_intercept)
        ), moments
    moments = moments.updated(data.X[sampled], data.weights[sampled] if data.weights.size else None)
    if dense:
        axes = gentle_coordinates(moments, model.dtype, model.fit_intercept, old)
    else:
        axes = sparse_coordinates(moments, model.dtype, old)
    return replace(model, coordinates=within(axes, model.largest_stretch())), moments


def _with_all_rows(moments: Moments, data: Data) -> Moments:
    """The moments with those of all rows in use; dense rows are read where they are."""
    for rows, X in data.portions_to_compute(data.rows_in_use):
        weights = data.weights[rows] if data.weights.size else np.ones(X.shape[0])
        if is_sparse(X):
            moments = moments.updated(X, weights)
        else:
            moments = moments.merged(float(weights.sum()), *map_on_device(mean_and_squares, X, weights))
    return moments


def first_smoothness(start: Start) -> tuple[SmoothnessConstants | None, Reservoir]:
    """The smoothness of the rows of `fit`, and a sample of them for the stream that may follow."""
    data, sampled = start.data, start.sampled
    smoothness = start.gradients.smoothness()
    kept = sampled[:: -(-len(sampled) // RESERVOIR)]
    weights = data.weights[kept] if data.weights.size else None
    rng = np.random.default_rng(start.seed)
    return smoothness, Reservoir.of(data.X[kept], data.y[kept], weights, data.n_rows, rng)


def stream_smoothness(
    start: Start, reservoir: Reservoir | None, known: SmoothnessConstants | None, rng: np.random.Generator
) -> tuple[SmoothnessConstants | None, Reservoir]:
    """The smoothness of a stream, and the sample of its rows with some of the new ones.

    Parameters
    ----------
    reservoir : Reservoir or None
        The sample so far.
    known : SmoothnessConstants or None
        That of the sample so far in the same coordinates, kept until a new estimate is due.
    """
    data = start.data
    rows = data.X if data.rows is None else data.X[data.rows], *data.targets
    if reservoir is None or is_sparse(reservoir.X) != is_sparse(data.X):
        reservoir = Reservoir.of(*rows, data.n_rows, rng)
    else:
        reservoir = reservoir.updated(*rows, rng)
        if known is not None and not reservoir.due:
            return known, reservoir
    sample = Data(reservoir.X, reservoir.y, reservoir.weights)
    smoothness = start.gradients.on_data(sample).smoothness()
    return smoothness, reservoir._replace(estimated_at=reservoir.seen)


def first_statistic(start: Start, rule: AnyPart | None) -> dict[str, Any]:
    """The statistic that a scaling rule reads at the start, as a field of the state of training, from the sample.

    Infinite where it cannot be measured.
    """
    reads = None if rule is None else declared(rule).reads
    if reads is None:
        return {}
    return {reads: FIRST[reads](start.gradients)}


def _peak_batch_size(gradients: Gradients) -> float:
    """``(pi / 2) tr(H) / sum_(i != j) H_ij z_i z_j`` with ``z = mu / sigma`` of each coordinate (Li et al. 2024).

    Infinite where the sum is not positive: then no batch is too large. Coordinates without noise are left out.
    """
    gradients = gradients.in_observations()
    mean, variance = gradients.moments()
    if not declared(gradients.model.optimizer).decoupled:
        mean = mean + gradients.penalty_gradient()
    z = np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0)
    curvatures = gradients.hessian_diagonal()
    diagonal = float(curvatures @ z**2)
    off_diagonal = float(z @ (gradients.hessian() @ z)) - diagonal
    return float(np.pi / 2.0 * curvatures.sum() / off_diagonal) if off_diagonal > ROUNDING * diagonal else np.inf


FIRST = {"noise_scale": noise_scale_of, "peak_batch_size": _peak_batch_size}
