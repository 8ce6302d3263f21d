"""A race of candidates over the folds: who is worse beyond doubt leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skminibatch.model_selection.comparison import differences_from
from skminibatch.model_selection.evaluation import Fold, Job, Outcome, outcomes_of


def raced(
    job: Job, folds: Sequence[Fold], candidates: Sequence[dict], contexts: Sequence[Sequence[Any]], metric: str | None
) -> list[list[Outcome]]:
    """The outcomes of each fold, one after another; `metric`: the score that decides, where there are several."""
    running, found = list(range(len(candidates))), []
    scores = np.full((len(candidates), len(folds)), np.nan)
    for number, (fold, own) in enumerate(zip(folds, contexts, strict=True)):
        chosen = [candidates[candidate] for candidate in running]
        outcomes = outcomes_of(job, fold, chosen, [own[candidate] for candidate in running])
        of_all = [Outcome.missing(outcomes[0])] * len(candidates)
        for candidate, outcome in zip(running, outcomes, strict=True):
            of_all[candidate] = outcome
            scores[candidate, number] = outcome.test_scores if metric is None else outcome.test_scores[metric]
        found.append(of_all)
        so_far = scores[running, : number + 1]
        if number > 0 and np.isfinite(so_far).any():
            best = int(np.nanargmax(np.where(np.isfinite(so_far), so_far, np.nan).mean(axis=1)))
            worse = differences_from(so_far, best, len(fold.test) / len(fold.train)).high < 0
            running = [candidate for candidate, is_worse in zip(running, worse, strict=True) if not is_worse]
    return found
