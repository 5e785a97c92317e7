/* schedule.c - floor 2: see schedule.h. */
#include "schedule.h"

#include <stdlib.h>

/* The k-th forward of a stage, or backward: those go through the chunks from the last to the first. */
static Task task_at(int pp, int chunks, int64_t k, bool backward) {
    const int64_t group = (int64_t)pp * chunks;
    const int chunk = (int)(k % group / pp);
    return (Task){.backward = backward,
                  .chunk = backward ? chunks - 1 - chunk : chunk,
                  .micro = chunks == 1 ? k : k / group * pp + k % pp};
}

/* Forwards that run ahead of the first backward. */
static int64_t warmup(int pp, int stage, int chunks, int64_t micros) {
    const int64_t all = chunks * micros;
    int64_t n = pp - 1 - stage;
    if (chunks > 1) n = 2 * n + (int64_t)(chunks - 1) * pp;
    return n < all ? n : all;
}

Task *schedule_make(int pp, int stage, int chunks, int64_t micros) {
    CHECK(stage >= 0 && stage < pp && chunks > 0 && micros > 0 && (chunks == 1 || micros % pp == 0));
    const int64_t all = chunks * micros, ahead = warmup(pp, stage, chunks, micros);
    Task *task = xmalloc((size_t)(2 * all) * sizeof *task), *at = task;
    for (int64_t k = 0; k < all + ahead; k++) {
        if (k < all) *at++ = task_at(pp, chunks, k, false);
        if (k >= ahead) *at++ = task_at(pp, chunks, k - ahead, true);
    }
    return task;
}

int64_t schedule_in_flight(int pp, int stage, int chunks, int64_t micros, int chunk) {
    Task *task = schedule_make(pp, stage, chunks, micros);
    int64_t now = 0, most = 0;
    for (int64_t i = 0; i < 2 * chunks * micros; i++) {
        if (task[i].chunk == chunk) now += task[i].backward ? -1 : 1;
        if (now > most) most = now;
    }
    free(task);
    return most;
}
