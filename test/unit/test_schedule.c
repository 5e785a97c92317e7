/* test_schedule.c - schedule.c: each stage's order against what the stages need of each other. */
#include "schedule.h"
#include "test.h"

#include <stdlib.h>

enum { MAX_PARTS = 16, MAX_MICROS = 16 };

/* Runs all stages' orders against each other, each task taking one tick: true if all get to their end. *ticks is when the
 * last does. A part needs what the part before it (backward: after it) did with the same micro step. */
static bool simulate(int pp, int chunks, int64_t micros, int64_t *ticks) {
    int64_t done[2][MAX_PARTS][MAX_MICROS] = {0}, at[MAX_PARTS] = {0}, free_from[MAX_PARTS] = {0}, left = 1;
    const int parts = pp * chunks;
    Task *order[MAX_PARTS];
    for (int s = 0; s < pp; s++) order[s] = schedule_make(pp, s, chunks, micros);
    bool moved = true;
    *ticks = 0;
    while (moved && left) {
        moved = false, left = 0;
        for (int s = 0; s < pp; s++) {
            if (at[s] == 2 * chunks * micros) continue;
            left++;
            const Task *t = &order[s][at[s]];
            const int part = t->chunk * pp + s, before = t->backward ? part + 1 : part - 1;
            const int64_t own = t->backward ? done[0][part][t->micro] : 1,
                          need = before < 0 || before == parts ? 1 : done[t->backward][before][t->micro];
            if (!own || !need || done[t->backward][part][t->micro]) continue;
            int64_t from = free_from[s] > need - 1 ? free_from[s] : need - 1;
            if (t->backward && from < own - 1) from = own - 1;
            done[t->backward][part][t->micro] = (free_from[s] = from + 1) + 1;
            if (free_from[s] > *ticks) *ticks = free_from[s];
            at[s]++, moved = true;
        }
    }
    for (int s = 0; s < pp; s++) free(order[s]);
    return !left;
}

TEST(schedule_stages_wait_for_each_other_and_end) {
    for (int pp = 1; pp <= 4; pp++)
        for (int chunks = 1; chunks <= (pp > 1 ? 4 : 1); chunks++)
            for (int64_t micros = chunks > 1 ? pp : 1; micros <= MAX_MICROS; micros += chunks > 1 ? pp : 1) {
                int64_t ticks;
                EXPECT(simulate(pp, chunks, micros, &ticks), "%d stages, %d chunks, %d micro steps", pp,
                       chunks, (int)micros);
                /* Work of 2 * chunks * micros ticks, and the bubble of pp - 1 forwards and backwards of a chunk. */
                const int64_t ideal = 2 * chunks * micros + 2 * (pp - 1);
                EXPECT(micros < pp || ticks == ideal,
                       "%d stages, %d chunks, %d micro steps: %d ticks, not %d", pp, chunks, (int)micros,
                       (int)ticks, (int)ideal);
            }
}

TEST(schedule_keeps_as_few_as_stages_follow) {
    for (int s = 0; s < 4; s++) {
        EXPECT(schedule_in_flight(4, s, 1, 12, 0) == 4 - s);
        EXPECT(schedule_in_flight(4, s, 1, 2, 0) == (4 - s < 2 ? 4 - s : 2));
    }
    /* The chunks of the last stage: its last one goes back at once, those before it wait for those after. */
    EXPECT(schedule_in_flight(4, 3, 2, 12, 1) == 1);
    EXPECT(schedule_in_flight(4, 3, 2, 12, 0) == 5);
}
