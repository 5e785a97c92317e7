/* eval.h - floor 5: perplexity and task scoring. */
#ifndef GPT_EVAL_H
#define GPT_EVAL_H

#include "dataloader.h"
#include "gpt.h"
#include "tokenizer.h"

typedef struct EvalLoss {
    double loss, perplexity;
    double bits_per_byte; /* of text: NAN without a tokenizer */
    uint64_t tokens,
        bytes;    /* targets scored, and the bytes they stand for: 0 for end-of-text, which no text holds */
    double floor; /* nats per token of the whole set, from the shards' info; NAN if unknown */
} EvalLoss;
/* Loss in nats per token over consecutive windows at 0, T, 2T, ... of each shard: window j reads tokens jT ..
 * jT+T-1 and is scored on jT+1 .. jT+T, so each token but the first is scored once; the last partial window
 * is dropped. `shards` is a shard, a folder or a glob; max_tokens 0: all. A T beyond the model's context is a
 * usage error. */
bool eval_loss(Gpt *m, const Tokenizer *t, const char *shards, int T, uint64_t max_tokens, EvalLoss *r,
               Err *e);

/* One sequence to score: ids[n], of which the first `context` >= 1 are given; n - 1 <= the model's context. */
typedef struct EvalRow {
    int32_t *ids;
    int n, context;
    double loss;    /* found: the sum over the other tokens, in nats */
    bool likeliest; /* found: each of them was the model's first choice */
} EvalRow;
/* Scores n rows, those of like length together as one batch; reorders the pointers. */
void eval_rows(Gpt *m, EvalRow **row, size_t n);

typedef struct EvalTask {
    const char *kind; /* "multiple_choice" or "cloze" */
    uint64_t items;
    double acc, acc_norm,
        acc_norm_tokens; /* multiple choice: by the ending's log-probability; over its characters */
                         /* (lm-evaluation-harness); over its tokens (llm.c) */
    double accuracy,
        perplexity; /* cloze: every target token is the likeliest; exp of the mean over items of the */
                    /* target's -log p (lm-evaluation-harness: per word, not per token) */
} EvalTask;
/* The first line decides what the file is: HellaSwag's {"ctx", "endings", "label"}, each ending scored as " "
 * + ending after ctx; or LAMBADA's {"text"}, whose target is " " + its last word. Context and target are
 * encoded apart; an empty context is the end-of-text token; what is too long loses its beginning. Every line
 * is checked before the first is scored: errors name file and line. max_items 0: all. */
bool eval_task(Gpt *m, const Tokenizer *t, const char *path, uint64_t max_items, EvalTask *r, Err *e);
#endif
