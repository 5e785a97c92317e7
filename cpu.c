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
    COLUMNS = 64, /* a column job's width: whole cache lines in either dtype */
};

/* ---- start ----------------------------------------------------------------------------------------------- */

static struct {
    void *p;
    size_t n;
} scratch[MAX_THREADS];

void *cpu_scratch(size_t bytes) {
    int t = omp_get_thread_num();
    CHECK(t < MAX_THREADS);
    if (bytes > scratch[t].n) {
        size_t n = (bytes + 4095) & ~(size_t)4095;
        free(scratch[t].p);
        scratch[t].p = aligned_alloc(4096, n);
        CHECK(scratch[t].p, "no memory for %zu bytes of scratch", n);
        scratch[t].n = n;
    }
    return scratch[t].p;
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
#if defined __AVX512BF16__
    return "AVX-512 bf16";
#elif defined __AVX512F__
    return "AVX-512";
#elif defined __AVX2__
    return "AVX2";
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
#ifdef __AVX512BF16__
    return compute == DT_F32 || compute == DT_BF16;
#else
    return compute == DT_F32;
#endif
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

enum { HEADER = 64 }; /* an allocation's arena stands before it */

static void *cpu_alloc(size_t bytes, const char *what, Err *e) {
    Arena a;
    size_t all;
    if (!size_add(bytes, HEADER, &all)) return err_set(e, "%s: size overflows", what), NULL;
    if (!arena_init(&a, all, what, e)) return NULL;
    memcpy(a.base, &a, sizeof a);
    return a.base + HEADER;
}

static void cpu_release(void *p) {
    Arena a;
    if (!p) return;
    memcpy(&a, (char *)p - HEADER, sizeof a);
    arena_free(&a);
}

static void cpu_copy_in(void *dst, const void *host, size_t bytes) {
    memcpy(dst, host, bytes);
}

static void cpu_zero(void *p, size_t bytes) {
    const size_t piece = (size_t)1 << 20;
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < bytes; at += piece)
        memset((char *)p + at, 0, bytes - at < piece ? bytes - at : piece);
}

/* ---- shared by the kernels ------------------------------------------------------------------------------- */

void dropout_apply(float *x, const Dropout *d, uint64_t i0, int64_t n) {
    if (d->p <= 0) return;
    const uint64_t stream = (uint64_t)RAND_DROPOUT << 40 | d->step << 12 | d->site;
    const double least = (double)d->p * 4294967296.0;
    const float keep = 1.0f / (1.0f - d->p);
    uint32_t word[4] = {0};
    for (int64_t j = 0; j < n; j++) {
        uint64_t i = i0 + (uint64_t)j;
        if (j == 0 || i % 4 == 0) philox4x32(d->seed, stream, i / 4, word);
        x[j] *= word[i % 4] >= least ? keep : 0.0f;
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
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *x = cpu_scratch(2 * (size_t)C * sizeof *x), *d = x + C;
        row_load(x, x_in, i * C, C);
        if (delta.p) {
            row_load(d, delta, i * C, C);
            dropout_apply(d, &drop, (drop.row0 + (uint64_t)i) * (uint64_t)C, C);
            for (int64_t c = 0; c < C; c++) x[c] += d[c];
            row_store(x_out, i * C, x, C);
            row_load(x, x_out, i * C, C); /* as backward will read it */
        }
        norm_row(x, g, b, eps, C, &mean[i], &rstd[i]);
        row_store(h, i * C, x, C);
    }
}

/* dg, db over all rows, columns in parallel; dh and, if post, dx_in reach the norm's output. */
static void norm_backward_params(float *dg, float *db, Tensor dx_in, Tensor dh, Tensor x, const float *mean,
                                 const float *rstd, bool accumulate, bool post, int64_t n, int64_t C) {
#pragma omp parallel for schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += COLUMNS) {
        int64_t w = C - c0 < COLUMNS ? C - c0 : COLUMNS;
        float sg[COLUMNS] = {0}, sb[COLUMNS] = {0};
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < w; c++) {
                int64_t at = i * C + c0 + c;
                float d = (dh.p ? tensor_get(dh, at) : 0) + (post && dx_in.p ? tensor_get(dx_in, at) : 0);
                sg[c] += d * (tensor_get(x, at) - mean[i]) * rstd[i];
                sb[c] += d;
            }
        for (int64_t c = 0; c < w; c++) {
            dg[c0 + c] = sg[c] + (accumulate ? dg[c0 + c] : 0);
            db[c0 + c] = sb[c] + (accumulate ? db[c0 + c] : 0);
        }
    }
}

/* d becomes the gradient of the norm's input; x is the row it had. */
static void norm_backward_row(float *d, float *x, const float *g, float mean, float rstd, int64_t C) {
    float sum = 0, sum_x = 0;
    for (int64_t c = 0; c < C; c++) x[c] = (x[c] - mean) * rstd, d[c] *= g[c];
#pragma omp simd reduction(+ : sum, sum_x)
    for (int64_t c = 0; c < C; c++) sum += d[c], sum_x += d[c] * x[c];
    sum /= (float)C, sum_x /= (float)C;
    for (int64_t c = 0; c < C; c++) d[c] = rstd * (d[c] - sum - x[c] * sum_x);
}

static void cpu_norm_backward(Tensor dx, Tensor ddelta, Tensor dx_in, Tensor dh, Tensor x, const float *mean,
                              const float *rstd, const float *g, float *dg, float *db, bool accumulate,
                              bool post, int64_t n, int64_t C, Dropout drop) {
    norm_backward_params(dg, db, dx_in, dh, x, mean, rstd, accumulate, post, n, C);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *d = cpu_scratch(3 * (size_t)C * sizeof *d), *above = d + C, *xi = d + 2 * C;
        if (dx_in.p)
            row_load(above, dx_in, i * C, C);
        else
            memset(above, 0, (size_t)C * sizeof *above);
        if (dh.p)
            row_load(d, dh, i * C, C);
        else
            memset(d, 0, (size_t)C * sizeof *d);
        if (post)
            for (int64_t c = 0; c < C; c++) d[c] += above[c];
        row_load(xi, x, i * C, C);
        norm_backward_row(d, xi, g, mean[i], rstd[i], C);
        if (!post)
            for (int64_t c = 0; c < C; c++) d[c] += above[c];
        row_store(dx, i * C, d, C);
        if (!ddelta.p) continue;
        dropout_apply(d, &drop, (drop.row0 + (uint64_t)i) * (uint64_t)C, C);
        row_store(ddelta, i * C, d, C);
    }
}

/* ---- embedding ------------------------------------------------------------------------------------------- */

static void cpu_embed_forward(Tensor x, const int32_t *tokens, const int32_t *pos, const float *wte,
                              const float *wpe, int64_t n, int64_t T, int64_t C, Dropout drop) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *row = cpu_scratch((size_t)C * sizeof *row);
        const float *e = wte + tokens[i] * C, *p = wpe + (pos ? pos[i] : i % T) * C;
        for (int64_t c = 0; c < C; c++) row[c] = e[c] + p[c];
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
            float *te = dwte + tokens[i] * C + c0, *pe = dwpe + i % T * C + c0;
            row_load(d, dx, i * C + c0, w);
            if (dh.p) {
                row_load(h, dh, i * C + c0, w);
                for (int64_t c = 0; c < w; c++) d[c] += h[c];
            }
            dropout_apply(d, &drop, (drop.row0 + (uint64_t)i) * (uint64_t)C + (uint64_t)c0, w);
            const bool first = i < T && !accumulate;
            for (int64_t c = 0; c < w; c++) te[c] += d[c], pe[c] = d[c] + (first ? 0 : pe[c]);
        }
    }
}

/* ---- classifier ------------------------------------------------------------------------------------------ */

static int32_t argmax(const float *x, int64_t n) {
    int32_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = (int32_t)i;
    return best;
}

static void cpu_classifier(Tensor dlogits, float *loss, int32_t *best, const float *logits,
                           const int32_t *targets, float scale, int64_t n, int64_t V, int64_t Vp) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float *z = logits + i * Vp;
        float *row = cpu_scratch((size_t)Vp * sizeof *row);
        float max = z[0], sum = 0;
        if (best) best[i] = argmax(z, V);
#pragma omp simd reduction(max : max)
        for (int64_t c = 0; c < V; c++) max = z[c] > max ? z[c] : max;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < V; c++) sum += row[c] = exp_fast(z[c] - max);
        loss[i] = targets[i] < 0 ? 0 : logf(sum) + (max - z[targets[i]]);
        if (!dlogits.p) continue;
        const float k = targets[i] < 0 ? 0 : scale / sum;
        for (int64_t c = 0; c < V; c++) row[c] *= k;
        if (targets[i] >= 0) row[targets[i]] -= scale;
        memset(row + V, 0, (size_t)(Vp - V) * sizeof *row);
        row_store(dlogits, i * Vp, row, Vp);
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
    return all

static double cpu_sum_squares(const float *g, int64_t n) {
    SUM_IN_PIECES((double)g[i] * g[i]);
}

static double cpu_sum(const float *x, int64_t n) {
    SUM_IN_PIECES(x[i]);
}

static void cpu_adamw(float *w, float *m, float *v, const float *g, int64_t n, const AdamW *a) {
    const float b1 = a->beta1, b2 = a->beta2, eps = a->eps, scale = a->grad_scale;
    const float fix1 = (float)(1 / (1 - pow(b1, (double)a->step)));
    const float fix2 = (float)(1 / (1 - pow(b2, (double)a->step)));
    const float lr = a->lr, decay = a->lr * a->weight_decay;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        m[i] = b1 * m[i] + (1 - b1) * gi;
        v[i] = b2 * v[i] + (1 - b2) * gi * gi;
        w[i] -= lr * (m[i] * fix1) / (sqrtf(v[i] * fix2) + eps) + decay * w[i];
    }
}

/* ---- the table ------------------------------------------------------------------------------------------- */

const Ops cpu_ops = {
    .name = "cpu",
    .start = cpu_start,
    .describe = cpu_describe,
    .has = cpu_has,
    .peak_flops = cpu_peak_flops,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .to_device = cpu_copy_in,
    .to_host = cpu_copy_in,
    .zero = cpu_zero,
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
    .sum_squares = cpu_sum_squares,
    .sum = cpu_sum,
    .adamw = cpu_adamw,
};
