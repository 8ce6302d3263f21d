"""Pages with custom parts are slow tests: their kernels are compiled anew in each process."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name.startswith("add_"):
            item.add_marker(pytest.mark.slow)
