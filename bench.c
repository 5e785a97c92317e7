/* bench.c - floor 5: see bench.h. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 5, C = 768, NH = 12, V = 50257, VP = 50304, SLOTS = 1024 };

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median over RUNS of work(ctx)'s rate over limit(ctx)'s, each pair measured in a row; *rate gets the median of the
 * rates. */
typedef struct Bench Bench;
typedef double (*Measure)(Bench *b);
static double share(Measure work, Measure limit, Bench *b, double *rate) {
    double shares[RUNS], rates[RUNS];
    work(b); /* warms the caches, touches the memory, lets a back end choose its algorithms */
    for (int i = 0; i < RUNS; i++) {
        const double most = limit(b);
        rates[i] = work(b);
        shares[i] = rates[i] / most;
    }
    qsort(shares, RUNS, sizeof *shares, by_value);
    qsort(rates, RUNS, sizeof *rates, by_value);
    *rate = rates[RUNS / 2];
    return shares[RUNS / 2];
}

/* Everything the measurements share. */
struct Bench {
    const Ops *ops;
    Dtype compute, active, stream;
    Err *e;
    int B, T; /* of a micro batch of GPT-2 124M */
    int64_t rows;
    int what;             /* which of forward, backward */
    double measured_peak; /* of a GPU: a large product's */
    /* one op */
    Linear *linear;
    int64_t in, out;
    Tensor x, y, dx, dy;
    float *lse, *w, *m, *v, *g; /* of the optimizer, and of a norm */
    uint16_t *mirror;
    double *sum;
    Verdict *verdict;
    int64_t elements;
    int32_t *ids;
    Attention attention;
    /* the model */
    Gpt *gpt;
    KvCache kv;
    int32_t *tokens; /* [rows], host */
    float *logits;
    int pos;
    /* what the memory probe reads */
    char *memory;
    size_t bytes;
};

/* ---- limits ---------------------------------------------------------------------------------------------- */

/* Calls a second, over about a tenth of a second. */
static double calls_rate(void (*call)(Bench *), Bench *b) {
    double t = now_seconds();
    call(b), b->ops->wait();
    const double once = now_seconds() - t;
    const int calls = once < 0.1 ? (int)(0.1 / once) + 1 : 1;
    t = now_seconds();
    for (int i = 0; i < calls; i++) call(b);
    b->ops->wait();
    return calls / (now_seconds() - t);
}

static double peak(Bench *b) {
    return b->measured_peak > 0 ? b->measured_peak : b->ops->peak_flops(b->compute);
}

static void copy_half(Bench *b) {
    b->ops->copy(b->memory, b->memory + b->bytes / 2, b->bytes / 2);
}

/* Bytes a second: of a GPU those that a copy reads and writes; of a CPU those that all threads read from a block larger
 * than any cache. */
static double memory_rate(Bench *b) {
    if (b->ops->queues) return calls_rate(copy_half, b) * (double)b->bytes;
    const uint64_t *p = (const uint64_t *)b->memory;
    const size_t words = b->bytes / sizeof *p;
    uint64_t sum = 0;
    const double t = now_seconds();
#pragma omp parallel for simd reduction(+ : sum) schedule(static)
    for (size_t i = 0; i < words; i++) sum += p[i];
    CHECK(sum == 0, "the block is all zeros");
    return (double)b->bytes / (now_seconds() - t);
}

/* ---- memory for one op ----------------------------------------------------------------------------------- */

/* n numbers, about [-0.25, 0.25]. */
static Tensor random_tensor(Bench *b, int64_t n, Dtype d) {
    Tensor t = tensor(b->ops->alloc((size_t)n * dtype_size(d), "bench", b->e), d);
    uint32_t *host = t.p ? xmalloc((size_t)n * sizeof *host) : NULL;
    uint16_t *half = (uint16_t *)host; /* the upper halves of floats, in their place */
    for (int64_t i = 0; i < n && host; i++) {
        const float x = (float)((i * 2654435761 >> 8) % 1024 - 512) / 2048;
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        if (d == DT_BF16)
            half[i] = (uint16_t)(bits >> 16);
        else
            host[i] = bits;
    }
    if (host) b->ops->to_device(t.p, host, (size_t)n * dtype_size(d));
    free(host);
    return t;
}

static float *random_floats(Bench *b, int64_t n) {
    return random_tensor(b, n, DT_F32).p;
}

static void release_memory(Bench *b) {
    void **all[] = {&b->x.p, &b->y.p, &b->dx.p, &b->dy.p};
    float **floats[] = {&b->lse, &b->w, &b->m, &b->v, &b->g};
    b->ops->wait();
    for (int i = 0; i < 4; i++) b->ops->release(*all[i]), *all[i] = NULL;
    for (int i = 0; i < 5; i++) b->ops->release(*floats[i]), *floats[i] = NULL;
    b->ops->release(b->mirror), b->mirror = NULL;
}

/* ---- products -------------------------------------------------------------------------------------------- */

static void print_products(Bench *b, const char *name, Measure work) {
    double rate[2], part[2];
    for (b->what = 0; b->what < 2; b->what++) part[b->what] = share(work, peak, b, &rate[b->what]);
    printf("%-36s forward %5.1f %%   backward %5.1f %%   of the peak of multiply-adds (%.3g, %.3g TFLOP/s)\n",
           name, 100 * part[0], 100 * part[1], rate[0] / 1e12, rate[1] / 1e12);
    fflush(stdout);
}

static void linear_call(Bench *b) {
    if (b->what == 0)
        b->ops->linear_forward(b->y, NO_TENSOR, b->x, b->linear, NULL, ACT_NONE, b->rows);
    else
        b->ops->linear_backward(b->dx, b->dy, b->x, NO_TENSOR, ACT_NONE, false, b->linear, NULL, true,
                                b->rows);
}

static double linear_rate(Bench *b) {
    return (b->what ? 4.0 : 2.0) * (double)b->rows * (double)b->in * (double)b->out *
           calls_rate(linear_call, b);
}

static bool make_linear(Bench *b, int64_t in, int64_t out) {
    b->w = random_floats(b, in * out), b->g = random_floats(b, in * out);
    const LinearSpec s = {
        .in = in, .out = out, .w = b->w, .dw = b->g, .compute = b->compute, .max_rows = b->rows};
    b->in = in, b->out = out;
    b->x = random_tensor(b, b->rows * in, b->active), b->y = random_tensor(b, b->rows * out, b->active);
    b->dx = random_tensor(b, b->rows * in, b->active), b->dy = random_tensor(b, b->rows * out, b->active);
    b->linear = b->e->code ? NULL : b->ops->linear_create(&s, b->e);
    if (b->linear) b->ops->linear_refresh(b->linear, false);
    return b->linear != NULL;
}

static void drop_linear(Bench *b) {
    b->ops->linear_free(b->linear);
    b->linear = NULL;
    release_memory(b);
}

static bool bench_linear(Bench *b, int64_t in, int64_t out) {
    char name[64];
    snprintf(name, sizeof name, "linear %lld x %lld -> %lld", (long long)b->rows, (long long)in,
             (long long)out);
    if (make_linear(b, in, out)) print_products(b, name, linear_rate);
    drop_linear(b);
    return !b->e->code;
}

/* What a GPU's products can reach: more than any here is to be expected to. */
static bool measure_peak(Bench *b) {
    double rate = 0;
    const int64_t rows = b->rows;
    if (!b->ops->queues) return true;
    b->rows = 8192, b->what = 0;
    if (make_linear(b, 8192, 8192)) share(linear_rate, peak, b, &rate);
    drop_linear(b);
    b->rows = rows, b->measured_peak = rate;
    return !b->e->code;
}

static void attention_call(Bench *b) {
    if (b->what == 0)
        b->ops->attention_forward(b->y, b->lse, b->x, &b->attention);
    else
        b->ops->attention_backward(b->dx, b->dy, b->y, b->x, b->lse, &b->attention);
}

/* Two products of the causal half forward, five backward (Dao 2023). */
static double attention_rate(Bench *b) {
    const Attention *a = &b->attention;
    const double product = (double)a->B * a->NH * a->T * a->T * a->HS;
    return (b->what ? 5 : 2) * product * calls_rate(attention_call, b);
}

static bool bench_attention(Bench *b, int batch, int length) {
    char name[64];
    const int64_t n = (int64_t)batch * length * C;
    b->attention =
        (Attention){.B = batch, .T = length, .NH = NH, .HS = C / NH, .NH_total = NH, .scale = 0.125f};
    b->x = random_tensor(b, 3 * n, b->active), b->y = random_tensor(b, n, b->active);
    b->dx = random_tensor(b, 3 * n, b->active), b->dy = random_tensor(b, n, b->active);
    b->lse = b->ops->alloc((size_t)(batch * NH * length) * sizeof *b->lse, "bench", b->e);
    snprintf(name, sizeof name, "attention %d x %d, %d heads of %d", batch, length, NH, C / NH);
    if (!b->e->code) print_products(b, name, attention_rate);
    release_memory(b);
    return !b->e->code;
}

/* ---- what waits for memory ------------------------------------------------------------------------------- */

static void norm_forward_call(Bench *b) {
    b->ops->norm_forward(b->y, b->x, b->lse, b->lse + b->rows, b->x, b->dy, b->w, b->w + C, 1e-5f, b->rows, C,
                         (Dropout){0});
}
static void norm_backward_call(Bench *b) {
    b->ops->norm_backward(b->x, b->dy, b->x, b->y, b->dx, b->lse, b->lse + b->rows, b->w, b->g, b->g + C,
                          false, false, b->rows, C, (Dropout){0});
}
static void embed_forward_call(Bench *b) {
    b->ops->embed_forward(b->x, b->ids, NULL, b->m, b->v, b->rows, b->T, C, (Dropout){0});
}
static void embed_backward_call(Bench *b) {
    b->ops->embed_backward(b->m, b->v, b->x, NO_TENSOR, b->ids, b->rows, b->T, C, true, (Dropout){0});
}
static void classifier_call(Bench *b) {
    b->ops->classifier(b->dx, b->lse, NULL, b->dx, b->ids, 1, SLOTS, V, VP);
}
static void sum_squares_call(Bench *b) {
    b->ops->sum_squares(b->sum, b->g, b->elements, false);
}
static void adamw_call(Bench *b) {
    const AdamW a = {.lr = 1e-5f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .step = 10};
    b->ops->adamw(b->w, b->m, b->v, b->g, b->mirror, b->elements, &a, b->verdict);
}

typedef struct Sweep {
    const char *name;
    void (*call)(Bench *);
    double bytes; /* that one call must move */
} Sweep;
static const Sweep *sweep;

static double sweep_rate(Bench *b) {
    return sweep->bytes * calls_rate(sweep->call, b);
}

static void print_sweeps(Bench *b, const Sweep *s, int n) {
    for (sweep = s; sweep < s + n; sweep++) {
        double rate;
        const double part = share(sweep_rate, memory_rate, b, &rate);
        printf("%-36s %5.1f %% of the rate at which memory can be %s (%.1f GB/s)\n", sweep->name, 100 * part,
               b->ops->queues ? "copied" : "read", rate / 1e9);
        fflush(stdout);
    }
}

static bool bench_rows(Bench *b) {
    const double s = (double)dtype_size(b->stream), a = (double)dtype_size(b->active),
                 n = (double)(b->rows * C);
    const Sweep all[] = {{"residual + norm, forward", norm_forward_call, n * (2 * s + 2 * a)},
                         {"residual + norm, backward", norm_backward_call, n * (3 * s + 2 * a)},
                         {"embedding, forward", embed_forward_call, n * (4 + s)},
                         {"embedding, backward", embed_backward_call, n * (s + 8 + 8)}};
    b->x = random_tensor(b, b->rows * C, b->stream), b->dx = random_tensor(b, b->rows * C, b->stream);
    b->y = random_tensor(b, b->rows * C, b->active), b->dy = random_tensor(b, b->rows * C, b->active);
    b->lse = random_floats(b, 2 * b->rows), b->w = random_floats(b, 2 * C), b->g = random_floats(b, 2 * C);
    b->m = random_floats(b, (int64_t)VP * C), b->v = random_floats(b, (int64_t)b->T * C);
    if (!b->e->code) print_sweeps(b, all, 4);
    release_memory(b);
    return !b->e->code;
}

static bool bench_classifier(Bench *b) {
    const Sweep one = {"classifier, loss and gradient", classifier_call,
                       2.0 * SLOTS * VP * (double)dtype_size(b->stream)};
    b->dx = random_tensor(b, (int64_t)SLOTS * VP, b->stream);
    b->lse = b->ops->alloc(SLOTS * sizeof *b->lse, "bench", b->e);
    if (!b->e->code) print_sweeps(b, &one, 1);
    release_memory(b);
    return !b->e->code;
}

static bool bench_optimizer(Bench *b) {
    b->elements = (int64_t)1 << 26;
    const bool mirror = b->ops->mirror(b->compute);
    const double n = (double)b->elements;
    const Sweep all[] = {{"global norm", sum_squares_call, 4 * n},
                         {"AdamW", adamw_call, n * (mirror ? 30 : 28)}};
    float **each[] = {&b->w, &b->m, &b->v, &b->g};
    for (int i = 0; i < 4; i++) *each[i] = b->ops->alloc((size_t)b->elements * sizeof(float), "bench", b->e);
    if (mirror) b->mirror = b->ops->alloc((size_t)b->elements * sizeof *b->mirror, "bench", b->e);
    if (!b->e->code) print_sweeps(b, all, 2);
    release_memory(b);
    return !b->e->code;
}

/* ---- the model ------------------------------------------------------------------------------------------- */

static bool create_model(Bench *b, bool train) {
    Config c;
    const GptOptions o = {.ops = b->ops,
                          .compute = b->compute,
                          .train = train,
                          .recompute = RECOMPUTE_GELU,
                          .B = b->B,
                          .T = b->T};
    config_defaults(&c);
    c.model.vocab_size = V;
    b->gpt = gpt_create(&c.model, &o, b->e);
    if (b->gpt) gpt_init(b->gpt, 1);
    return b->gpt != NULL;
}

static void drop_model(Bench *b) {
    b->ops->wait();
    gpt_free(b->gpt);
    b->gpt = NULL;
}

static void step_call(Bench *b) {
    const Batch batch = {.tokens = b->tokens, .targets = b->tokens, .B = b->B, .T = b->T};
    gpt_forward_backward(b->gpt, &batch, 1.0f / (float)b->rows, false);
}

static double step_rate(Bench *b) {
    return (double)b->rows * gpt_flops_per_token(gpt_config(b->gpt), b->T) * calls_rate(step_call, b);
}

/* Of a GPU a step is also compared with what its maker says, as everyone does. */
static double maker_peak(Bench *b) {
    return b->ops->peak_flops(b->compute);
}

static bool bench_step(Bench *b) {
    double rate, part;
    char name[64];
    snprintf(name, sizeof name, "124M, forward and backward %d x %d", b->B, b->T);
    if (!create_model(b, true)) return false;
    part = share(step_rate, maker_peak, b, &rate);
    printf("%-36s %5.1f %% of the peak (6N + 6LCT), %.0f tokens/s\n", name, 100 * part,
           rate / gpt_flops_per_token(gpt_config(b->gpt), b->T));
    drop_model(b);
    return true;
}

/* Bytes of weights a second: each token reads all of them but the embeddings' other rows; the head is wte. */
static double decode_rate(Bench *b) {
    const int32_t slot = 0, want = 0;
    const double t = now_seconds();
    int n = 0;
    for (; n < 16; n++, b->pos++)
        gpt_decode(b->gpt, &b->kv, b->tokens, &slot, &(int32_t){b->pos}, 1, &want, 1, b->logits);
    const double bytes = (double)gpt_count(gpt_config(b->gpt), false) * (double)dtype_size(b->active);
    return n * bytes / (now_seconds() - t);
}

static bool bench_decode(Bench *b) {
    double rate, part;
    if (!create_model(b, false) || !kv_create(&b->kv, b->gpt, 1, 1024, b->e)) return false;
    b->logits = xcalloc(V, sizeof *b->logits);
    part = share(decode_rate, memory_rate, b, &rate);
    printf("%-36s %5.1f %% of the rate at which memory can be %s, %.0f tokens/s\n",
           "124M, decoding one sequence", 100 * part, b->ops->queues ? "copied" : "read",
           rate / ((double)gpt_count(gpt_config(b->gpt), false) * (double)dtype_size(b->active)));
    b->ops->wait();
    kv_free(&b->kv);
    free(b->logits);
    drop_model(b);
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------------------- */

static bool set_up(Bench *b) {
    b->active = dtype_of_tensors(b->compute), b->stream = b->ops->stream(b->compute);
    b->B = b->ops->queues ? 16 : 4, b->T = b->ops->queues ? 1024 : 256;
    b->rows = (int64_t)b->B * b->T;
    b->tokens = xmalloc((size_t)b->rows * sizeof *b->tokens);
    for (int64_t i = 0; i < b->rows; i++) b->tokens[i] = (int32_t)rand_below(1, RAND_TEST, 0, (uint64_t)i, V);
    b->bytes = (size_t)512 << 20;
    b->memory = b->ops->alloc(b->bytes, "the memory probe", b->e);
    b->ids = b->ops->alloc((size_t)b->rows * sizeof *b->ids, "bench", b->e);
    b->sum = b->ops->alloc(sizeof *b->sum, "bench", b->e);
    b->verdict = b->ops->alloc(sizeof *b->verdict, "bench", b->e);
    if (b->e->code) return false;
    b->ops->to_device(b->ids, b->tokens, (size_t)b->rows * sizeof *b->ids);
    b->ops->to_device(b->verdict, &(Verdict){.grad_scale = 1}, sizeof *b->verdict);
    return true;
}

bool bench_run(const Ops *ops, Dtype compute, Err *e) {
    Bench b = {.ops = ops, .compute = compute, .e = e};
    char line[256];
    bool ok = set_up(&b);
    if (ok) {
        ops->describe(line, sizeof line);
        printf("%s: %s; %s\n", ops->name, line, dtype_names[compute]);
        ok = measure_peak(&b);
        printf("peak of multiply-adds %.0f GFLOP/s, memory %s %.1f GB/s\n", peak(&b) / 1e9,
               ops->queues ? "copied" : "read", memory_rate(&b) / 1e9);
    }
    const int T = ops->queues ? 4096 : 1024;
    ok = ok && bench_linear(&b, C, 3 * C) && bench_linear(&b, C, C) && bench_linear(&b, C, 4 * C) &&
         bench_linear(&b, 4 * C, C) && bench_attention(&b, b.B, b.T) && bench_attention(&b, 4, T) &&
         bench_rows(&b) && bench_classifier(&b) && bench_optimizer(&b) && bench_step(&b) && bench_decode(&b);
    void *all[] = {b.memory, b.ids, b.sum, b.verdict};
    for (int i = 0; i < 4; i++) ops->release(all[i]);
    free(b.tokens);
    return ok;
}
