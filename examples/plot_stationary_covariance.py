"""In which directions does SGD wander around the minimum? Not most in the flat ones: their gradients have little noise.

Least squares on the labels of the breast cancer data of scikit-learn, with a little l2 penalty and a constant step, batches
of four rows drawn with replacement. Around the minimum the parameters have, along each eigenvector of the Hessian with
eigenvalue lambda, the variance eta c / (b lambda (2 - eta lambda)), where c is the variance of the gradient of one row in
that direction. If the noise were alike in all directions, the flattest would wander most, by far. But the noise of real
gradients is larger where the objective is more curved: without a penalty c would be about proportional to lambda, and the
variance about the same everywhere; the penalty adds curvature without noise, so that flat directions wander least.
`stationary_covariance` predicts each of these variances, with the noise that comes in addition where the parameters are off
the minimum, a tenth here; the points are those of the parameters along a run.

Usage: python examples/plot_stationary_covariance.py [--output plot_stationary_covariance.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDRegressor
from skminibatch.diagnostics import stationary_covariance

RATE, BATCH_SIZE, ALPHA = 0.01, 4, 0.05
STEPS, N_VISITS = 500, 1_200  # between two looks at the parameters, and how many looks
BURN_IN = 40  # looks


def minimum(X, y):
    """Parameters of the minimum, the intercept last, and the Hessian."""
    rows = np.column_stack([X, np.ones(len(X))])
    hessian = rows.T @ rows / len(X) + ALPHA * np.diag([1.0] * X.shape[1] + [0.0])
    return np.linalg.solve(hessian, rows.T @ y / len(X)), hessian


def visited(regressor, X, y, rng):
    """Parameters along a run, the intercept last (N_VISITS, d + 1)."""
    visits = []
    for _ in range(BURN_IN + N_VISITS):
        rows = rng.integers(len(X), size=STEPS * BATCH_SIZE)
        regressor.partial_fit(X[rows], y[rows])
        visits.append(np.append(regressor.coef_, regressor.intercept_))
    return np.array(visits[BURN_IN:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("plot_stationary_covariance.png"), help="where the figure goes"
    )
    output = parser.parse_args().output

    X, y = load_breast_cancer(return_X_y=True)
    X, y = scale(X), scale(y.astype(float))
    best, hessian = minimum(X, y)
    regressor = MiniBatchSGDRegressor(
        solver="sgd", learning_rate="constant", eta0=RATE, batch_size=BATCH_SIZE, alpha=ALPHA, sampler="sequential",
        max_iter=1, tol=None,
    )  # fmt: skip
    regressor.fit(X, y, coef_init=best[:-1], intercept_init=best[-1])
    visits = visited(regressor, X, y, np.random.default_rng(0))
    regressor.coef_[:], regressor.intercept_[:] = best[:-1], best[-1]
    predicted = stationary_covariance(regressor, X, y, learning_rate=RATE, batch_size=BATCH_SIZE)

    values, vectors = np.linalg.eigh(hessian)
    values, vectors = values[::-1], vectors[:, ::-1]
    measured = np.mean(((visits - best) @ vectors) ** 2, axis=0)
    alike = RATE * predicted.noise.mean() / (BATCH_SIZE * values * (2.0 - RATE * values))

    print(
        f"{'eigenvalue':>10}  {'noise c':>8}  {'predicted variance':>18}  {'measured':>9}  {'if noise were alike':>19}"
    )
    for row in zip(values, predicted.noise, predicted.variances, measured, alike, strict=True):
        print("{:>10.4f}  {:>8.4f}  {:>18.2e}  {:>9.2e}  {:>19.2e}".format(*row))
    excess = np.mean(np.einsum("vi,ij,vj->v", visits - best, hessian, visits - best)) / 2.0
    print(f"measured over predicted variance: median {np.median(measured / predicted.variances):.2f}, ", end="")
    print(f"from {np.min(measured / predicted.variances):.2f} to {np.max(measured / predicted.variances):.2f}")
    print(f"excess of the objective: measured {excess:.5f}, predicted {predicted.excess_loss:.5f}")

    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.loglog(values, alike, color="0.6", linestyle="--", label="if the noise were alike in all directions")
    axes.loglog(values, predicted.variances, color="C0", label="predicted")
    axes.loglog(values, measured, "o", color="C1", markersize=5, label=f"measured in {STEPS * N_VISITS:,} steps")
    axes.set(
        xlabel=r"curvature: eigenvalue $\lambda$ of the Hessian",
        ylabel="variance of the parameters",
        title="Flat directions are quiet, since their gradients are",
    )
    axes.legend(frameon=False)
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
