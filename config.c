/* config.c - floor 2: see config.h. */
#include "config.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------------------- */

#define TEXT(path, field, help)             KEY_TEXT(Config, path, field, "", help)
#define CHOICE(path, field, all, help)      KEY_CHOICE(Config, path, field, all, help)
#define INT(path, field, v, lo, hi, help)   KEY_INT(Config, path, field, v, lo, hi, help)
#define FLOAT(path, field, v, lo, hi, help) KEY_FLOAT(Config, path, field, v, lo, hi, help)
#define BOOL(path, field, v, help)          KEY_BOOL(Config, path, field, v, help)
/* Hugging Face writes null for "four times the width" and for "no such token". */
#define INT_OR_NULL(path, field, v, lo, hi, help) \
    { path, K_INT, KEY_AT(Config, field), v, lo, hi, NULL, help, true }

/* clang-format off */
static const Key keys[] = {
    TEXT("name", name, "name of the run; its folder is runs/NAME unless `out` says otherwise"),
    TEXT("out", out, "folder of the run"),
    TEXT("init_from", init_from, "start from these weights: a run, a checkpoint, a Hugging Face folder, an llm.c .bin"),
    TEXT("tokenizer", tokenizer, "tokenizer folder; copied into every checkpoint"),
    TEXT("notes", notes, "free text, carried along"),

    CHOICE("model.model_type", model.model_type, "gpt2|openai-gpt|gpt3", "gpt2: pre-norm; openai-gpt: GPT-1, post-norm; gpt3: every second layer banded"),
    INT("model.vocab_size", model.vocab_size, 0, 0, 1 << 24, "number of token ids; 0: the tokenizer's"),
    INT("model.n_positions", model.n_positions, 1024, 1, 1 << 24, "longest context, in tokens"),
    INT("model.n_embd", model.n_embd, 768, 1, 1 << 20, "width"),
    INT("model.n_layer", model.n_layer, 12, 1, 4096, "number of layers"),
    INT("model.n_head", model.n_head, 12, 1, 4096, "attention heads; divides n_embd"),
    INT_OR_NULL("model.n_inner", model.n_inner, 0, 0, 1 << 22, "width inside the MLP; 0 or null: 4 * n_embd"),
    INT("model.attention_window", model.attention_window, 256, 1, 1 << 24, "gpt3: width of the band in tokens"),
    CHOICE("model.activation_function", model.activation_function, "gelu_new", "the tanh form of GELU"),
    FLOAT("model.layer_norm_epsilon", model.layer_norm_epsilon, 1e-5, 1e-12, 1, "added to the variance"),
    FLOAT("model.initializer_range", model.initializer_range, 0.02, 0, 10, "standard deviation of initial weights"),
    FLOAT("model.resid_pdrop", model.resid_pdrop, 0, 0, 0.99, "dropout on what attention and MLP add to the stream"),
    FLOAT("model.embd_pdrop", model.embd_pdrop, 0, 0, 0.99, "dropout on the embeddings"),
    FLOAT("model.attn_pdrop", model.attn_pdrop, 0, 0, 0.99, "dropout on attention probabilities"),
    BOOL("model.tie_word_embeddings", model.tie_word_embeddings, 1, "the head shares the token embedding"),
    BOOL("model.scale_attn_by_inverse_layer_idx", model.scale_attn_by_inverse_layer_idx, 0, "divide layer l's scores by l + 1"),
    INT_OR_NULL("model.bos_token_id", model.bos_token_id, -1, -1, 1 << 24, "id that begins a text, told to other programs; -1 or null: none"),
    INT_OR_NULL("model.eos_token_id", model.eos_token_id, -1, -1, 1 << 24, "id that ends a text, the same way"),

    {"data.train", K_SOURCES, KEY_AT(Config, data.train), 0, 0, 0, NULL, "token shards: [{\"path\": file, folder or glob, \"weight\": 1}, ...]; for mixing also \"name\", \"val\" (held-out shards), \"epochs\" (most; 0: any number)", false},
    {"data.val", K_SOURCES, KEY_AT(Config, data.val), 0, 0, 0, NULL, "token shards for evaluation, the same way", false},
    BOOL("data.shuffle", data.shuffle, 1, "a new random order each epoch; false: file order"),
    CHOICE("data.mixing", data.mixing, "static|stratified|validation|doremi|exp3", "shares of the sources of data.train: by weight; equal; by held-out loss; by excess loss over a reference; by a bandit"),

    INT("mixing.interval", mixing.interval, 100, 1, 1e12, "steps between new weights"),
    INT("mixing.rows", mixing.rows, 32, 1, 1 << 20, "held-out sequences of a source that each look at it reads"),
    FLOAT("mixing.rate", mixing.rate, 1, 0, 1e6, "validation, doremi: exponent a unit of reward (of a range of 0 to 1; a nat); exp3: times sqrt(log n / (n t))"),
    FLOAT("mixing.floor", mixing.floor, 0.01, 0, 1, "validation, exp3: least share of a source"),
    FLOAT("mixing.smoothing", mixing.smoothing, 1e-3, 0, 1, "doremi: part of the shares that stays equal"),
    TEXT("mixing.reference", mixing.reference, "doremi: the reference model, such as a run with data.mixing static"),

    INT("train.max_steps", train.max_steps, 1000, 0, 1e12, "optimizer steps of the whole run"),
    INT("train.global_batch_size", train.global_batch_size, 8, 1, 1 << 24, "sequences an optimizer step"),
    INT("train.micro_batch_size", train.micro_batch_size, 0, 0, 1 << 20, "sequences a forward and backward pass; 0: the largest divisor of the batch with at most 4096 tokens"),
    INT("train.seq_len", train.seq_len, 0, 0, 1 << 24, "tokens a sequence; 0: n_positions"),
    CHOICE("train.device", train.device, "auto|cpu|cuda", "where to compute"),
    CHOICE("train.precision", train.precision, "auto|fp32|bf16|tf32|fp8", "of matrix operands; master weights are fp32; auto: bf16 where the machine has it; tf32, fp8: GPUs only"),
    CHOICE("train.recompute", train.recompute, "gelu|none|block", "what backward computes again: the outputs of norms and GELU; nothing; all of a layer but its input"),
    INT("train.seed", train.seed, 1337, 0, 9007199254740992, "of initial weights, data order, dropout"),
    INT("train.log_interval", train.log_interval, 1, 1, 1e12, "steps between lines of the log"),
    INT("train.eval_interval", train.eval_interval, 250, 0, 1e12, "steps between evaluations on data.val; 0: at the end only"),
    INT("train.eval_batches", train.eval_batches, 20, 1, 1e12, "global batches an evaluation"),
    INT("train.sample_interval", train.sample_interval, 0, 0, 1e12, "steps between printed samples; 0: never"),
    INT("train.checkpoint_interval", train.checkpoint_interval, 1000, 0, 1e12, "steps between checkpoints; 0: at the end only"),
    INT("train.keep_checkpoints", train.keep_checkpoints, 2, 0, 1e6, "how many to keep; 0: all"),
    INT("train.max_skips", train.max_skips, 10, 1, 1e9, "stop after so many skipped steps in a row"),
    FLOAT("train.spike_zscore", train.spike_zscore, 8, 0, 1e9, "skip a step whose loss is so many standard deviations above its recent mean; 0: never"),
    INT("train.threads", train.threads, 0, 0, 4096, "CPU threads; 0: all cores"),
    INT("train.trace_steps", train.trace_steps, 0, 0, 10000, "draw so many steps as a timeline: trace.json in the run's folder, for chrome://tracing"),

    INT("parallel.tensor", parallel.tensor, 1, 1, 1024, "ranks that share each layer (Megatron's scheme)"),
    INT("parallel.pipeline", parallel.pipeline, 1, 1, 4096, "stages that share the layers"),
    INT("parallel.data", parallel.data, 0, 0, 1 << 20, "ranks, or groups of them, that share each batch; 0: as many as the launcher's ranks allow"),
    INT("parallel.zero", parallel.zero, 0, 0, 2, "over the data ranks, share 1: optimizer state; 2: gradients too (reduced each micro step)"),
    BOOL("parallel.sequence_parallel", parallel.sequence_parallel, 0, "share norms and dropout between the tensor ranks"),
    INT("parallel.interleave", parallel.interleave, 1, 1, 4096, "chunks of layers a pipeline stage: a smaller bubble, more messages"),
    CHOICE("parallel.comm", parallel.comm, "auto|nccl|mpi", "how GPUs' memory travels: auto is nccl; mpi goes through the host"),
    INT("parallel.bucket_mb", parallel.bucket_mb, 25, 1, 1 << 20, "MB of gradients that are reduced together, as soon as they are complete"),
    FLOAT("parallel.timeout", parallel.timeout, 40, 0, 1e9, "seconds after which a rank that hangs ends the job; 0: never"),
    INT("parallel.checksum_interval", parallel.checksum_interval, 100, 0, 1e12, "steps between comparisons of the weights that ranks hold in common; 0: never"),

    CHOICE("optimizer.name", optimizer.name, "adamw|muon", "adamw: AdamW; muon: Muon for the matrices inside the layers, AdamW for the rest"),
    FLOAT("optimizer.lr", optimizer.lr, 6e-4, 0, 100, "peak learning rate"),
    {"optimizer.betas", K_PAIR, KEY_AT(Config, optimizer.betas), 0.9, 0, 0.9999999, NULL, "decay of the first and second moment", false},
    FLOAT("optimizer.eps", optimizer.eps, 1e-8, 0, 1, "added to the root of the second moment"),
    FLOAT("optimizer.weight_decay", optimizer.weight_decay, 0.1, 0, 100, "decoupled, on matrices only"),
    FLOAT("optimizer.muon_lr_ratio", optimizer.muon_lr_ratio, 1, 0, 1e6, "muon: its learning rate over optimizer.lr; its updates are scaled to AdamW's size"),
    FLOAT("optimizer.muon_momentum", optimizer.muon_momentum, 0.95, 0, 0.9999999, "muon: decay of its momentum (Nesterov)"),
    BOOL("optimizer.stochastic_rounding", optimizer.stochastic_rounding, 0, "GPUs: round weights to bf16 up or down at random, right on average"),
    FLOAT("optimizer.max_grad_norm", optimizer.max_grad_norm, 1, 0, 1e9, "clip the global gradient norm; 0: never"),

    CHOICE("lr_schedule.name", lr_schedule.name, "cosine|linear|constant|wsd", "after the warmup"),
    INT("lr_schedule.warmup_steps", lr_schedule.warmup_steps, 0, 0, 1e12, "linear from 0"),
    INT("lr_schedule.decay_steps", lr_schedule.decay_steps, 0, 0, 1e12, "wsd: length of the final decay; 0: a fifth of max_steps"),
    FLOAT("lr_schedule.min_lr", lr_schedule.min_lr, 0, 0, 100, "where cosine, linear and wsd end"),
};
/* clang-format on */
static const Keys table = {keys, sizeof keys / sizeof *keys, "gpt help config"};

void config_defaults(Config *c) {
    memset(c, 0, sizeof *c);
    keys_defaults(&table, c);
    c->optimizer.betas[1] = 0.95;
}

bool config_read(Config *c, const char *path, Err *e) {
    return keys_read(&table, c, path, e);
}

bool config_set(Config *c, const char *assignment, Err *e) {
    return keys_set(&table, c, assignment, e);
}

void config_print(const Config *c, Str *json) {
    keys_print(&table, c, json);
}

void config_help(Str *text) {
    Config c;
    config_defaults(&c);
    keys_help(&table, &c, text);
}

/* ---- what one key cannot know ---------------------------------------------------------------------------- */

bool model_check(const ModelConfig *m, const char *where, Err *e) {
    if (m->n_embd % m->n_head)
        return err_usage(e, "%s: model.n_head %lld does not divide model.n_embd %lld", where,
                         (long long)m->n_head, (long long)m->n_embd);
    return true;
}

/* What rules of mixing need of the sources. */
static bool mixing_check(const Config *c, Err *e) {
    const DataSources *s = &c->data.train;
    const char *rule = c->data.mixing;
    const bool looks = strcmp(rule, "static") && strcmp(rule, "stratified");
    for (int i = 0; i < s->n; i++) {
        const char *name = *s->at[i].name ? s->at[i].name : s->at[i].path;
        if (looks && !*s->at[i].val)
            return err_usage(e, "config: data.mixing %s needs held-out shards of each source: \"val\" of %s",
                             rule, name);
        if (!c->data.shuffle && (strcmp(rule, "static") || s->at[i].epochs > 0))
            return err_usage(e,
                             "config: data.shuffle=false reads sources in file order, which leaves nothing "
                             "to mix; a data.mixing but static, or epochs, need it true");
    }
    if (looks && s->n * c->mixing.floor > 1)
        return err_usage(e, "config: mixing.floor %g is more than an equal share of %d sources",
                         c->mixing.floor, s->n);
    if (!strcmp(rule, "doremi") && !*c->mixing.reference)
        return err_usage(e,
                         "config: data.mixing doremi needs mixing.reference, a model to compare with: train "
                         "one with data.mixing static first");
    return true;
}

bool config_check(const Config *c, Err *e) {
    int64_t T = c->train.seq_len, B = c->train.micro_batch_size, all = c->train.global_batch_size;
    if (!model_check(&c->model, "config", e)) return false;
    if (T > c->model.n_positions)
        return err_usage(e, "config: train.seq_len %lld is longer than model.n_positions %lld", (long long)T,
                         (long long)c->model.n_positions);
    if (B && all % B)
        return err_usage(e,
                         "config: train.micro_batch_size %lld does not divide train.global_batch_size %lld",
                         (long long)B, (long long)all);
    if (!c->data.train.n)
        return err_usage(e, "config: data.train names no token shards; make them with gpt data shard");
    if (!*c->name && !*c->out)
        return err_usage(e, "config: give the run a name (\"name\") or a folder (\"out\")");
    if (!*c->out && (strchr(c->name, '/') || c->name[0] == '.'))
        return err_usage(e, "config: name \"%s\" must be a plain word; use `out` for a folder", c->name);
    if (c->lr_schedule.min_lr > c->optimizer.lr)
        return err_usage(e, "config: lr_schedule.min_lr %g is above optimizer.lr %g", c->lr_schedule.min_lr,
                         c->optimizer.lr);
    return mixing_check(c, e);
}

/* ---- Hugging Face's config.json -------------------------------------------------------------------------- */

/* Our key for one of Hugging Face's, NULL if it means nothing to us. GPT-1 says `afn` and lets "gelu" stand for the
 * tanh form. */
static const Key *foreign_key(const char *name) {
    char path[96];
    snprintf(path, sizeof path, "model.%.64s", !strcmp(name, "afn") ? "activation_function" : name);
    return keys_find(&table, path);
}

/* Keys that change the computation in a way this program does not have; any other value is refused. */
static bool foreign_value_is_known(const cJSON *it, const char *where, Err *e) {
    static const struct {
        const char *key;
        bool allowed;
    } fixed[] = {
        {"scale_attn_weights", true},
        {"reorder_and_upcast_attn", false},
        {"add_cross_attention", false},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (!strcmp(it->string, fixed[i].key) && cJSON_IsTrue(it) != fixed[i].allowed)
            return err_set(e, "%s: %s: %s is not supported", where, it->string,
                           cJSON_IsTrue(it) ? "true" : "false");
    return true;
}

bool model_read(ModelConfig *m, const char *json, size_t n, const char *path, Err *e) {
    static Config c; /* only its model section is used */
    bool typed = false;
    config_defaults(&c);
    cJSON *root = keys_parse(path, json, n, e);
    bool ok = root != NULL;
    for (const cJSON *it = root ? root->child : NULL; it && ok; it = it->next) {
        const Key *k = foreign_key(it->string);
        typed |= !strcmp(it->string, "model_type");
        if (!k) {
            ok = foreign_value_is_known(it, path, e);
        } else if (!strcmp(it->string, "afn") && cJSON_IsString(it) && !strcmp(it->valuestring, "gelu")) {
            strcpy(c.model.activation_function, "gelu_new");
        } else if (!cJSON_IsNull(it)) {
            ok = key_read(k, &c, path, it, e);
        }
    }
    cJSON_Delete(root);
    if (ok && !typed) ok = err_set(e, "%s: has no model_type; \"gpt2\" and \"openai-gpt\" are known", path);
    if (ok && !c.model.vocab_size) ok = err_set(e, "%s: has no vocab_size", path);
    if (ok) ok = model_check(&c.model, path, e);
    if (!ok) e->code = EXIT_FAULT; /* a model's file, not the user's config */
    *m = c.model;
    return ok;
}

void model_print(const ModelConfig *m, Str *json) {
    bool gpt1 = !strcmp(m->model_type, "openai-gpt"), gpt2 = !strcmp(m->model_type, "gpt2");
    Config c;
    config_defaults(&c);
    c.model = *m;
    str_puts(json, "{\n");
    if (gpt1 || gpt2)
        str_printf(json, "  \"architectures\": [\"%s\"],\n",
                   gpt1 ? "OpenAIGPTLMHeadModel" : "GPT2LMHeadModel");
    for (const Key *k = table.at; k < table.at + table.n; k++) {
        if (strncmp(k->path, "model.", 6)) continue;
        if (k->at == offsetof(Config, model.attention_window) && (gpt1 || gpt2)) continue;
        bool afn = gpt1 && k->at == offsetof(Config, model.activation_function);
        str_printf(json, "  \"%s\": ", afn ? "afn" : k->path + 6);
        if (afn)
            str_puts(json, "\"gelu\"");
        else if (k->or_null && *(int64_t *)((char *)&c + k->at) == (int64_t)k->value)
            str_puts(json, "null");
        else
            key_print(k, &c, json);
        str_puts(json, ",\n");
    }
    str_printf(json, "  \"n_ctx\": %lld,\n  \"torch_dtype\": \"float32\"\n}\n", (long long)m->n_positions);
}
