"""A plan on the device, in one copy: what the kernels of networks read of it, and where they leave their statistics."""

from __future__ import annotations

import numpy as np

from skminibatch.backends.gpu import device
from skminibatch.backends.gpu.compile import address_of
from skminibatch.backends.gpu.network.csr import LISTED
from skminibatch.backends.gpu.source import ORDER_NUMBERS, order_numbers
from skminibatch.contract.plan import Plan, StepStats, empty_stats

STATISTICS = StepStats._fields[:3]
OF_SPARSE_ROWS = "data", "indices", "indptr", "rows", "marks", *LISTED
ARRAYS = (
    *("X", "y", "weights", "plan_weights", "stored", "subset", "offsets", "coefficients"),
    *(*STATISTICS, *OF_SPARSE_ROWS),
)
# ``Chunk`` in steps.cu
CHUNK = np.dtype(
    [
        *((name, np.uint64) for name in ARRAYS),
        ("order", np.int64, ORDER_NUMBERS),
        ("seed", np.uint64),
        ("first_step", np.uint64),
        ("clip_norm", np.float64),
        ("factor", np.float64),
        ("n_steps", np.int64),
        ("step", np.int64),
        ("next", np.int64),
        ("failed", np.int64),
        ("goes_on", np.int64),
    ]
)


class Chunk:
    """The memory of the device that holds a plan: its head, the statistics of its steps, and its arrays, in 8 bytes each."""

    def __init__(self):
        self.words = device.cupy().empty(0, np.uint64)
        self.n_steps = 0

    def load(self, plan: Plan, data: dict, stream) -> bool:
        """Copy a plan and the places of the data; whether the plan is at a new place, as it needed more room."""
        self.n_steps = plan.n_steps
        none, order = np.empty(0), plan.rows
        own = {
            **dict(zip(STATISTICS, empty_stats(self.n_steps), strict=False)),
            "offsets": np.ascontiguousarray(plan.offsets, np.int64),
            "coefficients": np.ascontiguousarray(plan.coefficients, np.float64).ravel(),
            "plan_weights": none if plan.weights is None else np.ascontiguousarray(plan.weights, np.float64),
            "stored": order.explicit,
        }
        size = CHUNK.itemsize // 8 + sum(array.size for array in own.values())
        moves = self.words.size < size
        if moves:
            self.words = device.cupy().empty(size + size // 2, np.uint64)
        head, parts, at = np.zeros(1, CHUNK), [], self.words.data.ptr + CHUNK.itemsize
        for name, array in own.items():
            head[name] = at if array.size else 0
            parts.append(array.view(np.uint64))
            at += array.nbytes
        for name, array in data.items():
            head[name] = address_of(array)
        seed, step = (np.asarray(key).astype(np.uint64) for key in plan.key)
        head["order"], head["seed"], head["first_step"] = order_numbers(order), seed, step
        head["clip_norm"], head["failed"], head["n_steps"] = plan.clip_norm, -1, self.n_steps
        self.words[:size].set(np.concatenate([head.view(np.uint64), *parts]), stream=stream)
        return moves

    def add(self, listed: dict, stream) -> None:
        """Copy the places of what was listed of sparse rows."""
        places = np.array([listed[name].data.ptr for name in LISTED], np.uint64)
        start = CHUNK.fields[LISTED[0]][1] // 8
        self.words[start : start + len(LISTED)].set(places, stream=stream)

    def statistics(self, stream) -> StepStats:
        """What the steps have left, when all are done."""
        size = CHUNK.itemsize // 8
        words = self.words[: size + 3 * self.n_steps].get(stream=stream)
        stream.synchronize()
        head, each = words[:size].view(CHUNK)[0], words[size:].view(np.float64).reshape(3, -1)
        return StepStats(*each, failed=int(head["failed"]))
