/* dedup.c - floor 3: see dedup.h. */
#include "dedup.h"
#include "extsort.h"
#include "minhash.h"
#include "sets.h"
#include "stage.h"
#include "team.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef unsigned long long ull;

/* ---- signatures ------------------------------------------------------------------------------------------
 * One file for each input file: a record a document, then a tail that says how many and of what size. */

enum { MAGIC = 0x48534e4d }; /* "MNSH" */

typedef struct Record {
    uint64_t line, bytes, shingles;
    double score;
    uint64_t keys[]; /* [bands], then the lowest byte of each minimum, [bands x rows], and padding */
} Record;

typedef struct Tail {
    uint64_t magic, n, record, crc;
} Tail;

typedef struct Dedup {
    const DedupJob *job;
    Job stage;
    MinHash hash;
    size_t record;  /* bytes of a record */
    Map *maps;      /* [n_files] signatures */
    uint64_t *base; /* [n_files + 1] the number of each file's first document */
    Map verdicts;
    int file; /* the input file at hand */
} Dedup;

static const uint8_t *sketch(const Dedup *d, const Record *r) {
    return (const uint8_t *)(r->keys + d->hash.bands);
}

/* The number under a path such as "scores.quality", or -infinity. */
static double score_of(const char *line, size_t n, const char *path) {
    cJSON *o = cJSON_ParseWithLength(line, n);
    const cJSON *at = o;
    for (const char *p = path; at && p;) {
        const char *dot = strchr(p, '.');
        char *name = strndup(p, dot ? (size_t)(dot - p) : strlen(p));
        at = cJSON_GetObjectItemCaseSensitive(at, name);
        free(name);
        p = dot ? dot + 1 : NULL;
    }
    double score = cJSON_IsNumber(at) ? at->valuedouble : -INFINITY;
    cJSON_Delete(o);
    return score;
}

static void sign_document(const Dedup *d, const Item *it, Hashes *shingles, uint64_t *mins, Record *r) {
    memset(r, 0, d->record);
    minhash_shingles(it->doc.text, it->doc.n, d->hash.ngram, shingles);
    minhash_signature(&d->hash, shingles->p, shingles->n, mins);
    minhash_keys(&d->hash, mins, r->keys);
    uint8_t *low = (uint8_t *)(r->keys + d->hash.bands);
    for (int i = 0; i < d->hash.n; i++) low[i] = (uint8_t)mins[i];
    r->line = it->doc.line, r->bytes = it->doc.n, r->shingles = shingles->n;
    if (d->job->keep == DEDUP_SCORE)
        r->score = it->line ? score_of(it->line, it->n_line, d->job->score) : -INFINITY;
}

static void sign_chunk(const void *ctx, Chunk *c) {
    const Dedup *d = ctx;
    Hashes shingles = {0};
    uint64_t *mins = xcalloc((size_t)d->hash.n, sizeof *mins);
    Record *r = xmalloc(d->record);
    for (int i = 0; i < c->n; i++) {
        sign_document(d, &c->items[i], &shingles, mins, r);
        str_put(&c->out[0], r, d->record);
    }
    c->tally[0] += (uint64_t)c->n;
    free(r);
    free(mins);
    free(shingles.p);
}

static bool sign_file(const Dedup *d, int file, const char *path, Err *e) {
    Stage s = {.key = d->job->key, .threads = d->job->threads, .work = sign_chunk, .ctx = d};
    uint64_t tally[STAGE_TALLIES] = {0};
    OutFile f;
    if (!file_create(&f, path, e)) return false;
    if (!stage_file(&s, d->job->files[file], (OutFile *[]){&f, NULL}, tally, e))
        return file_abandon(&f), false;
    Tail tail = {MAGIC, tally[0], d->record, f.crc};
    file_put(&f, &tail, sizeof tail);
    return file_commit(&f, e);
}

/* Pages of a mapping count as ours while they are in memory. What has been read through is given back, so
 * that many signatures take no more memory than few; it is read again where it is needed again. */
enum { AT_ONCE = 1 << 26 };

static void let_go(const Map *m, size_t from, size_t n) {
    if (m->p) madvise((void *)(uintptr_t)(m->p + from), n, MADV_DONTNEED);
}

static uint32_t crc_of(const Map *m, size_t n) {
    uint32_t crc = 0;
    for (size_t at = 0; at < n; at += AT_ONCE) {
        size_t k = n - at < AT_ONCE ? n - at : AT_ONCE;
        crc = crc32_of(crc, m->p + at, k);
        let_go(m, at, k);
    }
    return crc;
}

/* Maps a file that ends in a Tail, and checks it. */
static bool map_checked(Map *m, const char *path, size_t record, uint64_t *n, Err *e) {
    Tail t = {0};
    if (!map_open(m, path, e)) return false;
    if (m->n >= sizeof t) memcpy(&t, m->p + m->n - sizeof t, sizeof t);
    bool ok =
        t.magic == MAGIC && t.record == record && t.n <= m->n / record && t.n * record == m->n - sizeof t;
    if (!ok || crc_of(m, t.n * record) != t.crc)
        return err_set(e, "%s: is damaged; remove it to have it made again", path);
    *n = t.n;
    return true;
}

static bool sign_all(Dedup *d, Err *e) {
    bool ok = true, *mine = job_deal(&d->stage);
    for (int i = 0; i < d->job->n_files && ok; i++) {
        char *path = job_path(&d->stage, "signatures", i);
        if (mine[i]) ok = path_exists(path) || sign_file(d, i, path, e);
        free(path);
    }
    free(mine);
    ok = team_agree(ok, e);
    for (int i = 0; i < d->job->n_files && ok; i++) {
        char *path = job_path(&d->stage, "signatures", i);
        uint64_t n = 0;
        ok = map_checked(&d->maps[i], path, d->record, &n, e);
        d->base[i + 1] = d->base[i] + n;
        free(path);
    }
    return team_agree(ok, e);
}

/* ---- clusters ------------------------------------------------------------------------------------------ */

/* The file of document i: the last one that does not start after it. */
static int file_of(const Dedup *d, uint64_t i) {
    int lo = 0, hi = d->job->n_files;
    while (hi - lo > 1) {
        int middle = (lo + hi) / 2;
        if (d->base[middle] <= i)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

static const Record *record_of(const Dedup *d, uint64_t i) {
    int f = file_of(d, i);
    return (const Record *)(const void *)(d->maps[f].p + (i - d->base[f]) * d->record);
}

/* A record to sort: a band's key, then the number of the document that has it; the high halves first. */
enum { KEY_WORDS = 4 };

static uint64_t joined(const uint32_t *words) {
    return (uint64_t)words[0] << 32 | words[1];
}

/* Every so many documents: signatures go from memory. */
static void let_signatures_go(const Dedup *d, uint64_t i) {
    if (i % (AT_ONCE / 256) == 0)
        for (int k = 0; k < d->job->n_files; k++) let_go(&d->maps[k], 0, d->maps[k].n);
}

static bool sort_bands(const Dedup *d, Sorter *sorter, Err *e) {
    for (uint64_t i = 0; i < d->base[d->job->n_files]; i++) {
        const Record *r = record_of(d, i);
        let_signatures_go(d, i);
        for (int band = 0; band < d->hash.bands && r->shingles; band++) {
            uint64_t key = r->keys[band];
            const uint32_t words[KEY_WORDS] = {(uint32_t)(key >> 32), (uint32_t)key, (uint32_t)(i >> 32),
                                               (uint32_t)i};
            if (!sorter_put(sorter, 0, words, e)) return false;
        }
    }
    return sorter_sort(sorter, e);
}

/* Joins all documents that share a key with the first one that has it. */
static bool join_bands(const Dedup *d, Sets *sets, Err *e) {
    char *dir = path_join(d->job->out, "work");
    size_t least = (size_t)1 << 16, memory = d->job->memory > least ? d->job->memory : least;
    Sorter *sorter = sorter_open(
        &(SortPlan){.width = KEY_WORDS, .key = KEY_WORDS, .memory = memory, .lanes = 1, .dir = dir});
    const uint32_t *words;
    uint64_t key = 0, first = UINT64_MAX; /* no document yet */
    bool ok = sort_bands(d, sorter, e);
    while (ok && (ok = sorter_next(sorter, &words, e)) && words) {
        if (first != UINT64_MAX && joined(words) == key)
            sets_join(sets, first, joined(words + 2));
        else
            key = joined(words), first = joined(words + 2);
    }
    sorter_close(sorter);
    free(dir);
    return ok;
}

static bool better(const Dedup *d, uint64_t i, uint64_t than) {
    const Record *a = record_of(d, i), *b = record_of(d, than);
    if (d->job->keep == DEDUP_LONGEST) return a->bytes > b->bytes;
    return d->job->keep == DEDUP_SCORE && a->score > b->score;
}

typedef struct Verdict {
    uint64_t kept; /* the document that stays: this one, or another */
    double similarity;
    uint64_t size; /* of the cluster, for the one that stays */
} Verdict;

static Verdict verdict_on(const Dedup *d, uint64_t i, uint64_t kept, uint64_t size) {
    Verdict v = {.kept = kept, .similarity = 1, .size = kept == i ? size : 0};
    if (kept != i) {
        const Record *a = record_of(d, i), *b = record_of(d, kept);
        v.similarity = minhash_similarity(sketch(d, a), sketch(d, b), d->hash.n);
    }
    return v;
}

/* Of each cluster the best; `best` and `size` are at the cluster's root. */
static bool elect(const Dedup *d, Sets *sets, uint64_t *best, uint64_t *size, OutFile *f, Err *e) {
    for (uint64_t i = 0; i < sets->n; i++) {
        uint64_t root = sets_find(sets, i);
        let_signatures_go(d, i);
        if (size[root]++ == 0 || better(d, i, best[root])) best[root] = i;
    }
    for (uint64_t i = 0; i < sets->n; i++) {
        uint64_t root = sets_find(sets, i);
        Verdict v = verdict_on(d, i, best[root], size[root]);
        let_signatures_go(d, i);
        file_put(f, &v, sizeof v);
    }
    Tail tail = {MAGIC, sets->n, sizeof(Verdict), f->crc};
    file_put(f, &tail, sizeof tail);
    return file_commit(f, e);
}

static bool judge(const Dedup *d, const char *path, Err *e) {
    uint64_t n = d->base[d->job->n_files];
    size_t bytes = n * sizeof(uint64_t);
    char *name[3];
    for (int i = 0; i < 3; i++) name[i] = job_path(&d->stage, "scratch", i);
    Sets sets = {0};
    uint64_t *best = NULL, *size = NULL;
    OutFile f = {0};
    bool ok = sets_open(&sets, name[0], n, e) && join_bands(d, &sets, e) &&
              (best = scratch_map(name[1], bytes, e)) && (size = scratch_map(name[2], bytes, e)) &&
              file_create(&f, path, e) && elect(d, &sets, best, size, &f, e);
    sets_close(&sets);
    scratch_unmap(best, bytes);
    scratch_unmap(size, bytes);
    for (int i = 0; i < 3; i++) free(name[i]);
    return ok;
}

/* ---- what comes out ------------------------------------------------------------------------------------ */

enum { KEPT, KEPT_BYTES, DROPPED, DROPPED_BYTES, WORDLESS, CLUSTERS, LARGEST, SIZES, SIMILAR = SIZES + 16 };
enum { SIZE_CLASSES = 16, SIMILAR_CLASSES = 20 };

static const Verdict *verdict_of(const Dedup *d, uint64_t i) {
    return (const Verdict *)(const void *)d->verdicts.p + i;
}

/* {"duplicate_of": ..., "similarity": ...} without the braces. */
static void put_reason(const Dedup *d, const Verdict *v, Str *s) {
    const char *file = d->job->files[file_of(d, v->kept)];
    const Record *r = record_of(d, v->kept);
    Str name = {0};
    str_puts(&name, file);
    if (r->line) str_printf(&name, ":%llu", (ull)r->line);
    s->n = 0;
    str_puts(s, "\"duplicate_of\": ");
    json_put_string(s, name.p, name.n);
    str_printf(s, ", \"similarity\": %.3f", v->similarity);
    str_free(&name);
}

static void count_dropped(uint64_t *tally, double similarity, uint64_t bytes) {
    int class = (int)(similarity * SIMILAR_CLASSES);
    tally[DROPPED]++, tally[DROPPED_BYTES] += bytes;
    tally[SIMILAR + (class < SIMILAR_CLASSES ? class : SIMILAR_CLASSES - 1)]++;
}

/* Clusters of 2, 3-4, 5-8, ... documents. */
static void count_kept(uint64_t *tally, uint64_t size, uint64_t bytes) {
    int class = 0;
    tally[KEPT]++, tally[KEPT_BYTES] += bytes;
    if (size < 2) return;
    while (class + 1 < SIZE_CLASSES && (uint64_t)2 << class < size) class ++;
    tally[CLUSTERS]++, tally[SIZES + class]++;
}

static void write_chunk(const void *ctx, Chunk *c) {
    const Dedup *d = ctx;
    Str reason = {0};
    for (int k = 0; k < c->n; k++) {
        uint64_t i = d->base[d->file] + c->first + (uint64_t)k;
        CHECK(i < d->base[d->file + 1]);
        const Verdict *v = verdict_of(d, i);
        const Item *it = &c->items[k];
        if (it->bad) continue;
        c->tally[WORDLESS] += !record_of(d, i)->shingles;
        if (v->kept == i) {
            count_kept(c->tally, v->size, it->doc.n);
            item_put(&c->out[0], it, NULL, 0, NULL);
        } else {
            count_dropped(c->tally, v->similarity, it->doc.n);
            put_reason(d, v, &reason);
            item_put(&c->out[1], it, NULL, 0, reason.p);
        }
    }
    str_free(&reason);
}

static void begin_file(void *ctx, int file) {
    Dedup *d = ctx;
    d->file = file;
    let_signatures_go(d, 0);
    let_go(&d->verdicts, 0, d->verdicts.n);
}

static uint64_t largest_cluster(const Dedup *d) {
    uint64_t most = 0;
    for (uint64_t i = 0; i < d->base[d->job->n_files]; i++)
        if (verdict_of(d, i)->size > most) most = verdict_of(d, i)->size;
    return most;
}

static void report_curve(const Dedup *d, const uint64_t *tally, Str *s) {
    const int b = d->hash.bands, r = d->hash.rows;
    str_printf(s, " \"threshold\": %.4f,\n \"s_curve\": [", pow(1.0 / b, 1.0 / r));
    for (int i = 0; i <= SIMILAR_CLASSES; i++) {
        double x = (double)i / SIMILAR_CLASSES;
        str_printf(s, "%s[%.2f, %.6f]", i ? ", " : "", x, minhash_curve(b, r, x));
    }
    str_puts(s, "],\n \"dropped_by_similarity\": [");
    for (int i = 0; i < SIMILAR_CLASSES; i++)
        str_printf(s, "%s[%.2f, %llu]", i ? ", " : "", (double)i / SIMILAR_CLASSES, (ull)tally[SIMILAR + i]);
    str_puts(s, "],\n");
}

static void report_clusters(const Dedup *d, const uint64_t *tally, Str *s) {
    str_printf(s, " \"clusters\": %llu,\n \"largest_cluster\": %llu,\n \"clusters_by_size\": {",
               (ull)tally[CLUSTERS], (ull)largest_cluster(d));
    const char *between = "";
    for (int i = 0; i < SIZE_CLASSES; i++) {
        if (!tally[SIZES + i]) continue;
        ull from = i ? (1ull << i) + 1 : 2;
        str_printf(s, "%s\"%llu-%llu\": %llu", between, from, 2ull << i, (ull)tally[SIZES + i]);
        between = ", ";
    }
    str_puts(s, "},\n");
}

static const char *const keep_names[] = {"first", "longest", "score"};

/* What the results depend on; with the braces. */
static void put_options(const DedupJob *j, Str *s) {
    str_printf(s, "{\"command\": \"dedup\", \"bands\": %d, \"rows\": %d, \"ngram\": %d, \"keep\": \"%s\"",
               j->bands, j->rows, j->ngram, keep_names[j->keep]);
    str_puts(s, ", \"key\": ");
    json_put_string(s, j->key ? j->key : "text", strlen(j->key ? j->key : "text"));
    if (j->keep == DEDUP_SCORE) str_puts(s, ", \"score\": "), json_put_string(s, j->score, strlen(j->score));
    str_puts(s, "}");
}

static void report(const Dedup *d, const uint64_t *tally, Str *s) {
    str_puts(s, "{\n \"options\": ");
    put_options(d->job, s);
    str_printf(s, ",\n \"documents\": %llu,\n \"kept\": %llu,\n \"dropped\": %llu,\n",
               (ull)(tally[KEPT] + tally[DROPPED]), (ull)tally[KEPT], (ull)tally[DROPPED]);
    str_printf(s, " \"kept_bytes\": %llu,\n \"dropped_bytes\": %llu,\n \"without_words\": %llu,\n",
               (ull)tally[KEPT_BYTES], (ull)tally[DROPPED_BYTES], (ull)tally[WORDLESS]);
    str_printf(s, " \"problems\": %llu,\n", (ull)tally[TALLY_PROBLEMS]);
    report_clusters(d, tally, s);
    report_curve(d, tally, s);
    str_puts(s, " \"input\": [");
    for (int i = 0; i < d->job->n_files; i++) {
        str_puts(s, i ? ", " : "");
        json_put_string(s, d->job->files[i], strlen(d->job->files[i]));
    }
    str_puts(s, "]\n}\n");
}

/* ---- the job ------------------------------------------------------------------------------------------- */

/* Clusters are the whole run's, so one rank finds them. */
static bool judge_all(Dedup *d, Err *e) {
    uint64_t n = 0;
    char *path = job_path(&d->stage, "verdicts", -1);
    bool ok = team_agree(!team_is_root() || path_exists(path) || judge(d, path, e), e) &&
              map_checked(&d->verdicts, path, sizeof(Verdict), &n, e);
    if (ok && n != d->base[d->job->n_files])
        ok = err_set(e, "%s/work: not of one job; remove it", d->job->out);
    free(path);
    return ok;
}

static bool write_all(Dedup *d, DedupResult *result, Err *e) {
    uint64_t tally[STAGE_TALLIES] = {0};
    Stage s = {.key = d->job->key, .threads = d->job->threads, .gzip = true, .work = write_chunk, .ctx = d};
    if (!job_run(&d->stage, &s, begin_file, d, tally, e)) return false;
    Str text = {0};
    report(d, tally, &text);
    bool ok = job_close(&d->stage, text.p, e);
    result->kept = tally[KEPT], result->dropped = tally[DROPPED];
    str_free(&text);
    return ok;
}

static bool work(Dedup *d, DedupResult *r, Err *e) {
    double start = now_seconds();
    if (!sign_all(d, e)) return false;
    double signed_at = now_seconds();
    if (!judge_all(d, e)) return false;
    double judged_at = now_seconds();
    bool ok = write_all(d, r, e);
    r->sign_s = signed_at - start, r->cluster_s = judged_at - signed_at,
    r->write_s = now_seconds() - judged_at;
    return ok;
}

bool dedup_run(const DedupJob *job, DedupResult *result, Err *e) {
    *result = (DedupResult){0};
    Dedup d = {
        .job = job,
        .stage = {
            .out = job->out, .files = job->files, .n_files = job->n_files, .names = {"kept", "dropped"}}};
    if (!minhash_open(&d.hash, job->bands, job->rows, job->ngram, e)) return false;
    size_t n = (size_t)job->n_files;
    d.record = sizeof(Record) + (size_t)job->bands * sizeof(uint64_t) + ((size_t)d.hash.n + 7) / 8 * 8;
    d.maps = xcalloc(n + 1, sizeof *d.maps);
    d.base = xcalloc(n + 1, sizeof *d.base);
    Str what = {0};
    put_options(job, &what);
    bool ok = job_open(&d.stage, what.p, job->overwrite, e) && (d.stage.done || work(&d, result, e));
    for (size_t i = 0; i < n; i++) map_close(&d.maps[i]);
    map_close(&d.verdicts);
    minhash_close(&d.hash);
    str_free(&what);
    free(d.maps), free(d.base);
    return ok;
}
