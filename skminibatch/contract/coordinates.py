"""The coordinates in which an optimizer works."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Coordinates(NamedTuple):
    """A change of coordinates: the optimizer works on ``(x - center) * scale``.

    Attributes
    ----------
    center, scale : ndarray of shape (n_features,), dtype of the parameters
    stretch : ndarray of shape (n_features,), dtype of the parameters
        The penalty acts on the parameters times `stretch`: equal to `scale`, the objective is unchanged; one, the
        coefficients of the scaled features are penalised. On sparse rows a power of two.
    """

    center: np.ndarray
    scale: np.ndarray
    stretch: np.ndarray

    @property
    def trivial(self) -> bool:
        """Whether nothing changes."""
        return bool(np.all(self.scale == 1) and not np.any(self.center))
