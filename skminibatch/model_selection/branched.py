"""How large batches may be from here on: branches of one training with larger batches and scaled rates."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skminibatch.contract.kinds import SIZE_SCHEDULE, declared
from skminibatch.contract.typing import RandomState, RowsLike
from skminibatch.cost_model.measurements import TrainingObjective, WeightedRows
from skminibatch.estimators import parts
from skminibatch.model_selection.curve import EVALUATED, batch_size_of, examined, rate_name
from skminibatch.training.state import Diverged

DEFAULT_RATE = 0.01  # of a linear model whose eta0 is None
FEWEST_STEPS = 4  # of a branch, where the factors are left open


@dataclass(frozen=True, eq=False)
class BranchedRuns:
    """What branches with larger batches came to; see `branched_batch_size`.

    Attributes
    ----------
    largest_batch_size : int
        The largest size that, like all smaller ones, ends within the tolerance of the smallest size.
    batch_sizes : ndarray of shape (n_branches,)
        Rows of a step, ascending.
    rates : ndarray of shape (n_branches,)
        The rate that each branch was given; NaN where it follows the batch size by itself.
    losses : ndarray of shape (n_branches, n_seeds)
        The training objective at the end of each branch; infinite where it diverged.
    start : float
        The training objective where the branches begin.
    tolerance : float
        As given.
    """

    largest_batch_size: int
    batch_sizes: np.ndarray
    rates: np.ndarray
    losses: np.ndarray
    start: float
    tolerance: float

    @property
    def shares(self) -> np.ndarray:
        """The mean gain of each branch over that of the smallest size, (n_branches,)."""
        gains = self.start - self.losses.mean(axis=1)
        return gains / gains[0]


@validate_params(
    {
        "factors": ["array-like", None],
        "n_passes": [Interval(Integral, 1, None, closed="left")],
        "tolerance": [Interval(Real, 0, 1, closed="left")],
        "n_seeds": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def branched_batch_size(
    estimator: Any,
    X: RowsLike,
    y: ArrayLike,
    *,
    factors: ArrayLike | None = None,
    n_passes: int = 1,
    tolerance: float = 0.05,
    n_seeds: int = 3,
    sample_weight: ArrayLike | None = None,
    random_state: RandomState = None,
) -> BranchedRuns:
    """Train on from one checkpoint with larger and larger batches, and find the largest that loses nothing.

    Each branch is a copy of the estimator as it is now, trained on the same rows for as many passes, with k times its batch
    size b and a rate that goes with it. The answer is the largest ``k b`` whose objective, like those of all smaller ones, is
    at most `tolerance` of the gain of the smallest size above it. Nothing is assumed of the noise of gradients: it is what
    `choose_batch_size`, `gradient_noise_scale` and `BatchCostModel` can be checked against.

    Parameters
    ----------
    estimator : object
        An estimator of this package, or a pipeline that ends in one. A fitted one is the checkpoint; one that is not fitted
        begins where `fit` would. It is left as it is. ``solver='auto'`` of a linear model goes on by schedule-free SGD.
    X : {array-like, CSR matrix} of shape (n_samples, n_features)
        Rows to go on with.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    factors : array-like of int, default=None
        The factors k, at least two; the smallest is the reference. None takes 1, 2, 4, ... while a pass has four steps.
    n_passes : int, default=1
        Passes over the rows of each branch.
    tolerance : float, default=0.05
        Share of the gain of the smallest size that may be missing.
    n_seeds : int, default=3
        Orders of the rows, the same for all branches; their mean counts.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    random_state : int, RandomState instance or None, default=None
        Gives the rows their orders.

    Returns
    -------
    runs : BranchedRuns
        The largest size, and the objective of each branch.

    Raises
    ------
    ValueError
        For an estimator of another package, for a batch size that changes during training, for a rate that cannot be scaled,
        and if the smallest size gains nothing, as at the optimum.

    Notes
    -----
    The rate is multiplied by k, and by ``sqrt(k)`` for optimizers that divide by the size of the gradient (Adam and its kin).
    ``learning_rate='auto'`` follows the batch size by itself, where it does not name a constant. Solvers that predict from an
    average of all iterates move little after a long training: a checkpoint of the last iterate (``solver='sgd'``,
    ``'momentum'``, ``'adam'``) tells more.

    Merrill et al. call the result the critical batch size. Here, that is the size at which a training takes twice the fewest
    rows (McCandlish et al. 2018), which is larger.

    References
    ----------
    Merrill, Arora, Groeneveld and Hajishirzi, Critical batch size revisited: a simple empirical approach to large-batch language
    model training, 2025, arXiv:2505.23971. McCandlish, Kaplan, Amodei et al., An empirical model of large-batch training, 2018,
    arXiv:1812.06162.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> from skminibatch.model_selection import branched_batch_size
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> checkpoint = MiniBatchSGDClassifier(solver="sgd", batch_size=4, random_state=0)
    >>> runs = branched_batch_size(checkpoint, scale(X), y, random_state=0)
    >>> runs.largest_batch_size in runs.batch_sizes
    True
    """
    (last, rows), rng = examined(estimator, X, y, sample_weight), check_random_state(random_state)
    sizes = _sizes(last, rows, factors)
    rates = _rates(last, sizes)
    evaluated = rng.permutation(rows.n)[:EVALUATED]
    of_evaluated = tuple(None if part is None else part[evaluated] for part in rows)
    start = float(sum(last._examined(*rows).on(evaluated).objective()))
    losses = np.full((sizes.size, n_seeds), np.inf)
    for seed in range(n_seeds):
        orders = [rng.permutation(rows.n) for _ in range(n_passes)]
        for branch, settings in enumerate(_settings(last, sizes, rates)):
            losses[branch, seed] = _end(last, settings, rows, orders, of_evaluated)
    means = losses.mean(axis=1)
    if not means[0] < start:
        raise ValueError(
            f"Batches of {sizes[0]} rows gain nothing: the objective is {means[0]:.6g} after {n_passes} passes and {start:.6g} "
            "before. The checkpoint may be at the optimum, or the rate too large."
        )
    too_much = np.flatnonzero(~(means - means[0] <= tolerance * (start - means[0])))
    largest = sizes[(too_much[0] if too_much.size else sizes.size) - 1]
    return BranchedRuns(int(largest), sizes, rates, losses, start, float(tolerance))


def _sizes(estimator: Any, rows: WeightedRows, factors: ArrayLike | None) -> np.ndarray:
    """The batch size of each branch."""
    part = parts.batch_sizes(estimator.batch_size, rows.n)
    if declared(part).kind is SIZE_SCHEDULE and not declared(part).constant:
        raise ValueError(f"batch_size must be one size for a branched run. Got {estimator.batch_size!r}.")
    base = batch_size_of(estimator, rows)
    if factors is None:
        return base * 2 ** np.arange(max(2, int(np.log2(max(rows.n / (FEWEST_STEPS * base), 1))) + 1))
    found = np.unique(np.asarray(factors))
    if found.ndim != 1 or found.size < 2 or found.dtype.kind not in "iu" or found[0] < 1:
        raise ValueError(f"factors must be at least two different integers from 1 on. Got {factors!r}.")
    return base * found


def _rates(estimator: Any, sizes: np.ndarray) -> np.ndarray:
    """The rate of each branch; NaN where it follows the batch size by itself."""
    is_linear = rate_name(estimator) == "eta0"
    optimizer = declared(
        parts.optimizer(estimator.solver, estimator.average, default="schedule_free")
        if is_linear
        else parts.network_optimizer(estimator)
    )
    if estimator.learning_rate == "auto" and optimizer.auto_rate is None:
        return np.full(sizes.size, np.nan)
    if not isinstance(estimator.learning_rate, str) or estimator.learning_rate in ("auto", "optimal"):
        raise ValueError(
            f"learning_rate must be the name of a schedule with {rate_name(estimator)}, which a branch can scale. Got "
            f"{estimator.learning_rate!r}."
        )
    rate = getattr(estimator, rate_name(estimator))
    return (DEFAULT_RATE if rate is None else rate) * (sizes / sizes[0]) ** (1.0 if optimizer.linear else 0.5)


def _settings(estimator: Any, sizes: np.ndarray, rates: np.ndarray) -> list[dict[str, Any]]:
    """The parameters of each branch."""
    common: dict[str, Any] = {"verbose": 0, "early_stopping": False}
    if estimator.solver == "auto" and rate_name(estimator) == "eta0":
        common["solver"] = "schedule_free"
    of_rates = [{} if np.isnan(rate) else {rate_name(estimator): float(rate)} for rate in rates]
    return [common | {"batch_size": int(size)} | rate for size, rate in zip(sizes, of_rates, strict=True)]


def _end(estimator: Any, settings: dict[str, Any], rows: WeightedRows, orders: list, evaluated: tuple) -> float:
    """The objective at the end of a branch; infinite where it diverged."""
    is_fitted = "n_updates_" in vars(estimator)
    one = (copy.deepcopy(estimator) if is_fitted else clone(estimator)).set_params(**settings)
    try:
        for order in orders:
            rows.learned_by(one, order)
    except ValueError as error:
        if not isinstance(error.__context__, Diverged):
            raise
        return np.inf
    loss = TrainingObjective(one, *evaluated)(one)
    return loss if np.isfinite(loss) else np.inf
