/* anonymise.c - floor 3: see anonymise.h. */
#include "anonymise.h"
#include "stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

enum { DOCUMENTS, CHANGED, BYTES, COUNTS = 8 };
_Static_assert((int)COUNTS + (int)PII_KINDS <= (int)TALLY_READ, "a tally for every kind");

/* ---- files of documents -------------------------------------------------------------------------------- */

static void scrub_chunk(const void *ctx, Chunk *c) {
    Str text = {0};
    PiiCounts counts = {{0}};
    for (int i = 0; i < c->n; i++) {
        const Item *it = &c->items[i];
        if (it->bad) continue;
        text.n = 0;
        pii_scrub(ctx, it->doc.text, it->doc.n, &text, &counts);
        bool same = text.n == it->doc.n && !memcmp(text.p, it->doc.text, text.n);
        item_put(&c->out[0], it, same ? NULL : text.p, text.n, NULL);
        c->tally[DOCUMENTS]++, c->tally[CHANGED] += !same, c->tally[BYTES] += it->doc.n;
    }
    for (int k = 0; k < PII_KINDS; k++) c->tally[COUNTS + k] += counts.n[k];
    str_free(&text);
}

static void put_kinds(unsigned kinds, Str *s) {
    const char *between = "";
    str_puts(s, "[");
    for (int k = 0; k < PII_KINDS; k++)
        if (kinds >> k & 1) str_printf(s, "%s\"%s\"", between, pii_name((PiiKind)k)), between = ", ";
    str_puts(s, "]");
}

static void put_options(const AnonymiseJob *j, const Pii *p, Str *s) {
    const char *key = j->key ? j->key : "text";
    str_puts(s, "{\"command\": \"anonymise\", \"kinds\": ");
    put_kinds(j->pii.kinds ? j->pii.kinds : PII_DEFAULT, s);
    str_printf(s,
               ", \"surrogates\": %s, \"secret\": \"%016llx\", \"key\": ", j->pii.secret ? "true" : "false",
               (ull)pii_fingerprint(p));
    json_put_string(s, key, strlen(key));
    str_puts(s, "}");
}

static void report(const char *options, const uint64_t *tally, Str *s) {
    str_printf(s,
               "{\n \"options\": %s,\n \"documents\": %llu,\n \"changed\": %llu,\n \"bytes\": %llu,\n "
               "\"problems\": %llu,\n"
               " \"found\": {",
               options, (ull)tally[DOCUMENTS], (ull)tally[CHANGED], (ull)tally[BYTES],
               (ull)tally[TALLY_PROBLEMS]);
    for (int k = 0; k < PII_KINDS; k++)
        str_printf(s, "%s\"%s\": %llu", k ? ", " : "", pii_name((PiiKind)k), (ull)tally[COUNTS + k]);
    str_puts(s, "}\n}\n");
}

static bool work(const AnonymiseJob *job, const Job *stage, const Pii *p, const char *options,
                 PiiCounts *counts, Err *e) {
    uint64_t tally[STAGE_TALLIES] = {0};
    Str text = {0};
    Stage s = {.key = job->key, .threads = job->threads, .gzip = true, .work = scrub_chunk, .ctx = p};
    if (!job_run(stage, &s, NULL, NULL, tally, e)) return false;
    report(options, tally, &text);
    for (int k = 0; k < PII_KINDS; k++) counts->n[k] = tally[COUNTS + k];
    bool ok = job_close(stage, text.p, e);
    str_free(&text);
    return ok;
}

bool anonymise_run(const AnonymiseJob *job, PiiCounts *counts, Err *e) {
    Job stage = {.out = job->out, .files = job->files, .n_files = job->n_files, .names = {"clean"}};
    Pii *p = pii_open(&job->pii, e);
    if (!p) return false;
    Str options = {0};
    put_options(job, p, &options);
    *counts = (PiiCounts){{0}};
    bool ok = job_open(&stage, options.p, job->overwrite, e) &&
              (stage.done || work(job, &stage, p, options.p, counts, e));
    str_free(&options);
    pii_close(p);
    return ok;
}

/* ---- a stream ------------------------------------------------------------------------------------------ */

static bool put_all(int fd, const char *p, size_t n, Err *e) {
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return err_set(e, "cannot write to the output: %s", strerror(errno));
        p += k, n -= (size_t)k;
    }
    return true;
}

/* Scrubs and writes text[n], which is gone then. */
static bool pass_on(const Pii *p, int fd, const char *text, size_t n, Str *clean, PiiCounts *counts, Err *e) {
    clean->n = 0;
    pii_scrub(p, text, n, clean, counts);
    return put_all(fd, clean->p, clean->n, e);
}

/* Nothing that is looked for holds a line break, and none looks past one: whole lines can be done by
 * themselves. */
bool anonymise_stream(int in, int out, const PiiOptions *o, PiiCounts *counts, Err *e) {
    enum { BLOCK = 1 << 18 };
    Str rest = {0}, clean = {0};
    char *block = xmalloc(BLOCK);
    Pii *p = pii_open(o, e);
    bool ok = p != NULL;
    for (ssize_t got = 1; ok && got;) {
        got = read(in, block, BLOCK);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) ok = err_set(e, "stdin: cannot read: %s", strerror(errno));
        if (got <= 0) break;
        const char *end = memrchr(block, '\n', (size_t)got);
        size_t lines = end ? (size_t)(end + 1 - block) : 0;
        str_put(&rest, block, end ? lines : (size_t)got);
        if (!end) continue;
        ok = pass_on(p, out, rest.p, rest.n, &clean, counts, e);
        rest.n = 0;
        str_put(&rest, block + lines, (size_t)got - lines);
    }
    ok = ok && pass_on(p, out, rest.p, rest.n, &clean, counts, e);
    pii_close(p);
    str_free(&rest), str_free(&clean);
    free(block);
    return ok;
}

/* ---- names --------------------------------------------------------------------------------------------- */

static int kind_named(const char *name, size_t n) {
    for (int k = 0; k < PII_KINDS; k++)
        if (strlen(pii_name((PiiKind)k)) == n && !memcmp(pii_name((PiiKind)k), name, n)) return k;
    return -1;
}

bool anonymise_kinds(const char *list, unsigned *out, Err *e) {
    *out = 0;
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        int k = kind_named(p, n);
        if (n == 3 && !memcmp(p, "all", n))
            *out |= PII_ALL;
        else if (n == 7 && !memcmp(p, "default", n))
            *out |= PII_DEFAULT;
        else if (k >= 0)
            *out |= 1u << k;
        else {
            Str all = {0};
            put_kinds(PII_ALL, &all);
            err_usage(e, "no kind \"%.*s\": they are \"default\", \"all\", %s", (int)n, p, all.p);
            str_free(&all);
            return false;
        }
        p += n + (p[n] == ',');
    }
    return *out || err_usage(e, "an empty list of kinds");
}
