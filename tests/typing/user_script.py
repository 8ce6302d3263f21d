"""What a user might write; the type checker has to accept it. It is run as a test too."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skminibatch import MiniBatchMLPRegressor, MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.diagnostics import gradient_noise_scale
from skminibatch.layers import BatchNorm, GroupNorm
from skminibatch.losses import Huber
from skminibatch.optimizers import Adam, Averaging, Momentum
from skminibatch.samplers import Blocks
from skminibatch.schedules import Geometric

rng = np.random.default_rng(0)
X = rng.standard_normal((200, 5))
y = (X[:, 0] > 0).astype(int)
classifier = MiniBatchSGDClassifier(
    loss="log_loss", solver=Momentum(0.9), eta0=0.1, learning_rate="constant", tol=0.1, random_state=0, device="base"
)
labels: np.ndarray = classifier.fit(X, y, sample_weight=np.ones(200)).predict(X)
sparse_model = MiniBatchSGDClassifier(batch_size=Geometric(), sampler=Blocks(8), device="base")
sparse_model.partial_fit(sparse.csr_matrix(X), y, classes=[0, 1])
robust = MiniBatchSGDRegressor(
    loss=Huber(0.5),
    solver=Averaging(Momentum(0.5)),
    eta0=0.01,
    learning_rate="constant",
    device="base",
    tol=None,
    max_iter=5,
)
robust.fit(X, X[:, 0])
network = MiniBatchMLPRegressor(
    hidden_layer_sizes=(8,), normalization=BatchNorm(), solver=Adam(beta_1=0.8), device="base", max_iter=3
)
network.set_params(normalization=GroupNorm(2), tol=None, max_iter=3).fit(X, X[:, 0])
noise: float = gradient_noise_scale(classifier, X, y).noise_scale
