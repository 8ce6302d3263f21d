"""What is not finite is seen (N5): fastmath must not delete the checks."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch import MiniBatchSGDClassifier
from skminibatch.backends import base
from skminibatch.losses import Logistic, SquaredError
from skminibatch.optimizers import Adam, ScheduleFree
from tests.backends.linear_chunks import (
    plan_of,
    rows_of_data,
    run,
    targets_of,
)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("density", [1.0, 0.3], ids=["dense", "sparse"])
@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam()], ids=repr)
def test_n5_the_step_that_is_not_finite_is_named(backend, number, density, optimizer):
    X = rows_of_data(density=density)
    plan = plan_of(optimizer, batch_size=8, n_epochs=1)
    position = 50
    row = plan.rows.explicit[position]
    if density < 1:
        X.data[X.indptr[row]] = number
    else:
        X[row, 2] = number
    step = int(np.searchsorted(plan.offsets, position, side="right")) - 1
    for verbs in (base, backend):
        with np.errstate(all="ignore"):
            _, stats = run(verbs, X, Logistic(), optimizer, plan=plan)
        assert stats.failed == step


@pytest.mark.parametrize("density", [1.0, 0.3], ids=["dense", "sparse"])
def test_n5_a_divergence_is_seen(backend, density):
    X = rows_of_data(density=density)
    plan = plan_of(ScheduleFree(), rate=1e5, n_epochs=60)
    for verbs in (base, backend):
        with np.errstate(all="ignore"):
            _, stats = run(verbs, X, SquaredError(), ScheduleFree(), plan=plan)
        assert 0 < stats.failed < plan.offsets.size - 1


def test_n5_nan_in_data_that_skipped_validation_is_an_error():
    from sklearn import config_context

    X, y = rows_of_data().copy(), targets_of(Logistic())
    X[7, 1] = np.nan
    with config_context(assume_finite=True), pytest.raises(ValueError, match=r"[Ff]loating-point|NaN"):
        MiniBatchSGDClassifier(learning_rate="constant", eta0=0.1).fit(X, y)
