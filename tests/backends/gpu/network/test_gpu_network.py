"""The kernels of networks for the GPU, run on the CPU, against ``base``, the oracle: every part of the registries."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from skminibatch.backends import base
from skminibatch.backends.gpu import compile, device
from skminibatch.backends.gpu.network import products
from skminibatch.backends.gpu.network import run as network
from skminibatch.backends.gpu.network.layers import Level
from skminibatch.backends.gpu.source import structs
from skminibatch.contract.orders import ROUNDS, explicit_order, keyed_order
from skminibatch.contract.task import NetworkTask
from skminibatch.layers import (
    ACTIVATIONS,
    GELU,
    BatchNorm,
    Dense,
    GhostNorm,
    GroupNorm,
    HybridNorm,
    Identity,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
    Stack,
    Tanh,
)
from skminibatch.losses import LOSSES, EachOutput, Logistic, OneVsRest, Poisson, Quantile, Softmax, SquaredError
from skminibatch.models.network_gradients import Sum
from skminibatch.optimizers import SGD, Adam, AdamW, Averaging, Momentum, Nesterov, ScheduleFree
from skminibatch.penalties import ElasticNet
from tests.backends import network_chunks
from tests.backends.gpu.custom_parts import Focal, Halved, Lion, PseudoHuber, Smoothed
from tests.backends.linear_chunks import OUTPUTS, plan_of, targets_of
from tests.backends.network_chunks import (
    NET,
    NETWORK_OPTIMIZERS,
    NOTHING,
    UNFIT,
    D,
    N,
    Swish,
    names,
    parameters_of,
    rows,
    stack_of,
)
from tests.emulated import cublas, cupy, nvrtc

pytestmark = pytest.mark.skipif(cupy.COMPILER is None, reason=cupy.NO_COMPILER)
PARTS = [part for part in network_chunks.PARTS if network_chunks.fits_kernels(part)]
POOLING = [BatchNorm(), GhostNorm(4.0), HybridNorm(0.3)]
IN_BOTH_STORAGES = (Adam(), 0.3), (ScheduleFree(), 1.0)  # an optimizer, and the density of the rows


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    """The stand-ins for CuPy and cuBLAS, with nothing left of a device that this machine may have."""
    monkeypatch.setattr(device, "cupy", lambda: cupy)
    monkeypatch.setattr(products, "_library", cublas.Library)
    monkeypatch.setattr(products, "WORK_SPACE", 1 << 12)  # it is filled each time
    monkeypatch.setattr(products, "_of_thread", threading.local())  # handles of the stand-in are none of cuBLAS
    for kept in (compile.module_of, compile._kernel):
        kept.cache_clear()
    yield
    for kept in (compile.module_of, compile._kernel):
        kept.cache_clear()


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["head", "products"])
def with_and_without_a_head(request, monkeypatch):
    """One kernel around the loss, and products of their own as for many outputs."""
    if not request.param:
        monkeypatch.setattr(network, "SMALL_PRODUCT", 0)


class Run(NamedTuple):
    """The parameters after a plan, and its statistics."""

    params: np.ndarray
    stats: tuple


def carried_out(run_mlp, stack, loss, optimizer, X=None, weights=NOTHING, dtype=np.float64, penalty=NET, **plan) -> Run:
    """What a verb makes of a plan; `sampler_weights` and the arguments of `plan_of` say of which."""
    X = rows(dtype=dtype) if X is None else X
    n = X.shape[0]
    y, params = targets_of(loss, n, dtype), parameters_of(stack, optimizer, dtype)
    y[plan.pop("spoiled", [])] = np.nan
    sampler_weights = plan.pop("sampler_weights", None)
    plan = plan_of(optimizer, n, **{"rate": 0.02, "batch_size": 11, "n_epochs": 1, "key": (5, 7), **plan})
    plan = plan._replace(weights=sampler_weights)
    return Run(params, run_mlp(NetworkTask(stack, loss, penalty, optimizer, X, y, weights, params), plan))


def agree(stack, loss, optimizer, *args, tolerance=1e-10, **options) -> Run:
    """Both end with the same parameters and statistics."""
    expected, found = (
        carried_out(run, stack, loss, optimizer, *args, **options) for run in (base.run_mlp, network.run_mlp)
    )
    np.testing.assert_allclose(found.params, expected.params, rtol=tolerance, atol=tolerance)
    for one, other in zip(found.stats[:3], expected.stats[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=100 * tolerance, atol=tolerance)
    assert found.stats.failed == expected.stats.failed == -1
    for key, prepared in stack.prepared.items():
        if key[0] == "gpu":
            for owner in (prepared, prepared.chunk, *prepared.spaces):
                for array in vars(owner).values():  # beside which no kernel may write
                    if isinstance(array, cupy.ndarray):
                        cupy.check_guards(array)
    return found


@pytest.mark.parametrize("activation", ACTIVATIONS.values())
def test_activations_agree(activation):
    agree(stack_of(Softmax(), activation=activation()), Softmax(), Adam())
    agree(stack_of(Softmax(), LayerNorm(), activation=activation(), dropout=0.2), Softmax(), Momentum())


def test_custom_parts_agree():
    agree(stack_of(Softmax(), LayerNorm(), activation=Swish(1.5)), Softmax(), Halved(Adam()))
    agree(stack_of(PseudoHuber()), PseudoHuber(3.0), Lion(), penalty=Smoothed())


@pytest.mark.parametrize(
    ("has_head", "dropout"), [(True, 0.3), pytest.param(False, 0.0, marks=pytest.mark.slow)], ids=["head", "products"]
)
@pytest.mark.parametrize("normalization", [None, *PARTS], ids=names)
def test_normalizations_agree(normalization, has_head, dropout, monkeypatch):
    if not has_head:
        monkeypatch.setattr(network, "SMALL_PRODUCT", 0)
    entry = None if isinstance(normalization, (GroupNorm, InstanceNorm)) else normalization
    weights = np.random.default_rng(4).random(N) + 0.1
    for first in (None, entry):
        stack = stack_of(Softmax(), normalization, dropout=dropout, entry=first)
        agree(stack, Softmax(), Momentum(), weights=weights)
        agree(stack, Softmax(), Momentum(), rows()[:36], batch_size=4, tolerance=1e-8)


@pytest.mark.usefixtures("with_and_without_a_head")
@pytest.mark.parametrize(
    "loss",
    [
        *(part() for part in LOSSES.values()),
        OneVsRest(LOSSES["hinge"]()),
        EachOutput(Logistic()),
        EachOutput(Poisson()),
    ],
    ids=names,
)
def test_losses_agree(loss):
    agree(stack_of(loss, activation=Tanh()), loss, SGD())  # one activation, so that one source serves all layers


@pytest.mark.parametrize("density", [1.0, pytest.param(0.2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "optimizer",
    [*NETWORK_OPTIMIZERS, Averaging(Nesterov(), 0.0), Averaging(Adam(), 20.0), Averaging(ScheduleFree(), 0.0)],
    ids=names,
)
def test_optimizers_agree(optimizer, density):
    """Sparse rows too, of which a batch does not touch every feature."""
    loss, weights, X = Logistic(), np.random.default_rng(4).random(N), rows(density)
    agree(stack_of(loss, LayerNorm()), loss, optimizer, X, weights, tolerance=1e-8)
    agree(
        stack_of(loss),
        loss,
        optimizer,
        X[:36],
        penalty=ElasticNet(0.1, 0.0),
        clip_norm=0.05,
        batch_size=4,
        tolerance=1e-8,
    )
    if density == 1.0:
        # parameters of a normalization move at their own rates, and at the point where the gradient is taken
        agree(stack_of(loss, HybridNorm(0.3), entry=HybridNorm()), loss, optimizer, tolerance=1e-6)


@pytest.mark.parametrize("normalization", [None, BatchNorm()], ids=names)
def test_sums_of_gradients_agree(normalization):
    """The optimizer that goes nowhere, by which the noise of batches is measured."""
    stack, ends = stack_of(Softmax(), normalization), []
    for run_mlp in (base.run_mlp, network.run_mlp):
        params, plan = parameters_of(stack, Sum()), plan_of(SGD(), N, batch_size=9, rate=0.0, n_epochs=1)
        arrays = rows(), targets_of(Softmax()), NOTHING, params
        stats = run_mlp(NetworkTask(stack, Softmax(), ElasticNet(), Sum(), *arrays), plan)
        ends.append((params, stats.square_norms))
    for expected, found in zip(*ends, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_penalty_may_be_any_elastic_net():
    agree(stack_of(SquaredError()), SquaredError(), SGD(), penalty=ElasticNet(0.01, 0.05))


@pytest.mark.parametrize(
    ("normalization", "density"),
    [
        *((part, 1.0) for part in (None, BatchNorm(), GhostNorm(4.0), LayerNorm(), GroupNorm(3.0), HybridNorm())),
        *(
            (part, 0.4) for part in (None, BatchNorm(), LayerNorm(), HybridNorm())
        ),  # the few units of a group may hardly differ
    ],
    ids=names,
)
def test_float32_agrees(normalization, density):
    X = rows(density, np.float32)
    stack = stack_of(Softmax(), normalization, dropout=0.2)
    agree(stack, Softmax(), Momentum(), X, dtype=np.float32, tolerance=2e-4)


@pytest.mark.parametrize("batch_size", [2, 7, 32, N])
@pytest.mark.parametrize("normalization", [None, BatchNorm(), LayerNorm()], ids=names)
def test_batch_sizes_agree(batch_size, normalization):
    found = agree(
        stack_of(Softmax(), normalization), Softmax(), SGD(), batch_size=batch_size, n_epochs=2, tolerance=1e-7
    )
    assert np.isnan(found.stats.row_squares).all() == isinstance(normalization, BatchNorm)


def test_orders_and_weights_of_a_sampler_agree():
    keys = np.random.default_rng(5).integers(0, 2**63, ROUNDS).astype(np.uint64)
    for block in (1, 8):
        for X in (rows(), rows(0.4)):
            agree(stack_of(Softmax()), Softmax(), Momentum(), X, order=keyed_order(N, keys, block=block))
    weights = np.random.default_rng(6).random(2 * N)
    options = {"weights": weights[:N], "sampler_weights": weights, "n_epochs": 2}
    agree(stack_of(Softmax(), LayerNorm()), Softmax(), Momentum(), **options)


def test_a_network_without_hidden_layers_agrees():
    agree(Stack((Dense(D, OUTPUTS, Identity()),)), Softmax(), Adam())
    agree(Stack((Dense(D, OUTPUTS, Identity()),)), Softmax(), Adam(), rows(0.4))
    agree(Stack((Dense(D, OUTPUTS, Identity()),), LayerNorm()), Softmax(), Momentum())


def test_sparse_rows_of_any_number_of_values_agree():
    """Rows without one, more features than are touched, and more values in a row than a warp has threads."""
    rng, n_features = np.random.default_rng(7), 300
    X = sparse.random_array((N, n_features), density=0.1, rng=rng, format="csr")
    X = sparse.vstack([X[:-1], sparse.csr_array((1, n_features))], format="csr")
    for batch_norm in (None, BatchNorm()):
        stack = Stack((Dense(n_features, 40, Tanh(), batch_norm), Dense(40, OUTPUTS, Identity())))
        agree(stack, Softmax(), Adam(), X, batch_size=3, tolerance=1e-8)


@pytest.mark.usefixtures("with_and_without_a_head")
@pytest.mark.parametrize(
    "normalization", [None, BatchNorm(), LayerNorm(), GroupNorm(4.0), InstanceNorm(2.0), HybridNorm()], ids=names
)
def test_wide_layers_agree(normalization):
    """More units than a warp has in registers, and more than a block of rows."""
    n = 600
    stack = Stack((Dense(D, n, Tanh(), normalization, 0.1), Dense(n, OUTPUTS, Identity())))
    agree(stack, Softmax(), Momentum(), batch_size=45, rate=0.001, tolerance=1e-7)


@pytest.mark.parametrize("room", [network.SHARED_BYTES, 800, 0])
def test_many_outputs_agree(room, monkeypatch):
    """Of as many rows at once as there is shared memory for; of one in its place where there is none."""
    monkeypatch.setattr(network, "SHARED_BYTES", room)
    n = 40
    stack = Stack((Dense(D, 12, Tanh()), Dense(12, n, Identity())))
    y = np.random.default_rng(0).integers(n, size=(N, 1)).astype(float)
    ends = []
    for run_mlp in (base.run_mlp, network.run_mlp):
        params = parameters_of(stack, SGD())
        plan = plan_of(SGD(), N, batch_size=7)
        task = NetworkTask(stack, Softmax(), NET, SGD(), rows(), y, NOTHING, params)
        ends.append((run_mlp(task, plan), params))
    (expected, expected_params), (found, params) = ends
    np.testing.assert_allclose(params, expected_params, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.losses, expected.losses)
    np.testing.assert_allclose(found.row_squares, expected.row_squares)


@pytest.mark.parametrize("spoiled", ["row", "target"])
@pytest.mark.parametrize("normalization", [None, *POOLING], ids=names)
def test_a_step_that_is_not_finite_is_the_last_one(normalization, spoiled):
    """Of a target that is not a number, statistics of batches would be finite in later steps, too."""
    stack, X, each = stack_of(SquaredError(), normalization), rows(), []
    X[[40] if spoiled == "row" else []] = np.nan
    for run_mlp in (base.run_mlp, network.run_mlp):
        order = explicit_order(np.tile(np.random.default_rng(2).permutation(N), 2))
        options = {"order": order, "n_epochs": 2, "spoiled": [40] if spoiled == "target" else []}
        each.append(carried_out(run_mlp, stack, SquaredError(), Momentum(), X, **options))
    expected, found = each
    assert 0 < found.stats.failed == expected.stats.failed
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-8, atol=1e-10)
    assert np.isfinite(found.params[:, : stack.n_parameters]).all()
    for one, other in zip(found.stats[:3], expected.stats[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("normalization", "optimizer", "density"),
    [
        *((None, *each) for each in IN_BOTH_STORAGES),
        *((part, *IN_BOTH_STORAGES[k % 2]) for k, part in enumerate(PARTS)),
    ],
    ids=names,
)
def test_the_same_bits_in_any_order_of_threads_and_without_a_graph(normalization, optimizer, density, monkeypatch):
    stack, X = stack_of(Softmax(), normalization, dropout=0.2), rows(density)
    before = cupy.settings.graphs
    arguments = network.run_mlp, stack, Softmax(), optimizer, X
    first, again = (carried_out(*arguments) for _ in range(2))
    assert cupy.settings.graphs - before == 2 * 9 - 1  # the very first step is launched by itself
    monkeypatch.setattr(cupy.settings, "order", 1)
    descending = carried_out(*arguments)
    monkeypatch.setattr(network.Step, "__call__", lambda self, stream: self._launch())
    launched = carried_out(*arguments)
    for other in (again, descending, launched):
        np.testing.assert_array_equal(other.params, first.params)
        for one, same in zip(other.stats[:3], first.stats[:3], strict=True):
            np.testing.assert_array_equal(one, same)


@pytest.mark.usefixtures("with_and_without_a_head")
@pytest.mark.parametrize("normalization", [None, BatchNorm(), GroupNorm(3.0), HybridNorm()], ids=names)
def test_the_same_bits_however_late_the_side_is_done(normalization, monkeypatch):
    """What two streams do at the same time does not meet: one waits for the other where it has to, and only there."""
    stack = stack_of(Softmax(), normalization, dropout=0.2, entry=normalization)
    ends = []
    for late in (False, True):
        monkeypatch.setattr(cupy.settings, "late", late)
        ends.append(carried_out(network.run_mlp, stack, Softmax(), Momentum()).params)
    np.testing.assert_array_equal(*ends)
    monkeypatch.setattr(network, "_wait", lambda stream, other, event: None)
    network.forget(stack)
    assert (carried_out(network.run_mlp, stack, Softmax(), Momentum()).params != ends[0]).any()


def test_cupy_multiplies_where_the_library_is_not_found(monkeypatch):
    monkeypatch.setattr(products, "_library", lambda: None)
    before = cupy.settings.graphs
    agree(stack_of(Softmax(), BatchNorm()), Softmax(), Momentum())
    assert cupy.settings.graphs == before


def test_other_data_and_larger_batches_are_read_where_they_are():
    """Graphs and memory of before do not outlive what they were made for."""
    stack = stack_of(EachOutput(SquaredError()), LayerNorm())
    for n, batch_size in ((60, 7), (N, 7), (N, 40), (30, 40), (60, 5)):
        options = {"batch_size": batch_size, "n_epochs": 2, "tolerance": 1e-8}
        agree(stack, EachOutput(SquaredError()), Adam(), rows()[:n], **options)
    prepared = len(stack.prepared)
    network.forget(stack)
    assert not stack.prepared
    assert prepared == 1


def test_a_capture_that_is_broken_off_leaves_nothing(monkeypatch):
    stack, wait, broken = stack_of(Softmax()), network._wait, [True]

    def interrupted(*streams):
        if broken and cupy.settings.captured is not None:
            raise KeyboardInterrupt
        wait(*streams)

    monkeypatch.setattr(network, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carried_out(network.run_mlp, stack, Softmax(), Adam())
    broken.clear()
    agree(stack, Softmax(), Adam())


def test_steps_of_many_sizes_are_forgotten(monkeypatch):
    monkeypatch.setattr(network, "MOST_STEPS", 2)
    stack = stack_of(Softmax())
    for batch_size in (7, 8, 40):
        agree(stack, Softmax(), Adam(), batch_size=batch_size, tolerance=1e-8)
        (prepared,) = stack.prepared.values()
        assert len(prepared.steps) <= 2


def test_arrays_of_the_device_are_used_where_they_are():
    stack, loss, optimizer = stack_of(Softmax()), Softmax(), Adam()
    expected = carried_out(network.run_mlp, stack, loss, optimizer)
    y, params = targets_of(loss), parameters_of(stack, optimizer)
    plan = plan_of(optimizer, N, rate=0.02, batch_size=11, n_epochs=1)
    X, y, weights, params = map(cupy.asarray, (rows(), y, NOTHING, params))
    network.run_mlp(NetworkTask(stack, loss, NET, optimizer, X, y, weights, params), plan._replace(key=(5, 7)))
    np.testing.assert_array_equal(params.get(), expected.params)


def test_new_hyper_parameters_compile_nothing(monkeypatch):
    agree(stack_of(Quantile(0.3), activation=LeakyReLU(0.1)), Quantile(0.3), Adam(beta_1=0.8))

    def refuse(*args, **options):
        raise AssertionError("something was compiled")

    monkeypatch.setattr(cupy, "RawModule", refuse)
    agree(stack_of(Quantile(0.7), activation=LeakyReLU(0.2)), Quantile(0.7), Adam(beta_1=0.7))


@pytest.mark.parametrize(
    ("normalization", "launches"), [(None, 12), (BatchNorm(), 14), (LayerNorm(), 16), (HybridNorm(), 18)], ids=names
)
def test_launches_of_a_step(normalization, launches, monkeypatch):
    counted = []

    def count(step, stream):
        counted.append(sum(launch.func is not network._wait for launch in step.launches))

    monkeypatch.setattr(network.Step, "__call__", count)
    carried_out(network.run_mlp, stack_of(Softmax(), normalization, dropout=0.2), Softmax(), Adam())
    assert set(counted) == {launches}


def test_what_has_no_kernels_is_known():
    def known(stack=None, loss=None, optimizer=None):
        optimizer = Adam() if optimizer is None else optimizer  # as a tuple, one without numbers is false
        return network.has_kernels(stack or stack_of(Softmax()), loss or Softmax(), NET, optimizer, rows())

    class Own(SGD):
        """A formula that has no translation."""

        def update(self, w, g, slots, c):
            return w - c[0] * np.hypot(g, 0.1), slots, c[0]

    assert known()
    assert known(stack_of(Softmax(), GhostNorm(), entry=LayerNorm()), OneVsRest(Logistic()), Averaging(AdamW()))
    for normalization in UNFIT:
        assert not known(stack_of(Softmax(), normalization))
        assert not known(stack_of(Softmax(), entry=normalization))
    assert known(stack_of(Softmax(), activation=Swish()), Focal(), Lion())
    assert not known(optimizer=Own())
    assert not known(Stack((Dense(D, OUTPUTS, Tanh()),)))
    for entry in (None, LayerNorm()):
        assert network.has_kernels(stack_of(Softmax(), entry=entry), Softmax(), NET, Adam(), rows(0.4)) == (
            entry is None
        )


@pytest.mark.slow
@nvrtc.EACH
def test_kernels_compile_for_gpus(architecture, dtype):
    level = Level(1, 8, BatchNorm().pooling(8), GELU(), 0.1, True, ())
    some = {"Loss": EachOutput(Poisson()), "Optimizer": Averaging(AdamW()), "Penalty": NET}
    files = "rows.cu", "network/steps.cu", "network/batch.cu", "network/run.cu", "network/csr.cu"
    sources = [level.source(Softmax(), dtype), compile.source_of({}, structs(some, dtype), *files)]
    some |= {"Loss": Softmax(), "Optimizer": ScheduleFree()}
    sources.append(compile.source_of({}, structs(some, dtype), *files))
    for source in sources:
        assert nvrtc.compile(source, architecture)[0]
