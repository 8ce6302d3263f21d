"""Peak memory of one fit beyond the data, each in a process of its own."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from report import Result, Table
from smoke import sized
from timing import Spread

NEEDS_DATA = False
SHAPE = sized((200_000, 100), (2_000, 5))
DTYPES = sized(["float32", "float64"], ["float64"])
ESTIMATORS = {
    "MiniBatchSGDClassifier()": ("skminibatch", "MiniBatchSGDClassifier", {}),
    "MiniBatchSGDRegressor()": ("skminibatch", "MiniBatchSGDRegressor", {}),
    "MiniBatchSGDClassifier(n_jobs=2)": ("skminibatch", "MiniBatchSGDClassifier", {"n_jobs": 2}),
    "MiniBatchSGDClassifier(solver='saga')": ("skminibatch", "MiniBatchSGDClassifier", {"solver": "saga"}),
    "SGDClassifier(loss='log_loss')": ("sklearn.linear_model", "SGDClassifier", {"loss": "log_loss"}),
    "LogisticRegression()": ("sklearn.linear_model", "LogisticRegression", {}),
}


def reset_peak():
    """Forget the peak so far, where the system can (Linux); elsewhere the peak before is the start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_bytes():
    """Highest resident size since `reset_peak`.

    On Linux ru_maxrss would not do: it cannot be reset, and a child inherits it from its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measure(estimator, dtype):
    """In the child: a fit on small data, then the data, then the fit that counts. Prints bytes."""
    import importlib

    module, name, parameters = ESTIMATORS[estimator]
    make = getattr(importlib.import_module(module), name)
    rng = np.random.default_rng(0)
    small = rng.standard_normal((1_000, SHAPE[1]), dtype=dtype)
    target = (small[:, 0] > 0).astype(np.int64)
    make(**parameters).fit(small, target)  # compiles the kernels, starts the threads
    X = rng.standard_normal(SHAPE, dtype=dtype)
    y = (X[:, 0] + rng.standard_normal(SHAPE[0], dtype=dtype) > 0).astype(np.int64)
    model = make(**parameters)
    reset_peak()
    before = peak_bytes()
    model.fit(X, y)
    print(json.dumps({"beyond_bytes": peak_bytes() - before, "data_bytes": X.nbytes}))


def in_child(estimator, dtype):
    command = [sys.executable, __file__, estimator, dtype]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def run(context):
    table = Table(
        "Peak beyond the data",
        ["estimator", "dtype", "X (MB)", "beyond it (MB)", "per cent of X", "to reach"],
        note="Resident memory; y, kernels and libraries are there before the fit that is measured. SAGA stores n x (K + 1) "
        "numbers, see the user guide: no goal is set for it.",
    )
    records = []
    for estimator in sized(list(ESTIMATORS), list(ESTIMATORS)[-1:]):
        for dtype in DTYPES:
            in_child(estimator, dtype)  # fills the cache of compiled kernels, whose compilation takes memory
            runs = [in_child(estimator, dtype) for _ in range(context.repeats)]
            data = runs[0]["data_bytes"]
            beyond = [run["beyond_bytes"] for run in runs]
            share = Spread.of(100 * b / data for b in beyond)
            goal = "below 10" if estimator.startswith("MiniBatch") and "saga" not in estimator else ""
            megabytes = f"{np.median(beyond) / 1e6:.1f}"
            table.rows.append([estimator, dtype, f"{data / 1e6:.0f}", megabytes, share, goal])
            records.append({"estimator": estimator, "dtype": dtype, "data_bytes": data, "beyond_bytes": beyond})
    question = (
        f"Is the caller's X copied? Peak memory of one fit on {SHAPE[0]:,} x {SHAPE[1]} in a fresh process, "
        "beyond what was there when it started."
    )
    return Result("Memory", question, [table], records)


if __name__ == "__main__":
    measure(*sys.argv[1:])
