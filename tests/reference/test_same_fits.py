"""Fits as they were recorded: a change of structure must not change a result.

`same_fits.json` holds, for each case, a digest of every learnt number and a few of the numbers themselves. The bits depend
on the processor and on the versions of the libraries: on a machine of another kind the numbers have to agree to rounding.
`python tests/reference/test_same_fits.py` records the fits anew, after a change that is meant to change them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy
import sklearn
from scipy import sparse
from sklearn.datasets import make_classification, make_regression

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor

RECORDED = Path(__file__).with_name("same_fits.json")
X_REGRESSION, Y_REGRESSION = make_regression(600, 12, noise=5.0, random_state=0)
X_BINARY, Y_BINARY = make_classification(600, 12, n_informative=6, random_state=0)
X_SEVERAL, Y_SEVERAL = make_classification(600, 12, n_informative=8, n_classes=4, random_state=0)
X_SPARSE = sparse.csr_matrix(np.where(np.abs(X_BINARY) > 1.0, X_BINARY, 0.0))
NONNEGATIVE = np.floor(np.abs(Y_REGRESSION) / 50.0)
SHORT = {"max_iter": 6, "tol": None, "random_state": 0}


def streamed(model, X, y, **first):
    """The estimator after a stream of three chunks."""
    for rows in np.array_split(np.arange(len(y)), 3):
        model.partial_fit(X[rows], y[rows], **first)
    return model


CASES = {
    "default regressor": lambda: MiniBatchSGDRegressor(random_state=0).fit(X_REGRESSION, Y_REGRESSION),
    "default classifier": lambda: MiniBatchSGDClassifier(random_state=0).fit(X_SEVERAL, Y_SEVERAL),
    "balanced hinge with l1": lambda: MiniBatchSGDClassifier(
        loss="hinge", penalty="l1", alpha=1e-3, class_weight="balanced", solver="momentum", eta0=0.01,
        learning_rate="invscaling", batch_size=16, **SHORT,
    ).fit(X_BINARY, Y_BINARY),
    "sparse rows": lambda: MiniBatchSGDClassifier(batch_size=8, **SHORT).fit(X_SPARSE, Y_BINARY),
    "sparse rows with adam": lambda: MiniBatchSGDClassifier(
        solver="adam", penalty="elasticnet", average=100, **SHORT
    ).fit(X_SPARSE, Y_SEVERAL),
    "float32 poisson by importance": lambda: MiniBatchSGDRegressor(
        loss="poisson", sampler="importance", batch_size="noise_scale", **SHORT
    ).fit(X_REGRESSION.astype(np.float32), NONNEGATIVE),
    "saga": lambda: MiniBatchSGDRegressor(solver="saga", **SHORT).fit(X_REGRESSION, Y_REGRESSION),
    "stream": lambda: streamed(
        MiniBatchSGDClassifier(standardize=True, batch_size=32, random_state=0), X_SEVERAL, Y_SEVERAL, classes=range(4)
    ),
    "network": lambda: MiniBatchMLPRegressor(hidden_layer_sizes=(8,), batch_size=32, dropout=0.2, **SHORT).fit(
        X_REGRESSION, Y_REGRESSION
    ),
    "network with batch normalization": lambda: MiniBatchMLPClassifier(
        hidden_layer_sizes=(8, 6), normalization="batch", early_stopping=True, batch_size=48, **SHORT
    ).fit(X_SEVERAL.astype(np.float32), Y_SEVERAL),
}  # fmt: skip


def numbers_of(model) -> list[np.ndarray]:
    """Every learnt number, and what was measured on the way."""
    learnt = [*model.coefs_, *model.intercepts_] if hasattr(model, "coefs_") else [model.coef_, model.intercept_]
    return [*learnt, model.loss_curve_, np.array([model.n_iter_, model.t_, model.n_updates_, model.batch_size_])]


def machine() -> str:
    """What the bits may depend on."""
    from llvmlite.binding import get_host_cpu_name
    from numba import __version__ as numba_version
    from numba.core.codegen import get_host_cpu_features

    versions = numba_version, np.__version__, scipy.__version__, sklearn.__version__
    blas = json.dumps(np.show_config("dicts")["Build Dependencies"]["blas"], sort_keys=True, default=str)
    facts = get_host_cpu_name(), str(get_host_cpu_features()), blas, *versions
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def recorded_form(model) -> dict:
    arrays = [np.ascontiguousarray(numbers) for numbers in numbers_of(model)]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    return {"digest": digest, "numbers": [float(x) for array in arrays for x in array.ravel()[:4]]}


@pytest.mark.parametrize("case", CASES)
def test_fits_are_those_that_were_recorded(case):
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    ours, theirs = recorded_form(CASES[case]()), recorded["fits"][case]
    if machine() == recorded["machine"]:
        assert ours["digest"] == theirs["digest"], "not the same bits"
    np.testing.assert_allclose(ours["numbers"], theirs["numbers"], rtol=1e-3, atol=1e-6)


if __name__ == "__main__":
    fits = {case: recorded_form(make()) for case, make in CASES.items()}
    RECORDED.write_text(json.dumps({"machine": machine(), "fits": fits}, indent=1) + "\n", encoding="utf-8")
