/* test_docs.c - docs.c: lines of JSON against cJSON, long texts in pieces, what must be refused. */
#include "docs.h"
#include "test.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static Doc line_of(const char *json, size_t n) {
    Doc d = {.text = xmalloc(n + 1), .n = n, .file = "f.jsonl", .line = 7, .nats = NAN};
    memcpy(d.text, json, n);
    d.text[n] = 0;
    return d;
}

TEST(docs_json_text) {
    static const struct {
        const char *json, *text;
        size_t n;
    } cases[] = {
        {"{\"text\": \"a b\"}", "a b", 3},
        {" {\"id\":[1,{\"text\":\"no\"},-0.5e+3,true,null,{}],\"text\":\"\"} \r", "", 0},
        {"{\"text\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "\"\\/\b\f\n\r\t", 8},
        {"{\"text\":\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"}", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10},
        {"{\"text\":\"a\\u0000b\"}", "a\0b", 3},
        {"{\"text\":\"\\ud83d!\\ude00\"}", "\xef\xbf\xbd!\xef\xbf\xbd", 7},
        {"{\"text\":\"\\ud83d\\u0041\"}",
         "\xef\xbf\xbd"
         "A",
         4},
        {"{\"text\":\"\\ude00\\ude00\"}", "\xef\xbf\xbd\xef\xbf\xbd", 6},
        {"{\"te\\u0078t\":\"key\"}", "key", 3},
        {"{\"text\":\"one\",\"text\":\"two\"}", "two", 3},
        {"{\"text\":\"\xff\xc3\"}", "\xff\xc3", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err e = {0};
        Doc d = line_of(cases[i].json, strlen(cases[i].json));
        EXPECT(doc_text(&d, "text", &e), "case %zu: %s", i, e.msg);
        EXPECT(d.n == cases[i].n && !memcmp(d.text, cases[i].text, d.n), "case %zu: %s", i, d.text);
        free(d.text);
    }

    static const char marked[] = "\xef\xbb\xbf{\"text\":\"one\"}"; /* at the beginning of a file only */
    for (uint64_t line = 1; line <= 2; line++) {
        Err e = {0};
        Doc d = line_of(marked, sizeof marked - 1);
        d.line = line;
        EXPECT(doc_text(&d, "text", &e) == (line == 1) && (line > 1 || !strcmp(d.text, "one")));
        free(d.text);
    }
}

TEST(docs_json_refused) {
    static const struct {
        const char *json, *why;
    } cases[] = {
        {"[]", "f.jsonl:7: not a JSON object"},
        {"{\"text\":\"a", "stopped at byte 11"},
        {"{\"text\":\"a\"", "not a JSON object"},
        {"{\"text\":\"a\"} x", "stopped at byte 14"},
        {"{\"text\":\"a\",}", "not a JSON object"},
        {"{\"text\":\"\\x\"}", "not a JSON object"},
        {"{\"text\":\"\\u12g4\"}", "not a JSON object"},
        {"{\"text\":\"a\tb\"}", "not a JSON object"},
        {"{\"n\":01}", "not a JSON object"},
        {"{\"n\":1.}", "not a JSON object"},
        {"{\"n\":[1 2]}", "not a JSON object"},
        {"{\"n\":nul}", "not a JSON object"},
        {"{n:1}", "not a JSON object"},
        {"", "stopped at byte 1"},
        {"{}", "has no \"text\""},
        {"{\"Text\":\"a\"}", "has no \"text\""},
        {"{\"text\":null}", "no text in \"text\""},
        {"{\"text\":[\"a\"]}", "no text in \"text\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err e = {0};
        Doc d = line_of(cases[i].json, strlen(cases[i].json));
        EXPECT(!doc_text(&d, "text", &e), "case %zu", i);
        EXPECT_ERR(&e, cases[i].why);
        free(d.text);
    }
    Str deep = {0};
    Err e = {0};
    str_puts(&deep, "{\"a\":");
    for (int i = 0; i < 100000; i++) str_puts(&deep, "[");
    Doc d = line_of(deep.p, deep.n);
    EXPECT(!doc_text(&d, "text", &e));
    EXPECT_ERR(&e, "not a JSON object");
    free(d.text);
    str_free(&deep);
}

/* Any line that is taken is taken by cJSON as well, with the same text (cJSON ends it at a zero byte). */
TEST(docs_json_agrees_with_cjson) {
    static const char *const bits[] = {
        "{", "}",      "\"text\"", ":",        ",",  "\"", "\\u00e9",        "\\n",  "a", "[",
        "]", "-1.5e3", "true",     "\"nats\"", "12", " ",  "\\ud83d\\ude00", "\"b\""};
    int taken = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        Str s = {0};
        Err e = {0};
        str_puts(&s, i % 2 ? "{\"text\":\"" : "{");
        uint64_t n = rand_below(1, RAND_TEST, i, 0, 9);
        for (uint64_t k = 1; k <= n; k++)
            str_puts(&s, bits[rand_below(1, RAND_TEST, i, k, sizeof bits / sizeof *bits)]);
        str_puts(&s, i % 4 < 2 ? "}" : "\"}");
        Doc d = line_of(s.p, s.n);
        if (doc_text(&d, "text", &e)) {
            cJSON *o = cJSON_Parse(s.p), *text = NULL, *it;
            cJSON_ArrayForEach(it, o) if (!strcmp(it->string, "text")) text = it;
            EXPECT(text && cJSON_IsString(text) && !strcmp(text->valuestring, d.text), "%s", s.p);
            cJSON_Delete(o);
            taken++;
        }
        free(d.text);
        str_free(&s);
    }
    EXPECT(taken > 1000, "%d lines were valid", taken);
}

static void write_gz(const char *path, const char *p, size_t n) {
    gzFile f = gzopen(path, "wb");
    EXPECT(f && gzwrite(f, p, (unsigned)n) == (int)n);
    gzclose(f);
}

/* The pieces of a long text are the text, and no piece starts elsewhere than at a line break after a word. */
TEST(docs_long_text_in_pieces) {
    Err e = {0};
    Docs ds;
    Doc d;
    Str s = {0}, got = {0};
    char *path = path_join(test_dir(), "long.txt.gz");
    static const char *const ends[] = {"word\n",     " \n", "\xe3\x80\x80\n", "\xe3\x80\x82\n",
                                       "\xc2\xa0\n", "\n",  "x\r\n"};
    for (uint64_t i = 0; i < 60000; i++)
        str_printf(&s, "line %d %s", (int)i, ends[rand_below(3, RAND_TEST, 0, i, 7)]);
    write_gz(path, s.p, s.n);
    const char *files[] = {path, path};
    EXPECT(docs_open(&ds, files, 2, &e));
    int pieces = 0, firsts = 0;
    while (docs_next(&ds, &d, &e) && d.text) {
        bool fullwidth_stop = got.n >= 3 && !memcmp(got.p + got.n - 3, "\xe3\x80\x82", 3);
        if (!d.first)
            EXPECT(d.text[0] == '\n' && (fullwidth_stop || got.p[got.n - 1] == 'd'), "piece %d", pieces);
        str_put(&got, d.text, d.n);
        pieces++, firsts += d.first;
        free(d.text);
    }
    EXPECT_OK(&e);
    EXPECT(firsts == 2 && pieces > 6, "%d documents, %d pieces", firsts, pieces);
    EXPECT(got.n == 2 * s.n && !memcmp(got.p, s.p, s.n) && !memcmp(got.p + s.n, s.p, s.n));
    docs_close(&ds);
    str_free(&s);
    str_free(&got);
    free(path);
}

TEST(docs_lines_and_files) {
    Err e = {0};
    Docs ds;
    Doc d;
    const char *dir = test_dir();
    char *a = path_join(dir, "a.jsonl"), *b = path_join(dir, "b.txt"), *c = path_join(dir, "c.md");
    EXPECT(file_write(a, "{\"text\":\"one\",\"nats\":1.5}\n\n \r\n{\"text\":\"two\"}", 44, &e));
    EXPECT(file_write(b, "", 0, &e) && file_write(c, "x", 1, &e));
    const char *files[] = {a, b, c};
    EXPECT(docs_open(&ds, files, 2, &e));
    EXPECT(docs_next(&ds, &d, &e) && d.line == 1 && doc_text(&d, "text", &e) && !strcmp(d.text, "one") &&
           d.nats == 1.5);
    free(d.text);
    EXPECT(docs_next(&ds, &d, &e) && d.line == 4 && doc_text(&d, "text", &e) && !strcmp(d.text, "two") &&
           isnan(d.nats));
    free(d.text);
    EXPECT(!docs_next(&ds, &d, &e));
    EXPECT_ERR(&e, "b.txt: is empty");
    docs_close(&ds);
    EXPECT(!docs_open(&ds, files, 3, &e));
    EXPECT_ERR(&e, "c.md: its name must end in .txt or .jsonl");
    files[0] = "nowhere.txt";
    EXPECT(!docs_open(&ds, files, 1, &e));
    EXPECT_ERR(&e, "nowhere.txt: cannot open");
    free(a), free(b), free(c);
}
