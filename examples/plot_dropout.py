"""What does dropout do to the largest rate? Its noise is a penalty with a curvature of its own, which shortens the steps.

Left: least squares on the standardised diabetes data of scikit-learn, where each feature of each row is kept with the
probability q and then divided by q, anew in every step. In the mean, the loss of such rows is that of the rows as they are plus
the penalty (1 - q) / q sum_j D_jj w_j^2 / 2, where D is the diagonal of H = X' X / n (Wager, Wang and Liang 2013): a ridge.
So the mean of gradient descent is stable up to the rate 2 / lambda_max(H + (1 - q) / q D), less the more is dropped, and the
average of the iterates is that ridge. Dotted lines are these limits, which the curves reach or nearly reach: with dropout they
rise a little before, since the noise of the masks grows with the rate too (without, what is left is the way still to go).

Right: a network on the digits, whose hidden units are dropped (`dropout=1 - q`), after as many steps at each rate. The same
happens where much is dropped: with q = 0.2 the rates that work end well before those of q = 1. With half of the units they
end at about the same place: what stops a network is the curvature of its first steps, not that of a minimum, which the formula
is about. Who drops much should look for the rate again.

Usage: python examples/plot_dropout.py [--output plot_dropout.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDRegressor

KEPT = [1.0, 0.7, 0.3]
N_STEPS = 300
RATES = np.geomspace(0.05, 0.8, 12)
NETWORK_KEPT, NETWORK_RATES = [1.0, 0.5, 0.2], np.geomspace(0.1, 2.4, 10)


def masked(X, kept, n_copies, rng):
    """Copies of the rows, one below the other, whose features are kept with a probability and divided by it."""
    rows = np.tile(X, (n_copies, 1))
    return rows * (rng.random(rows.shape) < kept) / kept


def ridge(X, y, kept):
    """Minimum of the mean loss of masked rows, and its Hessian."""
    hessian = X.T @ X / len(X)
    hessian += (1.0 - kept) / kept * np.diag(np.diag(hessian))
    return np.linalg.solve(hessian, X.T @ y / len(X)), hessian


def regressor(rate, n_rows, **settings):
    """Gradient descent whose steps take `n_rows` rows each, in order."""
    return MiniBatchSGDRegressor(
        penalty=None, fit_intercept=False, solver="sgd", learning_rate="constant", eta0=rate, sampler="sequential",
        batch_size=n_rows, max_iter=1, tol=None, random_state=0, **settings,
    )  # fmt: skip


def excess(coef, X, y, kept):
    """Mean loss of masked rows minus its minimum, relative to what it is for coefficients of zero."""
    best, hessian = ridge(X, y, kept)
    return (coef - best) @ hessian @ (coef - best) / (best @ hessian @ best)


def excess_of_descent(X, y, kept, rate, rng):
    """The excess where gradient descent with masks ends."""
    rows = masked(X, kept, N_STEPS, rng)
    try:
        return excess(regressor(rate, len(X)).fit(rows, np.tile(y, N_STEPS)).coef_, X, y, kept)
    except ValueError:  # overflow
        return np.inf


def error_of_network(kept, rate, seed):
    """Test error of a network of 100 units on a few digits, after as many steps at every rate."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16.0, y, train_size=400, stratify=y, random_state=seed)
    classifier = MiniBatchMLPClassifier(
        hidden_layer_sizes=(100,), dropout=1.0 - kept, solver="sgd", momentum=0.0, learning_rate_init=rate,
        batch_size=50, max_iter=60, tol=None, random_state=seed,
    )  # fmt: skip
    try:
        return 1.0 - classifier.fit(X, y).score(X_test, y_test)
    except ValueError:  # overflow
        return 0.9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_dropout.png"), help="where the figure goes")
    output = parser.parse_args().output

    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X), scale(y)
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    print(
        "least squares: largest stable rate, and of the average of the iterates the distance from the ridge and from the"
    )
    print("coefficients without dropout, relative to their lengths")
    print(f"{'q':>4}  {'2 / lambda_max':>14}  {'from the ridge':>14}  {'from those without':>18}")
    for i, kept in enumerate(KEPT):
        rng = np.random.default_rng(i)
        best, hessian = ridge(X, y, kept)
        limit = 2.0 / np.linalg.eigvalsh(hessian)[-1]
        cells = ""
        if kept < 1.0:
            rows = masked(X, kept, 4 * N_STEPS, rng)
            mean = regressor(0.2 * limit, len(X), average=len(rows) // 4).fit(rows, np.tile(y, 4 * N_STEPS)).coef_
            off = [np.linalg.norm(mean - w) / np.linalg.norm(w) for w in (best, ridge(X, y, 1.0)[0])]
            cells = f"  {off[0]:>14.3f}  {off[1]:>18.3f}"
        print(f"{kept:>4}  {limit:>14.3f}{cells}", flush=True)
        ends = np.array([excess_of_descent(X, y, kept, rate, rng) for rate in RATES.tolist()])
        left.loglog(RATES, np.minimum(ends, 1e9), f"C{i}o-", label=f"q = {kept:g}")
        left.axvline(limit, color=f"C{i}", linestyle=":")
    left.set(ylim=(1e-5, 1e2), xlabel="rate", ylabel="excess of the mean loss, relative")
    left.set_title(r"Least squares: a limit of $2 / \lambda_{max}(H + \frac{1 - q}{q} D)$")
    left.legend(frameon=False)

    print("network: rate of the least test error, and the largest one within two points of it")
    for i, kept in enumerate(NETWORK_KEPT):
        runs = [[error_of_network(kept, rate, seed) for seed in range(2)] for rate in NETWORK_RATES.tolist()]
        errors = np.mean(runs, axis=1)
        good = NETWORK_RATES[errors <= errors.min() + 0.02]
        print(f"{kept:>4}  {NETWORK_RATES[errors.argmin()]:>8.2f}  {good[-1]:>8.2f}", flush=True)
        right.semilogx(NETWORK_RATES, 100.0 * errors, f"C{'036'[i]}o-", label=f"q = {kept:g}")
    right.set(ylim=(0, 30), xlabel="rate", ylabel="test error in %", title="A network: shorter where much is dropped")
    right.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    right.minorticks_off()
    right.legend(frameon=False)
    left.set_xticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
    left.minorticks_off()
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
