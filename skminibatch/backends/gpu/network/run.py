"""Networks on the GPU: a step is the same launches each time, which are captured once as a graph and launched for each step."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np

from skminibatch.backends.arrays import is_sparse
from skminibatch.backends.gpu import device
from skminibatch.backends.gpu.compile import kernel_of, record_of, source_of
from skminibatch.backends.gpu.network import csr
from skminibatch.backends.gpu.network.layers import BACKWARD, FORWARD, NOTHING, Level, LevelSpace, launches, of_rows
from skminibatch.backends.gpu.network.plans import Chunk
from skminibatch.backends.gpu.network.products import Products
from skminibatch.backends.gpu.source import has_cuda, numbers, structs
from skminibatch.contract.kinds import declared
from skminibatch.contract.plan import Plan, StepStats
from skminibatch.contract.task import NetworkTask
from skminibatch.contract.verbs import identity, n_slots

# ``Batch`` in batch.cu and ``Moved`` in network.cu
ADDRESSES_OF_BATCH = "inputs targets weights lengths raw derivatives lengths_before losses squares numbers".split()
COUNTS_OF_BATCH = "b n stride has_one n_targets n_outputs".split()
BATCH = np.dtype(
    [*((name, np.uint64) for name in ADDRESSES_OF_BATCH), *((name, np.int32) for name in COUNTS_OF_BATCH)], align=True
)
ADDRESSES_OF_MOVED = (
    "params point gradient partial ticket kinds kind_rates kind_decayed of_optimizer of_penalty".split()
)
MOVED = np.dtype(
    [
        *((name, np.uint64) for name in ADDRESSES_OF_MOVED),
        *((name, np.int64) for name in ("n", "stride", "n_sparse")),
        *((name, np.int32) for name in ("n_units", "lazy", "follows")),
    ],
    align=True,
)
THREADS = 256
MOST_BLOCKS = 256  # of what sums the squares of a gradient
SHARED_BYTES = 48 * 1024  # of a block that asks for no more
FEW_OUTPUTS = 32  # that a warp computes one after the other for its row
SMALL_PRODUCT = 1 << 22  # multiplications; above, the last product is better done by cuBLAS
FEW_STEPS = 4  # of a plan, which are done before a graph is made
MOST_STEPS = 16  # that are kept as graphs, each for a batch size
MOST_KINDS = 256  # of parameters, by what multiplies their rates and whether they are decayed


def run_mlp(task: NetworkTask, plan: Plan, subset=None) -> StepStats:
    """Carry out a plan on a network for which there are kernels; the subset of the order, if given, is on the device."""
    network = Network.of(task.stack, *task.parts, task.params.dtype, is_sparse(task.X))
    subset = plan.rows.subset if subset is None else subset
    return network.run(task.X, task.y, task.weights, plan, subset, task.params)


def has_kernels(stack, loss, penalty, optimizer, X) -> bool:
    """Whether there are kernels: for parts in CUDA C++, layers that are pooled as kernels do, and sparse rows as they are."""
    activations = [layer.activation for layer in stack.layers]
    written = all(has_cuda(part) for part in (loss, penalty, optimizer, *activations))
    readable = not is_sparse(X) or stack.entry is None
    return stack.fits_kernels and written and readable and len(_kinds(stack)[0]) <= MOST_KINDS


def forget(stack) -> None:
    """Give back the memory of the device that a stack was prepared with."""
    for key in [key for key in stack.prepared if key[0] == "gpu"]:
        del stack.prepared[key]


class Step:
    """The launches of a step for one batch size; where they `may_be_captured`, a graph from the second time on.

    The first time loads the kernels, which cannot be done while a graph is captured.
    """

    def __init__(self, launches: list, *, may_be_captured: bool):
        self.launches, self.may_be_captured, self.graph, self.n_launched = launches, may_be_captured, None, 0

    def __call__(self, stream) -> None:
        if self.may_be_captured and self.n_launched == 1:
            stream.begin_capture()
            try:
                self._launch()
            except BaseException:
                stream.end_capture()  # of a part of the launches, which nobody wants
                raise
            self.graph = stream.end_capture()
        self.n_launched += 1
        if self.graph is not None:
            self.graph.launch(stream=stream)
        else:
            self._launch()

    def _launch(self) -> None:
        for launch in self.launches:
            launch()


class Network:
    """A stack and the parts that train it on a device, for one thread of the host.

    The parameters are copies of those of the caller, so that graphs stay what they are when other ones are moved.
    """

    def __init__(self, stack, loss, penalty, optimizer, dtype, is_sparse):
        xp, self.is_sparse = device.cupy(), is_sparse
        self.stack, self.loss, self.optimizer, self.dtype = stack, loss, optimizer, np.dtype(dtype)
        self.stream, self.side = (xp.cuda.Stream(non_blocking=True) for _ in range(2))
        self.levels = Level.all_of(stack)
        parts = structs({"Loss": loss, "Optimizer": optimizer, "Penalty": penalty}, dtype)
        self.source = source_of(
            {}, parts, "rows.cu", "network/steps.cu", "network/batch.cu", "network/run.cu", "network/csr.cu"
        )
        self.longest, self.n_targets, self.steps = 0, 0, {}
        with self.stream:
            self.products, self.on_side = Products(dtype, self.stream), Products(dtype, self.side, 1)
            self.chunk = Chunk()
            self.params = xp.empty((1 + n_slots(optimizer), stack.n_numbers), dtype)
            self.gradient = xp.empty(stack.n_parameters, dtype)
            self.point = xp.empty(stack.n_parameters if declared(optimizer).brings("point") else 0, dtype)
            self.moved, self.kept = self._moved(penalty)

    @classmethod
    def of(cls, stack, loss, penalty, optimizer, dtype, is_sparse: bool) -> Network:
        """From the parts, once for each stack, device and thread."""
        place = "gpu", device.cupy().cuda.runtime.getDevice(), threading.get_ident()
        key = *place, dtype, is_sparse, *(identity(part) for part in (loss, penalty, optimizer))
        if key not in stack.prepared:
            stack.prepared[key] = cls(stack, loss, penalty, optimizer, dtype, is_sparse)
        return stack.prepared[key]

    def _moved(self, penalty) -> tuple:
        """What the kernels get of the parameters, and the arrays whose places these are."""
        xp, stack, n = device.cupy(), self.stack, self.stack.n_parameters
        kinds, kind = _kinds(stack)
        arrays = {
            "params": self.params,
            "point": self.point,
            "gradient": self.gradient,
            "partial": xp.empty(MOST_BLOCKS, np.float64),
            "ticket": xp.zeros(1, np.uint32),
            "kinds": xp.asarray(np.repeat(kind, np.diff(stack.segments[0][:, :2]).ravel()).astype(np.uint8)),
            "kind_rates": xp.asarray(np.ascontiguousarray(kinds[:, 0])),
            "kind_decayed": xp.asarray(np.ascontiguousarray(kinds[:, 1])),
            "of_optimizer": xp.asarray(numbers(self.optimizer)),
            "of_penalty": xp.asarray(numbers(penalty)),
        }
        first, optimizer = stack.layers[0], self.optimizer
        lazy, follows = self.is_sparse and not declared(optimizer).linear, declared(optimizer).brings("follow")
        counts = {"n": n, "stride": stack.n_numbers, "n_sparse": sum(first.sizes) * self.is_sparse}
        return record_of(MOVED, arrays, **counts, n_units=first.n_out, lazy=lazy, follows=follows), arrays

    def run(self, X, y, weights, plan, subset, params):
        """Carry out a plan: nothing is read from the device from the first step until all steps are done."""
        xp, stream, sizes = device.cupy(), self.stream, plan.sizes
        stream.wait_event(xp.cuda.get_current_stream().record())
        with stream:
            data = csr.arrays_of(X, plan, self.dtype) if self.is_sparse else {"X": self._contiguous(X)}
            data |= {"y": self._contiguous(y), "weights": xp.ascontiguousarray(xp.asarray(weights, np.float64))}
            data["subset"] = xp.asarray(subset)
            moves = self.chunk.load(plan, data, stream)
            if self.is_sparse:
                listed = csr.listed(self.chunk, data, plan, self.source, has_one=self.levels[0].has_one)
                self.chunk.add(listed, stream)
            self.products.begin()
            self.on_side.begin()
            self._make_room(int(sizes.max()), 1 if y.ndim == 1 else y.shape[1], moves)
            self.params[...] = xp.asarray(params)
            self._bring(self._batch(int(sizes[0])))()
            for size in sizes.tolist():
                self._step(size)(stream)
            stats = self.chunk.statistics(stream)
            params[...] = self.params if isinstance(params, xp.ndarray) else xp.asnumpy(self.params)
            stream.synchronize()
        return stats

    def _contiguous(self, array):
        xp = device.cupy()
        return xp.ascontiguousarray(xp.asarray(array, self.dtype))

    def _step(self, size: int) -> Step:
        """That of a batch size; of those that are many, the oldest one is forgotten."""
        if size not in self.steps:
            if len(self.steps) == MOST_STEPS:
                del self.steps[next(iter(self.steps))]
            lasting = self.chunk.n_steps > FEW_STEPS
            self.steps[size] = Step(self._launches(size), may_be_captured=self.products.may_be_captured and lasting)
        return self.steps[size]

    def _make_room(self, longest: int, n_targets: int, moves: bool) -> None:
        """Memory for batches of this size; graphs are captured anew if any of it `moves`."""
        if longest <= self.longest and n_targets == self.n_targets:
            self.steps = {} if moves else self.steps
            return
        xp, dtype, last = device.cupy(), self.dtype, len(self.levels) - 1
        longest, self.longest, self.steps, self.spaces = max(longest, self.longest), 0, {}, []
        none = last, 0 if self.is_sparse else last
        self.spaces = [LevelSpace(level, longest, dtype, has_after=level.number not in none) for level in self.levels]
        self.targets = xp.empty(longest * n_targets, dtype)
        self.weights, self.losses, self.squares = (xp.empty(longest, np.float64) for _ in range(3))
        self.of_loss = xp.asarray(numbers(self.loss))
        self.longest, self.n_targets = longest, n_targets  # if there was memory enough

    def _launches(self, b: int) -> list:
        """The launches of a step for batches of `b` rows, which end while the rows of the next one are brought."""
        chunk, batch, moved = self.chunk.words, self._batch(b), self.moved
        n, kernel = self.stack.n_parameters, partial(kernel_of, self.source)
        each = (-(-n // THREADS), 1), (THREADS, 1), (chunk, moved)
        of_step = [partial(kernel("find_point"), *each)] if self.point.size else []
        for launches_of_layers in self._through_layers(b, batch):
            of_step += launches_of_layers
        n_blocks = min(MOST_BLOCKS, -(-n // (4 * THREADS)))
        of_step += [
            self._waiting(self.side, self.stream),
            partial(_on, self.side, self._bring(batch)),
            partial(kernel("account"), (n_blocks, 1), (THREADS, 1), (chunk, batch, moved)),
            partial(kernel("take_step"), *each),
            self._waiting(self.stream, self.side),
        ]
        return of_step

    def _bring(self, batch):
        """The launch that gathers the rows of the step that is next."""
        return partial(kernel_of(self.source, "bring"), (self.longest, 1), (128, 1), (self.chunk.words, batch))

    def _through_layers(self, b: int, batch) -> tuple[list, list]:
        """The launches of the layers and of the loss, forward and backward.

        On the way back, the gradient of the weights of a layer and what the layers before it wait for are done side by side.
        """
        levels, last, has_head, chunk = self.levels, len(self.levels) - 1, self._has_head(b), self.chunk.words
        w, forward, backward = self.point if self.point.size else self.params[0], [], []
        for level in levels:
            if level.number:
                first, others = self._products(level, b, w, alone=has_head and level.number == last)
                forward += first
                backward[:0] = others
            if level.number == last or (not level.number and level.pooling is None):
                continue
            arguments = level.source(self.loss, self.dtype), chunk, self._record_of(level, b, w)
            if not (has_head and level.number == last - 1 and level.pools == NOTHING):
                forward += launches(level, FORWARD, *arguments)
                backward[:0] = launches(level, BACKWARD, *arguments)
        if has_head:
            source, _, record = arguments
            sizes, weights = of_rows(levels[last - 1], b, whole=True), w[levels[last].place.weights]
            forward.append(partial(kernel_of(source, "head"), *sizes, (chunk, record, batch, weights)))
        else:
            forward.append(self._residuals(b, batch))
        if last > 1 or levels[0].pooling is not None:
            backward.append(self._waiting(self.stream, self.side))
        return forward, backward

    def _residuals(self, b: int, batch):
        """The launch that computes the loss: of up to 32 rows in each block."""
        row_bytes = 2 * (self.levels[-1].n | 1) * self.dtype.itemsize
        n_rows = min(32, SHARED_BYTES // row_bytes)
        arguments = self.chunk.words, batch, np.int32(n_rows)
        grid = (-(-b // max(n_rows, 1)), 1)
        return partial(kernel_of(self.source, "residuals"), grid, (128, 1), arguments, shared_mem=n_rows * row_bytes)

    def _has_head(self, b: int) -> bool:
        """Whether one kernel does all around the loss: behind a hidden layer, for few outputs."""
        n, n_outputs = self.levels[-2].n, self.levels[-1].n
        return len(self.levels) > 2 and n_outputs <= FEW_OUTPUTS and b * n * n_outputs <= SMALL_PRODUCT

    def _products(self, level: Level, b: int, w, *, alone: bool) -> tuple[list, list]:
        """Those of a layer, forward and backward; `alone`: only the one that gives the gradient of its weights."""
        if level.number == 1 and self.is_sparse:
            return self._sparse_products(level, b, w)
        A, W, D, g = self._matrices(level, b, w)
        below, Z = self.levels[level.number - 1], _matrix(self.spaces[level.number].before, b, level.n)
        forward = [partial(self.products, A, W, Z)]
        if level.number == 1 and below.pooling is None:
            return forward, [partial(self.products, A, D, g, "a")]
        earlier = _matrix(self.spaces[below.number].derivatives, b, below.n)
        on_side = [self._waiting(self.side, self.stream), partial(self.on_side, A, D, g, "a")]
        if alone:
            return [], on_side
        return forward, [*on_side, partial(self.products, D, W[: below.n], earlier, "b")]

    def _sparse_products(self, level: Level, b: int, w) -> tuple[list, list]:
        """Those of the first layer on sparse rows: its outputs, and the gradient of its weights."""
        below, space, chunk = self.levels[0], self.spaces[1], self.chunk.words
        place = slice(level.place.weights.start, level.place.intercept.stop)
        n, has_one = np.int32(level.n), np.int32(below.has_one)
        forward = chunk, w[place], space.before, np.int32(below.n), n, has_one
        backward = chunk, space.derivatives, self.gradient[place], n
        gradient = kernel_of(self.source, "first_gradient"), (csr.GRADIENT_BLOCKS, 1), (csr.BLOCK, 1), backward
        return [partial(kernel_of(self.source, "first_products"), (b, 1), (csr.BLOCK, 1), forward)], [
            partial(*gradient)
        ]

    @staticmethod
    def _waiting(stream, other):
        return partial(_wait, stream, other, device.cupy().cuda.Event())

    def _matrices(self, level: Level, b: int, w) -> tuple:
        """Of a dense layer, for its products: inputs, weights, derivatives, and the gradient of the weights."""
        below = self.levels[level.number - 1]
        A = _matrix(self.spaces[level.number - 1].after, b, below.stride)[:, : below.n + below.has_one]
        place = slice(level.place.weights.start, level.place.intercept.stop)
        W, g = (array[place].reshape(-1, level.n) for array in (w, self.gradient))
        return A, W, _matrix(self.spaces[level.number].derivatives, b, level.n), g

    def _record_of(self, level: Level, b: int, w) -> np.ndarray:
        space, measured = self.spaces[level.number], not self.stack.couples_rows
        before = self.spaces[level.number - 1].lengths if level.number and measured else None
        place = level.place.normalization
        return space.record(
            level, b, lengths=space.lengths if measured else None, lengths_before=before,
            squares=self.squares if measured else None, weights=self.weights, parameters=w[place],
            gradient=self.gradient[place], running=self.params[0, level.place.running],
        )  # fmt: skip

    def _batch(self, b: int) -> np.ndarray:
        first, last, input_space = self.levels[0], self.spaces[-1], self.spaces[0]
        measured, plain = not self.stack.couples_rows, first.pooling is None
        arrays = {
            "inputs": input_space.after if plain else input_space.before,
            "targets": self.targets,
            "weights": self.weights,
            "lengths": input_space.lengths if measured and plain else None,
            "raw": last.before,
            "derivatives": last.derivatives,
            "lengths_before": self.spaces[-2].lengths,
            "losses": self.losses,
            "squares": self.squares if measured else None,
            "numbers": self.of_loss,
        }
        stride, has_one = (first.stride, first.has_one) if plain else (first.n, False)
        counts = {"b": b, "n": first.n, "stride": stride, "has_one": has_one}
        return record_of(BATCH, arrays, **counts, n_targets=self.n_targets, n_outputs=self.levels[-1].n)


def _kinds(stack) -> tuple[np.ndarray, np.ndarray]:
    """What multiplies the rate of parameters and whether they are decayed, as (kinds, 2), and the kind of each segment."""
    segments, rates = stack.segments
    kinds, kind = np.unique(np.column_stack([rates, segments[:, 2]]), axis=0, return_inverse=True)
    return kinds, kind.ravel()


def _on(stream, launch) -> None:
    """Launch on another stream."""
    with stream:
        launch()


def _wait(stream, other, event) -> None:
    """What comes next on a stream comes after what another one has been given."""
    stream.wait_event(other.record(event))


def _matrix(array, n_rows: int, n_columns: int):
    """The start of an array as a matrix by rows."""
    return array[: n_rows * n_columns].reshape(n_rows, n_columns)
