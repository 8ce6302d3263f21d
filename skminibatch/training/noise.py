"""The noise of the gradient where training stands, from the rows or from micro-batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.statistics.random import OF_NOISE, sample_rows, stream

FEWEST_LOOKS, MOST_LOOKS = 4, 32  # micro-batches that are looked at in training
MOST_TOGETHER = 256  # rows in these
LOOK_COST = 20  # rows of training that the look at a row is charged to
FEWEST_BETWEEN = 15_000  # rows between two looks, each of which takes a fraction of a millisecond by itself


def noise_at(
    model: LinearModel, data: Data, sampled: np.ndarray, predictor: tuple, population: float = np.inf
) -> float:
    """The noise scale of `population` rows from a sample of them, given the predictor; infinite where G may be zero."""
    if len(sampled) < 2:
        return np.inf
    model, rows = _looked_at(model, sampled)
    statistics = model.gradient_statistics(data, [rows], *predictor, population)
    if statistics.sizes.sum() < 2:
        return np.inf
    square_norm, trace = statistics.moments()
    return float(trace / square_norm) if square_norm > 0 else np.inf


def noise_of_micro_batches(
    model, data: Data, predictor: tuple, batch_size: float, samples: int, seed: int
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
    signal, variance = model.seen_in_training(data, rows, *predictor, data.n_rows).moments()
    return float(signal), float(variance)


def _looked_at(model, rows: np.ndarray) -> tuple:
    """The model that looks at some rows, and these, in random order where a normalization couples them."""
    if model.couples_rows:
        rows = np.random.Generator(np.random.Philox(key=0)).permutation(rows)
    return model.in_micro_batches(len(rows)), rows
