"""Optima of the stated objective, by second-order methods that share no code with the package.

F(w, b) = sum_i s_i loss(x_i w + b, y_i) / sum_i s_i + alpha R(w), R = |w|^2/2 or the elastic net, b not penalised.

Kinks (hinge, quantile, epsilon-insensitive, |w|) are replaced by parabolas over a width that falls to a ten-millionth
of the scale of the targets. The parabola lies above the kink by at most a quarter of its width, so this, and the Newton
decrement, bound how far the result is from the optimum.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg, sparse
from scipy.special import expit, logsumexp, softmax

MOST_COLUMNS = 600  # up to here the Hessian is formed and factorised; beyond, conjugate gradients take products with it
WIDTHS = 5.0 ** -np.arange(0, 11)  # of the parabolas, relative to the scale of y; the last one is 1e-7
TIGHT, LOOSE = 1e-11, 1e-7  # Newton decrements, relative to F, of the last width and of those on the way
ROUNDING = 1e-15
MOST_STEPS, MOST_PRODUCTS = 200, 1000


def plus(z, width):
    """max(0, z), a parabola where |z| < width."""
    if width == 0:
        return np.maximum(0.0, z)
    return np.where(np.abs(z) < width, (z + width) ** 2 / (4 * width), np.maximum(0.0, z))


def plus_slope(z, width):
    return np.where(z > 0, 1.0, 0.0) if width == 0 else np.clip((z + width) / (2 * width), 0, 1)


def plus_curvature(z, width):
    return np.zeros_like(z) if width == 0 else np.where(np.abs(z) < width, 1 / (2 * width), 0.0)


class LogLoss:
    """Of labels -1 and +1; like the others: value, slope and curvature of a raw output, at a width of the kinks."""

    kinked = False

    def value(self, raw, y, width):
        return np.logaddexp(0, -y * raw)

    def slope(self, raw, y, width):
        return -y * expit(-y * raw)

    def curvature(self, raw, y, width):
        return expit(raw) * expit(-raw)


class Softmax:
    """Of class numbers (n, 1) and raw outputs (n, k)."""

    kinked = False

    def value(self, raw, y, width):
        return logsumexp(raw, axis=1, keepdims=True) - np.take_along_axis(raw, y, axis=1)

    def slope(self, raw, y, width):
        p = softmax(raw, axis=1)
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis=1) - 1, axis=1)
        return p

    def curvature(self, raw, y, width):
        p = softmax(raw, axis=1)
        return p * (1 - p)

    def product(self, raw, y, direction):
        p = softmax(raw, axis=1)
        return p * (direction - np.sum(p * direction, axis=1, keepdims=True))


class Hinge:
    kinked = True

    def value(self, raw, y, width):
        return plus(1 - y * raw, width)

    def slope(self, raw, y, width):
        return -y * plus_slope(1 - y * raw, width)

    def curvature(self, raw, y, width):
        return plus_curvature(1 - y * raw, width)


class SquaredHinge:
    kinked = False

    def value(self, raw, y, width):
        return np.maximum(0.0, 1 - y * raw) ** 2

    def slope(self, raw, y, width):
        return -2 * y * np.maximum(0.0, 1 - y * raw)

    def curvature(self, raw, y, width):
        return np.where(y * raw < 1, 2.0, 0.0)


class ModifiedHuber:
    kinked = False

    def value(self, raw, y, width):
        z = y * raw
        return np.where(z >= -1, np.maximum(0.0, 1 - z) ** 2, -4 * z)

    def slope(self, raw, y, width):
        return -2 * y * np.clip(1 - y * raw, 0, 2)

    def curvature(self, raw, y, width):
        return np.where(np.abs(y * raw) < 1, 2.0, 0.0)


class SquaredError:
    kinked = False

    def value(self, raw, y, width):
        return (raw - y) ** 2 / 2

    def slope(self, raw, y, width):
        return raw - y

    def curvature(self, raw, y, width):
        return np.ones_like(raw)


class Poisson:
    kinked = False

    def value(self, raw, y, width):
        return np.exp(np.minimum(raw, 700)) - y * raw + y * np.log(np.where(y > 0, y, 1)) - y

    def slope(self, raw, y, width):
        return np.exp(np.minimum(raw, 700)) - y

    def curvature(self, raw, y, width):
        return np.exp(np.minimum(raw, 700))


@dataclass
class Huber:
    """The width is that of its own parabola on the way to epsilon: the slopes of far rows stay the same."""

    epsilon: float
    kinked = True

    def value(self, raw, y, width):
        wide = max(self.epsilon, width)
        r = np.abs(raw - y)
        return self.epsilon * np.where(r <= wide, r * r / (2 * wide), r - wide / 2)

    def slope(self, raw, y, width):
        return self.epsilon * np.clip((raw - y) / max(self.epsilon, width), -1, 1)

    def curvature(self, raw, y, width):
        wide = max(self.epsilon, width)
        return np.where(np.abs(raw - y) <= wide, self.epsilon / wide, 0.0)


@dataclass
class EpsilonInsensitive:
    epsilon: float
    kinked = True

    def value(self, raw, y, width):
        return plus(raw - y - self.epsilon, width) + plus(y - raw - self.epsilon, width)

    def slope(self, raw, y, width):
        return plus_slope(raw - y - self.epsilon, width) - plus_slope(y - raw - self.epsilon, width)

    def curvature(self, raw, y, width):
        return plus_curvature(raw - y - self.epsilon, width) + plus_curvature(y - raw - self.epsilon, width)


@dataclass
class SquaredEpsilonInsensitive:
    epsilon: float
    kinked = False

    def value(self, raw, y, width):
        return np.maximum(0.0, np.abs(raw - y) - self.epsilon) ** 2

    def slope(self, raw, y, width):
        return 2 * np.sign(raw - y) * np.maximum(0.0, np.abs(raw - y) - self.epsilon)

    def curvature(self, raw, y, width):
        return np.where(np.abs(raw - y) > self.epsilon, 2.0, 0.0)


@dataclass
class Quantile:
    quantile: float
    kinked = True

    def value(self, raw, y, width):
        return self.quantile * plus(y - raw, width) + (1 - self.quantile) * plus(raw - y, width)

    def slope(self, raw, y, width):
        return (1 - self.quantile) * plus_slope(raw - y, width) - self.quantile * plus_slope(y - raw, width)

    def curvature(self, raw, y, width):
        return plus_curvature(raw - y, width)  # the weights of the two sides add up to one


CLASSIFIERS = {"log_loss": LogLoss, "hinge": Hinge, "squared_hinge": SquaredHinge, "modified_huber": ModifiedHuber}
REGRESSORS = {
    "squared_error": lambda epsilon, quantile: SquaredError(),
    "huber": lambda epsilon, quantile: Huber(epsilon),
    "epsilon_insensitive": lambda epsilon, quantile: EpsilonInsensitive(epsilon),
    "squared_epsilon_insensitive": lambda epsilon, quantile: SquaredEpsilonInsensitive(epsilon),
    "poisson": lambda epsilon, quantile: Poisson(),
    "quantile": lambda epsilon, quantile: Quantile(quantile),
}
KINKED = {"hinge", "epsilon_insensitive", "quantile"}


def parts(y, loss, epsilon=0.1, quantile=0.5):
    """The problems that F is the sum of: (loss, targets of shape (n, 1), number of outputs), one for each class or output."""
    if loss in REGRESSORS:
        columns = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        return [(REGRESSORS[loss](epsilon, quantile), column[:, None], 1) for column in columns.T]
    n_classes = int(y.max()) + 1
    if loss == "log_loss" and n_classes > 2:
        return [(Softmax(), y[:, None].astype(np.int64), n_classes)]
    classes = [1] if n_classes == 2 else range(n_classes)
    return [(CLASSIFIERS[loss](), np.where(y == k, 1.0, -1.0)[:, None], 1) for k in classes]


def mixing(penalty, l1_ratio):
    """The share of |w| in the penalty, and that of w^2/2."""
    l1 = {"l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}[penalty]
    return l1, 1 - l1


def objective(coef, intercept, X, y, loss, penalty="l2", alpha=1e-4, l1_ratio=0.15, weights=None, **options):
    """F of coef (n_outputs, n_features) and intercept (n_outputs,), in float64."""
    coef = np.atleast_2d(np.asarray(coef, dtype=np.float64))
    raw = X @ coef.T + np.ravel(np.asarray(intercept, dtype=np.float64))
    return data_term(raw, y, loss, weights, **options) + regulariser(coef, penalty, alpha, l1_ratio)


def data_term(raw, y, loss, weights=None, **options):
    total, start = 0.0, 0
    for part, targets, n_outputs in parts(y, loss, **options):
        values = part.value(raw[:, start : start + n_outputs], targets, 0)
        total += float(np.average(values[:, 0], weights=weights))
        start += n_outputs
    return total


def regulariser(coef, penalty, alpha, l1_ratio):
    l1, l2 = mixing(penalty, l1_ratio)
    return alpha * float(l1 * np.abs(coef).sum() + l2 * np.square(coef).sum() / 2)


@dataclass
class Smooth:
    """F with parabolas for kinks, over theta (n_columns, n_outputs) of the standardised columns A; `l1`, `l2` by column."""

    A: Any
    y: np.ndarray
    shares: np.ndarray  # (n, 1) weights of the rows, of sum 1
    loss: Any
    l1: np.ndarray
    l2: np.ndarray
    width: float = 0.0

    def value(self, theta, raw):
        size = np.sum(self.l1 * (plus(theta, self.width) + plus(-theta, self.width)) + self.l2 * theta**2 / 2)
        return float(np.sum(self.shares * self.loss.value(raw, self.y, self.width)) + size)

    def slope_of_l1(self, theta):
        return self.l1 * (plus_slope(theta, self.width) - plus_slope(-theta, self.width))

    def slope_of_penalty(self, theta):
        return self.l2 * theta + (self.slope_of_l1(theta) if self.l1.any() else 0)

    def curvature_of_penalty(self, theta):
        if not self.l1.any():
            return self.l2
        return self.l1 * (plus_curvature(theta, self.width) + plus_curvature(-theta, self.width)) + self.l2

    def gradient(self, theta, raw):
        return self.A.T @ (self.shares * self.loss.slope(raw, self.y, self.width)) + self.slope_of_penalty(theta)

    def slope_along(self, theta, raw, direction, raw_direction):
        """The derivative of F at theta + t direction, as a function of t."""

        at_zero, growth = float(np.sum(self.l2 * theta * direction)), float(np.sum(self.l2 * direction**2))

        def slope(t):
            rows = self.shares * self.loss.slope(raw + t * raw_direction, self.y, self.width) * raw_direction
            total = float(rows.sum()) + at_zero + t * growth
            return total + float(np.sum(self.slope_of_l1(theta + t * direction) * direction) if self.l1.any() else 0)

        return slope

    def newton_direction(self, theta, raw, gradient):
        curvature = self.shares * self.loss.curvature(raw, self.y, self.width)
        if sparse.issparse(self.A) or self.A.shape[1] > MOST_COLUMNS or theta.shape[1] > 1:
            return -self.conjugate_gradients(theta, raw, gradient, curvature)
        rows = np.flatnonzero(curvature[:, 0])
        H = (self.A[rows] * curvature[rows]).T @ self.A[rows]
        H[np.diag_indices_from(H)] += self.curvature_of_penalty(theta)[:, 0]
        for damping in 10.0 ** np.arange(-13, 3):
            try:
                factor = linalg.cho_factor(H + damping * (np.trace(H) / len(H) + 1e-12) * np.eye(len(H)))
                return -linalg.cho_solve(factor, gradient)
            except linalg.LinAlgError:
                continue
        return -gradient

    def conjugate_gradients(self, theta, raw, gradient, curvature):
        """The solution of H d = gradient, preconditioned by the diagonal of H."""
        squares = self.A.power(2) if sparse.issparse(self.A) else self.A**2
        of_penalty = self.curvature_of_penalty(theta)
        diagonal = squares.T @ curvature + of_penalty
        diagonal += 1e-12 * diagonal.max()
        if isinstance(self.loss, Softmax):
            rows = partial(self.loss.product, raw, self.y)
            weights = self.shares
        else:
            rows, weights = (lambda direction: direction), curvature
        d, residual = np.zeros_like(theta), gradient.copy()
        scaled = residual / diagonal
        search, square = scaled.copy(), float(np.sum(residual * scaled))
        goal = 1e-4 * square
        for _ in range(MOST_PRODUCTS):
            product = self.A.T @ (weights * rows(self.A @ search)) + of_penalty * search + 1e-14 * diagonal * search
            step = square / float(np.sum(search * product))
            d += step * search
            residual -= step * product
            scaled = residual / diagonal
            last, square = square, float(np.sum(residual * scaled))
            if square <= goal:
                break
            search = scaled + (square / last) * search
        return d


def root(slope, at_zero):
    """About where an increasing function that is negative at zero crosses it: the step of an exact line search."""
    low, high, f_low, f_high = 0.0, 1.0, at_zero, slope(1.0)
    while f_high < -0.01 * abs(at_zero) and high < 1e9:
        low, f_low, high = high, f_high, 4 * high
        f_high = slope(high)
    for _ in range(60):
        if abs(f_high) <= 0.01 * abs(at_zero):
            break
        middle = (low + high) / 2 if not np.isfinite(f_high) else low - f_low * (high - low) / (f_high - f_low)
        # kept off the ends, where a secant of a function with kinks would stay
        middle = min(max(middle, low + 0.05 * (high - low)), high - 0.05 * (high - low))
        f_middle = slope(middle)
        if abs(f_middle) <= 0.01 * abs(at_zero):
            return middle
        if f_middle < 0:
            low, f_low = middle, f_middle
        else:
            high, f_high = middle, f_middle
    return high if abs(f_high) <= 0.01 * abs(at_zero) else low or high


def minimise(smooth, theta, tolerance):
    """Newton's method with exact line searches."""
    raw = smooth.A @ theta
    value = smooth.value(theta, raw)
    for _ in range(MOST_STEPS):
        gradient = smooth.gradient(theta, raw)
        direction = smooth.newton_direction(theta, raw, gradient)
        at_zero = float(np.sum(gradient * direction))
        if -at_zero <= 2 * tolerance * max(abs(value), 1e-300):
            return theta
        raw_direction = smooth.A @ direction
        t = root(smooth.slope_along(theta, raw, direction, raw_direction), at_zero)
        theta = theta + t * direction
        raw = raw + t * raw_direction
        before, value = value, smooth.value(theta, raw)
        # A flat F (hinge loss, two classes of one weight) has a gradient of rounding errors and no curvature.
        if before - value <= ROUNDING * abs(value):
            return theta
    print(f"no convergence in {MOST_STEPS} Newton steps at the width {smooth.width:.1e}", flush=True)
    return theta


def standardised(X, shares, fit_intercept):
    """Columns of deviation 1 with a column of ones, their means (zero for sparse rows) and their deviations."""
    means = np.ravel(shares[:, 0] @ X)
    squares = np.ravel(shares[:, 0] @ (X.power(2) if sparse.issparse(X) else X**2))
    centre = fit_intercept and not sparse.issparse(X)
    # centred before it is squared: a column far from zero has little deviation
    scale = np.sqrt(shares[:, 0] @ (X - means) ** 2) if centre else np.sqrt(squares)
    scale[scale <= 1e-12 * np.sqrt(squares)] = 1.0
    scale[scale == 0] = 1.0
    means = means if centre else np.zeros_like(means)
    ones = np.ones((X.shape[0], int(fit_intercept)))
    if sparse.issparse(X):
        return sparse.hstack([X @ sparse.diags_array(1 / scale), ones], format="csr"), means, scale
    return np.hstack([(X - means) / scale, ones]), means, scale


def spread(y, loss):
    """What a width is measured in: that of the margin, or of the middle half of the targets."""
    if loss in CLASSIFIERS:
        return 1.0
    low, high = np.quantile(y, [0.25, 0.75])
    return float(high - low) or float(np.std(y)) or 1.0


def optimum(X, y, loss, penalty="l2", alpha=1e-4, l1_ratio=0.15, weights=None, fit_intercept=True, **options):
    """The optimal coef (n_outputs, n_features) and intercept (n_outputs,), and F there."""
    X = X.astype(np.float64)
    if sparse.issparse(X) and (empty := X.count_nonzero(axis=0) == 0).any():
        return with_zeros(
            ~empty, optimum(X[:, ~empty], y, loss, penalty, alpha, l1_ratio, weights, fit_intercept, **options)
        )
    weights = np.ones(X.shape[0]) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = (weights / weights.sum())[:, None]
    A, means, scale = standardised(X, shares, fit_intercept)
    l1, l2 = mixing(penalty, l1_ratio)
    free = np.zeros(int(fit_intercept))
    l1, l2 = (np.append(alpha * v, free)[:, None] for v in (l1 / scale, l2 / scale**2))
    coefs, intercepts = [], []
    for part, targets, n_outputs in parts(y, loss, **options):
        smooth = Smooth(A, targets, shares, part, l1, l2)
        theta = np.zeros((A.shape[1], n_outputs))
        has_kinks = part.kinked or l1.any()
        widths = spread(targets, loss) * WIDTHS if has_kinks else [0.0]
        best, least = theta, np.inf
        for width in widths:
            smooth.width = width
            theta = minimise(smooth, theta, TIGHT if width == widths[-1] else LOOSE)
            # coefficients inside the parabola are zero: the kink of |w| is theirs
            exact = np.where((np.abs(theta) <= width) & (l1 > 0), 0.0, theta) if l1.any() else theta
            smooth.width = 0.0
            value = smooth.value(exact, A @ exact)
            if value < least:
                best, least = exact, value
        coef = (best[: len(scale)] / scale[:, None]).T
        coefs.append(coef)
        intercepts.append((best[len(scale)] if fit_intercept else 0) - coef @ means)
    coef, intercept = np.vstack(coefs), np.concatenate(intercepts)
    facts = {"loss": loss, "penalty": penalty, "alpha": alpha, "l1_ratio": l1_ratio, "weights": weights, **options}
    return coef, intercept, objective(coef, intercept, X, y, **facts)


def with_zeros(occurs, found):
    """An optimum with zeros for the columns that are empty."""
    coef, intercept, value = found
    every = np.zeros((len(coef), len(occurs)))
    every[:, occurs] = coef
    return every, intercept, value


def best_constant(X, y, loss, weights=None, fit_intercept=True, **options):
    """F of the best intercept alone."""
    return optimum(np.zeros((X.shape[0], 0)), y, loss, weights=weights, fit_intercept=fit_intercept, **options)[2]
