/* extsort.c - floor 1: see extsort.h. */
#include "extsort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 1 << 18, FAN_IN = 128, FIRST = 1 << 10, DIGIT = 11 };

/* A sorted run: in memory, or in a file without a name of which a block is in memory. */
typedef struct Run {
    int fd;        /* -1: [at, end) is all there is */
    uint64_t left; /* words still in the file */
    uint32_t *block;
    const uint32_t *at, *end;
} Run;

/* Runs being merged: a heap of their heads, the least on top. */
typedef struct Merge {
    Run **heap;
    int n;
    uint32_t record[SORT_WIDEST]; /* the last one given */
} Merge;

typedef struct Lane {
    uint32_t *rec, *spare; /* [cap * width] */
    size_t n, cap;
} Lane;

struct Sorter {
    SortPlan plan;
    char *dir;
    size_t lane_cap; /* records */
    Lane *lane;
    Run *run; /* files, then one a lane */
    int n_runs, run_cap;
    Merge merge;
};

Sorter *sorter_open(const SortPlan *plan) {
    CHECK(plan->width <= SORT_WIDEST && plan->key + 2 * plan->sum <= plan->width && plan->lanes > 0);
    Sorter *s = xcalloc(1, sizeof *s);
    s->plan = *plan;
    s->dir = xstrdup(plan->dir);
    s->lane_cap = plan->memory / 2 / (size_t)plan->lanes / ((size_t)plan->width * 4);
    if (s->lane_cap < FIRST) s->lane_cap = FIRST;
    s->lane = xcalloc((size_t)plan->lanes, sizeof *s->lane);
    return s;
}

static void run_close(Run *r) {
    if (r->fd >= 0) close(r->fd);
    free(r->block);
}

void sorter_close(Sorter *s) {
    if (!s) return;
    for (int i = 0; i < s->n_runs; i++) run_close(&s->run[i]);
    for (int i = 0; i < s->plan.lanes; i++) free(s->lane[i].rec), free(s->lane[i].spare);
    free(s->merge.heap);
    free(s->lane);
    free(s->run);
    free(s->dir);
    free(s);
}

/* ---- in memory ------------------------------------------------------------------------------------------- */

/* One stable pass over the digit at `shift` of word w: a counting sort from rec to spare, which change places. */
static void sort_digit(Lane *l, size_t width, int w, int shift) {
    size_t start[1 << DIGIT] = {0}, sum = 0;
    const uint32_t mask = (1u << DIGIT) - 1;
    for (size_t i = 0; i < l->n; i++) start[l->rec[i * width + (size_t)w] >> shift & mask]++;
    for (size_t d = 0; d <= mask; d++) {
        size_t n = start[d];
        start[d] = sum;
        sum += n;
    }
    for (size_t i = 0; i < l->n; i++) {
        const uint32_t *r = l->rec + i * width;
        memcpy(l->spare + start[r[w] >> shift & mask]++ * width, r, width * sizeof *r);
    }
    uint32_t *swap = l->rec;
    l->rec = l->spare;
    l->spare = swap;
}

/* Radix sort, last word first; digits in which no two records differ cost one look. */
static void lane_sort(Lane *l, const SortPlan *p) {
    size_t width = (size_t)p->width;
    if (!l->n) return;
    l->spare = xrealloc(l->spare, l->cap * width * sizeof *l->spare);
    for (int w = p->key; w-- > 0;) {
        uint32_t differ = 0;
        for (size_t i = 1; i < l->n; i++) differ |= l->rec[i * width + (size_t)w] ^ l->rec[(size_t)w];
        for (int shift = 0; shift < 32; shift += DIGIT)
            if (differ >> shift & ((1u << DIGIT) - 1)) sort_digit(l, width, w, shift);
    }
}

static bool same_key(const uint32_t *a, const uint32_t *b, int key) {
    return !memcmp(a, b, (size_t)key * sizeof *a);
}

static void add_count(uint32_t *to, const uint32_t *from, int key) {
    sort_put_count(to + key, sort_get_count(to + key) + sort_get_count(from + key));
}

/* Of sorted records, equal keys become one. */
static void lane_sum(Lane *l, const SortPlan *p) {
    size_t width = (size_t)p->width, n = 0;
    for (size_t i = 0; i < l->n; i++) {
        uint32_t *r = l->rec + i * width;
        if (n && same_key(r, l->rec + (n - 1) * width, p->key))
            add_count(l->rec + (n - 1) * width, r, p->key);
        else
            memmove(l->rec + n++ * width, r, width * sizeof *r);
    }
    l->n = n;
}

/* ---- runs ------------------------------------------------------------------------------------------------ */

static bool temporary_file(const char *dir, int *fd, Err *e) {
    char *path = path_join(dir, "sort-XXXXXX");
    *fd = mkstemp(path);
    if (*fd < 0)
        err_set(e, "%s: cannot make a temporary file: %s", dir, strerror(errno));
    else
        unlink(path);
    free(path);
    return *fd >= 0;
}

static bool write_words(int fd, const uint32_t *p, size_t words, const char *dir, Err *e) {
    const char *at = (const char *)p;
    for (size_t n = words * sizeof *p; n;) {
        ssize_t k = write(fd, at, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return err_set(e, "%s: cannot write a temporary file: %s", dir, strerror(errno));
        at += k;
        n -= (size_t)k;
    }
    return true;
}

/* The next block of the run's file: [at, end), empty at the end. */
static bool run_read(Run *r, const SortPlan *p, const char *dir, Err *e) {
    size_t words = BLOCK / sizeof *r->block / (size_t)p->width * (size_t)p->width, got = 0;
    if (words > r->left) words = (size_t)r->left;
    if (!r->block) r->block = xmalloc(BLOCK);
    while (got < words * sizeof *r->block) {
        ssize_t k = read(r->fd, (char *)r->block + got, words * sizeof *r->block - got);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            return err_set(e, "%s: cannot read a temporary file: %s", dir, k ? strerror(errno) : "it ends");
        got += (size_t)k;
    }
    r->at = r->block;
    r->end = r->block + words;
    r->left -= words;
    return true;
}

static Run *run_add(Sorter *s) {
    if (s->n_runs == s->run_cap)
        s->run = xrealloc(s->run, (size_t)(s->run_cap = s->run_cap * 2 + 8) * sizeof *s->run);
    Run *r = &s->run[s->n_runs++];
    *r = (Run){.fd = -1};
    return r;
}

/* ---- merging --------------------------------------------------------------------------------------------- */

static bool run_before(const Run *a, const Run *b, int key) {
    for (int i = 0; i < key; i++)
        if (a->at[i] != b->at[i]) return a->at[i] < b->at[i];
    return false;
}

static void heap_settle(Merge *m, int i, int key) {
    Run *r = m->heap[i];
    for (int child; (child = 2 * i + 1) < m->n; i = child) {
        if (child + 1 < m->n && run_before(m->heap[child + 1], m->heap[child], key)) child++;
        if (!run_before(m->heap[child], r, key)) break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = r;
}

static bool merge_open(Merge *m, Sorter *s, Err *e) {
    m->heap = xrealloc(m->heap, (size_t)(s->n_runs + 1) * sizeof(Run *));
    m->n = 0;
    for (int i = 0; i < s->n_runs; i++) {
        Run *r = &s->run[i];
        if (r->fd >= 0 && !run_read(r, &s->plan, s->dir, e)) return false;
        if (r->at < r->end) m->heap[m->n++] = r;
    }
    for (int i = m->n / 2; i-- > 0;) heap_settle(m, i, s->plan.key);
    return true;
}

/* Steps behind the least record. */
static bool merge_pop(Merge *m, Sorter *s, Err *e) {
    Run *r = m->heap[0];
    r->at += s->plan.width;
    if (r->at == r->end && r->left && !run_read(r, &s->plan, s->dir, e)) return false;
    if (r->at == r->end) m->heap[0] = m->heap[--m->n];
    if (m->n) heap_settle(m, 0, s->plan.key);
    return true;
}

static bool merge_next(Merge *m, Sorter *s, const uint32_t **record, Err *e) {
    const SortPlan *p = &s->plan;
    *record = NULL;
    if (!m->n) return true;
    memcpy(m->record, m->heap[0]->at, (size_t)p->width * sizeof *m->record);
    if (!merge_pop(m, s, e)) return false;
    while (p->sum && m->n && same_key(m->heap[0]->at, m->record, p->key)) {
        add_count(m->record, m->heap[0]->at, p->key);
        if (!merge_pop(m, s, e)) return false;
    }
    *record = m->record;
    return true;
}

/* All runs become one, so that no more than FAN_IN files are ever open. */
static bool runs_merge(Sorter *s, Err *e) {
    size_t width = (size_t)s->plan.width, block = BLOCK / sizeof(uint32_t) / width * width, n = 0;
    uint32_t *out = xmalloc(BLOCK);
    const uint32_t *record;
    Merge m = {0};
    Run whole = {.fd = -1};
    bool ok = temporary_file(s->dir, &whole.fd, e) && merge_open(&m, s, e);
    while (ok && (ok = merge_next(&m, s, &record, e)) && record) {
        memcpy(out + n, record, width * sizeof *record);
        whole.left += width;
        if ((n += width) == block) ok = write_words(whole.fd, out, n, s->dir, e), n = 0;
    }
    ok = ok && write_words(whole.fd, out, n, s->dir, e) && lseek(whole.fd, 0, SEEK_SET) == 0;
    for (int i = 0; i < s->n_runs; i++) run_close(&s->run[i]);
    s->n_runs = 0;
    *run_add(s) = whole;
    free(out);
    free(m.heap);
    return ok;
}

static bool run_write(Sorter *s, Lane *l, Err *e) {
    int fd;
    size_t words = l->n * (size_t)s->plan.width;
    if (!temporary_file(s->dir, &fd, e)) return false;
    bool ok = write_words(fd, l->rec, words, s->dir, e) && lseek(fd, 0, SEEK_SET) == 0;
#pragma omp critical(extsort)
    {
        *run_add(s) = (Run){.fd = fd, .left = words};
        if (ok && s->n_runs == FAN_IN) ok = runs_merge(s, e);
    }
    l->n = 0;
    return ok;
}

/* ---- in and out ------------------------------------------------------------------------------------------ */

/* Makes room: a larger lane while that is allowed, else a run on disk, unless summing has freed half of it. */
static bool lane_full(Sorter *s, Lane *l, Err *e) {
    if (l->cap < s->lane_cap) {
        l->cap = l->cap ? l->cap * 2 : FIRST;
        if (l->cap > s->lane_cap) l->cap = s->lane_cap;
        l->rec = xrealloc(l->rec, l->cap * (size_t)s->plan.width * sizeof *l->rec);
        return true;
    }
    lane_sort(l, &s->plan);
    if (s->plan.sum) lane_sum(l, &s->plan);
    return l->n <= l->cap / 2 || run_write(s, l, e);
}

bool sorter_put(Sorter *s, int lane, const uint32_t *record, Err *e) {
    Lane *l = &s->lane[lane];
    if (l->n == l->cap && !lane_full(s, l, e)) return false;
    memcpy(l->rec + l->n++ * (size_t)s->plan.width, record, (size_t)s->plan.width * sizeof *record);
    return true;
}

bool sorter_sort(Sorter *s, Err *e) {
#pragma omp parallel for num_threads(s->plan.lanes)
    for (int i = 0; i < s->plan.lanes; i++) {
        Lane *l = &s->lane[i];
        lane_sort(l, &s->plan);
        if (s->plan.sum) lane_sum(l, &s->plan);
        free(l->spare);
        l->spare = NULL;
    }
    for (int i = 0; i < s->plan.lanes; i++) {
        const Lane *l = &s->lane[i];
        Run *r = run_add(s);
        r->at = l->rec;
        r->end = l->rec + l->n * (size_t)s->plan.width;
    }
    return merge_open(&s->merge, s, e);
}

bool sorter_next(Sorter *s, const uint32_t **record, Err *e) {
    return merge_next(&s->merge, s, record, e);
}
