/* params.h - floor 3: what gpt.c's pass and its parameter table (params.c) know of each other. */
#ifndef GPT_PARAMS_H
#define GPT_PARAMS_H

#include "gpt.h"

#include <string.h>

enum { VOCAB_MULTIPLE = 128, PARAM_ALIGN = 16 /* elements */ };

/* What a tensor is for: before the layers, in each of them, after them. A bias follows its weight. */
enum { WTE, WPE, LAYER_ROLES };
enum { LN1_W = LAYER_ROLES, LN1_B, QKV_W, QKV_B, OUT_W, OUT_B, MLP_ROLES };
enum { LN2_W = MLP_ROLES, LN2_B, FC_W, FC_B, DOWN_W, DOWN_B, LAST_ROLES };
enum { LNF_W = LAST_ROLES, LNF_B, HEAD_W, N_ROLES };

/* Where in memory. What an optimizer treats alike stands together: first what does not decay, then the embeddings and
 * the head, then the matrices inside the layers. Of these, what all of a tensor group have stands together. */
enum { SLICED_BIASES, BIASES, NORMS, POSITION_ROWS, VOCAB_ROWS, MATRICES, N_SWEEPS };
int sweep_of(const Param *p);
/* Of a layer's parameter: which half of which layer it is in, 2 layer for attention, and one more for the MLP, whose
 * backward is done first. */
int half_of(const Param *p);

GptOptions options_full(const GptOptions *given); /* with what they leave open */
int64_t vocab_rows(const ModelConfig *c, int tp); /* of the vocabulary, in memory on each rank */

static inline bool is_post_norm(const ModelConfig *c) {
    return !strcmp(c->model_type, "openai-gpt");
}
static inline int64_t round_up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}
static inline int64_t between(int64_t x, int64_t least, int64_t most) {
    return x < least ? least : x > most ? most : x;
}
static inline bool is_last_stage(const Grid *g) {
    return g->pp_rank == g->pp - 1;
}

#endif
