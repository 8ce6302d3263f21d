"""Candidates that leave a search, and scores after each epoch."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skminibatch import MiniBatchMLPClassifier, MiniBatchSGDClassifier
from skminibatch.model_selection import BatchSizeSearchCV


@pytest.fixture
def data():
    """Classes of which one is rare: a strong penalty predicts the other one alone."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 4))
    return X, (X @ [2.0, -2.0, 1.0, 0.0] > 1.0).astype(int)


def searched(data, **options):
    options = {"cv": 5, "random_state": 0, "param_grid": {"alpha": [1e-4, 1e3]}, **options}
    return BatchSizeSearchCV(MiniBatchSGDClassifier(), [16, 64], **options).fit(*data)


def test_who_is_worse_beyond_doubt_leaves(data):
    raced, whole = searched(data, racing=True), searched(data)
    weak = np.array([params["alpha"] < 1 for params in raced.cv_results_["params"]])
    evaluated = raced.cv_results_["n_splits_evaluated"]
    np.testing.assert_array_equal(evaluated[weak], 5)
    assert np.all((evaluated[~weak] >= 2) & (evaluated[~weak] < 5))
    assert raced.best_params_ == whole.best_params_
    assert all(params["alpha"] < 1 for params in raced.indistinguishable_)
    for number in np.flatnonzero(~weak):
        scores = [raced.cv_results_[f"split{k}_test_score"][number] for k in range(5)]
        there, left = scores[: evaluated[number]], scores[evaluated[number] :]
        assert np.isnan(left).all()
        np.testing.assert_allclose(raced.cv_results_["mean_test_score"][number], np.mean(there))
        np.testing.assert_array_equal(
            there, [whole.cv_results_[f"split{k}_test_score"][number] for k in range(len(there))]
        )
        assert raced.cv_results_["rank_test_score"][number] == 3  # both that have left, behind those that have not


def test_a_race_by_one_of_several_scores(data):
    search = searched(data, racing=True, scoring=["accuracy", "f1"], refit="f1")
    assert search.cv_results_["n_splits_evaluated"].min() < 5
    assert np.isfinite(search.cv_results_["mean_test_accuracy"]).all()
    with pytest.raises(ValueError, match="racing=True needs the name of a score"):
        searched(data, racing=True, scoring=["accuracy", "f1"], refit=False)


def test_equals_stay(data):
    search = searched(data, racing=True, param_grid=None)
    np.testing.assert_array_equal(search.cv_results_["n_splits_evaluated"], 5)


@pytest.mark.parametrize("scoring", [None, "balanced_accuracy"])
@pytest.mark.parametrize(
    "estimator",
    [
        MiniBatchSGDClassifier(solver="sgd"),
        make_pipeline(StandardScaler(), MiniBatchSGDClassifier(solver="sgd")),
        MiniBatchMLPClassifier(hidden_layer_sizes=(4,)),
    ],
    ids=["linear", "pipeline", "network"],
)
def test_the_last_score_of_a_curve_is_the_score(estimator, scoring, data):
    options = {"cv": 3, "random_state": 0, "budget_value": 3, "scoring": scoring, "refit": False}
    results = BatchSizeSearchCV(estimator, [16, 64], return_score_curves=True, **options).fit(*data).cv_results_
    alone = BatchSizeSearchCV(estimator, [16, 64], **options).fit(*data).cv_results_
    for fold in range(3):
        curves = results[f"split{fold}_score_curve"]
        assert [len(curve) for curve in curves] == [3, 3]
        np.testing.assert_array_equal([curve[-1] for curve in curves], results[f"split{fold}_test_score"])
        np.testing.assert_array_equal(results[f"split{fold}_test_score"], alone[f"split{fold}_test_score"])
        assert f"split{fold}_score_curve" not in alone


def test_a_curve_has_one_score(data):
    with pytest.raises(ValueError, match="return_score_curves=True needs one score"):
        searched(data, return_score_curves=True, scoring=["accuracy", "f1"], refit="f1")
