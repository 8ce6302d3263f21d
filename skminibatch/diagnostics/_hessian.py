"""What the diagnostics of the curvature share: the Hessian of a sample, its largest eigenvalue, and the noise in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import norm
from scipy.sparse.linalg import LinearOperator, eigsh

from skminibatch.diagnostics._sample import Sample
from skminibatch.models.gradients import Gradients

MOST_PARAMETERS = 2_048  # for which the Hessian is written out
MOST_PRODUCTS = 256  # likewise, where nothing but its products needs it and each column of it is a product itself
MOST_GRADIENTS = 1_024  # of rows that are written out where the Hessian is not
MOST_GRADIENTS_BY_PRODUCTS = 128  # likewise
MOST_NUMBERS = 1 << 26  # in these
DIRECTIONS, AT_ONCE = 256, 32  # at random, for the size of a Hessian that is not written out


def exact_hessian(gradients: Gradients) -> LinearOperator:
    """The Hessian itself."""
    return gradients.hessian()


def largest_eigenvalues(
    sample: Sample, k: int, level: float, hessian_of: Callable[..., LinearOperator] = exact_hessian
):
    """The k largest eigenvalues of the Hessian, falling, the first eigenvector, and an interval of the first value."""
    hessian, p = hessian_of(sample.gradients), sample.model.n_parameters
    if k > p - 2 or p <= 64:
        values, vectors = np.linalg.eigh(hessian @ np.eye(p))
    elif np.any(hessian @ (start := sample.rng.standard_normal(p))):
        values, vectors = eigsh(hessian, k=k, which="LA", v0=start)
    else:  # no curvature at all
        values, vectors = np.zeros(k), np.eye(p, k)
    order = np.argsort(values)[::-1][:k]
    groups, top = sample.micro_batches(), vectors[:, order[0]]
    curvatures = [hessian_of(sample.gradients.on(rows)) @ top @ top for rows in groups]
    return values[order], top, sample.interval_of_mean(np.array(curvatures), groups, level)


def written_out(sample: Sample) -> np.ndarray:
    """The Hessian as a matrix (p, p)."""
    p = sample.model.n_parameters
    if p > MOST_PARAMETERS:
        raise ValueError(
            f"The model has {p:,} parameters; their Hessian is written out for up to {MOST_PARAMETERS:,}. "
            "gradient_noise_scale, expected_improvement and hessian_eigenvalues have no such limit."
        )
    return sample.gradients.hessian_matrix()


def hessian_for_products(gradients: Gradients) -> np.ndarray | LinearOperator:
    """The Hessian as a matrix where it is not too large; otherwise its products alone."""
    return gradients.hessian_matrix() if is_written_out(gradients) else gradients.hessian()


def is_written_out(gradients: Gradients) -> bool:
    """Whether the Hessian is a matrix where its products would do."""
    return gradients.model.n_parameters <= (MOST_PRODUCTS if gradients.hessian_by_products else MOST_PARAMETERS)


def frobenius_norm(hessian: np.ndarray | LinearOperator, rng) -> float:
    """``|H|``; of a Hessian that is not written out, from the mean of ``|H v|^2`` over random signs v (Hutchinson 1990).

    The relative standard error of the mean is at most ``sqrt(2 / DIRECTIONS)``, one in eleven.
    """
    if isinstance(hessian, np.ndarray):
        return float(norm(hessian.ravel()))
    total = 0.0
    for _ in range(DIRECTIONS // AT_ONCE):
        signs = 2.0 * rng.randint(2, size=(hessian.shape[0], AT_ONCE)) - 1.0
        total += np.sum((hessian @ signs) ** 2)
    return float(np.sqrt(total / DIRECTIONS))


def written_rows(sample: Sample, groups) -> list[np.ndarray]:
    """The rows of each group whose gradients are examined one by one: all of them for a Hessian that is written out."""
    return groups if is_written_out(sample.gradients) else few_of_each(sample, groups)


def few_of_each(sample: Sample, groups) -> list[np.ndarray]:
    """Some rows of each group, so that their gradients fit into memory; groups are in random order."""
    most = MOST_GRADIENTS_BY_PRODUCTS if sample.gradients.hessian_by_products else MOST_GRADIENTS
    most = min(most, MOST_NUMBERS // sample.model.n_parameters)
    return [rows[: max(1, most // len(groups)) * sample.model.observation_size] for rows in groups]


def share_left(sample: Sample, groups) -> float:
    """The share of the population that an interval leaves open: all of it where few gradients are examined."""
    complete = all(len(few) == len(rows) for few, rows in zip(written_rows(sample, groups), groups, strict=True))
    return sample.left if complete else 1.0


def curvatures_along(sample: Sample, hessian, rows: np.ndarray, center=0.0) -> tuple[np.ndarray, np.ndarray]:
    """``g' H g`` and ``g' g`` for the gradients g of the losses of some rows, less a center."""
    along, squares = [], []
    for block in sample.gradients.on(rows).each():
        block = block - center
        along.append(np.sum((hessian @ block.T).T * block, axis=1))
        squares.append(np.sum(block**2, axis=1))
    return np.concatenate(along), np.concatenate(squares)


class Covariance:
    """That of the gradients of rows, written out as the Hessian is; otherwise by the gradients of a few rows."""

    def __init__(self, sample: Sample, groups):
        self.n_observations, self.per_row = sample.rows.size // sample.model.observation_size, sample.per_row
        self.matrix = None
        if is_written_out(sample.gradients):
            self.matrix, _ = noise_in(sample, np.eye(sample.model.n_parameters), groups)
        else:
            rows = np.concatenate(few_of_each(sample, groups))
            gradients = np.concatenate(list(sample.gradients.on(rows).each()))
            self.gradients = gradients - sample.gradients.loss_gradient()

    def along(self, hessian: np.ndarray | LinearOperator) -> float:
        """``tr(H C)``."""
        if self.matrix is not None:
            return float(np.sum(hessian * self.matrix))
        along = np.sum((hessian @ self.gradients.T).T * self.gradients)
        return float(self.per_row * along / len(self.gradients))

    def frobenius_norm(self) -> float:
        """``|C|``; from few rows, by the products of the gradients of each pair of them."""
        if self.matrix is not None:
            return float(norm(self.matrix.ravel()))
        products = self.gradients @ self.gradients.T
        squares = products**2
        m, n = len(squares), self.n_observations
        same = np.trace(squares) / m
        mean = same / n + (1.0 - 1.0 / n) * (np.sum(squares) - m * same) / (m * (m - 1.0))
        least = np.trace(products) ** 2 / (m**2 * self.gradients.shape[1])  # that of noise alike in all directions
        return float(self.per_row * np.sqrt(max(mean, least)))


def noise_in(sample: Sample, vectors: np.ndarray, groups) -> tuple[np.ndarray, np.ndarray]:
    """The covariance of the gradients of rows in a basis (p, p), and its diagonal by groups of rows (k, p)."""
    mean, size = sample.gradients.loss_gradient(), sample.model.observation_size
    whole, diagonals = np.zeros_like(vectors), np.zeros((len(groups), len(vectors)))
    for j, rows in enumerate(groups):
        for block in sample.gradients.on(rows).each():
            rotated = (block - mean) @ vectors
            whole += rotated.T @ rotated
            diagonals[j] += np.sum(rotated**2, axis=0)
        diagonals[j] *= sample.per_row * size / len(rows)
    return whole * (sample.per_row * size / sample.rows.size), diagonals
