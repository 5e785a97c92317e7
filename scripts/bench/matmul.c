/* matmul.c - our linear layers against oneDNN's matmul primitive, at GPT-2's shapes, in one run: see matmul.sh.
 *
 * oneDNN gets weights packed beforehand in the layout it asks for, and its primitives are made once. Both run on the
 * same threads, take turns, and are given by their best run, as a share of the peak probed in between. Ours includes
 * what oneDNN's does not: the bias, and for dw the sum of dy's rows. */
#include "ops.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>

static void ok(dnnl_status_t s) {
    if (s == dnnl_success) return;
    fprintf(stderr, "matmul: oneDNN says %d\n", (int)s);
    exit(1);
}

static void *memory(size_t bytes) {
    Err e = {0};
    void *p = cpu_ops.alloc(bytes, "bench", &e);
    if (p) return p;
    fprintf(stderr, "matmul: %s\n", e.msg);
    exit(1);
}

/* ---- oneDNN ---------------------------------------------------------------------------------------------- */

typedef struct Peer {
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_exec_arg_t args[3];
} Peer;

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Desc;
static Desc desc(const dnnl_dims_t dims, dnnl_data_type_t t, dnnl_format_tag_t tag) {
    Desc d;
    ok(dnnl_memory_desc_create_with_tag(&d, 2, dims, t, tag));
    return d;
}
static dnnl_primitive_desc_t describe(Desc *a, Desc *b, Desc *c, dnnl_engine_t engine) {
    dnnl_primitive_desc_t p;
    ok(dnnl_matmul_primitive_desc_create(&p, engine, *a, *b, NULL, *c, NULL));
    return p;
}
static dnnl_memory_t place(const_dnnl_memory_desc_t d, dnnl_engine_t engine) {
    dnnl_memory_t m;
    ok(dnnl_memory_create(&m, d, engine, memory(dnnl_memory_desc_get_size(d))));
    return m;
}
#define PLACE(d) place(d, engine)
#else
typedef dnnl_memory_desc_t Desc;
static Desc desc(const dnnl_dims_t dims, dnnl_data_type_t t, dnnl_format_tag_t tag) {
    Desc d;
    ok(dnnl_memory_desc_init_by_tag(&d, 2, dims, t, tag));
    return d;
}
static dnnl_primitive_desc_t describe(Desc *a, Desc *b, Desc *c, dnnl_engine_t engine) {
    dnnl_matmul_desc_t m;
    dnnl_primitive_desc_t p;
    ok(dnnl_matmul_desc_init(&m, a, b, NULL, c));
    ok(dnnl_primitive_desc_create(&p, &m, NULL, engine, NULL));
    return p;
}
static dnnl_memory_t place(const dnnl_memory_desc_t *d, dnnl_engine_t engine) {
    dnnl_memory_t m;
    ok(dnnl_memory_create(&m, d, engine, memory(dnnl_memory_desc_get_size(d))));
    return m;
}
#define PLACE(d) place(&(d), engine)
#endif

/* c [M, N] = a [M, K] b [K, N]; turned: a lies as [K, M], and b as it is (dw). */
static Peer matmul(int64_t M, int64_t K, int64_t N, Dtype dtype, bool turned, dnnl_engine_t engine) {
    Peer m;
    const dnnl_data_type_t t = dtype == DT_F32 ? dnnl_f32 : dnnl_bf16;
    Desc a = desc((dnnl_dims_t){M, K}, t, turned ? dnnl_ba : dnnl_ab);
    Desc b = desc((dnnl_dims_t){K, N}, t, turned ? dnnl_ab : dnnl_format_tag_any);
    Desc c = desc((dnnl_dims_t){M, N}, turned ? dnnl_f32 : t, dnnl_ab);
    dnnl_primitive_desc_t p = describe(&a, &b, &c, engine);
    ok(dnnl_primitive_create(&m.primitive, p));
    ok(dnnl_stream_create(&m.stream, engine, dnnl_stream_default_flags));
    m.args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, PLACE(a)};
    m.args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS,
                                  place(dnnl_primitive_desc_query_md(p, dnnl_query_weights_md, 0), engine)};
    m.args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, PLACE(c)};
    return m;
}

static double matmul_run(const Peer *m) {
    const double t = now_seconds();
    ok(dnnl_primitive_execute(m->primitive, m->stream, 3, m->args));
    ok(dnnl_stream_wait(m->stream));
    return now_seconds() - t;
}

static void matmul_free(Peer *m) {
    for (int i = 0; i < 3; i++) {
        void *p;
        ok(dnnl_memory_get_data_handle(m->args[i].memory, &p));
        cpu_ops.release(p);
        dnnl_memory_destroy(m->args[i].memory);
    }
    dnnl_primitive_destroy(m->primitive);
    dnnl_stream_destroy(m->stream);
}

/* ---- both ------------------------------------------------------------------------------------------------ */

static void keep_least(double *best, double t) {
    if (*best == 0 || t < *best) *best = t;
}

static void compare(int64_t in, int64_t out, int64_t n, Dtype d, dnnl_engine_t engine) {
    Err e = {0};
    LinearSpec s = {.in = in,
                    .out = out,
                    .out_major = out > 4 * in,
                    .w = memory((size_t)(in * out) * 4),
                    .dw = memory((size_t)(in * out) * 4),
                    .compute = d,
                    .max_rows = n};
    Linear *l = cpu_ops.linear_create(&s, &e);
    Peer m[3] = {matmul(n, in, out, d, false, engine), matmul(n, out, in, d, false, engine),
                 matmul(in, n, out, d, true, engine)};
    Tensor x = tensor(memory((size_t)(n * in) * dtype_size(d)), d),
           dx = tensor(memory((size_t)(n * in) * dtype_size(d)), d);
    Tensor y = tensor(memory((size_t)(n * out) * dtype_size(d)), d);
    float *bias = memory((size_t)out * sizeof *bias);
    double ours[3] = {0}, theirs[3] = {0}, peak = 0;
    for (int run = 0; run < 12; run++) {
        for (int i = 0; i < 3; i++) keep_least(&theirs[i], matmul_run(&m[i]));
        double t0 = now_seconds();
        cpu_ops.linear_forward(y, NO_TENSOR, x, l, bias, ACT_NONE, n);
        double t1 = now_seconds();
        cpu_ops.linear_backward(NO_TENSOR, y, x, NO_TENSOR, ACT_NONE, false, l, bias, false, n);
        double t2 = now_seconds();
        cpu_ops.linear_backward(dx, y, x, NO_TENSOR, ACT_NONE, false, l, bias, false, n);
        double t3 = now_seconds(), now = run % 4 ? 0 : cpu_ops.peak_flops(d);
        keep_least(&ours[0], t1 - t0), keep_least(&ours[2], t2 - t1), keep_least(&ours[1], t3 - t2);
        if (now > peak) peak = now;
    }
    ours[1] -= ours[2]; /* dx and dw in one call, less dw alone */
    const double all = 200.0 * (double)in * (double)out * (double)n / peak;
    printf("%s %5d x %5d, %4d rows:  y %3.0f %% (oneDNN %3.0f)   dx %3.0f %% (%3.0f)   dw %3.0f %% (%3.0f)\n",
           d == DT_F32 ? "fp32" : "bf16", (int)in, (int)out, (int)n, all / ours[0], all / theirs[0],
           all / ours[1], all / theirs[1], all / ours[2], all / theirs[2]);
    for (int i = 0; i < 3; i++) matmul_free(&m[i]);
    void *all_memory[] = {s.w, s.dw, x.p, dx.p, y.p, bias};
    cpu_ops.linear_free(l);
    for (int i = 0; i < 6; i++) cpu_ops.release(all_memory[i]);
}

int main(void) {
    static const int64_t shapes[][2] = {{768, 2304}, {768, 768}, {768, 3072}, {3072, 768}, {768, 50304}};
    Err e = {0};
    char what[256];
    dnnl_engine_t engine;
    cpu_ops.start(0, &e);
    cpu_ops.describe(what, sizeof what);
    ok(dnnl_engine_create(&engine, dnnl_cpu, 0));
    printf("%s; oneDNN %d.%d.%d\n", what, dnnl_version()->major, dnnl_version()->minor,
           dnnl_version()->patch);
    for (Dtype d = DT_BF16;; d = DT_F32) {
        for (int i = 0; i < 5; i++) compare(shapes[i][0], shapes[i][1], i == 4 ? 640 : 1024, d, engine);
        if (d == DT_F32) break;
    }
    return 0;
}
