"""When training stops, and the reason in words."""

from __future__ import annotations

import numpy as np

from skminibatch.training.state import CONTINUE, LOWER_THE_RATE, Progress, Recipe, Verdict

CAUTION = 2.0  # what is estimated to be left to gain counts for that many times itself
STALE = 20.0  # the same for a distance by stored residuals, which are those of earlier parameters
SLOWEST = 30.0  # decreases like the last one that are still to come, at most
FEWEST_STEPS = 100.0  # from which a decrease is told
CLEARLY = 0.1  # relative size of what is more than noise
ROUNDING = 1e-13  # relative size of a change of the objective that means nothing


class Watch:
    """Looks for a reason to stop at each check of the objective.

    What is left to gain is known where a model tells its distance from the optimum. Elsewhere it is estimated from the decrease
    in the last `patience` checks and in as many before them. If each such decrease is q times the one before, all those to
    come add up to ``q / (1 - q)`` times the last one; if the distance falls as one over the number of checks t, to ``t /
    patience`` times it, of which at most `SLOWEST` are counted. Training stops where the larger of the two is at most `tol`
    times what a constant prediction has to gain. Networks, whose optimum nobody knows, stop after `patience` checks in a row at
    which the objective fell by less than `tol` times its decrease so far.

    ``constant`` is the objective of a constant prediction, or before the first step (NaN: unknown, the first check is taken).
    """

    def __init__(self, constant: float) -> None:
        self.constant, self.objectives = constant, [constant]
        self.best_score, self.n_stalled = -np.inf, 0

    def measure_anew(self, constant: float) -> None:
        """Go on with the objective of other rows, of which that of a constant prediction is given."""
        self.constant, self.objectives = constant, [np.nan]

    def is_worse_than_constant(self, progress: Progress) -> bool:
        """Whether the objective is clearly above that of a constant prediction."""
        return bool(progress.objective > self.constant + CLEARLY * abs(self.constant))

    def forget_last(self) -> None:
        """Leave out what an epoch has shown that is done once more."""
        del self.objectives[1:]
        self.n_stalled = 0

    def verdict(self, progress: Progress, recipe: Recipe, seconds: float) -> Verdict:
        """Whether training continues, after `seconds`."""
        verdict = self._by_score(progress, recipe) if recipe.keep_best else self._by_objective(progress, recipe)
        out_of_time = recipe.max_seconds is not None and seconds >= recipe.max_seconds
        if out_of_time and not verdict.reason:
            return Verdict(f"stopped after max_time={recipe.max_seconds:g} s", converged=True)
        return verdict

    def at_optimum(self, progress: Progress, recipe: Recipe, caution: float = CAUTION) -> Verdict:
        """Whether the model says that it is near enough to the optimum."""
        tol = recipe.tol_of_objective
        if tol is None:
            return CONTINUE
        (bound, estimate), enough = progress.distance, self._enough(progress, tol)
        if bound <= enough:
            return _near(tol, bound, "the duality gap")
        if np.isnan(bound):
            near = caution * estimate <= enough
            return _near(tol, estimate, "its gradient and curvature") if near else CONTINUE
        near = estimate <= enough and _left(self.objectives, recipe.patience) <= enough
        return _near(tol, estimate, "the duality gap near its coefficients") if near else CONTINUE

    def _enough(self, progress: Progress, tol: float) -> float:
        constant = progress.objective if np.isnan(self.constant) else self.constant
        return tol * max(constant - progress.objective, 0.0) + ROUNDING * abs(progress.objective)

    def _by_score(self, progress: Progress, recipe: Recipe) -> Verdict:
        if recipe.tol is None:
            return CONTINUE
        improved = progress.validated.score > self.best_score + recipe.tol
        self.best_score = max(self.best_score, progress.validated.score)
        self.n_stalled = 0 if improved else self.n_stalled + 1
        if self.n_stalled < recipe.patience:
            return CONTINUE
        self.n_stalled = 0
        words = f"the validation score rose by less than tol={recipe.tol:g} in {recipe.patience} epochs in a row"
        return self._ended(progress, recipe, words)

    def _by_objective(self, progress: Progress, recipe: Recipe) -> Verdict:
        objectives = self.objectives
        tiny = ROUNDING * abs(objectives[-1])
        # what noise moves it by does not count
        rose = progress.objective > objectives[-1] + CLEARLY * max(self.constant - objectives[-1], 0.0) + tiny
        objectives.append(progress.objective)
        if np.isnan(self.constant):
            self.constant = progress.objective
        verdict = self.at_optimum(progress, recipe, STALE)
        if verdict.reason:
            return verdict
        words = ""
        if recipe.tol is not None and np.all(np.isnan(progress.distance)):
            words = self._little_left(progress, recipe, recipe.tol)
        if words:
            del objectives[:-1]
            self.n_stalled = 0
            return self._ended(progress, recipe, words)
        falls = recipe.max_epochs > 1 and recipe.declared.schedule.falls_after_a_rise  # chunks of a stream differ
        of_noise = progress.state.batch_size < progress.state.population  # steps of all rows rise by their momentum
        return LOWER_THE_RATE if rose and falls and of_noise else CONTINUE

    def _little_left(self, progress: Progress, recipe: Recipe, tol: float) -> str:
        """In words that little is left to gain, or an empty text."""
        patience = recipe.patience
        if recipe.evaluation_rows is not None:
            patience = max(patience, int(FEWEST_STEPS * progress.state.batch_size / progress.state.population))
            if _left(self.objectives, patience) > self._enough(progress, tol):
                return ""
            return (
                f"the objective is estimated to fall by less than tol={tol:g} of the gain over a constant prediction from now "
                f"on, by its decrease in the last {2 * patience} checks"
            )
        best = min((objective for objective in self.objectives[:-1] if np.isfinite(objective)), default=np.inf)
        needed = tol * abs(self.constant - best) if np.isfinite(best) else 0.0
        self.n_stalled = 0 if progress.objective < best - needed else self.n_stalled + 1
        if self.n_stalled < patience:
            return ""
        return (
            f"the objective decreased per epoch by less than tol={tol:g} times its total decrease so far, in {patience} checks "
            "in a row"
        )

    def _ended(self, progress: Progress, recipe: Recipe, words: str) -> Verdict:
        """The end, unless the schedule has a lower rate to continue with."""
        schedule = recipe.declared.schedule
        if not schedule.brings("at_standstill"):
            return Verdict(words, converged=True)
        reason = schedule.at_standstill(progress.state)
        return Verdict(f"{reason}; {words}", converged=True) if reason else LOWER_THE_RATE


def _near(tol: float, distance: float, by: str) -> Verdict:
    return Verdict(
        f"the objective is within tol={tol:g} of the optimum, relative to the gain over a constant prediction: {distance:.1e} "
        f"above it, by {by}",
        converged=True,
    )


def _left(objectives: list[float], patience: int) -> float:
    """What the objective is going to fall by from now on; infinite where that cannot be told."""
    if len(objectives) <= 2 * patience or np.isnan(objectives[-1 - 2 * patience]):
        return np.inf
    before, middle, now = (objectives[-1 - k * patience] for k in (2, 1, 0))
    earlier, later = before - middle, middle - now
    if later <= ROUNDING * abs(now):
        return 0.0  # it stands still
    ratio = later / earlier if earlier > 0 else np.inf
    geometric = ratio / (1.0 - ratio) if ratio < 1.0 else np.inf
    return later * max(CAUTION * geometric, min((len(objectives) - 1) / patience, SLOWEST))
