/* comm.c - floor 1: see comm.h. */
#include "comm.h"

#include <stdlib.h>
#include <string.h>

struct Comm {
    Grid grid;
    int size[N_GROUPS], rank[N_GROUPS];
};

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

/* ---- the job --------------------------------------------------------------------------------------------- */

bool comm_start(Err *e) {
    static const char *const worlds[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"};
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        const char *n = getenv(worlds[i]);
        if (n && atoi(n) > 1)
            return err_usage(
                e, "started as one of %s ranks, but this binary was built without MPI; run one process", n);
    }
    return true;
}

void comm_stop(void) {}

int comm_world(void) {
    return 1;
}
int comm_world_rank(void) {
    return 0;
}
int comm_local_rank(void) {
    return 0;
}
int comm_local_ranks(void) {
    return 1;
}
const char *comm_whoami(void) {
    return "";
}

void comm_fail(const Err *e) {
    (void)e;
}
void comm_watch(double seconds) {
    (void)seconds;
}
void comm_alive(const char *what) {
    (void)what;
}

/* ---- a grid of it ---------------------------------------------------------------------------------------- */

Comm *comm_open(const Grid *g, const Ops *ops, bool staged, Err *e) {
    (void)ops, (void)staged, (void)e;
    Comm *c = xcalloc(1, sizeof *c);
    c->grid = *g;
    for (int i = 0; i < N_GROUPS; i++) c->size[i] = 1;
    return c;
}

void comm_close(Comm *c) {
    free(c);
}
const Grid *comm_grid(const Comm *c) {
    return &c->grid;
}
int comm_size(const Comm *c, Group g) {
    return c->size[g];
}
int comm_rank(const Comm *c, Group g) {
    return c->rank[g];
}

/* ---- the back end's memory ------------------------------------------------------------------------------- */

void comm_all_reduce(Comm *c, Group g, void *x, int64_t n, Wire t, When w) {
    (void)c, (void)g, (void)x, (void)n, (void)t, (void)w;
}
void comm_reduce_scatter(Comm *c, Group g, void *out, const void *in, int64_t n, Wire t, When w) {
    (void)c, (void)g, (void)out, (void)in, (void)n, (void)t, (void)w;
}
void comm_all_gather(Comm *c, Group g, void *out, const void *in, int64_t n, Wire t, When w) {
    (void)c, (void)g, (void)out, (void)in, (void)n, (void)t, (void)w;
}
void comm_broadcast(Comm *c, Group g, void *x, int64_t n, Wire t, int from, When w) {
    (void)c, (void)g, (void)x, (void)n, (void)t, (void)from, (void)w;
}
void comm_join(Comm *c) {
    (void)c;
}
void comm_send(Comm *c, Lane l, const void *x, size_t bytes) {
    (void)c, (void)l, (void)x, (void)bytes;
}
void comm_sent(Comm *c, Lane l) {
    (void)c, (void)l;
}
void comm_recv(Comm *c, Lane l, void *x, size_t bytes) {
    (void)c, (void)l, (void)x, (void)bytes;
}
double comm_exposed(Comm *c) {
    (void)c;
    return 0;
}

/* ---- the host's memory ----------------------------------------------------------------------------------- */

bool comm_agree(Comm *c, bool ok, Err *e) {
    (void)c, (void)e;
    return ok;
}
void comm_barrier(Comm *c) {
    (void)c;
}
void comm_host_broadcast(Comm *c, void *x, size_t bytes, int from) {
    (void)c, (void)x, (void)bytes, (void)from;
}
void comm_host_gather(Comm *c, void *all, const void *x, size_t bytes) {
    (void)c;
    memcpy(all, x, bytes);
}
void comm_host_max(Comm *c, double *x, int n) {
    (void)c, (void)x, (void)n;
}
void comm_host_send(Comm *c, int to, const void *x, size_t bytes) {
    (void)c, (void)to, (void)x, (void)bytes;
}
void comm_host_recv(Comm *c, int from, void *x, size_t bytes) {
    (void)c, (void)from, (void)x, (void)bytes;
}

bool comm_self_test(Comm *c, Err *e) {
    (void)c, (void)e;
    return true;
}
