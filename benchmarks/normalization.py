"""Batch, layer and hybrid normalization of distorted digits, by batch size: errors, and alpha of the hybrid."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
from report import Result, Table
from smoke import sized

NEEDS_DATA = False
BATCH_SIZES = sized([2, 4, 8, 32, 128], [2, 128])
KINDS = ["batch", "layer", "hybrid"]
RATE, N_STEPS, N_RUNS = 0.001, sized(6_000, 700), sized(5, 1)


def example():
    """The module of the example, which has the problem."""
    path = Path(__file__).resolve().parents[1] / "examples" / "plot_normalization.py"
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(problem):
    """Errors in points, by kind (n_sizes, n_runs), and alphas of the hybrid (n_sizes, n_runs)."""
    errors, alphas = (
        {kind: np.empty((len(BATCH_SIZES), N_RUNS)) for kind in KINDS},
        np.empty((len(BATCH_SIZES), N_RUNS)),
    )
    for run in range(N_RUNS):
        rows = problem.distorted_digits(run)
        for i, b in enumerate(BATCH_SIZES):
            for kind in KINDS:
                error, learnt = problem.fitted(kind, b, rows, run, rate=RATE, n_steps=N_STEPS)
                errors[kind][i, run] = 100.0 * error
            alphas[i, run] = learnt["alpha"][0]
    return errors, alphas


def of_hidden_layers(problem):
    """Errors in points of networks of 32 hidden units, two rows a batch, by kind (n_runs,)."""
    rows = [problem.digits(run) for run in range(N_RUNS)]
    settings = {"hidden": (32,), "rate": RATE, "n_steps": N_STEPS}
    return {
        kind: [100.0 * problem.fitted(kind, 2, rows[run], run, **settings)[0] for run in range(N_RUNS)]
        for kind in sized(["batch", "layer", "group", "hybrid"], ["batch"])
    }


def each(numbers, form):
    """Numbers of the runs, and their mean."""
    return f"{', '.join(format(number, form) for number in numbers)}; mean {format(np.mean(numbers), form)}"


def run(context):
    problem = example()
    errors, alphas = measured(problem)
    hidden = of_hidden_layers(problem)
    by_size = Table(
        "Test error in points, and alpha of the hybrid, run by run",
        ["batch size", *KINDS, "alpha"],
        [
            [b, *(each(errors[kind][i], ".1f") for kind in KINDS), each(alphas[i], ".3f")]
            for i, b in enumerate(BATCH_SIZES)
        ],
    )
    by_kind = Table(
        "Test error in points of a network of 32 hidden units, two rows a batch, run by run",
        ["normalization before the activation", "test error"],
        [[kind, each(found, ".1f")] for kind, found in hidden.items()],
        note="On the digits as they are.",
    )
    better = np.minimum(errors["batch"].mean(axis=1), errors["layer"].mean(axis=1))
    small = np.array(BATCH_SIZES) <= 4
    goals = Table(
        "What was to be reached",
        ["what", "measured", "to reach"],
        [
            [
                "batch minus layer at b = 2, least of the runs",
                f"{np.min(errors['batch'][0] - errors['layer'][0]):.1f}",
                "1.5",
            ],
            [
                "hybrid minus the better of batch and layer, mean of the runs, largest over the batch sizes",
                f"{np.max(errors['hybrid'].mean(axis=1) - better):.1f}",
                "at most 1.5",
            ],
            [
                "the same, of single runs",
                f"{np.max(errors['hybrid'] - np.minimum(errors['batch'], errors['layer'])):.1f}",
                "",
            ],
            ["alpha for b <= 4, largest", f"{alphas[small].max():.3f}", "below 0.3"],
            ["alpha for b = 128, least", f"{alphas[-1].min():.3f}", "above 0.8"],
            ["alpha for b = 128, mean", f"{alphas[-1].mean():.3f}", "above 0.9"],
        ],
    )
    question = (
        "Where does batch normalization break, and does the hybrid follow the better one? The digits of scikit-learn, each "
        f"pixel with a scale exp(N(0, 0.5^2)) and an offset N(0, 0.5^2) of its own; the input is normalised, then one layer of "
        f"softmax; {N_STEPS:,} steps of Adam with the rate {RATE:g} at every batch size, {N_RUNS} runs with distortions, "
        "splits and seeds of their own."
    )
    records = [
        {"batch_size": b, **{kind: errors[kind][i].tolist() for kind in KINDS}, "alpha": alphas[i].tolist()}
        for i, b in enumerate(BATCH_SIZES)
    ]
    records.append({"batch_size": 2, "hidden_units": 32, **hidden})
    return Result("Normalization and small batches", question, [goals, by_size, by_kind], records)
