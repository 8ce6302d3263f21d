// What the kernels of networks share: the steps that they carry out, and sums over threads. Stands behind rows.cu.

// A plan on the device, packed by plans.py. `step` is the one that is carried out: the kernel that ends its account moves it
// on, so that each step is launched with the same arguments. `next` is the one whose rows are brought, which happens while the
// account of the one before is made. `failed` is the first one that was not finite, or -1.
//
// Of sparse rows, `data`, `indices` and `indptr` are those of CSR, and `rows` those at each position. Their numbers stand in
// `values`, with their places in the batch in `owners`, in the order of steps and features; the features of step s are those
// in `features` from `of_steps[s]` on, the numbers of one from `firsts` on. `marks` are the last steps, from one on, that
// touched each feature. All are null of dense rows.
struct Chunk {
    const T *X, *y;
    const double *weights, *plan_weights;
    const Index *stored, *subset, *offsets;
    const double* coefficients;
    double *losses, *square_norms, *row_squares;
    const T* data;
    const int* indices;
    const Index *indptr, *rows;
    Index* marks;
    const T* values;
    const int *owners, *features;
    const Index *firsts, *of_steps;
    Index order[RowOrder::n_numbers];
    Word seed, first_step;
    double clip_norm, factor;
    Index n_steps, step, next, failed, goes_on;
};

// Sums over threads in an order that is fixed. All threads of a block take part; `memory` is shared, 32 numbers.

/* The sum over `count` warps of the block from `first` on, known to all threads. */
template <class V>
HD V sum_of_warps(V v, double* memory, int first, int count) {
    V* const of_warps = reinterpret_cast<V*>(memory);
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    for (int k = 16; k; k /= 2) v += __shfl_xor_sync(0xffffffffu, v, k);
    if (count == 1) return v;
    __syncthreads();
    if (thread % 32 == 0) of_warps[thread / 32] = v;
    __syncthreads();
    v = 0;
    for (int k = 0; k < count; ++k) v += of_warps[first + k];
    return v;
}

/* The sum over the threads of a block. */
template <class V>
HD V block_sum(V v, double* memory) {
    return sum_of_warps(v, memory, 0, blockDim.x * blockDim.y / 32);
}

/* Whether this is the last of some blocks to come here; it sees what the others have written. `shared`: one number. */
HD bool is_last(unsigned* ticket, unsigned n_blocks, int* shared) {
    __threadfence();
    __syncthreads();
    if (n_blocks == 1) return true;
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        *shared = atomicAdd(ticket, 1u) == n_blocks - 1;
        if (*shared) *ticket = 0;
    }
    __syncthreads();
    __threadfence();
    return *shared;
}
