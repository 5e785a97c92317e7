/* grids.c - whole training steps over every grid of the launcher's ranks, against one process: ten steps, losses,
 * gradient norms and, at the end, every weight. Each grid's options once, with models and recomputation taking turns; with
 * GRIDS=whole only the grids of all ranks; with GRIDS=all every grid with every option. */
#include "gpt.h"
#include "optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T = 32, ROWS = 8, STEPS = 10 };

static int passed, failed;

/* ---- what is trained ------------------------------------------------------------------------------------- */

typedef struct Case {
    int dp, pp, tp, zero, interleave;
    bool sequence;
    int type; /* of types[] */
    bool drop;
    Recompute recompute;
    Dtype compute;
} Case;

static const char *const types[] = {"gpt2", "openai-gpt", "gpt3"};

static Config config_of(const Case *c) {
    Config all;
    config_defaults(&all);
    ModelConfig *m = &all.model;
    strcpy(m->model_type, types[c->type]);
    m->vocab_size = 131, m->n_positions = 40, m->n_embd = 32, m->n_layer = 9, m->n_head = 4, m->n_inner = 96;
    m->attention_window = 6;
    m->initializer_range = 0.1;
    m->tie_word_embeddings = c->type != 2;
    m->resid_pdrop = m->embd_pdrop = m->attn_pdrop = c->drop ? 0.1 : 0;
    all.optimizer.max_grad_norm = 0.5;
    return all;
}

/* Row `row` of step `step`: a few of its targets are not scored. */
static void fill_row(int32_t *tokens, int32_t *targets, int64_t step, int64_t row) {
    int32_t id[T + 1];
    for (int i = 0; i <= T; i++)
        id[i] = (int32_t)rand_below(7, RAND_TEST, (uint64_t)(step * ROWS + row), (uint64_t)i, 131);
    memcpy(tokens, id, T * sizeof *id);
    memcpy(targets, id + 1, T * sizeof *id);
    targets[(step + row) % T] = -1;
}

typedef struct Feed {
    const Grid *grid;
    int64_t step;
    int B;
    int32_t tokens[ROWS * T], targets[ROWS * T];
} Feed;

static bool next_batch(void *ctx, int64_t i, Batch *b, Err *e) {
    (void)e;
    Feed *f = ctx;
    const int64_t first = (i * f->grid->dp + f->grid->dp_rank) * f->B;
    for (int r = 0; r < f->B; r++) fill_row(f->tokens + r * T, f->targets + r * T, f->step, first + r);
    *b = (Batch){.tokens = f->tokens,
                 .targets = f->targets,
                 .B = f->B,
                 .T = T,
                 .step = (uint64_t)f->step,
                 .first_row = (uint64_t)first,
                 .seed = 5};
    return true;
}

typedef struct Curve {
    double loss[STEPS], norm[STEPS];
} Curve;

/* Trains; the model is the caller's to free. */
static Gpt *train(const Case *c, Comm *comm, const Grid *g, int B, Curve *out) {
    Err e = {0};
    const Config all = config_of(c);
    const int64_t micro_steps = ROWS / B / g->dp;
    const GptOptions o = {.ops = &cpu_ops,
                          .grid = *g,
                          .comm = comm,
                          .compute = c->compute,
                          .train = true,
                          .B = B,
                          .T = T,
                          .recompute = c->recompute,
                          .sequence_parallel = c->sequence,
                          .interleave = c->interleave,
                          .zero = c->zero,
                          .bucket_bytes = 60000,
                          .micro_steps = micro_steps};
    GptMemory need;
    Optim optim;
    Gpt *m = gpt_create(&all.model, &o, &e);
    CHECK(m && gpt_memory(&all.model, &o, &need, &e) && optim_create(&optim, m, &all, &e), "%s", e.msg);
    CHECK(optim.elements * (g->dp > 1 && c->zero ? g->dp : 1) == gpt_elements(m));
    gpt_init(m, 42);
    Feed feed = {.grid = g, .B = B};
    for (int s = 0; s < STEPS; s++) {
        feed.step = s;
        CHECK(gpt_accumulate(m, micro_steps, next_batch, &feed, 1.0f / (ROWS * T), &e), "%s", e.msg);
        optim_judge(&optim, m, &all, 1.0 / (ROWS * T), INFINITY, 0);
        optim_step(&optim, m, &all, 3e-3, (uint64_t)s + 1);
        const Verdict v = optim_verdict(&optim);
        out->loss[s] = v.loss, out->norm[s] = v.grad_norm;
    }
    optim_free(&optim);
    gpt_weights_share(m, true);
    return m;
}

/* ---- against one process --------------------------------------------------------------------------------- */

typedef struct Reference {
    bool made;
    Curve curve;
    Gpt *m;
} Reference;
static Reference references[3][2][2];

static const Reference *reference(const Case *c) {
    Reference *r = &references[c->type][c->drop][c->compute];
    const Case alone = {.dp = 1, .pp = 1, .tp = 1, .type = c->type, .drop = c->drop, .compute = c->compute};
    const Grid g = GRID_OF_ONE;
    if (!r->made) r->m = train(&alone, NULL, &g, 2, &r->curve);
    r->made = true;
    return r;
}

static double worst_of(const double *a, const double *b) {
    double worst = 0;
    for (int s = 0; s < STEPS; s++) {
        const double d = fabs(a[s] - b[s]) / fabs(b[s]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

/* The root of the sum of squares of what this rank's weights differ by, relative to their size. */
static double weights_differ(const Gpt *m, const Gpt *whole) {
    int n, all;
    const Param *p = gpt_table(m, &n), *q = gpt_table(whole, &all);
    double diff = 0, size = 0;
    for (const Param *end = p + n; p < end; p++) {
        const Param *same = q;
        while (same->row != p->row) same++;
        const float *a = gpt_weights(m) + p->at, *b = gpt_weights(whole) + same->at + p->first;
        for (int64_t o = 0; o < p->outer; o++)
            for (int64_t i = 0; i < p->inner; i++) {
                const double x = a[o * p->inner + i], y = b[o * p->pitch + i];
                diff += (x - y) * (x - y), size += y * y;
            }
    }
    return sqrt(diff / size);
}

static void print_case(const Case *c) {
    static const char *const recompute[] = {"none", "gelu", "block"};
    printf("%d x %d x %d", c->dp, c->pp, c->tp);
    if (c->zero) printf(" zero %d", c->zero);
    if (c->interleave > 1) printf(" interleave %d", c->interleave);
    if (c->sequence) printf(" sequence");
    printf(" %s %s%s %s", types[c->type], dtype_names[c->compute], c->drop ? " dropout" : "",
           recompute[c->recompute]);
}

/* In fp32 only the order of sums differs. In bf16 so does what is rounded: sums over a tensor group are made of
 * rounded parts. */
static void try_case(const Case *c) {
    /* Of losses, norms and weights: a few times what was seen on all grids of up to eight ranks. */
    static const double bound[2][3] = {{1e-6, 1e-5, 1e-4}, {1e-3, 2e-2, 3e-2}};
    Err e = {0};
    const Grid g = grid_at(c->dp, c->pp, c->tp, comm_world_rank());
    if (g.ranks > comm_world()) return;
    Comm *comm = comm_open(&g, &cpu_ops, false, &e);
    CHECK(comm, "%s", e.msg);
    if (g.rank < g.ranks) {
        const Reference *r = reference(c);
        Curve curve;
        Gpt *m = train(c, comm, &g, 1, &curve);
        double d[3] = {worst_of(curve.loss, r->curve.loss), worst_of(curve.norm, r->curve.norm),
                       weights_differ(m, r->m)};
        comm_host_max(comm, d, 3);
        const double *most = bound[c->compute];
        const bool ok = d[0] <= most[0] && d[1] <= most[1] && d[2] <= most[2];
        ok ? passed++ : failed++;
        if (grid_is_root(&g)) {
            printf("%s", ok ? "ok      " : "FAILED  ");
            print_case(c);
            printf(": loss %.1e, norm %.1e, weights %.1e\n", d[0], d[1], d[2]);
        }
        gpt_free(m);
    }
    comm_close(comm);
}

/* ---- all of them ----------------------------------------------------------------------------------------- */

/* A grid with its options, and the models in turn, or all. */
static void try_models(Case c, bool all) {
    static int turn;
    const int models = 3 * 2 * 3; /* types, dropout, recompute */
    for (int i = 0; i < models; i++) {
        if (!all && i != turn % models) continue;
        c.type = i % 3, c.drop = i / 3 % 2, c.recompute = (Recompute)(i / 6);
        c.compute = DT_F32;
        try_case(&c);
        if (c.recompute != RECOMPUTE_GELU && !all) continue;
        c.compute = DT_BF16;
        try_case(&c);
    }
    turn += 7; /* prime to the number of models */
}

int main(void) {
    Err e = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!comm_start(&e) || !cpu_ops.start(1, &e)) return printf("%s\n", e.msg), 1;
    const char *which = getenv("GRIDS");
    const bool all = which && !strcmp(which, "all"), whole = which && !strcmp(which, "whole");
    const int most = comm_world(), fewest = whole ? most : 1;
    for (int dp = 1; dp <= 4; dp *= 2)
        for (int pp = 1; pp <= 4; pp *= 2)
            for (int tp = 1; tp <= 4; tp *= 2)
                for (int zero = 0; zero <= (dp > 1 ? 2 : 0); zero++)
                    for (int v = 1; v <= (pp > 1 ? 2 : 1); v++)
                        for (int s = 0; s <= (tp > 1); s++)
                            if (dp * pp * tp >= fewest && dp * pp * tp <= most)
                                try_models((Case){.dp = dp,
                                                  .pp = pp,
                                                  .tp = tp,
                                                  .zero = zero,
                                                  .interleave = v,
                                                  .sequence = s},
                                           all);
    if (comm_world_rank() == 0) printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    for (Reference *r = &references[0][0][0]; r < &references[0][0][0] + 12; r++) gpt_free(r->m);
    comm_stop();
    return failed > 0;
}
