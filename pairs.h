/* pairs.h - floor 1: sorting more pairs of numbers than memory holds, and sets of numbers that grow together.
 *
 * Pairs are collected until the memory is full, sorted, and written out as a run; reading merges the runs. The order
 * is a total one, so what comes out does not depend on the memory or the number of threads. */
#ifndef GPT_PAIRS_H
#define GPT_PAIRS_H

#include "util.h"

typedef struct Pair {
    uint64_t key, value;
} Pair;

/* In place, by key, then by value (American flag sort: McIlroy, Bostic and McIlroy 1993), on all threads. */
void pairs_sort(Pair *p, size_t n, int threads);

typedef struct Pairs {
    const char *stem; /* runs are files STEM_000, ... */
    int threads;
    Pair *block; /* [cap] what is not yet in a run */
    size_t n, cap;
    int n_runs;
    struct Run *runs; /* while reading: a heap, the smallest pair on top */
    int n_heap;
    size_t at; /* while reading from the block alone */
} Pairs;

/* `memory`: bytes for pairs. Runs that a killed process left under the same stem are written over. */
void pairs_open(Pairs *s, const char *stem, uint64_t memory, int threads);
bool pairs_add(Pairs *s, uint64_t key, uint64_t value, Err *e);
/* After the last pairs_add, and then pairs_next until it finds no more (*more false). */
bool pairs_rewind(Pairs *s, Err *e);
bool pairs_next(Pairs *s, Pair *p, bool *more, Err *e);
void pairs_close(Pairs *s); /* removes the runs */

/* ---- disjoint sets ---------------------------------------------------------------------------------------
 * A forest of parents in a mapped file: what does not fit into memory the system keeps on the disk. A parent is never
 * larger than its child, so the root of a set is its smallest number, whatever the order of the unions. */

typedef struct Sets {
    uint64_t *parent; /* [n] */
    uint64_t n;
} Sets;

bool sets_open(Sets *s, const char *path, uint64_t n, Err *e); /* n sets of one; `path` is removed at once */
uint64_t sets_find(Sets *s, uint64_t i);                       /* the root; halves the path to it */
void sets_join(Sets *s, uint64_t i, uint64_t j);
void sets_close(Sets *s);

/* A file of `bytes` zeros, mapped for reading and writing, that goes when it is unmapped. NULL on failure. */
void *scratch_map(const char *path, size_t bytes, Err *e);
void scratch_unmap(void *p, size_t bytes);
#endif
