"""Mini-batch stochastic gradient estimators for scikit-learn."""

import importlib

from skminibatch.linear_model import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.neural_network import MiniBatchMLPClassifier, MiniBatchMLPRegressor

__all__ = ["MiniBatchMLPClassifier", "MiniBatchMLPRegressor", "MiniBatchSGDClassifier", "MiniBatchSGDRegressor"]
__version__ = "0.1.0"

_SUBMODULES = {
    "calibrate",
    "cost_model",
    "diagnostics",
    "layers",
    "linear_model",
    "losses",
    "model_selection",
    "neural_network",
    "optimizers",
    "penalties",
    "plotting",
    "samplers",
    "schedules",
    "warmup",
}


def __dir__():
    return sorted({*globals(), *_SUBMODULES})


def __getattr__(name):
    """Submodules are imported when they are first used, as scikit-learn's are."""
    if name in _SUBMODULES:
        return importlib.import_module(f"skminibatch.{name}")
    raise AttributeError(f"module 'skminibatch' has no attribute {name!r}")
