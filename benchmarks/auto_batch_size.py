"""The choice of batch_size='auto' against an exhaustive sweep: the time of a fit until it is near the optimum."""

import time
import warnings

import numpy as np
import problems
from report import Result, Table
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from smoke import sized

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.estimators import base
from skminibatch.training.loop import run_part

NEEDS_DATA = True
DATA = {
    "california_housing": MiniBatchSGDRegressor,
    "bike_hour": MiniBatchSGDRegressor,
    "higgs_7500": MiniBatchSGDClassifier,
    "a9a": MiniBatchSGDClassifier,
    "hflights": MiniBatchSGDClassifier,
    "hflights_onehot": MiniBatchSGDClassifier,
    "clickbait": MiniBatchSGDClassifier,
}
NAMES = sized(list(DATA), ["california_housing", "higgs_7500", "a9a"])
SIZES = sized([2**k for k in range(14)], [16, 64])
TARGET = sized(1e-3, 1e-2)
LONGEST = 3.0  # times the best time so far: then a size is given up
MOST_PASSES = sized(60, 3)
PIECE, GROWTH = 4096, 16  # rows between two looks at the objective, which are not timed; later a 16th of those so far
SEEDS = sized(5, 2)
ENOUGH, MOST_ROUNDS = 0.25, sized(9, 2)  # seconds of the fits of the best size and one seed: short ones are repeated


class Reached(Exception):
    """Ends a fit at the target, or where it takes too long."""


def problem(folder, name):
    """(X, y), dense features and targets of regression standardised, and F at the optimum."""
    X, y = problems.load(folder, name)
    X = X if sparse.issparse(X) else problems.scale(X)
    if DATA[name] is MiniBatchSGDRegressor:
        y = problems.encode(y, True)
        return X, y, problems.least_squares_optimum(X, y)
    y = problems.encode(y, False)
    solver = "lbfgs" if sparse.issparse(X) else "newton-cholesky"
    best = LogisticRegression(C=1 / (problems.ALPHA * len(y)), tol=1e-8, max_iter=5000, solver=solver).fit(X, y)
    return X, y, objective(name, best.coef_, best.intercept_, X, y)


def objective(name, coef, intercept, X, y):
    is_regression = DATA[name] is MiniBatchSGDRegressor
    of = problems.regressor_objective if is_regression else problems.classifier_objective
    return of(coef, intercept, X, y)


def seconds_to_target(name, X, y, optimum, batch_size, seed, limit):
    """(the time of a fit until its excess is `TARGET` of that at the start, the size): infinite beyond the limit.

    The loop of the fit is replaced by one that looks at the objective now and then, with the clock stopped.
    """
    outcome = {}

    def train(model, data, params, recipe, state, history, on_epoch):
        outcome["seconds"] = time.perf_counter() - began
        outcome["size"] = int(recipe.sizes.start)
        start = objective(name, *model.predictor(params, None), X, y)
        while True:
            left = data.n_rows
            while left:
                timed = time.perf_counter()
                part = min(left, max(PIECE, int(recipe.sizes.start), state.samples // GROWTH))
                state, n_rows, _ = run_part(model, data, params, recipe, state, left, part)
                outcome["seconds"] += time.perf_counter() - timed
                left -= n_rows
                excess = objective(name, *model.predictor(params, state.coefficients), X, y) - optimum
                if excess <= TARGET * (start - optimum):
                    raise Reached
                if outcome["seconds"] > limit or state.samples > MOST_PASSES * data.n_rows:
                    outcome["seconds"] = np.inf
                    raise Reached
            state = state._replace(epoch=state.epoch + 1)

    kept, base.train = base.train, train
    try:
        estimator = DATA[name](batch_size=batch_size, random_state=seed)
        began = time.perf_counter()
        estimator.fit(X, y)
    except Reached:
        pass
    finally:
        base.train = kept
    return outcome["seconds"], outcome["size"]


def sweep(name, X, y, optimum):
    """Seconds for each size and 'auto' by seed, the settings in a new random order for each, and the sizes chosen."""
    rng, chosen = np.random.default_rng(0), []
    settings = [*[b for b in SIZES if b <= len(y)], "auto"]
    for b in settings:  # compiled, and cached by the machine
        seconds_to_target(name, X, y, optimum, b, 0, 0.0)
    seconds = np.full((len(settings), SEEDS), np.inf)
    best = np.inf
    for seed in range(SEEDS):
        limits = np.where(np.isinf(np.median(seconds[:, : max(seed, 1)], axis=1)) & (seed > 1), 0.0, LONGEST * best)
        # 64 first: it gives a limit to the others
        for i in sorted(rng.permutation(len(settings)), key=lambda i: settings[i] != 64):
            if limits[i] == 0.0 and settings[i] != "auto":
                continue
            limit = np.inf if settings[i] == "auto" or np.isinf(best) else LONGEST * best
            seconds[i, seed], size = seconds_to_target(name, X, y, optimum, settings[i], seed, limit)
            best = min(best, seconds[i, seed])
            if settings[i] == "auto":
                chosen.append(size)
    rounds = [seconds, *(again(name, X, y, optimum, settings, seconds, rng) for _ in range(1, n_rounds(best)))]
    return settings, np.median(rounds, axis=0), chosen


def n_rounds(best):
    """Times that each fit is repeated."""
    return int(np.clip(ENOUGH / best, 1, MOST_ROUNDS))


def again(name, X, y, optimum, settings, before, rng):
    """Seconds of the same fits once more, in a new random order; those that were given up stay so."""
    seconds = np.full_like(before, np.inf)
    for at in rng.permutation(np.flatnonzero(np.isfinite(before))):
        i, seed = np.unravel_index(at, before.shape)
        seconds[i, seed], _ = seconds_to_target(name, X, y, optimum, settings[i], int(seed), np.inf)
    return seconds


def times(seconds, best):
    """A ratio to the best, or that the size was given up."""
    return f"{seconds / best:.2f}" if np.isfinite(seconds) else f"above {LONGEST:g}"


def run(context):
    table = Table(
        "Time of 'auto' / time of the best size",
        [
            "data",
            "rows x features",
            "sizes chosen",
            "best size",
            "its time (ms)",
            "'auto'",
            "64 rows",
            "sizes within 1.25",
        ],
        note=f"Medians over {SEEDS} values of random_state of the time until the excess is {TARGET:g} of that at the start, the "
        f"choice included, each of a short fit the median of up to {MOST_ROUNDS}; the best size is that of the least median. "
        "To reach: 1.25 on at least 5 sets, 2 on all.",
    )
    records = []
    for name in NAMES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X, y, optimum = problem(context.data, name)
            settings, seconds, chosen = sweep(name, X, y, optimum)
        medians = np.median(seconds, axis=1)
        sizes, of_sizes = settings[:-1], medians[:-1]
        best = int(np.argmin(of_sizes))
        print(f"  {name}: best {sizes[best]}, chosen {chosen}, ratio {medians[-1] / of_sizes[best]:.2f}", flush=True)
        near = [b for b, s in zip(sizes, of_sizes, strict=True) if s <= 1.25 * of_sizes[best]]
        table.rows.append([
            name, f"{X.shape[0]:,} x {X.shape[1]:,}", ", ".join(map(str, chosen)), sizes[best],
            f"{1e3 * of_sizes[best]:.3g}", times(medians[-1], of_sizes[best]),
            times(medians[settings.index(64)], of_sizes[best]), f"{near[0]} to {near[-1]}",
        ])  # fmt: skip
        finite = [[s if np.isfinite(s) else None for s in row] for row in seconds]
        records.append({"data": name, "sizes": settings, "seconds": finite, "chosen": chosen})
    question = (
        "How good is the choice of batch_size='auto'? Default estimators, dense features standardised, "
        f"alpha = {problems.ALPHA:g}, every size from {SIZES[0]} to {SIZES[-1]} beside it."
    )
    return Result("The choice of batch_size='auto'", question, [table], records)
