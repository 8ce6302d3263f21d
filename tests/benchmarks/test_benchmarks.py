"""Every benchmark runs, on tiny data: what they measure is of no interest here."""

from __future__ import annotations

import pytest

from tests.emulated import cupy
from tests.processes import OF_ROOT, ROOT, python

FOLDER = ROOT / "benchmarks"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FOLDER.exists(), reason="not in a checkout")]

HELPERS = {"cells", "measures", "optima", "peers", "problems", "report", "run", "smoke", "timing"}
BY_THEMSELVES = {"compare", "gpu", "gpu_page", "gpu_peers"}  # not started by run.py
NAMES = sorted({path.stem for path in FOLDER.glob("*.py")} - HELPERS - BY_THEMSELVES)


def run(*command, **env):
    return python(*command, env={**OF_ROOT, **env})


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory):
    """All benchmarks in one process, and the folder of their pages."""
    output = tmp_path_factory.mktemp("benchmarks")
    return run(FOLDER / "run.py", "--smoke", "--output", output), output


@pytest.mark.parametrize("name", NAMES)
def test_benchmark(name, smoke_run):
    done, output = smoke_run
    page = output / f"{name}.md"
    assert page.exists(), done.stderr or done.stdout
    assert "| --- |" in page.read_text(encoding="utf-8")


def test_a_benchmark_that_fails_is_named(smoke_run):
    done, _ = smoke_run
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(cupy.COMPILER is None, reason=cupy.NO_COMPILER)
def test_on_a_gpu():
    done = run(FOLDER / "gpu.py", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Failed" not in done.stdout
    assert done.stdout.count("| --- |") >= 4


def test_page_of_a_gpu_without_numbers(tmp_path):
    """What was not measured is named as such."""
    done = run(FOLDER / "gpu.py", "--page", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing on this page has been measured" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_compare():
    done = run(FOLDER / "compare.py", ROOT, "--cases", "iris", "--repeats", 1, SKMINIBATCH_SMOKE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("iris") == 2
