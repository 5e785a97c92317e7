/* cpu.c - floor 1: the op table on the CPU. Here: start-up, memory, and the ops that read and write each number
 * once (norm, embedding, classifier, optimizer). Matrix products stand in cpu_linear.c, attention in
 * cpu_attention.c.
 *
 * Parallel loops give each thread whole rows, whole columns, or pieces of a fixed number, so that every sum is
 * taken in one order whatever the number of threads. */
#include "cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MAX_THREADS = 1024,
    PIECES = 256, /* a long sum is cut into so many */
    NORM_PIECES = 64,
    COLUMNS = 64, /* a column job's width: whole cache lines in either dtype */
};

/* ---- start ----------------------------------------------------------------------------------------------- */

/* Grown memory; what stood in it is gone. */
typedef struct Grown {
    void *p;
    size_t n;
} Grown;
static Grown scratch[MAX_THREADS], shared;

static void *grow(Grown *g, size_t bytes) {
    if (bytes > g->n) {
        free(g->p);
        g->n = (bytes + 4095) & ~(size_t)4095;
        g->p = aligned_alloc(4096, g->n);
        CHECK(g->p, "no memory for %zu bytes of scratch", g->n);
    }
    return g->p;
}

void *cpu_scratch(size_t bytes) {
    const int t = omp_get_thread_num();
    CHECK(t < MAX_THREADS);
    return grow(&scratch[t], bytes);
}

void *cpu_shared(size_t bytes) {
    CHECK(!omp_in_parallel());
    return grow(&shared, bytes);
}

static bool cpu_start(int threads, Err *e) {
    if (threads > MAX_THREADS)
        return err_usage(e, "train.threads is %d; at most %d are possible", threads, MAX_THREADS);
    omp_set_dynamic(0);
    if (threads > 0) omp_set_num_threads(threads);
    return true;
}

/* The processor's name, as the system tells it. */
static void cpu_name(char *buf, size_t n) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(buf, n, "CPU");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(buf, n, "%s", colon + 2);
        break;
    }
    if (f) fclose(f);
}

/* What the compiler was allowed to use. */
static const char *cpu_vectors(void) {
    if (cpu_has_tiles()) return "AVX-512, AMX bf16";
#if defined __AVX512BF16__
    return "AVX-512 bf16";
#elif defined __AVX512F__
    return "AVX-512";
#elif defined __AVX2__
    return "AVX2";
#elif defined __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
    return "NEON bf16";
#elif defined __ARM_NEON
    return "NEON";
#else
    return "no vector instructions";
#endif
}

static void cpu_describe(char *buf, size_t n) {
    char name[128];
    cpu_name(name, sizeof name);
    int t = omp_get_max_threads();
    snprintf(buf, n, "%s, %d thread%s, %s", name, t, t == 1 ? "" : "s", cpu_vectors());
}

static bool cpu_has(Dtype compute) {
#if defined __AVX512BF16__ || defined __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
    return compute == DT_F32 || compute == DT_BF16;
#else
    return compute == DT_F32;
#endif
}

/* The stream stays fp32: it is read and written by loops that wait for memory anyway, and few of them. */
static Dtype cpu_stream(Dtype compute) {
    (void)compute;
    return DT_F32;
}

static bool cpu_mirror(Dtype compute) {
    (void)compute;
    return false;
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

static size_t cpu_room(void) {
    return (size_t)memory_available();
}

static void cpu_zero(void *p, size_t bytes) {
    const size_t piece = (size_t)1 << 20;
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < bytes; at += piece)
        memset((char *)p + at, 0, bytes - at < piece ? bytes - at : piece);
}

enum { HEADER = 64 }; /* an allocation's arena stands before it */

static void *cpu_alloc(size_t bytes, const char *what, Err *e) {
    Arena a;
    size_t all;
    if (!size_add(bytes, HEADER, &all)) return err_set(e, "%s: size overflows", what), NULL;
    if (!arena_init(&a, all, what, e)) return NULL;
#pragma omp parallel for schedule( \
    static) /* the system clears pages as they are touched: let all threads do so */
    for (size_t at = 0; at < a.size; at += 4096) a.base[at] = 0;
    memcpy(a.base, &a, sizeof a);
    return a.base + HEADER;
}

static void cpu_release(void *p) {
    Arena a;
    if (!p) return;
    memcpy(&a, (char *)p - HEADER, sizeof a);
    arena_free(&a);
}

static void cpu_copy(void *dst, const void *src, size_t bytes) {
    memcpy(dst, src, bytes);
}

/* Nothing is ever queued, so the answer is there when the question is asked. */
static struct {
    char bytes[256];
    size_t n;
} asked;

static void cpu_ask(const void *src, size_t bytes) {
    CHECK(bytes <= sizeof asked.bytes);
    memcpy(asked.bytes, src, asked.n = bytes);
}

static void cpu_answer(void *host, size_t bytes) {
    CHECK(bytes == asked.n, "asked for %zu bytes, not %zu", asked.n, bytes);
    memcpy(host, asked.bytes, bytes);
}

static void cpu_wait(void) {}

static void *cpu_queue(void) {
    return NULL;
}

static bool cpu_replay(Graph **g, uint64_t key) {
    (void)g, (void)key;
    return false;
}

static void cpu_replay_end(Graph **g) {
    (void)g;
}

static void cpu_graph_free(Graph *g) {
    (void)g;
}

/* ---- shared by the kernels ------------------------------------------------------------------------------- */

/* Philox 4x32-10, as philox4x32 in util.c, for eight counters at once, each word in 64 bits of a vector. */
typedef uint64_t Eight __attribute__((vector_size(64)));

void dropout_factors(float f[4][8], const Dropout *d, uint64_t i0, uint64_t stride) {
    const uint64_t low = 0xffffffff, hi = (uint64_t)RAND_DROPOUT << 40 | d->step << 12 | d->site;
    const uint64_t least = (uint64_t)ceil((double)d->p * 4294967296.0);
    const float keep = 1.0f / (1.0f - d->p);
    const Eight number = {0, 1, 2, 3, 4, 5, 6, 7}, at = i0 / 4 + number * (stride / 4);
    Eight c0 = at & low, c1 = at >> 32, c2 = (hi & low) - (Eight){0}, c3 = (hi >> 32) - (Eight){0};
    uint32_t k0 = (uint32_t)d->seed, k1 = (uint32_t)(d->seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const Eight p0 = c0 * 0xD2511F53u, p1 = c2 * 0xCD9E8D57u;
        c0 = (p1 >> 32) ^ c1 ^ k0, c1 = p1 & low;
        c2 = (p0 >> 32) ^ c3 ^ k1, c3 = p0 & low;
    }
    for (int j = 0; j < 8; j++) {
        f[0][j] = c0[j] >= least ? keep : 0, f[1][j] = c1[j] >= least ? keep : 0;
        f[2][j] = c2[j] >= least ? keep : 0, f[3][j] = c3[j] >= least ? keep : 0;
    }
}

void dropout_apply(float *x, const Dropout *d, uint64_t i0, int64_t n) {
    const int64_t before = (int64_t)(i0 % 4); /* of the first group of four that x begins in */
    if (d->p <= 0) return;
    for (int64_t at = -before; at < n; at += 32) {
        float f[4][8], row[32];
        dropout_factors(f, d, i0 + (uint64_t)at, 4);
        for (int j = 0; j < 32; j++) row[j] = f[j % 4][j / 4];
        const int64_t from = at < 0 ? -at : 0, to = n - at < 32 ? n - at : 32;
        for (int64_t j = from; j < to; j++) x[at + j] *= row[j];
    }
}

void sum_rows(float *out, Tensor x, int64_t n, int64_t C, bool accumulate) {
#pragma omp parallel for schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += COLUMNS) {
        int64_t w = C - c0 < COLUMNS ? C - c0 : COLUMNS;
        float sum[COLUMNS] = {0}, row[COLUMNS];
        for (int64_t i = 0; i < n; i++) {
            row_load(row, x, i * C + c0, w);
            for (int64_t c = 0; c < w; c++) sum[c] += row[c];
        }
        for (int64_t c = 0; c < w; c++) out[c0 + c] = sum[c] + (accumulate ? out[c0 + c] : 0);
    }
}

/* ---- residual + norm ------------------------------------------------------------------------------------- */

static void norm_row(float *x, const float *g, const float *b, float eps, int64_t C, float *mean,
                     float *rstd) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += x[c];
    const float m = sum / (float)C;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < C; c++) squares += (x[c] - m) * (x[c] - m);
    const float r = 1.0f / sqrtf(squares / (float)C + eps);
    for (int64_t c = 0; c < C; c++) x[c] = (x[c] - m) * r * g[c] + b[c];
    *mean = m, *rstd = r;
}

static void cpu_norm_forward(Tensor h, Tensor x_out, float *mean, float *rstd, Tensor x_in, Tensor delta,
                             const float *g, const float *b, float eps, int64_t n, int64_t C, Dropout drop) {
    if (!g && !delta.p) return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *x = cpu_scratch(2 * (size_t)C * sizeof *x), *d = x + C;
        row_load(x, x_in, i * C, C);
        if (delta.p) {
            row_load(d, delta, i * C, C);
            dropout_apply(d, &drop, (drop.row0 + (uint64_t)i) * (uint64_t)C, C);
            for (int64_t c = 0; c < C; c++) x[c] += d[c];
            row_store(x_out, i * C, x, C);
            if (g) row_load(x, x_out, i * C, C); /* as backward will read it */
        }
        if (!g) continue;
        norm_row(x, g, b, eps, C, &mean[i], &rstd[i]);
        row_store(h, i * C, x, C);
    }
}

/* d, the gradient of the norm's output, becomes that of its input, and x its normalised row; dg and db grow. */
static void norm_backward_row(float *restrict d, float *restrict x, float *restrict dg, float *restrict db,
                              const float *restrict g, float mean, float rstd, int64_t C) {
    float sum = 0, sum_x = 0;
#pragma omp simd reduction(+ : sum, sum_x)
    for (int64_t c = 0; c < C; c++) {
        x[c] = (x[c] - mean) * rstd;
        dg[c] += d[c] * x[c], db[c] += d[c];
        d[c] *= g[c];
        sum += d[c], sum_x += d[c] * x[c];
    }
    sum /= (float)C, sum_x /= (float)C;
    for (int64_t c = 0; c < C; c++) d[c] = rstd * (d[c] - sum - x[c] * sum_x);
}

static void row_load_or_zero(float *dst, Tensor t, int64_t at, int64_t n) {
    if (t.p)
        row_load(dst, t, at, n);
    else
        memset(dst, 0, (size_t)n * sizeof *dst);
}

/* to [C] (+)= the sum of n rows of `rows`, `step` apart. */
static void add_rows(float *to, const float *rows, int64_t n, int64_t step, int64_t C, bool accumulate) {
    if (!accumulate) memset(to, 0, (size_t)C * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < C; c++) to[c] += rows[i * step + c];
}

static void cpu_norm_backward(Tensor dx, Tensor ddelta, Tensor dx_in, Tensor dh, Tensor x, const float *mean,
                              const float *rstd, const float *g, float *dg, float *db, bool accumulate,
                              bool post, int64_t n, int64_t C, Dropout drop) {
    const int64_t pieces = n < NORM_PIECES ? n : NORM_PIECES;
    const size_t bytes = (size_t)(2 * pieces * C) * sizeof *dg;
    float *sums = g ? cpu_shared(bytes) : NULL; /* dg and db of each piece of the rows */
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < pieces; p++) {
        float *d = cpu_scratch(3 * (size_t)C * sizeof *d), *above = d + C, *row = d + 2 * C;
        float *sg = g ? memset(sums + 2 * p * C, 0, 2 * (size_t)C * sizeof *sg) : NULL;
        for (int64_t i = n * p / pieces; i < n * (p + 1) / pieces; i++) {
            row_load_or_zero(above, dx_in, i * C, C);
            row_load_or_zero(d, dh, i * C, C);
            for (int64_t c = 0; post && c < C; c++) d[c] += above[c];
            if (g) row_load(row, x, i * C, C);
            if (g) norm_backward_row(d, row, sg, sg + C, g, mean[i], rstd[i], C);
            for (int64_t c = 0; !post && c < C; c++) d[c] += above[c];
            row_store(dx, i * C, d, C);
            if (!ddelta.p) continue;
            dropout_apply(d, &drop, (drop.row0 + (uint64_t)i) * (uint64_t)C, C);
            row_store(ddelta, i * C, d, C);
        }
    }
    if (!g) return;
    add_rows(dg, sums, pieces, 2 * C, C, accumulate);
    add_rows(db, sums + C, pieces, 2 * C, C, accumulate);
}

/* ---- embedding ------------------------------------------------------------------------------------------- */

/* Row i of a [.., C] that may be absent: NULL then, and for i < 0. */
static const float *row_if(const float *p, int64_t i, int64_t C) {
    return p && i >= 0 ? p + i * C : NULL;
}

static void cpu_embed_forward(Tensor x, const int32_t *tokens, const int32_t *pos, const float *wte,
                              const float *wpe, int64_t n, int64_t T, int64_t C, Dropout drop) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *row = cpu_scratch((size_t)C * sizeof *row);
        const float *e = row_if(wte, tokens[i], C), *p = row_if(wpe, pos ? pos[i] : i % T, C);
        for (int64_t c = 0; c < C; c++) row[c] = (e ? e[c] : 0) + (p ? p[c] : 0);
        dropout_apply(row, &drop, (drop.row0 + (uint64_t)i) * (uint64_t)C, C);
        row_store(x, i * C, row, C);
    }
}

/* Threads own columns, so rows that share a token are added in their order. */
static void cpu_embed_backward(float *dwte, float *dwpe, Tensor dx, Tensor dh, const int32_t *tokens,
                               int64_t n, int64_t T, int64_t C, bool accumulate, Dropout drop) {
#pragma omp parallel for schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += COLUMNS) {
        int64_t w = C - c0 < COLUMNS ? C - c0 : COLUMNS;
        float d[COLUMNS], h[COLUMNS];
        for (int64_t i = 0; i < n; i++) {
            row_load(d, dx, i * C + c0, w);
            if (dh.p) {
                row_load(h, dh, i * C + c0, w);
                for (int64_t c = 0; c < w; c++) d[c] += h[c];
            }
            dropout_apply(d, &drop, (drop.row0 + (uint64_t)i) * (uint64_t)C + (uint64_t)c0, w);
            if (dwte && tokens[i] >= 0) add_rows(dwte + tokens[i] * C + c0, d, 1, 0, w, true);
            if (dwpe) add_rows(dwpe + i % T * C + c0, d, 1, 0, w, accumulate || i >= T);
        }
    }
}

/* ---- classifier ------------------------------------------------------------------------------------------ */

static float maximum(const float *x, int64_t n) {
    float max = x[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

static int32_t first_of(const float *x, int64_t n, float value) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] == value) return (int32_t)i;
    return 0; /* a NaN was the maximum */
}

/* n numbers from element `at` on as fp32: where they lie, or converted in `room`. */
static const float *row_at(float *room, Tensor t, int64_t at, int64_t n) {
    if (t.dtype == DT_F32) return (const float *)t.p + at;
    row_load(room, t, at, n);
    return room;
}

/* e [V] = exp(z - max), and their sum. */
static float exp_row(float *restrict e, const float *restrict z, float max, int64_t V) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < V; c++) sum += e[c] = exp_fast(z[c] - max);
    return sum;
}

/* What a row's columns first .. first + V come to, but for the best; e gets exp(z - max). */
static ClassPart part_row(float *e, const float *z, int64_t target, int64_t first, int64_t V) {
    ClassPart p = {.max = maximum(z, V)};
    p.sum = exp_row(e, z, p.max, V);
    if (target >= first && target < first + V) p.target = z[target - first];
    return p;
}

static float loss_row(ClassPart all, int32_t target) {
    return target < 0 ? 0 : logf(all.sum) + (all.max - all.target);
}

/* dlogits' row i from e = exp(z - max), of which `sum` is the whole vocabulary's. */
static void gradient_row(Tensor dlogits, int64_t i, float *e, float sum, int32_t target, int64_t first,
                         float scale, int64_t V, int64_t Vp) {
    const float k = target < 0 ? 0 : scale / sum;
    for (int64_t c = 0; c < V; c++) e[c] *= k;
    if (target >= first && target < first + V) e[target - first] -= scale;
    memset(e + V, 0, (size_t)(Vp - V) * sizeof *e);
    row_store(dlogits, i * Vp, e, Vp);
}

static void cpu_classifier(Tensor dlogits, float *loss, int32_t *best, Tensor logits, const int32_t *targets,
                           float scale, int64_t n, int64_t V, int64_t Vp) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *e = cpu_scratch(2 * (size_t)Vp * sizeof *e);
        const float *z = row_at(e + Vp, logits, i * Vp, V);
        const ClassPart all = part_row(e, z, targets[i], 0, V);
        if (best) best[i] = first_of(z, V, all.max);
        loss[i] = loss_row(all, targets[i]);
        if (dlogits.p) gradient_row(dlogits, i, e, all.sum, targets[i], 0, scale, V, Vp);
    }
}

static void cpu_classifier_part(ClassPart *part, Tensor logits, const int32_t *targets, int64_t first,
                                int64_t n, int64_t V, int64_t Vp) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        part[i] = (ClassPart){.max = -INFINITY, .best = -1};
        if (V == 0) continue;
        float *e = cpu_scratch(2 * (size_t)Vp * sizeof *e);
        const float *z = row_at(e + Vp, logits, i * Vp, V);
        part[i] = part_row(e, z, targets[i], first, V);
        part[i].best = (int32_t)first + first_of(z, V, part[i].max);
    }
}

/* The whole row, from its parts' row i. Of equal maxima the first is the best; a NaN makes all sums NaN. */
static ClassPart join_row(const ClassPart *parts, int ranks, int64_t i, int64_t n) {
    ClassPart all = {.max = -INFINITY, .best = -1};
    for (const ClassPart *p = parts + i; p < parts + ranks * n; p += n)
        if (all.best < 0 || p->max > all.max) all.max = p->max, all.best = p->best;
    for (const ClassPart *p = parts + i; p < parts + ranks * n; p += n)
        all.sum += p->sum * exp_fast(p->max - all.max), all.target += p->target;
    return all;
}

static void cpu_classifier_join(Tensor dlogits, float *loss, int32_t *best, Tensor logits,
                                const ClassPart *parts, int ranks, const int32_t *targets, int64_t first,
                                float scale, int64_t n, int64_t V, int64_t Vp) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const ClassPart all = join_row(parts, ranks, i, n);
        if (best) best[i] = all.best;
        loss[i] = loss_row(all, targets[i]);
        if (!dlogits.p) continue;
        float *e = cpu_scratch(2 * (size_t)Vp * sizeof *e);
        exp_row(e, row_at(e + Vp, logits, i * Vp, V), all.max, V);
        gradient_row(dlogits, i, e, all.sum, targets[i], first, scale, V, Vp);
    }
}

/* ---- optimizer ------------------------------------------------------------------------------------------- */

/* Pieces of a fixed number, each summed in its order, then added in theirs. */
#define SUM_IN_PIECES(term)                                                                     \
    double piece[PIECES], all = 0;                                                              \
    const int64_t len = (n + PIECES - 1) / PIECES;                                              \
    _Pragma("omp parallel for schedule(static)") for (int p = 0; p < PIECES; p++) {             \
        const int64_t end = (p + 1) * len < n ? (p + 1) * len : n;                              \
        double s = 0;                                                                           \
        _Pragma("omp simd reduction(+ : s)") for (int64_t i = p * len; i < end; i++) s += term; \
        piece[p] = s;                                                                           \
    }                                                                                           \
    for (int p = 0; p < PIECES; p++) all += piece[p];                                           \
    *out = all + (accumulate ? *out : 0)

static void cpu_sum_squares(double *out, const float *g, int64_t n, bool accumulate) {
    SUM_IN_PIECES((double)g[i] * g[i]);
}

static void cpu_sum(double *out, const float *x, int64_t n, bool accumulate) {
    SUM_IN_PIECES(x[i]);
}

/* splitmix64's finalizer: one to one, and each bit of z moves half of the result's (Steele et al. 2014). */
static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void cpu_checksum(uint64_t *out, const uint32_t *x, int64_t n) {
    uint64_t sum = 0;
#pragma omp parallel for simd reduction(+ : sum) schedule(static)
    for (int64_t i = 0; i < n; i++) sum += mix(x[i] + ((uint64_t)i << 32));
    *out = sum;
}

static void cpu_judge(Verdict *v, const double *losses, const double *squares, double scale, double worst,
                      double max_norm) {
    const double loss = *losses * scale, norm = sqrt(*squares);
    *v = (Verdict){.loss = loss,
                   .grad_norm = norm,
                   .grad_scale = max_norm > 0 && norm > max_norm ? (float)(max_norm / norm) : 1,
                   .skip = !isfinite(loss) || !isfinite(norm) || loss > worst};
}

static void cpu_adamw(float *w, float *m, float *v, const float *g, uint16_t *mirror, int64_t n,
                      const AdamW *a, const Verdict *verdict) {
    const float b1 = a->beta1, b2 = a->beta2, eps = a->eps, scale = verdict->grad_scale;
    const float fix1 = (float)(1 / (1 - pow(b1, (double)a->step)));
    const float fix2 = (float)(1 / (1 - pow(b2, (double)a->step)));
    const float lr = a->lr, decay = a->lr * a->weight_decay;
    CHECK(!mirror, "the CPU's weights have no mirror");
    if (verdict->skip) return;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        m[i] = b1 * m[i] + (1 - b1) * gi;
        v[i] = b2 * v[i] + (1 - b2) * gi * gi;
        w[i] -= lr * (m[i] * fix1) / (sqrtf(v[i] * fix2) + eps) + decay * w[i];
    }
}

/* ---- muon ------------------------------------------------------------------------------------------------ */

static void cpu_muon_momentum(double *squares, float *m, const float *g, const Muon *a,
                              const Verdict *verdict) {
    const float keep = a->momentum, fresh = (1 - keep) * verdict->grad_scale;
    if (verdict->skip) return;
    for (int64_t part = 0; part < a->parts; part++) {
        double piece[PIECES];
#pragma omp parallel for schedule(static)
        for (int64_t p = 0; p < PIECES; p++) {
            double s = 0;
            for (int64_t r = a->rows * p / PIECES; r < a->rows * (p + 1) / PIECES; r++) {
                const int64_t at = (r * a->parts + part) * a->cols;
#pragma omp simd reduction(+ : s)
                for (int64_t i = at; i < at + a->cols; i++) {
                    m[i] = keep * m[i] + fresh * g[i];
                    const float u = keep * m[i] + fresh * g[i];
                    s += (double)u * u;
                }
            }
            piece[p] = s;
        }
        squares[part] = 0;
        for (int p = 0; p < PIECES; p++) squares[part] += piece[p];
    }
}

static void cpu_muon_direction(uint16_t *x, const float *m, const float *g, const double *squares,
                               const Muon *a, const Verdict *verdict) {
    const float keep = a->momentum, fresh = (1 - keep) * verdict->grad_scale;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < a->rows * a->parts; r++) {
        const double all = squares[r % a->parts];
        const float scale = all > 0 ? (float)(1 / sqrt(all)) : 0;
        const int64_t at = r * a->cols;
        float *row = cpu_scratch((size_t)a->cols * sizeof *row);
        for (int64_t c = 0; c < a->cols; c++) row[c] = (keep * m[at + c] + fresh * g[at + c]) * scale;
        bf16_from_row(x + at, row, a->cols);
    }
}

static void cpu_muon_update(float *w, uint16_t *mirror, const uint16_t *x, const Muon *a,
                            const Verdict *verdict) {
    const float by = a->lr * a->size, decay = a->lr * a->weight_decay;
    CHECK(!mirror, "the CPU's weights have no mirror");
    if (verdict->skip) return;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < a->rows * a->parts * a->cols; i++) w[i] -= by * bf16_to_f32(x[i]) + decay * w[i];
}

/* ---- the table ------------------------------------------------------------------------------------------- */

const Ops cpu_ops = {
    .name = "cpu",
    .logits_bytes = 64 << 20,
    .start = cpu_start,
    .describe = cpu_describe,
    .has = cpu_has,
    .stream = cpu_stream,
    .mirror = cpu_mirror,
    .peak_flops = cpu_peak_flops,
    .room = cpu_room,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .to_device = cpu_copy,
    .to_host = cpu_copy,
    .zero = cpu_zero,
    .copy = cpu_copy,
    .wait = cpu_wait,
    .queue = cpu_queue,
    .ask = cpu_ask,
    .answer = cpu_answer,
    .replay = cpu_replay,
    .replay_end = cpu_replay_end,
    .graph_free = cpu_graph_free,
    .linear_bytes = cpu_linear_bytes,
    .linear_create = cpu_linear_create,
    .linear_free = cpu_linear_free,
    .linear_refresh = cpu_linear_refresh,
    .linear_forward = cpu_linear_forward,
    .linear_backward = cpu_linear_backward,
    .norm_forward = cpu_norm_forward,
    .norm_backward = cpu_norm_backward,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .attention_cached = cpu_attention_cached,
    .embed_forward = cpu_embed_forward,
    .embed_backward = cpu_embed_backward,
    .classifier = cpu_classifier,
    .classifier_part = cpu_classifier_part,
    .classifier_join = cpu_classifier_join,
    .checksum = cpu_checksum,
    .sum = cpu_sum,
    .sum_squares = cpu_sum_squares,
    .judge = cpu_judge,
    .adamw = cpu_adamw,
    .muon_momentum = cpu_muon_momentum,
    .muon_direction = cpu_muon_direction,
    .matmul = cpu_matmul,
    .muon_update = cpu_muon_update,
};
