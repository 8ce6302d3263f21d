"""The source of a formula, as a syntax tree.

It is what `inspect` returns, compared with the code that Python runs: there is none where a file has changed since it was
imported, or where the source is that of another function, as with some decorators.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections import ChainMap
from collections.abc import Mapping
from types import CodeType, FunctionType, ModuleType

from skminibatch.backends.gpu.translation.expressions import Untranslatable


def definition_of(formula) -> ast.FunctionDef:
    """The syntax tree of a function."""
    if not isinstance(formula, FunctionType):
        raise Untranslatable(f"{formula!r}, which is no function in Python")
    code, outside = formula.__code__, formula.__globals__
    named = [name for name in code.co_names if name in outside]
    modules = [name for name in named if isinstance(outside[name], ModuleType)]
    try:
        text = inspect.getsource(formula)
        is_inside = text[0].isspace()  # a class, where its name is not one for its own body, or a function
        text = f"def enclosing({', '.join(code.co_freevars)}):\n class Methods:\n{text}" if is_inside else text
        # the code of a call depends on which names are imported in the same file
        heads = ["".join(f"import {name}\n" for name in names) for names in ([], modules, named)]
        compiled = [compile(head + text, "formula", "exec", dont_inherit=True) for head in heads]
        definition = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError):
        raise Untranslatable("a source that cannot be read") from None
    if not any(_instructions(inside) == _instructions(code) for one in compiled for inside in _code_in(one)):
        raise Untranslatable("a source that is not the one of what runs")
    definition = definition.body[0].body[0] if is_inside else definition
    if not isinstance(definition, ast.FunctionDef):
        raise Untranslatable("a function without a name")
    return definition


def names_outside(formula) -> Mapping:
    """The variables that a function finds outside itself, by name."""
    try:
        cells = [cell.cell_contents for cell in formula.__closure__ or ()]
    except ValueError:  # one has no value yet
        raise Untranslatable("a variable without a value") from None
    return ChainMap(dict(zip(formula.__code__.co_freevars, cells, strict=True)), formula.__globals__, vars(builtins))


def _code_in(code: CodeType):
    yield code
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from _code_in(inside)


def _instructions(code: CodeType) -> tuple:
    names = code.co_name, code.co_names, code.co_varnames, code.co_freevars
    return code.co_code, repr(code.co_consts), names
