/* wire.c - every call of comm.h, on as many ranks as the launcher started (see run.sh), over every grid of them: what
 * arrives is compared with what the same numbers give here, in the order that comm.h promises. Each rank counts what it
 * finds wrong; rank 0 prints, and the closing line counts cases. */
#include "comm.h"
#include "trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Ops apart; /* the host's memory as if it were a GPU's, which goes through the host */
static Comm *c;
static int passed, failed;

/* ---- numbers and places ---------------------------------------------------------------------------------- */

static const char *const types[] = {"fp32", "bf16", "fp64"};
static const size_t sizes[] = {4, 2, 8};
static const char *const groups[] = {"world", "data", "pipeline", "tensor", "tied"};

static double noise(int rank, int64_t i) {
    const uint32_t mixed = ((uint32_t)i * 8 + (uint32_t)rank) * 2654435769u;
    return (int32_t)(mixed ^ mixed >> 15) / 2147483648.0;
}

static float up(uint16_t b) {
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint16_t down(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void put(void *x, int64_t i, double v, Wire t) {
    if (t == WIRE_F32) ((float *)x)[i] = (float)v;
    if (t == WIRE_F64) ((double *)x)[i] = v;
    if (t == WIRE_BF16) ((uint16_t *)x)[i] = down((float)v);
}

static double get(const void *x, int64_t i, Wire t) {
    return t == WIRE_F32   ? ((const float *)x)[i]
           : t == WIRE_F64 ? ((const double *)x)[i]
                           : up(((const uint16_t *)x)[i]);
}

/* The rank of the world at place i of this rank's group. */
static int member(Group g, int i) {
    const Grid *at = comm_grid(c);
    int dp = at->dp_rank, pp = at->pp_rank, tp = at->tp_rank;
    switch (g) {
    case GROUP_WORLD: return i;
    case GROUP_DATA: dp = i; break;
    case GROUP_PIPELINE: pp = i; break;
    case GROUP_TENSOR: tp = i; break;
    default:
        if (comm_size(c, g) > 1) pp = i ? at->pp - 1 : 0;
    }
    return (pp * at->dp + dp) * at->tp + tp;
}

/* Number i of what rank `place` of the group brought, as the wire has it. */
static double given(Group g, int place, int64_t i, Wire t) {
    uint64_t room = 0;
    put(&room, 0, noise(member(g, place), i), t);
    return get(&room, 0, t);
}

/* The sum as comm.h has it: in the order of the ranks, in fp32 (fp64), rounded once. */
static double sum(Group g, int64_t i, Wire t) {
    double s = given(g, 0, i, t);
    for (int r = 1; r < comm_size(c, g); r++)
        s = t == WIRE_F64 ? s + given(g, r, i, t) : (float)s + (float)given(g, r, i, t);
    uint64_t room = 0;
    put(&room, 0, s, t);
    return get(&room, 0, t);
}

static void count(const char *what, bool ok) {
    double bad = !ok;
    comm_host_max(c, &bad, 1);
    if (bad > 0)
        failed++;
    else
        passed++;
    if (bad > 0 && grid_is_root(comm_grid(c))) printf("FAILED  %s\n", what);
}

/* ---- collectives ----------------------------------------------------------------------------------------- */

/* The calls of one case, and the numbers that they are to leave. */
typedef struct Case {
    Group g;
    Wire t;
    int64_t n;
    When w;
} Case;

static void *numbers(const Case *k, int64_t n, int64_t at) {
    char *x = xmalloc((size_t)n * sizes[k->t] + 64);
    for (int64_t i = 0; i < n; i++) put(x, i, given(k->g, comm_rank(c, k->g), at + i, k->t), k->t);
    return x;
}

static bool all_reduce(const Case *k) {
    void *x = numbers(k, k->n, 0);
    bool ok = true;
    comm_all_reduce(c, k->g, x, k->n, k->t, k->w);
    comm_join(c);
    for (int64_t i = 0; i < k->n; i++) ok &= get(x, i, k->t) == sum(k->g, i, k->t);
    free(x);
    return ok;
}

static bool reduce_scatter(const Case *k, bool in_place) {
    const int64_t first = comm_rank(c, k->g) * k->n;
    char *in = numbers(k, comm_size(c, k->g) * k->n, 0);
    char *out = in_place ? in + (size_t)first * sizes[k->t] : xmalloc((size_t)k->n * sizes[k->t] + 64);
    bool ok = true;
    comm_reduce_scatter(c, k->g, out, in, k->n, k->t, k->w);
    comm_join(c);
    for (int64_t i = 0; i < k->n; i++) ok &= get(out, i, k->t) == sum(k->g, first + i, k->t);
    if (!in_place) free(out);
    free(in);
    return ok;
}

/* Numbers that no other call has left anywhere. */
enum { OTHERS = 12345 };

static bool all_gather(const Case *k, bool in_place) {
    const int size = comm_size(c, k->g);
    char *out = xcalloc((size_t)(size * k->n) + 8, sizes[k->t]), *in = numbers(k, k->n, OTHERS);
    char *mine = out + (size_t)(comm_rank(c, k->g) * k->n) * sizes[k->t];
    bool ok = true;
    if (in_place) memcpy(mine, in, (size_t)k->n * sizes[k->t]);
    comm_all_gather(c, k->g, out, in_place ? mine : in, k->n, k->t, k->w);
    comm_join(c);
    for (int r = 0; r < size; r++)
        for (int64_t i = 0; i < k->n; i++)
            ok &= get(out, r * k->n + i, k->t) == given(k->g, r, OTHERS + i, k->t);
    free(in);
    free(out);
    return ok;
}

static bool broadcast(const Case *k) {
    bool ok = true;
    for (int from = 0; from < comm_size(c, k->g); from += comm_size(c, k->g) - 1) {
        void *x = numbers(k, k->n, 0);
        comm_broadcast(c, k->g, x, k->n, k->t, from, k->w);
        comm_join(c);
        for (int64_t i = 0; i < k->n; i++) ok &= get(x, i, k->t) == given(k->g, from, i, k->t);
        free(x);
        if (comm_size(c, k->g) == 1) break;
    }
    return ok;
}

static bool all_calls(const Case *k) {
    bool ok = all_reduce(k); /* all are called, whatever one finds: the others' ranks call them too */
    ok &= reduce_scatter(k, false);
    ok &= reduce_scatter(k, true);
    ok &= all_gather(k, false);
    ok &= all_gather(k, true);
    ok &= broadcast(k);
    return ok;
}

static void collectives(void) {
    static const int64_t lengths[] = {0, 1, 3, 8, 1000, 4099};
    char what[96];
    for (int g = 0; g < N_GROUPS; g++)
        for (int t = 0; t < 3; t++)
            for (int w = 0; w < 2; w++) {
                bool ok = true;
                for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
                    ok &= all_calls(&(Case){(Group)g, (Wire)t, lengths[i], (When)w});
                snprintf(what, sizeof what, "%s, %s, %s", groups[g], types[t], w ? "behind" : "now");
                count(what, ok);
            }
}

/* More than goes over the wire in one piece. */
static void large(void) {
    const int64_t n = 1500007 / comm_world();
    count("large, fp32", all_calls(&(Case){GROUP_WORLD, WIRE_F32, n, NOW}));
    count("large, bf16, behind", all_calls(&(Case){GROUP_WORLD, WIRE_BF16, 2 * n, BEHIND}));
}

/* ---- from stage to stage --------------------------------------------------------------------------------- */

/* All send before any receives, several messages a lane, both lanes at once, below and above any eager limit. */
static bool lanes(size_t bytes) {
    enum { SENDS = 3 };
    const Grid *at = comm_grid(c);
    char *out[N_LANES][SENDS], *in = xmalloc(bytes);
    bool ok = true;
    for (int s = 0; s < SENDS; s++)
        for (int l = 0; l < N_LANES; l++) {
            out[l][s] = xmalloc(bytes);
            memset(out[l][s], 40 * l + 10 * s + at->pp_rank, bytes);
            comm_send(c, (Lane)l, out[l][s], bytes);
        }
    for (int s = 0; s < SENDS; s++)
        for (int l = 0; l < N_LANES; l++) {
            const int from = (at->pp_rank + (l == LANE_NEXT ? at->pp - 1 : 1)) % at->pp;
            memset(in, 0, bytes);
            comm_recv(c, (Lane)l, in, bytes);
            for (size_t i = 0; i < bytes; i++) ok &= in[i] == 40 * l + 10 * s + from;
        }
    for (int l = 0; l < N_LANES; l++) {
        comm_sent(c, (Lane)l);
        for (int s = 0; s < SENDS; s++) free(out[l][s]);
    }
    free(in);
    return ok;
}

/* ---- the host's memory ----------------------------------------------------------------------------------- */

static bool host_calls(void) {
    const Grid *at = comm_grid(c);
    int mine[3] = {at->rank, 10 * at->rank, 7}, *all = xcalloc((size_t)at->ranks, sizeof mine),
        told = at->rank;
    double most[2] = {at->rank, -at->rank};
    bool ok = true;
    comm_host_gather(c, all, mine, sizeof mine);
    for (int r = 0; at->rank == 0 && r < at->ranks; r++) ok &= all[3 * r] == r && all[3 * r + 1] == 10 * r;
    comm_host_broadcast(c, &told, sizeof told, at->ranks - 1);
    comm_host_max(c, most, 2);
    ok &= told == at->ranks - 1 && most[0] == at->ranks - 1 && most[1] == 0;
    comm_barrier(c);
    const size_t bytes = 300000;
    char *x = xmalloc(bytes);
    memset(x, at->rank, bytes);
    if (at->rank > 0) comm_host_send(c, 0, x, bytes);
    for (int r = 1; at->rank == 0 && r < at->ranks; r++) {
        comm_host_recv(c, r, x, bytes);
        for (size_t i = 0; i < bytes; i++) ok &= x[i] == r;
    }
    free(x);
    free(all);
    return ok;
}

/* None fails; all with the same words; one; two with words of their own. */
static bool agreement(void) {
    const int rank = comm_grid(c)->rank, last = comm_grid(c)->ranks - 1;
    Err e = {0};
    bool ok = comm_agree(c, true, &e) && e.code == 0;
    ok &= !comm_agree(c, err_usage(&e, "the same"), &e) && e.code == EXIT_USAGE && !strcmp(e.msg, "the same");
    char words[64];
    snprintf(words, sizeof words, "rank %d (", last);
    e = (Err){0};
    ok &= !comm_agree(c, rank != last || err_set(&e, "alone"), &e) && e.code == EXIT_FAULT;
    ok &= !strncmp(e.msg, words, strlen(words)) && strstr(e.msg, "): alone") != NULL;
    e = (Err){0};
    ok &= !comm_agree(c, rank == 0 || err_set(&e, "number %d", rank), &e);
    return ok && !strncmp(e.msg, "rank 1 (", 8) && strstr(e.msg, "): number 1") != NULL;
}

/* ---- what it took ---------------------------------------------------------------------------------------- */

static int times(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) n++;
    return n;
}

/* Each call is a span on its group's or lane's row, also one that went behind; what the main thread spent is exposed. */
static bool spans(bool staged) {
    Str s = {0};
    float x[100] = {0};
    const bool lane = comm_grid(c)->pp > 1;
    comm_exposed(c);
    trace_start(comm_grid(c)->rank);
    comm_all_reduce(c, GROUP_WORLD, x, 100, WIRE_F32, NOW);
    comm_all_reduce(c, GROUP_WORLD, x, 100, WIRE_F32, BEHIND);
    comm_broadcast(c, GROUP_WORLD, x, 100, WIRE_F32, 0, BEHIND);
    comm_join(c);
    if (lane) {
        comm_send(c, LANE_NEXT, x, sizeof x);
        comm_recv(c, LANE_NEXT, x, sizeof x);
        comm_sent(c, LANE_NEXT);
    }
    trace_stop(&s);
    bool ok = comm_exposed(c) > 0 && comm_exposed(c) == 0;
    ok &=
        times(s.p, "\"all-reduce\"") == 2 && times(s.p, "\"broadcast\"") == 1 && times(s.p, "\"world\"") == 1;
    ok &= times(s.p, "\"join\"") == (staged ? 0 : 2); /* the row and the span */
    ok &= times(s.p, "\"send\"") == lane && times(s.p, "\"receive\"") == lane;
    str_free(&s);
    return ok;
}

/* ---- is the machine sound? ------------------------------------------------------------------------------- */

static bool broken; /* this rank's */
static int fetched;

/* One element of a product off by one: the last place of a bf16. */
static void wrong_matmul(Matrices to, Matrices a, Matrices b, const uint16_t *add, const Matmul *m) {
    cpu_ops.matmul(to, a, b, add, m);
    to.p[5 * to.row + 7] ^= (uint16_t)broken;
}

/* What comes from the wire has a bit of one number flipped. */
static void wrong_to_device(void *to, const void *host, size_t bytes) {
    memcpy(to, host, bytes);
    if (broken && bytes == 1 << 20 && fetched++ % 2) ((char *)to)[4098] ^= 1;
}

static bool refused(const Ops *ops, const char *why) {
    Err e = {0};
    const Grid g = grid_at(1, 1, comm_world(), comm_world_rank());
    char words[64];
    Comm *of_it = comm_open(&g, ops, true, &e);
    broken = g.rank == g.ranks - 1;
    snprintf(words, sizeof words, "rank %d (", g.ranks - 1);
    const bool ok = !comm_self_test(of_it, &e) && !strncmp(e.msg, words, strlen(words)) && strstr(e.msg, why);
    comm_close(of_it);
    return ok;
}

static void soundness(void) {
    Err e = {0};
    Ops ops = apart;
    count("a sound machine", comm_self_test(c, &e));
    ops.matmul = wrong_matmul;
    count("a wrong product", refused(&ops, "a product of"));
    ops = apart, ops.to_device = wrong_to_device;
    count("a wrong sum", refused(&ops, "a sum over all ranks"));
}

/* ---- grids ----------------------------------------------------------------------------------------------- */

static void try_grid(int dp, int pp, int tp, bool staged) {
    Err e = {0};
    Grid g = grid_at(dp, pp, tp, comm_world_rank());
    const double from = now_seconds();
    c = comm_open(&g, staged ? &apart : &cpu_ops, staged, &e);
    CHECK(c, "%s", e.msg);
    if (g.rank < g.ranks) {
        const int before = failed;
        collectives();
        if (tp == comm_world()) large();
        if (tp == comm_world() && staged) soundness();
        count("the host's calls", host_calls());
        if (g.ranks > 1) count("agreement", agreement());
        if (pp > 1) count("short messages in lanes", lanes(100));
        if (pp > 1) count("long messages in lanes", lanes(1 << 20));
        if (pp > 1 || staged) count("spans", spans(staged));
        if (grid_is_root(&g))
            printf("%-7s %d x %d x %d%s (%.2f s)\n", failed > before ? "FAILED" : "ok", dp, pp, tp,
                   staged ? ", staged" : "", now_seconds() - from);
    }
    comm_close(c);
}

int main(void) {
    Err e = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!comm_start(&e)) return printf("%s\n", e.msg), 1;
    const int ranks = comm_world();
    apart = cpu_ops;
    for (int dp = 1; dp <= ranks; dp *= 2)
        for (int pp = 1; dp * pp <= ranks; pp *= 2) try_grid(dp, pp, ranks / dp / pp, false);
    if (ranks > 2) {
        try_grid(1, 3, 1, false);
        try_grid(1, 1, ranks - 1, false);
    }
    try_grid(1, ranks % 2 ? 1 : 2, ranks % 2 ? ranks : ranks / 2, true);
    try_grid(1, 1, ranks, true);
    if (comm_world_rank() == 0) printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    comm_stop();
    return failed > 0;
}
