/* test_extsort.c - extsort.c: against qsort, whatever the memory and the lanes. */
#include "extsort.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { WIDTH = 5, KEY = 3 };

static int by_record(const void *a, const void *b) {
    for (int i = 0; i < WIDTH; i++) {
        uint32_t x = ((const uint32_t *)a)[i], y = ((const uint32_t *)b)[i];
        if (x != y) return x < y ? -1 : 1;
    }
    return 0;
}

/* Few different keys, some of them large. */
static void make_records(uint32_t (*r)[WIDTH], size_t n, uint32_t different) {
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < KEY; k++)
            r[i][k] = rand_u32(1, RAND_TEST, i, (uint64_t)k) % different * (k == 1 ? 40000001u : 1);
        sort_put_count(r[i] + KEY, 1 + (uint64_t)(i % 3) * UINT32_MAX);
    }
}

static Sorter *sorted(uint32_t (*r)[WIDTH], size_t n, SortPlan plan) {
    Err e = {0};
    plan.width = WIDTH, plan.key = KEY, plan.dir = test_dir();
    Sorter *s = sorter_open(&plan);
    for (size_t i = 0; i < n; i++)
        EXPECT(sorter_put(s, (int)(i % (size_t)plan.lanes), r[i], &e), "%s", e.msg);
    EXPECT(sorter_sort(s, &e), "%s", e.msg);
    return s;
}

/* 150 runs or more: they are merged on the way, not to have too many files open. */
TEST(extsort_many_runs) {
    enum { N = 160000 };
    uint32_t(*r)[WIDTH] = xmalloc(N * sizeof *r);
    make_records(r, N, 1000);
    struct rlimit old, few;
    EXPECT(getrlimit(RLIMIT_NOFILE, &old) == 0);
    few = old;
    few.rlim_cur = 140;
    EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (size_t i = 0; i < N; i++) sort_put_count(r[i] + KEY, i); /* all different: nothing may be lost */
    for (int lanes = 1; lanes <= 3; lanes += 2) {
        Sorter *s = sorted(r, N, (SortPlan){.memory = 1, .lanes = lanes});
        uint32_t(*want)[WIDTH] = xmalloc(N * sizeof *want);
        bool *seen = xcalloc(N, 1);
        memcpy(want, r, N * sizeof *r);
        qsort(want, N, sizeof *want, by_record);
        const uint32_t *got;
        Err e = {0};
        size_t i = 0;
        for (; sorter_next(s, &got, &e) && got && i < N; i++) {
            uint64_t which = sort_get_count(got + KEY);
            EXPECT(!memcmp(got, want[i], KEY * sizeof *got), "record %zu", i);
            EXPECT(which < N && !seen[which] && !memcmp(got, r[which], sizeof *r), "record %zu", i);
            if (which < N) seen[which] = true;
        }
        EXPECT(i == N && !got && !e.code);
        sorter_close(s);
        free(seen);
        free(want);
    }
    setrlimit(RLIMIT_NOFILE, &old);
    free(r);
}

/* One record for each key, with all their counts, from memory and from disk. */
TEST(extsort_sums) {
    enum { N = 30000 };
    uint32_t(*r)[WIDTH] = xmalloc(N * sizeof *r);
    make_records(r, N, 12);
    for (size_t memory = 1; memory < 1 << 28; memory *= 1 << 13) {
        Sorter *s = sorted(r, N, (SortPlan){.memory = memory, .lanes = 2, .sum = true});
        uint32_t last[WIDTH] = {0};
        uint64_t total = 0, want = 0;
        const uint32_t *got;
        size_t n = 0;
        Err e = {0};
        for (; sorter_next(s, &got, &e) && got; n++) {
            EXPECT(!n || memcmp(last, got, KEY * sizeof *got), "a key came twice");
            memcpy(last, got, sizeof last);
            total += sort_get_count(got + KEY);
        }
        for (size_t i = 0; i < N; i++) want += sort_get_count(r[i] + KEY);
        EXPECT(n == 12 * 12 * 12 && total == want, "%zu keys", n);
        sorter_close(s);
    }
    free(r);
}

TEST(extsort_nothing_and_nowhere) {
    Err e = {0};
    const uint32_t *got, record[WIDTH] = {7};
    Sorter *s = sorted(NULL, 0, (SortPlan){.memory = 1 << 20, .lanes = 2});
    EXPECT(sorter_next(s, &got, &e) && !got);
    sorter_close(s);
    s = sorter_open(
        &(SortPlan){.width = WIDTH, .key = KEY, .memory = 1, .lanes = 1, .dir = "/nowhere/at/all"});
    for (int i = 0; i < 5000 && sorter_put(s, 0, record, &e); i++) {}
    EXPECT_ERR(&e, "/nowhere/at/all: cannot make a temporary file: No such file");
    sorter_close(s);
}
