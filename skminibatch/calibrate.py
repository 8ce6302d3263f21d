"""Measure what a step costs on this machine: ``python -m skminibatch.calibrate costs.json``.

The file serves ``batch_size=AutoSize(costs="costs.json")``. Each number is the median over repeats of the time of an epoch
over its steps, the settings taken in turn, in a new random order in each repeat.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from skminibatch.linear_model import MiniBatchSGDRegressor
from skminibatch.neural_network import MiniBatchMLPRegressor

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
ROW_LENGTHS = {"dense": (4, 16, 64, 256, 1024), "csr": (4, 16, 64, 256), "mlp": (15**2, 31**2, 63**2, 127**2, 255**2)}
NUMBERS = 1 << 22  # in the data of a row length: more than the caches of a core hold
MOST_ROWS = 1 << 17


def rows(kind: str, row_length: int, rng: np.random.Generator):
    """Random rows, each number of a sparse row in a column of its own, ten times as many as it stores."""
    if kind == "mlp":  # the time to fetch a row is nothing beside that of a step
        return rng.standard_normal((max(BATCH_SIZES), width(row_length)))
    n_rows = max(max(BATCH_SIZES), min(NUMBERS // row_length, MOST_ROWS))
    X = rng.standard_normal((n_rows, row_length))
    if kind == "dense":
        return X
    columns = rng.integers(10, size=X.shape) + 10 * np.arange(row_length)
    return sparse.csr_matrix(
        (X.ravel(), columns.ravel(), np.arange(n_rows + 1) * row_length), (n_rows, 10 * row_length)
    )


def width(n_parameters: int) -> int:
    """Inputs and hidden units of a network of ``width^2 + 2 width + 1`` parameters, one of them for an output."""
    return round(n_parameters**0.5) - 1


def seconds_of_a_step(kind: str, X, y, batch_size: int, epochs: int = 2) -> float:
    """The time of an epoch over its steps, without the first epoch."""
    settings: dict[str, Any] = {"batch_size": batch_size, "max_iter": 1 + epochs, "tol": None, "random_state": 0}
    model: MiniBatchMLPRegressor | MiniBatchSGDRegressor
    if kind == "mlp":
        model = MiniBatchMLPRegressor(hidden_layer_sizes=(X.shape[1],), **settings)
    else:
        model = MiniBatchSGDRegressor(**settings)
    history = model.fit(X, y).history_
    return float((history["seconds"][-1] - history["seconds"][0]) / (history["updates"][-1] - history["updates"][0]))


def measure(kind: str, repeats: int, say=print) -> dict:
    """The table of a kind of rows, as it is stored."""
    rng = np.random.default_rng(0)
    table = np.empty((len(ROW_LENGTHS[kind]), len(BATCH_SIZES), repeats))
    for i, row_length in enumerate(ROW_LENGTHS[kind]):
        X = rows(kind, row_length, rng)
        y = rng.standard_normal(X.shape[0])
        seconds_of_a_step(kind, X, y, 64)  # compiles
        for repeat in range(repeats):
            for j in rng.permutation(len(BATCH_SIZES)):
                table[i, j, repeat] = seconds_of_a_step(kind, X, y, BATCH_SIZES[j])
        nanoseconds = 1e9 * np.median(table[i, -1]) / BATCH_SIZES[-1]
        unit = "parameters" if kind == "mlp" else "numbers a row"
        say(f"{kind}, {row_length} {unit}: {nanoseconds:.0f} ns a row in the largest batches")
    seconds = np.maximum.accumulate(np.median(table, axis=2), axis=1)  # a larger batch is not sooner done
    return {
        "batch_sizes": list(BATCH_SIZES),
        "row_lengths": list(ROW_LENGTHS[kind]),
        "seconds": [[float(f"{s:.3g}") for s in row] for row in seconds],
    }


def main(arguments=None):
    """Measure, and write the file that is named on the command line; what it has of other kinds of rows stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the file to write")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement (default: 5)")
    parser.add_argument(
        "--kinds", nargs="+", choices=ROW_LENGTHS, default=list(ROW_LENGTHS), help="of rows (default: all)"
    )
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    tables = json.loads(given.output.read_text()) if given.output.exists() else {}
    tables |= {kind: measure(kind, given.repeats) for kind in given.kinds}
    given.output.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
