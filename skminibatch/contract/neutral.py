"""What holds where a part brings nothing: neutral formulas, compiled as any other formula of a part, and refusals."""

from __future__ import annotations

import numpy as np

from skminibatch.contract.domains import InvalidPart


def no_second_derivative(self, raw, y):
    raise InvalidPart(f"{type(self).__name__} has no second_derivative(raw, y), which a Hessian needs.")


def no_hessian_product(self, raw, y, direction):
    raise InvalidPart(f"{type(self).__name__} has no hessian_product(raw, y, direction), which a Hessian needs.")


def no_proximal(self, raw, y, weight, q, dual, out, work):
    raise InvalidPart(
        f"{type(self).__name__} has no proximal(...), which solver='sdca' needs of a loss of several outputs."
    )


def slots_as_they_are(self, w, slots, c):
    return slots


def at_the_parameters(self, w, slots, c):
    return w


def parameters_as_they_are(self, w, slots):
    return w


def no_automatic_rate(self):
    raise InvalidPart(
        f"learning_rate='auto' needs a solver with auto_multiple() or the class data auto_rate, which {type(self).__name__} "
        "does not have: set a rate."
    )


def unchanged_by_rows(self, n_rows):
    return self


def unchanged_by_objective(self, n_rows, ridge, spread, pull, l1):
    return self


def memory_as_it_is(self, memory, gradients):
    return memory


def smoothness_as_it_is(self, smoothness):
    return smoothness


def single_rows(self, memory):
    return 1


def none(self, argument):
    return None


def rates_of_one(self, n):
    return np.ones(self.start(n)[0].size)


def unnamed_sizes(self, n):
    sizes = {name: array.size for name, array in zip(("parameters", "statistics"), self.start(n), strict=True)}
    return {name: size for name, size in sizes.items() if size}


def nothing_derived(self, numbers):
    return {}
