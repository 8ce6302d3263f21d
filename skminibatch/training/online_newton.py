"""Newton's method on a stream: what is kept of the rows that came is the sum of the expansions of their losses.

With the next rows, the parameters are moved to the minimum of this sum and of their losses, and these are expanded there. It is
exact for the squared error, however ill-conditioned, rare or heavy rows are. Where curvatures change, rows are expanded in the
mean over what the parameters may still change by: the recursive variational Gaussian approximation (Lambert, Bonnabel and Bach
2022, doi:10.1007/s11222-021-10068-w), in which a loss with a kink has a curvature too.

In addition to the sum over all rows there is one over recent rows. Where it predicts newer rows significantly better, by the test
of Page (1954, doi:10.1093/biomet/41.1-2.100), the stream has changed, and earlier rows are forgotten.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from skminibatch.contract.kinds import declared
from skminibatch.contract.typing import AnyPart
from skminibatch.models.curvature import has_kink, is_steep
from skminibatch.models.smoothed import RowLosses
from skminibatch.statistics.expansion import Expansion, Factors, grams
from skminibatch.statistics.features import Moments
from skminibatch.training.drift import blocks

STEPS, HALVINGS = 15, 8  # at most, to the minimum for a chunk of rows, and of each
PUBLISHED = 3  # steps from there to the minimum of the expansion: one, if not for rounding and exponentials
LEAST = 0.01  # of the unit of curvature
NO_CURVATURE = 1e-100
CLOSE = 0.01  # squared deviations of the parameters, by which they may miss this minimum
EXACT = 1e-6  # deviation of raw outputs that are known, over the typical one
SHARE = 0.5  # of a variance that is there when rows are met: none is left at the end
MOST = 3.0  # mean variances of the raw outputs, that the growth of exponentials allows for
WIDEST = 0.7  # deviation of raw outputs, of a loss whose curvature has no bound
RECENT, PER_PARAMETER = 500.0, 10.0  # rows, and rows for each parameter, that count as recent
# What a gain has to exceed: standard deviations, the largest loss, units of log-likelihood in addition to the logarithm of the
# number of rows, and a share of the possible gain. Seasons alone do not reach the last one: rows of all of them are useful.
SIGNIFICANT, RISK, NATS, MATERIAL = 3.0, 2.0, 5.0, 0.2


def is_of_likelihood(loss: AnyPart) -> bool:
    """Whether a loss is measured as the logarithm of a likelihood, or about so; that of others follows the unit of y."""
    return declared(loss).task == "classification" or declared(loss).link != "identity"


def unit_of_gain(loss: AnyPart, error: float, weight: float) -> float:
    """One unit of log-likelihood: of losses in the unit of y, by the sum of those of new rows of that weight."""
    return 1.0 if is_of_likelihood(loss) else 2.0 * error / weight


class Rows(NamedTuple):
    """Rows to learn from: (n, p) with the one of the intercept, the targets, and the weights (n,)."""

    Z: np.ndarray
    y: np.ndarray
    weights: np.ndarray

    def of(self, which) -> Rows:
        """Some of them."""
        return Rows(self.Z[which], self.y[which], self.weights[which])


class Objective(NamedTuple):
    """What is minimised: the loss of a row, and the ridge (p,) of the penalty for each row.

    ``unit`` (K,) is how curved the losses of a row are at most, or what stands for it, and ``scale`` (K,) how far raw outputs
    typically are from a constant.
    """

    loss: AnyPart
    ridge: np.ndarray
    unit: np.ndarray
    scale: np.ndarray

    @property
    def is_of_likelihood(self) -> bool:
        """See `is_of_likelihood`."""
        return is_of_likelihood(self.loss)

    @property
    def is_flat(self) -> bool:
        """Whether there may be no curvature at all where parameters are far off."""
        return has_kink(self.loss) or not self.is_of_likelihood

    @property
    def is_steep(self) -> bool:
        """Whether the curvature has no bound."""
        return is_steep(self.loss)


class Followed(NamedTuple):
    """An expansion, and the parameters (K, p) that follow from it."""

    expansion: Expansion
    w: np.ndarray
    best: np.ndarray

    @classmethod
    def start(cls, w: np.ndarray, is_exponential: bool) -> Self:
        """Of no rows."""
        return cls(Expansion.none(w.shape[0], w.shape[1], is_exponential), w, w)

    def with_rows(self, rows: Rows, pseudo: Rows, spread: np.ndarray, objective: Objective) -> Self:
        """With new rows.

        Until rows say more, the parameters where they are expanded are held by a few pseudo-rows and by a ridge that counts as
        much as one row: those that are published are not.
        """
        expansion = self.expansion.counting(rows.weights)
        one = expansion.unevenness  # what a row counts
        ridge = expansion.n_rows * objective.ridge
        prior = ridge + one * np.multiply.outer(objective.unit, spread)
        pseudo = pseudo._replace(weights=one * pseudo.weights)
        held = Rows(*map(np.concatenate, zip(rows, pseudo, strict=True))) if len(pseudo.Z) else rows
        w, *derivatives = _Minimum(expansion, held, objective, prior).found(self.w)
        first, second = (each[: len(rows.Z)] for each in derivatives)
        expansion = expansion.with_rows(rows.Z, w, first, second, rows.weights)
        if has_kink(objective.loss) or np.any(expansion.curved < LEAST * objective.unit * expansion.weight):
            return type(self)(expansion, w, w)  # of next to no curvature, the minimum may be anywhere
        factors, best = Factors(expansion.curvature, ridge), w
        for _ in range(PUBLISHED):
            best = best - factors.solve(expansion.gradient(best) + ridge * best)
        return type(self)(expansion, w, best)


class _Minimum:
    """The minimum of an expansion, a ridge and the losses of some rows, by Newton's method.

    The rows are then expanded in the mean over what the parameters may still change by. A loss that may be flat, or whose
    curvature may be anything, is smoothed before that too: else no step is safe.
    """

    def __init__(self, expansion: Expansion, rows: Rows, objective: Objective, ridge: np.ndarray) -> None:
        self.expansion, self.rows, self.objective, self.ridge = expansion, rows, objective, ridge
        self.unit = objective.unit
        self.losses = RowLosses.of(objective.loss, rows.y, len(self.unit))
        self.exact = np.broadcast_to(EXACT * objective.scale, (len(rows.y), len(self.unit)))

    def found(self, w: np.ndarray):
        """The minimum from a start, and there the first and second derivatives of the rows."""
        first, second = self._derivatives(w, self.exact)
        if self.objective.is_flat:
            second = np.broadcast_to(self.unit, second.shape)
        noise = self._noise(first, second)
        if self.objective.is_flat or self.objective.is_steep:
            deviations = self._deviations(self._factors(w, second), noise)
            w, _ = self._minimised(w, *self._derivatives(w, deviations), deviations, noise)
        else:
            w, factors = self._minimised(w, first, second, self.exact, noise)
            deviations = np.maximum(np.sqrt(SHARE) * self._deviations(factors, noise), self.exact)
        return w, *self._derivatives(w, deviations)

    def _minimised(self, w, first, second, deviations, noise) -> tuple[np.ndarray, Factors]:
        """The parameters of the least mean of the losses over errors of these deviations, and the last factors."""
        for _ in range(STEPS):
            if self.objective.is_flat:  # far off, a step by some curvature is better than none
                second = np.maximum(second, LEAST * self.unit)
            gradient, factors = self._gradient(w, first), self._factors(w, second)
            move = factors.solve(gradient)
            if self._is_close(gradient, move, noise):
                break
            w, first, second = self._stepped(w, move, float(np.sum(gradient * move)), deviations)
            gradient = self._gradient(w, first)
            if self._is_close(gradient, factors.solve(gradient), noise):
                break
        return w, factors

    def _stepped(self, w, move, decrease, deviations):
        """The parameters after a step that is cut where it goes too far: where the objective rises again as it fell."""
        share = 1.0
        for _ in range(HALVINGS):
            new = w - share * move
            first, second = self._derivatives(new, deviations)
            slope = -float(np.sum(self._gradient(new, first) * move))
            if slope <= 0.5 * decrease:
                break
            share *= min(max(decrease / (decrease + slope), 0.1), 0.7) if np.isfinite(slope) else 0.1
        return new, first, second

    def _derivatives(self, w: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.losses.expected_derivatives(self.rows.Z @ w.T, deviations, self.objective.is_flat)

    def _gradient(self, w: np.ndarray, first: np.ndarray) -> np.ndarray:
        return self.expansion.gradient(w) + self.ridge * w + (self.rows.weights[:, None] * first).T @ self.rows.Z

    def _factors(self, w: np.ndarray, second: np.ndarray) -> Factors:
        products = grams(self.rows.Z, self.rows.weights[:, None] * second)
        return Factors(self.expansion.at(w).curvature + products, self.ridge)

    @staticmethod
    def _is_close(gradient: np.ndarray, move: np.ndarray, noise: np.ndarray) -> bool:
        return bool(np.all(np.sum(gradient * move, axis=1) <= CLOSE * noise))

    def _noise(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The square of a deviation of the gradient, over the curvature, of each output."""
        weights = self.rows.weights[:, None]
        noise = self.expansion.noise + np.sum((weights * first) ** 2, axis=0)
        curved = self.expansion.curved + np.sum(weights * second, axis=0)
        noise = np.where(curved > NO_CURVATURE, noise / np.maximum(curved, NO_CURVATURE), 0.0)
        if self.objective.is_of_likelihood:  # one for equal weights; few rows that are fitted well would say less
            noise = np.maximum(noise, self.expansion.unevenness)
        return noise

    def _deviations(self, factors: Factors, noise: np.ndarray) -> np.ndarray:
        """By how much the raw outputs of the rows may still change (n, K)."""
        variances = noise * factors.square_lengths(self.rows.Z)
        if self.expansion.mean is not None:  # which allows for the variance of most rows
            variances = np.maximum(variances - MOST * variances.mean(axis=0), 0.0)
        deviations = np.sqrt(variances)
        return np.maximum(np.minimum(deviations, WIDEST) if self.objective.is_steep else deviations, self.exact)


class Change(NamedTuple):
    """What recent rows gained over all rows in predicting newer ones, since that was last nothing.

    Attributes
    ----------
    gain, squares : float
        The sum over blocks of rows, and that of the squares.
    worth : float
        What recent rows gained over a constant in the same blocks.
    worst : float
        What they have lost at most in a block so far: rare rows may count for much, and few of them are recent.
    """

    gain: float = 0.0
    squares: float = 0.0
    worth: float = 0.0
    worst: float = 0.0

    def with_block(self, by_all: float, by_recent: float, by_constant: float) -> Change:
        """With the losses of one more block by all rows, by recent ones, and by a constant."""
        gain = by_all - by_recent
        total, worst = self.gain + gain, max(self.worst, -gain)
        if total <= 0:
            return Change(worst=worst)
        return Change(total, self.squares + gain * gain, self.worth + by_constant - by_recent, worst)

    def calls_for_forgetting(self, unit: float, n_rows: float, material: float = MATERIAL) -> bool:
        """Whether the gain is material, and significant after that many rows; `unit` is one unit of log-likelihood."""
        by_chance = SIGNIFICANT * np.sqrt(self.squares), RISK * self.worst, unit * (NATS + np.log(n_rows))
        return self.gain > max(*by_chance, material * self.worth)


class OnlineNewton(NamedTuple):
    """The state of a stream that is followed by Newton's method.

    Attributes
    ----------
    center : ndarray of shape (d,), or (0,) without an intercept
        What is taken from the features, so that products of large ones do not lose digits.
    unit, scale : ndarray of shape (K,)
        See `Objective`.
    moments : Moments
        Of the features, centered.
    all, recent : Followed
        By all rows and by recent ones; None as long as all are recent.
    change : Change
        What recent rows gain.
    error : float
        The sum of the weighted losses of new rows by what was known before.
    """

    center: np.ndarray
    unit: np.ndarray
    scale: np.ndarray
    moments: Moments
    all: Followed
    recent: Followed | None = None
    change: Change = Change()
    error: float = 0.0

    @classmethod
    def start(
        cls, predictor: tuple, center: np.ndarray, units: tuple[np.ndarray, np.ndarray], is_exponential: bool
    ) -> Self:
        """Before any rows, at a predictor, by the unit and the scale of an `Objective`."""
        start = Followed.start(_inside(predictor, center), is_exponential and center.size > 0)
        return cls(center, *units, Moments.none(predictor[0].shape[1]), start)

    @property
    def predictor(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (K, d) and intercepts (K,) of the features as given."""
        w = self.all.best
        if not self.center.size:
            return w, np.zeros(len(w))
        return w[:, :-1], w[:, -1] - w[:, :-1] @ self.center

    def rows(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Rows:
        """Rows as they are learnt from."""
        if not self.center.size:
            return Rows(X.astype(np.float64), y, weights)
        return Rows(np.column_stack([X - self.center, np.ones(len(X))]), y, weights)

    def with_rows(self, rows: Rows, objective: Objective) -> Self:
        """With new rows."""
        state = self._compared(rows, objective)
        n_features = len(self.moments.mean)
        moments = self.moments.updated(rows.Z[:, :n_features], rows.weights)
        spread = np.zeros(rows.Z.shape[1])
        spread[:n_features] = moments.squares / moments.count
        pseudo = _pseudo_rows(_middle(moments, self.center), rows.y, objective)
        after, recent = state.all.with_rows(rows, pseudo, spread, objective), state.recent
        window = max(RECENT, PER_PARAMETER * rows.Z.shape[1])
        if recent is not None:
            share = np.exp(-rows.weights.sum() / after.expansion.unevenness / window)
            recent = recent._replace(expansion=recent.expansion.decayed(share))
            recent = recent.with_rows(rows, pseudo, spread, objective)
        elif after.expansion.effective_rows > window:
            recent = after
        return state._replace(moments=moments, all=after, recent=recent)

    def _compared(self, rows: Rows, objective: Objective) -> Self:
        """The state before new rows; all others are forgotten where recent ones predict them better."""
        if self.recent is None:
            return self
        before, error, change = self.all.expansion, self.error, self.change
        constant = np.zeros_like(self.all.w)
        constant[:, -1:] = self.recent.best @ _middle(self.moments, self.center)[:, None] if self.center.size else 0.0
        for block in blocks(np.arange(len(rows.y))):
            Z, y, weights = rows.of(block)
            losses = RowLosses.of(objective.loss, y, len(self.unit))
            sums = [losses.sum(Z @ w.T, weights) for w in (self.all.best, self.recent.best, constant)]
            error, change = error + sums[0], change.with_block(*(each / before.unevenness for each in sums))
        unit = unit_of_gain(objective.loss, error, before.weight + rows.weights.sum())
        if change.calls_for_forgetting(unit, before.effective_rows):
            return self._replace(all=self.recent, recent=None, change=Change(), error=0.0)
        return self._replace(change=change, error=error)


def _middle(moments: Moments, center: np.ndarray) -> np.ndarray:
    """The row (p,) of the mean features; empty without an intercept."""
    return np.append(moments.mean, 1.0) if center.size else np.empty(0)


def _inside(predictor: tuple, center: np.ndarray) -> np.ndarray:
    """Coefficients and intercepts as the parameters (K, p) of centered rows."""
    coef, intercept = (np.asarray(each, np.float64) for each in predictor)
    return np.column_stack([coef, intercept + coef @ center]) if center.size else coef.copy()


def _pseudo_rows(middle: np.ndarray, y: np.ndarray, objective: Objective) -> Rows:
    """Rows with the mean features: one of each class, or an event among counts, which may be the first after a long time."""
    loss, n_outputs = objective.loss, len(objective.unit)
    targets: list[float] = []
    if middle.size and declared(loss).task == "classification":
        has_indices = n_outputs > 1 and y.ndim == 2 and y.shape[1] == 1
        targets = list(range(n_outputs)) if has_indices else [-1.0, 1.0]
    elif middle.size and declared(loss).brings("stiffness"):
        targets = [1.0]
    each = [np.full((1, *y.shape[1:]), target, y.dtype) for target in targets]
    Z = np.tile(middle, (len(targets), 1))
    return Rows(Z, np.concatenate([y[:0], *each]), np.ones(len(targets)))
