"""Random data of smoke runs, with the names and kinds of the data sets of the benchmarks, and their interface."""

import zlib

import numpy as np
from scipy import sparse

TASKS = {
    "california_housing": "regression",
    "blog_feedback": "regression",
    "bike_hour": "regression",
    "higgs_7500": "binary",
    "hflights": "binary",
    "mnist": "multiclass",
    "a9a": "binary",
    "hflights_onehot": "binary",
    "clickbait": "binary",
}
SPARSE = ["a9a", "hflights_onehot", "clickbait"]
NAMES = list(TASKS)
N_ROWS, N_FEATURES, N_CLASSES = 160, 8, 3


def load(name):
    """A dict of X, y, task, split and y_reg."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    X = rng.standard_normal((N_ROWS, N_FEATURES)).astype(np.float32)
    y_reg = X[:, 0] + 0.5 * rng.standard_normal(N_ROWS)
    if name == "mnist":
        X = rng.integers(0, 256, X.shape).astype(np.uint8)
    if name in SPARSE:
        X = sparse.csr_matrix(np.where(rng.random(X.shape) < 0.3, X, 0))
    binary = (y_reg + 0.5 * rng.standard_normal(N_ROWS) > 0).astype(int)
    y = {"regression": y_reg, "binary": binary, "multiclass": np.arange(N_ROWS) % N_CLASSES}[TASKS[name]]
    return {"X": X, "y": y, "y_reg": y_reg, "task": TASKS[name], "split": np.arange(N_ROWS) % 4 == 0}
