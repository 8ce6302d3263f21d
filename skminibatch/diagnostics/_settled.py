"""Where a constant step comes to rest: the recursion of the covariance of the parameters, for a quadratic objective.

Notation: H is the Hessian of the objective, ``H = A + P`` with that of the mean loss and of the penalty, A_i that of the loss
of row i, C the covariance of the gradients of rows at the minimum, eta the rate, S the covariance of the parameters. All
matrices are in the basis of the eigenvectors of H, with ``a_i = 1 - eta lambda_i``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import norm

from skminibatch.contract.kinds import declared
from skminibatch.models.linear_gradients import LinearGradients
from skminibatch.samplers import SAMPLERS

MOST_WRITTEN = 256  # parameters for which the covariance of the noise is followed as the parameters move
MOST_ROUNDS, ENOUGH = 1_000, 1e-10  # of the fixed point, and its relative error
AT_ONCE = 1_024  # steps of an epoch


class Draws(NamedTuple):
    """How batches are drawn: `per_epoch` of them have each row once; 0: all rows are drawn independently."""

    size: float
    n_rows: int
    per_epoch: int

    @classmethod
    def of(cls, estimator, batch_size: int, n_rows: int) -> Draws:
        """Those that `fit` draws, by the sampler of the estimator; other samplers than 'shuffle' as if rows were independent."""
        sampler = estimator.sampler if estimator.shuffle else "sequential"
        part = declared(SAMPLERS[sampler]() if isinstance(sampler, str) else sampler)
        in_epochs = part.one_population and part.without_replacement
        return cls(batch_size, n_rows, -(-n_rows // batch_size) if in_epochs else 0)

    @property
    def share(self) -> float:
        """The variance of the gradient of a batch over that of a row: ``1 / b``, in epochs ``(n - b) / (b (n - 1))``."""
        return (self.per_epoch - 1) / (self.n_rows - 1) if self.per_epoch else 1.0 / self.size


class Response(NamedTuple):
    """What S is, element by element, for noise with a covariance of one (p, p).

    ``last`` and ``mean``: for the noise C of fixed gradients, at the end of an epoch and in the mean over its steps.
    ``of_steps``: for noise that is independent from step to step.
    """

    last: np.ndarray
    mean: np.ndarray
    of_steps: np.ndarray


def response(values: np.ndarray, rate: float, draws: Draws) -> Response:
    """That of a step of a rate, along eigenvectors with these eigenvalues.

    Steps with independent noise: ``S_ij = eta^2 V_ij / (1 - a_i a_j)`` with the covariance V of the gradient of a batch (Liu,
    Ziyin and Ueda 2021). The T batches of an epoch have the correlation ``-1 / (T - 1)`` and no sum, so that at its end

    ``S_ij = eta^2 V_ij T cov_ij / (1 - (a_i a_j)^T)``

    with the sample covariance ``cov_ij`` of ``a_i^t`` and ``a_j^t`` over ``t = 0, ..., T - 1``.
    """
    decay = rate * (values[:, None] + values[None, :]) - rate**2 * np.outer(values, values)  # 1 - a_i a_j
    held, T = decay > 0, draws.per_epoch
    decay, scale = np.where(held, decay, 1.0), rate**2 * draws.share
    of_steps = np.where(held, scale / decay, 0.0)
    if not T:
        return Response(of_steps, of_steps, of_steps)
    if T == 1:
        return Response(*(np.zeros_like(decay) for _ in range(3)))
    cov, products, inside = _of_powers(rate * values, T)
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(decay < 1.0, -np.expm1(T * np.log1p(-decay)), 1.0 - (1.0 - decay) ** T)
    last = np.where(held, scale * T * cov / lost, 0.0)
    # after k steps of an epoch: (a_i a_j)^k of the last one, and the noise of k batches
    return Response(last, np.where(held, products * last + scale * inside, 0.0), of_steps)


def _of_powers(falls: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of ``a_i^t``, ``t = 0, ..., T - 1``, with ``a = 1 - falls``: covariances, mean products, the noise inside an epoch.

    The last one is the mean over k of ``(T sum_(t < k) (a_i a_j)^t - A_i A_j) / (T - 1)`` with ``A_i = sum_(t < k) a_i^t``.
    Sums, since the closed forms lose all digits where the parameters hardly move in an epoch; they cost less than the Hessian.
    """
    total, before = np.zeros((2, len(falls)))
    squares, weighted, pairs = np.zeros((3, len(falls), len(falls)))
    for start in range(0, T, AT_ONCE):
        t = np.arange(start, min(start + AT_ONCE, T), dtype=float)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            changes = np.where(falls < 1.0, np.expm1(t * np.log1p(-falls)), (1.0 - falls) ** t - 1.0)  # a^t - 1
        powers = 1.0 + changes
        sums = before + np.cumsum(powers, axis=0) - powers
        before = sums[-1] + powers[-1]
        total += changes.sum(axis=0)
        squares += changes.T @ changes
        weighted += ((T - 1.0 - t) * powers).T @ powers
        pairs += sums.T @ sums
    mean = total / T
    products = 1.0 + np.add.outer(mean, mean) + squares / T
    return (squares - T * np.outer(mean, mean)) / (T - 1), products, (weighted - pairs / T) / (T - 1)


def settled(noise: np.ndarray, answer: Response, of_motion: Callable[[np.ndarray], np.ndarray] | None) -> np.ndarray:
    """S at the end of an epoch for the noise C (p, p); ``of_motion(S)`` is the noise that the motion of the parameters adds.

    In the mean of the steps ``S = mean * C + of_steps * M(S)``, which is iterated to its fixed point. Infinite where there is
    none: the mean square of the parameters then grows from step to step.
    """
    if of_motion is None:
        return answer.last * noise
    fixed, added, before = answer.mean * noise, np.zeros_like(noise), np.inf
    for _ in range(MOST_ROUNDS):
        new = answer.of_steps * of_motion(fixed + added)
        step, added = new - added, new
        size = norm(step.ravel())
        growth = size / before if before > 0 else 0.0
        if size <= ENOUGH * norm((fixed + added).ravel()) * max(1.0 - growth, 0.0):
            return answer.last * noise + added
        before = size
    if growth >= 1.0 - 1e-6:
        return np.full_like(noise, np.inf)
    return answer.last * noise + added + step * growth / (1.0 - growth)  # the rest is a geometric series


def noise_of_motion(gradients: LinearGradients, vectors: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """``M(S) = E[A_i S A_i] - A S A``: what parameters of the covariance S add to that of the gradients of rows."""
    K, p = gradients.model.n_outputs, len(vectors)
    rows = list(gradients.row_curvatures())
    n = sum(len(Z) for Z, _ in rows)
    A = np.zeros((K, p // K, K, p // K))
    for Z, second in rows:
        A += np.einsum("nkl,ni,nj->kilj", second, Z, Z, optimize=True)
    A = A.reshape(p, p) / n

    def of_motion(S):
        S = vectors @ S @ vectors.T
        total, blocks = np.zeros((K, p // K, K, p // K)), S.reshape(K, p // K, K, p // K)
        for Z, second in rows:
            if K == 1:
                along = second[:, 0, 0] ** 2 * np.einsum("ni,ni->n", Z @ S, Z)
                total += (Z.T @ (along[:, None] * Z))[None, :, None, :]
                continue
            outputs = np.einsum("ni,kilj,nj->nkl", Z, blocks, Z, optimize=True)
            outputs = second @ outputs @ second
            total += np.einsum("nkl,ni,nj->kilj", outputs, Z, Z, optimize=True)
        return vectors.T @ (total.reshape(p, p) / n - A @ S @ A) @ vectors

    return of_motion
