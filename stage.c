/* stage.c - floor 2: see stage.h. */
#include "stage.h"
#include "source.h"
#include "team.h"

#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned long long ull;

/* ---- lines of JSON ------------------------------------------------------------------------------------- */

void json_put_string(Str *out, const char *s, size_t n) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    size_t done = 0;
    str_put(out, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= ' ' && c != '"' && c != '\\') continue;
        str_put(out, s + done, i - done);
        done = i + 1;
        const char *simple = c ? strchr(from, c) : NULL;
        if (simple)
            str_put(out, (char[2]){'\\', to[simple - from]}, 2);
        else
            str_printf(out, "\\u%04x", c);
    }
    str_put(out, s + done, n - done);
    str_put(out, "\"", 1);
}

void item_put(Str *out, const Item *it, const char *text, size_t n, const char *extra) {
    const char *line = it->line;
    size_t end = it->n_line;
    if (!line) {
        str_puts(out, "{\"text\": ");
        json_put_string(out, text ? text : it->doc.text, text ? n : it->doc.n);
    } else {
        while (line[end - 1] != '}') end--; /* white space may follow the object */
        end--;
        size_t at = text ? it->doc.hi : 0;
        if (text) str_put(out, line, it->doc.lo), json_put_string(out, text, n);
        str_put(out, line + at, end - at);
    }
    if (extra) str_puts(out, ", "), str_puts(out, extra);
    str_puts(out, "}\n");
}

/* ---- reading ------------------------------------------------------------------------------------------- */

enum { CHUNK = 1 << 20, LONGEST = 1 << 28, MOST_TOLD = 10 };

typedef struct Reader {
    const char *path;
    Source *source;
    uint64_t n_documents;
    uint64_t told; /* problems */
    Chunk *chunk;  /* that is being read */
} Reader;

static void problem(Chunk *c, const char *file, uint64_t offset, const char *what) {
    c->tally[TALLY_PROBLEMS]++;
    str_printf(&c->problems, "%s: at byte %llu: %s; passed over\n", file, (ull)offset, what);
}

static void unreadable(void *ctx, const char *file, const Problem *p) {
    problem(((Reader *)ctx)->chunk, file, p->offset, p->what);
}

static bool chunk_read(Reader *r, Chunk *c) {
    r->chunk = c;
    c->first = r->n_documents;
    while (c->bytes < CHUNK) {
        RawDoc raw = {0};
        if (!source_next(r->source, &raw)) {
            raw_free(&raw);
            return c->n || c->problems.n;
        }
        if (c->n == c->cap)
            c->items = xrealloc(c->items, (size_t)(c->cap = 2 * c->cap + 64) * sizeof *c->items);
        c->items[c->n++] =
            (Item){.doc = {.text = raw.data.p, .n = raw.data.n, .file = r->path, .line = raw.line},
                   .offset = raw.offset};
        str_free(&raw.url);
        c->bytes += raw.data.n;
        r->n_documents++;
    }
    return true;
}

static void chunk_free(Chunk *c) {
    for (int i = 0; i < c->n; i++) {
        free(c->items[i].doc.text);
        free(c->items[i].line);
    }
    free(c->items);
    for (int i = 0; i < STAGE_OUTS; i++) str_free(&c->out[i]);
    str_free(&c->problems);
    *c = (Chunk){0};
}

/* ---- working ------------------------------------------------------------------------------------------- */

/* Level 1 takes half the time of level 4, which is most of the time that a job takes, for a twelfth more bytes. */
static void compress_member(Str *s) {
    Str packed = {0};
    gzip_put(&packed, s->p, s->n, 1);
    str_free(s);
    *s = packed;
}

static void decode(const char *key, Item *it, Chunk *c) {
    Err e = {0};
    char what[256];
    if (it->doc.line) {
        it->n_line = it->doc.n;
        it->line = memcpy(xmalloc(it->n_line + 1), it->doc.text, it->n_line + 1);
    }
    it->bad = !doc_text(&it->doc, key, &e);
    c->tally[TALLY_READ] += !it->bad;
    if (!it->bad) return;
    snprintf(what, sizeof what, "line %llu%s", (ull)it->doc.line,
             strstr(e.msg, ": ")); /* it says file:line: what */
    problem(c, it->doc.file, it->offset, what);
    it->doc.text[it->doc.n = 0] = 0;
}

static void chunk_work(const Stage *s, Chunk *c) {
    for (int i = 0; i < c->n; i++) decode(s->key ? s->key : "text", &c->items[i], c);
    s->work(s->ctx, c);
    for (int i = 0; i < STAGE_OUTS && s->gzip; i++)
        if (c->out[i].n) compress_member(&c->out[i]);
}

typedef struct Chunks {
    Chunk *chunk;
    int n, cap;
} Chunks;

static void chunks_read(Reader *r, Chunks *b) {
    for (b->n = 0; b->n < b->cap && chunk_read(r, &b->chunk[b->n]);) b->n++;
}

static void tell(const Chunk *c, uint64_t *told) {
    for (char *line = c->problems.p, *end; line && *line; line = end + 1, ++*told) {
        end = strchr(line, '\n');
        if (*told < MOST_TOLD) note("%.*s", (int)(end - line), line);
    }
}

/* In order. */
static void chunks_write(const Stage *s, Reader *r, Chunks *b, OutFile *const out[STAGE_OUTS],
                         uint64_t *tally) {
    for (int k = 0; k < b->n; k++) {
        Chunk *c = &b->chunk[k];
        if (s->tell) tell(c, &r->told);
        for (int i = 0; i < STAGE_OUTS; i++)
            if (out[i]) file_put(out[i], c->out[i].p, c->out[i].n);
        for (int i = 0; i < STAGE_TALLIES; i++) tally[i] += c->tally[i];
        chunk_free(c);
    }
    b->n = 0;
}

/* One thread reads the next chunks while the others work on these. */
static void pump(const Stage *s, Reader *r, int threads, OutFile *const out[STAGE_OUTS], uint64_t *tally) {
    Chunks turn[2];
    for (int i = 0; i < 2; i++)
        turn[i] = (Chunks){xcalloc((size_t)threads + 1, sizeof(Chunk)), 0, threads + 1};
    chunks_read(r, &turn[0]);
    for (int at = 0; turn[at].n; at ^= 1) {
        Chunks *now = &turn[at];
#pragma omp taskgroup
        {
#pragma omp taskloop grainsize(1) nogroup
            for (uint64_t i = 0; i < (uint64_t)now->n; i++) chunk_work(s, &now->chunk[i]);
            chunks_read(r, &turn[!at]);
        }
        chunks_write(s, r, now, out, tally);
    }
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < turn[i].cap; k++) chunk_free(&turn[i].chunk[k]);
        free(turn[i].chunk);
    }
    if (r->told > MOST_TOLD) note("%s: %llu problems more", r->path, (ull)(r->told - MOST_TOLD));
}

bool stage_file(const Stage *s, const char *path, OutFile *const out[STAGE_OUTS], uint64_t *tally, Err *e) {
    const int threads = s->threads > 0 ? s->threads : omp_get_max_threads();
    Reader r = {.path = path};
    r.source = source_open(path, LONGEST, unreadable, &r, e);
    if (!r.source) return false;
#pragma omp parallel num_threads(threads)
#pragma omp single
    pump(s, &r, threads, out, tally);
    source_close(r.source);
    return true;
}

/* ---- jobs ---------------------------------------------------------------------------------------------- */

char *job_path(const Job *job, const char *name, int file) {
    Str s = {0};
    str_printf(&s, "%s/work/%s", job->out, name);
    if (file >= 0) str_printf(&s, "_%06d", file);
    return s.p;
}

static char *part_path(const Job *job, int out, int file) {
    Str s = {0};
    str_printf(&s, "%s/%s_%06d.jsonl.gz", job->out, job->names[out], file);
    return s.p;
}

bool job_put_file(const char *path, Str *s, Err *e) {
    struct stat st;
    if (stat(path, &st) != 0) return err_set(e, "%s: cannot open: %s", path, strerror(errno));
    str_puts(s, "[");
    json_put_string(s, path, strlen(path));
    str_printf(s, ", %llu, %lld.%09ld]", (ull)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return true;
}

static bool describe(const Job *job, const char *what, Str *s, Err *e) {
    str_printf(s, "{\"job\": %s,\n \"input\": [", what);
    for (int i = 0; i < job->n_files; i++) {
        str_puts(s, i ? ",\n  " : "\n  ");
        if (!job_put_file(job->files[i], s, e)) return false;
    }
    str_puts(s, "]}\n");
    return true;
}

static bool starts_with(const char *s, const char *with) {
    return !strncmp(s, with, strlen(with));
}

/* Removes what a job has written, and nothing else. */
static bool job_clear(const Job *job, Err *e) {
    char **names;
    int n;
    if (!dir_list(job->out, &names, &n, e)) return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        bool ours =
            !strcmp(names[i], "work") || !strcmp(names[i], "report.json") || !strcmp(names[i], "job.json");
        for (int k = 0; k < STAGE_OUTS && job->names[k]; k++)
            ours |= starts_with(names[i], job->names[k]) && names[i][strlen(job->names[k])] == '_' &&
                    strstr(names[i], ".jsonl.gz");
        char *path = path_join(job->out, names[i]);
        if (ours) ok = dir_remove(path, e);
        free(path);
    }
    names_free(names, n);
    return ok;
}

/* What kind of job is in the folder: 0 none, 1 this one, 2 another. */
static bool job_found(const char *path, const Str *now, int *found, Err *e) {
    char *then;
    size_t n;
    *found = 0;
    if (!path_exists(path)) return true;
    if (!file_read(path, SIZE_MAX / 2, &then, &n, e)) return false;
    *found = n == now->n && !memcmp(then, now->p, n) ? 1 : 2;
    free(then);
    return true;
}

/* Makes the folder this job's. */
static bool claim(const Job *job, const char *what, bool overwrite, Err *e) {
    Docs d;
    Str now = {0};
    int found;
    if (!docs_open(&d, job->files, job->n_files, e)) return false;
    docs_close(&d);
    char *path = path_join(job->out, "job.json"), *work = path_join(job->out, "work");
    char *report = path_join(job->out, "report.json");
    bool ok = dir_make(job->out, e) && describe(job, what, &now, e) && job_found(path, &now, &found, e);
    if (ok && found == 2 && !overwrite)
        ok = err_set(e, "%s: holds another job, or its input has changed; give --overwrite or another folder",
                     job->out);
    if (ok && found && overwrite) ok = job_clear(job, e);
    const bool done = ok && path_exists(report);
    if (ok && !done) ok = dir_make(work, e) && file_write(path, now.p, now.n, e);
    if (done) ok = dir_remove(work, e);
    free(path), free(work), free(report);
    str_free(&now);
    return ok;
}

bool job_open(Job *job, const char *what, bool overwrite, Err *e) {
    if (!job->n_files) return err_usage(e, "no input files");
    if (!team_agree(!team_is_root() || claim(job, what, overwrite, e), e)) return false;
    char *report = path_join(job->out, "report.json");
    job->done = path_exists(report);
    if (job->done) note("%s: is complete; --overwrite would do it again", job->out);
    free(report);
    return true;
}

bool *job_deal(const Job *job) {
    uint64_t *size = xcalloc((size_t)job->n_files + 1, sizeof *size);
    for (int i = 0; i < job->n_files; i++) {
        struct stat st;
        if (stat(job->files[i], &st) == 0) size[i] = (uint64_t)st.st_size;
    }
    bool *mine = team_deal(size, job->n_files, team_size(), team_rank());
    free(size);
    return mine;
}

/* A part is there when its counts are, which are written last. */
static bool part_found(const char *path, uint64_t *counts, Err *e) {
    char *data;
    size_t n;
    if (!file_read(path, 1 << 16, &data, &n, e)) return false;
    bool ok = n == (STAGE_TALLIES + 1) * sizeof *counts;
    if (ok) memcpy(counts, data, STAGE_TALLIES * sizeof *counts);
    uint64_t crc;
    if (ok) memcpy(&crc, data + STAGE_TALLIES * sizeof *counts, sizeof crc);
    ok = ok && crc == crc32_of(0, counts, STAGE_TALLIES * sizeof *counts);
    free(data);
    return ok || err_set(e, "%s: is damaged; remove it to do its file again", path);
}

static bool part_run(const Job *job, const Stage *s, int file, const char *mark, Err *e) {
    OutFile f[STAGE_OUTS] = {0}, *out[STAGE_OUTS] = {0};
    uint64_t all[STAGE_TALLIES + 1] = {0};
    bool ok = true;
    for (int i = 0; i < STAGE_OUTS && ok && job->names[i]; i++) {
        char *path = part_path(job, i, file);
        ok = file_create(out[i] = &f[i], path, e);
        free(path);
    }
    Stage telling = *s;
    telling.tell = true;
    ok = ok && stage_file(&telling, job->files[file], out, all, e);
    for (int i = 0; i < STAGE_OUTS && ok && job->names[i]; i++) {
        Str nothing = {0};
        compress_member(&nothing);
        if (!f[i].n) file_put(&f[i], nothing.p, nothing.n); /* a file of no bytes is no gzip file */
        str_free(&nothing);
        ok = file_commit(&f[i], e);
    }
    for (int i = 0; i < STAGE_OUTS; i++) file_abandon(&f[i]);
    all[STAGE_TALLIES] = crc32_of(0, all, STAGE_TALLIES * sizeof *all);
    return ok && file_write(mark, all, sizeof all, e);
}

bool job_run(const Job *job, const Stage *s, void (*begin)(void *ctx, int file), void *ctx, uint64_t *tally,
             Err *e) {
    bool ok = true, *mine = job_deal(job);
    for (int i = 0; i < job->n_files && ok; i++) {
        char *mark = job_path(job, "part", i);
        if (mine[i] && !path_exists(mark)) {
            if (begin) begin(ctx, i);
            ok = part_run(job, s, i, mark, e);
        }
        free(mark);
    }
    free(mine);
    ok = team_agree(ok, e);
    for (int i = 0; i < job->n_files && ok; i++) {
        uint64_t counts[STAGE_TALLIES] = {0};
        char *mark = job_path(job, "part", i);
        ok = part_found(mark, counts, e);
        for (int k = 0; k < STAGE_TALLIES; k++) tally[k] += counts[k];
        free(mark);
    }
    if (ok && !tally[TALLY_READ] && tally[TALLY_PROBLEMS])
        ok = err_set(e, "%s: no document in the input could be read", job->out);
    return team_agree(ok, e);
}

bool job_close(const Job *job, const char *report, Err *e) {
    char *path = path_join(job->out, "report.json"), *work = path_join(job->out, "work");
    bool ok = !team_is_root() || (file_write(path, report, strlen(report), e) && dir_remove(work, e));
    free(path), free(work);
    return team_agree(ok, e);
}
