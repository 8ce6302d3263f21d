"""The full step with which the second stage begins: Newton's, to the accuracy that is asked of it."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch import MiniBatchSGDRegressor
from skminibatch.optimizers import SAGA
from skminibatch.preparation import newton
from skminibatch.preparation.newton import newton_step
from skminibatch.preparation.rounding import in_round_coordinates, written_out
from skminibatch.preparation.second_stage import RowCurvatures
from tests.begun import gradient_of
from tests.preparation.problems import LogCosh, predictor_of, problem


def step_of(name, weighted):
    """(at, step, gain): the gradients at a predictor, and the step from there as a change of its parameters."""
    start = problem(name, weighted)
    predictor = predictor_of(start)
    data = start.data._replace(rows=np.unique(start.data.rows_in_use), step_weights=None)
    curvatures = RowCurvatures.of(start.model, data, predictor)
    model = start.model.with_optimizer(SAGA())
    model = in_round_coordinates(model, data, data.rows_in_use, curvatures.near, curvatures.lifts, curvatures.flatness)
    data, _ = written_out(model, data)
    stored, params = model.stored(data, predictor), model.start(predictor)
    step, gain = newton_step(model, data, predictor, model.gradient_with_penalty(params[0], stored.mean))
    params[0] -= step
    return start.gradients(predictor), start.gradients(model.predictor(params, None)), gain


@pytest.mark.parametrize("name", ["squared_error", "log_loss", "softmax"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_it_is_the_step_of_the_hessian(name, weighted, monkeypatch):
    monkeypatch.setattr(newton, "RESIDUAL", 1e-10)
    monkeypatch.setattr(newton, "MOST_PRODUCTS", 200)
    at, after, gain = step_of(name, weighted)
    hessian, gradient = at.hessian_matrix(), gradient_of(at)
    expected = np.linalg.pinv(hessian, rcond=1e-12) @ gradient
    tolerance = (
        1e-6 if name == "softmax" else 0.05
    )  # one output: by curvatures that count for at least a share of a bound
    np.testing.assert_allclose(hessian @ (at.point - after.point), gradient, atol=tolerance * np.abs(gradient).max())
    assert gain == pytest.approx(gradient @ expected / 2, rel=tolerance)


def test_outputs_that_depend_on_each_other_need_few_products(monkeypatch):
    """The residual is what was asked for, and the objective falls by about as much as by the whole step."""
    at, after, gain = step_of("softmax", False)
    fall = at.smooth_objective() - after.smooth_objective()
    assert 0.7 < fall / gain < 2.2
    assert np.linalg.norm(gradient_of(after)) < 0.5 * np.linalg.norm(gradient_of(at))
    calls = []
    honest = newton.hessian_product
    monkeypatch.setattr(newton, "hessian_product", lambda *given: calls.append(1) or honest(*given))
    step_of("softmax", False)
    assert 1 <= len(calls) <= newton.MOST_PRODUCTS + 1


def test_a_loss_without_curvature_there_has_a_step_too(rng):
    """Log cosh is linear where y is far off: conjugate gradients divide by next to nothing, which is no warning for a user."""
    y = 50.0 * rng.standard_t(3, (300, 3)) - 300.0
    model = MiniBatchSGDRegressor(loss=LogCosh(), max_iter=20, tol=None, random_state=0).fit(np.zeros((300, 4)), y)
    np.testing.assert_allclose(model.intercept_, np.median(y, axis=0), atol=5.0)
