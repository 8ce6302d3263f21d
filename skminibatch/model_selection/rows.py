"""What a candidate is trained on: the rows of a fold as they reach the last step of a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from skminibatch.model_selection.candidates import Location

AFFINE = StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler


class Recorder(BaseEstimator):
    """In place of the last step of a pipeline: remembers what this would be fitted to; `predict` gives the rows that reach it."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y=None, **params):
        """Remember."""
        self.fitted_to_: Any = (X, y, params)
        return self

    def predict(self, X):
        """The rows themselves."""
        return X

    def get_metadata_routing(self):
        """That of the estimator whose place this takes."""
        return self.estimator.get_metadata_routing()

    def __sklearn_is_fitted__(self):
        return "fitted_to_" in vars(self)


class Prepared(NamedTuple):
    """Rows as the mini-batch estimator gets them, and what is told to its `fit`.

    ``pipeline`` has been fitted but for its last step, a `Recorder`; None: the rows are as they came.
    """

    X: Any
    y: Any
    fit_params: dict[str, Any]
    pipeline: Any = None

    @classmethod
    def of(cls, estimator: Any, place: Location, X, y, fit_params: dict[str, Any]) -> Prepared:
        """By the transformers of a pipeline, fitted to the rows."""
        if not place.path:
            return cls(X, y, fit_params)
        pipeline = clone(estimator)
        recorder = Recorder(place.inner(pipeline))
        pipeline.set_params(**{place.path: recorder})
        pipeline.fit(X, y, **fit_params)
        X, y, fit_params = recorder.__dict__.pop("fitted_to_")
        recorder.fitted_to_ = None
        return cls(X, y, fit_params, pipeline)

    def reaching(self, X) -> Any:
        """Other rows as they reach the mini-batch estimator."""
        return X if self.pipeline is None else self.pipeline.predict(X)

    def affine(self, X) -> tuple[np.ndarray, np.ndarray] | None:
        """Center and scale, where all that the transformers do is to move and scale each feature of dense rows."""
        is_plain = isinstance(X, np.ndarray) and X.ndim == 2 and type(self.X) is np.ndarray
        if not is_plain or X.dtype != self.X.dtype or not all(map(_is_affine, _steps(self.pipeline))):
            return None
        probes = np.zeros((2, X.shape[1]), X.dtype)
        probes[1] = 1.0
        at_zero, at_one = self.reaching(probes).astype(np.float64)
        scale = at_one - at_zero
        return None if np.any(scale == 0) else (-at_zero / scale, scale)

    def whole(self, place: Location, fitted: Any) -> Any:
        """The pipeline with a fitted mini-batch estimator at its end."""
        if self.pipeline is None:
            return fitted
        return _with_last(self.pipeline, place.path.split("__"), fitted)


def _steps(pipeline: Any) -> Iterator[Any]:
    """The transformers of a pipeline and of those at its end."""
    for _, step in pipeline.steps[:-1]:
        yield step
    if isinstance(pipeline.steps[-1][1], Pipeline):
        yield from _steps(pipeline.steps[-1][1])


def _is_affine(transformer: Any) -> bool:
    """Whether a transformer moves and scales each feature of any row."""
    return type(transformer) in AFFINE and not transformer.get_params().get("clip", False)


def _with_last(pipeline: Any, path: list[str], last: Any) -> Any:
    """A pipeline with the same fitted transformers and another last step."""
    inner = last if len(path) == 1 else _with_last(pipeline.steps[-1][1], path[1:], last)
    copied = copy.copy(pipeline)
    copied.steps = [*pipeline.steps[:-1], (path[0], inner)]
    return copied
