// CUDA C++ on the CPU: enough for a .cu text to be compiled by a C++17 compiler and run, slowly but to the letter.
//
// Each CUDA thread is a fiber with a stack of its own; all take turns on one thread of the operating system, so that a run
// is deterministic. A fiber runs until it meets a barrier, a shuffle or SPIN_WAIT(), or ends. As many blocks as there is
// room for are resident, so that a kernel may wait for its other blocks if `blocks_at_once` is not less than its grid.
//
// What a GPU does not promise is made to show: dynamic shared memory starts with all bits set (NaN), threads may take their
// turns in descending order (`order`), a barrier that cannot be completed and a write behind the shared memory end the run with
// a message.
//
// A kernel must be `extern "C" __global__ void name(...)`. Dynamic shared memory is declared by
// `DYNAMIC_SHARED(name)`: `extern __shared__ __align__(16) unsigned char name[];` on the GPU.
// Static shared memory: in the kernel itself only, not in a template or an inline function.
//
// What lets the fibers run is compiled by itself, once, with EMULATED_SCHEDULER defined; kernels find it when they are loaded.
#pragma once
// No headers of C++: to read them would take longer than to compile most kernels.
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define EMULATED 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("emulated_shared")))
#define DYNAMIC_SHARED(name) unsigned char* const name = emulated::current->block->dynamic_shared
#define SPIN_WAIT() emulated::yield(emulated::SPINNING)
#define HD inline
#define LOAD_ACQUIRE(p) (*static_cast<const volatile unsigned*>(p))
#define ADD_RELEASE(p, v) atomicAdd(p, v)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
#define EMULATED_VECTOR(T, name) \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; }; \
    struct alignas(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATED_VECTOR(float, float)
EMULATED_VECTOR(double, double)
EMULATED_VECTOR(int, int)
EMULATED_VECTOR(unsigned, uint)

extern "C" {
extern char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));
}

namespace emulated {

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, SPINNING, ENDED };
constexpr int WARP = 32;

struct Block;
struct Fiber {
    void* context;  // its stack pointer, or its ucontext_t
    Block* block;
    State state;
    unsigned mask;  // of the lanes that it waits for
    uint3 thread;
    int number;
    uint64_t exchanged;  // what a shuffle hands to the other lanes
};
struct Block {
    uint3 index;
    int n_fibers, n_waiting, n_ended, vote;
    Fiber* fibers;
    unsigned char* dynamic_shared;
    char* static_shared;
    bool alive;
};

extern Fiber* current;
extern dim3 grid_size, block_size;
[[noreturn]] void fail(const char* message);
void yield(State state);
void block_barrier();
void warp_barrier(unsigned mask);
void launch(void (*kernel)(void**), void** args, const unsigned* grid, const unsigned* threads, size_t shared_bytes,
            char* static_shared, size_t static_bytes, int blocks_at_once, int order);

#ifdef EMULATED_SCHEDULER
#pragma GCC visibility push(default)

// bytes: that of a stack is no power of two, by which the stacks would share few lines of the cache; behind shared memory
constexpr size_t STACK = (1 << 17) + 192, GUARD = 64;
constexpr int MOST_THREADS = 1024;

Fiber* current;
dim3 grid_size, block_size;
static void (*body)(void**);
static void** arguments;
static char* static_shared_now;
static size_t static_size;

void fail(const char* message) {
    fprintf(stderr, "emulated kernel: %s (block %u, thread %d)\n", message, current ? current->block->index.x : 0u,
            current ? current->number : -1);
    fflush(stderr);
    __builtin_abort();
}

// -- fibers

#if defined(__x86_64__)
extern "C" void emulated_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden emulated_switch
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, .-emulated_switch
)");
static void* scheduler;
static void* new_context(char* stack, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + STACK) - 1;  // at its entry a function finds the stack 8 bytes off 16
    *top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    return top - 6;
}
static void resume(Fiber* fiber) { emulated_switch(&scheduler, fiber->context); }
static void suspend(Fiber* fiber) { emulated_switch(&fiber->context, scheduler); }
#else
static ucontext_t scheduler;
static void* new_context(char* stack, void (*entry)()) {
    ucontext_t* context = reinterpret_cast<ucontext_t*>(stack);  // kept at the far end of the stack
    getcontext(context);
    context->uc_stack.ss_sp = stack + sizeof(ucontext_t);
    context->uc_stack.ss_size = STACK - sizeof(ucontext_t);
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return context;
}
static void resume(Fiber* fiber) { swapcontext(&scheduler, static_cast<ucontext_t*>(fiber->context)); }
static void suspend(Fiber* fiber) { swapcontext(static_cast<ucontext_t*>(fiber->context), &scheduler); }
#endif

void yield(State state) {
    current->state = state;
    suspend(current);
}

static void run_fiber() {
    body(arguments);
    current->exchanged = 0;
    yield(ENDED);
    fail("a thread that had ended went on");
}

// -- barriers

void block_barrier() {
    ++current->block->n_waiting;
    yield(AT_BLOCK_BARRIER);
}

void warp_barrier(unsigned mask) {
    if (!(mask >> (current->number % WARP) & 1)) fail("a lane waits for lanes to which it does not belong");
    current->mask = mask;
    yield(AT_WARP_BARRIER);
}

/* Whether all lanes that a fiber waits for have arrived; if so, they go on. */
static bool release_warp(Fiber* fiber) {
    Block* block = fiber->block;
    Fiber* first = block->fibers + fiber->number / WARP * WARP;
    for (int lane = 0; lane < WARP && first + lane < block->fibers + block->n_fibers; ++lane) {
        if (!(fiber->mask >> lane & 1) || first[lane].state == ENDED) continue;
        if (first[lane].state != AT_WARP_BARRIER || first[lane].mask != fiber->mask) return false;
    }
    for (int lane = 0; lane < WARP && first + lane < block->fibers + block->n_fibers; ++lane)
        if (fiber->mask >> lane & 1 && first[lane].state == AT_WARP_BARRIER) first[lane].state = READY;
    return true;
}

/* Whether all threads of a block have arrived at its barrier or ended; if so, they go on. */
static bool release_block(Block* block) {
    if (!block->n_waiting || block->n_waiting + block->n_ended < block->n_fibers) return false;
    for (int t = 0; t < block->n_fibers; ++t)
        if (block->fibers[t].state == AT_BLOCK_BARRIER) block->fibers[t].state = READY;
    block->n_waiting = 0;
    return true;
}

// -- the scheduler

/* Let the fibers of a block run until none can go on; whether any did more than look whether its wait is over. */
static bool run_block(Block* block, bool descending) {
    if (static_size) __builtin_memcpy(static_shared_now, block->static_shared, static_size);
    bool advanced = false, again = true;
    for (int t = 0; t < block->n_fibers; ++t)
        if (block->fibers[t].state == SPINNING) block->fibers[t].state = READY;
    for (bool first = true; again; first = false) {
        again = false;
        for (int k = 0; k < block->n_fibers; ++k) {
            Fiber* fiber = block->fibers + (descending ? block->n_fibers - 1 - k : k);
            if (fiber->state == AT_WARP_BARRIER) release_warp(fiber);
            if (fiber->state != READY) continue;
            current = fiber;
            resume(fiber);
            block->n_ended += fiber->state == ENDED;
            const bool waits = fiber->state == SPINNING;
            again |= !waits;
            advanced |= !waits || !first;
        }
        again |= release_block(block);
    }
    current = nullptr;
    if (static_size) __builtin_memcpy(block->static_shared, static_shared_now, static_size);
    return advanced;
}

/* Pages that are kept for later launches: the kernel of the operating system takes longer for new ones than most launches. */
struct Pages {
    char* memory;
    size_t size;
    char* of(size_t bytes) {
        if (bytes > size) {
            if (size) munmap(memory, size);
            void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (found == MAP_FAILED) fail("out of memory");
            memory = static_cast<char*>(found), size = bytes;
        }
        return memory;
    }
};
static Pages stacks, others;

static void enter_block(Block* block, uint64_t number, size_t shared_bytes, char* stack) {
    block->index = {unsigned(number % grid_size.x), unsigned(number / grid_size.x % grid_size.y),
                    unsigned(number / grid_size.x / grid_size.y)};
    block->n_waiting = block->n_ended = block->vote = 0;
    block->alive = true;
    __builtin_memset(block->dynamic_shared, 0xff, shared_bytes + GUARD);
    __builtin_memset(block->static_shared, 0xff, static_size);
    for (int t = 0; t < block->n_fibers; ++t) {
        const unsigned u = unsigned(t);
        const uint3 thread = {u % block_size.x, u / block_size.x % block_size.y, u / block_size.x / block_size.y};
        block->fibers[t] = {new_context(stack + t * STACK, run_fiber), block, READY, 0, thread, t, 0};
    }
}

/* Run a grid. `order`: 0 threads and blocks in ascending order, 1 in descending order. */
void launch(void (*kernel)(void**), void** args, const unsigned* grid, const unsigned* threads, size_t shared_bytes,
            char* static_shared, size_t static_bytes, int blocks_at_once, int order) {
    static_shared_now = static_shared, static_size = static_bytes;
    body = kernel, arguments = args;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {threads[0], threads[1], threads[2]};
    const int n_fibers = int(block_size.x * block_size.y * block_size.z);
    const uint64_t n_blocks = uint64_t(grid_size.x) * grid_size.y * grid_size.z;
    if (n_fibers < 1 || n_fibers > MOST_THREADS || !n_blocks) fail("a launch needs 1 to 1024 threads and a block");
    const uint64_t room = n_blocks < uint64_t(blocks_at_once) ? n_blocks : uint64_t(blocks_at_once);
    const size_t of_block = (n_fibers * sizeof(Fiber) + shared_bytes + GUARD + static_bytes + 128) / 64 * 64;
    const size_t of_stacks = n_fibers * STACK;
    char* const own_stacks = stacks.of(room * of_stacks);
    char* const memory = others.of(room * (sizeof(Block) + of_block));
    Block* const blocks = reinterpret_cast<Block*>(memory + room * of_block);
    uint64_t entered = 0, ended = 0;
    for (uint64_t b = 0; b < room; ++b) {
        char* const own = memory + b * of_block;
        blocks[b].n_fibers = n_fibers;
        blocks[b].fibers = reinterpret_cast<Fiber*>(own);
        char* const shared = own + n_fibers * sizeof(Fiber);
        blocks[b].dynamic_shared = reinterpret_cast<unsigned char*>(shared + (64 - uintptr_t(shared) % 64) % 64);
        blocks[b].static_shared = reinterpret_cast<char*>(blocks[b].dynamic_shared) + shared_bytes + GUARD;
        enter_block(blocks + b, entered++, shared_bytes, own_stacks + b * of_stacks);
    }
    for (int idle = 0; ended < n_blocks;) {
        bool advanced = false;
        for (uint64_t k = 0; k < room; ++k) {
            const uint64_t b = order ? room - 1 - k : k;
            if (!blocks[b].alive) continue;
            advanced |= run_block(blocks + b, order == 1);
            if (blocks[b].n_ended < n_fibers) continue;
            blocks[b].alive = false;
            for (size_t g = 0; g < GUARD; ++g)
                if (blocks[b].dynamic_shared[shared_bytes + g] != 0xff) fail("a block wrote behind its shared memory");
            ++ended;
            if (entered < n_blocks) enter_block(blocks + b, entered++, shared_bytes, own_stacks + b * of_stacks);
        }
        idle = advanced ? 0 : idle + 1;
        if (idle > 1000) fail("all threads wait for something that does not come");
    }
}

#pragma GCC visibility pop
#endif

template <size_t... I> struct Indices {};
template <size_t N, size_t... I> struct Count : Count<N - 1, N - 1, I...> {};
template <size_t... I> struct Count<0, I...> { using type = Indices<I...>; };
template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void** args, Indices<I...>) {
    kernel(*static_cast<A*>(args[I])...);
}
template <class... A>
inline void call(void (*kernel)(A...), void** args) {
    call(kernel, args, typename Count<sizeof...(A)>::type());
}
template <class... A>
inline int argument_sizes(void (*)(A...), int* sizes) {
    const int all[] = {int(sizeof(A))..., 0};
    for (size_t i = 0; i < sizeof...(A); ++i) sizes[i] = all[i];
    return int(sizeof...(A));
}

inline unsigned lane() { return unsigned(current->number) % WARP; }

template <class V>
inline V exchange(unsigned mask, V value, unsigned from) {
    static_assert(sizeof(V) <= 8, "a shuffle moves at most eight bytes");
    __builtin_memcpy(&current->exchanged, &value, sizeof(V));
    Fiber* const self = current;
    warp_barrier(mask);
    Fiber* const other = self->block->fibers + self->number / WARP * WARP + from;
    if (from < WARP && other < self->block->fibers + self->block->n_fibers && mask >> from & 1)
        __builtin_memcpy(&value, &other->exchanged, sizeof(V));
    warp_barrier(mask);
    return value;
}

}  // namespace emulated

#define EMULATED_KERNEL(name) \
    extern "C" __attribute__((visibility("default"))) void emulated_launch_##name(void** args, const unsigned* grid, const unsigned* threads, size_t shared, \
                                           int blocks_at_once, int order) { \
        emulated::launch([](void** a) { emulated::call(name, a); }, args, grid, threads, shared, __start_emulated_shared, \
                         __stop_emulated_shared - __start_emulated_shared, blocks_at_once, order); \
    } \
    extern "C" __attribute__((visibility("default"))) int emulated_arguments_##name(int* sizes) { return emulated::argument_sizes(name, sizes); }

#define threadIdx (emulated::current->thread)
#define blockIdx (emulated::current->block->index)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)
#define warpSize 32

inline void __syncthreads() { emulated::block_barrier(); }
inline int __syncthreads_count(int yes) {
    emulated::Block* const block = emulated::current->block;
    emulated::block_barrier();
    block->vote = 0;
    emulated::block_barrier();
    block->vote += yes != 0;
    emulated::block_barrier();
    return block->vote;
}
inline int __syncthreads_or(int yes) { return __syncthreads_count(yes) > 0; }
inline int __syncthreads_and(int yes) { return __syncthreads_count(yes == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated::warp_barrier(mask); }
template <class V> inline V __shfl_sync(unsigned mask, V v, int from, int width = 32) {
    const unsigned lane = emulated::lane();
    return emulated::exchange(mask, v, (lane & ~unsigned(width - 1)) + (unsigned(from) & unsigned(width - 1)));
}
template <class V> inline V __shfl_xor_sync(unsigned mask, V v, int bits, int = 32) {
    return emulated::exchange(mask, v, emulated::lane() ^ unsigned(bits));
}
template <class V> inline V __shfl_down_sync(unsigned mask, V v, unsigned by, int width = 32) {
    const unsigned lane = emulated::lane();
    return emulated::exchange(mask, v, lane % unsigned(width) + by < unsigned(width) ? lane + by : lane);
}
template <class V> inline V __shfl_up_sync(unsigned mask, V v, unsigned by, int width = 32) {
    const unsigned lane = emulated::lane();
    return emulated::exchange(mask, v, lane % unsigned(width) >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned mask, int yes) {
    emulated::Fiber* const self = emulated::current;
    emulated::Fiber* const first = self->block->fibers + self->number / 32 * 32;
    self->exchanged = yes != 0;
    emulated::warp_barrier(mask);
    unsigned votes = 0;
    for (int k = 0; k < 32 && first + k < self->block->fibers + self->block->n_fibers; ++k)
        votes |= unsigned(mask >> k & 1 && first[k].exchanged) << k;
    emulated::warp_barrier(mask);
    return votes;
}
inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
inline int __all_sync(unsigned mask, int yes) { return __ballot_sync(mask, !yes) == 0; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) { SPIN_WAIT(); }

template <class V> struct emulated_same { using type = V; };
#define EMULATED_ATOMIC(name, expression) \
    template <class V> inline V name(V* p, typename emulated_same<V>::type v) { \
        static_assert(V(0.5) == V(0), "no atomic operations on floating point numbers: their order is not fixed"); \
        const V old = *p; \
        *p = expression; \
        return old; \
    }
EMULATED_ATOMIC(atomicAdd, V(old + v))
EMULATED_ATOMIC(atomicSub, V(old - v))
EMULATED_ATOMIC(atomicExch, v)
EMULATED_ATOMIC(atomicMin, v < old ? v : old)
EMULATED_ATOMIC(atomicMax, v > old ? v : old)
EMULATED_ATOMIC(atomicOr, V(old | v))
EMULATED_ATOMIC(atomicAnd, V(old & v))
template <class V>
inline V atomicCAS(V* p, typename emulated_same<V>::type expected, typename emulated_same<V>::type v) {
    const V old = *p;
    if (old == expected) *p = v;
    return old;
}

template <class V> inline V __ldg(const V* p) { return *p; }
template <class V> inline V __ldcg(const V* p) { return *p; }
template <class V> inline V __ldcs(const V* p) { return *p; }
template <class V> inline V __ldca(const V* p) { return *p; }
template <class V> inline void __stcg(V* p, V v) { *p = v; }
template <class V> inline void __stcs(V* p, V v) { *p = v; }

#define EMULATED_FUNCTION(name) \
    inline float name(float x) { return __builtin_##name##f(x); } \
    inline double name(double x) { return __builtin_##name(x); } \
    inline double name(int x) { return __builtin_##name(x); }
#define EMULATED_FUNCTION_OF_TWO(name) \
    inline float name(float x, float y) { return __builtin_##name##f(x, y); } \
    inline double name(double x, double y) { return __builtin_##name(x, y); }
EMULATED_FUNCTION(ceil)
EMULATED_FUNCTION(erf)
EMULATED_FUNCTION(erfc)
EMULATED_FUNCTION(exp)
EMULATED_FUNCTION(expm1)
EMULATED_FUNCTION(fabs)
EMULATED_FUNCTION(floor)
EMULATED_FUNCTION(log)
EMULATED_FUNCTION(log1p)
EMULATED_FUNCTION(sqrt)
EMULATED_FUNCTION(tanh)
EMULATED_FUNCTION(cos)
EMULATED_FUNCTION(sin)
EMULATED_FUNCTION(atan)
EMULATED_FUNCTION(asinh)
EMULATED_FUNCTION(cosh)
EMULATED_FUNCTION(sinh)
EMULATED_FUNCTION(rint)
EMULATED_FUNCTION_OF_TWO(copysign)
EMULATED_FUNCTION_OF_TWO(fmax)
EMULATED_FUNCTION_OF_TWO(fmin)
EMULATED_FUNCTION_OF_TWO(pow)
#define EMULATED_FUNCTIONS_OF(V, suffix) \
    inline V abs(V x) { return __builtin_fabs##suffix(x); } \
    inline V fma(V x, V y, V z) { return __builtin_fma##suffix(x, y, z); } \
    inline bool isfinite(V x) { return __builtin_isfinite(x); } \
    inline bool isinf(V x) { return __builtin_isinf(x); } \
    inline bool isnan(V x) { return __builtin_isnan(x); } \
    inline int ilogb(V x) { return __builtin_ilogb##suffix(x); } \
    inline V scalbn(V x, int n) { return __builtin_scalbn##suffix(x, n); } \
    inline V ldexp(V x, int n) { return __builtin_ldexp##suffix(x, n); } \
    inline long long llrint(V x) { return __builtin_llrint##suffix(x); } \
    inline long lrint(V x) { return __builtin_lrint##suffix(x); }
EMULATED_FUNCTIONS_OF(float, f)
EMULATED_FUNCTIONS_OF(double, )
inline int abs(int x) { return x < 0 ? -x : x; }
inline long long abs(long long x) { return x < 0 ? -x : x; }
inline double nan(const char*) { return __builtin_nan(""); }
#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
// Of a number and NaN, CUDA's max and min give the number.
inline float max(float a, float b) { return fmax(a, b); }
inline float min(float a, float b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
#define EMULATED_EXTREMES(V) \
    inline V max(V a, V b) { return a < b ? b : a; } \
    inline V min(V a, V b) { return b < a ? b : a; }
EMULATED_EXTREMES(int)
EMULATED_EXTREMES(unsigned)
EMULATED_EXTREMES(long)
EMULATED_EXTREMES(unsigned long)
EMULATED_EXTREMES(long long)
EMULATED_EXTREMES(unsigned long long)
inline float rsqrt(float x) { return 1.0f / sqrt(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float normcdf(float x) { return 0.5f * erfc(-x * 0.70710678f); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }
inline float normcdff(float x) { return normcdf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline int __float_as_int(float x) { int i; __builtin_memcpy(&i, &x, 4); return i; }
inline float __int_as_float(int i) { float x; __builtin_memcpy(&x, &i, 4); return x; }
inline long long __double_as_longlong(double x) { long long i; __builtin_memcpy(&i, &x, 8); return i; }
inline double __longlong_as_double(long long i) { double x; __builtin_memcpy(&x, &i, 8); return x; }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)(a) * b >> 64);
}
