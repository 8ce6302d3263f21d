// What the kernels of linear chunks share: the plan on the device, sums in a fixed order, barriers, and the update of a
// coordinate. Stands behind the structs of the parts, rows.cu and sums.cu; TABLE (whether residuals are stored) is
// defined before.

constexpr int SLOTS = Optimizer::n_slots > 0 ? Optimizer::n_slots : 1, COEFFICIENTS = Optimizer::n_coefficients;
// What the blocks tell each other besides the gradient: two sums, on sparse rows also the largest residual.
enum { LOSS, ROW_SQUARES, N_SUMS, LARGEST = N_SUMS };

/* A plan as it comes from the host in one copy: words of 8 bytes, the first of which say where the others stand. */
struct Layout {
    Index n_steps, offsets, coefficients, weights, visits, stored, parts;
    double clip_norm;
    Index order[RowOrder::n_numbers];
};

struct Plan {
    const Index *words, *subset;
    const Layout* layout;

    HD Plan(const Index* words, const Index* subset)
        : words(words), subset(subset), layout(reinterpret_cast<const Layout*>(words)) {}

    HD Index n_steps() const { return layout->n_steps; }
    HD Index offset(Index step) const { return words[layout->offsets + step]; }
    HD Index row_at(Index position) const {  // reads the order anew: its numbers would take many registers of a loop
        return RowOrder(words + layout->stored, subset, layout->order).row_at(position);
    }
    HD const double* numbers() const { return reinterpret_cast<const double*>(words + layout->parts); }
    HD const double* coefficients(Index step) const {
        return reinterpret_cast<const double*>(words + layout->coefficients) + step * COEFFICIENTS;
    }
    HD double weight(const double* of_rows, Index row, Index position) const {
        const double own = of_rows ? of_rows[row] : 1.0;
        return layout->weights ? own * reinterpret_cast<const double*>(words + layout->weights)[position] : own;
    }
    HD Index visits(Index position) const { return layout->visits ? words[layout->visits + position] : 1; }
    HD double clipping(double square_norm) const {
        const double clip = layout->clip_norm;
        return square_norm > clip * clip ? clip / sqrt(square_norm) : 1.0;
    }
    HD bool clips() const { return isfinite(layout->clip_norm); }
};

/* The rows of a batch that a block works on: a contiguous part, between positions of the order. */
struct Slice {
    Index start, begin, end;
    double size;
    HD Slice(const Plan& plan, Index step) : start(plan.offset(step)) {
        const unsigned rows = unsigned(plan.offset(step + 1) - start), each = (rows + gridDim.x - 1) / gridDim.x;
        begin = start + min(rows, each * blockIdx.x);
        end = start + min(rows, each * (blockIdx.x + 1));
        size = double(rows);
    }
};

/* What is stored of the row at a position: the share of its changes that counts, and its residuals. All visits of a row
   in a batch meet the same residual, so that they are one change, at the first of them. */
struct TableRow {
    T *residuals = nullptr, share = 0;

    HD TableRow(T* table, const Plan& plan, Index row, Index position, int n_outputs) {
        if (!TABLE) return;
        residuals = table + row * (1 + n_outputs) + 1;
        for (Index visit = plan.visits(position); visit > 0; --visit) share += residuals[-1] * (T(1) - share);
    }
    /* What enters the gradient: what the residual changed by, which is stored; without a table, the residual itself. */
    HD T change(int k, T residual) const {
        if (!TABLE) return residual;
        if (share == T(0)) return 0;
        const T change = share * (residual - residuals[k]);
        residuals[k] += change;
        return change;
    }
};

/* Where the coordinates of the optimizer lie; null where nothing changes. */
struct Axes {
    const T *center, *scale, *stretch;
    HD T transformed(T x, Index j) const {
        if (center) x -= center[j];
        return scale ? x * scale[j] : x;
    }
};

// -- what blocks tell each other

/* One number of two of the q-th kind: their sum, or the larger one. */
HD double joined(int q, double a, double b) { return q == LARGEST ? max(a, b) : a + b; }

/* The sums (and the largest number) of the warps of this block, to shared memory. */
template <int N>
HD void put(const double (&own)[N], double* scratch) {
#pragma unroll
    for (int q = 0; q < N; ++q) {
        double x = own[q];
        for (int k = WARP / 2; k; k /= 2) x = joined(q, x, __shfl_xor_sync(ALL, x, k));
        if (lane() == 0) scratch[q * WARPS + warp()] = x;
    }
}

/* Tell the other blocks what was put, behind a barrier. The last threads do that, the first ones have other sums to do. */
template <int N>
HD void tell(double* places, const double* scratch) {
    const int q = THREADS - 1 - threadIdx.x;
    if (q >= N) return;
    double total = scratch[q * WARPS];
#pragma unroll 8
    for (int w = 1; w < WARPS; ++w) total = joined(q, total, scratch[q * WARPS + w]);
    places[blockIdx.x * N + q] = total;
}

/* What all blocks have told, to shared memory, one of the last warps for each number; a barrier has to follow. */
template <int N>
HD void gather(const double* places, double (&totals)[N]) {
    static_assert(N <= WARPS, "a warp for each number");
    const int q = WARPS - 1 - warp();
    if (q >= N) return;
    double x = 0;
    for (int b = lane(); b < gridDim.x; b += WARP) x = joined(q, x, places[b * N + q]);
    for (int k = WARP / 2; k; k /= 2) x = joined(q, x, __shfl_xor_sync(ALL, x, k));
    if (lane() == 0) totals[q] = x;
}

/* Wait until all blocks have come here; what they have written before can be read behind. */
HD void meet(unsigned* arrived, unsigned& expected) {
    __syncthreads();
    if (gridDim.x == 1) return;
    expected += gridDim.x;
    if (threadIdx.x == 0) {
        ADD_RELEASE(arrived, 1u);
        while (int(LOAD_ACQUIRE(arrived) - expected) < 0) SPIN_WAIT();
    }
    __syncthreads();
}

// -- steps

struct Coefficients {
    T c[COEFFICIENTS];
    HD Coefficients(const Plan& plan, Index step) {
        const double* numbers = plan.coefficients(step);
        for (int i = 0; i < COEFFICIENTS; ++i) c[i] = T(numbers[i]);
    }
};

/* The state of a coordinate: its parameter and the slots of the optimizer. */
struct State {
    T w, slots[SLOTS];
    HD State(const T* params, Index width, Index i) : w(params[i]) {
        for (int s = 0; s < Optimizer::n_slots; ++s) slots[s] = params[(1 + s) * width + i];
    }
    HD void store(T* params, Index width, Index i) const {
        params[i] = w;
        for (int s = 0; s < Optimizer::n_slots; ++s) params[(1 + s) * width + i] = slots[s];
    }
    /* A step along the gradient g of the loss, and along that of the penalty: contract/steps.py in CUDA C++. */
    HD void move(const Penalty& penalty, const Optimizer& optimizer, T g, const T* c, T stretch, bool decayed) {
        stepped(penalty, optimizer, w, g, slots, stretch, decayed, c);
    }
};

/* The state of all coordinates in global memory twice, before a step and after it; each coordinate has one owner. */
struct States {
    T *before, *after;
    Index width;
    bool flipped = false;
    HD States(T* states, Index width)
        : before(states), after(states + (1 + Optimizer::n_slots) * width), width(width) {}
    HD State old(Index i) const { return State(before, width, i); }
    HD void renew(const State& at, const Optimizer& optimizer, const Plan& plan, Index i, Index next, T* point) const {
        at.store(after, width, i);
        point[i] = optimizer.point(at.w, at.slots, Coefficients(plan, min(next, plan.n_steps() - 1)).c);
    }
    HD void look(const Optimizer& optimizer, const Plan& plan, Index i, Index step, T* point) const {
        const State at = old(i);
        point[i] = optimizer.point(at.w, at.slots, Coefficients(plan, step).c);
    }
    HD void flip() {
        T* const other = before;
        before = after, after = other, flipped = !flipped;
    }
    /* Put the last state into the first place, where the host looks for it; behind a barrier. */
    HD void finish() const {
        if (!flipped) return;
        const Index numbers = (1 + Optimizer::n_slots) * width, threads = Index(gridDim.x) * THREADS;
#pragma unroll 1
        for (Index i = Index(blockIdx.x) * THREADS + threadIdx.x; i < numbers; i += threads) after[i] = before[i];
    }
};

/* Sum up the squares of the gradient over the blocks, and update. To clip a gradient its norm has to be known before;
   otherwise both take one barrier. */
template <class Update>
HD double norm_and_update(const Plan& plan, double squares, double* norms, double* scratch, unsigned* arrived,
                          unsigned& expected, const Update& update) {
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) norms[blockIdx.x] = squares;
    double square_norm = 0;
    for (int round = plan.clips() ? 0 : 1; round < 2; ++round) {
        if (round) update(T(plan.clipping(square_norm)));
        meet(arrived, expected);
        square_norm = 0;
        for (int b = lane(); b < gridDim.x; b += WARP) square_norm += norms[b];
        square_norm = warp_sum(square_norm);
    }
    return square_norm;
}

/* What became of a step, and whether training can go on; `stats` has a row of all steps for each of losses, square_norms and
   row_squares, then the step that failed. */
HD bool record(double* stats, Index n_steps, Index step, const double* totals, double square_norm) {
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        stats[step] = totals[LOSS];
        stats[n_steps + step] = square_norm;
        stats[2 * n_steps + step] = totals[ROW_SQUARES];
    }
    return isfinite(totals[LOSS] + square_norm);
}

/* Which step was the last one, where it is not the last of the plan: it failed. */
HD void record_end(double* stats, Index n_steps, Index step) {
    if (blockIdx.x == 0 && threadIdx.x == 0) stats[3 * n_steps] = step < n_steps ? double(step) : -1.0;
}
