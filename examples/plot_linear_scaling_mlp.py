"""How long does linear scaling of the rate work for a network? Up to about the critical batch size, where noise gives out.

A network of 64 hidden units on the handwritten digits of scikit-learn, plain SGD, and a rate that suits batches of 4 rows.
With lr_scaling='linear', a batch k times as large takes k times the rate: as long as gradients are mostly noise, the training
loss falls as fast by rows seen, with k times fewer steps (left). Beyond, the step is longer than the curvature allows, which
no batch size changes, and training breaks.

Right: the steps to a training loss. Where linear scaling breaks, the last rate that worked is kept: larger batches are less
noisy, but the steps hardly get fewer, and the rows are wasted. The curve is steps = N (1 + B / b) of McCandlish et al. (2018),
fitted, with the critical batch size B, where twice the least number of steps takes twice the least number of rows. The shaded
band is the noise scale that training itself has seen (`history_["noise_scale"]`), in the first pass and at the target: it
tells B to an order of magnitude, as the paper says. Measured steps turn more sharply than the curve: a rate can be too small for
small batches, and here it is the same rate a row for all of them.

Usage: python examples/plot_linear_scaling_mlp.py [--output plot_linear_scaling_mlp.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import nnls
from sklearn.datasets import load_digits

from skminibatch import MiniBatchMLPClassifier

N_ROWS = 1536
BASE, RATE = 4, 0.04
BATCH_SIZES = BASE * 2 ** np.arange(9)
SCALED, SHOWN = (
    64,
    256,
)  # the largest batch size whose linear rate is kept for larger ones, and the largest one on the left
N_EPOCHS, N_RUNS, TARGET = 40, 2, 0.15


def curves(batch_size, scaled_to, X, y):
    """(updates, samples, loss, noise scale) after each epoch, mean of the runs, with the linear rate of another batch size."""
    runs = []
    for seed in range(N_RUNS):
        classifier = MiniBatchMLPClassifier(
            hidden_layer_sizes=(64,), solver="sgd", momentum=0.0, learning_rate_init=RATE, lr_scaling="linear",
            base_batch_size=BASE * batch_size // scaled_to, batch_size=batch_size, max_iter=N_EPOCHS, tol=None,
            random_state=seed,
        )  # fmt: skip
        history = classifier.fit(X, y).history_
        runs.append([history[name] for name in ("updates", "samples", "loss", "noise_scale")])
    return np.mean(runs, axis=0)


def first_below(target, updates, losses):
    """Updates where a smoothed loss first is below the target; NaN if it never is."""
    below = np.flatnonzero(losses <= target)
    if not below.size or not below[0]:
        return np.nan
    last, now = below[0] - 1, below[0]
    share = np.log(losses[last] / target) / np.log(losses[last] / losses[now])
    return updates[last] + share * (updates[now] - updates[last])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("plot_linear_scaling_mlp.png"), help="where the figure goes"
    )
    output = parser.parse_args().output

    X, y = load_digits(return_X_y=True)
    X, y = X[:N_ROWS] / 16.0, y[:N_ROWS]
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, b in enumerate(BATCH_SIZES[BATCH_SIZES <= SHOWN].tolist()):
        _, samples, losses, _ = curves(b, b, X, y)
        label = f"b = {b}, rate {RATE * b / BASE:g}"
        left.loglog(samples / N_ROWS, losses, color=f"C{i}", linewidth=2.6 - 0.2 * i, label=label)
    left.axhline(TARGET, color="0.6", linewidth=0.8)
    left.set(xlabel="passes over the data", ylabel="training loss", title="The same fall by rows seen, until it breaks")
    left.set(ylim=(5e-3, 20))
    left.legend(frameon=False, fontsize="small", loc="lower left")

    steps, scales = [], []
    head = f"{'batch size':>10}  {'rate':>5}  {f'steps to {TARGET}':>13}  {'rows':>7}"
    print(f"{head}  {'noise scale: first':>18}  {'at the target':>13}")
    for b in BATCH_SIZES.tolist():
        updates, _, losses, noise = curves(b, min(b, SCALED), X, y)
        steps.append(first_below(TARGET, updates, losses))
        seen = noise[updates <= steps[-1]]
        scales.append((seen[0], seen[-1]))
        cells = f"{steps[-1]:>13.0f}  {b * steps[-1]:>7.0f}  {seen[0]:>18.0f}  {seen[-1]:>13.0f}"
        print(f"{b:>10}  {RATE * min(b, SCALED) / BASE:>5.2f}  {cells}", flush=True)
    steps = np.array(steps)
    (least, rows), _ = nnls(np.column_stack([1.0 / steps, 1.0 / (BATCH_SIZES * steps)]), np.ones(len(steps)))
    print(f"steps = {least:.0f} (1 + {rows / least:.0f} / b): a critical batch size of {rows / least:.0f}")
    fine = np.geomspace(BATCH_SIZES[0], BATCH_SIZES[-1], 50)
    right.loglog(BATCH_SIZES, steps, "ko", label="measured")
    right.loglog(fine, steps[0] * BATCH_SIZES[0] / fine, "C7--", label="ideal: half the steps for twice the batch")
    right.loglog(fine, least + rows / fine, "C0", label=rf"$N\,(1 + B / b)$, B = {rows / least:.0f}")
    right.axvspan(*np.sort(np.median(scales, axis=0)), color="C1", alpha=0.2, label="noise scale seen in training")
    right.set(
        xlabel="batch size", ylabel=f"steps to a training loss of {TARGET:g}", title="Steps that larger batches save"
    )
    right.minorticks_off()
    right.set_xticks(BATCH_SIZES, [str(b) for b in BATCH_SIZES])
    right.legend(frameon=False, fontsize="small")
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
