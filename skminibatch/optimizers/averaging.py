"""The average of the iterates of any optimizer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ZERO
from skminibatch.contract.kinds import declares
from skminibatch.contract.typing import AnyPart
from skminibatch.contract.verbs import point, update


@declares(wraps="inner", domains={"start": AT_LEAST_ZERO}, slot_exponents=(-1,), n_coefficients=1)
class Averaging(NamedTuple):
    """Polyak-Ruppert averaging (Polyak and Juditsky 1992): the mean of the iterates after `start` samples predicts.

    Wraps an optimizer and owns one more slot and one more coefficient, the last of each.
    """

    inner: AnyPart
    start: float = 0.0

    def coefficients(self, rates, sizes, memory):
        inner, samples, averaged = memory or (None, 0, 0)
        coefficients, inner = self.inner.coefficients(rates, sizes, inner)
        seen = samples + np.cumsum(sizes)
        count = averaged + np.cumsum(seen >= self.start)
        return np.column_stack([coefficients, 1.0 / np.maximum(count, 1)]), (inner, int(seen[-1]), int(count[-1]))

    def forget(self, memory):
        inner, samples, _ = memory
        return inner, samples, 0

    def update(self, w, g, slots, c):
        w, inner, step = update(self.inner, w, g, slots[:-1], c[:-1])
        return w, inner + (slots[-1],), step  # noqa: RUF005 (a compiled loop joins tuples by addition only)

    def follow(self, w, slots, c):
        return slots[:-1] + (slots[-1] + c[-1] * (w - slots[-1]),)  # noqa: RUF005

    def point(self, w, slots, c):
        return point(self.inner, w, slots[:-1], c[:-1])

    def result(self, w, slots):
        return slots[-1]
