"""Formulas in CUDA C++, written from their Python source.

A formula is a function of numbers. What can be translated: arithmetic, comparisons, ``where`` and conditional expressions;
the functions of NumPy in `expressions.FUNCTIONS` and those of ``contract.verbs``; local variables, tuples, ``if`` and loops over
a ``range``; fields that are numbers, verbs of the part and of wrapped parts, constants of a class or a module. All else
raises `Untranslatable`.

Every number has the type ``T``, except what ``int`` makes, lengths, and counters of loops. NaN stays NaN, or a model that has
diverged would train on unseen: ``np.maximum`` is not ``max`` of CUDA, which drops it.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from itertools import count
from numbers import Real
from types import ModuleType
from typing import NamedTuple

import numpy as np

from skminibatch.backends.gpu.translation.definitions import definition_of, names_outside
from skminibatch.backends.gpu.translation.expressions import (
    FUNCTIONS,
    UNARY,
    ZERO,
    Number,
    Untranslatable,
    cast,
    choice,
    comparison,
    constant,
    function,
    identifier,
    joint,
    logical,
    number,
    operation,
)
from skminibatch.backends.gpu.translation.signatures import COUNTS, KINDS, Parameter, Signature, functions_of, signature
from skminibatch.contract import verbs
from skminibatch.contract.kinds import field_inside, inside

VERBS = {verbs.smooth_gradient: "gradient"} | {
    getattr(verbs, name): name for functions in KINDS.values() for name in functions
}


class Array(NamedTuple):
    """Numbers of a row of outputs, `n` of them; those of a row of targets may be fewer."""

    name: str
    is_changed: bool


class Part(NamedTuple):
    """A part, and the member or parameter that holds it; no name for the part whose formula is translated."""

    name: str
    part: tuple


class Method(NamedTuple):
    """A verb of a part."""

    part: Part
    verb: str


def body(formula, declared: Signature, owner: tuple, parts: dict | None = None, functions: dict | None = None) -> str:
    """The body of a function in CUDA C++.

    Parameters
    ----------
    formula : function
        The formula in Python. Its parameters are those that are declared; a method has ``self`` in addition.
    declared : Signature
    owner : tuple
        The part whose method it is, or whose slots and coefficients are among the arguments of a function.
    parts : dict from str to tuple, default=None
        The parts that a function takes, each under the name of its type in CUDA C++. None: it is a method.
    functions : dict from function to Signature, default=None
        Other functions in Python that exist in CUDA C++.

    Raises
    ------
    Untranslatable
        With the construct that has no translation.
    """
    return _Translation(formula, declared, owner, parts, functions or {}).text()


class _Translation:
    """Statements are collected in `lines`; expressions are returned, as text with a type."""

    def __init__(self, formula, declared: Signature, owner: tuple, parts: dict | None, functions: dict):
        self.declared, self.owner, self.parts, self.functions = declared, owner, parts or {}, functions
        self.parameters = {parameter.name: parameter.type for parameter in declared.parameters}
        self.definition = definition_of(formula)
        self.names = self.arguments = self._arguments([] if parts else [Part("", owner)])
        self.outside = names_outside(formula)
        self.local = set(formula.__code__.co_varnames)
        self.identifiers = {  # of variables, by their names in Python
            name: argument.text for name, argument in self.arguments.items() if isinstance(argument, Number)
        }
        self.used = {"n", *self.parameters, *map(identifier, owner._fields)}
        self.types: dict[str, str] = {}  # of local variables

    def _arguments(self, first: list) -> dict:
        """The arguments by the names that the formula gives them."""
        given, arguments = self.definition.args, first + [self._argument(one) for one in self.declared.parameters]
        names = [one.arg for one in (*given.posonlyargs, *given.args)]
        others = given.vararg, given.kwarg, *given.kwonlyargs, *given.defaults
        if any(others) or len(names) != len(arguments):
            raise Untranslatable(f"the parameters ({ast.unparse(given)})")
        return dict(zip(names, arguments, strict=True))

    def _argument(self, parameter: Parameter):
        if parameter.is_tuple:
            return [Number(f"{parameter.name}[{i}]") for i in range(COUNTS[parameter.name](self.owner))]
        if parameter.mark == "*":
            return Array(parameter.name, parameter.is_changed)
        if parameter.type in self.parts:
            return Part(parameter.name, self.parts[parameter.type])
        return Number(parameter.name, parameter.type)

    def text(self) -> str:
        """The statements, behind the declarations of the variables."""
        types = None
        while types != self.types:  # a variable that is an integer first may be a number later
            types = dict(self.types)
            self.names, self.lines, self.depth = dict(self.arguments), [], 0
            self.numbers, self.constants, self.visible, self.hoisted = count(1), set(), set(), []
            self._statements(self.definition.body)
        if not _always_returns(self.definition.body):
            raise Untranslatable("an end without a return")
        return "\n".join([f"{self.types[name]} {name};" for name in self.hoisted] + self.lines)

    # -- statements

    def _statements(self, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            try:
                self._statement(node)
            except Untranslatable as error:
                raise error if error.args else Untranslatable(_words(node)) from None

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign(targets=targets):
                value = self._value(node.value)
                for target in targets:
                    self._assign(target, value if len(targets) == 1 else self._kept(value))
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, self._value(value))
            case ast.AugAssign(target=target, op=operator, value=value):
                self._assign(target, self._value(ast.BinOp(target, operator, value)))
            case ast.If(test=test):
                self._nested(f"if ({cast(self._value(test), 'bool').text})", node.body)
                if node.orelse:
                    self._nested("else", node.orelse)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=called, args=bounds, keywords=[]), orelse=[]):
                if self._resolved(called) is not range:
                    raise Untranslatable
                self._loop(name, [self._value(bound) for bound in bounds], node.body)
            case ast.Return(value=ast.expr() as value):
                self._return(self._value(value))
            case _:
                raise Untranslatable

    def _nested(self, head: str, nodes: list[ast.stmt]) -> None:
        outside, self.lines = self.lines, []
        self.depth += 1
        self._statements(nodes)
        self.depth -= 1
        self.lines = [*outside, f"{head} {{", *(f"    {line}" for line in self.lines), "}"]

    def _loop(self, name: str, bounds: list, nodes: list[ast.stmt]) -> None:
        *start, stop = bounds
        is_changed = name in self.names or any(name in _assigned(one) for one in nodes)
        if is_changed or len(start) > 1 or joint(*bounds) != "int":
            raise Untranslatable
        counter, end = self._identifier(name), self._identifier(f"{name} end")
        self.names[name] = Number(counter, "int")
        first = start[0] if start else ZERO
        self._nested(f"for (int {counter} = {first.text}, {end} = {stop.text}; {counter} < {end}; ++{counter})", nodes)
        del self.names[name]

    def _return(self, value) -> None:
        """What a formula returns becomes the result or is stored where an argument refers to; all of it at once."""
        has_result = self.declared.result != "void"
        outputs = [*self.declared.outputs, *([None] * has_result)]
        values = value if len(outputs) > 1 else [value]
        places = [Number("") if one is None else self._argument(one) for one in outputs]
        pairs = _pairs(places, values)
        changes = [(place.text, cast(new, "T")) for place, new in pairs if place != new]
        if len(changes) > 1:
            changes = [(place, new if new.text in self.visible else self._kept(new)) for place, new in changes]
        self.lines += [f"{place} = {new.text};" for place, new in changes if place]
        self.lines.append(f"return {changes[-1][1].text};" if has_result else "return;")

    # -- variables

    def _assign(self, target: ast.expr, value) -> None:
        match target:
            case ast.Name(id=name):
                self._bind(name, value)
            case ast.Tuple(elts=targets) if isinstance(value, list) and len(targets) == len(value):
                for one, part in zip(targets, self._kept(value), strict=True):
                    self._assign(one, part)
            case ast.Subscript(value=array, slice=index):
                array = self._value(array)
                if not isinstance(array, Array) or not array.is_changed:
                    raise Untranslatable
                self.lines.append(f"{self._item(array, index).text} = {cast(value, 'T').text};")
            case _:
                raise Untranslatable

    def _bind(self, name: str, value) -> None:
        value = self._stored(name, self._kept(value) if isinstance(value, list) else value)
        if self.depth and name in self.names and _texts(self.names[name]) != _texts(value):
            raise Untranslatable  # behind a branch it could be either
        self.names[name] = value

    def _stored(self, name: str, value):
        """A number becomes a variable, a tuple one for each of its numbers; another thing gets a second name."""
        if isinstance(value, list):
            return [self._stored(f"{name} {i}", one) for i, one in enumerate(value)]
        if not isinstance(value, Number):
            return value
        variable = self._identifier(name)
        is_new = variable not in self.visible and variable not in self.parameters
        if variable not in self.parameters:
            self.types[variable] = joint(value, Number("", self.types.get(variable, value.type)))
        type_ = self.parameters.get(variable) or self.types[variable]
        if is_new and self.depth:
            self.hoisted.append(variable)
        self.visible.add(variable)
        head = f"{type_} " if is_new and not self.depth else ""
        self.lines.append(f"{head}{variable} = {cast(value, type_).text};")
        return Number(variable, type_)

    def _kept(self, value):
        """A value that does not change with the variables in it."""
        if isinstance(value, list):
            return [self._kept(one) for one in value]
        if not isinstance(value, Number) or value.text in self.constants:
            return value
        name = self._once()
        self.lines.append(f"const {value.type} {name} = {value.text};")
        return Number(name, value.type)

    def _once(self) -> str:
        """A variable that nothing is assigned to later."""
        name = self._identifier(f"value {next(self.numbers)}")
        self.constants.add(name)
        return name

    def _identifier(self, name: str) -> str:
        """The variable of a name in Python; with a blank, it is none of Python."""
        if name not in self.identifiers:
            text = identifier(name.replace(" ", "_"))
            while text in self.used:
                text += "_"
            self.used.add(text)
            self.identifiers[name] = text
        return self.identifiers[name]

    # -- expressions

    def _value(self, node: ast.expr):
        """A number, a list of numbers for a tuple, an array or a part."""
        try:
            return self._expression(node)
        except Untranslatable as error:
            raise error if error.args else Untranslatable(_words(node)) from None

    def _expression(self, node: ast.expr):
        match node:
            case ast.Constant(value=Real() as value):
                return constant(value)
            case ast.Name() | ast.Attribute():
                value = self._resolved(node)
                return constant(value) if isinstance(value, Real) else value
            case ast.BinOp(left=left, op=operator, right=right):
                left, right = self._value(left), self._value(right)
                is_longer = isinstance(left, list) and isinstance(right, list) and isinstance(operator, ast.Add)
                return left + right if is_longer else operation(left, operator, right)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                operand = self._value(operand)
                operand = cast(operand, joint(operand, ZERO))
                return Number(f"-{operand.within(0)}", operand.type, UNARY)
            case ast.UnaryOp(op=ast.Not() | ast.Invert() as operator, operand=operand):
                operand = number(self._value(operand))
                if operand.type == "bool" or isinstance(operator, ast.Not):
                    return Number(f"!{cast(operand, 'bool').within(0)}", "bool", UNARY)
            case ast.Compare(left=left, ops=operators, comparators=others):
                return comparison([self._value(one) for one in (left, *others)], operators)
            case ast.BoolOp(op=operator, values=values):
                values = [self._value(one) for one in values]
                if joint(*values) == "bool":
                    return logical(operator, values)
            case ast.IfExp(test=test, body=yes, orelse=no):
                return choice(self._value(test), self._value(yes), self._value(no))
            case ast.Tuple(elts=elements):
                return [value for one in elements for value in self._elements(one)]
            case ast.Subscript(value=value, slice=index):
                value = self._value(value)
                return self._item(value, index) if isinstance(value, Array) else _element(value, index)
            case ast.Call(func=called, args=arguments, keywords=[]):
                return self._call(self._resolved(called), [self._value(one) for one in arguments])
        raise Untranslatable

    def _elements(self, node: ast.expr) -> list:
        """What an element adds to a tuple: with a star, several values."""
        if not isinstance(node, ast.Starred):
            return [self._value(node)]
        values = self._value(node.value)
        if not isinstance(values, list):
            raise Untranslatable
        return values

    def _resolved(self, node: ast.expr):
        """What a name or an attribute is: a value of the formula, or an object of Python."""
        match node:
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.Name(id=name) if name in self.outside and name not in self.local:
                return self.outside[name]
            case ast.Attribute(value=value, attr=name):
                value = self._value(value)
                if isinstance(value, Part):
                    return self._member(value, name)
                if isinstance(value, Array) and name == "shape":
                    return [_length(value)]
                if isinstance(value, ModuleType):
                    return vars(value).get(name)
        raise Untranslatable

    def _member(self, owner: Part, name: str):
        """A field of a part, a verb, or a constant of its class."""
        part, member = owner.part, identifier(name)
        if name in functions_of(part):
            return Method(owner, name)
        if name not in part._fields:
            return inspect.getattr_static(type(part), name, None)
        if owner.name:
            member = f"{owner.name}.{member}"
        elif member in self.parameters:
            member = f"this->{member}"
        return Part(member, inside(part)) if name == field_inside(type(part)) else Number(member)

    def _item(self, array: Array, index: ast.expr) -> Number:
        """An element of a row."""
        place = self._value(index)
        if joint(place, ZERO) != "int":
            raise Untranslatable
        place = operation(_length(array), ast.Add(), place) if place.text.startswith("-") else place
        return Number(f"{array.name}[{place.text}]")

    def _call(self, called, values: list):
        if isinstance(called, Method):
            return self._verb(called.part, called.verb, values)
        if not callable(called) or type(called).__hash__ is None:
            raise Untranslatable
        if called in VERBS and values:
            return self._verb(values[0], VERBS[called], values[1:])
        if called in self.functions:
            return self._function("", self.functions[called], self.owner, values)
        if called in FUNCTIONS:
            return function(FUNCTIONS[called], values)
        match called, values:
            case ((verbs.where | np.where), [condition, yes, no]):
                return choice(condition, yes, no)
            case verbs.decoupled, [Part(name=name)]:
                return Number(f"{name}.decoupled", "bool")
            case verbs.positive, [value]:
                return comparison([value, ZERO], [ast.Gt()])
            case ((builtins.int | builtins.float), [value]):
                return cast(value, "int" if called is int else "T")
            case ((np.isfinite | np.isnan), [value]):
                return Number(f"{called.__name__}({cast(value, 'T').text})", "bool")
            case builtins.len, [Array() as array]:
                return _length(array)
        raise Untranslatable

    def _verb(self, owner, verb: str, values: list):
        """A verb of a part, which is a function of its struct."""
        if not isinstance(owner, Part) or verb not in functions_of(owner.part):
            raise Untranslatable
        declared = signature(functions_of(owner.part)[verb])
        return self._function(f"{owner.name}." if owner.name else "", declared, owner.part, values)

    def _function(self, prefix: str, declared: Signature, owner: tuple, values: list):
        """The results of a function in CUDA C++: what it changes is a copy, as in Python."""
        passed, results = [], []
        if len(values) != len(declared.parameters):
            raise Untranslatable
        for parameter, value in zip(declared.parameters, values, strict=True):
            passed.append(self._passed(parameter, value, owner, results))
        text = f"{prefix}{declared.name}({', '.join(passed + ['n'] * declared.has_length)})"
        if declared.result == "void":
            self.lines.append(f"{text};")
        elif any(parameter.is_changed for parameter in declared.parameters):
            results.append(self._kept(Number(text)))
        else:
            results.append(Number(text))
        return results if len(results) > 1 else results[0]

    def _passed(self, parameter: Parameter, value, owner: tuple, results: list) -> str:
        """An argument as it is passed; a copy that comes back changed is one of the `results`."""
        if parameter.is_tuple:
            if not isinstance(value, list) or len(value) != COUNTS[parameter.name](owner):
                raise Untranslatable
            if not parameter.is_changed and _texts(value) == [f"{parameter.name}[{i}]" for i in range(len(value))]:
                return parameter.name
            copy, numbers = self._once(), ", ".join(cast(one, "T").text for one in value)
            self.lines.append(f"T {copy}[{max(len(value), 1)}] = {{{numbers}}};")
            if parameter.is_changed:
                results.append([Number(f"{copy}[{i}]") for i in range(len(value))])
            return copy
        if parameter.type in self.parts and isinstance(value, Part):
            return value.name
        if parameter.mark == "&":
            copy = self._once()
            self.lines.append(f"{parameter.type} {copy} = {cast(value, parameter.type).text};")
            results.append(Number(copy))
            return copy
        if parameter.mark == "*" and isinstance(value, Array) and parameter.is_changed <= value.is_changed:
            return value.name
        return cast(value, parameter.type).text


def _pairs(places: list, values):
    """The numbers of two values of the same structure."""
    if not isinstance(values, list) or len(places) != len(values):
        raise Untranslatable
    for place, value in zip(places, values, strict=True):
        if isinstance(place, list):
            yield from _pairs(place, value)
        else:
            yield place, number(value)


def _element(value, index: ast.expr):
    """A number of a tuple, or several."""
    try:
        if isinstance(index, ast.Slice):
            bounds = (index.lower, index.upper, index.step)
            return value[slice(*(None if bound is None else ast.literal_eval(bound) for bound in bounds))]
        return value[ast.literal_eval(index)]
    except (ValueError, TypeError, IndexError):
        raise Untranslatable from None


def _length(array: Array) -> Number:
    if array.name == "y":
        raise Untranslatable
    return Number("n", "int")


def _always_returns(nodes: list[ast.stmt]) -> bool:
    last = nodes[-1] if nodes else None
    if isinstance(last, ast.If):
        return _always_returns(last.body) and _always_returns(last.orelse)
    return isinstance(last, ast.Return)


def _assigned(node: ast.stmt) -> set[str]:
    """The names that a statement assigns to."""
    names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _texts(value):
    """What tells two values apart in CUDA C++: their types may not be known yet."""
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return value.text if isinstance(value, Number) else value


def _words(node: ast.AST) -> str:
    return f"`{ast.unparse(node).splitlines()[0]}`"
