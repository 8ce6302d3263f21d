"""Plans, rows and stacks for chunks of steps of networks, and the comparison of a backend with ``base``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from skminibatch.backends import base
from skminibatch.contract.kinds import declared
from skminibatch.contract.task import NetworkTask
from skminibatch.contract.verbs import n_slots
from skminibatch.layers import (
    NORMALIZATIONS,
    BatchNorm,
    Dense,
    GhostNorm,
    GroupNorm,
    HybridNorm,
    Identity,
    InstanceNorm,
    ReLU,
    Stack,
    Tanh,
)
from skminibatch.losses import EachOutput, OneVsRest, Softmax
from skminibatch.optimizers import OPTIMIZERS
from skminibatch.penalties import ElasticNet
from tests.backends.linear_chunks import OUTPUTS, plan_of, targets_of

N, D = 90, 6
NET = ElasticNet(0.01, 0.0)
NOTHING = np.empty(0)
INSTANCES = [GhostNorm(4.0), GroupNorm(3.0), InstanceNorm(3.0), HybridNorm(alpha=0.3)]
PARTS = [*(part() for name, part in NORMALIZATIONS.items() if name != "instance"), *INSTANCES]
NETWORK_OPTIMIZERS = [part() for name, part in OPTIMIZERS.items() if name not in ("saga", "sdca")]


def names(part) -> str:
    return repr(part) if part is not None else "none"


def rows(density=1.0, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    X[rng.random((N, D)) > density] = 0
    return sparse.csr_matrix(X, dtype=dtype) if density < 1 else X.astype(dtype)


def stack_of(loss, normalization=None, *, activation=None, dropout=0.0, entry=None) -> Stack:
    n_outputs = OUTPUTS if isinstance(loss, (Softmax, OneVsRest, EachOutput)) else 1
    activation = ReLU() if activation is None else activation  # as a tuple, one without numbers is false
    first = Dense(D, 12, activation, normalization, dropout)
    return Stack((first, Dense(12, 9, Tanh(), normalization, dropout), Dense(9, n_outputs, Identity())), entry)


def parameters_of(stack, optimizer, dtype=np.float64):
    rng, params = np.random.default_rng(3), np.zeros((1 + n_slots(optimizer), stack.n_numbers), dtype)
    params[0] = stack.start(rng)
    params[0, : stack.n_parameters] += 0.2 * rng.standard_normal(stack.n_parameters)
    for slot, exponent in zip(params[1:], declared(optimizer).slot_exponents, strict=True):
        slot[:] = params[0] if exponent == -1 else 0
    return params


def agree(
    backend,
    stack,
    loss,
    optimizer,
    X=None,
    weights=NOTHING,
    dtype=np.float64,
    tolerance=1e-10,
    penalty=NET,
    batch_size=11,
    sampler_weights=None,
    **plan,
):
    """A backend and ``base`` end with the same parameters and statistics."""
    X = rows(dtype=dtype) if X is None else X
    y, start = targets_of(loss, N, dtype), parameters_of(stack, optimizer, dtype)
    plan = plan_of(optimizer, N, rate=0.02, batch_size=batch_size, key=(5, 7), **plan)._replace(weights=sampler_weights)
    ends, found = [], []
    for verbs in (base, backend):
        params = start.copy()
        found.append(verbs.run_mlp(NetworkTask(stack, loss, penalty, optimizer, X, y, weights, params), plan))
        ends.append(params)
    np.testing.assert_allclose(ends[1], ends[0], rtol=tolerance, atol=tolerance)
    for one, other in zip(found[1][:3], found[0][:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=100 * tolerance, atol=tolerance)
    assert found[1].failed == found[0].failed == -1


class Swish(NamedTuple):
    """An activation of the user's own."""

    beta: float = 2.0
    spread = 2.0
    balanced = False

    def activate(self, z):
        return z / (1.0 + np.exp(-self.beta * z))

    def slope(self, z, a):
        share = 1.0 / (1.0 + np.exp(-self.beta * z))
        return share + self.beta * a * (1.0 - share)


class Centered(NamedTuple):
    """A custom normalization: no kernel fits it."""

    couples_rows = False

    def start(self, n):
        return np.ones(1), np.empty(0)

    def forward(self, X, parameters, running, weights, train):
        centered = X - X.mean(axis=1, keepdims=True)

        def backward(dy):
            dx = parameters[0] * (dy - dy.mean(axis=1, keepdims=True))
            return dx, np.sum(dy * centered, axis=1, keepdims=True)

        return parameters[0] * centered, backward


class RootMeanSquare(NamedTuple):
    """A custom normalization that pools as no kernel does, with all units scaled alike."""

    couples_rows = False

    def start(self, n):
        return np.ones(1), np.empty(0)

    def forward(self, X, parameters, running, weights, train):
        inverse = 1.0 / np.sqrt(np.mean(X * X, axis=1, keepdims=True) + 1e-3)
        z = X * inverse

        def backward(dy):
            dz = parameters[0] * dy
            return inverse * (dz - z * np.mean(dz * z, axis=1, keepdims=True)), np.sum(dy * z, axis=1, keepdims=True)

        return parameters[0] * z, backward


class Halved(BatchNorm):
    """Half of what batch normalization gives: the declaration of its pooling holds for a formula that it overrides."""

    def forward(self, X, parameters, running, weights, train):
        y, backward = BatchNorm.forward(self, X, parameters, running, weights, train)
        return 0.5 * y, lambda dy: backward(0.5 * dy)


def fits_kernels(part) -> bool:
    return stack_of(Softmax(), part).fits_kernels


UNFIT = [*(part for part in PARTS if not fits_kernels(part)), Centered(), RootMeanSquare(), Halved()]
