"""Large batches end in sharper places: worse ones where labels are wrong, and the error of too few updates is another matter."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from skminibatch import MiniBatchMLPClassifier
from skminibatch.diagnostics import hessian_eigenvalues

PLAIN = {"hidden_layer_sizes": (128,), "alpha": 0.0, "solver": "sgd", "momentum": 0.0, "tol": None}
RATE = 0.1


def digits(n_rows, seed, wrong=0.0):
    """(X, X_test, y, y_test); a share of the labels in y is drawn at random."""
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    X, y = X[order] / 16.0, y[order]
    given = np.where(rng.random(n_rows) < wrong, rng.integers(10, size=n_rows), y[:n_rows])
    return X[:n_rows], X[n_rows:], given, y[n_rows:]


def down_to(loss, X, y, batch_size, seed):
    """A network trained until its loss is that low, looked at after each twentieth more of the epochs."""
    network = MiniBatchMLPClassifier(
        batch_size=batch_size, learning_rate_init=RATE, warm_start=True, random_state=seed, **PLAIN
    )
    done = 0
    while done == 0 or log_loss(y, network.predict_proba(X), labels=network.classes_) > loss:
        more = max(1, done // 20)
        network.set_params(max_iter=more, random_state=seed + done).fit(X, y)
        done += more
    return network


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.2, 0.0])
def test_small_batches_end_in_flatter_places(wrong):
    """The gap needs wrong labels, the sharpness differs anyway (FORMULAS 11c, at equal training loss)."""
    n_rows, seeds = 300, range(5 if wrong else 3)
    gaps, ratios = [], []
    for seed in seeds:
        X, X_test, y, y_test = digits(n_rows, seed, wrong)
        small, full = (down_to(0.05, X, y, b, seed) for b in (4, n_rows))
        gaps.append(small.score(X_test, y_test) - full.score(X_test, y_test))
        eigenvalues = [hessian_eigenvalues(network, X, y, k=1).eigenvalues[0] for network in (small, full)]
        ratios.append(eigenvalues[1] / eigenvalues[0])
    assert min(ratios) > (1.5 if wrong else 1.0)
    mean, error = np.mean(gaps), np.std(gaps, ddof=1) / np.sqrt(len(gaps))
    if wrong:
        assert np.median(ratios) > 2
        assert mean > 2 * error
    else:
        assert abs(mean) < 0.005  # a few tenths of a point: too few runs to tell it from nothing


def test_the_gap_at_equal_epochs_is_one_of_updates():
    """With as many updates it closes, and a rate that follows the root of the batch size recovers most of it."""
    n_rows, small, large, epochs = 1200, 16, 600, 20
    X, X_test, y, y_test = digits(n_rows, 0)

    def error(batch_size, epochs, **parameters):
        network = MiniBatchMLPClassifier(
            batch_size=batch_size, max_iter=epochs, learning_rate_init=RATE, random_state=0, **PLAIN, **parameters
        )
        return 1.0 - network.fit(X, y).score(X_test, y_test)

    best, plain = error(small, epochs), error(large, epochs)
    followed = error(large, epochs, lr_scaling="sqrt", base_batch_size=small)
    longer = error(large, epochs * large // small)
    assert plain - best > 0.05
    assert abs(longer - best) < 0.015
    assert plain - followed > 0.6 * (plain - best)
