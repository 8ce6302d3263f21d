"""The choice of batch_size='auto' against an exhaustive sweep: the time of a fit, and of a pilot's choice to a target."""

import time
import warnings
from functools import partial

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
    "two_halves": MiniBatchSGDClassifier,
    "ill_conditioned": MiniBatchSGDRegressor,
    "few_relevant": MiniBatchSGDRegressor,
    "logistic": MiniBatchSGDClassifier,
    "several_classes": MiniBatchSGDClassifier,
    "bag_of_words": MiniBatchSGDClassifier,
}
GENERATED = {
    "two_halves": problems.two_halves,
    "ill_conditioned": problems.ill_conditioned,
    "few_relevant": problems.few_relevant,
    "logistic": partial(problems.logistic_data, sized(60_000, 400)),
    "several_classes": problems.several_classes,
    "bag_of_words": partial(problems.bag_of_words, sized(20_000, 400), sized(20_000, 400), 40, 2),
}
# The rule for open solvers was chosen on these, and is reported on all.
CHOSEN_ON = ["california_housing", "bike_hour", "higgs_7500", "two_halves", "ill_conditioned", "few_relevant"]
NAMES = sized(list(DATA), ["california_housing", "two_halves", "a9a"])
SIZES = sized([2**k for k in range(2, 13)], [16, 64])
SEEDS = sized(5, 2)
NEAR = 1.25
TARGET = sized(1e-3, 1e-2)
LONGEST = 3.0  # times the best time so far: then a size is given up
MOST_PASSES = sized(60, 3)
PIECE, GROWTH = 4096, 16  # rows between two looks at the objective, which are not timed; later a 16th of those so far
SOLVER = "schedule_free"  # of the runs to a target, whose size comes from a pilot


class Reached(Exception):
    """Ends a fit at the target, or where it takes too long."""


def problem(folder, name):
    """(X, y), dense features and targets of regression standardised, and F at the optimum."""
    X, y = GENERATED[name]()[:2] if name in GENERATED else problems.load(folder, name)
    X = X if sparse.issparse(X) else problems.scale(X)
    if DATA[name] is MiniBatchSGDRegressor:
        y = problems.encode(y, True)
        return X, y, problems.least_squares_optimum(X, y)
    y = problems.encode(y, False)
    solver = "lbfgs" if sparse.issparse(X) or y.max() > 1 else "newton-cholesky"
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

    def training(model, data, params, recipe, state, history, on_epoch):
        outcome["seconds"] = time.process_time() - began
        outcome["size"] = int(recipe.sizes.start)
        start = objective(name, *model.predictor(params, None), X, y)
        while True:
            left = data.n_rows
            while left:
                timed = time.process_time()
                part = min(left, max(PIECE, int(recipe.sizes.start), state.samples // GROWTH))
                state, n_rows, _ = yield from run_part(model, data, params, recipe, state, left, part)
                outcome["seconds"] += time.process_time() - timed
                left -= n_rows
                excess = objective(name, *model.predictor(params, state.coefficients), X, y) - optimum
                if excess <= TARGET * (start - optimum):
                    raise Reached
                if outcome["seconds"] > limit or state.samples > MOST_PASSES * data.n_rows:
                    outcome["seconds"] = np.inf
                    raise Reached
            state = state._replace(epoch=state.epoch + 1)

    kept, base.training = base.training, training
    try:
        estimator = DATA[name](solver=SOLVER, batch_size=batch_size, random_state=seed)
        began = time.process_time()
        estimator.fit(X, y)
    except Reached:
        pass
    finally:
        base.training = kept
    return outcome["seconds"], outcome["size"]


def sweep(settings, once):
    """Seconds of ``once(setting, seed, limit)`` for each setting by seed, in a new random order for each seed.

    The first setting is run first of all, since it gives a limit to the others.
    """
    rng = np.random.default_rng(0)
    for setting in settings:  # compiled, and cached by the machine
        once(setting, 0, 0.0)
    seconds, best = np.full((len(settings), SEEDS), np.inf), np.inf
    for seed in range(SEEDS):
        given_up = np.isinf(seconds[:, :seed]).sum(axis=1) > 1
        for i in sorted(rng.permutation(len(settings)), key=lambda i: settings[i] != 64):
            if given_up[i] and settings[i] != "auto":
                continue
            seconds[i, seed] = once(settings[i], seed, np.inf if settings[i] == "auto" else LONGEST * best)
            best = min(best, seconds[i, seed])
    return seconds


def fits(name, X, y):
    """Seconds of whole default fits by setting and seed, and the sizes that 'auto' took."""
    chosen = []

    def once(setting, seed, limit):
        estimator = DATA[name](batch_size=setting, random_state=seed)
        began = time.process_time()
        estimator.fit(X, y)
        seconds = time.process_time() - began
        if setting == "auto" and limit:
            chosen.append(estimator.batch_size_)
        return seconds

    return sweep(settings_of(y), once), chosen


def runs(name, X, y, optimum):
    """Seconds to the target by setting and seed, and the sizes that 'auto' took."""
    chosen = []

    def once(setting, seed, limit):
        seconds, size = seconds_to_target(name, X, y, optimum, setting, seed, limit)
        if setting == "auto" and limit:
            chosen.append(size)
        return seconds

    return sweep(settings_of(y), once), chosen


def settings_of(y):
    return [64, *[b for b in SIZES if b <= len(y) and b != 64], "auto"]


def ratio(seconds, best):
    """A ratio to the best, or that the size was given up."""
    return f"{seconds / best:.2f}" if np.isfinite(seconds) else f"above {LONGEST:g}"


def add(table, name, X, y, seconds, chosen):
    """A row of a table; the ratio of 'auto'."""
    settings, medians = settings_of(y), np.median(seconds, axis=1)
    sizes, of_sizes = settings[:-1], medians[:-1]
    best = int(np.argmin(of_sizes))
    near = sorted(b for b, s in zip(sizes, of_sizes, strict=True) if s <= NEAR * of_sizes[best])
    table.rows.append([
        f"{name}{'*' if name in CHOSEN_ON and table.title.startswith('Fits') else ''}", f"{X.shape[0]:,} x {X.shape[1]:,}",
        ", ".join(map(str, dict.fromkeys(chosen))), sizes[best], f"{1e3 * of_sizes[best]:.3g}",
        ratio(medians[-1], of_sizes[best]), ratio(medians[0], of_sizes[best]), ", ".join(map(str, near)),
    ])  # fmt: skip
    print("   ", *table.rows[-1], flush=True)
    return medians[-1] / of_sizes[best]


def tables():
    """The two tables, without rows."""
    columns = ["data", "rows x features", "sizes chosen", "best size", "its time (ms)", "'auto'", "64 rows"]
    columns.append(f"sizes within {NEAR:g}")
    note = f"Medians over {SEEDS} values of random_state of the processor time of one thread; the best size has the least median."
    whole = Table(
        "Fits: time of 'auto' / time of the best size",
        columns,
        note=f"{note} Whole fits with all defaults, by their own stopping. *: sets on which the rule was chosen.",
    )
    pilot = Table(
        f"Runs to a target with solver={SOLVER!r}: time of 'auto' / time of the best size",
        columns,
        note=f"{note} The time until the excess is {TARGET:g} of that at the start, the choice by a pilot included.",
    )
    return whole, pilot


def run(context):
    whole, pilot = tables()
    records, of_whole, of_pilot = [], [], []
    for name in NAMES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X, y, optimum = problem(context.data, name)
            of_fits, chosen = fits(name, X, y)
            of_whole.append(add(whole, name, X, y, of_fits, chosen))
            of_runs, chosen = runs(name, X, y, optimum)
            of_pilot.append(add(pilot, name, X, y, of_runs, chosen))
        finite = [[[s if np.isfinite(s) else None for s in row] for row in found] for found in (of_fits, of_runs)]
        records.append({"data": name, "settings": settings_of(y), "fits": finite[0], "runs": finite[1]})
    for table, ratios in ((whole, of_whole), (pilot, of_pilot)):
        near = sum(found <= NEAR for found in ratios)
        table.note += f" Within {NEAR:g} on {near} of {len(ratios)} sets; worst {max(ratios):.3g}."
    question = (
        "How good is the choice of batch_size='auto'? Dense features standardised, "
        f"alpha = {problems.ALPHA:g}, every size from {SIZES[0]} to {SIZES[-1]} in comparison."
    )
    return Result("The choice of batch_size='auto'", question, [whole, pilot], records)
