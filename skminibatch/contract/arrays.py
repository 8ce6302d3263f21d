"""What kind of array rows are, without importing the library that they are of; views of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_sparse(X: Any) -> bool:
    """Whether rows are CSR, of SciPy or of CuPy."""
    return getattr(X, "format", None) == "csr"


def readonly(array: np.ndarray) -> np.ndarray:
    """A view that is always read-only: whether an array can be written is part of a kernel's specialisation."""
    view = array.view()
    view.flags.writeable = False
    return view
