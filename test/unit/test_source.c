/* test_source.c - source.c: each kind of file, and what must be told and passed over. */
#include "source.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static Str told;

static void tell(void *ctx, const char *file, const Problem *p) {
    (void)ctx, (void)file;
    str_printf(&told, "%llu: %s\n", (unsigned long long)p->offset, p->what);
}

/* All documents, with | behind each. */
static const char *documents(const char *name, const void *bytes, size_t n, size_t most) {
    static Str all;
    Err e = {0};
    RawDoc doc = {0};
    char *path = path_join(test_dir(), name);
    all.n = told.n = 0;
    str_puts(&all, "");
    str_puts(&told, "");
    EXPECT(file_write(path, bytes, n, &e), "%s", e.msg);
    Source *s = source_open(path, most, tell, NULL, &e);
    EXPECT(s, "%s", e.msg);
    while (s && source_next(s, &doc)) {
        str_put(&all, doc.data.p, doc.data.n);
        if (doc.url.n) str_printf(&all, "@%.*s", (int)doc.url.n, doc.url.p);
        str_puts(&all, "|");
    }
    source_close(s);
    raw_free(&doc);
    free(path);
    return all.p;
}

#define EXPECT_DOCS(name, text, most, want, problems)                      \
    do {                                                                   \
        const char *got = documents(name, text, sizeof(text) - 1, most);   \
        EXPECT(!strcmp(got, want), "%s gave \"%s\"", name, got);           \
        EXPECT(!strcmp(told.p, problems), "%s told \"%s\"", name, told.p); \
    } while (0)

TEST(source_files_and_lines) {
    EXPECT_DOCS("a.txt", "one\ntwo\0three", 100, "one\ntwo", ""); /* as C sees it; all bytes are there */
    EXPECT_DOCS("a.html", "<p>x", 100, "<p>x|", "");
    EXPECT_DOCS("b.txt", "", 100, "", "");
    EXPECT_DOCS("c.txt", "0123456789", 9, "",
                "0: one document of 10 bytes; the longest that is read has 9\n");
    EXPECT_DOCS("d.txt", "0123456789", 10, "0123456789|", "");
    EXPECT_DOCS("e.jsonl", "{a}\n\n \n{b}", 100, "{a}|{b}|", "");
    EXPECT_DOCS("f.jsonl", "{a}\n{0123456789}\n{b}\n", 3, "{a}|{b}|",
                "4: line 2 has 13 bytes; the longest that is read has 3\n");
    EXPECT(source_known("x.WARC.gz") && source_known("x.htm") && !source_known("x.md") &&
           !source_known(".txt"));
}

#define RECORD(type, length, body)                                                                     \
    "WARC/1.0\r\nWARC-Type: " type "\r\nWARC-Target-URI: u\r\ncontent-length: " length "\r\n\r\n" body \
    "\r\n\r\n"

TEST(source_warc) {
    EXPECT_DOCS("a.wet",
                RECORD("warcinfo", "4", "info") RECORD("conversion", "3", "one")
                    RECORD("conversion", "2", "2\n"),
                100, "one@u|2\n@u|", "");
    EXPECT_DOCS("b.warc",
                RECORD("response", "50", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>x12")
                    RECORD("response", "47", "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n..."),
                100, "<p>x12@u|", "");
    EXPECT_DOCS(
        "i.warc",
        RECORD("response", "72",
               "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b..")
            RECORD("response", "77",
                   "HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Type: text/html\r\n\r\nplain"),
        100, "plain@u|", "0: an answer that is compressed or in chunks, which is not read here\n");
    EXPECT_DOCS("c.wet", "junk\r\n\r\nmore\r\n" RECORD("conversion", "3", "one"), 100, "one@u|",
                "0: no WARC record begins here; looking for the next one\n");
    EXPECT_DOCS("d.wet", RECORD("conversion", "3", "one") RECORD("conversion", "900", "two"), 1000, "one@u|",
                "81: a WARC record of 900 bytes, of which the file has 7\n");
    EXPECT_DOCS("e.wet", RECORD("conversion", "6", "longer") RECORD("conversion", "3", "one"), 5, "one@u|",
                "0: a WARC record of 6 bytes; the longest that is read has 5\n");
    EXPECT_DOCS("f.wet", RECORD("conversion", "-1", "x") RECORD("conversion", "3", "one"), 5, "one@u|",
                "0: a WARC record without a Content-Length\n75: no WARC record begins here; looking for the "
                "next one\n");
    EXPECT_DOCS("h.wet", "WARC/1.0\nWARC-Type: conversion\nContent-Length: 4\n\none", 9, "",
                "0: a WARC record of 4 bytes, of which the file has 3\n");
    EXPECT_DOCS("g.wet", "WARC/1.0\r\nWARC-Type: conversion\r\n", 5, "",
                "0: a WARC header that does not end\n");
}

TEST(source_gzip) {
    uint8_t packed[400];
    Str two = {0};
    for (int i = 0; i < 2; i++) { /* members in a row are one file */
        z_stream z = {0};
        deflateInit2(&z, 0, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
        z.next_in = (Bytef *)(i ? "{b}\n{c}\n" : "{a}\n"), z.avail_in = i ? 8 : 4;
        z.next_out = packed, z.avail_out = sizeof packed;
        deflate(&z, Z_FINISH);
        str_put(&two, packed, z.total_out);
        deflateEnd(&z);
    }
    EXPECT(!strcmp(documents("a.jsonl.gz", two.p, two.n, 100), "{a}|{b}|{c}|") && !told.n);
    EXPECT(!strcmp(documents("b.jsonl.gz", two.p, two.n - 4, 100), "{a}|{b}|{c}|"));
    EXPECT(strstr(told.p, "the gzip data ends too early"), "told \"%s\"", told.p);
    EXPECT(!strcmp(documents("d.jsonl.gz", two.p, two.n - 10, 100), "{a}|{b}|"), "half a line is none");
    EXPECT(!strcmp(documents("c.txt.gz", two.p, two.n - 4, 100), ""), "half a document is none");
    EXPECT(strstr(told.p, "12: the gzip data ends too early"), "told \"%s\"", told.p);

    str_put(&two, "\0\0\0", 3);
    EXPECT(!strcmp(documents("e.jsonl.gz", two.p, two.n, 100), "{a}|{b}|{c}|") && !told.n,
           "zeros fill a block up");
    str_puts(&two, "more");
    EXPECT(!strcmp(documents("f.jsonl.gz", two.p, two.n, 100), "{a}|{b}|{c}|"));
    EXPECT(!strcmp(told.p, "12: the gzip data is damaged: incorrect header check\n"), "told \"%s\"", told.p);
    char *second = memmem(two.p + 1, two.n - 1, "\x1f\x8b", 2); /* without its header it is no end */
    second[0] = 'x';
    EXPECT(!strcmp(documents("g.jsonl.gz", two.p, two.n, 100), "{a}|"));
    EXPECT(!strcmp(told.p, "4: the gzip data is damaged: incorrect header check\n"), "told \"%s\"", told.p);
    second[-8] ^= 1; /* the first one's checksum */
    EXPECT(!strcmp(documents("h.jsonl.gz", two.p, two.n, 100), "{a}|"));
    EXPECT(!strcmp(told.p, "4: the gzip data is damaged: incorrect data check\n"), "told \"%s\"", told.p);
    str_free(&two);
}
