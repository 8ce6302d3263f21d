"""Several trainings side by side: what reads the same rows in the same order is carried out at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from skminibatch import backends
from skminibatch.backends import base
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.kinds import declared
from skminibatch.contract.orders import RowOrder
from skminibatch.contract.plan import LockstepPlan
from skminibatch.models.data import raw_outputs
from skminibatch.models.linear import LinearModel
from skminibatch.training.work import GradientOfAll, ObjectiveOfRows, Steps, T, Training, Work

FEWEST_PRODUCTS = 1 << 22  # below, trainings one after another take milliseconds, and compile nothing
FEWEST_ROWS = 6  # of a batch in the mean: blocks end where a batch of any model does
MOST_EVALUATED = 20_000  # rows that are kept for all models
WIDEST = 512  # features of sparse rows, which are written out a few at a time


def together(trainings: Sequence[Training[T]]) -> list[T | Exception]:
    """What each training comes to, or the error that has ended it; the others go on."""
    results: list[T | Exception | None] = [None] * len(trainings)
    works: dict[int, Work] = {}

    def advance(number: int, step: Callable[[], Work]) -> None:
        try:
            works[number] = step()
        except StopIteration as end:
            results[number] = end.value
        except Exception as error:
            results[number] = error

    for number, training in enumerate(trainings):
        advance(number, partial(next, training))
    while works:
        asked = works.copy()
        works.clear()
        for number, answer, error in _carried_out(asked):
            training = trainings[number]
            advance(number, partial(training.send, answer) if error is None else partial(training.throw, error))
    return results  # type: ignore[return-value]


def _carried_out(works: dict[int, Work]) -> Iterator[tuple[int, Any, Exception | None]]:
    """What comes of each work, or its error, by its number, in an order that is always the same."""
    groups: dict[Hashable, list[int]] = {}
    for number, work in works.items():
        groups.setdefault(number if (key := kind(work)) is None else key, []).append(number)
    for numbers in groups.values():
        members = [works[number] for number in numbers]
        if len(members) > 1 and len(members) * _products(members[0]) >= FEWEST_PRODUCTS:
            yield from ((*each, None) for each in zip(numbers, at_once(members), strict=True))
        else:
            yield from (_by_itself(*each) for each in zip(numbers, members, strict=True))


def _by_itself(number: int, work: Work) -> tuple[int, Any, Exception | None]:
    try:
        return number, work.carried_out(), None
    except Exception as error:
        return number, None, error


def at_once(works: Sequence[Work]) -> list[Any]:
    """What comes of works of one `kind`."""
    backend = backends.choose(works[0].model.device)
    if isinstance(works[0], Steps):
        steps = [
            (work, work.model) for work in works if isinstance(work, Steps) and isinstance(work.model, LinearModel)
        ]
        plan = LockstepPlan(tuple(work.plan for work, _ in steps))
        return backend.run_lockstep([model.task(work.data, work.params) for work, model in steps], plan)
    if isinstance(works[0], ObjectiveOfRows):
        return _objectives([work for work in works if isinstance(work, ObjectiveOfRows)])
    gradients = [work for work in works if isinstance(work, GradientOfAll)]
    tasks = [work.model.gradient_task(work.data, work.predictor) for work in gradients]
    found = backend.gradients_dense(tasks)
    each = zip(gradients, tasks, found, strict=True)
    return [work.model.stored_of(task, work.data, sums) for work, task, sums in each]


def kind(work: Work) -> Hashable | None:
    """What works have in common that can be carried out at once; None: this one is for itself."""
    model, data = work.model, work.data
    if not isinstance(model, LinearModel) or declared(model.optimizer).dual or data.written is not None:
        return None
    if is_sparse(data.X) and (model.n_features > WIDEST or base.is_lazy(model.optimizer, model.penalty)):
        return None
    axes = model.axes.in_kernels
    seen = () if axes is None else (axes.center.tobytes(), axes.scale.tobytes())
    shape = model.n_outputs, model.n_features, model.fit_intercept, model.dtype.str
    alike = id(data.X), model.device, *shape, *seen
    if isinstance(work, GradientOfAll):
        return None if is_sparse(data.X) else (GradientOfAll, *alike)
    if isinstance(work, ObjectiveOfRows):
        shares = data.memory is not None and 0 < work.rows.size <= MOST_EVALUATED and model.device != "cuda"
        return (ObjectiveOfRows, *alike, work.rows.tobytes()) if shares else None
    plan = work.plan
    if plan.offsets[-1] < FEWEST_ROWS * plan.n_steps:
        return None
    return Steps, *alike, int(plan.offsets[-1]), *_order(plan.rows)


def _products(work: Work) -> float:
    """The numbers that a pass over the rows of a work multiplies."""
    if isinstance(work, ObjectiveOfRows):
        return np.inf  # nothing has to be compiled
    n_rows = work.plan.offsets[-1] if isinstance(work, Steps) else work.data.X.shape[0]
    return float(n_rows) * work.model.n_parameters


def _objectives(works: Sequence[ObjectiveOfRows]) -> list[tuple[float, float]]:
    """The mean losses of the same rows and the penalties: one product for all models."""
    models = [work.model for work in works if isinstance(work.model, LinearModel)]
    data, rows, K = works[0].data, works[0].rows, models[0].n_outputs
    X = data.remembered(lambda: ("evaluated", id(data.X), rows.tobytes()), lambda: data.X[rows])
    raw = raw_outputs(X, *(np.concatenate(arrays) for arrays in zip(*(work.predictor for work in works), strict=True)))
    results, backend = [], backends.choose(models[0].device)
    for m, (model, (_, own, _, predictor)) in enumerate(zip(models, works, strict=True)):
        outputs = raw[:, m * K : (m + 1) * K]
        total = backend.sum_of_losses(model.loss, outputs, own.y[rows], own.weights_of(rows))
        results.append(model.objective_of(total, own, rows, predictor))
    return results


def _order(order: RowOrder) -> tuple:
    """What two orders have in common that name the same rows at the same positions."""
    subset: np.ndarray = order.subset
    numbers = order.n_rows, order.block, order.short, order.width, order.start, order.copies
    place = subset.ctypes.data if subset.size else 0  # an empty array may be anywhere
    return order.explicit.tobytes(), order.keys.tobytes(), place, subset.size, *numbers
