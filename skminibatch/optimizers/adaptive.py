"""Optimizers with a step of its own for each coordinate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.domains import AT_LEAST_ZERO, POSITIVE, SHARE
from skminibatch.contract.kinds import InvalidPart, declares

ADAM = {"beta_1": SHARE, "beta_2": SHARE, "epsilon": POSITIVE, "rows": AT_LEAST_ZERO}


@declares(domains={"epsilon": POSITIVE}, slot_exponents=(2,), auto_rate=0.1)
class AdaGrad(NamedTuple):
    """``s <- s + g^2; w <- w - rate g / (sqrt(s) + epsilon)`` (Duchi, Hazan and Singer 2011)."""

    epsilon: float = 1e-8

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, w, g, slots, c):
        s = slots[0] + g * g
        step = c[0] / (np.sqrt(s) + self.epsilon)
        return w - step * g, (s,), step


@declares(domains={"decay": SHARE, "epsilon": POSITIVE}, slot_exponents=(2,), n_coefficients=2, auto_rate=0.003)
class RMSProp(NamedTuple):
    """``s <- decay s + (1 - decay) g^2; w <- w - rate g / (sqrt(s) + epsilon)`` (Tieleman and Hinton 2012).

    ``s`` starts at zero and is divided by ``1 - decay^t``, as in Adam, so that the first steps are no larger.
    """

    decay: float = 0.99
    epsilon: float = 1e-8

    def coefficients(self, rates, sizes, memory):
        t = (memory or 0) + np.arange(1, len(rates) + 1)
        return np.column_stack([rates, 1.0 / np.sqrt(1.0 - self.decay**t)]), int(t[-1])

    def update(self, w, g, slots, c):
        s = g * g + self.decay * (slots[0] - g * g)
        step = c[0] / (np.sqrt(s) * c[1] + self.epsilon)
        return w - step * g, (s,), step


@declares(domains=ADAM, slot_exponents=(1, 2), n_coefficients=4, auto_rate=0.003)
class Adam(NamedTuple):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980); the gradient of the penalty is part of the gradient.

    With ``rows > 0``, beta_2 is meant for batches of that many rows, and a step of b rows uses ``beta_2^(b / rows)``. So the
    second moment has a half-life of ``rows ln(1/2) / ln(beta_2)`` rows at every batch size, also while a schedule changes it
    (Marek, Lotfi, Somasundaram, Wilson and Goldblum 2025, arXiv:2507.07101).
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    rows: float = 0.0

    def coefficients(self, rates, sizes, memory):
        steps, decays = memory or (0, 0.0)
        powers = sizes / self.rows if self.rows > 0 else np.ones(len(rates))
        t, decays = steps + np.arange(1, len(rates) + 1), decays + np.cumsum(powers)
        first = 1.0 / (1.0 - self.beta_1**t)
        second = 1.0 / np.sqrt(1.0 - self.beta_2**decays)
        return np.column_stack([rates, first, second, self.beta_2**powers]), (int(t[-1]), float(decays[-1]))

    def update(self, w, g, slots, c):
        m = g + self.beta_1 * (slots[0] - g)
        s = g * g + c[3] * (slots[1] - g * g)
        step = c[0] / (np.sqrt(s) * c[2] + self.epsilon)
        return w - step * c[1] * m, (m, s), step

    def for_batches(self, k):
        """The stochastic differential equation of Adam stays the same (Malladi, Lyu, Panigrahi and Arora 2022)."""
        if self.rows > 0:
            raise InvalidPart("moves beta_2 itself: leave the hyper-parameter rows of the solver at 0.")
        largest = 1.0 / (1.0 - min(self.beta_1, self.beta_2))
        if k >= largest * (1.0 - 1e-9):
            raise InvalidPart(
                f"needs a batch_size below {largest:.4g} times base_batch_size with these betas, got {k:.4g} times."
            )
        return self._replace(
            beta_1=1.0 - k * (1.0 - self.beta_1),
            beta_2=1.0 - k * (1.0 - self.beta_2),
            epsilon=self.epsilon / k**0.5,
        )

    def in_rows(self, base):
        if self.rows not in (0.0, base):
            raise InvalidPart(f"has beta_2 for base_batch_size={base} rows: the solver has it for rows={self.rows:g}.")
        return self._replace(rows=float(base))


@declares(domains=ADAM, slot_exponents=(1, 2), n_coefficients=4, decoupled=True, auto_rate=0.003)
class AdamW(NamedTuple):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    The square of the penalty does not enter the gradient; it shrinks the weights by ``rate alpha`` in each step. `rows` is as
    in `Adam`.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    rows: float = 0.0

    def coefficients(self, rates, sizes, memory):
        return Adam(*self).coefficients(rates, sizes, memory)

    def update(self, w, g, slots, c):
        m = g + self.beta_1 * (slots[0] - g)
        s = g * g + c[3] * (slots[1] - g * g)
        step = c[0] / (np.sqrt(s) * c[2] + self.epsilon)
        return w - step * c[1] * m, (m, s), step

    def for_batches(self, k):
        return AdamW(*Adam(*self).for_batches(k))

    def in_rows(self, base):
        return AdamW(*Adam(*self).in_rows(base))
