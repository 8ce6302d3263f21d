"""Do large batches generalise worse, and is sharpness to blame? The gap needs wrong labels; the sharpness differs anyway.

A network of 64 hidden units on 300 of the handwritten digits of scikit-learn, plain SGD with one rate for all, trained until
the training loss is as low for every batch size. Then the largest eigenvalue of the Hessian of the training loss, and the
error on the other 1497 digits, on the same labels and from the same initial weights for all batch sizes (each line is one
such run).

With a fifth of the training labels drawn at random, small batches end in flatter places and make fewer errors on new digits:
the generalization gap (Keskar et al. 2017). With clean labels they end in flatter places all the same, but make no fewer
errors: flat and good go together in the first case, but sharpness alone does not make a network worse.

Usage: python examples/plot_generalization_gap.py [--output plot_generalization_gap.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from skminibatch import MiniBatchMLPClassifier
from skminibatch.diagnostics import hessian_eigenvalues

N_ROWS, RATE, LOSS = 300, 0.1, 0.05
BATCH_SIZES = [4, 16, 64]
N_RUNS, LONGEST = 3, 20_000  # epochs


def problem(share, seed):
    """(X, X_test, y, y_test); a share of the labels in y is drawn at random."""
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    X, y = X[order] / 16.0, y[order]
    wrong = rng.random(N_ROWS) < share
    given = np.where(wrong, rng.integers(10, size=N_ROWS), y[:N_ROWS])
    return X[:N_ROWS], X[N_ROWS:], given, y[N_ROWS:]


def trained(X, y, batch_size, seed):
    """A network that has been trained down to the loss, looked at a few times while it falls by half."""
    network = MiniBatchMLPClassifier(
        hidden_layer_sizes=(64,), alpha=0.0, solver="sgd", momentum=0.0, learning_rate_init=RATE, batch_size=batch_size,
        warm_start=True, tol=None, random_state=seed,
    )  # fmt: skip
    done = 0
    while done < LONGEST:
        more = max(1, done // 20)
        network.set_params(max_iter=more, random_state=seed + done).fit(X, y)
        done += more
        if log_loss(y, network.predict_proba(X), labels=network.classes_) <= LOSS:
            return network
    raise RuntimeError(f"the training loss is above {LOSS} after {done} epochs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("plot_generalization_gap.png"), help="where the figure goes"
    )
    output = parser.parse_args().output

    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    head = f"{'random labels':>13}  {'batch size':>10}  {'sharpness':>9}  {'test error':>10}"
    print(f"{head}  more than b = {BATCH_SIZES[0]} (standard error)")
    for column, share in enumerate((0.2, 0.0)):
        errors, sharpness = np.empty((2, N_RUNS, len(BATCH_SIZES)))
        for run in range(N_RUNS):
            X, X_test, y, y_test = problem(share, run)
            for i, b in enumerate(BATCH_SIZES):
                network = trained(X, y, b, run)
                errors[run, i] = 100.0 * (1.0 - network.score(X_test, y_test))
                sharpness[run, i] = hessian_eigenvalues(network, X, y, k=1).eigenvalues[0]
        for i, b in enumerate(BATCH_SIZES):
            gap = errors[:, i] - errors[:, 0]
            cells = f"{sharpness[:, i].mean():>9.2f}  {errors[:, i].mean():>9.1f}%"
            print(
                f"{share:>13.0%}  {b:>10}  {cells}  {gap.mean():>+5.2f} ({gap.std(ddof=1) / np.sqrt(N_RUNS):.2f})",
                flush=True,
            )
        for axes, quantity in zip(panels[:, column], (sharpness, errors - errors[:, :1]), strict=True):
            axes.semilogx(BATCH_SIZES, quantity.T, color="C0", alpha=0.35, linewidth=0.8)
            axes.semilogx(BATCH_SIZES, quantity.mean(axis=0), "C0o-", linewidth=2.4)
            axes.minorticks_off()
        panels[0, column].set_title(f"{share:.0%} of the labels are random" if share else "clean labels")
        panels[1, column].set_xticks(BATCH_SIZES, map(str, BATCH_SIZES))
        panels[1, column].set_xlabel("batch size")
    panels[0, 0].set_ylabel("sharpness: largest eigenvalue")
    panels[1, 0].set_ylabel(f"test error in %, minus that of b = {BATCH_SIZES[0]}")
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
