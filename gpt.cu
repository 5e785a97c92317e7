/* gpt.cu - floor 1: the op table on one NVIDIA GPU (sm_80 and later). It knows no model: only ops.h.
 *
 * Conventions, so that one source runs on a GPU and, compiled as C++ against test/cuda_on_cpu, on a CPU:
 *   - kernels are launched by launch(), never by <<<>>>; dynamic shared memory is named by DYNAMIC_SHARED;
 *   - inline PTX stands in ptx.h only, each instruction in a wrapper whose twin for the CPU does the same;
 *   - one stream for all work, so ops run in the order of their calls; a second one brings the host's data.
 * Accesses are 16 bytes wide where alignment allows; sums over threads have a fixed tree, and no float is added
 * atomically, so each result is the same, bit for bit, in every run.
 *
 * Beside each kernel stand the bytes it moves and the FLOPs it needs. In this order: errors and launching; vectors and
 * sums; random numbers; memory and queues; replay; linear; norm; attention; embedding; classifier; optimizer; start; the
 * table. */
extern "C" {
#include "cuda_sizes.h"
}

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <ptx.h>

#include <float.h>
#include <initializer_list>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef __nv_bfloat16 bf16;

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

/* ---- errors and launching -------------------------------------------------------------------------------- */

/* What a user can try. */
static const char *cuda_hint(cudaError_t status) {
    switch (status) {
    case cudaErrorMemoryAllocation:
        return "try a smaller train.micro_batch_size, train.recompute \"block\", or a GPU to itself "
               "(nvidia-smi)";
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver: return "does nvidia-smi show one? is CUDA_VISIBLE_DEVICES right?";
    case cudaErrorNoKernelImageForDevice:
        return "this binary holds no code for this GPU: build it where the GPU is";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
        return "a fault in a kernel, perhaps an earlier one: CUDA_LAUNCH_BLOCKING=1 or compute-sanitizer "
               "names it";
    case cudaErrorLaunchOutOfResources:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidValue:
        return "a shape that this kernel cannot take: please report it with the model's config";
    default: return "an error of the device or its driver: see dmesg and nvidia-smi, then try again";
    }
}

/* A failed call ends the program: nothing it queued can be trusted. Allocation is the exception, see
 * cuda_alloc. */
#define CUDA(call)                                                                              \
    do {                                                                                        \
        const cudaError_t status_ = (call);                                                     \
        if (status_ != cudaSuccess)                                                             \
            check_failed(__FILE__, __LINE__, #call, "%s (%s); %s", cudaGetErrorString(status_), \
                         cudaGetErrorName(status_), cuda_hint(status_));                        \
    } while (0)
#define CUBLAS(call)                                                                      \
    do {                                                                                  \
        const cublasStatus_t status_ = (call);                                            \
        if (status_ != CUBLAS_STATUS_SUCCESS)                                             \
            check_failed(__FILE__, __LINE__, #call, "%s; CUBLASLT_LOG_LEVEL=5 says more", \
                         cublasLtGetStatusString(status_));                               \
    } while (0)

static cudaStream_t queue; /* all work */

/* More dynamic shared memory than 48 KiB must be asked for. */
template <typename... Params, typename... Args>
static void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Args... args) {
    enum { FREELY = 48 << 10 };
    if (shared > FREELY)
        CUDA(cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)shared));
    cudaLaunchConfig_t c = {};
    c.gridDim = grid, c.blockDim = block, c.dynamicSmemBytes = shared, c.stream = queue;
    CUDA(cudaLaunchKernelEx(&c, kernel, static_cast<Params>(args)...));
}

template <typename T> static __host__ __device__ T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

/* ---- vectors and sums ------------------------------------------------------------------------------------ */

/* V numbers that travel as one load or store; 16 bytes of them if nothing is said. */
template <typename T, int V = 16 / sizeof(T)> struct alignas(V * sizeof(T)) Pack {
    enum { N = V };
    T at[V];
};
template <int V, typename T> static __device__ inline Pack<T, V> load(const T *p) {
    return *reinterpret_cast<const Pack<T, V> *>(p);
}
template <int V, typename T> static __device__ inline void store(T *p, const Pack<T, V> &v) {
    *reinterpret_cast<Pack<T, V> *>(p) = v;
}

static __device__ inline float to_float(float x) {
    return x;
}
static __device__ inline float to_float(bf16 x) {
    return __bfloat162float(x);
}
template <typename T> static __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) {
    return x;
}
template <> __device__ inline bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}

/* f(T()) with the type that d names. */
template <typename F> static void with_type(Dtype d, F f) {
    if (d == DT_BF16)
        f(bf16());
    else
        f(float());
}

/* Can all of these pointers and row sizes (in bytes) go by 16 bytes at a time? */
template <typename... Sizes> static bool in_sixteens(Sizes... all) {
    return (((uintptr_t)all | ...) & 15) == 0;
}

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

template <typename T> static __device__ inline T add(T a, T b) {
    return a + b;
}
template <typename T> static __device__ inline T larger(T a, T b) {
    return max(a, b);
}

/* Each lane gets all of its warp's x, joined. */
template <typename T, T (*join)(T, T)> static __device__ inline T over_warp(T x) {
    for (int d = WARP / 2; d > 0; d /= 2) x = join(x, __shfl_xor_sync(ALL_LANES, x, d));
    return x;
}
template <typename T> static __device__ inline T warp_sum(T x) {
    return over_warp<T, add<T>>(x);
}
template <typename T> static __device__ inline T warp_max(T x) {
    return over_warp<T, larger<T>>(x);
}

/* A team: the threads of a block that share threadIdx.y, whole warps. Each gets all of its team's x,
 * joined in one order. Where a team is more than a warp, all threads of the block must come here. */
template <typename T, T (*join)(T, T)> static __device__ inline T over_team(T x) {
    __shared__ T part[WARP];
    x = over_warp<T, join>(x);
    if (blockDim.x == WARP) return x;
    const int warps = blockDim.x / WARP, first = threadIdx.y * warps;
    __syncthreads(); /* the last ones may still be read */
    if (threadIdx.x % WARP == 0) part[first + threadIdx.x / WARP] = x;
    __syncthreads();
    x = part[first];
    for (int i = 1; i < warps; i++) x = join(x, part[first + i]);
    return x;
}
template <typename T> static __device__ inline T team_sum(T x) {
    return over_team<T, add<T>>(x);
}
template <typename T> static __device__ inline T team_max(T x) {
    return over_team<T, larger<T>>(x);
}

/* N numbers of a tensor as they lie there, of type T; T void: of any dtype, at any address, and already
 * fp32. */
template <typename T, int N> struct Words { uint32_t w[N * sizeof(T) / 4]; };
template <int N> struct Words<void, N> { float w[N]; };

/* How many numbers of T a thread takes at once, how many threads may share a row, and what stands for fp32
 * and bf16 beside T. `void` is for rows that are odd, or lie so. */
template <typename T> struct Row {
    enum { N = 16 / sizeof(T), THREADS = 384 };
    typedef float F32;
    typedef bf16 Bf16;
};
template <> struct Row<void> {
    enum { N = 4, THREADS = 512 };
    typedef void F32;
    typedef void Bf16;
};

typedef enum { ONCE, AGAIN } Use; /* ONCE: nobody reads it soon again, so it may leave the caches first */

template <typename V> static __device__ inline V fetch(const void *p, bool there, Use use) {
    const V none = {};
    return !there ? none : use == ONCE ? __ldcs((const V *)p) : *(const V *)p;
}
template <typename V> static __device__ inline void put(void *p, V v, Use use) {
    if (use == ONCE)
        __stcs((V *)p, v);
    else
        *(V *)p = v;
}

/* Numbers at .. at + N - 1 of t, `have` of which exist (0 or less: none); zeros for the others, and for an
 * absent t. A T that is not void promises that all or none exist, and alignment to all N or to 16 bytes. */
template <typename T, int N>
static __device__ inline void load(Words<T, N> &x, Tensor t, int64_t at, int64_t have, Use use = ONCE) {
    const T *p = (const T *)t.p + at;
    const bool there = have > 0 && t.p;
    if (N * sizeof(T) == 8) {
        const uint2 v = fetch<uint2>(p, there, use);
        x.w[0] = v.x, x.w[1] = v.y;
    }
#pragma unroll
    for (int i = 0; i < (int)(N * sizeof(T) / 16); i++) {
        const uint4 v = fetch<uint4>((const uint4 *)p + i, there, use);
        x.w[4 * i] = v.x, x.w[4 * i + 1] = v.y, x.w[4 * i + 2] = v.z, x.w[4 * i + 3] = v.w;
    }
}
template <int N>
static __device__ inline void load(Words<void, N> &x, Tensor t, int64_t at, int64_t have, Use = ONCE) {
#pragma unroll
    for (int j = 0; j < N; j++) {
        const bool there = j < have && t.p;
        if (t.dtype == DT_F32)
            x.w[j] = there ? ((const float *)t.p)[at + j] : 0;
        else
            x.w[j] = there ? to_float(((const bf16 *)t.p)[at + j]) : 0;
    }
}

static __device__ inline float number_at(Tensor t, int64_t i) {
    return t.dtype == DT_F32 ? ((const float *)t.p)[i] : to_float(((const bf16 *)t.p)[i]);
}

/* The other way; what does not exist is not written. */
template <typename T, int N>
static __device__ inline void store(Tensor t, int64_t at, int64_t have, const Words<T, N> &x,
                                    Use use = AGAIN) {
    T *p = (T *)t.p + at;
    if (have <= 0) return;
    if (N * sizeof(T) == 8) put((uint2 *)p, make_uint2(x.w[0], x.w[1]), use);
#pragma unroll
    for (int i = 0; i < (int)(N * sizeof(T) / 16); i++)
        put((uint4 *)p + i, make_uint4(x.w[4 * i], x.w[4 * i + 1], x.w[4 * i + 2], x.w[4 * i + 3]), use);
}
template <int N>
static __device__ inline void store(Tensor t, int64_t at, int64_t have, const Words<void, N> &x,
                                    Use = AGAIN) {
#pragma unroll
    for (int j = 0; j < N; j++)
        if (j >= have)
            return;
        else if (t.dtype == DT_F32)
            ((float *)t.p)[at + j] = x.w[j];
        else
            ((bf16 *)t.p)[at + j] = from_float<bf16>(x.w[j]);
}

template <int N> static __device__ inline void unpack(float (&x)[N], const Words<float, N> &from) {
#pragma unroll
    for (int j = 0; j < N; j++) x[j] = __uint_as_float(from.w[j]);
}
template <int N> static __device__ inline void unpack(float (&x)[N], const Words<bf16, N> &from) {
#pragma unroll
    for (int j = 0; j < N; j += 2) {
        x[j] = __uint_as_float(from.w[j / 2] << 16);
        x[j + 1] = __uint_as_float(from.w[j / 2] & 0xffff0000u);
    }
}
template <int N> static __device__ inline void unpack(float (&x)[N], const Words<void, N> &from) {
#pragma unroll
    for (int j = 0; j < N; j++) x[j] = from.w[j];
}

/* Rounded to dtype d, which is T's unless that is void. */
template <int N> static __device__ inline void pack(Words<float, N> &to, const float (&x)[N], Dtype) {
#pragma unroll
    for (int j = 0; j < N; j++) to.w[j] = __float_as_uint(x[j]);
}
template <int N> static __device__ inline void pack(Words<bf16, N> &to, const float (&x)[N], Dtype) {
#pragma unroll
    for (int j = 0; j < N; j += 2) {
        const __nv_bfloat162 two = __floats2bfloat162_rn(x[j], x[j + 1]);
        memcpy(&to.w[j / 2], &two, sizeof two);
    }
}
template <int N> static __device__ inline void pack(Words<void, N> &to, const float (&x)[N], Dtype d) {
#pragma unroll
    for (int j = 0; j < N; j++) to.w[j] = d == DT_F32 ? x[j] : to_float(from_float<bf16>(x[j]));
}

/* Was number j of a `load` with this `have` there? */
template <typename T> static __device__ inline bool exists(int, int64_t have) {
    return have > 0;
}
template <> __device__ inline bool exists<void>(int j, int64_t have) {
    return j < have;
}

static Tensor fp32(const float *p) {
    return tensor((void *)p, DT_F32);
}

/* Which kernel serves rows of C numbers: one for tensors of one dtype that can be read 16 bytes at a time
 * (the parameters beside them are fp32), or the one for all others. */
typedef enum { ODD, ALL_F32, ALL_BF16 } Form;
static Form form_of(int64_t C, std::initializer_list<Tensor> tensors,
                    std::initializer_list<const void *> parameters) {
    const Dtype d = tensors.begin()->dtype;
    uintptr_t bits = C % 8 != 0;
    for (const Tensor &t : tensors) bits |= (uintptr_t)t.p | (t.p && t.dtype != d);
    for (const void *p : parameters) bits |= (uintptr_t)p;
    return bits % 16 ? ODD : d == DT_F32 ? ALL_F32 : ALL_BF16;
}
#define KERNEL_FOR(form, kernel, ...)                   \
    ((form) == ODD       ? kernel<void, ##__VA_ARGS__>  \
     : (form) == ALL_F32 ? kernel<float, ##__VA_ARGS__> \
                         : kernel<bf16, ##__VA_ARGS__>)

/* to [C] (+)= the sum of `pieces` rows of part [pieces, C], in their order. 4 bytes a number read. */
static __global__ void add_pieces(float *to, const float *part, int pieces, int64_t C, bool accumulate) {
    const int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float sum = accumulate ? to[c] : 0;
    for (int i = 0; i < pieces; i++) sum += part[i * C + c];
    to[c] = sum;
}

/* ---- random numbers -------------------------------------------------------------------------------------- */

/* philox4x32 of util.c: for four words 20 wide products and 40 other instructions. */
static __device__ inline void philox(uint32_t (&c)[4], uint64_t key, uint64_t hi, uint64_t lo) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    c[0] = (uint32_t)lo, c[1] = (uint32_t)(lo >> 32), c[2] = (uint32_t)hi, c[3] = (uint32_t)(hi >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0, c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1, c[3] = (uint32_t)p0;
    }
}

/* Of element i. For odd places, which are rare: a call keeps their kernels small. */
static __device__ __attribute__((noinline)) uint32_t random_word(uint64_t key, uint64_t hi, uint64_t i) {
    uint32_t four[4];
    philox(four, key, hi, i / 4);
    return i % 4 < 2 ? (i % 4 ? four[1] : four[0]) : i % 4 == 2 ? four[2] : four[3];
}

/* w[j]: the word of element i + j: number (i + j) % 4 of those of (i + j) / 4. A T that is not void
 * promises that i is a multiple of 4. */
template <typename T>
static __device__ inline void random_words(uint32_t *w, int n, uint64_t key, uint64_t hi, uint64_t i) {
    uint32_t four[4];
#pragma unroll
    for (int j = 0; j < n; j += 4) {
        philox(four, key, hi, (i + j) / 4);
        w[j] = four[0], w[j + 1] = four[1], w[j + 2] = four[2], w[j + 3] = four[3];
    }
}
template <>
__device__ inline void random_words<void>(uint32_t *w, int n, uint64_t key, uint64_t hi, uint64_t i) {
#pragma unroll
    for (int j = 0; j < n; j++) w[j] = random_word(key, hi, i + j);
}

/* A Dropout as kernels want it. */
typedef struct Mask {
    uint64_t seed, hi; /* the generator's key, and the upper half of its counter */
    uint64_t row0;     /* global row of the tensor's first */
    uint32_t least;    /* of the words that keep an element; 0: no dropout */
    float keep;        /* what kept elements are scaled by */
} Mask;

static Mask mask_of(const Dropout *d) {
    CHECK(d->p >= 0 && d->p < 1, "dropout of %g", (double)d->p);
    return Mask{d->seed, (uint64_t)RAND_DROPOUT << 40 | d->step << 12 | d->site, d->row0,
                (uint32_t)ceil((double)d->p * 4294967296.0), 1.0f / (1.0f - d->p)};
}

/* x[j] times the factor of element i + j; i as for random_words. */
template <typename T> static __device__ inline void dropout(float *x, int n, const Mask &m, uint64_t i) {
    uint32_t word[8];
    random_words<T>(word, n, m.seed, m.hi, i);
#pragma unroll
    for (int j = 0; j < n; j++) x[j] *= word[j] >= m.least ? m.keep : 0;
}

/* ---- memory and queues ----------------------------------------------------------------------------------- */

enum { STAGES = 16, QUESTION = 256 }; /* pieces that may be on their way to the device; bytes of an answer */
constexpr size_t STAGE = 1 << 20;     /* bytes of a piece */
constexpr size_t SCRATCH = 64 << 20;  /* bytes of workspace from the start */
constexpr size_t LT_SCRATCH = 32 << 20; /* of cuBLASLt's own: what NVIDIA advises for Hopper */

static struct {
    bool started;
    int device;
    cudaDeviceProp is;
    cudaStream_t copies;  /* brings the host's data */
    cudaEvent_t from, to; /* for timing */
    cublasLtHandle_t blas;
    char *blas_scratch;       /* [LT_SCRATCH] */
    unsigned long long *bits; /* [1] of a fingerprint */
    char *scratch;            /* [scratch_bytes] */
    size_t scratch_bytes;
    bool recording; /* between replay and replay_end */
} gpu;

/* A ring through pinned memory and a ring on the device. A piece leaves the host on `copies`, beside the work
 * that is queued, and goes to its place on `queue`, after it. The host waits only if it is STAGES pieces
 * ahead. */
static struct {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char *host, *device; /* [STAGES][STAGE] */
    cudaEvent_t arrived[STAGES], placed[STAGES];
    unsigned next;
} up;

static struct {
    char *host; /* [2][STAGE], pinned */
    cudaEvent_t there[2];
} down;

static struct {
    char *host; /* [QUESTION], pinned */
    size_t bytes;
    cudaEvent_t there;
} asked;

/* What kernels may leave to each other within one op: at least SCRATCH bytes, more after workspace_grow. */
static void *workspace(size_t bytes) {
    CHECK(bytes <= gpu.scratch_bytes, "a kernel wants %zu bytes of workspace, there are %zu", bytes,
          gpu.scratch_bytes);
    return gpu.scratch;
}

/* Memory as it comes. */
static void *take(size_t bytes, const char *what, Err *e) {
    void *p = NULL;
    size_t there = 0, all = 0;
    char wanted[24], left[24];
    const cudaError_t status = cudaMalloc(&p, bytes ? bytes : 1);
    if (status == cudaSuccess) return p;
    cudaGetLastError(); /* a full memory is no fault that stays */
    CUDA(cudaMemGetInfo(&there, &all));
    err_set(e, "%s: no %s on the GPU, %s are free (%s); %s", what, human_bytes((double)bytes, wanted),
            human_bytes((double)there, left), cudaGetErrorString(status), cuda_hint(status));
    return NULL;
}

static void *cuda_alloc(size_t bytes, const char *what, Err *e) {
    void *p = take(bytes, what, e);
    if (p) CUDA(cudaMemsetAsync(p, 0, bytes, queue));
    return p;
}

static void cuda_wait(void) {
    CUDA(cudaStreamSynchronize(queue));
}

static void *cuda_queue(void) {
    return queue;
}

static void cuda_release(void *p) {
    if (!p) return;
    cuda_wait();
    CUDA(cudaFree(p));
}

/* From linear_create only. The old place stays, for graphs may know it. */
static bool workspace_grow(size_t bytes, Err *e) {
    if (bytes <= gpu.scratch_bytes) return true;
    char *p = (char *)take(bytes, "workspace", e);
    if (!p) return false;
    gpu.scratch = p, gpu.scratch_bytes = bytes;
    return true;
}

static void cuda_to_device(void *dst, const void *host, size_t bytes) {
    CHECK(!gpu.recording, "what comes from the host cannot be replayed");
    CUDA(cudaSetDevice(gpu.device)); /* for this thread, which may be any */
    pthread_mutex_lock(&up.lock);
    for (size_t at = 0; at < bytes; at += STAGE) {
        const unsigned i = up.next++ % STAGES;
        const size_t n = bytes - at < STAGE ? bytes - at : STAGE;
        char *staged = up.host + (size_t)i * STAGE, *landed = up.device + (size_t)i * STAGE;
        CUDA(cudaEventSynchronize(up.arrived[i]));
        memcpy(staged, (const char *)host + at, n);
        CUDA(cudaStreamWaitEvent(gpu.copies, up.placed[i], 0));
        CUDA(cudaMemcpyAsync(landed, staged, n, cudaMemcpyHostToDevice, gpu.copies));
        CUDA(cudaEventRecord(up.arrived[i], gpu.copies));
        CUDA(cudaStreamWaitEvent(queue, up.arrived[i], 0));
        CUDA(cudaMemcpyAsync((char *)dst + at, landed, n, cudaMemcpyDeviceToDevice, queue));
        CUDA(cudaEventRecord(up.placed[i], queue));
    }
    pthread_mutex_unlock(&up.lock);
}

/* Two pieces by turns: while one is copied out of pinned memory, the next comes in. */
static void cuda_to_host(void *host, const void *src, size_t bytes) {
    const size_t pieces = ceil_div(bytes, (size_t)STAGE);
    for (size_t i = 0; i <= pieces; i++) {
        if (i < pieces) {
            const size_t at = i * STAGE, n = bytes - at < STAGE ? bytes - at : STAGE;
            CUDA(cudaMemcpyAsync(down.host + i % 2 * STAGE, (const char *)src + at, n, cudaMemcpyDeviceToHost,
                                 queue));
            CUDA(cudaEventRecord(down.there[i % 2], queue));
        }
        if (i > 0) {
            const size_t at = (i - 1) * STAGE, n = bytes - at < STAGE ? bytes - at : STAGE;
            CUDA(cudaEventSynchronize(down.there[(i - 1) % 2]));
            memcpy((char *)host + at, down.host + (i - 1) % 2 * STAGE, n);
        }
    }
}

static void cuda_zero(void *p, size_t bytes) {
    CUDA(cudaMemsetAsync(p, 0, bytes, queue));
}

static void cuda_copy(void *dst, const void *src, size_t bytes) {
    CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, queue));
}

static void cuda_ask(const void *src, size_t bytes) {
    CHECK(bytes <= QUESTION, "%zu bytes are no question", bytes);
    CUDA(cudaMemcpyAsync(asked.host, src, asked.bytes = bytes, cudaMemcpyDeviceToHost, queue));
    CUDA(cudaEventRecord(asked.there, queue));
}

static void cuda_answer(void *host, size_t bytes) {
    CHECK(bytes == asked.bytes, "asked for %zu bytes, not %zu", asked.bytes, bytes);
    CUDA(cudaEventSynchronize(asked.there));
    memcpy(host, asked.host, bytes);
}

/* ---- replay ----------------------------------------------------------------------------------------------- */

/* A CUDA graph a key. */
typedef struct Recording {
    uint64_t key;
    cudaGraphExec_t run;
} Recording;
struct Graph {
    Recording *list; /* [n]; while one is recorded, it is the last, and cannot run yet */
    int n;
};

static bool cuda_replay(Graph **g, uint64_t key) {
    if (!*g) *g = (Graph *)xcalloc(1, sizeof **g);
    for (int i = 0; i < (*g)->n; i++)
        if ((*g)->list[i].key == key) {
            CUDA(cudaGraphLaunch((*g)->list[i].run, queue));
            return true;
        }
    CHECK(!gpu.recording, "a recording within a recording");
    (*g)->list = (Recording *)xrealloc((*g)->list, (size_t)++(*g)->n * sizeof *(*g)->list);
    (*g)->list[(*g)->n - 1] = Recording{key, NULL};
    /* Relaxed: kernels that are used for the first time are loaded meanwhile. */
    CUDA(cudaStreamBeginCapture(queue, cudaStreamCaptureModeRelaxed));
    gpu.recording = true;
    return false;
}

static void cuda_replay_end(Graph **g) {
    Recording *r = &(*g)->list[(*g)->n - 1];
    cudaGraph_t graph;
    CHECK(gpu.recording, "the end of no recording");
    gpu.recording = false;
    CUDA(cudaStreamEndCapture(queue, &graph));
    CUDA(cudaGraphInstantiate(&r->run, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaGraphLaunch(r->run, queue));
}

static void cuda_graph_free(Graph *g) {
    if (!g) return;
    cuda_wait();
    for (int i = 0; i < g->n; i++) CUDA(cudaGraphExecDestroy(g->list[i].run));
    free(g->list);
    free(g);
}

/* ---- linear ---------------------------------------------------------------------------------------------- */

/* Products go through cuBLASLt, which counts columns first: a row-major [n, C] is its [C, n] with leading
 * dimension C. So y = x W is asked for as y^T = W^T x^T, and so on, and no matrix is ever turned over but for
 * fp8, see there.  Which algorithm? The library ranks some by a model of the GPU; the best of them is found
 * by timing. But runs must be the same bit for bit, and clocks differ. So only those are admitted that give
 * the same bits as the library's first, which depends on nothing but shapes and versions: what timing decides
 * cannot be seen in a result, and it does not matter when a product is tuned. Sums that are split are added
 * in fp32, in a fixed order.  Of the library this file uses: Create/Destroy of handle, desc, layout,
 * preference; MatmulAlgoGetHeuristic; Matmul; epilogues DEFAULT, BIAS, GELU(_AUX)(_BIAS), DGELU, BGRADA,
 * BGRADB; operands fp32, bf16, e4m3, e5m2. */

/* D [m, n] (+)= A B with what is fused into it: all that an algorithm is chosen by. Compared byte by byte, so
 * there are no gaps. */
typedef struct Problem {
    int64_t m, n, k, lda, ldb, ldd;
    int64_t batch, step_a, step_b, step_d; /* so many alike, a step apart; of one alone the steps are 0 */
    cudaDataType_t type_a, type_b, type_d;
    cublasOperation_t op_a, op_b;
    cublasComputeType_t compute;
    uint32_t epilogue;
    uint32_t wide; /* do all pointers and columns stand at whole 16 bytes? */
} Problem;
static_assert(sizeof(Problem) == 10 * 8 + 8 * 4, "gaps would be compared");

typedef struct Product {
    Problem p;
    const void *a, *b;
    void *d;
    const void *c; /* D = alpha A B + beta C; lies as D does, and may be it */
    float alpha, beta;
    void *bias, *aux;
    const float *scale_a, *scale_b; /* of fp8 operands */
    bool often;                     /* worth tuning */
} Product;

typedef struct Plan {
    Problem p;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algo;
    bool possible, tuned;
} Plan;

enum {
    PLANS = 256,    /* kept; then the oldest goes */
    CANDIDATES = 8, /* timed for a plan */
    TIMES = 3       /* each so often */
};
static Plan plans[PLANS];
static unsigned plans_made;

static cudaDataType_t lt_type(Dtype d) {
    return d == DT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static uint32_t lt_size(cudaDataType_t t) {
    return t == CUDA_R_32F ? 4 : t == CUDA_R_16BF ? 2 : 1;
}

template <typename V> static void lt_set(Plan *l, cublasLtMatmulDescAttributes_t what, V value) {
    CUBLAS(cublasLtMatmulDescSetAttribute(l->desc, what, &value, sizeof value));
}

static void lt_batch(cublasLtMatrixLayout_t m, int64_t batch, int64_t step) {
    const int32_t count = (int32_t)batch;
    if (batch == 1) return;
    CUBLAS(cublasLtMatrixLayoutSetAttribute(m, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
    CUBLAS(
        cublasLtMatrixLayoutSetAttribute(m, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step));
}

/* The pointers of this call. The library also takes them for a promise of alignment. */
static void plan_bind(Plan *l, const Product *p) {
    const int64_t ld = l->p.ldd;
    if (p->bias) lt_set(l, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p->bias);
    if (p->aux) lt_set(l, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p->aux);
    if (p->aux) lt_set(l, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
    if (p->scale_a) lt_set(l, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p->scale_a);
    if (p->scale_b) lt_set(l, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p->scale_b);
}

static int plan_candidates(Plan *l, cublasLtMatmulHeuristicResult_t *found) {
    cublasLtMatmulPreference_t want;
    const size_t scratch = LT_SCRATCH;
    const uint32_t split = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int n = 0;
    CUBLAS(cublasLtMatmulPreferenceCreate(&want));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const void *value, size_t size) {
        CUBLAS(cublasLtMatmulPreferenceSetAttribute(want, what, value, size));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch, sizeof scratch);
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &split, sizeof split);
    const auto set_alignment = [&](cublasLtMatmulPreferenceAttributes_t what, cudaDataType_t type) {
        const uint32_t bytes = l->p.wide ? 16 : lt_size(type);
        set(what, &bytes, sizeof bytes);
    };
    set_alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, l->p.type_a);
    set_alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, l->p.type_b);
    set_alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, l->p.type_d);
    set_alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, l->p.type_d);
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(gpu.blas, l->desc, l->a, l->b, l->d, l->d,
                                                                 want, CANDIDATES, found, &n);
    CUBLAS(cublasLtMatmulPreferenceDestroy(want));
    return status == CUBLAS_STATUS_SUCCESS ? n : 0;
}

static void plan_close(Plan *l) {
    if (!l->desc) return;
    CUBLAS(cublasLtMatmulDescDestroy(l->desc));
    for (cublasLtMatrixLayout_t m : {l->a, l->b, l->d}) CUBLAS(cublasLtMatrixLayoutDestroy(m));
}

static void plan_open(Plan *l, const Product *p) {
    const Problem q = p->p;
    const int8_t loose = q.type_a == CUDA_R_8F_E4M3 && q.type_b == CUDA_R_8F_E4M3;
    *l = Plan();
    l->p = q;
    CUBLAS(cublasLtMatmulDescCreate(&l->desc, q.compute, CUDA_R_32F));
    lt_set(l, CUBLASLT_MATMUL_DESC_TRANSA, q.op_a);
    lt_set(l, CUBLASLT_MATMUL_DESC_TRANSB, q.op_b);
    lt_set(l, CUBLASLT_MATMUL_DESC_EPILOGUE, q.epilogue);
    /* Forward in fp8 keeps fewer bits of a sum than gradients do, as Micikevicius et al. found to be enough.
     * */
    if (loose) lt_set(l, CUBLASLT_MATMUL_DESC_FAST_ACCUM, loose);
    const bool ta = q.op_a == CUBLAS_OP_T, tb = q.op_b == CUBLAS_OP_T;
    CUBLAS(cublasLtMatrixLayoutCreate(&l->a, q.type_a, (uint64_t)(ta ? q.k : q.m), (uint64_t)(ta ? q.m : q.k),
                                      q.lda));
    CUBLAS(cublasLtMatrixLayoutCreate(&l->b, q.type_b, (uint64_t)(tb ? q.n : q.k), (uint64_t)(tb ? q.k : q.n),
                                      q.ldb));
    CUBLAS(cublasLtMatrixLayoutCreate(&l->d, q.type_d, (uint64_t)q.m, (uint64_t)q.n, q.ldd));
    lt_batch(l->a, q.batch, q.step_a), lt_batch(l->b, q.batch, q.step_b), lt_batch(l->d, q.batch, q.step_d);
    plan_bind(l, p);
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    l->possible = plan_candidates(l, found) > 0;
    if (l->possible) l->algo = found[0].algo;
}

static Plan *plan_of(const Product *p) {
    for (unsigned i = 0; i < plans_made && i < PLANS; i++)
        if (!memcmp(&plans[i].p, &p->p, sizeof p->p)) return &plans[i];
    Plan *l = &plans[plans_made++ % PLANS];
    plan_close(l);
    plan_open(l, p);
    return l;
}

static cublasStatus_t plan_run(Plan *l, const cublasLtMatmulAlgo_t *algo, const Product *p) {
    plan_bind(l, p);
    return cublasLtMatmul(gpu.blas, l->desc, &p->alpha, p->a, l->a, p->b, l->b, &p->beta, p->c, l->d, p->d,
                          l->d, algo, gpu.blas_scratch, LT_SCRATCH, queue);
}

/* splitmix64's finalizer: one to one, and each bit of z moves half of the result's (Steele et al. 2014). */
static __device__ inline uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* *sum += a hash of x [n], in any order the same; 0 if x is 0. */
static __global__ void fingerprint(unsigned long long *sum, const uint16_t *x, int64_t n) {
    unsigned long long all = 0;
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        if (x[i]) all += mix((uint64_t)i << 16 | x[i]);
    atomicAdd(sum, all);
}

static uint64_t fingerprint_of(const void *d, size_t bytes) {
    uint64_t bits;
    cuda_zero(gpu.bits, sizeof *gpu.bits);
    launch(fingerprint, 256, 256, 0, gpu.bits, (const uint16_t *)d, (int64_t)(bytes / sizeof(uint16_t)));
    cuda_to_host(&bits, gpu.bits, sizeof bits);
    return bits;
}

static float milliseconds(Plan *l, const cublasLtMatmulAlgo_t *algo, const Product *p) {
    float best = INFINITY, ms;
    for (int i = 0; i < TIMES; i++) {
        CUDA(cudaEventRecord(gpu.from, queue));
        CUBLAS(plan_run(l, algo, p));
        CUDA(cudaEventRecord(gpu.to, queue));
        CUDA(cudaEventSynchronize(gpu.to));
        CUDA(cudaEventElapsedTime(&ms, gpu.from, gpu.to));
        best = fminf(best, ms);
    }
    return best;
}

/* The fastest of those that give the bits of the first. Overwrites d. Zeros tell nothing: a later call decides. */
static void plan_tune(Plan *l, const Product *p) {
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    const int n = plan_candidates(l, found);
    const Problem *q = &l->p;
    const size_t bytes =
        (size_t)((q->batch - 1) * q->step_d + (q->n - 1) * q->ldd + q->m) * lt_size(q->type_d);
    float best = INFINITY;
    uint64_t bits = 0;
    for (int i = 0; i < n; i++) {
        if (plan_run(l, &found[i].algo, p) != CUBLAS_STATUS_SUCCESS) continue;
        const uint64_t these = fingerprint_of(p->d, bytes);
        if (i == 0) bits = these;
        if (bits == 0) return;
        if (these != bits) continue;
        const float ms = milliseconds(l, &found[i].algo, p);
        if (ms >= best) continue;
        best = ms, l->algo = found[i].algo;
    }
    l->tuned = true;
}

/* Sums in another order differ in most of their fp32 bits, but hardly in one of ten thousand bf16 numbers: a small
 * result may be the same by chance, and then the clock would decide what the next ones are. */
static bool plan_telling(const Problem *q) {
    return q->batch * q->n * q->m >= (q->type_d == CUDA_R_32F ? 1 << 12 : 1 << 20);
}

/* false: the library cannot do this. */
static bool multiply(const Product *p) {
    Plan *l = plan_of(p);
    if (!l->possible) return false;
    const bool tunes = p->often && !l->tuned && plan_telling(&l->p) && (p->beta == 0 || p->c != p->d);
    if (tunes && !gpu.recording) plan_tune(l, p);
    CUBLAS(plan_run(l, &l->algo, p));
    return true;
}

/* ---- linear: products that are no layer's ---------------------------------------------------------------- */

/* c^T = alpha b^T a^T + beta add^T: 2 M N K FLOPs for each of the batch. */
static void cuda_matmul(Matrices c, Matrices a, Matrices b, const uint16_t *add, const Matmul *m) {
    Product p = {};
    Problem *q = &p.p;
    q->m = m->N, q->n = m->M, q->k = m->K, q->batch = m->batch;
    q->lda = b.row, q->step_a = b.step, q->op_a = m->turn_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    q->ldb = a.row, q->step_b = a.step, q->op_b = m->turn_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    q->ldd = c.row, q->step_d = c.step;
    if (m->batch == 1) q->step_a = q->step_b = q->step_d = 0;
    q->type_a = q->type_b = q->type_d = CUDA_R_16BF;
    q->compute = CUBLAS_COMPUTE_32F, q->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    p.a = b.p, p.b = a.p, p.d = c.p, p.c = add ? add : c.p;
    p.alpha = m->alpha, p.beta = add ? m->beta : 0;
    p.often = true;
    q->wide = in_sixteens(p.a, p.b, p.c, p.d, 2 * q->lda, 2 * q->ldb, 2 * q->ldd, 2 * q->step_a,
                          2 * q->step_b, 2 * q->step_d);
    CHECK(multiply(&p), "cuBLASLt has no algorithm for a product of %lld x %lld x %lld", (long long)q->m,
          (long long)q->n, (long long)q->k);
}

/* ---- linear: GELU, bias, casts: what a product could not do on its way ------------------------------------ */

/* x sigmoid(2 u), which is the tanh form. The fast forms of exp and division, both right to 1e-6: a sweep
 * over bf16 has time for some twenty instructions a number, no more. */
static __device__ inline float gelu_sigmoid(float x) {
    return __fdividef(1, 1 + __expf(-2 * 0.797884561f * (x + 0.044715f * x * x * x)));
}
static __device__ inline float gelu(float x) {
    return x * gelu_sigmoid(x);
}
static __device__ inline float gelu_grad(float x) {
    const float s = gelu_sigmoid(x);
    return s + 2 * x * s * (1 - s) * 0.797884561f * (1 + 3 * 0.044715f * x * x);
}

static __device__ inline void put(Tensor t, int64_t i, float v) {
    if (t.dtype == DT_BF16)
        ((bf16 *)t.p)[i] = from_float<bf16>(v);
    else
        ((float *)t.p)[i] = v;
}

/* y = act(x + bias), pre (if present) = x + bias, all [n, C]; y may be x. 2 to 3 numbers moved, one each. */
template <typename T, typename X, int V>
static __global__ void activate(T *y, Tensor pre, const X *x, const float *bias, Act act, int64_t n,
                                int64_t C) {
    const bool alike = (pre.dtype == DT_BF16) == (sizeof(T) == 2);
    const int64_t step = (int64_t)gridDim.x * blockDim.x * V;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * V; i < n * C; i += step) {
        const Pack<X, V> from = load<V>(x + i);
        Pack<T, V> before, after;
        for (int c = 0; c < V; c++) {
            const float v = to_float(from.at[c]) + (bias ? bias[i % C + c] : 0);
            before.at[c] = from_float<T>(v);
            after.at[c] = from_float<T>(act == ACT_GELU ? gelu(v) : v);
            if (pre.p && !alike) put(pre, i + c, v);
        }
        if (pre.p && alike) store((T *)pre.p + i, before);
        store(y + i, after);
    }
}

/* dx [n] = d gelu'(pre); dx may be d. 3 numbers moved, one each. */
template <typename T, typename X, int V>
static __global__ void gelu_backward(T *dx, const X *d, const T *pre, int64_t n) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x * V;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * V; i < n; i += step) {
        const Pack<T, V> p = load<V>(pre + i);
        const Pack<X, V> from = load<V>(d + i);
        Pack<T, V> to;
        for (int c = 0; c < V; c++)
            to.at[c] = from_float<T>(to_float(from.at[c]) * gelu_grad(to_float(p.at[c])));
        store(dx + i, to);
    }
}

/* y [n] = x rounded. 6 bytes a number. */
template <int V> static __global__ void round_to_bf16(bf16 *y, const float *x, int64_t n) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x * V;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * V; i < n; i += step) {
        const Pack<float, V> f = load<V>(x + i);
        Pack<bf16, V> b;
        for (int c = 0; c < V; c++) b.at[c] = from_float<bf16>(f.at[c]);
        store(y + i, b);
    }
}

/* A grid for a loop over n numbers, V a thread: all there is to do, but no more than fills any GPU a few
 * times. */
static dim3 grid_for(int64_t n, int V, int threads) {
    const int64_t blocks = ceil_div(n, (int64_t)V * threads);
    return dim3((unsigned)(blocks < 4096 ? blocks : 4096));
}

/* f(T(), X(), how many at a time) for a y of type T and an x of type X, which is T or fp32. */
template <typename F> static void with_types(Tensor y, Tensor x, F f) {
    CHECK(x.dtype == y.dtype || x.dtype == DT_F32);
    with_type(y.dtype, [&](auto t) {
        typedef decltype(t) T;
        if (x.dtype == y.dtype)
            f(t, T(), Pack<T>());
        else
            f(t, float(), Pack<T, 4>());
    });
}

static void run_activate(Tensor y, Tensor pre, Tensor x, const float *bias, Act act, int64_t n, int64_t C) {
    with_types(y, x, [&](auto t, auto f, auto pack) {
        typedef decltype(t) T;
        typedef decltype(f) X;
        enum { N = decltype(pack)::N };
        const bool wide = in_sixteens(y.p, pre.p, x.p, C * (int64_t)sizeof(T));
        launch(wide ? activate<T, X, N> : activate<T, X, 1>, grid_for(n * C, wide ? N : 1, 256), 256, 0,
               (T *)y.p, pre, (const X *)x.p, bias, act, n, C);
    });
}

static void run_gelu_backward(Tensor dx, Tensor d, Tensor pre, int64_t n) {
    CHECK(dx.dtype == pre.dtype);
    with_types(dx, d, [&](auto t, auto f, auto pack) {
        typedef decltype(t) T;
        typedef decltype(f) X;
        enum { N = decltype(pack)::N };
        const bool wide = in_sixteens(dx.p, d.p, pre.p, n * (int64_t)sizeof(T));
        launch(wide ? gelu_backward<T, X, N> : gelu_backward<T, X, 1>, grid_for(n, wide ? N : 1, 256), 256, 0,
               (T *)dx.p, (const X *)d.p, (const T *)pre.p, n);
    });
}

static void run_round(bf16 *y, const float *x, int64_t n) {
    const bool wide = in_sixteens(y, x, n * (int64_t)sizeof(bf16));
    launch(wide ? round_to_bf16<4> : round_to_bf16<1>, grid_for(n, wide ? 4 : 1, 256), 256, 0, y, x, n);
}

/* part [gridDim.y, C]: each row the column sums of every gridDim.y-th eight of x's rows. Each number is read
 * once: 2 bytes and 1 FLOP in bf16. */
enum { SUM_WARPS = 8 };
constexpr int64_t SUM_PIECES = 128;
template <typename T, int V>
static __global__ void column_sums(float *part, const T *x, int64_t n, int64_t C) {
    __shared__ float sums[SUM_WARPS][WARP * V];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int64_t c0 = (int64_t)blockIdx.x * WARP * V, c = c0 + lane * V;
    float v[V] = {};
    if (c < C) {
#pragma unroll 4
        for (int64_t r = (int64_t)blockIdx.y * SUM_WARPS + warp; r < n; r += (int64_t)gridDim.y * SUM_WARPS) {
            const Pack<T, V> row = load<V>(x + r * C + c);
            for (int i = 0; i < V; i++) v[i] += to_float(row.at[i]);
        }
    }
    for (int i = 0; i < V; i++) sums[warp][lane * V + i] = v[i];
    __syncthreads();
    for (int i = threadIdx.x; i < WARP * V && c0 + i < C; i += SUM_WARPS * WARP) {
        float sum = 0;
        for (int w = 0; w < SUM_WARPS; w++) sum += sums[w][i];
        part[blockIdx.y * C + c0 + i] = sum;
    }
}

static void run_column_sums(float *to, Tensor x, int64_t n, int64_t C, bool accumulate) {
    const int64_t eights = ceil_div(n, (int64_t)SUM_WARPS),
                  pieces = eights < SUM_PIECES ? eights : SUM_PIECES;
    float *part = (float *)workspace((size_t)(pieces * C) * sizeof *part);
    with_type(x.dtype, [&](auto t) {
        typedef decltype(t) T;
        enum { N = Pack<T>::N };
        const bool wide = in_sixteens(x.p, C * (int64_t)sizeof(T));
        const dim3 grid((unsigned)ceil_div(C, (int64_t)WARP * (wide ? N : 1)), (unsigned)pieces);
        launch(wide ? column_sums<T, N> : column_sums<T, 1>, grid, SUM_WARPS * WARP, 0, part, (const T *)x.p,
               n, C);
    });
    launch(add_pieces, (unsigned)ceil_div(C, (int64_t)256), 256, 0, to, part, (int)pieces, C, accumulate);
}

/* ---- linear: fp8 ------------------------------------------------------------------------------------------ */

/* Hopper multiplies fp8 only if both operands run along the sum, so each tensor that is summed over its rows
 * is turned over while it is rounded. A tensor's scale comes from its own largest number, found in a sweep
 * before (bf16 read: 2 bytes), never from earlier steps: there is nothing to save for a resumed run to be the
 * same. Norms and GELU could find that number while they write the tensor, and save the sweep: `scale` is
 * where they would leave it. */
typedef struct Scale {
    uint32_t
        largest;   /* magnitude, as the bits of an fp32: those of positive numbers are ordered as they are */
    float inverse; /* what the rounded numbers are to be multiplied by */
} Scale;

static __global__ void largest_of(Scale *scale, const bf16 *x, int64_t n) {
    enum { V = Pack<bf16>::N };
    const int64_t step = (int64_t)gridDim.x * blockDim.x * V;
    uint32_t most = 0;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * V; i < n; i += step) {
        const Pack<bf16> v = load<V>(x + i);
        for (int c = 0; c < V; c++) {
            const uint32_t bits = __float_as_uint(to_float(v.at[c])) & 0x7fffffff;
            most = bits > most ? bits : most;
        }
    }
    most = warp_max(most);
    if (threadIdx.x % WARP == 0) atomicMax(&scale->largest, most);
}

/* Eight numbers by a scale, rounded; what is too large becomes the largest there is, and a NaN stays one. */
static __device__ inline Pack<uint8_t, 8> to_fp8(const Pack<bf16> &x, float scale,
                                                 __nv_fp8_interpretation_t kind) {
    Pack<uint8_t, 8> y;
    for (int c = 0; c < 8; c += 2) {
        const __nv_fp8x2_storage_t two = __nv_cvt_float2_to_fp8x2(
            make_float2(to_float(x.at[c]) * scale, to_float(x.at[c + 1]) * scale), __NV_SATFINITE, kind);
        y.at[c] = (uint8_t)two, y.at[c + 1] = (uint8_t)(two >> 8);
    }
    return y;
}

/* straight [R, C] and turned [C, R] (either may be NULL) = x [R, C] rounded; R and C are multiples of 16. 2
 * bytes read and 1 or 2 written a number, by tiles of 64 x 64. */
enum { TURN = 64, TURN_PITCH = TURN + 4 };
static __global__ void quantise(uint8_t *straight, uint8_t *turned, Scale *scale, const bf16 *x, int64_t R,
                                int64_t C, __nv_fp8_interpretation_t kind) {
    __shared__ __align__(16) uint8_t tile[TURN][TURN_PITCH];
    const int64_t r0 = (int64_t)blockIdx.y * TURN, c0 = (int64_t)blockIdx.x * TURN;
    const float top = kind == __NV_E4M3 ? 448 : 57344, largest = __uint_as_float(scale->largest);
    const float by = largest > 0    ? fminf(top / largest, 1e30f)
                     : largest == 0 ? 1
                                    : largest; /* a NaN stays one */
    if (blockIdx.x + blockIdx.y + threadIdx.x == 0) scale->inverse = 1 / by;
    for (int i = threadIdx.x; i < TURN * TURN / 8; i += blockDim.x) {
        const int r = i / (TURN / 8), c = i % (TURN / 8) * 8;
        if (r0 + r >= R || c0 + c >= C) continue;
        const Pack<uint8_t, 8> y = to_fp8(load<8>(x + (r0 + r) * C + c0 + c), by, kind);
        if (straight) store(straight + (r0 + r) * C + c0 + c, y);
        for (int k = 0; k < 8; k += 4) store(&tile[r][c + k], load<4>(y.at + k));
    }
    __syncthreads();
    for (int i = threadIdx.x; turned && i < TURN * TURN / 16; i += blockDim.x) {
        const int c = i / (TURN / 16), r = i % (TURN / 16) * 16;
        if (r0 + r >= R || c0 + c >= C) continue;
        Pack<uint8_t, 16> y;
        for (int k = 0; k < 16; k++) y.at[k] = tile[r + k][c];
        store(turned + (c0 + c) * R + r0 + r, y);
    }
}

static void run_quantise(uint8_t *straight, uint8_t *turned, Scale *scale, const void *x, int64_t R,
                         int64_t C, __nv_fp8_interpretation_t kind) {
    cuda_zero(&scale->largest, sizeof scale->largest);
    launch(largest_of, grid_for(R * C, 8, 256), 256, 0, scale, (const bf16 *)x, R * C);
    const dim3 tiles((unsigned)ceil_div(C, (int64_t)TURN), (unsigned)ceil_div(R, (int64_t)TURN));
    launch(quantise, tiles, 256, 0, straight, turned, scale, (const bf16 *)x, R, C, kind);
}

/* ---- linear: few rows ------------------------------------------------------------------------------------- */

/* Decoding: up to FEW rows. A product with so few is bound by reading W, 2 bytes (in bf16) for 2 n FLOPs, so
 * W goes by once, 16 bytes a load, straight into registers, and the rest must not hold that up: bias and GELU
 * are done here, in one launch. A row's sums are taken in the same order whatever n, and whatever stands in
 * other rows. */
enum { FEW = 8, FEW_THREADS = 512, FEW_WARPS = FEW_THREADS / WARP, FEW_ROWS = 4 };

/* The sums of v [M] over those lanes of a warp whose numbers agree below bit STOP, in one tree for every M.
 * At each step a lane gives half of its sums away, so that the last lanes hold few each: afterwards v[i] is
 * that of element (what is returned) + i, for i < max(1, M STOP / WARP); negative: another lane holds the
 * same. */
template <int M, int D, int STOP> static __device__ inline int fold(float *v, int lane) {
    if constexpr (D < STOP)
        return 0;
    else if constexpr (M > 1) {
        const bool upper = lane & D;
        for (int i = 0; i < M / 2; i++) {
            const float give = upper ? v[i] : v[i + M / 2], keep = upper ? v[i + M / 2] : v[i];
            v[i] = keep + __shfl_xor_sync(ALL_LANES, give, D);
        }
        return fold<M / 2, D / 2, STOP>(v, lane) + (upper ? M / 2 : 0);
    } else {
        v[0] += __shfl_xor_sync(ALL_LANES, v[0], D);
        return fold<1, D / 2, STOP>(v, lane) - (lane & D ? 1 << 16 : 0);
    }
}

static __device__ inline void finish(Tensor y, Tensor pre, const float *bias, Act act, float v, int64_t r,
                                     int64_t c, int64_t C) {
    if (bias) v += bias[c];
    if (pre.p) put(pre, r * C + c, v);
    put(y, r * C + c, act == ACT_GELU ? gelu(v) : v);
}

/* W [in, out]. A lane has V columns, L lanes stand side by side, and the block's FEW_THREADS / L such groups
 * share the rows of W out among them. N >= n rows of x. */
template <typename T, int V, int L, int N>
static __global__ void __launch_bounds__(FEW_THREADS)
    few_by_columns(Tensor y, Tensor pre, const T *x, const T *w, const float *bias, Act act, int n,
                   int64_t in, int64_t out) {
    enum {
        M = N * V,
        HELD = M * L > WARP ? M * L / WARP : 1,
        WIDTH = V * L,
        GROUPS = FEW_THREADS / L,
        DEPTH = N < FEW ? 4 : 3 /* loads on their way: what registers allow */
    };
    __shared__ float sums[FEW_WARPS][N * WIDTH];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, side = lane % L;
    const int64_t c0 = (int64_t)blockIdx.x * WIDTH, c = c0 + side * V;
    float v[M] = {};
    if (c < out) {
        Pack<T, V> row[DEPTH], next[DEPTH] = {};
        int64_t k0 = threadIdx.x / L;
        for (int j = 0; j < DEPTH; j++)
            row[j] = load<V>(w + (k0 + j * GROUPS < in ? k0 + j * GROUPS : 0) * out + c);
        for (; k0 < in; k0 += DEPTH * GROUPS) {
            for (int j = 0; j < DEPTH; j++) {
                const int64_t k = k0 + (DEPTH + j) * GROUPS;
                if (k < in) next[j] = load<V>(w + k * out + c);
            }
            for (int j = 0; j < DEPTH; j++) {
                const int64_t k = k0 + j * GROUPS;
                for (int r = 0; r < N; r++) {
                    const float f = k < in ? to_float(x[(r < n ? r : 0) * in + k]) : 0;
                    for (int i = 0; i < V; i++) v[r * V + i] += f * to_float(row[j].at[i]);
                }
                row[j] = next[j];
            }
        }
    }
    const int at = fold<M, WARP / 2, L>(v, lane);
    if (at >= 0)
        for (int i = 0; i < HELD; i++) sums[warp][((at + i) / V * L + side) * V + (at + i) % V] = v[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n * WIDTH; i += FEW_THREADS) {
        float sum = 0;
        for (int k = 0; k < FEW_WARPS; k++) sum += sums[k][i];
        if (c0 + i % WIDTH < out) finish(y, pre, bias, act, sum, i / WIDTH, c0 + i % WIDTH, out);
    }
}

/* W [out, in]. A warp has FEW_ROWS rows of W, and goes along them with all its lanes. */
template <typename T, int V, int N>
static __global__ void __launch_bounds__(FEW_THREADS)
    few_by_rows(Tensor y, Tensor pre, const T *x, const T *w, const float *bias, Act act, int n, int64_t in,
                int64_t out) {
    enum { M = N * FEW_ROWS, HELD = M > WARP ? M / WARP : 1 };
    const int lane = threadIdx.x % WARP;
    const int64_t o0 = ((int64_t)blockIdx.x * FEW_WARPS + threadIdx.x / WARP) * FEW_ROWS;
    float v[M] = {};
    if (o0 >= out) return;
#pragma unroll(N < FEW ? 2 : 1)
    for (int64_t k = lane * V; k < in; k += WARP * V) {
        Pack<T, V> row[FEW_ROWS];
        for (int j = 0; j < FEW_ROWS; j++) row[j] = load<V>(w + (o0 + j < out ? o0 + j : o0) * in + k);
        for (int r = 0; r < N; r++) {
            const Pack<T, V> f = load<V>(x + (r < n ? r : 0) * in + k);
            for (int j = 0; j < FEW_ROWS; j++)
                for (int i = 0; i < V; i++) v[r * FEW_ROWS + j] += to_float(f.at[i]) * to_float(row[j].at[i]);
        }
    }
    const int at = fold<M, WARP / 2, 1>(v, lane);
    if (at < 0) return;
    for (int i = 0; i < HELD; i++) {
        const int r = (at + i) / FEW_ROWS, j = (at + i) % FEW_ROWS;
        if (r < n && o0 + j < out) finish(y, pre, bias, act, v[i], r, o0 + j, out);
    }
}

/* V is 1 where rows or columns do not stand at whole 16 bytes. Wide blocks read longer pieces of W's rows. */
template <typename T, int V, int N>
static void run_few(Tensor y, Tensor pre, Tensor x, const void *w, const LinearSpec *s, const float *bias,
                    Act act, int64_t n) {
    enum { ENOUGH = 128 }; /* blocks, before they get wider */
    const auto go = [&](auto kernel, int64_t blocks) {
        launch(kernel, (unsigned)blocks, FEW_THREADS, 0, y, pre, (const T *)x.p, (const T *)w, bias, act,
               (int)n, s->in, s->out);
    };
    const int64_t packs = ceil_div(s->out, (int64_t)V);
    if (s->out_major) return go(few_by_rows<T, V, N>, ceil_div(s->out, (int64_t)FEW_WARPS * FEW_ROWS));
    if constexpr (V > 1) { /* what is not aligned is slow anyway */
        if (packs >= 8 * ENOUGH) return go(few_by_columns<T, V, 8, N>, ceil_div(packs, (int64_t)8));
        if (packs >= 4 * ENOUGH) return go(few_by_columns<T, V, 4, N>, ceil_div(packs, (int64_t)4));
    }
    go(few_by_columns<T, V, 2, N>, ceil_div(packs, (int64_t)2));
}

static void few_forward(Tensor y, Tensor pre, Tensor x, const void *w, const LinearSpec *s, const float *bias,
                        Act act, int64_t n) {
    with_type(x.dtype, [&](auto t) {
        typedef decltype(t) T;
        enum { V = Pack<T>::N };
        const bool wide =
            in_sixteens(w, s->out_major ? x.p : w, (s->out_major ? s->in : s->out) * (int64_t)sizeof(T));
        if (!wide)
            run_few<T, 1, FEW>(y, pre, x, w, s, bias, act, n);
        else if (n == 1)
            run_few<T, V, 1>(y, pre, x, w, s, bias, act, n);
        else if (n <= 4)
            run_few<T, V, 4>(y, pre, x, w, s, bias, act, n);
        else
            run_few<T, V, FEW>(y, pre, x, w, s, bias, act, n);
    });
}

/* ---- linear: the ops -------------------------------------------------------------------------------------- */

/* One allocation, in this order; what is not needed has no bytes. */
struct Linear {
    LinearSpec s;
    char *own;
    bf16 *w;                      /* as the master, unless there is a mirror: then it is that */
    bf16 *bias;                   /* [out] rounded: what epilogues to bf16 take */
    float *dbias;                 /* [out]: what epilogues give, before it is added to the gradient */
    uint8_t *out_in, *in_out;     /* [out, in], [in, out] in e4m3: for y, and for dx */
    Scale *scale;                 /* [3], of W, x, dy */
    mutable const float *bias_of; /* which bias was rounded last: refresh rounds it again */
};

static bool is_fp32(const LinearSpec *s) {
    return dtype_of_tensors(s->compute) == DT_F32;
}

template <typename T> static void take_part(T **at, char **next, size_t bytes) {
    if (bytes) *at = (T *)*next;
    *next += bytes;
}

/* The places of all parts in l->own. */
static void linear_place(Linear *l) {
    const CudaLinearSizes n = cuda_linear_sizes(&l->s);
    char *next = l->own;
    take_part(&l->w, &next, n.w);
    take_part(&l->bias, &next, n.bias);
    take_part(&l->dbias, &next, n.dbias);
    take_part(&l->out_in, &next, n.out_in);
    take_part(&l->in_out, &next, n.in_out);
    take_part(&l->scale, &next, n.scale);
}

static void cuda_linear_free(Linear *l) {
    if (!l) return;
    cuda_release(l->own);
    free(l);
}

/* x, dy, and both turned over, in e4m3 or e5m2; or the pieces of column sums. */
static size_t linear_scratch(const LinearSpec *s) {
    const size_t fp8 = cuda_linear_is_fp8(s) ? 2 * (size_t)(s->max_rows * (s->in + s->out)) : 0;
    const size_t sums = (size_t)(SUM_PIECES * s->out) * sizeof(float);
    return fp8 > sums ? fp8 : sums;
}

static Linear *cuda_linear_create(const LinearSpec *s, Err *e) {
    Linear *l = (Linear *)xcalloc(1, sizeof *l);
    l->s = *s;
    const size_t bytes = cuda_linear_total(s);
    if (!workspace_grow(linear_scratch(s), e)) return free(l), (Linear *)NULL;
    if (bytes && !(l->own = (char *)take(bytes, "prepared weights", e))) return free(l), (Linear *)NULL;
    linear_place(l);
    if (s->copy) l->w = (bf16 *)s->copy;
    return l;
}

static void cuda_linear_refresh(Linear *l, bool mirrored) {
    const LinearSpec *s = &l->s;
    if (is_fp32(s)) return;
    if (!(mirrored && s->copy)) run_round(l->w, s->w, s->in * s->out);
    if (l->bias_of) run_round(l->bias, l->bias_of, s->out);
    if (!l->scale) return;
    uint8_t *straight = s->out_major ? l->out_in : l->in_out, *turned = s->out_major ? l->in_out : l->out_in;
    run_quantise(straight, turned, &l->scale[0], l->w, s->out_major ? s->out : s->in,
                 s->out_major ? s->in : s->out, __NV_E4M3);
}

static Tensor linear_weight(const Linear *l) {
    return is_fp32(&l->s) ? tensor(l->s.w, DT_F32) : tensor(l->w, DT_BF16);
}

static Product product_of(const Linear *l, int64_t m, int64_t n, int64_t k, Dtype d) {
    const cudaDataType_t type = lt_type(dtype_of_tensors(l->s.compute));
    Product p = {};
    p.p.m = p.p.ldd = m, p.p.n = n, p.p.k = k, p.p.batch = 1, p.alpha = 1;
    p.p.type_a = p.p.type_b = type, p.p.type_d = lt_type(d);
    p.p.op_a = p.p.op_b = CUBLAS_OP_N;
    p.p.compute = l->s.compute == DT_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    p.p.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return p;
}

/* Operands: row-major matrices whose rows are `row` long. turned: the library is to turn them over. */
static void set_a(Product *p, const void *a, int64_t row, bool turned) {
    p->a = a, p->p.lda = row, p->p.op_a = turned ? CUBLAS_OP_T : CUBLAS_OP_N;
}
static void set_b(Product *p, const void *b, int64_t row, bool turned) {
    p->b = b, p->p.ldb = row, p->p.op_b = turned ? CUBLAS_OP_T : CUBLAS_OP_N;
}
static void set_fp8(Product *p, cudaDataType_t a, const Scale *scale_a, cudaDataType_t b,
                    const Scale *scale_b) {
    p->p.type_a = a, p->p.type_b = b, p->scale_a = &scale_a->inverse, p->scale_b = &scale_b->inverse;
}

/* d's place; with it, all pointers are known but those of the epilogue. */
static void set_d(Product *p, const Linear *l, void *d, int64_t rows) {
    const Problem *q = &p->p;
    p->d = d, p->c = d;
    p->p.wide = in_sixteens(p->a, p->b, d, q->lda * lt_size(q->type_a), q->ldb * lt_size(q->type_b),
                            q->m * lt_size(q->type_d));
    p->often = l->s.dw && rows == l->s.max_rows;
}

/* Epilogues need whole 16 bytes everywhere. */
static bool multiply_with(Product p, uint32_t epilogue, void *bias, void *aux) {
    if (!p.p.wide || !in_sixteens(bias, aux)) return false;
    p.p.epilogue = epilogue, p.bias = bias, p.aux = aux;
    return multiply(&p);
}

static void multiply_plain(const Product *p) {
    CHECK(multiply(p), "cuBLASLt has no algorithm for a product of %lld x %lld x %lld", (long long)p->p.m,
          (long long)p->p.n, (long long)p->p.k);
}

/* Where there is no epilogue: finish(sums, first row, rows) for all of y's rows. The sums stand in the workspace, in
 * fp32 and so many rows at a time as fit, so that they are not rounded twice; fp8's, which has its operands there, in
 * y. */
template <typename F> static void multiply_and(Product p, const Linear *l, Tensor y, int64_t n, F finish) {
    if (y.dtype == DT_F32 || p.scale_a) return multiply_plain(&p), finish(y, 0, n);
    const char *b = (const char *)p.b;
    const int64_t fit = (int64_t)(SCRATCH / sizeof(float)) / p.p.m, most = fit < n ? fit : n;
    const Tensor sums = tensor(workspace((size_t)(most * p.p.m) * sizeof(float)), DT_F32);
    p.p.type_d = CUDA_R_32F;
    for (int64_t r0 = 0; r0 < n; r0 += most) {
        p.p.n = n - r0 < most ? n - r0 : most;
        p.b = b + r0 * p.p.ldb * lt_size(p.p.type_b);
        set_d(&p, l, sums.p, p.p.n);
        multiply_plain(&p);
        finish(sums, r0, p.p.n);
    }
}

/* What an epilogue adds to a D of dtype d. */
static void *bias_operand(const Linear *l, const float *bias, Dtype d) {
    if (!bias || d == DT_F32) return (void *)bias;
    if (l->bias_of != bias) run_round(l->bias, bias, l->s.out);
    l->bias_of = bias;
    return l->bias;
}

/* fp8 wants everything in sixteens, sums too. */
template <typename... Pointers> static bool fits_fp8(const Linear *l, int64_t n, Pointers... all) {
    return l->scale && n % 16 == 0 && in_sixteens(all...);
}

/* y^T [out, n] = W^T x^T. */
static Product product_forward(const Linear *l, Tensor y, Tensor x, int64_t n) {
    const LinearSpec *s = &l->s;
    Product p = product_of(l, s->out, n, s->in, y.dtype);
    if (fits_fp8(l, n, x.p, y.p)) {
        uint8_t *x8 = (uint8_t *)workspace((size_t)(n * s->in));
        run_quantise(x8, NULL, &l->scale[1], x.p, n, s->in, __NV_E4M3);
        set_a(&p, l->out_in, s->in, true), set_b(&p, x8, s->in, false);
        set_fp8(&p, CUDA_R_8F_E4M3, &l->scale[0], CUDA_R_8F_E4M3, &l->scale[1]);
    } else {
        set_a(&p, linear_weight(l).p, s->out_major ? s->in : s->out, s->out_major);
        set_b(&p, x.p, s->in, false);
    }
    set_d(&p, l, y.p, n);
    return p;
}

/* 2 n in out FLOPs. */
static void cuda_linear_forward(Tensor y, Tensor pre, Tensor x, const Linear *l, const float *bias, Act act,
                                int64_t n) {
    CHECK(x.dtype == dtype_of_tensors(l->s.compute));
    if (n <= FEW) return few_forward(y, pre, x, linear_weight(l).p, &l->s, bias, act, n);
    const Product p = product_forward(l, y, x, n);
    const bool can =
        (!pre.p || (act == ACT_GELU && pre.dtype == y.dtype)) && !(p.scale_a && y.dtype == DT_F32);
    uint32_t epilogue = 0;
    if (bias) epilogue |= CUBLASLT_EPILOGUE_BIAS;
    if (act == ACT_GELU) epilogue |= pre.p ? CUBLASLT_EPILOGUE_GELU_AUX : CUBLASLT_EPILOGUE_GELU;
    if (epilogue && can && multiply_with(p, epilogue, bias_operand(l, bias, y.dtype), pre.p)) return;
    if (!epilogue && !pre.p) return multiply_plain(&p);
    multiply_and(p, l, y, n, [&](Tensor sums, int64_t r0, int64_t rows) {
        const int64_t at = r0 * l->s.out;
        run_activate(tensor_at(y, at), tensor_at(pre, at), sums, bias, act, rows, l->s.out);
    });
}

/* In fp8: dy, dy turned, x turned, each [n (in or out)]. */
typedef struct Fp8Operands {
    bool used;
    uint8_t *dy, *dy_turned, *x_turned;
} Fp8Operands;

static Fp8Operands quantise_operands(const Linear *l, Tensor dx, Tensor dy, Tensor x, int64_t n) {
    const LinearSpec *s = &l->s;
    Fp8Operands q = {};
    if (!fits_fp8(l, n, dx.p, dy.p, x.p, s->dw)) return q;
    q.used = true;
    q.dy = (uint8_t *)workspace(linear_scratch(s)), q.dy_turned = q.dy + n * s->out,
    q.x_turned = q.dy_turned + n * s->out;
    run_quantise(dx.p ? q.dy : NULL, q.dy_turned, &l->scale[2], dy.p, n, s->out, __NV_E5M2);
    run_quantise(NULL, q.x_turned, &l->scale[1], x.p, n, s->in, __NV_E4M3);
    return q;
}

/* dx^T [in, n] = W dy^T, times act'(pre). */
static void backward_input(Tensor dx, Tensor dy, Tensor pre, Act act, const Linear *l, const Fp8Operands *q,
                           int64_t n) {
    const LinearSpec *s = &l->s;
    Product p = product_of(l, s->in, n, s->out, dx.dtype);
    if (q->used) {
        set_a(&p, l->in_out, s->out, true), set_b(&p, q->dy, s->out, false);
        set_fp8(&p, CUDA_R_8F_E4M3, &l->scale[0], CUDA_R_8F_E5M2, &l->scale[2]);
    } else {
        set_a(&p, linear_weight(l).p, s->out_major ? s->in : s->out, !s->out_major);
        set_b(&p, dy.p, s->out, false);
    }
    set_d(&p, l, dx.p, n);
    if (act == ACT_GELU && multiply_with(p, CUBLASLT_EPILOGUE_DGELU, NULL, pre.p)) return;
    if (act == ACT_NONE) return multiply_plain(&p);
    multiply_and(p, l, dx, n, [&](Tensor sums, int64_t r0, int64_t rows) {
        run_gelu_backward(tensor_at(dx, r0 * s->in), sums, tensor_at(pre, r0 * s->in), rows * s->in);
    });
}

/* dw (+)= x^T dy in the master's layout: its rows run over `a`'s columns, its columns over `b`'s. dbias comes
 * from the same sweep over dy where the library can do that. */
static void backward_weight(Tensor dy, Tensor x, Linear *l, const Fp8Operands *q, float *dbias,
                            bool accumulate, int64_t n) {
    const LinearSpec *s = &l->s;
    const bool turned =
        s->out_major; /* then dw^T = x^T dy is [in, out] to the library, else dy^T x, [out, in] */
    Product p = product_of(l, turned ? s->in : s->out, turned ? s->out : s->in, n, DT_F32);
    if (q->used) {
        set_a(&p, turned ? q->x_turned : q->dy_turned, n, true),
            set_b(&p, turned ? q->dy_turned : q->x_turned, n, false);
        if (turned)
            set_fp8(&p, CUDA_R_8F_E4M3, &l->scale[1], CUDA_R_8F_E5M2, &l->scale[2]);
        else
            set_fp8(&p, CUDA_R_8F_E5M2, &l->scale[2], CUDA_R_8F_E4M3, &l->scale[1]);
    } else {
        set_a(&p, turned ? x.p : dy.p, turned ? s->in : s->out, false);
        set_b(&p, turned ? dy.p : x.p, turned ? s->out : s->in, true);
    }
    set_d(&p, l, s->dw, n);
    p.beta = accumulate;
    if (dbias && !q->used &&
        multiply_with(p, turned ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_BGRADA, l->dbias, NULL)) {
        launch(add_pieces, (unsigned)ceil_div(s->out, (int64_t)256), 256, 0, dbias, l->dbias, 1, s->out,
               accumulate);
        return;
    }
    multiply_plain(&p);
    if (dbias) run_column_sums(dbias, dy, n, s->out, accumulate);
}

/* 4 n in out FLOPs, half of them if there is no dx. */
static void cuda_linear_backward(Tensor dx, Tensor dy, Tensor x, Tensor pre, Act act, bool again, Linear *l,
                                 float *dbias, bool accumulate, int64_t n) {
    CHECK(l->s.dw, "backward through a linear that was created without a gradient");
    CHECK(!again || (dx.p && act != ACT_NONE), "x is made again on the way to dx");
    CHECK(dy.dtype == dtype_of_tensors(l->s.compute) && x.dtype == dy.dtype);
    if (again) run_activate(x, NO_TENSOR, pre, NULL, act, n, l->s.in);
    const Fp8Operands q = quantise_operands(l, dx, dy, x, n);
    if (dx.p) backward_input(dx, dy, pre, act, l, &q, n);
    backward_weight(dy, x, l, &q, dbias, accumulate, n);
}

/* ---- norm ------------------------------------------------------------------------------------------------ */

enum {
    FORWARD_SHARE = 32, /* numbers of a row that a thread keeps in registers */
    BACKWARD_SHARE = 24,
    TEAMS = 128, /* threads of a block that holds several teams */
    SMS = 132,   /* multiprocessors of an H100: a constant, so that every GPU sums in one order */
};

/* Threads that share a row of C numbers. That depends on C alone, so a row's results never do on the rows
 * around it. */
static unsigned norm_team(int64_t C, int64_t share) {
    const int64_t team = WARP * ceil_div(C, WARP * share);
    CHECK(team <= Row<void>::THREADS, "a row of %lld numbers", (long long)C);
    return (unsigned)team;
}

static Form norm_form(unsigned team, int64_t C, std::initializer_list<Tensor> tensors,
                      std::initializer_list<const void *> parameters) {
    return team > Row<bf16>::THREADS ? ODD : form_of(C, tensors, parameters);
}

/* Where the k-th part of a row that this thread takes begins. */
template <int N> static __device__ inline int column(int k) {
    return (int)(k * blockDim.x + threadIdx.x) * N;
}

/* Each team takes a row, and keeps it in registers from its statistics to h. Bytes a number in bf16: reads
 * 4 (x_in, delta), writes 4 (x_out, h); 2 and 2 without delta. 10 FLOPs, and a random word where there is
 * dropout. EARLY: g and b are on their way before the statistics, which hides their latency if rows are
 * few, and costs registers if not. */
template <typename T, bool EARLY>
static __global__ void __launch_bounds__(Row<T>::THREADS)
    norm_forward(Tensor h, Tensor x_out, float *mean, float *rstd, Tensor x_in, Tensor delta, Tensor g,
                 Tensor b, float eps, int64_t n, int C, Mask mask) {
    enum { N = Row<T>::N, PARTS = FORWARD_SHARE / N };
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y, at = row * C;
    Words<T, N> in[PARTS], more[PARTS];
    Words<typename Row<T>::F32, N> gain[PARTS], shift[PARTS];
    float x[PARTS][N], sum = 0, squares = 0;
    if (row >= n) return; /* a warp of a block whose teams are warps, so no other waits for it */
#pragma unroll
    for (int k = 0; k < PARTS; k++) {
        const int c = column<N>(k);
        load(in[k], x_in, at + c, C - c);
        load(more[k], delta, at + c, C - c);
        if (EARLY) load(gain[k], g, c, C - c, AGAIN), load(shift[k], b, c, C - c, AGAIN);
    }
#pragma unroll
    for (int k = 0; k < PARTS; k++) {
        const int c = column<N>(k);
        unpack(x[k], in[k]);
        if (delta.p) {
            float d[N];
            unpack(d, more[k]);
            if (mask.least) dropout<T>(d, N, mask, (mask.row0 + row) * C + c);
#pragma unroll
            for (int j = 0; j < N; j++) x[k][j] += d[j];
            pack(in[k], x[k], x_out.dtype);
            store(x_out, at + c, C - c, in[k], ONCE);
            unpack(x[k], in[k]); /* as backward will read it */
        }
#pragma unroll
        for (int j = 0; j < N; j++) sum += x[k][j];
    }
    const float m = team_sum(sum) / C;
#pragma unroll
    for (int k = 0; k < PARTS; k++)
#pragma unroll
        for (int j = 0; j < N; j++)
            if (exists<T>(j, C - column<N>(k))) squares += (x[k][j] - m) * (x[k][j] - m);
    const float r = 1.0f / sqrtf(team_sum(squares) / C + eps);
    if (threadIdx.x == 0) mean[row] = m, rstd[row] = r;
#pragma unroll
    for (int k = 0; k < PARTS; k++) {
        const int c = column<N>(k);
        float scale[N], add[N];
        if (!EARLY) load(gain[k], g, c, C - c, AGAIN), load(shift[k], b, c, C - c, AGAIN);
        unpack(scale, gain[k]), unpack(add, shift[k]);
#pragma unroll
        for (int j = 0; j < N; j++) x[k][j] = (x[k][j] - m) * r * scale[j] + add[j];
        pack(in[k], x[k], h.dtype);
        store(h, at + c, C - c, in[k]);
    }
}

/* Without a norm: x [n] = a + b, and dropped = x, if present; b and dropped with dropout, each by its mask.
 * Bytes a number in bf16: reads 4, writes 2 or 4. 1 FLOP, and a random word where there is dropout. */
template <typename T>
static __global__ void residual(Tensor x, Tensor dropped, Tensor a, Tensor b, int64_t n, Mask of_b,
                                Mask of_x) {
    enum { N = Row<T>::N };
    const int64_t step = (int64_t)gridDim.x * blockDim.x * N;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N; i < n; i += step) {
        Words<T, N> words, more;
        float v[N], d[N];
        load(words, a, i, n - i), load(more, b, i, n - i);
        unpack(v, words), unpack(d, more);
        if (of_b.least) dropout<T>(d, N, of_b, of_b.row0 + i);
#pragma unroll
        for (int j = 0; j < N; j++) v[j] += d[j];
        pack(words, v, x.dtype);
        store(x, i, n - i, words);
        if (!dropped.p) continue;
        if (of_x.least) dropout<T>(v, N, of_x, of_x.row0 + i);
        pack(words, v, dropped.dtype);
        store(dropped, i, n - i, words);
    }
}

/* For a tensor [n, C] as one long row. */
static Mask mask_of_numbers(const Dropout *d, int64_t C) {
    Mask m = mask_of(d);
    m.row0 *= (uint64_t)C;
    return m;
}

static void run_residual(Tensor x, Tensor dropped, Tensor a, Tensor b, int64_t n, int64_t C, const Mask &of_b,
                         const Mask &of_x) {
    const Form form = form_of(C, {x, dropped, a, b}, {});
    launch(KERNEL_FOR(form, residual), grid_for(n * C, form == ALL_BF16 ? 8 : 4, 256), 256, 0, x, dropped, a,
           b, n * C, of_b, of_x);
}

static void cuda_norm_forward(Tensor h, Tensor x_out, float *mean, float *rstd, Tensor x_in, Tensor delta,
                              const float *g, const float *b, float eps, int64_t n, int64_t C, Dropout drop) {
    if (!g && delta.p) run_residual(x_out, NO_TENSOR, x_in, delta, n, C, mask_of_numbers(&drop, C), Mask());
    if (!g) return;
    const unsigned team = norm_team(C, FORWARD_SHARE), rows = team == WARP ? TEAMS / WARP : 1;
    const unsigned blocks = (unsigned)ceil_div(n, (int64_t)rows);
    const Form form = norm_form(team, C, {h, x_out, x_in, delta}, {g, b});
    const bool few = form == ALL_BF16 && blocks <= SMS; /* fewer than can hide their own latency */
    launch(few ? norm_forward<bf16, true> : KERNEL_FOR(form, norm_forward, false), blocks, dim3(team, rows),
           0, h, x_out, mean, rstd, x_in, delta, fp32(g), fp32(b), eps, n, (int)C, mask_of(&drop));
}

/* The teams of a block add what each has of dg and db, one after the other, to sums [2][C]. */
template <int PARTS, int N>
static __device__ inline void norm_sums(float *sums, const float (&dg)[PARTS][N], const float (&db)[PARTS][N],
                                        int C) {
    for (unsigned turn = 0; turn < blockDim.y; turn++, __syncthreads())
#pragma unroll
        for (int k = 0; k < PARTS; k++)
#pragma unroll
            for (int j = 0; j < N; j++) {
                const int c = column<N>(k) + j;
                if (turn != threadIdx.y || c >= C) continue;
                sums[c] = dg[k][j] + (turn ? sums[c] : 0);
                sums[C + c] = db[k][j] + (turn ? sums[C + c] : 0);
            }
}

/* A fixed number of blocks, each with its part of dg and db, go over the rows. Bytes a number in bf16:
 * reads 6 (dx_in, dh, x), writes 4 (dx, ddelta); 17 FLOPs, and a random word where there is dropout. */
template <typename T>
static __global__ void __launch_bounds__(Row<T>::THREADS)
    norm_backward(Tensor dx, Tensor ddelta, Tensor dx_in, Tensor dh, Tensor x, const float *mean,
                  const float *rstd, Tensor g, float *pieces, bool post, int64_t n, int C, Mask mask) {
    enum { N = Row<T>::N, PARTS = BACKWARD_SHARE / N };
    DYNAMIC_SHARED(room);
    float dg[PARTS][N] = {}, db[PARTS][N] = {};
    /* All teams go round equally often, for they meet in team_sum; one without a row takes zeros. */
    for (int64_t top = (int64_t)blockIdx.x * blockDim.y; top < n; top += (int64_t)gridDim.x * blockDim.y) {
        const int64_t row = top + threadIdx.y, at = row * C;
        const int have = row < n ? C : 0;
        const float m = have ? mean[row] : 0, r = have ? rstd[row] : 0;
        Words<T, N> above[PARTS], outer[PARTS], in[PARTS];
        float d[PARTS][N], hat[PARTS][N], up[N], sum = 0, sum_x = 0;
#pragma unroll
        for (int k = 0; k < PARTS; k++) {
            const int c = column<N>(k);
            load(above[k], dx_in, at + c, have - c);
            load(outer[k], dh, at + c, have - c);
            load(in[k], x, at + c, have - c);
        }
#pragma unroll
        for (int k = 0; k < PARTS; k++) {
            Words<typename Row<T>::F32, N> words;
            float gain[N];
            load(words, g, column<N>(k), C - column<N>(k), AGAIN), unpack(gain, words);
            unpack(d[k], outer[k]), unpack(hat[k], in[k]), unpack(up, above[k]);
#pragma unroll
            for (int j = 0; j < N; j++) {
                if (post) d[k][j] += up[j];
                hat[k][j] = (hat[k][j] - m) * r;
                dg[k][j] += d[k][j] * hat[k][j], db[k][j] += d[k][j];
                d[k][j] *= gain[j];
                sum += d[k][j], sum_x += d[k][j] * hat[k][j];
            }
        }
        sum = team_sum(sum) / C, sum_x = team_sum(sum_x) / C;
#pragma unroll
        for (int k = 0; k < PARTS; k++) {
            const int c = column<N>(k);
            unpack(up, above[k]);
#pragma unroll
            for (int j = 0; j < N; j++) up[j] = r * (d[k][j] - sum - hat[k][j] * sum_x) + (post ? 0 : up[j]);
            pack(in[k], up, dx.dtype);
            store(dx, at + c, have - c, in[k]);
            if (!ddelta.p) continue;
            if (mask.least) dropout<T>(up, N, mask, (mask.row0 + row) * C + c);
            pack(in[k], up, ddelta.dtype);
            store(ddelta, at + c, have - c, in[k]);
        }
    }
    float *piece = pieces + 2 * (int64_t)C * blockIdx.x, *sums = blockDim.y > 1 ? (float *)room : piece;
    norm_sums(sums, dg, db, C);
    if (sums == piece) return;
    for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < 2 * C; c += blockDim.x * blockDim.y)
        piece[c] = sums[c];
}

/* dg, db [C] (+)= the sums over `count` pieces [2][C], in one order: a block adds 32 columns, its row w
 * the pieces w, w + 32, ..., and then its rows. 8 bytes and 2 FLOPs for each of count * C. */
static __global__ void norm_add_pieces(float *dg, float *db, const float *pieces, int count, int C,
                                       bool accumulate) {
    __shared__ float part[WARP][WARP];
    const int c = blockIdx.x * WARP + threadIdx.x;
    float *to = blockIdx.y ? db : dg, sum = 0;
    for (int i = threadIdx.y; i < count && c < C; i += WARP)
        sum += pieces[(2 * (int64_t)i + blockIdx.y) * C + c];
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || c >= C) return;
    for (int i = 1; i < WARP; i++) sum += part[i][threadIdx.x];
    to[c] = sum + (accumulate ? to[c] : 0);
}

static void cuda_norm_backward(Tensor dx, Tensor ddelta, Tensor dx_in, Tensor dh, Tensor x, const float *mean,
                               const float *rstd, const float *g, float *dg, float *db, bool accumulate,
                               bool post, int64_t n, int64_t C, Dropout drop) {
    if (!g) return run_residual(dx, ddelta, dx_in, dh, n, C, Mask(), mask_of_numbers(&drop, C));
    const unsigned team = norm_team(C, BACKWARD_SHARE), teams = team < TEAMS ? TEAMS / team : 1;
    const int64_t rounds = ceil_div(n, (int64_t)teams), threads = (int64_t)team * teams,
                  most = SMS * (threads < Row<bf16>::THREADS ? Row<bf16>::THREADS / threads : 1);
    const unsigned pieces = (unsigned)(rounds < most ? rounds : most);
    const size_t shared = teams > 1 ? 2 * (size_t)C * sizeof(float) : 0;
    const Form form = norm_form(team, C, {dx, ddelta, dx_in, dh, x}, {g});
    float *sums = (float *)workspace(2 * (size_t)(pieces * C) * sizeof *sums);
    launch(KERNEL_FOR(form, norm_backward), pieces, dim3(team, teams), shared, dx, ddelta, dx_in, dh, x, mean,
           rstd, fp32(g), sums, post, n, (int)C, mask_of(&drop));
    launch(norm_add_pieces, dim3((unsigned)ceil_div(C, (int64_t)WARP), 2), dim3(WARP, WARP), 0, dg, db, sums,
           (int)pieces, (int)C, accumulate);
}

/* ---- attention ------------------------------------------------------------------------------------------- */

#include "attention.cuh"

/* ---- embedding ------------------------------------------------------------------------------------------- */

enum {
    FOUR = 4,          /* columns a thread takes: 16 bytes of fp32, and one draw of random numbers */
    EMBED_WARPS = 8,   /* of a block */
    EMBED_SLICE = 256, /* columns of a warp */
    SLICE_PARTS = EMBED_SLICE / (WARP * FOUR),
    EMBED_ROWS = 4, /* rows that a thread has on the way at once */
    LONG_RUN = 64,  /* rows of one token that a warp adds alone */
    SORT_CHUNK = 256,
    SORT_WAYS = 8,
};

/* The columns of a slice that this thread has. */
static __device__ inline int slice_column(int k) {
    return blockIdx.y * EMBED_SLICE + (k * WARP + threadIdx.x) * FOUR;
}
static unsigned slices_of(int64_t C) {
    return (unsigned)ceil_div(C, (int64_t)EMBED_SLICE);
}

/* A warp a slice of a row. Bytes a number in bf16: reads 8 (wte, wpe; often from a cache), writes 2. 1
 * FLOP. */
template <typename T>
static __global__ void embed_forward(Tensor x, const int32_t *tokens, const int32_t *pos, Tensor wte,
                                     Tensor wpe, int64_t n, int64_t positions, int C, Mask mask) {
    const int64_t row = (int64_t)blockIdx.x * EMBED_WARPS + threadIdx.y;
    if (row >= n) return;
    const int64_t token = (int64_t)tokens[row] * C, place = (pos ? pos[row] : row % positions) * C;
    Words<typename Row<T>::F32, FOUR> te[SLICE_PARTS], pe[SLICE_PARTS];
#pragma unroll
    for (int k = 0; k < SLICE_PARTS; k++) {
        const int c = slice_column(k);
        load(te[k], wte, token + c, token < 0 ? 0 : C - c, AGAIN);
        load(pe[k], wpe, place + c, C - c, AGAIN);
    }
#pragma unroll
    for (int k = 0; k < SLICE_PARTS; k++) {
        const int c = slice_column(k);
        Words<T, FOUR> out;
        float sum[FOUR], p[FOUR];
        unpack(sum, te[k]), unpack(p, pe[k]);
#pragma unroll
        for (int j = 0; j < FOUR; j++) sum[j] += p[j];
        if (mask.least) dropout<T>(sum, FOUR, mask, (mask.row0 + row) * C + c);
        pack(out, sum, x.dtype);
        store(x, row * C + c, C - c, out);
    }
}

static void cuda_embed_forward(Tensor x, const int32_t *tokens, const int32_t *pos, const float *wte,
                               const float *wpe, int64_t n, int64_t T, int64_t C, Dropout drop) {
    const Form form = form_of(C, {x}, {wte, wpe});
    const dim3 grid((unsigned)ceil_div(n, (int64_t)EMBED_WARPS), slices_of(C));
    launch(KERNEL_FOR(form, embed_forward), grid, dim3(WARP, EMBED_WARPS), 0, x, tokens, pos, fp32(wte),
           fp32(wpe), n, T, (int)C, mask_of(&drop));
}

/* The gradient of wte adds rows that have one token, in their order. So rows are sorted, by keys that hold
 * a token above a row: first chunks, where a key's place is the number of those below it, then runs of
 * them, SORT_WAYS at a time, where it is the sum of such numbers. n 8-byte keys are read and written once
 * a pass. */
static __global__ void sort_chunks(uint64_t *keys, const int32_t *tokens, int64_t n) {
    __shared__ uint64_t chunk[SORT_CHUNK];
    const int64_t first = (int64_t)blockIdx.x * SORT_CHUNK, i = first + threadIdx.x;
    const uint64_t key = i < n ? (uint64_t)(uint32_t)tokens[i] << 32 | (uint64_t)i : UINT64_MAX;
    int below = 0;
    chunk[threadIdx.x] = key;
    __syncthreads();
    for (int j = 0; j < SORT_CHUNK; j++) below += chunk[j] < key;
    if (i < n) keys[first + below] = key;
}

static __global__ void sort_merge(uint64_t *to, const uint64_t *from, int64_t run, int64_t n) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const int64_t first = i / (run * SORT_WAYS) * (run * SORT_WAYS);
    const uint64_t key = from[i];
    int64_t below[SORT_WAYS] = {}, place = first;
    for (int64_t step = run; step > 0; step /= 2) /* searches all runs at once */
#pragma unroll
        for (int w = 0; w < SORT_WAYS; w++) {
            const int64_t end = below[w] + step, at = first + w * run + end - 1;
            if (end <= run && at < n && from[at] < key) below[w] = end;
        }
#pragma unroll
    for (int w = 0; w < SORT_WAYS; w++) place += below[w];
    to[place] = key;
}

static size_t embed_workspace(int64_t n) {
    return 2 * (size_t)n * sizeof(uint64_t);
}

/* Returns n keys in order, in the workspace. */
static const uint64_t *sort_tokens(const int32_t *tokens, int64_t n) {
    uint64_t *keys = (uint64_t *)workspace(embed_workspace(n)), *other = keys + n;
    const unsigned blocks = (unsigned)ceil_div(n, (int64_t)SORT_CHUNK);
    launch(sort_chunks, blocks, SORT_CHUNK, 0, keys, tokens, n);
    for (int64_t run = SORT_CHUNK; run < n; run *= SORT_WAYS) {
        launch(sort_merge, blocks, SORT_CHUNK, 0, other, keys, run, n);
        uint64_t *sorted = other;
        other = keys, keys = sorted;
    }
    return keys;
}

/* Where the run of keys with the token of keys[first] ends. A warp looks 32 keys ahead, ever further, then
 * ever less. */
static __device__ inline int64_t run_end(const uint64_t *keys, int64_t first, int64_t n) {
    const uint32_t token = (uint32_t)(keys[first] >> 32);
    int64_t last = first;
    for (int64_t step = 1; step > 0;) {
        const int64_t at = last + (threadIdx.x + 1) * step;
        const int same = __popc(__ballot_sync(ALL_LANES, at < n && (uint32_t)(keys[at] >> 32) == token));
        last += same * step;
        step = same == WARP ? step * WARP : step / WARP;
    }
    return last + 1;
}

/* sum = this thread's columns of the rows from, from + step, ... of dropout'(dx + dh); of rows that keys
 * name, if any. */
template <typename T>
static __device__ inline void sum_rows(float (&sum)[SLICE_PARTS][FOUR], Tensor dx, Tensor dh,
                                       const uint64_t *keys, int64_t from, int64_t to, int64_t step, int C,
                                       const Mask &mask) {
#pragma unroll
    for (int k = 0; k < SLICE_PARTS; k++)
#pragma unroll
        for (int j = 0; j < FOUR; j++) sum[k][j] = 0;
    for (; from < to; from += EMBED_ROWS * step) {
        Words<T, FOUR> x[EMBED_ROWS][SLICE_PARTS], h[EMBED_ROWS][SLICE_PARTS];
        int64_t row[EMBED_ROWS];
#pragma unroll
        for (int u = 0; u < EMBED_ROWS; u++) {
            const int64_t i = from + u * step;
            row[u] = i >= to ? -1 : keys ? (int64_t)(uint32_t)keys[i] : i;
        }
#pragma unroll
        for (int u = 0; u < EMBED_ROWS; u++)
#pragma unroll
            for (int k = 0; k < SLICE_PARTS; k++) {
                const int c = slice_column(k), have = row[u] < 0 ? 0 : C - c;
                load(x[u][k], dx, row[u] * C + c, have);
                load(h[u][k], dh, row[u] * C + c, have);
            }
#pragma unroll
        for (int u = 0; u < EMBED_ROWS; u++)
#pragma unroll
            for (int k = 0; k < SLICE_PARTS; k++) {
                float d[FOUR], more[FOUR];
                unpack(d, x[u][k]), unpack(more, h[u][k]);
#pragma unroll
                for (int j = 0; j < FOUR; j++) d[j] += more[j];
                if (mask.least) dropout<T>(d, FOUR, mask, (mask.row0 + row[u]) * C + slice_column(k));
#pragma unroll
                for (int j = 0; j < FOUR; j++) sum[k][j] += d[j];
            }
    }
}

/* This thread's columns of row `row` of `to`, (+)= sum. */
template <typename F32>
static __device__ inline void add_to_row(Tensor to, int64_t row, const float (&sum)[SLICE_PARTS][FOUR], int C,
                                         bool accumulate) {
#pragma unroll
    for (int k = 0; k < SLICE_PARTS; k++) {
        const int c = slice_column(k);
        Words<F32, FOUR> words;
        float x[FOUR] = {};
        if (accumulate) load(words, to, row * C + c, C - c), unpack(x, words);
#pragma unroll
        for (int j = 0; j < FOUR; j++) x[j] += sum[k][j];
        pack(words, x, DT_F32);
        store(to, row * C + c, C - c, words, ONCE);
    }
}

/* Does a run of keys begin at i? A token of -1 has none: no row of dwte is its. */
static __device__ inline bool run_begins(const uint64_t *keys, int64_t i, int64_t n) {
    return i < n && keys[i] >> 32 != UINT32_MAX && (i == 0 || keys[i - 1] >> 32 != keys[i] >> 32);
}

/* A warp a key: if it is the first of its token, the warp adds all rows of the token, unless they are
 * many, when the block does, each warp every EMBED_WARPS-th. Bytes a number in bf16: reads 2 (dx), and
 * reads and writes 8 for each number of a token's row of dwte; 1 FLOP, and a random word where there is
 * dropout. */
template <typename T>
static __global__ void __launch_bounds__(WARP *EMBED_WARPS, 2)
    embed_backward_tokens(Tensor dwte, Tensor dx, Tensor dh, const uint64_t *keys, int64_t n, int C,
                          Mask mask) {
    __shared__ int64_t ends[EMBED_WARPS];
    __shared__ float part[EMBED_WARPS][EMBED_SLICE];
    const int64_t base = (int64_t)blockIdx.x * EMBED_WARPS, mine = base + threadIdx.y;
    const int64_t end = run_begins(keys, mine, n) ? run_end(keys, mine, n) : mine;
    float sum[SLICE_PARTS][FOUR];
    if (threadIdx.x == 0) ends[threadIdx.y] = end;
    if (end > mine && end - mine <= LONG_RUN) {
        sum_rows<T>(sum, dx, dh, keys, mine, end, 1, C, mask);
        add_to_row<typename Row<T>::F32>(dwte, (int64_t)(keys[mine] >> 32), sum, C, true);
    }
    __syncthreads();
    int w = 0; /* whose run is long: one at most, for runs that begin after it begin beyond these keys */
    while (w < EMBED_WARPS && ends[w] - (base + w) <= LONG_RUN) w++;
    if (w == EMBED_WARPS) return;
    sum_rows<T>(sum, dx, dh, keys, base + w + threadIdx.y, ends[w], EMBED_WARPS, C, mask);
    for (int k = 0; k < SLICE_PARTS; k++)
        for (int j = 0; j < FOUR; j++) part[threadIdx.y][(k * WARP + threadIdx.x) * FOUR + j] = sum[k][j];
    __syncthreads();
    const int i = threadIdx.y * WARP + threadIdx.x, c = blockIdx.y * EMBED_SLICE + i;
    float all = 0;
    for (int y = 0; y < EMBED_WARPS; y++) all += part[y][i];
    if (c < C) ((float *)dwte.p)[(int64_t)(keys[base + w] >> 32) * C + c] += all;
}

/* A warp a position. Bytes a number in bf16: reads 2 (dx), and writes 4 for each number of dwpe (reads 4
 * if it adds). */
template <typename T>
static __global__ void __launch_bounds__(WARP *EMBED_WARPS, 2)
    embed_backward_positions(Tensor dwpe, Tensor dx, Tensor dh, int64_t n, int64_t positions, int C,
                             bool accumulate, Mask mask) {
    const int64_t t = (int64_t)blockIdx.x * EMBED_WARPS + threadIdx.y;
    float sum[SLICE_PARTS][FOUR];
    if (t >= positions || t >= n) return;
    sum_rows<T>(sum, dx, dh, NULL, t, n, positions, C, mask);
    add_to_row<typename Row<T>::F32>(dwpe, t, sum, C, accumulate);
}

static void cuda_embed_backward(float *dwte, float *dwpe, Tensor dx, Tensor dh, const int32_t *tokens,
                                int64_t n, int64_t T, int64_t C, bool accumulate, Dropout drop) {
    const Form form = form_of(C, {dx, dh}, {dwte, dwpe});
    const Mask mask = mask_of(&drop);
    const dim3 block(WARP, EMBED_WARPS);
    dim3 grid((unsigned)ceil_div(n, (int64_t)EMBED_WARPS), slices_of(C));
    if (dwte)
        launch(KERNEL_FOR(form, embed_backward_tokens), grid, block, 0, fp32(dwte), dx, dh,
               sort_tokens(tokens, n), n, (int)C, mask);
    grid.x = (unsigned)ceil_div(T, (int64_t)EMBED_WARPS);
    if (dwpe)
        launch(KERNEL_FOR(form, embed_backward_positions), grid, block, 0, fp32(dwpe), dx, dh, n, T, (int)C,
               accumulate, mask);
}

/* ---- classifier ------------------------------------------------------------------------------------------ */

enum { CLASSIFIER_THREADS = 512, CLASSIFIER_BATCH = 4 };

/* As fp32; what is beyond V is -infinity, so that its exponential is 0. */
template <typename T, int N>
static __device__ inline void unpack_logits(float (&x)[N], const Words<T, N> &z, int have) {
    unpack(x, z);
#pragma unroll
    for (int j = 0; j < N; j++)
        if (j >= have) x[j] = -INFINITY;
}

/* Maximum and, relative to the maximum so far, sum of exponentials of a row, for all threads of the block
 * (Milakov & Gimelshein 2018). The row is read once, and stays in `kept`, if not NULL. */
template <typename T>
static __device__ inline ClassPart read_row(Words<T, Row<T>::N> *kept, Tensor logits, int64_t at, int V,
                                            int Vp) {
    enum { N = Row<T>::N, STEP = CLASSIFIER_THREADS * N };
    float top = -FLT_MAX, sum = 0, x[N];
    for (int c0 = threadIdx.x * N; c0 < Vp; c0 += CLASSIFIER_BATCH * STEP) {
        Words<T, N> z[CLASSIFIER_BATCH];
#pragma unroll
        for (int u = 0; u < CLASSIFIER_BATCH; u++) {
            const int c = c0 + u * STEP;
            load(z[u], logits, at + c, Vp - c, kept ? ONCE : AGAIN);
        }
#pragma unroll
        for (int u = 0; u < CLASSIFIER_BATCH; u++) {
            const int c = c0 + u * STEP;
            float high = top;
            if (c >= Vp) break;
            if (kept) kept[c / N] = z[u];
            unpack_logits(x, z[u], V - c);
#pragma unroll
            for (int j = 0; j < N; j++) high = fmaxf(high, x[j]);
            sum *= __expf(top - high);
#pragma unroll
            for (int j = 0; j < N; j++)
                sum += __expf(x[j] - high); /* a NaN is lost to `high`, but stays here */
            top = high;
        }
    }
    ClassPart p = {};
    p.max = team_max(top);
    p.sum = team_sum(sum * __expf(top - p.max));
    return p;
}

/* The gradient of a row, if asked for, of whose vocabulary it has columns first .. first + V. Reads what
 * read_row kept, or the row once more, from the L2 cache as a rule. Returns the first of this thread's columns
 * with the maximum; V: it has none. */
template <typename T>
static __device__ inline int write_row(Tensor dlogits, const Words<T, Row<T>::N> *kept, Tensor logits,
                                       int64_t at, const ClassPart &all, int target, int first, float scale,
                                       int V, int Vp) {
    enum { N = Row<T>::N, STEP = CLASSIFIER_THREADS * N };
    const float k = target < 0 ? 0 : scale / all.sum;
    int best = V;
    for (int c = threadIdx.x * N; c < Vp; c += STEP) {
        Words<T, N> z;
        float x[N];
        if (kept)
            z = kept[c / N];
        else
            load(z, logits, at + c, Vp - c);
        unpack_logits(x, z, V - c);
#pragma unroll
        for (int j = 0; j < N; j++)
            if (x[j] == all.max) best = min(best, c + j);
        if (!dlogits.p) continue;
#pragma unroll
        for (int j = 0; j < N; j++)
            x[j] = c + j < V ? __expf(x[j] - all.max) * k - (first + c + j == target ? scale : 0) : 0;
        pack(z, x, dlogits.dtype);
        store(dlogits, at + c, Vp - c, z);
    }
    return best;
}

/* The target's logit, if it is one of columns first .. first + V. */
static __device__ inline float target_of(Tensor logits, int64_t at, int target, int first, int V) {
    const bool here = target >= first && target < first + V;
    return here ? number_at(logits, at + target - first) : 0;
}

static __device__ inline float loss_of(const ClassPart &all, int target) {
    return target < 0 ? 0 : logf(all.sum) + (all.max - all.target);
}

/* The first of the block's columns with the maximum; 0: there were only NaNs. */
static __device__ inline int best_of(int best, int V) {
    best = -team_max(-best);
    return best < V ? best : 0;
}

/* A block a row; `keep`: in shared memory. Bytes a logit in bf16: reads 2, writes 2. 2 exponentials and 8
 * other FLOPs. */
template <typename T>
static __global__ void __launch_bounds__(CLASSIFIER_THREADS, 2)
    classifier(Tensor dlogits, float *loss, int32_t *best, Tensor logits, const int32_t *targets, float scale,
               int V, int Vp, bool keep) {
    DYNAMIC_SHARED(room);
    Words<T, Row<T>::N> *kept = keep ? (Words<T, Row<T>::N> *)room : NULL;
    const int64_t row = blockIdx.x, at = row * Vp;
    const int target = targets[row];
    const float z_target = target_of(logits, at, target, 0, V); /* before dlogits may take its place */
    ClassPart all = read_row<T>(kept, logits, at, V, Vp);
    all.target = z_target;
    if (threadIdx.x == 0) loss[row] = loss_of(all, target);
    if (!dlogits.p && !best) return;
    const int mine = write_row<T>(dlogits, kept, logits, at, all, target, 0, scale, V, Vp);
    if (!best) return;
    const int top = best_of(mine, V);
    if (threadIdx.x == 0) best[row] = top;
}

/* A block a row, kept likewise. Bytes a logit in bf16: reads 2. 1 exponential and 5 other FLOPs. */
template <typename T>
static __global__ void __launch_bounds__(CLASSIFIER_THREADS, 2)
    classifier_part(ClassPart *part, Tensor logits, const int32_t *targets, int first, int V, int Vp,
                    bool keep) {
    DYNAMIC_SHARED(room);
    Words<T, Row<T>::N> *kept = keep ? (Words<T, Row<T>::N> *)room : NULL;
    const int64_t row = blockIdx.x, at = row * Vp;
    ClassPart p = read_row<T>(kept, logits, at, V, Vp);
    p.target = target_of(logits, at, targets[row], first, V);
    p.best = first + best_of(write_row<T>(NO_TENSOR, kept, logits, at, p, -1, first, 0, V, Vp), V);
    if (V == 0) p.max = -INFINITY, p.best = -1;
    if (threadIdx.x == 0) part[row] = p;
}

/* The whole row, from its parts. Of equal maxima the first is the best; a NaN makes all sums NaN. */
static __device__ inline ClassPart join_row(const ClassPart *parts, int ranks, int64_t row, int64_t n) {
    ClassPart all = {-INFINITY, 0, 0, -1};
    for (int r = 0; r < ranks; r++) {
        const ClassPart &p = parts[r * n + row];
        if (all.best < 0 || p.max > all.max) all.max = p.max, all.best = p.best;
    }
    for (int r = 0; r < ranks; r++) {
        const ClassPart &p = parts[r * n + row];
        all.sum += p.sum * __expf(p.max - all.max), all.target += p.target;
    }
    return all;
}

/* A block a row. Bytes a logit in bf16: reads 2, writes 2; 1 exponential and 3 other FLOPs. */
template <typename T>
static __global__ void __launch_bounds__(CLASSIFIER_THREADS, 2)
    classifier_join(Tensor dlogits, float *loss, int32_t *best, Tensor logits, const ClassPart *parts,
                    int ranks, const int32_t *targets, int first, float scale, int V, int Vp) {
    const int64_t row = blockIdx.x;
    const int target = targets[row];
    const ClassPart all = join_row(parts, ranks, row, gridDim.x);
    if (threadIdx.x == 0) loss[row] = loss_of(all, target);
    if (threadIdx.x == 0 && best) best[row] = all.best;
    if (dlogits.p) write_row<T>(dlogits, NULL, logits, row * Vp, all, target, first, scale, V, Vp);
}

/* Bytes of shared memory to keep a row in; 0: there is not enough. */
static size_t kept_bytes(Form form, int64_t Vp) {
    const size_t bytes =
        (size_t)ceil_div(Vp, (int64_t)4) * 4 * (form == ALL_BF16 ? sizeof(bf16) : sizeof(float));
    return bytes + 1024 <= gpu.is.sharedMemPerBlockOptin ? bytes : 0;
}

static void cuda_classifier(Tensor dlogits, float *loss, int32_t *best, Tensor logits, const int32_t *targets,
                            float scale, int64_t n, int64_t V, int64_t Vp) {
    const Form form = form_of(Vp, {logits, dlogits}, {});
    const size_t keep = dlogits.p || best ? kept_bytes(form, Vp) : 0;
    launch(KERNEL_FOR(form, classifier), (unsigned)n, CLASSIFIER_THREADS, keep, dlogits, loss, best, logits,
           targets, scale, (int)V, (int)Vp, keep > 0);
}

static void cuda_classifier_part(ClassPart *part, Tensor logits, const int32_t *targets, int64_t first,
                                 int64_t n, int64_t V, int64_t Vp) {
    const Form form = form_of(Vp, {logits}, {});
    const size_t keep = kept_bytes(form, Vp);
    launch(KERNEL_FOR(form, classifier_part), (unsigned)n, CLASSIFIER_THREADS, keep, part, logits, targets,
           (int)first, (int)V, (int)Vp, keep > 0);
}

static void cuda_classifier_join(Tensor dlogits, float *loss, int32_t *best, Tensor logits,
                                 const ClassPart *parts, int ranks, const int32_t *targets, int64_t first,
                                 float scale, int64_t n, int64_t V, int64_t Vp) {
    launch(KERNEL_FOR(form_of(Vp, {logits, dlogits}, {}), classifier_join), (unsigned)n, CLASSIFIER_THREADS,
           0, dlogits, loss, best, logits, parts, ranks, targets, (int)first, scale, (int)V, (int)Vp);
}

/* ---- optimizer ------------------------------------------------------------------------------------------- */

enum { SUM_THREADS = 256, SUM_BATCH = 4, SUM_BLOCKS = 8 * SMS, ADAMW_THREADS = 256 };

/* A fixed number of blocks, one piece each. 4 bytes and 1 (of squares 2) FLOPs in fp64 a number. */
template <typename T>
static __global__ void __launch_bounds__(SUM_THREADS)
    sum_numbers(double *pieces, Tensor x, int64_t n, bool squares) {
    enum { STEP = SUM_THREADS * FOUR };
    double sum[FOUR] = {};
    for (int64_t i0 = (int64_t)blockIdx.x * SUM_BATCH * STEP + threadIdx.x * FOUR; i0 < n;
         i0 += (int64_t)gridDim.x * SUM_BATCH * STEP) {
        Words<T, FOUR> words[SUM_BATCH];
#pragma unroll
        for (int u = 0; u < SUM_BATCH; u++) load(words[u], x, i0 + u * STEP, n - (i0 + u * STEP));
#pragma unroll
        for (int u = 0; u < SUM_BATCH; u++) {
            float v[FOUR];
            unpack(v, words[u]);
#pragma unroll
            for (int j = 0; j < FOUR; j++) sum[j] += squares ? (double)v[j] * v[j] : v[j];
        }
    }
    const double all = team_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    if (threadIdx.x == 0) pieces[blockIdx.x] = all;
}

static __global__ void sum_add_pieces(double *out, const double *pieces, int count, bool accumulate) {
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += SUM_THREADS) sum += pieces[i];
    sum = team_sum(sum);
    if (threadIdx.x == 0) *out = sum + (accumulate ? *out : 0);
}

static void sum_queue(double *out, const float *x, int64_t n, bool squares, bool accumulate) {
    const int64_t blocks = ceil_div(n, (int64_t)SUM_THREADS * SUM_BATCH * FOUR);
    const int pieces = blocks < SUM_BLOCKS ? (int)blocks : SUM_BLOCKS;
    double *piece = (double *)workspace(SUM_BLOCKS * sizeof(double));
    const bool wide = n % FOUR == 0 && form_of(0, {fp32(x)}, {}) == ALL_F32;
    launch(wide ? sum_numbers<float> : sum_numbers<void>, pieces, SUM_THREADS, 0, piece, fp32(x), n, squares);
    launch(sum_add_pieces, 1, SUM_THREADS, 0, out, piece, pieces, accumulate);
}
static void cuda_sum(double *out, const float *x, int64_t n, bool accumulate) {
    sum_queue(out, x, n, false, accumulate);
}
static void cuda_sum_squares(double *out, const float *g, int64_t n, bool accumulate) {
    sum_queue(out, g, n, true, accumulate);
}

/* 4 bytes a word, and some 20 integer instructions: their 64-bit products, not memory, may be the limit.
 * Integers may be added in any order. */
template <typename T>
static __global__ void __launch_bounds__(SUM_THREADS) checksum(unsigned long long *out, Tensor x, int64_t n) {
    const int64_t step = (int64_t)gridDim.x * SUM_THREADS * FOUR;
    unsigned long long sum = 0;
    for (int64_t i = ((int64_t)blockIdx.x * SUM_THREADS + threadIdx.x) * FOUR; i < n; i += step) {
        Words<T, FOUR> words;
        float v[FOUR];
        load(words, x, i, n - i), unpack(v, words);
#pragma unroll
        for (int j = 0; j < FOUR; j++)
            if (exists<T>(j, n - i)) sum += mix(__float_as_uint(v[j]) + ((uint64_t)(i + j) << 32));
    }
    sum = team_sum(sum);
    if (threadIdx.x == 0) atomicAdd(out, sum);
}

static void cuda_checksum(uint64_t *out, const uint32_t *x, int64_t n) {
    const Tensor words = tensor((void *)x, DT_F32); /* their bits are only moved */
    const bool wide = n % FOUR == 0 && in_sixteens(x);
    cuda_zero(out, sizeof *out);
    launch(wide ? checksum<float> : checksum<void>, grid_for(n, FOUR, SUM_THREADS), SUM_THREADS, 0,
           (unsigned long long *)out, words, n);
}

static __global__ void judge(Verdict *v, const double *losses, const double *squares, double scale,
                             double worst, double max_norm) {
    const double loss = *losses * scale, norm = sqrt(*squares);
    v->loss = loss, v->grad_norm = norm;
    v->grad_scale = max_norm > 0 && norm > max_norm ? (float)(max_norm / norm) : 1;
    v->skip = !isfinite(loss) || !isfinite(norm) || loss > worst;
}
static void cuda_judge(Verdict *v, const double *losses, const double *squares, double scale, double worst,
                       double max_norm) {
    launch(judge, 1, 1, 0, v, losses, squares, scale, worst, max_norm);
}

/* Of a mirror. */
typedef struct Rounding {
    bool stochastic;
    uint64_t seed, hi, first; /* of the random words: key, upper counter, number of element 0's */
} Rounding;

template <typename Step> static Rounding rounding_of(const Step *a) {
    return Rounding{a->stochastic, a->seed, (uint64_t)RAND_ROUND << 40 | a->step, a->first};
}

/* An AdamW step as the kernel wants it. */
typedef struct AdamWStep {
    float lr, beta1, beta2, eps, decay; /* decay: of the weight, lr included */
    float fix1, fix2;                   /* 1 / (1 - beta^step) */
    Rounding rounding;
} AdamWStep;

/* To one of the two bf16 nearest to x, to the upper one with the chance that makes it right on average. */
static __device__ inline float round_by(float x, uint32_t word) {
    const uint32_t bits = __float_as_uint(x);
    return isfinite(x) ? __uint_as_float((bits + (word >> 16)) & 0xffff0000u) : x;
}

template <typename T>
static __device__ inline void store_mirror(Tensor mirror, int64_t i, int64_t have, float (&w)[FOUR],
                                           const Rounding &r) {
    Words<typename Row<T>::Bf16, FOUR> half;
    if (r.stochastic) {
        uint32_t word[FOUR];
        random_words<T>(word, FOUR, r.seed, r.hi, r.first + i);
#pragma unroll
        for (int j = 0; j < FOUR; j++) w[j] = round_by(w[j], word[j]);
    }
    pack(half, w, DT_BF16);
    store(mirror, i, have, half);
}

/* Four elements a thread. Bytes an element: reads 16 (w, m, v, g), writes 12 and 2 (mirror). 16 FLOPs, of
 * them a root and two divisions, and a random word for stochastic rounding. */
template <typename T>
static __global__ void __launch_bounds__(ADAMW_THREADS)
    adamw(Tensor w, Tensor m, Tensor v, Tensor g, Tensor mirror, int64_t n, AdamWStep a,
          const Verdict *verdict) {
    const int64_t i = ((int64_t)blockIdx.x * ADAMW_THREADS + threadIdx.x) * FOUR;
    if (i >= n || verdict->skip) return;
    const float scale = verdict->grad_scale;
    Words<T, FOUR> words[4];
    float wi[FOUR], mi[FOUR], vi[FOUR], gi[FOUR];
    load(words[0], w, i, n - i), load(words[1], m, i, n - i), load(words[2], v, i, n - i),
        load(words[3], g, i, n - i);
    unpack(wi, words[0]), unpack(mi, words[1]), unpack(vi, words[2]), unpack(gi, words[3]);
#pragma unroll
    for (int j = 0; j < FOUR; j++) {
        const float d = gi[j] * scale;
        mi[j] = a.beta1 * mi[j] + (1 - a.beta1) * d;
        vi[j] = a.beta2 * vi[j] + (1 - a.beta2) * d * d;
        wi[j] -= a.lr * (mi[j] * a.fix1) / (sqrtf(vi[j] * a.fix2) + a.eps) + a.decay * wi[j];
    }
    pack(words[0], wi, DT_F32), pack(words[1], mi, DT_F32), pack(words[2], vi, DT_F32);
    store(w, i, n - i, words[0], ONCE), store(m, i, n - i, words[1], ONCE),
        store(v, i, n - i, words[2], ONCE);
    if (mirror.p) store_mirror<T>(mirror, i, n - i, wi, a.rounding);
}

static void cuda_adamw(float *w, float *m, float *v, const float *g, uint16_t *mirror, int64_t n,
                       const AdamW *a, const Verdict *verdict) {
    const double fix1 = 1 / (1 - pow(a->beta1, (double)a->step)),
                 fix2 = 1 / (1 - pow(a->beta2, (double)a->step));
    AdamWStep s = {a->lr,       a->beta1,    a->beta2,      a->eps, a->lr * a->weight_decay,
                   (float)fix1, (float)fix2, rounding_of(a)};
    const Form form = form_of(0, {fp32(w), fp32(m), fp32(v), fp32(g)}, {mirror});
    const int64_t wide =
        form == ODD || a->first % FOUR ? 0 : n - n % FOUR; /* the others, if any, one by one */
    for (int64_t at = 0; at < n; s.rounding.first = a->first + (at = at < wide ? wide : n)) {
        const int64_t count = at < wide ? wide : n - wide;
        launch(at < wide ? adamw<float> : adamw<void>,
               (unsigned)ceil_div(count, (int64_t)ADAMW_THREADS * FOUR), ADAMW_THREADS, 0, fp32(w + at),
               fp32(m + at), fp32(v + at), fp32(g + at), tensor(mirror ? mirror + at : NULL, DT_BF16), count,
               s, verdict);
    }
}

/* ---- muon ------------------------------------------------------------------------------------------------ */

enum { MUON_THREADS = 256 };

/* Which part element i is of: the rows of the parts alternate. */
static __device__ inline int part_of(const Muon &a, int64_t i) {
    return a.parts == 1 ? 0 : (int)((uint32_t)i / (uint32_t)a.cols % (uint32_t)a.parts);
}

/* pieces [parts, gridDim.x]: of the sums of squares. Bytes an element: reads 8, writes 4; 6 FLOPs, and 2 in fp64. */
template <typename T>
static __global__ void __launch_bounds__(MUON_THREADS)
    muon_momentum(double *pieces, Tensor m, Tensor g, int64_t n, Muon a, const Verdict *verdict) {
    const float keep = a.momentum, fresh = (1 - keep) * verdict->grad_scale;
    const int64_t step = (int64_t)gridDim.x * MUON_THREADS * FOUR, end = verdict->skip ? 0 : n;
    double sum[MUON_PARTS] = {};
    for (int64_t i = ((int64_t)blockIdx.x * MUON_THREADS + threadIdx.x) * FOUR; i < end; i += step) {
        Words<T, FOUR> words[2];
        float mi[FOUR], gi[FOUR];
        load(words[0], m, i, n - i), load(words[1], g, i, n - i);
        unpack(mi, words[0]), unpack(gi, words[1]);
#pragma unroll
        for (int j = 0; j < FOUR; j++) { /* what does not exist is 0, and stays it */
            mi[j] = keep * mi[j] + fresh * gi[j];
            const float u = keep * mi[j] + fresh * gi[j];
            const int part = part_of(a, i + j);
#pragma unroll
            for (int p = 0; p < MUON_PARTS; p++) sum[p] += p == part ? (double)u * u : 0;
        }
        pack(words[0], mi, DT_F32);
        store(m, i, n - i, words[0]); /* read again by muon_direction */
    }
    for (int p = 0; p < a.parts; p++) {
        const double all = over_team<double, add<double>>(p == 0 ? sum[0] : p == 1 ? sum[1] : sum[2]);
        if (threadIdx.x == 0) pieces[p * gridDim.x + blockIdx.x] = all;
    }
}

/* Bytes an element: reads 8, writes 2. */
template <typename T>
static __global__ void __launch_bounds__(MUON_THREADS)
    muon_direction(Tensor x, Tensor m, Tensor g, const double *squares, int64_t n, Muon a,
                   const Verdict *verdict) {
    __shared__ float scale[MUON_PARTS];
    const float keep = a.momentum, fresh = (1 - keep) * verdict->grad_scale;
    const int64_t step = (int64_t)gridDim.x * MUON_THREADS * FOUR;
    if (threadIdx.x < a.parts)
        scale[threadIdx.x] = squares[threadIdx.x] > 0 ? (float)(1 / sqrt(squares[threadIdx.x])) : 0;
    __syncthreads();
    for (int64_t i = ((int64_t)blockIdx.x * MUON_THREADS + threadIdx.x) * FOUR; i < n; i += step) {
        Words<T, FOUR> words[2];
        Words<typename Row<T>::Bf16, FOUR> half;
        float mi[FOUR], gi[FOUR];
        load(words[0], m, i, n - i), load(words[1], g, i, n - i);
        unpack(mi, words[0]), unpack(gi, words[1]);
#pragma unroll
        for (int j = 0; j < FOUR; j++) mi[j] = (keep * mi[j] + fresh * gi[j]) * scale[part_of(a, i + j)];
        pack(half, mi, DT_BF16);
        store(x, i, n - i, half);
    }
}

/* Bytes an element: reads 6 (w, x), writes 4 and 2 (mirror). */
template <typename T>
static __global__ void __launch_bounds__(MUON_THREADS)
    muon_update(Tensor w, Tensor mirror, Tensor x, int64_t n, float by, float decay, Rounding rounding,
                const Verdict *verdict) {
    const int64_t step = (int64_t)gridDim.x * MUON_THREADS * FOUR;
    if (verdict->skip) return;
    for (int64_t i = ((int64_t)blockIdx.x * MUON_THREADS + threadIdx.x) * FOUR; i < n; i += step) {
        Words<T, FOUR> words;
        Words<typename Row<T>::Bf16, FOUR> half;
        float wi[FOUR], xi[FOUR];
        load(words, w, i, n - i), load(half, x, i, n - i);
        unpack(wi, words), unpack(xi, half);
#pragma unroll
        for (int j = 0; j < FOUR; j++) wi[j] -= by * xi[j] + decay * wi[j];
        pack(words, wi, DT_F32);
        store(w, i, n - i, words, ONCE);
        if (mirror.p) store_mirror<T>(mirror, i, n - i, wi, rounding);
    }
}

static int64_t muon_count(const Muon *a) {
    const int64_t n = a->rows * a->parts * a->cols;
    CHECK(a->parts <= MUON_PARTS && n <= UINT32_MAX, "a weight of %lld numbers", (long long)n);
    return n;
}

static void cuda_muon_momentum(double *squares, float *m, const float *g, const Muon *a,
                               const Verdict *verdict) {
    const int64_t n = muon_count(a);
    const dim3 grid = grid_for(n, FOUR, MUON_THREADS);
    const bool wide = form_of(a->cols, {fp32(m), fp32(g)}, {}) != ODD;
    double *pieces = (double *)workspace(MUON_PARTS * grid.x * sizeof *pieces);
    launch(wide ? muon_momentum<float> : muon_momentum<void>, grid, MUON_THREADS, 0, pieces, fp32(m), fp32(g),
           n, *a, verdict);
    for (int p = 0; p < a->parts; p++)
        launch(sum_add_pieces, 1, SUM_THREADS, 0, squares + p, pieces + p * grid.x, (int)grid.x, false);
}

static void cuda_muon_direction(uint16_t *x, const float *m, const float *g, const double *squares,
                                const Muon *a, const Verdict *verdict) {
    const int64_t n = muon_count(a);
    const bool wide = form_of(a->cols, {fp32(m), fp32(g)}, {x}) != ODD;
    launch(wide ? muon_direction<float> : muon_direction<void>, grid_for(n, FOUR, MUON_THREADS), MUON_THREADS,
           0, tensor(x, DT_BF16), fp32(m), fp32(g), squares, n, *a, verdict);
}

static void cuda_muon_update(float *w, uint16_t *mirror, const uint16_t *x, const Muon *a,
                             const Verdict *verdict) {
    const int64_t n = muon_count(a);
    const bool wide = form_of(a->cols, {fp32(w)}, {mirror, x}) != ODD && a->first % FOUR == 0;
    launch(wide ? muon_update<float> : muon_update<void>, grid_for(n, FOUR, MUON_THREADS), MUON_THREADS, 0,
           fp32(w), tensor(mirror, DT_BF16), tensor((void *)x, DT_BF16), n, a->lr * a->size,
           a->lr * a->weight_decay, rounding_of(a), verdict);
}

/* ---- start ------------------------------------------------------------------------------------------------ */

/* Of the devices that CUDA_VISIBLE_DEVICES leaves, this rank's. */
static bool cuda_start(int threads, Err *e) {
    int devices = 0;
    (void)threads;
    if (gpu.started) return true;
    cudaError_t status = cudaGetDeviceCount(&devices);
    if (status == cudaSuccess && devices == 0) status = cudaErrorNoDevice;
    if (status == cudaSuccess) status = cudaSetDevice(gpu.device = ops_gpu() % devices);
    if (status == cudaSuccess) status = cudaGetDeviceProperties(&gpu.is, gpu.device);
    if (status != cudaSuccess) {
        cudaGetLastError();
        return err_set(e, "no GPU can be used: %s; %s", cudaGetErrorString(status), cuda_hint(status));
    }
    if (gpu.is.major < 8)
        return err_set(
            e, "%s has compute capability %d.%d; 8.0 or later is needed (train.device \"cpu\" needs none)",
            gpu.is.name, gpu.is.major, gpu.is.minor);
    CUDA(cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking));
    CUDA(cudaStreamCreateWithFlags(&gpu.copies, cudaStreamNonBlocking));
    CUDA(cudaEventCreate(&gpu.from));
    CUDA(cudaEventCreate(&gpu.to));
    for (cudaEvent_t *event : {&down.there[0], &down.there[1], &asked.there})
        CUDA(cudaEventCreateWithFlags(event, cudaEventDisableTiming));
    for (int i = 0; i < STAGES; i++) {
        CUDA(cudaEventCreateWithFlags(&up.arrived[i], cudaEventDisableTiming));
        CUDA(cudaEventCreateWithFlags(&up.placed[i], cudaEventDisableTiming));
    }
    CUDA(cudaMallocHost((void **)&up.host, (size_t)STAGES * STAGE));
    CUDA(cudaMallocHost((void **)&down.host, 2 * STAGE));
    CUDA(cudaMallocHost((void **)&asked.host, QUESTION));
    CUBLAS(cublasLtCreate(&gpu.blas));
    up.device = (char *)take((size_t)STAGES * STAGE, "upload ring", e);
    gpu.blas_scratch = (char *)take(LT_SCRATCH, "cuBLASLt's workspace", e);
    gpu.bits = (unsigned long long *)take(sizeof *gpu.bits, "a fingerprint", e);
    return gpu.started =
               up.device && gpu.blas_scratch && gpu.bits && workspace_grow(SCRATCH, e) && attention_start(e);
}

static void cuda_describe(char *buf, size_t n) {
    char memory[24];
    int runtime = 0, driver = 0;
    CUDA(cudaRuntimeGetVersion(&runtime));
    CUDA(cudaDriverGetVersion(&driver));
    snprintf(buf, n, "%s, %d multiprocessors, %s, sm_%d%d, CUDA %d.%d (driver: %d.%d)", gpu.is.name,
             gpu.is.multiProcessorCount, human_bytes((double)gpu.is.totalGlobalMem, memory), gpu.is.major,
             gpu.is.minor, runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
}

static bool cuda_has(Dtype compute) {
    return compute != DT_F8 || gpu.is.major * 10 + gpu.is.minor >= 89;
}

/* Dense, as data sheets say it; tf32 is half of bf16 and fp8 twice on all of these. Others: what a
 * multiprocessor of their generation does in a clock. */
static double cuda_peak_flops(Dtype compute) {
    static const struct {
        const char *name;
        double tensors, plain; /* bf16, fp32 */
    } known[] = {{"H100 PCIe", 756e12, 51e12}, {"H100", 989e12, 67e12},       {"H200", 989e12, 67e12},
                 {"GH200", 989e12, 67e12},     {"A100", 312e12, 19.5e12},     {"B200", 2250e12, 75e12},
                 {"L40S", 362e12, 91.6e12},    {"RTX 4090", 165e12, 82.6e12}, {"RTX 3090", 71e12, 35.6e12}};
    int kilohertz = 0;
    CUDA(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, gpu.device));
    const double clocks = 1e3 * kilohertz * gpu.is.multiProcessorCount;
    double tensors = clocks * (gpu.is.major >= 9 ? 4096 : gpu.is.minor ? 1024 : 2048);
    double plain = clocks * (gpu.is.major * 10 + gpu.is.minor == 80 ? 128 : 256);
    for (const auto &k : known)
        if (strstr(gpu.is.name, k.name)) {
            tensors = k.tensors, plain = k.plain;
            break;
        }
    switch (compute) {
    case DT_F32: return plain;
    case DT_TF32: return tensors / 2;
    case DT_F8: return 2 * tensors;
    default: return tensors;
    }
}

static size_t cuda_room(void) {
    size_t left, all;
    CUDA(cudaMemGetInfo(&left, &all));
    return left > CUDA_RESERVE_BYTES ? left - CUDA_RESERVE_BYTES : 0;
}

/* ---- the table -------------------------------------------------------------------------------------------- */

extern "C" const Ops cuda_ops = {
    .name = "cuda",
    .queues = true,
    .logits_bytes = CUDA_LOGITS_BYTES,
    .start = cuda_start,
    .describe = cuda_describe,
    .has = cuda_has,
    .stream = cuda_stream_dtype,
    .mirror = cuda_has_mirror,
    .peak_flops = cuda_peak_flops,
    .room = cuda_room,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .to_device = cuda_to_device,
    .to_host = cuda_to_host,
    .zero = cuda_zero,
    .copy = cuda_copy,
    .wait = cuda_wait,
    .queue = cuda_queue,
    .ask = cuda_ask,
    .answer = cuda_answer,
    .replay = cuda_replay,
    .replay_end = cuda_replay_end,
    .graph_free = cuda_graph_free,
    .linear_bytes = cuda_linear_total,
    .linear_create = cuda_linear_create,
    .linear_free = cuda_linear_free,
    .linear_refresh = cuda_linear_refresh,
    .linear_forward = cuda_linear_forward,
    .linear_backward = cuda_linear_backward,
    .norm_forward = cuda_norm_forward,
    .norm_backward = cuda_norm_backward,
    .attention_forward = cuda_attention_forward,
    .attention_backward = cuda_attention_backward,
    .attention_cached = cuda_attention_cached,
    .embed_forward = cuda_embed_forward,
    .embed_backward = cuda_embed_backward,
    .classifier = cuda_classifier,
    .classifier_part = cuda_classifier_part,
    .classifier_join = cuda_classifier_join,
    .checksum = cuda_checksum,
    .sum = cuda_sum,
    .sum_squares = cuda_sum_squares,
    .judge = cuda_judge,
    .adamw = cuda_adamw,
    .muon_momentum = cuda_muon_momentum,
    .muon_direction = cuda_muon_direction,
    .matmul = cuda_matmul,
    .muon_update = cuda_muon_update,
};
