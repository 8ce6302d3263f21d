"""The duality gap of a dual optimizer: how far the objective is above its least value."""

from __future__ import annotations

import numpy as np

from skminibatch.contract.typing import AnyPart
from skminibatch.models.protocol import Distance

MOVES = 100.0  # like the last one, that the optimum is away at most


def duality_gap(
    optimizer: AnyPart, penalty: AnyPart, params: np.ndarray, table: np.ndarray, loss: float, fit_intercept: bool
) -> Distance:
    """The distance as a bound, and where coefficients are drawn to a center, as an estimate; NaN before every row was visited.

    By the inequality of Fenchel and Young, with ``v = sum(a x) / n`` the optimum (w*, b*) is at least ``-mean(l*) - R*(v) - b*
    mean(a)``. The conjugate of the penalty is ``R*(v) = max(v w - R(w))``, over all w for a bound; over those that are no further
    than `MOVES` times the last move for an estimate, since with a weak penalty the other w make it far too large. Where the a
    do not add up to zero, b* counts: it is taken to be as far from b as b is due to move. Of losses that are nowhere negative, a
    share of the a gives a bound too: so small a share that v is nowhere above l1, if that is better.

    `loss` is the mean loss of all rows, `table` what the optimizer stores of them.
    """
    u, center, before = (one[:, :-1] for one in params)
    coef, b, n = optimizer.shrunk(u), params[0, :, -1], optimizer.n_rows
    conjugates, mean = table[:, 1].sum() / n, table[:, 2:].sum(axis=0) / n
    v = (optimizer.ridge + optimizer.pull) * u
    if optimizer.has_pull():
        v = v - optimizer.pull * center
    objective = loss + float(np.sum(penalty.value(coef)))
    due = optimizer.spread * float(mean @ mean)

    def gap(share: float, conjugate: float) -> float:
        found = objective + share * conjugates + conjugate
        return found + share * float(b @ mean) + share**2 * due if fit_intercept else found

    def above(share: float) -> np.ndarray:
        return share * v - np.clip(share * v, -optimizer.l1, optimizer.l1) if optimizer.l1 > 0 else share * v

    def bound(share: float) -> float:
        square = float(np.sum(above(share) ** 2))
        return gap(share, square / (2.0 * optimizer.ridge) if optimizer.ridge > 0 else 0.0 if square == 0 else np.inf)

    def estimate() -> float:
        reach = MOVES * np.maximum(np.abs(coef - center), np.abs(coef - before))
        slope = above(1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            best = np.where(slope == 0, 0.0, slope / optimizer.ridge)
        best = np.clip(best, coef - reach, coef + reach)
        return gap(1.0, float(np.sum(v * best) - np.sum(penalty.value(best))))

    shares = [1.0]
    if optimizer.l1 > 0:
        shares.append(min(1.0, optimizer.l1 / max(float(np.max(np.abs(v), initial=0.0)), optimizer.l1)))
    return Distance(min(map(bound, shares)), estimate() if optimizer.has_pull() else np.nan)
