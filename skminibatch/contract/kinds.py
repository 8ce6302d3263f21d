"""What each kind of part has to bring, what it may bring, and what holds where it brings nothing.

A part is a ``NamedTuple`` of hyper-parameters. Its class has the *required* members of its kind, as methods or as class data,
and any of the *abilities*; for the others, the default of the kind holds. This module alone asks a class what it has: the rest
of the package reads ``declared(part)``, and kernels read `Declaration` when they are compiled.

Class data of every kind: ``domains``, a dict from the hyper-parameters to their domains (see `skminibatch.contract.domains`);
``wraps``, the field that holds another part, of a part around it, whose abilities it has where it does not bring its own;
``cuda``, for kinds with formulas, a dict from a formula to its body in CUDA C++, where the translation of the formula is not
good enough (see ``backends/gpu/source.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import FunctionType, MethodType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from skminibatch.contract import neutral
from skminibatch.contract.domains import InvalidPart
from skminibatch.contract.typing import AnyPart

C = TypeVar("C", bound=type)
DATA = (bool, int, float, str, tuple, frozenset, type(None))  # of which class data are made

# How a part around another one comes to an ability that it brings, and to one that it does not bring.
INHERITED = "inherited"  # its own, else that of the part inside
OWN = "own"  # its own, else the default
SHARED = "shared"  # its own if the part inside brings one too, else the default
ADDED = "added"  # its own after that of the part inside


class Ability(NamedTuple):
    """What a part may bring: the default where it does not, what it is, and what a part around another one has.

    ``by_type``: kernels read it when they are compiled, from the class alone, so that it cannot be a field or a property.
    """

    default: object
    text: str
    around: str = INHERITED
    by_type: bool = False


class Kind(NamedTuple):
    """A kind of part: its name, and what each required member and each ability is."""

    name: str
    required: dict[str, str]
    abilities: dict[str, Ability]

    def __str__(self) -> str:
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    @property
    def members(self) -> str:
        """The required members, as they are called."""
        return ", ".join(text.split(": ")[0] for text in self.required.values())


# -- the defaults that read other declarations


def _bounded_by_curvature(self, raw, y):
    # with kinks: one step moves a raw output by at most the slope of the loss
    curvature = declared(self).curvature
    return 1.0 if curvature is None else float(curvature)


def _second_derivative_along(self, raw, y, direction):
    return declared(self).second_derivative(raw, y.reshape(raw.shape)) * direction


def _smooth_value(self, w):
    if declared(self).nonsmooth:
        raise InvalidPart(f"{type(self).__name__} has no smooth_value(w), the value of its smooth part alone.")
    return self.value(w)


def _penalty_curvature(self, w):
    if declared(self).quadratic:
        return self.gradient(1.0)
    raise InvalidPart(f"{type(self).__name__} has no second_derivative(w), which a Hessian needs.")


# -- the kinds


_OF_ANY_LOSS = {
    "curvature": Ability(None, "upper bound of the second derivative; None: there is none", by_type=True),
    "convex": Ability(True, "whether the loss is convex in the raw outputs: without it there is no duality"),
    "task": Ability("regression", "'regression' or 'classification': the targets that it is for"),
    "link": Ability(
        "identity", "the link from predictions to raw outputs: 'identity', 'log', 'logit' or 'multinomial logit'"
    ),
}
LOSS = Kind(
    "loss",
    {
        "value": "value(raw, y): the loss of one raw output",
        "gradient": "gradient(raw, y): its derivative with respect to the raw output",
    },
    {
        **_OF_ANY_LOSS,
        "stiffness": Ability(
            _bounded_by_curvature,
            "stiffness(raw, y): bound of the second derivative at a raw output, where there is no `curvature`",
            SHARED,
        ),
        "second_derivative": Ability(
            neutral.no_second_derivative, "second_derivative(raw, y): of arrays, zero at kinks; for diagnostics", OWN
        ),
        "hessian_product": Ability(
            _second_derivative_along, "hessian_product(raw, y, direction): second derivatives times a direction", OWN
        ),
        "baseline": Ability(None, "baseline(y, weights): the best constant raw output; of labels, of each column of y"),
        "targets": Ability(None, "the domain of y, where not every number is valid"),
        "probability": Ability(None, "probability(raw): of the label 1 rather than -1, where the loss has one"),
        "log_probability": Ability(None, "log_probability(raw): its logarithm; that of the label -1 is at -raw"),
        "of_classes": Ability(None, "of_classes(): the row-wise loss of several classes; None: one against the rest"),
    },
)
ROWWISE_LOSS = Kind(
    "row-wise loss",
    {"value_gradient": "value_gradient(raw, y, out): the loss of a row of raw outputs; its gradient goes to `out`"},
    {
        **_OF_ANY_LOSS,
        "stiffness": Ability(
            _bounded_by_curvature,
            "stiffness(raw, y): bound of the eigenvalues of the second derivative of a row",
            SHARED,
        ),
        "hessian_product": Ability(neutral.no_hessian_product, "hessian_product(raw, y, direction): of rows", OWN),
        "separated": Ability(None, "separated(y, n_outputs): (the loss of one, targets (n, K)) of a sum of such", OWN),
        "baseline": Ability(None, "baseline(y, weights, n_outputs): the best constant raw outputs (K,)", OWN),
        "proximal": Ability(
            neutral.no_proximal,
            "proximal(raw, y, weight, q, dual, out, work): `proximal_point` of a row, to `out`",
            OWN,
        ),
        "probabilities": Ability(None, "probabilities(raw): (n, K), where the loss gives those of all classes", OWN),
        "log_probabilities": Ability(None, "log_probabilities(raw): their logarithms", OWN),
    },
)
LOSS_OF_ROWS = Kind(
    "loss of several rows at once",
    {
        "values_residuals": "values_residuals(raw, y): the losses of some rows (b,) and their derivatives (b, K)",
    },
    _OF_ANY_LOSS,
)
PENALTY = Kind(
    "penalty",
    {
        "value": "value(w): the penalty of a coefficient",
        "gradient": "gradient(w): the derivative of its smooth part",
        "prox": "prox(w, step): the proximal map of the rest",
    },
    {
        "nonsmooth": Ability(True, "whether there is a rest: `prox` changes something"),
        "threshold": Ability(
            None, "t, where `prox` takes ``step * t`` from ``|w|``: what sparse rows catch up with; None: another map"
        ),
        "smooth_value": Ability(_smooth_value, "smooth_value(w): the value of the smooth part alone"),
        "quadratic": Ability(False, "whether the gradient is ``gradient(1) * w``"),
        "second_derivative": Ability(_penalty_curvature, "second_derivative(w): of the smooth part; for diagnostics"),
        "curvature": Ability(None, "upper bound of the second derivative of the smooth part, if it is not quadratic"),
        "convexity": Ability(0.0, "lower bound of the second derivative of the smooth part, if it is not quadratic"),
    },
)
OPTIMIZER = Kind(
    "optimizer",
    {
        "coefficients": "coefficients(rates, sizes, memory): ((S, k), memory) for the steps of a chunk, on the host",
        "update": "update(w, g, slots, c): (w, slots, step) of one coordinate; `step` is what the proximal map gets",
    },
    {
        "follow": Ability(neutral.slots_as_they_are, "follow(w, slots, c): the slots after the proximal map", OWN),
        "point": Ability(neutral.at_the_parameters, "point(w, slots, c): where the gradient is taken", SHARED),
        "result": Ability(neutral.parameters_as_they_are, "result(w, slots): the parameters used for prediction", OWN),
        "slot_exponents": Ability(
            (),
            "the unit of each slot: -1 scales as a parameter does, 1 as a gradient, 2 as its square",
            ADDED,
            by_type=True,
        ),
        "n_coefficients": Ability(1, "k, what `update` reads in each step; the first is the rate", ADDED, by_type=True),
        "linear": Ability(False, "whether `update` is linear in (w, slots, g)"),
        "lazy_l1": Ability(False, "whether in addition w does not depend on the slots"),
        "decoupled": Ability(
            False, "whether the smooth penalty shrinks w instead of entering the gradient", by_type=True
        ),
        "per_row": Ability(
            False,
            "whether g is what the gradients of the rows changed by since each was used: a residual per row is stored",
        ),
        "dual": Ability(False, "whether what is stored are dual variables, and a row's step is the best along them"),
        "of_objective": Ability(
            neutral.unchanged_by_objective,
            "of_objective(n_rows, n_visits, ridge, spread, pull, l1, accelerated): a dual one for it",
        ),
        "auto_rate": Ability(
            None, "the constant rate of learning_rate='auto'; None: `auto_multiple` over the smoothness"
        ),
        "auto_multiple": Ability(
            neutral.no_automatic_rate, "auto_multiple(): of learning_rate='auto', where rate and smoothness go"
        ),
        "forget": Ability(None, "forget(memory): that of an average that begins anew at the parameters"),
        "for_rows": Ability(neutral.unchanged_by_rows, "for_rows(n_rows): the optimizer for this number of rows"),
        "for_batches": Ability(
            None, "for_batches(k): on batches k times as large, close to the same path; the rules of Adam hold for it"
        ),
        "in_rows": Ability(None, "in_rows(base): with the half-life in rows that it has on batches of `base` rows"),
    },
)
RATE_SCHEDULE = Kind(
    "rate schedule",
    {"rates": "rates(samples, state): the rate of each step from the samples before it"},
    {
        "needs_horizon": Ability(False, "whether it ends with `fit`, so that a stream cannot use it"),
        "falls_after_a_rise": Ability(
            False,
            "whether the rate is to fall, which counts up ``state.reductions``, after an epoch with a rising objective",
        ),
        "at_standstill": Ability(
            None,
            "at_standstill(state): why training ends where it no longer improves, or an empty text where the rate is to fall, "
            "which counts up ``state.reductions``",
        ),
    },
)
SIZE_SCHEDULE = Kind(
    "batch-size schedule",
    {
        "sizes": "sizes(memory, state, n_rows, n_steps): (the sizes of the next steps, memory)",
        "start": "start: the first size",
    },
    {
        "largest": Ability(np.inf, "the size at which a schedule ends"),
        "anneals": Ability(False, "whether growing batches replace a falling rate, which then falls from `largest` on"),
        "constant": Ability(False, "whether all sizes are `start`"),
        "reads": Ability(
            (),
            "what the state has to show after each chunk: 'loss' and 'variance' (of rows) in ``state.batches``, 'rows' (those of "
            "the last batch) in ``state.row_products``",
        ),
        "follows_rate": Ability(False, "whether sizes follow the schedule of rates, which is ``state.rates(samples)``"),
    },
)
SIZE_CHOICE = Kind(
    "choice of the batch size",
    {
        "chosen": "chosen(noise, n_rows, row_length, kind, goal): the `SizeChoice` for a `PilotNoise`",
        "step_costs": "step_costs(kind): the table of step costs for a kind of rows",
    },
    {},
)
SCALING_RULE = Kind(
    "scaling rule",
    {"factor": "factor(batch_size, base_batch_size, statistic): what the rate is multiplied with"},
    {
        "reads": Ability(None, "the statistic in the state of training: 'noise_scale', 'peak_batch_size' or None"),
        "for_adam": Ability(False, "whether it is for the steps of Adam"),
        "moves_optimizer": Ability(None, "by which of its abilities an optimizer changes: 'for_batches' or 'in_rows'"),
    },
)
SAMPLER = Kind(
    "sampler",
    {
        "start": "start(n_rows, rows, seed, epoch, strata): the memory before the first draw",
        "draw": "draw(memory, sizes): (order, weights or None, memory); the weights keep the gradient unbiased",
    },
    {
        "one_population": Ability(False, "whether each row of a batch is drawn at random from all rows in use"),
        "without_replacement": Ability(False, "whether no row comes twice in a batch"),
        "weighs_rows": Ability(False, "whether `draw` gives weights, one per position"),
        "needs_strata": Ability(False, "whether `start` needs the stratum of each row"),
        "strata_from_targets": Ability(False, "whether the strata may come from the targets"),
        "strata": Ability(None, "strata(X): the stratum of each row, where `fit` is given none"),
        "observe": Ability(
            neutral.memory_as_it_is, "observe(memory, gradients): the memory, between chunks, see `Gradients`"
        ),
        "needs_row_bounds": Ability(False, "whether `observe` reads bounds of the curvature of rows"),
        "tempered": Ability(neutral.smoothness_as_it_is, "tempered(smoothness): that of the weighted rows"),
        "smallest_batch": Ability(
            neutral.single_rows, "smallest_batch(memory): rows of the smallest batch that it draws"
        ),
    },
)
ACTIVATION = Kind(
    "activation",
    {
        "activate": "activate(z): the output of a unit",
        "slope": "slope(z, a): its derivative at z, where the output is a",
    },
    {
        "spread": Ability(1.0, "the variance of initial weights times their number per unit: about 1 / mean(slope^2)"),
        "balanced": Ability(
            True, "whether initial weights depend on the units of both layers, not on those before alone"
        ),
    },
)
NORMALIZATION = Kind(
    "normalization",
    {
        "start": "start(n): (parameters, running statistics) of n units",
        "forward": "forward(X, parameters, running, weights, train): (the output, its backward map)",
        "couples_rows": "couples_rows: whether in training an output depends on the other rows of its batch",
    },
    {
        "absorbs_intercept": Ability(False, "whether an intercept before it would have no effect"),
        "pooling": Ability(
            neutral.none, "pooling(n): the `Pooling` that `forward` follows, as kernels do; None: none does"
        ),
        "exact": Ability(False, "whether `fit` ends with the moments of all training rows in place of running ones"),
        "rates": Ability(neutral.rates_of_one, "rates(n): what the rate of each parameter is multiplied with"),
        "sizes": Ability(
            neutral.unnamed_sizes, "sizes(n): names and numbers of the parameters, then of the running statistics"
        ),
        "derived": Ability(
            neutral.nothing_derived, "derived(numbers): more to show, by name, from what is named by `sizes`"
        ),
        "affine": Ability(
            neutral.none, "affine(numbers): (scale, shift) of units in predictions; None: it is another map"
        ),
    },
)
KINDS: tuple[Kind, ...] = (
    LOSS,
    ROWWISE_LOSS,
    LOSS_OF_ROWS,
    PENALTY,
    OPTIMIZER,
    RATE_SCHEDULE,
    SIZE_SCHEDULE,
    SIZE_CHOICE,
    SCALING_RULE,
    SAMPLER,
    ACTIVATION,
    NORMALIZATION,
)
KNOWN = {"domains", "wraps", "cuda"}.union(*([*kind.required, *kind.abilities] for kind in KINDS))


def declares(**data: Any) -> Callable[[C], C]:
    """Class data and abilities of a part, as a decorator of its class: as assignments in its body, for type checkers too.

    A type checker takes what is assigned in the body of a named tuple for fields.

    Examples
    --------
    >>> from typing import Any, NamedTuple, TypeVar
    >>> from skminibatch.contract.domains import POSITIVE
    >>> @declares(curvature=1.0, domains={"scale": POSITIVE})
    ... class LogCosh(NamedTuple):
    ...     scale: float = 1.0
    >>> LogCosh.curvature
    1.0
    """
    unknown = sorted(set(data) - KNOWN)
    if unknown:
        raise TypeError(f"{unknown[0]!r} is no class data of any kind of part.")

    def with_data(cls: C) -> C:
        for name, value in data.items():
            setattr(cls, name, value)
        return cls

    return with_data


# -- what a part declares


def has(cls: type, member: str) -> bool:
    """Whether a class has a member: the only place that asks."""
    return hasattr(cls, member)


def fits(cls: type, kind: Kind) -> bool:
    """Whether a class has the required members of a kind."""
    return all(has(cls, member) for member in kind.required)


def has_its_own(cls: type, member: str, other: str) -> bool:
    """Whether a class has a member from the same class as another one or from a class below: that is not overridden alone."""
    levels = [[name in vars(base) for base in cls.__mro__].index(True) for name in (member, other)]
    return levels[0] <= levels[1]


class Declaration:
    """What a class of parts declares, defaults filled in; `inside` is the declaration of the part inside, or None."""

    def __init__(self, cls: type, inside: Declaration | None):
        kinds = [kind for kind in KINDS if fits(cls, kind)]
        if not kinds:
            raise InvalidPart(
                f"{cls.__name__} is no part: it has the members of no kind ({', '.join(kind.name for kind in KINDS)})."
            )
        self.cls, self.inside, self.kind = cls, inside, max(kinds, key=lambda kind: len(kind.required))
        brought = {name: has(cls, name) for name in self.kind.abilities}
        self._source = {name: self._source_of(name, brought[name]) for name in brought}
        self.constants = dict(self._constants())
        names = {"__slots__": (), "_declaration": self, "_brought": {name: self.brings(name) for name in brought}}
        self.view = type("Declared", (Declared,), {**names, **self.constants})

    def _constants(self) -> Iterator[tuple[str, Any]]:
        """The members that are the same for all parts of the class: neither methods nor hyper-parameters."""
        for name in (*self.kind.required, *self.kind.abilities):
            source = self._source.get(name, "own")
            if source == "inside" and self.inside is not None and name in self.inside.constants:
                yield name, self.inside.constants[name]
            elif source in ("own", "default") and isinstance(self[name], DATA):
                yield name, self[name]

    def _source_of(self, name: str, brought: bool) -> str:
        around, inside = self.kind.abilities[name].around, self.inside
        if inside is None or name not in inside.kind.abilities:
            return "own" if brought else "default"
        if around == ADDED:
            return "added" if brought else "inside"
        if around == SHARED:
            return "own" if brought and inside.brings(name) else "default"
        if brought:
            return "own"
        return "inside" if around == INHERITED else "default"

    def brings(self, ability: str) -> bool:
        """Whether the part, or the one inside that stands in for it, brings the ability itself."""
        source = self._source[ability]
        if source == "inside" and self.inside is not None:
            return self.inside.brings(ability)
        return source != "default"

    def __getitem__(self, name: str) -> Any:
        """A required member or an ability, as the class has it."""
        source = "own" if name in self.kind.required else self._source[name]
        if source == "own":
            return getattr(self.cls, name)
        if source == "default" or self.inside is None:
            return self.kind.abilities[name].default
        return self.inside[name] if source == "inside" else self.inside[name] + getattr(self.cls, name)

    def of(self, part, name: str) -> Any:
        """A required member or an ability of a part of this class."""
        source = "own" if name in self.kind.required else self._source.get(name)
        if source == "own":
            return getattr(part, name)
        if source == "inside" and self.inside is not None:
            return self.inside.of(inside(part), name)
        if source is None:
            raise AttributeError(f"{self.kind} declares no {name!r}.")
        member = self[name]
        return MethodType(member, part) if isinstance(member, FunctionType) else member


class Declared:
    """What a part declares: its required members and its abilities, defaults filled in, as attributes.

    Each declaration has a class of its own, with its constants as class data: the loop of training reads them in each epoch.
    """

    __slots__ = ("_part",)
    _declaration: Declaration
    _brought: dict[str, bool]

    def __init__(self, part):
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return self._declaration.of(self._part, name)

    @property
    def kind(self) -> Kind:
        """The kind of the part."""
        return self._declaration.kind

    def brings(self, ability: str) -> bool:
        """Whether the part brings an ability, so that not the default of its kind holds."""
        return self._brought[ability]


def declared(part) -> Declared:
    """What a part declares.

    Examples
    --------
    >>> from skminibatch.optimizers import Averaging, Momentum
    >>> averaged = declared(Averaging(Momentum()))
    >>> averaged.slot_exponents, averaged.n_coefficients, averaged.linear
    ((1, -1), 2, True)
    >>> averaged.brings("follow"), averaged.brings("point")
    (True, False)
    """
    return declaration_of(part).view(part)


def declaration_of(part) -> Declaration:
    """The declaration of the class of a part and of those inside it."""
    cls: Any = type(part)
    name = field_inside(cls)
    return declaration(cls) if name is None else declaration(cls, declaration_of(getattr(part, name)))


@cache
def declaration(cls: Any, inside: Declaration | None = None) -> Declaration:
    """The declaration of a class of parts, around a part with another declaration."""
    return Declaration(cls, inside)


def inside(part: AnyPart) -> Any:
    """The part inside another one, or None."""
    cls: Any = type(part)
    name = field_inside(cls)
    return None if name is None else getattr(part, name)


def around(part: AnyPart, new: AnyPart) -> Any:
    """The part with another one inside."""
    cls: Any = type(part)
    return part._replace(**{str(field_inside(cls)): new})


@cache
def field_inside(cls: Any) -> str | None:
    """The field that holds the part inside, or None."""
    return getattr(cls, "wraps", None)


@cache
def domains_of(cls: type) -> dict:
    """The domains of the hyper-parameters of a class."""
    return getattr(cls, "domains", {})
