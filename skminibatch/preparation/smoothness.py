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
from skminibatch.models.curvature import curvature_bounds, has_kink
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
from skminibatch.statistics.sketch import Sketch, mean_square_length
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.noise import noise_scale_of

ROUNDING = 1e-12  # relative size below which the sum of the off-diagonal terms is taken as zero


def choose_coordinates(
    kind: str, model: LinearModel, data: Data, sampled: np.ndarray, moments: Moments, old: Coordinates | None
) -> tuple[LinearModel, Moments]:
    """The model in coordinates that suit the features, and the statistics of these.

    Parameters
    ----------
    kind : {'gentle', 'standard', 'centered'}
        'standard' standardises every feature, which takes the statistics of all rows. 'gentle' only evens out the features,
        so that an automatic rate suits all of them; 'centered' moves those of dense rows. They need the rows in `sampled` only.
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
    if kind == "centered":
        if dense and model.fit_intercept:
            ones = np.ones(model.n_features, model.dtype)
            model = replace(model, coordinates=Coordinates(moments.mean.astype(model.dtype), ones, ones))
        return model, moments
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


def stream_smoothness(
    start: Start, sketch: Sketch, known: SmoothnessConstants | None, moments: Moments, rng: np.random.Generator
) -> tuple[SmoothnessConstants, Sketch]:
    """The smoothness of a stream for a chunk of its rows, and the sketch of it with these rows.

    A rate must not depend on the rows of its own steps, or the step would not follow the gradient in the mean. So the
    smoothness is that of the rows before, except where there were none.

    Parameters
    ----------
    sketch : Sketch
        Of the rows before.
    known : SmoothnessConstants or None
        That of the last call, for the same objective; it is kept until a new estimate is due.
    moments : Moments
        Those of the features before the chunk, or with it where there was none.
    """
    model = start.model
    assert isinstance(model, LinearModel)
    axes, fit_intercept, ridge = model.plain_axes, model.fit_intercept, model.ridge()
    moved = not axes.same_as(sketch.axes)
    if moved:
        lengths = [mean_square_length(moments, each, fit_intercept) for each in (sketch.axes, axes)]
        ratio = lengths[1] / lengths[0] if min(lengths) > 0 else 1.0
        sketch, known = sketch.inside(axes, ratio), known and known.scaled(ratio)
    sketch = sketch._replace(axes=axes)  # not the equal ones of the last call, which would be kept beside the model's
    after = _with_chunk(sketch, start, rng)
    source = sketch if sketch.seen or known else after
    if known is None or source.due or (moved and sketch.seen >= sketch.estimated_at):
        known = source.smoothness(ridge, fit_intercept, moments)
        after = after.estimated(source.seen)
    return known, after


def _with_chunk(sketch: Sketch, start: Start, rng: np.random.Generator) -> Sketch:
    """The sketch with a chunk of rows."""
    data, model = start.data, start.model
    assert isinstance(model, LinearModel)
    follows = declared(model.loss).curvature is None and declared(model.loss).brings("stiffness")
    intercept = start.predictor[1] if follows else np.zeros(model.n_outputs)  # which is read in the first case only
    y, weights = data.targets
    curvatures = curvature_bounds(model.loss, y, intercept)
    curvatures = curvatures if weights is None else curvatures * weights
    if follows and not sketch.seen:  # an event may be the first after a long time, and no rate of zeros would suit it
        sketch = sketch.with_curvatures(curvature_bounds(model.loss, np.ones_like(y[:1]), intercept), follows)
    rows, sketch = sketch.with_curvatures(curvatures, follows).drawn(data.n_rows, rng)
    if not rows.size:
        return sketch
    X, targets = data.X[rows if data.rows is None else data.rows[rows]], y[rows] if has_kink(model.loss) else None
    return sketch.with_rows(X, model.axes.transform(X), curvatures[rows], targets, model.fit_intercept)


def first_statistic(start: Start, rule: AnyPart | None, population: float) -> dict[str, Any]:
    """The statistic that a scaling rule reads at the start, as a field of the state of training, from the sample.

    It is that of the `population` rows that training draws from, as in later epochs; infinite where it cannot be measured.
    """
    reads = None if rule is None else declared(rule).reads
    if reads is None:
        return {}
    return {reads: FIRST[reads](start.gradients, population)}


def _peak_batch_size(gradients: Gradients, population: float) -> float:
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
