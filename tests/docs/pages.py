"""The folder of the documentation, for the tests of its pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def load(name: str):
    """A module of the folder of the documentation."""
    spec = importlib.util.spec_from_file_location(f"documentation_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
