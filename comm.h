/* comm.h - floor 1: the dp x pp x tp grid of ranks, and all that goes over the wire between them.
 *
 * One rank is one process, and one GPU if it has any. Host memory travels by MPI; a GPU's by NCCL, or staged through
 * the host by MPI. A single process needs neither: every collective of a group of one does nothing.
 *
 * Errors inside a running job cannot be handed up on one rank while the others wait: they end all ranks (comm_fail).
 * Set-up is the exception: comm_agree turns an error of any rank into the same error on all. */
#ifndef GPT_COMM_H
#define GPT_COMM_H

#include "ops.h"

typedef struct Grid {
    int rank, ranks; /* of those that train: dp * pp * tp */
    int dp, pp, tp;  /* sizes */
    int dp_rank, pp_rank,
        tp_rank; /* rank = (pp_rank * dp + dp_rank) * tp + tp_rank: those who say most to each */
} Grid;          /* other stand next to each other */

/* The grid of one rank. */
#define GRID_OF_ONE ((Grid){.ranks = 1, .dp = 1, .pp = 1, .tp = 1})
Grid grid_at(int dp, int pp, int tp, int rank);
static inline bool grid_is_root(const Grid *g) { /* the rank that prints, and writes single files */
    return g->rank == 0;
}

/* Ranks that differ in one coordinate only; their order in the group is that coordinate's. TIED: the first and the last
 * stage of the same dp_rank and tp_rank, which both hold the embedding. */
typedef enum { GROUP_WORLD, GROUP_DATA, GROUP_PIPELINE, GROUP_TENSOR, GROUP_TIED, N_GROUPS } Group;

/* ---- the job --------------------------------------------------------------------------------------------- */

/* Joins the job that a launcher (mpirun, srun) started, or is alone. Once a process, first thing. A launcher that
 * started several ranks of a binary without MPI is an error: N copies of one run would overwrite each other. */
bool comm_start(Err *e);
void comm_stop(void);          /* leaves it in order; all ranks */
int comm_world(void);          /* ranks that the launcher started */
int comm_world_rank(void);     /* of these */
int comm_local_rank(void);     /* among those on this host */
int comm_local_ranks(void);    /* on this host */
const char *comm_whoami(void); /* "rank 3 (node7)"; "" when alone */

/* How to stop this job well, where its launcher has a way that is not: a line for people; NULL: none is needed. */
const char *comm_stop_advice(void);

/* Ends the job at once, all ranks, with the one line "gpt: rank 3 (node7): MESSAGE" and e->code. Alone: returns, and the
 * caller does what it did before there were ranks. Any thread. */
void comm_fail(const Err *e);

/* The watchdog. Ranks tell each other every second that they live, and how far they have come. A rank that is silent for
 * `seconds`, or whose comm_alive() has not been called for as long while others wait for it, is late: the job ends with a
 * line that names it, its host, and what it was last seen doing. 0 stops watching. */
void comm_watch(double seconds);
/* The main thread is still working: cheap, to be called every so often where work may be long. `what` (a literal) says
 * at what: "step", "checkpoint", ... */
void comm_alive(const char *what);

/* ---- a grid of it ---------------------------------------------------------------------------------------- */

typedef struct Comm Comm;
/* All ranks of the world call it, with the same sizes; g->ranks may be fewer than there are, and the ranks beyond get
 * a communicator that they may only close. `staged`: a GPU's memory goes through the host by MPI. Errors: NCCL is not
 * there, more ranks than GPUs. A grid of one needs no comm_start. */
Comm *comm_open(const Grid *g, const Ops *ops, bool staged, Err *e);
void comm_close(Comm *c);
const Grid *comm_grid(const Comm *c);
int comm_size(const Comm *c, Group g);
int comm_rank(const Comm *c, Group g);

/* ---- the back end's memory -------------------------------------------------------------------------------
 * Queued like ops: after those that were queued before, before those that come later. BEHIND: on a queue beside that of
 * ops, after the ops queued so far; ops that need the result come after a comm_join. All ranks of a group make the same
 * calls in the same order. bf16 is summed in fp32 and rounded once a hop. Sums are the same bits on all ranks, and the
 * same each time. */

typedef enum { WIRE_F32, WIRE_BF16, WIRE_F64 } Wire;
static inline Wire wire_of(Dtype d) {
    return d == DT_BF16 ? WIRE_BF16 : WIRE_F32;
}
typedef enum { NOW, BEHIND } When;

void comm_all_reduce(Comm *c, Group g, void *x, int64_t n, Wire t, When w); /* x [n] = the sum of all x */
/* out [n] = part `rank` of the sum of all in [size, n]; out may be in + rank * n. */
void comm_reduce_scatter(Comm *c, Group g, void *out, const void *in, int64_t n, Wire t, When w);
/* out [size, n] = all in [n] side by side; in may be out + rank * n. */
void comm_all_gather(Comm *c, Group g, void *out, const void *in, int64_t n, Wire t, When w);
void comm_broadcast(Comm *c, Group g, void *x, int64_t n, Wire t, int from, When w);
void comm_join(Comm *c); /* ops from here on come after all that went BEHIND */

/* Between neighbours in the pipeline, as a ring: stage 0 follows the last. NEXT carries activations from each stage to
 * the one after it, PREVIOUS gradients the other way. What is sent in a lane arrives in that order. */
typedef enum { LANE_NEXT, LANE_PREVIOUS, N_LANES } Lane;
/* Returns at once; x must stay as it is until comm_sent, which waits for the last send of the lane (if any). */
void comm_send(Comm *c, Lane l, const void *x, size_t bytes);
void comm_sent(Comm *c, Lane l);
void comm_recv(Comm *c, Lane l, void *x, size_t bytes); /* ops from here on find x filled */

/* Seconds the main thread (on a GPU: its queue) spent in all of the above, waiting and copying: communication that hid
 * behind nothing. Since the last call. */
double comm_exposed(Comm *c);

/* ---- the host's memory, now ------------------------------------------------------------------------------ */

/* True if `ok` on all ranks of the grid. Else *e is, on all of them, the error of the lowest rank that has one, with
 * its whoami in front when the ranks' messages differ. */
bool comm_agree(Comm *c, bool ok, Err *e);
void comm_barrier(Comm *c);
void comm_host_broadcast(Comm *c, void *x, size_t bytes, int from);
void comm_host_gather(Comm *c, void *all, const void *x, size_t bytes); /* all [ranks, bytes], on rank 0 */
void comm_host_max(Comm *c, double *x, int n);                          /* x [n] = the largest of all x */
void comm_host_send(Comm *c, int to, const void *x, size_t bytes);      /* may wait for the receiver */
void comm_host_recv(Comm *c, int from, void *x, size_t bytes);

/* ---- is the machine sound? ------------------------------------------------------------------------------- */

/* One matrix product and one all-reduce of numbers known beforehand on every rank. Notes the slowest rank and how it
 * compares with the median. Error: a rank computes a wrong answer; it is named. */
bool comm_self_test(Comm *c, Err *e);

#endif
