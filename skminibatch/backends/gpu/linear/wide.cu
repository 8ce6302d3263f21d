// All steps of a plan on dense rows in one launch, for any shape. Stands behind chunk.cu; OUTPUTS (at once, 4 at most) is
// defined before.
//
// Each block computes the residuals of its part of the rows, and then the gradients and the step of its part of the
// coordinates, over all rows of the batch: two barriers a step. The new state stands beside the old one until all know
// that the step was finite.

constexpr int ROWS = 4;  // at once

/* Raw outputs, residuals and sums of the rows of a slice; the residuals and rows stand by position for all to read. */
HD void find_residuals(const Loss& loss, const T* X, const T* y, const double* weights, T* table, const Axes& axes,
                       const Plan& plan, const Slice& slice, const T* point, Index* rows, T* raw, T* residuals,
                       double (&sums)[N_SUMS], int d, int n_outputs, int n_targets, bool fit_intercept) {
    for (Index at = slice.begin + warp() * ROWS; at < slice.end; at += WARPS * ROWS) {
        const int n = int(min(Index(ROWS), slice.end - at));
        const Index position = at + min(lane() % ROWS, n - 1), row = plan.row_at(position);
        const Index place = position - slice.start;
        const bool owns_row = lane() < n;
        const T* from[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) from[r] = X + __shfl_sync(ALL, row, r) * d;
        T lengths[ROWS] = {};
        for (int first = 0; first < n_outputs; first += OUTPUTS) {
            T dots[OUTPUTS][ROWS] = {};
            for (int j = lane(); j < d; j += WARP) {
                T x[ROWS];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) x[r] = axes.transformed(from[r][j], j);
                if (first == 0)
#pragma unroll
                    for (int r = 0; r < ROWS; ++r) lengths[r] += x[r] * x[r];
#pragma unroll
                for (int k = 0; k < OUTPUTS; ++k) {
                    const T v = point[Index(min(first + k, n_outputs - 1)) * (d + 1) + j];
#pragma unroll
                    for (int r = 0; r < ROWS; ++r) dots[k][r] += x[r] * v;
                }
            }
#pragma unroll
            for (int k = 0; k < OUTPUTS; ++k) {
                const T sum = sum_by_lane(dots[k]);
                if (owns_row && first + k < n_outputs)
                    raw[place * n_outputs + first + k] = sum + point[Index(first + k) * (d + 1) + d];
            }
        }
        const double length = double(sum_by_lane(lengths)) + fit_intercept;
        if (!owns_row) continue;
        rows[place] = row;
        const double weight = plan.weight(weights, row, position);
        T* const out = residuals + place * n_outputs;
        const T *const outputs = raw + place * n_outputs, *const target = y + row * n_targets;
        sums[LOSS] += weight * loss.value_gradient(outputs, target, out, n_outputs);
        const TableRow stored(table, plan, row, position, n_outputs);
        double square = 0;
        for (int k = 0; k < n_outputs; ++k) {
            const T residual = T(out[k] * weight);
            square += double(residual) * residual;
            out[k] = stored.change(k, residual);
        }
        sums[ROW_SQUARES] += square * length;
    }
    __syncwarp();
}

/* The coordinates of a block, WARP features of OUTPUTS outputs at a time; the intercept is the last feature. */
struct Units {
    int n, groups, d, n_outputs;
    HD Units(int d, int n_outputs) : d(d), n_outputs(n_outputs) {
        groups = (n_outputs + OUTPUTS - 1) / OUTPUTS;
        n = (d + 1 + WARP - 1) / WARP * groups;
    }
    HD int feature(int unit) const { return unit / groups * WARP + lane(); }
    HD int output(int unit) const { return unit % groups * OUTPUTS; }
    /* Which coordinate of a unit is that of this thread, -1 for none. */
    HD Index own(int unit) const {
        const int j = feature(unit), k = output(unit) + warp();
        return warp() < OUTPUTS && j <= d && k < n_outputs ? Index(k) * (d + 1) + j : Index(-1);
    }
};

/* The gradients of a unit in the threads that own its coordinates: a part of the rows for each warp, then their sum. */
HD double gradient_of(const Units& units, int unit, const T* X, const Axes& axes, const Index* rows, const T* residuals,
                      Index size, double* space) {
    const int j = units.feature(unit), first = units.output(unit), d = units.d;
    const Index end = size * (warp() + 1) / WARPS;
    double totals[OUTPUTS] = {};
    for (Index at = size * warp() / WARPS; at < end; at += WARP) {  // sums in T are short
        T parts[OUTPUTS] = {};
#pragma unroll 4
        for (Index place = at; place < min(at + WARP, end); ++place) {
            const T x = j < d ? axes.transformed(X[rows[place] * d + j], j) : T(j == d);
#pragma unroll
            for (int k = 0; k < OUTPUTS; ++k)
                parts[k] += residuals[place * units.n_outputs + min(first + k, units.n_outputs - 1)] * x;
        }
#pragma unroll
        for (int k = 0; k < OUTPUTS; ++k) totals[k] += parts[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < OUTPUTS; ++k) space[(warp() * OUTPUTS + k) * WARP + lane()] = totals[k];
    __syncthreads();
    if (warp() >= OUTPUTS) return 0;
    double total = 0;
#pragma unroll 4
    for (int w = 0; w < WARPS; ++w) total += space[(w * OUTPUTS + warp()) * WARP + lane()];
    return total / double(size);
}

extern "C" __global__ void __launch_bounds__(THREADS) run_wide(
    const T* X, const T* y, const double* weights, T* table, const T* center, const T* scale, const T* stretch,
    const Index* words, const Index* subset, T* states, double* stats, T* point, T* gradient, Index* rows, T* raw,
    T* residuals, double* exchange, unsigned* arrived, int d, int n_outputs, int n_targets, int fit_intercept) {
    const Plan plan(words, subset);
    const Loss loss(plan.numbers());
    const Penalty penalty(plan.numbers() + Loss::n_numbers);
    const Optimizer optimizer(plan.numbers() + Loss::n_numbers + Penalty::n_numbers);
    const Axes axes{center, scale, stretch};
    const Units units(d, n_outputs);
    const Index n_steps = plan.n_steps(), width = Index(n_outputs) * (d + 1);

    DYNAMIC_SHARED(memory);
    double* const scratch = reinterpret_cast<double*>(memory);
    double(&totals)[N_SUMS] = *reinterpret_cast<double(*)[N_SUMS]>(scratch + N_SUMS * WARPS);
    double* const space = totals + N_SUMS;  // OUTPUTS * THREADS
    double* const norms = exchange + gridDim.x * N_SUMS;
    States pair(states, width);
#pragma unroll 1
    for (int unit = blockIdx.x; unit < units.n; unit += gridDim.x) {
        const Index i = units.own(unit);
        if (i >= 0) pair.look(optimizer, plan, i, 0, point);
    }
    unsigned expected = 0;
    meet(arrived, expected);
    Index step = 0;
    for (; step < n_steps; ++step) {
        const Slice slice(plan, step);
        double sums[N_SUMS] = {};
        find_residuals(loss, X, y, weights, table, axes, plan, slice, point, rows, raw, residuals, sums, d, n_outputs,
                       n_targets, fit_intercept);
        put(sums, scratch);
        __syncthreads();
        tell<N_SUMS>(exchange, scratch);
        meet(arrived, expected);
        gather(exchange, totals);  // read behind the next barrier
        double squares = 0;
#pragma unroll 1
        for (int unit = blockIdx.x; unit < units.n; unit += gridDim.x) {
            const double g = gradient_of(units, unit, X, axes, rows, residuals, Index(slice.size), space);
            const Index i = units.own(unit);
            if (i < 0) continue;
            gradient[i] = fit_intercept || units.feature(unit) < d ? T(g) : T(0);
            squares += double(gradient[i]) * double(gradient[i]);
        }
        const auto update = [&](T shrink) {
            const Coefficients now(plan, step);
#pragma unroll 1
            for (int unit = blockIdx.x; unit < units.n; unit += gridDim.x) {
                const Index i = units.own(unit);
                const int j = units.feature(unit);
                if (i < 0) continue;
                State at = pair.old(i);
                at.move(penalty, optimizer, gradient[i] * shrink, now.c, stretch && j < d ? stretch[j] : T(1), j < d);
                optimizer.follow(at.w, at.slots, now.c);
                pair.renew(at, optimizer, plan, i, step + 1, point);
            }
        };
        const double square_norm = norm_and_update(plan, squares, norms, scratch, arrived, expected, update);
        if (!record(stats, n_steps, step, totals, square_norm)) break;
        pair.flip();
    }
    pair.finish();
    record_end(stats, n_steps, step);
}
