"""An epoch on dense data against scikit-learn's SGDClassifier, one matrix product, and PyTorch."""

import functools

import numpy as np
import peers
import problems
from report import Result, Table, thread_counts
from sklearn.linear_model import SGDClassifier
from smoke import sized
from threadpoolctl import threadpool_limits
from timing import Call, Epoch, alternate, milliseconds

from skminibatch import MiniBatchSGDClassifier

NEEDS_DATA = False
DTYPES = sized([np.float64, np.float32], [np.float64])
VARIANTS = {
    "defaults": {},
    "solver='sgd', learning_rate='optimal'": {"solver": "sgd", "learning_rate": "optimal"},
}
GOALS = {("float64", 1): 3.3, ("float32", 1): 5.5, ("float64", 2): 5.0, ("float32", 2): 8.0}
BATCH_SIZE = 256
COLUMNS = ["dtype", "ours", "threads", "epoch, ours (ms)", "epoch, peer (ms)", "times faster", "to reach"]


def sgd_classifier(X, y, max_iter):
    SGDClassifier(loss="log_loss", max_iter=max_iter, tol=None, random_state=0).fit(X, y)


def ours(X, y, parameters, max_iter):
    MiniBatchSGDClassifier(loss="log_loss", max_iter=max_iter, tol=None, random_state=0, **parameters).fit(X, y)


def against_sklearn(context, records, batch_size, thread_choices, goal):
    """A table: each variant of ours against SGDClassifier."""
    title = f"Batch {batch_size} against SGDClassifier(loss='log_loss')"
    table = Table(title, COLUMNS)
    for dtype in DTYPES:
        X, y = problems.logistic_data(dtype=dtype)
        peer = Epoch(functools.partial(sgd_classifier, X, y))
        for name, variant in VARIANTS.items():
            for n_jobs in thread_choices:
                parameters = {"batch_size": batch_size, "n_jobs": n_jobs, **variant}
                pairs = alternate(peer, Epoch(functools.partial(ours, X, y, parameters)), context.repeats)
                kind = np.dtype(dtype).name
                times = [milliseconds(pairs.ours_median), milliseconds(pairs.peer_median)]
                table.rows.append([kind, name, n_jobs, *times, pairs.times_faster, goal(kind, n_jobs)])
                records.append(pairs.record(table=title, dtype=kind, variant=name, n_jobs=n_jobs))
    return table


def against_matrix_product(context, records):
    """A table: sampler='blocks' against one X @ w, with as many BLAS threads or with all of them."""
    title = "sampler='blocks' against one X @ w"
    note = "The last column is epoch / product; 'threads' are those of our kernel, then those of BLAS."
    columns = ["dtype", "threads", "epoch (ms)", "X @ w (ms)", "epoch / product", "to reach"]
    table = Table(title, columns, note=note)
    for dtype in DTYPES:
        X, y = problems.logistic_data(dtype=dtype)
        w = np.ones(X.shape[1], dtype=dtype)
        for n_jobs in thread_counts():
            parameters = {"batch_size": BATCH_SIZE, "sampler": "blocks", "n_jobs": n_jobs}
            epoch = Epoch(functools.partial(ours, X, y, parameters))
            for n_blas in [n for n in thread_counts() if n >= n_jobs]:
                with threadpool_limits(n_blas, user_api="blas"):
                    # `ours` is the product here, so that the ratio reads epoch / product.
                    pairs = alternate(epoch, Call(lambda X=X, w=w: X @ w, 20), context.repeats)
                kind = np.dtype(dtype).name
                times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)]
                threads = f"{n_jobs} / {n_blas}"
                table.rows.append([kind, threads, *times, pairs.times_faster, "at most 2"])
                records.append(
                    {"table": title, "dtype": kind, "n_jobs": n_jobs, "blas_threads": n_blas}
                    | {"epoch_seconds": pairs.peer, "product_seconds": pairs.ours, "ratios": pairs.ratios}
                )
    return table


def against_torch(context, records):
    """A table: the same epoch written by hand in PyTorch, the data a tensor in memory."""
    title = f"PyTorch, batch {BATCH_SIZE}"
    note = (
        "PyTorch: a linear layer, binary_cross_entropy_with_logits, autograd, optim.SGD with weight_decay; "
        "a batch is gathered from a tensor in memory by a random permutation, without a DataLoader."
    )
    table = Table(title, COLUMNS[:-1], note=note)
    if not peers.available("torch"):
        table.note = "PyTorch is not installed in this environment."
        return table
    for dtype in DTYPES:
        X, y = problems.logistic_data(dtype=dtype)
        for n_jobs in thread_counts():
            peer = Epoch(peers.torch_logistic(X, y, BATCH_SIZE, problems.ALPHA, n_jobs))
            parameters = {"batch_size": BATCH_SIZE, "n_jobs": n_jobs}
            pairs = alternate(peer, Epoch(functools.partial(ours, X, y, parameters)), context.repeats)
            kind = np.dtype(dtype).name
            times = [milliseconds(pairs.ours_median), milliseconds(pairs.peer_median)]
            table.rows.append([kind, "defaults", n_jobs, *times, pairs.times_faster])
            records.append(pairs.record(table=title, dtype=kind, n_jobs=n_jobs))
    return table


def run(context):
    records = []
    tables = [
        against_sklearn(context, records, BATCH_SIZE, thread_counts(), lambda kind, n: GOALS[kind, n]),
        against_sklearn(context, records, 1, [1], lambda kind, n: 2.0),
        against_matrix_product(context, records),
        against_torch(context, records),
    ]
    question = (
        "How long is one pass over 200,000 x 100 standard normal features with a logistic label? "
        "The time of an epoch is that of k + 1 epochs minus that of 1, over k; rows are drawn by a uniform "
        "shuffle unless said otherwise. SGDClassifier uses one thread for two classes."
    )
    return Result("An epoch on dense data", question, tables, records)
