"""Searches by cross-validation: candidates in lockstep against `GridSearchCV`, and that each is what it is by itself."""

import warnings

import numpy as np
import problems
from report import Result, Table
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, KFold
from smoke import sized
from timing import Spread, number, seconds

from skminibatch import MiniBatchSGDClassifier
from skminibatch.model_selection import BatchSizeSearchCV

NEEDS_DATA = True
N_ROWS, N_FEATURES = sized(200_000, 3_000), sized(100, 8)
SIZES = [16, 32, 64, 128, 256, 512]
EPOCHS, FOLDS, JOBS = 5, 5, 2
SOLVERS = {
    "defaults": {},
    "sgd, constant rate": {"solver": "sgd", "learning_rate": "constant", "eta0": 0.01},
}
TOLERANCE = 1e-10


def in_turn(calls, repeats):
    """Seconds of each call, one after another, again and again."""
    for call in calls.values():
        call()  # compiles, starts workers
    times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return times


def ratio(times, numerator, denominator):
    return Spread.of(np.array(times[numerator]) / np.array(times[denominator]))


def largest_difference(settings, X, y):
    """Of the coefficients of all candidates of a fold from those of fits by themselves; raises where it is too large."""
    from skminibatch.estimators.shared import SharedRows
    from skminibatch.training.lockstep import together

    train, _ = next(KFold(FOLDS).split(X))
    candidates = [MiniBatchSGDClassifier(batch_size=b, **settings) for b in SIZES]
    shared = SharedRows(candidates[0], X, y, rows=train)
    together([shared.training(candidate) for candidate in candidates])
    alone = [MiniBatchSGDClassifier(batch_size=b, **settings).fit(X[train], y[train]) for b in SIZES]
    worst = max(np.abs(a.coef_ - b.coef_).max() for a, b in zip(candidates, alone, strict=True))
    if not worst <= TOLERANCE:
        raise AssertionError(f"a candidate in lockstep is not what it is by itself: {worst:.1e}")
    return worst


def dense_row(name, settings, repeats):
    X, y = problems.logistic_data(N_ROWS, N_FEATURES)
    settings = {**settings, "random_state": 0, "max_iter": EPOCHS, "tol": None}
    ours, one = MiniBatchSGDClassifier(**settings), MiniBatchSGDClassifier(batch_size=64, **settings)
    peer = SGDClassifier(loss="log_loss", max_iter=EPOCHS, tol=None, random_state=0)
    folds, options = KFold(FOLDS), {"n_jobs": JOBS, "refit": False}
    worst = largest_difference(settings, X, y)
    searches = {
        "ours": BatchSizeSearchCV(ours, SIZES, cv=folds, **options),
        "grid": GridSearchCV(ours, {"batch_size": SIZES}, cv=folds, **options),
        "peer": GridSearchCV(peer, {"alpha": 1e-4 * np.arange(1, len(SIZES) + 1)}, cv=folds, **options),
    }
    calls = {key: lambda search=search: search.fit(X, y) for key, search in searches.items()}
    times = in_turn({**calls, "one": lambda: one.fit(X, y)}, repeats)
    scores = [searches[key].cv_results_["mean_test_score"] for key in ("ours", "grid")]
    differ = float(np.abs(scores[0] - scores[1]).max())
    cells = [
        name, number(np.median(times["ours"])), ratio(times, "peer", "ours"), ratio(times, "grid", "ours"),
        ratio(times, "ours", "one"), f"{worst:.0e}", f"{differ:.0e}",
    ]  # fmt: skip
    return cells, {"case": name, "seconds": times, "coefficients_differ": worst, "scores_differ": differ}


def sparse_row(data, repeats):
    """alpha and eta0 on a grid of sparse rows."""
    X, y = data
    count = sized(10, 2)
    grid = {"alpha": np.logspace(-6, -2, count), "eta0": np.logspace(-3, 0, count)}
    ours = MiniBatchSGDClassifier(
        solver="sgd", learning_rate="constant", random_state=0, max_iter=EPOCHS, tol=None, eta0=0.1
    )
    peer = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.1, max_iter=EPOCHS, tol=None, random_state=0)
    options = {"cv": FOLDS, "n_jobs": JOBS, "refit": False, "scoring": "accuracy"}
    searches = {
        "ours": BatchSizeSearchCV(ours, [64], param_grid=grid, **options),
        "peer": GridSearchCV(peer, grid, **options),
    }
    calls = {key: lambda search=search: search.fit(X, y) for key, search in searches.items()}
    times = in_turn(calls, repeats)
    best = [float(searches[key].cv_results_["mean_test_score"].max()) for key in ("ours", "peer")]
    cells = [number(np.median(times["ours"])), ratio(times, "peer", "ours"), *(f"{score:.4f}" for score in best)]
    return cells, {"case": "a9a", "seconds": times, "best": best}


def run(context):
    repeats = max(1, context.repeats // 3)
    dense = Table(
        f"{len(SIZES)} batch sizes, {FOLDS} folds, {N_ROWS:,} x {N_FEATURES}, {EPOCHS} epochs",
        [
            "solver", "BatchSizeSearchCV (s)", "times faster than GridSearchCV over SGDClassifier",
            "times faster than GridSearchCV over the same estimator", "in times of one fit to all rows",
            "coefficients differ by", "scores differ by",
        ],
        note=f"`n_jobs={JOBS}` for all searches, `refit=False`. To reach: 15, 4 and 8. The last two columns are the largest "
        f"differences of candidates in lockstep from fits by themselves, {TOLERANCE:.0e} at most, and of scores from those of "
        "`GridSearchCV`.",
    )  # fmt: skip
    records = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, settings in SOLVERS.items():
            cells, record = dense_row(name, settings, repeats)
            dense.rows.append(cells)
            records.append(record)
        sparse = Table(
            f"alpha and eta0 on a grid of {sized(10, 2) ** 2} on a9a, {FOLDS} folds, {EPOCHS} epochs",
            [
                "BatchSizeSearchCV (s)",
                "times faster than GridSearchCV over SGDClassifier",
                "best score",
                "that of SGDClassifier",
            ],
            note=f"Accuracy, `n_jobs={JOBS}` for both. To reach: 20.",
        )
        cells, record = sparse_row(problems.load(context.data, "a9a"), repeats)
    sparse.rows.append(cells)
    return Result(
        "Searches for a batch size", "How much sooner is a search whose candidates are trained together?", [dense, sparse],
        [*records, record],
    )  # fmt: skip
