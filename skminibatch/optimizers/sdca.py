"""Dual coordinate ascent: one row after another, each moved to where the dual objective is largest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ZERO, BOOLEAN, POSITIVE
from skminibatch.contract.kinds import declares


@declares(
    domains={
        **dict.fromkeys(("n_rows", "n_visits", "spread"), POSITIVE),
        **dict.fromkeys(("ridge", "pull", "l1"), AT_LEAST_ZERO),
        "accelerated": BOOLEAN,
    },
    n_coefficients=2,
    slot_exponents=(-1, -1),
    linear=True,
    per_row=True,
    dual=True,
)
class SDCA(NamedTuple):
    """Stochastic dual coordinate ascent (Shalev-Shwartz and Zhang 2013, Journal of Machine Learning Research 14).

    With the penalty ``ridge |w|^2 / 2`` and a dual variable a for each row and output, ``w = sum_i a_i x_i / (ridge n)``. A row
    with the raw outputs ``x . w + b`` gets the ``a' = -s l'(z)`` at its own ``z = x . w + b + q (a' - a)``, with ``q = |x|^2 /
    (ridge n)``: the maximum of the dual objective along a. There is no rate, and a row of any length is moved exactly as far
    as its loss wants it.

    A weak ridge makes all rows stiff, and an l1 penalty alone is none. So the coefficients are drawn to where they were, c, with
    the weight `pull` (a proximal point iteration, Rockafellar 1976, SIAM Journal on Control and Optimization 14): the ridge above
    is then ``ridge + pull``, and ``u = sum_i a_i x_i / ((ridge + pull) n) + pull c / (ridge + pull)`` are the coefficients before
    an l1 penalty makes them smaller by ``l1 / (ridge + pull)`` (Shalev-Shwartz and Zhang 2016, Mathematical Programming 155).
    Each coefficient has a pull of its own, so that the units of its feature count no more: ``q = sum_j x_j^2 / ((ridge + pull_j)
    n)``. Each epoch starts from ``c = w``, or `accelerated` from ``c = w + m (w - w')``, where w' are the coefficients an epoch
    ago and ``m = k / (k + 3)`` in epoch k (Lin, Mairal and Harchaoui 2018, Journal of Machine Learning Research 18), without
    momentum where w has come back from c (O'Donoghue and Candes 2015, Foundations of Computational Mathematics 15). That is for
    losses without a kink: with one, an epoch leaves too much undone. Parameters hold u, the slots hold c and w'.

    The intercept b is not penalised. It is drawn to where it was in the same way, with the weight ``1 / spread``: ``b = b0 +
    spread sum_i a_i / n``, so that spread / n is added to q. Each epoch starts from ``b0 = b``. At the optimum, the a of all
    rows add up to zero.

    The rows of a batch come one after another, so that its size changes nothing. To take them at once, each move would have
    to be shortened by the largest correlation of the rows of a batch (Takac, Bijral, Richtarik and Srebro 2013,
    arXiv:1303.2314), and on one core nothing is gained by it.

    All fields are filled in by `fit`, by ``of_objective``.
    """

    n_rows: float = 1.0
    n_visits: float = 1.0
    ridge: float = 1.0
    spread: float = 1.0
    pull: float | np.ndarray = 0.0
    l1: float = 0.0
    accelerated: bool = False

    def of_objective(self, n_rows, n_visits, ridge, spread, pull, l1, accelerated):
        numbers = {"n_rows": n_rows, "n_visits": n_visits, "ridge": ridge, "spread": spread, "l1": l1}
        return self._replace(
            **{name: float(number) for name, number in numbers.items()}, pull=pull, accelerated=accelerated
        )

    def has_pull(self):
        """Whether coefficients are drawn to a center; the intercept always is."""
        return bool(np.any(self.pull))

    def unit(self):
        """What a change of a dual variable multiplies its row with, to be added to u: a number, or one for each feature."""
        return 1.0 / ((self.ridge + self.pull) * self.n_rows)

    def shift(self):
        """How far a change of a dual variable moves the intercept."""
        return self.spread / self.n_rows

    def share(self):
        """The share of c in u."""
        return self.pull / (self.ridge + self.pull)

    def threshold(self):
        """What the l1 penalty makes a coefficient smaller by."""
        return self.l1 / (self.ridge + self.pull)

    def shrunk(self, u):
        """The coefficients that belong to u."""
        threshold = self.threshold()
        return u - np.clip(u, -threshold, threshold) if self.l1 > 0 else u

    def coefficients(self, rates, sizes, memory):
        """The rates, and the momentum of an epoch at its first step, -1 elsewhere; the memory is the number of visits so far."""
        before = (memory or 0) + np.cumsum(sizes) - sizes
        turns = np.floor(before / self.n_visits)
        previous = np.append(np.floor((before[0] - 1) / self.n_visits), turns[:-1])
        momentum = np.where(turns > previous, self.accelerated * turns / (turns + 3.0), -1.0)
        return np.column_stack([rates, momentum]), int(before[-1] + sizes[-1])

    def update(self, w, g, slots, c):
        return w - c[0] * g, slots, c[0]
