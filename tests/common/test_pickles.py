"""What a pickle of an estimator holds of the data: no row, and little more than the parameters."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import is_classifier

from skminibatch.statistics.sketch import SAMPLE
from tests.families import LINEAR, linear_models

PIECE = 4  # neighbouring numbers of a row that must not be found


def rows_of(storage: str, dtype, n: int, d: int):
    """Rows without a number that occurs by chance, such as zero or one."""
    rng = np.random.default_rng(0)
    if storage == "csr":
        X = sparse.random(n, d, 0.3 if d < 100 else 0.05, format="csr", random_state=0, data_rvs=rng.standard_normal)
        return X.astype(dtype)
    return (rng.standard_normal((n, 1)) + rng.standard_normal((n, d))).astype(dtype)


def pieces(X):
    """The bytes of neighbouring stored numbers of some rows, as they are and as float64."""
    for number in range(0, X.shape[0], 29):
        row = X.data[X.indptr[number] : X.indptr[number + 1]] if sparse.issparse(X) else X[number]
        for first in range(0, len(row) - PIECE + 1, PIECE // 2):
            piece = row[first : first + PIECE]
            yield piece.tobytes()
            yield piece.astype(np.float64).tobytes()


def trained(estimator, how: str, X, y):
    """After `fit`, after a stream, or after both."""
    labels = {"classes": np.unique(y)} if is_classifier(estimator) else {}
    if "fit" in how.split():
        estimator.fit(X, y)
    if "stream" in how.split():
        for rows in np.array_split(np.arange(X.shape[0]), 4):
            estimator.partial_fit(X[rows], y[rows], **labels)
    return estimator


@pytest.mark.parametrize("how", ["fit", "stream", "fit stream"])
@pytest.mark.parametrize(  # all pairs of two of the three
    ("d", "storage", "dtype"),
    [(20, "dense", np.float64), (20, "csr", np.float32), (300, "dense", np.float32), (300, "csr", np.float64)],
)
def test_a_pickle_holds_no_row(d, storage, dtype, how, estimator_class):
    X = rows_of(storage, dtype, 200, d)
    y = (np.asarray(X.sum(axis=1)).ravel() > 0).astype(int)
    estimator = estimator_class(device="base", max_iter=2, tol=None, batch_size=16, random_state=0)
    text = pickle.dumps(trained(estimator, how, X, y))
    found = list(pieces(X))
    assert found
    assert not [piece for piece in found if piece in text]
    assert next(iter(pieces(X))) in pickle.dumps((text, X))  # this is how one would be found


@pytest.mark.parametrize("how", ["fit", "stream", "fit stream"])
@pytest.mark.parametrize("storage", ["dense", "csr"])
def test_a_pickle_is_little_more_than_the_parameters(storage, how, estimator_class):
    """Of wide rows. Of a linear model there are the moments and the coordinates of the features besides."""
    X = rows_of(storage, np.float64, 100, 5000)
    y = (np.asarray(X.sum(axis=1)).ravel() > 0).astype(int)
    layers = {} if estimator_class in LINEAR.estimators else {"hidden_layer_sizes": (8,)}
    estimator = estimator_class(device="base", max_iter=1, tol=None, random_state=0, **layers)
    size, fitted = len(pickle.dumps(trained(estimator, how, X, y))), estimator._fitted
    # an average or a momentum beside the coefficients; a stream of sparse rows has precisions in place of it
    params = 2 * estimator.coef_.nbytes if fitted.params is None else fitted.params.nbytes
    assert size < (5 if estimator_class in LINEAR.estimators else 2) * params + (1 << 16)


@linear_models
def test_few_features_have_a_matrix(estimator_class):
    """The sketch of a stream of d <= 256 dense features is of the size d^2, whatever the number of rows."""
    sizes = []
    for n in (200, 2 * SAMPLE):
        X = rows_of("dense", np.float64, n, 100)
        estimator = estimator_class(device="base", random_state=0)
        sizes.append(len(pickle.dumps(trained(estimator, "stream", X, (X[:, 0] > 0).astype(int)))))
    assert max(sizes) < 8 * 100**2 + (1 << 16)
