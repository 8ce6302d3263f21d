"""The domains of hyper-parameters, as data: each part lists them in its class data `domains`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from numbers import Integral, Real
from os import PathLike
from typing import NamedTuple

import numpy as np


class InvalidPart(ValueError, TypeError):
    """An object that is no part of the kind that is needed, or a part with a hyper-parameter outside its domain."""


class Interval(NamedTuple):
    """Numbers from `low` to `high`; `closed` names the ends that belong to it ("left", "right", "both" or "neither").

    ``whole``: integers only, which stay integers; other numbers become floats.

    Examples
    --------
    >>> share = Interval(0, 1)
    >>> share.includes(0.0), share.includes(1.0)
    (True, False)
    >>> print(share)
    a float in the range [0.0, 1.0)
    """

    low: float = -np.inf
    high: float = np.inf
    closed: str = "left"
    whole: bool = False

    def includes(self, number) -> bool:
        """Whether a hyper-parameter may have this value."""
        if isinstance(number, (bool, np.bool_)) or not isinstance(number, Integral if self.whole else Real):
            return False
        return bool(self.holds(number))

    def holds(self, numbers):
        """Whether numbers are between the ends, a mask for an array."""
        above = numbers >= self.low if self.closed in ("left", "both") else numbers > self.low
        below = numbers <= self.high if self.closed in ("right", "both") else numbers < self.high
        return above & below

    def __str__(self) -> str:
        kind, ends = ("an int", int) if self.whole else ("a float", float)
        low, high = (end if np.isinf(end) else ends(end) for end in (self.low, self.high))
        left, right = "[" if self.closed in ("left", "both") else "(", "]" if self.closed in ("right", "both") else ")"
        return f"{kind} in the range {left}{low}, {high}{right}"


class OneOf(tuple):
    """One of a few words."""

    def includes(self, word) -> bool:
        """Whether a hyper-parameter may have this value."""
        return isinstance(word, str) and word in self

    def __str__(self) -> str:
        return f"a str among {{{str(sorted(self))[1:-1]}}}"


class Satisfying(NamedTuple):
    """What passes a test; `words` name it in an error."""

    test: Callable
    words: str

    def includes(self, value) -> bool:
        """Whether a hyper-parameter may have this value."""
        return self.test(value)

    def __str__(self) -> str:
        return self.words


def _is_measured(pairs) -> bool:
    """Whether these are pairs of a number of rows seen, ascending, and a batch size."""
    if not (isinstance(pairs, (tuple, list)) and pairs and all(isinstance(pair, (tuple, list)) for pair in pairs)):
        return False
    if not all(len(pair) == 2 and AT_LEAST_ZERO.includes(pair[0]) and BATCH.includes(pair[1]) for pair in pairs):
        return False
    return all(before[0] < after[0] for before, after in pairwise(pairs))


SHARE = Interval(0, 1)
INSIDE = Interval(0, 1, "neither")
POSITIVE = Interval(0, closed="neither")
AT_LEAST_ZERO = Interval(0)
AT_LEAST_ONE = Interval(1)
SEVERAL = Interval(2)  # one row does not show how far rows differ
ABOVE_ONE = Interval(1, closed="neither")
FINITE = Interval(closed="neither")
BATCH = Interval(1, closed="left")
LIMIT = Interval(1, closed="both")  # infinity included
WHOLE = Interval(1, whole=True)
BOOLEAN = Satisfying(lambda value: isinstance(value, (bool, np.bool_)), "a bool")
CALLABLE = Satisfying(callable, "a callable")
MEASURED = Satisfying(_is_measured, "a tuple of pairs (rows seen, rows of a batch) in ascending order of the first")
PATH = Satisfying(lambda value: isinstance(value, (str, PathLike)), "a path")
