// The kernels of a step of a network outside its layers: the rows of a batch, the loss, and the step of the optimizer. Stands
// behind batch.cu.

// Parameters and what moves them, packed by `network.Moved`: `n` of them, each slot `stride` behind the one before.
struct Moved {
    T *params, *point;
    const T* gradient;
    double* partial;  // sums of squares of each block
    unsigned* ticket;
    const unsigned char* kinds;  // of each parameter, an index of the next two
    const double *kind_rates, *kind_decayed;
    const double *of_optimizer, *of_penalty;  // hyper-parameters
    Index n, stride;
    Index n_sparse;  // the first ones, of which a batch touches those of its features only, `n_units` of each
    int n_units, lazy, follows;  // whether the others stay as they are, but for what follows
};

/* Whether the batch of a step touches a parameter. */
HD bool touches(const Chunk* chunk, const Moved& moved, Index step, Index j) {
    return j >= moved.n_sparse || chunk->marks[j / moved.n_units] == step + 1;
}

/* The rows of the next batch, their targets and weights. A block for each row, of the longest batch. */
extern "C" __global__ void bring(const Chunk* chunk, Batch batch) {
    __shared__ double scratch[32];
    __shared__ Index drawn_row;
    const int i = blockIdx.x;
    const Index step = chunk->next;
    if (step >= chunk->n_steps) return;
    const Index at = chunk->offsets[step] + i;
    if (at >= chunk->offsets[step + 1]) return;
    if (threadIdx.x == 0) {
        drawn_row = chunk->rows ? chunk->rows[at] : RowOrder(chunk->stored, chunk->subset, chunk->order).row_at(at);
        const double weight = chunk->weights ? chunk->weights[drawn_row] : 1.0;
        batch.weights[i] = chunk->plan_weights ? weight * chunk->plan_weights[at] : weight;
    }
    __syncthreads();
    const Index row = drawn_row;
    const Index first = chunk->rows ? chunk->indptr[row] : row * batch.n;
    const int n = chunk->rows ? int(chunk->indptr[row + 1] - first) : batch.n;
    const T* from = (chunk->rows ? chunk->data : chunk->X) + first;
    T* to = batch.inputs + Index(i) * batch.stride;
    double length = 0;
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        const T x = from[j];
        if (batch.inputs) to[j] = x;
        length += double(x * x);
    }
    for (int k = threadIdx.x; k < batch.n_targets; k += blockDim.x)
        batch.targets[Index(i) * batch.n_targets + k] = chunk->y[row * batch.n_targets + k];
    if (batch.inputs && batch.has_one && threadIdx.x == 0) to[batch.n] = T(1);
    if (batch.lengths) {
        length = block_sum(length, scratch);
        if (threadIdx.x == 0) batch.lengths[i] = length + batch.has_one;
    }
}

/* Losses and derivatives. A thread takes a row of a block, which is in shared memory where there is room (`n_rows` > 0). */
extern "C" __global__ void residuals(Chunk* chunk, Batch batch, int n_rows) {
    DYNAMIC_SHARED(memory);
    const int K = batch.n_outputs, apart = K | 1, first = blockIdx.x * max(n_rows, 1);  // uneven: rows in other banks
    const int count = min(max(n_rows, 1), batch.b - first);
    T *raw = reinterpret_cast<T*>(memory), *d = raw + n_rows * apart;
    const T* const outputs = batch.raw + Index(first) * K;
    T* const derivatives = batch.derivatives + Index(first) * K;
    if (blockIdx.x == 0 && threadIdx.x == 0) chunk->next = chunk->step + 1;
    if (n_rows)
        for (int e = threadIdx.x; e < count * K; e += blockDim.x) raw[e / K * apart + e % K] = outputs[e];
    __syncthreads();
    if (threadIdx.x < count) {
        const int i = first + threadIdx.x, at = threadIdx.x * apart;
        const Loss loss(batch.numbers);
        const double square = n_rows ? residuals_of(loss, batch, i, raw + at, d + at)
                                     : residuals_of(loss, batch, i, outputs, derivatives);
        if (batch.squares) batch.squares[i] = square * batch.lengths_before[i];
    }
    __syncthreads();
    if (n_rows)
        for (int e = threadIdx.x; e < count * K; e += blockDim.x) derivatives[e] = d[e / K * apart + e % K];
}

/* The norm of the gradient; the last block ends the step's account: statistics, clipping, and whether it is carried out. */
extern "C" __global__ void account(Chunk* chunk, Batch batch, Moved moved) {
    __shared__ double scratch[32];
    __shared__ int last;
    const Index now = chunk->step;
    double total = 0;
    for (Index j = blockIdx.x * Index(blockDim.x) + threadIdx.x; j < moved.n; j += Index(gridDim.x) * blockDim.x) {
        const double g = touches(chunk, moved, now, j) ? double(moved.gradient[j]) : 0.0;
        total += g * g;
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) moved.partial[blockIdx.x] = total;
    if (!is_last(moved.ticket, gridDim.x, &last)) return;
    const volatile double* partial = moved.partial;
    if (gridDim.x > 1) {
        total = 0;
        for (int k = threadIdx.x; k < gridDim.x; k += blockDim.x) total += partial[k];
        total = block_sum(total, scratch);
    }
    double loss = 0, squares = 0;
    for (int i = threadIdx.x; i < batch.b; i += blockDim.x) {
        loss += batch.losses[i];
        if (batch.squares) squares += batch.squares[i];
    }
    loss = block_sum(loss, scratch);
    squares = block_sum(squares, scratch);
    if (threadIdx.x) return;
    const Index s = chunk->step++;
    const bool finite = isfinite(loss + total);
    chunk->goes_on = chunk->failed < 0 && finite;
    if (chunk->failed >= 0) return;
    chunk->losses[s] = loss;
    chunk->square_norms[s] = total;
    chunk->row_squares[s] = batch.squares ? squares * batch.b * batch.b : nan("");
    chunk->factor = total > chunk->clip_norm * chunk->clip_norm ? chunk->clip_norm / sqrt(total) : 1.0;
    if (!finite) chunk->failed = s;
}

HD void load(const Chunk* chunk, Index s, T* c) {  // the coefficients of a step
    for (int k = 0; k < Optimizer::n_coefficients; ++k) c[k] = T(chunk->coefficients[s * Optimizer::n_coefficients + k]);
}

/* The step of the optimizer. A thread for each parameter. */
extern "C" __global__ void take_step(const Chunk* chunk, Moved moved) {
    const Index j = blockIdx.x * Index(blockDim.x) + threadIdx.x;
    if (j >= moved.n || !chunk->goes_on) return;
    const bool touched = touches(chunk, moved, chunk->step - 1, j);
    if (!touched && moved.lazy && !moved.follows) return;
    const Optimizer optimizer(moved.of_optimizer);
    const Penalty penalty(moved.of_penalty);
    const int kind = moved.kinds[j];
    const bool decayed = moved.kind_decayed[kind] != 0;
    T c[Optimizer::n_coefficients], slots[Optimizer::n_slots + 1], w = moved.params[j];
    const double rate = chunk->coefficients[(chunk->step - 1) * Optimizer::n_coefficients] * moved.kind_rates[kind];
    load(chunk, chunk->step - 1, c);
    c[0] = T(rate);
    for (int k = 0; k < Optimizer::n_slots; ++k) slots[k] = moved.params[j + (k + 1) * moved.stride];
    if (touched || !moved.lazy) {
        const T g = touched ? T(double(moved.gradient[j]) * chunk->factor) : T(0);
        stepped(penalty, optimizer, w, g, slots, T(1), decayed, c);  // contract/steps.py in CUDA C++
        moved.params[j] = w;
    }
    optimizer.follow(w, slots, c);
    for (int k = 0; k < Optimizer::n_slots; ++k) moved.params[j + (k + 1) * moved.stride] = slots[k];
}

/* Where the gradient is taken, of an optimizer that takes it elsewhere than at its parameters. */
extern "C" __global__ void find_point(const Chunk* chunk, Moved moved) {
    const Index j = blockIdx.x * Index(blockDim.x) + threadIdx.x;
    if (j >= moved.n) return;
    const Optimizer optimizer(moved.of_optimizer);
    T c[Optimizer::n_coefficients], slots[Optimizer::n_slots + 1];
    load(chunk, chunk->step, c);
    for (int k = 0; k < Optimizer::n_slots; ++k) slots[k] = moved.params[j + (k + 1) * moved.stride];
    moved.point[j] = optimizer.point(moved.params[j], slots, c);
}
