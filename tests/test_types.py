"""Everything public is annotated. The type checker itself runs with the linters, over the package and `typing/user_script.py`."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import skminibatch

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "typing" / "user_script.py"
# What is called by users; the methods of parts are formulas, whose arguments are numbers or arrays of any library.
MODULES = ["linear_model", "neural_network", "diagnostics", "cost_model", "plotting"]
PARTS = ["losses", "penalties", "optimizers", "samplers", "schedules", "layers"]


def public(module):
    for name in getattr(module, "__all__", [name for name in vars(module) if name.startswith("MiniBatch")]):
        yield name, getattr(module, name)


def functions():
    """Public functions and methods by name."""
    for name in MODULES:
        module = importlib.import_module(f"skminibatch.{name}")
        for name_of_member, member in public(module):
            if inspect.isfunction(member):
                yield name_of_member, member
            elif inspect.isclass(member):
                methods = inspect.getmembers(member, inspect.isroutine)
                for method_name, method in methods:
                    ours = getattr(method, "__module__", "") or ""
                    if ours.startswith("skminibatch") and (method_name == "__init__" or method_name[0] != "_"):
                        yield f"{name_of_member}.{method_name}", getattr(method, "__func__", method)


FUNCTIONS = dict(functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_are_annotated(name):
    signature = inspect.signature(FUNCTIONS[name])
    free = {"self", "cls", "estimator", "random_state", "ax"}  # of any type
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in free
    ]
    assert not missing, f"{name} does not annotate {missing}"
    assert signature.return_annotation is not signature.empty, f"{name} does not annotate what it returns"


@pytest.mark.parametrize("name", PARTS)
def test_fields_of_parts_are_annotated(name):
    """A ``NamedTuple`` whose class data were assigned in its body would be no valid class for a type checker."""
    module = importlib.import_module(f"skminibatch.{name}")
    for path in sorted(Path(module.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            bases = {getattr(base, "id", "") for base in getattr(node, "bases", [])}
            if "NamedTuple" in bases:
                assigned = [item for item in node.body if isinstance(item, ast.Assign)]
                assert not assigned, f"{path.name}: the body of {node.name} assigns class data; use `declares`"


def test_the_script_runs():
    environment = {**os.environ, "PYTHONPATH": str(Path(skminibatch.__file__).parents[1])}
    subprocess.run([sys.executable, "-W", "ignore", str(SCRIPT)], env=environment, check=True)
