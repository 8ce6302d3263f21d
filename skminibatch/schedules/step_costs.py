"""What a step costs by its batch size and what a row is like: a small table for each kind of rows, measured beforehand.

`batch_size='auto'` reads it, so that no clock runs inside `fit` and the same data give the same choice. The table of the
package was written by ``python -m skminibatch.calibrate``, which writes one for any machine.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

STORED = Path(__file__).with_name("step_costs.json")


class StepCosts(NamedTuple):
    """Seconds of a step on a grid.

    Attributes
    ----------
    batch_sizes : ndarray of shape (n_sizes,)
        Rows of a step, ascending.
    row_lengths : ndarray of shape (n_lengths,)
        Numbers in a row (those that are stored, of sparse rows) times outputs, ascending. For networks ('mlp'): parameters
        that a row meets.
    seconds : ndarray of shape (n_lengths, n_sizes)
        Seconds of a step.
    """

    batch_sizes: np.ndarray
    row_lengths: np.ndarray
    seconds: np.ndarray

    def of(self, row_length: float) -> np.ndarray:
        """Seconds of a step for each of the batch sizes, (n_sizes,); logarithms are interpolated, the ends held."""
        lengths = np.log(self.row_lengths)
        place = np.interp(np.log(row_length), lengths, np.arange(len(lengths)))
        below = min(int(place), len(lengths) - 2)
        share = place - below
        return self.seconds[below] ** (1.0 - share) * self.seconds[below + 1] ** share


def load(path: str | None, kind: str) -> StepCosts:
    """The table for 'dense' or 'csr' rows, or 'mlp', from a file, None for that of the package, which is read once.

    Raises
    ------
    ValueError
        For a file without such a table.
    """
    return _stored(kind) if path is None else _read(path, kind)


@cache
def _stored(kind: str) -> StepCosts:
    return _read(str(STORED), kind)


def _read(path: str, kind: str) -> StepCosts:
    try:
        table = json.loads(Path(path).read_text())[kind]
        costs = StepCosts(*(np.array(table[name], float) for name in StepCosts._fields))
        shape = (costs.row_lengths.size, costs.batch_sizes.size)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path!r} is no table of step costs as skminibatch.calibrate writes it: {error!r}.") from None
    grid = all(np.all(np.diff(axis) > 0) for axis in (costs.batch_sizes, costs.row_lengths))
    if costs.seconds.shape != shape or min(shape) < 2 or not grid or not np.all(costs.seconds > 0):
        raise ValueError(f"{path!r} is no table of step costs: seconds must be positive, of the shape {shape}.")
    return costs
