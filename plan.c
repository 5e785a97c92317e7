/* plan.c - floor 5: see plan.h. plan_text.c prints it. */
#include "plan.h"

#include "cuda_sizes.h"
#include "optim.h"

#include <math.h>
#include <string.h>

/* ---- one grid -------------------------------------------------------------------------------------------- */

const char *const recompute_names[] = {"none", "gelu", "block"};

int64_t plan_micro_batch(const Config *c, int dp) {
    const int64_t share = c->train.global_batch_size / dp;
    int64_t best = 1;
    for (int64_t b = 1; b <= share && b * c->train.seq_len <= 4096; b++)
        if (share % b == 0) best = b;
    return best;
}

GptOptions plan_options(const Config *c, const Ops *ops, Dtype compute, const Grid *g) {
    const int64_t B = c->train.micro_batch_size ? c->train.micro_batch_size : plan_micro_batch(c, g->dp);
    Recompute recompute = RECOMPUTE_NONE;
    while (strcmp(c->train.recompute, recompute_names[recompute])) recompute++;
    return (GptOptions){.ops = ops,
                        .grid = *g,
                        .sequence_parallel = c->parallel.sequence_parallel && g->tp > 1,
                        .interleave = (int)c->parallel.interleave,
                        .zero = g->dp > 1 ? (int)c->parallel.zero : 0,
                        .bucket_bytes = c->parallel.bucket_mb << 20,
                        .micro_steps = c->train.global_batch_size / g->dp / B,
                        .compute = compute,
                        .train = true,
                        .B = (int)B,
                        .T = (int)c->train.seq_len,
                        .recompute = recompute};
}

bool plan_memory(const Config *c, const GptOptions *o, GptMemory *m, size_t *optimizer, size_t *total,
                 Err *e) {
    if (!gpt_memory(&c->model, o, m, e)) return false;
    *optimizer = optim_bytes(c, o);
    *total = m->weights + m->mirror + m->gradients + m->prepared + m->activations + m->workspace + *optimizer;
    return true;
}

double plan_room(const PlanAsk *ask) {
    enum { CONTEXT_MIB = 512, NCCL_MIB = 1024 };
    const double mib = 1 << 20, others = CONTEXT_MIB + (ask->gpus > 1 ? NCCL_MIB : 0);
    return ask->gpu->memory - (double)CUDA_RESERVE_BYTES - others * mib;
}

/* The stage whose ranks need most, or the first that needs more than `enough`. */
static bool fullest_stage(Plan *p, const Config *c, double enough, Err *e) {
    GptOptions o = p->o;
    p->total = 0;
    for (int stage = 0; stage < o.grid.pp && (double)p->total <= enough; stage++) {
        GptMemory m;
        size_t optimizer, total;
        o.grid = grid_at(o.grid.dp, o.grid.pp, o.grid.tp, stage * o.grid.dp * o.grid.tp);
        if (!plan_memory(c, &o, &m, &optimizer, &total, e)) return false;
        if (total <= p->total) continue;
        p->stage = stage, p->memory = m, p->optimizer = optimizer, p->total = total;
    }
    return true;
}

static Job job_of(const Config *c, const PlanAsk *ask, const GptOptions *o) {
    return (Job){.model = &c->model,
                 .o = *o,
                 .muon = !strcmp(c->optimizer.name, "muon"),
                 .gpu = ask->gpu,
                 .habits = &gpt_habits,
                 .efficiency = COST_EFFICIENCY};
}

static double tokens_a_step(const Config *c) {
    return (double)c->train.global_batch_size * (double)c->train.seq_len;
}

static void add_time(Plan *p, const Config *c, const PlanAsk *ask) {
    const Job j = job_of(c, ask, &p->o);
    const double steps = ask->tokens > 0 ? ask->tokens / tokens_a_step(c) : (double)c->train.max_steps;
    p->cost = cost_of(&j);
    p->days = steps * p->cost.seconds / 86400;
}

/* What gpt_grid_check does not know: the batch, and the optimizer. */
static bool check_share(const Config *c, const GptOptions *o, Err *e) {
    const int64_t batch = c->train.global_batch_size, dp = o->grid.dp;
    if (batch % (dp * o->B))
        return err_usage(e,
                         "config: train.global_batch_size %lld is not a multiple of %lld data ranks times "
                         "micro batches of %d",
                         (long long)batch, (long long)dp, o->B);
    if (!strcmp(c->optimizer.name, "muon") && (o->grid.tp > 1 || o->zero))
        return err_usage(e,
                         "config: optimizer.name=muon steps whole matrices: parallel.tensor must be 1, and "
                         "parallel.zero 0");
    return true;
}

bool plan_make(Plan *p, const Config *c, const PlanAsk *ask, const GptOptions *o, Err *e) {
    *p = (Plan){.o = *o};
    if (!check_share(c, o, e) || !gpt_grid_check(&c->model, o, e) || !fullest_stage(p, c, INFINITY, e))
        return false;
    add_time(p, c, ask);
    return true;
}

/* ---- all grids ------------------------------------------------------------------------------------------- */

typedef struct Search {
    const Config *c;
    const PlanAsk *ask;
    double room;
    Plan *best; /* [most], the soonest first */
    int n, most;
    Plan leanest; /* of those that do not fit; total 0: all do */
} Search;

static void keep(Search *s, const Plan *p) {
    int at = s->n;
    while (at > 0 && s->best[at - 1].days > p->days) at--;
    if (at == s->most) return;
    if (s->n < s->most) s->n++;
    memmove(&s->best[at + 1], &s->best[at], (size_t)(s->n - 1 - at) * sizeof *p);
    s->best[at] = *p;
}

/* The soonest of these options, with each way to save memory that they leave open, into *best. */
static void try_options(Search *s, GptOptions o, Plan *best) {
    const bool muon = !strcmp(s->c->optimizer.name, "muon");
    Err ignored = {0};
    if (!gpt_grid_check(&s->c->model, &o, &ignored)) return;
    for (o.recompute = RECOMPUTE_NONE; o.recompute <= RECOMPUTE_BLOCK; o.recompute++)
        for (o.zero = 0; o.zero <= (o.grid.dp > 1 && !muon ? 2 : 0); o.zero++) {
            Plan p = {.o = o};
            Err e = {0};
            add_time(&p, s->c, s->ask);
            if (best->days > 0 && p.days >= best->days) continue;
            if (!fullest_stage(&p, s->c, s->room, &e)) return;
            if ((double)p.total <= s->room)
                *best = p;
            else if (!s->leanest.total || p.total < s->leanest.total)
                s->leanest = p;
        }
}

/* Micro batches from large to small, chunks of stages from one on, with and without slices of the rows. */
static void try_grid(Search *s, const Grid *g) {
    const Config *c = s->c;
    const int64_t share = c->train.global_batch_size / g->dp;
    Plan best = {0};
    GptOptions o = plan_options(c, &ops_to_plan, DT_BF16, g);
    ops_precision(&ops_to_plan, c->train.precision, &o.compute, &(Err){0});
    for (int64_t B = 1; B <= share && B * c->train.seq_len <= 65536; B *= 2) {
        if (share % B) continue;
        o.B = (int)B, o.micro_steps = c->train.global_batch_size / g->dp / B;
        for (o.interleave = 1; o.interleave * g->pp <= c->model.n_layer; o.interleave++) {
            if (o.interleave > 1 && c->model.n_layer % (o.interleave * g->pp)) continue;
            for (int slices = 0; slices <= (g->tp > 1); slices++) {
                o.sequence_parallel = slices;
                try_options(s, o, &best);
            }
        }
    }
    if (best.days > 0) keep(s, &best);
}

static int none_fits(const Search *s, Err *e) {
    const PlanAsk *ask = s->ask;
    char need[24], have[24];
    if (s->leanest.total)
        err_set(
            e,
            "no grid of %d %s holds this model: the leanest needs over %s on a GPU, and %s are there; use "
            "more GPUs",
            ask->gpus, ask->gpu->name, human_bytes((double)s->leanest.total, need),
            human_bytes(s->room, have));
    else
        err_usage(
            e,
            "no grid of %d GPUs divides this run: tensor ranks must divide %lld heads and a node of %d, "
            "stages are at most its %lld layers, and data ranks must divide the batch of %lld sequences",
            ask->gpus, (long long)s->c->model.n_head, ask->gpu->node, (long long)s->c->model.n_layer,
            (long long)s->c->train.global_batch_size);
    return 0;
}

int plan_search(Plan *best, int most, const Config *c, const PlanAsk *ask, Err *e) {
    Search s = {.c = c, .ask = ask, .room = plan_room(ask), .best = best, .most = most};
    for (int tp = 1; tp <= ask->gpu->node && tp <= ask->gpus; tp++) {
        if (ask->gpus > ask->gpu->node && ask->gpu->node % tp)
            continue; /* a group would straddle two nodes */
        for (int pp = 1; pp <= c->model.n_layer && pp <= ask->gpus / tp; pp++) {
            const int dp = ask->gpus / tp / pp;
            if (dp * pp * tp != ask->gpus || c->train.global_batch_size % dp || c->model.n_head % tp)
                continue;
            const Grid g = grid_at(dp, pp, tp, 0);
            try_grid(&s, &g);
        }
    }
    return s.n ? s.n : none_fits(&s, e);
}
