"""The layers of the registries with other values of their hyper-parameters too, and numbers for them."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch.contract.kinds import declared
from skminibatch.layers import ACTIVATIONS, ELU, NORMALIZATIONS, GhostNorm, GroupNorm, HybridNorm, LeakyReLU

N_ROWS, N_UNITS = 11, 9


def made(cls):
    """A part of the registry with its defaults; a count that has none is three."""
    return cls(**{name: 3.0 for name in cls._fields if name not in cls._field_defaults})


ACTIVATION_PARTS = [made(cls) for cls in ACTIVATIONS.values()] + [LeakyReLU(0.3), ELU(0.5)]
NORMALIZATION_PARTS = [made(cls) for cls in NORMALIZATIONS.values()] + [
    GhostNorm(4.0),
    GroupNorm(3.0),
    HybridNorm(alpha=0.2),
]
POOLING_PARTS = [part for part in NORMALIZATION_PARTS if declared(part).brings("pooling")]
activations = pytest.mark.parametrize("activation", ACTIVATION_PARTS, ids=repr)
normalizations = pytest.mark.parametrize("normalization", NORMALIZATION_PARTS, ids=repr)
poolings = pytest.mark.parametrize("normalization", POOLING_PARTS, ids=repr)


def learnt(part, n: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and running statistics of n units as after some training: nothing stands at its start."""
    parameters, running = part.start(n)
    running = running + np.abs(rng.standard_normal(running.size))
    return parameters + 0.3 * rng.standard_normal(parameters.size), running
