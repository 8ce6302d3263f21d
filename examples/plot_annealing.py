"""Instead of decaying the learning rate, can one let the batch grow? Yes: the same curve, with far fewer updates.

Softmax regression on the handwritten digits of scikit-learn, batches drawn with replacement. With a constant rate and batches
of 8 rows, the objective comes to rest above its minimum, where the noise holds it: the level depends on rate / batch size.
Halving the rate every four passes lowers it. So does doubling the batch size every four passes at a constant rate: against
the rows seen, the two curves are the same, as long as the rate is small against the curvature (Smith, Kindermans, Ying and
Le 2018, arXiv:1711.00489). But larger batches take fewer updates, and these are what cannot be done in parallel.

A batch that grows with the logarithm of the number of steps, the law of simulated annealing, grows fast at first and then
hardly: it takes few updates, but gets less far with the same rows, and lowers the level ever more slowly. That law keeps
enough noise to leave any minimum but the best, of which a convex objective has no other.

Usage: python examples/plot_annealing.py [--output plot_annealing.png]
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDClassifier
from skminibatch.plotting import TrainingHistoryDisplay
from skminibatch.schedules import Geometric, Logarithmic

START, RATE, ALPHA = 8, 0.1, 0.01
FACTOR, EPOCHS = 2.0, 4  # by which the batch grows or the rate falls, and after how many epochs
N_EPOCHS, N_RUNS = 30, 5


class Stairs(NamedTuple):
    """A learning-rate schedule of our own: divided by `factor` after every `epochs` epochs."""

    eta0: float = RATE
    factor: float = FACTOR
    epochs: float = EPOCHS

    def rates(self, samples, state):
        return np.full(len(samples), self.eta0 / self.factor ** (state.epoch // self.epochs))


WAYS = {
    f"constant: {START} rows, rate {RATE}": {"batch_size": START},
    "logarithmic batch": {"batch_size": Logarithmic(START)},
    f"rate / {FACTOR:g} every {EPOCHS} passes": {"batch_size": START, "learning_rate": Stairs(), "eta0": None},
    f"batch x {FACTOR:g} every {EPOCHS} passes": {"batch_size": Geometric(START, FACTOR, EPOCHS)},
}


def mean_history(X, y, minimum, settings):
    """The history of a training, with the mean of some runs as its objective, minus the minimum."""
    fixed = {"solver": "sgd", "learning_rate": "constant", "eta0": RATE, "sampler": "replacement", "alpha": ALPHA}
    fits = [
        MiniBatchSGDClassifier(**{**fixed, **settings}, max_iter=N_EPOCHS, tol=None, random_state=seed).fit(X, y)
        for seed in range(N_RUNS)
    ]
    return {**fits[0].history_, "objective": np.mean([fit.loss_curve_ for fit in fits], axis=0) - minimum}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_annealing.png"), help="where the figure goes")
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    X = scale(X)
    minimum = MiniBatchSGDClassifier(alpha=ALPHA, max_iter=5_000, tol=1e-9, random_state=0).fit(X, y).best_loss_

    figure = Figure(figsize=(9.8, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    print(
        f"{'after ' + str(N_EPOCHS) + ' passes':>27}  {'objective minus minimum':>23}  {'updates':>7}  {'last batch':>10}"
    )
    for i, (name, settings) in enumerate(WAYS.items()):
        history = mean_history(X, y, minimum, settings)
        end = history["objective"][-EPOCHS:].mean()
        print(f"{name:>27}  {end:>23.5f}  {history['updates'][-1]:>7}  {history['batch_size'][-1]:>10.0f}")
        style = {"color": f"C{i}", "marker": "", "linewidth": 2.6 if i == 2 else 1.5}
        display = TrainingHistoryDisplay(history=history, name=name)
        display.plot(panels[0], curve_kwargs=style)
        display.plot(panels[1], against="updates", curve_kwargs=style)
    for axes, title in zip(panels, ("The same curve against passes ...", "... with far fewer updates"), strict=True):
        axes.set(yscale="log", ylabel="objective minus its minimum", title=title)
        axes.legend(frameon=False)
    panels[0].set_xlabel("passes over the data")
    panels[1].set(xscale="log", ylabel="")
    panels[1].get_legend().remove()
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
