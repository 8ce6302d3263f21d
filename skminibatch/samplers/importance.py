"""Rows drawn the more often, the larger their gradients are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats.sampling import DiscreteGuideTable

from skminibatch.contract.domains import OneOf
from skminibatch.contract.kinds import declares
from skminibatch.contract.orders import explicit_order
from skminibatch.samplers.strata import numbers

UNIFORM = 0.5  # of the draws: no weight exceeds 1 / UNIFORM, whatever the rows have become since they were measured


class ImportanceMemory(NamedTuple):
    """What importance sampling remembers: its rows, their factors and probabilities, and the rows drawn since a look.

    ``table`` draws by these probabilities; None: it is not made yet.
    """

    rows: np.ndarray
    factors: np.ndarray
    shares: np.ndarray
    table: DiscreteGuideTable | None
    drawn: float
    seed: int
    epoch: int
    turn: int = 0


@declares(domains={"by": OneOf(("gradient", "smoothness"))}, one_population=True, weighs_rows=True)
class Importance(NamedTuple):
    """Rows drawn independently with probabilities ``p_i``, weighted by ``1 / (n p_i)``, so that the gradient is unbiased.

    ``p_i = 1 / (2 n) + q_i / 2``: half uniform, so that no weight exceeds 2, and half proportional to a size of the row.

    Parameters
    ----------
    by : {'gradient', 'smoothness'}, default='gradient'
        'gradient': the norm of the row's gradient, measured anew every epoch (a product of X with the coefficients); the
        variance is least for ``p_i`` proportional to it (Zhao and Zhang 2015). 'smoothness': the bound of the row's
        curvature, ``s_i curvature (|x_i|^2 + 1)``, measured once; a few rows of huge length then no longer make a batch
        stiff (Needell, Srebro and Ward 2014; Gower et al. 2019, arXiv:1901.09401).
    """

    by: str = "gradient"

    @property
    def needs_row_bounds(self):
        return self.by == "smoothness"

    @staticmethod
    def start(n_rows, rows, seed, epoch=0, strata=None):
        rows = np.arange(n_rows) if rows is None else rows
        uniform = np.full(rows.size, 1.0 / rows.size)
        return ImportanceMemory(rows, np.empty(0), uniform, None, np.inf, int(seed), int(epoch))

    def observe(self, memory, gradients):
        """The memory with probabilities from the gradients as they are now."""
        if memory.drawn < memory.rows.size or (self.by == "smoothness" and np.isfinite(memory.drawn)):
            return memory
        if self.by == "smoothness":
            sizes = gradients.on(memory.rows).row_bounds()
        else:
            if not memory.factors.size:
                memory = memory._replace(factors=gradients.on(memory.rows).row_factors())
            sizes = np.sqrt(gradients.on(memory.rows).row_squares(memory.factors))
        total = sizes.sum()
        shares = sizes / total if total > 0 else np.full(sizes.size, 1.0 / sizes.size)
        return memory._replace(shares=UNIFORM / sizes.size + (1.0 - UNIFORM) * shares, table=None, drawn=0.0)

    def tempered(self, smoothness):
        """The smoothness of what the weighted rows add up to: the bound of a row over ``n p_i``."""
        if self.by == "gradient":
            return smoothness
        worst = max(smoothness.mean, smoothness.typical / (1.0 - UNIFORM))
        return smoothness._replace(worst=min(smoothness.worst, worst))

    def draw(self, memory, sizes):
        """(order, weights, memory) for the next steps."""
        table = DiscreteGuideTable(memory.shares) if memory.table is None else memory.table
        table.set_random_state(numbers(memory.seed, memory.epoch, memory.turn))
        places = table.rvs(int(np.sum(sizes)))
        weights = 1.0 / (memory.rows.size * memory.shares[places])
        memory = memory._replace(table=table, drawn=memory.drawn + places.size, turn=memory.turn + 1)
        return explicit_order(memory.rows[places]), weights, memory
