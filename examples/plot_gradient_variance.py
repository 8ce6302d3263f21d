"""Does a larger batch make the gradient less noisy? As far as its rows are independent.

The handwritten digits of scikit-learn, softmax regression at its start. Batches of random rows have a gradient of variance
sigma^2 / b (n - b) / (n - 1); batches of rows that are alike, here drawn from one of 100 clusters of images, have
sigma^2 (1 + (b - 1) rho) / b, which falls no further beyond 1 / rho rows. The curves are those of `gradient_variance` and
`intra_batch_correlation`; the points are the mean squared error of the gradients of batches that were drawn.

Usage: python examples/plot_gradient_variance.py [--output plot_gradient_variance.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDClassifier
from skminibatch.diagnostics import gradient_variance, intra_batch_correlation

BATCH_SIZES = 2 ** np.arange(8)
N_DRAWN = 2000


def gradients_at_the_start(X, y):
    """Gradients of the rows (n, 10 * 65): every class has the probability 1 / 10."""
    rows = np.column_stack([X, np.ones(len(X))])
    return ((0.1 - np.eye(10)[y])[:, :, None] * rows[:, None, :]).reshape(len(X), -1)


def measured(gradients, clusters, rng):
    """Mean squared errors of the gradients of batches of random rows, and of rows of the cluster of a random row."""
    gradient, n = gradients.mean(axis=0), len(gradients)
    members = [np.flatnonzero(clusters == k) for k in clusters]

    def error(rows):
        return np.sum((gradients[rows].mean(axis=0) - gradient) ** 2)

    errors = np.zeros((2, len(BATCH_SIZES)))
    for i, b in enumerate(BATCH_SIZES):
        errors[0, i] = np.mean([error(rng.choice(n, b, replace=False)) for _ in range(N_DRAWN)])
        errors[1, i] = np.mean([error(rng.choice(members[rng.integers(n)], b)) for _ in range(N_DRAWN)])
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_gradient_variance.png"), help="where the figure goes")
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    X = scale(X)
    start = MiniBatchSGDClassifier(learning_rate="constant", eta0=0.01)  # an explicit rate leaves features as they are
    independent = gradient_variance(start, X, y, batch_sizes=BATCH_SIZES)
    clusters = KMeans(100, n_init=1, random_state=0).fit_predict(X)
    correlated = intra_batch_correlation(start, X, y, groups=clusters)
    curve = independent.trace_covariance * (1 + (BATCH_SIZES - 1) * correlated.rho) / BATCH_SIZES
    points = measured(gradients_at_the_start(X, y), clusters, np.random.default_rng(0))

    print(f"correlation within a cluster: rho = {correlated.rho:.3f}, so no gain beyond {1 / correlated.rho:.1f} rows")
    print(f"{'batch size':>10}  {'random rows':>11}  {'formula':>8}  {'alike':>9}  {'formula':>8}")
    columns = zip(BATCH_SIZES, points[0], independent.without_replacement, points[1], curve, strict=True)
    for b, random, formula, alike, formula_alike in columns:
        print(f"{b:>10}  {random:>11.4f}  {formula:>8.4f}  {alike:>9.4f}  {formula_alike:>8.4f}")

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(BATCH_SIZES, points[1], "o", color="C1")
    axes.loglog(BATCH_SIZES, curve, color="C1", label=r"rows that are alike: $\sigma^2 (1 + (b - 1) \rho) / b$")
    axes.loglog(BATCH_SIZES, points[0], "o", color="C0")
    axes.loglog(
        BATCH_SIZES,
        independent.without_replacement,
        color="C0",
        label=r"random rows: $\sigma^2 / b \cdot (n - b) / (n - 1)$",
    )
    axes.set(
        xlabel="batch size b",
        ylabel="variance of the gradient of a batch",
        title="Rows that are alike do not average out (points: measured)",
    )
    axes.set_xticks(BATCH_SIZES, [str(b) for b in BATCH_SIZES])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
