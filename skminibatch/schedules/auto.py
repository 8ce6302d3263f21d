"""The batch size that ``batch_size='auto'`` takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch._step_costs import load

SHARE = 1.0 / 3.0  # of the critical batch size, the least that is taken: the noise floor of a constant rate lies below
STEPS = 16.0  # in an epoch, the fewest
UNKNOWN = 64.0  # rows, where no gradient stands out of its noise


class AutoSize(NamedTuple):
    """Chosen once, before training, from a sample of the rows and stored times of a step; no clock, the same every time.

    To a given error, batches of b rows take about ``1 + b / B`` times the fewest rows, with the critical batch size ``B = S
    + L_max / L``: the noise scale where training starts (McCandlish et al. 2018, arXiv:1812.06162), and how much stiffer the
    worst row is than the mean, which is what a rate that follows the expected smoothness pays (Gower et al. 2019,
    arXiv:1901.09401). The choice is the least of ``(1 + b / B) t(b) / b`` over ``B / 3 <= b <= n / 16`` with the time t(b) of
    a step. Below, a constant rate ends too far from the optimum: the mean of its iterates has a bias that grows with the
    noise (Dieuleveut, Durmus and Bach 2020).

    Parameters
    ----------
    costs : str, default=None
        A file written by ``python -m skminibatch.calibrate``; None takes the table of the package.
    """

    costs: str | None = None

    def chosen(self, noise_scale, stiffness, n_rows, row_length, storage) -> tuple[int, str]:
        """(the size, why), from the noise scale, ``L_max / L``, and what a row is like: its length, 'dense' or 'csr'."""
        table = load(self.costs, storage)
        most = max(1.0, min(n_rows / STEPS, table.batch_sizes[-1]))
        critical = noise_scale + stiffness
        if not np.isfinite(critical):
            size = int(min(UNKNOWN, max(1, n_rows)))
            return size, f"batch_size='auto' took {size} rows: no gradient stands out of its noise"
        sizes = np.unique(np.round(np.geomspace(min(max(SHARE * critical, 1.0), most), most, 100)))
        seconds = np.exp(np.interp(np.log(sizes), np.log(table.batch_sizes), np.log(table.of(row_length))))
        size = int(sizes[np.argmin((1.0 + sizes / critical) * seconds / sizes)])
        return size, (
            f"batch_size='auto' took {size} rows: the critical batch size is about {critical:.3g}, a noise scale of "
            f"{noise_scale:.3g} and a worst row {stiffness:.3g} times as stiff as the mean"
        )
