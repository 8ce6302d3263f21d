"""The candidates of a search: where the batch size of an estimator is set, and what a budget means for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline

from skminibatch.estimators.base import BaseMiniBatchEstimator

NO_LIMIT = 1_000_000  # epochs, where the seconds are limited


class Location(NamedTuple):
    """Where the mini-batch estimator stands in an estimator.

    ``path`` is its name among the parameters, empty for the estimator itself; ``ends_pipeline``: nothing but transformers of
    pipelines comes before it, and nothing after it.
    """

    path: str
    ends_pipeline: bool

    @classmethod
    def of(cls, estimator: Any) -> Location:
        """Of the one estimator inside that has a batch size.

        Raises
        ------
        ValueError
            If there is none, or more than one.
        """
        names = [n for n in estimator.get_params(deep=True) if n == "batch_size" or n.endswith("__batch_size")]
        if len(names) != 1:
            found = f"has {' and '.join(map(repr, names))}" if names else "has none"
            raise ValueError(
                f"estimator needs one parameter 'batch_size', its own or that of an estimator inside; "
                f"{type(estimator).__name__} {found}."
            )
        path, inner = names[0].removesuffix("batch_size").removesuffix("__"), estimator
        for name in path.split("__") if path else []:
            if not (isinstance(inner, Pipeline) and inner.steps[-1][0] == name):
                return cls(path, False)
            inner = inner.steps[-1][1]
        return cls(path, isinstance(inner, BaseMiniBatchEstimator))

    def name(self, parameter: str) -> str:
        """The name of a parameter of the mini-batch estimator."""
        return f"{self.path}__{parameter}" if self.path else parameter

    def inner(self, estimator: Any) -> Any:
        """The mini-batch estimator."""
        return estimator.get_params(deep=True)[self.path] if self.path else estimator


def grid_of(
    place: Location, batch_sizes: Iterable, param_grid: Mapping | Sequence[Mapping] | None
) -> list[dict[str, Any]]:
    """The parameters of each candidate, in the order of `ParameterGrid`."""
    name, sizes = place.name("batch_size"), list(batch_sizes)
    if not sizes:
        raise ValueError("batch_sizes must have at least one entry.")
    grids = [param_grid or {}] if isinstance(param_grid, Mapping) or param_grid is None else list(param_grid)
    for grid in grids:
        if name in grid:
            raise ValueError(f"param_grid must not have {name!r}: its values are batch_sizes.")
    return list(ParameterGrid([{**grid, name: sizes} for grid in grids]))


class Budget(NamedTuple):
    """What every candidate may spend: epochs, updates or seconds; no value: until it stops by itself."""

    kind: str
    value: float | None

    def checked(self) -> Budget:
        """The budget, if its value suits it.

        Raises
        ------
        ValueError
            If there is no value where one is needed, or epochs are not a whole number.
        """
        if self.value is None and self.kind != "epochs":
            raise ValueError(f"budget={self.kind!r} needs a budget_value.")
        if self.value is not None and self.kind == "epochs" and not isinstance(self.value, Integral):
            raise ValueError(f"budget_value must be a whole number of epochs, got {self.value!r}.")
        return self

    def parameters(self, batch_size: Any, n_rows: int) -> dict[str, Any]:
        """The parameters of a mini-batch estimator that is trained on `n_rows` rows."""
        if self.value is None:
            return {}
        if self.kind == "epochs":
            return {"max_iter": int(self.value), "tol": None}
        if self.kind == "seconds":
            return {"max_time": float(self.value), "max_iter": NO_LIMIT, "tol": None}
        n_updates = np.ceil(n_rows / _rows_of(batch_size, n_rows))
        return {"max_iter": max(1, round(self.value / n_updates)), "tol": None}


def _rows_of(batch_size: Any, n_rows: int) -> float:
    """The rows of a batch."""
    if isinstance(batch_size, str) and batch_size == "full":
        return n_rows
    if not isinstance(batch_size, Real):
        raise ValueError(f"budget='updates' needs batch sizes that are numbers or 'full', got {batch_size!r}.")
    rows = float(batch_size)
    return min(rows if rows >= 1 else float(np.ceil(rows * n_rows)), n_rows)
