/* config.c - floor 2: see config.h. */
#include "config.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------------------- */

typedef enum { K_TEXT, K_CHOICE, K_INT, K_FLOAT, K_BOOL, K_PAIR, K_SOURCES } Kind;

typedef struct Key {
    const char *path; /* "section.key", or "key" at the top */
    Kind kind;
    size_t at, size;  /* within Config; size of a text's buffer */
    double value;     /* default of a number or bool; both halves of a pair are said in config_defaults */
    double min, max;  /* inclusive */
    const char *text; /* default of a text; choices of a choice, the default first: "gpt2|openai-gpt" */
    const char *help;
} Key;

#define AT(field) offsetof(Config, field), sizeof(((Config *)0)->field)
#define TEXT(path, field, help) \
    { path, K_TEXT, AT(field), 0, 0, 0, "", help }
#define CHOICE(path, field, all, help) \
    { path, K_CHOICE, AT(field), 0, 0, 0, all, help }
#define INT(path, field, v, lo, hi, help) \
    { path, K_INT, AT(field), v, lo, hi, NULL, help }
#define FLOAT(path, field, v, lo, hi, help) \
    { path, K_FLOAT, AT(field), v, lo, hi, NULL, help }
#define BOOL(path, field, v, help) \
    { path, K_BOOL, AT(field), v, 0, 1, NULL, help }
#define MANY 1e15

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
    INT("model.n_inner", model.n_inner, 0, 0, 1 << 22, "width inside the MLP; 0 or null: 4 * n_embd"),
    INT("model.attention_window", model.attention_window, 256, 1, 1 << 24, "gpt3: width of the band in tokens"),
    CHOICE("model.activation_function", model.activation_function, "gelu_new", "the tanh form of GELU"),
    FLOAT("model.layer_norm_epsilon", model.layer_norm_epsilon, 1e-5, 1e-12, 1, "added to the variance"),
    FLOAT("model.initializer_range", model.initializer_range, 0.02, 0, 10, "standard deviation of initial weights"),
    FLOAT("model.resid_pdrop", model.resid_pdrop, 0, 0, 0.99, "dropout on what attention and MLP add to the stream"),
    FLOAT("model.embd_pdrop", model.embd_pdrop, 0, 0, 0.99, "dropout on the embeddings"),
    FLOAT("model.attn_pdrop", model.attn_pdrop, 0, 0, 0.99, "dropout on attention probabilities"),
    BOOL("model.tie_word_embeddings", model.tie_word_embeddings, 1, "the head shares the token embedding"),
    BOOL("model.scale_attn_by_inverse_layer_idx", model.scale_attn_by_inverse_layer_idx, 0, "divide layer l's scores by l + 1"),
    INT("model.bos_token_id", model.bos_token_id, -1, -1, 1 << 24, "id that begins a text, told to other programs; -1 or null: none"),
    INT("model.eos_token_id", model.eos_token_id, -1, -1, 1 << 24, "id that ends a text, the same way"),

    {"data.train", K_SOURCES, AT(data.train), 0, 0, 0, NULL, "token shards: [{\"path\": file, folder or glob, \"weight\": 1}, ...]"},
    {"data.val", K_SOURCES, AT(data.val), 0, 0, 0, NULL, "token shards for evaluation, the same way"},
    BOOL("data.shuffle", data.shuffle, 1, "a new random order each epoch; false: file order"),

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
    {"optimizer.betas", K_PAIR, AT(optimizer.betas), 0.9, 0, 0.9999999, NULL, "decay of the first and second moment"},
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
enum { N_KEYS = sizeof keys / sizeof *keys };

static void *field(const Config *c, const Key *k) {
    return (char *)c + k->at;
}

/* Is `word` one of the |-separated choices? */
static bool has_choice(const char *all, const char *word) {
    size_t n = strlen(word);
    for (const char *p = all; n; p++) {
        size_t len = strcspn(p, "|");
        if (len == n && !memcmp(p, word, n)) return true;
        p += len;
        if (!*p) break;
    }
    return false;
}

void config_defaults(Config *c) {
    memset(c, 0, sizeof *c);
    for (const Key *k = keys; k < keys + N_KEYS; k++) {
        void *p = field(c, k);
        switch (k->kind) {
        case K_TEXT: snprintf(p, k->size, "%s", k->text); break;
        case K_CHOICE: snprintf(p, k->size, "%.*s", (int)strcspn(k->text, "|"), k->text); break;
        case K_INT: *(int64_t *)p = (int64_t)k->value; break;
        case K_FLOAT: *(double *)p = k->value; break;
        case K_BOOL: *(bool *)p = k->value != 0; break;
        case K_PAIR: ((double *)p)[0] = k->value, ((double *)p)[1] = 0.95; break;
        case K_SOURCES: break;
        }
    }
}

/* ---- values ---------------------------------------------------------------------------------------------- */

static const char *json_kind(const cJSON *v) {
    return cJSON_IsString(v)   ? "a text"
           : cJSON_IsNumber(v) ? "a number"
           : cJSON_IsBool(v)   ? "true or false"
           : cJSON_IsArray(v)  ? "a list"
           : cJSON_IsNull(v)   ? "null"
                               : "an object";
}

static bool wrong_type(const char *where, const Key *k, const cJSON *v, const char *wanted, Err *e) {
    return err_usage(e, "%s: %s is %s; it must be %s", where, k->path, json_kind(v), wanted);
}

static bool out_of_range(const char *where, const Key *k, double given, Err *e) {
    return err_usage(e, "%s: %s is %.17g; it must be %s from %.15g to %.15g", where, k->path, given,
                     k->kind == K_INT ? "a whole number" : "a number", k->min, k->max);
}

static bool read_number(const char *where, const Key *k, const cJSON *v, double *out, Err *e) {
    if (!cJSON_IsNumber(v)) return wrong_type(where, k, v, "a number", e);
    *out = v->valuedouble;
    bool whole = k->kind != K_INT || *out == floor(*out);
    return (whole && *out >= k->min && *out <= k->max) || out_of_range(where, k, *out, e);
}

static bool read_text(const char *where, const Key *k, const cJSON *v, char *dst, size_t size, Err *e) {
    if (!cJSON_IsString(v)) return wrong_type(where, k, v, "a text", e);
    if (strlen(v->valuestring) >= size)
        return err_usage(e, "%s: %s is longer than %zu bytes", where, k->path, size - 1);
    strcpy(dst, v->valuestring);
    return true;
}

static bool read_source(const char *where, const Key *k, const cJSON *v, DataSource *s, Err *e) {
    const Key weight = {k->path, K_FLOAT, 0, 0, 1, 1e-9, 1e9, NULL, NULL};
    bool named = false;
    s->weight = 1;
    if (cJSON_IsString(v)) return read_text(where, k, v, s->path, sizeof s->path, e);
    if (!cJSON_IsObject(v)) return wrong_type(where, k, v, "a list of {\"path\": ..., \"weight\": ...}", e);
    for (const cJSON *it = v->child; it; it = it->next) {
        if (!strcmp(it->string, "path")) {
            named = true;
            if (!read_text(where, k, it, s->path, sizeof s->path, e)) return false;
        } else if (!strcmp(it->string, "weight")) {
            if (!read_number(where, &weight, it, &s->weight, e)) return false;
        } else {
            return err_usage(e, "%s: %s has no key \"%s\"; it has path and weight", where, k->path,
                             it->string);
        }
    }
    return named || err_usage(e, "%s: %s: an entry has no path", where, k->path);
}

static bool read_sources(const char *where, const Key *k, const cJSON *v, DataSources *s, Err *e) {
    s->n = 0;
    if (!cJSON_IsArray(v)) { /* one source, without the list */
        s->n = 1;
        return read_source(where, k, v, &s->at[0], e);
    }
    for (const cJSON *it = v->child; it; it = it->next) {
        if (s->n == CONFIG_SOURCES)
            return err_usage(e, "%s: %s has more than %d entries", where, k->path, CONFIG_SOURCES);
        if (!read_source(where, k, it, &s->at[s->n++], e)) return false;
    }
    return true;
}

static bool read_pair(const char *where, const Key *k, const cJSON *v, double *pair, Err *e) {
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 2)
        return wrong_type(where, k, v, "a list of two numbers", e);
    return read_number(where, k, v->child, &pair[0], e) && read_number(where, k, v->child->next, &pair[1], e);
}

static bool read_value(Config *c, const char *where, const Key *k, const cJSON *v, Err *e) {
    void *p = field(c, k);
    double x;
    switch (k->kind) {
    case K_TEXT: return read_text(where, k, v, p, k->size, e);
    case K_CHOICE:
        if (!cJSON_IsString(v)) return wrong_type(where, k, v, k->text, e);
        if (!has_choice(k->text, v->valuestring))
            return err_usage(e, "%s: %s is \"%s\"; it must be one of %s", where, k->path, v->valuestring,
                             k->text);
        return read_text(where, k, v, p, k->size, e);
    case K_INT:
        if (!read_number(where, k, v, &x, e)) return false;
        *(int64_t *)p = (int64_t)x;
        return true;
    case K_FLOAT: return read_number(where, k, v, p, e);
    case K_BOOL:
        if (!cJSON_IsBool(v)) return wrong_type(where, k, v, "true or false", e);
        *(bool *)p = cJSON_IsTrue(v);
        return true;
    case K_PAIR: return read_pair(where, k, v, p, e);
    case K_SOURCES: return read_sources(where, k, v, p, e);
    }
    return false;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

/* Edit distance (Levenshtein), for "did you mean". Words of up to 63 letters. */
static int distance(const char *a, const char *b) {
    int row[64], n = (int)strlen(b);
    if (n > 63 || strlen(a) > 63) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static const Key *find_key(const char *path) {
    for (const Key *k = keys; k < keys + N_KEYS; k++)
        if (!strcmp(k->path, path)) return k;
    return NULL;
}

/* The known key that looks most like `path`: its last word counts as well as the whole, so that a key in the wrong
 * section is found too. */
static const char *nearest_key(const char *path) {
    const char *best = keys[0].path, *word = strrchr(path, '.');
    int best_d = 1000;
    word = word ? word + 1 : path;
    for (const Key *k = keys; k < keys + N_KEYS; k++) {
        const char *last = strrchr(k->path, '.');
        int d = 2 * distance(path, k->path), d_word = 2 * distance(word, last ? last + 1 : k->path) + 1;
        if (d_word < d) d = d_word;
        if (d < best_d) best_d = d, best = k->path;
    }
    return best;
}

static bool unknown_key(const char *where, const char *path, Err *e) {
    return err_usage(e, "%s: unknown key \"%s\"; did you mean \"%s\"? (gpt help config lists all)", where,
                     path, nearest_key(path));
}

static bool is_section(const char *name) {
    size_t n = strlen(name);
    for (const Key *k = keys; k < keys + N_KEYS; k++)
        if (!strncmp(k->path, name, n) && k->path[n] == '.') return true;
    return false;
}

/* Hugging Face writes null for "four times the width" and for "no such token". */
static bool may_be_null(const Key *k) {
    return k->at == offsetof(Config, model.n_inner) || k->at == offsetof(Config, model.bos_token_id) ||
           k->at == offsetof(Config, model.eos_token_id);
}

static bool read_object(Config *c, const char *where, const char *section, const cJSON *object, Err *e) {
    for (const cJSON *it = object->child; it; it = it->next) {
        char path[128];
        snprintf(path, sizeof path, "%s%s%.60s", section, *section ? "." : "", it->string);
        for (const cJSON *twin = object->child; twin != it; twin = twin->next)
            if (!strcmp(twin->string, it->string)) return err_usage(e, "%s: %s is given twice", where, path);
        const Key *k = find_key(path);
        if (!*section && is_section(it->string)) {
            if (!cJSON_IsObject(it))
                return err_usage(e, "%s: %s is %s; it must be an object", where, path, json_kind(it));
            if (!read_object(c, where, it->string, it, e)) return false;
        } else if (!k) {
            return unknown_key(where, path, e);
        } else if (cJSON_IsNull(it) && may_be_null(k)) {
            *(int64_t *)field(c, k) = (int64_t)k->value;
        } else if (!read_value(c, where, k, it, e)) {
            return false;
        }
    }
    return true;
}

/* The place of a JSON error as a line number. */
static int line_of(const char *text, const char *at) {
    int line = 1;
    for (const char *p = text; at && p < at; p++) line += *p == '\n';
    return line;
}

static cJSON *parse_json(const char *path, const char *text, size_t n, Err *e) {
    const char *end = NULL;
    if (memchr(text, 0, n)) return err_usage(e, "%s: is not JSON: it holds a zero byte", path), NULL;
    cJSON *root = cJSON_ParseWithOpts(text, &end, true);
    if (!root) return err_usage(e, "%s: is not valid JSON: look at line %d", path, line_of(text, end)), NULL;
    if (cJSON_IsObject(root)) return root;
    cJSON_Delete(root);
    return err_usage(e, "%s: must hold one JSON object", path), NULL;
}

bool config_read(Config *c, const char *path, Err *e) {
    char *text;
    size_t n;
    if (!file_read(path, 1 << 20, &text, &n, e)) {
        e->code = EXIT_USAGE; /* a config that cannot be read is a config error */
        return false;
    }
    cJSON *root = parse_json(path, text, n, e);
    bool ok = root && read_object(c, path, "", root, e);
    cJSON_Delete(root);
    free(text);
    return ok;
}

bool config_set(Config *c, const char *assignment, Err *e) {
    char path[128];
    const char *eq = strchr(assignment, '=');
    if (!eq || eq == assignment || (size_t)(eq - assignment) >= sizeof path)
        return err_usage(e, "--set %s: write key=value, as in --set train.max_steps=100", assignment);
    snprintf(path, sizeof path, "%.*s", (int)(eq - assignment), assignment);
    const Key *k = find_key(path);
    if (!k) return unknown_key("--set", path, e);
    bool text = k->kind == K_TEXT || k->kind == K_CHOICE;
    const char *end = NULL;
    cJSON *v = text ? cJSON_CreateString(eq + 1) : cJSON_ParseWithOpts(eq + 1, &end, true);
    if (!v && k->kind == K_SOURCES) v = cJSON_CreateString(eq + 1); /* a bare path */
    bool ok = v ? read_value(c, "--set", k, v, e)
                : err_usage(e, "--set: %s: cannot read the value \"%s\"", path, eq + 1);
    cJSON_Delete(v);
    return ok;
}

/* ---- what one key cannot know ---------------------------------------------------------------------------- */

bool model_check(const ModelConfig *m, const char *where, Err *e) {
    if (m->n_embd % m->n_head)
        return err_usage(e, "%s: model.n_head %lld does not divide model.n_embd %lld", where,
                         (long long)m->n_head, (long long)m->n_embd);
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
    return true;
}

/* ---- printing -------------------------------------------------------------------------------------------- */

static void print_text(Str *out, const char *text) {
    cJSON *s = cJSON_CreateString(text);
    char *quoted = cJSON_PrintUnformatted(s);
    CHECK(quoted);
    str_puts(out, quoted);
    cJSON_free(quoted);
    cJSON_Delete(s);
}

/* The shortest decimal that reads back as the same double. */
static void print_float(Str *out, double x) {
    char b[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(b, sizeof b, "%.*g", digits, x);
        if (strtod(b, NULL) == x) break;
    }
    str_puts(out, b);
}

static void print_sources(Str *out, const DataSources *s) {
    str_puts(out, "[");
    for (int i = 0; i < s->n; i++) {
        str_puts(out, i ? ", {\"path\": " : "{\"path\": ");
        print_text(out, s->at[i].path);
        str_puts(out, ", \"weight\": ");
        print_float(out, s->at[i].weight);
        str_puts(out, "}");
    }
    str_puts(out, "]");
}

static void print_value(Str *out, const Config *c, const Key *k) {
    const void *p = field(c, k);
    const double *x = p;
    switch (k->kind) {
    case K_TEXT:
    case K_CHOICE: print_text(out, p); break;
    case K_INT: str_printf(out, "%lld", (long long)*(const int64_t *)p); break;
    case K_FLOAT: print_float(out, *x); break;
    case K_BOOL: str_puts(out, *(const bool *)p ? "true" : "false"); break;
    case K_PAIR:
        str_puts(out, "[");
        print_float(out, x[0]);
        str_puts(out, ", ");
        print_float(out, x[1]);
        str_puts(out, "]");
        break;
    case K_SOURCES: print_sources(out, p); break;
    }
}

/* Length of the section's name in a key's path; 0 at the top. */
static int section_length(const Key *k) {
    const char *dot = strchr(k->path, '.');
    return dot ? (int)(dot - k->path) : 0;
}

/* Do the table's rows i and i + 1 stand in one section? Rows beyond the table stand in none. */
static bool same_section(int i) {
    if (i < 0 || i + 1 >= N_KEYS) return false;
    int n = section_length(&keys[i]);
    return n == section_length(&keys[i + 1]) && !strncmp(keys[i].path, keys[i + 1].path, (size_t)n);
}

void config_print(const Config *c, Str *json) {
    str_puts(json, "{\n");
    for (int i = 0; i < N_KEYS; i++) {
        const Key *k = &keys[i];
        int n = section_length(k);
        if (n && !same_section(i - 1)) str_printf(json, "  \"%.*s\": {\n", n, k->path);
        str_printf(json, "%s\"%s\": ", n ? "    " : "  ", n ? k->path + n + 1 : k->path);
        print_value(json, c, k);
        if (n && !same_section(i)) str_puts(json, "\n  }");
        str_puts(json, i + 1 < N_KEYS ? ",\n" : "\n");
    }
    str_puts(json, "}\n");
}

void config_help(Str *text) {
    Config c;
    config_defaults(&c);
    for (int i = 0; i < N_KEYS; i++) {
        const Key *k = &keys[i];
        Str value = {0};
        print_value(&value, &c, k);
        str_printf(text, "%s%-42s %-12s %s", i && !same_section(i - 1) ? "\n" : "", k->path, value.p,
                   k->help);
        if (k->kind == K_CHOICE && strchr(k->text, '|')) str_printf(text, " (%s)", k->text);
        if (k->kind == K_INT || k->kind == K_FLOAT) str_printf(text, " (%.15g to %.15g)", k->min, k->max);
        str_puts(text, "\n");
        str_free(&value);
    }
}

/* ---- Hugging Face's config.json -------------------------------------------------------------------------- */

/* Our key for one of Hugging Face's, NULL if it means nothing to us. GPT-1 says `afn` and lets "gelu" stand for the
 * tanh form. */
static const Key *foreign_key(const char *name) {
    char path[96];
    snprintf(path, sizeof path, "model.%.64s", !strcmp(name, "afn") ? "activation_function" : name);
    return find_key(path);
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
    cJSON *root = parse_json(path, json, n, e);
    bool ok = root != NULL;
    for (const cJSON *it = root ? root->child : NULL; it && ok; it = it->next) {
        const Key *k = foreign_key(it->string);
        typed |= !strcmp(it->string, "model_type");
        if (!k) {
            ok = foreign_value_is_known(it, path, e);
        } else if (!strcmp(it->string, "afn") && cJSON_IsString(it) && !strcmp(it->valuestring, "gelu")) {
            strcpy(c.model.activation_function, "gelu_new");
        } else if (!cJSON_IsNull(it)) {
            ok = read_value(&c, path, k, it, e);
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
    for (const Key *k = keys; k < keys + N_KEYS; k++) {
        if (strncmp(k->path, "model.", 6)) continue;
        if (k->at == offsetof(Config, model.attention_window) && (gpt1 || gpt2)) continue;
        bool afn = gpt1 && k->at == offsetof(Config, model.activation_function);
        str_printf(json, "  \"%s\": ", afn ? "afn" : k->path + 6);
        if (afn)
            str_puts(json, "\"gelu\"");
        else if (may_be_null(k) && *(int64_t *)field(&c, k) == (int64_t)k->value)
            str_puts(json, "null");
        else
            print_value(json, &c, k);
        str_puts(json, ",\n");
    }
    str_printf(json, "  \"n_ctx\": %lld,\n  \"torch_dtype\": \"float32\"\n}\n", (long long)m->n_positions);
}
