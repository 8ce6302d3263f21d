"""What the kernels of sparse rows are given and what they write to, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.backends.cpu.linear.operations import N_PLACES
from skminibatch.backends.cpu.rows import BURST, N_WAY


class Limits(NamedTuple):
    """What bounds a step, and the first step whose gradient has its norm measured."""

    fit_intercept: bool
    clip_norm: float
    measured_from: int
    l1: float


class Axes(NamedTuple):
    """The coordinates: the scale of each feature, its kind, and the stretch of each kind.

    Where nothing is scaled, scale and kinds are arrays without a dimension, which is a type of its own.
    """

    scale: np.ndarray
    kinds: np.ndarray
    stretches: np.ndarray


class Batch(NamedTuple):
    """What is written of a batch, see `work_space`."""

    rows: np.ndarray
    burst: np.ndarray
    way: np.ndarray
    raw: np.ndarray
    weights: np.ndarray
    square_lengths: np.ndarray
    sums: np.ndarray
    intercept: np.ndarray


class Maps(NamedTuple):
    """Small matrices and vectors, those of steps for each kind of coordinate; the letters are those of the module."""

    A: np.ndarray
    P: np.ndarray
    AP: np.ndarray
    G: np.ndarray  # the response to a unit gradient
    h: np.ndarray
    e: np.ndarray
    ep: np.ndarray  # e P
    scratch: np.ndarray
    M: np.ndarray
    unit: np.ndarray


class Thresholds(NamedTuple):
    """Of an l1 penalty: the step of the last touch of each coordinate, and prefix sums over the steps for each kind."""

    since: np.ndarray
    Q: np.ndarray
    C: np.ndarray
    R: np.ndarray


class Gradient(NamedTuple):
    """The gradient of a batch, with a mark for each touched coordinate, and the list of these."""

    g: np.ndarray
    touched: np.ndarray


def work_space(params, longest, n_steps, n_kinds, l1, measured):
    """What the kernels write to: the fields of `Batch`, `Maps`, `Thresholds` and `Gradient` as tuples, and the places."""
    m, K, d = params.shape[0], params.shape[1], params.shape[2] - 1
    block = np.empty(2 * longest + max(longest, K))
    batch = Batch(
        rows=np.empty(longest, np.int64),
        burst=np.empty((2, BURST), np.uint64),
        way=np.empty(N_WAY, np.int64),
        raw=np.empty((longest, K)),
        weights=block[:longest],
        square_lengths=block[longest : 2 * longest],
        sums=np.empty(2),
        intercept=np.empty(K),
    )
    A, P, AP = np.zeros((3, n_kinds, m, m))
    P[:] = np.eye(m)
    G, h, e, ep = np.zeros((4, n_kinds, m))
    maps = Maps(A, P, AP, G, h, e, ep, np.zeros(m), np.zeros((m, 2 * m + 1)), np.zeros((m, 1, 1)))
    n_thresholds = n_steps + 1 if l1 > 0 else 1
    thresholds = Thresholds(np.zeros(d if l1 > 0 else 0, np.int64), *np.zeros((3, n_kinds, n_thresholds)))
    gradient = Gradient(np.zeros((d if measured else 0, K + 1)), np.empty(d if measured else 0, np.int64))
    return tuple(batch), tuple(maps), tuple(thresholds), tuple(gradient), np.empty(N_PLACES, np.int64)
