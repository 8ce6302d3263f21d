"""What the data say about the step: the scale of the features and the smoothness of a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.utils import check_random_state

from skminibatch._plan import Coordinates

EXAMINED = 2_048  # rows from which the scale of the features and the smoothness are estimated
QUANTILE = 0.999  # of the squared lengths of the rows, for the worst row
SAFETY = 1.1  # of the largest eigenvalue of a sample
SMALL_GRAM = 256  # rows or features up to which eigenvalues are computed from a full matrix
RESERVOIR = 512  # rows of a stream that are kept
GROWTH = 1.25  # of the rows seen, between two estimates on a stream
MOST_KINDS = 8  # of stretches of sparse features
NEGLIGIBLE_SHIFT = 0.25  # of a standard deviation: a mean that is no better moved to zero
NEGLIGIBLE_STRETCH = 2.0  # features that are stretched by no more are left as they are

# purposes of random numbers, each with a sequence of its own for each turn; the samplers have those from zero on
OF_SCALE, OF_EVALUATION, OF_RESERVOIR, OF_PILOT = 1 << 32, 1 << 33, 1 << 34, 1 << 35
OF_START, OF_NOISE = 1 << 36, 1 << 37


def stream(seed: int, purpose: int, turn: int = 0) -> np.random.Generator:
    """Random numbers for one purpose, the same at each call."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose + turn]))


def seed_of(random_state) -> int:
    """The seed of all random numbers of a training, the next one that `random_state` gives."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def sample_rows(n_rows: int, size: int, rng: np.random.Generator, rows: np.ndarray | None = None) -> np.ndarray:
    """A sorted random sample of `size` rows (or of those in `rows`): all of them where they are few."""
    n = n_rows if rows is None else rows.size
    chosen = np.arange(n) if size >= n else np.sort(rng.choice(n, size, replace=False, shuffle=False))
    return chosen if rows is None else rows[chosen]


class Moments(NamedTuple):
    """Running count, mean and sum of squared deviations of the features, float64 (Chan, Golub and LeVeque 1983).

    ``stored`` counts, for each feature, the rows that store a value of it: all of them where rows are dense.
    """

    count: float
    mean: np.ndarray
    squares: np.ndarray
    stored: np.ndarray

    @classmethod
    def none(cls, n_features: int) -> Moments:
        return cls(0.0, *np.zeros((3, n_features)))

    def updated(self, X, weights: np.ndarray | None = None) -> Moments:
        """With more rows, weighted or not; in portions, so that nothing as large as X is made."""
        moments = self
        for start in range(0, X.shape[0], EXAMINED):
            rows = slice(start, start + EXAMINED)
            moments = moments._with(X[rows], np.ones(X[rows].shape[0]) if weights is None else weights[rows])
        return moments

    def _with(self, X, weights: np.ndarray) -> Moments:
        total = float(weights.sum())
        if total == 0:
            return self
        if not sparse.issparse(X):
            return self.merged(total, *mean_and_squares(X, weights))
        mean = np.asarray(weights @ X, np.float64).ravel() / total
        squares = np.asarray(weights @ X.multiply(X)).ravel() - total * mean**2
        return self.merged(total, mean, squares, weights @ X.astype(bool))

    def merged(self, total: float, mean: np.ndarray, squares: np.ndarray, stored=None) -> Moments:
        """With the weight, the means and the sums of squared deviations of more rows (`stored`: None for dense ones)."""
        stored, count = total if stored is None else stored, self.count + total
        shift = mean - self.mean
        squares = self.squares + np.maximum(squares, 0) + shift**2 * self.count * total / count
        return Moments(count, self.mean + shift * total / count, squares, self.stored + stored)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation; of a feature that was constant so far, what a new value may be: 1, or its size if larger."""
        variance = self.squares / max(self.count, 1.0)
        constant = variance <= 1e-12 * self.mean**2  # rounding
        size = np.maximum(1.0, np.abs(self.mean))
        return np.where(constant, size, np.sqrt(np.where(constant, 1.0, variance)))

    @property
    def size_of_stored(self) -> np.ndarray:
        """Root mean square of the stored values of each feature; of one without, that of the feature in the middle."""
        seen = (self.stored > 0) & (self.squares + self.mean**2 > 0)
        if not seen.any():
            return np.ones_like(self.mean)
        squares = self.squares[seen] + self.count * self.mean[seen] ** 2
        size = np.empty_like(self.mean)
        size[seen] = np.sqrt(squares / self.stored[seen])
        size[~seen] = np.median(size[seen])
        return size


def mean_and_squares(X, weights):
    """Weighted mean and sum of squared deviations of the columns of dense rows, in the arrays of any library, float64."""
    mean = weights @ X / weights.sum()
    return mean, weights @ (X - mean) ** 2


class Reservoir(NamedTuple):
    """A uniform sample of the rows of a stream, from which its smoothness is estimated now and then.

    Every row draws a random key, and the rows of the smallest keys are kept. ``estimated_at`` is the number of rows that
    had been seen at the last estimate.
    """

    X: object
    y: np.ndarray
    weights: np.ndarray
    keys: np.ndarray
    seen: int = 0
    estimated_at: int = 0

    @classmethod
    def of(cls, X, y, weights: np.ndarray | None, seen: int, rng: np.random.Generator) -> Reservoir:
        """A sample of some rows, themselves a sample of `seen` ones."""
        empty = cls(X[:0], y[:0], np.empty(0), np.empty(0))
        return empty.updated(X, y, weights, rng)._replace(seen=seen, estimated_at=seen)

    def updated(self, X, y, weights: np.ndarray | None, rng: np.random.Generator) -> Reservoir:
        """With the rows of one more chunk, weighted or not."""
        keys = rng.random(X.shape[0])
        limit = self.keys.max() if self.keys.size >= RESERVOIR else np.inf
        new = np.flatnonzero(keys < limit)
        seen = self.seen + X.shape[0]
        if not new.size:
            return self._replace(seen=seen)
        weights = np.ones(new.size) if weights is None else weights[new]
        keys = np.concatenate([self.keys, keys[new]])
        kept = np.sort(np.argsort(keys, kind="stable")[:RESERVOIR])
        rows = sparse.vstack([self.X, X[new]]).tocsr() if sparse.issparse(self.X) else np.vstack([self.X, X[new]])
        y = np.concatenate([self.y, y[new]])
        weights = np.concatenate([self.weights, weights])
        return Reservoir(rows[kept], y[kept], weights[kept], keys[kept], seen, self.estimated_at)

    @property
    def due(self) -> bool:
        """Whether enough rows came since the last estimate for a better one."""
        return self.seen >= GROWTH * self.estimated_at


def gentle_coordinates(moments: Moments, dtype, centered: bool, old: Coordinates | None = None) -> Coordinates:
    """Features moved and stretched so far that none dominates, at an unchanged objective.

    Stretches are powers of two, and small ones and small shifts are left out, so that standardised data stay as they are,
    whatever the rows from which they are judged, and a stream does not change its coordinates with every chunk: `old` ones
    are kept within a factor of two.
    """
    deviation = moments.deviation
    exponents = np.log2(deviation)
    near = np.abs(exponents).max(initial=0.0) <= np.log2(NEGLIGIBLE_STRETCH)
    scale = np.ones_like(deviation) if near else np.exp2(-np.round(exponents))
    center = np.where(np.abs(moments.mean) > NEGLIGIBLE_SHIFT * deviation, moments.mean, 0.0)
    if old is not None:
        near = (scale <= 2 * old.scale) & (scale >= 0.5 * old.scale)
        scale = np.where(near, old.scale, scale)
        center = np.where(np.abs(old.center - moments.mean) <= 2 * NEGLIGIBLE_SHIFT * deviation, old.center, center)
    if not centered:
        center = np.zeros_like(center)
    scale = scale.astype(dtype)
    return Coordinates(center.astype(dtype), scale, scale)


def sparse_coordinates(moments: Moments, dtype, old: Coordinates | None = None) -> Coordinates:
    """Features stretched by powers of two, so that their stored values are about as large, at an unchanged objective.

    Not by the deviation, which would make a value the larger the rarer it is; a one-hot encoding stays as it is. No more
    than `MOST_KINDS` different stretches, since each has a cost in every step; `old` ones are kept within a factor of two.
    """
    exponents = -np.round(np.log2(moments.size_of_stored))
    if old is not None:
        before = np.log2(old.scale.astype(np.float64))
        exponents = np.where(np.abs(exponents - before) <= 1, before, exponents)
    grain = 1
    while np.unique(np.round(exponents / grain).astype(np.int16)).size > MOST_KINDS:
        grain *= 2
    scale = np.exp2(grain * np.round(exponents / grain)).astype(dtype)
    return Coordinates(np.zeros_like(scale), scale, scale)


def within(axes: Coordinates, largest: float) -> Coordinates:
    """The coordinates with no stretch above the largest one, rounded down to a power of two."""
    scale = np.minimum(axes.scale, np.exp2(np.floor(np.log2(largest)))).astype(axes.scale.dtype)
    return Coordinates(axes.center, scale, scale)


def standard_coordinates(moments: Moments, dtype, centered: bool) -> Coordinates:
    """Standardised features, the penalty on the coefficients of these."""
    center = moments.mean if centered else np.zeros_like(moments.mean)
    scale = (1.0 / moments.deviation).astype(dtype)
    return Coordinates(center.astype(dtype), scale, np.ones_like(scale))


class Smoothness(NamedTuple):
    """Smoothness constants of the objective: of the mean and of the worst row, each with the penalty's share.

    ``typical`` is the mean of the rows' constants, the stiffness of a batch without unusual rows. ``unit`` is the curvature
    that one unit of a kernel's stiffness stands for: 1, except for losses with a kink (see `LinearModel.smoothness`).
    """

    mean: float
    worst: float
    typical: float
    unit: float = 1.0

    def of_batch(self, batch_size: float, n_rows: float) -> float:
        """Expected smoothness of a batch drawn without replacement (Gower et al. 2019, proposition 3.8)."""
        n, b = max(n_rows, 2.0), np.minimum(batch_size, n_rows)
        share = n * (b - 1) / (b * (n - 1))
        return share * self.mean + (n - b) / (b * (n - 1)) * self.worst


def square_lengths(Z) -> np.ndarray:
    """Squared Euclidean lengths of rows."""
    if sparse.issparse(Z):
        return np.asarray(Z.multiply(Z).sum(axis=1), np.float64).ravel()
    return np.einsum("ij,ij->i", Z, Z, dtype=np.float64)


def smoothness(Z, curvatures: np.ndarray, ridge: float, fit_intercept: bool) -> Smoothness:
    """Smoothness from a sample of rows `Z`, as the optimizer sees them, and the curvature of the loss of each.

    The mean's constant is the largest eigenvalue of ``Z' diag(curvatures) Z / m``, enlarged by `SAFETY`; the worst row's
    a high quantile of ``curvature_i (|z_i|^2 + 1)``: a few rows of huge length do not slow down all others, since no
    step exceeds what its own batch allows.
    """
    each = curvatures * (square_lengths(Z) + fit_intercept)
    typical = float(each.mean())
    worst = max(float(np.quantile(each, QUANTILE)), typical)  # a sequence of steps sees every row
    largest = min(SAFETY * _largest_eigenvalue(Z, curvatures, fit_intercept), typical)
    tiny = np.finfo(np.float64).tiny
    return Smoothness(max(largest + ridge, tiny), max(worst + ridge, tiny), typical)


def _largest_eigenvalue(Z, curvatures, fit_intercept) -> float:
    m, d = Z.shape
    if min(m, d) <= SMALL_GRAM:
        full = (
            Z.multiply(np.sqrt(curvatures)[:, None]).tocsr() if sparse.issparse(Z) else Z * np.sqrt(curvatures)[:, None]
        )
        ones = np.sqrt(curvatures) * fit_intercept
        if m <= d:
            gram = full @ full.T
            gram = (gram.toarray() if sparse.issparse(gram) else gram) + np.outer(ones, ones)
        else:
            gram = full.T @ full
            border = np.asarray(full.T @ ones).ravel()[:, None]
            gram = gram.toarray() if sparse.issparse(gram) else gram
            gram = np.block([[gram, border], [border.T, ones @ ones]])
        return float(np.linalg.eigvalsh(gram)[-1]) / m

    roots = np.sqrt(curvatures / m)

    def by_feature(v):
        raw = roots**2 * (Z @ v[:d] + fit_intercept * v[d])
        return np.append(Z.T @ raw, fit_intercept * raw.sum())

    def by_row(v):  # has the same eigenvalues, beside zero
        v = roots * v
        return roots * (Z @ (Z.T @ v) + fit_intercept * v.sum())

    size, product = (m, by_row) if m <= d else (d + 1, by_feature)
    operator = LinearOperator((size, size), matvec=lambda v: product(v.ravel()), dtype=np.float64)
    start = np.random.Generator(np.random.Philox(key=0)).standard_normal(size)
    return float(eigsh(operator, k=1, which="LA", tol=0.05, ncv=8, v0=start, return_eigenvectors=False)[0])


class Seen(NamedTuple):
    """What the batches of some steps say about the gradient (McCandlish et al. 2018, arXiv:1812.06162, appendix A).

    ``tr(Sigma)`` and ``|G|^2`` are estimated without bias in each batch whose rows were measured, ``s^2`` and
    ``|g|^2 - (1 / b - 1 / n) s^2`` for n rows, and averaged before their ratio is taken. All are of the loss without its
    penalty, in the coordinates of the optimizer.

    Attributes
    ----------
    loss : float
        Mean loss of a row.
    square_norm : float
        Mean of ``|g|^2`` over the batches; NaN where no norm was measured.
    variance : float
        ``tr(Sigma)``, the variance of the gradient of a row; NaN for batches of one row.
    signal : float
        ``|G|^2``, less than zero where the noise hides it.
    update_variance : float
        Mean of ``rate^2 tr(Sigma) / b``.
    temperature : float
        Mean of ``rate tr(Sigma) / b``.
    rate : float
        The last rate.
    """

    loss: float
    square_norm: float
    variance: float
    signal: float
    update_variance: float
    temperature: float
    rate: float

    @classmethod
    def of(cls, sizes: np.ndarray, stats, population: float = np.inf) -> Seen:
        """From the sizes of some batches and the `StepStats` of their steps.

        `population` is the number of rows from which a batch is drawn without replacement; NaN where its rows are not
        drawn from one population, so that they do not tell the variance.
        """
        loss, rate = float(stats.losses.sum() / sizes.sum()), float(stats.rates[-1])
        normed = ~np.isnan(stats.square_norms)
        square_norm = _mean(stats.square_norms[normed])
        measured = normed & ~np.isnan(stats.row_squares) & (sizes > 1)
        if not measured.any() or np.isnan(population):
            return cls(loss, square_norm, np.nan, np.nan, np.nan, np.nan, rate)
        b, norms, squares, rates = (a[measured] for a in (sizes, stats.square_norms, stats.row_squares, stats.rates))
        variance = np.maximum(squares - b * norms, 0.0) / (b - 1)
        # of the same batches: the products of a row's gradient with itself are in both, and leave no trace of long rows
        signal, temperatures = _mean(norms - (1.0 / b - 1.0 / population) * variance), rates * variance / b
        return cls(loss, square_norm, _mean(variance), signal, _mean(rates * temperatures), _mean(temperatures), rate)

    def told(self, signal: float, variance: float, sizes: np.ndarray, rates: np.ndarray) -> Seen:
        """With estimates of ``|G|^2`` and ``tr(Sigma)`` from elsewhere, for the sizes and rates of these batches."""
        temperature = float(np.mean(rates * variance / sizes))
        update_variance = float(np.mean(rates**2 * variance / sizes))
        return self._replace(variance=variance, signal=signal, update_variance=update_variance, temperature=temperature)

    @property
    def noise_scale(self) -> float:
        """``tr(Sigma) / |G|^2``: infinite where the noise hides the gradient, NaN where there is no variance to tell."""
        if np.isnan(self.variance):
            return np.nan
        return self.variance / self.signal if self.signal > 0 else np.inf


def _mean(numbers: np.ndarray) -> float:
    """The mean, NaN for no numbers; of a few ones in a third of the time of NumPy's, which each epoch asks for ten times."""
    return float(numbers.sum()) / numbers.size if numbers.size else np.nan
