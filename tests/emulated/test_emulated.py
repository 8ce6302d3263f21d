"""The machine on which kernels are tested: what it runs is what CUDA promises, and what CUDA forbids shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.emulated import cupy, strict

pytestmark = pytest.mark.skipif(cupy.COMPILER is None, reason=cupy.NO_COMPILER)

SOURCE = r"""
struct Numbers { double a, b; };

extern "C" __global__ void reversed(const float* x, float* out, int n) {  // through dynamic shared memory
    DYNAMIC_SHARED(memory);
    float* tile = reinterpret_cast<float*>(memory);
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) tile[threadIdx.x] = x[i];
    __syncthreads();
    const int other = min(int(blockDim.x), n - int(blockIdx.x * blockDim.x)) - 1 - threadIdx.x;
    if (i < n) out[i] = tile[other];
}

extern "C" __global__ void warp_sums(const double* x, double* sums, unsigned* votes) {
    double total = x[threadIdx.x];
    for (int k = 16; k; k /= 2) total += __shfl_xor_sync(0xffffffffu, total, k);
    double below = x[threadIdx.x];
    for (int k = 16; k; k /= 2) below += __shfl_down_sync(0xffffffffu, below, k);
    const unsigned vote = __ballot_sync(0xffffffffu, x[threadIdx.x] > 0);
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = total - below;
        sums[blockDim.x / 32 + threadIdx.x / 32] = below;
        votes[threadIdx.x / 32] = vote;
    }
}

HD void meet(unsigned* arrived, unsigned round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        ADD_RELEASE(arrived, 1u);
        while (LOAD_ACQUIRE(arrived) < round * gridDim.x) SPIN_WAIT();
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(64) rounds(int* x, unsigned* arrived, int n_rounds) {  // all blocks meet
    __shared__ int mine[2];
    for (int r = 0; r < n_rounds; ++r) {
        if (threadIdx.x < 2) mine[threadIdx.x] = x[(blockIdx.x + threadIdx.x) % gridDim.x];
        meet(arrived, 2 * r + 1);
        if (threadIdx.x == 0) x[blockIdx.x] = 3 * mine[0] - mine[1];
        meet(arrived, 2 * r + 2);
    }
}

extern "C" __global__ void stuck(unsigned* arrived) { meet(arrived, 2); }

extern "C" __global__ void numbers(double* out, long long i, double x, int k, bool yes) {
    out[0] = i, out[1] = x, out[2] = k, out[3] = yes, out[4] = max(NAN, 1.0), out[5] = normcdf(1.0);
}

extern "C" __global__ void unwritten(float* out) {
    DYNAMIC_SHARED(memory);
    out[threadIdx.x] = reinterpret_cast<float*>(memory)[threadIdx.x];
}

extern "C" __global__ void beside(float* out, int where) {
    DYNAMIC_SHARED(memory);
    if (where > 1000) reinterpret_cast<float*>(memory)[where - 1000] = 0;
    else out[where] = 0;
}

extern "C" __global__ void without_a_barrier(int* out) {  // a neighbour's number, read without waiting for it
    DYNAMIC_SHARED(memory);
    int* tile = reinterpret_cast<int*>(memory);
    tile[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = tile[(threadIdx.x + 1) % blockDim.x];
}
"""


@pytest.fixture
def kernel():
    return cupy.RawModule(code=SOURCE).get_function


@pytest.fixture(params=[0, 1], ids=["ascending", "descending"])
def order(request, monkeypatch):
    monkeypatch.setattr(cupy.settings, "order", request.param)
    return request.param


@pytest.mark.usefixtures("order")
def test_dynamic_shared_memory_and_barriers_of_blocks(kernel):
    x = cupy.arange(1000, dtype=np.float32)
    out = cupy.empty(1000, np.float32)
    kernel("reversed")((8,), (128,), (x, out, np.int32(1000)), shared_mem=512)
    expected = np.concatenate([part[::-1] for part in np.split(x.get(), range(128, 1000, 128))])
    np.testing.assert_array_equal(out.get(), expected)


@pytest.mark.usefixtures("order")
def test_shuffles(kernel):
    x = np.random.default_rng(0).integers(-50, 50, 96).astype(float)
    sums, votes = cupy.empty((2, 3)), cupy.empty(3, np.uint32)
    kernel("warp_sums")((1,), (96,), (cupy.asarray(x), sums, votes))
    np.testing.assert_array_equal(sums.get(), [np.zeros(3), x.reshape(3, 32).sum(axis=1)])
    np.testing.assert_array_equal(votes.get(), (x.reshape(3, 32) > 0) @ (1 << np.arange(32)))


@pytest.mark.usefixtures("order")
def test_barriers_of_the_grid(kernel):
    x = np.array([1, -2, 5, 0], np.int32)
    on_device, arrived = cupy.asarray(x), cupy.zeros(1, np.uint32)
    kernel("rounds").kernel((4,), (64,), (on_device, arrived, np.int32(5)), enable_cooperative_groups=True)
    for _ in range(5):
        x = 3 * x - np.roll(x, -1)
    np.testing.assert_array_equal(on_device.get(), x)


def test_a_barrier_that_cannot_be_completed_ends_the_run(run_python):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tests.emulated.test_emulated as here\n"
        "run = here.cupy.RawModule(code=here.SOURCE).get_function('stuck')\n"
        "run((1,), (32,), (here.cupy.zeros(1, 'u4'),))"
    )
    with pytest.raises(AssertionError, match="wait for something that does not come"):
        run_python(code, str(Path(__file__).parents[2]))


def test_arguments_are_those_of_cupy(kernel):
    out = cupy.empty(6)
    kernel("numbers")((1,), (1,), (out, 2**40, 0.1, np.int32(-7), True))
    np.testing.assert_allclose(out.get(), [2**40, 0.1, -7, 1, 1, 0.8413447460685429])
    with pytest.raises(TypeError, match="takes arguments of"):
        kernel("numbers")((1,), (1,), (out, 2**40, 0.1, -7, True))
    with pytest.raises(TypeError, match="Unsupported type"):
        kernel("unwritten")((1,), (1,), (np.zeros(3),))
    with pytest.raises(TypeError, match="Unsupported type"):
        out + np.zeros(6)
    with pytest.raises(TypeError, match="tuples"):
        kernel("numbers")([1], (1,), (out, 2**40, 0.1, np.int32(-7), True))


@pytest.mark.parametrize("module", [cupy, strict], ids=["kernels", "arrays"])
def test_arrays_are_made_as_those_of_cupy(module):
    columns = module.asarray(np.zeros((3, 2), order="F"))
    assert columns.flags.f_contiguous
    assert module.asarray(columns, order="C").flags.c_contiguous
    if module is strict:
        with pytest.raises(TypeError, match="device"):
            np.ones(3, like=columns)
        with pytest.raises(TypeError, match="device"):
            np.full(3, 2.0, like=columns)


def test_a_capture_takes_no_memory_and_no_copies():
    stream, array = cupy.cuda.Stream(non_blocking=True), cupy.zeros(3)
    stream.begin_capture()
    try:
        for forbidden in (lambda: cupy.empty(3), array.get, lambda: array.set(np.ones(3)), stream.synchronize):
            with pytest.raises(RuntimeError, match="captur"):
                forbidden()
    finally:
        stream.end_capture()


def test_what_was_not_written_shows(kernel):
    out = cupy.empty(8, np.float32)
    assert np.isnan(out.get()).all()
    out[:] = 0
    kernel("unwritten")((1,), (8,), (out,), shared_mem=32)
    assert np.isnan(out.get()).all()
    with pytest.raises(RuntimeError, match="shared memory"):
        kernel("unwritten")((1,), (8,), (out,), shared_mem=60_000)


def test_a_missing_barrier_shows(kernel, order):
    out = cupy.empty(32, np.int32)
    kernel("without_a_barrier")((1,), (32,), (out,), shared_mem=128)
    assert (out.get() == -1).any()


@pytest.mark.parametrize("where", [-1, 8])
def test_writes_beside_an_array_show(kernel, where):
    with pytest.raises(AssertionError, match="a kernel wrote"):
        kernel("beside")((1,), (1,), (cupy.zeros(8, np.float32), np.int32(where)), shared_mem=32)


def test_writes_behind_shared_memory_end_the_run(run_python):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tests.emulated.test_emulated as here\n"
        "run = here.cupy.RawModule(code=here.SOURCE).get_function('beside')\n"
        "run((1,), (1,), (here.cupy.zeros(8, 'f4'), here.np.int32(1008)), shared_mem=32)"
    )
    with pytest.raises(AssertionError, match="behind its shared memory"):
        run_python(code, str(Path(__file__).parents[2]))


def test_a_source_is_compiled_once():
    assert cupy._library(SOURCE, ()) is cupy._library(SOURCE, ())


def test_sums_of_floats_by_atomics_are_refused():
    code = 'extern "C" __global__ void wrong(float* x) { atomicAdd(x, 1.0f); }'
    with pytest.raises(RuntimeError, match="their order is not fixed"):
        cupy.RawModule(code=code)
