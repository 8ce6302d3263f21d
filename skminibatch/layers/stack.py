"""A stack of dense layers: the places of its parameters in one flat array, and what it does to a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from skminibatch.contract.arrays import is_sparse
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import activate, slope
from skminibatch.layers.activations import Identity
from skminibatch.layers.blocks import flat, named
from skminibatch.layers.dropout import kept
from skminibatch.layers.pooling import Pooling, pooling_of

PORTION = 2048  # rows that are predicted at once


class Dense(NamedTuple):
    """``dropout(activation(normalization(A W + intercept)))`` of `n_in` units into `n_out`."""

    n_in: int
    n_out: int
    activation: tuple
    normalization: tuple | None = None
    dropout: float = 0.0

    @property
    def has_intercept(self) -> bool:
        """Whether there is one: a normalization that takes the mean of each unit away would absorb it."""
        return self.normalization is None or not declared(self.normalization).absorbs_intercept

    @property
    def is_linear(self) -> bool:
        """Whether it is a product and an intercept alone."""
        return type(self.activation) is Identity and self.normalization is None and not self.dropout

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in the weights and in the intercept."""
        return self.n_in * self.n_out, self.n_out * self.has_intercept


class Place(NamedTuple):
    """The places of a layer: slices of the parameters, and of the running statistics behind these."""

    weights: slice
    intercept: slice
    normalization: slice
    running: slice


@dataclass(frozen=True)
class Stack:
    """Dense layers one after the other, and a normalization of the input before them.

    Parameters are in one flat array: those of the normalization of the input, then of each layer its weights (n_in, n_out)
    by rows, its intercept and those of its normalization, and at the end the running statistics, which no optimizer moves.
    """

    layers: tuple[Dense, ...]
    entry: tuple | None = None

    def __getstate__(self) -> dict:
        """Without what is derived, so that a pickle does not depend on what was used before."""
        return {"layers": self.layers, "entry": self.entry}

    @cached_property
    def starts(self) -> tuple:
        """(parameters, running statistics) of the normalizations at the start, that of the input first."""
        none, units = (np.empty(0), np.empty(0)), zip(self.normalizations, self.widths, strict=True)
        return tuple(none if part is None else part.start(n) for part, n in units)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Of the input's normalization and of each layer."""
        places, at, behind = [], 0, self.n_parameters

        def take(count: int) -> slice:
            nonlocal at
            at += count
            return slice(at - count, at)

        sizes = [(0, 0), *(layer.sizes for layer in self.layers)]
        for (weights, intercept), (parameters, running) in zip(sizes, self.starts, strict=True):
            places.append(
                Place(take(weights), take(intercept), take(parameters.size), slice(behind, behind + running.size))
            )
            behind += running.size
        return tuple(places)

    @cached_property
    def n_parameters(self) -> int:
        """Number of parameters that are learnt."""
        dense = sum(sum(layer.sizes) for layer in self.layers)
        return dense + sum(parameters.size for parameters, _ in self.starts)

    @cached_property
    def n_numbers(self) -> int:
        """Number of parameters and running statistics."""
        return self.n_parameters + sum(running.size for _, running in self.starts)

    @property
    def normalizations(self) -> tuple:
        """That of the input and of each layer, None where there is none."""
        return self.entry, *(layer.normalization for layer in self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features, and units of each layer."""
        return self.layers[0].n_in, *(layer.n_out for layer in self.layers)

    @cached_property
    def poolings(self) -> tuple[Pooling | None, ...]:
        """What the normalization of the input and of each layer pools; None where there is none, or it declares nothing."""
        each = zip(self.normalizations, self.widths, strict=True)
        return tuple(None if part is None else pooling_of(part, n) for part, n in each)

    @property
    def fits_kernels(self) -> bool:
        """Whether the kernels of the backends compute it: all pooling is of their kind, and the last layer is linear."""
        each = zip(self.normalizations, self.poolings, strict=True)
        known = all(part is None or (pooling is not None and pooling.centred) for part, pooling in each)
        return known and self.layers[-1].is_linear

    @cached_property
    def without_dropout(self) -> Stack:
        """The same layers, of which no unit is dropped."""
        if not any(layer.dropout for layer in self.layers):
            return self
        return replace(self, layers=tuple(layer._replace(dropout=0.0) for layer in self.layers))

    @property
    def couples_rows(self) -> bool:
        """Whether in training an output depends on the other rows of its batch."""
        return any(part is not None and part.couples_rows for part in self.normalizations)

    @cached_property
    def rates(self) -> np.ndarray:
        """What the rate is multiplied with for each parameter, (n_parameters,)."""
        rates = np.ones(self.n_parameters)
        for part, place, n in zip(self.normalizations, self.places, self.widths, strict=True):
            if part is not None:
                rates[place.normalization] = declared(part).rates(n)
        return rates

    @cached_property
    def decayed(self) -> np.ndarray:
        """Which parameters the penalty acts on, (n_parameters,): the weights."""
        decayed = np.zeros(self.n_parameters, bool)
        for place in self.places:
            decayed[place.weights] = True
        return decayed

    @cached_property
    def prepared(self) -> dict:
        """What a backend has made of the stack to run it, by what it was made for."""
        return {}

    @cached_property
    def segments(self) -> tuple[np.ndarray, np.ndarray]:
        """Pieces (start, stop, decayed) of the parameters that are treated alike, and what multiplies the rate of each."""
        kinds = np.column_stack([self.decayed, self.rates])
        starts = np.append(0, 1 + np.flatnonzero(np.any(kinds[1:] != kinds[:-1], axis=1)))
        stops = np.append(starts[1:], len(kinds))
        return np.column_stack([starts, stops, self.decayed[starts]]).astype(np.int64), self.rates[starts]

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """Random weights as suits the activations, intercepts of zero, float64 (n_numbers,).

        Uniform with the variance ``spread / fan_in`` (He, Zhang, Ren and Sun 2015) or, for balanced activations,
        ``2 spread / (fan_in + fan_out)`` (Glorot and Bengio 2010).
        """
        theta = np.zeros(self.n_numbers)
        for layer, place in zip(self.layers, self.places[1:], strict=True):
            activation = declared(layer.activation)
            fan = 0.5 * (layer.n_in + layer.n_out) if activation.balanced else layer.n_in
            limit = np.sqrt(3.0 * activation.spread / fan)
            theta[place.weights] = rng.uniform(-limit, limit, layer.n_in * layer.n_out)
        for (parameters, running), place in zip(self.starts, self.places, strict=True):
            theta[place.normalization], theta[place.running] = parameters, running
        return theta

    def weights(self, theta: np.ndarray, number: int) -> np.ndarray:
        """The weights (n_in, n_out) of a layer, counted from zero: a view."""
        layer = self.layers[number]
        return theta[self.places[number + 1].weights].reshape(layer.n_in, layer.n_out)

    def normalizations_of(self, theta: np.ndarray) -> list[dict | None]:
        """Parameters and statistics of the normalization of the input and of each layer, by name."""
        return [
            None if part is None else named(part, n, np.concatenate([theta[place.normalization], theta[place.running]]))
            for part, n, place in zip(self.normalizations, self.widths, self.places, strict=True)
        ]

    def flat(self, coefs: list, intercepts: list, normalizations: list) -> np.ndarray:
        """Parameters and running statistics (n_numbers,) from those of each layer: what `normalizations_of` gives and more."""
        theta = np.zeros(self.n_numbers, coefs[0].dtype)
        for layer, place, coef, intercept in zip(self.layers, self.places[1:], coefs, intercepts, strict=True):
            theta[place.weights] = coef.ravel()
            if layer.has_intercept:
                theta[place.intercept] = intercept
        for part, n, by_name, place in zip(self.normalizations, self.widths, normalizations, self.places, strict=True):
            if by_name is not None:
                n_parameters = place.normalization.stop - place.normalization.start
                theta[place.normalization], theta[place.running] = np.split(flat(part, n, by_name), [n_parameters])
        return theta

    def raw(self, theta: np.ndarray, X, each=map) -> np.ndarray:
        """Raw outputs (n, K), a few rows at a time; `each` applies a function to all of these portions, as `map` does."""
        portions = [X[start : start + PORTION] for start in range(0, X.shape[0], PORTION)]
        return np.concatenate(list(each(lambda portion: self.forward(theta, portion)[0], portions)))

    def forward(self, theta: np.ndarray, X, weights=None, running=None, train: bool = False, key=None, until=None):
        """Raw outputs (b, K) and the backward map of a batch.

        Parameters
        ----------
        theta : ndarray of shape (n_numbers,) or (n_parameters,)
            Where the outputs are taken, complex for derivatives along the imaginary axis.
        X : {ndarray, CSR matrix} of shape (b, n_in)
        weights : ndarray of shape (b,) or None
            Weights of the rows in the statistics of a batch.
        running : ndarray of shape (n_numbers,) or None
            Where running statistics are updated in training; None: nowhere. Otherwise those of `theta` are read.
        train : bool
            Whether a batch is normalised by its own statistics, and units are dropped.
        key : tuple of int or None
            Of the masks of dropout; None: nothing is dropped.
        until : int or None
            The number of a normalization, that of the input being zero, whose inputs are wanted instead of the raw outputs.

        Returns
        -------
        raw : ndarray of shape (b, K)
        backward : callable
            Turns the derivatives by the raw outputs (b, K) into the gradient (n_parameters,), summed over the rows, and the
            squared norms of what each row adds to it (b,): of a layer, the product of the squared lengths of its inputs and of
            the derivatives by its outputs (Goodfellow 2015, arXiv:1510.01799).
        """
        steps, A = [], X
        for number, (part, place) in enumerate(zip(self.normalizations, self.places, strict=True)):
            if number:
                A, back = self._dense(theta, number - 1, A)
                steps.append(back)
            if number == until:
                break
            if part is not None:
                statistics = running if train else theta
                statistics = None if statistics is None else statistics[place.running]
                A, back = part.forward(A, theta[place.normalization], statistics, weights, train)
                steps.append(_by_rows(place.normalization, back))
            if number:
                A, back = self._activated(number - 1, A, key if train else None)
                steps.append(back)

        def backward(derivatives: np.ndarray):
            g = np.zeros(self.n_parameters, derivatives.dtype, like=derivatives)
            squares = np.zeros(len(derivatives), like=derivatives)
            for back in reversed(steps):
                derivatives, gradients, by_row = back(derivatives)
                squares += by_row
                for place, gradient in gradients:
                    g[place] = gradient
            return g, squares

        return A, backward

    def _dense(self, theta, number: int, A):
        """The output of the weights and the intercept of a layer, and its backward map."""
        layer, place = self.layers[number], self.places[number + 1]
        W, first = self.weights(theta, number), number == 0 and self.entry is None
        Z = A @ W
        if layer.has_intercept:
            Z = Z + theta[place.intercept]

        def back(dZ):
            gradients = [(place.weights, (A.T @ dZ).ravel())]
            if layer.has_intercept:
                gradients.append((place.intercept, dZ.sum(axis=0)))
            squares = _square_lengths(dZ) * (_square_lengths(A) + layer.has_intercept)
            return None if first else dZ @ W.T, gradients, squares

        return Z, back

    def _activated(self, number: int, Z, key):
        """The activation of a layer, with its dropout where there is a key, and its backward map."""
        layer = self.layers[number]
        A, mask = activate(layer.activation, Z).astype(Z.dtype, copy=False), None
        if key is not None and layer.dropout:
            mask = kept(key, number, A.shape, layer.dropout, like=A).astype(Z.dtype)

        def back(dA):
            dA = dA if mask is None else dA * mask
            return (dA * slope(layer.activation, Z, A)).astype(dA.dtype, copy=False), [], 0.0

        return A if mask is None else A * mask, back


def _by_rows(place: slice, back):
    """The backward map of a normalization as that of a layer: (dx, [(place, gradient)], squared norms by row)."""

    def wider(dY):
        dX, by_row = back(dY)
        return dX, [(place, by_row.sum(axis=0))], _square_lengths(by_row)

    return wider


def _square_lengths(rows: Any) -> Any:
    """Squared Euclidean lengths of rows, of the real part."""
    if is_sparse(rows):
        return rows.multiply(rows) @ np.ones_like(rows.data, float, shape=rows.shape[1])
    return np.sum(rows.real**2, axis=1, dtype=np.float64)
