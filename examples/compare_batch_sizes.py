"""Which batch size? A search by cross-validation on the handwritten digits of scikit-learn.

`BatchSizeSearchCV` scores each batch size by repeated stratified cross-validation of a pipeline of StandardScaler and
MiniBatchSGDClassifier, all at the same number of epochs. Printed, for each batch size: the accuracy, how far it is behind
the best one with a 95 % interval that knows of the rows that training sets share, and the updates and the seconds of a
fit. `GridSearchCV` makes the same search, for comparison. The figure shows the differences, and the objective after each
epoch.

Usage: python examples/compare_batch_sizes.py [--output compare_batch_sizes.png]
"""

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchSGDClassifier
from skminibatch.model_selection import BatchSizeSearchCV

BATCH_SIZES = [4, 16, 64, 256, 1024]
EPOCHS = 3
NAME = "minibatchsgdclassifier__batch_size"


def searches(X, y):
    """The fitted search, the winner of the same search by GridSearchCV, and the seconds of both."""
    classifier = MiniBatchSGDClassifier(solver="schedule_free", max_iter=EPOCHS, tol=None, random_state=0)
    pipeline = make_pipeline(StandardScaler(), classifier)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
    ours = BatchSizeSearchCV(pipeline, BATCH_SIZES, cv=folds, budget="epochs", budget_value=EPOCHS)
    grid = GridSearchCV(pipeline, {NAME: BATCH_SIZES}, cv=folds)
    clone(ours).set_params(cv=2).fit(X, y)  # compiles the kernels, so that no timed search has to
    seconds = []
    for search in (ours, grid):
        began = time.perf_counter()
        search.fit(X, y)
        seconds.append(time.perf_counter() - began)
    return ours, grid.best_params_[NAME], seconds


def print_table(search):
    """Print one row for each batch size, and which ones cannot be told from the best."""
    results = search.cv_results_
    print(f"{'batch size':>10}  {'accuracy':>8}  {'from the best (95 %)':>25}  {'updates':>8}  {'ms':>6}")
    for i, params in enumerate(results["params"]):
        low, high = results["low_difference_from_best"][i], results["high_difference_from_best"][i]
        interval = f"{results['mean_difference_from_best'][i]:+.4f} ({low:+.4f} to {high:+.4f})"
        updates, milliseconds = results["mean_n_updates"][i], 1000 * results["mean_fit_time"][i]
        score = results["mean_test_score"][i]
        print(f"{params[NAME]:>10}  {score:>8.4f}  {interval:>25}  {updates:>8.0f}  {milliseconds:>6.1f}")
    alike = ", ".join(str(params[NAME]) for params in search.indistinguishable_)
    print(f"\nBest: batch size {search.best_params_[NAME]}. Cannot be told from it: {alike}.")


def draw(search):
    """Draw the differences from the best batch size, and the objective after each epoch."""
    results = search.cv_results_
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    mean = 100 * results["mean_difference_from_best"]
    ends = 100 * np.array([results["low_difference_from_best"], results["high_difference_from_best"]])
    left.axhline(0, color="0.6", linewidth=1)
    left.errorbar(BATCH_SIZES, mean, np.abs(ends - mean), fmt="o", color="#1f5fa8", capsize=4)
    left.set_xscale("log", base=2)
    left.set_xticks(BATCH_SIZES, [str(b) for b in BATCH_SIZES])
    left.set(xlabel="batch size (rows)", ylabel="accuracy, from the best (percentage points)")
    for i, batch_size in enumerate(BATCH_SIZES):
        curve = np.mean([results[f"split{k}_loss_curve"][i] for k in range(search.n_splits_)], axis=0)
        color = f"C{i}"
        right.plot(np.arange(1, EPOCHS + 1), curve, "o-", color=color, label=f"{batch_size} rows")
    right.set(xlabel="epochs", ylabel="objective (mean over the folds)", xticks=np.arange(1, EPOCHS + 1))
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)  # beside the lines, which fill the axes
    for ax in (left, right):
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"Digits, {EPOCHS} epochs: intervals of 95 % around differences from the best batch size", fontsize=10
    )
    return figure


def main():
    """Search, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("compare_batch_sizes.png"), help="the figure to write")
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    print(f"digits: {X.shape[0]} rows, {X.shape[1]} features, {len(np.unique(y))} classes; {EPOCHS} epochs\n")
    search, winner, seconds = searches(X, y)
    print_table(search)
    fits = len(BATCH_SIZES) * search.n_splits_
    print(
        f"{fits} fits: {seconds[0]:.2f} s, and {seconds[1]:.2f} s by GridSearchCV, whose best batch size is {winner}."
    )
    draw(search).savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
