"""Several trainings side by side: plans that read the same rows in the same order are carried out together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial

import numpy as np

from skminibatch import backends
from skminibatch.backends import base
from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.kinds import declared
from skminibatch.contract.orders import RowOrder
from skminibatch.contract.plan import LockstepPlan, StepStats
from skminibatch.models.linear import LinearModel
from skminibatch.training.work import T, Training, Work

FEWEST_PRODUCTS = 1 << 22  # below, trainings one after another take milliseconds, and compile nothing
FEWEST_ROWS = 8  # of a batch in the mean: the batches of all models end where one of them does
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
        for number, stats in _carried_out(asked):
            advance(number, partial(trainings[number].send, stats))
    return results  # type: ignore[return-value]


def _carried_out(works: dict[int, Work]) -> Iterator[tuple[int, StepStats]]:
    """The statistics of each plan, by its number, in an order that is always the same."""
    groups: dict[Hashable, list[int]] = {}
    for number, work in works.items():
        groups.setdefault(number if (key := kind(work)) is None else key, []).append(number)
    for numbers in groups.values():
        members = [works[number] for number in numbers]
        if len(members) > 1 and len(members) * _products(members[0]) >= FEWEST_PRODUCTS:
            yield from zip(numbers, in_lockstep(members), strict=True)
        else:
            yield from ((number, works[number].carried_out()) for number in numbers)


def _products(work: Work) -> float:
    """The numbers that a plan multiplies."""
    return float(work.plan.offsets[-1]) * work.model.n_parameters


def in_lockstep(works: Sequence[Work]) -> list[StepStats]:
    """The statistics of works of one `kind`."""
    tasks = [work.model.task(work.data, work.params) for work in works]
    plan = LockstepPlan(tuple(work.plan for work in works))
    return backends.choose(works[0].model.device).run_lockstep(tasks, plan)


def kind(work: Work) -> Hashable | None:
    """What works have in common that can be carried out together; None: this one is for itself."""
    model, plan, _, data = work
    if not isinstance(model, LinearModel) or plan.offsets[-1] < FEWEST_ROWS * plan.n_steps:
        return None
    if declared(model.optimizer).dual or data.written is not None:
        return None
    if is_sparse(data.X) and (model.n_features > WIDEST or base.is_lazy(model.optimizer, model.penalty)):
        return None
    axes = model.axes.in_kernels
    seen = () if axes is None else (axes.center.tobytes(), axes.scale.tobytes())
    shape = model.n_outputs, model.n_features, model.fit_intercept, model.dtype.str
    return id(data.X), model.device, *shape, *seen, int(plan.offsets[-1]), *_order(plan.rows)


def _order(order: RowOrder) -> tuple:
    """What two orders have in common that name the same rows at the same positions."""
    subset: np.ndarray = order.subset
    numbers = order.n_rows, order.block, order.short, order.width, order.start, order.copies
    return order.explicit.tobytes(), order.keys.tobytes(), subset.ctypes.data, subset.size, *numbers
