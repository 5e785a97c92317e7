/* comm.c - floor 1: see comm.h. What is the same for every wire: the grid, its groups, who carries what, staging. */
#include "comm_wire.h"
#include "trace.h"

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
    char whoami[96];
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
    char node[64] = "?";
    gethostname(node, sizeof node - 1);
    if (here.ranks > 1) snprintf(here.whoami, sizeof here.whoami, "rank %d (%s)", here.rank, node);
    return true;
}

void comm_stop(void) {
    if (!here.job) return;
    comm_watch(0);
    here.job->stop();
    here.job = NULL;
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

void comm_fail(const Err *e) {
    if (here.ranks == 1) return;
    note("%s: %s", here.whoami, e->msg);
    here.job->end(e->code);
}

void comm_watch(double seconds) {
    (void)seconds;
}
void comm_alive(const char *what) {
    (void)what;
}

/* ---- a grid of it ---------------------------------------------------------------------------------------- */

struct Comm {
    Grid grid;
    Seat seat[N_GROUPS];
    const Ops *ops;
    Host *host;             /* NULL: a grid of one */
    const Carrier *carrier; /* of the back end's memory */
    void *self;             /* the carrier's own */
    bool staged;
    double exposed;
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
    c->host = here.job->open(g, c->seat);
    if (g->rank >= g->ranks || comm_agree(c, open_carrier(c, e), e)) return c;
    return comm_close(c), NULL;
}

void comm_close(Comm *c) {
    if (!c) return;
    if (c->self) c->carrier->close(c->self);
    if (c->host) here.job->close(c->host);
    free(c);
}
const Grid *comm_grid(const Comm *c) {
    return &c->grid;
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

/* Around all that may keep the main thread waiting. */
static double begin(const char *lane, const char *name) {
    (void)lane, (void)name;
    return now_seconds();
}

static void end(Comm *c, const char *lane, const char *name, double from) {
    const double to = now_seconds();
    if (c->carrier && !c->carrier->exposed) c->exposed += to - from;
    if (trace_is_on()) trace_span(lane, name, from, to);
}

static void collective(Comm *c, Call call, When w) {
    const bool alone = c->seat[call.group].size == 1;
    if (call.n == 0) return;
    if (alone && call.in && call.in != call.out)
        c->ops->copy(call.out, call.in, (size_t)call.n * wire_size(call.type));
    if (alone) return;
    call.lane = lane_of_group[call.group];
    const double from = begin(call.lane, call.name);
    c->carrier->collective(c->self, &call, w);
    end(c, call.lane, call.name, from);
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
    if (!c->carrier) return;
    const double from = begin("gradients", "join");
    c->carrier->join(c->self);
    end(c, "join", "join", from);
}
void comm_send(Comm *c, Lane l, const void *x, size_t bytes) {
    CHECK(c->grid.pp > 1);
    const double from = begin(lane_names[l], "send");
    c->carrier->send(c->self, l, x, bytes);
    end(c, lane_names[l], "send", from);
}
void comm_sent(Comm *c, Lane l) {
    if (c->grid.pp == 1) return;
    const double from = begin(lane_names[l], "sent");
    c->carrier->sent(c->self, l);
    end(c, lane_names[l], "sent", from);
}
void comm_recv(Comm *c, Lane l, void *x, size_t bytes) {
    CHECK(c->grid.pp > 1);
    const double from = begin(lane_names[l], "receive");
    c->carrier->recv(c->self, l, x, bytes);
    end(c, lane_names[l], "receive", from);
}
double comm_exposed(Comm *c) {
    double s = c->carrier && c->carrier->exposed ? c->carrier->exposed(c->self) : c->exposed;
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
    if (c->host) here.job->barrier(c->host);
}
void comm_host_broadcast(Comm *c, void *x, size_t bytes, int from) {
    if (c->host) here.job->broadcast(c->host, GROUP_WORLD, x, bytes, from);
}
void comm_host_gather(Comm *c, void *all, const void *x, size_t bytes) {
    if (c->host)
        here.job->gather(c->host, all, x, bytes);
    else
        memcpy(all, x, bytes);
}
void comm_host_max(Comm *c, double *x, int n) {
    if (c->host) here.job->max(c->host, x, n);
}
void comm_host_send(Comm *c, int to, const void *x, size_t bytes) {
    CHECK(c->host);
    here.job->send(c->host, to, x, bytes);
}
void comm_host_recv(Comm *c, int from, void *x, size_t bytes) {
    CHECK(c->host);
    here.job->recv(c->host, from, x, bytes);
}

bool comm_self_test(Comm *c, Err *e) {
    (void)c, (void)e;
    return true;
}
