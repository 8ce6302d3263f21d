"""The whole of a default fit against every solver that reaches the same objective."""

import functools
import itertools

import numpy as np
import peers
import problems
from report import Result, Table, thread_counts
from sklearn.linear_model import LogisticRegression, SGDClassifier
from smoke import sized
from timing import Spread, alternate, milliseconds, number, seconds

from skminibatch import MiniBatchSGDClassifier

NEEDS_DATA = True
GOAL = sized(1e-3, 0.9)
DTYPES = sized([np.float64, np.float32], [np.float64])


def relative_excess(X, y):
    """(F(w) - F*) / (F(0) - F*) of a model; F* by Newton steps in float64 to 1e-12."""
    exact = LogisticRegression(C=1 / (len(y) * problems.ALPHA), solver="newton-cholesky", tol=1e-12, max_iter=100).fit(
        X, y
    )
    best = problems.classifier_objective(*peers.coefficients(exact), X, y)
    start = problems.classifier_objective(np.zeros(X.shape[1]), 0.0, X, y)

    def excess(model):
        return (problems.classifier_objective(*peers.coefficients(model), X, y) - best) / (start - best)

    return excess


class DefaultFit:
    """Seconds of fit with the defaults, a new random_state each time; keeps what the models reached."""

    def __init__(self, make, X, y, excess):
        self._make, self._X, self._y, self._measure = make, X, y, excess
        self._seeds = itertools.count()
        self.excesses, self.n_iters = [], []
        self()  # compiles
        self.excesses.clear(), self.n_iters.clear()

    def __call__(self):
        model = self._make(random_state=next(self._seeds))
        time = seconds(lambda: model.fit(self._X, self._y))
        self.excesses.append(self._measure(model))
        self.n_iters.append(int(np.max(model.n_iter_)))
        return time


def peer_rows(context, records, table, Z, y, excess, kind):
    """A row for each peer and way to stop it, at the cheapest setting that reaches the goal."""
    fastest = {}
    own = DefaultFit(MiniBatchSGDClassifier, Z, y, excess)
    found = [
        (solver, how, setting)
        for solver in peers.logistic_solvers(thread_counts())
        for how, setting in peers.cheapest(solver, Z, y, excess, GOAL).items()
    ]
    for solver, how, setting in found:
        if setting is None:
            table.rows.append([kind, solver.family, solver.name, f"{how}: none reaches it", "", "", "", ""])
            continue
        reached = excess(solver.fit(Z, y, *setting))
        fit = functools.partial(solver.fit, Z, y, *setting)
        pairs = alternate(lambda fit=fit: seconds(fit), own, context.repeats)
        what = peers.described(setting)
        times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)]
        names = [kind, solver.family, solver.name, what]
        table.rows.append([*names, f"{reached:.1e}", *times, pairs.times_faster])
        facts = {"dtype": kind, "family": solver.family, "solver": solver.name, "setting": what}
        records.append(pairs.record(table=table.title, **facts, excess=reached))
        best = fastest.get((solver.family, how))
        if best is None or pairs.peer_median < best[1].peer_median:
            fastest[solver.family, how] = (solver.name, pairs)
    return own, fastest


def sgd_excess(Z, y, excess, repeats):
    """What SGDClassifier's own defaults reach, and when: context, not a peer (it stops where it stops)."""
    fit = DefaultFit(functools.partial(SGDClassifier, loss="log_loss"), Z, y, excess)
    times = [fit() for _ in range(min(repeats, 3))]
    return times, fit


def run(context):
    X, y = problems.load(context.data, "hflights")
    X, y = problems.scale(X), y.astype(np.int64)
    excess = relative_excess(X, y)
    records = []
    summary = Table(
        "The fastest of each family",
        ["dtype", "family", "stopped by", "solver", "times faster", "to reach"],
    )
    reached = Table(
        "What the defaults reach",
        ["dtype", "estimator", "fit (ms)", "relative excess: median (quartiles)", "largest", "epochs"],
        note="Every fit has another random_state.",
    )
    columns = ["dtype", "family", "solver", "setting", "excess", "fit (ms)", "ours (ms)", "times faster"]
    every = Table("Every solver", columns, note="'Times faster' is the time of its fit over that of our default fit.")
    for dtype in DTYPES:
        Z, kind = X.astype(dtype), np.dtype(dtype).name
        own, fastest = peer_rows(context, records, every, Z, y, excess, kind)
        for (family, how), (solver, pairs) in fastest.items():
            goal = "4" if family == "scikit-learn" else "above 1"
            summary.rows.append([kind, family, how, solver, pairs.times_faster, goal])
        sgd_times, sgd = sgd_excess(Z, y, excess, context.repeats)
        own_times = [own() for _ in range(context.repeats)]
        for name, times, fit in [
            ("MiniBatchSGDClassifier()", own_times, own),
            ("SGDClassifier(loss='log_loss')", sgd_times, sgd),
        ]:
            spread, largest = Spread.of(fit.excesses), f"{max(fit.excesses):.1e}"
            values = f"{spread.median:.1e} ({spread.low:.1e} to {spread.high:.1e})"
            epochs = f"{min(fit.n_iters)} to {max(fit.n_iters)}"
            reached.rows.append([kind, name, number(1e3 * Spread.of(times).median), values, largest, epochs])
            records.append(
                {"table": reached.title, "dtype": kind, "estimator": name, "seconds": times}
                | {"excesses": fit.excesses, "n_iters": fit.n_iters}
            )
    question = (
        f"How long until a model is within {GOAL:g} of the best objective, relative to the start? "
        f"hflights, {X.shape[0]:,} x {X.shape[1]}, standardised; F(w) = mean log-loss + "
        f"{problems.ALPHA:g}/2 |w|^2, the intercept not penalised. Ours is fit() with all defaults, its "
        "validation, its estimate of the step and its stopping rule included. Each peer runs at "
        "the loosest tol that reaches it, and once more at the smallest max_iter that does (the earliest "
        "stop that knowing the optimum could give); the search for them is not timed."
    )
    return Result(
        "The defaults against solvers tuned to the same objective",
        question,
        [summary, reached, every],
        records,
    )
