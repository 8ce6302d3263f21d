"""What parts declare: every registered part has what its kind asks for, as its kind describes it."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import numpy as np
import pytest

from skminibatch.contract.check import checked
from skminibatch.contract.domains import AT_LEAST_ZERO, FINITE, LIMIT, MEASURED, POSITIVE, SHARE, WHOLE, Interval, OneOf
from skminibatch.contract.kinds import (
    ACTIVATION,
    KINDS,
    LOSS,
    NORMALIZATION,
    OPTIMIZER,
    PENALTY,
    RATE_SCHEDULE,
    ROWWISE_LOSS,
    SAMPLER,
    SCALING_RULE,
    SIZE_CHOICE,
    SIZE_SCHEDULE,
    InvalidPart,
    around,
    declaration,
    declared,
    declares,
    domains_of,
    field_inside,
    inside,
)
from skminibatch.layers import ACTIVATIONS, NORMALIZATIONS
from skminibatch.losses import LOSSES, ROWWISE_LOSSES, EachOutput, Hinge, Huber, OneVsRest, Poisson
from skminibatch.optimizers import OPTIMIZERS, SGD, Adam, Averaging, Momentum, ScheduleFree
from skminibatch.penalties import ElasticNet
from skminibatch.samplers import SAMPLERS
from skminibatch.schedules import SCALING_RULES, SCHEDULES, SIZE_SCHEDULES, AutoSize, Cosine

REGISTERED = [
    *((cls, LOSS) for cls in LOSSES.values()),
    *((cls, ROWWISE_LOSS) for cls in (*ROWWISE_LOSSES.values(), EachOutput, OneVsRest)),
    (ElasticNet, PENALTY),
    *((cls, OPTIMIZER) for cls in (*OPTIMIZERS.values(), Averaging)),
    *((cls, RATE_SCHEDULE) for cls in SCHEDULES.values()),
    *((cls, SIZE_CHOICE if cls is AutoSize else SIZE_SCHEDULE) for cls in SIZE_SCHEDULES.values()),
    *((cls, SCALING_RULE) for cls in SCALING_RULES.values()),
    *((cls, SAMPLER) for cls in SAMPLERS.values()),
    *((cls, ACTIVATION) for cls in ACTIVATIONS.values()),
    *((cls, NORMALIZATION) for cls in NORMALIZATIONS.values()),
]
every_part = pytest.mark.parametrize(("cls", "kind"), REGISTERED, ids=lambda case: getattr(case, "__name__", ""))


def arguments(text: str) -> str | None:
    """The arguments in the description of a member, None where it is no method."""
    call = text.split(":")[0]
    return call[call.index("(") + 1 : -1] if "(" in call else None


@every_part
def test_a_registered_part_is_of_its_kind(cls, kind):
    within = None if field_inside(cls) is None else declaration(Huber if kind is ROWWISE_LOSS else SGD)
    assert declaration(cls, within).kind is kind


@every_part
def test_members_are_called_as_their_kind_describes(cls, kind):
    texts = kind.required | {name: ability.text for name, ability in kind.abilities.items()}
    for name, text in texts.items():
        member = inspect.getattr_static(cls, name, None)
        member = member.__func__ if isinstance(member, staticmethod) else member
        if not inspect.isfunction(member):
            continue
        names = [name for name in inspect.signature(member).parameters if name != "self"]
        names[-1:] = ["statistic"] if kind is SCALING_RULE else names[-1:]  # by its own name
        assert arguments(text) == ", ".join(names), name


@every_part
def test_every_hyper_parameter_has_a_domain_that_its_default_is_in(cls, kind):
    domains = domains_of(cls)
    assert set(domains) | {field_inside(cls)} == {*cls._fields, field_inside(cls)}
    for name, default in cls._field_defaults.items():
        assert domains[name].includes(default) or default is None or (cls is Cosine and name == "horizon")


@every_part
def test_what_kernels_read_is_class_data(cls, kind):
    for name, ability in kind.abilities.items():
        if ability.by_type and name in vars(cls):
            assert not isinstance(vars(cls)[name], property)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_required_members_are_enough(kind):
    """Of a class with them alone, every ability is the default."""
    part = type("Least", (NamedTuple("Least", []),), {name: lambda self: 0 for name in kind.required})()
    assert declared(part).kind is kind
    for name, ability in kind.abilities.items():
        assert not declared(part).brings(name)
        value = getattr(declared(part), name)
        assert getattr(value, "__func__", value) == ability.default


# -- a part around another one


def test_abilities_of_a_part_around_another_one():
    poisson, hinge = declared(EachOutput(Poisson())), declared(OneVsRest(Hinge()))
    assert poisson.link == "log"
    assert poisson.curvature is None
    assert hinge.task == "classification"
    assert declared(EachOutput(Huber())).curvature == 1.0
    average = declared(Averaging(Momentum()))
    assert average.slot_exponents == (1, -1)
    assert average.n_coefficients == 2
    assert average.linear
    assert not average.lazy_l1
    assert average.auto_multiple() == Momentum().auto_multiple()


def test_a_formula_for_that_of_the_part_inside_counts_where_there_is_one():
    assert declared(EachOutput(Poisson())).brings("stiffness")
    assert not declared(EachOutput(Huber())).brings("stiffness")
    assert declared(Averaging(ScheduleFree())).brings("point")
    assert not declared(Averaging(SGD())).brings("point")
    assert declared(Averaging(SGD())).brings("follow")


def test_the_part_inside_is_named_by_class_data():
    assert inside(Averaging(Adam())) == Adam()
    assert inside(Huber()) is None
    assert around(Averaging(Adam(), 3.0), SGD()) == Averaging(SGD(), 3.0)


# -- declarations


def test_class_data_of_no_kind_is_refused():
    with pytest.raises(TypeError, match="'curvatrue' is no class data of any kind of part"):
        declares(curvatrue=1.0)


def test_an_ability_of_another_kind_is_an_error():
    with pytest.raises(AttributeError, match="a loss declares no 'slot_exponents'"):
        declared(Huber()).slot_exponents  # noqa: B018


def test_a_tuple_without_members_is_no_part():
    with pytest.raises(InvalidPart, match="tuple is no part"):
        declared(())


# -- checks


def outside(domain):
    """Values that are not in a domain."""
    if isinstance(domain, Interval):
        yield from ("1", np.nan, True)
        yield from [domain.low - 1.0] if np.isfinite(domain.low) else []
        yield from [domain.high + 1.0] if np.isfinite(domain.high) else []
        yield from [1.5] if domain.whole else []
    else:
        yield 3.5


@pytest.mark.parametrize(
    ("cls", "kind", "field", "value"),
    [
        (cls, kind, field, value)
        for cls, kind in REGISTERED
        for field, domain in domains_of(cls).items()
        for value in outside(domain)
    ],
)
def test_a_hyper_parameter_outside_its_domain_is_named(cls, kind, field, value):
    needed = [name for name in cls._fields if name not in cls._field_defaults]
    others = {name: ((0, 8),) if domains_of(cls).get(name) is MEASURED else 1.0 for name in needed}
    part = cls(**{**others, field: value}) if field_inside(cls) is None else cls(SGD(), value)
    with pytest.raises(InvalidPart, match=f"The '{field}' of {cls.__name__} in the 'x' parameter must be .* Got "):
        checked(part, kind, "x")


def test_hyper_parameters_of_the_part_inside_are_checked():
    with pytest.raises(ValueError, match="The 'beta_1' of Adam in the 'solver' parameter must be"):
        checked(Averaging(Adam(beta_1=7)), OPTIMIZER, "solver")


def test_numbers_become_floats_unless_they_are_whole():
    """An integer would be another type, and another kernel."""
    assert isinstance(checked(Momentum(0), OPTIMIZER, "solver").momentum, float)
    assert isinstance(checked(Averaging(Momentum(0), 5), OPTIMIZER, "solver").inner.momentum, float)
    assert isinstance(checked(SAMPLERS["blocks"](np.int32(8)), SAMPLER, "sampler").block, int)


@pytest.mark.parametrize(
    ("domain", "within", "without", "words"),
    [
        (SHARE, [0, 0.5], [-0.1, 1, 1.0], "a float in the range [0.0, 1.0)"),
        (POSITIVE, [1e-300, 3], [0, np.inf], "a float in the range (0.0, inf)"),
        (AT_LEAST_ZERO, [0], [-1, np.inf], "a float in the range [0.0, inf)"),
        (FINITE, [-1e300], [np.inf, -np.inf], "a float in the range (-inf, inf)"),
        (LIMIT, [1, np.inf], [0.5], "a float in the range [1.0, inf]"),
        (WHOLE, [1, np.int64(7)], [0, 1.0], "an int in the range [1, inf)"),
        (OneOf(("b", "a")), ["a"], ["c", 1], "a str among {'a', 'b'}"),
        (
            MEASURED,
            [((0, 1),), [(0, 8), (2.5, 1e9)]],
            [(), 5, "ab", ((0, 8), (0, 9)), ((0, 8, 1),), ((-1, 8),), ((0, 0.5),), ((0, np.inf),), ((0, "8"),), (0, 8)],
            "a tuple of pairs (rows seen, rows of a batch) in ascending order of the first",
        ),
    ],
)
def test_domains(domain, within, without, words):
    assert all(domain.includes(value) for value in within)
    assert not any(domain.includes(value) for value in without)
    assert str(domain) == words
