"""Can a test error fall, rise and fall again while training goes on? Yes, where features are learnt at different speeds.

One-vs-rest least squares on the handwritten digits of scikit-learn, seen through few strong features (five whitened principal
components), 300 features of pure noise of the same size, and the next forty components made ten times smaller; a tenth of
the labels is drawn at random. Gradient descent learns a direction of curvature lambda in about 1 / (eta lambda) steps: the
strong components first (the test error falls), then the noise (it rises), and the small components, which tell digits best,
a hundred times later (it falls again, deeper; Heckel and Yilmaz 2021, Pezeshki et al. 2022). The dashed line is the exact
path of gradient descent, from the eigenvalues; the others are mini-batch SGD.

The batch size only changes how many steps an epoch has: four times the batch size at the same rate, four times the epochs to
the peak. With the rate scaled by four as well, the curves fall upon each other again.

Where it does not appear: a plain network of ReLU units on the digits themselves, with 30 % of the labels at random (right).
Its test error falls, then rises as it learns the wrong labels by heart, and is still up when it has learnt them all. Small
batches do not make a second descent deeper either: they rescale time.

Usage: python examples/plot_double_descent.py [--output plot_double_descent.png]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier

N_ROWS, STRONG, NOISE, SMALL, SHARE = 512, 5, 300, 40, 0.1  # whole batches of both sizes
BASE, RATE = 64, 0.04
TIME = 100.0  # eta times the steps
RUNS = {(BASE, RATE): "C0", (4 * BASE, RATE): "C1", (4 * BASE, 4 * RATE): "C2"}  # (batch size, rate): color


def noisy_labels(y, share, rng):
    """Labels of which a share is drawn at random."""
    return np.where(rng.random(len(y)) < share, rng.integers(10, size=len(y)), y)


def two_speeds(seed):
    """(X, X_test, y, y_test), features learnt at different speeds; a tenth of the labels in y is random."""
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    components = PCA(STRONG + SMALL, whiten=True).fit_transform(X[order])
    noise = rng.standard_normal((len(X), NOISE))
    X, y = np.hstack([components[:, :STRONG], noise, SHARE * components[:, STRONG:]]), y[order]
    return X[:N_ROWS], X[N_ROWS:], noisy_labels(y[:N_ROWS], 0.1, rng), y[N_ROWS:]


def path_of_gradient_descent(X, X_test, y, y_test, times):
    """Test error after eta times steps = `times`, of steps so small that only this product matters."""
    targets = np.eye(10)[y]
    curvatures, directions = np.linalg.eigh(X.T @ X / len(X))
    goal = directions.T @ (X.T @ (targets - targets.mean(axis=0))) / len(X)
    errors = []
    for time in times:
        learnt = -np.expm1(-curvatures * time) / curvatures
        raw = X_test @ directions @ (learnt[:, None] * goal) + targets.mean(axis=0)
        errors.append(np.mean(raw.argmax(axis=1) != y_test))
    return np.array(errors)


def descent(X, X_test, y, y_test, batch_size, rate, time, seed=0):
    """(epochs, test error) of mini-batch SGD until eta times the steps is `time`."""
    last = round(time / (rate * -(-len(X) // batch_size)))
    epochs = np.unique(np.geomspace(1.0, last, 60).round().astype(int))
    classifier = MiniBatchSGDClassifier(
        loss="squared_error", penalty=None, solver="sgd", learning_rate="constant", eta0=rate, batch_size=batch_size,
        warm_start=True, tol=None,
    )  # fmt: skip
    errors = []
    for number, more in enumerate(np.diff(epochs, prepend=0).tolist()):
        classifier.set_params(max_iter=more, random_state=1000 * seed + number).fit(X, y)
        errors.append(1.0 - classifier.score(X_test, y_test))
    return epochs, np.array(errors)


def peak(x, errors):
    """(lowest error before the peak, place of the peak, error there, lowest error behind it), of a mean of five."""
    smooth = np.convolve(errors, np.ones(5) / 5.0, mode="valid")
    first = int(np.argmin(smooth[: len(smooth) // 2]))
    top = first + int(np.argmax(smooth[first:]))
    return smooth[first], x[top + 2], smooth[top], smooth[top:].min()


def network(seed=0, n_epochs=150):
    """(test error, training error on the labels as given) of a network on digits with 30 % random labels, by epoch."""
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    X, y = X[order] / 16.0, y[order]
    given = noisy_labels(y[:N_ROWS], 0.3, rng)
    curves = []
    for rows, labels in ((X[N_ROWS:], y[N_ROWS:]), (X[:N_ROWS], given)):
        classifier = MiniBatchMLPClassifier(
            hidden_layer_sizes=(128,),
            batch_size=32,
            learning_rate_init=0.003,
            max_iter=n_epochs,
            tol=None,
            random_state=seed,
        ).fit(X[:N_ROWS], given, X_val=rows, y_val=labels)
        curves.append(1.0 - classifier.validation_scores_)
    return curves


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("plot_double_descent.png"), help="where the figure goes")
    output = parser.parse_args().output

    problem, steps_an_epoch = two_speeds(0), -(-N_ROWS // BASE)
    times = np.geomspace(0.1, 1e4, 80)  # eta times steps
    path = path_of_gradient_descent(*problem, times)
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogx(
        times / RATE / steps_an_epoch, path, "k--", linewidth=1.0, label=f"exact path, in epochs of b = {BASE}"
    )
    print(f"{'':>10}  {'rate':>5}  {'first minimum':>13}  {'peak':>6}  {'at epoch':>8}  {'behind it':>9}")
    first, at, top, last = peak(times / RATE / steps_an_epoch, path)
    print(f"{'exact path':>10}  {RATE:>5}  {first:>13.3f}  {top:>6.3f}  {at:>8.0f}  {last:>9.3f}")
    for (b, rate), color in RUNS.items():
        epochs, errors = descent(*problem, b, rate, TIME)
        first, at, top, last = peak(epochs, errors)
        print(f"{f'b = {b}':>10}  {rate:>5}  {first:>13.3f}  {top:>6.3f}  {at:>8.0f}  {last:>9.3f}", flush=True)
        left.semilogx(epochs, errors, color=color, label=f"b = {b}, rate {rate:g}", linewidth=1.4)
    left.set(xlabel="epochs", ylabel="test error", title="Features of different speeds: down, up, down")
    left.legend(frameon=False, loc="lower left")

    test, train = network()
    print(
        f"network of ReLU units: least test error {test.min():.3f} in epoch {np.argmin(test) + 1}, last {test[-1]:.3f}"
    )
    right.semilogx(np.arange(1, len(test) + 1), test, color="C3", label="test error")
    right.semilogx(np.arange(1, len(test) + 1), train, color="C7", label="training error, wrong labels included")
    right.set(xlabel="epochs", ylim=(0, None), title="A plain network with wrong labels: down, up")
    right.legend(frameon=False)
    figure.savefig(output, dpi=150)
    print(f"Figure: {output}")


if __name__ == "__main__":
    main()
