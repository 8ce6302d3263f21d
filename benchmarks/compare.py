"""Time this tree against another one: `python benchmarks/compare.py PATH [--cases NAME ...] [--repeats 15]`.

PATH is the root of another checkout of this repository, for example of the last release (`git worktree add PATH TAG`). Each
tree runs in a process of its own; every case is timed in turn, in an order that alternates. Prints one line per case: the
time of this tree over that of the other one, as the median over the pairs and its quartiles.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHORT = {"tol": None, "random_state": 0}


def cases():
    """For each case, a callable of the number of epochs; None stands for one call as it is."""
    import numpy as np
    from problems import logistic_data
    from scipy import sparse
    from sklearn.datasets import load_breast_cancer, load_digits, load_iris
    from smoke import sized

    from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier, MiniBatchSGDRegressor

    X, y = logistic_data(sized(50_000, 6_000), 100)
    X32, few, y_few = X.astype(np.float32), X[:5_000], y[:5_000]
    S = sparse.random(sized(20_000, 200), 5_000, 0.01, format="csr", random_state=0)
    classes = np.arange(len(y)) % 7

    def fit(kind, X, y, epochs=None, **parameters):
        parameters = {**SHORT, **parameters} if epochs is None else {**SHORT, **parameters, "max_iter": epochs}
        return kind(**parameters).fit(X, y)

    def stream(kind, X, y, rows, calls, **parameters):
        model = kind(random_state=0, **parameters)
        for call in range(calls):
            some_rows = slice(call * rows, (call + 1) * rows)
            model.partial_fit(X[some_rows], y[some_rows], classes=np.unique(y))

    linear, network = MiniBatchSGDClassifier, MiniBatchMLPClassifier
    default = {"tol": 1e-3}
    epochs = {
        f"epoch dense {name} batch {size}": partial(fit, linear, rows, y, batch_size=size)
        for name, rows in {"float64": X, "float32": X32}.items()
        for size in (1, 64, 256, 4096)
    }
    epochs |= {
        "epoch dense adam": partial(fit, linear, X, y, solver="adam"),
        "epoch dense seven classes": partial(fit, linear, X, classes),
        "epoch dense saga": partial(fit, MiniBatchSGDRegressor, X, X[:, 0], solver="saga"),
        "epoch dense importance": partial(fit, linear, X, y, sampler="importance"),
        "epoch csr batch 1": partial(fit, linear, S, y[: S.shape[0]], batch_size=1),
        "epoch csr batch 64": partial(fit, linear, S, y[: S.shape[0]]),
        "epoch csr adam": partial(fit, linear, S, y[: S.shape[0]], solver="adam"),
        "epoch network": partial(fit, network, few, y_few, batch_size=32),
        "epoch network batch normalization": partial(fit, network, few, y_few, batch_size=32, normalization="batch"),
        "epoch of iris": partial(fit, linear, *load_iris(return_X_y=True), max_iter=60),
    }
    calls = {
        f"default fit {data.__name__[5:]}": partial(fit, linear, *data(return_X_y=True), **default)
        for data in (load_iris, load_breast_cancer, load_digits)
    }
    calls |= {
        "partial_fit of one row": partial(stream, linear, X, y, 1, 100),
        "partial_fit of 100 rows": partial(stream, linear, X, y, 100, 100),
        "partial_fit of 100 rows, network": partial(stream, network, X, y, 100, 50),
    }
    return {name: (call, True) for name, call in epochs.items()} | {name: (call, False) for name, call in calls.items()}


def worker():
    """Answer each line, the name of a case, by its seconds."""
    import warnings

    from timing import Call, Epoch

    warnings.simplefilter("ignore")
    known, measures = cases(), {}
    print(json.dumps(list(known)), flush=True)
    for line in sys.stdin:
        name = line.strip()
        if name not in measures:
            call, has_epochs = known[name]
            measures[name] = Epoch(call, 0.15, 60) if has_epochs else Call(call)
        print(measures[name](), flush=True)


class Tree:
    """A process that runs the cases with one tree of the package."""

    def __init__(self, root):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(ROOT / "benchmarks")])}
        command = [sys.executable, __file__, "--worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=environment, text=True, cwd=root, **pipes)
        self.names = json.loads(self._process.stdout.readline())

    def seconds(self, name):
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?", help="root of the other checkout")
    parser.add_argument("--cases", nargs="+", help="those whose names contain one of these words")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker()
    if options.path is None:
        parser.error("the root of another checkout is required")
    from timing import alternate

    this, other = Tree(ROOT), Tree(options.path.resolve())
    print("time of this tree / time of the other one, median (quartiles)")
    for name in this.names:
        if options.cases and not any(word in name for word in options.cases):
            continue
        for tree in (this, other):
            tree.seconds(name)  # compiles
        pairs = alternate(partial(this.seconds, name), partial(other.seconds, name), options.repeats)
        print(f"{name:40} {pairs.times_faster}   this {1e3 * pairs.peer_median:.3g} ms", flush=True)


if __name__ == "__main__":
    main()
