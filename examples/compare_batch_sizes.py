"""Which batch size? A comparison by cross-validation on the handwritten digits of scikit-learn.

Each batch size is scored by repeated stratified cross-validation of a pipeline of StandardScaler and
MiniBatchSGDClassifier. All other parameters keep their defaults, so the step size follows from the data and
the batch size, and training stops when the objective has converged. Printed, for each batch size: the
accuracy with its standard deviation over the splits, the seconds of one fit, the passes over the data and
the updates of the parameters that it took. The same numbers are drawn into a figure.

Usage: python examples/compare_batch_sizes.py [--output compare_batch_sizes.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchSGDClassifier
from skminibatch.model_selection import batch_size_curve

BATCH_SIZES = [1, 4, 16, 64, 256, 1024]
N_FOLDS, N_REPEATS = 5, 2


def compare(X, y, batch_sizes):
    """Cross-validate each batch size."""
    pipeline = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(random_state=0))
    cv = RepeatedStratifiedKFold(n_splits=N_FOLDS, n_repeats=N_REPEATS, random_state=0)
    return batch_size_curve(pipeline, X, y, batch_sizes=batch_sizes, cv=cv)


def print_table(curve):
    """Print one row for each batch size, and which ones do not differ from the best by more than noise."""
    accuracy, seconds = curve.test_scores, curve.fit_seconds.mean(axis=1)
    print(f"{'batch size':>10}  {'accuracy':>15}  {'seconds':>8}  {'passes':>7}  {'updates':>8}")
    for i, batch_size in enumerate(curve.batch_sizes):
        score = f"{accuracy[i].mean():.4f} ± {accuracy[i].std(ddof=1):.4f}"
        passes, updates = curve.epochs[i].mean(), curve.n_updates[i].mean()
        print(f"{batch_size:>10}  {score:>15}  {seconds[i]:>8.3f}  {passes:>7.1f}  {updates:>8.0f}")
    print(f"\nBest mean accuracy: batch size {curve.best_batch_size}.")
    as_good = ", ".join(map(str, curve.batch_sizes[curve.as_good_as_best()]))
    print(f"Not to be told from it at a level of 95 %: {as_good}.")


def draw(curve):
    """Draw accuracy, passes and seconds against the batch size."""
    batch_sizes, passes = curve.batch_sizes, curve.epochs
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    blue, grey = "#1f5fa8", "#9db4cf"
    style = {"fmt": "o-", "color": blue, "capsize": 3}

    accuracy = 100 * curve.test_scores
    splits = axes[0].plot(batch_sizes, accuracy, "o", color=grey, markersize=3.5, zorder=1)
    mean = axes[0].errorbar(batch_sizes, accuracy.mean(axis=1), accuracy.std(axis=1, ddof=1), zorder=2, **style)
    axes[0].set(title="Score", ylabel="test accuracy (%)")

    axes[1].errorbar(batch_sizes, passes.mean(axis=1), passes.std(axis=1, ddof=1), **style)
    axes[1].set(title="Convergence", ylabel="passes over the data")

    axes[2].plot(batch_sizes, 1000 * curve.fit_seconds.mean(axis=1), "o-", color=blue)
    axes[2].set(title="Cost", ylabel="mean time of one fit (ms)")

    for ax in axes[1:]:
        ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.set_xticks(batch_sizes, [str(b) for b in batch_sizes])
        ax.set_xlabel("batch size (rows)")
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(
        [mean, splits[0]],
        ["mean ± standard deviation over the splits", "one split"],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    return figure


def main():
    """Compare, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("compare_batch_sizes.png"), help="the figure to write")
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    print(f"digits: {X.shape[0]} rows, {X.shape[1]} features, {len(np.unique(y))} classes")
    print(f"{N_FOLDS}-fold cross-validation, repeated {N_REPEATS} times\n")
    curve = compare(X, y, BATCH_SIZES)
    print_table(curve)
    draw(curve).savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
