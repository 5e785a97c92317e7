/* cuda_runtime.cpp - the runtime's interface: devices, memory, streams, events, graphs.
 *
 * What is queued runs as late as it may: when somebody waits for it. So a host that reads too early reads old bytes,
 * and one that writes too early has its new bytes copied. CUDA_ON_CPU_EARLY=1 runs copies (on streams other than the
 * first) at once instead, which shows the opposite mistakes. */
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

enum : size_t { DEVICE_MEMORY = (size_t)4 << 30 };
enum { PROCESSORS = 5, THREADS_PER_PROCESSOR = 2048, MAX_SHARED = 227 << 10, PLAIN_SHARED = 48 << 10 };

uint64_t seed_now() {
    static const char *given = getenv("CUDA_ON_CPU_SEED");
    static const uint64_t seed = given ? strtoull(given, nullptr, 0) : 1;
    return seed;
}

/* ---- errors and devices ---------------------------------------------------------------------------------- */

static cudaError_t last_error;
static cudaError_t fail(cudaError_t e) {
    return last_error = e;
}
cudaError_t cudaGetLastError() {
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError() {
    return last_error;
}

const char *cudaGetErrorName(cudaError_t e) {
#define NAME(e) \
    { e, #e }
    static const std::map<cudaError_t, const char *> names = {NAME(cudaSuccess),
                                                              NAME(cudaErrorInvalidValue),
                                                              NAME(cudaErrorMemoryAllocation),
                                                              NAME(cudaErrorInvalidConfiguration),
                                                              NAME(cudaErrorNoDevice),
                                                              NAME(cudaErrorInvalidDevice),
                                                              NAME(cudaErrorNotReady),
                                                              NAME(cudaErrorStreamCaptureUnsupported),
                                                              NAME(cudaErrorStreamCaptureInvalidated)};
    const auto i = names.find(e);
    if (i != names.end()) return i->second;
    return "an unknown error";
}
const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? "out of memory" : cudaGetErrorName(e);
}

/* CUDA_ON_CPU_DEVICES=0: as on a machine without a GPU. */
cudaError_t cudaGetDeviceCount(int *n) {
    const char *given = getenv("CUDA_ON_CPU_DEVICES");
    *n = given ? atoi(given) : 1;
    return *n ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
    int n;
    return cudaGetDeviceCount(&n)      ? cudaErrorNoDevice
           : device >= 0 && device < n ? cudaSuccess
                                       : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (device != 0) return fail(cudaErrorInvalidDevice);
    *p = {};
    snprintf(p->name, sizeof p->name, "CUDA on CPU");
    p->totalGlobalMem = DEVICE_MEMORY;
    p->sharedMemPerBlock = PLAIN_SHARED, p->sharedMemPerBlockOptin = MAX_SHARED;
    p->sharedMemPerMultiprocessor = MAX_SHARED + 1024;
    p->major = 9, p->minor = 0, p->multiProcessorCount = PROCESSORS, p->l2CacheSize = 50 << 20;
    p->memoryBusWidth = 6144, p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->maxThreadsPerBlock = 1024, p->maxThreadsPerMultiProcessor = THREADS_PER_PROCESSOR;
    p->warpSize = 32, p->asyncEngineCount = 3;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr a, int device) {
    if (device != 0) return fail(cudaErrorInvalidDevice);
    switch (a) {
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = PLAIN_SHARED; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrClockRate: *value = 1980000; break;
    case cudaDevAttrMultiProcessorCount: *value = PROCESSORS; break;
    case cudaDevAttrMemoryClockRate: *value = 3201000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = 6144; break;
    case cudaDevAttrL2CacheSize: *value = 50 << 20; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = THREADS_PER_PROCESSOR; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = MAX_SHARED + 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = MAX_SHARED; break;
    }
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v) {
    int n;
    *v = cudaGetDeviceCount(&n) ? 0 : CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v) {
    *v = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- streams --------------------------------------------------------------------------------------------- */

typedef std::function<void()> Work;

struct CudaStream {
    std::deque<Work> queue;
    CudaGraph *capture;
    bool blocking; /* does the default stream wait for it? */
    bool first;
};
struct CudaEvent {
    uint64_t recorded, reached; /* the number of the last record that was queued, that was run */
    CudaStream *stream;
    CudaGraph *capture;
    double time;
};
struct CudaGraph {
    std::vector<Work> work;
    bool broken;
};
struct CudaGraphExec {
    std::vector<Work> work;
};

static std::vector<CudaStream *> streams;
static int captures; /* under way */

static bool step(CudaStream *s) {
    if (s->queue.empty()) return false;
    const Work w = std::move(s->queue.front());
    s->queue.pop_front();
    w();
    return true;
}
static void run_all(CudaStream *s) {
    DeviceOpen open;
    while (step(s)) continue;
}
static void run_blocking_streams() {
    for (CudaStream *s : streams)
        if (s->blocking) run_all(s);
}

/* What would wait, or allocate, may not happen while a stream is captured. */
static bool forbidden() {
    for (CudaStream *s : streams)
        if (s->capture) s->capture->broken = true;
    return captures != 0;
}

static cudaError_t put(CudaStream *s, Work w, bool copy) {
    static const bool early = getenv("CUDA_ON_CPU_EARLY") != nullptr;
    if (!s) { /* the default stream: others wait for it, it for others */
        run_blocking_streams();
        w();
    } else if (s->capture) {
        s->capture->work.push_back(std::move(w));
    } else {
        s->queue.push_back(std::move(w));
        if (early && copy && !s->first) run_all(s);
    }
    return cudaSuccess;
}
cudaError_t stream_put(cudaStream_t s, Work w) {
    return put(s, std::move(w), false);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    *s = new CudaStream{{}, nullptr, !(flags & cudaStreamNonBlocking), streams.empty()};
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) {
    return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int) {
    return cudaStreamCreateWithFlags(s, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    LOCKED;
    run_all(s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (long)i);
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    if (s)
        run_all(s);
    else
        run_blocking_streams();
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    for (CudaStream *s : streams) run_all(s);
    return cudaSuccess;
}
cudaError_t cudaDeviceReset() {
    return cudaDeviceSynchronize();
}
/* Who asks again and again sees it advance. */
cudaError_t cudaStreamQuery(cudaStream_t s) {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    DeviceOpen open;
    return s && step(s) ? cudaErrorNotReady : cudaSuccess;
}

/* ---- events ---------------------------------------------------------------------------------------------- */

static double seconds() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void run_until(CudaEvent *e, uint64_t record) {
    DeviceOpen open;
    while (e->reached < record)
        if (!step(e->stream)) cuda_fault("an event waits for work that is waiting for it");
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    *e = new CudaEvent();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) {
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    LOCKED;
    if (e->stream && !e->capture) run_until(e, e->recorded);
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    LOCKED;
    e->capture = s ? s->capture : nullptr;
    if (e->capture) return cudaSuccess; /* a captured graph runs in the order of its calls */
    e->stream = s;
    const uint64_t record = ++e->recorded;
    return put(
        s, [e, record] { e->reached = record, e->time = seconds(); }, false);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    LOCKED;
    if (e->capture) { /* the waiting stream joins the capture */
        if (s && !s->capture) s->capture = e->capture;
        return cudaSuccess;
    }
    if (s && s->capture) return s->capture->broken = true, fail(cudaErrorStreamCaptureUnsupported);
    const uint64_t record = e->recorded;
    return put(
        s, [e, record] { run_until(e, record); }, false);
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    LOCKED;
    if (e->capture) return fail(cudaErrorStreamCaptureUnsupported);
    run_until(e, e->recorded);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    LOCKED;
    if (e->reached >= e->recorded) return cudaSuccess;
    DeviceOpen open;
    step(e->stream);
    return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    LOCKED;
    if (from->reached < from->recorded || to->reached < to->recorded) return cudaErrorNotReady;
    *ms = (float)(1000 * (to->time - from->time));
    return cudaSuccess;
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

static std::map<void *, size_t> taken;
static size_t taken_bytes;

cudaError_t cudaMalloc(void **p, size_t bytes) {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    *p = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (bytes > DEVICE_MEMORY - taken_bytes || !(*p = device_take(bytes)))
        return fail(cudaErrorMemoryAllocation);
    taken[*p] = bytes, taken_bytes += bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    LOCKED;
    if (!p) return cudaSuccess;
    if (cudaDeviceSynchronize() != cudaSuccess) return last_error;
    if (!taken.count(p) || !device_give(p)) return fail(cudaErrorInvalidValue);
    taken_bytes -= taken[p], taken.erase(p);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    if (!(*p = malloc(bytes))) return fail(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    host_pin(*p, bytes);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t bytes) {
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}
cudaError_t cudaFreeHost(void *p) {
    LOCKED;
    if (!p) return cudaSuccess;
    if (cudaDeviceSynchronize() != cudaSuccess) return last_error;
    if (!host_unpin(p)) return fail(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    LOCKED;
    *total = DEVICE_MEMORY, *free = DEVICE_MEMORY - taken_bytes;
    return cudaSuccess;
}

static bool kind_fits(const void *to, const void *from, cudaMemcpyKind kind) {
    const bool d_to = device_owns(to), d_from = device_owns(from);
    return kind == cudaMemcpyDefault || (kind == cudaMemcpyHostToDevice && d_to && !d_from) ||
           (kind == cudaMemcpyDeviceToHost && !d_to && d_from) ||
           (kind == cudaMemcpyDeviceToDevice && d_to && d_from) ||
           (kind == cudaMemcpyHostToHost && !d_to && !d_from);
}

static void copy_now(void *to, const void *from, size_t bytes) {
    DeviceOpen open;
    if (device_owns(to)) device_check(to, bytes, "a copy writes");
    if (device_owns(from)) device_check(from, bytes, "a copy reads");
    memmove(to, from, bytes);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    if (!kind_fits(to, from, kind)) return fail(cudaErrorInvalidValue);
    run_blocking_streams();
    copy_now(to, from, bytes);
    return cudaSuccess;
}

/* Of memory that is not pinned, the host's part is over when the call returns. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s) {
    LOCKED;
    if (!kind_fits(to, from, kind)) return fail(cudaErrorInvalidValue);
    const bool captured = s && s->capture;
    if (!captured && !device_owns(from) && !host_pinned(from, bytes)) {
        auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
        return put(
            s, [=] { copy_now(to, staged->data(), bytes); }, true);
    }
    const cudaError_t e = put(
        s, [=] { copy_now(to, from, bytes); }, true);
    if (!captured && s && !device_owns(to) && !host_pinned(to, bytes)) run_all(s);
    return e;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s) {
    LOCKED;
    if (bytes && !device_owns(p)) return fail(cudaErrorInvalidValue);
    return put(
        s,
        [=] {
            DeviceOpen open;
            device_check(p, bytes, "a memset writes");
            if (bytes) memset(p, value, bytes);
        },
        true);
}
cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    LOCKED;
    if (forbidden()) return fail(cudaErrorStreamCaptureUnsupported);
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

/* ---- graphs ---------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    LOCKED;
    if (!s || s->capture) return fail(cudaErrorStreamCaptureUnsupported);
    s->capture = new CudaGraph();
    captures++;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
    LOCKED;
    if (!s || !s->capture) return fail(cudaErrorInvalidValue);
    *g = s->capture;
    for (CudaStream *other : streams)
        if (other->capture == *g) other->capture = nullptr;
    captures--;
    if (!(*g)->broken) return cudaSuccess;
    delete *g;
    *g = nullptr;
    return fail(cudaErrorStreamCaptureInvalidated);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status) {
    *status = s && s->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long) {
    *x = new CudaGraphExec{g->work};
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s) {
    LOCKED;
    return put(
        s,
        [x] {
            for (const Work &w : x->work) w();
        },
        false);
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) {
    LOCKED;
    for (CudaStream *s : streams) run_all(s);
    delete x;
    return cudaSuccess;
}

/* ---- kernels --------------------------------------------------------------------------------------------- */

static std::map<const void *, size_t> shared_limits;

cudaError_t cuda_set_attribute(const void *kernel, cudaFuncAttribute a, int value) {
    LOCKED;
    if (a != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || value > MAX_SHARED) return fail(cudaErrorInvalidValue);
    shared_limits[kernel] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cuda_blocks_per_processor(int *blocks, const void *, int threads, size_t shared) {
    const int by_threads = THREADS_PER_PROCESSOR / threads,
              by_shared = (int)((MAX_SHARED + 1024) / (shared + 1024));
    *blocks = min(min(by_threads, by_shared), 32);
    return cudaSuccess;
}

static bool good_shape(const cudaLaunchConfig_t *c) {
    const dim3 g = c->gridDim, b = c->blockDim;
    return b.x && b.y && b.z <= 64 && b.z && b.x <= 1024 && b.y <= 1024 && (size_t)b.x * b.y * b.z <= 1024 &&
           g.x && g.y && g.z && g.x <= 0x7fffffff && g.y <= 65535 && g.z <= 65535;
}

cudaError_t cuda_launch(const cudaLaunchConfig_t *c, const void *kernel, void *call, size_t bytes,
                        void (*thread)(void *), void (*drop)(void *)) {
    LOCKED;
    const std::shared_ptr<void> args(call, drop);
    const size_t limit = shared_limits.count(kernel) ? shared_limits[kernel] : (size_t)PLAIN_SHARED;
    if (!good_shape(c)) return fail(cudaErrorInvalidConfiguration);
    if (c->dynamicSmemBytes > limit) return fail(cudaErrorInvalidValue);
    const Launch l = {kernel, call, bytes, c->dynamicSmemBytes, thread, c->gridDim, c->blockDim};
    return put(
        c->stream, [l, args] { kernel_run(l); }, false);
}
