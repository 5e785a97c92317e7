/* test_tokenizer.c - tokenizer.c, tokenizer_files.c, tokenizer_train.c: against what tokenizers and
 * tiktoken say (test/golden/tokenizer), folders there and back, and everything that must be refused. */
#include "test.h"
#include "tokenizer_impl.h"

#include <ctype.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN "test/golden/tokenizer"

/* Hex at *p, as far as it goes, appended to s. */
static void read_hex(char **p, Str *s) {
    for (unsigned v; isxdigit((unsigned char)**p) && sscanf(*p, "%2x", &v) == 1; *p += 2)
        str_put(s, &(char){(char)v}, 1);
}

/* A tokenizer with 256 bytes, <|endoftext|>, and what little text teaches it. */
static Tokenizer *small(const char *text, int32_t vocab_size) {
    Err e = {0};
    char *path = path_join(test_dir(), "small.txt");
    EXPECT(file_write(path, text, strlen(text), &e));
    Tokenizer *t = tokenizer_train((const char *const[]){path}, 1, NULL, vocab_size, 2, &e);
    EXPECT(t != NULL, "%s", e.msg);
    free(path);
    return t;
}

TEST(tokenizer_pieces_golden) {
    Err e = {0};
    Text in;
    char *line;
    size_t n;
    int lines = 0;
    EXPECT(text_open(&in, GOLDEN "/pieces.txt", &e));
    for (; text_line(&in, &line, &n, &e) && line; lines++) {
        Str text = {0};
        size_t end[64];
        int n_pieces = 0;
        for (char *p = line; *p && n_pieces < 64; p += *p == ' ')
            read_hex(&p, &text), end[n_pieces++] = text.n;
        size_t at = 0;
        for (int i = 0; i < n_pieces && at < text.n; i++) {
            at += tokenizer_piece((const uint8_t *)text.p + at, text.n - at);
            EXPECT(at == end[i], "line %d, piece %d ends at %zu, not %zu", lines + 1, i + 1, at, end[i]);
        }
        str_free(&text);
    }
    EXPECT(lines == 60, "%d lines", lines);
    text_close(&in);
}

/* Looking at 64 bytes finds the pieces that looking at one after the other finds. */
TEST(tokenizer_pieces_by_the_block) {
    static const char *const parts[] = {"a",        "Zq",   "0",    "42",    " ",        "  ",
                                        "\n",       "\t",   "'",    "'s",    "'ll",      "'r",
                                        "''",       ".",    "-!",   "don't", "\xc3\xa9", "\xe3\x80\x80",
                                        "\xc2\xb2", "\x01", "the ", "\x7f",  "'ve",      " '"};
    enum { N_PARTS = sizeof parts / sizeof *parts, TEXTS = 3000 };
    for (uint64_t i = 0; i < TEXTS; i++) {
        Str s = {0};
        uint64_t length = 20 + rand_below(i, RAND_TEST, 0, 0, 200),
                 some = 1 + rand_below(i, RAND_TEST, 0, 1, N_PARTS);
        for (uint64_t j = 2; s.n < length; j++) str_puts(&s, parts[rand_below(i, RAND_TEST, 0, j, some)]);
        const uint8_t *p = (const uint8_t *)s.p;
        size_t plain = 0, end[MAX_PIECES];
        for (size_t at = 0; at < s.n; at = plain) {
            int pieces = tokenizer_pieces(p + at, s.n - at, end);
            for (int j = 0; j < pieces; j++) {
                plain += tokenizer_piece(p + plain, s.n - plain);
                EXPECT(at + end[j] == plain, "text %d: a piece ends at %zu, not %zu: %s", (int)i, at + end[j],
                       plain, s.p);
            }
        }
        str_free(&s);
    }
}

/* Each line of a file: bytes, their ids, and the bytes that those decode to if they are others. */
static void check_ids(const char *folder, const char *path, int want_lines) {
    Err e = {0};
    Text in;
    char *line;
    size_t n;
    int lines = 0;
    Tokenizer *t = tokenizer_open(folder, &e);
    EXPECT(t && text_open(&in, path, &e), "%s", e.msg);
    for (; text_line(&in, &line, &n, &e) && line; lines++) {
        Str text = {0}, back = {0}, want_back = {0};
        Ids ids = {0};
        char *p = line;
        read_hex(&p, &text);
        EXPECT(*p == '\t' &&
               tokenizer_encode(t, text.p, text.n, t->gpt1 ? SPECIAL_SPLIT : SPECIAL_TEXT, &ids, &e));
        p++;
        for (size_t i = 0; i < ids.n; i++) {
            char *end;
            long want = strtol(p, &end, 10);
            EXPECT(end > p && ids.id[i] == want, "line %d, id %zu is %d, not %ld", lines + 1, i, ids.id[i],
                   want);
            p = *end == ' ' ? end + 1 : end;
        }
        EXPECT(*p == 0 || *p == '\t', "line %d: more ids are due: %s", lines + 1, p);
        if (*p == '\t')
            p++, read_hex(&p, &want_back);
        else
            str_put(&want_back, text.p, text.n);
        EXPECT(tokenizer_decode(t, ids.id, ids.n, &back, &e), "%s", e.msg);
        EXPECT(back.n == want_back.n && (!back.n || !memcmp(back.p, want_back.p, back.n)), "line %d",
               lines + 1);
        str_free(&text), str_free(&back), str_free(&want_back), ids_free(&ids);
    }
    EXPECT(lines == want_lines, "%d lines", lines);
    text_close(&in);
    tokenizer_free(t);
}

TEST(tokenizer_ids_golden) {
    check_ids(GOLDEN, GOLDEN "/ids.txt", 92);
}

TEST(tokenizer_gpt1_golden) {
    check_ids(GOLDEN "/gpt1", GOLDEN "/gpt1/ids.txt", 77);
    check_ids(GOLDEN "/gpt1/tokenizer.json", GOLDEN "/gpt1/ids.txt", 77);
}

/* Do two tokenizers have the same tokens, merges and special tokens? */
static bool alike(const Tokenizer *a, const Tokenizer *b) {
    return a->n == b->n && a->n_merges == b->n_merges && a->n_special == b->n_special && a->eot == b->eot &&
           a->bytes.n == b->bytes.n && !memcmp(a->bytes.p, b->bytes.p, a->bytes.n) &&
           !memcmp(a->start, b->start, (size_t)a->n * sizeof *a->start) &&
           !memcmp(a->merge, b->merge, (size_t)a->n_merges * sizeof *a->merge) &&
           !memcmp(a->special, b->special, (size_t)a->n_special * sizeof *a->special);
}

TEST(tokenizer_trains_what_huggingface_trains) {
    Err e = {0};
    Tokenizer *theirs = tokenizer_open(GOLDEN, &e);
    EXPECT(theirs != NULL, "%s", e.msg);
    for (int threads = 1; threads <= 3; threads++) {
        Tokenizer *t =
            tokenizer_train((const char *const[]){GOLDEN "/corpus.txt"}, 1, NULL, 400, threads, &e);
        EXPECT(t && t->n == 400 && t->n_merges == 143 && t->eot == 399, "%s", e.msg);
        /* theirs has <|endoftext|> first, so all their other ids are one higher */
        for (int i = 0; i < t->n_merges; i++) {
            Merge a = t->merge[i], b = theirs->merge[i];
            EXPECT(a.left + 1 == b.left && a.right + 1 == b.right && a.id + 1 == b.id, "merge %d", i);
        }
        tokenizer_free(t);
    }
    tokenizer_free(theirs);
}

TEST(tokenizer_train_counts_documents) {
    /* By hand: "ab" stands 5 times, "bc" 5 times, "abc" 4: of equals the smaller ids first; then ab + c.
     * Text from .jsonl under a key of its own; what <|endoftext|> parts does not become a pair. */
    Err e = {0};
    char *path = path_join(test_dir(), "docs.jsonl");
    const char *text = "{\"body\": \"ba\"}\n{\"body\": \"<|endoftext|>abc abc abc abc bc\\nab<|endoftext|>z"
                       "<|endoftext|><|endoftext|><|endoftext|><|endoftext|><|endoftext|>\"}\n";
    EXPECT(file_write(path, text, strlen(text), &e));
    Tokenizer *t = tokenizer_train((const char *const[]){path}, 1, "body", 259, 1, &e);
    EXPECT(t != NULL, "%s", e.msg);
    size_t n;
    const char *first = tokenizer_bytes(t, 256, &n);
    EXPECT(n == 2 && !memcmp(first, "ab", 2), "%.*s", (int)n, first);
    const char *second = tokenizer_bytes(t, 257, &n);
    EXPECT(n == 3 && !memcmp(second, "abc", 3), "%.*s", (int)n, second);
    EXPECT(tokenizer_eot(t) == 258 && tokenizer_size(t) == 259);
    EXPECT(tokenizer_bytes(t, 259, &n) == NULL && tokenizer_bytes(t, -1, &n) == NULL);
    tokenizer_free(t);
    EXPECT(!tokenizer_train((const char *const[]){path}, 1, "text", 259, 1, &e));
    EXPECT_ERR(&e, "has no \"text\"");
    EXPECT(!tokenizer_train((const char *const[]){path}, 1, "body", 256, 1, &e));
    EXPECT_ERR(&e, "257");
    free(path);
}

TEST(tokenizer_folder_there_and_back) {
    Err e = {0};
    Tokenizer *t =
        small("the theme of the thesis: \"quotes\\\" \x01\x7f and \xc3\xa9\xc3\xa9 \xff\xff thin then", 286);
    char *dir = path_join(test_dir(), "saved"), *json = path_join(dir, "tokenizer.json");
    EXPECT(dir_make(dir, &e));
    for (MergeSpelling spelling = MERGES_STRINGS; spelling <= MERGES_PAIRS; spelling++) {
        char *data;
        size_t n;
        EXPECT(tokenizer_save_as(t, dir, spelling, &e), "%s", e.msg);
        EXPECT(file_read(json, 1 << 20, &data, &n, &e));
        EXPECT(!strstr(data, "\"t h\"") == (spelling == MERGES_PAIRS));
        free(data);
        for (int file = 0; file < 3;
             file++) { /* the folder, tokenizer.json alone, vocab.json and merges.txt */
            if (file == 2) remove(json);
            Tokenizer *back = tokenizer_open(file == 1 ? json : dir, &e);
            EXPECT(back && alike(t, back), "spelling %d, file %d: %s", spelling, file, e.msg);
            tokenizer_free(back);
        }
    }
    EXPECT(!tokenizer_save(t, "/nonexistent", &e));
    EXPECT_ERR(&e, "cannot write");
    tokenizer_free(t);
    free(dir), free(json);
}

TEST(tokenizer_gpt1_folder_there_and_back) {
    Err e = {0};
    char *dir = path_join(test_dir(), "saved"), *json = path_join(dir, "tokenizer.json");
    Tokenizer *t = tokenizer_open(GOLDEN "/gpt1", &e);
    EXPECT(t && t->gpt1 && tokenizer_eot(t) == -1 && dir_make(dir, &e) && tokenizer_save(t, dir, &e), "%s",
           e.msg);
    for (int file = 0; file < 2; file++) { /* tokenizer.json, then the other two */
        Tokenizer *back = tokenizer_open(dir, &e);
        EXPECT(back && back->gpt1 && alike(t, back), "file %d: %s", file, e.msg);
        tokenizer_free(back);
        remove(json);
    }
    /* bytes that are not UTF-8 are passed over, as the replacement character is */
    Ids good = {0}, bad = {0};
    EXPECT(tokenizer_encode(t, "the word", 8, SPECIAL_TEXT, &good, &e));
    static const char broken[] = {'t', 'h', '\xff', 'e', ' ',    '\xe6', '\xbc',
                                  'w', 'o', 'r',    'd', '\xed', '\xa0', '\x80'};
    EXPECT(tokenizer_encode(t, broken, sizeof broken, SPECIAL_TEXT, &bad, &e));
    EXPECT(good.n && good.n == bad.n && !memcmp(good.id, bad.id, good.n * sizeof *good.id));
    ids_free(&good), ids_free(&bad);
    tokenizer_free(t);
    free(dir), free(json);
}

static void expect_ids(const Tokenizer *t, const char *text, SpecialMode mode, const int32_t *want,
                       size_t n) {
    Err e = {0};
    Ids ids = {0};
    EXPECT(tokenizer_encode(t, text, strlen(text), mode, &ids, &e), "%s", e.msg);
    EXPECT(ids.n == n, "%s: %zu ids", text, ids.n);
    for (size_t i = 0; i < ids.n && i < n; i++)
        EXPECT(ids.id[i] == want[i], "%s: id %zu is %d", text, i, ids.id[i]);
    ids_free(&ids);
}

TEST(tokenizer_special_tokens) {
    Err e = {0};
    Tokenizer *t = small("x", 257);
    Ids ids = {0};
    expect_ids(t, "!<|endoftext|>\"<|endoftext|><|endoftext", SPECIAL_SPLIT,
               (int32_t[]){0, 256, 1, 256, 27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83}, 15);
    expect_ids(t, "<|endoftext|>", SPECIAL_TEXT,
               (int32_t[]){27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83, 91, 29}, 13);
    expect_ids(t, "<|endoftext|", SPECIAL_REFUSE, (int32_t[]){27, 91, 68, 77, 67, 78, 69, 83, 68, 87, 83, 91},
               12);
    expect_ids(t, "", SPECIAL_SPLIT, NULL, 0);
    EXPECT(!tokenizer_encode(t, "ab<|endoftext|>", 15, SPECIAL_REFUSE, &ids, &e));
    EXPECT_ERR(&e, "<|endoftext|> at byte 2");
    Str s = {0};
    EXPECT(!tokenizer_decode(t, (int32_t[]){0, 257}, 2, &s, &e));
    EXPECT_ERR(&e, "id 257 (number 2)");
    EXPECT(!tokenizer_decode(t, (int32_t[]){-1}, 1, &s, &e));
    EXPECT_ERR(&e, "id -1");
    str_free(&s), ids_free(&ids);
    tokenizer_free(t);
}

/* Special tokens that begin alike, end inside each other, hold odd characters; and a folder of them. */
TEST(tokenizer_many_special_tokens) {
    static const char *const names[] = {"<a>", "<a><b>", "[x]", "tab\t\"\\"};
    Err e = {0};
    char *dir = path_join(test_dir(), "special");
    Tokenizer *t = small("x", 257);
    for (int i = 0; i < 4; i++) tokenizer_add_special(t, tokenizer_add(t, names[i], strlen(names[i])));
    EXPECT(dir_make(dir, &e) && tokenizer_save(t, dir, &e), "%s", e.msg);
    char *json = path_join(dir, "tokenizer.json"), *data;
    size_t n;
    EXPECT(file_read(json, 1 << 20, &data, &n, &e) && strstr(data, "\"tab\\u0009\\\"\\\\\""));
    free(data), free(json);
    expect_ids(t, "<a><b><a>[x]![<<a]tab\t\"\\tab", SPECIAL_SPLIT,
               (int32_t[]){258, 257, 259, 0, 58, 27, 27, 64, 60, 260, 83, 64, 65}, 13);
    tokenizer_free(t);
    t = tokenizer_open(dir, &e);
    EXPECT(t && t->n_special == 5, "%s", e.msg);
    expect_ids(t, "<|endoftext|><a><b>tab\t\"\\", SPECIAL_SPLIT, (int32_t[]){256, 258, 260}, 3);
    tokenizer_free(t);
    free(dir);
}

/* More pieces than the cache has lines, of few ids, alike in their first bytes or in all but those. */
TEST(tokenizer_cache_keeps_pieces_apart) {
    Err e = {0};
    Str text = {0}, back = {0};
    Ids ids = {0};
    for (int i = 0; i < 26 * 26; i++) str_printf(&text, " abcdefgh\n%c%c\n", 'a' + i / 26, 'a' + i % 26);
    Tokenizer *t = small(text.p, 256 + 8 + 26 * 26);
    text.n = 0;
    for (int i = 0; i < 200000; i++) {
        char word[] = {(char)('a' + i % 26), (char)('a' + i / 26 % 26), (char)('a' + i / 676 % 26),
                       (char)('a' + i / 17576), 0};
        str_printf(&text, i % 2 ? " abcdefgh%s" : "\n%sabcdefgh", word);
    }
    EXPECT(tokenizer_encode(t, text.p, text.n, SPECIAL_TEXT, &ids, &e));
    EXPECT(tokenizer_decode(t, ids.id, ids.n, &back, &e) && back.n == text.n &&
           !memcmp(back.p, text.p, text.n));
    str_free(&text), str_free(&back), ids_free(&ids);
    tokenizer_free(t);
}

TEST(tokenizer_long_pieces_are_not_quadratic) {
    Err e = {0};
    Tokenizer *t = small("^^^^^^^^ aaaaaaaaaaaaa abababab", 270);
    enum { N = 1 << 19 };
    char *text = xmalloc(N);
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < N; i++) text[i] = "^a ab"[kind == 3 ? 3 + i % 2 : kind];
        if (kind == 2) text[0] = (char)0xff; /* not UTF-8: one piece from the first byte */
        Ids ids = {0};
        Str back = {0};
        double start = now_seconds();
        EXPECT(tokenizer_encode(t, text, N, SPECIAL_SPLIT, &ids, &e));
        EXPECT(now_seconds() - start < 5, "kind %d: %.1f s", kind, now_seconds() - start);
        EXPECT(tokenizer_decode(t, ids.id, ids.n, &back, &e) && back.n == N && !memcmp(back.p, text, N));
        ids_free(&ids), str_free(&back);
    }
    free(text);
    tokenizer_free(t);
}

/* The definition, as slow as it reads: of the merges in order, apply each wherever it can be, from the
 * left. */
static size_t merge_plainly(const Tokenizer *t, const char *text, size_t n, int32_t *id) {
    for (size_t i = 0; i < n; i++) id[i] = t->byte_id[(uint8_t)text[i]];
    for (int rank = 0; rank < t->n_merges; rank++) {
        size_t left = 0;
        for (size_t i = 0; i < n; i++) {
            bool here = i + 1 < n && id[i] == t->merge[rank].left && id[i + 1] == t->merge[rank].right;
            id[left++] = here ? t->merge[rank].id : id[i];
            i += here;
        }
        n = left;
    }
    return n;
}

TEST(tokenizer_merges_by_the_definition) {
    Err e = {0};
    Tokenizer *t =
        small("abcab abcabc bcabca cbcab aabbcc abab baba acac caca abcabcabc bbb aaa ccc aabaab ccbb "
              "aaaaaaaa aaaaaaa aaaaaaaaaaaa",
              290);
    char text[200];
    int32_t want[200];
    EXPECT(t->in_order);
    /* Short pieces, long ones, these in both ways, and the cache the second time. */
    for (uint64_t round = 0; round < 800; round++) {
        t->in_order = round < 400;
        size_t n = 1 + rand_below(round / 2, RAND_TEST, 0, 0, round % 4 ? 199 : 14);
        for (size_t i = 0; i < n; i++) { /* every other text in long runs */
            const bool on = round % 2 && i && rand_below(round / 2, RAND_TEST, 2, i, 8);
            text[i] = on ? text[i - 1] : "abc"[rand_below(round / 2, RAND_TEST, 1, i, 3)];
        }
        size_t n_want = merge_plainly(t, text, n, want);
        Ids ids = {0};
        EXPECT(tokenizer_encode(t, text, n, SPECIAL_TEXT, &ids, &e));
        EXPECT(ids.n == n_want && !memcmp(ids.id, want, n_want * sizeof *want), "%.*s", (int)n, text);
        ids_free(&ids);
    }
    tokenizer_free(t);
}

TEST(tokenizer_encode_is_thread_safe) {
    Err e = {0};
    Tokenizer *t = tokenizer_open(GOLDEN, &e);
    char *text;
    size_t n = 0;
    EXPECT(t && text_all(GOLDEN "/corpus.txt", &text, &n, &e), "%s", e.msg);
    Ids want = {0};
    int wrong = 0;
    EXPECT(tokenizer_encode(t, text, n, SPECIAL_SPLIT, &want, &e));
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (int i = 0; i < 16; i++) {
        Err mine = {0};
        Ids ids = {0};
        if (!tokenizer_encode(t, text, n, SPECIAL_SPLIT, &ids, &mine)) wrong++;
        if (ids.n != want.n || memcmp(ids.id, want.id, want.n * sizeof *want.id)) wrong++;
        ids_free(&ids);
    }
    EXPECT(!wrong, "%d", wrong);
    ids_free(&want);
    free(text);
    tokenizer_free(t);
}
