"""Do the defaults reach the optimum of the stated objective? `python benchmarks/optimum.py [--quick]`.

The optimum is found by other means (`optima.py`) and kept in a folder, so that later runs only fit. The cells are in
`cells.py`, and what is no excess of the objective (recall, coverage, ...) in `measures.py`.
"""

import argparse
import os
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import cells
import measures
import numpy as np
import optima
from report import Result, Table
from sklearn.utils import gen_batches
from smoke import is_smoke

NEEDS_DATA = True
PASSES = (1, 5, 20)
CHUNK = 100
CACHE = Path(tempfile.gettempdir()) / "skminibatch-optima"
NOISE = 1e-6  # of the references: below it, one excess is not worse than another
STOP, STOP_FLOAT32, SMOOTH, KINKED = 1e-3, 2e-3, 1e-4, 2e-3
LARGEST_BATCH = 256
COLUMNS = ["cell", "half", "1 pass", "5", "20", "at the stop", "passes", "seconds", "misses"]


def streams(cell, X, y, weights):
    """Calls that go on with one model by `partial_fit` in chunks, in the order of the rows, up to 1, 5, ... passes."""
    model = cell.model(random_state=0)
    first = {} if cell.loss in optima.REGRESSORS else {"classes": np.unique(y)}

    def go_on(n_passes):
        for _ in range(n_passes):
            for rows in gen_batches(len(y), CHUNK):
                sample_weight = None if weights is None else weights[rows]
                model.partial_fit(X[rows], y[rows], sample_weight=sample_weight, **first)
        return model

    return [partial(go_on, k - before) for k, before in zip(PASSES, (0, *PASSES), strict=False)]


def measured(cell, folder, cache):
    """The excesses of one cell, as a record; a fit that raises an error has none (NaN)."""
    X, y, weights = cell.data(folder)
    reference = cells.reference(cell, X, y, weights, cache)
    exact = X.astype(np.float64)

    def excess(fit):
        try:
            model = fit()
        except ValueError as error:
            print(f"{cell.name}: {error}", flush=True)
            return None, float("nan")
        value = optima.objective(
            model.coef_,
            model.intercept_,
            exact,
            y,
            cell.loss,
            cell.penalty,
            cell.alpha,
            weights=weights,
            **cell.options,
        )
        return model, float(reference.excess(value))

    def fit_of(**settings):
        return lambda: cell.model(random_state=0, **settings).fit(X, y, sample_weight=weights)

    record = {"cell": cell.name, "half": cell.half, "best": reference.best, "constant": reference.constant}
    chunks = cell.call == "chunks"
    fits = streams(cell, X, y, weights) if chunks else [fit_of(max_iter=k, tol=None) for k in PASSES]
    for k, fit in zip(PASSES, fits, strict=True):
        record[f"after {k}"] = excess(fit)[1]
    if not chunks:
        start = time.perf_counter()
        model, record["at the stop"] = excess(fit_of())
        record["seconds"] = time.perf_counter() - start
        record["passes"] = None if model is None else int(model.n_iter_)
    return {**record, **judged(cell, record)}


def judged(cell, record):
    """Which of the targets apply to a cell, and whether it holds them: {name: bool}."""
    last = PASSES[-1]
    verdicts = {f"{last} not worse than 5": record[f"after {last}"] <= max(record["after 5"], NOISE)}
    if cell.call == "fit":
        verdicts["stop"] = record["at the stop"] <= (STOP_FLOAT32 if cell.rows == "float32" else STOP)
        if cell.is_smooth and cell.batch_size <= LARGEST_BATCH:
            verdicts["smooth"] = record[f"after {last}"] <= SMOOTH
        elif cell.loss in optima.KINKED:
            verdicts["kinked"] = record[f"after {last}"] <= KINKED
    return {"verdicts": verdicts}


def row(record):
    def shown(name):
        return f"{record[name]:.0e}" if name in record else ""

    misses = ", ".join(name for name, holds in record["verdicts"].items() if not holds)
    excesses = [shown(f"after {k}") for k in PASSES]
    seconds = f"{record['seconds']:.2f}" if "seconds" in record else ""
    return [record["cell"], record["half"], *excesses, shown("at the stop"), record.get("passes", ""), seconds, misses]


TARGETS = {
    "stop": f"at the stop, at most {STOP:g} ({STOP_FLOAT32:g} in float32)",
    "smooth": f"after {PASSES[-1]} passes, at most {SMOOTH:g}: smooth loss, l2, batches of at most {LARGEST_BATCH}",
    "kinked": f"after {PASSES[-1]} passes, at most {KINKED:g}: hinge, quantile, epsilon-insensitive",
    f"{PASSES[-1]} not worse than 5": f"{PASSES[-1]} passes no worse than 5",
}


def summary(records):
    """The share of the cells that hold each target, of each half."""
    table = Table("Targets held", ["target", "all", cells.CHOSEN, cells.REPORTED])
    for name, text in TARGETS.items():
        verdicts = [(r["half"], r["verdicts"][name]) for r in records if name in r["verdicts"]]
        shares = []
        for halves in [(cells.CHOSEN, cells.REPORTED), (cells.CHOSEN,), (cells.REPORTED,)]:
            held = [holds for half, holds in verdicts if half in halves]
            shares.append(f"{sum(held)} of {len(held)}")
        table.rows.append([text, *shares])
    return table


def excesses(chosen, folder, cache, is_verbose):
    """The table of the cells and their records."""
    table = Table(
        "Excess of the objective",
        COLUMNS,
        note="(F - F*) / (F of the best constant - F*), F* being the optimum; the denominator is at least a thousandth of the "
        "best constant. b: batch size, 64 unless named; chunks: "
        f"`partial_fit` with {CHUNK} rows a call, in the order of the rows.",
    )
    records = []
    for cell in chosen:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # passes that are too few are what is asked for
            records.append(measured(cell, folder, cache))
        table.rows.append(row(records[-1]))
        if is_verbose:
            values = " | ".join(str(value) for value in table.rows[-1])
            print(f"{values} | ({time.perf_counter() - start:.1f} s)", flush=True)
    return table, records


QUESTION = (
    "Does a fit with default parameters reach the optimum of the stated objective, F(w) = weighted mean of the losses "
    "+ alpha R(w)? The optimum is found with second-order methods that share no code with the package."
)


def result(chosen, context, cache=CACHE, is_verbose=False, with_measures=True):
    table, records = excesses(chosen, context.data, cache, is_verbose)
    tables = [summary(records), table]
    if with_measures:
        others, more = measures.run(context, cache)
        tables, records = tables + others, records + more
    return Result("The optimum", QUESTION, tables, records)


def run(context):
    chosen = [cells.CELLS[name] for name in cells.SMOKE] if is_smoke() else cells.selected()
    return result(chosen, context)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = sorted({cell.group for cell in cells.CELLS.values()})
    parser.add_argument("--quick", action="store_true", help=f"{len(cells.QUICK)} cells of all {len(cells.CELLS)}")
    parser.add_argument("--only", nargs="+", metavar="SUBSTRING", help="cells whose name has one of these")
    parser.add_argument("--group", nargs="+", choices=groups)
    parser.add_argument("--half", choices=[cells.CHOSEN, cells.REPORTED])
    parser.add_argument("--list", action="store_true", help="print the names of the cells, and stop")
    parser.add_argument("--no-measures", action="store_true", help="excesses only")
    parser.add_argument("--measures", nargs="*", choices=list(measures.MEASURES), help="no cells, but these (or all)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the reference optima")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SKMINIBATCH_DATA", "../shared/data")))
    options = parser.parse_args()
    chosen = cells.selected(options.only, options.group, options.quick, options.half)
    if options.list:
        print("\n".join(f"{cell.group}: {cell.name} ({cell.half})" for cell in chosen))
        return
    context = measures.Context(options.data.resolve())
    if options.measures is not None:
        tables, _ = measures.run(context, options.cache, options.measures or list(measures.MEASURES))
    else:
        done = result(chosen, context, options.cache, is_verbose=True, with_measures=not options.no_measures)
        tables = [*done.tables[2:], done.tables[1], done.tables[0]]
    print("\n\n".join(table.markdown() for table in tables))


if __name__ == "__main__":
    main()
