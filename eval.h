/* eval.h - floor 5: perplexity and task scoring. */
#ifndef GPT_EVAL_H
#define GPT_EVAL_H

#include "dataloader.h"
#include "gpt.h"
#include "tokenizer.h"

typedef struct EvalLoss {
    double loss, perplexity,
        bits_per_byte;      /* loss in nats per token; bits_per_byte NAN without a tokenizer */
    uint64_t tokens, bytes; /* targets scored, and their bytes */
    double floor;           /* nats per token from the shards' info, NAN if unknown */
} EvalLoss;
/* Loss over consecutive windows at 0, T, 2T, ... of each shard; the last partial one is dropped. */
bool eval_loss(Gpt *m, const Tokenizer *t, const char *shards, int T, uint64_t max_tokens, EvalLoss *r,
               Err *e);

typedef struct EvalTask {
    const char *kind; /* "multiple_choice" or "cloze" */
    uint64_t items;
    double acc, acc_norm, acc_norm_tokens; /* multiple choice: by sum, by characters, by tokens */
    double accuracy, perplexity;           /* cloze: all target tokens greedy; exp of the mean target loss */
} EvalTask;
/* HellaSwag-format ({"ctx", "endings", "label"}) or LAMBADA-format ({"text"}: the last word is the target) lines. */
bool eval_task(Gpt *m, const Tokenizer *t, const char *path, uint64_t max_items, EvalTask *r, Err *e);
#endif
