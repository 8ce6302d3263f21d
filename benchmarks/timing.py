"""Times taken in turn: on a shared machine the ratio of two neighbours in time is what holds."""

import gc
import math
import time
from dataclasses import dataclass

import numpy as np
from smoke import sized

# Thread pools of BLAS and OpenMP spin for a while after their work, which would slow the next call.
PAUSE_SECONDS = sized(0.05, 0)
MOST_EPOCHS = sized(100, 2)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a sample."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        low, median, high = np.percentile(np.asarray(list(values), dtype=float), [25, 50, 75])
        return cls(float(median), float(low), float(high))

    def __str__(self):
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


@dataclass(frozen=True)
class Pairs:
    """Times of a peer and of ours (seconds), pair by pair."""

    peer: tuple
    ours: tuple

    @property
    def ratios(self):
        return [peer / ours for peer, ours in zip(self.peer, self.ours, strict=True)]

    @property
    def times_faster(self):
        return Spread.of(self.ratios)

    @property
    def peer_median(self):
        return float(np.median(self.peer))

    @property
    def ours_median(self):
        return float(np.median(self.ours))

    def record(self, **facts):
        """Everything measured, as a JSON value."""
        return {
            **facts,
            "peer_seconds": list(self.peer),
            "ours_seconds": list(self.ours),
            "ratios": self.ratios,
        }


def number(value):
    """Three significant digits, without an exponent where a reader needs none."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:.{digits}f}"
    return f"{value:.2g}"


def milliseconds(seconds):
    return number(1e3 * seconds)


def seconds(call):
    """Wall time of one call."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(peer, ours, repeats):
    """Measure a peer and ours in turn; both are callables that return seconds."""
    times = ([], [])
    for turn in range(repeats):
        # The order alternates as well, so that a slow drift of the machine favours neither.
        for side, measure in [(0, peer), (1, ours)][:: 1 if turn % 2 == 0 else -1]:
            time.sleep(PAUSE_SECONDS)
            times[side].append(measure())
    return Pairs(tuple(times[0]), tuple(times[1]))


class Call:
    """Seconds of one call, the mean over `number_of_calls` of them where one is too short to time."""

    def __init__(self, call, number_of_calls=1):
        self._call, self._n = call, number_of_calls
        call()  # compiles, allocates, starts threads

    def __call__(self):
        def run():
            for _ in range(self._n):
                self._call()

        return seconds(run) / self._n


class Epoch:
    """Seconds of one epoch: (the time of k + 1 epochs - the time of 1) / k, whatever a fit costs besides.

    `fit` takes the number of epochs. k is the smallest number whose epochs take about `target_seconds`.
    """

    def __init__(self, fit, target_seconds=0.4, max_epochs=MOST_EPOCHS):
        self._fit = fit
        fit(2)  # compiles, and meets every code path of a second epoch
        trial = (seconds(lambda: fit(4)) - seconds(lambda: fit(1))) / 3
        self.n_epochs = int(np.clip(math.ceil(target_seconds / max(trial, 1e-6)), 2, max_epochs))

    def __call__(self):
        once = seconds(lambda: self._fit(1))
        return (seconds(lambda: self._fit(self.n_epochs + 1)) - once) / self.n_epochs
