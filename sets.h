/* sets.h - floor 1: sets of numbers that grow together, more than memory holds.
 *
 * A forest of parents in a mapped file: what does not fit into memory the system keeps on the disk. A parent
 * is never larger than its child, so the root of a set is its smallest number, whatever the order of the
 * unions. */
#ifndef GPT_SETS_H
#define GPT_SETS_H

#include "util.h"

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
