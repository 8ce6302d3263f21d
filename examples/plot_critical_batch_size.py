"""Do noise scale, critical batch size and fastest batch size agree? Yes, once each is taken for what it is.

A logistic regression of 8,000 rows. The noise scale belongs to a point: it is small at the start of training and very large at
the end. The critical batch size belongs to a training to a target: `choose_batch_size` estimates it from the noise scale after a
pilot, `BatchCostModel` measures it as C / N, and it grows as the target comes closer to the optimum. The largest size that loses
nothing from a checkpoint on is smaller, since it may not cost extra rows. The figure has the steps that were measured for each
target with their curves N + C / b, and the estimate with its interval.

Usage: python examples/plot_critical_batch_size.py [--output plot_critical_batch_size.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from skminibatch import MiniBatchSGDClassifier
from skminibatch.cost_model import BatchCostModel, training_objective
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.model_selection import branched_batch_size, choose_batch_size

N_ROWS, N_FEATURES = 8_000, 20
SIZES = [4, 16, 64, 256, 1024]
LEFT = [0.1, 0.01]  # of the distance to the optimum, at the target


def data():
    """Rows of a logistic model."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N_ROWS, N_FEATURES))
    raw = 2 * X @ rng.standard_normal(N_FEATURES) / np.sqrt(N_FEATURES)
    return X, (rng.random(N_ROWS) < 1 / (1 + np.exp(-raw))).astype(int)


def measured(X, y):
    """A cost model for each target."""
    estimator = MiniBatchSGDClassifier(random_state=0)
    start = training_objective(estimator, X, y)
    best = training_objective(estimator.fit(X, y), X, y)
    settings = {"n_seeds": 3, "n_repeats": 5, "max_iter": 60, "random_state": 0}
    targets = {left: best + left * (start - best) for left in LEFT}
    return {left: BatchCostModel.measure(estimator, X, y, SIZES, target=at, **settings) for left, at in targets.items()}


def say(X, y, choice, models):
    """Print the numbers, each with what it is."""
    start = gradient_noise_scale(MiniBatchSGDClassifier(), X, y).noise_scale
    end = gradient_noise_scale(MiniBatchSGDClassifier(random_state=0).fit(X, y), X, y).noise_scale
    print(f"noise scale at the start: {start:.0f}; after a pilot: {choice.noise_scale:.0f}; at the end: {end:.2g}")
    low, high = choice.critical_batch_size_interval
    print(f"critical batch size, estimated: {choice.critical_batch_size:.0f} ({low:.0f} to {high:.0f})")
    for left, model in models.items():
        low, high = model.confidence_intervals_["critical_batch_size"]
        first, last = model.optimal_range()
        print(
            f"critical batch size, measured until {left:.0%} is left: {model.critical_batch_size_:.0f} ({low:.0f} to "
            f"{high:.0f}); fastest: {model.optimal_batch_size()}, no worse: {first} to {last}"
        )
    runs = branched_batch_size(MiniBatchSGDClassifier(solver="sgd", batch_size=4, random_state=0), X, y, random_state=0)
    print(f"largest size that loses nothing in the first pass: {runs.largest_batch_size}")


def draw(choice, models):
    """Draw steps against the batch size, and the estimate."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    sizes = np.geomspace(SIZES[0], SIZES[-1], 100)
    for color, (left, model) in zip(("C0", "C1"), models.items(), strict=True):
        ax.plot(model.batch_sizes_, model.n_steps_, "o", color=color, label=f"{left:.0%} is left")
        ax.plot(sizes, model.predict_steps(sizes), color=color)
        ax.axvline(
            model.critical_batch_size_, color=color, linestyle=":", label=f"C / N = {model.critical_batch_size_:.0f}"
        )
    low, high = np.clip(choice.critical_batch_size_interval, SIZES[0], SIZES[-1])
    ax.axvspan(low, high, color="0.5", alpha=0.2, linewidth=0)
    label = f"estimated: {choice.critical_batch_size:.0f}, with its interval"
    ax.axvline(choice.critical_batch_size, color="0.3", linestyle="--", label=label)
    ax.set(xscale="log", yscale="log", xlabel="batch size b (rows)", ylabel="steps to the target")
    ax.legend(loc="lower left", frameon=False)
    return figure


def main():
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_critical_batch_size.png"), help="the figure to write")
    output = parser.parse_args().output

    X, y = data()
    models = measured(X, y)
    choice = choose_batch_size(MiniBatchSGDClassifier(solver="schedule_free", random_state=0), X, y)
    say(X, y, choice, models)
    draw(choice, models).savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
