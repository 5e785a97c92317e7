/* source.c - floor 1: see source.h. WARC is ISO 28500. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BUFFER = 1 << 17, HEADER_LINE = 1 << 16, HEADER_LINES = 1000 };

typedef enum { FILE_NONE, FILE_TEXT, FILE_JSONL, FILE_HTML, FILE_WARC } FileKind;

struct Source {
    const char *path; /* borrowed */
    FileKind kind;
    Text in;
    char *buf;
    size_t lo, hi, max;
    uint64_t offset, line; /* of buf[lo]; the last line read */
    bool eof, broken, done;
    Str header;
    ProblemFn tell;
    void *ctx;
};

static bool ends_in(const char *s, size_t n, const char *end) {
    size_t k = strlen(end);
    return n > k && !strncasecmp(s + n - k, end, k);
}

static FileKind kind_of(const char *path) {
    static const struct {
        const char *end;
        FileKind kind;
    } known[] = {{".txt", FILE_TEXT},   {".jsonl", FILE_JSONL}, {".html", FILE_HTML}, {".htm", FILE_HTML},
                 {".xhtml", FILE_HTML}, {".warc", FILE_WARC},   {".wet", FILE_WARC}};
    size_t n = strlen(path);
    if (ends_in(path, n, ".gz")) n -= 3;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ends_in(path, n, known[i].end)) return known[i].kind;
    return FILE_NONE;
}

bool source_known(const char *path) {
    return kind_of(path) != FILE_NONE;
}

static void problem(Source *s, uint64_t offset, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void problem(Source *s, uint64_t offset, const char *fmt, ...) {
    Problem p = {.offset = offset};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p.what, sizeof p.what, fmt, ap);
    va_end(ap);
    s->tell(s->ctx, s->path, &p);
}

Source *source_open(const char *path, size_t max_document, ProblemFn tell, void *ctx, Err *e) {
    Source *s = xcalloc(1, sizeof *s);
    *s = (Source){.path = path, .kind = kind_of(path), .max = max_document, .tell = tell, .ctx = ctx};
    if (s->kind == FILE_NONE)
        err_set(e, "%s: its name must end in .txt, .jsonl, .html, .warc or .wet (or .gz after that)", path);
    else if (text_open(&s->in, path, e))
        return s->buf = xmalloc(BUFFER), s;
    free(s);
    return NULL;
}

void source_close(Source *s) {
    if (!s) return;
    text_close(&s->in);
    str_free(&s->header);
    free(s->buf);
    free(s);
}

void raw_free(RawDoc *doc) {
    str_free(&doc->data);
    str_free(&doc->url);
}

uint64_t source_offset(const Source *s) {
    return s->offset;
}

/* ---- bytes ----------------------------------------------------------------------------------------------- */

/* More bytes in the buffer, which is empty; false at the end or at bad gzip data. */
static bool fill(Source *s) {
    Err e = {0};
    size_t got = 0;
    if (s->eof) return false;
    if (!text_block(&s->in, s->buf, BUFFER, &got, &e)) {
        const char *why = strstr(e.msg, ": ");
        problem(s, s->offset, "%s", why ? why + 2 : e.msg);
        s->broken = true;
    }
    s->lo = 0;
    s->hi = got;
    s->eof = got == 0;
    return !s->eof;
}

static void take(Source *s, size_t n) {
    s->lo += n;
    s->offset += n;
}

/* A line without its end; false where there is none. What is longer than `most` is passed over: *whole false. */
static bool read_line(Source *s, Str *line, size_t most, bool *whole) {
    line->n = 0;
    *whole = true;
    bool any = false;
    while (s->lo < s->hi || fill(s)) {
        size_t n = s->hi - s->lo;
        char *end = memchr(s->buf + s->lo, '\n', n);
        if (end) n = (size_t)(end - s->buf) - s->lo;
        any = true;
        *whole &= line->n + n <= most;
        if (*whole) str_put(line, s->buf + s->lo, n);
        take(s, n + (end != NULL));
        if (end) break;
    }
    s->line += any;
    return any && !s->broken; /* a line that is cut off by a broken file is none */
}

/* n bytes, or as many as are left; into `out` unless that is NULL. How many. */
static uint64_t read_bytes(Source *s, Str *out, uint64_t n) {
    uint64_t done = 0;
    while (done < n && (s->lo < s->hi || fill(s))) {
        size_t k = s->hi - s->lo;
        if (k > n - done) k = (size_t)(n - done);
        if (out) str_put(out, s->buf + s->lo, k);
        take(s, k);
        done += k;
    }
    return done;
}

/* ---- the kinds ------------------------------------------------------------------------------------------- */

static bool next_file(Source *s, RawDoc *doc) {
    if (s->done) return false;
    s->done = true;
    doc->kind = s->kind == FILE_HTML ? RAW_HTML : RAW_TEXT;
    uint64_t n = read_bytes(s, &doc->data, s->max + 1);
    if (s->broken) return false;
    if (n > s->max) {
        n += read_bytes(s, NULL, UINT64_MAX);
        problem(s, 0, "one document of %llu bytes; the longest that is read has %zu", (unsigned long long)n,
                s->max);
        return false;
    }
    return n > 0;
}

static bool next_json(Source *s, RawDoc *doc) {
    bool whole;
    do {
        doc->offset = s->offset;
        if (!read_line(s, &doc->data, s->max, &whole)) return false;
        if (!whole)
            problem(s, doc->offset, "line %llu has %llu bytes; the longest that is read has %zu",
                    (unsigned long long)s->line, (unsigned long long)(s->offset - doc->offset), s->max);
    } while (!whole || doc->data.n == strspn(doc->data.p, " \t\r"));
    doc->kind = RAW_JSON;
    doc->line = s->line;
    return true;
}

/* What a record's header says. */
typedef struct Record {
    uint64_t length;
    bool sized, conversion, response, html, text;
    bool coded; /* an answer's body is compressed, or sent in chunks */
} Record;

static const char *value_of(const char *line, const char *name) {
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) || line[n] != ':') return NULL;
    line += n + 1;
    return line + strspn(line, " \t");
}

static void header_line(Record *r, const char *line, Str *url) {
    const char *v;
    if ((v = value_of(line, "Content-Length")) != NULL) {
        char *end;
        r->length = strtoull(v, &end, 10);
        r->sized = *v >= '0' && *v <= '9' && end[strspn(end, " \r")] == 0 && r->length < UINT64_MAX / 2;
    } else if ((v = value_of(line, "WARC-Type")) != NULL) {
        r->conversion = !strncasecmp(v, "conversion", 10);
        r->response = !strncasecmp(v, "response", 8);
    } else if ((v = value_of(line, "Content-Type")) != NULL) {
        r->text = !strncasecmp(v, "text/plain", 10);
        r->html = !strncasecmp(v, "text/html", 9) || !strncasecmp(v, "application/xhtml", 17);
    } else if ((v = value_of(line, "Content-Encoding")) != NULL ||
               (v = value_of(line, "Transfer-Encoding")) != NULL) {
        r->coded |= *v && *v != '\r' && strncasecmp(v, "identity", 8) != 0;
    } else if ((v = value_of(line, "WARC-Target-URI")) != NULL) {
        url->n = 0;
        str_put(url, v, strcspn(v, "\r"));
    }
}

/* The lines up to an empty one; false where the file ends or they never do. */
static bool read_header(Source *s, Record *r, Str *url) {
    bool whole;
    for (int i = 0; i < HEADER_LINES && read_line(s, &s->header, HEADER_LINE, &whole); i++) {
        if (!s->header.n || !strcmp(s->header.p, "\r")) return true;
        if (whole) header_line(r, s->header.p, url);
    }
    return false;
}

/* Goes on to a line that begins a record; tells when other lines had to be passed over. */
static bool find_record(Source *s, uint64_t *offset) {
    bool told = false, whole;
    for (;;) {
        *offset = s->offset;
        if (!read_line(s, &s->header, HEADER_LINE, &whole)) return false;
        if (!strncmp(s->header.p ? s->header.p : "", "WARC/", 5)) return true;
        if (!s->header.n || !strcmp(s->header.p, "\r") || told) continue;
        problem(s, *offset, "no WARC record begins here; looking for the next one");
        told = true;
    }
}

/* An HTTP answer becomes its body; false unless that is HTML or text, as it is. */
static bool http_body(Source *s, RawDoc *doc) {
    Record r = {0};
    Str none = {0};
    char *p = doc->data.p, *end = p + doc->data.n;
    while (p < end) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) return false;
        *stop = 0;
        if (!*p || !strcmp(p, "\r")) break;
        header_line(&r, p, &none);
        p = stop + 1;
    }
    while (p < end && (*p == 0 || *p == '\r')) p++;
    str_free(&none);
    doc->kind = r.html ? RAW_HTML : RAW_TEXT;
    memmove(doc->data.p, p, doc->data.n = (size_t)(end - p));
    if (!r.html && !r.text) return false;
    if (r.coded) problem(s, doc->offset, "an answer that is compressed or in chunks, which is not read here");
    return !r.coded;
}

/* One record; *found where it is a document. */
static bool read_record(Source *s, RawDoc *doc, bool *found) {
    Record r = {0};
    doc->url.n = doc->data.n = 0;
    *found = false;
    if (!find_record(s, &doc->offset)) return false;
    if (!read_header(s, &r, &doc->url)) {
        if (!s->broken) problem(s, doc->offset, "a WARC header that does not end");
        return false;
    }
    if (!r.sized) {
        problem(s, doc->offset, "a WARC record without a Content-Length");
        return true;
    }
    bool wanted = r.conversion || r.response, fits = r.length <= s->max;
    uint64_t got = read_bytes(s, wanted && fits ? &doc->data : NULL, r.length);
    if (got < r.length) {
        if (!s->broken)
            problem(s, doc->offset, "a WARC record of %llu bytes, of which the file has %llu",
                    (unsigned long long)r.length, (unsigned long long)got);
        return false;
    }
    if (wanted && !fits)
        problem(s, doc->offset, "a WARC record of %llu bytes; the longest that is read has %zu",
                (unsigned long long)r.length, s->max);
    doc->kind = RAW_TEXT;
    *found = wanted && fits && r.length && (r.conversion || http_body(s, doc));
    return true;
}

static bool next_record(Source *s, RawDoc *doc) {
    for (bool found;;) {
        if (!read_record(s, doc, &found)) return false;
        if (found) return true;
    }
}

bool source_next(Source *s, RawDoc *doc) {
    doc->data.n = doc->url.n = 0;
    doc->offset = s->offset;
    doc->line = 0;
    if (s->kind == FILE_JSONL) return next_json(s, doc);
    return s->kind == FILE_WARC ? next_record(s, doc) : next_file(s, doc);
}
