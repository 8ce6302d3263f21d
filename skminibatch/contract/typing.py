"""Types of what users pass: rows, parts and random states."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike


@runtime_checkable
class SparseMatrix(Protocol):
    """A sparse matrix or array of SciPy or CuPy."""

    @property
    def shape(self) -> Any:
        """Numbers of rows and columns."""

    def tocsr(self) -> Any:
        """The matrix in CSR format."""


@runtime_checkable
class Examinable(Protocol):
    """An estimator of this package, as diagnostics and cost models read it: the only private method that they call."""

    def _examined(self, X: Any, y: Any, sample_weight: Any) -> Any:
        """The `skminibatch.models.gradients.Gradients` of these rows, those of weight zero left out.

        At the fitted parameters or, before a fit, at those where `fit` would start.
        """


Part: TypeAlias = tuple[Any, ...]
"""An instance of a loss, a penalty, an optimizer, ...: a ``NamedTuple`` of hyper-parameters."""

AnyPart: TypeAlias = Any
"""The same inside the package, where its members are those that its kind declares (see `skminibatch.contract.kinds`)."""

RowsLike: TypeAlias = ArrayLike | SparseMatrix
"""Rows of features: an array-like or a sparse matrix of shape (n_samples, n_features)."""

RandomState: TypeAlias = int | np.random.RandomState | None
