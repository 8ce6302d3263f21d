"""The step along which the objective falls most, by its curvature at the present parameters: Newton's."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from skminibatch.backends import map_on_device
from skminibatch.contract.coordinates import RoundCoordinates
from skminibatch.contract.verbs import hessian_product
from skminibatch.models.curvature import has_second_derivative
from skminibatch.models.data import Data, outputs_of_all
from skminibatch.models.linear import LinearModel
from skminibatch.models.protocol import Predictor

MOST_PRODUCTS = 20  # of the Hessian with a vector, each of which costs about as much as a pass of large batches
RESIDUAL = 0.1  # of the gradient, that may be left


def newton_step(model: LinearModel, data: Data, predictor: Predictor, gradient: np.ndarray) -> tuple[np.ndarray, float]:
    """The step (K, d + 1) in round coordinates, and what the objective should fall by.

    One output is about as curved in every direction: a step along the gradient is Newton's. The curvatures of several outputs
    differ, and they depend on each other, so that their step is found by conjugate gradients, as Newton's in the truncated method
    (Dembo and Steihaug 1983, Mathematical Programming 26).
    """
    axes = model.axes
    assert isinstance(axes, RoundCoordinates)
    if model.n_outputs == 1 or not has_second_derivative(model.loss, data.y, np.zeros((1, model.n_outputs))):
        return gradient / axes.curvature, float(np.sum(gradient**2)) / (2.0 * axes.curvature)
    raw = outputs_of_all(data, *predictor).astype(np.float64)
    weights, ridge = data.weights_in_use, model.ridge_of_coordinates()

    def product(vector: np.ndarray) -> np.ndarray:
        direction = vector.reshape(gradient.shape)
        curved, along = np.zeros_like(gradient), (direction[:, :-1] @ axes.mix.T).astype(model.dtype)
        for rows, X in data.portions_on_device(np.arange(len(raw))):
            moved = map_on_device(_outputs, X, axes.center, along) + direction[:, -1]
            second = hessian_product(model.loss, raw[rows], data.y[rows], moved.astype(np.float64))
            if weights.size:
                second *= weights[rows, None]
            curved[:, :-1] += map_on_device(_sums, X, axes.center, second.astype(model.dtype))
            curved[:, -1] += second.sum(axis=0)
        curved[:, :-1] = curved[:, :-1] @ axes.mix
        curved /= data.n_rows
        curved[:, :-1] += ridge * direction[:, :-1]
        curved[:, -1] *= model.fit_intercept
        return curved.ravel()

    operator = LinearOperator((gradient.size,) * 2, matvec=product, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        step, _ = cg(operator, gradient.ravel(), rtol=RESIDUAL, maxiter=MOST_PRODUCTS)
    step = step.reshape(gradient.shape)
    if not np.isfinite(step).all():  # a loss that is flat there has no curvature
        step = gradient / axes.curvature
    return step, float(np.sum(gradient * step)) / 2.0


def _outputs(X, center, coef):
    return (X - center) @ coef.T


def _sums(X, center, second):
    return second.T @ (X - center)
