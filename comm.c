/* comm.c - floor 1: see comm.h. What is the same for every wire: the grid, its groups, who carries what, staging. */
#include "comm_wire.h"
#include "trace.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the grid -------------------------------------------------------------------------------------------- */

Grid grid_at(int dp, int pp, int tp, int rank) {
    return (Grid){.rank = rank,
                  .ranks = dp * pp * tp,
                  .dp = dp,
                  .pp = pp,
                  .tp = tp,
                  .tp_rank = rank % tp,
                  .dp_rank = rank / tp % dp,
                  .pp_rank = rank / tp / dp};
}

/* A stage between the first and the last is tied to none. */
static Seat seat_in(const Grid *g, Group group) {
    const int column = g->dp_rank * g->tp + g->tp_rank; /* of the ranks that differ in the stage only */
    const bool first = g->pp_rank == 0, last = g->pp_rank == g->pp - 1;
    switch (group) {
    case GROUP_WORLD: return (Seat){0, g->rank, g->ranks};
    case GROUP_DATA: return (Seat){g->pp_rank * g->tp + g->tp_rank, g->dp_rank, g->dp};
    case GROUP_PIPELINE: return (Seat){column, g->pp_rank, g->pp};
    case GROUP_TENSOR: return (Seat){g->pp_rank * g->dp + g->dp_rank, g->tp_rank, g->tp};
    default: return first != last ? (Seat){column, last, 2} : (Seat){0, 0, 1};
    }
}

/* ---- the job --------------------------------------------------------------------------------------------- */

/* What this binary can speak: the one place that knows what it was built with. */
#if defined GPT_NCCL
static const Job *const speaks = &mpi_job;
static const Carrier *const gpus = &nccl_carrier;
#elif defined GPT_MPI
static const Job *const speaks = &mpi_job;
static const Carrier *const gpus;
#else
static const Job *const speaks;
static const Carrier *const gpus;
#endif

static struct {
    const Job *job; /* NULL: alone */
    bool asked;
    int rank, ranks, local_rank, local_ranks;
    char whoami[WHOAMI];
} here = {.ranks = 1, .local_ranks = 1};

/* How many ranks a launcher says it started; 0: only MPI can tell. Slurm's own variables are those of a step, which a
 * batch script is not. */
static int launched(void) {
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE",
                                        "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *n = getenv(sizes[i]);
        if (n) return atoi(n);
    }
    return getenv("PMIX_RANK") ? 0 : 1;
}

bool comm_start(Err *e) {
    const int n = launched();
    if (here.asked || n == 1) return true;
    if (!speaks)
        return n == 0 || err_usage(e,
                                   "started as one of %d ranks, but this binary was built without MPI; run "
                                   "one process, or build where there is mpicc",
                                   n);
    if (!speaks->start(&here.rank, &here.ranks, &here.local_rank, &here.local_ranks, e)) return false;
    here.asked = true;
    if (n > 1 && here.ranks == 1)
        return err_usage(
            e,
            "started as one of %d ranks, but MPI sees one: start gpt with the mpirun of the MPI it "
            "was built with (under Slurm: srun --mpi=pmix)",
            n);
    here.job = speaks;
    ops_take_gpu(here.local_rank);
    char node[64] = "?";
    gethostname(node, sizeof node - 1);
    if (here.ranks > 1) snprintf(here.whoami, sizeof here.whoami, "rank %d (%s)", here.rank, node);
    fault_by(here.whoami);
    return true;
}

void comm_stop(void) {
    if (!here.job) return;
    comm_watch(0);
    here.job->stop();
    here.job = NULL;
}

const char *comm_stop_advice(void) {
    const bool open_mpi = here.ranks > 1 && getenv("OMPI_COMM_WORLD_SIZE");
    const bool told =
        getenv("OMPI_MCA_odls_base_sigkill_timeout") || getenv("PRTE_MCA_odls_base_sigkill_timeout");
    if (!open_mpi || told) return NULL;
    return "stop with all saved: SIGUSR1 to mpirun, or SIGTERM to a rank; SIGTERM to mpirun leaves ranks a "
           "second to save, unless it has OMPI_MCA_odls_base_sigkill_timeout=30 (Open MPI 5: PRTE_MCA_...)";
}

int comm_world(void) {
    return here.ranks;
}
int comm_world_rank(void) {
    return here.rank;
}
int comm_local_rank(void) {
    return here.local_rank;
}
int comm_local_ranks(void) {
    return here.local_ranks;
}
const char *comm_whoami(void) {
    return here.whoami;
}

/* Of several threads that fail, the first says why. */
void wire_fail(const char *whoami, const Err *e) {
    static atomic_flag failed = ATOMIC_FLAG_INIT;
    char line[sizeof e->msg + WHOAMI + 16];
    if (atomic_flag_test_and_set(&failed)) pause();
    const int n = snprintf(line, sizeof line, "gpt: %s: %s\n", whoami, e->msg);
    if (write(STDERR_FILENO, line, (size_t)n) < n)
        perror("gpt"); /* in one piece, among those of other ranks */
    here.job->end(e->code);
}

void comm_fail(const Err *e) {
    if (here.ranks > 1) wire_fail(here.whoami, e);
}

void comm_watch(double seconds) {
    if (here.ranks > 1) watch_start(here.job, seconds);
}

/* ---- a grid of it ---------------------------------------------------------------------------------------- */

typedef struct Buffer {
    char *p;
    size_t cap;
} Buffer;
typedef struct Outbox {
    Buffer *list; /* [cap], of which n are on their way */
    int n, cap;
} Outbox;
enum { STAGE = 16 << 20 }; /* bytes that go through the host at once */

struct Comm {
    Grid grid;
    Seat seat[N_GROUPS];
    const Ops *ops;
    Host *host;             /* NULL: a grid of one */
    const Carrier *carrier; /* of the back end's memory */
    void *self;             /* the carrier's own */
    double exposed;
    bool staged; /* the back end's memory is not the host's, and the carrier is MPI */
    Buffer stage;
    Outbox outbox[N_LANES];
};

static bool open_carrier(Comm *c, Err *e) {
    const bool by_host = c->ops == &cpu_ops || c->staged;
    c->carrier = by_host ? &here.job->carrier : gpus;
    if (!c->carrier)
        return err_usage(e, "this binary has no NCCL: parallel.comm \"mpi\" has GPUs talk through the host");
    return (c->self = c->carrier->open(here.job, c->host, c->seat, c->ops, e)) != NULL;
}

Comm *comm_open(const Grid *g, const Ops *ops, bool staged, Err *e) {
    Comm *c = xcalloc(1, sizeof *c);
    c->grid = *g, c->ops = ops, c->staged = staged && ops != &cpu_ops;
    for (int i = 0; i < N_GROUPS; i++) c->seat[i] = seat_in(g, (Group)i);
    if (g->ranks == 1) return c;
    if (g->ranks > here.ranks) {
        err_usage(e, "a grid of %d x %d x %d needs %d ranks, and there %s %d", g->dp, g->pp, g->tp, g->ranks,
                  here.ranks == 1 ? "is" : "are", here.ranks);
        return comm_close(c), NULL;
    }
    if (c->staged) c->stage = (Buffer){xmalloc(STAGE), STAGE};
    c->host = here.job->open(g, c->seat);
    if (g->rank >= g->ranks || comm_agree(c, open_carrier(c, e), e)) return c;
    return comm_close(c), NULL;
}

void comm_close(Comm *c) {
    if (!c) return;
    if (c->self) c->carrier->close(c->self);
    if (c->host) here.job->close(c->host);
    for (int l = 0; l < N_LANES; l++) {
        for (int i = 0; i < c->outbox[l].cap; i++) free(c->outbox[l].list[i].p);
        free(c->outbox[l].list);
    }
    free(c->stage.p);
    free(c);
}
const Grid *comm_grid(const Comm *c) {
    return &c->grid;
}
const Ops *wire_ops(const Comm *c) {
    return c->ops;
}
int comm_size(const Comm *c, Group g) {
    return c->seat[g].size;
}
int comm_rank(const Comm *c, Group g) {
    return c->seat[g].rank;
}

/* ---- the back end's memory ------------------------------------------------------------------------------- */

static const char *const lane_of_group[N_GROUPS] = {"world", "gradients", "pipeline", "tensor", "tied"};
static const char *const lane_names[N_LANES] = {"next", "previous"};

/* Around all that may keep the main thread waiting. A queue's own time is its carrier's to tell. */
static double begin(const char *lane, const char *name) {
    watch_waits(lane, name);
    return now_seconds();
}

static void end(Comm *c, const char *lane, const char *name, double from) {
    const double to = now_seconds();
    watch_goes_on();
    if (c->carrier->exposed) return;
    c->exposed += to - from;
    if (trace_is_on()) trace_span(lane, name, from, to);
}

/* `parts` runs of n elements, `pitch` elements apart, from the back end's memory side by side into the host's. */
static void fetch(Comm *c, char *to, const char *from, int parts, int64_t n, int64_t pitch, size_t each) {
    for (int r = 0; r < parts; r++)
        c->ops->to_host(to + (size_t)(r * n) * each, from + (size_t)(r * pitch) * each, (size_t)n * each);
}

static void store(Comm *c, char *to, const char *from, int parts, int64_t n, int64_t pitch, size_t each) {
    for (int r = 0; r < parts; r++)
        c->ops->to_device(to + (size_t)(r * pitch) * each, from + (size_t)(r * n) * each, (size_t)n * each);
}

/* Piece by piece through the host, in place there: a rank's own part of many stands at its rank. */
static void staged_collective(Comm *c, const Call *call) {
    const Seat *s = &c->seat[call->group];
    const bool gathers = call->kind == ALL_GATHER, scatters = call->kind == REDUCE_SCATTER;
    const int64_t size = gathers || scatters ? s->size : 1;
    const size_t each = wire_size(call->type);
    const char *in = call->in ? call->in : call->out;
    char *out = call->out, *piece = c->stage.p;
    for (int64_t at = 0, n; at < call->n; at += n) {
        const int64_t most = (int64_t)(STAGE / each) / size;
        n = call->n - at < most ? call->n - at : most;
        char *mine = size > 1 ? piece + (size_t)(s->rank * n) * each : piece;
        fetch(c, gathers ? mine : piece, in + (size_t)at * each, scatters ? s->size : 1, n, call->n, each);
        Call host = *call;
        host.n = n, host.in = gathers ? mine : piece, host.out = scatters ? mine : piece;
        c->carrier->collective(c->self, &host, NOW);
        store(c, out + (size_t)at * each, scatters ? mine : piece, gathers ? s->size : 1, n, call->n, each);
    }
}

static void collective(Comm *c, Call call, When w) {
    const bool alone = c->seat[call.group].size == 1;
    if (call.n == 0) return;
    if (alone && call.in && call.in != call.out)
        c->ops->copy(call.out, call.in, (size_t)call.n * wire_size(call.type));
    if (alone) return;
    call.lane = lane_of_group[call.group];
    const double from = begin(call.lane, call.name);
    if (c->staged)
        staged_collective(c, &call);
    else
        c->carrier->collective(c->self, &call, w);
    if (w == NOW || c->staged)
        end(c, call.lane, call.name, from);
    else
        watch_goes_on(); /* whoever makes the call behind tells what it took */
}

void comm_all_reduce(Comm *c, Group g, void *x, int64_t n, Wire t, When w) {
    collective(c, (Call){.kind = ALL_REDUCE, .name = "all-reduce", .group = g, .out = x, .n = n, .type = t},
               w);
}
void comm_reduce_scatter(Comm *c, Group g, void *out, const void *in, int64_t n, Wire t, When w) {
    collective(c, (Call){REDUCE_SCATTER, g, out, in, n, t, .name = "reduce-scatter"}, w);
}
void comm_all_gather(Comm *c, Group g, void *out, const void *in, int64_t n, Wire t, When w) {
    collective(c, (Call){ALL_GATHER, g, out, in, n, t, .name = "all-gather"}, w);
}
void comm_broadcast(Comm *c, Group g, void *x, int64_t n, Wire t, int from, When w) {
    collective(c, (Call){BROADCAST, g, x, NULL, n, t, from, .name = "broadcast"}, w);
}

void comm_join(Comm *c) {
    if (!c->self || c->staged) return; /* nothing went behind */
    const double from = begin("join", "join");
    c->carrier->join(c->self);
    end(c, "join", "join", from);
}

/* The host's copy of a message. */
static char *room_for(Buffer *b, size_t bytes) {
    if (bytes > b->cap) b->p = xrealloc(b->p, b->cap = bytes);
    return b->p;
}

/* Copies live till comm_sent, in buffers that the next sends have again. */
static const void *staged_send(Comm *c, Outbox *o, const void *x, size_t bytes) {
    if (o->n == o->cap) {
        o->list = xrealloc(o->list, (size_t)(o->cap = 2 * o->cap + 4) * sizeof *o->list);
        memset(o->list + o->n, 0, (size_t)(o->cap - o->n) * sizeof *o->list);
    }
    char *copy = room_for(&o->list[o->n++], bytes);
    c->ops->to_host(copy, x, bytes);
    return copy;
}

void comm_send(Comm *c, Lane l, const void *x, size_t bytes) {
    CHECK(c->grid.pp > 1);
    const double from = begin(lane_names[l], "send");
    c->carrier->send(c->self, l, c->staged ? staged_send(c, &c->outbox[l], x, bytes) : x, bytes);
    end(c, lane_names[l], "send", from);
}
void comm_sent(Comm *c, Lane l) {
    if (c->grid.pp == 1) return;
    const double from = begin(lane_names[l], "sent");
    c->carrier->sent(c->self, l);
    c->outbox[l].n = 0;
    end(c, lane_names[l], "sent", from);
}
void comm_recv(Comm *c, Lane l, void *x, size_t bytes) {
    CHECK(c->grid.pp > 1);
    const double from = begin(lane_names[l], "receive");
    void *to = c->staged ? room_for(&c->stage, bytes) : x;
    c->carrier->recv(c->self, l, to, bytes);
    if (c->staged) c->ops->to_device(x, to, bytes);
    end(c, lane_names[l], "receive", from);
}
double comm_exposed(Comm *c) {
    const double s = c->self && c->carrier->exposed ? c->carrier->exposed(c->self) : c->exposed;
    c->exposed = 0;
    return s;
}

/* ---- the host's memory ----------------------------------------------------------------------------------- */

/* The lowest rank with an error tells it to all. */
bool comm_agree(Comm *c, bool ok, Err *e) {
    struct {
        Err err;
        char whoami[sizeof here.whoami];
    } told = {0};
    if (!c->host) return ok;
    double first = ok ? -c->grid.ranks : -c->grid.rank;
    comm_host_max(c, &first, 1);
    if ((int)-first == c->grid.ranks) return true;
    CHECK(ok || e->code, "an error without a message");
    if ((int)-first == c->grid.rank) {
        told.err = *e;
        memcpy(told.whoami, here.whoami, sizeof told.whoami);
    }
    comm_host_broadcast(c, &told, sizeof told, (int)-first);
    double differ = ok || strcmp(e->msg, told.err.msg) != 0;
    comm_host_max(c, &differ, 1);
    *e = (Err){0};
    err_set(e, "%s%s%s", differ > 0 ? told.whoami : "", differ > 0 ? ": " : "", told.err.msg);
    e->code = told.err.code;
    return false;
}

void comm_barrier(Comm *c) {
    if (!c->host) return;
    watch_waits("host", "barrier");
    here.job->barrier(c->host);
    watch_goes_on();
}
void comm_host_broadcast(Comm *c, void *x, size_t bytes, int from) {
    if (!c->host) return;
    watch_waits("host", "broadcast");
    here.job->broadcast(c->host, GROUP_WORLD, x, bytes, from);
    watch_goes_on();
}
void comm_host_gather(Comm *c, void *all, const void *x, size_t bytes) {
    if (!c->host) memcpy(all, x, bytes);
    if (!c->host) return;
    watch_waits("host", "gather");
    here.job->gather(c->host, all, x, bytes);
    watch_goes_on();
}
void comm_host_max(Comm *c, double *x, int n) {
    if (!c->host) return;
    watch_waits("host", "maximum");
    here.job->max(c->host, x, n);
    watch_goes_on();
}
void comm_host_send(Comm *c, int to, const void *x, size_t bytes) {
    CHECK(c->host);
    watch_waits("host", "send");
    here.job->send(c->host, to, x, bytes);
    watch_goes_on();
}
void comm_host_recv(Comm *c, int from, void *x, size_t bytes) {
    CHECK(c->host);
    watch_waits("host", "receive");
    here.job->recv(c->host, from, x, bytes);
    watch_goes_on();
}
