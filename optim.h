/* optim.h - floor 4: the optimizer's state and step, clipping, learning-rate schedules. */
#ifndef GPT_OPTIM_H
#define GPT_OPTIM_H

#include "gpt.h"

typedef struct Optim {
    const Ops *ops;
    float *m, *v; /* [elements] each, same layout as the weights; zeros at first */
    int64_t elements;
} Optim;

size_t optim_bytes(int64_t elements);
bool optim_create(Optim *o, const Gpt *m, Err *e);
void optim_free(Optim *o);

/* Global norm of all gradients (fixed order, double). */
double optim_grad_norm(const Gpt *m);
/* One AdamW step over the parameter table: decay on the rows that say so, gradients scaled so that their norm
 * is at most max_grad_norm (0: no clipping). `step` from 1. Ends with gpt_weights_changed. */
void optim_step(Optim *o, Gpt *m, const Config *c, double lr, double grad_norm, uint64_t step);

/* Learning rate of step 1, 2, ..., max_steps. Warmup is linear from lr/warmup_steps to lr. After it: "cosine"
 * and "linear" go to min_lr at max_steps, "constant" stays, "wsd" stays and goes linearly to min_lr over the
 * last decay_steps (Hu et al. 2024). */
double lr_at(const Config *c, int64_t step);

#endif
