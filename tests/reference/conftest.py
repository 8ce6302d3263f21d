"""What scikit-learn's own tests expect of pytest."""

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "no_check_spmatrix: a marker of scikit-learn's own tests")


@pytest.fixture
def global_random_seed():
    """The seed of scikit-learn's tests."""
    return 42
