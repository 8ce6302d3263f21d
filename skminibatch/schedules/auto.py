"""The batch size that ``batch_size='auto'`` takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import PATH
from skminibatch.contract.kinds import declares
from skminibatch.schedules.choice import SizeChoice, around
from skminibatch.schedules.step_costs import load

PILOT = 64  # rows of a batch of the pilot, a pass over a sample
OVERALL = 1.0 / 11.0  # of the noise scale after the pilot, the critical batch size on the whole way
SPREAD = 2.3  # the factor within which that was right on known problems
SHARE = 0.4  # of the critical batch size, the least that is taken: the noise floor of a constant rate lies below
STEPS = 16.0  # in an epoch, the fewest
FEW_ROWS = 1.1  # times the fewest rows to a target, which batches that are to waste few may take


@declares(domains={"costs": PATH})
class AutoSize(NamedTuple):
    """Chosen once, before training, from a pilot on a sample of the rows and from stored times of a step, without a clock.

    To a given error, batches of b rows take about ``1 + b / B`` times the fewest rows (McCandlish et al. 2018,
    arXiv:1812.06162). The critical batch size B of a whole training is taken as an eleventh of the noise scale ``tr(Sigma) /
    |G|^2`` after one pass over the sample: the noise scale grows on the way, and this was the share on six data sets, within
    a factor of 2.3. The choice is the least of ``(1 + b / B) t(b) / b`` over ``0.4 B <= b <= n / 16`` with the time t(b) of a
    step. Below, a constant rate ends too far from the optimum: the mean of its iterates has a bias that grows with the noise
    (Dieuleveut, Durmus and Bach 2020).

    Parameters
    ----------
    costs : str, default=None
        A file written by ``python -m skminibatch.calibrate``; None takes the table of the package.
    """

    costs: str | None = None

    def step_costs(self, kind):
        """The table of step costs for a kind of rows."""
        return load(self.costs, kind)

    def chosen(self, noise, n_rows, row_length, kind, goal="time") -> SizeChoice:
        """The choice by the noise scale after the pilot, a `PilotNoise`, and by what a row is like, see `StepCosts`."""
        table = self.step_costs(kind)
        most = max(1.0, min(n_rows / STEPS, table.batch_sizes[-1]))
        known = _of_noise(noise)
        if not np.isfinite(noise.scale):
            why = "no gradient stood out of its noise after a pilot"
            return SizeChoice(PILOT, PILOT, max(PILOT, int(most)), why, goal, **known)
        critical = known["critical_batch_size"]
        why = f"with a noise scale of {noise.scale:.3g} after a pilot, "
        if goal == "rows":
            sizes = _sizes(1.0, most)
            costs = 1.0 + sizes / critical
            size = int(sizes[costs <= FEW_ROWS * costs[0]][-1])
            why += (
                f"the critical batch size of the training is about {critical:.3g} rows, and larger batches read more than "
                f"{FEW_ROWS - 1:.0%} more rows than the smallest ones"
            )
        else:
            sizes = _sizes(min(max(SHARE * critical, 1.0), most), most)
            seconds = np.exp(np.interp(np.log(sizes), np.log(table.batch_sizes), np.log(table.of(row_length))))
            costs = (1.0 / critical + 1.0 / sizes) * seconds
            size = int(sizes[np.argmin(costs)])
            why += f"the critical batch size of the training is about {critical:.3g} rows"
        return SizeChoice(size, reason=why, goal=goal, **around(size, sizes, costs), **known)


def _sizes(least: float, most: float) -> np.ndarray:
    """Whole numbers of rows in equal ratios."""
    return np.unique(np.round(np.exp(np.linspace(np.log(least), np.log(most), 100))))


def _of_noise(noise) -> dict:
    """The fields of a choice that report the noise scale after the pilot and the critical batch size."""
    low, high = (OVERALL * limit for limit in noise.interval)
    return {
        "noise_scale": noise.scale,
        "noise_scale_interval": noise.interval,
        "critical_batch_size": max(OVERALL * noise.scale, 1.0),
        "critical_batch_size_interval": tuple(np.maximum([low / SPREAD, high * SPREAD], 1.0).tolist()),
    }
