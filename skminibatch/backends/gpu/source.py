"""The parts in CUDA C++: a struct for each, with its fields as members and its verbs as functions.

The body of a function is translated from the formula in Python, see `translation`. A part has no struct where a formula has no
translation, or where its source cannot be read (of a class that was typed into a plain interpreter or made by ``exec``);
`why_not` returns the reason, and the part runs in array operations then.

Where another text is better, the class attribute ``cuda`` maps a verb to the body to use. It counts in the class that defines
the formula and in those derived from it, until one overrides the formula. A body names the hyper-parameters as Python does
and the arguments as `translation.signatures` does; ``T`` is the type of all numbers (a literal is ``T(0.5)``), and a
wrapped part is a member: ``loss.value(raw[k], y[k])``. NaN has to stay NaN, or a model that has diverged would train on unseen:
``max(x, T(0))`` would lose it, ``x < T(0) ? T(0) : x`` does not. ``update`` changes `w` and `slots` in place and returns
the effective step.

In addition, a struct has a constructor from `numbers` and the constant ``n_numbers``; an optimizer has ``n_slots``,
``n_coefficients`` (in a body too; those of a part inside are counted, and are the first) and ``decoupled``; a loss has
``rowwise``. A loss of one output can also be called as a row-wise one. What a part may leave out, its struct has as well.

The text depends on the types of the parts only. Other values of their hyper-parameters compile nothing.
"""

from __future__ import annotations

import inspect
import textwrap
from importlib import resources
from numbers import Real

import numpy as np

from skminibatch.backends.gpu.translation.expressions import HELPERS, Untranslatable, identifier
from skminibatch.backends.gpu.translation.formulas import body
from skminibatch.backends.gpu.translation.signatures import functions_of, signature
from skminibatch.contract import kinds
from skminibatch.contract.orders import ROUNDS, RowOrder
from skminibatch.contract.steps import regularised, stepped

NUMBER_TYPES = {"float32": "float", "float64": "double"}
ORDER_NUMBERS = len(RowOrder._fields) - 1 + ROUNDS  # of an order, its keys last: what ``RowOrder`` in ``rows.cu`` reads
COLUMN_TYPES = {"int32": "int", "int64": "long long"}  # of the indices of sparse rows

STEPS = {
    regularised: "void regularised(const Penalty& penalty, const Optimizer& optimizer, T& w, T& g, T stretch, "
    "bool decayed, const T* c)",
    stepped: "void stepped(const Penalty& penalty, const Optimizer& optimizer, T& w, T g, T* slots, T stretch, "
    "bool decayed, const T* c)",
}
OF_ONE_OUTPUT = """
HD T value_gradient(const T* raw, const T* y, T* out, int) const {
    T loss = value(raw[0], y[0]);
    out[0] = gradient(raw[0], y[0]);
    return loss;
}
"""
HD = """
#ifndef HD
#ifdef __CUDACC__
#define HD __device__ __forceinline__
#else
#define HD inline
#endif
#endif
"""


def text(name: str) -> str:
    """The CUDA C++ of a file of this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def has_cuda(part) -> bool:
    """Whether a part and the one inside it can be structs."""
    return not why_not(part)


def why_not(part) -> str:
    """Why a part cannot be a struct: the formula and the construct that has no translation; empty where it can."""
    bodies, within = _bodies_of(part), kinds.inside(part)
    if isinstance(bodies, str):
        return bodies
    for name, field in zip(part._fields, part, strict=True):
        if not isinstance(field, Real) and (within is None or field is not within):
            return f"{type(part).__name__}.{name}: {field!r} is not a number"
    return "" if within is None else why_not(within)


def numbers(*parts) -> np.ndarray:
    """The hyper-parameters of parts, one part after the other, in the order in which the constructors read them, float64."""
    return np.array([leaf for part in parts for leaf in _leaves(part)], np.float64)


def order_numbers(order: RowOrder) -> np.ndarray:
    """What ``RowOrder`` in ``rows.cu`` reads of an order besides its two arrays, int64."""
    counts = order.explicit.size, order.subset.size, *order[3:]
    return np.append(np.array(counts, np.int64), order.keys.view(np.int64))


def sparse_types(values, columns) -> str:
    """Names for the dtypes of what sparse rows store: their numbers and their indices."""
    names = NUMBER_TYPES[np.dtype(values).name], COLUMN_TYPES[np.dtype(columns).name]
    return "typedef {} Value;\ntypedef {} Column;\n".format(*names)


def structs(parts: dict, dtype) -> str:
    """Declarations of the structs of parts, and a name for each.

    Parameters
    ----------
    parts : dict from str to part
        For each name that the kernels use, such as ``"Loss"``, the part that it stands for.
    dtype : dtype
        Of the numbers ``T``: float32 or float64.

    Examples
    --------
    >>> from skminibatch.losses import SquaredError
    >>> print(structs({"Loss": SquaredError()}, "float32"), end="")
    typedef float T;
    ...
    struct SquaredError_1 {
        static constexpr int n_numbers = 0;
        static constexpr bool rowwise = false;
        HD explicit SquaredError_1(const double* numbers) {}
        HD T value(T raw, T y) const {
            return T(0.5) * (raw - y) * (raw - y);
        }
    ...
    typedef SquaredError_1 Loss;
    """
    declared: dict[tuple, str] = {}
    lines = [f"typedef {NUMBER_TYPES[np.dtype(dtype).name]} T;", HD.strip(), HELPERS.strip()]
    for name, part in parts.items():
        lines += _declarations(part, declared)
        lines.append(f"typedef {declared[_layout(part)]} {name};")
    if {"Penalty", "Optimizer"} <= parts.keys():
        lines += _steps(parts)
    return "\n".join(lines) + "\n"


def _steps(parts: dict) -> list[str]:
    """The functions of ``contract/steps.py`` for the parts of these names."""
    signatures = {formula: signature(declaration) for formula, declaration in STEPS.items()}
    return [
        f"HD {declaration} {{\n{body(formula, signatures[formula], parts['Optimizer'], parts, signatures)}\n}}"
        for formula, declaration in STEPS.items()
    ]


def _leaves(part) -> list:
    """The fields of a part that are numbers, those of a part inside in the place of that part."""
    within = kinds.inside(part)
    return [leaf for field in part for leaf in (_leaves(within) if field is within else [field])]


def _layout(part) -> tuple:
    """What the struct of a part depends on: its type and those of the parts inside."""
    within = kinds.inside(part)
    return (type(part),) if within is None else (type(part), _layout(within))


def _declarations(part, declared: dict[tuple, str]) -> list[str]:
    """The struct of a part after those that it needs, without what is `declared` already, to which they are added."""
    if _layout(part) in declared:
        return []
    within = kinds.inside(part)
    first = [] if within is None else _declarations(within, declared)
    name = declared[_layout(part)] = f"{type(part).__name__}_{len(declared) + 1}"
    lines = [*_constants(part), *_members(part, declared), _constructor(part, name), *_functions(part)]
    return [*first, f"struct {name} {{", textwrap.indent("\n".join(lines), " " * 4), "};"]


def _constants(part) -> list[str]:
    kind = kinds.declared(part).kind.name
    constants = {"int n_numbers": len(_leaves(part))}
    if kind == "optimizer":
        optimizer = kinds.declared(part)
        constants["int n_slots"] = len(optimizer.slot_exponents)
        constants["int n_coefficients"] = optimizer.n_coefficients
        constants["bool decoupled"] = str(bool(optimizer.decoupled)).lower()
    if kind.endswith("loss"):
        constants["bool rowwise"] = str(kind == "row-wise loss").lower()
    return [f"static constexpr {name} = {value};" for name, value in constants.items()]


def _members(part, declared: dict[tuple, str]) -> list[str]:
    within = kinds.inside(part)
    types = [declared[_layout(field)] if field is within else "T" for field in part]
    return [f"{type_} {identifier(field)};" for type_, field in zip(types, part._fields, strict=True)]


def _constructor(part, name: str) -> str:
    at, read, within = 0, [], kinds.inside(part)
    for field, value in zip(part._fields, part, strict=True):
        is_part = value is within
        argument = f"numbers + {at}" if is_part else f"T(numbers[{at}])"
        read.append(f"{identifier(field)}({argument})")
        at += len(_leaves(value)) if is_part else 1
    return f"HD explicit {name}(const double* numbers){' : ' * bool(read)}{', '.join(read)} {{}}"


def _functions(part) -> list[str]:
    functions, bodies = [], _bodies_of(part)
    for verb, declaration in functions_of(part).items():
        functions.append(f"HD {declaration} {{\n{textwrap.indent(bodies[verb], ' ' * 4)}\n}}")
    is_pointwise = kinds.declared(part).kind is kinds.LOSS
    return functions + ([OF_ONE_OUTPUT.strip()] if is_pointwise else [])


def _bodies_of(part) -> dict[str, str] | str:
    """The body of each function, or why there is none; for the types of the parts, once."""
    layout = _layout(part)
    if layout not in _bodies:
        try:
            _bodies[layout] = {verb: _body(part, verb) for verb in functions_of(part)}
        except Untranslatable as error:
            _bodies[layout] = str(error)
    return _bodies[layout]


_bodies: dict[tuple, dict[str, str] | str] = {}


def _body(part, verb: str) -> str:
    """The body of a function: what a class has for its formula or for one that it inherits, or else a translation."""
    cls = type(part)
    for base in cls.__mro__:
        if verb in vars(base).get("cuda", {}):
            return inspect.cleandoc(vars(base)["cuda"][verb])
        if verb in vars(base):
            break
    try:
        return body(kinds.declaration_of(part)[verb], signature(functions_of(part)[verb]), part)
    except Untranslatable as error:
        raise Untranslatable(f"{cls.__name__}.{verb}: {error} has no translation") from None
