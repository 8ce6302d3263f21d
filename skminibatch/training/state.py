"""The state of training, the recipe it follows, its history and its progress."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from skminibatch.contract.kinds import Declared, declared
from skminibatch.contract.typing import AnyPart
from skminibatch.models.data import Data
from skminibatch.models.protocol import Distance, Model, Predictor
from skminibatch.statistics.batches import BatchStatistics

LONGEST_HISTORY = 500  # epochs of a stream
FIRST_ENTRIES = 16  # for which there is room at first
COUNTS = ("epoch", "samples", "updates")  # of the quantities in a history
UNKNOWN = Distance()
MEMORY = 0.95  # that the sums of `Drift` keep of those before, at each block
SIGNIFICANT = 3.0  # deviations
CHECKED_OFTEN, CHECKS = 2048, 6  # epochs of that many updates or more have that many checks, where these are cheap


class Drift(NamedTuple):
    """What the iterate gained over the average on newer rows: the sum over blocks of rows, and that of the squares."""

    gain: float = 0.0
    squares: float = 0.0

    def with_block(self, gain: float) -> Drift:
        """With the gain on one more block."""
        return Drift(MEMORY * self.gain + gain, MEMORY * self.squares + gain * gain)

    @property
    def significant(self) -> bool:
        """Whether the iterate is better beyond chance."""
        return self.gain > SIGNIFICANT * np.sqrt(self.squares)


class TrainState(NamedTuple):
    """The state of training; a new one after each chunk.

    ``samples``, ``step`` and ``epoch`` count over all calls of `partial_fit`; ``reductions`` counts how often an adaptive
    rate was lowered; ``smoothness`` is that of the batches to come; ``batch_size`` and ``coefficients`` are those of the last
    step; ``noise_scale`` is that of the last epoch in which it was measured, ``peak_batch_size`` that of the start. For the
    schedule of batch sizes, ``population`` is the number of rows, ``batches`` the statistics of the last chunk, where the
    schedule reads them, and ``row_products`` ``(tr Sigma, Var(g_i . g), |g|^2)`` of the rows of its last batch, each given
    once; ``rates(samples)`` is the schedule of rates, while a schedule of sizes that follows it is asked. ``drift`` is that of a
    stream.
    """

    step: int = 0
    epoch: int = 0
    samples: int = 0
    reductions: int = 0
    smoothness: float | np.ndarray = 1.0
    batch_size: int = 0
    noise_scale: float = np.inf
    peak_batch_size: float = np.inf
    population: float = np.inf
    began: int = 0
    period: float = np.inf
    batches: BatchStatistics | None = None
    row_products: tuple[float, float, float] | None = None
    rates: Callable[[np.ndarray], np.ndarray] | None = None
    coefficients: np.ndarray | None = None
    optimizer_memory: object = None
    drift: Drift = Drift()
    sampler_memory: object = None
    sizes_memory: object = None

    def statistic(self, name: str | None) -> float:
        """The statistic that a scaling rule reads; infinite for None."""
        return np.inf if name is None else getattr(self, name)


@dataclass(frozen=True)
class Recipe:
    """How to train: the parts in addition to the model, and when to stop.

    ``smoothness`` is what a rate follows that depends on the batch size. Of the ``n_rows`` in use (0: as many as an epoch has)
    stiff ones come several times: an epoch has ``repeats`` times as many. Batches of more than ``most_rows`` are cut into steps
    whose rates have its share. ``follows_curvature``: the rate follows the curvatures of the losses at the parameters where
    the stage began.
    ``evaluation_rows`` are those on which the objective is measured (empty: all); None: the objective of an epoch is the mean
    over its batches, each before its step. ``tol`` and ``patience``: see `Watch`; ``constant`` is the predictor that the gain
    is measured from (None: that of the start). With ``keep_best``: stop after `patience` checks in a row at which the score
    rose by less than `tol`. ``then``, called after ``first_epochs`` and now and then again, starts the second stage:
    ``then(progress, least)``, a coroutine as training is one, gives a `StageStart`.
    """

    sampler: AnyPart
    schedule: AnyPart
    sizes: AnyPart
    smoothness: Any = None  # with `of_batch`, or None
    n_rows: int = 0
    repeats: float = 1.0
    most_rows: float = np.inf
    clip_norm: float = np.inf
    scaling: AnyPart | None = None
    base_batch_size: int = 64
    max_epochs: int = 1
    tol: float | None = None
    patience: int = 3
    max_seconds: float | None = None
    constant: Any = None  # a predictor
    evaluation_rows: np.ndarray | None = field(default_factory=lambda: np.empty(0, np.int64))
    validation: Callable[..., Validated] | None = None
    keep_best: bool = False
    follows_curvature: bool = False
    checks: int = CHECKS
    first_epochs: int = 0
    then: Callable[..., Generator[Any, Any, StageStart]] | None = None
    seed: int = 0

    @property
    def tol_of_objective(self) -> float | None:
        """The `tol` within which of its minimum the objective ends training; None: it does not."""
        return None if self.keep_best else self.tol

    @cached_property
    def declared(self) -> DeclaredParts:
        """What the parts declare: asked once, since the loop reads it in each epoch."""
        scaling = None if self.scaling is None else declared(self.scaling)
        return DeclaredParts(declared(self.sampler), declared(self.schedule), declared(self.sizes), scaling)


class DeclaredParts(NamedTuple):
    """What the parts of a recipe declare."""

    sampler: Declared
    schedule: Declared
    sizes: Declared
    scaling: Declared | None


class History:
    """Quantities of each epoch, a row of numbers for each; ``most`` (None: any number) epochs are kept of an endless stream.

    When there are as many, every second one except the best is dropped.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._names: tuple[str, ...] = ()
        self._entries, self._n_epochs = np.zeros((0, 0)), 0

    @classmethod
    def of_stream(cls, before: History | None = None) -> History:
        """That of a stream, which goes on from another one and leaves this as it is."""
        history = cls() if before is None else before.copied()
        history.most = LONGEST_HISTORY
        return history

    def copied(self) -> History:
        """A history that can grow apart from this one."""
        history = History(self.most)
        history._names, history._n_epochs = self._names, self._n_epochs
        history._entries = self._entries[: self._n_epochs].copy()
        return history

    def __len__(self) -> int:
        return self._n_epochs

    def last(self, name: str) -> float:
        """A quantity of the last epoch."""
        return float(self._entries[self._n_epochs - 1, self._names.index(name)])

    def append(self, **entry: float) -> None:
        """Add an epoch."""
        if not self._names:
            self._names, self._entries = tuple(entry), np.zeros((FIRST_ENTRIES, len(entry)))
        if self._n_epochs == len(self._entries):
            self._entries = np.concatenate([self._entries, np.zeros_like(self._entries)])
        self._entries[self._n_epochs] = [entry[name] for name in self._names]
        self._n_epochs += 1
        if self.most is not None and self._n_epochs >= self.most:
            kept = sorted({*range(self._n_epochs - 1, -1, -2), *self._best()})
            self._entries, self._n_epochs = self._entries[kept], len(kept)

    def correct(self, **entry: float) -> None:
        """Change some quantities of the last epoch."""
        for name, number in entry.items():
            self._entries[self._n_epochs - 1, self._names.index(name)] = number

    def _best(self) -> set[int]:
        """The entries with the smallest objective and the largest score."""
        history = self.arrays()
        best, scores = {int(np.argmin(history["loss"] + history["penalty"]))}, history["validation_score"]
        return best | ({int(np.nanargmax(scores))} if np.isfinite(scores).any() else set())

    def arrays(self) -> dict[str, np.ndarray]:
        """One array per quantity, a copy."""
        columns = self._entries[: self._n_epochs].T.copy()
        return {
            name: column.astype(np.int64) if name in COUNTS else column
            for name, column in zip(self._names, columns, strict=True)
        }


class Verdict(NamedTuple):
    """The outcome of a check.

    ``reason`` is a sentence that says why training stops; it is empty as long as training continues. ``converged``: there is
    nothing to warn of. ``stalled``: training continues with a lower rate.
    """

    reason: str = ""
    converged: bool = False
    stalled: bool = False


CONTINUE, LOWER_THE_RATE = Verdict(), Verdict(stalled=True)


class Validated(NamedTuple):
    """The score of the validation rows, and the mean of their losses; NaN where there are none."""

    score: float = np.nan
    loss: float = np.nan


UNSCORED = Validated()


@dataclass
class Progress:
    """State after an epoch, or after a check inside one: the parameters, the predictor, and what was measured of it."""

    model: Model
    params: Any  # an array; None where the best epoch was restored, whose parameters are not kept
    state: TrainState
    history: History
    predictor: Predictor
    loss: float = np.inf
    penalty: float = 0.0
    validated: Validated = UNSCORED
    distance: Distance = UNKNOWN
    verdict: Verdict = CONTINUE

    @property
    def objective(self) -> float:
        """What training minimises."""
        return self.loss + self.penalty


class StageStart(NamedTuple):
    """Where a second stage starts. ``finish()`` gives the progress, the rows and the recipe of its epochs.

    What takes long and serves epochs alone is left to that: training may end where the stage would start. ``full_step()``, where
    the full step that led here gained what the curvature says, gives the start after one more: that is a better epoch.
    """

    progress: Progress
    finish: Callable[[], tuple[Progress, Data, Recipe]]
    full_step: Callable[[], Generator[Any, Any, StageStart]] | None = None


class Diverged(ValueError):
    """A loss or a gradient was not finite."""

    def __init__(self, epoch: int, rate: float) -> None:
        super().__init__(f"Floating-point under-/overflow occurred at epoch #{epoch + 1}.")
        self.epoch, self.rate = epoch, rate
