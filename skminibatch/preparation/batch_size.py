"""What is found out before the training proper: the batch size of 'auto', by a pilot or, for SAGA, by its theory."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.optimizers.saga import saga_batch_size
from skminibatch.preparation.smoothness import stiffness_of
from skminibatch.samplers import Shuffle
from skminibatch.schedules import ConstantSize
from skminibatch.schedules.auto import PILOT
from skminibatch.schedules.step_costs import load
from skminibatch.statistics.random import EXAMINED, OF_PILOT, sample_rows, stream
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.training.chunks import smallest_batch_of
from skminibatch.training.loop import run_part
from skminibatch.training.noise import noise_at
from skminibatch.training.state import Diverged, Recipe, TrainState

ROWS_A_PILOT, MOST_PILOTS = 50_000, 3  # where there are many rows, their pilots cost little: the middle one counts


def chosen_size(
    part: tuple,
    model: LinearModel,
    data: Data,
    sampled: np.ndarray,
    params: np.ndarray,
    schedule: tuple,
    smooth: SmoothnessConstants | None,
    n_rows: float,
    seed: int,
    memory,
) -> tuple[ConstantSize, str]:
    """The size that ``batch_size='auto'`` takes for rows like those in `sampled`, and why; `params` stay as they are.

    It is no less than a row of each stratum, where a sampler with the given memory draws from strata.
    """
    fewest = smallest_batch_of(memory)
    if sampled.size < PILOT:
        size = min(max(PILOT, fewest), n_rows)
        return ConstantSize(float(size)), f"batch_size='auto' took {size:g} rows: there were too few to tell the noise"
    count = max(1, min(data.n_rows // ROWS_A_PILOT, MOST_PILOTS))
    samples = [sample_rows(data.X.shape[0], EXAMINED, stream(seed, OF_PILOT, k), data.rows) for k in range(1, count)]
    settings = (params, schedule, smooth)
    noises = [noise_scale_after_a_pass(model, data, s, *settings, seed + k) for k, s in enumerate([sampled, *samples])]
    noise = float(np.median(noises))
    size, why = part.chosen(noise, n_rows, *model.cost_of_rows(data))
    if size < fewest:
        size, why = fewest, f"batch_size='auto' took {fewest} rows: one of each stratum"
    return ConstantSize(float(size)), why


def derived_size(part: tuple, model: LinearModel, data: Data, smooth: SmoothnessConstants) -> tuple[ConstantSize, str]:
    """The size that ``batch_size='auto'`` takes for an optimizer with a table, and why."""
    row_length, kind = model.cost_of_rows(data)
    costs = load(part.costs, kind)
    known = (costs.batch_sizes, costs.of(row_length))
    size = saga_batch_size(smooth, model.strong_convexity(), data.n_rows, known)
    return ConstantSize(float(size)), (
        f"batch_size='auto' took {size} rows: by the smoothness of batches (Gazagnadou et al. 2019) and the time of a step"
    )


def noise_scale_after_a_pass(model, data, sampled, params, schedule, smooth, seed) -> float:
    """The noise scale of some rows after a pass over them; infinite where their gradient is zero, or training fails."""
    model, some, params = _small(model, data, sampled, params)
    n = sampled.size
    recipe = Recipe(Shuffle(), schedule, ConstantSize(float(PILOT)), smoothness=smooth)
    memory = recipe.sampler.start(n, None, seed)
    state = TrainState(**stiffness_of(smooth), population=float(n), sampler_memory=memory)
    try:
        state, _, _ = run_part(model, some, params, recipe, state, n, n)
    except Diverged:
        return np.inf
    return noise_at(model, some, np.arange(n), model.predictor(params, state.coefficients), n)


def _small(model, data: Data, sampled: np.ndarray, params: np.ndarray):
    """(model, data, params) of some rows alone; of a linear model on sparse rows, with the features that occur in them."""
    X, y, weights = data.X[sampled], data.y[sampled], data.weights[sampled] if data.weights.size else data.weights
    if not (sparse.issparse(X) and hasattr(model, "of_features")):
        return model, Data(X, y, weights), params.copy()
    features, indices = np.unique(X.indices, return_inverse=True)
    X = sparse.csr_matrix((X.data, indices.astype(X.indptr.dtype), X.indptr), (X.shape[0], len(features)))
    model, params = model.of_features(features, params)
    return model, Data(X, y, weights), params
