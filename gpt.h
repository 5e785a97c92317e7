/* gpt.h - floor 3: the model. One parameter table, the forward and the backward pass, written once over
 * ops.h. */
#ifndef GPT_GPT_H
#define GPT_GPT_H

#include "comm.h"
#include "config.h"
#include "ops.h"

/* ---- the parameter table ---------------------------------------------------------------------------------
 * One row a tensor, in file order. Allocation, initialisation, the optimizer, saving, loading and counting
 * walk it; nothing else knows where a parameter lives. */

typedef enum { INIT_ZERO, INIT_ONE, INIT_NORMAL } Init;
typedef enum { SPLIT_NONE, SPLIT_COLUMNS, SPLIT_ROWS, SPLIT_VOCAB } Split; /* under tensor parallelism */

typedef struct Param {
    char name[64];    /* Hugging Face's name, without "transformer.": "h.3.attn.c_attn.weight" */
    int rank;         /* 1 or 2 */
    int64_t shape[2]; /* as in files, of the whole tensor */
    int64_t count;    /* product of shape */
    /* This rank's part is [outer, inner]: its element (o, i) is element o * pitch + first + i of the file's. */
    int64_t outer, inner, pitch, first;
    int64_t padded; /* elements in memory: the vocabulary's rows padded to a multiple of 128 a rank, zeros */
    Init init;
    float std;  /* of INIT_NORMAL */
    bool decay; /* weight decay: matrices only (and the embeddings) */
    int parts;  /* matrices inside the layers: how many lie side by side (c_attn: q, k, v); all else: 0 */
    Split split;
    int layer;  /* -1: before the layers, n_layer: after them */
    int role;   /* what the pass uses it for: gpt.c's own numbering */
    int bucket; /* of gradients: see gpt_accumulate */
    int row;    /* its number in the table of the whole model */
    bool
        copy; /* the embedding on the last of several stages, as its head: the first stage's counts, and is saved */
    int64_t at; /* first element within Gpt.w and Gpt.dw; multiple of 16. Rows that do not decay stand */
                /* together, then those that do, of which those with parts are the last */
} Param;

/* What backward computes again rather than finds kept: nothing; the norms' outputs and GELU's; all of a layer but its
 * input (Chen et al. 2016). */
typedef enum { RECOMPUTE_NONE, RECOMPUTE_GELU, RECOMPUTE_BLOCK } Recompute;

typedef struct GptOptions {
    const Ops *ops;
    Grid grid;  /* {0}: of one rank */
    Comm *comm; /* of that grid; NULL if it has one rank, or while only measuring */
    bool
        sequence_parallel; /* norms, dropout and the stream between blocks on 1/tp of the rows (Korthikanti et al. 2022) */
    int interleave;       /* chunks of layers a stage; 0, 1: one */
    int zero;             /* 1: a rank keeps the optimizer state of 1/dp of the weights, 2: and gradients */
    int64_t bucket_bytes; /* gradients are reduced as soon as so many are complete; 0: about 25 MB */
    int64_t micro_steps;  /* a step, of each rank: how many can be in flight in the pipeline; 0: 1 */
    Dtype compute;        /* of linear operands and activations */
    bool train;           /* gradients and activations for backward */
    int B, T;             /* largest micro batch; for serving: rows of a gpt_decode call */
    Recompute recompute;
    int logits_rows; /* logits exist for so many rows at a time; 0: as many as the back end likes */
} GptOptions;

/* What a model needs, by kind, in bytes: the very numbers gpt_create allocates. */
typedef struct GptMemory {
    size_t weights, mirror, gradients, prepared, activations, workspace;
} GptMemory;

typedef struct Gpt Gpt; /* members that others may read have functions here */

/* Everything is planned and allocated here. Weights are zeros until gpt_init or a checkpoint fills them. */
Gpt *gpt_create(const ModelConfig *c, const GptOptions *o, Err *e);
void gpt_free(Gpt *m);
bool gpt_memory(const ModelConfig *c, const GptOptions *o, GptMemory *mem, Err *e);

/* The table alone, without a model: malloc'd rows, n of them; *elements is the length of Gpt.w. Of one rank's part of
 * the model, or (o NULL) of all of it. */
Param *gpt_params(const ModelConfig *c, const GptOptions *o, int *n, int64_t *elements);
/* Can this model be cut up so? The error names the choices there are. */
bool gpt_grid_check(const ModelConfig *c, const GptOptions *o, Err *e);
/* "1, 2, 3 or 6": what divides both a and b, for such messages. */
void str_divisors(Str *s, int64_t a, int64_t b);
/* Layers [*from, *to) of part k of n of the pipeline, cut so that the costliest part costs least (embedding and head
 * weigh as many layers as they have FLOPs of). */
void gpt_stage(const ModelConfig *c, int n, int k, int *from, int *to);
int64_t gpt_count(const ModelConfig *c, bool with_positions); /* parameters, padding not counted */
/* Model FLOPs of training one token at sequence length T: 6 N + 6 L C T, N without position embeddings (the
 * causal half of attention counted). */
double gpt_flops_per_token(const ModelConfig *c, int64_t T);

const ModelConfig *gpt_config(const Gpt *m);
const GptOptions *gpt_options(const Gpt *m);
const Param *gpt_table(const Gpt *m, int *n);
float *gpt_weights(const Gpt *m);                 /* [elements], back end's memory */
float *gpt_gradient_at(const Gpt *m, int64_t at); /* of element `at` and on, within a range this rank owns */
uint16_t *gpt_mirror(const Gpt *m);               /* [elements] bf16; NULL if the back end wants none */
int64_t gpt_elements(const Gpt *m);

/* Elements [at, at + n) of the weights. */
typedef struct Range {
    int64_t at, n;
} Range;
/* What a rank of the data group keeps optimizer state for, in rising order; all, unless zero. *total is their sum.
 * malloc'd. */
Range *gpt_owned(const Gpt *m, int dp_rank, int *n, int64_t *total);
/* Of these, what counts in sums over all ranks: each weight of the model on exactly one of them. malloc'd. */
Range *gpt_counted(const Gpt *m, int *n);

void gpt_init(Gpt *m, uint64_t seed); /* values depend on (seed, name's row, element) only */
/* After init, load, or an optimizer step (`mirrored`, if that wrote the mirror). */
void gpt_weights_changed(Gpt *m, bool mirrored);

/* ---- training ------------------------------------------------------------------------------------------ */

typedef struct Batch {
    const int32_t *tokens, *targets; /* [B, T] each, host; target -1 is not scored */
    int B, T;
    uint64_t step, first_row; /* for dropout: which step, and which sequence of the global batch row 0 is */
    uint64_t seed;
} Batch;

/* One micro step: adds to (or, if not accumulate, sets) all gradients of `scale` * the sum of the tokens'
 * losses, and that sum, unscaled. `scale` is 1 / tokens of the global batch. */
void gpt_forward_backward(Gpt *m, const Batch *b, float scale, bool accumulate);
/* A whole step's micro steps, by the pipeline's schedule, and the reduction of the gradients over the ranks: what each
 * owns is then complete. `next` fills in micro step i of this rank, and is called for each in order (by stages in the
 * middle of a pipeline too). */
typedef bool (*NextBatch)(void *ctx, int64_t i, Batch *b, Err *e);
bool gpt_accumulate(Gpt *m, int64_t micro_steps, NextBatch next, void *ctx, float scale, Err *e);
/* Of this rank's tokens; 0 on all but the last stage, and on all but the first of a tensor group. */
const double *gpt_loss_sum(const Gpt *m); /* back end's memory */
/* Hashes of the weights that this rank has in common with others; equal on them, or something has gone wrong. */
enum { SHARED_DATA, SHARED_TENSOR, SHARED_TIED, N_SHARED };
void gpt_checksums(const Gpt *m, uint64_t sum[N_SHARED]);
/* After the optimizer has changed what each rank owns: to everyone. `complete`: also what no pass reads (masters of
 * weights with a mirror), for a checkpoint. Then gpt_weights_changed. */
void gpt_weights_share(Gpt *m, bool complete);
/* Forward only, no dropout: loss [B*T] of each target in nats (0 where -1), best [B*T] the argmax (may be
 * NULL). */
void gpt_losses(Gpt *m, const Batch *b, float *loss, int32_t *best);

/* ---- serving ------------------------------------------------------------------------------------------- */

typedef struct KvCache {
    Tensor *k, *v; /* [n_layer], each [slots, NH, capacity, HS] */
    int slots;
    int64_t capacity;
    void *memory;
    const Ops *ops;
} KvCache;
bool kv_create(KvCache *kv, const Gpt *m, int slots, int64_t capacity, Err *e);
void kv_free(KvCache *kv);

/* Prefill and decode in one call: token i goes to position pos[i] of slot[i]; tokens of one slot stand in a
 * row with rising positions. n <= gpt_decode_rows: B * T of the options, or where a tensor group shares out rows this
 * rank's share of them. logits (host, [n_want, V] fp32) of the rows listed in want[]. */
int gpt_decode_rows(const Gpt *m);
void gpt_decode(Gpt *m, KvCache *kv, const int32_t *tokens, const int32_t *slot, const int32_t *pos, int n,
                const int32_t *want, int n_want, float *logits);

#endif
