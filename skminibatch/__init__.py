"""Mini-batch stochastic gradient estimators for scikit-learn."""

from skminibatch.linear_model import MiniBatchSGDClassifier, MiniBatchSGDRegressor

__all__ = ["MiniBatchSGDClassifier", "MiniBatchSGDRegressor"]
__version__ = "0.1.0"
