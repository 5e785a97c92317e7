/* docs.c - floor 1: see docs.h. */
#include "docs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 18, DEEPEST = 64 };

/* ---- files ----------------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, size_t n, const char *end) {
    size_t k = strlen(end);
    return n > k && !memcmp(s + n - k, end, k);
}

static bool is_jsonl(const char *path) {
    size_t n = strlen(path);
    return ends_with(path, n, ".jsonl") || ends_with(path, n, ".jsonl.gz");
}

bool doc_is_text(const char *path) {
    size_t n = strlen(path);
    return ends_with(path, n, ".txt") || ends_with(path, n, ".txt.gz");
}

bool docs_known(const char *path) {
    return doc_is_text(path) || is_jsonl(path);
}

bool docs_open(Docs *d, const char *const *files, int n_files, Err *e) {
    *d = (Docs){.files = files, .n_files = n_files};
    for (int i = 0; i < n_files; i++) {
        Text t;
        if (!docs_known(files[i]))
            return err_set(e,
                           "%s: its name must end in .txt or .jsonl (or .gz after that), to say what it is",
                           files[i]);
        if (!text_open(&t, files[i], e)) return false;
        text_close(&t);
    }
    d->block = xmalloc(PIECE);
    return true;
}

void docs_close(Docs *d) {
    if (d->open) text_close(&d->in);
    str_free(&d->rest);
    free(d->block);
    *d = (Docs){0};
}

/* Might the last character of s be white space? Says yes to a few others that share its first bytes. */
static bool ends_in_space(const unsigned char *s, size_t n) {
    if (s[n - 1] < 0x80) return s[n - 1] <= ' ';
    if (n >= 2 && s[n - 2] == 0xc2) return true;                                 /* U+0085, U+00A0 */
    if (n >= 3 && s[n - 3] == 0xe1) return s[n - 2] == 0x9a;                     /* U+1680 */
    if (n >= 3 && s[n - 3] == 0xe2) return s[n - 2] == 0x80 || s[n - 2] == 0x81; /* U+2000 - U+205F */
    return n >= 3 && s[n - 3] == 0xe3 && s[n - 2] == 0x80 && s[n - 1] == 0x80;   /* U+3000 */
}

/* The last place in [lo, n) where the text may be cut, 0 if there is none. */
static size_t last_cut(const char *s, size_t lo, size_t n) {
    for (size_t i = n; i-- > lo && i > 0;)
        if (s[i] == '\n' && !ends_in_space((const unsigned char *)s, i)) return i;
    return 0;
}

static bool next_piece(Docs *d, Doc *doc, Err *e) {
    Str *r = &d->rest;
    size_t cut = 0, seen = 0;
    while (!cut && !d->eof) {
        size_t got;
        if (!text_block(&d->in, d->block, PIECE, &got, e)) return false;
        str_put(r, d->block, got);
        d->eof = got == 0;
        if (!d->whole) cut = last_cut(r->p, seen, r->n);
        seen = r->n;
    }
    if (!cut) cut = r->n;
    if (!cut && d->first) return err_set(e, "%s: is empty", d->files[d->at]);
    if (!cut) return true;
    *doc = (Doc){.text = xmalloc(cut + 1), .n = cut, .file = d->files[d->at], .first = d->first, .nats = NAN};
    memcpy(doc->text, r->p, cut);
    doc->text[cut] = 0;
    memmove(r->p, r->p + cut, r->n -= cut);
    d->first = false;
    return true;
}

static bool next_line(Docs *d, Doc *doc, Err *e) {
    char *line;
    size_t n;
    do {
        if (!text_line(&d->in, &line, &n, e)) return false;
    } while (line && n == strspn(line, " \t\r"));
    if (!line) return true;
    *doc = (Doc){.text = xmalloc(n + 1), .n = n, .file = d->files[d->at], .line = d->in.line, .first = true};
    memcpy(doc->text, line, n + 1);
    doc->nats = NAN;
    return true;
}

bool docs_next(Docs *d, Doc *doc, Err *e) {
    for (*doc = (Doc){0}; d->at < d->n_files;) {
        if (!d->open && !text_open(&d->in, d->files[d->at], e)) return false;
        if (!d->open) d->open = d->first = true, d->eof = false;
        if (!(is_jsonl(d->files[d->at]) ? next_line : next_piece)(d, doc, e)) return false;
        if (doc->text) return true;
        text_close(&d->in);
        d->open = false;
        d->at++;
    }
    return true;
}

bool docs_batch(Docs *d, Doc *doc, int max, size_t want, int *n, Err *e) {
    size_t bytes = 0;
    for (*n = 0; *n < max && bytes < want; ++*n) {
        if (!docs_next(d, &doc[*n], e)) return false;
        if (!doc[*n].text) return true;
        bytes += doc[*n].n;
    }
    return true;
}

/* ---- a line of JSON --------------------------------------------------------------------------------------
 * cJSON is for small files of ours. Its strings end at \u0000, it refuses half a surrogate pair, its error state
 * is shared by all threads, and it builds a tree; here a line is read once, and its text decoded in place. */

typedef struct Json {
    char *p, *end; /* what is left to read; *end is NUL, so no character but NUL matches there */
} Json;

static void json_space(Json *j) {
    while (*j->p == ' ' || *j->p == '\t' || *j->p == '\r') j->p++;
}

static bool json_char(Json *j, char c) {
    json_space(j);
    return *j->p == c && j->p++;
}

static bool json_word(Json *j, const char *word) {
    size_t n = strlen(word);
    if (strncmp(j->p, word, n)) return false;
    j->p += n;
    return true;
}

/* Four hex digits, or -1. */
static int32_t json_hex(const char *p) {
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i] | 0x20;
        if (c >= '0' && c <= '9' && p[i] == c)
            v = v << 4 | (c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (c - 'a' + 10);
        else
            return -1;
    }
    return v;
}

static char *put_utf8(char *dst, uint32_t c) {
    if (c < 0x80) return *dst++ = (char)c, dst;
    if (c < 0x800) {
        *dst++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000)
            *dst++ = (char)(0xe0 | c >> 12);
        else
            *dst++ = (char)(0xf0 | c >> 18), *dst++ = (char)(0x80 | (c >> 12 & 0x3f));
        *dst++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *dst++ = (char)(0x80 | (c & 0x3f));
    return dst;
}

/* What follows a backslash; j->p stands after it. What is written is never longer than what was read. */
static char *json_escape(Json *j, char *dst) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *simple = *j->p ? strchr(from, *j->p) : NULL;
    if (simple) return j->p++, *dst++ = to[simple - from], dst;
    int32_t c = *j->p == 'u' ? json_hex(j->p + 1) : -1;
    if (c < 0) return NULL;
    j->p += 5;
    if (c < 0xd800 || c > 0xdfff) return put_utf8(dst, (uint32_t)c);
    int32_t low = c < 0xdc00 && j->p[0] == '\\' && j->p[1] == 'u' ? json_hex(j->p + 2) : -1;
    if (low < 0xdc00 || low > 0xdfff) return put_utf8(dst, 0xfffd);
    j->p += 6;
    return put_utf8(dst, 0x10000 + ((uint32_t)(c - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
}

/* A string, decoded in place: *text is where it starts, [*n] its bytes. */
static bool json_string(Json *j, char **text, size_t *n) {
    if (!json_char(j, '"')) return false;
    char *dst = *text = j->p;
    while (*j->p != '"') {
        if ((unsigned char)*j->p < ' ') return false; /* the end, too */
        if (*j->p != '\\')
            *dst++ = *j->p++;
        else if (j->p++, !(dst = json_escape(j, dst)))
            return false;
    }
    j->p++;
    *n = (size_t)(dst - *text);
    return true;
}

static bool json_digits(Json *j) {
    char *start = j->p;
    while (*j->p >= '0' && *j->p <= '9') j->p++;
    return j->p > start;
}

static bool json_number(Json *j, double *value) {
    char *start = j->p;
    j->p += *j->p == '-';
    bool zero = *j->p == '0';
    char *digits = j->p;
    if (!json_digits(j) || (zero && j->p > digits + 1)) return false;
    if (*j->p == '.' && (j->p++, !json_digits(j))) return false;
    if (*j->p == 'e' || *j->p == 'E') {
        j->p++;
        j->p += *j->p == '-' || *j->p == '+';
        if (!json_digits(j)) return false;
    }
    *value = strtod(start, NULL);
    return true;
}

static bool json_skip(Json *j, int depth);

static bool json_skip_list(Json *j, int depth, bool object) {
    char close = object ? '}' : ']', *text;
    size_t n;
    if (json_char(j, close)) return true;
    do {
        if (object && (!json_string(j, &text, &n) || !json_char(j, ':'))) return false;
        if (!json_skip(j, depth + 1)) return false;
    } while (json_char(j, ','));
    return json_char(j, close);
}

/* Any value, passed over. */
static bool json_skip(Json *j, int depth) {
    char *text;
    size_t n;
    double value;
    if (depth > DEEPEST) return false;
    if (json_char(j, '{')) return json_skip_list(j, depth, true);
    if (json_char(j, '[')) return json_skip_list(j, depth, false);
    if (*j->p == '"') return json_string(j, &text, &n);
    return json_word(j, "true") || json_word(j, "false") || json_word(j, "null") || json_number(j, &value);
}

/* The members of an object: the text under `key` and the number under "nats". False: not JSON. */
static bool json_members(Json *j, const char *key, Doc *doc, char **text, size_t *n_text, bool *found) {
    if (!json_char(j, '{')) return false;
    if (json_char(j, '}')) return true;
    do {
        char *name, *value = NULL;
        size_t n, n_value = 0;
        if (!json_string(j, &name, &n) || !json_char(j, ':')) return false;
        bool is_text = n == strlen(key) && !memcmp(name, key, n);
        bool is_nats = n == 4 && !memcmp(name, "nats", 4);
        json_space(j);
        if (is_text && *j->p == '"') {
            doc->lo = (size_t)(j->p - doc->text);
            if (!json_string(j, &value, &n_value)) return false;
            doc->hi = (size_t)(j->p - doc->text);
        } else if (is_nats && (*j->p == '-' || (*j->p >= '0' && *j->p <= '9'))) {
            if (!json_number(j, &doc->nats)) return false;
        } else if (!json_skip(j, 1)) {
            return false;
        }
        if (is_text) *found = true, *text = value, *n_text = n_value;
    } while (json_char(j, ','));
    return json_char(j, '}');
}

bool doc_text(Doc *doc, const char *key, Err *e) {
    if (!doc->line) return true;
    Json j = {doc->text, doc->text + doc->n};
    if (doc->line == 1) json_word(&j, "\xef\xbb\xbf");
    char *text = NULL;
    size_t n = 0;
    bool found = false;
    bool ok = json_members(&j, key, doc, &text, &n, &found);
    json_space(&j);
    if (!ok || j.p != j.end)
        return err_set(e, "%s:%llu: not a JSON object (stopped at byte %zu of the line)", doc->file,
                       (unsigned long long)doc->line, (size_t)(j.p - doc->text) + 1);
    if (!text)
        return err_set(e, "%s:%llu: %s \"%s\"; %s names the field that holds the text", doc->file,
                       (unsigned long long)doc->line, found ? "no text in" : "has no", key,
                       doc->named_by ? doc->named_by : "--key");
    memmove(doc->text, text, n);
    doc->text[doc->n = n] = 0;
    return true;
}

/* ---- a look inside --------------------------------------------------------------------------------------- */

/* A document whose line stood as `line` says before its text was taken out. */
static void show_document(const Doc *doc, uint64_t number, const Str *line, Str *out) {
    enum { SHOWN = 1000 };
    size_t n = doc->n > SHOWN ? utf8_whole(doc->text, SHOWN) : doc->n;
    str_printf(out, "--- document %llu, %zu bytes\n", (unsigned long long)number, doc->n);
    str_put(out, doc->text, n);
    str_puts(out, doc->n > n ? " [...]\n" : "\n");
    if (!doc->line) return;
    str_put(out, line->p, doc->lo);
    str_puts(out, "...");
    str_put(out, line->p + doc->hi, line->n - doc->hi);
    str_puts(out, "\n");
}

bool docs_inspect(const char *path, const char *key, bool verify, int documents, Str *out, Err *e) {
    Docs d;
    Str line = {0};
    uint64_t n = 0, bytes = 0;
    bool ok = docs_open(&d, &path, 1, e), more = ok;
    d.whole = true;
    while (more && (verify || n < (uint64_t)documents)) {
        Doc doc;
        ok = docs_next(&d, &doc, e);
        more = ok && doc.text;
        line.n = 0;
        if (more) str_put(&line, doc.text, doc.n);
        if (more && (ok = more = doc_text(&doc, key, e))) {
            bytes += doc.n;
            if (++n <= (uint64_t)documents) show_document(&doc, n, &line, out);
        }
        free(doc.text);
    }
    if (ok && verify)
        str_printf(out, "%s: %llu documents, %llu bytes of text\n", path, (unsigned long long)n,
                   (unsigned long long)bytes);
    str_free(&line);
    docs_close(&d);
    return ok;
}

void doc_put_json(Str *json, const char *text, size_t n) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    str_put(json, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        size_t start = i;
        while (i < n && (unsigned char)text[i] >= ' ' && text[i] != '"' && text[i] != '\\') i++;
        str_put(json, text + start, i - start);
        if (i == n) break;
        const char *simple = text[i] ? strchr(from, text[i]) : NULL;
        if (simple)
            str_put(json, (char[]){'\\', to[simple - from]}, 2);
        else
            str_printf(json, "\\u%04x", (unsigned char)text[i]);
    }
    str_put(json, "\"", 1);
}
