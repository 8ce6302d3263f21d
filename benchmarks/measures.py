"""What a user sees of an optimum that was missed: recall, means of counts, coverage, recovery, coefficients of zero."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import problems
from cells import QUANTILES, Cell, reference
from optima import REGRESSORS
from report import Table
from sklearn.utils import gen_batches
from smoke import sized

CHUNK = 100
RATIOS = sized([10, 100, 1000, 2000], [10])
GOAL = 0.9  # accuracy


@dataclass(frozen=True)
class Context:
    """What the command line of `optimum.py` says of the context that `run.py` gives."""

    data: Path


def streamed(cell, X, y, weights=None, see=None, **settings):
    """A model after one pass in chunks; `see` is called with it and the number of rows after each chunk."""
    model = cell.model(random_state=0, **settings)
    first = {} if cell.loss in REGRESSORS else {"classes": np.unique(y)}
    for rows in gen_batches(len(y), CHUNK):
        model.partial_fit(X[rows], y[rows], sample_weight=None if weights is None else weights[rows], **first)
        first = {}
        if see is not None:
            see(model, rows.stop)
    return model


def recall(context, cache):
    """Recall of the rare class under weights with which both classes weigh the same."""
    table = Table("Recall of one positive in k", ["k", "batch", "optimum", "fit", "one pass in chunks"])
    records = []
    for ratio in RATIOS:
        for batch_size in sized([1, 64], [64]):
            cell = Cell("recall", f"balanced 1:{ratio}", "log_loss", batch_size=batch_size)
            X, y, weights = cell.data(context.data)
            best = reference(cell, X, y, weights, cache)
            positive = X[y == 1]
            values = {
                "optimum": float(np.mean(positive @ best.coef[0] + best.intercept[0] > 0)),
                "fit": float(cell.model(random_state=0, class_weight="balanced").fit(X, y).predict(positive).mean()),
                "chunks": float(streamed(cell, X, y, weights).predict(positive).mean()),
            }
            table.rows.append([ratio, batch_size, *(f"{value:.3f}" for value in values.values())])
            records.append({"table": table.title, "ratio": ratio, "batch": batch_size, **values})
    return table, records


def counts(context, cache):
    """The mean of what is predicted over that of the counts; with an intercept it is 1 at the optimum."""
    table = Table("Mean of predicted counts over the mean of counts", ["problem", "batch", "fit", "one pass in chunks"])
    records = []
    for name in ["rare_counts", "rare_counts zeros first", "poisson_counts"]:
        for batch_size in sized([1, 64], [64]):
            cell = Cell("counts", name, "poisson", batch_size=batch_size)
            X, y, _ = cell.data(context.data)
            models = {"fit": cell.model(random_state=0).fit(X, y), "chunks": streamed(cell, X, y)}
            values = {how: float(model.predict(X).mean() / y.mean()) for how, model in models.items()}
            table.rows.append([name, batch_size, *(f"{value:.3f}" for value in values.values())])
            records.append({"table": table.title, "problem": name, "batch": batch_size, **values})
    return table, records


def coverage(context, cache):
    """The share of the targets below the prediction, which is the quantile at the optimum."""
    quantiles = sized(QUANTILES, [0.5])
    table = Table("Share of targets below the quantile", ["noise", "call", "batch", *(f"{q:g}" for q in quantiles)])
    records = []
    for noise in sized(["normal", "lognormal"], ["normal"]):
        for how in ["fit", "chunks"]:
            for batch_size in sized([1, 64], [64]):
                shares = []
                for q in quantiles:
                    cell = Cell("coverage", f"quantile_noise {noise}", "quantile", batch_size=batch_size, quantile=q)
                    X, y, _ = cell.data(context.data)
                    model = cell.model(random_state=0).fit(X, y) if how == "fit" else streamed(cell, X, y)
                    shares.append(float(np.mean(y <= model.predict(X))))
                table.rows.append([noise, how, batch_size, *(f"{share:.3f}" for share in shares)])
                facts = {"noise": noise, "call": how, "batch": batch_size, "quantiles": quantiles, "shares": shares}
                records.append({"table": table.title, **facts})
    return table, records


def recovery(context, cache):
    """Rows until the accuracy on rows to come reaches the goal, from the start and from a flip of the labels."""
    columns = ["loss", "batch", "rows from the start", "rows from the flip", "accuracy at the end"]
    table = Table(f"Rows until an accuracy of {GOAL:g}", columns)
    X, y, _, _ = problems.flip()
    half, n_test = len(y) // 2, len(y) // 10
    n_rows = len(y) - n_test
    records = []
    for loss in sized(["log_loss", "hinge"], ["log_loss"]):
        for batch_size in sized([1, 64], [64]):
            cell, seen = Cell("recovery", "flip", loss, batch_size=batch_size), []

            def see(model, n_seen, seen=seen):
                after = model.score(X[n_rows:], y[n_rows:])
                # a model of the first half is right about the tested rows where it would be wrong after the flip
                seen.append((n_seen, after if n_seen > half else model.score(X[n_rows:], 1 - y[n_rows:])))

            streamed(cell, X[:n_rows], y[:n_rows], see=see)
            start = [n for n, accuracy in seen if n <= half and accuracy >= GOAL]
            flip = [n - half for n, accuracy in seen if n > half and accuracy >= GOAL]
            shown = [times[0] if times else "never" for times in (start, flip)]
            table.rows.append([loss, batch_size, *shown, f"{seen[-1][1]:.3f}"])
            facts = {"start": shown[0], "flip": shown[1], "end": seen[-1][1]}
            records.append({"table": table.title, "loss": loss, "batch": batch_size, **facts})
    return table, records


def zeros(context, cache):
    """Coefficients that are not zero under l1."""
    columns = ["problem", "alpha", "features", "optimum", "fit", "one pass in chunks"]
    table = Table("Coefficients that are not zero under l1", columns)
    records = []
    for name, loss in [("few_relevant regression", "squared_error"), ("few_relevant classification", "log_loss")]:
        for alpha in sized([1e-4, 1e-3, 1e-2], [1e-2]):
            cell = Cell("zeros", name, loss, "l1", alpha=alpha)
            X, y, _ = cell.data(context.data)
            best = reference(cell, X, y, None, cache)
            models = {"fit": cell.model(random_state=0).fit(X, y), "chunks": streamed(cell, X, y)}
            numbers = [np.count_nonzero(coef) for coef in [best.coef, *(m.coef_ for m in models.values())]]
            table.rows.append([name, f"{alpha:g}", X.shape[1], *numbers])
            facts = dict(zip(["optimum", "fit", "chunks"], map(int, numbers), strict=True))
            records.append({"table": table.title, "problem": name, "alpha": alpha, **facts})
    return table, records


MEASURES = {"recall": recall, "counts": counts, "coverage": coverage, "recovery": recovery, "zeros": zeros}


def run(context, cache, names=tuple(MEASURES)):
    """The tables of these measures and their records."""
    tables, records = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            table, more = MEASURES[name](context, cache)
            tables.append(table)
            records += more
    return tables, records
