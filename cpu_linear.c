/* cpu_linear.c - floor 1: matrix products with prepared weights. */
#include "cpu.h"

#include <stdlib.h>

enum { ROWS = 8, COLS = 64 }; /* a tile of the product, kept in registers or L1 while its sums grow */

struct Linear {
    LinearSpec s;
    Arena arena;
    float *w;  /* [in, out], rounded to the compute dtype */
    float *wt; /* [out, in], the same; NULL: never trained */
};

size_t cpu_linear_bytes(const LinearSpec *s) {
    return (size_t)(s->in * s->out) * sizeof(float) * (s->dw ? 2 : 1) + 64;
}

const char *cpu_linear_library(void) {
    return "plain matrix products";
}

Linear *cpu_linear_create(const LinearSpec *s, Err *e) {
    Linear *l = xcalloc(1, sizeof *l);
    const size_t each = (size_t)(s->in * s->out) * sizeof(float);
    l->s = *s;
    if (!arena_init(&l->arena, cpu_linear_bytes(s), "prepared weights", e)) return free(l), NULL;
    l->w = arena_take(&l->arena, each);
    if (s->dw) l->wt = arena_take(&l->arena, each);
    cpu_linear_refresh(l);
    return l;
}

void cpu_linear_free(Linear *l) {
    if (!l) return;
    arena_free(&l->arena);
    free(l);
}

void cpu_linear_refresh(Linear *l) {
    const int64_t in = l->s.in, out = l->s.out;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < in; i++)
        for (int64_t o = 0; o < out; o++) {
            float w = l->s.w[l->s.out_major ? o * in + i : i * out + o];
            if (l->s.compute == DT_BF16) w = bf16_to_f32(f32_to_bf16(w));
            l->w[i * out + o] = w;
            if (l->wt) l->wt[o * in + i] = w;
        }
}

/* One tile of a product: sum[r][c] = sum over k of a(r, k) b(k, c), both rounded to the compute dtype. A number of a
 * stands at a.p[r * a_row + k * a_k], of b at b.p[k * b_k + c]. */
typedef struct Side {
    Tensor t;
    int64_t row, k;
} Side;

static void tile(float sum[ROWS][COLS], Side a, Side b, int64_t rows, int64_t cols, int64_t K,
                 Dtype compute) {
    memset(sum, 0, ROWS * sizeof *sum);
    for (int64_t k = 0; k < K; k++) {
        float bk[COLS];
        for (int64_t c = 0; c < cols; c++) bk[c] = tensor_get(b.t, k * b.k + c);
        if (compute == DT_BF16)
            for (int64_t c = 0; c < cols; c++) bk[c] = bf16_to_f32(f32_to_bf16(bk[c]));
        for (int64_t r = 0; r < rows; r++) {
            float ak = tensor_get(a.t, r * a.row + k * a.k);
            if (compute == DT_BF16) ak = bf16_to_f32(f32_to_bf16(ak));
            for (int64_t c = 0; c < cols; c++) sum[r][c] += ak * bk[c];
        }
    }
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

void cpu_linear_forward(Tensor y, Tensor pre, Tensor x, const Linear *l, const float *bias, Act act,
                        int64_t n) {
    const int64_t in = l->s.in, out = l->s.out;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t c0 = 0; c0 < out; c0 += COLS)
        for (int64_t i0 = 0; i0 < n; i0 += ROWS) {
            float sum[ROWS][COLS];
            const int64_t rows = least(n - i0, ROWS), cols = least(out - c0, COLS);
            tile(sum, (Side){tensor_at(x, i0 * in), in, 1}, (Side){tensor(l->w + c0, DT_F32), 0, out}, rows,
                 cols, in, l->s.compute);
            for (int64_t r = 0; r < rows; r++) {
                const int64_t at = (i0 + r) * out + c0;
                for (int64_t c = 0; bias && c < cols; c++) sum[r][c] += bias[c0 + c];
                if (pre.p) row_store(pre, at, sum[r], cols);
                for (int64_t c = 0; act == ACT_GELU && c < cols; c++) sum[r][c] = gelu(sum[r][c]);
                row_store(y, at, sum[r], cols);
            }
        }
}

static void backward_input(Tensor dx, Tensor dy, Tensor pre, Act act, const Linear *l, int64_t n) {
    const int64_t in = l->s.in, out = l->s.out;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t c0 = 0; c0 < in; c0 += COLS)
        for (int64_t i0 = 0; i0 < n; i0 += ROWS) {
            float sum[ROWS][COLS], p[COLS];
            const int64_t rows = least(n - i0, ROWS), cols = least(in - c0, COLS);
            tile(sum, (Side){tensor_at(dy, i0 * out), out, 1}, (Side){tensor(l->wt + c0, DT_F32), 0, in},
                 rows, cols, out, l->s.compute);
            for (int64_t r = 0; r < rows; r++) {
                const int64_t at = (i0 + r) * in + c0;
                if (act == ACT_GELU) {
                    row_load(p, pre, at, cols);
                    for (int64_t c = 0; c < cols; c++) sum[r][c] *= gelu_grad(p[c]);
                }
                row_store(dx, at, sum[r], cols);
            }
        }
}

/* dw (+)= a^T b over n rows, a [n, A], b [n, B], dw [A, B]. */
static void backward_weight(float *dw, Tensor a, Tensor b, int64_t A, int64_t B, Dtype compute,
                            bool accumulate, int64_t n) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t c0 = 0; c0 < B; c0 += COLS)
        for (int64_t r0 = 0; r0 < A; r0 += ROWS) {
            float sum[ROWS][COLS];
            const int64_t rows = least(A - r0, ROWS), cols = least(B - c0, COLS);
            tile(sum, (Side){tensor_at(a, r0), 1, A}, (Side){tensor_at(b, c0), 0, B}, rows, cols, n, compute);
            for (int64_t r = 0; r < rows; r++) {
                float *d = dw + (r0 + r) * B + c0;
                for (int64_t c = 0; c < cols; c++) d[c] = sum[r][c] + (accumulate ? d[c] : 0);
            }
        }
}

void cpu_linear_backward(Tensor dx, Tensor dy, Tensor x, Tensor pre, Act act, Linear *l, float *dbias,
                         bool accumulate, int64_t n) {
    const LinearSpec *s = &l->s;
    if (dx.p) backward_input(dx, dy, pre, act, l, n);
    if (s->dw && s->out_major)
        backward_weight(s->dw, dy, x, s->out, s->in, s->compute, accumulate, n);
    else if (s->dw)
        backward_weight(s->dw, x, dy, s->in, s->out, s->compute, accumulate, n);
    if (dbias) sum_rows(dbias, dy, n, s->out, accumulate);
}
