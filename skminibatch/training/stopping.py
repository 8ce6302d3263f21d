"""When training stops, and the reason in words."""

from __future__ import annotations

import numpy as np

from skminibatch.training.state import CONTINUE, LOWER_THE_RATE, Progress, Recipe, Verdict


class Watch:
    """Looks for a reason to stop at each check of the objective.

    ``start`` is the objective before the first step (NaN: unknown, the first check is taken instead).
    """

    def __init__(self, recipe: Recipe, start: float) -> None:
        self.recipe, self.start, self.best, self.best_score, self.n_stalled = recipe, start, np.inf, -np.inf, 0

    def verdict(self, progress: Progress, seconds: float, share: float) -> Verdict:
        """Whether training continues, after `seconds`; `share` is the part of an epoch since the last check."""
        recipe = self.recipe
        if recipe.tol is not None:
            self.n_stalled = 0 if self._improved(progress, recipe.tol, share) else self.n_stalled + 1
            if self.n_stalled >= recipe.patience:
                self.n_stalled = 0
                return self._stalled(progress)
        if recipe.max_seconds is not None and seconds >= recipe.max_seconds:
            return Verdict(f"stopped after max_time={recipe.max_seconds:g} s", converged=True)
        return CONTINUE

    def _improved(self, progress: Progress, tol: float, share: float) -> bool:
        if self.recipe.keep_best:
            improved = progress.score > self.best_score + tol
            self.best_score = max(self.best_score, progress.score)
            return improved
        objective = progress.objective
        if np.isnan(self.start):
            self.start = objective
        # the first rates may be too large: then the first epochs end above the start, and any decrease counts
        needed = tol * share * abs(self.start - self.best) if np.isfinite(self.best) else 0.0
        improved = objective < self.best - needed
        self.best = min(self.best, objective)
        return improved

    def _stalled(self, progress: Progress) -> Verdict:
        """The end, unless the schedule has a lower rate to continue with."""
        schedule = self.recipe.declared.schedule
        if not schedule.brings("at_standstill"):
            return Verdict(self._lack_of_improvement(), converged=True)
        reason = schedule.at_standstill(progress.state)
        return Verdict(f"{reason}; {self._lack_of_improvement()}", converged=True) if reason else LOWER_THE_RATE

    def _lack_of_improvement(self) -> str:
        recipe = self.recipe
        if recipe.keep_best:
            return f"the validation score rose by less than tol={recipe.tol:g} in {recipe.patience} epochs in a row"
        return (
            f"the objective decreased per epoch by less than tol={recipe.tol:g} times its total decrease so far, in "
            f"{recipe.patience} checks in a row"
        )
