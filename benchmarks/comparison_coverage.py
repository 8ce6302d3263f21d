"""Whether intervals of differences between candidates contain the true difference, on many samples of a known distribution."""

import numpy as np
from report import Result, Table
from sklearn.model_selection import KFold
from smoke import sized

from skminibatch import MiniBatchSGDClassifier
from skminibatch.model_selection.comparison import differences_from

NEEDS_DATA = False
DRAWS, N_NEW, N_TRUE = sized(500, 3), sized(50_000, 500), sized(200, 2)
FIXED = {"solver": "sgd", "learning_rate": "constant", "eta0": 0.1, "max_iter": 1, "tol": None}
# two candidates each: what they share, and what tells them apart
PAIRS = {
    "batches of 4 and 64 rows, one epoch": (FIXED, {"batch_size": 4}, {"batch_size": 64}),
    "batches of 1 and 16 rows, ten epochs": (FIXED | {"max_iter": 10}, {"batch_size": 1}, {"batch_size": 16}),
    "alpha of 1e-3 and 1, to the optimum": ({}, {"alpha": 1e-3}, {"alpha": 1.0}),
}
CASES = [(200, 10, 5), (1000, 10, 5), (200, 10, 10), (100, 30, 5)]  # rows, features, folds


def sample(rng, n_rows, n_features):
    X = rng.standard_normal((n_rows, n_features))
    raw = X @ np.linspace(1.0, 0.1, n_features) * (2.0 / np.sqrt(n_features))
    return X, (raw + rng.logistic(size=n_rows) > 0).astype(int)


def fitted(common, own, seed, X, y):
    return MiniBatchSGDClassifier(**common, **own, random_state=seed).fit(X, y)


def coverage(pair, n_rows, n_features, n_folds):
    """The shares of the samples whose interval has the true difference, for each correction."""
    common, *candidates = pair
    new = sample(np.random.default_rng(1), N_NEW, n_features)
    n_train, true = n_rows - n_rows // n_folds, []
    for draw in range(N_TRUE):
        X, y = sample(np.random.default_rng([2, draw]), n_train, n_features)
        first, second = (fitted(common, own, draw, X, y).score(*new) for own in candidates)
        true.append(second - first)
    truth, test_share = float(np.mean(true)), 1.0 / (n_folds - 1)
    corrections = {"none": 0.0, "half": 0.5 * test_share, "Nadeau and Bengio": test_share}
    contained = dict.fromkeys(corrections, 0)
    for draw in range(DRAWS):
        X, y = sample(np.random.default_rng([3, draw]), n_rows, n_features)
        scores = np.empty((2, n_folds))
        for fold, (train, test) in enumerate(KFold(n_folds).split(X)):
            for number, own in enumerate(candidates):
                model = fitted(common, own, draw, X[train], y[train])
                scores[number, fold] = model.score(X[test], y[test])
        for name, share in corrections.items():
            found = differences_from(scores, 0, share)
            contained[name] += bool(found.low[1] <= truth <= found.high[1])
    return truth, {name: count / DRAWS for name, count in contained.items()}


def run(context):
    table = Table(
        "Intervals of 95 %", ["candidates", "rows", "features", "folds", "true difference", "no correction", "half of it",
                              "Nadeau and Bengio"],
        note=f"The share of {DRAWS} samples in which the interval of the difference of accuracies contains the true one, the "
        f"mean over {N_TRUE} training sets on {N_NEW:,} new rows. To reach: 0.93 to 0.97. `BatchSizeSearchCV` takes the last "
        "column.",
    )  # fmt: skip
    records = []
    for name, pair in PAIRS.items():
        for n_rows, n_features, n_folds in CASES[: sized(None, 1)]:
            truth, found = coverage(pair, n_rows, n_features, n_folds)
            table.rows.append(
                [name, n_rows, n_features, n_folds, f"{truth:+.4f}", *(f"{x:.3f}" for x in found.values())]
            )
            records.append({"case": [name, n_rows, n_features, n_folds], "true": truth, **found})
    return Result(
        "Differences between candidates", "Do intervals of differences contain the true difference?", [table], records
    )
