"""The table of a search: scikit-learn's columns, and what trainings and comparisons add to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skminibatch.model_selection.comparison import Differences
from skminibatch.model_selection.evaluation import Outcome

TRAINED = "n_epochs", "n_updates", "n_rows_read", "noise_scale"


def add_trainings(results: dict[str, Any], outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Add what each candidate (a row) came to on each fold (a column): means over the folds, and a loss curve of each."""
    for name in TRAINED:
        numbers = np.array([[getattr(outcome, name) for outcome in row] for row in outcomes])
        found = np.isfinite(numbers)
        total = np.where(found, numbers, 0.0).sum(axis=1)
        results[f"mean_{name}"] = np.where(found.any(axis=1), total / np.maximum(found.sum(axis=1), 1), np.nan)
    for name in ("loss_curve", "score_curve"):
        for fold in range(len(outcomes[0])):
            curves = np.empty(len(outcomes), object)
            curves[:] = [getattr(row[fold], name) for row in outcomes]
            if any(curve.size for curve in curves):
                results[f"split{fold}_{name}"] = curves


def add_race(results: dict[str, Any], outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Add on how many folds each candidate was evaluated, and give those that have left the means of these."""
    results["n_splits_evaluated"] = np.array([sum(outcome.was_evaluated for outcome in row) for row in outcomes])
    for name in [name.removeprefix("mean_") for name in results if name.startswith(("mean_test_", "mean_train_"))]:
        found = np.column_stack([results[f"split{fold}_{name}"] for fold in range(len(outcomes[0]))])
        results[f"mean_{name}"], results[f"std_{name}"] = np.nanmean(found, axis=1), np.nanstd(found, axis=1)


def scores_of(results: dict[str, Any], metric: str, n_splits: int) -> np.ndarray:
    """The test scores (n_candidates, n_splits)."""
    return np.column_stack([results[f"split{fold}_test_{metric}"] for fold in range(n_splits)])


def add_differences(results: dict[str, Any], differences: Differences) -> None:
    """Add how far each candidate is from the best one."""
    results["mean_difference_from_best"] = differences.mean
    results["standard_error_of_difference"] = differences.standard_error
    results["low_difference_from_best"] = differences.low
    results["high_difference_from_best"] = differences.high
