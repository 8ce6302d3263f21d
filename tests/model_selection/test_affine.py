"""Transformers that move and scale features are folded into the products: the same as with a copy of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.affine import AffineRows
from skminibatch.contract.coordinates import Coordinates
from skminibatch.estimators.shared import SharedRows
from skminibatch.model_selection import BatchSizeSearchCV
from skminibatch.model_selection.rows import Prepared
from skminibatch.training import lockstep

SCALERS = [StandardScaler(), MinMaxScaler((-1, 3)), MaxAbsScaler(), RobustScaler()]
CONSTANT = {"solver": "sgd", "learning_rate": "constant", "eta0": 0.01}
CASES = [
    MiniBatchSGDClassifier(),
    MiniBatchSGDClassifier(loss="hinge"),
    MiniBatchSGDClassifier(**CONSTANT, class_weight="balanced"),
    MiniBatchSGDRegressor(penalty="l1", alpha=1e-3),
    MiniBatchSGDRegressor(solver="saga"),
    MiniBatchSGDRegressor(standardize=True, solver="momentum"),
]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 5)) * np.exp(rng.standard_normal(5)) + 3 * rng.standard_normal(5)
    raw = (X - X.mean(axis=0)) @ rng.standard_normal(5)
    return X, raw + rng.standard_normal(400)


def curves(search) -> list[np.ndarray]:
    results = search.cv_results_
    return [curve for k in range(search.n_splits_) for curve in results[f"split{k}_loss_curve"]]


@pytest.mark.parametrize("scaler", SCALERS, ids=lambda scaler: type(scaler).__name__)
@pytest.mark.parametrize("estimator", CASES, ids=str)
def test_candidates_are_those_on_a_copy(scaler, estimator, data, monkeypatch):
    monkeypatch.setattr(lockstep, "FEWEST_PRODUCTS", 1)
    X, y = data
    y = (y > 0).astype(int) if isinstance(estimator, MiniBatchSGDClassifier) else y
    pipeline, seen = make_pipeline(scaler, estimator), []
    honest = SharedRows.__init__

    def seeing(self, *args, **keywords):
        honest(self, *args, **keywords)
        seen.append(type(self.X))

    monkeypatch.setattr(SharedRows, "__init__", seeing)
    options = {"cv": KFold(3), "budget_value": 3, "refit": False, "random_state": 0, "error_score": "raise"}
    folded = BatchSizeSearchCV(pipeline, [16, 64], **options).fit(X, y)
    assert seen == [AffineRows] * 3
    monkeypatch.setattr(Prepared, "affine", lambda self, X: None)
    copied = BatchSizeSearchCV(pipeline, [16, 64], **options).fit(X, y)
    assert seen[3:] == [np.ndarray] * 3
    for one, other in zip(curves(folded), curves(copied), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    scores = [search.cv_results_["mean_test_score"] for search in (folded, copied)]
    np.testing.assert_allclose(*scores, rtol=1e-10)


@pytest.mark.parametrize(
    "transformer",
    [PolynomialFeatures(2), QuantileTransformer(n_quantiles=20), MinMaxScaler(clip=True)],
    ids=lambda transformer: type(transformer).__name__,
)
def test_other_transformers_are_no_affine_ones(transformer, data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), transformer, MiniBatchSGDRegressor())
    search = BatchSizeSearchCV(pipeline, [16, 64], cv=3, budget_value=1, error_score="raise", random_state=0)
    assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()


def test_rows_and_coordinates_agree(data):
    """Coordinates of the moved rows are, as those of X, the same numbers."""
    X, _ = data
    rows = AffineRows(X, X.mean(axis=0), 1.0 / X.std(axis=0))
    rng = np.random.default_rng(1)
    axes = Coordinates(rng.standard_normal(5), np.exp(rng.standard_normal(5)), np.ones(5))
    np.testing.assert_allclose(rows.coordinates(axes).transform(X), axes.transform(rows[:]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rows.coordinates(None).transform(X[3:7]), rows[3:7])
    coef, intercept = rng.standard_normal((2, 5)), rng.standard_normal(2)
    outside, moved = rows.outside(coef, intercept)
    np.testing.assert_allclose(X @ outside.T + moved, rows[:] @ coef.T + intercept)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_rows_that_do_not_count_change_nothing(loss):
    """Dual ascent looks at all rows that it has: those of weight zero are not among them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 4))
    y = (X[:, 0] + rng.standard_normal(300) > 0).astype(int)
    counts = rng.random(300) < 0.7
    settings = {"loss": loss, "solver": "sdca", "random_state": 0}
    weighted = MiniBatchSGDClassifier(**settings).fit(X, y, sample_weight=counts.astype(float))
    np.testing.assert_array_equal(weighted.coef_, MiniBatchSGDClassifier(**settings).fit(X[counts], y[counts]).coef_)
