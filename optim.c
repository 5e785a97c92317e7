/* optim.c - floor 4: see optim.h. */
#include "optim.h"

#include <math.h>
#include <string.h>

size_t optim_bytes(int64_t elements) {
    return 2 * (size_t)elements * sizeof(float);
}

bool optim_create(Optim *o, const Gpt *m, Err *e) {
    *o = (Optim){.ops = gpt_options(m)->ops, .elements = gpt_elements(m)};
    o->m = o->ops->alloc(optim_bytes(o->elements), "optimizer state", e);
    if (!o->m) return false;
    o->v = o->m + o->elements;
    o->verdict = o->ops->alloc(sizeof *o->verdict + sizeof *o->squares, "optimizer state", e);
    if (!o->verdict) return optim_free(o), false;
    o->squares = (double *)(o->verdict + 1);
    return true;
}

void optim_free(Optim *o) {
    if (o->m) o->ops->release(o->m), o->ops->release(o->verdict);
    *o = (Optim){0};
}

void optim_judge(Optim *o, const Gpt *m, const Config *c, double scale, double worst) {
    o->ops->sum_squares(o->squares, gpt_gradients(m), o->elements, false);
    o->ops->judge(o->verdict, gpt_loss_sum(m), o->squares, scale, worst, c->optimizer.max_grad_norm);
}

Verdict optim_verdict(const Optim *o) {
    Verdict v;
    o->ops->to_host(&v, o->verdict, sizeof v);
    return v;
}

/* One call for each unbroken run of rows with this decay (what lies between them is padding: zeros, and stays
 * zeros). The table's order within memory makes that one call for the matrices and one for the rest. */
static void step_rows(Optim *o, Gpt *m, bool decay, AdamW a) {
    int n;
    const Param *table = gpt_table(m, &n);
    float *w = gpt_weights(m);
    uint16_t *mirror = gpt_mirror(m);
    const float *g = gpt_gradients(m);
    int64_t at = 0, end = 0;
    for (int i = 0; i <= n; i++) {
        const Param *p = i < n ? &table[i] : NULL;
        if (p && p->decay != decay) continue;
        if (!p || p->at != (end + 15) / 16 * 16) {
            a.first = (uint64_t)at;
            if (end > at)
                o->ops->adamw(w + at, o->m + at, o->v + at, g + at, mirror ? mirror + at : NULL, end - at, &a,
                              o->verdict);
            at = p ? p->at : end;
        }
        if (p) end = p->at + p->padded;
    }
}

void optim_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step) {
    AdamW a = {.lr = (float)lr,
               .beta1 = (float)c->optimizer.betas[0],
               .beta2 = (float)c->optimizer.betas[1],
               .eps = (float)c->optimizer.eps,
               .step = step,
               .stochastic = c->optimizer.stochastic_rounding,
               .seed = (uint64_t)c->train.seed};
    step_rows(o, m, false, a);
    a.weight_decay = (float)c->optimizer.weight_decay;
    step_rows(o, m, true, a);
    gpt_weights_changed(m, gpt_mirror(m) != NULL);
}

double lr_at(const Config *c, int64_t step) {
    double lr = c->optimizer.lr, min = c->lr_schedule.min_lr;
    int64_t warmup = c->lr_schedule.warmup_steps, end = c->train.max_steps,
            decay = c->lr_schedule.decay_steps;
    const char *name = c->lr_schedule.name;
    if (step < warmup) return lr * (double)step / (double)warmup;
    if (!strcmp(name, "constant")) return lr;
    int64_t from = !strcmp(name, "wsd") ? end - decay : warmup; /* the last step at the full rate */
    if (step <= from) return lr;
    double left = step < end ? (double)(end - step) / (double)(end - from) : 0; /* from 1 to 0 */
    if (!strcmp(name, "cosine")) return min + (lr - min) * (1 - cos(M_PI * left)) / 2;
    return min + (lr - min) * left;
}
