/* test_words.c - words.c: what is a word, a line, a paragraph; hashes that must never change. */
#include "test.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>

static Span span_of(const char *s) {
    return (Span){s, strlen(s)};
}

/* All pieces, with | between. */
static const char *pieces(bool (*next)(Span *, Span *), const char *text) {
    static char out[512];
    Span left = span_of(text), piece;
    char *dst = out;
    while (next(&left, &piece)) {
        memcpy(dst, piece.p, piece.n);
        dst += piece.n;
        *dst++ = '|';
    }
    *dst = 0;
    EXPECT(next != word_next || left.n == 0);
    return out;
}

TEST(words_are_words) {
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", ""},
        {" .,-\n", ""},
        {"one", "one|"},
        {"It's (the) 2nd--x_y.", "It's|the|2nd|x|y|"},
        {"'quoted' rock 'n' roll''s o'", "quoted|rock|n|roll|s|o|"},
        {"l\u2019\u00e9t\u00e9 \u201cyes\u201d", "l\u2019\u00e9t\u00e9|yes|"},
        {"e\u0301t\u0929\u093f", "e\u0301t\u0929\u093f|"}, /* marks belong to their words */
        {"\u4f60\u597dabc\u3042", "\u4f60|\u597d|abc|\u3042|"},
        {"a\xff"
         "b\xc3",
         "a|b|"},
        {"tail'", "tail|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        EXPECT(!strcmp(pieces(word_next, cases[i].text), cases[i].words), "\"%s\" gave \"%s\"", cases[i].text,
               pieces(word_next, cases[i].text));
}

TEST(words_tokens_lines_paragraphs) {
    EXPECT(!strcmp(pieces(token_next, " (see\u00a0this) end.\r\n-- "), "(see|this)|end.|--|"));
    EXPECT(!strcmp(pieces(line_next, "a\n\nb \nc"), "a||b |c|"));
    EXPECT(!strcmp(pieces(line_next, "a\n"), "a|"));
    EXPECT(!strcmp(pieces(paragraph_next, "\n \na\nb\n\t\n\u00a0\nc\n\n"), "a\nb|c|"));
    Span s = span_trim(span_of(" \u3000x y\u00a0\n"));
    EXPECT(s.n == 3 && !memcmp(s.p, "x y", 3));
    EXPECT(span_trim(span_of(" \u2003\n")).n == 0);
    EXPECT(span_trim(span_of("\xa0")).n == 1, "a stray byte is no space");
}

TEST(words_characters) {
    static const uint32_t pairs[][2] = {
        {'A', 'a'},       {'[', '['},     {0xc9, 0xe9},       {0xd7, 0xd7},         {0x100, 0x101},
        {0x101, 0x101},   {0x130, 'i'},   {0x3a3, 0x3c3},     {0x410, 0x430},       {0x10a0, 0x2d00},
        {0x13a0, 0xab70}, {0x1e9e, 0xdf}, {0x10400, 0x10428}, {0x10fffd, 0x10fffd}, {0xa7dc, 0x19b}};
    char b[8];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *p = b;
        EXPECT(char_lower(pairs[i][0]) == pairs[i][1], "U+%04X", pairs[i][0]);
        size_t n = char_put(b, pairs[i][0]);
        EXPECT(char_next(&p, b + n) == pairs[i][0] && p == b + n);
    }
    char low[32];
    size_t n = text_lower("\u00c9T\xff\u023a", 6, low);
    EXPECT(n == 7 && !memcmp(low, "\u00e9t\xff\u2c65", 7), "two bytes may become three");
    EXPECT(char_is_space(0x85) && char_is_space(0x3000) && !char_is_space(0x200b) && !char_is_space(0x1f));
    EXPECT(char_is_word('z') && char_is_word(0x301) && char_is_word(0x4e00) && !char_is_word('_'));
}

TEST(words_hashes_for_ever) {
    /* These stand in files that were written before: a change here makes them worthless. */
    EXPECT(hash_mix(1) == 0xb456bcfc34c2cb2cu, "%llx", (unsigned long long)hash_mix(1));
    EXPECT(hash_join(1, 2) != hash_join(2, 1));
    EXPECT(hash_bytes("", 0, 0) != hash_bytes("\0", 1, 0) && hash_bytes("a", 1, 0) != hash_bytes("a", 1, 1));
    EXPECT(hash_word(span_of("Don't")) == hash_word(span_of("DON\u2019T")));
    EXPECT(hash_word(span_of("dont")) != hash_word(span_of("don't")));
    EXPECT(hash_word(span_of("\u00c9t\u00e9")) == hash_word(span_of("\u00e9T\u00c9")));
}

/* Each input bit must flip about half of the output bits, whatever its place, and no two of a few hundred thousand
 * short strings may meet. */
TEST(words_hash_spreads) {
    char text[24] = "twenty-four bytes of it";
    uint64_t before = hash_bytes(text, 24, 0);
    for (int bit = 0; bit < 24 * 8; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        int changed = __builtin_popcountll(before ^ hash_bytes(text, 24, 0));
        EXPECT(changed > 12 && changed < 52, "bit %d changed %d", bit, changed);
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
    }
    enum { N = 1 << 19 };
    uint64_t *low = xcalloc(N / 4, sizeof *low); /* a bitmap of 2^23 places: the low bits must spread, too */
    int met = 0;
    for (uint32_t i = 0; i < N; i++) {
        uint64_t h = hash_join(hash_word((Span){(const char *)&i, 3}), i) >> 41;
        met += low[h / 64] >> h % 64 & 1;
        low[h / 64] |= 1ull << h % 64;
    }
    EXPECT(met > 15000 && met < 17500, "%d met; chance would be about 16,050",
           met); /* n - m (1 - e^(-n/m)) */
    free(low);
}
