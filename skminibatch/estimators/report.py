"""What a fit says while it trains."""

from __future__ import annotations

import logging

import numpy as np

from skminibatch.backends import compilation
from skminibatch.training.state import Progress

logger = logging.getLogger("skminibatch")
NOTICEABLE = 1.0  # seconds of compiling


class Report:
    """Prints a line per epoch and the reason of the end, where it is `shown`; compiling that takes long is logged, too.

    Parameters
    ----------
    shown : bool
        Whether to print.
    n_epochs : int or None
        Most epochs; None: of a stream, of which each call is one.
    """

    def __init__(self, shown: bool, n_epochs: int | None = None) -> None:
        self._shown, self._n_epochs = shown, n_epochs
        self._compiled_before, self._best_score = compilation.spent(), -np.inf

    def epoch(self, progress: Progress) -> None:
        """After an epoch."""
        self._on_compilation()
        if self._shown:
            print(self._line(progress))

    def end(self, reason: str) -> None:
        """At the end of a fit."""
        if self._shown:
            print(f"Training ended: {reason}.")

    def _line(self, progress: Progress) -> str:
        state, history, (score, loss) = progress.state, progress.history, progress.validated
        number = f"Call {state.epoch}" if self._n_epochs is None else f"Epoch {state.epoch} of {self._n_epochs}"
        parts = [f"{number}: objective {progress.objective:.6g}"]
        if np.isfinite(score):
            best = " (best so far)" if score > self._best_score else ""
            self._best_score = max(score, self._best_score)
            parts.append(f"validation score {score:.4g}{best}, validation loss {loss:.6g}")
        if np.isfinite(history.last("rate")):
            parts.append(f"rate {history.last('rate'):.3g}")
        if self._n_epochs is None:
            parts.append(f"{state.samples} rows so far")
        return ", ".join([*parts, f"{history.last('seconds'):.2f} s"])

    def _on_compilation(self) -> None:
        """Say once what compiling took, when it took long."""
        seconds = compilation.spent() - self._compiled_before
        if seconds < NOTICEABLE:
            return
        self._compiled_before += seconds
        line = f"Compiling kernels took {seconds:.1f} s; later fits of this kind start at once."
        logger.info(line)
        if self._shown:
            print(line)
