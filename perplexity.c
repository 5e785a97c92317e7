/* perplexity.c - floor 6: see perplexity.h. */
#include "perplexity.h"
#include "eval.h"
#include "stage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

enum { KEPT, DROPPED, TOKENS, BINS, N_BINS = 30 }; /* a bin: from 2^(i/2) on */

static void put_number(Str *s, double x) {
    if (isfinite(x))
        str_printf(s, "%.9g", x);
    else
        str_puts(s, "null");
}

/* ---- texts ------------------------------------------------------------------------------------------------ */

bool perplexity_check(const PerplexityModel *m, Err *e) {
    if (tokenizer_eot(m->tokenizer) < 0)
        return err_set(e, "%s: its tokenizer has no <|endoftext|>, which leads every document", m->name);
    if (tokenizer_size(m->tokenizer) > gpt_config(m->gpt)->vocab_size)
        return err_set(e, "%s: its tokenizer has more entries than the model's vocabulary", m->name);
    return true;
}

/* An end-of-text and the beginning of a text; of one id if it has no token. */
static EvalRow row_of(const PerplexityModel *m, Span text) {
    const int64_t most = gpt_config(m->gpt)->n_positions;
    Ids ids = {0};
    Err e = {0};
    EvalRow row = {.ids = xmalloc(((size_t)most + 1) * sizeof *row.ids), .n = 1, .context = 1};
    row.ids[0] = tokenizer_eot(m->tokenizer);
    bool ok = tokenizer_encode(m->tokenizer, text.p, text.n, SPECIAL_TEXT, &ids, &e);
    CHECK(ok, "%s", e.msg);
    for (size_t i = 0; i < ids.n && row.n <= most; i++) row.ids[row.n++] = ids.id[i];
    ids_free(&ids);
    return row;
}

void perplexity_texts(const PerplexityModel *m, const Span *text, int n, double *perplexity,
                      uint64_t *n_tokens) {
    EvalRow *row = xmalloc(((size_t)n + 1) * sizeof *row), **some = xmalloc(((size_t)n + 1) * sizeof *some);
    size_t n_some = 0;
    for (int i = 0; i < n; i++) {
        row[i] = row_of(m, text[i]);
        if (row[i].n > 1) some[n_some++] = &row[i];
    }
    eval_rows(m->gpt, some, n_some);
    for (int i = 0; i < n; i++) {
        perplexity[i] = row[i].n > 1 ? exp(row[i].loss / (row[i].n - 1)) : NAN;
        if (n_tokens) *n_tokens += (uint64_t)row[i].n - 1;
        free(row[i].ids);
    }
    free(row), free(some);
}

/* ---- the job ---------------------------------------------------------------------------------------------- */

static void judge(const PerplexityJob *j, const Item *it, double x, Chunk *c) {
    bool stays = x >= j->least && x <= j->most;
    Str extra = {0};
    str_puts(&extra, "\"lm_perplexity\": ");
    put_number(&extra, x);
    item_put(&c->out[!stays], it, NULL, 0, extra.p);
    c->tally[stays ? KEPT : DROPPED]++;
    int bin = isfinite(x) ? (int)(2 * log2(x)) : 0;
    if (isfinite(x)) c->tally[BINS + (bin < N_BINS ? bin : N_BINS - 1)]++;
    str_free(&extra);
}

static void judge_chunk(const void *ctx, Chunk *c) {
    const PerplexityJob *j = ctx;
    Span *text = xmalloc(((size_t)c->n + 1) * sizeof *text);
    double *x = xmalloc(((size_t)c->n + 1) * sizeof *x);
    for (int i = 0; i < c->n; i++) text[i] = (Span){c->items[i].doc.text, c->items[i].doc.n};
    perplexity_texts(&j->model, text, c->n, x, &c->tally[TOKENS]);
    for (int i = 0; i < c->n; i++)
        if (!c->items[i].bad) judge(j, &c->items[i], x[i], c);
    free(text), free(x);
}

static bool put_options(const PerplexityJob *j, bool stamps, Str *s, Err *e) {
    const char *key = j->key ? j->key : "text";
    str_puts(s, "{\"command\": \"perplexity\", \"least\": ");
    put_number(s, j->least);
    str_puts(s, ", \"most\": ");
    put_number(s, j->most);
    str_puts(s, ", \"key\": ");
    json_put_string(s, key, strlen(key));
    str_puts(s, ", \"model\": ");
    if (!stamps) json_put_string(s, j->model.name, strlen(j->model.name));
    bool ok = !stamps || job_put_file(j->model.name, s, e);
    str_puts(s, ", \"precision\": ");
    json_put_string(s, j->model.precision, strlen(j->model.precision));
    str_puts(s, "}");
    return ok;
}

static void report(const PerplexityJob *j, const uint64_t *tally, Str *s) {
    Err e = {0};
    str_puts(s, "{\n \"options\": ");
    put_options(j, false, s, &e);
    str_printf(s,
               ",\n \"documents\": %llu,\n \"kept\": %llu,\n \"dropped\": %llu,\n \"tokens\": %llu,\n "
               "\"problems\": %llu,\n",
               (ull)(tally[KEPT] + tally[DROPPED]), (ull)tally[KEPT], (ull)tally[DROPPED], (ull)tally[TOKENS],
               (ull)tally[TALLY_PROBLEMS]);
    str_puts(s, " \"by_perplexity\": [");
    const char *between = "";
    for (int i = 0; i < N_BINS; i++)
        if (tally[BINS + i])
            str_printf(s, "%s[%.6g, %llu]", between, exp2(i / 2.0), (ull)tally[BINS + i]), between = ", ";
    str_puts(s, "]\n}\n");
}

static bool work(const PerplexityJob *j, const Job *stage, uint64_t counts[2], Err *e) {
    uint64_t tally[STAGE_TALLIES] = {0};
    Stage s = {
        .key = j->key, .threads = 1, .gzip = true, .work = judge_chunk, .ctx = j}; /* the model takes all */
    if (!job_run(stage, &s, NULL, NULL, tally, e)) return false;
    Str text = {0};
    report(j, tally, &text);
    counts[0] = tally[KEPT], counts[1] = tally[DROPPED];
    bool ok = job_close(stage, text.p, e);
    str_free(&text);
    return ok;
}

bool perplexity_run(const PerplexityJob *job, uint64_t counts[2], Err *e) {
    Job stage = {.out = job->out, .files = job->files, .n_files = job->n_files, .names = {"kept", "dropped"}};
    Str options = {0};
    bool ok = put_options(job, true, &options, e) && job_open(&stage, options.p, job->overwrite, e) &&
              (stage.done || work(job, &stage, counts, e));
    str_free(&options);
    return ok;
}
