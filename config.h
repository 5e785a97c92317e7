/* config.h - floor 2: the key table. One table lists every key with its type, default, range and a line of help;
 * parsing, validation, `gpt help config` and the resolved config.json all come from it. */
#ifndef GPT_CONFIG_H
#define GPT_CONFIG_H

#include "keys.h"

enum { CONFIG_TEXT = KEYS_TEXT, CONFIG_SOURCES = KEYS_SOURCES };

/* Keys and meanings are Hugging Face's. */
typedef struct ModelConfig {
    char model_type
        [16]; /* "gpt2": pre-norm; "openai-gpt": GPT-1, post-norm, no final norm; "gpt3": pre-norm, every
                            second layer attends only to a band of attention_window tokens */
    int64_t vocab_size;                                    /* 0: the tokenizer's size */
    int64_t n_positions, n_embd, n_layer, n_head, n_inner; /* n_inner 0: 4 * n_embd */
    int64_t attention_window;                              /* gpt3's band */
    char activation_function[16];                          /* "gelu_new" */
    double layer_norm_epsilon, initializer_range;
    double resid_pdrop, embd_pdrop, attn_pdrop;
    bool tie_word_embeddings, scale_attn_by_inverse_layer_idx;
    int64_t bos_token_id, eos_token_id; /* for those who open the model elsewhere; -1: none */
} ModelConfig;

typedef struct Config {
    char name[CONFIG_TEXT], out[CONFIG_TEXT]; /* the run's folder is `out`; empty: runs/NAME */
    char init_from[CONFIG_TEXT], tokenizer[CONFIG_TEXT], notes[CONFIG_TEXT];
    ModelConfig model;
    struct {
        DataSources train, val;
        bool shuffle;
        char mixing[16]; /* one of mixture.h's rules */
    } data;
    struct {
        int64_t interval, rows; /* of steps; held-out rows of a source that are looked at */
        double rate, floor, smoothing;
        char reference[CONFIG_TEXT];
    } mixing;
    struct {
        int64_t max_steps, global_batch_size, micro_batch_size, seq_len; /* batch sizes in sequences */
        char device[16], precision[16], recompute[16];
        int64_t seed;
        int64_t log_interval, eval_interval, eval_batches, sample_interval,
            checkpoint_interval; /* 0: never */
        int64_t keep_checkpoints, max_skips, threads;
        int64_t trace_steps; /* the first so many steps after the start are drawn as a timeline */
        double spike_zscore; /* skip a step whose loss is this many deviations above its recent mean */
    } train;
    struct {
        int64_t tensor, pipeline, data, zero,
            interleave; /* sizes of the grid; data 0: what is left of the ranks */
        bool sequence_parallel;
        char comm[16];  /* of GPUs' memory: "auto" (NCCL), "nccl", "mpi" (staged through the host) */
        double timeout; /* seconds after which a silent rank ends the job; 0: never */
        int64_t checksum_interval; /* steps between comparisons of what ranks hold in common; 0: never */
        int64_t bucket_mb;         /* of gradients that are reduced as soon as they are complete */
    } parallel;
    struct {
        char name[16];
        double lr, betas[2], eps, weight_decay, max_grad_norm;
        double muon_lr_ratio, muon_momentum;
        bool stochastic_rounding;
    } optimizer;
    struct {
        char name[16];
        int64_t warmup_steps, decay_steps;
        double min_lr;
    } lr_schedule;
} Config;

void config_defaults(Config *c);
/* Read a JSON file over the defaults. Unknown keys (with the nearest known one), wrong types, values out of range:
 * one line naming file and key, exit code 2. */
bool config_read(Config *c, const char *path, Err *e);
bool config_set(Config *c, const char *assignment, Err *e); /* "train.max_steps=100" */
/* What one key cannot know: heads divide the width, seq_len fits n_positions, micro divides global, files named. */
bool config_check(const Config *c, Err *e);
bool model_check(const ModelConfig *m, const char *where, Err *e); /* the model section's part of it */
/* A key's value in place of another: "model.vocab_size" and the like are dotted paths. */
void config_print(const Config *c, Str *json); /* every key, resolved, floats in full */
/* One `model` section from a JSON text of just that section (a Hugging Face config.json): foreign keys are passed
 * over, foreign values of known keys are errors. `path` names the file in errors. */
bool model_read(ModelConfig *m, const char *json, size_t n, const char *path, Err *e);
void model_print(const ModelConfig *m, Str *json); /* the Hugging Face config.json that transformers opens */
void config_help(Str *text);                       /* `gpt help config` */

static inline int64_t model_inner(const ModelConfig *m) {
    return m->n_inner ? m->n_inner : 4 * m->n_embd;
}
#endif
