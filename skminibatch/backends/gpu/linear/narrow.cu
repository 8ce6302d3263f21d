// All steps of a plan on dense rows in one launch, where a warp can hold a few rows and the sums of their gradients in
// registers. Stands behind chunk.cu; OUTPUTS, TARGETS (columns of y), COLUMNS (of a row for each lane) and ROWS (at once)
// are defined before.
//
// Each block adds up the gradients of its part of the batch, tells them to the others, waits for theirs, and makes the whole
// step by itself on its own copy of the parameters: one barrier a step, none where there is one block. The rows that
// come next are asked for before a step ends.

constexpr int PADDED = WARP * COLUMNS;  // the features, and zeros
constexpr int LINE = 128, LINES = PADDED * sizeof(T) / LINE;  // bytes of a line of the cache; lines of a row

/* The rows of a warp, tile after tile and step after step: a contiguous part of the slice of its block, at least one tile in
   each step, which may be empty. All features of a tile lie over the lanes; row, target and weight are known of WARP rows,
   one in each lane. What is loaded is used only once the tile before is done with, so that it can be on its way. */
struct Tiles {
    const T *X, *y;
    const double* weights;
    T* table;
    const Plan& plan;
    int d;

    Index step, at, end;
    T x[ROWS][COLUMNS], targets[TARGETS], weight;
    Index row;
    int n, first;  // rows of the tile, and the lane that knows the first one

    HD Tiles(const T* X, const T* y, const double* weights, T* table, const Plan& plan, int d)
        : X(X), y(y), weights(weights), table(table), plan(plan), d(d), step(-1), at(0), end(0), first(0) {}

    HD void advance() {
        at += ROWS, first += ROWS;
        if (at >= end) {
            ++step;
            at = end = n = first = 0;
            if (step >= plan.n_steps()) return;
            const Slice slice(plan, step);
            const unsigned rows = unsigned(slice.end - slice.begin), each = (rows + WARPS * ROWS - 1) / (WARPS * ROWS) * ROWS;
            at = slice.begin + min(rows, each * warp());
            end = slice.begin + min(rows, each * (warp() + 1));
        }
        n = int(min(Index(ROWS), end - at));
        if (n > 0) load();
    }

    HD void load() {
        first %= WARP;
        if (first == 0) {
            const Index position = min(at + lane(), end - 1);
            row = plan.row_at(position);
            weight = T(plan.weight(weights, row, position));
            if (TABLE) PREFETCH(table + row * (1 + OUTPUTS));  // not read: another block may be about to write
#pragma unroll
            for (int q = 0; q < TARGETS; ++q) targets[q] = y[row * TARGETS + q];
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const T* from = X + __shfl_sync(ALL, row, first + r) * d;
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) {
                const int j = lane() + WARP * c;
                x[r][c] = j < d ? from[j] : T(0);
            }
        }
        if (first + ROWS < WARP && at + ROWS < end) ask(first + ROWS);
    }

    /* Bring the rows that the next lanes know into the cache: by the time they are loaded, they are near. */
    HD void ask(int next) const {
#pragma unroll
        for (int base = 0; base < ROWS * LINES; base += WARP) {
            const int i = base + lane(), place = i % LINES * LINE;
            const Index one = __shfl_sync(ALL, row, next + min(i / LINES, ROWS - 1));
            if (i < ROWS * LINES && place < d * int(sizeof(T))) PREFETCH(reinterpret_cast<const char*>(X + one * d) + place);
        }
    }
};

/* What the blocks share of a model: padded rows of the point at which gradients are taken, and the axes likewise. */
struct Point {
    T *v, *bias, *center, *scale;
    bool transforms;
};

/* The gradients of the rows that a warp has seen, and its sums. */
struct Gradient {
    T of[OUTPUTS][COLUMNS], bias[OUTPUTS];
    double sums[N_SUMS];

    HD void clear() {
        for (int q = 0; q < N_SUMS; ++q) sums[q] = 0;
#pragma unroll
        for (int k = 0; k < OUTPUTS; ++k) {
            bias[k] = 0;
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) of[k][c] = 0;
        }
    }

    HD void add(const Loss& loss, Tiles& tile, const Point& point, bool fit_intercept) {
        if (point.transforms) {
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) {
                const T center = point.center[lane() + WARP * c], scale = point.scale[lane() + WARP * c];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) tile.x[r][c] = (tile.x[r][c] - center) * scale;
            }
        }
        T raw[OUTPUTS], residual[OUTPUTS];
#pragma unroll
        for (int k = 0; k < OUTPUTS; ++k) {
            T dots[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) dots[r] = 0;
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) {
                const T v = point.v[k * PADDED + lane() + WARP * c];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) dots[r] += tile.x[r][c] * v;
            }
            raw[k] = sum_by_lane(dots) + point.bias[k];
        }
        const int own_row = lane() % ROWS;
        const bool in_tile = own_row < tile.n;
        const T weight = __shfl_sync(ALL, tile.weight, tile.first + own_row);
        const Index row = TABLE ? __shfl_sync(ALL, tile.row, tile.first + own_row) : 0;
        T targets[TARGETS];
#pragma unroll
        for (int q = 0; q < TARGETS; ++q) targets[q] = __shfl_sync(ALL, tile.targets[q], tile.first + own_row);
        const T value = loss.value_gradient(raw, targets, residual, OUTPUTS);
        T square = 0;
#pragma unroll
        for (int k = 0; k < OUTPUTS; ++k) {
            residual[k] = in_tile ? residual[k] * weight : T(0);
            square += residual[k] * residual[k];
        }
        if (in_tile && lane() < ROWS) {
            sums[LOSS] += double(weight) * value;
            if (fit_intercept) sums[ROW_SQUARES] += square;
            const TableRow stored(tile.table, tile.plan, row, tile.at + own_row, OUTPUTS);
#pragma unroll
            for (int k = 0; k < OUTPUTS; ++k) bias[k] += residual[k] = stored.change(k, residual[k]);
        }
        add_rows(tile, residual, square);
    }

    HD void add_rows(const Tiles& tile, const T (&residual)[OUTPUTS], T square) {
        T squares = 0;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            T length = 0;
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) length += tile.x[r][c] * tile.x[r][c];
            squares += __shfl_sync(ALL, square, r) * length;
#pragma unroll
            for (int k = 0; k < OUTPUTS; ++k) {
                const T share = __shfl_sync(ALL, residual[k], r);
#pragma unroll
                for (int c = 0; c < COLUMNS; ++c) of[k][c] += share * tile.x[r][c];
            }
        }
        sums[ROW_SQUARES] += squares;
    }

    /* The sums over the warps of the block, a few outputs at a time. */
    HD void write(T* to, T* space, int at_once, int d) {
#pragma unroll
        for (int k = 0; k < OUTPUTS; ++k) bias[k] = warp_sum(bias[k]);
        for (int first = 0; first < OUTPUTS; first += at_once) {
            if (first) __syncthreads();
            const int count = min(at_once, OUTPUTS - first), numbers = count * (d + 1);
            T* const own = space + warp() * numbers;
#pragma unroll
            for (int k = 0; k < OUTPUTS; ++k) {
                if (k < first || k >= first + count) continue;
#pragma unroll
                for (int c = 0; c < COLUMNS; ++c)
                    if (lane() + WARP * c < d) own[(k - first) * (d + 1) + lane() + WARP * c] = of[k][c];
                if (lane() == 0) own[(k - first) * (d + 1) + d] = bias[k];
            }
            __syncthreads();
#pragma unroll 1
            for (int i = threadIdx.x; i < numbers; i += THREADS) {
                double total = space[i];
#pragma unroll 8
                for (int w = 1; w < WARPS; ++w) total += space[w * numbers + i];
                to[first * (d + 1) + i] = T(total);
            }
        }
    }
};

/* The gradient of a batch from the sums of all blocks; the square of its norm. Several threads share a coordinate. */
HD double whole_gradient(const T* partials, T* g, double* space, double* scratch, int width, int d, double size, bool fit) {
    const int across = min((width + WARP - 1) / WARP * WARP, THREADS);
    const int parts = max(1, (THREADS - N_SUMS * WARP) / across);  // the other warps gather what else was told
    const int part = threadIdx.x / across, blocks = gridDim.x;
    const int first = blocks * part / parts, last = blocks * (part + 1) / parts;
    double squares = 0;
#pragma unroll 1
    for (int base = 0; base < width; base += across) {
        const int i = base + threadIdx.x % across;
        const bool has_part = i < width && part < parts;
        double total = 0;
        if (has_part) {
#pragma unroll 8
            for (int b = first; b < last; ++b) total += partials[Index(b) * width + i];
        }
        if (parts > 1) {
            space[threadIdx.x] = total;
            __syncthreads();
            if (has_part && part == 0)
                for (int p = 1; p < parts; ++p) total += space[p * across + i];
        }
        if (has_part && part == 0) {
            g[i] = fit || i % (d + 1) < d ? T(total / size) : T(0);
            squares += double(g[i]) * double(g[i]);
        }
    }
    return block_sum(squares, scratch);
}

extern "C" __global__ void __launch_bounds__(THREADS) run_narrow(
    const T* X, const T* y, const double* weights, T* table, const T* center, const T* scale, const T* stretch,
    const Index* words, const Index* subset, T* params, double* stats, T* partials, double* exchange, unsigned* arrived,
    int d, int fit_intercept, int at_once) {
    const Plan plan(words, subset);
    const Loss loss(plan.numbers());
    const Penalty penalty(plan.numbers() + Loss::n_numbers);
    const Optimizer optimizer(plan.numbers() + Loss::n_numbers + Penalty::n_numbers);
    const int width = OUTPUTS * (d + 1), n_states = (1 + Optimizer::n_slots) * width;
    const Index n_steps = plan.n_steps();

    DYNAMIC_SHARED(memory);
    double* const scratch = reinterpret_cast<double*>(memory);
    double(&totals)[N_SUMS] = *reinterpret_cast<double(*)[N_SUMS]>(scratch + N_SUMS * WARPS);
    double* const alone = totals + N_SUMS;  // what the only block tells itself
    double* const space = alone + N_SUMS;
    T* const state = reinterpret_cast<T*>(space + THREADS);
    T *const g = state + n_states, *const own = g + width, *const sums = own + width;
    Point point;
    point.v = sums + WARPS * at_once * (d + 1), point.bias = point.v + OUTPUTS * PADDED;
    point.center = point.bias + OUTPUTS, point.scale = point.center + PADDED;
    point.transforms = center || scale;

#pragma unroll 1
    for (int i = threadIdx.x; i < n_states; i += THREADS) state[i] = params[i];
#pragma unroll 1
    for (int j = threadIdx.x; j < PADDED; j += THREADS) {
        point.center[j] = center && j < d ? center[j] : T(0);
        point.scale[j] = scale && j < d ? scale[j] : T(1);
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < OUTPUTS * PADDED; i += THREADS) point.v[i] = 0;
    __syncthreads();
    const auto look = [&](int i, const State& at, Index step) {  // where the next gradient is taken
        const T v = optimizer.point(at.w, at.slots, Coefficients(plan, min(step, n_steps - 1)).c);
        const int k = i / (d + 1), j = i % (d + 1);
        (j < d ? point.v[k * PADDED + j] : point.bias[k]) = v;
    };
#pragma unroll 1
    for (int i = threadIdx.x; i < width; i += THREADS) look(i, State(state, width, i), 0);
    __syncthreads();

    Tiles tile(X, y, weights, table, plan, d);
    Gradient gradient;
    unsigned expected = 0;
    Index step = 0;
    tile.advance();
    for (; step < n_steps; ++step) {
        const Coefficients now(plan, step);
        gradient.clear();
        do {
            if (tile.n > 0) gradient.add(loss, tile, point, fit_intercept);
            tile.advance();
        } while (tile.step == step);
        const double size = double(plan.offset(step + 1) - plan.offset(step));
        // a block can be one step ahead of another, so that there are two places for what they tell
        double* const places = gridDim.x == 1 ? alone : exchange + step % 2 * gridDim.x * N_SUMS;
        T* const parts = gridDim.x == 1 ? own : partials + step % 2 * gridDim.x * Index(width);
        put(gradient.sums, scratch);
        gradient.write(parts + blockIdx.x * Index(width), sums, at_once, d);
        tell<N_SUMS>(places, scratch);
        meet(arrived, expected);
        gather(places, totals);
        const double square_norm = whole_gradient(parts, g, space, scratch, width, d, size, fit_intercept);
        if (!record(stats, n_steps, step, totals, square_norm)) break;
        const T shrink = T(plan.clipping(square_norm));
#pragma unroll 1
        for (int i = threadIdx.x; i < width; i += THREADS) {
            const int j = i % (d + 1);
            State at(state, width, i);
            at.move(penalty, optimizer, g[i] * shrink, now.c, stretch && j < d ? stretch[j] : T(1), j < d);
            optimizer.follow(at.w, at.slots, now.c);
            at.store(state, width, i);
            look(i, at, step + 1);
        }
        __syncthreads();
    }
    record_end(stats, n_steps, step);
    if (blockIdx.x) return;
#pragma unroll 1
    for (int i = threadIdx.x; i < n_states; i += THREADS) params[i] = state[i];
}
