"""How long does SGD stay at a saddle, if its batches grow? Longer by the same number of steps with each doubling.

The estimators of this package are linear models, whose objectives have no saddle. This one is the simplest with one on real
data, written out in NumPy: f(w) = -w'Sw / 2 + |w|^4 / 4 with the covariance S of the handwritten digits, whose minimum is
the first principal component. SGD starts exactly at the second one, a saddle: there the whole gradient is zero, and nothing
but the noise of a batch can push w towards the first. What the noise has pushed grows by a constant factor a step, so that
a batch b times as large, with noise of a b-th of the variance, stays longer by a multiple of ln b: the time to escape is
logarithmic in the batch size, not linear. All rows at once never leave.

Along the first component u = v1'w the start has E u_t^2 = eta^2 s^2 / b (A^t - 1) / (A - 1) with A = (1 + eta (l1 - l2))^2,
the eigenvalues l1 > l2 of S and the variance s^2 of the gradient of one row. The median of u_t^2 reaches R^2 at
t = ln(1 + R^2 b (A - 1) / (0.455 eta^2 s^2)) / ln A, where 0.455 is the median of a squared normal variable. Single rows
escape sooner: their steps are not small.

Usage: python examples/plot_saddle_escape.py [--output plot_saddle_escape.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import chi2
from sklearn.datasets import load_digits

BATCH_SIZES = 4 ** np.arange(5)
RATE = 0.07
RADIUS = 0.5  # of the first component, in the units of a saddle at length |w| of about one
N_RUNS = 100
MOST_STEPS = 2_000


class Saddle:
    """f(w) = -w'Sw / 2 + |w|^4 / 4 around its saddle at the second principal component of some rows."""

    def __init__(self, X):
        centred = X - X.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(X))
        self.rows = centred / np.sqrt(values[-1])  # so that the largest eigenvalue is one
        self.first, self.second = 1.0, values[-2] / values[-1]
        self.direction = vectors[:, -1]
        self.start = np.sqrt(self.second) * vectors[:, -2]
        self.noise = np.mean((self.rows @ self.direction) ** 2 * (self.rows @ self.start) ** 2)

    def gradients(self, w, rows):
        """Of each run (runs, d), on its own batch (runs, b)."""
        batches = self.rows[rows]
        pull = np.einsum("rbd,rb->rd", batches, np.einsum("rbd,rd->rb", batches, w)) / rows.shape[1]
        return -pull + np.sum(w**2, axis=1, keepdims=True) * w

    def steps_to_escape(self, batch_size, rng, n_runs=N_RUNS, most_steps=MOST_STEPS):
        """Steps until the first component passes the radius, for each run; infinite where it does not."""
        w = np.tile(self.start, (n_runs, 1))
        escaped = np.full(n_runs, np.inf)
        for step in range(1, most_steps + 1):
            inside = np.flatnonzero(np.isinf(escaped))
            if not inside.size:
                break
            rows = rng.integers(len(self.rows), size=(inside.size, batch_size))
            w[inside] -= RATE * self.gradients(w[inside], rows)
            escaped[inside[np.abs(w[inside] @ self.direction) > RADIUS]] = step
        return escaped

    def steps_of_all_rows(self, most_steps):
        """The same with the whole gradient."""
        w = self.start.copy()
        for step in range(1, most_steps + 1):
            w -= RATE * (-self.rows.T @ (self.rows @ w) / len(self.rows) + w @ w * w)
            if abs(w @ self.direction) > RADIUS:
                return step
        return np.inf

    @property
    def growth(self):
        """A, by which the square of the first component grows in a step."""
        return (1.0 + RATE * (self.first - self.second)) ** 2

    def predicted_steps(self, batch_size):
        """The median, while w is near the saddle."""
        floor = RATE**2 * self.noise * chi2.ppf(0.5, 1) / (batch_size * (self.growth - 1.0))
        return np.log1p(RADIUS**2 / floor) / np.log(self.growth)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_saddle_escape.png"), help="where the figure goes")
    output = parser.parse_args().output

    saddle = Saddle(load_digits().data)
    rng = np.random.default_rng(0)
    escapes = np.array([saddle.steps_to_escape(b, rng) for b in BATCH_SIZES])
    low, medians, high = np.quantile(escapes, [0.25, 0.5, 0.75], axis=1)
    slope = np.polyfit(np.log(BATCH_SIZES), medians, 1)[0]

    print(f"{'batch size':>10}  {'steps to escape (median of ' + str(N_RUNS) + ' runs)':>38}  {'formula':>8}")
    for b, median in zip(BATCH_SIZES, medians, strict=True):
        print(f"{b:>10}  {median:>38.0f}  {saddle.predicted_steps(b):>8.0f}")
    print(f"all {len(saddle.rows)} rows, {MOST_STEPS} steps: {saddle.steps_of_all_rows(MOST_STEPS)}")
    print(f"more steps each time the batch doubles: {slope * np.log(2):.0f}; formula: ", end="")
    print(f"{np.log(2) / np.log(saddle.growth):.0f}")

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    sizes = np.geomspace(1, BATCH_SIZES[-1], 100)
    axes.plot(sizes, saddle.predicted_steps(sizes), color="C0", label="formula, near the saddle")
    axes.errorbar(
        BATCH_SIZES,
        medians,
        [medians - low, high - medians],
        fmt="o",
        capsize=3,
        color="C1",
        label="median and quartiles",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCH_SIZES, [str(b) for b in BATCH_SIZES])
    axes.set(xlabel="batch size b", ylabel="steps to escape", title="The time at a saddle grows with ln b")
    axes.set_ylim(0, None)
    axes.legend(frameon=False)
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
