"""What the diagnostics of the curvature share: the Hessian of a sample, its largest eigenvalue, and the noise in it."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import eigsh

from skminibatch.diagnostics._sample import Sample

MOST_PARAMETERS = 2_048  # for which the Hessian is written out


def largest_eigenvalues(sample: Sample, k: int, level: float, bounded: bool = False):
    """The k largest eigenvalues of the Hessian, falling, the first eigenvector, and an interval of the first value."""
    hessian, p = sample.model.hessian(*sample.at(), bounded=bounded), n_parameters(sample)
    if k > p - 2 or p <= 64:
        values, vectors = np.linalg.eigh(hessian @ np.eye(p))
    elif np.any(hessian @ (start := sample.rng.standard_normal(p))):
        values, vectors = eigsh(hessian, k=k, which="LA", v0=start)
    else:  # no curvature at all
        values, vectors = np.zeros(k), np.eye(p, k)
    order = np.argsort(values)[::-1][:k]
    groups, top = sample.micro_batches(), vectors[:, order[0]]
    curvatures = [sample.model.hessian(*sample.at(rows), bounded=bounded) @ top @ top for rows in groups]
    return values[order], top, sample.interval_of_mean(np.array(curvatures), groups, level)


def written_out(sample: Sample) -> np.ndarray:
    """The Hessian as a matrix (p, p)."""
    p = n_parameters(sample)
    if p > MOST_PARAMETERS:
        raise ValueError(
            f"The model has {p:,} parameters; their Hessian is written out for up to {MOST_PARAMETERS:,}. "
            "gradient_noise_scale and hessian_eigenvalues have no such limit."
        )
    return sample.model.hessian_matrix(*sample.at())


def n_parameters(sample: Sample) -> int:
    return sample.model.n_outputs * (sample.model.n_features + sample.model.fit_intercept)


def flat(sample: Sample, parameters: np.ndarray) -> np.ndarray:
    """Parameters (K, d + 1) in the layout of the Hessian."""
    return (parameters if sample.model.fit_intercept else parameters[:, :-1]).ravel()


def parameters(sample: Sample, point: np.ndarray) -> np.ndarray:
    """The other way round: (K, d + 1), with intercepts of zero where there are none."""
    w = np.zeros((sample.model.n_outputs, sample.model.n_features + 1))
    w[:, : sample.model.n_features + sample.model.fit_intercept] = point.reshape(len(w), -1)
    return w


def penalty_gradient(sample: Sample) -> np.ndarray:
    """The gradient of the penalty."""
    gradient = sample.model.penalty_gradient(sample.coef).astype(np.float64)
    return flat(sample, np.column_stack([gradient, np.zeros(len(gradient))]))


def loss_gradient(sample: Sample) -> np.ndarray:
    """The gradient of the mean loss of the rows of the sample."""
    return flat(sample, sample.model.gradient_moments(*sample.at())[0])


def noise_in(sample: Sample, vectors: np.ndarray, groups) -> tuple[np.ndarray, np.ndarray]:
    """The covariance of the gradients of rows in a basis (p, p), and its diagonal by groups of rows (k, p)."""
    mean = loss_gradient(sample)
    whole, diagonals = np.zeros_like(vectors), np.zeros((len(groups), len(vectors)))
    for j, rows in enumerate(groups):
        for block in sample.model.row_gradients(*sample.at(rows)):
            rotated = (block - mean) @ vectors
            whole += rotated.T @ rotated
            diagonals[j] += np.sum(rotated**2, axis=0)
        diagonals[j] /= len(rows)
    return whole / sample.rows.size, diagonals
