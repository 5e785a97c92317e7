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
 * sums; random numbers; memory and queues; linear; norm; attention; embedding; classifier; optimizer; the table. */
extern "C" {
#include "ops.h"
}

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <ptx.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef __nv_bfloat16 bf16;

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

/* ---- errors and launching -------------------------------------------------------------------------------- */

/* A failed call ends the program: nothing it queued can be trusted. Allocation is the exception, see cuda_alloc. */
#define CUDA(call)                                                                            \
    do {                                                                                      \
        const cudaError_t status_ = (call);                                                   \
        if (status_ != cudaSuccess)                                                           \
            check_failed(__FILE__, __LINE__, #call, "%s", cudaGetErrorString(status_));       \
    } while (0)
#define CUBLAS(call)                                                                          \
    do {                                                                                      \
        const cublasStatus_t status_ = (call);                                                \
        if (status_ != CUBLAS_STATUS_SUCCESS)                                                 \
            check_failed(__FILE__, __LINE__, #call, "%s", cublasLtGetStatusString(status_));  \
    } while (0)

static cudaStream_t queue; /* all work */

template <typename... Params, typename... Args>
static void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Args... args) {
    cudaLaunchConfig_t c = {};
    c.gridDim = grid, c.blockDim = block, c.dynamicSmemBytes = shared, c.stream = queue;
    CUDA(cudaLaunchKernelEx(&c, kernel, static_cast<Params>(args)...));
}

template <typename T>
static __host__ __device__ T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

/* ---- vectors and sums ------------------------------------------------------------------------------------ */

/* 16 bytes of T as one load or store. */
template <typename T> struct alignas(16) Pack {
    enum { N = 16 / sizeof(T) };
    T at[N];
};

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

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

/* Each lane gets the sum over its warp. */
static __device__ inline float warp_sum(float x) {
    for (int d = WARP / 2; d > 0; d /= 2) x += __shfl_xor_sync(ALL_LANES, x, d);
    return x;
}
static __device__ inline float warp_max(float x) {
    for (int d = WARP / 2; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, d));
    return x;
}
