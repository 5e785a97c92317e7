/* pairs.c - floor 1: see pairs.h. */
#include "pairs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- in memory ------------------------------------------------------------------------------------------- */

enum { DIGITS = 16, FEW = 32, TASK = 1 << 15 };

static inline bool less(Pair a, Pair b) {
    return a.key < b.key || (a.key == b.key && a.value < b.value);
}

/* Byte d of a pair, the highest first: eight of the key, then eight of the value. */
static inline unsigned digit(Pair p, int d) {
    return d < 8 ? p.key >> (56 - 8 * d) & 255 : p.value >> (120 - 8 * d) & 255;
}

static void insertion_sort(Pair *p, size_t n) {
    for (size_t i = 1; i < n; i++) {
        Pair x = p[i];
        size_t k = i;
        for (; k > 0 && less(x, p[k - 1]); k--) p[k] = p[k - 1];
        p[k] = x;
    }
}

/* Deals the pairs into 256 piles by digit d, in place: each pair that is taken up goes to the end of its pile, where
 * the one that lay there is taken up in turn. */
static void deal(Pair *p, size_t n, int d, size_t start[257]) {
    size_t count[256] = {0}, at[256];
    for (size_t i = 0; i < n; i++) count[digit(p[i], d)]++;
    start[0] = 0;
    for (int k = 0; k < 256; k++) at[k] = start[k], start[k + 1] = start[k] + count[k];
    for (unsigned k = 0; k < 256; k++)
        while (at[k] < start[k + 1]) {
            Pair x = p[at[k]];
            for (unsigned to; (to = digit(x, d)) != k;) {
                Pair y = p[at[to]];
                p[at[to]++] = x;
                x = y;
            }
            p[at[k]++] = x;
        }
}

static void sort_from(Pair *p, size_t n, int d) {
    size_t start[257];
    if (n <= FEW || d == DIGITS) {
        insertion_sort(p, n); /* if d == DIGITS all are equal */
        return;
    }
    deal(p, n, d, start);
    for (int k = 0; k < 256; k++) {
        size_t m = start[k + 1] - start[k];
        if (m < 2) continue;
#pragma omp task if (m > TASK)
        sort_from(p + start[k], m, d + 1);
    }
}

void pairs_sort(Pair *p, size_t n, int threads) {
#pragma omp parallel num_threads(threads)
#pragma omp single
    sort_from(p, n, 0);
}

/* ---- in runs on the disk --------------------------------------------------------------------------------- */

typedef struct Run {
    Pair head; /* the smallest that is left */
    int fd;
    Pair *block;
    size_t at, n, cap;
} Run;

static char *run_path(const Pairs *s, int i) {
    Str path = {0};
    str_printf(&path, "%s_%03d", s->stem, i);
    return path.p;
}

void pairs_open(Pairs *s, const char *stem, uint64_t memory, int threads) {
    *s = (Pairs){.stem = stem, .threads = threads, .cap = memory / sizeof(Pair)};
    if (s->cap < 1024) s->cap = 1024;
}

static bool write_run(Pairs *s, Err *e) {
    char *path = run_path(s, s->n_runs++);
    pairs_sort(s->block, s->n, s->threads);
    bool ok = file_write(path, s->block, s->n * sizeof *s->block, e);
    s->n = 0;
    free(path);
    return ok;
}

bool pairs_add(Pairs *s, uint64_t key, uint64_t value, Err *e) {
    if (!s->block)
        s->block = xmalloc(s->cap * sizeof *s->block); /* the system gives pages as they are used */
    s->block[s->n++] = (Pair){key, value};
    return s->n < s->cap || write_run(s, e);
}

/* The next pair of a run becomes its head; *more false at its end. */
static bool run_next(Run *r, bool *more, Err *e) {
    if (r->at == r->n) {
        size_t got = 0, want = r->cap * sizeof *r->block;
        while (got < want) {
            ssize_t k = read(r->fd, (char *)r->block + got, want - got);
            if (k < 0 && errno == EINTR) continue;
            if (k < 0) return err_set(e, "a sorted run: cannot read: %s", strerror(errno));
            if (k == 0) break;
            got += (size_t)k;
        }
        if (got % sizeof *r->block) return err_set(e, "a sorted run: ends within a pair");
        r->at = 0, r->n = got / sizeof *r->block;
    }
    *more = r->at < r->n;
    if (*more) r->head = r->block[r->at++];
    return true;
}

static void sift(Pairs *s, int i) {
    Run x = s->runs[i];
    for (int child; (child = 2 * i + 1) < s->n_heap; i = child) {
        if (child + 1 < s->n_heap && less(s->runs[child + 1].head, s->runs[child].head)) child++;
        if (!less(s->runs[child].head, x.head)) break;
        s->runs[i] = s->runs[child];
    }
    s->runs[i] = x;
}

static void run_close(Run *r) {
    if (r->fd >= 0) close(r->fd);
    free(r->block);
}

static bool run_open(Pairs *s, int i, size_t cap, Err *e) {
    char *path = run_path(s, i);
    Run r = {.fd = open(path, O_RDONLY | O_CLOEXEC), .cap = cap};
    bool more = false;
    bool ok = r.fd >= 0 || err_set(e, "%s: cannot open: %s", path, strerror(errno));
    r.block = ok ? xmalloc(cap * sizeof *r.block) : NULL;
    ok = ok && run_next(&r, &more, e);
    if (more)
        s->runs[s->n_heap++] = r;
    else
        run_close(&r);
    free(path);
    return ok;
}

bool pairs_rewind(Pairs *s, Err *e) {
    if (!s->n_runs) {
        pairs_sort(s->block, s->n, s->threads);
        return true;
    }
    if (s->n && !write_run(s, e)) return false;
    free(s->block);
    s->block = NULL;
    size_t cap = s->cap / (size_t)s->n_runs;
    s->runs = xcalloc((size_t)s->n_runs, sizeof *s->runs);
    for (int i = 0; i < s->n_runs; i++)
        if (!run_open(s, i, cap > 256 ? cap : 256, e)) return false;
    for (int i = s->n_heap / 2; i-- > 0;) sift(s, i);
    return true;
}

bool pairs_next(Pairs *s, Pair *p, bool *more, Err *e) {
    if (!s->n_runs) {
        if ((*more = s->at < s->n)) *p = s->block[s->at++];
        return true;
    }
    if (!(*more = s->n_heap > 0)) return true;
    Run *top = &s->runs[0];
    bool left = false;
    *p = top->head;
    if (!run_next(top, &left, e)) return false;
    if (!left) {
        run_close(top);
        *top = s->runs[--s->n_heap];
    }
    if (s->n_heap) sift(s, 0);
    return true;
}

void pairs_close(Pairs *s) {
    for (int i = 0; i < s->n_heap; i++) run_close(&s->runs[i]);
    for (int i = 0; i < s->n_runs; i++) {
        char *path = run_path(s, i);
        unlink(path);
        free(path);
    }
    free(s->runs);
    free(s->block);
    *s = (Pairs){0};
}

/* ---- disjoint sets --------------------------------------------------------------------------------------- */

void *scratch_map(const char *path, size_t bytes, Err *e) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    void *p = MAP_FAILED;
    /* Space is taken now: a full disk is an error here, not a signal at some later store. */
    int why = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)(bytes ? bytes : 1));
    if (!why && (p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        why = errno;
    if (fd >= 0) close(fd), unlink(path);
    if (why) err_set(e, "%s: cannot map %zu bytes: %s", path, bytes, strerror(why));
    return why ? NULL : p;
}

void scratch_unmap(void *p, size_t bytes) {
    if (p) munmap(p, bytes ? bytes : 1);
}

bool sets_open(Sets *s, const char *path, uint64_t n, Err *e) {
    *s = (Sets){.n = n, .parent = scratch_map(path, n * sizeof *s->parent, e)};
    for (uint64_t i = 0; i < n && s->parent; i++) s->parent[i] = i;
    return s->parent != NULL;
}

uint64_t sets_find(Sets *s, uint64_t i) {
    uint64_t *p = s->parent;
    for (; p[i] != i; i = p[i]) p[i] = p[p[i]];
    return i;
}

void sets_join(Sets *s, uint64_t i, uint64_t j) {
    i = sets_find(s, i), j = sets_find(s, j);
    s->parent[i < j ? j : i] = i < j ? i : j;
}

void sets_close(Sets *s) {
    scratch_unmap(s->parent, s->n * sizeof *s->parent);
    *s = (Sets){0};
}
