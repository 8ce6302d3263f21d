"""Large batches end in sharper places: worse ones where labels are wrong, and the error of too few updates is another matter."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skminibatch import MiniBatchMLPClassifier
from skminibatch.diagnostics import hessian_eigenvalues
from tests.examples.loading import example

PLAIN = {"hidden_layer_sizes": (128,), "alpha": 0.0, "solver": "sgd", "momentum": 0.0, "tol": None}
RATE = 0.1


def digits(n_rows, seed):
    """(X, X_test, y, y_test)"""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = X[order] / 16.0, y[order]
    return X[:n_rows], X[n_rows:], y[:n_rows], y[n_rows:]


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.2, 0.0])
def test_small_batches_end_in_flatter_places(wrong):
    """The gap needs wrong labels, the sharpness differs anyway (FORMULAS 11c, at equal training loss)."""
    module = example("plot_generalization_gap")
    gaps, ratios = [], []
    for seed in range(4 if wrong else 3):
        X, X_test, y, y_test = module.problem(wrong, seed)
        small, large = (module.trained(X, y, b, seed) for b in (4, 64))
        gaps.append(small.score(X_test, y_test) - large.score(X_test, y_test))
        eigenvalues = [hessian_eigenvalues(network, X, y, k=1).eigenvalues[0] for network in (small, large)]
        ratios.append(eigenvalues[1] / eigenvalues[0])
    assert min(ratios) > (1.5 if wrong else 1.0)
    mean, error = np.mean(gaps), np.std(gaps, ddof=1) / np.sqrt(len(gaps))
    if wrong:
        assert np.median(ratios) > 2
        assert mean > 2 * error
    else:
        assert abs(mean) < 0.01  # with wrong labels it is several points


def test_the_gap_at_equal_epochs_is_one_of_updates():
    """With as many updates it closes, and a rate that follows the root of the batch size recovers most of it."""
    n_rows, small, large, epochs = 600, 16, 300, 20
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
