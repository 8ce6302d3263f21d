"""Learning-rate schedules: the rate of each step from the samples that were seen before it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import ABOVE_ONE, AT_LEAST_ZERO, POSITIVE
from skminibatch.contract.kinds import declares


@declares(domains={"eta0": POSITIVE})
class Constant(NamedTuple):
    """``eta0``."""

    eta0: float = 0.01

    def rates(self, samples, state):
        return np.full(len(samples), self.eta0)


@declares(domains={"eta0": POSITIVE, "power_t": AT_LEAST_ZERO})
class InverseScaling(NamedTuple):
    """``eta0 / t^power_t`` with ``t`` the samples seen, counting from one."""

    eta0: float = 0.01
    power_t: float = 0.5

    def rates(self, samples, state):
        return self.eta0 / (samples + 1.0) ** self.power_t


@declares(domains={"alpha": POSITIVE, "t0": POSITIVE})
class Optimal(NamedTuple):
    """``1 / (alpha (t0 + t))``, scikit-learn's heuristic (Bottou 2012): the first step moves by a typical weight."""

    alpha: float = 1e-4
    t0: float = 1.0

    def rates(self, samples, state):
        return 1.0 / (self.alpha * (self.t0 + samples))


@declares(domains={"eta0": POSITIVE, "factor": ABOVE_ONE, "smallest": POSITIVE})
class Adaptive(NamedTuple):
    """``eta0``, divided by 5 whenever training stops to improve; training stops below 1e-6."""

    eta0: float = 0.01
    factor: float = 5.0
    smallest: float = 1e-6

    def rates(self, samples, state):
        return np.full(len(samples), self.eta0 / self.factor**state.reductions)

    def at_standstill(self, state):
        """Why training ends, or an empty text where a lower rate is left."""
        lower = self.eta0 / self.factor**state.reductions / self.factor
        return f"the adaptive rate fell below {self.smallest:g}" if lower <= self.smallest else ""


@declares(domains={"eta0": POSITIVE, "horizon": POSITIVE}, needs_horizon=True)
class Cosine(NamedTuple):
    """``eta0 (1 + cos(pi t / horizon)) / 2`` (Loshchilov and Hutter 2017), `horizon` in samples: `fit` only."""

    eta0: float = 0.01
    horizon: float = 0.0

    def rates(self, samples, state):
        return 0.5 * self.eta0 * (1.0 + np.cos(np.pi * np.minimum(samples / self.horizon, 1.0)))


@declares(
    domains={"multiple": POSITIVE, "constant": AT_LEAST_ZERO, "warmup": AT_LEAST_ZERO, "power": AT_LEAST_ZERO},
    falls_after_a_rise=True,
)
class Auto(NamedTuple):
    """``learning_rate='auto'``: `multiple` over the smoothness of a batch, or the constant of an adaptive solver.

    The smoothness L(b) of a batch of b rows is the expected smoothness of Gower et al. (2019, arXiv:1901.09401); see
    `skminibatch.statistics.smoothness`. The rate rises linearly over the first `warmup` updates, falls as ``1 / (1 +
    passes)^power`` of the passes over the rows (on a stream, of periods since the average began), and is halved after an epoch in
    which the objective rose.
    """

    multiple: float = 1.0
    constant: float = 0.0
    warmup: float = 0.0
    power: float = 0.0

    def rates(self, samples, state):
        rate = self.constant if self.constant > 0 else self.multiple / state.smoothness
        ramp = np.minimum((state.step + np.arange(len(samples)) + 1.0) / max(self.warmup, 1.0), 1.0)
        passes = (samples - state.began) / state.period
        return rate * ramp * 0.5**state.reductions / (1.0 + passes) ** self.power
