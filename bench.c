/* bench.c - floor 5: see bench.h. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 5, B = 4, T = 256, ROWS = B * T };

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median over RUNS of work(ctx)'s rate over limit(ctx)'s, each pair measured in a row; *rate gets the median of the
 * rates. */
typedef double (*Measure)(void *ctx);
static double share(Measure work, Measure limit, void *ctx, double *rate) {
    double shares[RUNS], rates[RUNS];
    work(ctx); /* warms the caches, touches the memory */
    for (int i = 0; i < RUNS; i++) {
        const double most = limit(ctx);
        rates[i] = work(ctx);
        shares[i] = rates[i] / most;
    }
    qsort(shares, RUNS, sizeof *shares, by_value);
    qsort(rates, RUNS, sizeof *rates, by_value);
    *rate = rates[RUNS / 2];
    return shares[RUNS / 2];
}

/* Everything the measurements share. */
typedef struct Bench {
    const Ops *ops;
    Dtype compute;
    Err *e;
    /* one linear layer or attention */
    Linear *linear;
    int64_t in, out;
    Tensor x, y, dx, dy;
    float *lse;
    Attention attention;
    int what; /* which of forward, dx + dw */
    /* the model */
    Gpt *gpt;
    KvCache kv;
    int32_t tokens[ROWS];
    float *logits;
    int pos;
    /* what the memory probe reads */
    uint64_t *memory;
    size_t words;
} Bench;

static double peak(void *ctx) {
    const Bench *b = ctx;
    return b->ops->peak_flops(b->compute);
}

/* Bytes a second that all threads read from a block larger than any cache. */
static double read_rate(void *ctx) {
    const Bench *b = ctx;
    const uint64_t *p = b->memory;
    uint64_t sum = 0;
    const double t = now_seconds();
#pragma omp parallel for simd reduction(+ : sum) schedule(static)
    for (size_t i = 0; i < b->words; i++) sum += p[i];
    CHECK(sum == 0, "the block is all zeros");
    return (double)(b->words * sizeof *p) / (now_seconds() - t);
}

/* FLOP/s of `flops` of work a call, over at least a tenth of a second. */
static double flops_rate(double flops, void (*call)(Bench *), Bench *b) {
    const double t = now_seconds();
    int calls = 0;
    do call(b), calls++;
    while (now_seconds() - t < 0.1);
    return flops * calls / (now_seconds() - t);
}

/* ---- one layer ------------------------------------------------------------------------------------------- */

static void linear_call(Bench *b) {
    if (b->what == 0)
        b->ops->linear_forward(b->y, NO_TENSOR, b->x, b->linear, NULL, ACT_NONE, ROWS);
    else
        b->ops->linear_backward(b->dx, b->dy, b->x, NO_TENSOR, ACT_NONE, false, b->linear, NULL, true, ROWS);
}

static double linear_rate(void *ctx) {
    Bench *b = ctx;
    return flops_rate((b->what ? 4.0 : 2.0) * ROWS * (double)b->in * (double)b->out, linear_call, b);
}

static void attention_call(Bench *b) {
    if (b->what == 0)
        b->ops->attention_forward(b->y, b->lse, b->x, &b->attention);
    else
        b->ops->attention_backward(b->dx, b->dy, b->y, b->x, b->lse, &b->attention);
}

/* Two products of the causal half forward, five backward (Dao 2023). */
static double attention_rate(void *ctx) {
    Bench *b = ctx;
    const Attention *a = &b->attention;
    const double product = (double)a->B * a->NH * a->T * a->T * a->HS;
    return flops_rate((b->what ? 5 : 2) * product, attention_call, b);
}

static Tensor random_tensor(Bench *b, int64_t n) {
    Tensor t = tensor(b->ops->alloc((size_t)n * dtype_size(b->compute), "bench", b->e), b->compute);
    uint16_t *half = t.p;
    if (!t.p) return t;
    for (int64_t i = 0; i < n;
         i++) { /* about [-0.25, 0.25]: the bits of a float, or the upper half of them */
        const float x = (float)((i * 2654435761 >> 8) % 1024 - 512) / 2048;
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        if (b->compute == DT_F32)
            memcpy((float *)t.p + i, &x, sizeof x);
        else
            half[i] = (uint16_t)(bits >> 16);
    }
    return t;
}

static void release_tensors(Bench *b) {
    Tensor *all[] = {&b->x, &b->y, &b->dx, &b->dy};
    for (int i = 0; i < 4; i++) b->ops->release(all[i]->p), *all[i] = NO_TENSOR;
    b->ops->release(b->lse);
    b->lse = NULL;
}

static void print_shares(Bench *b, const char *name, Measure work) {
    double rate[2], part[2];
    for (b->what = 0; b->what < 2; b->what++) part[b->what] = share(work, peak, b, &rate[b->what]);
    printf("%-36s forward %5.1f %%   backward %5.1f %%   of the peak of multiply-adds\n", name, 100 * part[0],
           100 * part[1]);
    fflush(stdout);
}

static bool bench_linear(Bench *b, int64_t in, int64_t out) {
    char name[64];
    float *w = b->ops->alloc((size_t)(in * out) * sizeof *w, "bench", b->e);
    float *dw = b->ops->alloc((size_t)(in * out) * sizeof *dw, "bench", b->e);
    const LinearSpec s = {.in = in, .out = out, .w = w, .dw = dw, .compute = b->compute, .max_rows = ROWS};
    b->in = in, b->out = out;
    b->x = random_tensor(b, ROWS * in), b->y = random_tensor(b, ROWS * out);
    b->dx = random_tensor(b, ROWS * in), b->dy = random_tensor(b, ROWS * out);
    b->linear = b->e->code ? NULL : b->ops->linear_create(&s, b->e);
    snprintf(name, sizeof name, "linear %d x %lld -> %lld", ROWS, (long long)in, (long long)out);
    if (b->linear) print_shares(b, name, linear_rate);
    b->ops->linear_free(b->linear);
    release_tensors(b);
    b->ops->release(w);
    b->ops->release(dw);
    return !b->e->code;
}

static bool bench_attention(Bench *b, int batch, int length) {
    char name[64];
    const int64_t n = (int64_t)batch * length * 768;
    b->attention = (Attention){.B = batch, .T = length, .NH = 12, .HS = 64, .NH_total = 12, .scale = 0.125f};
    b->x = random_tensor(b, 3 * n), b->y = random_tensor(b, n);
    b->dx = random_tensor(b, 3 * n), b->dy = random_tensor(b, n);
    b->lse = b->ops->alloc((size_t)(batch * 12 * length) * sizeof *b->lse, "bench", b->e);
    snprintf(name, sizeof name, "attention %d x %d, 12 heads of 64", batch, length);
    if (!b->e->code) print_shares(b, name, attention_rate);
    release_tensors(b);
    return !b->e->code;
}

/* ---- the model ------------------------------------------------------------------------------------------- */

static bool create_model(Bench *b, bool train) {
    Config c;
    const GptOptions o = {.ops = b->ops,
                          .grid = {.ranks = 1, .dp = 1, .pp = 1, .tp = 1},
                          .compute = b->compute,
                          .train = train,
                          .B = B,
                          .T = T};
    config_defaults(&c);
    c.model.vocab_size = 50257;
    b->gpt = gpt_create(&c.model, &o, b->e);
    if (b->gpt) gpt_init(b->gpt, 1), gpt_weights_changed(b->gpt, false);
    return b->gpt != NULL;
}

static double step_rate(void *ctx) {
    Bench *b = ctx;
    const Batch batch = {.tokens = b->tokens, .targets = b->tokens, .B = B, .T = T};
    const double t = now_seconds();
    gpt_forward_backward(b->gpt, &batch, 1.0f / ROWS, false);
    return ROWS * gpt_flops_per_token(gpt_config(b->gpt), T) / (now_seconds() - t);
}

/* Bytes of weights a second: each token reads all of them but the embeddings' other rows; the head is wte. */
static double decode_rate(void *ctx) {
    Bench *b = ctx;
    const int32_t slot = 0, want = 0;
    const double t = now_seconds();
    int n = 0;
    for (; n < 16; n++, b->pos++)
        gpt_decode(b->gpt, &b->kv, b->tokens, &slot, &(int32_t){b->pos}, 1, &want, 1, b->logits);
    const double bytes = (double)gpt_count(gpt_config(b->gpt), false) * (double)dtype_size(b->compute);
    return n * bytes / (now_seconds() - t);
}

static bool bench_step(Bench *b) {
    double rate, part;
    if (!create_model(b, true)) return false;
    part = share(step_rate, peak, b, &rate);
    printf("%-36s %5.1f %% of the peak (6N + 6LCT), %.0f tokens/s\n", "124M, forward and backward 4 x 256",
           100 * part, rate / gpt_flops_per_token(gpt_config(b->gpt), T));
    gpt_free(b->gpt);
    b->gpt = NULL;
    return true;
}

static bool bench_decode(Bench *b) {
    double rate, part;
    if (!create_model(b, false) || !kv_create(&b->kv, b->gpt, 1, T, b->e)) return false;
    b->logits = xcalloc(50257, sizeof *b->logits);
    part = share(decode_rate, read_rate, b, &rate);
    printf("%-36s %5.1f %% of the rate at which memory can be read, %.0f tokens/s\n",
           "124M, decoding one sequence", 100 * part,
           rate / ((double)gpt_count(gpt_config(b->gpt), false) * (double)dtype_size(b->compute)));
    kv_free(&b->kv);
    free(b->logits);
    gpt_free(b->gpt);
    b->gpt = NULL;
    return true;
}

bool bench_run(const Ops *ops, Dtype compute, Err *e) {
    static Bench b;
    Arena memory;
    char line[256];
    b = (Bench){.ops = ops, .compute = compute, .e = e};
    for (int i = 0; i < ROWS; i++) b.tokens[i] = (int32_t)rand_below(1, RAND_TEST, 0, (uint64_t)i, 50257);
    if (!arena_init(&memory, (size_t)512 << 20, "the memory probe", e)) return false;
    memset(memory.base, 0, memory.size);
    b.memory = (uint64_t *)memory.base, b.words = memory.size / sizeof *b.memory;
    ops->describe(line, sizeof line);
    printf("%s: %s; %s\n", ops->name, line, compute == DT_BF16 ? "bf16" : "fp32");
    printf("peak of multiply-adds %.0f GFLOP/s, memory read %.1f GB/s\n", peak(&b) / 1e9,
           read_rate(&b) / 1e9);
    const bool ok = bench_linear(&b, 768, 2304) && bench_linear(&b, 768, 768) &&
                    bench_linear(&b, 768, 3072) && bench_linear(&b, 3072, 768) &&
                    bench_attention(&b, 4, 256) && bench_attention(&b, 4, 1024) && bench_step(&b) &&
                    bench_decode(&b);
    arena_free(&memory);
    return ok;
}
