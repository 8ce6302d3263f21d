"""The documentation builds without a warning, and its code runs as tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.docs.pages import DOCS, ROOT, load

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md") if "generated" not in path.parts)


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    skip = shutil.ignore_patterns("__pycache__", "_build", "generated", "api.rst")
    for name in ("docs", "examples", "skminibatch", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    built = tmp_path / "html"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(tmp_path / "docs"), str(built)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lists = load("lists")
    for kind in lists.KINDS.values():
        for part in kind.registry.values():
            assert (built / "generated" / f"{lists.path_of(part, kind.module)}.html").exists()


def test_the_code_of_every_page_runs_as_a_test():
    """Pages with examples are below pytest's paths."""
    paths = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"][
        "testpaths"
    ]
    with_code = [page for page in ["README.md", *PAGES] if ">>> " in (ROOT / page).read_text(encoding="utf-8")]
    assert "docs/user_guide.md" in with_code
    assert not [page for page in with_code if not any(page == path or page.startswith(f"{path}/") for path in paths)]


def folders_of_the_layout() -> set[str]:
    """The folders in the tree of the page on the layout, by their indentation."""
    tree = (DOCS / "development" / "layout.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    found, above = set(), {}
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth] = name.rstrip("/")
        found.add("/".join(above[level] for level in range(depth + 1)))
    return found


def test_the_layout_shows_every_folder():
    package = ROOT / "skminibatch"
    folders = {path.parent.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}
    assert folders_of_the_layout() == folders


def test_paths_named_by_the_pages_for_developers_exist():
    """Files of the repository that the pages name in code: ``backends/base.py``, ``tests/common``."""
    pages = [ROOT / "CONTRIBUTING.md", *(DOCS / "development").glob("*.md"), DOCS / "deprecation.md"]
    roots = [ROOT, ROOT / "skminibatch", DOCS]
    missing = {
        f"{page.name}: {path}"
        for page in pages
        for path in re.findall(r"`([\w.]+/[\w./]+)`", page.read_text(encoding="utf-8"))
        if not path.startswith((".venv/", "dist/")) and not any((root / path).exists() for root in roots)
    }
    assert not missing
