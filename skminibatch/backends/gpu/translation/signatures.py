"""The functions of each kind of part in CUDA C++: how they are declared, and how their arguments are passed.

``T`` is the type of all numbers. What a verb returns in Python besides one number is changed in place: ``update`` returns
``(w, slots, step)``, in CUDA C++ the step alone, `w` and `slots` are references. `slots` and `c` have as many numbers as the
optimizer declares; arrays of a row of outputs come with their length `n`.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from skminibatch.contract import kinds

# Functions of each kind of part.
KINDS = {
    "row-wise loss": {
        "value_gradient": "T value_gradient(const T* raw, const T* y, T* out, int n) const",
    },
    "penalty": {
        "prox": "T prox(T w, T step) const",
        "value": "T value(T w) const",
        "gradient": "T gradient(T w) const",
    },
    "optimizer": {
        "update": "T update(T& w, T g, T* slots, const T* c) const",
        "follow": "void follow(T w, T* slots, const T* c) const",
        "point": "T point(T w, const T* slots, const T* c) const",
    },
    "activation": {
        "activate": "T activate(T z) const",
        "slope": "T slope(T z, T a) const",
    },
    "loss": {
        "value": "T value(T raw, T y) const",
        "gradient": "T gradient(T raw, T y) const",
    },
}
COUNTS = {  # of the numbers in arrays that are tuples in Python
    "slots": lambda optimizer: len(kinds.declared(optimizer).slot_exponents),
    "c": lambda optimizer: kinds.declared(optimizer).n_coefficients,
}
_PARAMETER = re.compile(r"(const )?(\w+)([*&]?) (\w+)")


class Parameter(NamedTuple):
    """A parameter of a function: its type without ``const``, ``*`` and ``&``, and whether the function may change it."""

    type: str
    mark: str
    name: str
    is_changed: bool

    @property
    def is_tuple(self) -> bool:
        return self.mark == "*" and self.name in COUNTS

    @property
    def is_output(self) -> bool:
        """Whether a formula in Python returns it."""
        return self.is_changed and (self.is_tuple or self.mark == "&")


class Signature(NamedTuple):
    """A function in CUDA C++; `parameters` without the length of arrays."""

    result: str
    name: str
    parameters: tuple[Parameter, ...]
    has_length: bool

    @property
    def outputs(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters if parameter.is_output]


@functools.cache
def signature(declaration: str) -> Signature:
    """What a declaration contains."""
    head, _, rest = declaration.partition("(")
    result, name = head.split()
    parameters = [
        Parameter(type_, mark, parameter, mark != "" and not constant)
        for constant, type_, mark, parameter in _PARAMETER.findall(rest)
    ]
    has_length = parameters[-1][:3] == ("int", "", "n")
    return Signature(result, name, tuple(parameters[:-1] if has_length else parameters), has_length)


def functions_of(part) -> dict[str, str]:
    """The declarations of the functions that the struct of a part has."""
    return KINDS.get(kinds.declared(part).kind.name, {})
