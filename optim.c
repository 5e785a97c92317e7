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
    return true;
}

void optim_free(Optim *o) {
    if (o->m) o->ops->release(o->m);
    *o = (Optim){0};
}

double optim_grad_norm(const Gpt *m) {
    return sqrt(gpt_options(m)->ops->sum_squares(gpt_gradients(m), gpt_elements(m)));
}

/* One call for each unbroken run of rows with this decay (what lies between them is padding: zeros, and stays
 * zeros). The table's order within memory makes that one call for the matrices and one for the rest. */
static void step_rows(Optim *o, Gpt *m, bool decay, const AdamW *a) {
    int n;
    const Param *table = gpt_table(m, &n);
    float *w = gpt_weights(m);
    const float *g = gpt_gradients(m);
    int64_t at = 0, end = 0;
    for (int i = 0; i <= n; i++) {
        const Param *p = i < n ? &table[i] : NULL;
        if (p && p->decay != decay) continue;
        if (!p || p->at != (end + 15) / 16 * 16) {
            if (end > at) o->ops->adamw(w + at, o->m + at, o->v + at, g + at, end - at, a);
            at = p ? p->at : end;
        }
        if (p) end = p->at + p->padded;
    }
}

void optim_step(Optim *o, Gpt *m, const Config *c, double lr, double grad_norm, uint64_t step) {
    double max = c->optimizer.max_grad_norm;
    AdamW a = {.lr = (float)lr,
               .beta1 = (float)c->optimizer.betas[0],
               .beta2 = (float)c->optimizer.betas[1],
               .eps = (float)c->optimizer.eps,
               .grad_scale = max > 0 && grad_norm > max ? (float)(max / grad_norm) : 1,
               .step = step};
    step_rows(o, m, false, &a);
    a.weight_decay = (float)c->optimizer.weight_decay;
    step_rows(o, m, true, &a);
    gpt_weights_changed(m);
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
