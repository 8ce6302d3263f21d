"""Expressions in CUDA C++, with their types: what the translation of a formula is put together from."""

from __future__ import annotations

import ast
import math
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from skminibatch.contract import verbs

# Functions of numbers. `HELPERS` defines those that CUDA has not: as in NumPy, the larger one of a number and NaN is NaN,
# while `max` and `min` of Python return the first one unless the second is beyond it.
FUNCTIONS = {
    np.exp: "exp",
    np.expm1: "expm1",
    np.log: "log",
    np.log1p: "log1p",
    np.sqrt: "sqrt",
    np.abs: "abs",
    np.fabs: "abs",
    abs: "abs",
    max: "largest_of",
    min: "smallest_of",
    np.sin: "sin",
    np.cos: "cos",
    np.arctan: "atan",
    np.sinh: "sinh",
    np.cosh: "cosh",
    np.tanh: "tanh",
    np.arcsinh: "asinh",
    np.floor: "floor",
    np.ceil: "ceil",
    np.sign: "sign_of",
    np.square: "square",
    np.power: "pow",
    np.maximum: "larger",
    np.minimum: "smaller",
    np.clip: "clipped",
    verbs.exp_of_negative: "exp",
    verbs.log_of_one_plus: "log1p",
    verbs.normal_share: "normal_share",
}
ARGUMENTS = {
    "pow": 2,
    "larger": 2,
    "smaller": 2,
    "clipped": 3,
    "largest_of": 2,
    "smallest_of": 2,
}  # of one number, otherwise
HELPERS = """
HD T larger(T a, T b) { return a > b ? a : a == a ? b : a; }
HD T smaller(T a, T b) { return a < b ? a : a == a ? b : a; }
HD T largest_of(T a, T b) { return b > a ? b : a; }
HD T smallest_of(T a, T b) { return b < a ? b : a; }
HD T clipped(T x, T low, T high) { return smaller(high, larger(low, x)); }
HD T sign_of(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : x; }
HD T square(T x) { return x * x; }
HD T normal_share(T x) { return T(0.5) * erfc(T(-0.7071067811865476) * x); }
HD T infinite() { return -log(T(0)); }
HD T not_a_number() { return sqrt(T(-1)); }
"""
OPERATORS = {ast.Add: ("+", 3), ast.Sub: ("-", 3), ast.Mult: ("*", 2), ast.Div: ("/", 2)}
COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
UNARY, COMPARISON, LOGICAL, CHOICE = 1, 4, 5, 6  # how loosely these bind
KEYWORDS = """
    alignas alignof asm auto bool case catch char char8_t char16_t char32_t co_await co_return co_yield compl concept const
    const_cast consteval constexpr constinit decltype default delete do double dynamic_cast enum explicit export extern
    false float friend goto inline int long mutable namespace new noexcept nullptr operator private protected public register
    reinterpret_cast requires short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true typedef typeid typename union unsigned using virtual void volatile wchar_t and_eq bitand bitor
    not_eq or_eq xor xor_eq
"""
OF_A_STRUCT = "n_numbers n_slots n_coefficients decoupled rowwise"
OTHERS = "infinite not_a_number isfinite isnan erfc"
RESERVED = {*KEYWORDS.split(), *OF_A_STRUCT.split(), *FUNCTIONS.values(), *OTHERS.split()}


class Untranslatable(Exception):
    """What cannot be translated, in words; without words, the statement that it is in."""


class Number(NamedTuple):
    """An expression, its type (``T``, ``int`` or ``bool``), and how loosely its last operator binds."""

    text: str
    type: str = "T"
    binding: int = 0

    def within(self, binding: int) -> str:
        """The text, in parentheses where it binds more loosely."""
        return self.text if self.binding <= binding else f"({self.text})"


ZERO = Number("0", "int")


def identifier(name: str) -> str:
    """A name of Python in CUDA C++, with an underscore where it means something else there: words, types and macros."""
    name = "".join(letter if letter.isascii() else f"u{ord(letter)}" for letter in name)
    return f"{name}_" if name in RESERVED or name.isupper() else name


def constant(value: Real) -> Number:
    """A number that is known."""
    if isinstance(value, (bool, np.bool_)):
        return Number(str(value).lower(), "bool")
    if isinstance(value, Integral) and abs(value) < 1 << 31:
        return Number(str(value), "int", UNARY if value < 0 else 0)
    if math.isnan(value):
        return Number("not_a_number()")
    if math.isinf(value):
        return Number("infinite()") if value > 0 else Number("-infinite()", "T", UNARY)
    return Number(f"T({float(value)!r})".replace(".0)", ")"))


def number(value) -> Number:
    """A value, where it is a number and not a tuple, an array or a part."""
    if not isinstance(value, Number):
        raise Untranslatable
    return value


def cast(value, type_: str) -> Number:
    """A number as one of another type."""
    value = number(value)
    if value.type == type_:
        return value
    if type_ == "bool":
        return joined(value, "!=", cast(ZERO, value.type), "bool", COMPARISON)
    return Number(f"{type_}({value.text})", type_)


def joint(*values) -> str:
    """The type that all of some numbers can have."""
    types = {number(value).type for value in values}
    return types.pop() if len(types) == 1 else "T"


def joined(left: Number, operator: str, right: Number, type_: str, binding: int) -> Number:
    """Two numbers and an operator, in the order of Python; comparisons have another one in C++ where several meet."""
    first = left.within(binding - (binding == COMPARISON))
    return Number(f"{first} {operator} {right.within(binding - 1)}", type_, binding)


def operation(left, operator: ast.operator, right) -> Number:
    """What an operator makes of two numbers."""
    type_ = joint(left, right)
    if isinstance(operator, (ast.BitAnd, ast.BitOr)) and type_ == "bool":
        return logical(operator, [left, right])
    if isinstance(operator, ast.Pow):
        if right.text in ("2", "T(2)"):
            return function("square", [left])
        return function("pow", [left, right])
    if type(operator) not in OPERATORS:
        raise Untranslatable
    if type_ == "bool" or isinstance(operator, ast.Div):
        type_ = "T"
    return joined(
        cast(left, type_), OPERATORS[type(operator)][0], cast(right, type_), type_, OPERATORS[type(operator)][1]
    )


def comparison(values: list, operators: list[ast.cmpop]) -> Number:
    """Whether all comparisons of a chain hold."""
    links = []
    for left, operator, right in zip(values[:-1], operators, values[1:], strict=True):
        if type(operator) not in COMPARISONS:
            raise Untranslatable
        type_ = joint(left, right)
        links.append(joined(cast(left, type_), COMPARISONS[type(operator)], cast(right, type_), "bool", COMPARISON))
    return logical(ast.And(), links)


def logical(operator, values: list) -> Number:
    """Whether all of some conditions hold, or any."""
    sign = " && " if isinstance(operator, (ast.And, ast.BitAnd)) else " || "
    if len(values) == 1:
        return values[0]
    return Number(sign.join(cast(value, "bool").within(COMPARISON) for value in values), "bool", LOGICAL)


def choice(condition, yes, no) -> Number:
    """One of two numbers."""
    condition, type_ = cast(condition, "bool"), joint(yes, no)
    return Number(
        f"{condition.within(LOGICAL)} ? {cast(yes, type_).within(LOGICAL)} : {cast(no, type_).text}", type_, CHOICE
    )


def function(name: str, values: list) -> Number:
    """What a function makes of some numbers."""
    if len(values) != ARGUMENTS.get(name, 1):
        raise Untranslatable
    numbers = [cast(value, "T") for value in values]
    if name in ("larger", "smaller"):  # a known number first: a compiler sees that it is not NaN
        numbers.sort(key=lambda number: not number.text.startswith("T("))
    return Number(f"{name}({', '.join(number.text for number in numbers)})")
