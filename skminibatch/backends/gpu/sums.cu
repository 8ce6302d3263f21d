// Sums in a fixed order over the lanes of a warp and the threads of a block. Stands behind the structs of the parts, which
// define T; THREADS is defined before.

constexpr int WARP = 32, WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffffu;

HD double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }
HD int lane() { return threadIdx.x % WARP; }
HD int warp() { return threadIdx.x / WARP; }

template <class V>
HD V warp_sum(V x) {
    for (int k = WARP / 2; k; k /= 2) x += __shfl_xor_sync(ALL, x, k);
    return x;
}

/* Sums over the lanes of N numbers each, N a power of two: a lane gets that of number `lane % N`. */
template <int N>
HD T sum_by_lane(T (&x)[N]) {
#pragma unroll
    for (int half = N / 2; half; half /= 2) {
        const bool upper = lane() & half;
#pragma unroll
        for (int i = 0; i < half; ++i) {
            const T given = upper ? x[i] : x[i + half];
            x[i] = (upper ? x[i + half] : x[i]) + __shfl_xor_sync(ALL, given, half);
        }
    }
#pragma unroll
    for (int k = N; k < WARP; k *= 2) x[0] += __shfl_xor_sync(ALL, x[0], k);
    return x[0];
}

/* The sum over the threads of the block, known to all. */
HD double block_sum(double x, double* scratch) {
    x = warp_sum(x);
    __syncthreads();
    if (lane() == 0) scratch[warp()] = x;
    __syncthreads();
    double total = scratch[0];
#pragma unroll 4
    for (int w = 1; w < WARPS; ++w) total += scratch[w];
    return total;
}
