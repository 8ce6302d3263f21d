// The sum of the losses of many rows. Stands behind rows.cu and sums.cu; OUTPUTS (at once) is defined before. With SPARSE,
// `Value` is the type of the stored numbers and `Column` that of the indices.

constexpr int ROWS = 4;  // at once

#ifdef SPARSE
struct Matrix {
    const Value* values;
    const Column *columns, *starts;

    /* The products of a row with some columns of `coef`, in all lanes. */
    template <int N>
    HD void products(Index row, const T* coef, int d, int first, int n_outputs, T (&outputs)[N]) const {
        T dots[N] = {};
        const Index stop = starts[row + 1];
        for (Index p = starts[row] + lane(); p < stop; p += WARP) {
            const T x = T(values[p]), *const v = coef + columns[p];
#pragma unroll
            for (int k = 0; k < N; ++k) dots[k] += x * v[Index(min(first + k, n_outputs - 1)) * d];
        }
#pragma unroll
        for (int k = 0; k < N; ++k) outputs[k] = warp_sum(dots[k]);
    }
};
#define MATRIX const Value *values, const Column *columns, const Column *starts
#define MATRIX_OF {values, columns, starts}
#else
struct Matrix {
    const T* numbers;

    template <int N>
    HD void products(Index row, const T* coef, int d, int first, int n_outputs, T (&outputs)[N]) const {
        T dots[N] = {};
        for (int j = lane(); j < d; j += WARP) {
            const T x = numbers[row * d + j];
#pragma unroll
            for (int k = 0; k < N; ++k) dots[k] += x * coef[Index(min(first + k, n_outputs - 1)) * d + j];
        }
#pragma unroll
        for (int k = 0; k < N; ++k) outputs[k] = warp_sum(dots[k]);
    }
};
#define MATRIX const T *numbers
#define MATRIX_OF {numbers}
#endif

/* The weighted losses of n rows (of those in `rows` if that is not null), one sum for each block. A warp takes ROWS rows, and
   a lane the loss of one; `space` has room for the raw outputs and residuals of these. */
extern "C" __global__ void __launch_bounds__(THREADS) sum_losses(
    MATRIX, const T* y, const double* weights, const Index* rows, Index n, const double* loss_numbers, const T* coef,
    const T* intercept, T* space, double* sums, int d, int n_outputs, int n_targets) {
    const Matrix X MATRIX_OF;
    const Loss loss(loss_numbers);
    DYNAMIC_SHARED(memory);
    const Index number = Index(blockIdx.x) * WARPS + warp(), step = Index(gridDim.x) * WARPS * ROWS;
    T* const raw = space + number * 2 * ROWS * n_outputs;
    double total = 0;
    for (Index at = number * ROWS; at < n; at += step) {
        const int count = int(min(Index(ROWS), n - at));
        const Index place = at + min(lane(), count - 1), row = rows ? rows[place] : place;
        for (int r = 0; r < count; ++r) {
            const Index one = __shfl_sync(ALL, row, r);
            for (int first = 0; first < n_outputs; first += OUTPUTS) {
                T outputs[OUTPUTS];
                X.products(one, coef, d, first, n_outputs, outputs);
#pragma unroll
                for (int k = 0; k < OUTPUTS; ++k)
                    if (lane() == r && first + k < n_outputs)
                        raw[r * n_outputs + first + k] = outputs[k] + intercept[first + k];
            }
        }
        if (lane() < count) {
            T* const own = raw + lane() * n_outputs;
            const T value = loss.value_gradient(own, y + row * n_targets, own + ROWS * n_outputs, n_outputs);
            total += weights ? weights[row] * value : double(value);
        }
        __syncwarp();
    }
    total = block_sum(total, reinterpret_cast<double*>(memory));
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
}
