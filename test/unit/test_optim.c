/* test_optim.c - optim.c: what decays, what clipping does, and the schedules. */
#include "optim.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Gpt *optim_model(Optim *o) {
    Err e = {0};
    Config c;
    config_defaults(&c);
    c.model.vocab_size = 131, c.model.n_positions = 24, c.model.n_embd = 20, c.model.n_layer = 2;
    c.model.n_head = 2;
    const Ops *ops = ops_choose("cpu", &e);
    ops->start(1, &e);
    Gpt *m = gpt_create(&c.model, &(GptOptions){.ops = ops, .train = true, .B = 1, .T = 8}, &e);
    EXPECT_OK(&e);
    gpt_init(m, 1);
    EXPECT(optim_create(o, m, &e), "%s", e.msg);
    return m;
}

TEST(optim_decays_matrices_only) {
    Optim o;
    Gpt *m = optim_model(&o);
    Config c;
    config_defaults(&c);
    c.optimizer.weight_decay = 0.5;
    int n;
    const Param *p = gpt_table(m, &n);
    static float before[1 << 16];
    EXPECT(gpt_elements(m) < 1 << 16);
    memcpy(before, gpt_weights(m), (size_t)gpt_elements(m) * sizeof(float));
    optim_judge(&o, m, &c, 1, INFINITY);
    optim_step(&o, m, &c, 0.1, 1); /* gradients are zero: only decay moves anything */
    for (int i = 0; i < n; i++)
        for (int64_t k = p[i].at; k < p[i].at + p[i].padded; k++) {
            double want = before[k] * (p[i].rank == 2 ? 1 - 0.1 * 0.5 : 1);
            EXPECT(fabs(gpt_weights(m)[k] - want) <= 1e-6 * fabs(want), "%s: %g, not %g", p[i].name,
                   gpt_weights(m)[k], want);
        }
    optim_free(&o);
    gpt_free(m);
}

static int adamw_calls;
static void counting_adamw(float *w, float *m, float *v, const float *g, uint16_t *mirror, int64_t n,
                           const AdamW *a, const Verdict *verdict) {
    adamw_calls++;
    cpu_ops.adamw(w, m, v, g, mirror, n, a, verdict);
}

TEST(optim_steps_in_two_sweeps) {
    Optim o;
    Gpt *m = optim_model(&o);
    Config c;
    config_defaults(&c);
    Ops ops = cpu_ops;
    ops.adamw = counting_adamw;
    o.ops = &ops;
    optim_step(&o, m, &c, 0.1, 1);
    EXPECT(adamw_calls == 2, "%d", adamw_calls);
    o.ops = &cpu_ops;
    optim_free(&o);
    gpt_free(m);
}

/* Adam moves by its gradient's sign and size over its own running size: a clipped first step is the same
 * step, so clipping shows in the moments. */
TEST(optim_clips_by_the_global_norm) {
    Config c;
    config_defaults(&c);
    c.optimizer.betas[0] = 0.9, c.optimizer.betas[1] = 0.95, c.optimizer.weight_decay = 0;
    static const struct { double max, scale; } cases[] = {{0, 1}, {1e9, 1}, {2, 0}}; /* scale 0: max / norm */
    for (int i = 0; i < 3; i++) {
        Optim o;
        Gpt *m = optim_model(&o);
        float *g = gpt_gradients(m);
        int n;
        const Param *p = gpt_table(m, &n);
        double sum = 0;
        for (int j = 0; j < n; j++)
            for (int64_t k = p[j].at; k < p[j].at + p[j].count; k++)
                g[k] = (float)(k % 7) - 3, sum += g[k] * g[k];
        c.optimizer.max_grad_norm = cases[i].max;
        optim_judge(&o, m, &c, 1, INFINITY);
        const double norm = optim_verdict(&o).grad_norm,
                     scale = cases[i].scale ? cases[i].scale : cases[i].max / norm;
        EXPECT(fabs(norm / sqrt(sum) - 1) < 1e-12, "norm %.15g, not %.15g", norm, sqrt(sum));
        optim_step(&o, m, &c, 1e-3, 1);
        for (int64_t k = 0; k < gpt_elements(m); k++) {
            double want = 0.1 * g[k] * scale;
            EXPECT(fabs(o.m[k] - want) <= 1e-6 * fabs(want), "m %g, not %g", o.m[k], want);
            want = 0.05 * g[k] * g[k] * scale * scale;
            EXPECT(fabs(o.v[k] - want) <= 1e-6 * fabs(want), "v %g, not %g", o.v[k], want);
        }
        optim_free(&o);
        gpt_free(m);
    }
}

/* A step whose numbers are not finite, or whose loss is too high, changes nothing. */
TEST(optim_skips) {
    static const struct {
        double loss, gradient, worst;
        bool skip;
    } cases[] = {{3, 1, INFINITY, false},
                 {3, 1, 3, false},
                 {3, 1, 2.99, true},
                 {NAN, 1, INFINITY, true},
                 {INFINITY, 1, INFINITY, true},
                 {3, NAN, INFINITY, true},
                 {3, INFINITY, INFINITY, true}};
    Config c;
    config_defaults(&c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Optim o;
        Gpt *m = optim_model(&o);
        const size_t bytes = (size_t)gpt_elements(m) * sizeof(float);
        float *before = memcpy(xmalloc(bytes), gpt_weights(m), bytes);
        *(double *)(uintptr_t)gpt_loss_sum(m) = 2 * cases[i].loss;
        gpt_gradients(m)[5] = (float)cases[i].gradient;
        optim_judge(&o, m, &c, 0.5, cases[i].worst);
        optim_step(&o, m, &c, 1e-3, 1);
        EXPECT(!optim_verdict(&o).skip == !cases[i].skip, "case %zu", i);
        EXPECT(!memcmp(before, gpt_weights(m), bytes) == cases[i].skip, "case %zu: weights", i);
        free(before);
        optim_free(&o);
        gpt_free(m);
    }
}

TEST(optim_schedules) {
    static const struct {
        const char *name;
        int64_t step;
        double lr;
    } cases[] = {
        {"cosine", 1, 0.1},
        {"cosine", 5, 0.5},
        {"cosine", 9, 0.9},
        {"cosine", 10, 1.0},
        {"cosine", 60, 0.6},
        {"cosine", 110, 0.2},
        {"cosine", 200, 0.2},
        {"linear", 10, 1.0},
        {"linear", 35, 0.8},
        {"linear", 110, 0.2},
        {"constant", 3, 0.3},
        {"constant", 110, 1.0},
        {"wsd", 3, 0.3},
        {"wsd", 90, 1.0},
        {"wsd", 100, 0.6},
        {"wsd", 110, 0.2},
        {"wsd", 120, 0.2},
        {"cosine", 35, 0.2 + 0.8 * (1 + M_SQRT1_2) / 2},
        {"cosine", 85, 0.2 + 0.8 * (1 - M_SQRT1_2) / 2},
    };
    Config c;
    config_defaults(&c);
    c.optimizer.lr = 1.0, c.lr_schedule.min_lr = 0.2, c.lr_schedule.warmup_steps = 10;
    c.lr_schedule.decay_steps = 20, c.train.max_steps = 110;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        strcpy(c.lr_schedule.name, cases[i].name);
        double lr = lr_at(&c, cases[i].step);
        EXPECT(fabs(lr - cases[i].lr) < 1e-12, "%s at %d: %g, not %g", cases[i].name, (int)cases[i].step, lr,
               cases[i].lr);
    }
    c.lr_schedule.warmup_steps = 0;
    strcpy(c.lr_schedule.name, "linear");
    EXPECT(lr_at(&c, 110) == 0.2 && fabs(lr_at(&c, 55) - 0.6) < 1e-12);
    c.lr_schedule.warmup_steps = 500; /* warmup longer than the run */
    EXPECT(fabs(lr_at(&c, 110) - 0.22) < 1e-12);
}
