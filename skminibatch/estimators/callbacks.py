"""scikit-learn's callbacks around the epochs of a fit, and the last epoch that an interrupt leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from skminibatch.training.state import Progress


class EpochTasks:
    """A task of scikit-learn's callbacks for the fit, and inside it one task per epoch, begun from the start on.

    Parameters
    ----------
    root : CallbackContext
        The task of the fit, which is not begun yet.
    facts : dict
        What every callback is given: the estimator, X, y and the metadata.
    n_epochs : int
        Most epochs.
    attributes_of : callable
        ``attributes_of(predictor)`` gives the fitted attributes that a callback may ask for.
    """

    def __init__(
        self, root: Any, facts: dict[str, Any], n_epochs: int, attributes_of: Callable[[tuple], dict[str, Any]]
    ) -> None:
        self._root, self._facts, self._n_epochs, self._attributes_of = root, facts, n_epochs, attributes_of
        self.last: Progress | None = None  # the last completed epoch, should the next one be interrupted
        root.call_on_fit_task_begin(**facts)
        self._n_begun = 0
        self._task: Any = None
        self._begin()

    def completed(self, progress: Progress) -> bool:
        """End the task of an epoch, and begin the next one unless training is over; whether a callback asks to stop."""
        self.last = replace(progress, params=progress.params.copy())
        stop = self._end(self._task, progress)
        if self._n_begun < self._n_epochs and not (stop or progress.verdict.reason):
            self._begin()
        return stop

    def end(self, progress: Progress) -> None:
        """End the task of the fit."""
        self._end(self._root, progress)

    def _begin(self) -> None:
        self._task = self._root.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(**self._facts)
        self._n_begun += 1

    def _end(self, task: Any, progress: Progress) -> bool:
        def attributes() -> dict[str, Any]:
            return self._attributes_of(progress.predictor)

        return task.call_on_fit_task_end(**self._facts, reconstruction_attributes=attributes)
