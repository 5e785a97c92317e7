/* test_gpt.c - gpt.c: counting, planning, the pass against finite differences and against itself. */
#include "gpt.h"
#include "optim.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static ModelConfig tiny(const char *type) {
    Config c;
    config_defaults(&c);
    ModelConfig m = c.model;
    strcpy(m.model_type, type);
    m.vocab_size = 131, m.n_positions = 24, m.n_embd = 40, m.n_layer = 3, m.n_head = 5, m.n_inner = 72;
    m.attention_window = 6;
    m.tie_word_embeddings = true;
    m.resid_pdrop = m.embd_pdrop = m.attn_pdrop = 0;
    return m;
}

static const Ops *cpu(int threads) {
    Err e = {0};
    const Ops *ops = ops_choose("cpu", &e);
    if (ops) ops->start(threads, &e);
    EXPECT_OK(&e);
    return ops;
}

static Gpt *make(const ModelConfig *c, GptOptions o) {
    Err e = {0};
    o.ops = cpu(1);
    Gpt *m = gpt_create(c, &o, &e);
    EXPECT_OK(&e);
    gpt_init(m, 42);
    return m;
}

static void fill_tokens(int32_t *t, int n, int64_t V, uint64_t seed) {
    for (int i = 0; i < n; i++) t[i] = (int32_t)rand_below(seed, RAND_TEST, 0, (uint64_t)i, (uint64_t)V);
}

/* A micro step; the sum of the losses so far. */
static double micro_step(Gpt *m, const Batch *b, float scale, bool accumulate) {
    gpt_forward_backward(m, b, scale, accumulate);
    return *gpt_loss_sum(m);
}

TEST(gpt_counts_are_the_published_ones) {
    ModelConfig c = tiny("gpt2");
    c.vocab_size = 50257, c.n_positions = 1024, c.n_embd = 768, c.n_layer = 12, c.n_head = 12, c.n_inner = 0;
    EXPECT(gpt_count(&c, true) == 124439808);
    EXPECT(gpt_count(&c, false) == 124439808 - 1024 * 768);
    EXPECT(gpt_flops_per_token(&c, 1024) == 6.0 * (124439808 - 1024 * 768) + 6.0 * 12 * 768 * 1024);
    c.tie_word_embeddings = false;
    EXPECT(gpt_count(&c, true) == 124439808 + 50257 * 768);
    c = tiny("openai-gpt");
    c.vocab_size = 40478, c.n_positions = 512, c.n_embd = 768, c.n_layer = 12, c.n_head = 12, c.n_inner = 0;
    EXPECT(gpt_count(&c, true) == 116534784);
}

TEST(gpt_learns_a_batch_by_heart) {
    enum { B = 2, T = 19 };
    static const char *const types[] = {"gpt2", "gpt3", "openai-gpt"};
    for (int i = 0; i < 3; i++)
        for (Dtype d = DT_F32; d <= DT_BF16; d++) {
            ModelConfig c = tiny(types[i]);
            Gpt *m = make(&c, (GptOptions){.compute = d, .train = true, .B = B, .T = T});
            Config all;
            config_defaults(&all);
            all.optimizer.weight_decay = 0;
            int32_t x[B * T + 1];
            fill_tokens(x, B * T + 1, c.vocab_size, 1);
            Batch b = {.tokens = x, .targets = x + 1, .B = B, .T = T};
            Optim o;
            Err e = {0};
            optim_create(&o, m, &all, &e);
            double first = 0, last = 0;
            for (uint64_t step = 1; step <= 30; step++) {
                last = micro_step(m, &b, 1.0f / (B * T), false) / (B * T);
                if (step == 1) first = last;
                optim_judge(&o, m, &all, 1.0 / (B * T), INFINITY, 0);
                optim_step(&o, m, &all, 1e-2, step);
            }
            EXPECT(fabs(first - log(131)) < 0.15, "%s: first loss %g, ln 131 = %g", types[i], first,
                   log(131));
            EXPECT(last < 0.5, "%s, %s: loss %g after 30 steps", types[i], d ? "bf16" : "fp32", last);
            optim_free(&o);
            gpt_free(m);
        }
}

/* ---- the pass against itself --------------------------------------------------------------------------- */

enum { B = 3, T = 13, N = B * T };

typedef struct Data {
    int32_t tokens[N], targets[N];
    Batch batch;
} Data;

static void fill_data(Data *d, int64_t V) {
    fill_tokens(d->tokens, N, V, 3);
    fill_tokens(d->targets, N, V, 4);
    d->targets[5] = d->targets[20] = -1;
    d->batch = (Batch){.tokens = d->tokens, .targets = d->targets, .B = B, .T = T, .step = 7, .seed = 9};
}

static const char *const all_types[] = {"gpt2", "gpt3", "openai-gpt"};
enum { N_TYPES = 3 };

/* A model whose weights are large enough that every term shows, with dropout everywhere. */
static ModelConfig lively(int type) {
    ModelConfig c = tiny(all_types[type]);
    c.initializer_range = 0.2;
    c.embd_pdrop = 0.1, c.attn_pdrop = 0.2, c.resid_pdrop = 0.15;
    c.tie_word_embeddings = type != 1;
    return c;
}

/* The gradient of every tensor against the slope of the loss along it. */
TEST(gpt_gradients_are_the_slopes) {
    for (int type = 0; type < N_TYPES; type++) {
        ModelConfig c = lively(type);
        Gpt *m = make(&c, (GptOptions){.train = true, .B = B, .T = T});
        Data d;
        fill_data(&d, c.vocab_size);
        int n;
        const Param *p = gpt_table(m, &n);
        float *w = gpt_weights(m);
        float *g = xmalloc((size_t)gpt_elements(m) * sizeof *g);
        gpt_forward_backward(m, &d.batch, 1, false);
        memcpy(g, gpt_gradient_at(m, 0), (size_t)gpt_elements(m) * sizeof *g);
        for (int i = 0; i < n; i++) {
            double norm = 0, loss[2];
            for (int64_t k = p[i].at; k < p[i].at + p[i].count; k++) norm += g[k] * g[k];
            norm = sqrt(norm);
            for (int side = 0; side < 2; side++) {
                float far = (side ? -0.01f : 0.01f) / (float)norm;
                for (int64_t k = p[i].at; k < p[i].at + p[i].count; k++) w[k] += far * g[k];
                gpt_weights_changed(m, false);
                loss[side] = micro_step(m, &d.batch, 1, false);
                for (int64_t k = p[i].at; k < p[i].at + p[i].count; k++) w[k] -= far * g[k];
            }
            double slope = (loss[0] - loss[1]) / 0.02;
            EXPECT(fabs(slope / norm - 1) < 3e-3, "%s: %s: slope %g, gradient %g", all_types[type], p[i].name,
                   slope, norm);
        }
        free(g);
        gpt_free(m);
    }
}

/* Runs one micro step and gives back its loss and a copy of all gradients. */
static float *gradients_of(const ModelConfig *c, GptOptions o, int threads, const Data *d, double *loss) {
    o.train = true, o.B = B, o.T = T;
    Gpt *m = make(c, o);
    cpu(threads);
    *loss = micro_step(m, &d->batch, 1, false);
    size_t bytes = (size_t)gpt_elements(m) * sizeof(float);
    float *g = memcpy(xmalloc(bytes), gpt_gradient_at(m, 0), bytes);
    gpt_free(m);
    cpu(1);
    return g;
}

static void expect_same_bits(const ModelConfig *c, GptOptions a, int threads_a, GptOptions b, int threads_b) {
    Data d;
    double loss[2];
    int n;
    int64_t elements;
    free(gpt_params(c, NULL, &n, &elements));
    fill_data(&d, c->vocab_size);
    float *x = gradients_of(c, a, threads_a, &d, &loss[0]), *y = gradients_of(c, b, threads_b, &d, &loss[1]);
    EXPECT(loss[0] == loss[1], "%s: loss %.17g, %.17g", c->model_type, loss[0], loss[1]);
    EXPECT(!memcmp(x, y, (size_t)elements * sizeof *x), "%s: gradients differ", c->model_type);
    free(x), free(y);
}

TEST(gpt_recomputation_gives_the_same_bits) {
    for (int type = 0; type < N_TYPES; type++)
        for (Dtype d = DT_F32; d <= DT_BF16; d++) {
            ModelConfig c = lively(type);
            const GptOptions none = {.compute = d}, gelu = {.compute = d, .recompute = RECOMPUTE_GELU},
                             block = {.compute = d, .recompute = RECOMPUTE_BLOCK};
            expect_same_bits(&c, gelu, 1, block, 1);
            if (d == DT_F32)
                expect_same_bits(&c, none, 1, gelu, 1); /* bf16: GELU of what was kept, so rounded */
        }
}

TEST(gpt_threads_give_the_same_bits) {
    for (int type = 0; type < N_TYPES; type++)
        for (Dtype d = DT_F32; d <= DT_BF16; d++) {
            ModelConfig c = lively(type);
            expect_same_bits(&c, (GptOptions){.compute = d}, 1, (GptOptions){.compute = d},
                             d == DT_F32 ? 3 : 2);
        }
}

static void expect_close(const float *a, const float *b, int64_t n, double limit, const char *what) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) d += pow((double)a[i] - b[i], 2), s += pow(b[i], 2);
    EXPECT(sqrt(d / s) < limit, "%s: off by %.3g", what, sqrt(d / s));
}

/* One batch, the same sequences one by one, and logits in small chunks: sums in another order, and the same
 * masks. */
TEST(gpt_micro_batches_and_chunks_add_up) {
    for (int type = 0; type < N_TYPES; type++) {
        ModelConfig c = lively(type);
        Data d;
        fill_data(&d, c.vocab_size);
        Gpt *m = make(&c, (GptOptions){.train = true, .B = B, .T = T});
        Gpt *small = make(&c, (GptOptions){.train = true, .B = 1, .T = T, .logits_rows = 5});
        double whole = micro_step(m, &d.batch, 1, false), parts = 0;
        gpt_forward_backward(small, &(Batch){d.tokens, d.targets, 1, T, 0, 0, 0}, 1,
                             false); /* to be overwritten */
        for (int i = 0; i < B; i++) {
            Batch one = d.batch;
            one.B = 1, one.first_row = (uint64_t)i, one.tokens += i * T, one.targets += i * T;
            parts = micro_step(small, &one, 1, i > 0);
        }
        EXPECT(fabs(parts / whole - 1) < 1e-6, "%s: loss %.9g, %.9g", all_types[type], whole, parts);
        expect_close(gpt_gradient_at(small, 0), gpt_gradient_at(m, 0), gpt_elements(m), 1e-6,
                     all_types[type]);
        gpt_free(m);
        gpt_free(small);
    }
}

TEST(gpt_short_batches_fit_in_long_ones) {
    ModelConfig c = lively(0);
    Data d;
    fill_data(&d, c.vocab_size);
    Gpt *m = make(&c, (GptOptions){.train = true, .B = B, .T = T});
    Gpt *fresh = make(&c, (GptOptions){.train = true, .B = B, .T = T});
    Batch brief = d.batch;
    brief.B = 2, brief.T = 7;
    gpt_forward_backward(m, &d.batch, 1, false);
    double after = micro_step(m, &brief, 1, false), first = micro_step(fresh, &brief, 1, false);
    EXPECT(after == first);
    EXPECT(
        !memcmp(gpt_gradient_at(m, 0), gpt_gradient_at(fresh, 0), (size_t)gpt_elements(m) * sizeof(float)));
    gpt_free(m);
    gpt_free(fresh);
}

/* ---- serving ------------------------------------------------------------------------------------------- */

static double nll(const float *logits, int64_t V, int32_t target) {
    double max = logits[0], sum = 0;
    for (int64_t v = 0; v < V; v++) max = logits[v] > max ? logits[v] : max;
    for (int64_t v = 0; v < V; v++) sum += exp(logits[v] - max);
    return max + log(sum) - logits[target];
}

/* The sequences of the batch through the cache, in calls that mix prefill and single tokens of several slots:
 * the losses from those logits are the losses of the full forward pass. */
TEST(gpt_decoding_is_the_forward_pass) {
    static const struct {
        int first[B], count[B]; /* of each sequence's tokens, in each call */
    } calls[] = {
        {{0, 0, 0}, {5, 0, 1}}, {{5, 0, 1}, {1, 3, 6}}, {{6, 3, 7}, {7, 9, 1}}, {{0, 12, 8}, {0, 1, 5}}};
    for (int type = 0; type < N_TYPES; type++) {
        ModelConfig c = lively(type);
        Err e = {0};
        Data d;
        KvCache kv;
        float loss[N];
        int32_t best[N];
        fill_data(&d, c.vocab_size);
        Gpt *m = make(&c, (GptOptions){.B = B, .T = T, .logits_rows = 4});
        EXPECT(kv_create(&kv, m, B + 1, T, &e), "%s", e.msg);
        gpt_losses(m, &d.batch, loss, best);
        for (size_t k = 0; k < sizeof calls / sizeof *calls; k++) {
            int32_t tokens[N], slot[N], pos[N], want[N], row[N];
            int n = 0, n_want = 0;
            for (int s = 0; s < B; s++)
                for (int i = 0; i < calls[k].count[s]; i++, n++) {
                    slot[n] = B - s, pos[n] = calls[k].first[s] + i, row[n] = s * T + pos[n];
                    tokens[n] = d.tokens[row[n]];
                    if (n % 7 != 1) want[n_want++] = n;
                }
            float *logits = xmalloc((size_t)n_want * (size_t)c.vocab_size * sizeof *logits);
            gpt_decode(m, &kv, tokens, slot, pos, n, want, n_want, logits);
            for (int i = 0; i < n_want; i++) {
                const float *x = logits + i * c.vocab_size;
                int32_t at = row[want[i]], target = d.targets[at];
                for (int64_t v = 0; v < c.vocab_size; v++)
                    EXPECT(x[v] <= x[best[at]] + 1e-5f, "%s: row %d: the best is not the best",
                           all_types[type], at);
                if (target >= 0)
                    EXPECT(fabs(nll(x, c.vocab_size, target) - loss[at]) < 2e-5, "%s: row %d: %g, not %g",
                           all_types[type], at, nll(x, c.vocab_size, target), loss[at]);
            }
            free(logits);
        }
        kv_free(&kv);
        gpt_free(m);
    }
}

/* ---- what the ops are asked ---------------------------------------------------------------------------- */

/* Every dropout that the pass asks for, in order of first use. */
static struct {
    Dropout drop;
    int calls;
} seen[64];
static int n_seen;

static void see(const Dropout *d) {
    if (d->p == 0) return;
    for (int i = 0; i < n_seen; i++)
        if (seen[i].drop.site == d->site) {
            const Dropout *s = &seen[i].drop;
            EXPECT(s->p == d->p && s->row0 == d->row0 && s->step == d->step && s->seed == d->seed,
                   "site %u is asked for in two ways", d->site);
            seen[i].calls++;
            return;
        }
    seen[n_seen].drop = *d, seen[n_seen++].calls = 1;
}
static void see_norm(Tensor h, Tensor x_out, float *mean, float *rstd, Tensor x_in, Tensor delta,
                     const float *g, const float *b, float eps, int64_t n, int64_t C, Dropout d) {
    see(&d);
    cpu_ops.norm_forward(h, x_out, mean, rstd, x_in, delta, g, b, eps, n, C, d);
}
static void see_norm_backward(Tensor dx, Tensor ddelta, Tensor dx_in, Tensor dh, Tensor x, const float *mean,
                              const float *rstd, const float *g, float *dg, float *db, bool accumulate,
                              bool post, int64_t n, int64_t C, Dropout d) {
    see(&d);
    cpu_ops.norm_backward(dx, ddelta, dx_in, dh, x, mean, rstd, g, dg, db, accumulate, post, n, C, d);
}
static void see_attention(Tensor out, float *lse, Tensor qkv, const Attention *a) {
    see(&a->drop);
    cpu_ops.attention_forward(out, lse, qkv, a);
}
static void see_attention_backward(Tensor dqkv, Tensor dout, Tensor out, Tensor qkv, const float *lse,
                                   const Attention *a) {
    see(&a->drop);
    cpu_ops.attention_backward(dqkv, dout, out, qkv, lse, a);
}
static void see_embed(Tensor x, const int32_t *tokens, const int32_t *pos, const float *wte, const float *wpe,
                      int64_t n, int64_t T_, int64_t C, Dropout d) {
    see(&d);
    cpu_ops.embed_forward(x, tokens, pos, wte, wpe, n, T_, C, d);
}
static void see_embed_backward(float *dwte, float *dwpe, Tensor dx, Tensor dh, const int32_t *tokens,
                               int64_t n, int64_t T_, int64_t C, bool accumulate, Dropout d) {
    see(&d);
    cpu_ops.embed_backward(dwte, dwpe, dx, dh, tokens, n, T_, C, accumulate, d);
}

/* Site 0 is the embedding, layer l has 1 + 3l attention's probabilities, 2 + 3l its output, 3 + 3l the MLP's;
 * each is used once forward and once backward, and not at all when nothing is trained. */
TEST(gpt_dropout_sites) {
    Ops ops = *cpu(1);
    ops.norm_forward = see_norm, ops.norm_backward = see_norm_backward;
    ops.attention_forward = see_attention, ops.attention_backward = see_attention_backward;
    ops.embed_forward = see_embed, ops.embed_backward = see_embed_backward;
    for (int type = 0; type < N_TYPES; type++) {
        ModelConfig c = lively(type);
        Err e = {0};
        Data d;
        float loss[N];
        fill_data(&d, c.vocab_size);
        d.batch.first_row = 100;
        Gpt *m = gpt_create(&c, &(GptOptions){.ops = &ops, .train = true, .B = B, .T = T}, &e);
        EXPECT_OK(&e);
        n_seen = 0;
        gpt_losses(m, &d.batch, loss, NULL);
        EXPECT(n_seen == 0);
        gpt_forward_backward(m, &d.batch, 1, false);
        EXPECT(n_seen == 1 + 3 * 3, "%d sites", n_seen);
        for (int i = 0; i < n_seen; i++) {
            double p = i == 0 ? 0.1 : i % 3 == 1 ? 0.2 : 0.15;
            EXPECT(seen[i].drop.site == (uint32_t)i && seen[i].calls == 2, "%s: site %u, %d calls",
                   all_types[type], seen[i].drop.site, seen[i].calls);
            EXPECT(seen[i].drop.p == (float)p && seen[i].drop.row0 == 100 * T && seen[i].drop.step == 7 &&
                       seen[i].drop.seed == 9,
                   "site %d: p %g", i, seen[i].drop.p);
        }
        gpt_free(m);
    }
}

/* Blocks run twice when they are recomputed, but for the last, whose buffers still stand. */
TEST(gpt_recomputes_all_layers_but_the_last) {
    Ops ops = *cpu(1);
    ops.attention_forward = see_attention;
    ModelConfig c = lively(0);
    Err e = {0};
    Data d;
    fill_data(&d, c.vocab_size);
    GptOptions o = {.ops = &ops, .train = true, .B = B, .T = T, .recompute = RECOMPUTE_BLOCK};
    Gpt *m = gpt_create(&c, &o, &e);
    EXPECT_OK(&e);
    n_seen = 0;
    gpt_forward_backward(m, &d.batch, 1, false);
    EXPECT(n_seen == 3 && seen[0].calls == 2 && seen[1].calls == 2 && seen[2].calls == 1);
    gpt_free(m);
}

/* The most rows that each linear was made for. */
static struct {
    const Linear *l;
    int64_t max_rows;
} made[64];
static int n_made;

static Linear *see_create(const LinearSpec *s, Err *e) {
    Linear *l = cpu_ops.linear_create(s, e);
    made[n_made].l = l, made[n_made++].max_rows = s->max_rows;
    return l;
}
static void see_rows(const Linear *l, int64_t n) {
    for (int i = 0; i < n_made; i++)
        if (made[i].l == l) EXPECT(n <= made[i].max_rows, "linear %d: %d rows", i, (int)n);
}
static void see_linear(Tensor y, Tensor pre, Tensor x, const Linear *l, const float *bias, Act act,
                       int64_t n) {
    see_rows(l, n);
    cpu_ops.linear_forward(y, pre, x, l, bias, act, n);
}
static void see_linear_backward(Tensor dx, Tensor dy, Tensor x, Tensor pre, Act act, bool again, Linear *l,
                                float *dbias, bool accumulate, int64_t n) {
    see_rows(l, n);
    cpu_ops.linear_backward(dx, dy, x, pre, act, again, l, dbias, accumulate, n);
}

TEST(gpt_linears_get_the_rows_they_were_made_for) {
    Ops ops = *cpu(1);
    ops.linear_create = see_create, ops.linear_forward = see_linear,
    ops.linear_backward = see_linear_backward;
    ModelConfig c = lively(0);
    Err e = {0};
    Data d;
    fill_data(&d, c.vocab_size);
    n_made = 0;
    Gpt *m = gpt_create(&c, &(GptOptions){.ops = &ops, .train = true, .B = B, .T = T, .logits_rows = 16}, &e);
    EXPECT(n_made == 4 * 3 + 1 && made[0].max_rows == N && made[12].max_rows == 16, "%d linears", n_made);
    gpt_forward_backward(m, &d.batch, 1, false);
    gpt_free(m);
}

/* ---- the plan and the initial weights ------------------------------------------------------------------ */

/* Memory of exactly the size asked for, with a guard behind it. */
enum { GUARD = 4096 };
static struct {
    char *p;
    size_t bytes;
} given[8];
static size_t n_given, allocated;

static void *guarded_alloc(size_t bytes, const char *what, Err *e) {
    (void)what, (void)e;
    char *p = aligned_alloc(64, (bytes + GUARD + 63) / 64 * 64);
    memset(p, 0, bytes);
    memset(p + bytes, 0x5a, GUARD);
    given[n_given].p = p, given[n_given++].bytes = bytes;
    allocated += bytes;
    return p;
}

static void guarded_release(void *p) {
    for (size_t i = 0; i < n_given; i++)
        for (int k = 0; k < GUARD && given[i].p == p; k++)
            EXPECT(given[i].p[given[i].bytes + (size_t)k] == 0x5a, "byte %d past block %zu was written", k,
                   i);
    free(p);
}

static void decode_all(Gpt *m, const Data *d) {
    Err e = {0};
    KvCache kv;
    int32_t slot[N], pos[N], want[N];
    float *logits = xmalloc((size_t)N * 131 * sizeof *logits);
    for (int i = 0; i < N; i++) slot[i] = i / T, pos[i] = i % T, want[i] = i;
    EXPECT(kv_create(&kv, m, B, T, &e), "%s", e.msg);
    gpt_decode(m, &kv, d->tokens, slot, pos, N, want, N, logits);
    kv_free(&kv);
    free(logits);
}

TEST(gpt_memory_is_what_is_allocated_and_enough) {
    Ops ops = *cpu(1);
    ops.alloc = guarded_alloc, ops.release = guarded_release;
    for (int type = 0; type < N_TYPES; type++)
        for (int i = 0; i < 24; i++) {
            Err e = {0};
            GptMemory want;
            Data d;
            float loss[N];
            ModelConfig c = lively(type);
            GptOptions o = {.ops = &ops,
                            .compute = i & 1,
                            .train = i & 2,
                            .recompute = i / 4 % 3,
                            .B = B,
                            .T = T,
                            .logits_rows = i >= 12 ? 3 : 0};
            fill_data(&d, c.vocab_size);
            EXPECT(gpt_memory(&c, &o, &want, &e), "%s", e.msg);
            n_given = allocated = 0;
            Gpt *m = gpt_create(&c, &o, &e);
            EXPECT_OK(&e);
            EXPECT(allocated == want.weights + want.gradients + want.activations + want.workspace,
                   "%s: %zu bytes allocated", all_types[type], allocated);
            EXPECT(want.weights == (size_t)gpt_elements(m) * 4 &&
                   want.gradients == (o.train ? want.weights : 0));
            gpt_losses(m, &d.batch, loss, NULL);
            if (o.train) gpt_forward_backward(m, &d.batch, 1, false);
            decode_all(m, &d);
            gpt_free(m);
        }
}

/* Recomputation keeps one stream a layer: doubling the layers costs 2 C floats a row and little else. */
TEST(gpt_recomputation_saves_memory) {
    ModelConfig c = tiny("gpt2");
    GptMemory mem[2][2];
    for (int deep = 0; deep < 2; deep++)
        for (int r = 0; r < 2; r++) {
            Err e = {0};
            c.n_layer = deep ? 8 : 4;
            GptOptions o = {
                .ops = cpu(1), .train = true, .B = 4, .T = 24, .recompute = r ? RECOMPUTE_BLOCK : 0};
            EXPECT(gpt_memory(&c, &o, &mem[deep][r], &e));
        }
    size_t stream = 4 * 24 * 40 * sizeof(float);
    EXPECT(mem[1][1].workspace == mem[0][1].workspace);
    EXPECT(mem[1][1].activations - mem[0][1].activations < 5 * stream);
    EXPECT(mem[1][0].activations - mem[0][0].activations > 4 * 8 * stream);
}

TEST(gpt_init_is_normal_and_repeatable) {
    ModelConfig c = tiny("gpt2");
    c.vocab_size = 2000;
    Gpt *a = make(&c, (GptOptions){.B = 1, .T = 1}), *b = make(&c, (GptOptions){.B = 1, .T = 1});
    size_t bytes = (size_t)gpt_elements(a) * sizeof(float);
    cpu(3);
    gpt_init(b, 42);
    EXPECT(!memcmp(gpt_weights(a), gpt_weights(b), bytes), "depends on the number of threads");
    cpu(1);
    gpt_init(b, 43);
    int n;
    const Param *p = gpt_table(a, &n);
    for (int i = 0; i < n; i++) {
        const float *x = gpt_weights(a) + p[i].at;
        double sum = 0, squares = 0, count = (double)p[i].count;
        for (int64_t k = 0; k < p[i].count; k++) sum += x[k], squares += (double)x[k] * x[k];
        for (int64_t k = p[i].count; k < p[i].padded; k++) EXPECT(x[k] == 0, "%s: padding", p[i].name);
        double mean = p[i].init == INIT_ONE, std = p[i].std;
        EXPECT(fabs(sum / count - mean) <= 4 * std / sqrt(count), "%s: mean %g", p[i].name, sum / count);
        if (p[i].init != INIT_NORMAL) continue;
        EXPECT(fabs(squares / count / std / std - 1) < 4 * sqrt(2 / count), "%s: variance %g of %g",
               p[i].name, squares / count, std * std);
        EXPECT(memcmp(x, gpt_weights(b) + p[i].at, 64), "%s: the seed does nothing", p[i].name);
        if (p[i].layer > 0 && p[i].layer < 3)
            EXPECT(memcmp(x, gpt_weights(a) + p[i - 12].at, 64), "%s: as in the layer before", p[i].name);
        double want = 0.02 / (strstr(p[i].name, "c_proj") ? sqrt(2 * 3) : 1);
        EXPECT(fabs(std / want - 1) < 1e-6, "%s: std %g", p[i].name, std);
    }
    gpt_free(a);
    gpt_free(b);
}

TEST(gpt_names_are_hugging_faces) {
    static const struct {
        const char *type, *first, *second, *in_layer, *last;
        int n;
    } cases[] = {{"gpt2", "wte.weight", "wpe.weight", "h.2.attn.c_attn.weight", "ln_f.bias", 40},
                 {"openai-gpt", "tokens_embed.weight", "positions_embed.weight", "h.2.mlp.c_proj.bias",
                  "h.2.mlp.c_proj.bias", 38}};
    for (int i = 0; i < 2; i++) {
        ModelConfig c = tiny(cases[i].type);
        int n, found = 0;
        int64_t elements, end = 0;
        Param *p = gpt_params(&c, NULL, &n, &elements);
        EXPECT(n == cases[i].n, "%d", n);
        EXPECT(!strcmp(p[0].name, cases[i].first) && !strcmp(p[1].name, cases[i].second));
        EXPECT(!strcmp(p[n - 1].name, cases[i].last), "%s", p[n - 1].name);
        for (int k = 0; k < n; k++) {
            found += !strcmp(p[k].name, cases[i].in_layer);
            EXPECT(p[k].at % 16 == 0 && p[k].padded >= p[k].count && p[k].at + p[k].padded <= elements);
            end = p[k].at + p[k].padded > end ? p[k].at + p[k].padded : end;
        }
        EXPECT(found == 1 && elements - end < 16);
        free(p);
    }
}
