"""Dense rows whose features are moved and scaled, without a copy of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skminibatch.contract.coordinates import Coordinates


@dataclass(frozen=True, eq=False)
class AffineRows:
    """The rows ``(X - center) * scale``: some of them are computed where they are asked for, and kernels read X.

    Attributes
    ----------
    X : ndarray of shape (n, d), C-contiguous
    center, scale : ndarray of shape (d,), dtype of X
    """

    X: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Of X."""
        return self.X.shape

    @property
    def dtype(self) -> np.dtype:
        """Of X."""
        return self.X.dtype

    @property
    def size(self) -> int:
        """Of X."""
        return self.X.size

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows) -> np.ndarray:
        return (self.X[rows] - self.center) * self.scale

    def coordinates(self, axes: Coordinates | None) -> Coordinates:
        """Coordinates of these rows, or none, as those of X."""
        if axes is None:
            return Coordinates(self.center, self.scale, np.ones_like(self.scale))
        center, scale = self.center + axes.center / self.scale, self.scale * axes.scale
        return Coordinates(center.astype(self.dtype), scale.astype(self.dtype), axes.stretch)

    def outside(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and intercepts of these rows as those of X."""
        coef = coef * self.scale
        return coef, intercept - coef @ self.center
