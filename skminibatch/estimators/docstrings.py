"""Docstrings assembled from texts that are written once: an entry for each parameter, in the order of the signature.

The names that a parameter accepts come from the constraints of its class, and these from the registries of the parts, so that
a registered name is documented by being registered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from sklearn.utils._param_validation import StrOptions

from skminibatch.layers import ACTIVATIONS, NORMALIZATIONS
from skminibatch.losses import LOSSES
from skminibatch.optimizers import OPTIMIZERS
from skminibatch.penalties import PENALTIES
from skminibatch.samplers import SAMPLERS
from skminibatch.schedules import SCALING_RULES, SCHEDULES, SIZE_SCHEDULES

REGISTRIES: list[Mapping[Any, Any]] = [
    *(LOSSES, PENALTIES, OPTIMIZERS, SCHEDULES, SIZE_SCHEDULES, SCALING_RULES, SAMPLERS, ACTIVATIONS, NORMALIZATIONS)
]
OPTIONS = "$options"  # in a text, it stands for the names that the parameter accepts

Documented = TypeVar("Documented", bound=Callable[..., Any])


class Entry(NamedTuple):
    """The text of a parameter or attribute, or of several that share one: names, type, and lines indented by four."""

    names: list[str]
    type: str
    lines: str


def entries(text: str) -> dict[str, Entry]:
    """The entries of a text in numpydoc's form, by name; defaults are left to the signature."""
    parsed: dict[str, Entry] = {}
    for block in re.split(r"\n(?=\S)", text.strip("\n")):
        heading, lines = block.split("\n", 1)
        names, kind = heading.split(" : ", 1)
        entry = Entry(names.split(", "), kind, lines)
        parsed |= dict.fromkeys(entry.names, entry)
    return parsed


def documented(texts: Mapping[str, Entry], sections: str = "") -> Callable[[Documented], Documented]:
    """A decorator that completes the docstring of a class or a function.

    Its first paragraph stays where it is. An entry for each parameter follows, then, for a class, one for each attribute (a
    name with an underscore at its end), then the `sections`, then the rest of the docstring. A parameter without a text raises
    a KeyError.
    """

    def complete(target: Documented) -> Documented:
        signature = inspect.signature(target).parameters
        parameters = {name: parameter for name, parameter in signature.items() if name != "self"}
        own = inspect.cleandoc(target.__doc__ or "").split("\n\n", 1)
        blocks = [
            own[0],
            _section("Parameters", [_of_parameter(name, parameters, texts, target) for name in parameters]),
        ]
        if inspect.isclass(target):
            attributes = [entry for name, entry in texts.items() if name.endswith("_")]
            blocks.append(
                _section("Attributes", [f"{', '.join(names)} : {kind}\n{lines}" for names, kind, lines in attributes])
            )
        target.__doc__ = "\n\n".join([*blocks, *filter(None, [sections.strip("\n")]), *own[1:]])
        return target

    return complete


def _section(title: str, written: list[str]) -> str:
    return "\n".join([title, "-" * len(title), *filter(None, written)])


def _of_parameter(
    name: str, parameters: Mapping[str, inspect.Parameter], texts: Mapping[str, Entry], target: Callable[..., Any]
) -> str:
    """The entry of a parameter; empty where it shares the entry of one that comes before."""
    names, kind, lines = texts[name]
    names = [other for other in names if other in parameters]
    if name != names[0]:
        return ""
    if OPTIONS in kind:
        kind = kind.replace(OPTIONS, options(target, name))
    defaults = [
        repr(default) for other in names if (default := parameters[other].default) is not inspect.Parameter.empty
    ]
    if defaults:
        kind += f", default={', '.join(dict.fromkeys(defaults))}"
    return f"{', '.join(names)} : {kind}\n{lines}"


def options(cls: Any, parameter: str) -> str:
    """The names that a parameter of an estimator accepts, in the order in which they are registered."""
    constraints = cls._parameter_constraints[parameter]
    names = {name for constraint in constraints if isinstance(constraint, StrOptions) for name in constraint.options}
    registry = max(REGISTRIES, key=lambda registry: len(names & registry.keys()))
    ordered = [*sorted(names - registry.keys()), *(name for name in registry if name in names)]
    return "{" + ", ".join(map(repr, ordered)) + "}"
