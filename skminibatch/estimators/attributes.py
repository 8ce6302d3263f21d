"""The fitted attributes that every estimator has in addition to its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

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
        "stop_reason_": reason if fitted.chosen is None else f"{reason}; {fitted.chosen[1]}",
        "device_": fitted.model.device,
    }


def continued(fitted: Fitted, progress: Progress) -> Fitted:
    """What later training continues from."""
    params = progress.params
    if params is None:  # the best epoch was restored
        params = progress.model.start(progress.predictor)
    fitted.model, fitted.params, fitted.history = progress.model, params, progress.history
    fitted.state = progress.state._replace(sampler_memory=None)
    return fitted
