"""The kernel of networks against ``base``, the oracle: every part of the registries, on dense and sparse rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier
from skminibatch.backends import base, cpu
from skminibatch.backends.cpu import operations
from skminibatch.contract.orders import ROUNDS, keyed_order
from skminibatch.contract.task import NetworkTask
from skminibatch.layers import (
    ACTIVATIONS,
    BatchNorm,
    Dense,
    GroupNorm,
    HybridNorm,
    Identity,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
    Stack,
    Tanh,
)
from skminibatch.losses import LOSSES, EachOutput, Logistic, OneVsRest, Quantile, Softmax, SquaredError
from skminibatch.optimizers import SGD, Adam, Averaging, Momentum, Nesterov
from skminibatch.penalties import ElasticNet
from tests.backends.linear_chunks import OUTPUTS, plan_of, targets_of
from tests.backends.network_chunks import (
    NETWORK_OPTIMIZERS,
    NOTHING,
    PARTS,
    UNFIT,
    D,
    N,
    Swish,
    agree,
    names,
    parameters_of,
    rows,
    stack_of,
)


@pytest.mark.parametrize("activation", ACTIVATIONS.values())
def test_activations_agree(backend, activation):
    agree(backend, stack_of(Softmax(), activation=activation()), Softmax(), Adam())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("normalization", [None, *PARTS], ids=names)
def test_normalizations_agree(backend, normalization, dropout):
    entry = None if isinstance(normalization, (GroupNorm, InstanceNorm)) else normalization
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
    agree(backend, stack_of(loss, LayerNorm()), loss, optimizer, rows(density), weights, tolerance=1e-8)
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


@pytest.mark.parametrize("normalization", [None, BatchNorm(), LayerNorm(), HybridNorm()], ids=names)
@pytest.mark.parametrize("density", [1.0, 0.4])
def test_float32_agrees(backend, normalization, density):
    X = rows(density, np.float32)
    agree(backend, stack_of(Softmax(), normalization), Softmax(), Momentum(), X, dtype=np.float32, tolerance=2e-4)


def test_orders_and_weights_of_a_sampler_agree(backend):
    keys = np.random.default_rng(5).integers(0, 2**63, ROUNDS).astype(np.uint64)
    for block in (1, 8):
        agree(backend, stack_of(Softmax()), Softmax(), Momentum(), order=keyed_order(N, keys, block=block), n_epochs=1)
    weights = np.random.default_rng(6).random(2 * N)
    agree(
        backend, stack_of(Softmax(), LayerNorm()), Softmax(), Momentum(), weights=weights[:N], sampler_weights=weights
    )


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
        arrays = X, targets_of(SquaredError(), N), NOTHING, params
        stats = verbs.run_mlp(NetworkTask(stack, SquaredError(), ElasticNet(), SGD(), *arrays), plan)
        assert stats.failed == expected
        assert np.isfinite(params).all()  # the step before it is the last one


def test_custom_activations_run_compiled(backend):
    agree(backend, stack_of(Softmax(), activation=Swish(1.5)), Softmax(), Momentum())


@pytest.mark.parametrize("normalization", UNFIT, ids=names)
def test_normalizations_that_no_kernel_fits_run_by_their_formulas(backend, normalization):
    """Of the package and custom ones, with custom activations too."""
    agree(backend, stack_of(Softmax(), normalization, activation=Swish(), entry=normalization), Softmax(), Momentum())


def test_a_last_layer_that_is_not_linear_runs_by_its_formulas(backend):
    """The kernels end with a product."""
    agree(backend, Stack((Dense(D, OUTPUTS, Tanh(), LayerNorm(), 0.2),)), Softmax(), Momentum())


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
