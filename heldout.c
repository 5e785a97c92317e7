/* heldout.c - floor 4: see heldout.h. */
#include "heldout.h"

#include <stdlib.h>
#include <string.h>

bool heldout_losses(Gpt *m, const Loader *l, uint64_t rows, TakeLosses take, void *ctx, Err *e) {
    const GptOptions *o = gpt_options(m);
    const size_t all = (size_t)o->B * (size_t)o->T;
    const uint64_t B = (uint64_t)o->B, turn = B * (uint64_t)o->grid.dp;
    int32_t *tokens = xmalloc(2 * all * sizeof *tokens), *targets = tokens + all;
    float *losses = xmalloc(all * sizeof *losses);
    bool ok = true;
    for (uint64_t row = B * (uint64_t)o->grid.dp_rank; row < rows && ok; row += turn) {
        const int n = rows - row < B ? (int)(rows - row) : o->B;
        ok = loader_rows(l, row, n, tokens, targets, e);
        if (!ok) break;
        gpt_losses(m, &(Batch){.tokens = tokens, .targets = targets, .B = n, .T = o->T}, losses, NULL);
        if (o->grid.tp_rank == 0) take(ctx, row, n, o->T, losses);
    }
    free(tokens);
    free(losses);
    return ok;
}

void heldout_sum(Comm *comm, double *x, int n) {
    if (!comm) return;
    const size_t bytes = (size_t)n * sizeof *x;
    const int ranks = comm_grid(comm)->ranks;
    double *all = xmalloc((size_t)ranks * bytes);
    comm_host_gather(comm, all, x, bytes);
    memset(x, 0, bytes);
    for (int i = 0; i < ranks * n && comm_grid(comm)->rank == 0; i++) x[i % n] += all[i];
    comm_host_broadcast(comm, x, bytes, 0);
    free(all);
}
