"""Stochastic gradients whose noise vanishes at the optimum, because each row's last gradient is remembered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import POSITIVE
from skminibatch.contract.kinds import declares

LONGER = 0.25  # of an epoch, for the second and later visits of rows


@declares(
    domains={"n_rows": POSITIVE}, slot_exponents=(1,), n_coefficients=2, linear=True, decoupled=True, per_row=True
)
class SAGA(NamedTuple):
    """Mini-batch SAGA (Defazio, Bach and Lacoste-Julien 2014, arXiv:1407.0202; Gazagnadou, Gower and Salmon 2019).

    ``w <- w - rate (g + m); m <- m + (b / n) g``, where g is the mean over the batch of the gradients of its rows *minus
    those stored* for them, and m the mean of all n stored gradients. The gradient of a row of a linear model is its
    residual times the row, so that one number for each row and output is stored: the loop keeps this table of n x K
    numbers of the parameters' type, and hands the differences on. The penalty is not part of what is stored. A row that
    comes twice in a batch counts once.

    ``n_rows`` is n, which `fit` fills in by `for_rows`.
    """

    n_rows: float = 1.0

    def auto_multiple(self):
        return 0.25

    def for_rows(self, n_rows):
        return self._replace(n_rows=float(n_rows))

    def coefficients(self, rates, sizes, memory):
        return np.column_stack([rates, sizes / self.n_rows]), memory

    def update(self, w, g, slots, c):
        return w - c[0] * (g + slots[0]), (slots[0] + c[1] * g,), c[0]


def saga_smoothness(smoothness, strong_convexity: float, batch_size: float, n_rows: float) -> float:
    """What a quarter is divided by for the step of mini-batch SAGA (Gazagnadou, Gower and Salmon 2019, arXiv:1902.00071).

    ``max(L(b), (n - b) / (b (n - 1)) L_max + mu n / (4 b))``, where L(b) is the expected smoothness of a batch: the first
    keeps a step from going too far, the second keeps stale residuals from being trusted too long.

    Parameters
    ----------
    smoothness : SmoothnessConstants
        Of the mean (L), of the worst row (L_max), and of a batch (L(b)), each with the share of the penalty.
    strong_convexity : float
        mu, a lower bound of the curvature of the objective; 0 where none is known.
    batch_size, n_rows : float
        b and n.

    Returns
    -------
    float
        In the unit of the smoothness.

    Examples
    --------
    >>> from skminibatch.statistics.smoothness import SmoothnessConstants
    >>> smoothness = SmoothnessConstants(mean=1.0, worst=10.0, typical=5.0)
    >>> saga_smoothness(smoothness, 1e-3, 1, 1_000)
    10.25
    >>> saga_smoothness(smoothness, 1e-3, 1_000, 1_000)
    1.0
    """
    n, b = max(float(n_rows), 2.0), float(min(batch_size, max(n_rows, 2.0)))
    stale = (n - b) / (b * (n - 1.0)) * smoothness.worst + strong_convexity * n / (4.0 * b)
    return float(max(smoothness.of_batch(b, n), stale))


def saga_batch_size(
    smoothness, strong_convexity: float, n_rows: int, costs: tuple[np.ndarray, np.ndarray] | None = None
) -> int:
    """The batch size at which mini-batch SAGA reads the fewest rows until it converges, or is done soonest.

    The number of steps is proportional to ``max(4 L(b) / mu, n / b + (n - b) / (b (n - 1)) 4 L_max / mu)`` (Gazagnadou, Gower
    and Salmon 2019, arXiv:1902.00071). Times b, the first grows and the second falls with b, both linearly, and they meet
    at ``1 + mu (n - 1) / (4 L)``: below, stale residuals hold SAGA up, above, larger batches bring nothing. The size is the
    whole number below. Where the time of a step is known, it takes the place of b, and the least of the products is taken.

    Parameters
    ----------
    smoothness : SmoothnessConstants
        Of the mean (L) and of the worst row, each with the share of the penalty.
    strong_convexity : float
        mu, a lower bound of the curvature of the objective: alpha for an l2 penalty. Without one (0), the size is 1.
    n_rows : int
    costs : tuple of two ndarrays of shape (n_sizes,), default=None
        Batch sizes, from which one of at most `n_rows` is taken, and the time of a step of each, in any unit. A step has a
        cost of its own, so that larger batches are sooner done than the fewest rows would have it.

    Returns
    -------
    int
        From 1 to `n_rows`.

    Examples
    --------
    >>> from skminibatch.statistics.smoothness import SmoothnessConstants
    >>> saga_batch_size(SmoothnessConstants(mean=1.0, worst=10.0, typical=5.0), 1e-3, 100_000)
    25
    >>> sizes = np.array([1, 16, 64, 256])
    >>> saga_batch_size(SmoothnessConstants(mean=1.0, worst=10.0, typical=5.0), 1e-3, 100_000, (sizes, 4.0 + 0.1 * sizes))
    64
    """
    if costs is not None:
        sizes = np.minimum(costs[0], n_rows)
        steps = [saga_smoothness(smoothness, strong_convexity, size, n_rows) for size in sizes]
        return int(sizes[np.argmin(np.array(steps) * costs[1])])
    best = 1.0 + strong_convexity * (n_rows - 1.0) / (4.0 * smoothness.mean)
    return int(min(max(best, 1.0), n_rows))


def saga_visits(each: np.ndarray, smoothness: float, batch_size: float) -> tuple[float, np.ndarray]:
    """How often an epoch visits each row, and what the smoothness is raised by: (factor, int64 of shape (n,)).

    What is stored of a row goes on moving the parameters until the row comes again. In an epoch that changes its raw output by
    the share ``rate L_i / b`` of the residual: for a row of unusual length, more than it should, and the step would have to
    follow the longest row. Instead, a row with ``L_i`` above ``b`` times the smoothness comes as often as it exceeds
    it, and each time the corresponding share of its change counts. Where that would make an epoch longer than by `LONGER`, the
    smoothness is raised.

    Parameters
    ----------
    each : ndarray of shape (n,)
        The smoothness of each row; rows of zero are not in use and do not matter.
    smoothness : float
        What `saga_smoothness` returns.
    batch_size : float
    """
    factor = 1.0
    while True:
        visits = np.maximum(np.ceil(each / (batch_size * factor * smoothness)), 1.0)
        if np.sum(visits - 1.0) <= LONGER * len(each):
            return factor, visits.astype(np.int64)
        factor *= 2.0


def repeated(visits: np.ndarray, rows: np.ndarray | None) -> np.ndarray | None:
    """The rows (None: all) with repetitions that are spread evenly: those of row i stand ``n / visits[i]`` places apart."""
    rows_in_use = np.arange(len(visits)) if rows is None else rows
    counts = visits[rows_in_use]
    often = np.flatnonzero(counts > 1)
    if not often.size:
        return rows
    n = len(rows_in_use)
    places = [place + n * np.arange(1, counts[place]) // counts[place] for place in often]
    rows_again = np.repeat(rows_in_use[often], counts[often] - 1)
    return np.insert(rows_in_use, np.concatenate(places) % n, rows_again)
