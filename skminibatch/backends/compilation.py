"""The seconds that compiling has taken in this process: they are no part of training, and a user who waits is told."""

from __future__ import annotations

_seconds = [0.0]


def spent() -> float:
    """Seconds so far, those in which compiled functions were loaded from the disk included."""
    return _seconds[0]


def add(seconds: float) -> None:
    """Count more of them."""
    _seconds[0] += seconds
