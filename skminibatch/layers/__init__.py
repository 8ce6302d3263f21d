"""Layers of a network: activations and normalizations, each a dict from the name of the parameter to the part.

A normalization stands before the activation. ``start(n)`` gives parameters and running statistics of n units;
``forward(X, parameters, running, weights, train)`` gives the output and its backward map, which turns dy (b, n) into dx and
what each row adds to the gradient of the parameters, (b, n_parameters). ``rates(n)``, where there is one, multiplies the rate
of each parameter. Class data: ``couples_rows``: in training, an output depends on the other rows of its batch;
``absorbs_intercept``: an intercept before it would have no effect. An activation has ``cuda``, the bodies of ``activate`` and
``slope`` in CUDA C++ (see ``backends/gpu/source.py``).
"""

from skminibatch.layers.activations import ELU, GELU, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from skminibatch.layers.batch import Batch
from skminibatch.layers.ghost import Ghost
from skminibatch.layers.group import Group
from skminibatch.layers.hybrid import Hybrid
from skminibatch.layers.instance import Instance
from skminibatch.layers.layer import Layer
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
    "batch": Batch,
    "ghost": Ghost,
    "layer": Layer,
    "instance": Instance,
    "group": Group,
    "hybrid": Hybrid,
}

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "NORMALIZATIONS",
    "Batch",
    "Dense",
    "Ghost",
    "Group",
    "Hybrid",
    "Identity",
    "Instance",
    "Layer",
    "LeakyReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Stack",
    "Tanh",
]
