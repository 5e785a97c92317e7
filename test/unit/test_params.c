/* test_params.c - params.c: who has what of a model. */
#include "gpt.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static ModelConfig model(const char *type, int layers) {
    Config c;
    config_defaults(&c);
    ModelConfig m = c.model;
    strcpy(m.model_type, type);
    m.vocab_size = 300, m.n_positions = 24, m.n_embd = 48, m.n_layer = layers, m.n_head = 4, m.n_inner = 80;
    return m;
}

/* Each element of each tensor is on exactly one rank of each data group's, but for what the tensor group has in common and
 * the last stage's copy of the embedding. */
static void expect_whole(const ModelConfig *c, int pp, int tp, int interleave) {
    int n, all;
    int64_t elements;
    Param *whole = gpt_params(c, NULL, &all, &elements);
    uint8_t **seen = xcalloc((size_t)all, sizeof *seen);
    for (int i = 0; i < all; i++) seen[i] = xcalloc((size_t)whole[i].count, 1);
    for (int rank = 0; rank < pp * tp; rank++) {
        const GptOptions o = {.grid = grid_at(1, pp, tp, rank), .interleave = interleave};
        Param *p = gpt_params(c, &o, &n, &elements);
        int64_t end = 0, sum = 0;
        for (int i = 0; i < n; i++) {
            EXPECT(!strcmp(p[i].name, whole[p[i].row].name) && p[i].count == whole[p[i].row].count);
            end = p[i].at + p[i].padded > end ? p[i].at + p[i].padded : end, sum += p[i].padded;
            if (p[i].copy || (p[i].split == SPLIT_NONE && o.grid.tp_rank)) continue;
            for (int64_t k = 0; k < p[i].outer * p[i].inner; k++)
                seen[p[i].row][k / p[i].inner * p[i].pitch + p[i].first + k % p[i].inner]++;
        }
        EXPECT(end <= elements && sum <= elements);
        free(p);
    }
    for (int i = 0; i < all; i++) {
        int64_t wrong = 0;
        for (int64_t k = 0; k < whole[i].count; k++) wrong += seen[i][k] != 1;
        EXPECT(!wrong, "%s on %d x %d: %d elements", whole[i].name, pp, tp, (int)wrong);
        free(seen[i]);
    }
    free(seen);
    free(whole);
}

TEST(params_ranks_have_each_element_once) {
    const char *const types[] = {"gpt2", "openai-gpt"};
    for (int i = 0; i < 2; i++) {
        ModelConfig c = model(types[i], 5);
        c.tie_word_embeddings = i == 0;
        for (int tp = 1; tp <= 4; tp *= 2)
            for (int pp = 1; pp <= 5; pp++) expect_whole(&c, pp, tp, 1);
        expect_whole(&c, 2, 2, 2);
    }
}

/* A bucket is full with half a layer too many at most: what stands last, when the backward pass is over, is little. */
TEST(params_buckets) {
    const ModelConfig c = model("gpt2", 5);
    const int64_t attention = 4 * 48 * 48, mlp = 2 * 48 * 80;
    for (int64_t kb = 1; kb <= 256; kb *= 4) {
        int n;
        int64_t elements, bytes[16] = {0};
        const GptOptions o = {.grid = grid_at(2, 1, 1, 0), .bucket_bytes = kb << 10};
        Param *p = gpt_params(&c, &o, &n, &elements);
        int last = 0;
        for (int i = 0; i < n; i++) {
            const bool is_matrix = p[i].parts > 0;
            EXPECT((p[i].bucket > 0) == is_matrix && p[i].bucket < 16, "%s", p[i].name);
            if (is_matrix) bytes[p[i].bucket] += 4 * p[i].padded;
            if (p[i].bucket > last) last = p[i].bucket;
        }
        for (int i = 1; i <= last; i++) {
            EXPECT(bytes[i] < (kb << 10) + 4 * (attention > mlp ? attention : mlp));
            EXPECT(bytes[i] >= kb << 10 || i == last || kb == 1);
        }
        if (kb == 1) EXPECT(last == 10 && bytes[1] == 4 * attention && bytes[2] == 4 * mlp);
        free(p);
    }
}

TEST(params_stages_are_balanced_by_cost) {
    int from, to, at = 0;
    ModelConfig c = model("gpt2", 24);
    c.n_embd = 1024, c.n_inner = 0, c.vocab_size = 1000; /* a head of 0.08 layers */
    for (int k = 0; k < 4; k++) {
        gpt_stage(&c, 4, k, &from, &to);
        EXPECT(from == at && to == at + 6, "%d: %d to %d", k, from, to);
        at = to;
    }
    c.vocab_size = 50257, c.n_embd = 768, c.n_layer = 12; /* 5.5 layers */
    const int ends[] = {3, 7, 11, 12};
    for (int k = 0; k < 4; k++) {
        gpt_stage(&c, 4, k, &from, &to);
        EXPECT(from == (k ? ends[k - 1] : 0) && to == ends[k], "%d: %d to %d", k, from, to);
    }
    for (int n = 1; n <= 12; n++) {
        at = 0;
        for (int k = 0; k < n; k++) {
            gpt_stage(&c, n, k, &from, &to);
            EXPECT(from == at && to > from, "%d of %d", k, n);
            at = to;
        }
        EXPECT(at == 12);
    }
}

TEST(params_grids_that_do_not_fit_are_refused) {
    const ModelConfig c = model("gpt2", 6);
    Err e = {0};
    EXPECT(!gpt_grid_check(&c, &(GptOptions){.grid = grid_at(1, 1, 3, 0)}, &e));
    EXPECT_ERR(&e, "parallel.tensor=3 does not divide 4 heads and 80 hidden units; it can be 1, 2 or 4");
    EXPECT(!gpt_grid_check(&c, &(GptOptions){.grid = grid_at(1, 4, 1, 0), .interleave = 2, .micro_steps = 4},
                           &e));
    EXPECT_ERR(&e, "6 layers cannot be cut into 4 stages of 2 chunks");
    EXPECT(!gpt_grid_check(&c, &(GptOptions){.grid = grid_at(1, 2, 1, 0), .interleave = 2, .micro_steps = 3},
                           &e));
    EXPECT_ERR(&e, "a multiple of parallel.pipeline=2");
    EXPECT(!gpt_grid_check(&c, &(GptOptions){.interleave = 2}, &e));
    EXPECT_ERR(&e, "parallel.interleave=2 needs parallel.pipeline above 1");
    EXPECT(!gpt_grid_check(&c, &(GptOptions){.grid = grid_at(1, 1, 4, 0), .sequence_parallel = true, .T = 6},
                           &e));
    EXPECT_ERR(&e, "to divide train.seq_len=6");
    EXPECT(gpt_grid_check(
        &c, &(GptOptions){.grid = grid_at(2, 3, 2, 7), .interleave = 2, .micro_steps = 3, .T = 6}, &e));
}
