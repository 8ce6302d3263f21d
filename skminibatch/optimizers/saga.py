"""Stochastic gradients whose noise vanishes at the optimum, because each row's last gradient is remembered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import POSITIVE
from skminibatch.contract.kinds import declares


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


def saga_costs(
    smoothness, strong_convexity: float, n_rows: int, costs: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Batch sizes, at most `n_rows`, and a number that the time until SAGA converges is proportional to, see below."""
    sizes = np.minimum(costs[0], n_rows)
    steps = [saga_smoothness(smoothness, strong_convexity, size, n_rows) for size in sizes]
    return sizes, np.array(steps) * costs[1]


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
        sizes, times = saga_costs(smoothness, strong_convexity, n_rows, costs)
        return int(sizes[np.argmin(times)])
    best = 1.0 + strong_convexity * (n_rows - 1.0) / (4.0 * smoothness.mean)
    return int(min(max(best, 1.0), n_rows))
