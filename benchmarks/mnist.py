"""MNIST: ten epochs of a multilayer perceptron with its defaults, beside scikit-learn's."""

import functools
import warnings

import numpy as np
import problems
from report import Result, Table
from sklearn.neural_network import MLPClassifier
from smoke import sized
from timing import number, seconds

from skminibatch import MiniBatchMLPClassifier

NEEDS_DATA = True
HIDDEN, EPOCHS, SEEDS = sized(((256, 128), 10, range(3)), ((5, 4), 1, range(1)))
TO_REACH = 0.978


def rows(context):
    """(X, y) of training and of testing, by the official split; pixels from zero to one."""
    mnist = problems.loader(context.data).load("mnist")
    X, y = (mnist["X"] / 255).astype(np.float32), mnist["y"]
    names, counts = np.unique(mnist["split"], return_counts=True)
    testing = mnist["split"] == names[np.argmin(counts)]
    return (X[~testing], y[~testing]), (X[testing], y[testing])


def estimators():
    """By name, each made from a seed."""
    return {
        "MiniBatchMLPClassifier": functools.partial(
            MiniBatchMLPClassifier, hidden_layer_sizes=HIDDEN, max_iter=EPOCHS, tol=None
        ),
        "MiniBatchMLPClassifier(normalization='batch')": functools.partial(
            MiniBatchMLPClassifier, hidden_layer_sizes=HIDDEN, max_iter=EPOCHS, tol=None, normalization="batch"
        ),
        "MLPClassifier": functools.partial(
            MLPClassifier, HIDDEN, max_iter=EPOCHS, tol=0, n_iter_no_change=EPOCHS + 1, batch_size=200
        ),
    }


def run(context):
    training, testing = rows(context)
    title = "784-256-128-10, ten epochs, defaults"
    note = (
        "Accuracy on the official test rows, of each seed. Both have batches of 200 rows and Adam at a rate of 0.001."
    )
    table = Table(title, ["estimator", "accuracy", "mean", "fit (s)", "to reach"], note=note)
    records, found = [], {name: ([], []) for name in estimators()}
    for seed in SEEDS:
        for name, make in estimators().items():
            model = make(random_state=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ten epochs are what is asked for
                took = seconds(functools.partial(model.fit, *training))
            for where, what in zip(found[name], (float(model.score(*testing)), took), strict=True):
                where.append(what)
    for name, (scores, times) in found.items():
        goal = f"at least {TO_REACH}" if name == "MiniBatchMLPClassifier" else ""
        each = ", ".join(f"{score:.4f}" for score in scores)
        table.rows.append([name, each, f"{np.mean(scores):.4f}", number(float(np.median(times))), goal])
        records.append({"estimator": name, "scores": scores, "seconds": times})
    return Result("MNIST", "How good is a network after ten epochs with the defaults?", [table], records)
