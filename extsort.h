/* extsort.h - floor 1: sorting more records than memory holds: sorted runs on disk, merged as they are read.
 *
 * A record is `width` 32-bit words; records come out ascending by the first `key` of them, word by word. With `sum`
 * the two words after the key are a 64-bit count, low word first, and records of equal keys become one with the sum
 * of their counts. What comes out is then a function of what went in, whatever the memory and the threads. */
#ifndef GPT_EXTSORT_H
#define GPT_EXTSORT_H

#include "util.h"

typedef struct SortPlan {
    int width, key; /* width <= SORT_WIDEST */
    bool sum;
    size_t
        memory; /* bytes to keep records in, for all lanes together; half of it once sorter_sort() is done */
    int lanes;  /* how many threads put at once */
    const char *dir; /* where runs go; they have no names, so a killed program leaves none behind */
} SortPlan;

enum { SORT_WIDEST = 16 };

typedef struct Sorter Sorter;
Sorter *sorter_open(const SortPlan *plan); /* never NULL; files are made when they are needed */
void sorter_close(Sorter *s);

/* One thread a lane; lanes are independent. */
bool sorter_put(Sorter *s, int lane, const uint32_t *record, Err *e);

/* Ends putting. Then, from one thread, sorter_next() gives the records in order, NULL after the last; what it
 * returns holds until the next call. */
bool sorter_sort(Sorter *s, Err *e);
bool sorter_next(Sorter *s, const uint32_t **record, Err *e);

static inline void sort_put_count(uint32_t *at, uint64_t count) {
    at[0] = (uint32_t)count;
    at[1] = (uint32_t)(count >> 32);
}
static inline uint64_t sort_get_count(const uint32_t *at) {
    return at[0] | (uint64_t)at[1] << 32;
}
#endif
