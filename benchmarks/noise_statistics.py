"""What the noise statistics of an epoch cost: our kernels against copies of them without these sums."""

import contextlib
import functools
import importlib
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import problems
from report import Result, Table
from scipy import sparse
from smoke import is_smoke, sized
from timing import Epoch, Spread, alternate, milliseconds, seconds

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier
from skminibatch.backends import base
from skminibatch.statistics.batches import BatchStatistics
from skminibatch.training import loop

dense_kernels, sparse_kernels, network_kernel, operations = (
    importlib.import_module(f"skminibatch.backends.cpu.{name}")
    for name in ("linear.dense", "linear.sparse", "network.run", "linear.operations")
)
NEEDS_DATA = False
GOAL = 0.1
TARGET_SECONDS = 0.2
BATCH_SIZES = sized({"float64": [1, 16, 256], "float32": [256]}, {"float64": [16]})
# What only the statistics need: squared gradients of the rows and of the batch and, in half of the steps, squared lengths of
# the rows.
SQUARES = {
    "                squares += r * r * block[GROUP + t]\n": "",
    "                squares += r * r * lengths[t]\n": "",
    "                added[1] += s * out[k] * s * out[k] * lengths[t]\n": "",
}
NORMS = {
    "square_norm = square_norm_of(g, params.dtype.type(share), d, params.dtype.type(free), scale)": "square_norm = 0.0",
    "axes.scale, square_lengths, measure)\n        if measure:\n": "axes.scale, square_lengths, False)\n        if False:\n",
}
LENGTHS_OF_SPARSE = {
    "                if measure:\n                    square += x * x\n": "",
    "            squares[t] += fit_intercept\n": "            pass\n",
}
VARIANTS = {
    "defaults": {},
    "solver='sgd', learning_rate='constant'": {"solver": "sgd", "learning_rate": "constant", "eta0": 0.01},
}
VARIANTS = sized(VARIANTS, {"defaults": {}})
NETWORK = {"hidden_layer_sizes": sized((256, 128), (5, 4)), "max_iter": 9, "tol": None, "random_state": 0}
N_ROWS, N_FEATURES = sized((20_480, 784), (320, 6))
NETWORKS = {"rows": (None, [32, 256]), "micro-batches": ("batch", [32, 256])}


class Unmeasured(BatchStatistics):
    """What steps say that measured nothing but the loss."""

    @classmethod
    def of(cls, sizes, rates, stats, population=np.inf):
        return cls(float(stats.losses.sum() / sizes.sum()), *[np.nan] * 5, float(rates[-1]))


def copied(module, name, cuts, folder):
    """A copy of a module of kernels, in a folder of the path, without some of its lines, which it must have."""
    text = Path(module.__file__).read_text(encoding="utf-8")
    text = text.replace(f"from {dense_kernels.__name__} import", "from dense_without import")
    for line, instead in cuts.items():
        if line not in text:
            raise ValueError(f"{module.__name__} has no longer the line {line.strip()!r}.")
        text = text.replace(line, instead)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return importlib.import_module(name)


def kernels_without():
    """The kernels of dense and of sparse rows and the residuals without what only the statistics need, not kept on disk."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        try:
            dense = copied(dense_kernels, "dense_without", NORMS, Path(folder))
            rows = copied(sparse_kernels, "sparse_without", LENGTHS_OF_SPARSE, Path(folder))
            losses = copied(operations, "losses_without", SQUARES, Path(folder))
        finally:
            sys.path.remove(folder)
            for name in ("dense_without", "sparse_without", "losses_without"):
                sys.modules.pop(name, None)
    for kernel in (dense.run, rows.run_linear):
        kernel.cached = kernel.uncached
    return dense.run, rows.run_linear, losses.residuals


@contextlib.contextmanager
def without_statistics(dense_run, sparse_run, residuals):
    """Train with other kernels, without norms on sparse rows, and make nothing of what was not measured."""
    with (
        mock.patch.object(dense_kernels, "run", dense_run),
        mock.patch.object(sparse_kernels, "run_linear", sparse_run),
        mock.patch.object(operations, "residuals", residuals),
        mock.patch.object(base, "measured_from", lambda plan, table=None: plan.n_steps),
        mock.patch.object(loop, "BatchStatistics", Unmeasured),
    ):
        yield


def fitted(X, y, parameters, max_iter):
    return MiniBatchSGDClassifier(max_iter=max_iter, tol=None, random_state=0, **parameters).fit(X, y)


def cases():
    """(rows, dtype, batch size, X, y)"""
    for dtype, batch_sizes in BATCH_SIZES.items():
        X, y = problems.logistic_data(dtype=dtype)
        for batch_size in batch_sizes:
            yield "200,000 x 100", dtype, batch_size, X, y
    if is_smoke():  # each case is compiled anew, three times
        return
    X, y = problems.logistic_data(n_features=20)
    yield "200,000 x 20", "float64", 256, X, y
    X, _ = problems.logistic_data()
    yield "200,000 x 100, ten classes", "float64", 256, X, np.argmax(X[:, :10], axis=1)
    rng = np.random.default_rng(0)
    X = sparse.random_array((200_000, 5_000), density=0.004, rng=rng, format="csr")
    yield "200,000 x 5,000, CSR, 20 non-zeros a row", "float64", 256, X, problems.logistic_data(n_features=1)[1]


def compared(X, y, parameters, kernels, repeats):
    """Epochs with the statistics in the place of the peer, so that the ratio reads with / without."""

    def bare(max_iter):
        with without_statistics(*kernels):
            return usual(max_iter)

    usual = functools.partial(fitted, X, y, parameters)
    np.testing.assert_allclose(bare(1).coef_, usual(1).coef_, rtol=1e-3, atol=1e-5)  # the same training
    return alternate(Epoch(usual, TARGET_SECONDS), Epoch(bare, TARGET_SECONDS), repeats)


@contextlib.contextmanager
def networks_without_statistics():
    """Train networks without the norms of the gradients of rows, and without looks at micro-batches."""

    def run(*arguments):
        *before, (clip_norm, _, *key), params, space, stats = arguments
        return kernel(*before, (clip_norm, False, *key), params, space, stats)

    kernel = network_kernel.run
    with (
        mock.patch.object(network_kernel, "run", run),
        mock.patch.object(loop, "noise_of_micro_batches", return_value=None),
    ):
        yield


def network_table(repeats):
    """(table, raw numbers) of whole fits of a network, of nine epochs, with and without the statistics."""
    table = Table(
        f"A network with its noise statistics, and without: {N_FEATURES}-256-128-10, {N_ROWS:,} rows, float32",
        ["normalization", "batch", "from", "with (ms)", "without (ms)", "cost", "to reach"],
        note=(
            "Fits of nine epochs, the way there included. From rows: the exact norms of their gradients, in each step; from "
            "micro-batches: some are looked at from time to time, where a normalization couples the rows."
        ),
    )
    records, rng = [], np.random.default_rng(0)
    X, y = rng.standard_normal((N_ROWS, N_FEATURES), np.float32), rng.integers(0, 10, N_ROWS)
    for estimator, (normalization, batch_sizes) in NETWORKS.items():
        for batch_size in batch_sizes:
            network = MiniBatchMLPClassifier(batch_size=batch_size, normalization=normalization, **NETWORK)

            def usual(network=network):
                return network.fit(X, y)

            def bare(network=network):
                with networks_without_statistics():
                    return network.fit(X, y)

            np.testing.assert_array_equal(bare().coefs_[0], usual().coefs_[0])
            pairs = alternate(functools.partial(seconds, usual), functools.partial(seconds, bare), repeats)
            times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)]
            how = [normalization or "none", batch_size, estimator]
            table.rows.append([*how, *times, percent(pairs.ratios), f"at most {GOAL:.0%}"])
            records.append(
                {"normalization": normalization, "batch_size": batch_size, "ratios": pairs.ratios}
                | {"with_seconds": pairs.peer, "without_seconds": pairs.ours}
            )
            print("   ", *table.rows[-1], flush=True)
    return table, records


def percent(ratios):
    spread = Spread.of([100 * (ratio - 1) for ratio in ratios])
    return f"{spread.median:+.0f} % ({spread.low:+.0f} to {spread.high:+.0f})"


def run(context):
    table = Table(
        "An epoch with its noise statistics, and without",
        ["rows", "dtype", "batch", "ours", "with (ms)", "without (ms)", "cost", "to reach"],
        note=(
            "Without: the same kernels, on one thread, from a copy of their source without the lines that sum squared "
            "gradients of rows and of batches and squared lengths of rows, and nothing made of them after a chunk. With: every "
            "other batch is measured, and of sparse rows the last ones of a chunk. Both train to the same coefficients."
        ),
    )
    records, within = [], 0
    kernels = kernels_without()
    for rows, dtype, batch_size, X, y in cases():
        for name, settings in VARIANTS.items():
            parameters = {"batch_size": batch_size, "n_jobs": 1, **settings}
            pairs = compared(X, y, parameters, kernels, context.repeats)
            times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)]
            table.rows.append([rows, dtype, batch_size, name, *times, percent(pairs.ratios), f"at most {GOAL:.0%}"])
            records.append(
                {"rows": rows, "dtype": dtype, "batch_size": batch_size, "variant": name, "ratios": pairs.ratios}
                | {"with_seconds": pairs.peer, "without_seconds": pairs.ours}
            )
            within += pairs.times_faster.median <= 1 + GOAL
            print("   ", *table.rows[-1], flush=True)
    table.note += f" {within} of {len(records)} medians are at most {GOAL:.0%}."
    question = (
        "How much of an epoch goes into the noise scale, the norm of the gradient and the variance of the updates that "
        "`history_` has? Standard normal features with a logistic label; the time of an epoch is that of k + 1 epochs minus "
        "that of 1, over k."
    )
    networks, of_networks = network_table(context.repeats)
    return Result("The cost of the noise statistics", question, [table, networks], records + of_networks)
