"""Layers as the kernels take them: what is done around the product of each, its memory for a batch size, and its launches."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from skminibatch.backends.gpu import device
from skminibatch.backends.gpu.compile import kernel_of, record_of, source_of
from skminibatch.backends.gpu.source import numbers, structs
from skminibatch.layers import Identity
from skminibatch.layers.dropout import threshold
from skminibatch.layers.pooling import BOTH, ROWS, UNITS, Pooling

# ``Layer`` in layers.cu
ADDRESSES = (
    "before derivatives after lengths lengths_before squares weights parameters gradient running inverse moments sums "
    "portions by_row tickets numbers"
).split()
COUNTS = "b n stride has_one groups n_scales is_hybrid number least".split()
RECORD = np.dtype(
    [
        *((name, np.uint64) for name in ADDRESSES),
        *((name, np.float64) for name in ("epsilon", "momentum", "factor")),
        *((name, np.int32) for name in COUNTS),
    ],
    align=True,
)
COLUMNS = 8  # units of a block that pools rows: 32 bytes or more at once
WARP = 32
# kernels forward and backward by what a normalization pools, each with a warp or more for a row or a block for some units
NOTHING = "nothing"
FORWARD = {
    NOTHING: (("units_forward", UNITS),),
    UNITS: (("units_forward", UNITS),),
    ROWS: (("rows_forward", ROWS),),
    BOTH: (("row_moments", UNITS), ("rows_forward", ROWS)),
}
BACKWARD = {
    NOTHING: (("plain_backward", UNITS),),
    UNITS: (("scales_backward", ROWS), ("units_backward", UNITS)),
    ROWS: (("rows_backward", ROWS),),
    BOTH: (("rows_backward", ROWS), ("both_backward", UNITS)),
}


class Level(NamedTuple):
    """What follows the product of a layer; of level 0, the normalization of the input, or nothing.

    ``stride``: of the rows of what the next layer gets, which are aligned and end with a one where that has an intercept,
    so that its product adds the intercept, and the product on the way back sums its gradient.
    """

    number: int
    n: int
    pooling: Pooling | None
    activation: tuple
    dropout: float
    has_one: bool
    place: tuple

    @classmethod
    def all_of(cls, stack) -> list[Level]:
        """The normalization of the input and the layers of a stack."""
        follow = [layer.has_intercept for layer in stack.layers] + [False]
        acting = [(Identity(), 0.0), *((layer.activation, layer.dropout) for layer in stack.layers)]
        each = zip(stack.widths, stack.poolings, acting, follow, stack.places, strict=True)
        return [cls(k, n, pooling, *acts, one, place) for k, (n, pooling, acts, one, place) in enumerate(each)]

    @property
    def stride(self) -> int:
        return -(-(self.n + self.has_one) // 4) * 4

    @property
    def pools(self) -> str:
        """What its normalization pools."""
        return NOTHING if self.pooling is None else self.pooling.over

    def groups(self, b: int) -> int:
        """Groups of rows of a batch, or blocks of the units of a row, that are normalised apart; none: zero."""
        if self.pooling is None:
            return 0
        return self.pooling.n_blocks if self.pools == UNITS else self.pooling.n_groups(b)

    def source(self, loss, dtype) -> str:
        """The kernels of layers with this activation in a network with this loss."""
        parts = structs({"Activation": self.activation, "Loss": loss}, dtype)
        return source_of(
            {}, parts, "rows.cu", "network/steps.cu", "network/layers.cu", "network/batch.cu", "network/head.cu"
        )


class LevelSpace:
    """The memory of a level for batches of at most `longest` rows; `has_after`: of what the next layer gets, too."""

    def __init__(self, level: Level, longest: int, dtype, *, has_after: bool):
        xp, n = device.cupy(), level.n
        has_units = level.number or level.pooling is not None
        groups = level.groups(longest) if level.pools in (ROWS, BOTH) else 1
        pools_units = level.pools == UNITS
        normalized = level.pooling is not None

        def room(count: int, kind=dtype):
            return xp.empty(count, kind)

        self.before, self.derivatives = (room(longest * n * bool(has_units)) for _ in range(2))
        self.after = room(longest * level.stride * has_after)
        self.lengths = room(longest, np.float64)
        self.inverse = room(normalized * (longest * level.groups(longest) if pools_units else groups * n))
        self.moments = room(normalized * 3 * groups * n)
        self.sums = room(normalized * 4 * groups * n)
        self.portions = room(groups, np.float64)
        self.by_row = room(3 * longest * (level.pools == BOTH))
        self.tickets = xp.zeros(-(-n // COLUMNS), np.uint32)
        self.numbers = xp.asarray(numbers(level.activation))

    def record(self, level: Level, b: int, **places) -> np.ndarray:
        """What the kernels of the level get, with the `places` of what does not belong to it."""
        pooling = level.pooling or Pooling(NOTHING, 0.0)
        n_scales = 0 if level.pooling is None else places["parameters"].size // 2
        counts = (
            b, level.n, level.stride, level.has_one, level.groups(b), n_scales, level.pools == BOTH, level.number - 1,
            threshold(level.dropout),
        )  # fmt: skip
        return record_of(
            RECORD,
            {name: places.get(name, vars(self).get(name)) for name in ADDRESSES},
            epsilon=pooling.epsilon,
            momentum=pooling.momentum,
            factor=1.0 / (1.0 - level.dropout),
            **dict(zip(COUNTS, counts, strict=True)),
        )


def launches(level: Level, which: dict, source: str, chunk, record) -> list:
    """The launches of the kernels of a level, forward or backward."""
    b, kernels = int(record["b"][0]), []
    for name, pooled in which[level.pools]:
        grid, block = of_rows(level, b) if pooled == UNITS else _of_columns(level, b)
        kernels.append(partial(kernel_of(source, name), grid, block, (chunk, record)))
    return kernels


def of_rows(level: Level, b: int, *, whole: bool = False) -> tuple:
    """Grid and block of what pools units, or takes a `whole` row: four warps, for a row each or all for one."""
    width = level.n // level.groups(b) if level.pools == UNITS and not whole else level.n
    if width <= 8 * WARP:
        return (-(-b // 4), 1), (WARP, 4)
    return (b, 1), (4 * WARP, 1)


def _of_columns(level: Level, b: int) -> tuple:
    """Grid and block of what pools rows: as many rows at once as a group has, 16 to 64."""
    groups = level.groups(b) if level.pools == ROWS else 1
    rows = min(max(-(-b // groups), 16), 64)
    return (-(-level.n // COLUMNS) * groups, 1), (COLUMNS, 1 << (rows - 1).bit_length())
