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
            optim_create(&o, m, &e);
            double first = 0, last = 0;
            for (uint64_t step = 1; step <= 30; step++) {
                last = gpt_forward_backward(m, &b, 1.0f / (B * T), false) / (B * T);
                if (step == 1) first = last;
                optim_step(&o, m, &all, 1e-2, optim_grad_norm(m), step);
            }
            EXPECT(fabs(first - log(131)) < 0.15, "%s: first loss %g, ln 131 = %g", types[i], first,
                   log(131));
            EXPECT(last < 0.5, "%s, %s: loss %g after 30 steps", types[i], d ? "bf16" : "fp32", last);
            optim_free(&o);
            gpt_free(m);
        }
}
