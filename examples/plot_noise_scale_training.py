"""How large should a batch be while training goes on? About as large as the noise scale, which grows.

Softmax regression on the handwritten digits of scikit-learn. The noise scale S = tr(Sigma) / |G|^2 is the batch size at which
the noise of a gradient is as large as the gradient. The gradient shrinks as training goes on, its noise much less: S grows
from tens of rows to many hundreds (left). `batch_size=NoiseScaleSize()` follows what the batches themselves show of it; that is
the mean over a pass, and lags behind.

Right: the passes and the updates that it takes to bring the objective down to 0.25. A fixed size trades one for the other,
and so does the multiple of the noise scale that is followed. Up to the multiple 1, following takes a few per cent less
passes than a fixed size with as many updates; with few updates it is no better, since it starts with small batches and lags.
What it saves is the search: the noise scale itself, the multiple 1, stands at the bend of the curve, where neither passes nor
updates are wasted, and nobody had to know it. The rate follows the batch size by lr_scaling='adascale'.

Usage: python examples/plot_noise_scale_training.py [--output plot_noise_scale_training.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.preprocessing import scale

from skminibatch import MiniBatchSGDClassifier
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.plotting import TrainingHistoryDisplay
from skminibatch.schedules import NoiseScaleSize

SIZES = 2 ** np.arange(4, 11)
MULTIPLES = 2.0 ** np.arange(-3, 3)
TARGET, N_RUNS, N_EPOCHS = 0.25, 3, 20
LOOKS = [1, 2, 3, 4, 6, 8, 11, 15, 20]  # epochs


def classifier(batch_size, **settings):
    return MiniBatchSGDClassifier(
        batch_size=batch_size, solver="sgd", learning_rate="constant", eta0=0.05, lr_scaling="adascale",
        base_batch_size=32, alpha=1e-3, tol=None, **settings,
    )  # fmt: skip


def followed(multiple):
    return NoiseScaleSize(multiple, start=32, every=16)


def effort(batch_size, X, y):
    """Passes and updates to the target, the mean of some runs; part of an epoch counts as its share."""
    efforts = []
    for seed in range(N_RUNS):
        fit = classifier(batch_size, max_iter=40, random_state=seed).fit(X, y)
        epochs = np.arange(len(fit.loss_curve_) + 1)
        objective = np.append(np.log(10), fit.loss_curve_)
        end = np.interp(-TARGET, -objective, epochs)
        updates = np.interp(end, epochs, np.append(0, fit.history_["updates"]))
        efforts.append((end, updates))
    return np.mean(efforts, axis=0)


def draw_course(axes, X, y):
    """The noise scale while training goes on, exact and as the batches show it, and the batch size that follows."""
    exact = {}
    for n_epochs in LOOKS:  # the same run, each time for longer
        fit = classifier(followed(1.0), max_iter=n_epochs, random_state=0).fit(X, y)
        exact[n_epochs] = gradient_noise_scale(fit, X, y).noise_scale
    axes.plot(LOOKS, exact.values(), color="0.3", label="noise scale, exact")
    style = {"linestyle": "", "marker": "o", "markersize": 4, "color": "C1"}
    show = TrainingHistoryDisplay.from_estimator
    show(fit, quantity="noise_scale", name="noise scale, from the batches of a pass", ax=axes, curve_kwargs=style)
    show(fit, quantity="batch_size", name="batch size", ax=axes, curve_kwargs={"color": "C0", "drawstyle": "steps-mid"})
    axes.set(
        ylabel="rows", title="The noise scale grows", xlabel="passes over the data", xticks=range(0, N_EPOCHS + 1, 5)
    )
    axes.legend(frameon=False, loc="lower right")
    sizes, scales = fit.history_["batch_size"], fit.history_["noise_scale"]
    print(f"{'pass':>4}  {'noise scale':>11}  {'from batches':>12}  {'batch size':>10}")
    for epoch in (1, 2, 4, 8, N_EPOCHS):
        print(f"{epoch:>4}  {exact[epoch]:>11.0f}  {scales[epoch - 1]:>12.0f}  {sizes[epoch - 1]:>10.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("plot_noise_scale_training.png"), help="where the figure goes"
    )
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    X = scale(X)
    figure = Figure(figsize=(10.2, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_course(left, X, y)

    fixed = np.array([effort(b, X, y) for b in SIZES.tolist()])
    following = np.array([effort(followed(multiple), X, y) for multiple in MULTIPLES.tolist()])
    print(f"\n{'batch size':>22}  {'passes':>6}  {'updates':>7}   to an objective of {TARGET}")
    for b, (passes, updates) in zip(SIZES, fixed, strict=True):
        print(f"{b:>22}  {passes:>6.1f}  {updates:>7.0f}")
    for multiple, (passes, updates) in zip(MULTIPLES, following, strict=True):
        same = np.exp(np.interp(np.log(updates), np.log(fixed[::-1, 1]), np.log(fixed[::-1, 0])))
        print(f"{multiple:>5g} times noise scale  {passes:>6.1f}  {updates:>7.0f}   ", end="")
        print(f"{passes / same:.2f} times the passes of the fixed size with as many updates")

    right.loglog(fixed[:, 1], fixed[:, 0], "o-", color="C2", label="fixed batch size")
    right.loglog(following[:, 1], following[:, 0], "s-", color="C0", label="multiple of the noise scale")
    for b, (passes, updates) in zip(SIZES, fixed, strict=True):
        right.annotate(str(b), (updates, passes), (5, 4), textcoords="offset points", color="C2")
    label = {"textcoords": "offset points", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}}
    for multiple, (passes, updates) in zip(MULTIPLES, following, strict=True):
        right.annotate(f"{multiple:g}", (updates, passes), (-5, -9), ha="right", color="C0", **label)
    right.set(xlabel="updates", ylabel="passes over the data", title=f"To an objective of {TARGET}")
    for axis, ticks in ((right.xaxis, (50, 100, 200, 400)), (right.yaxis, (4, 6, 10, 20, 30))):
        axis.set_ticks(ticks, [str(tick) for tick in ticks])
        axis.set_ticks([], minor=True)
    right.set_xlim(48, 620)
    right.legend(frameon=False)
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
