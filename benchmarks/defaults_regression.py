"""Least squares on raw and on standardised features: twenty passes with the defaults."""

import warnings

import numpy as np
import problems
from report import Result, Table
from sklearn.linear_model import SGDRegressor
from smoke import sized
from timing import Spread

from skminibatch import MiniBatchSGDRegressor

NEEDS_DATA = True
SETS = ["california_housing", "bike_hour", "blog_feedback"]
N_PASSES = sized(20, 2)
ESTIMATORS = {"MiniBatchSGDRegressor": MiniBatchSGDRegressor, "SGDRegressor": SGDRegressor}


def objective_after(make, X, y, seed):
    """F at the end of the passes, in the coordinates of X; infinite where the fit diverged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = make(max_iter=N_PASSES, tol=None, random_state=seed).fit(X, y)
        except ValueError:  # a divergence that is reported, not returned
            return np.inf
    with np.errstate(all="ignore"):
        value = problems.regressor_objective(model.coef_, model.intercept_, X, y)
    return value if np.isfinite(value) else np.inf


def results(folder, name, n_seeds):
    """The objective at the starts and, for raw and standardised features, at the optimum and the ends."""
    raw, y = problems.load(folder, name)
    y = y.astype(np.float64)
    starts = {"zero": float(np.mean(y**2) / 2), "best constant": float(np.var(y) / 2)}
    found = {}
    for features, X in (("raw", raw), ("standardised", problems.scale(raw))):
        ends = {
            estimator: [objective_after(make, X, y, seed) for seed in range(n_seeds)]
            for estimator, make in ESTIMATORS.items()
        }
        found[features] = {"optimum": problems.least_squares_optimum(X, y), "ends": ends}
    return starts, found


def share(start, raw_ends, standardised_ends):
    """Decrease on raw features over the decrease on standardised ones, seed by seed."""
    if max(*raw_ends, *standardised_ends) > start:  # a ratio of increases says nothing
        return [np.nan]
    pairs = zip(raw_ends, standardised_ends, strict=True)
    return [(start - raw) / (start - standardised) for raw, standardised in pairs]


def with_worst(values, worst):
    """Median, quartiles and the worst; a diverged fit as such."""
    if np.any(np.isnan(values)):
        return "diverges"
    if max(np.abs(values)) > 1e3:
        return f"diverges ({worst(values):.0e})"
    spread = Spread.of(values)
    return f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g}), worst {worst(values):.3g}"


def run(context):
    decrease = Table(
        "Decrease on raw features / decrease on standardised features",
        ["data", "counted from", *ESTIMATORS, "to reach"],
        note="'Zero' is w = 0 and intercept 0, 'best constant' w = 0 and the mean of y as the intercept.",
    )
    excess = Table(
        f"(F after {N_PASSES} passes - F*) / (F of the best constant - F*), each in its own coordinates",
        ["data", "features", *ESTIMATORS],
        note="F* is the closed form. The penalty is that of the coefficients as fitted, so that F* differs.",
    )
    records = []
    for name in SETS:
        starts, found = results(context.data, name, max(context.repeats, 5))
        for origin, start in starts.items():
            cells = []
            for estimator in ESTIMATORS:
                shares = share(start, *(found[features]["ends"][estimator] for features in found))
                cells.append(with_worst(shares, min))
            decrease.rows.append([name, origin, *cells, "0.9"])
        for features, values in found.items():
            best = values["optimum"]
            distance = starts["best constant"] - best
            relative = [[(end - best) / distance for end in values["ends"][e]] for e in ESTIMATORS]
            excess.rows.append([name, features, *[with_worst(values, max) for values in relative]])
        records.append({"data": name, "starts": starts, **{k: _finite(v) for k, v in found.items()}})
    question = (
        f"Do the defaults need scaled features? Least squares, alpha = {problems.ALPHA:g}, {N_PASSES} passes "
        f"(max_iter={N_PASSES}, tol=None), one fit a random_state. Beside it SGDRegressor with its defaults."
    )
    return Result("The defaults on raw features", question, [decrease, excess], records)


def _finite(values):
    """The same for JSON, which has no infinity: null in its place."""
    ends = {k: [end if np.isfinite(end) else None for end in ends] for k, ends in values["ends"].items()}
    return {**values, "ends": ends}
