/* test_optim.c - optim.c: what decays, what clipping does, and the schedules. */
#include "optim.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Gpt *optim_model(Optim *o, const char *optimizer) {
    Err e = {0};
    Config c;
    config_defaults(&c);
    strcpy(c.optimizer.name, optimizer);
    c.model.vocab_size = 131, c.model.n_positions = 24, c.model.n_embd = 20, c.model.n_layer = 2;
    c.model.n_head = 2;
    const Ops *ops = ops_choose("cpu", &e);
    ops->start(1, &e);
    Gpt *m = gpt_create(&c.model, &(GptOptions){.ops = ops, .train = true, .B = 1, .T = 8}, &e);
    EXPECT_OK(&e);
    gpt_init(m, 1);
    EXPECT(optim_create(o, m, &c, &e), "%s", e.msg);
    return m;
}

TEST(optim_decays_matrices_only) {
    Optim o;
    Gpt *m = optim_model(&o, "adamw");
    Config c;
    config_defaults(&c);
    c.optimizer.weight_decay = 0.5;
    int n;
    const Param *p = gpt_table(m, &n);
    static float before[1 << 16];
    EXPECT(gpt_elements(m) < 1 << 16);
    memcpy(before, gpt_weights(m), (size_t)gpt_elements(m) * sizeof(float));
    optim_judge(&o, m, &c, 1, INFINITY, 0);
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
    Gpt *m = optim_model(&o, "adamw");
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
        Gpt *m = optim_model(&o, "adamw");
        float *g = gpt_gradient_at(m, 0);
        int n;
        const Param *p = gpt_table(m, &n);
        double sum = 0;
        for (int j = 0; j < n; j++)
            for (int64_t k = p[j].at; k < p[j].at + p[j].count; k++)
                g[k] = (float)(k % 7) - 3, sum += g[k] * g[k];
        c.optimizer.max_grad_norm = cases[i].max;
        optim_judge(&o, m, &c, 1, INFINITY, 0);
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
static void check_skips(const char *optimizer) {
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
        Gpt *m = optim_model(&o, optimizer);
        const size_t bytes = (size_t)gpt_elements(m) * sizeof(float);
        float *before = memcpy(xmalloc(bytes), gpt_weights(m), bytes), *zeros = xcalloc(1, bytes);
        *(double *)(uintptr_t)gpt_loss_sum(m) = 2 * cases[i].loss;
        gpt_gradient_at(m, 0)[5] = (float)cases[i].gradient;
        optim_judge(&o, m, &c, 0.5, cases[i].worst, 0);
        optim_step(&o, m, &c, 1e-3, 1);
        EXPECT(!optim_verdict(&o).skip == !cases[i].skip, "%s, case %zu", optimizer, i);
        EXPECT(!memcmp(before, gpt_weights(m), bytes) == cases[i].skip, "%s, case %zu: weights", optimizer,
               i);
        EXPECT(!memcmp(zeros, o.m, bytes) == cases[i].skip, "%s, case %zu: momentum", optimizer, i);
        free(before), free(zeros);
        optim_free(&o);
        gpt_free(m);
    }
}

TEST(optim_skips) {
    check_skips("adamw");
    check_skips("muon");
}

/* ---- muon ------------------------------------------------------------------------------------------------- */

/* Number (i, k) of a reflection: orthogonal, symmetric, and without zeros. */
static double reflection(int64_t n, int64_t i, int64_t k) {
    double squares = 0;
    for (int64_t j = 0; j < n; j++) squares += pow(cos((double)(3 * j + 1)), 2);
    return (i == k) - 2 * cos((double)(3 * i + 1)) * cos((double)(3 * k + 1)) / squares;
}

/* A matrix in parts, as a weight has them, whose singular values and vectors we know: d[k] for columns k of two
 * reflections. */
typedef struct Known {
    int64_t rows, cols, side, row; /* numbers from one row to the next */
    double left[80][20], right[80][20], d[20];
} Known;

static void known_make(Known *k, const Param *p) {
    *k = (Known){.rows = p->shape[0], .cols = p->shape[1] / p->parts, .row = p->shape[1]};
    k->side = k->rows < k->cols ? k->rows : k->cols;
    EXPECT(k->rows <= 80 && k->cols <= 80 && k->side <= 20);
    for (int64_t j = 0; j < k->side; j++) {
        for (int64_t i = 0; i < k->rows; i++) k->left[i][j] = reflection(k->rows, i, j);
        for (int64_t i = 0; i < k->cols; i++) k->right[i][j] = reflection(k->cols, i, j);
        k->d[j] = pow(0.75, (double)j);
    }
}

static double known_number(const Known *k, int64_t r, int64_t c) {
    double sum = 0;
    for (int64_t j = 0; j < k->side; j++) sum += k->left[r][j] * k->d[j] * k->right[c][j];
    return sum;
}

/* What five rounds make of the singular values, after they were brought to a norm of 1. */
static void known_rounds(Known *k) {
    double squares = 0;
    for (int64_t j = 0; j < k->side; j++) squares += k->d[j] * k->d[j];
    for (int64_t j = 0; j < k->side; j++) {
        double s = k->d[j] / sqrt(squares);
        EXPECT(s > 0.002);
        for (int i = 0; i < 5; i++) s = 3.4445 * s - 4.7750 * pow(s, 3) + 2.0315 * pow(s, 5);
        k->d[j] = s;
    }
}

/* `moved` has k's singular vectors, and singular values in the band where the iteration ends. */
static void check_direction(const Known *k, const float *moved, const char *name) {
    double off = 0, all = 0;
    for (int64_t r = 0; r < k->rows; r++)
        for (int64_t c = 0; c < k->cols; c++) {
            const double want = known_number(k, r, c);
            off += pow(moved[r * k->row + c] - want, 2), all += want * want;
        }
    EXPECT(off <= 4e-4 * all, "%s: off by %.3g (nmse)", name, off / all);
    for (int64_t j = 0; j < k->side; j++) {
        double s = 0;
        for (int64_t r = 0; r < k->rows; r++)
            for (int64_t c = 0; c < k->cols; c++) s += k->left[r][j] * moved[r * k->row + c] * k->right[c][j];
        EXPECT(s > 0.65 && s < 1.25, "%s: singular value %d became %g", name, (int)j, s);
    }
}

TEST(optim_muon_orthogonalises) {
    static Known k;
    Optim o;
    Gpt *m = optim_model(&o, "muon");
    int n, attention = 0, others = 0;
    const Param *p = gpt_table(m, &n);
    float *w = gpt_weights(m), *g = gpt_gradient_at(m, 0);
    const size_t bytes = (size_t)gpt_elements(m) * sizeof *w;
    float *moved = memcpy(xmalloc(bytes), w, bytes);
    Config c;
    config_defaults(&c);
    c.optimizer.weight_decay = 0;
    for (int i = 0; i < n; i++) {
        if (!p[i].parts) continue;
        known_make(&k, &p[i]);
        for (int64_t e = 0; e < p[i].count; e++)
            g[p[i].at + e] = (float)known_number(&k, e / k.row, e % k.cols); /* the same in each part */
    }
    optim_judge(&o, m, &c, 1, INFINITY, 0);
    optim_step(&o, m, &c, 1, 1);
    for (int64_t i = o.adamw; i < o.elements; i++) moved[i] -= w[i];
    for (int i = 0; i < n; i++) {
        if (!p[i].parts) continue;
        known_make(&k, &p[i]), known_rounds(&k);
        const double size = 0.2 * sqrt((double)(k.rows > k.cols ? k.rows : k.cols));
        for (int64_t e = 0; e < p[i].count; e++) moved[p[i].at + e] /= (float)size;
        for (int64_t j = 0; j < p[i].parts; j++) check_direction(&k, moved + p[i].at + j * k.cols, p[i].name);
        attention += p[i].parts == 3 && strstr(p[i].name, "c_attn"), others += p[i].parts == 1;
    }
    EXPECT(attention == 2 && others == 6, "%d, %d", attention, others);
    free(moved);
    optim_free(&o);
    gpt_free(m);
}

/* Two models with the same gradients: what is not Muon's goes the same way, bit for bit; Muon's goes its own, and has no
 * second moment. */
TEST(optim_muon_leaves_the_rest_to_adamw) {
    Optim o[2];
    Gpt *m[2];
    Config c;
    int n;
    config_defaults(&c);
    for (int i = 0; i < 2; i++) {
        m[i] = optim_model(&o[i], i ? "muon" : "adamw");
        for (uint64_t step = 1; step <= 2; step++) {
            for (int64_t k = 0; k < gpt_elements(m[i]); k++)
                gpt_gradient_at(m[i], 0)[k] = (float)(k * step % 7) - 3;
            optim_judge(&o[i], m[i], &c, 1, INFINITY, 0);
            optim_step(&o[i], m[i], &c, 1e-2, step);
        }
    }
    const Param *p = gpt_table(m[0], &n);
    for (int i = 0; i < n; i++) {
        const float *w[2] = {gpt_weights(m[0]) + p[i].at, gpt_weights(m[1]) + p[i].at};
        const bool hidden = !strncmp(p[i].name, "h.", 2) && p[i].rank == 2;
        EXPECT(!memcmp(w[0], w[1], (size_t)p[i].count * sizeof **w) == !hidden, "%s", p[i].name);
        EXPECT((p[i].at >= o[1].adamw) == hidden, "%s", p[i].name);
        if (!hidden) EXPECT(!memcmp(o[0].v + p[i].at, o[1].v + p[i].at, (size_t)p[i].count * sizeof *o->v));
    }
    EXPECT(o[0].adamw == o[0].elements);
    for (int i = 0; i < 2; i++) optim_free(&o[i]), gpt_free(m[i]);
}

static size_t allocated;
static void *counting_alloc(size_t bytes, const char *what, Err *e) {
    allocated += bytes;
    return cpu_ops.alloc(bytes, what, e);
}

TEST(optim_tells_its_memory) {
    Ops ops = cpu_ops;
    ops.alloc = counting_alloc;
    Config c;
    size_t large[2];
    for (int i = 0; i < 2; i++) {
        Err e = {0};
        Optim o;
        config_defaults(&c);
        strcpy(c.optimizer.name, i ? "muon" : "adamw");
        c.model.vocab_size = 50257;
        large[i] = optim_bytes(&c, NULL);
        c.model.vocab_size = 131, c.model.n_embd = 24, c.model.n_layer = 2;
        Gpt *m = gpt_create(&c.model, &(GptOptions){.ops = &ops, .train = true, .B = 1, .T = 8}, &e);
        allocated = 0;
        EXPECT(optim_create(&o, m, &c, &e), "%s", e.msg);
        EXPECT(allocated == optim_bytes(&c, NULL), "%zu, not %zu", allocated, optim_bytes(&c, NULL));
        optim_free(&o);
        gpt_free(m);
    }
    EXPECT((double)large[1] < 0.7 * (double)large[0], "%zu against %zu", large[1], large[0]); /* GPT-2 124M */
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
