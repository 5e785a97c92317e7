/* cuda_on_cpu.h - CUDA C++ as plain C++: gpt.cu compiled against this folder runs its kernels on the CPU, slowly and
 * exactly, so that every kernel is tested where there is no GPU. Here: the language (built-in variables, vector types,
 * intrinsics) and the part of the runtime's interface that gpt.cu uses. What runs it stands in cuda_on_cpu.cpp (threads
 * and checks), cuda_runtime.cpp (memory, streams, graphs) and cublasLt.cpp.
 *
 * Every thread of a block is a fiber; blocks run one after the other; all orders change with CUDA_ON_CPU_SEED. Each
 * load and store of gpt.cu is checked: it is compiled with -fsanitize=thread, but linked with our own callbacks, which
 * know each allocation's bounds, who wrote what since which barrier, and what was never written. */
#ifndef CUDA_ON_CPU_H
#define CUDA_ON_CPU_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <utility>

/* ---- the language ---------------------------------------------------------------------------------------- */

#define __host__
#define __device__
#define __global__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)
/* Not because threads of the system run kernels, but because the linker puts all such variables in one place. */
#define __shared__           static thread_local
#define DYNAMIC_SHARED(name) unsigned char *const name = cuda_dynamic_shared()

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern struct CudaPlace {
    uint3 threadIdx, blockIdx;
    dim3 blockDim, gridDim;
} cuda_place;
static constexpr uint3 &threadIdx = cuda_place.threadIdx, &blockIdx = cuda_place.blockIdx;
static constexpr dim3 &blockDim = cuda_place.blockDim, &gridDim = cuda_place.gridDim;
constexpr int warpSize = 32;

#define VECTOR_TYPES(T, name, a2, a4)                          \
    struct alignas(a2) name##2 {                               \
        T x, y;                                                \
    };                                                         \
    struct alignas(a4) name##4 {                               \
        T x, y, z, w;                                          \
    };                                                         \
    static inline name##2 make_##name##2(T x, T y) {           \
        return {x, y};                                         \
    }                                                          \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { \
        return {x, y, z, w};                                   \
    }
VECTOR_TYPES(float, float, 8, 16)
VECTOR_TYPES(int, int, 8, 16)
VECTOR_TYPES(unsigned, uint, 8, 16)
VECTOR_TYPES(unsigned short, ushort, 4, 8)
VECTOR_TYPES(unsigned char, uchar, 2, 4)
VECTOR_TYPES(double, double, 16, 16)
#undef VECTOR_TYPES
struct float3 {
    float x, y, z;
};

/* ---- threads that meet ----------------------------------------------------------------------------------- */

unsigned char *cuda_dynamic_shared();
uint64_t cuda_block_number(); /* another one each time a block runs */
/* All threads of the block come here; the number of those that brought a value other than 0. */
int cuda_block_meet(const char *what, int value);
/* The lanes in `mask` come here, each with its own `mine`; the last one calls all(mine of each lane, mask). `orders`:
 * what a lane wrote before is then visible to the others, as after __syncwarp. */
void cuda_warp_meet(const char *what, unsigned mask, bool orders, void *mine, void (*all)(void **, unsigned));
[[noreturn]] void cuda_fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

template <typename A>
static inline void warp_together(const char *what, unsigned mask, A *mine, void (*all)(A **, unsigned)) {
    cuda_warp_meet(what, mask, false, mine, reinterpret_cast<void (*)(void **, unsigned)>(all));
}

static inline void __syncthreads() {
    cuda_block_meet("__syncthreads", 0);
}
static inline int __syncthreads_count(int x) {
    return cuda_block_meet("__syncthreads_count", x != 0);
}
static inline int __syncthreads_or(int x) {
    return cuda_block_meet("__syncthreads_or", x != 0) != 0;
}
static inline int __syncthreads_and(int x) {
    return cuda_block_meet("__syncthreads_and", x == 0) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
    cuda_warp_meet("__syncwarp", mask, true, nullptr, nullptr);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

enum ShuffleKind { SHFL_IDX, SHFL_UP, SHFL_DOWN, SHFL_XOR };

template <typename T> struct Shuffle {
    T value, out;
    int by, width;
    ShuffleKind kind;
};

static inline int shuffle_source(int lane, int by, int width, ShuffleKind kind) {
    const int first = lane & ~(width - 1), end = first + width;
    int from = lane;
    if (kind == SHFL_IDX) from = first + (by & (width - 1));
    if (kind == SHFL_UP && lane - by >= first) from = lane - by;
    if (kind == SHFL_DOWN && lane + by < end) from = lane + by;
    if (kind == SHFL_XOR && (lane ^ by) < end) from = lane ^ by;
    return from;
}

template <typename T>
static __forceinline__ T cuda_shuffle(const char *what, unsigned mask, T value, int by, int width,
                                      ShuffleKind kind) {
    static_assert(sizeof(T) <= 8, "shuffles move 4 or 8 bytes");
    if (width < 1 || width > 32 || (width & (width - 1))) cuda_fault("%s with a width of %d", what, width);
    Shuffle<T> mine = {value, value, by, width, kind};
    warp_together<Shuffle<T>>(what, mask, &mine, [](Shuffle<T> **lane, unsigned m) {
        for (int i = 0; i < 32; i++) {
            if (!(m >> i & 1)) continue;
            const int from = shuffle_source(i, lane[i]->by, lane[i]->width, lane[i]->kind);
            if (from < 0 || from > 31 || !(m >> from & 1))
                cuda_fault("lane %d takes a value from lane %d, which mask 0x%08x does not name", i, from, m);
            lane[i]->out = lane[from]->value;
        }
    });
    return mine.out;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    return cuda_shuffle("__shfl_sync", mask, v, from, width, SHFL_IDX);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    return cuda_shuffle("__shfl_up_sync", mask, v, (int)by, width, SHFL_UP);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    return cuda_shuffle("__shfl_down_sync", mask, v, (int)by, width, SHFL_DOWN);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32) {
    return cuda_shuffle("__shfl_xor_sync", mask, v, by, width, SHFL_XOR);
}

struct Vote {
    unsigned in, out;
};
static __forceinline__ unsigned cuda_ballot(const char *what, unsigned mask, bool yes) {
    Vote mine = {yes, 0};
    warp_together<Vote>(what, mask, &mine, [](Vote **lane, unsigned m) {
        unsigned all = 0;
        for (int i = 0; i < 32; i++) all |= m >> i & 1 ? lane[i]->in << i : 0;
        for (int i = 0; i < 32; i++)
            if (m >> i & 1) lane[i]->out = all;
    });
    return mine.out;
}
static inline unsigned __ballot_sync(unsigned mask, int x) {
    return cuda_ballot("__ballot_sync", mask, x != 0);
}
static inline int __any_sync(unsigned mask, int x) {
    return cuda_ballot("__any_sync", mask, x != 0) != 0;
}
static inline int __all_sync(unsigned mask, int x) {
    return cuda_ballot("__all_sync", mask, x != 0) == mask;
}

template <typename T> struct Reduced {
    T in, out;
    T (*op)(T, T);
};
template <typename T>
static __forceinline__ T cuda_reduce(const char *what, unsigned mask, T x, T (*op)(T, T)) {
    Reduced<T> mine = {x, x, op};
    warp_together<Reduced<T>>(what, mask, &mine, [](Reduced<T> **lane, unsigned m) {
        int first = __builtin_ctz(m);
        T all = lane[first]->in;
        for (int i = first + 1; i < 32; i++)
            if (m >> i & 1) all = lane[i]->op(all, lane[i]->in);
        for (int i = first; i < 32; i++)
            if (m >> i & 1) lane[i]->out = all;
    });
    return mine.out;
}
static inline unsigned __reduce_add_sync(unsigned m, unsigned x) {
    return cuda_reduce<unsigned>("__reduce_add_sync", m, x, [](unsigned a, unsigned b) { return a + b; });
}
static inline int __reduce_add_sync(unsigned m, int x) {
    return (int)__reduce_add_sync(m, (unsigned)x);
}
static inline unsigned __reduce_max_sync(unsigned m, unsigned x) {
    return cuda_reduce<unsigned>("__reduce_max_sync", m, x,
                                 [](unsigned a, unsigned b) { return a > b ? a : b; });
}
static inline int __reduce_max_sync(unsigned m, int x) {
    return cuda_reduce<int>("__reduce_max_sync", m, x, [](int a, int b) { return a > b ? a : b; });
}
static inline unsigned __reduce_min_sync(unsigned m, unsigned x) {
    return cuda_reduce<unsigned>("__reduce_min_sync", m, x,
                                 [](unsigned a, unsigned b) { return a < b ? a : b; });
}
static inline int __reduce_min_sync(unsigned m, int x) {
    return cuda_reduce<int>("__reduce_min_sync", m, x, [](int a, int b) { return a < b ? a : b; });
}

/* ---- atomics: on integers only, since a sum of floats would depend on the order -------------------------- */

/* Checks the place, and notes that this block has met others: it may be the last one, who may read their results. */
void cuda_atomic(const void *p, size_t bytes);

template <typename T, typename Op>
static __attribute__((noinline, no_sanitize("thread"))) T cuda_atomically(T *p, Op op) {
    cuda_atomic(p, sizeof *p);
    const T old = *p;
    *p = op(old);
    return old;
}
#define ATOMICS(T)                                                           \
    static inline T atomicAdd(T *p, T x) {                                   \
        return cuda_atomically(p, [x](T o) { return (T)(o + x); });          \
    }                                                                        \
    static inline T atomicMax(T *p, T x) {                                   \
        return cuda_atomically(p, [x](T o) { return o > x ? o : x; });       \
    }                                                                        \
    static inline T atomicMin(T *p, T x) {                                   \
        return cuda_atomically(p, [x](T o) { return o < x ? o : x; });       \
    }                                                                        \
    static inline T atomicExch(T *p, T x) {                                  \
        return cuda_atomically(p, [x](T) { return x; });                     \
    }                                                                        \
    static inline T atomicOr(T *p, T x) {                                    \
        return cuda_atomically(p, [x](T o) { return (T)(o | x); });          \
    }                                                                        \
    static inline T atomicAnd(T *p, T x) {                                   \
        return cuda_atomically(p, [x](T o) { return (T)(o & x); });          \
    }                                                                        \
    static inline T atomicCAS(T *p, T is, T x) {                             \
        return cuda_atomically(p, [is, x](T o) { return o == is ? x : o; }); \
    }
ATOMICS(int)
ATOMICS(unsigned)
ATOMICS(unsigned long long)
#undef ATOMICS
static inline unsigned atomicInc(unsigned *p, unsigned last) {
    return cuda_atomically(p, [last](unsigned o) { return o >= last ? 0 : o + 1; });
}

/* ---- arithmetic ------------------------------------------------------------------------------------------ */

template <typename To, typename From> static inline To cuda_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &x, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x) {
    return cuda_bits<unsigned>(x);
}
static inline int __float_as_int(float x) {
    return cuda_bits<int>(x);
}
static inline float __uint_as_float(unsigned x) {
    return cuda_bits<float>(x);
}
static inline float __int_as_float(int x) {
    return cuda_bits<float>(x);
}
static inline long long __double_as_longlong(double x) {
    return cuda_bits<long long>(x);
}
static inline double __longlong_as_double(long long x) {
    return cuda_bits<double>(x);
}

static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline int __mulhi(int a, int b) {
    return (int)((int64_t)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned by) {
    return (unsigned)((((uint64_t)hi << 32 | lo) << (by & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned by) {
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (by & 31));
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
    const uint64_t both = (uint64_t)b << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= (unsigned)(both >> (s >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return out;
}

static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x) {
    return 1.0 / sqrt(x);
}
/* Macros, because glibc declares functions of these names. */
#define __expf(x)    expf(x)
#define __logf(x)    logf(x)
#define __log2f(x)   log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline float __frcp_rn(float x) {
    return 1.0f / x;
}
static inline float __fsqrt_rn(float x) {
    return sqrtf(x);
}
static inline float __fdiv_rn(float a, float b) {
    return a / b;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
/* volatile: no product may be fused with a sum that stands around it. */
static inline float __fmul_rn(float a, float b) {
    volatile float x = a * b;
    return x;
}
static inline float __fadd_rn(float a, float b) {
    volatile float x = a + b;
    return x;
}
static inline float __fsub_rn(float a, float b) {
    volatile float x = a - b;
    return x;
}
static inline float __saturatef(float x) {
    return x > 0 ? x < 1 ? x : 1 : 0;
}
static inline float __double2float_rn(double x) {
    return (float)x;
}
static inline float __int2float_rn(int x) {
    return (float)x;
}
static inline float __uint2float_rn(unsigned x) {
    return (float)x;
}
static inline int __float2int_rn(float x) {
    return (int)rintf(x);
}
static inline int __float2int_rd(float x) {
    return (int)floorf(x);
}

#define MIN_MAX(T)                  \
    static inline T min(T a, T b) { \
        return a < b ? a : b;       \
    }                               \
    static inline T max(T a, T b) { \
        return a > b ? a : b;       \
    }
MIN_MAX(int)
MIN_MAX(unsigned)
MIN_MAX(long)
MIN_MAX(unsigned long)
MIN_MAX(long long)
MIN_MAX(unsigned long long)
#undef MIN_MAX
static inline float min(float a, float b) {
    return fminf(a, b);
}
static inline float max(float a, float b) {
    return fmaxf(a, b);
}
static inline double min(double a, double b) {
    return fmin(a, b);
}
static inline double max(double a, double b) {
    return fmax(a, b);
}

/* Loads and stores with a hint for the caches. */
template <typename T> static inline T __ldg(const T *p) {
    return *p;
}
template <typename T> static inline T __ldca(const T *p) {
    return *p;
}
template <typename T> static inline T __ldcg(const T *p) {
    return *p;
}
template <typename T> static inline T __ldcs(const T *p) {
    return *p;
}
template <typename T> static inline T __ldlu(const T *p) {
    return *p;
}
template <typename T> static inline void __stwb(T *p, T x) {
    *p = x;
}
template <typename T> static inline void __stcg(T *p, T x) {
    *p = x;
}
template <typename T> static inline void __stcs(T *p, T x) {
    *p = x;
}
template <typename T> static inline void __stwt(T *p, T x) {
    *p = x;
}

static inline long long clock64() {
    return 0;
}
static inline void __nanosleep(unsigned) {}

/* ---- the runtime ----------------------------------------------------------------------------------------- */

#define CUDART_VERSION 12000

enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchOutOfResources = 701,
    cudaErrorLaunchFailure = 719,
    cudaErrorNotSupported = 801,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
};
const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

struct CudaStream;
struct CudaEvent;
struct CudaGraph;
struct CudaGraphExec;
typedef CudaStream *cudaStream_t;
typedef CudaEvent *cudaEvent_t;
typedef CudaGraph *cudaGraph_t;
typedef CudaGraphExec *cudaGraphExec_t;

/* Devices: there is one, a small Hopper. */
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
    int major, minor, multiProcessorCount, l2CacheSize, memoryBusWidth, regsPerBlock, regsPerMultiprocessor;
    int maxThreadsPerBlock, maxThreadsPerMultiProcessor, warpSize, asyncEngineCount, ECCEnabled, pciBusID;
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrClockRate = 13,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMemoryClockRate = 36,
    cudaDevAttrGlobalMemoryBusWidth = 37,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrMaxThreadsPerMultiProcessor = 39,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr a, int device);
cudaError_t cudaDriverGetVersion(int *v);
cudaError_t cudaRuntimeGetVersion(int *v);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDeviceReset();

/* Memory */
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault,
};
enum {
    cudaHostAllocDefault = 0,
    cudaHostAllocPortable = 1,
    cudaHostAllocMapped = 2,
    cudaHostAllocWriteCombined = 4
};
enum { cudaHostRegisterDefault = 0 };
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s = nullptr);
cudaError_t cudaMemset(void *p, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s = nullptr);
template <typename T> static inline cudaError_t cudaMalloc(T **p, size_t bytes) {
    return cudaMalloc((void **)p, bytes);
}
template <typename T> static inline cudaError_t cudaMallocHost(T **p, size_t bytes) {
    return cudaMallocHost((void **)p, bytes);
}
template <typename T> static inline cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned flags) {
    return cudaHostAlloc((void **)p, bytes, flags);
}

/* Streams and events */
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
cudaError_t cudaStreamCreate(cudaStream_t *s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamQuery(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);

/* Graphs */
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed,
};
enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated,
};
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags = 0);
cudaError_t cudaGraphUpload(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x);

/* Kernels */
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        int programmaticStreamSerializationAllowed;
    } val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

cudaError_t cuda_set_attribute(const void *kernel, cudaFuncAttribute a, int value);
cudaError_t cuda_blocks_per_processor(int *blocks, const void *kernel, int threads, size_t shared);
/* Queues a kernel; thread(call) runs one of its threads; the call, of so many bytes, is freed by drop(call). */
cudaError_t cuda_launch(const cudaLaunchConfig_t *c, const void *kernel, void *call, size_t bytes,
                        void (*thread)(void *), void (*drop)(void *));

template <typename K>
static inline cudaError_t cudaFuncSetAttribute(K *kernel, cudaFuncAttribute a, int value) {
    return cuda_set_attribute((const void *)kernel, a, value);
}
template <typename K>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, K *kernel, int threads,
                                                                        size_t shared) {
    return cuda_blocks_per_processor(blocks, (const void *)kernel, threads, shared);
}

template <typename... Params, typename... Args>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(Params...),
                                      Args &&...args) {
    typedef std::pair<void (*)(Params...), std::tuple<Params...>> Call;
    return cuda_launch(
        c, (const void *)kernel, new Call(kernel, std::tuple<Params...>(std::forward<Args>(args)...)),
        sizeof(Call), [](void *p) { std::apply(((Call *)p)->first, ((Call *)p)->second); },
        [](void *p) { delete (Call *)p; });
}

#endif
