"""Everything that a GPU is asked for, in one run of a few minutes: `python benchmarks/gpu.py`.

Measures an epoch of linear models and of a network against the peers that are installed, the wall time of `fit`, from where
on the GPU is sooner than the CPU, the bandwidth and the rate of products of the device, and how far the backends agree; then
runs the tests of the GPU in what is left of `--seconds`. Writes docs/benchmarks/gpu.json and, from it, docs/benchmarks/gpu.md,
anew with each number, so that a run that is cut off leaves those that it has found.

Without a GPU it says why and ends. `--dry-run` goes through everything with small data on the stand-in of the tests, whose times
mean nothing, and writes nothing; `--page` writes the page from the numbers that are there, and `--table` the one that
`device='auto'` goes by.
"""

import argparse
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import gpu_peers
import numpy as np
from gpu_page import page
from report import facts as facts_of_machine
from report import n_cores
from timing import Spread

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier
from skminibatch.backends import choose, crossover
from skminibatch.backends.gpu import device
from skminibatch.contract.orders import ROUNDS, keyed_order
from skminibatch.contract.plan import Plan
from skminibatch.contract.task import LinearTask, NetworkTask
from skminibatch.contract.verbs import n_slots
from skminibatch.layers import Dense, Identity, ReLU, Stack
from skminibatch.losses import Logistic, Softmax
from skminibatch.optimizers import SGD, Adam
from skminibatch.penalties import ElasticNet
from skminibatch.training.chunks import epoch_sizes

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "benchmarks"
TESTS = [
    f"tests/backends/{path}"
    for path in (
        "gpu/test_gpu.py",
        "gpu/linear",
        "test_dense_chunks.py",
        "test_sparse_chunks.py",
        "test_network_chunks.py",
    )
]
SECONDS = 540  # of a whole run
MOST_WORKERS, LAST_LINES = 8, 40  # processes that test at once; lines of what they say that are kept
MARKS = {"passed": ".", "failed": "F", "skipped": "s", "errors": "E"}
HIDDEN, N_CLASSES, NETWORK_BATCH = (256, 128), 10, 256
AGREE = [("sgd", "dense"), ("adam", "dense"), ("schedule_free", "dense"), ("sgd", "csr"), ("adam", "csr")]
PACKAGES = ["cupy-cuda12x", "cupy-cuda13x", "jax", "torch"]


@dataclass(frozen=True)
class Sizes:
    """How much is measured: for a GPU, or for a look at whether everything runs."""

    repeats: int
    linear: tuple[int, int]
    batch_sizes: tuple[int, ...]
    network: tuple[int, int]
    numbers: int
    widths: tuple[int, ...]
    crossover: tuple[int, ...]
    product: int
    copied: int
    agree: tuple[int, int]


FULL = Sizes(
    repeats=9,
    linear=(1_000_000, 100),
    batch_sizes=(256, 4096, 65_536),
    network=(60_000, 784),
    numbers=20_000_000,
    widths=(10, 100, 1000),
    crossover=(16, 64, 256, 1024, 4096, 16_384),
    product=8192,
    copied=1 << 30,
    agree=(20_000, 30),
)
SMALL = Sizes(1, (600, 5), FULL.batch_sizes, (64, 6), 400, (4,), (16,), 16, 1 << 12, (200, 4))


def timed(call):
    """(seconds of the wall, seconds between two events on the device) of one call that starts when the device is idle."""
    cuda = device.cupy().cuda
    first, last = cuda.Event(), cuda.Event()
    cuda.Device().synchronize()
    start = time.perf_counter()
    first.record()
    call()
    last.record()
    cuda.Device().synchronize()
    return time.perf_counter() - start, 1e-3 * cuda.get_elapsed_time(first, last)


def several(call, repeats):
    """Medians and quartiles of both times, after one call that compiles and loads."""
    call()
    wall, events = zip(*(timed(call) for _ in range(repeats)), strict=True)
    return {"wall_seconds": spread(wall), "device_seconds": spread(events)}


def spread(values):
    found = Spread.of(values)
    return {"median": found.median, "low": found.low, "high": found.high, "all": list(values)}


# -- the device itself


def of_device(sizes):
    """Bytes read and written in a second by a copy, to the device from the host, and operations in a second of products."""
    cupy = device.cupy()
    from skminibatch.backends.gpu.placement import to_gpu

    found = {"name": "device"}
    source = cupy.zeros(sizes.copied // 4, np.float32)
    target = cupy.empty(sizes.copied // 4, np.float32)
    found["copy_bytes_per_second"] = rate(several(lambda: cupy.copyto(target, source), sizes.repeats), 2 * sizes.copied)
    host = np.zeros(sizes.copied // 4, np.float32)
    found["host_to_device_bytes_per_second"] = rate(several(lambda: to_gpu(host), 3), sizes.copied, "wall_seconds")
    for dtype in (np.float32, np.float64):
        A = cupy.ones((sizes.product, sizes.product), dtype)
        seconds = several(lambda A=A: A @ A, sizes.repeats)
        found[f"product_operations_per_second_{np.dtype(dtype).name}"] = rate(seconds, 2 * sizes.product**3)
    return [found]


def rate(seconds, amount, which="device_seconds"):
    return amount / max(seconds[which]["median"], 1e-12)


# -- linear models


def plan_of(optimizer, n, batch_size, rate=gpu_peers.RATE, seed=0):
    """One epoch in a keyed order, which the device computes itself."""
    sizes = epoch_sizes(n, np.full(-(-n // batch_size), batch_size))
    coefficients, _ = optimizer.coefficients(np.full(sizes.size, rate), sizes, None)
    keys = np.random.default_rng(seed).integers(1 << 63, size=ROUNDS).astype(np.uint64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Plan(keyed_order(n, keys), offsets, np.ascontiguousarray(coefficients, np.float64), key=(seed, 0))


def of_linear(sizes):
    """An epoch of logistic regression by plain SGD, ours and each peer, and `fit` as a whole."""
    from skminibatch.backends.gpu.placement import rows_on_device

    n, d = sizes.linear
    X, y = gpu_peers.rows(n, d)
    for batch_size in sizes.batch_sizes:
        parts, gpu = (Logistic(), ElasticNet(gpu_peers.ALPHA), SGD()), choose("cuda")
        plan, params = plan_of(SGD(), n, batch_size), np.zeros((1, 1, d + 1), np.float32)
        facts = {"name": "linear", "batch_size": batch_size, "shape": [n, d], "steps": plan.n_steps}
        with rows_on_device(X) as there:
            task = LinearTask(*parts, there, y, np.empty(0), params)
            found = several(lambda: gpu.run_dense(task._replace(params=params.copy()), plan), sizes.repeats)  # noqa: B023
        yield {**facts, "who": "ours", **found, "bytes_per_second": rate(found, X.nbytes)}
        for peer, (package, make) in gpu_peers.LINEAR.items():
            yield {**facts, **of_peer(peer, package, lambda: make(X, y, batch_size), sizes.repeats)}  # noqa: B023
        yield {**facts, "who": "fit", **of_fit(X, y, batch_size, sizes.repeats)}


def of_peer(peer, package, make, repeats):
    """What a peer takes for an epoch, or why that is not known."""
    if importlib.util.find_spec(package) is None:
        return {"who": peer, "left_out": f"{package} is not installed"}
    try:
        return {"who": peer, **several(make(), repeats)}
    except Exception as error:
        return {"who": peer, "left_out": f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"}


def of_fit(X, y, batch_size, repeats):
    """The wall time of `fit` with rows on the device: of one epoch, and of each further one."""
    there = device.cupy().asarray(X)
    settings = {"solver": "sgd", "learning_rate": "constant", "eta0": gpu_peers.RATE, "tol": None, "random_state": 0}

    def fit(max_iter):
        MiniBatchSGDClassifier(batch_size=batch_size, max_iter=max_iter, **settings).fit(there, y)

    once, more = several(lambda: fit(1), repeats), several(lambda: fit(5), repeats)
    each = (more["wall_seconds"]["median"] - once["wall_seconds"]["median"]) / 4
    return {"one_epoch": once["wall_seconds"], "five_epochs": more["wall_seconds"], "epoch_seconds": each}


# -- networks


def of_network(sizes):
    """An epoch of a network with Adam, ours and PyTorch's."""
    n, d = sizes.network
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, d), dtype=np.float32), rng.integers(0, N_CLASSES, n)
    hidden = HIDDEN if sizes is FULL else (4, 3)
    widths = (d, *hidden, N_CLASSES)
    layers = [Dense(a, b, ReLU()) for a, b in itertools.pairwise(widths[:-1])]
    stack = Stack((*layers, Dense(widths[-2], N_CLASSES, Identity())))
    optimizer, plan = Adam(), plan_of(Adam(), n, min(NETWORK_BATCH, n))
    start = stack.start(rng)
    facts = {"name": "network", "network": "-".join(map(str, widths)), "batch_size": NETWORK_BATCH, "shape": [n, d]}
    from skminibatch.backends.gpu.placement import rows_on_device

    def run():
        params = np.zeros((1 + n_slots(optimizer), stack.n_numbers), np.float32)
        params[0] = start
        arrays = there, y[:, None].astype(np.float32), np.empty(0), params
        task = NetworkTask(stack, Softmax(), ElasticNet(gpu_peers.ALPHA), optimizer, *arrays)
        choose("cuda").run_mlp(task, plan)

    with rows_on_device(X) as there:
        yield {**facts, "who": "ours", **several(run, sizes.repeats)}
    for peer, graphed in (("PyTorch, eager, fused Adam", False), ("PyTorch, CUDA graph", True)):
        make = lambda graphed=graphed: gpu_peers.torch_network(X, y, hidden, NETWORK_BATCH, graphed)  # noqa: E731
        yield {**facts, **of_peer(peer, "torch", make, sizes.repeats)}


# -- the CPU against the GPU


def of_crossover(sizes):
    """An epoch on the CPU and on the GPU, by batch size and number of features, on rows of as many numbers in all."""
    if importlib.util.find_spec("numba") is None:
        yield {"name": "crossover", "left_out": "numba is not installed"}
        return
    from skminibatch.backends.gpu.placement import rows_on_device

    parts = Logistic(), ElasticNet(gpu_peers.ALPHA), SGD()
    for d in sizes.widths:
        n = sizes.numbers // d
        X, y = gpu_peers.rows(n, d)
        with rows_on_device(X) as there:
            for batch_size in sizes.crossover:
                plan, params = plan_of(SGD(), n, batch_size), np.zeros((1, 1, d + 1), np.float32)
                facts = {"name": "crossover", "batch_size": batch_size, "shape": [n, d]}
                for who, rows in (("cpu", X), ("cuda", there)):
                    task, run = LinearTask(*parts, rows, y, np.empty(0), params), choose(who).run_dense
                    found = several(lambda: run(task._replace(params=params.copy()), plan), 3)  # noqa: B023
                    yield {**facts, "who": who, "wall_seconds": found["wall_seconds"]}


# -- agreement


def of_agreement(sizes):
    """The largest relative difference of what is learnt in one epoch in float64, and whether two runs have the same bits."""
    from scipy import sparse

    n, d = sizes.agree
    X, y = gpu_peers.rows(n, d, np.float64)
    for solver, storage in AGREE:
        rows = sparse.random(n, d, 0.2, "csr", rng=np.random.default_rng(1)) if storage == "csr" else X
        settings = {"solver": solver, "max_iter": 1, "tol": None, "random_state": 0, "batch_size": 256}
        fits = [MiniBatchSGDClassifier(device=name, **settings).fit(rows, y).coef_ for name in ("base", "cuda", "cuda")]
        yield {"name": "agreement", "what": f"{solver}, {storage}", **difference(*fits)}
    settings = {"hidden_layer_sizes": (16,), "max_iter": 1, "tol": None, "random_state": 0, "batch_size": 256}
    for normalization in (None, "batch"):
        fits = [
            MiniBatchMLPClassifier(device=name, normalization=normalization, **settings).fit(X, y)._theta()
            for name in ("base", "cuda", "cuda")
        ]
        yield {"name": "agreement", "what": f"network, normalization {normalization}", **difference(*fits)}


def difference(expected, ours, again):
    scale = np.abs(expected).max()
    return {
        "largest_difference": float(np.abs(ours - expected).max() / scale),
        "same_bits": bool(np.array_equal(ours, again)),
    }


# -- the run


def of_tests(seconds):
    """What the tests of the GPU say, those that are done in so many seconds; several at once, where pytest can do that."""
    if importlib.util.find_spec("pytest") is None:
        return {"name": "tests", "left_out": "pytest is not installed"}
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", "--maxfail=30", "-k", "gpu or cuda"]
    command += ["-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-p", "xdist.plugin", "-n", str(min(MOST_WORKERS, n_cores()))]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    # other plugins that happen to be there may warn, which the tests take for an error
    environment = {**os.environ, "PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "check": False, "timeout": max(1.0, seconds)}
    try:
        said = subprocess.run([*command, *TESTS], cwd=ROOT, env=environment, **pipes).stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace") + f"\nstopped after {seconds:.0f} s"
    print(said, flush=True)
    if "needs a GPU" in said:
        return {"name": "tests", "left_out": "they found no GPU", "end": said.strip().splitlines()[-LAST_LINES:]}
    marks = "".join(re.findall(r"^([.FEsx]+)(?: *\[ *\d+%\])?$", said, re.MULTILINE))
    counts = {what: marks.count(mark) for what, mark in MARKS.items() if mark in marks}
    return {"name": "tests", **counts, "end": said.strip().splitlines()[-LAST_LINES:]}


SECTIONS = {
    "device": of_device,
    "agreement": of_agreement,
    "linear": of_linear,
    "network": of_network,
    "crossover": of_crossover,
}


def facts(repeats):
    """Where and with what the numbers were taken."""
    found = facts_of_machine(repeats)
    for package in PACKAGES:
        if importlib.util.find_spec(package.split("-")[0]) is not None:
            try:
                found["versions"][package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
    runtime = device.cupy().cuda.runtime
    name = runtime.getDeviceProperties(0)["name"]
    versions = {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}
    return {**found, "device": name.decode() if isinstance(name, bytes) else str(name), "cuda": versions}


def measured(sections, sizes, deadline):
    """The records of all sections, one after the other; a section that fails says so, and the others still run."""
    for name in sections:
        start = time.perf_counter()
        try:
            if start > deadline:
                raise TimeoutError("no time was left")
            yield from SECTIONS[name](sizes)
        except Exception as error:
            traceback.print_exc()
            yield {"name": name, "failed": f"{type(error).__name__}: {error}"}
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def keep(stored, folder):
    """Write the numbers and the page; the files are whole at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("gpu.json", json.dumps(stored, indent=1) + "\n"), ("gpu.md", page(stored))):
        unfinished = folder / f"{name}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / name)


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--no-tests", action="store_true", help="measure only")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of the whole run; the tests get what is left of it"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the numbers and the page go")
    parser.add_argument(
        "--dry-run", action="store_true", help="small data on the stand-in of the tests; writes nothing"
    )
    parser.add_argument(
        "--table", action="store_true", help="write the table of device='auto' from the numbers that are there"
    )
    parser.add_argument("--page", action="store_true", help="write the page from the numbers that are there")
    return parser.parse_args(argv)


def crossover_of(records):
    """The table of `skminibatch.backends.crossover`: the batch sizes from which on no smaller time was seen on the CPU."""
    seconds = {(one["shape"][1], one["batch_size"], one["who"]): one["wall_seconds"]["median"] for one in records}
    table = {"row_lengths": sorted({d for d, _, _ in seconds}), "batch_sizes": []}
    for d in table["row_lengths"]:
        found = None
        for size in sorted({b for other, b, _ in seconds if other == d}, reverse=True):
            if seconds[d, size, "cuda"] >= seconds[d, size, "cpu"]:
                break
            found = size
        table["batch_sizes"].append(found)
    return table


def everything(options, sizes, deadline):
    """The records of what was asked for; the tests come last, in the time that is left."""
    yield from measured(options.only, sizes, deadline)
    if not (options.no_tests or options.dry_run):
        yield of_tests(deadline - time.perf_counter())


def play_a_gpu():
    """Put the stand-in of the tests in the place of CuPy."""
    sys.path.insert(0, str(ROOT))
    from tests.emulated import strict

    sys.modules.update(strict.modules())
    device._answers.clear()


def main():
    options = arguments()
    deadline = time.perf_counter() + options.seconds
    if not (options.page or options.table):
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory
        if options.dry_run:
            play_a_gpu()
        if (reason := device.problem()) is not None:
            raise SystemExit(reason)
        sizes = SMALL if options.dry_run else FULL
        stored = {"facts": facts(sizes.repeats), "records": []}
        with tempfile.TemporaryDirectory() as scratch:
            for record in everything(options, sizes, deadline):
                stored["records"].append(record)
                keep(stored, Path(scratch) if options.dry_run else options.output)
        print(page(stored))
        if options.dry_run:
            return
    path = options.output / "gpu.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if options.table:
        if stored is None:
            raise SystemExit(f"There is no {path}: nothing was measured.")
        records = [one for one in stored["records"] if one["name"] == "crossover" and "who" in one]
        crossover.STORED.write_text(json.dumps(crossover_of(records)) + "\n", encoding="utf-8")
    (options.output / "gpu.md").write_text(page(stored), encoding="utf-8")


if __name__ == "__main__":
    main()
