"""Random numbers: one stream per purpose, and samples of rows."""

from __future__ import annotations

import numpy as np

EXAMINED = 2_048  # rows from which the scale of the features and the smoothness are estimated

# purposes of random numbers, each with a sequence of its own for each turn; the samplers have those from zero on
OF_SCALE, OF_EVALUATION, OF_SKETCH, OF_PILOT = 1 << 32, 1 << 33, 1 << 34, 1 << 35
OF_START, OF_NOISE = 1 << 36, 1 << 37


def stream(seed: int, purpose: int, turn: int = 0) -> np.random.Generator:
    """Random numbers for one purpose, the same at each call."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose + turn]))


def sample_rows(n_rows: int, size: int, rng: np.random.Generator, rows: np.ndarray | None = None) -> np.ndarray:
    """A sorted random sample of `size` rows (or of those in `rows`): all of them where they are few."""
    n = n_rows if rows is None else rows.size
    chosen = np.arange(n) if size >= n else np.sort(rng.choice(n, size, replace=False, shuffle=False))
    return chosen if rows is None else rows[chosen]
