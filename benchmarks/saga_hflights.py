"""SAGA to a millionth of the start's excess, against every solver that gets there."""

import functools

import numpy as np
import peers
import problems
from defaults_hflights import DefaultFit, relative_excess
from report import Result, Table, thread_counts
from smoke import sized
from timing import alternate, milliseconds, seconds

from skminibatch import MiniBatchSGDClassifier

NEEDS_DATA = True
GOAL = sized(1e-6, 0.5)
EPOCHS = sized(12, 3)
SEEDS = range(sized(20, 2))
DTYPES = sized([np.float64, np.float32], [np.float64])
TOLERANCES = [1e-3, 1e-4, 1e-5]
CURVES = [
    {"solver": "saga"},
    {"solver": "saga", "batch_size": 128},
    {"solver": "saga", "batch_size": 256},
    {"solver": "saga", "sampler": "blocks"},
    {"solver": "schedule_free"},
]


def saga(random_state, **parameters):
    return MiniBatchSGDClassifier(solver="saga", random_state=random_state, **parameters)


def own_settings(X, y, excess):
    """The loosest tol, and the fewest epochs, with which every seed reaches the goal: {how: (what, parameters)}."""
    found = {}
    for how, settings in {
        "loosest tol": [{"tol": tol} for tol in TOLERANCES],
        "smallest max_iter": [{"tol": None, "max_iter": k} for k in range(2, EPOCHS + 1)],
    }.items():
        for parameters in settings:
            if all(excess(saga(seed, **parameters).fit(X, y)) <= GOAL for seed in SEEDS):
                found[how] = parameters
                break
    return found


def against_peers(context, records, table, Z, y, excess, kind):
    """A row for each peer that reaches the goal, against ours stopped the same way."""
    ours = {
        how: DefaultFit(functools.partial(saga, **parameters), Z, y, excess)
        for how, parameters in own_settings(Z, y, excess).items()
    }
    for solver in peers.logistic_solvers(thread_counts()):
        for how, setting in peers.cheapest(solver, Z, y, excess, GOAL).items():
            if setting is None or how not in ours:
                table.rows.append([kind, how, solver.family, solver.name, "does not reach it", "", "", ""])
                continue
            fit = functools.partial(solver.fit, Z, y, *setting)
            pairs = alternate(lambda fit=fit: seconds(fit), ours[how], context.repeats)
            what = peers.described(setting)
            times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)]
            table.rows.append([kind, how, solver.family, solver.name, what, *times, pairs.times_faster])
            facts = {"dtype": kind, "stop": how, "family": solver.family, "solver": solver.name, "setting": what}
            records.append(pairs.record(table=table.title, **facts))
    return ours


def by_epoch(Z, y, excess, random_state=0, **parameters):
    """The relative excess after each of the first epochs."""
    settings = {"tol": None, "random_state": random_state, **parameters}
    return [excess(MiniBatchSGDClassifier(max_iter=k, **settings).fit(Z, y)) for k in range(1, EPOCHS + 1)]


def run(context):
    X, y = problems.load(context.data, "hflights")
    X, y = problems.scale(X), y.astype(np.int64)
    excess = relative_excess(X, y)
    records = []
    columns = ["dtype", "stopped by", "family", "solver", "setting", "fit (ms)", "ours (ms)", "times faster"]
    every = Table(
        "Time to the goal",
        columns,
        note="To reach: twice the fastest. 'Times faster' is the time of its fit over that of ours.",
    )
    reached = Table("What ours reaches", ["dtype", "stopped by", "setting", "largest excess", "epochs"])
    epochs = Table("Relative excess by epoch", ["dtype", "settings", *(str(k) for k in range(1, EPOCHS + 1))])
    for dtype in DTYPES:
        Z, kind = X.astype(dtype), np.dtype(dtype).name
        ours = against_peers(context, records, every, Z, y, excess, kind)
        for how, fit in ours.items():
            what = ", ".join(f"{name}={value}" for name, value in fit._make.keywords.items())
            spread = f"{min(fit.n_iters)} to {max(fit.n_iters)}"
            reached.rows.append([kind, how, what, f"{max(fit.excesses):.1e}", spread])
        for settings in CURVES:
            curve = by_epoch(Z, y, excess, **settings)
            what = ", ".join(f"{name}={value!r}" for name, value in settings.items())
            epochs.rows.append([kind, what, *(f"{value:.0e}" for value in curve)])
            records.append({"table": epochs.title, "dtype": kind, "settings": settings, "excesses": curve})
    question = (
        f"How long until a model is within {GOAL:g} of the best objective, relative to the start? hflights, "
        f"{X.shape[0]:,} x {X.shape[1]}, standardised; F(w) = mean log-loss + {problems.ALPHA:g}/2 |w|^2, the intercept not "
        "penalised. Ours is MiniBatchSGDClassifier(solver='saga') with its defaults and the loosest tol, or the smallest "
        f"max_iter, with which each of {len(SEEDS)} seeds reaches the goal; every timed fit has another random_state. Each "
        "peer runs at the loosest tol that reaches it, and once more at the smallest max_iter that does; the searches are not "
        "timed."
    )
    return Result("SAGA to a millionth of the start's excess", question, [every, reached, epochs], records)
