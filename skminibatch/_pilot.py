"""What a short training on a sample of the rows tells before the training proper: the batch size of 'auto'."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skminibatch._models import Data, LinearModel
from skminibatch._scale import noise_at, stiffness_of
from skminibatch._statistics import Smoothness
from skminibatch._training import Diverged, Recipe, TrainState, run_part
from skminibatch.samplers import Shuffle
from skminibatch.schedules import ConstantSize
from skminibatch.schedules.auto import PILOT


def chosen_size(
    part: tuple,
    model: LinearModel,
    data: Data,
    sampled: np.ndarray,
    params: np.ndarray,
    schedule: tuple,
    smooth: Smoothness | None,
    n_rows: float,
    seed: int,
) -> tuple[ConstantSize, str]:
    """The size that ``batch_size='auto'`` takes for rows like those in `sampled`, and why; `params` stay as they are."""
    if sampled.size < PILOT:
        size = min(PILOT, n_rows)
        return ConstantSize(float(size)), f"batch_size='auto' took {size:g} rows: there were too few to tell the noise"
    noise = noise_scale_after_a_pass(model, data, sampled, params, schedule, smooth, seed)
    X = data.X
    row_length = X.nnz / X.shape[0] if sparse.issparse(X) else X.shape[1]
    storage = "csr" if sparse.issparse(X) else "dense"
    size, why = part.chosen(noise, n_rows, row_length * model.n_outputs, storage)
    return ConstantSize(float(size)), why


def noise_scale_after_a_pass(model, data, sampled, params, schedule, smooth, seed) -> float:
    """The noise scale of some rows after a pass over them; infinite where their gradient is zero, or training fails."""
    some, params, n = data._replace(rows=sampled), params.copy(), sampled.size
    recipe = Recipe(Shuffle(), schedule, ConstantSize(float(PILOT)), smoothness=smooth)
    memory = recipe.sampler.start(data.X.shape[0], sampled, seed)
    state = TrainState(**stiffness_of(smooth), population=float(n), sampler_memory=memory)
    try:
        state, _, _ = run_part(model, some, params, recipe, state, n, n)
    except Diverged:
        return np.inf
    return noise_at(model, some, sampled, model.what_predicts(params, state.coefficients), n)
