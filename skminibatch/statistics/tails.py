"""Heavy tails: how much a few rows that were not drawn may add to a mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHARE, FEWEST, MOST = 20, 10, 200  # one row in so many is of the tail, within bounds
HEAVY = 0.5  # the tail index above which a variance is infinite, so that intervals by a standard error fail
PREDICTIONS, TERMS = 1_000, 200  # predicted means, and the largest numbers that are drawn one by one for each


class Tail(NamedTuple):
    """The largest of some numbers, as a power law: ``P(x > t) ~ t^(-1 / heaviness)``.

    Attributes
    ----------
    heaviness : float
        Mean logarithm of the largest numbers over the threshold (Hill, A simple general approach to inference about the tail
        of a distribution, Annals of Statistics 3, 1975). Above 1/2 the numbers have no variance, above 1 no mean.
    threshold : float
    size : int
        Numbers above the threshold.
    """

    heaviness: float
    threshold: float
    size: int

    @classmethod
    def of(cls, numbers: np.ndarray) -> Tail:
        """That of some numbers, of which zeros are not in it; an index of 0 where there are too few."""
        m = len(numbers)
        positive = int(np.count_nonzero(numbers))
        size = min(max(m // SHARE, min(FEWEST, m // 4)), MOST, positive - 1)
        if size < 2:
            return cls(0.0, np.inf, 0)
        largest = np.partition(numbers, m - size - 1)[m - size - 1 :]
        threshold = float(largest[0])
        return cls(float(np.mean(np.log(largest[1:] / threshold))), threshold, size)

    @property
    def is_heavy(self) -> bool:
        """Whether the index is above 1/2 by more than its standard error, ``heaviness / sqrt(size)``."""
        return self.heaviness * (1.0 - 1.0 / np.sqrt(max(self.size, 1))) > HEAVY


def predicted_means(
    numbers: np.ndarray, population: float, rng: np.random.RandomState, factors: np.ndarray | None = None
) -> np.ndarray:
    """Means of the `population` numbers from which these were drawn without replacement, as they may be (PREDICTIONS,).

    The numbers that were drawn are known. Of the others, those below the threshold of the tail are like these, up to the error
    of their mean; each of those above follows the power law. Its index and the share of the tail are drawn from their
    distributions given these numbers (gamma and beta, with Jeffreys' priors). With `factors` of the numbers, the means of the
    products are there too (2, PREDICTIONS), those in the tail taking factors that occur in it.
    """
    tail, m = Tail.of(numbers), len(numbers)
    k, order = tail.size, np.argsort(numbers)
    factors = np.ones(m) if factors is None else factors
    both, of_tail = np.array([numbers, numbers * factors]), factors[order[m - k :]]
    body = both[:, order[: m - k]]
    indices = 1.0 / rng.gamma(k, 1.0 / (k * tail.heaviness), PREDICTIONS)
    shares = rng.beta(k + 0.5, m - k + 0.5, PREDICTIONS)
    spread = body.std(axis=1)[:, None]
    means = body.mean(axis=1)[:, None] + spread * rng.standard_normal(PREDICTIONS) / np.sqrt(m - k)
    if np.isinf(population):
        with np.errstate(divide="ignore"):
            mean = np.where(indices < 1.0, tail.threshold / (1.0 - indices), np.inf)
        found = (1.0 - shares) * means + shares * mean * [np.ones(PREDICTIONS), rng.choice(of_tail, PREDICTIONS)]
    else:
        counts = rng.binomial(int(population) - m, shares)
        few = population - m - counts
        sums = few * means + np.sqrt(few) * spread * rng.standard_normal(PREDICTIONS)
        found = both.sum(axis=1)[:, None] + sums + tail.threshold * _sums_of_tail(counts, indices, of_tail, rng)
        found /= population
    return found[0] if np.all(factors == 1.0) else found


def _sums_of_tail(counts: np.ndarray, indices: np.ndarray, factors: np.ndarray, rng) -> np.ndarray:
    """Sums of that many numbers over their threshold, by the power law, and of their products with some of the factors.

    The largest are drawn from the top, where the places of the numbers are arrivals of a Poisson process (LePage, Woodroofe and
    Zinn, Convergence to a stable distribution via order statistics, Annals of Probability 9, 1981); the rest has its mean.
    """
    arrivals = np.cumsum(rng.standard_exponential((len(counts), TERMS)), axis=1)
    places = np.minimum(arrivals / np.maximum(counts, 1)[:, None], 1.0)
    largest = np.where(np.arange(TERMS) < counts[:, None], places ** -indices[:, None], 0.0)
    rest = np.where(counts > TERMS, counts * _integral(places[:, -1], indices), 0.0)
    products = np.sum(largest * rng.choice(factors, largest.shape), axis=1) + factors.mean() * rest
    return np.array([largest.sum(axis=1) + rest, products])


def _integral(start: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """``int t^(-index) dt`` from a start to 1."""
    powers = 1.0 - indices
    near = np.abs(powers) < 1e-6
    return np.where(near, -np.log(start), (1.0 - start**powers) / np.where(near, 1.0, powers))
