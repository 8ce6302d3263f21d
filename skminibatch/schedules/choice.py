"""What a choice of the batch size found: a plain record, which fitted estimators keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

MATTERS = 1.25  # times the least cost, from which on a batch size matters
LEVEL = 0.95  # of the intervals


class PilotNoise(NamedTuple):
    """The noise scale after a pilot, infinite where the gradient does not stand out of its noise, and its interval."""

    scale: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, scales: ArrayLike, n_first: int) -> PilotNoise:
        """The median of the first pilots, and an interval from all of them: NaN where there are no others.

        It is Student's interval, of logarithms, for the difference between the mean of `n_first` pilots and that of many.
        """
        scales = np.asarray(scales, float)
        median = float(np.median(scales[:n_first]))
        if scales.size == n_first:
            return cls(median, (np.nan, np.nan))
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            return cls(median, (float(scales.min()), float(scales.max())))
        logs = np.log(scales)
        error = logs.std(ddof=1) * np.sqrt(1.0 / n_first + 1.0 / logs.size)
        half = stats.t.ppf(0.5 + LEVEL / 2.0, logs.size - 1) * error
        low, high = np.exp(logs.mean() + np.clip([-half, half], -300.0, 300.0)).tolist()
        return cls(median, (min(low, median), max(high, median)))


@dataclass(frozen=True)
class SizeChoice:
    """A batch size, the range of sizes that cost about the same, and what both follow from.

    Attributes
    ----------
    batch_size : int
        The size that was chosen, in rows.
    low, high : int
        The range in which the size hardly matters, in rows: the estimated cost is at most 1.25 times the least.
    reason : str
        What the choice follows from, the end of a sentence.
    goal : {'time', 'rows', 'score'}
        What the cost is: the time to a target, the rows that are read on the way, or what the cross-validated score lacks.
    noise_scale : float
        ``tr(Sigma) / |G|^2`` after a pilot of one pass over a sample, in rows; NaN where no pilot was made.
    noise_scale_interval : tuple of (float, float)
        Its 95 % interval, from further pilots on other rows or in another order. `fit` makes none, and has NaN here;
        `skminibatch.model_selection.choose_batch_size` does.
    critical_batch_size : float
        Of the whole training, in rows: batches of this size take twice the fewest steps and twice the fewest rows. It is
        estimated as an eleventh of the noise scale after the pilot; NaN where no pilot was made.
    critical_batch_size_interval : tuple of (float, float)
        The interval of the noise scale, widened by the factor by which the eleventh was wrong on known problems.
    batch_sizes : tuple of int
        Sizes whose cost was estimated, ascending; empty where the size makes no difference or nothing could be measured.
    costs : tuple of float
        The cost of each over the least of them.
    """

    batch_size: int
    low: int
    high: int
    reason: str
    goal: str = "time"
    noise_scale: float = np.nan
    noise_scale_interval: tuple[float, float] = (np.nan, np.nan)
    critical_batch_size: float = np.nan
    critical_batch_size_interval: tuple[float, float] = (np.nan, np.nan)
    batch_sizes: tuple[int, ...] = ()
    costs: tuple[float, ...] = ()

    @property
    def sentence(self) -> str:
        """The choice, the reason and the range in one sentence."""
        span = "" if self.low == self.high else f"; {self.low} to {self.high} rows do about as well"
        return f"{self.batch_size} rows: {self.reason}{span}"

    def but_with(self, other: SizeChoice) -> SizeChoice:
        """The noise and the costs of this one, the size of another one and what that follows from."""
        names = ("batch_size", "low", "high", "reason", "goal")
        return replace(self, **{name: getattr(other, name) for name in names})

    def __str__(self) -> str:
        return self.sentence


def around(batch_size: int, batch_sizes: ArrayLike, costs: ArrayLike) -> dict:
    """The fields of a choice that follow from the cost of each size: the curve, and the range around the size.

    The range ends where the cost first exceeds `MATTERS` times the least on the way from the chosen size.
    """
    sizes, relative = np.asarray(batch_sizes, int), np.asarray(costs, float) / np.min(costs)
    at = int(np.argmin(np.abs(sizes - batch_size)))
    too_much = np.flatnonzero(relative > MATTERS)
    first = int(too_much[too_much < at].max(initial=-1)) + 1
    last = int(too_much[too_much > at].min(initial=len(sizes))) - 1
    low, high = min(int(sizes[first]), batch_size), max(int(sizes[last]), batch_size)
    return {
        "low": low,
        "high": high,
        "batch_sizes": tuple(sizes.tolist()),
        "costs": tuple(relative.tolist()),
    }
