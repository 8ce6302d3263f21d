"""From which batch size on a GPU is sooner than the CPU: a small table, measured beforehand, that `device='auto'` goes by.

``python benchmarks/gpu.py --table`` writes it from what was measured. As long as nothing was, there is no file, and rows of
the host stay on the CPU.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

STORED = Path(__file__).with_name("crossover.json")


class Crossover(NamedTuple):
    """Batch sizes at which the CPU and the GPU take as long.

    Attributes
    ----------
    row_lengths : ndarray of shape (n_lengths,)
        Features of a row, ascending.
    batch_sizes : ndarray of shape (n_lengths,)
        Rows of a step from which on the GPU is sooner; infinite where it never was.
    """

    row_lengths: np.ndarray
    batch_sizes: np.ndarray

    def pays(self, row_length: float, batch_size: float) -> bool:
        """Whether the GPU is sooner: the logarithms of the batch sizes between those that were measured, the ends held."""
        with np.errstate(invalid="ignore"):  # between a finite one and none at all there is none
            between = np.interp(np.log(row_length), np.log(self.row_lengths), np.log(self.batch_sizes))
        return bool(np.log(batch_size) >= between)


@cache
def stored() -> Crossover | None:
    """The table of the package, read once; None where there is none."""
    if not STORED.exists():
        return None
    table = json.loads(STORED.read_text(encoding="utf-8"))
    sizes = [np.inf if size is None else size for size in table["batch_sizes"]]
    return Crossover(np.array(table["row_lengths"], float), np.array(sizes, float))
