"""Import, the first fit ever and the first fit of a later process, each in a fresh process."""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from report import Result, Table
from scipy import sparse
from smoke import sized
from timing import Spread, number

from skminibatch import warmup

NEEDS_DATA = False
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
FITS = {
    "classifier, dense float64": ("MiniBatchSGDClassifier", "float64", False),
    "classifier, dense float32": ("MiniBatchSGDClassifier", "float32", False),
    "classifier, CSR float64": ("MiniBatchSGDClassifier", "float64", True),
    "regressor, dense float64": ("MiniBatchSGDRegressor", "float64", False),
    "network, dense float64": ("MiniBatchMLPClassifier", "float64", False),
}


def import_seconds(module):
    command = [sys.executable, "-c", IMPORT.format(module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(kind):
    """In the child: seconds of the first fit and, as the steady state, of later ones. Prints both."""
    import skminibatch

    name, dtype, is_sparse = FITS[kind]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10_000, 20)).astype(dtype)
    y = (X[:, 0] + rng.standard_normal(len(X)) > 0).astype(np.int64)
    X = sparse.csr_array(X) if is_sparse else X
    times, cpu = [], []
    for _ in range(6):
        began, cpu_began = time.perf_counter(), time.process_time()
        getattr(skminibatch, name)(max_iter=3, tol=None, random_state=0).fit(X, y)
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
    print(json.dumps({"first": times[0], "cpu": cpu[0], "steady": float(np.median(times[1:]))}))


def measure_settings(count):
    """In the child: seconds of CPU of the first fit in each of the first usual settings, one after the other."""
    rows, targets = warmup.data()
    seconds = {}
    for setting in warmup.usual_settings()[:count]:
        name, start = str(setting), time.process_time()
        setting.fit(rows, targets)
        seconds[name] = time.process_time() - start
    print(json.dumps(seconds))


def in_child(cache, *arguments):
    """What a fresh process prints that has this cache of kernels; in a smoke run it has the usual one."""
    command = [sys.executable, __file__, *arguments]
    environment = {**os.environ, **sized({"NUMBA_CACHE_DIR": cache}, {})}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def import_table(context, records):
    title = "Import"
    columns = ["sklearn.linear_model (s)", "skminibatch (s)", "skminibatch more (s)", "to reach"]
    times = {"sklearn.linear_model": [], "skminibatch": []}
    for module in sized(times, []):
        import_seconds(module)  # reads the files from disk
    for _ in range(sized(max(context.repeats, 5), 1)):
        for module, seconds in times.items():
            seconds.append(import_seconds(module))
    peer, ours = times.values()
    more = Spread.of(b - a for a, b in zip(peer, ours, strict=True))
    records.append({"table": title, "seconds": times})
    row = [number(np.median(peer)), number(np.median(ours)), more, "at most 0.3"]
    return Table(title, columns, [row], "In turn, each in a fresh process.")


def first_fit_table(context, records):
    title = "The first fit"
    columns = [
        "fit",
        "first ever (s)",
        "of CPU (s)",
        "to reach",
        "later, beyond steady (s)",
        "to reach",
        "steady (ms)",
    ]
    note = (
        "'First ever' meets an empty cache of compiled kernels and includes the import of numba; 'later' is "
        "the first fit of a process that finds the cache filled. Fits of 10,000 x 20, three epochs."
    )
    table = Table(title, columns, note=note)
    for kind in sized(list(FITS), list(FITS)[:1]):
        cold, warm = [], []
        for _ in range(context.repeats):
            with tempfile.TemporaryDirectory() as cache:
                cold.append(in_child(cache, kind))
                warm.append(in_child(cache, kind))
        first, cpu = Spread.of(run["first"] for run in cold), Spread.of(run["cpu"] for run in cold)
        beyond = Spread.of(run["first"] - run["steady"] for run in warm)
        steady = 1e3 * np.median([run["steady"] for run in warm])
        network = "MLP" in FITS[kind][0]
        table.rows.append([kind, first, cpu, f"at most {4 if network else 3}", beyond, "at most 0.3", number(steady)])
        records.append({"table": title, "fit": kind, "cold": cold, "warm": warm})
    return table


def settings_table(context, records):
    title = "The usual settings"
    note = (
        "Those of `python -m skminibatch.warmup`, one after the other in one process that meets an empty cache: seconds "
        "of CPU of the first fit in each. To reach: at most 1 in each after the first, and 20 together."
    )
    count = sized(len(warmup.usual_settings()), 1)
    runs = []
    for _ in range(context.repeats):
        with tempfile.TemporaryDirectory() as cache:
            runs.append(in_child(cache, "settings", str(count)))
    table = Table(title, ["setting", "CPU (s)"], note=note)
    table.rows += [[name, Spread.of(run[name] for run in runs)] for name in runs[0]]
    table.rows.append(["together", Spread.of(sum(run.values()) for run in runs)])
    records.append({"table": title, "seconds": runs})
    return table


def run(context):
    records = []
    tables = [import_table(context, records), first_fit_table(context, records), settings_table(context, records)]
    question = "How long does a user wait before anything happens: the import, and the first fit?"
    return Result("Start-up", question, tables, records)


if __name__ == "__main__":
    if sys.argv[1] == "settings":
        measure_settings(int(sys.argv[2]))
    else:
        measure(*sys.argv[1:])
