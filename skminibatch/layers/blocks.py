"""What all normalizations share: numbers of a block that are brought to mean zero and variance one.

Batch and ghost normalization pool each unit over rows, layer, group and instance normalization the units of a row; that is
all in which they differ. With shares p that sum to one over a block, ``z = (x - mean) / sqrt(variance + epsilon)`` and

``dx = (dz - p sum(dz) - p z sum(dz z)) / sqrt(variance + epsilon)``,

the sums being over the block; see `FORMULAS <https://arxiv.org/abs/1502.03167>`_ of Ioffe and Szegedy 2015 for equal shares.
"""

from __future__ import annotations

import numpy as np

from skminibatch.contract.domains import BOOLEAN, POSITIVE, Interval
from skminibatch.contract.verbs import activate
from skminibatch.layers.activations import Sigmoid

# the domains of a normalization with running statistics
RUNNING = {"epsilon": POSITIVE, "momentum": Interval(0, 1, "right"), "exact": BOOLEAN}


def standardized(X: np.ndarray, shares, axis: int, epsilon: float):
    """Standardise along an axis: (z, mean, variance, backward), the moments with that axis kept.

    Parameters
    ----------
    X : ndarray
        Numbers; real, or complex where derivatives are taken along the imaginary axis.
    shares : ndarray or float
        Shares of the entries along `axis` that sum to one, of a shape that goes with `X`.
    """
    mean = np.sum(shares * X, axis=axis, keepdims=True)
    centered = X - mean
    variance = np.sum(shares * centered * centered, axis=axis, keepdims=True)
    inverse = 1.0 / np.sqrt(variance + epsilon)
    z = centered * inverse

    def backward(dz: np.ndarray) -> np.ndarray:
        common = np.sum(dz, axis=axis, keepdims=True) + z * np.sum(dz * z, axis=axis, keepdims=True)
        return (dz - shares * common) * inverse

    return z, mean, variance, backward


def scaled(z: np.ndarray, parameters: np.ndarray, standardization):
    """``gamma z + beta`` and its backward map; `parameters` are (gamma, beta), each of a unit or of equal blocks of units.

    `standardization` maps dz to dx. The backward map returns dx and what each row adds to the gradient of the parameters.
    """
    n_rows, n_units = z.shape
    gamma, beta = parameters.reshape(2, -1)
    per_block = n_units // gamma.size
    wide = np.repeat(gamma, per_block)

    def backward(dy: np.ndarray):
        of_gamma, of_beta = ((dy * z).reshape(n_rows, -1, per_block), dy.reshape(n_rows, -1, per_block))
        return standardization(dy * wide), np.hstack([of_gamma.sum(axis=2), of_beta.sum(axis=2)])

    return wide * z + np.repeat(beta, per_block), backward


def normalized_units(X: np.ndarray, parameters: np.ndarray, n_blocks: int, epsilon: float):
    """Standardise blocks of consecutive units of each row, then scale: (y, backward)."""
    blocks = X.reshape(len(X), n_blocks, -1)
    z, _, _, back = standardized(blocks, 1.0 / blocks.shape[2], 2, epsilon)
    return scaled(z.reshape(X.shape), parameters, lambda dz: back(dz.reshape(blocks.shape)).reshape(X.shape))


def shares_of(weights: np.ndarray | None, X: np.ndarray) -> np.ndarray:
    """Weights of the rows `X` (None: equal) as shares that sum to one, (n_rows, 1)."""
    if weights is None:
        return np.full_like(X, 1.0 / len(X), X.real.dtype, shape=(len(X), 1))
    return (weights / weights.sum()).astype(X.real.dtype)[:, None]


def unit_scale(n: int) -> np.ndarray:
    """Gamma of one and beta of zero for n units or blocks."""
    return np.concatenate([np.ones(n), np.zeros(n)])


def named(parameters: np.ndarray, running: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters and running statistics of a normalization by name; q, where there is one, with ``alpha = sigmoid(q)``."""
    n = parameters.size // 2
    found = {"gamma": parameters[:n].copy(), "beta": parameters[n : 2 * n].copy()}
    if parameters.size > 2 * n:
        found |= {"q": parameters[-1:].copy(), "alpha": activate(Sigmoid(), parameters[-1:])}
    if running.size:
        mean, variance = Running.moments(running)
        found |= {"mean": mean.copy(), "variance": variance.copy(), "n_batches": running[:1].copy()}
    return found


def flat(found: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(parameters, running statistics) from what `named` gives."""
    parameters = [found[name] for name in ("gamma", "beta", "q") if name in found]
    running = [found[name] for name in ("n_batches", "mean", "variance") if name in found]
    return np.concatenate(parameters), np.concatenate(running) if running else np.empty(0)


class Running:
    """Running statistics of n units: how many batches were seen, the mean and the variance, in one array.

    The first batches count alike, so that few updates leave no trace of where the statistics started; from the
    ``1 / momentum``-th on, each new one has the share `momentum`.
    """

    @staticmethod
    def start(n: int) -> np.ndarray:
        """No batch seen."""
        return np.concatenate([[0.0], np.zeros(n), np.ones(n)])

    @staticmethod
    def moments(running: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) of the units."""
        return tuple(running[1:].reshape(2, -1))

    @staticmethod
    def update(
        running: np.ndarray, mean: np.ndarray, variance: np.ndarray, shares: np.ndarray, momentum: float
    ) -> None:
        """With one more batch, in place; the variance without the bias of a small batch."""
        running[0] += 1.0
        share = max(momentum, 1.0 / float(running[0]))
        unbiased = variance / (1.0 - np.sum(shares * shares))
        running[1:] += running.dtype.type(share) * (np.concatenate([mean.ravel(), unbiased.ravel()]) - running[1:])
