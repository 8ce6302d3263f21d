"""Ten classes in one pass: against two classes of ours, and against scikit-learn's one-vs-rest."""

import functools

import numpy as np
import problems
from report import Result, Table, thread_counts
from sklearn.linear_model import SGDClassifier
from smoke import sized
from timing import Call, Epoch, alternate, number

from skminibatch import MiniBatchSGDClassifier

NEEDS_DATA = True
DTYPES = sized([np.float32, np.float64], [np.float64])
BATCH_SIZES = sized([64, 256], [64])
MEASURES = {"fit of one pass": lambda fit: Call(lambda: fit(1)), "epoch": Epoch}


def ours(X, y, batch_size, n_jobs, max_iter):
    MiniBatchSGDClassifier(max_iter=max_iter, tol=None, batch_size=batch_size, n_jobs=n_jobs, random_state=0).fit(X, y)


def one_vs_rest(X, y, n_jobs, max_iter):
    SGDClassifier(loss="log_loss", max_iter=max_iter, tol=None, n_jobs=n_jobs, random_state=0).fit(X, y)


def default_fits(table, records, X, y, dtype, repeats):
    """The whole of a default fit of both, each stopping where it stops."""
    makes = {"SGDClassifier(loss='log_loss')": functools.partial(SGDClassifier, loss="log_loss")}
    makes["MiniBatchSGDClassifier()"] = MiniBatchSGDClassifier
    models = {name: [] for name in makes}

    def fit(name):
        models[name].append(makes[name](random_state=len(models[name])).fit(X, y))

    calls = [Call(functools.partial(fit, name)) for name in makes]
    pairs = alternate(*calls, repeats)
    for name, times in zip(makes, (pairs.peer, pairs.ours), strict=True):
        fitted = models[name]
        passes = [int(np.sum(model.n_iter_)) for model in fitted]
        facts = {"dtype": np.dtype(dtype).name, "estimator": name}
        score = float(np.median([model.score(X, y) for model in fitted]))
        ratio = pairs.times_faster if name == "MiniBatchSGDClassifier()" else ""
        table.rows.append(
            [*facts.values(), number(float(np.median(times))), int(np.median(passes)), number(score), ratio]
        )
        records.append({"table": table.title, **facts, "seconds": list(times), "n_iters": passes, "accuracy": score})


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
    whole = Table(
        "Default fits on ten classes",
        ["dtype", "estimator", "fit (s)", "n_iter_", "accuracy on the rows of fit", "times faster"],
        note="For each estimator its own stopping rule; SGDClassifier's n_iter_ is the largest of its ten models.",
    )
    for dtype in DTYPES:
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
            for what in MEASURES:
                add_row(ovr, records, repeats, facts, what, peer, ten, "10")
        if dtype is np.float64:  # minutes
            default_fits(whole, records, X, y, dtype, repeats=2)
    question = (
        f"What do ten classes cost? MNIST, {X.shape[0]:,} x {X.shape[1]}, pixels scaled to [0, 1]. "
        "The softmax takes one pass over the data for all classes, one-vs-rest one for each."
    )
    return Result("Ten classes in one pass", question, [binary, ovr, whole], records)
