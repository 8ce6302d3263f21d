// The first layer of a network on sparse rows (CSR): its product, and the gradient of its weights. Stands behind steps.cu.
//
// What the rows of a plan hold is listed once, in the order of steps and features, so that the gradient by a feature is a
// sum over neighbours in the list: nothing is added by atomic operations, and what a batch does not touch is not written.

/* The row at each position of a plan. */
extern "C" __global__ void list_rows(const Chunk* chunk, Index* rows, Index n) {
    const Index at = blockIdx.x * Index(blockDim.x) + threadIdx.x;
    if (at < n) rows[at] = RowOrder(chunk->stored, chunk->subset, chunk->order).row_at(at);
}

/* The numbers of the row at each position, with their place in the batch and their (step, feature). A warp for each row. The
   feature behind the last one is that of the intercept, where there is one. */
extern "C" __global__ void list_numbers(const Chunk* chunk, const int* steps, const Index* starts, Index* keys, int* owners,
                                        T* values, Index n, int d, int has_one) {
    const Index at = (blockIdx.x * Index(blockDim.x) + threadIdx.x) / 32;
    if (at >= n) return;
    const int step = steps[at], owner = int(at - chunk->offsets[step]), lane = threadIdx.x % 32;
    const Index row = chunk->rows[at], first = chunk->indptr[row], count = chunk->indptr[row + 1] - first;
    for (Index q = lane; q < count + has_one; q += 32) {
        const Index to = starts[at] + q;
        keys[to] = Index(step) * (d + 1) + (q < count ? chunk->indices[first + q] : d);
        owners[to] = owner;
        values[to] = q < count ? chunk->data[first + q] : T(1);
    }
}

/* Products of the rows of a batch and the weights (d, n), which end with the intercept. A block for each row. */
extern "C" __global__ void first_products(const Chunk* chunk, const T* weights, T* products, int d, int n, int has_one) {
    const Index row = chunk->rows[chunk->offsets[chunk->step] + blockIdx.x];
    const Index first = chunk->indptr[row], stop = chunk->indptr[row + 1];
    for (int k = threadIdx.x; k < n; k += blockDim.x) {
        T total = 0;
        for (Index q = first; q < stop; ++q) total += chunk->data[q] * weights[Index(chunk->indices[q]) * n + k];
        products[Index(blockIdx.x) * n + k] = has_one ? total + weights[Index(d) * n + k] : total;
    }
}

/* The gradient of the weights from the derivatives (b, n) by the products. A warp for a feature and 32 units. */
extern "C" __global__ void first_gradient(const Chunk* chunk, const T* derivatives, T* gradient, int n) {
    const Index begin = chunk->of_steps[chunk->step], count = chunk->of_steps[chunk->step + 1] - begin;
    const int lane = threadIdx.x % 32, slices = (n + 31) / 32, n_warps = gridDim.x * (blockDim.x / 32);
    for (Index work = (blockIdx.x * Index(blockDim.x) + threadIdx.x) / 32; work < count * slices; work += n_warps) {
        const Index one = begin + work / slices, stop = chunk->firsts[one + 1];
        const int slice = int(work % slices), k = slice * 32 + lane, feature = chunk->features[one];
        if (slice == 0 && lane == 0) chunk->marks[feature] = chunk->step + 1;
        if (k >= n) continue;
        T total = 0;
        for (Index e = chunk->firsts[one]; e < stop; ++e)
            total += chunk->values[e] * derivatives[Index(chunk->owners[e]) * n + k];
        gradient[Index(feature) * n + k] = total;
    }
}
