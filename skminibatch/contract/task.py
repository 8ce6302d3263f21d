"""What a backend is handed together with a plan: the rows, the parts of training, and the params that its steps update."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.typing import Part


class LinearTask(NamedTuple):
    """The task of training a linear model with K outputs on n rows of d features.

    Attributes
    ----------
    loss, penalty, optimizer : part
    X : (n, d) array, C-contiguous, or CSR matrix
    y : array of shape (n,) or (n, q)
        One target for each row, or several (class indices: q = 1).
    weights : array of shape (n,) or (0,), float64
        Weights of the rows; empty if every row counts the same.
    params : array of shape (1 + n_slots, K, d + 1)
        The parameters first, then the slots of the optimizer; the intercept in the last column. In the coordinates of the
        optimizer, and updated in place.
    coordinates : Coordinates or None
        None: the features as given.
    fit_intercept : bool
    table : array of shape (n, 1 + K) or None
        Where the optimizer is ``per_row``, of the type of the params: the share of a row's changes that counts, and its
        stored residuals, which are updated in place. Where it is ``dual``, (n, 2 + K) float64, see `backends.base`.
    n_threads : int
        Threads of a kernel at most; their number changes no bit of the result.
    """

    loss: Part
    penalty: Part
    optimizer: Part
    X: Any
    y: np.ndarray
    weights: np.ndarray
    params: np.ndarray
    coordinates: Coordinates | None = None
    fit_intercept: bool = True
    table: np.ndarray | None = None
    n_threads: int = 1

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """(loss, penalty, optimizer), in the order in which kernels are given them."""
        return self[:3]


class NetworkTask(NamedTuple):
    """The task of training a network; fields that a `LinearTask` has are the same, except for the params.

    Attributes
    ----------
    stack : Stack
        The layers, and where their parameters are.
    params : array of shape (1 + n_slots, n_numbers)
        The first row ends with the running statistics of the normalizations, which are updated in place too.
    """

    stack: Any
    loss: Part
    penalty: Part
    optimizer: Part
    X: Any
    y: np.ndarray
    weights: np.ndarray
    params: np.ndarray
    n_threads: int = 1

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """(loss, penalty, optimizer), in the order in which kernels are given them."""
        return self[1:4]
