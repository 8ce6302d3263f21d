"""The noise of the gradient at the current parameters, from the rows or from micro-batches."""

from __future__ import annotations

import numpy as np

from skminibatch.models.gradients import Gradients
from skminibatch.statistics.random import OF_NOISE, sample_rows, stream

FEWEST_MICRO_BATCHES, MOST_MICRO_BATCHES = 4, 32  # in one measurement during training
MOST_ROWS_EACH = 256  # in a micro-batch
COST_OF_A_ROW = 20  # rows of training that a measured row is charged to
FEWEST_ROWS_BETWEEN = 15_000  # two measurements, each of which takes a fraction of a millisecond however small it is


def noise_scale_of(gradients: Gradients, population: float = np.inf) -> float:
    """The noise scale of `population` rows from the gradients of a sample of them; infinite where G may be zero."""
    if len(gradients.rows) < 2:
        return np.inf
    gradients = gradients.in_observations()
    statistics = gradients.statistics([gradients.rows], population)
    if statistics.sizes.sum() < 2:
        return np.inf
    square_norm, trace = statistics.moments()
    return float(trace / square_norm) if square_norm > 0 else np.inf


def noise_of_micro_batches(
    gradients: Gradients, batch_size: float, samples: int, seed: int
) -> tuple[float, float] | None:
    """``(|G|^2, tr Sigma)`` of a model that couples the rows of a batch; None where no measurement is due.

    It is measured in a few micro-batches as large as the batches, where these are not too large: after the first epoch, and
    then so seldom that it takes less than a tenth of the time of training. `samples` is the number of rows seen so far, those
    of the epoch that has just ended included.
    """
    data = gradients.data
    n_each = int(min(batch_size, MOST_ROWS_EACH, data.n_rows // FEWEST_MICRO_BATCHES))
    interval = max(COST_OF_A_ROW * FEWEST_MICRO_BATCHES * n_each, FEWEST_ROWS_BETWEEN)
    before = samples - data.n_rows
    if n_each < 2 or (before > 0 and samples // interval == before // interval):
        return None
    count = min(max(data.n_rows // (COST_OF_A_ROW * n_each), FEWEST_MICRO_BATCHES), MOST_MICRO_BATCHES)
    rng = stream(seed, OF_NOISE, samples)
    rows = rng.permutation(sample_rows(data.X.shape[0], count * n_each, rng, data.rows))
    signal, variance = gradients.in_micro_batches_of(n_each).on(rows).quick_statistics().moments()
    return float(signal), float(variance)
