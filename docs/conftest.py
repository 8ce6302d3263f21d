"""Pages that define parts are slow tests: their kernels are compiled anew in each process."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
DEFINE_PARTS = {FOLDER / "user_guide.md", *(FOLDER / "development").glob("add_*.md")}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path in DEFINE_PARTS:
            item.add_marker(pytest.mark.slow)
