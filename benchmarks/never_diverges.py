"""Every data set, raw and scaled, by fit and by partial_fit in small chunks: is the model usable?"""

import warnings

import numpy as np
import problems
from report import Result, Table
from sklearn.utils import gen_batches
from smoke import sized
from timing import number

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor

NEEDS_DATA = True
CHUNKS = {1: sized(3_000, 20), 7: sized(20_000, 50), 1_000: None}  # chunk size: rows that are used


def cases(folder):
    """(name, X, y, estimator class) of every data set; hflights also with its delay as a target."""
    module = problems.loader(folder)
    for name in module.NAMES:
        X, y = problems.load(folder, name)
        if module.load(name)["task"] == "regression":
            yield name, X, y.astype(np.float64), MiniBatchSGDRegressor
        else:
            yield name, X, np.unique(y, return_inverse=True)[1], MiniBatchSGDClassifier
    delay = module.load("hflights")
    if "y_reg" in delay:
        yield (
            "hflights (delay)",
            delay["X"].astype(np.float64),
            delay["y_reg"].astype(np.float64),
            MiniBatchSGDRegressor,
        )


def relative_objective(model, X, y):
    """F of the model over F of the best constant, and whether the coefficients are finite."""
    finite = bool(np.isfinite(model.coef_).all() and np.isfinite(model.intercept_).all())
    if isinstance(model, MiniBatchSGDRegressor):
        value, constant = problems.half_squared_error(model.predict(X), y), np.var(y) / 2
    else:
        value, constant = problems.log_loss(model.decision_function(X), y), problems.log_loss_of_constant(y)
    return (value + problems.penalty(model.coef_)) / float(constant), finite


def fitted(make, X, y, chunk):
    """A model after `fit` (chunk None) or after one pass of `partial_fit`."""
    model = make(random_state=0)
    if chunk is None:
        return model.fit(X, y)
    first = {"classes": np.unique(y)} if make is MiniBatchSGDClassifier else {}
    for rows in gen_batches(X.shape[0], chunk):
        model.partial_fit(X[rows], y[rows], **first)
        first = {}
    return model


def outcome(make, X, y, chunk):
    """The relative objective and the cell of the table."""
    n_rows = None if chunk is None else CHUNKS[chunk]
    X, y = X[:n_rows], y[:n_rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = fitted(make, X, y, chunk)
        except ValueError as error:
            return None, f"raised {type(error).__name__}: {str(error)[:60]}"
    with np.errstate(all="ignore"):
        ratio, finite = relative_objective(model, X, y)
    return ratio if np.isfinite(ratio) else None, number(ratio) if finite else "not finite"


def run(context):
    columns = ["data", "features", "fit", *[f"chunks of {chunk:,}" for chunk in CHUNKS]]
    note = (
        "A value below 1 is better than the best constant, evaluated on the rows that were used; chunks see "
        f"every row once, in the order of the file. Chunks of 1 use the first {CHUNKS[1]:,} rows, those "
        f"of 7 the first {CHUNKS[7]:,}."
    )
    table = Table("F / F of the best constant", columns, note=note)
    records = []
    for name, raw, y, make in cases(context.data):
        for features in ("raw", "scaled"):
            X = raw if features == "raw" else problems.scale(raw)
            cells = []
            for chunk in (None, *CHUNKS):
                ratio, cell = outcome(make, X, y, chunk)
                cells.append(cell)
                records.append({"data": name, "features": features, "chunk": chunk, "ratio": ratio, "cell": cell})
            table.rows.append([name, features, *cells])
            print("   ", *table.rows[-1], flush=True)
    question = (
        "Does it ever diverge? All defaults, on every data set, with raw features and with scaled ones "
        "(sparse data scaled, not centred), by fit and by partial_fit."
    )
    return Result("It does not diverge", question, [table], records)
