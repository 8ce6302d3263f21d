"""Layers of a network: activations and normalizations, each a dict from the name of the parameter to the part.

An activation has ``activate(z)``, the output of a unit, and ``slope(z, a)``, its derivative at z where the output is a.
Optional: ``spread`` and ``balanced``, from which the variance of the initial weights before it follows; ``cuda``.

A normalization comes before the activation. ``start(n)`` gives parameters and running statistics of n units;
``forward(X, parameters, running, weights, train)`` gives the output and its backward map, which turns dy (b, n) into dx and
what each row adds to the gradient of the parameters, (b, n_parameters). Class data: ``couples_rows``, whether in training an
output depends on the other rows of its batch. Optional: ``absorbs_intercept``, whether an intercept before it would have no
effect; ``rates(n)``, what the rate of each parameter is multiplied with; ``sizes(n)``, names and numbers of the parameters and
running statistics, and ``derived(numbers)``, more to show; ``affine(numbers)``, what it does to a unit in predictions; ``exact``,
whether `fit` ends with the moments of all training rows as running statistics; and ``pooling(n)``, the `Pooling` that
``forward`` follows: kernels read it and stand in for ``forward``. Without it, or where no kernel fits, a network is trained by
array operations, on every device.

`skminibatch.contract.kinds` has all members with their defaults.
"""

from skminibatch.contract.deprecation import renamed
from skminibatch.layers.activations import ELU, GELU, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from skminibatch.layers.batch import BatchNorm
from skminibatch.layers.ghost import GhostNorm
from skminibatch.layers.group import GroupNorm
from skminibatch.layers.hybrid import HybridNorm
from skminibatch.layers.instance import InstanceNorm
from skminibatch.layers.layer import LayerNorm
from skminibatch.layers.rms import RMSNorm
from skminibatch.layers.stack import Dense, Stack

ACTIVATIONS = {
    "identity": Identity,
    "logistic": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
}
NORMALIZATIONS = {
    "batch": BatchNorm,
    "ghost": GhostNorm,
    "layer": LayerNorm,
    "instance": InstanceNorm,
    "group": GroupNorm,
    "hybrid": HybridNorm,
    "rms": RMSNorm,
}

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "NORMALIZATIONS",
    "BatchNorm",
    "Dense",
    "GhostNorm",
    "GroupNorm",
    "HybridNorm",
    "Identity",
    "InstanceNorm",
    "LayerNorm",
    "LeakyReLU",
    "RMSNorm",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Stack",
    "Tanh",
]

__getattr__ = renamed(
    __name__,
    {name: f"{name}Norm" for name in ("Batch", "Ghost", "Layer", "Group", "Instance", "Hybrid")},
    since="0.2",
    until="0.4",
)
