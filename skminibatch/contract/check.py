"""The check of a part that a user gives: its members, and its hyper-parameters."""

from __future__ import annotations

from functools import cache
from inspect import isdatadescriptor
from numbers import Real
from typing import Any

from skminibatch.contract.domains import Interval
from skminibatch.contract.kinds import (
    Declaration,
    InvalidPart,
    Kind,
    around,
    declaration_of,
    domains_of,
    field_inside,
    has,
    inside,
)


def checked(part, kind: Kind, parameter: str):
    """The part with its numbers as floats (integers, where a domain has no others).

    Raises
    ------
    InvalidPart
        Names the parameter, the part, and the member that is missing or the hyper-parameter outside its domain.
    """
    cls = type(part)
    if not (isinstance(part, tuple) and has(cls, "_fields")):
        raise InvalidPart(
            f"The {parameter!r} parameter must be a name or {kind}, a named tuple with {kind.members}. Got {part!r} "
            "instead."
        )
    missing = [member for member in kind.required if not has(cls, member)]
    if missing:
        raise InvalidPart(
            f"{cls.__name__} in the {parameter!r} parameter has no {missing[0]!r}: {kind} has {kind.members}."
        )
    declaration = declaration_of(part)
    if declaration.kind is not kind:
        raise InvalidPart(f"{cls.__name__} in the {parameter!r} parameter is {declaration.kind}, not {kind}.")
    _check_class_data(declaration, parameter)
    within = inside(part)
    if within is not None:
        part = around(part, checked(within, declaration_of(within).kind, parameter))
    return _with_numbers(part, parameter)


def _check_class_data(declaration: Declaration, parameter: str) -> None:
    name = _no_class_data(declaration)
    if name is not None:
        raise InvalidPart(
            f"{name!r} of {declaration.cls.__name__} in the {parameter!r} parameter must be class data: kernels are compiled for "
            "a class, whatever its hyper-parameters."
        )


@cache
def _no_class_data(declaration: Declaration) -> str | None:
    """What kernels read of a class although it differs from part to part, or None."""
    for name, ability in declaration.kind.abilities.items():
        if ability.by_type and (isdatadescriptor(declaration[name]) or callable(declaration[name])):
            return name
    return None


def _with_numbers(part, parameter: str):
    cls: Any = type(part)
    numbers: dict[str, float] = {}
    for name, value in part._asdict().items():
        domain = domains_of(cls).get(name)
        if name == field_inside(cls) or (value is None and cls._field_defaults.get(name, "") is None):
            continue  # a part, or left open
        if domain is not None and not domain.includes(value):
            raise InvalidPart(
                f"The {name!r} of {cls.__name__} in the {parameter!r} parameter must be {domain}. Got {value!r} instead."
            )
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            numbers[name] = int(number) if isinstance(domain, Interval) and domain.whole else number
    return part._replace(**numbers)
