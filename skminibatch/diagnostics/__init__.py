"""How noisy the gradients of batches are, how curved the objective is, and what follows for batch size and step.

Each function but one takes an estimator, fitted or not, with rows to look at, and returns a frozen record. A fitted
estimator is examined at its coefficients, one that is not at the parameters from which `fit` would start. Gradients are those
of the objective in the coordinates in which the solver works (with ``learning_rate='auto'``, features are scaled on the way).

A network is examined as it trains, without dropout. Where a normalization couples the rows of a batch, a row has no gradient
of its own: then the objective is the mean over micro-batches of up to 32 rows, each normalised by its own statistics, and the
noise is estimated from their gradients; the record says so in ``estimator``.
"""

from skminibatch.diagnostics.batch_norm import BatchNormGradientBias, batch_norm_gradient_bias
from skminibatch.diagnostics.curvature import HessianEigenvalues, Smoothness, hessian_eigenvalues, smoothness
from skminibatch.diagnostics.improvement import ExpectedImprovement, expected_improvement
from skminibatch.diagnostics.inverse_hessian import InverseHessianBias, inverse_hessian_bias
from skminibatch.diagnostics.noise import (
    AdamSignalToNoise,
    GradientVariance,
    IntraBatchCorrelation,
    NoiseScale,
    adam_signal_to_noise,
    gradient_noise_scale,
    gradient_variance,
    intra_batch_correlation,
)
from skminibatch.diagnostics.sharpness import Sharpness, sharpness
from skminibatch.diagnostics.sign_noise import SignNoiseScale, sign_noise_scale
from skminibatch.diagnostics.stationary import (
    NoiseAnisotropy,
    StationaryCovariance,
    noise_anisotropy,
    stationary_covariance,
)

__all__ = [
    "AdamSignalToNoise",
    "BatchNormGradientBias",
    "ExpectedImprovement",
    "GradientVariance",
    "HessianEigenvalues",
    "IntraBatchCorrelation",
    "InverseHessianBias",
    "NoiseAnisotropy",
    "NoiseScale",
    "Sharpness",
    "SignNoiseScale",
    "Smoothness",
    "StationaryCovariance",
    "adam_signal_to_noise",
    "batch_norm_gradient_bias",
    "expected_improvement",
    "gradient_noise_scale",
    "gradient_variance",
    "hessian_eigenvalues",
    "intra_batch_correlation",
    "inverse_hessian_bias",
    "noise_anisotropy",
    "sharpness",
    "sign_noise_scale",
    "smoothness",
    "stationary_covariance",
]
