"""How noisy the gradients of batches are, how curved the objective is, and what follows for batch size and step.

Each function takes an estimator, fitted or not, with rows to look at, and returns a frozen record. A fitted estimator is
examined at its coefficients, one that is not at the parameters from which `fit` would start. Gradients are those of the
objective in the coordinates in which the solver works (with ``learning_rate='auto'``, features are scaled on the way).
"""

from skminibatch.diagnostics.noise import (
    GradientVariance,
    IntraBatchCorrelation,
    NoiseScale,
    gradient_noise_scale,
    gradient_variance,
    intra_batch_correlation,
)

__all__ = [
    "GradientVariance",
    "IntraBatchCorrelation",
    "NoiseScale",
    "gradient_noise_scale",
    "gradient_variance",
    "intra_batch_correlation",
]
