"""From the value of a parameter to a part: an entry of a registry for a name, or the user's own instance, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils import check_consistent_length, column_or_1d

from skminibatch.backends.arrays import on_host
from skminibatch.contract import kinds
from skminibatch.contract.check import checked
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import gradient
from skminibatch.layers import ACTIVATIONS, NORMALIZATIONS
from skminibatch.losses import LOSSES, Logistic
from skminibatch.models.curvature import has_kink
from skminibatch.optimizers import OPTIMIZERS, Averaging, Momentum, Nesterov
from skminibatch.penalties import PENALTIES, ElasticNet
from skminibatch.samplers import SAMPLERS
from skminibatch.schedules import SCALING_RULES, SCHEDULES, SIZE_SCHEDULES, Auto, Constant, ConstantSize, Optimal

FALL_OF_AN_AVERAGE, FALL_OF_AN_ITERATE = (
    0.5,
    0.7,
)  # powers of the passes by which an automatic rate falls where noise stays
NETWORK_SOLVERS = sorted(name for name, cls in OPTIMIZERS.items() if not kinds.declaration(cls)["per_row"])


def named(registry: dict, name: str, parameter: str):
    """The entry of a registry.

    Raises
    ------
    ValueError
        With the valid names, sorted.
    """
    if name not in registry:
        names = ", ".join(map(repr, sorted(key for key in registry if key is not None)))
        raise ValueError(f"The {parameter!r} parameter must be a str among {{{names}}}. Got {name!r} instead.")
    return registry[name]


def part_of(value, registry: dict, kind: kinds.Kind, parameter: str):
    """The part of a name, or the given one."""
    return checked(_by_name(value, registry, parameter) if isinstance(value, str) else value, kind, parameter)


def _by_name(name: str, registry: dict, parameter: str):
    """The part of a name, with the defaults of its hyper-parameters."""
    cls = named(registry, name, parameter)
    needed = [field for field in cls._fields if field not in cls._field_defaults]
    if needed:
        raise ValueError(
            f"{parameter}={name!r} leaves {needed[0]!r} open, which has no default: use {parameter}={cls.__name__}("
            f"{needed[0]}=...)."
        )
    return cls()


def loss(value, **fields):
    """The loss of one output; `fields` are the flat parameters that configure it."""
    if isinstance(value, str):
        cls = named(LOSSES, value, "loss")
        value = cls(**{name: fields[name] for name in cls._fields if name in fields})
    return checked(value, kinds.LOSS, "loss")


def penalty(value, alpha: float, l1_ratio: float | None) -> tuple:
    """The elastic net of a name, or the given penalty."""
    if value is None:
        return ElasticNet(0.0, 0.0)
    if not isinstance(value, str):
        return checked(value, kinds.PENALTY, "penalty")
    share = named(PENALTIES, value, "penalty")
    share = l1_ratio if share is None else share
    if share is None:
        raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")
    return ElasticNet(float(alpha * (1 - share)), float(alpha * share))


def optimizer(value, average, default: str):
    """The optimizer of a solver, wrapped where an average of its iterates predicts."""
    if isinstance(value, str) and value == "auto":
        value = "sgd" if average else default
    part = part_of(value, OPTIMIZERS, kinds.OPTIMIZER, "solver")
    if not average:
        return part
    if declared(part).brings("result"):
        raise ValueError(
            f"average={average!r} cannot be combined with solver={value!r}, which predicts from an average already."
        )
    if declared(part).per_row:
        raise ValueError(
            f"average={average!r} cannot be combined with solver={name_of(part)!r}: its last iterate is the best."
        )
    return Averaging(part, float(average) if average is not True else 0.0)


def name_of(part) -> str:
    """The name of an optimizer that has a table."""
    return next((name for name, cls in OPTIMIZERS.items() if cls is type(part)), type(part).__name__)


def network_optimizer(estimator):
    """The optimizer of a network, by scikit-learn's parameters: 'sgd' has momentum, and 'auto' is Adam."""
    solver, adaptive = estimator.solver, {"beta_1", "beta_2", "epsilon"}
    if not isinstance(solver, str):
        part = optimizer(solver, False, default="adam")
        if declared(part).per_row:
            raise ValueError(
                f"solver={name_of(part)!r} stores a residual for each row and output, which needs a linear model."
            )
        refuse_unused(estimator, part._fields, "solver")
        return optimizer(solver, estimator.average, default="adam")
    if solver == "sgd" and estimator.momentum > 0:
        part = (Nesterov if estimator.nesterovs_momentum else Momentum)(estimator.momentum)
    else:
        cls = named(OPTIMIZERS, "adam" if solver == "auto" else solver, "solver")
        flat = adaptive | {"momentum"}
        part = cls(**{name: getattr(estimator, name) for name in cls._fields if name in flat})
    return optimizer(part, estimator.average, default="adam")


def refuse_unused(estimator, names, parameter: str) -> None:
    """Refuse a parameter among `names` that was set although `parameter` leaves nothing for it to do."""
    for name, default in type(estimator)().get_params().items():
        if name in names and getattr(estimator, name) != default:
            raise ValueError(
                f"{name}={getattr(estimator, name)!r} has no effect with {parameter}={getattr(estimator, parameter)!r}."
            )


def hidden_layers(value) -> list[int]:
    """Units of each hidden layer."""
    sizes = np.atleast_1d(value).tolist()
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}: a whole number for each hidden layer.")
    return [int(size) for size in sizes]


def schedule(value, *, optimizer, loss, alpha, eta0, power_t, horizon, warmup, noisy=True):
    """The learning-rate schedule; `horizon` in samples, None where there is none (`partial_fit`).

    `noisy`: a batch is not all rows, so that an automatic rate has to fall.
    """
    if declared(optimizer).dual and value != "auto":
        raise ValueError(f"learning_rate={value!r} has no effect with solver='sdca', which has no rate: use 'auto'.")
    if isinstance(value, str):
        declares = kinds.declaration(named(SCHEDULES, value, "learning_rate"))
    else:
        value = checked(value, kinds.RATE_SCHEDULE, "learning_rate")
        declares = kinds.declaration_of(value)
    if declares["needs_horizon"] and horizon is None:
        raise ValueError(
            f"learning_rate={value!r} needs to know the number of epochs: it is not supported by partial_fit."
        )
    if not isinstance(value, str):
        return value
    if eta0 is not None and value in ("auto", "optimal"):
        raise ValueError(f"eta0={eta0!r} has no effect with learning_rate={value!r}; leave it None.")
    eta0 = 0.01 if eta0 is None else float(eta0)
    if value == "optimal":
        if alpha <= 0:
            raise ValueError("alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the rate.")
        return Optimal(float(alpha), optimal_start(loss, alpha))
    if value == "auto" and declared(optimizer).dual:
        return Constant(1.0)
    if value == "auto":
        rate = declared(optimizer).auto_rate
        if rate is not None:
            return Auto(constant=float(rate), warmup=float(warmup))
        noisy = noisy and (has_kink(loss) or not declared(optimizer).per_row)
        averages = declared(optimizer).brings("result")
        power = (FALL_OF_AN_AVERAGE if averages else FALL_OF_AN_ITERATE) if noisy else 0.0
        return Auto(multiple=declared(optimizer).auto_multiple(), warmup=float(warmup), power=power)
    settings = {
        "constant": {"eta0": eta0},
        "adaptive": {"eta0": eta0},
        "invscaling": {"eta0": eta0, "power_t": float(power_t)},
        "cosine": {"eta0": eta0, "horizon": float(horizon or 0)},
    }
    return SCHEDULES[value](**settings[value])


def optimal_start(loss, alpha: float) -> float:
    """``t0`` of the 'optimal' schedule: the first step of a wrong output of typical size moves it by that size."""
    typical = np.sqrt(1.0 / np.sqrt(alpha))
    pointwise = loss if declared(loss).kind is kinds.LOSS else Logistic()
    first_rate = typical / max(1.0, float(gradient(pointwise, -typical, 1.0)))
    return float(1.0 / (first_rate * alpha))


def sampler(value, shuffle: bool):
    """The sampler; `shuffle=False` stands for 'sequential' and contradicts any other."""
    if not shuffle:
        if value not in ("shuffle", "sequential"):
            raise ValueError(f"shuffle=False contradicts sampler={value!r}.")
        value = "sequential"
    return part_of(value, SAMPLERS, kinds.SAMPLER, "sampler")


def scaling_rule(value, learning_rate, optimizer):
    """The rule by which an explicit rate follows the batch size, or None."""
    if value is None:
        return None
    if learning_rate == "auto":
        raise ValueError(
            f"lr_scaling={value!r} needs an explicit learning rate: learning_rate='auto' follows the batch size already."
        )
    rule = named(SCALING_RULES, value, "lr_scaling")()
    needed = declared(rule).moves_optimizer or "for_batches"
    if declared(rule).for_adam and not declared(optimizer).brings(needed):
        raise ValueError(f"lr_scaling={value!r} is a rule for the steps of Adam: solver must be 'adam' or 'adamw'.")
    return rule


def scaled_optimizer(optimizer, value, sizes, base_batch_size: int):
    """The optimizer with what a scaling rule makes of its hyper-parameters for the batch sizes."""
    means = None if value is None else declared(named(SCALING_RULES, value, "lr_scaling")()).moves_optimizer
    if means is None:
        return optimizer
    within = kinds.inside(optimizer)
    if within is not None:
        return kinds.around(optimizer, scaled_optimizer(within, value, sizes, base_batch_size))
    if not declared(optimizer).brings(means):
        return optimizer  # refused by `scaling_rule`
    if means == "for_batches" and not declared(sizes).constant:
        raise ValueError(f"lr_scaling={value!r} needs one batch_size: it moves the betas with it. Got {sizes!r}.")
    try:
        if means == "in_rows":
            return optimizer.in_rows(base_batch_size)
        return optimizer.for_batches(sizes.start / base_batch_size)
    except kinds.InvalidPart as error:
        raise ValueError(f"lr_scaling={value!r} {error}") from None


def batch_sizes(value, n_rows: int) -> tuple:
    """The schedule of batch sizes: an int, a fraction of the rows, 'full', a name, or an instance."""
    if isinstance(value, str) and value != "full":
        value = _by_name(value, SIZE_SCHEDULES, "batch_size")
    if isinstance(value, tuple):
        is_choice = kinds.fits(type(value), kinds.SIZE_CHOICE)
        return checked(value, kinds.SIZE_CHOICE if is_choice else kinds.SIZE_SCHEDULE, "batch_size")
    size = n_rows if value == "full" else value
    size = round(size * n_rows) if not isinstance(size, (int, np.integer)) else int(size)
    return ConstantSize(float(min(max(size, 1), n_rows)))


def strata(part, given, X, y, target) -> np.ndarray | None:
    """The label of the stratum of each row, for a sampler that needs it: as given to `fit`, from X, or from the targets."""
    sampler = declared(part)
    if not sampler.needs_strata:
        if given is not None:
            raise ValueError(
                f"strata has no effect with the sampler {type(part).__name__}: use 'stratified', 'neyman' or 'groups'."
            )
        return None
    if given is None and sampler.strata is not None:
        given = sampler.strata(X)
    if given is None and sampler.strata_from_targets:
        given = target.strata(y)
    if given is None:
        raise ValueError(
            f"The sampler {type(part).__name__} needs strata: give fit strata=, with an entry for each row, or "
            f"sampler={type(part).__name__}(strata=a function of X)."
        )
    given = column_or_1d(on_host(given))
    check_consistent_length(X, given)
    return given


def by_layer(value, n_hidden: int, parameter: str) -> list[tuple[str, Any]]:
    """What a parameter is for each hidden layer, one for all or a list with one for each, after its name in an error."""
    if not isinstance(value, list):
        return [(parameter, value)] * n_hidden
    if len(value) != n_hidden:
        raise ValueError(f"{parameter} has {len(value)} entries, but hidden_layer_sizes has {n_hidden} layers.")
    return [(f"{parameter}[{number}]", entry) for number, entry in enumerate(value)]


def activations(value, n_hidden: int) -> list[tuple]:
    """The activation of each hidden layer."""
    entries = by_layer(value, n_hidden, "activation")
    return [part_of(entry, ACTIVATIONS, kinds.ACTIVATION, name) for name, entry in entries]


def normalization(value) -> tuple | None:
    """The normalization of a name, or the given one."""
    return None if value is None else part_of(value, NORMALIZATIONS, kinds.NORMALIZATION, "normalization")


def dropouts(value, n_hidden: int) -> list[float]:
    """The dropout of each hidden layer."""
    return [float(entry) for _, entry in by_layer(value, n_hidden, "dropout")]


def threads(n_jobs) -> int:
    """Threads of a kernel: one unless asked for more, and one inside a worker of joblib."""
    return 1 if n_jobs is None else effective_n_jobs(n_jobs)
