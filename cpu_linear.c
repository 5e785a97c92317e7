/* cpu_linear.c - floor 1: linear layers over cpu_product.
 *
 * A weight is prepared as panels: PANEL columns wide, one word a column and step of the sum (one fp32, or two bf16
 * below each other), so that a product reads it from front to back. Forward sums over `in`, the backward pass to dx
 * over `out`: a trained weight has a copy for each, made from the fp32 master in one pass; or, if it is used on so
 * many rows that making a copy is nothing beside its product, none: it is then made each time, in a place all share.
 * Activations are read as they lie. dw sums over the rows, so there dy (or x) is packed into panels on the way, and what it is multiplied by
 * into strips; dbias falls out of that packing. Bias, GELU, its gradient, and rounding happen on a tile in L1. */
#include "cpu.h"

#include <omp.h>
#include <stdlib.h>

enum {
    TILE = 24,        /* rows that a thread multiplies before it finishes them: the tile stays in L1 */
    ROWS = 10 * TILE, /* rows of a task: they stay in L2 while a panel goes by, and the panel while they do */
    STRIP = 96,       /* columns of dw's left operand that a task packs; half of them if threads are many */
    DEPTH = 1024,     /* rows of x and dy whose share of dw is taken at a time: the panels stay in L3 */
    MANY_ROWS = 2048  /* from so many on, a trained weight has no copies of its own */
};

struct Linear {
    LinearSpec s;
    Arena arena;
    uint32_t *forward;  /* panels over out, summed over in; NULL: made each time */
    uint32_t *backward; /* panels over in, summed over out; NULL: likewise, or never trained */
};

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t steps_of(int64_t K, Dtype d) {
    return d == DT_F32 ? K : (K + 1) / 2;
}

static size_t panels_bytes(int64_t K, int64_t N, Dtype d) {
    return (size_t)(ceil_div(N, PANEL) * PANEL * steps_of(K, d)) * sizeof(uint32_t);
}

/* ---- prepared weights ------------------------------------------------------------------------------------ */

static bool has_copies(const LinearSpec *s) {
    return !s->dw || s->max_rows < MANY_ROWS;
}

size_t cpu_linear_bytes(const LinearSpec *s) {
    if (!has_copies(s)) return 0;
    return panels_bytes(s->in, s->out, s->compute) + (s->dw ? panels_bytes(s->out, s->in, s->compute) : 0);
}

Linear *cpu_linear_create(const LinearSpec *s, Err *e) {
    Linear *l = xcalloc(1, sizeof *l);
    const Dtype d = s->compute;
    l->s = *s;
    if (has_copies(s)) {
        if (!arena_init(&l->arena, cpu_linear_bytes(s), "prepared weights", e)) return free(l), NULL;
        l->forward = arena_take(&l->arena, panels_bytes(s->in, s->out, d));
        if (s->dw) l->backward = arena_take(&l->arena, panels_bytes(s->out, s->in, d));
    } else {
        cpu_shared(panels_bytes(s->in, s->out, d));
        cpu_shared(panels_bytes(s->out, s->in, d));
    }
    if (s->dw) cpu_shared(panels_bytes(least(s->max_rows, DEPTH), s->out_major ? s->in : s->out, d));
    return l;
}

void cpu_linear_free(Linear *l) {
    if (!l) return;
    arena_free(&l->arena);
    free(l);
}

/* Panels for either product, where wanted. The master goes by in squares: each is read and rounded once, and packed
 * as it stands, and turned over. */
static void prepare(const Linear *l, uint32_t *forward, uint32_t *backward) {
    const Dtype d = l->s.compute;
    const int64_t R = l->s.out_major ? l->s.out : l->s.in, C = l->s.out_major ? l->s.in : l->s.out;
    uint32_t *straight = l->s.out_major ? backward : forward; /* sums over the master's rows */
    uint32_t *turned = l->s.out_major ? forward : backward;   /* sums over its columns */
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t r0 = 0; r0 < R; r0 += PANEL)
        for (int64_t c0 = 0; c0 < C; c0 += PANEL) {
            uint32_t square[PANEL][PANEL]; /* numbers of the compute dtype, so half empty for bf16 */
            const int64_t rows = least(R - r0, PANEL), cols = least(C - c0, PANEL);
            if (rows < PANEL || cols < PANEL) memset(square, 0, sizeof square);
            for (int64_t r = 0; r < rows; r++)
                row_store(tensor(square[r], d), 0, l->s.w + (r0 + r) * C + c0, cols);
            if (turned)
                words_turn(turned + r0 * steps_of(C, d) + steps_of(c0, d) * PANEL, PANEL, square[0], PANEL,
                           PANEL, steps_of(cols, d));
            if (!straight) continue;
            uint32_t *to = straight + c0 * steps_of(R, d) + steps_of(r0, d) * PANEL;
            if (d == DT_F32) memcpy(to, square, (size_t)rows * sizeof *square);
            for (int64_t r = 0; d == DT_BF16 && r < rows; r += 2, to += PANEL)
                words_across(to, (const uint16_t *)square[r], (const uint16_t *)square[r + 1], PANEL);
        }
}

void cpu_linear_refresh(Linear *l, bool mirrored) {
    CHECK(!mirrored);
    if (l->forward) prepare(l, l->forward, l->backward);
}

static const uint32_t *forward_panels(const Linear *l) {
    if (l->forward) return l->forward;
    uint32_t *to = cpu_shared(panels_bytes(l->s.in, l->s.out, l->s.compute));
    prepare(l, to, NULL);
    return to;
}

static const uint32_t *backward_panels(const Linear *l) {
    if (l->backward) return l->backward;
    uint32_t *to = cpu_shared(panels_bytes(l->s.out, l->s.in, l->s.compute));
    prepare(l, NULL, to);
    return to;
}

/* ---- y = x W, dx = dy W^T -------------------------------------------------------------------------------- */

/* What happens to a tile of the product before it is stored. */
typedef struct Finish {
    const float *bias; /* [N] or NULL: added first */
    Tensor pre; /* [n, N]: gets the value before act; or, if `grad`, holds that value of an earlier op */
    Act act;
    bool grad;    /* times act'(pre), rather than act of it */
    Tensor again; /* [n, N]: if `grad`, gets act(pre), unless it is absent */
} Finish;

static inline void finish_row(float *t, int64_t at, int64_t c0, int64_t cols, Tensor y, const Finish *f) {
    float pre[PANEL];
    if (f->bias)
        for (int64_t c = 0; c < cols; c++) t[c] += f->bias[c0 + c];
    if (f->pre.p && !f->grad) row_store(f->pre, at, t, cols);
    if (f->act == ACT_GELU && f->grad) {
        row_load(pre, f->pre, at, cols);
        for (int64_t c = 0; c < cols; c++) t[c] *= gelu_grad(pre[c]);
        if (!f->again.p) return row_store(y, at, t, cols);
        for (int64_t c = 0; c < cols; c++) pre[c] = gelu(pre[c]);
        row_store(f->again, at, pre, cols);
    } else if (f->act == ACT_GELU) {
        for (int64_t c = 0; c < cols; c++) t[c] = gelu(t[c]);
    }
    row_store(y, at, t, cols);
}

static uint32_t word_of(float first, float second, Dtype d) {
    uint32_t u;
    memcpy(&u, &first, sizeof u);
    return d == DT_F32 ? u : f32_to_bf16(first) | (uint32_t)f32_to_bf16(second) << 16;
}

/* Where a product finds the words of rows i .. i + rows - 1 of x [n, K]: where they lie, or converted in scratch. */
static const void *words_of(Tensor x, int64_t i, int64_t rows, int64_t K, Dtype d) {
    const int64_t steps = steps_of(K, d);
    if (x.dtype == d && (d == DT_F32 || K % 2 == 0)) return tensor_at(x, i * K).p;
    uint32_t *w = cpu_scratch((size_t)(TILE * steps) * sizeof *w);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < steps; k++) {
            const int64_t at = (i + r) * K + (d == DT_F32 ? k : 2 * k);
            const bool second = d == DT_BF16 && 2 * k + 1 < K;
            w[r * steps + k] = word_of(tensor_get(x, at), second ? tensor_get(x, at + 1) : 0, d);
        }
    return w;
}

/* y [n, N] = finish(x [n, K] panels). */
static void multiply(Tensor y, Tensor x, const uint32_t *panels, int64_t n, int64_t K, int64_t N, Dtype d,
                     const Finish *f) {
    const int64_t steps = steps_of(K, d), threads = omp_get_max_threads();
    /* Few rows wait for the panels to come from memory, and those come fastest as a few long streams a thread. */
    const int64_t chunk = n <= TILE ? ceil_div(ceil_div(N, PANEL), 4 * threads) : 1;
#pragma omp parallel for collapse(2) schedule(dynamic, chunk)
    for (int64_t i0 = 0; i0 < n; i0 += ROWS)
        for (int64_t c0 = 0; c0 < N; c0 += PANEL) {
            const int64_t end = least(n, i0 + ROWS), cols = least(N - c0, PANEL);
            float tile[TILE][PANEL] __attribute__((aligned(64)));
            for (int64_t i = i0; i < end; i += TILE) {
                const int64_t rows = least(end - i, TILE);
                cpu_product(&(Product){.c = tile[0],
                                       .c_row = PANEL,
                                       .a = words_of(x, i, rows, K, d),
                                       .a_row = steps,
                                       .a_step = 1,
                                       .b = panels + c0 * steps,
                                       .b_step = PANEL,
                                       .steps = steps,
                                       .rows = rows,
                                       .cols = PANEL},
                            d);
                for (int64_t r = 0; r < rows; r++) finish_row(tile[r], (i + r) * N + c0, c0, cols, y, f);
            }
        }
}

void cpu_linear_forward(Tensor y, Tensor pre, Tensor x, const Linear *l, const float *bias, Act act,
                        int64_t n) {
    const Finish f = {.bias = bias, .pre = pre, .act = act};
    multiply(y, x, forward_panels(l), n, l->s.in, l->s.out, l->s.compute, &f);
}

/* ---- dw = x^T dy ----------------------------------------------------------------------------------------- */

/* Columns c0 .. c0 + cols - 1 of `rows` rows of t [.., C] from row r0 on, as words of `width` columns: the sum goes
 * over the rows. */
static inline void pack_columns(uint32_t *dst, int64_t width, Tensor t, int64_t C, int64_t r0, int64_t rows,
                                int64_t c0, int64_t cols, Dtype d) {
    const int per = d == DT_F32 ? 1 : 2;
    for (int64_t r = 0; r < rows; r += per, dst += width) {
        const int64_t at = (r0 + r) * C + c0;
        const uint16_t *lo = (const uint16_t *)t.p + at, *hi = lo + C;
        const bool both = r + 1 < rows;
        if (d == DT_F32)
            row_load((float *)dst, t, at, cols);
        else if (t.dtype == DT_BF16 && both)
            words_across(dst, lo, hi, cols);
        else
            for (int64_t c = 0; c < cols; c++)
                dst[c] = word_of(tensor_get(t, at + c), both ? tensor_get(t, at + C + c) : 0, d);
        for (int64_t c = cols; c < width; c++) dst[c] = 0;
    }
}

/* sum [cols] += what stands in a panel's columns. */
static void sum_panel(float *sum, const uint32_t *panel, int64_t steps, int64_t cols, Dtype d) {
    float all[PANEL] = {0};
    for (int64_t k = 0; k < steps; k++, panel += PANEL)
        for (int c = 0; c < PANEL; c++) {
            float w;
            memcpy(&w, &panel[c], sizeof w);
            all[c] +=
                d == DT_F32 ? w : bf16_to_f32((uint16_t)panel[c]) + bf16_to_f32((uint16_t)(panel[c] >> 16));
        }
    for (int64_t c = 0; c < cols; c++) sum[c] += all[c];
}

/* dw [A, B] = (or, if add, +=) a^T b over `rows` rows from r0 on; b comes as panels. */
static void multiply_turned(float *dw, Tensor a, const uint32_t *panels, int64_t A, int64_t B, int64_t r0,
                            int64_t rows, Dtype d, bool add) {
    const int64_t steps = steps_of(rows, d);
    const int64_t width = A >= 4 * STRIP * omp_get_max_threads() ? STRIP : STRIP / 2;
#pragma omp parallel for schedule(dynamic)
    for (int64_t i0 = 0; i0 < A; i0 += width) {
        const int64_t wide = least(A - i0, width);
        uint32_t *strip = cpu_scratch((size_t)(steps * width) * sizeof *strip);
        pack_columns(strip, width, a, A, r0, rows, i0, wide, d);
        for (int64_t c0 = 0; c0 < B; c0 += PANEL) {
            const int64_t cols = least(B - c0, PANEL);
            float *to = dw + i0 * B + c0;
            Product p = {.c = to,
                         .c_row = B,
                         .a = strip,
                         .a_row = 1,
                         .a_step = width,
                         .b = panels + c0 * steps,
                         .b_step = PANEL,
                         .steps = steps,
                         .rows = wide,
                         .cols = PANEL,
                         .add = add};
            if (cols == PANEL)
                cpu_product(&p, d);
            else {
                float tile[STRIP][PANEL];
                p.c = tile[0], p.c_row = PANEL, p.add = false;
                cpu_product(&p, d);
                for (int64_t i = 0; i < wide; i++, to += B)
                    for (int64_t c = 0; c < cols; c++) to[c] = tile[i][c] + (add ? to[c] : 0);
            }
        }
    }
}

/* dw [A, B] (+)= a [n, A]^T b [n, B]; sum_b [B] (+)= the column sums of b, if not NULL. */
static void backward_weight(float *dw, float *sum_b, Tensor a, Tensor b, int64_t A, int64_t B, Dtype d,
                            bool accumulate, int64_t n) {
    uint32_t *panels = cpu_shared(panels_bytes(least(n, DEPTH), B, d));
    for (int64_t r0 = 0; r0 < n; r0 += DEPTH) {
        const int64_t rows = least(n - r0, DEPTH), steps = steps_of(rows, d);
#pragma omp parallel for schedule(dynamic)
        for (int64_t c0 = 0; c0 < B; c0 += PANEL) {
            const int64_t cols = least(B - c0, PANEL);
            uint32_t *panel = panels + c0 * steps;
            pack_columns(panel, PANEL, b, B, r0, rows, c0, cols, d);
            if (!sum_b) continue;
            if (!accumulate && r0 == 0) memset(sum_b + c0, 0, (size_t)cols * sizeof *sum_b);
            sum_panel(sum_b + c0, panel, steps, cols, d);
        }
        multiply_turned(dw, a, panels, A, B, r0, rows, d, accumulate || r0 > 0);
    }
}

void cpu_linear_backward(Tensor dx, Tensor dy, Tensor x, Tensor pre, Act act, bool again, Linear *l,
                         float *dbias, bool accumulate, int64_t n) {
    const LinearSpec *s = &l->s;
    CHECK(s->dw, "backward through a linear that was created without a gradient");
    CHECK(!again || (dx.p && act != ACT_NONE), "x is made again on the way to dx");
    const Finish f = {.pre = pre, .act = act, .grad = true, .again = again ? x : NO_TENSOR};
    if (dx.p) multiply(dx, dy, backward_panels(l), n, s->out, s->in, s->compute, &f);
    if (s->out_major)
        backward_weight(s->dw, NULL, dy, x, s->out, s->in, s->compute, accumulate, n);
    else
        backward_weight(s->dw, dbias, x, dy, s->in, s->out, s->compute, accumulate, n);
    if (dbias && s->out_major) sum_rows(dbias, dy, n, s->out, accumulate);
}

/* ---- products of matrices that are no layer's ------------------------------------------------------------- */

/* Words of `lines` rows of x, K numbers long, side by side in `width` columns: the sum goes along the rows. */
static void pack_rows(uint32_t *dst, int64_t width, const uint16_t *x, int64_t row, int64_t K,
                      int64_t lines) {
    enum { SIDE = 8 }; /* words; divides every width */
    for (int64_t k = 0; k < K; k += 2 * SIDE)
        for (int64_t l = 0; l < width; l += SIDE) {
            uint32_t square[SIDE][SIDE] = {{0}};
            const int64_t numbers = least(K - k, 2 * SIDE);
            for (int64_t r = 0; r < least(lines - l, SIDE); r++)
                memcpy(square[r], x + (l + r) * row + k, (size_t)numbers * sizeof *x);
            words_turn(dst + k / 2 * width + l, width, square[0], SIDE, SIDE, steps_of(numbers, DT_BF16));
        }
}

/* Words of lines from .. from + lines - 1 of an operand, be they rows or columns of x. */
static void pack_lines(uint32_t *dst, int64_t width, uint16_t *x, int64_t row, bool rows, int64_t K,
                       int64_t from, int64_t lines) {
    if (rows)
        pack_rows(dst, width, x + from * row, row, K, lines);
    else
        pack_columns(dst, width, tensor(x, DT_BF16), row, 0, K, from, lines, DT_BF16);
}

enum { HEIGHT = STRIP / 2 }; /* rows of c that a task makes */

/* Rows r0 .. of matrix i; its b comes as panels. */
static void multiply_strip(Matrices c, Matrices a, const uint32_t *panels, const uint16_t *add,
                           const Matmul *m, int64_t i, int64_t r0) {
    const int64_t steps = steps_of(m->K, DT_BF16), rows = least(m->M - r0, HEIGHT);
    uint32_t *strip = cpu_scratch((size_t)(steps * HEIGHT) * sizeof *strip);
    pack_lines(strip, HEIGHT, a.p + i * a.step, a.row, !m->turn_a, m->K, r0, rows);
    for (int64_t c0 = 0; c0 < m->N; c0 += PANEL) {
        float tile[HEIGHT][PANEL] __attribute__((aligned(64))), more[PANEL];
        const int64_t cols = least(m->N - c0, PANEL);
        cpu_product(&(Product){.c = tile[0],
                               .c_row = PANEL,
                               .a = strip,
                               .a_row = 1,
                               .a_step = HEIGHT,
                               .b = panels + c0 * steps,
                               .b_step = PANEL,
                               .steps = steps,
                               .rows = rows,
                               .cols = PANEL},
                    DT_BF16);
        for (int64_t r = 0; r < rows; r++) {
            const int64_t at = i * c.step + (r0 + r) * c.row + c0;
            for (int64_t j = 0; j < cols; j++) tile[r][j] *= m->alpha;
            if (add) row_load(more, tensor((void *)(uintptr_t)add, DT_BF16), at, cols);
            for (int64_t j = 0; add && j < cols; j++) tile[r][j] += m->beta * more[j];
            bf16_from_row(c.p + at, tile[r], cols);
        }
    }
}

void cpu_matmul(Matrices c, Matrices a, Matrices b, const uint16_t *add, const Matmul *m) {
    const int64_t steps = steps_of(m->K, DT_BF16), each = ceil_div(m->N, PANEL) * PANEL * steps;
    uint32_t *panels = cpu_shared((size_t)(m->batch * each) * sizeof *panels);
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t i = 0; i < m->batch; i++)
        for (int64_t c0 = 0; c0 < m->N; c0 += PANEL)
            pack_lines(panels + i * each + c0 * steps, PANEL, b.p + i * b.step, b.row, m->turn_b, m->K, c0,
                       least(m->N - c0, PANEL));
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t i = 0; i < m->batch; i++)
        for (int64_t r0 = 0; r0 < m->M; r0 += HEIGHT) multiply_strip(c, a, panels + i * each, add, m, i, r0);
}
