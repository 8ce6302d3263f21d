// The kernels of a layer of a network around its product: normalization, activation and dropout, and the way back.
//
// What pools rows has blocks of 8 units and several rows: 8 numbers are what memory hands out at once. What pools units has a
// warp or more for each row. The units of a layer are contiguous in all arrays but `after`, whose rows are `stride` apart.

// A layer and a batch, packed by `LevelSpace.record` in layers.py; the input's normalization is a layer of its own. What a
// layer does not need is null or zero. `lengths`, `lengths_before` and `squares` are null where gradients of rows are not
// measured.
struct Layer {
    T* before;               // products; standardised in place, but by the hybrid normalization
    T* derivatives;          // by what comes out of dropout, on the way back by `before`
    T* after;                // what the next layer gets: ends with a one where that has an intercept
    double* lengths;         // squared lengths of the rows of `after`
    const double* lengths_before;  // and of what entered the layer
    double* squares;         // squared norms of what rows add to the gradient
    const double* weights;   // of the rows
    const T* parameters;     // gamma, beta, and q of the hybrid one
    T* gradient;             // of these
    T* running;              // the number of batches, means and variances
    T* inverse;              // one over deviations: of each group of rows and unit, or row and block of units
    T* moments;              // of each group of rows: means, variances, the sum of squared shares
    T* sums;                 // of each group of rows: what `gradient` is added up from, and of the hybrid one two more
    double* portions;        // of each group of rows: one over the sum of their weights
    T* by_row;               // of the hybrid one: mean and variance of the units of each row, and its share in q's gradient
    unsigned* tickets;       // as many as there are blocks of units
    const double* numbers;   // hyper-parameters of the activation
    double epsilon, momentum, factor;  // `factor`: of units that dropout keeps
    int b, n, stride, has_one;
    int groups;              // of rows or of units that are normalised apart; none: zero
    int n_scales, is_hybrid;
    int number;              // of the layer, for dropout
    unsigned least;          // the least random number of a unit that is kept
};

struct Mask {  // of dropout
    Word start;
    unsigned least;
    T factor;

    HD Mask(const Chunk* chunk, const Layer& layer) : start(0), least(layer.least), factor(T(layer.factor)) {
        if (least) start = draws(chunk->seed, chunk->first_step + Word(chunk->step), Word(layer.number));
    }
    HD T operator()(Index at) const { return !least ? T(1) : drawn(start, Word(at) + 1) >= least ? factor : T(0); }
};

/* The derivative by the input of an activation, from that by the output of its dropout. */
HD T through(const Activation& activation, T y, T derivative, T kept) {
    return derivative * kept * activation.slope(y, activation.activate(y));
}

template <class V>
HD V row_sum(V v, double* memory) {
    return sum_of_warps(v, memory, threadIdx.y * (blockDim.x / 32), blockDim.x / 32);
}

template <class V>
HD V column_sum(V v, double* memory) {  // over the threads of a unit; `memory`: 8 numbers for each warp
    V* const of_warps = reinterpret_cast<V*>(memory);
    const int thread = threadIdx.y * 8 + threadIdx.x, n_warps = blockDim.y / 4;
    v += __shfl_xor_sync(0xffffffffu, v, 8);
    v += __shfl_xor_sync(0xffffffffu, v, 16);
    __syncthreads();
    if (thread % 32 < 8) of_warps[thread / 32 * 8 + threadIdx.x] = v;
    __syncthreads();
    v = 0;
    for (int k = 0; k < n_warps; ++k) v += of_warps[k * 8 + threadIdx.x];
    return v;
}

struct Shares {  // alpha of the hybrid normalization and one less it
    T of_batch, of_row;
    HD explicit Shares(const Layer& layer) : of_batch(1), of_row(0) {
        if (!layer.is_hybrid) return;
        of_batch = T(1) / (T(1) + exp(-layer.parameters[2 * layer.n]));
        of_row = T(1) - of_batch;
    }
};

// -- no normalization, and those that pool the units of a row

extern "C" __global__ void __launch_bounds__(128) units_forward(const Chunk* chunk, Layer layer) {
    __shared__ double memory[32];
    const Activation activation(layer.numbers);
    const Mask mask(chunk, layer);
    const int i = blockIdx.x * blockDim.y + threadIdx.y, blocks = max(layer.groups, 1);
    const bool inside = i < layer.b;
    const int width = layer.n / blocks, n_active = inside ? width : 0, per = layer.groups ? layer.n / layer.n_scales : 1;
    const T *gamma = layer.parameters, *beta = layer.parameters + layer.n_scales;
    double length = 0;
    for (int block = 0; block < blocks; ++block) {
        const Index first = Index(i) * layer.n + block * width;
        T *z = layer.before + first, mean = 0, factor = 1;
        if (layer.groups) {
            T total = 0, squares = 0;
            for (int j = threadIdx.x; j < n_active; j += blockDim.x) total += z[j];
            mean = row_sum(total, memory) / T(width);
            for (int j = threadIdx.x; j < n_active; j += blockDim.x) squares += (z[j] - mean) * (z[j] - mean);
            factor = T(1) / sqrt(row_sum(squares, memory) / T(width) + T(layer.epsilon));
            if (inside && threadIdx.x == 0) layer.inverse[Index(i) * blocks + block] = factor;
        }
        for (int j = threadIdx.x; j < n_active; j += blockDim.x) {
            const int unit = block * width + j;
            T y = z[j];
            if (layer.groups) {
                y = z[j] = (y - mean) * factor;
                y = gamma[unit / per] * y + beta[unit / per];
            }
            const T a = activation.activate(y) * mask(first + j);
            layer.after[Index(i) * layer.stride + unit] = a;
            length += double(a * a);
        }
    }
    if (layer.lengths) length = row_sum(length, memory);
    if (!inside || threadIdx.x) return;
    if (layer.lengths) layer.lengths[i] = length + layer.has_one;
    if (layer.has_one) layer.after[Index(i) * layer.stride + layer.n] = T(1);
}

/* Back through dropout and activation, where there is no normalization. */
extern "C" __global__ void __launch_bounds__(128) plain_backward(const Chunk* chunk, Layer layer) {
    __shared__ double memory[32];
    const Activation activation(layer.numbers);
    const Mask mask(chunk, layer);
    const int i = blockIdx.x * blockDim.y + threadIdx.y;
    const bool inside = i < layer.b;
    double length = 0;
    for (int j = threadIdx.x; j < (inside ? layer.n : 0); j += blockDim.x) {
        const Index at = Index(i) * layer.n + j;
        const T d = through(activation, layer.before[at], layer.derivatives[at], mask(at));
        layer.derivatives[at] = d;
        length += double(d * d);
    }
    if (!layer.squares) return;
    length = row_sum(length, memory);
    if (inside && threadIdx.x == 0) layer.squares[i] += length * layer.lengths_before[i];
}

/* Back through dropout and activation to what was scaled, and the gradient of the scales. */
extern "C" __global__ void __launch_bounds__(512) scales_backward(const Chunk* chunk, Layer layer) {
    __shared__ double memory[128];
    __shared__ int last;
    const Activation activation(layer.numbers);
    const Mask mask(chunk, layer);
    const int unit = blockIdx.x * 8 + threadIdx.x, n = layer.n, n_scales = layer.n_scales, per = n / n_scales;
    T of_gamma = 0, of_beta = 0;
    if (unit < n) {
        const T gamma = layer.parameters[unit / per], beta = layer.parameters[n_scales + unit / per];
        for (int i = threadIdx.y; i < layer.b; i += blockDim.y) {
            const Index at = Index(i) * n + unit;
            const T z = layer.before[at];
            const T d = through(activation, gamma * z + beta, layer.derivatives[at], mask(at));
            layer.derivatives[at] = d;
            of_gamma += d * z;
            of_beta += d;
        }
    }
    of_gamma = column_sum(of_gamma, memory);
    of_beta = column_sum(of_beta, memory);
    T* const sums = per == 1 ? layer.gradient : layer.sums;
    if (threadIdx.y == 0 && unit < n) sums[unit] = of_gamma, sums[n + unit] = of_beta;
    if (per == 1 || !is_last(layer.tickets, gridDim.x, &last)) return;
    const volatile T* each = layer.sums;
    for (int k = threadIdx.y * 8 + threadIdx.x; k < 2 * n_scales; k += 8 * blockDim.y) {
        T total = 0;
        for (int j = 0; j < per; ++j) total += each[k * per + j];
        layer.gradient[k] = total;
    }
}

/* The rest of the way, from what was scaled. Equal blocks of units are scaled as they are normalised, or each unit is. */
extern "C" __global__ void __launch_bounds__(128) units_backward(const Chunk* chunk, Layer layer) {
    __shared__ double memory[32];
    const int i = blockIdx.x * blockDim.y + threadIdx.y, width = layer.n / layer.groups, per = layer.n / layer.n_scales;
    const bool inside = i < layer.b;
    const int n_active = inside ? width : 0;
    double length = 0, squares = 0;
    for (int block = 0; block < layer.groups; ++block) {
        const Index first = Index(i) * layer.n + block * width;
        const T *z = layer.before + first, *gamma = layer.parameters;
        T *d = layer.derivatives + first, shift = 0, scale = 0, of_gamma = 0, of_beta = 0;
        for (int j = threadIdx.x; j < n_active; j += blockDim.x) {
            const T wide = d[j] * gamma[(block * width + j) / per];
            shift += wide;
            scale += wide * z[j];
            of_gamma += d[j] * z[j];
            of_beta += d[j];
            if (per == 1) squares += double(d[j] * z[j] * (d[j] * z[j]) + d[j] * d[j]);
        }
        shift = row_sum(shift, memory) / T(width);
        scale = row_sum(scale, memory) / T(width);
        if (per > 1) {
            of_gamma = row_sum(of_gamma, memory);
            of_beta = row_sum(of_beta, memory);
            if (threadIdx.x == 0) squares += double(of_gamma * of_gamma + of_beta * of_beta);
        }
        const T factor = inside ? layer.inverse[Index(i) * layer.groups + block] : T(0);
        for (int j = threadIdx.x; j < n_active; j += blockDim.x) {
            d[j] = factor * (d[j] * gamma[(block * width + j) / per] - shift - z[j] * scale);
            length += double(d[j] * d[j]);
        }
    }
    if (!layer.squares) return;
    squares = row_sum(squares, memory);
    length = row_sum(length, memory);
    if (inside && threadIdx.x == 0)
        layer.squares[i] += layer.lengths_before ? squares + length * layer.lengths_before[i] : squares;
}

// -- the normalizations that pool rows: batch, ghost, and the hybrid one, which pools both

/* Mean and variance of the units of each row, for the hybrid one. */
extern "C" __global__ void __launch_bounds__(128) row_moments(const Chunk* chunk, Layer layer) {
    __shared__ double memory[32];
    const int i = blockIdx.x * blockDim.y + threadIdx.y, n = layer.n, n_active = i < layer.b ? n : 0;
    const T* x = layer.before + Index(i) * n;
    T total = 0, squares = 0;
    for (int j = threadIdx.x; j < n_active; j += blockDim.x) total += x[j];
    const T mean = row_sum(total, memory) / T(n);
    for (int j = threadIdx.x; j < n_active; j += blockDim.x) squares += (x[j] - mean) * (x[j] - mean);
    const T variance = row_sum(squares, memory) / T(n);
    if (n_active && threadIdx.x == 0) layer.by_row[3 * Index(i)] = mean, layer.by_row[3 * Index(i) + 1] = variance;
}

/* What a unit of a row is standardised by in the hybrid normalization. */
struct Mixture {
    T mean, factor;
    HD Mixture(const Layer& layer, const Shares& share, Index i, T batch_mean, T batch_variance) {
        mean = share.of_batch * batch_mean + share.of_row * layer.by_row[3 * i];
        const T variance = share.of_batch * batch_variance + share.of_row * layer.by_row[3 * i + 1];
        factor = T(1) / sqrt(variance + T(layer.epsilon));
    }
};

/* The place of a thread in a block of 8 units: its unit, the group of rows of its block, and which of their rows are its own. */
struct Place {
    int unit, units, group, own, stop;
    HD explicit Place(const Layer& layer) {
        const int n_blocks = (layer.n + 7) / 8;  // of units
        units = blockIdx.x % n_blocks;
        group = blockIdx.x / n_blocks;
        unit = units * 8 + threadIdx.x;
        own = int(Index(group) * layer.b / layer.groups) + threadIdx.y;
        stop = int(Index(group + 1) * layer.b / layer.groups);
    }
};

/* Running statistics, by the last block of some units; a failed step was the last one that changes them. */
HD void update_running(const Chunk* chunk, const Layer& layer, int unit) {
    if (threadIdx.y || unit >= layer.n || chunk->failed >= 0) return;
    const int n = layer.n;
    const volatile T* moments = layer.moments;
    T count = layer.running[0], mean = layer.running[1 + unit], variance = layer.running[1 + n + unit];
    for (int group = 0; group < layer.groups; ++group, moments += 3 * n) {
        count += T(1);
        const T share = T(fmax(layer.momentum, 1.0 / double(count)));
        mean += share * (moments[unit] - mean);
        variance += share * (moments[n + unit] / (T(1) - moments[2 * n + unit]) - variance);
    }
    layer.running[1 + unit] = mean;
    layer.running[1 + n + unit] = variance;
}

extern "C" __global__ void __launch_bounds__(512) rows_forward(const Chunk* chunk, Layer layer) {
    __shared__ double memory[128];
    __shared__ int last;
    const Activation activation(layer.numbers);
    const Mask mask(chunk, layer);
    const Place place(layer);
    const int n = layer.n, unit = place.unit, own = place.own, stop = unit < n ? place.stop : 0;
    double total = 0;
    for (int i = own; i < place.stop; i += blockDim.y) total += layer.weights[i];
    const double portion = 1.0 / column_sum(total, memory);
    if (unit == 0 && threadIdx.y == 0) layer.portions[place.group] = portion;
    T mean = 0, variance = 0, squares = 0;
    for (int i = own; i < stop; i += blockDim.y) mean += T(layer.weights[i] * portion) * layer.before[Index(i) * n + unit];
    mean = column_sum(mean, memory);
    for (int i = own; i < stop; i += blockDim.y) {
        const T share = T(layer.weights[i] * portion), away = layer.before[Index(i) * n + unit] - mean;
        variance += share * away * away;
        squares += share * share;
    }
    variance = column_sum(variance, memory);
    squares = column_sum(squares, memory);
    const T factor = T(1) / sqrt(variance + T(layer.epsilon));
    const bool writes = threadIdx.y == 0 && unit < n;
    if (writes) {
        T* moments = layer.moments + Index(place.group) * 3 * n;
        moments[unit] = mean, moments[n + unit] = variance, moments[2 * n + unit] = squares;
        layer.inverse[Index(place.group) * n + unit] = factor;
    }
    const T gamma = unit < n ? layer.parameters[unit] : T(0), beta = unit < n ? layer.parameters[n + unit] : T(0);
    const Shares share(layer);
    for (int i = own; i < stop; i += blockDim.y) {
        const Index at = Index(i) * n + unit;
        T z = layer.before[at];
        if (layer.is_hybrid) {
            const Mixture mixture(layer, share, i, mean, variance);
            z = (z - mixture.mean) * mixture.factor;
        } else {
            z = layer.before[at] = (z - mean) * factor;
        }
        layer.after[Index(i) * layer.stride + unit] = activation.activate(gamma * z + beta) * mask(at);
        if (layer.has_one && unit == 0) layer.after[Index(i) * layer.stride + n] = T(1);
    }
    if (is_last(layer.tickets + place.units, layer.groups, &last)) update_running(chunk, layer, unit);
}

/* The way back to the products. Of the hybrid normalization only as far as columns go: `both_backward` is the rest. */
extern "C" __global__ void __launch_bounds__(512) rows_backward(const Chunk* chunk, Layer layer) {
    __shared__ double memory[128];
    __shared__ int last;
    const Activation activation(layer.numbers);
    const Mask mask(chunk, layer);
    const Place place(layer);
    const int n = layer.n, unit = place.unit, own = place.own, stop = unit < n ? place.stop : 0;
    const T gamma = unit < n ? layer.parameters[unit] : T(0), beta = unit < n ? layer.parameters[n + unit] : T(0);
    const Shares share(layer);
    T* const sums = layer.sums + Index(place.group) * 4 * n;
    T of_gamma = 0, of_beta = 0, of_mean = 0, of_variance = 0;
    for (int i = own; i < stop; i += blockDim.y) {
        const Index at = Index(i) * n + unit;
        T z = layer.before[at], factor = 0;
        if (layer.is_hybrid) {
            const Mixture mixture(layer, share, i, layer.moments[unit], layer.moments[n + unit]);
            factor = mixture.factor;
            z = (z - mixture.mean) * factor;
        }
        T d = through(activation, gamma * z + beta, layer.derivatives[at], mask(at));
        of_gamma += d * z;
        of_beta += d;
        if (layer.is_hybrid) {
            d *= gamma * factor;
            of_mean -= d;
            of_variance -= T(0.5) * d * z * factor;
        }
        layer.derivatives[at] = d;
    }
    of_gamma = column_sum(of_gamma, memory);
    of_beta = column_sum(of_beta, memory);
    const bool writes = threadIdx.y == 0 && unit < n;
    if (layer.is_hybrid) {
        of_mean = column_sum(of_mean, memory);
        of_variance = column_sum(of_variance, memory);
        if (writes) sums[2 * n + unit] = of_mean, sums[3 * n + unit] = of_variance;
    } else {
        const T factor = unit < n ? gamma * layer.inverse[Index(place.group) * n + unit] : T(0);
        const double portion = layer.portions[place.group];
        for (int i = own; i < stop; i += blockDim.y) {
            const Index at = Index(i) * n + unit;
            const T common = of_beta + layer.before[at] * of_gamma;
            layer.derivatives[at] = factor * (layer.derivatives[at] - T(layer.weights[i] * portion) * common);
        }
    }
    if (writes) sums[unit] = of_gamma, sums[n + unit] = of_beta;
    if (place.group == 0 && unit == 0 && writes && chunk->failed < 0) layer.running[0] += T(layer.groups);
    if (!is_last(layer.tickets + place.units, layer.groups, &last) || !writes) return;
    of_gamma = of_beta = 0;
    const volatile T* of_group = layer.sums;
    for (int k = 0; k < layer.groups; ++k, of_group += 4 * n) of_gamma += of_group[unit], of_beta += of_group[n + unit];
    layer.gradient[unit] = of_gamma;
    layer.gradient[n + unit] = of_beta;
}

/* The way back through the hybrid normalization as far as rows go, and the gradient of q. */
extern "C" __global__ void __launch_bounds__(128) both_backward(const Chunk* chunk, Layer layer) {
    __shared__ double memory[32];
    __shared__ int last;
    const int i = blockIdx.x * blockDim.y + threadIdx.y, n = layer.n, stop = i < layer.b ? n : 0;
    const Shares share(layer);
    const T *mean = layer.moments, *variance = layer.moments + n, *of_mean = layer.sums + 2 * n, *of_variance = of_mean + n;
    const T row_mean = stop ? layer.by_row[3 * Index(i)] : T(0), row_variance = stop ? layer.by_row[3 * Index(i) + 1] : T(0);
    const T* x = layer.before + Index(i) * n;
    T *d = layer.derivatives + Index(i) * n, sum_mean = 0, sum_variance = 0, of_alpha = 0;
    for (int j = threadIdx.x; j < stop; j += blockDim.x) {
        const Mixture mixture(layer, share, i, mean[j], variance[j]);
        const T by_mean = -d[j], by_variance = T(-0.5) * d[j] * (x[j] - mixture.mean) * mixture.factor * mixture.factor;
        sum_mean += by_mean;
        sum_variance += by_variance;
        of_alpha += by_mean * (mean[j] - row_mean) + by_variance * (variance[j] - row_variance);
    }
    sum_mean = row_sum(sum_mean, memory);
    sum_variance = row_sum(sum_variance, memory);
    of_alpha = row_sum(of_alpha, memory);
    const T in_row = share.of_row / T(n), in_batch = stop ? share.of_batch * T(layer.weights[i] * layer.portions[0]) : T(0);
    for (int j = threadIdx.x; j < stop; j += blockDim.x)
        d[j] += in_row * (sum_mean + T(2) * sum_variance * (x[j] - row_mean)) +
                in_batch * (of_mean[j] + T(2) * of_variance[j] * (x[j] - mean[j]));
    if (stop && threadIdx.x == 0) layer.by_row[3 * Index(i) + 2] = of_alpha;
    if (!is_last(layer.tickets, gridDim.x, &last)) return;
    const volatile T* by_row = layer.by_row;
    T total = 0;
    for (int k = threadIdx.y * blockDim.x + threadIdx.x; k < layer.b; k += blockDim.x * blockDim.y) total += by_row[3 * k + 2];
    total = block_sum(total, memory);
    if (threadIdx.x == 0 && threadIdx.y == 0) layer.gradient[2 * n] = total * share.of_batch * share.of_row;
}
