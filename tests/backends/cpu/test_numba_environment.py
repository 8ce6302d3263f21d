"""The traps of numba: caches, processes, threads, fork. N5 is in backends.test_not_finite, N7 in test_architecture."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

import skminibatch
from skminibatch import MiniBatchSGDClassifier
from skminibatch.backends.cpu import cache

# The kernels of a stream of sparse rows are compiled in a fifth of the time of those of dense rows.
STREAM = """
import os, sys
import numpy as np
from scipy import sparse
import skminibatch
from skminibatch import MiniBatchSGDRegressor

X = sparse.random(100, 400, 0.05, "csr", random_state=0)
y = np.ravel(X.sum(axis=1))
fitted = MiniBatchSGDRegressor(random_state=0).partial_fit(X, y).partial_fit(X, y)
from skminibatch.backends.cpu.linear import diagonal
kernels = (diagonal.run.cached, diagonal.coefficients.cached)
"""
FIT = """
import os, sys
import numpy as np
import skminibatch
from skminibatch import MiniBatchSGDRegressor

rng = np.random.default_rng(0)
X = rng.standard_normal((100, 3))
fitted = MiniBatchSGDRegressor(solver="schedule_free", max_iter=2, tol=None, random_state=0).fit(X, X[:, 0])
fitted.partial_fit(X, X[:, 0])
from skminibatch.backends.cpu.linear import dense, losses
kernels = (dense.run.cached, losses.dense.cached)
"""
REPORT = """
import json
print(json.dumps({
    "file": skminibatch.__file__,
    "paths": [kernel.stats.cache_path for kernel in kernels],
    "hits": sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels),
    "misses": sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels),
    "signatures": sum(len(kernel.signatures) for kernel in kernels),
    "coef": fitted.coef_.tolist(),
}))
"""
OTHER = """
other = MiniBatchSGDRegressor(solver="schedule_free", alpha=3, batch_size=7, penalty="l1", max_iter=2, tol=None)
other.fit(X, X[:, 0], sample_weight=1 + np.arange(100) % 2)
"""
NO_HOME = {
    "HOME": "/dev/null/home",
    "USERPROFILE": "/dev/null/home",
    "LOCALAPPDATA": None,
    "XDG_CACHE_HOME": None,
}


@pytest.fixture
def package_copy(tmp_path):
    """A copy of the package without caches."""
    source = Path(skminibatch.__file__).parent
    copy = tmp_path / "site" / "skminibatch"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def make_read_only(folder: Path) -> None:
    """No file can be made in a folder, not even by root: a file takes the place of ``__pycache__``."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            (path / "__pycache__").write_text("")
            path.chmod(0o555)


def make_writable(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("home", ["none", "writable"])
def test_n1_a_read_only_package_works(home, package_copy, tmp_path, run_python):
    """N1: without any place for a cache, and with numba's folder in the home of the user."""
    make_read_only(package_copy)
    env = {
        "PYTHONPATH": str(package_copy.parent),
        "NUMBA_CACHE_DIR": None,
        "PYTHONDONTWRITEBYTECODE": "1",
        **NO_HOME,
    }
    if home == "writable":
        env |= {"HOME": str(tmp_path / "home"), "LOCALAPPDATA": str(tmp_path / "home")}
    try:
        report = json.loads(run_python("import os; os.chdir('/')" + STREAM + REPORT, env=env))
    finally:
        make_writable(package_copy)
    assert report["file"].startswith(str(package_copy))
    assert report["signatures"] == 2
    if home == "none":
        assert report["paths"] == [None, None]
    else:
        assert all(path.startswith(str(tmp_path / "home")) for path in report["paths"])
        assert report["misses"] == 2


@pytest.mark.slow
def test_n1_a_package_in_an_archive_can_be_imported(package_copy, tmp_path, run_python):
    """N1: from a zip file, with and without a place for a cache."""
    archive = tmp_path / "packages.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package_copy.rglob("*.py"):
            file.write(path, path.relative_to(package_copy.parent))
    env = {"PYTHONPATH": str(archive), "NUMBA_CACHE_DIR": None}
    home = {"HOME": str(tmp_path / "home"), "LOCALAPPDATA": str(tmp_path / "home")}
    code = "import os; os.chdir('/'); import skminibatch.backends.cpu.linear.dense as dense; print(dense.__file__)"
    assert str(archive) in run_python(code, env={**NO_HOME, **home, **env})
    report = json.loads(run_python("import os; os.chdir('/')" + STREAM + REPORT, env={**NO_HOME, **env}))
    assert report["file"].startswith(str(archive))


RACE = """
import multiprocessing, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads

def fit(i, barrier, queue):
    import numpy as np
    from scipy import sparse
    from skminibatch import MiniBatchSGDRegressor
    from skminibatch.backends.cpu.linear import diagonal
    X = sparse.random(100, 400, 0.05, "csr", random_state=0)
    barrier.wait()
    coef = MiniBatchSGDRegressor(random_state=0).partial_fit(X, np.ravel(X.sum(axis=1))).coef_
    queue.put((coef.tolist(), sum(diagonal.run.cached.stats.cache_misses.values())))

if __name__ == "__main__":
    import json
    import sklearn.linear_model  # what all of them need
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    barrier, queue = context.Barrier(4), context.Queue()
    processes = [context.Process(target=fit, args=(i, barrier, queue)) for i in range(4)]
    for process in processes:
        process.start()
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    print(json.dumps({"codes": [process.exitcode for process in processes], "results": results}))
"""


@pytest.mark.slow
def test_n2_four_processes_and_a_cold_cache(tmp_path, run_python):
    """N2: one of them compiles, the others wait for it and load; without locks all compile. Then the cache is whole."""
    script = tmp_path / "race.py"
    script.write_text(RACE)
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    report = json.loads(run_python(code, env=env))
    assert report["codes"] == [0] * 4
    coefs, misses = zip(*report["results"], strict=True)
    assert all(coef == coefs[0] for coef in coefs)
    assert sum(misses) == (1 if cache.fcntl else 4)
    again = json.loads(run_python(STREAM + REPORT, env=env))
    assert (again["hits"], again["misses"]) == (2, 0)
    assert again["coef"] != []


@pytest.mark.slow
def test_a_second_process_hits_the_cache(tmp_path, run_python):
    """Also for other values of hyper-parameters, which are no part of a specialisation."""
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first = json.loads(run_python(FIT + REPORT, env=env))
    assert (first["hits"], first["misses"]) == (0, 2)
    second = json.loads(run_python(FIT + OTHER + REPORT, env=env))
    assert (second["hits"], second["misses"]) == (2, 0)
    assert second["coef"] == first["coef"]
    # two kernels, the order of the rows, and the residuals, the step and the first look of two penalties of one class
    assert len(list((tmp_path / "cache").rglob("*.nbc"))) == 6


def classifier(**parameters):
    """With batches that are cut into several slices, for several threads."""
    settings = {"batch_size": 512, "max_iter": 3, "tol": None, "random_state": 0, "n_jobs": 2, **parameters}
    return MiniBatchSGDClassifier(**settings)


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4096, 6))
    return X, (X[:, 0] + 0.5 * rng.standard_normal(4096) > 0).astype(int)


def test_n3_parallel_kernels_in_several_threads(large):
    """N3: joblib's and Python's own threads, each with kernels of two threads inside."""
    expected = [classifier(random_state=seed).fit(*large).coef_ for seed in range(4)]

    def fit(seed):
        return classifier(random_state=seed).fit(*large).coef_

    by_joblib = joblib.Parallel(n_jobs=4, prefer="threads")(joblib.delayed(fit)(seed) for seed in range(4))
    with ThreadPoolExecutor(4) as pool:
        by_python = list(pool.map(fit, range(4)))
    np.testing.assert_array_equal(by_joblib, expected)
    np.testing.assert_array_equal(by_python, expected)


FORK = """
import os, warnings
import numpy as np
from skminibatch import MiniBatchSGDClassifier

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
rng = np.random.default_rng(0)
X = rng.standard_normal((2048, 4))
settings = {"batch_size": 512, "max_iter": 3, "tol": None, "random_state": 0, "n_jobs": 2}
parent = MiniBatchSGDClassifier(**settings).fit(X, X[:, 0] > 0)
child = os.fork()
if child == 0:
    again = MiniBatchSGDClassifier(**settings).fit(X, X[:, 0] > 0)
    again.partial_fit(X, X[:, 0] > 0)
    parent.partial_fit(X, X[:, 0] > 0)
    os._exit(0 if np.array_equal(parent.coef_, again.coef_) else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
after = MiniBatchSGDClassifier(**settings).fit(X, X[:, 0] > 0)
assert np.array_equal(parent.coef_, after.coef_)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_n4_fit_fork_fit(run_python):
    """N4: kernels of two threads in the parent, in the child after the fork, and in the parent again."""
    run_python(FORK)


@pytest.mark.parametrize("order", ["C", "F"])
def test_n6_memory_maps_of_joblib(order, large, tmp_path):
    """N6: arrays as joblib gives them to its workers, mapped and read-only."""
    X, y = large
    joblib.dump([np.array(X, order=order), y], tmp_path / "data.joblib")
    mapped, targets = joblib.load(tmp_path / "data.joblib", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    fitted = classifier().fit(mapped, targets)
    np.testing.assert_array_equal(fitted.coef_, classifier().fit(X, y).coef_)
    np.testing.assert_array_equal(fitted.predict(mapped), fitted.predict(X))
    again = classifier().partial_fit(mapped, targets, classes=[0, 1])
    np.testing.assert_array_equal(again.coef_, classifier().partial_fit(X, y, classes=[0, 1]).coef_)


@pytest.mark.slow
def test_n6_processes_of_joblib(large):
    """N2, N6 and N8: loky's workers get memory maps, hit the same cache and use one thread each."""
    X, y = large
    expected = cross_val_score(classifier(), X, y, cv=3)
    with joblib.parallel_config("loky", n_jobs=2, max_nbytes=1000):
        np.testing.assert_array_equal(cross_val_score(classifier(), X, y, cv=3), expected)
