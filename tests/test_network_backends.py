"""The kernel of networks against ``base``, the oracle: every part of the registries, on dense and sparse rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse
from test_backends import OUTPUTS, plan_of, targets_of

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier
from skminibatch.backends import base, cpu
from skminibatch.backends.cpu.network import operations
from skminibatch.contract.orders import ROUNDS, keyed_order
from skminibatch.contract.verbs import n_slots
from skminibatch.layers import (
    ACTIVATIONS,
    NORMALIZATIONS,
    Batch,
    Dense,
    Ghost,
    Group,
    Hybrid,
    Identity,
    Instance,
    Layer,
    LeakyReLU,
    ReLU,
    Stack,
    Tanh,
)
from skminibatch.losses import LOSSES, EachOutput, Logistic, OneVsRest, Quantile, Softmax, SquaredError
from skminibatch.optimizers import OPTIMIZERS, SGD, Adam, Averaging, Momentum, Nesterov
from skminibatch.penalties import ElasticNet

N, D = 90, 6
NET = ElasticNet(0.01, 0.0)
NOTHING = np.empty(0)
INSTANCES = [Ghost(4.0), Group(3.0), Instance(3.0), Hybrid(alpha=0.3)]
PARTS = [*(part() for name, part in NORMALIZATIONS.items() if name != "instance"), *INSTANCES]
NETWORK_OPTIMIZERS = [part() for name, part in OPTIMIZERS.items() if name != "saga"]


def names(part) -> str:
    return repr(part) if part is not None else "none"


def rows(density=1.0, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    X[rng.random((N, D)) > density] = 0
    return sparse.csr_matrix(X, dtype=dtype) if density < 1 else X.astype(dtype)


def stack_of(loss, normalization=None, *, activation=None, dropout=0.0, entry=None) -> Stack:
    n_outputs = OUTPUTS if isinstance(loss, (Softmax, OneVsRest, EachOutput)) else 1
    first = Dense(D, 12, activation or ReLU(), normalization, dropout)
    return Stack((first, Dense(12, 9, Tanh(), normalization, dropout), Dense(9, n_outputs, Identity())), entry)


def parameters_of(stack, optimizer, dtype=np.float64):
    rng, params = np.random.default_rng(3), np.zeros((1 + n_slots(optimizer), stack.n_numbers), dtype)
    params[0] = stack.start(rng)
    params[0, : stack.n_parameters] += 0.2 * rng.standard_normal(stack.n_parameters)
    for slot, exponent in zip(params[1:], optimizer.slot_exponents, strict=True):
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
        found.append(verbs.run_mlp(stack, loss, penalty, optimizer, X, y, weights, plan, params))
        ends.append(params)
    np.testing.assert_allclose(ends[1], ends[0], rtol=tolerance, atol=tolerance)
    for one, other in zip(found[1][:4], found[0][:4], strict=True):
        np.testing.assert_allclose(one, other, rtol=100 * tolerance, atol=tolerance)
    assert found[1].failed == found[0].failed == -1


@pytest.mark.parametrize("activation", ACTIVATIONS.values())
def test_activations_agree(backend, activation):
    agree(backend, stack_of(Softmax(), activation=activation()), Softmax(), Adam())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("normalization", [None, *PARTS], ids=names)
def test_normalizations_agree(backend, normalization, dropout):
    entry = None if isinstance(normalization, (Group, Instance)) else normalization
    weights = np.random.default_rng(4).random(N) + 0.1
    for first in (None, entry):
        stack = stack_of(Softmax(), normalization, dropout=dropout, entry=first)
        agree(backend, stack, Softmax(), Momentum(), weights=weights)
        agree(backend, stack, Softmax(), Momentum(), batch_size=4, n_epochs=1, tolerance=1e-8)


@pytest.mark.parametrize("loss", [*(part() for part in LOSSES.values()), OneVsRest(LOSSES["hinge"]())], ids=names)
def test_losses_agree(backend, loss):
    agree(backend, stack_of(loss), loss, SGD())
    if not isinstance(loss, OneVsRest):
        agree(backend, stack_of(EachOutput(loss)), EachOutput(loss), SGD())


@pytest.mark.parametrize("density", [1.0, 0.4])
@pytest.mark.parametrize(
    "optimizer", [*NETWORK_OPTIMIZERS, Averaging(Nesterov(), 0.0), Averaging(Adam(), 20.0)], ids=names
)
def test_optimizers_agree(backend, optimizer, density):
    loss, weights = Logistic(), np.random.default_rng(4).random(N)
    # few coordinates are far from the rest of a root, where Adam divides rounding errors by it
    agree(backend, stack_of(loss, Layer()), loss, optimizer, rows(density), weights, tolerance=1e-8)
    agree(
        backend,
        stack_of(loss),
        loss,
        optimizer,
        rows(density),
        penalty=ElasticNet(0.1, 0.0),
        clip_norm=0.05,
        tolerance=1e-8,
    )


def test_the_penalty_may_be_any_elastic_net(backend):
    agree(backend, stack_of(SquaredError()), SquaredError(), SGD(), penalty=ElasticNet(0.01, 0.05))


@pytest.mark.parametrize("normalization", [None, Batch(), Layer(), Hybrid()], ids=names)
@pytest.mark.parametrize("density", [1.0, 0.4])
def test_float32_agrees(backend, normalization, density):
    X = rows(density, np.float32)
    agree(backend, stack_of(Softmax(), normalization), Softmax(), Momentum(), X, dtype=np.float32, tolerance=2e-4)


def test_orders_and_weights_of_a_sampler_agree(backend):
    keys = np.random.default_rng(5).integers(0, 2**63, ROUNDS).astype(np.uint64)
    for block in (1, 8):
        agree(backend, stack_of(Softmax()), Softmax(), Momentum(), order=keyed_order(N, keys, block=block), n_epochs=1)
    weights = np.random.default_rng(6).random(2 * N)
    agree(backend, stack_of(Softmax(), Layer()), Softmax(), Momentum(), weights=weights[:N], sampler_weights=weights)


def test_a_network_without_hidden_layers_agrees(backend):
    stack = Stack((Dense(D, OUTPUTS, Identity()),))
    agree(backend, stack, Softmax(), Adam())
    agree(backend, stack, Softmax(), Adam(), rows(0.4))


def test_the_step_that_is_not_finite_is_named(backend):
    stack, X = stack_of(SquaredError()), rows()
    X[40] = np.nan
    plan = plan_of(SGD(), N, batch_size=11)
    expected = next(s for s in range(plan.n_steps) if 40 in plan.rows.explicit[plan.offsets[s] : plan.offsets[s + 1]])
    for verbs in (base, backend):
        params = parameters_of(stack, SGD())
        arrays = (X, targets_of(SquaredError(), N), NOTHING, plan, params)
        stats = verbs.run_mlp(stack, SquaredError(), ElasticNet(), SGD(), *arrays)
        assert stats.failed == expected
        assert np.isfinite(params).all()  # the step before it is the last one


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
    """A normalization of the user's own: no compiled loop knows it."""

    couples_rows = False
    absorbs_intercept = False

    def start(self, n):
        return np.ones(1), np.empty(0)

    def forward(self, X, parameters, running, weights, train):
        centered = X - X.mean(axis=1, keepdims=True)

        def backward(dy):
            dx = parameters[0] * (dy - dy.mean(axis=1, keepdims=True))
            return dx, np.sum(dy * centered, axis=1, keepdims=True)

        return parameters[0] * centered, backward


def test_parts_of_the_user_run_compiled_or_by_the_oracle(backend):
    agree(backend, stack_of(Softmax(), activation=Swish(1.5)), Softmax(), Momentum())
    agree(backend, stack_of(Softmax(), Centered(), activation=Swish()), Softmax(), Momentum())


def test_new_hyper_parameters_compile_nothing(monkeypatch):
    agree(cpu, stack_of(Quantile(0.3), activation=LeakyReLU(0.1)), Quantile(0.3), Adam(beta_1=0.8))

    def refuse(*args):
        raise AssertionError("something was compiled")

    monkeypatch.setattr(operations, "CFunc", refuse)
    agree(cpu, stack_of(Quantile(0.7), activation=LeakyReLU(0.2)), Quantile(0.7), Adam(beta_1=0.7))


def test_linear_models_and_networks_share_a_process(binary):
    """A sparse linear fit imports the kernels of sparse rows, whose module is named as SciPy's is."""
    MiniBatchSGDClassifier(max_iter=1, tol=None).fit(sparse.csr_matrix(binary.X), binary.y)
    MiniBatchMLPClassifier(max_iter=1, tol=None).fit(binary.X, binary.y)
