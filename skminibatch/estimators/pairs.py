"""Which parts go together: the checks of their combinations, in the words of the parameters."""

from __future__ import annotations

import numpy as np

from skminibatch.backends.arrays import is_sparse
from skminibatch.backends.base import is_lazy
from skminibatch.contract.kinds import ROWWISE_LOSS, SIZE_CHOICE, declared
from skminibatch.estimators.parts import name_of
from skminibatch.models.curvature import MOST_OUTPUTS, has_kink
from skminibatch.models.smoothed import has_expected_curvature
from skminibatch.preparation.dual import typical_share
from skminibatch.preparation.rounding import MOST_FEATURES

# dense features up to which the objective is made round: of classes again and again, since curvatures vanish on the way
MOST_ROUND = {"classification": 512, "regression": MOST_FEATURES}
MOST_NUMBERS = 1 << 27  # in dense rows, which are copied
MOST_CURVATURES = 1 << 16  # that Newton's method keeps of a stream, and has to invert for each chunk of rows
FEWEST_WITH_ZEROS = 10_000  # rows with an l1 penalty: of fewer, a pass goes less far than the conditioning asks for
FLAT = 1e-3  # of its bound: of losses with less curvature over typical deviations, next to all rows are where there is none
FEWEST_AT_A_KINK = 1000  # rows on a side of it: of fewer, too few are near for their residuals to settle


def check_table(model, sampler, *, sparse: bool, clip_norm, partial: bool) -> None:
    """Refuse, by name, what an optimizer that stores a residual for each row cannot do."""
    if not declared(model.optimizer).per_row:
        return
    if partial:
        raise ValueError(
            f"solver={name_of(model.optimizer)!r} stores a number for each row and has to meet the row again: it is not "
            "supported by partial_fit."
        )
    obstacle = table_obstacle(model, sampler, sparse=sparse, clip_norm=clip_norm)
    if obstacle:
        raise ValueError(obstacle)


def table_obstacle(model, sampler, *, sparse: bool, clip_norm) -> str:
    """What an optimizer that stores a residual for each row cannot do, in the words of the parameters, or an empty text."""
    solver = name_of(model.optimizer)
    if declared(sampler).weighs_rows or declared(sampler).needs_strata:
        return (
            f"solver={solver!r} needs rows of equal chance and does not support the sampler {type(sampler).__name__}: use "
            "'shuffle', 'replacement', 'sequential' or 'blocks'."
        )
    if clip_norm is not None:
        return f"clip_norm={clip_norm!r} cannot be combined with solver={solver!r}, which needs gradients as they are."
    if declared(model.optimizer).dual:
        return dual_obstacle(model)
    if sparse and is_lazy(model.optimizer, model.penalty):
        return (
            "solver='saga' does not support an l1 penalty on sparse data, or another one that is not quadratic: it would "
            "have to visit every feature in every step. Use dense data, or another solver."
        )
    return ""


def dual_obstacle(model) -> str:
    """Why there is no dual coordinate ascent for the objective of a model, or an empty text."""
    loss = declared(model.loss)
    if not _has_known_threshold(model.penalty):
        return "solver='sdca' needs a penalty by name: the dual objective of another one is not known."
    if model.l1() > 0 and loss.curvature is None and not has_kink(model.loss):
        return f"solver='sdca' does not support an l1 penalty with {model.loss!r}: use another solver, or penalty='l2'."
    if not _has_proximal_step(loss):
        return (
            f"solver='sdca' needs a convex loss, of several outputs with the ability 'proximal': {model.loss!r} is not."
        )
    if model.device == "cuda":
        return "solver='sdca' takes one row after another, which is for a CPU: use device='cpu', or solver='saga'."
    return ""


def check_dual(model, parameters: dict) -> None:
    """Refuse, by name, parameters that have nothing to do in dual coordinate ascent."""
    if declared(model.optimizer).dual and parameters.get("standardize"):
        raise ValueError("standardize=True has no effect with solver='sdca', which no scale slows down.")


def suits_dual(model, sizes, data, baseline) -> bool:
    """Whether dual coordinate ascent is likely to be the fastest solver.

    On sparse rows it is for losses that it has no trouble with, and so on dense ones of many features, for which others cannot
    make the objective round, or not soon. On other dense rows it is where a loss has a kink, and few rows on one of its sides or
    an l1 penalty beside it, since no rate has to fall; where a loss is flat but near to the targets, as Huber's may be; and where
    few rows have an l1 penalty, with which nothing is round.

    ``baseline(y, weights)`` gives the best constant raw outputs.
    """
    bound = declared(model.loss).curvature
    if not is_constant(sizes) or not (has_kink(model.loss) or bound is not None):
        return False
    if is_sparse(data.X):
        return True
    if data.X.size > MOST_NUMBERS:
        return False
    if model.n_features > MOST_ROUND[declared(model.loss).task]:
        return True
    if bound is not None and typical_share(model, data.targets[0], bound) < FLAT:
        return True
    if model.l1() > 0:
        return has_kink(model.loss) or data.n_rows < FEWEST_WITH_ZEROS
    return has_kink(model.loss) and _rows_on_a_side(model, data, baseline) < FEWEST_AT_A_KINK


def suits_newton(model, sampler, sizes, data) -> bool:
    """Whether Newton's method can follow a stream of rows for a model, at a cost that is worth it."""
    loss, penalty = declared(model.loss), declared(model.penalty)
    is_square = penalty.quadratic and not penalty.nonsmooth
    is_small = model.n_outputs <= MOST_OUTPUTS and model.n_outputs * model.width**2 <= MOST_CURVATURES
    if not (is_square and is_small and _is_plain(sampler, sizes) and loss.convex):
        return False
    return has_expected_curvature(model.loss, data.y, np.zeros((1, model.n_outputs)))


def suits_diagonal(model, sampler, sizes, data) -> bool:
    """Whether a stream of sparse rows can be followed by diagonal Newton steps."""
    steps = _has_known_threshold(model.penalty) and _has_proximal_step(declared(model.loss))
    return is_sparse(data.X) and model.device != "cuda" and steps and _is_plain(sampler, sizes)


def _has_known_threshold(part) -> bool:
    """Whether a penalty is a square, but for a threshold of each coefficient that is known."""
    penalty = declared(part)
    return penalty.quadratic and (penalty.threshold is not None or not penalty.nonsmooth)


def _has_proximal_step(loss) -> bool:
    """Whether the losses of a row are balanced with a distance by what a loss declares."""
    return loss.convex and (loss.kind is not ROWWISE_LOSS or loss.brings("proximal"))


def _is_plain(sampler, sizes) -> bool:
    """Whether rows count the same, in batches of one size."""
    return is_constant(sizes) and not (declared(sampler).weighs_rows or declared(sampler).needs_strata)


def is_constant(sizes) -> bool:
    """Whether a schedule of batch sizes, or what chooses one, leaves it as it is."""
    return declared(sizes).kind is SIZE_CHOICE or declared(sizes).constant


def _rows_on_a_side(model, data, baseline) -> float:
    """The least number of rows of a class, or above or below a constant: ``sum(weights)^2 / sum(weights^2)``."""
    targets, weights = data.targets
    y = targets.reshape(len(targets), -1)
    if declared(model.loss).task == "regression":
        above = y > baseline(targets, weights)
    else:
        above = y > 0 if y.shape[1] == model.n_outputs else y == np.arange(model.n_outputs)
    sides, weights = np.hstack([above, ~above]), np.ones(len(y)) if weights is None else weights
    sums, squares = weights @ sides, weights**2 @ sides
    return float(np.min(sums[squares > 0] ** 2 / squares[squares > 0]))


def check_rows(model, sampler) -> None:
    """Refuse, by name, a sampler that needs of single rows what a model does not have."""
    if model.couples_rows and declared(sampler).weighs_rows:
        raise ValueError(
            f"The sampler {type(sampler).__name__} gives rows unequal weights, which is not supported together with a "
            "normalization over the rows of a batch: use 'shuffle', 'replacement', 'sequential', 'blocks' or 'groups', or "
            "normalization='layer'."
        )
    if declared(sampler).needs_row_bounds and not model.has_smoothness:
        raise ValueError(
            f"sampler={sampler!r} needs a linear model: the curvature of the loss of a row has no bound in a network. Use "
            "sampler='importance', which follows the gradients."
        )


def check_rate_of_network(model, learning_rate, solver) -> None:
    """Refuse, by name, an automatic rate that would have to follow from the smoothness of a network."""
    if learning_rate == "auto" and declared(model.optimizer).auto_rate is None:
        raise ValueError(
            "learning_rate='auto' needs a solver whose rate does not follow from the smoothness, which an MLP does not have: "
            f"'adam', 'adamw', 'rmsprop' or 'adagrad'. Got solver={solver!r}; use 'constant' and learning_rate_init."
        )


def check_batch_sizes(part, value, n_rows: int, sampler, model) -> None:
    """Refuse, by name, batches that a sampler or a model cannot have; `value` is that of the parameter."""
    sizes = declared(part)
    of_rows = sizes.kind is not SIZE_CHOICE and ("variance" in sizes.reads or "rows" in sizes.reads)
    if of_rows and not declared(sampler).one_population:
        raise ValueError(
            f"batch_size={value!r} follows the variance of the rows of a batch, which sampler={type(sampler).__name__} does "
            "not draw from one population: use 'shuffle', 'replacement' or 'importance'."
        )
    if of_rows and model.couples_rows:
        raise ValueError(
            f"batch_size={value!r} follows the variance of the rows of a batch, and a normalization over these couples them, so "
            "that a row has no gradient of its own: use a schedule that does not evaluate the rows, or normalization='layer'."
        )
    smallest, start = model.smallest_batch, n_rows if sizes.kind is SIZE_CHOICE else part.start
    if min(start, n_rows) < smallest:
        given = f"n_samples={n_rows}" if n_rows < smallest else f"batch_size={value!r}"
        raise ValueError(
            f"A normalization over the rows of a batch needs batches of {smallest} rows at least: one row is its own mean. "
            f"Got {given}; use normalization='layer' for single rows."
        )


def check_growth(part, value, rule) -> None:
    """Refuse, by name, batches that follow a falling rate where no scaling rule raises the rate with the batch."""
    sizes = declared(part)
    if sizes.kind is SIZE_CHOICE or not sizes.follows_rate:
        return
    if rule is None or not np.all(rule.factor(np.array([4.0]), 1, np.inf) > 1.0):
        raise ValueError(
            f"batch_size={value!r} grows as the rate falls, and needs an lr_scaling that raises the rate with the batch: 'sqrt' "
            "with solver='adam' or 'adamw', 'linear' with solver='sgd'."
        )
