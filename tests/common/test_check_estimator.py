"""scikit-learn's checks of an estimator, on every estimator and in several settings.

Two checks ask for the same model, to rounding, from rows with integer weights and from the same rows repeated. With
batches of one row, the batches are drawn differently from the two sets of rows, so that the models agree in the mean
only: the checks are expected to fail there, and `test_weights_are_repetitions_on_average` stands in. They hold for the exact
statistics of a batch normalization; a running variance is that of a sample, and repeated rows are a larger one.
"""

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.layers import BatchNorm

EQUAL_BITS = dict.fromkeys(
    ["check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"],
    "the batches of repeated rows are drawn differently from those of weighted rows",
)
ONE_BY_ONE = dict.fromkeys(EQUAL_BITS, "dual coordinate ascent takes rows one by one, and ends within tol")


DEFAULTS = [
    MiniBatchSGDClassifier(),
    MiniBatchSGDRegressor(),
    MiniBatchMLPClassifier(),
    MiniBatchMLPRegressor(),
]
SETTINGS = [
    MiniBatchSGDRegressor(device="base"),
    MiniBatchSGDClassifier(loss="hinge"),
    MiniBatchSGDClassifier(solver="sgd", batch_size=1, max_iter=50),
    MiniBatchSGDRegressor(solver="sgd", batch_size=1, max_iter=50),
    MiniBatchMLPClassifier(normalization="layer", loss="hinge", max_iter=50),
    MiniBatchMLPRegressor(normalization=BatchNorm(exact=True), solver="sgd", max_iter=50),
]


@pytest.mark.filterwarnings("ignore:Maximum number of iteration reached")  # by networks, as by scikit-learn's own
@parametrize_with_checks(DEFAULTS)
def test_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Maximum number of iteration reached")
@parametrize_with_checks(
    SETTINGS,
    expected_failed_checks=lambda estimator: (
        EQUAL_BITS if estimator.batch_size == 1 else ONE_BY_ONE if isinstance(estimator, MiniBatchSGDClassifier) else {}
    ),
)
def test_check_of_settings(estimator, check):
    check(estimator)


@pytest.mark.usefixtures("sparse_rows_stay_sparse")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "container"),
    [
        (MiniBatchSGDClassifier(batch_size=4), np.asarray),
        (MiniBatchSGDRegressor(batch_size=4), sparse.csr_array),
        (MiniBatchSGDClassifier(solver="sgd", batch_size=1), sparse.csr_array),
        (MiniBatchSGDRegressor(solver="sgd", batch_size=1), np.asarray),
    ],
    ids=str,
)
def test_weights_are_repetitions_on_average(estimator, container):
    """Over 8 seeds, the means of the coefficients differ by less than chance and three per cent of their size."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)) + np.array([0, 1, 0])
    y = (X @ [1, -1, 0.5] + rng.standard_normal(40) > 0).astype(int)
    times = rng.integers(0, 4, 40)

    def parameters(seed, X, y, **weights):
        estimator.set_params(random_state=seed, tol=None, max_iter=200, alpha=0.05).fit(container(X), y, **weights)
        return np.append(estimator.coef_, estimator.intercept_)

    weighted = np.array([parameters(seed, X, y, sample_weight=times) for seed in range(8)])
    repeated = np.array([parameters(seed, X.repeat(times, axis=0), y.repeat(times)) for seed in range(8, 16)])
    error = np.sqrt((weighted.var(axis=0) + repeated.var(axis=0)) / 8)
    size = np.max(abs(repeated.mean(axis=0)))
    difference = abs(weighted.mean(axis=0) - repeated.mean(axis=0))
    assert np.all(difference < 4 * error + 0.03 * size)
    assert np.all(error < 0.05 * size)
