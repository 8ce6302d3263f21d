"""`fit` on sparse rows goes by the features that they have: the same model as without the others, at the same cost."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.model_selection import cross_val_score

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.preparation.present import FEW, Present

N_FEATURES = 3_000
SETTINGS = {
    "defaults": {},
    "l1": {"penalty": "l1", "alpha": 0.01},
    "sgd": {"solver": "sgd"},
    "adam": {"solver": "adam", "penalty": "elasticnet"},
    "saga": {"solver": "saga"},
    "hinge": {"loss": "hinge"},
    "standardize": {"standardize": True, "solver": "schedule_free"},
    "early stopping": {"early_stopping": True},
    "weights": {"class_weight": "balanced"},
}


@pytest.fixture(scope="module")
def rows():
    """Rows of 30 features, the same among many others, and which they are there."""
    rng = np.random.default_rng(7)
    X = sparse.random_array((240, 30), density=0.3, rng=rng, format="csr")
    features = np.sort(rng.choice(np.arange(10, N_FEATURES), 30, replace=False))
    wide = sparse.csr_array((X.data, features[X.indices], X.indptr), shape=(240, N_FEATURES))
    raw = X @ rng.standard_normal(30)
    return X, wide, features, raw


def spread(coef, features):
    out = np.zeros((*coef.shape[:-1], N_FEATURES))
    out[..., features] = coef
    return out


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_absent_features_change_no_bit(name, n_classes, rows):
    X, wide, features, raw = rows
    y = np.digitize(raw, [0.0] if n_classes == 2 else [-0.3, 0.4])
    settings = {"max_iter": 20, "tol": None, "random_state": 0, **SETTINGS[name]}
    narrow = MiniBatchSGDClassifier(**settings).fit(X, y)
    fitted = MiniBatchSGDClassifier(**settings).fit(wide, y)
    assert fitted.n_features_in_ == N_FEATURES
    np.testing.assert_array_equal(fitted.coef_, spread(narrow.coef_, features))
    np.testing.assert_array_equal(fitted.intercept_, narrow.intercept_)
    np.testing.assert_array_equal(fitted.loss_curve_, narrow.loss_curve_)
    np.testing.assert_array_equal(fitted.predict_proba(wide) if name == "defaults" else fitted.predict(wide),
                                  narrow.predict_proba(X) if name == "defaults" else narrow.predict(X))  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ("saga", "early stopping", "weights")])
def test_a_stream_goes_on_with_features_that_fit_had_not_seen(name, rows):
    X, wide, features, raw = rows
    settings = {"max_iter": 5, "tol": None, "random_state": 0, **SETTINGS[name]}
    narrow = MiniBatchSGDClassifier(**settings).fit(X, raw > 0).partial_fit(X, raw > 0)
    fitted = pickle.loads(pickle.dumps(MiniBatchSGDClassifier(**settings).fit(wide, raw > 0)))
    fitted.partial_fit(wide, raw > 0)
    np.testing.assert_allclose(fitted.coef_, spread(narrow.coef_, features), rtol=1e-9, atol=1e-12)
    with_new = wide.tolil()
    with_new[:, 3] = np.where(raw > 0, 1.0, 0.0)[:, None]
    before = fitted.coef_[0, 3]
    fitted.partial_fit(with_new.tocsr(), raw > 0)
    assert before == 0 < fitted.coef_[0, 3]


def test_several_outputs_and_warm_starts(rows):
    X, wide, features, raw = rows
    y = np.column_stack([raw, -raw])
    settings = {"random_state": 0, "tol": 1e-6}
    narrow, fitted = (MiniBatchSGDRegressor(**settings).fit(given, y) for given in (X, wide))
    np.testing.assert_array_equal(fitted.coef_, spread(narrow.coef_, features))
    again = fitted.set_params(warm_start=True).fit(wide, y)
    np.testing.assert_allclose(again.coef_, spread(narrow.coef_, features), atol=1e-3)


def test_assigned_coefficients_are_those_of_all_features(rows):
    _, wide, _, raw = rows
    fitted = MiniBatchSGDRegressor(random_state=0).fit(wide, raw)
    fitted.coef_[0] = 7.0
    fitted.partial_fit(wide, raw)
    assert 6.0 < fitted.coef_[0] <= 7.0
    fitted.coef_ = np.zeros(30)
    with pytest.raises(ValueError, match="coef_"):
        fitted.partial_fit(wide, raw)


def test_a_pickle_grows_by_the_published_coefficients_alone(rows):
    _, wide, _, raw = rows
    wider = sparse.csr_array((wide.data, wide.indices, wide.indptr), shape=(240, 100 * N_FEATURES))
    sizes = [len(pickle.dumps(MiniBatchSGDRegressor(random_state=0).fit(X, raw))) for X in (wide, wider)]
    assert sizes[1] - sizes[0] <= 8 * 99 * N_FEATURES + 1_000


def test_a_divergence_names_the_feature(rows):
    X, wide, features, raw = rows
    scaled = (wide * np.float64(1e6)).tocsr()
    with pytest.raises(ValueError, match="Largest features") as caught:
        MiniBatchSGDRegressor(solver="sgd", learning_rate="constant", eta0=1e3).fit(scaled, raw)
    largest = features[np.argmax(np.abs(X[:1000]).max(axis=0).toarray())]
    assert f"{largest} (up to" in str(caught.value)


def test_rows_without_values_and_rows_that_have_most_features(rows):
    X, _, _, raw = rows
    nothing = sparse.csr_array((240, 50))
    assert np.all(MiniBatchSGDRegressor(random_state=0).fit(nothing, raw).coef_ == 0)
    kept, present = Present.of(X)
    assert kept is X
    assert present is None
    assert len(np.unique(X.indices)) > FEW * X.shape[1]


def test_at_home_in_cross_validation(rows):
    _, wide, _, raw = rows
    assert cross_val_score(MiniBatchSGDClassifier(random_state=0), wide, raw > 0, cv=3).mean() > 0.8
