"""Plans on rows that do not fit on the GPU: the rows of some steps are used while those of the next ones are copied."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skminibatch.backends.arrays import is_sparse
from skminibatch.backends.gpu.device import cupy
from skminibatch.backends.gpu.placement import SHARE, SparseRows, fill, free_bytes, n_bytes, working
from skminibatch.contract.orders import explicit_order, rows_of
from skminibatch.contract.plan import empty_stats

PORTION_BYTES = 1 << 28  # of rows that come at once, where there is room for twice as many


def run(step, rows, y, weights, plan):
    """Carry out a plan; ``step(X, y, weights, plan)`` does so for rows on the GPU."""
    stats, loads = empty_stats(plan.n_steps), _loader(rows, plan)
    with ThreadPoolExecutor(1) as pool:
        pieces = _pieces(plan.offsets, n_bytes(rows.host) / max(1, len(rows)))
        coming = pool.submit(loads, 0, *pieces[0])
        for number, (first, last) in enumerate(pieces):
            chosen, X = coming.result()
            if number + 1 < len(pieces):  # into the buffer of the piece before, which is done
                coming = pool.submit(loads, number + 1, *pieces[number + 1])
            X = SparseRows.on_gpu(X) if is_sparse(X) else X
            of_rows = [cupy().asarray(array[chosen] if array.size else array) for array in (y, weights)]
            of_piece = step(X, *of_rows, _part(plan, first, last))
            for numbers, new in zip(stats[:3], of_piece[:3], strict=True):
                numbers[first:last] = new
            if of_piece.failed >= 0:
                return stats._replace(failed=first + of_piece.failed)
    return stats


def _loader(rows, plan):
    """A function that loads a piece: the numbers of its rows, and these rows on the GPU (sparse ones on the host)."""
    X, buffers = rows.host, {}

    def load(number: int, first: int, last: int):
        chosen = rows_of(plan.rows, plan.offsets[first], plan.offsets[last])
        if is_sparse(X):
            return chosen, X[chosen]
        buffer = buffers.get(number % 2)
        if buffer is None or len(buffer) < len(chosen):
            with working():  # of this thread
                buffer = buffers[number % 2] = cupy().empty((len(chosen), X.shape[1]), X.dtype)
        rows = buffer[: len(chosen)]
        fill(rows, lambda start, stop, out: np.take(X, chosen[start:stop], axis=0, out=out, mode="clip"))
        return chosen, rows

    return load


def _pieces(offsets: np.ndarray, row_bytes: float) -> list[tuple[int, int]]:
    """Steps (first, last + 1) whose rows come at once: as many as there is room for, and one at least."""
    room = min(PORTION_BYTES, SHARE * free_bytes() / 2) / row_bytes
    pieces, first = [], 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + room, side="right")) - 1
        pieces.append((first, max(last, first + 1)))
        first = pieces[-1][1]
    return pieces


def _part(plan, first: int, last: int):
    """The steps from `first` to before `last` as a plan whose rows stand in the order of their visit."""
    start, stop = plan.offsets[first], plan.offsets[last]
    return plan._replace(
        rows=explicit_order(np.arange(stop - start)),
        offsets=plan.offsets[first : last + 1] - start,
        coefficients=plan.coefficients[first:last],
        weights=None if plan.weights is None else plan.weights[start:stop],
        key=(plan.key[0], plan.key[1] + first),
    )
