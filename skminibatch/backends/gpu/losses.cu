// Losses of rows whose raw outputs are known, and the raw outputs of sparse rows. Stands behind the structs of the parts;
// `Loss` is the loss, `Value` the type of the numbers that a sparse matrix stores, `Column` that of its indices.

/* Values of the losses of n rows and their derivatives by the raw outputs (n, K); y is (n, width). */
extern "C" __global__ void losses_of_rows(const T* raw, const T* y, T* values, T* residuals, const double* numbers,
                                          long long n, int K, int width) {
    const Loss loss(numbers);
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
        values[i] = loss.value_gradient(raw + i * K, y + i * width, residuals + i * K, K);
}

/* Raw outputs (n, K) of some rows (null: the first n), a thread for each: the same bits every time, as cuSPARSE has not. */
extern "C" __global__ void raw_of_sparse_rows(const Value* data, const Column* indices, const Column* indptr,
                                              const long long* rows, const T* coef, const T* intercept, T* raw, long long n,
                                              int K, int n_features) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n * K; i += stride) {
        const long long row = rows ? rows[i / K] : i / K, k = i % K;
        T sum = intercept[k];
        for (long long j = indptr[row]; j < indptr[row + 1]; ++j) sum += T(data[j]) * coef[k * n_features + indices[j]];
        raw[i] = sum;
    }
}
