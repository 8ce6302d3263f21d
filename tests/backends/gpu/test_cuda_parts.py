"""The parts, the order of the rows and the masks of dropout in CUDA C++: the same numbers as in Python.

The kernels run on the CPU, and NVIDIA's compiler accepts them; neither takes a GPU.
"""

from __future__ import annotations

import doctest
import functools
import linecache
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from skminibatch.backends.gpu.source import has_cuda, numbers, order_numbers, structs, text, why_not
from skminibatch.contract import verbs
from skminibatch.contract.kinds import declared
from skminibatch.contract.orders import ROUNDS, explicit_order, keyed_order, rows_of
from skminibatch.layers import ACTIVATIONS
from skminibatch.layers.dropout import drawn
from skminibatch.losses import LOSSES, ROWWISE_LOSSES, EachOutput, Huber, OneVsRest, SquaredError
from skminibatch.optimizers import OPTIMIZERS, Adam, Averaging
from skminibatch.penalties import ElasticNet
from tests.backends.gpu.custom_parts import Focal, Halved, Lion, Looking, PseudoHuber, Smoothed
from tests.backends.network_chunks import Swish
from tests.emulated import cupy, nvrtc

N_OUTPUTS = 3
GUIDE = Path(__file__).parents[3] / "docs" / "user_guide.md"


def of_the_guide() -> type:
    """The custom loss of the user guide, whose source is kept as a notebook does it."""
    examples = doctest.DocTestParser().get_examples(GUIDE.read_text(encoding="utf-8"))
    source = next(example.source for example in examples if example.source.startswith("class Cauchy"))
    linecache.cache[str(GUIDE)] = len(source), None, source.splitlines(keepends=True), str(GUIDE)
    names = {"NamedTuple": NamedTuple, "np": np, "__name__": "guide"}
    exec(compile(source, str(GUIDE), "exec"), names)
    return names["Cauchy"]


LOSSES_ALONE = [cls() for cls in (*LOSSES.values(), of_the_guide(), PseudoHuber)]
OPTIMIZERS_ALONE = [cls() for cls in (*OPTIMIZERS.values(), Looking)]
PARTS = {
    "loss": LOSSES_ALONE,
    "rowwise": [
        *(cls() for cls in ROWWISE_LOSSES.values()),
        *(OneVsRest(loss) for loss in LOSSES_ALONE if loss.task == "classification"),
        *map(EachOutput, LOSSES_ALONE),
    ],
    "penalty": [ElasticNet(), Smoothed()],
    "optimizer": [
        *OPTIMIZERS_ALONE,
        *(Averaging(part) for part in OPTIMIZERS_ALONE if not declared(part).brings("result")),
    ],
    "activation": [*(cls() for cls in ACTIVATIONS.values()), Swish()],
}
PARTS["rowwise"].append(Focal())
PARTS["optimizer"] += [Lion(), Halved(Adam())]
EVERY = [part for parts in PARTS.values() for part in parts]
DTYPES = {np.dtype(np.float32): {"rtol": 1e-5, "atol": 1e-6}, np.dtype(np.float64): {"rtol": 1e-12, "atol": 1e-14}}
FINITE = [0.0, 1e-200, 1e-30, 30.0, 90.0, 1e4, 1e30, 1e200]
EXTREMES = np.array([*np.negative(FINITE[1:]), *FINITE, -np.inf, np.inf, np.nan])
GRID = (np.arange(-40, 41)[:, None] * 0.1 + [-0.003, 0.0, 0.003]).ravel()  # on round numbers and beside them
RANDOM = np.random.default_rng(9).standard_normal(64) * 10.0 ** np.repeat(np.arange(-8, 8), 4)

# What a kernel does with one case: it reads a row of inputs and writes a row of outputs.
EACH = """
template <class P> HD void each_loss(const P& part, const T* in, T* out) {
    out[0] = P::n_numbers, out[1] = P::rowwise;
    out[2] = part.value(in[0], in[1]), out[3] = part.gradient(in[0], in[1]);
    out[4] = part.value_gradient(in, in + 1, out + 5, 1);
}
template <class P> HD void each_rowwise(const P& part, const T* in, T* out) {
    out[0] = P::n_numbers, out[1] = P::rowwise;
    out[2] = part.value_gradient(in, in + N_OUTPUTS, out + 3, N_OUTPUTS);
}
template <class P> HD void each_penalty(const P& part, const T* in, T* out) {
    out[0] = P::n_numbers;
    out[1] = part.value(in[0]), out[2] = part.gradient(in[0]), out[3] = part.prox(in[0], in[1]);
}
template <class P> HD void each_optimizer(const P& part, const T* in, T* out) {
    const T* c = in + 2 + P::n_slots;
    T w = in[0], slots[P::n_slots + 1];
    out[0] = P::n_numbers, out[1] = P::decoupled, out[2] = P::n_coefficients;
    for (int k = 0; k < P::n_slots; k++) slots[k] = in[2 + k];
    out[3] = part.point(w, slots, c), out[4] = part.update(w, in[1], slots, c), out[5] = w;
    for (int k = 0; k < P::n_slots; k++) out[6 + k] = slots[k];
    part.follow(w, slots, c);
    for (int k = 0; k < P::n_slots; k++) out[6 + P::n_slots + k] = slots[k];
}
template <class P> HD void each_activation(const P& part, const T* in, T* out) {
    out[0] = P::n_numbers;
    out[1] = part.activate(in[0]), out[2] = part.slope(in[0], out[1]);
}
"""
KERNEL = """
extern "C" __global__ void run_NAME(const double* numbers, Index n, Index n_in, Index n_out, const T* in, T* out) {
    const NAME part(numbers);
    for (Index i = 0; i < n; i++) each_KIND(part, in + i * n_in, out + i * n_out);
}
"""
COUNTERS = """
extern "C" __global__ void run_order(const Index* stored, const Index* subset, const Index* numbers, Index n, Index* out) {
    const RowOrder order(stored, subset, numbers);
    for (Index i = 0; i < n; i++) out[i] = order.row_at(i);
}
extern "C" __global__ void run_drawn(Word seed, Word step, Word number, Index n, const Word* counts, Word* out) {
    for (Index i = 0; i < n; i++) out[i] = drawn(seed, step, number, counts[i]);
}
"""


def name_of(part) -> str:
    """The same for other values of the hyper-parameters."""
    return "_".join([type(part).__name__, *(name_of(field) for field in part if isinstance(field, tuple))])


def other(part):
    """The part with other values of all its hyper-parameters."""
    return type(part)(*(other(field) if isinstance(field, tuple) else 0.6 * field + 0.1 for field in part))


@functools.cache
def program(dtype: np.dtype) -> str:
    """All parts, each with a kernel, and those of the counters."""
    names = {name_of(part): (kind, part) for kind, parts in PARTS.items() for part in parts if has_cuda(part)}
    declared = structs({name: part for name, (_, part) in names.items()}, dtype)
    kernels = [KERNEL.replace("NAME", name).replace("KIND", kind) for name, (kind, _) in names.items()]
    return "\n".join([declared, text("rows.cu"), EACH.replace("N_OUTPUTS", str(N_OUTPUTS)), *kernels, COUNTERS])


@functools.cache
def module(dtype: np.dtype) -> cupy.RawModule:
    """The kernels for the CPU."""
    if cupy.COMPILER is None:
        pytest.skip(cupy.NO_COMPILER)
    return cupy.RawModule(code=program(dtype))


def ran(part, cases: np.ndarray, n_out: int) -> np.ndarray:
    """What the kernel of a part writes, (n, n_out), for cases (n, n_in)."""
    out = cupy.empty((len(cases), n_out), cases.dtype)
    sizes = len(cases), cases.shape[1], n_out
    kernel = module(cases.dtype).get_function(f"run_{name_of(part)}")
    kernel((1,), (1,), (cupy.asarray(numbers(part)), *sizes, cupy.asarray(cases), out))
    return cupy.asnumpy(out)


# -- for each kind of part, the inputs of all cases and what Python makes of them, columns of numbers


def targets(loss) -> np.ndarray:
    return np.array([-1.0, 1.0]) if type(loss).task == "classification" else np.array([0.0, 1e-3, 0.7, 3.0])


def inputs_of_loss(loss, rng):
    y = targets(loss)
    apart = np.concatenate([EXTREMES, GRID, RANDOM, loss, np.negative(loss)])  # hyper-parameters are kinks
    raw = np.concatenate([apart, *(apart + one for one in y)])
    return np.repeat(raw, len(y)), np.tile(y, len(raw))


def outputs_of_loss(loss, raw, y):
    found = verbs.value(loss, raw, y), verbs.gradient(loss, raw, y)
    return False, *found, *found


def inputs_of_rowwise(loss, rng):
    n = 10 * len(EXTREMES)
    raw = 3.0 * rng.standard_normal((n, N_OUTPUTS))
    for k in range(N_OUTPUTS):
        raw[k * len(EXTREMES) : (k + 1) * len(EXTREMES), k] = EXTREMES
    if isinstance(loss, EachOutput):
        return *raw.T, *rng.choice(targets(loss.loss), (n, N_OUTPUTS)).T
    return *raw.T, rng.integers(N_OUTPUTS, size=n)


def outputs_of_rowwise(loss, *columns):
    raw, y = np.column_stack(columns[:N_OUTPUTS]), np.column_stack(columns[N_OUTPUTS:])
    gradients = np.empty_like(raw)
    values = [verbs.value_gradient(loss, *row) for row in zip(raw, y, gradients, strict=True)]
    return True, values, *gradients.T


def inputs_of_penalty(penalty, rng):
    w = np.concatenate([EXTREMES, rng.standard_normal(40), penalty, np.negative(penalty)])
    return np.tile(w, 3), np.repeat([1.0, 0.3, 7.0], len(w))


def outputs_of_penalty(penalty, w, step):
    return penalty.value(w), verbs.smooth_gradient(penalty, w), verbs.prox(penalty, w, step)


def inputs_of_optimizer(optimizer, rng):
    w, g = rng.standard_normal((2, 200))
    g[: len(EXTREMES)], w[20 : 20 + len(EXTREMES)] = EXTREMES, EXTREMES
    slots = rng.standard_normal((verbs.n_slots(optimizer), 200))
    slots[np.equal(declared(optimizer).slot_exponents, 2)] **= 2
    slots[:, 40:60] = 0.0  # at the start
    return w, g, *slots, *rng.uniform(0.1, 2.0, (declared(optimizer).n_coefficients, 200))


def outputs_of_optimizer(optimizer, w, g, *others):
    slots, c = others[: verbs.n_slots(optimizer)], others[verbs.n_slots(optimizer) :]
    point = verbs.point(optimizer, w, slots, c)
    w, slots, step = verbs.update(optimizer, w, g, slots, c)
    followed = verbs.follow(optimizer, w, slots, c)
    return declared(optimizer).decoupled, len(c), point, step, w, *slots, *followed


def inputs_of_activation(activation, rng):
    return (np.concatenate([EXTREMES, GRID, 4.0 * GRID, RANDOM]),)


def outputs_of_activation(activation, z):
    a = verbs.activate(activation, z)
    return a, verbs.slope(activation, z, a)


FORMULAS = {
    "loss": (inputs_of_loss, outputs_of_loss),
    "rowwise": (inputs_of_rowwise, outputs_of_rowwise),
    "penalty": (inputs_of_penalty, outputs_of_penalty),
    "optimizer": (inputs_of_optimizer, outputs_of_optimizer),
    "activation": (inputs_of_activation, outputs_of_activation),
}
VARIANTS = [
    pytest.param(kind, variant, id=repr(variant))
    for kind, parts in PARTS.items()
    for part in parts
    for variant in dict.fromkeys([part, other(part)])
]
of_types = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.mark.parametrize("part", EVERY, ids=repr)
def test_every_part_has_cuda(part):
    assert not why_not(part)


@of_types
@pytest.mark.parametrize(("kind", "part"), VARIANTS)
def test_formulas_are_those_in_python(kind, part, dtype, rng):
    inputs_of, outputs_of = FORMULAS[kind]
    with np.errstate(all="ignore"):
        inputs = [np.asarray(column, dtype) for column in inputs_of(part, rng)]
        outputs = len(numbers(part)), *outputs_of(part, *inputs)
    expected = np.column_stack([np.broadcast_to(column, inputs[0].shape) for column in outputs])
    found = ran(part, np.column_stack(inputs), expected.shape[1])
    np.testing.assert_allclose(found, expected, **DTYPES[dtype])


@pytest.mark.parametrize("part", EVERY, ids=repr)
def test_other_values_are_the_same_source(part):
    for dtype in DTYPES:
        assert structs({"Part": part}, dtype) == structs({"Part": other(part)}, dtype)
    assert len(numbers(part)) == len(numbers(other(part)))
    assert not np.any(numbers(part) == numbers(other(part)))


def test_numbers_are_those_of_the_fields_in_their_order():
    averaged = Averaging(Adam(0.8, 0.95, 1e-3), 49.0)
    np.testing.assert_array_equal(numbers(averaged, EachOutput(Huber(0.3))), [0.8, 0.95, 1e-3, 0.0, 49.0, 0.3])
    assert numbers(SquaredError()).shape == (0,)
    assert numbers(SquaredError()).dtype == np.float64


def test_a_struct_is_declared_once():
    """For several parts of one type, in each other or beside each other; types of one name are told apart."""
    namesake = type("Huber", (Huber,), {})
    parts = {"A": Huber(), "B": EachOutput(Huber(2.0)), "C": Huber(0.3), "D": namesake()}
    declared = structs(parts, np.float64)
    names = re.findall(r"struct (\w+) {", declared)
    assert len(set(names)) == len(names) == 3
    struct_of = {name: struct for struct, name in re.findall(r"typedef (\w+) (\w);", declared)}
    assert struct_of["A"] == struct_of["C"]
    assert {struct_of[name] for name in parts} == set(names)


# -- the order of the rows and the masks of dropout


KEYS = np.random.default_rng(7).integers(0, 2**64, ROUNDS, np.uint64)
SUBSET = np.sort(np.random.default_rng(8).choice(9000, 4500, replace=False))


@pytest.mark.parametrize(
    ("order", "n"),
    [
        pytest.param(explicit_order([3, 1, 4, 1, 5, 9, 2, 6]), 8, id="stored"),
        *(pytest.param(keyed_order(n, KEYS), n, id=f"keyed {n}") for n in (1, 2, 3, 17, 4096, 5000)),
        *(
            pytest.param(keyed_order(n, KEYS ^ np.uint64(flip), block=block), n, id=f"blocks {n} {block} {flip}")
            for n, block in [(5000, 64), (5000, 8), (4096, 64), (70, 64), (130, 64), (7, 64)]
            for flip in (0, 1, 2)
        ),
        pytest.param(keyed_order(len(SUBSET), KEYS, subset=SUBSET), len(SUBSET), id="subset"),
        pytest.param(keyed_order(len(SUBSET), KEYS, block=16, subset=SUBSET), len(SUBSET), id="blocks of a subset"),
        pytest.param(keyed_order(5000, KEYS, block=64)._replace(start=3210), 1790, id="start"),
        pytest.param(keyed_order(5000, KEYS, copies=3), 15_000, id="copies"),
        pytest.param(keyed_order(len(SUBSET), KEYS, block=16, subset=SUBSET, copies=5), 5 * len(SUBSET), id="all"),
        pytest.param(keyed_order(2**20, KEYS, copies=2**20), 300, id="many copies"),
        pytest.param(keyed_order(2**40 + 12345, KEYS), 300, id="more rows than 32 bits count"),
        pytest.param(keyed_order(2**40, KEYS, block=64)._replace(start=2**39), 300, id="more blocks"),
    ],
)
def test_rows_are_those_in_python(order, n):
    out = cupy.empty(n, np.int64)
    arrays = map(cupy.asarray, (order.explicit, order.subset, order_numbers(order)))
    module(np.dtype(np.float64)).get_function("run_order")((1,), (1,), (*arrays, n, out))
    np.testing.assert_array_equal(cupy.asnumpy(out), rows_of(order, 0, n))


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize(("step", "number"), [(0, 0), (1, 0), (0, 1), (123456, 3), (2**40, 12)])
def test_dropout_draws_what_it_draws_in_python(seed, step, number):
    key = np.array([seed, step, number], np.uint64)
    counts = np.append(np.arange(1, 200, dtype=np.uint64), np.uint64(2**63))
    out = cupy.empty(len(counts), np.uint64)
    module(np.dtype(np.float64)).get_function("run_drawn")((1,), (1,), (*key, len(counts), cupy.asarray(counts), out))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(cupy.asnumpy(out), drawn(*key, counts))


# -- NVIDIA's compiler


@pytest.mark.slow
@nvrtc.EACH
def test_nvidia_accepts_every_part(architecture, dtype):
    code, log = nvrtc.compile(program(np.dtype(dtype)), architecture)
    assert code[:4] == b"\x7fELF"
    assert not log


def test_single_precision_stays_single():
    """In kernels of float numbers, double ones are loaded and converted, nothing else."""
    code, _ = nvrtc.compile(program(np.dtype(np.float32)), "compute_80")
    double = [line.strip() for line in code.decode().splitlines() if ".f64" in line]
    assert double
    assert not [line for line in double if not line.startswith((".reg", "ld.", "cvt.rn.f32.f64"))]
