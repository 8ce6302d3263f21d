"""Mini-batch stochastic gradient estimators for scikit-learn."""

from skminibatch.linear_model import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.neural_network import MiniBatchMLPClassifier, MiniBatchMLPRegressor

__all__ = ["MiniBatchMLPClassifier", "MiniBatchMLPRegressor", "MiniBatchSGDClassifier", "MiniBatchSGDRegressor"]
__version__ = "0.1.0"
