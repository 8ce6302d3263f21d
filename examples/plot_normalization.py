"""Which normalization survives small batches, and what does a hybrid one learn? Batch normalization is the one that fails.

Left: a network of 32 hidden units on the handwritten digits of scikit-learn, normalised before the activation; as many steps
of Adam at the same rate with every batch size, up to all rows at once. Batch normalization gives each unit mean zero and
variance one over the batch. Of two rows, it leaves nothing of a unit but which row has more of it, and predictions are made
by running statistics that training has never seen. Ghost normalization, here of 8 rows, is batch normalization of parts of a
batch: it cannot help where the batch itself is small, and keeps the noise of small batches in large ones. Layer and group
normalization pool the units of a row and never two rows, so that any batch size will do. The hybrid interpolates between the
statistics of the batch and of the row by alpha, which it learns by gradient descent with everything else.

Right: the alpha that it learns. In a hidden layer, whose units are much alike, the statistics of a row are about as good as
those of the batch and less noisy: alpha stays low at every batch size, and tells little. Where only the statistics of the
batch are of use it is another thing: softmax regression on the same digits, each pixel with a scale and an offset of its own,
which a normalization of the input (`normalize_input=True`) can undo by the statistics of the batch only. There alpha is close
to zero where batches are small and close to one where they are large.

Usage: python examples/plot_normalization.py [--output plot_normalization.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skminibatch import MiniBatchMLPClassifier
from skminibatch.layers import GhostNorm

N_ROWS = 448  # for training; a multiple of every batch size
BATCH_SIZES = [2, 4, 8, 32, 112, 448]
NORMALIZATIONS = {
    "batch": "batch",
    "ghost of 8 rows": GhostNorm(8),
    "layer": "layer",
    "group": "group",
    "hybrid": "hybrid",
}
RATE, N_STEPS, N_RUNS = 0.003, 896, 2  # whole epochs of every batch size


def digits(seed):
    """Training and test rows (X, X_test, y, y_test)."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16.0, y, train_size=N_ROWS, stratify=y, random_state=seed)


def distorted_digits(seed):
    """The same with a random scale and a random offset of each pixel."""
    X, X_test, y, y_test = digits(seed)
    rng = np.random.default_rng(seed)
    scale, offset = np.exp(0.5 * rng.standard_normal(X.shape[1])), 0.5 * rng.standard_normal(X.shape[1])
    return X * scale + offset, X_test * scale + offset, y, y_test


def fitted(normalization, batch_size, rows, seed, hidden=(), rate=RATE, n_steps=N_STEPS):
    """(error on the test rows, the first normalization) of a network; without hidden layers, that of the input."""
    X, X_test, y, y_test = rows
    classifier = MiniBatchMLPClassifier(
        hidden_layer_sizes=hidden, normalization=normalization, normalize_input=not hidden, learning_rate_init=rate,
        batch_size=batch_size, max_iter=round(n_steps * batch_size / len(X)), tol=None, random_state=seed,
    ).fit(X, y)  # fmt: skip
    return 1.0 - classifier.score(X_test, y_test), next(found for found in classifier.normalizations_ if found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_normalization.png"), help="where the figure goes")
    output = parser.parse_args().output

    errors = {name: [] for name in NORMALIZATIONS}
    alphas = {"of a hidden layer": [], "of the input, distorted": []}
    print(f"test error in % (mean of {N_RUNS} runs), and alpha of the hybrid")
    print(f"{'batch size':>10}  " + "  ".join(f"{name:>15}" for name in NORMALIZATIONS) + "  " + "  ".join(alphas))
    for b in BATCH_SIZES:
        for name, normalization in NORMALIZATIONS.items():
            found = [fitted(normalization, b, digits(seed), seed, hidden=(32,)) for seed in range(N_RUNS)]
            errors[name].append([100.0 * error for error, _ in found])
        of_input = [fitted("hybrid", b, distorted_digits(seed), seed) for seed in range(N_RUNS)]
        for name, runs in zip(alphas, (found, of_input), strict=True):
            alphas[name].append([learnt["alpha"][0] for _, learnt in runs])
        cells = "  ".join(f"{np.mean(errors[name][-1]):>15.1f}" for name in NORMALIZATIONS)
        print(
            f"{b:>10}  {cells}  " + "  ".join(f"{np.mean(alphas[name][-1]):>{len(name)}.2f}" for name in alphas),
            flush=True,
        )

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(NORMALIZATIONS):
        style = {"color": f"C{i}", "marker": "os^vD"[i], "linewidth": 2.4 if name in ("batch", "hybrid") else 1.2}
        left.loglog(BATCH_SIZES, np.mean(errors[name], axis=1), label=name, **style)
    left.set(ylabel="test error in %", title="Batch normalization breaks where batches are small")
    left.set_yticks([2, 5, 10, 20], ["2", "5", "10", "20"])
    left.legend(frameon=False)
    for name, color in zip(alphas, ("C4", "C5"), strict=True):
        right.semilogx(BATCH_SIZES, np.mean(alphas[name], axis=1), color=color, marker="D", label=name)
        right.semilogx(np.repeat(BATCH_SIZES, N_RUNS), np.ravel(alphas[name]), ".", color="0.3", markersize=3)
    right.set(ylim=(-0.03, 1.03), ylabel=r"$\alpha$, the share of the batch", title="What the hybrid learns")
    right.legend(frameon=False, loc="center right")
    for axes in (left, right):
        axes.minorticks_off()
        axes.set_xticks(BATCH_SIZES, [str(b) for b in BATCH_SIZES])
        axes.set_xlabel("batch size")
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
