/* plan_text.c - floor 5: see plan.h. Plans as people, and programs, read them. */
#include "plan.h"

#include "checkpoint.h"
#include "tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { RANKED = 10 };

/* Everything there is to say. */
typedef struct Report {
    const Config *c;
    const PlanAsk *ask;
    Plan own; /* the config's own grid; days 0: it cannot be, and why tells */
    bool own_fits;
    Err why;
    Plan best[RANKED];
    int n;
} Report;

static double steps_of(const Report *r) {
    const double a_step = (double)r->c->train.global_batch_size * (double)r->c->train.seq_len;
    return r->ask->tokens > 0 ? r->ask->tokens / a_step : (double)r->c->train.max_steps;
}

static double tokens_of(const Report *r) {
    return steps_of(r) * (double)r->c->train.global_batch_size * (double)r->c->train.seq_len;
}

static double speed(const Report *r, const Plan *p) {
    return (double)r->c->train.global_batch_size * (double)r->c->train.seq_len / p->cost.seconds;
}

static double mfu(const Report *r, const Plan *p) {
    return p->cost.model_flops / p->cost.seconds / r->ask->gpus / r->ask->gpu->tensor;
}

static double price_of(const Report *r, const Plan *p) {
    return p->days * 24 * r->ask->gpus * r->ask->price;
}

/* ---- text ------------------------------------------------------------------------------------------------ */

static const char *seconds_text(double s, char text[24]) {
    if (s >= 1)
        snprintf(text, 24, "%.2f s", s);
    else
        snprintf(text, 24, "%.*f ms", s < 0.01 ? 2 : 1, 1e3 * s);
    return text;
}

static void put_model(Str *out, const Report *r) {
    const Gpu *g = r->ask->gpu;
    char b[6][24];
    str_printf(out, "%s: %s parameters, %s tokens in %.0f steps of %lld x %lld\n",
               *r->c->name ? r->c->name : "model", human_count((double)gpt_count(&r->c->model, true), b[0]),
               human_count(tokens_of(r), b[1]), steps_of(r), (long long)r->c->train.global_batch_size,
               (long long)r->c->train.seq_len);
    str_printf(
        out, "%d x %s: %.0f TFLOP/s in bf16, memory %.2f TB/s, %.0f GB/s within a node of %d, %.4g beyond\n",
        r->ask->gpus, g->title, g->tensor / 1e12, g->bandwidth / 1e12, g->link / 1e9, g->node,
        g->network / 1e9);
}

static void put_choices(Str *out, const GptOptions *o) {
    str_printf(out, "data %d, pipeline %d", o->grid.dp, o->grid.pp);
    if (o->interleave > 1) str_printf(out, " of %d chunks", o->interleave);
    str_printf(out, ", tensor %d%s, zero %d, %lld micro step%s of %d sequence%s, recompute %s", o->grid.tp,
               o->sequence_parallel ? " with sequence parallel" : "", o->zero, (long long)o->micro_steps,
               o->micro_steps == 1 ? "" : "s", o->B, o->B == 1 ? "" : "s", recompute_names[o->recompute]);
}

static void put_bytes(Str *out, const char *what, double bytes) {
    char b[24];
    str_printf(out, "  %-26s %12s\n", what, human_bytes(bytes, b));
}

/* Activations, and the workspaces that change with them, of this stage if backward computes so much again. */
static double activations_of(const Report *r, const Plan *p, Recompute recompute) {
    GptOptions o = p->o;
    GptMemory m;
    Err ignored = {0};
    o.recompute = recompute;
    o.grid = grid_at(o.grid.dp, o.grid.pp, o.grid.tp, p->stage * o.grid.dp * o.grid.tp);
    return gpt_memory(&r->c->model, &o, &m, &ignored) ? (double)(m.activations + m.workspace) : 0;
}

static void put_memory(Str *out, const Report *r, const Plan *p) {
    const GptMemory *m = &p->memory;
    char b[5][24];
    str_printf(out, "\nmemory of a GPU");
    if (p->o.grid.pp > 1) str_printf(out, " (of stage %d, which needs most)", p->stage);
    str_puts(out, "\n");
    put_bytes(out, "weights", (double)m->weights);
    put_bytes(out, "  in bf16", (double)m->mirror);
    put_bytes(out, "gradients", (double)m->gradients);
    put_bytes(out, "optimizer", (double)p->optimizer);
    put_bytes(out, "prepared", (double)m->prepared);
    put_bytes(out, "activations", (double)m->activations);
    put_bytes(out, "workspace", (double)m->workspace);
    put_bytes(out, "all", (double)p->total);
    str_printf(out, "  of %s; the last two by recompute: none %s, gelu %s, block %s\n",
               human_bytes(plan_room(r->ask), b[0]), human_bytes(activations_of(r, p, RECOMPUTE_NONE), b[1]),
               human_bytes(activations_of(r, p, RECOMPUTE_GELU), b[2]),
               human_bytes(activations_of(r, p, RECOMPUTE_BLOCK), b[3]));
}

static void put_part(Str *out, const char *what, double seconds, double all, const char *more) {
    char b[24];
    str_printf(out, "  %-26s %12s %5.1f %%%s\n", what, seconds_text(seconds, b), 100 * seconds / all, more);
}

static void put_time(Str *out, const Report *r, const Plan *p) {
    const Cost *c = &p->cost;
    char b[4][24], more[96];
    str_printf(out, "\na step\n");
    snprintf(more, sizeof more, "   %.4g PFLOPs; for MFU %.4g count (6 N + 6 L C T a token)",
             c->hardware_flops / 1e15, c->model_flops / 1e15);
    put_part(out, "computing", c->compute, c->seconds, more);
    for (int i = 0; i < N_TRAFFIC; i++) {
        const Traffic *t = &c->traffic[i];
        if (t->bytes == 0) continue;
        snprintf(more, sizeof more, "   %s a GPU, %s, of which %s hidden", human_bytes(t->bytes, b[0]),
                 seconds_text(t->seconds, b[1]), seconds_text(fmax(0, t->seconds - t->exposed), b[2]));
        snprintf(b[3], sizeof b[3], "waiting: %s", traffic_names[i]);
        put_part(out, b[3], t->exposed, c->seconds, more);
    }
    if (p->o.grid.pp > 1) put_part(out, "pipeline's bubble", c->bubble, c->seconds, "");
    put_part(out, "optimizer", c->optimizer, c->seconds, "");
    put_part(out, "all", c->seconds, c->seconds, "");
    str_printf(out, "\n%s tokens/s a GPU, %s in all; MFU %.1f %%; %.4g days",
               human_count(speed(r, p) / r->ask->gpus, b[0]), human_count(speed(r, p), b[1]), 100 * mfu(r, p),
               p->days);
    if (r->ask->price > 0) str_printf(out, "; costs %.0f at %g a GPU hour", price_of(r, p), r->ask->price);
    str_puts(out, "\n");
}

/* What makes training do as this plan says. */
static void put_settings(Str *out, const GptOptions *o) {
    str_printf(out, "--set parallel.tensor=%d parallel.pipeline=%d parallel.data=%d parallel.zero=%d",
               o->grid.tp, o->grid.pp, o->grid.dp, o->zero);
    str_printf(out, " parallel.sequence_parallel=%s parallel.interleave=%d",
               o->sequence_parallel ? "true" : "false", o->interleave > 1 ? o->interleave : 1);
    str_printf(out, " train.micro_batch_size=%d train.recompute=%s", o->B, recompute_names[o->recompute]);
}

static void put_ranking(Str *out, const Report *r) {
    char b[2][24];
    str_printf(out, "\n%8s %6s %10s %10s  %s\n", "days", "MFU %", "tok/s/GPU", "memory",
               "the best of each grid that fits");
    for (int i = 0; i < r->n; i++) {
        const Plan *p = &r->best[i];
        str_printf(out, "%8.4g %6.1f %10s %10s  ", p->days, 100 * mfu(r, p),
                   human_count(speed(r, p) / r->ask->gpus, b[0]), human_bytes((double)p->total, b[1]));
        put_choices(out, &p->o);
        str_puts(out, "\n");
    }
    str_puts(out, "\nthe first of these: ");
    put_settings(out, &r->best[0].o);
    str_puts(out, "\n");
}

static void put_text(Str *out, const Report *r) {
    char b[2][24];
    const Plan *shown = r->own_fits ? &r->own : &r->best[0];
    put_model(out, r);
    if (!r->own.days)
        str_printf(out, "\nnot as it stands: %s\n", r->why.msg);
    else if (!r->own_fits)
        str_printf(out, "\nnot as it stands: needs %s of %s a GPU\n", human_bytes((double)r->own.total, b[0]),
                   human_bytes(plan_room(r->ask), b[1]));
    str_printf(out, "\n%s: ", r->own_fits ? "as it stands" : "the best");
    put_choices(out, &shown->o);
    str_puts(out, "\n");
    put_memory(out, r, shown);
    put_time(out, r, shown);
    put_ranking(out, r);
}

/* ---- JSON ------------------------------------------------------------------------------------------------ */

static void put_plan_json(Str *out, const Report *r, const Plan *p) {
    const GptOptions *o = &p->o;
    const GptMemory *m = &p->memory;
    str_printf(out, "{\"data\": %d, \"pipeline\": %d, \"tensor\": %d, \"zero\": %d", o->grid.dp, o->grid.pp,
               o->grid.tp, o->zero);
    str_printf(
        out,
        ", \"sequence_parallel\": %s, \"interleave\": %d, \"micro_batch_size\": %d, \"recompute\": \"%s\"",
        o->sequence_parallel ? "true" : "false", o->interleave > 1 ? o->interleave : 1, o->B,
        recompute_names[o->recompute]);
    str_printf(out, ", \"days\": %.17g, \"mfu\": %.17g, \"tokens_per_second\": %.17g", p->days, mfu(r, p),
               speed(r, p));
    if (r->ask->price > 0) str_printf(out, ", \"price\": %.17g", price_of(r, p));
    str_printf(out, ", \"stage\": %d, \"memory\": {\"weights\": %zu, \"mirror\": %zu, \"gradients\": %zu",
               p->stage, m->weights, m->mirror, m->gradients);
    str_printf(
        out,
        ", \"optimizer\": %zu, \"prepared\": %zu, \"activations\": %zu, \"workspace\": %zu, \"all\": %zu}",
        p->optimizer, m->prepared, m->activations, m->workspace, p->total);
    str_printf(out,
               ", \"step\": {\"seconds\": %.17g, \"compute\": %.17g, \"bubble\": %.17g, \"optimizer\": %.17g",
               p->cost.seconds, p->cost.compute, p->cost.bubble, p->cost.optimizer);
    str_printf(out, ", \"model_flops\": %.17g, \"hardware_flops\": %.17g", p->cost.model_flops,
               p->cost.hardware_flops);
    for (int i = 0; i < N_TRAFFIC; i++) {
        const Traffic *t = &p->cost.traffic[i];
        str_printf(out, ", \"%s\": {\"bytes\": %.17g, \"seconds\": %.17g, \"exposed\": %.17g}",
                   traffic_names[i], t->bytes, t->seconds, t->exposed);
    }
    str_puts(out, "}}");
}

static void put_json(Str *out, const Report *r) {
    str_printf(out,
               "{\"gpu\": \"%s\", \"gpus\": %d, \"parameters\": %lld, \"tokens\": %.17g, \"room\": %.17g",
               r->ask->gpu->name, r->ask->gpus, (long long)gpt_count(&r->c->model, true), tokens_of(r),
               plan_room(r->ask));
    str_puts(out, ", \"as_it_stands\": ");
    if (r->own.days > 0)
        put_plan_json(out, r, &r->own);
    else
        str_puts(out, "null");
    str_puts(out, ", \"best\": [");
    for (int i = 0; i < r->n; i++) {
        if (i) str_puts(out, ", ");
        put_plan_json(out, r, &r->best[i]);
    }
    str_puts(out, "], \"set\": \"");
    put_settings(out, &r->best[0].o);
    str_puts(out, "\"}\n");
}

/* ---- the config as it stands ----------------------------------------------------------------------------- */

static bool resolve_model(Config *c, Err *e) {
    if (*c->init_from && !model_config_of(c->init_from, &c->model, e)) return false;
    if (!c->model.vocab_size && *c->tokenizer) {
        Tokenizer *t = tokenizer_open(c->tokenizer, e);
        if (!t) return false;
        c->model.vocab_size = tokenizer_size(t);
        tokenizer_free(t);
    }
    if (!c->model.vocab_size)
        return err_usage(e,
                         "config: model.vocab_size is not given, and there is no tokenizer to take it from");
    if (!c->train.seq_len) c->train.seq_len = c->model.n_positions;
    return config_check(c, e);
}

/* The grid that the config asks for, on so many GPUs. */
static bool plan_own(Report *r, Dtype compute, Err *e) {
    const Config *c = r->c;
    const int64_t tp = c->parallel.tensor, pp = c->parallel.pipeline, rest = r->ask->gpus / (tp * pp);
    const int64_t dp = c->parallel.data ? c->parallel.data : rest;
    if (dp * pp * tp != r->ask->gpus)
        return err_usage(e, "config: parallel.tensor %lld x pipeline %lld x data %lld is not %d GPUs",
                         (long long)tp, (long long)pp, (long long)dp, r->ask->gpus);
    if (c->train.global_batch_size % dp)
        return err_usage(e, "config: %lld data ranks do not divide train.global_batch_size %lld",
                         (long long)dp, (long long)c->train.global_batch_size);
    const Grid g = grid_at((int)dp, (int)pp, (int)tp, 0);
    if (c->train.micro_batch_size && c->train.global_batch_size / dp % c->train.micro_batch_size)
        return err_usage(e,
                         "config: train.micro_batch_size %lld does not divide a data rank's %lld sequences",
                         (long long)c->train.micro_batch_size, (long long)(c->train.global_batch_size / dp));
    const GptOptions o = plan_options(c, &ops_to_plan, compute, &g);
    return plan_make(&r->own, c, r->ask, &o, e);
}

bool plan_report(Config *c, const PlanAsk *ask, bool json, Str *out, Err *e) {
    Report r = {.c = c, .ask = ask};
    Dtype compute;
    if (!resolve_model(c, e) || !ops_precision(&ops_to_plan, c->train.precision, &compute, e)) return false;
    if (compute == DT_F8 && !ask->gpu->fp8)
        return err_usage(e, "config: train.precision fp8: %s has none; bf16 and fp32 work", ask->gpu->title);
    if (!plan_own(&r, compute, &r.why)) r.own = (Plan){0};
    r.own_fits = r.own.days > 0 && (double)r.own.total <= plan_room(ask);
    r.n = plan_search(r.best, RANKED, c, ask, e);
    if (!r.n) return false;
    (json ? put_json : put_text)(out, &r);
    return true;
}
