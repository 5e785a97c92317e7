/* heldout.h - floor 4: losses of held-out rows in the middle of training, by all ranks of a grid together. */
#ifndef GPT_HELDOUT_H
#define GPT_HELDOUT_H

#include "dataloader.h"
#include "gpt.h"

/* Losses [n, T] of rows `row` and on. */
typedef void (*TakeLosses)(void *ctx, uint64_t row, int n, int T, const float *losses);
/* The loader's first rows, of which the data ranks take micro batches in turn. Each rank gets its own, in
 * order, where it is the first of a tensor group (whose ranks all have them); zeros but on the last stage of
 * a pipeline. */
bool heldout_losses(Gpt *m, const Loader *l, uint64_t rows, TakeLosses take, void *ctx, Err *e);
/* x [n] = the sums of all ranks' x, added in their order: the same bits on all. comm NULL: alone. */
void heldout_sum(Comm *comm, double *x, int n);

#endif
