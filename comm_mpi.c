/* comm_mpi.c - floor 1: the job that a launcher started, and the host's memory, over MPI. Built where there is MPI.
 *
 * A sum: every rank is given its part of all the others' numbers (all-to-all), adds them in the order of the ranks, and
 * gives the sum to all (all-gather). That is 2 (p - 1) / p of the data each way, as in a ring; but whatever algorithms MPI
 * takes for the two, each element is summed once and in one order, so all ranks have the same bits, and each time. bf16
 * is added in fp32 and rounded once: within 2^-9 of the sum, relative, and p 2^-24 of the sum of the magnitudes. */
#include "comm_wire.h"
#include "cpu.h"
#include "trace.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    SCRATCH = 4 << 20,
    SMALL = 8 << 10,
    PIECE = 64 << 20
}; /* bytes; the last: at most so many in one call */

/* What a thread needs to call MPI while another does: communicators of its own, in which no message can meet one of the
 * other's, and memory. */
typedef struct Side {
    MPI_Comm comm[N_GROUPS];
    char *scratch; /* [SCRATCH] */
} Side;

typedef struct Sends {
    MPI_Request *list;
    int n, done, cap; /* the first `done` of n are */
} Sends;

struct Host {
    Seat seat[N_GROUPS];
    Side side[2]; /* by When */
    MPI_Comm lanes;

    /* A thread makes the calls that go behind, in their order, and helps sends along: MPI gets on only while somebody
     * calls it. It sleeps when there is neither. */
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t work, done;
    Call *calls; /* those from `ran` to `asked` are to be made, or being made: number i is calls[i % cap] */
    int64_t asked, ran, cap;
    bool stop;
    Sends sends[N_LANES];
};

/* What the watchdogs tell each other. */
static struct {
    MPI_Comm world;
    MPI_Request request;
    char leaving[256];
} mailbox = {.request = MPI_REQUEST_NULL};

/* ---- calling MPI ----------------------------------------------------------------------------------------- */

#define MPI(call) mpi_check(call, #call, __LINE__)

static void mpi_end(int code) {
    MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

static void mpi_check(int status, const char *call, int line) {
    if (status == MPI_SUCCESS) return;
    char why[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    Err e = {0};
    MPI_Error_string(status, why, &n);
    err_set(&e, "%s:%d: %.*s: %s", __FILE__, line, (int)strcspn(call, "("), call, why);
    comm_fail(&e);
    mpi_end(e.code);
}

/* Waits without holding the core against those who are waited for: ranks may be more than cores, and a rank's other
 * threads compute meanwhile. */
static void rest(int turn) {
    if (turn < 200)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = turn < 2000 ? 20000 : 200000}, NULL);
}

static bool is_done(MPI_Request *r) {
    int done = 0;
    MPI(MPI_Test(r, &done, MPI_STATUS_IGNORE));
    if (done) watch_beat();
    return done;
}

static void await(MPI_Request *r) {
    for (int turn = 0; !is_done(r); turn++) rest(turn);
}

/* `bytes` together, then the next such `stride` bytes further on. */
static MPI_Datatype strided(size_t bytes, size_t stride) {
    MPI_Datatype together, t;
    MPI(MPI_Type_contiguous((int)bytes, MPI_BYTE, &together));
    MPI(MPI_Type_create_resized(together, 0, (MPI_Aint)stride, &t));
    MPI(MPI_Type_commit(&t));
    MPI(MPI_Type_free(&together));
    return t;
}

/* ---- collectives ----------------------------------------------------------------------------------------- */

/* out [size, bytes] = what each rank has at in + stride * (this rank). */
static void trade(MPI_Comm comm, void *out, const void *in, size_t stride, size_t bytes) {
    MPI_Datatype t = strided(bytes, stride);
    MPI_Request r;
    MPI(MPI_Ialltoall(in, 1, t, out, (int)bytes, MPI_BYTE, comm, &r));
    await(&r);
    MPI(MPI_Type_free(&t));
}

/* out + stride * i = rank i's in [bytes], which may stand there already. */
static void collect(MPI_Comm comm, void *out, size_t stride, const void *in, size_t bytes, int rank) {
    MPI_Datatype t = strided(bytes, stride);
    MPI_Request r;
    const bool there = in == (char *)out + stride * (size_t)rank;
    MPI(MPI_Iallgather(there ? MPI_IN_PLACE : in, (int)bytes, MPI_BYTE, out, 1, t, comm, &r));
    await(&r);
    MPI(MPI_Type_free(&t));
}

static void add_doubles(double *out, const double *parts, int size, int64_t n) {
    memcpy(out, parts, (size_t)n * sizeof *out);
    for (int r = 1; r < size; r++)
        for (int64_t i = 0; i < n; i++) out[i] += parts[r * n + i];
}

/* out [n] = the sum of parts [size, n] over `size`, in that order. */
static void add(void *out, const void *parts, int size, int64_t n, Wire t) {
    enum { TILE = 1024 };
    float sum[TILE], term[TILE];
    if (t == WIRE_F64) {
        add_doubles(out, parts, size, n);
        return;
    }
    const Tensor from = tensor((void *)parts, t == WIRE_BF16 ? DT_BF16 : DT_F32),
                 to = tensor(out, from.dtype);
    for (int64_t at = 0; at < n; at += TILE) {
        const int64_t m = least(TILE, n - at);
        row_load(sum, from, at, m);
        for (int r = 1; r < size; r++) {
            row_load(term, from, r * n + at, m);
            for (int64_t i = 0; i < m; i++) sum[i] += term[i];
        }
        row_store(to, at, sum, m);
    }
}

static void reduce_scatter(const Side *s, const Seat *seat, Group g, char *out, const char *in, int64_t n,
                           Wire t) {
    const int64_t each = (int64_t)wire_size(t), most_at_once = SCRATCH / each / seat->size;
    for (int64_t at = 0, m; at < n; at += m) {
        m = least(n - at, most_at_once);
        trade(s->comm[g], s->scratch, in + at * each, (size_t)(n * each), (size_t)(m * each));
        add(out + at * each, s->scratch, seat->size, m, t);
    }
}

static void all_gather(const Side *s, const Seat *seat, Group g, char *out, const char *in, int64_t n,
                       Wire t) {
    const int64_t each = (int64_t)wire_size(t);
    for (int64_t at = 0, m; at < n; at += m) {
        m = least(n - at, PIECE / each);
        collect(s->comm[g], out + at * each, (size_t)(n * each), in + at * each, (size_t)(m * each),
                seat->rank);
    }
}

/* Little, or what is left when every rank has its part: all numbers to all, and each adds them. */
static void all_reduce_small(const Side *s, const Seat *seat, Group g, char *x, int64_t n, Wire t) {
    const int64_t each = (int64_t)wire_size(t), most_at_once = SCRATCH / each / seat->size;
    for (int64_t at = 0, m; at < n; at += m) {
        m = least(n - at, most_at_once);
        collect(s->comm[g], s->scratch, (size_t)(m * each), x + at * each, (size_t)(m * each), seat->rank);
        add(x + at * each, s->scratch, seat->size, m, t);
    }
}

static void all_reduce(const Side *s, const Seat *seat, Group g, char *x, int64_t n, Wire t) {
    const int64_t each = (int64_t)wire_size(t), part = n * each <= SMALL ? 0 : n / seat->size;
    char *mine = x + seat->rank * part * each;
    reduce_scatter(s, seat, g, mine, x, part, t);
    all_gather(s, seat, g, x, mine, part, t);
    const int64_t rest_at = part * seat->size;
    all_reduce_small(s, seat, g, x + rest_at * each, n - rest_at, t);
}

static void broadcast(MPI_Comm comm, char *x, size_t bytes, int from) {
    for (size_t at = 0, m; at < bytes; at += m) {
        MPI_Request r;
        m = bytes - at < PIECE ? bytes - at : PIECE;
        MPI(MPI_Ibcast(x + at, (int)m, MPI_BYTE, from, comm, &r));
        await(&r);
    }
}

static void run_call(const Host *h, const Call *c, When w) {
    const Side *s = &h->side[w];
    const Seat *seat = &h->seat[c->group];
    switch (c->kind) {
    case ALL_REDUCE: all_reduce(s, seat, c->group, c->out, c->n, c->type); break;
    case REDUCE_SCATTER: reduce_scatter(s, seat, c->group, c->out, c->in, c->n, c->type); break;
    case ALL_GATHER: all_gather(s, seat, c->group, c->out, c->in, c->n, c->type); break;
    case BROADCAST: broadcast(s->comm[c->group], c->out, (size_t)c->n * wire_size(c->type), c->from); break;
    }
}

static void *carrier_open(const Job *job, Host *h, const Seat seat[N_GROUPS], const Ops *ops, Err *e) {
    (void)job, (void)seat, (void)ops, (void)e;
    return h;
}

static void carrier_close(void *self) {
    (void)self;
}

/* ---- from one to one ------------------------------------------------------------------------------------- */

static void post(Sends *s, MPI_Comm comm, int to, int tag, const char *x, size_t bytes) {
    for (size_t at = 0, m; at < bytes; at += m) {
        m = bytes - at < PIECE ? bytes - at : PIECE;
        if (s->n == s->cap) s->list = xrealloc(s->list, (size_t)(s->cap = 2 * s->cap + 8) * sizeof *s->list);
        MPI(MPI_Isend(x + at, (int)m, MPI_BYTE, to, tag, comm, &s->list[s->n++]));
    }
}

/* Are all sent? */
static bool advance(Sends *s) {
    while (s->done < s->n && is_done(&s->list[s->done])) s->done++;
    if (s->done < s->n) return false;
    s->n = s->done = 0;
    return true;
}

static void take(MPI_Comm comm, int from, int tag, char *x, size_t bytes) {
    for (size_t at = 0, m; at < bytes; at += m) {
        MPI_Request r;
        m = bytes - at < PIECE ? bytes - at : PIECE;
        MPI(MPI_Irecv(x + at, (int)m, MPI_BYTE, from, tag, comm, &r));
        await(&r);
    }
}

/* The stage that comes `step` after this one. */
static int stage(const Host *h, int step) {
    const Seat *s = &h->seat[GROUP_PIPELINE];
    return (s->rank + step + s->size) % s->size;
}

static void mpi_send(void *self, Lane l, const void *x, size_t bytes) {
    Host *h = self;
    pthread_mutex_lock(&h->lock);
    post(&h->sends[l], h->lanes, stage(h, l == LANE_NEXT ? 1 : -1), (int)l, x, bytes);
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
}

static bool lanes_advance(Host *h, Lane from, Lane to) {
    bool all = true;
    pthread_mutex_lock(&h->lock);
    for (Lane l = from; l < to; l++) all &= advance(&h->sends[l]);
    pthread_mutex_unlock(&h->lock);
    return all;
}

static void mpi_sent(void *self, Lane l) {
    Host *h = self;
    for (int turn = 0; !lanes_advance(h, l, l + 1); turn++) rest(turn);
}

static void mpi_recv(void *self, Lane l, void *x, size_t bytes) {
    Host *h = self;
    take(h->lanes, stage(h, l == LANE_NEXT ? -1 : 1), (int)l, x, bytes);
}

/* ---- behind ---------------------------------------------------------------------------------------------- */

static bool has_sends(const Host *h) {
    int n = 0;
    for (int l = 0; l < N_LANES; l++) n += h->sends[l].n;
    return n > 0;
}

static void run_traced(const Host *h, const Call *c) {
    const double from = now_seconds();
    run_call(h, c, BEHIND);
    if (trace_is_on()) trace_span(c->lane, c->name, from, now_seconds());
}

static void *run_behind(void *arg) {
    Host *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (!h->stop && h->ran == h->asked && !has_sends(h)) pthread_cond_wait(&h->work, &h->lock);
        const bool called = h->ran < h->asked;
        if (!called && h->stop) break;
        const Call c = called ? h->calls[h->ran % h->cap] : (Call){0};
        pthread_mutex_unlock(&h->lock);
        if (called)
            run_traced(h, &c);
        else if (!lanes_advance(h, 0, N_LANES))
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        pthread_mutex_lock(&h->lock);
        if (called) h->ran++, pthread_cond_signal(&h->done);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static void grow_calls(Host *h) {
    const int64_t cap = 2 * h->cap + 64;
    Call *calls = xmalloc((size_t)cap * sizeof *calls);
    for (int64_t i = h->ran; i < h->asked; i++) calls[i % cap] = h->calls[i % h->cap];
    free(h->calls);
    h->calls = calls, h->cap = cap;
}

static void mpi_collective(void *self, const Call *c, When w) {
    Host *h = self;
    if (w == NOW) {
        run_call(h, c, NOW);
        return;
    }
    pthread_mutex_lock(&h->lock);
    if (h->asked - h->ran == h->cap) grow_calls(h);
    h->calls[h->asked++ % h->cap] = *c;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
}

static void mpi_join(void *self) {
    Host *h = self;
    pthread_mutex_lock(&h->lock);
    while (h->ran < h->asked) pthread_cond_wait(&h->done, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

/* ---- the host's memory ----------------------------------------------------------------------------------- */

static void host_broadcast(Host *h, Group g, void *x, size_t bytes, int from) {
    broadcast(h->side[NOW].comm[g], x, bytes, from);
}

static void host_gather(Host *h, void *all, const void *x, size_t bytes) {
    const Seat *seat = &h->seat[GROUP_WORLD];
    for (size_t at = 0, m; at < bytes; at += m) {
        MPI_Request r;
        m = bytes - at < PIECE ? bytes - at : PIECE;
        MPI_Datatype t = strided(m, bytes);
        MPI(MPI_Igather((const char *)x + at, (int)m, MPI_BYTE, seat->rank ? NULL : (char *)all + at, 1, t, 0,
                        h->side[NOW].comm[GROUP_WORLD], &r));
        await(&r);
        MPI(MPI_Type_free(&t));
    }
}

static void host_max(Host *h, double *x, int n) {
    MPI_Request r;
    MPI(MPI_Iallreduce(MPI_IN_PLACE, x, n, MPI_DOUBLE, MPI_MAX, h->side[NOW].comm[GROUP_WORLD], &r));
    await(&r);
}

static void host_barrier(Host *h) {
    MPI_Request r;
    MPI(MPI_Ibarrier(h->side[NOW].comm[GROUP_WORLD], &r));
    await(&r);
}

static void host_send(Host *h, int to, const void *x, size_t bytes) {
    Sends s = {0};
    post(&s, h->side[NOW].comm[GROUP_WORLD], to, 0, x, bytes);
    for (int turn = 0; !advance(&s); turn++) rest(turn);
    free(s.list);
}

static void host_recv(Host *h, int from, void *x, size_t bytes) {
    take(h->side[NOW].comm[GROUP_WORLD], from, 0, x, bytes);
}

/* ---- the job --------------------------------------------------------------------------------------------- */

static bool mpi_start(int *rank, int *ranks, int *local_rank, int *local_ranks, Err *e) {
    int got = 0;
    MPI_Comm local;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &got) != MPI_SUCCESS)
        return err_set(e, "MPI does not start; is this mpirun of the MPI that gpt was built with?");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI(MPI_Comm_rank(MPI_COMM_WORLD, rank));
    MPI(MPI_Comm_size(MPI_COMM_WORLD, ranks));
    MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, *rank, MPI_INFO_NULL, &local));
    MPI(MPI_Comm_rank(local, local_rank));
    MPI(MPI_Comm_size(local, local_ranks));
    MPI(MPI_Comm_free(&local));
    MPI(MPI_Comm_dup(MPI_COMM_WORLD, &mailbox.world));
    return got == MPI_THREAD_MULTIPLE ||
           err_set(e, "this MPI was built without MPI_THREAD_MULTIPLE; gpt needs one that has it");
}

static void mpi_stop(void) {
    if (mailbox.request != MPI_REQUEST_NULL) MPI(MPI_Request_free(&mailbox.request));
    MPI(MPI_Comm_free(&mailbox.world));
    MPI(MPI_Finalize());
}

static void mpi_tell(int to, const void *x, size_t bytes) {
    int done = 0;
    CHECK(bytes <= sizeof mailbox.leaving);
    MPI(MPI_Test(&mailbox.request, &done, MPI_STATUS_IGNORE));
    if (!done) return;
    memcpy(mailbox.leaving, x, bytes);
    MPI(MPI_Isend(mailbox.leaving, (int)bytes, MPI_BYTE, to, 0, mailbox.world, &mailbox.request));
}

static bool mpi_hear(void *x, size_t bytes, int *from) {
    int there = 0;
    MPI_Status s;
    MPI(MPI_Iprobe(MPI_ANY_SOURCE, 0, mailbox.world, &there, &s));
    if (!there) return false;
    MPI(MPI_Recv(x, (int)bytes, MPI_BYTE, *from = s.MPI_SOURCE, 0, mailbox.world, MPI_STATUS_IGNORE));
    return true;
}

static Host *mpi_open(const Grid *g, const Seat seat[N_GROUPS]) {
    const bool in = g->rank < g->ranks;
    Host *h = xcalloc(1, sizeof *h);
    memcpy(h->seat, seat, sizeof h->seat);
    h->lanes = MPI_COMM_NULL;
    for (int i = 0; i < N_GROUPS; i++) {
        MPI_Comm *now = &h->side[NOW].comm[i], *behind = &h->side[BEHIND].comm[i];
        *now = *behind = MPI_COMM_NULL;
        MPI(MPI_Comm_split(MPI_COMM_WORLD, in && seat[i].size > 1 ? seat[i].color : MPI_UNDEFINED,
                           seat[i].rank, now));
        if (*now == MPI_COMM_NULL) continue;
        MPI(MPI_Comm_dup(*now, behind));
        if (i == GROUP_PIPELINE) MPI(MPI_Comm_dup(*now, &h->lanes));
    }
    for (int w = 0; w < 2; w++) h->side[w].scratch = xmalloc(SCRATCH);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work, NULL);
    pthread_cond_init(&h->done, NULL);
    h->thread = wire_thread(run_behind, h);
    return h;
}

static void free_comm(MPI_Comm *c) {
    if (*c != MPI_COMM_NULL) MPI(MPI_Comm_free(c));
}

static void mpi_close(Host *h) {
    for (int l = 0; l < N_LANES; l++) mpi_sent(h, (Lane)l);
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    for (int w = 0; w < 2; w++) {
        for (int i = 0; i < N_GROUPS; i++) free_comm(&h->side[w].comm[i]);
        free(h->side[w].scratch);
    }
    for (int l = 0; l < N_LANES; l++) free(h->sends[l].list);
    free_comm(&h->lanes);
    free(h->calls);
    free(h);
}

const Job mpi_job = {
    .start = mpi_start,
    .stop = mpi_stop,
    .end = mpi_end,
    .tell = mpi_tell,
    .hear = mpi_hear,
    .open = mpi_open,
    .close = mpi_close,
    .broadcast = host_broadcast,
    .gather = host_gather,
    .max = host_max,
    .barrier = host_barrier,
    .send = host_send,
    .recv = host_recv,
    .carrier = {.open = carrier_open,
                .close = carrier_close,
                .collective = mpi_collective,
                .join = mpi_join,
                .send = mpi_send,
                .sent = mpi_sent,
                .recv = mpi_recv},
};
