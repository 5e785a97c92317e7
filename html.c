/* html.c - floor 2: see html.h. The page streams through libxml2's callbacks: no tree is built, and nothing here is
 * recursive, so a page may be as deep as it likes. */
#include "html.h"
#include "normalise.h"
#include "words.h"

#include <errno.h>
#include <iconv.h>
#include <libxml/HTMLparser.h>
#include <libxml/parserInternals.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* What an element does to the text. */
enum { INLINE, BLOCK, PARAGRAPH, SKIP, ITEM, CELL, BREAK, LINK, PRE };

static int role_of(const char *name) {
    static const struct {
        char name[12];
        int role;
    } known[] = {
        {"a", LINK},         {"address", BLOCK},    {"article", BLOCK},
        {"aside", SKIP},     {"audio", SKIP},       {"blockquote", PARAGRAPH},
        {"body", BLOCK},     {"br", BREAK},         {"button", SKIP},
        {"canvas", SKIP},    {"caption", BLOCK},    {"center", BLOCK},
        {"dd", BLOCK},       {"details", BLOCK},    {"dir", PARAGRAPH},
        {"div", BLOCK},      {"dl", PARAGRAPH},     {"dt", BLOCK},
        {"fieldset", BLOCK}, {"figcaption", BLOCK}, {"figure", BLOCK},
        {"footer", SKIP},    {"form", BLOCK},       {"h1", PARAGRAPH},
        {"h2", PARAGRAPH},   {"h3", PARAGRAPH},     {"h4", PARAGRAPH},
        {"h5", PARAGRAPH},   {"h6", PARAGRAPH},     {"head", SKIP},
        {"header", BLOCK},   {"hr", PARAGRAPH},     {"iframe", SKIP},
        {"legend", BLOCK},   {"li", ITEM},          {"main", BLOCK},
        {"map", SKIP},       {"menu", PARAGRAPH},   {"nav", SKIP},
        {"noframes", SKIP},  {"noscript", SKIP},    {"object", SKIP},
        {"ol", PARAGRAPH},   {"option", SKIP},      {"p", PARAGRAPH},
        {"pre", PRE},        {"script", SKIP},      {"section", BLOCK},
        {"select", SKIP},    {"style", SKIP},       {"summary", BLOCK},
        {"svg", SKIP},       {"table", PARAGRAPH},  {"tbody", BLOCK},
        {"td", CELL},        {"template", SKIP},    {"textarea", SKIP},
        {"tfoot", BLOCK},    {"th", CELL},          {"thead", BLOCK},
        {"tr", BLOCK},       {"ul", PARAGRAPH},     {"video", SKIP},
    };
    size_t lo = 0, hi = sizeof known / sizeof *known;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        int c = strcmp(known[middle].name, name);
        if (!c) return known[middle].role;
        if (c < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    return INLINE;
}

/* ---- from events to blocks ------------------------------------------------------------------------------- */

enum { DEEPEST = 4096 }; /* libxml2 searches its stack of open elements at each wrong end tag */

typedef struct Page {
    const HtmlOptions *options;
    xmlParserCtxtPtr parser;
    Str *out;
    Str block;             /* the text of the block so far */
    size_t chars, linked;  /* its characters but white space; those in links */
    int depth, links, pre; /* open elements, links and <pre> among them */
    int skip;              /* depth at which what is passed over began; 0: nothing is */
    bool space;            /* white space was read and not written yet */
    bool item;             /* the block is a list item */
    bool gap;              /* an empty line goes before the next block */
    bool too_deep;
} Page;

/* The block is complete: it goes out, unless there is nothing in it but links. */
static void end_block(Page *p) {
    bool links = (double)p->linked > p->options->max_links * (double)p->chars;
    if (p->chars && !links) {
        if (p->out->n) str_put(p->out, "\n\n", p->gap ? 2 : 1);
        if (p->item) str_puts(p->out, "- ");
        str_put(p->out, p->block.p, p->block.n);
        p->gap = false;
    }
    if (p->chars) p->item = false;
    p->block.n = p->chars = p->linked = 0;
    p->space = false;
}

/* Text without white space in a row: one space stands for all of it. */
static void put_words(Page *p, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t start = i;
        while (i < n && (unsigned char)s[i] > ' ') i++;
        if (i > start) {
            if (p->space && p->block.n && p->block.p[p->block.n - 1] != '\t') str_put(&p->block, " ", 1);
            str_put(&p->block, s + start, i - start);
            p->chars += i - start;
            if (p->links) p->linked += i - start;
            p->space = false;
        }
        if (i < n) p->space = true, i++;
    }
}

static void on_text(void *ctx, const xmlChar *text, int n) {
    Page *p = ctx;
    const char *s = (const char *)text;
    if (p->skip || n <= 0) return;
    if (!p->pre) {
        put_words(p, s, (size_t)n);
        return;
    }
    str_put(&p->block, s, (size_t)n);
    for (int i = 0; i < n; i++) p->chars += (unsigned char)s[i] > ' ';
}

/* Is it not meant to be read, or not part of what the page is about? */
static bool is_hidden(const xmlChar **attrs) {
    static const char *const roles[] = {"navigation", "banner", "contentinfo", "search", "menu", "toolbar"};
    for (; attrs && attrs[0]; attrs += 2) {
        const char *name = (const char *)attrs[0], *value = attrs[1] ? (const char *)attrs[1] : "";
        if (!strcmp(name, "hidden") || (!strcmp(name, "aria-hidden") && !strcmp(value, "true"))) return true;
        if (!strcmp(name, "style") && (strstr(value, "display:none") || strstr(value, "display: none")))
            return true;
        for (size_t i = 0; !strcmp(name, "role") && i < sizeof roles / sizeof *roles; i++)
            if (!strcmp(value, roles[i])) return true;
    }
    return false;
}

static void start_role(Page *p, int role) {
    switch (role) {
    case LINK: p->links++; break;
    case CELL:
        if (p->block.n) str_put(&p->block, "\t", 1);
        p->space = false;
        break;
    case PRE: p->pre++; /* fall through */
    case PARAGRAPH: end_block(p), p->gap = true; break;
    case ITEM: end_block(p), p->item = true; break;
    case BLOCK:
    case BREAK: end_block(p); break;
    default: break;
    }
}

static void on_start(void *ctx, const xmlChar *name, const xmlChar **attrs) {
    Page *p = ctx;
    int role = role_of((const char *)name);
    if (++p->depth > DEEPEST) {
        p->too_deep = true;
        xmlStopParser(p->parser);
    }
    if (p->skip) return;
    if (role != SKIP && role != BREAK && attrs && is_hidden(attrs)) role = SKIP;
    if (role == SKIP)
        p->skip = p->depth;
    else
        start_role(p, role);
}

static void on_end(void *ctx, const xmlChar *name) {
    Page *p = ctx;
    int role = role_of((const char *)name), depth = p->depth--;
    if (p->skip) {
        if (depth <= p->skip) p->skip = 0;
        return;
    }
    if (role == LINK && p->links) p->links--;
    if (role == PRE && p->pre) p->pre--;
    if (role == PARAGRAPH || role == PRE) end_block(p), p->gap = true;
    if (role == BLOCK || role == ITEM) end_block(p);
}

/* ---- encodings ------------------------------------------------------------------------------------------- */

/* The encoding that the page names near its start, into `name`. */
static bool named_encoding(const char *html, size_t n, char *name, size_t size) {
    enum { NEAR = 4096 };
    Str head = {0};
    str_put(&head, html, n < NEAR ? n : NEAR);
    for (size_t i = 0; i < head.n; i++) head.p[i] = (char)(head.p[i] ? head.p[i] : ' ');
    const char *at = strcasestr(head.p, "charset");
    size_t len = 0;
    if (at) {
        at += strlen("charset");
        at += strspn(at, " =\"'");
        len = strcspn(at, " \"'/>;\r\n");
        if (len >= size) len = 0;
        memcpy(name, at, len);
    }
    name[len] = 0;
    str_free(&head);
    return len > 0;
}

/* All of it through iconv; bytes that mean nothing become U+FFFD. */
static bool convert(const char *encoding, const char *html, size_t n, Str *out) {
    iconv_t cd = iconv_open("UTF-8", encoding);
    char *in = (char *)(uintptr_t)html, buf[4096];
    if (cd == (iconv_t)-1) return false;
    while (n) {
        char *dst = buf;
        size_t left = sizeof buf;
        size_t k = iconv(cd, &in, &n, &dst, &left);
        str_put(out, buf, sizeof buf - left);
        if (k == (size_t)-1 && errno != E2BIG) {
            str_puts(out, "\xef\xbf\xbd");
            in++, n--;
        }
    }
    iconv_close(cd);
    return true;
}

/* The page as UTF-8 without NUL, in `out`. */
static void decode(const char *html, size_t n, Str *out) {
    char name[64];
    NormaliseCounts counts = {0};
    str_put(out, "", 0);
    bool wide = n >= 2 && (!memcmp(html, "\xff\xfe", 2) || !memcmp(html, "\xfe\xff", 2));
    if (wide)
        convert("UTF-16", html, n, out);
    else if (utf8_valid(html, n) || !named_encoding(html, n, name, sizeof name) ||
             !strcasecmp(name, "utf-8") || !convert(name, html, n, out))
        utf8_repair(html, n, out, &counts);
    for (char *p = out->p, *end = out->p + out->n; (p = memchr(p, 0, (size_t)(end - p))) != NULL;) *p = ' ';
}

/* ---- the page -------------------------------------------------------------------------------------------- */

static void ignore(void *ctx, const char *fmt, ...) {
    (void)ctx, (void)fmt;
}

static void parse(Page *p, const Str *html) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, xmlInitParser);
    p->parser = htmlCreateMemoryParserCtxt(html->p, (int)html->n);
    if (!p->parser) return;
    htmlSAXHandler sax = {.startElement = on_start,
                          .endElement = on_end,
                          .characters = on_text,
                          .ignorableWhitespace = on_text,
                          .error = ignore,
                          .warning = ignore,
                          .fatalError = ignore};
    *p->parser->sax = sax;
    p->parser->userData = p;
    htmlCtxtUseOptions(p->parser, HTML_PARSE_IGNORE_ENC | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                      HTML_PARSE_NODEFDTD | HTML_PARSE_NONET | HTML_PARSE_RECOVER);
    xmlSwitchEncoding(p->parser, XML_CHAR_ENCODING_UTF8);
    htmlParseDocument(p->parser);
    xmlFreeDoc(p->parser->myDoc);
    htmlFreeParserCtxt(p->parser);
}

bool html_text(const HtmlOptions *o, const char *html, size_t n, Str *out, Err *e) {
    Str page = {0};
    Page p = {.options = o, .out = out};
    if (n > INT32_MAX / 4) return err_set(e, "a page of %zu bytes is longer than libxml2 reads", n);
    decode(html, n, &page);
    if (page.n) parse(&p, &page);
    end_block(&p);
    str_free(&p.block);
    str_free(&page);
    return !p.too_deep || err_set(e, "HTML elements are nested more than %d deep", DEEPEST);
}
