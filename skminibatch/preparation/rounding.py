"""Coordinates in which the objective is round: about as curved in every direction.

How many passes a stochastic method takes grows with the condition number of the objective. The second moments of all rows,
weighted by the curvatures of their losses, are the Hessian; a factor of its inverse makes it round. Rare features get the scale
that their few rows ask for, since no row is left out; a row that is long in these coordinates is visited several times.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import eigh, solve_triangular

from skminibatch.backends import map_on_device
from skminibatch.backends.arrays import is_sparse, stays_on_gpu
from skminibatch.contract.affine import AffineRows
from skminibatch.contract.coordinates import AsGiven, Coordinates, RoundCoordinates
from skminibatch.contract.kinds import declared
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.statistics.random import EXAMINED

MOST_FEATURES = 1024
MOST_BYTES = 1 << 30  # of the rows in these coordinates, which are written out
SMALLEST_SHARE = 1e-3  # of a curvature that is told from rounding
NEGLIGIBLE = 1e-10  # of the mean curvature: directions without any are left alone


def suits_rounding(model: LinearModel, data: Data) -> bool:
    """Whether the rows may be written out in other coordinates, and the penalty stays one of each coordinate there."""
    X, penalty = data.X, declared(model.penalty)
    is_dense = not is_sparse(X) and (X.fits if stays_on_gpu(X) else isinstance(X, (np.ndarray, AffineRows)))
    is_small = model.n_features <= MOST_FEATURES and X.shape[0] * model.n_features * model.dtype.itemsize <= MOST_BYTES
    return is_dense and is_small and penalty.quadratic and not penalty.nonsmooth


def in_round_coordinates(
    model: LinearModel, data: Data, rows: np.ndarray, curvatures: np.ndarray, lifts: np.ndarray, flatness: float
) -> LinearModel:
    """The model in round coordinates, in which its rows have yet to be written out.

    Parameters
    ----------
    rows : ndarray of int
        Numbers of the rows that are read.
    curvatures : ndarray of shape (n,), float64
        Of the weighted loss of each row, zero for rows that are not read.
    lifts : ndarray of shape (n,), float64
        What they were raised by, to a share of their bounds at least.
    flatness : float
        What they were in the mean before that, over the curvature of the flattest output.
    """
    center, moments = second_moments(model, data, rows, curvatures)
    axes, mean = model.plain_axes, float(curvatures.sum()) / data.n_rows
    scale, stretch = axes.scale.astype(np.float64), axes.stretch.astype(np.float64)
    curved = moments + np.diag(model.ridge_of_coordinates())
    d = len(curved)
    curved[np.diag_indices(d)] += NEGLIGIBLE * max(float(np.trace(curved)) / d, np.finfo(float).tiny)
    factor = np.linalg.cholesky(curved)
    # of the matrices that turn the curvature into a unit matrix, the one that leaves the penalty diagonal
    roots = solve_triangular(factor, np.diag(stretch), lower=True)
    squares, rotation = eigh(roots @ roots.T)
    mix = solve_triangular(factor, rotation, trans="T", lower=True) * np.sqrt(mean)
    inverse = (rotation.T @ factor.T) / np.sqrt(mean)
    coordinates = RoundCoordinates(
        center=center.astype(model.dtype),
        mix=scale[:, None] * mix,
        inverse=inverse / scale,
        stretch=np.sqrt(np.maximum(squares, 0.0) * mean).astype(model.dtype),
        given=np.asarray(axes.penalised) * np.ones(d),
        curvature=mean,
        flatness=flatness / _least_share(model, data, lifts, center, mix, mean),
    )
    return replace(model, coordinates=coordinates)


def gradient_in(axes: RoundCoordinates, before: Coordinates | AsGiven, gradient: np.ndarray) -> np.ndarray:
    """A gradient (K, d + 1) by the parameters in other coordinates as one by those in round coordinates, float64."""
    gradient = gradient.astype(np.float64)
    moved = gradient[:, :-1] / before.scale + gradient[:, -1:] * (before.center - axes.center.astype(np.float64))
    return np.column_stack([moved @ axes.mix, gradient[:, -1]])


def second_moments(model: LinearModel, data: Data, rows: np.ndarray, curvatures: np.ndarray) -> tuple:
    """Mean of the features (d,) and second moments about it (d, d) in the present coordinates, weighted by curvatures (n,).

    These are sums over the numbers of `rows`, divided by the number of rows in use; the mean is over the sum of the curvatures.
    """
    axes, d, n_rows = model.plain_axes, model.n_features, data.n_rows
    sums, products = np.zeros(d), np.zeros((d, d))
    change = () if axes.trivial else (axes.center, axes.scale)
    for portion, X in data.portions_on_device(rows):
        more_sums, more_products = map_on_device(_weighted_sums, X, curvatures[portion], *change)
        sums += more_sums
        products += more_products
    total = float(curvatures[rows].sum())
    if not model.fit_intercept:
        return np.zeros(d), products / n_rows
    shift = sums / total
    products -= np.outer(shift, sums)
    return axes.center + shift / axes.scale, products / n_rows


def _weighted_sums(X, curvatures, *change):
    """Sums of rows (d,) and of their products (d, d), weighted by curvatures; `change` is a center and a scale, or nothing."""
    Z = X.astype(np.float64, copy=False)
    if change:
        center, scale = change
        Z = (Z - center) * scale
    sums = curvatures @ Z
    Z = Z * np.sqrt(curvatures)[:, None]
    return sums, Z.T @ Z


def _least_share(
    model: LinearModel, data: Data, lifts: np.ndarray, center: np.ndarray, mix: np.ndarray, mean: float
) -> float:
    """The least share, of all directions, that the curvature would have of that in round coordinates without its lifts."""
    lifted = np.flatnonzero(lifts)
    if not lifted.size:
        return 1.0
    # all rows are read faster than most of them; of many losses, next to none is lifted
    rows = lifted if 2 * lifted.size < len(lifts) else np.arange(len(lifts))
    own_center, moments = second_moments(model, data, rows, lifts)
    shift = (own_center - center) * model.plain_axes.scale
    moments += lifts.sum() / data.n_rows * np.outer(shift, shift)
    largest = max(float(np.linalg.eigvalsh(mix.T @ moments @ mix)[-1]), float(lifts.sum()) / data.n_rows)
    return max(1.0 - largest / mean, SMALLEST_SHARE)


def written_out(model: LinearModel, data: Data) -> tuple[Data, np.ndarray]:
    """The rows written out in round coordinates, where they are, and ``|z|^2 + 1`` of each (see `Stored`)."""
    axes, X = model.axes, data.X
    assert isinstance(axes, RoundCoordinates)
    mix, lengths = axes.mix.astype(model.dtype), np.empty(X.shape[0])
    if stays_on_gpu(X):
        data = data._replace(written=X.written(_transformed, model.dtype, axes.center, mix))
        for rows, Z in data._replace(X=data.written).portions_on_device(np.arange(len(lengths))):
            lengths[rows] = map_on_device(_square_lengths, Z)
    else:
        written = np.empty(X.shape, model.dtype)
        for start in range(0, len(X), EXAMINED):
            rows = slice(start, start + EXAMINED)
            np.matmul(X[rows] - axes.center, mix, out=written[rows])
            lengths[rows] = _square_lengths(written[rows])
        data = data._replace(written=written)
    return data, lengths + model.fit_intercept


def _square_lengths(Z):
    return (Z * Z).sum(axis=1)


def _transformed(X, center, mix):
    return (X - center) @ mix
