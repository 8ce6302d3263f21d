"""Visits of stiff rows: those that a step at the rate of usual rows would move too far come several times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.models.data import Data
from skminibatch.preparation.start import Start
from skminibatch.statistics.smoothness import SmoothnessConstants
from skminibatch.statistics.visits import repeated, visits_of_rows

APART = 2.0  # steps for each visit of the row that comes most often: two of its visits seldom meet in a batch
IN_ORDER = 0.5  # of the limit, on a stream: the next row may be the same once more
ALIKE = 1.25  # times the curvature of a usual batch: rows of a chunk that are more alike take smaller steps
EXAMINED_OF_A_CHUNK = 512  # rows
MORE_OF_A_STREAM, MORE_ROWS_OF_A_STREAM = 4.0, 256  # visits in addition to the first ones, for each row and in all


class Visits(NamedTuple):
    """The rows of an epoch, and what follows for its steps.

    Attributes
    ----------
    data : Data
        The rows with their repetitions, and the weights that they have in a step.
    factor : float
        What the smoothness is raised by, so that an epoch does not become too long.
    repeats : float
        Rows of an epoch over the rows in use.
    most_rows : float
        Rows of a step at most: a larger batch is cut into steps whose rates have its share. Less than a batch where a row comes
        so often that its visits would meet, or where the next rows of a stream are much alike.
    """

    data: Data
    factor: float = 1.0
    repeats: float = 1.0
    most_rows: float = np.inf


def visits_of(start: Start, smoothness: SmoothnessConstants | None, batch_size: float, population: float) -> Visits:
    """The visits of the rows of a fit, or of the next ones of a stream (whose population is not their number)."""
    data = start.data
    if smoothness is None:
        return Visits(data)
    n = data.n_rows
    usual = n / -(-n // min(batch_size, n))
    if usual == population:  # every step uses all rows: their mean alone matters
        return Visits(data)
    on_stream = population > n
    limit = (IN_ORDER if on_stream else 1.0) * usual * smoothness.of_batch(usual, population)
    each = np.zeros(data.X.shape[0])
    in_use = data.rows_in_use
    bounds = start.gradients.on(in_use).row_bounds()
    if bounds is None:
        return Visits(data)
    each[in_use] = smoothness.unit * bounds
    more = MORE_OF_A_STREAM * n + MORE_ROWS_OF_A_STREAM if on_stream else None
    factor, visits = visits_of_rows(each, limit, more)
    most, most_rows = int(visits[in_use].max()), np.inf
    if on_stream and n > 1:
        stiff = smoothness.unit * start.gradients.on(in_use[:EXAMINED_OF_A_CHUNK]).largest_eigenvalue()
        if IN_ORDER * stiff > ALIKE * factor * limit / usual:
            most_rows = max(1.0, factor * limit // stiff)
    if most > 1:
        rows = repeated(visits, in_use)
        weights = (data.weights if data.weights.size else 1.0) * (len(rows) / n) / visits
        data = data._replace(rows=rows, step_weights=weights)
        most_rows = min(most_rows, max(1.0, len(rows) // (APART * most)))
    return Visits(data, factor, data.n_rows / n, most_rows)
