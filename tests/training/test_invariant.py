"""At the optimum the expected step is zero, by enumeration: no step chooses its rate by the rows that it uses.

Where a rate depends on the rows, targets or weights of its own step, the gradients of some rows are shrunk, and training
converges to another point. Each test here fails if a rate is lowered for a stiff row.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import sparse

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.orders import explicit_order, rows_of
from skminibatch.contract.plan import Plan
from skminibatch.models.linear import LinearModel
from skminibatch.training.chunks import next_chunk
from skminibatch.training.loop import training
from skminibatch.training.work import carried_out
from tests.begun import begun, gradient_of, optimum_of

pytestmark = pytest.mark.usefixtures("sparse_rows_stay_sparse")

N, D, BATCH = 2100, 4, 60  # so many that the rows that are stiff are no usual ones
STORAGES = {"dense": np.asarray, "csr": sparse.csr_matrix}
STIFF = {3: 40.0, 2000: 100.0}  # rows and how much longer they are
SETTINGS = {"alpha": 0.1, "batch_size": BATCH, "device": "base", "random_state": 0, "max_iter": 1, "tol": None}
LOSSES = {
    "squared_error": (MiniBatchSGDRegressor, {}),
    "huber": (MiniBatchSGDRegressor, {"loss": "huber", "epsilon": 1.0}),
    "poisson": (MiniBatchSGDRegressor, {"loss": "poisson"}),
    "log_loss": (MiniBatchSGDClassifier, {}),
    "squared_hinge": (MiniBatchSGDClassifier, {"loss": "squared_hinge"}),
    "softmax": (MiniBatchSGDClassifier, {"n_classes": 3}),
}
SOLVERS = {
    "sgd": {"solver": "sgd"},
    "momentum": {"solver": "momentum"},
    "nesterov": {"solver": "nesterov"},
    "schedule_free": {"solver": "schedule_free"},
    "average": {"solver": "sgd", "average": True},
}
every_storage = pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
with_and_without_weights = pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])


def every_other(*factors) -> list:
    """All combinations of the factors, in turn on dense and on sparse rows, so that each value comes with both."""
    found = []
    for pairs in product(*map(enumerate, factors)):
        places, case = zip(*pairs, strict=True)
        name = list(STORAGES)[sum(places) % 2]
        found.append(pytest.param(*case, STORAGES[name], id="-".join(map(str, [*case, name]))))
    return found


def problem(loss: str, stiff: bool = True, weighted: bool = False, storage=np.asarray, **settings):
    """What a fit begins with; `stiff`: with rows of unusual length."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    raw = X @ [1.0, -1.0, 0.5, 0.0] + 0.3 * rng.standard_normal(N)
    if stiff:
        for row, factor in STIFF.items():
            X[row] *= factor if loss != "poisson" else factor / 8.0  # whose curvature grows with the raw output
    cls, own = LOSSES[loss]
    own = dict(own)
    y = np.digitize(raw, np.quantile(raw, [0.4, 0.8][: own.pop("n_classes", 2) - 1]))
    if cls is MiniBatchSGDRegressor:
        y = raw if loss != "poisson" else rng.poisson(np.exp(0.5 * raw)).astype(float)
    weights = (rng.pareto(1.5, N) + 0.1 if stiff else rng.uniform(0.5, 1.5, N)) if weighted else None
    return begun(cls(**{**SETTINGS, **own, **settings}), storage(X), y, weights)


@cache
def optimum(loss, stiff, weighted, storage) -> tuple:
    """The predictor at the optimum, which is the same for all solvers."""
    return optimum_of(problem(loss, stiff, weighted, storage).gradients()).predictor


def observed(start):
    """The same when the sampler has looked at the rows."""
    if not start.recipe.declared.sampler.brings("observe"):
        return start
    state = start.fitted.state
    memory = start.recipe.sampler.observe(state.sampler_memory, start.gradients())
    return start._replace(fitted=replace(start.fitted, state=state._replace(sampler_memory=memory)))


def planned(start) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows and the coefficients of each step of the first epoch."""
    steps, n_left, state = [], start.data.n_rows, start.fitted.state
    while n_left > 0:
        plan, state = next_chunk(start.model, start.recipe, state, n_left, n_left)
        n_left -= int(plan.offsets[-1])
        assert np.all(plan.rates > 0)
        steps += [(rows_of(plan.rows, *plan.offsets[s : s + 2]), plan.coefficients[s]) for s in range(plan.n_steps)]
    return steps


def change(start, predictor, rows, coefficients, weights=None) -> np.ndarray:
    """What one step does to the params at a predictor."""
    params = start.model.start(predictor)
    moved, offsets = params.copy(), np.array([0, len(rows)])
    start.model.run(Plan(explicit_order(np.asarray(rows)), offsets, coefficients[None], weights), moved, start.data)
    return moved - params


def assert_is_none_in_the_mean(changes, shares, spread=1e-10):
    """The mean is zero to rounding, and no single one is."""
    mean = np.tensordot(shares, np.array(changes), axes=1) / np.sum(shares)
    usual = np.abs(changes).mean()
    assert usual > 0
    np.testing.assert_allclose(mean, 0, atol=spread * usual)


@pytest.mark.parametrize(
    ("loss", "solver", "stiff", "weighted", "storage"), every_other(LOSSES, SOLVERS, [False, True], [False, True])
)
def test_the_batches_of_an_epoch_cancel_at_the_optimum(loss, solver, stiff, weighted, storage):
    """Over all batches of an epoch, each from the optimum and at the rate of any one step."""
    start = problem(loss, stiff, weighted, storage, **SOLVERS[solver])
    visits = np.bincount(start.data.rows_in_use, minlength=N)
    assert not stiff or visits.max() > 1  # there is something to test
    best = optimum(loss, stiff, weighted, storage)
    batches, each = zip(*planned(start), strict=True)
    np.testing.assert_array_equal(np.bincount(np.concatenate(batches), minlength=N), visits)
    for coefficients in (each[0], each[-1]):
        changes = [change(start, best, rows, coefficients) for rows in batches]
        assert_is_none_in_the_mean(changes, [len(rows) for rows in batches])


def test_a_rate_that_follows_its_row_is_found(monkeypatch):
    """The check above finds steps of stiff rows that are shortened."""
    start = problem("squared_error", True)
    best = optimum_of(start.gradients())
    batches, each = zip(*planned(start), strict=True)
    honest = LinearModel.run

    def bounded(self, plan, params, data):
        rows = rows_of(plan.rows, *plan.offsets[:2])
        if set(rows.tolist()) & set(STIFF):
            plan = plan._replace(coefficients=plan.coefficients * 0.5)
        return honest(self, plan, params, data)

    monkeypatch.setattr(LinearModel, "run", bounded)
    changes = [change(start, best.predictor, rows, each[0]) for rows in batches]
    with pytest.raises(AssertionError):
        assert_is_none_in_the_mean(changes, [len(rows) for rows in batches])


def positions(start, plan, sampler):
    """For groups of positions of the first step: the rows that may stand there, how often in the mean, and their weights."""
    memory, in_use = start.fitted.state.sampler_memory, start.data.rows_in_use
    if sampler == "importance":
        rows, shares = memory.rows, memory.shares
        return [(rows, shares, 1.0 / (rows.size * shares))]
    if plan.weights is None:
        return [(in_use, np.ones(len(in_use)), None)]
    strata, found = np.split(memory.order, memory.ends[:-1]), []
    drawn = rows_of(plan.rows, *plan.offsets[:2])
    for rows in strata:
        there = np.isin(drawn, rows)
        (weight,) = np.unique(plan.weights[: len(drawn)][there])
        found.append((rows, np.full(len(rows), there.sum()), np.full(len(rows), weight)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "weighted", "storage"),
    every_other(
        ["shuffle", "replacement", "sequential", "blocks", "importance", "stratified", "neyman"], [False, True]
    ),
)
def test_the_draws_of_a_sampler_cancel_at_the_optimum(sampler, weighted, storage):
    """Over all rows that may stand at each position of a step, by their chances."""
    start = observed(problem("log_loss", True, weighted, storage, sampler=sampler, solver="sgd"))
    best = optimum("log_loss", True, weighted, storage)
    plan, _ = next_chunk(start.model, start.recipe, start.fitted.state, start.data.n_rows, start.data.n_rows)
    changes, shares = [], []
    for rows, chances, weights in positions(start, plan, sampler):
        for i, row in enumerate(rows):
            weight = None if weights is None else weights[i : i + 1]
            changes.append(change(start, best, [row], plan.coefficients[0], weight))
            shares.append(chances[i] / len(rows) if sampler != "importance" else chances[i])
    assert_is_none_in_the_mean(changes, shares)


@every_storage
@with_and_without_weights
def test_a_stale_table_does_not_move_the_optimum(weighted, storage):
    """Residuals stored elsewhere: the batches of an epoch of SAGA cancel, as those of other solvers do.

    Where no row comes twice: a damped update is not the whole change, but its fixed point is the same.
    """
    start = problem("log_loss", False, weighted, storage, solver="saga")
    best = optimum_of(start.gradients())
    elsewhere = best.at(best.point + 0.3).predictor
    progress, data, _ = start.then(start.progress(elsewhere)).finish()
    model = progress.model
    rates = np.full(1, 0.1)
    coefficients = model.optimizer.coefficients(rates, np.array([BATCH]), None)[0]
    table, changes = data.table, []
    for rows in np.split(np.arange(N), N // BATCH):
        params = model.start(best.predictor)
        params[1] = progress.params[1]
        moved = params.copy()
        plan = Plan(explicit_order(rows), np.array([0, BATCH]), coefficients)
        model.run(plan, moved, data._replace(table=table.copy()))
        changes.append(moved[0] - params[0])
    assert_is_none_in_the_mean(changes, np.ones(len(changes)), spread=1e-8)


@every_storage
@with_and_without_weights
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "softmax", "poisson"])
def test_no_step_of_the_second_stage_leaves_the_optimum(loss, weighted, storage):
    """With the residuals of the optimum, every batch has a step of zero: stiff rows too."""
    start = problem(loss, True, weighted, storage, solver="saga")
    best = optimum_of(start.gradients())
    progress, data, recipe = start.then(start.progress(best.predictor)).finish()
    params, table = progress.params, data.table.copy()
    plan, _ = next_chunk(progress.model, recipe, progress.state, data.n_rows, data.n_rows)
    moved = params.copy()
    progress.model.run(plan, moved, data._replace(table=table))
    np.testing.assert_allclose(moved[0], params[0], atol=1e-10 * (1.0 + np.abs(params[0]).max()))
    # and elsewhere every batch has one
    away = progress.model.start(best.at(best.point + 1.0).predictor)
    away[1] = params[1]
    moved = away.copy()
    progress.model.run(plan, moved, data._replace(table=data.table.copy()))
    assert np.abs(moved[0] - away[0]).max() > 1e-3


def recorded(start, data, monkeypatch) -> list[np.ndarray]:
    """The coefficients of all steps of an epoch on some rows."""
    seen, honest = [], LinearModel.run

    def run(self, plan, params, data):
        seen.append(plan.coefficients.copy())
        return honest(self, plan, params, data)

    with monkeypatch.context() as patched:
        patched.setattr(LinearModel, "run", run)
        recipe = replace(start.recipe, then=None, constant=None)  # an epoch that goes wrong is not done again
        begun = start.fitted.params.copy(), recipe, start.fitted.state, start.fitted.history.copied()
        carried_out(training(start.model, data, *begun))
    return seen


@pytest.mark.parametrize("solver", [*SOLVERS, "adam", "adagrad"])
@pytest.mark.parametrize("batch_size", [7, BATCH])
def test_rates_do_not_follow_the_rows_of_their_steps(solver, batch_size, monkeypatch):
    """The same plan, whatever rows, targets and weights its steps find."""
    settings = SOLVERS.get(solver, {"solver": solver})
    start = problem("squared_error", True, True, batch_size=batch_size, **settings)
    expected = recorded(start, start.data, monkeypatch)
    rng = np.random.default_rng(1)
    shuffled = start.data._replace(X=0.5 * start.data.X[::-1].copy(), y=rng.permutation(start.data.y))
    other_weights = start.data._replace(step_weights=rng.permutation(start.data.weights))
    for data in (shuffled, other_weights):
        found = recorded(start, data, monkeypatch)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_optimum_is_one():
    """What the tests above take for the optimum has no gradient."""
    for loss in LOSSES:
        start = problem(loss, True, True)
        at = start.gradients()
        before = np.abs(gradient_of(at)).max()
        assert np.abs(gradient_of(optimum_of(at))).max() < 1e-11 * max(before, 1.0)
