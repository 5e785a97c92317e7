/* optim.h - floor 4: the optimizer's state and step, clipping, learning-rate schedules. */
#ifndef GPT_OPTIM_H
#define GPT_OPTIM_H

#include "gpt.h"

typedef struct Optim {
    const Ops *ops;
    float *m, *v; /* [elements] each, same layout as the weights; zeros at first */
    int64_t elements;
    double *squares;  /* of the gradient's norm */
    Verdict *verdict; /* on the step: both in the back end's memory */
} Optim;

size_t optim_bytes(int64_t elements);
bool optim_create(Optim *o, const Gpt *m, Err *e);
void optim_free(Optim *o);

/* The verdict on the gradients and the loss that stand in m: their norm (fixed order, double), the loss as `scale` times
 * its sum, and whether the step is to be skipped, for numbers that are not finite or a loss above `worst`. Queued. */
void optim_judge(Optim *o, const Gpt *m, const Config *c, double scale, double worst);
/* One AdamW step over the parameter table, after optim_judge: decay on the rows that say so, gradients scaled so that
 * their norm is at most max_grad_norm (0: no clipping). `step` from 1. Queued. Ends with gpt_weights_changed. */
void optim_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step);
/* What optim_judge found. Waits. */
Verdict optim_verdict(const Optim *o);

/* Learning rate of step 1, 2, ..., max_steps. Warmup is linear from lr/warmup_steps to lr. After it: "cosine"
 * and "linear" go to min_lr at max_steps, "constant" stays, "wsd" stays and goes linearly to min_lr over the
 * last decay_steps (Hu et al. 2024). */
double lr_at(const Config *c, int64_t step);

#endif
