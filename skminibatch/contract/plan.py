"""The contract between the science and the kernels: what the next chunk of steps does, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.orders import RowOrder


class Plan(NamedTuple):
    """A chunk of S steps, as plain arrays.

    Step ``s`` uses the rows at the positions ``offsets[s]`` to ``offsets[s + 1] - 1`` of the order.

    Attributes
    ----------
    rows : RowOrder
        The order of the rows: stored, or a keyed permutation that the kernel evaluates itself.
    offsets : ndarray of shape (S + 1,), int64
    coefficients : ndarray of shape (S, k), float64
        What the optimizer reads in each step; the first column is the rate.
    weights : ndarray of shape (N,), float64, or None
        Weights of the sampler by position; they multiply the sample weights.
    clip_norm : float
        The gradient of the loss of a batch is scaled down to this Euclidean norm; infinite: never.
    key : tuple of int, (seed, step)
        Of the random numbers of a step, such as the masks of dropout; `step` is the number of the first one.
    """

    rows: RowOrder
    offsets: np.ndarray
    coefficients: np.ndarray
    weights: np.ndarray | None = None
    clip_norm: float = np.inf
    key: tuple[int, int] = (0, 0)

    @property
    def n_steps(self) -> int:
        """Number S of steps."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each step (S,), int64."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def rates(self) -> np.ndarray:
        """The rate of each step (S,)."""
        return self.coefficients[:, 0]


class LockstepPlan(NamedTuple):
    """A chunk of M models that read the same rows in the same order, each in batches of its own.

    Attributes
    ----------
    plans : tuple of Plan
        One for each model. They have one order and as many positions; offsets, coefficients and weights are their own.
    """

    plans: tuple[Plan, ...]

    @property
    def rows(self) -> RowOrder:
        """The order of the rows, that of all models."""
        return self.plans[0].rows

    @property
    def n_rows(self) -> int:
        """Positions of the order that are read."""
        return int(self.plans[0].offsets[-1])


class StepStats(NamedTuple):
    """What a chunk returns, one entry a step, float64.

    Attributes
    ----------
    losses : ndarray of shape (S,)
        Weighted sum of the losses of the batch, each before its step.
    square_norms : ndarray of shape (S,)
        Squared Euclidean norm of the gradient of the loss of the batch, in the coordinates of the optimizer.
        NaN for steps in which it was not measured (most steps on sparse rows).
    row_squares : ndarray of shape (S,)
        Sum of the squared norms of the gradients of the rows, ``sum_i (s_i r_i)^2 (|x_i|^2 + 1)``. NaN for steps in which
        it was not measured (every other one on dense rows, most on sparse ones).
    failed : int
        The first step whose loss or gradient was not finite, -1 if there was none; the chunk ends there.
    """

    losses: np.ndarray
    square_norms: np.ndarray
    row_squares: np.ndarray
    failed: int


def empty_stats(n_steps: int) -> StepStats:
    """Statistics to be filled in by a backend."""
    return StepStats(np.zeros(n_steps), np.full(n_steps, np.nan), np.zeros(n_steps), -1)
