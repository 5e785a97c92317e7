/* The planner: memory to the byte of what training allocates, and the search. */
#include "plan.h"

#include "optim.h"
#include "test.h"

#include <math.h>
#include <string.h>

static Config config_of(const char *precision) {
    Config c;
    Err e = {0};
    config_defaults(&c);
    c.model.n_layer = 8, c.model.n_embd = 64, c.model.n_head = 4, c.model.n_positions = 32;
    c.model.vocab_size = 300;
    c.train.seq_len = 32, c.train.global_batch_size = 16, c.train.max_steps = 10;
    EXPECT(config_set(&c, "train.precision=bf16", &e) && strlen(precision) < sizeof c.train.precision);
    strcpy(c.train.precision, precision);
    return c;
}

static PlanAsk ask_for(const char *gpu, int gpus) {
    Err e = {0};
    const PlanAsk ask = {.gpu = gpu_find(gpu, &e), .gpus = gpus};
    EXPECT_OK(&e);
    return ask;
}

/* ---- to the byte ---- */

static size_t allocated;

static void *count_alloc(size_t bytes, const char *what, Err *e) {
    allocated += bytes;
    return cpu_ops.alloc(bytes, what, e);
}

/* What making a model and its optimizer takes from the back end is what was planned: all but what linear layers take
 * for themselves. */
static void expect_exact(const Config *c, const GptOptions *o) {
    Err e = {0};
    GptMemory m = {0};
    size_t optimizer, total = 0;
    Optim optim = {0};
    allocated = 0;
    Gpt *g = gpt_create(&c->model, o, &e);
    EXPECT_OK(&e);
    if (!g) return;
    EXPECT(optim_create(&optim, g, c, &e) && plan_memory(c, o, &m, &optimizer, &total, &e));
    EXPECT_OK(&e);
    EXPECT(allocated == total - m.prepared, "%zu, planned %zu; grid %d %d %d zero %d", allocated,
           total - m.prepared, o->grid.dp, o->grid.pp, o->grid.tp, o->zero);
    optim_free(&optim);
    gpt_free(g);
}

TEST(plan_is_what_is_allocated) {
    static char nobody;
    Ops ops = cpu_ops;
    Err e = {0};
    ops.alloc = count_alloc;
    EXPECT(ops.start(1, &e));
    for (int i = 0; i < 36; i++) {
        Config c = config_of("fp32");
        const int grids[][3] = {{1, 1, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 2, 2}, {4, 1, 2}};
        const int *n = grids[i % 6], last = n[0] * n[1] * n[2] - 1;
        const Grid g = grid_at(n[0], n[1], n[2], i / 18 ? last : 0);
        c.parallel.zero = i / 6 % 3;
        c.parallel.sequence_parallel = i % 2, c.parallel.interleave = n[1] > 1 && i / 6 % 2 ? 2 : 1;
        c.train.micro_batch_size = 2;
        strcpy(c.train.recompute, recompute_names[i / 6 % 3]);
        GptOptions o = plan_options(&c, &ops, DT_F32, &g);
        o.comm = (Comm *)&nobody; /* nothing is said while memory is taken */
        expect_exact(&c, &o);
    }
}

/* ---- options ---- */

TEST(plan_options_follow_the_config) {
    Err e = {0};
    Config c = config_of("bf16");
    const Grid g = grid_at(2, 2, 2, 5);
    EXPECT(config_set(&c, "parallel.zero=2", &e) && config_set(&c, "train.recompute=block", &e));
    EXPECT(config_set(&c, "parallel.sequence_parallel=true", &e) &&
           config_set(&c, "parallel.bucket_mb=3", &e));
    GptOptions o = plan_options(&c, &ops_to_plan, DT_BF16, &g);
    EXPECT(o.B == 8 && o.micro_steps == 1, "as many as 4096 tokens hold, of a rank's share: %d", o.B);
    EXPECT(o.zero == 2 && o.recompute == RECOMPUTE_BLOCK && o.sequence_parallel && o.train && o.T == 32);
    EXPECT(o.bucket_bytes == 3 << 20 && o.grid.rank == 5 && o.compute == DT_BF16);
    c.train.micro_batch_size = 2;
    o = plan_options(&c, &ops_to_plan, DT_BF16, &GRID_OF_ONE);
    EXPECT(o.B == 2 && o.micro_steps == 8 && o.zero == 0 && !o.sequence_parallel);
}

/* ---- plans ---- */

TEST(plan_counts_the_fullest_stage) {
    Err e = {0};
    const Config c = config_of("bf16");
    const PlanAsk ask = ask_for("h100", 8);
    GptOptions o = plan_options(&c, &ops_to_plan, DT_BF16, &(Grid){.dp = 2, .pp = 4, .tp = 1, .ranks = 8});
    o.B = 1, o.micro_steps = 8;
    Plan p;
    EXPECT(plan_make(&p, &c, &ask, &o, &e));
    EXPECT_OK(&e);
    size_t most = 0;
    for (int stage = 0; stage < 4; stage++) {
        GptMemory m;
        size_t optimizer, total;
        o.grid = grid_at(2, 4, 1, 2 * stage + 1);
        EXPECT(plan_memory(&c, &o, &m, &optimizer, &total, &e));
        if (total > most) most = total;
    }
    EXPECT(p.total == most && p.stage == 0, "the first holds most micro steps at once, and the embedding");
    EXPECT(fabs(p.days - 10 * p.cost.seconds / 86400) < 1e-12);
}

TEST(plan_memory_moves_as_it_should) {
    Err e = {0};
    Config c = config_of("bf16");
    c.model.n_embd = 256, c.parallel.bucket_mb = 1; /* a layer is a bucket */
    size_t total[4], optimizer[4];
    GptMemory m[4];
    GptOptions o = plan_options(&c, &ops_to_plan, DT_BF16, &(Grid){.dp = 4, .pp = 1, .tp = 1, .ranks = 4});
    for (int i = 0; i < 3; i++) {
        o.recompute = (Recompute)i;
        EXPECT(plan_memory(&c, &o, &m[i], &optimizer[i], &total[i], &e));
    }
    EXPECT(m[0].activations > m[1].activations && m[1].activations > m[2].activations);
    EXPECT(total[0] > total[1] && total[1] > total[2]);
    for (int i = 0; i < 3; i++) {
        o.zero = i;
        EXPECT(plan_memory(&c, &o, &m[i], &optimizer[i], &total[i], &e));
    }
    const double share = (double)optimizer[1] / (double)optimizer[0];
    EXPECT(share > 0.25 && share < 0.26, "%g", share); /* verdicts and the like are not shared */
    EXPECT(m[1].gradients == m[0].gradients && m[2].gradients < m[1].gradients &&
           optimizer[2] == optimizer[1]);
}

TEST(plan_search_ranks_what_fits) {
    Err e = {0};
    Config c = config_of("auto");
    c.model.n_embd = 4096, c.model.n_head = 32, c.model.n_layer = 32, c.model.n_positions = 2048;
    c.model.vocab_size = 50257, c.train.seq_len = 2048, c.train.global_batch_size = 64;
    const PlanAsk ask = ask_for("a100", 16);
    Plan best[6];
    const int n = plan_search(best, 6, &c, &ask, &e);
    EXPECT(n == 6);
    EXPECT_OK(&e);
    for (int i = 0; i < n; i++) {
        const Grid *g = &best[i].o.grid;
        EXPECT(g->dp * g->pp * g->tp == 16 && (double)best[i].total <= plan_room(&ask));
        EXPECT(i == 0 || best[i].days >= best[i - 1].days);
        Plan again;
        EXPECT(plan_make(&again, &c, &ask, &best[i].o, &e) && again.total == best[i].total);
        EXPECT(again.days == best[i].days);
    }
    Plan one;
    EXPECT(plan_search(&one, 1, &c, &ask, &e) == 1 && one.days == best[0].days);
}

TEST(plan_search_says_why_not) {
    Err e = {0};
    Plan p;
    Config c = config_of("bf16");
    PlanAsk ask =
        ask_for("a100-40", 13); /* divides neither 4 heads nor 16 sequences, and there are 8 layers */
    EXPECT(!plan_search(&p, 1, &c, &ask, &e));
    EXPECT_ERR(&e, "no grid of 13 GPUs divides this run");
    c.model.n_embd = 16384, c.model.n_head = 128;
    ask.gpus = 1;
    EXPECT(!plan_search(&p, 1, &c, &ask, &e));
    EXPECT_ERR(&e, "no grid of 1 a100-40 holds this model: the leanest needs over ");
}

TEST(plan_refuses_grids) {
    Err e = {0};
    Config c = config_of("bf16");
    const PlanAsk ask = ask_for("h100", 8);
    Plan p;
    GptOptions o = plan_options(&c, &ops_to_plan, DT_BF16, &(Grid){.dp = 8, .pp = 1, .tp = 1, .ranks = 8});
    o.B = 3;
    EXPECT(!plan_make(&p, &c, &ask, &o, &e));
    EXPECT_ERR(&e, "global_batch_size 16 is not a multiple of 8 data ranks times micro batches of 3");
    o.B = 1, o.zero = 1;
    strcpy(c.optimizer.name, "muon");
    EXPECT(!plan_make(&p, &c, &ask, &o, &e));
    EXPECT_ERR(&e, "optimizer.name=muon steps whole matrices");
    strcpy(c.optimizer.name, "adamw");
    o.grid = grid_at(1, 1, 8, 0);
    EXPECT(!plan_make(&p, &c, &ask, &o, &e));
    EXPECT_ERR(&e, "parallel.tensor=8 does not divide 4 heads");
}
