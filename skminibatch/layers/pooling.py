"""How a normalization pools, as data: what the kernels of every backend read of it, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.kinds import InvalidPart, declared, has_its_own

ROWS, UNITS, BOTH = "rows", "units", "both"


class Pooling(NamedTuple):
    """Which numbers of a batch (b, n) are standardised together, and how.

    Attributes
    ----------
    over : {"rows", "units", "both"}
        "rows": each unit over rows of the batch in training, by running statistics (see `Running`) in predictions. "units": the
        units of a row. "both": by ``alpha`` times the mean and the variance of "rows", plus ``1 - alpha`` times those of
        "units".
    epsilon : float
        What is added to each variance.
    size : int
        Rows of a group of consecutive ones, about; 0: all rows of a batch.
    n_blocks : int
        Blocks of consecutive units that are standardised apart.
    momentum : float
        Share of the last group of rows in the running statistics.
    centred : bool
        Whether the mean is taken away; otherwise the mean square takes the place of the variance.

    Notes
    -----
    What is standardised is scaled by the parameters gamma, and shifted by beta if it is centred: each has one number per unit
    or, over "units", one for each of equal blocks of units. Over "both", ``alpha = sigmoid(q)`` with q as the last parameter.
    """

    over: str
    epsilon: float
    size: int = 0
    n_blocks: int = 1
    momentum: float = 0.0
    centred: bool = True

    def n_groups(self, n_rows: int) -> int:
        """Groups of consecutive rows of a batch."""
        return max(1, n_rows // self.size) if self.size else 1

    def bounds(self, n_rows: int) -> np.ndarray:
        """Where these groups start, and where the last one stops: their sizes differ by at most one."""
        n_groups = self.n_groups(n_rows)
        return np.arange(n_groups + 1) * n_rows // n_groups


def pooling_of(part, n: int) -> Pooling | None:
    """What a normalization of n units declares to pool; None if it declares nothing that its `forward` is known to follow.

    Raises
    ------
    InvalidPart
        If its parameters or running statistics are not those of what it declares.
    """
    declares = declared(part)
    # a class that overrides `forward` has to declare anew what it pools
    if not (declares.brings("pooling") and has_its_own(type(part), "pooling", "forward")):
        return None
    pooling = declares.pooling(n)
    if pooling is None:
        return None
    parameters, running = (array.size for array in declares.start(n))
    n_scales = (parameters - (pooling.over == BOTH)) / (1 + pooling.centred)
    fits = n_scales in ((n, pooling.n_blocks) if pooling.over == UNITS else (n,)) and n % pooling.n_blocks == 0
    if not fits or running != (0 if pooling.over == UNITS else 1 + 2 * n):
        raise InvalidPart(
            f"{type(part).__name__} declares a pooling over {pooling.over!r} of {n} units, to which its {parameters} parameters "
            f"and {running} running statistics do not belong: see skminibatch.layers.pooling.Pooling."
        )
    return pooling
