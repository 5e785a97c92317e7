/* comm.h - floor 1: the dp x pp x tp grid of ranks, and its collectives. Here: a single process, for which every
 * collective is the identity; MPI and NCCL take their places behind the same calls. */
#ifndef GPT_COMM_H
#define GPT_COMM_H

#include "util.h"

typedef struct Grid {
    int rank, ranks; /* of the world */
    int dp, pp, tp;  /* sizes; dp * pp * tp == ranks */
    int dp_rank, pp_rank, tp_rank;
} Grid;

/* Opens the communicator the launcher set up. A launcher that started several ranks of a binary without MPI is
 * an error: N copies of one training run would overwrite each other. */
bool comm_start(Grid *g, Err *e);
void comm_stop(void);
bool comm_is_root(const Grid *g); /* the rank that prints and writes single files */

#endif
