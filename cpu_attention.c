/* cpu_attention.c - floor 1: causal self-attention in memory linear in T. */
#include "cpu.h"

/* Where one head's rows stand: row t at element `at + t * step`. */
typedef struct Rows {
    Tensor t;
    int64_t at, step;
} Rows;

static Rows head_rows(Tensor qkv, const Attention *a, int b, int h, int which) {
    const int64_t C = (int64_t)a->NH * a->HS;
    return (Rows){qkv, b * a->T * 3 * C + which * C + h * a->HS, 3 * C};
}

static float dot(const float *x, const float *y, int64_t n) {
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}

static void axpy(float *y, float a, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

static int64_t first_key(const Attention *a, int64_t t) {
    return a->window && t >= a->window ? t - a->window + 1 : 0;
}

/* The dropout's index of (b, h, t, 0). */
static uint64_t drop_row(const Attention *a, int b, int h, int64_t t) {
    const uint64_t T = (uint64_t)a->T, T4 = (T + 3) & ~(uint64_t)3;
    const uint64_t seq = a->drop.row0 / T + (uint64_t)b;
    return ((seq * (uint64_t)a->NH_total + (uint64_t)(a->head0 + h)) * T + (uint64_t)t) * T4;
}

/* One query over keys lo .. hi - 1: acc [HS] = sum p v / sum p with an online maximum; returns log sum exp. */
static float attend(float *acc, const float *q, float *row, Rows k, Rows v, int64_t lo, int64_t hi,
                    const Attention *a, uint64_t drop0) {
    const int HS = a->HS;
    float max = -INFINITY, sum = 0;
    memset(acc, 0, (size_t)HS * sizeof *acc);
    for (int64_t s = lo; s < hi; s++) {
        row_load(row, k.t, k.at + s * k.step, HS);
        float z = a->scale * dot(q, row, HS);
        if (z > max) {
            float shrink = expf(max - z);
            for (int c = 0; c < HS; c++) acc[c] *= shrink;
            sum *= shrink, max = z;
        }
        float p = expf(z - max);
        sum += p;
        dropout_apply(&p, &a->drop, drop0 + (uint64_t)s, 1);
        row_load(row, v.t, v.at + s * v.step, HS);
        axpy(acc, p, row, HS);
    }
    for (int c = 0; c < HS; c++) acc[c] /= sum;
    return max + logf(sum);
}

void cpu_attention_forward(Tensor out, float *lse, Tensor qkv, const Attention *a) {
    const int T = a->T, HS = a->HS, NH = a->NH;
#pragma omp parallel for collapse(3) schedule(dynamic, 8)
    for (int b = 0; b < a->B; b++)
        for (int h = 0; h < NH; h++)
            for (int t = 0; t < T; t++) {
                float *q = cpu_scratch(3 * (size_t)HS * sizeof *q), *acc = q + HS, *row = q + 2 * HS;
                Rows rq = head_rows(qkv, a, b, h, 0);
                row_load(q, qkv, rq.at + t * rq.step, HS);
                lse[((int64_t)b * NH + h) * T + t] =
                    attend(acc, q, row, head_rows(qkv, a, b, h, 1), head_rows(qkv, a, b, h, 2),
                           first_key(a, t), t + 1, a, drop_row(a, b, h, t));
                row_store(out, (((int64_t)b * T + t) * NH + h) * HS, acc, HS);
            }
}

/* Backward of one head; dq, dk, dv [T, HS] grow in fp32. */
static void backward_head(float *dq, float *dk, float *dv, float *row, Tensor dout, Tensor out, Tensor qkv,
                          const float *lse, const Attention *a, int b, int h) {
    const int64_t T = a->T, HS = a->HS, C = a->NH * HS;
    const Rows rq = head_rows(qkv, a, b, h, 0), rk = head_rows(qkv, a, b, h, 1),
               rv = head_rows(qkv, a, b, h, 2);
    float *q = row, *o = row + HS, *d = row + 2 * HS, *k = row + 3 * HS, *v = row + 4 * HS;
    for (int64_t t = 0; t < T; t++) {
        const int64_t at = (b * T + t) * C + h * HS;
        row_load(q, qkv, rq.at + t * rq.step, HS);
        row_load(o, out, at, HS);
        row_load(d, dout, at, HS);
        const float D = dot(d, o, HS), L = lse[(b * a->NH + h) * T + t];
        for (int64_t s = first_key(a, t); s <= t; s++) {
            row_load(k, qkv, rk.at + s * rk.step, HS);
            row_load(v, qkv, rv.at + s * rv.step, HS);
            float p = expf(a->scale * dot(q, k, HS) - L), mask = 1;
            dropout_apply(&mask, &a->drop, drop_row(a, b, h, t) + (uint64_t)s, 1);
            float ds = p * (mask * dot(d, v, HS) - D) * a->scale;
            axpy(dv + s * HS, p * mask, d, HS);
            axpy(dk + s * HS, ds, q, HS);
            axpy(dq + t * HS, ds, k, HS);
        }
    }
}

void cpu_attention_backward(Tensor dqkv, Tensor dout, Tensor out, Tensor qkv, const float *lse,
                            const Attention *a) {
    const int64_t T = a->T, HS = a->HS;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int b = 0; b < a->B; b++)
        for (int h = 0; h < a->NH; h++) {
            float *d = cpu_scratch((size_t)(3 * T + 5) * (size_t)HS * sizeof *d);
            memset(d, 0, (size_t)(3 * T * HS) * sizeof *d);
            backward_head(d, d + T * HS, d + 2 * T * HS, d + 3 * T * HS, dout, out, qkv, lse, a, b, h);
            for (int which = 0; which < 3; which++) {
                Rows r = head_rows(dqkv, a, b, h, which);
                for (int64_t t = 0; t < T; t++)
                    row_store(dqkv, r.at + t * r.step, d + (which * T + t) * HS, HS);
            }
        }
}

void cpu_attention_cached(Tensor out, Tensor qkv, Tensor k, Tensor v, int64_t capacity, const int32_t *slot,
                          const int32_t *pos, int64_t n, const Attention *a) {
    const int64_t HS = a->HS, NH = a->NH, C = NH * HS;
#pragma omp parallel
    {
        float *q = cpu_scratch(3 * (size_t)HS * sizeof *q), *acc = q + HS, *row = q + 2 * HS;
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < NH; h++) {
                const int64_t at = ((slot[i] * NH + h) * capacity + pos[i]) * HS;
                row_load(row, qkv, (i * 3 + 1) * C + h * HS, HS);
                row_store(k, at, row, HS);
                row_load(row, qkv, (i * 3 + 2) * C + h * HS, HS);
                row_store(v, at, row, HS);
            }
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < NH; h++) {
                const int64_t base = (slot[i] * NH + h) * capacity * HS;
                row_load(q, qkv, i * 3 * C + h * HS, HS);
                attend(acc, q, row, (Rows){k, base, HS}, (Rows){v, base, HS}, first_key(a, pos[i]),
                       pos[i] + 1, a, 0);
                row_store(out, i * C + h * HS, acc, HS);
            }
    }
}
