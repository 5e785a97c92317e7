/* decontam.c - floor 3: see decontam.h. */
#include "decontam.h"
#include "stage.h"
#include "team.h"
#include "words.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

enum { SHORTEST = 8, LONGEST = 64, MARGIN = 200, MOST_PIECES = 10 };

/* ---- the runs of the evaluation sets ------------------------------------------------------------------- */

typedef struct Run {
    uint64_t hash; /* never 0 */
    uint32_t source;
} Run;

typedef struct Source {
    uint32_t file;
    uint64_t line;
} Source;

typedef struct Decontam {
    const DecontamJob *job;
    Job stage;
    Run *table; /* [mask + 1] by hash, open addressing; hash 0: free */
    size_t mask, n_runs;
    uint64_t *maybe; /* a bit for hash mod (64 x words): most runs of a document end here */
    Source *sources;
    size_t n_sources, cap_sources;
    uint64_t lengths;    /* bit k: there are runs of k words */
    uint32_t *documents; /* [mask + 1] that hold the run */
} Decontam;

static uint64_t *maybe_word(const Decontam *d, uint64_t hash) {
    return &d->maybe[hash >> 6 & d->mask];
}

static size_t find(const Decontam *d, uint64_t hash) {
    size_t i = (hash >> 20) & d->mask;
    while (d->table[i].hash && d->table[i].hash != hash) i = (i + 1) & d->mask;
    return i;
}

static void put_all(Decontam *d, const Run *runs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!runs[i].hash) continue;
        size_t at = find(d, runs[i].hash);
        if (d->table[at].hash) continue; /* the first text that holds a run is the one that is named */
        d->table[at] = runs[i];
        *maybe_word(d, runs[i].hash) |= (uint64_t)1 << (runs[i].hash & 63);
    }
}

static void grow(Decontam *d) {
    Run *old = d->table;
    size_t n = old ? d->mask + 1 : 0;
    d->mask = n ? 2 * n - 1 : (1 << 12) - 1;
    d->table = xcalloc(d->mask + 1, sizeof *d->table);
    free(d->maybe);
    d->maybe = xcalloc(d->mask + 1, sizeof *d->maybe);
    put_all(d, old, n);
    free(old);
}

static void add_run(Decontam *d, uint64_t hash, int words) {
    if (2 * d->n_runs >= d->mask) grow(d);
    d->lengths |= (uint64_t)1 << words;
    d->n_runs += !d->table[find(d, hash)].hash;
    put_all(d, &(Run){hash, (uint32_t)(d->n_sources - 1)}, 1);
}

/* ---- runs of words ------------------------------------------------------------------------------------- */

/* The last LONGEST words of a text: what they hash to together, and where each starts. */
typedef struct Window {
    uint64_t prefix[LONGEST +
                    1]; /* of all words so far, as a polynomial; one more than the words it is taken from */
    size_t start[LONGEST + 1];
    uint64_t power[LONGEST + 1];
    uint64_t n;
} Window;

static const uint64_t base = 0x9e3779b97f4a7c15u;

static void window_open(Window *w) {
    *w = (Window){.power = {1}};
    for (int i = 1; i <= LONGEST; i++) w->power[i] = w->power[i - 1] * base;
}

static void window_put(Window *w, uint64_t hash, size_t start) {
    uint64_t before = w->prefix[w->n % (LONGEST + 1)];
    w->n++;
    w->prefix[w->n % (LONGEST + 1)] = before * base + hash;
    w->start[w->n % (LONGEST + 1)] = start;
}

/* The last k words; runs of different lengths have different hashes, none is 0. */
static uint64_t window_hash(const Window *w, int k) {
    uint64_t before = w->prefix[(w->n - (uint64_t)k) % (LONGEST + 1)];
    uint64_t h = hash_mix(w->prefix[w->n % (LONGEST + 1)] - before * w->power[k] + (uint64_t)k);
    return h ? h : 1;
}

static size_t window_start(const Window *w, int k) {
    return w->start[(w->n - (uint64_t)k + 1) % (LONGEST + 1)];
}

static void add_text(Decontam *d, const char *text, size_t n) {
    Window w;
    Span left = {text, n}, word;
    window_open(&w);
    while (word_next(&left, &word)) {
        window_put(&w, hash_word(word), 0);
        if (w.n >= (uint64_t)d->job->ngram) add_run(d, window_hash(&w, d->job->ngram), d->job->ngram);
    }
    if (w.n >= SHORTEST && w.n < (uint64_t)d->job->ngram) add_run(d, window_hash(&w, (int)w.n), (int)w.n);
}

/* Every string of a JSON value, however deep. */
static void add_strings(Decontam *d, const cJSON *o) {
    if (cJSON_IsString(o)) add_text(d, o->valuestring, strlen(o->valuestring));
    for (const cJSON *c = o->child; c; c = c->next) add_strings(d, c);
}

static bool add_document(Decontam *d, int file, const Doc *doc, Err *e) {
    if (d->n_sources == d->cap_sources)
        d->sources = xrealloc(d->sources, (d->cap_sources = 2 * d->cap_sources + 256) * sizeof *d->sources);
    CHECK(d->n_sources < UINT32_MAX);
    d->sources[d->n_sources++] = (Source){(uint32_t)file, doc->line};
    if (!doc->line) return add_text(d, doc->text, doc->n), true;
    cJSON *o = cJSON_ParseWithLength(doc->text, doc->n);
    if (o) add_strings(d, o);
    cJSON_Delete(o);
    return o || err_set(e, "%s:%llu: not JSON", doc->file, (ull)doc->line);
}

/* A long .txt comes in pieces, which end where words end; runs across two pieces are not looked for. */
static bool read_against(Decontam *d, Err *e) {
    bool ok = true;
    grow(d);
    for (int i = 0; i < d->job->n_against && ok; i++) {
        Docs docs;
        Doc doc = {0};
        if (!docs_open(&docs, &d->job->against[i], 1, e)) return false;
        while (ok && (ok = docs_next(&docs, &doc, e)) && doc.text) {
            ok = add_document(d, i, &doc, e);
            free(doc.text);
        }
        docs_close(&docs);
    }
    if (ok && !d->n_runs) ok = err_set(e, "the evaluation sets hold no text of %d words or more", SHORTEST);
    d->documents = xcalloc(d->mask + 1, sizeof *d->documents);
    return ok;
}

/* ---- a document ---------------------------------------------------------------------------------------- */

typedef struct Hit {
    size_t run, from, to; /* the run's place in the table, and bytes of the text */
} Hit;

typedef struct Hits {
    Hit *p;
    size_t n, cap;
} Hits;

static void hits_put(Hits *h, Hit x) {
    if (h->n == h->cap) h->p = xrealloc(h->p, (h->cap = 2 * h->cap + 64) * sizeof *h->p);
    h->p[h->n++] = x;
}

static void look_up(const Decontam *d, const Window *w, size_t end, Hits *hits) {
    for (uint64_t left = d->lengths; left; left &= left - 1) {
        int k = __builtin_ctzll(left);
        if (w->n < (uint64_t)k) break;
        uint64_t hash = window_hash(w, k);
        if (!(*maybe_word(d, hash) >> (hash & 63) & 1)) continue;
        size_t at = find(d, hash);
        if (d->table[at].hash) hits_put(hits, (Hit){at, window_start(w, k), end});
    }
}

static void find_runs(const Decontam *d, const Doc *doc, Hits *hits) {
    Window w;
    Span left = {doc->text, doc->n}, word;
    hits->n = 0;
    for (window_open(&w); word_next(&left, &word);) {
        window_put(&w, hash_word(word), (size_t)(word.p - doc->text));
        look_up(d, &w, (size_t)(word.p + word.n - doc->text), hits);
    }
}

static int by_run(const void *a, const void *b) {
    size_t x = ((const Hit *)a)->run, y = ((const Hit *)b)->run;
    return x < y ? -1 : x > y;
}

/* First pass: in how many documents is each run? Sums do not depend on the order in which threads add. */
static void count_chunk(const void *ctx, Chunk *c) {
    const Decontam *d = ctx;
    Hits hits = {0};
    for (int i = 0; i < c->n; i++) {
        find_runs(d, &c->items[i].doc, &hits);
        if (hits.n) qsort(hits.p, hits.n, sizeof *hits.p, by_run);
        for (size_t k = 0; k < hits.n; k++)
            if (!k || hits.p[k].run != hits.p[k - 1].run)
                __atomic_fetch_add(&d->documents[hits.p[k].run], 1, __ATOMIC_RELAXED);
    }
    free(hits.p);
}

/* Leaves out runs that are common phrases. */
static void keep_rare(const Decontam *d, Hits *hits) {
    size_t n = 0;
    for (size_t i = 0; i < hits->n; i++)
        if (d->documents[hits->p[i].run] <= (uint32_t)d->job->most) hits->p[n++] = hits->p[i];
    hits->n = n;
}

/* ---- cutting ------------------------------------------------------------------------------------------- */

static bool inside(const char *text, size_t i) { /* a character */
    return ((unsigned char)text[i] & 0xc0) == 0x80;
}

/* `chars` characters before or after byte i. */
static size_t back(const char *text, size_t i, int chars) {
    while (i > 0 && chars > 0) chars -= !inside(text, --i);
    return i;
}

static size_t forth(const char *text, size_t n, size_t i, int chars) {
    for (; i < n && chars > 0; chars--)
        for (i++; i < n && inside(text, i);) i++;
    return i;
}

static bool long_enough(const char *text, size_t from, size_t to) {
    return to > from && forth(text, to, from, MARGIN - 1) < to;
}

/* What is left between the cuts, as [from, to) pairs; hits are in the order of their ends. */
static int pieces_of(const Doc *doc, const Hits *hits, size_t piece[MOST_PIECES + 1][2]) {
    int n = 0;
    size_t from = 0;
    for (size_t i = 0; i <= hits->n && n <= MOST_PIECES; i++) {
        size_t to = i < hits->n ? back(doc->text, hits->p[i].from, MARGIN) : doc->n;
        if (long_enough(doc->text, from, to)) piece[n][0] = from, piece[n++][1] = to;
        if (i < hits->n) {
            size_t after = forth(doc->text, doc->n, hits->p[i].to, MARGIN);
            if (after > from) from = after;
        }
    }
    return n;
}

/* ---- what comes out ------------------------------------------------------------------------------------ */

enum { WHOLE, CUT, GONE, BYTES_IN, BYTES_KEPT, PIECES };

static void put_reason(const Decontam *d, const Item *it, const Hit *h, bool cut, Str *s) {
    const Source *from = &d->sources[d->table[h->run].source];
    Str name = {0};
    str_puts(&name, d->job->against[from->file]);
    if (from->line) str_printf(&name, ":%llu", (ull)from->line);
    s->n = 0;
    str_puts(s, "\"contaminated_by\": ");
    json_put_string(s, name.p, name.n);
    str_puts(s, ", \"ngram\": ");
    json_put_string(s, it->doc.text + h->from, h->to - h->from);
    str_puts(s, cut ? ", \"action\": \"cut\"" : ", \"action\": \"dropped\"");
    str_free(&name);
}

static void put_pieces(const Item *it, size_t piece[][2], int n, Chunk *c) {
    for (int k = 0; k < n; k++) {
        char extra[32];
        snprintf(extra, sizeof extra, "\"piece\": %d", k);
        item_put(&c->out[0], it, it->doc.text + piece[k][0], piece[k][1] - piece[k][0], extra);
        c->tally[BYTES_KEPT] += piece[k][1] - piece[k][0];
    }
    c->tally[PIECES] += (uint64_t)n;
}

static void write_document(const Decontam *d, const Item *it, Hits *hits, Str *reason, Chunk *c) {
    c->tally[BYTES_IN] += it->doc.n;
    find_runs(d, &it->doc, hits);
    keep_rare(d, hits);
    if (!hits->n) {
        c->tally[WHOLE]++, c->tally[BYTES_KEPT] += it->doc.n;
        item_put(&c->out[0], it, NULL, 0, NULL);
        return;
    }
    size_t piece[MOST_PIECES + 1][2];
    int n = d->job->cut ? pieces_of(&it->doc, hits, piece) : 0;
    bool cut = n > 0 && n <= MOST_PIECES;
    if (cut) put_pieces(it, piece, n, c);
    c->tally[cut ? CUT : GONE]++;
    put_reason(d, it, &hits->p[0], cut, reason);
    item_put(&c->out[1], it, NULL, 0, reason->p);
}

static void write_chunk(const void *ctx, Chunk *c) {
    Hits hits = {0};
    Str reason = {0};
    for (int i = 0; i < c->n; i++)
        if (!c->items[i].bad) write_document(ctx, &c->items[i], &hits, &reason, c);
    free(hits.p);
    str_free(&reason);
}

/* ---- the job ------------------------------------------------------------------------------------------- */

static bool write_counts(const char *path, const uint32_t *counts, size_t size, Err *e) {
    OutFile f;
    if (!file_create(&f, path, e)) return false;
    file_put(&f, counts, size);
    file_put(&f, &(uint32_t){f.crc}, sizeof f.crc);
    return file_commit(&f, e);
}

/* A file's counts, unless they are there from an earlier run. */
static bool count_file(Decontam *d, int file, Err *e) {
    Stage s = {.key = d->job->key, .threads = d->job->threads, .work = count_chunk, .ctx = d};
    char *path = job_path(&d->stage, "counts", file);
    size_t size = (d->mask + 1) * sizeof *d->documents;
    uint64_t tally[STAGE_TALLIES] = {0};
    memset(d->documents, 0, size);
    bool ok =
        path_exists(path) || (stage_file(&s, d->job->files[file], (OutFile *[STAGE_OUTS]){NULL}, tally, e) &&
                              write_counts(path, d->documents, size, e));
    free(path);
    return ok;
}

static bool add_counts(Decontam *d, int file, Err *e) {
    char *path = job_path(&d->stage, "counts", file), *data = NULL;
    size_t n, size = (d->mask + 1) * sizeof *d->documents;
    uint32_t crc, count;
    bool ok = file_read(path, size + sizeof crc + 1, &data, &n, e);
    if (ok && n == size + sizeof crc) memcpy(&crc, data + size, sizeof crc);
    if (ok && (n != size + sizeof crc || crc != crc32_of(0, data, size)))
        ok = err_set(e, "%s: is damaged; remove it to have it made again", path);
    for (size_t i = 0; i <= d->mask && ok; i++) {
        memcpy(&count, data + i * sizeof count, sizeof count);
        d->documents[i] += count;
    }
    free(data), free(path);
    return ok;
}

static bool count_all(Decontam *d, Err *e) {
    bool ok = true, *mine = job_deal(&d->stage);
    for (int i = 0; i < d->job->n_files && ok; i++) ok = !mine[i] || count_file(d, i, e);
    free(mine);
    ok = team_agree(ok, e);
    memset(d->documents, 0, (d->mask + 1) * sizeof *d->documents);
    for (int i = 0; i < d->job->n_files && ok; i++) ok = add_counts(d, i, e);
    return team_agree(ok, e);
}

static void report(const Decontam *d, const char *options, const uint64_t *tally, Str *s) {
    ull found = 0, common = 0;
    for (size_t i = 0; i <= d->mask; i++) {
        found += d->table[i].hash && d->documents[i];
        common += d->table[i].hash && d->documents[i] > (uint32_t)d->job->most;
    }
    str_printf(
        s,
        "{\n \"options\": %s,\n \"ngrams\": %zu,\n \"ngrams_found\": %llu,\n \"ngrams_too_common\": %llu,\n",
        options, d->n_runs, found, common);
    str_printf(
        s,
        " \"documents\": %llu,\n \"kept\": %llu,\n \"cut\": %llu,\n \"pieces\": %llu,\n \"dropped\": %llu,\n",
        (ull)(tally[WHOLE] + tally[CUT] + tally[GONE]), (ull)tally[WHOLE], (ull)tally[CUT],
        (ull)tally[PIECES], (ull)tally[GONE]);
    str_printf(s, " \"bytes\": %llu,\n \"kept_bytes\": %llu,\n \"problems\": %llu\n}\n", (ull)tally[BYTES_IN],
               (ull)tally[BYTES_KEPT], (ull)tally[TALLY_PROBLEMS]);
}

/* The evaluation sets by name, and with `stamps` by size and time of change, as a job knows its input. */
static bool put_options(const DecontamJob *j, bool stamps, Str *s, Err *e) {
    const char *key = j->key ? j->key : "text";
    str_printf(s, "{\"command\": \"decontaminate\", \"ngram\": %d, \"most\": %d, \"cut\": %s, \"key\": ",
               j->ngram, j->most, j->cut ? "true" : "false");
    json_put_string(s, key, strlen(key));
    str_puts(s, ", \"against\": [");
    for (int i = 0; i < j->n_against; i++) {
        str_puts(s, i ? ", " : "");
        if (!stamps)
            json_put_string(s, j->against[i], strlen(j->against[i]));
        else if (!job_put_file(j->against[i], s, e))
            return false;
    }
    str_puts(s, "]}");
    return true;
}

static bool work(Decontam *d, uint64_t counts[3], Err *e) {
    uint64_t tally[STAGE_TALLIES] = {0};
    Stage s = {.key = d->job->key, .threads = d->job->threads, .gzip = true, .work = write_chunk, .ctx = d};
    if (!read_against(d, e) || !count_all(d, e) || !job_run(&d->stage, &s, NULL, NULL, tally, e))
        return false;
    Str text = {0}, options = {0};
    bool named = put_options(d->job, false, &options, e);
    CHECK(named);
    report(d, options.p, tally, &text);
    str_free(&options);
    bool ok = job_close(&d->stage, text.p, e);
    if (counts) counts[0] = tally[WHOLE], counts[1] = tally[CUT], counts[2] = tally[GONE];
    str_free(&text);
    return ok;
}

bool decontam_run(const DecontamJob *job, uint64_t counts[3], Err *e) {
    Decontam d = {
        .job = job,
        .stage = {
            .out = job->out, .files = job->files, .n_files = job->n_files, .names = {"kept", "dropped"}}};
    Str options = {0};
    if (!job->n_against) return err_usage(e, "no evaluation sets");
    if (job->ngram < SHORTEST || job->ngram >= LONGEST)
        return err_usage(e, "an n-gram of %d words: %d to %d can be told from chance", job->ngram, SHORTEST,
                         LONGEST - 1);
    bool ok = put_options(job, true, &options, e) && job_open(&d.stage, options.p, job->overwrite, e) &&
              (d.stage.done || work(&d, counts, e));
    str_free(&options);
    free(d.table), free(d.maybe), free(d.sources), free(d.documents);
    return ok;
}
