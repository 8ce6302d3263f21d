"""A batch k times as large: should the rate be k times as large, or sqrt(k) times? It depends on what is to stay the same.

Softmax regression on the handwritten digits of scikit-learn, SGD with a constant rate that suits batches of 8 rows, and
`lr_scaling` for larger ones. A step moves by eta times a gradient of variance sigma^2 / b.

- 'linear' keeps eta / b. Progress and noise a row stay the same, so that the curves lie upon each other, first the fall and
  then the level where the noise holds the objective up. It breaks where a step is too long for the curvature, above
  2 / lambda_max, which no batch size changes: here with 512 rows.
- 'sqrt' keeps eta^2 sigma^2 / b, the variance of an update. It stays below that limit for longer. But eta / b falls as
  1 / sqrt(k): with the same number of rows, training gets less far, and comes to rest at a lower level.

Neither is the more fundamental one. The signal-to-noise ratio of a step, |G| sqrt(b) / sigma, is the same with both: no
rate changes it.

Usage: python examples/plot_lr_scaling.py [--output plot_lr_scaling.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDClassifier
from skminibatch.diagnostics import hessian_eigenvalues

BASE, RATE, ALPHA = 8, 0.1, 0.01
BATCH_SIZES = BASE * 4 ** np.arange(4)
N_EPOCHS, N_RUNS, N_UPDATES = 40, 3, 100
LAST = slice(-10, None)  # passes


def classifier(rule, batch_size, seed):
    return MiniBatchSGDClassifier(
        solver="sgd", learning_rate="constant", eta0=RATE, lr_scaling=rule, base_batch_size=BASE, alpha=ALPHA,
        batch_size=batch_size, sampler="replacement", max_iter=N_EPOCHS, tol=None, random_state=seed,
    )  # fmt: skip


def variance_of_an_update(rule, batch_size, X, y, rng):
    """Of the first one, from batches that are drawn with replacement."""
    updates = []
    for _ in range(N_UPDATES):
        rows = rng.integers(len(X), size=batch_size)
        first = classifier(rule, batch_size, 0).set_params(sampler="sequential")
        first.partial_fit(X[rows], y[rows], classes=np.arange(10))
        updates.append(np.append(first.coef_, first.intercept_))
    return np.sum(np.var(updates, axis=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_lr_scaling.png"), help="where the figure goes")
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    X, y = scale(X[:1536]), y[:1536]  # whole batches of every size
    best = MiniBatchSGDClassifier(alpha=ALPHA, max_iter=500, tol=1e-9, random_state=0).fit(X, y)
    curvature = hessian_eigenvalues(best, X, y, k=1).eigenvalues[0]
    rng = np.random.default_rng(0)

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"linear": r"'linear' keeps $\eta / b$", "sqrt": r"'sqrt' keeps $\eta^2 \sigma^2 / b$"}
    print(f"largest stable rate at the minimum, 2 / lambda_max: {2.0 / curvature:.2f}")
    print("variance of an update: over that with 8 rows; objective: minus its minimum")
    print(f"{'rule':>6}  {'batch size':>10}  {'rate':>5}  {'variance':>8}  {'after 1 pass':>12}  {'last passes':>11}")
    for axes, (rule, title) in zip(panels, titles.items(), strict=True):
        variances = [variance_of_an_update(rule, b, X, y, rng) for b in BATCH_SIZES.tolist()]
        for i, b in enumerate(BATCH_SIZES.tolist()):
            fits = [classifier(rule, b, seed).fit(X, y) for seed in range(N_RUNS)]
            curve = np.mean([fit.loss_curve_ for fit in fits], axis=0) - best.best_loss_
            variance, last = variances[i] / variances[0], curve[LAST].mean()
            rate = fits[0].history_["rate"][-1]
            print(f"{rule:>6}  {b:>10}  {rate:>5.2f}  {variance:>8.2f}  {curve[0]:>12.4f}  {last:>11.4f}")
            shade = {"color": f"C{i}", "linewidth": 2.4 - 0.5 * i}
            axes.loglog(np.arange(1, N_EPOCHS + 1), curve, label=f"b = {b}, rate {rate:.3g}", **shade)
        axes.set(xlabel="passes over the data", title=title)
        axes.legend(frameon=False, loc="lower left")
        axes.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    panels[0].set_ylabel("objective minus its minimum")
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
