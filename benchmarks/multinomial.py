"""Ten classes in one pass: against two classes of ours, and against scikit-learn's one-vs-rest."""

import functools

import numpy as np
import problems
from report import Result, Table, thread_counts
from sklearn.linear_model import SGDClassifier
from timing import Call, Epoch, alternate, number

from skminibatch import MiniBatchSGDClassifier

NEEDS_DATA = True
BATCH_SIZES = [64, 256]
MEASURES = {"fit of one pass": lambda fit: Call(lambda: fit(1)), "epoch": Epoch}


def ours(X, y, batch_size, n_jobs, max_iter):
    MiniBatchSGDClassifier(max_iter=max_iter, tol=None, batch_size=batch_size, n_jobs=n_jobs, random_state=0).fit(X, y)


def one_vs_rest(X, y, n_jobs, max_iter):
    SGDClassifier(loss="log_loss", max_iter=max_iter, tol=None, n_jobs=n_jobs, random_state=0).fit(X, y)


def add_row(table, records, repeats, facts, what, numerator, denominator, goal):
    """One row: what the numerator costs in units of the denominator."""
    pairs = alternate(MEASURES[what](numerator), MEASURES[what](denominator), repeats)
    times = [number(pairs.peer_median), number(pairs.ours_median)]
    table.rows.append([*facts.values(), what, *times, pairs.times_faster, goal])
    records.append(
        {"table": table.title, **facts, "what": what, "ratios": pairs.ratios}
        | {"numerator_seconds": pairs.peer, "denominator_seconds": pairs.ours}
    )


def run(context):
    records = []
    binary = Table(
        "Ten classes against two, both ours",
        [
            "dtype",
            "batch",
            "threads",
            "time of",
            "ten classes (s)",
            "two classes (s)",
            "ten / two",
            "to reach",
        ],
        note="The two classes are odd against even digits, on the same X.",
    )
    ovr = Table(
        "SGDClassifier's one-vs-rest against our softmax",
        ["dtype", "batch", "threads", "time of", "SGDClassifier (s)", "ours (s)", "times faster", "to reach"],
        note="With two threads SGDClassifier has n_jobs=2.",
    )
    for dtype in (np.float32, np.float64):
        X, y = problems.load(context.data, "mnist", dtype)
        X /= 255
        y = y.astype(np.int64)
        for n_jobs in thread_counts():
            for batch_size in BATCH_SIZES:
                facts = {"dtype": np.dtype(dtype).name, "batch": batch_size, "threads": n_jobs}
                ten = functools.partial(ours, X, y, batch_size, n_jobs)
                two = functools.partial(ours, X, y % 2, batch_size, n_jobs)
                for what in MEASURES:
                    add_row(binary, records, context.repeats, facts, what, ten, two, "below 3")
            # A pass of one-vs-rest takes seconds, so that it meets one batch size, and a few times only.
            peer, repeats = functools.partial(one_vs_rest, X, y, n_jobs), min(context.repeats, 5)
            add_row(ovr, records, repeats, facts, "fit of one pass", peer, ten, "10")
    question = (
        f"What do ten classes cost? MNIST, {X.shape[0]:,} x {X.shape[1]}, pixels scaled to [0, 1]. "
        "The softmax takes one pass over the data for all classes, one-vs-rest one for each."
    )
    return Result("Ten classes in one pass", question, [binary, ovr], records)
