"""From which strata should the rows of a batch come, and how many of each? From where the gradients differ most.

Logistic regression on the handwritten digits of scikit-learn: is it an eight? The strata are the ten digits. The gradients of
the eights, a tenth of the rows, are large and differ, and so do those of the digits that look like an eight; those of the
others are small. Rows drawn in proportion ('stratified') only remove the noise of how often each stratum is met. Neyman's
allocation, n_k ~ W_k s_k with the share W_k of a stratum and the deviation s_k of its gradients, gives the least variance,
(sum_k W_k s_k)^2 / b: here less than half of that of uniform draws. `sampler='neyman'` learns the s_k during training.

Left: the variance of the gradient of a batch where training stands after some passes; the curves are the formulas, the points
those of the batches that the samplers draw there (a pass over them with a rate of nearly zero). Right: with a large rate the
objective comes to rest where the noise holds it, Neyman's lowest. With a small rate the batches of a whole epoch act together,
and those of a shuffled order add up to all rows: then a simple 'shuffle' is as good (printed below).

Usage: python examples/plot_neyman.py [--output plot_neyman.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDClassifier

ALPHA, BATCH_SIZE = 0.03, 40
LARGE, SMALL = 0.5, 0.1  # rates
PASSES = (1, 2, 4, 8, 16, 32)
N_EPOCHS, N_RUNS = 40, 10
NAMES = {
    "replacement": "uniform, independent",
    "shuffle": "uniform, shuffled",
    "stratified": "stratified, in proportion",
    "neyman": "Neyman",
}
COLORS = dict(zip(NAMES, ("C7", "C0", "C1", "C2"), strict=True))


def fitted(sampler, X, y, digits, rate, **settings):
    """A classifier after training with a sampler at a constant rate."""
    start = {name: settings.pop(name) for name in ("coef_init", "intercept_init") if name in settings}
    classifier = MiniBatchSGDClassifier(
        solver="sgd", learning_rate="constant", eta0=rate, alpha=ALPHA, batch_size=BATCH_SIZE, sampler=sampler,
        tol=None, **settings,
    )  # fmt: skip
    strata = {"strata": digits} if sampler in ("stratified", "neyman") else {}
    return classifier.fit(X, y, **start, **strata)


def gradients(X, y, classifier):
    """Those of the loss of each row (n, d + 1)."""
    rows = np.column_stack([X, np.ones(len(X))])
    return (expit(classifier.decision_function(X)) - y)[:, None] * rows


def formulas(found, digits):
    """The variance of the gradient of a batch for uniform, stratified and Neyman's draws with replacement."""
    strata = [found[digits == k] for k in range(10)]
    shares = np.array([len(stratum) for stratum in strata]) / len(found)
    deviations = np.sqrt([np.sum(np.var(stratum, axis=0)) for stratum in strata])
    uniform = np.sum(np.var(found, axis=0))
    return np.array([uniform, shares @ deviations**2, (shares @ deviations) ** 2]) / BATCH_SIZE


def drawn(sampler, at, square_norm, X, y, digits):
    """The same from batches: their gradients have the mean square |G|^2 plus the variance."""
    start = {"coef_init": at.coef_, "intercept_init": at.intercept_}
    still = fitted(sampler, X, y, digits, 1e-12, max_iter=N_EPOCHS, random_state=0, **start)
    return np.mean(still.history_["gradient_norm"] ** 2) - square_norm


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_neyman.png"), help="where the figure goes")
    output = parser.parse_args().output

    X, digits = load_digits(return_X_y=True)
    X, y = scale(X), (digits == 8).astype(int)
    compared = ("replacement", "stratified", "neyman")
    theory, measured = [], []
    for n_epochs in PASSES:
        at = MiniBatchSGDClassifier(alpha=ALPHA, max_iter=n_epochs, tol=None, random_state=0).fit(X, y)
        found = gradients(X, y, at)
        square_norm = np.sum(found.mean(axis=0) ** 2)
        theory.append(formulas(found, digits))
        measured.append([drawn(sampler, at, square_norm, X, y, digits) for sampler in compared])
    theory, measured = np.array(theory), np.array(measured)

    print("variance of the gradient of a batch; in brackets: of the batches over the formula")
    print(f"{'passes':>6}" + "".join(f"  {NAMES[sampler]:>26}" for sampler in compared) + "  Neyman / uniform")
    for n_epochs, formula, batches in zip(PASSES, theory, measured, strict=True):
        cells = [f"{f:.4f} ({m / f:.2f})" for f, m in zip(formula, batches, strict=True)]
        print(f"{n_epochs:>6}" + "".join(f"  {cell:>26}" for cell in cells) + f"  {batches[2] / batches[0]:>16.2f}")

    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, sampler in enumerate(compared):
        left.semilogx(PASSES, theory[:, i], color=COLORS[sampler], label=NAMES[sampler])
        left.semilogx(PASSES, measured[:, i], "o", color=COLORS[sampler])
    left.set(
        xlabel="passes before", ylabel="variance of the gradient of a batch", title="Less than half the variance ..."
    )
    left.set_xticks(PASSES, [str(n_epochs) for n_epochs in PASSES])
    left.minorticks_off()
    left.set_ylim(0, None)

    best = LogisticRegression(C=1.0 / (ALPHA * len(X)), tol=1e-10).fit(X, y)  # the same objective
    minimum = log_loss(y, best.predict_proba(X)) + ALPHA / 2.0 * np.sum(best.coef_**2)
    print(f"\nobjective minus its minimum in the last of {N_EPOCHS} passes")
    for sampler, name in NAMES.items():
        ends = []
        for rate in (LARGE, SMALL):
            runs = [
                fitted(sampler, X, y, digits, rate, max_iter=N_EPOCHS, random_state=seed).loss_curve_
                for seed in range(N_RUNS)
            ]
            curve = np.mean(runs, axis=0) - minimum
            ends.append(f"rate {rate}: {curve[-10:].mean():.5f}")
            if rate == LARGE:
                right.semilogy(np.arange(1, N_EPOCHS + 1), curve, color=COLORS[sampler], label=name)
        print(f"{name:>26}  " + "   ".join(ends))
    right.set(xlabel="passes over the data", ylabel="objective minus its minimum", title="... and a lower objective")
    for axes in (left, right):
        axes.legend(frameon=False)
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
