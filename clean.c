/* clean.c - floor 3: see clean.h. */
#include "clean.h"
#include "docs.h"

#include <stdlib.h>
#include <string.h>

struct Cleaner {
    const CleanConfig *config;
    Measurer *measurer;
    Str html, text, spare, low;
};

Cleaner *cleaner_new(const CleanConfig *config) {
    Cleaner *c = xcalloc(1, sizeof *c);
    c->config = config;
    c->measurer = measurer_new();
    return c;
}

void cleaner_free(Cleaner *c) {
    if (!c) return;
    measurer_free(c->measurer);
    str_free(&c->html);
    str_free(&c->text);
    str_free(&c->spare);
    str_free(&c->low);
    free(c);
}

bool clean_extract(Cleaner *c, RawDoc *raw, const char **text, size_t *n, NormaliseCounts *counts, Err *e) {
    Doc doc = {.text = raw->data.p, .n = raw->data.n, .file = "", .line = raw->line};
    Err bad = {0};
    if (raw->kind == RAW_JSON && !doc_text(&doc, c->config->key, &bad)) /* it says file:line: what */
        return err_set(e, "line %llu: %s", (unsigned long long)raw->line, strstr(bad.msg, ": ") + 2);
    if (raw->kind == RAW_HTML) {
        c->html.n = 0;
        if (!html_text(&c->config->html, doc.text, doc.n, &c->html, e)) return false;
        doc.text = c->html.p, doc.n = c->html.n;
    }
    normalise(&c->config->normalise, doc.text, doc.n, &c->text, &c->spare, counts);
    *text = c->text.p ? c->text.p : "";
    *n = c->text.n;
    return true;
}

/* ASCII capitals become small; the rest stays. */
static const char *lower(Cleaner *c, const char *text, size_t n) {
    c->low.n = 0;
    str_put(&c->low, text, n);
    for (size_t i = 0; i < n; i++) {
        char b = c->low.p[i];
        c->low.p[i] = (char)(b + (b >= 'A' && b <= 'Z' ? 32 : 0));
    }
    return c->low.p;
}

size_t clean_judge(Cleaner *c, char *text, size_t n, Judgement *v) {
    memset(v, 0, sizeof *v);
    if (c->config->lines.on) n = lines_clean(&c->config->lines, text, n, lower(c, text, n), v->dropped);
    measure(c->measurer, text, n, v->value);
    v->broken = rules_broken(c->config->limit, v->value);
    return n;
}
