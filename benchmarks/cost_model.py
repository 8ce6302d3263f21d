"""The cost model against what was measured: times to a target at sizes it did not see, and what its choice costs."""

import numpy as np
import problems
from report import Result, Table
from smoke import sized
from timing import Spread, number

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.cost_model import BatchCostModel, training_objective

NEEDS_DATA = True
DATA = {
    "hflights": MiniBatchSGDClassifier,
    "california_housing": MiniBatchSGDRegressor,
    "bike_hour": MiniBatchSGDRegressor,
    "a9a": MiniBatchSGDClassifier,
}
NAMES = sized(list(DATA), ["california_housing"])
SIZES = 2 ** np.arange(1, sized(12, 6))  # 2 to 2048: every second one is seen, those between are predicted
SEEN = slice(0, None, 2)
GOAL = sized(1e-2, 0.2)  # distance to the optimum that is left, relative to the start
LIMIT = 0.25
N_REPEATS = sized(30, 4)  # of step times; the regret takes one half to choose, the other to judge
CRITICAL_SIZES = 2.0 ** np.arange(14)  # of the regret


def problem(folder, name):
    """(X, y) of a data set, standardised; the target of regression too, so that alpha means the same."""
    X, y = problems.load(folder, name)
    return problems.scale(X), problems.encode(y, DATA[name] is MiniBatchSGDRegressor)


def measured(make, X, y, n_seeds, random_state=0):
    """A cost model of all sizes for the target, whose measurements are what is predicted below."""
    start = training_objective(make(), X, y)
    reference = make(batch_size=512, max_iter=100, tol=None, random_state=0).fit(X, y)
    best = training_objective(reference, X, y)
    target = best + GOAL * (start - best)
    settings = {"n_seeds": n_seeds, "n_repeats": N_REPEATS, "random_state": random_state}
    return BatchCostModel.measure(make(), X, y, SIZES, target=target, **settings)


def predictions(model):
    """(size, measured seconds, predicted, the same with the line, relative standard error, whether smaller sizes were seen)."""
    sizes, step_seconds, n_steps, target = model.measurements_
    seen = BatchCostModel().fit(sizes[SEEN], step_seconds[SEEN], n_steps[SEEN], target=target)
    for i in range(1, len(sizes), 2):
        if np.isnan(n_steps[i]).any():
            continue  # not reached by every seed: there is no time to compare with
        logs = np.log(n_steps[i])
        seconds = float(np.exp(logs.mean()) * np.median(step_seconds[i]))
        affine = float(seen.predict_seconds(sizes[i], step_times="affine"))
        error = float(logs.std(ddof=1) / np.sqrt(logs.size))
        between = bool(seen.batch_sizes_[0] < sizes[i])
        yield int(sizes[i]), seconds, float(seen.predict_seconds(sizes[i])), affine, error, between


def regrets(model):
    """Time lost by the choice from the table and by the closed form, over the best size, for each critical batch size.

    Choices are made from one half of the repeats and judged by the other half. The steps are exactly 1 + critical / b.
    """
    sizes, step_seconds, *_ = model.measurements_
    halves = np.array_split(step_seconds, 2, axis=1)
    lost = []
    for chosen_by, judged_by in [halves, halves[::-1]]:
        judge = np.median(judged_by, axis=1)
        for critical in CRITICAL_SIZES:
            steps = 1.0 + critical / sizes
            fitted = BatchCostModel().fit(sizes, chosen_by, steps)
            nearest = np.argmin(np.abs(np.log(sizes / np.clip(fitted.closed_form_batch_size_, sizes[0], sizes[-1]))))
            seconds = steps * judge
            table = seconds[sizes == fitted.optimal_batch_size()][0]
            lost.append((table / seconds.min() - 1.0, seconds[nearest] / seconds.min() - 1.0))
    return np.array(lost)


def percent(share):
    return f"{100 * share:+.0f} %"


def share(value):
    return f"{100 * value:.0f} %"


def change(value):
    return f"{100 * value:+.0f} %"


def row_of_prediction(name, size, seconds, predicted, affine, error, between):
    errors = [change(value / seconds - 1) for value in (predicted, affine)]
    size = size if between else f"{size} (beyond)"
    return [name, size, number(1e3 * seconds), share(error), number(1e3 * predicted), *errors]


def row_of_curves(name, model):
    low, high = model.confidence_intervals_["closed_form_batch_size"]
    return [
        name,
        number(model.min_steps_),
        number(model.critical_batch_size_),
        number(1e6 * model.fixed_seconds_),
        number(1e9 * model.row_seconds_),
        number(model.hardware_batch_size_),
        f"{number(model.closed_form_batch_size_)} ({number(low)} to {number(high)})",
        model.optimal_batch_size(),
        share(model.time_misfit_),
        share(model.steps_misfit_),
    ]


def row_of_regrets(name, lost):
    return [name, *(share(value) for side in lost.T for value in (side.mean(), side.max()))]


def tables():
    """The three tables, without rows."""
    unseen = Table(
        "Time to the target at batch sizes that the model did not see",
        ["data", "batch size", "measured (ms)", "standard error", "predicted (ms)", "error", "with affine step times"],
        note=(
            "Measured: the geometric mean of the steps of the seeds times the median time of a step, with the standard error "
            "that the seeds give it. Predicted: from the other sizes alone, 2, 8, 32, ... Sizes at which a seed does not "
            "reach the target in 100 passes are left out. Beyond: at all smaller sizes that the model saw, a seed did not."
        ),
    )
    curves = Table(
        "What the curves say",
        ["data", "N", "C / N", "tau_f (us)", "tau_d (ns)", "tau_f / tau_d"],
        note="From all sizes. Misfits are the largest relative errors at a measured size.",
    )
    curves.columns += ["closed form (interval)", "chosen", "misfit of the line", "misfit of the steps"]
    regret = Table(
        "Time lost by a choice",
        ["data", "from the measured step times: mean", "worst", "by the closed form: mean", "worst"],
        note=(
            f"Over the best size, for steps of exactly 1 + B / b with B = {CRITICAL_SIZES[0]:g} to {CRITICAL_SIZES[-1]:g}; "
            "choices from one half of the measured step times, judged by the other half."
        ),
    )
    return unseen, curves, regret


def run(context):
    unseen, curves, regret = tables()
    records, errors = [], []
    for name in NAMES:
        make = DATA[name]
        model = measured(make, *problem(context.data, name), max(3, context.repeats))
        rows, lost = list(predictions(model)), regrets(model)
        unseen.rows += [row_of_prediction(name, *row) for row in rows]
        curves.rows.append(row_of_curves(name, model))
        regret.rows.append(row_of_regrets(name, lost))
        errors += [abs(predicted / seconds - 1) for _, seconds, predicted, *_, between in rows if between]
        _, step_seconds, n_steps, target = model.measurements_
        records.append(
            {"data": name, "batch_sizes": SIZES.tolist(), "target": target, "step_seconds": step_seconds.tolist()}
            | {
                "n_steps": np.where(np.isnan(n_steps), None, n_steps).tolist(),
                "predictions": rows,
                "regrets": lost.tolist(),
            }
        )
        print("   ", *curves.rows[-1], flush=True)
    spread = Spread.of(errors)
    within = sum(error <= LIMIT for error in errors)
    unseen.note += (
        f" {within} of {len(errors)} errors (without those beyond) are within {share(LIMIT)}: median {share(spread.median)}, "
        f"quartiles {share(spread.low)} and {share(spread.high)}, largest {share(max(errors))}."
    )
    question = (
        "Does T(b) = K(b) t(b) predict how long training takes, and is it right to choose by measured step times? All "
        f"defaults but the batch size, standardised features, until {GOAL:g} of the distance to the optimum is left."
    )
    return Result("The cost of a batch size", question, [unseen, curves, regret], records)
