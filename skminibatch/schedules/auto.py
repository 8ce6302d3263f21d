"""The batch size that ``batch_size='auto'`` takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import PATH
from skminibatch.contract.kinds import declares
from skminibatch.schedules.step_costs import load

PILOT = 64  # rows of a batch of the pilot, a pass over a sample
OVERALL = 1.0 / 11.0  # of the noise scale after the pilot, the critical batch size on the whole way
SHARE = 0.4  # of the critical batch size, the least that is taken: the noise floor of a constant rate lies below
STEPS = 16.0  # in an epoch, the fewest


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

    def chosen(self, noise_scale, n_rows, row_length, kind) -> tuple[int, str]:
        """(the size, why) from the noise scale after the pilot and what a row is like, see `StepCosts`."""
        if not np.isfinite(noise_scale):
            return PILOT, f"batch_size='auto' took {PILOT} rows: no gradient stood out of its noise after a pilot"
        table = self.step_costs(kind)
        critical = max(OVERALL * noise_scale, 1.0)
        most = max(1.0, min(n_rows / STEPS, table.batch_sizes[-1]))
        least = min(max(SHARE * critical, 1.0), most)
        sizes = np.round(np.exp(np.linspace(np.log(least), np.log(most), 100)))
        seconds = np.exp(np.interp(np.log(sizes), np.log(table.batch_sizes), np.log(table.of(row_length))))
        size = int(sizes[np.argmin((1.0 / critical + 1.0 / sizes) * seconds)])
        return size, (
            f"batch_size='auto' took {size} rows: with a noise scale of {noise_scale:.3g} after a pilot, batches pay for "
            f"themselves up to about {critical:.3g} rows"
        )
