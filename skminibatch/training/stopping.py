"""When training stops, and the reason in words."""

from __future__ import annotations

import numpy as np

from skminibatch.training.state import Progress, Recipe


class _Watch:
    """Looks for a reason to stop after each epoch."""

    def __init__(self, recipe: Recipe, start: float):
        self.recipe, self.start, self.best, self.best_score, self.stalled = recipe, start, np.inf, -np.inf, 0

    def reason(self, progress: Progress, seconds: float, share: float) -> tuple[str, bool, bool]:
        """(the reason or an empty string, whether it is convergence, whether to reduce an adaptive rate).

        `share` is that of an epoch since the last check.
        """
        recipe = self.recipe
        if recipe.tol is not None:
            self.stalled = 0 if self._improved(progress, share) else self.stalled + 1
            if self.stalled >= recipe.patience:
                self.stalled = 0
                what = self._standstill()
                smallest = getattr(recipe.schedule, "smallest", None)
                if smallest is None:
                    return what, True, False
                rate = recipe.schedule.rates(np.zeros(1), progress.state)[0]
                if rate / recipe.schedule.factor <= smallest:
                    return f"the adaptive rate fell below {smallest:g}; {what}", True, False
                return "", False, True
        if recipe.max_seconds is not None and seconds >= recipe.max_seconds:
            return f"max_time={recipe.max_seconds:g} seconds were over", True, False
        return "", False, False

    def _improved(self, progress: Progress, share: float) -> bool:
        if self.recipe.keep_best:
            improved = progress.score > self.best_score + self.recipe.tol
            self.best_score = max(self.best_score, progress.score)
            return improved
        if np.isnan(self.start):
            self.start = progress.objective
        # the first rates may be too large: then the first epochs end above the start, and falling is progress
        needed = self.recipe.tol * share * abs(self.start - self.best) if np.isfinite(self.best) else 0.0
        improved = progress.objective < self.best - needed
        self.best = min(self.best, progress.objective)
        return improved

    def _standstill(self) -> str:
        recipe = self.recipe
        if recipe.keep_best:
            return f"the validation score rose by less than tol={recipe.tol:g} in {recipe.patience} epochs in a row"
        return (
            f"the objective fell by less than tol={recipe.tol:g} of its decrease so far an epoch in {recipe.patience} checks "
            "in a row"
        )
