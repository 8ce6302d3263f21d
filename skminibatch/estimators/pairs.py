"""Which parts go together: the checks of their combinations, in the words of the parameters."""

from __future__ import annotations

from skminibatch.backends.base import is_lazy
from skminibatch.contract.kinds import SIZE_CHOICE, declared


def check_table(model, sampler, *, sparse: bool, clip_norm, partial: bool) -> None:
    """Refuse, by name, what an optimizer that stores a residual for each row cannot do."""
    if not declared(model.optimizer).per_row:
        return
    if partial:
        raise ValueError(
            "solver='saga' stores a number for each row and has to meet the row again: it is not supported by partial_fit."
        )
    obstacle = table_obstacle(model, sampler, sparse=sparse, clip_norm=clip_norm)
    if obstacle:
        raise ValueError(obstacle)


def table_obstacle(model, sampler, *, sparse: bool, clip_norm) -> str:
    """What an optimizer that stores a residual for each row cannot do, in the words of the parameters, or an empty text."""
    if declared(sampler).weighs_rows or declared(sampler).needs_strata:
        return (
            f"solver='saga' needs rows of equal chance and does not support the sampler {type(sampler).__name__}: use "
            "'shuffle', 'replacement', 'sequential' or 'blocks'."
        )
    if clip_norm is not None:
        return f"clip_norm={clip_norm!r} cannot be combined with solver='saga', which needs gradients as they are."
    if sparse and is_lazy(model.optimizer, model.penalty):
        return (
            "solver='saga' does not support an l1 penalty on sparse data, or another one that is not quadratic: it would "
            "have to visit every feature in every step. Use dense data, or another solver."
        )
    return ""


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
