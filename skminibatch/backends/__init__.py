"""Backends: where a plan is carried out. ``base`` is readable NumPy, the specification of the verbs; ``cpu`` is numba."""

from __future__ import annotations

from types import ModuleType


def choose(device: str) -> ModuleType:
    """The backend of a device: 'auto' and 'cpu' are numba, 'base' is plain NumPy."""
    if device == "base":
        from skminibatch.backends import base

        return base
    from skminibatch.backends import cpu

    return cpu
