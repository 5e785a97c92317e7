/* curate.c - floor 4: see curate.h. */
#include "curate.h"
#include "docs.h"
#include "report.h"
#include "seen.h"
#include "stats.h"
#include "team.h"
#include "words.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- units of work --------------------------------------------------------------------------------------- */

typedef struct Unit {
    int first, end; /* files first .. end - 1 */
} Unit;

typedef struct Run {
    const CurateJob *job;
    char **file;
    int n_files;
    Unit *unit;
    int n_units;
    bool *mine; /* [n_units] those that are this rank's to work on */
    int n_mine;
    int outer, inner; /* threads over units, and within one */
    CleanModels models;
    double limit[N_RULES]; /* the config's, and what the run found */
    Keep last;             /* of those that are kept */
} Run;

typedef struct FileList {
    char **path;
    int n, cap;
} FileList;

static void list_add(FileList *l, char *path) {
    if (l->n == l->cap) l->path = xrealloc(l->path, (size_t)(l->cap = 2 * l->cap + 64) * sizeof *l->path);
    l->path[l->n++] = path;
}

/* A file, or all files below a folder whose names say that they can be read, in order of their names. Symbolic links
 * to folders are not followed. */
static bool list_input(FileList *l, const char *path, Err *e) {
    char **names;
    int n;
    if (!path_is_dir(path)) {
        if (!path_exists(path)) return err_set(e, "%s: no such file", path);
        if (!source_known(path))
            return err_set(
                e, "%s: its name must end in .txt, .jsonl, .html, .warc or .wet (or .gz after that)", path);
        list_add(l, xstrdup(path));
        return true;
    }
    if (!dir_list(path, &names, &n, e)) return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        char *below = path_join(path, names[i]);
        struct stat st;
        bool folder = lstat(below, &st) == 0 && S_ISDIR(st.st_mode);
        if (folder || source_known(below)) ok = list_input(l, below, e);
        free(below);
    }
    names_free(names, n);
    return ok;
}

/* Files in a row make a unit until it would be larger than asked for. */
static void make_units(Run *r, uint64_t most) {
    uint64_t *size = xcalloc((size_t)r->n_files + 1, sizeof *size);
    r->unit = xmalloc((size_t)(r->n_files + 1) * sizeof *r->unit);
    for (int i = 0; i < r->n_files; i++) {
        struct stat st = {0};
        stat(r->file[i], &st);
        if (!r->n_units || size[r->n_units - 1] + (uint64_t)st.st_size > most)
            r->unit[r->n_units++] = (Unit){i, i};
        size[r->n_units - 1] += (uint64_t)st.st_size;
        r->unit[r->n_units - 1].end = i + 1;
    }
    r->mine = team_deal(size, r->n_units, team_size(), team_rank());
    for (int u = 0; u < r->n_units; u++) r->n_mine += r->mine[u];
    free(size);
}

static char *unit_path(const Run *r, const char *before, int unit, const char *after) {
    Str s = {0};
    str_printf(&s, "%s/%s%06d%s", r->job->out, before, unit, after);
    return s.p;
}

static bool unit_has(const Run *r, int unit, const char *after) {
    char *path = unit_path(r, "work/", unit, after);
    bool there = path_exists(path);
    free(path);
    return there;
}

/* ---- the first stage: raw bytes to text ------------------------------------------------------------------ */

/* Documents are worked on in blocks, each by one thread; blocks are cut the same way whatever the threads. */
enum { BLOCK_DOCS = 256, BLOCK_BYTES = 1 << 20 };

/* How a text stands in a unit's .text file, followed by its URL and itself, and zeros up to a multiple of 8. */
typedef struct Frame {
    uint32_t file, n_url;
    uint64_t n, offset, line;
} Frame;

static void put_frame(Str *s, const Frame *f, const char *url, const char *text) {
    static const char zeros[8];
    str_put(s, f, sizeof *f);
    str_put(s, url, f->n_url);
    str_put(s, text, f->n);
    str_put(s, zeros, -(f->n_url + f->n) % 8);
}

static size_t frame_size(const Frame *f) {
    return (sizeof *f + f->n_url + f->n + 7) / 8 * 8;
}

/* A problem of the file, met before the block's document `before` was read. */
typedef struct Told {
    int file, before;
    Problem is;
} Told;

typedef struct ReadBlock {
    RawDoc doc[BLOCK_DOCS];
    Told told[STATS_PROBLEMS]; /* the first ones */
    uint64_t n_told;
    int file[BLOCK_DOCS];
    char error[BLOCK_DOCS][200]; /* empty: it was read */
    int n;
    size_t bytes;
    Str frames, seen; /* seen: Seen[], documents numbered within the block */
    NormaliseCounts counts;
} ReadBlock;

typedef struct Reader {
    const Run *run;
    Stats *stats;
    Source *source;
    ReadBlock *block; /* what is being filled */
    int at, end;      /* the file that is open, or the next one */
} Reader;

static void note_problem(const char *file, const Problem *p) {
    note("%s: at byte %llu: %s; passed over", file, (unsigned long long)p->offset, p->what);
}

/* Blocks are read ahead, so what is told waits for its turn: the report has problems in the order of the input. */
static void tell(void *ctx, const char *file, const Problem *p) {
    Reader *rd = ctx;
    ReadBlock *b = rd->block;
    if (b->n_told < STATS_PROBLEMS) b->told[b->n_told] = (Told){rd->at, b->n, *p};
    b->n_told++;
    note_problem(file, p);
}

/* Fills a block; an empty one is the end. */
static bool read_block(Reader *rd, ReadBlock *b, Err *e) {
    b->n = 0;
    b->bytes = b->n_told = 0;
    rd->block = b;
    while (b->n < BLOCK_DOCS && b->bytes < BLOCK_BYTES && rd->at < rd->end) {
        const char *path = rd->run->file[rd->at];
        size_t most = (size_t)rd->run->job->config.max_document;
        if (!rd->source && !(rd->source = source_open(path, most, tell, rd, e))) return false;
        if (source_next(rd->source, &b->doc[b->n])) {
            b->file[b->n] = rd->at;
            b->bytes += b->doc[b->n++].data.n;
        } else {
            source_close(rd->source);
            rd->source = NULL;
            rd->at++;
        }
    }
    return true;
}

static void put_seen(Str *s, uint64_t hash, int32_t doc, int32_t line) {
    Seen x = {hash, doc, line};
    str_put(s, &x, sizeof x);
}

enum { SEED_DOCUMENT, SEED_LINE };

static void hash_text(const CurateConfig *c, const char *text, size_t n, int32_t doc, Str *seen) {
    int32_t number = 0;
    if (c->duplicates.documents) put_seen(seen, hash_bytes(text, n, SEED_DOCUMENT), doc, SEEN_DOCUMENT);
    if (!c->duplicates.lines) return;
    for (Span left = {text, n}, line; line_next(&left, &line); number++) {
        Span s = span_trim(line);
        if (s.n >= (size_t)c->duplicates.min_line)
            put_seen(seen, hash_bytes(s.p, s.n, SEED_LINE), doc, number);
    }
}

static void extract_block(const Run *r, ReadBlock *b, Cleaner *c) {
    int32_t number = 0;
    b->frames.n = b->seen.n = 0;
    b->counts = (NormaliseCounts){0};
    for (int i = 0; i < b->n; i++) {
        RawDoc *raw = &b->doc[i];
        const char *text;
        size_t n;
        Err e = {0};
        b->error[i][0] = 0;
        if (!clean_extract(c, raw, &text, &n, &b->counts, &e)) {
            snprintf(b->error[i], sizeof b->error[i], "%.199s", e.msg);
            continue;
        }
        Frame f = {(uint32_t)b->file[i], (uint32_t)raw->url.n, n, raw->offset, raw->line};
        put_frame(&b->frames, &f, raw->url.p, text);
        hash_text(&r->job->config, text, n, number++, &b->seen);
    }
}

/* Of those that were told, from the `at`th on, what was met before document i: where the next one is. */
static uint64_t store_told(Reader *rd, const ReadBlock *b, uint64_t at, int i) {
    for (; at < b->n_told && at < STATS_PROBLEMS && b->told[at].before <= i; at++)
        stats_problem(rd->stats, rd->run->file[b->told[at].file], &b->told[at].is);
    return at;
}

/* What a block found goes to the unit's files, in order. */
static void store_block(Reader *rd, const ReadBlock *b, int32_t *documents, OutFile *text, SeenWriter *seen) {
    Stats *s = rd->stats;
    const Seen *x = (const Seen *)(const void *)b->seen.p;
    int32_t first = *documents;
    uint64_t told = 0;
    for (int i = 0; i < b->n; i++) {
        const char *file = rd->run->file[b->file[i]];
        told = store_told(rd, b, told, i);
        s->documents++;
        s->bytes += b->doc[i].data.n;
        if (b->error[i][0]) {
            Problem p = {.offset = b->doc[i].offset};
            snprintf(p.what, sizeof p.what, "%s", b->error[i]);
            stats_problem(s, file, &p);
            note_problem(file, &p);
            stats_dropped(s, REASON_UNREADABLE, b->doc[i].data.n);
        } else {
            ++*documents;
        }
    }
    told = store_told(rd, b, told, b->n);
    s->problems += b->n_told - told;
    s->normalised.repaired += b->counts.repaired;
    s->normalised.mojibake += b->counts.mojibake;
    s->normalised.controls += b->counts.controls;
    s->normalised.composed += b->counts.composed;
    file_put(text, b->frames.p, b->frames.n);
    for (size_t i = 0; i < b->seen.n / sizeof *x; i++) seen_put(seen, x[i].hash, first + x[i].doc, x[i].line);
}

static Cleaner **cleaners_new(const Run *r) {
    Cleaner **c = xmalloc((size_t)r->inner * sizeof *c);
    for (int i = 0; i < r->inner; i++) c[i] = cleaner_new(&r->job->config.clean, &r->models);
    return c;
}

static void cleaners_free(const Run *r, Cleaner **c) {
    for (int i = 0; i < r->inner; i++) cleaner_free(c[i]);
    free(c);
}

static bool read_blocks(Reader *rd, ReadBlock *blocks, int n_blocks, Cleaner **cleaners, OutFile *text,
                        SeenWriter *seen, Err *e) {
    int32_t documents = 0;
    for (bool more = true; more;) {
        int n = 0;
        for (; n < n_blocks && more; n++) {
            if (!read_block(rd, &blocks[n], e)) return false;
            more = blocks[n].n > 0; /* an empty one may still hold problems */
        }
#pragma omp parallel for schedule(dynamic) num_threads(rd->run->inner)
        for (int i = 0; i < n; i++) extract_block(rd->run, &blocks[i], cleaners[omp_get_thread_num()]);
        for (int i = 0; i < n; i++) store_block(rd, &blocks[i], &documents, text, seen);
    }
    return true;
}

static void blocks_free(ReadBlock *blocks, int n) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < BLOCK_DOCS; k++) raw_free(&blocks[i].doc[k]);
        str_free(&blocks[i].frames);
        str_free(&blocks[i].seen);
    }
    free(blocks);
}

static bool read_unit(const Run *r, int u, Err *e) {
    OutFile text = {.fd = -1};
    SeenWriter seen = {0};
    Stats *stats = xcalloc(1, sizeof *stats);
    Reader rd = {.run = r, .stats = stats, .at = r->unit[u].first, .end = r->unit[u].end};
    char *text_path = unit_path(r, "work/", u, ".text"), *seen_path = unit_path(r, "work/", u, ".seen"),
         *done = unit_path(r, "work/", u, ".read");
    int n_blocks = r->inner > 1 ? 4 * r->inner : 1;
    ReadBlock *blocks = xcalloc((size_t)n_blocks, sizeof *blocks);
    Cleaner **cleaners = cleaners_new(r);
    bool ok = file_create(&text, text_path, e) && seen_create(&seen, seen_path, e) &&
              read_blocks(&rd, blocks, n_blocks, cleaners, &text, &seen, e);
    source_close(rd.source);
    if (ok)
        ok = file_commit(&text, e) && seen_commit(&seen, e) && stats_save(stats, done, e);
    else
        file_abandon(&text), seen_abandon(&seen);
    cleaners_free(r, cleaners);
    blocks_free(blocks, n_blocks);
    free(stats);
    free(text_path), free(seen_path), free(done);
    return ok;
}

/* ---- the stages that judge: text to verdicts ------------------------------------------------------------- */

/* What is said of a document. Where only a run knows which are kept, documents wait in .held files: frames, with a
 * verdict behind each. */
typedef struct Verdict {
    uint64_t order;   /* of the document in the run, from 1 */
    uint64_t hash;    /* of its text */
    int32_t reason;   /* why it is dropped; -1: it is not, so far */
    int32_t language; /* a label; -1: unknown */
    double value[N_RULE_MEASURES];
} Verdict;

typedef struct JudgeBlock {
    const Frame *first; /* in the mapped file */
    int n;
    int32_t number;        /* of its first document within the unit */
    double lm[BLOCK_DOCS]; /* perplexities, of those that are weighed */
    Str text, out[2], gz;
    Stats stats;
} JudgeBlock;

typedef struct Judge Judge;
typedef void (*JudgeFn)(const Judge *j, JudgeBlock *b, const Frame *f, int32_t number, Cleaner *c);
typedef void (*WeighFn)(const Judge *j, JudgeBlock *blocks, int n_blocks);

struct Judge {
    const Run *run;
    int unit;
    WeighFn before; /* what needs many documents at once; NULL: nothing */
    JudgeFn document;
    bool last;   /* it writes documents: those that stay, and others; else it holds them, and their scores */
    size_t tail; /* bytes of what stands behind each frame */
    const char *held; /* what it calls the file of those that it holds */
    Map map;
    size_t at; /* of the next frame */
    int32_t number;
    Drop *drop;
    size_t n_drops;
    OutFile out[2];
    Stats *stats;
};

static const Frame *next_frame(const Judge *j, const Frame *f) {
    return (const Frame *)(const void *)((const char *)f + frame_size(f) + j->tail);
}

static void put_where(Str *json, const Frame *f, const char *file) {
    str_puts(json, ", \"file\": ");
    doc_put_json(json, file, strlen(file));
    if (f->line)
        str_printf(json, ", \"line\": %llu", (unsigned long long)f->line);
    else
        str_printf(json, ", \"offset\": %llu", (unsigned long long)f->offset);
    if (!f->n_url) return;
    str_puts(json, ", \"url\": ");
    doc_put_json(json, (const char *)(f + 1), f->n_url);
}

/* As %.5g has it; most scores are counts, or shares of nothing, and need no care. */
static void put_score(Str *json, double x) {
    if (fabs(x) < 100000 && x == (double)(int)x && !signbit(x))
        str_printf(json, "%d", (int)x);
    else
        str_printf(json, "%.5g", x);
}

static void put_document(Str *json, const Frame *f, const char *file, const char *text, size_t n,
                         const Verdict *v, const char *language) {
    const char *before = ", \"scores\": {";
    str_puts(json, "{\"text\": ");
    doc_put_json(json, text, n);
    put_where(json, f, file);
    if (v->reason >= 0) str_printf(json, ", \"reason\": \"%s\"", reason_name(v->reason));
    if (language) {
        str_puts(json, ", \"language\": ");
        doc_put_json(json, language, strlen(language));
    }
    for (int m = 0; m < N_RULE_MEASURES; m++) {
        if (isnan(v->value[m])) continue;
        str_puts(json, before);
        str_puts(json, "\"");
        str_puts(json, measure_names[m]);
        str_puts(json, "\": ");
        put_score(json, v->value[m]);
        before = ", ";
    }
    str_puts(json, before[2] ? "}\n" : "}}\n");
}

/* The first drop of a document, or what follows. */
static size_t find_drop(const Judge *j, int32_t doc) {
    size_t lo = 0, hi = j->n_drops;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        if (j->drop[middle].doc < doc)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

/* Drops the lines that stood earlier in the run; what is left of text[n]. */
static size_t drop_lines(const Judge *j, size_t at, int32_t doc, char *text, size_t n, uint64_t *dropped) {
    int32_t number = 0;
    size_t out = 0;
    for (Span left = {text, n}, line; line_next(&left, &line); number++) {
        if (at < j->n_drops && j->drop[at].doc == doc && j->drop[at].line == number) {
            at++;
            ++*dropped;
            continue;
        }
        memmove(text + out, line.p, line.n);
        out += line.n;
        text[out++] = '\n';
    }
    return out ? out - 1 : 0;
}

static bool is_written(const Judge *j, const Verdict *v) {
    return v->reason < 0 || (double)(hash_mix(v->order) >> 11) * 0x1p-53 < j->run->job->config.dropped;
}

static const char *language_name(const Run *r, int language) {
    return language < 0 ? NULL : classifier_label(r->models.language, language);
}

/* All that can be said of a document has been said. */
static void settle(const Judge *j, JudgeBlock *b, const Frame *f, const char *text, size_t n,
                   const Verdict *v, Cleaner *c) {
    if (v->reason < 0) {
        stats_kept(&b->stats, n);
        clean_scrub(c, &text, &n, &b->stats.anonymised);
    } else {
        stats_dropped(&b->stats, v->reason, n);
    }
    if (is_written(j, v))
        put_document(&b->out[v->reason >= 0], f, j->run->file[f->file], text, n, v,
                     language_name(j->run, v->language));
}

/* It waits; if it may be kept, its score is what the threshold will follow from. */
static void hold(JudgeBlock *b, const Frame *f, const char *text, size_t n, const Verdict *v) {
    Frame left = *f;
    Keep k = {v->value[M_SCORE], v->hash};
    left.n = n;
    put_frame(&b->out[0], &left, (const char *)(f + 1), text);
    str_put(&b->out[0], v, sizeof *v);
    if (v->reason < 0) str_put(&b->out[1], &k, sizeof k);
}

static void pass_on(const Judge *j, JudgeBlock *b, const Frame *f, const char *text, size_t n,
                    const Verdict *v, Cleaner *c) {
    if (j->last || !is_written(j, v))
        settle(j, b, f, text, n, v, c);
    else
        hold(b, f, text, n, v);
}

static void judge_document(const Judge *j, JudgeBlock *b, const Frame *f, int32_t number, Cleaner *c) {
    const char *file = j->run->file[f->file], *body = (const char *)(f + 1) + f->n_url;
    Verdict v = {.order = (uint64_t)j->unit << 32 | (uint32_t)(number + 1), .reason = -1, .language = -1};
    size_t at = find_drop(j, number), n = f->n;
    bool listed = at < j->n_drops && j->drop[at].doc == number;
    b->text.n = 0;
    str_put(&b->text, body, n);
    if (listed && j->drop[at].line == SEEN_DOCUMENT) {
        v.reason = REASON_DUPLICATE;
        for (int m = 0; m < N_RULE_MEASURES; m++) v.value[m] = NAN;
    } else {
        Judgement is;
        if (listed) n = drop_lines(j, at, number, b->text.p, n, &b->stats.duplicate_lines);
        n = clean_judge(c, b->text.p, n, &is);
        stats_judged(&b->stats, &is, j->run->limit, b->text.p, n, file, v.order);
        if (!n || is.broken >= 0) v.reason = n ? is.broken : REASON_EMPTY;
        memcpy(v.value, is.value, sizeof v.value);
        v.hash = hash_bytes(b->text.p, n, SEED_DOCUMENT);
        v.language = is.language;
        if (v.language >= 0) stats_language(&b->stats, v.language, language_name(j->run, v.language), n);
    }
    pass_on(j, b, f, b->text.p, n, &v, c);
}

static Verdict held_verdict(const Frame *f) {
    Verdict v;
    memcpy(&v, (const char *)f + frame_size(f), sizeof v);
    return v;
}

static const char *held_text(const Frame *f) {
    return (const char *)(f + 1) + f->n_url;
}

/* The GPT scores all documents of some blocks that may still be kept. */
static void weigh_blocks(const Judge *j, JudgeBlock *blocks, int n_blocks) {
    const CurateLm *lm = &j->run->job->lm;
    const size_t most = (size_t)n_blocks * BLOCK_DOCS;
    Span *text = xmalloc((most + 1) * sizeof *text);
    double *x = xmalloc((most + 1) * sizeof *x), **to = xmalloc((most + 1) * sizeof *to);
    int n = 0;
    for (int k = 0; k < n_blocks; k++) {
        const Frame *f = blocks[k].first;
        for (int i = 0; i < blocks[k].n; i++, f = next_frame(j, f)) {
            if (held_verdict(f).reason >= 0) continue;
            text[n] = (Span){held_text(f), f->n};
            to[n++] = &blocks[k].lm[i];
        }
    }
    lm->score(lm->model, text, n, x);
    for (int i = 0; i < n; i++) *to[i] = x[i];
    free(text), free(x), free(to);
}

/* A document that was held: is it what the GPT expects? */
static void weigh_document(const Judge *j, JudgeBlock *b, const Frame *f, int32_t number, Cleaner *c) {
    static const int by_lm[] = {R_MAX_LM, R_MIN_LM};
    const char *text = held_text(f), *file = j->run->file[f->file];
    Verdict v = held_verdict(f);
    if (v.reason < 0) {
        double x = v.value[M_LM_PERPLEXITY] = b->lm[number - b->number];
        stats_measure(&b->stats, M_LM_PERPLEXITY, x);
        for (size_t i = 0; i < sizeof by_lm / sizeof *by_lm; i++) {
            int rule = by_lm[i];
            double limit = j->run->limit[rule];
            bool broken = !rule_holds(rules[rule].most, x, limit);
            stats_rule(&b->stats, rule, broken, x, limit, text, f->n, file, v.order);
            if (broken && v.reason < 0) v.reason = rule;
        }
    }
    pass_on(j, b, f, text, f->n, &v, c);
}

/* A document that was held: is it among those that are kept? */
static void keep_document(const Judge *j, JudgeBlock *b, const Frame *f, int32_t number, Cleaner *c) {
    const CurateConfig *config = &j->run->job->config;
    const char *text = held_text(f);
    Verdict v = held_verdict(f);
    (void)number;
    if (v.reason < 0) {
        Keep k = {v.value[M_SCORE], v.hash};
        bool kept = isnan(config->keep.share)
                        ? keep_pareto(k, config->keep.pareto, (uint64_t)config->keep.seed)
                        : !keep_before(j->run->last, k);
        stats_rule(&b->stats, R_KEEP, !kept, k.score, j->run->limit[R_KEEP], text, f->n,
                   j->run->file[f->file], v.order);
        if (!kept) v.reason = R_KEEP;
    }
    pass_on(j, b, f, text, f->n, &v, c);
}

static void judge_block(const Judge *j, JudgeBlock *b, Cleaner *c) {
    const Frame *f = b->first;
    b->out[0].n = b->out[1].n = 0;
    memset(&b->stats, 0, sizeof b->stats);
    for (int i = 0; i < b->n; i++, f = next_frame(j, f)) j->document(j, b, f, b->number + i, c);
    for (int i = 0; i < 2 && j->last; i++) {
        Str plain = b->out[i];
        if (!plain.n) continue;
        b->gz.n = 0;
        gzip_put(&b->gz, plain.p, plain.n, (int)j->run->job->config.gzip_level);
        b->out[i] = b->gz;
        b->gz = plain;
    }
}

/* The next frames of the unit; b->n is 0 at its end. */
static bool take_block(Judge *j, JudgeBlock *b, Err *e) {
    size_t bytes = 0;
    b->first = (const Frame *)(const void *)(j->map.p + j->at);
    b->number = j->number;
    for (b->n = 0; b->n < BLOCK_DOCS && bytes < BLOCK_BYTES && j->at < j->map.n; b->n++, j->number++) {
        const Frame *f = (const Frame *)(const void *)(j->map.p + j->at);
        size_t left = j->map.n - j->at;
        if (left < sizeof *f || f->n > left || f->n_url > left || frame_size(f) + j->tail > left ||
            f->file >= (uint32_t)j->run->n_files)
            return err_set(e, "%s/work: unit %d is damaged; remove the folder and start again",
                           j->run->job->out, j->unit);
        bytes += f->n;
        j->at += frame_size(f) + j->tail;
    }
    return true;
}

static bool judge_blocks(Judge *j, JudgeBlock *blocks, int n_blocks, Cleaner **cleaners, Err *e) {
    for (int n = n_blocks; n == n_blocks;) {
        for (n = 0; n < n_blocks; n++) {
            if (!take_block(j, &blocks[n], e)) return false;
            if (!blocks[n].n) break;
        }
        if (j->before) j->before(j, blocks, n);
#pragma omp parallel for schedule(dynamic) num_threads(j->run->inner)
        for (int i = 0; i < n; i++) judge_block(j, &blocks[i], cleaners[omp_get_thread_num()]);
        for (int i = 0; i < n; i++) {
            for (int k = 0; k < 2; k++) file_put(&j->out[k], blocks[i].out[k].p, blocks[i].out[k].n);
            stats_merge(j->stats, &blocks[i].stats, j->run->limit);
        }
    }
    return true;
}

/* An empty file is no gzip file: one that got nothing gets an empty member. */
static void finish_gzip(OutFile *f, int level) {
    Str s = {0};
    if (!f->n) gzip_put(&s, "", 0, level);
    file_put(f, s.p, s.n);
    str_free(&s);
}

static bool judge_open(Judge *j, const char *in, Err *e) {
    const Run *r = j->run;
    char *drops = unit_path(r, "work/", j->unit, ".drop"),
         *out[2] = {unit_path(r, j->last ? "clean_" : "work/", j->unit, j->last ? ".jsonl.gz" : j->held),
                    unit_path(r, j->last ? "dropped_" : "work/", j->unit, j->last ? ".jsonl.gz" : ".scores")};
    struct stat st;
    bool ok = stat(in, &st) == 0 || err_set(e, "%s: %s", in, strerror(errno));
    if (ok && st.st_size) ok = map_open(&j->map, in, e);
    ok = ok && seen_drops(drops, &j->drop, &j->n_drops, e);
    for (int i = 0; i < 2; i++) {
        ok = ok && file_create(&j->out[i], out[i], e);
        free(out[i]);
    }
    free(drops);
    return ok;
}

/* From a unit's file `from` to its documents, or to what waits; then that file is not needed any more. */
static bool judge_file(Judge *j, const char *from, const char *done, Err *e) {
    const Run *r = j->run;
    int n_blocks = j->before      ? 4
                   : r->inner > 1 ? 4 * r->inner
                                  : 1; /* the same batches on any number of threads */
    JudgeBlock *blocks = xcalloc((size_t)n_blocks, sizeof *blocks);
    Cleaner **cleaners = cleaners_new(r);
    char *mark = unit_path(r, "work/", j->unit, done), *in = unit_path(r, "work/", j->unit, from);
    j->stats = xcalloc(1, sizeof *j->stats);
    j->out[0].fd = j->out[1].fd = -1;
    bool ok = judge_open(j, in, e) && judge_blocks(j, blocks, n_blocks, cleaners, e);
    for (int i = 0; i < 2 && ok; i++) {
        if (j->last) finish_gzip(&j->out[i], (int)r->job->config.gzip_level);
        ok = file_commit(&j->out[i], e);
    }
    ok = ok && stats_save(j->stats, mark, e);
    file_abandon(&j->out[0]), file_abandon(&j->out[1]);
    map_close(&j->map);
    if (ok) unlink(in);
    for (int i = 0; i < n_blocks; i++) {
        JudgeBlock *b = &blocks[i];
        str_free(&b->text), str_free(&b->out[0]), str_free(&b->out[1]), str_free(&b->gz);
    }
    free(blocks);
    cleaners_free(r, cleaners);
    free(j->drop), free(j->stats), free(mark), free(in);
    return ok;
}

static bool judge_unit(const Run *r, int u, Err *e) {
    Judge j = {.run = r, .unit = u, .document = judge_document, .held = ".held"};
    j.last = !r->job->lm.score && curate_keeps_all(&r->job->config);
    return judge_file(&j, ".text", ".judged", e);
}

static bool weigh_unit(const Run *r, int u, Err *e) {
    Judge j = {.run = r, .unit = u, .before = weigh_blocks, .document = weigh_document, .held = ".weighed"};
    j.last = curate_keeps_all(&r->job->config);
    j.tail = sizeof(Verdict);
    return judge_file(&j, ".held", ".lm", e);
}

static bool keep_unit(const Run *r, int u, Err *e) {
    Judge j = {.run = r, .unit = u, .document = keep_document, .last = true, .tail = sizeof(Verdict)};
    return judge_file(&j, r->job->lm.score ? ".weighed" : ".held", ".kept", e);
}

/* The threshold of a share, from the scores of all units. */
static bool find_threshold(Run *r, Err *e) {
    char **scores = xmalloc((size_t)r->n_units * sizeof *scores);
    uint64_t all = 0;
    for (int u = 0; u < r->n_units; u++) scores[u] = unit_path(r, "work/", u, ".scores");
    bool ok =
        keep_share((const char *const *)scores, r->n_units, r->job->config.keep.share, &r->last, &all, e);
    if (ok && all) r->limit[R_KEEP] = r->last.score;
    names_free(scores, r->n_units);
    return ok;
}

/* ---- the run --------------------------------------------------------------------------------------------- */

/* A stage over this rank's units that have not been through it; the first error in their order. */
static bool for_units(const Run *r, const char *what, const char *done,
                      bool (*stage)(const Run *, int, Err *), Err *e) {
    Err *errs = xcalloc((size_t)r->n_units, sizeof *errs);
    int finished = 0;
    bool failed = false, ok = true;
#pragma omp parallel for schedule(dynamic) num_threads(r->outer)
    for (int u = 0; u < r->n_units; u++) {
        bool stop;
#pragma omp atomic read
        stop = failed;
        if (stop || !r->mine[u]) continue;
        bool good = unit_has(r, u, done) || stage(r, u, &errs[u]);
#pragma omp critical(progress)
        {
            finished++;
            if (progress_is_terminal()) progress_line(false, "%s: %d of %d", what, finished, r->n_mine);
        }
        if (!good) {
#pragma omp atomic write
            failed = true;
        }
    }
    for (int u = 0; u < r->n_units && ok; u++)
        if (errs[u].code) *e = errs[u], ok = false;
    free(errs);
    return team_agree(ok, e);
}

/* The GPT works on all threads, so units come one after the other. */
static bool weigh(const Run *r, Err *e) {
    bool ok = true;
    for (int u = 0, done = 0; u < r->n_units && ok && r->job->lm.score; u++) {
        if (!r->mine[u]) continue;
        ok = unit_has(r, u, ".lm") || weigh_unit(r, u, e);
        if (progress_is_terminal()) progress_line(false, "weigh: %d of %d", ++done, r->n_mine);
    }
    return team_agree(ok, e);
}

/* Of the documents that were held, to keep some. */
static bool keep_some(Run *r, Err *e) {
    const CurateConfig *c = &r->job->config;
    return curate_keeps_all(c) ||
           ((isnan(c->keep.share) || find_threshold(r, e)) && for_units(r, "keep", ".kept", keep_unit, e));
}

static bool find_seen(const Run *r, Err *e) {
    char *mark = path_join(r->job->out, "work/seen");
    char **hashes = xmalloc((size_t)r->n_units * sizeof *hashes),
         **drops = xmalloc((size_t)r->n_units * sizeof *drops);
    for (int u = 0; u < r->n_units; u++) {
        hashes[u] = unit_path(r, "work/", u, ".seen");
        drops[u] = unit_path(r, "work/", u, ".drop");
    }
    bool ok =
        path_exists(mark) || (seen_find((const char *const *)hashes, (const char *const *)drops, r->n_units,
                                        (size_t)r->job->config.duplicates.memory_mb << 20, e) &&
                              file_write(mark, "", 0, e));
    names_free(hashes, r->n_units);
    names_free(drops, r->n_units);
    free(mark);
    return ok;
}

/* What the run is: its config and its files. A folder that holds another run is not touched. */
static bool claim_folder(const Run *r, Err *e) {
    Str plan = {0};
    char *path = path_join(r->job->out, "config.json"), *work = path_join(r->job->out, "work"), *there = NULL;
    size_t n = 0;
    bool ok = dir_make(r->job->out, e);
    curate_print(&r->job->config, &plan);
    plan.n = (size_t)(strrchr(plan.p, '}') - plan.p);
    while (plan.p[plan.n - 1] == '\n') plan.n--;
    str_puts(&plan, ",\n  \"files\": [");
    for (int i = 0; i < r->n_files; i++) {
        str_puts(&plan, i ? ",\n    " : "\n    ");
        doc_put_json(&plan, r->file[i], strlen(r->file[i]));
    }
    str_puts(&plan, "\n  ]\n}\n");
    if (ok && path_exists(path)) {
        ok = file_read(path, SIZE_MAX / 2, &there, &n, e);
        if (ok && (n != plan.n || memcmp(there, plan.p, n)))
            ok = err_usage(
                e, "%s: holds a run with another config or other input; give another --out, or remove it",
                r->job->out);
    } else if (ok) {
        ok = dir_make(work, e) && file_write(path, plan.p, plan.n, e);
    }
    free(there), free(path), free(work);
    str_free(&plan);
    return ok;
}

/* `seconds` is NAN where an earlier call did a part. */
static bool report(const Run *r, double seconds, Err *e) {
    Stats *all = xcalloc(1, sizeof *all), *one = xmalloc(sizeof *one);
    const char *stage[4] = {".read", ".judged"};
    int stages = 2;
    bool ok = true;
    if (r->job->lm.score) stage[stages++] = ".lm";
    if (!curate_keeps_all(&r->job->config)) stage[stages++] = ".kept";
    for (int i = 0; i < r->n_units * stages && ok; i++) {
        char *path = unit_path(r, "work/", i / stages, stage[i % stages]);
        ok = stats_load(one, path, e);
        if (ok) stats_merge(all, one, r->limit);
        free(path);
    }
    ok = ok && report_write(r->job->out, all, r->limit, seconds, e);
    if (ok) {
        char rate[32] = "";
        if (!isnan(seconds)) snprintf(rate, sizeof rate, "; %.1f MB/s", (double)all->bytes / 1e6 / seconds);
        note("%s: %llu of %llu documents kept, %llu of %llu bytes; %llu problems%s", r->job->out,
             (unsigned long long)all->kept, (unsigned long long)all->documents,
             (unsigned long long)all->kept_bytes, (unsigned long long)all->bytes,
             (unsigned long long)all->problems, rate);
    }
    free(all), free(one);
    return ok;
}

static bool run_stages(Run *r, Err *e) {
    char *finished = path_join(r->job->out, "report.json"), *work = path_join(r->job->out, "work");
    const bool root = team_is_root();
    double start = path_exists(work) ? NAN : now_seconds();
    bool ok = team_agree(!root || claim_folder(r, e), e);
    const bool done = ok && path_exists(finished) && !path_exists(work);
    if (done) note("%s: is finished already", r->job->out);
    if (ok && !done)
        ok = for_units(r, "read", ".read", read_unit, e) && team_agree(!root || find_seen(r, e), e) &&
             for_units(r, "judge", ".judged", judge_unit, e) && weigh(r, e) && keep_some(r, e) &&
             team_agree(!root || (report(r, now_seconds() - start, e) && dir_remove(work, e)), e);
    free(finished), free(work);
    return ok;
}

bool curate_run(const CurateJob *job, Err *e) {
    FileList list = {0};
    Run r = {.job = job};
    bool ok = curate_check(&job->config, e);
    for (int i = 0; i < job->n_inputs && ok; i++) ok = list_input(&list, job->inputs[i], e);
    if (ok && !list.n) ok = err_set(e, "%s: holds no file that can be read here", job->inputs[0]);
    r.file = list.path, r.n_files = list.n;
    if (ok) {
        int threads = job->threads > 0 ? job->threads : omp_get_num_procs();
        make_units(&r, (uint64_t)job->config.unit);
        r.outer = threads < r.n_mine ? threads : r.n_mine ? r.n_mine : 1;
        r.inner = threads / r.outer;
        omp_set_max_active_levels(2);
        memcpy(r.limit, job->config.clean.limit, sizeof r.limit);
        ok = clean_models_open(&r.models, &job->config.clean, e) && run_stages(&r, e);
        clean_models_close(&r.models);
    }
    names_free(list.path, list.n);
    free(r.unit), free(r.mine);
    return ok;
}
