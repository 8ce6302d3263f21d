"""The coordinates in which an optimizer works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy import sparse


class Coordinates(NamedTuple):
    """A change of coordinates: the optimizer works on ``(x - center) * scale``.

    Parameters ``w`` in these coordinates are (K, d + 1), the intercept last; ``coef`` (K, d) and ``intercept`` (K,) are
    those of the features as given.

    Attributes
    ----------
    center, scale : ndarray of shape (n_features,), dtype of the parameters
    stretch : ndarray of shape (n_features,), dtype of the parameters
        The penalty acts on the parameters times `stretch`: equal to `scale`, the objective is unchanged; one, the
        coefficients of the scaled features are penalised. On sparse rows a power of two.
    """

    center: np.ndarray
    scale: np.ndarray
    stretch: np.ndarray

    @property
    def trivial(self) -> bool:
        """Whether nothing changes."""
        return bool(np.all(self.scale == 1) and not np.any(self.center))

    @property
    def penalised(self) -> np.ndarray | float:
        """What the penalty acts on, over the coefficients of the features as given."""
        return self.stretch / self.scale

    def inside(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Coefficients and intercepts of the features as given, as parameters in these coordinates."""
        return np.column_stack([coef / self.scale, intercept + coef @ self.center])

    def outside(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of parameters in these coordinates, as coefficients and intercepts of the features as given."""
        coef = coef * self.scale
        return coef, intercept - coef @ self.center

    def transform(self, X):
        """Rows as the optimizer sees them, float64; sparse ones are scaled, not centered."""
        X = X.astype(np.float64, copy=False)
        if self.trivial:
            return X
        return X.multiply(self.scale).tocsr() if sparse.issparse(X) else (X - self.center) * self.scale

    def pulled(self, gradient: np.ndarray) -> np.ndarray:
        """A gradient by the coefficients of the features as given, as one by the parameters in these coordinates."""
        return gradient * self.scale

    @property
    def in_kernels(self) -> Coordinates | None:
        """What a kernel has to do to the rows that it is given; None: nothing."""
        return None if self.trivial else self

    def of_features(self, features: np.ndarray) -> Coordinates:
        """Those of some features alone."""
        return Coordinates(*(axis[features] for axis in self))

    def same_as(self, other: Coordinates | AsGiven) -> bool:
        """Whether rows are the same in both."""
        return _same(self, other)


class AsGiven(NamedTuple):
    """The features as they are given: the coordinates of a model without a change of them."""

    n_features: int
    dtype: np.dtype

    @property
    def trivial(self) -> bool:
        return True

    @property
    def penalised(self) -> float:
        return 1.0

    @property
    def center(self) -> np.ndarray:
        return np.zeros(self.n_features, self.dtype)

    @property
    def scale(self) -> np.ndarray:
        return np.ones(self.n_features, self.dtype)

    @property
    def stretch(self) -> np.ndarray:
        return np.ones(self.n_features, self.dtype)

    def inside(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        return np.column_stack([coef, intercept])

    def outside(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return coef, intercept

    @property
    def in_kernels(self) -> None:
        return None

    def transform(self, X):
        return X.astype(np.float64, copy=False)

    def pulled(self, gradient: np.ndarray) -> np.ndarray:
        return gradient

    def same_as(self, other: Coordinates | AsGiven) -> bool:
        return _same(self, other)


class RoundCoordinates(NamedTuple):
    """Coordinates in which the objective is about as curved in every direction, at an unchanged objective.

    The optimizer works on ``(x - center) mix``, which are written out before the first step. `mix` makes both the curvature of
    the objective and that of a square penalty diagonal, so that the penalty still acts on each coordinate by itself.

    Attributes
    ----------
    center : ndarray of shape (n_features,)
    mix, inverse : ndarray of shape (n_features, n_features), float64
        ``coef = mix u`` and ``u = inverse coef``.
    stretch : ndarray of shape (n_features,), dtype of the parameters
        The penalty acts on the parameters times `stretch`.
    given : ndarray of shape (n_features,)
        What the penalty acts on, over the coefficients of the features as given.
    curvature, flatness : float
        That of the objective in every direction, by the stiffest output of each row, and what it is over that of the flattest
        output (NaN: not known).
    """

    center: np.ndarray
    mix: np.ndarray
    inverse: np.ndarray
    stretch: np.ndarray
    given: np.ndarray
    curvature: float
    flatness: float

    @property
    def trivial(self) -> bool:
        return False

    @property
    def penalised(self) -> np.ndarray:
        return self.given

    @property
    def in_kernels(self) -> Coordinates:
        """Rows come written out: only the penalty has to know of the coordinates."""
        return Coordinates(np.zeros_like(self.stretch), np.ones_like(self.stretch), self.stretch)

    def inside(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        return np.column_stack([coef @ self.inverse.T, intercept + coef @ self.center])

    def outside(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coef = coef @ self.mix.T
        return coef, intercept - coef @ self.center

    def transform(self, X):
        return (X - self.center).astype(np.float64, copy=False) @ self.mix

    def pulled(self, gradient: np.ndarray) -> np.ndarray:
        return gradient @ self.mix


AnyCoordinates: TypeAlias = Coordinates | AsGiven | RoundCoordinates


def _same(one: Coordinates | AsGiven, other: Coordinates | AsGiven) -> bool:
    return np.array_equal(one.scale, other.scale) and np.array_equal(one.center, other.center)


def converted(
    params: np.ndarray, exponents: Sequence[int], old: Coordinates | AsGiven, new: Coordinates | AsGiven
) -> np.ndarray:
    """Arrays of parameters (..., K, d + 1) in other coordinates; they are written to, where these differ.

    With the exponent -1 an array changes as the parameters do, with 1 as their gradient and with 2 as its square; with 0 it
    stays.
    """
    ratio, shift = new.scale / old.scale, new.center - old.center
    if np.all(ratio == 1) and not np.any(shift):
        return params
    for array, exponent in zip(params, exponents, strict=True):
        if exponent == -1:
            array[:, -1] += (array[:, :-1] * old.scale) @ shift
        array[:, :-1] *= ratio**exponent
        if exponent == 1:
            array[:, :-1] -= new.scale * shift * array[:, -1:]
    return params
