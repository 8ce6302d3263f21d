// All steps of a plan on sparse rows (CSR) in one launch. Stands behind chunk.cu; `Value` is the type of the stored numbers,
// `Column` that of the indices, LAZY says whether only what a batch touches is updated, and OUTPUTS how many are computed at
// once.
//
// A warp takes a row. What the rows add to a gradient is rounded to integers of 64 bits, whose sum does not depend on the
// order in which atomic operations carry it out. The unit of a feature follows from the largest number of its column and
// the largest residual of the batch, so that the sum of a batch cannot overflow; of what is so small that its rounding
// would show, the rest goes to a second integer in a finer unit. Three barriers a step: behind the residuals, behind the
// sums, and behind the update.

constexpr int GROUP = 8;  // rows at once
constexpr int BITS = 60;
constexpr double ROUGH = 1ll << 40;  // a whole number from here on is known well enough
typedef unsigned long long Sum;

struct Matrix {
    const Value* values;
    const Column *columns, *starts;
    const T* scale;
    HD T at(Index p) const {
        const T x = T(values[p]);
        return scale ? x * scale[columns[p]] : x;
    }
};

/* The rows of a slice that are those of this warp. */
struct Part {
    Index begin, end;
    HD explicit Part(const Slice& slice) {
        const unsigned rows = unsigned(slice.end - slice.begin), each = (rows + WARPS - 1) / WARPS;
        begin = slice.begin + min(rows, each * warp());
        end = slice.begin + min(rows, each * (warp() + 1));
    }
};

/* Two integers that stand for a number: a whole number of units, and the rest of it in a finer unit. */
struct Pair {
    Sum whole, rest;
};

/* The units of a batch: `2^-shift`, by the largest number of a column, and within it `2^-finer`. */
struct Units {
    int exponent, finer;  // of what bounds the sum of the residuals of a batch, and by the number of its rows
    HD Units(double largest, double size)
        : exponent(largest > 0 ? ilogb(largest * size) + 1 : 0), finer(BITS - ilogb(size)) {}
    HD int shift(int of_column) const { return BITS - 1 - exponent - of_column; }
    HD Pair rounded(double x, int shift) const {
        const double scaled = scalbn(x, shift), whole = rint(scaled);
        const double rest = abs(whole) < ROUGH ? scalbn(scaled - whole, finer) : 0.0;
        return {Sum(llrint(whole)), Sum(llrint(rest))};
    }
    HD double value(Pair sum, int shift) const {
        return scalbn(double((long long)(sum.whole)) + scalbn(double((long long)(sum.rest)), -finer), -shift);
    }
};

HD void add(Pair* place, Pair x) {
    if (x.whole) atomicAdd(&place->whole, x.whole);
    if (x.rest) atomicAdd(&place->rest, x.rest);
}

/* One raw output and the squared length of a row are sums over the lanes of a warp. */
HD double raw_outputs(const Matrix& X, Index row, const T* point, T* raw, bool write, int d, int n_outputs, double& largest) {
    const Index start = X.starts[row], stop = X.starts[row + 1];
    double length = 0;
    for (int first = 0; first < n_outputs; first += OUTPUTS) {
        T dots[OUTPUTS] = {};
        for (Index p = start + lane(); p < stop; p += WARP) {
            const T x = X.at(p);
            if (first == 0) length += double(x) * x;
            if (!isfinite(x)) largest = infinity();
            const T* const v = point + X.columns[p];
#pragma unroll
            for (int k = 0; k < OUTPUTS; ++k) dots[k] += x * v[Index(min(first + k, n_outputs - 1)) * (d + 1)];
        }
#pragma unroll
        for (int k = 0; k < OUTPUTS; ++k) {
            const T sum = warp_sum(dots[k]);
            if (write && first + k < n_outputs) raw[first + k] = sum + point[Index(first + k) * (d + 1) + d];
        }
    }
    return warp_sum(length);
}

/* Raw outputs, residuals and sums of the rows of a warp; the residuals stand by position. */
HD void find_residuals(const Loss& loss, const Matrix& X, const T* y, const double* weights, T* table, const Plan& plan,
                       const Slice& slice, const T* point, T* raw, T* residuals, double (&sums)[N_SUMS + 1], int d,
                       int n_outputs, int n_targets, bool fit_intercept) {
    const Part part(slice);
    for (Index at = part.begin; at < part.end; at += GROUP) {
        const int n = int(min(Index(GROUP), part.end - at));
        const Index position = at + min(lane(), n - 1), row = plan.row_at(position);
        const Index place = (position - slice.start) * n_outputs;
        const bool owns_row = lane() < n;
        double length = 0;
        for (int r = 0; r < n; ++r) {
            const double one = raw_outputs(X, __shfl_sync(ALL, row, r), point, raw + place, lane() == r, d, n_outputs,
                                           sums[LARGEST]);
            if (lane() == r) length = one + fit_intercept;
        }
        if (!owns_row) continue;
        const double weight = plan.weight(weights, row, position);
        const T* const target = y + row * n_targets;
        sums[LOSS] += weight * loss.value_gradient(raw + place, target, residuals + place, n_outputs);
        const TableRow stored(table, plan, row, position, n_outputs);
        double square = 0;
        for (int k = 0; k < n_outputs; ++k) {
            const T residual = T(residuals[place + k] * weight);
            square += double(residual) * residual;
            const T change = residuals[place + k] = stored.change(k, residual);
            sums[LARGEST] = max(sums[LARGEST], isfinite(change) ? double(abs(change)) : infinity());
        }
        sums[ROW_SQUARES] += square * length;
    }
    __syncwarp();
}

/* Add the gradients of the rows of a warp; say which features they have. */
HD void add_gradients(const Matrix& X, const Plan& plan, const Slice& slice, const T* residuals, const int* exponents,
                      const Units& units, Pair* sums, int* touched, int stamp, int d, int n_outputs) {
    const Part part(slice);
    for (Index at = part.begin; at < part.end; at += GROUP) {
        const int n = int(min(Index(GROUP), part.end - at));
        const Index row = plan.row_at(at + min(lane(), n - 1));
        for (int r = 0; r < n; ++r) {
            const Index own_row = __shfl_sync(ALL, row, r), stop = X.starts[own_row + 1];
            const T* const residual = residuals + (at + r - slice.start) * n_outputs;
            for (Index p = X.starts[own_row] + lane(); p < stop; p += WARP) {
                const Column j = X.columns[p];
                const double x = X.at(p);
                const int shift = units.shift(exponents[j]);
                if (x == 0) continue;
                if (LAZY) touched[j] = stamp;
                for (int k = 0; k < n_outputs; ++k)
                    add(sums + Index(k) * (d + 1) + j, units.rounded(residual[k] * x, shift));
            }
        }
    }
    for (int k = lane(); k < n_outputs; k += WARP) {
        Pair total = {0, 0};
        for (Index at = part.begin; at < part.end; ++at) {
            const Pair one = units.rounded(residuals[(at - slice.start) * n_outputs + k], units.shift(0));
            total.whole += one.whole, total.rest += one.rest;
        }
        add(sums + Index(k) * (d + 1) + d, total);
    }
}

/* The exponent of the largest number of each column. */
extern "C" __global__ void __launch_bounds__(THREADS) find_exponents(const Value* values, const Column* columns, Index n,
                                                                     const T* scale, int* exponents) {
    const Matrix X{values, columns, nullptr, scale};
    for (Index p = Index(blockIdx.x) * THREADS + threadIdx.x; p < n; p += Index(gridDim.x) * THREADS) {
        const T x = X.at(p);
        if (x == 0 || !isfinite(x)) continue;
        const int exponent = ilogb(double(x));
        if (exponent > exponents[columns[p]]) atomicMax(exponents + columns[p], exponent);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) run_sparse(
    const Value* values, const Column* columns, const Column* starts, const T* y, const double* weights, T* table,
    const T* scale, const T* stretch, const Index* words, const Index* subset, const int* exponents, T* states,
    double* stats, T* point, T* gradient, T* raw, T* residuals, Pair* sums_of_all, int* touched, double* exchange,
    unsigned* arrived, int d, int n_outputs, int n_targets, int fit_intercept) {
    const Plan plan(words, subset);
    const Loss loss(plan.numbers());
    const Penalty penalty(plan.numbers() + Loss::n_numbers);
    const Optimizer optimizer(plan.numbers() + Loss::n_numbers + Penalty::n_numbers);
    const Matrix X{values, columns, starts, scale};
    const Index n_steps = plan.n_steps(), width = Index(n_outputs) * (d + 1);
    const int first = blockIdx.x * THREADS + threadIdx.x, threads = gridDim.x * THREADS;  // features of a thread

    DYNAMIC_SHARED(memory);
    double* const scratch = reinterpret_cast<double*>(memory);
    double(&totals)[N_SUMS + 1] = *reinterpret_cast<double(*)[N_SUMS + 1]>(scratch + (N_SUMS + 1) * WARPS);
    double* const norms = exchange + gridDim.x * (N_SUMS + 1);
    States pair(states, width);
    for (int k = 0; k < n_outputs; ++k)
        for (int j = first; j <= d; j += threads) pair.look(optimizer, plan, Index(k) * (d + 1) + j, 0, point);
    unsigned expected = 0;
    meet(arrived, expected);
    Index step = 0;
    for (; step < n_steps; ++step) {
        const Slice slice(plan, step);
        double own[N_SUMS + 1] = {};
        find_residuals(loss, X, y, weights, table, plan, slice, point, raw, residuals, own, d, n_outputs, n_targets,
                       fit_intercept);
        put(own, scratch);
        __syncthreads();
        tell<N_SUMS + 1>(exchange, scratch);
        meet(arrived, expected);
        gather(exchange, totals);
        __syncthreads();
        const bool bounded = isfinite(totals[LARGEST]);
        const Units units(bounded ? totals[LARGEST] : 0, slice.size);
        if (bounded)
            add_gradients(X, plan, slice, residuals, exponents, units, sums_of_all, touched, int(step) + 1, d, n_outputs);
        meet(arrived, expected);
        double squares = bounded ? 0 : infinity();
        for (int k = 0; k < n_outputs; ++k) {
            for (int j = first; j <= d; j += threads) {
                const Index i = Index(k) * (d + 1) + j;
                const double g = units.value(sums_of_all[i], units.shift(j < d ? exponents[j] : 0)) / slice.size;
                gradient[i] = fit_intercept || j < d ? T(g) : T(0);
                squares += double(gradient[i]) * double(gradient[i]);
                sums_of_all[i] = {0, 0};
            }
        }
        const auto update = [&](T shrink) {
            const Coefficients now(plan, step);
            for (int k = 0; k < n_outputs; ++k) {
                for (int j = first; j <= d; j += threads) {
                    const Index i = Index(k) * (d + 1) + j;
                    State at = pair.old(i);
                    if (!LAZY || j == d || touched[j] == int(step) + 1)
                        at.move(penalty, optimizer, gradient[i] * shrink, now.c, stretch && j < d ? stretch[j] : T(1), j < d);
                    optimizer.follow(at.w, at.slots, now.c);
                    pair.renew(at, optimizer, plan, i, step + 1, point);
                }
            }
        };
        const double square_norm = norm_and_update(plan, squares, norms, scratch, arrived, expected, update);
        if (!record(stats, n_steps, step, totals, square_norm)) break;
        pair.flip();
    }
    pair.finish();
    record_end(stats, n_steps, step);
}
