"""The parts in CUDA C++: a struct for each, its fields as members and the bodies that stand in its class as functions.

The class attribute ``cuda`` of a part maps its verbs to the bodies of functions, which are declared in `KINDS`. A body names
the hyper-parameters and the arguments as the formula in Python does, ``T`` is the type of all numbers (a literal is
``T(0.5)``), and a part inside is a member: ``loss.value(raw[k], y[k])``. NaN has to stay NaN, or a model that has diverged
goes on unseen: ``max(x, T(0))`` would lose it, ``x < T(0) ? T(0) : x`` does not. ``update`` changes `w` and `slots` in
place and returns the effective step.

Besides, a struct has a constructor from `numbers` and the constant ``n_numbers``; an optimizer has ``n_slots``,
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

from skminibatch.contract import kinds
from skminibatch.contract.orders import ROUNDS, RowOrder

NUMBER_TYPES = {"float32": "float", "float64": "double"}
ORDER_NUMBERS = len(RowOrder._fields) - 1 + ROUNDS  # of an order, its keys last: what ``RowOrder`` in ``rows.cu`` reads
COLUMN_TYPES = {"int32": "int", "int64": "long long"}  # of the indices of sparse rows

# Functions of each kind of part.
KINDS = {
    "row-wise loss": {
        "value_gradient": "T value_gradient(const T* raw, const T* y, T* out, int n) const",
        "stiffness": "T stiffness(const T* raw, const T* y, int n) const",
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
        "stiffness": "T stiffness(T raw, T y) const",
    },
}
OF_ONE_OUTPUT = """
HD T value_gradient(const T* raw, const T* y, T* out, int) const {
    T loss = value(raw[0], y[0]);
    out[0] = gradient(raw[0], y[0]);
    return loss;
}
HD T stiffness(const T* raw, const T* y, int) const { return stiffness(raw[0], y[0]); }
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
    """Whether a part and those inside it can be a struct: each of their formulas has a body in CUDA C++.

    A class that overrides a formula has to bring its own bodies.
    """
    cls, bodies = type(part), kinds.cuda_of(type(part))
    if bodies is None:
        return False
    within, bodies_from = kinds.inside(part), _level(cls, "cuda")
    written = all(verb in bodies and _level(cls, verb) >= bodies_from for verb in _formulas(part))
    return written and all(has_cuda(field) if field is within else isinstance(field, Real) for field in part)


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
    lines = [f"typedef {NUMBER_TYPES[np.dtype(dtype).name]} T;", HD.strip()]
    for name, part in parts.items():
        lines += _declarations(part, declared)
        lines.append(f"typedef {declared[_layout(part)]} {name};")
    return "\n".join(lines) + "\n"


def _kind(part) -> str:
    return kinds.declared(part).kind.name


def _formulas(part) -> list[str]:
    """The formulas that a part has itself."""
    part = kinds.declared(part)
    return [verb for verb in KINDS[part.kind.name] if verb in part.kind.required or part.brings(verb)]


def _leaves(part) -> list:
    """The fields of a part that are numbers, those of a part inside in the place of that part."""
    within = kinds.inside(part)
    return [leaf for field in part for leaf in (_leaves(within) if field is within else [field])]


def _level(cls: type, name: str) -> int:
    """How many classes up an attribute of a class is defined."""
    return next(level for level, base in enumerate(cls.__mro__) if name in vars(base))


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
    kind = _kind(part)
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
    return [f"{type_} {field};" for type_, field in zip(types, part._fields, strict=True)]


def _constructor(part, name: str) -> str:
    at, read, within = 0, [], kinds.inside(part)
    for field, value in zip(part._fields, part, strict=True):
        is_part = value is within
        read.append(f"{field}(numbers + {at})" if is_part else f"{field}(T(numbers[{at}]))")
        at += len(_leaves(value)) if is_part else 1
    return f"HD explicit {name}(const double* numbers){' : ' * bool(read)}{', '.join(read)} {{}}"


def _functions(part) -> list[str]:
    kind, functions = _kind(part), []
    bodies = {"follow": "return;", "point": "return w;"} if kind == "optimizer" else {}
    if kind.endswith("loss"):
        curvature = kinds.declared(part).curvature
        bodies["stiffness"] = f"return T({1.0 if curvature is None else float(curvature)!r});"
    bodies |= {verb: kinds.cuda_of(type(part))[verb] for verb in _formulas(part)}
    for verb, declaration in KINDS[kind].items():
        body = textwrap.indent(inspect.cleandoc(bodies[verb]), " " * 4)
        functions.append(f"HD {declaration} {{\n{body}\n}}")
    return functions + ([OF_ONE_OUTPUT.strip()] if kind == "loss" else [])
