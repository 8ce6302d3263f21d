"""The noise scale from a twentieth of the rows: how far it is from that of all, and how often its interval has that."""

import numpy as np
import problems
from report import Result, Table
from smoke import sized

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.diagnostics import gradient_noise_scale

NEEDS_DATA = True
SETS = {
    "california_housing": MiniBatchSGDRegressor,
    "bike_hour": MiniBatchSGDRegressor,
    "blog_feedback": MiniBatchSGDRegressor,
    "a9a": MiniBatchSGDClassifier,
    "higgs_7500": MiniBatchSGDClassifier,
    "hflights": MiniBatchSGDClassifier,
}
NAMES = sized(list(SETS), ["california_housing", "a9a"])
EPOCHS = {"no epoch": 0, "an epoch": 1}
SHARE, N_DRAWS = sized((0.05, 100), (0.5, 3))
GOAL, COVERAGE = 0.1, (0.92, 0.98)  # of the median error, and of the coverage of intervals of 95 %


def measured(estimator, X, y):
    """(the noise scale of all rows, relative errors of those of samples, which intervals have it)"""
    exact = gradient_noise_scale(estimator, X, y, random_state=0).noise_scale
    found = [gradient_noise_scale(estimator, X, y, max_samples=SHARE, random_state=seed) for seed in range(N_DRAWS)]
    errors = [abs(record.noise_scale / exact - 1.0) for record in found]
    covered = [record.confidence_interval[0] <= exact <= record.confidence_interval[1] for record in found]
    return exact, errors, covered


def run(context):
    table = Table(
        f"From {SHARE:.0%} of the rows",
        ["data", "rows", "rows drawn", "after", "noise scale", "median error", "coverage", "to reach"],
        note=(
            f"Standardised features, and targets in regression; where `fit` would start, and after an epoch; {N_DRAWS} draws of "
            "rows. Coverage: share of the intervals of 95 % that have the noise scale of all rows."
        ),
    )
    records, within = [], dict.fromkeys(EPOCHS, 0)
    for name in NAMES:
        make = SETS[name]
        X, y = problems.load(context.data, name)
        X, y = problems.scale(X), problems.encode(y, make is MiniBatchSGDRegressor)
        for after, n_epochs in EPOCHS.items():
            estimator = make(random_state=0, tol=None)
            if n_epochs:
                estimator.set_params(max_iter=n_epochs).fit(X, y)
            exact, errors, covered = measured(estimator, X, y)
            error, coverage = float(np.median(errors)), float(np.mean(covered))
            within[after] += error <= GOAL and coverage >= COVERAGE[0]
            rows = f"{X.shape[0]:,}", f"{SHARE * X.shape[0]:,.0f}"
            shown = f"{100 * error:.0f} %" if np.isfinite(error) else "infinite"
            goal = f"at most {GOAL:.0%}, {COVERAGE[0]} to {COVERAGE[1]}"
            table.rows.append([name, *rows, after, f"{exact:,.0f}", shown, f"{coverage:.2f}", goal])
            records.append(
                {"data": name, "after": after, "noise_scale": exact, "infinite": int(np.isinf(errors).sum())}
                | {"errors": [error for error in errors if np.isfinite(error)], "coverage": coverage}
            )
            print("   ", *table.rows[-1], flush=True)
    counts = ", ".join(f"{count} of {len(NAMES)} after {after}" for after, count in within.items())
    table.note += f" Within both: {counts}. An infinite error: the gradient is hidden by the noise."
    question = (
        "How good is `gradient_noise_scale` with `max_samples=0.05`? The square of the gradient stands out of the noise of m "
        "rows as far as m is above the noise scale: no estimate from m rows can do without that."
    )
    return Result("The noise scale from a part of the rows", question, [table], records)
