/* test_tensors.c - tensors.c: which elements of a tensor a rank's part is, counted one by one. That many ranks write and
 * read each other's files is tested in test/parallel. */
#include "tensors.h"
#include "test.h"

#include <stdlib.h>

static void check_part(int64_t outer, int64_t inner, int64_t pitch, int64_t first, int64_t count) {
    const Param p = {.outer = outer, .inner = inner, .pitch = pitch, .first = first, .count = count};
    int64_t seen = 0;
    for (int64_t at = 0; at <= count; at++) {
        int64_t place = -1, o = at / pitch, i = at % pitch;
        EXPECT(part_before(&p, at) == seen, "element %d of %d: %d, not %d", (int)at, (int)count,
               (int)part_before(&p, at), (int)seen);
        if (o >= outer || i < first || i >= first + inner) continue;
        const int64_t beside = part_stretch(&p, seen, &place);
        EXPECT(place == at && beside == first + inner - i, "number %d stands at %d", (int)seen, (int)place);
        seen++;
    }
    EXPECT(seen == outer * inner);
}

TEST(tensors_parts) {
    check_part(1, 24, 24, 0, 24); /* all of it */
    for (int64_t rank = 0; rank < 3; rank++) {
        check_part(8, 2, 6, 2 * rank, 48);    /* columns */
        check_part(24, 2, 6, 2 * rank, 144);  /* heads in each of q, k and v */
        check_part(3, 2, 6, 2 * rank, 18);    /* the bias beside them */
        check_part(1, 16, 48, 16 * rank, 48); /* rows */
    }
    check_part(1, 12, 20, 0, 20); /* a vocabulary, */
    check_part(1, 8, 20, 12, 20); /* of which the second rank has less, */
    check_part(1, 0, 20, 20, 20); /* and the third nothing */
}

/* The parts of the tensor ranks, as the table gives them, cover each tensor once, and copies come on top. */
TEST(tensors_parts_of_the_table) {
    Config c;
    config_defaults(&c);
    c.model.vocab_size = 131, c.model.n_positions = 12, c.model.n_embd = 16, c.model.n_layer = 4;
    c.model.n_head = 4;
    int rows, n;
    int64_t elements;
    free(gpt_params(&c.model, NULL, &rows, &elements));
    int64_t *numbers = xcalloc((size_t)rows, sizeof *numbers), wrong = 0, copies = 0;
    for (int rank = 0; rank < 4; rank++) {
        const GptOptions o = {.ops = &cpu_ops, .grid = grid_at(1, 2, 2, rank), .B = 1, .T = 4};
        Param *table = gpt_params(&c.model, &o, &n, &elements);
        for (const Param *p = table; p < table + n; p++) {
            const bool mine = p->split != SPLIT_NONE || o.grid.tp_rank == 0;
            wrong += part_before(p, p->count) != p->outer * p->inner;
            copies += p->copy;
            if (mine && !p->copy) numbers[p->row] += p->outer * p->inner;
        }
        free(table);
    }
    Param *whole = gpt_params(&c.model, NULL, &n, &elements);
    for (int i = 0; i < rows; i++) EXPECT(numbers[i] == whole[i].count, "%s", whole[i].name);
    EXPECT(wrong == 0 && copies == 2);
    free(whole);
    free(numbers);
}
