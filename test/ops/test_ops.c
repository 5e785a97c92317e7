/* test_ops.c - every entry of the op table against ref.c, as harness.h describes. */
#include "harness.h"
#include "safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- linear: n, in, out, out_major, gelu, bias, pre ------------------------------------------------------ */

/* Odd ones, few rows, rows of all widths that a kernel for few treats apart, and multiples of 16 for fp8. */
/* clang-format off */
#define LINEAR_SHAPES {                                                                                 \
    {1, 48, 80, 0, 0, 1, 0}, {5, 64, 64, 0, 1, 1, 1}, {2, 7, 9, 0, 1, 0, 1}, {70, 96, 160, 0, 1, 1, 1}, \
    {130, 33, 65, 1, 0, 0, 0}, {257, 40, 72, 0, 0, 1, 0}, {3, 31, 128, 1, 0, 1, 0},                     \
    {34, 200, 200, 1, 0, 0, 0}, {33, 1, 3, 0, 1, 1, 1}, {8, 520, 136, 0, 0, 1, 0},                      \
    {48, 64, 128, 0, 1, 1, 1}, {64, 48, 32, 1, 0, 1, 1}, {4, 9, 4136, 0, 0, 1, 0}, {1, 5, 8200, 0, 0, 1, 0}, {0}}
/* clang-format on */

static LinearSpec linear_spec(const Case *c, float *w, float *dw) {
    return (LinearSpec){c->d[1], c->d[2], c->d[3], w, dw, c->compute, c->d[0], NULL};
}

/* With room for the mirror where the back end wants one. */
static Linear *linear_of(Case *c, float *w, float *dw) {
    Err e = {0};
    LinearSpec s = linear_spec(c, w, dw);
    uint16_t *mirror = xcalloc((size_t)(s.in * s.out), sizeof *mirror);
    if (ops()->mirror(s.compute)) s.copy = given(c, mirror, (size_t)(s.in * s.out) * sizeof *mirror);
    Linear *l = ops()->linear_create(&s, &e);
    EXPECT_OK(&e);
    ops()->linear_refresh(l, false);
    free(mirror);
    return l;
}

static void linear_forward_args(Case *c) {
    const int n = c->d[0], in = c->d[1], out = c->d[2];
    arg_add(c, "y", OUT, n * out, c->d[3] ? DT_F32 : c->dtype, 0, 0); /* a head's are logits */
    arg_add(c, "pre", OUT, c->d[6] ? n * out : 0, c->dtype, 0, 0);
    arg_add(c, "x", IN, n * in, c->dtype, 0, 1);
    arg_add(c, "w", IN, in * out, DT_F32, 0, 1);
    arg_add(c, "bias", IN, c->d[5] ? out : 0, DT_F32, 0, 1);
}

static void linear_forward_op(Case *c, const Ops *o) {
    Linear *l = linear_of(c, F(3), NULL);
    o->linear_forward(T(0), T(1), T(2), l, F(4), c->d[4] ? ACT_GELU : ACT_NONE, c->d[0]);
    o->linear_free(l);
}

static void linear_forward_ref(Case *c) {
    LinearSpec s = linear_spec(c, NULL, NULL);
    ref_linear_forward(R(0), R(1), R(2), R(3), R(4), c->d[4] ? ACT_GELU : ACT_NONE, &s, c->d[0]);
}

static const OpTest linear_forward = {"linear_forward",
                                      LINEAR_SHAPES,
                                      linear_forward_args,
                                      NULL,
                                      linear_forward_op,
                                      linear_forward_ref,
                                      NULL,
                                      {{0}},
                                      true};
OP_TEST(linear_forward)

/* The same shapes; `gelu` is then of the op that made x, and `pre` says whether dx is asked for. */
static void linear_backward_args(Case *c) {
    const int n = c->d[0], in = c->d[1], out = c->d[2];
    arg_add(c, "dx", OUT, c->d[6] ? n * in : 0, c->dtype, 0, 0);
    arg_add(c, "dw", INOUT, in * out, DT_F32, 0, 1);
    arg_add(c, "dbias", INOUT, c->d[5] ? out : 0, DT_F32, 0, 1);
    arg_add(c, "dy", IN, n * out, c->dtype, 0, 1);
    arg_add(c, "x", INOUT, n * in, c->dtype, 0, 1);
    arg_add(c, "pre", IN, n * in, c->dtype, 0, 3);
    arg_add(c, "w", IN, in * out, DT_F32, 0, 1);
}

/* x = act(pre), by a linear op whose weight is the identity. */
static void linear_backward_prepare(Case *c) {
    const LinearSpec one = {1, 1, false, NULL, NULL, DT_F32, 1, NULL};
    const double w = 1;
    for (int64_t i = 0; i < c->a[4].n; i++)
        ref_linear_forward(R(4) + i, NULL, R(5) + i, &w, NULL, c->d[4] ? ACT_GELU : ACT_NONE, &one, 1);
}

static bool linear_accumulates(const Case *c) {
    return c->d[0] % 2 && !c->exact;
}

static void linear_backward_op(Case *c, const Ops *o) {
    Linear *l = linear_of(c, F(6), F(1));
    if (c->d[4]) o->zero(T(4).p, (size_t)c->a[4].n * dtype_size(c->dtype)); /* to be made again */
    o->linear_backward(T(0), T(3), T(4), T(5), c->d[4] ? ACT_GELU : ACT_NONE, c->d[4] != 0, l, F(2),
                       linear_accumulates(c), c->d[0]);
    o->linear_free(l);
}

static void linear_backward_ref(Case *c) {
    LinearSpec s = linear_spec(c, NULL, NULL);
    ref_linear_backward(R(0), R(1), R(2), R(3), R(4), R(5), R(6), c->d[4] ? ACT_GELU : ACT_NONE, &s,
                        linear_accumulates(c), c->d[0]);
}

static double linear_loss(Case *c) {
    LinearSpec s = linear_spec(c, NULL, NULL);
    const int64_t n = c->a[3].n;
    double *y = xmalloc((size_t)n * sizeof *y);
    linear_backward_prepare(c);
    ref_linear_forward(y, NULL, R(4), R(6), NULL, ACT_NONE, &s, c->d[0]);
    double sum = weighted(y, R(3), n);
    free(y);
    return sum;
}

static const OpTest linear_backward = {"linear_backward",
                                       LINEAR_SHAPES,
                                       linear_backward_args,
                                       linear_backward_prepare,
                                       linear_backward_op,
                                       linear_backward_ref,
                                       linear_loss,
                                       {{5, 0}, {6, 1}},
                                       true};
OP_TEST(linear_backward)

/* With few rows, as in decoding, a row's result depends on nothing but that row. */
TEST(ops_linear_rows_alone) {
    enum { N = 8, IN_ = 1072, OUT_ = 144 };
    static float w[IN_ * OUT_], x[N * IN_], y[N * OUT_], alone[N * OUT_];
    static uint16_t bx[N * IN_];
    rand_normals(w, IN_ * OUT_, 1, 1, RAND_TEST, 1, 0);
    rand_normals(x, N * IN_, 1, 1, RAND_TEST, 2, 0);
    for (int i = 0; i < N * IN_; i++) bx[i] = bf16_from_f32(x[i]);
    for (int i = 0; i < 4; i++) {
        Err e = {0};
        const Dtype d = i & 2 ? DT_BF16 : DT_F32;
        const LinearSpec s = {.in = IN_,
                              .out = OUT_,
                              .out_major = i & 1,
                              .w = device(w, sizeof w),
                              .compute = d,
                              .max_rows = N};
        const Tensor dx = tensor(d == DT_BF16 ? device(bx, sizeof bx) : device(x, sizeof x), d);
        const Tensor dy = tensor(device(NULL, sizeof y), DT_F32);
        Linear *l = ops()->linear_create(&s, &e);
        EXPECT_OK(&e);
        ops()->linear_refresh(l, false);
        ops()->linear_forward(dy, NO_TENSOR, dx, l, NULL, ACT_NONE, N);
        host(y, dy.p, sizeof y);
        for (int n = 1; n < N; n += 2)
            for (int r = 0; r + n <= N; r += n) {
                ops()->linear_forward(tensor_at(dy, r * OUT_), NO_TENSOR, tensor_at(dx, r * IN_), l, NULL,
                                      ACT_NONE, n);
                host(alone, dy.p, sizeof alone);
                EXPECT(!memcmp(y, alone, sizeof y), "case %d, rows %d .. %d", i, r, r + n - 1);
            }
        ops()->linear_free(l);
        device_free();
    }
}

/* How many rows a linear was made for changes where its weights are prepared, and no bit of what it gives. (On a GPU it
 * changes which algorithm is the best.) */
static void linear_run(const LinearSpec *s, float *y, float *dx, Tensor x, Tensor dy, int64_t n) {
    Err e = {0};
    Linear *l = ops()->linear_create(s, &e);
    EXPECT_OK(&e);
    ops()->linear_refresh(l, false);
    ops()->linear_forward(tensor(y, DT_F32), NO_TENSOR, x, l, NULL, ACT_NONE, n);
    ops()->linear_backward(tensor(dx, DT_F32), dy, x, NO_TENSOR, ACT_NONE, false, l, NULL, false, n);
    ops()->linear_free(l);
}

TEST(ops_linear_for_many_rows) {
    enum { N = 70, IN_ = 33, OUT_ = 130 };
    static float w[IN_ * OUT_], dw[2][IN_ * OUT_], x[N * IN_], dy[N * OUT_], y[2][N * OUT_], dx[2][N * IN_];
    if (!on_cpu()) SKIP("the CPU's promise only");
    rand_normals(w, IN_ * OUT_, 1, 1, RAND_TEST, 1, 0);
    rand_normals(x, N * IN_, 1, 1, RAND_TEST, 2, 0);
    rand_normals(dy, N * OUT_, 1, 1, RAND_TEST, 3, 0);
    static uint16_t bx[N * IN_], bdy[N * OUT_];
    for (int i = 0; i < N * IN_; i++) bx[i] = bf16_from_f32(x[i]);
    for (int i = 0; i < N * OUT_; i++) bdy[i] = bf16_from_f32(dy[i]);
    for (int i = 0; i < 4; i++) {
        for (int many = 0; many < 2; many++) {
            LinearSpec s = {IN_, OUT_, i & 1, w, dw[many], i & 2 ? DT_BF16 : DT_F32, many ? 1 << 20 : N,
                            NULL};
            linear_run(&s, y[many], dx[many], i & 2 ? tensor(bx, DT_BF16) : tensor(x, DT_F32),
                       i & 2 ? tensor(bdy, DT_BF16) : tensor(dy, DT_F32), N);
        }
        EXPECT(!memcmp(y[0], y[1], sizeof *y) && !memcmp(dx[0], dx[1], sizeof *dx) &&
                   !memcmp(dw[0], dw[1], sizeof *dw),
               "case %d", i);
        EXPECT(y[0][7] != 0 && dx[0][7] != 0 && dw[0][7] != 0);
    }
}

/* After the master changed, linear_refresh makes the op use it. */
TEST(ops_linear_refresh) {
    float w[6] = {1, 2, 3, 4, 5, 6}, x[2] = {1, 10}, y[3];
    Err e = {0};
    float *dw = device(w, sizeof w), *dx = device(x, sizeof x), *dy = device(NULL, sizeof y);
    LinearSpec s = {2, 3, false, dw, NULL, DT_F32, 1, NULL};
    Linear *l = ops()->linear_create(&s, &e);
    EXPECT_OK(&e);
    if (on_cpu()) EXPECT(ops()->linear_bytes(&s) >= sizeof w);
    w[4] = 7;
    ops()->to_device(dw, w, sizeof w);
    ops()->linear_refresh(l, false);
    ops()->linear_forward(tensor(dy, DT_F32), NO_TENSOR, tensor(dx, DT_F32), l, NULL, ACT_NONE, 1);
    host(y, dy, sizeof y);
    EXPECT(y[0] == 41 && y[1] == 72 && y[2] == 63, "%g %g %g", y[0], y[1], y[2]);
    ops()->linear_free(l);
    device_free();
}

/* ---- norm: n, C, delta, dropout, row0; backward: post, dh, dx_in; both: no norm ---------------------------- */

#define NORM_SHAPES                                                                                        \
    {                                                                                                      \
        {1, 64, 0, 0, 0, 0, 1, 1}, {5, 48, 1, 0, 0, 1, 1, 1}, {7, 33, 1, 1, 6, 0, 1, 1},                   \
            {3, 768, 1, 1, 9, 1, 1, 1}, {70, 17, 0, 0, 0, 0, 1, 0}, {2, 130, 1, 1, 1, 1, 1, 0},            \
            {4, 64, 1, 1, 2, 0, 0, 1}, {3, 1600, 1, 1, 2, 0, 1, 1}, {3, 1024, 1, 1, 5, 1, 1, 1},           \
            {4, 1030, 1, 0, 3, 1, 1, 1}, {1602, 8, 1, 0, 0, 0, 1, 1}, {3, 64, 1, 1, 2, 0, 1, 1, 1},        \
            {5, 33, 1, 1, 6, 1, 1, 1, 1}, {6, 1030, 1, 0, 0, 0, 0, 1, 1}, {7, 129, 1, 1, 1, 0, 1, 0, 1}, { \
            0                                                                                              \
        }                                                                                                  \
    }
static const float norm_eps = 1e-5f;

static void norm_forward_args(Case *c) {
    const int n = c->d[0], C = c->d[1], norm = !c->d[8];
    arg_add(c, "h", OUT, norm * n * C, c->dtype, 0, 0);
    arg_add(c, "x_out", OUT, c->d[2] ? n * C : 0, c->stream, 0, 0);
    arg_add(c, "mean", OUT, norm * n, DT_F32, 0, 0);
    arg_add(c, "rstd", OUT, norm * n, DT_F32, 0, 0);
    arg_add(c, "x_in", IN, n * C, c->stream, 0.5, 2);
    arg_add(c, "delta", IN, c->d[2] ? n * C : 0, c->dtype, 0, 1);
    arg_add(c, "g", IN, norm * C, DT_F32, 1, 0.3);
    arg_add(c, "b", IN, norm * C, DT_F32, 0, 0.3);
}

static Dropout norm_dropout(const Case *c) {
    return some_dropout(c->d[3], (uint64_t)c->d[4]);
}

static void norm_forward_op(Case *c, const Ops *o) {
    o->norm_forward(T(0), T(1), F(2), F(3), T(4), T(5), F(6), F(7), norm_eps, c->d[0], c->d[1],
                    norm_dropout(c));
}

static void norm_forward_ref(Case *c) {
    ref_norm_forward(R(0), R(1), R(2), R(3), R(4), R(5), R(6), R(7), norm_eps, c->d[0], c->d[1],
                     norm_dropout(c));
}

static const OpTest norm_forward = {"norm_forward", NORM_SHAPES,     norm_forward_args,
                                    NULL,           norm_forward_op, norm_forward_ref,
                                    NULL,           {{0}},           false};
OP_TEST(norm_forward)

static void norm_backward_args(Case *c) {
    const int n = c->d[0], C = c->d[1], norm = !c->d[8];
    arg_add(c, "dx", OUT, n * C, c->stream, 0, 0);
    arg_add(c, "ddelta", OUT, c->d[2] ? n * C : 0, c->dtype, 0, 0);
    arg_add(c, "dg", INOUT, norm * C, DT_F32, 0, 1);
    arg_add(c, "db", INOUT, norm * C, DT_F32, 0, 1);
    arg_add(c, "dx_in", IN, c->d[7] ? n * C : 0, c->stream, 0, 1);
    arg_add(c, "dh", IN, c->d[6] ? n * C : 0, c->dtype, 0, 1);
    arg_add(c, "x", IN, norm * n * C, c->stream, 0.5, 2);
    arg_add(c, "mean", IN, norm * n, DT_F32, 0, 0);
    arg_add(c, "rstd", IN, norm * n, DT_F32, 0, 0);
    arg_add(c, "g", IN, norm * C, DT_F32, 1, 0.3);
    arg_add(c, "b", IN, norm * C, DT_F32, 0, 0.3);
}

static void norm_statistics(Case *c, double *h) {
    ref_norm_forward(h, NULL, R(7), R(8), R(6), NULL, R(9), R(10), norm_eps, c->d[0], c->d[1],
                     norm_dropout(c));
}

static void norm_backward_prepare(Case *c) {
    if (c->d[8]) return;
    double *h = xmalloc((size_t)c->a[6].n * sizeof *h);
    norm_statistics(c, h);
    free(h);
}

static bool norm_accumulates(const Case *c) {
    return c->d[0] % 2 && !c->exact;
}

static void norm_backward_op(Case *c, const Ops *o) {
    o->norm_backward(T(0), T(1), T(4), T(5), T(6), F(7), F(8), F(9), F(2), F(3), norm_accumulates(c), c->d[5],
                     c->d[0], c->d[1], norm_dropout(c));
}

static void norm_backward_ref(Case *c) {
    ref_norm_backward(R(0), R(1), R(2), R(3), R(4), R(5), R(6), R(7), R(8), R(9), norm_accumulates(c),
                      c->d[5], c->d[0], c->d[1], norm_dropout(c));
}

/* What is above the stream weighs x itself, or, behind a post-norm, the norm's output. */
static double norm_loss(Case *c) {
    const int64_t n = c->a[6].n;
    double *h = xmalloc((size_t)n * sizeof *h), sum = 0;
    norm_statistics(c, h);
    if (R(5)) sum += weighted(h, R(5), n);
    if (R(4)) sum += weighted(c->d[5] ? h : R(6), R(4), n);
    free(h);
    return sum;
}

static const OpTest norm_backward = {"norm_backward",
                                     NORM_SHAPES,
                                     norm_backward_args,
                                     norm_backward_prepare,
                                     norm_backward_op,
                                     norm_backward_ref,
                                     norm_loss,
                                     {{6, 0}, {9, 2}, {10, 3}},
                                     false};
OP_TEST(norm_backward)

/* dx may be dx_in, and x_out may be x_in. */
TEST(ops_norm_in_place) {
    enum { N = 3, C = 40, BYTES = N * C * sizeof(float) };
    float x[N * C], d[N * C], g[C], b[C], got[2][2][N * C];
    for (int i = 0; i < N * C; i++) x[i] = (float)noise(1, (uint64_t)i), d[i] = (float)noise(2, (uint64_t)i);
    for (int i = 0; i < C; i++) g[i] = 1 + (float)noise(3, (uint64_t)i), b[i] = 0.5f;
    float *dx = device(x, BYTES), *dd = device(d, BYTES), *dg = device(g, sizeof g),
          *db = device(b, sizeof b);
    float *out = device(NULL, BYTES), *h = device(NULL, BYTES), *mean = device(NULL, N * sizeof *mean),
          *rstd = device(NULL, N * sizeof *rstd), *sums = device(NULL, 2 * sizeof g);
    for (int in_place = 0; in_place < 2; in_place++) {
        float *to = in_place ? dx : out;
        ops()->norm_forward(tensor(h, DT_F32), tensor(to, DT_F32), mean, rstd, tensor(dx, DT_F32),
                            tensor(dd, DT_F32), dg, db, norm_eps, N, C, some_dropout(true, 3));
        host(got[in_place][0], to, BYTES), host(got[in_place][1], h, BYTES);
    }
    EXPECT(!memcmp(got[0], got[1], sizeof got[0]) && got[0][0][7] != x[7]);
    for (int post = 0; post < 2; post++) {
        for (int in_place = 0; in_place < 2; in_place++) {
            float *to = in_place ? dd : out;
            ops()->norm_backward(tensor(to, DT_F32), NO_TENSOR, tensor(dd, DT_F32), tensor(h, DT_F32),
                                 tensor(dx, DT_F32), mean, rstd, dg, sums, sums + C, false, post, N, C,
                                 some_dropout(false, 0));
            host(got[in_place][0], to, BYTES);
        }
        EXPECT(!memcmp(got[0][0], got[1][0], BYTES), "post %d", post);
    }
    device_free();
}

/* ---- attention: B, T, NH, HS, window, dropout, head0 ----------------------------------------------------- */

#define ATTENTION_SHAPES                                                                                    \
    {                                                                                                       \
        {1, 1, 1, 8, 0, 0, 0}, {2, 33, 2, 16, 0, 0, 0}, {1, 70, 3, 64, 0, 1, 2}, {1, 150, 1, 20, 40, 1, 0}, \
            {2, 97, 1, 80, 0, 0, 0}, {1, 200, 2, 64, 64, 0, 1}, {2, 17, 3, 7, 5, 1, 3},                     \
            {1, 130, 1, 128, 1, 0, 0}, {                                                                    \
            0                                                                                               \
        }                                                                                                   \
    }

static Attention attention_of(const Case *c) {
    return (Attention){.B = c->d[0],
                       .T = c->d[1],
                       .NH = c->d[2],
                       .HS = c->d[3],
                       .head0 = c->d[6],
                       .NH_total = c->d[2] + 2 * c->d[6],
                       .window = c->d[4],
                       .scale = 2 / sqrtf((float)c->d[3]), /* peaked enough for the online maximum to move */
                       .drop = some_dropout(c->d[5], 3 * (uint64_t)c->d[1])};
}

static int attention_size(const Case *c) {
    return c->d[0] * c->d[1] * c->d[2] * c->d[3];
}

static void attention_forward_args(Case *c) {
    arg_add(c, "out", OUT, attention_size(c), c->dtype, 0, 0);
    arg_add(c, "lse", OUT, c->d[0] * c->d[1] * c->d[2], DT_F32, 0, 0);
    arg_add(c, "qkv", IN, 3 * attention_size(c), c->dtype, 0, 2);
}

static void attention_forward_op(Case *c, const Ops *o) {
    Attention a = attention_of(c);
    o->attention_forward(T(0), F(1), T(2), &a);
}

static void attention_forward_ref(Case *c) {
    Attention a = attention_of(c);
    ref_attention_forward(R(0), R(1), R(2), &a);
}

static const OpTest attention_forward = {"attention_forward",
                                         ATTENTION_SHAPES,
                                         attention_forward_args,
                                         NULL,
                                         attention_forward_op,
                                         attention_forward_ref,
                                         NULL,
                                         {{0}},
                                         false};
OP_TEST(attention_forward)

static void attention_backward_args(Case *c) {
    const int n = attention_size(c);
    arg_add(c, "dqkv", OUT, 3 * n, c->dtype, 0, 0);
    arg_add(c, "dout", IN, n, c->dtype, 0, 1);
    arg_add(c, "out", IN, n, c->dtype, 0, 0);
    arg_add(c, "qkv", IN, 3 * n, c->dtype, 0, 2);
    arg_add(c, "lse", IN, c->d[0] * c->d[1] * c->d[2], DT_F32, 0, 0);
}

static void attention_backward_prepare(Case *c) {
    Attention a = attention_of(c);
    ref_attention_forward(R(2), R(4), R(3), &a);
}

static void attention_backward_op(Case *c, const Ops *o) {
    Attention a = attention_of(c);
    o->attention_backward(T(0), T(1), T(2), T(3), F(4), &a);
}

static void attention_backward_ref(Case *c) {
    Attention a = attention_of(c);
    ref_attention_backward(R(0), R(1), R(2), R(3), &a);
}

static double attention_loss(Case *c) {
    attention_backward_prepare(c);
    return weighted(R(2), R(1), attention_size(c));
}

static const OpTest attention_backward = {"attention_backward",
                                          ATTENTION_SHAPES,
                                          attention_backward_args,
                                          attention_backward_prepare,
                                          attention_backward_op,
                                          attention_backward_ref,
                                          attention_loss,
                                          {{3, 0}},
                                          false};
OP_TEST(attention_backward)

/* ---- attention_cached: n, slots, NH, HS, window, capacity, first position -------------------------------- */

static void attention_cached_args(Case *c) {
    const int n = c->d[0], slots = c->d[1], NH = c->d[2], HS = c->d[3], capacity = c->d[5];
    arg_add(c, "out", OUT, n * NH * HS, c->dtype, 0, 0);
    arg_add(c, "k", INOUT, slots * NH * capacity * HS, c->dtype, 0, 1);
    arg_add(c, "v", INOUT, slots * NH * capacity * HS, c->dtype, 0, 1);
    arg_add(c, "qkv", IN, n * 3 * NH * HS, c->dtype, 0, 2);
    c->ids = xmalloc((size_t)n * sizeof *c->ids), c->ids2 = xmalloc((size_t)n * sizeof *c->ids2);
    for (int i = 0, each = (n + slots - 1) / slots; i < n; i++) /* slot 0 last: slots come in any order */
        c->ids[i] = slots - 1 - i / each, c->ids2[i] = c->d[6] + i % each + c->ids[i];
}

static Attention attention_cached_of(const Case *c) {
    return (Attention){.NH = c->d[2], .HS = c->d[3], .window = c->d[4], .scale = 2 / sqrtf((float)c->d[3])};
}

static void attention_cached_op(Case *c, const Ops *o) {
    Attention a = attention_cached_of(c);
    o->attention_cached(T(0), T(3), T(1), T(2), c->d[5], c->dids, c->dids2, c->d[0], &a);
}

static void attention_cached_ref(Case *c) {
    Attention a = attention_cached_of(c);
    ref_attention_cached(R(0), R(1), R(2), R(3), c->d[5], c->ids, c->ids2, c->d[0], &a);
}

static const OpTest attention_cached = {"attention_cached",
                                        {{1, 1, 2, 64, 0, 40, 0},
                                         {4, 4, 2, 16, 0, 50, 30},
                                         {90, 1, 2, 64, 0, 100, 0},
                                         {66, 3, 1, 20, 12, 64, 9},
                                         {40, 2, 1, 7, 0, 150, 110},
                                         {3, 1, 1, 80, 33, 90, 80},
                                         {130, 65, 1, 8, 0, 80, 5},
                                         {150, 1, 1, 32, 50, 200, 20},
                                         {0}},
                                        attention_cached_args,
                                        NULL,
                                        attention_cached_op,
                                        attention_cached_ref,
                                        NULL,
                                        {{0}},
                                        false};
OP_TEST(attention_cached)

/* ---- embedding: n, T, C, V, explicit positions or dh, dropout, row0, share ---------------------------------- */

/* What a rank may lack of the two tables. */
enum { SOME_TOKENS = 1, NO_POSITIONS = 2, NO_TOKENS = 4 };
#define EMBED_SHAPES                                                                                         \
    {                                                                                                        \
        {1, 1, 16, 9, 0, 0, 0}, {12, 6, 64, 5, 1, 1, 4}, {9, 3, 33, 20, 0, 1, 3}, {20, 10, 130, 3, 1, 0, 0}, \
            {2100, 300, 8, 7, 1, 0, 0}, {600, 100, 264, 400, 0, 1, 8}, {21, 7, 33, 5, 1, 1, 2, SOME_TOKENS}, \
            {2100, 300, 24, 50, 1, 0, 0, SOME_TOKENS | NO_POSITIONS}, {15, 5, 40, 3, 1, 1, 1, NO_TOKENS},    \
            {5, 5, 16, 1, 0, 0, 0, NO_TOKENS | NO_POSITIONS}, {                                              \
            0                                                                                                \
        }                                                                                                    \
    }

/* A rank that has a part of the vocabulary knows a token in two. */
static void embed_tokens(Case *c) {
    c->ids = some_ids(c->d[0], 0, c->d[3], 1);
    for (int i = 0; i < c->d[0]; i++)
        if (c->d[7] & SOME_TOKENS && noise(9, (uint64_t)i) < 0) c->ids[i] = -1;
}

static void embed_forward_args(Case *c) {
    const int n = c->d[0], Tpos = c->d[1], C = c->d[2], V = c->d[3];
    arg_add(c, "x", OUT, n * C, c->stream, 0, 0);
    arg_add(c, "wte", IN, V * C, DT_F32, 0, 1);
    arg_add(c, "wpe", IN, c->d[7] & NO_POSITIONS ? 0 : (Tpos + 2) * C, DT_F32, 0, 1);
    embed_tokens(c);
    if (c->d[4]) c->ids2 = some_ids(n, 0, Tpos + 2, 2);
}

static Dropout embed_dropout(const Case *c) {
    return some_dropout(c->d[5], (uint64_t)c->d[6]);
}

static void embed_forward_op(Case *c, const Ops *o) {
    o->embed_forward(T(0), c->dids, c->dids2, F(1), F(2), c->d[0], c->d[1], c->d[2], embed_dropout(c));
}

static void embed_forward_ref(Case *c) {
    ref_embed_forward(R(0), c->ids, c->ids2, R(1), R(2), c->d[0], c->d[1], c->d[2], embed_dropout(c));
}

static const OpTest embed_forward = {
    "embed_forward", EMBED_SHAPES, embed_forward_args, NULL, embed_forward_op, embed_forward_ref, NULL,
    {{0}},           false};
OP_TEST(embed_forward)

/* The rows of dwpe beyond T stay as they are. */
static void embed_backward_args(Case *c) {
    const int n = c->d[0], Tpos = c->d[1], C = c->d[2], V = c->d[3];
    arg_add(c, "dwte", INOUT, c->d[7] & NO_TOKENS ? 0 : V * C, DT_F32, 0, c->exact ? 0 : 1);
    arg_add(c, "dwpe", INOUT, c->d[7] & NO_POSITIONS ? 0 : (Tpos + 2) * C, DT_F32, 0, c->exact ? 0 : 1);
    arg_add(c, "dx", IN, n * C, c->stream, 0, 1);
    arg_add(c, "dh", IN, c->d[4] ? n * C : 0, c->dtype, 0, 1);
    arg_add(c, "wte", IN, V * C, DT_F32, 0, 1);
    arg_add(c, "wpe", IN, c->d[7] & NO_POSITIONS ? 0 : (Tpos + 2) * C, DT_F32, 0, 1);
    embed_tokens(c);
}

static void embed_backward_op(Case *c, const Ops *o) {
    o->embed_backward(F(0), F(1), T(2), T(3), c->dids, c->d[0], c->d[1], c->d[2], c->d[0] % 2,
                      embed_dropout(c));
}

static void embed_backward_ref(Case *c) {
    ref_embed_backward(R(0), R(1), R(2), R(3), c->ids, c->d[0], c->d[1], c->d[2], c->d[0] % 2,
                       embed_dropout(c));
}

static double embed_loss(Case *c) {
    const int64_t n = c->a[2].n;
    double *x = xmalloc((size_t)n * sizeof *x);
    ref_embed_forward(x, c->ids, NULL, R(4), R(5), c->d[0], c->d[1], c->d[2], embed_dropout(c));
    double sum = weighted(x, R(2), n) + (R(3) ? weighted(x, R(3), n) : 0);
    free(x);
    return sum;
}

static const OpTest embed_backward = {
    "embed_backward",   EMBED_SHAPES, embed_backward_args, NULL, embed_backward_op,
    embed_backward_ref, embed_loss,   {{4, 0}, {5, 1}},    false};
OP_TEST(embed_backward)

/* ---- classifier: n, V, Vp, gradient ---------------------------------------------------------------------- */

static void classifier_args(Case *c) {
    const int n = c->d[0], V = c->d[1], Vp = c->d[2];
    arg_add(c, "dlogits", OUT, c->d[3] ? n * Vp : 0, c->dtype, 0, 0);
    arg_add(c, "loss", OUT, n, DT_F32, 0, 0);
    arg_add_kind(c, "best", OUT, n, INTS, 0, 0);
    arg_add(c, "logits", IN, n * Vp, c->stream, 3, 9);
    c->ids = some_ids(n, 0, V, 1);
    if (n > 1) c->ids[1] = -1;
    if (n > 2 && V > 4)
        R(3)[2 * Vp + 1] = R(3)[2 * Vp + 2] = R(3)[2 * Vp + V - 1] = 40; /* a tie of near and far */
}

static float classifier_scale(const Case *c) {
    return c->d[0] == 1 ? 1 : 0.125f;
}

static void classifier_op(Case *c, const Ops *o) {
    o->classifier(T(0), F(1), T(2).p, T(3), c->dids, classifier_scale(c), c->d[0], c->d[1], c->d[2]);
}

static void classifier_ref(Case *c) {
    ref_classifier(R(0), R(1), R(2), R(3), c->ids, classifier_scale(c), c->d[0], c->d[1], c->d[2]);
}

static double classifier_loss(Case *c) {
    double sum = 0;
    ref_classifier(NULL, R(1), R(2), R(3), c->ids, 1, c->d[0], c->d[1], c->d[2]);
    for (int i = 0; i < c->d[0]; i++) sum += R(1)[i];
    return sum * classifier_scale(c);
}

static const OpTest classifier = {"classifier",
                                  {{1, 2, 128, 1},
                                   {3, 100, 128, 1},
                                   {5, 1000, 1024, 1},
                                   {2, 7, 7, 0},
                                   {9, 257, 384, 1},
                                   {3, 20000, 20096, 1},
                                   {0}},
                                  classifier_args,
                                  NULL,
                                  classifier_op,
                                  classifier_ref,
                                  classifier_loss,
                                  {{3, 0}},
                                  false};
OP_TEST(classifier)

TEST(ops_classifier_in_place) {
    enum { N = 2, V = 50, VP = 128, BYTES = N * VP * sizeof(float) };
    const int32_t target[N] = {4, -1};
    float z[N * VP], got[2][N * VP];
    for (int i = 0; i < N * VP; i++) z[i] = 5 * (float)noise(1, (uint64_t)i);
    float *dz = device(z, BYTES), *out = device(NULL, BYTES), *loss = device(NULL, N * sizeof *loss);
    int32_t *ids = device(target, sizeof target);
    ops()->classifier(tensor(out, DT_F32), loss, NULL, tensor(dz, DT_F32), ids, 0.5f, N, V, VP);
    ops()->classifier(tensor(dz, DT_F32), loss, NULL, tensor(dz, DT_F32), ids, 0.5f, N, V, VP);
    host(got[0], out, BYTES), host(got[1], dz, BYTES);
    EXPECT(!memcmp(got[0], got[1], BYTES) && got[0][4] < 0);
    device_free();
}

/* A NaN must not vanish: train.c skips such steps. */
TEST(ops_classifier_nan) {
    float z[128] = {0}, loss;
    const int32_t target = 3;
    z[7] = NAN;
    float *dz = device(z, sizeof z), *out = device(NULL, sizeof loss);
    int32_t *id = device(&target, sizeof target);
    ops()->classifier(NO_TENSOR, out, NULL, tensor(dz, DT_F32), id, 1, 1, 100, 128);
    host(&loss, out, sizeof loss);
    EXPECT(isnan(loss), "loss %g", loss);
    device_free();
}

/* ---- optimizer: n, step ---------------------------------------------------------------------------------- */

static void adamw_args(Case *c) {
    arg_add(c, "w", INOUT, c->d[0], DT_F32, 0, 1);
    arg_add(c, "m", INOUT, c->d[0], DT_F32, 0, 0.1);
    arg_add(c, "v", INOUT, c->d[0], DT_F32, 0.01, 0.009);
    arg_add(c, "g", IN, c->d[0], DT_F32, 0, 1);
}

static AdamW adamw_of(const Case *c) {
    return (AdamW){.lr = 0.01f,
                   .beta1 = 0.9f,
                   .beta2 = 0.95f,
                   .eps = 1e-8f,
                   .weight_decay = 0.1f,
                   .step = (uint64_t)c->d[1]};
}

static void adamw_op(Case *c, const Ops *o) {
    const AdamW a = adamw_of(c);
    const Verdict v = {.grad_scale = 0.7f};
    o->adamw(F(0), F(1), F(2), F(3), NULL, c->d[0], &a, given(c, &v, sizeof v));
}

static void adamw_ref(Case *c) {
    const AdamW a = adamw_of(c);
    ref_adamw(R(0), R(1), R(2), R(3), 0.7f, c->d[0], &a);
}

static const OpTest adamw = {"adamw",    {{1, 1}, {100, 2}, {1003, 1}, {40000, 5000}, {0}},
                             adamw_args, NULL,
                             adamw_op,   adamw_ref,
                             NULL,       {{0}},
                             false};
OP_TEST(adamw)

/* ---- muon: rows, cols, parts, a part without gradient ------------------------------------------------------ */

#define MUON_SHAPES                                                                                     \
    {                                                                                                   \
        {1, 1, 1, 0}, {7, 5, 3, 0}, {64, 64, 3, 0}, {33, 130, 1, 0}, {300, 31, 1, 0}, {40, 48, 3, 1}, { \
            0                                                                                           \
        }                                                                                               \
    }
static const Verdict muon_verdict = {.grad_scale = 0.7f};

static Muon muon_of(const Case *c) {
    return (Muon){.rows = c->d[0],
                  .cols = c->d[1],
                  .parts = c->d[2],
                  .momentum = 0.9f,
                  .size = 3,
                  .lr = 0.01f,
                  .weight_decay = 0.1f,
                  .step = 3};
}

static int64_t muon_count(const Case *c) {
    return (int64_t)c->d[0] * c->d[1] * c->d[2];
}

static void muon_momentum_args(Case *c) {
    arg_add_kind(c, "squares", OUT, c->d[2], DOUBLES, 0, 0);
    arg_add(c, "m", INOUT, muon_count(c), DT_F32, 0, 0.1);
    arg_add(c, "g", IN, muon_count(c), DT_F32, 0, 1);
}

static void muon_momentum_op(Case *c, const Ops *o) {
    const Muon a = muon_of(c);
    o->muon_momentum(T(0).p, F(1), F(2), &a, given(c, &muon_verdict, sizeof muon_verdict));
}

static void muon_momentum_ref(Case *c) {
    const Muon a = muon_of(c);
    ref_muon_momentum(R(0), R(1), R(2), muon_verdict.grad_scale, &a);
}

static const OpTest muon_momentum = {
    "muon_momentum", MUON_SHAPES, muon_momentum_args, NULL, muon_momentum_op, muon_momentum_ref, NULL,
    {{0}},           false};
OP_TEST(muon_momentum)

static void muon_direction_args(Case *c) {
    arg_add(c, "x", OUT, muon_count(c), DT_BF16, 0, 0);
    arg_add(c, "m", IN, muon_count(c), DT_F32, 0, 0.1);
    arg_add(c, "g", IN, muon_count(c), DT_F32, 0, 1);
    arg_add_kind(c, "squares", IN, c->d[2], DOUBLES, 3, 2);
}

static void muon_direction_prepare(Case *c) {
    if (c->d[3]) R(3)[1] = 0;
}

static void muon_direction_op(Case *c, const Ops *o) {
    const Muon a = muon_of(c);
    o->muon_direction(T(0).p, F(1), F(2), T(3).p, &a, given(c, &muon_verdict, sizeof muon_verdict));
}

static void muon_direction_ref(Case *c) {
    const Muon a = muon_of(c);
    ref_muon_direction(R(0), R(1), R(2), R(3), muon_verdict.grad_scale, &a);
}

static const OpTest muon_direction = {"muon_direction",
                                      MUON_SHAPES,
                                      muon_direction_args,
                                      muon_direction_prepare,
                                      muon_direction_op,
                                      muon_direction_ref,
                                      NULL,
                                      {{0}},
                                      false};
OP_TEST(muon_direction)

static void muon_update_args(Case *c) {
    arg_add(c, "w", INOUT, muon_count(c), DT_F32, 0, 1);
    arg_add(c, "x", IN, muon_count(c), DT_BF16, 0, 1);
}

static void muon_update_op(Case *c, const Ops *o) {
    const Muon a = muon_of(c);
    o->muon_update(F(0), NULL, T(1).p, &a, given(c, &muon_verdict, sizeof muon_verdict));
}

static void muon_update_ref(Case *c) {
    const Muon a = muon_of(c);
    ref_muon_update(R(0), R(1), &a);
}

static const OpTest muon_update = {
    "muon_update", MUON_SHAPES, muon_update_args, NULL, muon_update_op, muon_update_ref, NULL, {{0}}, false};
OP_TEST(muon_update)

/* ---- matmul: M, N, K, batch, turn_a, turn_b, add, matrices side by side (else one after the other) --------- */

static Matmul matmul_of(const Case *c) {
    return (Matmul){c->d[3], c->d[0], c->d[1], c->d[2], c->d[4], c->d[5], 0.75f, c->d[6] ? -1.5f : 0};
}

static void matmul_args(Case *c) {
    const int M = c->d[0], N = c->d[1], K = c->d[2], batch = c->d[3];
    arg_add(c, "c", OUT, batch * M * N, DT_BF16, 0, 0);
    arg_add(c, "a", IN, batch * M * K, DT_BF16, 0, 1);
    arg_add(c, "b", IN, batch * K * N, DT_BF16, 0, 1);
    arg_add(c, "add", IN, c->d[6] ? batch * M * N : 0, DT_BF16, 0, 1);
}

/* Of argument i, whose matrices have so many rows and columns as they lie. */
static RefMatrices matmul_matrices(const Case *c, int i, int64_t rows, int64_t cols) {
    return c->d[7] ? (RefMatrices){R(i), c->d[3] * cols, cols} : (RefMatrices){R(i), cols, rows * cols};
}

static void matmul_all(const Case *c, RefMatrices r[4]) {
    const int M = c->d[0], N = c->d[1], K = c->d[2];
    r[0] = matmul_matrices(c, 0, M, N), r[3] = matmul_matrices(c, 3, M, N);
    r[1] = c->d[4] ? matmul_matrices(c, 1, K, M) : matmul_matrices(c, 1, M, K);
    r[2] = c->d[5] ? matmul_matrices(c, 2, N, K) : matmul_matrices(c, 2, K, N);
}

static void matmul_op(Case *c, const Ops *o) {
    const Matmul m = matmul_of(c);
    RefMatrices r[4];
    Matrices t[4];
    matmul_all(c, r);
    for (int i = 0; i < 4; i++) t[i] = (Matrices){T(i).p, r[i].row, r[i].step};
    o->matmul(t[0], t[1], t[2], t[3].p, &m);
}

static void matmul_ref(Case *c) {
    const Matmul m = matmul_of(c);
    RefMatrices r[4];
    matmul_all(c, r);
    ref_matmul(r[0], r[1], r[2], r[3], &m);
}

static const OpTest matmul = {"matmul",
                              {{1, 1, 1, 1, 0, 0, 0, 0},
                               {7, 5, 9, 3, 0, 0, 1, 1},
                               {33, 65, 31, 2, 0, 1, 1, 0},
                               {64, 64, 48, 3, 1, 0, 0, 1},
                               {50, 70, 128, 1, 1, 1, 1, 0},
                               {130, 20, 20, 1, 0, 0, 1, 0},
                               {96, 96, 200, 3, 0, 1, 0, 1},
                               {0}},
                              matmul_args,
                              NULL,
                              matmul_op,
                              matmul_ref,
                              NULL,
                              {{0}},
                              false};
OP_TEST(matmul)

/* Decoding promises more than agreement: over the cache, one token at a time or several, each row is bit for bit that
 * of a pass over the whole sequence. */
TEST(ops_attention_cached_is_exact) {
    if (!on_cpu()) SKIP("the CPU's promise only");
    static const struct {
        int T, NH, HS, window;
    } shapes[] = {{150, 2, 16, 0}, {131, 1, 40, 0}, {200, 2, 24, 37}};
    static const int pieces[] = {1, 3, 64, 9, 1, 30, 200}; /* how many tokens come at a time, by turns */
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        const Dtype d = i % 2 ? DT_BF16 : DT_F32;
        const int T = shapes[i / 2].T, NH = shapes[i / 2].NH, HS = shapes[i / 2].HS, C = NH * HS;
        const size_t size = dtype_size(d), bytes = (size_t)(T * C) * size;
        Attention a = {.B = 1,
                       .T = T,
                       .NH = NH,
                       .HS = HS,
                       .NH_total = NH,
                       .window = shapes[i / 2].window,
                       .scale = 0.7f};
        Tensor qkv = tensor(xcalloc(3 * bytes, 1), d), whole = tensor(xcalloc(bytes, 1), d);
        Tensor cached = tensor(xcalloc(bytes, 1), d), k = tensor(xcalloc(bytes, 1), d),
               v = tensor(xcalloc(bytes, 1), d);
        float *lse = xcalloc((size_t)(NH * T), sizeof *lse);
        int32_t slot[256] = {0}, pos[256];
        for (int64_t j = 0; j < 3 * T * C; j++) {
            const float x = (float)(8 * rand_uniform(5, RAND_TEST, i, (uint64_t)j) - 4);
            if (d == DT_F32)
                ((float *)qkv.p)[j] = x;
            else
                ((uint16_t *)qkv.p)[j] = bf16_from_f32(x);
        }
        cpu_ops.attention_forward(whole, lse, qkv, &a);
        for (int at = 0, turn = 0, n; at < T; at += n, turn++) {
            n = pieces[turn % 7] < T - at ? pieces[turn % 7] : T - at;
            for (int j = 0; j < n; j++) pos[j] = at + j;
            cpu_ops.attention_cached(tensor_at(cached, (int64_t)at * C), tensor_at(qkv, (int64_t)at * 3 * C),
                                     k, v, T, slot, pos, n, &a);
        }
        EXPECT(!memcmp(whole.p, cached.p, bytes), "T %d, NH %d, HS %d, window %d, %s", T, NH, HS, a.window,
               d == DT_F32 ? "fp32" : "bf16");
        free(qkv.p), free(whole.p), free(cached.p), free(k.p), free(v.p), free(lse);
    }
}
