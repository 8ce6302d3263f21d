"""Formulas of parts as functions that are called by their address, so that one compiled loop serves every combination of them.

A loop that is compiled for the types of its parts is compiled anew for each combination of loss, penalty, optimizer and
activations, each for several seconds. Here each part is compiled once for each type of number, in a tenth of a second, to a
function of addresses and counts; the loop over the steps calls it by its own address. The hyper-parameters of a part are
numbers in an array that the function reads, so that new ones compile nothing.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import types
from numba.core.ccallback import CFunc
from numba.extending import overload

from skminibatch.backends.cpu.compile import CALLED, INLINED, is_ours, with_cache, without_cache
from skminibatch.contract.kinds import inside

ADDRESS, COUNT, NUMBER = types.int64, types.int64, types.float64  # what the functions take
MOST_NUMBERS = 8  # of hyper-parameters in a part


def built(kind, inner, n):
    """A part from its class, that of the part inside (None: there is none), and the numbers `n` in both."""


@overload(built, jit_options=INLINED)
def _built(kind, inner, n):
    if not isinstance(inner, types.NoneType):
        rest = len(kind.instance_class._fields) - 1
        n_inside = len(inner.instance_class._fields)
        if rest:
            return lambda kind, inner, n: kind(built(inner, None, n), n[n_inside])
        return lambda kind, inner, n: kind(built(inner, None, n))
    return {
        0: lambda kind, inner, n: kind(),
        1: lambda kind, inner, n: kind(n[0]),
        2: lambda kind, inner, n: kind(n[0], n[1]),
        3: lambda kind, inner, n: kind(n[0], n[1], n[2]),
        4: lambda kind, inner, n: kind(n[0], n[1], n[2], n[3]),
        5: lambda kind, inner, n: kind(n[0], n[1], n[2], n[3], n[4]),
        6: lambda kind, inner, n: kind(n[0], n[1], n[2], n[3], n[4], n[5]),
        7: lambda kind, inner, n: kind(n[0], n[1], n[2], n[3], n[4], n[5], n[6]),
        8: lambda kind, inner, n: kind(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]),
    }[len(kind.instance_class._fields)]


class Operation(NamedTuple):
    """A compiled function and the numbers that it reads; both have to be kept while their addresses are in use."""

    function: CFunc
    numbers: np.ndarray
    addresses: tuple[int, int]

    @classmethod
    def of(cls, function: CFunc, numbers: np.ndarray) -> Operation:
        """With the addresses of the two."""
        return cls(function, numbers, (function.address, numbers.ctypes.data))


def numbers_of(part, dtype) -> np.ndarray:
    """The hyper-parameters of a part, those of the part inside first."""
    within = inside(part)
    numbers = [*(within or ()), *(field for field in part if field is not within)]
    if len(numbers) > MOST_NUMBERS:
        raise ValueError(
            f"{type(part).__name__} has {len(numbers)} hyper-parameters; kernels take at most {MOST_NUMBERS}."
        )
    return np.array([*numbers, *[0.0] * (MOST_NUMBERS - len(numbers))], dtype)


def classes_of(part) -> tuple:
    """The class of a part and that of the part inside, or None."""
    within = inside(part)
    return type(part), None if within is None else type(within)


def part_of(key: tuple):
    """The part with this `identity`."""
    return key[0](*(part_of(field) if isinstance(field, tuple) else field for field in key[1:]))


def compiled(build, classes, signature, *parts) -> CFunc:
    """The function of some classes; those of the package are kept on disk."""
    return _once(build, classes, signature, all(is_ours(part) for part in parts))


@functools.cache
def _once(build, classes, signature, ours: bool) -> CFunc:
    function = CFunc(build(*classes), (tuple(signature.args), signature.return_type), {}, CALLED)
    return with_cache(function) if ours else without_cache(function)
