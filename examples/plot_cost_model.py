"""Which batch size reaches a target first, and why? The one between the noise of the data and the costs of a step.

The handwritten digits of scikit-learn, odd against even, by logistic regression. Larger batches need fewer steps, N + C / b,
with little gain beyond the critical batch size C / N. Each step takes longer, about tau_f + tau_d b, with little change below
the batch size of the hardware, tau_f / tau_d. If the line were exact, the time to the target would be least at the geometric
mean of the two; the choice takes the times as they were measured.

Usage: python examples/plot_cost_model.py [--output plot_cost_model.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDClassifier
from skminibatch.cost_model import BatchCostModel, training_objective
from skminibatch.plotting import BatchCostDisplay

BATCH_SIZES = 2 ** np.arange(10)
GOAL = 0.1  # of the distance to the optimum is left


def measured(X, y):
    """The cost model of the classifier."""
    start = training_objective(MiniBatchSGDClassifier(), X, y)
    reference = MiniBatchSGDClassifier(max_iter=300, tol=None, random_state=0).fit(X, y)
    best = training_objective(reference, X, y)
    return BatchCostModel.measure(
        MiniBatchSGDClassifier(), X, y, BATCH_SIZES, target=best + GOAL * (start - best), random_state=0
    )


def draw(model):
    """Steps to the target, time of a step, and their product."""
    figure = Figure(figsize=(11.5, 3.8), layout="constrained")
    steps, times, product = figure.subplots(1, 3)
    b = np.geomspace(BATCH_SIZES[0], BATCH_SIZES[-1], 200)
    steps.loglog(model.batch_sizes_, model.n_steps_, "o", color="C0", label="measured")
    steps.loglog(b, model.predict_steps(b), color="C0", label="N + C / b")
    steps.axvline(
        model.critical_batch_size_, color="0.6", linestyle=":", label=f"C / N = {model.critical_batch_size_:.3g}"
    )
    steps.set(title="Steps to the target", ylabel="steps")
    times.loglog(model.batch_sizes_, 1e6 * model.step_seconds_, "o", color="C0", label="measured")
    affine = 1e6 * model.predict_step_seconds(b, step_times="affine")
    times.loglog(b, affine, "--", color="C1", label=r"$\tau_f + \tau_d\, b$")
    ratio = model.hardware_batch_size_
    times.axvline(ratio, color="0.6", linestyle=":", label=rf"$\tau_f / \tau_d$ = {ratio:.3g}")
    times.set(title="Time of a step", ylabel="microseconds")
    BatchCostDisplay.from_cost_model(model, ax=product)
    product.set(title="Time to the target")
    for axes in (steps, times):
        axes.set_xlabel("batch size b")
        axes.set_xticks(BATCH_SIZES, [str(size) for size in BATCH_SIZES])
        axes.minorticks_off()
        axes.legend(frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_cost_model.png"), help="where the figure goes")
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    model = measured(scale(X), y % 2)
    print(model)
    print(model.summary())
    print(f"{'batch size':>10}  {'steps':>7}  {'us a step':>9}  {'ms to the target':>16}  {'predicted':>9}")
    for size, steps, seconds in zip(model.batch_sizes_, model.n_steps_, model.step_seconds_, strict=True):
        predicted = 1e3 * float(model.predict_seconds(size))
        print(f"{size:>10}  {steps:>7.1f}  {1e6 * seconds:>9.2f}  {1e3 * steps * seconds:>16.3f}  {predicted:>9.3f}")
    draw(model).savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
