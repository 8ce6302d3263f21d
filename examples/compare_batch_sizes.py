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
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchSGDClassifier

BATCH_SIZES = [1, 4, 16, 64, 256, 1024]
N_FOLDS, N_REPEATS = 5, 2


def accuracy_and_effort(pipeline, X, y):
    """Score a fitted pipeline, and read what its fit took."""
    classifier = pipeline[-1]
    return {
        "accuracy": pipeline.score(X, y),
        "passes": classifier.n_iter_,
        "updates": classifier.n_updates_,
    }


def compare(X, y, batch_sizes):
    """Cross-validate each batch size; return an array of shape (batch sizes, splits) for each quantity."""
    pipeline = make_pipeline(StandardScaler(), MiniBatchSGDClassifier(random_state=0))
    pipeline.fit(X, y)  # compiles the kernels, so that no timed fit has to
    search = GridSearchCV(
        pipeline,
        {"minibatchsgdclassifier__batch_size": batch_sizes},
        scoring=accuracy_and_effort,
        refit="accuracy",
        cv=RepeatedStratifiedKFold(n_splits=N_FOLDS, n_repeats=N_REPEATS, random_state=0),
    )
    results = search.fit(X, y).cv_results_
    splits = range(search.n_splits_)
    measured = {
        name: np.column_stack([results[f"split{split}_test_{name}"] for split in splits])
        for name in ("accuracy", "passes", "updates")
    }
    return measured | {"seconds": results["mean_fit_time"]}


def print_table(batch_sizes, measured):
    """Print one row for each batch size, and which ones do not differ from the best by more than noise."""
    accuracy = measured["accuracy"]
    print(f"{'batch size':>10}  {'accuracy':>15}  {'seconds':>8}  {'passes':>7}  {'updates':>8}")
    for i, batch_size in enumerate(batch_sizes):
        score = f"{accuracy[i].mean():.4f} ± {accuracy[i].std(ddof=1):.4f}"
        passes, updates = measured["passes"][i].mean(), measured["updates"][i].mean()
        print(f"{batch_size:>10}  {score:>15}  {measured['seconds'][i]:>8.3f}  {passes:>7.1f}  {updates:>8.0f}")

    best = accuracy.mean(axis=1).argmax()
    behind = accuracy[best] - accuracy  # in the same split
    # The splits share rows: the variance of their mean needs the correction of Nadeau and Bengio (2003),
    # https://doi.org/10.1023/A:1024068626366, with the ratio of test to training rows.
    n_splits = accuracy.shape[1]
    standard_error = behind.std(axis=1, ddof=1) * np.sqrt(1 / n_splits + 1 / (N_FOLDS - 1))
    as_good = behind.mean(axis=1) <= 2 * standard_error
    print(f"\nBest mean accuracy: batch size {batch_sizes[best]}.")
    print(
        "Behind it by no more than two standard errors of the difference: "
        + ", ".join(str(b) for b, good in zip(batch_sizes, as_good, strict=True) if good)
        + "."
    )


def draw(batch_sizes, measured):
    """Draw accuracy, passes and seconds against the batch size."""
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    blue, grey = "#1f5fa8", "#9db4cf"
    style = {"fmt": "o-", "color": blue, "capsize": 3}

    accuracy = 100 * measured["accuracy"]
    splits = axes[0].plot(batch_sizes, accuracy, "o", color=grey, markersize=3.5, zorder=1)
    mean = axes[0].errorbar(batch_sizes, accuracy.mean(axis=1), accuracy.std(axis=1, ddof=1), zorder=2, **style)
    axes[0].set(title="Score", ylabel="test accuracy (%)")

    passes = measured["passes"]
    axes[1].errorbar(batch_sizes, passes.mean(axis=1), passes.std(axis=1, ddof=1), **style)
    axes[1].set(title="Convergence", ylabel="passes over the data")

    axes[2].plot(batch_sizes, 1000 * measured["seconds"], "o-", color=blue)
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
    measured = compare(X, y, BATCH_SIZES)
    print_table(BATCH_SIZES, measured)
    draw(BATCH_SIZES, measured).savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
