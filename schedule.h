/* schedule.h - floor 2: in which order a pipeline's stages run the micro steps of a step.
 *
 * One forward, one backward (PipeDream-Flush; Narayanan et al. 2021): a stage runs as many forwards ahead as there are
 * stages after it, then a backward after each forward, then the backwards that are left. Interleaved, each stage holds
 * several chunks of layers (chunk c of stage s is part c * pp + s of the model), micro steps go through them in groups of
 * pp, and the bubble shrinks by the number of chunks. */
#ifndef GPT_SCHEDULE_H
#define GPT_SCHEDULE_H

#include "util.h"

typedef struct Task {
    bool backward;
    int chunk;
    int64_t micro;
} Task;

/* The tasks of `stage` of `pp`, with so many chunks a stage: 2 * chunks * micros of them, malloc'd. chunks > 1 needs
 * micros to be a multiple of pp. */
Task *schedule_make(int pp, int stage, int chunks, int64_t micros);
/* How many micro steps of this chunk have run forward but not yet backward, at most: so many sets of activations. */
int64_t schedule_in_flight(int pp, int stage, int chunks, int64_t micros, int chunk);

#endif
