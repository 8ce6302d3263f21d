"""Threads of the kernels of linear models: their number changes no bit."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch import MiniBatchSGDClassifier
from skminibatch.backends import cpu
from skminibatch.contract.orders import keyed_order
from skminibatch.optimizers import ScheduleFree
from tests.backends.linear_chunks import (
    KEYS,
    SOME,
    plan_of,
    rows_of_data,
    run,
)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("batch_size", [100, 130, 517, 3000])
def test_the_number_of_threads_changes_no_bit(dtype, batch_size):
    X = rows_of_data(3000, dtype=dtype)
    order = keyed_order(3000, KEYS)
    plan = plan_of(ScheduleFree(), 3000, batch_size, n_epochs=1, order=order, clip_norm=0.5)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 3000)
    expected, expected_stats = run(cpu, X, *SOME, plan=plan, weights=weights)
    for n_threads in (2, 3, 16):
        params, stats = run(cpu, X, *SOME, plan=plan, weights=weights, n_threads=n_threads)
        np.testing.assert_array_equal(params, expected)
        for ours, theirs in zip(stats, expected_stats, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_n_jobs_changes_no_bit():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 4))
    y = rng.integers(2, size=5000)
    settings = {"batch_size": 600, "max_iter": 3, "tol": None, "random_state": 0}
    fits = [MiniBatchSGDClassifier(n_jobs=n_jobs, **settings).fit(X, y).coef_ for n_jobs in (None, 1, 2, 3, -1)]
    for coef in fits[1:]:
        np.testing.assert_array_equal(coef, fits[0])
