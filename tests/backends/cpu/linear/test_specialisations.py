"""What is compiled, and how often: kernels for each type of the data, formulas for each kind of part."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.backends.cpu.linear.operations import residuals
from skminibatch.losses import SquaredError
from skminibatch.optimizers import ScheduleFree


def kernels() -> dict:
    from skminibatch.backends.cpu.linear import dense, losses
    from skminibatch.backends.cpu.linear import sparse as csr

    return {
        "run": dense.run,
        "run_linear": csr.run_linear,
        "run_lazy": csr.run_lazy,
        "dense": losses.dense,
        "csr": losses.csr,
    }


def compiled() -> dict[str, set]:
    return {name: set(kernel.cached.signatures) | set(kernel.uncached.signatures) for name, kernel in kernels().items()}


def layouts(X, tmp_path):
    """The same numbers in other memory."""
    read_only = X.copy()
    read_only.flags.writeable = False
    strided = np.zeros((2 * X.shape[0], 3 * X.shape[1]))
    strided[::2, ::3] = X
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "F.npy", np.asfortranarray(X))
    return {
        "read-only": read_only,
        "Fortran": np.asfortranarray(X),
        "strided": strided[::2, ::3],
        "reversed": X[::-1].copy()[::-1],
        "mapped": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "mapped, Fortran": np.load(tmp_path / "F.npy", mmap_mode="r"),
        "big-endian": X.astype(">f8"),
        "list": X.tolist(),
    }


def test_layouts_share_one_specialisation(tmp_path, binary):
    classifier = MiniBatchSGDClassifier(max_iter=2, tol=None, random_state=0)
    expected, before = classifier.fit(*binary).coef_, compiled()
    for name, X in layouts(np.array(binary.X), tmp_path).items():
        for y in (binary.y, binary.y.astype(np.int8), np.repeat(binary.y, 2)[::2]):
            np.testing.assert_array_equal(classifier.fit(X, y).coef_, expected, err_msg=name)
    classifier.fit(binary.X, binary.y, sample_weight=np.ones(240))
    classifier.fit(binary.X, binary.y, sample_weight=np.arange(240) % 2)
    classifier.partial_fit(binary.X[:17], binary.y[:17])
    assert compiled() == before


def test_sparse_layouts_share_one_specialisation(binary):
    """CSR, CSC and COO, matrices and arrays, unsorted and duplicate entries, read-only."""
    classifier = MiniBatchSGDClassifier(max_iter=2, tol=None, random_state=0)
    X = sparse.csr_matrix(np.where(np.abs(binary.X) < 1.3, 0, binary.X))
    expected, before = classifier.fit(X, binary.y).coef_, compiled()
    unsorted = X.copy()
    for i in range(X.shape[0]):
        row = slice(X.indptr[i], X.indptr[i + 1])
        unsorted.indices[row], unsorted.data[row] = X.indices[row][::-1], X.data[row][::-1]
    unsorted.has_sorted_indices = False
    doubled = sparse.csr_matrix((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape)
    frozen = X.copy()
    for array in (frozen.data, frozen.indices, frozen.indptr):
        array.flags.writeable = False
    for given in (unsorted, doubled, frozen, X.tocsc(), X.tocoo(), sparse.csr_array(X)):
        np.testing.assert_allclose(classifier.fit(given, binary.y).coef_, expected, rtol=1e-12)
    assert compiled() == before


def test_new_values_and_second_calls_compile_nothing(binary, regression):
    settings = {"max_iter": 2, "tol": None, "random_state": 0}
    # rows that are read as they are, and rows that are scaled on the way, in round coordinates or not
    for stretched, penalty in itertools.product((1, 100), ("l2", "l1")):
        MiniBatchSGDClassifier(**settings, penalty=penalty).fit(stretched * binary.X, binary.y)
        MiniBatchSGDRegressor(**settings, penalty=penalty).fit(stretched * regression.X, regression.y)
    before = compiled()
    for changed in (
        {},
        {"alpha": 3},
        {"alpha": 0.5, "penalty": "l1"},
        {"penalty": "elasticnet", "l1_ratio": 0.7},
        {"penalty": None},
        {"batch_size": 7},
        {"batch_size": "full"},
        {"batch_size": 0.5},
        {"solver": ScheduleFree(0.5)},
        {"solver": ScheduleFree(interpolation=0)},
        {"learning_rate": "constant", "eta0": 1},
        {"learning_rate": "cosine"},
        {"clip_norm": 1},
        {"sampler": "blocks"},
        {"sampler": "replacement"},
        {"sampler": "sequential"},
        {"fit_intercept": False},
        {"n_jobs": 2},
        {"early_stopping": True},
        {"max_iter": 5, "tol": 0.1},
    ):
        MiniBatchSGDClassifier(**{**settings, **changed}).fit(*binary)
        MiniBatchSGDRegressor(**{**settings, **changed}).fit(*regression)
    assert compiled() == before


class Cubic(NamedTuple):
    """A loss of the user's own: a third of the absolute residual to the power of three."""

    scale: float = 1.0
    curvature = None
    task = "regression"

    def value(self, raw, y):
        return self.scale * np.abs(raw - y) ** 3 / 3

    def gradient(self, raw, y):
        return self.scale * np.abs(raw - y) * (raw - y)


def test_a_part_from_elsewhere_is_compiled_but_not_kept(regression):
    """The cache on disk would not see an edit of its formula."""
    settings = {
        "solver": "sgd",
        "learning_rate": "constant",
        "eta0": 0.01,
        "max_iter": 3,
        "tol": None,
        "random_state": 0,
    }
    ours = MiniBatchSGDRegressor(loss=Cubic(), **settings).fit(*regression)
    base_fit = MiniBatchSGDRegressor(loss=Cubic(), device="base", **settings).fit(*regression)
    np.testing.assert_allclose(ours.coef_, base_fit.coef_, rtol=1e-9)
    assert residuals(Cubic(), *regression).function._cache.cache_path is None
    assert residuals(SquaredError(), *regression).function._cache.cache_path is not None


PINNED = """
import json
import numpy as np
from scipy import sparse
from skminibatch import MiniBatchSGDClassifier
from skminibatch.backends.cpu.linear import dense, losses
from skminibatch.backends.cpu.linear import sparse as csr

rng = np.random.default_rng(0)
X, y = rng.standard_normal((50, 3)), np.arange(50) % 2
for given in (X, X.astype(np.float32), sparse.csr_matrix(np.where(np.abs(X) < 1.3, 0, X))):
    for sample_weight in (None, np.ones(50)):
        model = MiniBatchSGDClassifier(max_iter=2, tol=None).fit(given, y, sample_weight=sample_weight)
        model.partial_fit(given, y)
        model.score(given, y)
kernels = {"run": dense.run, "run_linear": csr.run_linear, "dense": losses.dense, "csr": losses.csr}
print(json.dumps({name: len(kernel.cached.signatures) for name, kernel in kernels.items()}))
"""


@pytest.mark.slow
def test_the_number_of_specialisations_is_pinned(run_python):
    """One per type of the data (dense float64, dense float32, CSR); weights and the stages of a fit are not another one."""
    import json

    assert json.loads(run_python(PINNED)) == {"run": 2, "run_linear": 1, "dense": 2, "csr": 1}
