/* comm_nccl.c - floor 1: a GPU's memory, over NCCL. Built where there are CUDA, MPI and NCCL.
 *
 * Everything is queued: NOW on the queue of ops, BEHIND on a stream beside it, each lane on two streams of its own, one
 * for each direction, so that no send waits for a receive that was queued after it. Events keep the order between these
 * and the queue. A communicator serves one group and one stream: two kernels of one communicator never wait for each
 * other's place in line. Those of groups are made when they are first asked for, since each costs memory. */
#include "comm_wire.h"
#include "trace.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A stretch of a stream between two events, on its way. */
typedef struct Mark {
    cudaEvent_t begin, end;
    const char *lane, *name;
    bool waits; /* it stands on the queue of ops, which does nothing meanwhile */
} Mark;

/* A lane from this stage to the next one, or to this stage from the one before. */
typedef struct Edge {
    ncclComm_t comm; /* of two: who sends, who receives */
    cudaStream_t stream;
} Edge;

typedef struct Nccl {
    const Job *job;
    Host *host;
    Seat seat[N_GROUPS];
    int device;
    cudaStream_t queue, behind;
    ncclComm_t comm[2][N_GROUPS]; /* by When */
    Edge out[N_LANES], in[N_LANES];
    cudaEvent_t fence;

    pthread_mutex_t lock; /* of the marks and of which communicators there are: the watchdog looks at them */
    Mark *marks;          /* a ring: `n` on their way from `first` on; all of [cap] have their events */
    int first, n, cap;
    double exposed;
    bool traced;
    cudaEvent_t zero; /* when this happened on the device, now_seconds() was zero_at */
    double zero_at;
} Nccl;

/* ---- calls ----------------------------------------------------------------------------------------------- */

static void failed(int line, const char *call, const char *why, const char *more, const char *hint) {
    Err e = {0};
    err_set(&e, "%s:%d: %.*s: %s%s%s; %s", __FILE__, line, (int)strcspn(call, "("), call, why,
            *more ? ": " : "", more, hint);
    comm_fail(&e);
    CHECK(false, "%s", e.msg);
}

static void check_cuda(cudaError_t status, const char *call, int line) {
    if (status != cudaSuccess)
        failed(line, call, cudaGetErrorString(status), "",
               "see dmesg and nvidia-smi; the fault may be an earlier kernel's");
}

static void check_nccl(ncclResult_t status, const char *call, int line) {
    if (status == ncclSuccess) return;
    failed(line, call, ncclGetErrorString(status), ncclGetLastError(NULL),
           status == ncclSystemError || status == ncclRemoteError
               ? "NCCL_DEBUG=INFO says more; NCCL_SOCKET_IFNAME names the network to use"
               : "NCCL_DEBUG=INFO says more; parallel.comm \"mpi\" goes without NCCL");
}
#define CUDA(call) check_cuda(call, #call, __LINE__)
#define NCCL(call) check_nccl(call, #call, __LINE__)

/* What is queued on `later` from here on comes after all that is queued on `earlier`. */
static void order(Nccl *c, cudaStream_t earlier, cudaStream_t later) {
    CUDA(cudaEventRecord(c->fence, earlier));
    CUDA(cudaStreamWaitEvent(later, c->fence, 0));
}

/* ---- what took how long ---------------------------------------------------------------------------------- */

static bool happened(cudaEvent_t e) {
    const cudaError_t status = cudaEventQuery(e);
    if (status == cudaErrorNotReady) cudaGetLastError(); /* no fault, but it would be taken for one */
    if (status != cudaErrorNotReady) CUDA(status);
    return status == cudaSuccess;
}

static double seconds_between(cudaEvent_t from, cudaEvent_t to) {
    float ms = 0;
    CUDA(cudaEventElapsedTime(&ms, from, to));
    return 1e-3 * ms;
}

/* Takes in the marks that are over. */
static void settle(Nccl *c) {
    while (c->n > 0) {
        const Mark *m = &c->marks[c->first];
        if (!happened(m->end)) return;
        const double took = seconds_between(m->begin, m->end);
        if (m->waits) c->exposed += took;
        if (c->traced) {
            const double from = c->zero_at + seconds_between(c->zero, m->begin);
            trace_span(m->lane, m->name, from, from + took);
        }
        c->first = (c->first + 1) % c->cap, c->n--;
    }
}

/* The device's clock against the host's, afresh for each trace: they drift apart. */
static void follow_trace(Nccl *c) {
    if (c->traced == trace_is_on()) return;
    settle(c);
    c->traced = !c->traced;
    if (!c->traced) return;
    CUDA(cudaEventRecord(c->zero, c->queue));
    CUDA(cudaEventSynchronize(c->zero));
    c->zero_at = now_seconds();
}

static void grow_marks(Nccl *c) {
    const int cap = 2 * c->cap + 64;
    Mark *marks = xcalloc((size_t)cap, sizeof *marks);
    for (int i = 0; i < c->cap; i++) marks[i] = c->marks[(c->first + i) % c->cap];
    for (int i = c->cap; i < cap; i++) {
        CUDA(cudaEventCreate(&marks[i].begin));
        CUDA(cudaEventCreate(&marks[i].end));
    }
    free(c->marks);
    c->marks = marks, c->first = 0, c->cap = cap;
}

/* Between the two calls something is queued on `s`. */
static void mark_begin(Nccl *c, cudaStream_t s, const char *lane, const char *name) {
    pthread_mutex_lock(&c->lock);
    settle(c);
    follow_trace(c);
    if (c->n == c->cap) grow_marks(c);
    Mark *m = &c->marks[(c->first + c->n) % c->cap];
    m->lane = lane, m->name = name, m->waits = s == c->queue;
    CUDA(cudaEventRecord(m->begin, s));
    pthread_mutex_unlock(&c->lock);
}

static void mark_end(Nccl *c, cudaStream_t s) {
    pthread_mutex_lock(&c->lock);
    CUDA(cudaEventRecord(c->marks[(c->first + c->n) % c->cap].end, s));
    c->n++;
    pthread_mutex_unlock(&c->lock);
}

static double nccl_exposed(void *self) {
    Nccl *c = self;
    pthread_mutex_lock(&c->lock);
    settle(c);
    const double s = c->exposed;
    c->exposed = 0;
    pthread_mutex_unlock(&c->lock);
    return s;
}

/* ---- for the watchdog ------------------------------------------------------------------------------------ */

static void check_comm(ncclComm_t comm) {
    ncclResult_t status = ncclSuccess;
    if (!comm || (ncclCommGetAsyncError(comm, &status) == ncclSuccess &&
                  (status == ncclSuccess || status == ncclInProgress)))
        return;
    Err e = {0};
    err_set(&e, "NCCL: %s: %s; NCCL_DEBUG=INFO says more", ncclGetErrorString(status),
            ncclGetLastError(comm));
    ncclCommAbort(comm); /* its kernels would spin for ever */
    comm_fail(&e);
}

/* What the queue of ops stands at: a mark that has begun and has not ended. */
static const char *nccl_poll(void *self) {
    Nccl *c = self;
    const char *at = NULL;
    CUDA(cudaSetDevice(c->device));
    pthread_mutex_lock(&c->lock);
    for (int w = 0; w < 2; w++)
        for (int g = 0; g < N_GROUPS; g++) check_comm(c->comm[w][g]);
    for (int l = 0; l < N_LANES; l++) check_comm(c->out[l].comm), check_comm(c->in[l].comm);
    for (int i = 0; i < c->n && !at; i++) {
        const Mark *m = &c->marks[(c->first + i) % c->cap];
        if (m->waits && happened(m->begin) && !happened(m->end)) at = m->name;
    }
    pthread_mutex_unlock(&c->lock);
    return at;
}

/* ---- communicators --------------------------------------------------------------------------------------- */

static ncclComm_t comm_for(Nccl *c, Group g, When w) {
    ncclUniqueId id = {{0}};
    ncclComm_t made;
    const Seat *s = &c->seat[g];
    if (c->comm[w][g]) return c->comm[w][g];
    if (s->rank == 0) NCCL(ncclGetUniqueId(&id));
    c->job->broadcast(c->host, g, &id, sizeof id, 0);
    NCCL(ncclCommInitRank(&made, s->size, id, s->rank));
    pthread_mutex_lock(&c->lock);
    c->comm[w][g] = made;
    pthread_mutex_unlock(&c->lock);
    return made;
}

/* Who sends names the edge. All edges are made together, and used once, so that no first message has to wait until the
 * other side has set up its own. */
static void open_edges(Nccl *c) {
    const Seat *s = &c->seat[GROUP_PIPELINE];
    ncclUniqueId ids[N_LANES], out[N_LANES], in[N_LANES];
    void *greeting;
    for (int stage = 0; stage < s->size; stage++) {
        for (int l = 0; l < N_LANES && stage == s->rank; l++) NCCL(ncclGetUniqueId(&ids[l]));
        c->job->broadcast(c->host, GROUP_PIPELINE, ids, sizeof ids, stage);
        if (stage == s->rank) memcpy(out, ids, sizeof out);
        if ((stage + 1) % s->size == s->rank) in[LANE_NEXT] = ids[LANE_NEXT];
        if (stage == (s->rank + 1) % s->size) in[LANE_PREVIOUS] = ids[LANE_PREVIOUS];
    }
    NCCL(ncclGroupStart());
    for (int l = 0; l < N_LANES; l++) {
        NCCL(ncclCommInitRank(&c->out[l].comm, 2, out[l], 0));
        NCCL(ncclCommInitRank(&c->in[l].comm, 2, in[l], 1));
    }
    NCCL(ncclGroupEnd());
    CUDA(cudaMalloc(&greeting, 2 * N_LANES));
    NCCL(ncclGroupStart());
    for (int l = 0; l < N_LANES; l++) {
        CUDA(cudaStreamCreateWithFlags(&c->out[l].stream, cudaStreamNonBlocking));
        CUDA(cudaStreamCreateWithFlags(&c->in[l].stream, cudaStreamNonBlocking));
        NCCL(ncclSend((char *)greeting + l, 1, ncclUint8, 1, c->out[l].comm, c->out[l].stream));
        NCCL(ncclRecv((char *)greeting + N_LANES + l, 1, ncclUint8, 0, c->in[l].comm, c->in[l].stream));
    }
    NCCL(ncclGroupEnd());
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaFree(greeting));
}

/* No two ranks have the same GPU: NCCL would hang. Rank 0 compares, and tells all. */
static bool own_gpu(Nccl *c, Err *e) {
    typedef struct Place {
        char node[64], bus[32];
    } Place;
    const Seat *world = &c->seat[GROUP_WORLD];
    Place mine = {"", ""}, *all = xcalloc((size_t)world->size, sizeof *all);
    gethostname(mine.node, sizeof mine.node - 1);
    CUDA(cudaDeviceGetPCIBusId(mine.bus, sizeof mine.bus, c->device));
    c->job->gather(c->host, all, &mine, sizeof mine);
    for (int i = 0; i < world->size && world->rank == 0; i++)
        for (int j = 0; j < i; j++)
            if (!memcmp(&all[i], &all[j], sizeof mine))
                err_usage(e,
                          "ranks %d and %d share the GPU %s of %s: start as many ranks on a host as it has "
                          "GPUs, or "
                          "let them talk through the host with parallel.comm \"mpi\"",
                          j, i, mine.bus, all[i].node);
    c->job->broadcast(c->host, GROUP_WORLD, e, sizeof *e, 0);
    free(all);
    return e->code == 0;
}

static void nccl_close(void *self) {
    Nccl *c = self;
    watch_poll(NULL, NULL);
    CUDA(cudaDeviceSynchronize());
    for (int w = 0; w < 2; w++)
        for (int g = 0; g < N_GROUPS; g++)
            if (c->comm[w][g]) NCCL(ncclCommDestroy(c->comm[w][g]));
    for (int l = 0; l < N_LANES && c->out[l].comm; l++) {
        NCCL(ncclCommDestroy(c->out[l].comm));
        NCCL(ncclCommDestroy(c->in[l].comm));
        CUDA(cudaStreamDestroy(c->out[l].stream));
        CUDA(cudaStreamDestroy(c->in[l].stream));
    }
    for (int i = 0; i < c->cap; i++) {
        CUDA(cudaEventDestroy(c->marks[i].begin));
        CUDA(cudaEventDestroy(c->marks[i].end));
    }
    CUDA(cudaEventDestroy(c->fence));
    CUDA(cudaEventDestroy(c->zero));
    CUDA(cudaStreamDestroy(c->behind));
    free(c->marks);
    free(c);
}

static void *nccl_open(const Job *job, Host *h, const Seat seat[N_GROUPS], const Ops *ops, Err *e) {
    Nccl *c = xcalloc(1, sizeof *c);
    c->job = job, c->host = h, c->queue = ops->queue();
    memcpy(c->seat, seat, sizeof c->seat);
    CUDA(cudaGetDevice(&c->device));
    if (!own_gpu(c, e)) return free(c), NULL;
    pthread_mutex_init(&c->lock, NULL);
    CUDA(cudaStreamCreateWithFlags(&c->behind, cudaStreamNonBlocking));
    CUDA(cudaEventCreateWithFlags(&c->fence, cudaEventDisableTiming));
    CUDA(cudaEventCreate(&c->zero));
    if (seat[GROUP_PIPELINE].size > 1) open_edges(c);
    watch_poll(nccl_poll, c);
    return c;
}

/* ---- the calls of comm.h --------------------------------------------------------------------------------- */

static void nccl_collective(void *self, const Call *call, When w) {
    static const ncclDataType_t types[] = {ncclFloat32, ncclBfloat16, ncclFloat64};
    Nccl *c = self;
    const ncclComm_t comm = comm_for(c, call->group, w);
    const cudaStream_t s = w == NOW ? c->queue : c->behind;
    const ncclDataType_t t = types[call->type];
    const size_t n = (size_t)call->n;
    if (w == BEHIND) order(c, c->queue, c->behind);
    mark_begin(c, s, call->lane, call->name);
    switch (call->kind) {
    case ALL_REDUCE: NCCL(ncclAllReduce(call->out, call->out, n, t, ncclSum, comm, s)); break;
    case REDUCE_SCATTER: NCCL(ncclReduceScatter(call->in, call->out, n, t, ncclSum, comm, s)); break;
    case ALL_GATHER: NCCL(ncclAllGather(call->in, call->out, n, t, comm, s)); break;
    case BROADCAST: NCCL(ncclBroadcast(call->out, call->out, n, t, call->from, comm, s)); break;
    }
    mark_end(c, s);
}

/* The queue waits for all that is on `s`. */
static void queue_waits(Nccl *c, cudaStream_t s, const char *lane, const char *name) {
    mark_begin(c, c->queue, lane, name);
    order(c, s, c->queue);
    mark_end(c, c->queue);
}

static const char *const lanes[] = {"next", "previous"};

static void nccl_join(void *self) {
    Nccl *c = self;
    queue_waits(c, c->behind, "join", "join");
}

static void nccl_send(void *self, Lane l, const void *x, size_t bytes) {
    Nccl *c = self;
    const Edge *to = &c->out[l];
    order(c, c->queue, to->stream);
    mark_begin(c, to->stream, lanes[l], "send");
    NCCL(ncclSend(x, bytes, ncclUint8, 1, to->comm, to->stream));
    mark_end(c, to->stream);
}

static void nccl_sent(void *self, Lane l) {
    Nccl *c = self;
    queue_waits(c, c->out[l].stream, lanes[l], "sent");
}

static void nccl_recv(void *self, Lane l, void *x, size_t bytes) {
    Nccl *c = self;
    const Edge *from = &c->in[l];
    order(c, c->queue, from->stream); /* x may still be in use */
    NCCL(ncclRecv(x, bytes, ncclUint8, 0, from->comm, from->stream));
    queue_waits(c, from->stream, lanes[l], "receive");
}

const Carrier nccl_carrier = {
    .open = nccl_open,
    .collective = nccl_collective,
    .join = nccl_join,
    .send = nccl_send,
    .sent = nccl_sent,
    .recv = nccl_recv,
    .exposed = nccl_exposed,
    .close = nccl_close,
};
