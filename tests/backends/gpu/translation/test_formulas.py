"""Formulas of parts, from Python to CUDA C++: what is translated, what is not, and what takes its place."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import sys
from typing import NamedTuple

import numpy as np
import pytest

from skminibatch.backends.gpu.source import has_cuda, numbers, structs, why_not
from skminibatch.backends.gpu.translation.expressions import FUNCTIONS, HELPERS, identifier
from skminibatch.contract.verbs import exp_of_negative, positive, where
from skminibatch.layers import ELU, Tanh
from skminibatch.losses import EachOutput, Huber, SquaredError
from tests.emulated import cupy, nvrtc

HALF = 0.5
DTYPES = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-14}
GRID = np.array([-np.inf, -1e30, -7.3, -1.0, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 7.3, 1e30, np.inf, np.nan])
CASES = np.stack([np.repeat(GRID, len(GRID)), np.tile(GRID, len(GRID))])


# -- constructs: losses whose value has nothing to do with their gradient


class Loss:
    """What losses of these tests have in common."""

    curvature = None
    task = "regression"

    def gradient(self, raw, y):
        return raw


def made_of(enclosed):
    """A loss that uses a variable of the function that defines it."""

    class Enclosing(NamedTuple):
        def value(self, raw, y):
            return raw * enclosed - y

    return Enclosing


class Constants(NamedTuple):
    scale: float = 3.0
    shift = -2

    def value(self, raw, y):
        """A docstring
        of two lines.
        """
        unused: float = np.pi
        return self.scale * raw**2 + self.shift - 1 / (HALF + y**2) + unused * 1e-3 - 2 ** (0.5 * raw)


class Names(NamedTuple):
    """Fields, arguments and variables that mean something else in CUDA C++."""

    raw: float = 3.0
    double: float = 0.5
    T: float = 2.0
    floor: float = 0.25
    größe: float = 1.5

    def value(self, template, n):
        exp, y, T, out, float_ = template - n, 2.0, np.exp(-np.abs(template)), self.raw, self.floor
        value = exp * self.double + T * self.T
        return value * y + out + float_ + np.floor(template) * self.größe + self.gradient(template, n)


class Branches(NamedTuple):
    def value(self, raw, y):
        low, high = y, raw
        if low > high:
            low, high = high, low
        elif not raw > 0.0 and y < 1:
            return -1.0
        else:
            low -= 0.5
        size = high - low
        return size if -2.0 < low <= high < 5.0 else low if size != size else high


class Counting(NamedTuple):
    """Integers, which become numbers where they meet one."""

    def value(self, raw, y):
        total, power = 0, 1.0
        for k in range(1, 4):
            power *= raw
            for j in range(k):
                total = total + power / (k + j) if j != 1 else total - j * HALF
        return total + int(y > 0.0) + float(2) / 4


class Masks(NamedTuple):
    def value(self, raw, y):
        inside = (np.abs(raw) < 1.0) & ~(y > 0.5) | (raw == y)
        weight = where(inside, 2, 0.5) * np.where(positive(raw - y), 1.0, -y)
        order = ((raw < y) == (y < 1.0)) * 8.0 + ((raw == y) < (y > 0.0)) * 16.0
        return weight + np.isfinite(raw) - 3.0 * np.isnan(y) + order


class Functions(NamedTuple):
    """NaN stays NaN."""

    def value(self, raw, y):
        low = np.minimum(raw, y) + np.maximum(0.5, raw) - np.maximum(y, -2.0) + np.sign(raw)
        return low + np.clip(y, -1.0, raw) + exp_of_negative(-np.abs(y)) + np.square(np.tanh(raw))


class OfPython(NamedTuple):
    """The same functions of Python: the first argument, unless the second is beyond it."""

    def value(self, raw, y):
        return max(raw, y) + 2.0 * min(y, 0.5) + abs(raw)


class Infinite(NamedTuple):
    def value(self, raw, y):
        return np.inf if raw > y else -np.inf if raw < y else np.nan


class Wrapping(NamedTuple):
    """A formula of the part inside, and a constant of its class."""

    loss: tuple = Huber(2.0)
    wraps = "loss"

    def value(self, raw, y):
        inside = self.loss
        return self.loss.value(raw, y) - inside.epsilon * inside.curvature


CONSTRUCTS = [Constants, Names, Branches, Counting, Masks, Functions, OfPython, Infinite, Wrapping, made_of(4.0)]
CONSTRUCTS = [type(cls.__name__, (Loss, cls), {})() for cls in CONSTRUCTS]

KERNEL = """
extern "C" __global__ void run_LOSS(const double* numbers, const T* raw, const T* y, T* out, long long n) {
    const LOSS loss(numbers);
    for (long long i = 0; i < n; ++i) out[i] = loss.value(raw[i], y[i]);
}
"""


@functools.cache
def program(dtype: np.dtype) -> str:
    names = {type(loss).__name__: loss for loss in CONSTRUCTS}
    return structs(names, dtype) + "".join(KERNEL.replace("LOSS", name) for name in names)


@functools.cache
def module(dtype: np.dtype) -> cupy.RawModule:
    if cupy.COMPILER is None:
        pytest.skip(cupy.NO_COMPILER)
    return cupy.RawModule(code=program(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("loss", CONSTRUCTS, ids=lambda loss: type(loss).__name__)
def test_constructs_mean_what_they_mean_in_python(loss, dtype):
    assert not why_not(loss)
    raw, y = (cases.astype(dtype) for cases in CASES)
    out = cupy.empty(len(raw), dtype)
    arrays = cupy.asarray(numbers(loss)), cupy.asarray(raw), cupy.asarray(y), out
    module(dtype).get_function(f"run_{type(loss).__name__}")((1,), (1,), (*arrays, len(raw)))
    with np.errstate(all="ignore"):
        expected = np.array([loss.value(*case) for case in zip(raw, y, strict=True)], dtype)
    np.testing.assert_allclose(cupy.asnumpy(out), expected, rtol=DTYPES[dtype], atol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nvidia_accepts_constructs(dtype):
    code, log = nvrtc.compile(program(dtype), "sm_80")
    assert code[:4] == b"\x7fELF"
    assert not log


# -- what has no translation


def looping(raw):
    while raw > 1.0:
        raw = 0.5 * raw
    return raw


class Untranslated(NamedTuple):
    """A value, by the name of a method below."""

    scale: float = 1.0

    def a_loop_without_a_range(self, raw, y):
        while raw > 1.0:
            raw = 0.5 * raw
        return raw

    def a_loop_over_something(self, raw, y):
        for sign in (-1.0, 1.0):
            raw = raw * sign
        return raw

    def a_function_without_a_translation(self, raw, y):
        return np.hypot(raw, y)

    def a_function_of_this_module(self, raw, y):
        return looping(raw)

    def an_argument_by_name(self, raw, y):
        return np.sum(raw, axis=y)

    def too_many_arguments(self, raw, y):
        return np.exp(raw, y)

    def an_integer_quotient(self, raw, y):
        return raw // y

    def a_text(self, raw, y):
        return raw if self.scale == "one" else y

    def an_array(self, raw, y):
        return np.array([raw, y])[0]

    def a_number_of_two_kinds(self, raw, y):
        pair = raw, y
        if raw > y:
            pair = raw
        return pair

    def a_variable_after_its_loop(self, raw, y):
        for k in range(3):
            y = k * raw
        return y * k

    def a_missing_result(self, raw, y):
        if raw > y:
            return raw

    def an_error(self, raw, y):
        if raw > y:
            raise ValueError("too large")
        return raw

    def a_field_that_does_not_exist(self, raw, y):
        return self.size * raw

    def a_pair(self, raw, y):
        return raw, y

    def other_parameters(self, raw):
        return raw

    def an_optional_parameter(self, raw, y=0.0):
        return raw - y


WORDS = {
    "a_loop_without_a_range": "`while raw > 1.0:`",
    "a_loop_over_something": "`for sign in (-1.0, 1.0):`",
    "a_function_without_a_translation": "`np.hypot(raw, y)`",
    "a_function_of_this_module": "`looping(raw)`",
    "an_argument_by_name": "`np.sum(raw, axis=y)`",
    "too_many_arguments": "`np.exp(raw, y)`",
    "an_integer_quotient": "`raw // y`",
    "a_text": "`'one'`",
    "an_array": "`[raw, y]`",
    "a_number_of_two_kinds": "`pair = raw`",
    "a_variable_after_its_loop": "`k`",
    "a_missing_result": "an end without a return",
    "an_error": "`raise ValueError('too large')`",
    "a_field_that_does_not_exist": "`self.size * raw`",
    "a_pair": "`return (raw, y)`",
    "other_parameters": "the parameters (self, raw)",
    "an_optional_parameter": "the parameters (self, raw, y=0.0)",
}


def test_every_method_is_one_of_the_cases():
    assert list(WORDS) == [name for name, one in vars(Untranslated).items() if name[0] != "_" and name in WORDS]


@pytest.mark.parametrize("name", WORDS)
def test_what_has_no_translation_is_named(name):
    loss = type("Mine", (Loss, Untranslated), {"value": getattr(Untranslated, name)})()
    assert why_not(loss) == f"Mine.value: {WORDS[name]} has no translation"
    assert not has_cuda(loss)
    assert not has_cuda(EachOutput(loss))
    assert why_not(EachOutput(loss)) == why_not(loss)


class OfRows(NamedTuple):
    curvature = 1.0
    task = "regression"


def all_at_once(self, raw, y, out):
    out[:] = raw - y
    return 0.5 * np.sum(out * out)


def by_the_number_of_targets(self, raw, y, out):
    for k in range(y.shape[0]):
        out[k] = raw[k] - y[k]
    return 0.0


def at_a_number(self, raw, y, out):
    out[y[0]] = 1.0
    return 0.0


def into_the_outputs(self, raw, y, out):
    raw[0] = 0.0
    return 0.0


def from_the_end(self, raw, y, out):
    out[-1] = raw[-1] - y[-1]
    return 0.0


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (all_at_once, "`raw - y`"),
        (by_the_number_of_targets, "`y.shape`"),
        (at_a_number, "`out[y[0]] = 1.0`"),
        (into_the_outputs, "`raw[0] = 0.0`"),
        (from_the_end, "`y[-1]`"),
    ],
)
def test_what_has_no_translation_in_a_loss_of_rows(formula, words):
    loss = type("Mine", (OfRows,), {"value_gradient": formula})()
    assert why_not(loss) == f"Mine.value_gradient: {words} has no translation"


def test_a_field_that_is_no_number():
    assert why_not(Huber("0.1")) == "Huber.epsilon: '0.1' is not a number"
    assert why_not(EachOutput(Huber(None))) == "Huber.epsilon: None is not a number"


# -- sources


FORMULAS = """
from typing import NamedTuple

class Mine(NamedTuple):
    curvature = 1.0
    task = "regression"

    def value(self, raw, y):
        return 0.5 * (raw - y) * (raw - y)

    def gradient(self, raw, y):
        return raw - y
"""


def test_a_source_that_cannot_be_read():
    names = {"__name__": "typed"}
    exec(FORMULAS, names)
    assert why_not(names["Mine"]()) == "Mine.value: a source that cannot be read has no translation"


def test_a_source_that_is_kept_by_an_interpreter():
    """As notebooks and doctests do."""
    linecache.cache["<cell 1>"] = len(FORMULAS), None, FORMULAS.splitlines(keepends=True), "<cell 1>"
    names = {"__name__": "typed"}
    exec(compile(FORMULAS, "<cell 1>", "exec"), names)
    assert has_cuda(names["Mine"]())


@pytest.mark.parametrize(
    ("old", "new"), [("0.5 * (raw", "0.25 * (raw"), ("\n    curvature", "\n    #\n    curvature"), ("- y)", "- 1)")]
)
def test_a_source_that_has_changed_since(old, new, tmp_path, monkeypatch):
    path = tmp_path / "module_of_mine.py"
    path.write_text(FORMULAS)
    spec = importlib.util.spec_from_file_location("module_of_mine", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "module_of_mine", module)
    spec.loader.exec_module(module)
    path.write_text(FORMULAS.replace(old, new))
    linecache.checkcache()
    assert "Mine.value: a source that " in why_not(module.Mine())


def twice(formula):
    """What decorates a formula is not in its source."""

    @functools.wraps(formula)
    def value(self, raw, y):
        return 2.0 * formula(self, raw, y)

    return value


class Decorated(SquaredError):
    @twice
    def value(self, raw, y):
        return raw - y


class WithoutName(SquaredError):
    value = lambda self, raw, y: raw - y  # noqa: E731


def test_functions_that_are_other_ones_than_their_source_shows():
    for loss in (Decorated(), type("Assigned", (SquaredError,), {"value": twice(SquaredError.value)})(), WithoutName()):
        assert not has_cuda(loss)
    assert why_not(type("Builtin", (SquaredError,), {"value": np.add})()).endswith(
        "which is no function in Python has no translation"
    )


# -- bodies of one's own


class Written(Huber):
    """A body for a formula that is not its own."""

    cuda = {"value": "return T(3);"}


class Overriding(Written):
    """A formula that the body above does not belong to."""

    def value(self, raw, y):
        return self.epsilon * (raw - y)


class Both(Overriding):
    """A body and the formula."""

    cuda = {"value": "return T(4);"}

    def value(self, raw, y):
        return np.hypot(raw, y)


def body_of(part, verb: str) -> str:
    """The statements of a function in the struct of a part."""
    text = structs({"Part": part}, np.float64)
    return text.split(f"HD T {verb}(")[1].split("{\n")[1].split("\n    }")[0].strip()


def test_a_body_of_its_own_is_taken():
    assert body_of(Written(), "value") == "return T(3);"
    assert body_of(Written(), "gradient") == body_of(Huber(), "gradient")
    assert body_of(Both(), "value") == "return T(4);"
    assert [list(cls.cuda) for cls in (Tanh, ELU)] == [["activate"]] * 2


def test_a_formula_that_overrides_another_has_its_own_body():
    assert body_of(Overriding(), "value") == "return epsilon * (raw - y);"
    assert body_of(Overriding(), "gradient") == body_of(Huber(), "gradient")
    assert body_of(type("Same", (Both,), {})(), "value") == "return T(4);"


def test_a_formula_that_calls_the_one_it_overrides_has_none():
    class Doubled(Huber):
        def value(self, raw, y):
            return 2.0 * Huber.value(self, raw, y)

    assert why_not(Doubled()) == "Doubled.value: `Huber.value(self, raw, y)` has no translation"


# -- names


def test_names_that_mean_something_in_cuda():
    defined = set(HELPERS.replace("(", " ").split()) & {name for name in FUNCTIONS.values()}
    assert {"larger", "smaller"} <= defined
    for name in (*defined, "double", "T", "ROWS", "n_slots", "infinite", "exp"):
        assert identifier(name) == f"{name}_"
    for name in ("scale", "beta_1", "raw", "x2"):
        assert identifier(name) == name
    assert identifier("größe").isascii()
