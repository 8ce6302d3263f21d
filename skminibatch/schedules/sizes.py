"""Batch-size schedules: how many rows each of the next steps takes.

``sizes(memory, state, n_rows, n_steps)`` returns the sizes of the next steps, float64, no more than `n_rows` rows need and
`n_steps` at most, and what it remembers. An adaptive schedule returns `every` steps of one size and then evaluates what it
``reads`` of them: their statistics in ``state.batches`` (see `skminibatch.statistics.batches.BatchStatistics`) and, of the
gradients of the rows of the last batch, ``state.row_products``. The first size is `start`. Sizes are rounded up and end at
`largest` and at the number of rows; where a schedule ``anneals``, a growing batch replacing a falling rate, the rate falls
from `largest` on. One that ``follows_rate`` finds in ``state.rates(samples)`` the rates of the steps to come, without those of
a scaling rule.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import (
    ABOVE_ONE,
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    BOOLEAN,
    FINITE,
    LIMIT,
    MEASURED,
    POSITIVE,
    SEVERAL,
)
from skminibatch.contract.kinds import declares
from skminibatch.schedules.auto import AutoSize

SIZES = {"start": AT_LEAST_ONE, "largest": LIMIT}
ADAPTIVE = {"start": SEVERAL, "largest": LIMIT, "every": AT_LEAST_ONE, "growth": ABOVE_ONE}
LARGEST_LOGARITHM = 600.0  # of a growth: more would be no number
ROUNDING = 1e-9  # of the number of times that a rate has fallen by a factor


def needed_by_norm_test(variance, square_norm, theta, n_rows=np.inf):
    """The size at which the norm test holds, ``E|g - G|^2 = theta^2 |G|^2`` for batches g drawn without replacement.

    ``s^2 / (theta^2 |G|^2)`` for an infinite population; never more than `n_rows`.
    """
    asked = theta**2 * max(square_norm, 0.0)
    if variance <= 0:
        return 1.0
    left = 1.0 if np.isinf(n_rows) else 1.0 - 1.0 / n_rows
    share = 0.0 if np.isinf(n_rows) else variance / n_rows
    return variance / (asked * left + share) if asked * left + share > 0 else np.inf


def needed_by_inner_product_test(variance, inner_variance, square_norm, theta, nu):
    """The size at which both the inner product test and the orthogonality test hold.

    ``max(v / (theta^2 |G|^4), (s^2 - v / |G|^2) / (nu^2 |G|^2))`` with ``v = Var(g_i . G)``.
    """
    if variance <= 0:
        return 1.0
    if square_norm <= 0:
        return np.inf
    along = inner_variance / square_norm
    return max(along / (theta**2 * square_norm), (variance - along) / (nu**2 * square_norm))


def _count(size, n_rows, n_steps):
    """Steps of a size, or more, that some rows need."""
    return int(max(1, min(np.ceil(n_rows / size), n_steps)))


def _steady(size, n_rows, n_steps):
    return np.full(_count(size, n_rows, n_steps), float(size))


def _ahead(finest, state, n_rows, n_steps):
    """The rows before each step to come, if all of them had the finest size."""
    return state.samples + finest * np.arange(_count(finest, n_rows, n_steps))


def _in_turn(sizes, finest, n_rows):
    """The sizes of steps one after another, from those of a step that begins after each `finest` rows.

    A batch that is larger than the rows left does not begin: the others would have to be smaller for it.
    """
    begins = np.append(0, np.flatnonzero(np.diff(sizes)) + 1)
    steps, done, last = [], 0.0, np.inf
    for size, end in zip(sizes[begins], np.minimum(finest * np.append(begins[1:], len(sizes)), n_rows), strict=True):
        if end > done:
            last = size if size <= n_rows - done else min(size, last)
            steps.append(np.full(int(np.ceil((end - done) / last)), last))
            done += last * len(steps[-1])
    return np.concatenate(steps)


@declares(domains=SIZES, constant=True)
class ConstantSize(NamedTuple):
    """`start` rows in every step."""

    start: float = 64.0
    largest: float = np.inf

    def sizes(self, memory, state, n_rows, n_steps):
        return _steady(self.start, n_rows, n_steps), memory


@declares(domains=SIZES | {"increase": AT_LEAST_ZERO}, anneals=True)
class LinearSize(NamedTuple):
    """``start + increase k`` in step k (PadaDamp; Sievert and Shah 2019, arXiv:1910.08222)."""

    start: float = 64.0
    increase: float = 0.1
    largest: float = np.inf

    def sizes(self, memory, state, n_rows, n_steps):
        return self.start + self.increase * (state.step + np.arange(_count(self.start, n_rows, n_steps))), memory


@declares(domains=SIZES | {"factor": ABOVE_ONE, "epochs": AT_LEAST_ONE}, anneals=True)
class Geometric(NamedTuple):
    """`factor` times as many rows after every `epochs` epochs (Smith, Kindermans, Ying and Le 2018, arXiv:1711.00489).

    It stands for a rate that is divided by the factor: the noise of the updates depends on rate / size alone while the
    rate is small. On a stream, a call of `partial_fit` is an epoch.
    """

    start: float = 64.0
    factor: float = 2.0
    epochs: float = 5.0
    largest: float = np.inf

    def sizes(self, memory, state, n_rows, n_steps):
        most = LARGEST_LOGARITHM / max(abs(np.log(self.factor)), np.finfo(float).eps)
        growths = min(state.epoch // self.epochs, most)
        return _steady(self.start * self.factor**growths, n_rows, n_steps), memory


@declares(domains=SIZES, anneals=True)
class Logarithmic(NamedTuple):
    """``start ln(k + 2) / ln 2`` in step k: the temperature ``rate sigma^2 / (2 b)`` falls like ``1 / ln k``.

    The law of simulated annealing (Geman and Geman 1984, Hajek 1988).
    """

    start: float = 64.0
    largest: float = np.inf

    def sizes(self, memory, state, n_rows, n_steps):
        k = state.step + np.arange(_count(self.start, n_rows, n_steps))
        return self.start * np.log(k + 2.0) / np.log(2.0), memory


@declares(domains=SIZES | {"measured": MEASURED})
class CriticalSize(NamedTuple):
    """`start`, doubled when the measured critical batch size allows it (Merrill et al. 2025, arXiv:2505.23971).

    The size is ``start 2^floor(log2(B / start))``, where B is the largest critical batch size measured so far. It never falls,
    and exceeds B only where `start` does.

    The paper measures B by branches. At some point of a run, copies of the model continue with 1, 2, 4, ... times the batch,
    each with the rate that the scaling rule gives it. B is the largest size whose smoothed loss, after the same number of
    rows, is at most a tolerance above that of every smaller size. The rate has to grow with the batch: use
    ``lr_scaling='sqrt'`` for Adam and ``'linear'`` for SGD, with ``base_batch_size=start``.

    Parameters
    ----------
    measured : tuple of (float, float)
        Pairs (rows seen, critical batch size), in ascending order of the rows. Each counts from that number of rows on.
    start : float, default=64.0
        The first size.
    largest : float, default=inf
        The size at which the growth ends.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from skminibatch.schedules import CriticalSize
    >>> schedule = CriticalSize(measured=((0, 10), (100, 40), (160, 70)), start=16)
    >>> schedule.sizes(None, SimpleNamespace(samples=0), 300, 100)[0]
    array([16., 16., 16., 16., 16., 16., 16., 32., 32., 64., 64.])
    """

    measured: tuple[tuple[float, float], ...]
    start: float = 64.0
    largest: float = np.inf

    def sizes(self, memory, state, n_rows, n_steps):
        rows, critical = np.array(self.measured, float).T
        latest = np.searchsorted(rows, _ahead(self.start, state, n_rows, n_steps), side="right")
        highest = np.maximum.accumulate(np.append(self.start, critical))[latest]
        doubled = self.start * 2.0 ** np.floor(np.log2(highest / self.start))
        return _in_turn(np.minimum(doubled, self.largest), self.start, n_rows), memory


@declares(domains=SIZES | {"factor": ABOVE_ONE}, follows_rate=True)
class Seesaw(NamedTuple):
    """`factor` times as many rows each time the rate has fallen by `factor` (Meterez et al. 2025, arXiv:2510.14717).

    The size is ``start factor^k`` with ``k = floor(log(peak / rate) / log(factor))``, where the rate is that of the schedule
    and the peak is the largest one so far.

    A scaling rule with ``base_batch_size=start`` has to raise the rate with the batch. With ``lr_scaling='sqrt'``, where the
    schedule would halve the rate, the rate is divided by ``sqrt(2)`` and the batch is doubled. ``rate / sqrt(b)`` stays that
    of the schedule, and so does the progress of Adam per row, as long as the noise of a batch is larger than its gradient. For
    SGD, this holds for ``rate / b`` and ``lr_scaling='linear'``: the batch is doubled and the rate is not changed.

    The paper turns a cosine into steps, so that the rate changes at the cuts only. Here it also falls between them, and what
    stays the same is that of the cosine itself.

    Parameters
    ----------
    start : float, default=64.0
        The first size.
    factor : float, default=2.0
        Growth of the batch at a cut.
    largest : float, default=inf
        The size at which the growth ends. From there on, the rate falls as the schedule says.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from skminibatch.schedules import Seesaw
    >>> halved = SimpleNamespace(samples=0, rates=lambda samples: 0.1 * 0.5 ** (samples // 100))
    >>> Seesaw(start=25).sizes(None, halved, 300, 100)[0]
    array([ 25.,  25.,  25.,  25.,  50.,  50., 100.])
    """

    start: float = 64.0
    factor: float = 2.0
    largest: float = np.inf

    def sizes(self, memory, state, n_rows, n_steps):
        peak, seen = memory or (0.0, state.samples)
        ahead = _ahead(self.start, state, n_rows, n_steps)
        behind = np.arange(seen, state.samples, self.start)  # a peak may be among the last steps
        rates = np.asarray(state.rates(np.concatenate([behind, ahead]).astype(float)), float)
        peaks = np.maximum.accumulate(np.append(peak, rates))[1 + len(behind) :]
        with np.errstate(divide="ignore", invalid="ignore"):
            falls = np.log(np.where(peaks > 0, peaks / rates[len(behind) :], 1.0))
        cuts = np.floor(np.minimum(falls, LARGEST_LOGARITHM) / np.log(self.factor) + ROUNDING)
        sizes = np.minimum(self.start * self.factor**cuts, self.largest)
        return _in_turn(sizes, self.start, n_rows), (float(peaks[0]), state.samples)


@declares(domains=SIZES | {"optimum": FINITE, "every": AT_LEAST_ONE}, anneals=True, reads=("loss",))
class AdaDamp(NamedTuple):
    """``start (F_0 - optimum) / (F - optimum)``: damped by the loss (Sievert and Shah 2019, arXiv:1910.08222).

    F is the mean loss of the batches, an exponential average over blocks of `every` steps, and F_0 that of the first.
    """

    start: float = 64.0
    optimum: float = 0.0
    every: float = 64.0
    largest: float = np.inf

    def sizes(self, memory, state, n_rows, n_steps):
        size = self.start
        if state.batches is not None:
            first, mean = memory or (state.batches.loss, state.batches.loss)
            mean = 0.5 * (mean + state.batches.loss)
            memory = first, mean
            above = mean - self.optimum
            # no loss at all needs no end; a loss below the given optimum says that it was none
            size = self.start * max(1.0, (first - self.optimum) / above) if above > 0 else state.population
        return _steady(size, n_rows, min(self.every, n_steps)), memory


def _shows_variance(batches):
    """Whether the last block shows how far rows differ."""
    return batches is not None and np.isfinite(batches.variance) and np.isfinite(batches.signal)


class _Asked(NamedTuple):
    """The last size of a test, and what the last block asked for."""

    size: float
    needed: float


def _sizes_of_a_test(self, memory, state, n_rows, n_steps):
    """At least as large as before, and at most `growth` times: a test is met by going on, not by one jump.

    A size that never falls keeps the largest that the noise of any block asked for. So it grows to what two blocks in a row ask.
    """
    size, before = memory or _Asked(self.start, np.inf)
    needed = self.needed(state)
    if needed is not None:
        size, before = float(np.clip(min(needed, before), size, self.growth * size)), needed
    size = min(size, self.largest, state.population)
    return _steady(size, n_rows, min(self.every, n_steps)), _Asked(size, before)


@declares(sizes=_sizes_of_a_test, domains=ADAPTIVE | {"theta": POSITIVE, "debias": BOOLEAN}, reads=("variance",))
class NormTest(NamedTuple):
    """As large as the norm test asks, ``s^2 / (theta^2 |g|^2)`` (Byrd, Chin, Nocedal and Wu 2012).

    Variance and norm are means over blocks of `every` steps, in the coordinates of the optimizer. The square of the norm of
    a batch contains the noise of the batch, so that the size that is asked for is never far above the present one; with
    `debias`, that share is taken off. The size never falls; it grows to what two blocks in a row ask for, by `growth` at most
    from one block to the next.
    """

    start: float = 64.0
    theta: float = 0.9
    every: float = 64.0
    growth: float = 2.0
    largest: float = np.inf
    debias: bool = False

    def needed(self, state):
        """The size that the last block asks for, None where it shows none."""
        if not _shows_variance(state.batches):
            return None
        square_norm = state.batches.signal if self.debias else state.batches.square_norm
        return needed_by_norm_test(state.batches.variance, square_norm, self.theta, state.population)


@declares(sizes=_sizes_of_a_test, domains=ADAPTIVE | {"theta": POSITIVE, "nu": POSITIVE}, reads=("rows",))
class InnerProductTest(NamedTuple):
    """As large as the inner product and the orthogonality test ask (Bollapragada, Byrd and Nocedal 2018, SIOPT 28(4)).

    ``max(Var(g_i . g) / (theta^2 |g|^4), (s^2 - Var(g_i . g) / |g|^2) / (nu^2 |g|^2))``, measured on the rows of the last
    batch of every block of `every` steps, with the gradient of the penalty. The size never falls; it grows to what two blocks
    in a row ask for, by `growth` at most from one block to the next.
    """

    start: float = 64.0
    theta: float = 0.9
    nu: float = 5.84
    every: float = 64.0
    growth: float = 2.0
    largest: float = np.inf

    def needed(self, state):
        """The size that the last batch asks for, None where it shows none."""
        if state.row_products is None or not np.isfinite(state.row_products).all():
            return None
        variance, inner_variance, square_norm = state.row_products
        return needed_by_inner_product_test(variance, inner_variance, square_norm, self.theta, self.nu)


class _Averages(NamedTuple):
    """Exponential averages of the variance of the gradient of a row and of what it is compared with; the last size."""

    variance: float
    other: float
    size: float


def _sizes_that_follow(self, memory, state, n_rows, n_steps):
    """The size that is wanted for the averages so far, within a factor of `growth` of the last one."""
    if _shows_variance(state.batches):
        new = _Averages(state.batches.variance, self.compared(state.batches), self.start)
        if memory is not None:
            new = _Averages(0.5 * (memory.variance + new.variance), 0.5 * (memory.other + new.other), memory.size)
        limit = min(self.largest, state.population)
        wanted = np.clip(self.wanted(new, state.batches), new.size / self.growth, new.size * self.growth)
        memory = new._replace(size=float(np.clip(wanted, min(self.smallest, limit), limit)))
    return _steady(self.start if memory is None else memory.size, n_rows, min(self.every, n_steps)), memory


@declares(sizes=_sizes_that_follow, domains=ADAPTIVE | {"optimum": FINITE, "smallest": SEVERAL}, reads=("variance",))
class CABS(NamedTuple):
    """``rate tr(Sigma) / (F - optimum)`` (Balles, Romero and Hennig 2017, arXiv:1612.05086).

    Averages over blocks of `every` steps; from one block to the next, the size changes by a factor of `growth` at most.
    """

    start: float = 64.0
    optimum: float = 0.0
    every: float = 64.0
    growth: float = 2.0
    smallest: float = 2.0
    largest: float = np.inf

    def compared(self, batches):
        """What the variance is compared with: the loss."""
        return batches.loss

    def wanted(self, averages, batches):
        """The size for these averages."""
        above = averages.other - self.optimum
        return batches.rate * averages.variance / above if above > 0 else np.inf


@declares(sizes=_sizes_that_follow, domains=ADAPTIVE | {"multiple": POSITIVE, "smallest": SEVERAL}, reads=("variance",))
class NoiseScaleSize(NamedTuple):
    """`multiple` times the noise scale ``tr(Sigma) / |G|^2`` (McCandlish et al. 2018, arXiv:1812.06162, appendix D).

    Its two parts are averaged over blocks of `every` steps; from one block to the next, the size changes by a factor of
    `growth` at most.
    """

    multiple: float = 1.0
    start: float = 64.0
    every: float = 64.0
    growth: float = 2.0
    smallest: float = 2.0
    largest: float = np.inf

    def compared(self, batches):
        """What the variance is compared with: the square of the gradient."""
        return batches.signal

    def wanted(self, averages, batches):
        """The size for these averages."""
        return self.multiple * averages.variance / averages.other if averages.other > 0 else np.inf


SIZE_SCHEDULES = {
    "auto": AutoSize,
    "constant": ConstantSize,
    "linear": LinearSize,
    "geometric": Geometric,
    "logarithmic": Logarithmic,
    "critical": CriticalSize,
    "seesaw": Seesaw,
    "adadamp": AdaDamp,
    "norm_test": NormTest,
    "inner_product_test": InnerProductTest,
    "cabs": CABS,
    "noise_scale": NoiseScaleSize,
}
