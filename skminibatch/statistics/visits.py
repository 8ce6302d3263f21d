"""Rows that are visited several times per epoch, each time with a share of their weight.

A step follows the mean gradient of its batch at a rate that suits usual rows. A row of unusual length or weight would be moved
further than to its optimum. If the rate of its step were lowered instead, exactly the gradients of such rows would be shrunk,
and training would converge to another point. So it comes several times: the sum of its gradients is the same, and no batch is
stiff.
"""

from __future__ import annotations

import numpy as np

LONGER = 0.25  # of an epoch, for the second and later visits of rows


def visits_of_rows(each: np.ndarray, limit: float, more: float | None = None) -> tuple[float, np.ndarray]:
    """How often an epoch visits each row, and what the smoothness is raised by: (factor, int64 of shape (n,)).

    A row comes as often as its smoothness exceeds the limit. Where that would be too many visits, the smoothness, and the limit
    with it, is raised.

    Parameters
    ----------
    each : ndarray of shape (n,)
        The smoothness of each row in use; rows of zero do not matter.
    limit : float
        That of a row that a step can take, usually the batch size times the smoothness of a batch.
    more : float or None
        Visits in addition to the first ones, at most; None: a share of `LONGER` of the rows.
    """
    more = LONGER * np.count_nonzero(each) if more is None else more
    if each.max(initial=0.0) <= limit:
        return 1.0, np.ones(len(each), np.int64)
    factor = 1.0
    while True:
        visits = np.maximum(np.ceil(each / (factor * limit)), 1.0)
        if np.sum(visits - 1.0) <= more:
            return factor, visits.astype(np.int64)
        factor *= 2.0


def repeated(visits: np.ndarray, rows_in_use: np.ndarray) -> np.ndarray:
    """The rows with repetitions that are spread evenly: those of row i stand ``n / visits[i]`` places apart.

    `visits` are those of all rows of the data.
    """
    counts = visits[rows_in_use]
    often = np.flatnonzero(counts > 1)
    if not often.size:
        return rows_in_use
    n = len(rows_in_use)
    places = [place + n * np.arange(1, counts[place]) // counts[place] for place in often]
    rows_again = np.repeat(rows_in_use[often], counts[often] - 1)
    return np.insert(rows_in_use, np.concatenate(places) % n, rows_again)
