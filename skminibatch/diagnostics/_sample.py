"""What the diagnostics share: their records, and an estimator with some rows as they see it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_consistent_length

from skminibatch.contract.typing import Examinable
from skminibatch.models.gradients import Gradients
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.models.protocol import Model
from skminibatch.statistics.gradients import (
    GradientStatistics,
    jackknife,
    mean_without_each,
    sizes_of,
    standard_error,
)
from skminibatch.statistics.tails import Tail, predicted_means

NO_NOISE = 1e-150  # of the square of the gradient
NO_FIELDS: tuple[str, ...] = ()  # a constant: an annotation in the class would make a field of it
MICRO_BATCHES = 64  # of which one at a time is left out for an interval

_ROWS = """\
estimator : object
    An estimator of this package, fitted or not; it is left as it is.
X : {array-like, CSR matrix} of shape (n_samples, n_features)
    Rows to examine.
y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    Targets."""
_SAMPLING = """\
sample_weight : array-like of shape (n_samples,), default=None
    Weights of the rows; those of weight zero are left out.
max_samples : int or float, default=None
    Rows to draw (a float: a share of them), without replacement; None takes all.
confidence_level : float, default=0.95
    Level of the interval.
random_state : int, RandomState instance or None, default=None
    Draws the rows and the micro-batches of the interval."""
_CONSTRAINTS = {
    "max_samples": [
        Interval(Integral, 4, None, closed="left"),
        Interval(Real, 0, 1, closed="right"),
        None,
    ],
    "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    "random_state": ["random_state"],
}


def diagnostic(**constraints):
    """Check the parameters of a diagnostic in scikit-learn's way, and describe those that all of them share."""

    def decorate(function):
        doc = inspect.cleandoc(function.__doc__ or "")  # Python 3.13 has done so already
        function.__doc__ = doc.replace("{rows}", _ROWS).replace("{sampling}", _SAMPLING)
        return validate_params({**_CONSTRAINTS, **constraints}, prefer_skip_nested_validation=False)(function)

    return decorate


@dataclass(frozen=True, repr=False)
class Record:
    """The result of a diagnostic.

    ``estimator`` says what had a gradient of its own: 'rows' or, where a normalization couples the rows of a batch,
    'micro-batches' of a few of the rows, each normalised by its own statistics.
    """

    UNKNOWN_OF_MICRO_BATCHES = NO_FIELDS  # those that are NaN there

    confidence_interval: tuple[float, float]
    confidence_level: float
    n_samples: int
    estimator: str

    def __post_init__(self):
        unknown = self.UNKNOWN_OF_MICRO_BATCHES if self.estimator == "micro-batches" else ()
        for field in fields(self):
            quantity = getattr(self, field.name)
            if field.name not in unknown and not isinstance(quantity, str) and np.isnan(quantity).any():
                raise ValueError(
                    f"{field.name} is not a number: the gradients of these rows are too large for floating-point numbers. "
                    "Scaling X and y with StandardScaler or MinMaxScaler might help."
                )

    def __repr__(self):
        lines = [f"{type(self).__name__}("]
        for field in sorted(fields(self), key=lambda field: field.name in Record.__dataclass_fields__):
            lines.append(f"  {field.name}={_written(getattr(self, field.name))},")
        return "\n".join([*lines, ")"])


def _written(quantity) -> str:
    """A number or an array as a person reads it."""
    if isinstance(quantity, tuple):
        return "(" + ", ".join(map(_written, quantity)) + ")"
    if isinstance(quantity, np.ndarray):
        return np.array2string(quantity, precision=4, threshold=8, separator=", ")
    return f"{quantity:.4g}" if isinstance(quantity, float) else repr(quantity)


class Sample:
    """What a diagnostic examines: the gradients of an estimator over some of the rows.

    Attributes
    ----------
    gradients : Gradients
        Those of `rows`.
    drawn : ndarray of int
        Numbers of the rows in the order of the data.
    complete : bool
        Whether these are all rows in use.
    rng : RandomState
    """

    gradients: Gradients

    def __init__(self, estimator, X, y, sample_weight, max_samples, random_state):
        self.rng = check_random_state(random_state)
        if not isinstance(estimator, Examinable):
            raise ValueError(
                f"Expected 'estimator' to be an estimator of skminibatch. Got {type(estimator).__name__} instead; of a pipeline, "
                "pass the last step and the rows as it sees them."
            )
        gradients = estimator._examined(X, y, sample_weight)
        rows = gradients.data.rows_in_use
        wanted = _wanted(max_samples, rows.size)
        self.complete = wanted == rows.size
        self.drawn = rows if self.complete else np.sort(self.rng.choice(rows, wanted, replace=False))
        if self.drawn.size < 4:
            raise ValueError(f"The noise of gradients needs at least 4 rows. Got {self.drawn.size}.")
        self.gradients = gradients.in_micro_batches(self.drawn.size).on(self.drawn)
        if self.model.couples_rows:
            size = self.model.observation_size
            in_random_order = self.rng.permutation(self.drawn)
            self.gradients = self.gradients.on(in_random_order[: self.drawn.size // size * size])

    @property
    def model(self) -> Model:
        """The model."""
        return self.gradients.model

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the rows: those `drawn`; where rows are coupled, in random order, as many as fill micro-batches."""
        return self.gradients.rows

    @property
    def n_rows(self) -> int:
        """Number of rows from which these were drawn."""
        return self.gradients.data.n_rows

    def micro_batches(self) -> list[np.ndarray]:
        """The rows as a random partition, for the jackknife."""
        if self.model.couples_rows:
            units = self.rows.reshape(-1, self.model.observation_size)
            return [group.ravel() for group in np.array_split(units, min(MICRO_BATCHES, len(units)))]
        shuffled = self.rng.permutation(self.rows)
        return np.array_split(shuffled, min(MICRO_BATCHES, len(shuffled) // 2))

    def batches(self, groups, batch_size: int, max_samples) -> list[np.ndarray]:
        """The batches of some groups or of consecutive rows, drawn up to `max_samples` rows."""
        if groups is None:
            n_batches = self.drawn.size // batch_size
            batches = list(self.drawn[: n_batches * batch_size].reshape(n_batches, batch_size))
        else:
            check_consistent_length(self.gradients.data.X, groups)
            _, codes = np.unique(np.asarray(groups)[self.drawn], return_inverse=True)
            order = np.argsort(codes, kind="stable")
            batches = np.split(self.drawn[order], np.cumsum(np.bincount(codes))[:-1])
        wanted = _wanted(max_samples, self.drawn.size)
        if wanted < self.drawn.size:
            batches = [batches[k] for k in self.rng.permutation(len(batches))]
            ends = np.cumsum([len(batch) for batch in batches])
            batches = batches[: max(3, int(np.searchsorted(ends, wanted, side="right")))]
        if len(batches) < 3:
            raise ValueError(f"The correlation within batches needs at least 3 of them. Got {len(batches)}.")
        if self.model.couples_rows:  # two micro-batches in the smallest batch, where it has four rows
            self.gradients = self.gradients.in_micro_batches(4 * min(map(len, batches)))
            batches = [self.rng.permutation(batch) for batch in batches if len(batch) >= self.model.observation_size]
        return batches

    def of_linear_model(self, function: str, why: str) -> LinearGradients:
        """The gradients, for what only a linear model has; a network raises an error."""
        if not isinstance(self.gradients, LinearGradients):
            raise ValueError(f"{function} needs a linear model: {why}")
        return self.gradients

    def facts(
        self, interval: tuple[float, float], level: float, n_samples: int | None = None
    ) -> tuple[tuple[float, float], float, int, str]:
        """What every `Record` begins with."""
        n_samples = self.rows.size if n_samples is None else n_samples
        return interval, level, n_samples, "micro-batches" if self.model.couples_rows else "rows"

    @property
    def per_row(self) -> float:
        """What the covariance of all observations is multiplied with for that of rows."""
        if not self.model.couples_rows:
            return 1.0
        size = self.model.observation_size
        n = self.rows.size // size
        return size * n / (n - 1.0) * (1.0 - 1.0 / self.n_rows)

    @property
    def left(self) -> float:
        """Share of the population that was not drawn: all of it where the rows are a sample themselves."""
        return 1.0 if self.complete else 1.0 - self.rows.size / self.n_rows

    @property
    def share_of_noise(self) -> float:
        """Share of tr(Sigma) in the square of the mean gradient of the rows, in addition to that of all rows."""
        n, size = self.n_rows, self.rows.size
        return (n - size) / (size * (n - 1.0))

    @cached_property
    def row_squares(self) -> np.ndarray:
        """Squared norms of the gradients of the losses of the rows; none where rows are coupled."""
        return np.zeros(0) if self.model.couples_rows else self.gradients.row_squares(self.gradients.row_factors())

    @cached_property
    def tail(self) -> Tail:
        """The tail of the squared norms."""
        return Tail.of(self.row_squares)

    def traces(self, statistics: GradientStatistics) -> np.ndarray | None:
        """tr(Sigma) as it may be, where few rows carry it, some of which may not be here; None where they do not."""
        if not self.tail.is_heavy:
            return None
        unit = self.row_squares.max()
        means = unit * predicted_means(self.row_squares / unit, np.inf if self.complete else self.n_rows, self.rng)
        square_norm, _ = statistics.of_losses().moments()
        return np.maximum(means - max(square_norm, 0.0), 0.0)

    def statistics(self, groups: list[np.ndarray]) -> GradientStatistics:
        """Those of the gradients of groups of rows, drawn from all rows."""
        return self.gradients.statistics(groups)

    def of_interval(self, statistics: GradientStatistics) -> GradientStatistics:
        """The same for an interval: rows that were all examined are a sample of a population."""
        return statistics._replace(population=np.inf) if self.complete else statistics

    def interval_of_mean(self, means: np.ndarray, groups: list[np.ndarray], level: float) -> tuple[float, float]:
        """Interval of the mean of a quantity of rows, from its means in micro-batches."""
        mean = np.average(means, weights=sizes_of(groups))
        return jackknife(mean_without_each(means, groups), mean, level, self.left)

    def interval_of_ratio(
        self,
        statistics: GradientStatistics,
        level: float,
        shifts=0.0,
        left: float | None = None,
        center: float | None = None,
        traces: np.ndarray | None = None,
    ) -> tuple[float, float]:
        """Interval of ``|G|^2 / tr(Sigma)``, which stays finite where |G|^2 is close to zero.

        The jackknife is that of the root of the ratio with the share of the noise in it, the norm of the mean gradient over the
        deviation of a row: its error does not depend on its size. That of the ratio is small where the ratio came out too
        small by chance, so that its intervals lie too low. `shifts` are added to the moments without each group; `center`
        takes the place of the ratio of the moments. With `traces`, what tr(Sigma) may be, the interval includes what the ratio
        may be then.
        """
        statistics = self.of_interval(statistics)
        without_each = np.array(statistics.moments_without_each()) + shifts
        left = self.left if left is None else left
        center = float(ratio(*statistics.moments())) if center is None else center
        share, shares = statistics.shares_of_noise()
        roots = np.sqrt(np.maximum(ratio(*without_each) + shares, 0.0))
        root = float(np.sqrt(max(center + share, 0.0)))
        low, high = jackknife(roots, root, level, left)
        low, high = max(low, 0.0) ** 2 - share, high**2 - share
        if traces is None:
            return low, high
        errors = standard_error(roots, left) * self.rng.standard_t(len(roots) - 1, len(traces))
        with np.errstate(divide="ignore", invalid="ignore"):
            possible = root * np.sqrt(statistics.moments()[1] / traces) + errors
        return widened((low, high), np.sign(possible) * possible**2 - share, level)


def widened(interval: tuple[float, float], predicted: np.ndarray, level: float) -> tuple[float, float]:
    """The interval with that of some predictions."""
    low, high = np.quantile(predicted, [0.5 - level / 2.0, 0.5 + level / 2.0], method="nearest")
    return float(min(interval[0], low)), float(max(interval[1], high))


def ratio(square_norm, trace):
    """``|G|^2 / tr(Sigma)``; very large, but with a finite square, where there is no noise at all."""
    return square_norm / np.maximum(trace, np.maximum(NO_NOISE * np.abs(square_norm), np.finfo(float).tiny))


def batch_sizes_up_to(batch_sizes, n_rows: int) -> np.ndarray:
    """The batch sizes of a parameter, checked; of None, the powers of two."""
    if batch_sizes is None:
        return 2 ** np.arange(int(np.log2(n_rows)) + 1)
    b = check_array(batch_sizes, ensure_2d=False, dtype=None, input_name="batch_sizes")
    if b.dtype.kind not in "iu" or b.min() < 1 or b.max() > n_rows:
        raise ValueError(f"batch_sizes must be integers from 1 to the number of rows, {n_rows}. Got {batch_sizes!r}.")
    return b


def _wanted(max_samples, n_rows: int) -> int:
    if max_samples is None:
        return n_rows
    if isinstance(max_samples, Integral):
        return min(int(max_samples), n_rows)
    return max(4, min(round(max_samples * n_rows), n_rows))
