"""Optimizers with a step of its own for each coordinate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class AdaGrad(NamedTuple):
    """``s <- s + g^2; w <- w - rate g / (sqrt(s) + epsilon)`` (Duchi, Hazan and Singer 2011)."""

    epsilon: float = 1e-8
    n_slots = 1
    slot_exponents = (2,)
    n_coefficients = 1
    linear = False
    lazy_l1 = False
    decoupled = False
    per_row = False
    auto_rate = 0.1
    cuda = {
        "update": """
            slots[0] += g * g;
            T step = c[0] / (sqrt(slots[0]) + epsilon);
            w -= step * g;
            return step;
        """,
    }

    def coefficients(self, rates, sizes, memory):
        return rates[:, None], memory

    def update(self, w, g, slots, c):
        s = slots[0] + g * g
        step = c[0] / (np.sqrt(s) + self.epsilon)
        return w - step * g, (s,), step


class RMSProp(NamedTuple):
    """``s <- decay s + (1 - decay) g^2; w <- w - rate g / (sqrt(s) + epsilon)`` (Tieleman and Hinton 2012).

    ``s`` starts at zero and is divided by ``1 - decay^t``, as in Adam, so that the first steps are no larger.
    """

    decay: float = 0.99
    epsilon: float = 1e-8
    n_slots = 1
    slot_exponents = (2,)
    n_coefficients = 2
    linear = False
    lazy_l1 = False
    decoupled = False
    per_row = False
    auto_rate = 0.003
    cuda = {
        "update": """
            slots[0] = g * g + decay * (slots[0] - g * g);
            T step = c[0] / (sqrt(slots[0]) * c[1] + epsilon);
            w -= step * g;
            return step;
        """,
    }

    def coefficients(self, rates, sizes, memory):
        t = (memory or 0) + np.arange(1, len(rates) + 1)
        return np.column_stack([rates, 1.0 / np.sqrt(1.0 - self.decay**t)]), int(t[-1])

    def update(self, w, g, slots, c):
        s = g * g + self.decay * (slots[0] - g * g)
        step = c[0] / (np.sqrt(s) * c[1] + self.epsilon)
        return w - step * g, (s,), step


class Adam(NamedTuple):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980); the gradient of the penalty is part of the gradient."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_slots = 2
    slot_exponents = (1, 2)
    n_coefficients = 3
    linear = False
    lazy_l1 = False
    decoupled = False
    per_row = False
    auto_rate = 0.003
    cuda = {
        "update": """
            slots[0] = g + beta_1 * (slots[0] - g);
            slots[1] = g * g + beta_2 * (slots[1] - g * g);
            T step = c[0] / (sqrt(slots[1]) * c[2] + epsilon);
            w -= step * c[1] * slots[0];
            return step;
        """,
    }

    def coefficients(self, rates, sizes, memory):
        t = (memory or 0) + np.arange(1, len(rates) + 1)
        first = 1.0 / (1.0 - self.beta_1**t)
        second = 1.0 / np.sqrt(1.0 - self.beta_2**t)
        return np.column_stack([rates, first, second]), int(t[-1])

    def update(self, w, g, slots, c):
        m = g + self.beta_1 * (slots[0] - g)
        s = g * g + self.beta_2 * (slots[1] - g * g)
        step = c[0] / (np.sqrt(s) * c[2] + self.epsilon)
        return w - step * c[1] * m, (m, s), step


class AdamW(NamedTuple):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    The square of the penalty does not enter the gradient; it shrinks the weights by ``rate alpha`` in each step.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_slots = 2
    slot_exponents = (1, 2)
    n_coefficients = 3
    linear = False
    lazy_l1 = False
    decoupled = True
    per_row = False
    auto_rate = 0.003
    cuda = Adam.cuda

    def coefficients(self, rates, sizes, memory):
        return Adam.coefficients(self, rates, sizes, memory)

    def update(self, w, g, slots, c):
        m = g + self.beta_1 * (slots[0] - g)
        s = g * g + self.beta_2 * (slots[1] - g * g)
        step = c[0] / (np.sqrt(s) * c[2] + self.epsilon)
        return w - step * c[1] * m, (m, s), step
