"""Layers of a network: activations and normalizations, each a dict from the name of the parameter to the part.

A normalization comes before the activation. ``start(n)`` gives parameters and running statistics of n units;
``forward(X, parameters, running, weights, train)`` gives the output and its backward map, which turns dy (b, n) into dx and
what each row adds to the gradient of the parameters, (b, n_parameters). ``couples_rows`` is class data: whether in training an
output depends on the other rows of its batch. All else that a normalization or an activation may declare is listed in
`skminibatch.contract.kinds`. What a normalization pools is declared by its ``pooling(n)``, see `skminibatch.layers.pooling`:
kernels read it, and stand in for ``forward`` where they fit. Without it a network is trained by its formulas, on every device.
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
