"""Hybrid normalization: statistics between those of the batch and those of the row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ZERO, INSIDE
from skminibatch.contract.kinds import declares
from skminibatch.contract.verbs import activate
from skminibatch.layers.activations import Sigmoid
from skminibatch.layers.blocks import RUNNING, Running, scale_sizes, scaled, shares_of, unit_scale
from skminibatch.layers.pooling import BOTH, Pooling


@declares(couples_rows=True, domains={**RUNNING, "alpha": INSIDE, "rate": AT_LEAST_ZERO})
class HybridNorm(NamedTuple):
    """Batch and layer normalization by ``alpha = sigmoid(q)``, learnt in each layer (after Luo et al. 2019, arXiv:1806.10779).

    ``mean = alpha mean_batch + (1 - alpha) mean_layer``, and the variance likewise; predictions take the batch's share from
    running statistics, or exact ones as for `BatchNorm`. q starts at ``logit(alpha)``, is not decayed, and learns at ``rate``
    times the rate of the weights.
    """

    alpha: float = 0.5
    rate: float = 10.0
    epsilon: float = 1e-5
    momentum: float = 0.1
    exact: bool = False

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(parameters, running statistics) of n units; the last parameter is q."""
        q = np.log(self.alpha) - np.log1p(-self.alpha)
        return np.append(unit_scale(n), q), Running.start(n)

    def rates(self, n: int) -> np.ndarray:
        """What the rate is multiplied with for each parameter."""
        return np.append(np.ones(2 * n), self.rate)

    def sizes(self, n: int) -> dict[str, int]:
        """How many numbers each of the parameters and running statistics is, by name."""
        return {**scale_sizes(n), "q": 1, **Running.sizes(n)}

    def derived(self, numbers):
        """The share alpha of the batch, from q."""
        return {"alpha": activate(Sigmoid(), numbers["q"])}

    def pooling(self, n: int) -> Pooling:
        """All rows of a batch, and all units of a row."""
        return Pooling(BOTH, self.epsilon, momentum=self.momentum)

    def affine(self, numbers):
        """(scale, shift) of each unit in predictions, where the units of a row have no share; None elsewhere."""
        return Running.affine(numbers, self.epsilon) if numbers["alpha"][0] == 1 else None

    def forward(self, X, parameters, running, weights, train: bool):
        """(y, backward); `running` is updated in place while training, unless it is None."""
        alpha, n = activate(Sigmoid(), parameters[-1]), X.shape[1]
        shares = shares_of(weights, X)
        if train:
            mean_b = np.sum(shares * X, axis=0, keepdims=True)
            variance_b = np.sum(shares * (X - mean_b) ** 2, axis=0, keepdims=True)
            if running is not None:
                Running.update(running, mean_b, variance_b, shares, self.momentum)
        else:
            mean_b, variance_b = (moment[None, :] for moment in Running.moments(running))
        mean_l = X.mean(axis=1, keepdims=True)
        variance_l = np.mean((X - mean_l) ** 2, axis=1, keepdims=True)
        mean = alpha * mean_b + (1.0 - alpha) * mean_l
        inverse = 1.0 / np.sqrt(alpha * variance_b + (1.0 - alpha) * variance_l + self.epsilon)
        z = (X - mean) * inverse
        of_q = np.empty((len(X), 1), np.result_type(X, parameters), like=X)

        def standardization(dz):
            dmean, dvariance = -dz * inverse, -0.5 * dz * z * inverse**2
            of_alpha = np.sum(dmean * (mean_b - mean_l) + dvariance * (variance_b - variance_l), axis=1, keepdims=True)
            of_q[:] = of_alpha * alpha * (1.0 - alpha)
            dX = dz * inverse
            by_row = dmean.sum(axis=1, keepdims=True), dvariance.sum(axis=1, keepdims=True)
            dX = dX + (1.0 - alpha) / n * (by_row[0] + 2.0 * by_row[1] * (X - mean_l))
            if train:
                by_unit = dmean.sum(axis=0, keepdims=True), dvariance.sum(axis=0, keepdims=True)
                dX = dX + alpha * shares * (by_unit[0] + 2.0 * by_unit[1] * (X - mean_b))
            return dX

        y, back = scaled(z, parameters[:-1], standardization)

        def backward(dy):
            dX, by_parameter = back(dy)
            return dX, np.hstack([by_parameter, of_q])

        return y, backward
