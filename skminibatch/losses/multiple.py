"""Several outputs from a loss of one: each output on its own, the rows shared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skminibatch.contract.kinds import declares
from skminibatch.contract.proximal import proximal_point
from skminibatch.contract.typing import AnyPart
from skminibatch.contract.verbs import gradient, second_derivative, stiffness, value


@declares(wraps="loss")
class OneVsRest(NamedTuple):
    """Sum over the classes of a margin loss, +1 for the class of the row and -1 for the others; `y` is an index."""

    loss: AnyPart

    def value_gradient(self, raw, y, out):
        total = 0.0
        for k in range(raw.shape[0]):
            sign = 1.0 if k == int(y[0]) else -1.0
            total += value(self.loss, raw[k], sign)
            out[k] = gradient(self.loss, raw[k], sign)
        return total

    def proximal(self, raw, y, weight, q, dual, out, work):
        for k in range(raw.shape[0]):
            sign = 1.0 if k == int(y[0]) else -1.0
            out[k] = proximal_point(self.loss, raw[k], sign, weight, q, dual[k])

    def stiffness(self, raw, y):
        largest = stiffness(self.loss, raw[0], 1.0 if int(y[0]) == 0 else -1.0)
        for k in range(1, raw.shape[0]):
            largest = max(largest, stiffness(self.loss, raw[k], 1.0 if int(y[0]) == k else -1.0))
        return largest

    def separated(self, y, n_outputs):
        return self.loss, np.where(y.astype(int) == np.arange(n_outputs), 1.0, -1.0)

    def hessian_product(self, raw, y, direction):
        _, signs = self.separated(y, raw.shape[1])
        return second_derivative(self.loss, raw, signs) * direction


@declares(wraps="loss")
class EachOutput(NamedTuple):
    """Sum over the outputs of a loss, each against its own column of `y` (multi-output, multilabel)."""

    loss: AnyPart

    def value_gradient(self, raw, y, out):
        total = 0.0
        for k in range(raw.shape[0]):
            total += value(self.loss, raw[k], y[k])
            out[k] = gradient(self.loss, raw[k], y[k])
        return total

    def proximal(self, raw, y, weight, q, dual, out, work):
        for k in range(raw.shape[0]):
            out[k] = proximal_point(self.loss, raw[k], y[k], weight, q, dual[k])

    def stiffness(self, raw, y):
        largest = stiffness(self.loss, raw[0], y[0])
        for k in range(1, raw.shape[0]):
            largest = max(largest, stiffness(self.loss, raw[k], y[k]))
        return largest

    def separated(self, y, n_outputs):
        return self.loss, y

    def hessian_product(self, raw, y, direction):
        return second_derivative(self.loss, raw, y) * direction
