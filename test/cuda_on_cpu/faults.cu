/* faults.cu - kernels with planted mistakes: does the emulator see each, and say what it is? And their right twins: does
 * it leave them alone? `faults` runs all, each in a process of its own; `faults NAME` one, unguarded. */
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 100 };
static cudaStream_t queue, other;

template <typename... Params, typename... Args>
static cudaError_t launch_with(size_t shared, dim3 grid, dim3 block, void (*kernel)(Params...),
                               Args... args) {
    cudaLaunchConfig_t c = {};
    c.gridDim = grid, c.blockDim = block, c.dynamicSmemBytes = shared, c.stream = queue;
    return cudaLaunchKernelEx(&c, kernel, static_cast<Params>(args)...);
}
template <typename K, typename... Args> static void run(K kernel, int blocks, int threads, Args... args) {
    if (launch_with(256, blocks, threads, kernel, args...) != cudaSuccess) fprintf(stderr, "not launched\n");
    cudaStreamSynchronize(queue);
}
template <typename T> static T *room(int n) {
    T *p = nullptr;
    cudaMalloc(&p, (size_t)n * sizeof *p);
    cudaMemset(p, 0, (size_t)n * sizeof *p);
    return p;
}
/* What a test of the host's side found wrong. */
static void must(bool good, const char *what) {
    if (!good) fprintf(stderr, "wrong: %s\n", what);
}

/* ---- bounds ---------------------------------------------------------------------------------------------- */

static __global__ void add_one(float *to, const float *from, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) to[i] = from[i] + 1;
}
static void in_bounds() {
    run(add_one, 4, 32, room<float>(N), room<float>(N), N);
}
static void reads_past() {
    run(add_one, 4, 32, room<float>(N + 1), room<float>(N), N + 1);
}
static void writes_past() {
    run(add_one, 4, 32, room<float>(N), room<float>(N + 1), N + 1);
}
static void reads_before() {
    run(add_one, 4, 32, room<float>(N), room<float>(N) - 1, N);
}
static void reads_freed() {
    float *p = room<float>(N);
    cudaFree(p);
    run(add_one, 4, 32, room<float>(N), p, N);
}
static void reads_host() {
    float *p = (float *)calloc(N, sizeof *p);
    run(add_one, 4, 32, room<float>(N), p, N);
}
static void host_reads() {
    volatile float *p = room<float>(N);
    fprintf(stderr, "read %g\n", (double)p[3]);
}

static __global__ void wide(float4 *to, const float *from) {
    to[threadIdx.x] = *(const float4 *)(from + 4 * threadIdx.x);
}
static void aligned() {
    run(wide, 1, 8, room<float4>(8), room<float>(64) + 4);
}
static void misaligned() {
    run(wide, 1, 8, room<float4>(8), room<float>(64) + 2);
}

static __global__ void local_array(float *to, int n) {
    float x[4] = {};
    for (int i = 0; i < n; i++) x[i] += (float)i;
    to[threadIdx.x] = x[0] + x[3];
}
static void local_in_bounds() {
    run(local_array, 1, 32, room<float>(32), 4);
}
static void local_past() {
    run(local_array, 1, 32, room<float>(32), 5);
}

static __global__ void dynamic(float *to, int n) {
    DYNAMIC_SHARED(bytes);
    float *x = (float *)bytes;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) x[i] = (float)i;
    __syncthreads();
    to[blockIdx.x * blockDim.x + threadIdx.x] = x[threadIdx.x];
}
static void dynamic_in_bounds() {
    run(dynamic, 2, 32, room<float>(64), 64);
}
static void dynamic_past() {
    run(dynamic, 1, 32, room<float>(32), 65);
}

/* ---- barriers -------------------------------------------------------------------------------------------- */

enum Barrier { BARRIER_NONE, BARRIER_WARP, BARRIER_BLOCK };
static __device__ void barrier(int kind) {
    if (kind == BARRIER_WARP) __syncwarp();
    if (kind == BARRIER_BLOCK) __syncthreads();
}

/* Each thread takes what the one `by` further wrote, twice over. */
static __global__ void rotate(float *to, int by, int before, int after) {
    __shared__ float x[128];
    float sum = 0;
    x[threadIdx.x] = 0;
    __syncthreads();
    for (int round = 0; round < 2; round++) {
        x[threadIdx.x] = (float)threadIdx.x;
        barrier(before);
        sum += x[(threadIdx.x + (unsigned)by) % blockDim.x];
        barrier(after);
    }
    to[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
static void barriers() {
    run(rotate, 3, 128, room<float>(128 * 3), 40, BARRIER_BLOCK, BARRIER_BLOCK);
}
static void warp_barriers() {
    run(rotate, 1, 32, room<float>(32), 5, BARRIER_WARP, BARRIER_WARP);
}
static void no_barrier_before() {
    run(rotate, 1, 128, room<float>(128), 40, BARRIER_NONE, BARRIER_BLOCK);
}
static void no_barrier_after() {
    run(rotate, 1, 128, room<float>(128), 40, BARRIER_BLOCK, BARRIER_NONE);
}
static void no_warp_barrier() {
    run(rotate, 1, 32, room<float>(32), 5, BARRIER_NONE, BARRIER_WARP);
}
static void warp_barrier_for_a_block() {
    run(rotate, 1, 128, room<float>(128), 40, BARRIER_WARP, BARRIER_BLOCK);
}

static __global__ void unwritten(float *to) {
    __shared__ float x[64];
    if (threadIdx.x > 0) x[threadIdx.x] = 1;
    __syncthreads();
    to[threadIdx.x] = x[threadIdx.x];
}
static void reads_unwritten() {
    run(unwritten, 2, 64, room<float>(64));
}

static __global__ void left_behind(float *to,
                                   int write) { /* shared memory holds nothing over from the last block */
    DYNAMIC_SHARED(bytes);
    float *x = (float *)bytes;
    if ((int)blockIdx.x <= write) x[threadIdx.x] = 1;
    to[blockIdx.x * blockDim.x + threadIdx.x] = x[threadIdx.x];
}
static void reads_left_behind() {
    run(left_behind, 3, 32, room<float>(96), 1);
}

static __global__ void leaves(float *to) { /* threads that have ended are not waited for */
    if (threadIdx.x >= 40) return;
    __syncthreads();
    to[threadIdx.x] = 1;
}
static void some_leave() {
    run(leaves, 1, 128, room<float>(128));
}

static __global__ void two_barriers(int *to) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        to[threadIdx.x] = __syncthreads_or(0);
}
static void other_barrier() {
    run(two_barriers, 1, 64, room<int>(64));
}

/* ---- blocks ---------------------------------------------------------------------------------------------- */

static __global__ void blocks_share(float *x, int apart) {
    x[threadIdx.x + blockIdx.x * (unsigned)apart] = 1;
}
static void blocks_apart() {
    run(blocks_share, 4, 32, room<float>(128), 32);
}
static void blocks_collide() {
    run(blocks_share, 4, 32, room<float>(128), 31);
}

static __global__ void neighbours(float *x) {
    x[blockIdx.x] = x[blockIdx.x + 1] + 1;
}
static void blocks_read_others() {
    run(neighbours, 4, 1, room<float>(5));
}

static __global__ void last_block(float *part, unsigned *arrived, float *sum) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        part[blockIdx.x] = 1;
        __threadfence();
        last = atomicAdd(arrived, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x) return;
    for (unsigned i = 0; i < gridDim.x; i++) *sum += part[i];
}
static void last_block_sums() {
    run(last_block, 5, 32, room<float>(5), room<unsigned>(1), room<float>(1));
}

/* ---- lanes ----------------------------------------------------------------------------------------------- */

static __global__ void halves(int *to, unsigned low, unsigned high) {
    const unsigned mask = threadIdx.x < 16 ? low : high;
    to[threadIdx.x] = __shfl_xor_sync(mask, (int)threadIdx.x, 1);
}
static void half_warps() {
    run(halves, 1, 32, room<int>(32), 0xffffu, 0xffff0000u);
}
static void mask_without_me() {
    run(halves, 1, 32, room<int>(32), 0xffffu, 0xffffu);
}
static void mask_of_all_in_a_branch() {
    run(halves, 1, 32, room<int>(32), 0xffffu, 0xffffffffu);
}

static __global__ void early_end(int *to) {
    if (threadIdx.x == 7) return;
    to[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 1);
}
static void lane_has_ended() {
    run(early_end, 1, 32, room<int>(32));
}

static __global__ void two_calls(int *to) {
    if (threadIdx.x < 16)
        to[threadIdx.x] = __any_sync(0xffffffffu, 1);
    else
        to[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
static void other_call() {
    run(two_calls, 1, 32, room<int>(32));
}

static __global__ void from_outside(int *to) {
    if (threadIdx.x < 16) to[threadIdx.x] = __shfl_sync(0xffffu, (int)threadIdx.x, 20);
}
static void lane_outside_mask() {
    run(from_outside, 1, 32, room<int>(32));
}

static __global__ void crossed(int *to) {
    if (threadIdx.x == 0) __syncthreads();
    __syncwarp();
    if (threadIdx.x != 0) __syncthreads();
    to[threadIdx.x] = 1;
}
static void waits_forever() {
    run(crossed, 1, 32, room<int>(32));
}

static __global__ void all_kinds(int *to) {
    const int i = (int)threadIdx.x;
    int good = __shfl_sync(~0u, i, 3) == 3 && __shfl_up_sync(~0u, i, 2) == (i < 2 ? i : i - 2);
    good &=
        __shfl_down_sync(~0u, i, 4, 8) == (i % 8 < 4 ? i + 4 : i) && __shfl_xor_sync(~0u, i, 16) == (i ^ 16);
    good &= __ballot_sync(~0u, i < 5) == 31u && __any_sync(~0u, i == 9) && !__all_sync(~0u, i != 9);
    good &= __reduce_add_sync(~0u, 1u) == 32u && __reduce_max_sync(~0u, i) == 31;
    to[i] = good;
}
static void shuffles() {
    int *p = room<int>(32), got[32], good = 0;
    run(all_kinds, 1, 32, p);
    cudaMemcpy(got, p, sizeof got, cudaMemcpyDeviceToHost);
    for (int i = 0; i < 32; i++) good += got[i];
    must(good == 32, "a shuffle or a vote");
}

/* ---- launches, queues, the library ----------------------------------------------------------------------- */

static void limits() {
    float *p = room<float>(32);
    must(launch_with(0, 1, 1025, dynamic, p, 0) == cudaErrorInvalidConfiguration, "1025 threads");
    must(launch_with(0, 0, 32, dynamic, p, 0) == cudaErrorInvalidConfiguration, "no blocks");
    must(launch_with(0, dim3(1, 65536), 32, dynamic, p, 0) == cudaErrorInvalidConfiguration,
         "65536 rows of blocks");
    must(launch_with(48 * 1024 + 1, 1, 32, dynamic, p, 0) == cudaErrorInvalidValue, "more than 48 KiB");
    must(cudaFuncSetAttribute(dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024) ==
                 cudaSuccess &&
             launch_with(227 * 1024, 1, 32, dynamic, p, 32) == cudaSuccess,
         "227 KiB, asked for");
    must(cudaFuncSetAttribute(dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024) !=
             cudaSuccess,
         "228 KiB");
}

static void copies_wait() {
    float *d = room<float>(1), *e = room<float>(1), *h = nullptr;
    cudaEvent_t done;
    cudaMallocHost(&h, 2 * sizeof *h), cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
    h[0] = 1, h[1] = -1;
    cudaMemcpyAsync(d, h, sizeof *h, cudaMemcpyHostToDevice, queue);
    launch_with(0, 1, 1, add_one, d, d, 1);
    cudaMemcpyAsync(&h[1], d, sizeof *h, cudaMemcpyDeviceToHost, queue);
    must(h[1] == -1, "a copy to the host came before anyone waited for it");
    cudaStreamSynchronize(queue);
    must(h[1] == 2, "a copy to the host");
    cudaMemcpyAsync(d, h, sizeof *h, cudaMemcpyHostToDevice, queue);
    h[0] = 9; /* too early */
    cudaStreamSynchronize(queue);
    cudaMemcpy(&h[1], d, sizeof *h, cudaMemcpyDeviceToHost);
    must(h[1] == 9, "a copy from the host came before it must");
    cudaMemcpyAsync(d, h, sizeof *h, cudaMemcpyHostToDevice, other); /* 9 + 1, but nobody waits for `other` */
    h[0] = 4, cudaEventRecord(done, other);
    launch_with(0, 1, 1, add_one, e, d, 1);
    cudaStreamSynchronize(queue), cudaMemcpy(&h[1], e, sizeof *h, cudaMemcpyDeviceToHost);
    must(h[1] == 10, "a copy on another queue");
    cudaStreamWaitEvent(queue, done);
    launch_with(0, 1, 1, add_one, e, d, 1);
    cudaStreamSynchronize(queue), cudaMemcpy(&h[1], e, sizeof *h, cudaMemcpyDeviceToHost);
    must(h[1] == 5, "an event");
}

static void graphs() {
    float *d = room<float>(1), got = 0;
    cudaGraph_t g;
    cudaGraphExec_t x;
    void *p;
    must(cudaStreamBeginCapture(queue, cudaStreamCaptureModeGlobal) == cudaSuccess, "a capture");
    launch_with(0, 1, 1, add_one, d, d, 1);
    must(cudaStreamEndCapture(queue, &g) == cudaSuccess && cudaGraphInstantiate(&x, g) == cudaSuccess,
         "a graph");
    for (int i = 0; i < 3; i++) cudaGraphLaunch(x, queue);
    cudaStreamSynchronize(queue), cudaMemcpy(&got, d, sizeof got, cudaMemcpyDeviceToHost);
    must(got == 3, "three launches of a graph");
    cudaStreamBeginCapture(queue, cudaStreamCaptureModeGlobal);
    must(cudaMalloc(&p, 8) == cudaErrorStreamCaptureUnsupported, "an allocation in a capture");
    must(cudaStreamEndCapture(queue, &g) == cudaErrorStreamCaptureInvalidated, "the broken capture's end");
}

/* [2, 3] of ones times [3, 4] of ones; a: how many numbers A has room for. */
static cublasStatus_t product(int64_t ld, int a) {
    cublasLtHandle_t h;
    cublasLtMatmulDesc_t d;
    cublasLtMatrixLayout_t A, B, C;
    const float one = 1, zero = 0;
    cublasLtCreate(&h), cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&A, CUDA_R_32F, 2, 3, ld), cublasLtMatrixLayoutCreate(&B, CUDA_R_32F, 3, 4, 3);
    cublasLtMatrixLayoutCreate(&C, CUDA_R_32F, 2, 4, 2);
    float *c = room<float>(8);
    const cublasStatus_t s = cublasLtMatmul(h, d, &one, room<float>(a), A, room<float>(12), B, &zero, c, C, c,
                                            C, nullptr, nullptr, 0, queue);
    cudaStreamSynchronize(queue);
    return s;
}
static void products() {
    must(product(2, 6) == CUBLAS_STATUS_SUCCESS, "a product");
    must(product(1, 6) == CUBLAS_STATUS_INVALID_VALUE, "rows longer than their distance");
}
static void product_past() {
    product(2, 5);
}

/* ---- all of them ----------------------------------------------------------------------------------------- */

static const struct Fault {
    const char *name;
    void (*run)();
    const char *says; /* NULL: nothing, and it ends well */
} faults[] = {
#define RIGHT(f) \
    { #f, f, nullptr }
#define WRONG(f, says) \
    { #f, f, says }
    RIGHT(in_bounds),
    WRONG(reads_past,
          "reads 4 bytes at 0 bytes past the end of allocation 1 (400 bytes), in add_one, block (3,0,0), "
          "thread (4,0,0), at faults.cu:"),
    WRONG(writes_past,
          "writes 4 bytes at 0 bytes past the end of allocation 2 (400 bytes), in add_one, block (3,0,0)"),
    WRONG(reads_before,
          "reads 4 bytes at 4 bytes before all allocations, in add_one, block (0,0,0), thread (0,0,0)"),
    WRONG(reads_freed, " of the freed allocation 1 (400 bytes)"),
    WRONG(reads_host, "which is not device memory, in add_one"),
    WRONG(host_reads, "the host accesses device memory, byte 12 of allocation 1 (400 bytes)"),
    RIGHT(aligned),
    WRONG(misaligned, "undefined: misaligned"),
    RIGHT(local_in_bounds),
    WRONG(local_past, "undefined: misaligned, out of an array's bounds"),
    RIGHT(dynamic_in_bounds),
    WRONG(dynamic_past, "writes 4 bytes at byte 256 of the 256 bytes of dynamic shared memory"),
    RIGHT(barriers),
    RIGHT(warp_barriers),
    WRONG(no_barrier_before, "without a barrier between, in rotate"),
    WRONG(no_barrier_after, "without a barrier between, in rotate"),
    WRONG(no_warp_barrier, "without a barrier between, in rotate"),
    WRONG(warp_barrier_for_a_block, "without a barrier between, in rotate"),
    WRONG(reads_unwritten, "reads shared memory that nothing was written to, in unwritten, block ("),
    WRONG(reads_left_behind,
          "reads shared memory that nothing was written to, in left_behind, block (2,0,0)"),
    RIGHT(some_leave),
    WRONG(other_barrier, "while other threads are at __syncthreads"),
    RIGHT(blocks_apart),
    WRONG(blocks_collide, "race: overwrites byte "),
    WRONG(blocks_read_others, "by another block of the same launch"),
    RIGHT(last_block_sums),
    RIGHT(half_warps),
    WRONG(mask_without_me, "mask 0x0000ffff, which does not name the calling lane"),
    WRONG(mask_of_all_in_a_branch, "with mask 0xffffffff"),
    WRONG(lane_has_ended, "ended"),
    WRONG(other_call, "while other lanes of it are at __"),
    WRONG(lane_outside_mask, "lane 0 takes a value from lane 20, which mask 0x0000ffff does not name"),
    WRONG(waits_forever,
          "deadlock: it waits at __syncwarp with mask 0xffffffff for lane 0, which is at __syncthreads"),
    RIGHT(shuffles),
    RIGHT(limits),
    RIGHT(copies_wait),
    RIGHT(graphs),
    RIGHT(products),
    WRONG(product_past, "cublasLtMatmul reads, of A, 24 bytes at byte 0 of allocation"),
};

static void start(const Fault &f) {
    cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking),
        cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    f.run();
    cudaDeviceSynchronize();
}

/* Does a process of its own say what it should on stderr? */
static bool said(const Fault &f) {
    char text[4096];
    int fds[2], status = 0;
    size_t n = 0;
    if (pipe(fds)) return false;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], 2), close(fds[0]), close(fds[1]);
        start(f);
        _exit(0);
    }
    close(fds[1]);
    for (ssize_t got; (got = read(fds[0], text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    close(fds[0]), text[n] = 0;
    waitpid(child, &status, 0);
    const bool ended_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const bool good = f.says ? !ended_well && strstr(text, f.says) : ended_well && !n;
    printf("%s  %s%s%s", good ? "ok    " : "FAILED", f.name, n ? ": " : "\n", text);
    return good;
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0;
    for (const Fault &f : faults) {
        if (argc > 1 && strcmp(argv[1], f.name)) continue;
        if (argc > 1)
            start(f);
        else
            (said(f) ? passed : failed)++;
    }
    if (argc == 1) printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
