"""A new part is a file and a line: what follows from the registry follows for parts that are not in the package yet.

A copy of the repository gets the custom parts of the pages for developers, one of each kind, and runs the shared tests on them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.processes import ROOT, importing_from, python

# the class on the page, the file with the registry, the registry, the name
NEW = [
    ("add_a_loss", "LogCosh", "losses/__init__.py", "LOSSES", "log_cosh"),
    ("add_an_optimizer", "Adamax", "optimizers/__init__.py", "OPTIMIZERS", "adamax"),
    ("add_a_sampler", "FlipFlop", "samplers/__init__.py", "SAMPLERS", "flip_flop"),
    ("add_a_layer", "Squareplus", "layers/__init__.py", "ACTIVATIONS", "squareplus"),
    ("add_a_layer", "DynamicTanh", "layers/__init__.py", "NORMALIZATIONS", "dynamic_tanh"),
    ("add_a_schedule", "SquareRootSize", "schedules/sizes.py", "SIZE_SCHEDULES", "square_root_size"),
]
# without tests of parts: collecting all tests takes as long as many of them
OTHERS = ["benchmarks", "cost_model", "diagnostics", "docs", "examples", "plotting", "reference", "statistics"]
IMPORT = re.compile(r">>> (?:from \S+ )?import (.*)")
PROMPT = re.compile(r"^(?:>>>|\.\.\.) ?")


def class_of(page: str, name: str) -> str:
    """The source of a class on a page, with the imports that it needs."""
    lines = (ROOT / "docs" / "development" / f"{page}.md").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f">>> class {name}("))
    rest = lines[start + 1 :]
    end = next(i for i, line in enumerate(rest) if not line.startswith("..."))
    code = [lines[start], *rest[:end]]
    words = set(re.findall(r"\w+", "\n".join(code)))
    imports = [
        line for line in lines[:start] if (found := IMPORT.match(line)) and words & set(re.split(r"\W+", found[1]))
    ]
    code = [*imports, "", "", *code]
    return "\n".join(PROMPT.sub("", line) for line in code) + "\n"


def register(package: Path, page: str, cls: str, file: str, registry: str, name: str):
    """A file with the class, and its line in the registry."""
    module, target = f"{name}_part", package / file
    (target.parent / f"{module}.py").write_text(f'"""A new part."""\n\n{class_of(page, cls)}', encoding="utf-8")
    text = target.read_text(encoding="utf-8")
    line = f"from skminibatch.{target.parent.name}.{module} import {cls}\n"
    text = text.replace(f"\n{registry} = {{\n", f'\n{line}\n{registry} = {{\n    "{name}": {cls},\n', 1)
    target.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The repository with one new part of each kind."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("skminibatch", "tests", "docs", "pyproject.toml"):
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, folder)
        else:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for part in NEW:
        register(folder / "skminibatch", *part)
    return folder


@pytest.mark.slow
def test_everything_else_follows_from_the_registry(copy):
    names = " or ".join(name for _, cls, _, _, name in NEW for name in (cls, name))
    environment = importing_from(copy)
    lists = python("-m", "pytest", "-q", "tests/docs/test_lists.py", env=environment, cwd=copy)
    assert lists.returncode == 0, lists.stdout
    others = [f"--ignore=tests/{folder}" for folder in OTHERS]
    parts = python("-m", "pytest", "-q", "-k", names, *others, "tests", env=environment, cwd=copy)
    assert parts.returncode == 0, parts.stdout
