/* comm_check.c - floor 1: comm_self_test of comm.h. */
#include "comm_wire.h"
#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>

enum { TIMES = 5, LEAST = 256, MOST = 4096, SUMMED = 1 << 18 };

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_size);
    return x[n / 2];
}

/* ---- a product whose numbers are small integers: bf16 holds each, so it is right or wrong ------------------ */

/* Element i of matrix `which`: 1 and -1 in an eighth of the places each, else 0, so that sums of 4,096 products stay far
 * below the 256 up to which bf16 counts. */
static int element(int which, int64_t i) {
    uint64_t x = (uint64_t)i * 2 + (uint64_t)which + 1;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    x = (x ^ x >> 31) % 8;
    return x == 0 ? 1 : x == 1 ? -1 : 0;
}

/* out [n] = matrix [n, n] times x [n]. */
static void times_vector(int64_t *out, int which, const int64_t *x, int64_t n) {
    for (int64_t r = 0; r < n; r++) {
        out[r] = 0;
        for (int64_t k = 0; k < n; k++) out[r] += element(which, r * n + k) * x[k];
    }
}

/* Is c [n, n] the product? It is asked as c x = a (b x), for an x of 1 and -1 (Freivalds 1977): n^2 steps, not n^3. One
 * wrong element of a row always shows, several stay hidden from one such x with a chance of at most a half. */
static bool is_product(const uint16_t *c, int64_t n, Err *e) {
    int64_t *x = xmalloc(3 * (size_t)n * sizeof *x), *bx = x + n, *abx = bx + n, wrong = 0;
    for (int salt = 0; salt < 3; salt++) {
        for (int64_t k = 0; k < n; k++)
            x[k] = rand_u32(1, RAND_TEST, (uint64_t)salt, (uint64_t)k) & 1 ? 1 : -1;
        times_vector(bx, 1, x, n);
        times_vector(abx, 0, bx, n);
        for (int64_t r = 0; r < n; r++) {
            double cx = 0;
            for (int64_t k = 0; k < n; k++) {
                const float v = bf16_to_f32(c[r * n + k]);
                cx += v * (double)x[k];
                wrong += v != rintf(v); /* too little to change the sum */
            }
            wrong += cx != (double)abx[r];
        }
    }
    free(x);
    return !wrong ||
           err_set(e, "this machine computes wrong: a product of %lld x %lld small integers is not exact",
                   (long long)n, (long long)n);
}

static double time_product(const Ops *ops, uint16_t *c, uint16_t *a, uint16_t *b, int64_t n) {
    const Matmul m = {.batch = 1, .M = n, .N = n, .K = n, .alpha = 1};
    double t[TIMES];
    for (int i = -1; i < TIMES; i++) { /* the first chooses algorithms */
        const double from = now_seconds();
        ops->matmul((Matrices){c, n, n * n}, (Matrices){a, n, n * n}, (Matrices){b, n, n * n}, NULL, &m);
        ops->wait();
        if (i >= 0) t[i] = now_seconds() - from;
    }
    return median(t, TIMES);
}

static bool check_product(const Ops *ops, int64_t n, double *seconds, Err *e) {
    const size_t count = (size_t)(n * n), bytes = count * sizeof(uint16_t);
    uint16_t *host = xmalloc(bytes), *p[3] = {0};
    bool ok = true;
    for (int i = 0; i < 3 && ok; i++) {
        ok = (p[i] = ops->alloc(bytes, "the machine's check", e)) != NULL;
        for (size_t k = 0; k < count; k++) host[k] = f32_to_bf16((float)element(i, (int64_t)k));
        if (ok) ops->to_device(p[i], host, bytes);
    }
    if (ok) {
        *seconds = time_product(ops, p[2], p[0], p[1], n);
        ops->to_host(host, p[2], bytes);
        ok = is_product(host, n, e);
    }
    for (int i = 0; i < 3; i++)
        if (p[i]) ops->release(p[i]);
    free(host);
    return ok;
}

/* All ranks multiply matrices of the size for which the first one needs a millisecond. */
static bool check_products(Comm *c, const Ops *ops, int64_t *n, double *seconds, Err *e) {
    const bool first = grid_is_root(comm_grid(c));
    bool ok = true;
    *n = LEAST;
    if (first)
        while ((ok = check_product(ops, *n, seconds, e)) && *seconds < 1e-3 && *n < MOST) *n *= 2;
    comm_host_broadcast(c, n, sizeof *n, 0);
    return comm_agree(c, first ? ok : check_product(ops, *n, seconds, e), e);
}

/* ---- a sum over all ranks -------------------------------------------------------------------------------- */

static bool check_sum(Comm *c, const Ops *ops, double *seconds, Err *e) {
    const Grid *g = comm_grid(c);
    float *host = xmalloc(SUMMED * sizeof *host), sums[16] = {0};
    float *x = ops->alloc(SUMMED * sizeof *x, "the wire's check", e);
    double t[TIMES];
    int wrong = 0;
    if (!comm_agree(c, x != NULL, e)) return free(host), false;
    for (int r = 0; r < g->ranks; r++)
        for (int i = 0; i < 16; i++) sums[i] += (float)((r + i) % 16);
    for (int turn = 0; turn < TIMES; turn++) {
        for (int i = 0; i < SUMMED; i++) host[i] = (float)((g->rank + i) % 16);
        ops->to_device(x, host, SUMMED * sizeof *x);
        comm_barrier(c);
        const double from = now_seconds();
        comm_all_reduce(c, GROUP_WORLD, x, SUMMED, WIRE_F32, NOW);
        ops->wait();
        t[turn] = now_seconds() - from;
        ops->to_host(host, x, SUMMED * sizeof *x);
        for (int i = 0; i < SUMMED; i++) wrong += host[i] != sums[i % 16];
    }
    *seconds = median(t, TIMES);
    ops->release(x);
    free(host);
    return comm_agree(c, !wrong || err_set(e, "a sum over all ranks is wrong here in %d places", wrong), e);
}

/* ---- who is slow ----------------------------------------------------------------------------------------- */

typedef struct Report {
    double product, sum;
    char whoami[WHOAMI];
} Report;

static void note_slowest(Comm *c, const Report *mine, int64_t n) {
    const int ranks = comm_grid(c)->ranks;
    Report *all = xcalloc((size_t)ranks, sizeof *all);
    double *t = xcalloc((size_t)ranks, sizeof *t);
    int slowest = 0;
    comm_host_gather(c, all, mine, sizeof *mine);
    for (int r = 0; r < ranks; r++) {
        t[r] = all[r].product;
        if (t[r] > t[slowest]) slowest = r;
    }
    if (grid_is_root(comm_grid(c)) && ranks > 1) {
        const double most = t[slowest], middle = median(t, ranks);
        note(
            "all %d ranks compute right; %s is slowest: %.2f ms for a product of %lld x %lld, %.2f times the "
            "median; %.2f ms to sum 1 MiB",
            ranks, all[slowest].whoami, 1e3 * most, (long long)n, (long long)n, most / middle,
            1e3 * all[0].sum);
    }
    free(t);
    free(all);
}

bool comm_self_test(Comm *c, Err *e) {
    const Ops *ops = wire_ops(c);
    Report mine = {0};
    int64_t n;
    if (!check_products(c, ops, &n, &mine.product, e) || !check_sum(c, ops, &mine.sum, e)) return false;
    snprintf(mine.whoami, sizeof mine.whoami, "%s", comm_whoami());
    note_slowest(c, &mine, n);
    return true;
}
