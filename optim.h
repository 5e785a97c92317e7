/* optim.h - floor 4: the optimizer's state and step, clipping, learning-rate schedules.
 *
 * optimizer.name "adamw": AdamW for all. "muon": Muon for the matrices inside the layers (Param.parts), AdamW for
 * embeddings, head, biases and norms. */
#ifndef GPT_OPTIM_H
#define GPT_OPTIM_H

#include "gpt.h"

/* What the host reads of a step, in one piece. */
typedef struct Judged {
    Verdict verdict;
    double losses, squares; /* sums over the ranks: of the tokens' losses, of the gradients' squares, */
    double votes;           /* and of what each gave optim_judge */
} Judged;

typedef struct Optim {
    const Ops *ops;
    Range *owned, *counted; /* see gpt.h: what this rank steps, and what it brings into the norm */
    int n_owned, n_counted;
    int64_t elements, /* owned */
        adamw;        /* of which so many, the first, are AdamW's: Muon's matrices come last in memory */
    void *memory;     /* the back end's; all that follows lies in it, zeros at first */
    float *m, *v;     /* [elements], [adamw], one owned range after the other: Muon has no second moment */
    Judged *judged;   /* the step */
    double *part_squares; /* [MUON_PARTS] of a weight's matrices */
    uint16_t *x[2],
        *gram
            [2]; /* of the widest of Muon's weights: the matrices and their small squares, before and after */
} Optim;

size_t optim_bytes(const Config *c, const GptOptions *o); /* what optim_create allocates */
bool optim_create(Optim *o, const Gpt *m, const Config *c, Err *e);
void optim_free(Optim *o);

/* The verdict on the gradients and the loss that stand in m: their norm (fixed order, double), the loss as `scale` times
 * its sum, and whether the step is to be skipped, for numbers that are not finite or a loss above `worst`. All ranks come
 * to the same. Queued. */
void optim_judge(Optim *o, const Gpt *m, const Config *c, double scale, double worst, double vote);
/* One step over the parameter table, after optim_judge: decay on the rows that say so, gradients scaled so that
 * their norm is at most max_grad_norm (0: no clipping). `step` from 1. Queued. Ends with gpt_weights_share and
 * gpt_weights_changed. */
void optim_step(Optim *o, Gpt *m, const Config *c, double lr, uint64_t step);
/* What optim_judge found. Waits. */
Verdict optim_verdict(const Optim *o);

/* Learning rate of step 1, 2, ..., max_steps. Warmup is linear from lr/warmup_steps to lr. After it: "cosine"
 * and "linear" go to min_lr at max_steps, "constant" stays, "wsd" stays and goes linearly to min_lr over the
 * last decay_steps (Hu et al. 2024). */
double lr_at(const Config *c, int64_t step);

#endif
