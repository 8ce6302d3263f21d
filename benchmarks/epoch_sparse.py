"""An epoch on CSR data against SGDClassifier, and what empty columns and more non-zeros cost."""

import functools

import numpy as np
import problems
from epoch_dense import BATCH_SIZE, COLUMNS, VARIANTS, ours, sgd_classifier
from report import Result, Table, thread_counts
from scipy import sparse
from smoke import sized
from timing import Epoch, alternate, milliseconds

NEEDS_DATA = True
DTYPES = sized([np.float64, np.float32], [np.float64])


def with_empty_columns(X):
    """Twice as many features, the new ones empty."""
    return sparse.csr_matrix((X.data, X.indices, X.indptr), shape=(X.shape[0], 2 * X.shape[1]))


def with_more_entries(X):
    """Twice as many non-zeros and features: [X, X]."""
    return sparse.hstack([X, X], format="csr")


def against_sklearn(context, records, X, y):
    title = "Batch 256 against SGDClassifier(loss='log_loss')"
    table = Table(title, COLUMNS)
    for dtype in DTYPES:
        Z = X.astype(dtype)
        peer = Epoch(functools.partial(sgd_classifier, Z, y))
        for name, variant in VARIANTS.items():
            for n_jobs in thread_counts():
                parameters = {"batch_size": BATCH_SIZE, "n_jobs": n_jobs, **variant}
                pairs = alternate(peer, Epoch(functools.partial(ours, Z, y, parameters)), context.repeats)
                times = [milliseconds(pairs.ours_median), milliseconds(pairs.peer_median)]
                kind = np.dtype(dtype).name
                table.rows.append([kind, name, n_jobs, *times, pairs.times_faster, 3.0])
                records.append(pairs.record(table=title, dtype=kind, variant=name, n_jobs=n_jobs))
    return table


def against_itself(context, records, X, y):
    """What becomes of the time of an epoch when X grows."""
    title = "What a larger X costs"
    columns = ["X", "ours", "epoch (ms)", "of the original (ms)", "epoch / original", "to reach"]
    table = Table(title, columns)
    changes = [
        ("n_features doubled by empty columns", with_empty_columns(X), "1"),
        ("non-zeros doubled, [X, X]", with_more_entries(X), "at most about 2"),
    ]
    for name, variant in VARIANTS.items():
        parameters = {"batch_size": BATCH_SIZE, "n_jobs": 1, **variant}
        original = Epoch(functools.partial(ours, X, y, parameters))
        for change, Z, goal in changes:
            # The larger X stands in the place of the peer, so that the ratio reads larger / original.
            pairs = alternate(Epoch(functools.partial(ours, Z, y, parameters)), original, context.repeats)
            times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)]
            table.rows.append([change, name, *times, pairs.times_faster, goal])
            records.append(
                {"table": title, "change": change, "variant": name, "ratios": pairs.ratios}
                | {"larger_seconds": pairs.peer, "original_seconds": pairs.ours}
            )
    return table


def run(context):
    X, y = problems.load(context.data, "hflights_onehot")
    records = []
    tables = [against_sklearn(context, records, X, y), against_itself(context, records, X, y)]
    question = (
        f"How long is one pass over a one-hot encoding of {X.shape[0]:,} flights with {X.shape[1]:,} columns "
        f"and {X.nnz / X.shape[0]:.0f} non-zeros a row (CSR), and does the time follow the non-zeros alone? "
        "The time of an epoch is that of k + 1 epochs minus that of 1, over k."
    )
    return Result("An epoch on sparse data", question, tables, records)
