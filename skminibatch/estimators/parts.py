"""From a name or an instance to a part, validated; the only reader of the registries."""

from __future__ import annotations

from numbers import Real

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, _Booleans

from skminibatch.backends.arrays import on_host
from skminibatch.contract.verbs import curvature_of, gradient
from skminibatch.layers import (
    ACTIVATIONS,
    ELU,
    NORMALIZATIONS,
    BatchNorm,
    GhostNorm,
    GroupNorm,
    HybridNorm,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
)
from skminibatch.losses import LOSSES, Huber, Logistic, Quantile
from skminibatch.optimizers import (
    OPTIMIZERS,
    SAGA,
    AdaGrad,
    Adam,
    AdamW,
    Averaging,
    Momentum,
    Nesterov,
    RMSProp,
    ScheduleFree,
)
from skminibatch.penalties import PENALTIES, ElasticNet
from skminibatch.samplers import SAMPLERS, Blocks, Importance, Shuffle
from skminibatch.schedules import (
    CABS,
    SCALING_RULES,
    SCHEDULES,
    SIZE_SCHEDULES,
    AdaDamp,
    Adaptive,
    Auto,
    AutoSize,
    Constant,
    ConstantSize,
    Cosine,
    Geometric,
    InnerProductTest,
    InverseScaling,
    LinearSize,
    Logarithmic,
    NoiseScaleSize,
    NormTest,
    Optimal,
)

_SHARE = Interval(Real, 0, 1, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_AT_LEAST_ZERO = Interval(Real, 0, None, closed="left")
_WHOLE = Interval(Real, 1, None, closed="left")
_SEVERAL = Interval(Real, 2, None, closed="left")  # one row does not show how far rows differ
_ABOVE_ONE = Interval(Real, 1, None, closed="neither")
_FINITE = Interval(Real, None, None, closed="neither")
_LIMIT = Interval(Real, 1, None, closed="both")  # infinity included
_INSIDE = Interval(Real, 0, 1, closed="neither")
_RUNNING = {"epsilon": _POSITIVE, "momentum": Interval(Real, 0, 1, closed="right"), "exact": _Booleans()}
_SIZES = {"start": _WHOLE, "largest": _LIMIT}
_ADAPTIVE = {"start": _SEVERAL, "largest": _LIMIT, "every": _WHOLE, "growth": _ABOVE_ONE}
INTERVALS = {
    Momentum: {"momentum": _SHARE},
    Nesterov: {"momentum": _SHARE},
    ScheduleFree: {"interpolation": _SHARE},
    AdaGrad: {"epsilon": _POSITIVE},
    RMSProp: {"decay": _SHARE, "epsilon": _POSITIVE},
    Adam: {"beta_1": _SHARE, "beta_2": _SHARE, "epsilon": _POSITIVE},
    AdamW: {"beta_1": _SHARE, "beta_2": _SHARE, "epsilon": _POSITIVE},
    SAGA: {"n_rows": _POSITIVE},
    Huber: {"epsilon": _AT_LEAST_ZERO},
    Quantile: {"quantile": Interval(Real, 0, 1, closed="neither")},
    Constant: {"eta0": _POSITIVE},
    InverseScaling: {"eta0": _POSITIVE, "power_t": _AT_LEAST_ZERO},
    Adaptive: {"eta0": _POSITIVE, "factor": _ABOVE_ONE, "smallest": _POSITIVE},
    Cosine: {"eta0": _POSITIVE, "horizon": _POSITIVE},
    Optimal: {"alpha": _POSITIVE, "t0": _POSITIVE},
    Auto: {"multiple": _POSITIVE, "constant": _AT_LEAST_ZERO, "warmup": _AT_LEAST_ZERO},
    Blocks: {"block": _WHOLE},
    Shuffle: {"block": _WHOLE},
    Importance: {"by": StrOptions({"gradient", "smoothness"})},
    ConstantSize: _SIZES,
    LinearSize: {**_SIZES, "increase": _AT_LEAST_ZERO},
    Geometric: {**_SIZES, "factor": _ABOVE_ONE, "epochs": _WHOLE},
    Logarithmic: _SIZES,
    AdaDamp: {**_SIZES, "optimum": _FINITE, "every": _WHOLE},
    NormTest: {**_ADAPTIVE, "theta": _POSITIVE, "debias": _Booleans()},
    InnerProductTest: {**_ADAPTIVE, "theta": _POSITIVE, "nu": _POSITIVE},
    CABS: {**_ADAPTIVE, "optimum": _FINITE, "smallest": _SEVERAL},
    NoiseScaleSize: {**_ADAPTIVE, "multiple": _POSITIVE, "smallest": _SEVERAL},
    LeakyReLU: {"leak": _FINITE},
    ELU: {"alpha": _POSITIVE},
    BatchNorm: _RUNNING,
    GhostNorm: {**_RUNNING, "size": _SEVERAL},
    LayerNorm: {"epsilon": _POSITIVE},
    InstanceNorm: {"epsilon": _POSITIVE, "n_channels": _WHOLE},
    GroupNorm: {"epsilon": _POSITIVE, "n_groups": _WHOLE},
    HybridNorm: {**_RUNNING, "alpha": _INSIDE, "rate": _AT_LEAST_ZERO},
}


def checked(part, parameter: str):
    """The part with numbers as floats; an error names the parameter, the part and the field."""
    for name, interval in INTERVALS.get(type(part), {}).items():
        number = getattr(part, name)
        if number is None and type(part)._field_defaults.get(name, number) is None:
            continue  # left open
        if not interval.is_satisfied_by(number):
            raise ValueError(
                f"The {name!r} of {type(part).__name__} in the {parameter!r} parameter must be {interval}. Got {number!r}"
                " instead."
            )
    numbers = {
        name: float(number)
        for name, number in part._asdict().items()
        if isinstance(number, Real) and not isinstance(number, bool) and name != "block"
    }
    return part._replace(**numbers)


def _instance(value, parameter: str, needed: str):
    if not hasattr(value, needed) or not hasattr(value, "_fields"):
        raise ValueError(
            f"The {parameter!r} parameter must be a name or a part with the method {needed!r}. Got {value!r} instead."
        )
    return checked(value, parameter)


def loss(value, **fields):
    """The loss of one output; `fields` are the flat parameters that configure it."""
    if not isinstance(value, str):
        return _instance(value, "loss", "gradient")
    part = LOSSES[value]
    return checked(part(**{name: fields[name] for name in part._fields if name in fields}), "loss")


def penalty(value, alpha: float, l1_ratio: float | None) -> ElasticNet:
    """The elastic net of a name."""
    if value is not None and not isinstance(value, str):
        return _instance(value, "penalty", "prox")
    if value is None:
        return ElasticNet(0.0, 0.0)
    share = PENALTIES[value]
    if share is None and l1_ratio is None:
        raise ValueError("l1_ratio must be set when penalty is 'elasticnet'")
    share = l1_ratio if share is None else share
    return ElasticNet(float(alpha * (1 - share)), float(alpha * share))


def optimizer(value, average, default: str):
    """The optimizer of a solver, wrapped where an average of its iterates predicts."""
    if not isinstance(value, str):
        part = _instance(value, "solver", "update")
    else:
        if value == "auto":
            value = "sgd" if average else default
        part = checked(OPTIMIZERS[value](), "solver")
    if not average:
        return part
    if hasattr(part, "result"):
        raise ValueError(
            f"average={average!r} cannot be combined with solver={value!r}, which predicts from an average already."
        )
    if part.per_row:
        raise ValueError(f"average={average!r} cannot be combined with solver='saga': its last iterate is the best.")
    return Averaging(part, float(average) if average is not True else 0.0)


NETWORK_SOLVERS = sorted(set(OPTIMIZERS) - {"saga"})


def network_optimizer(estimator):
    """The optimizer of a network, by scikit-learn's parameters: 'sgd' has momentum, and 'auto' is Adam."""
    solver, adaptive = estimator.solver, {"beta_1", "beta_2", "epsilon"}
    if not isinstance(solver, str):
        part = optimizer(solver, False, default="adam")
        if part.per_row:
            raise ValueError("solver='saga' stores a residual for each row and output, which needs a linear model.")
        refuse_unused(estimator, part._fields, "solver")
        return optimizer(solver, estimator.average, default="adam")
    if solver == "sgd" and estimator.momentum > 0:
        part = (Nesterov if estimator.nesterovs_momentum else Momentum)(estimator.momentum)
    else:
        kind = OPTIMIZERS["adam" if solver == "auto" else solver]
        flat = adaptive | {"momentum"}
        part = kind(**{name: getattr(estimator, name) for name in kind._fields if name in flat})
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


def check_table(model, sampler, *, sparse: bool, clip_norm, partial: bool) -> None:
    """Refuse, by name, what an optimizer that stores a residual for each row cannot do."""
    if not model.optimizer.per_row:
        return
    pointwise = getattr(model.loss, "loss", model.loss)
    if partial:
        raise ValueError(
            "solver='saga' stores a number for each row and has to meet the row again: it is not supported by partial_fit."
        )
    if hasattr(sampler, "observe") or hasattr(sampler, "from_targets"):
        raise ValueError(
            f"solver='saga' needs rows of equal chance and does not support the sampler {type(sampler).__name__}: use "
            "'shuffle', 'replacement', 'sequential' or 'blocks'."
        )
    if clip_norm is not None:
        raise ValueError(
            f"clip_norm={clip_norm!r} cannot be combined with solver='saga', which needs gradients as they are."
        )
    if curvature_of(pointwise) is None and not hasattr(pointwise, "stiffness"):
        raise ValueError(
            f"solver='saga' needs a loss whose second derivative is bounded, and that of {type(pointwise).__name__} is not: "
            "residuals do not settle at a kink."
        )
    if sparse and model.penalty.l1 > 0:
        raise ValueError(
            "solver='saga' does not support an l1 penalty on sparse data, where it would have to visit every feature in every "
            "step. Use dense data, or another solver."
        )


def check_rows(model, sampler) -> None:
    """Refuse, by name, a sampler that needs to know of single rows what a model does not tell."""
    name = type(sampler).__name__
    if model.couples_rows and (hasattr(sampler, "observe") or getattr(sampler, "from_targets", False)):
        raise ValueError(
            f"The sampler {name} gives rows unequal weights, which is not supported together with a normalization over the "
            "rows of a batch: use 'shuffle', 'replacement', 'sequential', 'blocks' or 'groups', or normalization='layer'."
        )
    if getattr(sampler, "by", None) == "smoothness" and not hasattr(model, "row_bounds"):
        raise ValueError(
            f"sampler={sampler!r} needs a linear model: the curvature of the loss of a row has no bound in a network. Use "
            "sampler='importance', which follows the gradients."
        )


def schedule(value, *, optimizer, loss, alpha, eta0, power_t, horizon, warmup):
    """The learning-rate schedule; `horizon` in samples, None where there is none (`partial_fit`)."""
    if not isinstance(value, str):
        part = _instance(value, "learning_rate", "rates")
        needs_horizon = isinstance(part, Cosine)
    else:
        needs_horizon = value == "cosine"
    if needs_horizon and horizon is None:
        raise ValueError(
            "learning_rate='cosine' needs to know the number of epochs: it is not supported by partial_fit."
        )
    if not isinstance(value, str):
        return part
    if eta0 is not None and value in ("auto", "optimal"):
        raise ValueError(f"eta0={eta0!r} has no effect with learning_rate={value!r}; leave it None.")
    eta0 = 0.01 if eta0 is None else float(eta0)
    if value == "optimal":
        if alpha <= 0:
            raise ValueError("alpha must be > 0 since learning_rate is 'optimal'. alpha is used to compute the rate.")
        return Optimal(float(alpha), optimal_start(loss, alpha))
    if value == "auto":
        if optimizer.auto_rate is not None:
            return Auto(constant=float(optimizer.auto_rate), warmup=float(warmup))
        return Auto(multiple=optimizer.auto_multiple(), warmup=float(warmup))
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
    pointwise = loss if hasattr(loss, "gradient") else Logistic()
    first_rate = typical / max(1.0, float(gradient(pointwise, -typical, 1.0)))
    return float(1.0 / (first_rate * alpha))


def sampler(value, shuffle: bool):
    """The sampler; `shuffle=False` stands for 'sequential' and contradicts any other."""
    if not shuffle:
        if value not in ("shuffle", "sequential"):
            raise ValueError(f"shuffle=False contradicts sampler={value!r}.")
        value = "sequential"
    return checked(SAMPLERS[value](), "sampler") if isinstance(value, str) else _instance(value, "sampler", "draw")


def scaling_rule(value, learning_rate, optimizer):
    """The rule by which an explicit rate follows the batch size, or None."""
    if value is None:
        return None
    if learning_rate == "auto":
        raise ValueError(
            f"lr_scaling={value!r} needs an explicit learning rate: learning_rate='auto' follows the batch size already."
        )
    rule = SCALING_RULES[value]()
    if rule.for_adam and not isinstance(getattr(optimizer, "inner", optimizer), (Adam, AdamW)):
        raise ValueError(f"lr_scaling={value!r} is a rule for the steps of Adam: solver must be 'adam' or 'adamw'.")
    return rule


def scaled_optimizer(optimizer, value, sizes, base_batch_size: int):
    """The optimizer with what a scaling rule makes of its hyper-parameters for a batch size."""
    if value is None or not hasattr(SCALING_RULES[value], "optimizer"):
        return optimizer
    if hasattr(optimizer, "inner"):
        return optimizer._replace(inner=scaled_optimizer(optimizer.inner, value, sizes, base_batch_size))
    if not isinstance(optimizer, (Adam, AdamW)):
        return optimizer  # refused by `scaling_rule`
    if not isinstance(sizes, ConstantSize):
        raise ValueError(f"lr_scaling={value!r} needs one batch_size: it moves the betas with it. Got {sizes!r}.")
    k = sizes.start / base_batch_size
    largest = 1.0 / (1.0 - min(optimizer.beta_1, optimizer.beta_2))
    if k >= largest * (1.0 - 1e-9):
        raise ValueError(
            f"lr_scaling={value!r} needs a batch_size below {largest:.4g} times base_batch_size with these betas, "
            f"got {k:.4g} times."
        )
    return SCALING_RULES[value]().optimizer(optimizer, k)


def batch_sizes(value, n_rows: int, sampler, model) -> tuple:
    """The schedule of batch sizes: an int, a fraction of the rows, 'full', a name, or an instance."""
    part, smallest = _batch_sizes(value, n_rows, sampler), model.smallest_batch
    if hasattr(part, "growth") and model.couples_rows:
        raise ValueError(
            f"batch_size={value!r} follows the variance of the rows of a batch, and a normalization over these couples them, so "
            "that a row has no gradient of its own: use a schedule that does not look at the rows, or normalization='layer'."
        )
    if min(getattr(part, "start", n_rows), n_rows) < smallest:
        found = f"n_samples={n_rows}" if n_rows < smallest else f"batch_size={value!r}"
        raise ValueError(
            f"A normalization over the rows of a batch needs batches of {smallest} rows at least: one row is its own mean. "
            f"Got {found}; use normalization='layer' for single rows."
        )
    return part


def _batch_sizes(value, n_rows: int, sampler) -> tuple:
    if isinstance(value, str) and value != "full":
        part = checked(SIZE_SCHEDULES[value](), "batch_size")
    elif isinstance(value, tuple):
        part = _instance(value, "batch_size", "chosen" if isinstance(value, AutoSize) else "sizes")
    else:
        size = n_rows if value == "full" else value
        size = round(size * n_rows) if not isinstance(size, (int, np.integer)) else int(size)
        return ConstantSize(float(min(max(size, 1), n_rows)))
    if hasattr(part, "growth") and not sampler.one_population:
        raise ValueError(
            f"batch_size={value!r} follows the variance of the rows of a batch, which sampler={type(sampler).__name__} does "
            "not draw from one population: use 'shuffle', 'replacement' or 'importance'."
        )
    return part


def strata(part, given, X, y, target) -> np.ndarray | None:
    """The label of the stratum of each row, for a sampler that needs it: as given to `fit`, from X, or from the targets."""
    if not hasattr(part, "from_targets"):
        if given is not None:
            raise ValueError(
                f"strata has no effect with the sampler {type(part).__name__}: use 'stratified', 'neyman' or 'groups'."
            )
        return None
    if given is None and part.strata is not None:
        given = part.strata(X)
    if given is None and part.from_targets:
        given = target.strata(y)
    if given is None:
        raise ValueError(
            f"The sampler {type(part).__name__} needs strata: give fit strata=, with an entry for each row, or "
            f"sampler={type(part).__name__}(strata=a function of X)."
        )
    given = column_or_1d(on_host(given))
    check_consistent_length(X, given)
    return given


def activations(value, n_hidden: int) -> list[tuple]:
    """The activation of each hidden layer: one for all, or a list with one for each."""
    values = value if isinstance(value, list) else [value] * n_hidden
    if len(values) != n_hidden:
        raise ValueError(f"activation has {len(values)} entries, but hidden_layer_sizes has {n_hidden} layers.")
    return [
        checked(ACTIVATIONS[one](), "activation") if isinstance(one, str) else _instance(one, "activation", "activate")
        for one in values
    ]


def normalization(value) -> tuple | None:
    """The normalization of a name."""
    if value is None:
        return None
    if not isinstance(value, str):
        return _instance(value, "normalization", "forward")
    if value == "instance":
        raise ValueError(
            "normalization='instance' needs to know the channels: a hidden vector of one position each would be its own mean. "
            "Use normalization=InstanceNorm(n_channels=...)."
        )
    return checked(NORMALIZATIONS[value](), "normalization")


def dropouts(value, n_hidden: int) -> list[float]:
    """The dropout of each hidden layer: one for all, or a list with one for each."""
    values = value if isinstance(value, list) else [value] * n_hidden
    if len(values) != n_hidden:
        raise ValueError(f"dropout has {len(values)} entries, but hidden_layer_sizes has {n_hidden} layers.")
    return [float(one) for one in values]


def threads(n_jobs) -> int:
    """Threads of a kernel: one unless asked for more, and one inside a worker of joblib."""
    return 1 if n_jobs is None else effective_n_jobs(n_jobs)
