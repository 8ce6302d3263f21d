"""What the formulas of the parts find by its address may lie in memory in any order: a copy stands in for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skminibatch.backends import base, cpu
from skminibatch.contract.coordinates import Coordinates
from skminibatch.contract.task import LinearTask
from skminibatch.contract.verbs import n_slots
from skminibatch.losses import Softmax
from skminibatch.optimizers import Adam, ScheduleFree
from skminibatch.penalties import ElasticNet
from tests.backends.linear_chunks import plan_of

N, D, K = 60, 5, 3
ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "a part": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
}


def run(backend, X, order, optimizer):
    """The params after a pass, by rows."""
    rng = np.random.default_rng(3)
    params = order(np.zeros((1 + n_slots(optimizer), K, D + 1)))
    y = order(rng.integers(K, size=(N, 1)).astype(float))
    axes = order(np.column_stack([np.zeros(D), 2.0 ** rng.integers(-1, 2, (D, 2))]).T)
    plan = plan_of(optimizer, N, batch_size=7)
    plan = plan._replace(coefficients=order(plan.coefficients))
    parts = Softmax(), ElasticNet(0.1, 0.0), optimizer
    task = LinearTask(*parts, X, y, np.empty(0), params, Coordinates(*axes))
    (backend.run_csr if sparse.issparse(X) else backend.run_dense)(task, plan)
    return np.array(params)


@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam()], ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("order", ORDERS)
def test_any_order_in_memory(order, storage, optimizer):
    X = np.random.default_rng(2).standard_normal((N, D))
    X = storage(np.where(np.abs(X) < 0.5, 0.0, X))
    expected = run(base, X, ORDERS["C"], optimizer)
    assert np.abs(expected[0]).max() > 0
    np.testing.assert_allclose(run(cpu, X, ORDERS[order], optimizer), expected, rtol=1e-9, atol=1e-12)
