"""Fitted attributes: those that every estimator has in addition to its parameters, and those that a user has assigned."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite

from skminibatch.backends.arrays import on_host
from skminibatch.contract.kinds import declared
from skminibatch.preparation.begin import Fitted
from skminibatch.training.state import Progress


def training_attributes(fitted: Fitted, progress: Progress) -> dict[str, Any]:
    """The attributes that report a training: counts, curves, the reason of its end; `fitted` is as before its first step."""
    history = progress.history.arrays()
    losses, scores = history["loss"] + history["penalty"], history["validation_score"]
    scored, reason = np.isfinite(scores).any(), progress.verdict.reason
    return {
        "n_iter_": max(1, progress.state.epoch - fitted.state.epoch),
        "t_": progress.state.samples,
        "n_updates_": progress.state.step,
        "batch_size_": progress.state.batch_size,
        "history_": history,
        "loss_curve_": losses,
        "best_loss_": float(losses.min()),
        "validation_scores_": scores if scored else None,
        "best_validation_score_": float(np.nanmax(scores)) if scored else None,
        "best_epoch_": int(history["epoch"][np.nanargmax(scores)]) if scored else None,
        "batch_size_choice_": fitted.chosen,
        "stop_reason_": reason
        if fitted.chosen is None
        else f"{reason}; batch_size='auto' took {fitted.chosen.sentence}",
        "device_": fitted.model.device,
    }


def continued(fitted: Fitted, progress: Progress) -> Fitted:
    """What later training continues from."""
    model, params = progress.model, progress.params
    if fitted.newton is not None:
        params = None
    elif params is None or declared(model.optimizer).per_row:  # the best epoch was restored, or the rows are gone
        model = fitted.model
        if declared(model.optimizer).dual:  # of the next objective, it is another one
            model = model.with_optimizer(type(model.optimizer)())
        params = model.start(progress.predictor)
        progress.state = progress.state._replace(coefficients=None, optimizer_memory=None)
    fitted.model, fitted.params, fitted.history = model, params, progress.history
    fitted.predictor = progress.predictor
    fitted.state = progress.state._replace(sampler_memory=None)
    return fitted


def untouched(attribute: Any, published: np.ndarray) -> bool:
    """Whether an attribute has the numbers that were published in it; it may have been made sparse since."""
    attribute = attribute.toarray() if sparse.issparse(attribute) else attribute
    if not isinstance(attribute, np.ndarray) or attribute.size != published.size:
        return False
    return np.array_equal(attribute.ravel(), published.ravel())


def shaped(given: Any, shape: tuple[int, ...], name: str, dtype: np.dtype) -> np.ndarray:
    """A finite copy in that shape and type; where there is one output, its axis may be missing. Errors name it."""
    given = given.toarray() if sparse.issparse(given) else on_host(given)
    try:
        with np.errstate(over="ignore"):  # what is too large is infinite, which has an error of its own
            array = np.array(np.asarray(given), dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Provided {name} is no array of numbers: {error}") from None
    if array.shape != shape and not (shape[0] == 1 and array.size == np.prod(shape)):
        raise ValueError(f"Provided {name} does not match dataset: expected the shape {shape}, got {array.shape}.")
    assert_all_finite(array, input_name=name)
    return array.reshape(shape)
