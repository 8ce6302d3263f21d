"""A registered name is documented: on the page of the API, in the user guide, and in the docstrings of the estimators."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from typing import NamedTuple

import numpy as np
import pytest
from numpydoc.docscrape import NumpyDocString
from sklearn.utils._param_validation import StrOptions

import skminibatch
from tests.docs.pages import DOCS, load

ESTIMATORS = [getattr(skminibatch, name) for name in skminibatch.__all__]
INCLUDED = re.compile(r"^```\{include\} (?:\.\./)?generated/tables/(\w+)\.md$", re.MULTILINE)


LISTS = load("lists")
TABLES, API = LISTS.tables(), LISTS.api()
MODULES = {name: importlib.import_module(f"skminibatch.{name}") for name in sorted(skminibatch._SUBMODULES)}


def is_registry(value) -> bool:
    """Whether a value is a dict from names to classes."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and inspect.isclass(v) for k, v in value.items())
    )


REGISTRIES = {
    f"{module.removeprefix('skminibatch.')}.{name}": value
    for module, loaded in sorted(sys.modules.items())
    if module.startswith("skminibatch.") and module.split(".")[1] in LISTS.PART_MODULES
    for name, value in vars(loaded).items()
    if name.isupper() and is_registry(value)
}


# the user guide with its tables
GUIDE = INCLUDED.sub(lambda match: TABLES[match[1]], (DOCS / "user_guide.md").read_text(encoding="utf-8"))


def options_of(cls) -> dict[str, set[str]]:
    """The names that each parameter of an estimator accepts."""
    constraints = {name: values for name, values in cls._parameter_constraints.items() if isinstance(values, list)}
    found = {
        name: {option for value in values if isinstance(value, StrOptions) for option in value.options}
        for name, values in constraints.items()
    }
    return {name: options for name, options in found.items() if options}


OPTIONS = [(cls, parameter) for cls in ESTIMATORS for parameter in options_of(cls)]


def test_the_registries_are_recognised():
    assert {"losses.LOSSES", "optimizers.OPTIMIZERS", "schedules.SCALING_RULES", "layers.ACTIVATIONS"} <= set(
        REGISTRIES
    )
    assert {"loss", "solver", "sampler", "batch_size"} <= {parameter for _, parameter in OPTIONS}


@pytest.mark.parametrize("name", [name for name, module in MODULES.items() if hasattr(module, "__all__")])
def test_every_public_name_is_on_the_page_of_the_api(name):
    paths = set(re.findall(r"^   ~skminibatch\.(\S+)$", API, re.MULTILINE))
    for public in MODULES[name].__all__:
        value = getattr(MODULES[name], public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert f"{name}.{public}" in paths


@pytest.mark.parametrize("name", REGISTRIES)
def test_every_registered_class_is_on_the_page_of_the_api(name):
    for part in REGISTRIES[name].values():
        assert f"{LISTS.path_of(part, name.split('.')[0])}\n" in API


def test_every_table_is_included_once():
    pages = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md") if "generated" not in path.parts]
    assert sorted(name for page in pages for name in INCLUDED.findall(page)) == sorted(TABLES)


@pytest.mark.parametrize(("cls", "parameter"), OPTIONS)
def test_every_name_is_in_the_guide(cls, parameter):
    assert not [option for option in options_of(cls)[parameter] if f"'{option}'" not in GUIDE]


@pytest.mark.parametrize(("cls", "parameter"), OPTIONS)
def test_every_name_is_in_the_docstring_of_the_estimator(cls, parameter):
    described = {
        name: f"{entry.type}\n" + "\n".join(entry.desc)
        for entry in NumpyDocString(inspect.getdoc(cls))["Parameters"]
        for name in entry.name.split(", ")
    }
    assert not [option for option in options_of(cls)[parameter] if f"'{option}'" not in described[parameter]]


@pytest.mark.parametrize("name", REGISTRIES)
def test_every_registered_name_is_accepted_by_an_estimator(name):
    accepted = set().union(*(options_of(cls)[parameter] for cls, parameter in OPTIONS))
    assert set(REGISTRIES[name]) <= accepted


def test_a_summary_is_one_sentence_of_one_line():
    """The tables show the first line of a docstring: it has to end there."""
    for kind in LISTS.KINDS.values():
        for part in kind.registry.values():
            first, *rest = inspect.getdoc(part).split("\n")
            assert first.endswith("."), part
            assert not rest or not rest[0], part


class LogCosh(NamedTuple):
    """``log cosh(raw - y)``."""

    scale: float = 1.0

    def value(self, raw, y):
        return np.log(np.cosh(raw - y))

    def gradient(self, raw, y):
        return np.tanh(raw - y)


def test_a_new_part_is_listed_because_it_is_registered(monkeypatch):
    monkeypatch.setitem(skminibatch.losses.LOSSES, "log_cosh", LogCosh)
    path = f"{LogCosh.__module__}.LogCosh"
    row = f"| `'log_cosh'` | {{py:class}}`LogCosh(scale=1.0) <{path}>` | regression | ``log cosh(raw - y)`` |"
    assert row in LISTS.tables()["losses"].splitlines()
    assert f"   ~{path}\n" in LISTS.api()
