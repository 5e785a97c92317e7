/* test_split.c - the ops of a model that is split between ranks: a vocabulary in parts, and how ranks find out that they
 * hold the same numbers. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- classifier in parts: n, V, ranks, columns a rank, row length, gradient -------------------------------- */

/* Rank r's logits [n, length] stand after those of the ranks before it. Of a row it has columns first .. first + V. */
typedef struct Share {
    int64_t first, V, at; /* where its logits begin */
} Share;

static Share share_of(const Case *c, int rank) {
    const int64_t first = (int64_t)rank * c->d[3], left = c->d[1] - first,
                  V = left < c->d[3] ? left : c->d[3];
    return (Share){first, V > 0 ? V : 0, (int64_t)rank * c->d[0] * c->d[4]};
}

/* Where column col of row i of the whole stands. */
static int64_t place(const Case *c, int i, int col) {
    return share_of(c, col / c->d[3]).at + i * c->d[4] + col % c->d[3];
}

static void split_args(Case *c) {
    const int n = c->d[0], V = c->d[1], ranks = c->d[2], all = ranks * n * c->d[4];
    arg_add(c, "dlogits", OUT, c->d[5] ? all : 0, c->dtype, 0, 0);
    arg_add(c, "loss", OUT, ranks * n, DT_F32, 0, 0);
    arg_add_kind(c, "best", OUT, ranks * n, INTS, 0, 0);
    arg_add(c, "logits", IN, all, c->stream, 3, 9);
    c->ids = some_ids(n, 0, V, 1);
    if (n > 1) c->ids[1] = -1;
    if (n > 2) R(3)[place(c, 2, V / 2)] = R(3)[place(c, 2, V - 1)] = 40; /* a tie, maybe between ranks */
    if (n > 3) R(3)[place(c, 3, V - 1)] = 40, R(3)[place(c, 3, 0)] = 30;
}

static void split_op(Case *c, const Ops *o) {
    const int n = c->d[0], ranks = c->d[2], length = c->d[4];
    ClassPart *parts = device(NULL, (size_t)(ranks * n) * sizeof *parts);
    for (int r = 0; r < ranks; r++) {
        const Share s = share_of(c, r);
        o->classifier_part(parts + r * n, tensor_at(T(3), s.at), c->dids, s.first, n, s.V, length);
    }
    for (int r = 0; r < ranks; r++) {
        const Share s = share_of(c, r);
        o->classifier_join(tensor_at(T(0), s.at), F(1) + r * n, (int32_t *)T(2).p + r * n,
                           tensor_at(T(3), s.at), parts, ranks, c->dids, s.first, 0.125f, n, s.V, length);
    }
    device_free();
}

/* The whole row's classifier, its numbers brought together before and apart after. */
static void split_ref(Case *c) {
    const int n = c->d[0], V = c->d[1], ranks = c->d[2];
    double *z = xmalloc(2 * (size_t)(n * V) * sizeof *z), *dz = z + n * V;
    for (int i = 0; i < n * V; i++) z[i] = R(3)[place(c, i / V, i % V)];
    for (int r = 0; r < ranks; r++) ref_classifier(dz, R(1) + r * n, R(2) + r * n, z, c->ids, 0.125, n, V, V);
    for (int64_t i = 0; i < c->a[0].n; i++) R(0)[i] = 0; /* what is beyond a rank's columns */
    for (int i = 0; R(0) && i < n * V; i++) R(0)[place(c, i / V, i % V)] = dz[i];
    free(z);
}

static double split_loss(Case *c) {
    double sum = 0;
    split_ref(c);
    for (int i = 0; i < c->d[0]; i++) sum += R(1)[i];
    return sum * 0.125;
}

static const OpTest classifier_split = {"classifier_split",
                                        {{1, 2, 2, 1, 128, 1},     /* a column each */
                                         {5, 100, 2, 64, 128, 1},  /* shorter than its rows; 64 and 36 */
                                         {4, 250, 4, 128, 128, 1}, /* two ranks without columns */
                                         {3, 999, 3, 333, 337, 1}, /* nothing is a multiple of anything */
                                         {9, 257, 8, 33, 40, 0},   /* no gradient */
                                         {4, 1000, 1, 1000, 1024, 1},
                                         {3, 9000, 2, 4608, 4608, 1},
                                         {0}},
                                        split_args,
                                        NULL,
                                        split_op,
                                        split_ref,
                                        split_loss,
                                        {{3, 0}},
                                        false};
OP_TEST(classifier_split)

/* One rank that has it all: the same bits as classifier's, in place too. */
TEST(ops_classifier_of_one_part) {
    enum { N = 5, V = 1003, VP = 1024, BYTES = N * VP * sizeof(float) };
    static float z[N * VP], got[2][N * VP];
    int32_t target[N] = {4, -1, 1002, 0, 77}, top[2][N];
    float losses[2][N];
    for (int i = 0; i < N * VP; i++) z[i] = 5 * (float)noise(1, (uint64_t)i);
    int32_t *ids = device(target, sizeof target), *best = device(NULL, sizeof *top);
    float *loss = device(NULL, sizeof *losses);
    ClassPart *part = device(NULL, N * sizeof *part);
    for (int split = 0; split < 2; split++) {
        const Tensor t = tensor(device(z, BYTES), DT_F32);
        if (split) {
            ops()->classifier_part(part, t, ids, 0, N, V, VP);
            ops()->classifier_join(t, loss, best, t, part, 1, ids, 0, 0.5f, N, V, VP);
        } else
            ops()->classifier(t, loss, best, t, ids, 0.5f, N, V, VP);
        host(got[split], t.p, BYTES), host(losses[split], loss, sizeof *losses);
        host(top[split], best, sizeof *top);
    }
    EXPECT(!memcmp(got[0], got[1], BYTES) && got[0][4] < 0);
    EXPECT(!memcmp(losses[0], losses[1], sizeof *losses) && losses[0][0] > 1 && losses[0][1] == 0);
    EXPECT(!memcmp(top[0], top[1], sizeof *top) && top[0][0] > 0);
    device_free();
}

/* A part's numbers go over the wire: they are what ops.h says, and so are those of a rank without columns. */
TEST(ops_classifier_part) {
    enum { V = 3, VP = 8 };
    const float z[2 * VP] = {1, 3, 2, 9, 9, 9, 9, 9, 5, 4, 5, 9, 9, 9, 9, 9};
    const int32_t target[2] = {42, 7};
    ClassPart got[2], none[2];
    int32_t *ids = device(target, sizeof target);
    ClassPart *part = device(NULL, sizeof got);
    ops()->classifier_part(part, tensor(device(z, sizeof z), DT_F32), ids, 40, 2, V, VP);
    host(got, part, sizeof got);
    ops()->classifier_part(part, NO_TENSOR, ids, 43, 2, 0, 0);
    host(none, part, sizeof none);
    EXPECT(got[0].max == 3 && got[0].target == 2 && got[0].best == 41);
    EXPECT(fabs(got[0].sum - (exp(-2) + 1 + exp(-1))) < 1e-6, "%.8g", got[0].sum);
    EXPECT(got[1].max == 5 && got[1].target == 0 && got[1].best == 40);
    for (int i = 0; i < 2; i++)
        EXPECT(none[i].max == -INFINITY && none[i].sum == 0 && none[i].target == 0 && none[i].best == -1);
    device_free();
}

/* A NaN on one rank must reach the loss on all. */
TEST(ops_classifier_split_nan) {
    for (int at = 0; at < 4; at++) {
        float z[2][128] = {{0}}, loss[2];
        const int32_t target = 3;
        z[at % 2][at / 2 * 7] = NAN;
        int32_t *id = device(&target, sizeof target);
        float *dloss = device(NULL, sizeof loss);
        ClassPart *parts = device(NULL, 2 * sizeof *parts);
        Tensor t[2];
        for (int r = 0; r < 2; r++) {
            t[r] = tensor(device(z[r], sizeof z[r]), DT_F32);
            ops()->classifier_part(&parts[r], t[r], id, 100 * r, 1, 100, 128);
        }
        for (int r = 0; r < 2; r++)
            ops()->classifier_join(NO_TENSOR, &dloss[r], NULL, t[r], parts, 2, id, 100 * r, 1, 1, 100, 128);
        host(loss, dloss, sizeof loss);
        EXPECT(isnan(loss[0]) && isnan(loss[1]), "case %d: losses %g, %g", at, loss[0], loss[1]);
        device_free();
    }
}

/* ---- checksum -------------------------------------------------------------------------------------------- */

static uint64_t checksum_of(const uint32_t *x, int64_t n) {
    uint64_t got, *out = device(NULL, sizeof got);
    ops()->checksum(out, device(x, (size_t)n * sizeof *x), n);
    host(&got, out, sizeof got);
    device_free();
    return got;
}

TEST(ops_checksum) {
    enum { MOST = 100003 };
    uint32_t *x = xmalloc(MOST * sizeof *x);
    Err e = {0};
    for (int i = 0; i < MOST; i++)
        x[i] = (uint32_t)rand_below(5, RAND_TEST, 50, (uint64_t)i, 1u << 31) * 2 + 1;
    for (int64_t n = 1; n < 100000; n = n * 3 + 1)
        for (int run = 1; run <= 2; run++) {
            if (on_cpu()) EXPECT(ops()->start(run, &e)); /* so many threads */
            EXPECT(checksum_of(x, n) == ref_checksum(x, n), "%d words", (int)n);
        }
    const uint64_t sum = checksum_of(x, MOST);
    EXPECT(sum == ref_checksum(x, MOST) && checksum_of(x + 1, MOST - 1) == ref_checksum(x + 1, MOST - 1));
    for (int i = 0; i < 20; i++) {
        const int at = (int)rand_below(6, RAND_TEST, 51, (uint64_t)i, MOST), bit = i * 7 % 32;
        x[at] ^= 1u << bit;
        EXPECT(checksum_of(x, MOST) != sum, "bit %d of word %d", bit, at);
        x[at] ^= 1u << bit;
    }
    free(x);
}

TEST(ops_queue) {
    EXPECT(!ops()->queue() == on_cpu());
}
