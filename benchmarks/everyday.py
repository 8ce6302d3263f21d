"""Everyday sizes: small data sets, a few rows per call of partial_fit, and streams of text."""

import functools
import itertools
import warnings

import cells
import numpy as np
import problems
from report import Result, Table
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import gen_batches
from smoke import sized
from timing import Call, alternate, milliseconds, seconds

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor

NEEDS_DATA = True
SMALL = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer, "digits": load_digits}
SMALL |= {"diabetes": load_diabetes}
SMALL = sized(SMALL, {"iris": load_iris})
COLUMNS = sized(1 << 20, 1 << 8)
CHUNK = 100
TEXT = sized({"clickbait": 1 << 40, "hflights_onehot": 60_000, "a9a": 1 << 40}, {})  # rows, of evenly spaced ones

sgd = functools.partial(SGDClassifier, loss="log_loss")
PAIRS = {
    ("linear", "classification"): (sgd, MiniBatchSGDClassifier),
    ("linear", "regression"): (SGDRegressor, MiniBatchSGDRegressor),
    ("network", "classification"): (MLPClassifier, MiniBatchMLPClassifier),
    ("network", "regression"): (MLPRegressor, MiniBatchMLPRegressor),
}


class Fits:
    """Seconds of a default fit, a new random_state each time."""

    def __init__(self, make, X, y):
        self._make, self._X, self._y, self._seeds = make, X, y, itertools.count()
        self()  # compiles

    def __call__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return seconds(lambda: self._make(random_state=next(self._seeds)).fit(self._X, self._y))


def small_fits(context, records):
    columns = ["data", "model", "rows x features", "scikit-learn (ms)", "ours (ms)", "times faster"]
    table = Table("Default fits on small data", columns, note="Standardised features. To reach: 1, and 2 for networks.")
    for (name, load), kind in itertools.product(SMALL.items(), ["linear", "network"]):
        X, y = load(return_X_y=True)
        X, task = problems.scale(X), "regression" if name == "diabetes" else "classification"
        if task == "regression":
            y = problems.encode(y, True)
        repeats = min(context.repeats, 3) if kind == "network" else context.repeats
        pairs = alternate(*(Fits(make, X, y) for make in PAIRS[kind, task]), repeats)
        times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median), pairs.times_faster]
        table.rows.append([name, kind, f"{X.shape[0]:,} x {X.shape[1]}", *times])
        records.append(pairs.record(table=table.title, data=name, model=kind))
    return table


def rows_of_stream(n_rows):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 20))
    return X, (X[:, 0] + rng.standard_normal(n_rows) > 0).astype(int)


def hashed_rows(n_rows, n_columns=COLUMNS, entries=30):
    rng = np.random.default_rng(0)
    columns = rng.integers(0, n_columns, n_rows * entries)
    X = sparse.csr_matrix(
        (np.ones(columns.size), (np.repeat(np.arange(n_rows), entries), columns)), (n_rows, n_columns)
    )
    X.sum_duplicates()
    return X, rng.integers(0, 2, n_rows)


def calls(context, records):
    columns = ["rows", "model", "scikit-learn (ms)", "ours (ms)", "times faster"]
    table = Table(
        "A call of partial_fit",
        columns,
        note=f"20 dense features, or {COLUMNS:,} sparse ones of which a row has 30. To reach: 1, and 2 for networks.",
    )
    cases = [(f"{n}, dense", kind, rows_of_stream(n)) for n in (1, 10, 100) for kind in ("linear", "network")]
    cases.append(("100, sparse", "linear", hashed_rows(100)))
    for what, kind, (X, y) in cases:
        timed = []
        for make in PAIRS[kind, "classification"]:
            model = make(random_state=0)
            model.partial_fit(X, y, classes=[0, 1])
            timed.append(Call(functools.partial(model.partial_fit, X, y), sized(20, 2)))
        pairs = alternate(*timed, context.repeats)
        times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median), pairs.times_faster]
        table.rows.append([what, kind, *times])
        records.append(pairs.record(table=table.title, rows=what, model=kind))
    return table


def progressive(model, X, y):
    """The share of rows that are predicted before they are learnt from, and seconds of partial_fit."""
    right, total, classes = 0, 0.0, np.unique(y)
    for rows in gen_batches(len(y), CHUNK):
        if rows.start:
            right += int(np.sum(model.predict(X[rows]) == y[rows]))
        total += seconds(lambda rows=rows: model.partial_fit(X[rows], y[rows], classes=classes))
    return right / (len(y) - CHUNK), total


def text_streams(context, records):
    columns = [
        "data",
        "penalty",
        "rows x features",
        "SGDClassifier",
        "ours",
        "SGDClassifier (ms)",
        "ours (ms)",
        "times faster",
    ]
    table = Table(
        "Streams of sparse rows",
        columns,
        note=f"The rows in random order, {CHUNK} per call. The share of rows that are predicted right before they are learnt "
        "from, and the time of a call. To reach: not below, and two thirds.",
    )
    for (name, n_rows), penalty in itertools.product(TEXT.items(), ["l2", "l1"]):
        X, y, _, _ = cells.of_data(name, False, n_rows, context.data)
        order = np.random.default_rng(0).permutation(len(y))
        X, y = sparse.csr_matrix(X)[order], y[order]
        makes, shares = [functools.partial(make, penalty=penalty) for make in (sgd, MiniBatchSGDClassifier)], ([], [])

        def timed(which, X=X, y=y, makes=makes, shares=shares):
            share, total = progressive(makes[which](random_state=len(shares[which])), X, y)
            shares[which].append(share)
            return total / -(-len(y) // CHUNK)

        timed(1)  # compiles
        shares[1].clear()
        pairs = alternate(*(functools.partial(timed, which) for which in (0, 1)), min(context.repeats, 3))
        times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median), pairs.times_faster]
        found = [f"{np.median(each):.4f}" for each in shares]
        table.rows.append([name, penalty, f"{X.shape[0]:,} x {X.shape[1]:,}", *found, *times])
        records.append(pairs.record(table=table.title, data=name, penalty=penalty, shares=shares))
    return table


def run(context):
    records = []
    tables = [small_fits(context, records), calls(context, records), text_streams(context, records)]
    question = (
        "How long do everyday calls take? Ours and scikit-learn's estimators with their defaults (SGDClassifier with "
        "loss='log_loss'), in turn. Compilation is not timed."
    )
    return Result("Everyday sizes", question, tables, records)
