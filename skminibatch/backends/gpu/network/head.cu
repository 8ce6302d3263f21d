// The last product of a network of few outputs, its loss, and the way back to what went into the layer before: all that
// a row has to itself. Stands behind layers.cu and batch.cu. A warp or more for each row.

extern "C" __global__ void __launch_bounds__(128) head(Chunk* chunk, Layer layer, Batch batch, const T* weights) {
    __shared__ double memory[32];
    const Activation activation(layer.numbers);
    const Loss loss(batch.numbers);
    const Mask mask(chunk, layer);
    const int row = blockIdx.x * blockDim.y + threadIdx.y, n = layer.n, K = batch.n_outputs;
    const bool inside = row < layer.b, plain = !layer.groups;
    const Index i = inside ? row : 0;
    const int n_active = inside ? n : 0;
    const T* z = layer.before + i * n;
    T *a = layer.after + i * layer.stride, *d = layer.derivatives + i * n;
    T *raw = batch.raw + i * K, *out = batch.derivatives + i * K;
    double length = 0, square = 0, back = 0;
    for (int j = threadIdx.x; j < n_active; j += blockDim.x) {
        if (plain) a[j] = activation.activate(z[j]) * mask(i * n + j);
        length += double(a[j] * a[j]);
    }
    length = row_sum(length, memory) + layer.has_one;
    for (int k = 0; k < K; ++k) {
        T total = 0;
        for (int j = threadIdx.x; j < n_active; j += blockDim.x) total += a[j] * weights[Index(j) * K + k];
        total = row_sum(total, memory);
        if (inside && threadIdx.x == 0) raw[k] = layer.has_one ? total + weights[Index(n) * K + k] : total;
    }
    if (inside && threadIdx.x == 0) {
        if (row == 0) chunk->next = chunk->step + 1;
        if (plain && layer.has_one) a[n] = T(1);
        square = residuals_of(loss, batch, int(i), raw, out);
    }
    __syncthreads();
    for (int j = threadIdx.x; j < n_active; j += blockDim.x) {
        T total = 0;
        for (int k = 0; k < K; ++k) total += out[k] * weights[Index(j) * K + k];
        if (plain) total = through(activation, z[j], total, mask(i * n + j));
        d[j] = total;
        back += double(total * total);
    }
    if (!batch.squares) return;
    back = row_sum(back, memory);
    if (inside && threadIdx.x == 0) batch.squares[i] = square * length + (plain ? back * layer.lengths_before[i] : 0.0);
}
