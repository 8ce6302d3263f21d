"""What the gradients of the rows say about their noise: sums over groups of rows, and the estimators made of them.

Notation: g_i is the gradient of the loss of row i, G the gradient of the objective (the mean of the g_i and that of the
penalty), Sigma the covariance of the g_i over the data; a group is any set of rows, such as a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.linalg import norm


class GradientStatistics(NamedTuple):
    """Sums over each of k groups of rows; all that the noise of gradients needs, in O(k) numbers.

    Attributes
    ----------
    sizes : ndarray of shape (k,)
        Observations of each group: its rows or, with `rows_each`, its micro-batches.
    squares : ndarray of shape (k,)
        ``sum_i |g_i|^2`` of each group.
    square_sums : ndarray of shape (k,)
        ``|S_j|^2`` with ``S_j = sum_i g_i`` over group j.
    products : ndarray of shape (k,)
        ``S_j . S`` with S the sum over all groups.
    pulls : ndarray of shape (k,)
        ``S_j . p`` with p the gradient of the penalty.
    square_pull : float
        ``|p|^2``.
    population : float
        Number of rows from which these were drawn without replacement; infinite for a population.
    rows_each : float
        Rows of an observation. Where a normalization couples the rows of a batch, a row has no gradient of its own, and g_i
        is that of a micro-batch of this size; Sigma is then `rows_each` times the covariance of these.
    """

    sizes: np.ndarray
    squares: np.ndarray
    square_sums: np.ndarray
    products: np.ndarray
    pulls: np.ndarray
    square_pull: float = 0.0
    population: float = np.inf
    rows_each: float = 1.0

    def of_losses(self) -> GradientStatistics:
        """The same for the objective without its penalty."""
        return self._replace(pulls=np.zeros_like(self.pulls), square_pull=0.0)

    def moments(self) -> tuple[float, float]:
        """Unbiased estimates of (|G|^2, tr Sigma) of the population; both exact where all of its rows are here."""
        return self._moments(self.sizes.sum(), self.squares.sum(), self.products.sum(), self.pulls.sum())

    def moments_without_each(self) -> tuple[np.ndarray, np.ndarray]:
        """The same from all groups but one, for each group."""
        return self._moments(
            self.sizes.sum() - self.sizes,
            self.squares.sum() - self.squares,
            self.products.sum() - 2.0 * self.products + self.square_sums,
            self.pulls.sum() - self.pulls,
        )

    def shares_of_noise(self) -> tuple[float, np.ndarray]:
        """Share of tr(Sigma) in the square of the mean gradient, of all groups and without each; `moments` take it off."""
        n, population = self.sizes.sum() * self.rows_each, 1.0 - 1.0 / self.population
        shares = 1.0 / np.append(n, n - self.sizes * self.rows_each) - 1.0 / self.population
        return float(shares[0] / population), shares[1:] / population

    def _moments(self, n, squares, square_sum, pull):
        variance = self.rows_each * np.maximum(squares - square_sum / n, 0.0) / (n - 1.0)
        square_norm = square_sum / n**2 + 2.0 * pull / n + self.square_pull
        square_norm = square_norm - (1.0 / (n * self.rows_each) - 1.0 / self.population) * variance
        return square_norm, variance * (1.0 - 1.0 / self.population)

    def within_and_between(self) -> tuple[float, float, float]:
        """Mean squares within and between groups, and the size of a group that stands for unequal ones (Searle 1971)."""
        totals = [part.sum() for part in self._parts()]
        return self._mean_squares(len(self.sizes), self.products.sum(), *totals)

    def within_and_between_without_each(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same from all groups but one, for each group."""
        left = [part.sum() - part for part in self._parts()]
        square_sums = self.products.sum() - 2.0 * self.products + self.square_sums
        return self._mean_squares(len(self.sizes) - 1, square_sums, *left)

    def _parts(self):
        return self.sizes, self.sizes**2, self.squares, self.square_sums / self.sizes

    def _mean_squares(self, k, square_sum, n, square_sizes, squares, squares_of_means):
        within = (squares - squares_of_means) / (n - k)
        between = (squares_of_means - square_sum / n) / (k - 1)
        return tuple(self.rows_each * part for part in (within, between, (n - square_sizes / n) / (k - 1)))


def sizes_of(groups: list[np.ndarray]) -> np.ndarray:
    """Rows of each group, as numbers to calculate with."""
    return np.array([len(rows) for rows in groups], float)


def mean_without_each(means: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    """The mean of a quantity of rows without each group, from its means in the groups (k, ...)."""
    sizes = sizes_of(groups).reshape(-1, *[1] * (means.ndim - 1))
    return (np.sum(sizes * means, axis=0) - sizes * means) / (sizes.sum() - sizes)


def correlation(within, between, size):
    """Intra-group correlation from mean squares of groups of a size (analysis of variance; Donner 1986)."""
    return (between - within) / (between + (size - 1.0) * within)


def correlation_interval(statistics: GradientStatistics, level: float) -> tuple[float, float]:
    """Interval of the intra-group correlation, by a jackknife over groups of ``log(MSB / MSW)``.

    The correlation is a function of that ratio, whose logarithm is closer to normal: of 30 groups, the jackknife of the
    correlation itself covers too seldom. Where the logarithm has no value, that is taken. Where all gradients but those of one
    group are equal, nothing is known.
    """
    within, between, size = statistics.within_and_between()
    each_within, each_between, each_size = statistics.within_and_between_without_each()
    with np.errstate(divide="ignore", invalid="ignore"):
        log, each = np.log(between / within), np.log(each_between / each_within)
    if np.any(each_within + each_between <= 0):
        return -np.inf, np.inf
    if not (np.isfinite(log) and np.isfinite(each).all()):
        rho = correlation(within, between, size)
        return jackknife(correlation(each_within, each_between, each_size), rho, level)
    ratios = np.exp(np.minimum(jackknife(each, log, level), 700.0))
    low, high = 1.0 - size / (ratios + size - 1.0)
    return float(low), float(high)


def jackknife(without_each: np.ndarray, estimate: float, level: float, left: float = 1.0) -> tuple[float, float]:
    """Interval around an estimate from what it is without each of k groups (Student's t with k - 1 degrees of freedom).

    `left` is the share of the population that was not drawn: a finite population leaves less to doubt.
    """
    half = stats.t.ppf(0.5 + level / 2.0, len(without_each) - 1) * standard_error(without_each, left)
    return float(estimate - half), float(estimate + half)


def standard_error(without_each: np.ndarray, left: float = 1.0) -> float:
    """Of an estimate, from what it is without each of k groups."""
    k = len(without_each)
    return float(np.sqrt(left * (k - 1) / k) * norm(without_each - without_each.mean(), check_finite=False))


def inverted(low: float, high: float) -> tuple[float, float]:
    """The interval of 1 / x for an interval of x that cannot be negative: no upper limit where x may be zero."""
    return (np.inf if high <= 0 else 1.0 / high), (np.inf if low <= 0 else 1.0 / low)
