/* mixing.h - floor 5: a mixture in a run: looks at held-out text of each source, publishes weights, deals
 * rows.
 *
 * What a rule learns from is not the loss of the training rows but that of the same first rows of each
 * source's held-out shards each time: no noise from which rows came up, any grid of ranks finds the same, and
 * a mixture never sees what it trains on. It costs a forward pass of n * mixing.rows sequences (exp3: of
 * mixing.rows) every mixing.interval steps. */
#ifndef GPT_MIXING_H
#define GPT_MIXING_H

#include "checkpoint.h"
#include "dataloader.h"

typedef struct Mixing Mixing;
/* *x NULL where none is needed: weights that stay, and sources without end, are the loader's own affair. c
 * and train must outlive it. Errors: a source without held-out rows, epochs that give fewer rows than the run
 * reads. */
bool mixing_open(Mixing **x, const Config *c, Loader *train, Err *e);
void mixing_close(Mixing *x);
/* doremi: what the reference model says of the held-out rows. All ranks of o's grid. */
bool mixing_reference(Mixing *x, const GptOptions *o, Err *e);

void mixing_save(const Mixing *x, TrainState *s);
bool mixing_load(Mixing *x, const TrainState *s, int64_t step, Err *e);

/* Before the rows of step `step` + 1 are read. */
void mixing_deal(Mixing *x, int64_t step);
/* Are new weights due after this step? Then the ranks publish them together. */
bool mixing_is_due(const Mixing *x, int64_t step);
bool mixing_publish(Mixing *x, Gpt *m, Err *e);
/* {"NAME": {"weight": w, "loss": l, "reward": r, "rows": given so far}, ...}; null for what was not looked
 * at. */
void mixing_print(const Mixing *x, Str *json);

#endif
