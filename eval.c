/* eval.c - floor 5: see eval.h. */
#include "eval.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- loss over shards ---------------------------------------------------------------------------------- */

/* Bytes of text that each of the model's ids stands for; -1 where the tokenizer has no such id. */
static int32_t *byte_lengths(const Tokenizer *t, int64_t V) {
    int32_t *bytes = xmalloc((size_t)V * sizeof *bytes);
    for (int32_t id = 0; id < V; id++) {
        size_t n;
        bytes[id] = tokenizer_bytes(t, id, &n) ? (int32_t)n : -1;
        if (id == tokenizer_eot(t)) bytes[id] = 0;
    }
    return bytes;
}

/* The first n sequences of the loader, as many at once as the model was made for. */
static bool sum_losses(Gpt *m, const Loader *l, int T, uint64_t n, const int32_t *bytes, EvalLoss *r,
                       Err *e) {
    const GptOptions *o = gpt_options(m);
    const int B = o->B * o->T / T;
    const size_t rows = (size_t)B * (size_t)T;
    int32_t *tokens = xmalloc(2 * rows * sizeof *tokens), *targets = tokens + rows;
    float *loss = xmalloc(rows * sizeof *loss);
    bool ok = true;
    for (uint64_t q = 0; q < n && ok; q += (uint64_t)B) {
        Batch b = {.tokens = tokens, .targets = targets, .B = n - q < (uint64_t)B ? (int)(n - q) : B, .T = T};
        ok = loader_rows(l, q, b.B, tokens, targets, e);
        if (!ok) break;
        gpt_losses(m, &b, loss, NULL);
        loader_prefetch(l, q + (uint64_t)B, B);
        for (int64_t i = 0; i < (int64_t)b.B * T && ok; i++) {
            r->loss += loss[i];
            if (!bytes) continue;
            ok = bytes[targets[i]] >= 0 ||
                 err_set(e, "token %d of the shards is beyond the tokenizer", (int)targets[i]);
            r->bytes += (uint64_t)bytes[targets[i]];
        }
        r->tokens += (uint64_t)b.B * (uint64_t)T;
    }
    free(tokens), free(loss);
    return ok;
}

bool eval_loss(Gpt *m, const Tokenizer *t, const char *shards, int T, uint64_t max_tokens, EvalLoss *r,
               Err *e) {
    const ModelConfig *c = gpt_config(m);
    ShardInfo info;
    *r = (EvalLoss){.bits_per_byte = NAN, .floor = NAN};
    if (T < 1 || T > c->n_positions)
        return err_usage(e, "a sequence length of %d; this model's context holds 1 to %lld tokens", T,
                         (long long)c->n_positions);
    Source source = {shards, 1};
    Loader *l = loader_open(&source, 1, T, false, 0, (int32_t)c->vocab_size, e);
    if (!l) return false;
    uint64_t n = loader_sequences(l), most = max_tokens / (uint64_t)T;
    if (max_tokens && n > most) n = most ? most : 1;
    int32_t *bytes = t ? byte_lengths(t, c->vocab_size) : NULL;
    bool ok = sum_losses(m, l, T, n, bytes, r, e) && shard_info(shards, &info, e);
    free(bytes);
    loader_close(l);
    if (!ok) return false;

    double nats = r->loss;
    r->loss = nats / (double)r->tokens;
    r->perplexity = exp(r->loss);
    if (t) r->bits_per_byte = nats / log(2) / (double)r->bytes;
    if (info.nats > 0 && info.tokens) r->floor = info.nats / (double)info.tokens;
    return true;
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static int longest_first(const void *a, const void *b) {
    const EvalRow *x = *(EvalRow *const *)a, *y = *(EvalRow *const *)b;
    return x->n != y->n ? y->n - x->n : (x > y) - (x < y);
}

/* B rows as one batch of the longest's length, padded on the right, where causal attention never looks. */
static void score_rows(Gpt *m, EvalRow **row, int B, int32_t *tokens, int32_t *targets, float *loss,
                       int32_t *best) {
    const int T = row[0]->n - 1;
    for (int b = 0; b < B; b++)
        for (int i = 0; i < T; i++) {
            const EvalRow *r = row[b];
            tokens[b * T + i] = i < r->n ? r->ids[i] : 0;
            targets[b * T + i] = i + 1 >= r->context && i + 1 < r->n ? r->ids[i + 1] : -1;
        }
    gpt_losses(m, &(Batch){.tokens = tokens, .targets = targets, .B = B, .T = T}, loss, best);
    for (int b = 0; b < B; b++) {
        EvalRow *r = row[b];
        r->loss = 0, r->likeliest = true;
        for (int i = b * T + r->context - 1; i < b * T + r->n - 1; i++) {
            r->loss += loss[i];
            r->likeliest &= best[i] == targets[i];
        }
    }
}

void eval_rows(Gpt *m, EvalRow **row, size_t n) {
    const GptOptions *o = gpt_options(m);
    const size_t room = (size_t)o->B * (size_t)o->T;
    qsort(row, n, sizeof *row, longest_first);
    int32_t *tokens = xmalloc(3 * room * sizeof *tokens);
    float *loss = xmalloc(room * sizeof *loss);
    for (size_t at = 0; at < n;) {
        size_t B = room / (size_t)(row[at]->n - 1);
        CHECK(B > 0, "the model was made for fewer rows than its context");
        if (B > n - at) B = n - at;
        score_rows(m, row + at, (int)B, tokens, tokens + room, loss, tokens + 2 * room);
        at += B;
    }
    free(tokens), free(loss);
}

/* ---- tasks: reading ------------------------------------------------------------------------------------ */

typedef struct Row {
    EvalRow is;
    int chars; /* of the target's text, without the space before it */
} Row;

typedef struct Item {
    size_t row; /* the first of its rows */
    int n_rows, label;
} Item;

typedef struct Task {
    Gpt *m;
    const Tokenizer *t;
    const Text *in; /* for the line number in errors */
    bool choices;   /* multiple choice, or cloze */
    Row *row;
    size_t n_rows, cap_rows;
    Item *item;
    size_t n_items, cap_items;
} Task;

static bool bad_line(const Task *k, Err *e, const char *what) {
    return err_set(e, "%s:%llu: %s", k->in->path, (unsigned long long)k->in->line, what);
}

static int count_chars(const char *s) {
    int n = 0;
    for (; *s; s++) n += (*s & 0xc0) != 0x80;
    return n;
}

/* The last `most` of the tokens of a, then b; false if not one of a is among them. */
static bool join(const Ids *a, const Ids *b, size_t most, EvalRow *row) {
    if (a->n == 0 || b->n == 0 || b->n >= most) return false;
    size_t given = a->n + b->n > most ? most - b->n : a->n;
    row->ids = xmalloc((given + b->n) * sizeof *row->ids);
    memcpy(row->ids, a->id + (a->n - given), given * sizeof *row->ids);
    memcpy(row->ids + given, b->id, b->n * sizeof *row->ids);
    row->n = (int)(given + b->n);
    row->context = (int)given;
    return true;
}

static bool add_row(Task *k, const char *context, size_t n_context, const char *target, Err *e) {
    const ModelConfig *c = gpt_config(k->m);
    int32_t eot = tokenizer_eot(k->t);
    Ids a = {0}, b = {0}, start = {&eot, 1, 1};
    Str text = {0};
    Row row = {.chars = count_chars(target)};
    str_printf(&text, " %s", target);
    bool ok = tokenizer_encode(k->t, context, n_context, SPECIAL_TEXT, &a, e) &&
              tokenizer_encode(k->t, text.p, text.n, SPECIAL_TEXT, &b, e);
    if (ok && a.n == 0 && eot < 0)
        ok = bad_line(k, e, "the context is empty, and the tokenizer has no end-of-text token to start from");
    if (ok && !join(a.n ? &a : &start, &b, (size_t)c->n_positions + 1, &row.is)) /* the last is not read */
        ok = bad_line(k, e, "the text to score is longer than the model's context");
    for (int i = 0; i < row.is.n && ok; i++)
        if (row.is.ids[i] >= c->vocab_size)
            ok = bad_line(k, e, "the tokenizer has ids beyond the model's vocabulary");
    str_free(&text);
    ids_free(&a), ids_free(&b);
    if (!ok) return free(row.is.ids), false;
    if (k->n_rows == k->cap_rows)
        k->row = xrealloc(k->row, (k->cap_rows = 2 * k->cap_rows + 64) * sizeof *k->row);
    k->row[k->n_rows++] = row;
    return true;
}

/* {"ctx": text, "endings": [texts], "label": number, or its digits as a string}. */
static bool read_choices(Task *k, const cJSON *o, Item *it, Err *e) {
    const cJSON *ctx = cJSON_GetObjectItemCaseSensitive(o, "ctx"), *end;
    const cJSON *endings = cJSON_GetObjectItemCaseSensitive(o, "endings");
    const cJSON *label = cJSON_GetObjectItemCaseSensitive(o, "label");
    if (!cJSON_IsString(ctx)) return bad_line(k, e, "\"ctx\" must be a text");
    if (!cJSON_IsArray(endings) || cJSON_GetArraySize(endings) < 2)
        return bad_line(k, e, "\"endings\" must be a list of two or more texts");
    cJSON_ArrayForEach(end, endings) {
        if (!cJSON_IsString(end) || !*end->valuestring)
            return bad_line(k, e, "\"endings\" must be a list of texts, none of them empty");
        if (!add_row(k, ctx->valuestring, strlen(ctx->valuestring), end->valuestring, e)) return false;
        it->n_rows++;
    }
    char *rest = "";
    double v = cJSON_IsString(label) && *label->valuestring ? strtod(label->valuestring, &rest)
               : cJSON_IsNumber(label)                      ? label->valuedouble
                                                            : -1;
    if (*rest || !(v >= 0 && v < it->n_rows && v == floor(v)))
        return bad_line(k, e, "\"label\" must be the number of an ending, from 0");
    it->label = (int)v;
    return true;
}

/* {"text": text}: its last word, with the space before it, is the target. */
static bool read_cloze(Task *k, const cJSON *o, Item *it, Err *e) {
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(o, "text");
    if (!cJSON_IsString(text)) return bad_line(k, e, "\"text\" must be a text");
    char *s = text->valuestring;
    size_t n = strlen(s);
    while (n && strchr(" \t\r\n", s[n - 1])) s[--n] = 0;
    const char *space = strrchr(s, ' ');
    if (!space || space == s) return bad_line(k, e, "\"text\" must hold at least two words");
    it->n_rows = 1;
    return add_row(k, s, (size_t)(space - s), space + 1, e);
}

static bool read_item(Task *k, const char *line, size_t n, Err *e) {
    if (!utf8_valid(line, n)) return bad_line(k, e, "is not valid UTF-8");
    cJSON *o = cJSON_ParseWithOpts(line, NULL, true);
    Item it = {.row = k->n_rows};
    bool ok = cJSON_IsObject(o) || bad_line(k, e, "is not a JSON object");
    if (ok && k->n_items == 0) {
        k->choices = cJSON_HasObjectItem(o, "endings");
        ok = k->choices || cJSON_HasObjectItem(o, "text") ||
             bad_line(k, e, "has neither \"endings\" (multiple choice) nor \"text\" (last word)");
    }
    ok = ok && (k->choices ? read_choices : read_cloze)(k, o, &it, e);
    cJSON_Delete(o);
    if (!ok) return false;
    if (k->n_items == k->cap_items)
        k->item = xrealloc(k->item, (k->cap_items = 2 * k->cap_items + 64) * sizeof *k->item);
    k->item[k->n_items++] = it;
    return true;
}

static bool read_task(Task *k, const char *path, uint64_t max_items, Err *e) {
    Text in;
    char *line;
    size_t n;
    if (!text_open(&in, path, e)) return false;
    k->in = &in;
    bool ok = true;
    while (ok && (!max_items || k->n_items < max_items) && (ok = text_line(&in, &line, &n, e)) && line) {
        if (line[strspn(line, " \t\r")]) ok = read_item(k, line, n, e); /* empty lines are passed over */
    }
    text_close(&in);
    k->in = NULL;
    return ok && (k->n_items || err_set(e, "%s: holds no items", path));
}

/* ---- tasks: scoring ------------------------------------------------------------------------------------ */

static void score_all(Task *k) {
    EvalRow **row = xmalloc((k->n_rows + 1) * sizeof *row);
    for (size_t i = 0; i < k->n_rows; i++) row[i] = &k->row[i].is;
    eval_rows(k->m, row, k->n_rows);
    free(row);
}

static bool is_right(const Task *k, const Item *it, int by) {
    int best = 0;
    double least = INFINITY;
    for (int i = 0; i < it->n_rows; i++) {
        const Row *r = &k->row[it->row + (size_t)i];
        double loss = r->is.loss / (by == 0 ? 1 : by == 1 ? r->chars : r->is.n - r->is.context);
        if (loss < least) least = loss, best = i;
    }
    return best == it->label;
}

static void add_up(const Task *k, EvalTask *r) {
    double n = (double)k->n_items, nats = 0, right[3] = {0}, likeliest = 0;
    for (size_t i = 0; i < k->n_items; i++) {
        const Item *it = &k->item[i];
        for (int by = 0; by < 3 && k->choices; by++) right[by] += is_right(k, it, by);
        likeliest += k->row[it->row].is.likeliest;
        nats += k->row[it->row].is.loss;
    }
    *r = (EvalTask){.kind = k->choices ? "multiple_choice" : "cloze", .items = k->n_items};
    if (k->choices)
        r->acc = right[0] / n, r->acc_norm = right[1] / n, r->acc_norm_tokens = right[2] / n;
    else
        r->accuracy = likeliest / n, r->perplexity = exp(nats / n);
}

bool eval_task(Gpt *m, const Tokenizer *t, const char *path, uint64_t max_items, EvalTask *r, Err *e) {
    Task k = {.m = m, .t = t};
    bool ok = read_task(&k, path, max_items, e);
    if (ok) {
        score_all(&k);
        add_up(&k, r);
    }
    for (size_t i = 0; i < k.n_rows; i++) free(k.row[i].is.ids);
    free(k.row), free(k.item);
    return ok;
}
