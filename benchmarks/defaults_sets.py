"""The whole of a default fit on every data set: dense ones against the fastest solver of scikit-learn, and text."""

import functools

import cells
import numpy as np
import optima
import peers
import problems
from defaults_hflights import DefaultFit
from optimum import CACHE
from report import Result, Table
from scipy import sparse
from scipy.stats import gmean
from sklearn.linear_model import SGDClassifier
from smoke import sized
from timing import Spread, alternate, milliseconds, number, seconds

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor

NEEDS_DATA = True
GOAL = sized(1e-3, 0.9)
SEARCH_SECONDS = sized(10, 0.1)  # of each search: a solver that needs longer is not the fastest
DENSE = {"hflights": 1 << 40, "higgs_7500": 1 << 40, "mnist": 7_000}  # rows, of evenly spaced ones
DENSE |= dict.fromkeys(["california_housing", "bike_hour", "blog_feedback"], 1 << 40)
DENSE = sized(DENSE, {"bike_hour": 200})
TEXT = {
    "clickbait": functools.partial(cells.of_data, "clickbait", False, 1 << 40),
    "hflights_onehot": functools.partial(cells.of_data, "hflights_onehot", False, 1 << 40),
    "a9a": functools.partial(cells.of_data, "a9a", False, 1 << 40),
    **{f"bag of words, {k} classes": lambda folder, k=k: cells.text(7_000, 40_000, 156, k)() for k in (2, 20, 77, 151)},
}
TEXT = sized(TEXT, {"bag of words, 2 classes": lambda folder: cells.text(60, 50, 5, 2)()})


class Problem:
    """Rows, targets, and how far a model is above the optimum, relative to the best constant."""

    def __init__(self, X, y, is_regression):
        self.X, self.y, self.is_regression = X, y, is_regression
        self._cell = cells.Cell("sets", "", "squared_error" if is_regression else "log_loss")
        self._best = cells.reference(self._cell, X, y, None, CACHE)

    def excess(self, model):
        coef, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        facts = {"loss": self._cell.loss, "alpha": problems.ALPHA, **self._cell.options}
        return self._best.excess(optima.objective(coef, intercept, self.X, self.y, **facts))

    def own(self):
        make = MiniBatchSGDRegressor if self.is_regression else MiniBatchSGDClassifier
        return self.timed(make)

    def timed(self, make):
        return DefaultFit(make, self.X, self.y, self.excess)

    def solvers(self):
        if self.is_regression:
            return peers.ridge_solvers()
        n_classes = len(np.unique(self.y))
        return [each for each in peers.logistic_solvers([]) if n_classes == 2 or "liblinear" not in each.name]


def worst(fit):
    """The largest excess of the fits, in words, and the range of their epochs."""
    low, high = min(fit.n_iters), max(fit.n_iters)
    return f"{max(fit.excesses):.0e}", f"{low}" if low == high else f"{low} to {high}"


def fastest(problem, goal):
    """(solver, setting, seconds) of the solver of scikit-learn that is the first to reach the goal."""
    found = []
    for solver in problem.solvers():
        if solver.family != "scikit-learn":
            continue
        for setting in peers.cheapest(solver, problem.X, problem.y, problem.excess, goal, SEARCH_SECONDS).values():
            if setting is not None:
                fit = functools.partial(solver.fit, problem.X, problem.y, *setting)
                found.append((Spread.of([seconds(fit) for _ in range(3)]).median, solver, setting))
    time, solver, setting = min(found, key=lambda each: each[0])
    return solver, setting, time


def dense_sets(context, records):
    columns = ["data", "rows x features", "fastest of scikit-learn", "fit (ms)", "ours (ms)", "times faster"]
    table = Table(
        f"Dense sets, to {GOAL:g}",
        [*columns, "excess of ours", "epochs"],
        note="Standardised features and targets. The largest excess of all fits. Solvers of Ridge and LogisticRegression at "
        "the loosest tol, or the smallest max_iter, that reaches the goal, whichever is the fastest.",
    )
    ratios = {}
    for name, n_rows in DENSE.items():
        X, y, task, _ = cells.of_data(name, True, n_rows, context.data)
        problem = Problem(X, y, task == "regression")
        solver, setting, _ = fastest(problem, GOAL)
        fit, own = functools.partial(solver.fit, X, y, *setting), problem.own()
        pairs = alternate(lambda fit=fit: seconds(fit), own, context.repeats)
        ratios.setdefault(task, []).append(float(np.median(pairs.ratios)))
        times = [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median), pairs.times_faster]
        shape = f"{X.shape[0]:,} x {X.shape[1]}"
        table.rows.append([name, shape, f"{solver.name}, {peers.described(setting)}", *times, *worst(own)])
        print(*table.rows[-1], flush=True)
        facts = {"data": name, "solver": solver.name, "setting": setting, "excesses": own.excesses}
        records.append(pairs.record(table=table.title, **facts))
    means = ", ".join(f"{number(gmean(each))} ({task})" for task, each in ratios.items())
    every = [ratio for each in ratios.values() for ratio in each]
    table.note += f" Geometric mean of the medians: {number(gmean(every))} (to reach: 8), {means}."
    return table


def text_sets(context, records):
    sgd = Table(
        "Text, against SGDClassifier",
        [
            "data",
            "rows x features",
            "classes",
            "SGDClassifier (ms)",
            "ours (ms)",
            "times faster",
            "excess of ours",
            "epochs",
        ],
        note="SGDClassifier(loss='log_loss') with its defaults, which fits one class against the rest. To reach: 1.",
    )
    liblinear = Table(
        "Text with two classes, against liblinear",
        ["data", "setting", "excess", "liblinear (ms)", "ours (ms)", "times faster"],
        note=f"liblinear at the loosest tol, or the smallest max_iter, with which it is within {GOAL:g} of the optimum; the "
        "faster of the two. To reach: a third.",
    )
    for name, make in TEXT.items():
        X, y, _, _ = make(context.data)
        X, n_classes = sparse.csr_matrix(X), len(np.unique(y))
        problem = Problem(X, y, False)
        own, peer = problem.own(), problem.timed(functools.partial(SGDClassifier, loss="log_loss"))
        pairs = alternate(peer, own, context.repeats)
        shape, times = (
            f"{X.shape[0]:,} x {X.shape[1]:,}",
            [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)],
        )
        sgd.rows.append([name, shape, n_classes, *times, pairs.times_faster, *worst(own)])
        print(*sgd.rows[-1], flush=True)
        records.append(pairs.record(table=sgd.title, data=name, excesses=own.excesses))
        if n_classes > 2:
            continue
        solver = peers.sklearn_solver("liblinear")
        settings = peers.cheapest(solver, X, y, problem.excess, GOAL, SEARCH_SECONDS).values()
        fits = [(setting, functools.partial(solver.fit, X, y, *setting)) for setting in settings if setting]
        if not fits:
            liblinear.rows.append([name, "none reaches it", "", "", "", ""])
            continue
        setting, fit = min(fits, key=lambda each: seconds(each[1]))
        pairs = alternate(lambda fit=fit: seconds(fit), own, context.repeats)
        reached, times = problem.excess(fit()), [milliseconds(pairs.peer_median), milliseconds(pairs.ours_median)]
        liblinear.rows.append(
            [name, f"{solver.name}, {peers.described(setting)}", f"{reached:.0e}", *times, pairs.times_faster]
        )
        records.append(pairs.record(table=liblinear.title, data=name, excess=reached))
    return [sgd, liblinear]


def run(context):
    records = []
    tables = [dense_sets(context, records), *text_sets(context, records)]
    question = (
        f"How long does a whole fit with all defaults take, and how near the optimum does it end? The excess is (F - F*) / (F of "
        f"the best constant - F*), alpha = {problems.ALPHA:g}; F* is found with second-order methods that share no code with "
        "the package. Compilation is not timed."
    )
    return Result("The defaults on every data set", question, tables, records)
