"""Why does SGD with a constant step stop improving, and what helps? It wanders in a ball as large as its step.

Least squares on the diabetes data of scikit-learn, whitened so that every direction has the same curvature, one row a step,
drawn with replacement. With a constant step the objective comes to rest above its minimum by about eta tr(C) / (4 b), where
C is the covariance of the gradient of one row at the minimum: half the step, half the excess, and twice the time to get
there. Two ways out. A step that falls as 1 / sqrt(k + 1) shrinks the ball with it: the excess follows the formula with the
step of the moment. The mean of the iterates of a constant step (average=True) has an excess of about tr(C) / (2 b k) after
k rows, whatever the step: that of the best estimate from so many random rows (Polyak and Juditsky 1992).

The formula is one for small steps. For larger ones the ball is larger, since the residuals of a parameter that is off are
larger too; the dashed lines are the exact values, from the linear equation that the second moment of the error obeys.

Usage: python examples/plot_noise_ball.py [--output plot_noise_ball.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDRegressor

STEPS = 0.016 / 2.0 ** np.arange(4)
DECAYING = 0.1
N_EPOCHS, N_RUNS = 100, 10
SETTLED = slice(N_EPOCHS // 2, None)


class LeastSquares:
    """The rows, the minimum of the mean squared error over two, and the noise of gradients there."""

    def __init__(self, X, y):
        self.X, self.y = X, y
        self.rows = np.column_stack([X, np.ones(len(X))])
        residuals = self.rows @ np.linalg.lstsq(self.rows, y)[0] - y
        self.minimum = np.mean(residuals**2) / 2.0
        self.hessian = self.rows.T @ self.rows / len(X)
        self.noise = (self.rows.T * residuals**2) @ self.rows / len(X)

    def excess(self, n_epochs=N_EPOCHS, n_runs=N_RUNS, **settings):
        """Objective minus its minimum after each epoch (n_runs, n_epochs)."""
        curves = []
        for seed in range(n_runs):
            regressor = MiniBatchSGDRegressor(
                penalty=None, solver="sgd", sampler="replacement", batch_size=1, max_iter=n_epochs, tol=None,
                random_state=seed, **settings,
            )  # fmt: skip
            curves.append(regressor.fit(self.X, self.y).loss_curve_ - self.minimum)
        return np.array(curves)

    def small_ball(self, step):
        """``eta tr(C) / 4``, the excess of small steps with one row each."""
        return step * np.trace(self.noise) / 4.0

    def ball(self, step):
        """The excess of any step: M, the second moment of the error, obeys H M + M H = eta (E[x x' M x x'] + C)."""
        d = len(self.hessian)
        outer = np.einsum("ni,nj->nij", self.rows, self.rows).reshape(-1, d * d)
        identity = np.eye(d)
        drift = np.kron(self.hessian, identity) + np.kron(identity, self.hessian)
        spread = outer.T @ outer / len(outer)  # E x_i x_j x_k x_l, alike in every order of its indices
        moment = np.linalg.solve(drift - step * spread, step * self.noise.ravel()).reshape(d, d)
        return np.sum(self.hessian * moment) / 2.0


def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return LeastSquares(scale(PCA().fit_transform(X)), scale(y))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_noise_ball.png"), help="where the figure goes")
    output = parser.parse_args().output

    problem = diabetes()
    k = len(problem.X) * np.arange(1, N_EPOCHS + 1)
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()

    print(f"{'constant step':>13}  {'excess':>8}  {'exact':>8}  {'eta tr(C) / 4':>13}  {'over half the step':>18}")
    balls = [problem.excess(learning_rate="constant", eta0=step).mean(axis=0) for step in STEPS]
    for i, (step, curve) in enumerate(zip(STEPS, balls, strict=True)):
        at_rest, ratio = curve[SETTLED].mean(), ""
        if i + 1 < len(STEPS):
            ratio = f"{at_rest / balls[i + 1][SETTLED].mean():.2f}"
        print(
            f"{step:>13}  {at_rest:>8.5f}  {problem.ball(step):>8.5f}  {problem.small_ball(step):>13.5f}  {ratio:>18}"
        )
        shade = {"color": "C0", "alpha": 1.0 - 0.22 * i}
        axes.loglog(k, curve, **shade, label=f"constant step {step:g}")
        axes.axhline(problem.ball(step), **shade, linestyle="--", linewidth=0.8)

    decaying = problem.excess(learning_rate="invscaling", eta0=DECAYING, power_t=0.5).mean(axis=0)
    ratio = np.mean(decaying[SETTLED] / problem.small_ball(DECAYING / np.sqrt(k[SETTLED])))
    print(f"step {DECAYING:g} / sqrt(k + 1): {ratio:.2f} times the formula with the step of the moment")
    axes.loglog(k, decaying, color="C1", label=rf"step {DECAYING:g} / $\sqrt{{k + 1}}$")

    averaged = problem.excess(learning_rate="constant", eta0=STEPS[0], average=True).mean(axis=0)
    ratio = np.mean((k * averaged)[SETTLED]) / (np.trace(problem.noise) / 2.0)
    print(f"mean of the iterates of the step {STEPS[0]:g}: {ratio:.2f} times tr(C) / (2 k)")
    axes.loglog(k, averaged, color="C2", label=f"constant step {STEPS[0]:g}, averaged")

    axes.set(
        xlabel="rows seen k",
        ylabel="objective minus its minimum",
        title="A constant step comes to rest in a ball as large as the step",
    )
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
