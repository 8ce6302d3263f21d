"""Diagonal Newton steps on a stream of sparse rows: one row after another, at the cost of its non-zeros.

A feature j has the precision ``D_j = h_j / 4 + 4 c m_j + W alpha``: h_j is the sum of ``curvature_i x_ij^2`` over the rows so
far, m_j the largest ``x_ij^2``, c the curvature of a loss, W the weight of the rows and alpha the ridge of the penalty. A row
moves the coefficients by ``-g x_j / D_j``, where g is the derivative of its loss at the raw outputs that the move leads to
(implicit steps: Toulis and Airoldi 2017, doi:10.1214/16-AOS1506): a row of any length moves as far as its loss wants. Frequent
features take small steps and rare ones large steps, as with the confidence-weighted learners of text (Crammer, Kulesza and
Dredze 2009, Advances in Neural Information Processing Systems 22).

What is kept is the sum of the expansions of the losses where they were met, of which all but the diagonal is left out: its
minimum with an l1 penalty is known for each feature by itself, so that zeros are exact (as in McMahan 2011, Proceedings of
Machine Learning Research 15). A quarter of the curvature counts, so that directions in which the loss is flatter than its
diagonal says are not left behind.

As in `online_newton`, a second state with a shorter memory tells a change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skminibatch import backends
from skminibatch.contract.typing import AnyPart
from skminibatch.models.curvature import is_steep
from skminibatch.models.smoothed import RowLosses
from skminibatch.training.drift import blocks
from skminibatch.training.online_newton import Change, unit_of_gain

SHARE = 0.25  # of the curvature, that counts
PRIOR = 4.0  # rows, for which the prior counts
LEAST = 0.2  # of the unit of curvature, that a row counts at least
RECENT = 1000.0  # rows
MATERIAL = (
    1.0  # share of what is to gain over a constant, that a gain has to exceed: recent rows know few of the features
)
COMPARED = 2048  # rows at most, after which all and recent ones are compared
LARGEST_GROWTH = 1e30


class Terms(NamedTuple):
    """What `follow_csr` of a backend needs to know of the objective: see the module.

    ``ridge`` and ``l1`` are the penalty for each unit of weight, ``prior`` is c, ``share`` that of the curvature, ``least`` and
    ``most`` bound the curvature of a row of weight one.
    """

    offset: np.ndarray
    fit_intercept: bool
    ridge: float
    l1: float
    prior: float
    share: float
    least: float
    most: float
    weight: float


class Sums(NamedTuple):
    """What is kept of the rows for some outputs, in arrays that are updated in place.

    ``sums`` (d + 1, K), the precisions times the coefficients (before an l1 penalty makes these smaller); ``curvatures``
    (d + 1,), h_j; ``largest`` (d,), m_j; the intercept last. ``weight`` is that of the rows. All but the largest are in units of
    ``growth``: the weights of new rows are multiplied with it, instead of those of earlier ones being made smaller.
    """

    sums: np.ndarray
    curvatures: np.ndarray
    largest: np.ndarray
    weight: float = 0.0
    growth: float = 1.0

    @classmethod
    def none(cls, n_features: int, n_outputs: int) -> Self:
        """Of no rows."""
        return cls(np.zeros((n_features + 1, n_outputs)), np.zeros(n_features + 1), np.zeros(n_features))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.sums, self.curvatures, self.largest

    def copied(self) -> Self:
        """The same in arrays of its own, in the unit of one."""
        sums, curvatures = self.sums / self.growth, self.curvatures / self.growth
        return type(self)(sums, curvatures, self.largest.copy(), self.weight / self.growth)


class Sparse(NamedTuple):
    """Rows to learn from: those in use of X, their targets for each `Sums`, and the weights of all rows (empty: equal)."""

    X: Any
    rows: np.ndarray
    targets: tuple[np.ndarray, ...]
    weights: np.ndarray

    def without_features(self) -> Sparse:
        """The same rows without an entry."""
        X, n_rows = self.X, self.X.shape[0]
        entries = X.data[:0], X.indices[:0], np.zeros(n_rows + 1, X.indptr.dtype)
        return self._replace(X=sparse.csr_matrix(entries, (n_rows, 0)))

    def weights_in_use(self, rows: np.ndarray) -> np.ndarray:
        """Of some of the rows."""
        return self.weights[rows] if self.weights.size else np.ones(len(rows))


class Task(NamedTuple):
    """What is minimised, and where: the loss of each `Sums`, and the penalty for each unit of weight."""

    device: str
    losses: tuple[AnyPart, ...]
    ridge: float
    l1: float
    fit_intercept: bool

    def terms(self, which: int, offset: np.ndarray, unit: float, one: float, sums: Sums) -> Terms:
        """Of one of the `Sums`: `unit` is how curved the loss of a row is at most, and `one` what a row counts."""
        bound = np.inf if is_steep(self.losses[which]) else unit
        prior, weight = PRIOR * sums.growth * one * unit, sums.weight
        return Terms(offset, self.fit_intercept, self.ridge, self.l1, prior, SHARE, LEAST * unit, bound, weight)


class OnlineDiagonal(NamedTuple):
    """The state of a stream of sparse rows.

    Attributes
    ----------
    offset : ndarray of shape (K,)
        What is added to the raw outputs: the best constant of the first rows.
    units : ndarray of shape (K,)
        How curved the loss of a row is at most by each output, or what stands for it.
    all, recent, constant : tuple of Sums
        Of all rows, of recent ones (None as long as all are recent), and of the intercepts alone: one for each output, or one
        for all where these depend on each other.
    seen : ndarray
        The features with a value in any of the rows, by their numbers in ascending order: the coefficients of others are zero.
    squares : float
        The sum of the squared weights of all rows, whose sum is `weight`.
    change, error
        As in `OnlineNewton`.
    """

    offset: np.ndarray
    units: np.ndarray
    all: tuple[Sums, ...]
    constant: tuple[Sums, ...]
    seen: np.ndarray
    recent: tuple[Sums, ...] | None = None
    weight: float = 0.0
    squares: float = 0.0
    change: Change = Change()
    error: float = 0.0

    @classmethod
    def start(cls, offset: np.ndarray, units: np.ndarray, n_features: int, n_sums: int) -> Self:
        """Before any rows."""
        each = len(offset) // n_sums
        nothing, constant = _none(n_features, each, n_sums), _none(0, each, n_sums)
        return cls(np.asarray(offset, np.float64), units, nothing, constant, np.empty(0, np.int64))

    @property
    def unevenness(self) -> float:
        """The mean of the squared weights over their mean: what a row counts."""
        return self.squares / self.weight

    def copied(self) -> Self:
        """The same in arrays of its own."""
        recent = self.recent and tuple(sums.copied() for sums in self.recent)
        everything, constant = (tuple(sums.copied() for sums in each) for each in (self.all, self.constant))
        return self._replace(all=everything, recent=recent, constant=constant)

    def predictor(self, task: Task, dtype) -> tuple[tuple[np.ndarray, np.ndarray], float]:
        """Coefficients (K, d) and intercepts (K,), and their penalty."""
        n_features, penalty = len(self.all[0].largest), 0.0
        coef, intercept, first = np.zeros((len(self.offset), n_features), dtype), self.offset.copy(), 0
        for which, sums in enumerate(self.all):
            own = slice(first, first + sums.sums.shape[1])
            terms, first = self._terms(task, which, own, self.unevenness, sums), own.stop
            write = backends.choose(task.device).coefficients_followed
            penalty += write(sums.arrays, terms, self.seen, coef[own])
            intercept[own] += sums.sums[-1] / (terms.share * sums.curvatures[-1] + terms.prior)
        return (coef, intercept.astype(dtype)), penalty

    def with_rows(self, rows: Sparse, task: Task) -> tuple[Self, float]:
        """With new rows, and the sum of their weighted losses before they were learnt from."""
        state, total = self._seeing(rows.X.indices), 0.0
        for piece in gen_batches(len(rows.rows), COMPARED):
            state, loss = state._with_piece(rows._replace(rows=rows.rows[piece]), task)
            total += loss
        return state, total

    def _seeing(self, features: np.ndarray) -> Self:
        """With features that have a value in rows that come now."""
        new = np.unique(features[self.all[0].largest[features] == 0])
        if not new.size:
            return self
        seen = np.concatenate((self.seen, new))
        seen.sort(kind="stable")  # merges
        return self._replace(seen=seen)

    def _with_piece(self, rows: Sparse, task: Task) -> tuple[Self, float]:
        weights = rows.weights_in_use(rows.rows)
        state = self._replace(weight=self.weight + weights.sum(), squares=self.squares + weights @ weights)
        one = state.unevenness
        everything, by_all = state._learnt(state.all, rows, task, one)
        if state.recent is None:
            if state.weight / one > RECENT:
                state = state._replace(recent=tuple(sums.copied() for sums in everything))
            return state._replace(all=everything), float(by_all.sum())
        share = np.exp(weights.sum() / one / RECENT)
        recent, constant = (tuple(_grown(sums, share) for sums in each) for each in (state.recent, state.constant))
        recent, by_recent = state._learnt(recent, rows, task, one)
        constant, by_constant = state._learnt(constant, rows.without_features(), task, one)
        state = state._replace(all=everything, recent=recent, constant=constant, error=state.error + by_all.sum())
        change = state.change
        for block in blocks(np.arange(len(weights))):
            change = change.with_block(
                *(float(losses[block].sum()) / one for losses in (by_all, by_recent, by_constant))
            )
        state, unit = state._replace(change=change), unit_of_gain(task.losses[0], state.error, state.weight)
        if change.calls_for_forgetting(unit, state.weight / one, MATERIAL):
            state = state._forgetful()
        return state, float(by_all.sum())

    def _learnt(
        self, kept: tuple[Sums, ...], rows: Sparse, task: Task, one: float
    ) -> tuple[tuple[Sums, ...], np.ndarray]:
        """What is kept with new rows, and the weighted losses of these before."""
        follow, losses, after, first = backends.choose(task.device).follow_csr, np.zeros(len(rows.rows)), [], 0
        for which, sums in enumerate(kept):
            own = slice(first, first + sums.sums.shape[1])
            terms, first = self._terms(task, which, own, one, sums), own.stop
            weights = rows.weights if rows.weights.size or sums.growth == 1.0 else np.ones(rows.X.shape[0])
            y, loss = rows.targets[which], task.losses[which]
            weight, of_rows = follow(loss, rows.X, y, sums.growth * weights, rows.rows, sums.arrays, terms)
            losses += of_rows / sums.growth
            after.append(sums._replace(weight=weight))
        return tuple(after), losses

    def _terms(self, task: Task, which: int, own: slice, one: float, sums: Sums) -> Terms:
        return task.terms(which, self.offset[own], float(self.units[own].max()), one, sums)

    def _forgetful(self) -> Self:
        """The state that goes on from recent rows alone."""
        assert self.recent is not None
        recent = tuple(sums.copied() for sums in self.recent)
        weight, one = recent[0].weight, self.unevenness
        return self._replace(all=recent, recent=None, weight=weight, squares=one * weight, change=Change(), error=0.0)

    @contextmanager
    def unchanged_by_failure(self, columns: np.ndarray) -> Iterator[None]:
        """Inside, the arrays may change; if anything fails, those columns of them are as they were before."""
        everything = [sums for each in (self.all, self.recent or (), self.constant) for sums in each]
        saved: list[tuple[np.ndarray, Any, np.ndarray]] = []
        for array in (array for sums in everything for array in sums.arrays):
            if len(columns) < len(array) > 1:
                saved += [(array, columns, array[columns]), (array, slice(-1, None), array[-1:].copy())]
            else:
                saved.append((array, slice(None), array.copy()))
        try:
            yield
        except BaseException:
            for array, where, values in saved:
                array[where] = values
            raise


def _none(n_features: int, each: int, n_sums: int) -> tuple[Sums, ...]:
    return tuple(Sums.none(n_features, each) for _ in range(n_sums))


def _grown(sums: Sums, share: float) -> Sums:
    """The same with weights of new rows that are larger by `share`."""
    sums = sums if sums.growth < LARGEST_GROWTH else sums.copied()
    return sums._replace(growth=sums.growth * share)


def losses_and_targets(losses: RowLosses) -> tuple[tuple[AnyPart, ...], tuple[np.ndarray, ...]]:
    """Loss and targets for each `Sums`: of each output, where the loss is a sum over them, or of all of them."""
    if losses.one is None:
        return (losses.loss,), (losses.y,)
    columns = losses.targets.T
    return (losses.one,) * len(columns), tuple(np.ascontiguousarray(column, np.float64) for column in columns)
