"""What kind of array rows are, without importing the library that they are of."""

from __future__ import annotations

from typing import Any


def is_sparse(X: Any) -> bool:
    """Whether rows are CSR, of SciPy or of CuPy."""
    return getattr(X, "format", None) == "csr"
