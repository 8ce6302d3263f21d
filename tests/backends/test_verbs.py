"""The verbs of the backends: the same names and arguments everywhere."""

from __future__ import annotations

import inspect
import re
import types

import pytest

from skminibatch.backends import base, choose, cpu, device_of, gpu


def public_functions(module: types.ModuleType) -> dict:
    functions = inspect.getmembers(module, inspect.isfunction)
    return {name: f for name, f in functions if f.__module__ == module.__name__ and not name.startswith("_")}


def documented_verbs() -> dict[str, list[str]]:
    text = base.__doc__.split("Verbs\n-----\n")[1].split("\n\n")[0]
    return {name: arguments.split(", ") for name, arguments in re.findall(r"(\w+)\((.*)\) -> ", text)}


def test_the_head_of_base_lists_its_verbs():
    verbs = documented_verbs()
    assert len(verbs) >= 4
    for name, arguments in verbs.items():
        assert list(inspect.signature(getattr(base, name)).parameters) == arguments


@pytest.mark.parametrize("backend", [cpu, gpu], ids=lambda module: module.__name__)
def test_backends_have_the_same_verbs(backend):
    """The same names, arguments and defaults."""
    for name in documented_verbs():
        assert inspect.signature(getattr(backend, name)) == inspect.signature(getattr(base, name))
    assert set(documented_verbs()) <= set(public_functions(backend))


def test_choose_is_the_only_place_that_knows_devices():
    assert choose("base") is base
    assert choose("cpu") is choose(device_of("auto")) is cpu
