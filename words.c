/* words.c - floor 1: see words.h. */
#include "words.h"
#include "unicode_words.h"
#include "util.h"

#include <string.h>

/* ---- characters ------------------------------------------------------------------------------------------ */

uint32_t char_next(const char **p, const char *end) {
    const unsigned char *s = (const unsigned char *)*p;
    if (s[0] < 0x80) return ++*p, s[0];
    int n = utf8_length(*p, (size_t)(end - *p));
    if (n < 2) return ++*p, 0xfffd;
    *p += n;
    if (n == 2) return (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    if (n == 3) return (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    return (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
}

size_t char_put(char *dst, uint32_t c) {
    if (c < 0x80) return dst[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint32_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) dst[i] = (char)(0x80 | (c & 0x3f));
    dst[0] = (char)(lead[n] | c);
    return n;
}

uint32_t char_lower(uint32_t c) {
    enum { RUN = 4, RUNS = sizeof words_lower / sizeof *words_lower / RUN };
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    size_t lo = 0, hi = RUNS;
    while (hi - lo > 1) {
        size_t middle = (lo + hi) / 2;
        if (words_lower[RUN * middle] <= c)
            lo = middle;
        else
            hi = middle;
    }
    const uint32_t *run = words_lower + RUN * lo;
    return c >= run[0] && c <= run[1] && (c - run[0]) % run[2] == 0 ? c + run[3] : c;
}

/* The classes of ASCII again, so that most characters cost one look into one cache line or two. */
static const uint8_t ascii_class[128] = {
    ['\t'] = WORDS_SPACE,         ['\n'] = WORDS_SPACE,         ['\v'] = WORDS_SPACE,
    ['\f'] = WORDS_SPACE,         ['\r'] = WORDS_SPACE,         [' '] = WORDS_SPACE,
    ['0' ... '9'] = WORDS_LETTER, ['A' ... 'Z'] = WORDS_LETTER, ['a' ... 'z'] = WORDS_LETTER,
};

static int class_of(uint32_t c) {
    return c < 128 ? ascii_class[c] : words_class(c);
}

/* The class of the character at p, and where the next one starts. */
static inline int next_class(const char *p, const char *end, const char **after) {
    if ((unsigned char)*p < 0x80) return *after = p + 1, ascii_class[(unsigned char)*p];
    *after = p;
    return words_class(char_next(after, end));
}

bool char_is_space(uint32_t c) {
    return class_of(c) == WORDS_SPACE;
}

bool char_is_word(uint32_t c) {
    int k = class_of(c);
    return k == WORDS_LETTER || k == WORDS_ALONE;
}

size_t text_lower(const char *s, size_t n, char *dst) {
    const char *end = s + n;
    char *start = dst;
    while (s < end) {
        const char *at = s;
        uint32_t c = char_next(&s, end);
        if (c == 0xfffd)
            memmove(dst, at, (size_t)(s - at)), dst += s - at;
        else
            dst += char_put(dst, char_lower(c));
    }
    return (size_t)(dst - start);
}

/* ---- pieces ---------------------------------------------------------------------------------------------- */

/* Bytes of an apostrophe at p, 0 if there is none. */
static size_t apostrophe(const char *p, const char *end) {
    if (*p == '\'') return 1;
    return end - p >= 3 && !memcmp(p, "\xe2\x80\x99", 3) ? 3 : 0;
}

/* Gives [start, stop) out and goes on at stop. */
static bool give(Span *left, Span *piece, const char *start, const char *stop) {
    *piece = (Span){start, (size_t)(stop - start)};
    left->n -= (size_t)(stop - left->p);
    left->p = stop;
    return stop > start;
}

bool word_next(Span *left, Span *word) {
    const char *p = left->p, *end = p + left->n, *after = p;
    int k = WORDS_OTHER;
    for (; p < end; p = after)
        if ((k = next_class(p, end, &after)) == WORDS_LETTER || k == WORDS_ALONE) break;
    const char *start = p;
    if (p < end && k == WORDS_ALONE) return give(left, word, start, after);
    while (p < end) {
        k = next_class(p, end, &after);
        if (k != WORDS_LETTER) {
            size_t a = p > start ? apostrophe(p, end) : 0;
            if (!a || p + a == end || next_class(p + a, end, &after) != WORDS_LETTER) break;
        }
        p = after;
    }
    return give(left, word, start, p);
}

bool token_next(Span *left, Span *token) {
    const char *p = left->p, *end = p + left->n, *after = p;
    while (p < end && next_class(p, end, &after) == WORDS_SPACE) p = after;
    const char *start = p;
    while (p < end && next_class(p, end, &after) != WORDS_SPACE) p = after;
    return give(left, token, start, p);
}

bool line_next(Span *left, Span *line) {
    if (!left->n) return false;
    const char *stop = memchr(left->p, '\n', left->n);
    size_t n = stop ? (size_t)(stop - left->p) : left->n, whole = n + (stop != NULL);
    *line = (Span){left->p, n};
    *left = (Span){left->p + whole, left->n - whole};
    return true;
}

Span span_trim(Span s) {
    const char *p = s.p, *end = p + s.n, *after = p;
    while (p < end && next_class(p, end, &after) == WORDS_SPACE) p = after;
    while (end > p) {
        const char *last = end - 1;
        while (last > p && end - last < 4 && ((unsigned char)*last & 0xc0) == 0x80) last--;
        if (next_class(last, end, &after) != WORDS_SPACE || after != end) break;
        end = last;
    }
    return (Span){p, (size_t)(end - p)};
}

bool paragraph_next(Span *left, Span *paragraph) {
    Span line;
    *paragraph = (Span){left->p, 0};
    while (line_next(left, &line)) {
        bool blank = !span_trim(line).n;
        if (blank && paragraph->n) return true;
        if (!blank && !paragraph->n) paragraph->p = line.p;
        if (!blank) paragraph->n = (size_t)(line.p + line.n - paragraph->p);
    }
    return paragraph->n > 0;
}

/* ---- hashes ---------------------------------------------------------------------------------------------- */

static uint64_t load_4(const unsigned char *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap32(x);
#endif
    return x;
}

/* n <= 8 bytes as a little-endian number; reads that overlap, because few words have the same length as the one before. */
static uint64_t load(const unsigned char *p, size_t n) {
    if (n >= 4) return load_4(p) | load_4(p + n - 4) << 8 * (n - 4);
    return n ? p[0] | (uint64_t)p[n / 2] << 8 * (n / 2) | (uint64_t)p[n - 1] << 8 * (n - 1) : 0;
}

/* Eight bytes at a time by hash_join, whose product mixes; the length makes "a" and "a\0" differ. */
uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed) {
    const unsigned char *p = bytes;
    uint64_t h = seed ^ hash_mix(n);
    for (; n >= 8; p += 8, n -= 8) h = hash_join(h, load(p, 8));
    return hash_mix(hash_join(h, load(p, n)));
}

uint64_t hash_word(Span word) {
    enum { AT_ONCE = 64 };
    char low[AT_ONCE + AT_ONCE / 2 + 4];
    uint64_t h = 0;
    const char *p = word.p, *end = p + word.n;
    do { /* long words are hashed in parts, each in lower case */
        size_t n = 0;
        while (p < end && n < AT_ONCE) {
            if ((unsigned char)*p < 0x80) { /* most are */
                low[n++] = (char)(*p + (*p >= 'A' && *p <= 'Z' ? 32 : 0));
                p++;
                continue;
            }
            uint32_t c = char_next(&p, end);
            n += char_put(low + n, c == 0x2019 ? '\'' : char_lower(c));
        }
        h = hash_bytes(low, n, h);
    } while (p < end);
    return h;
}
