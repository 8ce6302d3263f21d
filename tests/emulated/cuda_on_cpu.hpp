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
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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
constexpr size_t STACK = 1 << 17, GUARD = 64;  // bytes, the latter behind shared memory
constexpr int MOST_THREADS = 1024, WARP = 32;

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

inline Fiber* current;
inline dim3 grid_size, block_size;
inline void (*body)(void**);
inline void** arguments;

[[noreturn]] inline void fail(const char* message) {
    std::fprintf(stderr, "emulated kernel: %s (block %u, thread %d)\n", message, current ? current->block->index.x : 0u,
                 current ? current->number : -1);
    std::fflush(stderr);
    std::abort();
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
inline void* scheduler;
inline void* new_context(char* stack, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + STACK) - 1;  // at its entry a function finds the stack 8 bytes off 16
    *top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    return top - 6;
}
inline void resume(Fiber* fiber) { emulated_switch(&scheduler, fiber->context); }
inline void suspend(Fiber* fiber) { emulated_switch(&fiber->context, scheduler); }
#else
inline ucontext_t scheduler;
inline void* new_context(char* stack, void (*entry)()) {
    ucontext_t* context = reinterpret_cast<ucontext_t*>(stack);  // kept at the far end of the stack
    getcontext(context);
    context->uc_stack.ss_sp = stack + sizeof(ucontext_t);
    context->uc_stack.ss_size = STACK - sizeof(ucontext_t);
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return context;
}
inline void resume(Fiber* fiber) { swapcontext(&scheduler, static_cast<ucontext_t*>(fiber->context)); }
inline void suspend(Fiber* fiber) { swapcontext(static_cast<ucontext_t*>(fiber->context), &scheduler); }
#endif

inline void yield(State state) {
    current->state = state;
    suspend(current);
}

inline void run_fiber() {
    body(arguments);
    current->exchanged = 0;
    yield(ENDED);
    fail("a thread that had ended went on");
}

// -- barriers

inline void block_barrier() {
    ++current->block->n_waiting;
    yield(AT_BLOCK_BARRIER);
}

inline void warp_barrier(unsigned mask) {
    if (!(mask >> (current->number % WARP) & 1)) fail("a lane waits for lanes to which it does not belong");
    current->mask = mask;
    yield(AT_WARP_BARRIER);
}

/* Whether all lanes that a fiber waits for have arrived; if so, they go on. */
inline bool release_warp(Fiber* fiber) {
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
inline bool release_block(Block* block) {
    if (!block->n_waiting || block->n_waiting + block->n_ended < block->n_fibers) return false;
    for (int t = 0; t < block->n_fibers; ++t)
        if (block->fibers[t].state == AT_BLOCK_BARRIER) block->fibers[t].state = READY;
    block->n_waiting = 0;
    return true;
}

// -- the scheduler

/* Let the fibers of a block run until none can go on; whether any did more than look whether its wait is over. */
inline bool run_block(Block* block, bool descending) {
    const size_t size = __stop_emulated_shared - __start_emulated_shared;
    if (size) std::memcpy(__start_emulated_shared, block->static_shared, size);
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
    if (size) std::memcpy(block->static_shared, __start_emulated_shared, size);
    return advanced;
}

inline char* pages(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("out of memory");
    return static_cast<char*>(memory);
}

inline void enter_block(Block* block, uint64_t number, size_t shared_bytes, char* stacks) {
    block->index = {unsigned(number % grid_size.x), unsigned(number / grid_size.x % grid_size.y),
                    unsigned(number / grid_size.x / grid_size.y)};
    block->n_waiting = block->n_ended = block->vote = 0;
    block->alive = true;
    std::memset(block->dynamic_shared, 0xff, shared_bytes + GUARD);
    for (int t = 0; t < block->n_fibers; ++t) {
        const unsigned u = unsigned(t);
        const uint3 thread = {u % block_size.x, u / block_size.x % block_size.y, u / block_size.x / block_size.y};
        block->fibers[t] = {new_context(stacks + t * STACK, run_fiber), block, READY, 0, thread, t, 0};
    }
}

/* Run a grid. `order`: 0 threads and blocks in ascending order, 1 in descending order. */
inline void launch(void (*kernel)(void**), void** args, const unsigned* grid, const unsigned* threads,
                   size_t shared_bytes, int blocks_at_once, int order) {
    body = kernel, arguments = args;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {threads[0], threads[1], threads[2]};
    const int n_fibers = int(block_size.x * block_size.y * block_size.z);
    const uint64_t n_blocks = uint64_t(grid_size.x) * grid_size.y * grid_size.z;
    if (n_fibers < 1 || n_fibers > MOST_THREADS || !n_blocks) fail("a launch needs 1 to 1024 threads and a block");
    const uint64_t room = n_blocks < uint64_t(blocks_at_once) ? n_blocks : uint64_t(blocks_at_once);
    const size_t static_bytes = __stop_emulated_shared - __start_emulated_shared;
    const size_t of_block = (n_fibers * (STACK + sizeof(Fiber)) + shared_bytes + GUARD + static_bytes + 128) / 64 * 64;
    char* const memory = pages(room * of_block);
    Block* const blocks = static_cast<Block*>(std::calloc(room, sizeof(Block)));
    uint64_t entered = 0, ended = 0;
    for (uint64_t b = 0; b < room; ++b) {
        char* const own = memory + b * of_block;
        blocks[b].n_fibers = n_fibers;
        blocks[b].fibers = reinterpret_cast<Fiber*>(own + n_fibers * STACK);
        char* const shared = own + n_fibers * (STACK + sizeof(Fiber));
        blocks[b].dynamic_shared = reinterpret_cast<unsigned char*>(shared + (64 - uintptr_t(shared) % 64) % 64);
        blocks[b].static_shared = reinterpret_cast<char*>(blocks[b].dynamic_shared) + shared_bytes + GUARD;
        enter_block(blocks + b, entered++, shared_bytes, own);
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
            if (entered < n_blocks) enter_block(blocks + b, entered++, shared_bytes, memory + b * of_block);
        }
        idle = advanced ? 0 : idle + 1;
        if (idle > 1000) fail("all threads wait for something that does not come");
    }
    std::free(blocks);
    munmap(memory, room * of_block);
}

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
    std::memcpy(&current->exchanged, &value, sizeof(V));
    Fiber* const self = current;
    warp_barrier(mask);
    Fiber* const other = self->block->fibers + self->number / WARP * WARP + from;
    if (from < WARP && other < self->block->fibers + self->block->n_fibers && mask >> from & 1)
        std::memcpy(&value, &other->exchanged, sizeof(V));
    warp_barrier(mask);
    return value;
}

}  // namespace emulated

#define EMULATED_KERNEL(name) \
    extern "C" __attribute__((visibility("default"))) void emulated_launch_##name(void** args, const unsigned* grid, const unsigned* threads, size_t shared, \
                                           int blocks_at_once, int order) { \
        emulated::launch([](void** a) { emulated::call(name, a); }, args, grid, threads, shared, blocks_at_once, order); \
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

using std::abs; using std::ceil; using std::erf; using std::erfc; using std::exp; using std::expm1; using std::fabs;
using std::floor; using std::fma; using std::isfinite; using std::isinf; using std::isnan; using std::log; using std::log1p;
using std::pow; using std::sqrt; using std::tanh; using std::cos; using std::sin; using std::copysign; using std::fmax;
using std::atan; using std::asinh; using std::cosh; using std::sinh;
using std::fmin; using std::ilogb; using std::scalbn; using std::ldexp; using std::llrint; using std::lrint; using std::rint;
// Of a number and NaN, CUDA's max and min give the number.
inline float max(float a, float b) { return std::fmax(a, b); }
inline float min(float a, float b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
#define EMULATED_EXTREMES(V) \
    inline V max(V a, V b) { return a < b ? b : a; } \
    inline V min(V a, V b) { return b < a ? b : a; }
EMULATED_EXTREMES(int)
EMULATED_EXTREMES(unsigned)
EMULATED_EXTREMES(long)
EMULATED_EXTREMES(unsigned long)
EMULATED_EXTREMES(long long)
EMULATED_EXTREMES(unsigned long long)
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float normcdf(float x) { return 0.5f * std::erfc(-x * 0.70710678f); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752); }
inline float normcdff(float x) { return normcdf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline int __float_as_int(float x) { int i; std::memcpy(&i, &x, 4); return i; }
inline float __int_as_float(int i) { float x; std::memcpy(&x, &i, 4); return x; }
inline long long __double_as_longlong(double x) { long long i; std::memcpy(&i, &x, 8); return i; }
inline double __longlong_as_double(long long i) { double x; std::memcpy(&x, &i, 8); return x; }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)(a) * b >> 64);
}
