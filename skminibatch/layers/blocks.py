"""The formula that all normalizations share: numbers of a block are brought to mean zero and variance one.

Normalizations differ in what they pool, see `skminibatch.layers.pooling`. With shares p that sum to one over a block,
``z = (x - mean) / sqrt(variance + epsilon)`` and

``dx = (dz - p sum(dz) - p z sum(dz z)) / sqrt(variance + epsilon)``,

the sums being over the block. For equal shares this is the formula of Ioffe and Szegedy 2015 (arXiv:1502.03167). Where the
mean is not taken away, the mean square takes the place of the variance, and ``sum(dz)`` vanishes from dx.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from skminibatch.contract.domains import BOOLEAN, POSITIVE, Interval
from skminibatch.contract.kinds import declared
from skminibatch.layers.pooling import Pooling

# the domains of a normalization with running statistics
RUNNING = {"epsilon": POSITIVE, "momentum": Interval(0, 1, "right"), "exact": BOOLEAN}


def standardized(X: np.ndarray, shares, axis: int, epsilon: float, *, centred: bool = True):
    """Standardise along an axis: (z, mean, variance, backward), the moments with that axis kept.

    Parameters
    ----------
    X : ndarray
        Numbers; real, or complex where derivatives are taken along the imaginary axis.
    shares : ndarray or float
        Shares of the entries along `axis` that sum to one, of a shape that goes with `X`.
    epsilon : float
        What is added to the variance.
    centred : bool
        Whether the mean is taken away; otherwise it is zero here, and the variance is the mean square.
    """
    mean = np.sum(shares * X, axis=axis, keepdims=True) if centred else 0.0
    centered = X - mean
    variance = np.sum(shares * centered * centered, axis=axis, keepdims=True)
    inverse = 1.0 / np.sqrt(variance + epsilon)
    z = centered * inverse

    def backward(dz: np.ndarray) -> np.ndarray:
        common = z * np.sum(dz * z, axis=axis, keepdims=True)
        if centred:
            common = np.sum(dz, axis=axis, keepdims=True) + common
        return (dz - shares * common) * inverse

    return z, mean, variance, backward


def scaled(z: np.ndarray, parameters: np.ndarray, standardization, *, shifted: bool = True):
    """``gamma z + beta`` and its backward map; `parameters` are gamma and, where it is `shifted`, beta.

    Each is one number per unit or per block of equally many units. `standardization` maps dz to dx. The backward map returns dx
    and what each row adds to the gradient of the parameters.
    """
    n_rows, n_units = z.shape
    gamma, *beta = parameters.reshape(1 + shifted, -1)
    per_block = n_units // gamma.size
    wide = np.repeat(gamma, per_block)

    def backward(dy: np.ndarray):
        by_unit = (dy * z, dy) if shifted else (dy * z,)
        by_block = [each.reshape(n_rows, -1, per_block).sum(axis=2) for each in by_unit]
        return standardization(dy * wide), np.hstack(by_block)

    y = wide * z
    return y + np.repeat(beta[0], per_block) if shifted else y, backward


def normalized_units(X: np.ndarray, parameters: np.ndarray, pooling: Pooling):
    """Standardise blocks of consecutive units of each row, then scale: (y, backward)."""
    blocks = X.reshape(len(X), pooling.n_blocks, -1)
    z, _, _, back = standardized(blocks, 1.0 / blocks.shape[2], 2, pooling.epsilon, centred=pooling.centred)

    def standardization(dz: np.ndarray) -> np.ndarray:
        return back(dz.reshape(blocks.shape)).reshape(X.shape)

    return scaled(z.reshape(X.shape), parameters, standardization, shifted=pooling.centred)


def shares_of(weights: np.ndarray | None, X: np.ndarray) -> np.ndarray:
    """Weights of the rows `X` (None: equal) as shares that sum to one, (n_rows, 1)."""
    if weights is None:
        return np.full_like(X, 1.0 / len(X), X.real.dtype, shape=(len(X), 1))
    return (weights / weights.sum()).astype(X.real.dtype)[:, None]


def unit_scale(n: int) -> np.ndarray:
    """Gamma of one and beta of zero for n units or blocks."""
    return np.concatenate([np.ones(n), np.zeros(n)])


def scale_sizes(n: int) -> dict[str, int]:
    """How many numbers gamma and beta of n units or blocks are."""
    return {"gamma": n, "beta": n}


def named(part, n: int, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of a normalization of n units, parameters before running statistics, by name; and what derives from them."""
    sizes = declared(part).sizes(n)
    bounds = pairwise(np.cumsum([0, *sizes.values()]).tolist())
    by_name = {name: numbers[start:stop].copy() for name, (start, stop) in zip(sizes, bounds, strict=True)}
    return by_name | declared(part).derived(by_name)


def flat(part, n: int, by_name: dict[str, np.ndarray]) -> np.ndarray:
    """The numbers of a normalization of n units in their order, from what `named` gives."""
    return np.concatenate([np.empty(0), *(by_name[name] for name in declared(part).sizes(n))])


class Running:
    """Running statistics of n units: the number of batches seen, the mean and the variance, in one array.

    The first batches count alike, so that few updates leave no trace of where the statistics started; from the
    ``1 / momentum``-th on, each new one has the share `momentum`.
    """

    @staticmethod
    def start(n: int) -> np.ndarray:
        """No batch seen."""
        return np.concatenate([[0.0], np.zeros(n), np.ones(n)])

    @staticmethod
    def sizes(n: int) -> dict[str, int]:
        """How many numbers each of them is."""
        return {"n_batches": 1, "mean": n, "variance": n}

    @staticmethod
    def moments(running: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) of the units."""
        mean, variance = running[1:].reshape(2, -1)
        return mean, variance

    @staticmethod
    def affine(numbers: dict[str, np.ndarray], epsilon: float) -> tuple[np.ndarray, np.ndarray]:
        """(scale, shift) of each unit in predictions, from what is known of a normalization by name; float64."""
        gamma, beta, mean, variance = (numbers[name].astype(float) for name in ("gamma", "beta", "mean", "variance"))
        scale = gamma / np.sqrt(variance + epsilon)
        return scale, beta - scale * mean

    @staticmethod
    def update(
        running: np.ndarray, mean: np.ndarray, variance: np.ndarray, shares: np.ndarray, momentum: float
    ) -> None:
        """With one more batch, in place; the variance without the bias of a small batch."""
        running[0] += 1.0
        share = max(momentum, 1.0 / float(running[0]))
        unbiased = variance / (1.0 - np.sum(shares * shares))
        running[1:] += running.dtype.type(share) * (np.concatenate([mean.ravel(), unbiased.ravel()]) - running[1:])
